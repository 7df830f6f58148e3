//! flight-ingester as a process.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use contrail::http::Request;
use flight_ingester::settings::Settings;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{eventually, free_port};

pub struct Ingester {
    child: Child,
    port: u16,
    directory: TempDir,
}

/// Writes settings where the program reads them, and gives it to run with them.
pub fn program(settings: &Settings, directory: &TempDir) -> Command {
    let config = directory.path().join("ingester.toml");
    std::fs::write(&config, toml::to_string(settings).unwrap()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_flight-ingester"));
    command.arg("--config").arg(config);
    command
}

impl Ingester {
    /// Starts the program on a port of its own.
    pub fn start(settings: &Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let settings = Settings {
            listen: format!("127.0.0.1:{port}"),
            ..settings.clone()
        };
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = program(&settings, &directory);
        // SAFETY: between fork and exec nothing but a system call is made.
        unsafe {
            // With the test, however it ends.
            command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?));
        }
        let child = command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            child,
            port,
            directory,
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        let request = Request {
            method: "GET",
            port: self.port,
            path,
            headers: &[],
            body: "",
            timeout: Duration::from_secs(2),
        };
        let answer = request.send().ok()?;
        Some((answer.status, answer.body))
    }

    /// What /readyz says.
    pub fn readiness(&self) -> (u16, String) {
        self.get("/readyz").unwrap_or_default()
    }

    pub fn wait_until_ready(&self) {
        self.wait_for("ready", |ingester| ingester.readiness().0 == 200);
    }

    /// Waits until it says that it is not ready, for this reason.
    pub fn wait_until_unready(&self, reason: &str) {
        self.wait_for(reason, |ingester| {
            let (status, why) = ingester.readiness();
            status == 503 && why.contains(reason)
        });
    }

    pub fn wait_for(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let limit = Duration::from_secs(60);
        let began = Instant::now();
        while !holds(self) {
            assert!(
                began.elapsed() < limit,
                "not within {limit:?}: {what}; {:?}",
                self.readiness(),
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn lines(&self, name: &str) -> Vec<(String, f64)> {
        let mut text = None;
        // No answer is no zero.
        eventually("metrics are given", Duration::from_secs(30), || {
            text = self.get("/metrics").map(|(_, text)| text);
            text.is_some()
        });
        let text = text.unwrap();
        text.lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect()
    }

    /// A metric by its whole name; the sum over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let is_it = |found: &str| found == name || found.starts_with(&format!("{name}{{"));
        let lines = self.lines(name);
        let values = lines.iter().filter(|(found, _)| is_it(found));
        values.map(|(_, value)| value).sum()
    }

    /// A counter of this service.
    pub fn counted(&self, name: &str) -> u64 {
        self.metric(&format!("flight_ingester_{name}_total")) as u64
    }

    pub fn partitions(&self) -> u64 {
        self.metric("flight_ingester_partitions_assigned") as u64
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and an orderly end.
    pub fn stop(mut self) {
        let began = Instant::now();
        self.signal(Signal::SIGTERM);
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{status}");
        assert!(began.elapsed() < Duration::from_secs(12), "a slow end");
    }

    /// The exit code of a process that ends by itself, and its log.
    pub fn wait_for_exit(mut self, limit: Duration) -> (Option<i32>, String) {
        let mut status = None;
        eventually("the ingester exits", limit, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        (status.unwrap().code(), self.log())
    }
}

impl Drop for Ingester {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(60)..].join("\n");
            eprintln!("--- log of an ingester\n{tail}");
        }
    }
}
