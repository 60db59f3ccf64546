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
use crate::guard::damage_as_error;
use crate::tables::{DOCUMENTS, METADATA};
use crate::{DocumentId, Filter, Result, rows};

/// Document numbers that one task looks at.
const TASK_DOCUMENTS: u32 = 1024;

impl Snapshot {
    /// The ids of the documents that match, in order.
    ///
    /// Cost: the metadata of all documents is read, some microseconds each.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where a record is damaged.
    pub fn matching_documents(&self, filter: &Filter) -> Result<Vec<DocumentId>> {
        damage_as_error("the database", || {
            let mut ids: Vec<DocumentId> = self.matching(filter)?.into_iter().map(|record| record.id).collect();
            ids.sort_unstable();
            Ok(ids)
        })
    }

    /// The live chunks of the documents that match. The last 16 filters are remembered until the next write.
    ///
    /// Cost: some lookups in the index of each segment; the metadata of documents that no segment holds yet is read, some
    /// microseconds each.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where a record is damaged.
    pub fn matching_chunks(&self, filter: &Filter) -> Result<RoaringBitmap> {
        damage_as_error("the database", || {
            let printed = filter.to_string();
            if let Some(chunks) = self.view()?.remembered(&printed) {
                return Ok(chunks);
            }
            let (mut chunks, others) = self.ask(|view| view.matching(filter))?;
            let tried = others.par_chunks(TASK_DOCUMENTS as usize).map(|documents| self.matching_of(filter, documents));
            for records in tried.collect::<Result<Vec<_>>>()? {
                for record in records {
                    chunks.insert_range(record.chunks());
                }
            }
            self.view()?.remember(printed, chunks.clone());
            Ok(chunks)
        })
    }

    /// Those of these documents that match.
    fn matching_of(&self, filter: &Filter, numbers: &[u32]) -> Result<Vec<DocumentRecord>> {
        let documents = rows::open(self.transaction(), DOCUMENTS)?;
        let metadata = rows::open(self.transaction(), METADATA)?;
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

    fn matching(&self, filter: &Filter) -> Result<Vec<DocumentRecord>> {
        let end = self.0.record.next_document;
        let tasks: Vec<u32> = (0..end).step_by(TASK_DOCUMENTS as usize).collect();
        let found = tasks
            .into_par_iter()
            .map(|first| self.matching_between(filter, first, first.saturating_add(TASK_DOCUMENTS).min(end)));
        let found: Vec<Vec<DocumentRecord>> = found.collect::<Result<_>>()?;
        Ok(found.into_iter().flatten().collect())
    }

    fn matching_between(&self, filter: &Filter, first: u32, end: u32) -> Result<Vec<DocumentRecord>> {
        let documents = rows::open(self.transaction(), DOCUMENTS)?;
        let metadata = rows::open(self.transaction(), METADATA)?;
        let mut metadata = metadata.range(self.key(first)..self.key(end)).map_err(engine)?;
        let mut found = Vec::new();
        for row in documents.range(self.key(first)..self.key(end)).map_err(engine)? {
            let (key, value) = row.map_err(engine)?;
            let record: DocumentRecord = decode(Place::new(DOCUMENTS.name(), key.value()), value.value())?;
            let place = Place::new(METADATA.name(), key.value());
            // Both tables have a row for each document.
            let (same, value) = metadata.next().ok_or_else(|| rows::missing(place))?.map_err(engine)?;
            if same.value() != key.value() {
                return Err(rows::missing(place));
            }
            let Json(map) = decode(place, value.value())?;
            if filter.matches_document(&record.id, record.title.as_deref(), &map) {
                found.push(record);
            }
        }
        Ok(found)
    }
}
