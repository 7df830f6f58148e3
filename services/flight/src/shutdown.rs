//! One guard for the end of a service: every task hears of it, and the end waits for them.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// From SIGTERM to exit, at most. Tasks that are not done by then are left behind: what they held
/// is recovered at the next start.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(9);

/// Tells tasks to finish, and waits for them.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Shutdown {
    /// A guard that only [`trigger`](Self::trigger) sets off.
    pub fn new() -> Self {
        Self::default()
    }

    /// A guard that SIGTERM or SIGINT sets off.
    ///
    /// # Errors
    /// The operating system refuses the signal handlers.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::default();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let token = shutdown.token.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "draining");
            token.cancel();
        });
        Ok(shutdown)
    }

    /// The token that is cancelled when the end begins, for `select!` and child tokens.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// True once the end has begun.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Resolves when the end begins.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Begins the end.
    pub fn trigger(&self) {
        self.token.cancel();
    }

    /// Starts a task that [`drained`](Self::drained) waits for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Begins the end and waits until every spawned task is done; false if `limit` came first.
    pub async fn drained(&self, limit: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait())
            .await
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drained_waits_for_tasks_and_gives_up_at_the_limit() {
        let shutdown = Shutdown::new();
        let token = shutdown.token();
        shutdown.spawn(async move {
            token.cancelled().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        });
        assert!(!shutdown.is_requested());
        assert!(shutdown.drained(Duration::from_secs(3)).await);

        let stuck = Shutdown::new();
        stuck.spawn(std::future::pending::<()>());
        assert!(!stuck.drained(Duration::from_millis(30)).await);
    }
}
