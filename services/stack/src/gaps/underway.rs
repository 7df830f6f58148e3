//! What is on its way through Kafka, and what Kafka has of what is missing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flight::avro::{self, Decoder, RESENT};
use flight::dead_letter::header;
use flight::offsets::{self, Offsets};
use flight::registry::{RegistryClient, RegistryError};
use rdkafka::Offset;
use rdkafka::message::{BorrowedMessage, Message};
use tokio::runtime::Handle;

use super::ranges;
use crate::verify::kafka::Cluster;
use crate::verify::{PartitionLag, VerifyError, VerifySettings};

/// Clocks may disagree by so much, in milliseconds.
const CLOCKS_MS: i64 = 10 * 60 * 1000;
/// How often a long reading says how far it is.
const NEWS: Duration = Duration::from_secs(5);

/// Events that are in Kafka and that the ingester has not closed.
#[derive(Debug, Default)]
pub(super) struct Underway {
    /// The lowest offset of each source among those that were sent for the first time.
    live: BTreeMap<String, i64>,
    /// Those that were sent again.
    resent: BTreeMap<String, BTreeSet<i64>>,
}

impl Underway {
    /// Below this offset, everything of a source must have arrived.
    pub(super) fn watermark(&self, source: &str, next: i64) -> i64 {
        self.live
            .get(source)
            .map_or(next, |lowest| next.min(*lowest))
    }

    /// What is on its way because somebody asked for it.
    pub(super) fn resent(&self, source: &str) -> Option<&BTreeSet<i64>> {
        self.resent.get(source)
    }
}

/// Looks at what the ingester has still before it.
pub(super) async fn look(
    cluster: &Cluster,
    settings: &VerifySettings,
    lags: &[PartitionLag],
) -> Result<Underway, VerifyError> {
    let starts: Vec<(i32, Offset)> = lags
        .iter()
        .filter(|lag| lag.lag > 0)
        .map(|lag| {
            let start = lag.committed.map_or(Offset::Beginning, Offset::Offset);
            (lag.partition, start)
        })
        .collect();
    let topic = settings.topic.clone();
    let identities = Identities::new(settings)?;
    cluster
        .clone()
        .blocking(move |cluster| {
            let mut identities = identities.clone();
            let mut news = News::new("reading what the ingester has still before it");
            let mut found = Underway::default();
            let mut unread = None;
            // What is undecided yet may be covered by a checkpoint that is not.
            cluster.read_from(&topic, "read_uncommitted", starts.clone(), |message| {
                news.count();
                let is_resent = message
                    .headers()
                    .is_some_and(|headers| header(headers, RESENT).is_some());
                let told = identities.of(message, |source, offset| {
                    if is_resent {
                        match found.resent.get_mut(source) {
                            Some(resent) => drop(resent.insert(offset)),
                            None => drop(found.resent.insert(source.to_owned(), [offset].into())),
                        }
                    } else {
                        match found.live.get_mut(source) {
                            Some(lowest) => *lowest = offset.min(*lowest),
                            None => drop(found.live.insert(source.to_owned(), offset)),
                        }
                    }
                });
                go_on(told, &mut unread)
            })?;
            unread.map_or(Ok(found), Err)
        })
        .await
}

/// Which of a source's missing events Kafka has. `since_ms`: the time of the earliest of them, if it is
/// known.
pub(super) async fn in_kafka(
    cluster: &Cluster,
    settings: &VerifySettings,
    source: &str,
    missing: &[Offsets],
    since_ms: Option<i64>,
) -> Result<BTreeSet<i64>, VerifyError> {
    let (topic, source, missing) = (settings.topic.clone(), source.to_owned(), missing.to_vec());
    let wanted = offsets::count(&missing);
    let identities = Identities::new(settings)?;
    cluster
        .clone()
        .blocking(move |cluster| {
            let mut identities = identities.clone();
            let mut news = News::new("looking in Kafka for what is missing");
            // The earliest time of all stands for the beginning.
            let since_ms = since_ms.map_or(0, |since_ms| (since_ms - CLOCKS_MS).max(0));
            let starts = cluster.offsets_since(&topic, since_ms)?;
            let mut found = BTreeSet::new();
            let mut unread = None;
            cluster.read_from(&topic, "read_committed", starts, |message| {
                news.count();
                let told = identities.of(message, |name, offset| {
                    if name == source && ranges::contains(&missing, offset) {
                        found.insert(offset);
                    }
                });
                match found.len() as u64 == wanted {
                    true => ControlFlow::Break(()),
                    false => go_on(told, &mut unread),
                }
            })?;
            unread.map_or(Ok(found), Err)
        })
        .await
}

