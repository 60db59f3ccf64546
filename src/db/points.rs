//! What does a server show of a snapshot that the library has no word for? Stored documents, and the vectors of chunks.

use quiverdb_storage::{DocumentId, Filter, StoredDocument};

use super::Snapshot;
use crate::Result;
use crate::types::SpaceStats;

impl Snapshot {
    /// The collection's spaces, in their order.
    pub(crate) fn spaces(&self) -> Vec<SpaceStats> {
        self.parts.stats_of_spaces()
    }

    /// A document without its vectors.
    pub(crate) fn stored(&self, id: &DocumentId) -> Result<Option<StoredDocument>> {
        Ok(self.inner.document(id)?)
    }

    /// So many documents behind this one, in order of id, without their vectors.
    pub(crate) fn stored_after(&self, after: Option<&DocumentId>, limit: usize) -> Result<Vec<StoredDocument>> {
        Ok(self.inner.scan(after, limit)?)
    }

    /// The ids of the documents that match, in order.
    pub(crate) fn ids_matching(&self, filter: &Filter) -> Result<Vec<DocumentId>> {
        Ok(self.inner.matching_documents(filter)?)
    }

    /// The vectors of a chunk, one a space; `None` where there is no such chunk.
    pub(crate) fn chunk_vectors(&self, id: &DocumentId, chunk: u32) -> Result<Option<Vec<Vec<f32>>>> {
        let found = match chunk {
            0 => self.inner.first_chunk(id)?,
            chunk => self.inner.stored_chunks(id)?.into_iter().find(|stored| stored.ordinal == chunk),
        };
        Ok(found.map(|chunk| chunk.vectors))
    }
}
