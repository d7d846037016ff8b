//! `redact`: whatever grok patterns match in a text replaced by the pattern's name, such as `<IP>`.

use crate::failure::Problem;
use crate::grok::{Bank, Class, Ecs, Exhausted, Grok};
use crate::inspect::Note;
use crate::options::{Options, Wrong, text_at};
use crate::pipeline::{Flow, Run, Step};
use event::{Event, FieldPath, Value};

pub(crate) const OPTIONS: &[&str] = &[
    "field",
    "ignore_missing",
    "pattern_definitions",
    "patterns",
    "prefix",
    "skip_if_unlicensed",
    "suffix",
    "trace_redact",
];

/// Type name of a search that took too long.
const TIMEOUT: &str = "timeout_exception";

#[derive(Debug)]
struct Redact {
    field: FieldPath,
    patterns: Vec<Pattern>,
    prefix: String,
    suffix: String,
    ignore_missing: bool,
    /// Where it is told that something was found, if it is to be told.
    trace: Option<FieldPath>,
}

#[derive(Debug)]
struct Pattern {
    /// Its first field, which is shown in place of what it matches.
    name: String,
    /// Its first capture is the whole match.
    grok: Grok,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let patterns = options.texts("patterns")?;
    if patterns.is_empty() {
        return Err("[patterns] List of patterns must not be empty".to_owned());
    }
    let ignore_missing = options.flag("ignore_missing", true)?;
    options.flag("skip_if_unlicensed", false)?; // There is nothing to license here.
    let prefix = options.text_if_set("prefix")?.unwrap_or("<".into()).into();
    let suffix = options.text_if_set("suffix")?.unwrap_or(">".into()).into();
    let trace = match options.flag("trace_redact", false)? {
        true => Some(options.parse_path("trace_redact", "_ingest._redact._is_redacted")?),
        false => None,
    };
    let mut bank = Bank::stock(Ecs::V1);
    super::grok::define(options, &mut bank)?;
    let patterns: Result<Vec<_>, _> = patterns.iter().map(|pattern| Pattern::new(&bank, pattern)).collect();
    Ok(Box::new(Redact { field, patterns: patterns?, prefix, suffix, ignore_missing, trace }))
}

impl Pattern {
    fn new(bank: &Bank, pattern: &str) -> Result<Self, Wrong> {
        let wrong = |wrong: String| format!("[patterns] Invalid regex pattern found in: {wrong}");
        let plain = Grok::new(bank, &[pattern]).map_err(wrong)?;
        let name = plain.captures().next().map(|capture| capture.field.to_string()).ok_or_else(|| {
            format!("[patterns] [{pattern}] names no field: what is shown in place of a match, as in %{{IP:CLIENT}}")
        })?;
        let grok = Grok::new(bank, &[format!("(?<whole>{pattern})")]).map_err(wrong)?;
        Ok(Self { name, grok })
    }
}

impl Step for Redact {
    fn notes(&self) -> Vec<Note> {
        let note = |(nth, pattern): (usize, &Pattern)| {
            let class = pattern.grok.classes().into_iter().next().unwrap_or(Class::Linear);
            let is_warning = matches!(class, Class::Backtracking { .. });
            Note { place: format!("patterns[{nth}]"), text: class.to_string(), is_warning }
        };
        self.patterns.iter().enumerate().map(note).collect()
    }

    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let Some(text) = text_at(event, &self.field, true)? else {
            return match self.ignore_missing {
                true => Ok(Flow::Continue),
                false => Err(Problem::new(format!("field [{}] is null or missing", self.field))),
            };
        };
        let mut found = Vec::new();
        for pattern in &self.patterns {
            let all = pattern.grok.find_all(text).map_err(|Exhausted { steps }| {
                let reason = format!("Grok pattern matching timed out: redact gave up after [{steps}] steps");
                Box::new(Problem { kind: TIMEOUT, reason, cause: None })
            })?;
            found.extend(all.into_iter().map(|(start, end)| Found { start, end, name: &pattern.name }));
        }
        if found.is_empty() {
            return Ok(Flow::Continue);
        }
        let redacted = self.redacted(text, &merged(found));
        let is_changed = *text != redacted;
        event.set(&self.field, Value::from(redacted))?;
        if let Some(trace) = self.trace.as_ref().filter(|_| is_changed) {
            event.set(trace, Value::Bool(true))?;
        }
        Ok(Flow::Continue)
    }
}

impl Redact {
    fn redacted(&self, text: &str, found: &[Found<'_>]) -> String {
        let (mut out, mut done) = (String::with_capacity(text.len()), 0);
        for part in found {
            out.push_str(text.get(done..part.start).unwrap_or_default());
            out.extend([self.prefix.as_str(), part.name, self.suffix.as_str()]);
            done = part.end;
        }
        out.push_str(text.get(done..).unwrap_or_default());
        out
    }
}

/// What a pattern of this name matched.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Found<'p> {
    start: usize,
    end: usize,
    name: &'p str,
}

/// Those that touch or overlap become one, under the name of the longest of them. In the order of the text.
fn merged(mut found: Vec<Found<'_>>) -> Vec<Found<'_>> {
    found.sort_by_key(|found| found.start);
    let mut merged: Vec<Found<'_>> = Vec::new();
    let (mut longest, mut last_end) = (0, 0);
    for next in found {
        let length = next.end - next.start;
        match merged.last_mut() {
            // As the original: what counts is the end of the one before, not of all before.
            Some(group) if last_end >= next.start => {
                group.end = group.end.max(next.end);
                if length > longest {
                    (longest, group.name) = (length, next.name);
                }
            }
            _ => {
                longest = length;
                merged.push(next);
            }
        }
        last_end = next.end;
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(found: &[(usize, usize, &'static str)], expected: &[(usize, usize, &str)]) {
        let found = found.iter().map(|&(start, end, name)| Found { start, end, name }).collect();
        let merged: Vec<_> = merged(found).iter().map(|found| (found.start, found.end, found.name)).collect();
        assert_eq!(merged, expected);
    }

    #[test]
    fn what_overlaps_becomes_one_with_the_name_of_the_longest() {
        check(&[(4, 6, "a"), (0, 2, "b")], &[(0, 2, "b"), (4, 6, "a")]);
        check(&[(0, 3, "a"), (2, 7, "b")], &[(0, 7, "b")]);
        check(&[(0, 3, "a"), (3, 6, "b")], &[(0, 6, "a")]);
        check(&[(0, 3, "a"), (2, 4, "b"), (4, 9, "c"), (11, 12, "d")], &[(0, 9, "c"), (11, 12, "d")]);
        check(&[(0, 9, "a"), (1, 3, "b"), (2, 4, "c")], &[(0, 9, "a")]);
    }
}
