//! `set`: a value, a template or a copy of another field into a field.

use crate::failure::Problem;
use crate::options::{Options, Wrong, escape, missing};
use crate::pipeline::{Flow, Run, Step};
use crate::template::{Field, ValueSource};
use event::{Event, FieldPath, Value};

pub(crate) const OPTIONS: &[&str] = &["copy_from", "field", "ignore_empty_value", "media_type", "override", "value"];

#[derive(Debug)]
struct Set {
    field: Field,
    from: From,
    overwrite: bool,
    ignore_empty_value: bool,
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
    let from = match (options.take_even_null("value"), copy) {
        (Some(_), Some(_)) => {
            return Err("[copy_from] cannot set both `copy_from` and `value` in the same processor".to_owned());
        }
        (None, Some(copy)) => From::Copy(options.parse_path("copy_from", &copy)?),
        (None | Some(Value::Null), None) => return Err(missing("value")),
        (Some(value), None) => {
            let parse = |text: &str| Ok(options.template("value", text)?.with_escape(escape));
            From::Value(ValueSource::parse(value, &parse)?)
        }
    };
    let overwrite = options.flag("override", true)?;
    Ok(Box::new(Set { field, from, overwrite, ignore_empty_value: options.flag("ignore_empty_value", false)? }))
}

impl Step for Set {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let field = self.field.path(event)?;
        if !self.overwrite && event.get(&field).is_some_and(|value| *value != Value::Null) {
            return Ok(Flow::Continue);
        }
        let value = match &self.from {
            From::Value(source) => source.render(event)?,
            From::Copy(path) => match event.get(path) {
                Some(value) => value.clone(),
                None if self.ignore_empty_value => return Ok(Flow::Continue),
                None => event.resolve(path)?.clone(),
            },
        };
        let empty = match &value {
            Value::Null => true,
            Value::Text(text) => text.is_empty(),
            _ => false,
        };
        if !(empty && self.ignore_empty_value) {
            event.set(&field, value)?;
        }
        Ok(Flow::Continue)
    }
}
