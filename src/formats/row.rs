//! What goes out as one row: a document, or a chunk of one?

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::DocumentId;
use crate::types::EmbeddedChunk;

/// A row of an export.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The document's id.
    pub(crate) id: DocumentId,
    pub(crate) title: Option<String>,
    /// The document's text, or the chunk's.
    pub(crate) text: String,
    pub(crate) metadata: Map<String, Value>,
    /// The document's own vectors, or the chunk's, by space.
    pub(crate) vectors: BTreeMap<String, Vec<f32>>,
    /// The document's chunks, where their vectors go out, too.
    pub(crate) chunks: Vec<EmbeddedChunk>,
    /// When the document expires, in milliseconds since 1970.
    pub(crate) expires_at: Option<u64>,
    /// Where the chunk is; `None` where the row is a document.
    pub(crate) place: Option<Place>,
}

/// Where a chunk is in its document.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Which chunk of its document, from 0.
    pub(crate) ordinal: u32,
    /// Where it begins, in bytes of the document's text.
    pub(crate) start: usize,
    /// Where it ends.
    pub(crate) end: usize,
    /// The headings above it.
    pub(crate) heading: String,
}
