//! What a running script holds: numbers by Java's types, texts, parts of the document, and objects of its own.
//!
//! A condition reads the document where it stands ([`Val::Doc`], [`Val::Event`]); a script gets it as objects that it can
//! change and share, as in Java, and they become a document again when it ends.

mod show;

use super::ast::Pattern;
use super::class::Class;
use super::thrown::{self, Thrown, throw};
use crate::date::{Stamp, Zone};
use crate::text::java_hash;
use compact_str::CompactString;
use event::{Event, Object, Value};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// Deepest nesting of what a script may leave in the document.
const NESTING_MAX: u32 = event::document::NESTING_MAX as u32;
/// Most values that a script may leave in a document: parts that are shared are written out each time.
const VALUES_MAX: u32 = 1_000_000;

/// A value.
#[derive(Debug, Clone, Default)]
pub(super) enum Val<'e> {
    #[default]
    Null,
    Bool(bool),
    Byte(i8),
    Short(i16),
    Char(u16),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Big(Text<'e>),
    Text(Text<'e>),
    /// A list or an object of a document that is only read.
    Doc(&'e Value),
    /// The document of a condition.
    Event(&'e Event),
    Object(Rc<Obj<'e>>),
}

/// A text that is held by someone else, or not.
#[derive(Debug, Clone)]
pub(super) enum Text<'e> {
    Ref(&'e str),
    Own(CompactString),
}

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Ref(text) => text,
            Self::Own(text) => text,
        }
    }
}

/// How a map orders its members when they are gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As Java's `HashMap`.
    Hash,
    /// As they came.
    Linked,
    /// By key.
    Sorted,
}

#[derive(Debug)]
pub(super) struct Map<'e> {
    pub(super) members: Vec<(Val<'e>, Val<'e>)>,
    pub(super) order: Order,
}

/// A zone with the name it was asked for: `UTC` is a region to Java, `Z` is not.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NamedZone {
    pub(super) id: CompactString,
    pub(super) zone: Zone,
}

/// The matches of a pattern in a text.
#[derive(Debug)]
pub(super) struct Matcher<'e> {
    pub(super) pattern: Arc<Pattern>,
    pub(super) text: Text<'e>,
    /// The groups of the match that was found last, as byte ranges.
    pub(super) groups: Option<Vec<Option<(usize, usize)>>>,
    /// Where the next search starts.
    pub(super) next: usize,
}

