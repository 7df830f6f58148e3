//! Questions to ClickHouse: the queries of the command line, and whether rows flow.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use flight::config::Secret;
use flight::tls::{self, TlsSettings};

use crate::component::Component;
use crate::components::Context;
use crate::http::{Request, Response, encode};

/// The rate shown is that of this span.
const RATE_OVER: Duration = Duration::from_secs(10);

/// Where ClickHouse is and who asks.
#[derive(Debug, Clone)]
pub struct Warehouse {
    server: Server,
    user: String,
    password: Secret,
}

/// The engine of this stack is asked without ceremony. What is external may be far and behind TLS.
#[derive(Debug, Clone)]
enum Server {
    Local { port: u16 },
    External { url: String, tls: TlsSettings },
}

impl Warehouse {
    /// The one that a stack uses.
    pub fn new(context: &Context) -> Self {
        let settings = context.clickhouse();
        let server = match context.settings.is_external(Component::Clickhouse) {
            true => Server::External {
                url: settings.url.trim_end_matches('/').to_owned(),
                tls: settings.tls,
            },
            false => Server::Local {
                port: context.port(Component::Clickhouse),
            },
        };
        Self {
            server,
            user: settings.user,
            password: settings.password,
        }
    }

    /// Runs one statement, with `parameters` for its `{name:Type}` places, and returns the answer
    /// in `format`, unless the statement names a format itself.
    ///
    /// # Errors
    /// ClickHouse is away, or its own complaint.
    pub fn query(
        &self,
        sql: &str,
        parameters: &[(String, String)],
        format: &str,
        timeout: Duration,
    ) -> Result<String, String> {
        let mut path = format!("/?default_format={format}");
        for (name, value) in parameters {
            path.push_str(&format!("&param_{}={}", encode(name), encode(value)));
        }
        let sql = sql.trim().trim_end_matches(';');
        match &self.server {
            Server::Local { port } => self.ask_local(*port, &path, sql, timeout),
            Server::External { url, tls } => self.ask_external(url, tls, &path, sql, timeout),
        }
    }

    fn ask_local(
        &self,
        port: u16,
        path: &str,
        sql: &str,
        timeout: Duration,
    ) -> Result<String, String> {
        Request {
            method: "POST",
            port,
            path,
            headers: &[
                ("X-ClickHouse-User", &self.user),
                ("X-ClickHouse-Key", self.password.expose()),
            ],
            body: sql,
            timeout,
        }
        .send()
        .map_err(|error| {
            format!(
                "ClickHouse on port {port} cannot be asked ({error}): is the stack running? \
                 `contrail status` tells"
            )
        })?
        .success()
    }

    fn ask_external(
        &self,
        url: &str,
        tls: &TlsSettings,
        path: &str,
        sql: &str,
        timeout: Duration,
    ) -> Result<String, String> {
        const CA_SETTING: &str = "clickhouse.external.tls.ca_file";
        let away = |error: reqwest::Error| {
            let why = tls::explain(&error, url, CA_SETTING);
            format!("ClickHouse at {url} cannot be asked: {why}")
        };
        let client = reqwest::blocking::Client::builder()
            .tls_backend_preconfigured(tls.connector("clickhouse.external.tls")?)
            .timeout(timeout)
            .build()
            .map_err(away)?;
        let answer = client
            .post(format!("{url}{path}"))
            .header("X-ClickHouse-User", &self.user)
            .header("X-ClickHouse-Key", self.password.expose())
            .body(sql.to_owned())
            .send()
            .map_err(away)?;
        let (status, body) = (answer.status().as_u16(), answer.text().map_err(away)?);
        Response {
            status,
            headers: Vec::new(),
            body,
        }
        .success()
    }

    /// Asks for a sign of life, as the user of the settings.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub fn ping(&self) -> Result<(), String> {
        self.query("SELECT 1", &[], "TabSeparated", Duration::from_secs(5))
            .map(drop)
    }

    /// Rows in the table of positions. ClickHouse knows it without reading any.
    ///
    /// # Errors
    /// ClickHouse is away, or the table is not there yet.
    pub fn positions(&self) -> Result<u64, String> {
        let answer = self.query(
            "SELECT count() FROM flight_data.flight_positions",
            &[],
            "TabSeparated",
            Duration::from_secs(2),
        )?;
        answer
            .trim()
            .parse()
            .map_err(|_| format!("ClickHouse answers {answer:?} to a count"))
    }
}

/// Counts over time.
#[derive(Debug, Default)]
pub struct Flow {
    counts: VecDeque<(Instant, u64)>,
}

impl Flow {
    /// Adds a count.
    pub fn push(&mut self, now: Instant, rows: u64) {
        while self
            .counts
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) > RATE_OVER)
        {
            self.counts.pop_front();
        }
        self.counts.push_back((now, rows));
    }

    /// The last count.
    pub fn rows(&self) -> Option<u64> {
        self.counts.back().map(|(_, rows)| *rows)
    }

    /// Rows per second over the last ten seconds; what archiving takes away does not count.
    pub fn rate(&self) -> Option<f64> {
        let ((began, first), (ended, last)) = (self.counts.front()?, self.counts.back()?);
        let seconds = ended.duration_since(*began).as_secs_f64();
        (seconds > 0.0).then(|| last.saturating_sub(*first) as f64 / seconds)
    }

    /// Whether rows came while this looked on.
    pub fn is_moving(&self) -> bool {
        self.rate().is_some_and(|rate| rate > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_ten_seconds() {
        let begin = Instant::now();
        let mut flow = Flow::default();
        flow.push(begin, 1000);
        assert_eq!((flow.rows(), flow.rate()), (Some(1000), None));
        assert!(!flow.is_moving());
        for second in 1..=20 {
            flow.push(begin + Duration::from_secs(second), 1000);
        }
        assert!(!flow.is_moving());
        for second in 21..=40 {
            flow.push(
                begin + Duration::from_secs(second),
                1000 + 500 * (second - 20),
            );
        }
        assert_eq!(flow.rate(), Some(500.0));
    }
}
