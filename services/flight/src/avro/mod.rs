//! Positions as Avro, in the Confluent wire format: a zero byte, the writer's schema id as four
//! bytes big-endian, then the datum.
//!
//! Writing, and reading what was written with our own schema, is done by hand in [`datum`]: it is the
//! hottest path of the platform, and the strings of a record need not be copied to be inserted. What
//! was written with another schema takes [`Decoder`]'s resolving path through the Avro library.

pub mod datum;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use thiserror::Error;

use crate::position::{Identified, Position, PositionRef};
pub use datum::DatumError;

/// The position's schema, as it is registered.
pub const POSITION_SCHEMA: &str = include_str!("../../schemas/position.avsc");
/// Subject of the schema in the registry.
pub const SUBJECT: &str = "flight.positions-value";
/// Kafka header: when the source placed the event, in milliseconds UTC, as decimal text, on records
/// that were sent long after (or before) that. Without it the record's own timestamp counts.
pub const OBSERVED_MS: &str = "contrail-observed-ms";
/// Kafka header on records that were sent again, `replay` or `redrive`, or late, `catch-up`. Their source
/// offsets stand below those of the records around them.
pub const RESENT: &str = "contrail-resent";
/// Bytes before the datum.
pub const HEADER_BYTES: usize = 5;

/// A record cannot be decoded. For the same bytes and the same schema the answer is always the same.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No payload at all: a tombstone.
    #[error("record has no value")]
    Empty,
    /// The wire format's first byte is not zero.
    #[error("record does not begin with the Confluent wire format's zero byte and schema id")]
    NotWireFormat,
    /// The datum is cut off, or not of the writer's schema.
    #[error("record does not match schema {schema_id}: {source}")]
    Datum {
        /// The writer's schema id, as the record has it.
        schema_id: u32,
        /// What is wrong.
        source: DatumError,
    },
    /// The resolving path failed.
    #[error("record written with schema {schema_id} cannot be read as a position: {reason}")]
    Unresolvable {
        /// The writer's schema id, as the record has it.
        schema_id: u32,
        /// What is wrong.
        reason: String,
    },
}

impl DecodeError {
    /// A short name without spaces, for metric labels and dead-letter headers. The set is fixed.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotWireFormat => "not_wire_format",
            Self::Datum { .. } => "datum",
            Self::Unresolvable { .. } => "unresolvable",
        }
    }
}

/// A decoded record, borrowing from the payload (or from the scratch place of the resolving path).
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Name of the source.
    pub source: &'a str,
    /// Offset of the event in the source.
    pub source_offset: i64,
    /// The event.
    pub position: PositionRef<'a>,
}

/// Writes positions with one schema id.
#[derive(Debug, Clone, Copy)]
pub struct Encoder {
    header: [u8; HEADER_BYTES],
}

impl Encoder {
    /// An encoder for the id under which [`POSITION_SCHEMA`] is registered.
    pub fn new(schema_id: u32) -> Self {
        let [a, b, c, d] = schema_id.to_be_bytes();
        Self {
            header: [0, a, b, c, d],
        }
    }

    /// Appends one record to `out`.
    pub fn encode(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header);
        datum::write(record, out);
    }
}

/// Splits a payload into the writer's schema id and the datum.
///
/// # Errors
/// There is no payload, or it is not in the wire format.
pub fn split_header(payload: Option<&[u8]>) -> Result<(u32, &[u8]), DecodeError> {
    match payload {
        None | Some([]) => Err(DecodeError::Empty),
        Some([0, a, b, c, d, datum @ ..]) => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        Some(_) => Err(DecodeError::NotWireFormat),
    }
}

/// Reads positions that were written with one schema.
#[derive(Debug)]
pub struct Decoder {
    schema_id: u32,
    /// `None`: the writer's schema is our own.
    resolve: Option<Box<Resolve>>,
}

#[derive(Debug)]
struct Resolve {
    writer: Schema,
    reader: Schema,
}

impl Decoder {
    /// A decoder for records with `schema_id`, which the registry says is `writer_schema`.
    ///
    /// # Errors
    /// The schema is not Avro. Whether it can be read as a position shows at the first record.
    pub fn new(schema_id: u32, writer_schema: &str) -> Result<Self, DecodeError> {
        let unresolvable = |error: apache_avro::Error| DecodeError::Unresolvable {
            schema_id,
            reason: error.to_string(),
        };
        let writer = Schema::parse_str(writer_schema).map_err(unresolvable)?;
        let reader = Schema::parse_str(POSITION_SCHEMA).map_err(unresolvable)?;
        // The canonical form leaves out what does not change the bytes: docs, defaults.
        let same = writer.canonical_form() == reader.canonical_form();
        Ok(Self {
            schema_id,
            resolve: (!same).then(|| Box::new(Resolve { writer, reader })),
        })
    }

