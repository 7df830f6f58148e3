//! `contrail exporter`: tells Prometheus what no service can tell of itself: how far the ingester lags
//! behind Kafka while it is away, how old the newest position is, whether any event is missing or
//! doubled, and which component of the local stack is away.
//!
//! Everything that Kafka and ClickHouse are asked here is asked from outside and changes nothing, but for
//! the ledger of gaps, in which every check writes down how far it came.

mod certificates;
pub mod metrics;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flight::admin::{self, Admin};
use flight::shutdown::{DRAIN_LIMIT, Shutdown};

use crate::clock::now_ms;
use crate::control::{self, Request};
use crate::gaps::{self, Options};
use crate::layout::Layout;
use crate::supervisor::machine::State;
use crate::verify::kafka::Cluster;
use crate::verify::tables::{ROWS, Tables};
use crate::verify::{VerifyError, VerifySettings};
use metrics::Metrics;

/// Between two looks at what is cheap to see.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Newest events of a source among which every account looks for duplicates.
const RECENT: i64 = 1_000_000;
/// How long an account waits for what is on its way, before it counts it as such.
const PATIENCE: Duration = Duration::from_secs(10);

/// How to look.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Address of the metrics.
    pub listen: String,
    /// Between two accounts: what is new is looked for, and duplicates among the newest events.
    pub account_every: Duration,
    /// Between two accounts that look at all events, for gaps and duplicates; the first one does.
    pub full_every: Duration,
}

/// Looks and tells until it is asked to end.
///
/// # Errors
/// It cannot listen where it is told to.
pub async fn run(
    settings: VerifySettings,
    layout: Layout,
    schedule: Schedule,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let shutdown = Shutdown::on_signals()?;
    let admin = Admin::default();
    let metrics = Metrics::register(&mut admin.metrics());
    admin.readiness().require("account");
    let listener = admin::bind("--listen", &schedule.listen).await?;
    let settings = VerifySettings {
        wait: PATIENCE,
        ..settings
    };
    let exporter = Exporter {
        settings,
        layout,
        metrics,
        whole: BTreeMap::new(),
    };
    shutdown.spawn(exporter.clone().look_often(shutdown.clone()));
    shutdown.spawn(exporter.account_often(admin.clone(), schedule, shutdown.clone()));
    admin::serve(listener, admin.router(), shutdown.clone()).await?;
    shutdown.drained(DRAIN_LIMIT).await;
    Ok(())
}

#[derive(Clone)]
struct Exporter {
    settings: VerifySettings,
    layout: Layout,
    metrics: Metrics,
    /// Duplicates of each source that the last look at all events found.
    whole: BTreeMap<String, usize>,
}

impl Exporter {
    async fn look_often(self, shutdown: Shutdown) {
        loop {
            let components = self.components();
            self.looked("components", components);
            let kafka = self.kafka().await;
            self.looked("kafka", kafka);
            self.certificates().await;
            let freshness = self.freshness().await;
            self.looked("freshness", freshness);
            if !pause(&shutdown, LOOK_EVERY).await {
                return;
            }
        }
    }

    async fn account_often(mut self, admin: Admin, schedule: Schedule, shutdown: Shutdown) {
        let mut full_at = Instant::now();
        loop {
            let is_full = Instant::now() >= full_at;
            let result = tokio::select! {
                result = self.account(is_full) => result,
                () = shutdown.requested() => return,
            };
            if result.is_ok() && is_full {
                full_at = Instant::now() + schedule.full_every;
            }
            let state = result.as_ref().map(|_| ()).map_err(ToString::to_string);
            admin.readiness().set("account", state);
            // The first one may be asked before anything was sent.
            let wait = match &result {
                Ok(()) => schedule.account_every,
                Err(_) => schedule.account_every.min(LOOK_EVERY),
            };
            self.looked("account", result);
            if !pause(&shutdown, wait).await {
                return;
            }
        }
    }

    /// Writes down how a look went.
    fn looked<E: std::fmt::Display>(&self, look: &str, result: Result<(), E>) {
        match result {
            Ok(()) => self
                .metrics
                .last_look
                .with_label_values(&[look])
                .set(now_ms() as f64 / 1000.0),
            Err(error) => {
                self.metrics.failures.with_label_values(&[look]).inc();
                eprintln!("contrail: {look}: {error}");
            }
        }
    }

