//! Is a packed file the copy of another? Names only say what is compared first: the contents decide.

use super::Tail;
use crate::checkpoint::{Key, Saved};
use crate::follow::{Follow, Twin, open};
use crate::identity::{Edges, HEAD_BYTES_MAX, Likeness, head_of, head_stands, incarnation_of};
use crate::tail::search::find;
use crate::unpack::Ending;
use event::Anchor;
use std::fs::File;
use std::io;
use std::path::Path;

/// From so many bytes on, a copy may be shorter than its original: a writer went on while it was packed.
const COPY_BYTES_MIN: u64 = 1024;
/// What compressed files are called; a copy may have it behind the name of its original.
const PACKED: [&str; 5] = ["gz", "gzip", "z", "zst", "zstd"];

/// What a comparison said.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It takes another turn.
    Again,
    /// Nothing can be said, or done, before something changes.
    Wait,
    /// It is a file of its own.
    Own,
    /// It continues this entry of the checkpoint, whose file is gone.
    Continues(Key),
}

/// How the name of a copy relates to that of what it may be a copy of: the nearest is compared first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    /// It is that with something behind it: `app.log.1.gz`.
    After,
    /// It has the same letters: `app-2026-11-22-1.log.gz`.
    Alike,
    Otherwise,
}

impl Tail {
    /// True if the packed file begins as the content of an entry did.
    pub(super) fn begins_like(&self, follow: &Follow, saved: &Saved) -> bool {
        let Some(pack) = &follow.pack else { return false };
        if saved.progress.offset > 0 {
            return head_stands(pack.head(), &saved.progress.anchor);
        }
        let decoder = &self.inputs[follow.input].recipe.decoder;
        incarnation_of(pack.head(), &self.agent, &saved.inode, saved.generation, decoder) == Some(saved.incarnation)
    }

    /// One step of a suspect's comparison.
    pub(super) fn compare(&self, file: &mut Follow) -> io::Result<Verdict> {
        let size = file.stat()?.0.size;
        let is_proved = file.suspect().is_some_and(|suspect| suspect.proved.is_some());
        if is_proved && !file.has_more(size) {
            return Ok(Verdict::Wait);
        }
        file.check_window()?;
        // Only once: going back to its start means to unpack it anew.
        let is_begun = file.unpacked_end().0 >= HEAD_BYTES_MAX as u64;
        if !is_begun && file.unpack_to(HEAD_BYTES_MAX as u64)?.is_none() {
            return Ok(Verdict::Again);
        }
        let is_whole = matches!(file.unpacked_end(), (1.., Some(Ending::Clean))); // Then an unfinished line is all there is.
        if !is_whole && file.incarnation(&self.agent)?.is_none() {
            return Ok(self.wait(file, size, None, "no complete line can be unpacked yet")); // Or it is damaged from its start.
        }
        let Some(twin) = self.twin_of(file) else { return Ok(Verdict::Own) };
        let verdict = match &twin {
            Twin::File(other) => self.files.get(other).map(|other| self.compare_with_file(file, other, size)),
            Twin::Entry(key) => self.unclaimed.get(key).map(|saved| self.compare_with_entry(file, saved, size)),
        };
        match verdict.transpose()?.flatten() {
            Some(verdict) => Ok(verdict),
            None => {
                if let Some(suspect) = file.suspect_mut() {
                    suspect.twin = None;
                    suspect.tried.push(twin);
                }
                Ok(Verdict::Again)
            }
        }
    }

    /// What it is compared with now: first a file of whose name it has its own.
    fn twin_of(&self, file: &mut Follow) -> Option<Twin> {
        let suspect = file.suspect()?;
        let is_there = |twin: &Twin| match twin {
            Twin::File(stream) => self.files.contains_key(stream),
            Twin::Entry(key) => self.unclaimed.contains_key(key),
        };
        if let Some(twin) = suspect.twin.clone().filter(is_there) {
            return Some(twin);
        }
        let id = &self.inputs[file.input].id;
        let others = self.files.values().filter(|other| other.input == file.input && other.suspect().is_none());
        let files = others.filter_map(|other| {
            let named = named(&file.path, &other.path).min(named(&file.path, Path::new(&*other.shipped_path)));
            let (size, names) = other.stat().map_or((0, 1), |(now, names)| (now.size, names));
            // A deleted file that is still open is compared whole.
            let is_enough = named < Named::Otherwise || size >= COPY_BYTES_MIN || names == 0 || other.pack.is_some();
            let is_like = is_enough && self.begins_alike(file, other, named);
            is_like.then_some((Twin::File(other.stream), named))
        });
        let is_known = |saved: &&Saved| saved.input == *id && saved.cursor.is_none() && !saved.is_truncated;
        let entries = self.unclaimed.values().filter(is_known).filter_map(|saved| {
            let named = named(&file.path, Path::new(&*saved.path));
            let is_enough = named < Named::Otherwise || saved.progress.offset >= COPY_BYTES_MIN;
            let is_like = is_enough && self.begins_like(file, saved);
            is_like.then_some((Twin::Entry(saved.key()), named))
        });
        let found = files.chain(entries).filter(|(twin, _)| !suspect.tried.contains(twin));
        let twin = found.min_by_key(|(_, named)| *named).map(|found| found.0);
        file.suspect_mut()?.twin.clone_from(&twin);
        twin
    }

