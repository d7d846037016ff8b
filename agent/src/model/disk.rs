//! Real files, and beside them what was written to each: the truth that the agent is measured by.

use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The same first lines in many files; the second kind is longer than what a head anchor covers.
const SHORT_HEADER: &str = "#Fields: date time method\n";
const LONG_HEADER_LINES: usize = 45;

/// One inode, from its creation to the end of the test.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) number: u64,
    /// What was written between one truncation and the next.
    pub(super) lives: Vec<Life>,
    /// Copied from this file: its lines are that one's lines, too.
    pub(super) copy_of: Option<usize>,
}

impl Written {
    /// Two lives begin with the same line, so that the second may be taken for the first: its lines may change their ids.
    pub(super) fn is_alike(&self) -> bool {
        let line_end = |life: &Life| life.content.iter().position(|byte| *byte == b'\n');
        let mut firsts = BTreeSet::new();
        self.lives.iter().filter_map(|life| Some(&life.content[..=line_end(life)?])).any(|first| !firsts.insert(first))
    }
}

#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) content: Vec<u8>,
    /// Start, text and whether it is cut, of every complete line that is not empty.
    pub(super) lines: BTreeMap<u64, (Vec<u8>, bool)>,
}

/// Files and their lives.
type Places = BTreeSet<(usize, usize)>;

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) root: PathBuf,
    pub(super) files: Vec<Written>,
    /// Path below the root → file.
    pub(super) names: BTreeMap<String, usize>,
    /// Those of the names that are packed copies; their files have no other name.
    packed: BTreeSet<String>,
    /// Inodes of packed copies, and the files that are in them.
    copies: BTreeSet<(u64, usize)>,
    /// Offset and text → the lives in which that line stands there.
    places: HashMap<(u64, Vec<u8>), Places>,
    line_bytes_max: usize,
    /// Now and then a line of more than one read.
    has_giants: bool,
    pieces: u64,
    modified: SystemTime,
}

