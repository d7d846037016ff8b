//! Listings → followed files: what is new is followed, what has grown is queued, what is gone is let go.

use super::claim::Claim;
use super::search::{find_again, home_of};
use super::{BUSY, CLAIMS, Tail, enqueue};
use crate::checkpoint::Saved;
use crate::commit::Control;
use crate::config::Start;
use crate::discover::{Listing, Seen};
use crate::follow::{Follow, Links, Opened, Pack, Place, Sighting, open};
use event::StreamId;
use service::clock::{monotonic, wall_ms};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

/// What becomes of a packed file that is to be adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packed {
    /// Nothing yet: others may have to come first.
    Later,
    /// It is adopted.
    Too,
}

/// What came of an adoption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adopted {
    Followed,
    Unreadable,
    /// It is packed, and not followed yet.
    Packed,
}

impl Tail {
    /// Follows what is new, queues what has grown, lets go of what is gone.
    pub(super) async fn reconcile(&mut self, listing: Listing) {
        self.listed = listing.begun.or(self.listed);
        if !Arc::ptr_eq(&listing.inputs, &self.inputs) {
            self.reload(listing.inputs.clone());
        }
        let (mut unreadable, mut renamed, mut packed) = (0, Vec::new(), Vec::new());
        for file in self.files.values_mut() {
            file.is_listed = false;
        }
        self.missed.clear();
        for seen in listing.files {
            let place = (seen.input, seen.inode.device, seen.inode.number);
            if let Some(stream) = self.by_inode.get(&place).copied()
                && self.files.get(&stream).is_some_and(|file| !file.inode.may_be(&seen.inode))
            {
                if self.is_still_there(stream) {
                    continue; // The listing is older than this file: its inode was another's then.
                }
                // It was closed and deleted, and a new file has its inode. What becomes of it is decided when the packed files
                // of this listing are known, of which one may be its copy.
                self.by_inode.remove(&place);
            }
            match self.by_inode.get(&place).and_then(|stream| self.files.get_mut(stream)) {
                Some(file) => {
                    self.gone.remove(&file.stream); // It has a name again.
                    // Of several hard links the first in order counts, so that the path stays the same.
                    if !std::mem::replace(&mut file.is_listed, true) && *file.path != *seen.path {
                        file.path = seen.path.into();
                        renamed.push(file.stream);
                    }
                    let is_changed = file.pack.is_none() && seen.sighting.modified_ns != file.seen.modified_ns;
                    if is_changed || file.has_more(seen.sighting.size) {
                        enqueue(file, &mut self.ready);
                    }
                    file.seen = seen.sighting;
                }
                None => match self.adopt(&seen, Packed::Later).await {
                    Adopted::Followed => {}
                    Adopted::Unreadable => unreadable += 1,
                    Adopted::Packed => packed.push(seen),
                },
            }
        }
        renamed.into_iter().for_each(|stream| self.note_name(stream));
        // After all plain ones, of which they may be copies; the oldest first, which was rotated first.
        packed.sort_by_key(|seen: &Seen| seen.sighting.modified_ns);
        for seen in packed {
            unreadable += i64::from(self.adopt(&seen, Packed::Too).await == Adopted::Unreadable);
        }
        self.is_first_listing = false;
        if self.claims_left > 0 {
            if self.misses_unclaimed() {
                self.claims_left = CLAIMS;
            } else if self.claims_left > 1 || self.may_forget() {
                self.claims_left -= 1;
            }
            self.claim_renamed().await;
            self.oldest_first();
            self.claimed.get_or_insert_with(monotonic);
        }
        self.look_after_suspects();
        self.look_after_unlisted().await;
        self.look_after_idle().await;
        self.look_after_backlogs();
        self.show();
        self.metrics.unreadable.set(unreadable);
        self.metrics.files.set(i64::try_from(self.files.len()).unwrap_or(i64::MAX));
        self.metrics
            .open_files
            .set(self.files.values().filter(|file| file.is_open()).count().try_into().unwrap_or(i64::MAX));
        self.metrics.memory_in_use.set(i64::try_from(self.budget.in_use()).unwrap_or(i64::MAX));
    }

