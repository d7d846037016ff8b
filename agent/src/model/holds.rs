//! What must hold of a history: all that can be read is delivered in the end, and the counts agree at every moment.

use super::audit::shown;
use super::disk::{folder, is_matched};
use super::{ROUNDS_MAX, Result, World};
use crate::config::CheckedInput;
use std::time::Duration;

impl World {
    /// Reads all that can be read; then every line that could be is delivered.
    pub(super) fn settle(&mut self) -> Result {
        self.start()?;
        let mut quiet_rounds = 0;
        for _ in 0..ROUNDS_MAX {
            let before = self.audit.received;
            self.list()?;
            self.quiet()?;
            self.pass(Duration::from_millis(100));
            self.quiet()?;
            while self.take()? {
                self.quiet()?;
            }
            while !self.held.is_empty() {
                let held = self.held.swap_remove(self.rng.usize(0..self.held.len()));
                self.audit.settle(held);
                self.quiet()?;
            }
            quiet_rounds = if self.audit.received == before && self.shown.is_none() { quiet_rounds + 1 } else { 0 };
            if quiet_rounds == 3 {
                self.is_settled = true;
                return self.check_delivered();
            }
        }
        Err("reading never ends".to_owned())
    }

    fn check_delivered(&self) -> Result {
        let CheckedInput::File(input) = &self.config.inputs[0] else { return Err("the input is of files".to_owned()) };
        let is_held_open = input.harvester_limit.is_none() && !input.close_inactive.is_zero();
        for (at, file) in self.disk.files.iter().enumerate() {
            let mut names = self.disk.names_of(at).peekable();
            let can_be_read = match self.followed.get(&at) {
                _ if self.held_open.contains(&at) => true,
                Some(_) if is_held_open => true,
                Some(seen_in) => names.any(|name| folder(name) == *seen_in || is_matched(name)),
                None => names.any(is_matched),
            };
            let life = file.lives.last().expect("at least one life");
            // An unfinished last line when nobody can finish it: of what was held open, or of a copy that was looked at long enough.
            let is_over = match self.disk.names_of(at).next() {
                None => self.held_open.contains(&at),
                Some(_) => input.close_inactive.is_zero(),
            };
            let last = self.disk.last_line(at).filter(|_| is_over).map(|(offset, text, _)| (offset, text));
            let lines = life.lines.iter().map(|(offset, (text, _))| (*offset, text.clone()));
            for (offset, text) in lines.chain(last).filter(|_| can_be_read) {
                let mut numbers = vec![Some(file.number), file.copy_of.map(|of| self.disk.files[of].number)];
                if self.audit.is_mixed(at) || self.disk.is_all_shared(at) {
                    let places = self.disk.places(offset, &text).into_iter();
                    numbers.extend(places.map(|place| Some(self.disk.files[place.0].number)));
                }
                let is_delivered = |number: u64| self.audit.is_settled(&(number, offset, text.clone()));
                if !numbers.into_iter().flatten().any(is_delivered) {
                    let names: Vec<_> = self.disk.names_of(at).collect();
                    return Err(format!(
                        "{} at {offset} of {names:?} (inode {}) is not delivered",
                        shown(&text),
                        file.number
                    ));
                }
            }
        }
        self.audit.check_doubtful()
    }

    /// read = acknowledged + filtered + returned + in flight.
    pub(super) fn check_counts(&self) -> Result {
        let Some(process) = &self.process else { return Ok(()) };
        let metrics = &process.metrics;
        let acknowledged = metrics.acknowledged.with_label_values(&["main"]).get();
        let filtered = metrics.filtered.with_label_values(&["empty"]).get();
        let in_flight = u64::try_from(metrics.in_flight.get()).map_err(|_| "less than nothing in flight")?;
        let (read, returned) = (metrics.read.get(), metrics.returned.get());
        if read != acknowledged + filtered + returned + in_flight {
            return Err(format!(
                "{read} read, {acknowledged} acknowledged, {filtered} filtered, {returned} returned, {in_flight} in flight"
            ));
        }
        Ok(())
    }
}
