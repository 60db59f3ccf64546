//! How does the tail become a segment on disk?
//!
//! When the tail is large enough, a segment over it (its text, metadata and vectors, and whose chunks they are) is built
//! from a read transaction, in a folder of its own: under a temporary name, synced, renamed, the parent synced. Then one
//! redb transaction names it, and in the same moment the runs in memory that it replaces go. Where four
//! trailing segments have about one size they are built into one; what tombstones cover is left out. No segment is made
//! whose graphs would take more than a gigabyte while they are built (two million chunks of 384 numbers), so memory is
//! bounded, however large the collection; nor are that many merged, so each chunk is built a bounded number of times.
//!
//! Invariants: a folder that redb does not name means nothing and is removed at open; readers and the writer go on while
//! a segment is built; redb stays the truth, so a segment that is missing or damaged is simply built again.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use crate::bytes::Rows;
use crate::codec::{CollectionRecord, DocumentRecord, Json, SegmentRecord, decode_rows};
use crate::engine::{Engine, Outcome, Pinned, next_sequence, unknown};
use crate::error::engine as engine_error;
use crate::files::{SEGMENTS_FOLDER, between_steps, io_error, segment_folder, sync_folder};
use crate::filter::index::Builder;
use crate::graph::{self, Points, Recipe};
use crate::guard::damage_as_error;
use crate::load::Reader;
use crate::passages::Passages;
use crate::roster::{Entry, RosterRun};
use crate::sealed::{Folder, SEGMENT_VERSION, Sealed};
use crate::segment::{
    METADATA_FILE, ROSTER_FILE, RowsFile, SegmentDigest, SegmentFolder, space_file, write_file, write_roster,
};
use crate::tables::{COLLECTIONS, DOCUMENTS, METADATA, SEGMENTS, pairs_of};
use crate::text::TextSegment;
use crate::vectors::Column;
use crate::view::View;
use crate::{CollectionId, Error, Result, rows};

/// The live chunks that the tail must hold to be sealed.
pub(crate) const SEAL_CHUNKS_MIN: u64 = 8192;

/// Where so many segments are of about one size, they are built into one: each chunk is built in some log4(n / 8192) times,
/// and a search asks at most three segments of each size.
const FANOUT: usize = 4;

/// Memory that the build of a graph may take.
const BUILD_BYTES_MAX: usize = 1 << 30;

const NEW: &str = ".new";

/// What is to be built: a segment over `first..end` in place of others.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    first: u32,
    end: u32,
    replaces: Vec<u32>,
}

/// Builds what is due: segments that are missing or damaged, then one over the tail where that holds `chunks_min` live
/// chunks. Returns whether anything was built.
///
/// # Errors
/// [`crate::Error::Io`] where the disk refuses, after which all is as before; [`crate::Error::Poisoned`].
pub(crate) fn seal(engine: &Engine, collection: CollectionId, chunks_min: u64) -> Result<bool> {
    let Some(folder) = engine.folder() else { return Ok(false) };
    let _turn = engine.sealing.lock().unwrap_or_else(PoisonError::into_inner);
    let built = damage_as_error("the database", || {
        // What is out of reach keeps nothing else from being built.
        let reached = reach(engine, folder, collection);
        let built = seal_in_turn(engine, folder, collection, chunks_min)?;
        reached.map(|()| built)
    });
    if !engine.closing.load(Ordering::Relaxed) {
        engine.failures.note(collection.0, &built);
    }
    built
}

/// Whether [`seal`] would do anything.
pub(crate) fn is_due(engine: &Engine, collection: CollectionId, chunks_min: u64) -> bool {
    let view = engine.current_view(collection);
    engine.folder().is_some() && view.is_ok_and(|view| is_broken(&view) || unsealed(&view) >= chunks_min.max(1))
}

/// Whether something is missing, damaged or out of reach.
pub(crate) fn is_broken(view: &View) -> bool {
    damaged(view).is_some() || view.segments.iter().any(|segment| segment.is_out_of_reach())
}

