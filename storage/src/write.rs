//! How does a batch become one transaction?
//!
//! Everything that can be refused is refused before the transaction begins; text is analysed before it begins too. Within
//! it, a document that is replaced keeps its number, its old chunks become tombstones and their rows go, and new chunks
//! are appended. The next view is made before the commit, so that nobody waits for it afterwards.
//!
//! Invariants: all of a batch happens or nothing; chunk numbers are never used twice; the totals in the collection's
//! record are those of what lives, in the same transaction.

use std::collections::HashMap;

use redb::{ReadableTable, Table, TableHandle, WriteTransaction};
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::cache::Cache;
use crate::codec::{
    ChunkRange, ChunkRecord, CollectionRecord, DocumentRecord, Json, Place, SpaceRecord, Tombstones, encode_block,
    encode_text, open_block,
};
use crate::engine::{Engine, Outcome, Writer, next_sequence, unknown};
use crate::error::engine;
use crate::expiry::{Expired, Expiries};
use crate::keys::encode_id;
use crate::roster::{Entry, RosterRun};
use crate::tables::{
    Bytes, CHUNKS, COLLECTIONS, DOCUMENT_IDS, DOCUMENTS, METADATA, Pair, SPACES, TEXTS, TOMBSTONES, VECTORS,
};
use crate::text::{TextRun, index_text};
use crate::vectors::VectorRun;
use crate::view::{Change, View};
use crate::{
    Alongside, CollectionId, DocumentId, Error, Expected, NewChunk, NewDocument, Operation, Result, Written, passages,
    rows, validate,
};

/// Expired documents that one commit removes at most, so that none becomes long for them.
const SWEPT_AT_ONCE: usize = 1024;

/// Applies a batch to a collection, durably.
///
/// # Errors
/// [`Error::InvalidInput`], [`Error::DimensionMismatch`] or [`Error::DiskFull`] before anything is written;
/// [`Error::Poisoned`]; whatever the disk says.
pub(crate) fn write(
    engine: &Engine,
    collection: CollectionId,
    batch: &[Operation],
    along: &Alongside,
) -> Result<Written> {
    along.validate()?;
    if batch.is_empty() {
        return write_alongside(engine, collection, along);
    }
    let settings = std::sync::Arc::clone(&engine.current_view(collection)?.settings);
    batch.iter().try_for_each(|operation| validate::operation(&settings, operation))?;
    let batch = last_of_each(batch);
    let removes = along.only_removes() && batch.iter().all(|operation| matches!(*operation, Operation::Delete(_)));
    // Another database may be there now, with a reserve of its own.
    engine.confirm_site()?;
    if removes {
        engine.space.ask_to_remove();
    } else {
        let bytes = batch.iter().map(|operation| bytes_on_disk(operation)).sum::<u64>() + along.bytes_on_disk();
        if engine.space.ask(bytes + engine.cache.bytes_on_disk()).is_err() {
            engine.cache.forget();
            engine.space.ask(bytes)?;
        }
    }
    let attempt = || {
        let texts = index_texts(&batch);
        let mut writer = engine.writer()?;
        let view = engine.current_view(collection)?;
        let cache = (!removes).then_some(&engine.cache);
        let along = Along { edits: along, cache, now: engine.clock.now() };
        Ok(commit(&mut writer, collection, &view, &batch, texts, along)?.0)
    };
    match attempt() {
        // The reserve is for this.
        Err(Error::DiskFull { .. }) if removes && engine.confirm_site().is_ok() && engine.space.give_up() => attempt(),
        other => other,
    }
}

/// Writes what comes without an operation. The collection need not be in memory for it, and its content stays the same.
fn write_alongside(engine: &Engine, collection: CollectionId, along: &Alongside) -> Result<Written> {
    if along.is_empty() {
        return Ok(Written::default());
    }
    engine.confirm_site()?;
    if along.only_removes() {
        engine.space.ask_to_remove();
    } else {
        engine.space.ask(along.bytes_on_disk())?;
    }
    engine.writer()?.transact(|transaction| {
        let collections = transaction.open_table(COLLECTIONS).map_err(crate::error::engine)?;
        let record: Option<CollectionRecord> = rows::get_numbered(&collections, COLLECTIONS, collection.0)?;
        record.ok_or_else(|| unknown(collection))?;
        Ok((Written::default(), alongside_alone(transaction, collection, along)?))
    })
}

/// What a transaction comes to that changes no document.
fn alongside_alone(transaction: &WriteTransaction, collection: CollectionId, along: &Alongside) -> Result<Outcome> {
    if !along.write(transaction, collection.0)? {
        return Ok(Outcome::Nothing);
    }
    next_sequence(transaction)?;
    Ok(Outcome::Commit)
}

