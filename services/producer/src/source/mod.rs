//! Reading a source: events in the order of their offsets, none left out, none twice.
//!
//! One task reads. It keeps the offset that must come next, and whatever happens on a connection
//! (it breaks, the source jumps, a frame makes no sense), the next connection begins there. Batches
//! wait in a queue that is bounded by their size; a full queue makes the reader stop reading.

mod local;
mod sse;
mod websocket;

use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flight::admin::Readiness;
use flight::backoff::Backoff;
use flight::source::{BatchHeader, DESCRIPTOR_PATH, FrameError, SourceDescriptor};
use prometheus::IntGauge;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::encode::{RecordEncoder, Records};
use crate::metrics::Metrics;
use crate::service::Context;
use crate::settings::{SourceSettings, Transport};
pub use local::LocalSource;

/// Largest frame, line or event that is taken at all. The protocol keeps batches below 1 MiB; one
/// oversized event must still come in, to be dead-lettered whole.
const MAX_FRAME_BYTES: usize = 16 << 20;
/// Longest wait for a connection, or for the answer to a small request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most batches that wait, however small they are.
const QUEUE_BATCHES: usize = 1024;

/// The source does not do what it should.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// No connection, or it broke.
    #[error("source {url} is away: {reason}")]
    Away {
        /// What was asked.
        url: String,
        /// What happened.
        reason: String,
    },
    /// No connection by TLS can be tried: the files that the settings name are not what they were.
    #[error("{0}")]
    Tls(String),
    /// It closed the connection.
    #[error("source closed the connection{0}")]
    Closed(String),
    /// Nothing was heard.
    #[error("source was silent for {0} s")]
    Silent(u64),
    /// It said no.
    #[error("source refuses: {code}: {message}")]
    Refused {
        /// The source's code.
        code: String,
        /// The source's words.
        message: String,
    },
    /// Another source answers: other events under the same offsets.
    #[error("the source was {expected} and is now {found}: beginning a session for {found}")]
    Changed {
        /// Whose events were read.
        expected: String,
        /// Who answers.
        found: String,
    },
    /// Offsets were left out.
    #[error(
        "source jumped ahead to offset {found} where {expected} comes next: asking again for {expected}"
    )]
    Ahead {
        /// What comes next.
        expected: i64,
        /// What came.
        found: i64,
    },
    /// Offsets came a second time.
    #[error(
        "source jumped back to offset {found} where {expected} comes next: asking again for {expected}"
    )]
    Back {
        /// What comes next.
        expected: i64,
        /// What came.
        found: i64,
    },
    /// A frame cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Something that the protocol does not have.
    #[error("source broke the protocol: {0}")]
    Protocol(String),
}

impl SourceError {
    /// All that [`violation`](Self::violation) gives.
    pub(crate) const VIOLATIONS: [&'static str; 5] =
        ["ahead", "back", "frame", "protocol", "refused"];

    /// The metric label of a violation of the protocol.
    fn violation(&self) -> Option<&'static str> {
        match self {
            Self::Ahead { .. } => Some("ahead"),
            Self::Back { .. } => Some("back"),
            Self::Frame(_) => Some("frame"),
            Self::Protocol(_) => Some("protocol"),
            Self::Refused { .. } => Some("refused"),
            _ => None,
        }
    }
}

/// Events that came together, as records.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) header: BatchHeader,
    pub(crate) records: Records,
    /// Room in the queue, given back when the batch is done with.
    _room: OwnedSemaphorePermit,
}

/// Where a session's events come from.
#[derive(Clone)]
pub(crate) enum Origin {
    /// From where the settings say.
    Settings,
    /// From this process.
    Local(Arc<dyn LocalSource>),
}

impl Origin {
    /// Asks the source what it is.
    pub(crate) async fn describe(
        &self,
        http: &reqwest::Client,
        settings: &SourceSettings,
    ) -> Result<SourceDescriptor, SourceError> {
        match self {
            Self::Settings => describe(http, settings).await,
            Self::Local(source) => Ok(source.describe()),
        }
    }
}

