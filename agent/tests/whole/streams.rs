//! Records of inputs that are no files, and when such inputs are at work and at their end.

use super::{AgentMetrics, PATIENCE, Running, config, run};
use agent::Ended;
use event::{Group, document_id};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// How long a stop waits for what cannot be delivered.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A record as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Got {
    pub text: String,
    pub id: String,
    pub fields: Value,
    pub timestamp_ms: Option<i64>,
    pub truncated: bool,
    pub reread: bool,
}

pub fn got(group: &Group) -> Vec<Got> {
    let each = group.records.iter().map(|record| {
        let text = group.bytes_of(record);
        let fields = record.extra.as_ref().map(|extra| serde_json::from_str(&extra.fields).expect("is JSON"));
        Got {
            text: String::from_utf8_lossy(text).into_owned(),
            id: String::from_utf8_lossy(&document_id(group.source.incarnation, record.offset, text)).into_owned(),
            fields: fields.unwrap_or_default(),
            timestamp_ms: record.extra.as_ref().and_then(|extra| extra.timestamp_ms),
            truncated: record.truncated,
            reread: group.reread,
        }
    });
    each.collect()
}

pub fn texts(got: &[Got]) -> Vec<&str> {
    got.iter().map(|got| got.text.as_str()).collect()
}

pub fn start(folder: &Path, yaml: &str) -> Running {
    start_with(folder, yaml, 1 << 20)
}

pub fn start_with(folder: &Path, yaml: &str, memory: usize) -> Running {
    let mut config = config(folder, yaml);
    (config.memory, config.drain_timeout) = (memory, DRAIN_TIMEOUT);
    run(config)
}

impl Running {
    /// Where an input listens, once it does.
    pub async fn listens(&self, input: &str) -> String {
        let address = || {
            let shown = self.board.inputs().into_iter().find(|shown| shown.input == input);
            shown.and_then(|shown| shown.listen)
        };
        self.met("it listens", || address().is_some()).await;
        address().expect("it listens")
    }

    /// The next `count` records, acknowledged as they come; fewer if no more come.
    pub async fn records(&mut self, count: usize) -> Vec<Got> {
        let mut records = Vec::new();
        while records.len() < count {
            let Ok(Some(group)) = tokio::time::timeout(PATIENCE, self.groups.recv()).await else { break };
            records.extend(got(&group));
            group.ack.settle();
        }
        records
    }

    /// Stops it, acknowledging what still comes; returns that, and whether all was delivered. The equations must hold.
    pub async fn end(mut self) -> (Vec<Got>, Ended) {
        self.trigger.stop();
        let rest = self.records(usize::MAX).await;
        drop(self.groups);
        let agent = self.agent;
        let left = tokio::task::spawn_blocking(|| agent.join()).await.expect("ends");
        balance(&self.metrics);
        assert!(!left.by_itself);
        (rest, left.ended)
    }
}

/// The equations, in records and in bytes.
pub fn balance(metrics: &AgentMetrics) {
    let of = |counters: &prometheus::IntCounterVec, label: &str| counters.with_label_values(&[label]).get();
    assert_eq!(
        metrics.read.get(),
        of(&metrics.acknowledged, "main") + of(&metrics.filtered, "empty") + metrics.returned.get(),
        "records"
    );
    let bytes_left = metrics.bytes_acknowledged.get() + metrics.bytes_returned.get();
    let bytes_passed = of(&metrics.bytes_filtered, "empty") + of(&metrics.bytes_skipped, "truncated");
    assert_eq!(metrics.bytes_read.get(), bytes_left + bytes_passed, "bytes");
    assert_eq!((metrics.in_flight.get(), metrics.bytes_in_flight.get()), (0, 0), "nothing is in flight");
}
