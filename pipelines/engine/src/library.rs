//! A folder of pipeline files in, pipelines by name out. This is the only place of the engine that reads files.
//!
//! A file is an Elasticsearch ingest pipeline in YAML or JSON: `description`, `processors`, `on_failure`, and `version`
//! and `_meta`, which say nothing to us.

use crate::mmdb::Database;
use crate::options::Loading;
use crate::pipeline::{Pipeline, Processor};
use crate::registry;
use crate::yaml::Node;
use event::Value;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    /// Databases of addresses that pipelines use, each read once.
    databases: BTreeMap<PathBuf, Arc<Database>>,
}

/// Folder of databases beside a pipeline file.
const DATABASES: &str = "geoip";

/// The databases beside one pipeline file.
#[derive(Debug)]
pub(crate) struct Databases {
    folder: Option<PathBuf>,
    loaded: RefCell<BTreeMap<PathBuf, Arc<Database>>>,
}

impl Databases {
    /// The database called `file`; `None` if there is no such file. Errors: it can't be read, or is none.
    pub(crate) fn get(&self, file: &str) -> Result<Option<Arc<Database>>, String> {
        if file.contains(['/', '\\']) || file.starts_with('.') {
            return Err(format!(
                "{file} is no file name: the file stands in the folder {DATABASES} beside the pipeline"
            ));
        }
        let Some(path) = self.folder.as_ref().map(|folder| folder.join(file)) else { return Ok(None) };
        if let Some(known) = self.loaded.borrow().get(&path) {
            return Ok(Some(known.clone()));
        }
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let database = Database::new(bytes).map_err(|wrong| format!("{}: {wrong}", path.display()))?;
        let database = Arc::new(database);
        self.loaded.borrow_mut().insert(path, database.clone());
        Ok(Some(database))
    }
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
        let folder = path.parent().map(|folder| folder.join(DATABASES));
        self.add_beside(&name, &path.display().to_string(), &text, folder)?;
        Ok(name)
    }

    /// Adds the pipeline `text` as `name`. `file` is what errors call it. There are no databases of addresses beside it.
    pub fn add(&mut self, name: &str, file: &str, text: &str) -> Result<(), LoadError> {
        self.add_beside(name, file, text, None)
    }

    /// Like [`Library::add`], with the databases in `folder`.
    fn add_beside(&mut self, name: &str, file: &str, text: &str, folder: Option<PathBuf>) -> Result<(), LoadError> {
        if self.pipelines.contains_key(name) {
            let problem = format!("there is already a pipeline named {name}");
            return Err(LoadError::Wrong { place: file.to_owned(), problem });
        }
        let written: Written = crate::yaml::parse(text).map_err(|error| wrong_yaml(file, &error))?;
        let databases = Databases { folder, loaded: RefCell::new(std::mem::take(&mut self.databases)) };
        let made = make(name, file, written, &databases);
        self.databases = databases.loaded.into_inner();
        self.pipelines.insert(name.to_owned(), made?);
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

/// Makes the pipeline of what is written.
fn make(name: &str, file: &str, written: Written, databases: &Databases) -> Result<Pipeline, LoadError> {
    let loading = Loading { uses_ingest: Cell::new(false), databases };
    let processors = build(file, "processors", written.processors, &loading)?;
    let on_failure = match written.on_failure {
        Some(handlers) if handlers.is_empty() => {
            let problem = "[on_failure] processors list cannot be empty".to_owned();
            return Err(LoadError::Wrong { place: file.to_owned(), problem });
        }
        Some(handlers) => build(file, "on_failure", handlers, &Loading { uses_ingest: Cell::new(true), databases })?,
        None => Vec::new(),
    };
    let (uses_ingest, description) = (loading.uses_ingest.get(), written.description);
    Ok(Pipeline { name: name.to_owned(), description, processors, on_failure, uses_ingest })
}

fn build(
    file: &str,
    list: &str,
    written: Vec<Spanned<Node>>,
    loading: &Loading<'_>,
) -> Result<Vec<Processor>, LoadError> {
    let one = |(nth, node): (usize, Spanned<Node>)| {
        let (line, column) = (node.referenced.line(), node.referenced.column());
        let value: Value = node.value.into();
        registry::build(value, loading, 0).map_err(|refused| {
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
