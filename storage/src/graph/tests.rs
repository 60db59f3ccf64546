//! Is what is found right, whatever is asked, however it was built, and whatever became of the bytes?

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

use roaring::RoaringBitmap;

use super::layout::{HEADER_BYTES, NO_NODE};
use super::*;
use crate::Error;
use crate::bytes::InMemory;
use crate::testing::Random;
use crate::types::Strategy;

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];
static GOING: AtomicBool = AtomicBool::new(false);
/// Small enough for tests: walks and not exact scans answer.
const RECIPE: Recipe = Recipe { degree: 16, upper_degree: 8, ef: 40 };

/// Vectors around a few centres, always the same, as embeddings are.
fn clustered(random: &mut Random, dims: usize, count: usize) -> Vec<f32> {
    let centres = Random::new(99).vector(dims * 20);
    let mut vectors = Vec::with_capacity(dims * count);
    for _ in 0..count {
        let centre = &centres[random.below(20) as usize * dims..][..dims];
        vectors.extend(centre.iter().map(|number| number + 0.6 * random.number()));
    }
    vectors
}

/// Vectors with their chunks, and the file of their graph.
struct Sample {
    metric: Metric,
    chunks: Vec<u32>,
    rows: Vec<f32>,
    bytes: Vec<u8>,
}

impl Sample {
    /// Chunks are the even numbers from 10 on.
    fn new(metric: Metric, dims: usize, vectors: &[f32], recipe: Recipe) -> Self {
        let chunks: Vec<u32> = (0..(vectors.len() / dims) as u32).map(|row| 10 + 2 * row).collect();
        let mut rows = Vec::new();
        vectors.chunks(dims).for_each(|vector| metric.prepare(vector.iter().copied(), &mut rows));
        let bytes = written(Points { metric, dims, chunks: &chunks, rows: &InMemory { dims, rows: &rows } }, recipe);
        Self { metric, chunks, rows, bytes }
    }

    fn graph(&self) -> Graph<Vec<u8>> {
        Graph::open(self.bytes.clone()).unwrap()
    }

    fn prepared(&self, query: &[f32]) -> Vec<f32> {
        let mut prepared = Vec::new();
        self.metric.prepare(query.iter().copied(), &mut prepared);
        prepared
    }

    /// What the exact scan finds.
    fn nearest(&self, question: &Question<'_>) -> Vec<(u32, f32)> {
        let mut scores = vec![0.0; self.chunks.len()];
        self.metric.scores(Kernel::best(), question.query, &self.rows, &mut scores);
        let may_answer =
            |chunk| question.allowed.is_none_or(|allowed| allowed.contains(chunk)) && !question.dead.contains(chunk);
        let mut hits: Vec<(u32, f32)> =
            self.chunks.iter().copied().zip(scores).filter(|&(chunk, _)| may_answer(chunk)).collect();
        hits.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        hits.truncate(question.k);
        hits
    }
}

fn written(points: Points<'_>, recipe: Recipe) -> Vec<u8> {
    let mut bytes = Vec::new();
    build(points, recipe, &GOING).unwrap().unwrap().write_front(&mut bytes).unwrap();
    let Points { metric, dims, chunks, rows } = points;
    assert_eq!(bytes.len(), vectors_start(metric, dims, chunks.len(), recipe).unwrap());
    let mut vectors = Vec::new();
    rows.read(0..chunks.len(), &mut vectors).unwrap();
    bytes.extend(vectors.iter().flat_map(|number| number.to_le_bytes()));
    bytes
}

/// The share of the true hits that are found; checks what must hold for every answer.
fn recall(sample: &Sample, question: &Question<'_>, found: &Found) -> f64 {
    let expected = sample.nearest(question);
    assert_eq!(found.hits.len(), expected.len(), "{:?}", found.strategy);
    let all = sample.nearest(&Question { k: usize::MAX, ..*question });
    for hit in &found.hits {
        let same = all.iter().find(|other| other.0 == hit.0).unwrap();
        assert_eq!(same.1.to_bits(), hit.1.to_bits(), "the score is that of the exact scan");
    }
    assert!(found.hits.is_sorted_by(|one, other| one.1 > other.1 || (one.1 == other.1 && one.0 < other.0)));
    let expected: HashSet<u32> = expected.iter().map(|hit| hit.0).collect();
    let hits = found.hits.iter().filter(|hit| expected.contains(&hit.0)).count();
    if expected.is_empty() { 1.0 } else { hits as f64 / expected.len() as f64 }
}

#[test]
fn walks_find_what_the_exact_scan_finds() {
    let mut random = Random::new(1);
    let none = RoaringBitmap::new();
    for metric in METRICS {
        let dims = 24;
        let sample = Sample::new(metric, dims, &clustered(&mut random, dims, 3000), RECIPE);
        let (graph, mut scratch) = (sample.graph(), Scratch::default());
        let mut total = 0.0;
        for _ in 0..40 {
            let query = sample.prepared(&clustered(&mut random, dims, 1));
            let question = Question { query: &query, k: 10, ef: 56, allowed: None, dead: &none };
            let found = graph.search(&question, &mut scratch).unwrap();
            assert_eq!(found.strategy, Strategy::Plain);
            assert!(found.compared < 2500);
            total += recall(&sample, &question, &found) / 40.0;
        }
        assert!(total >= 0.97, "{metric:?}: recall {total}");
    }
}

