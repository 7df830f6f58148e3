//! The simulated world is believable, and any event of it can be asked for.
#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};

use flight_mock::simulator::geo::distance_nm;
use flight_mock::simulator::{LAST_TIMESTAMP_MS, MAX_FLEET};
use flight_mock::{Event, Parameters, Simulator, SimulatorError};
use proptest::prelude::*;

const EPOCH_MS: i64 = 1_767_225_600_000;
const DAY_MS: i64 = 86_400_000;

fn simulator(seed: u64, fleet: u32, period_ms: u32) -> Simulator {
    Simulator::new(Parameters {
        seed,
        fleet,
        period_ms,
        epoch_ms: EPOCH_MS,
    })
    .unwrap()
}

fn point(event: &Event<'_>) -> (f64, f64) {
    (
        f64::from(event.latitude_e5) / 1e5,
        f64::from(event.longitude_e5) / 1e5,
    )
}

/// Everything that two consecutive events of one aircraft, a second apart, must agree on.
fn assert_no_jump(a: &Event<'_>, b: &Event<'_>) {
    let seconds = (b.timestamp - a.timestamp) as f64 / 1e3;
    let speeds = [a, b].map(|e| f64::from(e.gspeed_tenths) / 10.0);
    let moved_kt = distance_nm(point(a), point(b)) / seconds * 3600.0;
    // Five decimals are up to 1.1 m per axis: 0.8 m of error at each end is 3 kt in a second.
    let (slow, fast) = (
        speeds[0].min(speeds[1]) - 4.0 / seconds,
        speeds[0].max(speeds[1]) + 4.0 / seconds,
    );
    assert!(
        (slow..=fast).contains(&moved_kt),
        "{moved_kt} kt between {a:?} and {b:?}"
    );

    let climbed = f64::from(b.altitude - a.altitude);
    let rates = [a, b].map(|e| f64::from(e.vertical_rate) / 60.0 * seconds);
    // Altitudes are rounded to 25 ft at both ends, rates to 64 ft/min.
    let room = 25.0 + 0.6 * seconds;
    let (low, high) = (rates[0].min(rates[1]) - room, rates[0].max(rates[1]) + room);
    assert!(
        (low..=high).contains(&climbed),
        "{climbed} ft between {a:?} and {b:?}"
    );
    assert!(
        (a.vertical_rate - b.vertical_rate).abs() <= 400,
        "{a:?} {b:?}"
    );

    if speeds[0] > 60.0 && a.latitude_e5.abs() < 8_500_000 {
        let turned = (a.track_tenths - b.track_tenths).rem_euclid(3_600);
        assert!(
            turned.min(3_600 - turned) <= 15,
            "turned by {turned} tenths: {a:?} {b:?}"
        );
    }
    if a.off_block_ms != b.off_block_ms {
        assert!(
            a.on_ground && b.on_ground,
            "a flight ends and begins on the ground"
        );
        assert_eq!(point(a), point(b));
    } else {
        assert_eq!(
            (a.callsign, a.squawk),
            (b.callsign, b.squawk),
            "stable within a flight"
        );
    }
    assert_eq!(a.icao24, b.icao24);
}

