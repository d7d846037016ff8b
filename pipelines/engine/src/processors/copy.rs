//! `copy`: the value of a field into another. OpenSearch's name for what `set` does with `copy_from`.

use super::rename::has;
use crate::failure::Problem;
use crate::options::{Options, Wrong};
use crate::pipeline::{Flow, Run, Step};
use crate::template::Field;
use event::path::PathError;
use event::{Event, Value};

pub(crate) const OPTIONS: &[&str] =
    &["ignore_missing", "override_target", "remove_source", "source_field", "target_field"];

#[derive(Debug)]
struct Copy {
    source: Field,
    target: Field,
    ignore_missing: bool,
    overwrite: bool,
    remove_source: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    Ok(Box::new(Copy {
        source: options.field("source_field")?,
        target: options.field("target_field")?,
        ignore_missing: options.flag("ignore_missing", false)?,
        overwrite: options.flag("override_target", false)?,
        remove_source: options.flag("remove_source", false)?,
    }))
}

impl Step for Copy {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let source = match self.source.path(event) {
            Ok(source) if has(event, &source)? => source.into_owned(),
            _ if self.ignore_missing => return Ok(Flow::Continue),
            Ok(source) => return Err(Problem::new(format!("source field [{source}] doesn't exist"))),
            Err(PathError::Empty) => return Err(Problem::new("source field path cannot be null nor empty")),
            Err(error) => return Err(error.into()),
        };
        let target = match self.target.path(event) {
            Ok(target) => target.into_owned(),
            Err(PathError::Empty) => return Err(Problem::new("target field path cannot be null nor empty")),
            Err(error) => return Err(error.into()),
        };
        if source.as_str() == target.as_str() {
            return Err(Problem::new("source field path and target field path cannot be same"));
        }
        if !self.overwrite && has(event, &target)? && event.get(&target) != Some(&Value::Null) {
            return Err(Problem::new(format!("target field [{target}] already exists")));
        }
        let value = event.resolve(&source)?.clone();
        event.set(&target, value)?;
        if self.remove_source {
            event.remove(&source)?;
        }
        Ok(Flow::Continue)
    }
}