    /// True unless the file is gone. While one is open nobody else gets its inode.
    fn is_still_there(&mut self, stream: StreamId) -> bool {
        let Some(file) = self.files.get_mut(&stream) else { return false };
        file.is_open() || find_again(file, self.inputs[file.input].links)
    }

    /// Notes on the board how the files look.
    fn show(&self) {
        for file in self.files.values() {
            let size = file.content_size(file.stat().map_or(file.seen.size, |(now, _)| now.size));
            file.card.seen(&file.path, size, file.is_open(), file.is_listed);
        }
    }

    /// Begins to follow a file. If it cannot be opened now, the next listing tries again.
    pub(super) async fn adopt(&mut self, seen: &Seen, packed: Packed) -> Adopted {
        match self.try_adopt(seen, packed).await {
            Ok(adopted) => adopted,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.missed.push(seen.inode); // Gone or renamed since the scan.
                Adopted::Followed
            }
            Err(error) => {
                tracing::warn!(path = %seen.path.display(), input = %self.inputs[seen.input].shared.id, %error,
                    "file cannot be read; it is tried again at every scan");
                Adopted::Unreadable
            }
        }
    }

    async fn try_adopt(&mut self, seen: &Seen, packed: Packed) -> io::Result<Adopted> {
        self.make_room(seen.input);
        let input = &self.inputs[seen.input];
        let (file, inode) = open(&seen.path, input.links)?;
        let packing = input.recipe.compression.of_file(&file)?;
        if packing.is_some() && packed == Packed::Later {
            return Ok(Adopted::Packed);
        }
        let place = (seen.input, inode.device, inode.number);
        if self.by_inode.get(&place).is_some_and(|stream| self.files.contains_key(stream)) {
            return Ok(Adopted::Followed); // Renamed between the scan and now: it is followed already.
        }
        self.streams += 1;
        let at = Place { input: seen.input, path: seen.path.as_path().into(), recipe: input.recipe.clone() };
        let mut follow = Follow::new(file, at, inode, StreamId(self.streams), monotonic());
        follow.seen = seen.sighting;
        follow.home = home_of(&follow, input.links);
        follow.pack = packing.map(|packing| Box::new(Pack::new(packing, inode)));
        // What a packed file unpacks to is not known yet.
        let size = if packing.is_some() { u64::MAX } else { follow.stat()?.0.size };
        // An earlier life of the agent may have read it, even if it turns up only now.
        if self.is_first_listing || inode.birth_ns.is_none_or(|birth_ns| birth_ns / 1_000_000 <= self.started_ms) {
            follow.reread_below = size;
        }
        let is_old = input.ignore_older.is_some_and(|limit| age(seen) > limit);
        let is_start = self.first_start && self.is_first_listing && input.start == Start::End;
        let claim = if packing.is_some() { self.claim_packed(&mut follow)? } else { self.claim(&follow)? };
        match claim {
            None if packing.is_some() => follow.make_suspect(is_start || is_old),
            Some(Claim::Replaces(key)) if packing.is_some() => {
                self.replace(&mut follow, key, 0).await;
                follow.make_suspect(is_old);
            }
            Some(Claim::Replaces(key)) => {
                self.replace(&mut follow, key, size).await;
                if is_old {
                    self.start_at_end(&mut follow, size).await?;
                }
            }
            Some(Claim::Continues(key)) => self.resume(&mut follow, key, size).await?,
            None if is_start || is_old => self.start_at_end(&mut follow, size).await?,
            None => self.metrics.incarnations.with_label_values(&["new"]).inc(),
        }
        if let Some(before) = &follow.replaces {
            self.unclaimed.remove(&before.key());
        }
        self.note_suspect(&follow);
        self.by_inode.insert(place, follow.stream);
        self.note_birth(&mut follow);
        self.handles.used(follow.stream, follow.input);
        let id = self.inputs[follow.input].id.clone();
        self.board.put(follow.stream, id, follow.generation, follow.card.clone());
        enqueue(&mut follow, &mut self.ready);
        self.files.insert(follow.stream, Box::new(follow));
        Ok(Adopted::Followed)
    }

    /// Closes files until one more of `input` may be opened.
    fn make_room(&mut self, input: usize) {
        for stream in self.handles.surplus(input) {
            if self.files.get_mut(&stream).is_none_or(|file| file.close()) {
                self.handles.closed(stream);
                return;
            }
        }
    }

    /// Opens a file for its turn. False if it cannot have one now: it cannot be opened, or another file has its name.
    pub(super) async fn take_handle(&mut self, stream: StreamId) -> bool {
        let Some(file) = self.files.get_mut(&stream) else { return false };
        file.is_queued = false;
        if file.is_cutting {
            return false; // It is queued again when the cut is durable.
        }
        let input = file.input;
        if file.is_open() {
            self.handles.used(stream, input);
            return true;
        }
        self.make_room(input);
        let links = self.inputs[input].links;
        let Some(file) = self.files.get_mut(&stream) else { return false };
        match file.open(links) {
            Ok(Opened::Same) => {
                file.card.problem(None);
                self.handles.used(stream, input);
                true
            }
            Ok(Opened::Changed) => {
                self.handles.used(stream, input);
                self.truncated(stream).await;
                false
            }
            // The next listing says which name it has now.
            Ok(Opened::Elsewhere) => false,
            Err(error) => {
                file.card.problem(Some(format!("it cannot be opened: {error}")));
                tracing::warn!(path = %file.path.display(), offset = file.offset, %error,
                    "cannot be opened again; its offset is kept, it is tried again when it is seen next");
                false
            }
        }
    }

    /// Files that no listing shows: rotated away or deleted. They are read to their end, and as long as they have a name
    /// a writer may go on with them; a deleted one is let go when all of it is settled.
    async fn look_after_unlisted(&mut self) {
        let (mut vanished, mut retired, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
        for file in self.files.values_mut().filter(|file| !file.is_listed) {
            let before = file.seen.modified_ns;
            if !file.is_open() && !find_again(file, self.inputs[file.input].links) {
                vanished.push(file.stream);
                continue;
            }
            let Ok((now, names)) = file.stat() else { continue };
            file.seen.modified_ns = now.modified_ns;
            // Written anew it may have its old size. A deleted file has one more look, at whose end it is let go.
            let is_written = file.pack.is_none() && now.modified_ns != before;
            let has_changed = file.has_more(now.size) || is_written || names == 0;
            let is_wanted = if file.is_read_out() { file.has_open() } else { has_changed };
            if is_wanted {
                enqueue(file, &mut self.ready);
            }
            if names == 0 {
                deleted.push(file.stream);
            }
            let is_done = file.is_done() || file.suspect().is_some(); // A copy is not needed any more.
            if self.inputs[file.input].is_retired && is_done && !file.is_queued {
                retired.push(file.stream);
            }
        }
        deleted.into_iter().for_each(|stream| self.note_deletion(stream));
        for stream in retired {
            self.rest(stream).await;
        }
        for stream in vanished {
            self.vanished(stream).await;
        }
    }

    /// A closed file is gone: what was not yet read of it is lost.
    async fn vanished(&mut self, stream: StreamId) {
        if self.has_copy(stream).await {
            return;
        }
        self.finish_open(stream).await;
        let Some(file) = self.files.get(&stream) else { return };
        let lost = file.unread();
        if lost > 0 {
            tracing::error!(path = %file.path.display(), offset = file.offset, lost, "deleted before it was read; these bytes are lost");
            self.metrics.lost_bytes.with_label_values(&["deleted"]).inc_by(lost);
        }
        self.note_deletion(stream);
        self.let_go(stream, "deleted").await;
    }

    /// Closes files that no longer grow, forgets those that have not grown for very long, removes those that are done with.
    async fn look_after_idle(&mut self) {
        let (now, mut forgotten, mut done, mut ended) = (monotonic(), Vec::new(), Vec::new(), Vec::new());
        // What a rate plan holds keeps its descriptor: the file may be rotated away before it is read.
        let held = &self.held;
        for file in self.files.values_mut().filter(|file| !file.is_queued && !held.has(file.stream)) {
            let input = &self.inputs[file.input];
            let idle = now.duration_since(file.changed);
            if file.is_open() && idle >= BUSY {
                file.rest();
            }
            if idle >= input.close_inactive
                && let Some(end) = file.unfinished_end()
            {
                ended.push((file.stream, end));
            }
            if file.is_open() && idle >= input.close_inactive && file.close() {
                file.let_go_of_long_line();
                self.handles.closed(file.stream);
            }
            let is_limited = input.delete_after.is_some() || input.clean_inactive.is_some();
            if !is_limited || !file.is_listed || !file.is_done() {
                continue;
            }
            let unchanged = age_of(file.seen.modified_ns);
            if input.delete_after.is_some_and(|grace| idle >= grace && unchanged >= grace) {
                done.push(file.stream);
            } else if input.clean_inactive.is_some_and(|limit| idle >= limit && unchanged >= limit) {
                forgotten.push(file.stream);
            }
        }
        for (stream, end) in ended {
            self.ask_for_last_line(stream, end).await;
        }
        for stream in done {
            self.remove(stream).await;
        }
        for stream in forgotten {
            self.forget_inactive(stream).await;
        }
    }

    /// `delete_after`: removes the name that was found, if the file is still exactly what was acknowledged. Of a symbolic link
    /// that is the link: what it leads to belongs to somebody else.
    async fn remove(&mut self, stream: StreamId) {
        let Some(file) = self.files.get_mut(&stream) else { return };
        let path = file.path.clone();
        let names_left = match names_of(file, self.inputs[file.input].links) {
            Ok(Some(names)) => names - 1,
            Ok(None) => return, // It has changed.
            Err(error) => return tracing::warn!(path = %path.display(), %error, "cannot be removed, tried again"),
        };
        if let Err(error) = std::fs::remove_file(&path) {
            return tracing::warn!(path = %path.display(), %error, "cannot be removed, tried again at the next scan");
        }
        tracing::info!(path = %path.display(), bytes = file.offset, names_left, "acknowledged to its end, removed");
        self.metrics.removed.inc();
        if names_left > 0 {
            file.is_listed = false; // It is followed as long as it is there, so that it is not taken for a new one.
        } else if !self.has_copy(stream).await {
            self.let_go(stream, "deleted").await;
        }
    }

    /// `clean_inactive`: the entry goes; the file is remembered in this life only, and read on if it grows.
    async fn forget_inactive(&mut self, stream: StreamId) {
        let Some(file) = self.files.get_mut(&stream) else { return };
        if let Some(before) = file.replaces.take() {
            self.control.send(Control::Forget(before.key())).await.ok(); // Closed only when the agent ends.
        }
        if file.source.take().is_some() {
            file.seq = 0; // If it grows, it is opened in the ledger again.
            tracing::info!(path = %file.path.display(), offset = file.offset, "not grown for clean_inactive, its entry is forgotten");
            let leave = Control::Leave { stream, epoch: file.epoch, end: file.handed_to(), reason: "deleted" };
            self.control.send(leave).await.ok(); // Closed only when the agent ends.
        }
    }

    /// Its content is gone, or all of it is settled: follows the file no longer, and forgets it when it is settled.
    pub(super) async fn let_go(&mut self, stream: StreamId, reason: &'static str) {
        let Some(file) = self.files.remove(&stream) else { return };
        self.handles.closed(stream);
        self.board.take_down(stream);
        self.held.forget(stream);
        self.deadlines.gone(stream, file.series);
        self.gone.remove(&stream);
        let place = (file.input, file.inode.device, file.inode.number);
        if self.by_inode.get(&place) == Some(&stream) {
            self.by_inode.remove(&place); // Else another file has its inode by now.
        }
        let is_kept = reason == "deleted" && !self.inputs[file.input].clean_removed;
        if file.source.is_some() && !is_kept {
            let leave = Control::Leave { stream, epoch: file.epoch, end: file.handed_to(), reason };
            self.control.send(leave).await.ok(); // Closed only when the agent ends.
        }
        if let Some(before) = file.replaces.filter(|_| !is_kept) {
            self.control.send(Control::Forget(before.key())).await.ok(); // The same.
        }
    }

    /// At the end of a deleted file nothing more will come.
    pub(super) async fn end_of(&mut self, stream: StreamId) {
        let Some(file) = self.files.get(&stream) else { return };
        let Ok((Sighting { size, .. }, 0)) = file.stat() else { return };
        let (offset, on_disk, size) = (file.offset, size, file.content_size(size));
        if !file.is_settled() {
            return; // What is in flight may have to be read again; the next listing looks again.
        }
        if self.has_copy(stream).await {
            return;
        }
        if size > offset && (!self.is_gone_for_good(stream, on_disk) || self.ask_for_last_line(stream, size).await) {
            return;
        }
        self.finish_open(stream).await;
        let Some(file) = self.files.get(&stream) else { return };
        if size > file.offset {
            let lost = size - file.offset;
            tracing::warn!(path = %file.path.display(), offset = file.offset, lost, "deleted with an unfinished last line");
            self.metrics.lost_bytes.with_label_values(&["unfinished_line"]).inc_by(lost);
        }
        self.let_go(stream, "deleted").await;
    }

    /// Closes a file that was truncated and cannot be read now: whenever it is opened again, that is seen again.
    fn close_again(&mut self, stream: StreamId) {
        if self.files.get_mut(&stream).is_some_and(|file| file.close()) {
            self.handles.closed(stream);
        }
    }

    /// The file begins another life at 0, under the same inode.
    pub(super) async fn truncated(&mut self, stream: StreamId) {
        let Some(file) = self.files.get(&stream) else { return };
        self.streams += 1;
        let mut next = match file.reopened(StreamId(self.streams), monotonic()) {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(path = %file.path.display(), %error, "truncated, cannot be read from start yet");
                return self.close_again(stream);
            }
        };
        self.finish_open(stream).await;
        let Some(file) = self.files.get_mut(&stream) else { return };
        let before = file.replaces.take();
        let Some(file) = self.files.get(&stream) else { return };
        next.replaces = match &file.source {
            Some(source) => Some(Box::new(Saved { is_truncated: true, ..self.saved(file, source.incarnation) })),
            None => before, // A life without a complete line made no ids.
        };
        let lost = file.unread();
        tracing::warn!(path = %file.path.display(), offset = file.offset, lost, "file truncated, reading from start");
        if lost > 0 {
            self.metrics.lost_bytes.with_label_values(&["truncated"]).inc_by(lost);
        }
        self.metrics.incarnations.with_label_values(&["truncated"]).inc();
        self.deadlines.truncated(stream, next.stream, next.series, wall_ms());
        self.let_go(stream, "truncated").await;
        self.by_inode.insert((next.input, next.inode.device, next.inode.number), next.stream);
        self.note_suspect(&next);
        self.handles.used(next.stream, next.input);
        self.board.put(next.stream, self.inputs[next.input].id.clone(), next.generation, next.card.clone());
        enqueue(self.files.entry(next.stream).or_insert_with(|| Box::new(next)), &mut self.ready);
    }
}

/// How many names a file has, the links that led to it among them; `None` if it is no longer what was read.
fn names_of(file: &Follow, links: Links) -> io::Result<Option<u64>> {
    let (found, inode) = open(&file.path, links)?;
    let found = found.metadata()?;
    if inode != file.inode || file.has_more(found.len()) {
        return Ok(None);
    }
    let is_link = std::fs::symlink_metadata(&file.path)?.is_symlink();
    Ok(Some(found.nlink() + u64::from(is_link)))
}

fn age(seen: &Seen) -> Duration {
    age_of(seen.sighting.modified_ns)
}

/// Time since the last change, by the wall clock that the file system also uses.
fn age_of(modified_ns: i64) -> Duration {
    let ms = u64::try_from(wall_ms() - modified_ns / 1_000_000).unwrap_or(0);
    Duration::from_millis(ms)
}
