//! Methods of maps.

use super::view;
use crate::painless::access::members;
use crate::painless::class::Class;
use crate::painless::machine::{Given, Machine};
use crate::painless::thrown::Thrown;
use crate::painless::value::{Map, Obj, Order, Val, View};
use event::Value;
use std::cell::{RefCell, RefMut};

pub(super) const METHODS: &[(&str, usize)] = &[
    ("clear", 0),
    ("clone", 0),
    ("collect", 1),
    ("computeIfAbsent", 2),
    ("computeIfPresent", 2),
    ("containsKey", 1),
    ("containsValue", 1),
    ("count", 1),
    ("each", 1),
    ("entrySet", 0),
    ("every", 1),
    ("find", 1),
    ("findAll", 1),
    ("forEach", 1),
    ("get", 1),
    ("getOrDefault", 2),
    ("isEmpty", 0),
    ("keySet", 0),
    ("merge", 3),
    ("put", 2),
    ("putAll", 1),
    ("putIfAbsent", 2),
    ("remove", 1),
    ("replace", 2),
    ("replaceAll", 1),
    ("size", 0),
    ("values", 0),
];

type Found<'e> = Result<Option<Val<'e>>, Box<Thrown>>;

pub(super) fn call<'e>(machine: &mut Machine<'e>, of: &Val<'e>, name: &str, args: &[Given<'e>]) -> Found<'e> {
    if let Some(result) = reading(machine, of, name, args)? {
        return Ok(Some(result));
    }
    let cell = match of {
        Val::Object(object) => match &**object {
            Obj::Map(map) => map,
            _ => return Ok(None),
        },
        _ if METHODS.contains(&(name, args.len())) => {
            return Err(Thrown::silent(Class::UnsupportedOperationException));
        }
        _ => return Ok(None),
    };
    changing(machine, of, cell, name, args)
}

/// The value of `key`; `None` if there is no such member.
fn get<'e>(machine: &mut Machine<'e>, of: &Val<'e>, key: &Val<'e>) -> Result<Option<Val<'e>>, Box<Thrown>> {
    match (of, key) {
        (Val::Doc(Value::Object(object)), Val::Text(key)) => Ok(object.get(key.as_str()).map(Val::borrowed)),
        (Val::Event(event), Val::Text(key)) => {
            let found = event.metadata.fields.get(key.as_str()).or_else(|| event.source.get(key.as_str()));
            Ok(found.map(Val::borrowed))
        }
        (Val::Object(object), key) => match &**object {
            Obj::Map(map) => {
                let map = map.try_borrow().map_err(|_| Thrown::concurrent())?;
                machine.step(map.members.len() / 8)?;
                Ok(map.get(key).cloned())
            }
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

fn length(of: &Val<'_>) -> usize {
    match of {
        Val::Doc(Value::Object(object)) => object.len(),
        Val::Event(event) => event.source.len() + event.metadata.fields.len(),
        Val::Object(object) => match &**object {
            Obj::Map(map) => map.try_borrow().map_or(0, |map| map.members.len()),
            _ => 0,
        },
        _ => 0,
    }
}

fn reading<'e>(machine: &mut Machine<'e>, of: &Val<'e>, name: &str, args: &[Given<'e>]) -> Found<'e> {
    Ok(Some(match (name, args) {
        ("get", [Given::Value(key)]) => get(machine, of, key)?.unwrap_or_default(),
        ("getOrDefault", [Given::Value(key), Given::Value(default)]) => {
            get(machine, of, key)?.unwrap_or_else(|| default.clone())
        }
        ("containsKey", [Given::Value(key)]) => Val::Bool(get(machine, of, key)?.is_some()),
        ("size", []) => Val::Int(length(of) as i32),
        ("isEmpty", []) => Val::Bool(length(of) == 0),
        ("keySet", []) => view(of, View::Keys),
        ("values", []) => view(of, View::Values),
        ("entrySet", []) => view(of, View::Entries),
        ("containsValue", [Given::Value(value)]) => {
            let members = members(machine, of)?.unwrap_or_default();
            Val::Bool(members.iter().any(|(_, known)| known.equals(value)))
        }
        ("clone", []) => Val::map(members(machine, of)?.unwrap_or_default(), Order::Hash),
        ("forEach" | "each", [Given::Lambda(lambda)]) => {
            for (key, value) in members(machine, of)?.unwrap_or_default() {
                machine.lambda(lambda, &[key, value])?;
            }
            if name == "each" { of.clone() } else { Val::Null }
        }
        ("collect", [Given::Lambda(lambda)]) => {
            let mut made = Vec::new();
            for (key, value) in members(machine, of)?.unwrap_or_default() {
                made.push(machine.lambda(lambda, &[key, value])?);
            }
            Val::list(made)
        }
        ("find" | "findAll" | "count" | "every", [Given::Lambda(lambda)]) => {
            let mut found = Vec::new();
            let members = members(machine, of)?.unwrap_or_default();
            let count = members.len();
            for (key, value) in members {
                if machine.test(lambda, &[key.clone(), value.clone()])? {
                    if name == "find" {
                        return Ok(Some(Val::object(Obj::Entry(of.clone(), key, RefCell::new(value)))));
                    }
                    found.push((key, value));
                }
            }
            match name {
                "find" => Val::Null,
                "findAll" => Val::map(found, Order::Hash),
                "count" => Val::Int(found.len() as i32),
                _ => Val::Bool(found.len() == count),
            }
        }
        _ => return Ok(None),
    }))
}

