//! The binary encoding of [`POSITION_SCHEMA`](super::POSITION_SCHEMA), field by field (Avro 1.12
//! specification, "Binary Encoding"): integers as zig-zag variable-length, strings with their length
//! before them, a union as the index of its branch and then the value.

use thiserror::Error;

use super::Record;
use crate::position::PositionRef;

/// A datum is not one position.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DatumError {
    /// The bytes end before the record does.
    #[error("it ends inside field {0}")]
    Truncated(&'static str),
    /// A number does not fit its type.
    #[error("field {0} has a number that does not fit")]
    Overflow(&'static str),
    /// A string is not UTF-8.
    #[error("field {0} is not UTF-8")]
    Utf8(&'static str),
    /// A union has a branch, or a boolean a value, that does not exist.
    #[error("field {0} has a branch that the schema lacks")]
    Branch(&'static str),
    /// There is more after the record.
    #[error("{0} bytes follow it")]
    Trailing(usize),
}

/// Appends the datum of one record.
pub fn write(record: &Record<'_>, out: &mut Vec<u8>) {
    let p = &record.position;
    string(record.source, out);
    long(record.source_offset, out);
    string(p.flight_id, out);
    string(p.callsign, out);
    out.extend_from_slice(&p.longitude.to_le_bytes());
    out.extend_from_slice(&p.latitude.to_le_bytes());
    long(i64::from(p.altitude), out);
    out.extend_from_slice(&p.gspeed.to_le_bytes());
    long(p.timestamp, out);
    optional(p.icao24, out, string);
    optional(p.track, out, |track, out| {
        out.extend_from_slice(&track.to_le_bytes())
    });
    optional(p.vertical_rate, out, |rate, out| long(i64::from(rate), out));
    optional(p.squawk, out, string);
    optional(p.on_ground, out, |on_ground, out| {
        out.push(u8::from(on_ground))
    });
}

fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn string(text: &str, out: &mut Vec<u8>) {
    long(text.len() as i64, out);
    out.extend_from_slice(text.as_bytes());
}

fn optional<T>(value: Option<T>, out: &mut Vec<u8>, write: impl FnOnce(T, &mut Vec<u8>)) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(2);
            write(value, out);
        }
    }
}

/// Reads one record, and nothing after it. Strings are borrowed from the datum.
///
/// # Errors
/// See [`DatumError`].
pub fn read(datum: &[u8]) -> Result<Record<'_>, DatumError> {
    let mut input = Input(datum);
    let record = Record {
        source: input.string("source")?,
        source_offset: input.long("source_offset")?,
        position: PositionRef {
            flight_id: input.string("flight_id")?,
            callsign: input.string("callsign")?,
            longitude: f64::from_le_bytes(input.array("longitude")?),
            latitude: f64::from_le_bytes(input.array("latitude")?),
            altitude: input.int("altitude")?,
            gspeed: f32::from_le_bytes(input.array("gspeed")?),
            timestamp: input.long("timestamp")?,
            icao24: input.optional("icao24", Input::string)?,
            track: input.optional("track", |i, field| i.array(field).map(f32::from_le_bytes))?,
            vertical_rate: input.optional("vertical_rate", Input::int)?,
            squawk: input.optional("squawk", Input::string)?,
            on_ground: input.optional("on_ground", Input::boolean)?,
        },
    };
    match input.0.len() {
        0 => Ok(record),
        trailing => Err(DatumError::Trailing(trailing)),
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    #[inline]
    fn byte(&mut self, field: &'static str) -> Result<u8, DatumError> {
        let (first, rest) = self.0.split_first().ok_or(DatumError::Truncated(field))?;
        self.0 = rest;
        Ok(*first)
    }

    #[inline]
    fn long(&mut self, field: &'static str) -> Result<i64, DatumError> {
        // Most numbers are below 64: lengths, branches of unions.
        if let Some((first @ 0..0x80, rest)) = self.0.split_first() {
            self.0 = rest;
            return Ok(i64::from(first >> 1) ^ -i64::from(first & 1));
        }
        self.long_of_many(field)
    }

    fn long_of_many(&mut self, field: &'static str) -> Result<i64, DatumError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(field)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DatumError::Overflow(field));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(DatumError::Overflow(field))
    }

    #[inline]
    fn int(&mut self, field: &'static str) -> Result<i32, DatumError> {
        i32::try_from(self.long(field)?).map_err(|_| DatumError::Overflow(field))
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DatumError> {
        let (array, rest) = self
            .0
            .split_first_chunk()
            .ok_or(DatumError::Truncated(field))?;
        self.0 = rest;
        Ok(*array)
    }

    #[inline]
    fn string(&mut self, field: &'static str) -> Result<&'a str, DatumError> {
        let length = usize::try_from(self.long(field)?).map_err(|_| DatumError::Overflow(field))?;
        if length > self.0.len() {
            return Err(DatumError::Truncated(field));
        }
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        // Nearly every string is short and of ASCII, which is quicker to see than that it is UTF-8.
        if text.is_ascii() {
            // SAFETY: ASCII is UTF-8.
            return Ok(unsafe { std::str::from_utf8_unchecked(text) });
        }
        std::str::from_utf8(text).map_err(|_| DatumError::Utf8(field))
    }

    #[inline]
    fn boolean(&mut self, field: &'static str) -> Result<bool, DatumError> {
        match self.byte(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DatumError::Branch(field)),
        }
    }

    #[inline]
    fn optional<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self, &'static str) -> Result<T, DatumError>,
    ) -> Result<Option<T>, DatumError> {
        match self.long(field)? {
            0 => Ok(None),
            1 => read(self, field).map(Some),
            _ => Err(DatumError::Branch(field)),
        }
    }
}
