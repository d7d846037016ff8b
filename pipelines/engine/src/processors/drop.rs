//! `drop`: the document goes no further.

use crate::failure::Problem;
use crate::options::{Options, Wrong};
use crate::pipeline::{Flow, Run, Step};
use event::Event;

pub(crate) const OPTIONS: &[&str] = &[];

#[derive(Debug)]
struct Drop;

pub(crate) fn build(_: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    Ok(Box::new(Drop))
}

impl Step for Drop {
    fn apply(&self, _: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        Ok(Flow::Drop)
    }
}
