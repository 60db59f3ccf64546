//! A sealed collection answers as one in memory does, whatever happens to its folders, and deleted data leaves the disk.

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{on_disk, sound};
use crate::roster::RosterRun;
use crate::seal::seal;
use crate::sealed::Span;
use crate::testing::{Random, put, random_document};
use crate::text::TextRun;
use crate::{CollectionId, Effort, Error, Filter, Operation, Snapshot, Store};

const DIMS: usize = 24;

fn fill(store: &Store, notes: CollectionId, random: &mut Random, ids: std::ops::Range<i64>) {
    store.write(notes, ids.map(|id| put(random_document(random, id, DIMS))).collect()).unwrap();
}

/// Two segments with holes, and a tail.
fn sealed(folder: &Path, seed: u64) -> (Store, CollectionId) {
    let (store, notes) = on_disk(folder, DIMS);
    let mut random = Random::new(seed);
    fill(&store, notes, &mut random, 0..1500);
    assert!(seal(&store.0, notes, 1000).unwrap());
    fill(&store, notes, &mut random, 1400..1900);
    assert!(seal(&store.0, notes, 100).unwrap());
    fill(&store, notes, &mut random, 1850..2000);
    store.write(notes, (0..2000).step_by(7).map(|id| Operation::Delete(id.into())).collect()).unwrap();
    assert_eq!(store.snapshot(notes).unwrap().segments(), 2);
    (store, notes)
}

/// The same content, never sealed.
fn unsealed(folder: &Path, seed: u64) -> (Store, CollectionId) {
    let (store, notes) = on_disk(folder, DIMS);
    let mut random = Random::new(seed);
    for ids in [0..1500, 1400..1900, 1850..2000] {
        fill(&store, notes, &mut random, ids);
    }
    store.write(notes, (0..2000).step_by(7).map(|id| Operation::Delete(id.into())).collect()).unwrap();
    (store, notes)
}

/// Everything that a search may ask, with scores to the bit.
fn answers(snapshot: &Snapshot) -> Vec<String> {
    let mut random = Random::new(5);
    let mut answers = Vec::new();
    for filter in ["year >= 2020", "year = 2003 OR NOT year < 2027", "$id < 700", "EXISTS missing"] {
        let allowed = snapshot.matching_chunks(&filter.parse::<Filter>().unwrap()).unwrap();
        answers.push(format!("{filter}: {:?}", allowed.iter().collect::<Vec<_>>()));
        let found = snapshot.nearest(0, &random.vector(DIMS), 20, Some(&allowed)).unwrap();
        answers.push(format!("{found:?}"));
    }
    for _ in 0..5 {
        let query = random.vector(DIMS);
        let found = snapshot.nearest(0, &query, 60, None).unwrap();
        let chunks: Vec<_> = found.iter().map(|hit| hit.0).collect();
        answers.push(format!("{found:?} {:?}", snapshot.similarities(0, &query, &chunks).unwrap()));
    }
    answers.push(format!("{:?}", snapshot.search_text("word1 word2", 50, None).unwrap().hits));
    answers
}

#[test]
fn a_sealed_collection_answers_as_an_unsealed_one() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (plain, notes) = unsealed(folders[0].path(), 71);
    let expected = answers(&plain.snapshot(notes).unwrap());
    let (store, notes) = sealed(folders[1].path(), 71);
    assert_eq!(answers(&store.snapshot(notes).unwrap()), expected);
    sound(&store);
    drop(store);
    let store = Store::open(folders[1].path()).unwrap();
    assert_eq!(answers(&store.snapshot(notes).unwrap()), expected, "opened again");
    sound(&store);
}

#[test]
fn walks_find_nearly_all_and_score_as_the_exact_scan() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), DIMS);
    let mut random = Random::new(73);
    fill(&store, notes, &mut random, 0..6000);
    assert!(seal(&store.0, notes, 1000).unwrap());
    fill(&store, notes, &mut random, 5900..6100);
    let snapshot = store.snapshot(notes).unwrap();
    let (mut found, mut all) = (0, 0);
    for _ in 0..30 {
        let query = random.vector(DIMS);
        let exact = snapshot.nearest(0, &query, 10, None).unwrap();
        let walked = snapshot.nearest_with(0, &query, 10, None, Effort::Usual).unwrap();
        assert_eq!(walked.segments.len(), 1);
        assert!(walked.segments[0].compared < 6000, "{:?}", walked.segments[0]);
        for hit in &walked.hits {
            assert!(exact.iter().all(|other| other.0 != hit.0 || other.1.to_bits() == hit.1.to_bits()));
        }
        found += walked.hits.iter().filter(|hit| exact.contains(hit)).count();
        all += exact.len();
    }
    assert!(found * 100 >= all * 90, "{found} of {all}");
}

