//! Durations, counted a batch at a time in buckets that double → histograms of Prometheus, one for each value of a label.
//!
//! Made for what is measured of every record: a count is two additions in the caller's own memory, without a lock, an atomic or
//! a clock; the lock is taken once a batch, by [`Tallies::merge`].

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The first bucket takes up to two to the power of this, in milliseconds.
const FIRST: u32 = 2;
/// Buckets with a bound; the last takes up to 2²⁹ ms, some six days. What is longer is in none but that of all.
const BOUNDS: usize = 28;

/// The durations of one batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// By bucket; the last one has no bound.
    buckets: [u64; BOUNDS + 1],
    sum_ms: u64,
}

impl Counts {
    /// One more.
    ///
    /// Unit: milliseconds.
    pub fn add(&mut self, ms: u64) {
        self.buckets[bucket(ms)] += 1;
        self.sum_ms = self.sum_ms.saturating_add(ms);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them, one after the other, in milliseconds.
    pub fn sum_ms(&self) -> u64 {
        self.sum_ms
    }

    fn extend(&mut self, more: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(&more.buckets) {
            *bucket += more;
        }
        self.sum_ms = self.sum_ms.saturating_add(more.sum_ms);
    }
}

/// The first bucket whose bound is not below `ms`.
fn bucket(ms: u64) -> usize {
    let doublings = u64::BITS - ms.saturating_sub(1).leading_zeros(); // 2^doublings is the first power of two from ms on.
    (doublings.saturating_sub(FIRST) as usize).min(BOUNDS)
}

/// Upper bound of a bucket, in seconds.
fn bound_s(bucket: usize) -> f64 {
    (1_u64 << (FIRST + bucket as u32)) as f64 / 1_000.0
}

/// Histograms of one name, one for each value of a label; clones share them.
#[derive(Debug, Clone)]
pub struct Tallies(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    desc: Desc,
    label: String,
    values: Vec<&'static str>,
    counts: Mutex<Vec<Counts>>,
}

impl Tallies {
    pub(crate) fn new(name: &str, help: &str, label: &str, values: &[&'static str]) -> prometheus::Result<Self> {
        let desc = Desc::new(name.to_owned(), help.to_owned(), vec![label.to_owned()], HashMap::new())?;
        let counts = Mutex::new(vec![Counts::default(); values.len()]);
        Ok(Self(Arc::new(Shared { desc, label: label.to_owned(), values: values.to_vec(), counts })))
    }

    /// Adds what a batch has counted: one for each value of the label, in their order.
    pub fn merge(&self, batch: &[Counts]) {
        let mut all = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner); // Numbers are whole whatever happened.
        for (all, counts) in all.iter_mut().zip(batch) {
            all.extend(counts);
        }
    }

    /// What was counted of the value `value` of the label.
    pub fn of(&self, value: &str) -> Counts {
        let at = self.0.values.iter().position(|known| *known == value);
        let all = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        at.and_then(|at| all.get(at).copied()).unwrap_or_default()
    }
}

impl Collector for Tallies {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let all = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let metric = |(value, counts): (&&str, &Counts)| {
            let mut label = LabelPair::default();
            label.set_name(self.0.label.clone());
            label.set_value((*value).to_owned());
            let mut metric = Metric::from_label(vec![label]);
            metric.set_histogram(histogram(counts));
            metric
        };
        let mut family = MetricFamily::default();
        family.set_name(self.0.desc.fq_name.clone());
        family.set_help(self.0.desc.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(self.0.values.iter().zip(&all).map(metric).collect());
        vec![family]
    }
}

fn histogram(counts: &Counts) -> Histogram {
    let mut below = 0;
    let bucket = |(at, count): (usize, &u64)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound_s(at));
        bucket.set_cumulative_count(below);
        bucket
    };
    let mut histogram = Histogram::default();
    histogram.set_bucket(counts.buckets.iter().take(BOUNDS).enumerate().map(bucket).collect());
    histogram.set_sample_count(counts.count());
    histogram.set_sample_sum(counts.sum_ms as f64 / 1_000.0);
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Registry;

    #[test]
    fn each_duration_is_in_the_first_bucket_that_takes_it() {
        for ms in (0..3_000).chain([1 << 20, (1 << 20) + 1, 1 << 29, (1 << 29) + 1, u64::MAX]) {
            let (at, seconds) = (bucket(ms), ms as f64 / 1_000.0);
            assert!(at == BOUNDS || seconds <= bound_s(at), "{ms} ms is above {} s", bound_s(at));
            assert!(at == 0 || seconds > bound_s(at - 1), "{ms} ms is not above {} s", bound_s(at - 1));
        }
        assert_eq!((bucket(4), bucket(5), bucket(1 << 29), bucket((1 << 29) + 1)), (0, 1, BOUNDS - 1, BOUNDS));
    }

    #[test]
    fn batches_add_up_on_the_page() {
        let registry = Registry::default();
        let tallies = registry.tallies("t_latency_seconds", "Latency.", "stage", &["a", "b"]);
        let mut batch = [Counts::default(); 2];
        for ms in [0, 4, 5, 1_000, 1 << 40] {
            batch[1].add(ms);
        }
        tallies.merge(&batch);
        tallies.merge(&batch);
        assert_eq!((tallies.of("a").count(), tallies.of("b").count()), (0, 10));
        let text = registry.text();
        for line in [
            "# TYPE t_latency_seconds histogram",
            r#"t_latency_seconds_bucket{stage="a",le="+Inf"} 0"#,
            r#"t_latency_seconds_bucket{stage="b",le="0.004"} 4"#,
            r#"t_latency_seconds_bucket{stage="b",le="0.008"} 6"#,
            r#"t_latency_seconds_bucket{stage="b",le="0.512"} 6"#,
            r#"t_latency_seconds_bucket{stage="b",le="1.024"} 8"#,
            r#"t_latency_seconds_bucket{stage="b",le="536870.912"} 8"#,
            r#"t_latency_seconds_bucket{stage="b",le="+Inf"} 10"#,
            r#"t_latency_seconds_count{stage="b"} 10"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        let again = registry.tallies("t_latency_seconds", "Latency.", "stage", &["a", "b"]);
        assert_eq!(again.of("b").count(), 10);
    }
}
