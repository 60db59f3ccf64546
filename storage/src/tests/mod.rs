//! Does the store keep its promises?
//!
//! Every test that writes ends with `sound`: the check finds nothing.

#![allow(clippy::unwrap_used)]

mod alias;
mod background;
mod backup;
mod cache;
mod crash;
mod damage;
mod disk_full;
mod expecting;
mod expiry;
mod failing_disk;
mod large;
mod ledger;
mod lifecycle;
mod model;
mod moved;
mod pages;
mod reliability;
mod seal;
mod sealed;
mod search;
mod shadow;
mod snapshots;
mod syntax;
mod ties;

use std::path::Path;

use crate::testing::{Disk, Random, put, random_document, settings};
use crate::{CollectionId, DocumentId, Metric, Operation, Store};

/// A store with one collection `notes` of so many dimensions.
fn in_memory(dims: usize, metric: Metric) -> (Store, CollectionId) {
    let store = Store::in_memory().unwrap();
    let id = store.create_collection("notes", &settings(dims, metric)).unwrap().id;
    (store, id)
}

/// The same on disk.
fn on_disk(folder: &Path, dims: usize) -> (Store, CollectionId) {
    let store = Store::open(folder).unwrap();
    let id = store.create_collection("notes", &settings(dims, Metric::Cosine)).unwrap().id;
    (store, id)
}

fn sound(store: &Store) {
    let violations = store.check().unwrap();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// The dimensions of what [`batch`] makes.
const ROUND_DIMS: usize = 3;

/// A disk with a collection on it, and the store.
fn on_disk_in_memory() -> (Disk, Store, CollectionId) {
    let disk = Disk::default();
    let store = Store::on_backend(disk.clone(), None).unwrap();
    let notes = store.create_collection("notes", &settings(ROUND_DIMS, Metric::Cosine)).unwrap().id;
    (disk, store, notes)
}

/// The batch of one round: new documents, replaced ones, deleted ones.
fn batch(round: i64) -> Vec<Operation> {
    let mut random = Random::new(round as u64);
    let ids = (round * 2..round * 2 + 5).map(DocumentId::from);
    let mut batch: Vec<Operation> = ids.map(|id| put(random_document(&mut random, id, ROUND_DIMS))).collect();
    batch.push(Operation::Delete((round * 2 - 3).into()));
    batch
}
