//! Asking a server questions, and what it read to answer them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use contrail::http::{Request, encode};
use contrail::questions::{Question, questions};
use contrail::{Component, Stack};
use flight_ingester::migrate::{MIGRATIONS, migrate};
use flight_ingester::store::Store;
use tokio::runtime::Runtime;

/// The eight questions of the seed's README.
pub const SEED: [&str; 8] = [
    "busiest_airspaces",
    "latest_position",
    "flight_path",
    "flights_in_area",
    "flights_by_hour",
    "altitude_by_hour",
    "popular_routes",
    "seasonal_pattern",
];

/// Longest wait for an answer: as long as merging a hundred million rows may take.
const LIMIT: Duration = Duration::from_secs(1200);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Tab-separated.
    pub text: String,
    /// Rows that the server read.
    pub rows_read: u64,
    /// From the request to the last byte of the answer.
    pub elapsed: Duration,
}

/// An engine with the tables as the migrations make them, and nothing in them.
///
/// # Errors
/// It does not start, or refuses a migration.
pub fn engine() -> Result<Stack> {
    let stack = Stack::builder()
        .only([Component::Clickhouse])
        .free_ports()
        .temporary_state()
        .start()?;
    let settings = stack.context().clickhouse();
    runtime()?.block_on(migrate(&Store::new(&settings)?, MIGRATIONS))?;
    Ok(stack)
}

/// A runtime for what waits for the server.
///
/// # Errors
/// The system refuses.
pub fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// One who asks the engine of a stack.
#[derive(Debug, Clone)]
pub struct Asker {
    port: u16,
    user: String,
    password: String,
}

impl Asker {
    /// Asks the stack's ClickHouse.
    pub fn new(stack: &Stack) -> Self {
        let settings = &stack.context().settings.clickhouse;
        Self {
            port: stack.port(Component::Clickhouse),
            user: settings.user.clone(),
            password: settings.password.clone(),
        }
    }

    /// A client of the clickhouse crate for the same server.
    pub fn client(&self) -> clickhouse::Client {
        clickhouse::Client::default()
            .with_url(format!("http://127.0.0.1:{}", self.port))
            .with_user(&self.user)
            .with_password(&self.password)
            .with_validation(false)
    }

    /// Runs one statement with `settings` of the server.
    ///
    /// # Errors
    /// The server is away, or its own complaint.
    pub fn ask(&self, sql: &str, settings: &[(&str, &str)]) -> Result<Answer> {
        // The summary is whole only if the answer is sent after the query's end.
        let mut path = "/?default_format=TabSeparated&wait_end_of_query=1".to_owned();
        for (name, value) in settings {
            path.push_str(&format!("&{name}={}", encode(value)));
        }
        let request = Request {
            method: "POST",
            port: self.port,
            path: &path,
            headers: &[
                ("X-ClickHouse-User", &self.user),
                ("X-ClickHouse-Key", &self.password),
            ],
            body: sql.trim().trim_end_matches(';'),
            timeout: LIMIT,
        };
        let began = Instant::now();
        let response = request.send()?;
        let elapsed = began.elapsed();
        let summary = response
            .header("x-clickhouse-summary")
            .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        let text = response
            .success()
            .map_err(|reason| anyhow!("{reason}\nto {sql}"))?;
        let rows_read = summary
            .and_then(|summary| summary["read_rows"].as_str()?.parse().ok())
            .unwrap_or(0);
        Ok(Answer {
            text,
            rows_read,
            elapsed,
        })
    }

    /// Runs one statement and returns its answer without the last line end.
    ///
    /// # Errors
    /// As [`Asker::ask`].
    pub fn value(&self, sql: &str) -> Result<String> {
        Ok(self.ask(sql, &[])?.text.trim_end().to_owned())
    }

    /// Refreshes the views from which fast variants read, one after the other.
    ///
    /// # Errors
    /// A refresh fails.
    pub fn refresh(&self) -> Result<()> {
        for view in ["h3_cells_counting", "popular_cells"] {
            // One that is under way may have begun before the last rows came.
            for statement in ["WAIT", "REFRESH", "WAIT"] {
                self.value(&format!("SYSTEM {statement} VIEW flight_data.{view}"))?;
            }
        }
        Ok(())
    }
}

/// The questions of sql/queries with their examples in their places, asked as if it were `now`
/// (seconds UTC): what is compared must not change while it is asked.
///
/// # Errors
/// A file cannot be read.
pub fn at(now: u64, folder: &Path) -> Result<Vec<Question>> {
    let fixed = |question: &Question, sql: &str| {
        let mut sql = sql
            .replace("now()", &format!("toDateTime({now}, 'UTC')"))
            .replace("today()", &format!("toDate(toDateTime({now}, 'UTC'))"));
        for (name, value) in &question.examples {
            for kind in ["String", "Float64"] {
                sql = sql.replace(&format!("{{{name}:{kind}}}"), &format!("'{value}'::{kind}"));
            }
        }
        sql
    };
    let all = questions(folder).map_err(|reason| anyhow!(reason))?;
    Ok(all
        .into_iter()
        .map(|question| Question {
            plain: fixed(&question, &question.plain),
            fast: question.fast.as_deref().map(|sql| fixed(&question, sql)),
            ..question
        })
        .collect())
}

/// The question of a name.
///
/// # Errors
/// There is none.
pub fn named<'a>(questions: &'a [Question], name: &str) -> Result<&'a Question> {
    questions
        .iter()
        .find(|question| question.name == name)
        .with_context(|| format!("there is no question {name}"))
}
