//! The options of one processor as written in a pipeline file, read with Elasticsearch's rules and error texts.

use crate::failure::Problem;
use crate::java_regex::{self, Flags};
use crate::library::Databases;
use crate::mmdb::Database;
use crate::pipeline::Processor;
use crate::registry;
use crate::template::{Escape, Field, Template};
use crate::text::java_text;
use compact_str::CompactString;
use event::{FieldPath, Object, Value};
use regex_automata::meta::Regex;
use std::cell::Cell;
use std::sync::Arc;

/// Deepest nesting of processors in processors (`foreach`).
const PROCESSORS_MAX: usize = 16;

/// Options that every processor has.
pub(crate) const COMMON: &[&str] = &["description", "if", "ignore_failure", "on_failure", "tag"];

/// What the processors of one pipeline share while they are made.
#[derive(Debug)]
pub(crate) struct Loading<'l> {
    /// Set when a processor reads `_ingest`, so that pipelines that never do need not fill it.
    pub(crate) uses_ingest: Cell<bool>,
    /// The databases of addresses.
    pub(crate) databases: &'l Databases,
}

/// What is wrong with a processor's options.
pub(crate) type Wrong = String;

/// The options of one processor. Reading one takes it out.
pub(crate) struct Options<'b> {
    left: Object,
    loading: &'b Loading<'b>,
    /// How many processors this one stands in.
    depth: usize,
}

impl<'b> Options<'b> {
    /// Checks that only `known` and common options are there.
    pub(crate) fn new(options: Object, known: &[&str], loading: &'b Loading<'b>, depth: usize) -> Result<Self, Wrong> {
        for (name, _) in options.iter() {
            if !known.contains(&name) && !COMMON.contains(&name) {
                let all: Vec<_> = known.iter().chain(COMMON).copied().collect();
                return Err(format!("unknown option [{name}], there are: {}", all.join(", ")));
            }
        }
        Ok(Self { left: options, loading, depth })
    }

    /// True if the option is written, be it null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.left.contains(name)
    }

    /// Takes out the option, null counting as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| *value != Value::Null)
    }

    /// Takes out an option that may rightly be null (the value to set).
    pub(crate) fn take_even_null(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name)
    }

    pub(crate) fn text_if_set(&mut self, name: &str) -> Result<Option<CompactString>, Wrong> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(format!("[{name}] property isn't a string, but of type [{}]", other.java_class())),
        }
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<CompactString, Wrong> {
        self.text_if_set(name)?.ok_or_else(|| missing(name))
    }

    pub(crate) fn flag(&mut self, name: &str, default: bool) -> Result<bool, Wrong> {
        match self.take(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(format!("[{name}] property isn't a boolean, but of type [{}]", other.java_class())),
        }
    }

    /// A whole number, which may stand in a text.
    pub(crate) fn int(&mut self, name: &str, default: i32) -> Result<i32, Wrong> {
        let wrong = |shown: &str| format!("[{name}] property cannot be converted to an int [{shown}]");
        match self.take(name) {
            None => Ok(default),
            Some(Value::Int(number)) => Ok(number),
            Some(Value::Text(text)) => text.parse().map_err(|_| wrong(&text)),
            Some(other) => Err(wrong(&java_text(&other))),
        }
    }

    /// A list of texts; empty if the option is not set.
    pub(crate) fn texts(&mut self, name: &str) -> Result<Vec<CompactString>, Wrong> {
        let Some(value) = self.take(name) else { return Ok(Vec::new()) };
        let Value::Array(values) = value else {
            return Err(format!("[{name}] property isn't a list, but of type [{}]", value.java_class()));
        };
        let text = |value| match value {
            Value::Text(text) => Ok(text),
            other => Err(format!("[{name}] property has an element of type [{}], not a string", other.java_class())),
        };
        values.into_iter().map(text).collect()
    }

    /// One text or a list of them; empty if the option is not set.
    pub(crate) fn one_or_more(&mut self, name: &str) -> Result<Vec<CompactString>, Wrong> {
        match self.take(name) {
            Some(Value::Text(text)) => Ok(vec![text]),
            Some(value) => {
                self.left.insert(name, value);
                self.texts(name)
            }
            None => Ok(Vec::new()),
        }
    }

    /// A field that the processor reads as it is written, without templates.
    pub(crate) fn path(&mut self, name: &str) -> Result<FieldPath, Wrong> {
        let text = self.text(name)?;
        self.parse_path(name, &text)
    }

    /// Like [`Options::path`]; `default` if the option is not set.
    pub(crate) fn path_or(&mut self, name: &str, default: &FieldPath) -> Result<FieldPath, Wrong> {
        match self.text_if_set(name)? {
            Some(text) => self.parse_path(name, &text),
            None => Ok(default.clone()),
        }
    }

    /// Like [`Options::path_or`], with the default as it would be written.
    pub(crate) fn path_or_text(&mut self, name: &str, default: &str) -> Result<FieldPath, Wrong> {
        let text = self.text_if_set(name)?.unwrap_or(default.into());
        self.parse_path(name, &text)
    }

    pub(crate) fn parse_path(&self, name: &str, text: &str) -> Result<FieldPath, Wrong> {
        let path = FieldPath::new(text).map_err(|error| format!("[{name}] {error}"))?;
        if path.is_ingest() {
            self.loading.uses_ingest.set(true);
        }
        Ok(path)
    }

    /// A field whose name may be a template.
    pub(crate) fn field(&mut self, name: &str) -> Result<Field, Wrong> {
        let text = self.text(name)?;
        self.parse_field(name, &text)
    }

    pub(crate) fn parse_field(&self, name: &str, text: &str) -> Result<Field, Wrong> {
        Ok(match self.template(name, text)?.into_constant() {
            Ok(constant) => Field::Fixed(self.parse_path(name, &constant)?),
            Err(template) => Field::Rendered(template),
        })
    }

    pub(crate) fn template(&self, name: &str, text: &str) -> Result<Template, Wrong> {
        let template = Template::parse(text).map_err(|wrong| format!("[{name}] {wrong}"))?;
        if template.uses_ingest() {
            self.loading.uses_ingest.set(true);
        }
        Ok(template)
    }

    /// One character; `wrong` is said of anything else.
    pub(crate) fn character(&mut self, name: &str, default: char, wrong: &str) -> Result<char, Wrong> {
        let Some(text) = self.text_if_set(name)? else { return Ok(default) };
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(c),
            _ => Err(wrong.to_owned()),
        }
    }

    /// A regular expression in Java's syntax.
    pub(crate) fn regex(&mut self, name: &str) -> Result<Option<(CompactString, Regex)>, Wrong> {
        let Some(text) = self.text_if_set(name)? else { return Ok(None) };
        let regex = java_regex::compile(&text, Flags::default())
            .map_err(|wrong| format!("[{name}] Invalid regex pattern [{text}]: {wrong}"))?;
        Ok(Some((text, regex)))
    }

    /// A processor inside of this one, which may read `_ingest` whatever it is.
    pub(crate) fn processor(&mut self, name: &str) -> Result<Processor, Wrong> {
        let value = self.take(name).ok_or_else(|| missing(name))?;
        if self.depth >= PROCESSORS_MAX {
            return Err(format!("[{name}] processors stand in each other deeper than {PROCESSORS_MAX}"));
        }
        self.loading.uses_ingest.set(true);
        registry::build(value, self.loading, self.depth + 1).map_err(|refused| {
            let at = if refused.at.is_empty() { String::new() } else { format!(".{}", refused.at) };
            format!("[{name}{at}] {}", refused.wrong)
        })
    }

    /// The database of addresses called `file`, if there is one.
    pub(crate) fn database(&self, file: &str) -> Result<Option<Arc<Database>>, Wrong> {
        self.loading.databases.get(file)
    }

    /// Says that the processor writes into `_ingest`.
    pub(crate) fn writes_ingest(&self) {
        self.loading.uses_ingest.set(true);
    }
}

