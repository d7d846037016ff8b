//! SIGHUP, or a change in `inputs_dir` → the agent's inputs and rate plans anew. What is wrong changes nothing but the log and the health.

use crate::agent::AgentFile;
use crate::check::Unusable;
use crate::inputs::{configured, folder};
use crate::outputs::{Output, inputs_of, outputs};
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

/// What a reload changes of one output.
pub(crate) struct Reloaded {
    /// Its id.
    pub(crate) output: String,
    /// As it was at the start: it stays.
    pub(crate) kafka: KafkaConfig,
    pub(crate) inputs: Reloader,
    pub(crate) limits: Limits,
    pub(crate) metrics: AgentMetrics,
}

/// Reloads until stopped. `path` is agent.yaml, `dir` its `inputs_dir` as of the start.
pub(crate) fn watch(
    path: PathBuf,
    dir: Option<PathBuf>,
    outputs: Vec<Reloaded>,
    health: Health,
    stop: Stop,
) -> anyhow::Result<()> {
    let mut hangups = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
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
            let running: Vec<_> = outputs.iter().map(|output| (&*output.output, &output.kafka)).collect();
            take(read(&path, &running), &outputs, &health);
        }
    });
    Ok(())
}

/// What can be seen of a change without reading: names, sizes and times.
fn sighting(dir: Option<&Path>) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let paths = folder(dir).unwrap_or_default();
    let seen = paths.into_iter().map(|path| {
        let found = std::fs::metadata(&path).ok();
        let (size, time) =
            (found.as_ref().map_or(0, |found| found.len()), found.and_then(|found| found.modified().ok()));
        (path, size, time)
    });
    seen.collect()
}

/// What one output has from now on.
struct News {
    inputs: Vec<CheckedInput>,
    plans: Vec<Plan>,
}

/// The inputs and plans of the outputs that run, with what each ships with.
fn read(path: &Path, running: &[(&str, &KafkaConfig)]) -> anyhow::Result<Vec<News>> {
    let file = AgentFile::read(path)?;
    let (inputs, outputs) = (configured(path, &file)?, outputs(path, &file)?);
    if !outputs.iter().map(|output| &*output.id).eq(running.iter().map(|(id, _)| *id)) {
        let what = "kafka and outputs are not what they were: they are taken at the next start";
        return Err(Unusable::error(&format!("{}: {what}", path.display())));
    }
    let news = |(output, (_, kafka)): (&Output, &(&str, &KafkaConfig))| {
        let plans = file.plans(path, kafka, &inputs)?;
        Ok(News { inputs: inputs_of(&inputs, output).into_iter().map(|configured| configured.input).collect(), plans })
    };
    outputs.iter().zip(running).map(news).collect()
}

fn take(read: anyhow::Result<Vec<News>>, outputs: &[Reloaded], health: &Health) {
    let result = match read {
        Ok(news) => {
            for (output, news) in outputs.iter().zip(news) {
                output.limits.reload(news.plans);
                output.inputs.reload(news.inputs);
            }
            health.set("config", None);
            "ok"
        }
        Err(error) => {
            let told = crate::told(&error);
            tracing::error!(error = told, "not reloaded, inputs and rate plans stay as they are");
            health.set("config", Some(format!("not reloaded: {told}")));
            "failed"
        }
    };
    outputs.iter().for_each(|output| output.metrics.reloads.with_label_values(&[result]).inc());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_checked_against_the_delivery_that_runs_and_not_against_one_that_needs_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("agent.yaml");
        let plan = "limits: [{name: p, rate: {events: 5/s}, excess: {divert: later}}]";
        let inputs = "inputs: [{id: a, type: file, paths: [/a]}]";
        std::fs::write(&path, format!("kafka: {{brokers: ['a:9092']}}\n{plan}\n{inputs}\n")).expect("written");
        let runs = |delivery: &str| -> KafkaConfig {
            let yaml = format!("{{brokers: ['a:9092'], delivery: {delivery}}}");
            service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("valid")
        };
        let refused = |running: &[(&str, &KafkaConfig)]| read(&path, running).err().expect("is refused").to_string();
        let error = refused(&[("kafka", &runs("exactly_once"))]);
        assert!(error.contains("agent.yaml:2:17: limit \"p\": excess.divert: not with"), "{error}");
        let same = runs("at_least_once");
        let news = read(&path, &[("kafka", &same)]).unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!((news.len(), news[0].plans.len(), news[0].inputs.len()), (1, 1, 1));
        let error = refused(&[("kafka", &same), ("far", &same)]);
        assert!(error.contains("outputs are not what they were"), "{error}");
    }
}
