//! When will a file's unread bytes be deleted? Rotations that were seen → an estimate, for the order of turns and for a warning
//! before it happens. No I/O, and no time but what is told; what is not known makes no deadline.
//!
//! A series is a log and its rotated names (`app.log`, `app.log.1`, `app.log-20261122`). When its generations were last written
//! says how often it is rotated; deletions say how many are kept, and until one was seen the highest number in a name does.

use event::StreamId;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::time::Duration;

/// The last rotations count; older ones may have been of another configuration.
const ROTATIONS_MAX: usize = 5;
/// Rotations closer together than this are no schedule: files that were copied here, or a folder being tidied.
const INTERVAL_MIN_MS: i64 = 1_000;
/// A number at the end of a name is a generation up to so many digits: more are a date or a process id.
const INDEX_DIGITS_MAX: usize = 3;
/// What compressed generations are called. They are no part of a series: what is deleted is the plain file.
const PACKED: [&str; 7] = ["gz", "zst", "bz2", "xz", "zip", "Z", "lz4"];
/// A rate is believed after so long, and after this part of the time that is left …
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_PART: u32 = 20;
/// … and it is measured anew after so long, or this part.
const WINDOW: Duration = Duration::from_secs(60);
const WINDOW_PART: u32 = 10;

/// Names a series: a hash of its input and of the part of the path that its generations share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct SeriesId(u64);

/// A file's place in a series, as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) series: SeriesId,
    /// Neither number nor date: the file that is written.
    is_live: bool,
    index: usize,
}

impl Generation {
    /// `None` for a compressed file.
    pub(crate) fn of(input: &str, path: &Path) -> Option<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.extension().and_then(OsStr::to_str).is_some_and(|extension| PACKED.contains(&extension)) {
            return None;
        }
        let is_index =
            |end: &str| (1..=INDEX_DIGITS_MAX).contains(&end.len()) && end.bytes().all(|b| b.is_ascii_digit());
        let (name, index) = match name.rsplit_once('.') {
            Some((name, end)) if is_index(end) => (name, end.parse().ok()),
            _ => (&*name, None),
        };
        let date = date_in(name);
        let at = date.clone().unwrap_or(name.len()..name.len());
        let shared = [&name.as_bytes()[..at.start], &name.as_bytes()[at.end..]].concat();
        let mut hasher = DefaultHasher::new();
        (input, path.parent(), shared).hash(&mut hasher);
        let is_live = index.is_none() && date.is_none();
        Some(Self { series: SeriesId(hasher.finish()), is_live, index: index.unwrap_or(0) })
    }
}

/// Where a date stands in a name, with the separator before it: 8 to 14 digits from the year on, perhaps apart.
fn date_in(name: &str) -> Option<std::ops::Range<usize>> {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let (start, mut end, mut digits) = (at, at, 0);
        while let Some(byte) =
            bytes.get(at).filter(|byte| byte.is_ascii_digit() || (digits > 0 && b"-_.:T".contains(byte)))
        {
            at += 1;
            if byte.is_ascii_digit() {
                (digits, end) = (digits + 1, at);
            }
        }
        if (8..=14).contains(&digits) && (bytes[start..].starts_with(b"20") || bytes[start..].starts_with(b"19")) {
            let has_separator = start > 0 && b"-_.".contains(&bytes[start - 1]);
            return Some(start - usize::from(has_separator)..end);
        }
        at = at.max(start + 1);
    }
    None
}

/// All series of which a file is followed.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    series: HashMap<SeriesId, Slot>,
}

/// Most files have no other generation: of them as little as possible is kept.
#[derive(Debug)]
enum Slot {
    One(Member),
    Many(Box<Series>),
}

#[derive(Debug, Clone, Copy)]
struct Member {
    stream: StreamId,
    /// When it was written last, as far as is known; of a rotated file that is about when it was rotated.
    changed_ms: i64,
    is_live: bool,
}

