//! How well does each chunk answer this query? BM25 over all sources, term by term.
//!
//! `score = sum over terms of w * idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / average))` with
//! `idf = ln(1 + (N - df + 0.5) / (df + 0.5))`, k1 = 1.2, b = 0.75 (Robertson and Zaragoza, "The Probabilistic Relevance
//! Framework", 2009; the idf as Lucene has it, never negative). `w` is how often the query says the term.
//!
//! Invariants: N, df and the average count live chunks only; lengths go through tantivy's one-byte code everywhere, and
//! terms are added in sorted order, so a score is the same to the bit however the chunks are spread over the sources.

use std::collections::BTreeMap;

use tantivy::fieldnorm::FieldNormReader;

use super::{Analyzer, Postings};
use crate::Result;

const K1: f32 = 1.2;
const B: f32 = 0.75;
/// The most distinct terms of a query that are looked up.
pub(crate) const QUERY_TERMS_MAX: usize = 1024;
/// The most bytes of a query that are analysed.
pub(crate) const QUERY_BYTES_MAX: usize = 32 << 10;
/// Scores are kept by position when more than one chunk in this many has one.
const DENSE_FROM: usize = 16;

/// The LIVE totals of a collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CorpusStatistics {
    /// Its chunks.
    pub(crate) chunks: u64,
    /// Their terms, repeats counted.
    pub(crate) terms: u64,
}

/// The terms of a query, each with how often it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueryTerms {
    weights: BTreeMap<String, u32>,
    /// Occurrences of terms that were left out, because the query has more than 1,024 distinct ones.
    pub(crate) terms_dropped: u64,
    /// Bytes that were left out, because the query is longer than 32 KiB.
    pub(crate) bytes_dropped: u64,
}

impl QueryTerms {
    /// Analyses the first 32 KiB of a query and keeps its first 1,024 distinct terms.
    pub(crate) fn analyze(analyzer: &Analyzer, query: &str) -> Self {
        let used = &query[..query.floor_char_boundary(QUERY_BYTES_MAX)];
        let mut terms = Self { bytes_dropped: (query.len() - used.len()) as u64, ..Self::default() };
        analyzer.for_each_term(used, &mut |term| terms.count(term));
        terms
    }

    fn count(&mut self, term: &str) {
        if let Some(weight) = self.weights.get_mut(term) {
            *weight += 1;
        } else if self.weights.len() < QUERY_TERMS_MAX {
            self.weights.insert(term.to_owned(), 1);
        } else {
            self.terms_dropped += 1;
        }
    }
}

/// The scores of a query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scored {
    scores: Scores,
    /// What no chunk can exceed: the sum of `w * idf * (k1 + 1)` over all terms of the query, those included that no
    /// chunk holds, so that a query of unknown words has no perfect answer.
    pub(crate) maximum: f32,
    /// As in [`QueryTerms`].
    pub(crate) terms_dropped: u64,
    /// As in [`QueryTerms`].
    pub(crate) bytes_dropped: u64,
}

impl Scored {
    /// The score of a chunk; 0 where it holds no term of the query, or is not live.
    pub(crate) fn score(&self, chunk: u32) -> f32 {
        match &self.scores {
            Scores::Sparse(scores) => {
                scores.binary_search_by_key(&chunk, |&(chunk, _)| chunk).map_or(0.0, |place| scores[place].1)
            }
            Scores::Dense { first, scores } => {
                let place = chunk.checked_sub(*first).map(|place| place as usize);
                place.and_then(|place| scores.get(place)).copied().unwrap_or(0.0)
            }
        }
    }

    /// The chunks that hold a term of the query, with their scores, in ascending order of chunk.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        let (sparse, first, dense) = match &self.scores {
            Scores::Sparse(scores) => (scores.as_slice(), 0, [].as_slice()),
            Scores::Dense { first, scores } => ([].as_slice(), *first, scores.as_slice()),
        };
        let dense = (first..).zip(dense.iter().copied()).filter(|&(_, score)| score > 0.0);
        sparse.iter().copied().chain(dense)
    }
}

/// Scores by chunk number.
#[derive(Clone, Debug)]
enum Scores {
    /// In ascending order of chunk.
    Sparse(Vec<(u32, f32)>),
    /// By distance from the first chunk; 0 where nothing matched.
    Dense { first: u32, scores: Vec<f32> },
}

impl Default for Scores {
    fn default() -> Self {
        Self::Sparse(Vec::new())
    }
}

impl Scores {
    /// Adds `factor * part` for each `(chunk, part)`, which ascend by chunk; all chunks lie within `range`.
    fn add(&mut self, range: (u32, u32), factor: f32, parts: &[(u32, f32)]) {
        self.widen(range, parts.len());
        match self {
            Self::Sparse(scores) => *scores = sum(scores, factor, parts),
            Self::Dense { first, scores } => {
                for &(chunk, part) in parts {
                    scores[(chunk - *first) as usize] += factor * part;
                }
            }
        }
    }

    /// Goes from sparse to dense when that is smaller or not much larger.
    fn widen(&mut self, (first, last): (u32, u32), more: usize) {
        let Self::Sparse(sparse) = self else { return };
        let span = (last - first) as usize + 1;
        if (sparse.len() + more) * DENSE_FROM < span {
            return;
        }
        let mut scores = vec![0.0; span];
        for &(chunk, score) in sparse.iter() {
            scores[(chunk - first) as usize] = score;
        }
        *self = Self::Dense { first, scores };
    }
}

