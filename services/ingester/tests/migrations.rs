//! Bringing the tables up to date, on a server of its own: the cases follow one another, as they all
//! work on the one database.

#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::ingester::program;
use common::{eventually, stack, table, wait_for};
use contrail::{Component, Stack};
use flight::config::Secret;
use flight_ingester::migrate::{MIGRATIONS, MigrateError, Migration, migrate, retain};
use flight_ingester::settings::Settings;
use flight_ingester::store::Store;
use tempfile::TempDir;

struct Database {
    stack: Arc<Stack>,
    settings: Settings,
    /// Where the processes' settings lie, one directory each.
    directories: RefCell<Vec<TempDir>>,
}

impl Database {
    fn new() -> Self {
        let stack = stack::clickhouse_only();
        let mut settings = Settings::default();
        settings.clickhouse.url = stack.url(Component::Clickhouse);
        settings.clickhouse.password =
            Secret::new(stack.context().settings.clickhouse.password.clone());
        Self {
            stack,
            settings,
            directories: RefCell::default(),
        }
    }

    fn ask(&self, sql: &str) -> String {
        table::ask(&self.stack, sql).unwrap()
    }

    /// Begins again with nothing.
    fn clear(&self) {
        self.ask("DROP DATABASE IF EXISTS flight_data SYNC");
    }

    /// `flight-ingester migrate`, under way.
    fn start(&self) -> std::process::Child {
        let directory = tempfile::tempdir().unwrap();
        let child = program(&self.settings, &directory)
            .arg("migrate")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        self.directories.borrow_mut().push(directory);
        child
    }

    fn run(&self) -> Output {
        self.start().wait_with_output().unwrap()
    }

    fn migrate(&self, migrations: &[Migration]) -> Result<Vec<&'static str>, MigrateError> {
        wait_for(migrate(
            &Store::new(&self.settings.clickhouse).unwrap(),
            migrations,
        ))
    }

    fn ledger(&self) -> String {
        self.ask("SELECT name FROM flight_data.schema_migrations ORDER BY name")
    }

    fn tables(&self) -> String {
        self.ask("SELECT name FROM system.tables WHERE database = 'flight_data' ORDER BY name")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn migrations_run_once_and_in_order_and_nothing_else_does() {
    let database = Database::new();
    twice(&database);
    side_by_side(&database);
    changed(&database);
    unknown(&database);
    killed_in_the_middle(&database);
    locked(&database);
    late(&database);
    retention(&database);
    moved(&database);
}

fn twice(database: &Database) {
    database.clear();
    for applied in [MIGRATIONS.len(), 0] {
        let output = database.run();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let expected = format!("applied {applied} of {} migrations", MIGRATIONS.len());
        assert!(
            text(&output.stdout).contains(&expected),
            "{}",
            text(&output.stdout)
        );
    }
    let names: Vec<_> = MIGRATIONS.iter().map(|migration| migration.name).collect();
    assert_eq!(database.ledger(), names.join("\n"));
    assert!(
        !database.tables().contains("lock"),
        "the lock is given back"
    );
}

fn side_by_side(database: &Database) {
    database.clear();
    let children: Vec<_> = (0..4).map(|_| database.start()).collect();
    let mut applied = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let none = format!("applied 0 of {}", MIGRATIONS.len());
        applied += usize::from(!text(&output.stdout).contains(&none));
    }
    assert_eq!(applied, 1, "one of them did it");
    let rows = database.ask("SELECT count() FROM flight_data.schema_migrations");
    assert_eq!(rows, MIGRATIONS.len().to_string());
}

fn changed(database: &Database) {
    database.clear();
    let name = MIGRATIONS[0].name;
    let before = Migration {
        name,
        sql: "CREATE TABLE IF NOT EXISTS flight_data.before (x Int32) ENGINE = MergeTree ORDER BY x;",
    };
    assert_eq!(database.migrate(&[before]).unwrap(), [name]);
    let tables = database.tables();
    let output = database.run();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains(&format!("migration {name} has changed since it ran"))
            && message.contains(&before.checksum()),
        "{message}"
    );
    assert_eq!(database.tables(), tables, "nothing was applied");
}

fn unknown(database: &Database) {
    database.clear();
    assert!(database.run().status.success());
    let newer = Migration {
        name: "9999_from_the_future",
        sql: "CREATE TABLE flight_data.future (x Int32) ENGINE = MergeTree ORDER BY x;",
    };
    let all = [MIGRATIONS, &[newer]].concat();
    assert_eq!(database.migrate(&all).unwrap(), [newer.name]);
    let output = database.run();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains("9999_from_the_future has run and is unknown"),
        "{message}"
    );
}

/// A migration fails after its first statement. What it did stays, it is not recorded, and the next
/// run does it again.
fn killed_in_the_middle(database: &Database) {
    database.clear();
    let create =
        "CREATE TABLE IF NOT EXISTS flight_data.half (x Int32) ENGINE = MergeTree ORDER BY x;\n";
    let name = MIGRATIONS[0].name;
    let failing = Migration {
        name,
        sql: "CREATE TABLE IF NOT EXISTS flight_data.half (x Int32) ENGINE = MergeTree ORDER BY x;\nSELECT nonsense;",
    };
    let error = database.migrate(&[failing]).unwrap_err().to_string();
    assert!(
        error.contains(name) && error.contains("nonsense"),
        "{error}"
    );
    assert_eq!(database.ledger(), "");
    assert!(
        !database.tables().contains("lock"),
        "the lock is given back"
    );
    assert_eq!(
        database
            .migrate(&[Migration { name, sql: create }])
            .unwrap(),
        [name]
    );
}

