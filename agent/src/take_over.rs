//! What another agent knows of files → a checkpoint from which this agent reads on.
//!
//! Nothing is believed that the file does not bear out: a wrong offset would skip lines. What is not taken over is read from
//! its start, and each such file is told with the reason.

use crate::checkpoint::{Key, Saved, Store, load};
use crate::config::{AgentConfig, FileInput, parted};
use crate::discover::{Seen, find_inode, scan};
use crate::filebeat::{self, Entry, Identity};
use crate::follow::open;
use crate::identity::{Edges, Inode, incarnation, read_span};
use anyhow::{Context as _, bail};
use event::Progress;
use ring::digest::{Context as Sha, SHA256, digest};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A gzip file begins so; Filebeat's offset in it counts what is unpacked.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How to take over.
#[derive(Debug, Clone, Copy)]
pub struct TakeOver {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Add to a checkpoint that has entries. What it knows of a file stays.
    pub merge: bool,
    /// Which bytes Filebeat's fingerprints cover: from where, and how many. Its default: 0, 1024.
    pub fingerprint: (u64, usize),
}

/// What was, or would be, taken over.
#[derive(Debug)]
pub struct TakenOver {
    /// One for each entry of the registry, and for each file that it does not know.
    pub rows: Vec<TakeOverRow>,
    /// What of the registry or of the checkpoint was damaged, with path and byte.
    pub damage: Vec<String>,
    /// Filebeat runs: its registry moves on, and what it ships from now on is shipped twice.
    pub filebeat_runs: bool,
}

/// What became of an entry or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeOverRow {
    /// What became of it.
    pub outcome: Outcome,
    /// The input's id, if one matches.
    pub input: Option<String>,
    /// Where the file is; else where it was last seen, or what the registry calls it.
    pub path: String,
    /// Filebeat's offset in bytes, if it has one.
    pub offset: Option<u64>,
    /// The file's size in bytes, if it is there.
    pub size: Option<u64>,
    /// Why.
    pub reason: String,
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It is read on from Filebeat's offset.
    TakenOver,
    /// The checkpoint knows it already, and is believed.
    Kept,
    /// It is read from its start.
    FromStart,
    /// There is nothing to read: the file is gone, or no input matches it.
    Skipped,
}

/// Makes `config`'s checkpoint go on from where Filebeat's registry in `folder` ends.
///
/// Errors: no readable registry; the checkpoint has entries, and `merge` is not set; Filebeat or an agent is running; the
/// checkpoint cannot be written. Then nothing is changed.
pub fn take_over_filebeat(config: &AgentConfig, folder: &Path, how: TakeOver) -> anyhow::Result<TakenOver> {
    let registry = filebeat::read(folder)?;
    let filebeat_runs = filebeat::is_running(folder);
    if filebeat_runs && !how.dry_run {
        bail!("Filebeat is running on {}: stop it first, its registry still moves on", folder.display());
    }
    let mut damage = registry.damage;
    let known = match config.state_dir.exists() {
        true => load(&config.state_dir).with_context(|| format!("reading {}", config.state_dir.display()))?,
        false => Default::default(),
    };
    damage.extend(known.damage);
    refuse_entries(config, &known.files, how)?;

    let mut plan = Plan::new(config, how, known.files);
    plan.fingerprint(&registry.entries);
    for entry in &registry.entries {
        plan.decide(entry);
    }
    plan.rows.extend(registry.others.into_iter().map(|key| TakeOverRow {
        outcome: Outcome::Skipped,
        input: None,
        path: key,
        offset: None,
        size: None,
        reason: "not an entry of a file input".into(),
    }));
    plan.look_at_unknown_files();
    if !how.dry_run {
        // Also with nothing to write: a checkpoint is there from now on, so that `start: end` skips none of the files told.
        let (mut store, loaded) = Store::open(&config.state_dir)?;
        refuse_entries(config, &loaded.files, how)?;
        let puts: Vec<_> = plan.taken.into_values().map(|(saved, _)| saved).collect();
        store.flush(&puts, &[]).with_context(|| format!("writing the checkpoint in {}", config.state_dir.display()))?;
    }
    plan.rows.sort_by(|a, b| (a.outcome, &a.input, &a.path).cmp(&(b.outcome, &b.input, &b.path)));
    Ok(TakenOver { rows: plan.rows, damage, filebeat_runs })
}

