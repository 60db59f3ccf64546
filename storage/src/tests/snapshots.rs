//! Snapshots while others write.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::{in_memory, on_disk, sound};
use crate::seal::seal;
use crate::testing::{Random, document, fast_folder, put, random_document};
use crate::{ChunkNumber, CollectionId, Error, Metric, Operation, Snapshot, Store};

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

#[test]
fn a_sample_is_spread_over_what_lives_and_holds_nothing_twice() {
    let (store, notes) = in_memory(4, Metric::Cosine);
    let mut random = Random::new(62);
    store.write(notes, (0..100).map(|n| put(random_document(&mut random, n, 4))).collect()).unwrap();
    store.write(notes, (40..60).map(|n: i64| Operation::Delete(n.into())).collect()).unwrap();
    let snapshot = store.snapshot(notes).unwrap();
    let all = snapshot.sample(usize::MAX).unwrap();
    assert_eq!(all.len() as u64, snapshot.chunks());
    assert!(all.is_sorted() && all.windows(2).all(|pair| pair[0] != pair[1]));
    // Each is alive, or this fails.
    assert!(all.iter().all(|chunk| snapshot.hydrate(*chunk).unwrap().ordinal < 100));
    let some: Vec<_> = snapshot.sample(4).unwrap();
    let spread: Vec<_> = (0..4).map(|quarter| all[quarter * all.len() / 4]).collect();
    assert_eq!((some, snapshot.sample(0).unwrap()), (spread, Vec::new()));
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

/// Replaces all documents so many times, each time with a snapshot that `keep` gets; returns how long the file is then.
fn rewritten(store: &Store, notes: CollectionId, rounds: u64, mut keep: impl FnMut(Snapshot)) -> u64 {
    for round in 0..rounds {
        keep(store.snapshot(notes).unwrap());
        let mut random = Random::new(round);
        store.write(notes, (0..100).map(|id| put(random_document(&mut random, id, 64))).collect()).unwrap();
    }
    std::fs::metadata(store.0.folder().unwrap().join("data.redb")).unwrap().len()
}

#[test]
fn a_snapshot_that_is_held_makes_the_file_grow_and_one_that_was_let_go_or_ended_does_not() {
    let length = |age_max: Option<Duration>, held: usize| {
        let folder = fast_folder();
        let (store, notes) = on_disk(folder.path(), 64);
        store.set_snapshot_age_max(age_max);
        rewritten(&store, notes, 10, drop);
        let mut snapshots = Vec::new();
        let length = rewritten(&store, notes, 150, |snapshot| {
            if snapshots.len() < held {
                snapshots.push(snapshot);
            }
        });
        let first = snapshots
            .first()
            .map(|snapshot| (snapshot.ids().map(|ids| ids.len()), snapshot.nearest(0, &[1.0; 64], 1, None)));
        match (age_max, first) {
            (_, None) => {}
            (None, Some((ids, nearest))) => assert!(ids.unwrap() == 100 && nearest.unwrap().len() == 1),
            (Some(_), Some((ids, nearest))) => {
                assert!(matches!(ids, Err(Error::Expired)) && matches!(nearest, Err(Error::Expired)));
                assert_eq!(store.oldest_snapshot_age(), None);
                assert_eq!(store.snapshot(notes).unwrap().ids().unwrap().len(), 100, "new ones are read");
            }
        }
        drop(snapshots);
        sound(&store);
        length
    };
    let (dropped, held, ended) = (length(None, 0), length(None, 1), length(Some(Duration::ZERO), 1));
    assert!(held > 2 * dropped, "{held} bytes with one that is held, {dropped} without");
    assert!(ended <= dropped + dropped / 4, "{ended} bytes with one that was ended, {dropped} without");
    assert!(length(Some(Duration::from_secs(3600)), 0) <= dropped + dropped / 4);
}

#[test]
fn no_write_ends_the_snapshots_of_our_own_work() {
    let (store, notes) = in_memory(4, Metric::Cosine);
    let mut random = Random::new(68);
    let mut write = |id: i64| store.write(notes, vec![put(random_document(&mut random, id, 4))]).unwrap();
    write(1);
    store.set_snapshot_age_max(Some(Duration::ZERO));
    let (lent, kept) = (store.snapshot(notes).unwrap(), Snapshot::kept(&store.0, notes).unwrap());
    write(2);
    assert!(matches!(lent.ids(), Err(Error::Expired)));
    assert_eq!(kept.ids().unwrap(), [1.into()]);
    assert!(store.oldest_snapshot_age().is_some(), "it is counted");
    drop((lent, kept));
    assert_eq!(store.oldest_snapshot_age(), None);
}

#[test]
fn a_read_under_way_goes_on_when_its_snapshot_is_ended() {
    let (store, notes) = in_memory(4, Metric::Cosine);
    let mut random = Random::new(67);
    store.write(notes, (0..100).map(|id| put(random_document(&mut random, id, 4))).collect()).unwrap();
    let snapshot = store.snapshot(notes).unwrap();
    store.set_snapshot_age_max(Some(Duration::ZERO));
    let transaction = snapshot.transaction().unwrap();
    let before = crate::rows::open(&transaction, crate::tables::DOCUMENTS).unwrap();
    store.write(notes, (0..100).map(|id| Operation::Delete(id.into())).collect()).unwrap();
    assert!(matches!(snapshot.scan(None, 5), Err(Error::Expired)));
    assert_eq!(redb::ReadableTableMetadata::len(&before).unwrap(), 100);
    drop((before, transaction));
    assert_eq!(store.snapshot(notes).unwrap().documents(), 0);
}