/// An object of the script's own. Methods change it through the cell.
#[derive(Debug)]
pub(super) enum Obj<'e> {
    List(RefCell<Vec<Val<'e>>>),
    Array(RefCell<Vec<Val<'e>>>),
    Set(RefCell<Vec<Val<'e>>>),
    Map(RefCell<Map<'e>>),
    /// What a map's `keySet()`, `values()` or `entrySet()` shows of it.
    View(Val<'e>, View),
    /// A member of a map: the map, the key, the value.
    Entry(Val<'e>, Val<'e>, RefCell<Val<'e>>),
    Iterator(RefCell<std::vec::IntoIter<Val<'e>>>),
    Stream(RefCell<Vec<Val<'e>>>),
    /// What a stream is gathered into.
    Collector(Collector),
    Optional(Val<'e>),
    Builder(RefCell<String>),
    Tokenizer(RefCell<std::vec::IntoIter<CompactString>>),
    Pattern(Arc<Pattern>),
    Matcher(RefCell<Matcher<'e>>),
    Instant(Stamp),
    Zoned(Stamp, NamedZone),
    Zone(NamedZone),
    Formatter(Vec<crate::date::pattern::Item>),
    /// Nanoseconds.
    Duration(i128),
    /// `ChronoUnit`: its name and its length in nanoseconds, zero for months and years.
    Unit(&'static str, i128),
    Locale,
    Exception(Class, Option<CompactString>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Keys,
    Values,
    Entries,
}

#[derive(Debug, Clone)]
pub(super) enum Collector {
    List,
    Set,
    Joining(CompactString, CompactString, CompactString),
}

impl<'e> Val<'e> {
    pub(super) fn text(text: impl Into<CompactString>) -> Self {
        Self::Text(Text::Own(text.into()))
    }

    pub(super) fn object(object: Obj<'e>) -> Self {
        Self::Object(Rc::new(object))
    }

    pub(super) fn list(values: Vec<Self>) -> Self {
        Self::object(Obj::List(RefCell::new(values)))
    }

    pub(super) fn map(members: Vec<(Self, Self)>, order: Order) -> Self {
        Self::object(Obj::Map(RefCell::new(Map { members, order })))
    }

    /// A value of a document, read where it stands.
    pub(super) fn borrowed(value: &'e Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Int(number) => Self::Int(*number),
            Value::Long(number) => Self::Long(*number),
            Value::Big(digits) => Self::Big(Text::Ref(digits)),
            Value::Float(number) => Self::Float(*number),
            Value::Double(number) => Self::Double(*number),
            Value::Text(text) => Self::Text(Text::Ref(text)),
            Value::Array(_) | Value::Object(_) => Self::Doc(value),
        }
    }

    /// A value of a document, as objects that can be changed.
    pub(super) fn owned(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(flag),
            Value::Int(number) => Self::Int(number),
            Value::Long(number) => Self::Long(number),
            Value::Big(digits) => Self::Big(Text::Own(digits)),
            Value::Float(number) => Self::Float(number),
            Value::Double(number) => Self::Double(number),
            Value::Text(text) => Self::Text(Text::Own(text)),
            Value::Array(values) => Self::list(values.into_iter().map(Self::owned).collect()),
            Value::Object(object) => Self::owned_map(object),
        }
    }

    pub(super) fn owned_map(object: Object) -> Self {
        let members = object.into_iter().map(|(key, value)| (Self::text(key), Self::owned(value))).collect();
        Self::map(members, Order::Hash)
    }

    /// What a view shows, in the order of going through it. `None` if this is no view.
    pub(super) fn seen(&self) -> Option<Vec<Self>> {
        let Self::Object(object) = self else { return None };
        let Obj::View(map, view) = &**object else { return None };
        let members = map.members()?;
        let order = match map {
            Self::Object(object) => match &**object {
                Obj::Map(map) => map.try_borrow().ok()?.ordered(),
                _ => return None,
            },
            _ => crate::text::hash_order(members.iter().map(|(key, _)| key.hash())),
        };
        let show = |at: usize| {
            let (key, value) = members[at].clone();
            match view {
                View::Keys => key,
                View::Values => value,
                View::Entries => Self::object(Obj::Entry(map.clone(), key, RefCell::new(value))),
            }
        };
        Some(order.into_iter().map(show).collect())
    }

    /// As a value of a document. Errors: it holds itself, is too large, or is nothing that a document can hold.
    pub(super) fn into_value(self) -> Result<Value, Box<Thrown>> {
        let mut left = VALUES_MAX;
        self.value_at(0, &mut left)
    }

    fn value_at(&self, depth: u32, left: &mut u32) -> Result<Value, Box<Thrown>> {
        *left = left.saturating_sub(1);
        if depth > NESTING_MAX || *left == 0 {
            return throw(Class::IllegalArgumentException, thrown::SELF_REFERENCE);
        }
        let array = |values: &[Self], left: &mut u32| {
            let values: Result<Vec<_>, _> = values.iter().map(|value| value.value_at(depth + 1, left)).collect();
            values.map(Value::Array)
        };
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(flag) => Value::Bool(*flag),
            Self::Byte(number) => Value::Int(i32::from(*number)),
            Self::Short(number) => Value::Int(i32::from(*number)),
            Self::Int(number) => Value::Int(*number),
            Self::Long(number) => Value::Long(*number),
            Self::Float(number) => Value::Float(*number),
            Self::Double(number) => Value::Double(*number),
            Self::Big(digits) => Value::Big(digits.as_str().into()),
            Self::Text(text) => Value::Text(text.as_str().into()),
            Self::Char(_) => {
                let reason = "cannot write xcontent for unknown value of type class java.lang.Character";
                return throw(Class::IllegalArgumentException, reason);
            }
            Self::Doc(value) => (*value).clone(),
            Self::Event(_) => return throw(Class::IllegalArgumentException, thrown::SELF_REFERENCE),
            Self::Object(object) => match &**object {
                Obj::List(values) | Obj::Array(values) | Obj::Set(values) => array(&borrow(values)?, left)?,
                Obj::Map(map) => {
                    let map = map.try_borrow().map_err(|_| Thrown::concurrent())?;
                    let mut object = Object::with_capacity(map.members.len());
                    for (key, value) in &map.members {
                        object.insert(key.to_text(), value.value_at(depth + 1, left)?);
                    }
                    Value::Object(object)
                }
                Obj::View(..) => array(&self.seen().unwrap_or_default(), left)?,
                Obj::Zoned(..) | Obj::Builder(_) => Value::Text(self.to_text()),
                _ => {
                    let class = self.class_name();
                    return throw(Class::IllegalArgumentException, format!("unexpected value type [class {class}]"));
                }
            },
        })
    }

    /// `hashCode`, of what can be a key.
    pub(super) fn hash(&self) -> i32 {
        let long = |bits: u64| (bits ^ (bits >> 32)) as i32;
        match self {
            Self::Bool(true) => 1231,
            Self::Bool(false) => 1237,
            Self::Byte(number) => i32::from(*number),
            Self::Short(number) => i32::from(*number),
            Self::Char(unit) => i32::from(*unit),
            Self::Int(number) => *number,
            Self::Long(number) => long(*number as u64),
            Self::Float(number) => number.to_bits() as i32,
            Self::Double(number) => long(number.to_bits()),
            Self::Text(text) => java_hash(text.as_str()),
            _ => 0,
        }
    }

    /// `Object.equals`: numbers of different types differ, lists and maps are equal by what they hold.
    pub(super) fn equals(&self, other: &Self) -> bool {
        self.equals_at(other, 0)
    }

    fn equals_at(&self, other: &Self, depth: u32) -> bool {
        if depth > NESTING_MAX {
            return false;
        }
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Byte(a), Self::Byte(b)) => a == b,
            (Self::Short(a), Self::Short(b)) => a == b,
            (Self::Char(a), Self::Char(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Long(a), Self::Long(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b || a.is_nan() && b.is_nan(),
            (Self::Double(a), Self::Double(b)) => a == b || a.is_nan() && b.is_nan(),
            (Self::Text(a), Self::Text(b)) | (Self::Big(a), Self::Big(b)) => a.as_str() == b.as_str(),
            (Self::Doc(a), Self::Doc(b)) if std::ptr::eq(*a, *b) => true,
            (Self::Object(a), Self::Object(b)) if Rc::ptr_eq(a, b) => true,
            _ => match (self.elements(), other.elements()) {
                (Some((a, a_is_set)), Some((b, b_is_set))) if a_is_set == b_is_set && a.len() == b.len() => {
                    if a_is_set {
                        a.iter().all(|a| b.iter().any(|b| a.equals_at(b, depth + 1)))
                    } else {
                        a.iter().zip(&b).all(|(a, b)| a.equals_at(b, depth + 1))
                    }
                }
                _ => match (self.members(), other.members()) {
                    (Some(a), Some(b)) => {
                        let same = |(key, value): &(Val<'e>, Val<'e>)| {
                            b.iter().any(|(k, v)| k.equals_at(key, depth + 1) && v.equals_at(value, depth + 1))
                        };
                        a.len() == b.len() && a.iter().all(same)
                    }
                    _ => self.same_moment(other),
                },
            },
        }
    }

    fn same_moment(&self, other: &Self) -> bool {
        let (Self::Object(a), Self::Object(b)) = (self, other) else { return false };
        match (&**a, &**b) {
            (Obj::Instant(a), Obj::Instant(b)) => (a.seconds, a.nano) == (b.seconds, b.nano),
            (Obj::Zoned(a, zone), Obj::Zoned(b, other)) => a == b && zone == other,
            (Obj::Zone(a), Obj::Zone(b)) => a == b,
            (Obj::Duration(a), Obj::Duration(b)) => a == b,
            (Obj::Unit(a, _), Obj::Unit(b, _)) => a == b,
            _ => false,
        }
    }

    /// The elements of a list or a set, and whether it is a set. Arrays are not equal to each other.
    fn elements(&self) -> Option<(Vec<Self>, bool)> {
        match self {
            Self::Doc(Value::Array(values)) => Some((values.iter().map(Self::borrowed).collect(), false)),
            Self::Object(object) => match &**object {
                Obj::List(values) => Some((values.try_borrow().ok()?.clone(), false)),
                Obj::Set(values) => Some((values.try_borrow().ok()?.clone(), true)),
                Obj::View(_, View::Keys | View::Entries) => Some((self.seen()?, true)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The members of a map, in no order.
    pub(super) fn members(&self) -> Option<Vec<(Self, Self)>> {
        let member = |(key, value): (&'e str, &'e Value)| (Self::Text(Text::Ref(key)), Self::borrowed(value));
        match self {
            Self::Doc(Value::Object(object)) => Some(object.iter().map(member).collect()),
            Self::Event(event) => Some(event.metadata.fields.iter().chain(event.source.iter()).map(member).collect()),
            Self::Object(object) => match &**object {
                Obj::Map(map) => Some(map.try_borrow().ok()?.members.clone()),
                _ => None,
            },
            _ => None,
        }
    }
}

/// What a cell holds, unless it is being changed right now.
pub(super) fn borrow<'c, 'e>(
    values: &'c RefCell<Vec<Val<'e>>>,
) -> Result<std::cell::Ref<'c, Vec<Val<'e>>>, Box<Thrown>> {
    values.try_borrow().map_err(|_| Thrown::concurrent())
}

/// What is nested deeply must not be let go of by recursion: a loop can nest a million lists.
impl Drop for Obj<'_> {
    fn drop(&mut self) {
        let mut open = Vec::new();
        self.empty(&mut open);
        while let Some(value) = open.pop() {
            if let Val::Object(object) = value
                && let Some(mut object) = Rc::into_inner(object)
            {
                object.empty(&mut open);
            }
        }
    }
}

impl<'e> Obj<'e> {
    /// Moves what this one holds to `out`.
    fn empty(&mut self, out: &mut Vec<Val<'e>>) {
        match self {
            Self::List(values) | Self::Array(values) | Self::Set(values) | Self::Stream(values) => {
                out.append(values.get_mut());
            }
            Self::Map(map) => {
                for (key, value) in map.get_mut().members.drain(..) {
                    out.push(key);
                    out.push(value);
                }
            }
            Self::Iterator(rest) => out.extend(rest.get_mut()),
            Self::View(value, _) | Self::Optional(value) => out.push(std::mem::take(value)),
            Self::Entry(map, key, value) => {
                out.extend([std::mem::take(map), std::mem::take(key), value.take()]);
            }
            _ => {}
        }
    }

    /// Adds the objects that this one holds to `out`.
    pub(super) fn parts(&self, out: &mut Vec<Val<'e>>) {
        let mut add = |value: &Val<'e>| {
            if matches!(value, Val::Object(_)) {
                out.push(value.clone());
            }
        };
        match self {
            Self::List(values) | Self::Array(values) | Self::Set(values) | Self::Stream(values) => {
                values.borrow().iter().for_each(add);
            }
            Self::Map(map) => {
                for (key, value) in &map.borrow().members {
                    add(key);
                    add(value);
                }
            }
            Self::Iterator(rest) => rest.borrow().as_slice().iter().for_each(add),
            Self::View(map, _) => add(map),
            Self::Optional(value) => add(value),
            Self::Entry(map, key, value) => {
                add(map);
                add(key);
                add(&value.borrow());
            }
            _ => {}
        }
    }
}

impl<'e> Map<'e> {
    /// Places of the members in the order of going through them.
    pub(super) fn ordered(&self) -> Vec<usize> {
        match self.order {
            Order::Linked => (0..self.members.len()).collect(),
            Order::Hash => crate::text::hash_order(self.members.iter().map(|(key, _)| key.hash())),
            Order::Sorted => {
                let mut order: Vec<_> = (0..self.members.len()).collect();
                order.sort_by(|a, b| {
                    let (a, b) = (&self.members[*a].0, &self.members[*b].0);
                    super::ops::compare(a, b).unwrap_or(std::cmp::Ordering::Equal)
                });
                order
            }
        }
    }

    pub(super) fn position(&self, key: &Val<'e>) -> Option<usize> {
        self.members.iter().position(|(known, _)| known.equals(key))
    }

    pub(super) fn get(&self, key: &Val<'e>) -> Option<&Val<'e>> {
        self.members.iter().find(|(known, _)| known.equals(key)).map(|(_, value)| value)
    }

    pub(super) fn get_text(&self, key: &str) -> Option<&Val<'e>> {
        let fits = |known: &Val<'_>| matches!(known, Val::Text(text) if text.as_str() == key);
        self.members.iter().find(|(known, _)| fits(known)).map(|(_, value)| value)
    }

    /// Sets `key` and returns what stood there.
    pub(super) fn put(&mut self, key: Val<'e>, value: Val<'e>) -> Option<Val<'e>> {
        match self.position(&key) {
            Some(at) => Some(std::mem::replace(&mut self.members[at].1, value)),
            None => {
                self.members.push((key, value));
                None
            }
        }
    }

    pub(super) fn remove(&mut self, key: &Val<'e>) -> Option<Val<'e>> {
        self.position(key).map(|at| self.members.remove(at).1)
    }
}
