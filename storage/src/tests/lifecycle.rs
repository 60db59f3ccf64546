//! Adding, replacing, deleting, reopening; collections.

use serde_json::json;

use super::{in_memory, on_disk, sound};
use crate::testing::{Random, document, put, random_document, settings};
use crate::{ChunkNumber, DocumentId, Error, Metric, NewChunk, Operation, SpaceSettings, Store, Written};

#[test]
fn a_document_comes_back_as_it_was_given() {
    let (store, notes) = in_memory(2, Metric::Cosine);
    let metadata = json!({"z": 1, "a": [true, null], "f": 0.300_000_000_000_000_04, "big": u64::MAX, "é": "ü"});
    let mut given = document("a", "One. Two é. ", metadata, &[vec![3.0, 4.0], vec![0.0, -1e-20]]);
    given.title = Some("Title".into());
    given.chunks[1].heading = "A > B".into();
    let written = store.write(notes, vec![put(given.clone())]).unwrap();
    assert_eq!(written, Written { added: 1, replaced: 0, removed: 0, chunks: 2 });
    let snapshot = store.snapshot(notes).unwrap();
    let stored = snapshot.document(&"a".into()).unwrap().unwrap();
    assert_eq!((&stored.id, &stored.title, &stored.text), (&given.id, &given.title, &given.text));
    assert_eq!((&stored.metadata, stored.digest), (&given.metadata, given.digest));
    let keys: Vec<&String> = stored.metadata.keys().collect();
    assert_eq!(keys, ["z", "a", "f", "big", "é"], "keys keep their order");
    assert_eq!(snapshot.digest(&"a".into()).unwrap(), Some(given.digest));
    let chunks = snapshot.stored_chunks(&"a".into()).unwrap();
    for (stored, given) in chunks.iter().zip(&given.chunks) {
        assert_eq!((stored.start, stored.end, &stored.heading), (given.start, given.end, &given.heading));
        assert_eq!(stored.vectors, given.vectors, "vectors come back as given, to the bit");
    }
    let chunk = snapshot.hydrate(ChunkNumber(1)).unwrap();
    assert_eq!((chunk.text.as_str(), chunk.ordinal, chunk.chunks_in_document), ("Two é. ", 1, 2));
    assert_eq!((chunk.document, chunk.heading.as_str(), chunk.title.as_deref()), ("a".into(), "A > B", Some("Title")));
    assert_eq!(snapshot.vector(0, ChunkNumber(0)).unwrap(), [3.0, 4.0]);
    sound(&store);
}

/// Blocks of two dimensions hold 4,092 vectors.
#[test]
fn chunks_of_several_blocks_have_each_its_vector() {
    let (store, notes) = in_memory(2, Metric::Dot);
    let vectors: Vec<Vec<f32>> = (0..9_000_u16).map(|at| vec![f32::from(at), 1.0]).collect();
    let before = document("before", "One. ", json!({}), &[vec![-1.0, 0.0]]);
    let long = document("long", &"Word. ".repeat(vectors.len()), json!({}), &vectors);
    store.write(notes, vec![put(before), put(long)]).unwrap();
    let snapshot = store.snapshot(notes).unwrap();
    let stored = snapshot.stored_chunks(&"long".into()).unwrap();
    assert_eq!(stored.len(), vectors.len());
    assert!(stored.iter().zip(&vectors).all(|(stored, given)| stored.vectors[0] == *given));
    assert_eq!(snapshot.first_chunk(&"long".into()).unwrap().unwrap().vectors[0], vectors[0]);
}

#[test]
fn integer_and_string_ids_are_different_documents() {
    let (store, notes) = in_memory(1, Metric::Dot);
    let ids: Vec<DocumentId> = vec![(-1).into(), 7.into(), i64::MAX.into(), "7".into(), "é".into()];
    let mut random = Random::new(1);
    let batch = ids.iter().rev().map(|id| put(random_document(&mut random, id.clone(), 1))).collect();
    store.write(notes, batch).unwrap();
    let snapshot = store.snapshot(notes).unwrap();
    assert_eq!(snapshot.ids().unwrap(), ids);
    let scanned = |after: Option<&DocumentId>| -> Vec<DocumentId> {
        snapshot.scan(after, 2).unwrap().into_iter().map(|document| document.id).collect()
    };
    assert_eq!(scanned(None), ids[..2]);
    assert_eq!(scanned(Some(&ids[1])), ids[2..4]);
    assert_eq!(scanned(Some(&8.into())), ids[2..4], "an id that is not there is a place all the same");
    assert_eq!(scanned(Some(&ids[4])), []);
    sound(&store);
}

