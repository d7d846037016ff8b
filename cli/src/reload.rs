//! SIGHUP, or a change in `inputs_dir` → the agent's inputs and rate plans anew. What is wrong changes nothing but the log and the health.

use crate::agent::AgentFile;
use crate::inputs;
use agent::{AgentMetrics, CheckedInput, Reloader};
use anyhow::Context as _;
use service::health::Health;
use service::stop::Stop;
use shipper::{KafkaConfig, Limits, Plan};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{SignalKind, signal};

/// How often the folder is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Reloads until stopped. `path` is agent.yaml, `begun` what it said at the start: its `inputs_dir` and `kafka` stay.
pub(crate) fn watch(
    path: PathBuf,
    begun: AgentFile,
    to: (Reloader, Limits),
    metrics: AgentMetrics,
    health: Health,
    stop: Stop,
) -> anyhow::Result<()> {
    let mut hangups = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    let dir = begun.inputs_dir.clone();
    let mut known = sighting(dir.as_deref());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                Some(()) = hangups.recv() => known = sighting(dir.as_deref()),
                () = tokio::time::sleep(LOOK_EVERY) => {
                    let now = sighting(dir.as_deref());
                    if std::mem::replace(&mut known, now.clone()) == now {
                        continue;
                    }
                }
            }
            take(read(&path, begun.kafka()), &to, &metrics, &health);
        }
    });
    Ok(())
}

/// What can be seen of a change without reading: names, sizes and times.
fn sighting(dir: Option<&Path>) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let paths = inputs::folder(dir).unwrap_or_default();
    let seen = paths.into_iter().map(|path| {
        let found = std::fs::metadata(&path).ok();
        let (size, time) =
            (found.as_ref().map_or(0, |found| found.len()), found.and_then(|found| found.modified().ok()));
        (path, size, time)
    });
    seen.collect()
}

fn read(path: &Path, kafka: &KafkaConfig) -> anyhow::Result<(Vec<CheckedInput>, Vec<Plan>)> {
    let file: AgentFile = service::load::read_config(path)?;
    let inputs = inputs::load(path, &file)?;
    let plans = file.plans(path, &inputs, kafka)?;
    Ok((inputs, plans))
}

fn take(
    read: anyhow::Result<(Vec<CheckedInput>, Vec<Plan>)>,
    (reloader, limits): &(Reloader, Limits),
    metrics: &AgentMetrics,
    health: &Health,
) {
    match read {
        Ok((inputs, plans)) => {
            limits.reload(plans);
            reloader.reload(inputs);
            metrics.reloads.with_label_values(&["ok"]).inc();
            health.set("config", None);
        }
        Err(error) => {
            let told = crate::told(&error);
            tracing::error!(error = told, "not reloaded, inputs and rate plans stay as they are");
            metrics.reloads.with_label_values(&["failed"]).inc();
            health.set("config", Some(format!("not reloaded: {told}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_checked_against_the_delivery_that_runs_and_not_against_one_that_needs_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("agent.yaml");
        let plan = "limits: [{name: p, rate: {events: 5/s}, excess: {divert: later}}]";
        std::fs::write(&path, format!("kafka: {{brokers: ['a:9092']}}\n{plan}\n")).expect("written");
        let runs = |delivery: &str| -> KafkaConfig {
            let yaml = format!("{{brokers: ['a:9092'], delivery: {delivery}}}");
            service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("valid")
        };
        let error = read(&path, &runs("exactly_once")).expect_err("is refused").to_string();
        assert!(error.contains("agent.yaml:2:16: limit \"p\": excess.divert: not with"), "{error}");
        assert_eq!(read(&path, &runs("at_least_once")).expect("valid").1.len(), 1);
    }
}
