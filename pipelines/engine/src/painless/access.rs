//! Fields, elements and what loops go through: `a.b`, `a['b']`, `a[0]`, `for (x in a)`.

use super::class::Class;
use super::machine::{Eval, Machine, snapshot};
use super::methods;
use super::ops::Num;
use super::thrown::{Thrown, throw};
use super::value::{Obj, Text, Val};
use event::{Event, Value};

/// Metadata of the document, as scripts see it beside the source.
fn of_event<'e>(event: &'e Event, name: &str) -> Val<'e> {
    let found = match name.starts_with('_') {
        true => event.metadata.fields.get(name).or_else(|| event.source.get(name)),
        false => event.source.get(name),
    };
    found.map_or(Val::Null, Val::borrowed)
}

/// `of.name`.
pub(super) fn field<'e>(machine: &mut Machine<'e>, of: &Val<'e>, name: &str) -> Eval<'e> {
    match of {
        Val::Null => Err(Thrown::null(name)),
        Val::Event(event) => Ok(of_event(event, name)),
        Val::Doc(Value::Object(object)) => Ok(object.get(name).map_or(Val::Null, Val::borrowed)),
        Val::Doc(Value::Array(values)) if name == "length" => Ok(Val::Int(length(values.len()))),
        Val::Doc(Value::Array(_)) => element(of, name),
        Val::Object(object) => match &**object {
            Obj::Map(map) => {
                let map = map.try_borrow().map_err(|_| Thrown::concurrent())?;
                machine.step(map.members.len() / 8)?;
                Ok(map.get_text(name).cloned().unwrap_or_default())
            }
            Obj::List(values) | Obj::Array(values) if name == "length" => {
                Ok(Val::Int(length(super::value::borrow(values)?.len())))
            }
            Obj::List(_) => element(of, name),
            _ => getter(machine, of, name),
        },
        _ => getter(machine, of, name),
    }
}

fn length(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

fn element<'e>(of: &Val<'e>, name: &str) -> Eval<'e> {
    match name.parse::<i32>() {
        Ok(at) => at_index(of, at),
        Err(_) => throw(Class::IllegalArgumentException, format!("Illegal list shortcut value [{name}].")),
    }
}

/// `of.year` calls `of.getYear()`, or `isYear`.
fn getter<'e>(machine: &mut Machine<'e>, of: &Val<'e>, name: &str) -> Eval<'e> {
    let mut letters = name.chars();
    let upper: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    for prefix in ["get", "is"] {
        let method = format!("{prefix}{upper}");
        if methods::known(&method, 0) && methods::has(of, &method) {
            return methods::call(machine, of, &method, &[]);
        }
    }
    throw(Class::IllegalArgumentException, format!("dynamic getter [{}, {name}] not found", of.class_name()))
}

/// `of[key]`.
pub(super) fn index<'e>(machine: &mut Machine<'e>, of: &Val<'e>, key: &Val<'e>) -> Eval<'e> {
    match (of, key) {
        (Val::Null, _) => Err(Thrown::null("[]")),
        (Val::Event(event), Val::Text(key)) => Ok(of_event(event, key.as_str())),
        (Val::Doc(Value::Object(object)), Val::Text(key)) => {
            Ok(object.get(key.as_str()).map_or(Val::Null, Val::borrowed))
        }
        (Val::Event(_) | Val::Doc(Value::Object(_)), _) => Ok(Val::Null),
        (Val::Object(object), key) if matches!(**object, Obj::Map(_)) => {
            let Obj::Map(map) = &**object else { return Ok(Val::Null) };
            let map = map.try_borrow().map_err(|_| Thrown::concurrent())?;
            machine.step(map.members.len() / 8)?;
            Ok(map.get(key).cloned().unwrap_or_default())
        }
        _ => at_index(of, int_key(of, key)?),
    }
}

fn int_key(of: &Val<'_>, key: &Val<'_>) -> Result<i32, Box<Thrown>> {
    match Num::of(key) {
        Some(Num::Int(at)) => Ok(at),
        _ => throw(
            Class::ClassCastException,
            format!("Cannot cast {} to java.lang.Integer as an index of [{}]", key.class_name(), of.class_name()),
        ),
    }
}

/// The element at `at`; a negative one counts from the end.
fn at_index<'e>(of: &Val<'e>, at: i32) -> Eval<'e> {
    match of {
        Val::Doc(Value::Array(values)) => place(at, values.len(), "").map(|at| Val::borrowed(&values[at])),
        Val::Object(object) => match &**object {
            Obj::List(values) => {
                let values = super::value::borrow(values)?;
                place(at, values.len(), "").map(|at| values[at].clone())
            }
            Obj::Array(values) => {
                let values = super::value::borrow(values)?;
                place(at, values.len(), "Array").map(|at| values[at].clone())
            }
            _ => not_array(of),
        },
        _ => not_array(of),
    }
}

fn not_array<T>(of: &Val<'_>) -> Result<T, Box<Thrown>> {
    let class = of.class_name();
    throw(
        Class::IllegalArgumentException,
        format!("Attempting to address a non-array-like type [{class}] as an array."),
    )
}