/// About what a document takes: its content, and once more for what is derived from it and for copies on write.
fn bytes_on_disk(operation: &Operation) -> u64 {
    let Operation::Put(document) = operation else { return 0 };
    let numbers = |chunk: &NewChunk| chunk.vectors.iter().map(Vec::len).sum::<usize>();
    let vectors: usize = document.chunks.iter().map(|chunk| size_of::<f32>() * numbers(chunk)).sum();
    2 * (document.text.len() + vectors) as u64
}

/// Writes documents anew as they are, so that their chunks get the next numbers; of those that were replaced or deleted
/// since they were read, nothing. With each comes the number of its first chunk, which no other chunk ever has.
///
/// # Errors
/// As [`write`].
pub(crate) fn rewrite(
    engine: &Engine,
    collection: CollectionId,
    documents: Vec<(u32, NewDocument)>,
) -> Result<Written> {
    let mut writer = engine.writer()?;
    engine.space.ask_to_remove();
    let view = engine.current_view(collection)?;
    let unchanged = documents.into_iter().filter(|(first, _)| view.is_live(*first));
    let batch: Vec<Operation> = unchanged.map(|(_, document)| Operation::Put(Box::new(document))).collect();
    let batch: Vec<&Operation> = batch.iter().collect();
    let texts = index_texts(&batch);
    let along = Along { edits: &Alongside::default(), cache: None, now: engine.clock.now() };
    Ok(commit(&mut writer, collection, &view, &batch, texts, along)?.0)
}

/// Removes what has expired, in batches; returns how many documents that were.
///
/// # Errors
/// As [`write`].
pub(crate) fn sweep(engine: &Engine, collection: CollectionId) -> Result<u64> {
    let mut removed = 0;
    loop {
        let transaction = engine.begin_read()?;
        if Expired::at(&transaction, collection.0, engine.clock.now())?.documents.is_empty() {
            return Ok(removed);
        }
        drop(transaction);
        let mut writer = engine.writer()?;
        engine.space.ask_to_remove();
        let view = engine.current_view(collection)?;
        let along = Along { edits: &Alongside::default(), cache: None, now: engine.clock.now() };
        removed += commit(&mut writer, collection, &view, &[], Vec::new(), along)?.1;
    }
}

/// What goes into the transaction of a batch beside it.
struct Along<'a> {
    edits: &'a Alongside,
    /// Where there is room for what waits to be cached.
    cache: Option<&'a Cache>,
    /// What has expired by now goes, too.
    now: u64,
}

/// As [`write`], by whoever has the turn already. The batch names no document twice.
///
/// # Errors
/// As [`write`].
pub(crate) fn write_in_turn(
    engine: &Engine,
    writer: &mut Writer<'_>,
    collection: CollectionId,
    batch: &[Operation],
) -> Result<Written> {
    let view = engine.current_view(collection)?;
    batch.iter().try_for_each(|operation| validate::operation(&view.settings, operation))?;
    let batch: Vec<&Operation> = batch.iter().collect();
    let texts = index_texts(&batch);
    let along = Along { edits: &Alongside::default(), cache: None, now: engine.clock.now() };
    Ok(commit(writer, collection, &view, &batch, texts, along)?.0)
}

fn commit(
    writer: &mut Writer<'_>,
    collection: CollectionId,
    view: &View,
    batch: &[&Operation],
    mut texts: Vec<(u32, String)>,
    along: Along<'_>,
) -> Result<(Written, u64)> {
    // Before the commit, so that none goes by unseen; one that fails after all is seen for nothing.
    writer.feeds().note(collection.0, batch);
    validate::room(view.next_chunk, texts.len())?;
    for (number, (chunk, _)) in (view.next_chunk..).zip(&mut texts) {
        *chunk = number;
    }
    let text = passages::index(&view.analyzer, &texts);
    drop(texts);
    writer.transact(|transaction| apply(transaction, collection, view, batch, text, along))
}

/// Of several operations on one document the last one counts.
fn last_of_each(batch: &[Operation]) -> Vec<&Operation> {
    let mut last: HashMap<DocumentId, usize> = HashMap::with_capacity(batch.len());
    for (index, operation) in batch.iter().enumerate() {
        last.insert(operation.id().clone(), index);
    }
    let batch = batch.iter().enumerate();
    batch.filter(|(index, operation)| last.get(operation.id()) == Some(index)).map(|(_, operation)| operation).collect()
}

