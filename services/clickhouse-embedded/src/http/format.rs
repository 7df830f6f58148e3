//! Formats of results: what they are called in HTTP, and whether they can be sent in pieces.

/// How a result of a format can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Pieces follow each other as they are.
    Pieces,
    /// Pieces follow each other with this between them.
    Separated(&'static str),
    /// Every piece begins with the same header, which only the first one keeps.
    Headed(Header),
    /// One document, which is complete when the query is.
    Whole,
}

/// What the header of a format looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// So many lines, with nothing quoted.
    Lines(u64),
    /// So many lines of CSV, where quotes may hide a line feed.
    CsvLines(u64),
    /// A count, then so many strings for each column, by RowBinary's rules.
    Binary {
        /// Strings for each column: its name, and maybe its type.
        strings: u64,
    },
}

/// How this format can be sent. Unknown ones go as a whole.
pub fn delivery(format: &str) -> Delivery {
    let format = format.to_ascii_lowercase();
    let (base, lines) = format
        .strip_suffix("withnamesandtypes")
        .map(|base| (base, 2))
        .or_else(|| format.strip_suffix("withnames").map(|base| (base, 1)))
        .unwrap_or((format.as_str(), 0));
    match (base, lines) {
        ("native" | "buffers" | "msgpack" | "bsoneachrow" | "protobuf" | "tskv", 0) => {
            Delivery::Pieces
        }
        ("jsoneachrow" | "jsonlines" | "jsonl" | "ndjson" | "jsonstringseachrow", 0) => {
            Delivery::Pieces
        }
        ("prettyjsoneachrow" | "prettyjsonlines" | "prettyndjson" | "rawblob", 0) => {
            Delivery::Pieces
        }
        ("values", 0) => Delivery::Separated(","),
        ("rowbinary", 0) => Delivery::Pieces,
        ("rowbinary", strings) => Delivery::Headed(Header::Binary { strings }),
        ("csv", 0) => Delivery::Pieces,
        ("csv", lines) => Delivery::Headed(Header::CsvLines(lines)),
        (
            "tabseparated"
            | "tsv"
            | "tabseparatedraw"
            | "tsvraw"
            | "raw"
            | "lineasstring"
            | "jsoncompacteachrow"
            | "jsoncompactstringseachrow",
            lines,
        ) => match lines {
            0 => Delivery::Pieces,
            lines => Delivery::Headed(Header::Lines(lines)),
        },
        _ => Delivery::Whole,
    }
}

impl Header {
    /// The header's length at the beginning of a piece; 0 if there is none.
    pub fn length(self, piece: &[u8]) -> usize {
        match self {
            Self::Lines(lines) => piece
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte == b'\n')
                .nth(
                    usize::try_from(lines)
                        .unwrap_or(usize::MAX)
                        .saturating_sub(1),
                )
                .map_or(0, |(at, _)| at + 1),
            Self::CsvLines(lines) => {
                let (mut quoted, mut left) = (false, lines);
                for (at, byte) in piece.iter().enumerate() {
                    match byte {
                        b'"' => quoted = !quoted,
                        b'\n' if !quoted => {
                            left -= 1;
                            if left == 0 {
                                return at + 1;
                            }
                        }
                        _ => {}
                    }
                }
                0
            }
            Self::Binary { strings } => binary_header(piece, strings).unwrap_or(0),
        }
    }
}

fn binary_header(piece: &[u8], strings: u64) -> Option<usize> {
    let mut at = 0;
    let columns = varint(piece, &mut at)?;
    for _ in 0..columns.checked_mul(strings)? {
        let length = usize::try_from(varint(piece, &mut at)?).ok()?;
        at = at.checked_add(length).filter(|at| *at <= piece.len())?;
    }
    Some(at)
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The media type of a format, as ClickHouse names it.
pub fn content_type(format: &str) -> &'static str {
    let lower = format.to_ascii_lowercase();
    match lower.as_str() {
        "csvwithnames" | "csvwithnamesandtypes" => "text/csv; charset=UTF-8; header=present",
        "csv" => "text/csv; charset=UTF-8; header=absent",
        "jsoneachrow"
        | "jsonlines"
        | "ndjson"
        | "jsonstringseachrow"
        | "jsoncompacteachrow"
        | "jsoncompactstringseachrow" => "application/x-ndjson; charset=UTF-8",
        "xml" => "application/xml; charset=UTF-8",
        "markdown" => "text/markdown; charset=UTF-8",
        "parquet" | "orc" | "avro" | "arrow" | "arrowstream" | "native" | "msgpack" | "npy" => {
            "application/octet-stream"
        }
        _ if lower.starts_with("rowbinary") => "application/octet-stream",
        _ if lower.starts_with("json") => "application/json; charset=UTF-8",
        _ if lower.starts_with("tabseparated") || lower.starts_with("tsv") || lower == "tskv" => {
            "text/tab-separated-values; charset=UTF-8"
        }
        _ => "text/plain; charset=UTF-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_measured() {
        assert_eq!(Header::Lines(2).length(b"a\tb\nX\tY\n1\t2\n"), 8);
        assert_eq!(Header::Lines(1).length(b"no line"), 0);
        assert_eq!(Header::CsvLines(1).length(b"\"a\nb\"\"\",c\n1,2\n"), 10);
        let binary = b"\x02\x01a\x02bc\x05UInt8\x06String\x07";
        let header = Header::Binary { strings: 2 };
        assert_eq!(header.length(binary), binary.len() - 1);
        assert_eq!(
            header.length(b"\x02\x01a\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            0
        );
        assert_eq!(
            header.length(b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x01"),
            0
        );
    }

    #[test]
    fn documents_go_whole() {
        for format in [
            "JSON",
            "Parquet",
            "PrettyCompact",
            "XML",
            "Null",
            "Nonsense",
        ] {
            assert_eq!(delivery(format), Delivery::Whole, "{format}");
        }
        assert_eq!(delivery("RowBinary"), Delivery::Pieces);
        assert_eq!(delivery("JSONEachRow"), Delivery::Pieces);
        assert_eq!(
            delivery("TSVWithNamesAndTypes"),
            Delivery::Headed(Header::Lines(2))
        );
        assert_eq!(delivery("NativeWithNames"), Delivery::Whole);
    }
}
