//! JSON lines → their members beside the text.
//!
//! The rules are those of Filebeat's `ndjson` parser. Values are taken over as they are written, so that no number loses
//! a digit. One thing is left out: a line never sets `@metadata`, which says what the agent itself knows of a record.

use super::time::timestamp_ms;
use super::{Next, Parse, Part};
use anyhow::bail;
use event::{Extra, members};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// JSON lines, taken apart. YAML: `ndjson`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NdjsonConfig {
    /// Member that takes what the line holds; empty: the root of the document. Default empty.
    pub target: String,
    /// Older word for an empty `target`; `false` without a target stands for `target: json`.
    pub keys_under_root: Option<bool>,
    /// What the line holds wins over the agent's own members, `@timestamp` among them. Default false.
    pub overwrite_keys: bool,
    /// A line that is no JSON object, or has no text under `message_key`, gets `error.message` and `error.type`. Default
    /// false.
    pub add_error_key: bool,
    /// Dotted names make nested objects. Default false.
    pub expand_keys: bool,
    /// Member at the top of the line that holds the text: for later parsers and filters, and shipped as `message`.
    /// Default: none, and no `message` is shipped but the line's own.
    pub message_key: Option<String>,
}

impl NdjsonConfig {
    /// With `keys_under_root` made part of `target`.
    pub(super) fn checked(&self) -> anyhow::Result<Self> {
        let mut checked = self.clone();
        match (self.keys_under_root, self.target.as_str()) {
            (Some(true), target) if !target.is_empty() => {
                bail!("ndjson: target {target:?} and keys_under_root: true exclude each other");
            }
            (Some(false), "") => checked.target = "json".to_owned(),
            _ => {}
        }
        Ok(checked)
    }
}

/// Keeps nothing from line to line.
#[derive(Debug)]
pub(super) struct Ndjson {
    config: Arc<NdjsonConfig>,
}

impl Ndjson {
    pub(super) fn new(config: Arc<NdjsonConfig>) -> Self {
        Self { config }
    }
}

impl Parse for Ndjson {
    fn take(&mut self, part: Part<'_>, next: &mut Next<'_>) {
        if part.text.is_empty() {
            return next.pass(part);
        }
        match object(part.text, self.config.expand_keys) {
            Ok(object) => self.apart(&object, part, next),
            Err(error) => {
                next.out.unparsed += 1;
                let extra = self.config.add_error_key.then(|| with_error(part.extra.as_deref(), &error));
                next.pass(Part { extra: extra.or(part.extra), ..part });
            }
        }
    }

    fn flush(&mut self, _: &mut Next<'_>) {}
}

impl Ndjson {
    /// Passes `part` on with the members of `object`, which is what its text holds.
    fn apart(&self, object: &[u8], part: Part<'_>, next: &mut Next<'_>) {
        let config = &*self.config;
        let (mut found, mut text, mut error) = (Vec::new(), None, None);
        members(object, |name, value| found.push((name, value)));
        if let Some(key) = &config.message_key {
            match found.iter().find(|(name, _)| *name == key.as_bytes()).map(|(_, value)| serde_json::from_slice(value))
            {
                Some(Ok(Value::String(value))) => text = Some(value).filter(|text| !text.is_empty()),
                Some(_) => error = Some(format!("Value of key '{key}' is not a string")),
                None => error = Some(format!("Key '{key}' not found")),
            }
        }
        let before = part.extra.as_deref();
        let mut extra = Extra {
            timestamp_ms: before.and_then(|extra| extra.timestamp_ms),
            overwrite: config.overwrite_keys,
            without_message: text.is_none(),
            ..Extra::default()
        };
        if config.target.is_empty() {
            if let Some((_, time)) = found.iter().find(|(name, _)| *name == b"@timestamp" && config.overwrite_keys) {
                let time_ms = time.strip_prefix(b"\"").and_then(|time| timestamp_ms(time.strip_suffix(b"\"")?));
                if time_ms.is_none() {
                    error =
                        Some(format!("@timestamp not overwritten (parse error on {})", String::from_utf8_lossy(time)));
                }
                extra.timestamp_ms = time_ms.or(extra.timestamp_ms);
            }
            // The text is shipped under this name anyway.
            let is_text =
                |name: &[u8]| name == b"message" && text.is_some() && config.message_key.as_deref() == Some("message");
            found.retain(|(name, _)| !matches!(*name, b"@timestamp" | b"@metadata") && !is_text(name));
        }
        let error = error.filter(|_| config.add_error_key).map(|error| error_value(&error));
        extra.fields = self.fields(&found, before, error.as_deref());
        let text = text.as_ref().map_or(part.text, |text| text.as_bytes());
        next.pass(Part { text, extra: Some(Box::new(extra)), ..part });
    }

