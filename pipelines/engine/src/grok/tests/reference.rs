//! Our definitions against the original ones, where they stand beside the project: on every line of the cases, every
//! name captures the same, whatever its definition looks like. The original ones are tried by backtracking, which has
//! atomic groups and look-around as they were written.

use super::super::*;
use std::path::{Path, PathBuf};

/// Lines that every name is tried on, beside those of its own cases.
const LINES: usize = 40;

fn shared() -> Option<PathBuf> {
    let shared = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if shared.is_dir() {
        return Some(shared);
    }
    println!("skipped: {} is not there", shared.display());
    None
}

fn original(dir: &Path) -> (Bank, Vec<String>) {
    let mut bank = Bank::stock(Ecs::Disabled);
    let mut names = Vec::new();
    for file in std::fs::read_dir(dir).expect("a folder of patterns") {
        let path = file.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a file of patterns");
        bank.define_all("original", &text).expect("definitions");
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        names.extend(lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned));
    }
    names.sort();
    (bank, names)
}

/// Texts by field, as tried by backtracking; `None`: the budget ran out.
fn tried(parsed: &Parsed, program: &Program, text: &str) -> Option<Option<Vec<(String, String)>>> {
    let mut search = Search::new(program, text);
    let found = search.find(text.len(), parsed.tree.is_line_anchored()).ok()?;
    let mut fields = Vec::new();
    for capture in fields_of(parsed).expect("fields") {
        let part =
            capture.groups.iter().find_map(|group| search.span(*group)).and_then(|(start, end)| text.get(start..end));
        fields.extend(part.map(|part| (capture.field.to_string(), part.to_owned())));
    }
    fields.sort();
    Some(found.map(|_| fields))
}

fn cases(shared: &Path) -> Vec<String> {
    let cases = std::fs::read_to_string(shared.join("grok-cases.jsonl")).expect("the cases");
    let input = |line: &str| match event::Value::from_json(line.as_bytes()) {
        Ok(event::Value::Object(case)) => match case.get("input") {
            Some(event::Value::Text(text)) => text.to_string(),
            _ => String::new(),
        },
        _ => String::new(),
    };
    let mut inputs: Vec<_> = cases.lines().map(input).collect();
    inputs.sort();
    inputs.dedup();
    inputs
}

#[test]
fn every_name_captures_what_the_original_definition_captures() {
    let Some(shared) = shared() else { return };
    let inputs = cases(&shared);
    let (mut compared, mut matching, mut skipped, mut different) = (0, 0, 0, Vec::new());
    for (ecs, set) in [(Ecs::Disabled, "legacy"), (Ecs::V1, "ecs-v1")] {
        let (bank, names) = original(&shared.join("grok-patterns").join(set));
        for name in names {
            let pattern = format!("%{{{name}}}");
            let parsed = parse::parse(&bank, &pattern).expect("an original definition");
            let program = Program::new(&parsed.tree, parsed.groups.len()).expect("a program");
            let ours = Grok::new(&Bank::stock(ecs), &[&pattern]).expect("a definition of ours");
            assert!(ours.kept.is_empty(), "{set} {name} backtracks");
            // Every name sees another part of the lines; all lines come up.
            let from = name.bytes().map(usize::from).sum::<usize>() % inputs.len();
            let is_log = name.contains("LOG") || name.contains("CISCO") || name.contains("EXIM") || name.contains('4');
            let count = if is_log { inputs.len() } else { LINES };
            for text in inputs.iter().cycle().skip(from).take(count) {
                let Some(expected) = tried(&parsed, &program, text) else {
                    skipped += 1;
                    continue;
                };
                let mut fields = Vec::new();
                let matched = ours
                    .match_text(text, |capture, part| fields.push((capture.field.to_string(), part.to_owned())))
                    .expect("no budget");
                fields.sort();
                compared += 1;
                matching += usize::from(matched.is_some());
                let got = matched.map(|_| fields);
                if got != expected {
                    different.push(format!("{set} {name} on {text:?}:\n  ours     {got:?}\n  original {expected:?}"));
                }
            }
        }
    }
    println!("{compared} compared, {matching} of them match, {skipped} over the budget");
    assert!(
        different.is_empty(),
        "{} of {compared} differ:\n{}",
        different.len(),
        different[..different.len().min(20)].join("\n")
    );
}
