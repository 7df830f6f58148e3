//! Brings the tables up to date: runs the files of sql/migrations that have not run yet, in their
//! order, under a lock, and records each with its checksum.
//!
//! A migration must be harmless when it is run again: one that is killed in the middle is.

mod lock;
mod retention;
mod statements;

pub use retention::retain;

use clickhouse::Row;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::store::{DATABASE, Store, StoreError, quoted};
use lock::Lock;

/// Table of the migrations that have run.
const LEDGER: &str = "flight_data.schema_migrations";

/// The first long-term release in which the order of geoToH3's arguments can be chosen
/// (`geotoh3_argument_order`); it has all else that the tables use.
const OLDEST_SERVER: (u32, u32) = (25, 8);

/// One file of sql/migrations.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// File name without `.sql`: a number of four digits and a name.
    pub name: &'static str,
    /// The file's text.
    pub sql: &'static str,
}

macro_rules! migrations {
    ($($name:literal),* $(,)?) => {
        &[$(Migration { name: $name, sql: include_str!(concat!("../../../../sql/migrations/", $name, ".sql")) }),*]
    };
}

/// All migrations, in their order.
pub const MIGRATIONS: &[Migration] = migrations![
    "0001_flight_positions",
    "0002_flight_positions_monthly",
    "0003_airports",
    "0004_popular_cells",
    "0005_gap_checks",
    "0006_airflow",
    "0007_larger_merges",
    "0008_cells_of_granules",
];

impl Migration {
    /// SHA-256 of the text, in hexadecimal.
    pub fn checksum(&self) -> String {
        Sha256::digest(self.sql.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// The tables cannot be brought up to date.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// See [`StoreError`].
    #[error("migration {name}: {source}")]
    Store {
        /// What was being run.
        name: String,
        /// What ClickHouse says.
        source: StoreError,
    },
    /// A migration that has run reads differently now.
    #[error(
        "migration {name} has changed since it ran: its checksum was {recorded} and is {found}; \
         put its text back and write a new migration for what is to change, or, if nothing in these tables is to be kept, \
         begin anew (`contrail reset`)"
    )]
    Changed {
        /// Name of the migration.
        name: String,
        /// Checksum of the text that ran.
        recorded: String,
        /// Checksum of the text there is.
        found: String,
    },
    /// The tables are newer than this program.
    #[error(
        "migration {name} has run and is unknown to this version: run the version that knows it, or a newer one"
    )]
    Unknown {
        /// Name of the migration.
        name: String,
    },
    /// The server lacks what the tables and questions rest upon.
    #[error(
        "ClickHouse at {url} is version {found}: {}.{} or newer is needed",
        OLDEST_SERVER.0, OLDEST_SERVER.1
    )]
    ServerTooOld {
        /// The server.
        url: String,
        /// Its version.
        found: String,
    },
    /// A TTL would race what moves days away.
    #[error(
        "positions_retention_days is {days}, but days of flight_positions are moved to the monthly table \
         (flight_data.archived_days has entries): a TTL could delete what was not moved yet; set it to 0"
    )]
    Archived {
        /// The setting.
        days: u16,
    },
    /// Somebody else migrates for too long.
    #[error(
        "another process holds the migration lock: {holder}; wait for it, or drop table {table} if it is gone"
    )]
    Locked {
        /// Who.
        holder: String,
        /// The lock.
        table: &'static str,
    },
}

#[derive(Row, Deserialize)]
struct Recorded {
    name: String,
    checksum: String,
}

