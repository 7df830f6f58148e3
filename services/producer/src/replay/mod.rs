//! Replay: events that were sent before are sent to Kafka once more, as where Kafka or ClickHouse lost
//! them.
//!
//! A replay reads the source on a connection of its own and writes with a client of its own, which is
//! idempotent and in no transaction. So it has no transactional id to share or to be fenced by, holds
//! back no reader, and never touches the checkpoint: it may run in the producer that is at work, beside
//! it, or twice. Each record carries its source offset as the first one did; the ingester drops by that
//! identity what is there already. A replay that is killed has sent a part, which is as harmless: ask
//! again.

mod http;
mod pace;
mod range;
mod sender;
mod times;
mod work;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flight::admin::{Admin, Readiness};
use flight::calendar::format_instant_ms;
use flight::metrics::Registrar;
use flight::offsets::{Offsets, count};
use flight::shutdown::Shutdown;
use prometheus::Registry;
use serde::Serialize;

use crate::error::{Fatal, SessionError};
use crate::metrics::{Metrics, ReplayMetrics};
use crate::service::Context;
use crate::session::now_ms;
use crate::settings::Settings;
use crate::source::Origin;

pub(crate) use pace::Pace;
pub use range::{Events, MOST_PIECES, Refusal, Request, Wanted};

/// Replays that may wait for their turn.
const MOST_WAITING: usize = 100;
/// Replays that are over and can still be asked about.
const MOST_REMEMBERED: usize = 1000;
/// How often the working thread looks whether the process is to end.
const LOOK: Duration = Duration::from_millis(250);

/// A replay cannot be made, or was not finished. What was sent of it does no harm.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// It asks for what cannot be sent.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Kafka, the registry or the source do not do their part.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The source gave nothing for too long.
    #[error("the source gave no event for {seconds} s: {why}")]
    SourceAway {
        /// How long was waited.
        seconds: u64,
        /// What the source's connection says.
        why: String,
    },
    /// The source is another one now.
    #[error("source {expected} is not there any more: {why}")]
    SourceChanged {
        /// Whose events were asked for.
        expected: String,
        /// What was found.
        why: String,
    },
    /// Kafka did not take records.
    #[error("Kafka did not take {records} records: {reason}")]
    NotDelivered {
        /// How many.
        records: u64,
        /// What the client says of the last of them.
        reason: String,
    },
    /// Too many wait already.
    #[error("{MOST_WAITING} replays wait already: ask again when some are done")]
    TooMany,
    /// The process has not what it needs.
    #[error("{0}")]
    Start(String),
}

/// Events that can be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Name of the source.
    pub source: String,
    /// At least one; in their order, with others between them.
    pub pieces: Vec<Offsets>,
}

impl Range {
    /// First offset of all.
    pub fn first(&self) -> i64 {
        self.pieces.first().map_or(0, |piece| piece.first)
    }

    /// Last offset of all.
    pub fn last(&self) -> i64 {
        self.pieces.last().map_or(-1, |piece| piece.last)
    }

    /// Number of events.
    pub fn total(&self) -> u64 {
        count(&self.pieces)
    }
}

/// What a replay is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is sending, or waits for its turn.
    Running,
    /// All is in Kafka.
    Done,
    /// It was not finished.
    Failed,
}

/// A replay, as it is told.
#[derive(Debug, Clone, Serialize)]
pub struct Replay {
    /// Its name. No other replay has it, in no run of the producer.
    pub id: String,
    /// Name of the source.
    pub source: String,
    /// First offset.
    pub first: i64,
    /// Last offset.
    pub last: i64,
    /// Ranges of offsets from the first to the last.
    pub ranges: usize,
    /// What it is at.
    pub state: State,
    /// Events that are in Kafka again.
    pub sent: u64,
    /// Events that it is about.
    pub total: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was asked for.
    pub requested_at: String,
    /// When it was over.
    pub finished_at: Option<String>,
}

/// The replays of one producer: one at a time, in the order in which they were asked for.
#[derive(Clone)]
pub struct Replays {
    shared: Arc<Shared>,
}

struct Shared {
    cx: Context,
    metrics: ReplayMetrics,
    book: Mutex<Book>,
    changed: Condvar,
}

#[derive(Default)]
struct Book {
    /// The newest last.
    replays: VecDeque<Replay>,
    /// Those that wait for their turn, by their ids.
    waiting: VecDeque<(String, Range)>,
    /// The one that is being sent.
    sending: Option<(String, Range)>,
    /// The working thread has ended.
    over: bool,
}

impl Book {
    fn get_mut(&mut self, id: &str) -> Option<&mut Replay> {
        self.replays.iter_mut().find(|replay| replay.id == id)
    }

    /// One that is about the same events and is not over.
    fn running(&self, range: &Range) -> Option<Replay> {
        let mut open = self.sending.iter().chain(&self.waiting);
        let (id, _) = open.find(|(_, other)| other == range)?;
        self.replays.iter().find(|replay| replay.id == *id).cloned()
    }
}

