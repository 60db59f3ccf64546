//! Which terms does a text hold, and where?
//!
//! One pass over the text finds words and yields a term for each:
//!
//! * a word is a run of Unicode letters, digits and marks; `_` and all other signs separate, and `'s` at its end is
//!   dropped. It is lowered, freed of accents and stemmed; see `terms`;
//! * an ASCII word in camel case also yields its parts of two letters or more, where the settings say so:
//!   `writeBoolean` is `writeboolean`, `write` and `boolean`;
//! * in scripts written without spaces (Han, Kana, Hangul, Bopomofo, Thai, Lao, Burmese, Khmer) each pair of adjacent
//!   characters is a term, and a character that stands alone is one.
//!
//! Invariants: a term has 1 to [`TERM_BYTES_MAX`] bytes; what is longer is cut between two characters, so longer words
//! meet when their beginnings agree. Stop words stay: BM25 weighs them down by itself. Signs and emoji yield nothing.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use rust_stemmers::Algorithm;
use serde::{Deserialize, Serialize};
use unicode_normalization::char::is_combining_mark;

use super::terms::Terms;
use crate::{Error, Result};

/// The longest term, in bytes; longer ones are cut. Also the longest word whose camel case is looked at.
pub(crate) const TERM_BYTES_MAX: usize = 64;

/// How the text of a collection becomes terms. Fixed when the collection is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnalyzerSettings {
    /// The language whose endings are removed, so that `cats` meets `cat`.
    pub language: Language,
    /// Whether `writeBoolean` is also found by `boolean`.
    pub split_identifiers: bool,
}

impl Default for AnalyzerSettings {
    fn default() -> Self {
        Self { language: Language::default(), split_identifiers: true }
    }
}

macro_rules! languages {
    ($($(#[$attribute:meta])* $language:ident $name:literal),+ $(,)?) => {
        /// A language whose endings can be removed (Snowball stemmers), or none.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        #[non_exhaustive]
        pub enum Language {
            /// Words stay as they are; case and accents are folded all the same.
            None,
            $(#[doc = concat!("Stemmed as ", $name, ".")] $(#[$attribute])* $language,)+
        }

        impl Language {
            /// Every language there is.
            pub const ALL: &[Self] = &[Self::None, $(Self::$language),+];

            /// Its name, as written in settings.
            pub fn name(self) -> &'static str {
                match self {
                    Self::None => "none",
                    $(Self::$language => $name,)+
                }
            }

            pub(super) fn algorithm(self) -> Option<Algorithm> {
                match self {
                    Self::None => None,
                    $(Self::$language => Some(Algorithm::$language),)+
                }
            }
        }
    };
}

languages! {
    Arabic "arabic", Danish "danish", Dutch "dutch", #[default] English "english", Finnish "finnish", French "french",
    German "german", Greek "greek", Hungarian "hungarian", Italian "italian", Norwegian "norwegian",
    Portuguese "portuguese", Romanian "romanian", Russian "russian", Spanish "spanish", Swedish "swedish",
    Tamil "tamil", Turkish "turkish",
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Language {
    type Err = Error;

    /// Reads a name, in any case.
    fn from_str(name: &str) -> Result<Self> {
        let known = Self::ALL.iter().find(|language| language.name().eq_ignore_ascii_case(name));
        known.copied().ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|language| language.name()).collect();
            let name: String = name.chars().take(32).collect();
            Error::invalid(format!("`{name}` is not a language of the text index; use one of {}", names.join(", ")))
        })
    }
}

/// Turns text into terms. Cheap to make and to clone.
#[derive(Clone, Debug, Default)]
pub struct Analyzer {
    settings: AnalyzerSettings,
}

impl Analyzer {
    /// An analyzer with these settings.
    pub fn new(settings: &AnalyzerSettings) -> Self {
        Self { settings: settings.clone() }
    }

    pub(super) fn settings(&self) -> &AnalyzerSettings {
        &self.settings
    }

