//! `convert`: a value, or every value of a list, into another type, by the rules of Java's parsers.

use crate::failure::Problem;
use crate::options::{Options, Wrong};
use crate::pipeline::{Flow, Run, Step};
use crate::text::java_text;
use event::{Event, FieldPath, Value};
use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) const OPTIONS: &[&str] = &["field", "ignore_missing", "target_field", "type"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Auto,
    Boolean,
    Double,
    Float,
    Integer,
    Ip,
    Long,
    Text,
}

const TYPES: &[(&str, Type)] = &[
    ("auto", Type::Auto),
    ("boolean", Type::Boolean),
    ("double", Type::Double),
    ("float", Type::Float),
    ("integer", Type::Integer),
    ("ip", Type::Ip),
    ("long", Type::Long),
    ("string", Type::Text),
];

#[derive(Debug)]
struct Convert {
    field: FieldPath,
    target: FieldPath,
    ignore_missing: bool,
    to: Type,
    name: &'static str,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let wanted = options.text("type")?.to_lowercase();
    let Some((name, to)) = TYPES.iter().find(|(name, _)| *name == wanted) else {
        let all: Vec<_> = TYPES.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "[type] type [{wanted}] not supported, cannot convert field. There are: {}",
            all.join(", ")
        ));
    };
    let target = options.path_or("target_field", &field)?;
    Ok(Box::new(Convert { field, target, ignore_missing: options.flag("ignore_missing", false)?, to: *to, name }))
}

impl Step for Convert {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let converted = match event.get(&self.field) {
            None | Some(Value::Null) if self.ignore_missing => return Ok(Flow::Continue),
            None => return Err(event.resolve(&self.field).err().map_or_else(|| Problem::new("missing"), Into::into)),
            Some(Value::Null) => {
                let (field, name) = (&self.field, self.name);
                return Err(Problem::new(format!("Field [{field}] is null, cannot be converted to type [{name}]")));
            }
            Some(Value::Array(values)) => {
                let converted: Result<Vec<_>, _> = values.iter().map(|value| convert(value, self.to)).collect();
                Value::Array(converted?)
            }
            Some(value) => convert(value, self.to)?,
        };
        event.set(&self.target, converted)?;
        Ok(Flow::Continue)
    }
}

/// `value` as `to`.
fn convert(value: &Value, to: Type) -> Result<Value, Box<Problem>> {
    let owned;
    let text = match value {
        Value::Text(text) => text.as_str(),
        Value::Null if !matches!(to, Type::Auto | Type::Ip) => {
            return Err(Problem::null("Cannot invoke \"Object.toString()\" because \"value\" is null"));
        }
        other => {
            owned = java_text(other);
            owned.as_str()
        }
    };
    let unable = |name: &str, cause: String| Problem::caused(format!("unable to convert [{text}] to {name}"), cause);
    match to {
        Type::Integer => {
            let number = integer(text).and_then(|number| i32::try_from(number).ok());
            number.map(Value::Int).ok_or_else(|| unable("integer", no_number(text)))
        }
        Type::Long => integer(text).map(Value::Long).ok_or_else(|| unable("long", no_number(text))),
        Type::Float => java_float(text).map(Value::Float).ok_or_else(|| unable("float", no_float(text))),
        Type::Double => java_double(text).map(Value::Double).ok_or_else(|| unable("double", no_float(text))),
        Type::Boolean => boolean(text)
            .ok_or_else(|| Problem::new(format!("[{text}] is not a boolean value, cannot convert to boolean"))),
        Type::Ip if matches!(value, Value::Text(_)) && is_ip(text) => Ok(value.clone()),
        Type::Ip => Err(Problem::new(format!("[{text}] is not a valid ipv4/ipv6 address"))),
        Type::Text => Ok(Value::from(text)),
        Type::Auto => Ok(if matches!(value, Value::Text(_)) { auto(text) } else { value.clone() }),
    }
}

/// The first type that fits, as the original tries them.
fn auto(text: &str) -> Value {
    let number = || integer(text).map(Value::integer);
    boolean(text).or_else(number).or_else(|| java_float(text).map(Value::Float)).unwrap_or_else(|| Value::from(text))
}

fn boolean(text: &str) -> Option<Value> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(Value::Bool(true)),
        _ if text.eq_ignore_ascii_case("false") => Some(Value::Bool(false)),
        _ => None,
    }
}

