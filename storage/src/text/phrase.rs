//! Do these words stand next to each other in this text?
//!
//! The index knows how often a term stands in a chunk, not where; so who asks for a phrase has the texts that hold all its
//! words analysed again. A word takes one place, one in camel case as many as it has parts: `the writeBoolean call` holds
//! "writeboolean call", "boolean call" and "the write". Of scripts without spaces, each character begins a pair.

use std::collections::HashMap;
use std::ops::Range;

use super::{Analyzer, AnalyzerSettings};

/// Terms that stand one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phrase {
    pub(super) terms: Vec<String>,
    /// How many other places may lie between them, all together.
    pub(super) slop: u32,
}

impl Phrase {
    /// Whether a text holds it.
    pub(super) fn stands_in(&self, places: &Places<'_>) -> bool {
        let Some((first, rest)) = self.terms.split_first() else { return false };
        places.of(first).iter().any(|(_, end)| self.goes_on(places, *end, rest))
    }

    /// Whether the rest follows from a place on. Of several ways the one that takes the next place each time is shortest.
    fn goes_on(&self, places: &Places<'_>, mut end: u32, rest: &[String]) -> bool {
        let mut left = self.slop;
        rest.iter().all(|term| {
            let found = places.of(term);
            let next = found.partition_point(|(start, _)| *start < end);
            let Some(between) = found.get(next).and_then(|(start, _)| left.checked_sub(start - end)) else {
                return false;
            };
            left = between;
            end = found[next].1;
            true
        })
    }
}

/// Where the terms of some phrases stand in a text: from which place to which, ascending.
#[derive(Debug, Default)]
pub(super) struct Places<'a>(HashMap<&'a str, Vec<(u32, u32)>>);

impl<'a> Places<'a> {
    /// Looks for the terms of these phrases.
    pub(super) fn find(analyzer: &Analyzer, text: &str, phrases: impl Iterator<Item = &'a Phrase>) -> Self {
        let mut places = Self::default();
        for term in phrases.flat_map(|phrase| &phrase.terms) {
            places.0.entry(term).or_default();
        }
        // The word that was read last: its bytes and term, where it stands and is noted, and how many parts it has so far.
        let (mut whole, mut word, mut start, mut noted, mut parts) = (0..0, String::new(), 0, None, 0);
        let mut next = 0;
        analyzer.for_each_range(text, &mut |term, range| {
            if !is_part(&whole, &range) {
                word.clear();
                word.push_str(term);
                (whole, start, parts, next) = (range, next, 0, next + 1);
                noted = places.note(term, start);
                return;
            }
            places.note(term, start + parts);
            parts += 1;
            next = start + parts;
            if let Some((place, found)) = noted.zip(places.0.get_mut(word.as_str())) {
                found[place].1 = next;
            }
        });
        places
    }

    /// Notes a term that takes one place; returns which of its places it is, where it is looked for.
    fn note(&mut self, term: &str, start: u32) -> Option<usize> {
        let places = self.0.get_mut(term)?;
        places.push((start, start + 1));
        Some(places.len() - 1)
    }

    fn of(&self, term: &str) -> &[(u32, u32)] {
        self.0.get(term).map_or(&[], Vec::as_slice)
    }
}

/// A word of a text, or a pair of characters.
pub(super) struct Word {
    pub(super) term: String,
    /// The terms of its parts in camel case.
    pub(super) parts: Vec<String>,
    /// Whether the parts are all of it: `aValue` has the part `value` alone.
    pub(super) is_sum: bool,
}

/// The words of a text, in order.
pub(super) fn words(analyzer: &Analyzer, text: &str) -> Vec<Word> {
    let mut words: Vec<(Word, Range<usize>, usize)> = Vec::new();
    for (term, range) in analyzer.term_ranges(text) {
        match words.last_mut() {
            Some((word, whole, parts)) if is_part(whole, &range) => {
                *parts += range.len();
                word.is_sum = *parts == whole.len();
                word.parts.push(term);
            }
            Some(_) | None => words.push((Word { term, parts: Vec::new(), is_sum: false }, range, 0)),
        }
    }
    words.into_iter().map(|(word, ..)| word).collect()
}

/// Whether what stands here is a part of the word that stands there.
fn is_part(whole: &Range<usize>, range: &Range<usize>) -> bool {
    whole.start <= range.start && range.end <= whole.end
}

/// The terms of a text without the parts of words.
pub(super) fn whole_words(settings: &AnalyzerSettings, text: &str) -> Vec<String> {
    Analyzer::new(&AnalyzerSettings { split_identifiers: false, ..settings.clone() }).word_terms(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str, phrase: &str, slop: u32) -> bool {
        let settings = AnalyzerSettings::default();
        let phrase = Phrase { terms: whole_words(&settings, phrase), slop };
        phrase.stands_in(&Places::find(&Analyzer::new(&settings), text, std::iter::once(&phrase)))
    }

    #[test]
    fn words_stand_next_to_each_other_in_their_order() {
        let text = "A data race is not a race condition; the data, racing";
        for (phrase, slop, expected) in [
            ("data race", 0, true),
            ("data races", 0, true),
            ("race data", 0, false),
            ("race condition", 0, true),
            ("data not", 0, false),
            ("data is not", 1, true),
            ("data not race", 2, false),
            ("data not race", 3, true),
            ("a a", 3, false),
            ("a a", 4, true),
            ("the data racing", 0, true),
            ("unheard", 0, false),
        ] {
            assert_eq!(holds(text, phrase, slop), expected, "{phrase} ~{slop}");
        }
    }

    #[test]
    fn camel_case_takes_the_places_of_its_parts() {
        let text = "the writeBoolean call of aValue x";
        for phrase in
            ["the writeBoolean call", "write boolean", "boolean call", "the write", "of aValue x", "of value x"]
        {
            assert!(holds(text, phrase, 0), "{phrase}");
        }
        for phrase in ["write call", "the boolean", "the call", "boolean write"] {
            assert!(!holds(text, phrase, 0), "{phrase}");
        }
    }

    #[test]
    fn characters_of_unspaced_scripts_follow_each_other() {
        assert!(holds("東京都に住む", "京都", 0) && holds("東京都に住む", "東京都に", 0));
        assert!(!holds("東京と京都に", "東京都", 0));
    }
}
