//! Which tables are there? All of them, on one screen; `FORMAT.md` draws their records.
//!
//! Invariants: every value is a record of `codec` (version, payload, checksum); keys of one collection lie together and
//! ascend as it grows, so a bulk write appends; what came after
//! the first databases (from `import_ledger` on) is made with the first row in it.

use redb::TableDefinition;

/// The value of every table.
pub(crate) type Bytes = &'static [u8];
/// `(collection, number)`.
pub(crate) type Pair = (u32, u32);

/// Name of a fact -> fact: `format`, `identity`, `sequence`, `next`.
pub(crate) const META: TableDefinition<&str, Bytes> = TableDefinition::new("meta");
/// Collection -> its record: name, settings, live totals, next numbers.
pub(crate) const COLLECTIONS: TableDefinition<u32, Bytes> = TableDefinition::new("collections");
/// Name -> collection.
pub(crate) const COLLECTION_NAMES: TableDefinition<&str, Bytes> = TableDefinition::new("collection_names");
/// Space -> its record: collection, name, dimensions, metric, vectors a block.
pub(crate) const SPACES: TableDefinition<u32, Bytes> = TableDefinition::new("spaces");
/// (collection, id key) -> document number.
pub(crate) const DOCUMENT_IDS: TableDefinition<(u32, &[u8]), Bytes> = TableDefinition::new("document_ids");
/// (collection, document) -> id, title, digest, chunk range, length of the text.
pub(crate) const DOCUMENTS: TableDefinition<Pair, Bytes> = TableDefinition::new("documents");
/// (collection, document) -> its text, compressed in blocks.
pub(crate) const TEXTS: TableDefinition<Pair, Bytes> = TableDefinition::new("texts");
/// (collection, document) -> its metadata as JSON.
pub(crate) const METADATA: TableDefinition<Pair, Bytes> = TableDefinition::new("metadata");
/// (collection, chunk) -> document, ordinal, byte range, heading, number of terms.
pub(crate) const CHUNKS: TableDefinition<Pair, Bytes> = TableDefinition::new("chunks");
/// (space, block) -> the vectors of consecutive chunks.
pub(crate) const VECTORS: TableDefinition<Pair, Bytes> = TableDefinition::new("vectors");
/// Collection -> the chunk numbers that are dead, as a roaring bitmap.
pub(crate) const TOMBSTONES: TableDefinition<u32, Bytes> = TableDefinition::new("tombstones");
/// (collection, segment) -> chunk range and digest of a sealed segment.
pub(crate) const SEGMENTS: TableDefinition<Pair, Bytes> = TableDefinition::new("segments");

/// (collection, key) -> a record of whoever imports, which storage does not read.
pub(crate) const IMPORT_LEDGER: TableDefinition<(u32, &[u8]), Bytes> = TableDefinition::new("import_ledger");
/// Collection -> the one that is being filled to take its place.
pub(crate) const SHADOWS: TableDefinition<u32, Bytes> = TableDefinition::new("shadows");
/// A collection that is no more -> its record, for as long as it has rows.
pub(crate) const RETIRED: TableDefinition<u32, Bytes> = TableDefinition::new("retired");

/// Place in the ring -> a vector, and what it was made of.
pub(crate) const EMBEDDING_CACHE: TableDefinition<u64, Bytes> = TableDefinition::new("embedding_cache");
/// 16 bytes of what it was made of -> place in the ring.
pub(crate) const EMBEDDING_CACHE_KEYS: TableDefinition<&[u8], Bytes> = TableDefinition::new("embedding_cache_keys");

/// (collection, document) -> when it expires, where it does.
pub(crate) const EXPIRIES: TableDefinition<Pair, Bytes> = TableDefinition::new("expiries");
/// (collection, when and which document) -> its chunks.
pub(crate) const EXPIRY_ORDER: TableDefinition<(u32, &[u8]), Bytes> = TableDefinition::new("expiry_order");

/// Another name -> collection.
pub(crate) const ALIASES: TableDefinition<&str, Bytes> = TableDefinition::new("aliases");

/// All pairs of one collection (or space).
pub(crate) fn pairs_of(owner: u32) -> std::ops::RangeInclusive<Pair> {
    (owner, 0)..=(owner, u32::MAX)
}

/// The version of the whole format, in `meta` under `format`. It changes when older builds cannot read on.
pub(crate) const FORMAT_VERSION: u32 = 1;
