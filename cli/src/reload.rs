//! SIGHUP, or a change in `inputs_dir` → the agent's inputs and rate plans anew. What is wrong changes nothing but the log and the health.

use crate::agent::AgentFile;
use crate::check::Unusable;
use crate::inputs;
use agent::{AgentMetrics, CheckedInput, Reloader};
use anyhow::Context as _;
use service::health::Health;
use service::stop::Stop;
use shipper::{Limits, Plan};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{SignalKind, signal};

/// How often the folder is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a reload changes of one output.
pub(crate) struct Reloaded {
    /// Its id.
    pub(crate) output: String,
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
            take(read(&path), &outputs, &health);
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

/// What one output has from now on.
struct News {
    output: String,
    inputs: Vec<CheckedInput>,
    plans: Vec<Plan>,
}

fn read(path: &Path) -> anyhow::Result<Vec<News>> {
    let file: AgentFile = service::load::read_config(path)?;
    let compiled = file.compile(path)?.into_iter();
    Ok(compiled.map(|of| News { output: of.output, inputs: of.agent.inputs, plans: of.plans }).collect())
}

fn take(read: anyhow::Result<Vec<News>>, outputs: &[Reloaded], health: &Health) {
    let is_same = |news: &[News]| news.iter().map(|news| &news.output).eq(outputs.iter().map(|output| &output.output));
    let checked = read.and_then(|news| match is_same(&news) {
        true => Ok(news),
        false => Err(Unusable::error("kafka and outputs are not what they were: they are taken at the next start")),
    });
    let result = match checked {
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
