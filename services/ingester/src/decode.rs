//! From a Kafka record to a row or a dead letter. The answer depends on the record and its writer's
//! schema alone, so that a range that is redone is decoded as it was before.

use std::collections::HashMap;
use std::sync::Arc;

use flight::avro::{self, DecodeError, Decoder, Record};
use flight::backoff::Backoff;
use flight::position::{Identified, Impossible, check};
use flight::registry::{RegistryClient, RegistryError};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::error::IngestError;

pub use flight::avro::OBSERVED_MS;

/// Why a record becomes a dead letter.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// It cannot be decoded.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// Its schema id is not in the registry.
    #[error("{0}; register the schema, then send the record again")]
    UnknownSchema(String),
    /// It can be decoded and cannot be true.
    #[error("{why}")]
    Impossible {
        /// The rule that it breaks.
        why: Impossible,
        /// Source and offset in it.
        identity: (String, i64),
    },
}

impl Rejection {
    /// All names that [`code`](Self::code) gives.
    pub const CODES: [&'static str; 13] = [
        "empty",
        "not_wire_format",
        "datum",
        "unresolvable",
        "unknown_schema",
        "longitude",
        "latitude",
        "ground_speed",
        "altitude",
        "track",
        "clock",
        "name",
        "source_offset",
    ];

    /// A short name without spaces, from a fixed set.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Undecodable(error) => error.code(),
            Self::UnknownSchema(_) => "unknown_schema",
            Self::Impossible { why, .. } => why.code(),
        }
    }
}

/// Decoders by schema id, for one partition.
#[derive(Debug)]
pub struct Decoders {
    registry: Arc<RegistryClient>,
    runtime: Handle,
    by_id: HashMap<u32, Arc<Decoder>>,
    /// The one that was used last: records of one schema come together.
    last: Option<(u32, Arc<Decoder>)>,
}

impl Decoders {
    /// Decoders that ask `registry` for schemas on `runtime`.
    pub fn new(registry: Arc<RegistryClient>, runtime: Handle) -> Self {
        Self {
            registry,
            runtime,
            by_id: HashMap::new(),
            last: None,
        }
    }

    /// The decoder for the record's schema, asking the registry where it is not known yet, and
    /// waiting while the registry is away; `waiting` hears why.
    ///
    /// # Errors
    /// The outer error: the partition was revoked while waiting. The inner one: the record is a dead
    /// letter.
    pub fn decoder(
        &mut self,
        payload: Option<&[u8]>,
        revoked: &CancellationToken,
        waiting: impl FnMut(Option<&RegistryError>),
    ) -> Result<Result<&Decoder, Rejection>, IngestError> {
        let id = match avro::split_header(payload) {
            Ok((id, _)) => id,
            Err(error) => return Ok(Err(error.into())),
        };
        if self.last.as_ref().is_none_or(|(last, _)| *last != id) {
            let known = match self.by_id.get(&id) {
                Some(known) => known.clone(),
                None => match self.learn(id, revoked, waiting)? {
                    Ok(learnt) => learnt,
                    Err(rejection) => return Ok(Err(rejection)),
                },
            };
            self.last = Some((id, known));
        }
        let (_, decoder) = self.last.as_ref().expect("set above");
        Ok(Ok(decoder))
    }

    /// Asks the registry for a schema.
    fn learn(
        &mut self,
        id: u32,
        revoked: &CancellationToken,
        mut waiting: impl FnMut(Option<&RegistryError>),
    ) -> Result<Result<Arc<Decoder>, Rejection>, IngestError> {
        let mut backoff = Backoff::default();
        let schema = loop {
            let asked = self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = revoked.cancelled() => None,
                    answer = self.registry.schema_by_id(id) => Some(answer),
                }
            });
            match asked {
                None => return Err(IngestError::Revoked),
                Some(Ok(schema)) => break Ok(schema),
                Some(Err(error @ RegistryError::UnknownId { .. })) => break Err(error.to_string()),
                // Away, or refusing us: neither says anything about the record.
                Some(Err(error)) => {
                    waiting(Some(&error));
                    let delay = backoff.next_delay();
                    self.runtime.block_on(async {
                        let _ = tokio::time::timeout(delay, revoked.cancelled()).await;
                    });
                }
            }
        };
        waiting(None);
        match schema {
            Ok(schema) => Ok(Decoder::new(id, &schema)
                .map(|decoder| self.by_id.entry(id).or_insert(Arc::new(decoder)).clone())
                .map_err(Rejection::from)),
            // Not remembered: the schema may be registered at any time.
            Err(unknown) => Ok(Err(Rejection::UnknownSchema(unknown))),
        }
    }
}

/// Decodes a record and judges it. `observed_ms` is when its source placed the event.
///
/// # Errors
/// Why the record is a dead letter.
pub fn decode<'a>(
    decoder: &Decoder,
    payload: &'a [u8],
    observed_ms: Option<i64>,
    scratch: &'a mut Option<Identified>,
) -> Result<Record<'a>, Rejection> {
    let (_, datum) = avro::split_header(Some(payload))?;
    let record = decoder.decode(datum, scratch)?;
    let judged = if record.source_offset < 0 {
        Err(Impossible::SourceOffset(record.source_offset))
    } else {
        check(
            &record.position,
            observed_ms.unwrap_or(record.position.timestamp),
        )
    };
    match judged {
        Ok(()) => Ok(record),
        Err(why) => {
            let identity = (record.source.to_owned(), record.source_offset);
            Err(Rejection::Impossible { why, identity })
        }
    }
}
