//! How one leg is flown: a list of segments of constant acceleration, from the gate at one airport
//! to the gate at the next.
//!
//! Everything happens on the leg's great circle. The aircraft taxies from the gate back along it to
//! the line-up point, takes off over the gate towards the destination, lands beyond the threshold,
//! stops past the gate and taxies back to it. Speed and vertical rate change linearly within a
//! segment and are continuous between segments, so that distance and altitude are their exact
//! integrals: what an event says of its speed is what its neighbours show.

use super::hash::{Draw, draw, unit};

/// The shortest leg for which a profile always fits, in nautical miles.
pub const MIN_LEG_NM: f64 = 100.0;

/// Height above the destination at which the final approach begins, in feet.
const APPROACH_FT: f64 = 3_000.0;
/// Least climb from the higher airport to cruise, in feet: below it the phases would overlap.
const LEAST_CLIMB_FT: f64 = 8_000.0;
/// Time in which the vertical rate changes from one phase to the next, in seconds.
const ROUND_OUT_S: f64 = 20.0;
/// The same at lift-off and in the flare.
const ROTATION_S: f64 = 8.0;
/// Least time at cruise, in seconds.
const LEAST_CRUISE_S: f64 = 60.0;

const HOUR_S: f64 = 3_600.0;
const MINUTE_S: f64 = 60.0;

/// What a profile needs to know of its leg.
#[derive(Debug, Clone, Copy)]
pub struct LegShape {
    /// Gate to gate along the great circle, in nautical miles.
    pub length_nm: f64,
    /// Elevation of the departure, in feet.
    pub from_ft: f64,
    /// Elevation of the destination, in feet.
    pub to_ft: f64,
    /// Initial course in degrees: cruising levels depend on it.
    pub course: f64,
}

/// Where in its leg an aircraft is, and how it moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Motion {
    /// Distance from the departure along the great circle, in nautical miles; negative before it.
    pub along_nm: f64,
    /// Ground speed in knots.
    pub speed_kt: f64,
    /// Altitude in feet.
    pub altitude_ft: f64,
    /// Vertical rate in feet per minute.
    pub vertical_fpm: f64,
    /// Moving against the direction of the great circle: taxiing.
    pub backwards: bool,
    /// Wheels on the ground.
    pub on_ground: bool,
}

/// Phases from the start of the take-off roll to standstill on the other runway, see [`airborne`].
const PHASES: usize = 13;
/// Taxi out in three segments, hold, the phases, vacate the runway, taxi in in three, and the gate.
const SEGMENTS: usize = 3 + 1 + PHASES + 1 + 3 + 1;
/// The segment in which the aircraft is at the gate again, to stay there.
const GATE: usize = SEGMENTS - 1;
/// The segments in the air: all phases but the first and the last.
const AIRBORNE: std::ops::Range<usize> = 5..3 + PHASES;
/// The segments in the direction of the great circle: all but the taxis. The gate counts to the
/// taxi that ends there.
const FORWARDS: std::ops::Range<usize> = 3..3 + 1 + PHASES + 1;

/// What holds at the start of a segment. Speed and vertical rate change from there to the start of
/// the next one in proportion to time.
#[derive(Debug, Clone, Copy, Default)]
struct Knot {
    along_nm: f64,
    /// Nautical miles per second, never negative.
    speed: f64,
    altitude_ft: f64,
    /// Feet per second.
    climb: f64,
}

/// One way to fly one leg.
#[derive(Debug, Clone)]
pub struct Profile {
    /// When each segment starts, apart from the rest: looking for the right one reads three cache
    /// lines this way.
    starts_s: [f64; SEGMENTS],
    knots: [Knot; SEGMENTS],
    /// Gate to gate, in seconds.
    pub duration_s: f64,
    /// Cruising altitude in feet.
    pub cruise_ft: f64,
}

/// A phase still without its place: how long, and what holds at its end.
#[derive(Clone, Copy)]
struct Phase {
    duration_s: f64,
    speed_kt: f64,
    climb_fpm: f64,
}

impl Phase {
    fn air(duration_s: f64, speed_kt: f64, climb_fpm: f64) -> Self {
        Self {
            duration_s,
            speed_kt,
            climb_fpm,
        }
    }

    fn ground(duration_s: f64, speed_kt: f64) -> Self {
        Self {
            duration_s,
            speed_kt,
            climb_fpm: 0.0,
        }
    }
}

