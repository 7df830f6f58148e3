//! A query: read the request, run it on a blocking thread, send what comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use uuid::Uuid;

use super::auth;
use super::body::{self, Coding, Received};
use super::compression::Encoder;
use super::multipart;
use super::params::Params;
use super::response::Head;
use super::{Inner, Server};
use crate::engine::{Engine, Stats};
use crate::exception::{Exception, code};
use crate::execute::{self, Gone, Job, JobKind, Output};
use crate::sql::{self, Statement};

/// An answer begins when so much of it is there, or all of it: until then an error has a status.
const BUFFER: usize = 1 << 20;
/// A statement without its rows is not longer than this.
const MAX_STATEMENT: usize = 16 << 20;
/// Behind a late error the transfer breaks off, but not before the error is on its way.
const LATE_ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Answers `GET /` and `POST /`.
pub async fn handle(State(server): State<Server>, request: Request) -> Response {
    let asks = request.uri().query().is_some_and(|query| !query.is_empty());
    if matches!(*request.method(), Method::GET | Method::HEAD) && !asks {
        return "Ok.\n".into_response();
    }
    let server = server.0;
    let mut head = Head {
        query_id: Uuid::new_v4().to_string(),
        timezone: server.engine.timezone().to_owned(),
        exception_tag: Uuid::new_v4().simple().to_string()[..16].to_owned(),
    };
    match answer(&server, &mut head, request).await {
        Ok(response) => response,
        Err(exception) => {
            tracing::debug!(query_id = head.query_id, %exception, "query failed");
            head.error(&exception)
        }
    }
}

async fn answer(
    server: &Arc<Inner>,
    head: &mut Head,
    request: Request,
) -> Result<Response, Exception> {
    let (parts, body) = request.into_parts();
    let mut params = Params::read(&parts.uri, &parts.headers)?;
    if let Some(query_id) = params.query_id.take() {
        head.query_id = query_id;
    }
    let credentials =
        auth::credentials(&parts.headers, params.user.take(), params.password.take())?;
    let account = server.accounts.authenticate(&credentials)?;
    let coding = coding(&parts.headers, &params)?;
    let received = body::receive(body, coding, &server.budget, server.client_timeout).await?;

    let mut text = Bytes::from(std::mem::take(&mut params.query));
    let mut rows = Vec::new();
    if let Some(boundary) = content_type(&parts.headers).and_then(multipart::boundary) {
        text = form(&received.joined(), &boundary, text, &mut params)?;
    } else if text.is_empty() {
        text = received.joined();
    } else if takes_rows(&text) {
        rows.clone_from(&received.pieces);
    } else if !received.pieces.is_empty() {
        text = [&text[..], b"\n", &received.joined()[..]].concat().into();
    }
    if text.len() > MAX_STATEMENT && !takes_rows(&text) {
        return Err(Exception::new(
            code::QUERY_IS_TOO_LARGE,
            "QUERY_IS_TOO_LARGE",
            &format!("The query is longer than {MAX_STATEMENT} bytes"),
        ));
    }

    let place = Arc::clone(&server.places)
        .try_acquire_owned()
        .map_err(|_| {
            Exception::new(
                code::TOO_MANY_SIMULTANEOUS_QUERIES,
                "TOO_MANY_SIMULTANEOUS_QUERIES",
                &format!(
                    "Too many simultaneous queries. Maximum: {}",
                    server.max_concurrent_queries
                ),
            )
        })?;
    let job = Job {
        query_id: head.query_id.clone(),
        text,
        rows,
        database: params.database.take(),
        settings: std::mem::take(&mut params.settings),
        parameters: std::mem::take(&mut params.parameters),
        default_format: params.default_format.take(),
        readonly: account.readonly,
        safe_method: parts.method != Method::POST,
        max_materialized_result: server.max_materialized_result,
    };
    let encoding = accepted(&parts.headers, &params);
    let (sender, events) = mpsc::channel(2);
    let output = Channel {
        sender,
        runtime: tokio::runtime::Handle::current(),
        timeout: server.client_timeout,
        encoder: match encoding {
            Some(_) => Encoder::frame(),
            None if params.compress => Encoder::Blocks,
            None => Encoder::Plain,
        },
        head: head.clone(),
    };
    let blocking = Arc::clone(server);
    // Drain waits for it even if the client goes away.
    let task = server.shutdown.spawn(async move {
        let run = move || run(&blocking, job, output, (place, received));
        if tokio::task::spawn_blocking(run).await.is_err() {
            tracing::error!("a query's thread panicked");
        }
    });
    drop(task);
    let limit = if params.wait_end_of_query {
        usize::try_from(server.max_materialized_result).unwrap_or(usize::MAX)
    } else {
        BUFFER
    };
    respond(
        server,
        head,
        events,
        encoding,
        limit,
        params.wait_end_of_query,
    )
    .await
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

fn takes_rows(text: &[u8]) -> bool {
    matches!(
        sql::parse(text),
        Statement::Insert(_) | Statement::InsertFromInput(_)
    )
}

fn coding(headers: &HeaderMap, params: &Params) -> Result<Coding, Exception> {
    let encoding = headers
        .get(header::CONTENT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.trim().to_ascii_lowercase());
    match encoding.as_deref() {
        _ if params.decompress => Ok(Coding::Blocks),
        None | Some("" | "identity") => Ok(Coding::Plain),
        Some("lz4") => Ok(Coding::Frame),
        Some(other) => Err(Exception::new(
            code::UNSUPPORTED_MEDIA_TYPE,
            "UNSUPPORTED_MEDIA_TYPE",
            &format!("Content-Encoding {other} is not supported; lz4 and decompress=1 are"),
        )),
    }
}

/// `lz4` where the client takes it; the others that ClickHouse has are left out here.
fn accepted(headers: &HeaderMap, params: &Params) -> Option<&'static str> {
    let accepts = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            coding
                .split(';')
                .next()
                .is_some_and(|name| name.trim() == "lz4")
        });
    (accepts && params.http_compression && !params.compress).then_some("lz4")
}