impl Disk {
    pub(super) fn new(root: PathBuf, line_bytes_max: usize, has_giants: bool) -> Self {
        for folder in ["logs/sub", "out"] {
            fs::create_dir_all(root.join(folder)).expect("made");
        }
        let modified = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let (files, names, places) = (Vec::new(), BTreeMap::new(), HashMap::new());
        let (packed, copies) = (BTreeSet::new(), BTreeSet::new());
        Self { root, files, names, packed, copies, places, line_bytes_max, has_giants, pieces: 0, modified }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Names of the file, of which there may be several or none.
    pub(super) fn names_of(&self, file: usize) -> impl Iterator<Item = &str> {
        self.names.iter().filter(move |(_, at)| **at == file).map(|(name, _)| name.as_str())
    }

    /// The lives in which `text` stands at `offset`.
    pub(super) fn places(&self, offset: u64, text: &[u8]) -> Vec<(usize, usize)> {
        self.places.get(&(offset, text.to_vec())).into_iter().flatten().copied().collect()
    }

    /// Some lines, often with an unfinished one at the end.
    pub(super) fn piece(&mut self, rng: &mut Rng) -> Vec<u8> {
        let mut piece = Vec::new();
        let count = if rng.u8(0..20) == 0 { rng.usize(20..60) } else { rng.usize(1..6) };
        for _ in 0..count {
            if rng.u8(0..10) == 0 {
                piece.extend_from_slice(if rng.bool() { b"\n" } else { b"\r\n" });
            }
            self.text(rng, &mut piece);
            piece.extend_from_slice(if rng.u8(0..7) == 0 { b"\r\n" } else { b"\n" });
        }
        if rng.u8(0..4) == 0 {
            self.text(rng, &mut piece);
            piece.extend_from_slice(if rng.u8(0..8) == 0 { b"\r" } else { b"" });
        }
        piece
    }

    /// What a new file or a new life begins with.
    pub(super) fn first_piece(&mut self, rng: &mut Rng) -> Vec<u8> {
        let mut piece = match rng.u8(0..20) {
            0..3 => SHORT_HEADER.as_bytes().to_vec(),
            3 => (0..LONG_HEADER_LINES)
                .flat_map(|n| format!("# licence, line {n:02} of the text\n").into_bytes())
                .collect(),
            _ => Vec::new(),
        };
        if rng.u8(0..12) > 0 {
            piece.extend(self.piece(rng));
        }
        piece
    }

    /// A text that was never written before.
    fn text(&mut self, rng: &mut Rng, piece: &mut Vec<u8>) {
        self.pieces += 1;
        piece.extend_from_slice(format!("{}.", self.pieces).as_bytes());
        let filler = match rng.u8(0..20) {
            0..12 => rng.usize(0..24),
            12..18 => rng.usize(24..60),
            18 => rng.usize(60..260),
            _ if self.has_giants && rng.u8(0..3) == 0 => rng.usize(100_000..300_000),
            _ => 0,
        };
        if filler > 1_000 {
            piece.resize(piece.len() + filler, b'g');
        } else {
            (0..filler)
                .for_each(|_| piece.extend_from_slice(["a", "b", "c", "ä", "水", "😀"][rng.usize(0..6)].as_bytes()));
        }
    }

    /// A first line, and another that makes the whole `bytes` long.
    pub(super) fn piece_of(&mut self, bytes: usize) -> Vec<u8> {
        self.pieces += 1;
        let mut piece = format!("{0}.\n{0}.", self.pieces).into_bytes();
        let filler = format!("{} ", self.pieces).into_bytes();
        piece.extend(filler.iter().cycle().take(bytes.saturating_sub(piece.len() + 1)));
        piece.push(b'\n');
        piece
    }

    /// Makes a file, or writes behind the end of an existing one.
    pub(super) fn append(&mut self, name: &str, piece: &[u8]) {
        let file = match self.names.get(name) {
            Some(file) => *file,
            None => self.create(name, None),
        };
        let end = self.size(file);
        self.write_at(name, end, piece);
    }

    pub(super) fn size(&self, file: usize) -> u64 {
        self.files[file].lives.last().map_or(0, |life| life.content.len() as u64)
    }

    fn create(&mut self, name: &str, copy_of: Option<usize>) -> usize {
        let made = File::create_new(self.path(name)).expect("a free name");
        let number = made.metadata().expect("readable").ino();
        self.files.push(Written { number, lives: vec![Life::default()], copy_of });
        self.names.insert(name.to_owned(), self.files.len() - 1);
        self.files.len() - 1
    }

    /// Writes at `offset`, behind the end: what lies between is a hole.
    pub(super) fn write_at(&mut self, name: &str, offset: u64, piece: &[u8]) {
        let file = self.names[name];
        let opened = File::options().write(true).open(self.path(name)).expect("opens");
        opened.write_all_at(piece, offset).expect("written");
        self.touch(&opened);
        let at = self.files[file].lives.len() - 1;
        let life = self.files[file].lives.last_mut().expect("at least one life");
        life.content.resize(usize::try_from(offset).expect("small"), 0);
        life.content.extend_from_slice(piece);
        self.note_lines(file, at);
    }

    /// Cuts the file to `size` and writes `piece` behind that: another life.
    pub(super) fn truncate(&mut self, name: &str, size: u64, piece: &[u8]) {
        let file = self.names[name];
        let opened = File::options().write(true).open(self.path(name)).expect("opens");
        opened.set_len(size).expect("truncated");
        opened.write_all_at(piece, size).expect("written");
        self.touch(&opened);
        let written = &mut self.files[file];
        let before = &written.lives.last().expect("at least one life").content;
        let mut content = before[..usize::try_from(size).expect("small")].to_vec();
        content.extend_from_slice(piece);
        written.lives.push(Life { content, ..Life::default() });
        let at = written.lives.len() - 1;
        self.note_lines(file, at);
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).expect("renamed");
        if self.packed.remove(from) {
            self.packed.insert(to.to_owned());
        }
        let file = self.names.remove(from).expect("a known name");
        self.names.insert(to.to_owned(), file);
    }

