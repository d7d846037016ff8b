//! Finished events → those that are shipped: `include_lines` and `exclude_lines`.

use super::Part;
use crate::line::Events;
use anyhow::Context as _;
use regex::bytes::{Regex, RegexSet};

/// Which events are shipped.
#[derive(Debug)]
pub(super) struct Filter {
    /// If there are any, an event must match one.
    include: Option<RegexSet>,
    /// An event that matches one is left out.
    exclude: Option<RegexSet>,
}

impl Filter {
    /// Errors: a pattern that does not compile.
    pub(super) fn new(include: &[String], exclude: &[String]) -> anyhow::Result<Self> {
        let set = |patterns: &[String], key: &str| -> anyhow::Result<_> {
            for pattern in patterns {
                compile(pattern).with_context(|| key.to_owned())?;
            }
            Ok((!patterns.is_empty()).then(|| RegexSet::new(patterns)).transpose()?)
        };
        Ok(Self { include: set(include, "include_lines")?, exclude: set(exclude, "exclude_lines")? })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Adds `part` to the events, or counts why not.
    pub(super) fn pass(&self, part: Part<'_>, out: &mut Events) {
        if part.text.is_empty() {
            return out.leave_out("empty");
        }
        if self.include.as_ref().is_some_and(|include| !include.is_match(part.text)) {
            return out.leave_out("include_lines");
        }
        if self.exclude.as_ref().is_some_and(|exclude| exclude.is_match(part.text)) {
            return out.leave_out("exclude_lines");
        }
        out.push(part.text, part.start, part.truncated, part.extra);
    }
}

/// Errors: the pattern, and what is wrong with it.
pub(super) fn compile(pattern: &str) -> anyhow::Result<Regex> {
    Regex::new(pattern).with_context(|| format!("pattern {pattern:?} does not compile"))
}
