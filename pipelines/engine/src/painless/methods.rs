//! Methods of values: which there are, and who does them.
//!
//! Specified by Painless's allow lists; the semantics are Java's.

pub(super) mod collection;
mod map;
mod number;
pub(super) mod stream;
mod text;

use super::class::Class;
use super::machine::{Eval, Given, Machine};
use super::thrown::{Thrown, throw};
use super::value::{Obj, Val, View};
use super::{ops, regex, time};
use event::Value;

/// Most arguments that a method takes.
pub(super) const ARGUMENTS_MAX: usize = 3;

/// Names and numbers of arguments of all methods, by what has them.
const METHODS: &[&[(&str, usize)]] = &[
    OBJECT,
    text::METHODS,
    text::BUILDER,
    number::METHODS,
    collection::METHODS,
    map::METHODS,
    stream::METHODS,
    regex::METHODS,
    time::METHODS,
];

/// What everything has, and small things have.
const OBJECT: &[(&str, usize)] = &[
    ("booleanValue", 0),
    ("compareTo", 1),
    ("countTokens", 0),
    ("equals", 1),
    ("getKey", 0),
    ("getLocalizedMessage", 0),
    ("getMessage", 0),
    ("getValue", 0),
    ("hasMoreTokens", 0),
    ("hasNext", 0),
    ("hashCode", 0),
    ("next", 0),
    ("nextToken", 0),
    ("setValue", 1),
    ("toString", 0),
];

/// True if something has a method `name` with so many arguments.
pub(super) fn known(name: &str, count: usize) -> bool {
    METHODS.iter().any(|methods| methods.contains(&(name, count)))
}

/// True if `of` has a method `name` without arguments that makes a field of it.
pub(super) fn has(of: &Val<'_>, name: &str) -> bool {
    match of {
        Val::Text(_) | Val::Doc(_) | Val::Event(_) => name == "isEmpty",
        Val::Float(_) | Val::Double(_) => matches!(name, "isNaN" | "isInfinite"),
        Val::Object(object) => match &**object {
            Obj::List(_) | Obj::Set(_) | Obj::View(..) | Obj::Map(_) => name == "isEmpty",
            Obj::Entry(..) => matches!(name, "getKey" | "getValue"),
            Obj::Exception(..) => matches!(name, "getMessage" | "getLocalizedMessage"),
            Obj::Optional(_) => name == "isPresent",
            Obj::Instant(_) | Obj::Zoned(..) | Obj::Zone(_) | Obj::Duration(_) => time::METHODS.contains(&(name, 0)),
            _ => false,
        },
        _ => false,
    }
}