    /// Which component of the local stack is away. Elsewhere there is no such stack, and nothing to tell.
    fn components(&self) -> Result<(), control::ControlError> {
        let statuses = match control::send(&self.layout, &Request::Status) {
            Err(control::ControlError::NotRunning(_)) => return Ok(()),
            answer => answer?,
        };
        for status in statuses {
            let is_up = status.state == State::Ready || status.state == State::External;
            let labels = [status.name.as_str()];
            self.metrics
                .component_up
                .with_label_values(&labels)
                .set(f64::from(u8::from(is_up)));
            self.metrics
                .component_restarts
                .with_label_values(&labels)
                .set(f64::from(status.restarts));
        }
        Ok(())
    }

    async fn kafka(&self) -> Result<(), VerifyError> {
        let settings = &self.settings;
        let topics = [
            settings.topic.clone(),
            settings.dead_letter_topic.clone(),
            settings.checkpoint_topic.clone(),
        ];
        let ask = move |cluster: &Cluster| {
            let bounds = topics.iter().map(|topic| cluster.bounds_of(topic));
            let bounds = bounds.collect::<Result<Vec<_>, _>>()?;
            // The positions' are the first.
            let ends = bounds[0]
                .iter()
                .map(|(partition, _, end)| (*partition, *end));
            let lags = cluster.lags(&ends.collect::<Vec<_>>())?;
            Ok((lags, topics.clone().into_iter().zip(bounds)))
        };
        let (lags, topics) = Cluster::new(settings)?.blocking(ask).await?;
        for lag in lags {
            self.metrics
                .lag
                .with_label_values(&[lag.partition.to_string()])
                .set(lag.lag as f64);
        }
        for (topic, bounds) in topics {
            for (partition, start, end) in bounds {
                let labels = [topic.as_str(), &partition.to_string()];
                self.metrics
                    .start_offset
                    .with_label_values(&labels)
                    .set(start as f64);
                self.metrics
                    .end_offset
                    .with_label_values(&labels)
                    .set(end as f64);
            }
        }
        Ok(())
    }

    /// The newest position of each source. Of one that has been silent for an hour the last answer stays.
    async fn freshness(&self) -> Result<(), VerifyError> {
        let sql = format!(
            "SELECT toString(source), toUnixTimestamp64Milli(max(timestamp)) FROM {ROWS} \
             WHERE date >= toDate(now('UTC') - INTERVAL 1 HOUR) AND timestamp >= now() - INTERVAL 1 HOUR GROUP BY source"
        );
        let tables = Tables::new(&self.settings)?;
        for (source, at_ms) in tables
            .ask::<(String, i64)>("the newest positions", &sql)
            .await?
        {
            let at = at_ms as f64 / 1000.0;
            self.metrics.newest_position.set(&source, at);
        }
        Ok(())
    }

    /// Until when the certificates hold of servers that are reached by TLS.
    async fn certificates(&self) {
        for endpoint in certificates::endpoints(&self.settings) {
            let asked = endpoint.clone();
            let answer = tokio::task::spawn_blocking(move || certificates::expires(&asked)).await;
            let answer = answer.unwrap_or_else(|error| Err(error.to_string()));
            let told = answer.map(|at| {
                self.metrics
                    .certificate_expires
                    .with_label_values(&[endpoint])
                    .set(at);
            });
            self.looked("certificates", told);
        }
    }

    /// What is missing and what is doubled.
    async fn account(&mut self, is_full: bool) -> Result<(), VerifyError> {
        let report = gaps::check(
            &self.settings,
            Options {
                full: is_full,
                // It is counted, not placed.
                quick: true,
                ..Options::default()
            },
        )
        .await?;
        let tables = Tables::new(&self.settings)?;
        let metrics = &self.metrics;
        for check in &report.sources {
            let (source, end) = (&check.source, check.checked_below);
            if is_full {
                let all = tables.duplicates(source, check.begin, end).await?;
                self.whole.insert(source.clone(), all.len());
            }
            let recent = tables
                .duplicates(source, check.begin.max(end - RECENT), end)
                .await?;
            let duplicated = recent
                .len()
                .max(self.whole.get(source).copied().unwrap_or(0));
            for (gauge, value) in [
                (&metrics.checked_below, end as f64),
                (&metrics.missing, check.missing as f64),
                (&metrics.duplicated, duplicated as f64),
                (&metrics.dead_letters, check.dead_letters as f64),
            ] {
                gauge.set(source, value);
            }
        }
        metrics
            .dead_letters_unknown
            .set(report.letters_without_identity as f64);
        Ok(())
    }
}

/// Waits; false once the end was asked for.
async fn pause(shutdown: &Shutdown, time: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => !shutdown.is_requested(),
        () = shutdown.requested() => false,
    }
}
