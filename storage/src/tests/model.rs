//! Random histories against a map and brute force.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::expiry::Hands;
use super::sound;
use crate::seal::seal;
use crate::testing::{Random, document, put, settings};
use crate::{Alongside, CollectionId, DocumentId, LedgerEdit, Metric, NewDocument, Operation, Snapshot, Store};

const DIMS: usize = 5;

/// What happens to the database.
#[derive(Clone, Debug)]
enum Step {
    /// Puts (`Some` seed) and deletes (`None`) of documents by a small number.
    Write(Vec<(u8, Option<u64>)>),
    Reopen,
    Seal,
    Recreate,
    /// A second goes by, and with it some documents.
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    let operation = (0..24_u8, prop::option::weighted(0.7, any::<u64>()));
    prop_oneof![
        12 => prop::collection::vec(operation, 1..12).prop_map(Step::Write),
        2 => Just(Step::Reopen),
        2 => Just(Step::Seal),
        1 => Just(Step::Recreate),
        3 => Just(Step::Tick),
    ]
}

fn id_of(number: u8) -> DocumentId {
    if number.is_multiple_of(2) { i64::from(number).into() } else { format!("id{number}").into() }
}

/// A document of 0 to 3 chunks; few distinct vectors and words, so that scores tie.
fn make(number: u8, seed: u64) -> NewDocument {
    let mut random = Random::new(seed);
    let count = random.below(4) as usize;
    let text: String = (0..count)
        .map(|_| {
            let words = 1 + random.below(3);
            format!("{}. ", random.words(words))
        })
        .collect();
    let vectors: Vec<Vec<f32>> = (0..count)
        .map(|_| (0..DIMS).map(|axis| if axis == 0 { 1.0 } else { random.below(3) as f32 }).collect())
        .collect();
    let mut made = document(id_of(number), &text, json!({"n": number, "seed": seed % 5}), &vectors);
    made.title = seed.is_multiple_of(3).then(|| format!("word{}", seed % 7));
    made
}

pub(super) type Model = BTreeMap<DocumentId, NewDocument>;

fn apply(store: &Store, notes: CollectionId, now: u64, model: &mut Model, operations: &[(u8, Option<u64>)]) {
    let mut batch = Vec::new();
    for &(number, seed) in operations {
        match seed {
            Some(seed) => {
                let mut document = make(number, seed);
                document.expires_at = seed.is_multiple_of(4).then(|| now + 1 + seed % 3);
                model.insert(document.id.clone(), document.clone());
                batch.push(put(document));
            }
            None => {
                model.remove(&id_of(number));
                batch.push(Operation::Delete(id_of(number)));
            }
        }
    }
    store.write_with(notes, batch, Alongside::ledger([LedgerEdit::put("documents", count(model))])).unwrap();
}

/// What the ledger then says.
fn count(model: &Model) -> Vec<u8> {
    model.len().to_string().into_bytes()
}

/// Every document is there as it was given, and no other.
pub(super) fn stored_agrees(snapshot: &Snapshot, model: &Model) {
    assert_eq!(snapshot.ids().unwrap(), model.keys().cloned().collect::<Vec<_>>());
    assert_eq!(snapshot.chunks() as usize, model.values().map(|document| document.chunks.len()).sum::<usize>());
    for stored in snapshot.scan(None, usize::MAX).unwrap() {
        let given = &model[&stored.id];
        assert_eq!((&stored.text, &stored.title, &stored.metadata), (&given.text, &given.title, &given.metadata));
        let vectors = snapshot.stored_chunks(&stored.id).unwrap().into_iter().map(|chunk| chunk.vectors);
        assert!(vectors.eq(given.chunks.iter().map(|chunk| chunk.vectors.clone())));
    }
}

fn agrees(snapshot: &Snapshot, model: &Model) {
    stored_agrees(snapshot, model);
    nearest_agrees(snapshot, model, &[1.0, 0.0, 2.0, 1.0, 0.0]);
    text_agrees(snapshot, model, "word3");
}

