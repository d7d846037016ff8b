//! Tests beside pipelines: `NAME.tests.yml` in, what passed and what differs out.
//!
//! A file is a list of cases: `name`, `input` (a text, which becomes `message`, or a document), `now`, and what must come
//! out: `expect` (fields that must be there, by path or nested), `expect_exact` (the whole document), `dropped: true`,
//! or `error` (a part of the reason).

use crate::failure::Failure;
use crate::library::{Library, LoadError, wrong_yaml};
use crate::pipeline::{Outcome, Pipeline};
use crate::yaml::Node;
use event::{Event, FieldPath, Object, Value};
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::path::{Path, PathBuf};

/// The time of cases that name none: a fixed one, so that they give the same tomorrow.
const DEFAULT_NOW: &str = "2025-01-01T00:00:00Z";
/// Ending of tests files.
const ENDING: &str = ".tests.yml";

/// What came of one tests file.
#[derive(Debug)]
pub struct Report {
    /// The tests file.
    pub file: PathBuf,
    /// Its cases, in order.
    pub results: Vec<CaseResult>,
}

/// What came of one case.
#[derive(Debug)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// Where it stands in the file, counted from 1; 0 if that is unknown.
    pub line: u64,
    /// What differs, a line each; empty if it passed.
    pub differences: Vec<String>,
    /// What came out; nothing if the case could not be run.
    pub actual: Option<Actual>,
    /// The fields that `expect` names, as they are written there.
    pub expect: Option<Object>,
}

/// What came out of a case.
#[derive(Debug)]
pub enum Actual {
    /// This document.
    Document(Object),
    /// Nothing: it was dropped.
    Dropped,
    /// A failure that nothing handled.
    Error(Failure),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: Spanned<String>,
    input: Node,
    #[serde(default)]
    now: Option<String>,
    #[serde(default)]
    expect: Option<Node>,
    #[serde(default)]
    expect_exact: Option<Node>,
    #[serde(default)]
    dropped: bool,
    #[serde(default)]
    error: Option<String>,
}

/// The tests files at `path`: itself, the one beside a pipeline file, or all under a folder.
pub fn find(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        let name = path.to_string_lossy();
        let tests = name.ends_with(ENDING);
        return Ok(vec![if tests { path.to_owned() } else { path.with_extension("tests.yml") }]);
    }
    let mut found = Vec::new();
    let mut entries = std::fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            found.extend(find(&path)?);
        } else if path.to_string_lossy().ends_with(ENDING) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Runs the cases of a tests file on the pipeline beside it, which may call the other pipelines of the folder.
pub fn run(tests: &Path) -> Result<Report, LoadError> {
    let text =
        std::fs::read_to_string(tests).map_err(|error| LoadError::Unreadable { path: tests.to_owned(), error })?;
    let file = tests.display().to_string();
    let cases: Vec<Case> = crate::yaml::parse(&text).map_err(|error| wrong_yaml(&file, &error))?;
    let folder = tests.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let library = Library::load(folder)?;
    let name = tests.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.trim_end_matches(ENDING);
    let pipeline = library.get(name).ok_or_else(|| LoadError::Wrong {
        place: file.clone(),
        problem: format!("there is no pipeline {name}.yml beside the tests"),
    })?;
    let results = cases.into_iter().map(|case| run_case(case, pipeline, &library)).collect();
    Ok(Report { file: tests.to_owned(), results })
}

fn run_case(case: Case, pipeline: &Pipeline, library: &Library) -> CaseResult {
    let (name, line) = (case.name.value.clone(), case.name.referenced.line());
    let expect = match &case.expect {
        Some(Node(Value::Object(fields))) => Some(fields.clone()),
        _ => None,
    };
    let result = |differences, actual| CaseResult { name, line, differences, actual, expect };
    match outcome(&case, pipeline, library) {
        Ok((actual, event)) => result(compare_case(case, &actual, event), Some(actual)),
        Err(wrong) => result(vec![wrong], None),
    }
}

