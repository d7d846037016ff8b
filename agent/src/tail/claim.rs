//! After a start: which entry of the checkpoint does a file continue?

use super::Tail;
use super::search::find;
use crate::checkpoint::{Key, Saved};
use crate::commit::Control;
use crate::discover::Seen;
use crate::follow::{Follow, Sighting, open};
use crate::identity::{Inode, Likeness, compare, incarnation};
use event::StreamId;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// What an entry of the checkpoint means for a file.
pub(super) enum Claim {
    /// It is the file: read on.
    Continues(Key),
    /// It had the file's inode, but its content is gone.
    Replaces(Key),
}

impl Tail {
    /// Finds the entry of the checkpoint that this file continues, or that its inode belonged to.
    pub(super) fn claim(&self, follow: &Follow) -> io::Result<Option<Claim>> {
        let id = &self.inputs[follow.input].id;
        let mut stale: Option<&Saved> = None;
        for saved in self.unclaimed.values().filter(|saved| saved.input == *id && saved.inode.may_be(&follow.inode)) {
            match self.likeness(follow.file()?, follow.input, saved)? {
                Likeness::Same | Likeness::SameTail => return Ok(Some(Claim::Continues(saved.key()))),
                // Of several lives the last one counts: its generation is the highest.
                Likeness::Other => stale = stale.filter(|other| other.generation > saved.generation).or(Some(saved)),
            }
        }
        if let Some(stale) = stale {
            return Ok(Some(Claim::Replaces(stale.key())));
        }
        // Copied, or moved to another file system: only with a whole kilobyte of proof, and only if the original is gone.
        let may_be_copied = |saved: &&Saved| saved.input == *id && saved.progress.offset >= 1024 && !saved.is_truncated;
        for saved in self.unclaimed.values().filter(may_be_copied) {
            let links = self.inputs[follow.input].links;
            if compare(follow.file()?, saved.progress.offset, &saved.progress.anchor)? == Likeness::Same
                && find(Path::new(&*saved.path), None, &saved.inode, links)?.is_none()
            {
                return Ok(Some(Claim::Continues(saved.key())));
            }
        }
        Ok(None)
    }

    /// How `file` relates to an entry. Of a file whose first lines nothing acknowledged yet no content is remembered but
    /// what its incarnation was made of: those lines may be stored already, so it must not get another.
    fn likeness(&self, file: &File, input: usize, saved: &Saved) -> io::Result<Likeness> {
        if saved.is_truncated {
            return Ok(Likeness::Other);
        }
        if saved.progress.offset > 0 {
            return compare(file, saved.progress.offset, &saved.progress.anchor);
        }
        let now = incarnation(file, &self.agent, &saved.inode, saved.generation, &self.inputs[input].recipe.decoder)?;
        Ok(if now == Some(saved.incarnation) { Likeness::Same } else { Likeness::Other })
    }

