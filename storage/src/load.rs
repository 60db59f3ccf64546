//! How does a collection come from redb into memory?
//!
//! One pass over its documents and vectors, one over the text of its unsealed chunks. Segments whose folder is missing or
//! damaged are indexed in memory from redb, so that search is right at once; so are those in which damage is met later, by
//! the first search that meets it. `seal` builds them anew.
//!
//! Invariants: nothing enters a view whose checksum did not fit; what is loaded agrees with the collection's totals.

use std::path::Path;
use std::sync::{Arc, Mutex};

use redb::{ReadTransaction, TableHandle};
use roaring::RoaringBitmap;

use crate::codec::{
    self, ChunkRecord, CollectionRecord, DocumentRecord, Place, SegmentRecord, SpaceRecord, Tombstones, VectorBlock,
    decode_rows, open_block,
};
use crate::error::engine;
use crate::files::segment_folder;
use crate::keys::encode_id;
use crate::roster::{Entry, RosterRun};
use crate::runs::{Run, Runs};
use crate::sealed::{Folder, SEGMENT_VERSION, Sealed, Span};
use crate::tables::{CHUNKS, COLLECTIONS, DOCUMENTS, SEGMENTS, SPACES, TOMBSTONES, VECTORS, pairs_of};
use crate::text::{Analyzer, TextRun};
use crate::vectors::{Column, VectorRun};
use crate::view::{View, statistics};
use crate::{CollectionSettings, Result, passages, rows};

/// Reads a collection as of this transaction.
///
/// Cost: the vectors and the text of its tail, of its segments the manifests.
///
/// # Errors
/// [`crate::Error::Corrupt`] naming the table and key that are damaged.
pub(crate) fn load(
    transaction: &ReadTransaction,
    folder: Option<&Path>,
    collection: u32,
    record: &CollectionRecord,
) -> Result<View> {
    let settings = Arc::new(settings_of(collection, record)?);
    let analyzer = Analyzer::new(&settings.analyzer);
    let dead = tombstones(transaction, collection)?;
    let segments = segments(transaction, folder, collection, record.spaces.len())?;
    let mut view = View {
        sequence: record.sequence,
        settings,
        analyzer,
        next_chunk: record.next_chunk,
        statistics: statistics(record),
        dead: Arc::new(dead),
        roster: Runs::default(),
        columns: Vec::new(),
        segments: segments.into_iter().map(Arc::new).collect(),
        text: Runs::default(),
        frequencies: Mutex::default(),
        filtered: Mutex::default(),
        expired: Mutex::default(),
    };
    let reader = Reader { transaction, collection, record };
    view.columns = reader.columns()?;
    for (first, end) in uncovered(&view.segments, record.next_chunk) {
        view.roster.push(reader.roster(&view, first, end)?, &RoaringBitmap::new());
        for (index, space) in record.spaces.iter().enumerate() {
            let run = reader.vectors(&view, *space, first, end)?;
            view.columns[index].runs.push(run, &RoaringBitmap::new());
        }
        for run in passages::index_range(transaction, &view.analyzer, collection, first, end)? {
            view.text.push(run, &RoaringBitmap::new());
        }
    }
    Ok(view)
}

/// The ranges of chunks that no open segment covers.
fn uncovered(segments: &[Arc<Sealed>], next_chunk: u32) -> Vec<(u32, u32)> {
    let mut next = 0;
    let mut ranges = Vec::new();
    let open = segments.iter().filter(|segment| segment.is_open());
    for (first, end) in open.map(|segment| (segment.record.first, segment.record.end)).chain([(next_chunk, next_chunk)])
    {
        if next < first {
            ranges.push((next, first));
        }
        next = end;
    }
    ranges
}

/// The settings of a collection, out of their JSON.
pub(crate) fn settings_of(collection: u32, record: &CollectionRecord) -> Result<CollectionSettings> {
    let damaged = |error: serde_json::Error| Place::new(COLLECTIONS.name(), collection).corrupt(error.to_string());
    serde_json::from_str(&record.settings).map_err(damaged)
}

/// The dead chunks of a collection.
pub(crate) fn tombstones(transaction: &ReadTransaction, collection: u32) -> Result<RoaringBitmap> {
    let table = rows::open(transaction, TOMBSTONES)?;
    let found: Option<Tombstones> = rows::get_numbered(&table, TOMBSTONES, collection)?;
    Ok(found.unwrap_or_default().0)
}

fn segments(
    transaction: &ReadTransaction,
    folder: Option<&Path>,
    collection: u32,
    spaces: usize,
) -> Result<Vec<Sealed>> {
    let table = rows::open(transaction, SEGMENTS)?;
    let mut segments = Vec::new();
    for row in table.range(pairs_of(collection)).map_err(engine)? {
        let (key, value) = row.map_err(engine)?;
        let (_, number) = key.value();
        // A damaged record is no loss: its chunks are indexed in memory and sealed anew, which removes the row.
        let record = codec::decode(Place::new(SEGMENTS.name(), key.value()), value.value());
        let Ok::<SegmentRecord, _>(record) = record else { continue };
        segments.push(match folder.filter(|_| record.version == SEGMENT_VERSION) {
            Some(folder) => {
                let opened = Folder::open(&segment_folder(folder, collection, number), &record, spaces);
                Sealed::found(number, record, opened)
            }
            None => Sealed::new(number, record, None),
        });
    }
    segments.sort_by_key(|segment| segment.record.first);
    Ok(segments)
}

