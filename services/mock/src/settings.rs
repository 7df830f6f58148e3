//! What an operator may set.

use std::fmt;

use flight::config::Validate;
use flight::telemetry::TelemetrySettings;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::simulator::Parameters;
use flight::calendar::{format_instant, parse_instant};

/// Environment variables of this service begin with this.
pub const ENV_PREFIX: &str = "FLIGHT_MOCK_";

/// Settings of flight-mock. The first four determine the events, and together are the source's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Which world is simulated, 0 to 2^63 - 1.
    pub seed: u64,
    /// Number of aircraft, 1 to 50,000.
    pub fleet: u32,
    /// Milliseconds between two events of one aircraft, 1 to a day.
    pub period_ms: u32,
    /// When the log begins: RFC 3339, or milliseconds since 1970.
    pub epoch: Epoch,
    /// Address and port of everything that is served.
    pub listen: String,
    /// Streams and WebSockets at one time; further ones are refused with status 503.
    pub max_clients: usize,
    /// Logs and traces.
    pub telemetry: TelemetrySettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 42,
            fleet: 500,
            period_ms: 1_000,
            // 2026-01-01T00:00:00Z
            epoch: Epoch(1_767_225_600_000),
            listen: "127.0.0.1:8000".to_owned(),
            max_clients: 64,
            telemetry: TelemetrySettings::default(),
        }
    }
}

impl Settings {
    /// What determines the simulator's events.
    pub fn parameters(&self) -> Parameters {
        Parameters {
            seed: self.seed,
            fleet: self.fleet,
            period_ms: self.period_ms,
            epoch_ms: self.epoch.0,
        }
    }
}

impl Validate for Settings {
    fn validate(&self) -> Result<(), String> {
        self.parameters()
            .validate()
            .map_err(|error| error.to_string())?;
        if self.listen.is_empty() {
            return Err(
                "listen must be an address and a port, for instance 127.0.0.1:8000".to_owned(),
            );
        }
        if !(1..=10_000).contains(&self.max_clients) {
            return Err(format!(
                "max_clients must be between 1 and 10000, not {}",
                self.max_clients
            ));
        }
        self.telemetry.validate()
    }
}

/// An instant in milliseconds since 1970, written as RFC 3339 or as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(pub i64);

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_instant(self.0))
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Instant;
        impl Visitor<'_> for Instant {
            type Value = Epoch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an instant like 2026-01-01T00:00:00Z or milliseconds since 1970")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Epoch, E> {
                parse_instant(text).map(Epoch).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, ms: i64) -> Result<Epoch, E> {
                Ok(Epoch(ms))
            }
            fn visit_u64<E: de::Error>(self, ms: u64) -> Result<Epoch, E> {
                i64::try_from(ms).map(Epoch).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Instant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_have_the_documented_name() {
        let settings = Settings::default();
        assert_eq!(settings.validate(), Ok(()));
        assert_eq!(
            settings.parameters().source_name(),
            "mock-s42-f500-p1000-e1767225600000"
        );
    }

    #[test]
    fn an_epoch_is_text_or_number() {
        let read = |json: &str| serde_json::from_str::<Epoch>(json);
        assert_eq!(
            read("\"2026-01-01T00:00:00Z\"").unwrap(),
            Epoch(1_767_225_600_000)
        );
        assert_eq!(read("1767225600000").unwrap(), Epoch(1_767_225_600_000));
        for wrong in ["\"soon\"", "18446744073709551615", "true", "null"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let json = serde_json::to_string(&Epoch(1_767_225_600_001)).unwrap();
        assert_eq!(read(&json).unwrap(), Epoch(1_767_225_600_001));
    }

    #[test]
    fn senseless_values_are_named() {
        let cases = [
            (
                Settings {
                    fleet: 0,
                    ..Settings::default()
                },
                "fleet",
            ),
            (
                Settings {
                    period_ms: 0,
                    ..Settings::default()
                },
                "period_ms",
            ),
            (
                Settings {
                    epoch: Epoch(-1),
                    ..Settings::default()
                },
                "epoch",
            ),
            (
                Settings {
                    seed: u64::MAX,
                    ..Settings::default()
                },
                "seed",
            ),
            (
                Settings {
                    max_clients: 0,
                    ..Settings::default()
                },
                "max_clients",
            ),
            (
                Settings {
                    listen: String::new(),
                    ..Settings::default()
                },
                "listen",
            ),
        ];
        for (settings, name) in cases {
            let message = settings.validate().unwrap_err();
            assert!(message.starts_with(name), "{message}");
        }
    }
}
