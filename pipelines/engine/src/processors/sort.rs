//! `sort`: a list of numbers, texts or booleans in their order.

use crate::failure::Problem;
use crate::options::{Options, Wrong, list_at};
use crate::pipeline::{Flow, Run, Step};
use event::{Event, FieldPath, Value};
use std::cmp::Ordering;

pub(crate) const OPTIONS: &[&str] = &["field", "order", "target_field"];

/// Type name of values that can't be compared.
const CLASS_CAST: &str = "class_cast_exception";

#[derive(Debug)]
struct Sort {
    field: FieldPath,
    target: FieldPath,
    descending: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let target = options.path_or("target_field", &field)?;
    let descending = match options.text_if_set("order")?.as_deref() {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(other) => {
            return Err(format!("[order] Sort direction [{other}] not recognized. Valid values are: [asc, desc]"));
        }
    };
    Ok(Box::new(Sort { field, target, descending }))
}

impl Step for Sort {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let Some(values) = list_at(event, &self.field)? else {
            return Err(Problem::new(format!("field [{}] is null, cannot sort.", self.field)));
        };
        if values.len() > 1 {
            // Java compares as it sorts: values of two classes are met sooner or later.
            for pair in values.windows(2) {
                compare(&pair[0], &pair[1])?;
            }
        }
        let mut sorted = values.clone();
        sorted.sort_by(|a, b| {
            let order = compare(a, b).unwrap_or(Ordering::Equal);
            if self.descending { order.reverse() } else { order }
        });
        event.set(&self.target, Value::Array(sorted))?;
        Ok(Flow::Continue)
    }
}

fn compare(a: &Value, b: &Value) -> Result<Ordering, Box<Problem>> {
    Ok(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Long(a), Value::Long(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
        (Value::Double(a), Value::Double(b)) => a.total_cmp(b),
        (Value::Text(a), Value::Text(b)) if a.is_ascii() && b.is_ascii() => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.encode_utf16().cmp(b.encode_utf16()),
        (Value::Big(a), Value::Big(b)) => big(a).cmp(&big(b)),
        (a, b) => {
            let (a, b) = (a.java_class(), b.java_class());
            let module = format!("{a} and {b} are in module java.base of loader 'bootstrap'");
            let reason = format!("class {a} cannot be cast to class {b} ({module})");
            return Err(Box::new(Problem { kind: CLASS_CAST, reason, cause: None }));
        }
    })
}

/// Sign, digits and their number: the order of integers without leading zeros.
fn big(text: &str) -> (bool, i64, std::cmp::Reverse<String>, String) {
    let negative = text.starts_with('-');
    let digits = text.trim_start_matches('-').to_owned();
    let length = digits.len() as i64;
    match negative {
        true => (false, -length, std::cmp::Reverse(digits), String::new()),
        false => (true, length, std::cmp::Reverse(String::new()), digits),
    }
}