/// Opens the segments that were out of reach when the collection was loaded. From then on their files answer, and not
/// memory any more; those that turn out damaged are built again.
///
/// # Errors
/// [`Error::Io`] where one still is.
fn reach(engine: &Engine, folder: &Path, collection: CollectionId) -> Result<()> {
    let view = engine.current_view(collection)?;
    let (mut found, mut refused) = (Vec::new(), Ok(()));
    for segment in view.segments.iter().filter(|segment| segment.is_out_of_reach()) {
        let (number, record) = (segment.number, segment.record);
        match Folder::open(&segment_folder(folder, collection.0, number), &record, view.columns.len()) {
            Err(error @ Error::Io { .. }) => refused = Err(error),
            opened => found.push(Sealed::found(number, record, opened)),
        }
    }
    if !found.is_empty() {
        engine.refine(collection, |view| view.reopened(found))?;
    }
    refused
}

fn seal_in_turn(engine: &Engine, folder: &Path, collection: CollectionId, chunks_min: u64) -> Result<bool> {
    let mut built = false;
    loop {
        let pinned = engine.pin(collection)?;
        let view = pinned.view.as_ref().map_err(|damage| damage.error())?;
        let chunks_max = chunks_max(view);
        let repair = damaged(view).map(|plan| bounded(view, plan, chunks_max)).transpose()?;
        let is_repair = repair.is_some();
        let plan = repair.map_or_else(|| tail(view, chunks_min, chunks_max), |plan| Ok(Some(plan)))?;
        let Some(plan) = plan else { return Ok(built) };
        let next_chunk = view.next_chunk;
        if view.live_between(plan.first, plan.end) > 0 {
            build(engine, folder, collection, pinned, &plan)?;
        } else {
            drop(pinned);
            leave_out(engine, collection, &plan.replaces)?;
        }
        built = true;
        // What was written meanwhile waits for the next call, or a busy writer would keep us here for ever.
        if !is_repair && plan.end == next_chunk {
            return Ok(built);
        }
    }
}

/// The first segment that is to be built again: one that is missing or damaged, or a gap where one should be.
fn damaged(view: &View) -> Option<Plan> {
    let mut next = 0;
    for segment in &view.segments {
        let SegmentRecord { first, end, .. } = segment.record;
        if view.live_between(next, first) > 0 {
            return Some(Plan { first: next, end: first, replaces: Vec::new() });
        }
        if segment.is_damaged() {
            return Some(Plan { first, end, replaces: vec![segment.number] });
        }
        next = end;
    }
    None
}

/// What is made of the beginning of a gap where all of it would be too large a segment. One that is replaced alone is as
/// large as it was.
fn bounded(view: &View, plan: Plan, chunks_max: u64) -> Result<Plan> {
    let is_gap = plan.replaces.is_empty();
    let end = if is_gap { end_of(view, plan.first, chunks_max)?.min(plan.end) } else { plan.end };
    Ok(Plan { end, ..plan })
}

/// The live chunks that no segment holds yet.
pub(crate) fn unsealed(view: &View) -> u64 {
    view.live_between(view.tail_start(), view.next_chunk)
}

/// Live chunks of a segment at most.
fn chunks_max(view: &View) -> u64 {
    let widest = view.columns.iter().map(|column| graph::memory_bytes(column.dims)).max();
    (BUILD_BYTES_MAX / widest.unwrap_or(1)) as u64
}

/// Where a segment from `first` on must end, so that it has at most so many live chunks, and no document in part; one
/// document at least.
fn end_of(view: &View, first: u32, chunks_max: u64) -> Result<u32> {
    let (mut low, mut high) = (first, view.next_chunk);
    while low < high {
        let middle = high - (high - low) / 2;
        if view.live_between(first, middle) <= chunks_max { low = middle } else { high = middle - 1 }
    }
    let cut = view.owner(low, |entry| (entry.first, entry.first + entry.count))?;
    Ok(cut.map_or(low, |(start, end)| if start > first { start } else { end }))
}