pub(crate) fn missing(name: &str) -> Wrong {
    format!("[{name}] required property is missing")
}

/// The text at `path`; `None` if it is missing or null and `ignore_missing` is set.
pub(crate) fn text_at<'e>(
    event: &'e event::Event,
    path: &FieldPath,
    ignore_missing: bool,
) -> Result<Option<&'e CompactString>, Box<Problem>> {
    match event.get(path) {
        Some(Value::Text(text)) => Ok(Some(text)),
        None | Some(Value::Null) if ignore_missing => Ok(None),
        None => Err(event.resolve(path).err().map_or_else(|| Problem::new("missing"), Into::into)),
        Some(Value::Null) => Err(Problem::new(format!("field [{path}] is null, cannot process it."))),
        Some(other) => Err(Problem::new(format!(
            "field [{path}] of type [{}] cannot be cast to [java.lang.String]",
            other.java_class()
        ))),
    }
}

/// The list at `path`; `None` if it is null.
pub(crate) fn list_at<'e>(event: &'e event::Event, path: &FieldPath) -> Result<Option<&'e Vec<Value>>, Box<Problem>> {
    match event.resolve(path)? {
        Value::Array(values) => Ok(Some(values)),
        Value::Null => Ok(None),
        other => Err(Problem::new(format!(
            "field [{path}] of type [{}] cannot be cast to [java.util.List]",
            other.java_class()
        ))),
    }
}

/// How `{{x}}` in values is escaped: the option `media_type`.
pub(crate) fn escape(options: &mut Options<'_>) -> Result<Escape, Wrong> {
    match options.text_if_set("media_type")?.as_deref() {
        None | Some("application/json") => Ok(Escape::Json),
        Some("text/plain") => Ok(Escape::Plain),
        Some("application/x-www-form-urlencoded") => Ok(Escape::Form),
        Some(other) => Err(format!(
            "[media_type] property does not contain a supported media type [{other}], there are: application/json, \
             text/plain, application/x-www-form-urlencoded"
        )),
    }
}
