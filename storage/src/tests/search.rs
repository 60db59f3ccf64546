//! Searches against brute force, filters, and the order of equals.

use roaring::RoaringBitmap;
use serde_json::json;

use super::{in_memory, sound};
use crate::testing::{Random, document, put, random_document, settings};
use crate::{ChunkNumber, DocumentId, Filter, Metric, Operation, Snapshot, Store};

fn places(snapshot: &Snapshot, hits: &[(ChunkNumber, f32)]) -> Vec<(DocumentId, u32, f32)> {
    let place = |&(chunk, score): &(ChunkNumber, f32)| {
        let chunk = snapshot.hydrate(chunk).unwrap();
        (chunk.document, chunk.ordinal, score)
    };
    hits.iter().map(place).collect()
}

/// In double precision, from the vectors as given.
fn textbook(metric: Metric, one: &[f32], other: &[f32]) -> f64 {
    let pairs = || one.iter().zip(other).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let dot: f64 = pairs().map(|(a, b)| a * b).sum();
    let length = |vector: &[f32]| vector.iter().map(|&a| f64::from(a) * f64::from(a)).sum::<f64>().sqrt();
    match metric {
        Metric::Cosine => dot / (length(one) * length(other)),
        Metric::Dot => dot,
        Metric::L2 => -pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
    }
}

#[test]
fn nearest_is_what_brute_force_finds() {
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let dims = 33;
        let (store, notes) = in_memory(dims, metric);
        let mut random = Random::new(17);
        let mut all = Vec::new();
        for batch in 0..30_i64 {
            let documents: Vec<_> = (0..20).map(|n| random_document(&mut random, batch * 20 + n, dims)).collect();
            all.extend(documents.iter().map(|document| (document.id.clone(), document.chunks[0].vectors[0].clone())));
            store.write(notes, documents.into_iter().map(put).collect()).unwrap();
        }
        let gone: Vec<DocumentId> = (0..600).step_by(7).map(DocumentId::from).collect();
        store.write(notes, gone.iter().cloned().map(Operation::Delete).collect()).unwrap();
        all.retain(|(id, _)| !gone.contains(id));
        let snapshot = store.snapshot(notes).unwrap();
        for _ in 0..10 {
            let query = random.vector(dims);
            let mut expected: Vec<_> = all.iter().map(|(id, v)| (id, textbook(metric, &query, v))).collect();
            expected.sort_by(|one, other| other.1.total_cmp(&one.1));
            let found = snapshot.nearest(0, &query, 25, None).unwrap();
            for ((found, score), (id, textbook)) in found.iter().zip(&expected) {
                assert_eq!(snapshot.hydrate(*found).unwrap().document, **id, "{metric:?}");
                assert!((f64::from(*score) - textbook).abs() < 1e-5, "{metric:?}: {score} for {textbook}");
            }
            let chunks: Vec<ChunkNumber> = found.iter().map(|hit| hit.0).collect();
            let again = snapshot.similarities(0, &query, &chunks).unwrap();
            assert!(again.iter().zip(&found).all(|(again, (_, score))| again.to_bits() == score.to_bits()));
        }
        assert_eq!(snapshot.nearest(0, &random.vector(dims), usize::MAX, None).unwrap().len(), all.len());
        assert!(snapshot.nearest(0, &random.vector(dims), 0, None).unwrap().is_empty());
        sound(&store);
    }
}

