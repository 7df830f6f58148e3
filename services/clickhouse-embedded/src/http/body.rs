//! Bodies of requests: held in memory until they are complete, so that nothing of one that is cut
//! off reaches the engine.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::blocks::BlockDecoder;
use super::coding::Coding;
use crate::exception::{Exception, code};

/// A body waits so long for others to leave memory.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(10);
/// The budget counts in these, as a semaphore has fewer than 2^32 permits.
const UNIT: usize = 1024;
/// A body in a coding of HTTP's is decompressed in pieces of this size.
const DECODED_PIECE: usize = 256 << 10;

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

/// How a body is encoded. Where both are there, the blocks are within the coding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encoding {
    /// `decompress=1`: ClickHouse's blocks.
    pub blocks: bool,
    /// `Content-Encoding`
    pub coding: Option<Coding>,
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
    encoding: Encoding,
    budget: &Budget,
    client_timeout: Duration,
) -> Result<Received, Exception> {
    let room = Room {
        budget: budget.clone(),
        bytes: 0,
        permit: None,
    };
    let mut received = Received {
        pieces: Vec::new(),
        room,
    };
    // A body that says how long it is gets its room at once, or waits for it: bodies that have a part
    // of their room each would wait for each other. One that can never have it is read until it is too
    // long: a client that is still writing would not see an earlier answer.
    let limit = received.room.budget.limit;
    let announced = match body.size_hint().exact().map(usize::try_from) {
        Some(Ok(length)) if encoding == Encoding::default() && length <= limit => length,
        _ => 0,
    };
    received.room.grow(announced).await?;
    let mut taken = 0;
    let mut blocks = (encoding.blocks && encoding.coding.is_none()).then(BlockDecoder::default);
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
        match &mut blocks {
            Some(decoder) => received.decode(decoder, &piece).await?,
            None => {
                taken += piece.len();
                if taken > received.room.bytes {
                    received.room.grow(taken - received.room.bytes).await?;
                }
                received.pieces.push(piece);
            }
        }
    }
    if let Some(decoder) = blocks {
        decoder.finish()?;
    } else if let Some(coding) = encoding.coding
        && !received.pieces.is_empty()
    {
        received = received.decoded(coding, encoding.blocks).await?;
    }
    Ok(received)
}

impl Received {
    /// Takes a piece of blocks, and keeps what the blocks hold that are complete.
    async fn decode(&mut self, decoder: &mut BlockDecoder, piece: &[u8]) -> Result<(), Exception> {
        decoder.push(piece);
        while let Some((plain, compressed)) = decoder.next_size()? {
            if compressed > self.room.budget.limit {
                self.room.grow(compressed).await?;
            }
            let before = self.room.bytes;
            self.room.grow(plain).await?;
            match decoder.next_block()? {
                Some(block) => self.pieces.push(block),
                None => {
                    self.room.shrink_to(before);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Decompresses a body in a coding of HTTP's, on a blocking thread. The memory of what was
    /// received is given back when all of it has been read.
    async fn decoded(mut self, coding: Coding, blocks: bool) -> Result<Self, Exception> {
        let mut received = Self {
            pieces: Vec::new(),
            room: Room {
                budget: self.room.budget.clone(),
                bytes: 0,
                permit: None,
            },
        };
        let runtime = tokio::runtime::Handle::current();
        let decode = move || {
            let broken = |error: std::io::Error| {
                Exception::new(
                    code::CANNOT_DECOMPRESS,
                    "CANNOT_DECOMPRESS",
                    &format!("Cannot decompress the {} body: {error}", coding.name()),
                )
            };
            let pieces = std::mem::take(&mut self.pieces);
            let mut reader = coding.reader(pieces.into()).map_err(broken)?;
            let mut decoder = blocks.then(BlockDecoder::default);
            loop {
                let mut piece = vec![0; DECODED_PIECE];
                let length = reader.read(&mut piece).map_err(broken)?;
                if length == 0 {
                    break;
                }
                piece.truncate(length);
                match &mut decoder {
                    Some(decoder) => runtime.block_on(received.decode(decoder, &piece))?,
                    None => {
                        runtime.block_on(received.room.grow(length))?;
                        if length < DECODED_PIECE / 2 {
                            piece.shrink_to_fit();
                        }
                        received.pieces.push(piece.into());
                    }
                }
            }
            if let Some(decoder) = decoder {
                decoder.finish()?;
            }
            Ok(received)
        };
        tokio::task::spawn_blocking(decode)
            .await
            .unwrap_or_else(|_| Err(cut_off("the decoder stopped")))
    }
}

fn cut_off(message: &str) -> Exception {
    Exception::new(code::NETWORK_ERROR, "NETWORK_ERROR", message)
}
