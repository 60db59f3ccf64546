//! Vectors that were made before, of texts that are embedded again.

use redb::ReadableDatabase;

use super::{in_memory, on_disk, sound};
use crate::testing::{Random, put, random_document};
use crate::{CacheKey, CacheStats, CollectionId, Metric, Store};

const DIMS: usize = 24;

fn key(text: u64) -> CacheKey {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&text.to_le_bytes());
    CacheKey { model: [7; 32], task: 0, text: digest, text_bytes: 10 }
}

fn vector(text: u64) -> Vec<f32> {
    Random::new(text).vector(DIMS)
}

/// Caches these texts and writes a document, which carries them along.
fn cache(store: &Store, notes: CollectionId, texts: impl IntoIterator<Item = u64>) {
    store.cache_vectors(texts.into_iter().map(|text| (key(text), vector(text))));
    write(store, notes);
}

fn write(store: &Store, notes: CollectionId) {
    let mut random = Random::new(store.snapshot(notes).unwrap().documents());
    store.write(notes, vec![put(random_document(&mut random, random_id(store, notes), DIMS))]).unwrap();
}

fn random_id(store: &Store, notes: CollectionId) -> i64 {
    store.snapshot(notes).unwrap().documents() as i64
}

fn known(store: &Store, text: u64) -> bool {
    let found = store.cached_vectors(&[key(text)]).remove(0);
    assert!(found.as_ref().is_none_or(|found| *found == vector(text)), "a vector of another text");
    found.is_some()
}

#[test]
fn a_vector_is_known_at_once_and_on_disk_with_the_next_write() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), DIMS);
    store.cache_vectors([(key(1), vector(1))]);
    assert!(known(&store, 1) && !known(&store, 2));
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert!(!known(&store, 1), "nothing was written that could carry it");
    cache(&store, notes, [1, 2]);
    let keys = [1, 3, 2].map(key);
    assert_eq!(store.cached_vectors(&keys), [Some(vector(1)), None, Some(vector(2))]);
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert!(known(&store, 1) && known(&store, 2));
    let CacheStats { entries, hits, misses, .. } = store.cache_stats().unwrap();
    assert_eq!((entries, hits, misses), (2, 2, 1), "those of this process, too");
    write(&store, notes);
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.cache_stats().unwrap().hits, 2);
    sound(&store);
}

#[test]
fn every_part_of_the_key_counts() {
    let (store, notes) = in_memory(DIMS, Metric::Dot);
    cache(&store, notes, [1]);
    let others = [
        CacheKey { model: [8; 32], ..key(1) },
        CacheKey { task: 1, ..key(1) },
        CacheKey { text_bytes: 11, ..key(1) },
        key(2),
    ];
    assert_eq!(store.cached_vectors(&others), vec![None; 4]);
}

#[test]
fn another_key_of_the_same_short_one_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), DIMS);
    cache(&store, notes, [1]);
    drop(store);
    {
        let database = redb::Database::open(folder.path().join("data.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut keys = transaction.open_table(crate::tables::EMBEDDING_CACHE_KEYS).unwrap();
        let short = key(2).short();
        let leads = crate::codec::encode(crate::cache::key_place(&short), &crate::codec::Sequence(0));
        keys.insert(short.as_slice(), leads.as_slice()).unwrap();
        drop(keys);
        transaction.commit().unwrap();
    }
    let store = Store::open(folder.path()).unwrap();
    assert!(known(&store, 1) && !known(&store, 2));
}

#[test]
fn it_stays_within_its_bytes_and_keeps_what_is_in_use() {
    let (store, notes) = in_memory(DIMS, Metric::Dot);
    cache(&store, notes, [0]);
    let each = store.cache_stats().unwrap().bytes;
    store.set_cache_bytes_max(each * 10);
    for text in 1..50 {
        assert!(known(&store, 0), "asked for again and again, up to {text}");
        cache(&store, notes, [text]);
        let CacheStats { entries, bytes, .. } = store.cache_stats().unwrap();
        assert!(bytes <= each * 10 && bytes == entries * each, "{entries} vectors, {bytes} bytes");
        sound(&store);
    }
    assert!(known(&store, 49) && known(&store, 45) && !known(&store, 20));
    store.set_cache_bytes_max(each * 2);
    cache(&store, notes, [99]);
    assert_eq!(store.cache_stats().unwrap().entries, 2);
    sound(&store);
}

#[test]
fn it_is_turned_off_and_emptied() {
    let (store, notes) = in_memory(DIMS, Metric::Dot);
    cache(&store, notes, [1, 2]);
    store.set_cache_bytes_max(0);
    assert!(!known(&store, 1));
    cache(&store, notes, [3]);
    store.set_cache_bytes_max(1 << 20);
    assert!(known(&store, 1) && !known(&store, 3), "off is not empty");
    store.drop_cache().unwrap();
    store.drop_cache().unwrap();
    assert!(!known(&store, 1));
    assert_eq!(store.cache_stats().unwrap(), CacheStats { bytes_max: 1 << 20, misses: 1, ..CacheStats::default() });
    cache(&store, notes, [4]);
    assert!(known(&store, 4));
    sound(&store);
}

#[test]
fn damage_in_it_costs_a_vector_and_no_document() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), DIMS);
    cache(&store, notes, [1, 2, 3]);
    drop(store);
    {
        let database = redb::Database::open(folder.path().join("data.redb")).unwrap();
        let first = {
            let transaction = database.begin_read().unwrap();
            let table = transaction.open_table(crate::tables::EMBEDDING_CACHE).unwrap();
            table.get(1).unwrap().unwrap().value().to_vec()
        };
        let transaction = database.begin_write().unwrap();
        let mut table = transaction.open_table(crate::tables::EMBEDDING_CACHE).unwrap();
        // A whole record at another place, and totals that are none.
        table.insert(0, first.as_slice()).unwrap();
        let mut meta = transaction.open_table(crate::tables::META).unwrap();
        meta.insert(crate::cache::TOTALS, b"?".as_slice()).unwrap();
        drop((table, meta));
        transaction.commit().unwrap();
    }
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.check().unwrap().len(), 2, "{:?}", store.check());
    assert_eq!([1, 2, 3].map(|text| known(&store, text)), [false; 3], "no totals, no answer");
    cache(&store, notes, [4]);
    assert_eq!([1, 2, 3, 4].map(|text| known(&store, text)).iter().filter(|known| **known).count(), 3);
    assert_eq!(store.cache_stats().unwrap().entries, 4, "counted again");
    assert_eq!(store.snapshot(notes).unwrap().documents(), 2);
    assert_eq!(store.check().unwrap().len(), 1, "{:?}", store.check());
    store.drop_cache().unwrap();
    sound(&store);
}
