//! `json`: a text that is JSON into the value it says.

use crate::failure::Problem;
use crate::jackson;
use crate::options::{Options, Wrong};
use crate::pipeline::{Flow, Run, Step};
use crate::text::java_text;
use event::document::Duplicates;
use event::{Event, FieldPath, Object, Value};

pub(crate) const OPTIONS: &[&str] = &[
    "add_to_root",
    "add_to_root_conflict_strategy",
    "allow_duplicate_keys",
    "field",
    "strict_json_parsing",
    "target_field",
];

#[derive(Debug)]
struct Json {
    field: FieldPath,
    target: Target,
    duplicates: Duplicates,
    strict: bool,
}

#[derive(Debug)]
enum Target {
    Field(FieldPath),
    Root { merge: bool },
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let target = options.text_if_set("target_field")?;
    let add_to_root = options.flag("add_to_root", false)?;
    let strategy = options.text_if_set("add_to_root_conflict_strategy")?;
    let merge = match strategy.as_deref() {
        None | Some("replace") => false,
        Some("merge") => true,
        Some(other) => {
            return Err(format!(
                "[add_to_root_conflict_strategy] conflict strategy [{other}] not supported, there are: merge, replace"
            ));
        }
    };
    let target = match (target, add_to_root) {
        (Some(_), true) => {
            return Err("[target_field] Cannot set a target field while also setting `add_to_root` to true".to_owned());
        }
        (None, false) if strategy.is_some() => {
            return Err(
                "[add_to_root_conflict_strategy] Cannot set `add_to_root_conflict_strategy` if `add_to_root` is false"
                    .to_owned(),
            );
        }
        (_, true) => Target::Root { merge },
        (Some(target), false) => Target::Field(options.parse_path("target_field", &target)?),
        (None, false) => Target::Field(field.clone()),
    };
    let duplicates =
        if options.flag("allow_duplicate_keys", false)? { Duplicates::LastWins } else { Duplicates::Refuse };
    Ok(Box::new(Json { field, target, duplicates, strict: options.flag("strict_json_parsing", true)? }))
}

impl Step for Json {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let found = match self.target {
            Target::Field(_) => event.resolve(&self.field)?,
            // As in the original, which takes the name for that of a member, and nothing for null.
            Target::Root { .. } => event.source.get(self.field.as_str()).unwrap_or(&Value::Null),
        };
        let value = match found {
            Value::Text(text) => self.parse(text)?,
            other => self.parse(&java_text(other))?,
        };
        match (&self.target, value) {
            (Target::Field(path), value) => event.set(path, value)?,
            (Target::Root { merge }, Value::Object(object)) => add(&mut event.source, object, *merge),
            (Target::Root { .. }, _) => return Err(Problem::new("cannot add non-map fields to root of document")),
        }
        Ok(Flow::Continue)
    }
}

impl Json {
    fn parse(&self, text: &str) -> Result<Value, Box<Problem>> {
        let mut ends = true; // A number or word that something else follows at once is none.
        let parsed = match self.strict {
            true => Value::from_json_with(text.as_bytes(), self.duplicates),
            false => Value::first_json(text.as_bytes(), self.duplicates).map(|(value, end)| {
                ends = text.as_bytes().get(end).is_none_or(|byte| byte.is_ascii_whitespace());
                value
            }),
        };
        let error = match parsed {
            Ok(value) if ends || matches!(value, Value::Text(_) | Value::Array(_) | Value::Object(_)) => {
                return Ok(value);
            }
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        // The original's library takes a little more, and has its own words.
        match jackson::first(text, self.duplicates) {
            Ok((value, end)) if !self.strict || text.get(end..).is_none_or(|rest| rest.trim_ascii().is_empty()) => {
                Ok(value)
            }
            Ok(_) => Err(Problem::new(error)),
            Err(refusal) => Err(Problem::caused(format!("{}: {}", refusal.class, refusal.message), refusal.message)),
        }
    }
}

fn add(root: &mut Object, object: Object, merge: bool) {
    for (key, value) in object {
        match (root.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) if merge => add(old, new, true),
            (Some(old), value) => *old = value,
            (None, value) => {
                root.insert(key, value);
            }
        }
    }
}
