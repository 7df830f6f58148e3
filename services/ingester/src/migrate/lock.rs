//! The lock under which migrations run: a table, because making one that exists fails.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::MigrateError;
use crate::store::{Store, StoreError, quoted};

const TABLE: &str = "flight_data.schema_migrations_lock";
/// ClickHouse's code for a table that exists.
const TABLE_ALREADY_EXISTS: u32 = 57;
/// The holder says that it lives this often …
const RENEW: Duration = Duration::from_secs(5);
/// … and is taken for dead after this many seconds without that.
const STALE_SECONDS: u32 = 30;
/// How long to wait for another holder.
const PATIENCE: Duration = Duration::from_secs(120);

/// The lock, until it is released. A holder that is killed loses it after [`STALE_SECONDS`].
pub struct Lock {
    store: Store,
    renewal: JoinHandle<()>,
}

impl Lock {
    /// Waits for the lock and takes it.
    pub async fn take(store: &Store) -> Result<Self, MigrateError> {
        let failed = |source| MigrateError::Store {
            name: "lock".into(),
            source,
        };
        let began = Instant::now();
        let holder = format!("{} pid {}", flight::hostname(), std::process::id());
        let sql = format!(
            "CREATE TABLE {TABLE} (x UInt8) ENGINE = MergeTree ORDER BY x COMMENT {}",
            quoted(&holder)
        );
        loop {
            match store.execute("lock", &sql).await {
                Ok(()) => break,
                Err(StoreError::Refused {
                    code: TABLE_ALREADY_EXISTS,
                    ..
                }) => {}
                Err(error) => return Err(failed(error)),
            }
            // The age is the server's own: clocks of hosts differ.
            let stale = store
                .rows::<String>(
                    "lock",
                    &format!(
                        "SELECT toString(uuid) FROM system.tables WHERE database || '.' || name = '{TABLE}' \
                         AND metadata_modification_time < now() - INTERVAL {STALE_SECONDS} SECOND"
                    ),
                )
                .await
                .map_err(failed)?;
            if !stale.is_empty() {
                tracing::warn!("the holder of the migration lock is gone; taking the lock over");
                store
                    .execute("lock", &format!("DROP TABLE IF EXISTS {TABLE} SYNC"))
                    .await
                    .map_err(failed)?;
                continue;
            }
            if began.elapsed() > PATIENCE {
                let sql = format!(
                    "SELECT comment FROM system.tables WHERE database || '.' || name = '{TABLE}'"
                );
                let holders = store.rows::<String>("lock", &sql).await.map_err(failed)?;
                return Err(MigrateError::Locked {
                    holder: holders.concat(),
                    table: TABLE,
                });
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let its_store = store.clone();
        let renewal = tokio::spawn(async move {
            for count in 1u64.. {
                tokio::time::sleep(RENEW).await;
                let comment = quoted(&format!("{holder}, renewed {count} times"));
                let sql = format!("ALTER TABLE {TABLE} MODIFY COMMENT {comment}");
                if let Err(error) = its_store.execute("lock", &sql).await {
                    tracing::warn!(%error, "cannot renew the migration lock");
                }
            }
        });
        Ok(Self {
            store: store.clone(),
            renewal,
        })
    }

    /// Gives the lock back.
    pub async fn release(self) {
        self.renewal.abort();
        if let Err(error) = self
            .store
            .execute("lock", &format!("DROP TABLE IF EXISTS {TABLE} SYNC"))
            .await
        {
            tracing::warn!(%error, "cannot give the migration lock back; it becomes stale in {STALE_SECONDS} s");
        }
    }
}