fn refuse_entries(config: &AgentConfig, files: &BTreeMap<Key, Saved>, how: TakeOver) -> anyhow::Result<()> {
    if !how.merge && !files.is_empty() {
        bail!(
            "state_dir {} knows {} file(s) already: an agent has run with it. Take another state_dir, or add to it with \
             --merge (what it knows stays)",
            config.state_dir.display(),
            files.len()
        );
    }
    Ok(())
}

/// An inode under an input.
type Place = (usize, u64);

struct Plan<'c> {
    config: &'c AgentConfig,
    /// Its inputs of files.
    files: Arc<Vec<FileInput>>,
    how: TakeOver,
    /// What the globs find now.
    seen: Vec<Seen>,
    known: BTreeMap<Key, Saved>,
    /// Places in `seen` by fingerprint.
    fingerprints: HashMap<String, Vec<usize>>,
    /// With the row that tells it.
    taken: BTreeMap<Place, (Saved, usize)>,
    /// Files that a row tells of.
    told: BTreeSet<Place>,
    rows: Vec<TakeOverRow>,
}

/// Where an entry's file is.
struct Found {
    input: usize,
    path: PathBuf,
}

impl<'c> Plan<'c> {
    fn new(config: &'c AgentConfig, how: TakeOver, known: BTreeMap<Key, Saved>) -> Self {
        let files = Arc::new(parted(config.inputs.clone()).0);
        let seen = scan(&files).files;
        let (fingerprints, taken, told, rows) = Default::default();
        Self { config, files, how, seen, known, fingerprints, taken, told, rows }
    }

    fn decide(&mut self, entry: &Entry) {
        let mut row = TakeOverRow {
            outcome: Outcome::Skipped,
            input: None,
            path: entry.source.clone(),
            offset: entry.offset,
            size: None,
            reason: String::new(),
        };
        match self.find(entry) {
            Err(reason) => row.reason = reason,
            Ok(found) => {
                row.input = Some(self.files[found.input].shared.id.clone());
                row.path = found.path.display().to_string();
                (row.outcome, row.reason) = self.judge(entry, &found, &mut row.size);
                if row.outcome == Outcome::FromStart && !self.seen.iter().any(|seen| seen.path == found.path) {
                    row.outcome = Outcome::Skipped;
                    row.reason += "; and no glob names it any more, so it is not read";
                }
            }
        }
        self.rows.push(row);
    }

    /// The one file that the entry speaks of, under the one input that it belongs to; or why there is none.
    fn find(&self, entry: &Entry) -> Result<Found, String> {
        let source = Path::new(&entry.source);
        let is_it = |seen: &&Seen| match entry.identity {
            Identity::Native { inode, .. } | Identity::InodeMarker { inode } => seen.inode.number == inode,
            Identity::Path => seen.path == source,
            Identity::Fingerprint(_) | Identity::Unknown => false,
        };
        let mut files: Vec<&Seen> = self.seen.iter().filter(is_it).collect();
        if let Identity::Native { device, .. } = entry.identity {
            // A device can get another number, as after a reboot; then the name must bear the file out.
            files.retain(|seen| seen.inode.device == device || seen.path == source);
        }
        if let Identity::Fingerprint(hash) = &entry.identity {
            files = self.fingerprints.get(hash).into_iter().flatten().map(|&at| &self.seen[at]).collect();
        }
        if files.iter().any(|seen| seen.path == source) {
            files.retain(|seen| seen.path == source);
        }
        let inodes: BTreeSet<_> = files.iter().map(|seen| (seen.inode.device, seen.inode.number)).collect();
        if inodes.len() > 1 {
            return Err(format!("{} files could be it; which one is not clear", inodes.len()));
        }
        let inputs: BTreeSet<_> = files.iter().map(|seen| seen.input).collect();
        match files.first() {
            Some(first) => Ok(Found { input: self.only(&inputs)?, path: first.path.clone() }),
            None => self.find_unlisted(entry, source),
        }
    }

