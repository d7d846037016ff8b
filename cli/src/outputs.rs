//! `kafka` and `outputs` of agent.yaml → the clusters that it ships to.
//!
//! Each output has an agent of its own in the same process: it reads the files for itself, and its checkpoint is its own. So one
//! that is away holds up no other, and the files keep for it what it has not yet got.

use crate::agent::AgentFile;
use crate::check::Unusable;
use crate::inputs::Configured;
use agent::InputKind;
use serde::Deserialize;
use shipper::KafkaConfig;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The id of the output under `kafka`.
pub(crate) const MAIN: &str = "kafka";
/// Folder of the checkpoints of the others, in `state_dir`.
const FOLDER: &str = "outputs";

/// One more cluster. YAML: an entry of `outputs`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutputConfig {
    /// Unique name, of letters, digits, `-` and `_`: a folder of its checkpoint and a label of its metrics.
    id: String,
    /// Where to, as `kafka` beside `inputs`.
    kafka: KafkaConfig,
}

/// A cluster that the agent ships to.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) id: String,
    pub(crate) kafka: KafkaConfig,
    /// Folder of its checkpoint.
    pub(crate) state_dir: PathBuf,
}

/// The clusters that `file`, read from `path`, ships to: at least one. Errors: as [`Unusable`].
pub(crate) fn outputs(path: &Path, file: &AgentFile) -> anyhow::Result<Vec<Output>> {
    let unusable = |what: String| Unusable::error(&format!("{}: {what}", path.display()));
    let main = file.kafka.iter().map(|kafka| (MAIN, kafka, file.state_dir().to_owned()));
    let folder = file.state_dir().join(FOLDER);
    let others = file.outputs.iter().map(|output| (&*output.id, &output.kafka, folder.join(&output.id)));
    let (mut outputs, mut ids) = (Vec::new(), BTreeSet::new());
    for (id, kafka, state_dir) in main.chain(others) {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if id.is_empty() || !id.bytes().all(is_name) {
            return Err(unusable(format!("outputs: id {id:?}: it must be of letters, digits, - and _")));
        }
        if !ids.insert(id) {
            let why = if id == MAIN { "it is that of the cluster under `kafka`" } else { "ids must be unique" };
            return Err(unusable(format!("outputs: id {id:?} is used twice: {why}")));
        }
        outputs.push(Output { id: id.to_owned(), kafka: kafka.clone(), state_dir });
    }
    if outputs.is_empty() {
        return Err(unusable("kafka: where to? Set kafka, or outputs for several clusters".into()));
    }
    Ok(outputs)
}

/// Errors: an input that names an output that there is not, or that cannot be read for several; an output without any input.
pub(crate) fn check_inputs(path: &Path, file: &AgentFile, inputs: &[Configured]) -> anyhow::Result<()> {
    let outputs = outputs(path, file)?;
    for Configured { config, place, .. } in inputs {
        let unusable = |what: String| Err(Unusable::error(&format!("{place}: input {:?}: {what}", config.id)));
        let known = || outputs.iter().map(|output| output.id.as_str()).collect::<Vec<_>>().join(", ");
        if let Some(id) = config.outputs.iter().find(|id| !outputs.iter().any(|output| output.id == **id)) {
            return unusable(format!("outputs: there is no output {id:?}; there are: {}", known()));
        }
        let goes_to = outputs.iter().filter(|output| goes_to(&config.outputs, output)).count();
        match config.kind {
            InputKind::Stdin if outputs.len() > 1 => {
                return unusable("type stdin: with several outputs nobody can tell when it is done".into());
            }
            InputKind::Syslog if goes_to > 1 => {
                return unusable(format!(
                    "type syslog: what is received can go to one output only: set outputs to one of {}",
                    known()
                ));
            }
            InputKind::File if goes_to > 1 && config.delete_after.is_some() => {
                return unusable(
                    "delete_after: a file that goes to several outputs cannot be removed when one has it".into(),
                );
            }
            _ => {}
        }
    }
    let idle = |output: &&Output| !inputs.iter().any(|input| goes_to(&input.config.outputs, output));
    match outputs.iter().find(idle) {
        // A folder of inputs may bring some while the agent runs.
        Some(output) if file.inputs_dir.is_none() => {
            let what = format!("{}: output {:?}: no input goes to it", path.display(), output.id);
            Err(Unusable::error(&what))
        }
        _ => Ok(()),
    }
}

/// True if an input that names these outputs goes to this one: none named means all.
fn goes_to(named: &[String], output: &Output) -> bool {
    named.is_empty() || named.contains(&output.id)
}

/// Those of the inputs that go to `output`.
pub(crate) fn inputs_of<I: Clone>(inputs: &[Configured<I>], output: &Output) -> Vec<Configured<I>> {
    inputs.iter().filter(|input| goes_to(&input.config.outputs, output)).cloned().collect()
}

/// The output that is meant: the only one, or that with this id. Errors: none or another is named, as [`Unusable`].
pub(crate) fn chosen(path: &Path, mut outputs: Vec<Output>, id: Option<&str>) -> anyhow::Result<Output> {
    let known: Vec<_> = outputs.iter().map(|output| output.id.clone()).collect();
    let place = match id {
        Some(id) => known.iter().position(|known| known == id),
        None => Some(0).filter(|_| known.len() == 1),
    };
    let what = || match id {
        Some(id) => format!("there is no output {id:?}"),
        None => "it has several outputs: choose one with --output".to_owned(),
    };
    let place =
        place.ok_or_else(|| Unusable::error(&format!("{}: {}: {}", path.display(), what(), known.join(", "))))?;
    Ok(outputs.swap_remove(place))
}
