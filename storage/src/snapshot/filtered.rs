//! Which documents does a filter let through?
//!
//! Segments have an index of it; elsewhere their metadata rows are read and tried one by one, on all cores. Invariant: the
//! answer is exact.

use rayon::prelude::*;
use redb::TableHandle;
use roaring::RoaringBitmap;

use super::Snapshot;
use crate::codec::{DocumentRecord, Json, Place, decode};
use crate::error::engine;
use crate::keys::decode_id;
use crate::tables::{CHUNKS, DOCUMENTS, METADATA, pairs_of};
use crate::view::View;
use crate::{DocumentId, Filter, Result, rows};

/// Document numbers that one task looks at.
const TASK_DOCUMENTS: usize = 1024;

impl Snapshot {
    /// The ids of the documents that match, in order.
    ///
    /// Cost: as [`Snapshot::matching_chunks`], and a lookup for each document that matches. Documents without chunks are in no
    /// index: where there are any, the records of all documents are read, and the metadata of these.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where a record is damaged.
    pub fn matching_documents(&self, filter: &Filter) -> Result<Vec<DocumentId>> {
        self.guarded(|| {
            let (mut ids, read) = match self.view() {
                // Without a view there are the rows.
                Err(_) => (Vec::new(), self.numbers(|_| true)?),
                Ok(_) => {
                    let ids = self.ids_of(&self.matching_chunks(filter)?)?;
                    let is_whole = self.ask(View::documents)? == self.0.record.documents;
                    (ids, if is_whole { Vec::new() } else { self.numbers(|record| record.chunk_count == 0)? })
                }
            };
            let found = read.par_chunks(TASK_DOCUMENTS).map(|numbers| self.matching_of(filter, numbers));
            let found = found.collect::<Result<Vec<_>>>()?;
            ids.extend(found.into_iter().flatten().map(|record| record.id));
            ids.sort_unstable();
            Ok(ids)
        })
    }

    /// The documents that these live chunks are of; the chunks are all that their documents have.
    fn ids_of(&self, chunks: &RoaringBitmap) -> Result<Vec<DocumentId>> {
        let mut ids = Vec::new();
        let mut chunks = chunks.iter();
        while let Some(chunk) = chunks.next() {
            let owner =
                self.ask(|view| view.owner(chunk, |entry| (entry.first + entry.count, decode_id(entry.id_key))))?;
            let place = Place::new(CHUNKS.name(), self.key(chunk));
            let (end, id) = owner.ok_or_else(|| place.corrupt("no document has it"))?;
            ids.push(id.ok_or_else(|| place.corrupt("the id of its document is none"))?);
            chunks.advance_to(end);
        }
        Ok(ids)
    }

    /// The numbers of the documents whose records are asked for.
    fn numbers(&self, is_asked: impl Fn(&DocumentRecord) -> bool) -> Result<Vec<u32>> {
        let documents = rows::open(&*self.transaction()?, DOCUMENTS)?;
        let gone = &self.expired()?.documents;
        let mut numbers = Vec::new();
        for row in documents.range(pairs_of(self.0.collection)).map_err(engine)? {
            let (key, value) = row.map_err(engine)?;
            let record: DocumentRecord = decode(Place::new(DOCUMENTS.name(), key.value()), value.value())?;
            if is_asked(&record) && !gone.contains(key.value().1) {
                numbers.push(key.value().1);
            }
        }
        Ok(numbers)
    }

    /// The live chunks of the documents that match. The last 16 filters are remembered until the next write.
    ///
    /// Cost: some lookups in the index of each segment; the metadata of documents that no segment holds yet is read, some
    /// microseconds each.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where a record is damaged.
    pub fn matching_chunks(&self, filter: &Filter) -> Result<RoaringBitmap> {
        self.guarded(|| {
            let printed = filter.to_string();
            if let Some(chunks) = self.view()?.remembered(&printed) {
                return Ok(chunks - &self.expired()?.chunks);
            }
            let (mut chunks, others) = self.ask(|view| view.matching(filter))?;
            let tried = others.par_chunks(TASK_DOCUMENTS).map(|documents| self.matching_of(filter, documents));
            for records in tried.collect::<Result<Vec<_>>>()? {
                for record in records {
                    chunks.insert_range(record.chunks());
                }
            }
            // Remembered as of the commit: what has expired differs from snapshot to snapshot.
            self.view()?.remember(printed, chunks.clone());
            Ok(chunks - &self.expired()?.chunks)
        })
    }

    /// Those of these documents that match.
    fn matching_of(&self, filter: &Filter, numbers: &[u32]) -> Result<Vec<DocumentRecord>> {
        let documents = rows::open(&*self.transaction()?, DOCUMENTS)?;
        let metadata = rows::open(&*self.transaction()?, METADATA)?;
        let mut found = Vec::new();
        for &number in numbers {
            let record: DocumentRecord = rows::need(&documents, DOCUMENTS, self.key(number))?;
            let Json(map) = rows::need(&metadata, METADATA, self.key(number))?;
            if filter.matches_document(&record.id, record.title.as_deref(), &map) {
                found.push(record);
            }
        }
        Ok(found)
    }
}
