//! A look at a followed file: one chunk of its bytes → lines.

use super::{CHUNK_BYTES, Follow, Held, LAST_LINE_BYTES, LINE_END_ROOM, Lines, LongLine, Look, OpenFile, Passed, Way};
use super::{closed, read_at, read_head};
use crate::assemble::{Assembly, Recipe};
use crate::decode::Cutter;
use crate::frame::{Framed, content, cut, frame, last_line_start};
use crate::identity::{Edges, TAIL_BYTES_MAX, read_span};
use crate::line::Events;
use bytes::Bytes;
use event::Record;
use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

impl Follow {
    /// When what is open is to be finished, if nothing more comes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.way {
            Way::Assembled(assembly) => assembly.deadline(),
            _ => None,
        }
    }

    /// True if what is open is to be finished: nothing came for it in all its time, as of a look at `now`, or nothing more is
    /// read.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now) || (self.is_read_out() && self.has_open())
    }

    /// Where a cut by time falls.
    pub(crate) fn cut_offset(&self) -> u64 {
        match &self.way {
            Way::Assembled(assembly) => assembly.cut_offset(),
            _ => self.offset,
        }
    }

    /// Finishes what is open: its time is up.
    pub(crate) fn flush(&mut self) -> Option<Lines> {
        let lines = self.flush_last()?;
        Some(self.anchored(lines))
    }

    /// Finishes what is open of a file that is gone: there is no content left that an anchor could be of.
    pub(crate) fn flush_last(&mut self) -> Option<Lines> {
        let Way::Assembled(assembly) = &mut self.way else { return None };
        let mut events = Events::default();
        assembly.flush(&mut events);
        assembly.hand_out(events, self.offset)
    }

    /// Other rules for lines, from the next event on.
    pub(crate) fn use_recipe(&mut self, recipe: Recipe) {
        self.next_recipe = Some(Box::new(recipe));
    }

    /// `start: end`: where the unfinished last line of the first `size` bytes starts. `None` if there is no line end.
    pub(crate) fn last_line_start(&self, size: u64) -> io::Result<Option<u64>> {
        let file = self.file()?;
        let head = read_head(file)?;
        let mut cutter = Cutter::new(self.recipe.decoder.clone(), &head);
        if cutter.is_plain() {
            let from = size.saturating_sub(LAST_LINE_BYTES);
            let bytes = usize::try_from(size - from).unwrap_or(usize::MAX);
            let last = read_span(file, from, bytes)?;
            return Ok(last.and_then(|last| last_line_start(&last)).map(|start| from + start as u64));
        }
        // A character's edge is only known from the start on.
        let (mut at, mut wanted, mut end, mut scratch) = (0, CHUNK_BYTES, None, Vec::new());
        while at < size {
            let mut chunk = vec![0; wanted.min(usize::try_from(size - at).unwrap_or(usize::MAX))];
            let read = read_at(file, &mut chunk, at)?;
            let cut = cutter.cut(&chunk[..read], at, &mut scratch, &mut |line| end = Some(line.end));
            if cut.consumed == 0 && read < wanted {
                break;
            }
            wanted = if cut.consumed == 0 { wanted * 2 } else { CHUNK_BYTES };
            at += cut.consumed as u64;
        }
        Ok(end)
    }

    /// Reads on from the offset: one chunk.
    pub(crate) fn look(&mut self, line_bytes_max: usize, now: Instant) -> io::Result<Look> {
        let Held::Open(open) = &self.held else { return Err(closed()) };
        let OpenFile { file, edges } = &**open;
        let size = file.metadata()?.len();
        // A size alone proves nothing: a file may be truncated and grow past the offset between two looks, and over a network
        // file system the size may be an old one. What was read last is compared, once a chunk.
        if !edges.tail_stands(file, self.offset)? {
            return Ok(Look::Truncated);
        }
        if size < self.offset {
            return Ok(Look::End);
        }
        self.reached = size;
        self.tell_way(size)?;
        let file = self.file()?;
        if matches!(self.way, Way::Assembled(_)) {
            return self.look_assembled(size, line_bytes_max, now);
        }
        if let Some(long) = &self.long {
            let kept = &long.kept[..long.kept.len().min(TAIL_BYTES_MAX)];
            if read_span(file, self.offset, kept.len())?.as_deref() == Some(kept) {
                return self.look_for_line_end(now);
            }
            self.long = None; // Another line stands there now.
        }
        let left = usize::try_from(size - self.offset).unwrap_or(usize::MAX);
        let (mut records, mut buffer_bytes) = (Vec::new(), self.chunk_bytes as usize);
        loop {
            let mut buffer = vec![0; buffer_bytes.min(left)];
            let read = read_at(self.file()?, &mut buffer, self.offset)?;
            buffer.truncate(read);
            let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            if zeros > 0 {
                return Ok(self.pass_zeros(&buffer[..zeros], read, size, now));
            }
            let framed = frame(&buffer, self.offset, line_bytes_max, &mut records);
            if framed.consumed > 0 {
                let start = self.offset;
                self.pass(&buffer[..framed.consumed], now);
                buffer.truncate(framed.consumed);
                let buffer = Bytes::from(buffer);
                let Framed { empty, empty_bytes, truncated, cut_bytes, zeros, .. } = framed;
                let passed =
                    Passed { empty, empty_bytes, truncated, cut_bytes, zero_bytes: zeros, ..Passed::default() };
                let (end, is_full, anchor) = (self.offset, self.offset < size, self.anchor());
                let filtered = BTreeMap::new();
                return Ok(Look::Lines(Lines { buffer, records, start, end, anchor, passed, filtered, is_full }));
            }
            if read < buffer_bytes {
                return Ok(Look::End);
            }
            if buffer.len() >= line_bytes_max + 2 {
                buffer.truncate(cut(&buffer, line_bytes_max));
                self.long = Some(Box::new(LongLine { kept: buffer, scanned: self.offset + read as u64 }));
                return Ok(Look::More);
            }
            buffer_bytes = (buffer_bytes * 4).min(line_bytes_max + 2);
        }
    }

    /// Zeros at the start of a line: a hole that a writer left who went on at an old offset, or blocks whose content has not
    /// arrived yet. They are passed over as soon as something follows them.
    fn pass_zeros(&mut self, zeros: &[u8], read: usize, size: u64, now: Instant) -> Look {
        if zeros.len() == read && self.offset + read as u64 >= size {
            return Look::End;
        }
        let start = self.offset;
        self.pass(zeros, now);
        let passed = Passed { zero_bytes: zeros.len() as u64, ..Passed::default() };
        let (buffer, records, end, anchor) = (Bytes::new(), Vec::new(), self.offset, self.anchor());
        Look::Lines(Lines { buffer, records, start, end, anchor, passed, filtered: BTreeMap::new(), is_full: true })
    }

    /// Decides how lines are made, at the first look at some bytes and after a reload.
    fn tell_way(&mut self, size: u64) -> io::Result<()> {
        let is_between = match &self.way {
            Way::Assembled(assembly) => assembly.is_idle() && assembly.handed_to() == self.offset,
            _ => self.long.is_none(),
        };
        if is_between && let Some(recipe) = self.next_recipe.take() {
            self.recipe = *recipe;
            self.begin_at(self.offset);
        }
        if matches!(self.way, Way::Untold) && size > self.offset {
            let head = read_head(self.file()?)?;
            let assembly =
                Assembly::new(&self.recipe, &head, self.offset, self.anchor(), std::mem::take(&mut self.cuts));
            let is_plain = assembly.is_plain(&self.recipe);
            self.way = if is_plain { Way::Plain } else { Way::Assembled(Box::new(assembly)) };
        }
        Ok(())
    }

    /// A look at a file whose lines need more than a cut at LF.
    fn look_assembled(&mut self, size: u64, line_bytes_max: usize, now: Instant) -> io::Result<Look> {
        match &self.way {
            Way::Assembled(assembly) if assembly.hole_at() == Some(size) => return Ok(Look::End),
            Way::Assembled(assembly) if assembly.hole_at().is_some() => {
                let from = assembly.handed_to();
                return Ok(if self.go_back_to(from)? { Look::More } else { Look::Truncated });
            }
            _ => {}
        }
        let left = usize::try_from(size - self.offset).unwrap_or(usize::MAX);
        let (mut events, mut wanted) = (Events::default(), self.chunk_bytes as usize);
        loop {
            let mut chunk = vec![0; wanted.min(left)];
            let read = read_at(self.file()?, &mut chunk, self.offset)?;
            let Way::Assembled(assembly) = &mut self.way else { return Ok(Look::More) };
            let taken = assembly.take(&chunk[..read], self.offset, now, &mut events);
            if taken == 0 && read == wanted && wanted < line_bytes_max + LINE_END_ROOM {
                wanted = (wanted * 4).min(line_bytes_max + LINE_END_ROOM);
                continue;
            }
            self.pass(&chunk[..taken], now);
            let Way::Assembled(assembly) = &mut self.way else { return Ok(Look::More) };
            let is_full = taken > 0 && self.offset < size;
            return match assembly.hand_out(events, self.offset) {
                Some(lines) => Ok(Look::Lines(Lines { is_full, ..self.anchored(lines) })),
                None if is_full => Ok(Look::More),
                None => {
                    assembly.at_end(size);
                    Ok(Look::End)
                }
            };
        }
    }

    /// Reads the anchor at the end of a span, which may lie before what was read.
    fn anchored(&mut self, lines: Lines) -> Lines {
        let anchor = if lines.end == self.offset {
            Some(self.anchor())
        } else {
            let edges = self.file().and_then(|file| Edges::read(file, lines.end));
            edges.ok().flatten().map(|edges| edges.anchor())
        };
        match &mut self.way {
            Way::Assembled(assembly) => assembly.anchored(lines, anchor),
            _ => lines,
        }
    }

    /// Goes on through a line that is too long to keep, in memory bounded by what is kept of it.
    fn look_for_line_end(&mut self, now: Instant) -> io::Result<Look> {
        let Held::Open(open) = &mut self.held else { return Err(closed()) };
        let OpenFile { file, edges } = &mut **open;
        let Some(long) = &mut self.long else { return Ok(Look::More) };
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = read_at(file, &mut chunk, long.scanned)?;
        let Some(end) = memchr::memchr(b'\n', &chunk[..read]) else {
            long.scanned += read as u64;
            return Ok(if read == 0 { Look::End } else { Look::More });
        };
        let (start, end) = (self.offset, long.scanned + end as u64 + 1);
        let kept = std::mem::take(&mut long.kept);
        let kept_bytes = u32::try_from(content(&kept).len()).expect("a line limit is below 4 GiB");
        self.long = None;
        let Some(found) = Edges::read(file, end)? else { return Ok(Look::Truncated) };
        *edges = found;
        (self.offset, self.changed) = (end, now);
        let records = vec![Record { bytes: 0..kept_bytes, offset: start, truncated: true, extra: None }];
        let (buffer, anchor, filtered) = (Bytes::from(kept), self.anchor(), BTreeMap::new());
        let cut_bytes = end - start - u64::from(kept_bytes);
        let passed = Passed { truncated: 1, cut_bytes, ..Passed::default() };
        Ok(Look::Lines(Lines { buffer, records, start, end, anchor, passed, filtered, is_full: true }))
    }

    fn pass(&mut self, bytes: &[u8], now: Instant) {
        if let Held::Open(open) = &mut self.held {
            open.edges.extend(bytes);
        }
        self.offset += bytes.len() as u64;
        self.changed = now;
    }
}
