//! Which term does this word become?
//!
//! A word is lowered, folded, cut to [`TERM_BYTES_MAX`] bytes and stemmed. The result for short words is remembered per
//! thread: stemming costs some 300 ns a word, and nine words in ten of running text are old acquaintances.
//!
//! Invariant: memory is an optimisation only; a term never depends on what was analysed before.

use std::cell::Cell;

use rust_stemmers::Stemmer;
use unicode_normalization::{IsNormalized, is_nfkc_quick};
use xxhash_rust::xxh3::xxh3_64;

use super::analyzer::{Language, TERM_BYTES_MAX};
use super::fold;

/// Words up to this length are remembered; two of them and the lengths fill one cache line.
const REMEMBERED_BYTES_MAX: usize = 30;
/// 4,096 lines of 64 bytes stay within the second-level cache of a core.
const SLOTS: usize = 4096;
/// What is looked at of one word, before normalisation; far more than a term can hold.
const WORD_BYTES_MAX: usize = 4 * TERM_BYTES_MAX;

thread_local! {
    static MEMORY: Cell<Option<Box<[Slot]>>> = const { Cell::new(None) };
}

/// One remembered word. An empty slot has length 0.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Slot {
    word: [u8; REMEMBERED_BYTES_MAX],
    term: [u8; REMEMBERED_BYTES_MAX],
    word_length: u8,
    term_length: u8,
    language: u8,
}

const EMPTY: Slot = Slot {
    word: [0; REMEMBERED_BYTES_MAX],
    term: [0; REMEMBERED_BYTES_MAX],
    word_length: 0,
    term_length: 0,
    language: 0,
};

impl Slot {
    fn holds(&self, word: &[u8], language: u8) -> bool {
        usize::from(self.word_length) == word.len() && self.language == language && self.word[..word.len()] == *word
    }

    fn remember(&mut self, word: &[u8], language: u8, term: &[u8]) {
        if word.len() > REMEMBERED_BYTES_MAX || term.len() > REMEMBERED_BYTES_MAX {
            return;
        }
        self.word[..word.len()].copy_from_slice(word);
        self.term[..term.len()].copy_from_slice(term);
        self.language = language;
        // Both lengths fit: they are at most 30.
        self.word_length = word.len() as u8;
        self.term_length = term.len() as u8;
    }
}

/// Turns words into terms, with buffers that are used again.
pub(super) struct Terms {
    language: Language,
    stemmer: Option<Stemmer>,
    memory: Box<[Slot]>,
    term: String,
    spare: String,
}

impl Terms {
    /// Takes this thread's memory; [`Terms::put_back`] returns it. Within a callback of another analysis on the same
    /// thread the memory is out, and a new one is made.
    pub(super) fn take(language: Language) -> Self {
        let memory = MEMORY.take().unwrap_or_else(|| vec![EMPTY; SLOTS].into_boxed_slice());
        let stemmer = language.algorithm().map(Stemmer::create);
        Self { language, stemmer, memory, term: String::new(), spare: String::new() }
    }

    pub(super) fn put_back(self) {
        MEMORY.set(Some(self.memory));
    }

    /// The term of a word in a script with spaces; empty where nothing of the word counts.
    pub(super) fn of_word(&mut self, word: &str) -> &str {
        let (bytes, language) = (word.as_bytes(), self.language as u8);
        // SLOTS is a power of two and far below 2^32: the cast keeps the bits that count.
        let place = xxh3_64(bytes) as usize % SLOTS;
        if !self.memory[place].holds(bytes, language) {
            self.analyse(word);
            self.memory[place].remember(bytes, language, self.term.as_bytes());
            return &self.term;
        }
        let slot = &self.memory[place];
        std::str::from_utf8(&slot.term[..usize::from(slot.term_length)]).unwrap_or_default()
    }

    /// The term of one or two characters of a script without spaces.
    pub(super) fn of_characters<'a>(&'a mut self, characters: &'a str) -> &'a str {
        if is_nfkc_quick(characters.chars()) == IsNormalized::Yes {
            return fold::cut(characters, TERM_BYTES_MAX);
        }
        fold::lowercase(fold::cut(characters, WORD_BYTES_MAX), false, &mut self.term);
        self.shorten();
        &self.term
    }

    fn analyse(&mut self, word: &str) {
        let turkish = self.language == Language::Turkish;
        if word.is_ascii() && !turkish {
            self.term.clear();
            self.term.push_str(fold::cut(word, TERM_BYTES_MAX));
            self.term.make_ascii_lowercase();
            return self.stem();
        }
        fold::lowercase(fold::cut(word, WORD_BYTES_MAX), turkish, &mut self.term);
        // The English stemmer knows no accents (`résumé` must meet `resume`); those of other languages need them.
        if matches!(self.language, Language::English | Language::None) {
            self.fold();
            self.shorten();
            self.stem();
        } else {
            self.shorten();
            self.stem();
            self.fold();
        }
        self.shorten();
    }

    fn stem(&mut self) {
        let Some(stemmer) = &self.stemmer else { return };
        let stem = stemmer.stem(&self.term);
        if !stem.is_empty() && stem != self.term {
            self.spare.clear();
            self.spare.push_str(&stem);
            drop(stem);
            std::mem::swap(&mut self.term, &mut self.spare);
        }
    }

    fn fold(&mut self) {
        if !self.term.is_ascii() {
            fold::fold(&self.term, &mut self.spare);
            std::mem::swap(&mut self.term, &mut self.spare);
        }
    }

    fn shorten(&mut self) {
        let length = fold::cut(&self.term, TERM_BYTES_MAX).len();
        self.term.truncate(length);
    }
}
