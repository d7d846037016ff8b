//! Lines of files and what was found of them, both by ascending offset → what is missing and what is double, file by file.
//!
//! Pure but for the reading of lines. Which life of a file a document is of stands in its id; which file that is, is known
//! when all is read: the one whose lines it matches most. A line costs nothing once it is passed; lists of ranges are bounded.

use super::lines::Line;
use event::{Incarnation, parse_document_id};
use indexer::read_back::Found;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::io;

/// Ranges of one kind that are kept of one file; the others are counted.
const RANGES_MAX: usize = 1_000;

/// Lines that stand one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Range {
    /// Offset of the first, in bytes.
    pub(super) from: u64,
    /// Behind the last.
    pub(super) to: u64,
    /// How many: of copies, each counts.
    pub(super) lines: u64,
}

/// Ranges by ascending offset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Ranges {
    /// In all of them.
    pub(super) lines: u64,
    /// The first of them.
    pub(super) ranges: Vec<Range>,
    /// Lines in ranges that are not listed.
    pub(super) unlisted: u64,
}

impl Ranges {
    fn push(&mut self, next: Range) {
        self.lines += next.lines;
        let full = self.ranges.len() >= RANGES_MAX;
        match self.ranges.last_mut() {
            Some(last) if self.unlisted == 0 && (last.to == next.from || last.to == next.to) => {
                last.to = next.to;
                last.lines += next.lines;
            }
            _ if full => self.unlisted += next.lines,
            _ => self.ranges.push(next),
        }
    }

    fn extend(&mut self, other: Self) {
        self.lines += other.lines;
        self.unlisted += other.unlisted;
        self.ranges.extend(other.ranges);
        self.ranges.sort_by_key(|range| range.from);
        let beyond = self.ranges.split_off(self.ranges.len().min(RANGES_MAX));
        self.unlisted += beyond.iter().map(|range| range.lines).sum::<u64>();
    }
}

/// What is known of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    pub(super) path: String,
    /// The life of the file that its documents name.
    pub(super) incarnation: Option<String>,
    /// Lines with content.
    pub(super) lines: u64,
    /// Lines that have a document.
    pub(super) documents: u64,
    /// Lines that have a dead letter and no document.
    pub(super) dead_letters: u64,
    /// Lines that have neither.
    pub(super) missing: Ranges,
    /// Documents beyond the first of a line.
    pub(super) duplicates: Ranges,
    /// Documents of this life of the file that are of none of its lines as they are now.
    pub(super) strays: Strays,
    /// Documents and letters that begin where a line of the file begins, but are something else than this line.
    pub(super) unlike: Strays,
    pub(super) verdict: Verdict,
}

impl Report {
    pub(super) fn adds_up(&self) -> bool {
        self.verdict == Verdict::AddsUp
    }

    fn judge(&self) -> Verdict {
        let findings = self.missing.lines + self.duplicates.lines + self.strays.documents;
        match (findings, self.unlike.documents) {
            (0, 0) => Verdict::AddsUp,
            (_, 0) => Verdict::DoesNotAddUp,
            _ => Verdict::CannotTell,
        }
    }
}

/// What comes out of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    AddsUp,
    DoesNotAddUp,
    /// Its events are not its lines, so that a line without a document of its own may stand in another's.
    #[default]
    CannotTell,
}

/// Documents that match no line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Strays {
    pub(super) documents: u64,
    /// Of the first.
    pub(super) offset: Option<u64>,
}

impl Strays {
    fn add(&mut self, offset: u64) {
        self.documents += 1;
        self.offset = Some(self.offset.map_or(offset, |first| first.min(offset)));
    }

    fn extend(&mut self, other: &Self) {
        self.documents += other.documents;
        self.offset = self.offset.into_iter().chain(other.offset).min();
    }
}

/// Who a document is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Life {
    Named(Incarnation),
    /// Its id tells nothing; its path must do.
    Unnamed,
}

