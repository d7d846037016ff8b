//! What happens to files: programs that write, logrotate, people.

use super::audit::shown;
use super::disk::is_matched;
use super::{NAMES, Result, World};
use std::fs;
use std::path::Path;

impl World {
    pub(super) fn any_name(&mut self, is_wanted: impl Fn(&str) -> bool) -> Option<String> {
        let is_plain = |name: &&String| !self.disk.is_packed(name) && is_wanted(name);
        let names: Vec<_> = self.disk.names.keys().filter(is_plain).cloned().collect();
        self.rng.choice(names)
    }

    fn free_name(&mut self) -> Option<String> {
        let name = NAMES[self.rng.usize(0..NAMES.len())];
        Some(name.to_owned()).filter(|name| !self.disk.names.contains_key(name))
    }

    fn rotated(&mut self, name: &str) -> String {
        let count = self.disk.names.keys().filter(|other| other.starts_with(name)).count();
        (count..)
            .map(|n| format!("{name}.{n}"))
            .find(|name| !self.disk.names.contains_key(name))
            .expect("no end of numbers")
    }

    pub(super) fn append(&mut self) -> Result {
        let old = if self.rng.u8(0..3) > 0 { self.any_name(|_| true) } else { None };
        let name = old.unwrap_or_else(|| NAMES[self.rng.usize(0..NAMES.len())].to_owned());
        self.write(&name)
    }

    pub(super) fn write(&mut self, name: &str) -> Result {
        let is_new = !self.disk.names.contains_key(name);
        let piece = if is_new { self.disk.first_piece(&mut self.rng) } else { self.disk.piece(&mut self.rng) };
        self.disk.append(name, &piece);
        self.tell(format!("{name}: {} more, {} of it", piece.len(), shown(&piece)));
        Ok(())
    }

    pub(super) fn rotate(&mut self) -> Result {
        let Some(name) = self.any_name(is_matched) else { return Ok(()) };
        let to = self.rotated(&name);
        self.tell(format!("{name} → {to}"));
        self.disk.rename(&name, &to);
        if self.rng.bool() { self.write(&name) } else { Ok(()) }
    }

    /// Renames a file, packs it beside it, removes it: between any two of these the agent may look. Or a packed file is renamed,
    /// or removed.
    pub(super) fn rotate_and_compress(&mut self) -> Result {
        let packed: Vec<_> = self.disk.names.keys().filter(|name| self.disk.is_packed(name)).cloned().collect();
        if self.rng.u8(0..3) == 0
            && let Some(name) = self.rng.choice(packed)
        {
            if self.rng.u8(0..3) == 0 {
                self.tell(format!("{name} is removed"));
                self.remove(&name);
            } else {
                let to = format!("{name}.again.log");
                self.tell(format!("{name} → {to}"));
                self.disk.rename(&name, &to);
            }
            return self.perhaps_look();
        }
        let Some(name) = self.any_name(is_matched) else { return Ok(()) };
        let file = self.disk.names[&name];
        if self.disk.names_of(file).count() > 1 {
            return Ok(()); // The writer of another name would go on with the plain file.
        }
        let rotated = self.rotated(&name);
        let kind = if self.rng.bool() { "gz" } else { "zst" };
        let to = format!("{rotated}.{kind}.log"); // Matched by the glob, as the plain one need not be.
        self.tell(format!("{name} → {rotated} → {to}"));
        self.disk.rename(&name, &rotated);
        if self.rng.bool() {
            self.write(&name)?;
        }
        self.perhaps_look()?;
        let number = self.disk.files[file].number;
        if self.forgotten.contains(&number) && self.audit.has_received(number) {
            self.audit.renamed_lives.insert(number);
        }
        if self.renamed.contains(&number) && self.disk.size(file) < 1024 {
            self.audit.short_copies.insert(number);
        }
        self.disk.pack(&rotated, &to, &mut self.rng);
        self.perhaps_look()?;
        self.remove(&rotated);
        Ok(())
    }

    fn perhaps_look(&mut self) -> Result {
        match self.rng.u8(0..4) {
            0 => self.kill()?,
            1 => self.start()?,
            _ => {}
        }
        if self.rng.bool() { self.list() } else { Ok(()) }
    }

    pub(super) fn move_(&mut self) -> Result {
        let (Some(name), Some(to)) = (self.any_name(is_matched), self.free_name()) else { return Ok(()) };
        self.tell(format!("{name} → {to}"));
        // A short packed copy is known by the name of its original, as the agent knew it.
        let number = self.disk.files[self.disk.names[&name]].number;
        self.forgotten.insert(number);
        self.renamed.insert(number);
        self.disk.rename(&name, &to);
        Ok(())
    }

