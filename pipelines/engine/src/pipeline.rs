//! Processors in order, and what happens when one fails: `ignore_failure`, `on_failure`, or the pipeline's own.
//!
//! Specified by Elasticsearch's `CompoundProcessor` and `Pipeline`.

use crate::failure::{Failure, Problem};
use crate::inspect::Note;
use crate::library::Library;
use event::{Event, Object, Value};
use std::fmt;

/// What a step wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on with the next step.
    Continue,
    /// The document is to be dropped; nothing after this runs.
    Drop,
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
}

/// A step with what every processor has.
#[derive(Debug)]
pub(crate) struct Processor {
    pub(crate) kind: &'static str,
    pub(crate) tag: Option<String>,
    pub(crate) ignore_failure: bool,
    pub(crate) on_failure: Vec<Processor>,
    pub(crate) step: Box<dyn Step>,
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
        if self.uses_ingest {
            event.metadata.ingest.insert("timestamp", crate::date::java_timestamp(now_ms));
        }
        let run = Run { library, now_ms };
        let flow = match self.run_all(&self.processors, event, &run) {
            Err(failure) if !self.on_failure.is_empty() => self.handle(&self.on_failure, &failure, event, &run),
            other => other,
        };
        flow.map(|flow| match flow {
            Flow::Continue => Outcome::Document,
            Flow::Drop => Outcome::Dropped,
        })
    }

    fn run_all(&self, processors: &[Processor], event: &mut Event, run: &Run<'_>) -> Result<Flow, Failure> {
        for processor in processors {
            match self.run_one(processor, event, run) {
                Ok(Flow::Continue) => {}
                Ok(Flow::Drop) => return Ok(Flow::Drop),
                Err(_) if processor.ignore_failure => {}
                Err(failure) if processor.on_failure.is_empty() => return Err(failure),
                Err(failure) => {
                    if self.handle(&processor.on_failure, &failure, event, run)? == Flow::Drop {
                        return Ok(Flow::Drop);
                    }
                }
            }
        }
        Ok(Flow::Continue)
    }

    fn run_one(&self, processor: &Processor, event: &mut Event, run: &Run<'_>) -> Result<Flow, Failure> {
        processor.step.apply(event, run).map_err(|problem| Failure {
            kind: problem.kind,
            reason: problem.reason,
            cause: problem.cause,
            processor: processor.kind,
            tag: processor.tag.clone(),
            pipeline: self.name.clone(),
        })
    }

    /// Runs `handlers` with `_ingest.on_failure_…` telling them of `failure`.
    fn handle(
        &self,
        handlers: &[Processor],
        failure: &Failure,
        event: &mut Event,
        run: &Run<'_>,
    ) -> Result<Flow, Failure> {
        if !self.uses_ingest {
            event.metadata.ingest.insert("timestamp", crate::date::java_timestamp(run.now_ms));
        }
        tell(&mut event.metadata.ingest, failure);
        let result = self.run_all(handlers, event, run);
        event.metadata.ingest.retain(|key, _| !key.starts_with("on_failure_"));
        result
    }
}

fn tell(ingest: &mut Object, failure: &Failure) {
    ingest.insert("on_failure_message", failure.message());
    ingest.insert("on_failure_processor_type", failure.processor);
    ingest.insert("on_failure_processor_tag", failure.tag.as_deref().map_or(Value::Null, Value::from));
    ingest.insert("on_failure_pipeline", failure.pipeline.as_str());
}