#[test]
fn filters_and_dead_chunks_never_make_an_answer_shorter_or_wrong() {
    let mut random = Random::new(2);
    let dims = 16;
    let sample = Sample::new(Metric::Cosine, dims, &clustered(&mut random, dims, 8000), RECIPE);
    let (graph, mut scratch) = (sample.graph(), Scratch::default());
    let dead: RoaringBitmap = (0..16_100).filter(|_| random.below(10) == 0).collect();
    let mut strategies = HashSet::new();
    for mille in [700, 500, 300, 140, 100, 10, 1, 0] {
        let allowed: RoaringBitmap = (0..16_100).step_by(2).filter(|_| random.below(1000) < mille).collect();
        let mut total = 0.0;
        for _ in 0..20 {
            let query = sample.prepared(&clustered(&mut random, dims, 1));
            let question = Question { query: &query, k: 5, ef: 10, allowed: Some(&allowed), dead: &dead };
            let found = graph.search(&question, &mut scratch).unwrap();
            strategies.insert(format!("{:?}", found.strategy));
            total += recall(&sample, &question, &found) / 20.0;
        }
        assert!(total >= 0.85, "{mille} in a thousand: recall {total}");
    }
    assert_eq!(strategies.len(), 3, "{strategies:?}");
}

#[test]
fn a_walk_that_finds_too_few_is_followed_by_the_exact_way() {
    let mut random = Random::new(3);
    let dims = 8;
    let sample = Sample::new(Metric::L2, dims, &clustered(&mut random, dims, 3000), RECIPE);
    // What matches is as far from the query as can be.
    let none = RoaringBitmap::new();
    let query = vec![5.0; dims];
    let question = Question { query: &query, k: 3000, ef: 1, allowed: None, dead: &none };
    let far: RoaringBitmap = sample.nearest(&question)[1700..].iter().map(|hit| hit.0).collect();
    let question = Question { k: 10, allowed: Some(&far), ..question };
    let found = sample.graph().search(&question, &mut Scratch::default()).unwrap();
    recall(&sample, &question, &found);
}

#[test]
fn the_same_vectors_give_the_same_bytes_on_any_number_of_threads() {
    let mut random = Random::new(4);
    let rows = clustered(&mut random, 12, 1500);
    let chunks: Vec<u32> = (0..1500).collect();
    let points = Points { metric: Metric::L2, dims: 12, chunks: &chunks, rows: &InMemory { dims: 12, rows: &rows } };
    let files = [1, 2, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| written(points, RECIPE))
    });
    assert!(files[0] == files[1] && files[0] == files[2]);
}

#[test]
fn a_cancelled_build_gives_nothing() {
    let rows = Random::new(5).vector(4 * 1000);
    let chunks: Vec<u32> = (0..1000).collect();
    let points = Points { metric: Metric::Dot, dims: 4, chunks: &chunks, rows: &InMemory { dims: 4, rows: &rows } };
    assert!(build(points, RECIPE, &AtomicBool::new(true)).unwrap().is_none());
}

/// The nodes that can be reached from the entry at the base.
fn reachable(graph: &Graph<Vec<u8>>) -> usize {
    let mut reached = HashSet::from([graph.header.entry]);
    let mut queue = vec![graph.header.entry];
    while let Some(node) = queue.pop() {
        let row = graph.links(node).unwrap().as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes));
        queue.extend(row.filter(|&next| next != NO_NODE && reached.insert(next)));
    }
    reached.len()
}

#[test]
fn every_node_is_reachable_even_among_duplicates() {
    let mut random = Random::new(6);
    let dims = 6;
    for (distinct, count) in [(1, 700), (3, 700), (40, 1200), (1200, 1200)] {
        let kinds = random.vector(dims * distinct);
        let vectors: Vec<f32> =
            (0..count).flat_map(|_| kinds[random.below(distinct as u64) as usize * dims..][..dims].to_vec()).collect();
        for metric in METRICS {
            let recipe = Recipe { degree: 8, upper_degree: 4, ef: 20 };
            let sample = Sample::new(metric, dims, &vectors, recipe);
            let graph = sample.graph();
            assert_eq!(reachable(&graph), count, "{metric:?}, {distinct} distinct");
            let (query, none) = (sample.prepared(&vectors[..dims]), RoaringBitmap::new());
            let question = Question { query: &query, k: 12, ef: 12, allowed: None, dead: &none };
            let found = graph.search(&question, &mut Scratch::default()).unwrap();
            // The nearest is a copy of the query; the largest dot product may be far from it.
            if metric != Metric::Dot {
                assert_eq!(found.hits[0].1.to_bits(), sample.nearest(&question)[0].1.to_bits());
            }
        }
    }
}

