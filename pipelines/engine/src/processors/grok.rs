//! `grok`: fields out of a text by named patterns.

use crate::failure::{NUMBER_FORMAT, Problem};
use crate::grok::{Bank, Capture, Class, Ecs, Exhausted, Grok, Kind};
use crate::inspect::Note;
use crate::library::define_patterns;
use crate::options::{Options, Wrong, text_at};
use crate::pipeline::{Flow, Run, Step};
use crate::processors::convert::{java_double, java_float, no_float, no_number};
use compact_str::CompactString;
use event::{Event, FieldPath, Value};
use std::path::Path;

pub(crate) const OPTIONS: &[&str] =
    &["ecs_compatibility", "field", "ignore_missing", "pattern_definitions", "patterns", "patterns_dir", "trace_match"];

#[derive(Debug)]
struct GrokStep {
    field: FieldPath,
    grok: Grok,
    ignore_missing: bool,
    /// Where the number of the pattern that matched goes, if it is wanted.
    trace: Option<FieldPath>,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let patterns = options.texts("patterns")?;
    if patterns.is_empty() {
        return Err("[patterns] List of patterns must not be empty".to_owned());
    }
    let ecs = match options.text_if_set("ecs_compatibility")?.as_deref() {
        None | Some("disabled") => Ecs::Disabled,
        Some("v1") => Ecs::V1,
        Some(other) => {
            return Err(format!("[ecs_compatibility] unsupported mode '{other}', there are: disabled, v1"));
        }
    };
    let mut bank = Bank::stock(ecs);
    // What a folder defines hides what is stock, and what the processor defines hides both.
    for dir in options.texts("patterns_dir")? {
        let dir = Path::new(dir.as_str());
        if !dir.is_absolute() {
            return Err(format!("[patterns_dir] {} is not an absolute path: start it with /", dir.display()));
        }
        define_patterns(dir, &mut bank).map_err(|wrong| format!("[patterns_dir] {wrong}"))?;
    }
    define(options, &mut bank)?;
    let grok = Grok::new(&bank, &patterns).map_err(|wrong| format!("[patterns] {wrong}"))?;
    for capture in grok.captures() {
        if capture.field.is_ingest() {
            options.writes_ingest();
        }
    }
    let ignore_missing = options.flag("ignore_missing", false)?;
    let trace = match options.flag("trace_match", false)? {
        true => Some(options.parse_path("trace_match", "_ingest._grok_match_index")?),
        false => None,
    };
    Ok(Box::new(GrokStep { field, grok, ignore_missing, trace }))
}

/// Reads the option `pattern_definitions`.
pub(super) fn define(options: &mut Options<'_>, bank: &mut Bank) -> Result<(), Wrong> {
    match options.take("pattern_definitions") {
        None => Ok(()),
        Some(Value::Object(definitions)) => {
            for (name, definition) in definitions {
                let Value::Text(definition) = definition else {
                    return Err(format!("[pattern_definitions] {name} is not a string"));
                };
                bank.define(&name, &definition);
            }
            Ok(())
        }
        Some(other) => Err(format!("[pattern_definitions] property isn't a map, but of type [{}]", other.java_class())),
    }
}

impl Step for GrokStep {
    fn explain(&self, event: &Event) -> Option<String> {
        let text = text_at(event, &self.field, true).ok()??;
        let is_no_match = matches!(self.grok.match_text(text, |_, _| {}), Ok(None));
        is_no_match.then(|| self.grok.explain(text)).flatten().map(|explanation| explanation.to_string())
    }

    fn notes(&self) -> Vec<Note> {
        let note = |(nth, class): (usize, Class)| {
            let is_warning = matches!(class, Class::Backtracking { .. });
            Note { place: format!("patterns[{nth}]"), text: class.to_string(), is_warning }
        };
        self.grok.classes().into_iter().enumerate().map(note).collect()
    }

    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let Some(text) = text_at(event, &self.field, self.ignore_missing)? else { return Ok(Flow::Continue) };
        // The text is needed while fields are set, one of which may be itself. Its clone costs no more than a copy.
        let text = text.clone();
        let mut failed = None;
        let matched = self.grok.match_text(&text, |capture, part| {
            if failed.is_none()
                && let Err(problem) = set(event, capture, part)
            {
                failed = Some(problem);
            }
        });
        if let Some(problem) = failed {
            return Err(problem);
        }
        let matched = matched.map_err(|exhausted| {
            let Exhausted { steps } = exhausted;
            Problem::new(format!(
                "grok gave up after [{steps}] steps: a pattern needs backtracking; see tailrace check"
            ))
        })?;
        let Some(nth) = matched else {
            return Err(Problem::new(format!("Provided Grok expressions do not match field value: [{text}]")));
        };
        if let Some(trace) = &self.trace {
            event.set(trace, Value::Text(CompactString::from(nth.to_string())))?;
        }
        Ok(Flow::Continue)
    }
}

fn set(event: &mut Event, capture: &Capture, part: &str) -> Result<(), Box<Problem>> {
    let number = |cause: String| Box::new(Problem { kind: NUMBER_FORMAT, reason: cause, cause: None });
    let value = match capture.kind {
        Kind::Text => Value::from(part),
        Kind::Int => Value::Int(part.parse().map_err(|_| number(no_number(part)))?),
        Kind::Long => Value::Long(part.parse().map_err(|_| number(no_number(part)))?),
        Kind::Float => Value::Float(java_float(part).ok_or_else(|| number(no_float(part)))?),
        Kind::Double => Value::Double(java_double(part).ok_or_else(|| number(no_float(part)))?),
        Kind::Boolean => Value::Bool(part.eq_ignore_ascii_case("true")),
    };
    event.set(&capture.field, value)?;
    Ok(())
}
