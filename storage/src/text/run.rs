//! Which of the newest chunks hold this term? An inverted index in memory, made at commit and never changed.
//!
//! All distinct terms stand sorted in one string, all postings in one vector, so a run of one document costs
//! microseconds and a few allocations, and merging is one walk over sorted lists.
//!
//! Invariants: chunks ascend, as do the postings of a term; a merged run equals the one built from all texts at once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use tantivy::fieldnorm::FieldNormReader;

use super::{Analyzer, Pattern, Postings};
use crate::Result;

/// An immutable inverted index over some chunks, in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TextRun {
    chunks: Vec<u32>,
    /// The number of terms of each chunk, exact and as the one-byte code that scores use.
    lengths: Vec<u32>,
    fieldnorms: Vec<u8>,
    /// The distinct terms, sorted and joined.
    letters: String,
    /// Where each term ends in `letters`, and where its postings end in `postings`.
    ends: Vec<(usize, usize)>,
    postings: Vec<Posting>,
}

/// A term stands in the chunk at this place of `chunks`, so many times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Posting {
    place: u32,
    count: u32,
}

impl TextRun {
    /// Indexes chunks, given in ascending order of their numbers, by their index text.
    ///
    /// Cost: the analysis, plus some 30 ns a term; at its peak 20 bytes a posting.
    pub(crate) fn build(analyzer: &Analyzer, chunks: impl IntoIterator<Item = (u32, impl AsRef<str>)>) -> Self {
        let mut builder = Builder::default();
        for (chunk, text) in chunks {
            builder.add(analyzer, chunk, text.as_ref());
        }
        builder.finish()
    }

    /// One run over the chunks of all. Each chunk stands in one run, and the chunks of one run lie together.
    pub(crate) fn merge(runs: &[&Self]) -> Self {
        let mut runs: Vec<&Self> = runs.iter().copied().filter(|run| !run.chunks.is_empty()).collect();
        runs.sort_by_key(|run| run.first());
        debug_assert!(runs.windows(2).all(|pair| pair[0].last() < pair[1].first()), "runs overlap");
        let mut merged = Self::default();
        let mut offsets = Vec::with_capacity(runs.len());
        for run in &runs {
            offsets.push(merged.chunks.len() as u32);
            merged.chunks.extend_from_slice(&run.chunks);
            merged.lengths.extend_from_slice(&run.lengths);
            merged.fieldnorms.extend_from_slice(&run.fieldnorms);
        }
        merged.postings.reserve_exact(runs.iter().map(|run| run.postings.len()).sum());
        merged.merge_terms(&runs, &offsets);
        merged.letters.shrink_to_fit();
        merged.ends.shrink_to_fit();
        merged
    }

    /// The run over those chunks alone that are to be kept.
    pub(crate) fn retain(&self, keep: impl Fn(u32) -> bool) -> Self {
        let mut kept = Self::default();
        let mut places = vec![None; self.chunks.len()];
        for (place, &chunk) in self.chunks.iter().enumerate().filter(|&(_, &chunk)| keep(chunk)) {
            places[place] = Some(kept.chunks.len() as u32);
            kept.chunks.push(chunk);
            kept.lengths.push(self.lengths[place]);
            kept.fieldnorms.push(self.fieldnorms[place]);
        }
        for place in 0..self.ends.len() {
            let before = kept.postings.len();
            let moved = self.postings_at(place).iter().filter_map(|posting| {
                places[posting.place as usize].map(|place| Posting { place, count: posting.count })
            });
            kept.postings.extend(moved);
            // A term that no chunk holds any more goes.
            kept.close_term(self.term(place).filter(|_| kept.postings.len() > before));
        }
        kept
    }

    /// Walks the sorted terms of all runs at once; of equal terms, the run with the earlier chunks comes first.
    fn merge_terms(&mut self, runs: &[&Self], offsets: &[u32]) {
        let head = |run: usize, place: usize| runs[run].term(place).map(|term| Reverse((term, run, place)));
        let mut heads: BinaryHeap<_> = (0..runs.len()).filter_map(|run| head(run, 0)).collect();
        let mut current: Option<&str> = None;
        while let Some(Reverse((term, run, place))) = heads.pop() {
            if current != Some(term) {
                self.close_term(current);
                current = Some(term);
            }
            let moved = runs[run].postings_at(place).iter();
            self.postings.extend(moved.map(|posting| Posting { place: posting.place + offsets[run], ..*posting }));
            heads.extend(head(run, place + 1));
        }
        self.close_term(current);
    }

    /// Ends a term whose postings are the last ones.
    fn close_term(&mut self, term: Option<&str>) {
        if let Some(term) = term {
            self.letters.push_str(term);
            self.ends.push((self.letters.len(), self.postings.len()));
        }
    }

