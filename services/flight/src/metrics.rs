//! Metrics, described once: what a [`Registrar`] registers is what docs/metrics.md lists.
//!
//! The number of series is bounded by design. A label has either values that the code names, or values
//! that its [`Label`] says the bound of; what comes from events (names of sources) goes through
//! [`LargestGauges`], and nothing else that a source sends becomes a label.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Atomic, Collector, GenericGauge, GenericGaugeVec};
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

/// Most sources of which one process tells: see [`LargestGauges`].
pub const MAX_SOURCES: usize = 64;
/// The label for sources.
pub const SOURCE: Label = Label::bounded("source", "at most 64 sources");

/// A label, and how many values it may have.
#[derive(Debug, Clone, Copy)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub values: Values,
}

/// The values of a label.
#[derive(Debug, Clone, Copy)]
pub enum Values {
    /// These and no others. Their series are there from the start: a rate over an absent one says nothing.
    OneOf(&'static [&'static str]),
    /// What bounds their number, in words.
    Bounded(&'static str),
}

impl Label {
    /// A label with values that the code names.
    pub const fn one_of(name: &'static str, values: &'static [&'static str]) -> Self {
        let values = Values::OneOf(values);
        Self { name, values }
    }

    /// A label whose number of values is bounded by something else.
    pub const fn bounded(name: &'static str, by: &'static str) -> Self {
        let values = Values::Bounded(by);
        Self { name, values }
    }
}

/// A metric, as users read of it.
#[derive(Debug, Clone)]
pub struct Description {
    /// The full name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What is counted or measured in: `rows`, `seconds`, `Unix time in seconds`.
    pub unit: &'static str,
    /// Its labels.
    pub labels: Vec<Label>,
    /// What it means.
    pub help: &'static str,
    /// Upper bounds of a histogram's buckets.
    pub buckets: Vec<f64>,
}

/// Registers metrics and keeps their descriptions.
///
/// A name that is taken stays with whoever had it first: two services in one process, as in tests.
#[derive(Debug)]
pub struct Registrar<'a> {
    registry: &'a Registry,
    described: Vec<Description>,
}

impl<'a> Registrar<'a> {
    /// One that registers in `registry`.
    pub fn new(registry: &'a Registry) -> Self {
        Self {
            registry,
            described: Vec::new(),
        }
    }

    /// What was registered.
    pub fn described(&self) -> &[Description] {
        &self.described
    }

    /// A counter.
    pub fn counter(
        &mut self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
    ) -> IntCounter {
        let metric = IntCounter::new(name, help);
        self.add(metric, "counter", [name, unit, help], &[], &[])
    }

    /// Counters by labels.
    pub fn counters(
        &mut self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        labels: &[Label],
    ) -> IntCounterVec {
        let metric = IntCounterVec::new(Opts::new(name, help), &names(labels));
        let metric = self.add(metric, "counter", [name, unit, help], labels, &[]);
        for values in combinations(labels) {
            metric.with_label_values(&values);
        }
        metric
    }

    /// A gauge.
    pub fn gauge<P: Atomic + 'static>(
        &mut self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
    ) -> GenericGauge<P> {
        let metric = GenericGauge::new(name, help);
        self.add(metric, "gauge", [name, unit, help], &[], &[])
    }

    /// Gauges by labels.
    pub fn gauges<P: Atomic + 'static>(
        &mut self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        labels: &[Label],
    ) -> GenericGaugeVec<P> {
        let metric = GenericGaugeVec::new(Opts::new(name, help), &names(labels));
        let metric = self.add(metric, "gauge", [name, unit, help], labels, &[]);
        for values in combinations(labels) {
            metric.with_label_values(&values);
        }
        metric
    }

    /// Gauges by source, of [`MAX_SOURCES`] at most.
    pub fn by_source(
        &mut self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
    ) -> LargestGauges {
        LargestGauges::new(self.gauges(name, unit, help, &[SOURCE]), MAX_SOURCES)
    }

    /// A histogram with buckets up to each of `buckets`.
    pub fn histogram(
        &mut self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        buckets: &[f64],
    ) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let metric = Histogram::with_opts(options);
        self.add(metric, "histogram", [name, unit, help], &[], buckets)
    }

    /// Histograms by labels.
    pub fn histograms(
        &mut self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        labels: &[Label],
        buckets: &[f64],
    ) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let metric = HistogramVec::new(options, &names(labels));
        let metric = self.add(metric, "histogram", [name, unit, help], labels, buckets);
        for values in combinations(labels) {
            metric.with_label_values(&values);
        }
        metric
    }

    /// A metric that is not one of the client library's: the caller makes it.
    pub fn add<C: Collector + Clone + 'static>(
        &mut self,
        metric: prometheus::Result<C>,
        kind: &'static str,
        [name, unit, help]: [&'static str; 3],
        labels: &[Label],
        buckets: &[f64],
    ) -> C {
        let metric = metric.expect("a constant metric is well formed");
        let _ = self.registry.register(Box::new(metric.clone()));
        self.described.push(Description {
            name,
            kind,
            unit,
            labels: labels.to_vec(),
            help,
            buckets: buckets.to_vec(),
        });
        metric
    }
}

