//! How does a document get from one making of a collection into another?
//!
//! A collection that is made anew, with another model or other chunks, is filled from the one that it is to take the place
//! of. A document is taken as it was given and goes through the recipe of `ingest`, so that what comes out is what a fresh
//! collection would hold; vectors that the same model made of the same words are kept.
//!
//! Invariants: vectors that a document brought stay only in a space that stays as it is, because those of another model
//! are not to be compared with them; no document is left out: one that the new model cannot read ends the work, by name.

use std::collections::HashMap;
use std::sync::Arc;

use quiverdb_storage::{
    Alongside, DocumentId, NewChunk, NewDocument, Operation, Snapshot, StoredChunk, StoredDocument, Written, index_text,
};
use rayon::prelude::*;
use serde_json::{Map, Value};

use super::{Outcome, OwnVectors, Prepared, PreparedChunk, Splitter, brings_all, digest, embed_batch, own_vectors};
use super::{own_vectors_among, reader_of, split};
use crate::embed::Embedder;
use crate::moment;
use crate::parts::Parts;
use crate::spaces::Space;
use crate::types::{AddReport, Document};
use crate::{Error, Result};

/// Writes to a collection as it is now: where another one took its place since these operations were made, they are made
/// anew for that one. What goes along goes along with these.
///
/// # Errors
/// As [`quiverdb_storage::Store::write`] and those of the other one's models.
pub(crate) fn write(parts: &Arc<Parts>, operations: &[Operation], along: &Alongside) -> Result<Written> {
    let next = match parts.store.write_all(parts.info.id, operations, along) {
        Ok(written) => return Ok(written),
        Err(error) => parts.after(error)?,
    };
    let renewal = Renewal::new(parts, next);
    let (mut originals, mut renewed) = (Vec::new(), Vec::new());
    for operation in operations {
        match operation {
            Operation::Put(document) => originals.push(Original::given(parts, document)?),
            Operation::Delete(_) => renewed.push(operation.clone()),
        }
    }
    let originals = originals.into_iter().map(|original| renewal.draft(original)).collect();
    renewed.extend(renewal.renew(originals, &mut AddReport::default())?);
    write(next, &renewed, along)
}

/// A document as one making of a collection has it.
struct Original {
    stored: StoredDocument,
    own: OwnVectors,
    /// Empty where no vector can be kept.
    chunks: Vec<NewChunk>,
}

impl Original {
    fn given(parts: &Parts, document: &NewDocument) -> Result<Self> {
        let NewDocument { id, title, text, metadata, digest, expires_at, chunks } = document.clone();
        let stored = StoredDocument { id, title, text, metadata, digest, expires_at };
        let own = own_vectors_among(parts, &stored, || Ok(chunks.first().map(|chunk| chunk.vectors.clone())))?;
        Ok(Self { stored, own, chunks })
    }
}

/// A document on its way into the other collection, as it is given to that.
pub(crate) struct Draft {
    original: Original,
    document: Document,
    metadata: Map<String, Value>,
    digest: [u8; 16],
    /// Whether a vector that it brought gives way to the model's.
    pub(crate) is_replaced: bool,
}

impl Draft {
    /// What the other collection will know it by.
    pub(crate) fn digest(&self) -> [u8; 16] {
        self.digest
    }

    pub(crate) fn bytes(&self) -> usize {
        self.document.text.len()
    }
}

/// The way from one making of a collection to another.
pub(crate) struct Renewal<'a> {
    from: &'a Parts,
    to: &'a Parts,
    /// For each space of `to`, the place in `from` of the one that has the same vectors.
    same: Vec<Option<usize>>,
    /// What cut the titles of the chunks in `from`; `None` where it is not needed or cannot be had.
    reader: Option<Arc<dyn Embedder>>,
}

impl<'a> Renewal<'a> {
    pub(crate) fn new(from: &'a Parts, to: &'a Parts) -> Self {
        let same_as = |space: &Space| {
            let of_model = |other: &&Space| space.makes_those_of(other) && is_alike(space, other);
            from.spaces().iter().find(of_model).map(|other| other.index)
        };
        let same: Vec<Option<usize>> = to.spaces().iter().map(same_as).collect();
        let keeps = same.iter().any(Option::is_some);
        // Without it titled chunks are embedded once more, which is right, too.
        let reader = if keeps { from.space().embedder().ok().flatten() } else { None };
        Self { from, to, same, reader }
    }

    /// A document as `from` has it in a snapshot; `None` where it is not there.
    pub(crate) fn read(&self, snapshot: &Snapshot, id: &DocumentId) -> Result<Option<Draft>> {
        let Some(stored) = snapshot.document(id)? else { return Ok(None) };
        let own = own_vectors(self.from, snapshot, &stored)?;
        let chunks = if self.same.iter().any(Option::is_some) { snapshot.stored_chunks(id)? } else { Vec::new() };
        let chunk =
            |StoredChunk { ordinal: _, start, end, heading, vectors }| NewChunk { start, end, heading, vectors };
        let chunks = chunks.into_iter().map(chunk).collect();
        Ok(Some(self.draft(Original { stored, own, chunks })))
    }

