//! What earlier checks have found out, in ClickHouse: it is lost with the rows, and only with them.
//!
//! An entry is one insert at the end of a check: a check that is killed leaves nothing. Of two checks at
//! the same time each is right, and the later insert holds.

use clickhouse::Row;
use flight::offsets::{Offsets, append};
use serde::Deserialize;

use crate::verify::VerifyError;
use crate::verify::tables::{Tables, quoted};

/// The table, made by the ingester's migrations.
const LEDGER: &str = "flight_data.gap_checks";

/// What became of ranges that were missing, made by the same.
const REPAIRS: &str = "flight_data.repairs";

/// What is known of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) begin: i64,
    /// Every offset from `begin` to below this one was looked for.
    pub(super) checked_below: i64,
    /// Those that were not found.
    pub(super) missing: Vec<Offsets>,
}

#[derive(Row, Deserialize)]
struct Recorded {
    begin: i64,
    checked_below: i64,
    missing: Vec<(i64, i64)>,
}

/// The last entry of a source.
pub(super) async fn last(tables: &Tables, source: &str) -> Result<Option<Entry>, VerifyError> {
    let sql = format!(
        "SELECT toInt64(begin) AS begin, toInt64(checked_below) AS checked_below, \
         arrayMap(range -> (toInt64(range.1), toInt64(range.2)), missing) AS missing \
         FROM {LEDGER} WHERE source = {} ORDER BY checked_at DESC LIMIT 1",
        quoted(source)
    );
    let rows = tables
        .ask::<Recorded>(
            "earlier checks (`flight-ingester migrate` makes their table)",
            &sql,
        )
        .await?;
    let entry = |row: Recorded| Entry {
        begin: row.begin,
        checked_below: row.checked_below,
        missing: row
            .missing
            .into_iter()
            .map(|(first, last)| Offsets { first, last })
            .collect(),
    };
    Ok(rows.into_iter().next().map(entry))
}

/// What `repair_gaps` of Airflow has written down as lost, in order and apart from each other.
pub(super) async fn lost(tables: &Tables, source: &str) -> Result<Vec<Offsets>, VerifyError> {
    let sql = format!(
        "SELECT toInt64(first), toInt64(last) FROM {REPAIRS} FINAL \
         WHERE source = {} AND state = 'lost' ORDER BY first, last",
        quoted(source)
    );
    let mut lost: Vec<Offsets> = Vec::new();
    for (first, last) in tables.ask::<(i64, i64)>("what is lost", &sql).await? {
        append(&mut lost, Offsets { first, last });
    }
    Ok(lost)
}

/// Remembers an entry. Where that cannot be, the next check reads more: no reason to keep from anyone what
/// was found.
pub(super) async fn record(tables: &Tables, source: &str, entry: &Entry) {
    let missing: Vec<String> = entry
        .missing
        .iter()
        .map(|range| format!("({},{})", range.first, range.last))
        .collect();
    let sql = format!(
        "INSERT INTO {LEDGER} (source, begin, checked_below, missing) VALUES ({}, {}, {}, [{}])",
        quoted(source),
        entry.begin,
        entry.checked_below,
        missing.join(",")
    );
    if let Err(error) = tables.execute("a record of this check", &sql).await {
        eprintln!("contrail: the next check begins where this one did: {error}");
    }
}