/// `at` as a place among `length` elements.
pub(super) fn place(at: i32, length: usize, kind: &'static str) -> Result<usize, Box<Thrown>> {
    let from_end = if at < 0 { i64::from(at) + length as i64 } else { i64::from(at) };
    match usize::try_from(from_end) {
        Ok(place) if place < length => Ok(place),
        _ => {
            let class = if kind.is_empty() {
                "java.lang.IndexOutOfBoundsException"
            } else {
                "java.lang.ArrayIndexOutOfBoundsException"
            };
            Err(Thrown::named(class, format!("Index {from_end} out of bounds for length {length}")))
        }
    }
}

fn read_only<T>() -> Result<T, Box<Thrown>> {
    Err(Thrown::silent(Class::UnsupportedOperationException))
}

/// `of.name = value`.
pub(super) fn set_field<'e>(
    machine: &mut Machine<'e>,
    of: &Val<'e>,
    name: &'e str,
    value: Val<'e>,
) -> Result<(), Box<Thrown>> {
    match of {
        Val::Null => Err(Thrown::null(name)),
        Val::Object(object) if matches!(**object, Obj::List(_)) => match name.parse::<i32>() {
            Ok(at) => set_index(machine, of, Val::Int(at), value),
            Err(_) => throw(Class::IllegalArgumentException, format!("Illegal list shortcut value [{name}].")),
        },
        Val::Object(object) if matches!(**object, Obj::Map(_)) => {
            set_index(machine, of, Val::Text(Text::Ref(name)), value)
        }
        Val::Event(_) | Val::Doc(_) => read_only(),
        _ => throw(Class::IllegalArgumentException, format!("dynamic setter [{}, {name}] not found", of.class_name())),
    }
}

/// `of[key] = value`.
pub(super) fn set_index<'e>(
    machine: &mut Machine<'e>,
    of: &Val<'e>,
    key: Val<'e>,
    value: Val<'e>,
) -> Result<(), Box<Thrown>> {
    machine.may_hold(of, &key)?;
    machine.may_hold(of, &value)?;
    match of {
        Val::Null => Err(Thrown::null("[]")),
        Val::Event(_) | Val::Doc(_) => read_only(),
        Val::Object(object) => match &**object {
            Obj::Map(map) => {
                let mut map = map.try_borrow_mut().map_err(|_| Thrown::concurrent())?;
                machine.charge_elements(1)?;
                machine.step(map.members.len() / 8)?;
                map.put(key, value);
                Ok(())
            }
            Obj::List(values) | Obj::Array(values) => {
                let at = int_key(of, &key)?;
                let kind = if matches!(**object, Obj::Array(_)) { "Array" } else { "" };
                let mut values = values.try_borrow_mut().map_err(|_| Thrown::concurrent())?;
                let at = place(at, values.len(), kind)?;
                values[at] = value;
                Ok(())
            }
            _ => not_array(of),
        },
        _ => not_array(of),
    }
}

/// What a loop over `of` goes through: elements of lists, arrays and sets. Maps are gone through by their views.
pub(super) fn elements<'e>(machine: &mut Machine<'e>, of: &Val<'e>) -> Result<Vec<Val<'e>>, Box<Thrown>> {
    let values = match of {
        Val::Null => return Err(Thrown::null("iterator")),
        Val::Doc(Value::Array(values)) => values.iter().map(Val::borrowed).collect(),
        Val::Object(object) => match &**object {
            Obj::List(values) | Obj::Array(values) | Obj::Stream(values) => snapshot(values)?,
            Obj::Set(values) => {
                let values = snapshot(values)?;
                let order = crate::text::hash_order(values.iter().map(Val::hash));
                order.into_iter().map(|at| values[at].clone()).collect()
            }
            Obj::View(..) => of.seen().ok_or_else(Thrown::concurrent)?,
            Obj::Iterator(rest) => rest.try_borrow_mut().map_err(|_| Thrown::concurrent())?.by_ref().collect(),
            _ => return cannot_iterate(of),
        },
        _ => return cannot_iterate(of),
    };
    machine.charge_elements(values.len())?;
    Ok(values)
}

fn cannot_iterate<T>(of: &Val<'_>) -> Result<T, Box<Thrown>> {
    throw(Class::IllegalArgumentException, format!("Cannot iterate over [{}]", of.class_name()))
}

/// The members of a map in the order of going through them. `None` if `of` is no map.
pub(super) fn members<'e>(
    machine: &mut Machine<'e>,
    of: &Val<'e>,
) -> Result<Option<Vec<(Val<'e>, Val<'e>)>>, Box<Thrown>> {
    let members = match of {
        Val::Object(object) => match &**object {
            Obj::Map(map) => {
                let map = map.try_borrow().map_err(|_| Thrown::concurrent())?;
                map.ordered().into_iter().map(|at| map.members[at].clone()).collect::<Vec<_>>()
            }
            _ => return Ok(None),
        },
        _ => {
            let Some(members) = of.members() else { return Ok(None) };
            let order = crate::text::hash_order(members.iter().map(|(key, _)| key.hash()));
            order.into_iter().map(|at| members[at].clone()).collect()
        }
    };
    machine.charge_elements(members.len())?;
    Ok(Some(members))
}
