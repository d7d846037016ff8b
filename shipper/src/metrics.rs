//! The shipper's metrics, in one table.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use service::metrics::Registry;

/// What the shipper counts.
#[derive(Debug, Clone)]
pub struct ShipperMetrics {
    /// Records handed to the Kafka client.
    pub produced: IntCounter,
    /// Bytes of payloads handed to the Kafka client, before compression.
    pub produced_bytes: IntCounter,
    /// Groups that were not delivered and go back to be read again, by librdkafka's error.
    pub failed: IntCounterVec,
    /// Groups that wait for their delivery reports.
    pub groups_in_flight: IntGauge,
    /// Lines that are not UTF-8, sent with U+FFFD for each bad sequence.
    pub invalid_utf8: IntCounter,
    /// Lines cut because their record would be larger than the topic takes.
    pub cut: IntCounter,
    /// Producers made anew after a fatal error.
    pub rebuilt: IntCounter,
    /// Events that a rate plan did not let pass, by plan and outcome.
    pub limited: IntCounterVec,
    /// Their bytes.
    pub limited_bytes: IntCounterVec,
    /// How often a source was asked for and held by a rate plan.
    pub held: IntCounter,
    /// Groups that wait for delivery reports of a topic that takes what is diverted, by topic.
    pub overflow_groups_in_flight: IntGaugeVec,
    /// Errors told by the client, by error.
    pub client_errors: IntCounterVec,
}

impl ShipperMetrics {
    /// Registers the table.
    pub fn new(registry: &Registry) -> Self {
        let name = |name: &str| format!("tailrace_shipper_{name}");
        let counter = |n: &str, help: &str| registry.counter(&name(n), help);
        let counters = |n: &str, help: &str, label: &str| registry.counters(&name(n), help, &[label]);
        let plan_counters = |n: &str, help: &str| registry.counters(&name(n), help, &["outcome", "plan"]);
        let gauges = |n: &str, help: &str| registry.gauges(&name(n), help, &["topic"]);
        Self {
            produced: counter("records_produced_total", "Records handed to the Kafka client."),
            produced_bytes: counter("produced_bytes_total", "Bytes of payloads, before compression."),
            failed: counters("groups_failed_total", "Groups that were not delivered.", "error"),
            groups_in_flight: registry.gauge(&name("groups_in_flight"), "Groups that wait for delivery reports."),
            invalid_utf8: counter("invalid_utf8_total", "Lines that are not UTF-8."),
            cut: counter("records_cut_total", "Lines cut to what the topic takes."),
            rebuilt: counter("producers_rebuilt_total", "Producers made anew after a fatal error."),
            limited: plan_counters("limited_events_total", "Events not let pass."),
            limited_bytes: plan_counters("limited_bytes_total", "Bytes of lines not let pass."),
            held: counter("limit_holds_total", "Times that a source was to be read and was held."),
            overflow_groups_in_flight: gauges("overflow_groups_in_flight", "Diverted groups in flight."),
            client_errors: counters("client_errors_total", "Errors told by the Kafka client.", "error"),
        }
    }
}
