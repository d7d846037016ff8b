//! `tailrace check`: what is wrong with a configuration, before a daemon runs on it.

use crate::agent::AgentFile;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Checks a configuration: the agent's if it has `inputs`, the indexer's if it has `elasticsearch`.
///
/// Of an agent's it also warns, on standard error, where inputs match the same file, the agent's own files, or nothing now.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
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
}

/// Exit codes: 0 usable, 2 not.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let path = &options.config;
    let sketch: Sketch = service::load::read_config(path)?;
    let found = match (sketch.inputs.or(sketch.inputs_dir), sketch.elasticsearch) {
        (Some(_), None) => agent(path)?,
        (None, Some(_)) => indexer(path)?,
        _ => {
            let what = "neither an agent's file (with inputs) nor an indexer's (with elasticsearch)";
            return Err(Unusable::error(&format!("{}: {what}", path.display())));
        }
    };
    writeln!(std::io::stdout(), "{}: ok, {found}", path.display())?;
    Ok(ExitCode::SUCCESS)
}

fn agent(path: &Path) -> anyhow::Result<String> {
    let file: AgentFile = service::load::read_config(path)?;
    let (agent, _, plans) = file.compile(path)?;
    for warning in
        crate::overlap::warnings(&crate::inputs::of_files(crate::inputs::configured(path, &file)?), file.state_dir())
    {
        eprintln!("{warning}");
    }
    let plans = if plans.is_empty() { String::new() } else { format!(" and {} rate plan(s)", plans.len()) };
    Ok(format!("an agent with {} input(s){plans}", agent.inputs.len()))
}

fn indexer(path: &Path) -> anyhow::Result<String> {
    let config: indexer::IndexerConfig = service::load::read_config(path)?;
    let unusable = |error: anyhow::Error| Unusable::error(&format!("{}: {error:#}", path.display()));
    indexer::check(&config).map_err(unusable)?;
    Ok("an indexer; its pipelines compile".to_owned())
}
