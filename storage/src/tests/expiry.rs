//! Documents that are to be gone by a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use super::{in_memory, on_disk, sound};
use crate::seal::seal;
use crate::testing::{document, put, settings};
use crate::{
    ChunkNumber, CollectionId, DocumentId, Effort, Filter, Metric, NewDocument, Operation, Snapshot, Store, TextQuery,
    Written,
};

const DIMS: usize = 2;

/// A clock that stands until it is set.
#[derive(Clone, Default)]
pub(super) struct Hands(Arc<AtomicU64>);

impl Hands {
    pub(super) fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }

    pub(super) fn drive(&self, store: &Store) {
        let hands = self.clone();
        store.set_clock(Arc::new(move || hands.0.load(Ordering::Relaxed)));
    }
}

/// Two chunks of the words `shared` and `wordN`; lower numbers are nearer to the first axis. Even ones expire at their number.
fn make(number: i64) -> NewDocument {
    let angle = number as f32 / 1000.0;
    let vectors = [vec![angle.cos(), angle.sin()], vec![(angle + 2.0).cos(), (angle + 2.0).sin()]];
    let text = format!("shared word{number}. Again word{number}. ");
    let mut made = document(number, &text, json!({"n": number}), &vectors);
    made.expires_at = (number % 2 == 0).then_some(number as u64);
    made
}

fn fill(store: &Store, notes: CollectionId, count: i64) {
    store.write(notes, (1..=count).map(|number| put(make(number))).collect()).unwrap();
}

fn documents_of(snapshot: &Snapshot, hits: &[(ChunkNumber, f32)]) -> Vec<DocumentId> {
    hits.iter().map(|(chunk, _)| snapshot.hydrate(*chunk).unwrap().document).collect()
}

/// Every way to ask sees exactly these documents, of `1..=count`.
#[track_caller]
fn sees(store: &Store, notes: CollectionId, expected: &[i64]) {
    let snapshot = store.snapshot(notes).unwrap();
    let ids: Vec<DocumentId> = expected.iter().map(|&number| number.into()).collect();
    assert_eq!(snapshot.ids().unwrap(), ids);
    assert_eq!((snapshot.documents(), snapshot.chunks()), (ids.len() as u64, 2 * ids.len() as u64));
    let scanned: Vec<DocumentId> = snapshot.scan(None, 1_000).unwrap().into_iter().map(|found| found.id).collect();
    assert_eq!(scanned, ids);
    let limit = ids.len().min(3);
    for effort in [Effort::Exact, Effort::Usual, Effort::Ef(16)] {
        let found = snapshot.nearest_with(0, &[1.0, 0.0], limit, None, effort).unwrap().hits;
        assert_eq!(
            documents_of(&snapshot, &found),
            ids[..limit],
            "{effort:?}: as many as there are, the nearest first"
        );
    }
    let all = snapshot.search_text("shared", 1_000, None).unwrap().hits;
    let syntax = snapshot.search_text_query(&TextQuery::parse("+shared").unwrap(), 1_000, None).unwrap().hits;
    for hits in [all, syntax] {
        let mut found = documents_of(&snapshot, &hits);
        found.sort();
        assert_eq!(found, ids);
    }
    let filter: Filter = "n >= 0".parse().unwrap();
    assert_eq!(snapshot.matching_documents(&filter).unwrap(), ids);
    let allowed = snapshot.matching_chunks(&filter).unwrap();
    assert_eq!(allowed.len(), 2 * ids.len() as u64);
    let found = snapshot.nearest_with(0, &[1.0, 0.0], limit, Some(&allowed), Effort::Usual).unwrap().hits;
    assert_eq!(documents_of(&snapshot, &found), ids[..limit]);
    for number in 1..=20 {
        let is_there = expected.contains(&number);
        let id = DocumentId::from(number);
        assert_eq!(snapshot.document(&id).unwrap().is_some(), is_there, "{number}");
        assert_eq!(snapshot.digest(&id).unwrap().is_some(), is_there);
        assert_eq!(snapshot.stored_chunks(&id).unwrap().is_empty(), !is_there);
    }
}

