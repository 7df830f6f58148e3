//! Statements that this server answers itself: the engine knows neither the ids of queries nor the
//! query log.

use std::time::Duration;

use super::{Core, Job, Output};
use crate::engine::Stats;
use crate::exception::Exception;
use crate::sql::{self, Control};

/// How long SYSTEM FLUSH LOGS waits.
const FLUSH: Duration = Duration::from_secs(10);
/// How long KILL QUERY … SYNC waits.
const SYNC: Duration = Duration::from_secs(60);

/// Runs one of them.
///
/// # Errors
/// What the engine says of the condition, or of the format.
pub(super) fn run(
    core: &Core,
    job: &Job,
    control: &Control,
    output: &mut dyn Output,
) -> Result<Stats, Exception> {
    match control {
        Control::FlushLogs => {
            output.begin("TabSeparated", false)?;
            core.log.flush(FLUSH);
            Ok(Stats::default())
        }
        Control::KillQuery(kill) => kill_query(core, job, kill, output),
    }
}

/// `KILL QUERY WHERE …`: the condition is asked of `system.processes` with the ids and users that
/// clients know.
fn kill_query(
    core: &Core,
    job: &Job,
    kill: &sql::KillQuery,
    output: &mut dyn Output,
) -> Result<Stats, Exception> {
    let users = core.queries.users();
    let list = |texts: Vec<&str>| {
        let quoted: Vec<String> = texts.into_iter().map(sql::quote).collect();
        format!("[{}]", quoted.join(", "))
    };
    let ids = list(users.iter().map(|(id, _)| id.as_str()).collect());
    let names = list(users.iter().map(|(_, user)| user.as_str()).collect());
    let from = format!(
        "FROM (SELECT * EXCEPT (query_id, user), Settings['log_comment'] AS query_id, \
         arrayElementOrNull({names}, indexOf({ids}, query_id)) AS user \
         FROM system.processes) WHERE has({ids}, query_id) AND query_id != {} AND (",
        sql::quote(&job.query_id),
    );
    let select = |columns: &str| {
        let mut text = format!("SELECT {columns} {from}").into_bytes();
        text.extend_from_slice(&kill.condition);
        // On a line of its own: the condition may end with a comment.
        text.extend_from_slice(b"\n)");
        text
    };
    let connection = core.engine.connect(&job.query_id)?;
    let found = select("query_id");
    // The condition may not close the bracket and go on.
    if !sql::brackets_are_closed(&kill.condition) || connection.classify(&found).statements != 1 {
        return Err(connection
            .syntax_error(&job.text)
            .or_else(|| connection.syntax_error(&found))
            .unwrap_or_else(super::several_statements));
    }
    let format = kill
        .format
        .as_deref()
        .or(job.default_format.as_deref())
        .unwrap_or("TabSeparated");
    output.begin(format, false)?;
    let answer = connection.query(&found, "JSONCompactStringsEachRow", &job.parameters)?;
    let status = if kill.test {
        "unknown_status"
    } else {
        "waiting"
    };
    let table = connection.query(
        &select(&format!("'{status}' AS kill_status, query_id, user, query")),
        format,
        &job.parameters,
    )?;
    let found: Vec<String> = String::from_utf8_lossy(answer.as_ref())
        .lines()
        .filter_map(|line| serde_json::from_str::<Vec<String>>(line).ok()?.pop())
        .collect();
    if !kill.test {
        for query_id in &found {
            core.queries.cancel(&core.engine, query_id);
        }
        let deadline = std::time::Instant::now() + SYNC;
        let runs = || {
            let users = core.queries.users();
            found
                .iter()
                .any(|id| users.iter().any(|(running, _)| running == id))
        };
        while kill.sync && runs() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let stats = table.stats();
    let bytes = bytes::Bytes::from_owner(table);
    if !bytes.is_empty() {
        output.piece(bytes, &stats)?;
    }
    Ok(stats)
}
