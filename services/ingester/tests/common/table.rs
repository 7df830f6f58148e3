//! What is in the table of positions.

use std::time::Duration;

use contrail::Stack;
use flight::position::{Identified, Position};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a statement and returns the answer, tab-separated.
pub fn ask(stack: &Stack, sql: &str) -> Result<String, String> {
    stack
        .warehouse()
        .query(sql, &[], "TabSeparated", TIMEOUT)
        .map(|answer| answer.trim_end().to_owned())
}

/// Rows of a source; 0 while there is no table, or no server.
pub fn count(stack: &Stack, source: &str) -> usize {
    let sql = format!("SELECT count() FROM flight_data.flight_positions WHERE source = '{source}'");
    ask(stack, &sql).map_or(0, |answer| answer.parse().unwrap())
}

/// All rows of a source, in the order of their offsets.
pub fn rows(stack: &Stack, source: &str) -> Vec<Identified> {
    let sql = format!(
        "SELECT toString(source_offset), flight_id, callsign, longitude, latitude, altitude, gspeed, \
         toString(toUnixTimestamp64Milli(timestamp)), icao24, track, vertical_rate, squawk, on_ground \
         FROM flight_data.flight_positions WHERE source = '{source}' ORDER BY source_offset \
         FORMAT JSONCompactEachRow"
    );
    let answer = ask(stack, &sql).unwrap();
    answer.lines().map(|line| row(source, line)).collect()
}

fn row(source: &str, line: &str) -> Identified {
    let fields: Vec<Value> = serde_json::from_str(line).unwrap();
    let text = |index: usize| fields[index].as_str().map(str::to_owned);
    let number = |index: usize| fields[index].as_f64();
    Identified {
        source: source.to_owned(),
        source_offset: text(0).unwrap().parse().unwrap(),
        position: Position {
            flight_id: text(1).unwrap(),
            callsign: text(2).unwrap(),
            longitude: number(3).unwrap(),
            latitude: number(4).unwrap(),
            altitude: number(5).unwrap() as i32,
            gspeed: number(6).unwrap() as f32,
            timestamp: text(7).unwrap().parse().unwrap(),
            icao24: text(8),
            track: number(9).map(|track| track as f32),
            vertical_rate: number(10).map(|rate| rate as i32),
            squawk: text(11),
            on_ground: fields[12].as_bool(),
        },
    }
}

/// Asserts that a source's rows are these, once each, whatever their order in the table.
pub fn assert_rows(stack: &Stack, source: &str, expected: &[Identified]) {
    let mut expected = expected.to_vec();
    expected.sort_by_key(|event| event.source_offset);
    let found = rows(stack, source);
    let offsets = |events: &[Identified]| -> Vec<i64> {
        events.iter().map(|event| event.source_offset).collect()
    };
    let (wanted, there) = (offsets(&expected), offsets(&found));
    if wanted != there {
        let missing: Vec<_> = wanted
            .iter()
            .filter(|o| there.binary_search(o).is_err())
            .collect();
        let alien: Vec<_> = there
            .iter()
            .filter(|o| wanted.binary_search(o).is_err())
            .collect();
        let doubled: Vec<_> = there
            .windows(2)
            .filter(|w| w[0] == w[1])
            .map(|w| w[0])
            .collect();
        panic!(
            "{source}: {} rows, not {}: missing {:?}, doubled {:?}, not asked for {:?}",
            there.len(),
            wanted.len(),
            Some(missing.iter().take(20).collect::<Vec<_>>()),
            doubled.iter().take(20).collect::<Vec<_>>(),
            alien.iter().take(20).collect::<Vec<_>>()
        );
    }
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "{source}");
    }
}