/// Loads what the segments hold in which damage was met since the view was made. The transaction is of the view's commit.
///
/// # Errors
/// [`crate::Error::Corrupt`] where redb is damaged, too.
pub(crate) fn stand_in(
    transaction: &ReadTransaction,
    collection: u32,
    record: &CollectionRecord,
    view: &View,
) -> Result<()> {
    let reader = Reader { transaction, collection, record };
    let load = |segment: &Sealed| {
        let SegmentRecord { first, end, .. } = segment.record;
        let mut columns = reader.columns()?;
        for (column, &space) in columns.iter_mut().zip(&record.spaces) {
            column.runs.push(reader.vectors(view, space, first, end)?, &RoaringBitmap::new());
        }
        let text = passages::index_range(transaction, &view.analyzer, collection, first, end)?;
        let text = TextRun::merge(&text.iter().collect::<Vec<_>>());
        Ok(Span { roster: reader.roster(view, first, end)?, columns, text })
    };
    view.segments.iter().try_for_each(|segment| segment.stand_in_with(view.sequence, || load(segment)))
}

/// The record of a space.
pub(crate) fn space_record(transaction: &ReadTransaction, space: u32) -> Result<SpaceRecord> {
    let table = rows::open(transaction, SPACES)?;
    rows::get_numbered(&table, SPACES, space)?.ok_or_else(|| rows::missing(Place::new(SPACES.name(), space)))
}

/// A collection in redb, as of a transaction of the same commit as the views that are handed in.
pub(crate) struct Reader<'a> {
    pub(crate) transaction: &'a ReadTransaction,
    pub(crate) collection: u32,
    pub(crate) record: &'a CollectionRecord,
}

impl Reader<'_> {
    /// The spaces, without a vector yet.
    fn columns(&self) -> Result<Vec<Column>> {
        let column = |&space: &u32| {
            let SpaceRecord { name, dims, metric, .. } = space_record(self.transaction, space)?;
            Ok(Column { name, metric, dims: dims as usize, runs: Runs::default() })
        };
        self.record.spaces.iter().map(column).collect()
    }

    /// The documents whose chunks lie in `first..end`.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where a record is damaged, or there are not as many chunks as live there.
    pub(crate) fn roster(&self, view: &View, first: u32, end: u32) -> Result<RosterRun> {
        let table = rows::open(self.transaction, CHUNKS)?;
        let documents = rows::open(self.transaction, DOCUMENTS)?;
        let (mut run, mut found) = (RosterRun::default(), 0);
        for row in table.range((self.collection, first)..(self.collection, end)).map_err(engine)? {
            let (key, value) = row.map_err(engine)?;
            let chunk: ChunkRecord = codec::decode(Place::new(CHUNKS.name(), key.value()), value.value())?;
            found += 1;
            if chunk.ordinal > 0 {
                continue;
            }
            let document = chunk.document;
            let record: DocumentRecord = rows::need(&documents, DOCUMENTS, (self.collection, document))?;
            let DocumentRecord { id, first_chunk: first, chunk_count: count, .. } = record;
            run.push(Entry { first, count, document, id_key: &encode_id(&id) });
        }
        let live = view.live_between(first, end);
        if found != live || run.len() as u64 != live {
            let what = format!("{found} chunks are there from {first} to before {end}, {live} should be");
            return Err(Place::new(COLLECTIONS.name(), self.collection).corrupt(what));
        }
        Ok(run)
    }

    /// The vectors of the live chunks in `first..end`.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where a block is damaged or a vector is missing.
    pub(crate) fn vectors(&self, view: &View, space: u32, first: u32, end: u32) -> Result<VectorRun> {
        let SpaceRecord { dims, metric, .. } = space_record(self.transaction, space)?;
        let mut run = VectorRun::new(dims as usize);
        run.reserve(view.live_between(first, end) as usize);
        self.each_vector(view, space, first, end, |chunk, vector| {
            run.push(metric, chunk, decode_rows(vector));
            Ok(())
        })?;
        Ok(run)
    }

    /// Hands over the live chunks in `first..end`, each with the bytes of its vector.
    ///
    /// # Errors
    /// As [`Reader::vectors`]; those of `each`.
    pub(crate) fn each_vector(
        &self,
        view: &View,
        space: u32,
        first: u32,
        end: u32,
        mut each: impl FnMut(u32, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let SpaceRecord { dims, per_block, .. } = space_record(self.transaction, space)?;
        let (dims, mut found) = (dims as usize, 0);
        let table = rows::open(self.transaction, VECTORS)?;
        let blocks = (space, first / per_block)..=(space, end.saturating_sub(1) / per_block);
        for row in table.range(blocks).map_err(engine)? {
            let (key, value) = row.map_err(engine)?;
            let (_, block) = key.value();
            let opened: VectorBlock<'_> = open_block(Place::new(VECTORS.name(), key.value()), dims, value.value())?;
            let vectors = opened.rows().chunks_exact(dims * size_of::<f32>());
            let rows = (block * per_block..).zip(vectors).filter(|(chunk, _)| (first..end).contains(chunk));
            for (chunk, vector) in rows.filter(|(chunk, _)| view.is_live(*chunk)) {
                each(chunk, vector)?;
                found += 1;
            }
        }
        let live = view.live_between(first, end);
        if found != live {
            let what = format!("{found} vectors are there for {live} chunks");
            return Err(Place::new(SPACES.name(), space).corrupt(what));
        }
        Ok(())
    }
}