    /// A file that was renamed to where no glob looks: the agent reads such a one to its end, in the same folder.
    fn find_unlisted(&self, entry: &Entry, source: &Path) -> Result<Found, String> {
        let inputs = self.files.iter().enumerate();
        let matching = inputs.filter(|(_, input)| input.is_match(source)).map(|(index, _)| index).collect();
        let (number, device) = match entry.identity {
            Identity::Native { inode, device } => (inode, Some(device)),
            Identity::InodeMarker { inode } => (inode, None),
            Identity::Unknown => return Err(format!("its file_identity is not understood: {}", entry.key)),
            Identity::Path => {
                self.only(&matching)?;
                return Err("it is gone".into());
            }
            Identity::Fingerprint(_) => {
                let (offset, length) = self.how.fingerprint;
                return Err(format!(
                    "no file of the inputs has this fingerprint of {length} bytes from {offset} on; if Filebeat's \
                     prospector.scanner.fingerprint differs, give it with --fingerprint"
                ));
            }
        };
        let input = self.only(&matching)?;
        let folder = source.parent().unwrap_or(Path::new("/"));
        if device.is_some_and(|device| fs::metadata(folder).is_ok_and(|folder| folder.dev() != device)) {
            return Err(format!("its folder is on another device than inode {number} was"));
        }
        match find_inode(folder, &Inode { device: device.unwrap_or(0), number, birth_ns: None }) {
            Ok(Some(path)) => Ok(Found { input, path }),
            Ok(None) => Err(format!("it is gone: there is no inode {number} in its folder or under the inputs")),
            Err(error) => Err(format!("its folder cannot be read: {error}")),
        }
    }

    fn only(&self, inputs: &BTreeSet<usize>) -> Result<usize, String> {
        let ids: Vec<_> = inputs.iter().map(|&input| self.files[input].shared.id.as_str()).collect();
        match (inputs.first(), ids.len()) {
            (Some(&input), 1) => Ok(input),
            (Some(_), _) => Err(format!("several inputs match it ({}); let one leave it out", ids.join(", "))),
            (None, _) => Err("no input matches it".into()),
        }
    }

    /// What becomes of the file, and why.
    fn judge(&mut self, entry: &Entry, found: &Found, size: &mut Option<u64>) -> (Outcome, String) {
        let (file, inode) = match open(&found.path, self.files[found.input].links) {
            Ok(opened) => opened,
            Err(error) => return (Outcome::FromStart, format!("it cannot be opened now: {error}")),
        };
        *size = file.metadata().ok().map(|found| found.len());
        let place = (found.input, inode.number);
        self.told.insert(place);
        let id = &self.files[found.input].shared.id;
        let is_same = |saved: &&Saved| saved.input == *id && saved.inode.may_be(&inode);
        if let Some(saved) = self.known.values().find(is_same) {
            return (Outcome::Kept, format!("the checkpoint knows it, at offset {}", saved.progress.offset));
        }
        let saved = match self.saved(entry, found, &file, inode) {
            Ok(saved) => saved,
            Err(reason) => return (Outcome::FromStart, reason),
        };
        let offset = saved.progress.offset;
        let told = (Outcome::TakenOver, format!("read on from {offset}"));
        match self.taken.get(&place).map(|(other, row)| (other.progress.offset, *row)) {
            Some((lower, _)) if lower <= offset => {
                return (
                    Outcome::Skipped,
                    format!("another entry of this file has a lower offset, {lower}, which counts"),
                );
            }
            Some((_, row)) => {
                self.rows[row].outcome = Outcome::Skipped;
                self.rows[row].reason =
                    format!("another entry of this file has a lower offset, {offset}, which counts");
            }
            None => {}
        }
        self.taken.insert(place, (saved, self.rows.len()));
        told
    }

