//! What stands in each record of fixed meaning?

use roaring::RoaringBitmap;
use serde_json::{Map, Value};

use super::{Decoder, Encoder, Record};
use crate::keys::{decode_id, encode_id};
use crate::{CacheKey, DocumentId, Metric, Result};

/// A number that a key leads to: a format version, a collection of a name, a document of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number(pub(crate) u32);

impl Record for Number {
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        let Self(number) = *self;
        out.u32(number);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self(input.u32()?))
    }
}

/// What tells this database from every other: 16 bytes drawn when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(pub(crate) [u8; 16]);

impl Record for Identity {
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        let Self(bytes) = self;
        out.raw(bytes);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self(input.array()?))
    }
}

/// The number of the last commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequence(pub(crate) u64);

impl Record for Sequence {
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        let Self(sequence) = *self;
        out.u64(sequence);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self(input.u64()?))
    }
}

/// The numbers that the next collection and the next space will have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NextNumbers {
    pub(crate) collection: u32,
    pub(crate) space: u32,
}

impl Record for NextNumbers {
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        let Self { collection, space } = *self;
        out.u32(collection);
        out.u32(space);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self { collection: input.u32()?, space: input.u32()? })
    }
}

/// A collection: what it is, how much lives in it, and which numbers come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CollectionRecord {
    pub(crate) name: String,
    /// [`crate::CollectionSettings`] as JSON.
    pub(crate) settings: String,
    pub(crate) spaces: Vec<u32>,
    /// The number of the commit that last changed its content.
    pub(crate) sequence: u64,
    pub(crate) documents: u64,
    pub(crate) chunks: u64,
    /// Terms of all live chunks, repeats counted.
    pub(crate) terms: u64,
    pub(crate) next_document: u32,
    pub(crate) next_chunk: u32,
    pub(crate) next_segment: u32,
}

impl Record for CollectionRecord {
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        let Self {
            name,
            settings,
            spaces,
            sequence,
            documents,
            chunks,
            terms,
            next_document,
            next_chunk,
            next_segment,
        } = self;
        out.u64(*sequence);
        out.u64(*documents);
        out.u64(*chunks);
        out.u64(*terms);
        out.u32(*next_document);
        out.u32(*next_chunk);
        out.u32(*next_segment);
        out.counted(name.as_bytes());
        out.u32(spaces.len() as u32);
        for space in spaces {
            out.u32(*space);
        }
        out.counted(settings.as_bytes());
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self> {
        let (sequence, documents, chunks, terms) = (input.u64()?, input.u64()?, input.u64()?, input.u64()?);
        let (next_document, next_chunk, next_segment) = (input.u32()?, input.u32()?, input.u32()?);
        let name = input.string()?;
        let count = input.u32()?;
        let spaces = (0..count).map(|_| input.u32()).collect::<Result<_>>()?;
        let settings = input.string()?;
        Ok(Self { name, settings, spaces, sequence, documents, chunks, terms, next_document, next_chunk, next_segment })
    }
}

/// A vector space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpaceRecord {
    pub(crate) collection: u32,
    pub(crate) name: String,
    pub(crate) dims: u32,
    pub(crate) metric: Metric,
    /// The vectors of a full block. Stored, so that another rule for new spaces leaves old ones readable.
    pub(crate) per_block: u32,
}

impl Record for SpaceRecord {
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        let Self { collection, name, dims, metric, per_block } = self;
        out.u32(*collection);
        out.u32(*dims);
        out.u32(*per_block);
        out.u8(match metric {
            Metric::Cosine => 0,
            Metric::Dot => 1,
            Metric::L2 => 2,
        });
        out.counted(name.as_bytes());
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self> {
        let (collection, dims, per_block) = (input.u32()?, input.u32()?, input.u32()?);
        if dims == 0 || per_block == 0 {
            return Err(input.place.corrupt(format!("a space of {dims} dimensions, {per_block} a block")));
        }
        let metric = match input.u8()? {
            0 => Metric::Cosine,
            1 => Metric::Dot,
            2 => Metric::L2,
            other => return Err(input.place.corrupt(format!("metric {other} is unknown"))),
        };
        Ok(Self { collection, name: input.string()?, dims, metric, per_block })
    }
}

/// What is known of a document, apart from its text and metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DocumentRecord {
    pub(crate) id: DocumentId,
    pub(crate) title: Option<String>,
    pub(crate) digest: [u8; 16],
    pub(crate) first_chunk: u32,
    pub(crate) chunk_count: u32,
    pub(crate) text_bytes: u32,
}

impl DocumentRecord {
    /// The numbers of its chunks.
    pub(crate) fn chunks(&self) -> std::ops::Range<u32> {
        self.first_chunk..self.first_chunk + self.chunk_count
    }
}

