//! What a read-only user may run. Table functions are refused unless they are listed here; behind
//! this stands the engine's own `readonly`.

use super::{Job, readonly};
use crate::engine::Engine;
use crate::exception::Exception;
use crate::sql::Statement;

/// Table functions that show a reader nothing but this server's own tables, or no table at all.
pub const READER_TABLE_FUNCTIONS: [&str; 15] = [
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
const READER_REFUSED_FUNCTIONS: [&str; 8] = [
    "file",
    "catboostevaluate",
    "aiclassify",
    "aiembed",
    "aiextract",
    "aigenerate",
    "aitranslate",
    "getclienthttpheader",
];

/// Statements of a reader begin with one of these, or with a bracket.
pub(super) const READER_VERBS: [&str; 9] = [
    "", "SELECT", "WITH", "FROM", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS",
];

/// Refuses what a reader may not run. What passes, the engine may look at.
///
/// # Errors
/// 164, with the reason.
pub(super) fn check(engine: &Engine, job: &Job, statement: &Statement) -> Result<(), Exception> {
    let refuse = |what: &str| {
        Err(readonly(&format!(
            "{}: Cannot execute query in readonly mode: {what}",
            job.account.name
        )))
    };
    let Statement::Query(query) = statement else {
        return refuse("it inserts");
    };
    if !READER_VERBS.contains(&query.verb.as_str()) {
        return refuse(&format!("{} is not for readers", query.verb));
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
    match called.or(named).or(given) {
        Some(function) => refuse(&format!("function {function} is not for readers")),
        None => Ok(()),
    }
}
