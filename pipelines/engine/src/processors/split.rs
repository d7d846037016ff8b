//! `split`: a text into the list of its parts.

use crate::failure::Problem;
use crate::java_regex;
use crate::options::{Options, Wrong, missing};
use crate::pipeline::{Flow, Run, Step};
use event::{Event, FieldPath, Value};
use regex_automata::meta::Regex;

pub(crate) const OPTIONS: &[&str] = &["field", "ignore_missing", "preserve_trailing", "separator", "target_field"];

#[derive(Debug)]
struct Split {
    field: FieldPath,
    target: FieldPath,
    separator: Regex,
    ignore_missing: bool,
    preserve_trailing: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let target = options.path_or("target_field", &field)?;
    let (_, separator) = options.regex("separator")?.ok_or_else(|| missing("separator"))?;
    let ignore_missing = options.flag("ignore_missing", false)?;
    let preserve_trailing = options.flag("preserve_trailing", false)?;
    Ok(Box::new(Split { field, target, separator, ignore_missing, preserve_trailing }))
}

impl Step for Split {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let text = match event.get(&self.field) {
            Some(Value::Text(text)) => text,
            None | Some(Value::Null) if self.ignore_missing => return Ok(Flow::Continue),
            Some(Value::Null) => return Err(Problem::new(format!("field [{}] is null, cannot split.", self.field))),
            Some(other) => {
                return Err(Problem::new(format!(
                    "field [{}] of type [{}] cannot be cast to [java.lang.String]",
                    self.field,
                    other.java_class()
                )));
            }
            None => return Err(event.resolve(&self.field).err().map_or_else(|| Problem::new("missing"), Into::into)),
        };
        let limit = if self.preserve_trailing { -1 } else { 0 };
        let parts = java_regex::split(&self.separator, text, limit).into_iter().map(Value::from).collect();
        event.set(&self.target, Value::Array(parts))?;
        Ok(Flow::Continue)
    }
}
