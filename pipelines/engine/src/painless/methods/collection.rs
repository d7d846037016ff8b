//! Methods of lists, sets, arrays, and of what maps show of themselves.

use super::{int_of, text_of};
use crate::painless::access::{elements, place};
use crate::painless::ast::Lambda;
use crate::painless::class::Class;
use crate::painless::machine::{Given, Machine};
use crate::painless::ops::{self, Num};
use crate::painless::thrown::{Thrown, throw};
use crate::painless::value::{Obj, Order, Val, View};
use event::Value;
use std::cell::RefCell;
use std::cmp::Ordering;

pub(super) const METHODS: &[(&str, usize)] = &[
    ("add", 1),
    ("add", 2),
    ("addAll", 1),
    ("any", 1),
    ("asCollection", 0),
    ("asList", 0),
    ("clear", 0),
    ("clone", 0),
    ("collect", 1),
    ("contains", 1),
    ("containsAll", 1),
    ("each", 1),
    ("every", 1),
    ("find", 1),
    ("findAll", 1),
    ("findResults", 1),
    ("forEach", 1),
    ("get", 1),
    ("getLength", 0),
    ("groupBy", 1),
    ("indexOf", 1),
    ("isEmpty", 0),
    ("iterator", 0),
    ("join", 1),
    ("lastIndexOf", 1),
    ("remove", 1),
    ("removeAll", 1),
    ("removeIf", 1),
    ("replaceAll", 1),
    ("retainAll", 1),
    ("set", 2),
    ("size", 0),
    ("sort", 1),
    ("stream", 0),
    ("subList", 2),
    ("sum", 0),
    ("toArray", 0),
];

type Found<'e> = Result<Option<Val<'e>>, Box<Thrown>>;

pub(super) fn call<'e>(machine: &mut Machine<'e>, of: &Val<'e>, name: &str, args: &[Given<'e>]) -> Found<'e> {
    let is_array = matches!(of, Val::Object(object) if matches!(**object, Obj::Array(_)));
    if is_array {
        return Ok(None); // Arrays have a length and elements, no methods.
    }
    if matches!((name, args), ("size" | "getLength", []) | ("isEmpty", [])) {
        let count = match of {
            Val::Doc(Value::Array(values)) => values.len(),
            Val::Object(object) => match &**object {
                Obj::List(values) | Obj::Set(values) => super::super::value::borrow(values)?.len(),
                _ => elements(machine, of)?.len(),
            },
            _ => 0,
        };
        return Ok(Some(if name == "isEmpty" { Val::Bool(count == 0) } else { Val::Int(count as i32) }));
    }
    if let Some(result) = reading(machine, of, name, args)? {
        return Ok(Some(result));
    }
    let Val::Object(object) = of else {
        // A document that is only read: what is left would change it.
        return match METHODS.contains(&(name, args.len())) {
            true => Err(Thrown::silent(Class::UnsupportedOperationException)),
            false => Ok(None),
        };
    };
    match &**object {
        Obj::List(values) => changing(machine, of, values, name, args),
        Obj::Set(values) => changing(machine, of, values, name, args),
        Obj::View(map, view) => removing(machine, map, *view, of, name, args),
        _ => Ok(None),
    }
}

