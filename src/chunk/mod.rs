//! Which passages does this text have?
//!
//! Sizes are counted in tokens of the collection's own model, and places are bytes of the document: a [`Chunk`] is
//! `text[start..end]`, nothing is copied or normalised.
//!
//! Invariants, each with a property test:
//! - every byte that is not white space lies in some chunk;
//! - ranges lie on character boundaries, are not empty, begin and end with something visible, and their starts and
//!   ends ascend;
//! - no chunk holds more than `tokens_max` tokens, unless a single character does;
//! - the time is linear in the length of the text, one line of a megabyte included.
//!
//! It does not tokenise: the caller hands in the token ranges of the whole document, once.

mod code;
mod markdown;
mod measure;
mod plain;
mod split;

use std::ops::Range;

use self::measure::Measure;
pub use crate::config::{ChunkerKind, CodeLanguage};

/// The chunk size of a collection that does not say otherwise, in tokens.
pub const TOKENS_MAX_DEFAULT: usize = 256;
/// The overlap of neighbouring chunks where the collection does not say otherwise, in tokens.
pub const OVERLAP_DEFAULT: usize = 32;

/// A passage of a document: `text[start..end]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its first byte in the document's text.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
    /// The headings above it, outermost first, joined by ` > `; empty where there are none.
    pub heading: String,
}

/// Splits a text. `token_ranges` are the byte ranges of the tokens of the whole text, ascending, as
/// [`crate::Embedder::token_ranges`] gives them. An overlap of more than half of `tokens_max` is lowered to that.
///
/// A blank text has no chunks. A token of more than 100 bytes (a word that WordPiece gave up on, say) counts one for
/// every four bytes, so that no passage grows to megabytes.
///
/// Cost: linear in the text; about 20 ms for a megabyte of Markdown once it is tokenised.
pub fn chunk(
    text: &str,
    kind: ChunkerKind,
    tokens_max: usize,
    overlap: usize,
    token_ranges: &[Range<usize>],
) -> Vec<Chunk> {
    let measure = Measure::new(text, token_ranges);
    let tokens_max = tokens_max.max(1);
    let limits = Limits { tokens_max, overlap: overlap.min(tokens_max / 2) };
    let whole = || std::iter::once(0..text.len()).collect();
    let kind = match kind {
        ChunkerKind::Auto if crate::markdown::looks_like_markdown(text) => ChunkerKind::Markdown,
        ChunkerKind::Auto => ChunkerKind::Plain,
        ChunkerKind::Plain | ChunkerKind::Markdown | ChunkerKind::Code(_) => kind,
    };
    let stretches: Vec<Range<usize>> = if text.contains(PAGE_BREAK) { pages(&measure, limits) } else { whole() };
    let chunks: Vec<Chunk> = match kind {
        ChunkerKind::Code(language) => code::chunks(&measure, limits, language),
        ChunkerKind::Markdown => {
            stretches.into_iter().flat_map(|stretch| markdown::chunks(&measure, stretch, limits)).collect()
        }
        ChunkerKind::Auto | ChunkerKind::Plain => {
            stretches.into_iter().flat_map(|stretch| plain::chunks(&measure, stretch, limits)).collect()
        }
    };
    debug_assert!(first_gap(text, &chunks).is_none(), "text outside of every chunk: {:?}", first_gap(text, &chunks));
    chunks
}

/// What parts pages.
const PAGE_BREAK: char = '\u{c}';
/// A page below this many tokens joins the next, or below a quarter of a chunk where that is less.
const PAGE_TOKENS_MIN: usize = 16;

/// The stretches between form feeds (of PDF files, slides, RFCs); consecutive, and together the whole text. A passage stays
/// on one page, so that it can be cited by it, unless the page is next to empty.
fn pages(measure: &Measure<'_>, limits: Limits) -> Vec<Range<usize>> {
    let small = PAGE_TOKENS_MIN.min(limits.tokens_max / 4);
    let mut pages: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for page in measure.text.split_inclusive(PAGE_BREAK) {
        let range = start..start + page.len();
        start = range.end;
        match pages.last_mut() {
            Some(last) if measure.tokens(last.clone()) < small => last.end = range.end,
            Some(_) | None => pages.push(range),
        }
    }
    pages
}

/// What a chunk may hold, in tokens.
#[derive(Clone, Copy, Debug)]
struct Limits {
    tokens_max: usize,
    overlap: usize,
}

/// The first stretch of visible text that no chunk covers.
fn first_gap(text: &str, chunks: &[Chunk]) -> Option<Range<usize>> {
    let mut covered = 0;
    let bounds = chunks.iter().map(|chunk| (chunk.start, chunk.end)).chain([(text.len(), text.len())]);
    for (start, end) in bounds {
        if start > covered && !text[covered..start].trim().is_empty() {
            return Some(covered..start);
        }
        covered = covered.max(end);
    }
    None
}

#[cfg(test)]
mod tests;
