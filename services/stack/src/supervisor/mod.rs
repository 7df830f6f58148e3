//! Starts processes in order of health, restarts what dies, stops them in reverse order.
//!
//! One thread owns all the processes: it starts them, waits for them and drives one
//! [`machine::Machine`] for each. Health probes have threads of their own, so that one that hangs
//! holds nobody up. The supervisor knows nothing of Kafka or flights; see `components` for those.

pub mod log;
pub mod machine;
mod prober;
pub mod process;

use std::path::PathBuf;
use std::process::Child;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::clock;
use machine::{Action, Machine, State};
use prober::Prober;
use process::Launch;

/// How long the supervisor's thread sleeps when nobody asks for anything.
const TICK: Duration = Duration::from_millis(50);
/// Time between two looks at the sizes of the logs.
const ROTATE_EVERY: Duration = Duration::from_secs(1);
/// Open files that each process may have, if the system allows it: Kafka and the engine need many.
const OPEN_FILES: u64 = 65_536;

/// Asks a process whether it can do its work; the error says why not. Must return within seconds.
pub type Probe = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// One process to look after.
pub struct Service {
    /// Its name.
    pub name: String,
    /// Where it serves, for the status.
    pub port: Option<u16>,
    /// Names of those that must be ready before its first start, and that are stopped after it.
    pub dependencies: Vec<String>,
    /// Whether it waits to be asked for: it is not started with the others, and not shown until then.
    pub dormant: bool,
    /// Writes its files and says what to run; called before each start.
    pub launch: Box<dyn Fn() -> Result<Launch, String> + Send>,
    /// Its health.
    pub probe: Probe,
    /// Where its output goes.
    pub log: PathBuf,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
}

/// What is known of a process, as `contrail status --json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its process id while it runs.
    pub pid: Option<u32>,
    /// What it is at.
    pub state: State,
    /// Since when, as RFC 3339 in UTC.
    pub since: String,
    /// How often it was started again after it died.
    pub restarts: u32,
    /// Where it serves.
    pub port: Option<u16>,
    /// Why it is where it is; empty when there is no more to say.
    pub detail: String,
}

/// A change worth a line on the screen.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Whose.
    pub name: String,
    /// What happened.
    pub text: String,
}

/// Who is told of changes.
pub type Observer = Box<dyn Fn(&Notice) + Send>;

/// What can be asked for one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Start it, now.
    Start,
    /// SIGTERM, then SIGKILL; it stays down.
    Stop,
    /// Stop, then start.
    Restart,
    /// SIGKILL; it is started again as after any death.
    Kill,
    /// SIGSTOP: it hangs.
    Pause,
    /// SIGCONT: it goes on.
    Resume,
}

/// A name that the supervisor does not look after.
#[derive(Debug, thiserror::Error)]
#[error("{name} is not part of this stack, which runs {known}")]
pub struct NotSupervised {
    name: String,
    known: String,
}

enum Message {
    Ask(usize, Verb),
    Probed(usize, u32, Result<(), String>),
    ShutDown(Duration),
    KillAll,
}

/// The supervisor. When it is dropped, all its processes are killed.
pub struct Supervisor {
    names: Vec<String>,
    messages: Option<Sender<Message>>,
    statuses: Arc<Mutex<Vec<Status>>>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Starts the services, each as soon as its dependencies are ready.
    pub fn start(services: Vec<Service>, observer: Observer) -> Self {
        raise_open_files();
        let (messages, inbox) = mpsc::channel();
        let names: Vec<String> = services
            .iter()
            .map(|service| service.name.clone())
            .collect();
        let mut slots: Vec<Slot> = services
            .into_iter()
            .enumerate()
            .map(|(index, service)| Slot::new(index, service, &names, &messages))
            .collect();
        let statuses = Arc::new(Mutex::new(shown(&slots)));
        for slot in slots.iter_mut().filter(|slot| !slot.service.dormant) {
            slot.machine.want_in_order();
        }
        let run = Run {
            slots,
            inbox,
            statuses: Arc::clone(&statuses),
            observer,
            shutdown: None,
            rotated: Instant::now(),
        };
        let thread = std::thread::spawn(move || run.run());
        Self {
            names,
            messages: Some(messages),
            statuses,
            thread: Some(thread),
        }
    }

    /// What each process is at.
    pub fn statuses(&self) -> Vec<Status> {
        lock(&self.statuses).clone()
    }

    /// What one process is at.
    ///
    /// # Errors
    /// It is not looked after.
    pub fn status(&self, name: &str) -> Result<Status, NotSupervised> {
        let index = self.index(name)?;
        // One that sleeps is not shown, and is as good as stopped.
        let shown = lock(&self.statuses);
        let found = shown.iter().find(|status| status.name == name).cloned();
        Ok(found.unwrap_or_else(|| Status {
            name: self.names[index].clone(),
            pid: None,
            state: State::Stopped,
            since: clock::rfc3339(SystemTime::now()),
            restarts: 0,
            port: None,
            detail: String::new(),
        }))
    }