    /// Packs a file into a copy, of several members, which stands for it from now on. The plain one is for the caller to remove.
    pub(super) fn pack(&mut self, from: &str, to: &str, rng: &mut Rng) {
        let file = self.names[from];
        let content = &self.files[file].lives.last().expect("at least one life").content;
        let middle = rng.usize(0..=content.len());
        let mut packed = Vec::new();
        for part in [&content[..middle], &content[middle..]] {
            if to.contains(".gz") {
                let mut encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
                encoder.write_all(part).expect("written");
                encoder.finish().expect("finished");
            } else {
                zstd::stream::copy_encode(part, &mut packed, 1).expect("packed");
            }
        }
        fs::write(self.path(to), packed).expect("written");
        let copy = File::options().append(true).open(self.path(to)).expect("opens");
        self.touch(&copy);
        self.copies.insert((copy.metadata().expect("readable").ino(), file));
        self.names.insert(to.to_owned(), file);
        self.packed.insert(to.to_owned());
    }

    /// True if the file has this inode, or a packed copy of it has.
    pub(super) fn has_inode(&self, file: usize, number: u64) -> bool {
        self.files[file].number == number || self.copies.contains(&(number, file))
    }

    pub(super) fn is_packed(&self, name: &str) -> bool {
        self.packed.contains(name)
    }

    /// The unfinished last line of a file that nobody can write to any more: start, text, whether it is cut. Its own names are
    /// gone, or only those of packed copies are left.
    pub(super) fn last_line(&self, file: usize) -> Option<(u64, Vec<u8>, bool)> {
        if self.names_of(file).any(|name| !self.is_packed(name)) {
            return None;
        }
        let life = self.files[file].lives.last()?;
        let start = life.content.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let tail = [&life.content[start..], b"\n"].concat();
        let mut found = lines(&tail, self.line_bytes_max);
        found.pop().map(|(at, text, is_cut)| (start as u64 + at, text, is_cut))
    }

    /// Files of which that is the last line, and whether it is cut.
    pub(super) fn last_lines(&self, offset: u64, text: &[u8]) -> Vec<(usize, usize)> {
        let is_it = |file: &usize| self.last_line(*file).is_some_and(|(at, last, _)| at == offset && last == text);
        (0..self.files.len()).filter(is_it).map(|file| (file, self.files[file].lives.len() - 1)).collect()
    }

    /// True if it is packed, and begins with a line that other files begin with: then, as long as little of it is acknowledged, it
    /// may be taken for one of those.
    pub(super) fn is_packed_like_others(&self, file: usize) -> bool {
        let is_shared = |life: &Life| {
            let first = life.lines.first_key_value();
            first.is_some_and(|(offset, (text, _))| self.places(*offset, text).iter().any(|place| place.0 != file))
        };
        self.names_of(file).any(|name| self.is_packed(name)) && self.files[file].lives.last().is_some_and(is_shared)
    }

    /// A packed file and those with this inode number for which it may be taken: they are gone, or packed, and begin as it does.
    /// Empty if there are none.
    pub(super) fn taken_for(&self, file: usize, number: u64) -> Vec<usize> {
        let is_gone = |at: usize| !self.names_of(at).any(|name| !self.is_packed(name));
        let Some(first) = self.files[file].lives.last().and_then(|life| life.lines.first_key_value()) else {
            return Vec::new();
        };
        let places = self.places(*first.0, &first.1.0);
        let others = places.iter().map(|place| place.0).filter(|at| *at != file && self.files[*at].number == number);
        let others: Vec<_> = others.filter(|at| is_gone(*at)).collect();
        if others.is_empty() || !is_gone(file) { Vec::new() } else { [others, vec![file]].concat() }
    }

