//! Everything that can go wrong between six programs, at random, under load; afterwards each event is in
//! the tables once.
//!
//! A run says its seed: `CONTRAIL_FAULTS_SEED=N` repeats its faults. The long form is `make soak`.

#![allow(clippy::unwrap_used)]

#[path = "../whole/mod.rs"]
mod whole;

mod alone;
mod plan;
mod rig;
mod soak;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use contrail::component::Component::Producer;
use plan::{Durations, Plan};
use rig::Rig;
use whole::{World, assert_clean, now_ms, number, turn};

/// Events a second.
const RATE: u32 = 6_000;

/// The seed that is asked for, or one that nobody has chosen.
fn seed() -> u64 {
    match std::env::var("CONTRAIL_FAULTS_SEED") {
        Ok(seed) => seed.parse().expect("CONTRAIL_FAULTS_SEED is a number"),
        Err(_) => now_ms().unsigned_abs(),
    }
}

#[test]
fn faults_at_random_lose_and_double_nothing() {
    const DURATIONS: Durations = Durations {
        freeze_ms: (1_000, 5_000),
        one_long_in: 6,
        // Longer than the sessions of Kafka's clients and their transactions last.
        long: Duration::from_secs(13),
        link_ms: (500, 5_000),
        rest_ms: 3_000,
    };
    /// In this time there are some thirty faults.
    const TIME: Duration = Duration::from_secs(120);
    let _turn = turn();
    let seed = seed();
    println!("seed {seed}: CONTRAIL_FAULTS_SEED={seed} repeats it");
    let world = World::begun(Duration::from_secs(5), RATE, 1000);
    let rig = Rig::start(world, None);
    let began = Instant::now();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for (number, (fault, rest)) in Plan::new(seed, DURATIONS).enumerate() {
        if began.elapsed() > TIME {
            break;
        }
        println!(
            "{:6.1} s  {number:3}  {fault}",
            began.elapsed().as_secs_f64()
        );
        rig.inflict(fault);
        *counts.entry(fault.name()).or_default() += 1;
        std::thread::sleep(rest);
    }
    let recovered = rig.recover();
    let caught_up = rig.catch_up();
    println!(
        "{} faults ({counts:?}); live again {:.1} s after the last, nothing passed over after {:.1} s more",
        counts.values().sum::<u32>(),
        recovered.as_secs_f64(),
        caught_up.as_secs_f64()
    );
    rig.stack.stop(Producer).unwrap();
    let source = assert_clean(&rig.stack);
    rig.assert_aggregates();
    let expected = number(&source["expected"]);
    let least = i64::from(RATE) * i64::try_from(began.elapsed().as_secs()).unwrap() / 2;
    assert!(
        expected > least,
        "{expected} events are too little to be called load"
    );
    assert!(counts.values().sum::<u32>() >= 10, "{counts:?}");
    rig.stack.shut_down();
}

#[test]
fn a_seed_is_a_sequence_of_faults() {
    let durations = Durations {
        freeze_ms: (1, 2),
        one_long_in: 2,
        long: Duration::from_secs(9),
        link_ms: (1, 2),
        rest_ms: 5,
    };
    let faults = |seed| Plan::new(seed, durations).take(2_000).collect::<Vec<_>>();
    assert_eq!(faults(7), faults(7));
    assert_ne!(faults(7), faults(8));
    let mut names: BTreeMap<&str, u32> = BTreeMap::new();
    for (fault, rest) in faults(7) {
        *names.entry(fault.name()).or_default() += 1;
        assert!(rest < Duration::from_millis(5));
    }
    assert_eq!(names.len(), 8, "{names:?}");
}
