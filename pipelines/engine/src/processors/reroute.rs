//! `reroute`: the document goes to another index, and nothing after it runs.
//!
//! The name is a wish, as any `_index` that a pipeline sets: what cannot be an index name is not followed by the indexer.

use crate::failure::Problem;
use crate::options::{Options, Wrong};
use crate::pipeline::{Flow, Run, Step};
use event::{Event, FieldPath, Value};

pub(crate) const OPTIONS: &[&str] = &["dataset", "destination", "namespace", "type"];

/// Longest part of a name that a document may give, in characters.
const PART_CHARS_MAX: usize = 100;
/// Where a document goes that has no `_index` yet, which the original's always has.
const NO_INDEX: &str = "logs-generic-default";

#[derive(Debug)]
struct Reroute {
    index: FieldPath,
    event_dataset: FieldPath,
    to: To,
}

#[derive(Debug)]
enum To {
    Destination(String),
    /// `TYPE-DATASET-NAMESPACE`
    DataStream(Box<[Part; 3]>),
}

/// One part of a data stream's name.
#[derive(Debug)]
struct Part {
    /// Where the document says what it became.
    told: FieldPath,
    has_dash: bool,
    sources: Vec<Source>,
}

/// Where a part comes from: the first that is there.
#[derive(Debug)]
enum Source {
    Text(String),
    /// `None`: a name that no field has.
    Field(Option<FieldPath>),
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let parts = [part(options, "type")?, part(options, "dataset")?, part(options, "namespace")?];
    let to = match options.text_if_set("destination")? {
        None => To::DataStream(Box::new(parts.map(|(_, part)| part))),
        Some(_) if parts.iter().any(|(is_written, _)| *is_written) => {
            return Err("[destination] can only be set if type, dataset and namespace are not set".to_owned());
        }
        Some(destination) => To::Destination(destination.into()),
    };
    Ok(Box::new(Reroute {
        index: options.parse_path("destination", "_index")?,
        event_dataset: options.parse_path("dataset", "event.dataset")?,
        to,
    }))
}

/// Whether the option is written, and what it makes.
fn part(options: &mut Options<'_>, name: &str) -> Result<(bool, Part), Wrong> {
    let told = options.parse_path(name, &format!("data_stream.{name}"))?;
    let has_dash = name == "namespace";
    let written = options.one_or_more(name)?;
    let is_written = !written.is_empty();
    let sources: Result<Vec<_>, Wrong> = written.iter().map(|text| source(options, name, has_dash, text)).collect();
    let sources = if is_written { sources? } else { vec![Source::Field(Some(told.clone()))] };
    Ok((is_written, Part { told, has_dash, sources }))
}

fn source(options: &Options<'_>, name: &str, has_dash: bool, text: &str) -> Result<Source, Wrong> {
    if !text.contains("{{") && !text.contains("}}") {
        return match fit(text, has_dash) == text {
            true => Ok(Source::Text(text.to_owned())),
            false => Err(format!("[{name}] '{text}' contains disallowed characters")),
        };
    }
    let wrong = || format!("[{name}] '{text}' is not a valid field reference");
    let field = text.strip_prefix("{{").and_then(|text| text.strip_suffix("}}")).ok_or_else(wrong)?;
    let field = field.strip_prefix('{').and_then(|field| field.strip_suffix('}')).unwrap_or(field);
    match field.contains(['{', '}']) {
        true => Err(wrong()),
        false => Ok(Source::Field(options.parse_path(name, field).ok())),
    }
}

/// The text with what a name may not hold replaced.
fn fit(text: &str, has_dash: bool) -> String {
    let is_bad = |c: &char| {
        matches!(c, '\\' | '/' | '*' | '?' | '"' | '<' | '>' | '|' | ' ' | ',' | '#' | ':') || *c == '-' && !has_dash
    };
    let fit = |c: char| if is_bad(&c) { '_' } else { c };
    text.to_lowercase().chars().take(PART_CHARS_MAX).map(fit).collect()
}

impl Part {
    /// The part for this document, `now` being what its index has there.
    fn of(&self, event: &Event, now: &str) -> String {
        let one = |source: &Source| match source {
            Source::Text(text) => Some(text.clone()),
            Source::Field(path) => {
                let text = event.get(path.as_ref()?)?.as_text()?;
                Some(fit(text, self.has_dash))
            }
        };
        self.sources.iter().find_map(one).unwrap_or_else(|| now.to_owned())
    }
}

impl Step for Reroute {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let parts = match &self.to {
            To::Destination(destination) => {
                event.set(&self.index, Value::from(destination.as_str()))?;
                return Ok(Flow::End);
            }
            To::DataStream(parts) => parts,
        };
        let index = event.metadata.index().unwrap_or(NO_INDEX).to_owned();
        let mut now = index.splitn(3, '-');
        let (Some(kind), Some(dataset), Some(namespace)) = (now.next(), now.next(), now.next()) else {
            return Err(Problem::new(format!(
                "invalid data stream name: [{index}]; must follow naming scheme <type>-<dataset>-<namespace>"
            )));
        };
        let [kind, dataset, namespace] =
            [(&parts[0], kind), (&parts[1], dataset), (&parts[2], namespace)].map(|(part, now)| part.of(event, now));
        event.set(&self.index, Value::from(format!("{kind}-{dataset}-{namespace}")))?;
        for (part, text) in parts.iter().zip([kind, dataset.clone(), namespace]) {
            event.set(&part.told, Value::from(text))?;
        }
        // Where it is said twice it is to be said alike.
        if event.has(&self.event_dataset) {
            event.set(&self.event_dataset, Value::from(dataset))?;
        }
        Ok(Flow::End)
    }
}