#[test]
fn damage_in_any_file_of_a_segment_costs_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = sealed(folder.path(), 79);
    let expected = answers(&store.snapshot(notes).unwrap());
    drop(store);
    let segment = folder.path().join("segments").join(format!("{}-0", notes.0));
    let names: Vec<_> = fs::read_dir(&segment).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.len() > 6, "{names:?}");
    for name in names {
        let other = tempfile::tempdir().unwrap();
        copy(folder.path(), other.path());
        let file = other.path().join("segments").join(format!("{}-0", notes.0)).join(&name);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 16;
        fs::write(&file, bytes).unwrap();
        let store = Store::open(other.path()).unwrap();
        let snapshot = store.snapshot(notes).unwrap();
        assert_eq!(answers(&snapshot), expected, "{name:?}");
        drop(snapshot);
        store.wait();
        store.check().unwrap();
        assert_eq!(answers(&store.snapshot(notes).unwrap()), expected, "{name:?}, being mended");
        store.wait();
        assert_eq!(answers(&store.snapshot(notes).unwrap()), expected, "{name:?}, mended");
        sound(&store);
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

#[test]
fn deleted_data_leaves_the_disk() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (store, notes) = on_disk(folders[0].path(), 256);
    let mut random = Random::new(83);
    let mut documents: Vec<_> = (0..6000).map(|id| random_document(&mut random, id, 256)).collect();
    for part in documents.chunks(500) {
        store.write(notes, part.iter().cloned().map(put).collect()).unwrap();
    }
    assert!(seal(&store.0, notes, 1000).unwrap());
    store.write(notes, (0..6000).filter(|id| id % 10 > 0).map(|id| Operation::Delete(id.into())).collect()).unwrap();
    let query = random.vector(256);
    let found = |store: &Store, notes| {
        let snapshot = store.snapshot(notes).unwrap();
        let hits = snapshot.nearest(0, &query, 50, None).unwrap();
        hits.into_iter().map(|(chunk, score)| (snapshot.hydrate(chunk).unwrap().document, score.to_bits())).collect()
    };
    let before: Vec<_> = found(&store, notes);
    let done = store.compact().unwrap();
    assert!(done.shrunk && done.moved > 0 && done.bytes_after < done.bytes_before, "{done:?}");
    assert_eq!(found(&store, notes), before);
    sound(&store);
    let (fresh, others) = on_disk(folders[1].path(), 256);
    documents.retain(|document| document.id.to_string().ends_with('0'));
    fresh.write(others, documents.into_iter().map(put).collect()).unwrap();
    seal(&fresh.0, others, 1).unwrap();
    fresh.compact().unwrap();
    let (bytes, least) = (store.bytes_on_disk().unwrap(), fresh.bytes_on_disk().unwrap());
    assert!(bytes * 10 <= least * 13, "{bytes} bytes, {least} in a fresh database");
    drop(store);
    let store = Store::open(folders[0].path()).unwrap();
    assert_eq!(found(&store, notes), before);
    sound(&store);
}

#[test]
fn a_snapshot_outlives_compaction_and_keeps_the_file_from_being_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = sealed(folder.path(), 89);
    let snapshot = store.snapshot(notes).unwrap();
    let before = answers(&snapshot);
    let done = store.compact().unwrap();
    assert!(!done.shrunk);
    assert_eq!(answers(&snapshot), before);
    drop(snapshot);
    assert!(store.compact().unwrap().shrunk);
    sound(&store);
}

#[test]
fn everything_deleted_leaves_no_segment() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = sealed(folder.path(), 97);
    store.write(notes, (0..2000).map(|id| Operation::Delete(id.into())).collect()).unwrap();
    store.compact().unwrap();
    assert_eq!(store.snapshot(notes).unwrap().segments(), 0);
    assert_eq!(fs::read_dir(folder.path().join("segments")).unwrap().count(), 0);
    sound(&store);
}

#[test]
fn closing_does_not_wait_for_a_segment_to_be_finished() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), DIMS);
    fill(&store, notes, &mut Random::new(101), 0..9000);
    store.seal_soon(notes, 0);
    drop(store);
    // The lock is free, so the thread is gone; whether it had finished is its luck.
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.snapshot(notes).unwrap().documents(), 9000);
    sound(&store);
}

#[test]
fn a_filter_asked_again_sees_what_was_written_since() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = sealed(folder.path(), 103);
    let filter: Filter = "$id >= 1990".parse().unwrap();
    let chunks = |snapshot: &Snapshot| snapshot.matching_chunks(&filter).unwrap();
    let old = store.snapshot(notes).unwrap();
    let before = chunks(&old);
    assert_eq!(chunks(&old), before);
    fill(&store, notes, &mut Random::new(7), 3000..3005);
    assert_eq!(chunks(&store.snapshot(notes).unwrap()).len(), before.len() + 5);
    store.write(notes, (1990..4000).map(|id| Operation::Delete(id.into())).collect()).unwrap();
    assert!(chunks(&store.snapshot(notes).unwrap()).is_empty());
    assert_eq!(chunks(&old), before, "a snapshot stays as it was");
    // More filters than are remembered.
    for year in 0..40 {
        let one: Filter = format!("$id = {year}").parse().unwrap();
        assert_eq!(old.matching_chunks(&one).unwrap().len(), u64::from(year % 7 > 0));
    }
    assert_eq!(chunks(&old), before);
}

#[test]
fn of_searches_that_meet_damage_at_once_one_loads_what_stands_in() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = sealed(folder.path(), 31);
    let view = store.0.current_view(notes).unwrap();
    let (loads, barrier) = (AtomicUsize::new(0), Barrier::new(8));
    let load = || {
        loads.fetch_add(1, Ordering::Relaxed);
        Ok(Span { roster: RosterRun::default(), columns: Vec::new(), text: TextRun::merge(&[]) })
    };
    view.segments[0].distrust();
    let refused = view.segments[0].stand_in_with(view.sequence, || Err(Error::invalid("not now")));
    assert!(refused.is_err(), "the next one tries again");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                view.segments[0].stand_in_with(view.sequence, load).unwrap();
            });
        }
    });
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    view.segments[1].stand_in_with(view.sequence, load).unwrap();
    assert_eq!(loads.load(Ordering::Relaxed), 1, "nothing is wrong with this one");
}
