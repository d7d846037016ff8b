//! Source and record → text: a topic, a key or the value of a header. Pure.
//!
//! Mostly a template needs only what all records of a file share, and is filled once a group. One that names a field of the
//! line itself, as a parser of the agent found it (`ndjson`), is filled for each record.

use anyhow::bail;
use event::{Extra, Input, Source, members};
use std::borrow::Cow;

/// A compiled template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    HostName,
    FilePath,
    InputId,
    /// A field that the input's configuration or the place of the file tells.
    Source(String),
    /// A field that a parser found in the line.
    Line(String),
}

/// Fields of a record that a template may use.
const FIELDS: &[(&str, Part)] =
    &[("host.name", Part::HostName), ("input.id", Part::InputId), ("log.file.path", Part::FilePath)];
/// Objects whose fields are the same for all records of a file.
const OF_SOURCE: &[&str] = &["fields", "container", "kubernetes", "orchestrator"];
/// Names that the envelope has: a field of a line would not be what stands there.
const OF_ENVELOPE: &[&str] = &["@metadata", "@timestamp", "agent", "ecs", "host", "input", "log", "message", "tags"];

/// What a template is filled from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Of<'a> {
    pub(crate) host: &'a str,
    pub(crate) source: &'a Source,
    /// The source's input, asked for once.
    pub(crate) input: &'a Input,
    /// What a parser found in the record. `None` also for what is filled once a group.
    pub(crate) extra: Option<&'a Extra>,
}

