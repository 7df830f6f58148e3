//! Ingesters that are killed, stopped, joined and left, and a server that dies, while records come:
//! in the end each event is in the table once.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::case::Case;
use common::events::event;
use common::ingester::Ingester;
use contrail::Component;
use contrail::proxy::{Manner, Proxy};
use flight_ingester::settings::Settings;
use nix::sys::signal::Signal;

/// Writes events 0, 1, 2 … of a source, a few thousand a second, until it is told to stop.
struct Stream {
    thread: Option<JoinHandle<()>>,
    end: Arc<AtomicBool>,
    written: Arc<AtomicI64>,
}

impl Stream {
    fn start(case: &Case) -> Self {
        let (end, written) = <(Arc<AtomicBool>, Arc<AtomicI64>)>::default();
        let (writer, source) = (case.writer(), case.source(0));
        let (its_end, its_written) = (end.clone(), written.clone());
        let thread = std::thread::spawn(move || {
            while !its_end.load(Ordering::SeqCst) {
                let first = its_written.load(Ordering::SeqCst);
                let next = first + 200;
                writer.write((first..next).map(|offset| event(&source, offset)));
                its_written.store(next, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(40));
            }
        });
        Self {
            thread: Some(thread),
            end,
            written,
        }
    }

    fn written(&self) -> i64 {
        self.written.load(Ordering::SeqCst)
    }

    /// Ends it; how many events there are.
    fn finish(mut self) -> i64 {
        self.end.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
        self.written()
    }
}

/// Small batches: many ranges to be killed in.
fn settings(case: &Case) -> Settings {
    let mut settings = case.settings.clone();
    settings.batch.linger_ms = 30;
    settings.batch.max_rows = 300;
    settings
}

/// Under this name a successor gets its partitions at once.
fn named(settings: &Settings, instance: &str) -> Settings {
    let mut settings = settings.clone();
    settings.group.instance_id = instance.to_owned();
    settings
}

#[test]
fn an_ingester_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    const KILLS: usize = 15;
    let case = Case::new("killed");
    let settings = named(&settings(&case), "only");
    let stream = Stream::start(&case);
    let (mut redone, mut kills) = (0, 0);
    while kills < KILLS {
        let ingester = Ingester::start(&settings);
        // Kill it at work, each time a little later in it.
        let before = case.count(0);
        ingester.wait_for("rows come", |i| {
            i.counted("rows_inserted") > 0 || case.count(0) > before
        });
        let work = Duration::from_millis(37 * (kills as u64 % 8));
        std::thread::sleep(work);
        redone += ingester.counted("ranges_redone");
        ingester.kill();
        kills += 1;
    }
    let events = stream.finish();
    let ingester = Ingester::start(&settings);
    case.assert_rows(0, &case.events(0, 0..events));
    redone += ingester.counted("ranges_redone");
    assert!(
        redone > 0,
        "no kill left a range open: this test shows nothing"
    );
    ingester.stop();
}

#[test]
fn members_that_come_and_go_hand_their_partitions_over_cooperatively() {
    members_come_and_go("sticky", "cooperative-sticky");
}

#[test]
fn members_that_come_and_go_hand_their_partitions_over_by_range() {
    members_come_and_go("range", "range");
}

