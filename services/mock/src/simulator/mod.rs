//! The simulator: a log without storage.
//!
//! Event N is a function of the [`Parameters`] and N alone: tick N / fleet, slot N mod fleet,
//! timestamp epoch + tick · period. Where a slot's aircraft is at a time follows from its timetable
//! ([`rotation`]), the leg's speed and altitude ([`profile`]) and the great circle ([`geo`]), each in
//! closed form, so that any event costs the same. The epoch only says where counting begins: at one
//! instant, one seed's aircraft are in one place, whatever the epoch and the period.

pub mod catalog;
pub(crate) mod digits;
pub mod event;
pub mod geo;
mod hash;
pub mod profile;
pub mod rotation;

use flight::position::Position;
use thiserror::Error;

use catalog::Catalog;
pub use event::{Event, MAX_EVENT_BYTES};
use flight::calendar::format_instant;
use hash::{Draw, draw};
use rotation::Fleet;

/// Largest fleet: beyond it airlines run out of flight numbers.
pub const MAX_FLEET: u32 = 50_000;
/// Longest period between two events of an aircraft: a day.
pub const MAX_PERIOD_MS: u32 = 86_400_000;
/// Largest seed: what a signed 64-bit number, as TOML has it, can hold.
pub const MAX_SEED: u64 = i64::MAX as u64;
/// The log ends with 2149-06-06, as ClickHouse's `Date` does.
pub const LAST_TIMESTAMP_MS: i64 = flight::position::REPRESENTABLE_MS.end - 1;
/// Latest epoch: 2100-01-01, so that there is something to log.
pub const MAX_EPOCH_MS: i64 = 4_102_444_800_000;

/// What determines the events of a simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// Which world: airlines, timetables, everything.
    pub seed: u64,
    /// Number of aircraft.
    pub fleet: u32,
    /// Milliseconds between two events of one aircraft.
    pub period_ms: u32,
    /// Timestamp of the first event, in milliseconds UTC.
    pub epoch_ms: i64,
}

/// What a simulator cannot do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SimulatorError {
    /// A parameter is out of its range.
    #[error("{name} must be between {least} and {most}, not {given}")]
    Parameter {
        /// `seed`, `fleet`, `period_ms` or `epoch`.
        name: &'static str,
        /// Smallest value.
        least: i64,
        /// Largest value.
        most: i64,
        /// The value given.
        given: String,
    },
    /// A name that is not that of a simulator.
    #[error(
        "`{0}` is not the name of a simulator: it should look like mock-s42-f500-p1000-e1767225600000"
    )]
    Name(String),
    /// An offset below 0.
    #[error("offset {0} is before the log's first event, which is 0")]
    BeforeOrigin(i64),
    /// An offset after the end of the simulator's time.
    #[error("offset {offset} is after the log's last event, {last}, on 2149-06-06")]
    AfterEnd {
        /// The offset asked for.
        offset: i64,
        /// The last one that there is.
        last: i64,
    },
}

