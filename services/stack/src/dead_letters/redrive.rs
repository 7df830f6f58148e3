//! Sending dead letters on their way again.
//!
//! What came from a topic goes back there, into its partition, byte by byte. What the producer could not
//! read is read anew, and goes where the producer would have written it. Record and mark go in one
//! transaction, so a letter is either where it was or on its way; and whatever is sent twice all the same,
//! the ingester drops by its identity. A letter that cannot go stays, and keeps none of the others.

use std::collections::BTreeMap;

use flight::avro::{OBSERVED_MS, RESENT};
use flight::calendar::format_instant_ms;
use flight::dead_letter;
use flight::kafka::Inquiry;
use flight_producer::Mender;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use serde::Serialize;
use thiserror::Error;

use super::marks::{GROUP, Marker};
use super::{Letter, letters};
use crate::verify::{VerifyError, VerifySettings};

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

/// A letter that stays: the cause is there still, it has no place to go, or Kafka did not take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Its key.
    pub key: String,
    /// Why it cannot be sent.
    pub why: String,
}

/// Letters cannot be redriven, or given up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RedriveError {
    /// Kafka cannot be asked.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// No such letter.
    #[error(
        "there is no dead letter {0}, or it was redriven already: `contrail dlq list` has their keys; nothing was done"
    )]
    Unknown(String),
    /// A reason that is none.
    #[error("say why, in 1 to {0} bytes: it is kept with the dead letter; nothing was done")]
    Reason(usize),
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

/// Sends letters on their way again. What cannot go is told, and the rest is sent.
///
/// # Errors
/// See [`RedriveError`]. Then nothing was sent.
pub async fn redrive(
    settings: &VerifySettings,
    selection: &Selection,
) -> Result<Redriven, RedriveError> {
    let marker = Marker::new(settings)?;
    let mut letters = select(letters(settings).await?, selection)?;
    if !matches!(selection, Selection::Keys(_)) {
        letters.retain(|letter| letter.discarded.is_none());
    }
    let mut redriven = Redriven::default();
    let parcels = parcels(settings, letters, &mut redriven).await?;
    tokio::task::block_in_place(|| {
        deliver(&parcels, &mut redriven, |group| send(&marker, group));
    });
    Ok(redriven)
}

/// Sends parcels, a group in a transaction. Where one fails, what was sent before is sent, and the others stay.
fn deliver(
    parcels: &[Parcel],
    redriven: &mut Redriven,
    send: impl Fn(&[Parcel]) -> Result<(), KafkaError>,
) {
    let mut groups = parcels.chunks(GROUP);
    let key = |parcel: &Parcel| parcel.letter.key.clone();
    for group in groups.by_ref() {
        match send(group) {
            Ok(()) => redriven.sent.extend(group.iter().map(key)),
            Err(error) => {
                let why = format!(
                    "Kafka did not take it: {error}; `contrail dlq list` says whether it is there still"
                );
                let kept = |parcel: &Parcel| Kept {
                    key: key(parcel),
                    why: why.clone(),
                };
                redriven.kept.extend(group.iter().map(kept));
                break;
            }
        }
    }
    let untried = |parcel: &Parcel| Kept {
        key: key(parcel),
        why: "not tried, after another one failed".to_owned(),
    };
    redriven.kept.extend(groups.flatten().map(untried));
}

