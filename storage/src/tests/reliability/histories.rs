//! Does any history of anything leave and answer what a map and arithmetic say?
//!
//! Documents are added, replaced and deleted, sealed, merged, compacted and reopened by chance, in collections of several
//! spaces of all metrics. After each step everything is compared with a map of the documents: what is stored, the exact
//! scan with double precision, walks with the exact scan, filters with their meaning, text to the bit with a database in
//! memory that is never sealed, and what hybrid search joins, which are scores of one leg for the hits of the other.

use roaring::RoaringBitmap;
use serde_json::json;

use super::super::model::{Model, stored_agrees};
use super::super::sound;
use crate::seal::{merge, seal};
use crate::testing::{Random, Trial, document, fast_folder, put};
use crate::{
    AnalyzerSettings, ChunkNumber, CollectionId, CollectionSettings, DocumentId, Effort, Filter, Metric, NewDocument,
    Operation, Snapshot, SpaceSettings, Store, TextQuery,
};

const STEPS: usize = 12;
const IDS: u64 = 30;

/// Dimensions and metric of each space.
type Shape = &'static [(usize, Metric)];

const SHAPES: [Shape; 7] = [
    &[(2, Metric::Cosine), (3, Metric::L2)],
    &[(7, Metric::Dot)],
    &[(3, Metric::Dot), (384, Metric::Cosine)],
    &[(4096, Metric::L2)],
    &[(384, Metric::L2), (7, Metric::Cosine), (2, Metric::Dot)],
    &[(4096, Metric::Cosine), (3, Metric::Dot)],
    &[(1, Metric::L2), (65, Metric::Dot), (3, Metric::Cosine)],
];

/// A chunk of a document.
type Passage = (DocumentId, u32);

struct World {
    folder: tempfile::TempDir,
    store: Option<Store>,
    notes: CollectionId,
    /// The same in memory, never sealed.
    twin: Store,
    twin_notes: CollectionId,
    model: Model,
    shape: Shape,
    random: Random,
}

fn settings_of(shape: Shape) -> CollectionSettings {
    let space = |(index, &(dims, metric))| SpaceSettings { name: format!("space{index}"), dims, metric };
    let spaces = shape.iter().enumerate().map(space).collect();
    CollectionSettings { analyzer: AnalyzerSettings::default(), spaces, application: json!({}) }
}

/// Of few distinct numbers, so that scores tie, or of many.
fn vector(random: &mut Random, dims: usize, few: bool) -> Vec<f32> {
    let mut vector: Vec<f32> =
        (0..dims).map(|_| if few { random.below(3) as f32 - 1.0 } else { random.number() }).collect();
    if vector.iter().all(|number| *number == 0.0) {
        vector[0] = 1.0;
    }
    vector
}

fn id_of(number: u64) -> DocumentId {
    if number.is_multiple_of(3) { format!("id{number}").into() } else { (number as i64).into() }
}

impl World {
    fn new(seed: u64) -> Self {
        let shape = SHAPES[seed as usize % SHAPES.len()];
        let folder = fast_folder();
        let (store, twin) = (Store::open(folder.path()).unwrap(), Store::in_memory().unwrap());
        let make = |store: &Store| store.create_collection("notes", &settings_of(shape)).unwrap().id;
        let (notes, twin_notes) = (make(&store), make(&twin));
        let (model, random) = (Model::new(), Random::new(seed));
        Self { folder, store: Some(store), notes, twin, twin_notes, model, shape, random }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// A document of 0 to 3 chunks.
    fn document(&mut self) -> NewDocument {
        let random = &mut self.random;
        let id = id_of(random.below(IDS));
        let count = random.below(4);
        let few = random.below(2) == 0;
        let text: String = (0..count)
            .map(|_| {
                let words = 1 + random.below(4);
                format!("{}. ", random.words(words))
            })
            .collect();
        let kind = ["a", "b", "c"][random.below(3) as usize];
        let mut metadata = json!({"year": 2000 + random.below(8), "kind": kind});
        if random.below(3) == 0 {
            metadata["tag"] = json!(["x", "y"]);
        }
        let first = (0..count).map(|_| vector(random, self.shape[0].0, few)).collect::<Vec<_>>();
        let mut made = document(id, &text, metadata, &first);
        for chunk in &mut made.chunks {
            chunk.vectors.extend(self.shape[1..].iter().map(|space| vector(random, space.0, few)));
        }
        made.title = (random.below(4) == 0).then(|| format!("word{}", random.below(9)));
        made
    }

    fn write(&mut self) {
        let mut batch = Vec::new();
        for _ in 0..1 + self.random.below(10) {
            if self.random.below(4) == 0 {
                let id = id_of(self.random.below(IDS));
                self.model.remove(&id);
                batch.push(Operation::Delete(id));
            } else {
                let document = self.document();
                self.model.insert(document.id.clone(), document.clone());
                batch.push(put(document));
            }
        }
        self.twin.write(self.twin_notes, batch.clone()).unwrap();
        self.store().write(self.notes, batch).unwrap();
    }

    /// One step; says which.
    fn step(&mut self) -> &'static str {
        let (chosen, size) = (self.random.below(16), 1 + self.random.below(20));
        match chosen {
            0..8 => self.write(),
            8..11 => drop(seal(&self.store().0, self.notes, size).unwrap()),
            11 | 12 => merge(&self.store().0, self.notes).unwrap(),
            13 => drop(self.store().compact().unwrap()),
            _ => {
                self.store = None;
                self.store = Some(Store::open(self.folder.path()).unwrap());
            }
        }
        ["write", "seal", "merge", "compact", "reopen"]
            [[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 4][chosen as usize]]
    }