/// The index text of all new chunks, in the order of their numbers, which are not yet known.
fn index_texts(batch: &[&Operation]) -> Vec<(u32, String)> {
    let documents = batch.iter().filter_map(|operation| match *operation {
        Operation::Put(document) => Some(document),
        Operation::Delete(_) => None,
    });
    let texts = documents.flat_map(|document| {
        let NewDocument { title, text, chunks, .. } = document.as_ref();
        chunks.iter().map(|chunk| index_text(title.as_deref(), &chunk.heading, &text[chunk.start..chunk.end]))
    });
    texts.map(|text| (0, text)).collect()
}

fn apply(
    transaction: &WriteTransaction,
    collection: CollectionId,
    view: &View,
    batch: &[&Operation],
    text: TextRun,
    along: Along<'_>,
) -> Result<((Written, u64), Outcome)> {
    let mut work = Work::begin(transaction, collection, view, along.now)?;
    work.sweep()?;
    work.expect(&along.edits.expected)?;
    for operation in batch {
        match *operation {
            Operation::Put(document) => work.put(document, &text)?,
            Operation::Delete(id) => work.delete(id)?,
        }
    }
    if work.written == Written::default() && work.swept == 0 {
        return Ok(((Written::default(), 0), alongside_alone(transaction, collection, along.edits)?));
    }
    along.edits.write(transaction, collection.0)?;
    along.cache.map_or(Ok(()), |cache| cache.write(transaction))?;
    let vectors = work.append_vectors(view)?;
    work.bury(view, transaction)?;
    work.record.sequence = next_sequence(transaction)?;
    rows::put_numbered(&mut work.collections, COLLECTIONS, collection.0, &work.record)?;
    let change = Change { removed: work.removed, entries: work.entries, vectors, text };
    let next = view.after(change, &work.record);
    Ok(((work.written, work.swept), Outcome::Publish(collection.0, Arc::new(next))))
}

/// A batch on its way into the tables.
struct Work<'a> {
    collection: u32,
    record: CollectionRecord,
    collections: Table<'a, u32, Bytes>,
    ids: Table<'a, (u32, &'static [u8]), Bytes>,
    documents: Table<'a, Pair, Bytes>,
    texts: Table<'a, Pair, Bytes>,
    metadata: Table<'a, Pair, Bytes>,
    chunks: Table<'a, Pair, Bytes>,
    vectors: Table<'a, Pair, Bytes>,
    spaces: Vec<(u32, SpaceRecord)>,
    removed: RoaringBitmap,
    entries: RosterRun,
    /// The chunks that are new, each with its vectors, in the order of their numbers.
    appended: Vec<&'a NewChunk>,
    written: Written,
    expiries: Expiries<'a>,
    now: u64,
    /// Documents that had expired and are gone.
    swept: u64,
}

impl<'a> Work<'a> {
    fn begin(transaction: &'a WriteTransaction, collection: CollectionId, view: &View, now: u64) -> Result<Self> {
        let collections = transaction.open_table(COLLECTIONS).map_err(engine)?;
        let record: CollectionRecord =
            rows::get_numbered(&collections, COLLECTIONS, collection.0)?.ok_or_else(|| unknown(collection))?;
        if record.sequence != view.sequence {
            let (stored, seen) = (record.sequence, view.sequence);
            return Err(Error::Engine(format!("commit {stored} is stored, {seen} is in memory; this is a bug")));
        }
        let table = transaction.open_table(SPACES).map_err(engine)?;
        let space = |&space: &u32| {
            let found = rows::get_numbered(&table, SPACES, space)?;
            Ok((space, found.ok_or_else(|| rows::missing(Place::new(SPACES.name(), space)))?))
        };
        let spaces = record.spaces.iter().map(space).collect::<Result<_>>()?;
        let pairs = |definition| transaction.open_table(definition).map_err(engine);
        Ok(Self {
            collection: collection.0,
            record,
            collections,
            ids: transaction.open_table(DOCUMENT_IDS).map_err(engine)?,
            documents: pairs(DOCUMENTS)?,
            texts: pairs(TEXTS)?,
            metadata: pairs(METADATA)?,
            chunks: pairs(CHUNKS)?,
            vectors: pairs(VECTORS)?,
            spaces,
            removed: RoaringBitmap::new(),
            entries: RosterRun::default(),
            appended: Vec::new(),
            written: Written::default(),
            expiries: Expiries::open(transaction, collection.0)?,
            now,
            swept: 0,
        })
    }