impl Replays {
    /// Begins to take replays, on a thread of their own. Within a Tokio runtime.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub fn start(settings: Settings, admin: &Admin, shutdown: Shutdown) -> Result<Self, Fatal> {
        let shared = Arc::new(Shared {
            cx: context(settings, shutdown)?,
            metrics: ReplayMetrics::new(&mut admin.metrics()),
            book: Mutex::default(),
            changed: Condvar::new(),
        });
        let its = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("replay".into())
            .spawn(move || its.work())
            .map_err(|error| Fatal::Start(error.to_string()))?;
        Ok(Self { shared })
    }

    /// The HTTP calls, see `http`.
    pub fn router(&self) -> axum::Router {
        http::router(self.clone())
    }

    /// Checks what is asked for and has it sent; the same events, if they are being sent already, are
    /// not sent beside that. Blocks while source and Kafka are asked.
    ///
    /// # Errors
    /// See [`ReplayError`]. Then nothing was sent.
    pub fn ask(&self, wanted: &Wanted) -> Result<Replay, ReplayError> {
        let range = range::resolve(&self.shared.cx, wanted)?;
        let mut book = self.shared.book();
        if let Some(replay) = book.running(&range) {
            return Ok(replay);
        }
        if book.over {
            return Err(SessionError::Stopped.into());
        }
        if book.waiting.len() >= MOST_WAITING {
            return Err(ReplayError::TooMany);
        }
        let replay = Replay {
            id: uuid::Uuid::new_v4().to_string(),
            source: range.source.clone(),
            first: range.first(),
            last: range.last(),
            ranges: range.pieces.len(),
            state: State::Running,
            sent: 0,
            total: range.total(),
            error: None,
            requested_at: format_instant_ms(now_ms()),
            finished_at: None,
        };
        book.waiting.push_back((replay.id.clone(), range));
        book.replays.push_back(replay.clone());
        if book.replays.len() > MOST_REMEMBERED + MOST_WAITING {
            let is_over = |replay: &Replay| replay.state != State::Running;
            if let Some(oldest) = book.replays.iter().position(is_over) {
                book.replays.remove(oldest);
            }
        }
        self.shared.metrics.running.inc();
        self.shared.changed.notify_all();
        Ok(replay)
    }

    /// One replay.
    pub fn get(&self, id: &str) -> Option<Replay> {
        let book = self.shared.book();
        book.replays.iter().find(|replay| replay.id == id).cloned()
    }

    /// All that are remembered, the newest first.
    pub fn all(&self) -> Vec<Replay> {
        self.shared.book().replays.iter().rev().cloned().collect()
    }

    /// Waits until the working thread has ended, which it does when the service stops.
    pub fn wait_until_over(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut book = self.shared.book();
        while !book.over && Instant::now() < deadline {
            let wait = self.shared.changed.wait_timeout(book, LOOK);
            (book, _) = wait.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn token(&self) -> &str {
        self.shared.cx.settings.replay.token.expose()
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one replay after the other until the service stops.
    fn work(&self) {
        let _runtime = self.cx.runtime.enter();
        while let Some((id, range)) = self.next() {
            tracing::info!(
                replay = id,
                source = range.source,
                first = range.first(),
                last = range.last(),
                ranges = range.pieces.len(),
                "replay begins"
            );
            let sent = work::send(&self.cx, &range, |sent| {
                let mut book = self.book();
                if let Some(replay) = book.get_mut(&id) {
                    self.metrics.events.inc_by(sent.saturating_sub(replay.sent));
                    replay.sent = sent;
                }
            });
            self.finish(&id, sent.err());
        }
        let waiting: Vec<_> = self.book().waiting.drain(..).collect();
        for (id, _) in waiting {
            self.finish(&id, Some(SessionError::Stopped.into()));
        }
        self.book().over = true;
        self.changed.notify_all();
    }

    /// Waits for the next one; `None` when the service stops.
    fn next(&self) -> Option<(String, Range)> {
        let mut book = self.book();
        loop {
            if self.cx.shutdown.is_requested() {
                return None;
            }
            if let Some(next) = book.waiting.pop_front() {
                book.sending = Some(next.clone());
                return Some(next);
            }
            let wait = self.changed.wait_timeout(book, LOOK);
            (book, _) = wait.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self, id: &str, error: Option<ReplayError>) {
        let mut book = self.book();
        book.sending.take_if(|(sending, _)| sending == id);
        let Some(replay) = book.get_mut(id) else {
            return;
        };
        replay.finished_at = Some(format_instant_ms(now_ms()));
        self.metrics.running.dec();
        let sent = replay.sent;
        match error {
            None => {
                replay.state = State::Done;
                self.metrics.replays.with_label_values(&["done"]).inc();
                tracing::info!(replay = id, sent, "replay is done");
            }
            Some(error) => {
                replay.state = State::Failed;
                replay.error = Some(error.to_string());
                self.metrics.replays.with_label_values(&["failed"]).inc();
                tracing::warn!(replay = id, sent, %error, "replay failed: what was sent of it does no harm, ask again");
            }
        }
    }
}

/// Makes one replay in this process, for the command line. `begun` hears what it is about, `progress` how
/// many events are in Kafka. Within a Tokio runtime, on a thread that may block.
///
/// # Errors
/// See [`ReplayError`].
pub fn once(
    settings: Settings,
    shutdown: Shutdown,
    wanted: &Wanted,
    begun: impl FnOnce(&Range),
    progress: impl FnMut(u64),
) -> Result<Range, ReplayError> {
    let cx = context(settings, shutdown).map_err(|error| ReplayError::Start(error.to_string()))?;
    let range = range::resolve(&cx, wanted)?;
    begun(&range);
    work::send(&cx, &range, progress)?;
    Ok(range)
}

/// What a replay works with: nothing that the live events' session tells of itself.
fn context(settings: Settings, shutdown: Shutdown) -> Result<Context, Fatal> {
    let unregistered = Metrics::new(&mut Registrar::new(&Registry::new()));
    Context::new(
        Origin::Settings,
        settings,
        unregistered,
        Readiness::default(),
        shutdown,
    )
}
