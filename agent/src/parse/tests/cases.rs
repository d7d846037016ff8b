//! Cases of other projects: `multiline/cases.jsonl` of the reference data, read where it lies.

use super::*;
use serde_json::{Value, json};
use std::path::PathBuf;

/// As `tests/harness/stack.rs` finds it; says so on stderr if it is not there.
fn cases() -> Option<Vec<Value>> {
    let project = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent()?.parent()?.join("shared/data");
    let folder = std::env::var_os("TAILRACE_SHARED_DATA").map_or(project, PathBuf::from);
    let Ok(text) = std::fs::read_to_string(folder.join("multiline/cases.jsonl")) else {
        eprintln!("SKIPPED: no reference data at {} (set TAILRACE_SHARED_DATA)", folder.display());
        return None;
    };
    Some(text.lines().map(|line| serde_json::from_str(line).expect("a case is JSON")).collect())
}

/// What the origin's terms are in ours.
fn parsers(config: &Value) -> Value {
    let pattern = |pattern: &str| pattern.trim_matches('/').to_owned();
    let text = |key: &str| config[key].as_str();
    if let Some(name) = text("parser") {
        return match name {
            "docker" | "docker, cri" => json!([{"container": {}}]),
            "exceptions" | "python" => json!([{"exceptions": {}}]),
            other => panic!("a parser {other}"),
        };
    }
    // Vector: `start_pattern` opens; `condition_pattern` says until when it goes on.
    if let (Some(mode), Some(start), Some(condition)) = (text("mode"), text("start_pattern"), text("condition_pattern"))
    {
        return match mode {
            "continue_through" if start == condition => {
                json!([{"multiline": {"type": "while_pattern", "pattern": start}}])
            }
            "continue_past" if start == condition => json!([{"multiline": {"pattern": start, "match": "before"}}]),
            "halt_before" if start == condition => json!([{"multiline": {"pattern": condition, "negate": true}}]),
            "halt_with" => json!([{"multiline": {"pattern": condition, "negate": true, "match": "before"}}]),
            other => panic!("a mode {other}"),
        };
    }
    // fluent-bit: rules from `start_state` to one that goes on with itself.
    if let Some([_, goes_on]) = config["rules"].as_array().map(Vec::as_slice) {
        let multiline = json!({"multiline": {"pattern": pattern(goes_on[1].as_str().expect("a pattern"))}});
        return if text("after") == Some("cri") { json!([{"container": {}}, multiline]) } else { json!([multiline]) };
    }
    let mut multiline = config.clone();
    multiline.as_object_mut().expect("an object").remove("truncated"); // What is expected of the events.
    json!([{"multiline": multiline}])
}

#[test]
fn cases_of_other_projects_make_the_same_events() {
    let Some(cases) = cases() else { return };
    assert!(cases.len() >= 30, "{} cases", cases.len());
    let mut failed = Vec::new();
    for case in &cases {
        let lines: Vec<&str> = case["lines"].as_array().expect("lines").iter().filter_map(Value::as_str).collect();
        let reader = read(&parsers(&case["config"]).to_string(), &lines);
        let got = reader.texts();
        let is_same = match case["events"].as_array() {
            Some(events) => got == events.iter().filter_map(Value::as_str).collect::<Vec<_>>(),
            None => Some(got.len() as u64) == case["event_count"].as_u64(),
        };
        let is_truncated = reader.events.truncated > 0;
        let name = case["name"].as_str().unwrap_or_default();
        println!("{} {name}", if is_same { "passed" } else { "FAILED" });
        if !is_same || is_truncated != (case["config"]["truncated"] == true) {
            failed.push(format!("{name}: {got:#?}"));
        }
    }
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

#[test]
fn a_trace_is_found_by_its_own_language_alone() {
    let Some(cases) = cases() else { return };
    for case in cases.iter().filter(|case| case["language"].is_string()) {
        let parsers = json!([{"exceptions": {"languages": [case["language"]]}}]).to_string();
        let lines: Vec<&str> = case["lines"].as_array().expect("lines").iter().filter_map(Value::as_str).collect();
        assert_eq!(json!(read(&parsers, &lines).texts()), case["events"], "{}", case["name"]);
    }
}
