//! On a full disk reads go on, deletes work, and writing resumes by itself.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::{in_memory, on_disk, sound};
use crate::engine::{Engine, QUICK_REPAIR_BYTES_MIN};
use crate::seal::seal;
use crate::space::{FREE_BYTES_MIN, RESERVE, RESERVE_BYTES};
use crate::testing::{Disk, Random, Which, fast_folder, put, random_document, settings};
use crate::{CollectionId, Error, Metric, Operation, Result, Store, files};

const DIMS: usize = 16;

fn puts(seed: u64, ids: std::ops::Range<i64>, dims: usize) -> Vec<Operation> {
    let mut random = Random::new(seed);
    ids.map(|id| put(random_document(&mut random, id, dims))).collect()
}

fn deletes(ids: std::ops::Range<i64>) -> Vec<Operation> {
    ids.map(|id| Operation::Delete(id.into())).collect()
}

fn documents(store: &Store, notes: CollectionId) -> u64 {
    let snapshot = store.snapshot(notes).unwrap();
    let hits = snapshot.nearest(0, &vec![1.0; dims_of(store)], usize::MAX, None).unwrap();
    assert_eq!(hits.len() as u64, snapshot.chunks());
    assert_eq!(snapshot.scan(None, usize::MAX).unwrap().len() as u64, snapshot.documents(), "documents are read");
    snapshot.documents()
}

fn dims_of(store: &Store) -> usize {
    store.collection("notes").unwrap().unwrap().settings.spaces[0].dims
}

#[test]
fn a_write_that_would_fill_the_disk_is_refused_and_a_delete_is_not() {
    let folder = fast_folder();
    let (store, notes) = on_disk(folder.path(), DIMS);
    let reserve = folder.path().join(RESERVE);
    assert_eq!(fs::metadata(&reserve).unwrap().len(), RESERVE_BYTES);
    store.write(notes, puts(1, 0..20, DIMS)).unwrap();
    store.0.space.pretend(Some(FREE_BYTES_MIN));
    let error = store.write(notes, puts(2, 20..30, DIMS)).unwrap_err();
    assert!(matches!(&error, Error::DiskFull { needed, free, .. } if needed > free), "{error:?}");
    assert!(error.to_string().contains("delete documents"), "{error}");
    assert!(matches!(seal(&store.0, notes, 1), Err(Error::DiskFull { .. })), "a segment can wait");
    store.write(notes, deletes(0..1)).unwrap();
    assert!(reserve.exists(), "there is room for a delete");
    store.0.space.pretend(Some(RESERVE_BYTES - 1));
    store.write(notes, deletes(1..2)).unwrap();
    assert!(!reserve.exists(), "it was given up");
    assert_eq!(documents(&store, notes), 18);
    store.0.space.pretend(Some(FREE_BYTES_MIN + RESERVE_BYTES - 1));
    store.write(notes, puts(2, 20..21, DIMS)).unwrap();
    assert!(!reserve.exists(), "there is room for a write, not for the reserve");
    store.0.space.pretend(None);
    store.write(notes, puts(2, 21..30, DIMS)).unwrap();
    assert_eq!(fs::metadata(&reserve).unwrap().len(), RESERVE_BYTES, "it is made again");
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&reserve).unwrap().permissions()) & 0o777, 0o600);
    assert_eq!(documents(&store, notes), 28);
    sound(&store);
    drop(store);
    fs::write(&reserve, "cut short by a crash").unwrap();
    sound(&Store::open(folder.path()).unwrap());
    assert_eq!(fs::metadata(&reserve).unwrap().len(), RESERVE_BYTES, "opening makes it whole");
}

/// One step of a workload.
type Step = fn(&Store, CollectionId) -> Result<()>;

const WORKLOAD: [Step; 7] = [
    |store, notes| store.write(notes, puts(1, 0..30, DIMS)).map(drop),
    |store, notes| seal(&store.0, notes, 1).map(drop),
    |store, notes| store.write(notes, puts(2, 10..40, DIMS)).map(drop),
    |store, notes| store.write(notes, deletes(5..15)).map(drop),
    |store, notes| seal(&store.0, notes, 1).map(drop),
    |store, notes| store.write(notes, puts(3, 0..8, DIMS)).map(drop),
    |store, notes| store.write(notes, deletes(20..30)).map(drop),
];

/// A database whose file is on a simulated disk, and whose reserve and segments are in a folder.
fn simulated(folder: &Path) -> (Disk, Store, CollectionId) {
    let disk = Disk::default();
    let backend = disk.clone();
    let handle = files::open_backend(move || Ok(backend.clone()), Arc::default()).unwrap();
    let engine = Engine::new(handle, Some(folder.to_owned()), None, QUICK_REPAIR_BYTES_MIN);
    engine.space.renew();
    let store = Store::of(Arc::new(engine));
    let notes = store.create_collection("notes", &settings(DIMS, Metric::Cosine)).unwrap().id;
    (disk, store, notes)
}

/// What the database holds before and after each step.
fn states() -> Vec<String> {
    let (store, notes) = in_memory(DIMS, Metric::Cosine);
    let mut states = vec![store.dump().unwrap()];
    for step in WORKLOAD {
        step(&store, notes).unwrap();
        states.push(store.dump().unwrap());
    }
    states
}

