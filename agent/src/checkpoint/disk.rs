//! What a checkpoint does to its folder, one function each.
//!
//! Tests watch them: to see what a power cut would leave, and to let one of them fail.

use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

#[cfg(test)]
use super::tests::power::{Op, done};

/// An empty file, readable by its owner only.
pub(super) fn create(path: &Path) -> io::Result<File> {
    #[cfg(test)]
    done(Op::Create { path: path.into() })?;
    File::options().create(true).truncate(true).write(true).mode(0o600).open(path)
}

pub(super) fn write(mut file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    #[cfg(test)]
    done(Op::Write { at, bytes: bytes.into() })?;
    file.seek(io::SeekFrom::Start(at))?;
    file.write_all(bytes)
}

pub(super) fn sync(file: &File) -> io::Result<()> {
    #[cfg(test)]
    done(Op::Sync)?;
    file.sync_data()
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(test)]
    done(Op::Rename { from: from.into(), to: to.into() })?;
    fs::rename(from, to)
}

/// Makes the names in `folder` durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(test)]
    done(Op::SyncFolder)?;
    File::open(folder)?.sync_all()
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    done(Op::Remove { path: path.into() })?;
    fs::remove_file(path)
}
