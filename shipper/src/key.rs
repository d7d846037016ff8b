//! Key → partition, or a partition without one. Pure but for its own turn and chance.

use crate::config::Partitioner;

/// Chooses the partitions of one topic's records.
#[derive(Debug)]
pub(crate) struct Chooser {
    how: How,
    /// Of those without a key, if others have one.
    keyless: Sticky,
}

#[derive(Debug)]
enum How {
    Fixed(usize),
    Key,
    RoundRobin(usize),
    Sticky,
    Random,
}

/// One partition until a request's worth of bytes is on its way to it, then another one.
#[derive(Debug)]
struct Sticky {
    at: usize,
    left: usize,
    run_bytes: usize,
    random: fastrand::Rng,
}

impl Chooser {
    /// `run_bytes`: what goes into one request of one partition.
    pub(crate) fn new(partition: Option<u32>, partitioner: Partitioner, run_bytes: usize) -> Self {
        let how = match (partition, partitioner) {
            (Some(partition), _) => How::Fixed(partition as usize),
            (None, Partitioner::Key) => How::Key,
            (None, Partitioner::RoundRobin) => How::RoundRobin(fastrand::usize(..)), // Not all agents begin at the same one.
            (None, Partitioner::Sticky) => How::Sticky,
            (None, Partitioner::Random) => How::Random,
        };
        Self { how, keyless: Sticky { at: 0, left: 0, run_bytes, random: fastrand::Rng::new() } }
    }

    /// The partition, of `partitions`, of `bytes` bytes of records with `key`. An empty key is none.
    ///
    /// `is_open` tells partitions whose requests are answered from those that are stuck, which only a key or an explicit
    /// partition insists on.
    pub(crate) fn choose(
        &mut self,
        key: &[u8],
        bytes: usize,
        partitions: usize,
        is_open: impl Fn(usize) -> bool,
    ) -> usize {
        match &mut self.how {
            How::Fixed(partition) => *partition,
            How::Key if !key.is_empty() => partition(key, partitions),
            How::Key | How::Sticky => self.keyless.choose(bytes, partitions, is_open),
            How::RoundRobin(next) => {
                let chosen = first_open(*next % partitions, partitions, is_open);
                *next = chosen + 1;
                chosen
            }
            How::Random => first_open(self.keyless.random.usize(..partitions), partitions, is_open),
        }
    }
}

impl Sticky {
    fn choose(&mut self, bytes: usize, partitions: usize, is_open: impl Fn(usize) -> bool) -> usize {
        if self.left == 0 || self.at >= partitions || !is_open(self.at) {
            let step = if partitions > 1 { self.random.usize(1..partitions) } else { 0 }; // Another one.
            self.at = first_open((self.at + step) % partitions, partitions, is_open);
            self.left = self.run_bytes;
        }
        self.left = self.left.saturating_sub(bytes);
        self.at
    }
}

/// The first from `start` on that is open; `start` if none is.
fn first_open(start: usize, partitions: usize, is_open: impl Fn(usize) -> bool) -> usize {
    (0..partitions).map(|step| (start + step) % partitions).find(|at| is_open(*at)).unwrap_or(start)
}

/// The partition, of `partitions`, that the Java client and librdkafka's `murmur2` choose for `key`.
pub(crate) fn partition(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partitions
}

/// Kafka's MurmurHash2: `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const FACTOR: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(FACTOR);
        word = (word ^ (word >> 24)).wrapping_mul(FACTOR);
        hash = hash.wrapping_mul(FACTOR) ^ word;
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(FACTOR);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(FACTOR);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_kafkas() {
        // From UtilsTest.java of Kafka.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
            assert!(partition(key.as_bytes(), 7) < 7);
        }
    }

    fn chosen(
        partition: Option<u32>,
        partitioner: Partitioner,
        keys: &[&str],
        is_open: impl Fn(usize) -> bool,
    ) -> Vec<usize> {
        let mut chooser = Chooser::new(partition, partitioner, 100);
        keys.iter().map(|key| chooser.choose(key.as_bytes(), 60, 5, &is_open)).collect()
    }

    #[test]
    fn an_explicit_partition_wins_and_then_the_key() {
        let stuck = |_| false;
        assert_eq!(chosen(Some(3), Partitioner::Key, &["abc", "", "21"], stuck), [3, 3, 3]);
        assert_eq!(chosen(Some(3), Partitioner::RoundRobin, &["abc"; 3], stuck), [3, 3, 3]);
        // 479470107 and 3321034… with the sign bit masked, modulo 5.
        let by_key = [479_470_107 % 5, ((-973_932_308_i32) & 0x7fff_ffff) as usize % 5];
        assert_eq!(chosen(None, Partitioner::Key, &["abc", "21", "abc"], stuck), [by_key[0], by_key[1], by_key[0]]);
    }

    #[test]
    fn round_robin_takes_each_in_turn_and_leaves_out_what_is_stuck() {
        let turns = chosen(None, Partitioner::RoundRobin, &["a"; 10], |_| true);
        assert!(turns.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 5), "{turns:?}");
        let turns = chosen(None, Partitioner::RoundRobin, &["a"; 10], |at| at != 2);
        assert!(!turns.contains(&2) && (0..5).filter(|at| turns.contains(at)).count() == 4, "{turns:?}");
    }

    #[test]
    fn sticky_fills_a_request_and_then_takes_another_partition() {
        for keys in [["a"; 40], [""; 40]] {
            let partitioner = if keys[0].is_empty() { Partitioner::Key } else { Partitioner::Sticky };
            let runs = chosen(None, partitioner, &keys, |_| true); // Two of 60 bytes fill the 100.
            assert!(runs.chunks(2).all(|run| run[0] == run[1]), "{runs:?}");
            assert!(runs.chunks(2).collect::<Vec<_>>().windows(2).all(|pair| pair[0][0] != pair[1][0]), "{runs:?}");
        }
        let runs = chosen(None, Partitioner::Sticky, &["a"; 40], |at| at == 4);
        assert_eq!(runs, [4; 40]);
    }

    #[test]
    fn random_is_spread_over_what_is_open() {
        let found = chosen(None, Partitioner::Random, &["a"; 1000], |at| at != 0);
        for at in 0..5 {
            let times = found.iter().filter(|found| **found == at).count();
            assert!(if at == 0 { times == 0 } else { times > 100 }, "partition {at}: {times} of 1000");
        }
    }

    #[test]
    fn partitions_may_become_fewer() {
        let mut chooser = Chooser::new(None, Partitioner::Sticky, 1_000);
        (0..50).for_each(|_| assert!(chooser.choose(b"", 10, 100, |_| true) < 100));
        (0..50).for_each(|_| assert_eq!(chooser.choose(b"", 10, 1, |_| true), 0));
        let mut chooser = Chooser::new(None, Partitioner::RoundRobin, 1_000);
        (0..50).for_each(|_| assert!(chooser.choose(b"", 10, 3, |_| true) < 3));
        (0..50).for_each(|_| assert_eq!(chooser.choose(b"", 10, 1, |_| true), 0));
    }
}