pub(super) fn select(
    letters: Vec<Letter>,
    selection: &Selection,
) -> Result<Vec<Letter>, RedriveError> {
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

/// Finds out where each letter belongs. One that has no place to go is kept.
async fn parcels(
    settings: &VerifySettings,
    letters: Vec<Letter>,
    redriven: &mut Redriven,
) -> Result<Vec<Parcel>, RedriveError> {
    let inquiry = Inquiry::new(&settings.kafka, "contrail-redrive").map_err(cluster(settings))?;
    let mut topics = BTreeMap::new();
    let mut mender = None;
    let mut parcels = Vec::new();
    for letter in letters {
        let parcel = match (&letter.origin, &letter.source, letter.source_offset) {
            (Some(origin), ..) => match place(origin) {
                None => Err(format!("{origin} names no topic and partition")),
                Some((topic, partition)) => {
                    let partitions = match topics.get(&topic) {
                        Some(partitions) => *partitions,
                        None => {
                            let ask = || inquiry.partitions(&topic);
                            let partitions =
                                tokio::task::block_in_place(ask).map_err(cluster(settings))?;
                            topics.insert(topic.clone(), partitions);
                            partitions
                        }
                    };
                    check_place(&topic, partition, partitions).map(|()| Parcel {
                        topic,
                        partition: Some(partition),
                        key: letter.original_key.clone(),
                        payload: letter.payload.clone(),
                        headers: headers(&letter),
                        letter: letter.clone(),
                    })
                }
            },
            (None, Some(source), Some(offset)) => {
                let mender = match &mender {
                    Some(mender) => mender,
                    None => mender.insert(Mender::new(producer_settings(settings)).await?),
                };
                mender
                    .record(source, offset, &letter.payload)
                    .map(|(key, payload)| Parcel {
                        topic: mender.topic().to_owned(),
                        partition: None,
                        key: Some(key),
                        payload,
                        headers: headers(&letter),
                        letter: letter.clone(),
                    })
            }
            (None, ..) => Err("it says neither a topic nor a source".to_owned()),
        };
        match parcel {
            Ok(parcel) => parcels.push(parcel),
            Err(why) => redriven.kept.push(Kept {
                key: letter.key,
                why,
            }),
        }
    }
    Ok(parcels)
}

/// Whether a topic, of which this is the number of partitions if it is there, has the partition.
fn check_place(topic: &str, partition: i32, partitions: Option<usize>) -> Result<(), String> {
    match partitions {
        None => Err(format!("topic {topic} is gone")),
        Some(count) if usize::try_from(partition).is_ok_and(|partition| partition < count) => {
            Ok(())
        }
        Some(count) => Err(format!(
            "topic {topic} has {count} partitions, and none with number {partition}"
        )),
    }
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
fn send(marker: &Marker<'_>, group: &[Parcel]) -> Result<(), KafkaError> {
    marker.transaction(|| {
        group.iter().try_for_each(|parcel| {
            let mut record = BaseRecord::<[u8], [u8]>::to(&parcel.topic)
                .payload(&parcel.payload)
                .headers(parcel.headers.clone());
            record.partition = parcel.partition;
            record.key = parcel.key.as_deref();
            marker.send(record)?;
            let now = format_instant_ms(crate::clock::now_ms());
            marker.mark(&parcel.letter, dead_letter::REDRIVEN, &now)
        })
    })
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
            discarded: None,
            partition: 0,
            original_key: None,
            original_headers: Vec::new(),
            payload: Vec::new(),
            bytes: 0,
        }
    }

    #[test]
    fn what_was_sent_before_a_failure_is_told_and_the_rest_stays() {
        let parcels: Vec<Parcel> = (0..GROUP * 3)
            .map(|i| Parcel {
                letter: letter(&format!("t:0:{i}")),
                topic: "t".into(),
                partition: Some(0),
                key: None,
                payload: Vec::new(),
                headers: OwnedHeaders::new(),
            })
            .collect();
        let mut redriven = Redriven::default();
        let calls = std::cell::Cell::new(0);
        deliver(&parcels, &mut redriven, |group| {
            assert_eq!(group.len(), GROUP);
            calls.set(calls.get() + 1);
            match calls.get() {
                1 => Ok(()),
                _ => Err(KafkaError::Canceled),
            }
        });
        assert_eq!(calls.get(), 2, "after a failure nothing more is tried");
        assert_eq!(
            (redriven.sent.len(), redriven.kept.len()),
            (GROUP, 2 * GROUP)
        );
        assert_eq!(redriven.sent[0], "t:0:0");
        let (failed, untried) = redriven.kept.split_at(GROUP);
        assert!(
            failed
                .iter()
                .all(|kept| kept.why.contains("did not take it"))
        );
        assert!(untried.iter().all(|kept| kept.why.contains("not tried")));
    }

    #[test]
    fn a_place_that_is_gone_is_named() {
        assert_eq!(check_place("t", 2, Some(3)), Ok(()));
        assert_eq!(check_place("t", 0, None), Err("topic t is gone".into()));
        let why = check_place("t", 3, Some(3)).unwrap_err();
        assert!(why.contains("3 partitions"), "{why}");
        assert!(check_place("t", -1, Some(3)).is_err());
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
