//! `contrail gaps`: which events of a source are missing, below what must be there by now.
//!
//! Every offset from where a source began to where its checkpoint stands must be in the tables or among
//! the dead letters, unless it is on its way through Kafka still, or the checkpoint says that the producer
//! passed it over in an outage and is sending it beside live events. What was looked for and found is not
//! looked for again: rows are added and moved, and never taken away. So a check reads what is new since
//! the last one and what was missing then, see `ledger.rs`.

mod ledger;
mod ranges;
mod underway;

use std::collections::BTreeSet;
use std::time::Duration;

use flight::calendar::format_instant_ms;
use flight::checkpoint::SourceCheckpoint;
use flight::offsets::{Offsets, count};
use serde::Serialize;

use crate::verify::kafka::Cluster;
use crate::verify::ranges::{common, less, without};
use crate::verify::tables::{ROWS, Tables, quoted};
use crate::verify::{VerifyError, VerifySettings, settled};
use ledger::Entry;
use underway::Underway;

/// Gaps that one report lists, the lowest offsets first; the counts are always whole.
const LISTED: usize = 10_000;
/// Missing ranges of a source that are remembered. Where there are more, what is above them counts as not
/// checked.
const REMEMBERED: usize = 100_000;
/// Before what seems to be missing is asked for again: while a day is moved to the monthly table, one
/// question may see it in neither place.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// How to check.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Look for everything, whatever earlier checks have found.
    pub full: bool,
    /// Leave out what is known to be lost: the source itself has it no more.
    pub skip_lost: bool,
    /// Do not look in Kafka for what is missing: [`Gap::place`] is not known then.
    pub quick: bool,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct GapReport {
    /// Each source that has a checkpoint.
    pub sources: Vec<SourceCheck>,
    /// What is missing: the lowest offsets of each source, ten thousand ranges at most.
    pub gaps: Vec<Gap>,
    /// Missing events, listed or not.
    pub missing: u64,
    /// Events that are not there and that the producer is about to send.
    pub pending: u64,
    /// Dead letters of which it is not known which event they are.
    #[serde(skip)]
    pub(crate) letters_without_identity: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// How far a source was checked.
#[derive(Debug, Clone, Serialize)]
pub struct SourceCheck {
    /// Name of the source.
    pub source: String,
    /// The first offset that was ever sent.
    pub begin: i64,
    /// Every offset from `begin` to below this one is in the tables, among the dead letters, on its way,
    /// pending, or in a gap.
    pub checked_below: i64,
    /// Missing events.
    pub missing: u64,
    /// Events that the producer passed over in an outage and that are not there yet.
    pub pending: u64,
    /// Dead letters.
    #[serde(skip)]
    pub(crate) dead_letters: usize,
}

/// Consecutive events that are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Name of the source.
    pub source: String,
    /// First offset.
    pub first: i64,
    /// Last offset.
    pub last: i64,
    /// Number of events.
    pub count: u64,
    /// Time of the event before the gap, where that is in the tables.
    pub from: Option<String>,
    /// Time of the event behind the gap, where that is in the tables.
    pub to: Option<String>,
    /// Where it is missing, if that was looked for.
    #[serde(rename = "where")]
    pub place: Option<Where>,
}

/// Where events are missing first on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Where {
    /// In Kafka, and so in ClickHouse.
    Kafka,
    /// In ClickHouse only.
    Clickhouse,
}

impl Where {
    /// The name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Clickhouse => "clickhouse",
        }
    }
}

/// What is missing of one source.
struct Missing {
    source: String,
    ranges: Vec<Offsets>,
}

