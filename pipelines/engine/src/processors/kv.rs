//! `kv`: `key=value` pairs in a text into fields.

use super::append::append;
use crate::failure::Problem;
use crate::java_regex::{self, Flags, Replacement};
use crate::options::{Options, Wrong, missing, text_at};
use crate::pipeline::{Flow, Run, Step};
use crate::template::Field;
use compact_str::CompactString;
use event::document::KEYS_MAX;
use event::path::PathError;
use event::{Event, FieldPath, Value};
use regex_automata::meta::Regex;

pub(crate) const OPTIONS: &[&str] = &[
    "exclude_keys",
    "field",
    "field_split",
    "ignore_missing",
    "include_keys",
    "prefix",
    "strip_brackets",
    "target_field",
    "trim_key",
    "trim_value",
    "value_split",
];

/// One bracket or quote at the start, one at the end, whether they belong together or not.
const OPENING: &[char] = &['(', '[', '<', '"', '\''];
const CLOSING: &[char] = &[']', ')', '>', '"', '\''];

#[derive(Debug)]
struct Kv {
    field: Field,
    field_split: Regex,
    value_split: Regex,
    /// As it was written, for errors.
    value_split_text: CompactString,
    target: Option<Field>,
    prefix: CompactString,
    include: Vec<CompactString>,
    exclude: Vec<CompactString>,
    trim_key: Option<Regex>,
    trim_value: Option<Regex>,
    strip_brackets: bool,
    ignore_missing: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.field("field")?;
    let target = match options.text_if_set("target_field")? {
        Some(text) => Some(options.parse_field("target_field", &text)?),
        None => None,
    };
    let (_, field_split) = options.regex("field_split")?.ok_or_else(|| missing("field_split"))?;
    let (value_split_text, value_split) = options.regex("value_split")?.ok_or_else(|| missing("value_split"))?;
    Ok(Box::new(Kv {
        field,
        field_split,
        value_split,
        value_split_text,
        target,
        prefix: options.text_if_set("prefix")?.unwrap_or_default(),
        include: options.texts("include_keys")?,
        exclude: options.texts("exclude_keys")?,
        trim_key: trimmer(options, "trim_key")?,
        trim_value: trimmer(options, "trim_value")?,
        strip_brackets: options.flag("strip_brackets", false)?,
        ignore_missing: options.flag("ignore_missing", false)?,
    }))
}

/// The characters of a class at both ends.
fn trimmer(options: &mut Options<'_>, name: &str) -> Result<Option<Regex>, Wrong> {
    let Some(chars) = options.text_if_set(name)? else { return Ok(None) };
    let pattern = format!("(^([{chars}]+))|([{chars}]+$)");
    let regex =
        java_regex::compile(&pattern, Flags::default()).map_err(|wrong| format!("[{name}] {chars}: {wrong}"))?;
    Ok(Some(regex))
}

fn trim(regex: Option<&Regex>, text: &str) -> CompactString {
    let trimmed = regex.and_then(|regex| Replacement::literal("").apply(regex, text, usize::MAX));
    trimmed.map_or_else(|| text.into(), CompactString::from)
}

impl Step for Kv {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let field = match self.field.path(event) {
            Ok(field) if event.has(&field) => field.into_owned(),
            Ok(field) if matches!(event.resolve(&field), Err(PathError::OutOfBounds { .. })) => {
                return Err(event.resolve(&field).err().map_or_else(|| Problem::new("missing"), Into::into));
            }
            _ if self.ignore_missing => return Ok(Flow::Continue),
            Ok(field) => return Err(Problem::new(format!("field [{field}] doesn't exist"))),
            Err(PathError::Empty) => return Err(Problem::new("field path cannot be null nor empty")),
            Err(error) => return Err(error.into()),
        };
        if event.get(&field) == Some(&Value::Null) && !self.ignore_missing {
            return Err(Problem::new(format!("field [{field}] is null, cannot extract key-value pairs. ")));
        }
        let Some(text) = text_at(event, &field, self.ignore_missing)?.cloned() else { return Ok(Flow::Continue) };
        let mut prefix = CompactString::default();
        if let Some(target) = &self.target {
            match target.path(event) {
                Ok(path) => {
                    prefix.push_str(path.as_str());
                    prefix.push('.');
                }
                Err(PathError::Empty) => {} // A template that came out empty is no target.
                Err(error) => return Err(error.into()),
            }
        }
        prefix.push_str(&self.prefix);
        let mut made = 0;
        // Pairs before one that is none are stored: the original works on one after the other.
        for part in java_regex::split(&self.field_split, &text, 0) {
            let pair = java_regex::split(&self.value_split, part, 2);
            let &[key, value] = pair.as_slice() else {
                return Err(Problem::new(format!(
                    "field [{field}] does not contain value_split [{}]",
                    self.value_split_text
                )));
            };
            let key = trim(self.trim_key.as_ref(), key);
            if self.exclude.contains(&key) || !self.include.is_empty() && !self.include.contains(&key) {
                continue;
            }
            made += usize::from(self.store(event, &prefix, &key, value)?);
            if made > KEYS_MAX {
                return Err(Problem::new(format!("field [{field}] has more than {KEYS_MAX} keys")));
            }
        }
        Ok(Flow::Continue)
    }
}

impl Kv {
    /// Stores a pair. Whether it is a new field.
    fn store(&self, event: &mut Event, prefix: &str, key: &str, value: &str) -> Result<bool, Box<Problem>> {
        let mut value = value;
        if self.strip_brackets {
            value = value.strip_prefix(OPENING).unwrap_or(value);
            value = value.strip_suffix(CLOSING).unwrap_or(value);
        }
        let value = Value::Text(trim(self.trim_value.as_ref(), value));
        let path = FieldPath::new(&[prefix, key].concat())?;
        let is_new = !event.has(&path);
        match is_new {
            true => event.set(&path, value)?,
            false => append(event, &path, value, true)?,
        }
        Ok(is_new)
    }
}
