//! Lines → events of several lines, by pattern or by count.
//!
//! The rules are those of Filebeat's `multiline`. One thing is earlier: where the last line of an event is known as the
//! last (`match: before`, `type: count`), the event does not wait for the next line.

use super::filter::compile;
use super::open::{Limits, Open};
use super::{Next, Parse, Part};
use anyhow::{Context as _, bail};
use regex::bytes::Regex;
use serde::Deserialize;
use service::load::ByteSize;
use std::sync::Arc;
use std::time::Duration;

/// How lines are joined. YAML: `type`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MultilineType {
    /// A line that matches is joined to the one before or after it.
    #[default]
    Pattern,
    /// Always so many lines.
    Count,
    /// Neighbouring lines that match are joined; others stay alone.
    WhilePattern,
}

/// To which neighbour a line that matches belongs. YAML: `match`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MultilineMatch {
    /// To the line before it: the event starts with a line that does not match.
    #[default]
    After,
    /// To the line behind it: the event ends with a line that does not match.
    Before,
}

/// Lines joined by patterns or by count. YAML: `multiline`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MultilineConfig {
    /// `pattern`, `count` or `while_pattern`. Default `pattern`.
    #[serde(rename = "type")]
    pub kind: MultilineType,
    /// Regular expression, searched in the line. Required but for `count`.
    pub pattern: Option<String>,
    /// A line that does not match counts as one that does. Default false.
    pub negate: bool,
    /// `after` or `before`. Default `after`.
    #[serde(rename = "match")]
    pub side: MultilineMatch,
    /// A line that matches it is the last one of its event. Default: none.
    pub flush_pattern: Option<String>,
    /// Further lines are left out of the event. Default 500.
    pub max_lines: usize,
    /// Further bytes are left out of the event. Default 1 MiB.
    pub max_bytes: ByteSize,
    /// An event that got no further line for so long is shipped. Default `5s`; `count` waits for its lines.
    #[serde(with = "service::load::duration")]
    pub timeout: Duration,
    /// Lines of an event, for `count`.
    pub count_lines: Option<usize>,
    /// Lines are joined without a newline between them. Default false.
    pub skip_newline: bool,
}

impl Default for MultilineConfig {
    fn default() -> Self {
        Self {
            kind: MultilineType::default(),
            pattern: None,
            negate: false,
            side: MultilineMatch::default(),
            flush_pattern: None,
            max_lines: 500,
            max_bytes: ByteSize(1024 * 1024),
            timeout: Duration::from_secs(5),
            count_lines: None,
            skip_newline: false,
        }
    }
}

/// The configuration, compiled.
#[derive(Debug)]
pub(super) struct Recipe {
    rule: Rule,
    flush: Option<Regex>,
    limits: Limits,
}

#[derive(Debug)]
enum Rule {
    After { pattern: Regex, negate: bool },
    Before { pattern: Regex, negate: bool },
    While { pattern: Regex, negate: bool },
    Count(usize),
}

impl Recipe {
    pub(super) fn new(config: &MultilineConfig) -> anyhow::Result<Self> {
        Self::compile(config).context("multiline")
    }

    fn compile(config: &MultilineConfig) -> anyhow::Result<Self> {
        if config.max_lines == 0 || config.max_bytes.0 == 0 {
            bail!("max_lines {} and max_bytes {} must be above 0", config.max_lines, config.max_bytes);
        }
        let mut limits = Limits {
            lines_max: config.max_lines,
            bytes_max: usize::try_from(config.max_bytes.0)?,
            separator: if config.skip_newline { b"" } else { b"\n" },
            timeout: Some(config.timeout),
        };
        let flush = config.flush_pattern.as_deref().map(compile).transpose().context("flush_pattern")?;
        let negate = config.negate;
        let rule = match (config.kind, config.pattern.as_deref(), config.count_lines) {
            (MultilineType::Count, None, Some(lines)) if lines > 0 => {
                (limits.lines_max, limits.timeout) = (lines, None);
                Rule::Count(lines)
            }
            (MultilineType::Count, ..) => bail!("type count: count_lines above 0 is required, and no pattern"),
            (_, None, _) => bail!("pattern is required"),
            (_, _, Some(lines)) => bail!("count_lines: {lines} is given without type count"),
            (MultilineType::WhilePattern, Some(pattern), _) => Rule::While { pattern: compile(pattern)?, negate },
            (MultilineType::Pattern, Some(pattern), _) => match config.side {
                MultilineMatch::After => Rule::After { pattern: compile(pattern)?, negate },
                MultilineMatch::Before => Rule::Before { pattern: compile(pattern)?, negate },
            },
        };
        Ok(Self { rule, flush, limits })
    }
}

/// The events of one file that are not finished.
#[derive(Debug)]
pub(super) struct Multiline {
    recipe: Arc<Recipe>,
    lanes: Vec<Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    event: Open,
    /// Lines that came, those that were left out too.
    lines: usize,
    /// With `match: before`: the last line wants the next one.
    wants_next: bool,
}

impl Multiline {
    pub(super) fn new(recipe: Arc<Recipe>) -> Self {
        Self { recipe, lanes: Vec::new() }
    }
}

impl Parse for Multiline {
    fn take(&mut self, part: Part<'_>, next: &mut Next<'_>) {
        let number = part.lane;
        if self.lanes.len() <= number {
            self.lanes.resize_with(number + 1, Lane::default);
        }
        let (lane, recipe) = (&mut self.lanes[number], &*self.recipe);
        let is_first = !lane.event.is_open;
        let is_flush = !is_first && recipe.flush.as_ref().is_some_and(|flush| flush.is_match(part.text));
        let is_matched = |pattern: &Regex, negate: bool| pattern.is_match(part.text) != negate;
        // Whether the line belongs to the open event, and whether it is surely the last one of its event.
        let (is_joined, is_last) = match &recipe.rule {
            Rule::After { pattern, negate } => (is_first || is_flush || is_matched(pattern, *negate), false),
            Rule::Before { pattern, negate } => {
                let wanted = std::mem::replace(&mut lane.wants_next, is_matched(pattern, *negate));
                // A flush pattern may add one more line to an event that wants none.
                (is_first || is_flush || wanted, !lane.wants_next && recipe.flush.is_none())
            }
            Rule::While { pattern, negate } => {
                let is_matched = is_matched(pattern, *negate);
                (is_matched, !is_matched)
            }
            Rule::Count(lines) => (true, lane.lines + 1 >= *lines),
        };
        if !is_joined {
            lane.event.close(number, next);
            lane.lines = 0;
        }
        if is_last && !lane.event.is_open {
            return next.pass(part); // Alone: it need not be copied.
        }
        lane.event.add(part, &recipe.limits, next);
        lane.lines += 1;
        if is_last || is_flush {
            lane.event.close(number, next);
            lane.lines = 0;
        }
    }

    fn flush(&mut self, next: &mut Next<'_>) {
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            lane.event.close(number, next);
            lane.lines = 0;
        }
    }
}
