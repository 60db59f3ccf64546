//! Copies of a database that is being written to, and what becomes of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::{batch, in_memory, on_disk, sound};
use crate::seal::seal;
use crate::testing::{document, fast_folder, put};
use crate::{AliasEdit, Alongside, BackedUp, CacheKey, CollectionId, Error, LedgerEdit, Metric, Store};

const DIMS: usize = 3;

fn round(store: &Store, notes: CollectionId, round: i64) {
    let position = Alongside::ledger([LedgerEdit::put("round", round.to_string())]);
    store.write_with(notes, batch(round), position).unwrap();
}

/// A database with something of every kind, and what it holds.
fn filled(folder: &Path) -> (Store, CollectionId) {
    let (store, notes) = on_disk(folder, DIMS);
    (0..6).for_each(|number| round(&store, notes, number));
    assert!(seal(&store.0, notes, 1).unwrap());
    let mut passing = document("passing", "Word. ", json!({}), &[vec![1.0, 0.0, 0.5]]);
    passing.expires_at = Some(u64::MAX);
    store.cache_vectors([(CacheKey { model: [1; 32], task: 0, text: [2; 32], text_bytes: 3 }, vec![0.5; DIMS])]);
    store.write(notes, vec![put(passing)]).unwrap();
    store.change_aliases(&[AliasEdit::set("live", "notes")]).unwrap();
    (store, notes)
}

/// The files of a folder and of those in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn all_that_counts_comes_back() {
    let folder = fast_folder();
    let path = |name: &str| folder.path().join(name);
    let (store, notes) = filled(&path("db"));
    let BackedUp { collections, documents, segments, bytes } = store.backup(&path("backup")).unwrap();
    let expected = store.snapshot(notes).unwrap().documents();
    assert_eq!((collections, documents, segments), (1, expected, 1));
    assert_eq!(
        bytes,
        files(&path("backup")).iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>()
            - fs::metadata(path("backup/BACKUP")).unwrap().len()
    );
    let dump = store.dump().unwrap();
    let nearest = |store: &Store| store.snapshot(notes).unwrap().nearest(0, &[1.0, 0.5, 0.0], 20, None).unwrap();
    let answer = nearest(&store);
    drop(store);
    Store::restore(&path("backup"), &path("again")).unwrap();
    let store = Store::open(&path("again")).unwrap();
    assert_eq!(store.snapshot(notes).unwrap().segments(), 1);
    assert!(
        !store.0.current_view(notes).unwrap().segments.iter().any(|segment| segment.is_damaged() || !segment.is_open())
    );
    assert!(store.dump().unwrap() == dump && dump.contains("expires at") && dump.contains("alias live"));
    assert_eq!(store.ledger(notes, b"round").unwrap(), Some(b"5".to_vec()));
    assert_eq!(nearest(&store), answer);
    assert_eq!(store.cache_stats().unwrap().entries, 0, "derived");
    sound(&store);
    round(&store, notes, 9);
    store.compact().unwrap();
    sound(&store);
}

#[test]
fn what_is_in_memory_can_be_kept() {
    let folder = fast_folder();
    let (store, notes) = in_memory(DIMS, Metric::Cosine);
    round(&store, notes, 1);
    store.backup(&folder.path().join("backup")).unwrap();
    Store::restore(&folder.path().join("backup"), &folder.path().join("db")).unwrap();
    let again = Store::open(&folder.path().join("db")).unwrap();
    assert_eq!(again.dump().unwrap(), store.dump().unwrap());
    sound(&again);
}

#[test]
fn a_backup_under_writes_is_the_database_as_of_one_commit() {
    const ROUNDS: i64 = 24;
    let folder = fast_folder();
    let states: Vec<String> = {
        let (store, notes) = in_memory(DIMS, Metric::Cosine);
        let after = |number| {
            round(&store, notes, number);
            store.dump().unwrap()
        };
        (0..ROUNDS).map(after).collect()
    };
    let (store, notes) = on_disk(&folder.path().join("db"), DIMS);
    round(&store, notes, 0);
    let done = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (store, done) = (store.clone(), Arc::clone(&done));
        move || {
            for number in 1..ROUNDS {
                round(&store, notes, number);
                if number % 5 == 0 {
                    seal(&store.0, notes, 1).unwrap();
                }
            }
            done.store(true, Ordering::Release);
        }
    });
    let mut last = false;
    for copy in 0.. {
        let (backup, again) = (folder.path().join(format!("backup{copy}")), folder.path().join(format!("again{copy}")));
        store.backup(&backup).unwrap();
        Store::restore(&backup, &again).unwrap();
        let restored = Store::open(&again).unwrap();
        let told = restored.ledger(notes, b"round").unwrap().map(|told| String::from_utf8(told).unwrap());
        let number: usize = told.unwrap().parse().unwrap();
        assert!(restored.dump().unwrap() == states[number], "copy {copy}, of round {number}");
        sound(&restored);
        if last {
            assert_eq!(number as i64, ROUNDS - 1);
            break;
        }
        last = done.load(Ordering::Acquire);
    }
    writer.join().unwrap();
}

