//! A look at a followed file: one chunk of its bytes → lines.

use super::{CHUNK_BYTES, Follow, Held, LAST_LINE_BYTES, LINE_END_ROOM, Lines, LongLine, Look, OpenFile, Passed, Way};
use super::{closed, read_at, read_head};
use crate::assemble::{Assembly, Recipe};
use crate::decode::Cutter;
use crate::frame::{Framed, content, cut, frame, last_line_start};
use crate::identity::{Edges, HEAD_BYTES_MAX, TAIL_BYTES_MAX, read_span};
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
        if self.pack.is_some() {
            return self.look_into_pack(line_bytes_max, now);
        }
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
        self.look_up_to(size, line_bytes_max, now)
    }

    /// Reads on from the offset in a file of which `size` bytes are there.
    pub(super) fn look_up_to(&mut self, size: u64, line_bytes_max: usize, now: Instant) -> io::Result<Look> {
        if self.tell_way(size)? {
            return Ok(Look::Packed);
        }
        if matches!(self.way, Way::Assembled(_)) {
            return self.look_assembled(size, line_bytes_max, now);
        }
        if let Some(long) = &self.long {
            let kept = &long.kept[..long.kept.len().min(TAIL_BYTES_MAX)];
            if self.pack.is_some() || read_span(self.file()?, self.offset, kept.len())?.as_deref() == Some(kept) {
                return self.look_for_line_end(size, line_bytes_max, now);
            }
            self.long = None; // Another line stands there now.
        }
        let cut_at = self.next_cut(size);
        let left = usize::try_from(cut_at.unwrap_or(size) - self.offset).unwrap_or(usize::MAX);
        let (mut records, mut buffer_bytes) = (Vec::new(), self.chunk_bytes as usize);
        loop {
            let mut buffer = vec![0; buffer_bytes.min(left)];
            let read = self.read_at(&mut buffer, self.offset)?;
            buffer.truncate(read);
            let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            if zeros > 0 {
                // Nothing of a file is passed over before there is something that its incarnation can be made of.
                let is_told = self.source.is_some() || self.offset + read as u64 >= HEAD_BYTES_MAX as u64;
                if !is_told && memchr::memchr(b'\n', &buffer).is_none() {
                    return Ok(Look::End);
                }
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
                let is_cut = cut_at.filter(|cut| *cut == self.offset + read as u64);
                let Some(end) = is_cut else { return Ok(Look::End) };
                return Ok(self.line_up_to(buffer, end, line_bytes_max, now)?.map_or(Look::Truncated, Look::Lines));
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

    /// Decides how lines are made, at the first look at some bytes and after a reload. True if the file turns out to be packed.
    fn tell_way(&mut self, size: u64) -> io::Result<bool> {
        let is_between = match &self.way {
            Way::Assembled(assembly) => assembly.is_idle() && assembly.handed_to() == self.offset,
            _ => self.long.is_none(),
        };
        if is_between && let Some(recipe) = self.next_recipe.take() {
            self.recipe = *recipe;
            self.begin_at(self.offset);
        }
        if matches!(self.way, Way::Untold) && size > self.offset {
            let mut head = vec![0; 4];
            let read = self.read_at(&mut head, 0)?;
            head.truncate(read);
            if self.offset == 0 && self.pack.is_none() && self.recipe.compression.of(&head).is_some() {
                return Ok(true);
            }
            let assembly =
                Assembly::new(&self.recipe, &head, self.offset, self.anchor(), std::mem::take(&mut self.cuts));
            let is_plain = assembly.is_plain(&self.recipe);
            if is_plain {
                self.cuts = assembly.cuts_from(self.offset);
            }
            self.way = if is_plain { Way::Plain } else { Way::Assembled(Box::new(assembly)) };
        }
        Ok(false)
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
        let left = |end: u64| usize::try_from(end - self.offset).unwrap_or(usize::MAX);
        let (all, mut to_cut) = (left(size), self.next_cut(size).map(left));
        let (mut events, mut wanted) = (Events::default(), self.chunk_bytes as usize);
        loop {
            let mut chunk = vec![0; wanted.min(to_cut.unwrap_or(all))];
            let read = self.read_at(&mut chunk, self.offset)?;
            let Way::Assembled(assembly) = &mut self.way else { return Ok(Look::More) };
            let taken = match to_cut {
                Some(left) if left == read => assembly.take_last(&chunk, self.offset, now, &mut events),
                _ => assembly.take(&chunk[..read], self.offset, now, &mut events),
            };
            if taken == 0 && to_cut == Some(read) {
                to_cut = None; // No line is there, but a hole: the cut finishes nothing.
                continue;
            }
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
            self.edges_at(lines.end).ok().flatten().map(|edges| edges.anchor())
        };
        match &mut self.way {
            Way::Assembled(assembly) => assembly.anchored(lines, anchor),
            _ => lines,
        }
    }

    /// Goes on through a line that is too long to keep, in memory bounded by what is kept of it.
    fn look_for_line_end(&mut self, size: u64, line_bytes_max: usize, now: Instant) -> io::Result<Look> {
        let Some(scanned) = self.long.as_ref().map(|long| long.scanned) else { return Ok(Look::More) };
        let cut_at = self.next_cut(size);
        let left = cut_at.map_or(CHUNK_BYTES, |cut| usize::try_from(cut - scanned).unwrap_or(usize::MAX));
        let mut chunk = vec![0; CHUNK_BYTES.min(left)];
        let read = self.read_at(&mut chunk, scanned)?;
        let Some(long) = &mut self.long else { return Ok(Look::More) };
        let Some(end) = memchr::memchr(b'\n', &chunk[..read]) else {
            long.scanned += read as u64;
            if let Some(end) = cut_at.filter(|cut| *cut == long.scanned) {
                let kept = std::mem::take(&mut long.kept);
                return Ok(self.line_up_to(kept, end, line_bytes_max, now)?.map_or(Look::Truncated, Look::Lines));
            }
            return Ok(if read == 0 { Look::End } else { Look::More });
        };
        let (start, end) = (self.offset, long.scanned + end as u64 + 1);
        let kept = std::mem::take(&mut long.kept);
        let kept_bytes = u32::try_from(content(&kept).len()).expect("a line limit is below 4 GiB");
        self.long = None;
        let Some(found) = self.edges_at(end)? else { return Ok(Look::Truncated) };
        self.set_edges(found);
        (self.offset, self.changed) = (end, now);
        let records = vec![Record { bytes: 0..kept_bytes, offset: start, truncated: true, extra: None }];
        let (buffer, anchor, filtered) = (Bytes::from(kept), self.anchor(), BTreeMap::new());
        let cut_bytes = end - start - u64::from(kept_bytes);
        let passed = Passed { truncated: 1, cut_bytes, ..Passed::default() };
        Ok(Look::Lines(Lines { buffer, records, start, end, anchor, passed, filtered, is_full: true }))
    }

    /// The content's edges at `offset`. `None` if it ends before, or of a packed file if they are kept no longer.
    pub(super) fn edges_at(&self, offset: u64) -> io::Result<Option<Edges>> {
        match &self.pack {
            Some(pack) => Ok(pack.window.as_ref().and_then(|window| window.edges(offset))),
            None => Edges::read(self.file()?, offset),
        }
    }

    pub(super) fn set_edges(&mut self, found: Edges) {
        if let Held::Open(open) = &mut self.held {
            open.edges = found;
        }
    }

    /// Reads the content at `offset`, unpacked.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.pack {
            Some(pack) => Ok(pack.read_at(buffer, offset)),
            None => read_at(self.file()?, buffer, offset),
        }
    }

    fn pass(&mut self, bytes: &[u8], now: Instant) {
        if let Held::Open(open) = &mut self.held {
            open.edges.extend(bytes);
        }
        self.offset += bytes.len() as u64;
        self.changed = now;
    }
}
