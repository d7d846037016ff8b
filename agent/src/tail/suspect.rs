//! Packed files beside plain ones: the packed copy of a file that is known is never shipped by itself. While the original is
//! there, the copy waits; when it is gone, the copy is read in its place: the same incarnation, from the same offset.
//!
//! A packed file is a suspect until it is compared, on what it unpacks to, with all that begins as it does.

use super::adopt::Packed;
use super::claim::Claim;
use super::{Tail, enqueue};
use crate::checkpoint::{Key, PackedAt, Saved};
use crate::commit::Control;
use crate::discover::{Seen, find_inode};
use crate::follow::{Follow, Suspect, Twin, open};
use crate::identity::{Edges, HEAD_BYTES_MAX, Likeness, head_stands, incarnation_of};
use crate::unpack::{Compression, Ending};
use event::StreamId;
use service::clock::monotonic;
use std::fs::File;
use std::io;
use std::path::Path;

/// So many files are unpacked at once: each takes some hundred kilobytes, with zstd up to 8 MiB more.
const UNPACKING_MAX: usize = 4;
/// From so many bytes on, a copy may be shorter than its original: a writer went on while it was packed.
const COPY_BYTES_MIN: u64 = 1024;

/// What a comparison said.
#[derive(Debug)]
enum Verdict {
    /// It takes another turn.
    Again,
    /// Nothing can be said, or done, before something changes.
    Wait,
    /// It is a file of its own.
    Own,
    /// It continues this entry of the checkpoint, whose file is gone.
    Continues(Key),
}

impl Tail {
    /// The entry of the checkpoint that was made of this very file.
    pub(super) fn claim_packed(&self, follow: &mut Follow) -> io::Result<Option<Claim>> {
        let id = &self.inputs[follow.input].shared.id;
        let (size, _) = follow.stat_on_disk()?;
        let mut claim = None;
        let inode = follow.inode;
        for saved in self.unclaimed.values().filter(|saved| saved.input == *id && saved.body().may_be(&inode)) {
            if !is_at_rest(saved, size) {
                follow.unpack_to(HEAD_BYTES_MAX as u64)?;
                follow.stop_unpacking();
            }
            if is_at_rest(saved, size) || self.begins_like(follow, saved) {
                return Ok(Some(Claim::Continues(saved.key())));
            }
            claim = Some(Claim::Replaces(saved.key()));
        }
        Ok(claim)
    }

    /// True if the packed file begins as the content of an entry did.
    fn begins_like(&self, follow: &Follow, saved: &Saved) -> bool {
        let Some(pack) = &follow.pack else { return false };
        if saved.progress.offset > 0 {
            return head_stands(pack.head(), &saved.progress.anchor);
        }
        let decoder = &self.inputs[follow.input].recipe.decoder;
        incarnation_of(pack.head(), &self.agent, &saved.inode, saved.generation, decoder) == Some(saved.incarnation)
    }

    /// Nothing of it is shipped before it is known whether it is a copy.
    pub(super) fn suspect(&self, follow: &mut Follow, is_old: bool) {
        follow.suspect = Some(Box::new(Suspect { is_old, ..Suspect::default() }));
    }

    /// True if the last listing would have shown every packed copy of what was gone before, and all of them are decided.
    pub(super) fn may_forget(&self) -> bool {
        let is_open =
            |file: &Follow| file.is_queued && file.suspect.as_ref().is_some_and(|suspect| suspect.proved.is_none());
        let is_fresh = self.listed.zip(self.claimed).is_none_or(|(listed, claimed)| listed > claimed);
        is_fresh && !self.files.values().any(is_open)
    }

    /// True if a packed file may yet turn out to be a copy of what this entry tells of.
    pub(super) fn is_suspected(&self, saved: &Saved) -> bool {
        let entry = Twin::Entry(saved.key());
        self.files
            .values()
            .filter_map(|file| file.suspect.as_ref())
            .any(|suspect| suspect.twin.as_ref() == Some(&entry))
    }

    /// At every listing: suspects that are not decided, or of which something changed, have a turn.
    pub(super) fn look_after_suspects(&mut self) {
        let suspects: Vec<_> =
            self.files.values().filter(|file| file.suspect.is_some()).map(|file| file.stream).collect();
        for stream in suspects {
            let stands = self.files.get(&stream).and_then(|file| file.suspect.as_ref()).is_some_and(|suspect| {
                let Some((Twin::File(twin), end)) = suspect.twin.as_ref().zip(suspect.proved) else { return false };
                self.files.get(twin).is_some_and(|twin| is_still_like(twin, end))
            });
            let Some(file) = self.files.get_mut(&stream) else { continue };
            if let Some(suspect) = &mut file.suspect
                && !stands
                && suspect.proved.take().is_some()
            {
                suspect.tried.extend(suspect.twin.take());
            }
            if !stands || file.has_more(file.seen.size) {
                enqueue(file, &mut self.ready);
            }
        }
    }

