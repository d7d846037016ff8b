//! `append`: values to a list, which is made of what stands there.

use crate::failure::Problem;
use crate::options::{Options, Wrong, escape, missing};
use crate::pipeline::{Flow, Run, Step};
use crate::template::{Field, ValueSource};
use event::{Event, FieldPath, Value};

pub(crate) const OPTIONS: &[&str] =
    &["allow_duplicates", "copy_from", "field", "ignore_empty_values", "media_type", "value"];

#[derive(Debug)]
struct Append {
    field: Field,
    from: From,
    allow_duplicates: bool,
    ignore_empty_values: bool,
}

#[derive(Debug)]
enum From {
    Value(ValueSource),
    Copy(FieldPath),
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.field("field")?;
    let escape = escape(options)?;
    let copy = options.text_if_set("copy_from")?;
    let from = match (options.take("value"), copy) {
        (Some(_), Some(_)) => {
            return Err("[copy_from] cannot set both `copy_from` and `value` in the same processor".to_owned());
        }
        (None, Some(copy)) => From::Copy(options.parse_path("copy_from", &copy)?),
        (None, None) => return Err(missing("value")),
        (Some(value), None) => {
            let parse = |text: &str| Ok(options.template("value", text)?.with_escape(escape));
            From::Value(ValueSource::parse(value, &parse)?)
        }
    };
    let allow_duplicates = options.flag("allow_duplicates", true)?;
    let ignore_empty_values = options.flag("ignore_empty_values", false)?;
    Ok(Box::new(Append { field, from, allow_duplicates, ignore_empty_values }))
}

impl Step for Append {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let field = self.field.path(event)?.into_owned();
        let mut value = match &self.from {
            From::Value(source) => source.render(event)?,
            From::Copy(path) => event.resolve(path)?.clone(),
        };
        if self.ignore_empty_values {
            let empty = |value: &Value| matches!(value, Value::Null) || value.as_text() == Some("");
            match &mut value {
                Value::Array(values) => values.retain(|value| !empty(value)),
                single if empty(single) => value = Value::Array(Vec::new()),
                _ => {}
            }
            if matches!(&value, Value::Array(values) if values.is_empty()) {
                return Ok(Flow::Continue);
            }
        }
        append(event, &field, value, self.allow_duplicates)?;
        Ok(Flow::Continue)
    }
}

/// Appends `value`, or each of its elements, to what stands at `field`: a list, or a value that becomes the list's first.
/// Without duplicates a value that stays alone stays as it is.
pub(crate) fn append(
    event: &mut Event,
    field: &FieldPath,
    value: Value,
    allow_duplicates: bool,
) -> Result<(), Box<Problem>> {
    let values = match value {
        Value::Array(values) => values,
        single => vec![single],
    };
    match event.get_mut(field) {
        None => event.set(field, Value::Array(values))?,
        Some(Value::Array(list)) => extend(list, values, allow_duplicates),
        Some(old) => {
            let mut list = vec![old.clone()];
            extend(&mut list, values, allow_duplicates);
            if list.len() > 1 || allow_duplicates {
                *old = Value::Array(list);
            }
        }
    }
    Ok(())
}

fn extend(list: &mut Vec<Value>, values: Vec<Value>, allow_duplicates: bool) {
    for value in values {
        if allow_duplicates || !list.contains(&value) {
            list.push(value);
        }
    }
}
