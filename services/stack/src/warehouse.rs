//! Questions to ClickHouse: the queries of the command line, and whether rows flow.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::component::Component;
use crate::components::Context;
use crate::http::{Request, encode};

/// The rate shown is that of this span.
const RATE_OVER: Duration = Duration::from_secs(10);

/// Where ClickHouse is and who asks.
#[derive(Debug, Clone)]
pub struct Warehouse {
    port: u16,
    user: String,
    password: String,
}

impl Warehouse {
    /// The stack's own.
    pub fn new(context: &Context) -> Self {
        let settings = &context.settings.clickhouse;
        Self {
            port: context.port(Component::Clickhouse),
            user: settings.user.clone(),
            password: settings.password.clone(),
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
        Request {
            method: "POST",
            port: self.port,
            path: &path,
            headers: &[
                ("X-ClickHouse-User", &self.user),
                ("X-ClickHouse-Key", &self.password),
            ],
            body: sql.trim().trim_end_matches(';'),
            timeout,
        }
        .send()
        .map_err(|error| {
            format!(
                "ClickHouse on port {} cannot be asked ({error}): is the stack running? `contrail \
                 status` tells",
                self.port
            )
        })?
        .success()
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
