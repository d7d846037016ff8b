//! `pipeline`: another pipeline of the library, run on the same document.

use crate::failure::Problem;
use crate::options::{Options, Wrong};
use crate::pipeline::{Flow, Run, Step, Trouble};
use crate::template::Template;
use event::Event;

pub(crate) const OPTIONS: &[&str] = &["ignore_missing_pipeline", "name"];

/// Type name of a pipeline that is missing or calls itself.
const STATE: &str = "illegal_state_exception";

#[derive(Debug)]
struct Call {
    name: Template,
    ignore_missing: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let name = options.text("name")?;
    let name = options.template("name", &name)?;
    Ok(Box::new(Call { name, ignore_missing: options.flag("ignore_missing_pipeline", false)? }))
}

impl Step for Call {
    fn apply(&self, event: &mut Event, run: &Run<'_>) -> Result<Flow, Box<Problem>> {
        match self.run(event, run) {
            Ok(flow) => Ok(flow),
            Err(Trouble::Own(problem)) => Err(problem),
            Err(Trouble::Inner(failure)) => {
                Err(Box::new(Problem { kind: failure.kind, reason: failure.reason, cause: failure.cause }))
            }
        }
    }

    fn run(&self, event: &mut Event, run: &Run<'_>) -> Result<Flow, Trouble> {
        let name = self.name.render(event)?;
        let state = |reason: String| Trouble::Own(Box::new(Problem { kind: STATE, reason, cause: None }));
        let Some(pipeline) = run.library.get(&name) else {
            return match self.ignore_missing {
                true => Ok(Flow::Continue),
                false => Err(state(format!("Pipeline processor configured for non-existent pipeline [{name}]"))),
            };
        };
        if run.is_running(&name) {
            return Err(state(format!("Cycle detected for pipeline: {name}")));
        }
        let inside = Run { library: run.library, now_ms: run.now_ms, pipeline: pipeline.name(), caller: Some(run) };
        pipeline.run_inside(event, &inside).map_err(Trouble::Inner)
    }
}