#[test]
fn a_replaced_document_keeps_nothing_of_the_old_one() {
    let (store, notes) = in_memory(2, Metric::Cosine);
    store.write(notes, vec![put(document("a", "old. words. ", json!({}), &[vec![1.0, 0.0], vec![1.0, 0.1]]))]).unwrap();
    let written = store.write(notes, vec![put(document("a", "new. ", json!({"v": 2}), &[vec![0.0, 1.0]]))]).unwrap();
    assert_eq!(written, Written { added: 0, replaced: 1, removed: 0, chunks: 1 });
    let snapshot = store.snapshot(notes).unwrap();
    assert_eq!((snapshot.documents(), snapshot.chunks()), (1, 1));
    let hits = snapshot.nearest(0, &[1.0, 0.0], 10, None).unwrap();
    assert_eq!(hits.len(), 1);
    assert_eq!(snapshot.hydrate(hits[0].0).unwrap().text, "new. ");
    assert_eq!(hits[0].0, ChunkNumber(2), "chunk numbers are not used again");
    assert!(snapshot.search_text("old words", 10, None).unwrap().hits.is_empty());
    assert_eq!(snapshot.document_frequency("old").unwrap(), Some(0));
    assert!(matches!(snapshot.hydrate(ChunkNumber(0)), Err(Error::InvalidInput(_))));
    assert!(matches!(snapshot.similarities(0, &[1.0, 0.0], &[ChunkNumber(0)]), Err(Error::InvalidInput(_))));
    sound(&store);
}

#[test]
fn in_a_batch_the_last_operation_on_an_id_counts() {
    let (store, notes) = in_memory(1, Metric::Dot);
    let one = |text: &str| put(document("a", text, json!({}), &[vec![1.0]]));
    let delete = || Operation::Delete("a".into());
    let written = store.write(notes, vec![one("first. "), delete(), one("second. ")]).unwrap();
    assert_eq!(written, Written { added: 1, replaced: 0, removed: 0, chunks: 1 });
    assert_eq!(store.snapshot(notes).unwrap().document(&"a".into()).unwrap().unwrap().text, "second. ");
    let written = store.write(notes, vec![one("third. "), delete(), delete()]).unwrap();
    assert_eq!(written, Written { added: 0, replaced: 0, removed: 1, chunks: 0 });
    assert_eq!(store.write(notes, vec![delete(), one("x. "), delete()]).unwrap(), Written::default());
    assert_eq!(store.write(notes, vec![]).unwrap(), Written::default());
    assert_eq!(store.snapshot(notes).unwrap().documents(), 0);
    sound(&store);
}