/// Somebody else holds the lock: it is waited for. (One whose holder gives no sign of life is taken
/// over after 30 s, which is too long to wait for here.)
fn locked(database: &Database) {
    const LOCK: &str = "flight_data.schema_migrations_lock";
    database.clear();
    database.ask("CREATE DATABASE flight_data");
    database.ask(&format!(
        "CREATE TABLE {LOCK} (x UInt8) ENGINE = MergeTree ORDER BY x COMMENT 'somebody else'"
    ));
    let child = database.start();
    // It has looked for what is to be done: the ledger is there. Now it asks for the lock.
    eventually("the ledger is made", Duration::from_secs(10), || {
        database.tables().contains("schema_migrations\n")
    });
    std::thread::sleep(Duration::from_millis(700));
    assert!(
        !database.tables().contains("flight_positions"),
        "{}",
        database.tables()
    );
    database.ask(&format!("DROP TABLE {LOCK} SYNC"));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(database.tables().contains("flight_positions"));
}

/// The table itself refuses an insert that was held up for longer than its deadline: its token may
/// have been forgotten by then.
fn late(database: &Database) {
    const TABLE: &str = "flight_data.flight_positions";
    database.clear();
    assert!(database.run().status.success());
    let insert = |columns: &str, values: &str| {
        let sql = format!(
            "INSERT INTO {TABLE} ({columns}source, source_offset, flight_id, timestamp) \
             VALUES ({values}'late', 1, 'f', now64(3))"
        );
        table::ask(&database.stack, &sql)
    };
    let refused = insert("insert_deadline, ", "now() - 1, ").unwrap_err();
    assert!(refused.contains("older than its deadline"), "{refused}");
    assert_eq!(table::count(&database.stack, "late"), 0);
    insert("insert_deadline, ", "now() + 60, ").unwrap();
    insert("", "").unwrap();
    assert_eq!(table::count(&database.stack, "late"), 2);
}

/// A TTL is a setting: it is put on, changed and taken off, deletes what is too old and nothing else, and
/// is refused where days are moved away.
fn retention(database: &Database) {
    const TABLE: &str = "flight_data.flight_positions";
    database.clear();
    let store = Store::new(&database.settings.clickhouse).unwrap();
    database.migrate(MIGRATIONS).unwrap();
    let ttl = || {
        let sql = format!(
            "SELECT extract(engine_full, 'TTL date . toIntervalDay.([0-9]+)') FROM system.tables \
             WHERE database || '.' || name = '{TABLE}'"
        );
        database.ask(&sql)
    };
    for (days, changes) in [(0, false), (30, true), (30, false), (20, true)] {
        assert_eq!(wait_for(retain(&store, days)).unwrap(), changes, "{days}");
        assert_eq!(
            ttl(),
            if days == 0 {
                String::new()
            } else {
                days.to_string()
            }
        );
    }
    database.ask(&format!(
        "INSERT INTO {TABLE} (source, source_offset, flight_id, timestamp) \
         SELECT 'old', number, 'f', now64(3) - INTERVAL number * 10 DAY FROM numbers(5)"
    ));
    eventually(
        "rows of 20 days and more are deleted",
        Duration::from_secs(30),
        || {
            database.ask(&format!("OPTIMIZE TABLE {TABLE} FINAL"));
            database.ask(&format!("SELECT groupArray(source_offset) FROM {TABLE}")) == "[0,1]"
        },
    );
    assert!(wait_for(retain(&store, 0)).unwrap());
    assert_eq!(ttl(), "");
    database
        .ask("INSERT INTO flight_data.archived_days (date, state) VALUES (today() - 9, 'copied')");
    let refused = wait_for(retain(&store, 30)).unwrap_err().to_string();
    assert!(
        refused.contains("positions_retention_days is 30"),
        "{refused}"
    );
    assert_eq!(
        (wait_for(retain(&store, 0)).unwrap(), ttl()),
        (false, String::new())
    );
}

/// The view over both tables shows every row once, at each step of a day's way from the one to the other.
fn moved(database: &Database) {
    const COLUMNS: &str = "source, source_offset, flight_id, callsign, timestamp, altitude";
    database.clear();
    database.migrate(MIGRATIONS).unwrap();
    let insert = |offsets: &str| {
        database.ask(&format!(
            "INSERT INTO flight_data.flight_positions ({COLUMNS}) \
             SELECT 'm', number, 'f', 'C', toDateTime64('2026-03-01 10:00:00', 3, 'UTC') + number * 3600, number FROM {offsets}"
        ));
    };
    let whole = |rows: u64| {
        for sql in [
            "SELECT count(), uniqExact(source_offset) FROM flight_data.flight_positions_all",
            "SELECT sum(positions), sum(positions) FROM flight_data.flight_positions_by_hour",
        ] {
            assert_eq!(database.ask(sql), format!("{rows}\t{rows}"), "{sql}");
        }
    };
    let step = |state: &str| {
        database.ask(&format!(
            "INSERT INTO flight_data.archived_days (date, state) VALUES ('2026-03-01', '{state}')"
        ));
    };
    // 14 rows of the first of March and 6 of the second.
    insert("numbers(20)");
    whole(20);
    database.ask(&format!(
        "INSERT INTO flight_data.flight_positions_monthly ({COLUMNS}) \
         SELECT {COLUMNS} FROM flight_data.flight_positions WHERE date = '2026-03-01'"
    ));
    whole(20);
    step("copied");
    whole(20);
    step("switched");
    whole(20);
    database.ask("ALTER TABLE flight_data.flight_positions DROP PARTITION '2026-03-01'");
    whole(20);
    step("dropped");
    whole(20);
    // A late event of that day.
    database.ask(&format!(
        "INSERT INTO flight_data.flight_positions ({COLUMNS}) \
         VALUES ('m', 99, 'f', 'C', '2026-03-01 23:30:00', 1)"
    ));
    whole(21);
}
