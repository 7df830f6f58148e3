//! Bodies of requests: held in memory until they are complete, so that nothing of one that is cut
//! off reaches the engine.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::compression::{BlockDecoder, decode_frame};
use crate::exception::{Exception, code};

/// A body waits so long for others to leave memory.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(10);
/// The budget counts in these, as a semaphore has fewer than 2^32 permits.
const UNIT: usize = 1024;

/// Memory for the bodies of all requests together.
#[derive(Debug, Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    limit: usize,
    gauge: IntGauge,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: u64, gauge: IntGauge) -> Self {
        let limit = usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            units: Arc::new(Semaphore::new(limit / UNIT)),
            limit,
            gauge,
        }
    }
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Plain,
    /// `decompress=1`
    Blocks,
    /// `Content-Encoding: lz4`
    Frame,
}

/// A complete body, decompressed. Its memory is given back on drop.
#[derive(Debug)]
pub struct Received {
    /// Its content in the pieces in which it came.
    pub pieces: Vec<Bytes>,
    room: Room,
}

impl Received {
    /// All of it in one piece.
    pub fn joined(&self) -> Bytes {
        match self.pieces.as_slice() {
            [] => Bytes::new(),
            [piece] => piece.clone(),
            pieces => {
                let mut joined = BytesMut::with_capacity(self.room.bytes);
                for piece in pieces {
                    joined.extend_from_slice(piece);
                }
                joined.freeze()
            }
        }
    }
}

/// What one body has of the budget.
#[derive(Debug)]
struct Room {
    budget: Budget,
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Room {
    async fn grow(&mut self, bytes: usize) -> Result<(), Exception> {
        let total = self.bytes.saturating_add(bytes);
        if total > self.budget.limit {
            return Err(Exception::new(
                code::MEMORY_LIMIT_EXCEEDED,
                "MEMORY_LIMIT_EXCEEDED",
                &format!(
                    "Memory limit for request bodies exceeded: this one has at least {total} bytes, \
                     maximum: {} (setting max_body_memory). Send fewer rows at a time",
                    self.budget.limit
                ),
            ));
        }
        let units = total.div_ceil(UNIT) - self.bytes.div_ceil(UNIT);
        if units > 0 {
            let units = u32::try_from(units).unwrap_or(u32::MAX);
            let acquire = Arc::clone(&self.budget.units).acquire_many_owned(units);
            let Ok(Ok(permit)) = tokio::time::timeout(WAIT_FOR_ROOM, acquire).await else {
                return Err(Exception::new(
                    code::MEMORY_LIMIT_EXCEEDED,
                    "MEMORY_LIMIT_EXCEEDED",
                    &format!(
                        "Memory limit for request bodies exceeded: others hold what is left of {} \
                         bytes (setting max_body_memory). Try again",
                        self.budget.limit
                    ),
                ));
            };
            match &mut self.permit {
                Some(held) => held.merge(permit),
                None => self.permit = Some(permit),
            }
        }
        self.budget.gauge.add(i64::try_from(bytes).unwrap_or(0));
        self.bytes = total;
        Ok(())
    }

    fn shrink_to(&mut self, bytes: usize) {
        let units = self.bytes.div_ceil(UNIT) - bytes.div_ceil(UNIT);
        if let Some(permit) = &mut self.permit {
            drop(permit.split(units));
        }
        let freed = self.bytes - bytes;
        self.budget.gauge.sub(i64::try_from(freed).unwrap_or(0));
        self.bytes = bytes;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget
            .gauge
            .sub(i64::try_from(self.bytes).unwrap_or(0));
    }
}

/// Reads a body to its end.
///
/// # Errors
/// The client goes away or stops sending; the body is too large, or not what its coding says.
pub async fn receive(
    body: Body,
    coding: Coding,
    budget: &Budget,
    client_timeout: Duration,
) -> Result<Received, Exception> {
    let mut received = Received {
        pieces: Vec::new(),
        room: Room {
            budget: budget.clone(),
            bytes: 0,
            permit: None,
        },
    };
    let mut decoder = BlockDecoder::default();
    let mut stream = body.into_data_stream();
    loop {
        let piece = match tokio::time::timeout(client_timeout, stream.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(error))) => {
                return Err(cut_off(&format!("the request's body was cut off: {error}")));
            }
            Err(_) => {
                return Err(cut_off(&format!(
                    "nothing came of the request's body for {} s (setting client_timeout)",
                    client_timeout.as_secs()
                )));
            }
        };
        if coding != Coding::Blocks {
            received.room.grow(piece.len()).await?;
            received.pieces.push(piece);
            continue;
        }
        decoder.push(&piece);
        while let Some((plain, compressed)) = decoder.next_size()? {
            if compressed > budget.limit {
                received.room.grow(compressed).await?;
            }
            let before = received.room.bytes;
            received.room.grow(plain).await?;
            match decoder.next_block()? {
                Some(block) => received.pieces.push(block),
                None => {
                    received.room.shrink_to(before);
                    break;
                }
            }
        }
    }
    match coding {
        Coding::Plain => {}
        Coding::Blocks => decoder.finish()?,
        Coding::Frame => {
            let frame = received.joined();
            let left = budget.limit - received.room.bytes;
            let content = tokio::task::spawn_blocking(move || decode_frame(&frame, left))
                .await
                .unwrap_or_else(|_| Err(cut_off("the decoder stopped")))?;
            received.room.grow(content.len()).await?;
            received.pieces = vec![content.into()];
        }
    }
    Ok(received)
}

fn cut_off(message: &str) -> Exception {
    Exception::new(code::NETWORK_ERROR, "NETWORK_ERROR", message)
}