/// What was found of one life in one file.
#[derive(Debug, Default)]
struct Pair {
    documents: u64,
    letters: u64,
    missing: Ranges,
    duplicates: Ranges,
    found: Ranges,
    /// Number and start of the line that should come next.
    next: (u64, u64),
    /// The line before that has a document, not only a letter.
    has_document: bool,
}

impl Pair {
    fn add(&mut self, number: u64, line: Line, is_letter: bool) {
        let here = Range { from: line.offset, to: line.end, lines: 1 };
        if number + 1 == self.next.0 {
            match (is_letter, self.has_document) {
                (true, _) => {} // Replayed, or written twice: it is safe in any case.
                (false, true) => self.duplicates.push(here),
                (false, false) => {
                    self.letters -= 1;
                    self.documents += 1;
                    self.has_document = true;
                }
            }
            return;
        }
        if number > self.next.0 {
            self.missing.push(Range { from: self.next.1, to: line.offset, lines: number - self.next.0 });
        }
        self.next = (number + 1, line.end);
        self.found.push(here);
        self.has_document = !is_letter;
        self.documents += u64::from(!is_letter);
        self.letters += u64::from(is_letter);
    }
}

#[derive(Debug)]
struct File<L> {
    path: String,
    lines: L,
    /// Complete lines that were read.
    count: u64,
    /// Behind the last complete line.
    end: u64,
    pairs: HashMap<Life, Pair>,
    /// What begins where one of its lines begins and is something else.
    unlike: HashMap<Life, Strays>,
}

/// The join under way.
#[derive(Debug)]
pub(super) struct Join<L> {
    files: Vec<File<L>>,
    /// The next line of each file: by offset, then file and number.
    waiting: BinaryHeap<Reverse<(u64, usize, u64)>>,
    next: Vec<Option<Line>>,
    /// Lines that start at this offset.
    at: Option<u64>,
    here: Vec<(usize, u64, Line)>,
    strays: HashMap<Life, Strays>,
}

impl<L: Iterator<Item = io::Result<Line>>> Join<L> {
    pub(super) fn new(files: Vec<(String, L)>) -> io::Result<Self> {
        let next = vec![None; files.len()];
        let new = |(path, lines)| File { path, lines, count: 0, end: 0, pairs: HashMap::new(), unlike: HashMap::new() };
        let files = files.into_iter().map(new);
        let (waiting, here) = (BinaryHeap::new(), Vec::new());
        let mut join = Self { files: files.collect(), waiting, next, at: None, here, strays: HashMap::new() };
        (0..join.files.len()).try_for_each(|file| join.read(file))?;
        Ok(join)
    }

