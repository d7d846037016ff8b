//! A path and an input → every rule that decides whether the file is read, as sentences. Looks, never opens to write, takes no lock.
//!
//! It says what the configuration, the checkpoint and the file system say; what a running agent knows is on its [`crate::Board`].

mod access;

#[cfg(test)]
mod tests;

pub use access::User;

use crate::config::{FileInput, InputConfig, Start};
use crate::discover::{Fails, Near, scan};
use crate::follow::{Links, open};
use crate::state::{OnDisk, StateEntry};
use crate::unpack::Packing;
use serde::Serialize;
use service::clock::wall_ms;
use std::fmt::Write as _;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How far back from the end of a file the start of its last line is looked for.
const LAST_LINE_BYTES: u64 = 1024 * 1024;

/// What a rule does to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Because of it the file is not read.
    Stops,
    /// It is read as soon as this has passed.
    Waits,
    /// It is read; this is worth knowing.
    Tells,
}

/// One rule that applies to a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The rule's name: an option, where it is one.
    pub rule: &'static str,
    /// What it does.
    pub effect: Effect,
    /// A sentence for people, without its full stop.
    pub text: String,
}

impl Reason {
    /// A reason why a file is not read.
    pub fn stops(rule: &'static str, text: String) -> Self {
        Self { rule, effect: Effect::Stops, text }
    }

    /// A reason why a file is not read just now.
    pub fn waits(rule: &'static str, text: String) -> Self {
        Self { rule, effect: Effect::Waits, text }
    }

    /// Something worth knowing.
    pub fn tells(rule: &'static str, text: String) -> Self {
        Self { rule, effect: Effect::Tells, text }
    }
}

/// What is known beside the input and the file itself.
#[derive(Debug)]
pub struct Known<'a> {
    /// Entries of the checkpoint.
    pub entries: &'a [StateEntry],
    /// False if there is no checkpoint yet.
    pub has_checkpoint: bool,
    /// Who reads; `None`: the present user.
    pub user: Option<&'a User>,
    /// The next byte to read, if a running agent says so; else the checkpoint's offset counts.
    pub offset: Option<u64>,
}

/// What there is to say of one file under one input.
#[derive(Debug)]
pub struct Explained {
    /// `paths[N]`, the first that matches.
    pub glob: Option<usize>,
    /// All rules that apply, in the order in which an agent meets them.
    pub reasons: Vec<Reason>,
    /// What the checkpoint remembers of it.
    pub entry: Option<StateEntry>,
    /// Its size in bytes, if it is there.
    pub size: Option<u64>,
}

/// Explains the file at `path`, which is absolute, under `input`, which was compiled from `config`.
pub fn explain(input: &FileInput, config: &InputConfig, path: &Path, known: &Known<'_>) -> Explained {
    let mut reasons = Vec::new();
    let glob = input.globs.iter().position(|glob| glob.is_match(path));
    match glob {
        None => reasons.extend(no_match(input, config, path)),
        Some(_) => reasons.extend(link_in_the_way(input, path)),
    }
    reasons.extend(excluded(input, config, path));
    let (found, looked) = look(path, input.links, known.user);
    reasons.extend(looked);
    let mut explained = Explained { glob, reasons, entry: None, size: None };
    let Some(found) = found else {
        explained.reasons.extend(renamed(input, path, known));
        return explained;
    };
    explained.size = Some(found.len());
    if !found.is_file() {
        return explained;
    }
    explained.reasons.extend(not_permitted(input, path, known.user));
    if known.offset.is_none() && explained.reasons.iter().any(|reason| reason.effect == Effect::Stops) {
        return explained; // What is in it does not matter.
    }
    let (entry, truncated) = remembered(input, path, &found, known);
    explained.reasons.extend(truncated);
    explained.entry = entry.cloned();
    let offset = known.offset.or(entry.map(StateEntry::offset));
    if offset.is_none() {
        explained.reasons.extend(by_age(input, &found, known));
    }
    explained.reasons.extend(by_content(input, path, &found, offset.unwrap_or(0)));
    explained
}

/// The files that a scan for `input` finds now, each with its inode (device and number), in the order of their paths.
pub fn matching(input: &FileInput) -> Vec<(PathBuf, (u64, u64))> {
    let found = scan(&Arc::new(vec![input.clone()]));
    found.files.into_iter().map(|seen| (seen.path, (seen.inode.device, seen.inode.number))).collect()
}

