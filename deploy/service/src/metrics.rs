//! Counts and measures become one page of Prometheus text.
//!
//! A registry belongs to one daemon, never to the process, so that a test can run two. Each crate declares its metrics in
//! one table; asking twice for the same name gives the same metric, so that agent and indexer may share one registry.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap, btree_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use crate::tally::Tallies;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, TextEncoder, core::Collector,
    proto::MetricFamily,
};

/// The metrics of one daemon; all clones are the same registry.
///
/// Names are snake case with a unit, and `_total` for counters: `tailrace_agent_read_bytes_total`. A name that Prometheus does not
/// take, or one name with two kinds or two sets of labels, is a wrong program and panics at start.
#[derive(Clone, Default)]
pub struct Registry {
    registry: prometheus::Registry,
    known: Arc<Mutex<HashMap<String, Known>>>,
    /// Those with a label of their own, whose metrics stand on the same page.
    labelled: Arc<Mutex<Vec<prometheus::Registry>>>,
}

struct Known {
    labels: Vec<String>,
    metric: Box<dyn Any + Send>,
}

impl Registry {
    /// A number that only grows.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.known(name, &[], || IntCounter::new(name, help))
    }

    /// One growing number for each combination of label values. Label values come from config or code, never from log lines.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.known(name, labels, || IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// A number that goes up and down.
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.known(name, &[], || IntGauge::new(name, help))
    }

    /// One such number for each combination of label values.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.known(name, labels, || IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// A distribution over `buckets`: upper bounds, increasing, in the unit of the name (seconds, bytes).
    pub fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
        self.known(name, &[], || Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
    }

    /// Distributions of durations that are counted a batch at a time, one for each of `values` of `label`.
    pub fn tallies(&self, name: &str, help: &str, label: &str, values: &[&'static str]) -> Tallies {
        self.known(name, &[label], || Tallies::new(name, help, label, values))
    }

    /// The same page, for a part of the daemon that there are several of: all its metrics have this label, too.
    pub fn labelled(&self, label: &str, value: &str) -> Self {
        let labels = HashMap::from([(label.to_owned(), value.to_owned())]);
        let registry =
            prometheus::Registry::new_custom(None, Some(labels)).expect("without a prefix it is always made");
        self.labelled.lock().unwrap_or_else(PoisonError::into_inner).push(registry.clone());
        Self { registry, known: Arc::default(), labelled: self.labelled.clone() }
    }

    /// The page: Prometheus text format 0.0.4, by name.
    pub fn text(&self) -> String {
        let mut families = self.registry.gather();
        let labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !labelled.is_empty() {
            let mut by_name: BTreeMap<_, MetricFamily> = BTreeMap::new();
            for mut family in families.into_iter().chain(labelled.iter().flat_map(prometheus::Registry::gather)) {
                match by_name.entry(family.name().to_owned()) {
                    Entry::Vacant(place) => _ = place.insert(family),
                    Entry::Occupied(known) => known.into_mut().mut_metric().extend(family.take_metric()),
                }
            }
            families = by_name.into_values().collect();
        }
        TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| format!("# {error}\n"))
    }

    #[track_caller]
    fn known<M: Collector + Clone + Send + 'static>(
        &self,
        name: &str,
        labels: &[&str],
        make: impl FnOnce() -> prometheus::Result<M>,
    ) -> M {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = known.get(name) {
            assert!(old.labels == labels, "metric {name} has labels {:?} and {labels:?}", old.labels);
            let same = old.metric.downcast_ref::<M>();
            return same.unwrap_or_else(|| panic!("metric {name} is of two kinds")).clone();
        }
        let registered = make().and_then(|m| self.registry.register(Box::new(m.clone())).map(|()| m));
        let metric = registered.unwrap_or_else(|error| panic!("metric {name}: {error}"));
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        known.insert(name.to_owned(), Known { labels, metric: Box::new(metric.clone()) });
        metric
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_metric_with_help_and_type() {
        let registry = Registry::default();
        registry.counter("t_lines_total", "Lines read.").inc_by(3);
        registry.counters("t_dropped_total", "Lines dropped.", &["reason"]).with_label_values(&["a\"b"]).inc();
        registry.gauge("t_flight_bytes", "In flight.").set(-1);
        registry.gauges("t_lag", "Lag.", &["topic"]).with_label_values(&["logs"]).set(9);
        registry.histogram("t_wait_seconds", "Waits.", vec![0.1, 1.0]).observe(0.5);
        let expected = r#"# HELP t_dropped_total Lines dropped.
# TYPE t_dropped_total counter
t_dropped_total{reason="a\"b"} 1
# HELP t_flight_bytes In flight.
# TYPE t_flight_bytes gauge
t_flight_bytes -1
# HELP t_lag Lag.
# TYPE t_lag gauge
t_lag{topic="logs"} 9
# HELP t_lines_total Lines read.
# TYPE t_lines_total counter
t_lines_total 3
# HELP t_wait_seconds Waits.
# TYPE t_wait_seconds histogram
t_wait_seconds_bucket{le="0.1"} 0
t_wait_seconds_bucket{le="1"} 1
t_wait_seconds_bucket{le="+Inf"} 1
t_wait_seconds_sum 0.5
t_wait_seconds_count 1
"#;
        assert_eq!(registry.text(), expected);
    }

    #[test]
    fn parts_with_a_label_of_their_own_stand_on_the_same_page() {
        let registry = Registry::default();
        registry.counter("t_all_total", "All.").inc();
        for (part, reason, lines) in [("near", "x", 1), ("far", "y", 2)] {
            let registry = registry.labelled("output", part);
            registry.counter("t_lines_total", "Lines.").inc_by(lines);
            registry.counters("t_dropped_total", "Dropped.", &["reason"]).with_label_values(&[reason]).inc_by(lines);
        }
        let expected = r#"# HELP t_all_total All.
# TYPE t_all_total counter
t_all_total 1
# HELP t_dropped_total Dropped.
# TYPE t_dropped_total counter
t_dropped_total{reason="x",output="near"} 1
t_dropped_total{reason="y",output="far"} 2
# HELP t_lines_total Lines.
# TYPE t_lines_total counter
t_lines_total{output="near"} 1
t_lines_total{output="far"} 2
"#;
        assert_eq!(registry.text(), expected);
    }

    #[test]
    fn the_same_name_is_the_same_metric() {
        let registry = Registry::default();
        registry.counter("t_total", "Once.").inc();
        registry.clone().counter("t_total", "Once.").inc();
        assert_eq!(registry.counter("t_total", "Once.").get(), 2);
    }

    #[test]
    fn two_registries_share_nothing() {
        let (one, two) = (Registry::default(), Registry::default());
        one.counter("t_total", "Once.").inc();
        assert_eq!((two.counter("t_total", "Once.").get(), two.text().contains("t_total 0")), (0, true));
    }

    #[test]
    fn a_name_of_two_kinds_or_two_label_sets_is_a_wrong_program() {
        let registry = Registry::default();
        registry.counter("t_total", "Once.");
        let panics = |f: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err();
        assert!(panics(&|| drop(registry.gauge("t_total", "Once."))));
        assert!(panics(&|| drop(registry.counters("t_total", "Once.", &["reason"]))));
        assert!(panics(&|| drop(registry.counter("no spaces", "Once."))));
        assert_eq!(registry.counter("t_total", "Once.").get(), 0, "still usable");
    }
}
