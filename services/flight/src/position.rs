//! The position of one aircraft at one moment, and the rules for what is possible.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Milliseconds in a day: the furthest that an event's clock may be from the moment at which its
/// source placed it.
pub const MAX_CLOCK_SKEW_MS: i64 = 24 * 60 * 60 * 1000;

/// Timestamps that the tables can hold: ClickHouse's type `Date` is 16 bits of days since 1970.
pub const REPRESENTABLE_MS: std::ops::Range<i64> = 0..(1 << 16) * 24 * 60 * 60 * 1000;

/// Longest `flight_id` and `callsign`, in bytes. ADS-B has 8 characters; the rest is room for
/// sources that decorate them.
pub const MAX_NAME_BYTES: usize = 64;

/// One aircraft at one moment, as a source tells it: the seed's columns first, then what real
/// receivers add.
///
/// The event's identity is not in here: it is the source's name and the event's offset in it
/// (see [`Identified`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// One flight of one aircraft, from departure to arrival. Key of the Kafka record.
    pub flight_id: String,
    /// Callsign as broadcast, for instance `FDB892`; empty where the aircraft sends none.
    pub callsign: String,
    /// Degrees east, -180 to 180 (WGS 84).
    pub longitude: f64,
    /// Degrees north, -90 to 90 (WGS 84).
    pub latitude: f64,
    /// Barometric altitude in feet.
    pub altitude: i32,
    /// Ground speed in knots.
    pub gspeed: f32,
    /// Milliseconds since 1970-01-01T00:00:00 UTC.
    pub timestamp: i64,
    /// ICAO 24-bit address, six hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icao24: Option<String>,
    /// Track over ground in degrees clockwise from true north, 0 to 360.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<f32>,
    /// Vertical rate in feet per minute, positive when climbing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vertical_rate: Option<i32>,
    /// Transponder code: four octal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub squawk: Option<String>,
    /// True while the aircraft reports that it is on the ground.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_ground: Option<bool>,
}

/// A position with its identity: where in which source it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Identified {
    /// Name of the source. It includes what determines the source's events.
    pub source: String,
    /// Offset of the event in the source: 0, 1, 2 … without holes.
    pub source_offset: i64,
    /// The event.
    pub position: Position,
}

/// Why a position that could be decoded cannot be true.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Impossible {
    /// Longitude is not a number or not on the globe.
    #[error("longitude {0} is outside -180 to 180")]
    Longitude(f64),
    /// Latitude is not a number or not on the globe.
    #[error("latitude {0} is outside -90 to 90")]
    Latitude(f64),
    /// Ground speed is negative, not a number, or faster than anything that carries a transponder.
    #[error("ground speed {0} kt is outside 0 to 5000")]
    GroundSpeed(f32),
    /// Altitude is below the Dead Sea by far, or in orbit.
    #[error("altitude {0} ft is outside -5000 to 150000")]
    Altitude(i32),
    /// Track is not an angle.
    #[error("track {0} is outside 0 to 360 degrees")]
    Track(f32),
    /// The event's clock disagrees with the moment at which its source placed it.
    #[error("timestamp {timestamp_ms} ms is {} h from {observed_ms} ms, when it was observed", timestamp_ms.saturating_sub(*observed_ms) / 3_600_000)]
    Clock {
        /// The event's own timestamp.
        timestamp_ms: i64,
        /// When the source placed it.
        observed_ms: i64,
    },
    /// A name is too long, or has control characters.
    #[error("{field} has {problem}")]
    Name {
        /// `flight_id`, `callsign`, `icao24` or `squawk`.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A source offset below zero.
    #[error("source offset {0} is negative")]
    SourceOffset(i64),
}

impl Impossible {
    /// A short name without spaces, for metric labels and dead-letter headers. The set is fixed.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Longitude(_) => "longitude",
            Self::Latitude(_) => "latitude",
            Self::GroundSpeed(_) => "ground_speed",
            Self::Altitude(_) => "altitude",
            Self::Track(_) => "track",
            Self::Clock { .. } => "clock",
            Self::Name { .. } => "name",
            Self::SourceOffset(_) => "source_offset",
        }
    }
}

/// A position's fields by reference: what [`check`] looks at, so that a decoder that borrows its
/// strings need not build a [`Position`].
#[derive(Debug, Clone, Copy)]
pub struct PositionRef<'a> {
    /// See [`Position::flight_id`].
    pub flight_id: &'a str,
    /// See [`Position::callsign`].
    pub callsign: &'a str,
    /// See [`Position::longitude`].
    pub longitude: f64,
    /// See [`Position::latitude`].
    pub latitude: f64,
    /// See [`Position::altitude`].
    pub altitude: i32,
    /// See [`Position::gspeed`].
    pub gspeed: f32,
    /// See [`Position::timestamp`].
    pub timestamp: i64,
    /// See [`Position::icao24`].
    pub icao24: Option<&'a str>,
    /// See [`Position::track`].
    pub track: Option<f32>,
    /// See [`Position::vertical_rate`].
    pub vertical_rate: Option<i32>,
    /// See [`Position::squawk`].
    pub squawk: Option<&'a str>,
    /// See [`Position::on_ground`].
    pub on_ground: Option<bool>,
}

impl Position {
    /// The same position by reference.
    pub fn by_ref(&self) -> PositionRef<'_> {
        PositionRef {
            flight_id: &self.flight_id,
            callsign: &self.callsign,
            longitude: self.longitude,
            latitude: self.latitude,
            altitude: self.altitude,
            gspeed: self.gspeed,
            timestamp: self.timestamp,
            icao24: self.icao24.as_deref(),
            track: self.track,
            vertical_rate: self.vertical_rate,
            squawk: self.squawk.as_deref(),
            on_ground: self.on_ground,
        }
    }
}

