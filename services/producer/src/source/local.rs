//! The source in the producer's own process: frames as the WebSocket carries them, without a socket.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use flight::source::{Frame, SourceDescriptor, parse_frame};

use super::{Reader, SourceError};

/// Until a source that had nothing is asked again.
const IDLE: Duration = Duration::from_millis(5);

/// A source that need not be connected to.
pub trait LocalSource: Send + Sync + 'static {
    /// What it is and where it stands.
    fn describe(&self) -> SourceDescriptor;

    /// The frame of the batch that begins at an offset (see [`flight::source`]); `None` while there is
    /// none.
    fn batch(&self, from: i64) -> Option<Bytes>;
}

/// Reads it until it breaks the protocol.
pub(super) async fn read(
    reader: &mut Reader,
    source: &dyn LocalSource,
) -> Result<Infallible, SourceError> {
    reader.check_name(&source.describe().name)?;
    reader.connected();
    loop {
        let Some(frame) = source.batch(reader.expected) else {
            tokio::time::sleep(IDLE).await;
            continue;
        };
        match parse_frame(&frame)? {
            Frame::Batch(header, lines) => reader.deliver(header, &frame, &lines).await?,
            Frame::Control(_) => {
                return Err(SourceError::Protocol(
                    "no batch where one was asked for".into(),
                ));
            }
        }
    }
}