/// What changes nothing.
fn reading<'e>(machine: &mut Machine<'e>, of: &Val<'e>, name: &str, args: &[Given<'e>]) -> Found<'e> {
    let is_list = matches!(of, Val::Doc(_)) || matches!(of, Val::Object(object) if matches!(**object, Obj::List(_)));
    Ok(Some(match (name, args) {
        ("get", [Given::Value(at)]) if is_list => {
            let at = int_of(at)?;
            if at < 0 {
                let length = elements(machine, of)?.len();
                let message = format!("Index {at} out of bounds for length {length}");
                return Err(Thrown::named("java.lang.IndexOutOfBoundsException", message));
            }
            super::super::access::index(machine, of, &Val::Int(at))?
        }
        ("contains", [Given::Value(value)]) => Val::Bool(position(machine, of, value)?.is_some()),
        ("indexOf", [Given::Value(value)]) if is_list => {
            Val::Int(position(machine, of, value)?.map_or(-1, |at| at as i32))
        }
        ("lastIndexOf", [Given::Value(value)]) if is_list => {
            Val::Int(elements(machine, of)?.iter().rposition(|known| known.equals(value)).map_or(-1, |at| at as i32))
        }
        ("containsAll", [Given::Value(others)]) => {
            let (values, others) = (elements(machine, of)?, elements(machine, others)?);
            machine.step(values.len().saturating_mul(others.len()))?;
            Val::Bool(others.iter().all(|other| values.iter().any(|value| value.equals(other))))
        }
        ("iterator", []) => Val::object(Obj::Iterator(RefCell::new(elements(machine, of)?.into_iter()))),
        ("stream", []) => Val::object(Obj::Stream(RefCell::new(elements(machine, of)?))),
        ("toArray", []) => Val::object(Obj::Array(RefCell::new(elements(machine, of)?))),
        ("clone" | "asList" | "asCollection", []) => Val::list(elements(machine, of)?),
        ("subList", [Given::Value(from), Given::Value(to)]) if is_list => {
            let (from, to, values) = (int_of(from)?, int_of(to)?, elements(machine, of)?);
            let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
            match range.and_then(|(from, to)| values.get(from..to)) {
                Some(part) => Val::list(part.to_vec()),
                None => {
                    let message = format!("fromIndex: {from}, toIndex: {to}, size: {}", values.len());
                    return Err(Thrown::named("java.lang.IndexOutOfBoundsException", message));
                }
            }
        }
        ("forEach" | "each", [Given::Lambda(lambda)]) => {
            for value in elements(machine, of)? {
                machine.lambda(lambda, &[value])?;
            }
            if name == "each" { of.clone() } else { Val::Null }
        }
        ("any", [Given::Lambda(lambda)]) => Val::Bool(find(machine, of, lambda, true)?.is_some()),
        ("every", [Given::Lambda(lambda)]) => Val::Bool(find(machine, of, lambda, false)?.is_none()),
        ("find", [Given::Lambda(lambda)]) => find(machine, of, lambda, true)?.unwrap_or_default(),
        ("findAll", [Given::Lambda(lambda)]) => Val::list(filter(machine, of, lambda)?),
        ("collect" | "findResults", [Given::Lambda(lambda)]) => {
            let mut made = Vec::new();
            for value in elements(machine, of)? {
                let result = machine.lambda(lambda, &[value])?;
                if name == "collect" || !matches!(result, Val::Null) {
                    made.push(result);
                }
            }
            Val::list(made)
        }
        ("groupBy", [Given::Lambda(lambda)]) => {
            let mut groups: Vec<(Val<'e>, Vec<Val<'e>>)> = Vec::new();
            for value in elements(machine, of)? {
                let key = machine.lambda(lambda, std::slice::from_ref(&value))?;
                machine.step(groups.len())?;
                match groups.iter_mut().find(|(known, _)| known.equals(&key)) {
                    Some((_, group)) => group.push(value),
                    None => groups.push((key, vec![value])),
                }
            }
            Val::map(groups.into_iter().map(|(key, group)| (key, Val::list(group))).collect(), Order::Linked)
        }
        ("join", [Given::Value(separator)]) => {
            let texts: Vec<_> = elements(machine, of)?.iter().map(Val::to_text).collect();
            let joined = texts.join(text_of(separator)?);
            machine.charge(joined.len())?;
            Val::text(joined)
        }
        ("sum", []) => {
            let mut sum = 0.0;
            for value in elements(machine, of)? {
                sum += Num::of(&value).map_or_else(|| not_number(&value), |number| Ok(number.as_f64()))?;
            }
            Val::Double(sum)
        }
        _ => return Ok(None),
    }))
}

pub(super) fn not_number<T>(value: &Val<'_>) -> Result<T, Box<Thrown>> {
    throw(Class::ClassCastException, format!("Cannot cast {} to java.lang.Number", value.class_name()))
}

/// Where `value` stands.
fn position<'e>(machine: &mut Machine<'e>, of: &Val<'e>, value: &Val<'e>) -> Result<Option<usize>, Box<Thrown>> {
    // Without a copy: this is what conditions ask most.
    if let Val::Doc(Value::Array(values)) = of {
        machine.step(values.len())?;
        return Ok(values.iter().position(|known| Val::borrowed(known).equals(value)));
    }
    Ok(elements(machine, of)?.iter().position(|known| known.equals(value)))
}

/// The first element of which the lambda says `wanted`.
fn find<'e>(
    machine: &mut Machine<'e>,
    of: &Val<'e>,
    lambda: &'e Lambda,
    wanted: bool,
) -> Result<Option<Val<'e>>, Box<Thrown>> {
    for value in elements(machine, of)? {
        if machine.test(lambda, std::slice::from_ref(&value))? == wanted {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn filter<'e>(machine: &mut Machine<'e>, of: &Val<'e>, lambda: &'e Lambda) -> Result<Vec<Val<'e>>, Box<Thrown>> {
    let mut kept = Vec::new();
    for value in elements(machine, of)? {
        if machine.test(lambda, std::slice::from_ref(&value))? {
            kept.push(value);
        }
    }
    Ok(kept)
}

