//! Which aircraft flies where and when: every slot's airframe and its timetable.
//!
//! A slot has a home and a rotation: out to a destination and back home, to the next and back, until
//! the day is full. The rotation takes a whole number of days, and then repeats: every flight leaves
//! at the same time of day, the next leg leaves from where the last one arrived, and the leg of any
//! instant is found by one division and one search among a dozen legs.

use std::collections::HashMap;

use super::catalog::Catalog;
use super::geo::GreatCircle;
use super::hash::{Draw, draw, index, unit};
use super::profile::{LegShape, MIN_LEG_NM, Profile};
use flight::calendar::DAY_MS;

/// Legs leave their gate at multiples of this, in milliseconds.
const TIMETABLE_MS: i64 = 5 * 60_000;
/// Most out-and-back pairs in a rotation.
const MAX_PAIRS: usize = 6;
/// Ways in which one route is flown.
const VARIANTS: u64 = 2;
/// Flight numbers of an airline: 1 to 9999.
const FLIGHT_NUMBERS: u64 = 9_999;
/// Up to here a leg is short haul, in nautical miles.
const SHORT_HAUL_NM: f64 = 1_100.0;
/// Up to here it is medium haul.
const MEDIUM_HAUL_NM: f64 = 2_600.0;

/// Slots whose airline and destinations are given, so that questions asked of every simulator find
/// an answer: flydubai's FDB892, and flights out of San Francisco over the bay.
const CAST: [Cast; 2] = [
    Cast {
        airline: "FDB",
        callsign: Some("FDB892"),
        destinations: &["OPKC", "UGTB", "OJAI"],
    },
    Cast {
        airline: "UAL",
        callsign: None,
        destinations: &["KSEA", "CYVR", "KPDX"],
    },
];

struct Cast {
    airline: &'static str,
    /// One callsign for all legs, instead of one for each.
    callsign: Option<&'static str>,
    destinations: &'static [&'static str],
}

/// A route with one way to fly it, shared by all aircraft that fly it so.
#[derive(Debug)]
pub struct Route {
    /// Departure airport in the catalog.
    pub from: usize,
    /// Destination airport in the catalog.
    pub to: usize,
    /// The way over ground.
    pub path: GreatCircle,
    /// Speed and altitude on it.
    pub profile: Profile,
}

/// One leg of a rotation.
#[derive(Debug, Clone)]
pub struct Leg {
    /// Start of its time at the gate, in milliseconds from the start of the rotation.
    pub start_ms: i64,
    /// When it leaves the gate.
    pub off_block_ms: i64,
    /// Index in [`Fleet::routes`].
    pub route: u32,
    callsign: Text<7>,
}

impl Leg {
    /// For instance `FDB892`.
    pub fn callsign(&self) -> &str {
        self.callsign.as_str()
    }
}

/// One airframe and its endless rotation.
#[derive(Debug)]
pub struct Aircraft {
    icao24: Text<6>,
    /// Length of the rotation in milliseconds: whole days.
    pub cycle_ms: i64,
    /// How far into its rotation the aircraft is at 1970-01-01T00:00:00Z.
    pub phase_ms: i64,
    /// In the order flown; the first starts at 0.
    pub legs: Box<[Leg]>,
}

impl Aircraft {
    /// Six hexadecimal digits.
    pub fn icao24(&self) -> &str {
        self.icao24.as_str()
    }
}

/// All aircraft and routes, a function of seed and size alone. A slot is the same in fleets of
/// every size.
#[derive(Debug)]
pub struct Fleet {
    /// By slot.
    pub aircraft: Vec<Aircraft>,
    /// Shared by the legs.
    pub routes: Vec<Route>,
}

impl Fleet {
    /// Builds the timetable.
    pub fn build(catalog: &Catalog, seed: u64, size: u32) -> Self {
        let mut planner = Planner::new(catalog, seed);
        let aircraft = (0..u64::from(size))
            .map(|slot| planner.aircraft(slot))
            .collect();
        Self {
            aircraft,
            routes: planner.routes,
        }
    }
}

