//! Static methods, static fields and constructors of the classes that scripts may name.

mod format;
mod number;

use super::class::Class;
use super::machine::{Eval, Given, Machine};
use super::methods::{collection, int_of, stream, text_of};
use super::thrown::{Thrown, throw};
use super::value::{Collector, Map, NamedZone, Obj, Order, Val};
use super::{access, ops, time};
use crate::date::{Stamp, Zone};
use crate::text::java_text;
use compact_str::CompactString;
use event::Value;
use event::document::Duplicates;
use std::cell::RefCell;
use std::cmp::Ordering;

/// Any number of arguments.
const ANY: usize = usize::MAX;

const METHODS: &[(Class, &str, usize)] = &[
    (Class::Arrays, "asList", ANY),
    (Class::Collections, "emptyList", 0),
    (Class::Collections, "emptyMap", 0),
    (Class::Collections, "frequency", 2),
    (Class::Collections, "max", 1),
    (Class::Collections, "min", 1),
    (Class::Collections, "reverse", 1),
    (Class::Collections, "singletonList", 1),
    (Class::Collections, "sort", 1),
    (Class::Collections, "sort", 2),
    (Class::Collections, "unmodifiableList", 1),
    (Class::Collections, "unmodifiableMap", 1),
    (Class::Collectors, "joining", 0),
    (Class::Collectors, "joining", 1),
    (Class::Collectors, "joining", 3),
    (Class::Collectors, "toList", 0),
    (Class::Collectors, "toSet", 0),
    (Class::DateTimeFormatter, "ofPattern", 1),
    (Class::DateTimeFormatter, "ofPattern", 2),
    (Class::Duration, "between", 2),
    (Class::Duration, "ofMillis", 1),
    (Class::Duration, "ofMinutes", 1),
    (Class::Duration, "ofSeconds", 1),
    (Class::Instant, "ofEpochMilli", 1),
    (Class::Instant, "ofEpochSecond", 1),
    (Class::Instant, "parse", 1),
    (Class::Objects, "equals", 2),
    (Class::Objects, "isNull", 1),
    (Class::Objects, "nonNull", 1),
    (Class::Objects, "requireNonNull", 1),
    (Class::Objects, "toString", 1),
    (Class::Objects, "toString", 2),
    (Class::Pattern, "quote", 1),
    (Class::Processors, "bytes", 1),
    (Class::Processors, "json", 1),
    (Class::Processors, "lowercase", 1),
    (Class::Processors, "uppercase", 1),
    (Class::Processors, "urlDecode", 1),
    (Class::String, "format", ANY),
    (Class::String, "join", 2),
    (Class::String, "valueOf", 1),
    (Class::ZoneId, "of", 1),
    (Class::ZoneOffset, "of", 1),
    (Class::ZonedDateTime, "of", 8),
    (Class::ZonedDateTime, "ofInstant", 2),
    (Class::ZonedDateTime, "parse", 1),
    (Class::ZonedDateTime, "parse", 2),
];

/// What can be made with `new`, with how many arguments.
const CONSTRUCTORS: &[(Class, usize)] = &[
    (Class::ArrayList, 0),
    (Class::ArrayList, 1),
    (Class::HashMap, 0),
    (Class::HashMap, 1),
    (Class::HashSet, 0),
    (Class::HashSet, 1),
    (Class::LinkedHashMap, 0),
    (Class::LinkedHashMap, 1),
    (Class::String, 0),
    (Class::StringBuilder, 0),
    (Class::StringBuilder, 1),
    (Class::StringTokenizer, 1),
    (Class::StringTokenizer, 2),
    (Class::TreeMap, 0),
];

/// True if `class.name` takes so many arguments.
pub(super) fn known(class: Class, name: &str, count: usize) -> bool {
    let fits = |known: usize| known == count || known == ANY && count > 0;
    METHODS.iter().any(|(of, known, takes)| *of == class && *known == name && fits(*takes))
        || number::METHODS.iter().any(|(of, known, takes)| *of == class && *known == name && *takes == count)
}

/// True if there is a field `class.name`.
pub(super) fn known_field(class: Class, name: &str) -> bool {
    field(class, name).is_ok()
}

/// True if `new class` takes so many arguments.
pub(super) fn known_constructor(class: Class, count: usize) -> bool {
    CONSTRUCTORS.contains(&(class, count)) || class.is_exception() && count <= 1
}