/// `of.name(args)`.
pub(super) fn call<'e>(machine: &mut Machine<'e>, of: &Val<'e>, name: &str, args: &[Given<'e>]) -> Eval<'e> {
    match (name, args) {
        ("equals", [Given::Value(other)]) => return Ok(Val::Bool(of.equals(other))),
        ("toString", []) => {
            let text = of.to_text();
            machine.charge(text.len())?;
            return Ok(Val::text(text));
        }
        ("hashCode", []) if !matches!(of, Val::Doc(_) | Val::Event(_) | Val::Object(_) | Val::Big(_)) => {
            return Ok(Val::Int(of.hash()));
        }
        ("compareTo", [Given::Value(other)]) => return compare(of, other),
        _ => {}
    }
    let result = match of {
        Val::Null => return Err(Thrown::null(name)),
        Val::Text(text) => text::call(machine, text, name, args)?,
        Val::Bool(flag) => (name == "booleanValue").then_some(Val::Bool(*flag)),
        Val::Doc(Value::Array(_)) => collection::call(machine, of, name, args)?,
        Val::Doc(_) | Val::Event(_) => map::call(machine, of, name, args)?,
        Val::Object(object) => match &**object {
            Obj::List(_) | Obj::Set(_) | Obj::Array(_) | Obj::View(..) => collection::call(machine, of, name, args)?,
            Obj::Map(_) => map::call(machine, of, name, args)?,
            Obj::Stream(_) | Obj::Optional(_) => stream::call(machine, of, name, args)?,
            Obj::Builder(text) => text::builder(machine, of, text, name, args)?,
            Obj::Pattern(_) | Obj::Matcher(_) => regex::call(machine, of, name, args)?,
            Obj::Entry(map, key, value) => match (name, args) {
                ("getKey", []) => Some(key.clone()),
                ("getValue", []) => Some(value.borrow().clone()),
                ("setValue", [Given::Value(new)]) => {
                    super::access::set_index(machine, map, key.clone(), new.clone())?;
                    Some(value.replace(new.clone()))
                }
                _ => None,
            },
            Obj::Iterator(rest) => {
                let mut rest = rest.try_borrow_mut().map_err(|_| Thrown::concurrent())?;
                match name {
                    "hasNext" => Some(Val::Bool(!rest.as_slice().is_empty())),
                    "next" => Some(rest.next().ok_or_else(|| Thrown::silent(Class::NoSuchElementException))?),
                    _ => None,
                }
            }
            Obj::Tokenizer(rest) => {
                let mut rest = rest.try_borrow_mut().map_err(|_| Thrown::concurrent())?;
                match (name, args) {
                    ("hasMoreTokens", []) => Some(Val::Bool(!rest.as_slice().is_empty())),
                    ("countTokens", []) => Some(Val::Int(rest.as_slice().len() as i32)),
                    ("nextToken", []) => {
                        let next = rest.next().ok_or_else(|| Thrown::silent(Class::NoSuchElementException))?;
                        Some(Val::text(next))
                    }
                    _ => None,
                }
            }
            Obj::Exception(_, message) => matches!(name, "getMessage" | "getLocalizedMessage")
                .then(|| message.as_ref().map_or(Val::Null, |message| Val::text(message.clone()))),
            _ => time::call(of, name, args)?,
        },
        _ => number::call(of, name)?,
    };
    match result {
        Some(value) => Ok(value),
        None => {
            let class = of.class_name();
            throw(Class::IllegalArgumentException, format!("dynamic method [{class}, {name}/{}] not found", args.len()))
        }
    }
}

fn compare<'e>(of: &Val<'e>, other: &Val<'e>) -> Eval<'e> {
    if let (Val::Text(a), Val::Text(b)) = (of, other) {
        return Ok(Val::Int(text::difference(a.as_str(), b.as_str())));
    }
    match ops::compare(of, other) {
        Some(order) if of.class_name() == other.class_name() => Ok(Val::Int(order as i32)),
        _ => {
            let (from, to) = (other.class_name(), of.class_name());
            throw(Class::ClassCastException, format!("class {from} cannot be cast to class {to}"))
        }
    }
}

/// The argument as a text.
pub(super) fn text_of<'a>(value: &'a Val<'_>) -> Result<&'a str, Box<Thrown>> {
    match value {
        Val::Text(text) => Ok(text.as_str()),
        Val::Null => Err(Thrown::silent(Class::NullPointerException)),
        other => throw(Class::ClassCastException, format!("Cannot cast {} to java.lang.String", other.class_name())),
    }
}

/// The part of `text` from unit `start` to `end`.
pub(super) fn part_of(text: &str, start: i32, end: i32) -> Result<String, Box<Thrown>> {
    text::part(text, start, end)
}

/// The argument as an int.
pub(super) fn int_of(value: &Val<'_>) -> Result<i32, Box<Thrown>> {
    match ops::cast(value.clone(), super::ast::Type::Int, false)? {
        Val::Int(number) => Ok(number),
        _ => Ok(0),
    }
}

/// A view of `map`.
pub(super) fn view<'e>(map: &Val<'e>, view: View) -> Val<'e> {
    Val::object(Obj::View(map.clone(), view))
}
