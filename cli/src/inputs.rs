//! `inputs` of agent.yaml and of the files in `inputs_dir` → inputs, each with the place where it stands.

use crate::agent::AgentFile;
use crate::check::Unusable;
use agent::{CheckedInput, FileInput, InputConfig};
use anyhow::Context as _;
use serde::Deserialize;
use service::load::{Placed, read_config};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Only enough of an input to know where it stands.
#[derive(Deserialize)]
struct Sketch {
    id: Placed<String>,
}

#[derive(Deserialize)]
struct FileSketch {
    #[serde(default)]
    inputs: Vec<Sketch>,
}

/// An input as it was written, as it is used, and where it stands.
#[derive(Clone)]
pub(crate) struct Configured<I = CheckedInput> {
    pub(crate) config: InputConfig,
    pub(crate) input: I,
    /// `file:line:column` of its id.
    pub(crate) place: String,
}

/// All inputs of `file`, which was read from `path`, and of its `inputs_dir`.
///
/// Errors: a file of the folder that cannot be read, an input that cannot be used, an id that is used twice (both places are
/// named), several that read standard input, outputs that do not fit, no input at all.
pub(crate) fn configured(path: &Path, file: &AgentFile) -> anyhow::Result<Vec<Configured>> {
    let sketch: FileSketch = read_config(path)?;
    let mut inputs = Inputs::default();
    inputs.add(path, &file.inputs, &sketch.inputs)?;
    for path in folder(file.inputs_dir.as_deref())? {
        let configs: Vec<InputConfig> = read_config(&path)?;
        let sketches: Vec<Sketch> = read_config(&path)?;
        inputs.add(&path, &configs, &sketches)?;
    }
    if inputs.configured.is_empty() && file.inputs_dir.is_none() {
        return Err(Unusable::error(&format!("{}: inputs: at least one input is needed", path.display())));
    }
    crate::outputs::check_inputs(path, file, &inputs.configured)?;
    Ok(inputs.configured)
}

/// Those of files.
pub(crate) fn of_files(inputs: Vec<Configured>) -> Vec<Configured<FileInput>> {
    let of_files = |Configured { config, input, place }: Configured| {
        let input = input.into_files()?;
        Some(Configured { config, input, place })
    };
    inputs.into_iter().filter_map(of_files).collect()
}

/// The files of `inputs_dir`: `*.yaml` and `*.yml`, in the order of their names.
pub(crate) fn folder(dir: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
    let Some(dir) = dir else { return Ok(Vec::new()) };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()), // It may still come.
        entries => entries.with_context(|| format!("inputs_dir: {} cannot be read", dir.display()))?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| {
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        !is_hidden && path.extension().is_some_and(|end| end == "yaml" || end == "yml")
    });
    paths.sort();
    Ok(paths)
}

#[derive(Default)]
struct Inputs {
    configured: Vec<Configured>,
    places: BTreeMap<String, String>,
}

impl Inputs {
    fn add(&mut self, path: &Path, configs: &[InputConfig], sketches: &[Sketch]) -> anyhow::Result<()> {
        for (config, sketch) in configs.iter().zip(sketches) {
            let at = &sketch.id.referenced;
            let place = format!("{}:{}:{}", path.display(), at.line(), at.column());
            if let Some(other) = self.places.insert(config.id.clone(), place.clone()) {
                let what = format!("{place}: the id {:?} is also used at {other}; ids must be unique", config.id);
                return Err(Unusable::error(&what));
            }
            let compiled = agent::inputs(std::slice::from_ref(config));
            let compiled = compiled.map_err(|error| Unusable::error(&format!("{place}: {error:#}")))?;
            let is_stdin = |input: &CheckedInput| input.is_stdin();
            if compiled.iter().any(is_stdin) && self.configured.iter().any(|other| is_stdin(&other.input)) {
                let what = format!("{place}: a second input of type stdin; there is only one standard input");
                return Err(Unusable::error(&what));
            }
            let config = config.clone();
            self.configured.extend(compiled.into_iter().map(|input| Configured {
                config: config.clone(),
                input,
                place: place.clone(),
            }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes agent.yaml with these inputs and a folder with one file of others; `DIR` stands for the place of both.
    fn loaded(inputs: &str, more: &str) -> (tempfile::TempDir, Result<Vec<String>, String>) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = folder.path().display().to_string();
        fs::create_dir(folder.path().join("inputs.d")).expect("made");
        fs::write(folder.path().join("inputs.d/shop.yaml"), more.replace("DIR", &dir)).expect("written");
        fs::write(folder.path().join("inputs.d/.shop.yaml.swp"), "\0").expect("written");
        let path = folder.path().join("agent.yaml");
        let text = format!("inputs_dir: DIR/inputs.d\nkafka: {{brokers: [b:1], topic: t}}\n{inputs}");
        fs::write(&path, text.replace("DIR", &dir)).expect("written");
        let read: Result<AgentFile, _> = read_config(&path);
        let inputs = read.map_err(anyhow::Error::from).and_then(|file| configured(&path, &file));
        let ids = inputs.map(|inputs| inputs.iter().map(|input| input.config.id.clone()).collect());
        (folder, ids.map_err(|error| format!("{error:#}").replace(&dir, "DIR")))
    }

    #[test]
    fn inputs_of_the_folder_come_behind_those_of_the_file() {
        let (_folder, ids) = loaded("inputs: [{id: a, type: file, paths: [/a]}]", "- {id: b, type: file, paths: [/b]}");
        assert_eq!(ids, Ok(vec!["a".into(), "b".into()]));
        assert_eq!(loaded("", "[]").1, Ok(vec![]), "a folder may fill later");
    }

    #[test]
    fn an_id_that_is_used_twice_is_refused_with_both_places() {
        let (_folder, error) =
            loaded("inputs:\n  - {id: a, type: file, paths: [/a]}", "\n- id: a\n  type: file\n  paths: [/b]\n");
        let expected =
            "DIR/inputs.d/shop.yaml:2:7: the id \"a\" is also used at DIR/agent.yaml:4:10; ids must be unique";
        assert_eq!(error, Err(expected.into()));
    }

    #[test]
    fn only_one_input_reads_standard_input() {
        let (_folder, error) = loaded("inputs: [{id: a, type: stdin}]", "- {id: b, type: stdin}");
        assert!(error.clone().is_err_and(|error| error.contains("shop.yaml:1:8: a second input")), "{error:?}");
    }

    #[test]
    fn a_bad_file_of_the_folder_is_named_with_line_and_column() {
        let (_folder, error) = loaded("", "- id: a\n  typ: file\n");
        assert!(
            error.clone().is_err_and(|error| error.starts_with("DIR/inputs.d/shop.yaml:2:3: unknown field")),
            "{error:?}"
        );
        let (_folder, error) = loaded("", "- {id: a, type: file, paths: [relative]}\n");
        assert!(
            error.clone().is_err_and(|error| error.starts_with("DIR/inputs.d/shop.yaml:1:8: input \"a\"")),
            "{error:?}"
        );
    }
}
