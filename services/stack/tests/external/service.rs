//! A service as a process, with the settings that a test gives it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use contrail::http;
use serde::Serialize;
use tempfile::TempDir;

/// How long a service may take to notice what is wrong, or that nothing is any more.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Service {
    child: Child,
    port: u16,
    directory: TempDir,
}

impl Service {
    pub fn start(program: &Path, settings: &impl Serialize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = super::servers::free_port();
        let mut table = toml::Table::try_from(settings).unwrap();
        table.insert("listen".into(), format!("127.0.0.1:{port}").into());
        let config = directory.path().join("settings.toml");
        std::fs::write(&config, toml::to_string(&table).unwrap()).unwrap();
        let log = File::create(log(&directory)).unwrap();
        let child = Command::new(program)
            .arg("--config")
            .arg(&config)
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
        std::fs::read_to_string(log(&self.directory)).unwrap()
    }

    /// What /readyz says: whether it is ready, and what is not.
    pub fn readiness(&self) -> (bool, String) {
        match http::get(self.port, "/readyz", Duration::from_secs(2)) {
            Ok(answer) => (answer.status == 200, answer.body),
            Err(error) => (false, error.to_string()),
        }
    }

    fn wait(&self, what: &str, is_so: impl Fn(bool, &str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (ready, why) = self.readiness();
            if is_so(ready, &why) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not within {PATIENCE:?}: {what}; ready: {ready}, {why}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it is not ready and says this.
    pub fn wait_until_it_says(&self, reason: &str) {
        self.wait(reason, |ready, why| !ready && why.contains(reason));
    }

    pub fn wait_until_ready(&self) {
        self.wait("ready", |ready, _| ready);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log(directory: &TempDir) -> PathBuf {
    directory.path().join("log")
}
