//! What Kafka knows: checkpoints, how far the ingester is, dead letters.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use flight::checkpoint::SourceCheckpoint;
use flight::dead_letter::{self, header};
use flight::kafka::{Inquiry, KafkaError as ClusterError};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::{PartitionLag, VerifyError, VerifySettings};

const TIMEOUT: Duration = Duration::from_secs(15);

/// The cluster, as the account sees it.
#[derive(Clone)]
pub(crate) struct Cluster {
    settings: VerifySettings,
}

/// Which events are among the dead letters.
#[derive(Debug, Default)]
pub(crate) struct DeadLetterCensus {
    /// Offsets by source, where they are known.
    pub(crate) by_source: BTreeMap<String, BTreeSet<i64>>,
    /// Offsets by source of those that were sent on their way again.
    pub(crate) redriven: BTreeMap<String, BTreeSet<i64>>,
    /// Offsets by source of those that were given up, which are dead letters still.
    pub(crate) discarded: BTreeMap<String, BTreeSet<i64>>,
    /// Dead letters of which they are not known.
    pub(crate) without_identity: u64,
}

impl Cluster {
    pub(crate) fn new(settings: &VerifySettings) -> Result<Self, VerifyError> {
        Ok(Self {
            settings: settings.clone(),
        })
    }

