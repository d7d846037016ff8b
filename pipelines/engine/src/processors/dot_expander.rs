//! `dot_expander`: a field with dots in its name into objects.

use super::append::append;
use crate::failure::Problem;
use crate::options::{Options, Wrong};
use crate::pipeline::{Flow, Run, Step};
use compact_str::CompactString;
use event::{Event, FieldPath, Object, Value};

pub(crate) const OPTIONS: &[&str] = &["field", "override", "path"];

/// Every field with dots.
const ALL: &str = "*";

#[derive(Debug)]
struct DotExpander {
    field: CompactString,
    path: Option<FieldPath>,
    overwrite: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.text("field")?;
    if field != ALL {
        if !field.contains('.') {
            return Err("[field] field does not contain a dot".to_owned());
        }
        if field.starts_with('.') || field.ends_with('.') {
            return Err("[field] Field can't start or end with a dot".to_owned());
        }
        if field.contains("..") {
            return Err("[field] No space between dots".to_owned());
        }
    }
    let path = match options.text_if_set("path")? {
        Some(path) => Some(options.parse_path("path", &path)?),
        None => None,
    };
    Ok(Box::new(DotExpander { field, path, overwrite: options.flag("override", false)? }))
}

impl Step for DotExpander {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        if self.field != ALL {
            self.expand(event, &self.field)?;
            return Ok(Flow::Continue);
        }
        let names: Vec<CompactString> = self.map(event)?.iter().map(|(name, _)| name.into()).collect();
        for name in names.iter().filter(|name| is_expandable(name)) {
            self.expand(event, name)?;
        }
        Ok(Flow::Continue)
    }
}

fn is_expandable(name: &str) -> bool {
    name.contains('.') && !name.starts_with('.') && !name.ends_with('.') && !name.contains("..")
}

impl DotExpander {
    /// The object that has the field.
    fn map<'e>(&self, event: &'e mut Event) -> Result<&'e mut Object, Box<Problem>> {
        let Some(path) = &self.path else { return Ok(&mut event.source) };
        event.resolve(path)?;
        match event.get_mut(path) {
            Some(Value::Object(map)) => Ok(map),
            other => Err(Problem::new(format!(
                "field [{path}] of type [{}] cannot be cast to [java.util.Map]",
                other.map_or("null", |value| value.java_class())
            ))),
        }
    }

    fn expand(&self, event: &mut Event, field: &str) -> Result<(), Box<Problem>> {
        let full = match &self.path {
            Some(path) => format!("{path}.{field}"),
            None => field.to_owned(),
        };
        let path = FieldPath::new(&full)?;
        if !self.map(event)?.contains(field) {
            return Ok(());
        }
        if !event.has(&path) {
            return self.move_to(event, field, &path, &full);
        }
        let value = self.map(event)?.remove(field);
        match (value, self.overwrite) {
            (Some(value), true) => event.set(&path, value)?,
            (value, false) => append(event, &path, value.unwrap_or_default(), true)?,
            (None, true) => {}
        }
        Ok(())
    }

    fn move_to(&self, event: &mut Event, field: &str, path: &FieldPath, full: &str) -> Result<(), Box<Problem>> {
        for (dot, _) in full.match_indices('.') {
            let part = full.get(..dot).unwrap_or_default();
            match event.get(&FieldPath::new(part)?) {
                Some(Value::Object(_)) => {}
                Some(_) => {
                    return Err(Problem::new(format!(
                        "cannot expend [{full}], because [{part}] is not an object field, but a value field"
                    )));
                }
                None => break,
            }
        }
        let value = self.map(event)?.remove(field).unwrap_or_default();
        Ok(event.set(path, value)?)
    }
}
