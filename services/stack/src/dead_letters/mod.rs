//! `contrail dlq`: the dead letters, whole as they came, and their way back.
//!
//! The topic keeps everything. A letter's records carry the place that it came from as their key; once it
//! was sent on its way again, or given up, a record without a value under the same key and in the same
//! partition says so.

mod discard;
mod marks;
mod redrive;

use std::collections::BTreeMap;

use flight::dead_letter::{self, header};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use serde::Serialize;

use crate::verify::kafka::Cluster;
use crate::verify::{VerifyError, VerifySettings};

pub use discard::{Discarded, discard};
pub use redrive::{Kept, RedriveError, Redriven, Selection, redrive};

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Letter {
    /// The place that it came from: `source:NAME:OFFSET` or `TOPIC:PARTITION:OFFSET`.
    pub key: String,
    /// Why, as a short code.
    pub reason: String,
    /// Why, for a person.
    pub detail: String,
    /// Name of the source, where it is known.
    pub source: Option<String>,
    /// Offset in the source, where it is known.
    pub source_offset: Option<i64>,
    /// Where the record stood, where it came from Kafka: `TOPIC:PARTITION:OFFSET`.
    pub origin: Option<String>,
    /// Id of the writer's schema, where the record has one.
    pub schema_id: Option<u32>,
    /// When its source placed the event, or else when the record was made, in milliseconds UTC.
    pub observed_ms: Option<i64>,
    /// When it became a dead letter, in milliseconds UTC.
    pub written_ms: Option<i64>,
    /// When it was sent on its way again.
    pub redriven: Option<String>,
    /// Why it was given up, if it was.
    pub discarded: Option<String>,
    /// The partition of dead letters that it is in.
    #[serde(skip)]
    pub partition: i32,
    /// Key of the record that it was.
    #[serde(skip)]
    pub original_key: Option<Vec<u8>>,
    /// Headers of the record that it was.
    #[serde(skip)]
    pub original_headers: Vec<(String, Vec<u8>)>,
    /// The bytes as they came.
    #[serde(skip)]
    pub payload: Vec<u8>,
    /// Their number.
    pub bytes: usize,
}

impl Letter {
    fn of(key: String, message: &BorrowedMessage<'_>) -> Self {
        let mut letter = Self {
            key,
            reason: String::new(),
            detail: String::new(),
            source: None,
            source_offset: None,
            origin: None,
            schema_id: None,
            observed_ms: None,
            written_ms: message.timestamp().to_millis(),
            redriven: None,
            discarded: None,
            partition: message.partition(),
            original_key: None,
            original_headers: Vec::new(),
            payload: message.payload().unwrap_or_default().to_vec(),
            bytes: 0,
        };
        if let Some(headers) = message.headers() {
            let text = |name| header(headers, name).map(str::to_owned);
            letter.reason = text(dead_letter::REASON).unwrap_or_default();
            letter.detail = text(dead_letter::DETAIL).unwrap_or_default();
            letter.source = text(dead_letter::SOURCE);
            letter.origin = text(dead_letter::ORIGIN);
            let number = |name| text(name)?.parse().ok();
            letter.source_offset = number(dead_letter::SOURCE_OFFSET);
            letter.observed_ms = number(dead_letter::OBSERVED_MS);
            letter.schema_id = text(dead_letter::SCHEMA_ID).and_then(|id| id.parse().ok());
            for header in headers.iter() {
                let value = header.value.unwrap_or_default().to_vec();
                if header.key == dead_letter::ORIGINAL_KEY {
                    letter.original_key = Some(value);
                } else if let Some(name) = header.key.strip_prefix(dead_letter::ORIGINAL_PREFIX) {
                    letter.original_headers.push((name.to_owned(), value));
                }
            }
        }
        letter.bytes = letter.payload.len();
        letter
    }

    /// Whether it is the same one, written again after a crash.
    fn is_copy_of(&self, other: &Self) -> bool {
        self.reason == other.reason && self.payload == other.payload
    }
}

/// `I/N` of a chunk's header; a letter of one record is one of one.
fn chunk(message: &BorrowedMessage<'_>) -> (usize, usize) {
    let parse = || {
        let (index, total) = header(message.headers()?, dead_letter::CHUNK)?.split_once('/')?;
        Some((index.parse().ok()?, total.parse().ok()?))
    };
    parse().unwrap_or((1, 1))
}

/// Puts letters together from the records of the topic.
#[derive(Debug, Default)]
struct Desk {
    /// By key: two under one key came from one place of two incarnations of a topic.
    letters: BTreeMap<String, Vec<Letter>>,
    /// Chunks, of which the last are not there yet.
    partial: BTreeMap<String, (usize, Letter)>,
}

impl Desk {
    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
        let said = |name| header(message.headers()?, name);
        let (redriven, discarded) = (said(dead_letter::REDRIVEN), said(dead_letter::DISCARDED));
        if redriven.is_some() || discarded.is_some() {
            for letter in self.letters.get_mut(&key).into_iter().flatten() {
                if let Some(at) = redriven {
                    letter.redriven.get_or_insert_with(|| at.to_owned());
                }
                if let Some(reason) = discarded {
                    letter.discarded = Some(reason.to_owned());
                }
            }
            return;
        }
        let (index, total) = chunk(message);
        if total <= 1 {
            self.add(Letter::of(key, message));
        } else if index == 1 {
            // One that was begun and cut off is begun again.
            let letter = Letter::of(key.clone(), message);
            self.partial.insert(key, (1, letter));
        } else if let Some((have, mut letter)) = self.partial.remove(&key)
            && have + 1 == index
        {
            letter
                .payload
                .extend_from_slice(message.payload().unwrap_or_default());
            letter.bytes = letter.payload.len();
            match index == total {
                true => self.add(letter),
                false => drop(self.partial.insert(key, (index, letter))),
            }
        }
    }

    fn add(&mut self, letter: Letter) {
        let known = self.letters.entry(letter.key.clone()).or_default();
        let copy = known.iter_mut().find(|other| other.is_copy_of(&letter));
        match copy {
            // It came back after it was redriven, or was written twice.
            Some(other) => *other = letter,
            None => known.push(letter),
        }
    }

    fn into_letters(self) -> Vec<Letter> {
        let mut letters: Vec<Letter> = self.letters.into_values().flatten().collect();
        letters.sort_by_key(|letter| std::cmp::Reverse(letter.written_ms));
        letters
    }
}

/// All dead letters, the newest first, those that were redriven among them.
///
/// # Errors
/// Kafka does not answer.
pub async fn letters(settings: &VerifySettings) -> Result<Vec<Letter>, VerifyError> {
    let cluster = Cluster::new(settings)?;
    cluster.clone().blocking(|cluster| cluster.reach()).await?;
    let topic = settings.dead_letter_topic.clone();
    cluster
        .blocking(move |cluster| {
            let mut desk = Desk::default();
            cluster.read_whole(&topic, |message| desk.take(message))?;
            Ok(desk.into_letters())
        })
        .await
}