/// Asks a source what it is.
async fn describe(
    http: &reqwest::Client,
    settings: &SourceSettings,
) -> Result<SourceDescriptor, SourceError> {
    let url = settings.address("http", DESCRIPTOR_PATH);
    let away = |error: reqwest::Error| SourceError::Away {
        url: url.clone(),
        reason: flight::tls::explain(&error, &url, "source.tls.ca_file"),
    };
    let ask = async {
        http.get(&url)
            .send()
            .await?
            .error_for_status()?
            .bytes()
            .await
    };
    let answer = tokio::time::timeout(CONNECT_TIMEOUT, ask)
        .await
        .map_err(|_| SourceError::Silent(CONNECT_TIMEOUT.as_secs()))?
        .map_err(away)?;
    serde_json::from_slice(&answer).map_err(|error| {
        SourceError::Protocol(format!("{url} does not describe a source: {error}"))
    })
}

/// What a feed says of its source, as long as there is the feed: its task may run on for a moment, and find
/// that nobody reads what it has. That word would stand for ever against the one of the feed that follows.
#[derive(Debug, Clone)]
struct Voice {
    readiness: Readiness,
    is_silent: Arc<Mutex<bool>>,
}

impl Voice {
    fn new(readiness: Readiness) -> Self {
        Self {
            readiness,
            is_silent: Arc::default(),
        }
    }

    /// Says whether the source is there, and if not, why.
    fn tell(&self, state: Result<(), String>) {
        let is_silent = self.is_silent.lock();
        if !*is_silent.unwrap_or_else(PoisonError::into_inner) {
            self.readiness.set("source", state);
        }
    }

    /// Nothing is told after this.
    fn silence(&self) {
        let is_silent = self.is_silent.lock();
        *is_silent.unwrap_or_else(PoisonError::into_inner) = true;
    }
}

/// The reading task, and its queue.
#[derive(Debug)]
pub(crate) struct Feed {
    batches: mpsc::Receiver<Batch>,
    committed: watch::Sender<i64>,
    task: JoinHandle<SourceError>,
    voice: Voice,
}

impl Feed {
    /// Begins to read at `from`.
    pub(crate) fn start(cx: &Context, encoder: RecordEncoder, from: i64) -> Self {
        Self::with(cx, cx.settings.source.clone(), encoder, from)
    }

    /// Asks for the one event at `from`, where the transport has credit.
    pub(crate) fn glance(cx: &Context, encoder: RecordEncoder, from: i64) -> Self {
        let settings = SourceSettings {
            credit: 1,
            max_batch: 1,
            ..cx.settings.source.clone()
        };
        Self::with(cx, settings, encoder, from)
    }

    /// Begins to read at `from` beside the feed of live events: what it is at says nothing of theirs, and no
    /// more than some chunks wait.
    pub(crate) fn beside(
        cx: &Context,
        encoder: RecordEncoder,
        from: i64,
        chunk_events: u64,
    ) -> Self {
        let live = &cx.settings.source;
        let most_in_batch = u32::try_from(chunk_events).unwrap_or(u32::MAX);
        let settings = SourceSettings {
            credit: live.credit.min(chunk_events * 4),
            max_batch: live.max_batch.min(most_in_batch),
            ..live.clone()
        };
        let metrics = Metrics {
            source_queue_bytes: IntGauge::new("unregistered", "unregistered")
                .expect("a constant metric is well formed"),
            ..cx.metrics.clone()
        };
        Self::telling(cx, settings, encoder, from, metrics, Readiness::default())
    }

    fn with(cx: &Context, settings: SourceSettings, encoder: RecordEncoder, from: i64) -> Self {
        let (metrics, readiness) = (cx.metrics.clone(), cx.readiness.clone());
        Self::telling(cx, settings, encoder, from, metrics, readiness)
    }

    /// A feed that tells what it is at in `metrics` and `readiness`.
    fn telling(
        cx: &Context,
        settings: SourceSettings,
        encoder: RecordEncoder,
        from: i64,
        metrics: Metrics,
        readiness: Readiness,
    ) -> Self {
        let (sender, batches) = mpsc::channel(QUEUE_BATCHES);
        let (committed, acknowledged) = watch::channel(from);
        let queue_kib = cx.settings.memory.source_queue_kib;
        let voice = Voice::new(readiness);
        let reader = Reader {
            origin: cx.origin.clone(),
            settings,
            encoder,
            expected: from,
            sender,
            room: Arc::new(Semaphore::new(queue_kib as usize)),
            queue_kib,
            acknowledged,
            http: cx.http.clone(),
            metrics,
            voice: voice.clone(),
        };
        Self {
            batches,
            committed,
            task: tokio::spawn(reader.run()),
            voice,
        }
    }