fn changing<'e>(
    machine: &mut Machine<'e>,
    of: &Val<'e>,
    cell: &RefCell<Map<'e>>,
    name: &str,
    args: &[Given<'e>],
) -> Found<'e> {
    let map =
        || -> Result<RefMut<'_, Map<'e>>, Box<Thrown>> { cell.try_borrow_mut().map_err(|_| Thrown::concurrent()) };
    machine.step(map()?.members.len() / 8)?;
    for arg in args {
        if let Given::Value(value) = arg {
            machine.may_hold(of, value)?;
        }
    }
    Ok(Some(match (name, args) {
        ("put", [Given::Value(key), Given::Value(value)]) => {
            machine.charge_elements(1)?;
            map()?.put(key.clone(), value.clone()).unwrap_or_default()
        }
        ("putIfAbsent", [Given::Value(key), Given::Value(value)]) => match get(machine, of, key)? {
            Some(Val::Null) | None => {
                machine.charge_elements(1)?;
                map()?.put(key.clone(), value.clone());
                Val::Null
            }
            Some(there) => there,
        },
        ("putAll", [Given::Value(other)]) => {
            let Some(others) = members(machine, other)? else {
                return Err(Thrown::new(
                    Class::ClassCastException,
                    format!("Cannot cast {} to java.util.Map", other.class_name()),
                ));
            };
            for (key, value) in others {
                machine.step(map()?.members.len() / 8)?;
                machine.may_hold(of, &value)?;
                map()?.put(key, value);
            }
            Val::Null
        }
        ("remove", [Given::Value(key)]) => map()?.remove(key).unwrap_or_default(),
        ("clear", []) => {
            map()?.members.clear();
            Val::Null
        }
        ("replace", [Given::Value(key), Given::Value(value)]) => match get(machine, of, key)? {
            Some(_) => map()?.put(key.clone(), value.clone()).unwrap_or_default(),
            None => Val::Null,
        },
        ("replaceAll", [Given::Lambda(lambda)]) => {
            for (key, value) in members(machine, of)?.unwrap_or_default() {
                let new = machine.lambda(lambda, &[key.clone(), value])?;
                machine.may_hold(of, &new)?;
                map()?.put(key, new);
            }
            Val::Null
        }
        ("computeIfAbsent", [Given::Value(key), Given::Lambda(lambda)]) => match get(machine, of, key)? {
            Some(Val::Null) | None => {
                let made = machine.lambda(lambda, std::slice::from_ref(key))?;
                machine.may_hold(of, &made)?;
                if !matches!(made, Val::Null) {
                    machine.charge_elements(1)?;
                    map()?.put(key.clone(), made.clone());
                }
                made
            }
            Some(there) => there,
        },
        ("computeIfPresent", [Given::Value(key), Given::Lambda(lambda)]) => match get(machine, of, key)? {
            Some(Val::Null) | None => Val::Null,
            Some(there) => {
                let made = machine.lambda(lambda, &[key.clone(), there])?;
                machine.may_hold(of, &made)?;
                store(&mut *map()?, key, &made);
                made
            }
        },
        ("merge", [Given::Value(key), Given::Value(value), Given::Lambda(lambda)]) => {
            let made = match get(machine, of, key)? {
                Some(Val::Null) | None => value.clone(),
                Some(there) => machine.lambda(lambda, &[there, value.clone()])?,
            };
            machine.charge_elements(1)?;
            machine.may_hold(of, &made)?;
            store(&mut *map()?, key, &made);
            made
        }
        _ => return Ok(None),
    }))
}

/// Null takes the member away.
fn store<'e>(map: &mut Map<'e>, key: &Val<'e>, value: &Val<'e>) {
    match value {
        Val::Null => {
            map.remove(key);
        }
        value => {
            map.put(key.clone(), value.clone());
        }
    }
}
