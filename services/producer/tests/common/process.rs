//! flight-producer as a process.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use flight_producer::Settings;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::{eventually, free_port};

pub struct Producer {
    child: Child,
    address: String,
    directory: TempDir,
}

/// Gives the program to run with settings; they lie in the directory.
fn program(settings: &Settings, directory: &TempDir) -> Command {
    let config = directory.path().join("producer.toml");
    std::fs::write(&config, toml::to_string(settings).unwrap()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_flight-producer"));
    command.arg("--config").arg(&config);
    command
}

/// Runs a command of the program to its end: exit code, what it says, and what it says is wrong.
pub fn run(settings: &Settings, arguments: &[&str]) -> (Option<i32>, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let output = program(settings, &directory)
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

impl Producer {
    /// Starts the program with settings, on a port of its own.
    pub fn start(settings: &Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            listen: format!("127.0.0.1:{}", free_port()),
            ..settings.clone()
        };
        let log = File::create(directory.path().join("log")).unwrap();
        let child = program(&settings, &directory)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            child,
            address: settings.listen,
            directory,
        }
    }

    pub fn log(&self) -> String {
        let path: PathBuf = self.directory.path().join("log");
        std::fs::read_to_string(path).unwrap()
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        let url = format!("http://{}{path}", self.address);
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let answer = reqwest::get(url).await.ok()?;
                Some((answer.status().as_u16(), answer.text().await.ok()?))
            })
        })
    }

    /// Asks with the method, as the bearer of a token: status and answer.
    pub fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> (u16, Value) {
        let url = format!("http://{}{path}", self.address);
        let asked = async {
            let answer = reqwest::Client::new()
                .request(method.parse().unwrap(), url)
                .bearer_auth(token)
                .header("content-type", "application/json")
                .body(body.to_owned())
                .send()
                .await
                .unwrap();
            (answer.status().as_u16(), answer.json().await.unwrap())
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(asked))
    }

    /// What /readyz says.
    pub fn readiness(&self) -> (u16, String) {
        self.get("/readyz").unwrap_or_default()
    }

    pub fn wait_until_ready(&self) {
        let limit = Duration::from_secs(40);
        let began = Instant::now();
        while self.readiness().0 != 200 {
            assert!(
                began.elapsed() < limit,
                "not ready: {:?}\n{}",
                self.readiness(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A metric by its name without prefix, and labels as they stand in the text.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics").unwrap_or_default();
        text.lines()
            .find_map(|line| {
                line.strip_prefix("flight_producer_")?
                    .strip_prefix(name)?
                    .strip_prefix(' ')
            })
            .map_or(0.0, |value| value.parse().unwrap())
    }

    pub fn wait_until_committed(&self, next: i64) {
        let what = format!("offset {next} is committed");
        let began = Instant::now();
        while self.metric("source_checkpoint_offset") < next as f64 {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "not within 60 s: {what}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; the exit code, and how long it took.
    pub fn stop(mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        self.signal(Signal::SIGTERM);
        let status = self.child.wait().unwrap();
        (status.code(), began.elapsed())
    }

    /// The exit code of a process that ends by itself, and its log.
    pub fn wait_for_exit(mut self, limit: Duration) -> (Option<i32>, String) {
        let mut status = None;
        eventually("the producer exits", limit, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        (status.unwrap().code(), self.log())
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the producer\n{}", self.log());
        }
    }
}