    /// The next batch; `None` when the reader has given up, see [`ended`](Self::ended).
    pub(crate) async fn next(&mut self) -> Option<Batch> {
        self.batches.recv().await
    }

    /// A batch that is there already.
    pub(crate) fn ready(&mut self) -> Option<Batch> {
        self.batches.try_recv().ok()
    }

    /// Everything below `next` is in Kafka: the source may forget it, and may send as much again.
    pub(crate) fn acknowledge(&self, next: i64) {
        self.committed.send_replace(next);
    }

    /// Why the reader gave up.
    pub(crate) async fn ended(&mut self) -> SourceError {
        match (&mut self.task).await {
            Ok(error) => error,
            Err(error) => SourceError::Closed(format!(": the reader failed: {error}")),
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.voice.silence();
        self.task.abort();
    }
}

/// What the reading task knows.
struct Reader {
    origin: Origin,
    settings: SourceSettings,
    encoder: RecordEncoder,
    /// The offset that must come next.
    expected: i64,
    sender: mpsc::Sender<Batch>,
    room: Arc<Semaphore>,
    queue_kib: u32,
    acknowledged: watch::Receiver<i64>,
    http: reqwest::Client,
    metrics: Metrics,
    voice: Voice,
}

impl Reader {
    /// Reads until the source is another one.
    async fn run(mut self) -> SourceError {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let transport = self.settings.transport;
        let origin = self.origin.clone();
        loop {
            let began = self.expected;
            let result: Result<Infallible, SourceError> = match (&origin, transport) {
                (Origin::Local(source), _) => local::read(&mut self, source.as_ref()).await,
                (Origin::Settings, Transport::Websocket) => websocket::read(&mut self).await,
                (Origin::Settings, Transport::Sse) => sse::read(&mut self).await,
            };
            let Err(error) = result;
            self.metrics
                .reconnects
                .with_label_values(&[transport.name()])
                .inc();
            if let Some(kind) = error.violation() {
                self.metrics
                    .protocol_errors
                    .with_label_values(&[kind])
                    .inc();
            }
            self.voice.tell(Err(error.to_string()));
            if matches!(error, SourceError::Changed { .. }) {
                return error;
            }
            if self.expected > began {
                backoff.reset();
            }
            let delay = backoff.next_delay();
            tracing::warn!(
                %error,
                next_offset = self.expected,
                retry_ms = delay.as_millis() as u64,
                "lost the source"
            );
            tokio::time::sleep(delay).await;
        }
    }

    /// The source that answers must be the one that is expected.
    fn check_name(&self, found: &str) -> Result<(), SourceError> {
        if found == self.encoder.source() {
            return Ok(());
        }
        Err(SourceError::Changed {
            expected: self.encoder.source().to_owned(),
            found: found.to_owned(),
        })
    }

    fn connected(&self) {
        self.voice.tell(Ok(()));
        tracing::info!(
            source = self.encoder.source(),
            from = self.expected,
            transport = self.settings.transport.name(),
            "reading the source"
        );
    }