/// The tail, where it is large enough, with the segments that have become too many of their size.
fn tail(view: &View, chunks_min: u64, chunks_max: u64) -> Result<Option<Plan>> {
    let mut first = view.tail_start();
    if unsealed(view) < chunks_min.max(1) {
        return Ok(None);
    }
    let end = end_of(view, first, chunks_max)?;
    let mut size = view.live_between(first, end);
    let mut left = view.segments.as_slice();
    let mut replaces = Vec::new();
    loop {
        let alike = left.iter().rev().take_while(|segment| u64::from(segment.record.chunks) <= 2 * size).count();
        let (rest, merged) = left.split_at(left.len() - alike);
        if alike < FANOUT - 1 || view.live_between(merged[0].record.first, end) > chunks_max {
            return Ok(Some(Plan { first, end, replaces }));
        }
        first = merged[0].record.first;
        size = view.live_between(first, end);
        replaces.extend(merged.iter().map(|segment| segment.number));
        left = rest;
    }
}

/// The first of the fewest segments that hold all that lives from `from` on which is not there already.
fn next_of_all(view: &View, from: u32, chunks_max: u64) -> Result<Option<Plan>> {
    let dense = |segment: &Sealed, live| u64::from(segment.record.chunks) == live && !segment.is_damaged();
    let mut first = from;
    while first < view.next_chunk {
        let mut covered: Vec<&Sealed> = Vec::new();
        let mut end = first;
        for segment in view.segments.iter().filter(|segment| segment.record.first >= first) {
            let SegmentRecord { end: its_end, .. } = segment.record;
            if !covered.is_empty() && view.live_between(first, its_end) > chunks_max {
                break;
            }
            covered.push(segment);
            end = its_end;
        }
        if end == view.tail_start().max(first) {
            end = end.max(end_of(view, first, chunks_max)?);
        }
        let live = view.live_between(first, end);
        if live > 0 && !matches!(covered.as_slice(), [one] if dense(one, live)) {
            let replaces = covered.iter().map(|segment| segment.number).collect();
            return Ok(Some(Plan { first, end, replaces }));
        }
        first = end;
    }
    Ok(None)
}

/// Makes one segment of all, or as few as there may be. Collections too small for any stay as they are, except that
/// segments without a live chunk go.
///
/// # Errors
/// As [`seal`].
pub(crate) fn merge(engine: &Engine, collection: CollectionId) -> Result<()> {
    let Some(folder) = engine.folder() else { return Ok(()) };
    let _turn = engine.sealing.lock().unwrap_or_else(PoisonError::into_inner);
    let pinned = engine.pin(collection)?;
    let view = pinned.view.as_ref().map_err(|damage| damage.error())?;
    if view.segments.is_empty() && view.live_between(0, view.next_chunk) < SEAL_CHUNKS_MIN {
        return Ok(());
    }
    if view.live_between(0, view.next_chunk) == 0 {
        let numbers: Vec<u32> = view.segments.iter().map(|segment| segment.number).collect();
        drop(pinned);
        return leave_out(engine, collection, &numbers);
    }
    drop(pinned);
    let mut from = 0;
    loop {
        let pinned = engine.pin(collection)?;
        let view = pinned.view.as_ref().map_err(|damage| damage.error())?;
        let Some(plan) = next_of_all(view, from, chunks_max(view))? else { return Ok(()) };
        build(engine, folder, collection, pinned, &plan)?;
        from = plan.end;
    }
}

/// Lets segments go of which no chunk lives any more.
fn leave_out(engine: &Engine, collection: CollectionId, numbers: &[u32]) -> Result<()> {
    publish(engine, collection, None, numbers)?;
    remove_folders(engine, collection.0, numbers);
    Ok(())
}

