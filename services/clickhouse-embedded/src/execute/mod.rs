//! One request on the engine. Everything here blocks and runs on a blocking thread; what comes out
//! goes through an [`Output`].

pub mod access;
mod control;
mod external;
mod insert;
mod native;
mod prepare;
mod select;

use std::sync::Arc;

use bytes::Bytes;

use crate::accounts::Account;
use crate::engine::{Class, Connection, Engine, Stats};
use crate::exception::{Exception, code};
use crate::queries::{Queries, Running};
use crate::query_log::QueryLog;
use crate::sessions::Lease;
use crate::sql::{self, Statement};
pub use external::ExternalTable;
use prepare::Restore;

/// What every job works with.
#[derive(Debug, Clone)]
pub struct Core {
    /// Runs statements.
    pub engine: Arc<Engine>,
    /// What runs.
    pub queries: Queries,
    /// What ran.
    pub log: QueryLog,
}

/// What to run, and for whom.
#[derive(Debug)]
pub struct Job {
    /// Names the query for [`Engine::kill`].
    pub query_id: String,
    /// The statement. Rows may follow it.
    pub text: Bytes,
    /// What the request's body holds beyond `text`: rows.
    pub rows: Vec<Bytes>,
    /// The database that unqualified names are of.
    pub database: Option<String>,
    /// Settings for this request, in their order.
    pub settings: Vec<(String, String)>,
    /// Values of `{name:Type}`.
    pub parameters: Vec<(String, String)>,
    /// The format where the statement names none.
    pub default_format: Option<String>,
    /// For whom.
    pub account: Account,
    /// The session that it belongs to.
    pub session: Option<Lease>,
    /// Tables that came with it.
    pub tables: Vec<ExternalTable>,
    /// `client_protocol_version`: what the client knows of the format Native; 0 is the oldest.
    pub protocol_version: u64,
    /// Its place among the queries that run.
    pub running: Running,
    /// The request came by GET, which changes nothing.
    pub safe_method: bool,
    /// See [`crate::settings::Settings::max_materialized_result`].
    pub max_materialized_result: u64,
}

/// What kind of statement a job turned out to be, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// Asks.
    Select,
    /// Brings rows.
    Insert,
    /// Changes or controls something else.
    Command,
}

/// Where a job's result goes.
pub trait Output {
    /// Learns the format of the result, before its first piece, and whether the query only reads,
    /// so that nothing is lost if it is cancelled when the client goes away.
    ///
    /// # Errors
    /// The client went away already.
    fn begin(&mut self, format: &str, reads: bool) -> Result<(), Gone>;
    /// Takes a piece of the result.
    ///
    /// # Errors
    /// Nobody takes it any more.
    fn piece(&mut self, piece: Bytes, so_far: &Stats) -> Result<(), Gone>;
}

/// The client went away.
#[derive(Debug)]
pub struct Gone;

impl From<Gone> for Exception {
    fn from(_: Gone) -> Self {
        Exception::new(
            code::NETWORK_ERROR,
            "NETWORK_ERROR",
            "the client takes no more of the result",
        )
    }
}

/// What became of a job.
#[derive(Debug)]
pub struct Ended {
    /// What it was.
    pub kind: JobKind,
    /// Its first word, capitalised.
    pub verb: String,
    /// Where in its text the rows begin, if there are some.
    pub statement_end: usize,
    /// What it cost, or what went wrong.
    pub outcome: Result<Stats, Exception>,
}

/// Runs a job.
pub fn run(core: &Core, job: &mut Job, output: &mut dyn Output) -> Ended {
    let statement = sql::parse(&job.text);
    let (kind, verb, statement_end) = match &statement {
        Statement::Insert(insert) => (JobKind::Insert, "INSERT", insert.data),
        Statement::InsertFromInput(insert) => (JobKind::Insert, "INSERT", insert.data),
        Statement::Query(query) => {
            let kind = match query.verb.as_str() {
                "INSERT" => JobKind::Insert,
                verb if access::READER_VERBS.contains(&verb) => JobKind::Select,
                _ => JobKind::Command,
            };
            (kind, query.verb.as_str(), query.end)
        }
        Statement::Control(_) => (JobKind::Command, "SYSTEM", job.text.len()),
        Statement::Empty => (JobKind::Command, "", 0),
    };
    let verb = match verb {
        "" | "WITH" | "FROM" => "Select".to_owned(),
        verb => capitalised(verb),
    };
    Ended {
        kind,
        verb,
        statement_end,
        outcome: run_statement(core, job, statement, output),
    }
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(word.len().min(1));
    first.to_uppercase() + &rest.to_lowercase()
}

