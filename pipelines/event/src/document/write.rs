//! A [`Value`] in, JSON text out: no white space, everything but what must be escaped as it is.

use super::plain::plain_bytes;
use super::{Event, Object, Value};

impl Value {
    /// Appends the value as JSON to `out`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Int(number) => out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
            Self::Long(number) => out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
            Self::Big(digits) => out.extend_from_slice(digits.as_bytes()),
            Self::Float(number) if number.is_finite() => {
                out.extend_from_slice(ryu::Buffer::new().format_finite(*number).as_bytes());
            }
            Self::Double(number) if number.is_finite() => {
                out.extend_from_slice(ryu::Buffer::new().format_finite(*number).as_bytes());
            }
            // JSON has no such numbers; Elasticsearch writes Java's names in quotes.
            Self::Float(number) => write_not_finite(f64::from(*number), out),
            Self::Double(number) => write_not_finite(*number, out),
            Self::Text(text) => write_text(text, out),
            Self::Array(array) => {
                out.push(b'[');
                for (nth, value) in array.iter().enumerate() {
                    if nth > 0 {
                        out.push(b',');
                    }
                    value.write_json(out);
                }
                out.push(b']');
            }
            Self::Object(object) => object.write_json(out),
        }
    }

    /// The value as JSON text.
    pub fn to_json(&self) -> String {
        let mut out = Vec::new();
        self.write_json(&mut out);
        String::from_utf8(out).expect("JSON is written from valid text")
    }
}

impl Object {
    /// Appends the object as JSON to `out`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write_members(out);
        out.push(b'}');
    }

    /// Appends the members as JSON without the braces, so that a caller can add its own.
    pub fn write_members(&self, out: &mut Vec<u8>) {
        for (nth, (key, value)) in self.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            write_text(key, out);
            out.push(b':');
            value.write_json(out);
        }
    }
}

impl Event {
    /// Appends the source as JSON to `out`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        self.source.write_json(out);
    }
}

fn write_not_finite(number: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(match number {
        _ if number.is_nan() => b"\"NaN\"",
        _ if number > 0.0 => b"\"Infinity\"",
        _ => b"\"-Infinity\"",
    });
}

/// Appends `text` in quotes, escaped.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    crate::steps::count(rest.len());
    out.reserve(rest.len() + 2);
    out.push(b'"');
    loop {
        let clean = plain_bytes(rest);
        out.extend_from_slice(&rest[..clean]);
        let Some(byte) = rest.get(clean) else { break };
        write_escaped(*byte, out);
        rest = &rest[clean + 1..];
    }
    out.push(b'"');
}

fn write_escaped(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<i32>().prop_map(Into::into),
            prop::num::f64::NORMAL.prop_map(Into::into),
            any::<String>().prop_map(Into::into),
            "[ -~\n\t\"\\\\\u{0}-\u{1f}é€😀]{0,40}".prop_map(Into::into),
        ];
        leaf.prop_recursive(5, 60, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
                prop::collection::hash_map(any::<String>(), inner, 0..8)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_as_the_same_value(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.expect("JSON values can be written");
            let ours = Value::from_json(text.as_bytes()).expect("serde_json writes JSON").to_json();
            // Their reading of doubles is off by a bit at times: so they read both texts.
            let theirs: serde_json::Value = serde_json::from_str(&text).expect("serde_json reads its own");
            let back: serde_json::Value = serde_json::from_str(&ours).expect("we write JSON");
            prop_assert_eq!(back, theirs);
        }

        #[test]
        fn reading_agrees_with_serde_json_on_any_text(text in "[\\[\\]{}\",:0-9eE+. tfnrulsa\\\\-]{0,24}") {
            // A key that stands twice and lone surrogates are the known differences; neither changes whether it is JSON.
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            let ours = Value::from_json(text.as_bytes());
            let too_large = theirs.as_ref().is_err_and(|error| error.to_string().contains("number out of range"));
            prop_assert!(too_large || ours.is_ok() == theirs.is_ok(), "{text}: {ours:?} {theirs:?}");
        }
    }

    #[test]
    fn numbers_that_json_lacks_are_javas_names() {
        let mut out = Vec::new();
        Value::Array(vec![Value::Double(f64::NAN), Value::Float(f32::NEG_INFINITY)]).write_json(&mut out);
        assert_eq!(out, br#"["NaN","-Infinity"]"#);
    }
}
