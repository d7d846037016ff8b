//! Lines in, templates out: which words of like lines stay and which vary. Memory is bounded by the number of templates.
//!
//! As in Drain (He et al., 2017): lines of as many words and with the same first word belong together if half of their words
//! are the same; where they differ, and where a word has a digit, it varies.

use std::collections::HashMap;

/// Most templates; lines that fit none of so many are counted only.
const TEMPLATES_MAX: usize = 1_000;
/// Most words that are told apart; what follows is one.
const WORDS_MAX: usize = 40;
/// Values of a word that varies that are kept to see what they are like.
const VALUES_MAX: usize = 32;

/// What like lines have in common.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) words: Vec<Word>,
    /// How many lines it stands for.
    pub(super) count: u64,
    /// The first of them.
    pub(super) sample: String,
}

#[derive(Debug, PartialEq)]
pub(super) enum Word {
    Fixed(String),
    Varies(Vec<String>),
}

/// The templates of the lines so far.
#[derive(Debug, Default)]
pub(super) struct Templates {
    all: Vec<Template>,
    /// Of a number of words and a first word, those that begin so.
    by_start: HashMap<(usize, String), Vec<usize>>,
    /// Lines that fit none when there were [`TEMPLATES_MAX`].
    pub(super) left_out: u64,
}

impl Templates {
    /// Takes a line in.
    pub(super) fn add(&mut self, line: &str) {
        let words: Vec<&str> = line.splitn(WORDS_MAX, ' ').collect();
        let first = words.first().filter(|word| !varies(word)).copied().unwrap_or_default();
        let like = self.by_start.entry((words.len(), first.to_owned())).or_default();
        let best = like.iter().copied().max_by_key(|nth| same_words(&self.all[*nth].words, &words));
        match best.filter(|nth| same_words(&self.all[*nth].words, &words) * 2 >= words.len()) {
            Some(nth) => self.all[nth].take(&words),
            None if self.all.len() == TEMPLATES_MAX => self.left_out += 1,
            None => {
                like.push(self.all.len());
                let word = |word: &&str| match varies(word) {
                    true => Word::Varies(vec![(*word).to_owned()]),
                    false => Word::Fixed((*word).to_owned()),
                };
                let words = words.iter().map(word).collect();
                self.all.push(Template { words, count: 1, sample: line.to_owned() });
            }
        }
    }

    /// The templates, those of most lines first.
    pub(super) fn into_sorted(mut self) -> Vec<Template> {
        self.all.sort_by_key(|template| std::cmp::Reverse(template.count));
        self.all
    }
}

impl Template {
    fn take(&mut self, words: &[&str]) {
        self.count += 1;
        for (known, word) in self.words.iter_mut().zip(words) {
            match known {
                Word::Fixed(fixed) if fixed == word => {}
                Word::Fixed(fixed) => *known = Word::Varies(vec![std::mem::take(fixed), (*word).to_owned()]),
                Word::Varies(values) if values.len() < VALUES_MAX && !values.iter().any(|value| value == word) => {
                    values.push((*word).to_owned());
                }
                Word::Varies(_) => {}
            }
        }
    }
}

/// True if a word is taken for a value from the first line on.
fn varies(word: &str) -> bool {
    word.contains(|c: char| c.is_ascii_digit())
}

fn same_words(template: &[Word], words: &[&str]) -> usize {
    let same = |(known, word): (&Word, &&str)| match known {
        Word::Fixed(fixed) => fixed == word,
        Word::Varies(_) => varies(word),
    };
    template.iter().zip(words).filter(|pair| same(*pair)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(lines: &[&str]) -> Vec<String> {
        let mut templates = Templates::default();
        lines.iter().for_each(|line| templates.add(line));
        let word = |word: &Word| match word {
            Word::Fixed(fixed) => fixed.clone(),
            Word::Varies(values) => format!("<{}>", values.join("|")),
        };
        let shown = |template: Template| {
            format!("{} {}", template.count, template.words.iter().map(word).collect::<Vec<_>>().join(" "))
        };
        templates.into_sorted().into_iter().map(shown).collect()
    }

    #[test]
    fn like_lines_become_one_template() {
        let lines = [
            "user ann logged in from 10.0.0.1",
            "user bob logged in from 10.0.0.2",
            "disk full",
            "user ann logged out",
        ];
        let expected = ["2 user <ann|bob> logged in from <10.0.0.1|10.0.0.2>", "1 disk full", "1 user ann logged out"];
        assert_eq!(shown(&lines), expected);
    }

    #[test]
    fn what_has_nothing_in_common_stays_apart() {
        assert_eq!(shown(&["a b c d", "a x y z"]), ["1 a b c d", "1 a x y z"]);
        assert_eq!(shown(&["", " ", "7", "8"]), ["2 <7|8>", "1 ", "1  "]);
    }

    #[test]
    fn templates_and_their_values_are_bounded() {
        let mut templates = Templates::default();
        for nth in 0..2_000 {
            let word: String = format!("{nth}").bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
            templates.add(&format!("{word} {word}"));
            templates.add(&format!("same word {nth}"));
        }
        assert_eq!((templates.all.len(), templates.left_out), (TEMPLATES_MAX, 2_000 - (TEMPLATES_MAX as u64 - 1)));
        let most = &templates.into_sorted()[0];
        assert_eq!(most.count, 2_000);
        assert!(matches!(&most.words[2], Word::Varies(values) if values.len() == VALUES_MAX));
    }
}
