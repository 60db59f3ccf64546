//! Do readers see whole documents while a writer replaces them?
//!
//! A writer keeps replacing documents whose every chunk carries the version's word. Whoever searches must find, for
//! each document, all chunks of one version or another, never a mixture.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use quiverdb::{Database, Document, Mode, Query, Snapshot};

use crate::scenes::{folder, long_text};

const DOCUMENTS: i64 = 6;
const VERSIONS: usize = 25;

fn document(id: i64, version: usize) -> Document {
    Document::new(id, long_text(&format!("version{version} of the shared word everywhere"), 3 + version % 3))
}

/// Every document in this snapshot is whole: its hits are of its one version and cover its text.
fn expect_whole(snapshot: &Snapshot) {
    let hits = snapshot.search(Query::text("everywhere").mode(Mode::Text).limit(10_000)).unwrap().hits;
    let mut by_document: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for hit in hits {
        by_document.entry(hit.document.clone()).or_default().push(hit);
    }
    assert_eq!(by_document.len() as u64, snapshot.count(), "a document is missing from the text leg");
    for (id, mut hits) in by_document {
        let text = snapshot.get(id.clone()).unwrap().expect("a hit's document is in the same snapshot").text;
        hits.sort_by_key(|hit| hit.chunk);
        let words = hits.iter().flat_map(|hit| hit.text.split_whitespace().filter(|word| word.starts_with("version")));
        let versions: BTreeSet<&str> = words.collect();
        assert_eq!(versions.len(), 1, "document {id} mixes {versions:?}");
        let mut covered = 0;
        for hit in &hits {
            let between = &text[covered..hit.start.max(covered)];
            assert!(between.trim().is_empty(), "document {id} has a gap at byte {covered}: {between:?}");
            assert_eq!(text[hit.start..hit.end], hit.text);
            covered = hit.end;
        }
        assert!(text[covered..].trim().is_empty(), "document {id} lacks its end, from byte {covered}");
    }
}

#[test]
fn readers_see_whole_documents_while_a_writer_replaces_them() {
    let folder = folder();
    let db = Database::open(folder.path()).unwrap();
    let notes = db.collection("notes").unwrap();
    notes.add_many((0..DOCUMENTS).map(|id| document(id, 0))).unwrap();
    let done = AtomicBool::new(false);
    let looks: usize = std::thread::scope(|scope| {
        let read = || {
            let mut looks = 0;
            while !done.load(Ordering::Acquire) || looks == 0 {
                let snapshot = notes.snapshot().unwrap();
                expect_whole(&snapshot);
                expect_whole(&snapshot);
                looks += 1;
            }
            looks
        };
        let readers: Vec<_> = (0..3).map(|_| scope.spawn(read)).collect();
        for version in 1..=VERSIONS {
            notes.add_many((0..DOCUMENTS).map(|id| document(id, version))).unwrap();
            let gone = version as i64 % DOCUMENTS;
            notes.delete(gone).unwrap();
            notes.add(document(gone, version)).unwrap();
        }
        done.store(true, Ordering::Release);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    assert!(looks >= 3, "the readers looked {looks} times");
    expect_whole(&notes.snapshot().unwrap());
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
}

#[test]
fn writers_in_many_threads_lose_nothing() {
    let db = Database::in_memory().unwrap();
    let notes = db.collection("notes").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let notes = notes.clone();
            scope.spawn(move || {
                for n in 0..10 {
                    notes.add(Document::new(thread * 100 + n, format!("Note {n} of thread {thread}."))).unwrap();
                    // All threads write this one; whoever is last, it stays whole.
                    notes.add(document(1_000, thread as usize)).unwrap();
                }
            });
        }
    });
    assert_eq!(notes.count().unwrap(), 41);
    assert_eq!(notes.snapshot().unwrap().get(1_000).unwrap().map(|document| document.id), Some(1_000.into()));
    assert_eq!(db.check().unwrap(), Vec::<String>::new());
}

#[test]
fn many_threads_open_one_new_collection() {
    let db = Database::in_memory().unwrap();
    std::thread::scope(|scope| {
        for id in 0..8 {
            let db = db.clone();
            scope.spawn(move || db.collection("notes").unwrap().add(Document::new(id, "text")).unwrap());
        }
    });
    assert_eq!(db.collections().unwrap().len(), 1);
    assert_eq!(db.open_collection("notes").unwrap().count().unwrap(), 8);
}
