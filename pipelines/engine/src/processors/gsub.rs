//! `gsub`: what a regular expression matches in a text, or in every text of a list, replaced.

use super::strings;
use crate::failure::{ILLEGAL_ARGUMENT, Problem};
use crate::java_regex::Replacement;
use crate::options::{Options, Wrong, missing};
use crate::pipeline::Step;
use event::Value;

pub(crate) const OPTIONS: &[&str] = &["field", "ignore_missing", "pattern", "replacement", "target_field"];

/// Java's exception for a reference to a group that is not there, or none at all.
fn kind_of(wrong: &str) -> &'static str {
    match wrong.strip_prefix("No group ") {
        Some(rest) if !rest.starts_with("with") => "index_out_of_bounds_exception",
        _ => ILLEGAL_ARGUMENT,
    }
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let (_, regex) = options.regex("pattern")?.ok_or_else(|| missing("pattern"))?;
    let replacement = options.text("replacement")?;
    // A reference that leads nowhere is an error of Java's when the first match is replaced, so it is one here.
    let replacement = Replacement::parse(&replacement, &regex);
    strings::build(
        options,
        Box::new(move |text| match &replacement {
            Ok(replacement) => {
                let replaced = replacement.apply(&regex, text, usize::MAX);
                Ok(replaced.map_or_else(|| Value::Text(text.clone()), Value::from))
            }
            Err(_) if !regex.is_match(text.as_str()) => Ok(Value::Text(text.clone())),
            Err(wrong) => Err(Box::new(Problem { kind: kind_of(wrong), reason: wrong.clone(), cause: None })),
        }),
    )
}
