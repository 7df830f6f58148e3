//! The supervisor with real, small processes.

use super::*;
use process::Program;
use std::sync::Mutex;

fn shell(name: &str, script: &str, dir: &std::path::Path) -> Service {
    let program = Program::new("/bin/sh").arg("-c").arg(script);
    Service {
        name: name.into(),
        port: None,
        dependencies: Vec::new(),
        dormant: false,
        launch: Box::new(move || {
            Ok(Launch {
                before: None,
                program: program.clone(),
            })
        }),
        probe: Arc::new(|| Ok(())),
        log: dir.join(format!("{name}.log")),
        grace: Duration::from_millis(300),
    }
}

type Seen = Arc<Mutex<Vec<String>>>;

fn observer() -> (Observer, Seen) {
    let seen = Seen::default();
    let theirs = Arc::clone(&seen);
    let observer = Box::new(move |notice: &Notice| {
        let word = notice.text.split(' ').next().unwrap_or_default();
        lock(&theirs).push(format!("{} {word}", notice.name));
    });
    (observer, seen)
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .starts_with(" Z")
    })
}

#[test]
fn what_dies_is_started_again_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (observer, _) = observer();
    let supervisor = Supervisor::start(vec![shell("a", "sleep 1000", dir.path())], observer);
    let state = || supervisor.status("a").unwrap();
    eventually("ready", || state().state == State::Ready);
    let first = state().pid.unwrap();
    supervisor.ask("a", Verb::Kill).unwrap();
    eventually("again", || {
        state().state == State::Ready && state().pid != Some(first)
    });
    assert_eq!(state().restarts, 1);
    assert!(supervisor.ask("b", Verb::Kill).is_err());
}

#[test]
fn what_ends_by_itself_is_shown_with_its_exit_code_and_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let (observer, _) = observer();
    let mut service = shell("a", "echo going; exit 3", dir.path());
    service.probe = Arc::new(|| Err("nobody there".into()));
    let supervisor = Supervisor::start(vec![service], observer);
    let state = || supervisor.status("a").unwrap();
    eventually("dies", || state().restarts >= 2);
    eventually("pauses", || state().state == State::Restarting);
    assert_eq!(state().detail, "ended with exit code 3");
    let log = std::fs::read_to_string(dir.path().join("a.log")).unwrap();
    assert!(log.starts_with("going\n"), "{log}");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (observer, _) = observer();
    let mut service = shell("a", "", dir.path());
    service.launch = Box::new(|| {
        Ok(Launch {
            before: None,
            program: Program::new("/nowhere/flight-mock"),
        })
    });
    let supervisor = Supervisor::start(vec![service], observer);
    eventually("named", || {
        let detail = supervisor.status("a").unwrap().detail;
        detail.starts_with("cannot start /nowhere/flight-mock")
    });
}

#[test]
fn order_of_health_when_starting_and_its_reverse_when_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let (observer, seen) = observer();
    let gate = dir.path().join("gate");
    let mut first = shell("first", "sleep 1000", dir.path());
    let path = gate.clone();
    first.probe = Arc::new(move || match path.exists() {
        true => Ok(()),
        false => Err("closed".into()),
    });
    let mut second = shell("second", "sleep 1000", dir.path());
    second.dependencies = vec!["first".into()];
    let supervisor = Supervisor::start(vec![second, first], observer);
    eventually("closed", || {
        supervisor.status("first").unwrap().detail == "closed"
    });
    assert_eq!(supervisor.status("second").unwrap().state, State::Waiting);
    std::fs::write(&gate, "").unwrap();
    eventually("both", || {
        supervisor.status("second").unwrap().state == State::Ready
    });
    let pids: Vec<u32> = supervisor.statuses().iter().filter_map(|s| s.pid).collect();
    supervisor.shut_down(Duration::from_secs(5));
    eventually("stopped", || supervisor.is_stopped());
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
    let seen = lock(&seen).clone();
    assert_eq!(
        seen,
        [
            "first starting",
            "first ready",
            "second starting",
            "second ready",
            "second stopping",
            "second stopped",
            "first stopping",
            "first stopped"
        ]
    );
}

#[test]
fn one_that_ignores_sigterm_is_killed_at_its_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let (observer, _) = observer();
    let script = "trap '' TERM; while true; do sleep 0.05; done";
    let supervisor = Supervisor::start(vec![shell("deaf", script, dir.path())], observer);
    eventually("ready", || {
        supervisor.status("deaf").unwrap().state == State::Ready
    });
    // The shell needs a moment to set its trap.
    std::thread::sleep(Duration::from_millis(200));
    let asked = Instant::now();
    supervisor.shut_down(Duration::from_secs(5));
    eventually("stopped", || supervisor.is_stopped());
    assert!(asked.elapsed() >= Duration::from_millis(300));
}

#[test]
fn one_that_hangs_is_stopped_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (observer, _) = observer();
    let mut service = shell("hung", "sleep 1000", dir.path());
    service.grace = Duration::from_secs(60);
    let supervisor = Supervisor::start(vec![service], observer);
    eventually("ready", || {
        supervisor.status("hung").unwrap().state == State::Ready
    });
    supervisor.ask("hung", Verb::Pause).unwrap();
    supervisor.ask("hung", Verb::Stop).unwrap();
    eventually("stopped", || supervisor.is_stopped());
}

#[test]
fn preparing_comes_first_and_its_failure_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (observer, _) = observer();
    let with_before = |name: &str, script: &str| {
        let mut service = shell(name, "", dir.path());
        let launch = Launch {
            before: Some(Program::new("/bin/sh").arg("-c").arg(script)),
            program: Program::new("/bin/sh")
                .arg("-c")
                .arg("echo main; sleep 1000"),
        };
        service.launch = Box::new(move || Ok(launch.clone()));
        service
    };
    let good = with_before("good", "echo before");
    let bad = with_before("bad", "exit 4");
    let supervisor = Supervisor::start(vec![good, bad], observer);
    let log = || std::fs::read_to_string(dir.path().join("good.log")).unwrap_or_default();
    eventually("both programs", || log() == "before\nmain\n");
    eventually("told", || {
        supervisor.status("bad").unwrap().detail == "preparing it ended with exit code 4"
    });
    assert!(
        !dir.path()
            .join("bad.log")
            .metadata()
            .is_ok_and(|m| m.len() > 0)
    );
}

#[test]
fn dropping_it_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let (observer, _) = observer();
    let supervisor = Supervisor::start(vec![shell("a", "sleep 1000", dir.path())], observer);
    eventually("ready", || {
        supervisor.status("a").unwrap().state == State::Ready
    });
    let pid = supervisor.status("a").unwrap().pid.unwrap();
    drop(supervisor);
    assert!(!is_alive(pid));
}
