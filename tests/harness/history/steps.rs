//! What happens to a history's files: programs that write, logrotate, people.
//!
//! A step that does not fit the moment does nothing. What a step decides depends on the seed alone, never on the agent, so
//! that a seed repeats its steps; only how long they wait for the agent differs.

use super::History;
use super::folder::OUT;
use anyhow::Result;
use std::fs::File;
use std::time::Duration;

/// How often, what it is called, what it does.
pub(super) type Step = (u32, &'static str, fn(&mut History) -> Result<()>);

/// What may happen.
pub(super) const STEPS: &[Step] = &[
    (40, "write", History::write),
    (3, "burst", History::burst),
    (10, "pause", History::pause),
    (8, "reopen", History::reopen),
    (7, "rotate", History::rotate),
    (3, "rotate twice", History::rotate_twice),
    (4, "copytruncate", History::copytruncate),
    (4, "truncate what was shipped", History::truncate_shipped),
    (2, "truncate and write behind the hole", History::write_behind_hole),
    (1, "truncate in haste", History::truncate_in_haste),
    (4, "delete what was shipped", History::delete_shipped),
    (3, "delete and recreate", History::recreate),
    (1, "delete in haste", History::delete_in_haste),
    (4, "move", History::move_),
    (2, "archive", History::archive),
    (3, "link", History::link),
];

/// Logs that programs write.
pub(super) const LOGS: [&str; 4] = ["logs/a.log", "logs/b.log", "logs/sub/a.log", "logs/sub/b.log"];

/// Generations that a rotation keeps.
const GENERATIONS_MAX: usize = 4;
/// Lines of a burst: more than one read of the agent.
const BURST_LINES: std::ops::Range<u64> = 150..400;

impl History {
    /// A program writes to one of its logs, through the file that it holds open.
    fn write(&mut self) -> Result<()> {
        let lines = self.rng.u64(1..8);
        self.write_lines(lines)
    }

    fn burst(&mut self) -> Result<()> {
        let lines = self.rng.u64(BURST_LINES);
        self.write_lines(lines)
    }

    fn write_lines(&mut self, lines: u64) -> Result<()> {
        let log = self.rng.usize(0..LOGS.len());
        // One piece in four ends within a line, as stdio's buffers end.
        let cut = (self.rng.u8(0..4) == 0).then(|| self.rng.usize(1..120));
        self.write_to(log, lines, cut)
    }

    pub(super) fn write_to(&mut self, log: usize, lines: u64, cut: Option<usize>) -> Result<()> {
        let (file, node) = match self.open[log].take() {
            Some(open) => open,
            None => self.folder.open(LOGS[log])?,
        };
        self.folder.write(&file, node, lines, cut, None)?;
        let rest = if cut.is_some() { ", the last unfinished" } else { "" };
        let (content, count) = self.folder.content(node);
        self.told.push(format!("{}: {lines} lines{rest}; {content} has {count}", LOGS[log]));
        self.open[log] = Some((file, node));
        Ok(())
    }

    fn pause(&mut self) -> Result<()> {
        let span = Duration::from_millis(if self.rng.u8(0..5) == 0 { 1_200 } else { self.rng.u64(20..300) });
        self.told.push(format!("{span:?}"));
        std::thread::sleep(span); // The pace of the load, not a wait.
        Ok(())
    }

    /// A program hears of a rotation: it writes what it holds to the old file, and the next lines to the new one.
    fn reopen(&mut self) -> Result<()> {
        let log = self.rng.usize(0..LOGS.len());
        let has_rest = self.rng.u8(0..4) > 0;
        if has_rest && self.open[log].is_some() {
            self.write_to(log, 0, None)?;
        }
        self.open[log] = None;
        Ok(())
    }

    fn rotate(&mut self) -> Result<()> {
        let log = self.rng.usize(0..LOGS.len());
        self.rotate_log(log)
    }

    fn rotate_twice(&mut self) -> Result<()> {
        let log = self.rng.usize(0..LOGS.len());
        for _ in 0..self.rng.u32(2..4) {
            self.rotate_log(log)?;
            self.open[log] = None;
            let lines = self.rng.u64(1..30);
            self.write_to(log, lines, None)?;
        }
        Ok(())
    }

    /// Rename, and perhaps create; a program that has not heard of it goes on with the renamed file.
    fn rotate_log(&mut self, log: usize) -> Result<()> {
        let name = LOGS[log];
        if self.folder.node(name).is_none() {
            return Ok(());
        }
        self.shift(name)?;
        self.folder.rename(name, &format!("{name}.1"))?;
        let is_created = self.rng.bool();
        if is_created {
            self.folder.open(name)?;
        }
        if self.rng.bool() {
            self.open[log] = None;
        }
        self.told.push(format!("{name}{}", if is_created { ", created anew" } else { "" }));
        Ok(())
    }

    /// Makes `NAME.1` free; the oldest generation is removed when it was shipped.
    fn shift(&mut self, name: &str) -> Result<()> {
        let generation = |n: usize| format!("{name}.{n}");
        let Some(last) = (1..).find(|n| self.folder.node(&generation(*n)).is_none()) else { return Ok(()) };
        for n in (1..last).rev() {
            if n >= GENERATIONS_MAX {
                self.remove_shipped(&generation(n))?;
            } else {
                self.folder.rename(&generation(n), &generation(n + 1))?;
            }
        }
        Ok(())
    }

    /// logrotate's copytruncate: the copy is found by the globs, so nothing is lost.
    fn copytruncate(&mut self) -> Result<()> {
        let log = self.rng.usize(0..LOGS.len());
        let name = LOGS[log];
        if self.folder.node(name).is_none() {
            return Ok(());
        }
        self.folder.finish_line(name)?;
        self.shift(name)?;
        self.folder.copy(name, &format!("{name}.1"))?;
        self.folder.truncate(name)?;
        self.told.push(name.to_owned());
        let lines = self.rng.u64(0..6);
        if lines > 0 { self.write_name(name, lines) } else { Ok(()) }
    }

    /// As a program does that opens the file for each message.
    fn write_name(&mut self, name: &str, lines: u64) -> Result<()> {
        let (file, node) = self.folder.open(name)?;
        self.folder.write(&file, node, lines, None, None)?;
        let (content, count) = self.folder.content(node);
        self.told.push(format!("{name}: {lines} lines; {content} has {count}"));
        Ok(())
    }

    fn truncate_shipped(&mut self) -> Result<()> {
        let Some(name) = self.any_watched() else { return Ok(()) };
        self.folder.finish_line(&name)?;
        self.wait_shipped(&name)?;
        self.folder.truncate(&name)?;
        self.told.push(name.clone());
        let lines = self.rng.u64(0..40); // More than before, or fewer.
        if lines > 0 { self.write_name(&name, lines) } else { Ok(()) }
    }

    /// After a truncation: a program that does not append goes on where it was.
    fn write_behind_hole(&mut self) -> Result<()> {
        let Some(name) = self.any_watched() else { return Ok(()) };
        self.folder.finish_line(&name)?;
        self.wait_shipped(&name)?;
        let Some(node) = self.folder.node(&name) else { return Ok(()) };
        let (end, lines) = (self.folder.size(node), self.rng.u64(1..5));
        self.folder.truncate(&name)?;
        let file = File::options().write(true).open(self.folder.root.join(&name))?;
        self.folder.write(&file, node, lines, None, Some(end))?;
        self.told.push(format!("{name} at {end}"));
        Ok(())
    }

    /// Whatever was not read is lost.
    fn truncate_in_haste(&mut self) -> Result<()> {
        let Some(name) = self.any_watched() else { return Ok(()) };
        self.folder.finish_line(&name)?;
        self.forgive(&name);
        self.folder.truncate(&name)?;
        self.told.push(name.clone());
        let lines = self.rng.u64(0..40);
        if lines > 0 { self.write_name(&name, lines) } else { Ok(()) }
    }

    fn delete_shipped(&mut self) -> Result<()> {
        let Some(name) = self.any_watched() else { return Ok(()) };
        self.remove_shipped(&name)?;
        self.let_go(&name);
        Ok(())
    }

    /// A file with another name is not waited for.
    fn remove_shipped(&mut self, name: &str) -> Result<()> {
        if !self.folder.is_linked(name) {
            self.wait_shipped(name)?;
        }
        self.told.push(format!("{name} is removed"));
        self.folder.remove(name)
    }

    fn recreate(&mut self) -> Result<()> {
        let Some(name) = self.any_watched() else { return Ok(()) };
        self.remove_shipped(&name)?;
        self.let_go(&name);
        let lines = self.rng.u64(0..20);
        if lines > 0 { self.write_name(&name, lines) } else { Ok(()) }
    }

    fn delete_in_haste(&mut self) -> Result<()> {
        let Some(name) = self.any_watched() else { return Ok(()) };
        if !self.folder.is_linked(&name) {
            self.forgive(&name);
        }
        self.folder.remove(&name)?;
        self.let_go(&name);
        self.told.push(name);
        Ok(())
    }

    /// Half of the programs hear that their log is gone; the others write on to a file without a name.
    fn let_go(&mut self, name: &str) {
        if let Some(log) = LOGS.iter().position(|log| *log == name)
            && self.rng.bool()
        {
            self.open[log] = None;
        }
    }

    /// From one watched folder to the other, under a new name or that of a log.
    fn move_(&mut self) -> Result<()> {
        let Some(name) = self.any_watched() else { return Ok(()) };
        let to = self.elsewhere(&name);
        if self.folder.node(&to).is_none() {
            self.folder.rename(&name, &to)?;
            self.told.push(format!("{name} → {to}"));
        }
        Ok(())
    }

    /// Out of the folders that are watched.
    fn archive(&mut self) -> Result<()> {
        let Some(name) = self.any_watched() else { return Ok(()) };
        if !self.folder.is_linked(&name) {
            self.wait_shipped(&name)?;
        }
        let to = self.folder.free(&format!("{OUT}/{}", name.replace('/', "-")));
        self.folder.rename(&name, &to)?;
        self.told.push(format!("{name} → {to}"));
        Ok(())
    }

    fn link(&mut self) -> Result<()> {
        let Some(name) = self.any_watched() else { return Ok(()) };
        let to = if self.rng.bool() { self.elsewhere(&name) } else { self.folder.free(&name) };
        if self.folder.node(&to).is_none() {
            self.folder.link(&name, &to)?;
            self.told.push(format!("{name} = {to}"));
        }
        Ok(())
    }

    fn elsewhere(&mut self, name: &str) -> String {
        if self.rng.u8(0..3) == 0 {
            return LOGS[self.rng.usize(0..LOGS.len())].to_owned();
        }
        let file = name.rsplit('/').next().unwrap_or(name);
        let folder = if name.starts_with("logs/sub/") { "logs" } else { "logs/sub" };
        self.folder.free(&format!("{folder}/{file}"))
    }

    fn any_watched(&mut self) -> Option<String> {
        let names = self.folder.watched();
        self.rng.choice(names)
    }

    fn forgive(&mut self, name: &str) {
        let Some(node) = self.folder.node(name) else { return };
        let (content, arrivals) = (self.folder.content(node).0.to_owned(), self.arrivals.clone());
        self.folder.forgive(&content, |seq| arrivals.has(&content, seq));
    }
}
