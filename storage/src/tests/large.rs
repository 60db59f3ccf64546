//! What is different for large databases. Small ones stand in for them here.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::{on_disk, sound};
use crate::handle::Watch;
use crate::seal::seal;
use crate::tables::TEXTS;
use crate::testing::{Faults, Random, put, random_document, settings};
use crate::{CollectionId, Metric, Scrub, Store};

/// Opens a database as if it were large.
fn open_as_large(folder: &Path) -> Store {
    Store::open_tuned(folder, 0, Arc::default()).unwrap()
}

fn fill(store: &Store, notes: CollectionId) {
    let mut random = Random::new(5);
    store.write(notes, (0..50).map(|id| put(random_document(&mut random, id, 4))).collect()).unwrap();
}

#[test]
fn a_commit_of_a_large_database_syncs_twice_and_of_a_small_one_once() {
    for (bytes_min, expected) in [(u64::MAX, 1), (0, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::default());
        let watch = Arc::new(Watch::with_faults(Arc::clone(&faults)));
        let store = Store::open_tuned(folder.path(), bytes_min, watch).unwrap();
        let notes = store.create_collection("notes", &settings(4, Metric::Dot)).unwrap().id;
        let before = faults.syncs();
        fill(&store, notes);
        assert_eq!(faults.syncs() - before, expected);
        sound(&store);
    }
}

/// Copies a folder as it is now: so the power would leave it, had all been synced.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let (entry, target) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry, &target);
        } else {
            fs::copy(&entry, &target).unwrap();
        }
    }
}

fn outcome(store: &Store) -> Scrub {
    while store.scrub() == Scrub::Running {
        std::thread::yield_now();
    }
    store.scrub()
}

#[test]
fn a_large_database_that_was_not_closed_is_read_in_the_background() {
    let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open_as_large(folder.path());
    assert_eq!(store.scrub(), Scrub::NotDue, "a new one");
    let notes = store.create_collection("notes", &settings(4, Metric::Cosine)).unwrap().id;
    fill(&store, notes);
    assert!(seal(&store.0, notes, 1).unwrap());
    copy(folder.path(), crashed.path());
    drop(store);
    assert_eq!(open_as_large(folder.path()).scrub(), Scrub::NotDue, "it was closed");
    let store = open_as_large(crashed.path());
    assert_eq!(outcome(&store), Scrub::Done(Vec::new()));
    drop(store);
    assert_eq!(open_as_large(crashed.path()).scrub(), Scrub::NotDue, "once is enough");
}

#[test]
fn what_is_damaged_in_a_large_database_is_found_in_the_background() {
    let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, notes) = on_disk(folder.path(), 4);
    fill(&store, notes);
    copy(folder.path(), crashed.path());
    {
        let database = redb::Database::open(crashed.path().join("data.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(TEXTS).unwrap().insert((notes.0, 3), b"rubbish".as_slice()).unwrap();
        transaction.commit().unwrap();
    }
    let damaged = open_as_large(crashed.path());
    let Scrub::Done(violations) = outcome(&damaged) else { panic!("{:?}", damaged.scrub()) };
    assert!(violations.join("\n").contains("table texts, key (1, 3)"), "{violations:?}");
    drop(damaged);
    let small = tempfile::tempdir().unwrap();
    copy(folder.path(), small.path());
    assert_eq!(Store::open(small.path()).unwrap().scrub(), Scrub::NotDue, "redb verifies a small one as it opens it");
}
