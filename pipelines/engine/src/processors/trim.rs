//! `trim`: a text, or every text of a list, without the white space around it.

use super::strings;
use crate::options::{Options, Wrong};
use crate::pipeline::Step;
use event::Value;

pub(crate) const OPTIONS: &[&str] = strings::OPTIONS;

/// White space is what Java's `String.trim` takes for it: everything up to the space.
pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    strings::build(options, Box::new(|text| Ok(Value::from(text.trim_matches(|c: char| c <= ' ')))))
}
