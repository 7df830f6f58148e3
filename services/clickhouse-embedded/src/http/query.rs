//! A query: read the request, run it on a blocking thread, send what comes.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flight::telemetry::{TRACEPARENT, span_with_parent};
use tokio::sync::mpsc;
use tracing::Instrument;
use uuid::Uuid;

use super::auth;
use super::body::{self, Encoding, Received};
use super::coding::{Coding, Encoder};
use super::multipart;
use super::params::Params;
use super::respond::{self, Channel, Origin, Sending};
use super::response::Head;
use super::{Inner, Server};
use crate::accounts::Account;
use crate::exception::{Exception, code};
use crate::execute::{ExternalTable, Job};
use crate::sql::{self, Statement};

/// An answer begins when so much of it is there, or all of it: until then an error has a status.
const BUFFER: usize = 1 << 20;
/// A statement without its rows is not longer than this.
const MAX_STATEMENT: usize = 16 << 20;
/// Ids are logged and asked for; longer ones are a mistake.
const MAX_QUERY_ID: usize = 1024;

/// Answers `GET /` and `POST /`.
pub async fn handle(State(server): State<Server>, request: Request) -> Response {
    let asks = request.uri().query().is_some_and(|query| !query.is_empty());
    if matches!(*request.method(), Method::GET | Method::HEAD) && !asks {
        return "Ok.\n".into_response();
    }
    let server = server.0;
    let mut head = Head {
        query_id: Uuid::new_v4().to_string(),
        timezone: server.core.engine.timezone().to_owned(),
        exception_tag: Uuid::new_v4().simple().to_string()[..16].to_owned(),
    };
    let span = span(request.headers());
    match answer(&server, &mut head, request).instrument(span).await {
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
    take_query_id(head, &mut params)?;
    let credentials =
        auth::credentials(&parts.headers, params.user.take(), params.password.take())?;
    let account = server.accounts.authenticate(&credentials)?;
    let encoding = Encoding {
        blocks: params.decompress,
        coding: Coding::of_body(&parts.headers)?,
    };
    let received = body::receive(body, encoding, &server.budget, server.client_timeout).await?;
    let asked = Asked::read(&parts, &received, &mut params)?;
    take_query_id(head, &mut params)?;

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
    let encoder = encoder(&parts.headers, &params)?;
    let sending = Sending {
        coding: encoder.1,
        buffer: if params.wait_end_of_query {
            usize::try_from(server.max_materialized_result).unwrap_or(usize::MAX)
        } else {
            params
                .buffer_size
                .unwrap_or(BUFFER)
                .min(usize::try_from(server.max_materialized_result).unwrap_or(usize::MAX))
        },
        wait_for_end: params.wait_end_of_query,
    };
    let job = job(server, head, &parts, asked, params, account).await?;
    let (sender, events) = mpsc::channel(2);
    let output = Channel {
        sender,
        runtime: tokio::runtime::Handle::current(),
        timeout: server.client_timeout,
        encoder: encoder.0,
        head: head.clone(),
    };
    let origin = origin(&parts);
    let blocking = Arc::clone(server);
    let span = tracing::Span::current();
    span.record("db.query.id", &head.query_id);
    // Drain waits for it even if the client goes away.
    let task = server.shutdown.spawn(async move {
        let run = move || {
            span.in_scope(|| respond::run(&blocking, job, output, origin, (place, received)));
        };
        if tokio::task::spawn_blocking(run).await.is_err() {
            tracing::error!("a query's thread panicked");
        }
    });
    drop(task);
    respond::respond(server, head, events, sending).await
}

/// The span of a query that belongs to somebody's trace; none of one that does not.
fn span(headers: &HeaderMap) -> tracing::Span {
    let Some(traceparent) = headers.get(TRACEPARENT).and_then(|text| text.to_str().ok()) else {
        return tracing::Span::none();
    };
    let span = tracing::info_span!(
        "query",
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        db.system.name = "clickhouse",
        db.operation.name = tracing::field::Empty,
        db.response.status_code = tracing::field::Empty,
        contrail.written_rows = tracing::field::Empty,
        db.query.id = tracing::field::Empty,
    );
    span_with_parent(&span, traceparent);
    span
}

fn take_query_id(head: &mut Head, params: &mut Params) -> Result<(), Exception> {
    let Some(query_id) = params.query_id.take() else {
        return Ok(());
    };
    if query_id.len() > MAX_QUERY_ID || query_id.contains('\0') {
        return Err(Exception::new(
            code::BAD_ARGUMENTS,
            "BAD_ARGUMENTS",
            &format!("query_id must be text of at most {MAX_QUERY_ID} bytes"),
        ));
    }
    head.query_id = query_id;
    Ok(())
}

/// What a request asks for: a statement, and what comes with it.
struct Asked {
    text: Bytes,
    rows: Vec<Bytes>,
    tables: Vec<ExternalTable>,
}

impl Asked {
    fn read(parts: &Parts, received: &Received, params: &mut Params) -> Result<Self, Exception> {
        let mut tables = Vec::new();
        let mut rows = Vec::new();
        let boundary = content_type(&parts.headers).and_then(multipart::boundary);
        if let Some(boundary) = &boundary {
            for field in multipart::fields(&received.joined(), boundary)? {
                if field.is_file {
                    tables.push(ExternalTable {
                        name: field.name,
                        rows: field.content,
                        ..ExternalTable::default()
                    });
                } else {
                    let value = String::from_utf8_lossy(&field.content).into_owned();
                    // Who asks was settled before the body was read.
                    if !matches!(field.name.as_str(), "user" | "password") {
                        params.put(field.name, value)?;
                    }
                }
            }
            params.check()?;
            tables
                .iter_mut()
                .for_each(|table| params.describe_table(table));
        }
        let mut text = Bytes::from(std::mem::take(&mut params.query));
        if boundary.is_some() || received.pieces.is_empty() {
            // All is in the text.
        } else if text.is_empty() {
            text = received.joined();
        } else if takes_rows(&text) {
            rows.clone_from(&received.pieces);
        } else {
            text = [&text[..], b"\n", &received.joined()[..]].concat().into();
        }
        if text.len() > MAX_STATEMENT && !takes_rows(&text) {
            return Err(Exception::new(
                code::QUERY_IS_TOO_LARGE,
                "QUERY_IS_TOO_LARGE",
                &format!("The query is longer than {MAX_STATEMENT} bytes"),
            ));
        }
        Ok(Self { text, rows, tables })
    }
}

async fn job(
    server: &Arc<Inner>,
    head: &Head,
    parts: &Parts,
    asked: Asked,
    mut params: Params,
    account: Account,
) -> Result<Job, Exception> {
    let core = &server.core;
    if params.replace_running_query {
        core.queries
            .replace(&core.engine, &head.query_id, &account)
            .await?;
    }
    let running = core.queries.begin(&head.query_id, &account)?;
    let session = match &params.session {
        Some(session) if !session.id.is_empty() => {
            Some(server.sessions.take(&account.name, session)?)
        }
        _ => None,
    };
    Ok(Job {
        query_id: head.query_id.clone(),
        text: asked.text,
        rows: asked.rows,
        tables: asked.tables,
        database: params.database.take(),
        settings: params.settings,
        parameters: params.parameters,
        default_format: params.default_format,
        account,
        session,
        protocol_version: params.protocol_version.min(core.engine.revision()),
        running,
        safe_method: parts.method != Method::POST,
        max_materialized_result: server.max_materialized_result,
    })
}

fn origin(parts: &Parts) -> Origin {
    let address = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(address)| address.ip().to_string());
    let user_agent = parts
        .headers
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.chars().take(200).collect());
    Origin {
        address: address.unwrap_or_default(),
        user_agent: user_agent.unwrap_or_default(),
    }
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

/// What compresses the answer, and the coding that its header names.
fn encoder(headers: &HeaderMap, params: &Params) -> Result<(Encoder, Option<Coding>), Exception> {
    let coding = Coding::accepted(headers).filter(|_| params.http_compression);
    let blocks = params.compress.then_some(params.method);
    // Blocks are compressed already.
    let coding = coding.filter(|_| blocks.is_none());
    let encoder = Encoder::new(blocks, coding, params.http_compression_level).map_err(|error| {
        Exception::new(
            code::LOGICAL_ERROR,
            "LOGICAL_ERROR",
            &format!("cannot compress the answer: {error}"),
        )
    })?;
    Ok((encoder, coding))
}