#[test]
fn from_its_moment_on_a_document_is_hidden_from_all_that_asks_sealed_or_not() {
    for sealed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (store, notes) = on_disk(folder.path(), DIMS);
        let hands = Hands::default();
        hands.drive(&store);
        fill(&store, notes, 10);
        assert!(!sealed || seal(&store.0, notes, 1).unwrap());
        let early = store.snapshot(notes).unwrap();
        hands.set(1);
        sees(&store, notes, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        hands.set(2);
        sees(&store, notes, &[1, 3, 4, 5, 6, 7, 8, 9, 10]);
        hands.set(9);
        sees(&store, notes, &[1, 3, 5, 7, 9, 10]);
        assert_eq!((early.documents(), early.ids().unwrap().len()), (10, 10), "a snapshot has one moment");
        hands.set(5);
        sees(&store, notes, &[1, 3, 5, 6, 7, 8, 9, 10]);
        drop((early, store));
        let store = Store::open(folder.path()).unwrap();
        sees(&store, notes, &[1, 3, 5, 7, 9]);
        assert_eq!(store.snapshot(notes).unwrap().document(&3.into()).unwrap().unwrap().expires_at, None);
        hands.set(3);
        hands.drive(&store);
        let found = store.snapshot(notes).unwrap().document(&6.into()).unwrap().unwrap();
        assert_eq!(found.expires_at, Some(6));
        sound(&store);
    }
}

#[test]
fn writes_and_compaction_sweep_what_has_expired() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), DIMS);
    let hands = Hands::default();
    hands.drive(&store);
    fill(&store, notes, 20);
    hands.set(6);
    let rows = || store.0.current_view(notes).unwrap().documents().unwrap();
    assert_eq!(rows(), 20);
    let written = store.write(notes, vec![Operation::Delete("nobody".into())]).unwrap();
    assert_eq!((written, rows()), (Written::default(), 17), "what goes by itself is not counted");
    sees(&store, notes, &[1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
    hands.set(10);
    store.compact().unwrap();
    assert_eq!(rows(), 15);
    hands.set(20);
    assert_eq!((store.sweep(notes).unwrap(), store.sweep(notes).unwrap()), (5, 0));
    sees(&store, notes, &[1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
    sound(&store);
    store.drop_collection("notes").unwrap();
    sound(&store);
}

#[test]
fn more_than_one_commit_removes_are_swept_too() {
    let (store, notes) = in_memory(1, Metric::Dot);
    let hands = Hands::default();
    hands.drive(&store);
    let short_lived = |number: i64| {
        let mut made = document(number, "Word. ", json!({}), &[vec![1.0]]);
        made.expires_at = Some(1);
        put(made)
    };
    store.write(notes, (0..1_500).map(short_lived).collect()).unwrap();
    hands.set(1);
    assert_eq!(store.snapshot(notes).unwrap().documents(), 0);
    assert_eq!(store.sweep(notes).unwrap(), 1_500);
    sound(&store);
}

#[test]
fn a_document_written_again_has_its_new_moment_and_is_new_after_the_old_one() {
    let (store, notes) = in_memory(DIMS, Metric::Cosine);
    let hands = Hands::default();
    hands.drive(&store);
    fill(&store, notes, 4);
    let put_with = |expires_at| {
        let mut made = make(2);
        made.expires_at = expires_at;
        store.write(notes, vec![put(made)]).unwrap()
    };
    assert_eq!(put_with(Some(100)).replaced, 1);
    hands.set(3);
    sees(&store, notes, &[1, 2, 3, 4]);
    put_with(None);
    hands.set(1_000);
    sees(&store, notes, &[1, 2, 3]);
    put_with(Some(2_000));
    hands.set(3_000);
    let again = put_with(Some(4_000));
    assert_eq!((again.added, again.replaced), (1, 0), "nobody saw the old one any more");
    sees(&store, notes, &[1, 2, 3]);
    let past = put_with(Some(5));
    assert_eq!(past.replaced, 1);
    sees(&store, notes, &[1, 3]);
    let gone = store.write(notes, vec![Operation::Delete(2.into())]).unwrap();
    assert_eq!(gone.removed, 0, "there was none to be seen");
    sound(&store);
}

#[test]
fn collections_do_not_share_moments() {
    let (store, notes) = in_memory(DIMS, Metric::Cosine);
    let hands = Hands::default();
    hands.drive(&store);
    let other = store.create_collection("other", &settings(DIMS, Metric::Cosine)).unwrap().id;
    fill(&store, notes, 2);
    fill(&store, other, 4);
    hands.set(2);
    assert_eq!(store.sweep(notes).unwrap(), 1);
    sees(&store, other, &[1, 3, 4]);
    store.drop_collection("notes").unwrap();
    sees(&store, other, &[1, 3, 4]);
    assert_eq!(store.sweep(other).unwrap(), 1);
    sound(&store);
}