    fn draft(&self, original: Original) -> Draft {
        let Original { stored, own, .. } = &original;
        let stays = |name: &str| match (self.from.space_named(name), self.to.space_named(name)) {
            (Ok(one), Ok(other)) => {
                is_alike(one, other)
                    && one.has_model() == other.has_model()
                    && (!one.has_model() || one.makes_those_of(other))
            }
            (Ok(_) | Err(_), _) => false,
        };
        let vector = own.vector.clone().filter(|_| stays(self.to.space().name()));
        let vectors = own.vectors.iter().filter(|(name, _)| stays(name));
        let vectors = vectors.map(|(name, vector)| (name.clone(), vector.clone())).collect();
        let StoredDocument { id, title, text, metadata, digest: _, expires_at } = stored.clone();
        let digest = digest(title.as_deref(), &text, &metadata, vector.as_deref(), &vectors, expires_at);
        let expires_at = expires_at.and_then(moment::of_millis);
        let is_replaced = own.vector.is_some() != vector.is_some() || own.vectors.len() != vectors.len();
        let embedded = None;
        let metadata_value = Value::Object(metadata.clone());
        let document = Document { id, text, title, metadata: metadata_value, vector, vectors, expires_at, embedded };
        Draft { original, document, metadata, digest, is_replaced }
    }

    /// The operations that write these documents to `to`: chunked, and embedded where no vector can be kept.
    ///
    /// # Errors
    /// [`Error::Embedding`] or [`Error::InvalidInput`] naming a document that cannot be taken; those of the models.
    pub(crate) fn renew(&self, drafts: Vec<Draft>, report: &mut AddReport) -> Result<Vec<Operation>> {
        let prepared: Vec<Prepared> = drafts.into_par_iter().map(|draft| self.prepare(draft)).collect::<Result<_>>()?;
        report.chunks_reused += prepared.iter().map(Prepared::reused).sum::<u64>();
        let mut outcome = Outcome::default();
        let operations = embed_batch(self.to, prepared, &mut outcome)?;
        report.chunks_embedded += outcome.report.chunks_embedded;
        report.chunks_cached += outcome.report.chunks_cached;
        report.texts_truncated += outcome.report.texts_truncated;
        match outcome.refused.pop().map(|refused| refused.rejected) {
            None => Ok(operations),
            Some(document) => Err(Error::Embedding(format!(
                "document `{}` cannot be taken over: {}. Replace or delete it, and go on; what was done is kept",
                document.source, document.reason
            ))),
        }
    }

    /// How many chunks a document will have, and how many of them are to be embedded.
    pub(crate) fn forecast(&self, draft: Draft) -> Result<(u64, u64)> {
        let prepared = self.prepare(draft)?;
        Ok((prepared.chunks.len() as u64, prepared.embedded()))
    }

    fn prepare(&self, draft: Draft) -> Result<Prepared> {
        let Draft { original, document, metadata, digest, .. } = draft;
        let embedder = reader_of(self.to, &document)?;
        let splitter = embedder.as_deref().map(|embedder| Splitter::new(self.to, embedder, &document));
        let mut chunks = split(self.to, splitter.as_ref(), &document)?;
        self.keep_vectors(&original, &document, &mut chunks);
        let is_external = brings_all(self.to, &document);
        Ok(Prepared { document, place: 0, metadata, digest, chunks, is_external })
    }

    /// Chunks that read as one that is there keep its vectors, in spaces of the same model.
    fn keep_vectors(&self, original: &Original, document: &Document, chunks: &mut [PreparedChunk]) {
        let Original { stored, own, chunks: known } = original;
        let has_own = own.vector.is_some();
        let title = stored.title.as_deref().filter(|title| !title.trim().is_empty());
        let title = match (title, &self.reader) {
            (None, _) => None,
            (title, _) if has_own => title,
            (Some(_), Some(reader)) => Splitter::new(self.from, reader.as_ref(), document).title,
            (Some(_), None) => return,
        };
        let read = |chunk: &NewChunk| index_text(title, &chunk.heading, &stored.text[chunk.start..chunk.end]);
        let known: HashMap<String, &NewChunk> = known.iter().map(|chunk| (read(chunk), chunk)).collect();
        // What it brought itself is no model's.
        let default = self.from.space().index;
        for chunk in chunks {
            let Some(known) = known.get(&chunk.input) else { continue };
            for (vector, same) in chunk.vectors.iter_mut().zip(&self.same) {
                if let Some(same) = same.filter(|same| !(has_own && *same == default)) {
                    vector.get_or_insert_with(|| known.vectors[same].clone());
                }
            }
        }
    }
}

fn is_alike(one: &Space, other: &Space) -> bool {
    one.settings.dims == other.settings.dims && one.settings.metric == other.settings.metric
}
