//! What the tests of the command line share: a state of their own, stand-ins for the services,
//! and a `contrail` that is killed with its test.

#![allow(dead_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use contrail::ports::FreeOffset;

/// A directory for state, programs and parts, and ports of its own.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub offset: FreeOffset,
}

impl Bench {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            offset: FreeOffset::pick().unwrap(),
        }
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn binaries(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.binaries().join(name);
        std::fs::create_dir_all(self.binaries()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Stand-ins for the simulator and the producer: this test's own program, which answers that
    /// it is ready.
    pub fn stand_ins(&self) {
        let this = std::env::current_exe().unwrap();
        for (name, listen) in [
            ("flight-mock", "FLIGHT_MOCK_LISTEN"),
            ("flight-producer", "FLIGHT_PRODUCER_LISTEN"),
        ] {
            self.script(
                name,
                &format!(
                    "STAND_IN_LISTEN=\"${listen}\" exec '{}' --exact stand_in --nocapture",
                    this.display()
                ),
            );
        }
    }

    pub fn contrail(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_contrail"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("CONTRAIL_STATE", self.state())
            .env("CONTRAIL_BINARIES", self.binaries())
            .env("CONTRAIL_PORT_OFFSET", self.offset.get().to_string())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.contrail(arguments).output().unwrap()
    }

    /// Starts `contrail up` and waits until it says that it is ready.
    pub fn up(&self, arguments: &[&str]) -> Up {
        let screen = self.dir.path().join("screen");
        let mut command = self.contrail(&["up"]);
        command
            .args(arguments)
            .stdout(File::create(&screen).unwrap())
            .stderr(File::create(self.dir.path().join("errors")).unwrap());
        let up = Up {
            child: command.spawn().unwrap(),
            screen,
        };
        eventually("contrail up is ready", || {
            up.screen().contains(" ready in ")
        });
        up
    }
}

/// A `contrail up` that runs.
pub struct Up {
    pub child: Child,
    screen: PathBuf,
}

impl Up {
    pub fn screen(&self) -> String {
        std::fs::read_to_string(&self.screen).unwrap()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether a process exists and is not only waiting to be reaped.
pub fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .starts_with(" Z")
    })
}

/// Answers every request with 200 until it is killed, if it was started as a stand-in.
pub fn serve_as_stand_in() {
    let Ok(address) = std::env::var("STAND_IN_LISTEN") else {
        return;
    };
    let listener = TcpListener::bind(address).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nready");
    }
}

/// Copies a directory with what is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
