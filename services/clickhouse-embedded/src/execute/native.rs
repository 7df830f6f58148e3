//! Native for a `client_protocol_version`, which clickhouse-go and clickhouse-connect give. libchdb
//! writes the oldest version only: blocks without a description of themselves, columns without the
//! way in which they are serialised, and types without time zones.
//!
//! The format Buffers has the same columns, each with its size, so that they can be passed on as they
//! are; names and types come from DESCRIBE. Statements that cannot be described (SHOW, EXISTS, …)
//! answer in few and simple types, whose Native is read here.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Job, Output};
use crate::engine::{Connection, Stats};
use crate::exception::{Exception, code};
use crate::sql::Query;

/// From this version on a block begins with what it is.
const WITH_BLOCK_INFO: u64 = 1;
/// From this version on a column says how it is serialised.
const WITH_CUSTOM_SERIALIZATION: u64 = 54_454;
/// No overflow row (field 1), no bucket (field 2), end.
const BLOCK_INFO: [u8; 8] = [1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0];

/// Name and type.
type Column = (Vec<u8>, Vec<u8>);

/// Runs a SELECT and sends its blocks.
pub(super) fn stream(
    connection: &Connection,
    job: &Job,
    query: &Query,
    output: &mut dyn Output,
) -> Result<Stats, Exception> {
    let mut select = job.text[..query.end].to_vec();
    if let Some((start, end)) = query.format_clause {
        select[start..end].fill(b' ');
    }
    let columns = describe(connection, job, &select)?;
    let mut stats = Stats::default();
    let mut stream = connection.stream(&select, "Buffers", &job.parameters)?;
    while let Some(piece) = stream.next_piece()? {
        stats += piece.stats();
        let blocks = blocks(piece.as_ref(), &columns, job.protocol_version)?;
        if !blocks.is_empty() {
            output.piece(blocks, &stats)?;
        }
    }
    Ok(stats)
}

fn describe(connection: &Connection, job: &Job, select: &[u8]) -> Result<Vec<Column>, Exception> {
    // On a line of its own: the statement may end with a comment.
    let text = [b"DESCRIBE TABLE (\n", select, b"\n)"].concat();
    let answer = connection.query(&text, "RowBinaryWithNames", &job.parameters)?;
    let mut reader = Reader(answer.as_ref());
    let mut read = || {
        let count = reader.varint()?;
        for _ in 0..count {
            reader.string()?;
        }
        let mut columns = Vec::new();
        while !reader.0.is_empty() {
            let (name, kind) = (reader.string()?.to_vec(), reader.string()?.to_vec());
            for _ in 2..count {
                reader.string()?;
            }
            columns.push((name, kind));
        }
        Some(columns)
    };
    read().ok_or_else(|| unexpected("the answer to DESCRIBE"))
}

/// Blocks of Buffers: counts of columns and rows, then each column's size and bytes.
fn blocks(buffers: &[u8], columns: &[Column], version: u64) -> Result<Bytes, Exception> {
    let mut reader = Reader(buffers);
    let mut blocks = BytesMut::with_capacity(buffers.len() + columns.len() * 32 + 32);
    while !reader.0.is_empty() {
        let mut read = || {
            let (count, rows) = (reader.number()?, reader.number()?);
            if count != columns.len() as u64 {
                return None;
            }
            put_head(&mut blocks, count, rows, version);
            for (name, kind) in columns {
                put_column(&mut blocks, name, kind, version);
                let size = usize::try_from(reader.number()?).ok()?;
                blocks.extend_from_slice(reader.take(size)?);
            }
            Some(())
        };
        read().ok_or_else(|| unexpected("a block of Buffers"))?;
    }
    Ok(blocks.freeze())
}

/// Takes Native of the oldest version, of simple types, and gives it for a version.
///
/// # Errors
/// 48 for a type that is not simple.
pub(super) fn rewrite(native: &[u8], version: u64) -> Result<Bytes, Exception> {
    let mut reader = Reader(native);
    let mut blocks = BytesMut::with_capacity(native.len() + 64);
    while !reader.0.is_empty() {
        let mut head = || Some((reader.varint()?, reader.varint()?));
        let (count, rows) = head().ok_or_else(|| unexpected("a block of Native"))?;
        put_head(&mut blocks, count, rows, version);
        for _ in 0..count {
            let mut column = || Some((reader.string()?, reader.string()?));
            let (name, kind) = column().ok_or_else(|| unexpected("a column of Native"))?;
            put_column(&mut blocks, name, kind, version);
            let before = reader.0;
            let kind = String::from_utf8_lossy(kind);
            reader.skip(&kind, rows).ok_or_else(|| {
                Exception::new(
                    code::NOT_IMPLEMENTED,
                    "NOT_IMPLEMENTED",
                    &format!(
                        "a column of type {kind} in Native with client_protocol_version is \
                         supported in SELECT only"
                    ),
                )
            })?;
            blocks.extend_from_slice(&before[..before.len() - reader.0.len()]);
        }
    }
    Ok(blocks.freeze())
}