#[test]
fn wherever_the_disk_is_full_for_once_the_step_fails_as_a_whole_and_works_when_repeated() {
    let states = states();
    for stop in 0.. {
        let folder = fast_folder();
        let disk = Disk::default();
        let store = Store::on_backend(disk.clone(), Some(folder.path())).unwrap();
        let notes = store.create_collection("notes", &settings(DIMS, Metric::Cosine)).unwrap().id;
        store.0.faults().refuse_once(Which::Changes, stop, ErrorKind::StorageFull);
        for (number, step) in WORKLOAD.into_iter().enumerate() {
            let result = step(&store, notes);
            let (before, after) = (&states[number], &states[number + 1]);
            let dump = store.dump().unwrap();
            match result {
                Ok(()) => assert!(dump == *after, "request {stop}, step {number}"),
                Err(Error::Unconfirmed(_)) => assert!(dump == *after, "request {stop}, step {number}"),
                Err(Error::DiskFull { .. }) => {
                    assert!(dump == *before, "request {stop}, step {number}");
                    documents(&store, notes);
                    step(&store, notes).unwrap();
                    assert!(store.dump().unwrap() == *after, "request {stop}, step {number}, repeated");
                }
                Err(other) => panic!("request {stop}, step {number}: {other:?}"),
            }
        }
        sound(&store);
        let spent = store.0.faults().is_spent();
        drop(store);
        let store = Store::on_backend(disk, Some(folder.path())).unwrap();
        assert!(store.dump().unwrap() == states[WORKLOAD.len()]);
        sound(&store);
        if !spent {
            assert!(stop > 20, "{stop} requests");
            eprintln!("the disk was full at each of {stop} requests");
            return;
        }
    }
}

#[test]
fn with_any_number_of_pages_left_reads_and_deletes_work_and_writing_resumes() {
    let mut full = 0;
    for pages in (0..60).chain((60..400).step_by(20)) {
        let folder = fast_folder();
        let (disk, store, notes) = simulated(folder.path());
        store.write(notes, puts(1, 0..200, DIMS)).unwrap();
        let faults = store.0.faults();
        faults.fill(pages, folder.path().join(RESERVE), (RESERVE_BYTES / 4096) as usize);
        let mut expected = 200;
        for round in 1..12 {
            match store.write(notes, puts(round as u64, round * 200..(round + 1) * 200, DIMS)) {
                Ok(_) => expected += 200,
                Err(Error::DiskFull { .. }) => break,
                Err(other) => panic!("{pages} pages: {other:?}"),
            }
        }
        full += u64::from(expected < 2400);
        assert_eq!(documents(&store, notes), expected, "{pages} pages");
        for round in 0..4 {
            store.write(notes, deletes(round * 20..round * 20 + 20)).unwrap();
        }
        assert_eq!(documents(&store, notes), expected - 80, "{pages} pages");
        faults.heal();
        store.write(notes, puts(5, 0..80, DIMS)).unwrap();
        assert_eq!(documents(&store, notes), expected, "{pages} pages");
        assert!(folder.path().join(RESERVE).exists());
        sound(&store);
        drop(store);
        let store = Store::on_backend(disk, Some(folder.path())).unwrap();
        assert_eq!(documents(&store, notes), expected, "{pages} pages");
    }
    assert!(full > 50, "the disk was full only {full} times");
}

/// A small file system in memory, unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None` where the system does not permit it.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        let arguments = ["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"];
        let output = Command::new("mount").args(arguments).arg(at).output().ok()?;
        output.status.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn a_small_file_system_that_others_fill_keeps_reads_and_deletes_and_resumes_writing() {
    let at = tempfile::tempdir().unwrap();
    let Some(mounted) = Tmpfs::mount(at.path(), "48m") else { return };
    let (early, ballast) = (at.path().join("early"), at.path().join("ballast"));
    fs::write(&early, vec![7; 14 << 20]).unwrap();
    let folder = at.path().join("notes.quiver");
    let (store, notes) = on_disk(&folder, 256);
    let mut written = 0;
    let error = loop {
        match store.write(notes, puts(written as u64, written..written + 200, 256)) {
            Ok(_) => written += 200,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
    assert!(written >= 1_000, "{written}");
    assert_eq!(documents(&store, notes), written as u64);
    let mut file = fs::File::create(&ballast).unwrap();
    let full = std::iter::repeat_with(|| file.write_all(&[7; 4096])).find_map(|result| result.err());
    assert_eq!(full.unwrap().kind(), ErrorKind::StorageFull);
    assert!(matches!(store.write(notes, puts(1, 0..1, 256)), Err(Error::DiskFull { .. })));
    for round in 0..5 {
        store.write(notes, deletes(round * 50..round * 50 + 50)).unwrap();
    }
    assert!(!folder.join(RESERVE).exists(), "its room was needed");
    assert_eq!(documents(&store, notes), written as u64 - 250);
    drop(file);
    fs::remove_file(&ballast).unwrap();
    fs::remove_file(&early).unwrap();
    store.write(notes, puts(9, 0..250, 256)).unwrap();
    assert!(folder.join(RESERVE).exists());
    assert_eq!(documents(&store, notes), written as u64);
    sound(&store);
    drop(store);
    sound(&Store::open(&folder).unwrap());
    drop(mounted);
}
