//! Making the topics that the platform needs, and telling one incarnation of a topic from the next.

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::bindings as ffi;
use rdkafka::client::{Client, ClientContext, DefaultClientContext};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::types::RDKafkaErrorCode;
use serde::{Deserialize, Serialize};

use super::{Inquiry, KafkaError, KafkaSettings, REQUEST_TIMEOUT};

/// How a topic is made, if it is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSettings {
    /// Name.
    pub name: String,
    /// Number of partitions. It can never change: records of one flight must stay in one partition.
    pub partitions: i32,
    /// Number of replicas.
    pub replication: i32,
    /// How long records are kept, in milliseconds; -1 for ever.
    pub retention_ms: i64,
    /// Keep the last record of each key for ever, instead of all records for a time.
    pub compact: bool,
    /// Largest message that the topic takes, in bytes.
    pub max_message_bytes: i32,
}

impl TopicSettings {
    /// # Errors
    /// A sentence that names the setting, which begins with `setting`.
    pub fn validate(&self, setting: &str) -> Result<(), String> {
        if self.name.is_empty() {
            return Err(format!("{setting}.name is empty"));
        }
        if self.partitions < 1 {
            return Err(format!(
                "{setting}.partitions must be at least 1, not {}",
                self.partitions
            ));
        }
        if self.replication < 1 {
            return Err(format!(
                "{setting}.replication must be at least 1, not {}",
                self.replication
            ));
        }
        if self.retention_ms < -1 || self.retention_ms == 0 {
            return Err(format!(
                "{setting}.retention_ms must be -1 (for ever) or positive, not {}",
                self.retention_ms
            ));
        }
        if self.max_message_bytes < 1024 {
            return Err(format!(
                "{setting}.max_message_bytes must be at least 1024, not {}",
                self.max_message_bytes
            ));
        }
        Ok(())
    }
}

/// Makes the topics that are missing. A topic that is there stays as it is, but its partition count
/// must be the one in the settings, and it must keep what the platform relies upon.
///
/// # Errors
/// The cluster does not answer, refuses, or has a topic that cannot be used.
pub async fn ensure(
    kafka: &KafkaSettings,
    topics: &[(&str, &TopicSettings)],
) -> Result<(), KafkaError> {
    let mut missing = Vec::new();
    let mut there = Vec::new();
    // Asked first: who may not make topics can still use those that are there.
    let counts = partition_counts(kafka, topics).await?;
    for ((setting, topic), count) in topics.iter().zip(counts) {
        match count {
            Some(found) => {
                check_partitions(found, setting, topic)?;
                there.push(*topic);
            }
            None => missing.push(*topic),
        }
    }
    let admin: AdminClient<DefaultClientContext> = kafka
        .client_config("contrail-topics")
        .create()
        .map_err(KafkaError::Settings)?;
    create(&admin, kafka, &missing).await?;
    check_configs(&admin, &there).await
}