#[derive(Debug, Default)]
struct Series {
    /// Oldest first, the live one last.
    members: Vec<Member>,
    /// Rotations whose files are gone, in order.
    past: Vec<i64>,
    /// How many younger generations a file had when it was deleted.
    kept: Option<usize>,
    /// Highest number in a name.
    highest: usize,
    /// It is rotated by truncating it: what is not read then is gone.
    is_truncated: bool,
}

impl Deadlines {
    /// A file is followed that was written last at `changed_ms`. `seen_ms`: it was made just now, under the agent's eyes.
    pub(crate) fn born(&mut self, stream: StreamId, generation: Generation, changed_ms: i64, seen_ms: Option<i64>) {
        let Generation { series, is_live, index } = generation;
        let member = Member { stream, changed_ms, is_live };
        let slot = self.series.entry(series).or_insert(Slot::One(member));
        if matches!(slot, Slot::One(only) if only.stream == stream) && index == 0 {
            return;
        }
        let series = slot.grow();
        if let Some(now) = seen_ms.filter(|_| is_live || index == 0) {
            // Whatever was written until now is written no longer.
            series.members.iter_mut().last().into_iter().for_each(|before| before.changed_ms = now);
        }
        if is_live {
            series.members.iter_mut().for_each(|before| before.is_live = false);
        }
        series.members.retain(|other| other.stream != stream);
        series.members.push(member);
        series.highest = series.highest.max(index);
        series.sort();
    }

    /// A file has another name, in the same series or not.
    pub(crate) fn renamed(&mut self, stream: StreamId, from: SeriesId, to: Generation, now_ms: i64) {
        if from != to.series {
            self.gone(stream, from);
            return self.born(stream, to, now_ms, None);
        }
        let Some(slot) = self.series.get_mut(&from) else { return };
        let series = slot.grow();
        series.highest = series.highest.max(to.index);
        for member in series.members.iter_mut().filter(|member| member.stream == stream) {
            if std::mem::replace(&mut member.is_live, to.is_live) && !to.is_live {
                member.changed_ms = now_ms;
            }
        }
        series.sort();
    }

    /// The file was truncated and goes on as `next`.
    pub(crate) fn truncated(&mut self, stream: StreamId, next: StreamId, series: SeriesId, now_ms: i64) {
        let Some(slot) = self.series.get_mut(&series) else { return };
        let series = slot.grow();
        series.members.iter_mut().filter(|member| member.stream == stream).for_each(|member| member.stream = next);
        series.is_truncated = true;
        series.remember(now_ms);
    }

    /// The file has no name any more: so many generations are kept.
    pub(crate) fn deleted(&mut self, stream: StreamId, series: SeriesId) {
        let Some(Slot::Many(series)) = self.series.get_mut(&series) else { return };
        // The one that is written was deleted by hand: that says nothing.
        series.kept = series.rank(stream).filter(|rank| *rank > 0).or(series.kept);
    }

    /// The file is followed no longer.
    pub(crate) fn gone(&mut self, stream: StreamId, id: SeriesId) {
        match self.series.get_mut(&id) {
            Some(Slot::One(member)) if member.stream == stream => drop(self.series.remove(&id)),
            Some(Slot::Many(series)) => {
                let Some(at) = series.members.iter().position(|member| member.stream == stream) else { return };
                let was_last = at + 1 == series.members.len();
                let member = series.members.remove(at);
                if !was_last {
                    series.remember(member.changed_ms);
                }
                if series.members.is_empty() {
                    self.series.remove(&id);
                }
            }
            _ => {}
        }
    }

