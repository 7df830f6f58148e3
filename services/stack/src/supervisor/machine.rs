//! The life of one process as a state machine without clocks, threads or processes of its own:
//! it is told what happened and when, and says what to do.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// First pause before a process that died is started again.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// The longest pause.
pub const BACKOFF_LIMIT: Duration = Duration::from_secs(10);
/// A process that ran this long has recovered: its next death begins with the first pause.
pub const BACKOFF_RESET: Duration = Duration::from_secs(30);

/// What a process is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not running, and not to be.
    Stopped,
    /// To be started once what it depends on is ready.
    Waiting,
    /// Running, not ready yet.
    Starting,
    /// Running and able to do its work.
    Ready,
    /// Running, was ready, and is not now.
    Unready,
    /// Died; to be started again after a pause.
    Restarting,
    /// Told to end.
    Stopping,
    /// A server that is there already and is not looked after here.
    External,
}

impl State {
    /// Whether there is a process.
    pub fn is_running(self) -> bool {
        matches!(
            self,
            Self::Starting | Self::Ready | Self::Unready | Self::Stopping
        )
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unready => "unready",
            Self::Restarting => "restarting",
            Self::Stopping => "stopping",
            Self::External => "external",
        }
    }
}

/// What the supervisor is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Start the process.
    Spawn,
    /// Send SIGTERM.
    Terminate,
    /// Send SIGKILL.
    Kill,
}

/// The state machine of one process.
#[derive(Debug)]
pub struct Machine {
    state: State,
    wanted: bool,
    pause: Duration,
    spawned: Option<Instant>,
    /// When a pause ends, or when a process that was told to end is killed.
    deadline: Option<Instant>,
    told: bool,
    grace: Duration,
    restarts: u32,
    detail: String,
}

impl Machine {
    /// A process that is not wanted yet and gets `grace` between SIGTERM and SIGKILL.
    pub fn new(grace: Duration) -> Self {
        Self {
            state: State::Stopped,
            wanted: false,
            pause: BACKOFF_FIRST,
            spawned: None,
            deadline: None,
            told: false,
            grace,
            restarts: 0,
            detail: String::new(),
        }
    }

    /// What it is at.
    pub fn state(&self) -> State {
        self.state
    }

    /// How often it was started again after it died.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Why it is where it is, if there is more to say.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// It is wanted as soon as its dependencies are ready.
    pub fn want_in_order(&mut self) {
        self.wanted = true;
        if self.state == State::Stopped {
            self.state = State::Waiting;
        }
    }

    /// It is wanted now, whatever its dependencies do. Ends a pause too.
    pub fn want(&mut self, now: Instant) {
        self.wanted = true;
        self.pause = BACKOFF_FIRST;
        if matches!(
            self.state,
            State::Stopped | State::Waiting | State::Restarting
        ) {
            self.state = State::Restarting;
            self.deadline = Some(now);
        }
    }

    /// It is not wanted any more.
    pub fn unwant(&mut self) {
        self.wanted = false;
        match self.state {
            State::Starting | State::Ready | State::Unready => self.stop(),
            State::Waiting | State::Restarting => {
                self.state = State::Stopped;
                self.detail.clear();
            }
            State::Stopped | State::Stopping | State::External => {}
        }
    }

    /// It is to end and to be started anew.
    pub fn restart(&mut self, now: Instant) {
        self.want(now);
        if matches!(self.state, State::Starting | State::Ready | State::Unready) {
            self.stop();
        }
    }

    fn stop(&mut self) {
        self.state = State::Stopping;
        self.told = false;
        self.deadline = None;
        self.detail.clear();
    }

    /// Brings the SIGKILL of a process that was told to end forward.
    pub fn hurry(&mut self, now: Instant) {
        if self.state == State::Stopping {
            self.told = true;
            self.deadline = Some(now);
        }
    }

    /// What is to be done now.
    pub fn tick(&mut self, now: Instant, dependencies_ready: bool) -> Action {
        match self.state {
            State::Waiting if dependencies_ready => Action::Spawn,
            State::Restarting if self.deadline.is_none_or(|at| now >= at) => Action::Spawn,
            State::Stopping if !self.told => {
                self.told = true;
                self.deadline = Some(now + self.grace);
                Action::Terminate
            }
            State::Stopping if self.deadline.is_some_and(|at| now >= at) => {
                // Once is enough, but nothing is lost by saying it again in a while.
                self.deadline = Some(now + Duration::from_secs(1));
                Action::Kill
            }
            _ => Action::Nothing,
        }
    }

    /// It was started.
    pub fn spawned(&mut self, now: Instant) {
        self.state = State::Starting;
        self.spawned = Some(now);
        self.deadline = None;
        self.detail.clear();
    }

    /// It could not be started.
    pub fn spawn_failed(&mut self, now: Instant, why: String) {
        self.spawned = None;
        self.died(now, why);
    }

    /// It ended.
    pub fn exited(&mut self, now: Instant, how: String) {
        if self.state == State::Stopping {
            self.spawned = None;
            if self.wanted {
                self.state = State::Restarting;
                self.deadline = Some(now);
            } else {
                self.state = State::Stopped;
            }
            return;
        }
        self.died(now, how);
    }

