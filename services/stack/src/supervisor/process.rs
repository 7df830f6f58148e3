//! Child processes that cannot outlive their supervisor.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getppid, setsid};

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// Run to its end before the program itself, when there is something to prepare.
    pub before: Option<Program>,
    /// The program.
    pub program: Program,
}

/// One program with its arguments.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// Its file.
    pub file: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Environment variables, on top of those of the supervisor.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub directory: Option<PathBuf>,
}

impl Program {
    /// A program without arguments.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            ..Self::default()
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// Starts a program, its output appended to a log.
///
/// It gets a session of its own, so that Ctrl-C on the terminal reaches only the supervisor, and
/// is killed by the kernel as soon as the *thread* that called this ends, however it ends: call it
/// from a thread that lives as long as the supervisor.
///
/// # Errors
/// The program cannot be started.
pub fn spawn(program: &Program, log: &File) -> io::Result<Child> {
    let mut command = Command::new(&program.file);
    command
        .args(&program.arguments)
        .envs(program.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?);
    if let Some(directory) = &program.directory {
        command.current_dir(directory);
    }
    let supervisor = Pid::this();
    // SAFETY: between fork and exec only system calls are made, none of which allocates.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The supervisor may have died before the line above; then nobody will tell us.
            if getppid() != supervisor {
                return Err(io::Error::from_raw_os_error(nix::libc::ESRCH));
            }
            Ok(())
        });
    }
    command.spawn()
}

/// Sends a signal to a process that `spawn` started, and to whatever it started itself.
pub fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().cast_signed());
    // It leads its session and so its group. A process that has just ended is no error.
    if killpg(pid, signal).is_err() {
        let _ = kill(pid, signal);
    }
    if signal == Signal::SIGTERM {
        // One that is held by SIGSTOP would not see it.
        let _ = killpg(pid, Signal::SIGCONT);
    }
}

/// How a process ended, in words.
pub fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(name) => format!("killed by {name}"),
            Err(_) => format!("killed by signal {number}"),
        },
        (None, None) => status.to_string(),
    }
}