    pub(super) fn move_out(&mut self) -> Result {
        let Some(name) = self.any_name(|name| name.starts_with("logs/")) else { return Ok(()) };
        let to = self.rotated(&name.replace('/', "-"));
        let to = format!("out/{to}");
        self.tell(format!("{name} → {to}"));
        self.disk.rename(&name, &to);
        Ok(())
    }

    pub(super) fn link(&mut self) -> Result {
        let Some(name) = self.any_name(is_matched) else { return Ok(()) };
        let to = if self.rng.bool() { self.free_name() } else { Some(self.rotated(&name)) };
        let Some(to) = to else { return Ok(()) };
        self.tell(format!("{name} = {to}"));
        self.renamed.insert(self.disk.files[self.disk.names[&name]].number); // If the first name goes.
        self.disk.link(&name, &to);
        Ok(())
    }

    fn remove(&mut self, name: &str) {
        let file = self.disk.names[name];
        if self.followed.contains_key(&file) && !self.disk.is_packed(name) && is_open(&self.disk.path(name)) {
            self.held_open.insert(file);
        }
        self.disk.remove(name);
        if self.disk.names_of(file).next().is_some() {
            self.held_open.remove(&file); // It may still be closed.
        }
    }

    pub(super) fn delete(&mut self) -> Result {
        let Some(name) = self.any_name(|_| true) else { return Ok(()) };
        self.tell(&name);
        self.remove(&name);
        Ok(())
    }

    pub(super) fn recreate(&mut self) -> Result {
        let Some(name) = self.any_name(is_matched) else { return Ok(()) };
        self.remove(&name);
        self.write(&name)
    }

    fn truncate(&mut self, name: &str, size: u64, piece: &[u8]) {
        let before = self.disk.size(self.disk.names[name]);
        self.stale_ends.insert(name.to_owned(), before);
        self.tell(format!("{name}: {before} → {size} + {}, {} of it", piece.len(), shown(piece)));
        self.disk.truncate(name, size, piece);
    }

    pub(super) fn copytruncate(&mut self) -> Result {
        let Some(name) = self.any_name(is_matched) else { return Ok(()) };
        let to = self.rotated(&name);
        self.disk.copy(&name, &to);
        let piece = if self.rng.bool() { self.disk.first_piece(&mut self.rng) } else { Vec::new() };
        self.truncate(&name, 0, &piece);
        Ok(())
    }

    /// Smaller than before, and not always empty.
    pub(super) fn shorten(&mut self) -> Result {
        let Some(name) = self.any_name(is_matched) else { return Ok(()) };
        let file = self.disk.names[&name];
        let starts: Vec<_> =
            self.disk.files[file].lives.last().into_iter().flat_map(|life| life.lines.keys().copied()).collect();
        let size = if self.rng.bool() { 0 } else { self.rng.choice(starts).unwrap_or(0) };
        self.truncate(&name, size, b"");
        Ok(())
    }

    /// At least as large as before.
    pub(super) fn regrow(&mut self) -> Result {
        let Some(name) = self.any_name(is_matched) else { return Ok(()) };
        let before = self.disk.size(self.disk.names[&name]);
        let mut piece = self.disk.first_piece(&mut self.rng);
        if self.rng.u8(0..4) == 0 {
            piece = self.disk.piece_of(usize::try_from(before).expect("small"));
        }
        while (piece.len() as u64) < before {
            piece.extend(self.disk.piece(&mut self.rng));
        }
        self.truncate(&name, 0, &piece);
        Ok(())
    }

    /// After a copytruncate: a writer who goes on where it was.
    pub(super) fn write_behind_hole(&mut self) -> Result {
        let Some((name, end)) = self.stale_ends.pop_first() else { return Ok(()) };
        if self.disk.names.get(&name).is_none_or(|file| self.disk.size(*file) >= end) {
            return Ok(());
        }
        let piece = self.disk.piece(&mut self.rng);
        self.tell(format!("{name}: at {end} {}, {} of it", piece.len(), shown(&piece)));
        self.disk.write_at(&name, end, &piece);
        Ok(())
    }
}

/// True if this process has a descriptor of the file: the model itself has none.
fn is_open(path: &Path) -> bool {
    let descriptors = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.into_iter().any(|target| target == path)
}