fn assert_possible(event: &Event<'_>) {
    let position = event.position();
    assert_eq!(
        flight::position::check(&position.by_ref(), event.timestamp),
        Ok(())
    );
    assert_eq!(event.altitude % 25, 0);
    assert_eq!(event.vertical_rate % 64, 0);
    assert!(
        (-18_000_000..18_000_000).contains(&event.longitude_e5),
        "{event:?}"
    );
    assert!((0..3_600).contains(&event.track_tenths), "{event:?}");
    assert!((0..5_000).contains(&event.gspeed_tenths), "{event:?}");
    assert!((-50..=42_000).contains(&event.altitude), "{event:?}");
    assert!(event.vertical_rate.abs() <= 2_560, "{event:?}");
    if event.on_ground {
        assert_eq!(event.vertical_rate, 0, "{event:?}");
        assert!(event.gspeed_tenths <= 1_660, "{event:?}");
    } else {
        assert!(event.gspeed_tenths >= 1_200, "{event:?}");
    }
    assert!((0o0201..=0o6777).contains(&event.squawk), "{event:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn neighbours_agree_at_any_time(
        seed in 0u64..1_000, slot in 0i64..40, start_s in 0i64..40 * 86_400,
    ) {
        let simulator = simulator(seed, 40, 1_000);
        let at = |second: i64| simulator.event((start_s + second) * 40 + slot).unwrap();
        for second in 0..200 {
            assert_possible(&at(second));
            assert_no_jump(&at(second), &at(second + 1));
        }
    }

    #[test]
    fn every_offset_has_its_event(
        seed in any::<u64>(), fleet in 1u32..200, period_ms in 1u32..100_000, share in 0.0f64..=1.0,
        epoch_ms in 0i64..4_102_444_800_000,
    ) {
        let parameters = Parameters { seed: seed >> 1, fleet, period_ms, epoch_ms };
        let simulator = Simulator::new(parameters).unwrap();
        let offset = (simulator.last_offset() as f64 * share) as i64;
        let offset = offset.min(simulator.last_offset());
        let event = simulator.event(offset).unwrap();
        assert_possible(&event);
        prop_assert_eq!(event.timestamp, epoch_ms + offset / i64::from(fleet) * i64::from(period_ms));
        prop_assert_eq!(simulator.timestamp(offset), Ok(event.timestamp));
        // The edge at the event's time is past it, one millisecond before it is not.
        prop_assert!(simulator.live_edge(event.timestamp) > offset);
        prop_assert!(simulator.live_edge(event.timestamp - 1) <= offset);
        // Another simulator, made from the name, agrees.
        let twin = Simulator::from_source_name(simulator.source_name()).unwrap();
        prop_assert_eq!(twin.parameters(), &parameters);
        prop_assert_eq!(twin.position(offset), simulator.position(offset));
    }

    #[test]
    fn no_name_panics(name in "mock-s[0-9]{0,21}-f[0-9]{0,12}-p[0-9-]{0,8}-e.{0,9}|.{0,40}") {
        let _ = Simulator::from_source_name(&name);
    }
}

#[test]
fn a_whole_day_of_a_fleet_has_no_jump() {
    // Every second of a day of six aircraft, the cast among them.
    let simulator = simulator(42, 6, 1_000);
    for slot in 0..6 {
        let mut before = simulator.event(slot).unwrap();
        for tick in 1..86_400 * 2 {
            let now = simulator.event(tick * 6 + slot).unwrap();
            assert_no_jump(&before, &now);
            before = now;
        }
    }
}

#[test]
fn each_flight_has_an_id_of_its_own() {
    // A week of a fleet, every ten minutes: one id never returns, and belongs to one airframe.
    let fleet = 300;
    let simulator = simulator(42, fleet, 600_000);
    let mut last_seen: HashMap<String, (i64, String)> = HashMap::new();
    let mut of_first: HashSet<String> = HashSet::new();
    for tick in 0..7 * 144 {
        for slot in 0..i64::from(fleet) {
            let event = simulator.event(tick * i64::from(fleet) + slot).unwrap();
            let id = event.flight_id();
            assert!(id.starts_with(event.callsign));
            if slot == 0 {
                assert_eq!(event.callsign, "FDB892");
                of_first.insert(id.clone());
            }
            let before = last_seen.insert(id.clone(), (tick, event.icao24.to_owned()));
            if let Some((seen, airframe)) = before {
                assert_eq!(airframe, event.icao24, "{id} on two airframes");
                assert_eq!(seen + 1, tick, "{id} came back");
            }
        }
    }
    assert!(
        of_first.len() >= 14,
        "FDB892 flies at least twice a day: {of_first:?}"
    );
}