    /// Calls `each` for every term of the text, in order. English runs at some 50 MB a second on one core of an AMD
    /// EPYC (3 MB of README files; without stemming 114 MB a second).
    pub fn for_each_term(&self, text: &str, each: &mut dyn FnMut(&str)) {
        self.scan(text, &mut |term, _| each(term));
    }

    /// The terms of the text, each with the bytes of the text it came from. Ranges begin and end between characters;
    /// those of camel-case parts and of character pairs overlap.
    pub fn term_ranges(&self, text: &str) -> Vec<(String, Range<usize>)> {
        let mut found = Vec::new();
        self.scan(text, &mut |term, range| found.push((term.to_owned(), range)));
        found
    }

    /// Calls `each` for what [`Analyzer::term_ranges`] lists.
    pub(super) fn for_each_range(&self, text: &str, each: &mut dyn FnMut(&str, Range<usize>)) {
        self.scan(text, each);
    }

    /// The terms of one word, the whole word first; empty where nothing of it counts.
    pub fn word_terms(&self, word: &str) -> Vec<String> {
        let mut terms = Vec::new();
        self.for_each_term(word, &mut |term| terms.push(term.to_owned()));
        terms
    }

    fn scan(&self, text: &str, sink: &mut Sink<'_>) {
        let mut terms = Terms::take(self.settings.language);
        let mut at = 0;
        while let Some(kind) = kind_at(text, at) {
            at = match kind {
                Kind::Separator(length) => at + length,
                Kind::Word => self.word(text, at, &mut terms, sink),
                Kind::Unspaced => unspaced(text, at, &mut terms, sink),
            };
        }
        terms.put_back();
    }

    /// Yields the word that begins at `start`; returns where to go on.
    fn word(&self, text: &str, start: usize, terms: &mut Terms, sink: &mut Sink<'_>) -> usize {
        let end = word_end(text, start);
        yield_term(terms.of_word(&text[start..end]), start..end, sink);
        if self.settings.split_identifiers {
            camel_parts(&text.as_bytes()[start..end], &mut |part: Range<usize>| {
                let range = start + part.start..start + part.end;
                yield_term(terms.of_word(&text[range.clone()]), range, sink);
            });
        }
        end + possessive_length(&text[end..])
    }
}

type Sink<'a> = dyn FnMut(&str, Range<usize>) + 'a;

fn yield_term(term: &str, range: Range<usize>, sink: &mut Sink<'_>) {
    if !term.is_empty() {
        sink(term, range);
    }
}

/// What begins at a place of the text.
enum Kind {
    /// Something between words, of this many bytes.
    Separator(usize),
    Word,
    Unspaced,
}

fn kind_at(text: &str, at: usize) -> Option<Kind> {
    let &byte = text.as_bytes().get(at)?;
    if byte.is_ascii() {
        return Some(if byte.is_ascii_alphanumeric() { Kind::Word } else { Kind::Separator(1) });
    }
    let character = text[at..].chars().next()?;
    Some(match (character.is_alphanumeric(), is_unspaced(character)) {
        (true, true) => Kind::Unspaced,
        (true, false) => Kind::Word,
        (false, _) => Kind::Separator(character.len_utf8()),
    })
}

fn word_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let mut end = start;
    while let Some(&byte) = bytes.get(end) {
        if byte.is_ascii() {
            if !byte.is_ascii_alphanumeric() {
                break;
            }
            end += 1;
            continue;
        }
        match text[end..].chars().next() {
            Some(character) if continues_word(character) => end += character.len_utf8(),
            Some(_) | None => break,
        }
    }
    end
}

fn continues_word(character: char) -> bool {
    let joiner = matches!(character, '\u{AD}' | '\u{200C}' | '\u{200D}');
    joiner || is_combining_mark(character) || (character.is_alphanumeric() && !is_unspaced(character))
}