    fn look(&mut self) {
        let snapshot = self.store().snapshot(self.notes).unwrap();
        let twin = self.twin.snapshot(self.twin_notes).unwrap();
        stored_agrees(&snapshot, &self.model);
        for space in 0..self.shape.len() {
            let few = self.random.below(2) == 0;
            let query = vector(&mut self.random, self.shape[space].0, few);
            let all = exact_agrees(&snapshot, &self.model, space, self.shape[space].1, &query);
            walk_agrees(&snapshot, space, &query, &all, None);
            for (filter, holds) in FILTERS {
                let allowed = filter_agrees(&snapshot, &self.model, filter, holds);
                walk_agrees(&snapshot, space, &query, &all, Some(&allowed));
            }
            hybrid_agrees(&snapshot, space, &query, &all);
        }
        text_agrees(&snapshot, &twin);
    }
}

fn passage(snapshot: &Snapshot, chunk: ChunkNumber) -> Passage {
    let chunk = snapshot.hydrate(chunk).unwrap();
    (chunk.document, chunk.ordinal)
}

/// The score by the definition, in double precision, and what its rounding is relative to.
fn textbook(metric: Metric, one: &[f32], other: &[f32]) -> (f64, f64) {
    let pairs = || one.iter().zip(other).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let length = |v: &[f32]| v.iter().map(|a| f64::from(*a) * f64::from(*a)).sum::<f64>().sqrt();
    let dot: f64 = pairs().map(|(a, b)| a * b).sum();
    match metric {
        Metric::Cosine => (dot / length(one) / length(other), 1.0),
        Metric::Dot => (dot, pairs().map(|(a, b)| (a * b).abs()).sum::<f64>().max(1e-30)),
        Metric::L2 => {
            let distance = pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
            (-distance, distance.max(1e-30))
        }
    }
}

/// The exact scan finds every chunk with its score, in order; fewer are the first of them. Returns what it finds.
fn exact_agrees(
    snapshot: &Snapshot,
    model: &Model,
    space: usize,
    metric: Metric,
    query: &[f32],
) -> Vec<(ChunkNumber, f32)> {
    let all = snapshot.nearest(space, query, usize::MAX, None).unwrap();
    let found: Vec<(Passage, f32)> = all.iter().map(|(chunk, score)| (passage(snapshot, *chunk), *score)).collect();
    let passages: std::collections::BTreeSet<&Passage> = found.iter().map(|(passage, _)| passage).collect();
    assert_eq!((passages.len(), all.len() as u64), (found.len(), snapshot.chunks()));
    for ((id, ordinal), score) in &found {
        let (expected, size) = textbook(metric, query, &model[id].chunks[*ordinal as usize].vectors[space]);
        assert!((f64::from(*score) - expected).abs() <= 1e-5 * size, "{metric:?}: {score}, not {expected}");
    }
    assert!(found.is_sorted_by(|one, other| other.1.total_cmp(&one.1).then_with(|| one.0.cmp(&other.0)).is_le()));
    for k in [1, 3, 10] {
        assert_eq!(snapshot.nearest(space, query, k, None).unwrap(), all[..k.min(all.len())]);
    }
    all
}

/// A walk finds as many as there are, with their exact scores, in order; an exact search finds the best of them.
fn walk_agrees(
    snapshot: &Snapshot,
    space: usize,
    query: &[f32],
    all: &[(ChunkNumber, f32)],
    allowed: Option<&RoaringBitmap>,
) {
    let may = |hit: &&(ChunkNumber, f32)| allowed.is_none_or(|allowed| allowed.contains(hit.0.0));
    let matching: Vec<(ChunkNumber, f32)> = all.iter().filter(may).copied().collect();
    for k in [1, 4, usize::MAX] {
        let walked = snapshot.nearest_with(space, query, k, allowed, Effort::Usual).unwrap().hits;
        assert_eq!(walked.len(), k.min(matching.len()));
        let places: Vec<Option<usize>> =
            walked.iter().map(|hit| matching.iter().position(|other| other == hit)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted_by(|one, other| one < other), "{places:?}");
        let exact = snapshot.nearest_with(space, query, k, allowed, Effort::Exact).unwrap().hits;
        assert_eq!(exact, matching[..k.min(matching.len())]);
    }
}

