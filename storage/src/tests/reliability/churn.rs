//! Is what lives still found after everything was replaced many times over?
//!
//! Ten times as many documents as live are added, replaced and deleted, sealed and merged as it comes. What is found then
//! is compared with the exact scan, with a database that was filled once with the same, and with itself after reopening.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::sound;
use crate::seal::{merge, seal};
use crate::testing::{Random, Trial, document, fast_folder, put, settings};
use crate::{CollectionId, DocumentId, Effort, Metric, NewDocument, Operation, Store};

const DIMS: usize = 16;
const TURNS: usize = 10;
const QUERIES: usize = 50;

/// A vector near one of a few centres, as embeddings are.
fn vector(random: &mut Random) -> Vec<f32> {
    let centre = Random::new(random.below(12)).vector(DIMS);
    centre.iter().map(|number| number + 0.7 * random.number()).collect()
}

fn make(random: &mut Random, id: i64) -> NewDocument {
    let vector = vector(random);
    document(id, "a passage. ", serde_json::json!({}), &[vector])
}

fn open(folder: &Path, metric: Metric) -> (Store, CollectionId) {
    let store = Store::open(folder).unwrap();
    let notes = store.create_collection("notes", &settings(DIMS, metric)).unwrap().id;
    (store, notes)
}

type Living = BTreeMap<DocumentId, NewDocument>;

/// As many operations as documents live, in batches: replacements, and deletes with another one put instead.
fn churn(store: &Store, notes: CollectionId, random: &mut Random, living: &mut Living, next: &mut i64) {
    let count = living.len();
    for _ in 0..10 {
        let mut batch = Vec::new();
        for _ in 0..count / 10 {
            let id = living.keys().nth(random.below(count as u64) as usize).unwrap().clone();
            let fresh = match (random.below(2), &id) {
                (0, DocumentId::Integer(id)) => make(random, *id),
                _ => {
                    living.remove(&id);
                    batch.push(Operation::Delete(id));
                    *next += 1;
                    make(random, *next)
                }
            };
            living.insert(fresh.id.clone(), fresh.clone());
            batch.push(put(fresh));
        }
        store.write(notes, batch).unwrap();
        if random.below(3) == 0 {
            seal(&store.0, notes, count as u64 / 8).unwrap();
        }
    }
    if random.below(4) == 0 {
        merge(&store.0, notes).unwrap();
    }
}

/// The mean share of the ten nearest that is found.
fn recall(store: &Store, notes: CollectionId, queries: &[Vec<f32>], effort: Effort) -> f64 {
    let snapshot = store.snapshot(notes).unwrap();
    let share = |query: &Vec<f32>| {
        let exact = snapshot.nearest(0, query, 10, None).unwrap();
        let found = snapshot.nearest_with(0, query, 10, None, effort).unwrap().hits;
        assert_eq!(found.len(), exact.len());
        found.iter().filter(|hit| exact.contains(hit)).count() as f64 / exact.len() as f64
    };
    queries.iter().map(share).sum::<f64>() / queries.len() as f64
}

/// Documents that a walk from their own vector does not find.
fn unreachable(store: &Store, notes: CollectionId, living: &Living) -> usize {
    let snapshot = store.snapshot(notes).unwrap();
    let missed = |document: &&NewDocument| {
        let hits = snapshot.nearest_with(0, &document.chunks[0].vectors[0], 1, None, Effort::Usual).unwrap().hits;
        hits.first().is_none_or(|hit| snapshot.hydrate(hit.0).unwrap().document != document.id)
    };
    living.values().filter(missed).count()
}

/// What walks find, to the bit.
fn found(store: &Store, notes: CollectionId, queries: &[Vec<f32>]) -> Vec<(u32, u32)> {
    let snapshot = store.snapshot(notes).unwrap();
    let hits = queries.iter().flat_map(|query| snapshot.nearest_with(0, query, 10, None, Effort::Usual).unwrap().hits);
    hits.map(|(chunk, score)| (chunk.0, score.to_bits())).collect()
}

fn run(seed: u64, size: i64) {
    let metric = [Metric::Cosine, Metric::L2, Metric::Dot][seed as usize % 3];
    let what = format!("seed {seed}, {metric:?}, {size} living");
    let mut random = Random::new(seed);
    let folders = [fast_folder(), fast_folder()];
    let (store, notes) = open(folders[0].path(), metric);
    let mut living: Living = (0..size).map(|id| (id.into(), make(&mut random, id))).collect();
    store.write(notes, living.values().cloned().map(put).collect()).unwrap();
    let mut next = size;
    for _ in 0..TURNS {
        churn(&store, notes, &mut random, &mut living, &mut next);
    }
    seal(&store.0, notes, 1).unwrap();
    let (fresh, others) = open(folders[1].path(), metric);
    fresh.write(others, living.values().cloned().map(put).collect()).unwrap();
    assert!(seal(&fresh.0, others, 1).unwrap());
    let queries: Vec<Vec<f32>> = (0..QUERIES).map(|_| vector(&mut random)).collect();
    for effort in [Effort::Usual, Effort::Ef(16)] {
        let (old, new) = (recall(&store, notes, &queries, effort), recall(&fresh, others, &queries, effort));
        assert!(old >= new - 0.01, "{what}, {effort:?}: recall {old} after churn, {new} filled once");
    }
    // The nearest to a vector is itself, but by the dot product, where longer ones are nearer.
    if metric != Metric::Dot {
        assert_eq!(unreachable(&store, notes, &living), 0, "{what}");
    }
    let before = found(&store, notes, &queries);
    drop(store);
    let store = Store::open(folders[0].path()).unwrap();
    assert!(found(&store, notes, &queries) == before, "{what}, opened again");
    sound(&store);
}

#[test]
fn what_lives_is_found_after_ten_times_as_much_was_replaced() {
    let mut trial = Trial::new("recall after churn", 114, 500);
    while let Some(seed) = trial.next() {
        run(seed, 300 + 300 * (seed as i64 % 7));
    }
}