#[test]
fn a_crowd_of_copies_does_not_hide_the_others() {
    let mut random = Random::new(11);
    let (dims, none) = (16, RoaringBitmap::new());
    let boilerplate = random.vector(dims);
    let mut vectors = clustered(&mut random, dims, 300);
    (0..3000).for_each(|_| vectors.extend(&boilerplate));
    for metric in METRICS {
        let sample = Sample::new(metric, dims, &vectors, RECIPE);
        let graph = sample.graph();
        for _ in 0..40 {
            let query = sample.prepared(&clustered(&mut random, dims, 1));
            let question = Question { query: &query, k: 3, ef: 48, allowed: None, dead: &none };
            let found = graph.search(&question, &mut Scratch::default()).unwrap();
            let expected = sample.nearest(&question);
            assert_eq!(found.hits[0].1.to_bits(), expected[0].1.to_bits(), "{metric:?}, {:?}", found.strategy);
        }
    }
}

#[test]
fn few_vectors_of_any_length_are_found() {
    let mut random = Random::new(7);
    let none = RoaringBitmap::new();
    for dims in [1, 2, 3, 63, 64, 65, 1000, 4096] {
        for count in [0, 1, 2, 5, 40] {
            for metric in METRICS {
                let sample = Sample::new(metric, dims, &random.vector(dims * count), Recipe::default());
                let (graph, query) = (sample.graph(), sample.prepared(&random.vector(dims)));
                for k in [0, 1, 3, 100] {
                    let question = Question { query: &query, k, ef: 10, allowed: None, dead: &none };
                    let mut found = graph.search(&question, &mut Scratch::default()).unwrap();
                    // In one dimension all lengths are equal to the cosine, and what ties with the last comes along.
                    found.hits.truncate(k);
                    assert_eq!(found.hits, sample.nearest(&question), "{metric:?}, {count} of {dims} dimensions");
                }
                for (place, &chunk) in sample.chunks.iter().enumerate() {
                    assert_eq!(graph.vector(chunk).unwrap().unwrap(), sample.rows[place * dims..][..dims]);
                    assert_eq!(graph.score(chunk + 1, &query).unwrap(), None);
                }
                assert_eq!(graph.vector(0).unwrap(), None);
            }
        }
    }
}

#[test]
fn extreme_lengths_and_outliers_are_ranked() {
    let mut random = Random::new(8);
    let (dims, none) = (20, RoaringBitmap::new());
    for (metric, size) in [(Metric::L2, 1e17), (Metric::L2, 1e-15), (Metric::Dot, 1e17), (Metric::Dot, 1e-18)] {
        let mut vectors = clustered(&mut random, dims, 2000);
        vectors.iter_mut().for_each(|number| *number = *number * size + size);
        // One dimension is far larger than the others, and one vector than all others.
        vectors.iter_mut().step_by(dims).for_each(|number| *number *= 20.0);
        vectors[..dims].iter_mut().for_each(|number| *number *= 10.0);
        let sample = Sample::new(metric, dims, &vectors, RECIPE);
        let (graph, mut scratch, mut total) = (sample.graph(), Scratch::default(), 0.0);
        for row in 100..130 {
            let query = &vectors[row * dims..][..dims];
            let question = Question { query, k: 10, ef: 48, allowed: None, dead: &none };
            let found = graph.search(&question, &mut scratch).unwrap();
            total += recall(&sample, &question, &found) / 30.0;
        }
        assert!(total >= 0.9, "{metric:?} of {size:e}: recall {total}");
    }
}

#[test]
fn damaged_bytes_are_an_error_or_an_answer_and_never_a_panic() {
    let mut random = Random::new(9);
    let dims = 5;
    let sample = Sample::new(Metric::Dot, dims, &clustered(&mut random, dims, 600), RECIPE);
    let (none, query) = (RoaringBitmap::new(), random.vector(dims));
    let allowed: RoaringBitmap = (0..1300).filter(|number| number % 6 == 0).collect();
    let ask = |bytes: Vec<u8>| -> Result<()> {
        let graph = Graph::open(bytes)?;
        for (allowed, ef) in [(None, 1), (Some(&allowed), 1), (None, 600)] {
            let question = Question { query: &query, k: 1, ef, allowed, dead: &none };
            let found = graph.search(&question, &mut Scratch::default())?;
            assert!(found.hits.len() <= 1);
        }
        graph.score(40, &query).map(drop)
    };
    ask(sample.bytes.clone()).unwrap();
    let mut errors = 0;
    for round in 0..3000 {
        let mut bytes = sample.bytes.clone();
        let limit = if round % 3 == 0 { HEADER_BYTES } else { bytes.len() } as u64;
        for _ in 0..1 + round % 40 {
            bytes[random.below(limit) as usize] = random.next() as u8;
        }
        errors += usize::from(ask(bytes).is_err());
    }
    assert!(errors > 1000, "{errors} of 3000 were noticed");
    for length in (0..sample.bytes.len()).step_by(97).chain(0..HEADER_BYTES) {
        assert!(matches!(ask(sample.bytes[..length].to_vec()), Err(Error::Corrupt { .. })), "cut to {length}");
    }
}
