//! Bytes of a source in any encoding → lines of UTF-8. No I/O.
//!
//! The line end is looked for in encoded form and at a character's edge, so a 0x0A byte inside a character ends nothing.
//! Offsets are always in bytes of the source. The reader may stop and start anew at any line's start or end: all that
//! depends on what lies before is the byte order that a BOM decided, and that is read again from the file's head.

mod edge;
mod form;
mod names;
mod text;

pub use names::{Encoding, InvalidBytes, LineTerminator, OnLongLine};

use crate::line::Line;
use form::Form;
use std::sync::Arc;

/// Smallest line limit: a few characters of any encoding.
const LINE_BYTES_MIN: usize = 8;

/// How the lines of an input are found and decoded, as written in the config.
#[derive(Debug, Clone)]
pub(crate) struct DecodeConfig {
    pub(crate) encoding: Encoding,
    pub(crate) line_terminator: LineTerminator,
    pub(crate) on_long_line: OnLongLine,
    pub(crate) invalid_bytes: InvalidBytes,
    /// In bytes of the source, without the line end. Decoded, a line can be up to three times as long.
    pub(crate) line_bytes_max: usize,
}

/// The same in the form that is used, shared by an input's files.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The first is that of a file without BOM.
    forms: Vec<Form>,
    on_long_line: OnLongLine,
    invalid_bytes: InvalidBytes,
    line_bytes_max: usize,
}

impl Decoder {
    /// Compiles the config.
    ///
    /// Errors: the encoding has no such line end; the line end is empty or too long; the limit is below 8 bytes;
    /// `split` with an encoding whose pieces cannot be read by themselves.
    pub(crate) fn new(config: &DecodeConfig) -> anyhow::Result<Self> {
        if config.line_bytes_max < LINE_BYTES_MIN {
            anyhow::bail!("line_bytes_max: {} bytes is below {LINE_BYTES_MIN}", config.line_bytes_max);
        }
        if config.on_long_line == OnLongLine::Split && config.encoding == Encoding::Is(encoding_rs::ISO_2022_JP) {
            anyhow::bail!(
                "on_long_line: split cannot be used with iso-2022-jp, whose characters depend on those before"
            );
        }
        Ok(Self {
            forms: form::forms(config.encoding, &config.line_terminator)?,
            on_long_line: config.on_long_line,
            invalid_bytes: config.invalid_bytes,
            line_bytes_max: config.line_bytes_max,
        })
    }

    /// Which form a file that starts with `head` has, and the length of its BOM. `None` if that takes more bytes.
    fn form_of(&self, head: &[u8]) -> Option<(usize, usize)> {
        for (index, form) in self.forms.iter().enumerate() {
            if !form.bom.is_empty() && head.starts_with(form.bom) {
                return Some((index, form.bom.len()));
            }
        }
        let is_open = self.forms.iter().any(|form| form.bom.len() > head.len() && form.bom.starts_with(head));
        (!is_open).then_some((0, 0))
    }
}

/// What one chunk gave.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Bytes of the chunk that are done with; the caller gives the others again, with more behind them.
    pub(crate) consumed: usize,
    /// Bytes that are no character in the encoding.
    pub(crate) invalid_bytes: u64,
    /// Lines that were cut at the limit; each is flagged.
    pub(crate) truncated: u64,
    /// Pieces that were given because their line was longer than the limit, the last one of a line not counted.
    pub(crate) pieces: u64,
    /// Lines that were left out because they were longer than the limit.
    pub(crate) skipped: u64,
    /// Zero bytes before lines that were left out: holes that nobody filled.
    pub(crate) nul_bytes: u64,
}

/// Cuts one file. Small; what it keeps of an unfinished line is bounded by the line limit.
#[derive(Debug)]
pub(crate) struct Cutter {
    plan: Arc<Decoder>,
    /// Which of the plan's forms, and the length of the BOM. `None` while the head is too short to tell.
    form: Option<(usize, usize)>,
    held: Held,
}

/// What was consumed without having been given.
#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    /// A long run of zero bytes that may go on, or be filled later.
    Hole {
        start: u64,
    },
    Long(Long),
}

/// A line longer than the limit whose end has not been found.
#[derive(Debug)]
struct Long {
    start: u64,
    /// Of the source; empty if the line is left out.
    kept: Vec<u8>,
    is_wide: bool,
}

