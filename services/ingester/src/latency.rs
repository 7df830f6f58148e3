//! How old rows are when they become queryable: a histogram over rows, filled a batch at a time.
//!
//! The client library's histogram takes one observation a call, with a search and three atomic changes. Here the
//! rows of a batch are counted first, so many at a time: 2.5 ms for a million, whatever their ages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flight::metrics::Registrar;
use prometheus::core::{Collector, Desc};
use prometheus::proto;

/// Upper bounds of the buckets, in milliseconds.
const BOUNDS_MS: [i32; 17] = [
    50, 100, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 10_000, 20_000, 30_000, 60_000,
    300_000, 3_600_000,
];
/// Rows that are counted together.
const CHUNK: usize = 256;
const NAME: &str = "flight_ingester_latency_seconds";
const UNIT: &str = "seconds";
const HELP: &str = "Age of each row when its insert was acknowledged: from the event's timestamp until it can be queried";

/// The histogram.
#[derive(Debug, Clone)]
pub struct Latency {
    desc: Desc,
    counts: Arc<Counts>,
}

/// Rows whose age is at most each bound and above the one before it, then those above all.
#[derive(Debug, Default)]
struct Counts {
    rows: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_ms: AtomicU64,
}

impl Latency {
    /// Makes and registers it.
    pub fn register(to: &mut Registrar<'_>) -> Self {
        let desc = Desc::new(NAME.into(), HELP.into(), Vec::new(), Default::default());
        let metric = desc.map(|desc| Self {
            desc,
            counts: Arc::default(),
        });
        let bounds = BOUNDS_MS.map(|bound| f64::from(bound) / 1000.0);
        to.add(metric, "histogram", [NAME, UNIT, HELP], &[], &bounds)
    }

    /// Counts rows that became queryable at `now_ms`, by their timestamps. An event of the future is as old
    /// as one of now.
    pub fn observe(&self, now_ms: i64, timestamps_ms: impl Iterator<Item = i64>) {
        let (mut rows, mut older, mut sum_ms) = (0, [0; BOUNDS_MS.len()], 0_u64);
        let (mut ages, mut len) = ([0; CHUNK], 0);
        for timestamp_ms in timestamps_ms {
            let age_ms = now_ms.saturating_sub(timestamp_ms).max(0);
            sum_ms = sum_ms.wrapping_add(age_ms as u64);
            ages[len] = i32::try_from(age_ms).unwrap_or(i32::MAX);
            len += 1;
            if len == CHUNK {
                count_older(&ages, &mut older);
                rows += len as u64;
                len = 0;
            }
        }
        count_older(&ages[..len], &mut older);
        rows += len as u64;

        let mut above = rows;
        for (count, older) in self.counts.rows.iter().zip(older.into_iter().chain([0])) {
            count.fetch_add(above - older, Ordering::Relaxed);
            above = older;
        }
        self.counts.sum_ms.fetch_add(sum_ms, Ordering::Relaxed);
    }
}

/// Counts the ages above each bound.
fn count_older(ages_ms: &[i32], older: &mut [u64; BOUNDS_MS.len()]) {
    for (older, bound) in older.iter_mut().zip(BOUNDS_MS) {
        // Sums that cannot overflow, and that the compiler need not watch: it compares many at once.
        let count = |sum: u32, age: &i32| sum.wrapping_add(u32::from(*age > bound));
        *older += u64::from(ages_ms.iter().fold(0, count));
    }
}

impl Collector for Latency {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut seen = 0;
        let mut buckets = Vec::with_capacity(BOUNDS_MS.len());
        let counts = self.counts.rows.each_ref();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        for (bound, count) in BOUNDS_MS.iter().zip(counts) {
            seen += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(f64::from(*bound) / 1000.0);
            bucket.set_cumulative_count(seen);
            buckets.push(bucket);
        }
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(seen + counts[BOUNDS_MS.len()]);
        histogram.set_sample_sum(self.counts.sum_ms.load(Ordering::Relaxed) as f64 / 1000.0);
        let mut metric = proto::Metric::default();
        metric.set_histogram(histogram);
        let mut family = proto::MetricFamily::default();
        family.set_name(NAME.to_owned());
        family.set_help(HELP.to_owned());
        family.set_field_type(proto::MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the client library's histogram would say.
    fn expected(now_ms: i64, timestamps_ms: &[i64]) -> String {
        let bounds = BOUNDS_MS.map(|bound| f64::from(bound) / 1000.0);
        let options = prometheus::HistogramOpts::new(NAME, HELP).buckets(bounds.to_vec());
        let histogram = prometheus::Histogram::with_opts(options).unwrap();
        for timestamp_ms in timestamps_ms {
            histogram.observe((now_ms - timestamp_ms).max(0) as f64 / 1000.0);
        }
        text(histogram.collect())
    }

    fn text(families: Vec<proto::MetricFamily>) -> String {
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&families)
            .unwrap();
        // Sums differ in the last digits: one is of whole milliseconds.
        let lines = text.lines().filter(|line| !line.contains("_sum"));
        lines.collect::<Vec<_>>().join("\n")
    }

    proptest! {
        #[test]
        fn it_says_what_the_library_would(ages in prop::collection::vec(prop_oneof![
            -5000_i64..5000,
            0_i64..10_000_000,
            prop::sample::select(BOUNDS_MS.to_vec()).prop_map(i64::from),
        ], 0..700)) {
            let now_ms = 1_700_000_000_000;
            let timestamps: Vec<_> = ages.iter().map(|age| now_ms - age).collect();
            let registry = prometheus::Registry::new();
            let latency = Latency::register(&mut Registrar::new(&registry));
            latency.observe(now_ms, timestamps.iter().copied());
            prop_assert_eq!(text(registry.gather()), expected(now_ms, &timestamps));
            let sum: i64 = ages.iter().map(|age| (*age).max(0)).sum();
            prop_assert_eq!(latency.counts.sum_ms.load(Ordering::Relaxed), sum as u64);
        }
    }

    #[test]
    fn absurd_times_do_not_overflow() {
        let registry = prometheus::Registry::new();
        let latency = Latency::register(&mut Registrar::new(&registry));
        latency.observe(i64::MAX, [i64::MIN, i64::MAX].into_iter());
        latency.observe(i64::MIN, [i64::MIN, i64::MAX].into_iter());
        let counts = latency.collect()[0].get_metric()[0]
            .get_histogram()
            .get_sample_count();
        assert_eq!(counts, 4);
    }
}
