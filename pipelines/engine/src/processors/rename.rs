//! `rename`: a field under another name.

use crate::failure::Problem;
use crate::options::{Options, Wrong};
use crate::pipeline::{Flow, Run, Step};
use crate::template::Field;
use event::path::PathError;
use event::{Event, FieldPath};

pub(crate) const OPTIONS: &[&str] = &["field", "ignore_missing", "override", "override_target", "target_field"];

#[derive(Debug)]
struct Rename {
    field: Field,
    target: Field,
    ignore_missing: bool,
    /// Elasticsearch calls it `override`, OpenSearch `override_target`.
    overwrite: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    Ok(Box::new(Rename {
        field: options.field("field")?,
        target: options.field("target_field")?,
        ignore_missing: options.flag("ignore_missing", false)?,
        overwrite: options.flag("override", false)? | options.flag("override_target", false)?,
    }))
}

impl Step for Rename {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let field = match self.field.path(event) {
            Ok(field) if has(event, &field)? => field,
            _ if self.ignore_missing => return Ok(Flow::Continue),
            Ok(field) => return Err(Problem::new(format!("field [{field}] doesn't exist"))),
            Err(PathError::Empty) => return Err(Problem::new("field path cannot be null nor empty")),
            Err(error) => return Err(error.into()),
        };
        let target = self.target.path(event)?;
        if has(event, &target)? && !self.overwrite {
            return Err(Problem::new(format!("field [{target}] already exists")));
        }
        let value = event.remove(&field)?;
        // Looked at first: setting takes the value, and a refusal must leave it where it was.
        if let Err(error) = event.can_set(&target) {
            event.set(&field, value)?;
            return Err(error.into());
        }
        event.set(&target, value)?;
        Ok(Flow::Continue)
    }
}

/// True if there is a value; an index beyond a list's end is an error, so that the field is not lost on the way.
pub(super) fn has(event: &Event, path: &FieldPath) -> Result<bool, PathError> {
    match event.resolve(path) {
        Ok(_) => Ok(true),
        Err(error @ PathError::OutOfBounds { .. }) => Err(error),
        Err(_) => Ok(false),
    }
}
