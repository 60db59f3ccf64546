//! Which chunks does a query of the syntax let through?
//!
//! The index tells most. Where a phrase is asked for, it tells which chunks hold all its words; the texts of those that
//! nothing else decides are read from redb and analysed again, on all cores. Invariant: the answer is exact.

use std::sync::Arc;

use rayon::prelude::*;
use redb::{ReadOnlyTable, TableHandle};
use roaring::RoaringBitmap;

use super::{Snapshot, TextHits};
use crate::codec::{ChunkRecord, DocumentRecord, Place, decode_text, decode_text_range};
use crate::error::engine;
use crate::tables::{Bytes, CHUNKS, DOCUMENTS, Pair, TEXTS};
use crate::text::{Found, Scored, TextQuery, index_text};
use crate::{Result, rows};

/// Chunks that one task looks at.
const TASK_CHUNKS: usize = 256;

/// The chunks that satisfy a query of the syntax, and their scores.
#[derive(Clone, Debug)]
pub struct TextMatches {
    chunks: RoaringBitmap,
    words_capped: Vec<String>,
    scored: Arc<Scored>,
}

impl TextMatches {
    /// The chunks; each has a score above 0.
    pub fn chunks(&self) -> &RoaringBitmap {
        &self.chunks
    }

    /// As [`TextHits::words_capped`].
    pub fn words_capped(&self) -> &[String] {
        &self.words_capped
    }
}

impl Snapshot {
    /// The `k` chunks that satisfy a query of the syntax and answer it best by BM25, best first. Damage is met as by
    /// [`Snapshot::search_text`].
    ///
    /// Words score as there. A prefix or a fuzzy word scores as one term that occurs wherever those that it stands for do,
    /// a phrase as its words.
    ///
    /// # Errors
    /// As [`Snapshot::search_text`].
    pub fn search_text_query(&self, query: &TextQuery, k: usize, allowed: Option<&RoaringBitmap>) -> Result<TextHits> {
        self.best_matches(&self.text_matches(query, allowed)?, k)
    }

    /// All chunks that satisfy a query of the syntax, among those allowed.
    ///
    /// Cost: the postings of its terms. A phrase costs some 60 us more for each chunk of 150 words that holds its words and
    /// that the rest of the query does not decide, to read and analyse it on two busy cores; all cores take part.
    ///
    /// # Errors
    /// As [`Snapshot::search_text`].
    pub fn text_matches(&self, query: &TextQuery, allowed: Option<&RoaringBitmap>) -> Result<TextMatches> {
        self.guarded(|| {
            let found = self.ask(|view| view.evaluate_text(query))?;
            let (mut chunks, mut open) = found.decided();
            let gone = &self.expired()?.chunks;
            chunks -= gone;
            open -= gone;
            if let Some(allowed) = allowed {
                chunks &= allowed;
                open &= allowed;
            }
            let open: Vec<u32> = open.iter().collect();
            let satisfied = open.par_chunks(TASK_CHUNKS).map(|part| self.satisfying(&found, part));
            chunks.extend(satisfied.collect::<Result<Vec<_>>>()?.into_iter().flatten());
            let Found { scored, capped, .. } = found;
            Ok(TextMatches { chunks, words_capped: capped, scored: Arc::new(scored) })
        })
    }

    /// The `k` best of these chunks, best first.
    ///
    /// # Errors
    /// As [`Snapshot::search_text`].
    pub fn best_matches(&self, matches: &TextMatches, k: usize) -> Result<TextHits> {
        self.guarded(|| {
            let TextMatches { chunks, words_capped, scored } = matches;
            Ok(TextHits { words_capped: words_capped.clone(), ..self.best_of_text(scored, k, Some(chunks))? })
        })
    }

    /// Those of these chunks, which ascend, whose texts satisfy the query.
    fn satisfying(&self, found: &Found, chunks: &[u32]) -> Result<Vec<u32>> {
        let analyzer = &self.view()?.analyzer;
        let mut texts = Texts::open(self)?;
        let mut satisfying = Vec::new();
        for (place, &chunk) in chunks.iter().enumerate() {
            let text = texts.of(chunk, chunks.get(place + 1).copied())?;
            if found.holds(analyzer, chunk, &text) {
                satisfying.push(chunk);
            }
        }
        Ok(satisfying)
    }
}

/// Reads the index texts of chunks. A document whose next chunk is asked for, too, is unpacked as a whole, once.
struct Texts<'a> {
    snapshot: &'a Snapshot,
    chunks: ReadOnlyTable<Pair, Bytes>,
    documents: ReadOnlyTable<Pair, Bytes>,
    texts: ReadOnlyTable<Pair, Bytes>,
    document: Option<(u32, DocumentRecord)>,
    whole: Option<(u32, String)>,
}

impl<'a> Texts<'a> {
    fn open(snapshot: &'a Snapshot) -> Result<Self> {
        let transaction = &*snapshot.transaction()?;
        Ok(Self {
            snapshot,
            chunks: rows::open(transaction, CHUNKS)?,
            documents: rows::open(transaction, DOCUMENTS)?,
            texts: rows::open(transaction, TEXTS)?,
            document: None,
            whole: None,
        })
    }

    fn of(&mut self, chunk: u32, next: Option<u32>) -> Result<String> {
        let key = self.snapshot.key(chunk);
        let ChunkRecord { document: number, start, end, heading, .. } = rows::need(&self.chunks, CHUNKS, key)?;
        let record = match self.document.take().filter(|(other, _)| *other == number) {
            Some((_, record)) => record,
            None => rows::need(&self.documents, DOCUMENTS, self.snapshot.key(number))?,
        };
        let goes_on = next.is_some_and(|next| record.chunks().contains(&next));
        let (_, record) = self.document.insert((number, record));
        let title = record.title.clone();
        let text = self.range(number, start as usize..end as usize, goes_on)?;
        Ok(index_text(title.as_deref(), &heading, &text))
    }

    fn range(&mut self, number: u32, range: std::ops::Range<usize>, goes_on: bool) -> Result<String> {
        let place = Place::new(TEXTS.name(), self.snapshot.key(number));
        let is_there = self.whole.as_ref().is_some_and(|(other, _)| *other == number);
        if !is_there {
            let row = self.texts.get(self.snapshot.key(number)).map_err(engine)?;
            let row = row.ok_or_else(|| rows::missing(place))?;
            if !goes_on {
                return decode_text_range(place, row.value(), range.start, range.end);
            }
            self.whole = Some((number, decode_text(place, row.value())?));
        }
        let text = self.whole.as_ref().and_then(|(_, text)| text.get(range));
        text.map(str::to_owned).ok_or_else(|| place.corrupt("a chunk's range does not lie in it"))
    }
}
