//! The indexer's metrics, in one table.
//!
//! `consumed = indexed + duplicate + dead_lettered + dropped + put_off + returned + in_flight` holds at every quiet moment.

use crate::latency::STAGES;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use service::metrics::Registry;
use service::tally::Tallies;

/// Seconds; a bulk request takes from a millisecond to its time-out.
const LATENCY_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Handles to all metrics; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Records handed on by the consumer.
    pub consumed: IntCounter,
    /// Documents the search node created.
    pub indexed: IntCounter,
    /// Documents the search node had already (409 on create).
    pub duplicate: IntCounter,
    /// Records acknowledged by the dead-letter topic, by reason.
    pub dead_lettered: IntCounterVec,
    /// Records dropped on purpose, by pipeline.
    pub dropped: IntCounterVec,
    /// Records that a retry topic has, to be read again, by reason.
    pub put_off: IntCounterVec,
    /// Records given back unfinished, to be read again.
    pub returned: IntCounter,
    /// Records between consumption and their end.
    pub in_flight: IntGauge,
    /// Documents sent again, by reason.
    pub retried: IntCounterVec,
    /// Bulk requests, by HTTP status (`none`: no answer).
    pub bulk_requests: IntCounterVec,
    /// Seconds from sending a bulk request to its whole answer.
    pub bulk_seconds: Histogram,
    /// Bytes of bulk bodies before compression.
    pub bulk_bytes: IntCounter,
    /// Bulk requests that may be under way at once, as adapted.
    pub concurrency: IntGauge,
    /// Documents that went into a failure store instead of their data stream.
    pub failure_stored: IntCounter,
    /// Records that were gone before they were read, by topic.
    pub lost: IntCounterVec,
    /// Records that wait in their partition, by topic and partition.
    pub lag: IntGaugeVec,
    /// Seconds since the oldest record that is not safe was written, by topic and partition.
    pub lag_seconds: IntGaugeVec,
    /// Seconds until retention may delete the first record that is not safe, by topic and partition.
    pub retention_left: IntGaugeVec,
    /// How long records took, by stage.
    pub latency: Tallies,
    /// Records of which a stage ended before it began, by the clocks, by stage.
    pub latency_backward: IntCounterVec,
    /// Records whose pipeline failed; they are indexed all the same.
    pub pipeline_failures: IntCounterVec,
    /// Records that asked for a pipeline that is not loaded; they are indexed all the same.
    pub pipeline_unknown: IntCounter,
    /// Payloads with bytes that are not UTF-8, replaced by U+FFFD.
    pub undecodable: IntCounter,
    /// Documents whose index name had to fall back to `generic`.
    pub index_fallback: IntCounter,
    /// Partitions assigned now.
    pub assigned: IntGauge,
    /// Rebalances since the start.
    pub rebalances: IntCounter,
    /// Offset commits, by result.
    pub commits: IntCounterVec,
    /// Errors told by the consumer.
    pub consume_errors: IntCounter,
    /// Partitions of retry topics whose next record is not due yet.
    pub waiting: IntGauge,
    /// Records that the group has still to read of the main topics; -1: not known, or there are no overflow topics.
    pub main_lag: IntGauge,
    /// 1 while overflow topics are read at full speed.
    pub overflow_open: IntGauge,
    /// 1 while partitions are paused because the output does not keep up.
    pub paused: IntGauge,
    /// 1 while the mass-failure breaker holds dead letters back.
    pub breaker_open: IntGauge,
    /// Reloads of the pipelines, by result.
    pub reloads: IntCounterVec,
}

