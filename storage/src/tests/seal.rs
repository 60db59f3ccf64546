//! Sealing changes where text lies, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use super::{on_disk, sound};
use crate::seal::{collect_garbage, seal};
use crate::testing::{Random, put, random_document};
use crate::{ChunkNumber, CollectionId, Operation, Store};

fn folders(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder.join("segments")) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn fill(store: &Store, notes: CollectionId, random: &mut Random, ids: std::ops::Range<i64>) {
    store.write(notes, ids.map(|id| put(random_document(random, id, 4))).collect()).unwrap();
}

/// The scores of a query and their maximum, to the bit, and the frequency of its words.
type Answer = (Vec<(ChunkNumber, u32)>, u32, Option<u64>);

fn answers(store: &Store, notes: CollectionId) -> Vec<Answer> {
    let snapshot = store.snapshot(notes).unwrap();
    let queries = ["word0", "word1 word2 word3", "word59 word58", "word7 unheard"];
    let answer = |query: &&str| {
        let found = snapshot.search_text(query, usize::MAX, None).unwrap();
        let hits = found.hits.iter().map(|(chunk, score)| (*chunk, score.to_bits())).collect();
        (hits, found.maximum.to_bits(), snapshot.document_frequency(query).unwrap())
    };
    queries.iter().map(answer).collect()
}

#[test]
fn scores_are_the_same_to_the_bit_before_and_after_sealing_and_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), 4);
    let mut random = Random::new(41);
    fill(&store, notes, &mut random, 0..300);
    store.write(notes, (0..40).map(|id| Operation::Delete(id.into())).collect()).unwrap();
    let before = answers(&store, notes);
    let dump = store.dump().unwrap();
    assert!(seal(&store.0, notes, 100).unwrap());
    assert!(!seal(&store.0, notes, 100).unwrap(), "nothing is left to seal");
    assert_eq!(store.snapshot(notes).unwrap().segments(), 1);
    assert!(answers(&store, notes) == before);
    sound(&store);
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert!(answers(&store, notes) == before);
    assert_eq!(store.dump().unwrap(), dump);
    // Deletes in the sealed part, and a tail after it.
    store.write(notes, (40..90).map(|id| Operation::Delete(id.into())).collect()).unwrap();
    fill(&store, notes, &mut random, 200..350);
    let before = answers(&store, notes);
    assert!(seal(&store.0, notes, 100).unwrap());
    assert!(answers(&store, notes) == before);
    sound(&store);
}

#[test]
fn trailing_segments_that_are_not_larger_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), 4);
    let mut random = Random::new(43);
    let mut most = 0;
    for round in 0..16 {
        fill(&store, notes, &mut random, round * 20..(round + 1) * 20);
        assert!(seal(&store.0, notes, 20).unwrap());
        let segments = store.snapshot(notes).unwrap().segments();
        assert_eq!(folders(folder.path()).len() as u64, segments, "folders of merged segments are gone");
        most = most.max(segments);
        sound(&store);
    }
    assert!((2..=5).contains(&most), "{most} segments for 16 tails of the same size");
    assert_eq!(store.snapshot(notes).unwrap().segments(), 1);
}

#[test]
fn a_small_tail_is_not_sealed_and_neither_is_a_database_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), 4);
    assert!(!store.seal(notes).unwrap());
    fill(&store, notes, &mut Random::new(1), 0..50);
    assert!(!store.seal(notes).unwrap());
    assert!(folders(folder.path()).is_empty());
    let (memory, notes) = super::in_memory(4, crate::Metric::Dot);
    fill(&memory, notes, &mut Random::new(1), 0..50);
    assert!(!seal(&memory.0, notes, 1).unwrap());
}

#[test]
fn a_tail_of_8192_chunks_is_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), 4);
    let mut random = Random::new(3);
    fill(&store, notes, &mut random, 0..8_192);
    store.write(notes, vec![Operation::Delete(5.into())]).unwrap();
    assert!(!store.seal(notes).unwrap(), "8,191 live chunks");
    fill(&store, notes, &mut random, 9_000..9_001);
    assert!(store.seal(notes).unwrap());
    assert_eq!(folders(folder.path()), [format!("{}-0", notes.0)]);
}

