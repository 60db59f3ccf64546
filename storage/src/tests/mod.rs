//! Does the store keep its promises?
//!
//! Every test that writes ends with `sound`: the check finds nothing.

#![allow(clippy::unwrap_used)]

mod crash;
mod damage;
mod disk_full;
mod failing_disk;
mod large;
mod lifecycle;
mod model;
mod power;
mod seal;
mod sealed;
mod search;
mod segment_damage;
mod snapshots;
mod syntax;

use std::path::Path;

use crate::testing::settings;
use crate::{CollectionId, Metric, Store};

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
