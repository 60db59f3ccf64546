//! What does a collection hold, and what of it answers, as of one moment?
//!
//! A [`Snapshot`] pairs a redb read transaction with the view in memory of the same commit.
//!
//! Invariants: what it answers never changes, whatever is written meanwhile; every record's checksum is compared before
//! it is believed; results depend on content alone, equal scores standing in order of document id and ordinal.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock, PoisonError};

use redb::{ReadTransaction, TableHandle};
use roaring::RoaringBitmap;
use serde_json::{Map, Value};

use crate::best::Best;
use crate::codec::{
    ChunkRecord, CollectionRecord, DocumentRecord, Json, Place, SpaceRecord, decode_text, decode_text_range, open_block,
};
use crate::engine::{Engine, Pinned};
use crate::error::engine;
use crate::expiry::{self, Expired};
use crate::guard::damage_as_error;
use crate::handle::{Lease, Reading};
use crate::keys::{decode_id, encode_id};
use crate::load::{space_record, stand_in};
use crate::tables::{CHUNKS, DOCUMENT_IDS, DOCUMENTS, METADATA, TEXTS, VECTORS};
use crate::text::Scored;
use crate::vectors::Column;
use crate::view::View;
use crate::{
    ChunkNumber, CollectionId, DocumentHead, DocumentId, Effort, Error, HydratedChunk, Nearest, NewChunk, NewDocument,
    Result, StoredChunk, StoredDocument, rows, validate,
};

mod filtered;
mod text;

pub use text::TextMatches;

/// A collection as of one commit. Cheap to clone and to send between threads.
///
/// While it lives, redb keeps the pages that it sees, and the file grows with every write; so do not keep it for long, or
/// have [`Store::set_snapshot_age_max`](crate::Store::set_snapshot_age_max) end it: from then on whatever is read of it is
/// [`Error::Expired`].
#[derive(Clone)]
pub struct Snapshot(Arc<Inner>);

struct Inner {
    collection: u32,
    record: CollectionRecord,
    view: std::result::Result<Arc<View>, crate::engine::Damage>,
    lease: Arc<Lease>,
    /// When it was taken: what expires later is in it.
    now: u64,
    expired: OnceLock<Arc<Expired>>,
    // Last, so that the database is closed after the transaction.
    _engine: Arc<Engine>,
}

/// The answer to a text query.
#[derive(Clone, Debug)]
pub struct TextHits {
    /// The best chunks and their BM25 scores, best first.
    pub hits: Vec<(ChunkNumber, f32)>,
    /// What no chunk can exceed for this query: the sum of `idf * (k1 + 1)` over its terms.
    pub maximum: f32,
    /// Occurrences of terms left out, because the query had more than 1,024 distinct ones.
    pub terms_dropped: u64,
    /// Bytes left out, because the query was longer than 32 KiB.
    pub bytes_dropped: u64,
    /// Prefixes and fuzzy words of the syntax for which only 64 of the terms that they match were looked up.
    pub words_capped: Vec<String>,
    scored: Arc<Scored>,
}

impl TextHits {
    /// The score of any live chunk for the same query; 0 where no term matches.
    pub fn score(&self, chunk: ChunkNumber) -> f32 {
        self.scored.score(chunk.0)
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Inner { collection, record, .. } = self.0.as_ref();
        f.debug_struct("Snapshot").field("collection", collection).field("sequence", &record.sequence).finish()
    }
}

impl Snapshot {
    pub(crate) fn new(engine: Arc<Engine>, collection: CollectionId, pinned: Pinned) -> Self {
        Self::of(engine, collection, pinned, Reading::lease)
    }

    /// One that no write ends, however old it becomes: for work of our own, which lets it go.
    pub(crate) fn kept(engine: &Arc<Engine>, collection: CollectionId) -> Result<Self> {
        Ok(Self::of(Arc::clone(engine), collection, engine.pin(collection)?, Reading::keep))
    }

    fn of(
        engine: Arc<Engine>,
        collection: CollectionId,
        pinned: Pinned,
        lease: impl FnOnce(Reading) -> Arc<Lease>,
    ) -> Self {
        let Pinned { transaction, record, view } = pinned;
        let now = engine.clock.now();
        let lease = lease(transaction);
        let expired = OnceLock::new();
        Self(Arc::new(Inner { collection: collection.0, record, view, lease, now, expired, _engine: engine }))
    }

