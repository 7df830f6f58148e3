//! The queue of one partition, read by a thread of its own.
//!
//! Each partition has its own so that one that is slow to insert holds up no other, and so that not
//! reading is the back-pressure: librdkafka stops fetching a partition whose queue is full. The safe
//! client has partition queues too, but does not show the offset at which a partition ends.
//!
//! Many records are taken at once by a callback (`rd_kafka_consume_callback_queue`): taken one by one, each
//! costs a lock and a look at the clock, which is as much as decoding it. It has a price: librdkafka 2.12
//! pauses a partition at a cooperative rebalance and fetches again from where the application was, and on
//! this path a transaction's marker moves that position even if it, and the records before it, were fetched
//! before the pause and are thrown away. So some records may be left out, always with a marker at their end.
//! [`Gaps`](super::gaps::Gaps) finds that, and they are read again. Taken as an array
//! (`rd_kafka_consume_batch_queue`), one record may be left out without a marker, which nobody can find.

use std::any::Any;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::slice;
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::RDKafkaErrorCode;

/// What the queue gave.
#[derive(Debug)]
pub enum Polled<'a> {
    /// A record.
    Record(Message<'a>),
    /// The last record once more. At a cooperative rebalance librdkafka pauses the partition; a record
    /// that is being handed out at that moment is handed out again afterwards, which is no reason to
    /// believe that the log went back.
    Repeated,
    /// Everything below this offset has been delivered.
    End(i64),
    /// The partition cannot be read at present.
    Error(RDKafkaErrorCode),
}

/// A partition's queue. It must be dropped before the consumer is.
pub struct PartitionQueue {
    client: *mut ffi::rd_kafka_t,
    topic: CString,
    partition: i32,
    queue: *mut ffi::rd_kafka_queue_t,
    /// The message that was handed out last by [`next`](Self::next), or null.
    message: *mut ffi::rd_kafka_message_t,
    /// It is to be handed out again.
    again: bool,
    last: Last,
}

// SAFETY: librdkafka's clients and queues may be used from any thread; the message is owned by whoever
// owns the queue, and nothing here is shared.
unsafe impl Send for PartitionQueue {}

impl PartitionQueue {
    /// Splits the partition's queue off the consumer's. Done before the partition is assigned, no
    /// record can go the other way.
    ///
    /// `None` if the client is being closed, or the topic's name has a zero byte.
    pub fn split<C: ClientContext>(
        client: &Client<C>,
        topic: &str,
        partition: i32,
    ) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        let client = client.native_ptr();
        // SAFETY: the client lives; the queue is checked for null and destroyed in `drop`.
        let queue = unsafe { ffi::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition) };
        if queue.is_null() {
            return None;
        }
        // SAFETY: as above. Forwarding to null stops the forwarding to the consumer's queue.
        unsafe { ffi::rd_kafka_queue_forward(queue, ptr::null_mut()) };
        Some(Self {
            client,
            topic,
            partition,
            queue,
            message: ptr::null_mut(),
            again: false,
            last: Last::default(),
        })
    }

    /// The next message, after waiting up to `timeout` for one.
    pub fn next(&mut self, timeout: Duration) -> Option<Polled<'_>> {
        let again = std::mem::take(&mut self.again);
        if !again {
            destroy(&mut self.message);
            // SAFETY: the queue lives as long as `self`; the message is destroyed above or in `clear`.
            self.message = unsafe { ffi::rd_kafka_consume_queue(self.queue, whole_ms(timeout)) };
        }
        // SAFETY: null, or not destroyed before the next call, and the borrow of `self` ends before that.
        let raw = unsafe { self.message.as_ref() }?;
        Some(match again {
            true => Polled::Record(Message { raw }),
            false => self.last.judge(raw),
        })
    }

    /// Hands every message that is there to `each`, after waiting up to `timeout` for the first, until
    /// it breaks: what it has not seen stays in the queue. Gives the number that it has seen.
    pub fn drain(
        &mut self,
        timeout: Duration,
        mut each: impl FnMut(Polled<'_>) -> ControlFlow<()>,
    ) -> usize {
        if self.again {
            return self.next(timeout).map(each).iter().count();
        }
        let mut drain = Drain {
            client: self.client,
            last: &mut self.last,
            each: &mut each,
            seen: 0,
            panic: None,
        };
        let opaque: *mut Drain<'_> = &mut drain;
        // SAFETY: the queue lives as long as `self`. The callback is only called during this call, on this
        // thread, with the pointer to `drain`, which nothing else touches meanwhile.
        unsafe {
            ffi::rd_kafka_consume_callback_queue(
                self.queue,
                whole_ms(timeout),
                Some(deliver),
                opaque.cast(),
            )
        };
        if let Some(panic) = drain.panic {
            resume_unwind(panic);
        }
        drain.seen
    }

    /// The offset behind the last committed record, as the broker said with the last records that it sent;
    /// `None` before.
    pub fn end(&self) -> Option<i64> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client lives longer than its queues, and there is room for both answers.
        let code = unsafe {
            ffi::rd_kafka_get_watermark_offsets(
                self.client,
                self.topic.as_ptr(),
                self.partition,
                &mut low,
                &mut high,
            )
        };
        (code == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }

    /// Gives the message that [`next`](Self::next) returned back: it will return it again.
    pub fn unread(&mut self) {
        self.again = !self.message.is_null();
    }

    /// Forgets every message, as after a seek.
    pub fn clear(&mut self) {
        self.again = false;
        self.last = Last::default();
        destroy(&mut self.message);
    }
}

