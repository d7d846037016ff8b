//! A file that no listing shows → where it is now, or the proof that it is gone.
//!
//! A rename leaves a file in its folder. Behind a symbolic link that is the folder of what the link leads to: there a target
//! is rotated, and there it stays when the link leads elsewhere.

use crate::discover::find_inode;
use crate::follow::{Follow, Links, Sighting};
use crate::identity::Inode;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// As many links as the kernel follows.
const LINKS_MAX: usize = 40;

/// The file with `inode` in the folder of `path`, in `home`, or beside what `path` leads to. `Ok(None)`: it is proved not to be there.
pub(super) fn find(path: &Path, home: Option<&Path>, inode: &Inode, links: Links) -> io::Result<Option<PathBuf>> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let found = find_inode(folder, inode)?;
    if found.is_some() || links == Links::Refused {
        return Ok(found);
    }
    let led_to = led_to(path);
    let led_to = led_to.as_deref().and_then(Path::parent);
    for other in [home, led_to.filter(|led_to| Some(*led_to) != home)].into_iter().flatten() {
        let found = find_inode(other, inode)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// A closed file that no listing shows: true if it is still there, under whatever name, or if that cannot be told.
pub(super) fn find_again(file: &mut Follow, links: Links) -> bool {
    // Most have kept their name: no need to look through the folder.
    let found = match links {
        Links::Refused => fs::symlink_metadata(&file.path),
        Links::Followed => fs::metadata(&file.path),
    };
    if let Ok(found) = found
        && Inode::of(&found) == file.inode
    {
        file.seen = Sighting::of(&found);
        return true;
    }
    match find(&file.path, file.home.as_deref(), &file.inode, links) {
        Ok(Some(path)) => {
            if let Ok(found) = fs::symlink_metadata(&path) {
                file.seen = Sighting::of(&found);
            }
            file.path = path.into();
            true
        }
        Ok(None) => false,
        Err(error) => {
            tracing::warn!(path = %file.path.display(), %error, "cannot look for this file, its offset is kept");
            true
        }
    }
}

/// The folder in which a file really is, if a link led to it.
pub(super) fn home_of(file: &Follow, links: Links) -> Option<Box<Path>> {
    if links == Links::Refused {
        return None;
    }
    let real = fs::canonicalize(&file.path).ok().filter(|real| *real != *file.path)?;
    let is_file = fs::symlink_metadata(&real).is_ok_and(|found| Inode::of(&found) == file.inode);
    real.parent().filter(|_| is_file).map(Into::into)
}

/// What a link leads to in the end, also if nothing is there any more. `None` if it is no link.
fn led_to(path: &Path) -> Option<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(next) = fs::read_link(&at) else { break };
        at = at.parent()?.join(next);
    }
    (at != path).then_some(at)
}
