//! The long form: hundreds of faults in slices, each of which ends with the whole account.
//!
//! `make soak` runs one slice after the other on one state, until all faults were there. One that was cut
//! off is repeated from the end of the last whole one; what it did to the data stays, and is accounted for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use contrail::component::Component::Producer;
use serde::{Deserialize, Serialize};

use crate::plan::{Durations, Fault, Plan};
use crate::rig::Rig;
use crate::whole::{World, assert_clean, now_ms, number, turn};
use crate::{RATE, seed};

const DURATIONS: Durations = Durations {
    freeze_ms: (10_000, 20_000),
    one_long_in: 10,
    long: Duration::from_secs(90),
    link_ms: (1_000, 20_000),
    rest_ms: 5_000,
};
/// Faults in all, unless `CONTRAIL_SOAK_FAULTS` says otherwise.
const FAULTS: usize = 200;
/// A slice begins no further fault after this time, unless `CONTRAIL_SOAK_MINUTES` says otherwise. With its
/// account it is over within 40 minutes.
const MINUTES: u64 = 33;

/// What is known of a soak, in `soak.json` of its directory.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    seed: u64,
    /// Faults that there are to be.
    faults: usize,
    /// The world, so that each slice goes on in it.
    epoch_ms: i64,
    rate: u32,
    slices: Vec<Slice>,
}

/// A whole slice: its account was clean.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Slice {
    faults: usize,
    by_kind: BTreeMap<String, u32>,
    seconds: u64,
    /// From the last fault until events were live again.
    live_again_s: f64,
    /// From then on until nothing was left of what had been passed over to be live.
    caught_up_s: f64,
    /// Events that were accounted for, all in all.
    events: i64,
    missing: i64,
    doubled: i64,
    changed: usize,
}

impl Progress {
    fn done(&self) -> usize {
        self.slices.iter().map(|slice| slice.faults).sum()
    }
}

fn number_of(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is {value}, and no number")),
    )
}

/// Reads where a soak is, or begins one in a directory that is empty. What is asked for must be what it is.
fn open(
    directory: &Path,
    wanted_seed: Option<u64>,
    wanted_faults: Option<u64>,
) -> Result<Progress, String> {
    let file = directory.join("soak.json");
    let shown = directory.display();
    if let Ok(text) = std::fs::read_to_string(&file) {
        let progress: Progress = serde_json::from_str(&text)
            .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
        let has = [
            ("seed", wanted_seed, progress.seed),
            ("faults", wanted_faults, progress.faults as u64),
        ];
        for (what, wanted, has) in has {
            if let Some(wanted) = wanted
                && wanted != has
            {
                return Err(format!(
                    "{shown} holds a soak with {what} {has}, not {wanted}: remove it, or set CONTRAIL_SOAK_DIR to another directory"
                ));
            }
        }
        if progress.done() >= progress.faults {
            return Err(format!(
                "the soak in {shown} is over: remove it, or set CONTRAIL_SOAK_DIR to another directory"
            ));
        }
        return Ok(progress);
    }
    std::fs::create_dir_all(directory).map_err(|error| format!("cannot make {shown}: {error}"))?;
    let mut entries = std::fs::read_dir(directory).map_err(|error| error.to_string())?;
    if entries.next().is_some() {
        return Err(format!(
            "{shown} holds something, and no soak.json: a soak begins on no state of another; remove it, or set CONTRAIL_SOAK_DIR to another directory"
        ));
    }
    let progress = Progress {
        seed: wanted_seed.unwrap_or_else(seed),
        faults: wanted_faults.map_or(FAULTS, |faults| faults as usize),
        epoch_ms: now_ms() - 5_000,
        rate: RATE,
        slices: Vec::new(),
    };
    save(directory, &progress);
    Ok(progress)
}

fn save(directory: &Path, progress: &Progress) {
    let (new, file) = (directory.join("soak.json.new"), directory.join("soak.json"));
    std::fs::write(&new, serde_json::to_string_pretty(progress).unwrap()).unwrap();
    std::fs::rename(new, file).unwrap();
}

fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

#[test]
#[ignore = "takes more than half an hour: run it with `make soak`"]
fn soak() {
    let directory = std::env::var_os("CONTRAIL_SOAK_DIR").map(PathBuf::from);
    let directory = directory.expect("CONTRAIL_SOAK_DIR names a directory");
    let wanted = ["CONTRAIL_FAULTS_SEED", "CONTRAIL_SOAK_FAULTS"].map(number_of);
    let mut progress = open(&directory, wanted[0], wanted[1]).unwrap_or_else(|why| panic!("{why}"));
    let _turn = turn();
    let minutes = number_of("CONTRAIL_SOAK_MINUTES").unwrap_or(MINUTES);
    let world = World {
        fleet: progress.rate,
        period_ms: 1000,
        epoch_ms: progress.epoch_ms,
    };
    println!(
        "seed {}, {} of {} faults are done",
        progress.seed,
        progress.done(),
        progress.faults
    );
    let rig = Rig::start(world, Some(&directory.join("state")));
    // What the source numbered while nothing ran comes first.
    rig.recover();
    let began = Instant::now();
    let mut by_kind: BTreeMap<String, u32> = BTreeMap::new();
    let mut faults = 0;
    let left = Plan::new(progress.seed, DURATIONS)
        .enumerate()
        .take(progress.faults)
        .skip(progress.done());
    for (number, (fault, rest)) in left {
        if began.elapsed() > Duration::from_secs(60 * minutes) {
            break;
        }
        println!(
            "{:6.0} s  {number:3}  {fault}",
            began.elapsed().as_secs_f64()
        );
        rig.inflict(fault);
        std::thread::sleep(rest);
        *by_kind.entry(Fault::name(fault).to_owned()).or_default() += 1;
        faults += 1;
    }
    let live_again = rig.recover();
    let caught_up = rig.catch_up();
    rig.stack.stop(Producer).unwrap();
    let source = assert_clean(&rig.stack);
    rig.assert_aggregates();
    rig.stack.shut_down();
    progress.slices.push(Slice {
        faults,
        by_kind,
        seconds: began.elapsed().as_secs(),
        live_again_s: tenths(live_again),
        caught_up_s: tenths(caught_up),
        events: number(&source["expected"]),
        missing: number(&source["missing_count"]),
        doubled: number(&source["duplicated_count"]),
        changed: source["contents"]["changed"].as_array().unwrap().len(),
    });
    save(&directory, &progress);
    println!("{}", serde_json::to_string_pretty(&progress).unwrap());
    let done = progress.done();
    match done < progress.faults {
        true => println!(
            "{done} of {} faults: run `make soak` again",
            progress.faults
        ),
        false => println!("the soak is over, and every event is there once"),
    }
}

#[test]
fn a_soak_begins_in_an_empty_directory_and_goes_on_in_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut progress = open(path, None, Some(3)).unwrap();
    let begun = std::fs::read(path.join("soak.json")).unwrap();
    let (seed, faults) = (progress.seed, progress.faults as u64);
    assert_eq!(faults, 3);
    assert_eq!(open(path, None, None).unwrap().seed, seed);
    assert_eq!(open(path, Some(seed), Some(3)).unwrap().seed, seed);
    let refused = |seed, faults| open(path, seed, faults).unwrap_err();
    assert!(refused(Some(seed + 1), None).contains(&format!("with seed {seed}, not {}", seed + 1)));
    assert!(refused(None, Some(200)).contains("with faults 3, not 200"));
    // Whoever was refused has changed nothing.
    assert_eq!(std::fs::read(path.join("soak.json")).unwrap(), begun);
    progress.faults = 0;
    save(path, &progress);
    assert!(refused(None, None).contains("is over"));
    std::fs::rename(path.join("soak.json"), path.join("other")).unwrap();
    assert!(refused(None, None).contains("no soak.json"));
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 1);
    std::fs::write(path.join("soak.json"), "{").unwrap();
    assert!(refused(None, None).contains("cannot be read"));
}
