//! How does what was deleted leave the disk?
//!
//! In three steps. A block of vectors goes when its last chunk dies, so documents whose blocks hold many dead are written
//! anew, as a replacement by themselves: batch by batch, each a transaction like any other. Then one segment is made of
//! all. Then redb moves its pages together and cuts its file.
//!
//! Invariants: nothing is embedded anew; a crash at any moment leaves every document as it was; readers and the writer go
//! on, but for redb's own step, in which they wait.

use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::engine::Engine;
use crate::load::space_record;
use crate::{CollectionId, DocumentId, Result, Snapshot, files, seal, write};

/// A block with a smaller share of living vectors is emptied: 7 in 8.
const LIVING: (u64, u64) = (7, 8);
/// Documents, and bytes of their texts, that one transaction writes anew.
const BATCH_DOCUMENTS: usize = 512;
const BATCH_BYTES: usize = 16 << 20;

/// What compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Documents that were written anew.
    pub moved: u64,
    /// What the database took on disk before, in bytes; 0 in memory.
    pub bytes_before: u64,
    /// What it takes now.
    pub bytes_after: u64,
    /// Whether the file could be cut. A snapshot that is held, by a search in progress too, is in the way.
    pub shrunk: bool,
}

/// Compacts the collections and then the file.
pub(crate) fn compact(engine: &Arc<Engine>, collections: &[CollectionId]) -> Result<Compacted> {
    engine.confirm_site()?;
    let bytes = || engine.folder().map_or(Ok(0), files::bytes_on_disk);
    let mut done = Compacted { bytes_before: bytes()?, ..Compacted::default() };
    for &collection in collections {
        write::sweep(engine, collection)?;
        done.moved += thin_out(engine, collection)?;
        seal::merge(engine, collection)?;
    }
    done.shrunk = engine.shrink()?;
    done.bytes_after = bytes()?;
    Ok(done)
}

/// Writes the documents anew whose vectors lie in sparse blocks.
fn thin_out(engine: &Arc<Engine>, collection: CollectionId) -> Result<u64> {
    let mut moved = 0;
    let mut ids = in_sparse_blocks(&Snapshot::kept(engine, collection)?)?.into_iter().peekable();
    while ids.peek().is_some() {
        // A snapshot for each batch: an old one keeps the pages that are to go.
        let snapshot = Snapshot::kept(engine, collection)?;
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_DOCUMENTS && bytes < BATCH_BYTES {
            let Some(id) = ids.next() else { break };
            if let Some((first, document)) = snapshot.again(&id)? {
                bytes += document.text.len();
                batch.push((first, document));
            }
        }
        drop(snapshot);
        moved += write::rewrite(engine, collection, batch)?.replaced;
    }
    Ok(moved)
}

/// The documents that have a chunk in a sparse block of any space.
fn in_sparse_blocks(snapshot: &Snapshot) -> Result<Vec<DocumentId>> {
    let mut ids = Vec::new();
    let mut last = None;
    for chunk in sparse_chunks(snapshot)? {
        if let Some((first, id)) = snapshot.owner(chunk)?
            && last.replace(first) != Some(first)
        {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn sparse_chunks(snapshot: &Snapshot) -> Result<RoaringBitmap> {
    let (view, mut chunks) = (snapshot.view()?, RoaringBitmap::new());
    for &space in snapshot.space_numbers() {
        let per_block = space_record(&*snapshot.transaction()?, space)?.per_block;
        for first in (0..view.next_chunk).step_by(per_block as usize) {
            let end = first.saturating_add(per_block);
            let live = view.live_between(first, end);
            if end <= view.next_chunk && live > 0 && live * LIVING.1 < u64::from(per_block) * LIVING.0 {
                chunks.insert_range(first..end);
            }
        }
    }
    Ok(chunks - view.dead.as_ref())
}
