//! Judged groups → what passes goes on, what is diverted goes to its topic, what is dropped is settled.

use crate::config::ShipperConfig;
use crate::judged::{Judged, Way};
use crate::metrics::ShipperMetrics;
use crate::overflow::Overflows;
use crate::template::Of;
use crate::topic::{is_confined, is_name};
use event::{Divert, Group, Route};
use std::sync::Arc;
use tokio::sync::mpsc::{Receiver, Sender};

/// Runs until the input or the output closes.
pub(crate) async fn run(
    config: &ShipperConfig,
    mut input: Receiver<Judged>,
    output: Sender<Group>,
    overflows: &mut Overflows,
    metrics: &ShipperMetrics,
) {
    'all: loop {
        let judged = tokio::select! {
            judged = input.recv() => judged,
            () = output.closed() => break, // A later stage has ended.
        };
        let Some(judged) = judged else { break };
        for (group, way) in judged.divided() {
            match way {
                Way::Pass => {
                    if let Err(unsent) = output.send(group).await {
                        metrics.count_lost(&unsent.0);
                        break 'all;
                    }
                }
                Way::Drop { plan } => {
                    count(metrics, &plan, "dropped", &group);
                    group.ack.by(Route::Dropped(plan)).settle();
                }
                Way::Divert { plan, reason, topic, room } => {
                    count(metrics, &plan, "diverted", &group);
                    let divert = Divert { from: meant_for(config, &group), plan: plan.to_string(), reason };
                    let ack = group.ack.by(Route::Overflow).holding(room);
                    overflows.send(&topic, Group { divert: Some(Arc::new(divert)), ack, ..group });
                }
            }
        }
    }
    input.close();
    while let Some(judged) = input.recv().await {
        metrics.count_unsent(judged);
    }
    overflows.close();
}

pub(crate) fn count(metrics: &ShipperMetrics, plan: &str, outcome: &str, group: &Group) {
    let bytes = group.records.iter().map(|record| u64::from(record.bytes.end - record.bytes.start) + 1).sum();
    metrics.limited.with_label_values(&[plan, outcome]).inc_by(group.records.len() as u64);
    metrics.limited_bytes.with_label_values(&[plan, outcome]).inc_by(bytes);
}

/// The topic that `group` would have gone to; where each line has its own, the template as it is written.
fn meant_for(config: &ShipperConfig, group: &Group) -> String {
    if config.topic.is_of_lines() {
        return config.kafka.topic.clone();
    }
    let (input, mut name) = (group.source.input(), String::new());
    let of = Of { host: &config.name, source: &group.source, input: &input, extra: None };
    if config.topic.is_literal() || !config.topic.render(of, &mut name, is_confined) || !is_name(&name) {
        return config.fixed_topic.clone();
    }
    name
}