    /// Asks for something to be done with a process. Returns before it is done.
    ///
    /// # Errors
    /// It is not looked after.
    pub fn ask(&self, name: &str, verb: Verb) -> Result<(), NotSupervised> {
        let index = self.index(name)?;
        self.send(Message::Ask(index, verb));
        Ok(())
    }

    /// Stops everything, dependants first; what has not ended within `limit` is killed. Returns
    /// before it is done.
    pub fn shut_down(&self, limit: Duration) {
        self.send(Message::ShutDown(limit));
    }

    /// Kills everything, now.
    pub fn kill_all(&self) {
        self.send(Message::KillAll);
    }

    /// Whether nothing runs and nothing is to be started.
    pub fn is_stopped(&self) -> bool {
        lock(&self.statuses)
            .iter()
            .all(|status| status.state == State::Stopped)
    }

    fn index(&self, name: &str) -> Result<usize, NotSupervised> {
        self.names
            .iter()
            .position(|known| known == name)
            .ok_or_else(|| NotSupervised {
                name: name.to_owned(),
                known: self.names.join(", "),
            })
    }

    fn send(&self, message: Message) {
        if let Some(messages) = &self.messages {
            // It only fails when the thread is gone, and all processes with it.
            let _ = messages.send(message);
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.send(Message::KillAll);
        self.messages = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shown(slots: &[Slot]) -> Vec<Status> {
    slots
        .iter()
        .filter(|slot| !slot.service.dormant)
        .map(Slot::status)
        .collect()
}

fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = hard.min(OPEN_FILES);
        if soft < wanted {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
        }
    }
}

/// One process and all that is known of it.
struct Slot {
    service: Service,
    dependencies: Vec<usize>,
    machine: Machine,
    child: Option<Child>,
    /// What to start when the preparing program has ended well.
    then: Option<process::Program>,
    prober: Prober,
    shown: State,
    since: SystemTime,
    spawned: Instant,
}

impl Slot {
    fn new(index: usize, service: Service, names: &[String], messages: &Sender<Message>) -> Self {
        let dependencies = service
            .dependencies
            .iter()
            .filter_map(|dependency| names.iter().position(|name| name == dependency))
            .collect();
        let messages = messages.clone();
        let prober = Prober::start(Arc::clone(&service.probe), move |pid, result| {
            messages.send(Message::Probed(index, pid, result)).is_ok()
        });
        Self {
            dependencies,
            machine: Machine::new(service.grace),
            service,
            child: None,
            then: None,
            prober,
            shown: State::Stopped,
            since: SystemTime::now(),
            spawned: Instant::now(),
        }
    }

    fn status(&self) -> Status {
        Status {
            name: self.service.name.clone(),
            pid: self.child.as_ref().map(Child::id),
            state: self.machine.state(),
            since: clock::rfc3339(self.since),
            restarts: self.machine.restarts(),
            port: self.service.port,
            detail: self.machine.detail().to_owned(),
        }
    }

    fn act(&mut self, action: Action, now: Instant) {
        match action {
            Action::Nothing => {}
            Action::Spawn => match (self.service.launch)() {
                Ok(Launch {
                    before: Some(before),
                    program,
                }) => {
                    self.then = Some(program);
                    self.spawn(&before, now);
                }
                Ok(Launch {
                    before: None,
                    program,
                }) => self.spawn(&program, now),
                Err(why) => self.machine.spawn_failed(now, why),
            },
            Action::Terminate => self.signal(Signal::SIGTERM),
            Action::Kill => self.signal(Signal::SIGKILL),
        }
    }

    fn spawn(&mut self, program: &process::Program, now: Instant) {
        let spawned = log::open(&self.service.log)
            .map_err(|error| format!("cannot open {}: {error}", self.service.log.display()))
            .and_then(|log| {
                process::spawn(program, &log)
                    .map_err(|error| format!("cannot start {}: {error}", program.file.display()))
            });
        match spawned {
            Ok(child) => {
                if self.then.is_none() {
                    self.prober.watch(Some(child.id()));
                }
                self.child = Some(child);
                self.spawned = now;
                self.machine.spawned(now);
            }
            Err(why) => {
                self.then = None;
                self.machine.spawn_failed(now, why);
            }
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            process::signal(child, signal);
        }
    }

    /// Notices that the process has ended.
    fn reap(&mut self, now: Instant) {
        let Some(child) = &mut self.child else {
            return;
        };
        let status = match child.try_wait() {
            Ok(None) => return,
            Ok(Some(status)) => status,
            Err(error) => {
                self.child = None;
                self.machine.exited(now, error.to_string());
                return;
            }
        };
        self.child = None;
        self.prober.watch(None);
        match self.then.take() {
            Some(program) if status.success() && self.machine.state() == State::Starting => {
                self.spawn(&program, now);
            }
            Some(_) => self
                .machine
                .exited(now, format!("preparing it {}", process::ending(status))),
            None => self.machine.exited(now, process::ending(status)),
        }
    }

