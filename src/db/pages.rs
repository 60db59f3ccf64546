//! Which documents come next?
//!
//! Pages are parted by ids and not by counting, so that what is added or deleted between two of them shifts nothing: a
//! document that is there all the while is on exactly one.

use quiverdb_storage::{DocumentId, Filter};

use super::Snapshot;
use crate::Result;
use crate::types::Document;

/// Documents read at a time, so that a page of large ones ends soon behind its bytes.
const READ_AT_ONCE: usize = 16;

impl Snapshot {
    /// Up to `limit` documents in order of id, those behind `after`, and whether more follow. A page ends early where its
    /// texts have `bytes_max` bytes, and has one document at least.
    ///
    /// Cost: with a filter that of finding all that match, for each page.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn page(
        &self,
        after: Option<&DocumentId>,
        limit: usize,
        bytes_max: usize,
        filter: Option<&Filter>,
    ) -> Result<(Vec<Document>, bool)> {
        match filter {
            Some(filter) => self.page_of(self.inner.matching_documents(filter)?, after, limit, bytes_max),
            None => self.page_of_all(after, limit, bytes_max),
        }
    }

    /// How many documents match.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn count_matching(&self, filter: &Filter) -> Result<u64> {
        Ok(self.inner.matching_documents(filter)?.len() as u64)
    }

    fn page_of_all(&self, after: Option<&DocumentId>, limit: usize, bytes_max: usize) -> Result<(Vec<Document>, bool)> {
        let mut page = Page::new(limit, bytes_max);
        let mut after = after.cloned();
        loop {
            let stored = self.inner.scan(after.as_ref(), READ_AT_ONCE)?;
            let read = stored.len();
            for stored in stored {
                after = Some(stored.id.clone());
                if !page.takes() {
                    return Ok((page.documents, true));
                }
                page.take(self.restored(stored)?);
            }
            if read < READ_AT_ONCE {
                return Ok((page.documents, false));
            }
        }
    }

    fn page_of(
        &self,
        ids: Vec<DocumentId>,
        after: Option<&DocumentId>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<(Vec<Document>, bool)> {
        let mut page = Page::new(limit, bytes_max);
        let from = after.map_or(0, |after| ids.partition_point(|id| id <= after));
        for id in ids.into_iter().skip(from) {
            if !page.takes() {
                return Ok((page.documents, true));
            }
            if let Some(document) = self.get(id)? {
                page.take(document);
            }
        }
        Ok((page.documents, false))
    }
}

/// A page that fills.
struct Page {
    documents: Vec<Document>,
    limit: usize,
    bytes_left: usize,
}

impl Page {
    fn new(limit: usize, bytes_max: usize) -> Self {
        Self { documents: Vec::new(), limit, bytes_left: bytes_max.max(1) }
    }

    fn takes(&self) -> bool {
        self.documents.len() < self.limit && self.bytes_left > 0
    }

    fn take(&mut self, document: Document) {
        self.bytes_left = self.bytes_left.saturating_sub(document.text.len());
        self.documents.push(document);
    }
}
