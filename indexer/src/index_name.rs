//! A template and a document → the index it goes to. Pure: never from the clock, so a replay finds the same index.
//!
//! Confined: the template starts with literal text, and what a document brings in is checked letter by letter, so that no
//! record can name an index outside the template. What does not fit becomes `generic`, and that is counted. Parts of a data
//! stream's name (`logs-{dataset}-{namespace}`) are made fit instead, as Elasticsearch's own `reroute` does.

use compact_str::CompactString;
use event::{Event, FieldPath, Value};
use std::borrow::Cow;

/// What stands in for a missing or unfit value, and for a namespace.
const FALLBACK: &str = "generic";
const NAMESPACE: &str = "default";
/// Longest dataset and longest namespace, in bytes. Source: Elasticsearch, `DataStreamValueSource.MAX_LENGTH`.
const PART_BYTES_MAX: usize = 100;
/// Longest index name, in bytes.
/// Source: Elasticsearch, `MetadataCreateIndexService.MAX_INDEX_NAME_BYTES`.
const NAME_BYTES_MAX: usize = 255;

/// A parsed template: `logs-{event.dataset}-default`.
#[derive(Debug, Clone)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Literal(String),
    Field { fields: Vec<(FieldPath, String)>, role: Role },
}

/// What a value is in the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Plain,
    Dataset,
    Namespace,
}

impl Role {
    /// The role of what stands in braces, and the fields that it may come from, the first one first.
    fn of(name: &str) -> (Self, Vec<&str>) {
        match name {
            "dataset" => (Self::Dataset, vec!["data_stream.dataset", "event.dataset", "dataset"]),
            "namespace" => (Self::Namespace, vec!["data_stream.namespace", "namespace"]),
            "data_stream.dataset" | "event.dataset" => (Self::Dataset, vec![name]),
            "data_stream.namespace" => (Self::Namespace, vec![name]),
            _ => (Self::Plain, vec![name]),
        }
    }

    fn fallback(self) -> &'static str {
        match self {
            Self::Plain | Self::Dataset => FALLBACK,
            Self::Namespace => NAMESPACE,
        }
    }
}

impl Template {
    /// Parses `text`.
    ///
    /// Errors: no literal prefix, a brace that is not closed, letters that no index name may hold.
    pub fn new(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("elasticsearch.index `{text}`: {what}");
        let (mut parts, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let (literal, field) = rest.split_once('{').map_or((rest, None), |(literal, field)| (literal, Some(field)));
            if literal.contains('}') || !literal.chars().all(is_fit) {
                return Err(wrong("an index name is of lower-case letters, digits, `.`, `_` and `-`"));
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            let Some(field) = field else { break };
            let (name, after) = field.split_once('}').ok_or_else(|| wrong("a `{` is not closed"))?;
            let (role, names) = Role::of(name);
            let mut fields = Vec::with_capacity(names.len());
            for name in names {
                let path = FieldPath::new(name).map_err(|error| wrong(&error.to_string()))?;
                if path.is_metadata() || path.is_ingest() {
                    return Err(wrong("only fields of the document can stand in braces"));
                }
                fields.push((path, name.to_owned()));
            }
            parts.push(Part::Field { fields, role });
            rest = after;
        }
        match parts.first() {
            Some(Part::Literal(prefix)) if !prefix.starts_with(['-', '_', '+', '.']) => Ok(Self { parts }),
            _ => Err(wrong("it must start with literal text, which confines what a record can name (`logs-…`)")),
        }
    }

    /// Writes the index of `event` to `out`. Returns false if something had to fall back.
    ///
    /// Fields `data_stream.*` of the event become what stands in the name: the mappings of a data stream take nothing else.
    pub fn write(&self, event: &mut Event, out: &mut CompactString) -> bool {
        out.clear();
        let mut fits = self.fill(event, out, false);
        if out.len() > NAME_BYTES_MAX {
            out.clear();
            self.fill(event, out, true);
            fits = false;
        }
        fits
    }

    fn fill(&self, event: &mut Event, out: &mut CompactString, generic: bool) -> bool {
        let mut fits = true;
        for part in &self.parts {
            let (fields, role) = match part {
                Part::Literal(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::Field { fields, role } => (fields, *role),
            };
            let start = out.len();
            let found = fields.iter().find_map(|(path, name)| Some((field(event, path, name)?, path, name)));
            // A missing value is ordinary; one that does not fit is not, and is told.
            let Some((value, path, name)) = found.filter(|_| !generic) else {
                out.push_str(role.fallback());
                continue;
            };
            match (value, role) {
                (Value::Text(text), Role::Plain) => {
                    out.push_str(text);
                    out.split_at_mut(start).1.make_ascii_lowercase();
                }
                (Value::Text(text), Role::Dataset | Role::Namespace) => out.extend(sanitised(text)),
                (Value::Int(_) | Value::Long(_), _) => out.push_str(&value.to_json()),
                _ => {}
            }
            let is_fit = match role {
                Role::Plain => is_confined(out.split_at(start).1),
                Role::Dataset | Role::Namespace => !matches!(out.split_at(start).1, "" | "." | ".."),
            };
            if !is_fit {
                out.truncate(start);
                out.push_str(role.fallback());
                fits = false;
            }
            let used = out.split_at(start).1;
            if name.starts_with("data_stream.") && value.as_text() != Some(used) {
                let used = Value::Text(used.into());
                match event.get_mut(path) {
                    Some(value) => *value = used,
                    None => drop(event.source.insert(name.as_str(), used)),
                }
            }
        }
        fits
    }
}

/// What can stand between the hyphens of a data stream's name. Source: Elasticsearch, `DataStreamValueSource`; like there a
/// forbidden letter becomes `_`, and here so does whatever is not of `a-z 0-9 . _`.
fn sanitised(text: &str) -> impl Iterator<Item = char> + '_ {
    let fit = |c: char| if is_fit(c) && c != '-' { c } else { '_' };
    text.chars().map(move |c| fit(c.to_ascii_lowercase())).take(PART_BYTES_MAX) // Of one byte each.
}

/// True if `name` can stand as a whole index name, as a pipeline may set it.
pub fn is_index_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && is_confined(name) && !name.starts_with(['-', '_', '+'])
}

