//! What may be sent again: events that the source can still give and that were sent before.

use flight::calendar::{format_instant_ms, parse_instant};
use serde::Deserialize;
use thiserror::Error;

use super::{Range, ReplayError, times};
use crate::checkpoints::{self, Until};
use crate::service::Context;

/// What is asked for: both ends are included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// By offsets in the source.
    Offsets {
        /// First offset.
        first: i64,
        /// Last offset.
        last: i64,
    },
    /// By the times at which the source placed the events.
    Times {
        /// Not before, in milliseconds UTC.
        from_ms: i64,
        /// Not after, in milliseconds UTC.
        to_ms: i64,
    },
}

/// The same, as it is written: either both offsets or both times.
#[derive(Debug, Clone, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Request {
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
    #[error("give first and last (offsets), or from and to (instants), and not both")]
    Shape,
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
        match request {
            Request {
                first: Some(first),
                last: Some(last),
                from: None,
                to: None,
            } => {
                if first > last {
                    return Err(Refusal::Reversed {
                        first: first.to_string(),
                        last: last.to_string(),
                    });
                }
                Ok(Self::Offsets { first, last })
            }
            Request {
                first: None,
                last: None,
                from: Some(from),
                to: Some(to),
            } => {
                let (from_ms, to_ms) = (instant("from", from)?, instant("to", to)?);
                if from_ms > to_ms {
                    return Err(Refusal::Reversed {
                        first: format_instant_ms(from_ms),
                        last: format_instant_ms(to_ms),
                    });
                }
                Ok(Self::Times { from_ms, to_ms })
            }
            _ => Err(Refusal::Shape),
        }
    }
}

/// Finds the offsets, and makes sure that each of them was sent and can be sent again.
pub(super) fn resolve(cx: &Context, wanted: &Wanted) -> Result<Range, ReplayError> {
    let source = cx.wait(cx.origin.describe(&cx.http, &cx.settings.source))?;
    let found = checkpoints::read(cx, &source.name, Until::Stable)?;
    let Some(checkpoint) = found.ours else {
        return Err(Refusal::NeverSent { name: source.name }.into());
    };
    // Of a source that was set back, no more can be had than it has.
    let end = checkpoint.next_offset.min(source.next);
    if end <= source.origin {
        return Err(Refusal::NeverSent { name: source.name }.into());
    }
    let (first, last) = match *wanted {
        Wanted::Offsets { first, last } => (first, last),
        Wanted::Times { from_ms, to_ms } => {
            let log = times::Log::new(cx, &source.name);
            log.offsets(source.origin, end, from_ms, to_ms)?
        }
    };
    check(&source.name, source.origin, end, first, last)?;
    Ok(Range {
        source: source.name,
        first,
        last,
    })
}

/// `end`: the first offset that cannot be sent again.
fn check(name: &str, origin: i64, end: i64, first: i64, last: i64) -> Result<(), Refusal> {
    if first < origin {
        return Err(Refusal::BeforeBeginning {
            what: format!("offset {first}"),
            name: name.to_owned(),
            origin: format!("offset {origin}"),
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

    #[test]
    fn offsets_or_times_and_not_both() {
        assert_eq!(
            read(r#"{"first":5,"last":5}"#),
            Ok(Wanted::Offsets { first: 5, last: 5 })
        );
        assert_eq!(
            read(r#"{"from":"2026-01-01T00:00:00Z","to":"2026-01-01T00:00:01Z"}"#),
            Ok(Wanted::Times {
                from_ms: 1_767_225_600_000,
                to_ms: 1_767_225_601_000
            })
        );
        for json in [
            "{}",
            r#"{"first":5}"#,
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
