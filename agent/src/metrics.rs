//! The agent's metrics, in one table. The equation of DESIGN.md §3 always holds:
//! read = acknowledged + filtered + dropped + dead-lettered + returned + in flight.

use prometheus::{IntCounter, IntCounterVec, IntGauge};
use service::metrics::Registry;

/// What the agent counts.
#[derive(Debug, Clone)]
pub struct AgentMetrics {
    /// Records read, again after a rewind.
    pub read: IntCounter,
    /// Bytes of the files that were read, with line ends.
    pub read_bytes: IntCounter,
    /// Records whose delivery is acknowledged, by route.
    pub acknowledged: IntCounterVec,
    /// Records left out by a rule, by reason.
    pub filtered: IntCounterVec,
    /// Records dropped by a rate plan, by plan.
    pub dropped: IntCounterVec,
    /// Records that can never be delivered, by reason.
    pub dead_lettered: IntCounterVec,
    /// Records given back, to be read again.
    pub returned: IntCounter,
    /// Records between reading and acknowledgement.
    pub in_flight: IntGauge,
    /// Bytes of the budget in use.
    pub in_flight_bytes: IntGauge,
    /// Lines cut at `line_bytes_max`.
    pub truncated: IntCounter,
    /// Bytes known to be lost before they were read, by reason.
    pub lost_bytes: IntCounterVec,
    /// Bytes of files that are no part of any line, by reason.
    pub skipped_bytes: IntCounterVec,
    /// Files open now.
    pub open_files: IntGauge,
    /// Files removed after their last byte was acknowledged.
    pub removed: IntCounter,
    /// Files followed now.
    pub files: IntGauge,
    /// Files that match but cannot be opened.
    pub unreadable: IntGauge,
    /// Lives of files begun, by reason.
    pub incarnations: IntCounterVec,
    /// Flushes of the checkpoint, by result.
    pub checkpoints: IntCounterVec,
    /// Spans that went back to the last acknowledged offset.
    pub rewinds: IntCounter,
}

impl AgentMetrics {
    /// Registers the table.
    pub fn new(registry: &Registry) -> Self {
        let name = |name: &str| format!("tailrace_agent_{name}");
        let counter = |n: &str, help: &str| registry.counter(&name(n), help);
        let counters = |n: &str, help: &str, label: &str| registry.counters(&name(n), help, &[label]);
        let gauge = |n: &str, help: &str| registry.gauge(&name(n), help);
        Self {
            read: counter("events_read_total", "Records read, again after a rewind."),
            read_bytes: counter("read_bytes_total", "Bytes of files read, with line ends."),
            acknowledged: counters("events_acknowledged_total", "Records whose delivery is acknowledged.", "route"),
            filtered: counters("events_filtered_total", "Records left out by a rule.", "reason"),
            dropped: counters("events_dropped_total", "Records dropped by a rate plan.", "plan"),
            dead_lettered: counters("events_dead_lettered_total", "Records that can never be delivered.", "reason"),
            returned: counter("events_returned_total", "Records given back, to be read again."),
            in_flight: gauge("events_in_flight", "Records between reading and acknowledgement."),
            in_flight_bytes: gauge("in_flight_bytes", "Bytes of the memory budget in use."),
            truncated: counter("lines_truncated_total", "Lines cut at line_bytes_max."),
            lost_bytes: counters("lost_bytes_total", "Bytes lost before they were read.", "reason"),
            skipped_bytes: counters("skipped_bytes_total", "Bytes of files that are no part of any line.", "reason"),
            open_files: gauge("files_open", "Files open now."),
            removed: counter("files_removed_total", "Files removed after their last byte was acknowledged."),
            files: gauge("files", "Files followed now."),
            unreadable: gauge("files_unreadable", "Files that match but cannot be opened."),
            incarnations: counters("incarnations_total", "Lives of files begun.", "reason"),
            checkpoints: counters("checkpoint_flushes_total", "Flushes of the checkpoint.", "result"),
            rewinds: counter("rewinds_total", "Returns to the last acknowledged offset."),
        }
    }
}
