//! The plain form of an event, read without a general parser.
//!
//! Plain is what contrail's own sources write: the fields in [`Position`](flight::position::Position)'s
//! order, no blanks, strings of printable ASCII without escapes, numbers short enough to be exact. Most
//! of a producer's time would go into JSON otherwise. Whatever is not plain gives `None`, and serde_json
//! judges it: what is read here, serde_json reads to the same values.

use std::borrow::Cow;

use super::{Event, Text};

/// Most digits of a number: below 10^15 every integer has its own f64.
const MAX_DIGITS: usize = 15;

/// Powers of ten that f64 holds exactly, up to [`MAX_DIGITS`].
const POWERS: [f64; MAX_DIGITS + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];
/// Powers of ten that f32 holds exactly.
const SINGLE_POWERS: [f32; 11] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];

/// Bytes that stand for themselves in a JSON string, and are ASCII.
const LITERAL: [bool; 256] = {
    let mut literal = [false; 256];
    let mut byte = 0x20;
    while byte < 0x80 {
        literal[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    literal
};

/// Reads a line that is plain.
pub(super) fn read(line: &[u8]) -> Option<Event<'_>> {
    let mut input = Input(line);
    let flight_id = input.field(b"{\"flight_id\":", Input::string)?;
    let callsign = input.field(b",\"callsign\":", Input::string)?;
    let longitude = input.field(b",\"longitude\":", Input::double)?;
    let latitude = input.field(b",\"latitude\":", Input::double)?;
    let altitude = input.field(b",\"altitude\":", Input::int)?;
    let gspeed = input.field(b",\"gspeed\":", Input::single)?;
    let timestamp = input.field(b",\"timestamp\":", Input::long)?;
    let icao24 = input.optional(b",\"icao24\":", Input::string)?;
    let track = input.optional(b",\"track\":", Input::single)?;
    let vertical_rate = input.optional(b",\"vertical_rate\":", Input::int)?;
    let squawk = input.optional(b",\"squawk\":", Input::string)?;
    let on_ground = input.optional(b",\"on_ground\":", Input::boolean)?;
    (input.0 == b"}").then_some(Event {
        flight_id: Cow::Borrowed(flight_id),
        callsign: Cow::Borrowed(callsign),
        longitude,
        latitude,
        altitude,
        gspeed,
        timestamp,
        icao24: icao24.map(|text| Text(Cow::Borrowed(text))),
        track,
        vertical_rate,
        squawk: squawk.map(|text| Text(Cow::Borrowed(text))),
        on_ground,
    })
}

/// What of the line has not been read.
struct Input<'a>(&'a [u8]);

/// A number as it is written: its digits without the point, and how many stand behind it.
struct Decimal {
    negative: bool,
    digits: u64,
    /// `None`: there is no point.
    fraction: Option<usize>,
}

impl<'a> Input<'a> {
    fn literal<const N: usize>(&mut self, literal: &[u8; N]) -> Option<()> {
        let (found, rest) = self.0.split_first_chunk::<N>()?;
        if found != literal {
            return None;
        }
        self.0 = rest;
        Some(())
    }

    fn field<const N: usize, T>(
        &mut self,
        name: &[u8; N],
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        self.literal(name)?;
        read(self)
    }

    /// A field that may be absent.
    fn optional<const N: usize, T>(
        &mut self,
        name: &[u8; N],
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.literal(name) {
            Some(()) => read(self).map(Some),
            None => Some(None),
        }
    }

