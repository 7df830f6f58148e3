//! A job on its blocking thread on one side, the answer to its client on the other, and a short channel
//! between them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Inner;
use super::body::Received;
use super::coding::{Coding, Encoder};
use super::response::Head;
use crate::engine::{Engine, Stats};
use crate::exception::{Exception, code};
use crate::execute::{self, Gone, Job, Output};
use crate::queries::Queries;
use crate::query_log::{Entry, microseconds};

/// Behind a late error the transfer breaks off, but not before the error is on its way.
const LATE_ERROR_PAUSE: Duration = Duration::from_millis(50);

/// What a job tells its client.
pub enum Event {
    Begin { format: String, reads: bool },
    Piece { bytes: Bytes, so_far: Stats },
    End { tail: Bytes, stats: Stats },
    Failed { exception: Exception, late: Bytes },
}

/// From the blocking thread to the connection, with as much between them as the channel holds: a
/// slow client slows its query.
pub struct Channel {
    /// To the client.
    pub sender: mpsc::Sender<Event>,
    /// To wait on from a blocking thread.
    pub runtime: tokio::runtime::Handle,
    /// How long a client may take nothing.
    pub timeout: Duration,
    /// Compresses pieces.
    pub encoder: Encoder,
    /// Of the answer.
    pub head: Head,
}

impl Channel {
    fn send(&self, event: Event) -> Result<(), Gone> {
        self.runtime.block_on(async {
            match tokio::time::timeout(self.timeout, self.sender.send(event)).await {
                Ok(Ok(())) => Ok(()),
                _ => Err(Gone),
            }
        })
    }
}

impl Output for Channel {
    fn begin(&mut self, format: &str, reads: bool) -> Result<(), Gone> {
        self.send(Event::Begin {
            format: format.to_owned(),
            reads,
        })
    }

    fn piece(&mut self, piece: Bytes, so_far: &Stats) -> Result<(), Gone> {
        let bytes = self.encoder.encode(piece).map_err(|_| Gone)?;
        self.send(Event::Piece {
            bytes,
            so_far: *so_far,
        })
    }
}

/// What a client gave with a job that is only logged.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// From where it came.
    pub address: String,
    /// What sent it.
    pub user_agent: String,
}

/// Runs a job and gives back what it `held` before its client hears of the end, so that one who then
/// asks again finds room.
pub fn run(
    server: &Inner,
    mut job: Job,
    mut output: Channel,
    origin: Origin,
    held: (OwnedSemaphorePermit, Received),
) {
    server.metrics.running.inc();
    let (began, started) = (SystemTime::now(), Instant::now());
    let ended = execute::run(&server.core, &mut job, &mut output);
    let elapsed = started.elapsed();
    let statement = Entry::shorten(&job.text[..ended.statement_end.min(job.text.len())]);
    let (user, database) = (job.account.name.clone(), job.database.take());
    drop((job, held));
    server.metrics.running.dec();
    server.metrics.ended(
        ended.kind,
        elapsed.as_secs_f64(),
        ended.outcome.as_ref().ok(),
    );
    let (stats, exception) = match &ended.outcome {
        Ok(stats) => (*stats, None),
        Err(exception) => (Stats::default(), Some(exception)),
    };
    let span = tracing::Span::current();
    span.record("db.operation.name", ended.verb.to_uppercase());
    span.record("contrail.written_rows", stats.written_rows);
    if let Some(exception) = exception {
        span.record("otel.status_code", "ERROR");
        span.record("db.response.status_code", exception.code());
    }
    server.core.log.add(Entry {
        outcome: match exception {
            None => "QueryFinish",
            Some(_) => "ExceptionWhileProcessing",
        },
        query_start_time_microseconds: microseconds(began),
        event_time_microseconds: microseconds(began + elapsed),
        query_duration_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        read_rows: stats.read_rows,
        read_bytes: stats.read_bytes,
        written_rows: stats.written_rows,
        written_bytes: stats.written_bytes,
        result_rows: stats.result_rows,
        result_bytes: stats.result_bytes,
        query_id: output.head.query_id.clone(),
        query_kind: ended.verb,
        user,
        address: origin.address,
        http_user_agent: origin.user_agent,
        current_database: database.unwrap_or_else(|| "default".to_owned()),
        exception_code: exception.map_or(0, Exception::code),
        exception: exception.map(ToString::to_string).unwrap_or_default(),
        statement,
    });
    let compressed = |encoder: &mut Encoder, piece: Bytes| {
        let mut bytes = encoder.encode(piece)?.to_vec();
        bytes.extend_from_slice(&encoder.finish()?);
        Ok::<_, std::io::Error>(Bytes::from(bytes))
    };
    let event = match ended.outcome {
        Ok(stats) => Event::End {
            tail: output.encoder.finish().unwrap_or_default(),
            stats,
        },
        Err(exception) => Event::Failed {
            late: compressed(&mut output.encoder, output.head.late_error(&exception))
                .unwrap_or_default(),
            exception,
        },
    };
    // Whoever is gone needs no end.
    let _ = output.send(event);
}