/// True if `input` would follow a file with this path, should there be one.
pub fn covers(input: &FileInput, path: &Path) -> bool {
    input.globs.iter().any(|glob| glob.is_match(path)) && !path.ancestors().any(|at| input.exclude.is_match(at))
}

/// No entry of `paths` matches: the nearest one, and where it parts from the path.
fn no_match(input: &FileInput, config: &InputConfig, path: &Path) -> Option<Reason> {
    let nears = input.globs.iter().enumerate().filter_map(|(index, glob)| Some((index, glob.near(path)?)));
    let (index, near) = nears.max_by_key(|(index, near)| (near.depth(), std::cmp::Reverse(*index)))?;
    let (Near { up_to, fails }, pattern) = (near, &config.paths[index]);
    let mut text = format!("paths[{index}] {pattern} matches up to {}", up_to.display());
    match fails {
        Fails::Name { name, asked } => write!(text, "; {name} does not match {asked}"),
        Fails::Deeper(name) => write!(text, " and ends there; {name} lies deeper"),
        Fails::Shallower(asked) => write!(text, ", which is a folder for it; it goes on with {asked}"),
    }
    .ok(); // A string takes all.
    Some(Reason::stops("paths", text))
}

fn link_in_the_way(input: &FileInput, path: &Path) -> Option<Reason> {
    let mut links = Vec::new();
    for glob in input.globs.iter().filter(|glob| glob.is_match(path)) {
        links.push(glob.link_in_the_way(path, input.links)?);
    }
    let link = links.first()?.display();
    let why = match input.links {
        Links::Refused => "symlinks is false",
        Links::Followed => "below ** no link to a folder is followed",
    };
    Some(Reason::stops("symlinks", format!("the folder {link} is a symbolic link, and {why}")))
}

/// What `exclude` leaves out: the file, or a folder on the way to it.
fn excluded(input: &FileInput, config: &InputConfig, path: &Path) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for at in path.ancestors() {
        for index in input.exclude.matches(at) {
            let what = if at == path { "it".to_owned() } else { format!("the folder {}", at.display()) };
            let text = format!("exclude[{index}] {} leaves {what} out", config.exclude[index]);
            reasons.push(Reason::stops("exclude", text));
        }
    }
    reasons
}

/// What there is at `path`, and what speaks against reading it.
fn look(path: &Path, links: Links, user: Option<&User>) -> (Option<Metadata>, Option<Reason>) {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) => return (None, Some(not_seen(path, &error, user))),
    };
    if !found.is_symlink() {
        let reason = not_regular(found.file_type()).map(|kind| Reason::stops("kind", kind.to_owned()));
        return (Some(found), reason);
    }
    let target = fs::read_link(path).unwrap_or_default();
    let target = target.display();
    if links == Links::Refused {
        let text = format!("it is a symbolic link (to {target}), and symlinks is false");
        return (Some(found), Some(Reason::stops("symlinks", text)));
    }
    match fs::metadata(path) {
        Ok(found) => {
            let kind = not_regular(found.file_type());
            let text = format!("it is a symbolic link to {target}");
            let reason = match kind {
                Some(kind) => Reason::stops("kind", format!("{text}; {kind}")),
                None => Reason::tells("symlinks", format!("{text}, which is read")),
            };
            (Some(found), Some(reason))
        }
        Err(error) => (
            None,
            Some(Reason::stops("missing", format!("it is a symbolic link to {target}, which leads nowhere: {error}"))),
        ),
    }
}

fn not_regular(kind: FileType) -> Option<&'static str> {
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("it is a folder, not a regular file"),
        () if kind.is_fifo() => Some("it is a pipe (FIFO), not a regular file"),
        () if kind.is_socket() => Some("it is a socket, not a regular file"),
        () if kind.is_block_device() || kind.is_char_device() => Some("it is a device, not a regular file"),
        () => Some("it is not a regular file"),
    }
}