/// An integer as `Integer.parseInt` and `Long.parseLong` read it; with `0x` or `-0x` as `decode` does.
fn integer(text: &str) -> Option<i64> {
    let hex = |digits: &str| i128::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with(['+', '-']));
    match (text.strip_prefix("0x"), text.strip_prefix("-0x")) {
        (Some(digits), _) => hex(digits).and_then(|number| i64::try_from(number).ok()),
        (_, Some(digits)) => hex(digits).and_then(|number| i64::try_from(-number).ok()),
        _ => text.parse().ok(),
    }
}

/// What Java's `NumberFormatException` says.
pub(crate) fn no_number(text: &str) -> String {
    format!("For input string: \"{text}\"")
}

/// What Java's `NumberFormatException` says of a text that is no floating point number.
pub(crate) fn no_float(text: &str) -> String {
    let number = java_trim(text).trim_start_matches(['+', '-']);
    let start = number.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(number.len());
    match java_trim(text) {
        "" => "empty String".to_owned(),
        _ if number.get(..start).is_some_and(|digits| digits.matches('.').count() > 1) => "multiple points".to_owned(),
        _ => no_number(text),
    }
}

/// `Float.parseFloat`.
pub(crate) fn java_float(text: &str) -> Option<f32> {
    decimal(text).and_then(|decimal| decimal.parse().ok())
}

/// `Double.parseDouble`.
pub(crate) fn java_double(text: &str) -> Option<f64> {
    decimal(text).and_then(|decimal| decimal.parse().ok())
}

fn java_trim(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ')
}

/// What Rust can parse of what Java would: white space around it, a suffix `d` or `f`, `NaN` and `Infinity` as such.
/// Hexadecimal floating point numbers are not read.
fn decimal(text: &str) -> Option<&str> {
    let text = java_trim(text);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, "NaN" | "Infinity") {
        return Some(text);
    }
    let suffixed = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let number = |byte: u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    suffixed.bytes().all(number).then_some(suffixed)
}

/// An address as Guava's `InetAddresses.isInetAddress` knows one: no leading zeros, a zone only after an IPv6 address.
fn is_ip(text: &str) -> bool {
    text.parse::<Ipv4Addr>().is_ok() || {
        let address = text.split_once('%').map_or(text, |(address, _)| address);
        address.parse::<Ipv6Addr>().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, to: Type, expected: Result<Value, &str>) {
        let got = convert(&Value::from(text), to).map_err(|problem| problem.reason);
        assert_eq!(got, expected.map_err(str::to_owned));
    }

    #[test]
    fn texts_are_read_as_java_reads_them() {
        check("+5", Type::Integer, Ok(Value::Int(5)));
        check("0x1F", Type::Integer, Ok(Value::Int(31)));
        check("-0x1F", Type::Long, Ok(Value::Long(-31)));
        check("2147483648", Type::Integer, Err("unable to convert [2147483648] to integer"));
        check("1.0", Type::Long, Err("unable to convert [1.0] to long"));
        check(" 5", Type::Integer, Err("unable to convert [ 5] to integer"));
        check(" 5.5f ", Type::Double, Ok(Value::Double(5.5)));
        check("inf", Type::Double, Err("unable to convert [inf] to double"));
        check("-Infinity", Type::Float, Ok(Value::Float(f32::NEG_INFINITY)));
        check("1e3", Type::Float, Ok(Value::Float(1000.0)));
        check("", Type::Double, Err("unable to convert [] to double"));
        check("TRUE", Type::Boolean, Ok(Value::Bool(true)));
        check("yes", Type::Boolean, Err("[yes] is not a boolean value, cannot convert to boolean"));
        check("10.0.0.1", Type::Ip, Ok("10.0.0.1".into()));
        check("::ffff:1.2.3.4", Type::Ip, Ok("::ffff:1.2.3.4".into()));
        check("10.0.0.01", Type::Ip, Err("[10.0.0.01] is not a valid ipv4/ipv6 address"));
    }

    #[test]
    fn auto_takes_the_first_type_that_fits() {
        check("true", Type::Auto, Ok(Value::Bool(true)));
        check("12", Type::Auto, Ok(Value::Int(12)));
        check("9223372036854775807", Type::Auto, Ok(Value::Long(i64::MAX)));
        check("1.5", Type::Auto, Ok(Value::Float(1.5)));
        check("x", Type::Auto, Ok("x".into()));
    }
}