    /// Reads on where the entry ends.
    pub(super) async fn resume(&mut self, follow: &mut Follow, key: Key, size: u64) -> io::Result<()> {
        let Some(saved) = self.unclaimed.get(&key) else { return Ok(()) };
        follow.generation = saved.generation;
        if follow.inode.number == saved.inode.number {
            follow.inode.birth_ns = saved.inode.birth_ns; // As it went into the incarnation.
        }
        follow.shipped_path.clone_from(&saved.path);
        follow.reread_below = size;
        follow.cuts.clone_from(&saved.cuts);
        if !follow.resume_at(saved.progress.offset)? {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "shrank while it was opened"));
        }
        if let Some(saved) = self.unclaimed.remove(&key) {
            self.announce(follow, saved).await;
        }
        self.metrics.incarnations.with_label_values(&["continued"]).inc();
        Ok(())
    }

    /// The file has the entry's inode, but not its content: another life, read from its start.
    pub(super) async fn replace(&mut self, follow: &mut Follow, key: Key, size: u64) {
        let Some(saved) = self.unclaimed.get_mut(&key) else { return };
        let is_same_life = saved.inode.birth_ns == follow.inode.birth_ns;
        follow.generation = if is_same_life { saved.generation + 1 } else { 0 };
        let lost = saved.progress.offset.saturating_sub(size);
        if !saved.is_truncated {
            tracing::warn!(path = %follow.path.display(), offset = saved.progress.offset, size, lost,
                "file was truncated or its inode reused while the agent was down, reading from start");
        }
        let told = if is_same_life {
            // The generation is remembered until the new life has an entry of its own. Should the file not be adopted
            // after all, the next listing finds the same.
            saved.is_truncated = true;
            follow.replaces = Some(Box::new(saved.clone()));
            Control::Keep(saved.clone())
        } else {
            self.unclaimed.remove(&key);
            Control::Forget(key)
        };
        self.control.send(told).await.ok(); // Closed only when the agent ends.
        let reason = if is_same_life { "truncated" } else { "inode_reused" };
        self.metrics.incarnations.with_label_values(&[reason]).inc();
    }

    /// `start: end`: what is there at the very first start is left alone, from the start of its last line on it is read.
    pub(super) async fn start_at_end(&mut self, follow: &mut Follow, size: u64) -> io::Result<()> {
        self.metrics.incarnations.with_label_values(&["new"]).inc();
        let Some(offset) = follow.last_line_start(size)? else { return Ok(()) };
        let Some(incarnation) = follow.incarnation(&self.agent)? else { return Ok(()) };
        if follow.resume_at(offset)? {
            let saved = self.saved(follow, incarnation);
            self.announce(follow, saved).await;
        }
        Ok(())
    }

    /// True if a file that an entry may belong to lost its name after the listing was made. The next listing may have been
    /// made before that, too, and the one after it while the file was moved: so they are counted anew.
    pub(super) fn misses_unclaimed(&self) -> bool {
        let is_missed = |saved: &Saved| self.missed.iter().any(|inode| inode.may_be(&saved.inode));
        !self.missed.is_empty() && self.unclaimed.values().any(is_missed)
    }

    /// Entries whose files match no glob any more: renamed while the agent was down, or gone.
    pub(super) async fn claim_renamed(&mut self) {
        let unclaimed: Vec<_> = self.unclaimed.values().cloned().collect();
        for saved in unclaimed {
            let Some(input) = self.inputs.iter().position(|input| input.id == saved.input) else { continue };
            let links = self.inputs[input].links;
            match find(Path::new(&*saved.path), None, &saved.inode, links) {
                Ok(Some(path)) => self.adopt_renamed(input, path, &saved).await,
                Ok(None) if self.claims_left > 0 || !self.inputs[input].clean_removed => {}
                Ok(None) => {
                    tracing::warn!(path = %saved.path, offset = saved.progress.offset, "file is gone, forgotten");
                    self.unclaimed.remove(&saved.key());
                    self.control.send(Control::Forget(saved.key())).await.ok(); // Closed only when the agent ends.
                }
                Err(error) => {
                    tracing::warn!(path = %saved.path, %error, "cannot look for this file, its offset is kept")
                }
            }
        }
    }

    /// After a start: of the generations of a log the oldest is read first, as it would have been without the stop.
    pub(super) fn oldest_first(&mut self) {
        let changed = |stream: &StreamId| self.files.get(stream).map(|file| file.seen.modified_ns);
        self.ready.sort_by_key(changed);
    }

    async fn adopt_renamed(&mut self, input: usize, path: PathBuf, saved: &Saved) {
        let followed = |file: &Follow| file.input == input && file.inode.may_be(&saved.inode);
        if self.files.values().any(|file| followed(file)) {
            // An older life of a file that is followed under its newer one.
            self.unclaimed.remove(&saved.key());
            self.control.send(Control::Forget(saved.key())).await.ok(); // Closed only when the agent ends.
            return;
        }
        let same = open(&path, self.inputs[input].links).and_then(|(file, _)| self.likeness(&file, input, saved));
        if matches!(same, Ok(Likeness::Same | Likeness::SameTail)) {
            tracing::info!(path = %path.display(), was = %saved.path, offset = saved.progress.offset, "renamed, reading on");
            let inode = Inode { ..saved.inode };
            let sighting = std::fs::symlink_metadata(&path).map_or(Sighting::default(), |found| Sighting::of(&found));
            if self.adopt(Seen { input, path, inode, sighting }).await {
                // Not matched by a glob: it is read to its end and then let go.
                self.files.values_mut().filter(|file| followed(file)).for_each(|file| file.is_listed = false);
            }
        }
    }
}
