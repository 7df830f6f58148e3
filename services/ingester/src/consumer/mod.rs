//! Membership of the consumer group: a thread for each assigned partition, started when the
//! partition comes and joined before it goes.
//!
//! The broker refuses commits of a member that lost its place, but it checks the member and not the
//! partition: a commit for a partition that was taken from us and given to another would be accepted
//! as long as we are in the group. So the callback that tells of a revoked partition stops that
//! partition's thread and waits for it before it returns, and nothing else commits or inserts for it.
//! Only then does librdkafka let the group go on.

pub mod gaps;
pub mod queue;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use flight::kafka::{KafkaError, Trouble};
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::types::RDKafkaErrorCode;

use crate::error::IngestError;
use crate::partition::{self, PartitionContext, Stop};
use crate::settings::Settings;
use queue::PartitionQueue;

/// How long partitions may take to publish what they hold when the service ends.
const DRAIN_LIMIT: Duration = Duration::from_secs(6);

/// How often is looked whether a thread that was told to end has.
const JOIN: Duration = Duration::from_millis(5);

/// How records are fetched; the operator may choose otherwise (`kafka.properties`).
///
/// Memory: for each partition at most so many kilobytes wait in its queue, and one answer of the broker, which
/// is compressed. The client keeps some 400 bytes for each record beside its own. It looks at a queue that was
/// full again after `fetch.queue.backoff.ms`, by default a second: with 20 ms queues ran empty meanwhile, unless
/// fetches were twice as large.
const FETCHING: [(&str, &str); 5] = [
    ("fetch.wait.max.ms", "100"),
    ("queued.max.messages.kbytes", "512"),
    ("queued.min.messages", "1000"),
    ("fetch.message.max.bytes", "524288"),
    ("fetch.queue.backoff.ms", "4"),
];

/// The consumer with its assignments.
pub type GroupConsumer = BaseConsumer<GroupContext>;

/// What happens when partitions come and go.
pub struct GroupContext {
    topic: String,
    shared: Arc<PartitionContext>,
    assigned: Mutex<HashMap<i32, Assigned>>,
    /// Queues that were split off before the assignment and wait for their threads.
    split: Mutex<HashMap<i32, PartitionQueue>>,
    consumer: OnceLock<Weak<GroupConsumer>>,
    rebalances: AtomicU64,
    trouble: Trouble,
}

struct Assigned {
    stop: Stop,
    thread: JoinHandle<()>,
}

/// Notices the end of a partition's thread that nobody asked for: then the process must end, or the
/// partition would stand still in silence.
struct EndWatch {
    stop: Stop,
    shared: Arc<PartitionContext>,
}

impl Drop for EndWatch {
    fn drop(&mut self) {
        if !self.stop.is_requested() {
            self.shared.failed.cancel();
        }
    }
}

impl ClientContext for GroupContext {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, "{message}");
    }

    fn error(&self, error: ClientError, reason: &str) {
        match self.trouble.note(&error, reason) {
            Some(news) => {
                tracing::warn!("kafka: {news}");
                self.shared.readiness.set("kafka", Err(news));
            }
            None => tracing::debug!(%error, reason, "kafka"),
        }
    }
}

impl ConsumerContext for GroupContext {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        // The partitions that stay were paused before, and are read again only after this.
        self.rebalances.fetch_add(1, Ordering::SeqCst);
        match rebalance {
            Rebalance::Assign(partitions) => {
                let mut split = lock(&self.split);
                for partition in numbers(partitions) {
                    if let Some(queue) =
                        PartitionQueue::split(consumer.client(), &self.topic, partition)
                    {
                        split.insert(partition, queue);
                    }
                }
            }
            Rebalance::Revoke(partitions) => {
                let lost = consumer.assignment_lost();
                tracing::info!(partitions = ?numbers(partitions), lost, "partitions go");
                self.end(&numbers(partitions), Stop::revoke);
            }
            Rebalance::Error(error) => tracing::error!(%error, "rebalance failed"),
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(partitions) = rebalance else {
            return;
        };
        let partitions = numbers(partitions);
        tracing::info!(?partitions, "partitions come");
        if partitions.is_empty() {
            // More members than partitions: standing by is all there is to do.
            self.shared.readiness.set("partitions", Ok(()));
        }
        for partition in partitions {
            self.begin(partition);
        }
    }
}

impl GroupContext {
    /// How many rebalances there were.
    pub fn rebalances(&self) -> u64 {
        self.rebalances.load(Ordering::SeqCst)
    }

    fn begin(&self, partition: i32) {
        let Some(queue) = lock(&self.split).remove(&partition) else {
            tracing::error!(partition, "assigned without a queue");
            // Nobody would read it: the process must end and begin again.
            self.shared.failed.cancel();
            return;
        };
        let Some(consumer) = self.consumer.get().and_then(Weak::upgrade) else {
            return;
        };
        let stop = Stop::default();
        let shared = self.shared.clone();
        let its_stop = stop.clone();
        let thread = std::thread::Builder::new()
            .name(format!("partition-{partition}"))
            .spawn(move || {
                let _watch = EndWatch {
                    stop: its_stop.clone(),
                    shared: shared.clone(),
                };
                partition::run(partition, consumer, queue, shared, its_stop);
            });
        match thread {
            Ok(thread) => {
                lock(&self.assigned).insert(partition, Assigned { stop, thread });
                self.shared.metrics.partitions_assigned.inc();
            }
            Err(error) => {
                tracing::error!(partition, %error, "no thread for the partition");
                self.shared.failed.cancel();
            }
        }
    }