impl Parameters {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SimulatorError::Parameter`], naming the setting.
    pub fn validate(&self) -> Result<(), SimulatorError> {
        let range = |name, least: i64, most: i64, given: i128| {
            if (i128::from(least)..=i128::from(most)).contains(&given) {
                return Ok(());
            }
            Err(SimulatorError::Parameter {
                name,
                least,
                most,
                given: given.to_string(),
            })
        };
        range("seed", 0, i64::MAX, self.seed.into())?;
        range("fleet", 1, MAX_FLEET.into(), self.fleet.into())?;
        range("period_ms", 1, MAX_PERIOD_MS.into(), self.period_ms.into())?;
        range("epoch", 0, MAX_EPOCH_MS, self.epoch_ms.into())
    }

    /// The source's name, for instance `mock-s42-f500-p1000-e1767225600000`.
    pub fn source_name(&self) -> String {
        let Self {
            seed,
            fleet,
            period_ms,
            epoch_ms,
        } = self;
        format!("mock-s{seed}-f{fleet}-p{period_ms}-e{epoch_ms}")
    }

    /// The parameters in a source's name.
    ///
    /// # Errors
    /// [`SimulatorError::Name`] if the name is not exactly what [`source_name`](Self::source_name)
    /// gives; [`SimulatorError::Parameter`] if a parameter in it is out of range.
    pub fn from_source_name(name: &str) -> Result<Self, SimulatorError> {
        let parse = || {
            let mut parts = name.strip_prefix("mock-")?.split('-');
            let mut part = |letter: char| parts.next()?.strip_prefix(letter);
            let parameters = Self {
                seed: part('s')?.parse().ok()?,
                fleet: part('f')?.parse().ok()?,
                period_ms: part('p')?.parse().ok()?,
                epoch_ms: part('e')?.parse().ok()?,
            };
            (parameters.source_name() == name).then_some(parameters)
        };
        let parameters = parse().ok_or_else(|| SimulatorError::Name(name.to_owned()))?;
        parameters.validate().map(|()| parameters)
    }
}

/// The log of one simulated world.
#[derive(Debug)]
pub struct Simulator {
    parameters: Parameters,
    name: String,
    last: i64,
    fleet: Fleet,
}

impl Simulator {
    /// Builds the timetable. Takes milliseconds for a fleet of thousands and at most a few hundred
    /// bytes an aircraft.
    ///
    /// # Errors
    /// [`SimulatorError::Parameter`].
    pub fn new(parameters: Parameters) -> Result<Self, SimulatorError> {
        parameters.validate()?;
        let ticks = (LAST_TIMESTAMP_MS - parameters.epoch_ms) / i64::from(parameters.period_ms) + 1;
        Ok(Self {
            parameters,
            name: parameters.source_name(),
            // At most 1.1e13 ticks of 50,000 events: far from overflow.
            last: ticks * i64::from(parameters.fleet) - 1,
            fleet: Fleet::build(&Catalog::load(), parameters.seed, parameters.fleet),
        })
    }

    /// The simulator that a source's name describes, for whoever wants to check its events.
    ///
    /// # Errors
    /// See [`Parameters::from_source_name`].
    pub fn from_source_name(name: &str) -> Result<Self, SimulatorError> {
        Self::new(Parameters::from_source_name(name)?)
    }

    /// See [`Parameters::source_name`].
    pub fn source_name(&self) -> &str {
        &self.name
    }

    /// What determines the events.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Offset of the last event of all.
    pub fn last_offset(&self) -> i64 {
        self.last
    }

    /// When an event happens, in milliseconds UTC.
    ///
    /// # Errors
    /// The log has no such offset.
    pub fn timestamp(&self, offset: i64) -> Result<i64, SimulatorError> {
        self.locate(offset).map(|(_, timestamp)| timestamp)
    }

    /// The live edge at an instant: the first offset whose event has not happened yet.
    pub fn live_edge(&self, now_ms: i64) -> i64 {
        let since = now_ms.min(LAST_TIMESTAMP_MS) - self.parameters.epoch_ms;
        if since < 0 {
            return 0;
        }
        (since / i64::from(self.parameters.period_ms) + 1) * i64::from(self.parameters.fleet)
    }

    /// The event at an offset as the other services know it.
    ///
    /// # Errors
    /// The log has no such offset.
    pub fn position(&self, offset: i64) -> Result<Position, SimulatorError> {
        self.event(offset).map(|event| event.position())
    }

    /// The event at an offset.
    ///
    /// # Errors
    /// The log has no such offset.
    pub fn event(&self, offset: i64) -> Result<Event<'_>, SimulatorError> {
        let (slot, timestamp) = self.locate(offset)?;
        Ok(self.observe(slot, timestamp))
    }

    fn locate(&self, offset: i64) -> Result<(usize, i64), SimulatorError> {
        if offset < 0 {
            return Err(SimulatorError::BeforeOrigin(offset));
        }
        if offset > self.last {
            return Err(SimulatorError::AfterEnd {
                offset,
                last: self.last,
            });
        }
        let fleet = i64::from(self.parameters.fleet);
        let (tick, slot) = (offset / fleet, offset % fleet);
        Ok((
            slot as usize,
            self.parameters.epoch_ms + tick * i64::from(self.parameters.period_ms),
        ))
    }

    /// What a slot's aircraft sends at an instant.
    fn observe(&self, slot: usize, timestamp: i64) -> Event<'_> {
        let aircraft = &self.fleet.aircraft[slot];
        let in_cycle = (timestamp + aircraft.phase_ms) % aircraft.cycle_ms;
        let next = aircraft
            .legs
            .partition_point(|leg| leg.start_ms <= in_cycle);
        let leg = &aircraft.legs[next.saturating_sub(1)];
        let route = &self.fleet.routes[leg.route as usize];

        let since_off_block_ms = in_cycle - leg.off_block_ms;
        let motion = route.profile.at(since_off_block_ms as f64 / 1e3);
        let fix = route.path.at(motion.along_nm);
        let track = if motion.backwards {
            fix.track + 180.0
        } else {
            fix.track
        };
        let off_block_ms = timestamp - since_off_block_ms;
        Event {
            callsign: leg.callsign(),
            icao24: aircraft.icao24(),
            off_block_ms,
            timestamp,
            // 180° east and west are one meridian: it has one name.
            longitude_e5: match nearest(fix.longitude * 1e5) {
                18_000_000 => -18_000_000,
                longitude => longitude,
            },
            latitude_e5: nearest(fix.latitude * 1e5),
            altitude: nearest(motion.altitude_ft / 25.0) * 25,
            gspeed_tenths: nearest(motion.speed_kt * 10.0),
            track_tenths: nearest(track * 10.0) % 3_600,
            vertical_rate: nearest(motion.vertical_fpm / 64.0) * 64,
            squawk: squawk(draw(
                self.parameters.seed,
                Draw::Squawk,
                slot as u64,
                off_block_ms as u64,
            )),
            on_ground: motion.on_ground,
        }
    }
}

/// The nearest whole number; halves away from zero. `f64::round` is a call on most processors.
fn nearest(x: f64) -> i32 {
    (x + 0.5f64.copysign(x)) as i32
}

/// A transponder code from 0201 to 6777: below the emergency codes (7500, 7600, 7700), and neither
/// of the codes of those who have none assigned.
fn squawk(hash: u64) -> u16 {
    const FIRST: u64 = 0o0201;
    const LAST: u64 = 0o6777;
    match (FIRST + hash % (LAST - FIRST + 1)) as u16 {
        code @ (0o1200 | 0o2000) => code + 1,
        code => code,
    }
}

impl std::fmt::Display for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Parameters {
            fleet,
            period_ms,
            epoch_ms,
            ..
        } = self.parameters;
        let since = format_instant(epoch_ms);
        write!(
            f,
            "{}: {fleet} aircraft, one event each every {period_ms} ms since {since}",
            self.name
        )
    }
}