fn members_come_and_go(name: &'static str, assignment: &str) {
    let case = Case::new(name);
    let mut settings = settings(&case);
    settings.group.assignment = assignment.to_owned();
    let stream = Stream::start(&case);
    let mut members = vec![Ingester::start(&settings)];
    members[0].wait_until_ready();
    for wanted in [2, 3, 2, 3, 1] {
        match members.len() < wanted {
            true => members.push(Ingester::start(&settings)),
            // The oldest goes, in the middle of its work.
            false => (wanted..members.len()).for_each(|_| members.remove(0).stop()),
        }
        let began = Instant::now();
        loop {
            let shares: Vec<_> = members.iter().map(Ingester::partitions).collect();
            let total: u64 = shares.iter().sum();
            if total == case.partitions as u64 && shares.iter().all(|share| *share > 0) {
                break;
            }
            assert!(
                began.elapsed() < Duration::from_secs(40),
                "{wanted} members: {shares:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        // Every one of them at work before the next change.
        let before: Vec<_> = members.iter().map(|m| m.counted("rows_inserted")).collect();
        for (member, before) in members.iter().zip(before) {
            member.wait_for("it inserts", |m| m.counted("rows_inserted") > before);
        }
    }
    let events = stream.finish();
    case.assert_rows(0, &case.events(0, 0..events));
    members.into_iter().for_each(Ingester::stop);
}

#[test]
fn a_member_that_hangs_past_its_session_comes_back_to_no_harm() {
    let case = Case::new("hangs");
    let mut settings = settings(&case);
    settings.group.session_timeout_ms = 6_000;
    let stream = Stream::start(&case);
    let hanging = Ingester::start(&settings);
    hanging.wait_for("rows come", |i| i.counted("rows_inserted") > 0);
    let other = Ingester::start(&settings);
    for member in [&hanging, &other] {
        member.wait_for("its share", |i| i.partitions() == 3);
    }
    for _ in 0..2 {
        hanging.signal(Signal::SIGSTOP);
        other.wait_for("all partitions are its own", |i| i.partitions() == 6);
        // It has redone what was open there, and gone on.
        let before = other.counted("rows_inserted");
        other.wait_for("rows come", |i| i.counted("rows_inserted") > before + 1_000);
        hanging.signal(Signal::SIGCONT);
        for member in [&hanging, &other] {
            member.wait_for("its share again", |i| i.partitions() == 3);
        }
    }
    let events = stream.finish();
    case.assert_rows(0, &case.events(0, 0..events));
    hanging.wait_until_ready();
    hanging.stop();
    other.stop();
}

/// The settings of an ingester that reaches ClickHouse by way of a proxy, with the patience of a test.
fn by_way_of(proxy: &Proxy, settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    settings.clickhouse.url = format!("http://127.0.0.1:{}", proxy.port());
    settings.clickhouse.insert_timeout_ms = 2_000;
    settings.clickhouse.query_timeout_ms = 2_000;
    settings
}

fn proxy(case: &Case) -> Proxy {
    Proxy::start(case.stack.port(Component::Clickhouse)).unwrap()
}

#[test]
fn an_insert_that_arrives_after_another_took_its_partition_over_doubles_nothing() {
    let case = Case::new("stalled");
    let mut settings = settings(&case);
    settings.group.session_timeout_ms = 6_000;
    let proxy = proxy(&case);
    let stream = Stream::start(&case);
    let mut stalled_settings = by_way_of(&proxy, &settings);
    // It does not give up by itself: the other one comes first.
    stalled_settings.clickhouse.insert_timeout_ms = 60_000;
    let stalled = Ingester::start(&stalled_settings);
    stalled.wait_for("rows come", |i| i.counted("rows_inserted") > 0);
    let other = Ingester::start(&settings);
    for member in [&stalled, &other] {
        member.wait_for("its share", |i| i.partitions() == 3);
    }
    for _ in 0..2 {
        // Its inserts are sent, and are on the way while it stops.
        proxy.set(Manner::HoldRequests);
        stalled.wait_for("inserts are on the way", |_| proxy.held() > 10_000);
        stalled.signal(Signal::SIGSTOP);
        let redone = other.counted("ranges_redone");
        other.wait_for("all partitions are its own", |i| i.partitions() == 6);
        // If none was open, this test shows nothing.
        other.wait_for("an open range is redone", |i| {
            i.counted("ranges_redone") > redone
        });
        let before = other.counted("rows_inserted");
        other.wait_for("rows come", |i| i.counted("rows_inserted") > before + 1_000);
        // Now they arrive. A moment later the writer wakes, too.
        proxy.set(Manner::Pass);
        std::thread::sleep(Duration::from_secs(1));
        stalled.signal(Signal::SIGCONT);
        for member in [&stalled, &other] {
            member.wait_for("its share again", |i| i.partitions() == 3);
        }
    }
    let events = stream.finish();
    case.assert_rows(0, &case.events(0, 0..events));
    stalled.wait_until_ready();
    stalled.stop();
    other.stop();
}

#[test]
fn an_answer_that_comes_after_the_client_gave_up_doubles_nothing() {
    let case = Case::new("late-answer");
    let proxy = proxy(&case);
    let stream = Stream::start(&case);
    let ingester = Ingester::start(&by_way_of(&proxy, &settings(&case)));
    for _ in 0..3 {
        let before = ingester.counted("rows_inserted");
        ingester.wait_for("rows come", |i| i.counted("rows_inserted") > before + 500);
        let (errors, rows) = (ingester.counted("insert_errors"), case.count(0));
        proxy.set(Manner::HoldAnswers);
        // The rows are there, and nobody has said so.
        ingester.wait_for("it gives up", |i| i.counted("insert_errors") > errors);
        assert!(case.count(0) > rows, "the insert was not done");
        proxy.set(Manner::Pass);
    }
    let events = stream.finish();
    case.assert_rows(0, &case.events(0, 0..events));
    ingester.wait_until_ready();
    ingester.stop();
}

#[test]
fn of_two_with_one_name_the_older_ends_and_says_why() {
    let case = Case::new("namesakes");
    let settings = named(&settings(&case), "twin");
    let stream = Stream::start(&case);
    let older = Ingester::start(&settings);
    older.wait_for("rows come", |i| i.counted("rows_inserted") > 0);
    let younger = Ingester::start(&settings);
    let (code, log) = older.wait_for_exit(Duration::from_secs(30));
    assert_eq!(code, Some(1), "{log}");
    let group = &case.settings.group.id;
    let message = format!("another ingester has joined group {group} as group.instance_id twin");
    assert!(log.contains(&message), "{log}");
    younger.wait_for("rows come", |i| i.counted("rows_inserted") > 0);
    let events = stream.finish();
    case.assert_rows(0, &case.events(0, 0..events));
    younger.stop();
}

#[test]
fn a_server_that_is_killed_in_mid_insert_loses_and_doubles_nothing() {
    const KILLS: usize = 5;
    let case = Case::new("server-killed");
    let stream = Stream::start(&case);
    let ingester = Ingester::start(&settings(&case));
    for kill in 0..KILLS {
        let before = ingester.counted("rows_inserted");
        ingester.wait_for("rows come", |i| i.counted("rows_inserted") > before + 500);
        std::thread::sleep(Duration::from_millis(13 * kill as u64));
        case.stack.kill(Component::Clickhouse).unwrap();
        ingester.wait_until_unready("ClickHouse");
        case.stack
            .wait_ready(Component::Clickhouse, Duration::from_secs(30))
            .unwrap();
    }
    let events = stream.finish();
    case.assert_rows(0, &case.events(0, 0..events));
    assert!(ingester.counted("insert_errors") > 0);
    ingester.wait_until_ready();
    ingester.stop();
}

#[test]
fn a_backlog_does_not_fill_the_memory() {
    const EVENTS: i64 = 1_000_000;
    let case = Case::new("backlog");
    let writer = case.writer();
    let source = case.source(0);
    for first in (0..EVENTS).step_by(50_000) {
        writer.write((first..first + 50_000).map(|offset| event(&source, offset)));
    }
    let mut settings = case.settings.clone();
    settings.batch = Settings::default().batch;
    let ingester = Ingester::start(&settings);
    let peak = std::cell::Cell::new(0.0_f64);
    ingester.wait_for("all rows", |i| {
        peak.set(peak.get().max(i.metric("process_resident_memory_bytes")));
        case.count(0) as i64 >= EVENTS
    });
    case.wait_until_idle();
    let resident = peak.get() / 1e6;
    assert!(
        resident > 10.0 && resident < 250.0,
        "{resident} MB resident"
    );
    assert_eq!(case.count(0) as i64, EVENTS);
    println!("{EVENTS} records waiting: {resident:.0} MB resident at most");
    // Nothing more comes, so nothing more asks the allocator for memory: it is given back all the same.
    ingester.wait_for("the memory of the backlog is given back", |i| {
        i.metric("process_resident_memory_bytes") < 100e6
    });
    ingester.stop();
}
