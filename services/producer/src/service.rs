//! Sessions, one after the other, until the process is to stop.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flight::admin::{Admin, Readiness};
use flight::backoff::Backoff;
use flight::registry::RegistryClient;
use flight::shutdown::Shutdown;
use tokio::runtime::Handle;

use crate::error::{Fatal, SessionError};
use crate::metrics::Metrics;
use crate::session;
use crate::settings::Settings;
use crate::source::{LocalSource, Origin};

/// A session that lasted so long was a good one: the next begins without a long wait.
const GOOD_SESSION: Duration = Duration::from_secs(30);

/// What every session needs.
pub(crate) struct Context {
    pub(crate) origin: Origin,
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    pub(crate) shutdown: Shutdown,
    pub(crate) runtime: Handle,
    pub(crate) http: reqwest::Client,
    pub(crate) registry: RegistryClient,
    pub(crate) host: String,
}

impl Context {
    /// What the settings say, and where to tell of it. Within a Tokio runtime.
    pub(crate) fn new(
        origin: Origin,
        settings: Settings,
        metrics: Metrics,
        readiness: Readiness,
        shutdown: Shutdown,
    ) -> Result<Self, Fatal> {
        let start = |error: &dyn std::fmt::Display| Fatal::Start(error.to_string());
        Ok(Self {
            origin,
            metrics,
            readiness,
            shutdown,
            runtime: Handle::current(),
            http: settings
                .source
                .tls
                .http_client("source.tls")
                .map_err(|error| start(&error))?
                .build()
                .map_err(|error| start(&error))?,
            registry: RegistryClient::new(&settings.registry).map_err(|error| start(&error))?,
            host: flight::hostname(),
            settings,
        })
    }

    /// Waits for something asynchronous, or for the wish to stop.
    pub(crate) fn wait<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, SessionError>
    where
        SessionError: From<E>,
    {
        self.readiness.beat();
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.shutdown.requested() => Err(SessionError::Stopped),
                result = future => result.map_err(SessionError::from),
            }
        })
    }
}

/// What one session leaves for the next.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Names this process; its sessions' names begin with it.
    process: String,
    sessions: u64,
    source: String,
    /// Set when a session got to know in whose hands the source was: the session that it took it
    /// over from, if there was one.
    predecessor: Option<Option<String>>,
    pub(crate) schema_id: Option<u32>,
    progress: bool,
}

impl Memory {
    pub(crate) fn new(process: String) -> Self {
        Self {
            process,
            sessions: 0,
            source: String::new(),
            predecessor: None,
            schema_id: None,
            progress: false,
        }
    }

    /// The source that a session is about. What is remembered of another one says nothing of it.
    pub(crate) fn turn_to(&mut self, source: &str) {
        if self.source != source {
            source.clone_into(&mut self.source);
            self.predecessor = None;
        }
    }

    /// True if an earlier session of this process took the source over, or was about to.
    pub(crate) fn has_claimed(&self) -> bool {
        self.predecessor.is_some()
    }

    /// In whose hands the source was found.
    pub(crate) fn predecessor(&mut self, session: Option<String>) {
        if !session
            .as_deref()
            .is_some_and(|session| self.is_own(session))
        {
            self.predecessor = Some(session);
        }
    }

    fn is_own(&self, session: &str) -> bool {
        session.starts_with(&self.process)
    }

    /// True if somebody took the source over after us.
    pub(crate) fn is_foreign(&self, session: &str) -> bool {
        match &self.predecessor {
            None => false,
            Some(before) => !self.is_own(session) && before.as_deref() != Some(session),
        }
    }

    pub(crate) fn next_session(&mut self) -> String {
        self.sessions += 1;
        format!("{}-{}", self.process, self.sessions)
    }

    /// Events were committed.
    pub(crate) fn made_progress(&mut self) {
        self.progress = true;
    }
}

/// Declares what must hold before the producer is ready. Whoever serves the endpoint before [`run`] calls
/// this before that: without conditions it would say that all of them hold.
pub fn require(admin: &Admin) {
    for condition in ["source", "registry", "kafka", "flowing"] {
        admin.readiness().require(condition);
    }
}