#[track_caller]
fn refused(result: crate::Result<()>, words: &[&str]) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::InvalidInput(_)), "{error:?}");
    words.iter().for_each(|word| assert!(error.to_string().contains(word), "`{word}`: {error}"));
}

#[test]
fn a_backup_that_is_cut_off_damaged_or_unfinished_is_refused_before_anything_is_written() {
    let folder = fast_folder();
    let path = |name: &str| folder.path().join(name);
    let (store, _) = filled(&path("db"));
    store.backup(&path("backup")).unwrap();
    drop(store);
    let restore = || Store::restore(&path("backup"), &path("again"));
    for file in files(&path("backup")) {
        let (whole, name) = (fs::read(&file).unwrap(), file.file_name().unwrap().to_str().unwrap().to_owned());
        fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        refused(restore(), &["cannot be restored", &name, "nothing was changed"]);
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        fs::write(&file, flipped).unwrap();
        refused(restore(), &["cannot be restored", &name]);
        fs::remove_file(&file).unwrap();
        refused(restore(), &["cannot be restored", &name]);
        fs::write(&file, whole).unwrap();
        assert!(!path("again").exists());
    }
    restore().unwrap();
    refused(Store::restore(&path("nowhere"), &path("third")), &["nowhere", "no backup"]);
    refused(Store::restore(&path("db"), &path("third")), &["no backup"]);
}

#[test]
fn a_list_that_names_files_elsewhere_is_none() {
    let folder = fast_folder();
    for name in ["../data.redb", "segments/../../x", "/etc/passwd", "LOCK"] {
        let body = format!("quiver backup 1\n{:032x} 1 data.redb\n{:032x} 1 {name}\n", 0, 0);
        let list = format!("{body}{:032x}\n", xxhash_rust::xxh3::xxh3_128(body.as_bytes()));
        fs::write(folder.path().join("BACKUP"), list).unwrap();
        refused(Store::restore(folder.path(), &folder.path().join("again")), &["BACKUP", "damaged"]);
    }
}

#[test]
fn nothing_is_overwritten_unless_that_is_asked_for() {
    let folder = fast_folder();
    let path = |name: &str| folder.path().join(name);
    let (store, notes) = filled(&path("db"));
    store.backup(&path("backup")).unwrap();
    let again = store.backup(&path("backup")).unwrap_err();
    assert!(again.to_string().contains("is there already"), "{again}");
    fs::create_dir(path("empty")).unwrap();
    store.backup(&path("empty")).unwrap();
    let dump = store.dump().unwrap();
    round(&store, notes, 12);
    seal(&store.0, notes, 1).unwrap();
    assert!(matches!(Store::restore_over(&path("backup"), &path("db")), Err(Error::Locked { .. })), "it is open");
    drop(store);
    refused(Store::restore(&path("backup"), &path("db")), &["there is a database"]);
    Store::restore_over(&path("backup"), &path("db")).unwrap();
    let store = Store::open(&path("db")).unwrap();
    assert!(store.dump().unwrap() == dump);
    assert_eq!(store.snapshot(notes).unwrap().segments(), 1);
    sound(&store);
}

#[test]
fn a_backup_that_failed_leaves_nothing_behind() {
    let folder = fast_folder();
    let path = |name: &str| folder.path().join(name);
    let (store, notes) = on_disk(&path("db"), DIMS);
    round(&store, notes, 0);
    drop(store);
    {
        let database = redb::Database::open(path("db").join("data.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut texts = transaction.open_table(crate::tables::TEXTS).unwrap();
        texts.insert((notes.0, 1), b"damaged".as_slice()).unwrap();
        drop(texts);
        transaction.commit().unwrap();
    }
    let store = Store::open(&path("db")).unwrap();
    let error = store.backup(&path("backup")).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { place, .. } if place.contains("table texts")), "{error}");
    assert!(!path("backup").exists());
}
