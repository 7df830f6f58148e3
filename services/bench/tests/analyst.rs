//! What an analyst asks next, of few rows whose answers are worked out here, from how they were made.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use contrail::questions::{Question, questions};
use contrail_bench::asking::{self, Asker};
use contrail_bench::world::now_ms;

const EARTH_RADIUS_KM: f64 = 6371.0;
/// (longitude, latitude) of airports, as their operators publish them, to a hundredth of a degree.
const DUBAI: (f64, f64) = (55.36, 25.25);
const HEATHROW: (f64, f64) = (-0.46, 51.47);
const KARACHI: (f64, f64) = (67.16, 24.91);

/// A position; what no question asks for is left out.
#[derive(Debug, Clone)]
struct Seen {
    flight: String,
    /// Longitude and latitude.
    at: (f64, f64),
    altitude: i32,
    gspeed: f32,
    /// Seconds before now.
    ago: i64,
    track: f32,
    on_ground: bool,
}

fn seen(flight: &str, at: (f64, f64), ago: i64) -> Seen {
    Seen {
        flight: flight.to_owned(),
        at,
        altitude: 35_000,
        gspeed: 450.0,
        ago,
        track: 90.0,
        on_ground: false,
    }
}

impl Seen {
    fn grounded(mut self) -> Self {
        (self.altitude, self.gspeed, self.on_ground) = (0, 5.0, true);
        self
    }
}

/// A table with these positions and nothing else, and the questions.
struct Case {
    asker: Asker,
    now: i64,
    questions: Vec<Question>,
}

impl Case {
    fn with(&self, rows: &[Seen]) {
        let table = "flight_data.flight_positions";
        self.asker
            .value(&format!("TRUNCATE TABLE {table}"))
            .unwrap();
        let values: Vec<String> = rows
            .iter()
            .enumerate()
            .map(|(offset, row)| {
                format!(
                    "('hand', {offset}, '{0}', '{0}', {1}, {2}, {3}, {4}, toDateTime64({5}, 3), {6}, {7})",
                    row.flight, row.at.0, row.at.1, row.altitude, row.gspeed, self.now - row.ago, row.track, row.on_ground
                )
            })
            .collect();
        let columns = "source, source_offset, flight_id, callsign, longitude, latitude, altitude, gspeed, timestamp, track, on_ground";
        self.asker
            .value(&format!(
                "INSERT INTO {table} ({columns}) VALUES {}",
                values.join(",")
            ))
            .unwrap();
    }

    /// The answer's lines in their order, each by its fields.
    fn ask(&self, name: &str, given: &[(&str, &str)]) -> Vec<Vec<String>> {
        let question = asking::named(&self.questions, name).unwrap();
        let given: Vec<_> = given
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let parameters = question.parameters(&given).unwrap();
        let settings: Vec<(String, String)> = parameters
            .into_iter()
            .map(|(name, value)| (format!("param_{name}"), value))
            .collect();
        let settings: Vec<(&str, &str)> = settings.iter().map(|(n, v)| (&**n, &**v)).collect();
        let at_now = |sql: &str| {
            sql.replace("now()", &format!("toDateTime({}, 'UTC')", self.now))
                .replace(
                    "today()",
                    &format!("toDate(toDateTime({}, 'UTC'))", self.now),
                )
        };
        let answer = self.asker.ask(&at_now(&question.plain), &settings).unwrap();
        answer
            .text
            .lines()
            .map(|line| line.split('\t').map(str::to_owned).collect())
            .collect()
    }
}

fn number(text: &str) -> f64 {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no number"))
}

/// Haversine, on a sphere.
fn distance_km(a: (f64, f64), b: (f64, f64)) -> f64 {
    let half = |from: f64, to: f64| ((to - from).to_radians() / 2.0).sin().powi(2);
    let h = half(a.1, b.1) + a.1.to_radians().cos() * b.1.to_radians().cos() * half(a.0, b.0);
    2.0 * EARTH_RADIUS_KM * h.sqrt().asin()
}

#[test]
fn an_analyst_is_answered() {
    let stack = asking::engine().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql/queries");
    let case = Case {
        asker: Asker::new(&stack),
        now: now_ms() / 1000,
        questions: questions(&folder).unwrap(),
    };
    busiest_routes(&case);
    arrivals_by_hour(&case);
    holding_patterns(&case);
    altitude_and_speed_bands(&case);
    flights_near(&case);
    receiver_coverage(&case);
}

