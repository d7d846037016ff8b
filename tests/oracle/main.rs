//! The judge: the same pipelines and documents on a real node's `_ingest/pipeline/_simulate` and on our engine.
//!
//! `cases/*.yml` are lists of `{processors, on_failure, docs, known}`; a text in `docs` is `{"message": text}`. What
//! differs for a reason names it with `known: NAME`, and `docs/pipeline-differences.md` says more under that name. Random
//! pipelines of fixed seeds come on top. `make oracle` runs both.

mod generate;
mod smallest;

use engine::{Library, Outcome};
use event::Event;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tests::{http, stack};

/// Of a hundred documents so many must come out the same.
const SAME_PERCENT_MIN: usize = 99;
/// Random pipelines of an ordinary run, and of a full one.
const RANDOM: u64 = 300;
const RANDOM_FULL: u64 = 3_000;
/// The name of the one difference that is known by what it looks like.
const FOREACH_REQUEST: &str = "foreach-request";
/// Differences that are shown.
const SHOWN_MAX: usize = 60;

/// One pipeline and the documents that go through it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    processors: Vec<Value>,
    #[serde(default)]
    on_failure: Option<Vec<Value>>,
    docs: Vec<Value>,
    /// The name of a known difference.
    #[serde(default)]
    known: Option<String>,
}

impl Case {
    /// The same pipeline in our words: the node's `json` reads over what follows a value, which ours does if it is told to.
    fn in_our_words(&self) -> Self {
        let mut case = self.clone();
        if self.known.as_deref() == Some("json-strict") {
            return case; // That is the difference.
        }
        case.processors.iter_mut().chain(case.on_failure.iter_mut().flatten()).for_each(reads_over);
        case
    }

    /// Without what handles the failure of a `foreach`.
    fn without_foreach_handlers(&self) -> Self {
        let mut case = Self { on_failure: None, ..self.clone() };
        for options in case.processors.iter_mut().filter_map(|processor| processor.get_mut("foreach")) {
            if let Some(options) = options.as_object_mut() {
                options.remove("ignore_failure");
                options.remove("on_failure");
            }
        }
        case
    }

    fn pipeline(&self) -> Value {
        let mut pipeline = json!({"processors": self.processors});
        if let Some(handlers) = &self.on_failure {
            pipeline["on_failure"] = json!(handlers);
        }
        pipeline
    }

    fn sources(&self) -> impl Iterator<Item = Value> {
        self.docs.iter().map(|doc| match doc {
            Value::String(text) => json!({"message": text}),
            other => other.clone(),
        })
    }
}

/// Tells every `json` in `processor` to read over what follows a value.
fn reads_over(processor: &mut Value) {
    for (name, options) in processor.as_object_mut().into_iter().flatten() {
        if name == "json" {
            options["strict_json_parsing"] = json!(false);
        }
        let Some(options) = options.as_object_mut() else { continue };
        options.get_mut("processor").into_iter().for_each(reads_over);
        options.get_mut("on_failure").and_then(Value::as_array_mut).into_iter().flatten().for_each(reads_over);
    }
}

/// The names of `processor` and of those inside of it.
fn names_in(processor: &Value, names: &mut BTreeSet<String>) {
    for (name, options) in processor.as_object().into_iter().flatten() {
        names.insert(name.clone());
        options.get("processor").into_iter().for_each(|inner| names_in(inner, names));
        let handlers = options.get("on_failure").and_then(Value::as_array);
        handlers.into_iter().flatten().for_each(|inner| names_in(inner, names));
    }
}

/// What came of one document, in words that can be compared.
#[derive(Debug, Clone, PartialEq)]
enum Answer {
    /// Source, `_index`, `_id`, `_routing`.
    Document(Value, Vec<Value>),
    Dropped,
    /// Type and reason.
    Error(String, String),
    /// The pipeline is refused when it is loaded.
    Refused,
    /// The node's only: refused, or failed before anything was done. Type and reason.
    RequestFailed(String, String),
}

impl Answer {
    fn is_same(&self, ours: &Self) -> bool {
        match (self, ours) {
            (Self::RequestFailed(..), Self::Refused) => true,
            (Self::RequestFailed(kind, reason), Self::Error(our_kind, our_reason)) => {
                kind == our_kind && reason == our_reason
            }
            (Self::Document(source, metadata), Self::Document(our_source, our_metadata)) => {
                is_same_json(source, our_source) && metadata == our_metadata
            }
            _ => self == ours,
        }
    }
}

/// Equal, numbers to the fifteenth digit, floats to the seventh: the node's Java does not always write the shortest text.
fn is_same_json(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same_json(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same_json(a, b)))
        }
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap_or_default(), b.as_f64().unwrap_or_default());
            // A float is written with nine digits at most.
            let is_float = |number: f64| format!("{number:e}").chars().filter(char::is_ascii_digit).count() <= 11;
            (a - b).abs() <= a.abs() * 1e-15 || is_float(a) && is_float(b) && a as f32 == b as f32
        }
        _ => a == b,
    }
}

const METADATA: [&str; 3] = ["_index", "_id", "_routing"];