    /// True if one begins with what is known of the start of the other.
    fn begins_alike(&self, file: &Follow, other: &Follow, named: Named) -> bool {
        let Some(pack) = &file.pack else { return false };
        let is_alike = |head: &[u8]| head.iter().zip(pack.head()).all(|(byte, own)| byte == own);
        if let Some(head) = other.known_head() {
            return is_alike(&head);
        }
        // It is closed, and may have been written anew since.
        let opened = self.plain(other).ok().flatten().filter(|_| named < Named::Otherwise);
        let head = opened.and_then(|opened| head_of(&opened).ok()).filter(|head| !head.is_empty());
        if head.is_some_and(|head| is_alike(&head)) {
            return true;
        }
        if other.offset > 0 {
            return head_stands(pack.head(), &other.anchor());
        }
        // All that was read of it was given back: its first line is known, by the incarnation that was made of it.
        let decoder = &self.inputs[file.input].recipe.decoder;
        let made = incarnation_of(pack.head(), &self.agent, other.origin(), other.generation, decoder);
        other.source.as_ref().is_some_and(|source| made == Some(source.incarnation))
    }

    /// `None`: it is no copy of it.
    fn compare_with_file(&self, file: &mut Follow, other: &Follow, size: u64) -> io::Result<Option<Verdict>> {
        let path = other.path.display();
        let Some(original) = self.plain(other)? else {
            if other.pack.is_some() && other.stat().is_ok_and(|(now, _)| other.has_more(now.size)) {
                let reason = format!("it begins as {path}, with which it is compared when that is read");
                return Ok(Some(self.wait(file, size, None, &reason)));
            }
            // Its content cannot be looked at any more: what was read of it is compared.
            let (offset, anchor) = (other.offset, other.anchor());
            return Ok(match file.unpack_to(offset)? {
                None => Some(Verdict::Again),
                Some(true) if file.unpacked_end().1 == Some(Ending::Unfinished) => {
                    Some(self.wait(file, size, None, "it is still being written"))
                }
                Some(true) => None,
                Some(false) if offset > 0 && !is_like(file, offset, &anchor) => None,
                // A packed file is known whole: one that goes on behind it is another.
                Some(false) if other.pack.is_some() && file.unpack_to(offset + 1)? != Some(true) => None,
                Some(false) => Some(self.wait(file, size, Some(u64::MAX), &format!("it is a packed copy of {path}"))),
            });
        };
        let plain_bytes = original.metadata()?.len();
        if file.unpack_to(plain_bytes + 1)?.is_none() {
            return Ok(Some(Verdict::Again));
        }
        let (end, ending) = file.unpacked_end();
        if end > plain_bytes {
            // It holds more than the original: no copy, unless that has just grown.
            return Ok((original.metadata()?.len() > plain_bytes).then_some(Verdict::Again));
        }
        let anchor = Edges::read(&original, end)?.map(|edges| edges.anchor());
        let is_whole = end == plain_bytes || end >= COPY_BYTES_MIN || ending == Some(Ending::Unfinished);
        if !is_whole || anchor.is_none_or(|anchor| !is_like(file, end, &anchor)) {
            return Ok(None);
        }
        let reason = format!("it is a packed copy of {path}, which is still there: it is read when that is gone");
        Ok(Some(self.wait(file, size, Some(end), &reason)))
    }

