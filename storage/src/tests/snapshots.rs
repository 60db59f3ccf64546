//! Snapshots while others write.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::{in_memory, on_disk, sound};
use crate::seal::seal;
use crate::testing::{Random, document, put, random_document};
use crate::{ChunkNumber, CollectionId, Metric, Operation, Snapshot, Store};

#[test]
fn a_snapshot_never_changes() {
    let (store, notes) = in_memory(4, Metric::Cosine);
    let mut random = Random::new(61);
    store.write(notes, (0..100).map(|n| put(random_document(&mut random, n, 4))).collect()).unwrap();
    let snapshot = store.snapshot(notes).unwrap();
    let answers = |snapshot: &Snapshot| {
        (
            snapshot.nearest(0, &[1.0, 0.5, -0.5, 0.1], 200, None).unwrap(),
            snapshot.search_text("word1 word5", 200, None).unwrap().hits,
            snapshot.ids().unwrap(),
            snapshot.scan(None, 200).unwrap(),
            snapshot.document_frequency("word2").unwrap(),
            snapshot.hydrate(ChunkNumber(17)).unwrap(),
            snapshot.vector(0, ChunkNumber(17)).unwrap(),
            (snapshot.documents(), snapshot.chunks()),
        )
    };
    let before = answers(&snapshot);
    for round in 0..30 {
        let batch = (0..20).map(|n| put(random_document(&mut random, round * 5 + n, 4))).collect();
        store.write(notes, batch).unwrap();
        store.write(notes, (0..3).map(|n| Operation::Delete((round * 3 + n).into())).collect()).unwrap();
        assert!(answers(&snapshot.clone()) == before, "round {round}");
    }
    store.drop_collection("notes").unwrap();
    assert!(answers(&snapshot) == before);
}

/// Document 0 holds the number of the last write; each write replaces all documents by that number.
fn write_round(store: &Store, notes: CollectionId, round: u16, documents: i64) {
    let batch = (0..documents).map(|id| {
        let vector = vec![1.0 + f32::from(round), 1.0];
        put(document(id, &format!("round{round}. "), json!({"round": round}), &[vector]))
    });
    store.write(notes, batch.collect()).unwrap();
}

#[test]
fn readers_never_see_parts_of_a_commit_nor_wait_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), 2);
    let documents = 20;
    write_round(&store, notes, 0, documents);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = || {
            let mut seen = Vec::new();
            while !done.load(Ordering::SeqCst) {
                let snapshot = store.snapshot(notes).unwrap();
                let round = snapshot.document(&0.into()).unwrap().unwrap().metadata["round"].as_u64().unwrap();
                let hits = snapshot.nearest(0, &[1.0, 0.0], 1000, None).unwrap();
                assert_eq!(hits.len(), documents as usize);
                let text = snapshot.search_text(&format!("round{round}"), 1000, None).unwrap();
                assert_eq!(text.hits.len(), documents as usize);
                for (chunk, _) in hits {
                    assert_eq!(snapshot.hydrate(chunk).unwrap().text, format!("round{round}. "));
                }
                seen.push(round);
            }
            assert!(seen.is_sorted(), "time does not run backwards");
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        for round in 1..150 {
            write_round(&store, notes, round, documents);
            let now = store.snapshot(notes).unwrap().document(&0.into()).unwrap().unwrap();
            assert_eq!(now.metadata["round"], json!(round), "what was acknowledged is seen");
            if round % 40 == 0 {
                seal(&store.0, notes, 1).unwrap();
            }
        }
        done.store(true, Ordering::SeqCst);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    sound(&store);
}

#[test]
fn writers_of_several_threads_take_turns() {
    let (store, notes) = in_memory(2, Metric::Cosine);
    std::thread::scope(|scope| {
        for thread in 0..4_i64 {
            let store = store.clone();
            scope.spawn(move || {
                let mut random = Random::new(thread as u64);
                for n in 0..50 {
                    store.write(notes, vec![put(random_document(&mut random, thread * 1000 + n, 2))]).unwrap();
                }
            });
        }
    });
    assert_eq!(store.snapshot(notes).unwrap().documents(), 200);
    sound(&store);
}

#[test]
fn a_collection_is_loaded_once_by_many_first_readers() {
    let folder = tempfile::tempdir().unwrap();
    let notes = {
        let (store, notes) = on_disk(folder.path(), 4);
        let mut random = Random::new(67);
        store.write(notes, (0..2_000).map(|n| put(random_document(&mut random, n, 4))).collect()).unwrap();
        notes
    };
    let store = Store::open(folder.path()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..6_i64 {
            let store = &store;
            scope.spawn(move || {
                let mut random = Random::new(thread as u64);
                if thread % 2 == 0 {
                    store.write(notes, vec![put(random_document(&mut random, 5_000 + thread, 4))]).unwrap();
                }
                let snapshot = store.snapshot(notes).unwrap();
                let hits = snapshot.nearest(0, &random.vector(4), 5_000, None).unwrap();
                assert_eq!(hits.len() as u64, snapshot.chunks());
            });
        }
    });
    sound(&store);
}

#[test]
fn snapshots_and_stores_go_between_threads() {
    fn check<T: Send + Sync + Clone + 'static>() {}
    check::<Snapshot>();
    check::<Store>();
}

#[test]
fn the_age_of_the_oldest_snapshot_is_told() {
    let (store, notes) = in_memory(4, Metric::Cosine);
    assert_eq!(store.oldest_snapshot_age(), None);
    let begun = std::time::Instant::now();
    let first = store.snapshot(notes).unwrap();
    let first_again = first.clone();
    let age = store.oldest_snapshot_age().unwrap();
    assert!(age <= begun.elapsed());
    let between = std::time::Instant::now();
    let second = store.snapshot(notes).unwrap();
    drop(first);
    assert!(store.oldest_snapshot_age().unwrap() >= between.elapsed(), "a clone holds it, too");
    drop(first_again);
    assert!(store.oldest_snapshot_age().unwrap() <= between.elapsed());
    drop(second);
    assert_eq!(store.oldest_snapshot_age(), None);
}