fn busiest_routes(case: &Case) {
    let leg = |flight: &str, from, to, ago| {
        let middle = (30.0, 40.0);
        vec![
            seen(flight, from, ago + 7200).grounded(),
            seen(flight, middle, ago + 3600),
            seen(flight, to, ago).grounded(),
        ]
    };
    let beside = |(longitude, latitude): (f64, f64)| (longitude + 0.02, latitude - 0.03);
    case.with(
        &[
            leg("A", DUBAI, HEATHROW, 100_000),
            leg("B", beside(DUBAI), beside(HEATHROW), 20_000),
            leg("C", HEATHROW, DUBAI, 1_000),
            // These have no airport at one end, or the same one at both.
            leg("D", (20.0, 35.0), DUBAI, 1_000),
            leg("E", DUBAI, DUBAI, 1_000),
            // This one is too old.
            leg("F", KARACHI, DUBAI, 9 * 86_400),
        ]
        .concat(),
    );
    assert_eq!(
        case.ask("busiest_routes", &[]),
        [["OMDB", "EGLL", "2"], ["EGLL", "OMDB", "1"]]
    );
}

fn arrivals_by_hour(case: &Case) {
    let near = (DUBAI.0 + 0.1, DUBAI.1);
    let arrival = |flight: &str, ago: i64| {
        vec![
            seen(flight, (57.0, 25.0), ago + 900),
            seen(flight, near, ago),
            seen(flight, DUBAI, ago - 60).grounded(),
        ]
    };
    let landed = [90, 100, 4_000, 90_000];
    let mut rows: Vec<Seen> = landed
        .iter()
        .enumerate()
        .flat_map(|(index, ago)| arrival(&format!("L{index}"), *ago))
        .collect();
    // One departs, one passes overhead, one lands elsewhere.
    rows.push(seen("departs", DUBAI, 500).grounded());
    rows.push(seen("departs", near, 100));
    rows.push(seen("passes", DUBAI, 100));
    rows.extend([
        seen("elsewhere", KARACHI, 200),
        seen("elsewhere", KARACHI, 100).grounded(),
    ]);
    case.with(&rows);
    let mut expected: BTreeMap<i64, u64> = BTreeMap::new();
    for ago in landed {
        *expected
            .entry((case.now - ago).div_euclid(3600))
            .or_default() += 1;
    }
    let answer = case.ask("arrivals_by_hour", &[("airport", "OMDB")]);
    let counts: Vec<u64> = answer.iter().map(|line| line[1].parse().unwrap()).collect();
    assert_eq!(
        counts,
        expected.into_values().collect::<Vec<_>>(),
        "{answer:?}"
    );
    assert!(
        case.ask("arrivals_by_hour", &[("airport", "ZZZZ")])
            .is_empty()
    );
}

fn holding_patterns(case: &Case) {
    // To the right, 12 degrees every 20 s: ten minutes a turn, 100 minutes long, 5 km around.
    let mut rows: Vec<Seen> = (0..300)
        .map(|step: i64| {
            let track = (step * 12 % 360) as f64;
            let (east, north) = track.to_radians().sin_cos();
            let at = (10.0 + 0.05 * east, 45.0 + 0.05 * north);
            let mut row = seen("holds", at, 20_000 - step * 20);
            row.track = track as f32;
            row
        })
        .collect();
    // Straight on, and one that turns as much over a way of 1,000 km.
    rows.extend(
        (0..300).map(|step: i64| seen("straight", (step as f64 * 0.1, 50.0), 20_000 - step * 20)),
    );
    rows.extend((0..60).map(|step: i64| {
        let mut row = seen("wanders", (step as f64 * 0.5, 20.0), 20_000 - step * 20);
        row.track = (step * 40 % 360) as f32;
        row
    }));
    case.with(&rows);
    // By windows of 20 minutes, 60 positions each where it was there for all of it: two turns less the
    // one step at the beginning of the first.
    let answer = case.ask("holding_patterns", &[]);
    let mut windows: BTreeMap<i64, f64> = BTreeMap::new();
    for step in 1..300 {
        *windows
            .entry((case.now - 20_000 + step * 20).div_euclid(1200))
            .or_default() += 12.0;
    }
    let expected: Vec<f64> = windows
        .into_values()
        .filter(|turned| *turned >= 720.0)
        .collect();
    assert!(expected.len() >= 4);
    assert_eq!(answer.len(), expected.len(), "{answer:?}");
    for (line, turned) in answer.iter().zip(expected) {
        assert_eq!(
            (line[0].as_str(), number(&line[4])),
            ("holds", turned / 360.0)
        );
        assert!((number(&line[5]) - 10.0).abs() < 0.01 && (number(&line[6]) - 45.0).abs() < 0.01);
    }
}

