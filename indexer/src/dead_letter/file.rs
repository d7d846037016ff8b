//! Dead letters → a file of JSON lines, on the disk before it says so.

use super::{DeadLetters, Letter, Unwritten, Writing};
use anyhow::Context as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A file that letters are appended to.
#[derive(Debug)]
pub struct DeadLetterFile {
    path: PathBuf,
    /// The file as it was opened last. Opened again after an error, and when another stands at its path (rotation).
    open: Arc<Mutex<Option<File>>>,
}

impl DeadLetterFile {
    /// Opens `path`, or makes it.
    ///
    /// Errors: it cannot be opened for appending.
    pub fn new(path: &Path) -> anyhow::Result<Self> {
        let file = open(path).with_context(|| format!("dead_letter.file: opening {}", path.display()))?;
        Ok(Self { path: path.to_owned(), open: Arc::new(Mutex::new(Some(file))) })
    }
}

impl DeadLetters for DeadLetterFile {
    fn write<'l>(&'l self, letters: &'l [Letter<'l>]) -> Writing<'l> {
        Box::pin(async move {
            let time_ms = service::clock::wall_ms();
            let mut text = Vec::new();
            for letter in letters {
                text.extend_from_slice(letter.document(time_ms).to_string().as_bytes());
                text.push(b'\n');
            }
            let (path, place) = (self.path.clone(), self.open.clone());
            let written = tokio::task::spawn_blocking(move || append(&path, &place, &text)).await;
            let problem = match written {
                Ok(Ok(())) => return Vec::new(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            let unwritten = |at| -> Unwritten { (at, format!("{}: {problem}", self.path.display())) };
            (0..letters.len()).map(unwritten).collect()
        })
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().append(true).create(true).open(path)
}

/// All of `text` is on the disk, or an error: then the part of it that is may be there twice after the next try.
fn append(path: &Path, place: &Mutex<Option<File>>, text: &[u8]) -> std::io::Result<()> {
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    let mut file = match place.take() {
        Some(file) if is_at(&file, path) => file,
        _ => open(path)?,
    };
    file.write_all(text)?;
    file.sync_data()?;
    *place = Some(file);
    Ok(())
}

fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata().map(id), path.metadata().map(id)), (Ok(open), Ok(there)) if open == there)
}
