//! INSERTs of rows.

use super::{Job, several_statements};
use crate::engine::{Analysis, Class, Connection, Stats};
use crate::exception::{Exception, code};
use crate::sql;

/// Inserts the rows that follow the statement, and those of the request's body.
pub(super) fn rows(
    connection: &Connection,
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
    job.running.check()?;
    stream.commit()
}

/// `INSERT … SELECT … FROM input(…)`: the rows go to a table in memory that lives as long as the
/// statement, and are selected from there. libchdb's insert stream takes no SELECT.
pub(super) fn from_input(
    connection: &Connection,
    job: &Job,
    insert: &sql::InputSelect,
) -> Result<Stats, Exception> {
    const TABLE: &str = "_rows_of_input";
    let mut select = insert.before.clone();
    select.extend_from_slice(TABLE.as_bytes());
    select.extend_from_slice(&insert.after);
    if !is_one(connection.classify(&select), Class::Mutating) {
        return Err(connection.syntax_error(&select).unwrap_or_else(|| {
            Exception::new(
                code::NOT_IMPLEMENTED,
                "NOT_IMPLEMENTED",
                "input() is understood in INSERT INTO … SELECT … FROM input('columns') … FORMAT",
            )
        }));
    }
    create(
        connection,
        TABLE,
        &insert.structure,
        "the argument of input()",
    )?;
    let into = format!("INSERT INTO {TABLE}");
    let first = job.text.slice(insert.data..);
    let outcome = rows(connection, job, into.as_bytes(), &insert.format, &first)
        .and_then(|_| connection.query(&select, "Null", &job.parameters));
    // A session would keep it.
    let _ = super::prepare::command(connection, &format!("DROP TEMPORARY TABLE {TABLE}"));
    Ok(outcome?.stats())
}

/// Makes a temporary table of columns that a client wrote down.
pub(super) fn create(
    connection: &Connection,
    quoted_name: &str,
    structure: &str,
    what: &str,
) -> Result<(), Exception> {
    let sql = format!("CREATE TEMPORARY TABLE {quoted_name} ({structure}) ENGINE = Memory");
    // The list must be no more than a list: it may not close its bracket and go on.
    let closed = sql::brackets_are_closed(structure.as_bytes());
    if !closed || !is_one(connection.classify(sql.as_bytes()), Class::Control) {
        return Err(Exception::new(
            code::BAD_ARGUMENTS,
            "BAD_ARGUMENTS",
            &format!("{what} is not a list of columns and types: {structure}"),
        ));
    }
    connection.query(sql.as_bytes(), "Null", &[]).map(drop)
}

fn is_one(analysis: Analysis, class: Class) -> bool {
    analysis.statements == 1 && analysis.class == class
}
