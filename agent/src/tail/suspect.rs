//! Packed files beside plain ones: the packed copy of a file that is known is never shipped by itself. While the original is
//! there, the copy waits; when it is gone, the copy is read in its place: the same incarnation, from the same offset.
//!
//! A packed file is a suspect until it is compared, on what it unpacks to, with all that begins as it does.

use super::claim::Claim;
use super::compare::{Verdict, is_still_like};
use super::{Tail, enqueue};
use crate::checkpoint::{PackedAt, Saved};
use crate::commit::Control;
use crate::follow::{Follow, Suspect, Twin};
use crate::identity::HEAD_BYTES_MAX;
use crate::unpack::Ending;
use event::StreamId;
use std::io;

/// So many files are unpacked at once: each takes some hundred kilobytes, with zstd up to 8 MiB more.
pub(super) const UNPACKING_MAX: usize = 4;

impl Tail {
    /// The entry of the checkpoint that was made of this very file.
    pub(super) fn claim_packed(&self, follow: &mut Follow) -> io::Result<Option<Claim>> {
        let id = &self.inputs[follow.input].id;
        let size = follow.stat()?.0.size;
        let (mut stale, inode): (Option<&Saved>, _) = (None, follow.inode);
        for saved in self.unclaimed.values().filter(|saved| saved.input == *id && saved.body().may_be(&inode)) {
            if !saved.is_truncated {
                if is_at_rest(saved, size) {
                    return Ok(Some(Claim::Continues(saved.key())));
                }
                follow.unpack_to(HEAD_BYTES_MAX as u64)?;
                follow.stop_unpacking();
                if self.begins_like(follow, saved) {
                    return Ok(Some(Claim::Continues(saved.key())));
                }
            }
            // Of several lives the last one counts: its generation is the highest.
            stale = stale.filter(|other| other.generation > saved.generation).or(Some(saved));
        }
        Ok(stale.map(|stale| Claim::Replaces(stale.key())))
    }

    /// Most files are no suspects: those that are have a table of their own.
    pub(super) fn note_suspect(&mut self, file: &Follow) {
        if file.suspect().is_some() {
            self.suspects.insert(file.stream);
        }
    }

    /// The files that may be copies.
    pub(super) fn suspects(&self) -> impl Iterator<Item = (&Follow, &Suspect)> {
        let files = self.suspects.iter().filter_map(|stream| self.files.get(stream));
        files.filter_map(|file| file.suspect().map(|suspect| (&**file, suspect)))
    }

    /// True if the last listing would have shown every packed copy of what was gone before, and all of them are decided.
    pub(super) fn may_forget(&self) -> bool {
        let is_fresh = self.listed.zip(self.claimed).is_none_or(|(listed, claimed)| listed > claimed);
        is_fresh && !self.suspects().any(|(file, suspect)| file.is_queued && suspect.proved.is_none())
    }

    /// True if a packed file may yet turn out to be a copy of what this entry tells of.
    pub(super) fn is_suspected(&self, saved: &Saved) -> bool {
        let entry = Twin::Entry(saved.key());
        self.suspects().any(|(_, suspect)| suspect.twin.as_ref() == Some(&entry))
    }

