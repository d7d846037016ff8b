//! Mustache templates in options: `{{a.b}}` and `{{{a.b}}}` with the document as their context.
//!
//! Variables only, as in published pipelines; sections, partials and comments are refused when a pipeline is loaded.

use crate::failure::Problem;
use crate::text::java_text;
use compact_str::CompactString;
use event::path::PathError;
use event::{Event, FieldPath, Value};
use std::borrow::Cow;

/// How `{{x}}` escapes; `{{{x}}}` and `{{&x}}` never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escape {
    /// As inside a JSON string: Elasticsearch's default.
    Json,
    /// Not at all.
    Plain,
    /// As in an HTML form.
    Form,
}

/// Type name of a hole that cannot be filled.
const MUSTACHE: &str = "mustache_exception";

/// A text with holes.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    parts: Vec<Part>,
    escape: Escape,
}

#[derive(Debug, Clone)]
enum Part {
    Text(CompactString),
    Field {
        path: Option<FieldPath>,
        raw: bool,
        /// Whether a member of the root may have the whole name, dots and all. It comes first.
        may_be_member: bool,
    },
}

/// A field that an option names: known when the pipeline is loaded, or a template.
#[derive(Debug, Clone)]
pub(crate) enum Field {
    Fixed(FieldPath),
    Rendered(Template),
}

impl Field {
    /// The path for this event.
    pub(crate) fn path(&self, event: &Event) -> Result<Cow<'_, FieldPath>, PathError> {
        match self {
            Self::Fixed(path) => Ok(Cow::Borrowed(path)),
            Self::Rendered(template) => FieldPath::new(&template.render_leniently(event)).map(Cow::Owned),
        }
    }
}

impl Template {
    /// Parses `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            let (raw, close, after) = match after.strip_prefix('{') {
                Some(after) => (true, "}}}", after),
                None => (false, "}}", after),
            };
            let (name, after) =
                after.split_once(close).ok_or_else(|| format!("template [{text}] has no closing {close}"))?;
            parts.push(hole(name.trim(), raw, text)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self { parts, escape: Escape::Json })
    }

    /// The same template with another escape.
    pub(crate) fn with_escape(self, escape: Escape) -> Self {
        Self { escape, ..self }
    }

    /// The text, if it has no holes.
    pub(crate) fn into_constant(self) -> Result<CompactString, Self> {
        match self.parts.as_slice() {
            [] => Ok(CompactString::default()),
            [Part::Text(text)] => Ok(text.clone()),
            _ => Err(self),
        }
    }

    /// True if a hole reads `_ingest`.
    pub(crate) fn uses_ingest(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Field { path: Some(path), .. } if path.is_ingest()))
    }

    /// Fills the holes. A field that is missing or null leaves nothing.
    ///
    /// Errors: a hole names an element behind the end of a list.
    pub(crate) fn render(&self, event: &Event) -> Result<CompactString, Box<Problem>> {
        for part in &self.parts {
            let Part::Field { path: Some(path), .. } = part else { continue };
            if event.has(path) {
                continue;
            }
            if let Err(PathError::OutOfBounds { index: index @ 0.., .. }) = event.resolve(path) {
                let reason = format!("Failed to get value for {path} @[query-template:1]");
                return Err(Box::new(Problem { kind: MUSTACHE, reason, cause: Some(index.to_string().into()) }));
            }
        }
        Ok(self.render_leniently(event))
    }

    /// Like [`Template::render`]; elements behind the end of a list leave nothing.
    pub(crate) fn render_leniently(&self, event: &Event) -> CompactString {
        let mut out = CompactString::default();
        for part in &self.parts {
            let (path, raw, may_be_member) = match part {
                Part::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::Field { path: None, .. } => continue,
                Part::Field { path: Some(path), raw, may_be_member } => (path, *raw, *may_be_member),
            };
            let member = if may_be_member { event.source.get(path.as_str()) } else { None };
            match member.or_else(|| event.get(path)) {
                None | Some(Value::Null) => {}
                Some(Value::Text(text)) if raw => out.push_str(text),
                Some(value) if raw => out.push_str(&shown(value)),
                Some(value) => self.escaped(&shown(value), &mut out),
            }
        }
        out
    }

    fn escaped(&self, text: &str, out: &mut CompactString) {
        match self.escape {
            Escape::Plain => out.push_str(text),
            Escape::Json => {
                let mut json = Vec::new();
                event::document::write_text(text, &mut json);
                let inside = json.get(1..json.len() - 1).unwrap_or_default();
                out.push_str(&String::from_utf8_lossy(inside));
            }
            Escape::Form => {
                for byte in text.bytes() {
                    match byte {
                        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => {
                            out.push(char::from(byte))
                        }
                        b' ' => out.push('+'),
                        _ => out.push_str(&format!("%{byte:02X}")),
                    }
                }
            }
        }
    }
}

