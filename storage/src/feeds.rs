//! Which documents were written since somebody began to watch?
//!
//! Whoever fills a collection from another one ([`crate::Changes`]) learns here what is written to that one meanwhile.
//!
//! Invariants: a document is noted before its commit and by whoever has the writer's turn, and a watch begins in a turn
//! of its own, so none goes by unseen; it lives in memory, and after a crash the two collections are compared.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Operation;
use crate::keys::encode_id;

/// The id keys that were written, for each collection that is watched.
#[derive(Debug, Default)]
pub(crate) struct Feeds(Mutex<HashMap<u32, BTreeSet<Vec<u8>>>>);

impl Feeds {
    fn feeds(&self) -> MutexGuard<'_, HashMap<u32, BTreeSet<Vec<u8>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to note what is written to a collection; `false` where somebody watches it already.
    pub(crate) fn open(&self, collection: u32) -> bool {
        let mut feeds = self.feeds();
        let is_free = !feeds.contains_key(&collection);
        if is_free {
            feeds.insert(collection, BTreeSet::new());
        }
        is_free
    }

    pub(crate) fn close(&self, collection: u32) {
        self.feeds().remove(&collection);
    }

    pub(crate) fn note(&self, collection: u32, batch: &[&Operation]) {
        if let Some(feed) = self.feeds().get_mut(&collection) {
            feed.extend(batch.iter().map(|operation| encode_id(operation.id())));
        }
    }

    /// Takes up to so many ids out.
    pub(crate) fn take(&self, collection: u32, limit: usize) -> Vec<Vec<u8>> {
        let mut feeds = self.feeds();
        let Some(feed) = feeds.get_mut(&collection) else { return Vec::new() };
        std::iter::from_fn(|| feed.pop_first()).take(limit).collect()
    }

    /// Puts back what was taken and not dealt with.
    pub(crate) fn put_back(&self, collection: u32, keys: Vec<Vec<u8>>) {
        if let Some(feed) = self.feeds().get_mut(&collection) {
            feed.extend(keys);
        }
    }

    pub(crate) fn len(&self, collection: u32) -> usize {
        self.feeds().get(&collection).map_or(0, BTreeSet::len)
    }
}
