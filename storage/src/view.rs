//! What does a search look at, besides redb?
//!
//! A [`View`] is all that is kept in memory of one collection as of one commit: the runs of vectors, text and documents,
//! the sealed segments and the tombstones. It never changes; the next commit makes the next view, which shares all runs
//! that stay.
//!
//! Invariants: a view and the redb transaction it is used with are of the same commit (`sequence`); each live chunk
//! stands in one run or segment of each kind; whoever searches asks `is_live`, because runs and segments keep the dead for
//! a while. Where a segment turns out damaged, the answer is an error once, and after `load::stand_in` the right one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use roaring::RoaringBitmap;

use crate::best::Best;
use crate::codec::{CollectionRecord, SegmentRecord};
use crate::expiry::Expired;
use crate::graph::{Found, Question};
use crate::roster::{Entry, RosterRun};
use crate::runs::{Run, Runs};
use crate::sealed::{Sealed, Source};
use crate::text::{
    self, Analyzer, CorpusStatistics, Postings, QueryTerms, Scored, TextQuery, TextRun, search, word_frequency,
};
use crate::vectors::{Column, VectorRun};
use crate::{ChunkNumber, CollectionSettings, Effort, Filter, Result, SegmentSearch};

/// Filters whose chunks are remembered a view.
const FILTERS_MAX: usize = 16;
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
    /// The documents whose chunks no intact segment covers; so are the vectors and the text.
    pub(crate) roster: Runs<RosterRun>,
    pub(crate) columns: Vec<Column>,
    pub(crate) segments: Vec<Arc<Sealed>>,
    pub(crate) text: Runs<TextRun>,
    pub(crate) frequencies: Mutex<HashMap<String, Option<u64>>>,
    /// The chunks that match the last filters, the latest last.
    pub(crate) filtered: Mutex<Vec<(String, RoaringBitmap)>>,
    /// What has expired, as of the last question.
    pub(crate) expired: Mutex<Option<Arc<Expired>>>,
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

    /// The view after a segment, where there is one, took the place of others and of the runs in its range.
    pub(crate) fn sealed(&self, segment: Option<Sealed>, replaced: &[u32], record: &CollectionRecord) -> Self {
        let mut next = self.renewed(record);
        next.segments.retain(|other| !replaced.contains(&other.number));
        let Some(segment) = segment else { return next };
        let SegmentRecord { first, end, .. } = segment.record;
        next.segments.push(Arc::new(segment));
        next.segments.sort_by_key(|segment| segment.record.first);
        next.cut(first, end);
        next
    }

    /// The same view after segments that were out of reach were opened, or found to be damaged.
    pub(crate) fn reopened(&self, found: Vec<Sealed>) -> Self {
        let mut next = self.copied();
        for sealed in found {
            let Some(place) = next.segments.iter().position(|segment| segment.number == sealed.number) else {
                continue;
            };
            let SegmentRecord { first, end, .. } = sealed.record;
            if sealed.is_open() {
                next.cut(first, end);
            }
            next.segments[place] = Arc::new(sealed);
        }
        next
    }

    /// Takes these chunks out of the runs.
    fn cut(&mut self, first: u32, end: u32) {
        let outside = |chunk| !(first..end).contains(&chunk);
        self.roster.cut(first, end, |run| run.retain(outside));
        self.text.cut(first, end, |run| run.retain(outside));
        self.columns.iter_mut().for_each(|column| column.runs.cut(first, end, |run| run.retain(outside)));
    }

    /// What whoever builds segments needs of it: all but the runs, which a long build must not keep in memory.
    pub(crate) fn without_runs(&self, record: &CollectionRecord) -> Self {
        let mut bare = self.renewed(record);
        bare.roster = Runs::default();
        bare.text = Runs::default();
        bare.columns.iter_mut().for_each(|column| column.runs = Runs::default());
        bare
    }

    fn renewed(&self, record: &CollectionRecord) -> Self {
        let (sequence, next_chunk) = (record.sequence, record.next_chunk);
        Self { sequence, next_chunk, statistics: statistics(record), ..self.copied() }
    }

    fn copied(&self) -> Self {
        Self {
            sequence: self.sequence,
            settings: Arc::clone(&self.settings),
            analyzer: self.analyzer.clone(),
            next_chunk: self.next_chunk,
            statistics: self.statistics,
            dead: Arc::clone(&self.dead),
            roster: self.roster.clone(),
            columns: self.columns.clone(),
            segments: self.segments.clone(),
            text: self.text.clone(),
            frequencies: Mutex::default(),
            filtered: Mutex::default(),
            expired: Mutex::default(),
        }
    }

    /// All chunks that live, but for these.
    pub(crate) fn live_without(&self, chunks: &RoaringBitmap) -> RoaringBitmap {
        let mut live = RoaringBitmap::new();
        live.insert_range(0..self.next_chunk);
        live -= self.dead.as_ref();
        live - chunks
    }

    pub(crate) fn is_live(&self, chunk: u32) -> bool {
        chunk < self.next_chunk && !self.dead.contains(chunk)
    }

    /// What answers for a sealed chunk; `None` where the runs do.
    fn source_of(&self, chunk: u32) -> Option<Source<'_>> {
        let after = self.segments.partition_point(|segment| segment.record.first <= chunk);
        let segment = &self.segments[after.checked_sub(1)?];
        if segment.covers(chunk) { segment.source(self.sequence) } else { None }
    }

    /// Tells of the document that has this chunk; `None` where it is not live.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where a segment cannot be read; after `load::stand_in` it may be asked again.
    pub(crate) fn owner<T>(&self, chunk: u32, tell: impl FnOnce(Entry<'_>) -> T) -> Result<Option<T>> {
        if !self.is_live(chunk) {
            return Ok(None);
        }
        match self.source_of(chunk) {
            Some(source) => source.owner(chunk, tell),
            None => Ok(self.roster.covering(chunk).and_then(|run| run.owner(chunk)).map(tell)),
        }
    }

    /// Puts what a search found in its final order.
    ///
    /// # Errors
    /// As [`View::owner`].
    pub(crate) fn ranked(&self, best: Best) -> Result<Vec<(ChunkNumber, f32)>> {
        let mut failed = None;
        let ranked = best.finish(|chunk| match self.owner(chunk, |entry| entry.id_key.to_vec()) {
            Ok(key) => key.unwrap_or_default(),
            Err(error) => {
                failed = Some(error);
                Vec::new()
            }
        });
        failed.map_or(Ok(ranked), Err)
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

    /// The best `wanted` live chunks for a query, among those allowed, and how each segment was searched.
    ///
    /// # Errors
    /// As [`View::owner`].
    pub(crate) fn nearest(
        &self,
        space: usize,
        query: &[f32],
        wanted: usize,
        allowed: Option<&RoaringBitmap>,
        effort: Effort,
    ) -> Result<(Best, Vec<SegmentSearch>)> {
        let column = &self.columns[space];
        let prepared = column.prepare(query);
        let mut best = column.nearest(&prepared, wanted, &self.dead, allowed);
        let mut searches = Vec::new();
        let (query, dead) = (prepared.as_slice(), self.dead.as_ref());
        for segment in &self.segments {
            match segment.source(self.sequence) {
                None => {}
                Some(Source::StandIn(span)) => {
                    best = best.join(span.columns[space].nearest(query, wanted, dead, allowed));
                }
                Some(Source::Folder(sealed, folder)) => {
                    let walker = &folder.spaces[space];
                    let question = Question { query, k: wanted, ef: effort.ef(wanted), allowed, dead };
                    let found = sealed.watch(match effort {
                        Effort::Exact => walker.graph.scan(&question),
                        Effort::Usual | Effort::Ef(_) => walker.search(&question),
                    })?;
                    let Found { hits, compared, rescored, strategy } = found;
                    hits.into_iter().for_each(|(chunk, score)| best.offer(chunk, score));
                    searches.push(SegmentSearch { segment: sealed.number, strategy, compared, rescored });
                }
            }
        }
        Ok((best, searches))
    }

    /// The score of each chunk; `None` where it has no vector.
    ///
    /// # Errors
    /// As [`View::owner`].
    pub(crate) fn similarities(
        &self,
        space: usize,
        query: &[f32],
        chunks: impl Iterator<Item = u32>,
    ) -> Result<Vec<Option<f32>>> {
        let column = &self.columns[space];
        let prepared = column.prepare(query);
        let score = |chunk| match self.source_of(chunk) {
            Some(source) => source.similarity(space, &prepared, chunk),
            None => Ok(column.similarity(&prepared, chunk)),
        };
        chunks.map(score).collect()
    }

    /// The live chunks that match a filter, of those that segments cover, and the documents of the others.
    ///
    /// # Errors
    /// As [`View::owner`].
    pub(crate) fn matching(&self, filter: &Filter) -> Result<(RoaringBitmap, Vec<u32>)> {
        let mut chunks = RoaringBitmap::new();
        let mut others: Vec<u32> = Vec::new();
        let live = |entry: Entry<'_>| self.is_live(entry.first).then_some(entry.document);
        for segment in &self.segments {
            match segment.source(self.sequence) {
                None => {}
                Some(Source::StandIn(span)) => others.extend(span.roster.entries().filter_map(live)),
                Some(Source::Folder(sealed, folder)) => chunks |= sealed.watch(folder.metadata.evaluate(filter))?,
            }
        }
        chunks -= self.dead.as_ref();
        others.extend(self.roster.iter().flat_map(RosterRun::entries).filter_map(live));
        Ok((chunks, others))
    }

    /// How many documents live that have a chunk.
    ///
    /// # Errors
    /// As [`View::owner`].
    pub(crate) fn documents(&self) -> Result<u64> {
        let in_run = |run: &RosterRun| run.entries().filter(|entry| self.is_live(entry.first)).count() as u64;
        let mut documents = self.roster.iter().map(in_run).sum();
        for segment in &self.segments {
            documents += match segment.source(self.sequence) {
                None => 0,
                Some(Source::StandIn(span)) => in_run(&span.roster),
                Some(Source::Folder(sealed, folder)) => {
                    sealed.watch(folder.roster.count(|first| self.is_live(first)))?
                }
            };
        }
        Ok(documents)
    }

    /// The chunks that match a filter, where it was asked for not long ago.
    pub(crate) fn remembered(&self, filter: &str) -> Option<RoaringBitmap> {
        let filtered = self.filtered.lock().unwrap_or_else(PoisonError::into_inner);
        filtered.iter().find(|(other, _)| other == filter).map(|(_, chunks)| chunks.clone())
    }

    /// Remembers them until the next commit, or until some other filters were asked for.
    pub(crate) fn remember(&self, filter: String, chunks: RoaringBitmap) {
        let mut filtered = self.filtered.lock().unwrap_or_else(PoisonError::into_inner);
        filtered.retain(|(other, _)| *other != filter);
        if filtered.len() >= FILTERS_MAX {
            filtered.remove(0);
        }
        filtered.push((filter, chunks));
    }

    /// Asks all that answer for the view's text. Which of a segment and its stand-in does is settled once for all terms.
    fn ask<T>(&self, ask: impl FnOnce(&[&dyn Postings]) -> Result<T>) -> Result<T> {
        let sealed: Vec<Source<'_>> =
            self.segments.iter().filter_map(|segment| segment.source(self.sequence)).collect();
        let runs = self.text.iter().map(|run| run as &dyn Postings);
        ask(&sealed.iter().map(|source| source as &dyn Postings).chain(runs).collect::<Vec<_>>())
    }

    /// The BM25 scores of all chunks that hold a term of the query.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where a segment cannot be read; after `load::stand_in` it may be asked again.
    pub(crate) fn score_text(&self, query: &str) -> Result<Scored> {
        let terms = QueryTerms::analyze(&self.analyzer, query);
        self.ask(|sources| search(sources, &terms, self.statistics, &|chunk| !self.dead.contains(chunk)))
    }

    /// What the index knows of the answer to a query of the syntax.
    ///
    /// # Errors
    /// As [`View::score_text`].
    pub(crate) fn evaluate_text(&self, query: &TextQuery) -> Result<text::Found> {
        let alive = |chunk| !self.dead.contains(chunk);
        self.ask(|sources| text::evaluate(sources, &self.analyzer, query, self.statistics, &alive))
    }

    /// The number of live chunks that hold a word; remembered until the next commit.
    ///
    /// # Errors
    /// As [`View::score_text`].
    pub(crate) fn document_frequency(&self, word: &str) -> Result<Option<u64>> {
        let known = || self.frequencies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&frequency) = known().get(word) {
            return Ok(frequency);
        }
        let alive = |chunk| !self.dead.contains(chunk);
        let frequency = self.ask(|sources| word_frequency(sources, &self.analyzer, word, &alive))?;
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
