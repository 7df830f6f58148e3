//! The stack as its user has it: `contrail up` in one terminal, commands in another.

#![allow(clippy::unwrap_used)]

mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contrail::component::Component::{self, Producer};
use contrail::http;
use contrail::ports::{self, FreeOffset};
use contrail::{Stack, Status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::{Value, json};
use whole::{TABLE, World, clean, eventually, now_ms, program, read_report, rows, turn, verify};

/// Time from the start to the line `ready`, on a machine that others use too.
const READY: Duration = Duration::from_secs(120);

/// A state, ports and settings, used by one `contrail up` after the other.
struct Home {
    directory: tempfile::TempDir,
    offset: FreeOffset,
}

impl Home {
    fn new(settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("contrail.toml"), settings).unwrap();
        Self {
            directory,
            offset: FreeOffset::pick().unwrap(),
        }
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn port(&self, component: Component) -> u16 {
        ports::port(component, self.offset.get())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("CONTRAIL_STATE", self.state())
            .env("CONTRAIL_PORT_OFFSET", self.offset.get().to_string())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// A command that must succeed; what it printed.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "contrail {arguments:?}: {} {error}",
            output.status
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn statuses(&self) -> Vec<Status> {
        serde_json::from_str(&self.ok(&["status", "--json"])).unwrap()
    }

    fn status(&self, component: Component) -> Status {
        self.statuses()
            .into_iter()
            .find(|s| s.name == component.name())
            .unwrap()
    }

    fn wait_all_ready(&self) {
        eventually(Duration::from_secs(60), "all is ready", || {
            self.statuses()
                .iter()
                .all(|status| status.state == contrail::State::Ready)
        });
    }

    fn assert_clean(&self) -> Value {
        let output = self.run(&["verify", "--sample", "all", "--wait", "60"]);
        let (code, report) = read_report(&output);
        clean(code, &report)
    }

    /// Processes of this stack, whoever their parents are now.
    fn processes(&self) -> BTreeSet<i32> {
        let mark = format!("CONTRAIL_STATE={}", self.state().display());
        let of_ours = |entry: std::fs::DirEntry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            // What has ended and was not waited for yet has no environment any more.
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            environment
                .split(|&byte| byte == 0)
                .any(|line| line == mark.as_bytes())
                .then_some(pid)
        };
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(of_ours)
            .collect()
    }
}

/// A running `contrail up`. Killed with its test, and everything with it.
struct Up {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Up {
    /// Starts it and waits for the line that says `ready`.
    fn start(home: &Home) -> Self {
        let begun = Instant::now();
        let mut child = home
            .command(&["up"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (theirs, out) = (Arc::clone(&lines), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                theirs.lock().unwrap().push(line);
            }
        });
        let mut up = Self { child, lines };
        eventually(READY, "a line says `ready`", || {
            let ended = up.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "contrail up ended: {ended:?} {}",
                up.text()
            );
            up.text().lines().any(|line| line.contains(" ready in "))
        });
        println!("ready after {:.1} s", begun.elapsed().as_secs_f64());
        up
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_stack_is_started_asked_broken_mended_and_stopped() {
    let _turn = turn();
    let home = Home::new("[producer.env]\nFLIGHT_PRODUCER_TOPICS__POSITIONS__PARTITIONS = \"4\"\n");
    let up = Up::start(&home);
    for component in Component::ALL {
        let url = format!("127.0.0.1:{}", home.port(component));
        eventually(Duration::from_secs(2), "the addresses are named", || {
            up.text().contains(&url)
        });
    }
    the_status(&home, &up);
    the_queries(&home);
    the_registry_and_the_topics(&home);
    the_account(&home);
    for component in Component::ALL {
        stop_start_kill_restart(&home, component);
    }
    home.wait_all_ready();
    the_account(&home);
    interrupted(&home, up);

    // The same state again: it goes on from there, and nothing survives its killing.
    let before = contrail_killed(&home);
    let up = Up::start(&home);
    let after = home.assert_clean();
    assert_eq!(after["origin"], before["origin"]);
    assert!(after["checkpoint"].as_i64() > before["checkpoint"].as_i64());
    interrupted(&home, up);
}

/// The account is clean, and goes on from where it was.
fn the_account(home: &Home) -> Value {
    let begun = Instant::now();
    let source = home.assert_clean();
    assert!(source["expected"].as_i64().unwrap() > 0);
    assert_eq!(source["partitions"].as_array().unwrap().len(), 4);
    println!("verify took {:.1} s", begun.elapsed().as_secs_f64());
    source
}

fn the_status(home: &Home, up: &Up) {
    let list: Value = serde_json::from_str(&home.ok(&["status", "--json"])).unwrap();
    let list = list.as_array().unwrap();
    let names: Vec<_> = list
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, Component::ALL.map(Component::name));
    for (entry, component) in list.iter().zip(Component::ALL) {
        assert_eq!(entry["state"], "ready", "{entry}");
        assert_eq!(entry["restarts"], 0, "{entry}");
        assert_eq!(entry["port"], home.port(component), "{entry}");
        let pid = entry["pid"].as_i64().unwrap();
        assert!(home.processes().contains(&(pid as i32)), "{entry}");
        let since = entry["since"].as_str().unwrap();
        assert!(since.starts_with("20") && since.ends_with('Z'), "{since}");
    }
    assert_eq!(
        home.processes().len(),
        7,
        "six components and contrail {}",
        up.pid()
    );
    let table = home.ok(&["status"]);
    assert_eq!(table.lines().count(), 7, "{table}");
    assert!(home.ok(&["logs", "kafka", "-n", "5"]).lines().count() == 5);
}

/// All questions: each is answered with the values that it shows, and has a fast variant if it is one of
/// the README's.
fn the_queries(home: &Home) {
    let listed = home.ok(&["query"]);
    let names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(names.len(), 14, "{listed}");
    let fast = |name: &str| {
        let line = listed.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1) == Some("fast")
    };
    assert_eq!(
        names.iter().filter(|name| fast(name)).count(),
        8,
        "{listed}"
    );
    // Those that ask for one aircraft or one small area may find nothing.
    let always = [
        "altitude_by_hour",
        "busiest_airspaces",
        "flights_by_hour",
        "popular_routes",
        "seasonal_pattern",
    ];
    assert!(always.iter().all(|name| names.contains(name)), "{listed}");
    for name in names {
        let answer: Value =
            serde_json::from_str(&home.ok(&["query", name, "--format", "JSON"])).unwrap();
        let found = answer["rows"].as_i64().unwrap();
        assert!(!answer["meta"].as_array().unwrap().is_empty(), "{name}");
        assert!(found > 0 || !always.contains(&name), "{name}: {answer}");
        if fast(name) {
            home.ok(&["query", name, "--fast"]);
        }
    }
    let refused = home.run(&["query", "flights_near", "-p", "place=Dubai"]);
    assert!(!refused.status.success());
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains("no parameter place"), "{message}");
    let output = home.run(&["query", "no_such_query"]);
    assert!(!output.status.success() && output.stdout.is_empty());
}