/// Takes the query and parameters out of a form. Tables that come with a query are not supported.
fn form(
    body: &[u8],
    boundary: &str,
    url_query: Bytes,
    params: &mut Params,
) -> Result<Bytes, Exception> {
    let mut text = url_query;
    for (name, content) in multipart::fields(body, boundary)? {
        if name == "query" {
            text = [&text[..], content].concat().into();
        } else if let Some(parameter) = name.strip_prefix("param_") {
            let value = String::from_utf8_lossy(content).into_owned();
            params.parameters.push((parameter.to_owned(), value));
        } else {
            return Err(Exception::new(
                code::NOT_IMPLEMENTED,
                "NOT_IMPLEMENTED",
                &format!("external tables in a form are not supported (field {name})"),
            ));
        }
    }
    Ok(text)
}

enum Event {
    Begin { format: String, reads: bool },
    Piece { bytes: Bytes, so_far: Stats },
    End { tail: Bytes, stats: Stats },
    Failed { exception: Exception, late: Bytes },
}

/// From the blocking thread to the connection, with as much between them as the channel holds: a
/// slow client slows its query.
struct Channel {
    sender: mpsc::Sender<Event>,
    runtime: tokio::runtime::Handle,
    timeout: Duration,
    encoder: Encoder,
    head: Head,
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

/// Runs a job and gives back what it `held` before its client hears of the end, so that one who then
/// asks again finds room.
fn run(server: &Inner, job: Job, mut output: Channel, held: (OwnedSemaphorePermit, Received)) {
    server.metrics.running.inc();
    let started = Instant::now();
    let (kind, outcome): (JobKind, _) = execute::run(&server.engine, &job, &mut output);
    drop((job, held));
    server.metrics.running.dec();
    server
        .metrics
        .ended(kind, started.elapsed().as_secs_f64(), outcome.as_ref().ok());
    let compressed = |encoder: &mut Encoder, piece: Bytes| {
        let mut bytes = encoder.encode(piece)?.to_vec();
        bytes.extend_from_slice(&encoder.finish()?);
        Ok::<_, std::io::Error>(Bytes::from(bytes))
    };
    let event = match outcome {
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
    query_id: String,
    armed: bool,
}

impl Drop for Cancel {
    fn drop(&mut self) {
        if self.armed {
            let (engine, query_id) = (Arc::clone(&self.engine), std::mem::take(&mut self.query_id));
            tokio::task::spawn_blocking(move || engine.kill(&query_id));
        }
    }
}

async fn respond(
    server: &Arc<Inner>,
    head: &Head,
    mut events: mpsc::Receiver<Event>,
    encoding: Option<&'static str>,
    limit: usize,
    wait_for_end: bool,
) -> Result<Response, Exception> {
    let started = Instant::now();
    let mut cancel = Cancel {
        engine: Arc::clone(&server.engine),
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
                if size <= limit {
                    continue;
                }
                if wait_for_end {
                    return Err(Exception::new(
                        396,
                        "TOO_MANY_ROWS_OR_BYTES",
                        &format!(
                            "Limit for result exceeded: more than {limit} bytes with \
                             wait_end_of_query=1 (setting max_materialized_result)"
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
