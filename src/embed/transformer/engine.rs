//! What runs a model: token ids in, rows of numbers out.
//!
//! An engine knows its weights and nothing of text, prompts, pooling or the order of a batch: the pipeline in
//! [`super::Transformer`] does all of that once for every engine, so a new engine is one folder with one `impl Engine`.

use std::ops::Range;

use crate::Result;
use crate::images::Image;

/// The tokens that go through an encoder together, at most, unless one text alone has more: enough to use a weight often
/// while it is in the cache, few enough for the states to stay there as well.
pub(crate) const PACK_TOKENS_MAX: usize = 512;

/// One text, or a pair of texts, as the model reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sequence {
    /// Token ids, special ones included; below [`Engine::vocabulary`], and no more than the model's positions.
    pub(crate) ids: Vec<u32>,
    /// The type of each token (0 for the first text of a pair, 1 for the second); empty where all are 0.
    pub(crate) types: Vec<u32>,
}

impl Sequence {
    /// A single text.
    pub(crate) fn single(ids: Vec<u32>) -> Self {
        Self { ids, types: Vec::new() }
    }

    /// How many tokens it has.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }
}

/// What an engine gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// A row for each token of each sequence: hidden states, to be pooled.
    Tokens,
    /// A row for each sequence: a finished vector, or logits.
    Sequences,
    /// A row for each sequence: already pooled, for the modules that follow.
    Pooled,
}

/// A loaded model. Many threads may run it at once.
pub(crate) trait Engine: Send + Sync {
    /// What runs it: `candle`, `onnx`.
    fn name(&self) -> &'static str;

    /// The kind of most of its weights: `f32`, `int8`.
    fn precision(&self) -> &'static str {
        "f32"
    }

    /// Where it runs: `cpu`, `cuda:1`.
    fn device(&self) -> &str {
        "cpu"
    }

    /// The tokens that go through together, at most, unless one text alone has more.
    fn pack_tokens(&self) -> usize {
        PACK_TOKENS_MAX
    }

    /// The size of its embedding table: every token id lies below.
    fn vocabulary(&self) -> usize;

    /// What a row stands for.
    fn output(&self) -> Output;

    /// Numbers in a row.
    fn width(&self) -> usize;

    /// Whether running texts of several callers together is faster than side by side: on a device, and not on a CPU, whose
    /// cores several callers keep busy by themselves (the figures are in [`crate::embed::batcher`]).
    fn gains_by_batches(&self) -> bool {
        self.device() != "cpu"
    }

    /// The bytes that its weights take in memory by its own account, where it has another than that of f32.
    fn memory_bytes(&self) -> Option<u64> {
        None
    }

    /// Runs sequences, at least one and none of them empty, together on the calling thread: `[rows, width]`, the rows of
    /// the first sequence first. A sequence's rows do not depend on the others.
    ///
    /// # Errors
    /// [`crate::Error::Embedding`] where the model fails.
    fn run(&self, pack: &[&Sequence]) -> Result<Vec<f32>>;

    /// How many tokens a picture takes; `None` where the model reads none.
    fn image_tokens(&self) -> Option<usize> {
        None
    }

    /// Runs pictures together on the calling thread: `[images, width]`, as [`Output::Pooled`]. A picture's row does not
    /// depend on the others.
    ///
    /// # Errors
    /// [`crate::Error::InvalidInput`] where the model reads none.
    fn run_images(&self, images: &[Image]) -> Result<Vec<f32>> {
        let _ = images;
        Err(crate::Error::invalid("the model reads no images"))
    }
}

/// The rows that each sequence of a pack takes in [`Output::Tokens`].
pub(crate) fn ranges(pack: &[&Sequence]) -> Vec<Range<usize>> {
    let mut start = 0;
    let next = |sequence: &&Sequence| {
        let range = start..start + sequence.len();
        start = range.end;
        range
    };
    pack.iter().map(next).collect()
}

/// How many tokens sequences have together.
pub(crate) fn tokens_of(sequences: &[Sequence]) -> u64 {
    sequences.iter().map(Sequence::len).sum::<usize>() as u64
}