fn not_seen(path: &Path, error: &io::Error, user: Option<&User>) -> Reason {
    let mut folders: Vec<_> = path.ancestors().skip(1).collect();
    folders.reverse();
    match error.kind() {
        io::ErrorKind::NotFound => {
            let missing = folders.iter().find(|folder| fs::symlink_metadata(folder).is_err());
            let what = missing.map_or("it".to_owned(), |folder| format!("its folder {}", folder.display()));
            Reason::stops("missing", format!("{what} does not exist"))
        }
        io::ErrorKind::NotADirectory => {
            let file = folders.iter().find(|folder| fs::metadata(folder).is_ok_and(|found| !found.is_dir()));
            let file = file.map_or(String::new(), |file| format!(": {} is no folder", file.display()));
            Reason::stops("missing", format!("it does not exist{file}"))
        }
        io::ErrorKind::PermissionDenied => {
            let closed = folders.windows(2).find(|pair| fs::metadata(pair[1]).is_err()).map(|pair| pair[0]);
            let closed = closed.or(path.parent()).unwrap_or(path).display();
            let me = User::of_process("self");
            let who = me.as_ref().map_or("this user", |me| me.name.as_str());
            let text = format!("user {who} may not enter the folder {closed}");
            match user {
                Some(user) if me.as_ref() != Some(user) => {
                    let hint = format!("{text}, so what is in it cannot be told; ask as root or as {}", user.name);
                    Reason::tells("permission", hint)
                }
                _ => Reason::stops("permission", text),
            }
        }
        _ => Reason::stops("missing", format!("it cannot be looked at: {error}")),
    }
}

fn not_permitted(input: &FileInput, path: &Path, user: Option<&User>) -> Option<Reason> {
    let me = User::of_process("self");
    let user = user.or(me.as_ref())?;
    if me.as_ref() == Some(user) && open(path, input.links).is_ok() {
        return None; // The kernel itself says so.
    }
    let listed = input.globs.iter().find(|glob| glob.is_match(path)).map(|glob| glob.lists(path)).unwrap_or_default();
    let denied = user.denied(path, &listed).ok()??;
    let what = match (denied.path == path, denied.right) {
        (true, _) => "read it".to_owned(),
        (false, 'r') => format!("list the folder {}", denied.path.display()),
        (false, _) => format!("enter the folder {}", denied.path.display()),
    };
    let mode = fs::metadata(&denied.path).map_or(0, |found| found.mode() & 0o7777);
    let owner = User::owner_of(&denied.path).map_or(String::new(), |owner| format!(", owner {}", owner.name));
    let text =
        format!("user {} may not {what} (mode {mode:04o}{owner}; access control lists are not looked at)", user.name);
    Some(Reason::stops("permission", text))
}

/// Where a file that is not at `path` any more went, if the checkpoint knows it.
fn renamed(input: &FileInput, path: &Path, known: &Known<'_>) -> Option<Reason> {
    let entries = known.entries.iter().filter(|entry| entry.input() == input.shared.id);
    let now = entries.filter(|entry| Path::new(entry.path()) == path).find_map(|entry| match entry.on_disk() {
        OnDisk::Matches { path, .. } => Some((path, entry.offset())),
        _ => None,
    });
    let (now, offset) = now?;
    let text = format!("the file that was here is now {}, and read there, acknowledged up to {offset}", now.display());
    Some(Reason::tells("renamed", text))
}

/// The entry of the checkpoint that an agent goes on with; or why it begins anew.
fn remembered<'a>(
    input: &FileInput,
    path: &Path,
    found: &Metadata,
    known: &Known<'a>,
) -> (Option<&'a StateEntry>, Option<Reason>) {
    let mut begun_anew = None;
    let entries = known.entries.iter().filter(|entry| entry.input() == input.shared.id);
    for entry in entries.filter(|entry| entry.inode() == found.ino() || Path::new(entry.path()) == path) {
        match entry.on_disk() {
            OnDisk::Matches { path: at, .. } if at == path || entry.inode() == found.ino() => {
                return (Some(entry), None);
            }
            OnDisk::Unknown(_) if entry.inode() == found.ino() => return (Some(entry), None),
            OnDisk::Differs { path: at, .. } if at == path => {
                let (offset, size) = (entry.offset(), found.len());
                let how =
                    if size < offset { "it was truncated" } else { "it was truncated and written anew, or replaced" };
                let text = format!(
                    "{how} since offset {offset} was acknowledged ({size} bytes now); it is read from its start"
                );
                begun_anew = Some(Reason::tells("truncated", text));
            }
            _ => {}
        }
    }
    (None, begun_anew)
}

