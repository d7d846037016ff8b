//! `fail`: a failure with a message of the pipeline's own.

use crate::failure::Problem;
use crate::options::{Options, Wrong};
use crate::pipeline::{Flow, Run, Step};
use crate::template::Template;
use event::Event;

pub(crate) const OPTIONS: &[&str] = &["message"];

/// Type name of such a failure.
const FAIL: &str = "fail_processor_exception";

#[derive(Debug)]
struct Fail {
    message: Template,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let message = options.text("message")?;
    Ok(Box::new(Fail { message: options.template("message", &message)? }))
}

impl Step for Fail {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let reason = self.message.render(event)?.into();
        Err(Box::new(Problem { kind: FAIL, reason, cause: None }))
    }
}