fn the_registry_and_the_topics(home: &Home) {
    let port = home.port(Component::Registry);
    let ask = |path: &str| -> Value {
        let path = format!("{}{path}", contrail::components::REGISTRY_BASE_PATH);
        let answer = http::get(port, &path, Duration::from_secs(5))
            .unwrap()
            .success()
            .unwrap();
        serde_json::from_str(&answer).unwrap()
    };
    assert_eq!(ask("/subjects"), json!(["flight.positions-value"]));
    assert_eq!(
        ask("/config/flight.positions-value"),
        json!({"compatibilityLevel": "BACKWARD"})
    );
    assert_eq!(ask("/subjects/flight.positions-value/versions"), json!([1]));

    let consumer: BaseConsumer = ClientConfig::new()
        .set(
            "bootstrap.servers",
            format!("127.0.0.1:{}", home.port(Component::Kafka)),
        )
        .create()
        .unwrap();
    let metadata = consumer
        .fetch_metadata(None, Duration::from_secs(10))
        .unwrap();
    let partitions: BTreeMap<&str, usize> = metadata
        .topics()
        .iter()
        .map(|topic| (topic.name(), topic.partitions().len()))
        .collect();
    assert_eq!(partitions["flight.positions"], 4, "{partitions:?}");
    assert_eq!(partitions["flight.positions.dlq"], 6, "{partitions:?}");
    assert_eq!(partitions["flight.source-checkpoints"], 1, "{partitions:?}");
}

