//! What the agent handed over, and what must hold of it at every moment.

use super::disk::Disk;
use crate::checkpoint::Saved;
use event::{Group, Incarnation, StreamId, document_id};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Names a line: inode number, offset, text. An inode's lives are told apart by their texts.
pub(super) type Line = (u64, u64, Vec<u8>);

/// A group that the output holds.
#[derive(Debug)]
pub(super) struct Held {
    group: Group,
    lines: Vec<Line>,
}

#[derive(Debug, Default)]
struct Receipt {
    ids: BTreeSet<String>,
    is_settled: bool,
    /// Where it came from last: life of the agent and stream.
    from: (u32, u64),
}

/// What one life of the agent says of a stream.
#[derive(Debug)]
struct Stream {
    number: u64,
    incarnation: Incarnation,
    epoch: u32,
    /// The least offset that may come next in this epoch.
    next: u64,
}

#[derive(Debug, Default)]
pub(super) struct Audit {
    /// Life of the agent.
    life: u32,
    receipts: HashMap<Line, Receipt>,
    streams: HashMap<StreamId, Stream>,
    /// Offsets that were received under an incarnation, and whether they are settled.
    offsets: HashMap<Incarnation, BTreeMap<u64, bool>>,
    /// Settled before an orderly end: they must not come again.
    done: HashSet<Line>,
    /// Inodes whose second and later lives were known only to a checkpoint that is lost.
    pub(super) renamed_lives: BTreeSet<u64>,
    /// Inodes of which there is a packed copy that only its name could have told, and it has another.
    pub(super) short_copies: BTreeSet<u64>,
    /// Files of which a packed one was read as the other: they begin alike, and of the other, which is gone, no more was known.
    mixed: BTreeSet<usize>,
    /// What is wrong unless the file turns out to be one of those.
    doubtful: Vec<(usize, String)>,
    pub(super) received: u64,
}

impl Audit {
    /// Another life of the agent begins, with what its checkpoint says; after an orderly end nothing may come again.
    pub(super) fn start(&mut self, disk: &Disk, loaded: &[Saved], is_orderly: bool) -> Result<(), String> {
        self.life += 1;
        self.streams.clear();
        self.done.clear();
        if is_orderly {
            self.done
                .extend(self.receipts.iter().filter(|(_, receipt)| receipt.is_settled).map(|(line, _)| line.clone()));
        }
        for saved in loaded {
            let offsets = self.offsets.get(&saved.incarnation).into_iter().flatten();
            if let Some((offset, _)) = offsets.into_iter().find(|(at, done)| **at < saved.progress.offset && !**done)
                && !is_loose(disk, saved)
            {
                let committed = saved.progress.offset;
                return Err(format!("{committed} of {} is committed, {offset} was never acknowledged", saved.path));
            }
        }
        Ok(())
    }

    /// The tail stage begins a stream.
    pub(super) fn open(&mut self, saved: &Saved, stream: StreamId) {
        let (number, incarnation) = (saved.inode.number, saved.incarnation);
        self.streams.insert(stream, Stream { number, incarnation, epoch: 0, next: 0 });
    }

