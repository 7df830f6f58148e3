//! One request on the engine. Everything here blocks and runs on a blocking thread; what comes out
//! goes through an [`Output`].

use bytes::Bytes;

use crate::engine::{Class, Connection, Engine, Stats};
use crate::exception::{Exception, code};
use crate::http::format::{self, Delivery};
use crate::sql::{self, Query, Statement};

/// What to run, and for whom.
#[derive(Debug, Default)]
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
    /// See [`crate::settings::User::readonly`].
    pub readonly: bool,
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

/// Table functions that show a reader nothing but this server's own tables, or no table at all.
const READER_TABLE_FUNCTIONS: [&str; 15] = [
    "numbers",
    "numbers_mt",
    "zeros",
    "zeros_mt",
    "primes",
    "generateseries",
    "generate_series",
    "generaterandom",
    "values",
    "null",
    "format",
    "view",
    "viewifpermitted",
    "viewexplain",
    "merge",
];

/// Functions, not table functions, that reach beyond the tables.
const READER_REFUSED_FUNCTIONS: [&str; 7] = [
    "file",
    "catboostevaluate",
    "aiclassify",
    "aiembed",
    "aiextract",
    "aigenerate",
    "aitranslate",
];

/// Statements of a reader begin with one of these, or with a bracket.
const READER_VERBS: [&str; 9] = [
    "", "SELECT", "WITH", "FROM", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS",
];

/// Runs a job.
///
/// # Errors
/// What is wrong with the request, or what the engine says.
pub fn run(
    engine: &Engine,
    job: &Job,
    output: &mut dyn Output,
) -> (JobKind, Result<Stats, Exception>) {
    let statement = sql::parse(&job.text);
    let kind = match &statement {
        Statement::Insert(_) | Statement::InsertFromInput(_) => JobKind::Insert,
        Statement::Query(query) if query.verb == "INSERT" => JobKind::Insert,
        Statement::Query(query) if READER_VERBS.contains(&query.verb.as_str()) => JobKind::Select,
        _ => JobKind::Command,
    };
    (kind, run_statement(engine, job, statement, output))
}

fn run_statement(
    engine: &Engine,
    job: &Job,
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
    if job.readonly
        && let Some(refused) = beyond_reader(engine, job, &statement)
    {
        return Err(readonly(&format!("default: {refused}")));
    }
    let connection = engine.connect(&job.query_id)?;
    prepare(&connection, job)?;
    match statement {
        Statement::Empty => unreachable!("refused above"),
        Statement::Insert(insert) => {
            refuse_change(job)?;
            let format = insert
                .format
                .or_else(|| job.default_format.clone())
                .unwrap_or_else(|| "Values".to_owned());
            let data = job.text.slice(insert.data..);
            insert_rows(&connection, job, &insert.header, &format, &data)
        }
        Statement::InsertFromInput(insert) => {
            refuse_change(job)?;
            insert_from_input(&connection, job, &insert)
        }
        Statement::Query(query) => run_query(&connection, job, &query, output),
    }
}

