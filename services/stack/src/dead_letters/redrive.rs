//! Sending dead letters on their way again.
//!
//! What came from a topic goes back there, into its partition, byte by byte. What the producer could not
//! read is read anew, and goes where the producer would have written it. Record and mark go in one
//! transaction, so a letter is either where it was or on its way; and whatever is sent twice all the same,
//! the ingester drops by its identity.

use std::time::Duration;

use flight::avro::{OBSERVED_MS, RESENT};
use flight::calendar::format_instant_ms;
use flight::dead_letter;
use flight::kafka::Inquiry;
use flight_producer::Mender;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::Serialize;
use thiserror::Error;

use super::{Letter, letters};
use crate::verify::{VerifyError, VerifySettings};

/// Of two that redrive at the same time, the later one shuts the other out.
const TRANSACTIONAL_ID: &str = "contrail-redrive";
/// Letters in one transaction.
const GROUP: usize = 500;
/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(30);

/// Which letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Those with these keys.
    Keys(Vec<String>),
    /// Those with this reason.
    Reason(String),
    /// All.
    All,
}

/// What was done.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Redriven {
    /// Keys of the letters that are on their way.
    pub sent: Vec<String>,
    /// Those that stay.
    pub kept: Vec<Kept>,
}

/// A letter that stays, because the cause is there still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Its key.
    pub key: String,
    /// Why it cannot be sent.
    pub why: String,
}

/// Letters cannot be redriven. None of the ones that were selected was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RedriveError {
    /// Kafka cannot be asked.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// No such letter.
    #[error(
        "there is no dead letter {0}, or it was redriven already: `contrail dlq list` has their keys"
    )]
    Unknown(String),
    /// Where one belongs is gone.
    #[error("{key} cannot be redriven: {why}; nothing was sent")]
    NoPlace {
        /// Key of the letter.
        key: String,
        /// What is gone.
        why: String,
    },
    /// The producer's part cannot be done.
    #[error(transparent)]
    Mend(#[from] flight_producer::MendError),
    /// Kafka does not do what was asked.
    #[error("cannot {action} at {brokers}: {source}")]
    Kafka {
        /// What was asked.
        action: &'static str,
        /// The cluster.
        brokers: String,
        /// What the client says.
        source: Box<KafkaError>,
    },
}

/// A record to send.
struct Parcel {
    letter: Letter,
    topic: String,
    /// `None`: the one of its key.
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    payload: Vec<u8>,
    headers: OwnedHeaders,
}

/// Sends letters on their way again.
///
/// # Errors
/// See [`RedriveError`].
pub async fn redrive(
    settings: &VerifySettings,
    selection: &Selection,
) -> Result<Redriven, RedriveError> {
    let failed = |action| {
        move |source| RedriveError::Kafka {
            action,
            brokers: settings.kafka.brokers.clone(),
            source: Box::new(source),
        }
    };
    let producer: BaseProducer = settings
        .kafka
        .client_config("contrail-redrive")
        .set("transactional.id", TRANSACTIONAL_ID)
        .set("partitioner", "murmur2_random")
        .set("compression.type", "lz4")
        // The broker says what a topic takes.
        .set("message.max.bytes", "16000000")
        .create()
        .map_err(failed("make a client"))?;
    // Before the letters are read: what another redrive has sent is marked by then, or never will be.
    let init = || {
        producer
            .init_transactions(LIMIT)
            .map_err(failed("begin transactions"))
    };
    tokio::task::block_in_place(init)?;
    let letters = select(letters(settings).await?, selection)?;
    let mut redriven = Redriven::default();
    let parcels = parcels(settings, letters, &mut redriven).await?;
    tokio::task::block_in_place(|| {
        for group in parcels.chunks(GROUP) {
            send(&producer, settings, group).map_err(failed("write records again"))?;
            redriven
                .sent
                .extend(group.iter().map(|parcel| parcel.letter.key.clone()));
        }
        Ok(redriven)
    })
}

fn select(letters: Vec<Letter>, selection: &Selection) -> Result<Vec<Letter>, RedriveError> {
    let waiting = letters
        .into_iter()
        .filter(|letter| letter.redriven.is_none());
    let selected: Vec<Letter> = match selection {
        Selection::All => waiting.collect(),
        Selection::Reason(reason) => waiting.filter(|l| l.reason == *reason).collect(),
        Selection::Keys(keys) => waiting.filter(|l| keys.contains(&l.key)).collect(),
    };
    if let Selection::Keys(keys) = selection
        && let Some(unknown) = keys
            .iter()
            .find(|key| !selected.iter().any(|letter| letter.key == **key))
    {
        return Err(RedriveError::Unknown(unknown.clone()));
    }
    Ok(selected)
}