/// How an aircraft is flown, drawn once per profile.
struct Style {
    taxi_kt: f64,
    taxi_out_nm: f64,
    taxi_in_nm: f64,
    hold_s: f64,
    rotate_kt: f64,
    roll_s: f64,
    climb_fpm: f64,
    upper_climb_fpm: f64,
    /// 0 to 1 within what is usual at the cruising level.
    haste: f64,
    descent_fpm: f64,
    approach_fpm: f64,
    touchdown_kt: f64,
    landing_s: f64,
    vacate_s: f64,
    /// 0 to 1 within the levels that the distance allows.
    level: f64,
}

impl Style {
    fn new(key: u64) -> Self {
        let mut n = 0;
        let mut between = |low: f64, high: f64| {
            n += 1;
            low + (high - low) * unit(draw(key, Draw::Profile, n, 0))
        };
        Self {
            taxi_kt: between(12.0, 19.0),
            taxi_out_nm: between(0.6, 0.9),
            taxi_in_nm: between(0.4, 0.6),
            hold_s: between(60.0, 300.0),
            rotate_kt: between(140.0, 165.0),
            roll_s: between(32.0, 42.0),
            climb_fpm: between(2_100.0, 2_500.0),
            upper_climb_fpm: between(1_500.0, 1_900.0),
            haste: between(0.0, 1.0),
            descent_fpm: between(1_700.0, 2_200.0),
            approach_fpm: between(680.0, 760.0),
            touchdown_kt: between(128.0, 145.0),
            landing_s: between(34.0, 42.0),
            vacate_s: between(20.0, 60.0),
            level: between(0.0, 1.0),
        }
    }

    fn cruise_kt(&self, cruise_ft: f64) -> f64 {
        let (low, high) = match cruise_ft {
            h if h < 16_000.0 => (330.0, 360.0),
            h if h < 25_000.0 => (380.0, 415.0),
            _ => (425.0, 488.0),
        };
        low + (high - low) * self.haste
    }

    /// The wished cruising level by distance: eastbound odd thousands, westbound even ones, as the
    /// semicircular rule of ICAO Annex 2 has it.
    fn cruise_ft(&self, leg: &LegShape) -> f64 {
        let choose = |lowest: f64, levels: f64| lowest + 2_000.0 * (self.level * levels).floor();
        let eastbound = match leg.length_nm {
            d if d < 150.0 => choose(13_000.0, 2.0),
            d if d < 250.0 => choose(19_000.0, 3.0),
            d if d < 400.0 => choose(27_000.0, 3.0),
            d if d < 700.0 => choose(31_000.0, 4.0),
            _ => choose(33_000.0, 5.0),
        };
        if leg.course < 180.0 {
            eastbound
        } else {
            eastbound - 1_000.0
        }
    }
}

impl Profile {
    /// The profile of a leg; `key` decides how it is flown. None if the leg is too short, which no
    /// leg of [`MIN_LEG_NM`] is.
    pub fn new(leg: &LegShape, key: u64) -> Option<Self> {
        let style = Style::new(key);
        let least_ft = leg.from_ft.max(leg.to_ft) + LEAST_CLIMB_FT;
        let mut cruise_ft = style.cruise_ft(leg);
        while cruise_ft < least_ft {
            cruise_ft += 2_000.0;
        }
        loop {
            if let Some(phases) = airborne(&style, leg, cruise_ft) {
                return Some(Self::lay_out(&style, leg, cruise_ft, &phases));
            }
            cruise_ft -= 2_000.0;
            if cruise_ft < least_ft {
                return None;
            }
        }
    }

    fn lay_out(style: &Style, leg: &LegShape, cruise_ft: f64, phases: &[Phase; PHASES]) -> Self {
        let mut layout = Layout::default();
        layout.next.altitude_ft = leg.from_ft;
        layout.taxi_back(style.taxi_kt, style.taxi_out_nm);
        layout.push(Phase::ground(style.hold_s, 0.0), 1.0);
        for (i, phase) in phases.iter().enumerate() {
            if i == PHASES - 1 {
                // The exact elevation, free of what the integration rounded.
                layout.next.altitude_ft = leg.to_ft;
            }
            layout.push(*phase, 1.0);
        }
        layout.push(Phase::ground(style.vacate_s, 0.0), 1.0);
        layout.taxi_back(style.taxi_kt, style.taxi_in_nm);
        layout.next.along_nm = leg.length_nm;
        let duration_s = layout.now_s;
        layout.push(Phase::ground(0.0, 0.0), -1.0);
        Self {
            starts_s: layout.starts_s,
            knots: layout.knots,
            duration_s,
            cruise_ft,
        }
    }

