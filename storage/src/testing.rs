//! What do the tests of this crate share?
//!
//! Seeded numbers and small documents here, disks that lose power in `disk`, disks that refuse in `faults`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
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
#[derive(Clone, Copy)]
pub(crate) struct Budget(Instant, Duration);

impl Budget {
    fn new(usual_ms: u64) -> Self {
        let seconds = std::env::var("QUIVER_CRASH_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
        Self(Instant::now(), seconds.map_or(Duration::from_millis(usual_ms), Duration::from_secs))
    }

    /// Enough for one round.
    pub(crate) fn ample() -> Self {
        Self(Instant::now(), Duration::MAX)
    }

    pub(crate) fn is_left(&self) -> bool {
        self.0.elapsed() < self.1
    }
}

/// A test of many rounds, each from a seed of its own. When it ends it says in one line how it went, and where it failed,
/// which seed to begin with to see that again.
pub(crate) struct Trial {
    name: &'static str,
    pub(crate) budget: Budget,
    first: u64,
    rounds: u64,
    counts: BTreeMap<&'static str, u64>,
}

/// Rounds of all trials of this process, and failures.
static ALL: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

impl Trial {
    /// Seeds from `QUIVER_CRASH_SEED` on, or from this one.
    pub(crate) fn new(name: &'static str, usual_seed: u64, usual_ms: u64) -> Self {
        let first = std::env::var("QUIVER_CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(usual_seed);
        Self { name, budget: Budget::new(usual_ms), first, rounds: 0, counts: BTreeMap::new() }
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The seed of the next round, of which there is one at least; `None` where the time is over.
    pub(crate) fn next(&mut self) -> Option<u64> {
        (self.rounds == 0 || self.budget.is_left()).then(|| {
            self.rounds += 1;
            self.first + self.rounds - 1
        })
    }

    /// Counts something besides the rounds.
    pub(crate) fn count(&mut self, what: &'static str, more: u64) {
        *self.counts.entry(what).or_default() += more;
    }

    pub(crate) fn counted(&self, what: &'static str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let Self { name, budget, first, rounds, counts } = self;
        let failures = u64::from(std::thread::panicking());
        let add = |all: &AtomicU64, more| all.fetch_add(more, Ordering::SeqCst) + more;
        let all = [add(&ALL[0], *rounds), add(&ALL[1], failures)];
        let counts: String = counts.iter().map(|(what, count)| format!(", {count} {what}")).collect();
        let seconds = budget.0.elapsed().as_secs();
        eprintln!(
            "\nreliability: {name}: seed {first}, {rounds} rounds, {failures} failures{counts}, {seconds} s \
             (all so far: {} rounds, {} failures)",
            all[0], all[1]
        );
        if failures > 0 {
            eprintln!("reliability: {name} failed; QUIVER_CRASH_SEED={} begins with that round", *first + *rounds - 1);
        }
    }
}

/// A folder in memory where there is room for it: what is simulated needs no real disk, and a real one syncs slowly.
pub(crate) fn fast_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let room = fs4::available_space(memory).is_ok_and(|free| free > 512 << 20);
    let folder = if room { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a temporary folder")
}

/// The folders below which no file is opened, with the error of the system.
static REFUSED: Mutex<Vec<(PathBuf, i32)>> = Mutex::new(Vec::new());

/// As long as this lives, files of segments below its folder cannot be opened.
pub(crate) struct Refused(PathBuf);

/// Refuses to open what lies below this folder.
pub(crate) fn refuse_to_open(folder: &Path, error: i32) -> Refused {
    REFUSED.lock().unwrap_or_else(PoisonError::into_inner).push((folder.to_owned(), error));
    Refused(folder.to_owned())
}

impl Drop for Refused {
    fn drop(&mut self) {
        REFUSED.lock().unwrap_or_else(PoisonError::into_inner).retain(|(folder, _)| *folder != self.0);
    }
}

/// Whether this file may be opened.
pub(crate) fn may_open(path: &Path) -> io::Result<()> {
    let refused = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
    let error = refused.iter().find(|(folder, _)| path.starts_with(folder)).map(|(_, error)| *error);
    error.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
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

/// A moment at which the power may go, and what was done just before, or `disk` where a change of the file is next.
pub(crate) fn power_may_go(done: &'static str) {
    // It is away while it runs, because it opens databases.
    if let Some(mut cut) = POWER_CUT.with(|place| place.borrow_mut().take()) {
        cut(done);
        POWER_CUT.with(|place| *place.borrow_mut() = Some(cut));
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` without a word about panics that become errors in it: redb panics on damaged pages.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                usual(panic);
            }
        }));
    });
    QUIET.set(true);
    let value = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(false);
    value.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        panic!("a panic came through: {text:?}")
    })
}

thread_local! {
    static SYNCED: RefCell<Vec<(PathBuf, Vec<PathBuf>)>> = const { RefCell::new(Vec::new()) };
}

/// Notes that the names in a folder are on disk.
pub(crate) fn folder_was_synced(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let paths = entries.flatten().map(|entry| entry.path()).collect();
    SYNCED.with(|synced| synced.borrow_mut().push((folder.to_owned(), paths)));
}

/// The folders that this thread synced since it was last asked, each with what was in it then.
pub(crate) fn folders_synced() -> Vec<(PathBuf, Vec<PathBuf>)> {
    SYNCED.with(|synced| std::mem::take(&mut *synced.borrow_mut()))
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
    NewDocument { id: id.into(), title: None, text: text.to_owned(), metadata, digest, expires_at: None, chunks }
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
