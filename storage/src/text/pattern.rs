//! Which terms begin like this, or differ from it in a letter or two?
//!
//! The distance of two words is the number of letters to change, add or leave out, and of neighbours to swap, that makes
//! one of the other, no letter being touched twice (optimal string alignment). It is computed a row at a time while
//! letters come in, so that a sorted dictionary is left as soon as no continuation can be near.
//!
//! Invariant: what a pattern takes depends on the term alone, so that all sources agree on it.

use tantivy_fst::Automaton;

/// The longest word that is compared letter by letter.
pub(super) const FUZZY_LETTERS_MAX: usize = 32;

/// What terms must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// They begin so.
    Prefix(String),
    /// They are near to a word.
    Near(Near),
}

impl Pattern {
    /// How far the term is from what is asked for; `None` where it is too far.
    pub(super) fn distance(&self, term: &str) -> Option<u8> {
        match self {
            Self::Prefix(prefix) => term.starts_with(prefix).then_some(0),
            Self::Near(near) => near.distance(term),
        }
    }
}

/// A word and how far others may be from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Near {
    letters: Vec<char>,
    distance: u8,
}

/// Distances from the beginnings of the word to what was read; a letter that is not read to its last byte yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    before: [u8; FUZZY_LETTERS_MAX + 1],
    row: [u8; FUZZY_LETTERS_MAX + 1],
    last: char,
    bytes: [u8; 4],
    pending: u8,
}

impl Near {
    /// Of longer words than [`FUZZY_LETTERS_MAX`] letters only so many are looked at; the syntax refuses them.
    pub(super) fn new(word: &str, distance: u8) -> Self {
        Self { letters: word.chars().take(FUZZY_LETTERS_MAX).collect(), distance }
    }

    /// How far the term is; `None` where that is too far.
    pub(super) fn distance(&self, term: &str) -> Option<u8> {
        let mut reading = self.begin();
        for letter in term.chars() {
            reading = self.read(&reading, letter);
            if !self.reaches(&reading) {
                return None;
            }
        }
        self.end(&reading)
    }

    /// Calls `each` for those of sorted terms that are near, with their place and distance.
    pub(super) fn among<'a>(&self, sorted: impl Iterator<Item = &'a str>, each: &mut dyn FnMut(usize, &'a str, u8)) {
        // What was read of the previous term, by the byte where each letter ends.
        let mut readings = vec![(0, self.begin())];
        let mut previous = "";
        for (place, term) in sorted.enumerate() {
            let shared = previous.bytes().zip(term.bytes()).take_while(|(one, other)| one == other).count();
            previous = term;
            readings.retain(|(end, _)| *end <= shared);
            let (mut end, mut reading) = readings[readings.len() - 1];
            for letter in term[end..].chars() {
                if !self.reaches(&reading) {
                    break;
                }
                reading = self.read(&reading, letter);
                end += letter.len_utf8();
                readings.push((end, reading));
            }
            if let Some(distance) = self.end(&reading).filter(|_| end == term.len()) {
                each(place, term, distance);
            }
        }
    }

    fn begin(&self) -> Reading {
        let mut row = [0; FUZZY_LETTERS_MAX + 1];
        (0..).zip(&mut row).for_each(|(place, distance)| *distance = place);
        Reading { before: row, row, last: '\0', bytes: [0; 4], pending: 0 }
    }

    fn read(&self, reading: &Reading, letter: char) -> Reading {
        let Reading { before, row, last, .. } = reading;
        let mut next = *reading;
        next.row[0] = row[0].saturating_add(1);
        for (at, &own) in self.letters.iter().enumerate() {
            let changed = row[at].saturating_add(u8::from(own != letter));
            let moved = row[at + 1].min(next.row[at]).saturating_add(1);
            next.row[at + 1] = changed.min(moved);
            // The word's previous letter is this one, and its own was read before: they are swapped.
            if at > 0 && letter == self.letters[at - 1] && *last == own {
                next.row[at + 1] = next.row[at + 1].min(before[at - 1].saturating_add(1));
            }
        }
        (next.before, next.last) = (*row, letter);
        next
    }

