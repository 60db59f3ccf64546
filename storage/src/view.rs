//! What does a search look at, besides redb?
//!
//! A [`View`] is all that is kept in memory of one collection as of one commit: the runs of vectors, text and documents,
//! the sealed segments and the tombstones. It never changes; the next commit makes the next view, which shares all runs
//! that stay.
//!
//! Invariants: a view and the redb transaction it is used with are of the same commit (`sequence`); each live chunk
//! stands in one run or segment of each kind; whoever searches asks `is_live`, because runs and segments keep the dead for
//! a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use roaring::RoaringBitmap;

use crate::best::Best;
use crate::codec::{CollectionRecord, SegmentRecord};
use crate::roster::{Entry, RosterRun};
use crate::runs::{Run, Runs};
use crate::text::{
    Analyzer, CorpusStatistics, Postings, QueryTerms, Scored, TextRun, TextSegment, search, word_frequency,
};
use crate::vectors::{Column, VectorRun};
use crate::{ChunkNumber, CollectionSettings, Result};

/// Words whose frequency is remembered a view; then all are forgotten.
const FREQUENCIES_MAX: usize = 1 << 16;

/// A collection in memory, as of one commit.
#[derive(Debug)]
pub(crate) struct View {
    /// The commit it belongs to.
    pub(crate) sequence: u64,
    pub(crate) settings: Arc<CollectionSettings>,
    pub(crate) analyzer: Analyzer,
    /// The number that the next chunk will have.
    pub(crate) next_chunk: u32,
    pub(crate) statistics: CorpusStatistics,
    pub(crate) dead: Arc<RoaringBitmap>,
    pub(crate) roster: Runs<RosterRun>,
    pub(crate) columns: Vec<Column>,
    pub(crate) segments: Vec<Arc<Sealed>>,
    /// The text of all chunks that no intact segment covers.
    pub(crate) text: Runs<TextRun>,
    pub(crate) frequencies: Mutex<HashMap<String, Option<u64>>>,
}

/// A sealed segment. Where its folder is missing or damaged, `text` is `None` and runs in memory stand in for it.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) number: u32,
    pub(crate) record: SegmentRecord,
    pub(crate) text: Option<TextSegment>,
}

/// What a commit does to a view.
pub(crate) struct Change {
    pub(crate) removed: RoaringBitmap,
    pub(crate) entries: RosterRun,
    /// One run a space.
    pub(crate) vectors: Vec<VectorRun>,
    pub(crate) text: TextRun,
}

impl View {
    /// The view after a commit.
    pub(crate) fn after(&self, change: Change, record: &CollectionRecord) -> Self {
        let Change { removed, entries, vectors, text } = change;
        let mut next = self.renewed(record);
        if !removed.is_empty() {
            let dead = self.dead.as_ref() | &removed;
            next.roster.bury(&removed, &dead);
            next.text.bury(&removed, &dead);
            next.columns.iter_mut().for_each(|column| column.runs.bury(&removed, &dead));
            next.dead = Arc::new(dead);
        }
        next.roster.push(entries, &next.dead);
        next.text.push(text, &next.dead);
        for (column, run) in next.columns.iter_mut().zip(vectors) {
            column.runs.push(run, &next.dead);
        }
        next
    }

    /// The view after a segment took the place of others and of the text runs in its range.
    pub(crate) fn sealed(&self, segment: Sealed, replaced: &[u32], record: &CollectionRecord) -> Self {
        let mut next = self.renewed(record);
        let SegmentRecord { first, end, .. } = segment.record;
        next.segments.retain(|other| !replaced.contains(&other.number));
        next.segments.push(Arc::new(segment));
        next.segments.sort_by_key(|segment| segment.record.first);
        next.text.cut(first, end, |run| run.retain(|chunk| !(first..end).contains(&chunk)));
        next
    }

    fn renewed(&self, record: &CollectionRecord) -> Self {
        Self {
            sequence: record.sequence,
            settings: Arc::clone(&self.settings),
            analyzer: self.analyzer.clone(),
            next_chunk: record.next_chunk,
            statistics: statistics(record),
            dead: Arc::clone(&self.dead),
            roster: self.roster.clone(),
            columns: self.columns.clone(),
            segments: self.segments.clone(),
            text: self.text.clone(),
            frequencies: Mutex::default(),
        }
    }

    pub(crate) fn is_live(&self, chunk: u32) -> bool {
        chunk < self.next_chunk && !self.dead.contains(chunk)
    }

    /// The document that has this chunk.
    pub(crate) fn owner(&self, chunk: u32) -> Option<Entry<'_>> {
        self.roster.covering(chunk)?.owner(chunk).filter(|_| self.is_live(chunk))
    }

    /// Puts what a search found in its final order.
    pub(crate) fn ranked(&self, best: Best) -> Vec<(ChunkNumber, f32)> {
        best.finish(|chunk| self.owner(chunk).map_or(&[], |entry| entry.id_key))
    }

    /// Where the sealed chunks end: those from here on are the tail.
    pub(crate) fn tail_start(&self) -> u32 {
        self.segments.iter().map(|segment| segment.record.end).max().unwrap_or(0)
    }

    /// How many live chunks have numbers in `first..end`.
    pub(crate) fn live_between(&self, first: u32, end: u32) -> u64 {
        let end = end.min(self.next_chunk);
        if first >= end {
            return 0;
        }
        u64::from(end - first) - self.dead.range_cardinality(first..end)
    }

    fn sources(&self) -> Vec<&dyn Postings> {
        let sealed = self.segments.iter().filter_map(|segment| segment.text.as_ref());
        let runs = self.text.iter().map(|run| run as &dyn Postings);
        sealed.map(|segment| segment as &dyn Postings).chain(runs).collect()
    }

    /// The BM25 scores of all chunks that hold a term of the query.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where a segment cannot be read.
    pub(crate) fn score_text(&self, query: &str) -> Result<Scored> {
        let terms = QueryTerms::analyze(&self.analyzer, query);
        search(&self.sources(), &terms, self.statistics, &|chunk| !self.dead.contains(chunk))
    }

    /// The number of live chunks that hold a word; remembered until the next commit.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where a segment cannot be read.
    pub(crate) fn document_frequency(&self, word: &str) -> Result<Option<u64>> {
        let known = || self.frequencies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&frequency) = known().get(word) {
            return Ok(frequency);
        }
        let frequency = word_frequency(&self.sources(), &self.analyzer, word, &|chunk| !self.dead.contains(chunk))?;
        let mut known = known();
        if known.len() >= FREQUENCIES_MAX {
            known.clear();
        }
        known.insert(word.to_owned(), frequency);
        Ok(frequency)
    }
}

/// The live totals that BM25 needs.
pub(crate) fn statistics(record: &CollectionRecord) -> CorpusStatistics {
    CorpusStatistics { chunks: record.chunks, terms: record.terms }
}

impl Run for TextRun {
    fn len(&self) -> usize {
        TextRun::len(self)
    }

    fn range(&self) -> Option<(u32, u32)> {
        Some((self.first()?, self.last()?))
    }

    fn merge(runs: &[&Self], dead: &RoaringBitmap) -> Self {
        let merged = TextRun::merge(runs);
        let (Some(first), Some(last)) = (merged.first(), merged.last()) else { return merged };
        if dead.range_cardinality(first..=last) == 0 {
            return merged;
        }
        merged.retain(|chunk| !dead.contains(chunk))
    }
}