    /// Compares what is there with what is expected.
    fn expect(&self, expected: &[Expected]) -> Result<()> {
        for expected in expected {
            let number = rows::get_id(&self.ids, (self.collection, &encode_id(&expected.id)))?;
            let found = match number {
                Some(number) if self.expiries.at(number)?.is_none_or(|at| at > self.now) => {
                    let record: DocumentRecord = rows::need(&self.documents, DOCUMENTS, (self.collection, number))?;
                    Some(record.digest)
                }
                Some(_) | None => None,
            };
            expected.compare(found)?;
        }
        Ok(())
    }

    fn put(&mut self, document: &'a NewDocument, text: &TextRun) -> Result<()> {
        let id_key = encode_id(&document.id);
        let number = match rows::get_id(&self.ids, (self.collection, &id_key))? {
            Some(number) => {
                self.unlink_chunks(number)?;
                if self.was_hidden(number)? {
                    self.written.added += 1;
                } else {
                    self.written.replaced += 1;
                }
                number
            }
            None => {
                let number = self.record.next_document;
                self.record.next_document = validate::next_document(number)?;
                self.record.documents += 1;
                rows::put_id(&mut self.ids, (self.collection, &id_key), number)?;
                self.written.added += 1;
                number
            }
        };
        let first = self.record.next_chunk;
        let count = document.chunks.len() as u32;
        self.put_document(number, document, first)?;
        for (ordinal, chunk) in (0..).zip(&document.chunks) {
            self.put_chunk(number, first + ordinal, ordinal, chunk, text)?;
        }
        self.record.next_chunk = first + count;
        self.record.chunks += u64::from(count);
        self.written.chunks += u64::from(count);
        self.entries.push(Entry { first, count, document: number, id_key: &id_key });
        if let Some(at) = document.expires_at {
            self.expiries.put(number, at, ChunkRange { first, count })?;
        }
        Ok(())
    }

    fn put_document(&mut self, number: u32, document: &NewDocument, first_chunk: u32) -> Result<()> {
        let NewDocument { id, title, text, metadata, digest, expires_at: _, chunks } = document;
        let key = (self.collection, number);
        let record = DocumentRecord {
            id: id.clone(),
            title: title.clone(),
            digest: *digest,
            first_chunk,
            chunk_count: chunks.len() as u32,
            text_bytes: text.len() as u32,
        };
        rows::put(&mut self.documents, DOCUMENTS, key, &record)?;
        rows::put(&mut self.metadata, METADATA, key, &Json(metadata.clone()))?;
        rows::put_bytes(&mut self.texts, key, &encode_text(Place::new(TEXTS.name(), key), text))
    }

    fn put_chunk(
        &mut self,
        document: u32,
        number: u32,
        ordinal: u32,
        chunk: &'a NewChunk,
        text: &TextRun,
    ) -> Result<()> {
        let terms = text.term_count(number);
        self.record.terms += u64::from(terms);
        let NewChunk { start, end, heading, vectors: _ } = chunk;
        let record =
            ChunkRecord { document, ordinal, start: *start as u32, end: *end as u32, terms, heading: heading.clone() };
        self.appended.push(chunk);
        rows::put(&mut self.chunks, CHUNKS, (self.collection, number), &record)
    }

    fn delete(&mut self, id: &DocumentId) -> Result<()> {
        let id_key = encode_id(id);
        let Some(number) = rows::get_id(&self.ids, (self.collection, &id_key))? else { return Ok(()) };
        if self.was_hidden(number)? {
            self.swept += 1;
        } else {
            self.written.removed += 1;
        }
        self.remove(number, &id_key)
    }

    /// Forgets when a document expires. Returns whether that has passed, so that nobody saw it any more.
    fn was_hidden(&mut self, document: u32) -> Result<bool> {
        Ok(self.expiries.remove(document)?.is_some_and(|at| at <= self.now))
    }

    /// Removes some of what has expired.
    fn sweep(&mut self) -> Result<()> {
        for number in self.expiries.expired(self.now, SWEPT_AT_ONCE)? {
            let record: DocumentRecord = rows::need(&self.documents, DOCUMENTS, (self.collection, number))?;
            self.expiries.remove(number)?;
            self.swept += 1;
            self.remove(number, &encode_id(&record.id))?;
        }
        Ok(())
    }

    fn remove(&mut self, number: u32, id_key: &[u8]) -> Result<()> {
        self.unlink_chunks(number)?;
        self.ids.remove((self.collection, id_key)).map_err(engine)?;
        let key = (self.collection, number);
        for table in [&mut self.documents, &mut self.texts, &mut self.metadata] {
            table.remove(key).map_err(engine)?;
        }
        self.record.documents = self.less(self.record.documents, 1)?;
        Ok(())
    }