    /// The entry that an agent would have written at this offset; or why the offset is not believed.
    fn saved(&self, entry: &Entry, found: &Found, file: &File, inode: Inode) -> Result<Saved, String> {
        let unreadable = |error: std::io::Error| format!("it cannot be read: {error}");
        if matches!(entry.ttl, 0 | -2) {
            return Err(format!("Filebeat itself had let go of this entry (ttl {})", entry.ttl));
        }
        let Some(offset) = entry.offset.filter(|&offset| offset > 0) else {
            return Err("nothing of it was acknowledged".into());
        };
        if read_span(file, 0, GZIP.len()).map_err(unreadable)?.as_deref() == Some(&GZIP) {
            return Err("it is compressed: Filebeat's offset counts what is unpacked".into());
        }
        let is_by_content = matches!(entry.identity, Identity::Fingerprint(_));
        if let (false, Some(birth_ns), Some(updated_s)) = (is_by_content, inode.birth_ns, entry.updated_s)
            && birth_ns / 1_000_000_000 > updated_s
        {
            return Err("it was made after Filebeat last wrote of it: it is another file".into());
        }
        let Some(edges) = Edges::read(file, offset).map_err(unreadable)? else {
            return Err(format!("offset {offset} is beyond its end: it was truncated, or is another file"));
        };
        // A line ends with one of these in every encoding that Filebeat reads, but for its rarest line terminators.
        if !matches!(read_span(file, offset - 1, 1).map_err(unreadable)?.as_deref(), Some(b"\n" | b"\r" | b"\0")) {
            return Err(format!("no line ends at offset {offset}: it was written anew, or is another file"));
        }
        let made = incarnation(file, &self.config.name, &inode, 0, &self.files[found.input].recipe.decoder)
            .map_err(unreadable)?;
        let input = &self.files[found.input];
        let path = if input.is_match(Path::new(&entry.source)) {
            entry.source.clone() // As it was shipped so far.
        } else {
            found.path.to_string_lossy().into_owned()
        };
        Ok(Saved {
            input: input.shared.id.clone(),
            incarnation: made.ok_or("its first line is not complete")?,
            path,
            inode,
            generation: 0,
            progress: Progress { offset, anchor: edges.anchor() },
            cuts: Vec::new(),
            cursor: None,
            packed: None,
        })
    }

    /// Files that the globs find and no entry speaks of.
    fn look_at_unknown_files(&mut self) {
        for seen in &self.seen {
            let place = (seen.input, seen.inode.number);
            let input = &self.files[seen.input].shared.id;
            let is_known = |saved: &Saved| saved.input == *input && saved.inode.may_be(&seen.inode);
            if !self.told.insert(place) || self.known.values().any(is_known) {
                continue;
            }
            self.rows.push(TakeOverRow {
                outcome: Outcome::FromStart,
                input: Some(input.clone()),
                path: seen.path.display().to_string(),
                offset: None,
                size: Some(seen.sighting.size),
                reason: "no usable entry of the registry speaks of it".into(),
            });
        }
    }

    /// Takes the fingerprints of the files, if entries are known by them.
    fn fingerprint<'e>(&mut self, entries: &'e [Entry]) {
        let by_hash = |entry: &'e Entry| match &entry.identity {
            Identity::Fingerprint(hash) => Some((hash.as_str(), entry.source.as_str())),
            _ => None,
        };
        let wanted: BTreeSet<_> = entries.iter().filter_map(by_hash).collect();
        if wanted.is_empty() {
            return;
        }
        let (from, length) = self.how.fingerprint;
        for (at, seen) in self.seen.iter().enumerate() {
            let Ok((file, _)) = open(&seen.path, self.files[seen.input].links) else { continue };
            let bytes = usize::try_from(seen.sighting.size.saturating_sub(from)).unwrap_or(usize::MAX).min(length);
            let Ok(Some(start)) = read_span(&file, from, bytes) else { continue };
            if bytes == length {
                self.fingerprints.entry(sha256(&start)).or_default().push(at);
            }
            // A few equal bytes prove little, so such a file must have its name still.
            let here = wanted.iter().filter(|(_, source)| Path::new(source) == seen.path).map(|(hash, _)| *hash);
            for hash in grown_from(&start, &here.collect()) {
                self.fingerprints.entry(hash).or_default().push(at);
            }
        }
    }
}

/// Those of `wanted` that are fingerprints of a beginning of `start`: the file was shorter then (Filebeat 9.5 and later).
fn grown_from(start: &[u8], wanted: &BTreeSet<&str>) -> Vec<String> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let mut digits = Sha::new(&SHA256);
    let hashes = start.iter().map(|&byte| {
        digits.update(hexadecimal(&[byte]).as_bytes());
        hexadecimal(digits.clone().finish().as_ref())
    });
    hashes.filter(|hash| wanted.contains(hash.as_str())).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hexadecimal(digest(&SHA256, bytes).as_ref())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
