//! Whatever happens to the files of a segment, no answer is wrong, and the segment is built again.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::on_disk;
use super::copy;
use crate::seal::seal;
use crate::testing::{Random, Trial, fast_folder, put, random_document};
use crate::{CollectionId, DocumentId, Effort, Operation, Store};

const DIMS: usize = 4;

/// A large segment, a small one, a tail, and deletes in each.
fn make(folder: &Path, seed: u64) -> CollectionId {
    let (store, notes) = on_disk(folder, DIMS);
    let mut random = Random::new(seed);
    let mut fill = |ids: std::ops::Range<i64>| {
        store.write(notes, ids.map(|id| put(random_document(&mut random, id, DIMS))).collect()).unwrap();
    };
    fill(0..120);
    assert!(seal(&store.0, notes, 1).unwrap());
    fill(120..160);
    assert!(seal(&store.0, notes, 1).unwrap());
    fill(150..170);
    let gone = (0..160).step_by(9).map(|id| Operation::Delete(id.into())).collect();
    store.write(notes, gone).unwrap();
    assert_eq!(store.snapshot(notes).unwrap().segments(), 2);
    notes
}

/// What is found exactly, with the bits of the scores, and who matches a filter.
type Answers = (Vec<(u32, u32)>, Vec<DocumentId>);

fn answers(store: &Store, notes: CollectionId) -> Answers {
    let snapshot = store.snapshot(notes).unwrap();
    let mut hits = snapshot.nearest(0, &[1.0, 0.5, -0.25, 0.1], usize::MAX, None).unwrap();
    let exact: std::collections::BTreeMap<_, _> = hits.iter().map(|(chunk, score)| (*chunk, score.to_bits())).collect();
    for (chunk, score) in snapshot.nearest_with(0, &[1.0, 0.5, -0.25, 0.1], 10, None, Effort::default()).unwrap().hits {
        assert_eq!(exact[&chunk], score.to_bits(), "the graph finds no score of its own");
    }
    hits.extend(snapshot.search_text("word0 word3 word7", usize::MAX, None).unwrap().hits);
    let matching = snapshot.matching_documents(&"year > 2010".parse().unwrap()).unwrap();
    (hits.into_iter().map(|(chunk, score)| (chunk.0, score.to_bits())).collect(), matching)
}

fn files_of(segments: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(segments).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    files
}

/// Damages a file; says how.
fn damage(file: &Path, strangers: &[PathBuf], random: &mut Random) -> String {
    let mut bytes = fs::read(file).unwrap();
    let place = random.below(bytes.len().max(1) as u64) as usize;
    let kind = ["bit", "bits", "cut", "zeroes", "emptied", "longer", "missing", "stranger", "namesake", "folder"]
        [random.below(10) as usize];
    match kind {
        "bit" => flip(&mut bytes, random),
        "bits" => (0..8).for_each(|_| flip(&mut bytes, random)),
        "cut" => bytes.truncate(place),
        "zeroes" => bytes[place..].fill(0),
        "emptied" => bytes.clear(),
        "longer" => bytes.push(7),
        "stranger" => bytes = fs::read(&strangers[random.below(strangers.len() as u64) as usize]).unwrap(),
        "namesake" => {
            let namesake = strangers.iter().find(|other| other.extension() == file.extension());
            bytes = fs::read(namesake.unwrap_or(&strangers[0])).unwrap();
        }
        _ => {}
    }
    if kind == "missing" || kind == "folder" {
        fs::remove_file(file).unwrap();
    }
    match kind {
        "missing" => {}
        "folder" => fs::create_dir(file).unwrap(),
        _ => fs::write(file, bytes).unwrap(),
    }
    format!("{kind} at {place} of {}", file.file_name().unwrap().display())
}

fn flip(bytes: &mut [u8], random: &mut Random) {
    if let Some(byte) = bytes.len().checked_sub(1).map(|last| random.below(last as u64 + 1) as usize) {
        bytes[byte] ^= 1 << random.below(8);
    }
}

#[test]
fn whatever_happens_to_a_file_of_a_segment_no_answer_is_wrong_and_it_is_built_again() {
    let mut trial = Trial::new("mutations of files of segments", 97, 3_000);
    let (base, other) = (fast_folder(), fast_folder());
    let notes = make(base.path(), trial.first());
    make(other.path(), trial.first() + 1);
    // Closed first, so that it opens at once.
    let truth = answers(&Store::open(base.path()).unwrap(), notes);
    let mut strangers = files_of(&other.path().join("segments"));
    strangers.extend(files_of(&base.path().join("segments")));
    while let Some(seed) = trial.next() {
        let mut random = Random::new(seed);
        let folder = fast_folder();
        copy(base.path(), folder.path());
        let files = files_of(&folder.path().join("segments"));
        let file = &files[random.below(files.len() as u64) as usize];
        let what = format!("seed {seed}: {}", damage(file, &strangers, &mut random));
        let store = Store::open(folder.path()).expect(&what);
        assert!(answers(&store, notes) == truth, "{what}");
        store.wait();
        store.check().expect(&what);
        assert!(answers(&store, notes) == truth, "{what}, again");
        store.wait();
        drop(store);
        let store = Store::open(folder.path()).expect(&what);
        assert_eq!(store.check().unwrap(), Vec::<String>::new(), "{what}: it is built again");
        assert!(answers(&store, notes) == truth, "{what}, built again");
    }
}