impl Template {
    /// Parses `literal{field}literal…`. Errors name what was wrong and what exists.
    pub(crate) fn new(text: &str) -> anyhow::Result<Self> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((literal, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { bail!("{text:?} has \"{{\" without \"}}\"") };
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(field(text, name)?);
            rest = after;
        }
        if rest.contains('}') {
            bail!("{text:?} has \"}}\" without \"{{\"");
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// True if it makes the same text whatever it is filled from.
    pub(crate) fn is_literal(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    /// True if each record may make another text: it needs what a parser found in the line.
    pub(crate) fn is_of_lines(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Line(_)))
    }

    /// The literal text that it starts with.
    pub(crate) fn prefix(&self) -> &str {
        match self.0.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// The literal parts.
    pub(crate) fn literals(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Writes the text into `out`. A value that is missing is left out: then, and if `fits` refuses one, it is false.
    pub(crate) fn render(&self, of: Of<'_>, out: &mut String, mut fits: impl FnMut(&str) -> bool) -> bool {
        out.clear();
        let mut is_whole = true;
        for part in &self.0 {
            let value = match part {
                Part::Literal(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::HostName => Cow::Borrowed(of.host),
                Part::FilePath if of.source.path.is_empty() => Cow::Borrowed(&*of.input.id), // No file: the input stands for it.
                Part::FilePath => Cow::Borrowed(&*of.source.path),
                Part::InputId => Cow::Borrowed(&*of.input.id),
                Part::Source(path) => {
                    let mut objects = [of.input.fields.as_str(), of.source.fields()].into_iter();
                    let found = |inner| Some(scalar(format!("{{{inner}}}").as_bytes(), path)?.into_owned());
                    Cow::Owned(objects.find_map(found).unwrap_or_default())
                }
                Part::Line(path) => {
                    of.extra.and_then(|extra| scalar(extra.fields.as_bytes(), path)).unwrap_or_default()
                }
            };
            if value.is_empty() || !fits(&value) {
                is_whole = false;
            } else {
                out.push_str(&value);
            }
        }
        is_whole
    }
}

fn field(text: &str, name: &str) -> anyhow::Result<Part> {
    if let Some((_, part)) = FIELDS.iter().find(|(known, _)| *known == name) {
        return Ok(part.clone());
    }
    let (first, rest) = name.split_once('.').unwrap_or((name, ""));
    let is_path = !name.is_empty() && name.split('.').all(|step| !step.is_empty());
    if !is_path || name.contains('{') || OF_ENVELOPE.contains(&first) || (OF_SOURCE.contains(&first) && rest.is_empty())
    {
        let known: Vec<_> = FIELDS.iter().map(|(known, _)| *known).collect();
        bail!(
            "{text:?} uses {{{name}}}; there are {}, fields.NAME of the input, kubernetes.… and container.… of the file, and \
             the names that a parser finds in a line",
            known.join(", ")
        );
    }
    let is_of_source = OF_SOURCE.contains(&first);
    Ok(if is_of_source { Part::Source(name.to_owned()) } else { Part::Line(name.to_owned()) })
}

/// The text, number or truth value at the dotted `path` of a JSON object; names may be nested, dotted, or both.
pub(crate) fn scalar<'a>(object: &'a [u8], path: &str) -> Option<Cow<'a, str>> {
    let mut found = None;
    let is_whole = members(object, |name, value| {
        let Some(rest) = path.as_bytes().strip_prefix(name) else { return };
        let value = match rest {
            [] => plain(value),
            [b'.', ..] => path.get(name.len() + 1..).and_then(|rest| scalar(value, rest)),
            _ => return,
        };
        found = value.or(found.take());
    });
    found.filter(|_| is_whole)
}

/// A JSON value as text, unless it is null, a list or an object.
fn plain(value: &[u8]) -> Option<Cow<'_, str>> {
    match value {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => {
            simdutf8::basic::from_utf8(inner).ok().map(Cow::Borrowed)
        }
        [b'"', ..] => serde_json::from_slice::<String>(value).ok().map(Cow::Owned),
        [b'{' | b'[' | b'n', ..] | [] => None,
        _ => simdutf8::basic::from_utf8(value).ok().map(Cow::Borrowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event::{Incarnation, StreamId};
    use std::sync::Arc;

    fn rendered(template: &str, path: &str, found: Option<&str>) -> (String, bool) {
        let fields = r#""fields":{"service":{"name":"shop"},"n":7,"on":true,"list":[1],"none":null}"#.to_owned();
        let input = Arc::new(Input { id: "nginx".into(), fields, ..Input::default() });
        let source = Source::new(StreamId(1), input.clone(), path.into(), Incarnation(1), 0);
        source.set_fields(r#""kubernetes":{"namespace":"prod","labels":{"app.kubernetes.io/name":"web"}}"#.into());
        let extra = found.map(|fields| Extra { fields: fields.to_owned(), ..Extra::default() });
        let of = Of { host: "web-01", source: &source, input: &input, extra: extra.as_ref() };
        let mut out = "old".to_owned();
        let is_whole = Template::new(template).expect("parses").render(of, &mut out, |value| value != "unfit");
        (out, is_whole)
    }

    #[track_caller]
    fn check(template: &str, expected: &str, is_whole: bool) {
        assert_eq!(rendered(template, "/var/log/a.log", None), (expected.to_owned(), is_whole), "{template}");
    }

    #[test]
    fn a_text_is_made_of_fields_and_literals() {
        check("{host.name}/{log.file.path}", "web-01//var/log/a.log", true);
        check("{host.name}", "web-01", true);
        check("a-{input.id}-b", "a-nginx-b", true);
        check("fixed", "fixed", true);
        check("", "", true);
        check("{fields.service.name}.{fields.n}.{fields.on}", "shop.7.true", true);
        check("{kubernetes.namespace}-{kubernetes.labels.app.kubernetes.io/name}", "prod-web", true);
        check("a-{fields.list}{fields.none}{fields.other}{fields.service}", "a-", false);
    }

    #[test]
    fn without_a_file_the_inputs_name_stands_in_its_place() {
        assert_eq!(rendered("{host.name}/{log.file.path}", "", None), ("web-01/nginx".to_owned(), true));
    }

    #[track_caller]
    fn check_line(found: &str, expected: &str, is_whole: bool) {
        assert_eq!(rendered("k-{user.id}", "/a", Some(found)), (expected.to_owned(), is_whole), "{found}");
    }

    #[test]
    fn a_field_of_the_line_is_found_nested_or_dotted() {
        check_line(r#"{"user":{"id":"u1"}}"#, "k-u1", true);
        check_line(r#"{"user.id":42}"#, "k-42", true);
        check_line(r#"{"other":1,"user":{"name":"x","id":"a\"b"}}"#, "k-a\"b", true);
        check_line(r#"{"user":"u1"}"#, "k-", false);
        check_line(r#"{"user":{"id":""}}"#, "k-", false);
        check_line(r#"{"user":{"id":"unfit"}}"#, "k-", false);
        check_line(r#"{"user":{"id":"u1"}"#, "k-", false);
        check_line("no json", "k-", false);
        check("k-{user.id}", "k-", false);
    }

    #[test]
    fn what_needs_the_line_is_known() {
        let of = |text: &str| {
            let template = Template::new(text).expect("parses");
            (template.is_literal(), template.is_of_lines(), template.prefix().to_owned())
        };
        assert_eq!(of("logs"), (true, false, "logs".to_owned()));
        assert_eq!(of("logs-{fields.a}"), (false, false, "logs-".to_owned()));
        assert_eq!(of("{user.id}-x"), (false, true, String::new()));
    }

    #[test]
    fn a_template_that_cannot_be_filled_is_refused() {
        for text in ["{host.name", "a}b", "{}", "{a..b}", "{{a}}"] {
            assert!(Template::new(text).is_err(), "{text}");
        }
        for text in ["{message}", "{host.ip}", "{log.offset}", "{fields}", "{@timestamp}"] {
            let error = Template::new(text).expect_err("is refused").to_string();
            assert!(error.contains(text) && error.contains("log.file.path"), "{error}");
        }
    }
}
