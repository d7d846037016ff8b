//! Lines → stack traces, whole, and the plain lines between them.
//!
//! A state machine looks at each line: at the start, whether it opens a trace of any of the languages; inside, whether it
//! goes on. A line that does neither stays alone. The way of the fluentd plugin `detect-exceptions`, with rules of our own.

mod rules;

pub use rules::Language;

use super::open::{Limits, Open};
use super::{Next, Parse, Part};
use anyhow::{Context as _, bail};
use regex::bytes::Regex;
use rules::{HINTS, RULES, State};
use serde::Deserialize;
use service::load::ByteSize;
use std::sync::Arc;
use std::time::Duration;

/// Stack traces, joined without patterns. YAML: `exceptions`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExceptionsConfig {
    /// Languages whose traces are looked for. Default: all.
    pub languages: Vec<Language>,
    /// Further lines are left out of the event. Default 500.
    pub max_lines: usize,
    /// Further bytes are left out of the event. Default 1 MiB.
    pub max_bytes: ByteSize,
    /// A trace that got no further line for so long is shipped. Default `1s`.
    #[serde(with = "service::load::duration")]
    pub timeout: Duration,
}

impl Default for ExceptionsConfig {
    fn default() -> Self {
        Self {
            languages: Vec::new(),
            max_lines: 500,
            max_bytes: ByteSize(1024 * 1024),
            timeout: Duration::from_secs(1),
        }
    }
}

/// The configuration, compiled.
#[derive(Debug)]
pub(super) struct Recipe {
    /// A line without any of these words opens no trace.
    hint: Regex,
    /// For each state the rules that lead out of it, in order.
    rules: Vec<Vec<(Regex, State)>>,
    limits: Limits,
}

impl Recipe {
    pub(super) fn new(config: &ExceptionsConfig) -> anyhow::Result<Self> {
        Self::compile(config).context("exceptions")
    }

    fn compile(config: &ExceptionsConfig) -> anyhow::Result<Self> {
        if config.max_lines == 0 || config.max_bytes.0 == 0 {
            bail!("max_lines {} and max_bytes {} must be above 0", config.max_lines, config.max_bytes);
        }
        let is_wanted = |of: &[Language]| {
            config.languages.is_empty() || config.languages.iter().any(|language| of.contains(language))
        };
        let mut rules = vec![Vec::new(); State::COUNT];
        for rule in RULES.iter().filter(|rule| is_wanted(rule.languages)) {
            let pattern = Regex::new(rule.pattern).with_context(|| format!("pattern {:?}", rule.pattern))?;
            for &from in rule.from {
                rules[from as usize].push((pattern.clone(), rule.to));
            }
        }
        let limits = Limits {
            lines_max: config.max_lines,
            bytes_max: usize::try_from(config.max_bytes.0)?,
            separator: b"\n",
            timeout: Some(config.timeout),
        };
        Ok(Self { hint: Regex::new(HINTS)?, rules, limits })
    }

    /// The state behind `line`, if there is a rule for it.
    fn step(&self, from: State, line: &[u8]) -> Option<State> {
        if from == State::Start && !self.hint.is_match(line) {
            return None;
        }
        self.rules[from as usize].iter().find(|(pattern, _)| pattern.is_match(line)).map(|(_, to)| *to)
    }
}

/// The traces of one file that are not finished.
#[derive(Debug)]
pub(super) struct Exceptions {
    recipe: Arc<Recipe>,
    lanes: Vec<Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    state: State,
    event: Open,
}

impl Exceptions {
    pub(super) fn new(recipe: Arc<Recipe>) -> Self {
        Self { recipe, lanes: Vec::new() }
    }
}

impl Parse for Exceptions {
    fn take(&mut self, part: Part<'_>, next: &mut Next<'_>) {
        let number = part.lane;
        if self.lanes.len() <= number {
            self.lanes.resize_with(number + 1, Lane::default);
        }
        let lane = &mut self.lanes[number];
        let mut to = self.recipe.step(lane.state, part.text);
        if to.is_none() && lane.event.is_open {
            lane.close(number, next);
            to = self.recipe.step(State::Start, part.text); // It may open the next trace.
        }
        let Some(to) = to else { return next.pass(part) };
        lane.event.add(part, &self.recipe.limits, next);
        lane.state = to;
        if to == State::Start {
            lane.close(number, next); // The last line is known as the last.
        }
    }

    fn flush(&mut self, next: &mut Next<'_>) {
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            lane.close(number, next);
        }
    }
}

impl Lane {
    fn close(&mut self, number: usize, next: &mut Next<'_>) {
        self.state = State::Start;
        self.event.trim_end();
        self.event.close(number, next);
    }
}