    /// The view, where nothing that it is made of is damaged.
    pub(crate) fn view(&self) -> Result<&View> {
        self.0.view.as_deref().map_err(crate::engine::Damage::error)
    }

    /// The transaction, until the database takes it back.
    ///
    /// # Errors
    /// [`Error::Expired`] where it has.
    pub(crate) fn transaction(&self) -> Result<Arc<ReadTransaction>> {
        self.0.lease.transaction()
    }

    /// Runs a read of redb or of files. All that the public functions read, they read in here, so that damage which the
    /// engine below answers with a panic is an error like any other, and other reads go on.
    fn guarded<T>(&self, read: impl FnOnce() -> Result<T>) -> Result<T> {
        // What is in memory would answer still: half a snapshot.
        let _stays = self.transaction()?;
        damage_as_error("data.redb", read)
    }

    /// What had expired when this was taken.
    fn expired(&self) -> Result<&Expired> {
        let Inner { collection, view, now, expired, .. } = self.0.as_ref();
        if let Some(expired) = expired.get() {
            return Ok(expired);
        }
        let read = || Expired::at(&*self.transaction()?, *collection, *now);
        let found = match view {
            Ok(view) => {
                let mut last = view.expired.lock().unwrap_or_else(PoisonError::into_inner);
                match last.as_ref().filter(|last| last.holds_at(*now)) {
                    Some(last) => Arc::clone(last),
                    None => Arc::clone(last.insert(Arc::new(read()?))),
                }
            }
            Err(_) => Arc::new(read()?),
        };
        Ok(expired.get_or_init(|| found))
    }