/// `class.name`.
pub(super) fn field<'e>(class: Class, name: &str) -> Eval<'e> {
    Ok(match (class, name) {
        (Class::Locale, "ROOT" | "ENGLISH" | "US" | "UK") => Val::object(Obj::Locale),
        (Class::ZoneOffset, "UTC") => Val::object(Obj::Zone(NamedZone { id: "Z".into(), zone: Zone::UTC })),
        (Class::Collections, "EMPTY_LIST") => Val::list(Vec::new()),
        (Class::Collections, "EMPTY_MAP") => Val::map(Vec::new(), Order::Hash),
        (Class::Instant, "EPOCH") => Val::object(Obj::Instant(Stamp { seconds: 0, nano: 0, offset: 0 })),
        (Class::ChronoUnit, name) => match time::UNITS.iter().find(|(constant, ..)| *constant == name) {
            Some((_, unit, length)) => Val::object(Obj::Unit(unit, *length)),
            None => return throw(Class::IllegalArgumentException, format!("no ChronoUnit [{name}]")),
        },
        _ => return number::field(class, name),
    })
}

fn value<'a, 'e>(given: &'a Given<'e>) -> Result<&'a Val<'e>, Box<Thrown>> {
    match given {
        Given::Value(value) => Ok(value),
        _ => throw(Class::ClassCastException, "a lambda where a value is expected"),
    }
}

/// `class.name(args)`.
pub(super) fn call<'e>(machine: &mut Machine<'e>, class: Class, name: &str, args: &[Given<'e>]) -> Eval<'e> {
    if let (Class::Collections, "sort", [list, Given::Lambda(lambda)]) = (class, name, args) {
        let list = value(list)?;
        let values = access::elements(machine, list)?;
        let sorted = collection::sort_with(machine, values, lambda)?;
        return put_back(list, sorted);
    }
    let values: Result<Vec<_>, _> = args.iter().map(|given| value(given).cloned()).collect();
    let values = values?;
    if let Some(result) = number::call(class, name, &values)? {
        return Ok(result);
    }
    match class {
        Class::String => of_string(machine, name, &values),
        Class::Collections => of_collections(machine, name, &values),
        Class::Processors => of_processors(name, &values),
        Class::Objects => of_objects(name, &values),
        Class::Arrays => spread(machine, &values).map(Val::list),
        Class::Collectors => of_collectors(name, &values),
        Class::Pattern => {
            let quoted: String = ["\\Q", text_of(&values[0])?, "\\E"].concat();
            Ok(Val::text(quoted))
        }
        _ => of_time(class, name, &values),
    }
}

fn unsupported<T>(class: Class, name: &str) -> Result<T, Box<Thrown>> {
    throw(Class::IllegalArgumentException, format!("static method [{}, {name}] is not supported", class.full_name()))
}

fn of_string<'e>(machine: &mut Machine<'e>, name: &str, values: &[Val<'e>]) -> Eval<'e> {
    let text: CompactString = match (name, values) {
        ("valueOf", [Val::Object(object)]) if matches!(**object, Obj::Array(_)) => {
            access::elements(machine, &values[0])?.iter().map(Val::to_text).collect()
        }
        ("valueOf", [value]) => value.to_text(),
        ("join", [separator, list]) => {
            let texts: Vec<_> = access::elements(machine, list)?.iter().map(Val::to_text).collect();
            texts.join(text_of(separator)?).into()
        }
        ("format", [Val::Object(object), format, args @ ..]) if matches!(**object, Obj::Locale) => {
            format::format(text_of(format)?, &spread(machine, args)?)?.into()
        }
        ("format", [format, args @ ..]) => format::format(text_of(format)?, &spread(machine, args)?)?.into(),
        _ => return unsupported(Class::String, name),
    };
    machine.charge(text.len())?;
    Ok(Val::text(text))
}

/// A single array stands for the arguments themselves.
fn spread<'e>(machine: &mut Machine<'e>, args: &[Val<'e>]) -> Result<Vec<Val<'e>>, Box<Thrown>> {
    match args {
        [array @ Val::Object(object)] if matches!(**object, Obj::Array(_)) => access::elements(machine, array),
        args => Ok(args.to_vec()),
    }
}

/// Puts `values` in the place of what `list` holds.
fn put_back<'e>(list: &Val<'e>, values: Vec<Val<'e>>) -> Eval<'e> {
    if let Val::Object(object) = list
        && let Obj::List(cell) = &**object
    {
        *cell.try_borrow_mut().map_err(|_| Thrown::concurrent())? = values;
        return Ok(Val::Null);
    }
    Err(Thrown::silent(Class::UnsupportedOperationException))
}

fn of_collections<'e>(machine: &mut Machine<'e>, name: &str, values: &[Val<'e>]) -> Eval<'e> {
    match (name, values) {
        ("emptyList", []) => Ok(Val::list(Vec::new())),
        ("emptyMap", []) => Ok(Val::map(Vec::new(), Order::Hash)),
        ("singletonList", [value]) => Ok(Val::list(vec![value.clone()])),
        // What would change it later is not refused: pipelines make these to hand them on.
        ("unmodifiableList", [list]) => access::elements(machine, list).map(Val::list),
        ("unmodifiableMap", [map]) => Ok(Val::map(access::members(machine, map)?.unwrap_or_default(), Order::Linked)),
        ("frequency", [list, value]) => {
            let count = access::elements(machine, list)?.iter().filter(|known| known.equals(value)).count();
            Ok(Val::Int(count as i32))
        }
        ("max", [list]) => stream::extreme(access::elements(machine, list)?, Ordering::Greater),
        ("min", [list]) => stream::extreme(access::elements(machine, list)?, Ordering::Less),
        ("sort", [list]) => {
            let values = access::elements(machine, list)?;
            let sorted = collection::sort(machine, values)?;
            put_back(list, sorted)
        }
        ("reverse", [list]) => {
            let mut values = access::elements(machine, list)?;
            values.reverse();
            put_back(list, values)
        }
        _ => unsupported(Class::Collections, name),
    }
}

fn of_collectors<'e>(name: &str, values: &[Val<'e>]) -> Eval<'e> {
    let text = |at: usize| values.get(at).map_or(Ok(CompactString::default()), |text| text_of(text).map(Into::into));
    let collector = match name {
        "toList" => Collector::List,
        "toSet" => Collector::Set,
        _ => Collector::Joining(text(0)?, text(1)?, text(2)?),
    };
    Ok(Val::object(Obj::Collector(collector)))
}

fn of_objects<'e>(name: &str, values: &[Val<'e>]) -> Eval<'e> {
    Ok(match (name, values) {
        ("equals", [a, b]) => Val::Bool(a.equals(b)),
        ("isNull", [value]) => Val::Bool(matches!(value, Val::Null)),
        ("nonNull", [value]) => Val::Bool(!matches!(value, Val::Null)),
        ("requireNonNull", [Val::Null]) => return Err(Thrown::silent(Class::NullPointerException)),
        ("requireNonNull", [value]) => value.clone(),
        ("toString", [Val::Null, default]) => default.clone(),
        ("toString", [value, ..]) => Val::text(value.to_text()),
        _ => return unsupported(Class::Objects, name),
    })
}

