//! `uri_parts`: a URI into the fields of the Elastic Common Schema's `url`.

use crate::failure::Problem;
use crate::options::{Options, Wrong, text_at};
use crate::pipeline::{Flow, Run, Step};
use event::{Event, FieldPath, Object, Value};

pub(crate) const OPTIONS: &[&str] =
    &["field", "ignore_missing", "keep_original", "remove_if_successful", "target_field"];

#[derive(Debug)]
struct UriParts {
    field: FieldPath,
    target: FieldPath,
    keep_original: bool,
    remove_if_successful: bool,
    ignore_missing: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let target = match options.text_if_set("target_field")? {
        Some(text) => options.parse_path("target_field", &text)?,
        None => options.parse_path("target_field", "url")?,
    };
    Ok(Box::new(UriParts {
        field,
        target,
        keep_original: options.flag("keep_original", true)?,
        remove_if_successful: options.flag("remove_if_successful", false)?,
        ignore_missing: options.flag("ignore_missing", false)?,
    }))
}

impl Step for UriParts {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let Some(text) = text_at(event, &self.field, self.ignore_missing)?.cloned() else { return Ok(Flow::Continue) };
        let mut parts = parts(&text).ok_or_else(|| Problem::new(format!("unable to parse URI [{text}]")))?;
        if self.keep_original {
            parts.insert("original", Value::Text(text));
        }
        if self.remove_if_successful && self.field != self.target {
            event.remove(&self.field)?;
        }
        event.set(&self.target, Value::Object(parts))?;
        Ok(Flow::Continue)
    }
}

/// Characters that no URI has as they are; the original then reads the text as a URL, which is less strict.
fn is_strict(text: &str) -> bool {
    let bad = |c: char| c.is_ascii_control() || matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
    let escape = |rest: &str| rest.get(..2).is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    !text.contains(bad) && text.split('%').skip(1).all(escape)
}

/// The parts of `text`. `None` if it is neither a URI nor a URL.
///
/// Specified by RFC 3986, appendix B, and for what counts as a host by Java's `URI`.
fn parts(text: &str) -> Option<Object> {
    let strict = is_strict(text);
    let (rest, fragment) = text.split_once('#').map_or((text, None), |(rest, fragment)| (rest, Some(fragment)));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, rest),
    };
    if !strict && (scheme.is_none() || !rest.starts_with("//")) || text.is_empty() {
        return None;
    }
    let decode = |part: &str| if strict { decoded(part) } else { part.to_owned() };
    let mut object = Object::new();
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find('/').unwrap_or(rest.len());
            (rest.get(..end), rest.get(end..).unwrap_or_default())
        }
        None => (None, rest),
    };
    // `mailto:me` has no path at all.
    let opaque = scheme.is_some() && authority.is_none() && !rest.starts_with('/');
    if let Some(authority) = authority {
        read_authority(authority, &decode, &mut object);
    }
    if let Some(fragment) = fragment {
        object.insert("fragment", decode(fragment));
    }
    if !opaque {
        let path = decode(path);
        let last = path.rsplit('/').next().unwrap_or_default();
        if let Some((_, extension)) = last.rsplit_once('.') {
            object.insert("extension", extension);
        }
        object.insert("path", path);
    }
    if let Some(query) = query {
        object.insert("query", decode(query));
    }
    if let Some(scheme) = scheme {
        object.insert("scheme", scheme);
    }
    Some(object)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn read_authority(authority: &str, decode: &dyn Fn(&str) -> String, object: &mut Object) {
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') => {
            (host, port.parse::<i32>().ok())
        }
        _ => (host, None),
    };
    if !host.is_empty() {
        object.insert("domain", host);
    }
    if let Some(port) = port {
        object.insert("port", Value::Int(port));
    }
    if let Some(user) = user {
        let user = decode(user);
        if let Some((name, password)) = user.split_once(':') {
            object.insert("username", name);
            object.insert("password", password);
        }
        object.insert("user_info", user);
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(uri: &str, expected: &str) {
        let expected = Value::from_json(expected.as_bytes()).expect("JSON");
        assert_eq!(parts(uri).map(Value::Object), Some(expected), "{uri}");
    }

    #[test]
    fn a_uri_is_taken_apart() {
        check(
            "http://myusername:mypassword@www.example.com:80/foo.gif?key1=val1&key2=val2#fragment",
            r#"{"scheme":"http","domain":"www.example.com","port":80,"user_info":"myusername:mypassword",
                "username":"myusername","password":"mypassword","path":"/foo.gif","extension":"gif",
                "query":"key1=val1&key2=val2","fragment":"fragment"}"#,
        );
        check("/a%20b/c", r#"{"path":"/a b/c"}"#);
        check("mailto:me@example.org", r#"{"scheme":"mailto"}"#);
        check("http://[::1]:9200", r#"{"scheme":"http","domain":"[::1]","port":9200,"path":""}"#);
        check("http://a.b/x y", r#"{"scheme":"http","domain":"a.b","path":"/x y"}"#);
        assert_eq!(parts("not a uri"), None);
    }
}
