//! Parts of the work, alone: none of it can be done faster than these.

use std::time::Instant;

use anyhow::{Result, ensure};
use contrail::Stack;
use contrail::component::Component::{Clickhouse, Kafka};
use flight::avro::{Decoder, POSITION_SCHEMA, Record};
use flight::clickhouse::ClickhouseSettings;
use flight_ingester::batch::Batch;
use flight_ingester::decode::decode;
use flight_ingester::settings::BatchSettings;
use flight_ingester::store::Store;
use flight_mock::Simulator;
use rdkafka::bindings as ffi;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::ask;
use super::backlog::{Backlog, PARTITIONS, TOPIC};
use crate::cpu::Meter;
use crate::rounds::Run;
use crate::world::pid;

/// Rows of one block, and blocks, of the insert alone.
const BLOCK_ROWS: usize = 250_000;
const BLOCKS: usize = 12;

/// What is done with each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    Nothing,
    /// It is decoded, judged, and encoded into a block.
    Decode,
}

/// Consumes everything once, with librdkafka's own limits for its queues.
pub fn consume(stack: &Stack, backlog: &Backlog, work: Work) -> Result<Run> {
    let consumer: BaseConsumer = backlog
        .kafka
        .client_config("contrail-bench-consume")
        .set("group.id", "contrail-bench-consume")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        // Else it looks again at a queue that was full only after a second.
        .set("fetch.queue.backoff.ms", "10")
        .create()?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(TOPIC, partition, Offset::Beginning)?;
    }
    let decoder = Decoder::new(1, POSITION_SCHEMA)?;
    let max_rows = BatchSettings::default().max_rows;
    let mut batch = Batch::default();
    let us = std::process::id();
    Run::measure([("kafka", pid(stack, Kafka)?), ("consumer", us)], || {
        consumer.assign(&partitions)?;
        let queue = ConsumerQueue::of(&consumer);
        let mut taken = 0;
        while taken < backlog.records {
            taken += queue.take(backlog.records - taken, |payload, timestamp_ms| {
                if work == Work::Nothing {
                    return Ok(());
                }
                let mut scratch = None;
                let record = decode(&decoder, payload, timestamp_ms, &mut scratch)?;
                batch.push(&record, false);
                if batch.len() >= max_rows {
                    batch.clear();
                }
                Ok(())
            })?;
        }
        Ok(taken)
    })
}

/// The queue of a consumer, emptied by many records at a time: the quickest way that librdkafka has.
struct ConsumerQueue(*mut ffi::rd_kafka_queue_t);

impl ConsumerQueue {
    fn of(consumer: &BaseConsumer) -> Self {
        // SAFETY: the client lives; the queue is destroyed in `drop`, before the consumer.
        Self(unsafe { ffi::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) })
    }

    /// Hands out the next records, of which `left` are to come, value and time of each, and gives their
    /// number. librdkafka waits until there are as many as it was asked for.
    fn take(
        &self,
        left: u64,
        mut each: impl FnMut(&[u8], Option<i64>) -> Result<()>,
    ) -> Result<u64> {
        let mut messages = [std::ptr::null_mut(); 4096];
        let wanted = messages.len().min(left as usize);
        // SAFETY: the queue lives, and there is room for as many messages as it says.
        let count = unsafe {
            ffi::rd_kafka_consume_batch_queue(self.0, 10_000, messages.as_mut_ptr(), wanted)
        };
        ensure!(count > 0, "the topic ended early");
        let (mut records, mut outcome) = (0, Ok(()));
        for message in &messages[..count as usize] {
            // SAFETY: librdkafka gave it, with a value of that length, and it is destroyed below.
            let (code, payload, timestamp_ms) = unsafe {
                let raw = &**message;
                let payload = match raw.payload.is_null() {
                    true => &[][..],
                    false => std::slice::from_raw_parts(raw.payload.cast::<u8>(), raw.len),
                };
                let ms = ffi::rd_kafka_message_timestamp(*message, std::ptr::null_mut());
                (raw.err, payload, ms)
            };
            if code == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                records += 1;
                outcome = outcome.and_then(|()| each(payload, Some(timestamp_ms)));
            }
            // SAFETY: it is not used any more.
            unsafe { ffi::rd_kafka_message_destroy(*message) };
        }
        outcome.map(|()| records)
    }
}

impl Drop for ConsumerQueue {
    fn drop(&mut self) {
        // SAFETY: made in `of`, destroyed nowhere else.
        unsafe { ffi::rd_kafka_queue_destroy(self.0) }
    }
}

/// Makes blocks of the backlog's events, then inserts them on two connections, each under a token.
pub async fn insert(stack: &Stack, backlog: &Backlog) -> Result<Run> {
    ask(stack, "TRUNCATE TABLE flight_data.flight_positions SYNC")?;
    let rows = BLOCKS * BLOCK_ROWS;
    ensure!(rows as u64 <= backlog.records, "too few events");
    let simulator = Simulator::new(backlog.parameters)?;
    let source = backlog.parameters.source_name();
    let mut blocks = Vec::new();
    for first in (0..rows).step_by(BLOCK_ROWS) {
        let mut batch = Batch::default();
        for offset in first..first + BLOCK_ROWS {
            let position = simulator.event(offset as i64)?.position();
            let record = Record {
                source: &source,
                source_offset: offset as i64,
                position: position.by_ref(),
            };
            batch.push(&record, false);
        }
        blocks.push(batch.block(u32::MAX));
    }
    let store = Store::new(&ClickhouseSettings {
        url: stack.url(Clickhouse),
        ..ClickhouseSettings::default()
    })?;
    let us = std::process::id();
    let engine = pid(stack, Clickhouse)?;
    let meter = Meter::start([("client", us), ("clickhouse-embedded", engine)])?;
    let begun = Instant::now();
    let half = |which: usize| {
        let (store, blocks) = (&store, &blocks);
        async move {
            for (number, block) in blocks.iter().enumerate().skip(which).step_by(2) {
                store
                    .insert(block, &format!("limit-{begun:?}-{number}"))
                    .await?;
            }
            anyhow::Ok(())
        }
    };
    tokio::try_join!(half(0), half(1))?;
    Ok(Run {
        events: rows as u64,
        elapsed: begun.elapsed(),
        cpu: meter.stop()?,
    })
}