fn changing<'e>(
    machine: &mut Machine<'e>,
    of: &Val<'e>,
    values: &RefCell<Vec<Val<'e>>>,
    name: &str,
    args: &[Given<'e>],
) -> Found<'e> {
    let is_list = matches!(of, Val::Object(object) if matches!(**object, Obj::List(_)));
    if matches!(name, "add" | "set")
        && let Some(Given::Value(value)) = args.last()
    {
        machine.may_hold(of, value)?;
    }
    let cell = || values.try_borrow_mut().map_err(|_| Thrown::concurrent());
    Ok(Some(match (name, args) {
        ("add", [Given::Value(value)]) => {
            machine.charge_elements(1)?;
            if !is_list {
                machine.step(cell()?.len())?;
                if cell()?.iter().any(|known| known.equals(value)) {
                    return Ok(Some(Val::Bool(false)));
                }
            }
            cell()?.push(value.clone());
            Val::Bool(true)
        }
        ("add", [Given::Value(at), Given::Value(value)]) if is_list => {
            let (at, mut values) = (int_of(at)?, cell()?);
            machine.charge_elements(1)?;
            machine.step(values.len())?;
            match usize::try_from(at) {
                Ok(at) if at <= values.len() => values.insert(at, value.clone()),
                _ => {
                    let message = format!("Index: {at}, Size: {}", values.len());
                    return Err(Thrown::named("java.lang.IndexOutOfBoundsException", message));
                }
            }
            Val::Null
        }
        ("addAll", [Given::Value(others)]) => {
            let others = elements(machine, others)?;
            let before = cell()?.len();
            for other in others {
                machine.may_hold(of, &other)?;
                if is_list || !cell()?.iter().any(|known| known.equals(&other)) {
                    machine.step(if is_list { 0 } else { before })?;
                    cell()?.push(other);
                }
            }
            Val::Bool(cell()?.len() > before)
        }
        ("set", [Given::Value(at), Given::Value(value)]) if is_list => {
            let mut values = cell()?;
            let at = place(int_of(at)?, values.len(), "")?;
            std::mem::replace(&mut values[at], value.clone())
        }
        ("remove", [Given::Value(at)]) if is_list => {
            let mut values = cell()?;
            machine.step(values.len())?;
            let at = place(int_of(at)?, values.len(), "")?;
            values.remove(at)
        }
        ("remove", [Given::Value(value)]) => {
            let mut values = cell()?;
            machine.step(values.len())?;
            let found = values.iter().position(|known| known.equals(value));
            if let Some(at) = found {
                values.remove(at);
            }
            Val::Bool(found.is_some())
        }
        ("clear", []) => {
            cell()?.clear();
            Val::Null
        }
        ("removeIf", [Given::Lambda(lambda)]) => {
            let before = cell()?.clone();
            machine.charge_elements(before.len())?;
            let mut kept = Vec::new();
            for value in before.iter().cloned() {
                if !machine.test(lambda, std::slice::from_ref(&value))? {
                    kept.push(value);
                }
            }
            let removed = kept.len() < before.len();
            *cell()? = kept;
            Val::Bool(removed)
        }
        ("removeAll" | "retainAll", [Given::Value(others)]) => {
            let (others, keep) = (elements(machine, others)?, name == "retainAll");
            let mut values = cell()?;
            machine.step(values.len().saturating_mul(others.len()))?;
            let before = values.len();
            values.retain(|value| others.iter().any(|other| other.equals(value)) == keep);
            Val::Bool(values.len() < before)
        }
        ("replaceAll", [Given::Lambda(lambda)]) if is_list => {
            let before = cell()?.clone();
            machine.charge_elements(before.len())?;
            let made: Result<Vec<_>, _> = before.into_iter().map(|value| machine.lambda(lambda, &[value])).collect();
            let made = made?;
            for value in &made {
                machine.may_hold(of, value)?;
            }
            *cell()? = made;
            Val::Null
        }
        ("sort", [Given::Lambda(lambda)]) if is_list => {
            let before = cell()?.clone();
            let sorted = sort_with(machine, before, lambda)?;
            *cell()? = sorted;
            Val::Null
        }
        ("sort", [Given::Value(Val::Null)]) if is_list => {
            let before = cell()?.clone();
            let sorted = sort(machine, before)?;
            *cell()? = sorted;
            Val::Null
        }
        _ => return Ok(None),
    }))
}

