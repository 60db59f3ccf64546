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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use roaring::RoaringBitmap;

use crate::best::Best;
use crate::codec::{CollectionRecord, SegmentRecord};
use crate::roster::{Entry, RosterRun};
use crate::runs::{Run, Runs};
use crate::segment::FOLDER_VERSION;
use crate::text::{
    ANALYSIS_VERSION, Analyzer, CorpusStatistics, Postings, QueryTerms, Scored, TextRun, TextSegment, search,
    word_frequency,
};
use crate::vectors::{Column, VectorRun};
use crate::{ChunkNumber, CollectionSettings, Error, Result};

/// What a segment must have been built as to be read: the version of its folder and that of the text analysis.
pub(crate) const SEGMENT_VERSION: u32 = FOLDER_VERSION << 16 | ANALYSIS_VERSION;

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

/// A sealed segment. Where its folder was found missing or damaged when the view was loaded, `text` is `None`, and the
/// view's own runs stand in for it. Damage that a search met later is noted here, and a run made from redb stands in.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) number: u32,
    pub(crate) record: SegmentRecord,
    pub(crate) text: Option<TextSegment>,
    /// Whether damage was met since.
    distrusted: AtomicBool,
    stand_in: Mutex<Option<StandIn>>,
}

/// The text of the chunks of a segment that were live at a commit, and so of all that are at a later one.
#[derive(Debug)]
struct StandIn {
    sequence: u64,
    run: Arc<TextRun>,
}

/// What answers for some chunks of a view.
enum Source<'a> {
    Sealed(&'a Sealed, &'a TextSegment),
    StandIn(Arc<TextRun>),
    Run(&'a TextRun),
}

impl Sealed {
    pub(crate) fn new(number: u32, record: SegmentRecord, text: Option<TextSegment>) -> Self {
        Self { number, record, text, distrusted: AtomicBool::new(false), stand_in: Mutex::new(None) }
    }

    /// Notes that it is damaged: it is to be built again.
    pub(crate) fn distrust(&self) {
        self.distrusted.store(true, Ordering::Relaxed);
    }

    /// Whether it is missing, or damage was met in it.
    pub(crate) fn is_damaged(&self) -> bool {
        self.text.is_none() || self.distrusted.load(Ordering::Relaxed)
    }

    /// Whether damage was met in it since it was loaded, and nothing stands in for it in a view of this commit.
    pub(crate) fn lacks_stand_in(&self, sequence: u64) -> bool {
        self.text.is_some() && self.is_damaged() && self.stand_in(sequence).is_none()
    }

    /// Lets a run stand in for it, made of the chunks of its range that are live at this commit. One of an earlier commit
    /// stays: it serves more views.
    pub(crate) fn put_stand_in(&self, sequence: u64, run: TextRun) {
        let mut stand_in = self.stand_in.lock().unwrap_or_else(PoisonError::into_inner);
        if stand_in.as_ref().is_none_or(|other| sequence < other.sequence) {
            *stand_in = Some(StandIn { sequence, run: Arc::new(run) });
        }
    }

    /// The run that stands in for it in a view of this commit: one of an earlier commit has all that lives, and more.
    fn stand_in(&self, sequence: u64) -> Option<Arc<TextRun>> {
        let stand_in = self.stand_in.lock().unwrap_or_else(PoisonError::into_inner);
        stand_in.as_ref().filter(|stand_in| stand_in.sequence <= sequence).map(|stand_in| Arc::clone(&stand_in.run))
    }

    /// `None` where the view's own runs have its chunks.
    fn source(&self, sequence: u64) -> Option<Source<'_>> {
        let text = self.text.as_ref()?;
        Some(self.stand_in(sequence).map_or(Source::Sealed(self, text), Source::StandIn))
    }
}

impl Postings for Source<'_> {
    fn postings(&self, term: &str, each: &mut dyn FnMut(u32, u32, u8)) -> Result<()> {
        match self {
            Self::Sealed(sealed, text) => text.postings(term, each).inspect_err(|error| {
                if matches!(error, Error::Corrupt { .. }) {
                    sealed.distrust();
                }
            }),
            Self::StandIn(run) => run.postings(term, each),
            Self::Run(run) => run.postings(term, each),
        }
    }

    fn range(&self) -> Option<(u32, u32)> {
        match self {
            Self::Sealed(_, text) => text.range(),
            Self::StandIn(run) => Postings::range(run.as_ref()),
            Self::Run(run) => Postings::range(*run),
        }
    }
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

    /// The documents whose chunks are live and lie in `first..end`, in ascending order of chunk.
    pub(crate) fn entries(&self, first: u32, end: u32) -> impl Iterator<Item = Entry<'_>> {
        let entries = self.roster.iter().flat_map(RosterRun::entries);
        entries.filter(move |entry| (first..end).contains(&entry.first) && self.is_live(entry.first))
    }

    /// Asks all that answer for the view's text. Which of a segment and its stand-in does is settled once for all terms.
    fn ask<T>(&self, ask: impl FnOnce(&[&dyn Postings]) -> Result<T>) -> Result<T> {
        let sealed = self.segments.iter().filter_map(|segment| segment.source(self.sequence));
        let sources: Vec<Source<'_>> = sealed.chain(self.text.iter().map(Source::Run)).collect();
        ask(&sources.iter().map(|source| source as &dyn Postings).collect::<Vec<_>>())
    }

    /// The BM25 scores of all chunks that hold a term of the query.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where a segment cannot be read; after `load::stand_in` it may be asked again.
    pub(crate) fn score_text(&self, query: &str) -> Result<Scored> {
        let terms = QueryTerms::analyze(&self.analyzer, query);
        self.ask(|sources| search(sources, &terms, self.statistics, &|chunk| !self.dead.contains(chunk)))
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