/// A short ASCII text without an allocation of its own.
#[derive(Debug, Clone, Copy)]
struct Text<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> Text<N> {
    /// The text must be ASCII and at most N bytes: every caller's is by construction.
    fn new(text: &str) -> Self {
        let mut bytes = [0; N];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Self {
            bytes,
            len: text.len() as u8,
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// What an airline has given out already, and where it flies.
struct Desk {
    flight_numbers: u64,
    /// Destinations by distance, with how many of them are short and how many at most medium haul.
    destinations: Vec<usize>,
    short: usize,
    medium: usize,
}

struct Planner<'a> {
    catalog: &'a Catalog,
    seed: u64,
    desks: Vec<Desk>,
    /// Addresses given out by state: airlines of one state share its block.
    by_state: HashMap<&'static str, u64>,
    routes: Vec<Route>,
    known: HashMap<(usize, usize, u64), u32>,
}

impl<'a> Planner<'a> {
    fn new(catalog: &'a Catalog, seed: u64) -> Self {
        let desks = catalog.airlines.iter().map(|airline| {
            let home = catalog.airports[airline.base].point();
            let mut reach: Vec<(f64, usize)> = catalog
                .airports
                .iter()
                .enumerate()
                .map(|(i, airport)| (super::geo::distance_nm(home, airport.point()), i))
                .filter(|(distance, _)| (MIN_LEG_NM..airline.range_nm).contains(distance))
                .collect();
            reach.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            Desk {
                flight_numbers: 0,
                short: reach.partition_point(|(distance, _)| *distance < SHORT_HAUL_NM),
                medium: reach.partition_point(|(distance, _)| *distance < MEDIUM_HAUL_NM),
                destinations: reach.into_iter().map(|(_, i)| i).collect(),
            }
        });
        Self {
            catalog,
            seed,
            desks: desks.collect(),
            by_state: HashMap::new(),
            routes: Vec::new(),
            known: HashMap::new(),
        }
    }

    fn aircraft(&mut self, slot: u64) -> Aircraft {
        let cast = usize::try_from(slot).ok().and_then(|slot| CAST.get(slot));
        let airline = match cast.and_then(|cast| self.catalog.airline(cast.airline)) {
            Some(airline) => airline,
            None => self.airline_with_room(slot),
        };
        let icao24 = format!("{:06x}", self.next_address(airline));
        let mut legs: Vec<Leg> = Vec::new();
        let mut cycle_ms = 0;
        let mut now_ms = 0;
        let mut tries = 0;
        while legs.len() < 2 * MAX_PAIRS && tries < 10 {
            let destination = self.destination(slot, airline, cast, tries);
            let home = self.catalog.airlines[airline].base;
            let pair = [
                self.leg(slot, tries * 2, home, destination),
                self.leg(slot, tries * 2 + 1, destination, home),
            ];
            tries += 1;
            let pair_ms = pair[0].2 + pair[1].2;
            if legs.is_empty() {
                cycle_ms = (pair_ms + DAY_MS - 1) / DAY_MS * DAY_MS;
            } else if now_ms + pair_ms > cycle_ms {
                continue;
            }
            for (route, at_gate_ms, length_ms) in pair {
                let callsign = match cast.and_then(|cast| cast.callsign) {
                    Some(callsign) => callsign.to_owned(),
                    None => self.next_callsign(airline),
                };
                legs.push(Leg {
                    start_ms: now_ms,
                    off_block_ms: now_ms + at_gate_ms,
                    route,
                    callsign: Text::new(&callsign),
                });
                now_ms += length_ms;
            }
        }
        // What is left of the last day is rest at home, before the first leg.
        let rest_ms = cycle_ms - now_ms;
        for (i, leg) in legs.iter_mut().enumerate() {
            leg.off_block_ms += rest_ms;
            leg.start_ms += if i == 0 { 0 } else { rest_ms };
        }
        let steps = (cycle_ms / TIMETABLE_MS) as u64;
        let phase_ms = (draw(self.seed, Draw::Phase, slot, 0) % steps) as i64 * TIMETABLE_MS;
        Aircraft {
            icao24: Text::new(&icao24),
            cycle_ms,
            phase_ms,
            legs: legs.into(),
        }
    }

    /// The route of a leg, its time at the gate before it, and the whole time that it takes.
    fn leg(&mut self, slot: u64, n: u64, from: usize, to: usize) -> (u32, i64, i64) {
        let variant = draw(self.seed, Draw::Variant, slot, n) % VARIANTS;
        let route = self.route(from, to, variant);
        let Route { path, profile, .. } = &self.routes[route as usize];
        let wait = unit(draw(self.seed, Draw::Turnaround, slot, n));
        let minutes = match path.length_nm {
            d if d < SHORT_HAUL_NM => 35.0 + 35.0 * wait,
            d if d < MEDIUM_HAUL_NM => 60.0 + 40.0 * wait,
            _ => 90.0 + 60.0 * wait,
        };
        let whole_steps = |ms: i64| (ms + TIMETABLE_MS - 1) / TIMETABLE_MS * TIMETABLE_MS;
        let at_gate_ms = whole_steps((minutes * 60_000.0) as i64);
        let moving_ms = (profile.duration_s * 1_000.0) as i64 + 1;
        (route, at_gate_ms, at_gate_ms + whole_steps(moving_ms))
    }

    fn route(&mut self, from: usize, to: usize, variant: u64) -> u32 {
        let key = (from, to, variant);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let (departure, arrival) = (&self.catalog.airports[from], &self.catalog.airports[to]);
        let path = GreatCircle::between(departure.point(), arrival.point());
        let shape = LegShape {
            length_nm: path.length_nm,
            from_ft: f64::from(departure.elevation_ft),
            to_ft: f64::from(arrival.elevation_ft),
            course: path.at(0.0).track,
        };
        let seed = draw(self.seed, Draw::Variant, from as u64, to as u64).wrapping_add(variant);
        let profile = Profile::new(&shape, seed)
            .expect("destinations are at least MIN_LEG_NM away, and a test flies every pair");
        let number = self.routes.len() as u32;
        self.routes.push(Route {
            from,
            to,
            path,
            profile,
        });
        self.known.insert(key, number);
        number
    }

    fn destination(&self, slot: u64, airline: usize, cast: Option<&Cast>, n: u64) -> usize {
        let given = cast.and_then(|cast| {
            let icao = cast.destinations[index(n, cast.destinations.len())];
            self.catalog.airport(icao)
        });
        if let Some(given) = given {
            return given;
        }
        let desk = &self.desks[airline];
        let all = desk.destinations.len();
        let haul = match unit(draw(self.seed, Draw::Haul, slot, n)) {
            share if share < 0.62 => 0..desk.short,
            share if share < 0.87 => desk.short..desk.medium,
            _ => desk.medium..all,
        };
        let haul = if haul.is_empty() { 0..all } else { haul };
        let pick = index(draw(self.seed, Draw::Destination, slot, n), haul.len());
        desk.destinations[haul.start + pick]
    }

    /// The airline of a slot: drawn, then the next one that still has addresses and flight numbers.
    fn airline_with_room(&self, slot: u64) -> usize {
        let airlines = self.desks.len();
        let first = index(draw(self.seed, Draw::Airline, slot, 0), airlines);
        (first..first + airlines)
            .map(|i| i % airlines)
            .find(|i| {
                let airline = &self.catalog.airlines[*i];
                let given = self
                    .by_state
                    .get(airline.country)
                    .copied()
                    .unwrap_or_default();
                given < address_count(airline.addresses)
                    && self.desks[*i].flight_numbers + 2 * MAX_PAIRS as u64 <= FLIGHT_NUMBERS
            })
            .unwrap_or(first)
    }

    fn next_address(&mut self, airline: usize) -> u32 {
        let airline = &self.catalog.airlines[airline];
        let given = self.by_state.entry(airline.country).or_default();
        let (first, _) = airline.addresses;
        let count = address_count(airline.addresses);
        let key = first.into();
        let address = scatter(draw(self.seed, Draw::Allocation, key, 0), *given, count);
        *given += 1;
        first + address as u32
    }

    fn next_callsign(&mut self, airline: usize) -> String {
        let desk = &mut self.desks[airline];
        let number = loop {
            let hash = draw(self.seed, Draw::Allocation, airline as u64, 1);
            let number = 1 + scatter(hash, desk.flight_numbers, FLIGHT_NUMBERS);
            desk.flight_numbers += 1;
            // 892 of flydubai is taken by the first slot.
            if !(number == 892 && self.catalog.airlines[airline].icao == "FDB") {
                break number;
            }
        };
        format!("{}{number}", self.catalog.airlines[airline].icao)
    }
}

fn address_count((first, last): (u32, u32)) -> u64 {
    u64::from(last - first + 1)
}

/// The n-th element of a permutation of 0..count that the hash decides: all different until `count`
/// are taken.
fn scatter(hash: u64, n: u64, count: u64) -> u64 {
    let gcd = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let mut step = (hash >> 32) % count;
    while gcd(step, count) != 1 {
        step = (step + 1) % count;
    }
    (hash % count + n % count * step) % count
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn scatter_repeats_nothing() {
        for (hash, count) in [
            (0, 1_022),
            (u64::MAX, 9_999),
            (0x1234_5678_9abc_def0, 4_094),
            (7, 2),
        ] {
            let seen: HashSet<u64> = (0..count).map(|n| scatter(hash, n, count)).collect();
            assert_eq!(seen.len() as u64, count);
        }
    }

    #[test]
    fn every_leg_begins_where_the_last_one_ended() {
        let catalog = Catalog::load();
        let fleet = Fleet::build(&catalog, 42, 2_000);
        for aircraft in &fleet.aircraft {
            assert_eq!(aircraft.cycle_ms % DAY_MS, 0);
            assert!((0..aircraft.cycle_ms).contains(&aircraft.phase_ms));
            assert_eq!(aircraft.legs[0].start_ms, 0);
            let n = aircraft.legs.len();
            for (i, leg) in aircraft.legs.iter().enumerate() {
                let route = &fleet.routes[leg.route as usize];
                let next = &aircraft.legs[(i + 1) % n];
                assert_eq!(
                    route.to,
                    fleet.routes[next.route as usize].from,
                    "{}",
                    leg.callsign()
                );
                let end_ms = if i + 1 == n {
                    aircraft.cycle_ms
                } else {
                    next.start_ms
                };
                assert!(leg.start_ms < leg.off_block_ms);
                assert!(leg.off_block_ms + (route.profile.duration_s * 1e3) as i64 <= end_ms);
                assert_eq!(leg.off_block_ms % TIMETABLE_MS, 0);
            }
        }
    }

    #[test]
    fn airframes_and_callsigns_are_given_once_even_in_the_largest_fleet() {
        let catalog = Catalog::load();
        let fleet = Fleet::build(&catalog, 7, crate::simulator::MAX_FLEET);
        let mut airframes = HashSet::new();
        let mut callsigns = HashSet::new();
        for (slot, aircraft) in fleet.aircraft.iter().enumerate() {
            assert!(airframes.insert(aircraft.icao24()), "{}", aircraft.icao24());
            for leg in &aircraft.legs {
                let callsign = leg.callsign();
                assert!(slot == 0 || callsigns.insert(callsign), "{callsign}");
                let airline = &catalog.airlines[catalog.airline(&callsign[..3]).expect(callsign)];
                let address = u32::from_str_radix(aircraft.icao24(), 16).unwrap();
                assert!(
                    (airline.addresses.0..=airline.addresses.1).contains(&address),
                    "{callsign}"
                );
            }
        }
        assert!(!callsigns.contains("FDB892"), "the first slot's alone");
        assert!(
            fleet.aircraft[0]
                .legs
                .iter()
                .all(|leg| leg.callsign() == "FDB892")
        );
    }

    #[test]
    fn a_slot_is_the_same_in_every_fleet() {
        let catalog = Catalog::load();
        let (small, large) = (
            Fleet::build(&catalog, 42, 50),
            Fleet::build(&catalog, 42, 400),
        );
        for (a, b) in small.aircraft.iter().zip(&large.aircraft) {
            assert_eq!(
                (a.icao24(), a.cycle_ms, a.phase_ms),
                (b.icao24(), b.cycle_ms, b.phase_ms)
            );
            let callsigns = |x: &Aircraft| {
                x.legs
                    .iter()
                    .map(|l| l.callsign().to_owned())
                    .collect::<Vec<_>>()
            };
            assert_eq!(callsigns(a), callsigns(b));
        }
    }

    #[test]
    fn every_pair_of_airports_can_be_flown() {
        let catalog = Catalog::load();
        for from in &catalog.airports {
            for to in &catalog.airports {
                if super::super::geo::distance_nm(from.point(), to.point()) < MIN_LEG_NM {
                    continue;
                }
                let path = GreatCircle::between(from.point(), to.point());
                let shape = LegShape {
                    length_nm: path.length_nm,
                    from_ft: f64::from(from.elevation_ft),
                    to_ft: f64::from(to.elevation_ft),
                    course: path.at(0.0).track,
                };
                for variant in 0..3 {
                    assert!(
                        Profile::new(&shape, variant).is_some(),
                        "{} {}",
                        from.icao,
                        to.icao
                    );
                }
            }
        }
    }
}