/// Says whether a position can be true. `observed_ms` is when its source placed the event, in
/// milliseconds UTC: for a live event the time of the Kafka record.
///
/// The answer depends on the arguments alone, never on the clock of the machine: a record that is
/// judged again after a crash is judged the same.
///
/// # Errors
/// The first rule that the position breaks.
pub fn check(position: &PositionRef<'_>, observed_ms: i64) -> Result<(), Impossible> {
    let p = position;
    // `contains` is false for NaN, as it should be.
    if !(-180.0..=180.0).contains(&p.longitude) {
        return Err(Impossible::Longitude(p.longitude));
    }
    if !(-90.0..=90.0).contains(&p.latitude) {
        return Err(Impossible::Latitude(p.latitude));
    }
    if !(0.0..=5000.0).contains(&p.gspeed) {
        return Err(Impossible::GroundSpeed(p.gspeed));
    }
    if !(-5_000..=150_000).contains(&p.altitude) {
        return Err(Impossible::Altitude(p.altitude));
    }
    if let Some(track) = p.track
        && !(0.0..=360.0).contains(&track)
    {
        return Err(Impossible::Track(track));
    }
    let skew_ms = p.timestamp.saturating_sub(observed_ms).unsigned_abs();
    if skew_ms > MAX_CLOCK_SKEW_MS.unsigned_abs() || !REPRESENTABLE_MS.contains(&p.timestamp) {
        return Err(Impossible::Clock {
            timestamp_ms: p.timestamp,
            observed_ms,
        });
    }
    if p.flight_id.is_empty() {
        return Err(Impossible::Name {
            field: "flight_id",
            problem: "no characters",
        });
    }
    check_name("flight_id", p.flight_id)?;
    check_name("callsign", p.callsign)?;
    check_name("icao24", p.icao24.unwrap_or_default())?;
    check_name("squawk", p.squawk.unwrap_or_default())
}

#[inline]
fn check_name(field: &'static str, value: &str) -> Result<(), Impossible> {
    if value.len() > MAX_NAME_BYTES {
        return Err(Impossible::Name {
            field,
            problem: "more than 64 bytes",
        });
    }
    // Nearly every name is of printable ASCII, which is quick to see.
    let odd = |byte: u8| !(b' '..=b'~').contains(&byte);
    let some_odd = value.bytes().fold(false, |some, byte| some | odd(byte));
    if some_odd && value.chars().any(char::is_control) {
        return Err(Impossible::Name {
            field,
            problem: "control characters",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over_dubai() -> Position {
        Position {
            flight_id: "FDB892-1".into(),
            callsign: "FDB892".into(),
            longitude: 55.36441,
            latitude: 25.25277,
            altitude: 35_000,
            gspeed: 447.3,
            timestamp: 1_767_225_600_000,
            icao24: None,
            track: None,
            vertical_rate: None,
            squawk: None,
            on_ground: None,
        }
    }

    fn verdict(change: impl FnOnce(&mut Position)) -> Result<(), Impossible> {
        let mut position = over_dubai();
        change(&mut position);
        check(&position.by_ref(), 1_767_225_600_000)
    }

    #[test]
    fn a_believable_position_passes() {
        assert_eq!(verdict(|_| ()), Ok(()));
        assert_eq!(
            verdict(|p| p.callsign.clear()),
            Ok(()),
            "many aircraft send no callsign"
        );
        assert_eq!(
            verdict(|p| p.callsign = "'; DROP --".into()),
            Ok(()),
            "text is data"
        );
        assert_eq!(verdict(|p| p.longitude = -180.0), Ok(()));
    }

    #[test]
    fn each_impossible_field_is_named() {
        let codes = [
            verdict(|p| p.longitude = f64::NAN),
            verdict(|p| p.longitude = 180.1),
            verdict(|p| p.latitude = f64::INFINITY),
            verdict(|p| p.gspeed = -1.0),
            verdict(|p| p.altitude = 1_000_000),
            verdict(|p| p.track = Some(361.0)),
            verdict(|p| p.timestamp += MAX_CLOCK_SKEW_MS + 1),
            verdict(|p| p.timestamp = 0),
            verdict(|p| p.timestamp = i64::MIN),
            verdict(|p| p.callsign = "A\0B".into()),
            verdict(|p| p.callsign = "x".repeat(65)),
            verdict(|p| p.flight_id.clear()),
        ]
        .map(|v| {
            let why = v.expect_err("must be refused");
            assert!(!why.to_string().is_empty(), "{why:?}");
            why.code()
        });
        assert_eq!(
            codes,
            [
                "longitude",
                "longitude",
                "latitude",
                "ground_speed",
                "altitude",
                "track",
                "clock",
                "clock",
                "clock",
                "name",
                "name",
                "name"
            ]
        );
    }

    #[test]
    fn a_time_that_the_tables_cannot_hold_is_refused_whatever_the_source_says() {
        for timestamp in [-1, REPRESENTABLE_MS.end] {
            let position = Position {
                timestamp,
                ..over_dubai()
            };
            assert!(check(&position.by_ref(), timestamp).is_err(), "{timestamp}");
        }
    }

    #[test]
    fn json_has_the_seed_s_names_and_leaves_absent_fields_out() {
        let json = serde_json::to_string(&over_dubai()).unwrap();
        assert_eq!(
            json,
            r#"{"flight_id":"FDB892-1","callsign":"FDB892","longitude":55.36441,"latitude":25.25277,"altitude":35000,"gspeed":447.3,"timestamp":1767225600000}"#
        );
        assert_eq!(
            serde_json::from_str::<Position>(&json).unwrap(),
            over_dubai()
        );
    }
}