fn names(labels: &[Label]) -> Vec<&'static str> {
    labels.iter().map(|label| label.name).collect()
}

/// Every combination of the labels' values; none if there is a label whose values are not known.
fn combinations(labels: &[Label]) -> Vec<Vec<&'static str>> {
    labels.iter().fold(vec![Vec::new()], |all, label| {
        let Values::OneOf(values) = label.values else {
            return Vec::new();
        };
        let with = |before: &Vec<&'static str>| {
            let before = before.clone();
            values.iter().map(move |value| {
                let mut longer = before.clone();
                longer.push(*value);
                longer
            })
        };
        all.iter().flat_map(with).collect()
    })
}

/// Gauges by a label whose values come from outside: those with the largest values are told, so many at
/// most. Of times that is the newest, of what is missing the worst.
#[derive(Debug, Clone)]
pub struct LargestGauges {
    gauges: GaugeVec,
    most: usize,
    told: Arc<Mutex<HashMap<String, f64>>>,
}

impl LargestGauges {
    fn new(gauges: GaugeVec, most: usize) -> Self {
        Self {
            gauges,
            most,
            told: Arc::default(),
        }
    }

    /// Sets the gauge of one label, unless as many are told whose values are not smaller.
    pub fn set(&self, label: &str, value: f64) {
        self.change(label, |_| value);
    }

    /// Raises the gauge of one label; it never falls.
    pub fn raise(&self, label: &str, value: f64) {
        self.change(label, |old| old.map_or(value, |old| old.max(value)));
    }

    fn change(&self, label: &str, value: impl FnOnce(Option<f64>) -> f64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let value = value(told.get(label).copied());
        if !told.contains_key(label) && told.len() >= self.most {
            let smallest = told.iter().min_by(|a, b| a.1.total_cmp(b.1));
            match smallest.map(|(label, value)| (label.clone(), *value)) {
                Some((smallest, least)) if least < value => {
                    told.remove(&smallest);
                    let _ = self.gauges.remove_label_values(&[&smallest]);
                }
                _ => return,
            }
        }
        told.insert(label.to_owned(), value);
        self.gauges.with_label_values(&[label]).set(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(registry: &Registry) -> Vec<(String, f64)> {
        let families = registry.gather();
        let metrics = families.iter().flat_map(|family| family.get_metric());
        metrics
            .map(|metric| {
                let label = metric.get_label()[0].value().to_owned();
                (label, metric.get_gauge().get_value())
            })
            .collect()
    }

    #[test]
    fn however_many_sources_there_are_few_are_told_and_they_are_the_newest() {
        let registry = Registry::new();
        let newest = Registrar::new(&registry).by_source("newest", "seconds", "Newest.");
        for at in 0..100_000_u32 {
            newest.raise(&format!("source {}", at % 10_000), f64::from(at));
        }
        let told = series(&registry);
        assert_eq!(told.len(), MAX_SOURCES);
        let bound = 100_000.0 - MAX_SOURCES as f64;
        assert!(told.iter().all(|(_, at)| *at >= bound), "{told:?}");
        newest.raise("source 9999", 3.0);
        assert!(series(&registry).contains(&("source 9999".into(), 99_999.0)));
    }

    #[test]
    fn a_gauge_that_is_told_may_fall_and_one_that_is_not_comes_with_a_larger_value() {
        let registry = Registry::new();
        let gauges = GaugeVec::new(Opts::new("g", "G."), &["l"]).unwrap();
        registry.register(Box::new(gauges.clone())).unwrap();
        let gauges = LargestGauges::new(gauges, 2);
        for (label, value) in [("a", 5.0), ("b", 0.0), ("c", 0.0), ("a", 0.0)] {
            gauges.set(label, value);
        }
        assert_eq!(series(&registry), [("a".into(), 0.0), ("b".into(), 0.0)]);
        gauges.set("b", 1.0);
        gauges.set("c", 2.0);
        assert_eq!(series(&registry), [("b".into(), 1.0), ("c".into(), 2.0)]);
    }

    #[test]
    fn series_whose_labels_are_known_are_there_from_the_start() {
        let registry = Registry::new();
        let mut registrar = Registrar::new(&registry);
        let labels = [
            Label::one_of("kind", &["select", "insert"]),
            Label::one_of("outcome", &["ok", "error"]),
        ];
        registrar.counters("known_total", "queries", "Queries.", &labels);
        let unknown = [labels[0], Label::bounded("partition", "partitions")];
        registrar.counters("unknown_total", "records", "Records.", &unknown);
        let counts: Vec<_> = registry
            .gather()
            .iter()
            .map(|family| (family.name().to_owned(), family.get_metric().len()))
            .collect();
        assert_eq!(counts, [("known_total".to_owned(), 4)]);
        assert_eq!(registrar.described().len(), 2);
    }
}
