//! The options of one processor as written in a pipeline file, read with Elasticsearch's rules and error texts.

use crate::failure::Problem;
use crate::template::{Field, Template};
use compact_str::CompactString;
use event::{FieldPath, Object, Value};
use std::cell::Cell;

/// Options that every processor has.
pub(crate) const COMMON: &[&str] = &["description", "if", "ignore_failure", "on_failure", "tag"];

/// What is wrong with a processor's options.
pub(crate) type Wrong = String;

/// The options of one processor. Reading one takes it out.
pub(crate) struct Options<'b> {
    left: Object,
    /// Set when the processor reads `_ingest`, so that pipelines that never do need not fill it.
    uses_ingest: &'b Cell<bool>,
}

impl<'b> Options<'b> {
    /// Checks that only `known` and common options are there.
    pub(crate) fn new(options: Object, known: &[&str], uses_ingest: &'b Cell<bool>) -> Result<Self, Wrong> {
        for (name, _) in options.iter() {
            if !known.contains(&name) && !COMMON.contains(&name) {
                let all: Vec<_> = known.iter().chain(COMMON).copied().collect();
                return Err(format!("unknown option [{name}], there are: {}", all.join(", ")));
            }
        }
        Ok(Self { left: options, uses_ingest })
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

    pub(crate) fn parse_path(&self, name: &str, text: &str) -> Result<FieldPath, Wrong> {
        let path = FieldPath::new(text).map_err(|error| format!("[{name}] {error}"))?;
        if path.is_ingest() {
            self.uses_ingest.set(true);
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
            self.uses_ingest.set(true);
        }
        Ok(template)
    }

    /// Says that the processor writes into `_ingest`.
    pub(crate) fn writes_ingest(&self) {
        self.uses_ingest.set(true);
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