    /// At every listing: suspects that are not decided, or of which something changed, have a turn.
    pub(super) fn look_after_suspects(&mut self) {
        let files = &self.files;
        self.suspects.retain(|stream| files.get(stream).is_some_and(|file| file.suspect().is_some()));
        for stream in self.suspects.clone() {
            let stands = self.files.get(&stream).and_then(|file| file.suspect()).is_some_and(|suspect| {
                let Some((Twin::File(twin), end)) = suspect.twin.as_ref().zip(suspect.proved) else { return false };
                self.files.get(twin).is_some_and(|twin| is_still_like(twin, end))
            });
            let Some(file) = self.files.get_mut(&stream) else { continue };
            if let Some(suspect) = file.suspect_mut()
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
        let names = file.stat().map_or(1, |(_, names)| names);
        match verdict {
            Ok(Verdict::Again) => enqueue(&mut file, &mut self.ready),
            Ok(Verdict::Wait) => {}
            Ok(Verdict::Own) => self.begin_own(&mut file).await,
            Ok(Verdict::Continues(key)) => {
                tracing::info!(path = %file.path.display(), was = %key.1, "packed copy of a file that is gone, reading on in it");
                file.clear();
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
        let is_read_next = file.suspect().is_some_and(|suspect| match &suspect.twin {
            Some(Twin::File(twin)) => self.gone.contains_key(twin),
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
        let is_old = file.clear().is_some_and(|suspect| suspect.is_old);
        file.card.problem(None);
        self.metrics.incarnations.with_label_values(&["new"]).inc();
        let size = file.stat().map_or(0, |(now, _)| now.size);
        if let Some(pack) = &mut file.pack {
            pack.rest_at = None;
        }
        if is_old && let Ok(Some(incarnation)) = file.incarnation(&self.agent) {
            let packed = Some(Box::new(PackedAt { inode: file.inode, rest: Some((size, 0)) }));
            let saved = Saved { packed, ..self.saved(file, incarnation) };
            self.announce(file, saved).await;
            file.stop_unpacking();
            if let Some(pack) = &mut file.pack {
                pack.rest(size, 0);
            }
        }
        enqueue(file, &mut self.ready);
    }

    /// False if so many files are being unpacked that this one must wait for one of them: then it is queued again.
    pub(super) fn may_unpack(&mut self, stream: StreamId) -> bool {
        let Some(file) = self.files.get(&stream) else { return true };
        let has_more = |file: &Follow| file.stat().is_ok_and(|(now, _)| file.has_more(now.size));
        let is_at_rest = file.suspect().is_none() && !has_more(file);
        if file.pack.is_none() || file.is_unpacking() || is_at_rest {
            return true;
        }
        let files = &mut self.files;
        self.unpacking.retain(|stream| files.get(stream).is_some_and(|file| file.is_unpacking()));
        if self.unpacking.len() >= UNPACKING_MAX {
            let is_idle = |stream: &StreamId| files.get(stream).is_none_or(|file| !file.is_queued);
            let Some(idle) = self.unpacking.iter().position(is_idle) else {
                let Some(file) = files.get_mut(&stream) else { return true };
                file.is_queued = false;
                enqueue(file, &mut self.ready);
                return false;
            };
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
            let rest = file.unfinished_end().is_none().then_some((size, file.offset)); // Else it has a line left.
            let packed = PackedAt { inode: file.inode, rest };
            self.control.send(Control::Packed { stream, packed }).await.ok(); // Closed only when the agent ends.
        }
    }

    /// What was taken for a plain file, as long as there was nothing to see of it, is a packed one.
    pub(super) fn turned_out_packed(&mut self, stream: StreamId) {
        let Some(file) = self.files.get_mut(&stream) else { return };
        match file.look_for_packing() {
            Ok(_) => {
                self.suspects.insert(stream);
                enqueue(file, &mut self.ready);
            }
            Err(error) => tracing::warn!(path = %file.path.display(), %error, "read failed"),
        }
    }
}

/// True if nothing of a packed file of this size is left to read, as the checkpoint knows it.
fn is_at_rest(saved: &Saved, size_on_disk: u64) -> bool {
    let rest = saved.packed.as_ref().and_then(|packed| packed.rest);
    rest.is_some_and(|(size, offset)| size == size_on_disk && saved.progress.offset >= offset)
}

/// Completes what goes on in a packed file, and its entry.
pub(super) fn resume_pack(follow: &mut Follow, saved: &mut Saved) -> io::Result<()> {
    let size = follow.stat()?.0.size;
    let (inode, is_at_rest) = (follow.inode, is_at_rest(saved, size));
    let Some(pack) = &mut follow.pack else {
        saved.packed = None; // It is the plain file again.
        return Ok(());
    };
    pack.is_copy = *saved.body() != saved.inode || saved.packed.is_none();
    pack.reach(saved.progress.offset, Some(saved.progress.anchor));
    let rest = saved.packed.as_ref().and_then(|packed| packed.rest).filter(|_| is_at_rest);
    if rest.is_some() {
        pack.rest(size, saved.progress.offset);
    }
    saved.packed = Some(Box::new(PackedAt { inode, rest }));
    Ok(())
}
