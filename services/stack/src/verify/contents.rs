//! Compares rows with the events that the simulator regenerates from the source's name.

use std::collections::BTreeSet;

use flight::checkpoint::SourceCheckpoint;
use flight_mock::Simulator;
use serde::{Deserialize, Serialize};

use super::tables::Tables;
use super::{Contents, LISTED, VerifyError};

/// Rows asked for at once.
const GROUP: i64 = 50_000;

/// How many events of each source are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// Every one.
    All,
    /// About so many, spread evenly, the first and the last among them.
    Events(u64),
}

impl std::str::FromStr for Sample {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            number => number
                .parse()
                .map(Self::Events)
                .map_err(|_| format!("give a number or `all`, not {text}")),
        }
    }
}

/// Compares the rows of a source. `None` if it is not a simulator's.
///
/// # Errors
/// ClickHouse does not answer.
pub(super) async fn compare(
    tables: &Tables,
    checkpoint: &SourceCheckpoint,
    dead: &BTreeSet<i64>,
    sample: Sample,
) -> Result<Option<Contents>, VerifyError> {
    let Ok(simulator) = Simulator::from_source_name(&checkpoint.source) else {
        return Ok(None);
    };
    let mut contents = Contents {
        checked: 0,
        changed_count: 0,
        changed: Vec::new(),
    };
    for condition in conditions(checkpoint.origin, checkpoint.next_offset, sample) {
        for row in tables.rows(&checkpoint.source, &condition).await? {
            let offset = i64::try_from(row.source_offset).unwrap_or(i64::MAX);
            if dead.contains(&offset) {
                continue; // mended and sent again: not what the source said at first
            }
            contents.checked += 1;
            if simulator.position(offset).ok().as_ref() != Some(&row.into_position()) {
                contents.changed_count += 1;
                if contents.changed.len() < LISTED {
                    contents.changed.push(offset);
                }
            }
        }
    }
    contents.changed.sort_unstable();
    Ok(Some(contents))
}

/// Conditions on `source_offset` that together cover the sample.
fn conditions(origin: i64, next: i64, sample: Sample) -> Vec<String> {
    let ranges = |first: i64, end: i64| {
        (first..end).step_by(GROUP as usize).map(move |first| {
            format!(
                "source_offset >= {first} AND source_offset < {}",
                (first + GROUP).min(end)
            )
        })
    };
    let total = next - origin;
    match sample {
        Sample::Events(events) if i64::try_from(events).is_ok_and(|events| events < total) => {
            let events = i64::try_from(events).unwrap_or(total).max(2);
            // Even steps, and an offset of each step that is not always the same one of a tick.
            let offsets: Vec<i64> = (0..events)
                .map(|i| {
                    origin + (i128::from(i) * i128::from(total - 1) / i128::from(events - 1)) as i64
                })
                .collect();
            offsets
                .chunks(5_000)
                .map(|chunk| {
                    let list: Vec<String> = chunk.iter().map(i64::to_string).collect();
                    format!("source_offset IN ({})", list.join(","))
                })
                .collect()
        }
        _ => ranges(origin, next).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_both_ends() {
        let conditions = conditions(100, 1100, Sample::Events(3));
        assert_eq!(conditions, ["source_offset IN (100,599,1099)"]);
    }

    #[test]
    fn all_is_every_offset_once() {
        let conditions = conditions(0, GROUP + 1, Sample::All);
        assert_eq!(
            conditions,
            [
                format!("source_offset >= 0 AND source_offset < {GROUP}"),
                format!("source_offset >= {GROUP} AND source_offset < {}", GROUP + 1)
            ]
        );
        assert_eq!(super::conditions(5, 10, Sample::Events(5)).len(), 1);
        assert!(super::conditions(5, 5, Sample::All).is_empty());
    }
}