/// The node's answers, one for each document.
fn node_answers(url: &str, case: &Case) -> (Vec<Answer>, String) {
    let docs: Vec<_> = case.sources().map(|source| json!({"_index": "i", "_id": "1", "_source": source})).collect();
    let count = docs.len();
    let body = json!({"pipeline": case.pipeline(), "docs": docs}).to_string();
    let path = format!("{url}/_ingest/pipeline/_simulate");
    let (status, text) = http::request("POST", &path, Some(&body)).expect("the node answers");
    if status != 200 && count > 1 {
        // One document that fails early makes the whole request fail, with nothing said of the others.
        let alone = |doc: &Value| node_answers(url, &Case { docs: vec![doc.clone()], ..case.clone() });
        let (answers, why): (Vec<_>, Vec<_>) = case.docs.iter().map(alone).unzip();
        return (answers.concat(), why.join("; "));
    }
    if status != 200 {
        let why: Value = serde_json::from_str(&text).unwrap_or_default();
        let text = |name: &str| why["error"][name].as_str().unwrap_or_default().to_owned();
        return (vec![Answer::RequestFailed(text("type"), text("reason"))], String::new());
    }
    let answer: Value = serde_json::from_str(&text).expect("the node answers with JSON");
    let docs = answer["docs"].as_array().cloned().unwrap_or_default();
    (docs.iter().map(node_answer).collect(), String::new())
}

fn node_answer(doc: &Value) -> Answer {
    if let Some(error) = doc.get("error") {
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        return Answer::Error(text("type"), text("reason"));
    }
    match doc.get("doc") {
        Some(doc) => Answer::Document(doc["_source"].clone(), METADATA.map(|name| doc[name].clone()).to_vec()),
        None => Answer::Dropped,
    }
}

/// Our answers, one for each document.
fn our_answers(case: &Case) -> (Vec<Answer>, String) {
    let now_ms = service::clock::wall_ms();
    let mut library = Library::new();
    if let Err(error) = library.add("_simulate_pipeline", "case", &case.pipeline().to_string()) {
        return (vec![Answer::Refused; case.docs.len()], error.to_string());
    }
    let pipeline = library.get("_simulate_pipeline").expect("it was just added");
    let answer = |source: Value| {
        let text = source.to_string();
        let Ok(event::Value::Object(source)) = event::Value::from_json(text.as_bytes()) else {
            return Answer::Refused;
        };
        let mut event = Event::new(source);
        event.metadata.fields.insert("_index", "i");
        event.metadata.fields.insert("_id", "1");
        event.metadata.fields.insert("_version", event::Value::Long(-3));
        event.metadata.fields.insert("_version_type", "internal");
        match pipeline.run(&library, &mut event, now_ms) {
            Ok(Outcome::Document) => {
                let parse = |value: &event::Value| serde_json::from_str(&value.to_json()).unwrap_or_default();
                let field = |name| event.metadata.fields.get(name).map_or(Value::Null, parse);
                let metadata = METADATA.map(field).to_vec();
                Answer::Document(parse(&event::Value::Object(event.source.clone())), metadata)
            }
            Ok(Outcome::Dropped) => Answer::Dropped,
            Err(failure) => Answer::Error(failure.kind.to_owned(), failure.reason),
        }
    };
    (case.sources().map(answer).collect(), String::new())
}

/// How many documents were compared, and what differed.
#[derive(Debug, Default)]
struct Score {
    compared: usize,
    /// By name.
    known: BTreeMap<String, usize>,
    differences: Vec<String>,
    /// Documents, and those that came out the same, of the pipelines in which a processor stands.
    shares: BTreeMap<String, (usize, usize)>,
}

impl Score {
    fn add(&mut self, url: &str, name: &str, case: &Case) {
        let (theirs, _) = node_answers(url, case);
        let (ours, _) = our_answers(&case.in_our_words());
        assert_eq!(theirs.len(), ours.len(), "{name}: the node answered another number of documents");
        let mut processors = BTreeSet::new();
        case.processors.iter().chain(case.on_failure.iter().flatten()).for_each(|each| names_in(each, &mut processors));
        for (nth, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
            self.compared += 1;
            let same = theirs.is_same(ours);
            for processor in &processors {
                let share = self.shares.entry(processor.clone()).or_default();
                *share = (share.0 + 1, share.1 + usize::from(same));
            }
            if !same {
                self.differ(url, name, Case { docs: vec![case.docs[nth].clone()], ..case.clone() }, theirs);
            }
        }
    }

