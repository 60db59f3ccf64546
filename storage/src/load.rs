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
    self, CollectionRecord, DocumentRecord, Place, SegmentRecord, SpaceRecord, Tombstones, VectorBlock, decode_rows,
    open_block,
};
use crate::error::engine;
use crate::files::segment_folder;
use crate::keys::encode_id;
use crate::roster::{Entry, RosterRun};
use crate::runs::{Run, Runs};
use crate::segment::{SegmentDigest, SegmentFolder};
use crate::tables::{COLLECTIONS, DOCUMENTS, SEGMENTS, SPACES, TOMBSTONES, VECTORS, pairs_of};
use crate::text::{Analyzer, TextRun, TextSegment};
use crate::vectors::{Column, VectorRun};
use crate::view::{SEGMENT_VERSION, Sealed, View, statistics};
use crate::{CollectionSettings, Result, passages, rows};

/// Reads a collection as of this transaction.
///
/// Cost: its vectors once, the text of its tail once, of its segments the manifests.
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
    let segments = segments(transaction, folder, collection)?;
    let text = text(transaction, &analyzer, collection, record, &segments)?;
    let roster = roster(transaction, collection, record)?;
    let spaces = record.spaces.iter().map(|&space| column(transaction, space, record, &dead));
    let columns = spaces.collect::<Result<Vec<_>>>()?;
    Ok(View {
        sequence: record.sequence,
        settings,
        analyzer,
        next_chunk: record.next_chunk,
        statistics: statistics(record),
        dead: Arc::new(dead),
        roster,
        columns,
        segments: segments.into_iter().map(Arc::new).collect(),
        text,
        frequencies: Mutex::default(),
    })
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

fn segments(transaction: &ReadTransaction, folder: Option<&Path>, collection: u32) -> Result<Vec<Sealed>> {
    let table = rows::open(transaction, SEGMENTS)?;
    let mut segments = Vec::new();
    for row in table.range(pairs_of(collection)).map_err(engine)? {
        let (key, value) = row.map_err(engine)?;
        let (_, number) = key.value();
        // A damaged record is no loss: its chunks are indexed in memory and sealed anew, which removes the row.
        let record = codec::decode(Place::new(SEGMENTS.name(), key.value()), value.value());
        let Ok::<SegmentRecord, _>(record) = record else { continue };
        let current = folder.filter(|_| record.version == SEGMENT_VERSION);
        // Whatever is wrong with it, the text is in redb.
        let text = current.and_then(|folder| open_text(&segment_folder(folder, collection, number), &record).ok());
        segments.push(Sealed::new(number, record, text));
    }
    segments.sort_by_key(|segment| segment.record.first);
    Ok(segments)
}

/// Opens the text of a sealed segment.
///
/// # Errors
/// [`crate::Error::Corrupt`] where the folder is not what was built, as far as its manifest tells.
pub(crate) fn open_text(folder: &Path, record: &SegmentRecord) -> Result<TextSegment> {
    let folder = SegmentFolder::open(folder, SegmentDigest(record.digest))?;
    TextSegment::open(&folder, record.first..record.end)
}

/// Indexes in memory what the segments hold in which damage was met since the view was made. The transaction is of the
/// view's commit.
///
/// # Errors
/// [`crate::Error::Corrupt`] where redb is damaged, too.
pub(crate) fn stand_in(transaction: &ReadTransaction, collection: u32, view: &View) -> Result<()> {
    for segment in view.segments.iter().filter(|segment| segment.lacks_stand_in(view.sequence)) {
        let SegmentRecord { first, end, .. } = segment.record;
        let runs = passages::index_range(transaction, &view.analyzer, collection, first, end)?;
        segment.put_stand_in(view.sequence, TextRun::merge(&runs.iter().collect::<Vec<_>>()));
    }
    Ok(())
}

/// Runs over all chunks that no intact segment covers.
fn text(
    transaction: &ReadTransaction,
    analyzer: &Analyzer,
    collection: u32,
    record: &CollectionRecord,
    segments: &[Sealed],
) -> Result<Runs<TextRun>> {
    let mut runs = Runs::default();
    let mut next = 0;
    let intact = segments.iter().filter(|segment| segment.text.is_some());
    let ranges = intact.map(|segment| (segment.record.first, segment.record.end));
    for (first, end) in ranges.chain([(record.next_chunk, record.next_chunk)]) {
        if next < first {
            for run in passages::index_range(transaction, analyzer, collection, next, first)? {
                runs.push(run, &RoaringBitmap::new());
            }
        }
        next = end;
    }
    Ok(runs)
}

fn roster(transaction: &ReadTransaction, collection: u32, record: &CollectionRecord) -> Result<Runs<RosterRun>> {
    let table = rows::open(transaction, DOCUMENTS)?;
    let mut found = Vec::new();
    for row in table.range(pairs_of(collection)).map_err(engine)? {
        let (key, value) = row.map_err(engine)?;
        let document: DocumentRecord = codec::decode(Place::new(DOCUMENTS.name(), key.value()), value.value())?;
        found.push((document.first_chunk, document.chunk_count, key.value().1, encode_id(&document.id)));
    }
    let (documents, chunks) = (found.len() as u64, found.iter().map(|entry| u64::from(entry.1)).sum::<u64>());
    if (documents, chunks) != (record.documents, record.chunks) {
        let what = format!(
            "{documents} documents with {chunks} chunks are there, {} with {} should be",
            record.documents, record.chunks
        );
        return Err(Place::new(COLLECTIONS.name(), collection).corrupt(what));
    }
    found.sort_unstable_by_key(|entry| entry.0);
    let mut run = RosterRun::default();
    for (first, count, document, id_key) in &found {
        run.push(Entry { first: *first, count: *count, document: *document, id_key });
    }
    let mut runs = Runs::default();
    runs.push(run, &RoaringBitmap::new());
    Ok(runs)
}

/// The record of a space.
pub(crate) fn space_record(transaction: &ReadTransaction, space: u32) -> Result<SpaceRecord> {
    let table = rows::open(transaction, SPACES)?;
    rows::get_numbered(&table, SPACES, space)?.ok_or_else(|| rows::missing(Place::new(SPACES.name(), space)))
}

fn column(
    transaction: &ReadTransaction,
    space: u32,
    record: &CollectionRecord,
    dead: &RoaringBitmap,
) -> Result<Column> {
    let SpaceRecord { name, dims, metric, per_block, .. } = space_record(transaction, space)?;
    let dims = dims as usize;
    let mut run = VectorRun::new(dims);
    run.reserve(record.chunks as usize);
    let table = rows::open(transaction, VECTORS)?;
    for row in table.range(pairs_of(space)).map_err(engine)? {
        let (key, value) = row.map_err(engine)?;
        let (_, block) = key.value();
        let opened: VectorBlock<'_> = open_block(Place::new(VECTORS.name(), key.value()), dims, value.value())?;
        let vectors = opened.rows().chunks_exact(dims * size_of::<f32>());
        for (chunk, vector) in (block * per_block..).zip(vectors).filter(|(chunk, _)| !dead.contains(*chunk)) {
            run.push(metric, chunk, decode_rows(vector));
        }
    }
    if run.len() as u64 != record.chunks {
        let what = format!("{} vectors are there for {} chunks", run.len(), record.chunks);
        return Err(Place::new(SPACES.name(), space).corrupt(what));
    }
    let mut runs = Runs::default();
    runs.push(run, &RoaringBitmap::new());
    Ok(Column { name, metric, dims, runs })
}
