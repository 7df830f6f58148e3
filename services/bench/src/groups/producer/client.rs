//! librdkafka alone: records made beforehand, produced in a loop by its plainest call.

use std::ffi::CString;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use contrail::Component;
use rdkafka::bindings as ffi;
use rdkafka::producer::{BaseProducer, Producer};

use super::Cluster;
use super::events::Events;
use crate::rounds::Run;

/// As flight-producer's.
const COMMIT_EVENTS: usize = 50_000;
const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
/// `RD_KAFKA_PARTITION_UA`.
const PARTITION_BY_KEY: i32 = -1;
/// Longest time for what blocks.
const LIMIT: Duration = Duration::from_secs(30);

/// What is promised of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are in transactions as flight-producer's are.
    Transactions,
    /// Each is there once.
    Idempotent,
}

/// From the first call to the last commit, or the last acknowledgement.
pub fn produce(
    cluster: &Cluster<'_>,
    name: &str,
    events: &Events,
    count: usize,
    mode: Mode,
) -> Result<Run> {
    let topic = cluster.make(name)?;
    let defaults = flight_producer::MemorySettings::default();
    let mut config = cluster.kafka.client_config("bench");
    // flight-producer's own settings, see its `kafka_client`.
    for (name, value) in [
        ("compression.type", "lz4"),
        ("linger.ms", "5"),
        ("enable.idempotence", "true"),
        ("partitioner", "murmur2_random"),
        ("batch.size", "1000000"),
        ("delivery.report.only.error", "true"),
    ] {
        config.set(name, value);
    }
    config
        .set(
            "queue.buffering.max.kbytes",
            defaults.kafka_queue_kib.to_string(),
        )
        .set(
            "queue.buffering.max.messages",
            defaults.kafka_queue_records.to_string(),
        );
    if mode == Mode::Transactions {
        config.set("transactional.id", name);
    }
    let producer: BaseProducer = config.create()?;
    if mode == Mode::Transactions {
        producer.init_transactions(LIMIT)?;
    }
    let handle = Handle::new(&producer, &topic.name)?;
    let processes = [
        ("librdkafka", std::process::id()),
        (Component::Kafka.name(), cluster.kafka_pid()?),
    ];
    Run::measure(processes, || {
        let mut began = None;
        let mut open = 0;
        for (key, value) in events.records().take(count) {
            if mode == Mode::Transactions && began.is_none() {
                producer.begin_transaction()?;
                began = Some(std::time::Instant::now());
            }
            handle.send(&producer, key, value)?;
            open += 1;
            // The clock is looked at as often as flight-producer does: once a batch.
            let is_late =
                open % 3_000 == 0 && began.is_some_and(|began| began.elapsed() >= COMMIT_INTERVAL);
            if mode == Mode::Transactions && (open >= COMMIT_EVENTS || is_late) {
                flush(&producer)?;
                producer.commit_transaction(LIMIT)?;
                (began, open) = (None, 0);
            }
        }
        flush(&producer)?;
        if began.is_some() {
            producer.commit_transaction(LIMIT)?;
        }
        ensure!(producer.in_flight_count() == 0, "not everything was sent");
        Ok(count as u64)
    })
}

/// librdkafka's own, as flight-producer's: the Rust client looks only each 100 ms whether all is written.
fn flush(producer: &BaseProducer) -> Result<()> {
    let client = producer.client().native_ptr();
    // SAFETY: the client lives.
    let result = unsafe { ffi::rd_kafka_flush(client, LIMIT.as_millis() as i32) };
    ensure!(
        result == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
        "not everything was written within {LIMIT:?}: {result:?}"
    );
    Ok(())
}

/// A topic as librdkafka's plain call wants it.
struct Handle(*mut ffi::rd_kafka_topic_t);

impl Handle {
    fn new(producer: &BaseProducer, topic: &str) -> Result<Self> {
        let name = CString::new(topic)?;
        // SAFETY: the client lives, and no settings means its own; the name is copied.
        let handle = unsafe {
            ffi::rd_kafka_topic_new(
                producer.client().native_ptr(),
                name.as_ptr(),
                std::ptr::null_mut(),
            )
        };
        ensure!(!handle.is_null(), "librdkafka refuses topic {topic}");
        Ok(Self(handle))
    }

    fn send(&self, producer: &BaseProducer, key: &[u8], value: &[u8]) -> Result<()> {
        loop {
            // SAFETY: handle and client live; key and value are copied before it returns.
            let result = unsafe {
                ffi::rd_kafka_produce(
                    self.0,
                    PARTITION_BY_KEY,
                    ffi::RD_KAFKA_MSG_F_COPY,
                    value.as_ptr().cast_mut().cast(),
                    value.len(),
                    key.as_ptr().cast(),
                    key.len(),
                    std::ptr::null_mut(),
                )
            };
            if result == 0 {
                return Ok(());
            }
            // SAFETY: it reads a value of this thread.
            match unsafe { ffi::rd_kafka_last_error() } {
                ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__QUEUE_FULL => {
                    producer.poll(Duration::from_millis(1));
                }
                error => bail!("rd_kafka_produce: {error:?}"),
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it was made by `rd_kafka_topic_new` and is destroyed once.
        unsafe { ffi::rd_kafka_topic_destroy(self.0) }
    }
}