    /// Decodes a datum. `scratch` holds the record where it cannot borrow from the datum.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode<'a>(
        &self,
        datum: &'a [u8],
        scratch: &'a mut Option<Identified>,
    ) -> Result<Record<'a>, DecodeError> {
        let Some(resolve) = &self.resolve else {
            return datum::read(datum).map_err(|source| DecodeError::Datum {
                schema_id: self.schema_id,
                source,
            });
        };
        let identified = self.resolve(resolve, datum)?;
        let identified = scratch.insert(identified);
        Ok(Record {
            source: &identified.source,
            source_offset: identified.source_offset,
            position: identified.position.by_ref(),
        })
    }

    fn resolve(&self, resolve: &Resolve, mut datum: &[u8]) -> Result<Identified, DecodeError> {
        let unresolvable = |reason: String| DecodeError::Unresolvable {
            schema_id: self.schema_id,
            reason,
        };
        let value = GenericDatumReader::builder(&resolve.writer)
            .reader_schema(&resolve.reader)
            .build()
            .and_then(|reader| reader.read_value(&mut datum))
            .map_err(|error| unresolvable(error.to_string()))?;
        if !datum.is_empty() {
            return Err(unresolvable(format!(
                "{} bytes follow the datum",
                datum.len()
            )));
        }
        let Value::Record(fields) = value else {
            return Err(unresolvable("it is not a record".into()));
        };
        identified(fields).ok_or_else(|| unresolvable("a field has an unexpected type".into()))
    }
}