/// What the processors of these names do, for scripts.
fn of_processors<'e>(name: &str, values: &[Val<'e>]) -> Eval<'e> {
    let [value] = values else { return unsupported(Class::Processors, name) };
    if name == "json" {
        let text = text_of(value)?;
        let parsed = Value::from_json_with(text.as_bytes(), Duplicates::Refuse);
        return match parsed {
            Ok(value) => Ok(Val::owned(value)),
            Err(error) => throw(Class::IllegalArgumentException, error.to_string()),
        };
    }
    let text = text_of(value)?;
    Ok(match name {
        "lowercase" => Val::text(text.to_lowercase()),
        "uppercase" => Val::text(text.to_uppercase()),
        "bytes" => match crate::processors::bytes::parse(text, "Ingest Field") {
            Ok(bytes) => Val::Long(bytes),
            Err(problem) => return throw(Class::IllegalArgumentException, problem.reason),
        },
        "urlDecode" => match crate::processors::urldecode::decode(text) {
            Ok(decoded) => Val::text(decoded),
            Err(problem) => return throw(Class::IllegalArgumentException, problem),
        },
        _ => return unsupported(Class::Processors, name),
    })
}

fn of_time<'e>(class: Class, name: &str, values: &[Val<'e>]) -> Eval<'e> {
    let long = |value: &Val<'e>| match ops::cast(value.clone(), super::ast::Type::Long, false)? {
        Val::Long(number) => Ok(number),
        _ => int_of(value).map(i64::from),
    };
    match (class, name, values) {
        (Class::Instant, "ofEpochMilli", [millis]) => time::instant_of_millis(long(millis)?),
        (Class::Instant, "ofEpochSecond", [seconds]) => time::instant_of_millis(long(seconds)?.saturating_mul(1000)),
        (Class::Instant, "parse", [text]) => time::parse(text_of(text)?, None, true),
        (Class::ZonedDateTime, "parse", [text]) => time::parse(text_of(text)?, None, false),
        (Class::ZonedDateTime, "parse", [text, formatter]) => time::parse(text_of(text)?, Some(formatter), false),
        (Class::ZonedDateTime, "ofInstant", [instant, zone]) => time::zoned_of(instant, zone),
        (Class::ZonedDateTime, "of", [parts @ .., zone]) => {
            let parts: Result<Vec<_>, _> = parts.iter().map(int_of).collect();
            time::zoned_from(&parts?, zone)
        }
        (Class::ZoneId | Class::ZoneOffset, "of", [id]) => time::zone(text_of(id)?),
        (Class::DateTimeFormatter, "ofPattern", [pattern, ..]) => time::formatter(text_of(pattern)?),
        (Class::Duration, "between", [from, to]) => time::between(from, to),
        (Class::Duration, "ofMillis" | "ofSeconds" | "ofMinutes", [amount]) => {
            let unit = match name {
                "ofMillis" => 1_000_000,
                "ofSeconds" => 1_000_000_000,
                _ => 60_000_000_000,
            };
            Ok(Val::object(Obj::Duration(i128::from(long(amount)?) * unit)))
        }
        _ => unsupported(class, name),
    }
}