/// Reads on, unless a record could not be understood for want of an answer: without that nobody can say what
/// is on its way, and what is would count as missing.
fn go_on(told: Result<(), VerifyError>, unread: &mut Option<VerifyError>) -> ControlFlow<()> {
    match told {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            *unread = Some(error);
            ControlFlow::Break(())
        }
    }
}

/// Reads from records whose events they are.
#[derive(Clone)]
struct Identities {
    registry: Arc<RegistryClient>,
    url: String,
    /// How long a registry that is away is waited for.
    wait: Duration,
    runtime: Handle,
    decoders: HashMap<u32, Option<Arc<Decoder>>>,
}

impl Identities {
    fn new(settings: &VerifySettings) -> Result<Self, VerifyError> {
        let url = settings.registry.url.clone();
        let registry =
            RegistryClient::new(&settings.registry).map_err(|error| VerifyError::Registry {
                url: url.clone(),
                reason: error.to_string(),
            })?;
        Ok(Self {
            registry: Arc::new(registry),
            url,
            wait: settings.wait,
            runtime: Handle::current(),
            decoders: HashMap::new(),
        })
    }

    /// Tells source and offset of a record, if it can be read. What cannot is a dead letter to be.
    ///
    /// # Errors
    /// The registry does not say under which schema the record was written.
    fn of(
        &mut self,
        message: &BorrowedMessage<'_>,
        mut tell: impl FnMut(&str, i64),
    ) -> Result<(), VerifyError> {
        let Ok((id, datum)) = avro::split_header(message.payload()) else {
            return Ok(());
        };
        let decoder = match self.decoders.get(&id) {
            Some(known) => known.clone(),
            None => {
                let decoder = self.decoder(id)?.map(Arc::new);
                self.decoders.insert(id, decoder.clone());
                decoder
            }
        };
        let mut scratch = None;
        if let Some(Ok(record)) = decoder.as_ref().map(|d| d.decode(datum, &mut scratch)) {
            tell(record.source, record.source_offset);
        }
        Ok(())
    }

    /// The decoder of a schema; `None` if there is no such schema, or it is none of positions.
    fn decoder(&self, id: u32) -> Result<Option<Decoder>, VerifyError> {
        let deadline = Instant::now() + self.wait;
        loop {
            match self.runtime.block_on(self.registry.schema_by_id(id)) {
                Ok(schema) => return Ok(Decoder::new(id, &schema).ok()),
                Err(RegistryError::UnknownId { .. }) => return Ok(None),
                Err(error) if error.is_passing() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(500));
                }
                Err(error) => {
                    return Err(VerifyError::Registry {
                        url: self.url.clone(),
                        reason: format!(
                            "schema {id}, under which records were written that are on their way: {error}"
                        ),
                    });
                }
            }
        }
    }
}

/// Says now and then how far a long reading is.
struct News {
    what: &'static str,
    records: u64,
    told: Instant,
}

impl News {
    fn new(what: &'static str) -> Self {
        Self {
            what,
            records: 0,
            told: Instant::now(),
        }
    }

    fn count(&mut self) {
        self.records += 1;
        if self.records.is_multiple_of(10_000) && self.told.elapsed() > NEWS {
            self.told = Instant::now();
            eprintln!("contrail: {}: {} records", self.what, self.records);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_bounds_what_must_be_there() {
        let underway = Underway {
            live: [("a".to_owned(), 70)].into(),
            resent: [("b".to_owned(), [3].into())].into(),
        };
        assert_eq!(underway.watermark("a", 100), 70);
        assert_eq!(underway.watermark("b", 100), 100, "it was sent before");
        assert!(underway.resent("a").is_none() && underway.resent("b").is_some());
    }
}
