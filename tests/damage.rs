//! Is damage on the disk told, and never answered with?

use std::fs;
use std::path::{Path, PathBuf};

use quiverdb::{Blame, Database, Document, DocumentId, Mode, Query};

use crate::scenes::{Chance, folder, four_notes, long_text};

/// A database of a few dozen documents, closed; returns its documents.
fn make(path: &Path) -> Vec<Document> {
    let db = Database::open(path).unwrap();
    let notes = db.collection("notes").unwrap();
    let mut documents = four_notes();
    documents.extend((0..30).map(|id| Document::new(id, long_text(&format!("subject{id}"), 4))));
    notes.add_many(documents.clone()).unwrap();
    documents
}

#[test]
fn a_file_that_is_no_database_is_refused_and_kept() {
    let folder = folder();
    let path = folder.path().join("a.db");
    make(&path);
    let whole = fs::read(path.join("data.redb")).unwrap();
    let mut chance = Chance::of(12);
    let noise: Vec<u8> = (0..whole.len()).map(|_| chance.next() as u8).collect();
    let half = whole.len() / 2;
    let broken: [(&str, Vec<u8>); 8] = [
        ("empty", Vec::new()),
        ("short", whole[..100].to_vec()),
        ("cut in half", whole[..whole.len() / 2].to_vec()),
        ("second half zeroed", [&whole[..half], &vec![0; whole.len() - half]].concat()),
        ("first half zeroed", [&vec![0; half], &whole[half..]].concat()),
        ("zeroed", vec![0; whole.len()]),
        ("noise", noise),
        ("another program's", b"SQLite format 3\0 and so on".repeat(1000)),
    ];
    for (name, bytes) in broken {
        fs::write(path.join("data.redb"), &bytes).unwrap();
        let opened = Database::open(&path).and_then(|db| db.check());
        match opened {
            Ok(violations) => assert!(!violations.is_empty(), "{name}: opened, and `check` finds nothing"),
            Err(error) => {
                assert_ne!(error.blame(), Blame::Caller, "{name}: {error}");
                assert!(
                    error.to_string().contains("data.redb") || error.to_string().contains("a.db"),
                    "{name}: {error}"
                );
                assert_eq!(fs::read(path.join("data.redb")).unwrap(), bytes, "{name}: the file was touched");
            }
        }
    }
    fs::write(path.join("data.redb"), &whole).unwrap();
    let db = Database::open(&path).expect("the whole file opens again");
    assert_eq!(db.open_collection("notes").unwrap().count().unwrap(), 34);
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let folder = folder();
    fs::write(folder.path().join("thesis.txt"), "years of work").unwrap();
    let _ = Database::open(folder.path()).map(|db| db.collection("notes").map(drop));
    assert_eq!(fs::read_to_string(folder.path().join("thesis.txt")).unwrap(), "years of work");
    let file = folder.path().join("thesis.txt");
    let error = Database::open(&file).err().expect("a file is no folder");
    assert!(error.to_string().contains("thesis.txt"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "years of work");
}

#[test]
fn a_half_made_database_does_not_stop_the_next_one() {
    let folder = folder();
    let path = folder.path().join("a.db");
    fs::create_dir(&path).unwrap();
    for leftover in ["data.redb.tmp", "data.redb.new", "LOCK", "data.tmp"] {
        fs::write(path.join(leftover), "left by a process that was killed").unwrap();
    }
    make(&path);
    assert_eq!(Database::open(&path).unwrap().check().unwrap(), Vec::<String>::new());
}

/// Enough that a text segment is sealed.
const SEALED: i64 = 9_000;

fn note(id: i64) -> Document {
    let bread = if id % 7 == 0 { "Bread is baked here, too." } else { "" };
    Document::new(id, format!("Note {id} is about subject{id}, number {} of its kind. {bread}", id % 10))
}

type Answers = Vec<Vec<(String, u32, f32)>>;

/// What a database answers to a few questions, scores included.
fn answers(db: &Database) -> Answers {
    let notes = db.open_collection("notes").unwrap();
    let ask = |text: &str, mode| notes.search(Query::text(text).mode(mode).limit(40)).unwrap().hits;
    let questions = ["subject7 number 3", "bread is baked", "subject8999", "the kind of note"];
    let asked = questions.iter().flat_map(|text| [Mode::Text, Mode::Hybrid].map(|mode| ask(text, mode)));
    asked.map(|hits| hits.into_iter().map(|hit| (hit.document.to_string(), hit.chunk, hit.score)).collect()).collect()
}

/// A closed database with a sealed segment, and its answers.
fn make_sealed(path: &Path) -> Answers {
    let db = Database::open(path).unwrap();
    let notes = db.collection("notes").unwrap();
    notes.add_many((0..SEALED).map(note)).unwrap();
    notes.delete_many(&(100..120).map(DocumentId::from).collect::<Vec<_>>()).unwrap();
    assert!(notes.stats().unwrap().segments >= 1, "nothing was sealed: this test tests nothing");
    answers(&db)
}

#[test]
fn answers_do_not_depend_on_what_is_sealed() {
    let folder = folder();
    let sealed = make_sealed(&folder.path().join("a.db"));
    let db = Database::in_memory().unwrap();
    let notes = db.collection("notes").unwrap();
    // In another order, in small batches, and with the deleted ones never there.
    for first in (0..9).rev().map(|thousand| thousand * 1_000) {
        notes.add_many((first..first + 1_000).filter(|id| !(100..120).contains(id)).map(note)).unwrap();
    }
    assert_eq!(answers(&db), sealed);
}

#[test]
fn a_segment_that_cannot_be_built_is_told_and_costs_no_answer() {
    let folder = folder();
    let whole = make_sealed(&folder.path().join("a.db"));
    let path = folder.path().join("b.db");
    let db = Database::open(&path).unwrap();
    let notes = db.collection("notes").unwrap();
    fs::write(path.join("segments"), "a file where a folder should be").unwrap();
    notes.add_many((0..SEALED).map(note)).unwrap();
    notes.delete_many(&(100..120).map(DocumentId::from).collect::<Vec<_>>()).unwrap();
    let stats = notes.stats().unwrap();
    assert!(stats.segments == 0 && stats.sealing_error.is_some_and(|error| error.contains("segments")));
    assert_eq!(answers(&db), whole);
    fs::remove_file(path.join("segments")).unwrap();
    db.repair().unwrap();
    let stats = notes.stats().unwrap();
    assert_eq!((stats.segments, stats.sealing_error), (1, None));
    assert_eq!(answers(&db), whole);
}

/// Everything under `segments/` is derived: without it, or with any file of it damaged, the answers are the same.
#[test]
fn segments_can_be_lost_or_damaged() {
    let folder = folder();
    let pristine = folder.path().join("a.db");
    let whole = make_sealed(&pristine);
    let mut chance = Chance::new("QUIVER_FLIP_SEED");
    let damages: [(&str, Damage); 5] = [
        ("removed", |_, _| None),
        ("emptied", |_, _| Some(Vec::new())),
        ("cut", |bytes, _| Some(bytes[..bytes.len() / 2].to_vec())),
        ("zeroed", |bytes, _| Some(vec![0; bytes.len()])),
        ("one bit flipped", |bytes, chance| {
            let mut bytes = bytes.to_vec();
            let bit = chance.below(bytes.len() as u64 * 8) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
            Some(bytes)
        }),
    ];
    for (name, damage) in damages {
        for file in files_below(&pristine.join("segments")) {
            let path = folder.path().join("b.db");
            copy(&pristine, &path);
            let target = path.join(file.strip_prefix(&pristine).unwrap());
            match damage(&fs::read(&file).unwrap(), &mut chance) {
                Some(damaged) => fs::write(&target, damaged).unwrap(),
                None => fs::remove_file(&target).unwrap(),
            }
            let db = Database::open(&path).unwrap_or_else(|error| panic!("{} {name}: {error}", file.display()));
            assert_eq!(answers(&db), whole, "{} {name}", file.display());
            drop(db);
            fs::remove_dir_all(&path).unwrap();
        }
    }
    fs::remove_dir_all(pristine.join("segments")).unwrap();
    assert_eq!(answers(&Database::open(&pristine).unwrap()), whole, "all segments removed");
}

fn copy(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}

/// Makes other bytes of a file's, or none where the file is to be removed.
type Damage = fn(&[u8], &mut Chance) -> Option<Vec<u8>>;

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// One flipped bit: whatever can still be read is right, the rest is an error that says so, and `check` finds it.
#[test]
fn flipped_bits_never_change_an_answer() {
    let place = folder();
    let path = place.path().join("a.db");
    let documents = make(&path);
    let file = path.join("data.redb");
    let whole = fs::read(&file).unwrap();
    let mut chance = Chance::new("QUIVER_FLIP_SEED");
    let (mut noticed, rounds) = (0, 60);
    for round in 0..rounds {
        let bit = chance.below(whole.len() as u64 * 8) as usize;
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&file, &bytes).unwrap();
        let told = read_all(&path, &documents).unwrap_or_else(|wrong| panic!("round {round}, bit {bit}: {wrong}"));
        noticed += usize::from(told);
        fs::write(&file, &whole).unwrap();
    }
    println!("{noticed} of {rounds} flips were noticed; the others hit bytes that nothing reads");
}

/// Reads every document and asks `check`; says whether anything was told, or what was silently wrong.
fn read_all(path: &Path, documents: &[Document]) -> Result<bool, String> {
    let Ok(db) = Database::open(path) else { return Ok(true) };
    let Ok(notes) = db.open_collection("notes") else { return Ok(true) };
    let mut failed = false;
    for document in documents {
        match notes.get(document.id.clone()) {
            Ok(Some(stored)) if stored == *document => {}
            Ok(stored) => return Err(format!("document {} came back as {stored:?}", document.id)),
            Err(_) => failed = true,
        }
    }
    match notes.search(Query::text("subject7").mode(Mode::Text)).map(|answer| answer.hits) {
        Ok(hits) if hits.iter().all(|hit| hit.document == 7.into()) && !hits.is_empty() => {}
        Ok(hits) => return Err(format!("the text leg answered {hits:?}")),
        Err(_) => failed = true,
    }
    let violated = db.check().map_or(true, |violations| !violations.is_empty());
    if failed && !violated {
        return Err("a read failed, and `check` finds nothing".into());
    }
    Ok(violated)
}