/// Finds out where each letter belongs; one of which that is gone makes all of them stay.
async fn parcels(
    settings: &VerifySettings,
    letters: Vec<Letter>,
    redriven: &mut Redriven,
) -> Result<Vec<Parcel>, RedriveError> {
    let inquiry = Inquiry::new(&settings.kafka, "contrail-redrive").map_err(cluster(settings))?;
    let mut mender = None;
    let mut parcels = Vec::new();
    for letter in letters {
        let headers = headers(&letter);
        let parcel = match letter.origin.clone() {
            Some(origin) => {
                let (topic, partition) = place(&origin).ok_or_else(|| RedriveError::NoPlace {
                    key: letter.key.clone(),
                    why: format!("{origin} names no topic and partition"),
                })?;
                let partitions = tokio::task::block_in_place(|| inquiry.partitions(&topic))
                    .map_err(cluster(settings))?;
                let why = match partitions {
                    None => Some(format!("topic {topic} is gone")),
                    Some(count) if partition as usize >= count => Some(format!(
                        "topic {topic} has {count} partitions, and none with number {partition}"
                    )),
                    Some(_) => None,
                };
                if let Some(why) = why {
                    return Err(RedriveError::NoPlace {
                        key: letter.key,
                        why,
                    });
                }
                Parcel {
                    topic,
                    partition: Some(partition),
                    key: letter.original_key.clone(),
                    payload: letter.payload.clone(),
                    headers,
                    letter,
                }
            }
            None => {
                let (Some(source), Some(offset)) = (&letter.source, letter.source_offset) else {
                    let why = "it says neither a topic nor a source".to_owned();
                    redriven.kept.push(Kept {
                        key: letter.key,
                        why,
                    });
                    continue;
                };
                let mender = match &mender {
                    Some(mender) => mender,
                    None => mender.insert(Mender::new(producer_settings(settings)).await?),
                };
                match mender.record(source, offset, &letter.payload) {
                    Ok((key, payload)) => Parcel {
                        topic: mender.topic().to_owned(),
                        partition: None,
                        key: Some(key),
                        payload,
                        headers,
                        letter,
                    },
                    Err(why) => {
                        redriven.kept.push(Kept {
                            key: letter.key,
                            why,
                        });
                        continue;
                    }
                }
            }
        };
        parcels.push(parcel);
    }
    Ok(parcels)
}

fn cluster(
    settings: &VerifySettings,
) -> impl Fn(flight::kafka::KafkaError) -> RedriveError + use<> {
    let brokers = settings.kafka.brokers.clone();
    move |source| {
        let brokers = brokers.clone();
        RedriveError::Verify(VerifyError::Cluster {
            brokers,
            source: Box::new(source),
        })
    }
}

/// Topic and partition of `TOPIC:PARTITION:OFFSET`.
fn place(origin: &str) -> Option<(String, i32)> {
    let mut parts = origin.rsplitn(3, ':');
    let (_offset, partition, topic) = (parts.next()?, parts.next()?, parts.next()?);
    let partition = partition.parse().ok().filter(|partition| *partition >= 0)?;
    Some((topic.to_owned(), partition))
}

/// The record's own headers; that it was sent again; and when its source placed the event, because the new
/// record does not tell that any more.
fn headers(letter: &Letter) -> OwnedHeaders {
    let add = |headers: OwnedHeaders, key: &str, value: &[u8]| {
        headers.insert(Header {
            key,
            value: Some(value),
        })
    };
    let mut headers = OwnedHeaders::new();
    for (name, value) in &letter.original_headers {
        if name != RESENT && name != OBSERVED_MS {
            headers = add(headers, name, value);
        }
    }
    let own = letter
        .original_headers
        .iter()
        .find(|(name, _)| name == OBSERVED_MS)
        .and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse::<i64>().ok());
    if let Some(observed_ms) = own.or(letter.observed_ms).or(letter.written_ms) {
        headers = add(headers, OBSERVED_MS, observed_ms.to_string().as_bytes());
    }
    add(headers, RESENT, b"redrive")
}

/// What the producer would be told.
fn producer_settings(settings: &VerifySettings) -> flight_producer::Settings {
    let mut producer = flight_producer::Settings {
        kafka: settings.kafka.clone(),
        registry: settings.registry.clone(),
        ..flight_producer::Settings::default()
    };
    producer.topics.positions.name = settings.topic.clone();
    producer.topics.dead_letters.name = settings.dead_letter_topic.clone();
    producer.topics.checkpoints.name = settings.checkpoint_topic.clone();
    producer
}

