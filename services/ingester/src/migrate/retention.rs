//! How long the table of positions keeps its rows: a TTL, by setting.

use super::MigrateError;
use crate::store::{POSITIONS, Store, StoreError};

/// Gives the table of positions the TTL of `days`, or none for 0. Says whether that was a change.
///
/// # Errors
/// [`MigrateError::Archived`] if there is to be a TTL on a table from which days are moved: it could
/// delete what was not moved yet. Else see [`StoreError`].
pub async fn retain(store: &Store, days: u16) -> Result<bool, MigrateError> {
    let failed = |source: StoreError| MigrateError::Store {
        name: "retention".into(),
        source,
    };
    if days > 0 {
        let archived = store
            .rows::<u64>(
                "archived days",
                "SELECT count() FROM flight_data.archived_days",
            )
            .await
            .map_err(failed)?;
        if archived.first().is_some_and(|days| *days > 0) {
            return Err(MigrateError::Archived { days });
        }
    }
    let engine = store
        .rows::<String>(
            "retention",
            &format!(
                "SELECT engine_full FROM system.tables WHERE database || '.' || name = '{POSITIONS}'"
            ),
        )
        .await
        .map_err(failed)?
        .concat();
    let statements = match (days, engine.contains(" TTL ")) {
        (0, false) => return Ok(false),
        (0, true) => vec![format!("ALTER TABLE {POSITIONS} REMOVE TTL")],
        // As the server writes it.
        _ if engine.contains(&format!(" TTL date + toIntervalDay({days}) ")) => return Ok(false),
        _ => vec![
            // A part is of one day: it goes as a whole, and nothing is rewritten.
            format!(
                "ALTER TABLE {POSITIONS} MODIFY SETTING ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1"
            ),
            format!("ALTER TABLE {POSITIONS} MODIFY TTL date + INTERVAL {days} DAY"),
        ],
    };
    for statement in statements {
        store
            .execute("retention", &statement)
            .await
            .map_err(failed)?;
    }
    tracing::info!(days, "retention of flight_positions");
    Ok(true)
}
