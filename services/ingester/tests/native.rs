//! Blocks in the Native format, against the real engine: what comes out of the table is what went in.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use common::{stack, table, wait_for};
use contrail::{Component, Stack};
use flight::avro::Record;
use flight::config::Secret;
use flight::position::{Identified, Position, REPRESENTABLE_MS};
use flight_ingester::batch::Batch;
use flight_ingester::migrate::{MIGRATIONS, migrate};
use flight_ingester::settings::Settings;
use flight_ingester::store::{Store, StoreError};

/// Seconds since the epoch that no test lives to see.
const NEVER: u32 = u32::MAX;

struct Server {
    stack: Arc<Stack>,
    store: Store,
}

/// A server with the tables on it, made by whoever asks first.
fn server() -> Server {
    static MIGRATED: OnceLock<()> = OnceLock::new();
    static ONE_BY_ONE: Mutex<()> = Mutex::new(());
    let _one = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let stack = stack::clickhouse_only();
    let mut settings = Settings::default().clickhouse;
    settings.url = stack.url(Component::Clickhouse);
    settings.password = Secret::new(stack.context().settings.clickhouse.password.clone());
    let store = Store::new(&settings).unwrap();
    MIGRATED.get_or_init(|| {
        wait_for(migrate(&store, MIGRATIONS)).unwrap();
        // Days that are long past are part of the question here.
        table::ask(&stack, "SYSTEM STOP TTL MERGES").unwrap();
    });
    Server { stack, store }
}

fn batch(events: &[Identified]) -> Batch {
    let mut batch = Batch::default();
    for event in events {
        let record = Record {
            source: &event.source,
            source_offset: event.source_offset,
            position: event.position.by_ref(),
        };
        batch.push(&record, false);
    }
    batch
}

/// Today at noon, so that all events are of one day.
fn noon() -> i64 {
    const DAY_MS: i64 = 86_400_000;
    common::events::now_ms() / DAY_MS * DAY_MS + DAY_MS / 2
}

fn events(source: &str, count: i64, change: impl Fn(i64, &mut Position)) -> Vec<Identified> {
    (0..count)
        .map(|n| {
            let mut event = common::events::event(source, n);
            event.position.timestamp = noon() + n;
            change(n, &mut event.position);
            event
        })
        .collect()
}

impl Server {
    fn insert(&self, batch: &Batch, token: &str) {
        let block = batch.block(NEVER);
        wait_for(self.store.insert(&block, token)).unwrap();
    }

    fn assert_rows(&self, source: &str, expected: &[Identified]) {
        table::assert_rows(&self.stack, source, expected);
    }
}

#[test]
fn every_column_comes_back_with_nulls_and_at_its_bounds() {
    let server = server();
    let long = "é".repeat(32);
    let texts = ["", "A", "\u{10ffff}", "null", "\\N", "'; DROP --", &long];
    let expected = events("native-bounds", 2_000, |n, p| {
        let pick = |of: &[&str], step: i64| of[((n / step) as usize) % of.len()].to_owned();
        p.flight_id = pick(&texts, 1);
        p.callsign = pick(&texts, 2);
        p.icao24 = (n % 3 > 0).then(|| pick(&texts, 3));
        p.squawk = (n % 5 > 0).then(|| pick(&texts, 5));
        p.altitude = [i32::MIN, -1, 0, 1, i32::MAX][(n % 5) as usize];
        p.longitude = [-180.0, -f64::MIN_POSITIVE, 0.0, 55.364_410_1, 180.0][(n % 5) as usize];
        p.latitude = [-90.0, 1e-300, 0.0, 25.252_77, 90.0][(n % 5) as usize];
        p.gspeed = [0.0, f32::MIN_POSITIVE, 5000.0][(n % 3) as usize];
        p.vertical_rate = (n % 2 > 0).then_some([i32::MIN, 0, i32::MAX][(n % 3) as usize]);
        p.track = (n % 7 > 0).then_some([0.0, 360.0][(n % 2) as usize]);
        p.on_ground = [None, Some(true), Some(false)][(n % 3) as usize];
    });
    server.insert(&batch(&expected), "native-bounds");
    server.assert_rows("native-bounds", &expected);
}