impl Metrics {
    /// Registers all of them.
    pub fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| registry.counter(&format!("tailrace_indexer_{name}"), help);
        let counters = |name: &str, help: &str, label: &str| {
            registry.counters(&format!("tailrace_indexer_{name}"), help, &[label])
        };
        let gauge = |name: &str, help: &str| registry.gauge(&format!("tailrace_indexer_{name}"), help);
        let lag = registry.gauges("tailrace_indexer_lag", "records waiting in the partition", &["topic", "partition"]);
        let age = "seconds since the oldest record of the partition that is not safe was written";
        let lag_seconds = registry.gauges("tailrace_indexer_lag_seconds", age, &["topic", "partition"]);
        let left = "seconds until retention may delete the first record of the partition that is not safe";
        let retention_left = registry.gauges("tailrace_indexer_retention_left_seconds", left, &["topic", "partition"]);
        let stages = "seconds that records took, by stage";
        let latency = registry.tallies("tailrace_indexer_latency_seconds", stages, "stage", &STAGES);
        let backward = "records of which the stage ended before it began, by the clocks";
        let seconds = "seconds from sending a bulk request to its whole answer";
        Self {
            consumed: counter("consumed_total", "records handed on by the consumer"),
            indexed: counter("indexed_total", "documents created"),
            duplicate: counter("duplicate_total", "documents that were there already"),
            dead_lettered: counters("dead_lettered_total", "records in the dead-letter topic", "reason"),
            dropped: counters("dropped_total", "records dropped on purpose", "pipeline"),
            put_off: counters("put_off_total", "records in a retry topic, to be read again", "reason"),
            returned: counter("returned_total", "records given back unfinished, to be read again"),
            in_flight: gauge("in_flight", "records between consumption and their end"),
            retried: counters("retried_total", "documents sent again", "reason"),
            bulk_requests: counters("bulk_requests_total", "bulk requests", "status"),
            bulk_seconds: registry.histogram("tailrace_indexer_bulk_seconds", seconds, LATENCY_BUCKETS.to_vec()),
            bulk_bytes: counter("bulk_bytes_total", "bytes of bulk bodies before compression"),
            concurrency: gauge("concurrency", "bulk requests that may be under way at once, as adapted"),
            failure_stored: counter("failure_stored_total", "documents that went into a failure store"),
            lost: counters("lost_total", "records that were gone before they were read", "topic"),
            lag,
            lag_seconds,
            retention_left,
            latency,
            latency_backward: counters("latency_backward_total", backward, "stage"),
            pipeline_failures: counters("pipeline_failures_total", "records whose pipeline failed", "pipeline"),
            pipeline_unknown: counter("pipeline_unknown_total", "records that asked for a pipeline that is not loaded"),
            undecodable: counter("undecodable_total", "payloads with bytes that are not UTF-8"),
            index_fallback: counter("index_fallback_total", "documents whose index name fell back to generic"),
            assigned: gauge("assigned_partitions", "partitions assigned now"),
            rebalances: counter("rebalances_total", "rebalances since the start"),
            commits: counters("commits_total", "offset commits", "result"),
            consume_errors: counter("consume_errors_total", "errors told by the consumer"),
            waiting: gauge("waiting_partitions", "partitions of retry topics whose next record is not due yet"),
            main_lag: gauge("main_lag", "records the group has still to read of the main topics; -1: unknown"),
            overflow_open: gauge("overflow_open", "1 while overflow topics are read at full speed"),
            paused: gauge("paused", "1 while partitions are paused because the output does not keep up"),
            breaker_open: gauge("breaker_open", "1 while the mass-failure breaker holds dead letters back"),
            reloads: counters("reloads_total", "reloads of the pipelines", "result"),
        }
    }

    /// Both sides of the equation: consumed, and all the ends a record can have, with what is in flight.
    pub fn equation(&self) -> (u64, u64) {
        let sum = |counters: &IntCounterVec| {
            prometheus::core::Collector::collect(counters)
                .iter()
                .flat_map(prometheus::proto::MetricFamily::get_metric)
                .map(|metric| metric.get_counter().get_value() as u64)
                .sum::<u64>()
        };
        let ends = self.indexed.get() + self.duplicate.get() + self.returned.get();
        let in_flight = u64::try_from(self.in_flight.get()).unwrap_or(0);
        (self.consumed.get(), ends + sum(&self.dead_lettered) + sum(&self.dropped) + sum(&self.put_off) + in_flight)
    }
}