/// The value as the original's templates show it: a list is a map of its places to them.
fn shown(value: &Value) -> CompactString {
    let Value::Array(values) = value else { return java_text(value) };
    let members: Vec<_> = values.iter().enumerate().map(|(at, value)| format!("{at}={}", java_text(value))).collect();
    CompactString::from(format!("{{{}}}", members.join(", ")))
}

fn hole(name: &str, raw: bool, text: &str) -> Result<Part, String> {
    let (name, raw) = name.strip_prefix('&').map_or((name, raw), |name| (name.trim(), true));
    if name.starts_with(['#', '/', '^', '!', '>', '<', '=', '$']) {
        return Err(format!(
            "template [{text}]: only variables such as {{{{a.b}}}} can stand in a template, not [{name}]"
        ));
    }
    // A name that can't be a path names nothing, as in Mustache.
    let path = FieldPath::new(name).ok();
    let may_be_member =
        path.as_ref().is_some_and(|path| name.contains('.') && !path.is_ingest() && !path.is_metadata());
    Ok(Part::Field { path, raw, may_be_member })
}

/// A value with templates in it: the `value` of `set` and `append`.
#[derive(Debug, Clone)]
pub(crate) enum ValueSource {
    Constant(Value),
    Rendered(Template),
    List(Vec<ValueSource>),
    Map(Vec<(ValueSource, ValueSource)>),
}

impl ValueSource {
    /// Parses every text in `value`; `parse` makes a template of one.
    pub(crate) fn parse(value: Value, parse: &dyn Fn(&str) -> Result<Template, String>) -> Result<Self, String> {
        Ok(match value {
            Value::Text(text) => match parse(&text)?.into_constant() {
                Ok(text) => Self::Constant(Value::Text(text)),
                Err(template) => Self::Rendered(template),
            },
            Value::Array(values) => {
                let values: Result<Vec<_>, _> = values.into_iter().map(|value| Self::parse(value, parse)).collect();
                Self::List(values?)
            }
            Value::Object(object) => {
                let member = |(key, value)| Ok((Self::parse(Value::Text(key), parse)?, Self::parse(value, parse)?));
                let members: Result<Vec<_>, String> = object.into_iter().map(member).collect();
                Self::Map(members?)
            }
            other => Self::Constant(other),
        })
    }

    /// The value for this event. Errors: see [`Template::render`].
    pub(crate) fn render(&self, event: &Event) -> Result<Value, Box<Problem>> {
        Ok(match self {
            Self::Constant(value) => value.clone(),
            Self::Rendered(template) => Value::Text(template.render(event)?),
            Self::List(values) => {
                let values: Result<_, _> = values.iter().map(|value| value.render(event)).collect();
                Value::Array(values?)
            }
            Self::Map(members) => {
                let member = |(key, value): &(Self, Self)| Ok((java_text(&key.render(event)?), value.render(event)?));
                let members: Result<_, Box<Problem>> = members.iter().map(member).collect();
                Value::Object(members?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, text: &str) {
        let source = br#"{"a":{"b":"x\"y","n":null,"l":[1,2.0]},"big":12345678.0,"a.z":"whole"}"#;
        let Ok(Value::Object(source)) = Value::from_json(source) else { panic!("not JSON") };
        let template = Template::parse(template).expect("a template");
        assert_eq!(template.render(&Event::new(source)).map_err(|problem| problem.reason), Ok(text.into()));
    }

    #[test]
    fn holes_are_filled_from_the_document() {
        check("<{{{a.b}}}>", "<x\"y>");
        check("<{{a.b}}>", "<x\\\"y>");
        check("{{& a.b }}", "x\"y");
        check("{{a.n}}{{missing}}{{}}-", "-");
        check("{{a.z}}", "whole");
        check("{{a.l.0}} {{{a.l}}} {{big}}", "1 {0=1, 1=2.0} 1.2345678E7");
        check("no holes } here }}", "no holes } here }}");
    }

    #[test]
    fn an_element_behind_the_end_of_a_list_is_an_error() {
        let Ok(Value::Object(source)) = Value::from_json(br#"{"l":[]}"#) else { panic!("not JSON") };
        let problem = Template::parse("{{l.x}}{{l.0}}").expect("a template").render(&Event::new(source));
        let problem = problem.expect_err("there is no element");
        assert_eq!(problem.reason, "Failed to get value for l.0 @[query-template:1]");
        assert_eq!((problem.kind, problem.cause.as_deref()), (MUSTACHE, Some("0")));
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for text in ["{{#a}}x{{/a}}", "{{>a}}", "{{a"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
