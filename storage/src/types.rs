//! What goes into a collection, and what comes out?
//!
//! Invariants: everything here is plain data, checked where it enters (`write`, `create_collection`); chunk ranges count
//! bytes of the document's text and end between characters.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ids::{ChunkNumber, CollectionId, DocumentId, SpaceId, validate_collection_name};
use crate::text::AnalyzerSettings;
use crate::{Error, Metric, Result};

/// The most dimensions of a space.
pub const DIMS_MAX: usize = 16_384;
/// The most vector spaces of a collection.
pub const SPACES_MAX: usize = 16;

/// What a collection is made with. Fixed for its life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CollectionSettings {
    /// How text becomes terms.
    pub analyzer: AnalyzerSettings,
    /// The vector spaces: every chunk has a vector in each, in this order.
    pub spaces: Vec<SpaceSettings>,
    /// Kept verbatim for the owner; storage does not read it.
    pub application: Value,
}

impl CollectionSettings {
    /// # Errors
    /// [`Error::InvalidInput`] for too many spaces, two of one name, or dimensions out of range.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.spaces.len() > SPACES_MAX {
            let count = self.spaces.len();
            return Err(Error::invalid(format!("{count} vector spaces were asked for; the limit is {SPACES_MAX}")));
        }
        for (index, space) in self.spaces.iter().enumerate() {
            validate_collection_name(&space.name).map_err(|_| {
                let name = space.name.escape_debug();
                Error::invalid(format!("`{name}` cannot name a vector space; use letters, digits, `.`, `_` and `-`"))
            })?;
            if space.dims == 0 || space.dims > DIMS_MAX {
                let SpaceSettings { name, dims, .. } = space;
                return Err(Error::invalid(format!("space `{name}` has {dims} dimensions; use 1 to {DIMS_MAX}")));
            }
            if self.spaces[..index].iter().any(|other| other.name == space.name) {
                return Err(Error::invalid(format!("two vector spaces are named `{}`", space.name)));
            }
        }
        Ok(())
    }
}

/// One vector space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceSettings {
    /// Its name within the collection.
    pub name: String,
    /// The length of its vectors.
    pub dims: usize,
    /// How vectors are compared.
    pub metric: Metric,
}

/// A collection, as listed.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectionInfo {
    /// Its number, which a new name does not change.
    pub id: CollectionId,
    /// Its name.
    pub name: String,
    /// What it was made with.
    pub settings: CollectionSettings,
    /// The numbers of its spaces, in the order of the settings.
    pub spaces: Vec<SpaceId>,
}

/// One step of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Stores a document, in place of an earlier one of the same id.
    Put(Box<NewDocument>),
    /// Removes a document; nothing happens where there is none.
    Delete(DocumentId),
}

impl Operation {
    pub(crate) fn id(&self) -> &DocumentId {
        match self {
            Self::Put(document) => &document.id,
            Self::Delete(id) => id,
        }
    }
}

/// A document to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDocument {
    /// Its id.
    pub id: DocumentId,
    /// Its title, seen by text search together with every chunk.
    pub title: Option<String>,
    /// Its text, to 1 GiB.
    pub text: String,
    /// What filters read.
    pub metadata: Map<String, Value>,
    /// A digest of the content, by the caller; equal digests mean that nothing need be written.
    pub digest: [u8; 16],
    /// When it expires, in milliseconds since 1970-01-01 UTC; `None` is never. From then on nothing finds it any more.
    pub expires_at: Option<u64>,
    /// The passages that can be found. A document without chunks is stored but never a hit.
    pub chunks: Vec<NewChunk>,
}

/// A passage of a document to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewChunk {
    /// Where it begins, in bytes of the document's text.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// The headings above it, joined; seen by text search. May be empty.
    pub heading: String,
    /// One vector a space, in the order of the settings.
    pub vectors: Vec<Vec<f32>>,
}

/// What a batch did. Of several operations on one id only the last counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Documents that were not there before.
    pub added: u64,
    /// Documents that were.
    pub replaced: u64,
    /// Documents deleted.
    pub removed: u64,
    /// Chunks stored.
    pub chunks: u64,
}

