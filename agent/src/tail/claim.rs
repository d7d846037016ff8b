//! After a start: which entry of the checkpoint does a file continue?

use super::Tail;
use super::adopt::{Adopted, Packed};
use super::suspect::resume_pack;
use crate::checkpoint::{Key, Saved};
use crate::commit::Control;
use crate::discover::{Seen, find_inode};
use crate::follow::{Follow, Sighting, open};
use crate::identity::{Likeness, compare, incarnation};
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
        let id = &self.inputs[follow.input].shared.id;
        let mut stale = None;
        for saved in self.unclaimed.values().filter(|saved| saved.input == *id && saved.body().may_be(&follow.inode)) {
            match self.likeness(follow.file()?, follow.input, saved)? {
                Likeness::Same | Likeness::SameTail => return Ok(Some(Claim::Continues(saved.key()))),
                Likeness::Other => stale = Some(Claim::Replaces(saved.key())),
            }
        }
        if stale.is_some() {
            return Ok(stale);
        }
        // Copied, or moved to another file system: only with a whole kilobyte of proof, and only if the original is gone.
        for saved in self.unclaimed.values().filter(|saved| saved.input == *id && saved.progress.offset >= 1024) {
            let folder = Path::new(&saved.path).parent().unwrap_or(Path::new("/"));
            if compare(follow.file()?, saved.progress.offset, &saved.progress.anchor)? == Likeness::Same
                && find_inode(folder, saved.body())?.is_none()
            {
                return Ok(Some(Claim::Continues(saved.key())));
            }
        }
        Ok(None)
    }

    /// How `file` relates to an entry. Of a file whose first lines nothing acknowledged yet no content is remembered but
    /// what its incarnation was made of: those lines may be stored already, so it must not get another.
    fn likeness(&self, file: &File, input: usize, saved: &Saved) -> io::Result<Likeness> {
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
        follow.origin = saved.inode;
        if follow.inode.number == saved.inode.number {
            follow.inode.birth_ns = saved.inode.birth_ns; // As it went into the incarnation.
        }
        follow.shipped_path.clone_from(&saved.path);
        follow.reread_below = size;
        follow.cuts.clone_from(&saved.cuts);
        if !follow.resume_at(saved.progress.offset)? {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "shrank while it was opened"));
        }
        if let Some(mut saved) = self.unclaimed.remove(&key) {
            if follow.pack.is_some() {
                resume_pack(follow, &mut saved)?;
            }
            self.announce(follow, saved).await;
        }
        self.metrics.incarnations.with_label_values(&["continued"]).inc();
        Ok(())
    }

    /// The file has the entry's inode, but not its content: another life, read from its start.
    pub(super) async fn replace(&mut self, follow: &mut Follow, key: Key, size: u64) {
        let Some(saved) = self.unclaimed.remove(&key) else { return };
        let is_same_life = saved.inode.birth_ns == follow.inode.birth_ns;
        follow.generation = if is_same_life { saved.generation + 1 } else { 0 };
        let lost = saved.progress.offset.saturating_sub(size);
        tracing::warn!(path = %follow.path.display(), offset = saved.progress.offset, size, lost,
            "file was truncated or its inode reused while the agent was down, reading from start");
        self.control.send(Control::Forget(key)).await.ok(); // Closed only when the agent ends.
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

    /// Entries whose files match no glob any more: renamed while the agent was down, or gone.
    pub(super) async fn claim_renamed(&mut self) {
        let unclaimed: Vec<_> = self.unclaimed.values().cloned().collect();
        for saved in unclaimed {
            let Some(input) = self.inputs.iter().position(|input| input.shared.id == saved.input) else { continue };
            let folder = Path::new(&saved.path).parent().unwrap_or(Path::new("/"));
            match find_inode(folder, saved.body()) {
                Ok(Some(path)) => self.adopt_renamed(input, path, &saved).await,
                Ok(None) if self.claims_left > 0 || self.is_suspected(&saved) => {}
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

    async fn adopt_renamed(&mut self, input: usize, path: PathBuf, saved: &Saved) {
        let followed = |file: &Follow| file.input == input && file.inode.may_be(saved.body());
        if self.files.values().any(followed) {
            // An older life of a file that is followed under its newer one.
            self.unclaimed.remove(&saved.key());
            self.control.send(Control::Forget(saved.key())).await.ok(); // Closed only when the agent ends.
            return;
        }
        let same = open(&path, self.inputs[input].links).and_then(|(file, _)| match saved.packed {
            Some(_) => Ok(Likeness::Same), // Compared when it is adopted.
            None => self.likeness(&file, input, saved),
        });
        if matches!(same, Ok(Likeness::Same | Likeness::SameTail)) {
            tracing::info!(path = %path.display(), was = %saved.path, offset = saved.progress.offset, "renamed, reading on");
            let inode = *saved.body();
            let sighting = std::fs::symlink_metadata(&path).map_or(Sighting::default(), |found| Sighting::of(&found));
            if self.adopt(&Seen { input, path, inode, sighting }, Packed::Too).await == Adopted::Followed {
                // Not matched by a glob: it is read to its end and then let go.
                self.files.values_mut().filter(|file| followed(file)).for_each(|file| file.is_listed = false);
            }
        }
    }
}