    fn died(&mut self, now: Instant, how: String) {
        let ran = self
            .spawned
            .take()
            .map_or(Duration::ZERO, |at| now.duration_since(at));
        if ran >= BACKOFF_RESET {
            self.pause = BACKOFF_FIRST;
        }
        self.state = State::Restarting;
        self.deadline = Some(now + self.pause);
        self.pause = (self.pause * 2).min(BACKOFF_LIMIT);
        self.restarts += 1;
        self.detail = how;
    }

    /// What its health probe found.
    pub fn probed(&mut self, result: Result<(), String>) {
        match (self.state, result) {
            (State::Starting | State::Ready | State::Unready, Ok(())) => {
                self.state = State::Ready;
                self.detail.clear();
            }
            (State::Ready | State::Unready, Err(why)) => {
                self.state = State::Unready;
                self.detail = why;
            }
            (State::Starting, Err(why)) => self.detail = why,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);
    const MS: Duration = Duration::from_millis(1);

    fn running(now: Instant) -> Machine {
        let mut machine = Machine::new(GRACE);
        machine.want_in_order();
        assert_eq!(machine.tick(now, true), Action::Spawn);
        machine.spawned(now);
        machine
    }

    #[test]
    fn it_waits_for_its_dependencies_on_the_first_start_only() {
        let now = Instant::now();
        let mut machine = Machine::new(GRACE);
        assert_eq!(machine.tick(now, true), Action::Nothing);
        machine.want_in_order();
        assert_eq!(machine.tick(now, false), Action::Nothing);
        assert_eq!(machine.state(), State::Waiting);
        assert_eq!(machine.tick(now, true), Action::Spawn);
        machine.spawned(now);
        machine.exited(now, "exit status: 1".into());
        // Services must live without what they depend on, so a restart does not wait for it.
        assert_eq!(machine.tick(now + BACKOFF_FIRST, false), Action::Spawn);
    }

    #[test]
    fn pauses_double_up_to_the_limit_and_begin_anew_after_a_good_run() {
        let mut now = Instant::now();
        let mut machine = running(now);
        for expected in [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
            machine.exited(now, "died".into());
            assert_eq!(machine.state(), State::Restarting);
            let pause = MS * expected;
            assert_eq!(
                machine.tick(now + pause - MS, true),
                Action::Nothing,
                "{expected}"
            );
            now += pause;
            assert_eq!(machine.tick(now, true), Action::Spawn, "{expected}");
            machine.spawned(now);
        }
        assert_eq!(machine.restarts(), 8);
        now += BACKOFF_RESET;
        machine.exited(now, "died".into());
        assert_eq!(machine.tick(now + BACKOFF_FIRST, true), Action::Spawn);
    }

    #[test]
    fn a_stop_is_sigterm_once_then_sigkill_at_the_deadline() {
        let now = Instant::now();
        let mut machine = running(now);
        machine.unwant();
        assert_eq!(machine.tick(now, true), Action::Terminate);
        assert_eq!(machine.tick(now + GRACE - MS, true), Action::Nothing);
        assert_eq!(machine.tick(now + GRACE, true), Action::Kill);
        assert_eq!(machine.tick(now + GRACE, true), Action::Nothing);
        machine.exited(now, "signal: 9".into());
        assert_eq!(machine.state(), State::Stopped);
        assert_eq!(machine.restarts(), 0);
        assert_eq!(machine.tick(now + GRACE * 10, true), Action::Nothing);
    }

    #[test]
    fn a_restart_ends_it_and_starts_it_without_a_pause() {
        let now = Instant::now();
        let mut machine = running(now);
        machine.probed(Ok(()));
        machine.restart(now);
        assert_eq!(machine.tick(now, true), Action::Terminate);
        machine.exited(now, "exit status: 0".into());
        assert_eq!(machine.tick(now, true), Action::Spawn);
        // It was asked for, it is no death.
        assert_eq!(machine.restarts(), 0);
    }

    #[test]
    fn a_probe_that_fails_is_shown_and_does_not_kill() {
        let now = Instant::now();
        let mut machine = running(now);
        machine.probed(Err("connection refused".into()));
        assert_eq!(
            (machine.state(), machine.detail()),
            (State::Starting, "connection refused")
        );
        machine.probed(Ok(()));
        assert_eq!((machine.state(), machine.detail()), (State::Ready, ""));
        machine.probed(Err("timed out".into()));
        assert_eq!(machine.state(), State::Unready);
        assert_eq!(machine.tick(now, true), Action::Nothing);
        machine.probed(Ok(()));
        assert_eq!(machine.state(), State::Ready);
    }

    #[test]
    fn a_probe_that_comes_late_does_not_revive_what_is_stopping() {
        let now = Instant::now();
        let mut machine = running(now);
        machine.unwant();
        machine.probed(Ok(()));
        assert_eq!(machine.state(), State::Stopping);
        machine.hurry(now);
        assert_eq!(machine.tick(now, true), Action::Kill);
    }

    #[test]
    fn stop_during_a_pause_and_start_during_a_pause() {
        let now = Instant::now();
        let mut machine = running(now);
        machine.exited(now, "died".into());
        machine.unwant();
        assert_eq!(machine.state(), State::Stopped);
        machine.want(now);
        assert_eq!(machine.tick(now, false), Action::Spawn);
    }
}