    /// Every line was written where it is said to stand, comes in order, under one id, and is flagged when it comes again.
    pub(super) fn receive(&mut self, disk: &Disk, group: Group) -> Result<Held, String> {
        let source = group.source.clone();
        let stream = self.streams.get_mut(&source.stream).ok_or("a group of a stream that was not opened")?;
        if stream.incarnation != source.incarnation {
            return Err(format!("opened as {}, shipped as {}", stream.incarnation, source.incarnation));
        }
        if group.epoch > stream.epoch {
            (stream.epoch, stream.next) = (group.epoch, 0);
        }
        let mut lines = Vec::new();
        for record in &group.records {
            let text = group.bytes_of(record);
            let shown = shown(text);
            if group.epoch < stream.epoch || record.offset < stream.next {
                return Err(format!("{shown} at {} comes after what follows it", record.offset));
            }
            stream.next = record.offset + 1;
            let mut places = disk.places(record.offset, text);
            let is_last = places.is_empty();
            if is_last {
                places = disk.last_lines(record.offset, text);
            }
            let own = places.iter().find(|at| disk.has_inode(at.0, stream.number));
            let Some(place) = own.or(places.first()) else {
                return Err(format!("{shown} at {} of {} was never written", record.offset, source.path));
            };
            let file = &disk.files[place.0];
            let is_cut = match is_last {
                true => disk.last_line(place.0).map(|(.., is_cut)| is_cut),
                false => file.lives[place.1].lines.get(&record.offset).map(|(_, is_cut)| *is_cut),
            };
            if is_cut != Some(record.truncated) {
                return Err(format!("{shown} at {}: truncated is {}", record.offset, record.truncated));
            }
            let line = (file.number, record.offset, text.to_vec());
            let receipt = self.receipts.entry(line.clone()).or_default();
            let is_again = !receipt.ids.is_empty();
            let from = (self.life, source.stream.0);
            let id = document_id(source.incarnation, record.offset, text);
            receipt.ids.insert(String::from_utf8_lossy(&id).into_owned());
            // A line that stands in several lives or copies cannot be told from its likes.
            if places.len() == 1 && !file.is_alike() && !self.short_copies.contains(&file.number) {
                if file.number != stream.number {
                    self.mixed.extend(disk.taken_for(place.0, stream.number));
                }
                let has_two_ids = receipt.ids.len() > 1 && !self.renamed_lives.contains(&file.number);
                let is_other_stream = receipt.from.0 == self.life && receipt.from.1 != from.1;
                let wrong = match () {
                    () if self.done.contains(&line) => Some("comes again after an orderly restart".to_owned()),
                    () if is_again && !group.reread => Some("comes again and is not flagged".to_owned()),
                    () if is_again && is_other_stream => Some("was read as two files".to_owned()),
                    () if has_two_ids => Some(format!("has two ids, the second in incarnation {}", source.incarnation)),
                    () => None,
                };
                if let Some(wrong) = wrong.map(|wrong| format!("{shown} {wrong}")) {
                    if !disk.is_packed_like_others(place.0) {
                        return Err(wrong);
                    }
                    self.doubtful.push((place.0, wrong));
                }
            }
            receipt.from = from;
            self.offsets.entry(source.incarnation).or_default().entry(record.offset).or_default();
            lines.push(line);
            self.received += 1;
        }
        Ok(Held { group, lines })
    }

    pub(super) fn settle(&mut self, held: Held) {
        for line in held.lines {
            self.offsets.entry(held.group.source.incarnation).or_default().insert(line.1, true);
            self.receipts.entry(line).or_default().is_settled = true;
        }
        held.group.ack.settle();
    }

    pub(super) fn is_settled(&self, line: &Line) -> bool {
        self.receipts.get(line).is_some_and(|receipt| receipt.is_settled)
    }

    /// True if the file was read as one that begins like it, or that one as the file.
    pub(super) fn is_mixed(&self, file: usize) -> bool {
        self.mixed.contains(&file)
    }

    /// When all is read: whatever came twice, or under two ids, was of files that nobody could tell apart.
    pub(super) fn check_doubtful(&self) -> Result<(), String> {
        let wrong = self.doubtful.iter().find(|(file, _)| !self.is_mixed(*file));
        wrong.map_or(Ok(()), |(_, wrong)| Err(wrong.clone()))
    }

    /// No two lines share an id.
    pub(super) fn check_ids(&self) -> Result<(), String> {
        let mut owners = HashMap::new();
        for (line, id) in self.receipts.iter().flat_map(|(line, receipt)| receipt.ids.iter().map(move |id| (line, id)))
        {
            if let Some(other) = owners.insert(id, line).filter(|other: &&Line| *other != line) {
                return Err(format!("{} and {} have one id", shown(&line.2), shown(&other.2)));
            }
        }
        Ok(())
    }

    /// True if lines of an inode with this number were received.
    pub(super) fn has_received(&self, number: u64) -> bool {
        self.receipts.keys().any(|line| line.0 == number)
    }
}

/// True if the entry may go on in another life than that of its lines: one of its own inode, or, if it is read in a packed copy,
/// one of another that begins with the same line.
fn is_loose(disk: &Disk, saved: &Saved) -> bool {
    let files = disk.files.iter().enumerate().filter(|(_, file)| file.number == saved.inode.number);
    files.into_iter().any(|(at, file)| file.is_alike() || (saved.packed.is_some() && disk.begins_like_a_packed_one(at)))
}

/// The start of a line, for a message.
pub(super) fn shown(text: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&text[..text.len().min(24)]))
}
