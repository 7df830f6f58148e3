//! Dead letters of a source, read anew.

use flight::avro::{POSITION_SCHEMA, SUBJECT};
use flight::registry::RegistryClient;

use crate::encode::{Outcome, RecordEncoder};
use crate::error::SessionError;
use crate::kafka_client::MessageLimits;
use crate::settings::Settings;

/// The registry or Kafka do not do their part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MendError {
    /// They do not answer, or refuse.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The settings cannot be used.
    #[error("{0}")]
    Start(String),
}

/// Makes records of events that went to the dead letters, in case that they can be read by now.
#[derive(Debug)]
pub struct Mender {
    settings: Settings,
    schema_id: u32,
    limit: usize,
}

/// Key and value of a record.
pub type KeyAndValue = (Vec<u8>, Vec<u8>);

impl Mender {
    /// Asks the registry for the schema's id and Kafka for what the topic takes.
    ///
    /// # Errors
    /// One of them does not answer.
    pub async fn new(settings: Settings) -> Result<Self, MendError> {
        let registry = RegistryClient::new(&settings.registry)
            .map_err(|error| MendError::Start(error.to_string()))?;
        let schema_id = registry.register(SUBJECT, POSITION_SCHEMA).await;
        Ok(Self {
            schema_id: schema_id.map_err(SessionError::from)?,
            limit: MessageLimits::ask(&settings).await?.record,
            settings,
        })
    }

    /// Topic of the records.
    pub fn topic(&self) -> &str {
        &self.settings.topics.positions.name
    }

    /// The record of an event, as the producer would write it.
    ///
    /// # Errors
    /// Why the event is no position still.
    pub fn record(&self, source: &str, offset: i64, line: &[u8]) -> Result<KeyAndValue, String> {
        let encoder = RecordEncoder::new(self.schema_id, source, self.limit);
        let whole = 0..line.len();
        let records = encoder.encode(offset, line, std::slice::from_ref(&whole));
        match records.iter().next() {
            Some((_, Outcome::Position { key, value })) => Ok((key.to_vec(), value.to_vec())),
            Some((_, Outcome::Rejected { rejection, .. })) => {
                Err(format!("{}: {}", rejection.reason, rejection.detail))
            }
            None => Err("it is no event".to_owned()),
        }
    }
}