fn whole_ms(timeout: Duration) -> i32 {
    timeout.as_millis().min(60_000) as i32
}

fn destroy(message: &mut *mut ffi::rd_kafka_message_t) {
    let message = std::mem::replace(message, ptr::null_mut());
    if !message.is_null() {
        // SAFETY: librdkafka gave it to us, and it is taken out of the only place that has it.
        unsafe { ffi::rd_kafka_message_destroy(message) };
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        self.clear();
        // SAFETY: made in `split`, destroyed nowhere else.
        unsafe { ffi::rd_kafka_queue_destroy(self.queue) }
    }
}

/// The record that was handed out last: see [`Polled::Repeated`].
#[derive(Debug, Default)]
struct Last {
    offset: Option<i64>,
    has_payload: bool,
    payload: Vec<u8>,
}

impl Last {
    /// What a message is, and remembers it if it is a record.
    fn judge<'a>(&mut self, raw: &'a ffi::rd_kafka_message_t) -> Polled<'a> {
        match RDKafkaErrorCode::from(raw.err) {
            RDKafkaErrorCode::NoError => {
                let message = Message { raw };
                let payload = message.payload();
                if self.offset == Some(message.offset())
                    && payload == self.has_payload.then_some(&self.payload[..])
                {
                    return Polled::Repeated;
                }
                self.offset = Some(message.offset());
                self.has_payload = payload.is_some();
                self.payload.clear();
                self.payload.extend_from_slice(payload.unwrap_or_default());
                Polled::Record(message)
            }
            RDKafkaErrorCode::PartitionEOF => Polled::End(raw.offset),
            code => Polled::Error(code),
        }
    }
}

/// One call of [`PartitionQueue::drain`].
struct Drain<'a> {
    client: *mut ffi::rd_kafka_t,
    last: &'a mut Last,
    each: &'a mut dyn FnMut(Polled<'_>) -> ControlFlow<()>,
    seen: usize,
    panic: Option<Box<dyn Any + Send>>,
}

