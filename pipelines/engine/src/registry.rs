//! The processors there are, one line each, and how a processor of a file becomes one that runs.

use crate::options::{Loading, Options, Wrong};
use crate::painless::Condition;
use crate::pipeline::{Processor, Step};
use crate::processors::{
    append, bytes, cef, community_id, convert, copy, csv, date, date_index_name, dissect, dot_expander, drop, fail,
    fingerprint, foreach, geoip, grok, gsub, html_strip, join, json, kv, logfmt, lowercase, mask, network_direction,
    pipeline, redact, registered_domain, remove, remove_by_pattern, rename, reroute, sample, script, set, sort, split,
    syslog, trim, uppercase, uri_parts, urldecode, user_agent,
};
use event::{Object, Value};
use std::cell::Cell;

/// Makes the step from its options.
type Build = fn(&mut Options<'_>) -> Result<Box<dyn Step>, Wrong>;

/// Name, options and maker of every processor, alphabetical. A new one is one file and one line.
const STEPS: &[(&str, &[&str], Build)] = &[
    ("append", append::OPTIONS, append::build),
    ("bytes", bytes::OPTIONS, bytes::build),
    ("cef", cef::OPTIONS, cef::build),
    ("community_id", community_id::OPTIONS, community_id::build),
    ("convert", convert::OPTIONS, convert::build),
    ("copy", copy::OPTIONS, copy::build),
    ("csv", csv::OPTIONS, csv::build),
    ("date", date::OPTIONS, date::build),
    ("date_index_name", date_index_name::OPTIONS, date_index_name::build),
    ("dissect", dissect::OPTIONS, dissect::build),
    ("dot_expander", dot_expander::OPTIONS, dot_expander::build),
    ("drop", drop::OPTIONS, drop::build),
    ("fail", fail::OPTIONS, fail::build),
    ("fingerprint", fingerprint::OPTIONS, fingerprint::build),
    ("foreach", foreach::OPTIONS, foreach::build),
    ("geoip", geoip::OPTIONS, geoip::build),
    ("grok", grok::OPTIONS, grok::build),
    ("gsub", gsub::OPTIONS, gsub::build),
    ("html_strip", html_strip::OPTIONS, html_strip::build),
    ("join", join::OPTIONS, join::build),
    ("json", json::OPTIONS, json::build),
    ("kv", kv::OPTIONS, kv::build),
    ("logfmt", logfmt::OPTIONS, logfmt::build),
    ("lowercase", lowercase::OPTIONS, lowercase::build),
    ("mask", mask::OPTIONS, mask::build),
    ("network_direction", network_direction::OPTIONS, network_direction::build),
    ("pipeline", pipeline::OPTIONS, pipeline::build),
    ("redact", redact::OPTIONS, redact::build),
    ("registered_domain", registered_domain::OPTIONS, registered_domain::build),
    ("remove", remove::OPTIONS, remove::build),
    ("remove_by_pattern", remove_by_pattern::OPTIONS, remove_by_pattern::build),
    ("rename", rename::OPTIONS, rename::build),
    ("reroute", reroute::OPTIONS, reroute::build),
    ("sample", sample::OPTIONS, sample::build),
    ("script", script::OPTIONS, script::build),
    ("set", set::OPTIONS, set::build),
    ("sort", sort::OPTIONS, sort::build),
    ("split", split::OPTIONS, split::build),
    ("syslog", syslog::OPTIONS, syslog::build),
    ("trim", trim::OPTIONS, trim::build),
    ("uppercase", uppercase::OPTIONS, uppercase::build),
    ("uri_parts", uri_parts::OPTIONS, uri_parts::build),
    ("urldecode", urldecode::OPTIONS, urldecode::build),
    ("user_agent", user_agent::OPTIONS, user_agent::build),
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

/// Makes a processor of `{name: {option: value, …}}`. Notes in `loading` if it needs `_ingest`.
pub(crate) fn build(value: Value, loading: &Loading<'_>, depth: usize) -> Result<Processor, Refused> {
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
    let mut options = Options::new(options, known, loading, depth).map_err(|wrong| refused(kind, wrong))?;
    let on_failure = handlers(&mut options, kind, loading, depth)?;
    let common = Common::read(&mut options).map_err(|wrong| refused(kind, wrong))?;
    let step = make(&mut options).map_err(|wrong| refused(kind, wrong))?;
    let Common { tag, condition, ignore_failure } = common;
    Ok(Processor { kind, tag, condition, ignore_failure, on_failure, step })
}

struct Common {
    tag: Option<String>,
    condition: Option<Condition>,
    ignore_failure: bool,
}

impl Common {
    fn read(options: &mut Options<'_>) -> Result<Self, Wrong> {
        options.text_if_set("description")?;
        let condition = match options.take("if") {
            None => None,
            Some(written) => {
                let (source, params) = script::source(written).map_err(|wrong| format!("[if] {wrong}"))?;
                Some(Condition::parse(&source, params).map_err(|wrong| format!("[if] {wrong}"))?)
            }
        };
        let tag = options.text_if_set("tag")?.map(String::from);
        Ok(Self { tag, condition, ignore_failure: options.flag("ignore_failure", false)? })
    }
}

fn handlers(
    options: &mut Options<'_>,
    kind: &str,
    loading: &Loading<'_>,
    depth: usize,
) -> Result<Vec<Processor>, Refused> {
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
    // Whatever they use of `_ingest`: before they run it is filled.
    let inside = Loading { uses_ingest: Cell::new(true), databases: loading.databases };
    let one = |(nth, value)| {
        build(value, &inside, depth + 1)
            .map_err(|inner| Refused { at: format!("{kind}.on_failure[{nth}].{}", inner.at), wrong: inner.wrong })
    };
    values.into_iter().enumerate().map(one).collect()
}
