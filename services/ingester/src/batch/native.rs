//! Rows as one block of ClickHouse's Native format: column after column, each with its name and type
//! before it. What the server would have to parse row by row, it takes as it is.

use bytes::Bytes;
use flight::avro::Record;

use super::dictionary::Dictionary;

/// The columns of a block, in their order, with their types.
pub const INSERT_COLUMNS: [(&str, &str); 15] = [
    ("insert_deadline", "DateTime('UTC')"),
    ("source", "LowCardinality(String)"),
    ("source_offset", "UInt64"),
    ("flight_id", "LowCardinality(String)"),
    ("callsign", "LowCardinality(String)"),
    ("longitude", "Float64"),
    ("latitude", "Float64"),
    ("altitude", "Int32"),
    ("gspeed", "Float32"),
    ("timestamp", "DateTime64(3, 'UTC')"),
    ("icao24", "LowCardinality(Nullable(String))"),
    ("track", "Nullable(Float32)"),
    ("vertical_rate", "Nullable(Int32)"),
    ("squawk", "LowCardinality(Nullable(String))"),
    ("on_ground", "Nullable(Bool)"),
];

/// Bytes of a row in columns of numbers, as they wait.
const ROW_BYTES: usize = 8 + 8 + 8 + 4 + 4 + 8 + 5 + 5 + 2;

/// Columns of numbers in a block, those that say what is null among them.
const NUMBERS: usize = 12;

/// An encoded block, in pieces that are sent one after another.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// What stands before each piece of numbers: names and types, and the columns of strings. The last
    /// column is one of numbers.
    before: [Bytes; NUMBERS],
    numbers: [Bytes; NUMBERS],
}

impl Block {
    /// The pieces, in their order. Some are empty.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        let pairs = self.before.iter().zip(&self.numbers);
        pairs.flat_map(|(before, numbers)| [before, numbers])
    }

    /// Bytes of all pieces.
    pub fn bytes(&self) -> usize {
        self.pieces().map(Bytes::len).sum()
    }
}

/// A column of numbers, all of one width, little-endian.
#[derive(Debug)]
struct Numbers<const WIDTH: usize>(Vec<u8>);

impl<const WIDTH: usize> Numbers<WIDTH> {
    fn push(&mut self, number: [u8; WIDTH]) {
        self.0.extend_from_slice(&number);
    }

    fn at(&self, row: usize) -> [u8; WIDTH] {
        let mut number = [0; WIDTH];
        number.copy_from_slice(&self.0[row * WIDTH..][..WIDTH]);
        number
    }
}

impl<const WIDTH: usize> Default for Numbers<WIDTH> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// A column of numbers some of which are absent: a byte each that says whether it is, and the numbers.
#[derive(Debug, Default)]
struct Optional<const WIDTH: usize> {
    nulls: Numbers<1>,
    numbers: Numbers<WIDTH>,
}

impl<const WIDTH: usize> Optional<WIDTH> {
    fn push(&mut self, number: Option<[u8; WIDTH]>) {
        self.nulls.push([u8::from(number.is_none())]);
        self.numbers.push(number.unwrap_or([0; WIDTH]));
    }
}

/// Puts numbers into an order: at each place stands where the number was. `spare` is memory to use.
fn gather<const WIDTH: usize>(column: &mut Vec<u8>, order: &[u32], spare: &mut Vec<u8>) {
    let (numbers, _) = column.as_chunks::<WIDTH>();
    spare.clear();
    // As much as the column had: it will fill up again.
    spare.reserve(column.capacity());
    for row in order {
        spare.extend_from_slice(&numbers[*row as usize]);
    }
    std::mem::swap(column, spare);
}

/// What the strings of one flight usually are: where its last row had them.
#[derive(Debug, Clone, Copy, Default)]
struct Guess {
    callsign: u32,
    icao24: u32,
    squawk: u32,
    /// The flight that came after this one.
    next: u32,
}