    /// Puts the next line of `file` among those that wait.
    fn read(&mut self, number: usize) -> io::Result<()> {
        let file = &mut self.files[number];
        let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.path));
        self.next[number] = file.lines.next().transpose().map_err(told)?;
        if let Some(line) = self.next[number] {
            self.waiting.push(Reverse((line.offset, number, file.count)));
            if line.is_complete {
                file.count += 1;
                file.end = line.end;
            }
        }
        Ok(())
    }

    fn advance(&mut self, offset: u64) -> io::Result<()> {
        self.here.clear();
        self.at = Some(offset);
        while let Some(&Reverse((start, file, number))) = self.waiting.peek()
            && start <= offset
        {
            self.waiting.pop();
            if let Some(line) = self.next[file]
                && start == offset
            {
                self.here.push((file, number, line));
            }
            self.read(file)?;
        }
        Ok(())
    }

    /// Takes what comes next by offset. Errors: a file cannot be read on.
    pub(super) fn add(&mut self, found: &Found, is_letter: bool) -> io::Result<()> {
        if self.at != Some(found.offset) {
            assert!(self.at.is_none_or(|at| at < found.offset), "documents come by ascending offset");
            self.advance(found.offset)?;
        }
        let named = parse_document_id(&found.id).filter(|(_, offset, _)| *offset == found.offset);
        let life = named.map_or(Life::Unnamed, |(incarnation, _, _)| Life::Named(incarnation));
        let mut is_stray = true;
        for &(file, number, line) in &self.here {
            let file = &mut self.files[file];
            let is_of_path = file.path == found.path;
            let is_this = named.map_or(is_of_path, |(_, _, hash)| hash == line.hash);
            if is_this {
                file.pairs.entry(life).or_default().add(number, line, is_letter);
                is_stray = false;
            }
            if (!is_this || found.is_no_line) && (is_of_path || file.pairs.contains_key(&life)) {
                file.unlike.entry(life).or_default().add(found.offset);
            }
        }
        if is_stray && !is_letter {
            self.strays.entry(life).or_default().add(found.offset);
        }
        Ok(())
    }

    /// Reads the files to their ends. Returns a report of each, and the documents that are of other files or lives.
    pub(super) fn end(mut self) -> io::Result<(Vec<Report>, u64)> {
        self.advance(u64::MAX)?;
        let lives = self.assign();
        let taken: HashSet<_> = lives.values().copied().collect();
        let mut reports = Vec::new();
        for (number, mut file) in self.files.into_iter().enumerate() {
            let life = lives.get(&number).copied();
            let mut pair = life.and_then(|life| file.pairs.remove(&life)).unwrap_or_default();
            let strays = life.filter(|life| *life != Life::Unnamed).and_then(|life| self.strays.remove(&life));
            // The end without a line end is a line if it was shipped.
            let lines = file.count.max(pair.next.0);
            if pair.next.0 < lines {
                pair.missing.push(Range { from: pair.next.1, to: file.end, lines: lines - pair.next.0 });
            }
            // Other lives that have nothing but this file's lines: the file was shipped again under another name.
            for (other, copy) in file.pairs {
                let is_copy = other == Life::Unnamed
                    || (!taken.contains(&other) && !self.strays.contains_key(&other) && copy.documents > 1);
                if is_copy && copy.documents > 0 {
                    pair.duplicates.extend(copy.found);
                    pair.duplicates.extend(copy.duplicates);
                }
            }
            // Of no line of it: what was made of the file's path by nobody else's life may be its events all the same.
            let mut unlike = Strays::default();
            for (other, strays) in &file.unlike {
                if life.map_or(!taken.contains(other), |life| life == *other) {
                    unlike.extend(strays);
                }
            }
            let incarnation = match life {
                Some(Life::Named(incarnation)) => Some(incarnation.to_string()),
                Some(Life::Unnamed) | None => None,
            };
            let (documents, dead_letters) = (pair.documents, pair.letters);
            let (missing, duplicates, strays) = (pair.missing, pair.duplicates, strays.unwrap_or_default());
            let (path, verdict) = (file.path, Verdict::default());
            let report = Report {
                path,
                incarnation,
                lines,
                documents,
                dead_letters,
                missing,
                duplicates,
                strays,
                unlike,
                verdict,
            };
            reports.push(Report { verdict: report.judge(), ..report });
        }
        Ok((reports, self.strays.values().map(|strays| strays.documents).sum()))
    }

    /// The life of each file: those that match most come first, and each is one file's at most.
    fn assign(&self) -> HashMap<usize, Life> {
        let mut choices: Vec<_> = self
            .files
            .iter()
            .enumerate()
            .flat_map(|(number, file)| file.pairs.iter().map(move |(life, pair)| (pair.found.lines, number, *life)))
            .collect();
        // What has names goes before what has none.
        choices.sort_by_key(|&(lines, number, life)| (life == Life::Unnamed, Reverse(lines), number, life));
        let (mut lives, mut taken) = (HashMap::new(), HashSet::new());
        for (_, number, life) in choices {
            if !lives.contains_key(&number) && (life == Life::Unnamed || taken.insert(life)) {
                lives.insert(number, life);
            }
        }
        lives
    }
}

#[cfg(test)]
mod tests;