/// Merges two lists in ascending order of chunk.
fn sum(scores: &[(u32, f32)], factor: f32, parts: &[(u32, f32)]) -> Vec<(u32, f32)> {
    let mut merged = Vec::with_capacity(scores.len() + parts.len());
    let mut scores = scores.iter().copied().peekable();
    for &(chunk, part) in parts {
        while let Some(before) = scores.next_if(|before| before.0 < chunk) {
            merged.push(before);
        }
        let score = scores.next_if(|same| same.0 == chunk).map_or(0.0, |same| same.1);
        merged.push((chunk, score + factor * part));
    }
    merged.extend(scores);
    merged
}

/// Scores every live chunk that holds a term of the query.
///
/// Cost: all postings of all its terms; memory for the longest list of postings and for the scores.
///
/// # Errors
/// [`crate::Error::Corrupt`] where a source cannot be read.
pub(crate) fn search(
    sources: &[&dyn Postings],
    query: &QueryTerms,
    statistics: CorpusStatistics,
    alive: &dyn Fn(u32) -> bool,
) -> Result<Scored> {
    let mut tally = Tally::new(sources, statistics);
    for (term, &weight) in &query.weights {
        let parts = tally.parts(sources, term, alive)?;
        tally.add(weight, &parts);
    }
    Ok(Scored { terms_dropped: query.terms_dropped, bytes_dropped: query.bytes_dropped, ..tally.scored })
}

/// A query's scores in the making.
pub(super) struct Tally {
    pub(super) scored: Scored,
    saturation: Saturation,
    range: Option<(u32, u32)>,
    chunks: u64,
}

impl Tally {
    pub(super) fn new(sources: &[&dyn Postings], statistics: CorpusStatistics) -> Self {
        let (saturation, chunks) = (Saturation::new(statistics), statistics.chunks);
        Self { scored: Scored::default(), saturation, range: range(sources), chunks }
    }

    /// What so many occurrences add to a chunk's score, before the idf.
    pub(super) fn part(&self, count: u32, fieldnorm: u8) -> f32 {
        self.saturation.of(count, fieldnorm)
    }

    /// The live chunks that hold a term, each with its part, in ascending order.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where a source cannot be read.
    pub(super) fn parts(
        &self,
        sources: &[&dyn Postings],
        term: &str,
        alive: &dyn Fn(u32) -> bool,
    ) -> Result<Vec<(u32, f32)>> {
        let mut parts = Vec::new();
        for source in sources {
            source.postings(term, &mut |chunk, count, fieldnorm| {
                if alive(chunk) {
                    parts.push((chunk, self.part(count, fieldnorm)));
                }
            })?;
        }
        if !parts.is_sorted_by_key(|&(chunk, _)| chunk) {
            parts.sort_unstable_by_key(|&(chunk, _)| chunk);
        }
        Ok(parts)
    }

    /// Adds what all chunks with a term score for it, said so often.
    pub(super) fn add(&mut self, weight: u32, parts: &[(u32, f32)]) {
        let factor = weight as f32 * idf(self.chunks, parts.len() as u64);
        self.scored.maximum += factor * (K1 + 1.0);
        if let Some(range) = self.range {
            self.scored.scores.add(range, factor, parts);
        }
    }
}

fn range(sources: &[&dyn Postings]) -> Option<(u32, u32)> {
    let ranges = sources.iter().filter_map(|source| source.range());
    ranges.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
}

/// The number of live chunks that hold the term.
///
/// # Errors
/// [`crate::Error::Corrupt`] where a source cannot be read.
pub(crate) fn document_frequency(sources: &[&dyn Postings], term: &str, alive: &dyn Fn(u32) -> bool) -> Result<u64> {
    let mut chunks = 0;
    for source in sources {
        source.postings(term, &mut |chunk, _, _| chunks += u64::from(alive(chunk)))?;
    }
    Ok(chunks)
}

/// The number of live chunks that hold the word; `None` where the analyzer makes no term of it.
///
/// Of a word with several terms (camel case, Chinese) it is the rarest that counts: an upper bound, mostly exact.
///
/// # Errors
/// [`crate::Error::Corrupt`] where a source cannot be read.
pub(crate) fn word_frequency(
    sources: &[&dyn Postings],
    analyzer: &Analyzer,
    word: &str,
    alive: &dyn Fn(u32) -> bool,
) -> Result<Option<u64>> {
    let mut rarest: Option<u64> = None;
    for term in QueryTerms::analyze(analyzer, word).weights.keys() {
        let chunks = document_frequency(sources, term, alive)?;
        rarest = Some(rarest.map_or(chunks, |rarest| rarest.min(chunks)));
    }
    Ok(rarest)
}

fn idf(chunks: u64, frequency: u64) -> f32 {
    let (all, with) = (chunks.max(frequency) as f64, frequency as f64);
    ((all - with + 0.5) / (with + 0.5)).ln_1p() as f32
}

/// `tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / average))`, with the second half prepared for each length code.
struct Saturation {
    norms: [f32; 256],
}

impl Saturation {
    fn new(statistics: CorpusStatistics) -> Self {
        let average = (statistics.terms as f64 / statistics.chunks.max(1) as f64).max(1.0) as f32;
        let mut norms = [0.0; 256];
        for (id, norm) in (0..=u8::MAX).zip(&mut norms) {
            let length = FieldNormReader::id_to_fieldnorm(id) as f32;
            *norm = K1 * (1.0 - B + B * length / average);
        }
        Self { norms }
    }

    fn of(&self, count: u32, fieldnorm: u8) -> f32 {
        let count = count as f32;
        count * (K1 + 1.0) / (count + self.norms[usize::from(fieldnorm)])
    }
}
