//! Which events are in the tables.

use std::collections::{HashMap, HashSet};

use clickhouse::Row;
use serde::Deserialize;

use super::{Store, StoreError, TABLES};
use crate::batch::{Identity, Row as BatchRow};

/// Identities that are listed one by one in a query, where they are too far apart for a range.
const LIST_LENGTH: usize = 4096;
/// A range is asked for as such while it has at most this many offsets for each one wanted.
const RANGE_SPARSITY: i64 = 64;

#[derive(Row, Deserialize)]
struct Watermark {
    source: String,
    offset: u64,
}

impl Store {
    /// The highest offset of each source in any table. `each` is called before every query.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn watermarks(&self, each: impl Fn()) -> Result<HashMap<String, i64>, StoreError> {
        let mut highest: HashMap<String, i64> = HashMap::new();
        for table in TABLES {
            each();
            let sql = format!(
                "SELECT toString(source) AS source, max(source_offset) AS offset FROM {table} GROUP BY source"
            );
            for row in self.rows::<Watermark>("watermarks", &sql).await? {
                let offset = i64::try_from(row.offset).unwrap_or(i64::MAX);
                let known = highest.entry(row.source).or_insert(offset);
                *known = offset.max(*known);
            }
        }
        Ok(highest)
    }

    /// Those identities of `rows` that are in any of the tables. `source_name` gives the name of the source
    /// to which an identity refers; `each` is called before every query.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn present<'a>(
        &self,
        source_name: impl Fn(u32) -> &'a str,
        rows: impl Iterator<Item = BatchRow>,
        each: impl Fn(),
    ) -> Result<HashSet<Identity>, StoreError> {
        let mut by_source: HashMap<u32, Vec<(i64, i64)>> = HashMap::new();
        for row in rows {
            let (source, offset) = row.identity;
            by_source
                .entry(source)
                .or_default()
                .push((offset, row.timestamp_ms));
        }
        let mut present = HashSet::new();
        for (source, mut wanted) in by_source {
            wanted.sort_unstable();
            let name = source_name(source);
            for condition in conditions(&wanted) {
                for table in TABLES {
                    each();
                    let sql = format!(
                        "SELECT source_offset FROM {table} WHERE source = {} AND {condition}",
                        quoted(name)
                    );
                    let offsets = self.rows::<u64>("identities", &sql).await?;
                    present.extend(
                        offsets
                            .into_iter()
                            .filter_map(|o| Some((source, i64::try_from(o).ok()?))),
                    );
                }
            }
        }
        Ok(present)
    }
}

/// Conditions that together cover the wanted offsets (sorted, each with its timestamp): one range, or
/// lists. The time bounds let the server skip days and parts.
fn conditions(wanted: &[(i64, i64)]) -> Vec<String> {
    let (Some((first, _)), Some((last, _))) = (wanted.first(), wanted.last()) else {
        return Vec::new();
    };
    let dense = last.saturating_sub(*first) <= RANGE_SPARSITY.saturating_mul(wanted.len() as i64);
    if dense {
        return vec![format!(
            "source_offset BETWEEN {first} AND {last} AND {}",
            time_bounds(wanted)
        )];
    }
    let list = |chunk: &[(i64, i64)]| {
        let offsets: Vec<String> = chunk.iter().map(|(offset, _)| offset.to_string()).collect();
        format!(
            "source_offset IN ({}) AND {}",
            offsets.join(","),
            time_bounds(chunk)
        )
    };
    wanted.chunks(LIST_LENGTH).map(list).collect()
}

/// An event with one identity has one timestamp, so rows outside these times are other events.
fn time_bounds(wanted: &[(i64, i64)]) -> String {
    let earliest = wanted.iter().map(|(_, time)| *time).min().unwrap_or(0);
    let latest = wanted.iter().map(|(_, time)| *time).max().unwrap_or(0);
    format!(
        "timestamp BETWEEN fromUnixTimestamp64Milli({earliest}, 'UTC') AND fromUnixTimestamp64Milli({latest}, 'UTC') \
         AND date BETWEEN toDate(fromUnixTimestamp64Milli({earliest}, 'UTC')) AND toDate(fromUnixTimestamp64Milli({latest}, 'UTC'))"
    )
}

/// A string literal. Backslash and quote are the characters that would end or change it.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_offsets_are_one_range_and_far_ones_lists() {
        let near: Vec<_> = (0..100).map(|i| (i * 6, i)).collect();
        assert_eq!(conditions(&near).len(), 1);
        assert!(conditions(&near)[0].starts_with("source_offset BETWEEN 0 AND 594 "));
        let far: Vec<_> = (0..5000).map(|i| (i * 1_000_000, i)).collect();
        let lists = conditions(&far);
        assert_eq!(lists.len(), 2);
        assert!(lists[0].starts_with("source_offset IN (0,1000000,"));
        assert!(conditions(&[]).is_empty());
    }

    #[test]
    fn a_hostile_source_name_stays_a_string() {
        assert_eq!(quoted(r"a\' OR 1=1 --"), r"'a\\\' OR 1=1 --'");
    }
}
