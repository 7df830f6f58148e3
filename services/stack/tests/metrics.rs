//! docs/metrics.md lists what the services register, in the words of their registrations. `make metrics`
//! writes it anew.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use flight::admin::Admin;
use flight::metrics::{Description, Registrar, Values};
use prometheus::Registry;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
/// Set by `make metrics`.
const WRITE: &str = "CONTRAIL_WRITE_METRICS";
const PREAMBLE: &str = "\
<!-- Written by `make metrics` from the registrations in services/; `cargo test --workspace --test metrics` checks it. -->
# Metrics

What each service tells at `/metrics`, in Prometheus' text format. [Watching contrail](observability.md) has the
dashboards and alerts that are made of it.

The number of series is bounded, whatever a source sends: a label has the values that stand here, and no label has
callsigns, flights or offsets in it. Where there may be any number of sources, the 64 with the largest values are
told: the newest of times, the most of what is missing, doubled or dead. A series with known labels is there from the
start, at 0.
";

fn described(register: impl FnOnce(&mut Registrar<'_>)) -> Vec<Description> {
    let registry = Registry::new();
    let mut registrar = Registrar::new(&registry);
    register(&mut registrar);
    registrar.described().to_vec()
}

/// Title, address on the local stack, and metrics of each service.
fn services() -> Vec<(&'static str, &'static str, Vec<Description>)> {
    vec![
        (
            "flight-mock",
            "http://127.0.0.1:8000/metrics",
            described(|to| {
                flight_mock::server::metrics::Metrics::register(to, Arc::new(|| 0));
            }),
        ),
        (
            "flight-producer",
            "http://127.0.0.1:8001/metrics",
            described(|to| {
                flight_producer::Metrics::new(to);
                flight_producer::ReplayMetrics::new(to);
            }),
        ),
        (
            "flight-ingester",
            "http://127.0.0.1:8002/metrics",
            described(|to| {
                flight_ingester::metrics::Metrics::new(to);
            }),
        ),
        (
            "contrail exporter",
            "http://127.0.0.1:8003/metrics",
            described(|to| {
                contrail::exporter::metrics::Metrics::register(to);
            }),
        ),
        (
            "clickhouse-embedded",
            "http://127.0.0.1:8123/metrics",
            described(|to| {
                clickhouse_embedded::metrics::Metrics::register(to);
            }),
        ),
    ]
}

/// What every service has.
fn common() -> String {
    let families = Admin::default().gather();
    let mut text =
        String::from("\n## Every service\n\n| name | type | unit | meaning |\n|---|---|---|---|\n");
    for family in families {
        let unit = match family.name() {
            name if name.ends_with("_bytes") => "bytes",
            name if name.contains("start_time") => "Unix time in seconds",
            name if name.contains("_seconds") => "seconds",
            name if name.ends_with("_fds") => "file descriptors",
            name if name.ends_with("_threads") => "threads",
            name if name.ends_with("_spans_total") => "spans",
            _ => "",
        };
        let kind = format!("{:?}", family.get_field_type()).to_lowercase();
        let (name, help) = (family.name(), family.help().trim_end_matches('.'));
        writeln!(text, "| `{name}` | {kind} | {unit} | {help} |").unwrap();
    }
    text
}

fn document() -> String {
    let mut text = format!("{PREAMBLE}{}", common());
    for (title, address, metrics) in services() {
        write!(text, "\n## {title}\n\n{address}\n\n").unwrap();
        text.push_str("| name | type | unit | labels | meaning |\n|---|---|---|---|---|\n");
        for metric in metrics {
            writeln!(text, "{}", line(&metric)).unwrap();
        }
    }
    text
}

fn line(metric: &Description) -> String {
    let labels = metric.labels.iter().map(|label| {
        let values = match label.values {
            Values::OneOf(values) => code(values),
            Values::Bounded(by) => by.to_owned(),
        };
        format!("`{}`: {values}", label.name)
    });
    let labels: Vec<_> = labels.collect();
    let buckets: Vec<_> = metric.buckets.iter().map(f64::to_string).collect();
    let buckets = match buckets.is_empty() {
        true => String::new(),
        false => format!(". Buckets up to {}", buckets.join(", ")),
    };
    format!(
        "| `{}` | {} | {} | {} | {}{buckets} |",
        metric.name,
        metric.kind,
        metric.unit,
        labels.join("; "),
        metric.help
    )
}

fn code(values: &[&str]) -> String {
    let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
    values.join(", ")
}

#[test]
fn the_document_is_current() {
    let now = document();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(FILE, now).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        committed == now,
        "{} differs from what the services register: make metrics",
        Path::new(FILE).display()
    );
}

#[test]
fn names_are_unique_and_say_their_unit() {
    let mut names = BTreeSet::new();
    for (service, _, metrics) in services() {
        assert!(metrics.len() > 5, "{service}");
        for Description {
            name,
            kind,
            unit,
            help,
            ..
        } in metrics
        {
            assert!(names.insert(name), "{name} is registered twice");
            let base = name.strip_suffix("_total").unwrap_or(name);
            assert_eq!(name != base, kind == "counter", "{name}: {kind}");
            let unix = unit == "Unix time in seconds";
            assert_eq!(base.ends_with("_timestamp_seconds"), unix, "{name}: {unit}");
            let seconds = unix || unit == "seconds";
            assert_eq!(base.ends_with("_seconds"), seconds, "{name}: {unit}");
            assert_eq!(base.ends_with("_bytes"), unit == "bytes", "{name}: {unit}");
            assert!(help.len() > 8 && !help.ends_with('.'), "{name}: {help}");
        }
    }
}