/// Runs the case. Errors: what is wrong with what goes in.
fn outcome(case: &Case, pipeline: &Pipeline, library: &Library) -> Result<(Actual, Event), String> {
    let source = match Value::from(case.input.clone()) {
        Value::Object(object) => object,
        Value::Text(text) => std::iter::once(("message".into(), Value::Text(text))).collect(),
        other => return Err(format!("input is a text or a document, not [{}]", other.java_class())),
    };
    let now = crate::parse_now(case.now.as_deref().unwrap_or(DEFAULT_NOW))?;
    let mut event = Event::new(source);
    let actual = match pipeline.run(library, &mut event, now) {
        Ok(Outcome::Document) => Actual::Document(event.source.clone()),
        Ok(Outcome::Dropped) => Actual::Dropped,
        Err(failure) => Actual::Error(failure),
    };
    Ok((actual, event))
}

/// What differs from what the case expects.
fn compare_case(case: Case, actual: &Actual, event: Event) -> Vec<String> {
    if !case.dropped && case.error.is_none() && case.expect.is_none() && case.expect_exact.is_none() {
        return vec!["expects nothing: add expect, expect_exact, dropped or error".to_owned()];
    }
    match (actual, case.error, case.dropped) {
        (Actual::Error(failure), Some(part), _) if failure.reason.contains(&part) => return Vec::new(),
        (Actual::Error(failure), Some(part), _) => {
            return vec![format!("error: expected one with {part:?}, got {:?}", failure.reason)];
        }
        (Actual::Error(failure), None, _) => return vec![format!("error: none expected, got {failure}")],
        (_, Some(part), _) => return vec![format!("error: expected one with {part:?}, there was none")],
        (Actual::Dropped, None, true) => return Vec::new(),
        (Actual::Dropped, None, false) => return vec!["dropped: not expected".to_owned()],
        (Actual::Document(_), None, true) => return vec!["dropped: expected, but it was kept".to_owned()],
        (Actual::Document(_), None, false) => {}
    }
    let mut differences = Vec::new();
    if let Some(Node(expected)) = case.expect {
        compare_part(&event, "", &expected, &mut differences);
    }
    if let Some(Node(expected)) = case.expect_exact {
        compare(&Value::Object(event.source), "", &expected, &mut differences);
    }
    differences
}

/// Checks that what `expected` names is there; other fields may be.
fn compare_part(event: &Event, prefix: &str, expected: &Value, differences: &mut Vec<String>) {
    let Value::Object(members) = expected else {
        differences.push("expect: a map of fields is wanted".to_owned());
        return;
    };
    for (key, expected) in members.iter() {
        let path = join(prefix, key);
        if let Value::Object(inner) = expected
            && !inner.is_empty()
        {
            compare_part(event, &path, expected, differences);
            continue;
        }
        match FieldPath::new(&path).map(|path| event.get(&path)) {
            Ok(Some(got)) => compare(got, &path, expected, differences),
            _ => differences.push(format!("{path}: expected {}, but it is missing", expected.to_json())),
        }
    }
}

/// Checks that `got` is `expected` and nothing more.
fn compare(got: &Value, path: &str, expected: &Value, differences: &mut Vec<String>) {
    let (Value::Object(got), Value::Object(expected)) = (got, expected) else {
        if !got.same_json(expected) {
            differences.push(format!("{path}: expected {}, got {}", expected.to_json(), got.to_json()));
        }
        return;
    };
    compare_objects(got, path, expected, differences);
}

fn compare_objects(got: &Object, path: &str, expected: &Object, differences: &mut Vec<String>) {
    for (key, expected) in expected.iter() {
        let path = join(path, key);
        match got.get(key) {
            Some(got) => compare(got, &path, expected, differences),
            None => differences.push(format!("{path}: expected {}, but it is missing", expected.to_json())),
        }
    }
    for (key, got) in got.iter().filter(|(key, _)| !expected.contains(key)) {
        differences.push(format!("{}: not expected, got {}", join(path, key), got.to_json()));
    }
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}
