//! What do the tests of this crate share?
//!
//! Seeded numbers and small documents here, disks that lose power in `disk`, disks that refuse in `faults`.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    AnalyzerSettings, CollectionSettings, DocumentId, Metric, NewChunk, NewDocument, Operation, SpaceSettings,
};

mod disk;
mod faults;

pub(crate) use disk::{Disk, Power};
pub(crate) use faults::{Faults, Which};

/// Goes on for `QUIVER_CRASH_SECONDS`, or for so many milliseconds.
pub(crate) struct Budget(Instant, Duration);

impl Budget {
    pub(crate) fn new(usual_ms: u64) -> Self {
        let seconds = std::env::var("QUIVER_CRASH_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
        Self(Instant::now(), seconds.map_or(Duration::from_millis(usual_ms), Duration::from_secs))
    }

    pub(crate) fn is_left(&self) -> bool {
        self.0.elapsed() < self.1
    }

    /// So many a second.
    pub(crate) fn rate(&self, count: u64) -> u64 {
        (count as f64 / self.0.elapsed().as_secs_f64()) as u64
    }
}

/// A folder in memory where there is room for it: what is simulated needs no real disk, and a real one syncs slowly.
pub(crate) fn fast_folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let room = fs4::available_space(memory).is_ok_and(|free| free > 512 << 20);
    let folder = if room { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a temporary folder")
}

/// The seed of a random test: `QUIVER_CRASH_SEED`, or this.
pub(crate) fn seed(usual: u64) -> u64 {
    std::env::var("QUIVER_CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(usual)
}

type PowerCut = Box<dyn FnMut(&'static str)>;

thread_local! {
    static POWER_CUT: RefCell<Option<PowerCut>> = const { RefCell::new(None) };
}

/// Calls `cut` at every moment, in this thread, at which the power may go, while `work` runs.
pub(crate) fn with_power_cuts<T>(cut: impl FnMut(&'static str) + 'static, work: impl FnOnce() -> T) -> T {
    POWER_CUT.with(|place| *place.borrow_mut() = Some(Box::new(cut)));
    let value = work();
    POWER_CUT.with(|place| *place.borrow_mut() = None);
    value
}

/// A moment at which the power may go, and what was done just before, or `disk` where a change of the disk is next.
pub(crate) fn power_may_go(done: &'static str) {
    // It is away while it runs, because it opens databases.
    if let Some(mut cut) = POWER_CUT.with(|place| place.borrow_mut().take()) {
        cut(done);
        POWER_CUT.with(|place| *place.borrow_mut() = Some(cut));
    }
}

/// Numbers from a seed: SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        items.sort_by_cached_key(|_| self.next());
    }

    /// Between -1 and 1.
    pub(crate) fn number(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    pub(crate) fn vector(&mut self, dims: usize) -> Vec<f32> {
        (0..dims).map(|_| self.number()).collect()
    }

    /// Words of a small vocabulary, the first ones more often.
    pub(crate) fn words(&mut self, count: u64) -> String {
        let word = |random: &mut Self| {
            let limit = 1 + random.below(60);
            format!("word{}", random.below(limit))
        };
        (0..count).map(|_| word(self)).collect::<Vec<_>>().join(" ")
    }
}

/// Settings with one space.
pub(crate) fn settings(dims: usize, metric: Metric) -> CollectionSettings {
    CollectionSettings {
        analyzer: AnalyzerSettings::default(),
        spaces: vec![SpaceSettings { name: "default".into(), dims, metric }],
        application: json!({"owner": "test"}),
    }
}

/// A document with one chunk a sentence; sentences end in `. `, and each has its vector.
pub(crate) fn document(id: impl Into<DocumentId>, text: &str, metadata: Value, vectors: &[Vec<f32>]) -> NewDocument {
    let mut chunks = Vec::new();
    let mut start = 0;
    for sentence in text.split_inclusive(". ") {
        let end = start + sentence.len();
        chunks.push(NewChunk { start, end, heading: String::new(), vectors: Vec::new() });
        start = end;
    }
    assert_eq!(chunks.len(), vectors.len(), "one vector a sentence");
    for (chunk, vector) in chunks.iter_mut().zip(vectors) {
        chunk.vectors.push(vector.clone());
    }
    let digest = xxhash_rust::xxh3::xxh3_128(text.as_bytes()).to_le_bytes();
    let metadata = metadata.as_object().cloned().unwrap_or_default();
    NewDocument { id: id.into(), title: None, text: text.to_owned(), metadata, digest, chunks }
}

pub(crate) fn put(document: NewDocument) -> Operation {
    Operation::Put(Box::new(document))
}

/// A document of one chunk with random words and vector.
pub(crate) fn random_document(random: &mut Random, id: impl Into<DocumentId>, dims: usize) -> NewDocument {
    let count = 3 + random.below(8);
    let text = random.words(count);
    let year = 2000 + random.below(30);
    document(id, &text, json!({"year": year}), &[random.vector(dims)])
}
