//! Records for one topic, handed to librdkafka without what costs on every record: looking the topic
//! up by its name under a lock of the whole client, and building headers anew.

use std::ffi::CString;
use std::ptr;
use std::sync::Arc;

use rdkafka::bindings as ffi;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

/// Headers that records share.
#[derive(Debug, Default)]
pub(crate) struct RecordHeaders(Vec<(CString, Vec<u8>)>);

impl RecordHeaders {
    /// Those that have a value.
    pub(crate) fn new<'a>(headers: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let header = |(name, value): (&str, Option<&str>)| {
            // Names are constants without a zero byte.
            Some((CString::new(name).ok()?, value?.as_bytes().to_vec()))
        };
        Self(headers.into_iter().filter_map(header).collect())
    }
}

/// A topic that a producer writes to.
pub(crate) struct TopicWriter<C: ProducerContext + 'static> {
    /// Lives as long as the handle: librdkafka wants it so.
    producer: Arc<BaseProducer<C>>,
    handle: *mut ffi::rd_kafka_topic_t,
}

impl<C: ProducerContext + 'static> TopicWriter<C> {
    /// A topic with the producer's settings. Nothing is said to Kafka.
    pub(crate) fn new(producer: Arc<BaseProducer<C>>, topic: &str) -> Result<Self, ClientError> {
        let name = CString::new(topic)?;
        // SAFETY: the client lives; no settings means that it uses its own; the name is copied.
        let handle = unsafe {
            ffi::rd_kafka_topic_new(
                producer.client().native_ptr(),
                name.as_ptr(),
                ptr::null_mut(),
            )
        };
        if handle.is_null() {
            // SAFETY: it reads a value of this thread.
            let code = unsafe { ffi::rd_kafka_last_error() };
            return Err(ClientError::MessageProduction(code.into()));
        }
        Ok(Self { producer, handle })
    }

    /// Queues a copy of a record, for the partition of its key.
    ///
    /// # Errors
    /// The client's code: among others that its queue is full, or the record too large.
    pub(crate) fn produce(
        &self,
        key: &[u8],
        payload: &[u8],
        headers: &RecordHeaders,
    ) -> Result<(), RDKafkaErrorCode> {
        use ffi::rd_kafka_vtype_t as Type;
        let argument = |vtype, u| ffi::rd_kafka_vu_t { vtype, u };
        let memory = |vtype, bytes: &[u8]| {
            let mem = ffi::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
                ptr: bytes.as_ptr().cast_mut().cast(),
                size: bytes.len(),
            };
            argument(vtype, ffi::rd_kafka_vu_s__bindgen_ty_1 { mem })
        };
        let plain = [
            argument(
                Type::RD_KAFKA_VTYPE_RKT,
                ffi::rd_kafka_vu_s__bindgen_ty_1 { rkt: self.handle },
            ),
            argument(
                Type::RD_KAFKA_VTYPE_MSGFLAGS,
                ffi::rd_kafka_vu_s__bindgen_ty_1 {
                    i: ffi::RD_KAFKA_MSG_F_COPY,
                },
            ),
            memory(Type::RD_KAFKA_VTYPE_KEY, key),
            memory(Type::RD_KAFKA_VTYPE_VALUE, payload),
        ];
        if headers.0.is_empty() {
            return self.call(&plain);
        }
        let mut arguments = plain.to_vec();
        arguments.extend(headers.0.iter().map(|(name, value)| {
            let header = ffi::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_2 {
                name: name.as_ptr(),
                val: value.as_ptr().cast(),
                size: value.len() as isize,
            };
            argument(
                Type::RD_KAFKA_VTYPE_HEADER,
                ffi::rd_kafka_vu_s__bindgen_ty_1 { header },
            )
        }));
        self.call(&arguments)
    }

    fn call(&self, arguments: &[ffi::rd_kafka_vu_t]) -> Result<(), RDKafkaErrorCode> {
        // SAFETY: client and topic live; each argument has the member of the union that its type names;
        // what they point to lives until the call returns, and is copied by it. The error, if there is
        // one, is read before it is destroyed, once.
        unsafe {
            let error = ffi::rd_kafka_produceva(
                self.producer.client().native_ptr(),
                arguments.as_ptr(),
                arguments.len(),
            );
            if error.is_null() {
                return Ok(());
            }
            let code = ffi::rd_kafka_error_code(error);
            ffi::rd_kafka_error_destroy(error);
            Err(code.into())
        }
    }
}

impl<C: ProducerContext + 'static> Drop for TopicWriter<C> {
    fn drop(&mut self) {
        // SAFETY: it was made by `rd_kafka_topic_new`, is destroyed once, and its client lives.
        unsafe { ffi::rd_kafka_topic_destroy(self.handle) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::config::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::message::{Headers, Message};
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use std::time::Duration;

    fn writer(brokers: &str, settings: &[(&str, &str)]) -> TopicWriter<DefaultProducerContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers);
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let producer: BaseProducer = config.create().unwrap();
        TopicWriter::new(Arc::new(producer), "t").unwrap()
    }

    #[test]
    fn key_payload_and_headers_arrive() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 1, 1).unwrap();
        let brokers = cluster.bootstrap_servers();
        let writer = writer(&brokers, &[]);
        let headers = RecordHeaders::new([("a", Some("1")), ("absent", None), ("b", Some(""))]);
        writer.produce(b"key", b"one", &headers).unwrap();
        writer.produce(b"", b"", &RecordHeaders::default()).unwrap();
        writer.producer.flush(Duration::from_secs(10)).unwrap();

        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("group.id", "g")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        consumer.subscribe(&["t"]).unwrap();
        let next = || loop {
            if let Some(message) = consumer.poll(Duration::from_secs(10)) {
                return message.unwrap().detach();
            }
        };
        let (first, second) = (next(), next());
        assert_eq!(
            (first.key(), first.payload()),
            (Some(&b"key"[..]), Some(&b"one"[..]))
        );
        let headers = first.headers().unwrap();
        let found: Vec<_> = headers.iter().map(|h| (h.key, h.value)).collect();
        assert_eq!(found, [("a", Some(&b"1"[..])), ("b", Some(&b""[..]))]);
        assert!(second.headers().is_none_or(|headers| headers.count() == 0));
    }

    #[test]
    fn what_the_client_refuses_is_told() {
        let headers = RecordHeaders::new([("a", Some("1"))]);
        // Nobody listens: what is queued stays.
        let writer = writer(
            "127.0.0.1:1",
            &[
                ("queue.buffering.max.messages", "1"),
                ("message.max.bytes", "1000"),
                ("log_level", "0"),
            ],
        );
        let large = writer.produce(b"k", &[0; 2000], &headers);
        assert_eq!(large, Err(RDKafkaErrorCode::MessageSizeTooLarge));
        writer.produce(b"k", b"v", &headers).unwrap();
        let full = writer.produce(b"k", b"v", &headers);
        assert_eq!(full, Err(RDKafkaErrorCode::QueueFull));
    }
}