    /// Of what is allowed, what has not expired; `None` where all that lives is.
    fn unexpired<'a>(&self, allowed: Option<&'a RoaringBitmap>) -> Result<Option<Cow<'a, RoaringBitmap>>> {
        let gone = &self.expired()?.chunks;
        Ok(match allowed {
            allowed if gone.is_empty() => allowed.map(Cow::Borrowed),
            Some(allowed) => Some(Cow::Owned(allowed - gone)),
            None => Some(Cow::Owned(self.view()?.live_without(gone))),
        })
    }

    fn key(&self, number: u32) -> (u32, u32) {
        (self.0.collection, number)
    }

    /// Live documents.
    pub fn documents(&self) -> u64 {
        // What cannot be read is an error of whatever else is asked.
        self.0.record.documents - self.expired().map_or(0, |expired| expired.documents.len())
    }

    /// Live chunks.
    pub fn chunks(&self) -> u64 {
        self.0.record.chunks - self.expired().map_or(0, |expired| expired.chunks.len())
    }

    /// Sealed segments.
    pub fn segments(&self) -> u64 {
        self.0.view.as_ref().map_or(0, |view| view.segments.len() as u64)
    }

    // Documents.

    fn number_of(&self, id: &DocumentId) -> Result<Option<u32>> {
        let ids = rows::open(&*self.transaction()?, DOCUMENT_IDS)?;
        rows::get_id(&ids, (self.0.collection, &encode_id(id)))
    }

    /// As [`Snapshot::number_of`]; `None` where it has expired.
    fn visible_number_of(&self, id: &DocumentId) -> Result<Option<u32>> {
        let number = self.number_of(id)?;
        let gone = &self.expired()?.documents;
        Ok(number.filter(|number| !gone.contains(*number)))
    }

    fn document_record(&self, number: u32) -> Result<DocumentRecord> {
        rows::need(&rows::open(&*self.transaction()?, DOCUMENTS)?, DOCUMENTS, self.key(number))
    }

    fn metadata(&self, number: u32) -> Result<Map<String, Value>> {
        let json: Json = rows::need(&rows::open(&*self.transaction()?, METADATA)?, METADATA, self.key(number))?;
        Ok(json.0)
    }

    /// The digest that a document was stored with; `None` where there is none of this id.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a record is damaged.
    pub fn digest(&self, id: &DocumentId) -> Result<Option<[u8; 16]>> {
        self.guarded(|| {
            let Some(number) = self.visible_number_of(id)? else { return Ok(None) };
            Ok(Some(self.document_record(number)?.digest))
        })
    }

    /// A document; `None` where there is none of this id.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a record is damaged.
    pub fn document(&self, id: &DocumentId) -> Result<Option<StoredDocument>> {
        self.guarded(|| self.visible_number_of(id)?.map(|number| self.stored_document(number)).transpose())
    }

    fn stored_document(&self, number: u32) -> Result<StoredDocument> {
        let DocumentRecord { id, title, digest, .. } = self.document_record(number)?;
        let place = Place::new(TEXTS.name(), self.key(number));
        let texts = rows::open(&*self.transaction()?, TEXTS)?;
        let row = texts.get(self.key(number)).map_err(engine)?.ok_or_else(|| rows::missing(place))?;
        let text = decode_text(place, row.value())?;
        let expires_at = expiry::of_document(&*self.transaction()?, self.key(number))?;
        Ok(StoredDocument { id, title, text, metadata: self.metadata(number)?, digest, expires_at })
    }

    /// The chunks of a document, in order, with their vectors as given; empty where there is no such document.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a record is damaged.
    pub fn stored_chunks(&self, id: &DocumentId) -> Result<Vec<StoredChunk>> {
        self.first_chunks(id, usize::MAX)
    }

    /// The first chunk of a document, with its vectors as given; `None` where it has no chunk or there is no such document.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a record is damaged.
    pub fn first_chunk(&self, id: &DocumentId) -> Result<Option<StoredChunk>> {
        Ok(self.first_chunks(id, 1)?.pop())
    }

    fn first_chunks(&self, id: &DocumentId, chunks_max: usize) -> Result<Vec<StoredChunk>> {
        self.guarded(|| {
            let Some(number) = self.visible_number_of(id)? else { return Ok(Vec::new()) };
            let table = rows::open(&*self.transaction()?, CHUNKS)?;
            let spaces =
                self.0.record.spaces.iter().map(|&space| Ok((space, space_record(&*self.transaction()?, space)?)));
            let spaces = spaces.collect::<Result<Vec<_>>>()?;
            let Range { start, end } = self.document_record(number)?.chunks();
            let chunks = start..end.min(start.saturating_add(u32::try_from(chunks_max).unwrap_or(u32::MAX)));
            let vectors = spaces.iter().map(|(space, record)| self.stored_vectors(*space, record, chunks.clone()));
            let mut vectors = vectors.map(|of_space| Ok(of_space?.into_iter())).collect::<Result<Vec<_>>>()?;
            let chunk = |chunk| {
                let record: ChunkRecord = rows::need(&table, CHUNKS, self.key(chunk))?;
                let ChunkRecord { ordinal, start, end, heading, .. } = record;
                let vectors = vectors.iter_mut().filter_map(Iterator::next).collect();
                Ok(StoredChunk { ordinal, start: start as usize, end: end as usize, heading, vectors })
            };
            chunks.map(chunk).collect()
        })
    }

    fn stored_vector(&self, space: u32, record: &SpaceRecord, chunk: u32) -> Result<Vec<f32>> {
        let mut vectors = self.stored_vectors(space, record, chunk..chunk + 1)?;
        vectors.pop().ok_or_else(|| not_live(ChunkNumber(chunk)))
    }

    /// The vectors of chunks that follow each other. Each block is read, and its checksum made, once.
    fn stored_vectors(&self, space: u32, record: &SpaceRecord, chunks: Range<u32>) -> Result<Vec<Vec<f32>>> {
        let table = rows::open(&*self.transaction()?, VECTORS)?;
        let mut vectors = Vec::with_capacity(chunks.len());
        let mut next = chunks.start;
        while next < chunks.end {
            let key = (space, next / record.per_block);
            let place = Place::new(VECTORS.name(), key);
            let row = table.get(key).map_err(engine)?.ok_or_else(|| rows::missing(place))?;
            let block = open_block(place, record.dims as usize, row.value())?;
            let slot = next % record.per_block;
            let end = chunks.end.min(next.saturating_add(record.per_block - slot));
            for chunk in next..end {
                let vector = block.row((chunk % record.per_block) as usize);
                vectors.push(vector.ok_or_else(|| place.corrupt(format!("it has no vector of chunk {chunk}")))?);
            }
            next = end;
        }
        Ok(vectors)
    }

    /// A document as it would have to be given to be stored as it is, and the number of its first chunk; `None` where it
    /// is not there or has no chunk.
    pub(crate) fn again(&self, id: &DocumentId) -> Result<Option<(u32, NewDocument)>> {
        let Some(number) = self.number_of(id)? else { return Ok(None) };
        let StoredDocument { id, title, text, metadata, digest, expires_at } = self.stored_document(number)?;
        let chunks: Vec<NewChunk> = self
            .stored_chunks(&id)?
            .into_iter()
            .map(|StoredChunk { ordinal: _, start, end, heading, vectors }| NewChunk { start, end, heading, vectors })
            .collect();
        let first = self.document_record(number)?.first_chunk;
        let document = NewDocument { id, title, text, metadata, digest, expires_at, chunks };
        Ok(Some((first, document)).filter(|(_, document)| !document.chunks.is_empty()))
    }

    /// The id of the document that has this chunk, and the number of its first chunk.
    pub(crate) fn owner(&self, chunk: u32) -> Result<Option<(u32, DocumentId)>> {
        let Some((first, number)) = self.ask(|view| view.owner(chunk, |entry| (entry.first, entry.document)))? else {
            return Ok(None);
        };
        Ok(Some((first, self.document_record(number)?.id)))
    }

    pub(crate) fn space_numbers(&self) -> &[u32] {
        &self.0.record.spaces
    }

    /// Up to `limit` documents in order of id, those after `after` where given.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a record is damaged.
    pub fn scan(&self, after: Option<&DocumentId>, limit: usize) -> Result<Vec<StoredDocument>> {
        self.guarded(|| {
            let mut documents = Vec::new();
            self.walk_ids(after, &mut |number, _| {
                if documents.len() < limit {
                    documents.push(self.stored_document(number)?);
                }
                Ok(documents.len() < limit)
            })?;
            Ok(documents)
        })
    }

    /// As [`Snapshot::scan`], without reading the texts.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a record is damaged.
    pub fn scan_heads(&self, after: Option<&DocumentId>, limit: usize) -> Result<Vec<DocumentHead>> {
        self.guarded(|| {
            let mut heads = Vec::new();
            self.walk_ids(after, &mut |number, _| {
                if heads.len() < limit {
                    let DocumentRecord { id, title, text_bytes, .. } = self.document_record(number)?;
                    let (text_bytes, metadata) = (u64::from(text_bytes), self.metadata(number)?);
                    heads.push(DocumentHead { id, title, text_bytes, metadata });
                }
                Ok(heads.len() < limit)
            })?;
            Ok(heads)
        })
    }

    /// The ids of all documents, in order.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a record is damaged.
    pub fn ids(&self) -> Result<Vec<DocumentId>> {
        self.guarded(|| {
            let mut ids = Vec::with_capacity(self.documents() as usize);
            self.walk_ids(None, &mut |_, id| {
                ids.push(id);
                Ok(true)
            })?;
            Ok(ids)
        })
    }

    /// Calls `each` with number and id of the documents in order of id, until it returns `false`.
    fn walk_ids(
        &self,
        after: Option<&DocumentId>,
        each: &mut dyn FnMut(u32, DocumentId) -> Result<bool>,
    ) -> Result<()> {
        use std::ops::Bound::{Excluded, Included};
        let (collection, gone) = (self.0.collection, &self.expired()?.documents);
        let start = after.map(encode_id);
        let start = start.as_deref().map_or(Included((collection, [].as_slice())), |key| Excluded((collection, key)));
        let table = rows::open(&*self.transaction()?, DOCUMENT_IDS)?;
        let end = Excluded((collection + 1, [].as_slice()));
        for row in table.range::<(u32, &[u8])>((start, end)).map_err(engine)? {
            let (key, value) = row.map_err(engine)?;
            let place = Place::new(DOCUMENT_IDS.name(), key.value());
            let number: crate::codec::Number = crate::codec::decode(place, value.value())?;
            let id = decode_id(key.value().1).ok_or_else(|| place.corrupt("its key is no id"))?;
            if !gone.contains(number.0) && !each(number.0, id)? {
                break;
            }
        }
        Ok(())
    }

    // Chunks.

    fn chunk_record(&self, chunk: ChunkNumber) -> Result<ChunkRecord> {
        let table = rows::open(&*self.transaction()?, CHUNKS)?;
        let found = rows::get(&table, CHUNKS, self.key(chunk.0))?;
        found.ok_or_else(|| match &self.0.view {
            Ok(view) if !view.is_live(chunk.0) => not_live(chunk),
            Ok(_) | Err(_) => rows::missing(Place::new(CHUNKS.name(), self.key(chunk.0))),
        })
    }

    /// A chunk with its text and what is known of its document. Reads the part of the text that holds it.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a chunk that is not live here; [`Error::Corrupt`] where a record is damaged.
    pub fn hydrate(&self, chunk: ChunkNumber) -> Result<HydratedChunk> {
        self.guarded(|| {
            let ChunkRecord { document: number, ordinal, start, end, heading, .. } = self.chunk_record(chunk)?;
            let DocumentRecord { id, title, chunk_count, .. } = self.document_record(number)?;
            let (start, end) = (start as usize, end as usize);
            let text = self.text_range(number, start, end)?;
            let metadata = self.metadata(number)?;
            Ok(HydratedChunk {
                document: id,
                ordinal,
                start,
                end,
                heading,
                text,
                title,
                metadata,
                chunks_in_document: chunk_count,
            })
        })
    }

    /// Up to `chunks_max` live chunks, evenly from the oldest to the newest: the same ones each time, until something is
    /// written. Which ones depends on the order of the writes, unlike all that searches answer.
    ///
    /// Cost: a bit a chunk.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where what expired cannot be read.
    pub fn sample(&self, chunks_max: usize) -> Result<Vec<ChunkNumber>> {
        self.guarded(|| {
            let live = self.view()?.live_without(&self.expired()?.chunks);
            let (count, wanted) = (live.len(), (chunks_max as u64).min(live.len()));
            // A rank is below the number of chunks, which a u32 counts.
            let ranks = (0..wanted).map(|place| (place * count / wanted) as u32);
            Ok(ranks.filter_map(|rank| live.select(rank)).map(ChunkNumber).collect())
        })
    }

    fn text_range(&self, number: u32, start: usize, end: usize) -> Result<String> {
        let place = Place::new(TEXTS.name(), self.key(number));
        let texts = rows::open(&*self.transaction()?, TEXTS)?;
        let row = texts.get(self.key(number)).map_err(engine)?.ok_or_else(|| rows::missing(place))?;
        decode_text_range(place, row.value(), start, end)
    }

    /// The text of a document from one byte to another; `None` where there is no such document. Reads the part that holds it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the record is damaged, or the text has no such range.
    pub fn text_between(&self, id: &DocumentId, start: usize, end: usize) -> Result<Option<String>> {
        self.guarded(|| self.number_of(id)?.map(|number| self.text_range(number, start, end)).transpose())
    }

    /// The chunk of a document that is at this place among its chunks, as [`Snapshot::hydrate`] has it; `None` where there is
    /// none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a record is damaged.
    pub fn chunk_of(&self, id: &DocumentId, ordinal: u32) -> Result<Option<HydratedChunk>> {
        let number = self.guarded(|| {
            let Some(number) = self.number_of(id)? else { return Ok(None) };
            Ok(self.document_record(number)?.chunks().nth(ordinal as usize))
        })?;
        number.map(|number| self.hydrate(ChunkNumber(number))).transpose()
    }

    // Vectors.

    fn column(&self, space: usize) -> Result<&Column> {
        let columns = &self.view()?.columns;
        let count = columns.len();
        columns.get(space).ok_or_else(|| Error::invalid(format!("there is no space {space}; there are {count}")))
    }

    /// The column of a space, once the query is found to be of it.
    fn column_for(&self, space: usize, query: &[f32]) -> Result<&Column> {
        let column = self.column(space)?;
        validate::dimensions(&column.name, column.dims, query, "the query")?;
        validate::ranked(column.metric, query, "the query")?;
        Ok(column)
    }

    /// The vector of a chunk in a space (by its index in the settings), as given.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a chunk that is not live here; [`Error::Corrupt`] where its block is damaged.
    pub fn vector(&self, space: usize, chunk: ChunkNumber) -> Result<Vec<f32>> {
        self.guarded(|| {
            self.column(space)?;
            if !self.view()?.is_live(chunk.0) {
                return Err(not_live(chunk));
            }
            let number = self.0.record.spaces[space];
            self.stored_vector(number, &space_record(&*self.transaction()?, number)?, chunk.0)
        })
    }

    /// The `k` chunks whose vectors score best, best first: exact. `allowed` restricts them; fewer come back only where
    /// fewer there are.
    ///
    /// Cost: one pass over the vectors of the space (10,000 of 256 dimensions: some 0.5 ms on two cores), or over the
    /// allowed ones where they are few.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] or [`Error::InvalidInput`] for a query that cannot be compared.
    pub fn nearest(
        &self,
        space: usize,
        query: &[f32],
        k: usize,
        allowed: Option<&RoaringBitmap>,
    ) -> Result<Vec<(ChunkNumber, f32)>> {
        Ok(self.nearest_with(space, query, k, allowed, Effort::Exact)?.hits)
    }

    /// The `k` chunks whose vectors score best, best first, as far as this effort finds them; their scores are exact.
    /// Fewer come back only where fewer there are.
    ///
    /// Cost: a walk through the graph of each segment (100,000 vectors: some 0.1 ms), and a pass over the vectors that no
    /// segment holds yet.
    ///
    /// # Errors
    /// As [`Snapshot::nearest`].
    pub fn nearest_with(
        &self,
        space: usize,
        query: &[f32],
        k: usize,
        allowed: Option<&RoaringBitmap>,
        effort: Effort,
    ) -> Result<Nearest> {
        self.guarded(|| {
            self.column_for(space, query)?;
            let wanted = k.min(self.chunks() as usize);
            if wanted == 0 {
                return Ok(Nearest { hits: Vec::new(), segments: Vec::new() });
            }
            let allowed = self.unexpired(allowed)?;
            self.ask(|view| {
                let (best, segments) = view.nearest(space, query, wanted, allowed.as_deref(), effort)?;
                Ok(Nearest { hits: view.ranked(best)?, segments })
            })
        })
    }

    /// The scores that [`Snapshot::nearest`] gives these chunks, in their order.
    ///
    /// # Errors
    /// As [`Snapshot::nearest`]; [`Error::InvalidInput`] for a chunk that is not live here.
    pub fn similarities(&self, space: usize, query: &[f32], chunks: &[ChunkNumber]) -> Result<Vec<f32>> {
        self.guarded(|| {
            self.column_for(space, query)?;
            let view = self.view()?;
            if let Some(chunk) = chunks.iter().find(|chunk| !view.is_live(chunk.0)) {
                return Err(not_live(*chunk));
            }
            let scores = self.ask(|view| view.similarities(space, query, chunks.iter().map(|chunk| chunk.0)))?;
            chunks.iter().zip(scores).map(|(chunk, score)| score.ok_or_else(|| not_live(*chunk))).collect()
        })
    }

    // Text.

    /// Asks the view. Segments in which damage is met are loaded into memory from redb, and it is asked again: each failure
    /// finds one segment at least that was not known to be damaged, and redb has all that they hold.
    fn ask<T>(&self, ask: impl Fn(&View) -> Result<T>) -> Result<T> {
        let view = self.view()?;
        for _ in &view.segments {
            match ask(view) {
                Err(Error::Corrupt { .. }) => stand_in(&*self.transaction()?, self.0.collection, &self.0.record, view)?,
                answer => return answer,
            }
        }
        ask(view)
    }

    /// The `k` chunks that answer best by BM25, best first. Damage in a segment costs no answer, only the time to read
    /// the text of its chunks once; the next snapshot has it built again.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a segment is damaged, and the text in redb, too.
    pub fn search_text(&self, query: &str, k: usize, allowed: Option<&RoaringBitmap>) -> Result<TextHits> {
        self.guarded(|| {
            let scored = self.ask(|view| view.score_text(query))?;
            self.best_of_text(&Arc::new(scored), k, allowed)
        })
    }

    fn best_of_text(&self, scored: &Arc<Scored>, k: usize, allowed: Option<&RoaringBitmap>) -> Result<TextHits> {
        let mut best = Best::new(k.min(self.chunks() as usize));
        let gone = &self.expired()?.chunks;
        for (chunk, score) in scored.iter() {
            let is_allowed = allowed.is_none_or(|allowed| allowed.contains(chunk)) && !gone.contains(chunk);
            if score >= best.floor() && is_allowed {
                best.offer(chunk, score);
            }
        }
        let Scored { maximum, terms_dropped, bytes_dropped, .. } = **scored;
        Ok(TextHits {
            hits: self.ask(|view| view.ranked(best.clone()))?,
            maximum,
            terms_dropped,
            bytes_dropped,
            words_capped: Vec::new(),
            scored: Arc::clone(scored),
        })
    }

    /// The number of chunks that hold a word; `None` where the analyser makes no term of it. Remembered until the next
    /// write.
    ///
    /// # Errors
    /// As [`Snapshot::search_text`].
    pub fn document_frequency(&self, word: &str) -> Result<Option<u64>> {
        self.guarded(|| self.ask(|view| view.document_frequency(word)))
    }
}

fn not_live(chunk: ChunkNumber) -> Error {
    Error::invalid(format!("chunk {} is not in this snapshot; its document was replaced or deleted", chunk.0))
}