fn put_head(to: &mut BytesMut, columns: u64, rows: u64, version: u64) {
    if version >= WITH_BLOCK_INFO {
        to.extend_from_slice(&BLOCK_INFO);
    }
    put_varint(to, columns);
    put_varint(to, rows);
}

fn put_column(to: &mut BytesMut, name: &[u8], kind: &[u8], version: u64) {
    for text in [name, kind] {
        put_varint(to, text.len() as u64);
        to.extend_from_slice(text);
    }
    if version >= WITH_CUSTOM_SERIALIZATION {
        to.put_u8(0);
    }
}

fn put_varint(to: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        to.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.put_u8(value as u8);
}

fn unexpected(what: &str) -> Exception {
    Exception::new(
        code::LOGICAL_ERROR,
        "LOGICAL_ERROR",
        &format!("{what} is not as expected"),
    )
}

/// Reads from the beginning of bytes; None where they end too early.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let bytes = self.take(8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }

    /// Skips the values of a column; None for a type that is not simple.
    fn skip(&mut self, kind: &str, rows: u64) -> Option<()> {
        let inner = |name: &str| {
            kind.strip_prefix(name)?
                .strip_prefix('(')?
                .strip_suffix(')')
        };
        if kind == "String" {
            for _ in 0..rows {
                self.string()?;
            }
            return Some(());
        }
        if let Some(kind) = inner("Nullable") {
            self.take(usize::try_from(rows).ok()?)?;
            return self.skip(kind, rows);
        }
        if let Some(kind) = inner("Array") {
            let offsets = self.take(usize::try_from(rows).ok()?.checked_mul(8)?)?;
            let last = offsets
                .last_chunk()
                .map_or(0, |bytes| u64::from_le_bytes(*bytes));
            return self.skip(kind, last);
        }
        let name = kind.split('(').next().unwrap_or_default();
        let width = match name {
            "UInt8" | "Int8" | "Bool" | "Enum8" => 1,
            "UInt16" | "Int16" | "Date" | "Enum16" => 2,
            "UInt32" | "Int32" | "Float32" | "DateTime" | "Date32" | "IPv4" => 4,
            "UInt64" | "Int64" | "Float64" | "DateTime64" => 8,
            "UUID" | "IPv6" | "UInt128" | "Int128" => 16,
            _ => return None,
        };
        self.take(usize::try_from(rows).ok()?.checked_mul(width)?)
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_get_what_their_version_has() {
        let mut buffers = Vec::new();
        for number in [2_u64, 3, 3] {
            buffers.extend_from_slice(&number.to_le_bytes());
        }
        buffers.extend_from_slice(b"abc");
        buffers.extend_from_slice(&1_u64.to_le_bytes());
        buffers.push(9);
        let columns = [
            (b"x".to_vec(), b"UInt8".to_vec()),
            (b"y".to_vec(), b"Z".to_vec()),
        ];
        let old = blocks(&buffers, &columns, 54_405).unwrap();
        assert_eq!(
            old[..],
            [&BLOCK_INFO[..], b"\x02\x03\x01x\x05UInt8abc\x01y\x01Z\x09"].concat()
        );
        let new = blocks(&buffers, &columns, 54_460).unwrap();
        assert_eq!(
            new[..],
            [
                &BLOCK_INFO[..],
                b"\x02\x03\x01x\x05UInt8\0abc\x01y\x01Z\0\x09"
            ]
            .concat()
        );
        assert!(blocks(&buffers[..buffers.len() - 1], &columns, 1).is_err());
        assert!(blocks(&buffers, &columns[..1], 1).is_err());
    }

    #[test]
    fn simple_native_is_rewritten() {
        let native =
            b"\x02\x02\x04name\x06String\x02ab\x00\x01n\x0fNullable(UInt8)\x00\x01\x07\x00";
        let new = rewrite(native, 54_460).unwrap();
        let expected =
            b"\x02\x02\x04name\x06String\0\x02ab\x00\x01n\x0fNullable(UInt8)\0\x00\x01\x07\x00";
        assert_eq!(new[..], [&BLOCK_INFO[..], expected].concat());
        let map = b"\x01\x01\x01m\x14Map(String, UInt8)  \x00";
        assert_eq!(rewrite(map, 1).unwrap_err().code(), 48);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_bytes_are_an_error_or_blocks(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            kind in prop::sample::select(vec!["String", "Array(UInt64)", "Nullable(Int8)", "Map()"]),
            rows in any::<u64>(),
        ) {
            let _ = rewrite(&bytes, 1);
            let _ = blocks(&bytes, &[(vec![b'x'], vec![b'y'])], 1);
            let _ = Reader(&bytes).skip(kind, rows);
        }
    }
}
