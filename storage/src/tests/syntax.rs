//! Queries of the syntax find the same, to the bit, whatever is sealed, deleted or damaged.

use std::fs;

use roaring::RoaringBitmap;
use serde_json::json;

use super::{in_memory, on_disk, sound};
use crate::seal::seal;
use crate::testing::{Random, document, put};
use crate::{ChunkNumber, CollectionId, DocumentId, Metric, NewDocument, Operation, Store, TextQuery};

const QUERIES: [&str; 9] = [
    "\"word0 word1\"",
    "\"word1 word0\"~2 -word3",
    "word1*",
    "+word2 -(word1* OR \"word0 word0\")",
    "wordd5~ word4",
    "(word7 OR word9~1) AND NOT word0",
    "\"word0 word0\" OR \"word1 word2 word3\"",
    "wor* -\"word0\"",
    "unheard*",
];

/// A document of several sentences, each a chunk.
fn story(random: &mut Random, id: i64) -> NewDocument {
    let sentences: Vec<String> = (0..1 + random.below(4))
        .map(|_| {
            let count = 3 + random.below(9);
            random.words(count)
        })
        .collect();
    let vectors: Vec<Vec<f32>> = sentences.iter().map(|_| random.vector(4)).collect();
    document(id, &sentences.join(". "), json!({}), &vectors)
}

fn fill(store: &Store, notes: CollectionId, random: &mut Random, ids: std::ops::Range<i64>) {
    store.write(notes, ids.map(|id| put(story(random, id))).collect()).unwrap();
}

/// Places, scores and maximum of an answer.
type Answer = (Vec<(DocumentId, u32, u32)>, u32, Vec<String>);

fn answers(store: &Store, notes: CollectionId) -> Vec<Answer> {
    let snapshot = store.snapshot(notes).unwrap();
    let answer = |query: &&str| {
        let found = snapshot.search_text_query(&TextQuery::parse(query).unwrap(), usize::MAX, None).unwrap();
        let place = |(chunk, score): &(ChunkNumber, f32)| {
            let passage = snapshot.hydrate(*chunk).unwrap();
            (passage.document, passage.ordinal, score.to_bits())
        };
        (found.hits.iter().map(place).collect(), found.maximum.to_bits(), found.words_capped)
    };
    QUERIES.iter().map(answer).collect()
}

#[test]
fn answers_are_the_same_to_the_bit_whatever_is_sealed_deleted_or_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), 4);
    let mut random = Random::new(47);
    fill(&store, notes, &mut random, 0..300);
    let before = answers(&store, notes);
    assert!(before[..8].iter().all(|(hits, ..)| !hits.is_empty() && hits.len() < 900), "each query divides");
    assert!(seal(&store.0, notes, 100).unwrap());
    assert!(answers(&store, notes) == before);
    // The dead stay in the segment for a while.
    store.write(notes, (0..90).map(|id| Operation::Delete(id.into())).collect()).unwrap();
    fill(&store, notes, &mut random, 250..340);
    let before = answers(&store, notes);
    let rebuilt = in_memory(4, Metric::Cosine);
    let snapshot = store.snapshot(notes).unwrap();
    for id in snapshot.ids().unwrap() {
        let stored = snapshot.document(&id).unwrap().unwrap();
        let vectors: Vec<Vec<f32>> =
            snapshot.stored_chunks(&id).unwrap().into_iter().map(|chunk| chunk.vectors[0].clone()).collect();
        rebuilt.0.write(rebuilt.1, vec![put(document(id, &stored.text, json!({}), &vectors))]).unwrap();
    }
    assert!(answers(&rebuilt.0, rebuilt.1) == before, "only what lives counts");
    assert!(seal(&store.0, notes, 100).unwrap());
    assert!(answers(&store, notes) == before);
    sound(&store);
    drop((snapshot, store));
    for entry in fs::read_dir(folder.path().join("segments")).unwrap() {
        for file in fs::read_dir(entry.unwrap().path()).unwrap().map(|file| file.unwrap().path()) {
            if file.extension().is_some_and(|extension| extension == "term") {
                let mut bytes = fs::read(&file).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0xFF;
                fs::write(&file, bytes).unwrap();
            }
        }
    }
    let store = Store::open(folder.path()).unwrap();
    assert!(answers(&store, notes) == before, "redb stands in for a damaged dictionary");
}

#[test]
fn phrases_are_found_where_their_words_stand_in_order_and_only_among_the_allowed() {
    let (store, notes) = in_memory(2, Metric::Cosine);
    let texts = ["a data race is bad. the race for data. ", "no words here. ", "data races. more data. race on. "];
    let vectors = |text: &str| vec![vec![1.0, 0.0]; text.matches(". ").count()];
    let documents = (0_i64..).zip(texts).map(|(id, text)| put(document(id, text, json!({}), &vectors(text))));
    store.write(notes, documents.collect()).unwrap();
    let snapshot = store.snapshot(notes).unwrap();
    let found = |query: &str, allowed: Option<&RoaringBitmap>| -> Vec<u32> {
        let query = TextQuery::parse(query).unwrap();
        let matches = snapshot.text_matches(&query, allowed).unwrap();
        let mut hits: Vec<u32> =
            snapshot.best_matches(&matches, 100).unwrap().hits.into_iter().map(|(chunk, _)| chunk.0).collect();
        hits.sort_unstable();
        assert!(matches.chunks().iter().eq(hits.iter().copied()));
        hits
    };
    assert_eq!(found("\"data race\"", None), [0, 3]);
    assert_eq!(found("race -\"data race\"", None), [1, 5]);
    assert_eq!(found("\"race data\"~1", None), [1]);
    assert_eq!(found("\"data race\"", Some(&(1..9).collect())), [3]);
    assert_eq!(found("race -\"data race\"", Some(&(0..2).collect())), [1]);
}
