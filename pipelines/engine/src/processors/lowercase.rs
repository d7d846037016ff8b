//! `lowercase`: a text, or every text of a list, in lower case.

use crate::failure::Problem;
use crate::options::{Options, Wrong, text_at};
use crate::pipeline::{Flow, Run, Step};
use crate::text::java_text;
use compact_str::CompactString;
use event::{Event, FieldPath, Value};

pub(crate) const OPTIONS: &[&str] = &["field", "ignore_missing", "target_field"];

#[derive(Debug)]
struct Lowercase {
    field: FieldPath,
    target: FieldPath,
    ignore_missing: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let target = options.path_or("target_field", &field)?;
    Ok(Box::new(Lowercase { field, target, ignore_missing: options.flag("ignore_missing", false)? }))
}

impl Step for Lowercase {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let lowered = if let Some(Value::Array(values)) = event.get(&self.field) {
            let lowered: Result<Vec<_>, _> = values.iter().map(|value| self.element(value)).collect();
            Value::Array(lowered?)
        } else {
            match text_at(event, &self.field, self.ignore_missing)? {
                Some(text) => Value::Text(lower(text)),
                None => return Ok(Flow::Continue),
            }
        };
        event.set(&self.target, lowered)?;
        Ok(Flow::Continue)
    }
}

impl Lowercase {
    fn element(&self, value: &Value) -> Result<Value, Box<Problem>> {
        match value {
            Value::Text(text) => Ok(Value::Text(lower(text))),
            other => Err(Problem::new(format!(
                "value [{}] of type [{}] in list field [{}] cannot be cast to [java.lang.String]",
                java_text(other),
                other.java_class(),
                self.field
            ))),
        }
    }
}

fn lower(text: &CompactString) -> CompactString {
    if text.is_ascii() {
        let mut text = text.clone();
        text.make_ascii_lowercase();
        return text;
    }
    text.to_lowercase()
}
