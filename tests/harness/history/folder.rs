//! One history's folder: real files, and beside them what was written to each.

use super::judge::{Content, Line, Torn, Truth};
use crate::lines::Recipe;
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Below the folder: what the agent's globs find, files and folders, and what they do not.
pub const WATCHED: [&str; 2] = ["logs", "logs/sub"];
/// Where files are archived.
pub const OUT: &str = "out";

/// A file's number in [`Folder::nodes`]: one inode.
pub type Node = usize;

/// One inode.
#[derive(Debug)]
struct Held {
    /// What it holds now.
    content: String,
    size: u64,
    /// The rest of an unfinished last line.
    rest: Vec<u8>,
    /// Where that line starts.
    rest_start: u64,
}

/// The files and the truth about them.
#[derive(Debug)]
pub struct Folder {
    /// Absolute.
    pub root: PathBuf,
    /// The history's name, with which its contents' names begin.
    pub name: String,
    recipe: Recipe,
    nodes: Vec<Held>,
    /// Path below the root → its file.
    names: BTreeMap<String, Node>,
    /// All contents that ever were.
    pub truth: Truth,
}

impl Folder {
    /// Makes the folders.
    pub fn new(root: PathBuf, name: String, recipe: Recipe) -> Result<Self> {
        for folder in WATCHED.into_iter().chain([OUT]) {
            fs::create_dir_all(root.join(folder)).with_context(|| format!("making {folder} in {}", root.display()))?;
        }
        Ok(Self { root, name, recipe, nodes: Vec::new(), names: BTreeMap::new(), truth: Truth::new() })
    }

    /// The file of that name.
    pub fn node(&self, name: &str) -> Option<Node> {
        self.names.get(name).copied()
    }

    /// Names that the agent's globs find, in order.
    pub fn watched(&self) -> Vec<String> {
        self.names.keys().filter(|name| is_watched(name)).cloned().collect()
    }

    /// True if another watched name leads to the same file.
    pub fn is_linked(&self, name: &str) -> bool {
        let node = self.node(name);
        self.names.iter().any(|(other, at)| other != name && Some(*at) == node && is_watched(other))
    }

    /// A name for the next generation of the log `name` that is free.
    pub fn free(&self, name: &str) -> String {
        let mut names = (1..).map(|n| format!("{name}-{n}.log"));
        names.find(|name| !self.names.contains_key(name)).unwrap_or_default()
    }

    /// Name and number of lines of what the file holds now.
    pub fn content(&self, node: Node) -> (&str, usize) {
        let content = &self.nodes[node].content;
        (content, self.truth[content].lines.len())
    }

    /// Size of the file, bytes.
    pub fn size(&self, node: Node) -> u64 {
        self.nodes[node].size
    }

    /// Opens `name` as a program that logs does, appending; makes it if it is not there.
    pub fn open(&mut self, name: &str) -> Result<(File, Node)> {
        let path = self.root.join(name);
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        let node = match self.node(name) {
            Some(node) => node,
            None => {
                let content = self.begin(name);
                self.nodes.push(Held { content, size: 0, rest: Vec::new(), rest_start: 0 });
                self.names.insert(name.to_owned(), self.nodes.len() - 1);
                self.nodes.len() - 1
            }
        };
        Ok((file, node))
    }

    /// A content that begins in a file of that name.
    fn begin(&mut self, name: &str) -> String {
        let content = format!("{}-{}", self.name, self.truth.len());
        let paths = BTreeSet::from([self.root.join(name).to_string_lossy().into_owned()]);
        self.truth.insert(content.clone(), Content { lines: Vec::new(), places: 1, paths, torn: Vec::new() });
        content
    }

    /// Appends `lines` lines, of the last only its first `cut` bytes, if there is a `cut`. An unfinished line is finished
    /// before. With `at`: writes there, behind the end.
    pub fn write(&mut self, file: &File, node: Node, lines: u64, cut: Option<usize>, at: Option<u64>) -> Result<()> {
        let is_owed = self.names.iter().any(|(name, of)| *of == node && is_watched(name));
        let held = &mut self.nodes[node];
        let content = self.truth.get_mut(&held.content).context("a content of its own")?;
        let begin = at.unwrap_or(held.size);
        let mut bytes = std::mem::take(&mut held.rest);
        let mut finished = Vec::new();
        if !bytes.is_empty() {
            finished.push(Line { offset: held.rest_start, is_owed });
        }
        for _ in 0..lines {
            let seq = (content.lines.len() + finished.len()) as u64;
            finished.push(Line { offset: begin + bytes.len() as u64, is_owed });
            bytes.extend_from_slice(self.recipe.line(&held.content, seq).as_bytes());
            bytes.push(b'\n');
        }
        if let (Some(cut), true) = (cut, lines > 0)
            && let Some(last) = finished.pop()
        {
            let start = usize::try_from(last.offset - begin)?;
            held.rest = bytes.split_off((start + cut.max(1)).min(bytes.len() - 1));
            held.rest_start = last.offset;
        }
        match at {
            Some(at) => file.write_all_at(&bytes, at),
            None => (&*file).write_all(&bytes),
        }
        .with_context(|| format!("writing to {}", held.content))?;
        held.size = begin + bytes.len() as u64;
        content.lines.extend(finished);
        self.note_torn(node);
        Ok(())
    }

