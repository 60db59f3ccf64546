//! Documents with the same score stand in the order of their ids, wherever their chunks lie.

use std::path::Path;

use serde_json::json;

use super::{on_disk, sound};
use crate::seal::seal;
use crate::testing::{Random, document, put, random_document};
use crate::{CollectionId, DocumentId, Effort, Filter, Operation, Snapshot, Store};

const DIMS: usize = 24;
const EQUAL: i64 = 200;
const OTHERS: i64 = 5_600;

/// 200 documents have one vector; they come in no order, among others, and so often that a walk is needed to find them.
fn batches() -> Vec<Vec<Operation>> {
    let mut random = Random::new(211);
    let copy = random.vector(DIMS);
    let equal = (0..EQUAL).map(|id| {
        let text = "the same text for all";
        put(document(id * 37 % EQUAL, text, json!({"year": 2000 + id % 30}), std::slice::from_ref(&copy)))
    });
    let mut operations: Vec<Operation> = equal.collect();
    // Each beside it, nearer to some queries.
    operations.extend((1..=5_u8).map(|step| {
        let mut near = copy.clone();
        near[0] += 0.05 + f32::from(step) / 500.0;
        put(document(500 + i64::from(step), "nearly the same text", json!({"year": 2005}), &[near]))
    }));
    operations.extend((0..OTHERS).map(|id| put(random_document(&mut random, 1_000 + id, DIMS))));
    random.shuffle(&mut operations);
    operations.chunks(1_500).map(<[Operation]>::to_vec).collect()
}

fn ids(snapshot: &Snapshot, query: &[f32], k: usize, effort: Effort, filter: Option<&str>) -> Vec<DocumentId> {
    let allowed = filter.map(|filter| snapshot.matching_chunks(&filter.parse::<Filter>().unwrap()).unwrap());
    let found = snapshot.nearest_with(0, query, k, allowed.as_ref(), effort).unwrap();
    found.hits.into_iter().map(|(chunk, _)| snapshot.hydrate(chunk).unwrap().document).collect()
}

/// Who is found, in order, by queries that are the vector, or beside it, so that others are better.
fn answers(store: &Store, notes: CollectionId) -> Vec<Vec<DocumentId>> {
    let snapshot = store.snapshot(notes).unwrap();
    let copy = Random::new(211).vector(DIMS);
    let mut answers = Vec::new();
    for aside in [0.0, 0.06, 0.2] {
        let mut query = copy.clone();
        query[0] += aside;
        for k in [1, 10, 60] {
            for filter in [None, Some("year < 2013"), Some("$id < 40")] {
                for effort in [Effort::Exact, Effort::Usual, Effort::Ef(400)] {
                    answers.push(ids(&snapshot, &query, k, effort, filter));
                }
            }
        }
    }
    let found = snapshot.search_text("the same text", 10, None).unwrap();
    answers.push(found.hits.into_iter().map(|(chunk, _)| snapshot.hydrate(chunk).unwrap().document).collect());
    answers
}

fn filled(folder: &Path, seal_after: &[usize]) -> (Store, CollectionId) {
    let (store, notes) = on_disk(folder, DIMS);
    for (number, batch) in batches().into_iter().enumerate() {
        store.write(notes, batch).unwrap();
        if seal_after.contains(&number) {
            assert!(seal(&store.0, notes, 1).unwrap());
        }
    }
    (store, notes)
}

#[test]
fn equal_scores_stand_in_the_order_of_ids_whatever_is_sealed() {
    let folders = [0; 3].map(|_| tempfile::tempdir().unwrap());
    let (store, notes) = filled(folders[0].path(), &[]);
    let expected = answers(&store, notes);
    let first: Vec<DocumentId> = (0..10).map(DocumentId::from).collect();
    assert!(expected[9..12].iter().all(|ids| *ids == first), "{:?}", &expected[9..12]);
    assert!(seal(&store.0, notes, 1).unwrap());
    assert!(answers(&store, notes) == expected, "one segment");
    drop(store);
    assert!(answers(&Store::open(folders[0].path()).unwrap(), notes) == expected, "opened again");
    let (store, notes) = filled(folders[1].path(), &[0, 2]);
    assert!(answers(&store, notes) == expected, "two segments and a tail");
    // What dies leaves holes, and compaction gives documents other chunk numbers.
    let gone: Vec<Operation> = (1_000..1_000 + OTHERS).step_by(3).map(|id| Operation::Delete(id.into())).collect();
    let (plain, others) = filled(folders[2].path(), &[]);
    plain.write(others, gone.clone()).unwrap();
    let expected = answers(&plain, others);
    store.write(notes, gone).unwrap();
    assert!(answers(&store, notes) == expected, "with holes");
    assert!(store.compact().unwrap().moved > 0);
    assert!(answers(&store, notes) == expected, "compacted");
    sound(&store);
}
