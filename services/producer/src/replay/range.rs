//! What may be sent again: events that the source can still give and that were sent before.

use flight::calendar::{format_instant_ms, parse_instant};
use flight::offsets::{Offsets, append};
use serde::Deserialize;
use thiserror::Error;

use super::{Range, ReplayError, times};
use crate::checkpoints::{self, Until};
use crate::service::Context;

/// Ranges of offsets that one replay may have.
pub const MOST_PIECES: usize = 20_000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The source that it has to be. Without it, the one that the producer reads.
    pub source: Option<String>,
    /// Its events.
    pub events: Events,
}

/// Events of a source: both ends are included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Events {
    /// By offsets: ranges in their order, apart from each other.
    Offsets(Vec<Offsets>),
    /// By the times at which the source placed the events.
    Times {
        /// Not before, in milliseconds UTC.
        from_ms: i64,
        /// Not after, in milliseconds UTC.
        to_ms: i64,
    },
}

/// The same, as it is written: both offsets, many of them, or both times.
#[derive(Debug, Clone, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Send nothing unless this is the name of the source.
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Many ranges, each by its first and its last offset; only by HTTP.
    #[arg(skip)]
    pub ranges: Option<Vec<(i64, i64)>>,
    /// First offset.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub first: Option<i64>,
    /// Last offset, included.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub last: Option<i64>,
    /// Events that the source placed at or after this instant, for instance 2026-11-26T10:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Events that the source placed at or before this instant.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
}

/// What is asked for cannot be sent. Nothing was.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Neither the one nor the other.
    #[error(
        "give first and last (offsets), or from and to (instants), or by HTTP ranges, and not two of these"
    )]
    Shape,
    /// More ranges than one replay may have, or none.
    #[error("{0} ranges: give 1 to {MOST_PIECES}, and ask for the others afterwards")]
    Count(usize),
    /// The producer reads another source.
    #[error("source {wanted} is not there any more: the producer reads {name}")]
    AnotherSource {
        /// What was asked for.
        wanted: String,
        /// What there is.
        name: String,
    },
    /// Not an instant.
    #[error("{name}: {why}")]
    Instant {
        /// `from` or `to`.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The range has no events.
    #[error("the range is reversed: {first} is after {last}")]
    Reversed {
        /// Its beginning.
        first: String,
        /// Its end.
        last: String,
    },
    /// The source cannot give it.
    #[error(
        "{what} is before the beginning of source {name}: the first event that it can give is {origin}"
    )]
    BeforeBeginning {
        /// What was asked for.
        what: String,
        /// Name of the source.
        name: String,
        /// The first that it can give.
        origin: String,
        /// Its offset.
        begins_at: i64,
    },
    /// Not sent yet: the producer itself will send it.
    #[error(
        "{what} is beyond what was sent of source {name}: the last event that was is {last}; what follows is sent by the producer itself"
    )]
    BeyondEnd {
        /// What was asked for.
        what: String,
        /// Name of the source.
        name: String,
        /// The last that was sent.
        last: String,
    },
    /// No events at these times.
    #[error("source {name} placed no event from {from} to {to}")]
    NothingThen {
        /// Name of the source.
        name: String,
        /// Beginning.
        from: String,
        /// End.
        to: String,
    },
    /// There is no checkpoint.
    #[error("source {name} has no checkpoint: nothing of it was ever sent")]
    NeverSent {
        /// Name of the source.
        name: String,
    },
}

impl TryFrom<Request> for Wanted {
    type Error = Refusal;

    fn try_from(request: Request) -> Result<Self, Refusal> {
        let instant =
            |name, text: String| parse_instant(&text).map_err(|why| Refusal::Instant { name, why });
        let Request {
            source,
            ranges,
            first,
            last,
            from,
            to,
        } = request;
        if first.is_some() != last.is_some() || from.is_some() != to.is_some() {
            return Err(Refusal::Shape);
        }
        let events = match (ranges, first.zip(last), from.zip(to)) {
            (Some(ranges), None, None) => Events::Offsets(pieces(ranges)?),
            (None, Some(range), None) => Events::Offsets(pieces(vec![range])?),
            (None, None, Some((from, to))) => {
                let (from_ms, to_ms) = (instant("from", from)?, instant("to", to)?);
                if from_ms > to_ms {
                    return Err(Refusal::Reversed {
                        first: format_instant_ms(from_ms),
                        last: format_instant_ms(to_ms),
                    });
                }
                Events::Times { from_ms, to_ms }
            }
            _ => return Err(Refusal::Shape),
        };
        Ok(Self { source, events })
    }
}

/// Ranges in their order; those that overlap, or have nothing between them, are one.
fn pieces(mut ranges: Vec<(i64, i64)>) -> Result<Vec<Offsets>, Refusal> {
    if !(1..=MOST_PIECES).contains(&ranges.len()) {
        return Err(Refusal::Count(ranges.len()));
    }
    ranges.sort_unstable();
    let mut pieces: Vec<Offsets> = Vec::new();
    for (first, last) in ranges {
        if first > last {
            return Err(Refusal::Reversed {
                first: first.to_string(),
                last: last.to_string(),
            });
        }
        append(&mut pieces, Offsets { first, last });
    }
    Ok(pieces)
}

