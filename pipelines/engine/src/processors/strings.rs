//! What the processors of single texts share: `bytes`, `gsub`, `html_strip`, `lowercase`, `trim`, `uppercase`, `urldecode`.
//!
//! A text, or every text of a list, is changed and stored in the same or another field.

use crate::failure::Problem;
use crate::options::{Options, Wrong, text_at};
use crate::pipeline::{Flow, Run, Step};
use crate::text::java_text;
use compact_str::CompactString;
use event::{Event, FieldPath, Value};
use std::fmt;

/// Options of all of them.
pub(crate) const OPTIONS: &[&str] = &["field", "ignore_missing", "target_field"];

/// What is made of a text.
pub(crate) type Change = dyn Fn(&CompactString) -> Result<Value, Box<Problem>> + Send + Sync;

struct Strings {
    field: FieldPath,
    target: FieldPath,
    ignore_missing: bool,
    change: Box<Change>,
}

impl fmt::Debug for Strings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Strings").field("field", &self.field).field("target", &self.target).finish_non_exhaustive()
    }
}

/// A step that makes `change`.
pub(crate) fn build(options: &mut Options<'_>, change: Box<Change>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let target = options.path_or("target_field", &field)?;
    Ok(Box::new(Strings { field, target, ignore_missing: options.flag("ignore_missing", false)?, change }))
}

impl Step for Strings {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let changed = if let Some(Value::Array(values)) = event.get(&self.field) {
            let changed: Result<Vec<_>, _> = values.iter().map(|value| self.element(value)).collect();
            Value::Array(changed?)
        } else {
            match text_at(event, &self.field, self.ignore_missing)? {
                Some(text) => (self.change)(text)?,
                None => return Ok(Flow::Continue),
            }
        };
        event.set(&self.target, changed)?;
        Ok(Flow::Continue)
    }
}

impl Strings {
    fn element(&self, value: &Value) -> Result<Value, Box<Problem>> {
        match value {
            Value::Text(text) => (self.change)(text),
            Value::Null => Err(Problem::null("Cannot invoke \"Object.getClass()\" because \"value\" is null")),
            other => Err(Problem::new(format!(
                "value [{}] of type [{}] in list field [{}] cannot be cast to [java.lang.String]",
                java_text(other),
                other.java_class(),
                self.field
            ))),
        }
    }
}
