//! What came out of the cases that failed into their tests file: `expect…`, `dropped` and `error` of these cases are
//! replaced, and nothing else of the file is touched.

use crate::written;
use engine::cases::{Actual, CaseResult};
use event::{Event, FieldPath, Object, Value};

/// The keys of a case that say what must come out.
const EXPECTING: &[&str] = &["expect", "expect_exact", "dropped", "error"];

/// `text` with what came out of the cases of `results` that failed, and how many these are. `None` if one of them is not
/// written as a block (`- name: …` and a line for each key) or could not be run.
pub(super) fn updated(text: &str, results: &[CaseResult]) -> Option<String> {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut replaced: Vec<String> = Vec::new();
    // From the last case to the first: what is replaced moves nothing in front of it.
    let mut end = lines.len();
    for result in results.iter().rev() {
        let start = usize::try_from(result.line).ok()?.checked_sub(1)?;
        let tail = lines.split_off(end.min(lines.len()));
        replaced.extend(tail.into_iter().rev().map(str::to_owned));
        let case = lines.split_off(start.min(lines.len()));
        let case = match result.differences.is_empty() {
            true => case.into_iter().map(str::to_owned).collect(),
            false => rewritten(&case, result)?,
        };
        replaced.extend(case.into_iter().rev());
        end = start;
    }
    replaced.extend(lines.into_iter().rev().map(str::to_owned));
    replaced.reverse();
    Some(replaced.concat())
}

/// The lines of a case with what came out in the place of what was expected.
fn rewritten(lines: &[&str], result: &CaseResult) -> Option<Vec<String>> {
    let (first, rest) = lines.split_first()?;
    let dash = first.find(|c: char| c != ' ')?;
    let after = first.get(dash..)?.strip_prefix('-')?;
    let indent = dash + 1 + after.find(|c: char| c != ' ')?;
    // `key: …` of the case itself.
    let key_of = |line: &str| -> Option<String> {
        let key = line.get(indent..)?.split_once(':')?.0;
        let own = line.get(..indent)?.chars().all(|c| c == ' ') && !key.contains([' ', '#', '{', '"', '\'']);
        own.then(|| key.to_owned())
    };
    let opened = first.get(indent..)?;
    if opened.starts_with('{')
        || key_of(&format!("{}{opened}", " ".repeat(indent))).is_none_or(|key| EXPECTING.contains(&key.as_str()))
    {
        return None;
    }
    let expectation = expectation(result, indent)?;
    let mut kept: Vec<String> = vec![(*first).to_owned()];
    let (mut place, mut is_inside) = (None, false);
    for line in rest {
        if let Some(key) = key_of(line) {
            is_inside = EXPECTING.contains(&key.as_str());
            if is_inside {
                place.get_or_insert(kept.len());
                continue;
            }
        }
        // What stands less deep, and what is empty, is not of the value.
        let is_deeper = line.get(..=indent).is_some_and(|start| start.chars().all(|c| c == ' '));
        is_inside &= is_deeper;
        if !is_inside {
            kept.push((*line).to_owned());
        }
    }
    // A case that expected nothing gets it behind its last line.
    let last = kept
        .iter()
        .rposition(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .map_or(0, |last| last + 1);
    let place = place.unwrap_or(last);
    if let Some(before) = place.checked_sub(1).and_then(|before| kept.get_mut(before))
        && !before.ends_with('\n')
    {
        before.push('\n');
    }
    kept.insert(place, expectation);
    Some(kept)
}

/// The lines that expect what came out.
fn expectation(result: &CaseResult, indent: usize) -> Option<String> {
    let space = " ".repeat(indent);
    let (key, fields) = match result.actual.as_ref()? {
        Actual::Dropped => return Some(format!("{space}dropped: true\n")),
        Actual::Error(failure) => return Some(format!("{space}error: {}\n", written::text(&failure.reason))),
        Actual::Document(document) => match result.expect.as_ref().map(|expect| seen(expect, "", document)) {
            Some(fields) if !fields.is_empty() => ("expect", fields),
            _ => ("expect_exact", document.clone()),
        },
    };
    match fields.is_empty() {
        true => Some(format!("{space}{key}: {{}}\n")),
        false => Some(format!("{space}{key}:\n{}", written::block(&fields, indent + 2))),
    }
}

/// The fields of `expect` as they are in `document`, without those that are not there.
fn seen(expect: &Object, prefix: &str, document: &Object) -> Object {
    let mut fields = Object::new();
    let event = Event::new(document.clone());
    for (key, value) in expect.iter() {
        let path = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        let got = FieldPath::new(&path).ok().and_then(|path| event.get(&path));
        match (value, got) {
            (Value::Object(inner), Some(Value::Object(_))) if !inner.is_empty() => {
                let inner = seen(inner, &path, document);
                if !inner.is_empty() {
                    fields.insert(key, inner);
                }
            }
            (_, Some(got)) => {
                fields.insert(key, got.clone());
            }
            (_, None) => {}
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::cases;

    const TESTS: &str = "\
# Cases of a pipeline.
- name: passes   # and keeps its comment
  input: A
  expect: {message: a}

# Nearly right.
- name: some fields differ
  expect:
    message: wrong
    gone: 1
    n.m: {k: 2}   # of the nested ones, too
  input: {message: ABC, n: {m: {k: 1, other: 2}}}

- name: the document differs
  input:
    message: \"It's: #1\"
    # inside
    count: 1
  expect_exact: {message: x}
# Of the one that follows.
- name: fails
  input: {}
  dropped: true
- name: expects nothing
  input: C";

    const UPDATED: &str = "\
# Cases of a pipeline.
- name: passes   # and keeps its comment
  input: A
  expect: {message: a}

# Nearly right.
- name: some fields differ
  expect:
    message: abc
    n.m:
      k: 1
  input: {message: ABC, n: {m: {k: 1, other: 2}}}

- name: the document differs
  input:
    message: \"It's: #1\"
    # inside
    count: 1
  expect_exact:
    message: 'it''s: #1'
    count: 1
# Of the one that follows.
- name: fails
  input: {}
  error: 'field [message] not present as part of path [message]'
- name: expects nothing
  input: C
  expect_exact:
    message: c
";

    #[test]
    fn cases_that_fail_get_what_came_out_and_the_rest_of_the_file_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tests = folder.path().join("low.tests.yml");
        std::fs::write(folder.path().join("low.yml"), "processors: [{lowercase: {field: message}}]").expect("written");
        std::fs::write(&tests, TESTS).expect("written");
        let report = cases::run(&tests).expect("it runs");
        let text = updated(TESTS, &report.results).expect("blocks");
        assert_eq!(text, UPDATED);
        std::fs::write(&tests, &text).expect("written");
        let report = cases::run(&tests).expect("it runs");
        let differences: Vec<_> = report.results.iter().flat_map(|result| &result.differences).collect();
        assert!(differences.is_empty(), "{differences:?}");
        assert_eq!(updated(&text, &report.results).as_deref(), Some(text.as_str()));
    }

    #[test]
    fn a_case_in_braces_is_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tests = folder.path().join("low.tests.yml");
        std::fs::write(folder.path().join("low.yml"), "processors: [{lowercase: {field: message}}]").expect("written");
        let text = "- {name: a, input: A, expect: {message: b}}\n";
        std::fs::write(&tests, text).expect("written");
        assert_eq!(updated(text, &cases::run(&tests).expect("it runs").results), None);
    }
}
