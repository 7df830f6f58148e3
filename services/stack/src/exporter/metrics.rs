//! What the exporter tells.

use prometheus::{Gauge, GaugeVec, IntCounterVec, Opts, Registry};

/// Handles of the metrics. What has gone is forgotten when the exporter is started again.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    pub(super) component_up: GaugeVec,
    pub(super) component_restarts: GaugeVec,
    pub(super) start_offset: GaugeVec,
    pub(super) end_offset: GaugeVec,
    pub(super) lag: GaugeVec,
    pub(super) newest_position: GaugeVec,
    pub(super) certificate_expires: GaugeVec,
    pub(super) checked_below: GaugeVec,
    pub(super) missing: GaugeVec,
    pub(super) duplicated: GaugeVec,
    pub(super) dead_letters: GaugeVec,
    pub(super) dead_letters_unknown: Gauge,
    pub(super) last_look: GaugeVec,
    pub(super) failures: IntCounterVec,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// A name is taken.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauges = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<GaugeVec> {
            let made = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let dead_letters_unknown = Gauge::new(
            "contrail_dead_letters_without_identity",
            "Dead letters of which it is not known which event they are",
        )?;
        registry.register(Box::new(dead_letters_unknown.clone()))?;
        let failures = IntCounterVec::new(
            Opts::new(
                "contrail_exporter_failures_total",
                "Looks that came to nothing, by what was looked at (components, kafka, certificates, freshness, account)",
            ),
            &["look"],
        )?;
        registry.register(Box::new(failures.clone()))?;
        Ok(Self {
            component_up: gauges(
                "contrail_component_up",
                "1 while a component of the local stack is ready, 0 while it is not",
                &["component"],
            )?,
            component_restarts: gauges(
                "contrail_component_restarts",
                "How often a component of the local stack was started again after it died",
                &["component"],
            )?,
            start_offset: gauges(
                "contrail_kafka_start_offset",
                "First offset that a partition still has",
                &["topic", "partition"],
            )?,
            end_offset: gauges(
                "contrail_kafka_end_offset",
                "Offset after the last record of a partition, open transactions included",
                &["topic", "partition"],
            )?,
            lag: gauges(
                "contrail_ingester_lag_records",
                "Offsets of a partition that the ingester has not closed",
                &["partition"],
            )?,
            newest_position: gauges(
                "contrail_newest_position_timestamp_seconds",
                "Time of the newest position in ClickHouse, in Unix time",
                &["source"],
            )?,
            certificate_expires: gauges(
                "contrail_certificate_expires_timestamp_seconds",
                "When the certificate ends that a server shows, in Unix time, for each that is reached by TLS",
                &["endpoint"],
            )?,
            checked_below: gauges(
                "contrail_account_checked_below_offset",
                "Every event of a source below this offset was looked for",
                &["source"],
            )?,
            missing: gauges(
                "contrail_account_missing_events",
                "Events of a source that are neither in the tables nor among the dead letters nor on their way",
                &["source"],
            )?,
            duplicated: gauges(
                "contrail_account_duplicated_events",
                "Events of a source that are in more than one row",
                &["source"],
            )?,
            dead_letters: gauges(
                "contrail_dead_letters",
                "Dead letters of a source that were not sent on their way again",
                &["source"],
            )?,
            dead_letters_unknown,
            last_look: gauges(
                "contrail_exporter_last_look_timestamp_seconds",
                "When a look last succeeded, in Unix time, by what was looked at (components, kafka, certificates, freshness, account)",
                &["look"],
            )?,
            failures,
        })
    }
}