impl Record for DocumentRecord {
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        let Self { id, title, digest, first_chunk, chunk_count, text_bytes } = self;
        out.raw(digest);
        out.u32(*first_chunk);
        out.u32(*chunk_count);
        out.u32(*text_bytes);
        out.counted(&encode_id(id));
        out.u8(u8::from(title.is_some()));
        out.counted(title.as_deref().unwrap_or_default().as_bytes());
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self> {
        let digest = input.array()?;
        let (first_chunk, chunk_count, text_bytes) = (input.u32()?, input.u32()?, input.u32()?);
        if first_chunk.checked_add(chunk_count).is_none() {
            return Err(input.place.corrupt(format!("chunk {first_chunk} cannot have {chunk_count} after it")));
        }
        let id = decode_id(input.counted()?).ok_or_else(|| input.place.corrupt("its id is none"))?;
        let titled = input.u8()? == 1;
        let title = input.string()?;
        Ok(Self { id, title: titled.then_some(title), digest, first_chunk, chunk_count, text_bytes })
    }
}

/// A chunk: whose it is, and which part of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRecord {
    pub(crate) document: u32,
    pub(crate) ordinal: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// How many terms its index text has, repeats counted.
    pub(crate) terms: u32,
    pub(crate) heading: String,
}

impl Record for ChunkRecord {
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        let Self { document, ordinal, start, end, terms, heading } = self;
        out.u32(*document);
        out.u32(*ordinal);
        out.u32(*start);
        out.u32(*end);
        out.u32(*terms);
        out.counted(heading.as_bytes());
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self> {
        let (document, ordinal) = (input.u32()?, input.u32()?);
        let (start, end, terms) = (input.u32()?, input.u32()?, input.u32()?);
        Ok(Self { document, ordinal, start, end, terms, heading: input.string()? })
    }
}

/// A sealed segment: the chunks from `first` to before `end` that were live when it was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentRecord {
    pub(crate) first: u32,
    pub(crate) end: u32,
    /// How many chunks it holds.
    pub(crate) chunks: u32,
    /// The version of its folder and of the text analysis: `view::SEGMENT_VERSION` when it was built.
    pub(crate) version: u32,
    /// XXH3 over the manifest of its folder.
    pub(crate) digest: u64,
}

impl Record for SegmentRecord {
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        let Self { first, end, chunks, version, digest } = *self;
        out.u32(first);
        out.u32(end);
        out.u32(chunks);
        out.u32(version);
        out.u64(digest);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self> {
        let (first, end, chunks, version) = (input.u32()?, input.u32()?, input.u32()?, input.u32()?);
        if first >= end {
            return Err(input.place.corrupt(format!("a segment cannot cover chunks {first} to before {end}")));
        }
        Ok(Self { first, end, chunks, version, digest: input.u64()? })
    }
}

/// The metadata of a document.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Json(pub(crate) Map<String, Value>);

impl Record for Json {
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        let Self(map) = self;
        out.raw(&serde_json::to_vec(map).expect("a map with string keys is always JSON"));
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self> {
        let bytes = input.remaining();
        Ok(Self(serde_json::from_slice(bytes).map_err(|error| input.place.corrupt(error.to_string()))?))
    }
}

/// A vector of the cache of embeddings, with the whole of its key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CachedRecord {
    pub(crate) key: CacheKey,
    pub(crate) vector: Vec<f32>,
}

impl CachedRecord {
    /// The bytes that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<CacheKey>() + size_of_val(self.vector.as_slice())
    }
}

impl Record for CachedRecord {
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        let Self { key: CacheKey { model, task, text, text_bytes }, vector } = self;
        out.raw(model);
        out.u8(*task);
        out.raw(text);
        out.u64(*text_bytes);
        out.u32(vector.len() as u32);
        vector.iter().for_each(|number| out.raw(&number.to_le_bytes()));
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self> {
        let (model, task, text, text_bytes) = (input.array()?, input.u8()?, input.array()?, input.u64()?);
        let dims = input.u32()? as usize;
        let bytes = input.take(dims.saturating_mul(size_of::<f32>()))?;
        let key = CacheKey { model, task, text, text_bytes };
        Ok(Self { key, vector: super::decode_rows(bytes).collect() })
    }
}

/// What the cache of embeddings holds, and how often it was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheTotals {
    pub(crate) entries: u64,
    /// Of all records together.
    pub(crate) bytes: u64,
    /// The place of the next one.
    pub(crate) next: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
}

impl Record for CacheTotals {
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        let Self { entries, bytes, next, hits, misses } = *self;
        [entries, bytes, next, hits, misses].into_iter().for_each(|number| out.u64(number));
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self> {
        let (entries, bytes, next) = (input.u64()?, input.u64()?, input.u64()?);
        Ok(Self { entries, bytes, next, hits: input.u64()?, misses: input.u64()? })
    }
}

/// A time of day: milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) u64);

impl Record for Moment {
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        let Self(at) = *self;
        out.u64(at);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self(input.u64()?))
    }
}

