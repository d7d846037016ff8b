//! `sort`: a list of numbers, texts or booleans in their order.

use crate::failure::{CLASS_CAST, Problem};
use crate::options::{Options, Wrong, list_at};
use crate::pipeline::{Flow, Run, Step};
use event::{Event, FieldPath, Value};
use std::cmp::Ordering;

pub(crate) const OPTIONS: &[&str] = &["field", "order", "target_field"];

/// Lists that are longer are sorted in runs by Java.
const RUN_MAX: usize = 32;

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
        let is_alike = |pair: &[Value]| natural(&pair[0], "", &pair[1]).is_ok();
        if !values.windows(2).all(is_alike) {
            return Err(first_wrong(values, self.descending));
        }
        let mut sorted = values.clone();
        sorted.sort_by(|a, b| {
            let order = natural(a, "", b).unwrap_or(Ordering::Equal);
            if self.descending { order.reverse() } else { order }
        });
        event.set(&self.target, Value::Array(sorted))?;
        Ok(Flow::Continue)
    }
}

/// What `a.compareTo(b)` of Java's gives. `name` is what its error calls `a`.
fn natural(a: &Value, name: &str, b: &Value) -> Result<Ordering, Box<Problem>> {
    Ok(match (a, b) {
        (Value::Null, _) => return Err(not_called(name)),
        (Value::Array(_) | Value::Object(_), _) => return Err(not_cast(a, "java.lang.Comparable")),
        (_, Value::Null) => {
            let (field, parameter) = match a {
                Value::Bool(_) => ("value", "b"),
                Value::Int(_) => ("value", "anotherInteger"),
                Value::Long(_) => ("value", "anotherLong"),
                Value::Float(_) => ("value", "anotherFloat"),
                Value::Double(_) => ("value", "anotherDouble"),
                Value::Big(_) => ("signum", "val"),
                _ => ("value", "anotherString"),
            };
            return Err(Problem::null(format!("Cannot read field \"{field}\" because \"{parameter}\" is null")));
        }
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Long(a), Value::Long(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
        (Value::Double(a), Value::Double(b)) => a.total_cmp(b),
        (Value::Text(a), Value::Text(b)) if a.is_ascii() && b.is_ascii() => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.encode_utf16().cmp(b.encode_utf16()),
        (Value::Big(a), Value::Big(b)) => big(a).cmp(&big(b)),
        (a, b) => return Err(not_cast(b, a.java_class())),
    })
}

/// What `Collections.reverseOrder` gives.
fn reversed(a: &Value, b: &Value) -> Result<Ordering, Box<Problem>> {
    match [a, b].into_iter().find(|value| matches!(value, Value::Array(_) | Value::Object(_))) {
        Some(value) => Err(not_cast(value, "java.lang.Comparable")),
        None => natural(b, "c2", a),
    }
}

fn not_called(name: &str) -> Box<Problem> {
    let call = "java.lang.Comparable.compareTo(Object)";
    Problem::null(format!("Cannot invoke \"{call}\" because \"{name}\" is null"))
}

fn not_cast(value: &Value, class: &str) -> Box<Problem> {
    let is = value.java_class();
    let module = format!("{is} and {class} are in module java.base of loader 'bootstrap'");
    let reason = format!("class {is} cannot be cast to class {class} ({module})");
    Box::new(Problem { kind: CLASS_CAST, reason, cause: None })
}

/// The error that Java's sort meets first: it goes on to the end of the run that the list starts with, then puts one
/// value after the other in its place by halving.
///
/// Specified by `java.util.TimSort`, whose merging of the runs of long lists is left out.
fn first_wrong(values: &[Value], descending: bool) -> Box<Problem> {
    let compare = |a: &Value, name: &str, b: &Value| match descending {
        true => reversed(a, b),
        false => natural(a, name, b),
    };
    let wrong = values.chunks(RUN_MAX).find_map(|run| sort_run(&mut run.iter().collect::<Vec<_>>(), &compare).err());
    let pairs = || values.windows(2).find_map(|pair| natural(&pair[1], "a", &pair[0]).err());
    wrong.or_else(pairs).unwrap_or_else(|| not_called("a"))
}

type Compare<'c> = dyn Fn(&Value, &str, &Value) -> Result<Ordering, Box<Problem>> + 'c;

fn sort_run(run: &mut [&Value], compare: &Compare<'_>) -> Result<(), Box<Problem>> {
    if run.len() < 2 {
        return Ok(());
    }
    let falls = compare(run[1], "a[runHi]", run[0])?.is_lt();
    let mut end = 2;
    while end < run.len() && compare(run[end], "a[runHi]", run[end - 1])?.is_lt() == falls {
        end += 1;
    }
    if falls {
        run[..end].reverse();
    }
    for start in end..run.len() {
        let (mut left, mut right) = (0, start);
        while left < right {
            let middle = usize::midpoint(left, right);
            match compare(run[start], "pivot", run[middle])?.is_lt() {
                true => right = middle,
                false => left = middle + 1,
            }
        }
        run[left..=start].rotate_right(1);
    }
    Ok(())
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