/// How many partitions each topic has; `None` for one that does not exist.
async fn partition_counts(
    kafka: &KafkaSettings,
    topics: &[(&str, &TopicSettings)],
) -> Result<Vec<Option<usize>>, KafkaError> {
    let inquiry = Inquiry::new(kafka, "contrail-topics")?;
    let names: Vec<String> = topics.iter().map(|(_, topic)| topic.name.clone()).collect();
    let ask = move || names.iter().map(|name| inquiry.partitions(name)).collect();
    match tokio::task::spawn_blocking(ask).await {
        Ok(counts) => counts,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

async fn create(
    admin: &AdminClient<DefaultClientContext>,
    kafka: &KafkaSettings,
    topics: &[&TopicSettings],
) -> Result<(), KafkaError> {
    if topics.is_empty() {
        return Ok(());
    }
    let settings: Vec<_> = topics.iter().map(|topic| topic_config(topic)).collect();
    let new_topics: Vec<NewTopic<'_>> = topics
        .iter()
        .zip(&settings)
        .map(|(topic, settings)| {
            let new = NewTopic::new(
                &topic.name,
                topic.partitions,
                TopicReplication::Fixed(topic.replication),
            );
            settings
                .iter()
                .fold(new, |new, (name, value)| new.set(name, value))
        })
        .collect();
    let options = AdminOptions::new()
        .operation_timeout(Some(REQUEST_TIMEOUT))
        .request_timeout(Some(REQUEST_TIMEOUT));
    let results = admin
        .create_topics(&new_topics, &options)
        .await
        .map_err(|source| KafkaError::Request {
            action: "cannot make topics".into(),
            source,
        })?;
    for (topic, result) in topics.iter().zip(results) {
        match result {
            Ok(_) => tracing::info!(
                topic = topic.name,
                partitions = topic.partitions,
                "made topic"
            ),
            // Somebody else was quicker; the next start compares it with the settings.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                let action = format!("cannot make topic {name}");
                let right = || {
                    format!(
                        "Create on topic {name} (or on the cluster), or make the topic yourself"
                    )
                };
                let denied = KafkaError::denied(kafka, &ClientError::Global(code), &action, right);
                return Err(denied.unwrap_or_else(|| KafkaError::Topic {
                    reason: topic_refusal(code, topic),
                    topic: name,
                }));
            }
        }
    }
    Ok(())
}

fn topic_refusal(code: RDKafkaErrorCode, topic: &TopicSettings) -> String {
    match code {
        RDKafkaErrorCode::InvalidReplicationFactor => format!(
            "cannot be made with {} replicas: the cluster has fewer brokers ({code})",
            topic.replication
        ),
        RDKafkaErrorCode::PolicyViolation => {
            format!("the cluster's policy forbids its settings ({code}): make it yourself")
        }
        _ => format!("cannot be made: {code}"),
    }
}

fn topic_config(topic: &TopicSettings) -> [(&'static str, String); 4] {
    let policy = if topic.compact { "compact" } else { "delete" };
    [
        ("cleanup.policy", policy.to_owned()),
        ("retention.ms", topic.retention_ms.to_string()),
        ("max.message.bytes", topic.max_message_bytes.to_string()),
        // Offsets are judged by the time at which the producer sent them.
        ("message.timestamp.type", "CreateTime".to_owned()),
    ]
}

fn check_partitions(found: usize, setting: &str, topic: &TopicSettings) -> Result<(), KafkaError> {
    if i32::try_from(found) == Ok(topic.partitions) {
        return Ok(());
    }
    Err(KafkaError::Partitions {
        topic: topic.name.clone(),
        found,
        wanted: topic.partitions,
        setting: format!("{setting}.partitions"),
    })
}

/// Looks at the settings of topics that were there before.
async fn check_configs(
    admin: &AdminClient<DefaultClientContext>,
    topics: &[&TopicSettings],
) -> Result<(), KafkaError> {
    if topics.is_empty() {
        return Ok(());
    }
    let resources: Vec<_> = topics
        .iter()
        .map(|topic| ResourceSpecifier::Topic(&topic.name))
        .collect();
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let answers = admin
        .describe_configs(&resources, &options)
        .await
        .map_err(|source| KafkaError::Request {
            action: "cannot ask for the settings of topics".into(),
            source,
        })?;
    for (topic, answer) in topics.iter().zip(answers) {
        match answer {
            Ok(found) => {
                let value = |name: &str| found.get(name)?.value.clone();
                check_config(topic, value)?;
            }
            Err(code) => tracing::warn!(
                topic = topic.name,
                %code,
                "cannot check the topic's settings: grant DescribeConfigs on it"
            ),
        }
    }
    Ok(())
}

fn check_config(
    topic: &TopicSettings,
    value: impl Fn(&str) -> Option<String>,
) -> Result<(), KafkaError> {
    if let Some(found) = value("cleanup.policy") {
        let (needed, reason) = match topic.compact {
            true => (
                "compact",
                "the last checkpoint of a source must never expire",
            ),
            false => ("delete", "compaction would lose records"),
        };
        if found != needed {
            return Err(KafkaError::TopicConfig {
                topic: topic.name.clone(),
                name: "cleanup.policy",
                found,
                needed,
                reason,
            });
        }
    }
    for (name, wanted) in topic_config(topic) {
        if let Some(found) = value(name).filter(|found| *found != wanted) {
            tracing::info!(
                topic = topic.name,
                setting = name,
                found,
                wanted,
                "the topic was there with a setting of its own, which stays"
            );
        }
    }
    Ok(())
}

/// The id that the cluster gave a topic when it was made. A topic that was deleted and made again
/// under its old name has another one. Base64 of a UUID, as Kafka's own tools print it.
///
/// # Errors
/// The cluster does not answer, or has no such topic.
pub fn topic_id<C: ClientContext>(client: &Client<C>, topic: &str) -> Result<String, KafkaError> {
    let refused = |reason: String| KafkaError::Topic {
        topic: topic.to_owned(),
        reason,
    };
    let name = CString::new(topic).map_err(|_| refused("its name has a zero byte".into()))?;
    let mut names = [name.as_ptr()];
    let timeout_ms = REQUEST_TIMEOUT.as_millis() as i32;
    // SAFETY: every pointer is made here by librdkafka, checked for null where it may be, used only
    // before the object that owns it is destroyed, and destroyed once, by its guard. The client
    // outlives the call. `names` lives until `rd_kafka_TopicCollection_of_topic_names` has copied it.
    unsafe {
        let queue = Owned(
            ffi::rd_kafka_queue_new(client.native_ptr()),
            ffi::rd_kafka_queue_destroy,
        );
        let collection = Owned(
            ffi::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()),
            ffi::rd_kafka_TopicCollection_destroy,
        );
        ffi::rd_kafka_DescribeTopics(client.native_ptr(), collection.0, ptr::null(), queue.0);
        let event = ffi::rd_kafka_queue_poll(queue.0, timeout_ms);
        if event.is_null() {
            return Err(refused(format!(
                "no answer within {timeout_ms} ms when asked for its id"
            )));
        }
        let event = Owned(event, ffi::rd_kafka_event_destroy);
        if ffi::rd_kafka_event_error(event.0)
            != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return Err(refused(text(ffi::rd_kafka_event_error_string(event.0))));
        }
        let result = ffi::rd_kafka_event_DescribeTopics_result(event.0);
        let mut count = 0;
        let topics = if result.is_null() {
            ptr::null_mut()
        } else {
            ffi::rd_kafka_DescribeTopics_result_topics(result, &mut count)
        };
        if topics.is_null() || count == 0 {
            return Err(refused("the cluster's description is empty".into()));
        }
        let description = *topics;
        let error = ffi::rd_kafka_TopicDescription_error(description);
        if !error.is_null()
            && ffi::rd_kafka_error_code(error)
                != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return Err(refused(text(ffi::rd_kafka_error_string(error))));
        }
        let id = ffi::rd_kafka_TopicDescription_topic_id(description);
        if id.is_null() {
            return Err(refused(
                "the cluster gives topics no ids: Kafka 2.8 or newer is needed".into(),
            ));
        }
        Ok(text(ffi::rd_kafka_Uuid_base64str(id)))
    }
}