/// `new class(args)`.
pub(super) fn construct<'e>(machine: &mut Machine<'e>, class: Class, args: &[Val<'e>]) -> Eval<'e> {
    if class.is_exception() {
        let message = args.first().filter(|message| !matches!(message, Val::Null)).map(Val::to_text);
        return Ok(Val::object(Obj::Exception(class, message)));
    }
    match (class, args) {
        (Class::ArrayList, []) => Ok(Val::list(Vec::new())),
        // A number is the room that is made at once, which is not ours to say.
        (Class::ArrayList, [Val::Int(_)]) => Ok(Val::list(Vec::new())),
        (Class::ArrayList, [list]) => access::elements(machine, list).map(Val::list),
        (Class::HashSet, []) => Ok(Val::object(Obj::Set(RefCell::default()))),
        (Class::HashSet, [list]) => {
            let mut kept: Vec<Val<'e>> = Vec::new();
            for value in access::elements(machine, list)? {
                machine.step(kept.len())?;
                if !kept.iter().any(|known| known.equals(&value)) {
                    kept.push(value);
                }
            }
            Ok(Val::object(Obj::Set(RefCell::new(kept))))
        }
        (Class::HashMap | Class::LinkedHashMap | Class::TreeMap, args) => {
            let order = match class {
                Class::HashMap => Order::Hash,
                Class::LinkedHashMap => Order::Linked,
                _ => Order::Sorted,
            };
            let members = match args {
                [] | [Val::Int(_)] => Vec::new(),
                [map, ..] => match access::members(machine, map)? {
                    Some(members) => members,
                    None => {
                        let class = map.class_name();
                        return throw(Class::ClassCastException, format!("Cannot cast {class} to java.util.Map"));
                    }
                },
            };
            Ok(Val::object(Obj::Map(RefCell::new(Map { members, order }))))
        }
        (Class::String, []) => Ok(Val::text("")),
        (Class::StringBuilder, []) => Ok(Val::object(Obj::Builder(RefCell::default()))),
        (Class::StringBuilder, [text]) => {
            let text = text.to_text();
            machine.charge(text.len())?;
            Ok(Val::object(Obj::Builder(RefCell::new(text.into()))))
        }
        (Class::StringTokenizer, [text, rest @ ..]) => {
            let text = text_of(text)?;
            let delimiters = rest.first().map_or(Ok(" \t\n\r\u{c}"), text_of)?;
            let parts: Vec<CompactString> = text
                .split(|c| delimiters.contains(c))
                .filter(|part| !part.is_empty())
                .map(CompactString::from)
                .collect();
            machine.charge_elements(parts.len())?;
            machine.charge(text.len())?;
            Ok(Val::object(Obj::Tokenizer(RefCell::new(parts.into_iter()))))
        }
        _ => unsupported(class, "<init>"),
    }
}

/// The number as Java prints it.
fn printed(value: Value) -> CompactString {
    java_text(&value)
}
