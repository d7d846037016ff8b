//! Lines → events: joined, unwrapped and filtered as an input's `parsers` say. No I/O, and no time but what is told.
//!
//! A [`Plan`] is what an input's configuration says, compiled; an [`Assembler`] is what one file has open. Options are
//! named and behave as those of Filebeat's `parsers`, `include_lines` and `exclude_lines`.

mod container;
mod exceptions;
mod filter;
mod multiline;
mod ndjson;
mod open;
mod time;

pub use container::{ContainerConfig, ContainerFormat, ContainerStream};
pub use exceptions::{ExceptionsConfig, Language};
pub use multiline::{MultilineConfig, MultilineMatch, MultilineType};
pub use ndjson::NdjsonConfig;

use crate::line::{Events, Line};
use anyhow::Context as _;
use event::Extra;
use filter::Filter;
use open::Spans;
use serde::Deserialize;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// One step of making events of lines. YAML: an entry of `parsers`; they are applied in order.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParserConfig {
    /// Joins lines by patterns or by count.
    Multiline(MultilineConfig),
    /// Joins stack traces.
    Exceptions(ExceptionsConfig),
    /// Unwraps lines of container engines.
    Container(ContainerConfig),
    /// Takes JSON lines apart.
    Ndjson(NdjsonConfig),
}

/// What an input does with its lines, compiled.
#[derive(Debug)]
pub(crate) struct Plan {
    recipes: Vec<Recipe>,
    filter: Filter,
}

#[derive(Debug, Clone)]
enum Recipe {
    Multiline(Arc<multiline::Recipe>),
    Exceptions(Arc<exceptions::Recipe>),
    Container(ContainerConfig),
    Ndjson(Arc<NdjsonConfig>),
}

impl Plan {
    /// Compiles an input's `parsers`, `include_lines` and `exclude_lines`.
    ///
    /// Errors: a pattern that does not compile, options that do not go together; each names the parser and the value.
    pub(crate) fn new(parsers: &[ParserConfig], include: &[String], exclude: &[String]) -> anyhow::Result<Self> {
        let recipes = parsers.iter().enumerate().map(|(index, parser)| {
            let compiled = match parser {
                ParserConfig::Multiline(config) => multiline::Recipe::new(config).map(|r| Recipe::Multiline(r.into())),
                ParserConfig::Exceptions(config) => {
                    exceptions::Recipe::new(config).map(|r| Recipe::Exceptions(r.into()))
                }
                ParserConfig::Container(config) => Ok(Recipe::Container(*config)),
                ParserConfig::Ndjson(config) => config.checked().map(|c| Recipe::Ndjson(c.into())),
            };
            compiled.with_context(|| format!("parsers[{index}]"))
        });
        Ok(Self { recipes: recipes.collect::<Result<_, _>>()?, filter: Filter::new(include, exclude)? })
    }

    /// True if every line is an event as it is.
    pub(crate) fn is_empty(&self) -> bool {
        self.recipes.is_empty() && self.filter.is_empty()
    }
}

/// What one file has open: lines that have been read and whose event is not finished.
///
/// Memory is bounded by the parsers' `max_bytes`, for each of them and each stream of a container.
#[derive(Debug)]
pub(crate) struct Assembler {
    plan: Arc<Plan>,
    parsers: Vec<Box<dyn Parse>>,
    spans: Spans,
    cuts: VecDeque<u64>,
    /// Behind the last line.
    end: u64,
    /// When the last line was pushed; nothing is open before.
    now: Option<Instant>,
}

impl Assembler {
    /// Begins at the source's byte `offset`, with nothing open.
    ///
    /// Shape: `cuts` are the offsets, sorted, at which an earlier life called [`Assembler::flush`]: what is open is
    /// flushed there again, so that a second reading makes the same events. Those below `offset` do nothing.
    pub(crate) fn new(plan: Arc<Plan>, offset: u64, cuts: Vec<u64>) -> Self {
        let parsers = plan.recipes.iter().map(|recipe| -> Box<dyn Parse> {
            match recipe {
                Recipe::Multiline(recipe) => Box::new(multiline::Multiline::new(recipe.clone())),
                Recipe::Exceptions(recipe) => Box::new(exceptions::Exceptions::new(recipe.clone())),
                Recipe::Container(config) => Box::new(container::Container::new(*config)),
                Recipe::Ndjson(config) => Box::new(ndjson::Ndjson::new(config.clone())),
            }
        });
        let parsers = parsers.collect();
        Self { plan, parsers, spans: Spans::default(), cuts: cuts.into(), end: offset, now: None }
    }