/// The scores come from the database and are compared to the textbook's; the choice among equals is brute force.
fn nearest_agrees(snapshot: &Snapshot, model: &Model, query: &[f32]) {
    let all = snapshot.nearest(0, query, usize::MAX, None).unwrap();
    let mut expected: Vec<(DocumentId, u32, f64)> = Vec::new();
    for (id, document) in model {
        for (ordinal, chunk) in (0..).zip(&document.chunks) {
            let (v, length) = (&chunk.vectors[0], |v: &[f32]| v.iter().map(|a| f64::from(a * a)).sum::<f64>().sqrt());
            let dot: f64 = v.iter().zip(query).map(|(a, b)| f64::from(a * b)).sum();
            expected.push((id.clone(), ordinal, dot / length(v) / length(query)));
        }
    }
    assert_eq!(all.len(), expected.len());
    let mut found: Vec<(DocumentId, u32, f32)> = Vec::new();
    for (chunk, score) in &all {
        let chunk = snapshot.hydrate(*chunk).unwrap();
        let (_, _, textbook) =
            expected.iter().find(|(id, ordinal, _)| *id == chunk.document && *ordinal == chunk.ordinal).unwrap();
        assert!((f64::from(*score) - textbook).abs() < 1e-6);
        found.push((chunk.document, chunk.ordinal, *score));
    }
    let sorted = found.is_sorted_by(|one, other| {
        other.2.total_cmp(&one.2).then(one.0.cmp(&other.0)).then(one.1.cmp(&other.1)).is_le()
    });
    assert!(sorted, "{found:?}");
    for k in [1, 3, 10] {
        let cut = snapshot.nearest(0, query, k, None).unwrap();
        assert_eq!(cut, all[..k.min(all.len())]);
    }
}

fn text_agrees(snapshot: &Snapshot, model: &Model, word: &str) {
    let holds = |document: &NewDocument, text: &str| {
        document.title.as_deref() == Some(word) || text.split([' ', '.']).any(|other| other == word)
    };
    let mut expected = Vec::new();
    for (id, document) in model {
        for (ordinal, chunk) in (0_u32..).zip(&document.chunks) {
            if holds(document, &document.text[chunk.start..chunk.end]) {
                expected.push((id.clone(), ordinal));
            }
        }
    }
    let hits = snapshot.search_text(word, usize::MAX, None).unwrap().hits;
    let mut found: Vec<_> =
        hits.iter().map(|(chunk, _)| snapshot.hydrate(*chunk).unwrap()).map(|c| (c.document, c.ordinal)).collect();
    found.sort();
    assert_eq!(found, expected);
    // The statistics count what has expired until it is swept.
    assert!(snapshot.document_frequency(word).unwrap() >= Some(expected.len() as u64));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_history_leaves_what_a_map_would_hold(steps in prop::collection::vec(step(), 1..20)) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        let mut notes = store.create_collection("notes", &settings(DIMS, Metric::Cosine)).unwrap().id;
        let (mut model, mut told, mut now, hands) = (Model::new(), None, 0, Hands::default());
        hands.drive(&store);
        let mut kept: Option<(Snapshot, Model)> = None;
        for step in steps {
            match step {
                Step::Write(operations) => {
                    apply(&store, notes, now, &mut model, &operations);
                    told = Some(count(&model));
                }
                Step::Reopen => {
                    kept = None;
                    drop(store);
                    store = Store::open(folder.path()).unwrap();
                    hands.drive(&store);
                }
                Step::Seal => {
                    seal(&store.0, notes, 1).unwrap();
                }
                Step::Recreate => {
                    store.drop_collection("notes").unwrap();
                    notes = store.create_collection("notes", &settings(DIMS, Metric::Cosine)).unwrap().id;
                    model.clear();
                    told = None;
                }
                Step::Tick => {
                    now += 1;
                    hands.set(now);
                    model.retain(|_, document| document.expires_at.is_none_or(|at| at > now));
                }
            }
            let ledger = store.ledger(notes, b"documents").unwrap();
            assert_eq!(ledger, told, "as of the commit of the documents");
            let snapshot = store.snapshot(notes).unwrap();
            agrees(&snapshot, &model);
            if let Some((old, then)) = &kept {
                agrees(old, then);
            }
            kept.get_or_insert((snapshot, model.clone()));
        }
        sound(&store);
    }
}
