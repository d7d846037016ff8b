//! Which unread bytes will be deleted, and when: noted at each listing, told before it happens.

use super::Tail;
use crate::deadline::{Backlog, Generation};
use crate::follow::Follow;
use event::StreamId;
use service::clock::wall_ms;
use std::time::Duration;

impl Tail {
    /// A file is followed from now on.
    pub(super) fn note_birth(&mut self, file: &mut Follow) {
        let Some(generation) = Generation::of(&self.inputs[file.input].id, &file.path) else { return };
        file.series = generation.series;
        let seen_ms = (!self.is_first_listing).then(wall_ms);
        self.deadlines.born(file.stream, generation, file.seen.modified_ns / 1_000_000, seen_ms);
    }

    /// A file was found under another name.
    pub(super) fn note_name(&mut self, stream: StreamId) {
        let Some(file) = self.files.get_mut(&stream) else { return };
        let Some(generation) = Generation::of(&self.inputs[file.input].id, &file.path) else { return };
        self.deadlines.renamed(stream, file.series, generation, wall_ms());
        file.series = generation.series;
    }

    /// A file has no name any more.
    pub(super) fn note_deletion(&mut self, stream: StreamId) {
        let Some(file) = self.files.get_mut(&stream) else { return };
        if !std::mem::replace(&mut file.is_deleted, true) {
            self.deadlines.deleted(stream, file.series);
        }
    }

    /// The same while the output takes nothing, with the sizes of now. Names are for the next listing to tell.
    pub(super) fn look_while_waiting(&mut self) {
        let (now, mut deleted) = (wall_ms(), Vec::new());
        for file in self.files.values_mut() {
            if self.deadlines.left(file.stream, file.series, now).is_none() {
                continue; // Most files: nothing is known of when they are deleted.
            }
            if let Some((size, names)) = file.stat_now() {
                file.seen.size = file.seen.size.max(size);
                deleted.extend((names == 0).then_some(file.stream));
            }
        }
        deleted.into_iter().for_each(|stream| self.note_deletion(stream));
        self.look_after_backlogs();
    }

    /// Estimates for each file with unread bytes when they will be deleted, and warns once if they will not be read before.
    pub(super) fn look_after_backlogs(&mut self) {
        let (now, mut at_risk) = (wall_ms(), 0);
        for file in self.files.values_mut() {
            let unread = file.waiting();
            if unread == 0 {
                if file.backlog.take().is_some_and(|backlog| backlog.is_warned) {
                    file.card.risk(None);
                }
                continue;
            }
            // Of one without a name only our descriptor is left: it goes when the agent ends.
            let left = match file.is_deleted {
                true => Some(Duration::ZERO),
                false => self.deadlines.left(file.stream, file.series, now),
            };
            let Some(left) = left else { continue };
            let (offset, stream, is_queued) = (file.offset, file.stream, file.is_queued);
            let backlog = file.backlog.get_or_insert_with(|| Box::new(Backlog::new(now, offset)));
            let verdict = backlog.is_late(now, offset, unread, left);
            if is_queued {
                self.ready.push(stream, backlog.loses_at_ms); // With what is known now.
            }
            match verdict {
                None => {}
                Some(false) if backlog.is_warned => file.card.risk(None),
                Some(false) => {}
                Some(true) => {
                    at_risk += unread;
                    file.card.risk(Some(told(unread, left, file.is_deleted)));
                    if !std::mem::replace(&mut backlog.is_warned, true) {
                        tracing::warn!(path = %file.path.display(), unread, estimated_seconds = left.as_secs(), is_deleted = file.is_deleted,
                            "these bytes will be lost: they are not read as fast as the file is rotated away");
                        self.metrics.loss_warnings.inc();
                    }
                }
            }
        }
        self.metrics.at_risk.set(i64::try_from(at_risk).unwrap_or(i64::MAX));
    }
}

fn told(unread: u64, left: Duration, is_deleted: bool) -> String {
    match is_deleted {
        true => format!("it is deleted: its {unread} unread bytes are lost when the agent ends"),
        false => format!(
            "about {} s from now it will be deleted, and its {unread} unread bytes take longer than that",
            left.as_secs()
        ),
    }
}
