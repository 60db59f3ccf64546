//! Which chunks speak these words, and how strongly?
//!
//! `analyzer` turns text into terms (`fold` and `terms` do it for one word), `run` holds the terms of the newest chunks
//! in memory, `segment` holds sealed chunks on disk (`directory` reads their files), and `bm25` scores a query over both.
//! `syntax` reads queries with phrases, signs and groups, `matches` finds what satisfies them, with `pattern` for words
//! that are known in part and `phrase` for words that stand next to each other.
//!
//! Invariants: every part sees a chunk through [`index_text`] and the collection's [`Analyzer`]; a chunk stands in one
//! source only; a score does not depend on which. Nothing here knows documents, collections or redb.

use crate::Result;

mod analyzer;
mod bm25;
mod directory;
mod fold;
mod matches;
mod pattern;
mod phrase;
mod run;
mod segment;
mod syntax;
mod terms;

pub use analyzer::{Analyzer, AnalyzerSettings, Language};
pub(crate) use bm25::{CorpusStatistics, QueryTerms, Scored, search, word_frequency};
pub(crate) use matches::{Found, evaluate};
pub(crate) use pattern::Pattern;
pub(crate) use run::TextRun;
pub(crate) use segment::TextSegment;
pub use syntax::TextQuery;

/// The version of the analysis. It changes whenever some text yields other terms than before; indexes and term counts
/// made under another version must be made again from the documents.
pub(crate) const ANALYSIS_VERSION: u32 = 2;

/// The text that the index (and the embedding) of a chunk sees: title, heading and text, each on its own line, without
/// the empty ones. A title that the heading path begins with, as in most Markdown files, is not said twice.
pub fn index_text(title: Option<&str>, heading: &str, text: &str) -> String {
    let title = title.filter(|title| !is_titled(heading, title));
    let parts = [title.unwrap_or_default(), heading, text];
    let mut joined = String::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        if !joined.is_empty() {
            joined.push('\n');
        }
        joined.push_str(part);
    }
    joined
}

/// Whether a heading path begins with this title as its outermost heading. `Rust` does not begin `Rustaceans > Meetings`,
/// whose title would else be lost.
pub fn is_titled(heading: &str, title: &str) -> bool {
    heading.strip_prefix(title).is_some_and(|rest| rest.is_empty() || rest.starts_with(" > "))
}

/// An inverted index over some chunks of a collection.
pub(crate) trait Postings {
    /// Calls `each(chunk, occurrences, fieldnorm id)` for every chunk that holds the term, in ascending order of chunk.
    ///
    /// The fieldnorm id is the one-byte code of the chunk's length in terms that tantivy defines.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where a sealed index cannot be read.
    fn postings(&self, term: &str, each: &mut dyn FnMut(u32, u32, u8)) -> Result<()>;

    /// Calls `each(term, chunks)` for every term that a pattern takes, in ascending order; no fewer chunks are said than
    /// live ones hold the term.
    ///
    /// # Errors
    /// As [`Postings::postings`].
    fn terms(&self, pattern: &Pattern, each: &mut dyn FnMut(&str, u64)) -> Result<()>;

    /// The first and the last chunk number; `None` where there is no chunk.
    fn range(&self) -> Option<(u32, u32)>;
}

#[cfg(test)]
mod tests;