fn run_statement(
    core: &Core,
    job: &mut Job,
    statement: Statement,
    output: &mut dyn Output,
) -> Result<Stats, Exception> {
    if let Statement::Empty = statement {
        return Err(Exception::new(
            code::EMPTY_QUERY,
            "EMPTY_QUERY",
            "Empty query",
        ));
    }
    if job.account.readonly {
        access::check(&core.engine, job, &statement)?;
    }
    if let Statement::Control(control) = &statement {
        refuse_change(job)?;
        return control::run(core, job, control, output);
    }
    job.running.check()?;
    let kept = job
        .session
        .as_mut()
        .and_then(|session| session.connection.take());
    let was_used = kept.is_some();
    let connection = match kept {
        Some(connection) => connection,
        None => core.engine.connect(&job.query_id)?,
    };
    // What a session had, it keeps; what it did not have, it has from the first statement on that
    // may leave something behind. A reader's leaves nothing.
    let may_leave = match &statement {
        Statement::Query(query) => !access::READER_VERBS.contains(&query.verb.as_str()),
        _ => false,
    };
    let keeps = job.session.is_some() && !job.account.readonly && (was_used || may_leave);
    let mut restore = Restore::new(keeps);
    let (class, outcome) = run_on(&connection, job, &statement, was_used, &mut restore, output);
    let left = matches!(class, Class::Control | Class::Unknown) && outcome.is_ok();
    if let Some(session) = &mut job.session
        && keeps
        && (was_used || left)
        && restore.restore(&connection)
    {
        session.connection = Some(connection);
    }
    outcome
}

/// Runs a statement on its connection, and tells its class.
fn run_on(
    connection: &Connection,
    job: &Job,
    statement: &Statement,
    was_used: bool,
    restore: &mut Restore,
    output: &mut dyn Output,
) -> (Class, Result<Stats, Exception>) {
    let prepared = prepare::prepare(connection, job, statement, was_used, restore)
        .and_then(|()| external::create(connection, &job.tables, restore));
    if let Err(exception) = prepared {
        return (Class::ReadOnly, Err(exception));
    }
    match statement {
        Statement::Insert(insert) => {
            let format = insert
                .format
                .as_deref()
                .or(job.default_format.as_deref())
                .unwrap_or("Values");
            let data = job.text.slice(insert.data..);
            let outcome = refuse_change(job)
                .and_then(|()| insert::rows(connection, job, &insert.header, format, &data));
            (Class::Mutating, outcome)
        }
        Statement::InsertFromInput(insert) => {
            let outcome =
                refuse_change(job).and_then(|()| insert::from_input(connection, job, insert));
            (Class::Mutating, outcome)
        }
        Statement::Query(query) => select::run(connection, job, query, restore, output),
        // Answered before there is a connection.
        Statement::Empty | Statement::Control(_) => (Class::ReadOnly, Ok(Stats::default())),
    }
}

fn several_statements() -> Exception {
    Exception::new(
        code::SYNTAX_ERROR,
        "SYNTAX_ERROR",
        "Syntax error (Multi-statements are not allowed)",
    )
}

fn readonly(message: &str) -> Exception {
    Exception::new(code::READONLY, "READONLY", message)
}

/// What changes something comes neither by GET nor with readonly=1 in the request.
fn refuse_change(job: &Job) -> Result<(), Exception> {
    let asked = |(name, value): &(String, String)| name == "readonly" && value != "0";
    if job.safe_method || job.settings.iter().any(asked) {
        return Err(readonly(
            "Cannot execute query in readonly mode. For queries over HTTP, method GET implies \
             readonly. You should use method POST for modifying queries",
        ));
    }
    Ok(())
}