    /// True if it is packed, and all of its lines stand in one other file, where they do in it.
    pub(super) fn is_all_shared(&self, file: usize) -> bool {
        let Some(life) = self.files[file].lives.last() else { return false };
        let of =
            |(offset, (text, _)): (&u64, &(Vec<u8>, bool))| self.places(*offset, text).into_iter().collect::<Places>();
        let shared = life.lines.iter().map(of).reduce(|all, more| &all & &more).unwrap_or_default();
        self.names_of(file).any(|name| self.is_packed(name)) && shared.iter().any(|place| place.0 != file)
    }

    /// True if another file begins with the same line, and there is a packed copy of that.
    pub(super) fn begins_like_a_packed_one(&self, file: usize) -> bool {
        let first = |life: &Life| life.lines.first_key_value().map(|(offset, (text, _))| (*offset, text.clone()));
        let firsts: Vec<_> = self.files[file].lives.iter().filter_map(first).collect();
        let others = self.packed.iter().filter_map(|name| self.names.get(name)).filter(|other| **other != file);
        others
            .into_iter()
            .any(|other| self.files[*other].lives.last().and_then(first).is_some_and(|line| firsts.contains(&line)))
    }

    /// Inodes of the files of which there is a packed copy.
    pub(super) fn packed_files(&self) -> impl Iterator<Item = u64> {
        self.packed.iter().filter_map(|name| self.names.get(name)).map(|file| self.files[*file].number)
    }

    pub(super) fn link(&mut self, from: &str, to: &str) {
        fs::hard_link(self.path(from), self.path(to)).expect("linked");
        self.names.insert(to.to_owned(), self.names[from]);
    }

    pub(super) fn remove(&mut self, name: &str) {
        fs::remove_file(self.path(name)).expect("removed");
        self.packed.remove(name);
        self.names.remove(name);
    }

    pub(super) fn copy(&mut self, from: &str, to: &str) {
        let of = self.names[from];
        let content = self.files[of].lives.last().expect("at least one life").content.clone();
        self.create(to, Some(of));
        self.write_at(to, 0, &content);
    }

    /// Every write has a time of its own, whatever the file system's clock can tell apart.
    fn touch(&mut self, file: &File) {
        self.modified += Duration::from_millis(7);
        file.set_modified(self.modified).expect("set");
    }

    fn note_lines(&mut self, file: usize, at: usize) {
        let life = &mut self.files[file].lives[at];
        for (offset, text, is_cut) in lines(&life.content, self.line_bytes_max) {
            if life.lines.insert(offset, (text.clone(), is_cut)).is_none() {
                self.places.entry((offset, text)).or_default().insert((file, at));
            }
        }
    }
}

/// True for names that the input's glob finds.
pub(super) fn is_matched(name: &str) -> bool {
    name.starts_with("logs/") && name.ends_with(".log")
}

pub(super) fn folder(name: &str) -> String {
    Path::new(name).parent().unwrap_or(Path::new("")).to_string_lossy().into_owned()
}

/// The complete lines that are not empty, said again in the plainest way: where each starts, its text, whether it is cut.
fn lines(content: &[u8], line_bytes_max: usize) -> Vec<(u64, Vec<u8>, bool)> {
    let (mut found, mut start) = (Vec::new(), 0);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        let begin = start;
        start += line.len();
        let Some(line) = line.strip_suffix(b"\n") else { continue };
        let zeros = line.iter().take_while(|byte| **byte == 0).count(); // A hole is no text.
        let text = &line[zeros..];
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            continue;
        }
        let whole = String::from_utf8(text.to_vec()).expect("only UTF-8 is written");
        let kept = whole.floor_char_boundary(line_bytes_max);
        found.push(((begin + zeros) as u64, text[..kept].to_vec(), kept < text.len()));
    }
    found
}