    /// Removes the rows of a document's chunks and counts them out.
    fn unlink_chunks(&mut self, document: u32) -> Result<()> {
        let record: DocumentRecord = rows::need(&self.documents, DOCUMENTS, (self.collection, document))?;
        for chunk in record.chunks() {
            let key = (self.collection, chunk);
            let old: ChunkRecord = rows::need(&self.chunks, CHUNKS, key)?;
            self.chunks.remove(key).map_err(engine)?;
            self.record.terms = self.less(self.record.terms, u64::from(old.terms))?;
        }
        self.record.chunks = self.less(self.record.chunks, u64::from(record.chunk_count))?;
        self.removed.insert_range(record.chunks());
        Ok(())
    }

    fn less(&self, total: u64, part: u64) -> Result<u64> {
        let place = Place::new(COLLECTIONS.name(), self.collection);
        total.checked_sub(part).ok_or_else(|| place.corrupt(format!("a total of {total} cannot lose {part}")))
    }

    /// Appends the vectors of the new chunks, and returns them as runs, one a space.
    fn append_vectors(&mut self, view: &View) -> Result<Vec<VectorRun>> {
        let first = view.next_chunk;
        let mut runs = Vec::with_capacity(self.spaces.len());
        for (index, (space, record)) in self.spaces.iter().enumerate() {
            let rows: Vec<&[f32]> = self.appended.iter().map(|chunk| chunk.vectors[index].as_slice()).collect();
            append_blocks(&mut self.vectors, *space, record, first, &rows)?;
            let mut run = VectorRun::new(record.dims as usize);
            run.reserve(rows.len());
            for (chunk, row) in (first..).zip(rows) {
                run.push(record.metric, chunk, row.iter().copied());
            }
            runs.push(run);
        }
        Ok(runs)
    }

    /// Writes the tombstones, and removes the blocks that hold nothing else.
    fn bury(&mut self, view: &View, transaction: &WriteTransaction) -> Result<()> {
        if self.removed.is_empty() {
            return Ok(());
        }
        let mut dead = view.dead.as_ref() | &self.removed;
        for (space, record) in &self.spaces {
            free_blocks(&mut self.vectors, *space, record.per_block, &self.removed, &dead, self.record.next_chunk)?;
        }
        dead.optimize();
        let mut table = transaction.open_table(TOMBSTONES).map_err(engine)?;
        rows::put_numbered(&mut table, TOMBSTONES, self.collection, &Tombstones(dead))
    }
}

/// Writes the vectors of consecutive chunks from `first` on. Only the last block that was there is written again.
fn append_blocks(
    table: &mut Table<'_, Pair, Bytes>,
    space: u32,
    record: &SpaceRecord,
    first: u32,
    mut rows: &[&[f32]],
) -> Result<()> {
    let (dims, per_block) = (record.dims as usize, record.per_block as usize);
    let (mut block, mut filled) = (first / record.per_block, first as usize % per_block);
    while !rows.is_empty() {
        let key = (space, block);
        let place = Place::new(VECTORS.name(), key);
        let kept = if filled > 0 { kept_rows(table, place, key, dims, filled)? } else { Vec::new() };
        let (now, later) = rows.split_at(rows.len().min(per_block - filled));
        rows::put_bytes(table, key, &encode_block(place, dims, &kept, now.iter().copied()))?;
        (rows, block, filled) = (later, block + 1, 0);
    }
    Ok(())
}

/// The vectors that a partly filled block holds.
fn kept_rows(
    table: &impl ReadableTable<Pair, Bytes>,
    place: Place<'_>,
    key: Pair,
    dims: usize,
    filled: usize,
) -> Result<Vec<u8>> {
    let row = table.get(key).map_err(engine)?.ok_or_else(|| rows::missing(place))?;
    let block = open_block(place, dims, row.value())?;
    if block.slots != filled {
        return Err(place.corrupt(format!("it holds {} vectors; {filled} should be there", block.slots)));
    }
    Ok(block.rows().to_vec())
}

/// Removes each full block that lost its last live chunk just now.
fn free_blocks(
    table: &mut Table<'_, Pair, Bytes>,
    space: u32,
    per_block: u32,
    removed: &RoaringBitmap,
    dead: &RoaringBitmap,
    next_chunk: u32,
) -> Result<()> {
    let mut last = None;
    for block in removed.iter().map(|chunk| chunk / per_block) {
        if last.replace(block) == Some(block) {
            continue;
        }
        let first = u64::from(block) * u64::from(per_block);
        let end = first + u64::from(per_block);
        if end <= u64::from(next_chunk) && dead.contains_range(first as u32..end as u32) {
            table.remove((space, block)).map_err(engine)?;
        }
    }
    Ok(())
}
