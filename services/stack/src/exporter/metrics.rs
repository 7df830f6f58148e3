//! What the exporter tells.

use flight::metrics::{Label, LargestGauges, Registrar};
use prometheus::{Gauge, GaugeVec, IntCounterVec};

/// What is looked at.
const LOOKS: [&str; 5] = [
    "components",
    "kafka",
    "certificates",
    "freshness",
    "account",
];
const LOOK: Label = Label::one_of("look", &LOOKS);
/// No series before the first success: 0 would be a time, and one long ago.
const LOOK_THAT_SUCCEEDED: Label = Label::bounded("look", "looks, as below");
const COMPONENT: Label = Label::bounded("component", "components of the local stack");
const PARTITION: Label = Label::bounded("partition", "partitions of the topic");
const TOPIC: Label = Label::bounded("topic", "contrail's three topics");
const ENDPOINT: Label = Label::bounded("endpoint", "servers in the settings");

/// Handles of the metrics. What has gone is forgotten when the exporter is started again.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(super) component_up: GaugeVec,
    pub(super) component_restarts: GaugeVec,
    pub(super) start_offset: GaugeVec,
    pub(super) end_offset: GaugeVec,
    pub(super) lag: GaugeVec,
    pub(super) newest_position: LargestGauges,
    pub(super) certificate_expires: GaugeVec,
    pub(super) checked_below: LargestGauges,
    pub(super) missing: LargestGauges,
    pub(super) duplicated: LargestGauges,
    pub(super) dead_letters: LargestGauges,
    pub(super) dead_letters_unknown: Gauge,
    pub(super) last_look: GaugeVec,
    pub(super) failures: IntCounterVec,
}

impl Metrics {
    /// Makes and registers them.
    pub fn register(to: &mut Registrar<'_>) -> Self {
        Self {
            component_up: to.gauges(
                "contrail_component_up",
                "",
                "1 while a component of the local stack is ready, 0 while it is not",
                &[COMPONENT],
            ),
            component_restarts: to.gauges(
                "contrail_component_restarts",
                "restarts",
                "How often a component of the local stack was started again after it died",
                &[COMPONENT],
            ),
            start_offset: to.gauges(
                "contrail_kafka_start_offset",
                "offset",
                "First offset that a partition still has",
                &[TOPIC, PARTITION],
            ),
            end_offset: to.gauges(
                "contrail_kafka_end_offset",
                "offset",
                "Offset after the last record of a partition, open transactions included",
                &[TOPIC, PARTITION],
            ),
            lag: to.gauges(
                "contrail_ingester_lag_records",
                "records",
                "Offsets of a partition that the ingester has not closed",
                &[PARTITION],
            ),
            newest_position: to.by_source(
                "contrail_newest_position_timestamp_seconds",
                "Unix time in seconds",
                "Time of the newest position in ClickHouse",
            ),
            certificate_expires: to.gauges(
                "contrail_certificate_expires_timestamp_seconds",
                "Unix time in seconds",
                "When the certificate ends that a server shows, for each that is reached by TLS",
                &[ENDPOINT],
            ),
            checked_below: to.by_source(
                "contrail_account_checked_below_offset",
                "offset",
                "Every event of a source below this offset was looked for",
            ),
            missing: to.by_source(
                "contrail_account_missing_events",
                "events",
                "Events of a source that are neither in the tables nor among the dead letters nor on their way",
            ),
            duplicated: to.by_source(
                "contrail_account_duplicated_events",
                "events",
                "Events of a source that are in more than one row",
            ),
            dead_letters: to.by_source(
                "contrail_dead_letters",
                "events",
                "Dead letters of a source that were not sent on their way again",
            ),
            dead_letters_unknown: to.gauge(
                "contrail_dead_letters_without_identity",
                "records",
                "Dead letters of which it is not known which event they are",
            ),
            last_look: to.gauges(
                "contrail_exporter_last_look_timestamp_seconds",
                "Unix time in seconds",
                "When a look last succeeded",
                &[LOOK_THAT_SUCCEEDED],
            ),
            failures: to.counters(
                "contrail_exporter_failures_total",
                "looks",
                "Looks that came to nothing",
                &[LOOK],
            ),
        }
    }
}