    /// Takes the next line, an empty one too, and adds the events that it finishes to `out`.
    ///
    /// Shape: lines come in the order of the source; `now` never goes back.
    pub(crate) fn push(&mut self, line: Line<'_>, now: Instant, out: &mut Events) {
        while self.cuts.front().is_some_and(|&cut| cut <= line.start) {
            self.cuts.pop_front();
            self.flush(out);
        }
        (self.end, self.now) = (line.end, Some(now));
        let Line { text, start, truncated, .. } = line;
        let part = Part { text, start, back: start, truncated, lane: 0, extra: None };
        let (spans, filter, rest) = (&mut self.spans, &self.plan.filter, &mut self.parsers[..]);
        Next { rest, stage: 0, spans, filter, now, out }.pass(part);
    }

    /// The offset from which reading again with a new `Assembler` (and the same cuts) gives exactly the same later events:
    /// behind the last line if nothing is open, else at or before the start of the oldest open event, where no event lies
    /// on both sides. It never goes back.
    pub(crate) fn safe(&self) -> u64 {
        self.spans.safe().unwrap_or(self.end)
    }

    /// True if nothing is open.
    pub(crate) fn is_idle(&self) -> bool {
        self.spans.is_empty()
    }

    /// Behind the last line: where a cut by time falls.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// What is open will be finished at this offset, behind all that was pushed.
    pub(crate) fn add_cut(&mut self, at: u64) {
        self.cuts.push_back(at);
    }

    /// When the caller is to [`Assembler::flush`], if no line comes before: an open event has waited for its timeout.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.spans.deadline()
    }

    /// Finishes everything that is open: at a deadline, or when the file has ended.
    ///
    /// The caller has recorded the cut durably before: the offset behind the last line, to be given to a later life.
    pub(crate) fn flush(&mut self, out: &mut Events) {
        let Some(now) = self.now.filter(|_| !self.spans.is_empty()) else { return };
        for stage in 0..self.parsers.len() {
            let (upper, rest) = self.parsers.split_at_mut(stage + 1);
            let (spans, filter) = (&mut self.spans, &self.plan.filter);
            upper[stage].flush(&mut Next { rest, stage: stage + 1, spans, filter, now, out });
        }
    }
}

/// A line on its way through the parsers, or several that were joined.
#[derive(Debug)]
struct Part<'a> {
    text: &'a [u8],
    /// Offset of its first line.
    start: u64,
    /// The last offset at or before `start` that no event lies across.
    back: u64,
    truncated: bool,
    /// Lines of different lanes are never joined: see [`container::Container`].
    lane: usize,
    extra: Option<Box<Extra>>,
}

/// One parser of one file.
trait Parse: std::fmt::Debug + Send + Sync {
    /// Takes the next part and passes on what it finishes.
    fn take(&mut self, part: Part<'_>, next: &mut Next<'_>);

    /// Passes on what is open.
    fn flush(&mut self, next: &mut Next<'_>);
}

/// What comes behind a parser: the parsers after it, the filter, the events.
struct Next<'a> {
    rest: &'a mut [Box<dyn Parse>],
    /// How many parsers come before; with the lane it names an open event.
    stage: usize,
    spans: &'a mut Spans,
    filter: &'a Filter,
    now: Instant,
    out: &'a mut Events,
}

impl Next<'_> {
    fn pass(&mut self, part: Part<'_>) {
        let Some((parser, rest)) = self.rest.split_first_mut() else {
            return self.filter.pass(part, self.out);
        };
        let (stage, filter, now) = (self.stage + 1, self.filter, self.now);
        parser.take(part, &mut Next { rest, stage, spans: self.spans, filter, now, out: self.out });
    }
}

#[cfg(test)]
mod tests;