/// The length of `'s` where the rest of the text begins with it as a word's end, else 0.
fn possessive_length(rest: &str) -> usize {
    let Some(tail) = rest.strip_prefix(['\'', '\u{2019}']) else { return 0 };
    let Some(after) = tail.strip_prefix(['s', 'S']) else { return 0 };
    let goes_on = after.chars().next().is_some_and(|next| next.is_alphanumeric() || continues_word(next));
    if goes_on { 0 } else { rest.len() - after.len() }
}

/// Calls `each` for the parts of a camel-case word that have two letters or more: `HTTPServer` is `HTTP` and `Server`,
/// `sha256Sum` is `sha256` and `Sum`; `URLs` and `3D` are whole.
fn camel_parts(word: &[u8], each: &mut dyn FnMut(Range<usize>)) {
    if word.len() > TERM_BYTES_MAX || !word.is_ascii() || !word.iter().skip(1).any(u8::is_ascii_uppercase) {
        return;
    }
    let mut start = 0;
    for at in 1..word.len() {
        if begins_part(word, at) {
            yield_part(start..at, each);
            start = at;
        }
    }
    if start > 0 {
        yield_part(start..word.len(), each);
    }
}

fn yield_part(part: Range<usize>, each: &mut dyn FnMut(Range<usize>)) {
    if part.len() > 1 {
        each(part);
    }
}

fn begins_part(word: &[u8], at: usize) -> bool {
    if !word[at].is_ascii_uppercase() {
        return false;
    }
    let lower = |at: usize| word.get(at).is_some_and(u8::is_ascii_lowercase);
    match word[at - 1] {
        previous if previous.is_ascii_lowercase() => true,
        previous if previous.is_ascii_digit() => lower(at + 1),
        // The last capital of `HTTPServer` begins a part; that of `URLs` does not.
        _ => lower(at + 1) && lower(at + 2),
    }
}

/// Yields the pairs of the run of unspaced characters that begins at `start`; returns where it ends.
fn unspaced(text: &str, start: usize, terms: &mut Terms, sink: &mut Sink<'_>) -> usize {
    let mut previous: Option<usize> = None;
    let mut here = start;
    loop {
        let end = character_end(text, here);
        let next = text[end..].chars().next();
        let goes_on = next.is_some_and(|next| next.is_alphanumeric() && is_unspaced(next));
        if let Some(begin) = previous.or((!goes_on).then_some(here)) {
            yield_term(terms.of_characters(&text[begin..end]), begin..end, sink);
        }
        if !goes_on {
            return end;
        }
        previous = Some(here);
        here = end;
    }
}

/// Where the character at `start` ends, with the marks, voicing signs and Hangul vowels and finals that belong to it.
fn character_end(text: &str, start: usize) -> usize {
    let mut characters = text[start..].char_indices();
    characters.next();
    let joins =
        |c: char| is_combining_mark(c) || matches!(u32::from(c), 0xFF9E..=0xFF9F | 0x1160..=0x11FF | 0xD7B0..=0xD7FF);
    characters.find(|&(_, character)| !joins(character)).map_or(text.len(), |(length, _)| start + length)
}

/// Whether a script is written without spaces between words. (Hangul has spaces, but its words end in particles.)
pub(super) fn is_unspaced(character: char) -> bool {
    matches!(u32::from(character),
        0x0E00..=0x0EFF // Thai, Lao
        | 0x1000..=0x109F | 0x1780..=0x17FF | 0xA9E0..=0xA9FF | 0xAA60..=0xAA7F // Burmese, Khmer
        | 0x1100..=0x11FF | 0x3130..=0x318F | 0xA960..=0xA97F | 0xAC00..=0xD7FF | 0xFFA0..=0xFFDC // Hangul
        | 0x3041..=0x30FF | 0x31F0..=0x31FF | 0xFF66..=0xFF9F | 0x1AFF0..=0x1B16F // Kana
        | 0x3105..=0x312F | 0x31A0..=0x31BF // Bopomofo
        | 0x3005..=0x3007 | 0x3021..=0x3029 | 0x3038..=0x303B | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF
        | 0x20000..=0x323AF // Han
    )
}

#[cfg(test)]
#[path = "analyzer_tests.rs"]
mod tests;