    /// A turn of a suspect.
    pub(super) async fn judge(&mut self, stream: StreamId) {
        let Some(mut file) = self.files.remove(&stream) else { return };
        let verdict = self.compare(&mut file);
        let names = file.stat_on_disk().map_or(1, |(_, names)| names);
        match verdict {
            Ok(Verdict::Again) => enqueue(&mut file, &mut self.ready),
            Ok(Verdict::Wait) => {}
            Ok(Verdict::Own) => self.begin_own(&mut file).await,
            Ok(Verdict::Continues(key)) => {
                tracing::info!(path = %file.path.display(), was = %key.1, "packed copy of a file that is gone, reading on in it");
                file.suspect = None;
                match self.resume(&mut file, key, u64::MAX).await {
                    Ok(()) => file.card.problem(None),
                    Err(error) => tracing::warn!(path = %file.path.display(), %error, "cannot be read on"),
                }
                enqueue(&mut file, &mut self.ready);
            }
            Err(error) => {
                tracing::warn!(path = %file.path.display(), %error, "packed file cannot be read");
                file.card.problem(Some(format!("reading failed: {error}")));
            }
        }
        let is_read_next = file.suspect.as_ref().is_some_and(|suspect| match &suspect.twin {
            Some(Twin::File(twin)) => self.files.get(twin).is_some_and(|twin| twin.gone_since.is_some()),
            _ => false,
        });
        let is_gone = names == 0 && !file.is_queued && !is_read_next;
        self.files.insert(stream, file);
        if is_gone {
            self.let_go(stream, "deleted").await;
        }
    }

    /// It is no copy of anything: it is read from its start.
    async fn begin_own(&mut self, file: &mut Follow) {
        let is_old = file.suspect.take().is_some_and(|suspect| suspect.is_old);
        file.card.problem(None);
        self.metrics.incarnations.with_label_values(&["new"]).inc();
        let size = file.stat_on_disk().map_or(0, |(size, _)| size);
        if let Some(pack) = &mut file.pack {
            pack.rest_at = None;
        }
        if is_old && let Ok(Some(incarnation)) = file.incarnation(&self.agent) {
            let mut saved = self.saved(file, incarnation);
            saved.packed = Some(PackedAt { inode: file.inode, rest: Some((size, 0)) });
            self.announce(file, saved).await;
            file.stop_unpacking();
            if let Some(pack) = &mut file.pack {
                pack.rest(size, 0);
            }
        }
        enqueue(file, &mut self.ready);
    }