    fn term(&self, place: usize) -> Option<&str> {
        let &(end, _) = self.ends.get(place)?;
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before].0);
        Some(&self.letters[start..end])
    }

    fn postings_at(&self, place: usize) -> &[Posting] {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before].1);
        &self.postings[start..self.ends[place].1]
    }

    fn find(&self, term: &str) -> Option<usize> {
        let place = self.first_from(term);
        (self.term(place) == Some(term)).then_some(place)
    }

    /// The place of the first term that is not below this one.
    fn first_from(&self, term: &str) -> usize {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.term(middle).is_some_and(|found| found < term) { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn sorted_terms(&self, from: usize) -> impl Iterator<Item = &str> {
        (from..self.ends.len()).map_while(|place| self.term(place))
    }

    /// The number of terms that the chunk holds, repeats counted; 0 where the chunk is not of this run.
    pub(crate) fn term_count(&self, chunk: u32) -> u32 {
        self.chunks.binary_search(&chunk).map_or(0, |place| self.lengths[place])
    }

    /// The number of chunks.
    pub(crate) fn len(&self) -> usize {
        self.chunks.len()
    }

    /// The lowest chunk number.
    pub(crate) fn first(&self) -> Option<u32> {
        self.chunks.first().copied()
    }

    /// The highest chunk number.
    pub(crate) fn last(&self) -> Option<u32> {
        self.chunks.last().copied()
    }
}

impl Postings for TextRun {
    fn postings(&self, term: &str, each: &mut dyn FnMut(u32, u32, u8)) -> Result<()> {
        let postings = self.find(term).map(|place| self.postings_at(place)).unwrap_or_default();
        for posting in postings {
            let place = posting.place as usize;
            each(self.chunks[place], posting.count, self.fieldnorms[place]);
        }
        Ok(())
    }

    fn terms(&self, pattern: &Pattern, each: &mut dyn FnMut(&str, u64)) -> Result<()> {
        let mut found = |place: usize, term| each(term, self.postings_at(place).len() as u64);
        match pattern {
            Pattern::Prefix(prefix) => {
                let from = self.first_from(prefix);
                let terms = self.sorted_terms(from).take_while(|term| term.starts_with(prefix.as_str()));
                (from..).zip(terms).for_each(|(place, term)| found(place, term));
            }
            Pattern::Near(near) => near.among(self.sorted_terms(0), &mut |place, term, _| found(place, term)),
        }
        Ok(())
    }

    fn range(&self) -> Option<(u32, u32)> {
        self.first().zip(self.last())
    }
}

/// A run in the making: postings in the order of the texts, terms by number.
#[derive(Default)]
struct Builder {
    run: TextRun,
    /// The number of each term.
    terms: HashMap<Box<str>, usize>,
    /// For each term: how many postings it has, and which is its last.
    seen: Vec<(usize, usize)>,
    unsorted: Vec<(usize, Posting)>,
}

impl Builder {
    fn add(&mut self, analyzer: &Analyzer, chunk: u32, text: &str) {
        debug_assert!(self.run.last() < Some(chunk), "chunks do not ascend");
        let place = self.run.chunks.len() as u32;
        let mut length = 0;
        analyzer.for_each_term(text, &mut |term| {
            length += 1;
            self.count(place, term);
        });
        self.run.chunks.push(chunk);
        self.run.lengths.push(length);
        self.run.fieldnorms.push(FieldNormReader::fieldnorm_to_id(length));
    }

    fn count(&mut self, place: u32, term: &str) {
        let number = match self.terms.get(term) {
            Some(&number) => number,
            None => {
                self.terms.insert(term.into(), self.seen.len());
                self.seen.push((0, usize::MAX));
                self.seen.len() - 1
            }
        };
        let (postings, last) = &mut self.seen[number];
        match self.unsorted.get_mut(*last) {
            Some((_, posting)) if posting.place == place => posting.count += 1,
            Some(_) | None => {
                *postings += 1;
                *last = self.unsorted.len();
                self.unsorted.push((number, Posting { place, count: 1 }));
            }
        }
    }

    /// Sorts the terms, then counts each posting into its place.
    fn finish(mut self) -> TextRun {
        let mut sorted: Vec<(Box<str>, usize)> = self.terms.into_iter().collect();
        sorted.sort_unstable();
        let mut next = vec![0; sorted.len()];
        let mut start = 0;
        for (term, number) in &sorted {
            next[*number] = start;
            start += self.seen[*number].0;
            self.run.letters.push_str(term);
            self.run.ends.push((self.run.letters.len(), start));
        }
        drop(sorted);
        self.run.postings = vec![Posting { place: 0, count: 0 }; self.unsorted.len()];
        for (number, posting) in self.unsorted {
            self.run.postings[next[number]] = posting;
            next[number] += 1;
        }
        self.run.letters.shrink_to_fit();
        self.run.ends.shrink_to_fit();
        self.run
    }
}
