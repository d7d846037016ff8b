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
            let members: Vec<_> = object.iter().collect();
            let text = |at: usize| format!("{}={}", members[at].0, java_text(members[at].1));
            let texts: Vec<_> =
                hash_order(members.iter().map(|(key, _)| java_hash(key))).into_iter().map(text).collect();
            CompactString::from(format!("{{{}}}", texts.join(", ")))
        }
    }
}

/// `String.hashCode`.
pub(crate) fn java_hash(text: &str) -> i32 {
    let next = |hash: i32, unit: i32| hash.wrapping_mul(31).wrapping_add(unit);
    match text.is_ascii() {
        true => text.bytes().fold(0, |hash, byte| next(hash, i32::from(byte))),
        false => text.encode_utf16().fold(0, |hash, unit| next(hash, i32::from(unit))),
    }
}

/// The places of keys with these hashes in the order in which a `HashMap` of Java's goes through them: by the table's
/// places, and in one place as they came. The table is as large as its growing made it (removals do not shrink it, which
/// is not followed here).
pub(crate) fn hash_order(hashes: impl ExactSizeIterator<Item = i32>) -> Vec<usize> {
    let mut places = 16;
    while hashes.len() > places / 4 * 3 {
        places *= 2;
    }
    let mut order: Vec<_> = hashes
        .map(|hash| hash as u32)
        .enumerate()
        .map(|(at, hash)| ((hash ^ (hash >> 16)) as usize & (places - 1), at))
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, at)| at).collect()
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
    fn maps_are_gone_through_in_the_order_of_their_hashes() {
        assert_eq!(java_hash("hello"), 99_162_322);
        let keys = ["banana", "apple", "cherry"];
        let order = hash_order(keys.iter().map(|key| java_hash(key)));
        assert_eq!(order.iter().map(|at| keys[*at]).collect::<Vec<_>>(), ["banana", "apple", "cherry"]);
        assert_eq!(hash_order([17, 1, 0].into_iter()), [2, 0, 1]);
    }

    #[test]
    fn lists_and_maps_are_written_as_java_writes_them() {
        let value = Value::from_json(br#"{"a":[1,"x",null],"b":{"c":true}}"#).expect("JSON");
        assert_eq!(java_text(&value), "{a=[1, x, null], b={c=true}}");
    }
}
