//! Processors in order, and what happens when one fails: `ignore_failure`, `on_failure`, or the pipeline's own.
//!
//! Specified by Elasticsearch's `CompoundProcessor` and `Pipeline`.

use crate::failure::{Failure, Problem};
use crate::inspect::Note;
use crate::library::Library;
use crate::painless::Condition;
use event::{Event, Object, Value};
use std::fmt;

/// What a step wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on with the next step.
    Continue,
    /// The document is to be dropped; nothing after this runs.
    Drop,
    /// The document is ready: nothing after this runs, neither here nor in the pipelines that called this one.
    End,
}

/// What became of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is ready to be indexed.
    Document,
    /// The pipeline dropped it.
    Dropped,
}

/// What a step may ask beside the document.
#[derive(Debug, Clone, Copy)]
pub struct Run<'l> {
    /// The other pipelines.
    pub library: &'l Library,
    /// The time of ingestion, milliseconds since 1970.
    pub now_ms: i64,
    /// Name of the pipeline that runs.
    pub pipeline: &'l str,
    /// The run of the pipeline that called this one.
    pub caller: Option<&'l Run<'l>>,
}

impl Run<'_> {
    /// True if the pipeline `name` runs already: it called, directly or not, the one that runs now.
    pub(crate) fn is_running(&self, name: &str) -> bool {
        self.pipeline == name || self.caller.is_some_and(|caller| caller.is_running(name))
    }
}

/// Why a step failed.
#[derive(Debug)]
pub enum Trouble {
    /// By itself.
    Own(Box<Problem>),
    /// In a processor inside of it, which is the one to be named.
    Inner(Failure),
}

impl From<Box<Problem>> for Trouble {
    fn from(problem: Box<Problem>) -> Self {
        Self::Own(problem)
    }
}

/// The work of one processor: pure, no I/O, no clock, no lock.
pub trait Step: Send + Sync + fmt::Debug {
    /// What the step fails on in the document, at greater length than its error: for people, and slower than the step.
    fn explain(&self, _: &Event) -> Option<String> {
        None
    }

    /// What there is to know of the step before it runs.
    fn notes(&self) -> Vec<Note> {
        Vec::new()
    }

    /// Changes the document, or says why it can't. A document that a step failed on keeps what was done to it.
    fn apply(&self, event: &mut Event, run: &Run<'_>) -> Result<Flow, Box<Problem>>;

    /// Like [`Step::apply`], for steps that run other processors.
    fn run(&self, event: &mut Event, run: &Run<'_>) -> Result<Flow, Trouble> {
        self.apply(event, run).map_err(Trouble::Own)
    }
}

/// Type that handlers are told of a processor behind a condition.
const CONDITIONAL: &str = "conditional";

/// A step with what every processor has.
#[derive(Debug)]
pub(crate) struct Processor {
    pub(crate) kind: &'static str,
    pub(crate) tag: Option<String>,
    pub(crate) condition: Option<Condition>,
    pub(crate) ignore_failure: bool,
    pub(crate) on_failure: Vec<Processor>,
    pub(crate) step: Box<dyn Step>,
}

impl Processor {
    /// Runs the step if its condition holds, and its handlers if it fails.
    ///
    /// A condition that fails is a failure of the pipeline: `ignore_failure` and the processor's own handlers stand
    /// inside of the condition.
    pub(crate) fn run(&self, event: &mut Event, run: &Run<'_>) -> Result<Flow, Failure> {
        if let Some(condition) = &self.condition
            && !condition.holds(event).map_err(|problem| self.failure(*problem, run))?
        {
            return Ok(Flow::Continue);
        }
        let failure = match self.step.run(event, run) {
            Ok(flow) => return Ok(flow),
            Err(_) if self.ignore_failure => return Ok(Flow::Continue),
            Err(Trouble::Own(problem)) => self.failure(*problem, run),
            Err(Trouble::Inner(failure)) => failure,
        };
        if self.on_failure.is_empty() {
            return Err(failure);
        }
        // The handlers stand inside of the condition and know nothing of it.
        handle(&self.on_failure, &Failure { conditional: false, ..failure }, event, run)
    }

    fn failure(&self, problem: Problem, run: &Run<'_>) -> Failure {
        Failure {
            kind: problem.kind,
            reason: problem.reason,
            cause: problem.cause,
            processor: self.kind,
            conditional: self.condition.is_some(),
            bare: true,
            tag: self.tag.as_deref().map(Into::into),
            pipeline: run.pipeline.to_owned(),
        }
    }
}

/// A list of processors with a name.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) processors: Vec<Processor>,
    pub(crate) on_failure: Vec<Processor>,
    /// False if none of `processors` reads or writes `_ingest`, which then is filled for those that handle a failure only.
    pub(crate) uses_ingest: bool,
}

impl Pipeline {
    /// The name it was loaded under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its author says of it.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Runs the pipeline on `event`. `now_ms` becomes `_ingest.timestamp` and the year of stamps that have none.
    ///
    /// Errors: a processor failed and nothing handled it. The event is then as the processors before it left it.
    pub fn run(&self, library: &Library, event: &mut Event, now_ms: i64) -> Result<Outcome, Failure> {
        let run = Run { library, now_ms, pipeline: &self.name, caller: None };
        self.run_inside(event, &run).map(|flow| match flow {
            Flow::Continue | Flow::End => Outcome::Document,
            Flow::Drop => Outcome::Dropped,
        })
    }

    /// Runs the pipeline as `run` says, which names it.
    pub(crate) fn run_inside(&self, event: &mut Event, run: &Run<'_>) -> Result<Flow, Failure> {
        let caller = match self.uses_ingest || run.caller.is_some() {
            true => fill(event, run),
            false => None,
        };
        let result = match run_all(&self.processors, event, run) {
            Err(failure) if !self.on_failure.is_empty() => handle(&self.on_failure, &failure, event, run),
            other => other,
        };
        if let Some(caller) = caller {
            event.metadata.ingest.insert("pipeline", caller);
        }
        result
    }
}

/// Fills in `_ingest.timestamp` and `_ingest.pipeline`. What the latter was before.
fn fill(event: &mut Event, run: &Run<'_>) -> Option<Value> {
    let ingest = &mut event.metadata.ingest;
    if !ingest.contains("timestamp") {
        ingest.insert("timestamp", crate::date::java_timestamp(run.now_ms));
    }
    ingest.insert("pipeline", run.pipeline)
}

fn run_all(processors: &[Processor], event: &mut Event, run: &Run<'_>) -> Result<Flow, Failure> {
    for processor in processors {
        match processor.run(event, run).map_err(|failure| Failure { bare: false, ..failure })? {
            Flow::Continue => {}
            ends => return Ok(ends),
        }
    }
    Ok(Flow::Continue)
}

/// Runs `handlers` with `_ingest.on_failure_…` telling them of `failure`.
fn handle(handlers: &[Processor], failure: &Failure, event: &mut Event, run: &Run<'_>) -> Result<Flow, Failure> {
    fill(event, run);
    tell(&mut event.metadata.ingest, failure);
    let result = run_all(handlers, event, run);
    event.metadata.ingest.retain(|key, _| !key.starts_with("on_failure_"));
    result
}

fn tell(ingest: &mut Object, failure: &Failure) {
    ingest.insert("on_failure_message", failure.message());
    let processor = if failure.conditional { CONDITIONAL } else { failure.processor };
    ingest.insert("on_failure_processor_type", processor);
    ingest.insert("on_failure_processor_tag", failure.tag.as_deref().map_or(Value::Null, Value::from));
    ingest.insert("on_failure_pipeline", failure.pipeline.as_str());
}