#[test]
fn the_first_and_the_last_day_of_the_table_come_back() {
    let server = server();
    let mut expected = events("native-days", 4, |_, _| ());
    let last = REPRESENTABLE_MS.end - 1;
    for (event, timestamp) in expected.iter_mut().zip([0, 1, last - 1, last]) {
        event.position.timestamp = timestamp;
    }
    server.insert(&batch(&expected), "native-days");
    server.assert_rows("native-days", &expected);
}

#[test]
fn dictionaries_of_every_width_come_back() {
    let server = server();
    // Of these, 256, 257 and 65,537 keys are where the indexes grow; a nullable column has one key
    // more, which is null.
    for count in [255, 256, 257, 65_535, 65_536, 65_537, 70_000] {
        let source = format!("native-width-{count}");
        let expected = events(&source, count, |n, p| {
            p.flight_id = format!("F{n}");
            p.icao24 = (n > 0).then(|| format!("{n:06x}"));
        });
        server.insert(&batch(&expected), &source);
        server.assert_rows(&source, &expected);
    }
}

#[test]
fn any_part_of_a_batch_can_be_inserted_and_the_batch_used_again() {
    let server = server();
    let expected = events("native-parts", 1_000, |_, _| ());
    let mut rows = batch(&expected);
    let chosen: Vec<usize> = (0..expected.len()).filter(|n| n % 7 == 3).collect();
    let part = rows.block_of(&chosen, NEVER);
    wait_for(server.store.insert(&part, "native-parts:some")).unwrap();
    let wanted: Vec<_> = chosen.iter().map(|n| expected[*n].clone()).collect();
    server.assert_rows("native-parts", &wanted);

    let rest: Vec<usize> = (0..expected.len()).filter(|n| n % 7 != 3).collect();
    let part = rows.block_of(&rest, NEVER);
    wait_for(server.store.insert(&part, "native-parts:rest")).unwrap();
    server.assert_rows("native-parts", &expected);

    rows.clear();
    let other = events("native-parts-2", 10, |_, _| ());
    for event in &other {
        let record = Record {
            source: &event.source,
            source_offset: event.source_offset,
            position: event.position.by_ref(),
        };
        rows.push(&record, false);
    }
    server.insert(&rows, "native-parts-2");
    server.assert_rows("native-parts-2", &other);
}

#[test]
fn a_block_without_rows_adds_none_and_a_full_one_is_one_part() {
    let server = server();
    let none = batch(&events("native-none", 3, |_, _| ()));
    let empty = none.block_of(&[], NEVER);
    wait_for(server.store.insert(&empty, "native-none")).unwrap();
    server.assert_rows("native-none", &[]);

    let count = Settings::default().batch.max_rows as i64;
    let full = batch(&events("native-full", count, |_, _| ()));
    server.insert(&full, "native-full");
    let parts = "SELECT count(), uniqExact(_part) FROM flight_data.flight_positions \
                 WHERE source = 'native-full'";
    // One block under the token: the second time adds nothing.
    let found = table::ask(&server.stack, parts).unwrap();
    assert_eq!(found, format!("{count}\t1"));
    server.insert(&full, "native-full");
    assert_eq!(table::count(&server.stack, "native-full"), count as usize);
}

#[test]
fn a_block_that_is_late_is_refused_whole() {
    let server = server();
    let rows = batch(&events("native-late", 10, |_, _| ()));
    let late = rows.block(1);
    let refused = wait_for(server.store.insert(&late, "native-late")).unwrap_err();
    assert!(
        matches!(&refused, StoreError::Refused { message, .. } if message.contains("deadline")),
        "{refused}"
    );
    server.assert_rows("native-late", &[]);
}
