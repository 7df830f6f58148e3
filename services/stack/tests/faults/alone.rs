//! Each failure by itself: how long events are late by it. docs/recovery.md has a run.

use std::time::{Duration, Instant};

use contrail::component::Component::{Clickhouse, Ingester, Kafka, Mock, Producer, Registry};

use crate::RATE;
use crate::plan::{Fault, Link};
use crate::rig::Rig;
use crate::whole::{World, assert_clean, turn};

/// Events that are older than this are late: without faults they are there sooner.
const LATE: Duration = Duration::from_secs(2);
/// When nothing was late for so long, and all is ready, it is over.
const CALM: Duration = Duration::from_secs(6);
/// Longest wait for that.
const LIMIT: Duration = Duration::from_secs(180);

/// What a failure did.
struct Effect {
    /// How old the newest event was at worst.
    oldest: Duration,
    /// From its beginning until events were live again, and every program ready.
    recovered: Duration,
}

/// Inflicts one, and watches until it is over.
fn watch(rig: &Rig, fault: Fault) -> Effect {
    let began = Instant::now();
    let mut effect = Effect {
        oldest: Duration::ZERO,
        recovered: Duration::ZERO,
    };
    std::thread::scope(|scope| {
        let inflicting = scope.spawn(|| rig.inflict(fault));
        loop {
            let age = rig.age();
            match age {
                Some(age) => effect.oldest = effect.oldest.max(age),
                // The newest that was seen grows older.
                None => effect.oldest += Duration::from_millis(100),
            }
            let is_well = inflicting.is_finished() && rig.is_ready();
            if !is_well || age.is_none_or(|age| age > LATE) {
                effect.recovered = began.elapsed();
            }
            if began.elapsed() > effect.recovered + CALM {
                return;
            }
            assert!(began.elapsed() < LIMIT, "not within {LIMIT:?}: {fault}");
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    effect
}

#[test]
#[ignore = "measures: give it the machine"]
fn each_failure_by_itself() {
    let _turn = turn();
    let rig = Rig::start(World::begun(Duration::from_secs(5), RATE, 1000), None);
    rig.recover();
    let long = Duration::from_secs(13);
    let short = Duration::from_secs(5);
    let all = [Producer, Ingester, Kafka, Clickhouse, Registry, Mock];
    let faults = all
        .into_iter()
        .map(Fault::Kill)
        .chain([Producer, Ingester, Kafka, Clickhouse].map(|program| Fault::Freeze(program, long)))
        .chain(Link::ALL.into_iter().map(|link| Fault::Refuse(link, short)));
    println!("| failure | newest event at worst | live again after |\n|---|---|---|");
    for fault in faults {
        let effect = watch(&rig, fault);
        println!(
            "| {fault} | {:.1} s old | {:.1} s |",
            effect.oldest.as_secs_f64(),
            effect.recovered.as_secs_f64()
        );
    }
    rig.recover();
    rig.catch_up();
    rig.stack.stop(Producer).unwrap();
    assert_clean(&rig.stack);
    rig.stack.shut_down();
}