    fn compare(&self, file: &mut Follow) -> io::Result<Verdict> {
        let (size, _) = file.stat_on_disk()?;
        let is_proved = file.suspect.as_ref().is_some_and(|suspect| suspect.proved.is_some());
        if is_proved && !file.has_more(size) {
            return Ok(Verdict::Wait);
        }
        file.check_window()?;
        if file.unpack_to(HEAD_BYTES_MAX as u64)?.is_none() {
            return Ok(Verdict::Again);
        }
        if file.incarnation(&self.agent)?.is_none() {
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
                if let Some(suspect) = &mut file.suspect {
                    suspect.twin = None;
                    suspect.tried.push(twin);
                }
                Ok(Verdict::Again)
            }
        }
    }

    /// What it is compared with now: first a file whose name it has with something behind it.
    fn twin_of(&self, file: &mut Follow) -> Option<Twin> {
        let suspect = file.suspect.as_ref()?;
        let is_there = |twin: &Twin| match twin {
            Twin::File(stream) => self.files.contains_key(stream),
            Twin::Entry(key) => self.unclaimed.contains_key(key),
        };
        if let Some(twin) = suspect.twin.clone().filter(is_there) {
            return Some(twin);
        }
        let id = &self.inputs[file.input].shared.id;
        let others = self.files.values().filter(|other| other.input == file.input && other.suspect.is_none());
        let files = others.filter_map(|other| {
            let is_named = is_named_after(file, &other.path) || is_named_after(file, Path::new(&other.shipped_path));
            let (size, names) = other.stat_on_disk().unwrap_or((0, 1));
            // A deleted file that is still open is compared whole.
            let is_enough = is_named || size >= COPY_BYTES_MIN || names == 0 || other.pack.is_some();
            let is_like = is_enough && self.begins_alike(file, other);
            is_like.then_some((Twin::File(other.stream), is_named))
        });
        let entries = self.unclaimed.values().filter(|saved| saved.input == *id && saved.cursor.is_none());
        let entries = entries.filter_map(|saved| {
            let is_named = is_named_after(file, Path::new(&saved.path));
            let is_like = (is_named || saved.progress.offset >= COPY_BYTES_MIN) && self.begins_like(file, saved);
            is_like.then_some((Twin::Entry(saved.key()), is_named))
        });
        let mut found: Vec<_> = files.chain(entries).filter(|(twin, _)| !suspect.tried.contains(twin)).collect();
        found.sort_by_key(|(_, is_named)| !is_named);
        let twin = found.into_iter().next().map(|found| found.0);
        file.suspect.as_mut()?.twin.clone_from(&twin);
        twin
    }

    /// True if one begins with what is known of the start of the other.
    fn begins_alike(&self, file: &Follow, other: &Follow) -> bool {
        let Some(pack) = &file.pack else { return false };
        if let Some(head) = other.known_head() {
            let bytes = head.len().min(pack.head().len());
            return bytes > 0 && head[..bytes] == pack.head()[..bytes];
        }
        if other.offset > 0 {
            return head_stands(pack.head(), &other.anchor());
        }
        // All that was read of it was given back: its first line is known, by the incarnation that was made of it.
        let decoder = &self.inputs[file.input].recipe.decoder;
        let made = incarnation_of(pack.head(), &self.agent, &other.origin, other.generation, decoder);
        other.source.as_ref().is_some_and(|source| made == Some(source.incarnation))
    }

    /// `None`: it is no copy of it.
    fn compare_with_file(&self, file: &mut Follow, other: &Follow, size: u64) -> io::Result<Option<Verdict>> {
        let path = other.path.display();
        let Some(original) = self.plain(other) else {
            // Its content cannot be looked at any more: what was read of it is compared.
            let (offset, anchor) = (other.offset, other.anchor());
            return Ok(match file.unpack_to(offset)? {
                None => Some(Verdict::Again),
                Some(true) if file.unpacked_end().1 == Some(Ending::Unfinished) => {
                    Some(self.wait(file, size, None, "it is still being written"))
                }
                Some(true) => None,
                Some(false) if offset > 0 && !is_like(file, offset, &anchor) => None,
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
        let folder = Path::new(&saved.path).parent().unwrap_or(Path::new("/"));
        if find_inode(folder, saved.body())?.is_some() {
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
        let Some(suspect) = &mut file.suspect else { return Verdict::Wait };
        suspect.proved = proved;
        Verdict::Wait
    }

    /// The content of a plain file that is still there.
    fn plain(&self, file: &Follow) -> Option<File> {
        if file.pack.is_some() {
            return None;
        }
        if let Ok(opened) = file.file() {
            return opened.try_clone().ok();
        }
        let (opened, inode) = open(&file.path, self.inputs[file.input].links).ok()?;
        inode.may_be(&file.inode).then_some(opened)
    }

    /// A file is gone that is about to be let go. True if it is kept: a packed copy is read in its place now, or one may turn up.
    pub(super) async fn has_copy(&mut self, stream: StreamId) -> bool {
        let Some(file) = self.files.get_mut(&stream) else { return false };
        let input = file.input;
        if self.inputs[input].recipe.compression == Compression::None || file.suspect.is_some() {
            return false;
        }
        let gone_since = *file.gone_since.get_or_insert_with(monotonic);
        let (mut copy, mut is_open) = (None, false);
        for other in self.files.values().filter(|other| other.input == input) {
            let Some(suspect) = &other.suspect else { continue };
            is_open |= suspect.proved.is_none() && other.is_queued;
            if suspect.twin == Some(Twin::File(stream)) && suspect.proved.is_some() {
                copy = Some((other.stream, suspect.proved.unwrap_or(u64::MAX)));
            }
        }
        if let Some((copy, end)) = copy {
            self.read_on_in(stream, copy, end).await;
            return true;
        }
        // A packer removes the original last: a listing that was begun after that shows the copy.
        is_open || self.listed.is_none_or(|listed| listed <= gone_since)
    }

    /// The file goes on in its packed copy.
    async fn read_on_in(&mut self, stream: StreamId, copy: StreamId, end: u64) {
        let Some(copied) = self.files.remove(&copy) else { return };
        self.handles.closed(copy);
        self.handles.closed(stream);
        self.board.take_down(copy);
        let Some(file) = self.files.get_mut(&stream) else { return };
        tracing::info!(path = %file.path.display(), copy = %copied.path.display(), offset = file.offset,
            "it is gone, and read on in its packed copy");
        let place = (file.input, file.inode.device, file.inode.number);
        if self.by_inode.get(&place) == Some(&stream) {
            self.by_inode.remove(&place);
        }
        self.by_inode.insert((file.input, copied.inode.device, copied.inode.number), stream);
        file.take_body(copied, end);
        if file.is_open() {
            self.handles.used(stream, file.input);
        }
        if file.source.is_some() {
            let packed = PackedAt { inode: file.inode, rest: None };
            self.control.send(Control::Packed { stream, packed }).await.ok(); // Closed only when the agent ends.
        }
        enqueue(file, &mut self.ready);
    }

    /// False if so many files are being unpacked that this one must wait for one of them.
    pub(super) fn may_unpack(&mut self, stream: StreamId) -> bool {
        let Some(file) = self.files.get(&stream) else { return true };
        let has_more = |file: &Follow| file.stat_on_disk().is_ok_and(|(size, _)| file.has_more(size));
        if file.pack.is_none() || file.is_unpacking() || !has_more(file) {
            return true;
        }
        let files = &mut self.files;
        self.unpacking.retain(|stream| files.get(stream).is_some_and(Follow::is_unpacking));
        if self.unpacking.len() >= UNPACKING_MAX {
            let is_idle = |stream: &StreamId| files.get(stream).is_none_or(|file| !file.is_queued);
            let Some(idle) = self.unpacking.iter().position(is_idle) else { return false };
            if let Some(file) = files.get_mut(&self.unpacking.swap_remove(idle)) {
                file.stop_unpacking();
            }
        }
        self.unpacking.push(stream);
        true
    }

    /// A packed file was read as far as it can be: that is remembered, and told if it is not its end.
    pub(super) async fn note_rest(&mut self, stream: StreamId) {
        let Some(file) = self.files.get_mut(&stream) else { return };
        let Some((size, ending)) = file.take_rest() else { return };
        let label = match &ending {
            Some(Ending::Damaged(_)) => Some("damaged"),
            Some(Ending::Refused(_)) => Some("refused"),
            _ => None,
        };
        if let Some((label, reason)) = label.zip(ending.as_ref().and_then(Ending::problem)) {
            tracing::warn!(path = %file.path.display(), offset = file.offset, reason,
                "packed file cannot be unpacked any further, what was unpacked is kept");
            self.metrics.unpack_failures.with_label_values(&[label]).inc();
            file.card.problem(Some(format!("it cannot be unpacked beyond offset {}: {reason}", file.offset)));
        }
        if file.source.is_some() {
            let packed = PackedAt { inode: file.inode, rest: Some((size, file.offset)) };
            self.control.send(Control::Packed { stream, packed }).await.ok(); // Closed only when the agent ends.
        }
    }

    /// What was taken for a plain file, as long as there was nothing to see of it, is a packed one.
    pub(super) async fn turned_out_packed(&mut self, stream: StreamId) {
        let Some(file) = self.files.get(&stream) else { return };
        let (input, path, inode, sighting) = (file.input, file.path.clone(), file.inode, file.seen);
        self.let_go(stream, "truncated").await;
        self.adopt(&Seen { input, path, inode, sighting }, Packed::Too).await;
    }
}

/// True if nothing of a packed file of this size is left to read, as the checkpoint knows it.
fn is_at_rest(saved: &Saved, size_on_disk: u64) -> bool {
    let rest = saved.packed.and_then(|packed| packed.rest);
    rest.is_some_and(|(size, offset)| size == size_on_disk && saved.progress.offset >= offset)
}

/// Completes what goes on in a packed file, and its entry.
pub(super) fn resume_pack(follow: &mut Follow, saved: &mut Saved) -> io::Result<()> {
    let (size, _) = follow.stat_on_disk()?;
    let Some(pack) = &mut follow.pack else { return Ok(()) };
    pack.is_copy = *saved.body() != saved.inode || saved.packed.is_none();
    pack.reach(saved.progress.offset, Some(saved.progress.anchor));
    let rest = saved.packed.and_then(|packed| packed.rest).filter(|_| is_at_rest(saved, size));
    if rest.is_some() {
        pack.rest(size, saved.progress.offset);
    }
    saved.packed = Some(PackedAt { inode: follow.inode, rest });
    Ok(())
}

fn is_like(file: &Follow, offset: u64, anchor: &event::Anchor) -> bool {
    file.unpacked_edges(offset).is_some_and(|edges| edges.likeness(anchor) == Likeness::Same)
}

/// True if its name is that of `path` with something behind it, in whatever folder.
fn is_named_after(file: &Follow, path: &Path) -> bool {
    let bytes = |path: &Path| path.file_name().map(|name| name.as_encoded_bytes().to_vec());
    bytes(&file.path).zip(bytes(path)).is_some_and(|(name, other)| name.starts_with(&other))
}

/// True if a file that a copy was made of, of which `end` bytes are in the copy, has not grown so that it is no copy of it.
fn is_still_like(file: &Follow, end: u64) -> bool {
    let size = file.stat_on_disk().map_or(0, |(size, _)| size);
    file.pack.is_some() || end >= COPY_BYTES_MIN || size <= end
}
