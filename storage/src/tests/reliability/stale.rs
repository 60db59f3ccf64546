//! What if the file and the segments are not of one moment, or not of one database?
//!
//! An older file is put back beside newer segments, or older segments beside a newer file, or the file of another
//! database. What is in the file counts, and segments that are not the ones it names answer nothing.

use std::fs;
use std::path::Path;

use super::super::on_disk;
use super::{DIMS, State, answers, batch, copy, sound, state};
use crate::seal::{merge, seal};
use crate::testing::{Random, Trial, fast_folder};
use crate::{CollectionId, Effort, Store};

const ROUNDS: usize = 8;

/// Copies of a history's folder with what it held then.
struct History {
    moments: Vec<(tempfile::TempDir, State)>,
    notes: CollectionId,
}

fn history(seed: u64) -> History {
    let mut random = Random::new(seed);
    let folder = fast_folder();
    let (store, notes) = on_disk(folder.path(), DIMS);
    let mut moments = Vec::new();
    for round in 0..ROUNDS {
        store.write(notes, batch(seed, round)).unwrap();
        match random.below(4) {
            0 => {}
            1 | 2 => drop(seal(&store.0, notes, 1 + random.below(12)).unwrap()),
            _ => merge(&store.0, notes).unwrap(),
        }
        let moment = fast_folder();
        copy(folder.path(), moment.path());
        moments.push((moment, state(&store, notes)));
    }
    History { moments, notes }
}

fn put_together(file: &Path, segments: &Path, folder: &Path) {
    fs::copy(file.join("data.redb"), folder.join("data.redb")).unwrap();
    if segments.join("segments").exists() {
        copy(&segments.join("segments"), &folder.join("segments"));
    }
}

/// Whatever a walk finds has the score of the exact scan.
fn walks_are_exact(store: &Store, notes: CollectionId, what: &str) {
    let snapshot = store.snapshot(notes).unwrap();
    let exact = snapshot.nearest(0, &[0.5, 1.0, -1.0], usize::MAX, None).unwrap();
    let walked = snapshot.nearest_with(0, &[0.5, 1.0, -1.0], 5, None, Effort::Usual).unwrap().hits;
    assert_eq!(walked.len(), exact.len().min(5), "{what}");
    assert!(walked.iter().all(|hit| exact.contains(hit)), "{what}");
}

#[test]
fn the_file_counts_and_segments_of_another_moment_answer_nothing() {
    let mut trial = Trial::new("files beside segments of another moment", 109, 1_500);
    while let Some(seed) = trial.next() {
        let (own, other) = (history(seed), history(seed + 1_000_000));
        let mut random = Random::new(seed);
        for _ in 0..12 {
            let (at, beside) = (random.below(ROUNDS as u64) as usize, random.below(ROUNDS as u64) as usize);
            let stranger = random.below(4) == 0;
            let (file, expected) = &own.moments[at];
            let segments = &(if stranger { &other } else { &own }).moments[beside].0;
            let folder = fast_folder();
            put_together(file.path(), segments.path(), folder.path());
            let what = format!("seed {seed}: file of {at}, segments of {beside}, of another database: {stranger}");
            let store = Store::open(folder.path()).expect(&what);
            assert!(state(&store, own.notes) == *expected, "{what}");
            walks_are_exact(&store, own.notes, &what);
            // What was asked for and missing is built again behind the reader.
            store.wait();
            drop(store);
            let store = Store::open(folder.path()).expect(&what);
            assert!(answers(&store, own.notes) == expected.1, "{what}, built again");
            walks_are_exact(&store, own.notes, &what);
            sound(&store);
            let kind = if stranger {
                "of another database"
            } else if beside > at {
                "newer"
            } else {
                "older or equal"
            };
            trial.count(kind, 1);
        }
    }
}
