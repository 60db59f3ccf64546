//! Which rows does a collection have, in which order?
//!
//! Invariant: what is in memory is bounded by a page of documents, or by the largest of them.

use std::collections::BTreeMap;

use quiverdb_storage::{DocumentId, Snapshot, StoredChunk, StoredDocument};
use rayon::prelude::*;

use crate::Result;
use crate::config::DEFAULT_SPACE;
use crate::formats::row::{Place, Row};
use crate::ingest::{self, OwnVectors, chunk_digest, models_of};
use crate::parts::Parts;
use crate::spaces::Space;
use crate::types::EmbeddedChunk;

/// Documents of a page, and the bytes of text that it should have.
const PAGE_DOCUMENTS_MAX: usize = 512;
const PAGE_BYTES: usize = 4 << 20;

/// The part of a collection that goes out.
pub(super) struct Exported<'a> {
    pub(super) parts: &'a Parts,
    pub(super) snapshot: &'a Snapshot,
    /// The spaces whose vectors go out.
    pub(super) spaces: Vec<&'a Space>,
    /// The documents, where not all.
    pub(super) ids: Option<Vec<DocumentId>>,
    /// Whether rows are chunks.
    pub(super) chunks: bool,
    /// Whether vectors that models made go out.
    pub(super) vectors: bool,
    /// Whether vectors that documents brought do, as they must where there are any.
    pub(super) own: bool,
}

impl Exported<'_> {
    /// All documents, page by page, in order of their ids.
    pub(super) fn pages(&self) -> Pages<'_> {
        Pages { exported: self, last: None, done: false, place: 0, documents: PAGE_DOCUMENTS_MAX / 8 }
    }

    /// The rows of all documents, page by page, with the number of the documents.
    pub(super) fn batches(&self) -> impl Iterator<Item = Result<(u64, Vec<Row>)>> {
        self.pages().map(|page| {
            let page = page?;
            let documents = page.len() as u64;
            let rows: Vec<Vec<Row>> =
                page.into_par_iter().map(|document| self.rows(document)).collect::<Result<_>>()?;
            Ok((documents, rows.into_iter().flatten().collect()))
        })
    }

    /// The digests of the models whose vectors go out.
    pub(super) fn models(&self) -> BTreeMap<String, String> {
        if !self.vectors {
            return BTreeMap::new();
        }
        let mut models = models_of(self.parts);
        models.retain(|name, _| self.spaces.iter().any(|space| space.name() == name));
        models
    }

    /// The vectors that a document was given with.
    pub(super) fn own_vectors(&self, document: &StoredDocument) -> Result<OwnVectors> {
        ingest::own_vectors(self.parts, self.snapshot, document)
    }

    fn rows(&self, document: StoredDocument) -> Result<Vec<Row>> {
        if self.chunks { self.chunk_rows(document) } else { Ok(vec![self.document_row(document)?]) }
    }

    fn document_row(&self, document: StoredDocument) -> Result<Row> {
        let mut vectors = BTreeMap::new();
        if self.own {
            let OwnVectors { vector, vectors: further } = self.own_vectors(&document)?;
            vectors = further;
            vectors.extend(vector.map(|vector| (DEFAULT_SPACE.to_owned(), vector)));
            vectors.retain(|name, _| self.spaces.iter().any(|space| space.name() == name));
        }
        let is_read = self.vectors && self.spaces.iter().any(|space| space.has_model());
        let chunks = if is_read { self.snapshot.stored_chunks(&document.id)? } else { Vec::new() };
        let StoredDocument { id, title, text, metadata, expires_at, .. } = document;
        let chunks = chunks.into_iter().map(|chunk| self.embedded(title.as_deref(), &text, chunk)).collect();
        Ok(Row { id, title, text, metadata, vectors, chunks, expires_at, place: None })
    }

    fn embedded(&self, title: Option<&str>, text: &str, chunk: StoredChunk) -> EmbeddedChunk {
        let StoredChunk { start, end, heading, vectors, .. } = chunk;
        let digest = chunk_digest(title, &heading, &text[start..end]);
        let made = self.spaces.iter().filter(|space| space.has_model()).copied();
        EmbeddedChunk { start, end, heading, digest, vectors: by_space(made, vectors) }
    }

    fn chunk_rows(&self, document: StoredDocument) -> Result<Vec<Row>> {
        let StoredDocument { id, title, text: whole, metadata, expires_at, .. } = document;
        let row = |chunk: StoredChunk| {
            let StoredChunk { ordinal, start, end, heading, vectors } = chunk;
            let spaces = self.spaces.iter().filter(|_| self.vectors).copied();
            Row {
                id: id.clone(),
                title: title.clone(),
                text: whole[start..end].to_owned(),
                metadata: metadata.clone(),
                vectors: by_space(spaces, vectors),
                chunks: Vec::new(),
                expires_at,
                place: Some(Place { ordinal, start, end, heading }),
            }
        };
        Ok(self.snapshot.stored_chunks(&id)?.into_iter().map(row).collect())
    }
}

fn by_space<'a>(spaces: impl Iterator<Item = &'a Space>, mut vectors: Vec<Vec<f32>>) -> BTreeMap<String, Vec<f32>> {
    spaces.map(|space| (space.name().to_owned(), std::mem::take(&mut vectors[space.index]))).collect()
}

/// Documents, page by page.
pub(super) struct Pages<'a> {
    exported: &'a Exported<'a>,
    last: Option<DocumentId>,
    done: bool,
    /// How many of the chosen ids were read.
    place: usize,
    /// How many to read next.
    documents: usize,
}

impl Pages<'_> {
    fn read(&mut self) -> Result<Vec<StoredDocument>> {
        let snapshot = self.exported.snapshot;
        let page = match &self.exported.ids {
            None => {
                let page = snapshot.scan(self.last.as_ref(), self.documents)?;
                self.done = page.len() < self.documents;
                page
            }
            Some(ids) => {
                let end = (self.place + self.documents).min(ids.len());
                let page = ids[self.place..end].iter().map(|id| snapshot.document(id));
                let page = page.collect::<std::result::Result<Vec<_>, _>>()?;
                (self.place, self.done) = (end, end == ids.len());
                page.into_iter().flatten().collect()
            }
        };
        self.last = page.last().map(|document| document.id.clone()).or_else(|| self.last.take());
        let bytes: usize = page.iter().map(|document| document.text.len() + 64).sum();
        let each = bytes / page.len().max(1);
        // Twice as many at most, because the next ones may be larger.
        self.documents = (PAGE_BYTES / each.max(1)).clamp(1, PAGE_DOCUMENTS_MAX.min(self.documents * 2));
        Ok(page)
    }
}

impl Iterator for Pages<'_> {
    type Item = Result<Vec<StoredDocument>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let page = self.read();
        self.done |= page.is_err();
        Some(page)
    }
}

/// Gives columns of one name different ones: two spaces may differ in what columns are not called by.
#[cfg(feature = "parquet")]
pub(super) fn distinct(
    mut columns: Vec<crate::formats::columns::VectorColumn>,
) -> Vec<crate::formats::columns::VectorColumn> {
    let mut taken = std::collections::BTreeSet::new();
    for column in &mut columns {
        while !taken.insert(column.name.to_lowercase()) {
            column.name.push('_');
        }
    }
    columns
}
