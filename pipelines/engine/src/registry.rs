//! The processors there are, one line each, and how a processor of a file becomes one that runs.

use crate::options::{Options, Wrong};
use crate::pipeline::{Processor, Step};
use crate::processors::{convert, date, grok, json, lowercase, remove, rename, set};
use event::{Object, Value};
use std::cell::Cell;

/// Makes the step from its options.
type Build = fn(&mut Options<'_>) -> Result<Box<dyn Step>, Wrong>;

/// Name, options and maker of every processor, alphabetical. A new one is one file and one line.
const STEPS: &[(&str, &[&str], Build)] = &[
    ("convert", convert::OPTIONS, convert::build),
    ("date", date::OPTIONS, date::build),
    ("grok", grok::OPTIONS, grok::build),
    ("json", json::OPTIONS, json::build),
    ("lowercase", lowercase::OPTIONS, lowercase::build),
    ("remove", remove::OPTIONS, remove::build),
    ("rename", rename::OPTIONS, rename::build),
    ("set", set::OPTIONS, set::build),
];

/// Deepest nesting of `on_failure` in `on_failure`.
const NESTING_MAX: usize = 16;

/// The names of all processors.
pub fn names() -> impl Iterator<Item = &'static str> {
    STEPS.iter().map(|(name, ..)| *name)
}

/// What is wrong with a processor, and where under the one that stands in the list: `on_failure[0].set`.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) at: String,
    pub(crate) wrong: Wrong,
}

/// Makes a processor of `{name: {option: value, …}}`. Sets `uses_ingest` if it needs `_ingest`.
pub(crate) fn build(value: Value, uses_ingest: &Cell<bool>, depth: usize) -> Result<Processor, Refused> {
    let refused = |at: &str, wrong: Wrong| Refused { at: at.to_owned(), wrong };
    let wanted = || refused("", "a processor is one name with its options, such as {lowercase: {field: a}}".to_owned());
    let Value::Object(object) = value else { return Err(wanted()) };
    let mut members = object.into_iter();
    let (Some((name, options)), None) = (members.next(), members.next()) else { return Err(wanted()) };
    let Some((kind, known, make)) = STEPS.iter().find(|(known, ..)| *known == name) else {
        let all: Vec<_> = names().collect();
        return Err(refused(&name, format!("there is no such processor, there are: {}", all.join(", "))));
    };
    let options = match options {
        Value::Object(options) => options,
        Value::Null => Object::new(),
        other => return Err(refused(kind, format!("options expected, not [{}]", other.java_class()))),
    };
    let mut options = Options::new(options, known, uses_ingest).map_err(|wrong| refused(kind, wrong))?;
    let on_failure = handlers(&mut options, kind, depth)?;
    let common = Common::read(&mut options).map_err(|wrong| refused(kind, wrong))?;
    let step = make(&mut options).map_err(|wrong| refused(kind, wrong))?;
    Ok(Processor { kind, tag: common.tag, ignore_failure: common.ignore_failure, on_failure, step })
}

struct Common {
    tag: Option<String>,
    ignore_failure: bool,
}

impl Common {
    fn read(options: &mut Options<'_>) -> Result<Self, Wrong> {
        options.text_if_set("description")?;
        if options.take("if").is_some() {
            return Err("[if] needs conditions, which this version does not have yet".to_owned());
        }
        let tag = options.text_if_set("tag")?.map(String::from);
        Ok(Self { tag, ignore_failure: options.flag("ignore_failure", false)? })
    }
}

fn handlers(options: &mut Options<'_>, kind: &str, depth: usize) -> Result<Vec<Processor>, Refused> {
    let refused = |wrong: &str| Refused { at: kind.to_owned(), wrong: wrong.to_owned() };
    let values = match options.take_even_null("on_failure") {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) if values.is_empty() => {
            return Err(refused("[on_failure] processors list cannot be empty"));
        }
        Some(Value::Array(values)) => values,
        Some(_) => return Err(refused("[on_failure] is a list of processors")),
    };
    if depth == NESTING_MAX {
        return Err(refused("[on_failure] is nested too deeply"));
    }
    let one = |(nth, value)| {
        build(value, &Cell::new(true), depth + 1) // Whatever they use: before they run it is filled.
            .map_err(|inner| Refused { at: format!("{kind}.on_failure[{nth}].{}", inner.at), wrong: inner.wrong })
    };
    values.into_iter().enumerate().map(one).collect()
}
