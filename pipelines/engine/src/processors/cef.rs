//! `cef`: a line of the Common Event Format into fields. Ours; no search node has it.
//!
//! `CEF:0|vendor|product|version|id|name|severity|key=value key=value`: the header goes to `cef.…`, the pairs to
//! `cef.extensions`. Specified by ArcSight's "Common Event Format", revision 26.

use crate::failure::Problem;
use crate::options::{Options, Wrong, text_at};
use crate::pipeline::{Flow, Run, Step};
use event::document::KEYS_MAX;
use event::{Event, FieldPath, Object, Value};

pub(crate) const OPTIONS: &[&str] = &["field", "ignore_missing", "target_field"];

/// Where the parts of the header go, in their order behind the version.
const HEADER: [(&str, &str); 6] = [
    ("device", "vendor"),
    ("device", "product"),
    ("device", "version"),
    ("device", "event_class_id"),
    ("", "name"),
    ("", "severity"),
];

#[derive(Debug)]
struct Cef {
    field: FieldPath,
    target: FieldPath,
    ignore_missing: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let target = match options.text_if_set("target_field")? {
        Some(text) => options.parse_path("target_field", &text)?,
        None => options.parse_path("target_field", "cef")?,
    };
    Ok(Box::new(Cef { field, target, ignore_missing: options.flag("ignore_missing", false)? }))
}

impl Step for Cef {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let Some(text) = text_at(event, &self.field, self.ignore_missing)? else { return Ok(Flow::Continue) };
        let parsed = parse(text).map_err(|wrong| Problem::new(format!("[{text}] is no CEF: {wrong}")))?;
        event.set(&self.target, Value::Object(parsed))?;
        Ok(Flow::Continue)
    }
}

/// What stands behind `CEF:` in `text`, which may have a syslog header in front.
fn parse(text: &str) -> Result<Object, String> {
    let (_, text) = text.split_once("CEF:").ok_or("it has no CEF: in it")?;
    let mut rest = text;
    let mut next = || {
        let (part, after) = header_part(rest)?;
        rest = after;
        Some(part)
    };
    let mut cef = Object::new();
    cef.insert("version", next().ok_or("the header ends behind its version")?);
    let mut device = Object::new();
    for (group, name) in HEADER {
        let part = next().ok_or_else(|| format!("the header ends in front of its {name}"))?;
        if group.is_empty() {
            cef.insert(name, part)
        } else {
            device.insert(name, part)
        };
    }
    cef.insert("device", device);
    let extensions = extensions(rest.trim())?;
    if !extensions.is_empty() {
        cef.insert("extensions", extensions);
    }
    Ok(cef)
}

/// The text up to the next bar, `\|` and `\\` read as `|` and `\`, and what follows the bar.
fn header_part(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '|' => return Some((part, text.get(at + 1..)?)),
            '\\' => match chars.next() {
                Some((_, next @ ('|' | '\\'))) => part.push(next),
                Some((_, next)) => part.extend(['\\', next]),
                None => part.push('\\'),
            },
            c => part.push(c),
        }
    }
    None
}

/// `key=value` pairs; a value holds spaces and ends where the next key starts.
///
/// Errors: there are more than [`KEYS_MAX`].
fn extensions(text: &str) -> Result<Object, String> {
    let bytes = text.as_bytes();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'[' | b']');
    // Where the names start and end.
    let mut names: Vec<(usize, usize)> = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        if *byte != b'=' || at == 0 || bytes[at - 1] == b'\\' {
            continue;
        }
        let length = bytes[..at].iter().rev().take_while(|byte| is_name(**byte)).count();
        let start = at - length;
        if length > 0 && (start == 0 || bytes[start - 1] == b' ') {
            names.push((start, at));
        }
    }
    if names.len() > KEYS_MAX {
        return Err(format!("it has {} extensions, at most {KEYS_MAX} are read", names.len()));
    }
    let mut found = Object::with_capacity(names.len());
    for (nth, (start, end)) in names.iter().enumerate() {
        let until = names.get(nth + 1).map_or(text.len(), |(next, _)| next - 1);
        let value = text.get(end + 1..until).unwrap_or_default().trim_end();
        found.insert(text.get(*start..*end).unwrap_or_default(), unescaped(value));
    }
    Ok(found)
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some(next @ ('=' | '\\' | '|')) => out.push(next),
            Some(next) => out.extend(['\\', next]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_extensions_are_read() {
        let line = r"Sep 1 host CEF:0|Sec\|urity|th\\ing|1.0|100|worm stopped|10|src=10.0.0.1 msg=a b\=c\nd spt=1232";
        let expected = r#"{"version":"0","device":{"vendor":"Sec|urity","product":"th\\ing","version":"1.0",
            "event_class_id":"100"},"name":"worm stopped","severity":"10",
            "extensions":{"src":"10.0.0.1","msg":"a b=c\nd","spt":"1232"}}"#;
        assert_eq!(parse(line).map(Value::Object), Ok(Value::from_json(expected.as_bytes()).expect("JSON")));
        assert_eq!(parse("CEF:0|a|b"), Err("the header ends in front of its product".to_owned()));
        assert!(parse("x").is_err());
        assert_eq!(extensions("a="), Ok([("a".into(), Value::from(""))].into_iter().collect()));
    }
}