/// Finds the offsets, and makes sure that each of them was sent and can be sent again.
pub(super) fn resolve(cx: &Context, wanted: &Wanted) -> Result<Range, ReplayError> {
    let source = cx.wait(cx.origin.describe(&cx.http, &cx.settings.source))?;
    if let Some(wanted) = wanted.source.as_ref().filter(|name| **name != source.name) {
        return Err(Refusal::AnotherSource {
            wanted: wanted.clone(),
            name: source.name,
        }
        .into());
    }
    let found = checkpoints::read(cx, &source.name, Until::Stable)?;
    let Some(checkpoint) = found.ours else {
        return Err(Refusal::NeverSent { name: source.name }.into());
    };
    // Of a source that was set back, no more can be had than it has.
    let end = checkpoint.next_offset.min(source.next);
    if end <= source.origin {
        return Err(Refusal::NeverSent { name: source.name }.into());
    }
    let pieces = match &wanted.events {
        Events::Offsets(pieces) => pieces.clone(),
        Events::Times { from_ms, to_ms } => {
            let log = times::Log::new(cx, &source.name);
            let (first, last) = log.offsets(source.origin, end, *from_ms, *to_ms)?;
            vec![Offsets { first, last }]
        }
    };
    let range = Range {
        source: source.name,
        pieces,
    };
    check(
        &range.source,
        source.origin,
        end,
        range.first(),
        range.last(),
    )?;
    Ok(range)
}

/// `end`: the first offset that cannot be sent again.
fn check(name: &str, origin: i64, end: i64, first: i64, last: i64) -> Result<(), Refusal> {
    if first < origin {
        return Err(Refusal::BeforeBeginning {
            what: format!("offset {first}"),
            name: name.to_owned(),
            origin: format!("offset {origin}"),
            begins_at: origin,
        });
    }
    if last >= end {
        return Err(Refusal::BeyondEnd {
            what: format!("offset {last}"),
            name: name.to_owned(),
            last: format!("offset {}", end - 1),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Wanted, Refusal> {
        let request: Request = serde_json::from_str(json).unwrap();
        request.try_into()
    }

    fn wanted(events: Events) -> Result<Wanted, Refusal> {
        let source = None;
        Ok(Wanted { source, events })
    }

    fn offsets(pieces: &[(i64, i64)]) -> Result<Wanted, Refusal> {
        let piece = |(first, last): &(i64, i64)| Offsets {
            first: *first,
            last: *last,
        };
        wanted(Events::Offsets(pieces.iter().map(piece).collect()))
    }

    #[test]
    fn offsets_or_times_and_not_both() {
        assert_eq!(read(r#"{"first":5,"last":5}"#), offsets(&[(5, 5)]));
        // Whatever their order; none is sent twice.
        assert_eq!(
            read(r#"{"ranges":[[9,12],[1,2],[3,4],[11,20]]}"#),
            offsets(&[(1, 4), (9, 20)])
        );
        assert_eq!(
            read(r#"{"from":"2026-01-01T00:00:00Z","to":"2026-01-01T00:00:01Z"}"#),
            wanted(Events::Times {
                from_ms: 1_767_225_600_000,
                to_ms: 1_767_225_601_000
            })
        );
        let named = read(r#"{"source":"mock","first":5,"last":5}"#).unwrap();
        assert_eq!(named.source.as_deref(), Some("mock"));
        for json in [
            "{}",
            r#"{"first":5}"#,
            r#"{"ranges":[[1,2]],"first":5}"#,
            r#"{"ranges":[[1,2]],"first":5,"last":6}"#,
            r#"{"first":5,"to":"2026-01-01T00:00:00Z"}"#,
            r#"{"first":1,"last":2,"from":"2026-01-01T00:00:00Z","to":"2026-01-01T00:00:00Z"}"#,
        ] {
            assert_eq!(read(json), Err(Refusal::Shape), "{json}");
        }
        assert!(serde_json::from_str::<Request>(r#"{"frist":1}"#).is_err());
    }

    #[test]
    fn what_makes_no_range_is_named() {
        let message = |json: &str| read(json).unwrap_err().to_string();
        assert!(message(r#"{"ranges":[]}"#).starts_with("0 ranges"));
        assert!(message(r#"{"ranges":[[1,2],[9,8]]}"#).contains("reversed: 9 is after 8"));
        assert!(message(r#"{"first":9,"last":8}"#).contains("reversed: 9 is after 8"));
        assert!(message(r#"{"from":"noon","to":"2026-01-01T00:00:00Z"}"#).starts_with("from: "));
        let reversed = message(r#"{"from":"2026-01-02T00:00:00Z","to":"2026-01-01T00:00:00Z"}"#);
        assert!(reversed.contains("2026-01-02"), "{reversed}");
    }

    #[test]
    fn only_what_was_sent_and_is_still_there_can_be_sent_again() {
        assert_eq!(check("mock", 10, 100, 10, 99), Ok(()));
        let before = check("mock", 10, 100, 9, 99).unwrap_err().to_string();
        assert!(
            before.contains("offset 9") && before.contains("offset 10"),
            "{before}"
        );
        let beyond = check("mock", 10, 100, 10, 100).unwrap_err().to_string();
        assert!(
            beyond.contains("offset 100") && beyond.contains("offset 99"),
            "{beyond}"
        );
    }
}
