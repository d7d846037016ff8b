//! Lines that can be accounted for: `run|file|seq|crc|payload`, where the content is a pure function of (seed, file, seq).
//!
//! A *file* is one life of a log file: the third file after its first rename is `03-1`. Its lines are numbered from 0.

use std::fmt::Write as _;

/// Everything that makes a run's lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Tells runs apart that share a topic by mistake.
    pub run: String,
    /// Same seed, same lines.
    pub seed: u64,
    /// One line in so many is longer than a reader's buffer (100 to 200 KiB); 0 for none.
    pub giant_every: u64,
}

/// Which line: file and place in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The file's life, such as `03-1`.
    pub file: String,
    /// Counted from 0 in that file.
    pub seq: u64,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.file, self.seq)
    }
}

/// What a text that should be a line turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// A line of this run, whole and unchanged.
    Whole(Name),
    /// A line of this run by its name, but with another content.
    Damaged(Name),
    /// Not a line of this run at all.
    Foreign,
}

impl Recipe {
    /// A recipe with ordinary lines only.
    pub fn new(run: &str, seed: u64) -> Self {
        Self { run: run.to_owned(), seed, giant_every: 0 }
    }

    /// The line `seq` of `file`, without a line end.
    pub fn line(&self, file: &str, seq: u64) -> String {
        let payload = self.payload(file, seq);
        let mut line = format!("{}|{file}|{seq}|{:08x}|", self.run, crc32c::crc32c(payload.as_bytes()));
        line.push_str(&payload);
        line
    }

    /// Tells whether `text` is a line of this run, byte for byte.
    pub fn read(&self, text: &str) -> Read {
        let mut parts = text.splitn(5, '|');
        let (run, file, seq) = (parts.next(), parts.next(), parts.next().and_then(|seq| seq.parse().ok()));
        let (Some(run), Some(file), Some(seq)) = (run, file, seq) else { return Read::Foreign };
        if run != self.run {
            return Read::Foreign;
        }
        let name = Name { file: file.to_owned(), seq };
        let sum = parts.next().and_then(|sum| u32::from_str_radix(sum, 16).ok());
        let sound = parts.next().is_some_and(|payload| sum == Some(crc32c::crc32c(payload.as_bytes())));
        // The sum alone would let a line pass whose head was swapped with another's.
        if sound && text == self.line(file, seq) { Read::Whole(name) } else { Read::Damaged(name) }
    }

    fn payload(&self, file: &str, seq: u64) -> String {
        let mut rng = fastrand::Rng::with_seed(mix(self.seed, file, seq));
        let length = match rng.u32(0..1000) {
            0..20 => 0,
            20..40 => rng.usize(2_000..9_000), // Longer than a pipe's or a stdio buffer.
            _ => rng.usize(20..300),
        };
        let length = match self.giant_every {
            0 => length,
            every if seq % every == every - 1 => rng.usize(100 << 10..200 << 10),
            _ => length,
        };
        let mut payload = String::with_capacity(length + 8);
        while payload.len() < length {
            match rng.u32(0..40) {
                0 => payload.push_str("\"quoted\""),
                1 => payload.push('\\'),
                2 => payload.push('\t'),
                3 => payload.push_str("日志行"),
                4 => payload.push('😀'),
                5 => payload.push('\u{1}'),
                6 => payload.push('|'),
                7 => write!(payload, "{}", rng.u64(..)).expect("a string takes all"),
                _ => payload.push(rng.alphanumeric()),
            }
        }
        payload.push('.'); // Never ends in a space or a carriage return that a reader might trim.
        payload
    }
}

/// One number from the three; any change of one changes it.
fn mix(seed: u64, file: &str, seq: u64) -> u64 {
    let mut hash = seed ^ 0x9e37_79b9_7f4a_7c15;
    for part in file.bytes().map(u64::from).chain([0xff, seq]) {
        hash = (hash ^ part).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        Recipe { giant_every: 10, ..Recipe::new("run", 7) }
    }

    #[test]
    fn a_line_is_a_function_of_seed_file_and_place() {
        assert_eq!(recipe().line("03-1", 5), recipe().line("03-1", 5));
        assert_ne!(recipe().line("03-1", 5), recipe().line("03-1", 6));
        assert_ne!(recipe().line("03-1", 5), recipe().line("03-0", 5));
        assert_ne!(recipe().line("03-1", 5), Recipe::new("run", 8).line("03-1", 5));
    }

    #[test]
    fn every_line_reads_back_and_holds_no_line_end() {
        for seq in 0..3_000 {
            let line = recipe().line("00-0", seq);
            assert!(!line.contains(['\n', '\r']), "{line}");
            assert_eq!(recipe().read(&line), Read::Whole(Name { file: "00-0".to_owned(), seq }));
        }
        assert!(recipe().line("00-0", 9).len() > 100 << 10);
    }

    #[test]
    fn a_changed_line_is_damaged_or_foreign() {
        let line = recipe().line("00-0", 3);
        let name = Name { file: "00-0".to_owned(), seq: 3 };
        assert_eq!(recipe().read(&format!("{line}x")), Read::Damaged(name.clone()));
        assert_eq!(recipe().read(line.strip_suffix('.').expect("every payload ends in a dot")), Read::Damaged(name));
        // Head of one line, tail of another: the sum is right, the place is not.
        let moved = line.replacen("|3|", "|4|", 1);
        assert_eq!(recipe().read(&moved), Read::Damaged(Name { file: "00-0".to_owned(), seq: 4 }));
        assert_eq!(recipe().read(&format!("x{line}")), Read::Foreign);
        assert_eq!(recipe().read("GET / HTTP/1.1"), Read::Foreign);
    }
}
