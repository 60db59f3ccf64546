//! Sealing changes where text lies, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use super::{on_disk, sound};
use crate::codec::SegmentRecord;
use crate::seal::{collect_garbage, merge, seal};
use crate::tables::SEGMENTS;
use crate::testing::{Random, put, random_document};
use crate::{ChunkNumber, CollectionId, Operation, Store, rows};

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
fn four_segments_of_a_size_become_one() {
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
    assert!((3..=6).contains(&most), "{most} segments for 16 tails of the same size");
    assert_eq!(store.snapshot(notes).unwrap().segments(), 1, "16 are 4 times 4");
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
fn what_waits_to_be_sealed_is_told_and_whether_somebody_is_at_work() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), 4);
    fill(&store, notes, &mut Random::new(5), 0..8_200);
    assert!(!store.is_sealing());
    assert_eq!(store.sealing_backlog(notes).unwrap(), 8_200, "whether anybody is at work or not");
    let turn = store.0.sealing.lock().unwrap();
    store.seal_soon(notes, 0);
    assert!(store.is_sealing());
    assert_eq!(store.sealing_backlog(notes).unwrap(), 8_200);
    drop(turn);
    while store.sealing_backlog(notes).unwrap() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(store.snapshot(notes).unwrap().segments(), 1);
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

/// The file of a segment whose name ends so.
fn file(segment: &Path, end: &str) -> PathBuf {
    let mut files = fs::read_dir(segment).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.to_str().unwrap().ends_with(end)).unwrap()
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(file, bytes).unwrap();
}

/// A large segment, a small one after it, and a tail: the first lies before text in memory.
fn two_segments(folder: &Path) -> (Store, CollectionId, Random) {
    let (store, notes) = on_disk(folder, 4);
    let mut random = Random::new(53);
    fill(&store, notes, &mut random, 0..300);
    assert!(seal(&store.0, notes, 100).unwrap());
    fill(&store, notes, &mut random, 300..400);
    assert!(seal(&store.0, notes, 50).unwrap());
    fill(&store, notes, &mut random, 250..420);
    assert_eq!(store.snapshot(notes).unwrap().segments(), 2);
    (store, notes, random)
}

fn first_segment(folder: &Path, notes: CollectionId) -> PathBuf {
    folder.join("segments").join(format!("{}-0", notes.0))
}

type Damage = (&'static str, fn(&Path));

/// All that can be found without reading the files themselves.
const FOUND_AT_OPEN: [Damage; 5] = [
    ("missing", |segment| fs::remove_dir_all(segment).unwrap()),
    ("a file missing", |segment| fs::remove_file(file(segment, ".term")).unwrap()),
    ("a file emptied", |segment| fs::write(file(segment, ".idx"), []).unwrap()),
    ("the manifest damaged", |segment| flip(&file(segment, "MANIFEST"))),
    ("the manifest missing", |segment| fs::remove_file(file(segment, "MANIFEST")).unwrap()),
];

/// What the first search meets.
const FOUND_BY_SEARCH: [Damage; 4] = [
    ("chunk numbers", |segment| flip(&file(segment, "chunks"))),
    ("terms", |segment| flip(&file(segment, ".term"))),
    ("postings", |segment| flip(&file(segment, ".idx"))),
    ("lengths", |segment| flip(&file(segment, ".fieldnorm"))),
];

/// What only the check reads as yet.
const FOUND_BY_CHECK: [Damage; 2] =
    [("the roster", |segment| flip(&file(segment, "roster"))), ("values", |segment| flip(&file(segment, ".store")))];

#[test]
fn a_missing_or_damaged_segment_is_built_again_and_search_is_right() {
    for (name, damage) in FOUND_AT_OPEN.into_iter().chain(FOUND_BY_SEARCH).chain(FOUND_BY_CHECK) {
        let folder = tempfile::tempdir().unwrap();
        let (store, notes, _) = two_segments(folder.path());
        let before = answers(&store, notes);
        drop(store);
        damage(&first_segment(folder.path(), notes));
        let store = Store::open(folder.path()).unwrap();
        assert!(!store.check().unwrap().is_empty(), "{name}: the check tells");
        let during = store.0.pin(notes).unwrap();
        let view = during.view.as_ref().unwrap();
        assert!(view.segments.iter().any(|segment| segment.is_damaged()), "{name}");
        let first = store.snapshot(notes).unwrap();
        let found = first.search_text("word0", usize::MAX, None).unwrap();
        let found: Vec<_> = found.hits.iter().map(|(chunk, score)| (*chunk, score.to_bits())).collect();
        assert!(found == before[0].0, "{name}: right before it is built again");
        store.wait();
        assert!(answers(&store, notes) == before, "{name}: and after");
        sound(&store);
        assert_eq!(folders(folder.path()).len(), 2, "{name}");
        drop((store, during, first));
        sound(&Store::open(folder.path()).unwrap());
    }
}

/// What snapshots of two commits answer that were both made before anything of the damaged segment was touched, and what
/// a third one answers that was made afterwards.
fn answers_of_two_commits(damage: Option<fn(&Path)>) -> [Vec<(ChunkNumber, f32)>; 3] {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes, mut random) = two_segments(folder.path());
    drop(store);
    if let Some(damage) = damage {
        damage(&first_segment(folder.path(), notes));
    }
    let store = Store::open(folder.path()).unwrap();
    let older = store.snapshot(notes).unwrap();
    store.write(notes, (0..100).map(|id| Operation::Delete(id.into())).collect()).unwrap();
    fill(&store, notes, &mut random, 420..430);
    let newer = store.snapshot(notes).unwrap();
    let hits = |snapshot: &crate::Snapshot| {
        let found = snapshot.search_text("word0 word1", usize::MAX, None).unwrap();
        assert!(snapshot.document_frequency("word0").unwrap().unwrap() > 50);
        found.hits
    };
    // The newer one meets the damage; the older one has chunks that live no more in the newer.
    let answers = [hits(&newer), hits(&older)];
    let is_there = || folders(folder.path()).contains(&format!("{}-0", notes.0));
    assert!(is_there(), "nobody waits for it to be built again");
    store.snapshot(notes).unwrap();
    store.wait();
    assert_eq!(is_there(), damage.is_none(), "built again under another number");
    let again = [hits(&newer), hits(&older)];
    assert!(again == answers);
    sound(&store);
    let [newer, older] = answers;
    [newer, older, hits(&store.snapshot(notes).unwrap())]
}

