//! `foreach`: a processor run on every element of a list, or every member of a map.

use crate::failure::{Failure, Problem};
use crate::options::{Options, Wrong};
use crate::pipeline::{Flow, Processor, Run, Step, Trouble};
use crate::text::java_text;
use event::{Event, FieldPath, Object, Value};

pub(crate) const OPTIONS: &[&str] = &["field", "ignore_missing", "processor"];

#[derive(Debug)]
struct Foreach {
    field: FieldPath,
    ignore_missing: bool,
    processor: Processor,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let ignore_missing = options.flag("ignore_missing", false)?;
    Ok(Box::new(Foreach { field, ignore_missing, processor: options.processor("processor")? }))
}

impl Step for Foreach {
    fn apply(&self, event: &mut Event, run: &Run<'_>) -> Result<Flow, Box<Problem>> {
        match self.run(event, run) {
            Ok(flow) => Ok(flow),
            Err(Trouble::Own(problem)) => Err(problem),
            Err(Trouble::Inner(failure)) => {
                Err(Box::new(Problem { kind: failure.kind, reason: failure.reason, cause: failure.cause }))
            }
        }
    }

    fn run(&self, event: &mut Event, run: &Run<'_>) -> Result<Flow, Trouble> {
        let values = match event.get(&self.field) {
            None | Some(Value::Null) if self.ignore_missing => return Ok(Flow::Continue),
            None => {
                let missing = event.resolve(&self.field).err().map_or_else(|| Problem::new("missing"), Into::into);
                return Err(Trouble::Own(missing));
            }
            Some(Value::Null) => {
                let reason = format!("field [{}] is null, cannot loop over its elements.", self.field);
                return Err(Trouble::Own(Problem::new(reason)));
            }
            Some(values) => values.clone(),
        };
        let mut flow = Flow::Continue;
        let (path, new) = match values {
            Value::Array(values) => {
                let mut new = Vec::with_capacity(values.len());
                for value in values {
                    let Some((_, value)) = self.one(event, run, None, value, &mut flow)? else {
                        return Ok(Flow::Drop);
                    };
                    new.push(value);
                }
                (&self.field, Value::Array(new))
            }
            Value::Object(members) => {
                let mut new = Object::with_capacity(members.len());
                for (key, value) in members {
                    let key = Some(Value::Text(key));
                    let Some((key, value)) = self.one(event, run, key, value, &mut flow)? else {
                        return Ok(Flow::Drop);
                    };
                    new.insert(java_text(&key), value);
                }
                (&self.field, Value::Object(new))
            }
            other => {
                let class = other.java_class();
                let reason = format!("field [{}] of type [{class}] cannot be cast to [java.util.List]", self.field);
                return Err(Trouble::Own(Problem::new(reason)));
            }
        };
        event.set(path, new).map_err(|error| Trouble::Own(error.into()))?;
        Ok(flow)
    }
}

impl Foreach {
    /// Runs the processor with `_ingest._key` and `_ingest._value`; what they are then. `None` if it drops the document.
    /// One that ends the pipeline ends it after the last element, as in the original.
    fn one(
        &self,
        event: &mut Event,
        run: &Run<'_>,
        key: Option<Value>,
        value: Value,
        flow: &mut Flow,
    ) -> Result<Option<(Value, Value)>, Trouble> {
        let ingest = &mut event.metadata.ingest;
        let before_value = ingest.insert("_value", value);
        let has_key = key.is_some();
        let before_key = key.and_then(|key| ingest.insert("_key", key));
        let result = self.processor.run(event, run);
        let mut take = |name: &str, before: Option<Value>| match before {
            Some(before) => event.metadata.ingest.insert(name, before),
            None => event.metadata.ingest.remove(name),
        };
        let value = take("_value", before_value).unwrap_or_default();
        let key = if has_key { take("_key", before_key).unwrap_or_default() } else { Value::Null };
        // As in the original a failure that nothing has handled inside is one of the `foreach`.
        let result = result.map_err(|failure| match failure.bare {
            true => {
                let Failure { kind, reason, cause, .. } = failure;
                Trouble::Own(Box::new(Problem { kind, reason, cause }))
            }
            false => Trouble::Inner(failure),
        });
        match result? {
            Flow::Continue => Ok(Some((key, value))),
            Flow::End => {
                *flow = Flow::End;
                Ok(Some((key, value)))
            }
            Flow::Drop => Ok(None),
        }
    }
}