/// The fields of a value that was resolved to [`POSITION_SCHEMA`], in its order.
fn identified(fields: Vec<(String, Value)>) -> Option<Identified> {
    let mut values = fields.into_iter().map(|(_, value)| match value {
        Value::Union(_, inner) => *inner,
        value => value,
    });
    let mut next = || values.next();
    let string = |value| match value {
        Value::String(text) => Some(text),
        _ => None,
    };
    Some(Identified {
        source: string(next()?)?,
        source_offset: match next()? {
            Value::Long(offset) => offset,
            _ => return None,
        },
        position: Position {
            flight_id: string(next()?)?,
            callsign: string(next()?)?,
            longitude: match next()? {
                Value::Double(degrees) => degrees,
                _ => return None,
            },
            latitude: match next()? {
                Value::Double(degrees) => degrees,
                _ => return None,
            },
            altitude: match next()? {
                Value::Int(feet) => feet,
                _ => return None,
            },
            gspeed: match next()? {
                Value::Float(knots) => knots,
                _ => return None,
            },
            timestamp: match next()? {
                Value::TimestampMillis(ms) | Value::Long(ms) => ms,
                _ => return None,
            },
            icao24: string(next()?),
            track: match next()? {
                Value::Float(degrees) => Some(degrees),
                _ => None,
            },
            vertical_rate: match next()? {
                Value::Int(rate) => Some(rate),
                _ => None,
            },
            squawk: string(next()?),
            on_ground: match next()? {
                Value::Boolean(on_ground) => Some(on_ground),
                _ => None,
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use apache_avro::writer::datum::GenericDatumWriter;
    use proptest::option;
    use proptest::prelude::*;

    prop_compose! {
        fn any_identified()(
            source in ".{0,40}", source_offset in any::<i64>(), flight_id in ".{0,20}", callsign in ".{0,10}",
            longitude in any::<f64>(), latitude in -90.0..90.0f64, altitude in any::<i32>(),
            gspeed in 0.0..600.0f32, timestamp in any::<i64>(),
            optional in (option::of("[0-9a-f]{6}"), option::of(0.0..360.0f32), option::of(any::<i32>()),
                         option::of("[0-7]{4}"), option::of(any::<bool>())),
        ) -> Identified {
            let (icao24, track, vertical_rate, squawk, on_ground) = optional;
            Identified { source, source_offset, position: Position {
                flight_id, callsign, longitude, latitude, altitude, gspeed, timestamp,
                icao24, track, vertical_rate, squawk, on_ground,
            } }
        }
    }

    fn record(identified: &Identified) -> Record<'_> {
        Record {
            source: &identified.source,
            source_offset: identified.source_offset,
            position: identified.position.by_ref(),
        }
    }

    /// What the Avro library makes of the same record.
    fn library_value(i: &Identified) -> Value {
        fn optional<T>(value: Option<T>, wrap: impl Fn(T) -> Value) -> Value {
            match value {
                None => Value::Union(0, Box::new(Value::Null)),
                Some(value) => Value::Union(1, Box::new(wrap(value))),
            }
        }
        let p = i.position.clone();
        let fields = [
            ("source", Value::String(i.source.clone())),
            ("source_offset", Value::Long(i.source_offset)),
            ("flight_id", Value::String(p.flight_id)),
            ("callsign", Value::String(p.callsign)),
            ("longitude", Value::Double(p.longitude)),
            ("latitude", Value::Double(p.latitude)),
            ("altitude", Value::Int(p.altitude)),
            ("gspeed", Value::Float(p.gspeed)),
            ("timestamp", Value::TimestampMillis(p.timestamp)),
            ("icao24", optional(p.icao24, Value::String)),
            ("track", optional(p.track, Value::Float)),
            ("vertical_rate", optional(p.vertical_rate, Value::Int)),
            ("squawk", optional(p.squawk, Value::String)),
            ("on_ground", optional(p.on_ground, Value::Boolean)),
        ];
        Value::Record(
            fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }

    proptest! {
        #[test]
        fn our_bytes_are_the_library_s_bytes(event in any_identified()) {
            let schema = Schema::parse_str(POSITION_SCHEMA).unwrap();
            let writer = GenericDatumWriter::builder(&schema).build().unwrap();
            let expected = writer.write_value_to_vec(library_value(&event)).unwrap();
            let mut payload = Vec::new();
            Encoder::new(7).encode(&record(&event), &mut payload);
            prop_assert_eq!(&payload[..5], &[0, 0, 0, 0, 7][..]);
            prop_assert_eq!(&payload[5..], &expected[..]);
        }

        #[test]
        fn both_paths_read_what_was_written(event in any_identified()) {
            let mut payload = Vec::new();
            Encoder::new(7).encode(&record(&event), &mut payload);
            let (id, datum) = split_header(Some(&payload)).unwrap();
            prop_assert_eq!(id, 7);
            // Another name of the record makes it another schema: the resolving path.
            let other = POSITION_SCHEMA.replace("\"doc\": \"One aircraft", "\"aliases\": [\"Old\"], \"doc\": \"One aircraft")
                .replace("{\"name\": \"on_ground\"", "{\"name\": \"extra\", \"type\": [\"null\", \"int\"], \"default\": null}, {\"name\": \"on_ground\"");
            let mut wider = datum.to_vec();
            let tail = if event.position.on_ground.is_some() { 2 } else { 1 };
            wider.insert(datum.len() - tail, 0);
            for (schema, bytes) in [(POSITION_SCHEMA, datum), (other.as_str(), &wider[..])] {
                let decoder = Decoder::new(7, schema).unwrap();
                prop_assert_eq!(decoder.resolve.is_none(), schema == POSITION_SCHEMA);
                let mut scratch = None;
                let read = decoder.decode(bytes, &mut scratch).unwrap();
                prop_assert_eq!(format!("{:?}", read), format!("{:?}", record(&event)));
            }
        }

        #[test]
        fn no_payload_panics(payload in proptest::collection::vec(any::<u8>(), 0..120)) {
            let decoder = Decoder::new(1, POSITION_SCHEMA).unwrap();
            if let Ok((_, datum)) = split_header(Some(&payload)) {
                let _ = decoder.decode(datum, &mut None);
            }
        }

        #[test]
        fn a_cut_record_is_an_error(event in any_identified(), cut in 1usize..60) {
            let mut datum = Vec::new();
            datum::write(&record(&event), &mut datum);
            datum.truncate(datum.len().saturating_sub(cut));
            prop_assert!(datum::read(&datum).is_err());
        }
    }

    #[test]
    fn what_is_not_the_wire_format_is_named() {
        assert_eq!(split_header(None).unwrap_err().code(), "empty");
        assert_eq!(
            split_header(Some(b"{\"json\":1}")).unwrap_err().code(),
            "not_wire_format"
        );
        assert_eq!(
            split_header(Some(&[0, 0, 0])).unwrap_err().code(),
            "not_wire_format"
        );
    }

    #[test]
    fn a_schema_without_what_a_position_needs_is_unresolvable() {
        let schema = r#"{"type":"record","name":"Position","namespace":"contrail.flight","fields":[{"name":"x","type":"int"}]}"#;
        let error = Decoder::new(9, schema)
            .unwrap()
            .decode(&[2], &mut None)
            .unwrap_err();
        assert_eq!(error.code(), "unresolvable");
    }
}
