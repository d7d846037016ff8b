//! Methods of streams, which are lists that are worked on at once, and of `Optional`.

use super::collection::{not_number, sort, sort_with};
use crate::painless::class::Class;
use crate::painless::machine::{Given, Machine, snapshot};
use crate::painless::ops::{self, Num};
use crate::painless::thrown::{Thrown, throw};
use crate::painless::value::{Collector, Obj, Val};
use std::cell::RefCell;
use std::cmp::Ordering;

pub(super) const METHODS: &[(&str, usize)] = &[
    ("allMatch", 1),
    ("anyMatch", 1),
    ("collect", 1),
    ("count", 0),
    ("distinct", 0),
    ("filter", 1),
    ("findAny", 0),
    ("findFirst", 0),
    ("flatMap", 1),
    ("forEach", 1),
    ("get", 0),
    ("isPresent", 0),
    ("limit", 1),
    ("map", 1),
    ("noneMatch", 1),
    ("orElse", 1),
    ("reduce", 2),
    ("skip", 1),
    ("sorted", 0),
    ("sorted", 1),
    ("toArray", 0),
    ("toList", 0),
];

type Found<'e> = Result<Option<Val<'e>>, Box<Thrown>>;

pub(super) fn call<'e>(machine: &mut Machine<'e>, of: &Val<'e>, name: &str, args: &[Given<'e>]) -> Found<'e> {
    let Val::Object(object) = of else { return Ok(None) };
    let values = match &**object {
        Obj::Stream(values) => snapshot(values)?,
        Obj::Optional(value) => return optional(value, name, args),
        _ => return Ok(None),
    };
    machine.charge_elements(values.len())?;
    let stream = |values: Vec<Val<'e>>| Val::object(Obj::Stream(RefCell::new(values)));
    let count = |value: &Val<'e>| match Num::of(value) {
        Some(number) => Ok(usize::try_from(number.as_i64()).unwrap_or(0)),
        None => not_number(value),
    };
    Ok(Some(match (name, args) {
        ("count", []) => Val::Long(values.len() as i64),
        ("findFirst" | "findAny", []) => Val::object(Obj::Optional(values.into_iter().next().unwrap_or_default())),
        ("toArray", []) => Val::object(Obj::Array(RefCell::new(values))),
        ("toList", []) => Val::list(values),
        ("sorted", []) => stream(sort(machine, values)?),
        ("sorted", [Given::Lambda(lambda)]) => stream(sort_with(machine, values, lambda)?),
        ("limit", [Given::Value(most)]) => stream(values.into_iter().take(count(most)?).collect()),
        ("skip", [Given::Value(first)]) => stream(values.into_iter().skip(count(first)?).collect()),
        ("distinct", []) => stream(distinct(machine, values)?),
        ("collect", [Given::Value(collector)]) => collect(machine, values, collector)?,
        ("filter", [Given::Lambda(lambda)]) => {
            let mut kept = Vec::new();
            for value in values {
                if machine.test(lambda, std::slice::from_ref(&value))? {
                    kept.push(value);
                }
            }
            stream(kept)
        }
        ("map", [Given::Lambda(lambda)]) => {
            let made: Result<Vec<_>, _> = values.into_iter().map(|value| machine.lambda(lambda, &[value])).collect();
            stream(made?)
        }
        ("flatMap", [Given::Lambda(lambda)]) => {
            let mut made = Vec::new();
            for value in values {
                let inner = machine.lambda(lambda, &[value])?;
                made.extend(super::super::access::elements(machine, &inner)?);
            }
            stream(made)
        }
        ("forEach", [Given::Lambda(lambda)]) => {
            for value in values {
                machine.lambda(lambda, &[value])?;
            }
            Val::Null
        }
        ("reduce", [Given::Value(first), Given::Lambda(lambda)]) => {
            let mut sum = first.clone();
            for value in values {
                sum = machine.lambda(lambda, &[sum, value])?;
            }
            sum
        }
        ("anyMatch" | "allMatch" | "noneMatch", [Given::Lambda(lambda)]) => {
            // The first that decides ends it.
            let decides = name != "allMatch";
            for value in values {
                if machine.test(lambda, &[value])? == decides {
                    return Ok(Some(Val::Bool(name == "anyMatch")));
                }
            }
            Val::Bool(name != "anyMatch")
        }
        _ => return Ok(None),
    }))
}

fn distinct<'e>(machine: &mut Machine<'e>, values: Vec<Val<'e>>) -> Result<Vec<Val<'e>>, Box<Thrown>> {
    let mut kept: Vec<Val<'e>> = Vec::new();
    for value in values {
        machine.step(kept.len())?;
        if !kept.iter().any(|known| known.equals(&value)) {
            kept.push(value);
        }
    }
    Ok(kept)
}

fn collect<'e>(machine: &mut Machine<'e>, values: Vec<Val<'e>>, into: &Val<'e>) -> Result<Val<'e>, Box<Thrown>> {
    let wrong = || throw(Class::ClassCastException, "what a stream is gathered into is no collector");
    let Val::Object(object) = into else { return wrong() };
    let Obj::Collector(collector) = &**object else { return wrong() };
    Ok(match collector {
        Collector::List => Val::list(values),
        Collector::Set => Val::object(Obj::Set(RefCell::new(distinct(machine, values)?))),
        Collector::Joining(separator, before, after) => {
            let texts: Vec<_> = values.iter().map(Val::to_text).collect();
            let joined = [before.as_str(), &texts.join(separator), after].concat();
            machine.charge(joined.len())?;
            Val::text(joined)
        }
    })
}

fn optional<'e>(value: &Val<'e>, name: &str, args: &[Given<'e>]) -> Found<'e> {
    let present = !matches!(value, Val::Null);
    Ok(Some(match (name, args) {
        ("isPresent", []) => Val::Bool(present),
        ("get", []) if present => value.clone(),
        ("get", []) => return throw(Class::NoSuchElementException, "No value present"),
        ("orElse", [Given::Value(other)]) => {
            if present {
                value.clone()
            } else {
                other.clone()
            }
        }
        _ => return Ok(None),
    }))
}

/// The least or the greatest of `values`, by their own order.
pub(crate) fn extreme<'e>(values: Vec<Val<'e>>, wanted: Ordering) -> Result<Val<'e>, Box<Thrown>> {
    let mut values = values.into_iter();
    let Some(mut best) = values.next() else { return Err(Thrown::silent(Class::NoSuchElementException)) };
    for value in values {
        match ops::compare(&value, &best) {
            Some(order) if order == wanted => best = value,
            Some(_) => {}
            None => {
                let (from, to) = (value.class_name(), best.class_name());
                return throw(Class::ClassCastException, format!("class {from} cannot be cast to class {to}"));
            }
        }
    }
    Ok(best)
}