/// Called by librdkafka for each message, which it destroys afterwards.
unsafe extern "C" fn deliver(message: *mut ffi::rd_kafka_message_t, drain: *mut c_void) {
    // SAFETY: `drain` is what `PartitionQueue::drain` passed; the message lives until we return.
    let (drain, raw) = unsafe { (&mut *drain.cast::<Drain<'_>>(), &*message) };
    drain.seen += 1;
    let polled = drain.last.judge(raw);
    // A panic must not go through C.
    let flow = catch_unwind(AssertUnwindSafe(|| (drain.each)(polled)));
    let flow = flow.unwrap_or_else(|panic| {
        drain.panic = Some(panic);
        ControlFlow::Break(())
    });
    if flow.is_break() {
        // SAFETY: the client lives longer than its queues. What was taken and not handed out goes back.
        unsafe { ffi::rd_kafka_yield(drain.client) };
    }
}

/// A record, while it is being looked at.
pub struct Message<'a> {
    raw: &'a ffi::rd_kafka_message_t,
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("offset", &self.offset())
            .finish_non_exhaustive()
    }
}

impl Message<'_> {
    /// Offset in the partition.
    pub fn offset(&self) -> i64 {
        self.raw.offset
    }

    /// The value; `None` for a tombstone.
    pub fn payload(&self) -> Option<&[u8]> {
        // SAFETY: librdkafka keeps `len` bytes there as long as the message lives.
        unsafe { bytes(self.raw.payload, self.raw.len) }
    }

    /// The key, if there is one.
    pub fn key(&self) -> Option<&[u8]> {
        // SAFETY: as for the payload.
        unsafe { bytes(self.raw.key, self.raw.key_len) }
    }

    /// When the producer sent the record, in milliseconds UTC, if it says so.
    pub fn timestamp_ms(&self) -> Option<i64> {
        let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives, and `kind` is a place for the answer.
        let ms = unsafe { ffi::rd_kafka_message_timestamp(self.raw, &mut kind) };
        (kind != ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && ms >= 0)
            .then_some(ms)
    }

    /// Whether there may be headers. For a record without any, librdkafka makes a parser to find that out,
    /// and drops it, which is a twelfth of all that a record costs.
    fn may_have_headers(&self) -> bool {
        // SAFETY: the message lives.
        let epoch = unsafe { ffi::rd_kafka_message_leader_epoch(self.raw) };
        // Only the record format of version 2 has headers, and only records of that have an epoch. A value
        // that is absent or empty is not where it was in the batch.
        if epoch < 0 || self.raw.payload.is_null() || self.raw.len == 0 {
            return true;
        }
        // SAFETY: librdkafka hands records out where they lie in the decompressed batch, and keeps that as
        // long as the message lives. In a record, the value is followed by the number of headers, as a
        // varint of at least one byte (Kafka's protocol guide, "Record").
        unsafe { *self.raw.payload.cast::<u8>().add(self.raw.len) != 0 }
    }

    /// The headers: names and values. Most records have none.
    pub fn headers(&self) -> Vec<(&str, &[u8])> {
        if !self.may_have_headers() {
            return Vec::new();
        }
        let mut headers = ptr::null_mut();
        // SAFETY: the message lives; the headers live as long as it does. The index stops at the
        // first error, and names are C strings.
        unsafe {
            let code = ffi::rd_kafka_message_headers(self.raw, &mut headers);
            if code != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Vec::new();
            }
            let mut found = Vec::new();
            let (mut name, mut value, mut size) =
                (ptr::null::<c_char>(), ptr::null::<c_void>(), 0usize);
            while ffi::rd_kafka_header_get_all(
                headers,
                found.len(),
                &mut name,
                &mut value,
                &mut size,
            ) == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                let name = CStr::from_ptr(name).to_str().unwrap_or("not-utf-8");
                found.push((name, bytes(value.cast_mut(), size).unwrap_or_default()));
            }
            found
        }
    }
}

/// # Safety
/// `data` is null, or there are `length` bytes that live as long as `'a`.
unsafe fn bytes<'a>(data: *mut c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller vouches for it.
    (!data.is_null()).then(|| unsafe { slice::from_raw_parts(data.cast::<u8>(), length) })
}
