//! Values as Java names and prints them.

use super::{NESTING_MAX, Obj, Order, Val, View};
use crate::painless::time;
use crate::text::{hash_order, java_text};
use compact_str::CompactString;
use event::Value;
use std::cell::RefCell;

impl Val<'_> {
    /// The name of its Java class.
    pub(in crate::painless) fn class_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "java.lang.Boolean",
            Self::Byte(_) => "java.lang.Byte",
            Self::Short(_) => "java.lang.Short",
            Self::Char(_) => "java.lang.Character",
            Self::Int(_) => "java.lang.Integer",
            Self::Long(_) => "java.lang.Long",
            Self::Float(_) => "java.lang.Float",
            Self::Double(_) => "java.lang.Double",
            Self::Big(_) => "java.math.BigInteger",
            Self::Text(_) => "java.lang.String",
            Self::Doc(value) => value.java_class(),
            Self::Event(_) => "java.util.HashMap",
            Self::Object(object) => match &**object {
                Obj::List(_) => "java.util.ArrayList",
                Obj::Array(_) => "java.lang.Object[]",
                Obj::Set(_) => "java.util.HashSet",
                Obj::Map(map) => match map.try_borrow().map_or(Order::Hash, |map| map.order) {
                    Order::Hash => "java.util.HashMap",
                    Order::Linked => "java.util.LinkedHashMap",
                    Order::Sorted => "java.util.TreeMap",
                },
                Obj::View(_, View::Keys) => "java.util.HashMap$KeySet",
                Obj::View(_, View::Values) => "java.util.HashMap$Values",
                Obj::View(_, View::Entries) => "java.util.HashMap$EntrySet",
                Obj::Entry(..) => "java.util.HashMap$Node",
                Obj::Iterator(_) => "java.util.Iterator",
                Obj::Stream(_) => "java.util.stream.Stream",
                Obj::Collector(_) => "java.util.stream.Collector",
                Obj::Optional(_) => "java.util.Optional",
                Obj::Builder(_) => "java.lang.StringBuilder",
                Obj::Tokenizer(_) => "java.util.StringTokenizer",
                Obj::Pattern(_) => "java.util.regex.Pattern",
                Obj::Matcher(_) => "java.util.regex.Matcher",
                Obj::Instant(_) => "java.time.Instant",
                Obj::Zoned(..) => "java.time.ZonedDateTime",
                Obj::Zone(_) => "java.time.ZoneRegion",
                Obj::Formatter(_) => "java.time.format.DateTimeFormatter",
                Obj::Duration(_) => "java.time.Duration",
                Obj::Unit(..) => "java.time.temporal.ChronoUnit",
                Obj::Locale => "java.util.Locale",
                Obj::Exception(class, _) => class.full_name(),
            },
        }
    }

    /// The name of its type, as messages about casts have it: `int` for an `Integer`.
    pub(in crate::painless) fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "boolean",
            Self::Byte(_) => "byte",
            Self::Short(_) => "short",
            Self::Char(_) => "char",
            Self::Int(_) => "int",
            Self::Long(_) => "long",
            Self::Float(_) => "float",
            Self::Double(_) => "double",
            other => other.class_name(),
        }
    }

    /// The value as `String.valueOf` gives it.
    pub(in crate::painless) fn to_text(&self) -> CompactString {
        self.text_at(0)
    }

    fn text_at(&self, depth: u32) -> CompactString {
        let plain = |value: Value| java_text(&value);
        match self {
            Self::Null => plain(Value::Null),
            Self::Bool(flag) => plain(Value::Bool(*flag)),
            Self::Byte(number) => plain(Value::Int(i32::from(*number))),
            Self::Short(number) => plain(Value::Int(i32::from(*number))),
            Self::Char(unit) => String::from_utf16_lossy(&[*unit]).into(),
            Self::Int(number) => plain(Value::Int(*number)),
            Self::Long(number) => plain(Value::Long(*number)),
            Self::Float(number) => plain(Value::Float(*number)),
            Self::Double(number) => plain(Value::Double(*number)),
            Self::Big(text) | Self::Text(text) => text.as_str().into(),
            Self::Doc(value) => java_text(value),
            _ if depth > NESTING_MAX => "...".into(),
            Self::Event(event) => {
                let members = event.metadata.fields.iter().chain(event.source.iter());
                java_text(&Value::Object(members.map(|(key, value)| (key.into(), value.clone())).collect()))
            }
            Self::Object(object) => object.text_at(depth),
        }
    }
}

impl Obj<'_> {
    fn text_at(&self, depth: u32) -> CompactString {
        let list = |values: &RefCell<Vec<Val<'_>>>| {
            let texts: Vec<_> = values.borrow().iter().map(|value| value.text_at(depth + 1)).collect();
            CompactString::from(format!("[{}]", texts.join(", ")))
        };
        match self {
            Self::List(values) | Self::Array(values) => list(values),
            Self::Set(values) => {
                let values = values.borrow();
                let order = hash_order(values.iter().map(Val::hash));
                let texts: Vec<_> = order.into_iter().map(|at| values[at].text_at(depth + 1)).collect();
                CompactString::from(format!("[{}]", texts.join(", ")))
            }
            Self::Map(map) => {
                let map = map.borrow();
                let member = |at: usize| {
                    let (key, value) = &map.members[at];
                    format!("{}={}", key.text_at(depth + 1), value.text_at(depth + 1))
                };
                let texts: Vec<_> = map.ordered().into_iter().map(member).collect();
                CompactString::from(format!("{{{}}}", texts.join(", ")))
            }
            Self::View(map, view) => {
                let seen = Val::object(Self::View(map.clone(), *view)).seen().unwrap_or_default();
                let texts: Vec<_> = seen.iter().map(|value| value.text_at(depth + 1)).collect();
                CompactString::from(format!("[{}]", texts.join(", ")))
            }
            Self::Entry(_, key, value) => {
                CompactString::from(format!("{}={}", key.text_at(depth + 1), value.borrow().text_at(depth + 1)))
            }
            Self::Builder(text) => CompactString::from(text.borrow().as_str()),
            Self::Pattern(pattern) => CompactString::from(pattern.text.as_str()),
            Self::Instant(stamp) => time::instant_text(stamp),
            Self::Zoned(stamp, zone) => time::zoned_text(stamp, zone),
            Self::Zone(zone) => zone.id.clone(),
            Self::Duration(nanos) => time::duration_text(*nanos),
            Self::Unit(name, _) => (*name).into(),
            Self::Exception(class, message) => match message {
                Some(message) => CompactString::from(format!("{}: {message}", class.full_name())),
                None => class.full_name().into(),
            },
            Self::Optional(Val::Null) => "Optional.empty".into(),
            Self::Optional(value) => CompactString::from(format!("Optional[{}]", value.text_at(depth + 1))),
            _ => "object".into(),
        }
    }
}
