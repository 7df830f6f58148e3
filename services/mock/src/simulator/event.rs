//! One event: whole numbers in the units that are sent, so that its JSON and its [`Position`] agree
//! to the last digit.

use flight::position::Position;

use super::digits;
use flight::calendar::{DAY_MS, date_from_days};

/// No event's JSON is longer, in bytes.
pub const MAX_EVENT_BYTES: usize = 320;

/// One event of the simulator, borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// For instance `FDB892`.
    pub callsign: &'a str,
    /// Six hexadecimal digits.
    pub icao24: &'a str,
    /// When the flight leaves its gate, in milliseconds UTC. With the callsign it names the flight.
    pub off_block_ms: i64,
    /// Milliseconds UTC.
    pub timestamp: i64,
    /// Hundred-thousandths of a degree east.
    pub longitude_e5: i32,
    /// Hundred-thousandths of a degree north.
    pub latitude_e5: i32,
    /// Feet, a multiple of 25.
    pub altitude: i32,
    /// Ground speed in tenths of a knot.
    pub gspeed_tenths: i32,
    /// Track in tenths of a degree, 0 to 3599.
    pub track_tenths: i32,
    /// Feet per minute, a multiple of 64.
    pub vertical_rate: i32,
    /// Transponder code.
    pub squawk: u16,
    /// Wheels on the ground.
    pub on_ground: bool,
}

impl Event<'_> {
    /// For instance `FDB892-20260101-1405`: callsign, date and time at which it leaves the gate.
    pub fn flight_id(&self) -> String {
        let mut id = Vec::with_capacity(24);
        self.write_flight_id(&mut id);
        String::from_utf8(id).unwrap_or_default()
    }

    fn write_flight_id(&self, out: &mut Vec<u8>) {
        let (year, month, day) = date_from_days(self.off_block_ms.div_euclid(DAY_MS));
        let minute = (self.off_block_ms.rem_euclid(DAY_MS) / 60_000) as u32;
        out.extend_from_slice(self.callsign.as_bytes());
        out.push(b'-');
        digits::integer(out, year);
        digits::two(out, month);
        digits::two(out, day);
        out.push(b'-');
        digits::two(out, minute / 60);
        digits::two(out, minute % 60);
    }

    /// Four octal digits.
    fn squawk_digits(&self) -> [u8; 4] {
        [9, 6, 3, 0].map(|shift| b'0' + ((self.squawk >> shift) & 7) as u8)
    }

    /// Appends the event as JSON, as [`Position`] is serialised, at most [`MAX_EVENT_BYTES`].
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.reserve(MAX_EVENT_BYTES);
        out.extend_from_slice(b"{\"flight_id\":\"");
        self.write_flight_id(out);
        out.extend_from_slice(b"\",\"callsign\":\"");
        out.extend_from_slice(self.callsign.as_bytes());
        out.extend_from_slice(b"\",\"longitude\":");
        digits::decimal::<5>(out, self.longitude_e5);
        out.extend_from_slice(b",\"latitude\":");
        digits::decimal::<5>(out, self.latitude_e5);
        out.extend_from_slice(b",\"altitude\":");
        digits::integer(out, self.altitude.into());
        out.extend_from_slice(b",\"gspeed\":");
        digits::decimal::<1>(out, self.gspeed_tenths);
        out.extend_from_slice(b",\"timestamp\":");
        digits::integer(out, self.timestamp);
        out.extend_from_slice(b",\"icao24\":\"");
        out.extend_from_slice(self.icao24.as_bytes());
        out.extend_from_slice(b"\",\"track\":");
        digits::decimal::<1>(out, self.track_tenths);
        out.extend_from_slice(b",\"vertical_rate\":");
        digits::integer(out, self.vertical_rate.into());
        out.extend_from_slice(b",\"squawk\":\"");
        out.extend_from_slice(&self.squawk_digits());
        out.extend_from_slice(if self.on_ground {
            b"\",\"on_ground\":true}"
        } else {
            b"\",\"on_ground\":false}"
        });
    }

    /// The event as the other services know it. Every number is the one that the JSON parses to.
    pub fn position(&self) -> Position {
        Position {
            flight_id: self.flight_id(),
            callsign: self.callsign.to_owned(),
            longitude: f64::from(self.longitude_e5) / 1e5,
            latitude: f64::from(self.latitude_e5) / 1e5,
            altitude: self.altitude,
            gspeed: self.gspeed_tenths as f32 / 10.0,
            timestamp: self.timestamp,
            icao24: Some(self.icao24.to_owned()),
            track: Some(self.track_tenths as f32 / 10.0),
            vertical_rate: Some(self.vertical_rate),
            squawk: Some(self.squawk_digits().map(char::from).iter().collect()),
            on_ground: Some(self.on_ground),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn json_parses_to_the_position(
            (longitude_e5, latitude_e5) in (-18_000_000i32..18_000_000, -9_000_000i32..=9_000_000),
            (altitude, gspeed_tenths) in (-100i32..50_000, 0i32..10_000),
            (track_tenths, vertical_rate) in (0i32..3600, -5_000i32..5_000),
            (squawk, on_ground) in (0u16..0o7777, any::<bool>()),
            (off_block_ms, timestamp) in (0i64..10_413_792_000_000, 0i64..10_413_792_000_000),
        ) {
            let event = Event {
                callsign: "FDB892", icao24: "896451", off_block_ms, timestamp, longitude_e5, latitude_e5,
                altitude, gspeed_tenths, track_tenths, vertical_rate, squawk, on_ground,
            };
            let mut json = Vec::new();
            event.write_json(&mut json);
            prop_assert_eq!(serde_json::from_slice::<Position>(&json).unwrap(), event.position());
        }
    }

    #[test]
    fn the_longest_event_fits() {
        let event = Event {
            callsign: "WWW9999",
            icao24: "ffffff",
            off_block_ms: 10_413_792_000_000,
            timestamp: 10_413_791_999_999,
            longitude_e5: -18_000_000,
            latitude_e5: -9_000_000,
            altitude: i32::MIN,
            gspeed_tenths: i32::MIN,
            track_tenths: i32::MIN,
            vertical_rate: i32::MIN,
            squawk: u16::MAX,
            on_ground: false,
        };
        let mut json = Vec::new();
        event.write_json(&mut json);
        assert!(json.len() <= MAX_EVENT_BYTES, "{}", json.len());
    }
}