    fn string(&mut self) -> Option<&'a str> {
        self.literal(b"\"")?;
        let length = self
            .0
            .iter()
            .position(|byte| !LITERAL[usize::from(*byte)])?;
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        self.literal(b"\"")?;
        // ASCII, so it never fails.
        std::str::from_utf8(text).ok()
    }

    /// Takes digits; gives their number's value and how many they are.
    fn digits(&mut self, value: &mut u64) -> usize {
        let mut count = 0;
        while let Some((byte @ b'0'..=b'9', rest)) = self.0.split_first() {
            // Wraps after 19 digits, of which 15 are allowed.
            *value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            self.0 = rest;
            count += 1;
        }
        count
    }

    fn decimal(&mut self) -> Option<Decimal> {
        let negative = self.literal(b"-").is_some();
        let starts_with_zero = self.0.first() == Some(&b'0');
        let mut digits = 0;
        let whole = self.digits(&mut digits);
        if whole == 0 || (starts_with_zero && whole > 1) {
            return None;
        }
        let fraction = match self.literal(b".") {
            Some(()) => match self.digits(&mut digits) {
                0 => return None,
                count => Some(count),
            },
            None => None,
        };
        // No exponent here; what else may follow a number is the caller's to check.
        let is_exact = whole + fraction.unwrap_or(0) <= MAX_DIGITS;
        (is_exact && !matches!(self.0.first(), Some(b'e' | b'E'))).then_some(Decimal {
            negative,
            digits,
            fraction,
        })
    }

    /// Two numbers that f64 holds exactly, divided: rounded once, as the written number would be.
    fn double(&mut self) -> Option<f64> {
        let number = self.decimal()?;
        let value = number.digits as f64 / POWERS[number.fraction.unwrap_or(0)];
        Some(if number.negative { -value } else { value })
    }

    /// As [`double`](Self::double), in 24 bits.
    fn single(&mut self) -> Option<f32> {
        let number = self.decimal()?;
        let power = SINGLE_POWERS.get(number.fraction.unwrap_or(0))?;
        if number.digits >= 1 << 24 {
            return None;
        }
        let value = number.digits as f32 / power;
        Some(if number.negative { -value } else { value })
    }

    fn long(&mut self) -> Option<i64> {
        let number = self.decimal()?;
        // `-0` and whatever has a point is not an integer to serde_json.
        if number.fraction.is_some() || (number.negative && number.digits == 0) {
            return None;
        }
        let value = i64::try_from(number.digits).ok()?;
        Some(if number.negative { -value } else { value })
    }

    fn int(&mut self) -> Option<i32> {
        i32::try_from(self.long()?).ok()
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.literal(b"true") {
            Some(()) => Some(true),
            None => self.literal(b"false").map(|()| false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flight::position::Position;
    use proptest::prelude::*;

    const PLAIN: &str = r#"{"flight_id":"FDB892-1","callsign":"FDB892","longitude":55.36441,"latitude":-25.25277,"altitude":35000,"gspeed":447.3,"timestamp":1767225600000,"icao24":"896451","track":112.4,"vertical_rate":-64,"squawk":"2041","on_ground":false}"#;

    /// What both ways read must be the same to the last bit; what this one refuses is not its own.
    fn agree(line: &[u8]) -> Result<bool, TestCaseError> {
        let Some(event) = read(line) else {
            return Ok(false);
        };
        let Ok(expected) = serde_json::from_slice::<Event<'_>>(line) else {
            return Err(TestCaseError::fail(format!(
                "serde_json refuses {:?}",
                String::from_utf8_lossy(line)
            )));
        };
        // `Debug` writes floats so that they read back to the same bits, and tells -0 from 0.
        prop_assert_eq!(format!("{event:?}"), format!("{expected:?}"));
        Ok(true)
    }

    fn position() -> impl Strategy<Value = Position> {
        let places = |most: i64, scale: f64| (-most..=most).prop_map(move |n| n as f64 / scale);
        (
            ("[ -!#-\\[\\]-~]{0,20}", "[A-Z0-9]{0,8}"),
            (places(18_000_000, 1e5), places(90_000_000_000, 1e9)),
            (
                any::<i32>(),
                0i32..100_000,
                -99_999_999i64..4_000_000_000_000,
            ),
            proptest::option::of("[0-9a-f]{6}"),
            (
                proptest::option::of(0i32..3600),
                proptest::option::of(any::<i32>()),
            ),
            (
                proptest::option::of("[0-7]{4}"),
                proptest::option::of(any::<bool>()),
            ),
        )
            .prop_map(
                |(
                    names,
                    place,
                    (altitude, gspeed, timestamp),
                    icao24,
                    rates,
                    (squawk, on_ground),
                )| Position {
                    flight_id: names.0,
                    callsign: names.1,
                    longitude: place.0,
                    latitude: place.1,
                    altitude,
                    gspeed: gspeed as f32 / 10.0,
                    timestamp,
                    icao24,
                    track: rates.0.map(|tenths| tenths as f32 / 10.0),
                    vertical_rate: rates.1,
                    squawk,
                    on_ground,
                },
            )
    }

    proptest! {
        #[test]
        fn positions_are_plain(position in position()) {
            let line = serde_json::to_vec(&position).unwrap();
            prop_assert!(agree(&line)?, "{}", String::from_utf8_lossy(&line));
            let event = read(&line).unwrap();
            prop_assert_eq!(format!("{:?}", event.position()), format!("{:?}", position.by_ref()));
        }

        #[test]
        fn numbers_are_serde_s(
            double in "-?[0-9]{0,12}(\\.[0-9]{0,12})?([eE][0-9])?", single in "-?[0-9]{0,9}(\\.[0-9]{0,11})?",
            whole in "-?[0-9]{0,17}(\\.0)?",
        ) {
            let line = PLAIN
                .replace("55.36441", &double)
                .replace("447.3", &single)
                .replace("1767225600000", &whole)
                .replace("-64", &whole);
            agree(line.as_bytes())?;
        }

        #[test]
        fn damage_is_never_read_as_something_else(
            cut in 0..=PLAIN.len(), at in 0..PLAIN.len(), byte in any::<u8>(), insert in any::<bool>(),
        ) {
            agree(&PLAIN.as_bytes()[..cut])?;
            let mut line = PLAIN.as_bytes().to_vec();
            if insert { line.insert(at, byte) } else { line[at] = byte }
            agree(&line)?;
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_serde() {
        assert!(read(PLAIN.as_bytes()).is_some());
        for (from, to) in [
            ("FDB892-1", "FDB\\u0038"),
            ("FDB892-1", "Zürich"),
            ("55.36441", "5.536441e1"),
            ("55.36441", "0055.36441"),
            ("55.36441", "null"),
            ("447.3", "447.300000000001"),
            ("35000", "35000.0"),
            ("35000", "-0"),
            ("35000", "3000000000"),
            ("false}", "false} "),
            ("false}", "false}}"),
            ("\"altitude\":", "\"altitude\": "),
            ("\"track\":112.4", "\"track\":null"),
            ("\"track\":112.4", "\"track\":112.4,\"track\":1"),
            ("{\"flight_id\"", "{\"source\":1,\"flight_id\""),
        ] {
            let line = PLAIN.replace(from, to);
            assert_ne!(line, PLAIN, "{from}");
            assert!(read(line.as_bytes()).is_none(), "{line}");
        }
    }
}
