//! `sample`: a share of the documents goes on, the rest is dropped. Ours; no search node has it.
//!
//! Which ones is decided by a hash of a field, or of the whole document: the same document is always decided alike, so a
//! record that is read again is not counted twice, and all lines of one trace stay or go together.

use crate::failure::Problem;
use crate::options::{Options, Wrong, missing};
use crate::pipeline::{Flow, Run, Step};
use event::FieldPath;
use event::{Event, Value};

pub(crate) const OPTIONS: &[&str] = &["field", "rate"];

#[derive(Debug)]
struct Sample {
    /// What is hashed; the whole source if it is not set.
    field: Option<FieldPath>,
    /// Hashes below this go on.
    below: u64,
    /// All go on: `below` can't say that.
    all: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = match options.text_if_set("field")? {
        Some(text) => Some(options.parse_path("field", &text)?),
        None => None,
    };
    let rate = match options.take("rate").ok_or_else(|| missing("rate"))? {
        Value::Double(rate) => rate,
        other => other.as_i64().map_or(f64::NAN, |rate| rate as f64),
    };
    if !(0.0..=1.0).contains(&rate) {
        return Err("[rate] is the share that goes on, from 0 to 1".to_owned());
    }
    Ok(Box::new(Sample { field, below: (rate * u64::MAX as f64) as u64, all: rate >= 1.0 }))
}

impl Step for Sample {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let mut bytes = Vec::new();
        match self.field.as_ref().map(|field| event.get(field)) {
            // Without the field there is nothing to decide by, and nothing is thrown away.
            Some(None | Some(Value::Null)) => return Ok(Flow::Continue),
            Some(Some(value)) => value.write_json(&mut bytes),
            None => event.write_json(&mut bytes),
        }
        Ok(if self.all || hash(&bytes) < self.below { Flow::Continue } else { Flow::Drop })
    }
}

/// FNV-1a, whose bits are then mixed so that the high ones are as good as the low ones.
fn hash(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_what_was_asked_for() {
        let below = (0.1 * u64::MAX as f64) as u64;
        let kept = (0..20_000).filter(|number: &u32| hash(number.to_string().as_bytes()) < below).count();
        assert!((1_800..2_200).contains(&kept), "{kept} of 20000");
    }
}