/// Where lines go to.
struct Out<'a> {
    plan: &'a Decoder,
    form: &'a Form,
    scratch: &'a mut Vec<u8>,
    each: &'a mut dyn FnMut(Line<'_>),
    cut: Cut,
}

impl Cutter {
    /// Starts at any line's start. `head`: the file's first bytes, four of them or all there are.
    pub(crate) fn new(plan: Arc<Decoder>, head: &[u8]) -> Self {
        let form = plan.form_of(head);
        Self { plan, form, held: Held::Nothing }
    }

    /// Gives every complete line of `chunk` to `each`, empty ones too.
    ///
    /// Shape: `chunk` starts at the source's byte `offset`, which is the file's start, a line's start, or where the last
    /// call's consumed bytes ended. If nothing is consumed, the next chunk must be longer; one of the line limit and 64
    /// bytes is always enough. `scratch` is where text is decoded to; one for all files will do.
    pub(crate) fn cut(
        &mut self,
        chunk: &[u8],
        offset: u64,
        scratch: &mut Vec<u8>,
        each: &mut dyn FnMut(Line<'_>),
    ) -> Cut {
        self.run(chunk, offset, false, scratch, each)
    }

    /// The same for the end of a source that will not grow: the rest is a line too.
    ///
    /// Zero bytes at the very end are not consumed: they are a hole that may be filled.
    pub(crate) fn finish(
        &mut self,
        chunk: &[u8],
        offset: u64,
        scratch: &mut Vec<u8>,
        each: &mut dyn FnMut(Line<'_>),
    ) -> Cut {
        self.run(chunk, offset, true, scratch, each)
    }

    /// From where a later reader must go on, if the next byte to give here is `next`: nothing behind it was given out.
    ///
    /// It lies before `next` within a line longer than the limit and within a long run of zero bytes.
    pub(crate) fn resume_at(&self, next: u64) -> u64 {
        match self.held {
            Held::Nothing => next,
            Held::Hole { start } | Held::Long(Long { start, .. }) => start,
        }
    }

    /// True within a long run of zero bytes. A reader that finds the file's end there goes back to [`Cutter::resume_at`]
    /// with a new `Cutter` when the file changes: the zeros may have been filled.
    pub(crate) fn is_in_hole(&self) -> bool {
        matches!(self.held, Held::Hole { .. })
    }

    /// True if the file is UTF-8 without BOM whose lines end at LF, shipped as it is but for what is too long: then
    /// `frame` gives the same lines without a copy. It neither counts invalid bytes nor trims zeros.
    pub(crate) fn is_plain(&self) -> bool {
        let Some((index, 0)) = self.form else { return false };
        let is_cut = self.plan.on_long_line == OnLongLine::Truncate;
        self.plan.forms[index].is_plain() && self.plan.invalid_bytes == InvalidBytes::Keep && is_cut
    }

    /// The form, told by the first chunk if the head was too short.
    fn tell_form(&mut self, chunk: &[u8], offset: u64, is_last: bool) -> Option<(usize, usize)> {
        if self.form.is_none() && offset == 0 {
            self.form = self.plan.form_of(chunk);
        }
        if self.form.is_none() && (offset > 0 || is_last) {
            self.form = Some((0, 0)); // Too short for a BOM.
        }
        self.form
    }

    fn run(
        &mut self,
        chunk: &[u8],
        offset: u64,
        is_last: bool,
        scratch: &mut Vec<u8>,
        each: &mut dyn FnMut(Line<'_>),
    ) -> Cut {
        let Some((index, bom_bytes)) = self.tell_form(chunk, offset, is_last) else { return Cut::default() };
        let plan = self.plan.clone();
        let mut out = Out { plan: &plan, form: &plan.forms[index], scratch, each, cut: Cut::default() };
        let mut at = if offset == 0 { bom_bytes.min(chunk.len()) } else { 0 };
        loop {
            let (rest, here) = (&chunk[at..], offset + at as u64);
            let step = match std::mem::take(&mut self.held) {
                Held::Long(long) => self.scan_over(rest, here, long, is_last, &mut out),
                Held::Hole { start } => self.step(rest, here, Some(start), is_last, &mut out),
                Held::Nothing => self.step(rest, here, None, is_last, &mut out),
            };
            let (Step::On(bytes) | Step::Wait(bytes)) = step;
            if bytes > 0 {
                at += bytes;
                out.cut.consumed = at;
            }
            if matches!(step, Step::Wait(_)) {
                return out.cut;
            }
        }
    }

    /// One line, one piece of one, the start of one that is too long, or zeros. `hole`: where those before `rest` start.
    fn step(&mut self, rest: &[u8], here: u64, hole: Option<u64>, is_last: bool, out: &mut Out<'_>) -> Step {
        let (form, limit) = (out.form, out.plan.line_bytes_max);
        let nuls = form.leading_nuls(rest);
        let line = &rest[nuls..];
        let is_half = line.len() < form.unit_bytes() && (!is_last || line == [0]);
        if line.is_empty() || is_half {
            let is_long = hole.is_some() || nuls >= limit;
            self.held = if is_long { Held::Hole { start: hole.unwrap_or(here) } } else { Held::Nothing };
            return Step::Wait(if is_long { nuls } else { 0 });
        }
        if nuls > 0 || hole.is_some() {
            out.cut.nul_bytes += here + nuls as u64 - hole.unwrap_or(here);
            return Step::On(nuls);
        }
        let window_bytes = limit + form.line_end_bytes() + edge::UNIT_BYTES_MAX;
        let window = &line[..line.len().min(window_bytes)];
        let mut is_wide = false;
        let (content, used) = match form.find(window, &mut is_wide) {
            Ok(end) => (form.content(&window[..end]), end + form.terminator.len()),
            Err(searched) if window.len() == window_bytes => {
                let kept = match out.plan.on_long_line {
                    OnLongLine::Split => return Step::On(out.piece(window, here)),
                    OnLongLine::Truncate => window[..form.cut(window, limit)].to_vec(),
                    OnLongLine::Skip => Vec::new(),
                };
                self.held = Held::Long(Long { start: here, kept, is_wide });
                return Step::On(searched);
            }
            Err(_) if is_last => {
                let end = form.without_trailing_nuls(window);
                (form.content(&window[..end]), end)
            }
            Err(_) => return Step::Wait(0),
        };
        let end = here + used as u64;
        match out.plan.on_long_line {
            _ if content.len() <= limit => out.give(content, here, end, false),
            OnLongLine::Truncate => out.give(&content[..form.cut(content, limit)], here, end, true),
            OnLongLine::Skip => out.cut.skipped += 1,
            OnLongLine::Split => return Step::On(out.piece(content, here)),
        }
        Step::On(used)
    }

    /// Looks for the end of a line that is too long to keep.
    fn scan_over(&mut self, rest: &[u8], here: u64, mut long: Long, is_last: bool, out: &mut Out<'_>) -> Step {
        let used = match out.form.find(rest, &mut long.is_wide) {
            Ok(end) => end + out.form.terminator.len(),
            Err(_) if is_last => rest.len(),
            Err(searched) => {
                self.held = Held::Long(long);
                return Step::Wait(searched);
            }
        };
        match out.plan.on_long_line {
            OnLongLine::Truncate => out.give(&long.kept, long.start, here + used as u64, true),
            OnLongLine::Skip | OnLongLine::Split => out.cut.skipped += 1,
        }
        Step::On(used)
    }
}

/// How many bytes are done with, and whether there may be more to find behind them.
enum Step {
    On(usize),
    Wait(usize),
}

impl Out<'_> {
    /// Decodes a line and passes it on.
    fn give(&mut self, content: &[u8], start: u64, end: u64, truncated: bool) {
        let (text, invalid) = text::decode(self.form.encoding, self.plan.invalid_bytes, content, self.scratch);
        self.cut.invalid_bytes += invalid;
        self.cut.truncated += u64::from(truncated);
        (self.each)(Line { text, start, end, truncated });
    }

    /// Passes on the first piece of a line longer than the limit and returns its length. It never ends in zero bytes:
    /// they may be a hole, and then they do not belong to the line.
    fn piece(&mut self, line: &[u8], start: u64) -> usize {
        let end = self.form.without_trailing_nuls(&line[..self.form.cut(line, self.plan.line_bytes_max)]);
        self.cut.pieces += 1;
        self.give(&line[..end], start, start + end as u64, false);
        end
    }
}

#[cfg(test)]
mod tests;