#[test]
fn documents_without_chunks_or_text_are_kept() {
    let (store, notes) = in_memory(1, Metric::Dot);
    let mut empty = document("empty", "", json!({"a": 1}), &[]);
    empty.digest = [9; 16];
    let mut unread = document("unread", "text. ", json!({}), &[vec![1.0]]);
    unread.chunks.clear();
    let mut own = document("own", "x. ", json!({}), &[vec![1.0]]);
    own.chunks = vec![NewChunk { start: 0, end: 0, heading: String::new(), vectors: vec![vec![2.0]] }];
    store.write(notes, vec![put(empty), put(unread), put(own)]).unwrap();
    let snapshot = store.snapshot(notes).unwrap();
    assert_eq!((snapshot.documents(), snapshot.chunks()), (3, 1));
    assert_eq!(snapshot.document(&"empty".into()).unwrap().unwrap().text, "");
    assert!(snapshot.stored_chunks(&"unread".into()).unwrap().is_empty());
    assert_eq!(snapshot.hydrate(ChunkNumber(0)).unwrap().text, "");
    assert_eq!(snapshot.matching_documents(&r#"{"a": 1}"#.parse().unwrap()).unwrap(), ["empty".into()]);
    sound(&store);
}

#[test]
fn what_cannot_be_stored_is_refused_before_anything_is_written() {
    let (store, notes) = in_memory(2, Metric::Cosine);
    let good = || document("good", "fine. ", json!({}), &[vec![1.0, 1.0]]);
    let with = |change: &dyn Fn(&mut crate::NewDocument)| {
        let mut document = good();
        document.id = "bad".into();
        change(&mut document);
        document
    };
    let mut deep = json!(1);
    for _ in 0..101 {
        deep = json!([deep]);
    }
    let bad = [
        with(&|document| document.chunks[0].vectors = vec![vec![1.0]]),
        with(&|document| document.chunks[0].vectors = vec![vec![1.0, f32::NAN]]),
        with(&|document| document.chunks[0].vectors = vec![vec![f32::INFINITY, 0.0]]),
        with(&|document| document.chunks[0].vectors = vec![vec![0.0, 0.0]]),
        with(&|document| document.chunks[0].vectors = vec![]),
        with(&|document| document.chunks[0].vectors.push(vec![1.0, 1.0])),
        with(&|document| document.chunks[0].end = 7),
        with(&|document| (document.chunks[0].start, document.chunks[0].end) = (3, 2)),
        with(&|document| (document.text, document.chunks[0].end) = ("éé".into(), 3)),
        with(&|document| document.id = "".into()),
        with(&|document| document.id = "x".repeat(513).into()),
        with(&|document| document.metadata = json!({"deep": deep}).as_object().unwrap().clone()),
        with(&|document| document.title = Some("x".repeat(70_000))),
    ];
    for document in bad {
        let names_chunk = !document.chunks.is_empty() && document.id == "bad".into();
        let error = store.write(notes, vec![put(good()), put(document)]).unwrap_err();
        let kind = matches!(error, Error::InvalidInput(_) | Error::DimensionMismatch { .. });
        assert!(kind, "{error:?}");
        assert!(!names_chunk || error.to_string().contains("document `bad`"), "{error}");
    }
    let error = store.write(notes, vec![Operation::Delete("".into())]).unwrap_err();
    assert!(matches!(error, Error::InvalidInput(_)));
    assert_eq!(store.snapshot(notes).unwrap().documents(), 0);
    store.write(notes, vec![put(good())]).unwrap();
    sound(&store);
}

#[test]
fn a_wrong_dimension_names_document_chunk_space_and_both_numbers() {
    let (store, notes) = in_memory(3, Metric::Cosine);
    let document = document("doc", "a. b. ", json!({}), &[vec![1.0; 3], vec![1.0; 4]]);
    let error = store.write(notes, vec![put(document)]).unwrap_err();
    let expected = "document `doc`, chunk 1: space `default` holds 3-dimensional vectors; got 4";
    assert_eq!(error.to_string(), expected);
    let error = store.snapshot(notes).unwrap().nearest(0, &[1.0], 1, None).unwrap_err();
    assert_eq!(error.to_string(), "the query: space `default` holds 3-dimensional vectors; got 1");
}

#[test]
fn zero_vectors_are_refused_for_the_cosine_only() {
    for (metric, taken) in [(Metric::Cosine, false), (Metric::Dot, true), (Metric::L2, true)] {
        let (store, notes) = in_memory(2, metric);
        let result = store.write(notes, vec![put(document("a", "x. ", json!({}), &[vec![0.0, 0.0]]))]);
        assert_eq!(result.is_ok(), taken, "{metric:?}");
        assert_eq!(store.snapshot(notes).unwrap().nearest(0, &[0.0, 0.0], 1, None).is_ok(), taken, "{metric:?}");
    }
}

#[test]
fn everything_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new(5);
    let query = random.vector(7);
    let (dump, nearest, text) = {
        let (store, notes) = on_disk(folder.path(), 7);
        for round in 0..20_i64 {
            let batch = (0..10).map(|n| put(random_document(&mut random, round * 7 + n, 7))).collect();
            store.write(notes, batch).unwrap();
            store.write(notes, vec![Operation::Delete((round * 7 + 3).into())]).unwrap();
        }
        let snapshot = store.snapshot(notes).unwrap();
        sound(&store);
        let text = snapshot.search_text("word1 word7", 20, None).unwrap();
        (store.dump().unwrap(), snapshot.nearest(0, &query, 20, None).unwrap(), text.hits)
    };
    let store = Store::open(folder.path()).unwrap();
    let notes = store.collection("notes").unwrap().unwrap();
    let snapshot = store.snapshot(notes.id).unwrap();
    assert_eq!(snapshot.nearest(0, &query, 20, None).unwrap(), nearest);
    assert_eq!(snapshot.search_text("word1 word7", 20, None).unwrap().hits, text);
    assert_eq!(store.dump().unwrap(), dump);
    store.write(notes.id, vec![put(random_document(&mut random, 1, 7))]).unwrap();
    sound(&store);
}

#[test]
fn blocks_grow_row_by_row_and_go_when_all_is_dead() {
    let (store, notes) = in_memory(384, Metric::Cosine);
    let mut random = Random::new(2);
    for n in 0..50 {
        store.write(notes, vec![put(random_document(&mut random, n, 384))]).unwrap();
    }
    sound(&store);
    let vectors = |store: &Store| {
        let transaction = store.0.begin_read().unwrap();
        let table = crate::rows::open(&transaction, crate::tables::VECTORS).unwrap();
        redb::ReadableTableMetadata::len(&table).unwrap()
    };
    assert_eq!(vectors(&store), 3, "21 vectors a block");
    store.write(notes, (0..21).map(|n| Operation::Delete(n.into())).collect()).unwrap();
    assert_eq!(vectors(&store), 2);
    sound(&store);
    store.write(notes, (21..50).map(|n| Operation::Delete(n.into())).collect()).unwrap();
    assert_eq!(vectors(&store), 1, "the last block is not full, so it stays");
    for n in 0..40 {
        store.write(notes, vec![put(random_document(&mut random, n, 384))]).unwrap();
        sound(&store);
    }
}

#[test]
fn several_spaces_are_searched_apart() {
    let store = Store::in_memory().unwrap();
    let mut settings = settings(2, Metric::Cosine);
    settings.spaces.push(SpaceSettings { name: "other".into(), dims: 1, metric: Metric::L2 });
    let notes = store.create_collection("notes", &settings).unwrap();
    assert_eq!(notes.spaces.len(), 2);
    let mut batch = Vec::new();
    for n in 0..10_i16 {
        let mut document = document(i64::from(n), "x. ", json!({}), &[vec![f32::from(n), 1.0]]);
        document.chunks[0].vectors.push(vec![f32::from(n)]);
        batch.push(put(document));
    }
    store.write(notes.id, batch).unwrap();
    let snapshot = store.snapshot(notes.id).unwrap();
    assert_eq!(snapshot.nearest(0, &[1.0, 0.0], 1, None).unwrap()[0].0, ChunkNumber(9));
    let (chunk, score) = snapshot.nearest(1, &[4.25], 1, None).unwrap()[0];
    assert_eq!((chunk, score), (ChunkNumber(4), -0.25));
    assert!(matches!(snapshot.nearest(2, &[1.0], 1, None), Err(Error::InvalidInput(_))));
    sound(&store);
}

#[test]
fn collections_are_made_listed_renamed_and_dropped() {
    let store = Store::in_memory().unwrap();
    let given = settings(2, Metric::Dot);
    for name in ["b", "a", "C.d-1_"] {
        store.create_collection(name, &given).unwrap();
    }
    let names =
        |store: &Store| -> Vec<String> { store.collections().unwrap().into_iter().map(|info| info.name).collect() };
    assert_eq!(names(&store), ["C.d-1_", "a", "b"]);
    let info = store.collection("a").unwrap().unwrap();
    assert_eq!(info.settings, given);
    assert!(matches!(store.create_collection("a", &given), Err(Error::CollectionExists(name)) if name == "a"));
    for bad in ["", "..", "a/b", "a b", "é", &"x".repeat(256)] {
        assert!(matches!(store.create_collection(bad, &given), Err(Error::InvalidInput(_))), "{bad}");
        assert!(matches!(store.rename_collection("a", bad), Err(Error::InvalidInput(_))), "{bad}");
    }
    assert!(matches!(store.rename_collection("a", "b"), Err(Error::CollectionExists(name)) if name == "b"));
    assert!(matches!(store.rename_collection("x", "y"), Err(Error::UnknownCollection(name)) if name == "x"));
    assert!(matches!(store.drop_collection("x"), Err(Error::UnknownCollection(name)) if name == "x"));
    store.rename_collection("a", "a").unwrap();
    store.rename_collection("a", "z").unwrap();
    assert_eq!(names(&store), ["C.d-1_", "b", "z"]);
    assert_eq!(store.collection("z").unwrap().unwrap().id, info.id);
    assert_eq!(store.collection("a").unwrap(), None);
    store.write(info.id, vec![put(document(1, "x. ", json!({}), &[vec![1.0, 2.0]]))]).unwrap();
    assert_eq!(store.snapshot(info.id).unwrap().documents(), 1, "what was opened by number stays open");
    sound(&store);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let store = Store::in_memory().unwrap();
    for dims in [0, crate::DIMS_MAX + 1] {
        assert!(matches!(store.create_collection("a", &settings(dims, Metric::Dot)), Err(Error::InvalidInput(_))));
    }
    let mut twice = settings(2, Metric::Dot);
    twice.spaces.push(twice.spaces[0].clone());
    assert!(matches!(store.create_collection("a", &twice), Err(Error::InvalidInput(_))));
    let mut many = settings(2, Metric::Dot);
    many.spaces = (0..17).map(|n| SpaceSettings { name: format!("s{n}"), dims: 2, metric: Metric::Dot }).collect();
    assert!(matches!(store.create_collection("a", &many), Err(Error::InvalidInput(_))));
    let mut none = settings(2, Metric::Dot);
    none.spaces.clear();
    let id = store.create_collection("text-only", &none).unwrap().id;
    let mut only_text = document("a", "some words. ", json!({}), &[vec![]]);
    only_text.chunks[0].vectors.clear();
    store.write(id, vec![put(only_text)]).unwrap();
    assert_eq!(store.snapshot(id).unwrap().search_text("words", 5, None).unwrap().hits.len(), 1);
    sound(&store);
}

#[test]
fn a_dropped_collection_leaves_no_rows_and_frees_its_name() {
    let (store, notes) = in_memory(3, Metric::Cosine);
    let other = store.create_collection("other", &settings(3, Metric::Cosine)).unwrap().id;
    let mut random = Random::new(9);
    for collection in [notes, other] {
        let batch = (0..100).map(|n| put(random_document(&mut random, n, 3))).collect();
        store.write(collection, batch).unwrap();
        store.write(collection, (0..10).map(|n| Operation::Delete(n.into())).collect()).unwrap();
    }
    let before = store.snapshot(notes).unwrap();
    store.drop_collection("notes").unwrap();
    assert!(matches!(store.snapshot(notes), Err(Error::UnknownCollection(_))));
    assert!(matches!(store.write(notes, vec![Operation::Delete(1.into())]), Err(Error::UnknownCollection(_))));
    assert_eq!(before.ids().unwrap().len(), 90, "a snapshot outlives what it shows");
    assert_eq!(before.nearest(0, &[1.0, 0.0, 0.0], 5, None).unwrap().len(), 5);
    sound(&store);
    let transaction = store.0.begin_read().unwrap();
    let ids = crate::rows::open(&transaction, crate::tables::DOCUMENT_IDS).unwrap();
    assert_eq!(redb::ReadableTableMetadata::len(&ids).unwrap(), 90);
    let again = store.create_collection("notes", &settings(5, Metric::L2)).unwrap();
    assert_ne!(again.id, notes, "numbers are not used again");
    assert_eq!(store.snapshot(again.id).unwrap().documents(), 0);
    assert_eq!(store.snapshot(other).unwrap().documents(), 90);
}

#[test]
fn the_dump_tells_content_not_history() {
    let (one, notes) = in_memory(2, Metric::Cosine);
    let (other, others) = in_memory(2, Metric::Cosine);
    let document = |n: i64| put(document(n, "some text. ", json!({"n": n}), &[vec![n as f32, 1.0]]));
    one.write(notes, (0..20).map(document).collect()).unwrap();
    for n in (0..25).rev() {
        other.write(others, vec![document(n)]).unwrap();
    }
    other.write(others, (10..25).map(|n| Operation::Delete(n.into())).collect()).unwrap();
    assert_ne!(one.dump().unwrap(), other.dump().unwrap());
    other.write(others, (5..20).map(document).collect()).unwrap();
    assert_eq!(one.dump().unwrap(), other.dump().unwrap());
    sound(&other);
}