#[test]
fn a_large_scan_on_all_cores_finds_the_same_as_a_small_one() {
    let dims = 128;
    let (store, notes) = in_memory(dims, Metric::Cosine);
    let mut random = Random::new(23);
    let count = 10_000;
    assert!(count as usize * dims > 1 << 20, "large enough for all cores");
    store.write(notes, (0..count).map(|n| put(random_document(&mut random, n, dims))).collect()).unwrap();
    let snapshot = store.snapshot(notes).unwrap();
    let query = random.vector(dims);
    let all: Vec<ChunkNumber> = (0..count as u32).map(ChunkNumber).collect();
    let mut expected: Vec<_> = all.iter().copied().zip(snapshot.similarities(0, &query, &all).unwrap()).collect();
    expected.sort_by(|one, other| other.1.total_cmp(&one.1));
    assert_eq!(snapshot.nearest(0, &query, 50, None).unwrap(), expected[..50]);
    for share in [2, 3, 9, 100, 5000] {
        let allowed: RoaringBitmap = (0..count as u32).filter(|n| n % share == 1).collect();
        let expected: Vec<_> = expected.iter().copied().filter(|hit| allowed.contains(hit.0.0)).take(50).collect();
        assert_eq!(snapshot.nearest(0, &query, 50, Some(&allowed)).unwrap(), expected, "one in {share}");
    }
    assert!(snapshot.nearest(0, &query, 50, Some(&RoaringBitmap::new())).unwrap().is_empty());
    let strangers: RoaringBitmap = (20_000..20_010).collect();
    assert!(snapshot.nearest(0, &query, 50, Some(&strangers)).unwrap().is_empty());
}

