//! A folder of pipeline files in, pipelines by name out. This is the only place of the engine that reads files.
//!
//! A file is an Elasticsearch ingest pipeline in YAML or JSON: `description`, `processors`, `on_failure`, and `version`
//! and `_meta`, which say nothing to us.

use crate::pipeline::{Pipeline, Processor};
use crate::registry;
use crate::yaml::Node;
use event::Value;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Largest pipeline file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a pipeline can't be loaded. Its text starts with the file, and line and column where they are known.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or folder can't be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// What was to be read.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A file is not a pipeline.
    #[error("{place}: {problem}")]
    Wrong {
        /// File, and line and column where they are known.
        place: String,
        /// What is wrong there.
        problem: String,
    },
}

/// Pipelines by name.
#[derive(Debug, Default)]
pub struct Library {
    pipelines: BTreeMap<String, Pipeline>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    description: Option<String>,
    processors: Vec<Spanned<Node>>,
    #[serde(default)]
    on_failure: Option<Vec<Spanned<Node>>>,
    #[serde(default, rename = "version")]
    _version: Option<Node>,
    #[serde(default, rename = "_meta")]
    _meta: Option<Node>,
    #[serde(default, rename = "deprecated")]
    _deprecated: Option<bool>,
}

impl Library {
    /// A library without pipelines.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loads every pipeline file of a folder: `*.yml`, `*.yaml`, `*.json`, without `*.tests.yml`. The name of a
    /// pipeline is its file's, without the ending.
    pub fn load(dir: &Path) -> Result<Self, LoadError> {
        let unreadable = |error| LoadError::Unreadable { path: dir.to_owned(), error };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if is_pipeline_file(&path) && path.is_file() {
                paths.push(path);
            }
        }
        paths.sort();
        let mut library = Self::new();
        for path in paths {
            library.load_file(&path)?;
        }
        Ok(library)
    }

    /// Loads one file and returns its pipeline's name.
    pub fn load_file(&mut self, path: &Path) -> Result<String, LoadError> {
        let unreadable = |error| LoadError::Unreadable { path: path.to_owned(), error };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > FILE_BYTES_MAX {
            let problem = format!("the file has {size} bytes, at most {FILE_BYTES_MAX} are read");
            return Err(LoadError::Wrong { place: path.display().to_string(), problem });
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        self.add(&name, &path.display().to_string(), &text)?;
        Ok(name)
    }

    /// Adds the pipeline `text` as `name`. `file` is what errors call it.
    pub fn add(&mut self, name: &str, file: &str, text: &str) -> Result<(), LoadError> {
        if self.pipelines.contains_key(name) {
            let problem = format!("there is already a pipeline named {name}");
            return Err(LoadError::Wrong { place: file.to_owned(), problem });
        }
        let written: Written = crate::yaml::parse(text).map_err(|error| wrong_yaml(file, &error))?;
        let uses_ingest = Cell::new(false);
        let processors = build(file, "processors", written.processors, &uses_ingest)?;
        let on_failure = match written.on_failure {
            Some(handlers) if handlers.is_empty() => {
                let problem = "[on_failure] processors list cannot be empty".to_owned();
                return Err(LoadError::Wrong { place: file.to_owned(), problem });
            }
            Some(handlers) => build(file, "on_failure", handlers, &Cell::new(true))?,
            None => Vec::new(),
        };
        let (uses_ingest, description) = (uses_ingest.get(), written.description);
        let pipeline = Pipeline { name: name.to_owned(), description, processors, on_failure, uses_ingest };
        self.pipelines.insert(name.to_owned(), pipeline);
        Ok(())
    }

    /// The pipeline called `name`.
    pub fn get(&self, name: &str) -> Option<&Pipeline> {
        self.pipelines.get(name)
    }

    /// Takes out the pipeline called `name`.
    pub fn take(&mut self, name: &str) -> Option<Pipeline> {
        self.pipelines.remove(name)
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pipelines.keys().map(String::as_str)
    }
}

/// Adds the definitions of every file in a folder of grok patterns, in order of their names.
///
/// Errors: the folder or a file can't be read or is too large, or a line of it is no definition.
pub(crate) fn define_patterns(dir: &Path, bank: &mut crate::grok::Bank) -> Result<(), String> {
    let unreadable = |path: &Path, error| LoadError::Unreadable { path: path.to_owned(), error }.to_string();
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| unreadable(dir, error))? {
        let path = entry.map_err(|error| unreadable(dir, error))?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_file() && !is_hidden {
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        let size = std::fs::metadata(&path).map_err(|error| unreadable(&path, error))?.len();
        if size > FILE_BYTES_MAX {
            let path = path.display();
            return Err(format!("{path}: the file has {size} bytes, at most {FILE_BYTES_MAX} are read"));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
        bank.define_all(&path.display().to_string(), &text)?;
    }
    Ok(())
}

fn is_pipeline_file(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let ending = |ending: &str| name.ends_with(ending);
    let tests = ending(".tests.yml") || ending(".tests.yaml") || name.starts_with('.');
    !tests && (ending(".yml") || ending(".yaml") || ending(".json"))
}

fn build(
    file: &str,
    list: &str,
    written: Vec<Spanned<Node>>,
    uses_ingest: &Cell<bool>,
) -> Result<Vec<Processor>, LoadError> {
    let one = |(nth, node): (usize, Spanned<Node>)| {
        let (line, column) = (node.referenced.line(), node.referenced.column());
        let value: Value = node.value.into();
        registry::build(value, uses_ingest, 0).map_err(|refused| {
            let place = if line > 0 { format!("{file}:{line}:{column}") } else { file.to_owned() };
            let at = if refused.at.is_empty() { String::new() } else { format!(".{}", refused.at) };
            LoadError::Wrong { place, problem: format!("{list}[{nth}]{at}: {}", refused.wrong) }
        })
    };
    written.into_iter().enumerate().map(one).collect()
}

pub(crate) fn wrong_yaml(file: &str, error: &serde_saphyr::Error) -> LoadError {
    let place = match error.location() {
        Some(location) => format!("{file}:{}:{}", location.line(), location.column()),
        None => file.to_owned(),
    };
    LoadError::Wrong { place, problem: error.render() }
}
