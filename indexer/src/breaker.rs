//! Stops a topic from being poured into dead letters: batch results in, "go on" or "hold" out. Pure.
//!
//! Rule R9: more than half of the documents failing for good in three batches in a row of at least 100 means that
//! something is wrong with the mapping, the pipeline or the index, not with the documents. The documents are held and
//! tried again until a person has mended it; then fewer than half fail, and the breaker closes by itself.

/// Batches in a row that trip it.
const BATCHES: u32 = 3;
/// Smaller batches say too little.
const DOCUMENTS_MIN: usize = 100;

/// State of the breaker; one per process.
#[derive(Debug, Default)]
pub struct Breaker {
    failing_in_a_row: u32,
    open: bool,
}

impl Breaker {
    /// Takes note of a batch of `sent` documents of which `dead` failed for good. True: hold them, no dead letters now.
    pub fn judge(&mut self, sent: usize, dead: usize) -> bool {
        let mostly_dead = dead * 2 > sent;
        if !mostly_dead {
            if sent >= DOCUMENTS_MIN || self.open {
                *self = Self::default();
            }
            return false; // A few bad documents among good ones are what dead letters are for.
        }
        if sent >= DOCUMENTS_MIN {
            self.failing_in_a_row = (self.failing_in_a_row + 1).min(BATCHES);
            self.open |= self.failing_in_a_row == BATCHES;
        }
        self.open
    }

    /// True while dead letters are held.
    pub fn is_open(&self) -> bool {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges batches of (sent, dead) and checks what each is told.
    #[track_caller]
    fn check(batches: &[(usize, usize)], held: &[bool]) {
        let mut breaker = Breaker::default();
        let got: Vec<_> = batches.iter().map(|&(sent, dead)| breaker.judge(sent, dead)).collect();
        assert_eq!(got, held);
        assert_eq!(Some(&breaker.is_open()), held.last());
    }

    #[test]
    fn three_failing_batches_trip_it() {
        check(&[(100, 51), (200, 200), (100, 100)], &[false, false, true]);
        check(&[(100, 100), (100, 100), (100, 50), (100, 100), (100, 100)], &[false, false, false, false, false]);
    }

    #[test]
    fn small_batches_do_not_trip_it_but_are_held_by_it() {
        check(&[(99, 99), (99, 99), (99, 99), (1, 1)], &[false, false, false, false]);
        check(&[(100, 100), (100, 100), (100, 100), (1, 1)], &[false, false, true, true]);
    }

    #[test]
    fn it_closes_when_most_documents_pass_again() {
        check(&[(100, 100), (100, 100), (100, 100), (100, 100), (60, 0)], &[false, false, true, true, false]);
    }
}
