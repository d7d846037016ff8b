//! `tailrace check`: what is wrong with a configuration, before a daemon runs on it.

use crate::agent::AgentFile;
use crate::standalone::StandaloneFile;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Checks a configuration: the agent's if it has `inputs`, that of `standalone` if it has `elasticsearch` as well, the indexer's if it has `elasticsearch`, or `outputs` alone.
///
/// Of an agent's it also warns, on standard error, where inputs match the same file, the agent's own files, or nothing now, and
/// what its topic makes of the promise and of long lines. It asks the brokers for that, for some seconds at most, and sends nothing.
/// Of an indexer's it says how long each grok pattern may take, and warns, on standard error, of those that need
/// backtracking.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Ask no broker
    #[arg(long)]
    offline: bool,
}

/// A configuration that is well formed and yet cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unusable(String);

impl Unusable {
    pub(crate) fn error(what: &str) -> anyhow::Error {
        Self(what.to_owned()).into()
    }
}

/// Only enough of a file to know whose it is.
#[derive(Deserialize)]
struct Sketch {
    inputs: Option<IgnoredAny>,
    inputs_dir: Option<IgnoredAny>,
    elasticsearch: Option<IgnoredAny>,
    outputs: Option<IgnoredAny>,
}

/// Exit codes: 0 usable, 2 not.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let path = &options.config;
    let sketch: Sketch = service::load::read_config(path)?;
    let found = match (sketch.inputs.or(sketch.inputs_dir), sketch.elasticsearch, sketch.outputs) {
        (Some(_), Some(_), _) => standalone(path)?,
        (Some(_), None, _) => agent(path, options.offline)?,
        (None, Some(_), _) | (None, None, Some(_)) => indexer(path)?,
        _ => {
            let what = "neither an agent's file (with inputs) nor an indexer's (with elasticsearch or outputs)";
            return Err(Unusable::error(&format!("{}: {what}", path.display())));
        }
    };
    writeln!(std::io::stdout(), "{}: ok, {found}", path.display())?;
    Ok(ExitCode::SUCCESS)
}

fn agent(path: &Path, is_offline: bool) -> anyhow::Result<String> {
    let file: AgentFile = service::load::read_config(path)?;
    let outputs = file.compile(path)?;
    let inputs = crate::inputs::configured(path, &file)?;
    let count = inputs.len();
    let lines: Vec<_> = inputs.iter().map(|input| (input.config.id.clone(), input.config.line_bytes_max.0)).collect();
    for warning in crate::overlap::warnings(&crate::inputs::of_files(inputs), file.state_dir()) {
        eprintln!("{warning}");
    }
    for compiled in outputs.iter().filter(|_| !is_offline) {
        let goes = |(id, _): &&(String, u64)| compiled.agent.inputs.iter().any(|input| input.shared().id == *id);
        let lines: Vec<_> = lines.iter().filter(goes).cloned().collect();
        for warning in of_kafka(&compiled.output, shipper::look(&compiled.shipper), &lines) {
            eprintln!("{warning}");
        }
    }
    let plans = outputs[0].plans.len();
    let plans = if plans == 0 { String::new() } else { format!(" and {plans} rate plan(s)") };
    let outputs = if outputs.len() == 1 { String::new() } else { format!(", to {} outputs", outputs.len()) };
    Ok(format!("an agent with {count} input(s){plans}{outputs}"))
}

/// What the topic of an output makes of the promise, and of lines as long as inputs allow: (id of the input, bytes).
fn of_kafka(output: &str, seen: anyhow::Result<shipper::Seen>, lines: &[(String, u64)]) -> Vec<String> {
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => return vec![format!("{output}: {error:#}")],
    };
    let (topic, limit) = (&seen.topic, seen.message_bytes_max);
    let weak = seen
        .weaknesses
        .iter()
        .map(|reason| format!("{output}: topic {topic}: {} holds, weaker than asked: {reason}", seen.guarantee));
    let long = lines.iter().filter(|(_, bytes)| usize::try_from(*bytes).is_ok_and(|bytes| bytes > limit)).map(|(id, bytes)| {
        format!(
            "input {id}: line_bytes_max {bytes} is more than topic {topic} takes (max.message.bytes {limit}): longer lines go \
             the way of kafka.too_large"
        )
    });
    weak.chain(long).collect()
}

fn standalone(path: &Path) -> anyhow::Result<String> {
    let file: StandaloneFile = service::load::read_config(path)?;
    let (compiled, _) = file.compile(path)?;
    Ok(format!("agent and indexer without Kafka, with {} input(s); its pipelines compile", compiled.agent.inputs.len()))
}

fn indexer(path: &Path) -> anyhow::Result<String> {
    let config: indexer::IndexerConfig = service::load::read_config(path)?;
    let unusable = |error: anyhow::Error| Unusable::error(&format!("{}: {error:#}", path.display()));
    indexer::check(&config).map_err(unusable)?;
    if let Some(dir) = &config.pipelines.dir {
        let library = engine::Library::load(dir)?;
        for pipeline in library.names().filter_map(|name| library.get(name)) {
            for note in pipeline.notes() {
                let text = format!("{}: {}: {}", pipeline.name(), note.place, note.text);
                match note.is_warning {
                    true => eprintln!("{text}"),
                    false => writeln!(std::io::stdout(), "{text}")?,
                }
            }
        }
    }
    Ok("an indexer; its pipelines compile".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_topic_makes_of_the_configuration_is_told() {
        let seen = shipper::Seen {
            topic: "logs".into(),
            message_bytes_max: 1_000,
            guarantee: "at_least_once",
            weaknesses: vec!["replication factor 1: use 3".into()],
        };
        let told = of_kafka("kafka", Ok(seen), &[("short".into(), 1_000), ("long".into(), 1_001)]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[0], "kafka: topic logs: at_least_once holds, weaker than asked: replication factor 1: use 3");
        assert!(told[1].starts_with("input long: line_bytes_max 1001 is more than topic logs takes"), "{}", told[1]);
        assert_eq!(of_kafka("kafka", Err(anyhow::anyhow!("no broker answers")), &[]), ["kafka: no broker answers"]);
    }
}