/// An object of librdkafka with the function that destroys it.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the matching constructor and is destroyed nowhere else.
        unsafe { (self.1)(self.0) }
    }
}

/// # Safety
/// `text` is null or a C string that lives until this returns.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return "unknown".into();
    }
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(compact: bool) -> TopicSettings {
        TopicSettings {
            name: "t".into(),
            partitions: 1,
            replication: 1,
            retention_ms: -1,
            compact,
            max_message_bytes: 1 << 20,
        }
    }

    #[test]
    fn a_topic_that_would_lose_records_is_refused() {
        let policy = |policy: &'static str| {
            move |name: &str| (name == "cleanup.policy").then(|| policy.to_owned())
        };
        check_config(&topic(false), policy("delete")).unwrap();
        check_config(&topic(true), policy("compact")).unwrap();
        for (compact, found) in [(false, "compact,delete"), (true, "delete")] {
            let message = check_config(&topic(compact), policy(found))
                .unwrap_err()
                .to_string();
            assert!(
                message.starts_with(&format!("topic t has cleanup.policy = {found} and needs")),
                "{message}"
            );
        }
    }

    #[test]
    fn senseless_topics_are_named() {
        let good = TopicSettings {
            name: "flight.positions".into(),
            partitions: 6,
            replication: 1,
            retention_ms: -1,
            compact: false,
            max_message_bytes: 1 << 20,
        };
        assert_eq!(good.validate("topics.positions"), Ok(()));
        let wrong = TopicSettings {
            partitions: 0,
            ..good.clone()
        };
        assert!(
            wrong
                .validate("topics.positions")
                .unwrap_err()
                .starts_with("topics.positions.partitions")
        );
        let wrong = TopicSettings {
            retention_ms: 0,
            ..good
        };
        assert!(
            wrong
                .validate("t")
                .unwrap_err()
                .starts_with("t.retention_ms")
        );
    }
}
