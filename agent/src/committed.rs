//! What the output has committed, over what the checkpoint knows: the checkpoint finds files, the output says how far they are.
//! Pure.

use crate::checkpoint::{Key, Put, Saved};
use event::Committed;
use std::collections::BTreeMap;

/// How the checkpoint was wrong, in entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Corrected {
    /// More of the file is committed: it was stored later than the commit, or not at all.
    pub(crate) ahead: u64,
    /// Less of it is: lines that were left out follow the last one that was shipped, or the topic is older.
    pub(crate) behind: u64,
    /// The checkpoint had no such entry.
    pub(crate) unknown: u64,
}

/// Puts the entries right.
///
/// A file that was truncated since has an entry only for its generation: nothing of it is to be read any more.
pub(crate) fn put_right(files: &mut BTreeMap<Key, Saved>, committed: Vec<Committed>) -> Corrected {
    let mut corrected = Corrected::default();
    for Committed { input, incarnation, progress, entry } in committed {
        let key: Key = (input.as_str().into(), incarnation);
        if let Some(saved) = files.get_mut(&key) {
            if saved.is_truncated || saved.progress.offset == progress.offset {
                continue;
            }
            let is_ahead = progress.offset > saved.progress.offset;
            *(if is_ahead { &mut corrected.ahead } else { &mut corrected.behind }) += 1;
            tracing::info!(path = %saved.path, offset = progress.offset, checkpoint = saved.progress.offset,
                "the committed offset counts");
            saved.progress = progress;
            saved.cuts.retain(|cut| *cut >= progress.offset);
            continue;
        }
        match read(&entry) {
            Ok(mut saved) if saved.key() == key => {
                corrected.unknown += 1;
                saved.progress = progress;
                saved.cuts.retain(|cut| *cut >= progress.offset);
                files.insert(key, saved);
            }
            wrong => {
                let error = wrong.err().unwrap_or_else(|| "it is of another file".to_owned());
                tracing::error!(input, %incarnation, error, "a committed offset cannot be used, the checkpoint's counts");
            }
        }
    }
    corrected
}

/// What an output keeps of a file beside its offset.
pub(crate) fn entry(saved: &Saved) -> String {
    serde_json::to_string(&Put::from(saved)).expect("a checkpoint entry has only strings and numbers")
}

fn read(entry: &str) -> Result<Saved, String> {
    serde_json::from_str::<Put>(entry).map_err(|error| error.to_string())?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Inode;
    use event::{Anchor, Incarnation, Progress};

    const LIFE: Incarnation = Incarnation(7);

    fn at(offset: u64) -> Progress {
        Progress { offset, anchor: Anchor { head_bytes: 1, head: offset, tail: u64::MAX } }
    }

    fn saved(offset: u64, cuts: &[u64]) -> Saved {
        let inode = Inode { device: 1, number: 2, birth_ns: Some(3) };
        Saved { cuts: cuts.to_vec(), ..Saved::new("nginx".into(), LIFE, "/a \"b".into(), inode, at(offset)) }
    }

    fn committed(offset: u64) -> Committed {
        Committed { input: "nginx".into(), incarnation: LIFE, progress: at(offset), entry: entry(&saved(0, &[40, 60])) }
    }

    #[track_caller]
    fn check(before: Option<Saved>, committed: Committed, corrected: Corrected, after: Option<Saved>) {
        let mut files: BTreeMap<_, _> = before.into_iter().map(|saved| (saved.key(), saved)).collect();
        assert_eq!(put_right(&mut files, vec![committed]), corrected);
        assert_eq!(files.into_values().next(), after);
    }

    #[test]
    fn the_committed_offset_counts_whichever_is_further() {
        let none = Corrected::default();
        check(Some(saved(50, &[60])), committed(50), none, Some(saved(50, &[60])));
        check(Some(saved(20, &[40, 60])), committed(50), Corrected { ahead: 1, ..none }, Some(saved(50, &[60])));
        check(Some(saved(90, &[95])), committed(50), Corrected { behind: 1, ..none }, Some(saved(50, &[95])));
    }

    #[test]
    fn what_the_checkpoint_lost_is_known_again() {
        let unknown = Corrected { unknown: 1, ..Corrected::default() };
        check(None, committed(50), unknown, Some(saved(50, &[60])));
    }

    #[test]
    fn a_life_that_is_over_stays_so() {
        let over = Saved { is_truncated: true, ..saved(20, &[]) };
        check(Some(over.clone()), committed(50), Corrected::default(), Some(over));
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let other = Committed { incarnation: Incarnation(8), ..committed(50) };
        for wrong in [Committed { entry: "{}".into(), ..committed(50) }, other] {
            check(None, wrong, Corrected::default(), None);
        }
    }
}
