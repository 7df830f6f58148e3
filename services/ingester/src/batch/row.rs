//! One row in ClickHouse's RowBinary format: columns one after another, numbers little-endian,
//! strings with their length as LEB128 before them, nullable values with a byte that says whether
//! they are null.

use flight::avro::Record;

/// The columns of a row, in the order in which [`encode`] writes them, with their types.
pub const INSERT_COLUMNS: [(&str, &str); 15] = [
    ("insert_deadline", "DateTime"),
    ("source", "String"),
    ("source_offset", "UInt64"),
    ("flight_id", "String"),
    ("callsign", "String"),
    ("longitude", "Float64"),
    ("latitude", "Float64"),
    ("altitude", "Int32"),
    ("gspeed", "Float32"),
    ("timestamp", "DateTime64(3, 'UTC')"),
    ("icao24", "Nullable(String)"),
    ("track", "Nullable(Float32)"),
    ("vertical_rate", "Nullable(Int32)"),
    ("squawk", "Nullable(String)"),
    ("on_ground", "Nullable(Bool)"),
];

/// Bytes at the start of a row that hold the insert's deadline, see [`stamp`].
const DEADLINE_BYTES: usize = 4;

/// Writes the deadline of an insert, in seconds since the epoch, into a row.
pub fn stamp(row: &mut [u8], deadline: u32) {
    row[..DEADLINE_BYTES].copy_from_slice(&deadline.to_le_bytes());
}

/// Appends one row, with the room for its deadline empty.
pub fn encode(record: &Record<'_>, out: &mut Vec<u8>) {
    let p = &record.position;
    out.extend_from_slice(&[0; DEADLINE_BYTES]);
    string(record.source, out);
    out.extend_from_slice(&record.source_offset.to_le_bytes());
    string(p.flight_id, out);
    string(p.callsign, out);
    out.extend_from_slice(&p.longitude.to_le_bytes());
    out.extend_from_slice(&p.latitude.to_le_bytes());
    out.extend_from_slice(&p.altitude.to_le_bytes());
    out.extend_from_slice(&p.gspeed.to_le_bytes());
    out.extend_from_slice(&p.timestamp.to_le_bytes());
    nullable(p.icao24, out, string);
    nullable(p.track, out, |track, out| {
        out.extend_from_slice(&track.to_le_bytes())
    });
    nullable(p.vertical_rate, out, |rate, out| {
        out.extend_from_slice(&rate.to_le_bytes())
    });
    nullable(p.squawk, out, string);
    nullable(p.on_ground, out, |on_ground, out| {
        out.push(u8::from(on_ground))
    });
}

fn string(text: &str, out: &mut Vec<u8>) {
    let mut length = text.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(text.as_bytes());
}

fn nullable<T>(value: Option<T>, out: &mut Vec<u8>, write: impl FnOnce(T, &mut Vec<u8>)) {
    out.push(u8::from(value.is_none()));
    if let Some(value) = value {
        write(value, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_leb128_and_null_is_one() {
        let mut out = Vec::new();
        string(&"x".repeat(300), &mut out);
        assert_eq!(out[..3], [0xac, 0x02, b'x']);
        out.clear();
        nullable(None::<&str>, &mut out, string);
        nullable(Some("ab"), &mut out, string);
        assert_eq!(out, [1, 0, 2, b'a', b'b']);
    }
}