    /// Runs requests of the blocking client where they hold up nobody, and repeats them while the
    /// cluster does not answer.
    pub(crate) async fn blocking<T: Send + 'static>(
        self,
        ask: impl Fn(&Self) -> Result<T, VerifyError> + Send + 'static,
    ) -> Result<T, VerifyError> {
        let deadline = Instant::now() + self.settings.wait;
        let insist = move || loop {
            match ask(&self) {
                Err(error) if is_passing(&error) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(500));
                }
                answer => return answer,
            }
        };
        match tokio::task::spawn_blocking(insist).await {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Finds out whether the cluster lets us in and lets us look at each topic.
    pub(crate) fn reach(&self) -> Result<(), VerifyError> {
        let settings = &self.settings;
        let failed = self.cluster_error();
        let ask = || {
            let inquiry = Inquiry::new(&settings.kafka, "contrail-verify")?;
            let topics = [
                &settings.checkpoint_topic,
                &settings.topic,
                &settings.dead_letter_topic,
            ];
            topics
                .into_iter()
                .try_for_each(|topic| inquiry.partitions(topic).map(drop))
        };
        ask().map_err(failed)
    }

    /// The last checkpoint of each source.
    pub(crate) fn checkpoints(&self) -> Result<Vec<SourceCheckpoint>, VerifyError> {
        let topic = &self.settings.checkpoint_topic;
        let mut last: BTreeMap<Vec<u8>, SourceCheckpoint> = BTreeMap::new();
        let mut wrong = None;
        self.read_whole(topic, |message| {
            let (Some(key), Some(value)) = (message.key(), message.payload()) else {
                return;
            };
            match SourceCheckpoint::from_json(value) {
                Ok(checkpoint) => drop(last.insert(key.to_vec(), checkpoint)),
                Err(source) => {
                    wrong = Some(VerifyError::Checkpoint {
                        topic: topic.clone(),
                        source,
                    })
                }
            }
        })?;
        match wrong {
            Some(error) => Err(error),
            None => Ok(last.into_values().collect()),
        }
    }

    /// All dead letters. One that was written twice counts once: its key is the place it came from. One
    /// that was sent on its way again counts no more.
    pub(crate) fn dead_letters(&self) -> Result<DeadLetterCensus, VerifyError> {
        let mut places: HashMap<Vec<u8>, Option<(String, i64)>> = HashMap::new();
        let mut given_up: HashSet<Vec<u8>> = HashSet::new();
        let mut census = DeadLetterCensus::default();
        // Everything under one key is in one partition, in its order.
        self.read_whole(&self.settings.dead_letter_topic, |message| {
            let place = message.key().unwrap_or_default().to_vec();
            let headers = message.headers();
            if headers.is_some_and(|headers| header(headers, dead_letter::REDRIVEN).is_some()) {
                if let Some(Some((source, offset))) = places.remove(&place) {
                    census.redriven.entry(source).or_default().insert(offset);
                }
                return;
            }
            if headers.is_some_and(|headers| header(headers, dead_letter::DISCARDED).is_some()) {
                given_up.insert(place);
                return;
            }
            given_up.remove(&place);
            let identity = headers.and_then(|headers| {
                let source = header(headers, dead_letter::SOURCE)?;
                Some((
                    source.to_owned(),
                    header(headers, dead_letter::SOURCE_OFFSET)?.parse().ok()?,
                ))
            });
            places.insert(place, identity);
        })?;
        for (place, identity) in places {
            match identity {
                Some((source, offset)) => {
                    if given_up.contains(&place) {
                        let discarded = census.discarded.entry(source.clone()).or_default();
                        discarded.insert(offset);
                    }
                    census.by_source.entry(source).or_default().insert(offset);
                }
                None => census.without_identity += 1,
            }
        }
        Ok(census)
    }

    /// End of each partition of the topic, open transactions included: the markers that end one
    /// transaction reach its partitions one after another, so a checkpoint can be read before the
    /// records it covers can. They are there already, and the ingester closes them once they can be read.
    pub(crate) fn ends(&self) -> Result<Vec<(i32, i64)>, VerifyError> {
        let consumer = self.consumer_at(None, "read_uncommitted")?;
        self.bounds(&consumer, &self.settings.topic).map(|bounds| {
            bounds
                .into_iter()
                .map(|(partition, _, end)| (partition, end))
                .collect()
        })
    }

    /// How much of each partition below `ends` the ingester has not closed.
    pub(crate) fn lags(&self, ends: &[(i32, i64)]) -> Result<Vec<PartitionLag>, VerifyError> {
        let consumer = self.consumer(Some(&self.settings.group))?;
        let mut list = TopicPartitionList::new();
        for (partition, _) in ends {
            list.add_partition(&self.settings.topic, *partition);
        }
        let committed = consumer
            .committed_offsets(list, TIMEOUT)
            .map_err(|source| {
                let action = "read committed offsets";
                let right = || format!("Describe on group {}", self.settings.group);
                match ClusterError::denied(&self.settings.kafka, &source, action, right) {
                    Some(denied) => self.cluster_error()(denied),
                    None => self.failed(action)(source),
                }
            })?;
        let lags = ends
            .iter()
            .map(|(partition, end)| {
                let committed = committed
                    .find_partition(&self.settings.topic, *partition)
                    .and_then(|element| match element.offset() {
                        Offset::Offset(offset) => Some(offset),
                        _ => None,
                    });
                let lag = (end - committed.unwrap_or(0)).max(0);
                PartitionLag {
                    partition: *partition,
                    end: *end,
                    committed,
                    lag,
                }
            })
            .collect();
        // The list must go before its consumer: librdkafka would wait for ever otherwise.
        drop(committed);
        Ok(lags)
    }

    fn consumer(&self, group: Option<&str>) -> Result<BaseConsumer, VerifyError> {
        self.consumer_at(group, "read_committed")
    }

    fn consumer_at(
        &self,
        group: Option<&str>,
        isolation: &str,
    ) -> Result<BaseConsumer, VerifyError> {
        self.settings
            .kafka
            .client_config("contrail-verify")
            .set("group.id", group.unwrap_or("contrail-verify"))
            .set("isolation.level", isolation)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .create()
            .map_err(self.failed("make a client"))
    }

    fn failed(&self, action: &str) -> impl FnOnce(KafkaError) -> VerifyError + use<> {
        let (action, brokers) = (action.to_owned(), self.settings.kafka.brokers.clone());
        move |source| VerifyError::Kafka {
            action,
            brokers,
            source: Box::new(source),
        }
    }

    fn cluster_error(&self) -> impl Fn(ClusterError) -> VerifyError + use<> {
        let brokers = self.settings.kafka.brokers.clone();
        move |source| VerifyError::Cluster {
            brokers: brokers.clone(),
            source: Box::new(source),
        }
    }

    /// An error of reading a topic, which it may be that we have no right to.
    fn unread(&self, topic: &str, source: KafkaError) -> VerifyError {
        let action = format!("read topic {topic}");
        let right = || format!("Read and Describe on topic {topic}");
        match ClusterError::denied(&self.settings.kafka, &source, &action, right) {
            Some(denied) => self.cluster_error()(denied),
            None => self.failed(&action)(source),
        }
    }

    /// First offset and end of each partition of a topic.
    pub(crate) fn bounds_of(&self, topic: &str) -> Result<Vec<(i32, i64, i64)>, VerifyError> {
        let consumer = self.consumer_at(None, "read_uncommitted")?;
        self.bounds(&consumer, topic)
    }

    fn bounds(
        &self,
        consumer: &BaseConsumer,
        topic: &str,
    ) -> Result<Vec<(i32, i64, i64)>, VerifyError> {
        let metadata = consumer
            .fetch_metadata(Some(topic), TIMEOUT)
            .map_err(self.failed(&format!("describe topic {topic}")))?;
        let partitions = metadata
            .topics()
            .first()
            .map(|t| t.partitions().len())
            .unwrap_or(0);
        (0..partitions as i32)
            .map(|partition| {
                consumer
                    .fetch_watermarks(topic, partition, TIMEOUT)
                    .map(|(low, high)| (partition, low, high))
                    .map_err(|source| self.unread(topic, source))
            })
            .collect()
    }

    /// Reads everything that is committed in a topic at this moment.
    pub(crate) fn read_whole(
        &self,
        topic: &str,
        mut take: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), VerifyError> {
        let consumer = self.consumer(None)?;
        let bounds = self.bounds(&consumer, topic)?;
        let starts = bounds
            .into_iter()
            .filter(|(_, low, high)| high > low)
            .map(|(partition, ..)| (partition, Offset::Beginning))
            .collect();
        self.read(&consumer, topic, starts, |message| {
            take(message);
            ControlFlow::Continue(())
        })
    }

    /// Reads partitions of a topic from where it is said to their ends, under an isolation level, until
    /// `take` has seen enough.
    pub(crate) fn read_from(
        &self,
        topic: &str,
        isolation: &str,
        starts: Vec<(i32, Offset)>,
        take: impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> Result<(), VerifyError> {
        let consumer = self.consumer_at(None, isolation)?;
        self.read(&consumer, topic, starts, take)
    }

    /// The first offset of each partition that is as new as a time, in milliseconds UTC.
    pub(crate) fn offsets_since(
        &self,
        topic: &str,
        since_ms: i64,
    ) -> Result<Vec<(i32, Offset)>, VerifyError> {
        let failed = || self.failed(&format!("look for a time in topic {topic}"));
        let consumer = self.consumer_at(None, "read_uncommitted")?;
        let mut times = TopicPartitionList::new();
        for (partition, ..) in self.bounds(&consumer, topic)? {
            times
                .add_partition_offset(topic, partition, Offset::Offset(since_ms))
                .map_err(failed())?;
        }
        let found = consumer
            .offsets_for_times(times, TIMEOUT)
            .map_err(failed())?;
        let starts = found
            .elements()
            .iter()
            .map(|element| (element.partition(), element.offset()))
            .collect();
        drop(found);
        Ok(starts)
    }

    fn read(
        &self,
        consumer: &BaseConsumer,
        topic: &str,
        starts: Vec<(i32, Offset)>,
        mut take: impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> Result<(), VerifyError> {
        if starts.is_empty() {
            return Ok(());
        }
        // A topic that is written to all the time may have no end that is met: what is in it now is enough.
        let ends = self.bounds(consumer, topic)?;
        let mut open: BTreeMap<i32, i64> = ends
            .into_iter()
            .filter(|(partition, ..)| starts.iter().any(|(start, _)| start == partition))
            .map(|(partition, _, end)| (partition, end))
            .collect();
        let mut list = TopicPartitionList::new();
        for (partition, start) in starts {
            list.add_partition_offset(topic, partition, start)
                .map_err(self.failed(&format!("read topic {topic}")))?;
        }
        consumer
            .assign(&list)
            .map_err(self.failed(&format!("read topic {topic}")))?;
        while !open.is_empty() {
            match consumer.poll(TIMEOUT) {
                Some(Ok(message)) => {
                    let Some(end) = open.get(&message.partition()) else {
                        continue;
                    };
                    if message.offset() + 1 >= *end {
                        open.remove(&message.partition());
                    }
                    if take(&message).is_break() {
                        return Ok(());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
                // We are in no group.
                Some(Err(source))
                    if source.rdkafka_error_code()
                        == Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {}
                Some(Err(source)) => return Err(self.unread(topic, source)),
                None => {
                    let source =
                        KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
                    return Err(self.failed(&format!("read topic {topic} to its end"))(
                        source,
                    ));
                }
            }
        }
        Ok(())
    }
}

/// True if the same question may be answered later: after a crash it takes some seconds until every
/// partition has a leader.
fn is_passing(error: &VerifyError) -> bool {
    match error {
        VerifyError::Kafka { .. } => true,
        VerifyError::Cluster { source, .. } => match &**source {
            ClusterError::Request { .. } => true,
            ClusterError::Unreachable { is_certain, .. } => !is_certain,
            _ => false,
        },
        _ => false,
    }
}
