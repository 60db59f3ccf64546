//! What do the benchmarks read? Passages put together from the example chapters, the same ones every time.
//!
//! Real sentences, because made-up words would fall into more tokens than English does.

use std::fs;
use std::path::Path;

/// Words of a passage.
pub(crate) const PASSAGE_WORDS: usize = 100;
/// Consecutive words taken from one place.
const WINDOW_WORDS: usize = 20;

/// Draws passages from the words of `examples/rust-book`.
pub(crate) struct Sampler {
    words: Vec<String>,
    state: u64,
}

impl Sampler {
    /// The sampler of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/rust-book");
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        let texts = files.iter().map(|file| fs::read_to_string(file).unwrap_or_else(|error| panic!("{error}")));
        let words = texts.flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
        Self { words, state: seed }
    }

    /// A passage of [`PASSAGE_WORDS`] words.
    pub(crate) fn passage(&mut self) -> String {
        let windows: Vec<String> = (0..PASSAGE_WORDS / WINDOW_WORDS).map(|_| self.words(WINDOW_WORDS)).collect();
        windows.join(" ")
    }

    /// Consecutive words of one place.
    pub(crate) fn words(&mut self, count: usize) -> String {
        let start = self.next() as usize % (self.words.len() - count);
        self.words[start..start + count].join(" ")
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The processors that a measurement was made with.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
