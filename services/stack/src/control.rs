//! Commands to a stack that runs: one line of JSON each way, on a Unix socket in its state.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::external::Externals;
use crate::layout::Layout;
use crate::supervisor::{Status, Supervisor, Verb};

/// A peer that is silent for so long is given up.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// What everything is at.
    Status,
    /// Do something with one component.
    Ask {
        /// What.
        verb: Verb,
        /// With which.
        name: String,
    },
    /// Stop everything and exit.
    Down,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It was done, or was begun; this is how things are.
    Ok(Vec<Status>),
    /// It cannot be done.
    Error(String),
}

/// A command does not reach a stack, or is refused.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error(
        "no contrail is running on {}: start one with `make start` or `contrail up` (CONTRAIL_STATE \
         chooses another)", .0.display()
    )]
    NotRunning(PathBuf),
    /// The connection broke.
    #[error("contrail on {} does not answer: {source}", state.display())]
    Broken {
        /// Its state.
        state: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says no.
    #[error("{0}")]
    Refused(String),
}

/// The path of a socket as the system takes it: at most 107 bytes, and the state may lie deeper
/// than that, so it is named by way of its open directory.
struct ShortPath {
    path: PathBuf,
    _directory: File,
}

fn short(socket: &Path) -> io::Result<ShortPath> {
    let directory = File::open(socket.parent().unwrap_or(Path::new(".")))?;
    let name = socket.file_name().unwrap_or_default();
    Ok(ShortPath {
        path: Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name),
        _directory: directory,
    })
}

/// Takes commands until the process ends. `down` is set when someone asks to stop everything.
///
/// # Errors
/// The socket cannot be made.
pub fn serve(
    layout: &Layout,
    supervisor: Arc<Supervisor>,
    externals: &Externals,
    down: Arc<AtomicBool>,
) -> io::Result<()> {
    let socket = layout.socket();
    // Whoever left it there is gone: we hold the lock.
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(short(&socket)?.path)?;
    let externals = externals.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (supervisor, down) = (Arc::clone(&supervisor), Arc::clone(&down));
            let externals = externals.clone();
            std::thread::spawn(move || {
                // A peer that went away needs no answer.
                let _ = converse(&stream, &supervisor, &externals, &down);
            });
        }
    });
    Ok(())
}

fn converse(
    stream: &UnixStream,
    supervisor: &Supervisor,
    externals: &Externals,
    down: &AtomicBool,
) -> io::Result<()> {
    let statuses = || {
        let mut statuses = externals.statuses();
        statuses.extend(supervisor.statuses());
        statuses
    };
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer = match serde_json::from_str(&line) {
        Ok(Request::Status) => Answer::Ok(statuses()),
        Ok(Request::Down) => {
            down.store(true, Ordering::SeqCst);
            Answer::Ok(statuses())
        }
        Ok(Request::Ask { verb, name }) => match supervisor.ask(&name, verb) {
            Ok(()) => Answer::Ok(statuses()),
            Err(error) => Answer::Error(error.to_string()),
        },
        Err(error) => Answer::Error(format!("this is no command: {error}")),
    };
    let mut stream = stream;
    writeln!(stream, "{}", serde_json::to_string(&answer)?)
}

/// Sends a command to the stack of a state directory.
///
/// # Errors
/// See [`ControlError`].
pub fn send(layout: &Layout, request: &Request) -> Result<Vec<Status>, ControlError> {
    let not_running = || ControlError::NotRunning(layout.state.clone());
    let broken = |source| ControlError::Broken {
        state: layout.state.clone(),
        source,
    };
    let path = short(&layout.socket()).map_err(|_| not_running())?;
    let mut stream = UnixStream::connect(&path.path).map_err(|_| not_running())?;
    let mut exchange = || -> io::Result<Answer> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        writeln!(stream, "{}", serde_json::to_string(request)?)?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    };
    match exchange().map_err(broken)? {
        Answer::Ok(statuses) => Ok(statuses),
        Answer::Error(why) => Err(ControlError::Refused(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn layout(state: PathBuf) -> Layout {
        Layout::new(&Settings {
            state: Some(state),
            ..Settings::default()
        })
        .unwrap()
    }

    #[test]
    fn commands_reach_a_stack_whose_path_is_long() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("s".repeat(120));
        std::fs::create_dir(&state).unwrap();
        let layout = layout(state);
        assert!(matches!(
            send(&layout, &Request::Status),
            Err(ControlError::NotRunning(_))
        ));
        let supervisor = Arc::new(Supervisor::start(Vec::new(), Box::new(|_| {})));
        let down = Arc::new(AtomicBool::new(false));
        serve(
            &layout,
            supervisor,
            &Externals::default(),
            Arc::clone(&down),
        )
        .unwrap();
        assert_eq!(send(&layout, &Request::Status).unwrap(), []);
        let ask = Request::Ask {
            verb: Verb::Kill,
            name: "kafka".into(),
        };
        let message = send(&layout, &ask).unwrap_err().to_string();
        assert!(
            message.contains("kafka is not part of this stack"),
            "{message}"
        );
        assert!(!down.load(Ordering::SeqCst));
        send(&layout, &Request::Down).unwrap();
        assert!(down.load(Ordering::SeqCst));
    }
}