#[test]
fn writes_during_sealing_stay_in_the_tail() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), 4);
    let mut random = Random::new(47);
    fill(&store, notes, &mut random, 0..200);
    std::thread::scope(|scope| {
        let sealing = scope.spawn(|| {
            let mut sealed = 0;
            while sealed < 5 {
                sealed += usize::from(seal(&store.0, notes, 10).unwrap());
            }
        });
        let mut round = 0;
        while !sealing.is_finished() {
            fill(&store, notes, &mut random, 190 + round..205 + round);
            store.write(notes, vec![Operation::Delete((round * 3).into())]).unwrap();
            round += 1;
        }
    });
    let before = answers(&store, notes);
    sound(&store);
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert!(answers(&store, notes) == before);
    sound(&store);
}

fn one_file(segment: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> = fs::read_dir(segment).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_by_key(|path| fs::metadata(path).unwrap().len());
    files.pop().unwrap()
}

#[test]
fn a_missing_or_damaged_segment_is_built_again_and_search_is_right() {
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 4] = [
        ("missing", |segment| fs::remove_dir_all(segment).unwrap()),
        ("a file missing", |segment| fs::remove_file(one_file(segment)).unwrap()),
        ("a bit flipped", |segment| {
            let file = one_file(segment);
            let mut bytes = fs::read(&file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            fs::write(file, bytes).unwrap();
        }),
        ("a file emptied", |segment| fs::write(one_file(segment), []).unwrap()),
    ];
    for (name, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        let (store, notes) = on_disk(folder.path(), 4);
        let mut random = Random::new(53);
        // A large segment, a small one after it, and a tail: the damaged one lies before text in memory.
        fill(&store, notes, &mut random, 0..300);
        assert!(seal(&store.0, notes, 100).unwrap());
        fill(&store, notes, &mut random, 300..400);
        assert!(seal(&store.0, notes, 50).unwrap());
        fill(&store, notes, &mut random, 250..420);
        assert_eq!(store.snapshot(notes).unwrap().segments(), 2);
        let before = answers(&store, notes);
        drop(store);
        damage(&folder.path().join("segments").join(format!("{}-0", notes.0)));
        let store = Store::open(folder.path()).unwrap();
        assert!(!store.check().unwrap().is_empty(), "{name}: the check tells");
        let during = store.0.pin(notes).unwrap();
        let view = during.view.as_ref().unwrap();
        assert!(view.segments.iter().any(|segment| segment.text.is_none()), "{name}");
        let first = store.snapshot(notes).unwrap();
        let found = first.search_text("word0", usize::MAX, None).unwrap();
        let found: Vec<_> = found.hits.iter().map(|(chunk, score)| (*chunk, score.to_bits())).collect();
        assert!(found == before[0].0, "{name}: right before it is built again");
        assert!(answers(&store, notes) == before, "{name}: and after");
        sound(&store);
        assert_eq!(folders(folder.path()).len(), 2, "{name}");
        drop((store, during, first));
        sound(&Store::open(folder.path()).unwrap());
    }
}

#[test]
fn folders_that_nothing_names_are_removed_at_open_and_strangers_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), 4);
    fill(&store, notes, &mut Random::new(1), 0..50);
    assert!(seal(&store.0, notes, 10).unwrap());
    let own = format!("{}-0", notes.0);
    drop(store);
    let segments = folder.path().join("segments");
    for name in ["1-77", "9-0", "1-0.new", "notes", "1-0.backup"] {
        fs::create_dir(segments.join(name)).unwrap();
        fs::write(segments.join(name).join("file"), "x").unwrap();
    }
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(folders(folder.path()), [own.as_str(), "1-0.backup", "notes"]);
    collect_garbage(&store.0).unwrap();
    sound(&store);
    store.drop_collection("notes").unwrap();
    assert_eq!(folders(folder.path()), ["1-0.backup", "notes"]);
    sound(&store);
}

#[test]
fn a_snapshot_reads_segments_that_were_merged_away() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), 4);
    let mut random = Random::new(59);
    fill(&store, notes, &mut random, 0..50);
    assert!(seal(&store.0, notes, 10).unwrap());
    let old = store.snapshot(notes).unwrap();
    let before = old.search_text("word1 word2", usize::MAX, None).unwrap().hits;
    fill(&store, notes, &mut random, 0..100);
    assert!(seal(&store.0, notes, 10).unwrap());
    assert_eq!(store.snapshot(notes).unwrap().segments(), 1);
    assert_eq!(old.search_text("word1 word2", usize::MAX, None).unwrap().hits, before);
}
