//! The agent's metrics, in one table. The equation of DESIGN.md §3 always holds, in records and in bytes of the files:
//! read = acknowledged + filtered + skipped (bytes only) + dropped + dead-lettered + returned + in flight.

use crate::follow::Passed;
use event::{Debt, Route, Share};
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use service::metrics::Registry;
use std::collections::BTreeMap;

/// What the agent counts.
#[derive(Debug, Clone)]
pub struct AgentMetrics {
    /// Records read, again after a rewind.
    pub read: IntCounter,
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
    /// Bytes of the memory budget in use.
    pub memory_in_use: IntGauge,
    /// Bytes of the files that were read, with line ends, again after a rewind.
    pub bytes_read: IntCounter,
    /// Bytes of the files whose delivery is acknowledged.
    pub bytes_acknowledged: IntCounter,
    /// Bytes of the files dropped by a rate plan, by plan.
    pub bytes_dropped: IntCounterVec,
    /// Bytes of lines left out by a rule, by reason.
    pub bytes_filtered: IntCounterVec,
    /// Bytes that are no part of any record, by reason: cut off a long line, a hole.
    pub bytes_skipped: IntCounterVec,
    /// Bytes given back, to be read again.
    pub bytes_returned: IntCounter,
    /// Bytes of the files between reading and acknowledgement.
    pub bytes_in_flight: IntGauge,
    /// Lines cut at `line_bytes_max`.
    pub truncated: IntCounter,
    /// Bytes known to be lost before they were read, by reason.
    pub lost_bytes: IntCounterVec,
    /// Unread bytes of files that will be deleted before they are read, as it looks now.
    pub at_risk: IntGauge,
    /// Files of which that was said.
    pub loss_warnings: IntCounter,
    /// Bytes that are no character of their file's encoding.
    pub invalid_bytes: IntCounter,
    /// Pieces of lines that were split at the limit.
    pub pieces: IntCounter,
    /// Events that a parser could not read.
    pub unparsed: IntCounter,
    /// Records taken from a sender and lost, by reason.
    pub lost_events: IntCounterVec,
    /// Messages that could not be read and are shipped as they are, by reason.
    pub messages_unparsed: IntCounterVec,
    /// Connections open now.
    pub connections: IntGauge,
    /// Starts of the program that reads the journal, by result.
    pub journal_starts: IntCounterVec,
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
    /// Packed files that cannot be unpacked to their end, by reason.
    pub unpack_failures: IntCounterVec,
    /// Flushes of the checkpoint, by result.
    pub checkpoints: IntCounterVec,
    /// Reloads of the inputs, by result.
    pub reloads: IntCounterVec,
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
            acknowledged: counters("events_acknowledged_total", "Records whose delivery is acknowledged.", "route"),
            filtered: counters("events_filtered_total", "Records left out by a rule.", "reason"),
            dropped: counters("events_dropped_total", "Records dropped by a rate plan.", "plan"),
            dead_lettered: counters("events_dead_lettered_total", "Records that can never be delivered.", "reason"),
            returned: counter("events_returned_total", "Records given back, to be read again."),
            in_flight: gauge("events_in_flight", "Records between reading and acknowledgement."),
            memory_in_use: gauge("memory_in_use_bytes", "Bytes of the memory budget in use."),
            bytes_read: counter("bytes_read_total", "Bytes of files read, with line ends, again after a rewind."),
            bytes_acknowledged: counter("bytes_acknowledged_total", "Bytes of files whose delivery is acknowledged."),
            bytes_dropped: counters("bytes_dropped_total", "Bytes of files dropped by a rate plan.", "plan"),
            bytes_filtered: counters("bytes_filtered_total", "Bytes of lines left out by a rule.", "reason"),
            bytes_skipped: counters("bytes_skipped_total", "Bytes of files that are no part of any record.", "reason"),
            bytes_returned: counter("bytes_returned_total", "Bytes given back, to be read again."),
            bytes_in_flight: gauge("bytes_in_flight", "Bytes of files between reading and acknowledgement."),
            truncated: counter("lines_truncated_total", "Lines cut at line_bytes_max."),
            lost_bytes: counters("lost_bytes_total", "Bytes lost before they were read.", "reason"),
            at_risk: gauge("at_risk_bytes", "Unread bytes that will be deleted before they are read, as it looks now."),
            loss_warnings: counter("loss_warnings_total", "Files whose unread bytes were said to be at risk."),
            invalid_bytes: counter("invalid_bytes_total", "Bytes that are no character of their file's encoding."),
            pieces: counter("line_pieces_total", "Pieces of lines that were split at line_bytes_max."),
            unparsed: counter("events_unparsed_total", "Events that a parser could not read, shipped as they are."),
            lost_events: counters("events_lost_total", "Records taken from a sender and lost.", "reason"),
            messages_unparsed: counters("messages_unparsed_total", "Messages shipped as they are, unread.", "reason"),
            connections: gauge("connections", "Connections of syslog senders open now."),
            journal_starts: counters("journalctl_starts_total", "Starts of journalctl.", "result"),
            open_files: gauge("files_open", "Files open now."),
            removed: counter("files_removed_total", "Files removed after their last byte was acknowledged."),
            files: gauge("files", "Files followed now."),
            unreadable: gauge("files_unreadable", "Files that match but cannot be opened."),
            incarnations: counters("incarnations_total", "Lives of files begun.", "reason"),
            unpack_failures: counters("unpack_failures_total", "Packed files that cannot be unpacked.", "reason"),
            checkpoints: counters("checkpoint_flushes_total", "Flushes of the checkpoint.", "result"),
            reloads: counters("reloads_total", "Reloads of the inputs.", "result"),
            rewinds: counter("rewinds_total", "Returns to the last acknowledged offset."),
        }
    }

    /// Counts a span that was read: its records, its bytes, and what of it makes no record.
    pub(crate) fn count_read(&self, events: u64, bytes: u64, passed: &Passed, filtered: &BTreeMap<&'static str, u64>) {
        self.read.inc_by(events + passed.empty + filtered.values().sum::<u64>());
        for (reason, count) in filtered {
            self.filtered.with_label_values(&[*reason]).inc_by(*count);
        }
        self.invalid_bytes.inc_by(passed.invalid_bytes);
        self.pieces.inc_by(passed.pieces);
        self.unparsed.inc_by(passed.unparsed);
        self.in_flight.add(i64::try_from(events).unwrap_or(i64::MAX));
        self.bytes_read.inc_by(bytes);
        self.bytes_in_flight.add(i64::try_from(bytes - passed.bytes()).unwrap_or(i64::MAX));
        self.truncated.inc_by(passed.truncated);
        if passed.bytes() > 0 {
            self.filtered.with_label_values(&["empty"]).inc_by(passed.empty);
            self.bytes_filtered.with_label_values(&["empty"]).inc_by(passed.empty_bytes);
            self.bytes_skipped.with_label_values(&["truncated"]).inc_by(passed.cut_bytes);
            self.bytes_skipped.with_label_values(&["zeros"]).inc_by(passed.zero_bytes);
        }
    }

    /// A debt is settled, by these routes; without any all of it by the main one.
    pub(crate) fn count_settled(&self, debt: &Debt, shares: &[Share]) {
        if shares.is_empty() {
            self.count_share(&Share { route: Route::Main, events: debt.events, bytes: debt.bytes }, None);
        }
        shares.iter().for_each(|share| self.count_share(share, None));
        self.left_flight(debt);
    }

    /// A debt counts as settled before it is sent: wherever it goes, nobody will say that it arrived.
    pub(crate) fn count_reserved(&self, debt: &Debt, shares: &[Share]) {
        shares.iter().for_each(|share| self.count_share(share, Some("reserved")));
        self.left_flight(debt);
    }

    /// `sent`: the route of all that is not dropped, if it is not the share's own.
    fn count_share(&self, Share { route, events, bytes }: &Share, sent: Option<&str>) {
        let route = match route {
            Route::Main => sent.unwrap_or("main"),
            Route::Overflow => sent.unwrap_or("overflow"),
            Route::Dropped(plan) => {
                self.dropped.with_label_values(&[&**plan]).inc_by((*events).into());
                self.bytes_dropped.with_label_values(&[&**plan]).inc_by(*bytes);
                return;
            }
        };
        self.acknowledged.with_label_values(&[route]).inc_by((*events).into());
        self.bytes_acknowledged.inc_by(*bytes);
    }

    /// A debt is settled or given back.
    pub(crate) fn left_flight(&self, debt: &Debt) {
        self.in_flight.sub(debt.events.into());
        self.bytes_in_flight.sub(i64::try_from(debt.bytes).unwrap_or(i64::MAX));
    }
}