/// Runs the migrations that have not run yet, and returns their names.
///
/// # Errors
/// See [`MigrateError`]. What has run stays recorded.
pub async fn migrate(
    store: &Store,
    migrations: &[Migration],
) -> Result<Vec<&'static str>, MigrateError> {
    let prepare = |source| MigrateError::Store {
        name: "preparation".into(),
        source,
    };
    check_server(store).await?;
    // What is there is not made again: that alone takes a right which a user of tables that are up to
    // date need not have.
    for (there, action, statement) in [
        (
            format!("SELECT count() FROM system.databases WHERE name = '{DATABASE}'"),
            "create database",
            format!("CREATE DATABASE IF NOT EXISTS {DATABASE}"),
        ),
        (
            format!("SELECT count() FROM system.tables WHERE database || '.' || name = '{LEDGER}'"),
            "create ledger",
            ledger_sql(),
        ),
    ] {
        let count = store.rows::<u64>(action, &there).await.map_err(prepare)?;
        if count != [1] {
            store.execute(action, &statement).await.map_err(prepare)?;
        }
    }
    if pending(store, migrations).await?.is_empty() {
        return Ok(Vec::new());
    }
    let lock = Lock::take(store).await?;
    let done = run_pending(store, migrations).await;
    lock.release().await;
    done
}

/// Asks the server for its version.
///
/// # Errors
/// It is too old, or does not answer.
pub async fn check_server(store: &Store) -> Result<(), MigrateError> {
    let versions = store
        .rows::<String>("version", "SELECT version()")
        .await
        .map_err(|source| MigrateError::Store {
            name: "version".into(),
            source,
        })?;
    let found = versions.concat();
    match version(&found) {
        Some(version) if version < OLDEST_SERVER => Err(MigrateError::ServerTooOld {
            url: store.url().to_owned(),
            found,
        }),
        _ => Ok(()),
    }
}

/// Year and month in `25.8.1.5101`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn ledger_sql() -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {LEDGER} (name String, checksum String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) \
         ENGINE = MergeTree ORDER BY name"
    )
}

async fn run_pending(
    store: &Store,
    migrations: &[Migration],
) -> Result<Vec<&'static str>, MigrateError> {
    let mut done = Vec::new();
    // Asked again under the lock: another process may have run them meanwhile.
    for migration in pending(store, migrations).await? {
        let failed = |source| MigrateError::Store {
            name: migration.name.to_owned(),
            source,
        };
        for statement in statements::split(migration.sql) {
            store
                .execute("statement", &statement)
                .await
                .map_err(failed)?;
        }
        let record = format!(
            "INSERT INTO {LEDGER} (name, checksum) VALUES ({}, {})",
            quoted(migration.name),
            quoted(&migration.checksum())
        );
        store.execute("record", &record).await.map_err(failed)?;
        tracing::info!(migration = migration.name, "applied");
        done.push(migration.name);
    }
    Ok(done)
}

/// Compares what has run with what there is.
async fn pending(store: &Store, migrations: &[Migration]) -> Result<Vec<Migration>, MigrateError> {
    let sql = format!("SELECT DISTINCT name, checksum FROM {LEDGER} ORDER BY name");
    let recorded = store
        .rows::<Recorded>("ledger", &sql)
        .await
        .map_err(|source| MigrateError::Store {
            name: "ledger".into(),
            source,
        })?;
    let mut pending = migrations.to_vec();
    for Recorded { name, checksum } in recorded {
        let Some(index) = pending.iter().position(|migration| migration.name == name) else {
            return Err(MigrateError::Unknown { name });
        };
        let found = pending.remove(index).checksum();
        if found != checksum {
            return Err(MigrateError::Changed {
                name,
                recorded: checksum,
                found,
            });
        }
    }
    Ok(pending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("26.7.2.1"), Some((26, 7)));
        assert!(version("25.10.1.1").unwrap() > OLDEST_SERVER);
        assert!(version("24.12.1.1").unwrap() < OLDEST_SERVER);
        assert_eq!(version("head"), None);
    }

    #[test]
    fn every_file_is_known_and_in_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sql/migrations");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let known: Vec<String> = MIGRATIONS
            .iter()
            .map(|m| format!("{}.sql", m.name))
            .collect();
        assert_eq!(files, known);
    }
}