/// Consecutive chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRange {
    pub(crate) first: u32,
    pub(crate) count: u32,
}

impl Record for ChunkRange {
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        let Self { first, count } = *self;
        out.u32(first);
        out.u32(count);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self { first: input.u32()?, count: input.u32()? })
    }
}

/// Bytes of an owner who alone reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opaque(pub(crate) Vec<u8>);

impl Record for Opaque {
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        let Self(bytes) = self;
        out.raw(bytes);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self(input.remaining().to_vec()))
    }
}

/// The chunk numbers of a collection that are no more.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tombstones(pub(crate) RoaringBitmap);

impl Record for Tombstones {
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        let Self(bitmap) = self;
        bitmap.serialize_into(&mut out.bytes).expect("writing to memory does not fail");
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self> {
        let mut bytes = input.remaining();
        let bitmap = RoaringBitmap::deserialize_from(&mut bytes);
        let bitmap = bitmap.map_err(|error| input.place.corrupt(error.to_string()))?;
        input.rest = bytes;
        Ok(Self(bitmap))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::super::{Place, decode, encode};
    use super::*;

    fn comes_back<R: Record + PartialEq + std::fmt::Debug>(record: R) {
        let place = Place::new("test", 3_u32);
        assert_eq!(decode::<R>(place, &encode(place, &record)).unwrap(), record);
    }

    #[test]
    fn every_record_comes_back() {
        comes_back(Identity(*b"0123456789abcdef"));
        comes_back(Sequence(u64::MAX));
        comes_back(NextNumbers { collection: 1, space: 2 });
        comes_back(CollectionRecord {
            name: "notes".into(),
            settings: "{}".into(),
            spaces: vec![4, 5],
            sequence: 1,
            documents: 2,
            chunks: 3,
            terms: 4,
            next_document: 5,
            next_chunk: 6,
            next_segment: 7,
        });
        for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
            comes_back(SpaceRecord { collection: 1, name: "s".into(), dims: 3, metric, per_block: 9 });
        }
        for title in [None, Some(String::new()), Some("T".to_owned())] {
            let id = DocumentId::from("a");
            comes_back(DocumentRecord { id, title, digest: [9; 16], first_chunk: 1, chunk_count: 2, text_bytes: 3 });
        }
        comes_back(ChunkRecord { document: 1, ordinal: 2, start: 3, end: 4, terms: 5, heading: "A > B".into() });
        comes_back(SegmentRecord { first: 1, end: 9, chunks: 8, version: 1, digest: 5 });
        comes_back(Tombstones((5..70_000).collect()));
        let key = CacheKey { model: [1; 32], task: 2, text: [3; 32], text_bytes: 4 };
        comes_back(CachedRecord { key, vector: vec![0.5, -1e-20, 3.0] });
        comes_back(CacheTotals { entries: 1, bytes: 2, next: 3, hits: 4, misses: 5 });
        comes_back(Moment(u64::MAX));
        comes_back(ChunkRange { first: 1, count: 2 });
        comes_back(Opaque(Vec::new()));
        comes_back(Opaque(vec![0, 255]));
        let metadata = json!({"b": 0.1, "a": [1, null, {"c": 0.300_000_000_000_000_04}], "n": u64::MAX, "m": i64::MIN});
        comes_back(Json(metadata.as_object().unwrap().clone()));
    }

    /// Files that are out there have these bytes. Where this fails, a record needs a new version beside the old one.
    #[test]
    fn the_bytes_of_a_record_do_not_change() {
        fn bytes<R: Record>(place: Place<'_>, record: &R) -> String {
            encode(place, record).iter().map(|byte| format!("{byte:02x}")).collect()
        }
        let (id, title) = (DocumentId::from(7), Some("T".to_owned()));
        let document = DocumentRecord { id, title, digest: [9; 16], first_chunk: 3, chunk_count: 4, text_bytes: 5 };
        let chunk = ChunkRecord { document: 1, ordinal: 2, start: 3, end: 4, terms: 5, heading: "A".into() };
        let found = [
            bytes(Place::new("documents", (1, 2)), &document),
            bytes(Place::new("chunks", (1, 2)), &chunk),
            bytes(Place::new("meta", "format"), &Number(1)),
            bytes(Place::new("document_ids", (1, b"\x01a".as_slice())), &Number(1)),
            bytes(Place::new("collections", 1_u32), &Number(1)),
        ];
        let expected = [
            "0109090909090909090909090909090909030000000400000005000000090000000080000000000000070101000000\
             54e5dfab8c8b489001",
            "01010000000200000003000000040000000500000001000000413261e117cf528b50",
            "01010000009b7fc5c86680157a",
            "01010000001fa2c813916da577",
            "0101000000a493ee8c6ef4892b",
        ];
        assert_eq!(found, expected);
    }
}