    /// Writes the rest of an unfinished line.
    pub fn finish_line(&mut self, name: &str) -> Result<()> {
        let Some(node) = self.node(name).filter(|node| !self.nodes[*node].rest.is_empty()) else { return Ok(()) };
        let (file, _) = self.open(name)?;
        self.write(&file, node, 0, None, None)
    }

    /// Renames, over nothing.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let node = self.node(from).with_context(|| format!("{from} is a known name"))?;
        // Before: the agent may see it at once.
        self.note_path(node, to);
        fs::rename(self.root.join(from), self.root.join(to)).with_context(|| format!("renaming {from} to {to}"))?;
        self.names.remove(from);
        self.names.insert(to.to_owned(), node);
        Ok(())
    }

    /// Gives a file a second name.
    pub fn link(&mut self, name: &str, other: &str) -> Result<()> {
        let node = self.node(name).with_context(|| format!("{name} is a known name"))?;
        self.note_path(node, other);
        fs::hard_link(self.root.join(name), self.root.join(other))
            .with_context(|| format!("linking {name} as {other}"))?;
        self.names.insert(other.to_owned(), node);
        Ok(())
    }

    /// Removes a name.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        fs::remove_file(self.root.join(name)).with_context(|| format!("removing {name}"))?;
        if let Some(node) = self.names.remove(name) {
            self.note_torn(node);
        }
        Ok(())
    }

    /// The last line of a file that has no name any more may be taken for finished.
    fn note_torn(&mut self, node: Node) {
        let Held { content: file, rest, rest_start, .. } = &self.nodes[node];
        if rest.is_empty() || self.names.values().any(|of| *of == node) {
            return;
        }
        if let Some(content) = self.truth.get_mut(file) {
            let text = self.recipe.line(file, content.lines.len() as u64);
            content.torn.push(Torn { offset: *rest_start, text });
        }
    }

    /// Copies a file to a new name, as logrotate does before it truncates. What it holds must be truncated next.
    pub fn copy(&mut self, from: &str, to: &str) -> Result<()> {
        let node = self.node(from).with_context(|| format!("{from} is a known name"))?;
        self.note_path(node, to);
        let Held { content, size, .. } = &self.nodes[node];
        let copy = Held { content: content.clone(), size: *size, rest: Vec::new(), rest_start: 0 };
        if let Some(content) = self.truth.get_mut(content) {
            content.places += 1;
        }
        fs::copy(self.root.join(from), self.root.join(to)).with_context(|| format!("copying {from} to {to}"))?;
        self.nodes.push(copy);
        self.names.insert(to.to_owned(), self.nodes.len() - 1);
        Ok(())
    }

    /// Empties a file: what is written from now on is another content.
    pub fn truncate(&mut self, name: &str) -> Result<()> {
        let node = self.node(name).with_context(|| format!("{name} is a known name"))?;
        let path = self.root.join(name);
        let file = File::options().write(true).open(&path).with_context(|| format!("opening {}", path.display()))?;
        file.set_len(0).with_context(|| format!("truncating {}", path.display()))?;
        let content = self.begin(name);
        // Any name of the inode: the agent may not have heard of its newest.
        let before = self.truth.get(&self.nodes[node].content).map(|before| before.paths.clone());
        if let Some(content) = self.truth.get_mut(&content) {
            content.paths.extend(before.into_iter().flatten());
        }
        self.nodes[node] = Held { content, size: 0, rest: Vec::new(), rest_start: 0 };
        Ok(())
    }

    /// Lines that have not arrived are lost with their file; they may arrive all the same.
    pub fn forgive(&mut self, content: &str, has_arrived: impl Fn(u64) -> bool) {
        let Some(content) = self.truth.get_mut(content) else { return };
        (0..).zip(&mut content.lines).filter(|(seq, _)| !has_arrived(*seq)).for_each(|(_, line)| line.is_owed = false);
    }

    fn note_path(&mut self, node: Node, name: &str) {
        let path = self.root.join(name).to_string_lossy().into_owned();
        if let Some(content) = self.truth.get_mut(&self.nodes[node].content) {
            content.paths.insert(path);
        }
    }
}