/// What a map shows can be taken away, but nothing put to it.
fn removing<'e>(
    machine: &mut Machine<'e>,
    map: &Val<'e>,
    view: View,
    of: &Val<'e>,
    name: &str,
    args: &[Given<'e>],
) -> Found<'e> {
    let known = matches!((name, args), ("removeIf" | "removeAll" | "retainAll" | "remove", [_]) | ("clear", []));
    if !known {
        return match METHODS.contains(&(name, args.len())) && matches!(name, "add" | "addAll") {
            true => Err(Thrown::silent(Class::UnsupportedOperationException)),
            false => Ok(None),
        };
    }
    let (Val::Object(object), seen) = (map, elements(machine, of)?) else {
        return Err(Thrown::silent(Class::UnsupportedOperationException));
    };
    let Obj::Map(cell) = &**object else { return Ok(None) };
    let places = cell.try_borrow().map_err(|_| Thrown::concurrent())?.ordered();
    let mut gone = vec![false; places.len()];
    for (value, place) in seen.into_iter().zip(places) {
        let goes = match (name, args) {
            ("removeIf", [Given::Lambda(lambda)]) => machine.test(lambda, &[value])?,
            ("removeAll", [Given::Value(others)]) => {
                elements(machine, others)?.iter().any(|other| other.equals(&value))
            }
            ("retainAll", [Given::Value(others)]) => {
                !elements(machine, others)?.iter().any(|other| other.equals(&value))
            }
            ("remove", [Given::Value(other)]) => other.equals(&value) && !gone.contains(&true),
            ("clear", []) => true,
            _ => return Ok(None),
        };
        if let Some(flag) = gone.get_mut(place) {
            *flag = goes;
        }
    }
    let mut map = cell.try_borrow_mut().map_err(|_| Thrown::concurrent())?;
    if map.members.len() != gone.len() {
        return Err(Thrown::concurrent()); // The lambda changed the map while it was gone through.
    }
    let mut flags = gone.iter();
    map.members.retain(|_| flags.next() != Some(&true));
    let removed = gone.contains(&true);
    Ok(Some(if view == View::Entries && name == "clear" { Val::Null } else { Val::Bool(removed) }))
}

/// Sorted by the values' own order.
pub(crate) fn sort<'e>(machine: &mut Machine<'e>, values: Vec<Val<'e>>) -> Result<Vec<Val<'e>>, Box<Thrown>> {
    sort_by(machine, values, |_, a, b| {
        let comparable = a.class_name() == b.class_name();
        ops::compare(a, b).filter(|_| comparable).ok_or_else(|| {
            let (from, to) = (b.class_name(), a.class_name());
            Thrown::new(Class::ClassCastException, format!("class {from} cannot be cast to class {to}"))
        })
    })
}

/// Sorted as the lambda compares.
pub(crate) fn sort_with<'e>(
    machine: &mut Machine<'e>,
    values: Vec<Val<'e>>,
    lambda: &'e Lambda,
) -> Result<Vec<Val<'e>>, Box<Thrown>> {
    sort_by(machine, values, |machine, a, b| {
        let result = machine.lambda(lambda, &[a.clone(), b.clone()])?;
        int_of(&result).map(|number| number.cmp(&0))
    })
}

/// A stable merge sort: the order may fail, and may be none at all, and neither must do harm.
fn sort_by<'e>(
    machine: &mut Machine<'e>,
    values: Vec<Val<'e>>,
    mut order: impl FnMut(&mut Machine<'e>, &Val<'e>, &Val<'e>) -> Result<Ordering, Box<Thrown>>,
) -> Result<Vec<Val<'e>>, Box<Thrown>> {
    let mut runs: Vec<Vec<Val<'e>>> = values.into_iter().map(|value| vec![value]).collect();
    while runs.len() > 1 {
        let mut merged = Vec::with_capacity(runs.len().div_ceil(2));
        let mut pairs = runs.into_iter();
        while let Some(left) = pairs.next() {
            let Some(right) = pairs.next() else {
                merged.push(left);
                break;
            };
            machine.charge_elements(left.len() + right.len())?;
            let mut out = Vec::with_capacity(left.len() + right.len());
            let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
            while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
                let next = if order(machine, a, b)? == Ordering::Greater { right.next() } else { left.next() };
                out.extend(next);
            }
            out.extend(left);
            out.extend(right);
            merged.push(out);
        }
        runs = merged;
    }
    Ok(runs.pop().unwrap_or_default())
}
