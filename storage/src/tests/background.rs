//! What is built in the background is waited for by nobody, and what fails there is told and tried again.

use std::fs;
use std::path::{Path, PathBuf};

use super::{on_disk, sound};
use crate::seal::seal;
use crate::testing::{Random, put, random_document, refuse_to_open, with_power_cuts};
use crate::{ChunkNumber, CollectionId, DocumentId, Error, Filter, Store};

const DIMS: usize = 4;

fn fill(store: &Store, notes: CollectionId, ids: std::ops::Range<i64>) {
    let mut random = Random::new(ids.start as u64);
    store.write(notes, ids.map(|id| put(random_document(&mut random, id, DIMS))).collect()).unwrap();
}

/// Two segments and a tail, closed.
fn make(folder: &Path) -> CollectionId {
    let (store, notes) = on_disk(folder, DIMS);
    fill(&store, notes, 0..300);
    assert!(seal(&store.0, notes, 1).unwrap());
    fill(&store, notes, 300..400);
    assert!(seal(&store.0, notes, 1).unwrap());
    fill(&store, notes, 250..420);
    notes
}

type Answers = (Vec<(ChunkNumber, f32)>, Vec<(ChunkNumber, f32)>, Vec<DocumentId>);

fn answers(store: &Store, notes: CollectionId) -> Answers {
    let snapshot = store.snapshot(notes).unwrap();
    let filter: Filter = "year > 2012".parse().unwrap();
    let allowed = snapshot.matching_chunks(&filter).unwrap();
    (
        snapshot.nearest(0, &[1.0, 0.5, -0.25, 0.1], 100, Some(&allowed)).unwrap(),
        snapshot.search_text("word0 word7", usize::MAX, None).unwrap().hits,
        snapshot.matching_documents(&filter).unwrap(),
    )
}

fn segment(folder: &Path, notes: CollectionId, number: u32) -> PathBuf {
    folder.join("segments").join(format!("{}-{number}", notes.0))
}

/// Whether each segment answers from its files.
fn open_segments(store: &Store, notes: CollectionId) -> Vec<bool> {
    let view = store.0.pin(notes).unwrap().view.unwrap();
    view.segments.iter().map(|segment| segment.is_open() && !segment.is_damaged()).collect()
}

#[test]
fn no_reader_builds_a_segment() {
    let folder = tempfile::tempdir().unwrap();
    let notes = make(folder.path());
    let expected = answers(&Store::open(folder.path()).unwrap(), notes);
    fs::remove_dir_all(segment(folder.path(), notes, 0)).unwrap();
    let store = Store::open(folder.path()).unwrap();
    // Steps on disk are told to the thread that takes them.
    let found = with_power_cuts(|done| panic!("a reader waits: {done}"), || answers(&store, notes));
    assert!(found == expected);
    store.wait();
    assert_eq!(open_segments(&store, notes), [true, true]);
    assert!(answers(&store, notes) == expected, "built again");
    sound(&store);
}

#[test]
fn repair_and_compaction_wait_for_what_they_build() {
    for compact in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let notes = make(folder.path());
        fs::remove_dir_all(segment(folder.path(), notes, 1)).unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(open_segments(&store, notes), [true, false]);
        if compact {
            store.compact().unwrap();
        } else {
            assert!(store.seal(notes).unwrap());
        }
        assert!(open_segments(&store, notes).iter().all(|open| *open));
        sound(&store);
    }
}

/// Too many files of the process, of the system, no memory, an error of the disk, no permission.
const PASSING: [i32; 5] = [24, 23, 12, 5, 13];

#[cfg(unix)]
#[test]
fn what_cannot_be_opened_is_no_damage_and_is_opened_later() {
    for error in PASSING {
        let folder = tempfile::tempdir().unwrap();
        let notes = make(folder.path());
        let expected = answers(&Store::open(folder.path()).unwrap(), notes);
        let damaged = segment(folder.path(), notes, 0);
        let before = fs::metadata(damaged.join("MANIFEST")).unwrap().modified().unwrap();
        let refused = refuse_to_open(&damaged, error);
        let store = Store::open(folder.path()).unwrap();
        assert!(answers(&store, notes) == expected, "error {error}");
        store.wait();
        assert_eq!(open_segments(&store, notes), [false, true], "error {error}");
        let told = store.sealing_error(notes).expect("it is told");
        assert!(told.contains(&format!("os error {error}")), "{told}");
        let again = store.seal(notes).unwrap_err();
        assert!(matches!(&again, Error::Io { source, .. } if source.raw_os_error() == Some(error)), "{again:?}");
        let violations = store.check().unwrap();
        assert!(violations.len() == 1 && violations[0].contains("os error"), "{violations:?}");
        assert!(answers(&store, notes) == expected, "error {error}");
        store.wait();
        assert_eq!(fs::metadata(damaged.join("MANIFEST")).unwrap().modified().unwrap(), before, "it was built again");
        drop(refused);
        answers(&store, notes);
        store.wait();
        assert_eq!(open_segments(&store, notes), [false, true], "it is not tried at each snapshot");
        store.0.failures.hurry();
        assert!(answers(&store, notes) == expected, "error {error}");
        store.wait();
        assert_eq!(open_segments(&store, notes), [true, true], "error {error}");
        assert_eq!(store.sealing_error(notes), None);
        assert!(answers(&store, notes) == expected, "error {error}, opened");
        assert_eq!(fs::metadata(damaged.join("MANIFEST")).unwrap().modified().unwrap(), before);
        fill(&store, notes, 500..520);
        sound(&store);
    }
}

#[test]
fn a_segment_that_cannot_be_built_is_told_and_tried_again_at_longer_and_longer_intervals() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), DIMS);
    let segments = folder.path().join("segments");
    fs::write(&segments, "a file where the folder should be").unwrap();
    fill(&store, notes, 0..100);
    assert_eq!(store.sealing_error(notes), None);
    store.seal_few_soon(notes, 50);
    store.wait();
    let told = store.sealing_error(notes).expect("it is told");
    assert!(told.contains("segments"), "{told}");
    fs::remove_file(&segments).unwrap();
    store.seal_few_soon(notes, 50);
    store.wait();
    assert_eq!(store.snapshot(notes).unwrap().segments(), 0, "it waits");
    assert!(store.sealing_error(notes).is_some());
    store.0.failures.hurry();
    store.seal_few_soon(notes, 50);
    store.wait();
    assert_eq!(store.snapshot(notes).unwrap().segments(), 1);
    assert_eq!(store.sealing_error(notes), None);
    sound(&store);
}