/// Database, settings and, last, read-only.
fn prepare(connection: &Connection<'_>, job: &Job) -> Result<(), Exception> {
    let command = |sql: String| connection.query(sql.as_bytes(), "Null", &[]).map(drop);
    if let Some(database) = &job.database
        && database != "default"
    {
        command(format!("USE {}", sql::quote_identifier(database)))?;
    }
    let mut assignments = Vec::with_capacity(job.settings.len());
    for (name, value) in &job.settings {
        if !sql::is_setting_name(name) {
            return Err(Exception::new(
                115,
                "UNKNOWN_SETTING",
                &format!("Unknown setting '{name}'"),
            ));
        }
        match (name.as_str(), value.as_str()) {
            // How `Engine::kill` finds the query.
            ("log_comment", _) => continue,
            // Clients send it with what they mean to be queries: see `refuse_change`.
            ("readonly", value) if value != "0" || !job.readonly => continue,
            ("dialect", "clickhouse") => continue,
            // In another language this server's checks would see nothing.
            ("readonly" | "dialect", _) => {
                return Err(readonly(&format!("Cannot modify '{name}' setting")));
            }
            _ => {}
        }
        assignments.push(format!("{name} = {}", sql::quote(value)));
    }
    if !assignments.is_empty() {
        command(format!("SET {}", assignments.join(", ")))?;
    }
    if job.readonly {
        // The engine's own lock behind our checks: no writes, no table functions that leave the
        // server, no further settings.
        command("SET readonly = 1".to_owned())?;
    }
    Ok(())
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

/// Inserts come neither by GET nor with readonly=1 in the request.
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

/// Why a reader may not run this; None if the engine may look at it.
fn beyond_reader(engine: &Engine, job: &Job, statement: &Statement) -> Option<String> {
    let Statement::Query(query) = statement else {
        return Some("Cannot execute query in readonly mode: it inserts".to_owned());
    };
    if !READER_VERBS.contains(&query.verb.as_str()) {
        return Some(format!(
            "Cannot execute query in readonly mode: {} is not for readers",
            query.verb
        ));
    }
    // A function may be called by its name, be an argument (`arrayMap(file, …)`), or come as a
    // parameter of type Identifier. A name with escapes may be any name.
    let beyond = |name: &str| READER_REFUSED_FUNCTIONS.contains(&name) || name.contains('\\');
    let table_function =
        |name: &str| engine.is_table_function(name) && !READER_TABLE_FUNCTIONS.contains(&name);
    let called = query.calls.iter().find(|name| table_function(name));
    let named = query.names.iter().find(|name| beyond(name));
    let identifiers = query.names.iter().any(|name| name == "identifier");
    let given = job
        .parameters
        .iter()
        .map(|(_, value)| value)
        .find(|value| identifiers && beyond(&value.trim_matches(['`', '"']).to_lowercase()));
    let refused = called.or(named).or(given)?;
    Some(format!(
        "Cannot execute query in readonly mode: function {refused} is not for readers"
    ))
}

fn run_query(
    connection: &Connection<'_>,
    job: &Job,
    query: &Query,
    output: &mut dyn Output,
) -> Result<Stats, Exception> {
    if query.into_outfile {
        return Err(Exception::new(
            code::INTO_OUTFILE_NOT_ALLOWED,
            "INTO_OUTFILE_NOT_ALLOWED",
            "INTO OUTFILE is not allowed: the result goes to the client",
        ));
    }
    if query.several {
        return Err(connection
            .syntax_error(&job.text)
            .unwrap_or_else(several_statements));
    }
    let text = &job.text[..query.end];
    let analysis = connection.classify(text);
    match (analysis.statements, analysis.class) {
        (1, Class::ReadOnly) => {}
        (1, Class::Mutating | Class::MutatingGlobal | Class::Control) => {
            refuse_change(job)?;
            if job.readonly {
                return Err(readonly("default: Cannot execute query in readonly mode"));
            }
        }
        (0, _) | (1, Class::Unknown) => {
            // Not parsed, or not known: the engine's own words for what is wrong. What it then
            // cannot fault is one statement.
            if let Some(exception) = connection.syntax_error(text) {
                return Err(exception);
            }
            refuse_change(job)?;
            if job.readonly {
                return Err(readonly("default: Cannot execute query in readonly mode"));
            }
        }
        _ => {
            return Err(connection
                .syntax_error(text)
                .unwrap_or_else(several_statements));
        }
    }

    let format = query
        .format
        .as_deref()
        .or(job.default_format.as_deref())
        .unwrap_or("TabSeparated");
    output.begin(format, analysis.class == Class::ReadOnly)?;
    let selects = matches!(query.verb.as_str(), "SELECT" | "WITH" | "FROM" | "");
    let delivery = if selects && analysis.class == Class::ReadOnly && !one_document(job) {
        format::delivery(format)
    } else {
        Delivery::Whole
    };
    match delivery {
        Delivery::Whole => whole(connection, job, text, format, output),
        pieces => stream(connection, job, text, format, pieces, output),
    }
}

/// A setting that puts brackets around formats which otherwise have no beginning and end.
fn one_document(job: &Job) -> bool {
    const ARRAY: &[u8] = b"output_format_json_array_of_rows";
    job.settings
        .iter()
        .any(|(name, _)| name.as_bytes() == ARRAY)
        || job.text.windows(ARRAY.len()).any(|window| window == ARRAY)
}

fn stream(
    connection: &Connection<'_>,
    job: &Job,
    text: &[u8],
    format: &str,
    delivery: Delivery,
    output: &mut dyn Output,
) -> Result<Stats, Exception> {
    let mut stats = Stats::default();
    let mut header: Option<Bytes> = None;
    let mut stream = connection.stream(text, format, &job.parameters)?;
    while let Some(piece) = stream.next_piece()? {
        stats += piece.stats();
        let mut bytes = Bytes::from_owner(piece);
        if let Delivery::Headed(rule) = delivery {
            match &header {
                None => header = Some(bytes.slice(..rule.length(&bytes))),
                Some(header) if bytes.starts_with(header) => bytes = bytes.slice(header.len()..),
                Some(_) => {}
            }
        }
        if !bytes.is_empty() {
            output.piece(bytes, &stats)?;
        }
    }
    Ok(stats)
}

fn whole(
    connection: &Connection<'_>,
    job: &Job,
    text: &[u8],
    format: &str,
    output: &mut dyn Output,
) -> Result<Stats, Exception> {
    let answer = connection.query(text, format, &job.parameters)?;
    let stats = answer.stats();
    if stats.result_bytes > job.max_materialized_result {
        return Err(Exception::new(
            396,
            "TOO_MANY_ROWS_OR_BYTES",
            &format!(
                "Limit for result exceeded: {} bytes of format {format}, which is not sent while \
                 the query runs, maximum: {} (setting max_materialized_result). Ask for fewer \
                 rows, or in a format such as RowBinary, TabSeparated, CSV or JSONEachRow",
                stats.result_bytes, job.max_materialized_result
            ),
        ));
    }
    let bytes = Bytes::from_owner(answer);
    if !bytes.is_empty() {
        output.piece(bytes, &stats)?;
    }
    Ok(stats)
}

fn insert_rows(
    connection: &Connection<'_>,
    job: &Job,
    header: &[u8],
    format: &str,
    first: &[u8],
) -> Result<Stats, Exception> {
    if format.eq_ignore_ascii_case("Values") {
        // The engine stops reading at a semicolon, and would drop what follows in silence.
        let rows = [
            &[first],
            &job.rows.iter().map(AsRef::as_ref).collect::<Vec<_>>()[..],
        ]
        .concat();
        if sql::goes_on_behind_semicolon(&rows.concat()) {
            return Err(several_statements());
        }
    }
    let mut stream = connection.insert(header, format, &job.parameters)?;
    stream.append(first)?;
    for rows in &job.rows {
        stream.append(rows)?;
    }
    stream.commit()
}

/// `INSERT … SELECT … FROM input(…)`: the rows go to a table in memory that lives as long as the
/// connection, and are selected from there. libchdb's insert stream takes no SELECT.
fn insert_from_input(
    connection: &Connection<'_>,
    job: &Job,
    insert: &sql::InputSelect,
) -> Result<Stats, Exception> {
    const TABLE: &str = "_rows_of_input";
    let create = format!(
        "CREATE TEMPORARY TABLE {TABLE} ({}) ENGINE = Memory",
        insert.structure
    );
    let one = |analysis: crate::engine::Analysis, class| {
        analysis.statements == 1 && analysis.class == class
    };
    if !one(connection.classify(create.as_bytes()), Class::Control) {
        return Err(Exception::new(
            code::BAD_ARGUMENTS,
            "BAD_ARGUMENTS",
            "the argument of input() is not a list of columns and types",
        ));
    }
    let mut select = insert.before.clone();
    select.extend_from_slice(TABLE.as_bytes());
    select.extend_from_slice(&insert.after);
    if !one(connection.classify(&select), Class::Mutating) {
        return Err(connection.syntax_error(&select).unwrap_or_else(|| {
            Exception::new(
                code::NOT_IMPLEMENTED,
                "NOT_IMPLEMENTED",
                "input() is understood in INSERT INTO … SELECT … FROM input('columns') … FORMAT",
            )
        }));
    }
    connection.query(create.as_bytes(), "Null", &[])?;
    let into = format!("INSERT INTO {TABLE}");
    let first = job.text.slice(insert.data..);
    insert_rows(connection, job, into.as_bytes(), &insert.format, &first)?;
    Ok(connection.query(&select, "Null", &job.parameters)?.stats())
}