fn build(engine: &Engine, folder: &Path, collection: CollectionId, pinned: Pinned, plan: &Plan) -> Result<()> {
    // Another database may be there now, with segments of its own.
    engine.confirm_site()?;
    let Pinned { transaction, record, view } = pinned;
    let number = record.next_segment;
    // The tail's runs are to go as soon as no search needs them, and not when the build ends.
    let view = view.map_err(|damage| damage.error())?.without_runs(&record);
    let reader = Reader { transaction: &transaction, collection: collection.0, record: &record };
    let target = segment_folder(folder, collection.0, number);
    engine.space.ask(bytes_on_disk(&view, plan))?;
    let (digest, chunks) = match build_folder(engine, &target, &reader, &view, plan) {
        Ok(built) => built,
        Err(error) => {
            remove_own(engine, &target);
            return Err(error);
        }
    };
    let Plan { first, end, .. } = *plan;
    let sealed = SegmentRecord { first, end, chunks, version: SEGMENT_VERSION, digest: digest.0 };
    between_steps("folder synced");
    let published = Folder::open(&target, &sealed, record.spaces.len()).and_then(|opened| {
        publish(engine, collection, Some(Sealed::new(number, sealed, Some(opened))), &plan.replaces)
    });
    between_steps("published");
    match &published {
        // Where it is not known whether redb names the folder, the next open removes it or not.
        Err(Error::Unconfirmed(_) | Error::Poisoned(_) | Error::Io { .. }) => {}
        Err(_) => remove_own(engine, &target),
        Ok(()) => remove_folders(engine, collection.0, &plan.replaces),
    }
    published
}

/// About what a segment takes: vectors, their codes and neighbours, and as much text as is usual.
fn bytes_on_disk(view: &View, plan: &Plan) -> u64 {
    let numbers: usize = view.columns.iter().map(|column| column.dims).sum();
    view.live_between(plan.first, plan.end) * (1024 + 5 * numbers as u64)
}

/// Builds the segment under a temporary name, and renames it once all of it is on disk.
fn build_folder(
    engine: &Engine,
    target: &Path,
    reader: &Reader<'_>,
    view: &View,
    plan: &Plan,
) -> Result<(SegmentDigest, u32)> {
    let fresh = target.with_extension(&NEW[1..]);
    let parent = target.parent().unwrap_or(target);
    make_parent(parent)?;
    remove(&fresh);
    remove(target);
    let built = fill_folder(engine, &fresh, reader, view, plan).and_then(|built| {
        between_steps("files synced");
        fs::rename(&fresh, target).map_err(|source| io_error(target, source))?;
        between_steps("renamed");
        sync_folder(parent)?;
        Ok(built)
    });
    if built.is_err() {
        remove_own(engine, &fresh);
    }
    built
}

/// Writes all files of a segment and syncs them; returns how many chunks it holds.
fn fill_folder(
    engine: &Engine,
    fresh: &Path,
    reader: &Reader<'_>,
    view: &View,
    plan: &Plan,
) -> Result<(SegmentDigest, u32)> {
    let Plan { first, end, .. } = *plan;
    SegmentFolder::create(fresh)?;
    let mut passages = Passages::read(reader.transaction, reader.collection, first, end)?;
    let mut chunks = 0;
    let closing = || engine.closing.load(Ordering::Relaxed);
    let counted = passages.by_ref().take_while(|_| !closing()).inspect(|_| chunks += 1);
    TextSegment::build(fresh, &view.analyzer, counted)?;
    between_steps("text written");
    if closing() {
        return Err(cancelled());
    }
    passages.finish()?;
    let go_on = || if closing() { Err(cancelled()) } else { Ok(()) };
    let roster = reader.roster(view, first, end)?;
    write_roster(&fresh.join(ROSTER_FILE), roster.entries())?;
    write_metadata(&fresh.join(METADATA_FILE), reader, &roster, go_on)?;
    drop(roster);
    for index in 0..reader.record.spaces.len() {
        write_graph(engine, &fresh.join(space_file(index)), reader, view, index, plan)?;
    }
    between_steps("files written");
    // All of it is read once more, for its checksums.
    go_on()?;
    Ok((SegmentFolder::finish(fresh)?, chunks))
}