    /// Notes that the one document of `case` comes out differently.
    fn differ(&mut self, url: &str, name: &str, case: Case, theirs: &Answer) {
        // The node's failure passes by all handlers. Without them ours is the same, but for maps, of which ours goes
        // through the members.
        let by_request = || {
            let Answer::RequestFailed(_, reason) = theirs else { return None };
            let without = || our_answers(&case.in_our_words().without_foreach_handlers()).0;
            let is_map = reason.contains("[java.util.HashMap] cannot be cast to [java.util.List]");
            (is_map || theirs.is_same(&without()[0])).then_some(FOREACH_REQUEST)
        };
        let known = case.known.clone().or_else(|| by_request().map(str::to_owned));
        if let Some(known) = &known {
            *self.known.entry(known.clone()).or_default() += 1;
            if !std::env::var("ORACLE_SHOW").is_ok_and(|name| name == *known) {
                return;
            }
        }
        let case = match self.differences.len() < SHOWN_MAX {
            true => smallest::of(case, &|case| {
                let node = node_answers(url, case).0.swap_remove(0);
                let fails = |answer: &Answer| matches!(answer, Answer::RequestFailed(..));
                fails(&node) == fails(theirs) && !node.is_same(&our_answers(&case.in_our_words()).0[0])
            }),
            false => case,
        };
        let ((theirs, their_error), (ours, our_error)) = (node_answers(url, &case), our_answers(&case.in_our_words()));
        let shown = format!(
            "{name}: {}\n  document {}\n  node {} {their_error}\n  ours {} {our_error}",
            case.pipeline(),
            case.docs[0],
            shown(&theirs[0]),
            shown(&ours[0])
        );
        match known {
            Some(known) => eprintln!("{known}: {shown}"),
            None => self.differences.push(shown),
        }
    }

    /// Tells what differed and holds it against the bar: only what is the same counts, known or not.
    #[track_caller]
    fn check(self, what: &str) {
        let Self { compared, known: by_name, differences, shares } = self;
        let known: usize = by_name.values().sum();
        let same = compared - known - differences.len();
        for (processor, (documents, same)) in shares {
            let percent = 100.0 * same as f64 / documents as f64;
            eprintln!("  {processor:<20} {same:>6} of {documents:>6} the same, {percent:.1} %");
        }
        for difference in differences.iter().take(SHOWN_MAX) {
            eprintln!("{difference}");
        }
        eprintln!(
            "figures: {what}: {compared} documents compared, {same} the same, {:.2} %, {known} known differences \
             {by_name:?}, {} others",
            100.0 * same as f64 / compared as f64,
            differences.len()
        );
        assert!(compared > 0, "{what}: nothing was compared");
        assert!(
            same * 100 >= compared * SAME_PERCENT_MIN,
            "{what}: {} of {compared} documents differ",
            compared - same
        );
    }
}

fn shown(answer: &Answer) -> String {
    match answer {
        Answer::Document(source, metadata) => format!("{source} {}", json!(metadata)),
        Answer::Dropped => "dropped".to_owned(),
        Answer::Error(kind, reason) => format!("{kind}: {reason}"),
        Answer::Refused => "refused".to_owned(),
        Answer::RequestFailed(kind, reason) => format!("request failed: {kind}: {reason}"),
    }
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/cases")
}

/// File name and cases of every file, but for those that `ORACLE_ONLY` does not name.
fn cases() -> Vec<(String, Vec<Case>)> {
    let only = std::env::var("ORACLE_ONLY").unwrap_or_default();
    let mut paths: Vec<_> =
        std::fs::read_dir(here()).expect("the cases").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let text = std::fs::read_to_string(path).expect("the cases can be read");
        let options = serde_saphyr::options! { strict_booleans: true };
        let cases = serde_saphyr::from_str_with_options(&text, options);
        (name, cases.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    paths.iter().map(read).filter(|(name, _)| only.is_empty() || *name == only).collect()
}

#[test]
fn the_cases_come_out_the_same() {
    let node = stack::shared().node;
    let mut score = Score::default();
    for (name, cases) in cases() {
        let before = score.compared;
        for case in &cases {
            score.add(&node.url, &name, case);
        }
        eprintln!("{name}: {} documents", score.compared - before);
    }
    score.check("cases");
}

#[test]
fn random_pipelines_come_out_the_same() {
    let node = stack::shared().node;
    let count = if std::env::var_os("TAILRACE_TEST_FULL").is_some() { RANDOM_FULL } else { RANDOM };
    let mut score = Score::default();
    for seed in 0..count {
        score.add(&node.url, &format!("seed {seed}"), &generate::case(seed));
    }
    score.check("random pipelines");
}

#[test]
fn every_known_difference_is_described() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pipeline-differences.md");
    let text = std::fs::read_to_string(docs).expect("docs/pipeline-differences.md");
    assert!(text.contains(&format!("`{FOREACH_REQUEST}`")), "the difference {FOREACH_REQUEST} is not described");
    for (name, cases) in cases() {
        for known in cases.iter().filter_map(|case| case.known.as_ref()) {
            assert!(text.contains(&format!("`{known}`")), "{name}: the difference {known} is not described");
        }
    }
}

#[test]
fn every_processor_has_twenty_documents() {
    let counted: Map<String, Value> = cases()
        .iter()
        .map(|(name, cases)| (name.clone(), json!(cases.iter().map(|case| case.docs.len()).sum::<usize>())))
        .collect();
    for name in engine::processor_names().filter(|name| !generate::OURS_ALONE.contains(name)) {
        let count = counted.get(name).and_then(Value::as_u64).unwrap_or(0);
        assert!(count >= 20, "{name} has {count} documents in tests/oracle/cases/{name}.yml, at least 20 are wanted");
    }
}
