#![doc = include_str!("../FORMAT.md")]

mod alias;
pub mod ann;
mod background;
mod backup;
mod best;
mod bytes;
mod cache;
mod check;
mod clock;
mod codec;
mod compact;
mod distance;
mod dump;
mod engine;
mod error;
mod expiry;
mod failures;
mod feeds;
mod files;
pub mod filter;
mod graph;
mod guard;
mod handle;
mod highlight;
mod ids;
mod keys;
mod ledger;
mod load;
mod lock;
mod passages;
mod retired;
mod roster;
mod rows;
mod runs;
mod scrub;
mod seal;
mod sealed;
mod segment;
mod shadow;
mod site;
mod snapshot;
mod space;
mod store;
mod tables;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod text;
mod types;
mod validate;
mod vectors;
mod view;
mod write;

pub use alias::AliasEdit;
pub use backup::BackedUp;
pub use cache::{CACHE_BYTES_MAX_DEFAULT, CacheStats};
pub use clock::Now;
pub use compact::Compacted;
pub use distance::Metric;
pub use error::{Error, Result};
pub use filter::Filter;
pub use highlight::{highlights, syntax_highlights};
pub use ids::{
    COLLECTION_NAME_BYTES_MAX, CacheKey, ChunkNumber, CollectionId, DOCUMENT_ID_BYTES_MAX, DocumentId, SpaceId,
    validate_collection_name,
};
pub use ledger::{Alongside, Expected, ExpectedVersion, LEDGER_KEY_BYTES_MAX, LEDGER_VALUE_BYTES_MAX, LedgerEdit};
pub use roaring::RoaringBitmap;
pub use shadow::{Changes, Shadow};
pub use snapshot::{Snapshot, TextHits, TextMatches};
pub use store::Store;
pub use text::{Analyzer, AnalyzerSettings, Language, TextQuery, index_text, is_titled};
pub use types::{
    CollectionInfo, CollectionSettings, DIMS_MAX, DocumentHead, EF_MAX, Effort, HydratedChunk, Nearest, NewChunk,
    NewDocument, Operation, SPACES_MAX, Scrub, SegmentSearch, SpaceSettings, StoredChunk, StoredDocument, Strategy,
    Written,
};
pub use validate::{HEADING_BYTES_MAX, METADATA_BYTES_MAX, METADATA_DEPTH_MAX, TEXT_BYTES_MAX, validate_content};