    /// Tells the threads of these partitions to end, and waits for them.
    fn end(&self, partitions: &[i32], how: fn(&Stop)) {
        let mut assigned = lock(&self.assigned);
        let ending: Vec<Assigned> = partitions
            .iter()
            .filter_map(|p| assigned.remove(p))
            .collect();
        drop(assigned);
        ending.iter().for_each(|partition| how(&partition.stop));
        for partition in ending {
            // What it is at may take as long as its timeouts allow.
            while !partition.thread.is_finished() {
                self.shared.pulses.sign_of_life(&self.shared.readiness);
                std::thread::sleep(JOIN);
            }
            if partition.thread.join().is_err() {
                tracing::error!("the thread of a partition panicked");
            }
            self.shared.metrics.partitions_assigned.dec();
        }
    }

    fn all(&self) -> Vec<i32> {
        lock(&self.assigned).keys().copied().collect()
    }

    fn stops(&self) -> Vec<Stop> {
        lock(&self.assigned)
            .values()
            .map(|assigned| assigned.stop.clone())
            .collect()
    }
}

fn numbers(partitions: &TopicPartitionList) -> Vec<i32> {
    partitions
        .elements()
        .iter()
        .map(|element| element.partition())
        .collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One member of the group.
pub struct Member {
    consumer: Arc<GroupConsumer>,
    group: String,
    instance: String,
}

impl Member {
    /// Joins the group.
    ///
    /// # Errors
    /// The client's settings are wrong.
    pub fn join(settings: &Settings, shared: Arc<PartitionContext>) -> Result<Self, IngestError> {
        let context = GroupContext {
            topic: settings.topic.clone(),
            shared,
            assigned: Mutex::default(),
            split: Mutex::default(),
            consumer: OnceLock::new(),
            rebalances: AtomicU64::new(0),
            trouble: Trouble::new(&settings.kafka),
        };
        let mut config = settings.kafka.client_config("flight-ingester");
        for (name, value) in FETCHING {
            if !settings.kafka.properties.contains_key(name) {
                config.set(name, value);
            }
        }
        config
            .set("group.id", &settings.group.id)
            .set(
                "session.timeout.ms",
                settings.group.session_timeout_ms.to_string(),
            )
            .set("partition.assignment.strategy", &settings.group.assignment)
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest");
        if !settings.group.instance_id.is_empty() {
            config.set("group.instance.id", &settings.group.instance_id);
        }
        let failed = |action: &str| {
            let action = action.to_owned();
            move |source| IngestError::Kafka { action, source }
        };
        let consumer: Arc<GroupConsumer> = Arc::new(
            config
                .create_with_context(context)
                .map_err(failed("cannot make the consumer"))?,
        );
        // Set once, here; rebalances only come from `poll`.
        let _ = consumer.context().consumer.set(Arc::downgrade(&consumer));
        consumer
            .subscribe(&[&settings.topic])
            .map_err(failed("cannot subscribe"))?;
        Ok(Self {
            consumer,
            group: settings.group.id.clone(),
            instance: settings.group.instance_id.clone(),
        })
    }

    /// Serves the group for a moment: partitions come and go in here.
    ///
    /// # Errors
    /// Another process has this member's name; the process must end.
    pub fn poll(&self, timeout: Duration) -> Result<(), IngestError> {
        match self.consumer.poll(timeout) {
            None => {}
            Some(Ok(message)) => {
                // Queues are split off before the assignment, so nothing arrives here.
                drop(message);
                tracing::error!("a record arrived outside its partition's queue");
            }
            Some(Err(error)) => self.take_error(&error),
        }
        if self.consumer.context().shared.failed.is_cancelled() {
            return Err(IngestError::PartitionEnded);
        }
        if let Some((code, reason)) = self.consumer.client().fatal_error() {
            tracing::error!(?code, reason, "consumer cannot go on");
            if code == RDKafkaErrorCode::FencedInstanceId {
                return Err(IngestError::Fenced {
                    group: self.group.clone(),
                    instance: self.instance.clone(),
                });
            }
            return Err(IngestError::Kafka {
                action: format!("consumer of group {} cannot go on: {reason}", self.group),
                source: ClientError::Global(code),
            });
        }
        Ok(())
    }

    fn take_error(&self, error: &ClientError) {
        let shared = &self.consumer.context().shared;
        let settings = &shared.settings;
        let right = || match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
                format!("Read on group {}", settings.group.id)
            }
            _ => format!("Read and Describe on topic {}", settings.topic),
        };
        let action = format!("cannot read topic {}", settings.topic);
        match KafkaError::denied(&settings.kafka, error, &action, right) {
            Some(denied) => {
                tracing::warn!("{denied}");
                shared.readiness.set("kafka", Err(denied.to_string()));
            }
            None => tracing::warn!(%error, "consumer"),
        }
    }

    /// Publishes what each partition holds, closes its range and leaves the group.
    pub fn leave(self) {
        let context = self.consumer.context();
        let stops = context.stops();
        // A server that does not answer must not hold up the end: an open range is redone.
        std::thread::spawn(move || {
            std::thread::sleep(DRAIN_LIMIT);
            stops.iter().for_each(Stop::revoke);
        });
        context.end(&context.all(), Stop::drain);
        lock(&context.split).clear();
        drop(self.consumer);
    }

    /// Gives everything up at once, as when the member was fenced.
    pub fn abandon(self) {
        let context = self.consumer.context();
        context.end(&context.all(), Stop::revoke);
        lock(&context.split).clear();
    }
}