    fn compare_with_entry(&self, file: &mut Follow, saved: &Saved, size: u64) -> io::Result<Option<Verdict>> {
        let links = self.inputs[file.input].links;
        if find(Path::new(&*saved.path), None, saved.body(), links)?.is_some() {
            let reason = format!("it may be a packed copy of {}, which is there and cannot be read", saved.path);
            return Ok(Some(self.wait(file, size, None, &reason)));
        }
        let offset = saved.progress.offset;
        Ok(match file.unpack_to(offset)? {
            None => Some(Verdict::Again),
            Some(true) if file.unpacked_end().1 == Some(Ending::Unfinished) => {
                Some(self.wait(file, size, None, "it is still being written"))
            }
            Some(true) => None,
            Some(false) if offset == 0 || is_like(file, offset, &saved.progress.anchor) => {
                Some(Verdict::Continues(saved.key()))
            }
            Some(false) => None,
        })
    }

    fn wait(&self, file: &mut Follow, size: u64, proved: Option<u64>, reason: &str) -> Verdict {
        let (end, ending) = file.unpacked_end();
        if let Some(pack) = &mut file.pack {
            pack.rest(size, end);
        }
        if ending != Some(Ending::Unfinished) {
            file.stop_unpacking();
        }
        let problem = ending.as_ref().and_then(Ending::problem);
        file.card.problem(Some(problem.map_or(reason.to_owned(), |problem| format!("{reason}; {problem}"))));
        if let Some(suspect) = file.suspect_mut() {
            suspect.proved = proved;
        }
        Verdict::Wait
    }

    /// The content of a plain file. `None` if it is proved to be gone. Errors: it cannot be looked at now.
    fn plain(&self, file: &Follow) -> io::Result<Option<File>> {
        if file.pack.is_some() {
            return Ok(None);
        }
        if let Ok(opened) = file.file() {
            return opened.try_clone().map(Some);
        }
        match open(&file.path, self.inputs[file.input].links) {
            Ok((opened, inode)) => Ok(inode.may_be(&file.inode).then_some(opened)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_like(file: &Follow, offset: u64, anchor: &Anchor) -> bool {
    file.unpacked_edges(offset).is_some_and(|edges| edges.likeness(anchor) == Likeness::Same)
}

/// True if a file that a copy was made of, of which `end` bytes are in the copy, has not grown so that it is no copy of it.
pub(super) fn is_still_like(file: &Follow, end: u64) -> bool {
    let size = file.stat().map_or(0, |(now, _)| now.size);
    file.pack.is_some() || end >= COPY_BYTES_MIN || size <= end
}

/// How a packed file's name relates to another's, in whatever folder.
fn named(copy: &Path, other: &Path) -> Named {
    let name = |path: &Path| path.file_name().map_or(Vec::new(), |name| name.as_encoded_bytes().to_vec());
    let (copy, other) = (name(copy), name(other));
    if other.is_empty() || copy.starts_with(&other) {
        return if other.is_empty() { Named::Otherwise } else { Named::After };
    }
    let own = letters(unpacked_name(&copy));
    if !own.is_empty() && own == letters(unpacked_name(&other)) { Named::Alike } else { Named::Otherwise }
}

/// A name without what packing puts behind it.
fn unpacked_name(name: &[u8]) -> &[u8] {
    let Some(at) = memchr::memrchr(b'.', name) else { return name };
    let is_packed = PACKED.iter().any(|packed| name[at + 1..].eq_ignore_ascii_case(packed.as_bytes()));
    if is_packed { &name[..at] } else { name }
}

/// Without the digits and signs of dates and numbers.
fn letters(name: &[u8]) -> Vec<u8> {
    name.iter().copied().filter(|byte| !byte.is_ascii_digit() && !b".-_: ".contains(byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_named_after_its_original_by_what_stands_behind_it_or_by_a_date_in_it() {
        for (copy, other, expected) in [
            ("app.log.1.gz", "app.log.1", Named::After),
            ("app.log-20261122.gz", "app.log", Named::After),
            ("app-2026-11-22-1.log.gz", "app.log", Named::Alike),
            ("app.3.log.ZST", "app.2.log", Named::Alike),
            ("app.log.1.named-anyhow", "app.log", Named::After),
            ("other.log.gz", "app.log", Named::Otherwise),
            ("application.log.gz", "app.log", Named::Otherwise),
            ("2026.gz", "7", Named::Otherwise), // Numbers alone are no name.
        ] {
            let (copy_path, other_path) = (Path::new("/a").join(copy), Path::new("/b").join(other));
            assert_eq!(named(&copy_path, &other_path), expected, "{copy} of {other}");
        }
    }
}