#[test]
fn the_sky_is_neither_empty_nor_full() {
    let simulator = simulator(42, 500, 3_600_000);
    for hour in 0..48 {
        let events: Vec<Event<'_>> = (0..500)
            .map(|slot| simulator.event(hour * 500 + slot).unwrap())
            .collect();
        let airborne = events.iter().filter(|e| !e.on_ground).count();
        assert!(
            (175..425).contains(&airborne),
            "{airborne} of 500 in hour {hour}"
        );
        let cruising = events.iter().filter(|e| e.altitude > 28_000).count();
        assert!(cruising > 100, "{cruising} in hour {hour}");
    }
}

#[test]
fn flights_pass_over_san_francisco_bay_every_day() {
    // The box of the seed's query, every 5 seconds for three days of the default fleet.
    let fleet = 500;
    let simulator = simulator(42, fleet, 5_000);
    let mut days = HashSet::new();
    let mut callsigns = HashSet::new();
    for tick in 0..3 * 17_280 {
        // The second slot's flights alone, which every fleet of two or more has.
        let event = simulator.event(tick * i64::from(fleet) + 1).unwrap();
        if (-12_250_000..=-12_230_000).contains(&event.longitude_e5)
            && (3_770_000..=3_790_000).contains(&event.latitude_e5)
        {
            assert!(!event.on_ground && event.altitude > 500, "{event:?}");
            days.insert((event.timestamp - EPOCH_MS) / DAY_MS);
            callsigns.insert(event.callsign.to_owned());
        }
    }
    assert_eq!(days.len(), 3);
    assert!(callsigns.len() >= 2, "{callsigns:?}");
}

#[test]
fn seed_fleet_period_and_epoch_each_matter() {
    let base = Parameters {
        seed: 42,
        fleet: 100,
        period_ms: 1_000,
        epoch_ms: EPOCH_MS,
    };
    let event = |parameters: Parameters, offset| {
        Simulator::new(parameters)
            .unwrap()
            .position(offset)
            .unwrap()
    };
    let original = event(base, 5_017);
    assert_ne!(event(Parameters { seed: 43, ..base }, 5_017), original);
    assert_ne!(event(Parameters { fleet: 101, ..base }, 5_017), original);
    assert_ne!(
        event(
            Parameters {
                period_ms: 1_001,
                ..base
            },
            5_017
        ),
        original
    );
    assert_ne!(
        event(
            Parameters {
                epoch_ms: EPOCH_MS + 1,
                ..base
            },
            5_017
        ),
        original
    );
    // One world, counted otherwise: the same aircraft at the same instant.
    let denser = Parameters {
        fleet: 200,
        period_ms: 500,
        ..base
    };
    assert_eq!(event(denser, 100 * 200 + 17), original);
}

#[test]
fn offsets_and_parameters_out_of_range_are_errors() {
    let simulator = simulator(42, MAX_FLEET, 1);
    let last = simulator.last_offset();
    assert!(simulator.event(last).is_ok());
    assert_eq!(simulator.timestamp(last), Ok(LAST_TIMESTAMP_MS));
    assert_eq!(simulator.live_edge(i64::MAX), last + 1);
    assert_eq!(simulator.live_edge(i64::MIN / 2), 0);
    for offset in [last + 1, i64::MAX] {
        assert_eq!(
            simulator.event(offset),
            Err(SimulatorError::AfterEnd { offset, last })
        );
    }
    for offset in [-1, i64::MIN] {
        assert_eq!(
            simulator.event(offset),
            Err(SimulatorError::BeforeOrigin(offset))
        );
    }
    for (name, part) in [
        ("mock-s42-f0-p1000-e0", "fleet"),
        ("mock-s42-f50001-p1000-e0", "fleet"),
        ("mock-s42-f1-p0-e0", "period_ms"),
        ("mock-s42-f1-p1-e9000000000000", "epoch"),
        ("mock-s9223372036854775808-f1-p1-e0", "seed"),
        ("mock-s042-f1-p1-e0", "mock-s042"),
        ("mock-s42-f1-p1-e0-x", "name of a simulator"),
        ("mock-s42-f1-p1", "name of a simulator"),
        ("receiver-7", "receiver-7"),
        ("", "name of a simulator"),
    ] {
        let message = Simulator::from_source_name(name).unwrap_err().to_string();
        assert!(message.contains(part), "{name}: {message}");
    }
}
