//! One line of a source: a position, or a dead letter.

mod plain;

use std::borrow::Cow;

use flight::position::PositionRef;
use serde::Deserialize;
use serde_json::error::Category;

/// [`flight::position::Position`] as it stands in a line, borrowing its strings where no escape
/// forces a copy.
#[derive(Debug, Deserialize)]
pub(crate) struct Event<'a> {
    #[serde(borrow)]
    flight_id: Cow<'a, str>,
    #[serde(borrow)]
    callsign: Cow<'a, str>,
    longitude: f64,
    latitude: f64,
    altitude: i32,
    gspeed: f32,
    timestamp: i64,
    #[serde(borrow, default)]
    icao24: Option<Text<'a>>,
    #[serde(default)]
    track: Option<f32>,
    #[serde(default)]
    vertical_rate: Option<i32>,
    #[serde(borrow, default)]
    squawk: Option<Text<'a>>,
    #[serde(default)]
    on_ground: Option<bool>,
}

/// Inside an `Option` serde borrows only through a type of its own.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Event<'_> {
    pub(crate) fn position(&self) -> PositionRef<'_> {
        PositionRef {
            flight_id: &self.flight_id,
            callsign: &self.callsign,
            longitude: self.longitude,
            latitude: self.latitude,
            altitude: self.altitude,
            gspeed: self.gspeed,
            timestamp: self.timestamp,
            icao24: self.icao24.as_ref().map(|text| &*text.0),
            track: self.track,
            vertical_rate: self.vertical_rate,
            squawk: self.squawk.as_ref().map(|text| &*text.0),
            on_ground: self.on_ground,
        }
    }
}

/// Why an event goes to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// One of [`crate::metrics::REASONS`].
    pub(crate) reason: &'static str,
    pub(crate) detail: String,
}

/// Reads a line. What a position *says* is the ingester's to judge; here it must only be one.
pub(crate) fn read(line: &[u8]) -> Result<Event<'_>, Rejection> {
    let reject = |reason, detail| Err(Rejection { reason, detail });
    if let Some(event) = plain::read(line).filter(|event| !event.flight_id.is_empty()) {
        return Ok(event);
    }
    // serde would take a list of the fields' values for a struct.
    if line.trim_ascii_start().first() == Some(&b'[') {
        return reject("not_a_position", "a JSON array, not an object".into());
    }
    match serde_json::from_slice::<Event<'_>>(line) {
        // The key of the Kafka record: without it the flight has no partition.
        Ok(event) if event.flight_id.is_empty() => {
            reject("empty_flight_id", "flight_id is empty".into())
        }
        Ok(event) => Ok(event),
        Err(error) => match (error.classify(), std::str::from_utf8(line)) {
            (_, Err(utf8)) => reject("not_utf8", utf8.to_string()),
            (Category::Data, _) => reject("not_a_position", error.to_string()),
            _ => reject("malformed_json", error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flight::position::Position;

    const FULL: &str = r#"{"flight_id":"FDB892-1","callsign":"FDB892","longitude":55.36441,"latitude":25.25277,"altitude":35000,"gspeed":447.3,"timestamp":1767225600000,"icao24":"896451","track":112.4,"vertical_rate":-64,"squawk":"2041","on_ground":false}"#;
    const BARE: &str = r#"{"flight_id":"f","callsign":"","longitude":0,"latitude":-0.5,"altitude":-10,"gspeed":0,"timestamp":1,"new_field":[1,{"a":null}]}"#;

    #[test]
    fn it_reads_what_the_shared_position_reads() {
        let escaped = FULL.replace("FDB892\"", "\\u0000'; DROP TABLE \\\"x\\\"\\n\"");
        for line in [FULL, BARE, &escaped] {
            let position: Position = serde_json::from_str(line).unwrap();
            let event = read(line.as_bytes()).unwrap();
            assert_eq!(
                format!("{:?}", event.position()),
                format!("{:?}", position.by_ref()),
                "{line}"
            );
        }
    }

    #[test]
    fn strings_are_borrowed() {
        let event = read(FULL.as_bytes()).unwrap();
        assert!(matches!(event.flight_id, Cow::Borrowed(_)));
        assert!(matches!(event.icao24, Some(Text(Cow::Borrowed(_)))));
    }

    #[test]
    fn what_is_not_a_position_has_a_reason_from_the_fixed_set() {
        let cases: [(&[u8], &str); 12] = [
            (b"", "malformed_json"),
            (b"not json", "malformed_json"),
            (b"{\"flight_id\":\"x\"", "malformed_json"),
            (b"{}", "not_a_position"),
            (b"null", "not_a_position"),
            (b"[\"f\",\"\",0,0,0,0,1,null,null,null,null,null]", "not_a_position"),
            (b"{\"flight_id\":\"\xff\"}", "not_utf8"),
            (b"\xff\xfe", "not_utf8"),
            (
                br#"{"flight_id":"","callsign":"","longitude":0,"latitude":0,"altitude":0,"gspeed":0,"timestamp":1}"#,
                "empty_flight_id",
            ),
            (
                br#"{"flight_id":"f","callsign":"","longitude":NaN,"latitude":0,"altitude":0,"gspeed":0,"timestamp":1}"#,
                "malformed_json",
            ),
            (
                br#"{"flight_id":"f","callsign":"","longitude":0,"latitude":null,"altitude":0,"gspeed":0,"timestamp":1}"#,
                "not_a_position",
            ),
            (
                br#"{"flight_id":"f","callsign":"","longitude":0,"latitude":0,"altitude":3000000000,"gspeed":0,"timestamp":1}"#,
                "not_a_position",
            ),
        ];
        for (line, reason) in cases {
            let rejection = read(line).expect_err(&String::from_utf8_lossy(line));
            assert_eq!(rejection.reason, reason, "{rejection:?}");
            assert!(crate::metrics::REASONS.contains(&reason));
        }
    }

    #[test]
    fn impossible_positions_are_not_judged_here() {
        let line = BARE
            .replace("-0.5", "95.0")
            .replace("\"timestamp\":1", "\"timestamp\":-9");
        assert!(read(line.as_bytes()).is_ok());
    }
}
