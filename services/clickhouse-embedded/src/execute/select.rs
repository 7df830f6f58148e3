//! Everything that is no INSERT of rows: what it may be, and how its result goes out.

use bytes::Bytes;

use super::prepare::{self, Restore};
use super::{Job, Output, native, readonly, refuse_change, several_statements};
use crate::engine::{Class, Connection, Stats};
use crate::exception::{Exception, code};
use crate::http::format::{self, Delivery};
use crate::sql::Query;

/// Runs a statement without rows. Also tells its class.
pub(super) fn run(
    connection: &Connection,
    job: &Job,
    query: &Query,
    restore: &mut Restore,
    output: &mut dyn Output,
) -> (Class, Result<Stats, Exception>) {
    if query.into_outfile {
        let refused = Exception::new(
            code::INTO_OUTFILE_NOT_ALLOWED,
            "INTO_OUTFILE_NOT_ALLOWED",
            "INTO OUTFILE is not allowed: the result goes to the client",
        );
        return (Class::Unknown, Err(refused));
    }
    let class = match class(connection, job, query) {
        Ok(class) => class,
        Err(exception) => return (Class::Unknown, Err(exception)),
    };
    (
        class,
        answer(connection, job, query, class, restore, output),
    )
}

/// What the statement does, if it is one and may run.
fn class(connection: &Connection, job: &Job, query: &Query) -> Result<Class, Exception> {
    if query.several {
        return Err(connection
            .syntax_error(&job.text)
            .unwrap_or_else(several_statements));
    }
    let text = &job.text[..query.end];
    let analysis = connection.classify(text);
    let changes = |class| {
        refuse_change(job)?;
        if job.account.readonly {
            return Err(readonly("Cannot execute query in readonly mode"));
        }
        Ok(class)
    };
    match (analysis.statements, analysis.class) {
        (1, Class::ReadOnly) => Ok(Class::ReadOnly),
        (1, class @ (Class::Mutating | Class::MutatingGlobal | Class::Control)) => changes(class),
        // Not parsed, or not known: the engine's own words for what is wrong. What it then cannot
        // fault is one statement.
        (0, _) | (1, Class::Unknown) => match connection.syntax_error(text) {
            Some(exception) => Err(exception),
            None => changes(Class::Unknown),
        },
        _ => Err(connection
            .syntax_error(text)
            .unwrap_or_else(several_statements)),
    }
}

fn answer(
    connection: &Connection,
    job: &Job,
    query: &Query,
    class: Class,
    restore: &mut Restore,
    output: &mut dyn Output,
) -> Result<Stats, Exception> {
    let format = query
        .format
        .as_deref()
        .or(job.default_format.as_deref())
        .unwrap_or("TabSeparated");
    output.begin(format, class == Class::ReadOnly)?;
    let selects = matches!(query.verb.as_str(), "SELECT" | "WITH" | "FROM" | "");
    let selects = selects && class == Class::ReadOnly;
    let native = job.protocol_version > 0 && format.eq_ignore_ascii_case("Native");
    let delivery = if selects && !one_document(job) {
        format::delivery(format)
    } else {
        Delivery::Whole
    };
    // Null keeps nothing of what it is given.
    let document = selects && delivery == Delivery::Whole && !format.eq_ignore_ascii_case("Null");
    lock(connection, job, document, restore)?;
    job.running.check()?;
    let text = &job.text[..query.end];
    match delivery {
        _ if native && selects => native::stream(connection, job, query, output),
        Delivery::Whole => whole(connection, job, text, format, native, output),
        pieces => stream(connection, job, text, format, pieces, output),
    }
}

/// The last settings: a limit for what is kept in memory, and the reader's lock.
fn lock(
    connection: &Connection,
    job: &Job,
    document: bool,
    restore: &mut Restore,
) -> Result<(), Exception> {
    const LIMIT: &str = "max_result_bytes";
    let asked = job
        .settings
        .iter()
        .rfind(|(name, _)| name == LIMIT)
        .and_then(|(_, value)| value.parse().ok())
        .filter(|asked| *asked > 0);
    let smaller = [asked, job.account.limits.of(LIMIT)]
        .into_iter()
        .flatten()
        .any(|limit| limit <= job.max_materialized_result);
    let mut assignments = Vec::new();
    if document && !smaller {
        restore.keep(connection, &[LIMIT])?;
        assignments.push(format!("{LIMIT} = {}", job.max_materialized_result));
    }
    if job.account.readonly {
        // The engine's own lock behind our checks: no writes, no table functions that leave the
        // server, no further settings.
        assignments.push("readonly = 1".to_owned());
    }
    if assignments.is_empty() {
        return Ok(());
    }
    prepare::command(connection, &format!("SET {}", assignments.join(", ")))
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
    connection: &Connection,
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
        match (delivery, &header) {
            (Delivery::Headed(rule), None) => header = Some(bytes.slice(..rule.length(&bytes))),
            (Delivery::Headed(_), Some(header)) if bytes.starts_with(header) => {
                bytes = bytes.slice(header.len()..);
            }
            (Delivery::Separated(separator), None) => {
                header = Some(Bytes::from_static(separator.as_bytes()));
            }
            (Delivery::Separated(_), Some(separator)) if !bytes.is_empty() => {
                output.piece(separator.clone(), &stats)?;
            }
            _ => {}
        }
        if !bytes.is_empty() {
            output.piece(bytes, &stats)?;
        }
    }
    Ok(stats)
}

fn whole(
    connection: &Connection,
    job: &Job,
    text: &[u8],
    format: &str,
    native: bool,
    output: &mut dyn Output,
) -> Result<Stats, Exception> {
    let answer = connection.query(text, format, &job.parameters)?;
    let stats = answer.stats();
    if stats.result_bytes > job.max_materialized_result {
        return Err(Exception::new(
            code::TOO_MANY_ROWS_OR_BYTES,
            "TOO_MANY_ROWS_OR_BYTES",
            &format!(
                "Limit for result exceeded: {} bytes of format {format}, which is not sent while \
                 the query runs, maximum: {} (setting max_materialized_result). Ask for fewer \
                 rows, or in a format such as RowBinary, TabSeparated, CSV or JSONEachRow",
                stats.result_bytes, job.max_materialized_result
            ),
        ));
    }
    let mut bytes = Bytes::from_owner(answer);
    if native {
        bytes = native::rewrite(&bytes, job.protocol_version)?;
    }
    if !bytes.is_empty() {
        output.piece(bytes, &stats)?;
    }
    Ok(stats)
}