    /// Where the aircraft is `time_s` seconds after leaving the gate; before 0 and after the end it
    /// stands at the gate.
    pub fn at(&self, time_s: f64) -> Motion {
        let time_s = time_s.max(0.0);
        let started = self.starts_s.iter().filter(|start_s| **start_s <= time_s);
        let segment = started.count().saturating_sub(1);
        let now = &self.knots[segment];
        let direction = if FORWARDS.contains(&segment) {
            1.0
        } else {
            -1.0
        };
        let (t, acceleration, climb_acceleration) = if segment == GATE {
            (0.0, 0.0, 0.0)
        } else {
            let next = &self.knots[segment + 1];
            let seconds = self.starts_s[segment + 1] - self.starts_s[segment];
            (
                time_s - self.starts_s[segment],
                (next.speed - now.speed) / seconds,
                (next.climb - now.climb) / seconds,
            )
        };
        Motion {
            along_nm: now.along_nm + direction * t * (now.speed + acceleration * t / 2.0),
            speed_kt: (now.speed + acceleration * t) * HOUR_S,
            altitude_ft: now.altitude_ft + t * (now.climb + climb_acceleration * t / 2.0),
            vertical_fpm: (now.climb + climb_acceleration * t) * MINUTE_S,
            backwards: direction < 0.0,
            on_ground: !AIRBORNE.contains(&segment),
        }
    }
}

/// From the start of the take-off roll to standstill after landing; None if climb and descent leave
/// no room for a cruise at this level.
fn airborne(style: &Style, leg: &LegShape, cruise_ft: f64) -> Option<[Phase; PHASES]> {
    let cruise_kt = style.cruise_kt(cruise_ft);
    let middle_kt = (cruise_kt - 30.0).min(285.0);
    let (up, upper) = (style.climb_fpm, style.upper_climb_fpm);
    let (down, slow) = (style.descent_fpm, style.approach_fpm);
    let average = |a: f64, b: f64, seconds: f64| (a + b) / 2.0 * seconds / MINUTE_S;

    let climb = cruise_ft
        - leg.from_ft
        - average(0.0, up, ROTATION_S)
        - average(up, upper, ROUND_OUT_S)
        - average(upper, 0.0, ROUND_OUT_S);
    let lower_climb = (climb / 2.0).min(9_000.0);
    let descent = cruise_ft
        - leg.to_ft
        - APPROACH_FT
        - average(0.0, down, ROUND_OUT_S)
        - average(down, slow, ROUND_OUT_S);
    let approach = APPROACH_FT - average(slow, 0.0, ROTATION_S);

    let mut phases = [
        Phase::ground(style.roll_s, style.rotate_kt),
        Phase::air(ROTATION_S, style.rotate_kt + 8.0, up),
        Phase::air(lower_climb / up * MINUTE_S, middle_kt, up),
        Phase::air(ROUND_OUT_S, middle_kt + 5.0, upper),
        Phase::air((climb - lower_climb) / upper * MINUTE_S, cruise_kt, upper),
        Phase::air(ROUND_OUT_S, cruise_kt, 0.0),
        Phase::air(0.0, cruise_kt, 0.0),
        Phase::air(ROUND_OUT_S, cruise_kt, -down),
        Phase::air(descent / down * MINUTE_S, 260.0, -down),
        Phase::air(ROUND_OUT_S, 250.0, -slow),
        Phase::air(approach / slow * MINUTE_S, style.touchdown_kt + 6.0, -slow),
        Phase::air(ROTATION_S, style.touchdown_kt, 0.0),
        Phase::ground(style.landing_s, 0.0),
    ];
    let mut speed_kt = 0.0;
    let mut covered_nm = 0.0;
    for phase in &phases {
        covered_nm += (speed_kt + phase.speed_kt) / 2.0 * phase.duration_s / HOUR_S;
        speed_kt = phase.speed_kt;
    }
    let runway_to_runway_nm = style.taxi_out_nm + leg.length_nm + style.taxi_in_nm;
    phases[6].duration_s = (runway_to_runway_nm - covered_nm) / cruise_kt * HOUR_S;
    (phases[6].duration_s >= LEAST_CRUISE_S).then_some(phases)
}

/// Lays phases one after another.
#[derive(Default)]
struct Layout {
    starts_s: [f64; SEGMENTS],
    knots: [Knot; SEGMENTS],
    laid: usize,
    now_s: f64,
    /// What holds at the end of what is laid.
    next: Knot,
}

