//! `lowercase`: a text, or every text of a list, in lower case.

use super::strings;
use crate::options::{Options, Wrong};
use crate::pipeline::Step;
use compact_str::CompactString;
use event::Value;

pub(crate) const OPTIONS: &[&str] = strings::OPTIONS;

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    strings::build(options, Box::new(|text| Ok(Value::Text(lower(text)))))
}

fn lower(text: &CompactString) -> CompactString {
    if text.is_ascii() {
        let mut text = text.clone();
        text.make_ascii_lowercase();
        return text;
    }
    text.to_lowercase()
}