#[test]
fn damage_that_a_search_meets_costs_no_answer_and_is_mended_at_the_next_snapshot() {
    let truth = answers_of_two_commits(None);
    assert!(truth[0] == truth[2] && truth[0] != truth[1]);
    for (name, damage) in FOUND_BY_SEARCH {
        assert!(answers_of_two_commits(Some(damage)) == truth, "{name}");
    }
}

#[test]
fn many_searches_meet_damage_at_once_and_all_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes, _) = two_segments(folder.path());
    let before = store.snapshot(notes).unwrap().search_text("word0 word1", usize::MAX, None).unwrap().hits;
    drop(store);
    for number in [0, 1] {
        flip(&file(&folder.path().join("segments").join(format!("{}-{number}", notes.0)), "chunks"));
    }
    let store = Store::open(folder.path()).unwrap();
    let snapshot = store.snapshot(notes).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (snapshot, before) = (&snapshot, &before);
            scope.spawn(move || {
                let hits = snapshot.search_text("word0 word1", usize::MAX, None).unwrap().hits;
                assert!(hits == *before);
            });
        }
    });
    drop(snapshot);
    store.snapshot(notes).unwrap();
    store.wait();
    sound(&store);
}

#[test]
fn damage_that_nothing_touches_is_not_met() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes, _) = two_segments(folder.path());
    let before = answers(&store, notes);
    drop(store);
    flip(&file(&first_segment(folder.path(), notes), "store"));
    let store = Store::open(folder.path()).unwrap();
    assert!(answers(&store, notes) == before);
    assert!(folders(folder.path()).contains(&format!("{}-0", notes.0)));
    assert!(store.check().unwrap().join("\n").contains(".store, block 0"));
    // From then on it is known, and built again.
    assert!(answers(&store, notes) == before);
    store.wait();
    sound(&store);
}

#[test]
fn a_segment_of_another_version_is_built_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes, _) = two_segments(folder.path());
    let before = answers(&store, notes);
    drop(store);
    {
        let database = redb::Database::open(folder.path().join("data.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(SEGMENTS).unwrap();
            let key = (notes.0, 0);
            let record = rows::get::<SegmentRecord>(&table, SEGMENTS, key).unwrap().unwrap();
            // What the first builds wrote, whose folders had no manifest.
            rows::put(&mut table, SEGMENTS, key, &SegmentRecord { version: 1, ..record }).unwrap();
        }
        transaction.commit().unwrap();
    }
    fs::remove_file(file(&first_segment(folder.path(), notes), "MANIFEST")).unwrap();
    let store = Store::open(folder.path()).unwrap();
    sound(&store);
    assert!(answers(&store, notes) == before);
    store.wait();
    assert!(answers(&store, notes) == before, "also when it has been built again");
    assert!(!folders(folder.path()).contains(&format!("{}-0", notes.0)));
    sound(&store);
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
    merge(&store.0, notes).unwrap();
    assert_eq!(store.snapshot(notes).unwrap().segments(), 1);
    assert_eq!(folders(folder.path()).len(), 1);
    assert_eq!(old.search_text("word1 word2", usize::MAX, None).unwrap().hits, before);
}

/// One thread of a pool that waits for work elsewhere takes up other work of the pool: here, to seal as well.
#[test]
fn threads_that_share_all_their_work_may_seal() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), 4);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.scope(|scope| {
        for first in 0..4 {
            let store = &store;
            scope.spawn(move |_| {
                let mut random = Random::new(first);
                let ids = first as i64 * 10..first as i64 * 10 + 10;
                store.write(notes, ids.map(|id| put(random_document(&mut random, id, 4))).collect()).unwrap();
                assert!(seal(&store.0, notes, 1).unwrap());
            });
        }
    });
    assert_eq!(store.sealing_backlog(notes).unwrap(), 0);
    sound(&store);
}