/// Rows that wait, column by column.
#[derive(Debug)]
pub struct Columns {
    rows: usize,
    source: Dictionary,
    source_offset: Numbers<8>,
    flight_id: Dictionary,
    callsign: Dictionary,
    longitude: Numbers<8>,
    latitude: Numbers<8>,
    altitude: Numbers<4>,
    gspeed: Numbers<4>,
    timestamp: Numbers<8>,
    icao24: Dictionary,
    track: Optional<4>,
    vertical_rate: Optional<4>,
    squawk: Dictionary,
    on_ground: Optional<1>,
    /// By the index of the flight's id.
    guesses: Vec<Guess>,
    last_source: u32,
    last_flight: u32,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            rows: 0,
            source: Dictionary::new(false),
            source_offset: Numbers::default(),
            flight_id: Dictionary::new(false),
            callsign: Dictionary::new(false),
            longitude: Numbers::default(),
            latitude: Numbers::default(),
            altitude: Numbers::default(),
            gspeed: Numbers::default(),
            timestamp: Numbers::default(),
            icao24: Dictionary::new(true),
            track: Optional::default(),
            vertical_rate: Optional::default(),
            squawk: Dictionary::new(true),
            on_ground: Optional::default(),
            guesses: Vec::new(),
            last_source: 0,
            last_flight: 0,
        }
    }
}

impl Columns {
    /// Appends a row.
    pub fn push(&mut self, record: &Record<'_>) {
        let p = &record.position;
        self.rows += 1;
        self.last_source = self.source.push(record.source, self.last_source);
        self.source_offset.push(record.source_offset.to_le_bytes());
        self.push_names(record);
        self.longitude.push(p.longitude.to_le_bytes());
        self.latitude.push(p.latitude.to_le_bytes());
        self.altitude.push(p.altitude.to_le_bytes());
        self.gspeed.push(p.gspeed.to_le_bytes());
        self.timestamp.push(p.timestamp.to_le_bytes());
        self.track.push(p.track.map(f32::to_le_bytes));
        self.vertical_rate
            .push(p.vertical_rate.map(i32::to_le_bytes));
        self.on_ground.push(p.on_ground.map(|yes| [u8::from(yes)]));
    }