fn stop_start_kill_restart(home: &Home, component: Component) {
    let begun = Instant::now();
    let name = component.name();
    let first = home.status(component);

    home.ok(&["stop", name]);
    let stopped = home.status(component);
    assert_eq!(
        (stopped.pid, stopped.state),
        (None, contrail::State::Stopped),
        "{stopped:?}"
    );
    home.ok(&["start", name]);
    let started = home.status(component);
    assert!(
        started.pid.is_some() && started.pid != first.pid,
        "{started:?}"
    );
    assert_eq!(
        started.restarts, first.restarts,
        "a wanted stop is no death"
    );

    home.ok(&["kill", name]);
    eventually(Duration::from_secs(60), "it is ready again", || {
        let status = home.status(component);
        status.state == contrail::State::Ready && status.pid != started.pid
    });
    assert_eq!(home.status(component).restarts, first.restarts + 1);

    let before = home.status(component);
    home.ok(&["restart", name]);
    assert_ne!(home.status(component).pid, before.pid);
    println!(
        "{name} stopped, started, killed, restarted in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
}

fn interrupted(home: &Home, mut up: Up) {
    let begun = Instant::now();
    kill(up.pid(), Signal::SIGINT).unwrap();
    let status = up.child.wait().unwrap();
    let took = begun.elapsed();
    println!("stopped after {:.1} s", took.as_secs_f64());
    assert!(status.success(), "{status}: {}", up.text());
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(home.processes(), BTreeSet::new());
    for component in Component::ALL {
        assert_eq!(ports::owner(home.port(component)), None);
    }
    let output = home.run(&["status"]);
    assert!(!output.status.success());
}

/// Kills `contrail` itself under load. Returns the account of just before.
fn contrail_killed(home: &Home) -> Value {
    let mut up = Up::start(home);
    let account = the_account(home);
    assert_eq!(home.processes().len(), 7);
    kill(up.pid(), Signal::SIGKILL).unwrap();
    assert_eq!(up.child.wait().unwrap().signal(), Some(9));
    let begun = Instant::now();
    eventually(Duration::from_secs(5), "nothing is left running", || {
        home.processes().is_empty()
    });
    println!(
        "nothing left {:.2} s after kill -9",
        begun.elapsed().as_secs_f64()
    );
    account
}

/// Twenty thousand events a second, for as long as it takes to see how late they are.
#[test]
fn twenty_thousand_events_a_second_arrive_whole() {
    const RATE: u32 = 20_000;
    let _turn = turn();
    let world = World::begun(Duration::from_secs(1), RATE, 1000);
    let stack = world
        .settle(Stack::builder().free_ports().temporary_state())
        .start()
        .unwrap();
    eventually(Duration::from_secs(30), "rows flow", || {
        rows(&stack) > u64::from(3 * RATE)
    });

    // Events by their timestamp, at each look: what was not there at the last look came since.
    let mut known: BTreeMap<i64, u64> = BTreeMap::new();
    let mut late: Vec<(i64, u64)> = Vec::new();
    let begun = Instant::now();
    let first = now_ms();
    while begun.elapsed() < Duration::from_secs(15) {
        let answer = whole::sql(
            &stack,
            &format!(
                "SELECT toUnixTimestamp64Milli(timestamp) AS t, count() FROM {TABLE} \
                 WHERE timestamp >= fromUnixTimestamp64Milli({}, 'UTC') GROUP BY t",
                first.max(now_ms() - 10_000)
            ),
        );
        let now = now_ms();
        for line in answer.lines() {
            let (t, count) = line.split_once('\t').unwrap();
            let (t, count): (i64, u64) = (t.parse().unwrap(), count.parse().unwrap());
            let before = known.insert(t, count).unwrap_or(0);
            if count > before {
                late.push((now - t, count - before));
            }
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    let total: u64 = late.iter().map(|(_, count)| count).sum();
    late.sort_unstable();
    let quantile = |q: f64| {
        let wanted = (total as f64 * q) as u64;
        let mut sum = 0;
        late.iter().find(|(_, count)| {
            sum += count;
            sum > wanted
        })
    };
    println!(
        "{:.0} events/s; from timestamp to queryable: p50 {} ms, p99 {} ms, most {} ms",
        total as f64 / begun.elapsed().as_secs_f64(),
        quantile(0.5).unwrap().0,
        quantile(0.99).unwrap().0,
        late.last().unwrap().0
    );
    for component in Component::ALL {
        let pid = stack.pid(component).unwrap();
        println!("{component}: peak {} MB", whole::peak_rss_mb(pid));
    }
    stack.stop(Producer).unwrap();
    let (code, report) = verify(&stack, &["--sample", "all", "--wait", "60"]);
    let source = clean(code, &report);
    assert!(source["expected"].as_u64().unwrap() > 10 * u64::from(RATE));
    stack.shut_down();
}
