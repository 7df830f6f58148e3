//! Rows as one block of ClickHouse's Native format: column after column, each with its name and type
//! before it. What the server would have to parse row by row, it takes as it is.

use bytes::Bytes;
use flight::avro::Record;

use super::column::{CHUNK_ROWS, Column, Numbers, Optional, Pieces};
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

/// Columns that come from the records: all but the deadline.
const STORED: usize = INSERT_COLUMNS.len() - 1;

/// Bytes of a row in columns of numbers.
const NUMBER_BYTES: usize = 8 + 8 + 8 + 4 + 4 + 8 + 5 + 5 + 2;

/// An encoded block, in pieces that are sent one after another.
#[derive(Debug, Clone, Default)]
pub struct Block(Vec<Bytes>);

impl Block {
    /// The pieces, in their order.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter()
    }

    /// Bytes of all pieces.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }
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
        if self.rows > 0 && self.rows.is_multiple_of(CHUNK_ROWS) {
            for column in self.columns_mut() {
                column.next_chunk();
            }
        }
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

    /// Memory that the rows take, about.
    pub fn bytes(&self) -> usize {
        let names = [
            &self.source,
            &self.flight_id,
            &self.callsign,
            &self.icao24,
            &self.squawk,
        ];
        let indexes: usize = names.iter().map(|names| names.row_bytes()).sum();
        let keys: usize = names.iter().map(|names| names.key_bytes()).sum();
        self.rows * (NUMBER_BYTES + indexes) + keys
    }

    /// The columns, in the order in which they are sent.
    fn columns(&self) -> [&dyn Column; STORED] {
        [
            &self.source,
            &self.source_offset,
            &self.flight_id,
            &self.callsign,
            &self.longitude,
            &self.latitude,
            &self.altitude,
            &self.gspeed,
            &self.timestamp,
            &self.icao24,
            &self.track,
            &self.vertical_rate,
            &self.squawk,
            &self.on_ground,
        ]
    }

    fn columns_mut(&mut self) -> [&mut dyn Column; STORED] {
        [
            &mut self.source,
            &mut self.source_offset,
            &mut self.flight_id,
            &mut self.callsign,
            &mut self.longitude,
            &mut self.latitude,
            &mut self.altitude,
            &mut self.gspeed,
            &mut self.timestamp,
            &mut self.icao24,
            &mut self.track,
            &mut self.vertical_rate,
            &mut self.squawk,
            &mut self.on_ground,
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

    /// Empties all columns. A chunk of memory is kept, and what more a large batch had is given back.
    pub fn clear(&mut self) {
        if self.rows > CHUNK_ROWS {
            *self = Self::default();
            return;
        }
        self.rows = 0;
        for column in self.columns_mut() {
            column.clear();
        }
        self.guesses.clear();
        (self.last_source, self.last_flight) = (0, 0);
    }

    /// Puts the rows into the order of their callsigns; rows of one callsign stay in theirs. Gives where
    /// each row was, or nothing if none has moved.
    pub fn sort_by_callsign(&mut self) -> Option<Vec<u32>> {
        let order = self.callsign.order()?;
        for column in self.columns_mut() {
            column.reorder(&order);
        }
        Some(order)
    }

    /// The rows that are `chosen`, or all, as a block with the deadline of its insert.
    pub fn block(&self, chosen: Option<&[usize]>, deadline: u32) -> Block {
        let rows = chosen.map_or(self.rows, <[usize]>::len);
        let mut out = Pieces::default();
        out.varint(INSERT_COLUMNS.len() as u64);
        out.varint(rows as u64);
        let [(name, kind), stored @ ..] = &INSERT_COLUMNS;
        out.text(name);
        out.text(kind);
        repeat(deadline, rows, &mut out);
        for ((name, kind), column) in stored.iter().zip(self.columns()) {
            out.text(name);
            out.text(kind);
            column.write(chosen, &mut out);
        }
        Block(out.finish())
    }
}

/// Appends one number for each row.
fn repeat(number: u32, rows: usize, out: &mut Pieces) {
    const WIDTH: usize = size_of::<u32>();
    let chunk: Bytes = number.to_le_bytes().repeat(rows.min(CHUNK_ROWS)).into();
    for begin in (0..rows).step_by(CHUNK_ROWS) {
        out.share(&chunk.slice(..(rows - begin).min(CHUNK_ROWS) * WIDTH));
    }
}