#[test]
fn equal_scores_stand_by_document_id_whatever_the_order_of_writing() {
    let ids: Vec<DocumentId> =
        (0..40).map(|n| if n % 3 == 0 { DocumentId::from(n) } else { DocumentId::from(format!("id{n}")) }).collect();
    let mut answers = Vec::new();
    for seed in 0..6 {
        let (store, notes) = in_memory(2, Metric::Cosine);
        let mut random = Random::new(seed);
        let mut order = ids.clone();
        random.shuffle(&mut order);
        for part in order.chunks(1 + seed as usize * 5) {
            let batch = part.iter().map(|id| {
                let level = if *id < ids[10] { 1.0 } else { 0.0 };
                let vectors = [vec![1.0, level], vec![2.0, 2.0 * level]];
                put(document(id.clone(), "same words. same words. ", json!({}), &vectors))
            });
            store.write(notes, batch.collect()).unwrap();
        }
        let snapshot = store.snapshot(notes).unwrap();
        let dense: Vec<_> =
            [1, 7, 30, 60].map(|k| places(&snapshot, &snapshot.nearest(0, &[1.0, 0.0], k, None).unwrap())).into();
        let text: Vec<_> =
            [1, 7, 30, 60].map(|k| places(&snapshot, &snapshot.search_text("words", k, None).unwrap().hits)).into();
        answers.push((dense, text));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    let (dense, text) = &answers[0];
    let order = |hits: &[(DocumentId, u32, f32)]| {
        hits.is_sorted_by_key(|(id, ordinal, score)| (-*score as i32, id.clone(), *ordinal))
    };
    assert!(order(&text[3]) && text[3].len() == 60);
    assert_eq!(dense[2][..7], dense[1][..]);
}

#[test]
fn text_hits_score_every_chunk_and_stay_below_their_maximum() {
    let (store, notes) = in_memory(1, Metric::Dot);
    let mut random = Random::new(31);
    store.write(notes, (0..200).map(|n| put(random_document(&mut random, n, 1))).collect()).unwrap();
    let snapshot = store.snapshot(notes).unwrap();
    let found = snapshot.search_text("word1 word2 word30", 15, None).unwrap();
    assert_eq!(found.hits.len(), 15);
    assert!(found.hits.is_sorted_by(|one, other| one.1 >= other.1));
    for &(chunk, score) in &found.hits {
        assert_eq!(found.score(chunk).to_bits(), score.to_bits());
        assert!(score > 0.0 && score <= found.maximum);
    }
    let silent = (0..200).map(ChunkNumber).find(|&chunk| {
        let text = snapshot.hydrate(chunk).unwrap().text;
        !["word1", "word2", "word30"].iter().any(|word| text.split(' ').any(|other| other == *word))
    });
    assert_eq!(found.score(silent.unwrap()), 0.0);
    let allowed = RoaringBitmap::from([found.hits[3].0.0, found.hits[9].0.0]);
    let restricted = snapshot.search_text("word1 word2 word30", 15, Some(&allowed)).unwrap();
    assert_eq!(restricted.hits, [found.hits[3], found.hits[9]], "a filter changes no score");
}

#[test]
fn frequencies_count_live_chunks() {
    let (store, notes) = in_memory(1, Metric::Dot);
    let one = |id: &str, text: &str| put(document(id, text, json!({}), &[vec![1.0]]));
    store.write(notes, vec![one("a", "cats sleep"), one("b", "a cat"), one("c", "dogs")]).unwrap();
    let before = store.snapshot(notes).unwrap();
    let frequency = |snapshot: &Snapshot, word: &str| snapshot.document_frequency(word).unwrap();
    assert_eq!(frequency(&before, "Cat"), Some(2));
    assert_eq!(frequency(&before, "Cat"), Some(2), "remembered");
    assert_eq!(frequency(&before, "unicorn"), Some(0));
    assert_eq!(frequency(&before, "!?"), None);
    store.write(notes, vec![Operation::Delete("a".into()), one("d", "cat cat cat")]).unwrap();
    let after = store.snapshot(notes).unwrap();
    assert_eq!((frequency(&before, "cat"), frequency(&after, "cat")), (Some(2), Some(2)));
    store.write(notes, vec![Operation::Delete("b".into())]).unwrap();
    assert_eq!(frequency(&store.snapshot(notes).unwrap(), "cats"), Some(1));
}

#[test]
fn filters_choose_documents_and_their_chunks() {
    let (store, notes) = in_memory(1, Metric::Dot);
    let mut batch = Vec::new();
    for n in 0..2_500_i64 {
        let metadata = json!({"n": n, "tags": ["all", if n % 2 == 0 { "even" } else { "odd" }]});
        batch.push(put(document(n, "one. two. ", metadata, &[vec![1.0], vec![n as f32]])));
    }
    store.write(notes, batch).unwrap();
    store.write(notes, vec![Operation::Delete(2_002.into())]).unwrap();
    let snapshot = store.snapshot(notes).unwrap();
    let filter: Filter = "tags CONTAINS 'even' AND n >= 2000 AND n < 2010".parse().unwrap();
    let expected: Vec<DocumentId> = [2000, 2004, 2006, 2008].map(DocumentId::from).into();
    assert_eq!(snapshot.matching_documents(&filter).unwrap(), expected);
    let chunks = snapshot.matching_chunks(&filter).unwrap();
    assert_eq!(chunks.len(), 8);
    let hits = snapshot.nearest(0, &[1.0], 3, Some(&chunks)).unwrap();
    let found: Vec<DocumentId> = places(&snapshot, &hits).into_iter().map(|place| place.0).collect();
    assert_eq!(found, [2008, 2006, 2004].map(DocumentId::from));
    let by_id: Filter = r#"{"$id": {"in": [5, 2002, 7]}}"#.parse().unwrap();
    assert_eq!(snapshot.matching_documents(&by_id).unwrap(), [5, 7].map(DocumentId::from));
    let none: Filter = "n > 99999".parse().unwrap();
    assert!(snapshot.matching_chunks(&none).unwrap().is_empty());
}

#[test]
fn an_empty_collection_answers_with_nothing() {
    let store = Store::in_memory().unwrap();
    let notes = store.create_collection("notes", &settings(2, Metric::Cosine)).unwrap().id;
    let snapshot = store.snapshot(notes).unwrap();
    assert!(snapshot.nearest(0, &[1.0, 0.0], 5, None).unwrap().is_empty());
    let text = snapshot.search_text("anything", 5, None).unwrap();
    assert!(text.hits.is_empty() && text.maximum.is_finite());
    assert_eq!(snapshot.document_frequency("anything").unwrap(), Some(0));
    assert!(snapshot.ids().unwrap().is_empty() && snapshot.scan(None, 5).unwrap().is_empty());
    assert!(snapshot.hydrate(ChunkNumber(0)).is_err() && snapshot.vector(0, ChunkNumber(0)).is_err());
    assert_eq!(snapshot.document(&"a".into()).unwrap(), None);
    sound(&store);
}
