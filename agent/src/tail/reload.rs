//! Other inputs while files are followed, and what is still read after a stop.

use super::handles::Handles;
use super::{Tail, enqueue};
use crate::commit::Control;
use crate::config::FileInput;
use event::StreamId;
use service::stop::Stop;
use std::collections::HashMap;
use std::sync::Arc;

impl Tail {
    /// Follows the files under other inputs. An input is known by its id; `inputs` holds all that have files.
    pub(super) fn reload(&mut self, inputs: Arc<Vec<FileInput>>) {
        let places: HashMap<_, _> = inputs.iter().enumerate().map(|(at, input)| (&input.shared.id, at)).collect();
        self.handles = Handles::new(inputs.iter().map(|input| input.harvester_limit).collect());
        self.by_inode.clear();
        for file in self.files.values_mut() {
            let Some(&place) = places.get(&self.inputs[file.input].shared.id) else { continue };
            file.input = place;
            file.use_recipe(inputs[place].recipe.clone());
            // As far as it reaches now: a file that goes on growing would never end.
            let end = || match &file.pack {
                Some(_) => u64::MAX, // To its end, wherever that is.
                None => file.stat().map_or(file.seen.size, |(now, _)| now.size),
            };
            file.ends_at = inputs[place].is_retired.then(|| file.ends_at.unwrap_or_else(end));
            if let Some(source) = &file.source {
                source.set_input(inputs[place].shared.clone());
            }
            if file.is_open() {
                self.handles.used(file.stream, place);
            }
            self.by_inode.insert((place, file.inode.device, file.inode.number), file.stream);
        }
        let (old, new) = (self.inputs.iter().filter(|input| !input.is_retired).count(), places.len());
        tracing::info!(inputs_before = old, inputs = new, "inputs reloaded");
        self.inputs = inputs;
    }

    /// Its input is gone and all of it is acknowledged: follows it no longer. Its entry stays, for the day the input is back.
    pub(super) async fn rest(&mut self, stream: StreamId) {
        let Some(file) = self.files.remove(&stream) else { return };
        self.handles.closed(stream);
        self.board.take_down(stream);
        self.held.forget(stream);
        self.deadlines.gone(stream, file.series);
        self.gone.remove(&stream);
        let place = (file.input, file.inode.device, file.inode.number);
        if self.by_inode.get(&place) == Some(&stream) {
            self.by_inode.remove(&place);
        }
        if let Some(before) = &file.replaces {
            self.unclaimed.insert(before.key(), (**before).clone());
        }
        if let Some(source) = &file.source {
            let saved = self.saved(&file, source.incarnation);
            self.unclaimed.insert(saved.key(), saved);
            self.control.send(Control::Rest { stream }).await.ok(); // Closed only when the agent ends.
        }
    }

    /// After a stop: reads what stands in the files of inputs with `read_until_eof` at this moment, for no longer than the drain may take.
    pub(super) async fn read_out(&mut self) {
        let limit = self.drain_timeout;
        self.stop = Stop::new().1; // From here on the time limit ends it.
        self.ready = super::ready::Ready::default();
        self.held = super::held::Held::default(); // Who is to be read is queued below; nobody else is waited for.
        let mut ends = HashMap::new();
        for file in self.files.values_mut() {
            file.is_queued = false;
            let size = file.stat().map_or(0, |(now, _)| now.size);
            let is_behind = if file.pack.is_some() { file.has_more(size) } else { size > file.offset };
            if self.inputs[file.input].read_until_eof && is_behind {
                ends.insert(file.stream, if file.pack.is_some() { u64::MAX } else { size });
                enqueue(file, &mut self.ready);
            }
        }
        let reading = async {
            while let Some(stream) = self.next_turn().await {
                let is_read = self.files.get(&stream).is_none_or(|file| Some(&file.offset) >= ends.get(&stream));
                if !is_read && self.turn_of(stream).await.is_none() {
                    return;
                }
            }
        };
        if tokio::time::timeout(limit, reading).await.is_err() {
            tracing::warn!(?limit, "not everything was read before the time was up; the next start reads on");
        }
    }
}
