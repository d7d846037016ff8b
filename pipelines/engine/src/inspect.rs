//! What people ask of a pipeline beside running it: what its steps are like, and why one of them failed.

use crate::failure::Failure;
use crate::pipeline::{Pipeline, Processor};
use event::Event;

/// What there is to know of a step before it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where: the path from the pipeline's top, such as `processors[0].grok.patterns[1]`.
    pub place: String,
    /// What.
    pub text: String,
    /// True if it may need a change.
    pub is_warning: bool,
}

/// One processor of a pipeline by itself.
#[derive(Debug)]
pub struct Single {
    /// Its type.
    pub kind: &'static str,
    /// Its tag.
    pub tag: Option<String>,
    /// It alone, with its own handlers, but not the pipeline's.
    pub pipeline: Pipeline,
}

impl Pipeline {
    /// The pipeline's processors, each as a pipeline of its own: run in order on a document they do what the pipeline
    /// does, up to a failure that only the pipeline's handlers handle.
    pub fn into_singles(self) -> Vec<Single> {
        let name = self.name;
        let single = |processor: Processor| Single {
            kind: processor.kind,
            tag: processor.tag.clone(),
            pipeline: Pipeline {
                name: name.clone(),
                description: None,
                processors: vec![processor],
                on_failure: Vec::new(),
                uses_ingest: true,
            },
        };
        self.processors.into_iter().map(single).collect()
    }

    /// What there is to know of its steps, in their order.
    pub fn notes(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        add_notes("processors", &self.processors, &mut notes);
        add_notes("on_failure", &self.on_failure, &mut notes);
        notes
    }

    /// More words on a failure of this pipeline. `event` is as the pipeline left it.
    pub fn explain(&self, failure: &Failure, event: &Event) -> Option<String> {
        let failed = |processor: &&Processor| {
            processor.kind == failure.processor && processor.tag.as_deref() == failure.tag.as_deref()
        };
        self.processors.iter().filter(failed).find_map(|processor| processor.step.explain(event))
    }
}

fn add_notes(list: &str, processors: &[Processor], notes: &mut Vec<Note>) {
    for (nth, processor) in processors.iter().enumerate() {
        let place = format!("{list}[{nth}].{}", processor.kind);
        notes.extend(processor.step.notes().into_iter().map(|note| {
            let place = format!("{place}.{}", note.place);
            Note { place, ..note }
        }));
        add_notes(&format!("{place}.on_failure"), &processor.on_failure, notes);
    }
}
