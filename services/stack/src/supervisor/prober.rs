//! A thread that asks one process again and again how it is.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::Probe;

/// Time between two probes of a process that is ready.
const WHEN_READY: Duration = Duration::from_secs(1);
/// Time between two probes of a process that is not.
const WHEN_NOT: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Target {
    pid: Option<u32>,
    ended: bool,
}

type Shared = Arc<(Mutex<Target>, Condvar)>;

/// Asks as long as there is a process to ask; ends when dropped.
pub struct Prober(Shared);

impl Prober {
    /// Begins, with no process yet. `tell` returns false when nobody listens any more.
    pub fn start(
        probe: Probe,
        tell: impl Fn(u32, Result<(), String>) -> bool + Send + 'static,
    ) -> Self {
        let shared = Shared::default();
        let thread = Arc::clone(&shared);
        std::thread::spawn(move || run(&thread, &probe, tell));
        Self(shared)
    }

    /// The process to ask from now on.
    pub fn watch(&self, pid: Option<u32>) {
        let (target, changed) = &*self.0;
        target.lock().unwrap_or_else(PoisonError::into_inner).pid = pid;
        changed.notify_all();
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        let (target, changed) = &*self.0;
        target.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        changed.notify_all();
    }
}

fn run(shared: &Shared, probe: &Probe, tell: impl Fn(u32, Result<(), String>) -> bool) {
    let (target, changed) = &**shared;
    loop {
        let pid = {
            let mut target = target.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                match *target {
                    Target { ended: true, .. } => return,
                    Target { pid: Some(pid), .. } => break pid,
                    Target { pid: None, .. } => {
                        target = changed.wait(target).unwrap_or_else(PoisonError::into_inner);
                    }
                }
            }
        };
        // Without the lock: a probe may take seconds.
        let result = probe();
        let pause = if result.is_ok() { WHEN_READY } else { WHEN_NOT };
        if !tell(pid, result) {
            return;
        }
        let target = target.lock().unwrap_or_else(PoisonError::into_inner);
        // A new process is asked at once.
        let _ = changed.wait_timeout_while(target, pause, |target| {
            !target.ended && target.pid == Some(pid)
        });
    }
}