    /// Makes records of a batch's lines and puts them into the queue, waiting for room.
    async fn deliver(
        &mut self,
        header: BatchHeader,
        body: &[u8],
        lines: &[Range<usize>],
    ) -> Result<(), SourceError> {
        check_sequence(self.expected, header.first)?;
        let records = self.encoder.encode(header.first, body, lines);
        let end = records.end();
        let kib = u32::try_from(records.size() / 1024 + 1).unwrap_or(u32::MAX);
        let gone = || SourceError::Closed(": the session is over".into());
        let room = self
            .room
            .clone()
            .acquire_many_owned(kib.min(self.queue_kib))
            .await
            .map_err(|_| gone())?;
        let batch = Batch {
            header,
            records,
            _room: room,
        };
        self.sender.send(batch).await.map_err(|_| gone())?;
        self.expected = end;
        let used =
            self.queue_kib as usize - self.room.available_permits().min(self.queue_kib as usize);
        self.metrics.source_queue_bytes.set(used as i64 * 1024);
        Ok(())
    }
}

/// Offsets have no holes and no repetitions.
fn check_sequence(expected: i64, found: i64) -> Result<(), SourceError> {
    match found.cmp(&expected) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(SourceError::Ahead { expected, found }),
        std::cmp::Ordering::Less => Err(SourceError::Back { expected, found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flight::metrics::Registrar;
    use prometheus::Registry;

    fn reader(expected: i64, queue_kib: u32) -> (Reader, mpsc::Receiver<Batch>) {
        let (sender, batches) = mpsc::channel(8);
        let (_, acknowledged) = watch::channel(expected);
        let reader = Reader {
            origin: Origin::Settings,
            settings: SourceSettings::default(),
            encoder: RecordEncoder::new(1, "test", 2 << 20),
            expected,
            sender,
            room: Arc::new(Semaphore::new(queue_kib as usize)),
            queue_kib,
            acknowledged,
            http: reqwest::Client::new(),
            metrics: Metrics::new(&mut Registrar::new(&Registry::new())),
            voice: Voice::new(Readiness::default()),
        };
        (reader, batches)
    }

    #[tokio::test]
    async fn a_feed_that_is_over_says_nothing_of_the_source_any_more() {
        let readiness = Readiness::default();
        let feed = || {
            let voice = Voice::new(readiness.clone());
            let feed = Feed {
                batches: mpsc::channel(1).1,
                committed: watch::channel(0).0,
                task: tokio::spawn(std::future::pending()),
                voice: voice.clone(),
            };
            (feed, voice)
        };
        let (first, late) = feed();
        late.tell(Err("the source is away".into()));
        assert!(readiness.unmet().contains_key("source"));
        drop(first);
        let (_second, voice) = feed();
        voice.tell(Ok(()));
        late.tell(Err("the session is over".into()));
        assert!(readiness.is_ready(), "{:?}", readiness.unmet());
    }

    fn one_line(length: usize) -> Vec<Range<usize>> {
        std::iter::once(0..length).collect()
    }

    fn header(first: i64, count: u32) -> BatchHeader {
        BatchHeader {
            first,
            count,
            at_ms: 0,
            next: 100,
            traceparent: None,
        }
    }

    #[tokio::test]
    async fn a_jump_either_way_is_refused_and_the_expectation_stays() {
        let (mut reader, _batches) = reader(10, 64);
        let lines = [0..1, 1..2];
        let ahead = reader.deliver(header(11, 2), b"ab", &lines).await;
        assert!(matches!(
            ahead,
            Err(SourceError::Ahead {
                expected: 10,
                found: 11
            })
        ));
        let back = reader.deliver(header(9, 2), b"ab", &lines).await;
        assert!(matches!(
            back,
            Err(SourceError::Back {
                expected: 10,
                found: 9
            })
        ));
        reader.deliver(header(10, 2), b"ab", &lines).await.unwrap();
        assert_eq!(reader.expected, 12);
    }

    #[tokio::test]
    async fn a_batch_comes_out_with_its_offsets() {
        let (mut reader, mut batches) = reader(5, 64);
        reader
            .deliver(header(5, 2), b"one\ntwo", &[0..3, 4..7])
            .await
            .unwrap();
        let batch = batches.recv().await.unwrap();
        let offsets: Vec<i64> = batch.records.iter().map(|(offset, _)| offset).collect();
        assert_eq!(offsets, [5, 6]);
        assert_eq!(batch.records.end(), 7);
    }

    #[tokio::test]
    async fn a_full_queue_makes_the_reader_wait() {
        let (mut reader, mut batches) = reader(0, 4);
        let body = vec![b'x'; 3000];
        reader
            .deliver(header(0, 1), &body, &one_line(3000))
            .await
            .unwrap();
        let second = one_line(3000);
        let second = reader.deliver(header(1, 1), &body, &second);
        let waited = tokio::time::timeout(Duration::from_millis(50), second).await;
        assert!(waited.is_err(), "there is no room");
        assert_eq!(reader.expected, 1);
        drop(batches.recv().await);
        reader
            .deliver(header(1, 1), &body, &one_line(3000))
            .await
            .unwrap();
        let huge = vec![b'x'; 1 << 20];
        drop(batches.recv().await);
        reader
            .deliver(header(2, 1), &huge, &one_line(1 << 20))
            .await
            .unwrap();
    }
}
