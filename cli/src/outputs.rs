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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a configuration comes to: its outputs with their folders and the ids of the inputs that go there.
    fn read(yaml: &str) -> Result<Vec<(String, String, Vec<String>)>, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("agent.yaml");
        std::fs::write(&path, format!("state_dir: /state\n{yaml}")).expect("written");
        let file: AgentFile = service::load::read_config(&path).expect("well formed");
        let told = |error: anyhow::Error| format!("{error:#}").replace(&path.display().to_string(), "FILE");
        let compiled = file.compile(&path).map_err(told)?;
        let of = |compiled: crate::agent::Compiled| {
            let inputs = compiled.agent.inputs.iter().map(|input| input.shared().id.clone()).collect();
            (compiled.output, compiled.agent.state_dir.display().to_string(), inputs)
        };
        Ok(compiled.into_iter().map(of).collect())
    }

    const INPUTS: &str =
        "inputs: [{id: a, type: file, paths: [/a]}, {id: b, type: file, paths: [/b], outputs: [far]}]\n";

    #[test]
    fn each_output_has_its_folder_and_its_inputs() {
        let both = format!("{INPUTS}kafka: {{brokers: [n:1]}}\noutputs: [{{id: far, kafka: {{brokers: [f:1]}}}}]");
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let far = ("far".into(), "/state/outputs/far".into(), texts(&["a", "b"]));
        assert_eq!(read(&both), Ok(vec![("kafka".into(), "/state".into(), texts(&["a"])), far.clone()]));
        assert_eq!(read(&format!("{INPUTS}outputs: [{{id: far, kafka: {{brokers: [f:1]}}}}]")), Ok(vec![far]));
    }

    #[test]
    fn memory_and_descriptors_are_shared() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("agent.yaml");
        let outputs = "outputs: [{id: x, kafka: {brokers: [f:1]}}, {id: y, kafka: {brokers: [f:1]}}]";
        let yaml =
            format!("memory: 9MiB\ninputs: [{{id: a, type: file, paths: [/a]}}]\nkafka: {{brokers: [n:1]}}\n{outputs}");
        std::fs::write(&path, yaml).expect("written");
        let file: AgentFile = service::load::read_config(&path).expect("well formed");
        let compiled = file.compile(&path).expect("usable");
        assert!(compiled.iter().all(|of| (of.agent.memory, of.agent.agents) == (3 << 20, 3)));
    }

    #[test]
    fn what_cannot_be_shipped_to_several_is_refused_with_its_place() {
        let far = "kafka: {brokers: [n:1]}\noutputs: [{id: far, kafka: {brokers: [f:1]}}]";
        let refused =
            |inputs: &str, outputs: &str| read(&format!("inputs: [{inputs}]\n{outputs}")).expect_err("is refused");
        let check = |inputs: &str, outputs: &str, expected: &str| {
            let told = refused(inputs, outputs);
            assert!(told.starts_with(expected), "{told}");
        };
        let a = "{id: a, type: file, paths: [/a]}";
        check(a, "", "FILE: kafka: where to?");
        check(a, "outputs: [{id: 'a/b', kafka: {brokers: [f:1]}}]", "FILE: outputs: id \"a/b\": it must be of letters");
        check(
            a,
            "kafka: {brokers: [n:1]}\noutputs: [{id: kafka, kafka: {brokers: [f:1]}}]",
            "FILE: outputs: id \"kafka\" is used twice",
        );
        check(
            "{id: a, type: file, paths: [/a], outputs: [near]}",
            far,
            "FILE:2:15: input \"a\": outputs: there is no output \"near\"; there are: kafka, far",
        );
        check("{id: a, type: stdin, outputs: [far]}", far, "FILE:2:15: input \"a\": type stdin");
        let syslog = "id: a, type: syslog, protocol: udp, listen: '127.0.0.1:5140'";
        check(&format!("{{{syslog}}}"), far, "FILE:2:15: input \"a\": type syslog");
        check("{id: a, type: file, paths: [/a], delete_after: 1h}", far, "FILE:2:15: input \"a\": delete_after");
        check("{id: a, type: file, paths: [/a], outputs: [far]}", far, "FILE: output \"kafka\": no input goes to it");
        let one = format!(
            "{{{syslog}, outputs: [far]}}, {{id: b, type: file, paths: [/b], delete_after: 1h, outputs: [kafka]}}"
        );
        assert!(read(&format!("inputs: [{one}]\n{far}")).is_ok());
    }

    #[test]
    fn one_of_several_must_be_chosen() {
        let output = |id: &str| Output {
            id: id.to_owned(),
            kafka: serde_json::from_value(serde_json::json!({"brokers": ["b:1"]})).expect("valid"),
            state_dir: id.into(),
        };
        let chosen = |outputs: &[&str], id| {
            let outputs = outputs.iter().map(|id| output(id)).collect();
            chosen(Path::new("a.yaml"), outputs, id).map(|output| output.id).map_err(|error| error.to_string())
        };
        assert_eq!(chosen(&["kafka"], None), Ok("kafka".into()));
        assert_eq!(chosen(&["kafka", "far"], Some("far")), Ok("far".into()));
        let several = "a.yaml: it has several outputs: choose one with --output: kafka, far";
        assert_eq!(chosen(&["kafka", "far"], None), Err(several.into()));
        assert_eq!(chosen(&["kafka"], Some("x")), Err("a.yaml: there is no output \"x\": kafka".into()));
    }
}