/// Sends a group in one transaction.
fn send(
    producer: &BaseProducer,
    settings: &VerifySettings,
    group: &[Parcel],
) -> Result<(), KafkaError> {
    producer.begin_transaction()?;
    let written = group
        .iter()
        .try_for_each(|parcel| write(producer, settings, parcel));
    match written.and_then(|()| producer.commit_transaction(LIMIT)) {
        Ok(()) => Ok(()),
        Err(error) => {
            // Where it cannot be said now, the broker aborts it when its time is over.
            let _ = producer.abort_transaction(LIMIT);
            Err(error)
        }
    }
}

fn write(
    producer: &BaseProducer,
    settings: &VerifySettings,
    parcel: &Parcel,
) -> Result<(), KafkaError> {
    let mut record = BaseRecord::<[u8], [u8]>::to(&parcel.topic)
        .payload(&parcel.payload)
        .headers(parcel.headers.clone());
    record.partition = parcel.partition;
    record.key = parcel.key.as_deref();
    enqueue(producer, record)?;
    let now_ms = format_instant_ms(crate::clock::now_ms());
    let mark = OwnedHeaders::new().insert(Header {
        key: dead_letter::REDRIVEN,
        value: Some(now_ms.as_bytes()),
    });
    let mark = BaseRecord::<[u8], [u8]>::to(&settings.dead_letter_topic)
        .key(parcel.letter.key.as_bytes())
        // Behind the letter, however its writer chose the partition.
        .partition(parcel.letter.partition)
        .headers(mark);
    enqueue(producer, mark)
}

fn enqueue(
    producer: &BaseProducer,
    mut record: BaseRecord<'_, [u8], [u8]>,
) -> Result<(), KafkaError> {
    use rdkafka::types::RDKafkaErrorCode::QueueFull;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(QueueFull), refused)) => {
                record = refused;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::message::Headers;

    fn letter(key: &str) -> Letter {
        Letter {
            key: key.to_owned(),
            reason: "datum".into(),
            detail: String::new(),
            source: None,
            source_offset: None,
            origin: Some(key.to_owned()),
            schema_id: None,
            observed_ms: None,
            written_ms: Some(7),
            redriven: None,
            partition: 0,
            original_key: None,
            original_headers: Vec::new(),
            payload: Vec::new(),
            bytes: 0,
        }
    }

    #[test]
    fn a_topic_s_name_may_be_anything() {
        assert_eq!(
            place("flight.positions:3:17"),
            Some(("flight.positions".into(), 3))
        );
        assert_eq!(place("a:b:0:1"), Some(("a:b".into(), 0)));
        assert_eq!(place("t:-1:1"), None);
        assert_eq!(place("17"), None);
    }

    #[test]
    fn what_is_not_there_or_was_redriven_is_named() {
        let mut gone = letter("t:0:1");
        gone.redriven = Some("2026-11-26T10:00:00.000Z".into());
        let letters = vec![gone, letter("t:0:2")];
        let keys = |keys: &[&str]| Selection::Keys(keys.iter().map(|k| (*k).to_owned()).collect());
        let error = select(letters.clone(), &keys(&["t:0:2", "t:0:1"])).unwrap_err();
        assert!(error.to_string().contains("t:0:1"), "{error}");
        assert_eq!(select(letters.clone(), &keys(&["t:0:2"])).unwrap().len(), 1);
        assert_eq!(select(letters, &Selection::All).unwrap().len(), 1);
    }

    #[test]
    fn a_record_says_again_when_its_event_was_placed() {
        let observed = |letter: &Letter| {
            let headers = headers(letter);
            let all: Vec<String> = headers.iter().map(|h| h.key.to_owned()).collect();
            assert_eq!(all.iter().filter(|name| *name == OBSERVED_MS).count(), 1);
            assert_eq!(all.iter().filter(|name| *name == RESENT).count(), 1);
            dead_letter::header(&headers, OBSERVED_MS).map(str::to_owned)
        };
        let mut letter = letter("t:0:1");
        assert_eq!(observed(&letter).as_deref(), Some("7"));
        letter.observed_ms = Some(5);
        assert_eq!(observed(&letter).as_deref(), Some("5"));
        letter.original_headers = vec![
            (OBSERVED_MS.to_owned(), b"3".to_vec()),
            (RESENT.to_owned(), b"replay".to_vec()),
        ];
        assert_eq!(observed(&letter).as_deref(), Some("3"));
    }
}
