//! `join`: a list into one text.

use crate::failure::Problem;
use crate::options::{Options, Wrong, list_at};
use crate::pipeline::{Flow, Run, Step};
use crate::text::java_text;
use compact_str::CompactString;
use event::{Event, FieldPath, Value};

pub(crate) const OPTIONS: &[&str] = &["field", "separator", "target_field"];

#[derive(Debug)]
struct Join {
    field: FieldPath,
    target: FieldPath,
    separator: CompactString,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let target = options.path_or("target_field", &field)?;
    Ok(Box::new(Join { field, target, separator: options.text("separator")? }))
}

impl Step for Join {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let Some(values) = list_at(event, &self.field)? else {
            return Err(Problem::new(format!("field [{}] is null, cannot join.", self.field)));
        };
        if values.contains(&Value::Null) {
            return Err(Problem::null("")); // Java's has no text.
        }
        let texts: Vec<_> = values.iter().map(java_text).collect();
        let joined = texts.join(&self.separator);
        event.set(&self.target, Value::from(joined))?;
        Ok(Flow::Continue)
    }
}
