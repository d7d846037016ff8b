//! A pattern's text and how far it has been read.

/// A text that is read from its start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'p> {
    all: &'p str,
    at: usize,
}

impl<'p> Text<'p> {
    pub(super) fn new(all: &'p str) -> Self {
        Self { all, at: 0 }
    }

    /// What has not been read yet.
    pub(super) fn rest(&self) -> &'p str {
        self.all.get(self.at..).unwrap_or("")
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    pub(super) fn next_if(&mut self, wanted: impl FnOnce(char) -> bool) -> Option<char> {
        let c = self.peek().filter(|c| wanted(*c))?;
        self.at += c.len_utf8();
        Some(c)
    }

    pub(super) fn next_is(&mut self, c: char) -> bool {
        self.next_if(|next| next == c).is_some()
    }

    /// Reads `bytes` bytes, which end at a character's end.
    pub(super) fn take(&mut self, bytes: usize) -> &'p str {
        let taken = self.rest().get(..bytes).unwrap_or("");
        self.at += taken.len();
        taken
    }

    /// Reads up to `end`, which is read, too; `None`, and nothing read, if it does not follow.
    pub(super) fn until(&mut self, end: char) -> Option<&'p str> {
        let (before, _) = self.rest().split_once(end)?;
        self.at += before.len() + end.len_utf8();
        Some(before)
    }

    /// Up to `most` digits of that radix.
    pub(super) fn digits(&mut self, radix: u32, most: usize) -> String {
        let mut digits = String::new();
        while digits.len() < most
            && let Some(digit) = self.next_if(|c| c.is_digit(radix))
        {
            digits.push(digit);
        }
        digits
    }

    /// The message `what`, and where that is.
    pub(super) fn wrong(&self, what: &str) -> String {
        let column = self.all.get(..self.at).map_or(0, |read| read.chars().count()).max(1);
        format!("{what}, at column {column}")
    }
}