impl Layout {
    fn push(&mut self, phase: Phase, direction: f64) {
        self.starts_s[self.laid] = self.now_s;
        self.knots[self.laid] = self.next;
        self.laid += 1;
        let (speed, climb) = (phase.speed_kt / HOUR_S, phase.climb_fpm / MINUTE_S);
        let seconds = phase.duration_s;
        self.now_s += seconds;
        self.next.along_nm += direction * (self.next.speed + speed) / 2.0 * seconds;
        self.next.altitude_ft += (self.next.climb + climb) / 2.0 * seconds;
        (self.next.speed, self.next.climb) = (speed, climb);
    }

    /// From standstill to standstill against the direction of the leg.
    fn taxi_back(&mut self, taxi_kt: f64, distance_nm: f64) {
        const SPEED_UP_S: f64 = 12.0;
        // Speeding up and slowing down together cover what the full speed does in one of both times.
        let steady_s = distance_nm / taxi_kt * HOUR_S - SPEED_UP_S;
        for (seconds, speed_kt) in [
            (SPEED_UP_S, taxi_kt),
            (steady_s, taxi_kt),
            (SPEED_UP_S, 0.0),
        ] {
            self.push(Phase::ground(seconds, speed_kt), -1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shapes() -> impl Strategy<Value = LegShape> {
        (
            MIN_LEG_NM..8_500.0,
            -50.0..14_000.0,
            -50.0..14_000.0,
            0.0..360.0,
        )
            .prop_map(|(length_nm, from_ft, to_ft, course)| LegShape {
                length_nm,
                from_ft,
                to_ft,
                course,
            })
    }

    proptest! {
        #[test]
        fn every_leg_can_be_flown_smoothly(leg in shapes(), key in any::<u64>()) {
            let profile = Profile::new(&leg, key).expect("long enough");
            let (start, end) = (profile.at(-5.0), profile.at(profile.duration_s + 60.0));
            prop_assert_eq!((start.along_nm, start.speed_kt, start.altitude_ft), (0.0, 0.0, leg.from_ft));
            prop_assert_eq!((end.along_nm, end.speed_kt, end.altitude_ft), (leg.length_nm, 0.0, leg.to_ft));
            prop_assert!(start.on_ground && end.on_ground);

            let step = 0.5;
            let mut before = start;
            for i in 0..(profile.duration_s / step) as u32 + 2 {
                let now = profile.at(f64::from(i) * step);
                let moved = (now.along_nm - before.along_nm).abs() / step * 3600.0;
                let expected = (now.speed_kt + before.speed_kt) / 2.0;
                // Half a step may lie in a segment with another acceleration, at most 5 kt/s.
                prop_assert!((moved - expected).abs() < 2.0, "{moved} kt, {before:?} {now:?}");
                let climbed = now.altitude_ft - before.altitude_ft;
                let climb = (now.vertical_fpm + before.vertical_fpm) / 2.0 / 60.0 * step;
                prop_assert!((climbed - climb).abs() < 1.0, "{climbed} ft, {before:?} {now:?}");
                prop_assert!((now.speed_kt - before.speed_kt).abs() < 4.0, "{before:?} {now:?}");
                prop_assert!(now.speed_kt >= -1e-6 && now.speed_kt < 495.0);
                prop_assert!(now.altitude_ft >= leg.from_ft.min(leg.to_ft) - 1e-6);
                prop_assert!(now.altitude_ft <= profile.cruise_ft + 1e-6 && profile.cruise_ft <= 42_000.0);
                prop_assert!(!now.on_ground || now.speed_kt < 170.0);
                prop_assert!(now.on_ground || now.speed_kt > 120.0);
                before = now;
            }
        }
    }

    #[test]
    fn short_hops_stay_lower_than_long_ones() {
        let leg = |length_nm, course| LegShape {
            length_nm,
            from_ft: 30.0,
            to_ft: 30.0,
            course,
        };
        for key in 0..200 {
            let hop = Profile::new(&leg(110.0, 90.0), key).unwrap().cruise_ft;
            let haul = Profile::new(&leg(3_000.0, 90.0), key).unwrap().cruise_ft;
            assert!(hop <= 15_000.0 && haul >= 33_000.0, "{hop} {haul}");
            assert_eq!(haul % 2_000.0, 1_000.0, "eastbound at odd levels");
            let west = Profile::new(&leg(3_000.0, 270.0), key).unwrap().cruise_ft;
            assert_eq!(west % 2_000.0, 0.0, "westbound at even levels");
        }
    }
}
