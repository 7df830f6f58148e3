//! Giving dead letters up: they stay in the topic with the reason, and the account goes on counting them
//! among the dead letters.

use flight::dead_letter;
use serde::Serialize;

use super::marks::{GROUP, Marker};
use super::redrive::select;
use super::{RedriveError, Selection, letters};
use crate::verify::VerifySettings;

/// Most bytes of a reason.
const MOST_REASON_BYTES: usize = 1_000;

/// What was done.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Discarded {
    /// Keys of the letters that are given up.
    pub discarded: Vec<String>,
}

/// Gives letters up for a reason. One that was given up can still be redriven, by its key.
///
/// # Errors
/// See [`RedriveError`]: the reason says nothing or too much, there is no such letter, or Kafka does not do
/// what is asked; what was marked by then stays marked.
pub async fn discard(
    settings: &VerifySettings,
    selection: &Selection,
    reason: &str,
) -> Result<Discarded, RedriveError> {
    let reason = reason.trim();
    if reason.is_empty() || reason.len() > MOST_REASON_BYTES {
        return Err(RedriveError::Reason(MOST_REASON_BYTES));
    }
    let marker = Marker::new(settings)?;
    let mut selected = select(letters(settings).await?, selection)?;
    selected.retain(|letter| letter.discarded.is_none());
    let mut done = Discarded::default();
    tokio::task::block_in_place(|| {
        for group in selected.chunks(GROUP) {
            marker
                .transaction(|| {
                    group
                        .iter()
                        .try_for_each(|letter| marker.mark(letter, dead_letter::DISCARDED, reason))
                })
                .map_err(|source| RedriveError::Kafka {
                    action: "mark dead letters",
                    brokers: settings.kafka.brokers.clone(),
                    source: Box::new(source),
                })?;
            let keys = group.iter().map(|letter| letter.key.clone());
            done.discarded.extend(keys);
        }
        Ok(done)
    })
}
