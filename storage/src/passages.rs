//! What text does the index see for these chunks?
//!
//! Reads the live chunks of a range from redb, in ascending order, each with its index text. The text of a document is
//! read once for all its chunks, because they follow each other.

use rayon::prelude::*;
use redb::{ReadOnlyTable, ReadTransaction, TableHandle};

use crate::codec::{self, ChunkRecord, DocumentRecord, Place, decode_text};
use crate::error::engine;
use crate::tables::{Bytes, CHUNKS, DOCUMENTS, Pair, TEXTS};
use crate::text::{Analyzer, TextRun, index_text};
use crate::{Result, rows};

/// Chunks that one task indexes, and chunks read before they are indexed.
const TASK_CHUNKS: usize = 256;
const BATCH_CHUNKS: usize = 4096;

/// The chunks of a range with their index text. Ends early at an error, which [`Passages::finish`] returns.
pub(crate) struct Passages {
    collection: u32,
    chunks: redb::Range<'static, Pair, Bytes>,
    documents: ReadOnlyTable<Pair, Bytes>,
    texts: ReadOnlyTable<Pair, Bytes>,
    current: Option<Whole>,
    failed: Option<crate::Error>,
}

/// The document that the last chunk was of.
struct Whole {
    number: u32,
    title: Option<String>,
    text: String,
}

impl Passages {
    /// Those of a collection's chunks whose numbers lie in `first..end`.
    pub(crate) fn read(transaction: &ReadTransaction, collection: u32, first: u32, end: u32) -> Result<Self> {
        let chunks = rows::open(transaction, CHUNKS)?;
        Ok(Self {
            collection,
            chunks: chunks.range((collection, first)..(collection, end)).map_err(engine)?,
            documents: rows::open(transaction, DOCUMENTS)?,
            texts: rows::open(transaction, TEXTS)?,
            current: None,
            failed: None,
        })
    }

    fn step(&mut self) -> Result<Option<(u32, String)>> {
        let Some(row) = self.chunks.next() else { return Ok(None) };
        let (key, value) = row.map_err(engine)?;
        let (_, chunk) = key.value();
        let place = Place::new(CHUNKS.name(), key.value());
        let record: ChunkRecord = codec::decode(place, value.value())?;
        let whole = self.document(record.document)?;
        let text = whole.text.get(record.start as usize..record.end as usize);
        let text = text.ok_or_else(|| place.corrupt("its range does not lie in its document's text"))?;
        Ok(Some((chunk, index_text(whole.title.as_deref(), &record.heading, text))))
    }

    fn document(&mut self, number: u32) -> Result<&Whole> {
        let whole = match self.current.take().filter(|whole| whole.number == number) {
            Some(whole) => whole,
            None => {
                let key = (self.collection, number);
                let record: DocumentRecord = rows::need(&self.documents, DOCUMENTS, key)?;
                let place = Place::new(TEXTS.name(), key);
                let row = self.texts.get(key).map_err(engine)?.ok_or_else(|| rows::missing(place))?;
                Whole { number, title: record.title, text: decode_text(place, row.value())? }
            }
        };
        Ok(self.current.insert(whole))
    }

    /// # Errors
    /// What ended the reading early.
    pub(crate) fn finish(self) -> Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}

impl Iterator for Passages {
    type Item = (u32, String);

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed.is_some() {
            return None;
        }
        self.step().unwrap_or_else(|error| {
            self.failed = Some(error);
            None
        })
    }
}

/// Indexes chunks, on all cores where there are many. Few are not worth a trip to another thread, which takes
/// milliseconds on a busy machine.
pub(crate) fn index(analyzer: &Analyzer, chunks: &[(u32, String)]) -> TextRun {
    if chunks.len() <= TASK_CHUNKS {
        return index_part(analyzer, chunks);
    }
    let parts: Vec<TextRun> = chunks.par_chunks(TASK_CHUNKS).map(|part| index_part(analyzer, part)).collect();
    TextRun::merge(&parts.iter().collect::<Vec<_>>())
}

fn index_part(analyzer: &Analyzer, chunks: &[(u32, String)]) -> TextRun {
    TextRun::build(analyzer, chunks.iter().map(|(chunk, text)| (*chunk, text.as_str())))
}

/// Indexes the live chunks of a range, batch by batch.
///
/// # Errors
/// [`crate::Error::Corrupt`] where a record is damaged.
pub(crate) fn index_range(
    transaction: &ReadTransaction,
    analyzer: &Analyzer,
    collection: u32,
    first: u32,
    end: u32,
) -> Result<Vec<TextRun>> {
    let mut passages = Passages::read(transaction, collection, first, end)?;
    let mut runs = Vec::new();
    loop {
        let batch: Vec<(u32, String)> = passages.by_ref().take(BATCH_CHUNKS).collect();
        if batch.is_empty() {
            break;
        }
        runs.push(index(analyzer, &batch));
    }
    passages.finish()?;
    Ok(runs)
}
