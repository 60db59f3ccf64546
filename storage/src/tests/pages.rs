//! Pages that were damaged under an open database: every read says so, and what follows is not hurt.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::engine::QUICK_REPAIR_BYTES_MIN;
use crate::handle::Watch;
use crate::testing::{Faults, Random, document, put, random_document, settings};
use crate::{ChunkNumber, CollectionId, Effort, Error, Metric, Result, Snapshot, Store, TextQuery};

const DIMS: usize = 4;
const PAGE: usize = 4096;

/// A database that keeps no page in memory.
fn open(folder: &Path) -> Store {
    let watch = Arc::new(Watch::with_faults(Arc::new(Faults::uncached())));
    Store::open_tuned(folder, QUICK_REPAIR_BYTES_MIN, watch).unwrap()
}

fn make(folder: &Path) -> (Store, CollectionId) {
    let store = open(folder);
    let notes = store.create_collection("notes", &settings(DIMS, Metric::Cosine)).unwrap().id;
    let mut random = Random::new(223);
    store.write(notes, (0..200).map(|id| put(random_document(&mut random, id, DIMS))).collect()).unwrap();
    assert!(crate::seal::seal(&store.0, notes, 1).unwrap());
    store.write(notes, (200..260).map(|id| put(random_document(&mut random, id, DIMS))).collect()).unwrap();
    store.write(notes, vec![put(document(300, "", json!({"year": 2020}), &[]))]).unwrap();
    (store, notes)
}

type Read = (&'static str, fn(&Store, CollectionId, &Snapshot) -> Result<String>);

fn told<T: std::fmt::Debug>(result: Result<T>) -> Result<String> {
    result.map(|value| format!("{value:?}"))
}

/// Every way to read.
const READS: [Read; 21] = [
    ("collections", |store, _, _| told(store.collections())),
    ("collection", |store, _, _| told(store.collection("notes"))),
    ("dump", |store, _, _| store.dump()),
    ("snapshot", |store, notes, _| store.snapshot(notes).and_then(|snapshot| told(snapshot.ids()))),
    ("digest", |_, _, snapshot| told(snapshot.digest(&7.into()))),
    ("document", |_, _, snapshot| told(snapshot.document(&7.into()))),
    ("stored_chunks", |_, _, snapshot| told(snapshot.stored_chunks(&7.into()))),
    ("first_chunk", |_, _, snapshot| told(snapshot.first_chunk(&7.into()))),
    ("scan", |_, _, snapshot| told(snapshot.scan(Some(&3.into()), 50))),
    ("ids", |_, _, snapshot| told(snapshot.ids())),
    ("hydrate", |_, _, snapshot| told(snapshot.hydrate(ChunkNumber(9)))),
    ("vector", |_, _, snapshot| told(snapshot.vector(0, ChunkNumber(9)))),
    ("nearest", |_, _, snapshot| told(snapshot.nearest(0, &[1.0, 0.0, 0.5, 0.2], 10, None))),
    ("nearest_with", |_, _, snapshot| told(snapshot.nearest_with(0, &[1.0, 0.0, 0.5, 0.2], 10, None, Effort::Usual))),
    ("similarities", |_, _, snapshot| told(snapshot.similarities(0, &[1.0, 0.0, 0.5, 0.2], &[ChunkNumber(4)]))),
    ("search_text", |_, _, snapshot| told(snapshot.search_text("word1", 10, None).map(|found| found.hits))),
    ("a phrase", |_, _, snapshot| {
        let query = TextQuery::parse("\"word1 word2\" OR \"word0 word0\"")?;
        told(snapshot.search_text_query(&query, 10, None).map(|found| found.hits))
    }),
    ("text_matches", |_, _, snapshot| {
        told(snapshot.text_matches(&TextQuery::parse("word1*")?, None).map(|found| found.chunks().clone()))
    }),
    ("document_frequency", |_, _, snapshot| told(snapshot.document_frequency("word3"))),
    ("matching_chunks", |_, _, snapshot| told(snapshot.matching_chunks(&"year = 2011".parse()?))),
    ("matching_documents", |_, _, snapshot| told(snapshot.matching_documents(&"year >= 2000".parse()?))),
];

/// Those that redb has no part in.
const IN_MEMORY: [&str; 7] =
    ["nearest", "nearest_with", "similarities", "search_text", "text_matches", "document_frequency", "a phrase"];

type Damage = (&'static str, fn(&mut [u8], &mut Random));

const DAMAGES: [Damage; 4] = [
    ("another kind of page", |page, _| page[0] = 9),
    ("ones", |page, _| page.fill(0xFF)),
    ("zeroes", |page, _| page.fill(0)),
    ("noise", |page, random| page.iter_mut().for_each(|byte| *byte = random.next() as u8)),
];

#[test]
fn every_read_of_damaged_pages_is_an_error_and_the_next_one_of_whole_pages_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = make(folder.path());
    let snapshot = store.snapshot(notes).unwrap();
    let expected = READS.map(|(_, read)| read(&store, notes, &snapshot).unwrap());
    let file = folder.path().join("data.redb");
    let whole = fs::read(&file).unwrap();
    let mut random = Random::new(227);
    for (damage, change) in DAMAGES {
        let mut bytes = whole.clone();
        bytes[PAGE..].chunks_mut(PAGE).for_each(|page| change(page, &mut random));
        // What is remembered of filters would answer else.
        let snapshot = store.snapshot(notes).unwrap();
        snapshot.view().unwrap().filtered.lock().unwrap().clear();
        fs::write(&file, &bytes).unwrap();
        for (name, read) in READS {
            let answer = catch_unwind(AssertUnwindSafe(|| read(&store, notes, &snapshot)));
            match answer {
                Ok(Err(Error::Corrupt { .. })) => {}
                Ok(Ok(_)) if IN_MEMORY.contains(&name) => {}
                Ok(other) => panic!("{damage}, {name}: {other:?}"),
                Err(_) => panic!("{damage}, {name}: it panics"),
            }
        }
        fs::write(&file, &whole).unwrap();
        for ((name, read), expected) in READS.into_iter().zip(&expected) {
            assert_eq!(read(&store, notes, &snapshot).unwrap(), *expected, "{name} after {damage}");
        }
    }
    drop(snapshot);
    store.write(notes, vec![put(random_document(&mut random, 400, DIMS))]).unwrap();
    super::sound(&store);
}

#[test]
fn what_is_sealed_is_filtered_by_its_index_and_not_by_its_rows() {
    use redb::{ReadableDatabase, ReadableTable};
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = make(folder.path());
    let filter = "year >= 2005 AND $id >= 20".parse().unwrap();
    let expected = store.snapshot(notes).unwrap().matching_documents(&filter).unwrap();
    assert!(expected.contains(&300.into()), "documents without a chunk match, too");
    assert!(expected.len() > 150, "{}", expected.len());
    drop(store);
    {
        let database = redb::Database::open(folder.path().join("data.redb")).unwrap();
        assert!(database.begin_read().is_ok());
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(crate::tables::METADATA).unwrap();
            for document in 0..200 {
                let bytes = table.get((notes.0, document)).unwrap().unwrap().value().to_vec();
                table.insert((notes.0, document), &bytes[1..]).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.snapshot(notes).unwrap().matching_documents(&filter).unwrap(), expected);
}