    /// A flight keeps its callsign, address and, for the most part, its squawk, and flights come in the
    /// order in which they came before: most strings are found without a search.
    fn push_names(&mut self, record: &Record<'_>) {
        let p = &record.position;
        let expected = self
            .guesses
            .get(self.last_flight as usize)
            .map_or(0, |last| last.next);
        let flight = self.flight_id.push(p.flight_id, expected);
        if let Some(last) = self.guesses.get_mut(self.last_flight as usize) {
            last.next = flight;
        }
        self.last_flight = flight;
        if self.guesses.len() <= flight as usize {
            self.guesses.push(Guess::default());
        }
        let guess = &mut self.guesses[flight as usize];
        guess.callsign = self.callsign.push(p.callsign, guess.callsign);
        match p.icao24 {
            Some(icao24) => guess.icao24 = self.icao24.push(icao24, guess.icao24),
            None => self.icao24.push_null(),
        }
        match p.squawk {
            Some(squawk) => guess.squawk = self.squawk.push(squawk, guess.squawk),
            None => self.squawk.push_null(),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of rows for which there is memory.
    pub fn row_capacity(&self) -> usize {
        self.altitude.0.capacity() / size_of::<i32>()
    }

    /// Memory that the rows take, about.
    pub fn bytes(&self) -> usize {
        let names = self.dictionaries();
        let indexes: usize = names.iter().map(|names| names.row_bytes()).sum();
        let keys: usize = names.iter().map(|names| names.key_bytes()).sum();
        self.rows * (ROW_BYTES + indexes) + keys
    }

    fn dictionaries(&self) -> [&Dictionary; 5] {
        [
            &self.source,
            &self.flight_id,
            &self.callsign,
            &self.icao24,
            &self.squawk,
        ]
    }

    /// The column of source names: a row's index and a name's text.
    pub fn source(&self) -> &Dictionary {
        &self.source
    }

    /// A row's offset in its source.
    pub fn source_offset(&self, row: usize) -> i64 {
        i64::from_le_bytes(self.source_offset.at(row))
    }

    /// A row's timestamp in milliseconds UTC.
    pub fn timestamp_ms(&self, row: usize) -> i64 {
        i64::from_le_bytes(self.timestamp.at(row))
    }

    /// Empties all columns and keeps their memory.
    pub fn clear(&mut self) {
        self.rows = 0;
        for dictionary in [
            &mut self.source,
            &mut self.flight_id,
            &mut self.callsign,
            &mut self.icao24,
            &mut self.squawk,
        ] {
            dictionary.clear();
        }
        self.numbers()
            .into_iter()
            .for_each(|(column, _)| column.clear());
        self.guesses.clear();
        (self.last_source, self.last_flight) = (0, 0);
    }

    /// The memory of all columns of numbers, in the order in which they are sent, with their widths.
    fn numbers(&mut self) -> [(&mut Vec<u8>, usize); NUMBERS] {
        [
            (&mut self.source_offset.0, 8),
            (&mut self.longitude.0, 8),
            (&mut self.latitude.0, 8),
            (&mut self.altitude.0, 4),
            (&mut self.gspeed.0, 4),
            (&mut self.timestamp.0, 8),
            (&mut self.track.nulls.0, 1),
            (&mut self.track.numbers.0, 4),
            (&mut self.vertical_rate.nulls.0, 1),
            (&mut self.vertical_rate.numbers.0, 4),
            (&mut self.on_ground.nulls.0, 1),
            (&mut self.on_ground.numbers.0, 1),
        ]
    }

    /// Puts the rows into the order of their callsigns; rows of one callsign stay in theirs. Gives where
    /// each row was, or nothing if none has moved.
    pub fn sort_by_callsign(&mut self) -> Option<Vec<u32>> {
        let order = self.callsign.order()?;
        let mut numbers = Vec::new();
        for (column, width) in self.numbers() {
            match width {
                1 => gather::<1>(column, &order, &mut numbers),
                4 => gather::<4>(column, &order, &mut numbers),
                _ => gather::<8>(column, &order, &mut numbers),
            }
        }
        for dictionary in [
            &mut self.source,
            &mut self.flight_id,
            &mut self.callsign,
            &mut self.icao24,
            &mut self.squawk,
        ] {
            dictionary.reorder(&order);
        }
        Some(order)
    }

    /// All rows as a block, without a copy of the numbers: they are in the block until
    /// [`restore`](Self::restore) brings them back.
    pub fn take(&mut self, deadline: u32) -> Block {
        Block {
            before: self.between(self.rows, None, deadline),
            numbers: self
                .numbers()
                .map(|(column, _)| Bytes::from(std::mem::take(column))),
        }
    }

    /// Takes the numbers back from a block; without a copy, if nobody else holds it.
    pub fn restore(&mut self, block: Block) {
        for ((column, _), numbers) in self.numbers().into_iter().zip(block.numbers) {
            *column = numbers.into();
        }
    }

    /// A block of some rows.
    pub fn copy(&mut self, rows: &[usize], deadline: u32) -> Block {
        Block {
            before: self.between(rows.len(), Some(rows), deadline),
            numbers: self.numbers().map(|(column, width)| {
                let mut copy = Vec::with_capacity(rows.len() * width);
                for row in rows {
                    copy.extend_from_slice(&column[row * width..][..width]);
                }
                Bytes::from(copy)
            }),
        }
    }

    /// What a block of `rows` rows, those that are `chosen` or all, has before each piece of numbers.
    fn between(&self, rows: usize, chosen: Option<&[usize]>, deadline: u32) -> [Bytes; NUMBERS] {
        let dictionary = |out: &mut Vec<u8>, column: &Dictionary| match chosen {
            None => column.write(column.indexes(), out),
            Some(rows) => column.write(rows.iter().map(|row| column.index(*row)), out),
        };
        let mut before = [const { Bytes::new() }; NUMBERS];
        let mut piece = before.iter_mut();
        let mut out = Vec::new();
        varint(INSERT_COLUMNS.len() as u64, &mut out);
        varint(rows as u64, &mut out);
        for (name, kind) in INSERT_COLUMNS {
            text(name, &mut out);
            text(kind, &mut out);
            match name {
                "insert_deadline" => {
                    out.reserve(rows * size_of_val(&deadline));
                    out.extend(std::iter::repeat_n(deadline.to_le_bytes(), rows).flatten());
                }
                "source" => dictionary(&mut out, &self.source),
                "flight_id" => dictionary(&mut out, &self.flight_id),
                "callsign" => dictionary(&mut out, &self.callsign),
                "icao24" => dictionary(&mut out, &self.icao24),
                "squawk" => dictionary(&mut out, &self.squawk),
                _ => {
                    // What is null, if anything may be, is a piece of its own before the numbers.
                    let pieces = if kind.starts_with("Nullable") { 2 } else { 1 };
                    for piece in piece.by_ref().take(pieces) {
                        *piece = std::mem::take(&mut out).into();
                    }
                }
            }
        }
        before
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Appends a number as LEB128.
pub(super) fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_leb128() {
        let mut out = Vec::new();
        text(&"x".repeat(300), &mut out);
        assert_eq!(out[..3], [0xac, 0x02, b'x']);
    }
}