/// Runs the producer until `shutdown` begins, on a thread of its own: the Kafka client blocks.
///
/// # Errors
/// See [`Fatal`]. Kafka, registry or source being away are not among them: the producer waits.
pub async fn run(settings: Settings, admin: &Admin, shutdown: Shutdown) -> Result<(), Fatal> {
    run_from(Origin::Settings, settings, admin, shutdown).await
}

/// As [`run`], from a source in this process, whatever the settings say of one.
///
/// # Errors
/// As [`run`].
pub async fn run_local(
    source: Arc<dyn LocalSource>,
    settings: Settings,
    admin: &Admin,
    shutdown: Shutdown,
) -> Result<(), Fatal> {
    run_from(Origin::Local(source), settings, admin, shutdown).await
}

async fn run_from(
    origin: Origin,
    settings: Settings,
    admin: &Admin,
    shutdown: Shutdown,
) -> Result<(), Fatal> {
    require(admin);
    let readiness = admin.readiness().clone();
    let metrics = Metrics::new(&mut admin.metrics());
    let cx = Context::new(origin, settings, metrics, readiness, shutdown)?;
    let cx = Arc::new(cx);
    let (sender, finished) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("producer".into())
        .spawn(move || {
            let _runtime = cx.runtime.enter();
            let _ = sender.send(sessions(&cx));
        })
        .map_err(|error| Fatal::Start(error.to_string()))?;
    finished
        .await
        .unwrap_or_else(|_| Err(Fatal::Start("the producing thread panicked".into())))
}

fn sessions(cx: &Context) -> Result<(), Fatal> {
    let mut backoff = Backoff::default();
    let mut memory = Memory::new(uuid::Uuid::new_v4().to_string());
    while !cx.shutdown.is_requested() {
        let began = Instant::now();
        cx.readiness.beat();
        memory.progress = false;
        let error = match session::run(cx, &mut memory) {
            Ok(()) => break,
            Err(SessionError::Fatal(fatal)) => {
                if matches!(fatal, Fatal::Fenced { .. }) {
                    cx.metrics.fenced.inc();
                }
                return Err(fatal);
            }
            Err(error) => error,
        };
        if cx.shutdown.is_requested() {
            if !matches!(error, SessionError::Stopped) {
                tracing::warn!(%error, "stopped with a transaction unfinished: its events are sent again at the next start");
            }
            break;
        }
        let concerns = error.concerns();
        cx.metrics
            .session_errors
            .with_label_values(&[concerns])
            .inc();
        cx.readiness.set(concerns, Err(error.to_string()));
        cx.readiness
            .set("flowing", Err(format!("between sessions: {error}")));
        if memory.progress || began.elapsed() > GOOD_SESSION {
            backoff.reset();
        }
        let delay = backoff.next_delay();
        tracing::warn!(%error, retry_ms = delay.as_millis() as u64, "session ended");
        if matches!(error, SessionError::ShutOut { .. }) {
            session::wait_for_claim(cx);
        }
        let _ = cx.wait(async {
            tokio::time::sleep(delay).await;
            Ok::<(), SessionError>(())
        });
    }
    tracing::info!("drained");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_foreign_if_it_came_after_ours() {
        let mut memory = Memory::new("me".into());
        memory.turn_to("mock");
        assert!(!memory.is_foreign("anyone-1"), "a fresh process takes over");
        assert!(!memory.has_claimed());
        memory.predecessor(Some("old-3".into()));
        let first = memory.next_session();
        assert!(memory.has_claimed());
        assert!(!memory.is_foreign(&first));
        assert!(!memory.is_foreign("old-3"), "our claim did not get through");
        assert!(memory.is_foreign("new-1"));
        memory.predecessor(Some(first.clone()));
        assert!(
            !memory.is_foreign("old-3"),
            "an own session is no predecessor"
        );
        assert_ne!(memory.next_session(), first);
    }

    #[test]
    fn another_source_is_another_story() {
        let mut memory = Memory::new("me".into());
        memory.turn_to("a");
        memory.predecessor(None);
        assert!(memory.is_foreign("x-1"));
        memory.turn_to("b");
        assert!(!memory.is_foreign("x-1"));
    }
}