    /// One object of what the line holds, what earlier parsers found, and the error.
    fn fields(&self, found: &[(&[u8], &[u8])], before: Option<&Extra>, error: Option<&str>) -> String {
        let mut earlier = Vec::new();
        if let Some(before) = before.filter(|before| !before.fields.is_empty()) {
            members(before.fields.as_bytes(), |name, value| earlier.push((name, value)));
        }
        let has = |list: &[(&[u8], &[u8])], name: &[u8]| list.iter().any(|(other, _)| *other == name);
        let mut out = ObjectText::default();
        let (overwrite, at_root) = (self.config.overwrite_keys, self.config.target.is_empty());
        let target = self.config.target.as_bytes();
        let wins = |name: &[u8]| if at_root { has(found, name) } else { target == name };
        for (name, value) in earlier.iter().filter(|(name, _)| !(overwrite && wins(name))) {
            out.member(name, value);
        }
        if let Some(error) = error {
            out.member(b"error", error.as_bytes());
        }
        let is_taken = |name: &[u8]| (error.is_some() && name == b"error") || (!overwrite && has(&earlier, name));
        if at_root {
            for (name, value) in found.iter().filter(|(name, _)| !is_taken(name)) {
                out.member(name, value);
            }
        } else if !is_taken(target) {
            let mut inner = ObjectText::default();
            found.iter().for_each(|(name, value)| inner.member(name, value));
            let name = Value::from(self.config.target.as_str()).to_string();
            out.member(&name.as_bytes()[1..name.len() - 1], inner.finish().as_bytes());
        }
        out.finish()
    }
}

/// The text of a JSON object, member by member.
#[derive(Default)]
struct ObjectText(Vec<u8>);

impl ObjectText {
    /// `name` without its quotes, as it is written.
    fn member(&mut self, name: &[u8], value: &[u8]) {
        self.0.extend_from_slice(if self.0.is_empty() { b"{\"" } else { b",\"" });
        self.0.extend_from_slice(name);
        self.0.extend_from_slice(b"\":");
        self.0.extend_from_slice(value);
    }

    fn finish(mut self) -> String {
        if self.0.is_empty() {
            return "{}".to_owned();
        }
        self.0.push(b'}');
        String::from_utf8(self.0).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

fn error_value(message: &str) -> String {
    let message = Value::from(message);
    format!(r#"{{"message":{message},"type":"json"}}"#)
}

fn with_error(before: Option<&Extra>, message: &str) -> Box<Extra> {
    let mut fields = ObjectText::default();
    let before = before.cloned().unwrap_or_default();
    if !before.fields.is_empty() {
        members(before.fields.as_bytes(), |name, value| {
            if name != b"error" {
                fields.member(name, value);
            }
        });
    }
    fields.member(b"error", error_value(message).as_bytes());
    Box::new(Extra { fields: fields.finish(), ..before })
}

/// The text of an object in which each name stands once. It is `text` itself unless something must change.
///
/// Errors: it is no JSON object, or its dotted names contradict each other; as Filebeat says it.
fn object(text: &[u8], expand_keys: bool) -> Result<Cow<'_, [u8]>, String> {
    let decoding = |error: serde_json::Error| format!("Error decoding JSON: {error}");
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err("Error decoding JSON: not an object".to_owned());
    }
    serde_json::from_slice::<IgnoredAny>(text).map_err(decoding)?;
    let mut names = Vec::new();
    if !members(text, |name, _| names.push(name)) {
        return Err("Error decoding JSON: not an object".to_owned());
    }
    names.sort_unstable();
    let has_escapes = names.iter().any(|name| name.contains(&b'\\'));
    if depth(text) > DEPTH_MAX {
        return Err(format!("Error decoding JSON: deeper than {DEPTH_MAX} objects"));
    }
    let is_clean = !has_escapes && !has_surrogates(text) && names.windows(2).all(|pair| pair[0] != pair[1]);
    if is_clean && !expand_keys {
        return Ok(Cow::Borrowed(text));
    }
    let mut map: Map<String, Value> = serde_json::from_slice(text).map_err(decoding)?;
    if expand_keys {
        map = expanded(map, 0)?;
    }
    Ok(Cow::Owned(Value::Object(map).to_string().into_bytes()))
}

/// Deepest nesting of what is taken apart; `serde_json` reads 128 at most, and a target makes one more.
const DEPTH_MAX: usize = 100;

/// How deep the objects and lists of a JSON text are nested; an upper bound if it cannot be too much.
fn depth(text: &[u8]) -> usize {
    let brackets = memchr::memchr2_iter(b'{', b'[', text).count();
    if brackets <= DEPTH_MAX {
        return brackets;
    }
    let (mut depth, mut deepest, mut is_string, mut is_escape) = (0_usize, 0, false, false);
    for &byte in text {
        match byte {
            _ if is_escape => is_escape = false,
            b'\\' => is_escape = true,
            b'"' => is_string = !is_string,
            b'{' | b'[' if !is_string => depth += 1,
            b'}' | b']' if !is_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Halves of surrogate pairs may stand alone in JSON, but mean no character.
fn has_surrogates(text: &[u8]) -> bool {
    memchr::memmem::find_iter(text, b"\\u")
        .any(|at| text.get(at + 2).is_some_and(|byte| byte.eq_ignore_ascii_case(&b'd')))
}

/// Dotted names made nested objects, at every depth but inside lists.
fn expanded(map: Map<String, Value>, depth: usize) -> Result<Map<String, Value>, String> {
    let mut root = Map::new();
    for (name, value) in map {
        let depth = depth + 1 + name.bytes().filter(|&byte| byte == b'.').count();
        if depth > DEPTH_MAX {
            return Err(format!("cannot expand a name deeper than {DEPTH_MAX} objects"));
        }
        let value = match value {
            Value::Object(inner) => Value::Object(expanded(inner, depth)?),
            other => other,
        };
        insert(&mut root, &name, value)?;
    }
    Ok(root)
}

fn insert(at: &mut Map<String, Value>, name: &str, value: Value) -> Result<(), String> {
    if let Some((folder, rest)) = name.split_once('.') {
        let next = at.entry(folder).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(next) = next else { return Err(conflict(name)) };
        return insert(next, rest, value);
    }
    match (at.get_mut(name), value) {
        (None, value) => {
            at.insert(name.to_owned(), value);
            Ok(())
        }
        (Some(Value::Object(there)), Value::Object(inner)) => {
            inner.into_iter().try_for_each(|(name, value)| insert(there, &name, value))
        }
        _ => Err(conflict(name)),
    }
}

fn conflict(name: &str) -> String {
    format!("cannot expand {name:?}: found conflicting key")
}
