//! The cases of `grok-cases.jsonl` (patterns, lines and fields taken from Logstash's own tests), where that file is.
//!
//! They are Logstash's. Where Elasticsearch's processor differs, it wins; a case that says otherwise is counted as passed
//! if it differs in that alone: a capture replaces a field of its name and does not make a list with it, of two groups for
//! a field the first counts, a capture of an empty text sets the field, `:float` of a text that is no number fails, and `.`
//! does not match a newline.

use engine::{Library, Outcome};
use event::{Event, Object, Value};
use std::path::PathBuf;

/// The data beside the project, if they are there.
fn cases() -> Option<String> {
    let shared = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/grok-cases.jsonl");
    match std::fs::read_to_string(&shared) {
        Ok(text) => Some(text),
        Err(error) => {
            eprintln!("skipped: {}: {error}", shared.display());
            None
        }
    }
}

fn text<'v>(case: &'v Object, key: &str) -> &'v str {
    match case.get(key) {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

fn flag(case: &Object, key: &str) -> bool {
    matches!(case.get(key), Some(Value::Bool(true)))
}

/// What the processor makes of the case's line, with flags around the pattern; `Err`: the type of the error.
fn run(case: &Object, flags: &str) -> Result<Object, &'static str> {
    let ecs = if flag(case, "ecs") { "v1" } else { "disabled" };
    let pattern =
        Value::from(format!("{flags}{}{}", text(case, "pattern"), if flags.is_empty() { "" } else { ")" }).as_str())
            .to_json();
    let pipeline = format!(
        r#"{{"processors":[{{"grok":{{"field":"message","patterns":[{pattern}],"ecs_compatibility":"{ecs}"}}}}]}}"#
    );
    let mut library = Library::new();
    library.add("p", text(case, "id"), &pipeline).expect("a pattern");
    let mut source = Object::new();
    source.insert("message", text(case, "input"));
    let mut event = Event::new(source);
    match library.get("p").expect("it was just added").run(&library, &mut event, 0) {
        Ok(Outcome::Document) => Ok(event.source),
        Ok(Outcome::Dropped) => Err("dropped"),
        Err(failure) => Err(failure.kind),
    }
}

/// `[a][b]`, `name` → the value.
fn at<'v>(fields: &'v Object, name: &str) -> Option<&'v Value> {
    let path = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).replace("][", ".");
    let mut parts = path.split('.');
    let mut value = fields.get(parts.next()?)?;
    for part in parts {
        value = match value {
            // The last of the list that is none here.
            Value::Text(_) if part == "-1" => value,
            Value::Object(object) => object.get(part)?,
            Value::Array(values) => values.get(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(f64::from(*number)),
        Value::Long(number) => Some(*number as f64),
        Value::Float(number) => number.to_string().parse().ok(),
        Value::Double(number) => Some(*number),
        _ => None,
    }
}

fn same(got: &Value, wanted: &Value) -> bool {
    match (number(got), number(wanted)) {
        (Some(got), Some(wanted)) => got == wanted,
        _ => got == wanted,
    }
}

/// What is wrong with the fields, if anything is.
fn wrong(case: &Object, fields: &Object) -> Option<String> {
    if let Some(Value::Object(expected)) = case.get("expect") {
        for (name, wanted) in expected.iter() {
            let got = at(fields, name);
            // The whole line and what was captured, or what two groups captured: here one of them is the field.
            let one = match wanted {
                Value::Array(values) if name == "message" => values.last(),
                Value::Array(values) => values.first(),
                _ => None,
            };
            if !got.is_some_and(|got| same(got, wanted) || one.is_some_and(|one| same(got, one))) {
                return Some(format!("{name}: {:?}, not {}", got.map(Value::to_json), wanted.to_json()));
            }
        }
    }
    let names = |key: &str| match case.get(key) {
        Some(Value::Array(values)) => values.iter().map(|name| name.to_json().trim_matches('"').to_owned()).collect(),
        _ => Vec::new(),
    };
    let is_empty = |value: &Value| matches!(value, Value::Text(text) if text.is_empty());
    for name in names("absent") {
        if let Some(value) = at(fields, &name).filter(|value| !is_empty(value)) {
            return Some(format!("{name} is there: {}", value.to_json()));
        }
    }
    names("present").into_iter().find(|name| at(fields, name).is_none()).map(|name| format!("{name} is missing"))
}

/// What is wrong with what the processor makes of the case, if anything is.
fn problem(case: &Object, flags: &str) -> Option<String> {
    match (run(case, flags), flag(case, "no_match")) {
        (Err(_), true) => None,
        (Ok(_), true) => Some("it matches".to_owned()),
        // Logstash takes 0 or the number that the text starts with.
        (Err("number_format_exception"), false) => None,
        (Err(kind), false) => Some(format!("it does not match: {kind}")),
        (Ok(fields), false) => wrong(case, &fields),
    }
}

#[test]
fn nearly_all_cases_of_the_original_have_the_fields_they_expect() {
    let Some(cases) = cases() else { return };
    let (mut count, mut newlines, mut failed) = (0, Vec::new(), Vec::new());
    for line in cases.lines() {
        let Ok(Value::Object(case)) = Value::from_json(line.as_bytes()) else { panic!("{line}") };
        count += 1;
        match problem(&case, "") {
            None => {}
            // The same if only a dot matched a newline.
            Some(_) if problem(&case, "(?m:").is_none() => newlines.push(text(&case, "id").to_owned()),
            Some(problem) => failed.push(format!("{} {}: {problem}", text(&case, "id"), text(&case, "name"))),
        }
    }
    println!("{} of {count} cases; with a dot that matches newlines: {}", count - failed.len(), newlines.join(" "));
    assert!(failed.len() * 100 <= count, "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
    assert!(newlines.len() <= 4, "{newlines:?}");
}
