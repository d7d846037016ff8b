//! The text of a JSON object → its members, as they are written. Nothing is parsed that is not asked for.

/// Calls `each` with the name (without its quotes, escapes as written) and the value of every member of `object`.
///
/// Shape: values are slices of `object` without the white space around them. True if `object` is one object from its
/// first byte to its last; what `each` was called with before the fault was found is then to be forgotten. Strings and
/// brackets are followed, so that the members are told apart; whether a value is valid JSON is not looked at, and control
/// characters inside a string are let through.
/// Source: RFC 8259.
pub fn members<'a>(object: &'a [u8], mut each: impl FnMut(&'a [u8], &'a [u8])) -> bool {
    let mut rest = match object.trim_ascii().strip_prefix(b"{") {
        Some(rest) => rest.trim_ascii_start(),
        None => return false,
    };
    if rest == b"}" {
        return true;
    }
    loop {
        let Some(name) = string_bytes(rest) else { return false };
        let after = rest[name..].trim_ascii_start();
        let Some(after) = after.strip_prefix(b":") else { return false };
        let after = after.trim_ascii_start();
        let Some(value) = value_bytes(after) else { return false };
        each(&rest[1..name - 1], after[..value].trim_ascii_end());
        match after[value..].split_first() {
            Some((b',', next)) => rest = next.trim_ascii_start(),
            Some((b'}', [])) => return true,
            _ => return false,
        }
    }
}

/// Length of the string that `text` starts with, with its quotes.
fn string_bytes(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        at += text.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Length of the value that `text` starts with: up to the comma or bracket behind it. `None` if there is no such end.
fn value_bytes(text: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0_usize, 0_usize);
    loop {
        match text.get(at)? {
            b'"' => {
                at += string_bytes(&text[at..])?;
                continue;
            }
            b',' | b'}' if depth == 0 => return (at > 0).then_some(at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(object: &str, expected: Option<&[(&str, &str)]>) {
        let mut got = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let is_whole = members(object.as_bytes(), |name, value| got.push((text(name), text(value))));
        let expected = expected.map(|list| list.iter().map(|&(n, v)| (n.into(), v.into())).collect::<Vec<_>>());
        assert_eq!(is_whole.then_some(got), expected, "{object}");
    }

    #[test]
    fn members_are_told_apart_as_they_are_written() {
        check(r#"{"a":1,"b":"x"}"#, Some(&[("a", "1"), ("b", "\"x\"")]));
        check(r#" { "a" : [1, {"b": "},"}] , "c":null } "#, Some(&[("a", r#"[1, {"b": "},"}]"#), ("c", "null")]));
        check(r#"{"a\"":"\\"}"#, Some(&[("a\\\"", r#""\\""#)]));
        check("{\"a\":\"line\nend\"}", Some(&[("a", "\"line\nend\"")])); // Some writers do not escape it.
        check("{}", Some(&[]));
        check("{ }", Some(&[]));
    }

    #[test]
    fn what_is_no_whole_object_is_refused() {
        for text in [
            "",
            "[]",
            "1",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":1,}",
            "{\"a\":\"x}",
            "{\"a\":[1}]}",
            "{a:1}",
        ] {
            check(text, None);
        }
        check("{\"a\":1} {\"b\":2}", None);
        check("{\"a\":\"\\", None);
    }
}
