//! What a WebSocket's client may be sent: its place in the log, its credit, its acknowledgements.
//! No input or output here, so that every sequence of frames can be tried.

use flight::source::ClientFrame;

use super::refusal::Refusal;

/// A client after its `start`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    next: i64,
    credit: u64,
    max_batch: u32,
}

impl Session {
    /// A session that sends from an offset.
    ///
    /// # Errors
    /// The client wants batches of nothing.
    pub fn new(from: i64, credit: u64, max_batch: u32) -> Result<Self, Refusal> {
        if max_batch == 0 {
            return Err(Refusal::BadRequest(
                "max_batch must be at least 1".to_owned(),
            ));
        }
        Ok(Self {
            next: from,
            credit,
            max_batch,
        })
    }

    /// The next offset to send.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// True if the client has granted credit that is not used up.
    pub fn has_credit(&self) -> bool {
        self.credit > 0
    }

    /// How many events the next batch may have, at most `limit`.
    pub fn allowance(&self, limit: u32) -> i64 {
        let most = u64::from(self.max_batch.min(limit));
        // At most a u32: fits.
        self.credit.min(most) as i64
    }

    /// Notes a batch. It must not be larger than the allowance.
    pub fn sent(&mut self, count: u32) {
        debug_assert!(u64::from(count) <= self.credit);
        self.credit = self.credit.saturating_sub(count.into());
        self.next += i64::from(count);
    }

    /// Takes a client's frame; gives the acknowledged offset if it is an acknowledgement.
    ///
    /// # Errors
    /// A second `start`, or an acknowledgement of what was never sent.
    pub fn take(&mut self, frame: &ClientFrame) -> Result<Option<i64>, Refusal> {
        match *frame {
            ClientFrame::Start { .. } => Err(Refusal::BadRequest(
                "start was given already: open another connection to begin elsewhere".to_owned(),
            )),
            ClientFrame::Credit { events } => {
                self.credit = self.credit.saturating_add(events);
                Ok(None)
            }
            ClientFrame::Ack { next } if next < 0 => Err(Refusal::BadRequest(format!(
                "ack of {next}: offsets begin at 0"
            ))),
            ClientFrame::Ack { next } if next > self.next => Err(Refusal::BadRequest(format!(
                "ack of {next}, but only events below {} were sent",
                self.next
            ))),
            ClientFrame::Ack { next } => Ok(Some(next)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Frame(ClientFrame),
        Send(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        let amount = prop_oneof![0u64..50, Just(u64::MAX)];
        prop_oneof![
            amount.prop_map(|events| Step::Frame(ClientFrame::Credit { events })),
            (-10i64..1_000).prop_map(|next| Step::Frame(ClientFrame::Ack { next })),
            (1u32..40).prop_map(Step::Send),
            (0u32..5).prop_map(|_| Step::Frame(ClientFrame::Start {
                from: None,
                credit: 1,
                max_batch: 1
            })),
        ]
    }

    proptest! {
        #[test]
        fn no_sequence_of_frames_gets_more_than_it_granted(
            credit in 0u64..100, max_batch in 1u32..60, steps in proptest::collection::vec(step(), 0..200),
        ) {
            let mut session = Session::new(5, credit, max_batch).unwrap();
            let mut granted = u128::from(credit);
            let mut sent = 0u128;
            for step in steps {
                match step {
                    Step::Frame(frame) => {
                        let before = session.clone();
                        let taken = session.take(&frame);
                        match frame {
                            ClientFrame::Credit { events } => granted += u128::from(events),
                            ClientFrame::Ack { next } => {
                                prop_assert_eq!(taken.is_ok(), (0..=before.next()).contains(&next));
                                prop_assert_eq!(&session, &before);
                            }
                            ClientFrame::Start { .. } => prop_assert!(taken.is_err()),
                        }
                    }
                    Step::Send(limit) => {
                        let count = session.allowance(limit);
                        prop_assert!(count <= i64::from(limit.min(max_batch)));
                        session.sent(count as u32);
                        sent += count as u128;
                    }
                }
                prop_assert!(sent <= granted);
                prop_assert_eq!(i128::from(session.next()), 5 + sent as i128);
            }
        }
    }

    #[test]
    fn a_batch_of_nothing_is_refused() {
        assert_eq!(Session::new(0, 1, 0).unwrap_err().code(), "bad_request");
    }
}