/// Writes the graph of a space over the segment's chunks. The vectors go from redb to the file and are not held in memory.
fn write_graph(
    engine: &Engine,
    path: &Path,
    reader: &Reader<'_>,
    view: &View,
    space: usize,
    plan: &Plan,
) -> Result<()> {
    let Plan { first, end, .. } = *plan;
    let &Column { metric, dims, .. } = &view.columns[space];
    let recipe = Recipe::default();
    let live = view.live_between(first, end) as usize;
    let start = graph::vectors_start(metric, dims, live, recipe).map_err(|source| io_error(path, source))?;
    let (mut chunks, mut row) = (Vec::with_capacity(live), Vec::with_capacity(dims));
    let rows = RowsFile::create(path, start, dims, |push| {
        reader.each_vector(view, reader.record.spaces[space], first, end, |chunk, vector| {
            if engine.closing.load(Ordering::Relaxed) {
                return Err(cancelled());
            }
            row.clear();
            metric.prepare(decode_rows(vector), &mut row);
            chunks.push(chunk);
            push(&row)
        })
    })?;
    let wanted = Wanted { rows: &rows, closing: &engine.closing };
    let points = Points { metric, dims, chunks: &chunks, rows: &wanted };
    let graph = beside(|| graph::build(points, recipe, &engine.closing))?.ok_or_else(cancelled)?;
    rows.finish(|out| graph.write_front(out))
}

/// Rows, for as long as somebody wants what is built of them.
struct Wanted<'a, R> {
    rows: &'a R,
    closing: &'a AtomicBool,
}

impl<R: Rows> Rows for Wanted<'_, R> {
    fn read(&self, places: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        if self.closing.load(Ordering::Relaxed) { Err(cancelled()) } else { self.rows.read(places, out) }
    }
}

/// Works on threads of its own: on the common ones, a search's scan of the tail would wait behind the build, up to 600 ms
/// measured. Nor does the caller wait as one of the common ones: these take up other work meanwhile, which may be to seal,
/// and would wait for themselves.
fn beside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let on_own_pool = || match rayon::ThreadPoolBuilder::new().thread_name(|_| "quiverdb-build".into()).build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(),
    };
    let done = std::thread::scope(|scope| scope.spawn(on_own_pool).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Nobody sees it: the database is being closed.
fn cancelled() -> Error {
    Error::Engine("sealing was cancelled, because the database is being closed".into())
}

/// Writes the index of the metadata of a segment's documents.
fn write_metadata(path: &Path, reader: &Reader<'_>, roster: &RosterRun, go_on: impl Fn() -> Result<()>) -> Result<()> {
    let documents = rows::open(reader.transaction, DOCUMENTS)?;
    let metadata = rows::open(reader.transaction, METADATA)?;
    let mut builder = Builder::new();
    for Entry { first, count, document, .. } in roster.entries() {
        go_on()?;
        let key = (reader.collection, document);
        let record: DocumentRecord = rows::need(&documents, DOCUMENTS, key)?;
        let Json(map) = rows::need(&metadata, METADATA, key)?;
        builder.add(first..first + count, &record.id, record.title.as_deref(), &map);
    }
    write_file(path, |mut out| builder.finish(&mut out))
}

fn make_parent(parent: &Path) -> Result<()> {
    if parent.is_dir() {
        return Ok(());
    }
    SegmentFolder::create(parent)?;
    sync_folder(parent.parent().unwrap_or(parent))
}

/// As [`remove`], unless another database may be there now, with segments of its own.
fn remove_own(engine: &Engine, folder: &Path) {
    if engine.confirm_site().is_ok() {
        remove(folder);
    }
}

/// Removes a segment's folder. What cannot be removed now (Windows keeps mapped files) goes at the next open.
fn remove(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
}

/// Names the segment, where there is one, in redb and in the collection's next view, in place of others.
fn publish(engine: &Engine, collection: CollectionId, segment: Option<Sealed>, replaces: &[u32]) -> Result<()> {
    let mut writer = engine.writer()?;
    let view = engine.current_view(collection)?;
    writer.transact(|transaction| {
        let mut collections = transaction.open_table(COLLECTIONS).map_err(engine_error)?;
        let mut record: CollectionRecord =
            rows::get_numbered(&collections, COLLECTIONS, collection.0)?.ok_or_else(|| unknown(collection))?;
        let mut table = transaction.open_table(SEGMENTS).map_err(engine_error)?;
        // Those that are replaced go, and rows that could not be read.
        let stays = |number| view.segments.iter().any(|segment| segment.number == number);
        table
            .retain_in(pairs_of(collection.0), |(_, number), _| stays(number) && !replaces.contains(&number))
            .map_err(engine_error)?;
        if let Some(segment) = &segment {
            rows::put(&mut table, SEGMENTS, (collection.0, segment.number), &segment.record)?;
            record.next_segment = segment.number + 1;
        }
        record.sequence = next_sequence(transaction)?;
        rows::put_numbered(&mut collections, COLLECTIONS, collection.0, &record)?;
        let next = view.sealed(segment, replaces, &record);
        Ok(((), Outcome::Publish(collection.0, Arc::new(next))))
    })
}

/// Removes the folders that redb does not name: of segments that a crash kept from being published, or that were replaced
/// or dropped. Whatever does not bear a name of ours stays.
///
/// # Errors
/// Whatever redb says. Folders that cannot be read or removed stay.
pub(crate) fn collect_garbage(engine: &Engine) -> Result<()> {
    let Some(folder) = engine.folder() else { return Ok(()) };
    let segments = folder.join(SEGMENTS_FOLDER);
    let Ok(entries) = fs::read_dir(&segments) else { return Ok(()) };
    let transaction = engine.begin_read()?;
    let table = rows::open(&transaction, SEGMENTS)?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some((pair, finished)) = name.to_str().and_then(numbers_of) else { continue };
        // A damaged record must not cost its folder, so the row's presence is enough.
        let named = table.get(pair).map_err(engine_error)?.is_some();
        if !(named && finished) {
            remove(&entry.path());
        }
    }
    Ok(())
}