/// Rules for files that are not followed yet.
fn by_age(input: &FileInput, found: &Metadata, known: &Known<'_>) -> Option<Reason> {
    let unchanged = Duration::from_secs(u64::try_from(wall_ms() / 1_000 - found.mtime()).unwrap_or(0));
    if let Some(limit) = input.ignore_older.filter(|limit| unchanged > *limit) {
        let mut text = format!("unchanged for {}, longer than ignore_older ({})", told(unchanged), told(limit));
        text.push_str(": what is in it is not read; when it grows, it is read from there on");
        if let Some(clean) = input.clean_inactive.filter(|clean| unchanged > *clean) {
            write!(text, ". Longer than clean_inactive ({}) too: if it was followed, it is forgotten", told(clean))
                .ok();
        }
        return Some(Reason::stops("ignore_older", text));
    }
    let is_first = input.start == Start::End && !known.has_checkpoint;
    let text = "start is end, and there is no checkpoint yet: of a file that is there at the very first start, only an unfinished \
        last line and what follows are read";
    is_first.then(|| Reason::tells("start", text.to_owned()))
}

/// What the file's size and content say, if it is read up to `offset`.
fn by_content(input: &FileInput, path: &Path, found: &Metadata, offset: u64) -> Vec<Reason> {
    let (mut reasons, size) = (Vec::new(), found.len());
    if found.nlink() > 1 {
        let text = format!(
            "it has {} names (hard links); under several that match it is read once, under the first in order",
            found.nlink()
        );
        reasons.push(Reason::tells("hard_link", text));
    }
    let Ok((file, _)) = open(path, input.links) else { return reasons };
    if let Ok(Some(packing)) = input.recipe.compression.of_file(&file) {
        let how = if packing == Packing::Gzip { "gzip" } else { "zstd" };
        let text = format!(
            "it is packed ({how}), {size} bytes: offsets count what it unpacks to. A packed copy of a file that is known is \
             read when that is gone, from where reading stopped"
        );
        reasons.push(Reason::tells("packed", text));
        return reasons;
    }
    if size <= offset {
        let text = if size == 0 {
            "it is empty".to_owned()
        } else {
            format!("nothing new: it is read to its end, {offset} of {size} bytes")
        };
        if size == offset {
            reasons.push(Reason::waits("nothing_new", text));
        } else {
            let text = format!(
                "it was truncated: {size} bytes are there, and it was read up to {offset}; it is read from its start"
            );
            reasons.push(Reason::tells("truncated", text));
        }
        return reasons;
    }
    let from = offset.max(size.saturating_sub(LAST_LINE_BYTES));
    let mut last = vec![0; usize::try_from(size - from).unwrap_or(0)];
    let read = file.read_at(&mut last, from).unwrap_or(0);
    match memchr::memrchr(b'\n', &last[..read]) {
        Some(end) if end + 1 < read => {
            let text = format!("its last line has no end yet: {} bytes wait for it", read - end - 1);
            reasons.push(Reason::tells("unfinished_line", text));
        }
        None if read > 0 => {
            let text = format!("no complete line yet: {} bytes wait for the end of their line", size - offset);
            reasons.push(Reason::waits("unfinished_line", text));
        }
        _ => {}
    }
    reasons
}

/// The process that holds `state_dir`, as the kernel tells it: the lock itself is not touched.
pub fn holder(state_dir: &Path) -> Option<u32> {
    let inode = fs::metadata(state_dir.join(crate::checkpoint::LOCK)).ok()?.ino();
    holder_in(&fs::read_to_string("/proc/locks").ok()?, inode)
}

/// Shape: `1: FLOCK  ADVISORY  WRITE 4711 08:01:131205 0 EOF`, a line a lock.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let &[_, "FLOCK", _, _, process, place, ..] = fields.as_slice() else { return None };
        let is_it = place.rsplit(':').next().is_some_and(|number| number == inode.to_string());
        is_it.then(|| process.parse().ok()).flatten()
    })
}

/// A time in its two largest units: `3 h 20 m`.
pub fn told(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 if !time.is_zero() => format!("{} ms", time.as_millis()),
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} m {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
    .replace(" 0 s", "")
    .replace(" 0 m", "")
    .replace(" 0 h", "")
}