/// True if the agent's globs find it.
fn is_watched(name: &str) -> bool {
    Path::new(name).parent().is_some_and(|folder| WATCHED.iter().any(|watched| folder == Path::new(watched)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::{Name, Read};

    fn folder(at: &Path) -> Folder {
        Folder::new(at.to_owned(), "h".to_owned(), Recipe::new("run", 1)).expect("made")
    }

    /// Every line of the truth stands where it says.
    #[track_caller]
    fn check(folder: &Folder, name: &str) {
        let node = folder.node(name).expect("a known name");
        let bytes = fs::read(folder.root.join(name)).expect("readable");
        assert_eq!(bytes.len() as u64, folder.size(node));
        let (content, _) = folder.content(node);
        for (seq, line) in (0..).zip(&folder.truth[content].lines) {
            let from = &bytes[usize::try_from(line.offset).expect("small")..];
            let text = from.split(|byte| *byte == b'\n').next().expect("a line");
            let read = folder.recipe.read(&String::from_utf8_lossy(text));
            assert_eq!(read, Read::Whole(Name { file: content.to_owned(), seq }));
        }
    }

    #[test]
    fn the_truth_says_where_each_line_starts() {
        let at = tempfile::tempdir().expect("a folder");
        let mut folder = folder(at.path());
        let (file, node) = folder.open("logs/a.log").expect("opens");
        folder.write(&file, node, 3, Some(10), None).expect("written");
        assert_eq!(folder.content(node), ("h-0", 2), "the third is not finished");
        check(&folder, "logs/a.log");
        folder.write(&file, node, 2, None, None).expect("written");
        folder.copy("logs/a.log", "logs/a.log.1").expect("copied");
        assert_eq!(folder.content(node), ("h-0", 5));
        check(&folder, "logs/a.log.1");
        let end = folder.size(node);
        folder.truncate("logs/a.log").expect("truncated");
        let hole = File::options().write(true).open(at.path().join("logs/a.log")).expect("opens");
        folder.write(&hole, node, 2, None, Some(end)).expect("written");
        assert_eq!((folder.content(node), folder.truth["h-1"].lines[0].offset), (("h-1", 2), end));
        check(&folder, "logs/a.log");
        assert_eq!(folder.truth["h-0"].places, 2);
    }

    #[test]
    fn an_unfinished_line_may_be_torn_when_its_file_has_no_name() {
        let at = tempfile::tempdir().expect("a folder");
        let mut folder = folder(at.path());
        let (file, node) = folder.open("logs/a.log").expect("opens");
        folder.write(&file, node, 2, Some(10), None).expect("written");
        folder.link("logs/a.log", "out/a.log").expect("linked");
        folder.remove("logs/a.log").expect("removed");
        assert_eq!(folder.truth["h-0"].torn, []);
        folder.remove("out/a.log").expect("removed");
        let torn =
            |seq| Torn { offset: folder.recipe.line("h-0", 0).len() as u64 + 1, text: folder.recipe.line("h-0", seq) };
        assert_eq!(folder.truth["h-0"].torn, [torn(1)]);
        folder.write(&file, node, 0, None, None).expect("written");
        assert_eq!((folder.content(node), folder.truth["h-0"].torn.len()), (("h-0", 2), 1));
        folder.write(&file, node, 1, Some(3), None).expect("written");
        assert_eq!(folder.truth["h-0"].torn.len(), 2);
    }

    #[test]
    fn only_what_has_a_watched_name_is_owed() {
        let at = tempfile::tempdir().expect("a folder");
        let mut folder = folder(at.path());
        let (file, node) = folder.open("logs/a.log").expect("opens");
        folder.write(&file, node, 1, None, None).expect("written");
        folder.link("logs/a.log", "logs/sub/b.log").expect("linked");
        assert!(folder.is_linked("logs/a.log"));
        folder.remove("logs/a.log").expect("removed");
        folder.write(&file, node, 1, None, None).expect("written");
        folder.rename("logs/sub/b.log", "out/b.log").expect("renamed");
        folder.write(&file, node, 1, None, None).expect("written");
        let owed: Vec<_> = folder.truth["h-0"].lines.iter().map(|line| line.is_owed).collect();
        assert_eq!(owed, [true, true, false]);
        folder.forgive("h-0", |seq| seq == 0);
        let owed = folder.truth["h-0"].lines.iter().filter(|line| line.is_owed).count();
        assert_eq!(owed, 1);
    }
}
