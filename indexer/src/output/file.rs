//! Copies → a file of JSON lines that is renamed when it is full. On the disk before it says so.
//!
//! `parsed.ndjson` is what is written to; `parsed.ndjson.1`, `.2` … are full, the highest the latest. A line is whole or not there: what
//! a crash or a full disk left of one is cut off, for nobody was told that it is safe.

use super::{Copies, Copy, Writing, all_or_none, lines};
use crate::config::CopyFileConfig;
use anyhow::Context as _;
use std::fs::{File, TryLockError};
use std::io::{Error, Read as _, Result, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::info;

/// Read at once when the end of the last whole line is looked for.
const BLOCK: u64 = 64 << 10;

/// A file that copies are appended to.
#[derive(Debug)]
pub struct CopyFile {
    place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    folder: PathBuf,
    bytes_max: u64,
    files_max: Option<u32>,
    open: Mutex<Option<Open>>,
}

/// The file as it was opened last, and how many bytes of it are safe.
#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
}

impl CopyFile {
    /// Opens the file, or makes it.
    ///
    /// Errors: it cannot be opened for writing, or another process writes to it.
    pub fn new(config: &CopyFileConfig) -> anyhow::Result<Self> {
        let path = config.path.clone();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (folder, bytes_max) = (folder.to_owned(), config.bytes_max.0);
        let place = Place { path, folder, bytes_max, files_max: config.files_max, open: Mutex::default() };
        let open = place.open().with_context(|| format!("file.path: opening {}", place.path.display()))?;
        *place.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(open);
        Ok(Self { place: Arc::new(place) })
    }
}

impl Copies for CopyFile {
    fn part(&self) -> &'static str {
        "file"
    }

    fn write<'c>(&'c self, copies: &'c [Copy<'c>]) -> Writing<'c> {
        Box::pin(async move {
            let (text, place) = (lines(copies), self.place.clone());
            let written = tokio::task::spawn_blocking(move || place.append(&text)).await;
            let written = written.unwrap_or_else(|error| Err(Error::other(error)));
            all_or_none(copies.len(), written, || self.place.path.display().to_string())
        })
    }
}

impl Place {
    fn open(&self) -> Result<Open> {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::other("another process writes to it")),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let bytes = whole_lines(&mut file)?;
        file.set_len(bytes)?;
        file.seek(SeekFrom::End(0))?;
        self.sync_folder()?;
        Ok(Open { file, bytes })
    }

    /// All of `text` is on the disk, or an error: then none of it stays.
    fn append(&self, text: &[u8]) -> Result<()> {
        let mut place = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = match place.take() {
            Some(open) if is_at(&open.file, &self.path) => open,
            _ => self.open()?,
        };
        if open.bytes > 0 && open.bytes + text.len() as u64 > self.bytes_max {
            open = self.rotate(open)?;
        }
        let written = open.file.write_all(text).and_then(|()| open.file.sync_data());
        if let Err(error) = written {
            open.file.set_len(open.bytes).ok(); // Else the part of it is cut off, or stands twice after the next try.
            return Err(error);
        }
        open.bytes += text.len() as u64;
        *place = Some(open);
        Ok(())
    }

    /// Renames the full file, and removes those that are too many.
    fn rotate(&self, full: Open) -> Result<Open> {
        let mut numbers = self.numbers()?;
        let next = numbers.last().map_or(1, |last| last + 1);
        let name = self.numbered(next);
        std::fs::rename(&self.path, &name)?;
        self.sync_folder()?;
        drop(full);
        let bytes = self.bytes_max;
        info!(path = %name.display(), bytes, "output file is full and was renamed");
        numbers.push(next);
        let kept = self.files_max.map_or(usize::MAX, |max| max as usize);
        for number in &numbers[..numbers.len().saturating_sub(kept)] {
            let path = self.numbered(*number);
            std::fs::remove_file(&path)?;
            info!(path = %path.display(), kept, "output file removed: more than files_max");
        }
        self.open()
    }

    fn numbered(&self, number: u64) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// Numbers of the renamed files, ascending.
    fn numbers(&self) -> Result<Vec<u64>> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let other = entry?.file_name().to_string_lossy().into_owned();
            let digits = other.strip_prefix(&name).and_then(|rest| rest.strip_prefix('.'));
            numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A name is safe only when the folder is.
    fn sync_folder(&self) -> Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

/// Bytes up to the end of the last whole line.
fn whole_lines(file: &mut File) -> Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        (&*file).take(end - start).read_to_end(&mut block)?;
        if let Some(last) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata().map(id), path.metadata().map(id)), (Ok(open), Ok(there)) if open == there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::copy;
    use crate::settle::Fate;
    use service::load::ByteSize;

    fn config(folder: &Path, bytes_max: u64, files_max: Option<u32>) -> CopyFileConfig {
        CopyFileConfig { path: folder.join("out"), bytes_max: ByteSize(bytes_max), files_max }
    }

    fn write(file: &CopyFile, id: &str) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let written = runtime.block_on(file.write(&[copy(id, "{\"n\":1}\n")]));
        assert_eq!(written.problem.is_none(), written.fates == [Fate::Done(false)]);
        written.problem.is_none()
    }

    fn ids(folder: &Path, name: &str) -> String {
        let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let id = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).expect("each line is whole");
            line["@metadata"]["_id"].as_str().expect("an id").to_owned()
        };
        text.lines().map(id).collect()
    }

    #[test]
    fn a_full_file_is_renamed_and_the_oldest_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let file = CopyFile::new(&config(folder, 100, Some(2))).expect("it is made");
        for id in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            assert!(write(&file, id));
        }
        assert_eq!([ids(folder, "out.1"), ids(folder, "out.2"), ids(folder, "out.3")], ["", "cd", "ef"]);
        assert_eq!(ids(folder, "out"), "gh");
    }

    #[test]
    fn what_a_crash_left_of_a_line_is_cut_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        assert!(write(&CopyFile::new(&config(folder, 1 << 20, None)).expect("it is made"), "a"));
        let torn = [std::fs::read(folder.join("out")).expect("it is there"), vec![b'x'; 200_000]].concat();
        std::fs::write(folder.join("out"), torn).expect("written");
        let file = CopyFile::new(&config(folder, 1 << 20, None)).expect("it is there");
        assert!(write(&file, "b"));
        assert_eq!(ids(folder, "out"), "ab");
    }

    #[test]
    fn only_one_writes_and_a_file_that_was_taken_away_is_made_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let file = CopyFile::new(&config(folder, 1 << 20, None)).expect("it is made");
        let second = CopyFile::new(&config(folder, 1 << 20, None)).expect_err("it is taken");
        assert!(format!("{second:#}").contains("another process writes to it"), "{second:#}");
        assert!(write(&file, "a"));
        std::fs::rename(folder.join("out"), folder.join("elsewhere")).expect("renamed");
        assert!(write(&file, "b"));
        assert_eq!([ids(folder, "elsewhere"), ids(folder, "out")], ["a", "b"]);
        std::fs::remove_dir_all(folder).expect("removed");
        assert!(!write(&file, "c"), "nobody is told that it is safe");
        std::fs::create_dir(folder).expect("made");
        assert!(write(&file, "c"));
        assert_eq!(ids(folder, "out"), "c");
    }
}
