//! A value in, YAML out as a person would write it: objects as blocks, lists in brackets, texts without quotes where they
//! need none.

use event::{Object, Value};

/// Words that YAML, or some reader of it, takes for something else than a text.
const WORDS: &[&str] = &["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];

/// The members of `object`, a line each or more, `indent` spaces in.
pub(crate) fn block(object: &Object, indent: usize) -> String {
    let mut out = String::new();
    for (key, value) in object.iter() {
        out.push_str(&" ".repeat(indent));
        out.push_str(&text(key));
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push_str(":\n");
                out.push_str(&block(inner, indent + 2));
            }
            value => {
                out.push_str(": ");
                out.push_str(&flow(value));
                out.push('\n');
            }
        }
    }
    out
}

/// `value` in one line.
pub(crate) fn flow(value: &Value) -> String {
    match value {
        Value::Text(written) => text(written),
        Value::Array(values) => format!("[{}]", values.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(object) => {
            let members = object.iter().map(|(key, value)| format!("{}: {}", text(key), flow(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        other => other.to_json(),
    }
}

/// A text: plain, or in single quotes, or in double ones if it has what needs an escape.
pub(crate) fn text(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    // What a reader might take for a break, or not read at all.
    let is_odd =
        |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    if !text.contains(is_odd) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_odd(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
}

/// True if `text` means itself without quotes, wherever it stands.
fn is_plain(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '/'));
    let inside =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-' | ' ' | '+' | '=' | '(' | ')');
    starts && !text.ends_with(' ') && text.chars().all(inside) && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let json = r##"{"a.b":"warn","n":1,"d":1.5,"e":{},"l":[1,"x y",{"k":null}],"o":{"p":{"q":true}},"t":["true","1","",
            "- x","a: b","it's","\"q\"","é\n\t\\","#x","a #b"," a ","\u0000\u001b\u0085\u2028","{a}","[a","%{x}","@a","null","1e5","0x1",
            "2024-01-01","~","😀","=","a\\b","yes","|",">","&a","*a","!a","?","a,b","_x"],"a: b":1,"'":2,"":3,"true":4}"##;
        let Ok(Value::Object(object)) = Value::from_json(json.as_bytes()) else { panic!("{json}") };
        let tests = format!("- name: a case\n  input: {{}}\n  expect_exact:\n    x:\n{}", block(&object, 6));
        let pipeline = format!("processors: [{{set: {{field: x, value: {}}}}}]\n", flow(&Value::Object(object)));
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("p.yml"), pipeline).expect("written");
        std::fs::write(folder.path().join("p.tests.yml"), &tests).expect("written");
        let report = engine::cases::run(&folder.path().join("p.tests.yml")).unwrap_or_else(|error| panic!("{error}"));
        assert!(report.results[0].differences.is_empty(), "{tests}\n{:#?}", report.results[0].differences);
    }
}
