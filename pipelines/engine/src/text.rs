//! Values as Java prints them: `toString()` of what an ingest document holds.

use compact_str::{CompactString, ToCompactString};
use event::Value;

/// The value as `String.valueOf` gives it.
pub(crate) fn java_text(value: &Value) -> CompactString {
    match value {
        Value::Text(text) | Value::Big(text) => text.clone(),
        Value::Null => CompactString::const_new("null"),
        Value::Bool(flag) => flag.to_compact_string(),
        Value::Int(number) => number.to_compact_string(),
        Value::Long(number) => number.to_compact_string(),
        Value::Float(number) if number.is_finite() => java_number(ryu::Buffer::new().format_finite(*number)),
        Value::Double(number) if number.is_finite() => java_number(ryu::Buffer::new().format_finite(*number)),
        Value::Float(number) => not_finite(f64::from(*number)),
        Value::Double(number) => not_finite(*number),
        Value::Array(values) => {
            let texts: Vec<_> = values.iter().map(java_text).collect();
            CompactString::from(format!("[{}]", texts.join(", ")))
        }
        Value::Object(object) => {
            let texts: Vec<_> = object.iter().map(|(key, value)| format!("{key}={}", java_text(value))).collect();
            CompactString::from(format!("{{{}}}", texts.join(", ")))
        }
    }
}

fn not_finite(number: f64) -> CompactString {
    CompactString::const_new(match number {
        _ if number.is_nan() => "NaN",
        _ if number > 0.0 => "Infinity",
        _ => "-Infinity",
    })
}

/// Java writes a point always, and an exponent outside of 10^-3..10^7.
fn java_number(shortest: &str) -> CompactString {
    let (sign, shortest) = shortest.strip_prefix('-').map_or(("", shortest), |rest| ("-", rest));
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return CompactString::from(format!("{sign}0.0"));
    }
    let zeros = (digits.len() - significant.len()) as i32;
    // The number is 0.SIGNIFICANT times ten to the power of `point`.
    let point = whole.len() as i32 + exponent.parse::<i32>().unwrap_or(0) - zeros;
    let significant = significant.trim_end_matches('0');
    let at = |index: usize| significant.chars().nth(index).unwrap_or('0');
    let range = |from: usize| significant.chars().skip(from).collect::<String>();
    let text = match point {
        -2..=0 => format!("{sign}0.{}{significant}", "0".repeat(point.unsigned_abs() as usize)),
        1..=7 => {
            let whole: String = (0..point as usize).map(at).collect();
            let rest = range(point as usize);
            format!("{sign}{whole}.{}", if rest.is_empty() { "0" } else { &rest })
        }
        _ => {
            let rest = range(1);
            format!("{sign}{}.{}E{}", at(0), if rest.is_empty() { "0" } else { &rest }, point - 1)
        }
    };
    CompactString::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_java_writes_them() {
        for (number, text) in [
            (0.0, "0.0"),
            (-1.5, "-1.5"),
            (100.0, "100.0"),
            (1_234_567.0, "1234567.0"),
            (12_345_678.0, "1.2345678E7"),
            (1e7, "1.0E7"),
            (0.001, "0.001"),
            (0.000_12, "1.2E-4"),
            (1e100, "1.0E100"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(java_text(&Value::Double(number)), text);
        }
    }

    #[test]
    fn lists_and_maps_are_written_as_java_writes_them() {
        let value = Value::from_json(br#"{"a":[1,"x",null],"b":{"c":true}}"#).expect("JSON");
        assert_eq!(java_text(&value), "{a=[1, x, null], b={c=true}}");
    }
}