/// A document as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredDocument {
    /// Its id.
    pub id: DocumentId,
    /// Its title.
    pub title: Option<String>,
    /// Its text.
    pub text: String,
    /// Its metadata.
    pub metadata: Map<String, Value>,
    /// The digest given with it.
    pub digest: [u8; 16],
    /// When it expires, in milliseconds since 1970-01-01 UTC.
    pub expires_at: Option<u64>,
}

/// A document as stored, but for its text.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentHead {
    /// Its id.
    pub id: DocumentId,
    /// Its title.
    pub title: Option<String>,
    /// Bytes of its text.
    pub text_bytes: u64,
    /// Its metadata.
    pub metadata: Map<String, Value>,
}

/// A chunk as stored, with its vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredChunk {
    /// Which chunk of its document, from 0.
    pub ordinal: u32,
    /// Where it begins, in bytes of the document's text.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// The headings above it.
    pub heading: String,
    /// One vector a space, as given.
    pub vectors: Vec<Vec<f32>>,
}

/// How hard a search for the nearest vectors tries. What is not sealed yet is always compared in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// As hard as usual: some 98 % of the true nearest are found (sentence embeddings, the 10 nearest).
    #[default]
    Usual,
    /// Walks through graphs keep this many candidates, or as many as are asked for where that is more. Twice as many take
    /// nearly twice as long; 16 find some 90 %, 256 more than 99 %.
    Ef(usize),
    /// Every vector is compared in full precision.
    Exact,
}

/// The candidates that a walk keeps as long as nobody says otherwise.
const EF_USUAL: usize = 64;
/// The most candidates that a walk keeps.
pub const EF_MAX: usize = 100_000;

impl Effort {
    /// An effort from 0 to 1: `16 * 2^(6 * effort)` candidates, so 16 to 1024, 64 at a third. Outside of that it is cut.
    pub fn of(effort: f64) -> Self {
        Self::Ef((16.0 * (6.0 * effort.clamp(0.0, 1.0)).exp2()).round() as usize)
    }

    pub(crate) fn ef(self, wanted: usize) -> usize {
        match self {
            // The last of many wanted would be missed more often than the last of ten.
            Self::Usual | Self::Exact => EF_USUAL.max(wanted + wanted / 2),
            Self::Ef(ef) => ef.clamp(1, EF_MAX),
        }
    }
}

/// How a question was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// All that may answer were compared.
    #[default]
    Exact,
    /// The graph was walked over those that may answer.
    Selective,
    /// The graph was walked as it is.
    Plain,
}

impl Strategy {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Selective => "selective",
            Self::Plain => "plain",
        }
    }
}

/// How one segment was searched for the nearest vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentSearch {
    /// The segment.
    pub segment: u32,
    /// The way that was taken.
    pub strategy: Strategy,
    /// Distances computed on codes of one byte a number.
    pub compared: u64,
    /// Distances computed in full precision.
    pub rescored: u64,
}

/// The answer to a search for the nearest vectors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nearest {
    /// The chunks and their scores, best first.
    pub hits: Vec<(ChunkNumber, f32)>,
    /// How each segment was searched.
    pub segments: Vec<SegmentSearch>,
}

/// A chunk with its text and what is known of its document.
#[derive(Clone, Debug, PartialEq)]
pub struct HydratedChunk {
    /// The document's id.
    pub document: DocumentId,
    /// Which chunk of the document, from 0.
    pub ordinal: u32,
    /// Where it begins, in bytes of the document's text.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// The headings above it.
    pub heading: String,
    /// The passage.
    pub text: String,
    /// The document's title.
    pub title: Option<String>,
    /// The document's metadata.
    pub metadata: Map<String, Value>,
    /// How many chunks the document has.
    pub chunks_in_document: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effort_doubles_the_candidates_six_times() {
        let ef = |effort| Effort::of(effort).ef(10);
        assert_eq!([0.0, 1.0 / 3.0, 0.5, 1.0, 7.0].map(ef), [16, 64, 128, 1024, 1024]);
        assert_eq!([Effort::Usual.ef(10), Effort::Usual.ef(100), Effort::Ef(0).ef(10)], [64, 150, 1]);
    }
}

/// How far the reading of a large database is that was not closed as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scrub {
    /// There is no need: it was closed as it should be, or all of it was verified when it was opened.
    NotDue,
    /// It is under way.
    Running,
    /// All was read; these are the violations, as of `Store::check`.
    Done(Vec<String>),
    /// It ended early, because of this.
    Failed(String),
}
