//! Locks, leftovers of a crash, and disks that fail.

use std::fs;

use serde_json::json;

use super::{batch, in_memory, on_disk, on_disk_in_memory, sound};
use crate::testing::{Power, Random, document, put, random_document, settings};
use crate::{Error, Metric, Store};

#[test]
fn a_second_opener_fails_at_once_and_learns_who_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), 2);
    let error = Store::open(folder.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Locked { holder, .. } if holder.contains(&std::process::id().to_string())),
        "{error}"
    );
    let snapshot = store.snapshot(notes).unwrap();
    drop(store);
    assert!(matches!(Store::open(folder.path()), Err(Error::Locked { .. })), "a snapshot keeps it open");
    assert!(snapshot.ids().unwrap().is_empty());
    drop(snapshot);
    sound(&Store::open(folder.path()).unwrap());
}

#[cfg(unix)]
#[test]
fn folder_and_files_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("new").join("database");
    let (store, notes) = on_disk(&folder, 4);
    let mut random = Random::new(1);
    store.write(notes, (0..20).map(|n| put(random_document(&mut random, n, 4))).collect()).unwrap();
    assert!(crate::seal::seal(&store.0, notes, 1).unwrap());
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("data.redb"), mode("LOCK"), mode("segments")), (0o700, 0o600, 0o600, 0o700));
    assert!(store.bytes_on_disk().unwrap() > 4096);
}

#[test]
fn a_crash_while_creating_leaves_nothing_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("data.redb.new"), "half a header").unwrap();
    fs::write(folder.path().join("LOCK"), "123456").unwrap();
    fs::write(folder.path().join("holiday.jpg"), "kept").unwrap();
    let (store, _) = on_disk(folder.path(), 2);
    sound(&store);
    drop(store);
    assert!(!folder.path().join("data.redb.new").exists());
    assert_eq!(fs::read(folder.path().join("holiday.jpg")).unwrap(), b"kept");
    // The rename happened, and the leftover of another attempt is still there.
    fs::write(folder.path().join("data.redb.new"), "x").unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.collections().unwrap().len(), 1);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    for content in [b"".as_slice(), b"hello", &[0; 8192]] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.redb");
        fs::write(&path, content).unwrap();
        let error = Store::open(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. } | Error::Engine(_) | Error::Io { .. }), "{error:?}");
        assert!(error.to_string().contains("data.redb"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    let folder = tempfile::tempdir().unwrap();
    drop(redb::Database::create(folder.path().join("data.redb")).unwrap());
    assert!(matches!(Store::open(folder.path()), Err(Error::Corrupt { .. })), "a redb file of somebody else");
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(Store::open(&file), Err(Error::Io { .. })));
}

#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(on_disk(folder.path(), 2));
    {
        let database = redb::Database::open(folder.path().join("data.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut meta = transaction.open_table(crate::tables::META).unwrap();
        crate::rows::put_named(&mut meta, crate::tables::META, "format", &crate::codec::Number(7)).unwrap();
        drop(meta);
        transaction.commit().unwrap();
    }
    let error = Store::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::NewerFormat { found: 7, supported: 1 }), "{error:?}");
}

#[test]
fn a_refused_batch_does_not_poison() {
    let (store, notes) = in_memory(2, Metric::Cosine);
    assert!(store.write(notes, vec![put(document("a", "x. ", json!({}), &[vec![1.0]]))]).is_err());
    assert!(store.create_collection("notes", &settings(1, Metric::Dot)).is_err());
    store.write(notes, vec![put(document("a", "x. ", json!({}), &[vec![1.0, 0.0]]))]).unwrap();
}

/// What the database holds after each round; `states[n]` is that after `n` rounds.
fn states(rounds: i64) -> Vec<String> {
    let (_, store, notes) = on_disk_in_memory();
    let mut states = vec![store.dump().unwrap()];
    for round in 0..rounds {
        store.write(notes, batch(round)).unwrap();
        states.push(store.dump().unwrap());
    }
    states
}

#[test]
fn after_a_loss_of_power_there_is_all_that_was_acknowledged_and_nothing_by_halves() {
    let (rounds, seed) = (6, 83);
    let states = states(rounds);
    let (counting, store, notes) = on_disk_in_memory();
    let start = counting.operations();
    for round in 0..rounds {
        store.write(notes, batch(round)).unwrap();
    }
    let end = counting.operations();
    let mut random = Random::new(seed);
    for stop in 0..=end - start {
        let (disk, store, notes) = on_disk_in_memory();
        disk.fail_after(stop);
        let written = (0..rounds).take_while(|&round| store.write(notes, batch(round)).is_ok()).count();
        for power in [Power::Nothing, Power::All, Power::SomeWrites, Power::SomeSectors] {
            let what = format!("seed {seed}, power gone at operation {stop}, {power:?}");
            let store = Store::on_backend(disk.after_loss(power, &mut random), None).expect(&what);
            let dump = store.dump().expect(&what);
            let next = states.get(written + 1);
            assert!(dump == states[written] || Some(&dump) == next, "{what}: after {written} rounds\n{dump}");
            assert_eq!(store.check().unwrap(), Vec::<String>::new(), "{what}");
        }
    }
}