    /// About how long it takes until the file is deleted, if it is not read before. `None`: it cannot be told.
    pub(crate) fn left(&self, stream: StreamId, series: SeriesId, now_ms: i64) -> Option<Duration> {
        let Some(Slot::Many(series)) = self.series.get(&series) else { return None };
        let (last, interval) = series.rhythm()?;
        let rank = series.rank(stream)?;
        let rotations = if series.is_truncated && rank == 0 {
            1
        } else {
            let kept = series.kept.or((series.highest > 0).then_some(series.highest + 1))?;
            kept.saturating_sub(rank).max(1)
        };
        // One that is overdue may come now; the longer it has not come, the less it can be counted on.
        let next = (last + interval - now_ms).abs();
        let later = interval.max(now_ms - last).saturating_mul(i64::try_from(rotations - 1).unwrap_or(i64::MAX));
        u64::try_from(next.saturating_add(later)).ok().map(Duration::from_millis)
    }
}

impl Slot {
    fn grow(&mut self) -> &mut Series {
        if let Self::One(member) = self {
            *self = Self::Many(Box::new(Series { members: vec![*member], ..Series::default() }));
        }
        match self {
            Self::Many(series) => series,
            Self::One(_) => unreachable!("it was just grown"),
        }
    }
}

impl Series {
    fn sort(&mut self) {
        self.members.sort_by_key(|member| (member.is_live, member.changed_ms));
    }

    fn remember(&mut self, rotated_ms: i64) {
        self.past.push(rotated_ms);
        self.past.sort_unstable();
        self.past.drain(..self.past.len().saturating_sub(ROTATIONS_MAX));
    }

    /// How many generations are younger.
    fn rank(&self, stream: StreamId) -> Option<usize> {
        let at = self.members.iter().position(|member| member.stream == stream)?;
        Some(self.members.len() - 1 - at)
    }

    /// The last rotation and the time from one to the next, in milliseconds.
    fn rhythm(&self) -> Option<(i64, i64)> {
        let rotated = self.members.iter().rev().skip(1).map(|member| member.changed_ms);
        let mut rotations: Vec<_> = rotated.take(ROTATIONS_MAX).chain(self.past.iter().copied()).collect();
        rotations.sort_unstable_by(|a, b| b.cmp(a));
        rotations.truncate(ROTATIONS_MAX);
        let (last, first) = (*rotations.first()?, *rotations.last()?);
        let gaps = i64::try_from(rotations.len() - 1).ok().filter(|gaps| *gaps > 0)?;
        Some((last, (last - first) / gaps)).filter(|(_, interval)| *interval >= INTERVAL_MIN_MS)
    }
}

/// A file's unread bytes, from the look that found some to the one that finds none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backlog {
    since_ms: i64,
    from: u64,
    /// When they will be deleted, if that can be told.
    pub(crate) loses_at_ms: Option<i64>,
    pub(crate) is_warned: bool,
}

impl Backlog {
    /// It is found, at the next byte to read.
    pub(crate) fn new(now_ms: i64, offset: u64) -> Self {
        Self { since_ms: now_ms, from: offset, loses_at_ms: None, is_warned: false }
    }

    /// True if `unread` bytes will not be read in the time that is `left`, at the rate of late; `None`: not told yet.
    pub(crate) fn is_late(&mut self, now_ms: i64, offset: u64, unread: u64, left: Duration) -> Option<bool> {
        self.loses_at_ms = Some(now_ms.saturating_add(i64::try_from(left.as_millis()).unwrap_or(i64::MAX)));
        let passed = Duration::from_millis(u64::try_from(now_ms - self.since_ms).unwrap_or(0));
        if passed < PATIENCE.max(left / PATIENCE_PART) {
            return None;
        }
        let read = offset.saturating_sub(self.from);
        // unread / (read / passed) > left, without dividing by what may be zero.
        let is_late = u128::from(unread) * passed.as_millis() > u128::from(read) * left.as_millis();
        if passed >= WINDOW.max(left / WINDOW_PART) {
            (self.since_ms, self.from) = (now_ms, offset);
        }
        Some(is_late)
    }
}

#[cfg(test)]
mod tests;