/// The collection and number in the name of a folder of ours, and whether it is one that was finished.
fn numbers_of(name: &str) -> Option<((u32, u32), bool)> {
    let (stem, finished) = name.strip_suffix(NEW).map_or((name, true), |stem| (stem, false));
    let (collection, number) = stem.split_once('-')?;
    let pair = (collection.parse().ok()?, number.parse().ok()?);
    (format!("{}-{}", pair.0, pair.1) == stem).then_some((pair, finished))
}

/// Removes the folders of segments that redb does not name any more.
pub(crate) fn remove_folders(engine: &Engine, collection: u32, numbers: &[u32]) {
    if let Some(folder) = engine.folder() {
        numbers.iter().for_each(|number| remove_own(engine, &segment_folder(folder, collection, *number)));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{document, put, settings, with_power_cuts};
    use crate::{Metric, Operation, Store};

    /// Documents of three chunks each, the numbers of which begin at `3 * id`.
    fn add(store: &Store, notes: CollectionId, ids: std::ops::Range<i64>) {
        let vectors = [vec![1.0, 0.0], vec![0.5, 1.0], vec![0.0, 1.0]];
        let batch = ids.map(|id| put(document(id, "one. two. three", serde_json::json!({}), &vectors)));
        store.write(notes, batch.collect()).unwrap();
    }

    fn plan(first: u32, end: u32, replaces: &[u32]) -> Option<Plan> {
        Some(Plan { first, end, replaces: replaces.to_vec() })
    }

    #[test]
    fn no_segment_is_planned_beyond_its_size_and_none_ends_within_a_document() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let notes = store.create_collection("notes", &settings(2, Metric::Dot)).unwrap().id;
        let view = || store.0.current_view(notes).unwrap();
        for batch in 0..3 {
            add(&store, notes, batch * 10..(batch + 1) * 10);
            assert!(seal(&store.0, notes, 1).unwrap());
        }
        add(&store, notes, 30..40);
        assert_eq!(tail(&view(), 31, 1000).unwrap(), None, "too few");
        assert_eq!(tail(&view(), 30, 120).unwrap(), plan(0, 120, &[0, 1, 2]), "four of a size");
        assert_eq!(tail(&view(), 30, 119).unwrap(), plan(90, 120, &[]), "together they are too large");
        assert_eq!(tail(&view(), 30, 20).unwrap(), plan(90, 108, &[]), "six documents");
        assert_eq!(tail(&view(), 30, 1).unwrap(), plan(90, 93, &[]), "one document at least");
        store.write(notes, vec![Operation::Delete(31.into())]).unwrap();
        assert_eq!(tail(&view(), 1, 20).unwrap(), plan(90, 111, &[]), "the dead take no room");
    }

    #[test]
    fn compaction_makes_as_few_segments_as_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let notes = store.create_collection("notes", &settings(2, Metric::Dot)).unwrap().id;
        for batch in 0..3 {
            add(&store, notes, batch * 10..(batch + 1) * 10);
            assert!(seal(&store.0, notes, 1).unwrap());
        }
        add(&store, notes, 30..35);
        let view = store.0.current_view(notes).unwrap();
        assert_eq!(next_of_all(&view, 0, 1000).unwrap(), plan(0, 105, &[0, 1, 2]));
        assert_eq!(next_of_all(&view, 0, 60).unwrap(), plan(0, 60, &[0, 1]));
        assert_eq!(next_of_all(&view, 60, 60).unwrap(), plan(60, 105, &[2]));
        assert_eq!(next_of_all(&view, 0, 30).unwrap(), plan(90, 105, &[]), "three are as they should be");
        assert_eq!(next_of_all(&view, 105, 30).unwrap(), None);
    }

    #[test]
    fn a_gap_is_built_in_pieces_of_a_segments_size_and_what_is_damaged_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let notes = store.create_collection("notes", &settings(2, Metric::Dot)).unwrap().id;
        add(&store, notes, 0..40);
        let view = store.0.current_view(notes).unwrap();
        let bounded =
            |first, end, replaces: &[u32]| bounded(&view, plan(first, end, replaces).unwrap(), 20).map(Some).unwrap();
        assert_eq!(bounded(0, 60, &[]), plan(0, 18, &[]));
        assert_eq!(bounded(54, 60, &[]), plan(54, 60, &[]), "it ends with the gap");
        assert_eq!(bounded(0, 60, &[7]), plan(0, 60, &[7]));
    }

    #[test]
    fn a_damaged_segment_without_a_living_chunk_is_not_built_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let notes = store.create_collection("notes", &settings(2, Metric::Dot)).unwrap().id;
        for batch in 0..2 {
            add(&store, notes, batch * 10..(batch + 1) * 10);
            assert!(seal(&store.0, notes, 1).unwrap());
        }
        store.write(notes, (0..10).map(|id| Operation::Delete(id.into())).collect()).unwrap();
        store.0.current_view(notes).unwrap().segments[0].distrust();
        assert!(seal(&store.0, notes, u64::MAX).unwrap());
        let view = store.0.current_view(notes).unwrap();
        assert_eq!(view.segments.iter().map(|segment| segment.number).collect::<Vec<_>>(), [1]);
        assert!(!segment_folder(folder.path(), notes.0, 0).exists());
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn nothing_is_read_or_finished_for_a_database_that_is_being_closed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let notes = store.create_collection("notes", &settings(2, Metric::Dot)).unwrap().id;
        add(&store, notes, 0..40);
        let closing = Arc::clone(&store.0.closing);
        let close = move |done| closing.store(done == "files written", Ordering::Relaxed);
        let closed = with_power_cuts(close, || seal(&store.0, notes, 1));
        assert!(closed.unwrap_err().to_string().contains("being closed"));
        assert_eq!(fs::read_dir(folder.path().join(SEGMENTS_FOLDER)).unwrap().count(), 0);
        let rows = crate::bytes::InMemory { rows: &[1.0, 2.0], dims: 1 };
        let wanted = Wanted { rows: &rows, closing: &store.0.closing };
        assert!(wanted.read(0..1, &mut Vec::new()).is_err());
        store.0.closing.store(false, Ordering::Relaxed);
        assert!(wanted.read(0..1, &mut Vec::new()).is_ok() && seal(&store.0, notes, 1).unwrap());
    }

    #[test]
    fn only_names_of_ours_are_recognised() {
        assert_eq!(numbers_of("1-2"), Some(((1, 2), true)));
        assert_eq!(numbers_of("12-34.new"), Some(((12, 34), false)));
        for name in ["", "-", "1-", "1-2-3", "01-2", "1-2.old", "a-b", "notes", "1-4294967296", "+1-2"] {
            assert_eq!(numbers_of(name), None, "{name}");
        }
    }
}