fn altitude_and_speed_bands(case: &Case) {
    let mut rows = Vec::new();
    let mut expected: BTreeMap<(i32, i32), (u64, Vec<String>)> = BTreeMap::new();
    for index in 0..200_i32 {
        let mut row = seen(&format!("F{}", index % 7), (1.0, 1.0), 60);
        row.altitude = index * 211 - 300;
        row.gspeed = (50 + index * 3) as f32 + 0.5;
        let band = (
            row.altitude.max(0) / 5000 * 5000,
            (50 + index * 3) / 100 * 100,
        );
        let entry = expected.entry(band).or_default();
        entry.0 += 1;
        if !entry.1.contains(&row.flight) {
            entry.1.push(row.flight.clone());
        }
        rows.push(row);
    }
    rows.push(seen("parked", (1.0, 1.0), 60).grounded());
    case.with(&rows);
    let expected: Vec<Vec<String>> = expected
        .into_iter()
        .map(|((altitude, speed), (count, flights))| {
            [altitude as u64, speed as u64, count, flights.len() as u64]
                .map(|value| value.to_string())
                .to_vec()
        })
        .collect();
    assert_eq!(case.ask("altitude_and_speed_bands", &[]), expected);
}

fn flights_near(case: &Case) {
    // Around places where a box of degrees is easily wrong: the 180th meridian, and near a pole.
    for here in [DUBAI, (179.9, -17.0), (-179.95, 60.0), (20.0, 89.2)] {
        let mut rows = Vec::new();
        for (index, (east, north)) in [
            (0.0, 0.1),
            (0.3, 0.0),
            (-0.4, 0.2),
            (0.0, -0.8),
            (5.0, 0.0),
            (-9.0, 0.3),
            (180.0, 0.5),
        ]
        .into_iter()
        .enumerate()
        {
            let longitude = (here.0 + east + 180.0_f64).rem_euclid(360.0) - 180.0;
            let at = (longitude, (here.1 + north).min(90.0));
            rows.push(seen(&format!("N{index}"), at, 30));
        }
        // The same flight a minute earlier, and one that was there ten minutes ago.
        rows.push(seen("N0", here, 90));
        rows.push(seen("gone", here, 600));
        case.with(&rows);
        for radius_km in [15.0, 60.0, 200.0] {
            let expected: Vec<String> = rows[..7]
                .iter()
                .filter(|row| {
                    let distance = distance_km(row.at, here);
                    // The engine's globe is not a sphere: half a per cent apart at most.
                    assert!(
                        (distance / radius_km - 1.0).abs() > 0.01,
                        "{row:?} is on the edge"
                    );
                    distance < radius_km
                })
                .map(|row| row.flight.clone())
                .collect();
            let [longitude, latitude, radius] =
                [here.0, here.1, radius_km].map(|value| value.to_string());
            let answer = case.ask(
                "flights_near",
                &[
                    ("longitude", &longitude),
                    ("latitude", &latitude),
                    ("radius_km", &radius),
                ],
            );
            let mut found: Vec<String> = answer.iter().map(|line| line[0].clone()).collect();
            found.sort();
            assert_eq!(
                found, expected,
                "{radius_km} km around {here:?}: {answer:?}"
            );
        }
    }
}

fn receiver_coverage(case: &Case) {
    // North, east, south and west of the receiver, at 60, 120 and 180 nautical miles, in two layers; a
    // minute of latitude is a nautical mile.
    let mut rows = Vec::new();
    for (bearing, east, north) in [
        (0, 0.0, 1.0),
        (90, 1.0, 0.0),
        (180, 0.0, -1.0),
        (270, -1.0, 0.0),
    ] {
        for range in [1.0, 2.0, 3.0] {
            for altitude in [5_000, 35_000] {
                // A little clockwise, so that it is within the sector and not on its edge.
                let (at_east, at_north) = (east + north * 0.05, north - east * 0.05);
                let latitude = DUBAI.1 + range * at_north;
                let longitude = DUBAI.0 + range * at_east / DUBAI.1.to_radians().cos();
                let mut row = seen(&format!("R{bearing}"), (longitude, latitude), 3_000);
                row.altitude = altitude;
                rows.push(row);
            }
        }
    }
    rows.push(seen("far", HEATHROW, 3_000));
    case.with(&rows);
    let [longitude, latitude] = [DUBAI.0, DUBAI.1].map(|value| value.to_string());
    let answer = case.ask(
        "receiver_coverage",
        &[("longitude", &longitude), ("latitude", &latitude)],
    );
    let sectors: Vec<(u64, u64, u64)> = answer
        .iter()
        .map(|line| {
            (
                line[0].parse().unwrap(),
                line[1].parse().unwrap(),
                line[2].parse().unwrap(),
            )
        })
        .collect();
    let expected: Vec<(u64, u64, u64)> = [0, 90, 180, 270]
        .into_iter()
        .flat_map(|bearing| [(bearing, 0, 3), (bearing, 30_000, 3)])
        .collect();
    assert_eq!(sectors, expected, "{answer:?}");
    for line in answer {
        let (median, most) = (number(&line[3]), number(&line[4]));
        assert!(
            (median / 120.0 - 1.0).abs() < 0.02 && (most / 180.0 - 1.0).abs() < 0.02,
            "{line:?}"
        );
    }
}