    /// Whether something that begins with what was read can be near.
    fn reaches(&self, reading: &Reading) -> bool {
        reading.row[..=self.letters.len()].iter().any(|distance| *distance <= self.distance)
    }

    fn end(&self, reading: &Reading) -> Option<u8> {
        Some(reading.row[self.letters.len()]).filter(|distance| *distance <= self.distance)
    }
}

/// tantivy's dictionary is walked byte by byte.
impl Automaton for &Near {
    type State = Reading;

    fn start(&self) -> Reading {
        self.begin()
    }

    fn is_match(&self, state: &Reading) -> bool {
        state.pending == 0 && self.end(state).is_some()
    }

    fn can_match(&self, state: &Reading) -> bool {
        self.reaches(state)
    }

    fn accept(&self, state: &Reading, byte: u8) -> Reading {
        let mut next = *state;
        next.bytes[usize::from(next.pending)] = byte;
        next.pending += 1;
        match std::str::from_utf8(&next.bytes[..usize::from(next.pending)]) {
            Ok(text) => {
                let letter = text.chars().next().unwrap_or('\0');
                next.pending = 0;
                self.read(&next, letter)
            }
            // Four bytes that are no letter: a damaged dictionary. Whoever gets the term refuses it.
            Err(_) if next.pending == 4 => self.read(&Reading { pending: 0, ..next }, char::REPLACEMENT_CHARACTER),
            Err(_) => next,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Optimal string alignment by its definition, over the whole table.
    fn textbook(one: &str, other: &str) -> usize {
        let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
        let mut table = vec![vec![0; other.len() + 1]; one.len() + 1];
        for i in 0..=one.len() {
            for j in 0..=other.len() {
                table[i][j] = if i == 0 || j == 0 {
                    i + j
                } else {
                    let changed = table[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
                    let swapped = i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
                    let swapped = if swapped { table[i - 2][j - 2] + 1 } else { usize::MAX };
                    changed.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1).min(swapped)
                };
            }
        }
        table[one.len()][other.len()]
    }

    #[test]
    fn a_letter_changed_added_missing_or_swapped_counts_one() {
        for (word, term, distance) in [
            ("mutex", "mutex", Some(0)),
            ("mutx", "mutex", Some(1)),
            ("nutex", "mutex", Some(1)),
            ("muttex", "mutex", Some(1)),
            ("mtuex", "mutex", Some(1)),
            ("teh", "the", Some(1)),
            ("mux", "mutex", Some(2)),
            ("mu", "mutex", None),
            ("höhe", "hohe", Some(1)),
        ] {
            assert_eq!(Near::new(word, 2).distance(term), distance, "{word} {term}");
        }
    }

    proptest! {
        #[test]
        fn distances_are_the_textbook_s_however_they_are_found(
            word in "[abcé]{1,7}", mut terms in prop::collection::vec("[abcé]{0,8}", 1..40), distance in 1..3_u8,
        ) {
            terms.sort();
            terms.dedup();
            let near = Near::new(&word, distance);
            let mut expected = Vec::new();
            for (place, term) in terms.iter().enumerate() {
                let apart = textbook(&word, term);
                let apart = (apart <= usize::from(distance)).then_some(apart as u8);
                prop_assert_eq!(near.distance(term), apart, "{} {}", word, term);
                let read = term.bytes().fold((&near).start(), |state, byte| (&near).accept(&state, byte));
                prop_assert_eq!((&near).is_match(&read), apart.is_some());
                expected.extend(apart.map(|apart| (place, term.as_str(), apart)));
            }
            let mut found = Vec::new();
            near.among(terms.iter().map(String::as_str), &mut |place, term, apart| found.push((place, term, apart)));
            prop_assert_eq!(found, expected);
        }
    }
}
