//! Which pieces of a corpus should a static model learn from?
//!
//! Single sentences for the most part, some short phrases (queries are short) and some passages of two or three
//! sentences. A large source does not drown a small one: each is drawn from in proportion to the square root of its
//! number of pieces. The draw depends on the seed and the texts alone, and a smaller sample is the beginning of a
//! larger one.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

/// A single sentence is cut after so many words, a passage after twice as many: longer ones teach little more and
/// cost the teacher much.
const SENTENCE_WORDS_MAX: usize = 60;
/// Sentences of a passage.
const PASSAGE_SENTENCES_MAX: u64 = 3;
/// Words of a short phrase.
const PHRASE_WORDS: Range<u64> = 2..9;

/// A seeded sample of at most `limit` pieces of the texts, given as (source, text). Costs one pass over the texts and
/// holds all their pieces at once.
pub fn sentences<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>, limit: usize, seed: u64) -> Vec<String> {
    let mut by_source: BTreeMap<&str, Vec<(u64, String)>> = BTreeMap::new();
    let mut seen = HashSet::new();
    for (source, text) in texts {
        let pieces = by_source.entry(source).or_default();
        for piece in pieces_of(text, seed) {
            let key = digest(&piece, seed);
            if seen.insert(key) {
                pieces.push((key, piece));
            }
        }
    }
    spread(by_source.into_values().collect(), limit)
}

/// Takes pieces of all sources in turn, of each in proportion to the square root of its size.
fn spread(mut sources: Vec<Vec<(u64, String)>>, limit: usize) -> Vec<String> {
    for pieces in &mut sources {
        pieces.sort_unstable();
    }
    let weights: Vec<f64> = sources.iter().map(|pieces| (pieces.len() as f64).sqrt()).collect();
    let mut order: Vec<(f64, usize, usize)> = Vec::new();
    for (source, pieces) in sources.iter().enumerate() {
        order.extend((0..pieces.len()).map(|rank| ((rank as f64 + 0.5) / weights[source], source, rank)));
    }
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    order.truncate(limit);
    order.into_iter().map(|(_, source, rank)| std::mem::take(&mut sources[source][rank].1)).collect()
}

/// Cuts one text into pieces that do not overlap, and adds a short phrase here and there.
fn pieces_of(text: &str, seed: u64) -> Vec<String> {
    let ranges = sentence_ranges(text);
    let mut pieces = Vec::new();
    let mut next = 0;
    while next < ranges.len() {
        let draw = digest(&text[ranges[next].clone()], seed ^ 0x5EED);
        let run = if draw % 100 < 20 { 2 + (draw >> 8) % (PASSAGE_SENTENCES_MAX - 1) } else { 1 };
        let last = (next + run as usize).min(ranges.len()) - 1;
        let words_max = if last > next { 2 * SENTENCE_WORDS_MAX } else { SENTENCE_WORDS_MAX };
        let words: Vec<&str> = text[ranges[next].start..ranges[last].end].split_whitespace().collect();
        if last == next && draw % 100 >= 70 {
            pieces.push(phrase(&words, draw >> 16));
        }
        pieces.push(words[..words.len().min(words_max)].join(" "));
        next = last + 1;
    }
    pieces.retain(|piece| piece.len() > 3 && piece.chars().any(char::is_alphabetic));
    pieces
}

/// A window of a few words.
fn phrase(words: &[&str], draw: u64) -> String {
    let count = (PHRASE_WORDS.start + draw % (PHRASE_WORDS.end - PHRASE_WORDS.start)) as usize;
    let count = count.min(words.len());
    let start = (draw >> 16) as usize % (words.len() - count + 1);
    words[start..start + count].join(" ").trim_matches(|c: char| !c.is_alphanumeric()).to_owned()
}

/// The sentences of a text: up to `.`, `!` or `?` before a space and no small letter, or up to a blank line.
fn sentence_ranges(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let end = at + character.len_utf8();
        let rest = &text[end..];
        let ends = match character {
            '.' | '!' | '?' => rest.starts_with(char::is_whitespace) && !abbreviated(&text[start..at], rest),
            '\n' => rest.trim_start_matches([' ', '\t']).starts_with('\n'),
            _ => false,
        };
        if ends || characters.peek().is_none() {
            if !text[start..end].trim().is_empty() {
                ranges.push(start..end);
            }
            start = end;
        }
    }
    ranges
}

/// Whether the full stop after `before` seems to belong to an abbreviation.
fn abbreviated(before: &str, after: &str) -> bool {
    let next = after.trim_start().chars().next();
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default().trim_start_matches(['(', '[', '"']);
    next.is_some_and(char::is_lowercase)
        || word.chars().count() == 1 && word != "I"
        || ["Mr", "Mrs", "Ms", "Dr", "St", "Prof", "Fig", "Eq", "Sec", "No", "vs", "cf", "al", "e.g", "i.e", "etc"]
            .contains(&word)
}

/// FNV-1a over the text, mixed with the seed by SplitMix64's finaliser.
pub(super) fn digest(text: &str, seed: u64) -> u64 {
    let hash = text
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    mix(hash ^ mix(seed))
}

/// SplitMix64's finaliser (Steele, Lea and Flood 2014).
pub(super) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Dr. Who came in. He sat down! Was it so? See Fig. 3 for more.\n\nA new paragraph";

    #[test]
    fn a_text_is_cut_at_sentence_ends_and_not_after_abbreviations() {
        let found: Vec<&str> = sentence_ranges(TEXT).into_iter().map(|range| TEXT[range].trim()).collect();
        let wanted = ["Dr. Who came in.", "He sat down!", "Was it so?", "See Fig. 3 for more.", "A new paragraph"];
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_smaller_sample_is_the_beginning_of_a_larger_one() {
        let texts: Vec<String> = (0..200).map(|n| format!("Text number {n} of many. It says {n} twice.")).collect();
        let sample = |limit| sentences(texts.iter().map(|text| ("numbers", text.as_str())), limit, 7);
        let (small, large) = (sample(20), sample(100));
        assert_eq!(small.len(), 20);
        assert_eq!(small[..], large[..20]);
    }

    #[test]
    fn a_small_source_is_not_drowned_by_a_large_one() {
        let many: Vec<String> = (0..2500).map(|n| format!("many{n} words{n} here{n} now{n}")).collect();
        let few: Vec<String> = (0..25).map(|n| format!("few{n} words{n} here{n} now{n}")).collect();
        let texts =
            many.iter().map(|text| ("many", text.as_str())).chain(few.iter().map(|text| ("few", text.as_str())));
        let sample = sentences(texts, 110, 7);
        let small = sample.iter().filter(|piece| piece.contains("few") || piece.starts_with("few")).count();
        assert!((5..=20).contains(&small), "{small} of 110 from the small source, about 10 expected");
    }

    #[test]
    fn blank_texts_give_no_pieces() {
        assert!(sentences([("a", ""), ("a", " \n\n "), ("a", "...")], 10, 1).is_empty());
    }
}
