//! Events that follow from source and offset, so that a row can be compared with what it must be.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use flight::avro::{Encoder, Record};
use flight::position::{Identified, Position};

/// Partitions of the tests' topics, unless a case says otherwise.
pub const PARTITIONS: i32 = 6;

/// Time of every source's offset 0: two hours ago, in milliseconds UTC.
static EPOCH_MS: LazyLock<i64> = LazyLock::new(|| now_ms() - 2 * 3_600_000);

/// Now, in milliseconds UTC.
pub fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(elapsed.as_millis()).unwrap()
}

/// The event of a source at an offset. Each optional field is there in some and absent in others.
pub fn event(source: &str, offset: i64) -> Identified {
    let n = offset;
    let some = |bit: i64| (n >> bit) & 1 == 0;
    Identified {
        source: source.to_owned(),
        source_offset: offset,
        position: Position {
            flight_id: format!("FDB{}-{}", n % 97, n / 97),
            callsign: match n % 11 {
                0 => String::new(),
                _ => format!("FDB{}", n % 97),
            },
            longitude: ((n * 7_919) % 36_000_001 - 18_000_000) as f64 / 100_000.0,
            latitude: ((n * 104_729) % 18_000_001 - 9_000_000) as f64 / 100_000.0,
            altitude: (n % 45_000) as i32 - 500,
            gspeed: (n % 6_000) as f32 / 10.0,
            timestamp: *EPOCH_MS + n * 7,
            icao24: some(0).then(|| format!("{:06x}", n % 0xff_ffff)),
            track: some(1).then(|| (n % 3_600) as f32 / 10.0),
            vertical_rate: some(2).then(|| (n % 8_000) as i32 - 4_000),
            squawk: some(3).then(|| format!("{:04o}", n % 0o7777)),
            on_ground: some(4).then_some(n % 3 == 0),
        },
    }
}

/// The partition of an event: a replay goes where the event went before.
pub fn partition_of(event: &Identified, partitions: i32) -> i32 {
    event.source_offset.rem_euclid(i64::from(partitions)) as i32
}

/// An event in the wire format.
pub fn encode(event: &Identified, schema_id: u32) -> Vec<u8> {
    let mut payload = Vec::new();
    let record = Record {
        source: &event.source,
        source_offset: event.source_offset,
        position: event.position.by_ref(),
    };
    Encoder::new(schema_id).encode(&record, &mut payload);
    payload
}