/// Cancels a query that only reads, if its client goes away before the end.
struct Cancel {
    engine: Arc<Engine>,
    queries: Queries,
    query_id: String,
    armed: bool,
}

impl Drop for Cancel {
    fn drop(&mut self) {
        if self.armed {
            self.queries.cancel(&self.engine, &self.query_id);
        }
    }
}

/// How an answer goes out.
#[derive(Debug, Clone, Copy)]
pub struct Sending {
    /// How it is compressed.
    pub coding: Option<Coding>,
    /// It begins when so many bytes are there, or all.
    pub buffer: usize,
    /// It begins when all is there, and may not be larger than `buffer`.
    pub wait_for_end: bool,
}

/// Makes the answer of what a job tells.
///
/// # Errors
/// What went wrong before the answer began.
pub async fn respond(
    server: &Arc<Inner>,
    head: &Head,
    mut events: mpsc::Receiver<Event>,
    sending: Sending,
) -> Result<Response, Exception> {
    let started = Instant::now();
    let encoding = sending.coding.map(Coding::name);
    let mut cancel = Cancel {
        engine: Arc::clone(&server.core.engine),
        queries: server.core.queries.clone(),
        query_id: head.query_id.clone(),
        armed: false,
    };
    let mut format = "TabSeparated".to_owned();
    let mut buffered: Vec<Bytes> = Vec::new();
    let mut size = 0;
    loop {
        match events.recv().await {
            Some(Event::Begin {
                format: named,
                reads,
            }) => {
                format = named;
                cancel.armed = reads;
            }
            Some(Event::Piece { bytes, so_far }) => {
                size += bytes.len();
                buffered.push(bytes);
                if size <= sending.buffer {
                    continue;
                }
                if sending.wait_for_end {
                    return Err(Exception::new(
                        code::TOO_MANY_ROWS_OR_BYTES,
                        "TOO_MANY_ROWS_OR_BYTES",
                        &format!(
                            "Limit for result exceeded: more than {} bytes with \
                             wait_end_of_query=1 (setting max_materialized_result)",
                            sending.buffer
                        ),
                    ));
                }
                let elapsed = started.elapsed().as_nanos();
                let body = streamed(buffered, events, cancel);
                return Ok(head.answer(&format, encoding, &so_far, elapsed, body));
            }
            Some(Event::End { tail, stats }) => {
                cancel.armed = false;
                if size > 0 {
                    buffered.push(tail);
                }
                let encoding = encoding.filter(|_| size > 0);
                let body = match buffered.as_slice() {
                    [only] => Body::from(only.clone()),
                    pieces => Body::from(pieces.concat()),
                };
                let elapsed = started.elapsed().as_nanos();
                return Ok(head.answer(&format, encoding, &stats, elapsed, body));
            }
            Some(Event::Failed { exception, .. }) => {
                cancel.armed = false;
                return Err(exception);
            }
            None => {
                return Err(Exception::new(
                    code::LOGICAL_ERROR,
                    "LOGICAL_ERROR",
                    "the query's thread ended without an answer",
                ));
            }
        }
    }
}

/// The rest of an answer that has begun.
fn streamed(buffered: Vec<Bytes>, events: mpsc::Receiver<Event>, cancel: Cancel) -> Body {
    enum State {
        Running(std::vec::IntoIter<Bytes>, mpsc::Receiver<Event>, Cancel),
        Broken(Exception),
        Done,
    }
    let begin = State::Running(buffered.into_iter(), events, cancel);
    let stream = futures_util::stream::unfold(begin, |state| async move {
        match state {
            State::Running(mut buffered, mut events, mut cancel) => {
                if let Some(bytes) = buffered.next() {
                    return Some((Ok(bytes), State::Running(buffered, events, cancel)));
                }
                match events.recv().await {
                    Some(Event::Piece { bytes, .. }) => {
                        Some((Ok(bytes), State::Running(buffered, events, cancel)))
                    }
                    Some(Event::End { tail, .. }) => {
                        cancel.armed = false;
                        Some((Ok(tail), State::Done))
                    }
                    Some(Event::Failed { exception, late }) => {
                        cancel.armed = false;
                        Some((Ok(late), State::Broken(exception)))
                    }
                    Some(Event::Begin { .. }) | None => {
                        Some((Err(std::io::Error::other("the query ended")), State::Done))
                    }
                }
            }
            State::Broken(exception) => {
                tokio::time::sleep(LATE_ERROR_PAUSE).await;
                Some((Err(std::io::Error::other(exception)), State::Done))
            }
            State::Done => None,
        }
    });
    Body::from_stream(stream)
}