type Meaning = fn(&NewDocument) -> bool;

/// Filters, and what they mean.
const FILTERS: [(&str, Meaning); 4] = [
    ("year > 2003", |document| document.metadata["year"].as_u64() > Some(2003)),
    ("kind IN ('a', 'c') AND NOT year = 2005", |document| {
        document.metadata["kind"] != "b" && document.metadata["year"] != 2005
    }),
    ("EXISTS tag OR kind = 'b'", |document| document.metadata.contains_key("tag") || document.metadata["kind"] == "b"),
    ("year > 2100", |_| false),
];

fn filter_agrees(snapshot: &Snapshot, model: &Model, filter: &str, holds: Meaning) -> RoaringBitmap {
    let parsed: Filter = filter.parse().unwrap();
    let expected: Vec<&NewDocument> = model.values().filter(|document| holds(document)).collect();
    let ids: Vec<DocumentId> = expected.iter().map(|document| document.id.clone()).collect();
    assert_eq!(snapshot.matching_documents(&parsed).unwrap(), ids, "{filter}");
    let chunks = snapshot.matching_chunks(&parsed).unwrap();
    let mut found: Vec<Passage> = chunks.iter().map(|chunk| passage(snapshot, ChunkNumber(chunk))).collect();
    found.sort();
    let passages =
        |document: &&NewDocument| (0..document.chunks.len() as u32).map(|n| (document.id.clone(), n)).collect();
    assert_eq!(found, expected.iter().flat_map(passages as fn(&&NewDocument) -> Vec<Passage>).collect::<Vec<_>>());
    chunks
}

/// The scores of either leg for what the other one found are those that it gives itself.
fn hybrid_agrees(snapshot: &Snapshot, space: usize, query: &[f32], all: &[(ChunkNumber, f32)]) {
    let text = snapshot.search_text("word0 word3", usize::MAX, None).unwrap();
    let chunks: Vec<ChunkNumber> = text.hits.iter().map(|hit| hit.0).collect();
    for (chunk, score) in chunks.iter().zip(snapshot.similarities(space, query, &chunks).unwrap()) {
        assert!(all.iter().any(|hit| hit.0 == *chunk && hit.1.to_bits() == score.to_bits()));
    }
    for (chunk, _) in all {
        let listed = text.hits.iter().find(|hit| hit.0 == *chunk).map_or(0.0, |hit| hit.1);
        assert_eq!(text.score(*chunk).to_bits(), listed.to_bits());
    }
}

fn text_agrees(snapshot: &Snapshot, twin: &Snapshot) {
    let told = |snapshot: &Snapshot, hits: Vec<(ChunkNumber, f32)>| -> Vec<(Passage, u32)> {
        hits.into_iter().map(|(chunk, score)| (passage(snapshot, chunk), score.to_bits())).collect()
    };
    for query in ["word0", "word1 word2 word3", "word59 unheard"] {
        let found = [snapshot, twin].map(|one| told(one, one.search_text(query, usize::MAX, None).unwrap().hits));
        assert_eq!(found[0], found[1], "{query}");
        assert_eq!(snapshot.document_frequency(query).unwrap(), twin.document_frequency(query).unwrap(), "{query}");
    }
    for query in ["+word1 word2", "word1* -word2", "\"word0 word1\"~2 OR word4", "(word3 AND word0) OR wird5~"] {
        let query = TextQuery::parse(query).unwrap();
        let found = [snapshot, twin].map(|one| told(one, one.search_text_query(&query, 50, None).unwrap().hits));
        assert_eq!(found[0], found[1], "{query:?}");
    }
}

fn run(seed: u64, trial: &mut Trial) {
    let mut world = World::new(seed);
    for step in 0..STEPS {
        let taken = world.step();
        trial.count(taken, 1);
        let look = std::panic::AssertUnwindSafe(|| world.look());
        if let Err(panic) = std::panic::catch_unwind(look) {
            eprintln!("seed {seed}, step {step}, after {taken}, {:?}", SHAPES[seed as usize % SHAPES.len()]);
            std::panic::resume_unwind(panic);
        }
    }
    sound(world.store());
}

#[test]
fn any_history_leaves_and_answers_what_a_map_and_arithmetic_say() {
    let mut trial = Trial::new("random histories", 139, 2_000);
    while let Some(seed) = trial.next() {
        run(seed, &mut trial);
    }
}