/// The index that a pipeline asks for: `name` as it is, or what it stands for if `date_index_name` made it. `None` if that
/// cannot be an index.
pub fn named(name: &str) -> Option<Cow<'_, str>> {
    let name = match name.starts_with('<') {
        true => Cow::Owned(engine::resolve_index_name(name)?.into()),
        false => Cow::Borrowed(name),
    };
    is_index_name(&name).then_some(name)
}

/// A field that stands nested, or under its dotted name.
fn field<'e>(event: &'e Event, path: &FieldPath, name: &str) -> Option<&'e Value> {
    event.get(path).or_else(|| event.source.get(name))
}

fn is_confined(value: &str) -> bool {
    !value.is_empty()
        && value != "."
        && value != ".."
        && value.bytes().all(|byte| is_fit(char::from(byte)))
        && !value.starts_with(['-', '_', '+'])
}

fn is_fit(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(source: &str) -> Event {
        match Value::from_json(source.as_bytes()) {
            Ok(Value::Object(source)) => Event::new(source),
            _ => Event::default(),
        }
    }

    #[track_caller]
    fn check(source: &str, expected: &str, fits: bool) {
        let template = Template::new("logs-{event.dataset}-default").expect("a template");
        let mut name = CompactString::default();
        let got = template.write(&mut event(source), &mut name);
        assert_eq!((name.as_str(), got), (expected, fits), "{source}");
    }

    #[test]
    fn the_name_comes_from_the_document() {
        check(r#"{"event":{"dataset":"nginx.access"}}"#, "logs-nginx.access-default", true);
        check(r#"{"event.dataset":"nginx.access"}"#, "logs-nginx.access-default", true);
        check(r#"{"event":{"dataset":"Nginx"}}"#, "logs-nginx-default", true);
        check(r#"{"event":{"dataset":42}}"#, "logs-42-default", true);
        check(r#"{"event":{"dataset":"generic"}}"#, "logs-generic-default", true);
        check(r#"{"message":"x"}"#, "logs-generic-default", true);
    }

    #[test]
    fn what_does_not_fit_falls_back() {
        for value in [r#""""#, r#"".""#, r#""..""#, "null", "true", "1.5", "[1]", r#"{"a":1}"#] {
            check(&format!(r#"{{"event":{{"dataset":{value}}}}}"#), "logs-generic-default", false);
        }
        let long = "x".repeat(300);
        for value in ["../x", "a/b", "a\\\\b", "a*", "a b", "a,b", "<x>", "-a", "_a", "é", &long] {
            let template = Template::new("logs-{service.name}").expect("a template");
            let mut name = CompactString::default();
            let fits = template.write(&mut event(&format!(r#"{{"service":{{"name":"{value}"}}}}"#)), &mut name);
            assert_eq!((name.as_str(), fits), ("logs-generic", false), "{value}");
        }
    }

    #[test]
    fn parts_of_a_data_stream_are_made_fit() {
        for (value, part) in [
            ("my-app", "my_app"),
            ("Nginx.Access", "nginx.access"),
            ("../x", ".._x"),
            (r"a/b\\c*d?e", "a_b_c_d_e"),
            ("<a|b> c,d#e:f", "_a_b__c_d_e_f"),
            ("-a", "_a"),
            ("日本", "__"),
            (r"a\nb", "a_b"),
        ] {
            check(&format!(r#"{{"event":{{"dataset":"{value}"}}}}"#), &format!("logs-{part}-default"), true);
        }
        let long = format!("logs-{}-default", "x".repeat(100));
        check(&format!(r#"{{"event":{{"dataset":"{}"}}}}"#, "x".repeat(250)), &long, true);
    }

    #[track_caller]
    fn check_stream(source: &str, expected: &str, document: &str) {
        let template = Template::new("logs-{dataset}-{namespace}").expect("a template");
        let (mut name, mut event) = (CompactString::default(), event(source));
        assert!(template.write(&mut event, &mut name));
        assert_eq!((name.as_str(), Value::Object(event.source).to_json().as_str()), (expected, document));
    }

    #[test]
    fn a_data_stream_is_named_by_the_record_and_its_fields_agree() {
        let same = |source: &str, name: &str| check_stream(source, name, source);
        same(r#"{"data_stream":{"dataset":"a","namespace":"prod"},"event":{"dataset":"b"}}"#, "logs-a-prod");
        same(r#"{"event":{"dataset":"b-c"},"data_stream.namespace":"eu"}"#, "logs-b_c-eu");
        same(r#"{"dataset":"d","namespace":"n-1"}"#, "logs-d-n_1");
        same(r#"{"message":"x"}"#, "logs-generic-default");
        let source = r#"{"data_stream":{"dataset":"My-App","namespace":"EU West"}}"#;
        check_stream(source, "logs-my_app-eu_west", r#"{"data_stream":{"dataset":"my_app","namespace":"eu_west"}}"#);
        check_stream(r#"{"data_stream.dataset":"A"}"#, "logs-a-default", r#"{"data_stream.dataset":"a"}"#);
    }

    #[test]
    fn a_template_that_does_not_confine_is_refused() {
        for text in [
            "",
            "{a}",
            "{a}-logs",
            "Logs-{a}",
            "logs-{a",
            "logs-}",
            "logs/{a}",
            "_logs",
            ".logs",
            "logs-{}",
            "logs-{_index}",
        ] {
            assert!(Template::new(text).is_err(), "{text}");
        }
        for text in ["logs", "logs-{a}", "logs-{a.b}-{c}", "a.{b}"] {
            assert!(Template::new(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_pipeline_names_no_impossible_index() {
        assert!(is_index_name("logs-x-default") && is_index_name(".ds-x"));
        for name in ["", "A", "a b", "-a", "_a", "..", "a/b"] {
            assert!(!is_index_name(name), "{name}");
        }
    }

    #[test]
    fn a_pipeline_may_name_an_index_by_a_date() {
        assert_eq!(named("logs-x").as_deref(), Some("logs-x"));
        assert_eq!(named("<logs-{2016-04-25||/M{yyyy-MM-dd|UTC}}>").as_deref(), Some("logs-2016-04-01"));
        for name in ["<LOGS-{2016-04-25||/M{yyyy-MM-dd|UTC}}>", "<../{2016||/y{yyyy|UTC}}>", "<logs-{now/d}>", "<logs>"]
        {
            assert_eq!(named(name), None, "{name}");
        }
    }
}