/// Checks all sources, and remembers what was found.
///
/// # Errors
/// See [`VerifyError`]. Then nothing is remembered.
pub async fn check(settings: &VerifySettings, options: Options) -> Result<GapReport, VerifyError> {
    let began = std::time::Instant::now();
    let (cluster, checkpoints, lags) = settled(settings).await?;
    let underway = underway::look(&cluster, settings, &lags).await?;
    let letters = cluster
        .clone()
        .blocking(|cluster| cluster.dead_letters())
        .await?;
    let tables = Tables::new(settings)?;
    let empty = BTreeSet::new();
    let (mut sources, mut missing) = (Vec::new(), Vec::new());
    for checkpoint in &checkpoints {
        let dead = letters.by_source.get(&checkpoint.source).unwrap_or(&empty);
        let Checked {
            entry,
            mut gaps,
            pending,
        } = check_source(&tables, checkpoint, dead, &underway, options).await?;
        if options.skip_lost && !gaps.is_empty() {
            let lost = ledger::lost(&tables, &checkpoint.source).await?;
            gaps = less(&gaps, &lost);
        }
        sources.push(SourceCheck {
            source: checkpoint.source.clone(),
            begin: entry.begin,
            checked_below: entry.checked_below,
            missing: count(&gaps),
            pending: count(&pending),
            dead_letters: dead.len(),
        });
        missing.push(Missing {
            source: checkpoint.source.clone(),
            ranges: gaps,
        });
    }
    let gaps = describe(&tables, &cluster, settings, &missing, options).await?;
    Ok(GapReport {
        missing: sources.iter().map(|source| source.missing).sum(),
        pending: sources.iter().map(|source| source.pending).sum(),
        letters_without_identity: letters.without_identity,
        sources,
        gaps,
        seconds: (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
    })
}

/// What was found of one source.
struct Checked {
    /// What is remembered: among what is missing is what is on its way or pending.
    entry: Entry,
    gaps: Vec<Offsets>,
    pending: Vec<Offsets>,
}

/// Checks one source.
async fn check_source(
    tables: &Tables,
    checkpoint: &SourceCheckpoint,
    dead: &BTreeSet<i64>,
    underway: &Underway,
    options: Options,
) -> Result<Checked, VerifyError> {
    let source = &checkpoint.source;
    let (begin, next) = (checkpoint.origin, checkpoint.next_offset);
    let last = match options.full {
        true => None,
        false => ledger::last(tables, source).await?,
    };
    // A source that began elsewhere, or was set back, is another story.
    let last = last.filter(|entry| entry.begin == begin && entry.checked_below <= next);
    let (from, open) = match &last {
        Some(entry) => (entry.checked_below, entry.missing.clone()),
        None => (begin, Vec::new()),
    };
    let until = underway.watermark(source, next).max(from);
    let mut wanted = open;
    if until > from {
        wanted.push(Offsets {
            first: from,
            last: until - 1,
        });
    }
    let mut holes = without(&look(tables, source, &wanted).await?, dead);
    // What the producer passed over in an outage and has not sent yet.
    let passed_over = &checkpoint.holes;
    if !less(&holes, passed_over).is_empty() {
        tokio::time::sleep(SECOND_LOOK).await;
        holes = without(&look(tables, source, &holes).await?, dead);
    }
    let mut entry = Entry {
        begin,
        checked_below: until,
        missing: holes,
    };
    if entry.missing.len() > REMEMBERED {
        entry.checked_below = entry.missing[REMEMBERED].first;
        entry.missing.truncate(REMEMBERED);
    }
    if last.as_ref() != Some(&entry) {
        ledger::record(tables, source, &entry).await;
    }
    let absent = match underway.resent(source) {
        Some(resent) => without(&entry.missing, resent),
        None => entry.missing.clone(),
    };
    Ok(Checked {
        gaps: less(&absent, passed_over),
        pending: common(&absent, passed_over),
        entry,
    })
}

/// Which offsets of some ranges are in no row. The ranges are in their order.
async fn look(
    tables: &Tables,
    source: &str,
    wanted: &[Offsets],
) -> Result<Vec<Offsets>, VerifyError> {
    let mut holes = Vec::new();
    // Neighbours are asked for together: one question a range would be many for many small ones.
    for group in ranges::groups(wanted) {
        let (first, end) = (group[0].first, group[group.len() - 1].last + 1);
        let found = tables.holes(source, first, end).await?;
        holes.extend(common(&found, group));
    }
    Ok(holes)
}

/// Tells of each missing range when and where; those beyond [`LISTED`] are left out.
async fn describe(
    tables: &Tables,
    cluster: &Cluster,
    settings: &VerifySettings,
    missing: &[Missing],
    options: Options,
) -> Result<Vec<Gap>, VerifyError> {
    let mut gaps = Vec::new();
    for Missing { source, ranges } in missing {
        let ranges = &ranges[..ranges.len().min(LISTED - gaps.len().min(LISTED))];
        if ranges.is_empty() {
            continue;
        }
        let times = times_beside(tables, source, ranges).await?;
        let in_kafka = match options.quick {
            true => None,
            false => {
                // Nothing is in Kafka before its time, but for clocks that disagree.
                let since_ms = times.iter().map(|(from, _)| *from).min().flatten();
                Some(underway::in_kafka(cluster, settings, source, ranges, since_ms).await?)
            }
        };
        for (range, (from, to)) in ranges.iter().zip(times) {
            let pieces = match &in_kafka {
                Some(in_kafka) => pieces(*range, in_kafka),
                None => vec![(*range, None)],
            };
            for (piece, place) in pieces {
                gaps.push(Gap {
                    source: source.clone(),
                    first: piece.first,
                    last: piece.last,
                    count: piece.count(),
                    from: from.map(format_instant_ms),
                    to: to.map(format_instant_ms),
                    place,
                });
            }
        }
    }
    gaps.truncate(LISTED);
    Ok(gaps)
}

/// A missing range, cut where it changes whether Kafka has the events.
fn pieces(range: Offsets, in_kafka: &BTreeSet<i64>) -> Vec<(Offsets, Option<Where>)> {
    let absent = without(&[range], in_kafka);
    let mut pieces = Vec::new();
    let mut due = range.first;
    let present = |first: i64, last: i64, pieces: &mut Vec<(Offsets, Option<Where>)>| {
        if first <= last {
            pieces.push((Offsets { first, last }, Some(Where::Clickhouse)));
        }
    };
    for piece in absent {
        present(due, piece.first - 1, &mut pieces);
        due = piece.last + 1;
        pieces.push((piece, Some(Where::Kafka)));
    }
    present(due, range.last, &mut pieces);
    pieces
}

/// Of each range, the times of the events just before and just behind it, in milliseconds UTC.
async fn times_beside(
    tables: &Tables,
    source: &str,
    ranges: &[Offsets],
) -> Result<Vec<(Option<i64>, Option<i64>)>, VerifyError> {
    let mut times = std::collections::HashMap::new();
    for chunk in ranges.chunks(2_000) {
        let beside: Vec<String> = chunk
            .iter()
            .flat_map(|range| [range.first - 1, range.last + 1])
            .filter(|offset| *offset >= 0)
            .map(|offset| offset.to_string())
            .collect();
        let sql = format!(
            "SELECT toInt64(source_offset), toUnixTimestamp64Milli(timestamp) FROM {ROWS} \
             WHERE source = {} AND source_offset IN ({})",
            quoted(source),
            beside.join(",")
        );
        times.extend(tables.ask::<(i64, i64)>("times beside gaps", &sql).await?);
    }
    Ok(ranges
        .iter()
        .map(|range| {
            let at = |offset| times.get(&offset).copied();
            (at(range.first - 1), at(range.last + 1))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_cut_by_what_kafka_has() {
        let range = Offsets { first: 5, last: 12 };
        let cut = |in_kafka: &[i64]| -> Vec<(i64, i64, &str)> {
            pieces(range, &in_kafka.iter().copied().collect())
                .into_iter()
                .map(|(piece, place)| (piece.first, piece.last, place.map_or("", Where::name)))
                .collect()
        };
        assert_eq!(cut(&[]), [(5, 12, "kafka")]);
        assert_eq!(
            cut(&[5, 6, 9]),
            [
                (5, 6, "clickhouse"),
                (7, 8, "kafka"),
                (9, 9, "clickhouse"),
                (10, 12, "kafka")
            ]
        );
        assert_eq!(cut(&[12]), [(5, 11, "kafka"), (12, 12, "clickhouse")]);
        let all: Vec<i64> = (5..=12).collect();
        assert_eq!(cut(&all), [(5, 12, "clickhouse")]);
    }
}
