//! Patterns in, the pipeline out: which of them dissect takes apart as well as grok does.
//!
//! Dissect is faster and easier to read, but knows delimiters only. So a pattern of dissect stands where the file shows no
//! line of which the pipeline would make something else with it.

use super::{Part, Pattern, document, library};
use std::collections::BTreeSet;

/// Most patterns of dissect: each stands among the handlers of the one before.
const DISSECTS_MAX: usize = 8;

/// Goes through the lines of the file once.
type Line<'l> = dyn FnMut(&str) + 'l;

/// The pipeline for `patterns`. `each_line` goes through the file's lines.
pub(super) fn choose(
    patterns: &[Pattern],
    name: &str,
    each_line: impl Fn(&mut Line<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let grok = library(name, &propose(patterns, &BTreeSet::new()))?;
    let can = |nth: &usize| dissect(&patterns[*nth]).is_some();
    let mut chosen: BTreeSet<usize> = (0..patterns.len()).filter(can).take(DISSECTS_MAX).collect();
    while !chosen.is_empty() {
        let proposal = propose(patterns, &chosen);
        let with_dissect = library(name, &proposal)?;
        let alone: Vec<_> = chosen
            .iter()
            .map(|nth| Ok((*nth, library(name, &alone(&patterns[*nth]))?)))
            .collect::<anyhow::Result<_>>()?;
        let mut wrong = BTreeSet::new();
        each_line(&mut |line| {
            let of = |library| document(library, name, line).ok().filter(|document| !document.contains("error"));
            if of(&with_dissect) != of(&grok) {
                // The first that takes the line is the one that made something else of it.
                match alone.iter().find(|(_, library)| of(library).is_some()) {
                    Some((nth, _)) => drop(wrong.insert(*nth)),
                    None => wrong.extend(&chosen),
                }
            }
        })?;
        if wrong.is_empty() {
            return Ok(proposal);
        }
        chosen.retain(|nth| !wrong.contains(nth));
    }
    Ok(propose(patterns, &chosen))
}

/// The pattern as one of dissect. `None` if it has no values, or text that such a pattern cannot hold.
fn dissect(pattern: &Pattern) -> Option<String> {
    let mut values = 0;
    let parts = pattern.parts.iter().map(|part| match part {
        Part::Fixed(fixed) => plain(fixed).map(str::to_owned),
        Part::Value { head, field, tail, .. } => {
            values += 1;
            Some(format!("{}%{{{field}}}{}", plain(head)?, plain(tail)?))
        }
    });
    let parts: Vec<_> = parts.collect::<Option<_>>()?;
    (values > 0).then(|| parts.join(" "))
}

/// The text, if nothing in it means something else in a pattern or in the file.
fn plain(text: &str) -> Option<&str> {
    let is_special = |c: char| c == '%' || c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    (!text.contains(is_special)).then_some(text)
}

fn quoted(pattern: &str) -> String {
    format!("'{}'", pattern.replace('\'', "''"))
}

/// A pipeline of one pattern of dissect, which fails on what it does not fit.
fn alone(pattern: &Pattern) -> String {
    let pattern = dissect(pattern).unwrap_or_default();
    format!("processors:\n  - dissect:\n      field: message\n      pattern: {}\n", quoted(&pattern))
}

/// The pipeline: those of dissect one in the handlers of the other, then those of grok.
fn propose(patterns: &[Pattern], dissected: &BTreeSet<usize>) -> String {
    let mut out =
        "description: Proposed by `tailrace learn`; give the fields of `labels` the names that they deserve.\n\
                   processors:\n"
            .to_owned();
    let mut indent = 2;
    let mut add = |indent: usize, line: &str| out.push_str(&format!("{}{line}\n", " ".repeat(indent)));
    let mut first = true;
    for (nth, pattern) in patterns.iter().enumerate() {
        let Some(text) = dissect(pattern).filter(|_| dissected.contains(&nth)) else { continue };
        if !first {
            add(indent + 4, "on_failure:");
            indent += 4;
        }
        first = false;
        add(indent, "- dissect:");
        add(indent + 4, "field: message");
        add(indent + 4, &format!("pattern: {}  # {} lines", quoted(&text), pattern.count));
    }
    let groks: Vec<_> = patterns.iter().enumerate().filter(|(nth, _)| !dissected.contains(nth)).collect();
    if !groks.is_empty() {
        if !first {
            add(indent + 4, "on_failure:");
            indent += 4;
        }
        add(indent, "- grok:");
        add(indent + 4, "field: message");
        add(indent + 4, "patterns:");
        for (_, pattern) in groks {
            add(indent + 6, &format!("- {}  # {} lines", quoted(&pattern.grok()), pattern.count));
        }
    }
    out.push_str(
        "on_failure:\n  # A line that does not fit is kept as it is, with the reason.\n  \
         - set: {field: event.kind, value: pipeline_error}\n  \
         - append: {field: error.message, value: '{{{_ingest.on_failure_message}}}'}\n",
    );
    out
}
