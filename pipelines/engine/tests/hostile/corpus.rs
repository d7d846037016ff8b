//! What the fuzz runs begin with: the processors, documents and lines of the catalog and of the oracle's cases.

use engine::Library;
use event::Event;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The folder of the catalog.
pub(crate) const CATALOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../catalog");

/// Options of a processor, and documents that it was meant for.
pub(crate) struct Case {
    pub(crate) options: Map<String, Value>,
    pub(crate) docs: Vec<Value>,
}

/// What there is for one processor.
pub(crate) struct Corpus {
    pub(crate) cases: Vec<Case>,
    /// Every `if`, for scripts.
    pub(crate) conditions: Vec<String>,
    /// Texts that stand in documents, lines among them.
    pub(crate) texts: Vec<String>,
}

impl Corpus {
    /// What the files have for the processor `kind`.
    pub(crate) fn read(kind: &str) -> Self {
        let mut corpus = Self { cases: Vec::new(), conditions: Vec::new(), texts: Vec::new() };
        for file in files(Path::new(CATALOG)) {
            let is_tests = file.to_string_lossy().ends_with(".tests.yml");
            match (read(&file), is_tests) {
                (Value::Array(cases), true) => {
                    cases.iter().for_each(|case| gather_texts(&case["input"], &mut corpus.texts));
                }
                (pipeline, _) => corpus.gather(kind, &pipeline, &[]),
            }
        }
        for file in files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/oracle/cases"))) {
            for case in read(&file).as_array().into_iter().flatten() {
                let docs = case["docs"].as_array().cloned().unwrap_or_default();
                docs.iter().for_each(|doc| gather_texts(doc, &mut corpus.texts));
                corpus.gather(kind, case, &docs);
            }
        }
        assert!(corpus.cases.len() >= 10, "only {} processors {kind} were found", corpus.cases.len());
        assert!(corpus.texts.len() >= 100, "only {} texts were found", corpus.texts.len());
        corpus
    }

    /// Takes the processors `kind` out of anything that has processors in it.
    fn gather(&mut self, kind: &str, value: &Value, docs: &[Value]) {
        match value {
            Value::Object(members) => {
                if let Some(Value::Object(options)) = members.get(kind) {
                    self.cases.push(Case { options: options.clone(), docs: docs.to_vec() });
                }
                if let Some(Value::String(condition)) = members.get("if") {
                    self.conditions.push(condition.clone());
                }
                members.values().for_each(|value| self.gather(kind, value, docs));
            }
            Value::Array(values) => values.iter().for_each(|value| self.gather(kind, value, docs)),
            _ => {}
        }
    }
}

fn gather_texts(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| gather_texts(value, texts)),
        Value::Object(members) => members.values().for_each(|value| gather_texts(value, texts)),
        _ => {}
    }
}

/// The documents of the tests beside a pipeline of the catalog.
pub(crate) fn inputs(pipeline: &str) -> Vec<Value> {
    let cases = read(&Path::new(CATALOG).join(format!("{pipeline}.tests.yml")));
    let input = |case: &Value| match &case["input"] {
        Value::String(text) => serde_json::json!({"message": text}),
        document => document.clone(),
    };
    cases.as_array().into_iter().flatten().map(input).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a folder's entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yml"));
    files.sort();
    files
}

fn read(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// 2026-11-22T21:00:00Z.
const NOW_MS: i64 = 1_795_381_200_000;

/// Loads a pipeline of one processor, if it may be loaded, runs it on a document and writes the document; with all that
/// is asked of a pipeline beside it.
pub(crate) fn run(processor: &Value, mut event: Event) {
    let Some(library) = load(&serde_json::json!({"processors": [processor]}).to_string()) else { return };
    let pipeline = library.get("p").expect("it was just added");
    pipeline.notes();
    if let Err(failure) = pipeline.run(&library, &mut event, NOW_MS) {
        pipeline.explain(&failure, &event);
    }
    let mut out = Vec::new();
    event.write_json(&mut out);
}

/// The library with this pipeline, if it may be loaded.
pub(crate) fn load(pipeline: &str) -> Option<Library> {
    let mut library = Library::new();
    library.add("p", "p.yml", pipeline).ok().map(|()| library)
}