    /// What to tell of a change of state.
    fn notice(&self) -> Option<String> {
        let detail = self.machine.detail();
        Some(match self.machine.state() {
            State::Waiting | State::External => return None,
            State::Stopped => "stopped".into(),
            State::Stopping => "stopping".into(),
            State::Starting => "starting".into(),
            State::Ready if self.shown == State::Unready => "ready again".into(),
            State::Ready => format!("ready after {:.1} s", self.spawned.elapsed().as_secs_f64()),
            State::Unready => format!("not ready: {detail}"),
            State::Restarting if detail.is_empty() => return None,
            State::Restarting => format!(
                "{detail}; starting it again (its log: {})",
                self.service.log.display()
            ),
        })
    }
}

/// What the supervisor's thread owns.
struct Run {
    slots: Vec<Slot>,
    inbox: Receiver<Message>,
    statuses: Arc<Mutex<Vec<Status>>>,
    observer: Observer,
    shutdown: Option<Instant>,
    rotated: Instant,
}

impl Run {
    fn run(mut self) {
        loop {
            match self.inbox.recv_timeout(TICK) {
                Ok(message) => {
                    self.handle(message);
                    // What else has arrived, before the next look around.
                    while let Ok(message) = self.inbox.try_recv() {
                        self.handle(message);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The probers hold senders, so this cannot be the usual way out.
                Err(RecvTimeoutError::Disconnected) => self.kill_all(),
            }
            let now = Instant::now();
            for slot in &mut self.slots {
                slot.reap(now);
            }
            // Before what follows from it: "ready" before what waited for it starts, "stopped"
            // before what was needed by it stops.
            self.tell();
            self.drive_shutdown(now);
            for index in 0..self.slots.len() {
                let ready = self.slots[index]
                    .dependencies
                    .iter()
                    .all(|&dependency| self.slots[dependency].machine.state() == State::Ready);
                let slot = &mut self.slots[index];
                let action = slot.machine.tick(now, ready);
                slot.act(action, now);
            }
            self.rotate_logs(now);
            self.tell();
            *lock(&self.statuses) = shown(&self.slots);
            if self.shutdown.is_some() && self.all_stopped() {
                return;
            }
        }
    }

    fn handle(&mut self, message: Message) {
        let now = Instant::now();
        match message {
            Message::Ask(index, verb) => {
                let slot = &mut self.slots[index];
                // From here on it is one of the others.
                slot.service.dormant = false;
                match verb {
                    // A stack that is going down takes no more orders to start anything.
                    Verb::Start | Verb::Restart if self.shutdown.is_some() => {}
                    Verb::Start => slot.machine.want(now),
                    Verb::Restart => slot.machine.restart(now),
                    Verb::Stop => slot.machine.unwant(),
                    Verb::Kill => slot.signal(Signal::SIGKILL),
                    Verb::Pause => slot.signal(Signal::SIGSTOP),
                    Verb::Resume => slot.signal(Signal::SIGCONT),
                }
            }
            Message::Probed(index, pid, result) => {
                let slot = &mut self.slots[index];
                // An answer about a process that is gone says nothing of its successor.
                if slot.child.as_ref().map(Child::id) == Some(pid) {
                    slot.machine.probed(result);
                }
            }
            Message::ShutDown(limit) => {
                self.shutdown.get_or_insert(now + limit);
            }
            Message::KillAll => self.kill_all(),
        }
    }

    fn kill_all(&mut self) {
        self.shutdown = Some(Instant::now());
    }

    /// Stops whom nobody depends on any more; past the deadline, kills everyone.
    fn drive_shutdown(&mut self, now: Instant) {
        let Some(deadline) = self.shutdown else {
            return;
        };
        let late = now >= deadline;
        for index in 0..self.slots.len() {
            let needed = self.slots.iter().any(|slot| {
                slot.dependencies.contains(&index) && slot.machine.state().is_running()
            });
            let machine = &mut self.slots[index].machine;
            if late || !needed {
                machine.unwant();
            }
            if late {
                machine.hurry(now);
            }
        }
    }

    fn all_stopped(&self) -> bool {
        self.slots
            .iter()
            .all(|slot| slot.machine.state() == State::Stopped)
    }

    fn rotate_logs(&mut self, now: Instant) {
        if now.duration_since(self.rotated) < ROTATE_EVERY {
            return;
        }
        self.rotated = now;
        for slot in &self.slots {
            if let Err(error) = log::rotate(&slot.service.log, log::LIMIT_BYTES, log::KEPT) {
                (self.observer)(&Notice {
                    name: slot.service.name.clone(),
                    text: format!("cannot cut {}: {error}", slot.service.log.display()),
                });
            }
        }
    }

    /// Tells the observer of states that have changed.
    fn tell(&mut self) {
        for slot in &mut self.slots {
            let state = slot.machine.state();
            if state != slot.shown {
                slot.since = SystemTime::now();
                if let Some(text) = slot.notice() {
                    (self.observer)(&Notice {
                        name: slot.service.name.clone(),
                        text,
                    });
                }
                slot.shown = state;
            }
        }
    }
}

#[cfg(test)]
mod tests;
