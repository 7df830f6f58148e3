//! A connection made ready for one request: database, limits of the user, settings of the request.

use super::{Job, readonly};
use crate::engine::Connection;
use crate::exception::{Exception, code};
use crate::sql::{self, Statement};

/// What a connection goes back to behind a request, if it is kept for a session.
#[derive(Debug)]
pub(super) struct Restore {
    is_kept: bool,
    statements: Vec<String>,
}

impl Restore {
    /// Nothing yet. Where the connection is not kept, nothing ever.
    pub(super) fn new(is_kept: bool) -> Self {
        Self {
            is_kept,
            statements: Vec::new(),
        }
    }

    /// Keeps what these settings are now.
    ///
    /// # Errors
    /// What the engine says.
    pub(super) fn keep(
        &mut self,
        connection: &Connection,
        names: &[&str],
    ) -> Result<(), Exception> {
        if names.is_empty() || !self.is_kept {
            return Ok(());
        }
        let list: Vec<String> = names.iter().map(|name| sql::quote(name)).collect();
        let ask = format!(
            "SELECT arrayStringConcat(groupArray(name || ' = ' || quoted), ', ') FROM \
             (SELECT name, '\\'' || replaceAll(replaceAll(value, '\\\\', '\\\\\\\\'), '\\'', '\\\\\\'') \
             || '\\'' AS quoted FROM system.settings WHERE name IN ({}))",
            list.join(", ")
        );
        let answer = connection.query(ask.as_bytes(), "RawBLOB", &[])?;
        let assignments = String::from_utf8_lossy(answer.as_ref()).into_owned();
        if !assignments.is_empty() {
            self.then(format!("SET {assignments}"));
        }
        Ok(())
    }

    fn keep_database(&mut self, connection: &Connection) -> Result<(), Exception> {
        if !self.is_kept {
            return Ok(());
        }
        let answer = connection.query(b"SELECT currentDatabase()", "RawBLOB", &[])?;
        let database = String::from_utf8_lossy(answer.as_ref()).into_owned();
        self.then(format!("USE {}", sql::quote_identifier(&database)));
        Ok(())
    }

    /// Runs a statement when the request is over.
    pub(super) fn then(&mut self, statement: String) {
        if self.is_kept {
            self.statements.push(statement);
        }
    }

    /// Brings the connection back; false if it cannot be, and must not be used any more.
    pub(super) fn restore(self, connection: &Connection) -> bool {
        self.statements
            .iter()
            .rev()
            .all(|statement| match command(connection, statement) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(%error, "cannot bring a session back behind a request");
                    false
                }
            })
    }
}

/// Runs a statement of this server's own.
pub(super) fn command(connection: &Connection, statement: &str) -> Result<(), Exception> {
    connection
        .query(statement.as_bytes(), "Null", &[])
        .map(drop)
}

/// Database, limits and settings. `was_used`: by an earlier request of the session.
pub(super) fn prepare(
    connection: &Connection,
    job: &Job,
    statement: &Statement,
    was_used: bool,
    restore: &mut Restore,
) -> Result<(), Exception> {
    if was_used {
        // How `Engine::kill` finds the query. Who made the session's settings read-only cannot be
        // found; the query runs all the same.
        let _ = command(
            connection,
            &format!("SET log_comment = {}", sql::quote(&job.query_id)),
        );
    }
    if let Some(database) = &job.database
        && (database != "default" || was_used)
    {
        restore.keep_database(connection)?;
        command(
            connection,
            &format!("USE {}", sql::quote_identifier(database)),
        )?;
    }
    limit(connection, job, statement)?;
    let settings = settings(job)?;
    if settings.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = settings.iter().map(|(name, _)| *name).collect();
    restore.keep(connection, &names)?;
    let assignments: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("{name} = {}", sql::quote(value)))
        .collect();
    command(connection, &format!("SET {}", assignments.join(", ")))
}

/// The user's limits: values, and the engine's constraints, which nothing in a statement can lift.
fn limit(connection: &Connection, job: &Job, statement: &Statement) -> Result<(), Exception> {
    let limits = &job.account.limits;
    if limits.is_empty() {
        return Ok(());
    }
    // Neither a setting of a subquery nor what resets one is held against a constraint.
    if let Statement::Query(query) = statement
        && (query.verb == "SET" || query.names.iter().any(|name| name == "settings"))
    {
        let bound =
            |name: &String| limits.of(name).is_some() || name == "profile" || name.contains('\\');
        if let Some(name) = query.names.iter().find(|name| bound(name)) {
            return Err(constraint(&format!(
                "Setting {name} shouldn't be changed in a statement: it is limited for user {}. \
                 Less than the limit may come with the request",
                job.account.name
            )));
        }
    }
    command(
        connection,
        &format!("SET profile = {}", sql::quote(&job.account.limits_profile)),
    )?;
    let assignments: Vec<String> = limits
        .set()
        .map(|(name, most)| format!("{name} = {most}"))
        .collect();
    command(connection, &format!("SET {}", assignments.join(", ")))
}

fn constraint(message: &str) -> Exception {
    Exception::new(
        code::SETTING_CONSTRAINT_VIOLATION,
        "SETTING_CONSTRAINT_VIOLATION",
        message,
    )
}

/// The settings that came with the request and are the engine's to know.
fn settings(job: &Job) -> Result<Vec<(&str, &str)>, Exception> {
    let mut settings = Vec::with_capacity(job.settings.len());
    for (name, value) in &job.settings {
        let (name, value) = (name.as_str(), value.as_str());
        if !sql::is_setting_name(name) {
            return Err(Exception::new(
                code::UNKNOWN_SETTING,
                "UNKNOWN_SETTING",
                &format!("Unknown setting '{name}'"),
            ));
        }
        match (name, value) {
            // How `Engine::kill` finds the query.
            ("log_comment", _) => continue,
            // Clients send it with what they mean to be queries: see `refuse_change`.
            ("readonly", value) if value != "0" || !job.account.readonly => continue,
            ("dialect", "clickhouse") => continue,
            // In another language this server's checks would see nothing.
            ("readonly" | "dialect", _) => {
                return Err(readonly(&format!("Cannot modify '{name}' setting")));
            }
            ("profile", _) if !job.account.limits.is_empty() => {
                return Err(constraint("Setting profile shouldn't be changed"));
            }
            _ => {}
        }
        settings.push((name, value));
    }
    Ok(settings)
}
