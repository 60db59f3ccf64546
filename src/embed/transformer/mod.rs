//! How does a sentence-transformers directory become vectors?
//!
//! Tokenise, sort by length, pack without padding, run the engine pack by pack (one core each), pool, normalise. Texts
//! keep their order. What the numbers between ids and states are computed with is an [`engine::Engine`].

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use self::engine::{Engine, Output, Sequence, ranges};
use self::pooling::{normalise, pool};
use self::tokens::{Encoded, Tokens};
use super::builtin::Teacher;
use super::spec::{ModelDirectory, Pooling};
use super::{Embedder, Embeddings, ModelSpec, WordStatistics};
use crate::{Error, Result};

pub(crate) mod engine;
mod pooling;
pub(crate) mod tokens;

/// The tokens that go through the encoder together, at most, unless one text alone has more: enough to use a weight often
/// while it is in the cache, few enough for the states to stay there as well.
const PACK_TOKENS_MAX: usize = 512;

/// A sentence-transformers model.
pub struct Transformer {
    directory: ModelDirectory,
    spec: ModelSpec,
    tokens: Tokens,
    engine: Box<dyn Engine>,
}

impl Transformer {
    /// Opens a local sentence-transformers directory: reads all of the weights (0.2 s for 90 MB), runs nothing.
    ///
    /// # Errors
    /// [`Error::Model`] where a file is missing or damaged, does not fit the others, or asks for what is not supported;
    /// [`Error::Io`] where one cannot be read.
    pub fn open(directory: &Path) -> Result<Self> {
        let directory = ModelDirectory::read(directory)?;
        let engine = load(&directory)?;
        let tokens = Tokens::load(&directory, engine.vocabulary())?;
        let mut spec = directory.spec()?;
        spec.backend = engine.name().into();
        spec.special_tokens = tokens.special();
        Ok(Self { directory, spec, tokens, engine })
    }

    /// What was read from which file.
    pub fn directory(&self) -> &ModelDirectory {
        &self.directory
    }

    fn embed(&self, prompt: &str, texts: &[&str]) -> Result<Embeddings> {
        let encoded = texts.par_iter().map(|text| self.encode(prompt, text)).collect::<Result<Vec<Encoded>>>()?;
        let truncated = encoded.iter().filter(|encoded| encoded.truncated).count();
        let sequences: Vec<Sequence> = encoded.into_iter().map(|encoded| Sequence::single(encoded.ids)).collect();
        let values = self.run(&sequences, self.directory.pooling.value, self.directory.normalize.value)?;
        Ok(Embeddings { dims: self.spec.dims, values, truncated })
    }

    fn encode(&self, prompt: &str, text: &str) -> Result<Encoded> {
        if prompt.is_empty() { self.tokens.encode(text) } else { self.tokens.encode(&format!("{prompt}{text}")) }
    }

    /// One vector for each sequence, in their order.
    fn run(&self, sequences: &[Sequence], pooling: Pooling, unit: bool) -> Result<Vec<f32>> {
        let vectors = run_packed(sequences, |pack| {
            let rows = self.engine.run(pack)?;
            let mut vectors = match self.engine.output() {
                Output::Tokens => self.pool(pack, &rows, pooling),
                Output::Sequences => rows,
            };
            if unit {
                vectors.chunks_exact_mut(self.spec.dims).for_each(normalise);
            }
            Ok(vectors)
        })?;
        Ok(vectors)
    }

    fn pool(&self, pack: &[&Sequence], states: &[f32], pooling: Pooling) -> Vec<f32> {
        let width = self.engine.width();
        let mut vectors = Vec::with_capacity(pack.len() * width);
        for rows in ranges(pack) {
            pool(&states[rows.start * width..rows.end * width], width, pooling, &mut vectors);
        }
        vectors
    }
}

/// Loads the engine that runs this directory.
#[cfg(feature = "candle")]
fn load(directory: &ModelDirectory) -> Result<Box<dyn Engine>> {
    super::candle::load(directory)
}

#[cfg(not(feature = "candle"))]
fn load(directory: &ModelDirectory) -> Result<Box<dyn Engine>> {
    Err(Error::FeatureMissing { what: format!("the transformer model in {}", directory.name()), feature: "candle" })
}

/// Loads the engine that judges with this directory: an encoder with a head for classification.
#[cfg(feature = "candle")]
pub(crate) fn load_classifier(directory: &ModelDirectory) -> Result<Box<dyn Engine>> {
    super::candle::load_classifier(directory)
}

#[cfg(not(feature = "candle"))]
pub(crate) fn load_classifier(directory: &ModelDirectory) -> Result<Box<dyn Engine>> {
    Err(Error::FeatureMissing { what: format!("the cross-encoder in {}", directory.name()), feature: "candle" })
}

/// Runs `run` over packs of sequences, each on a core of its own, and puts the rows that it makes of each sequence (as many
/// numbers for every one) in the order of `sequences`.
pub(crate) fn run_packed(
    sequences: &[Sequence],
    run: impl Fn(&[&Sequence]) -> Result<Vec<f32>> + Sync,
) -> Result<Vec<f32>> {
    let order = by_length(sequences);
    let packs = packs(&order, sequences);
    let run_pack = |pack: &&[usize]| {
        let pack: Vec<&Sequence> = pack.iter().map(|&index| &sequences[index]).collect();
        run(&pack)
    };
    let rows = packs.par_iter().with_max_len(1).map(run_pack).collect::<Result<Vec<Vec<f32>>>>()?;
    let numbers: usize = rows.iter().map(Vec::len).sum();
    let width = numbers / sequences.len().max(1);
    let mut values = vec![0.0; numbers];
    for (&index, row) in order.iter().zip(rows.iter().flat_map(|rows| rows.chunks_exact(width.max(1)))) {
        values[index * width..][..width].copy_from_slice(row);
    }
    Ok(values)
}

/// The sequences' indices, longest first: the last packs are then the cheapest, and all cores finish together.
fn by_length(sequences: &[Sequence]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(sequences[index].len()));
    order
}

/// Cuts `order` into packs of at most [`PACK_TOKENS_MAX`] tokens, and of fewer where that keeps every core busy.
fn packs<'a>(order: &'a [usize], sequences: &[Sequence]) -> Vec<&'a [usize]> {
    let total: usize = sequences.iter().map(Sequence::len).sum();
    let limit = total.div_ceil(rayon::current_num_threads()).min(PACK_TOKENS_MAX);
    let (mut packs, mut start, mut tokens) = (Vec::new(), 0, 0);
    for (place, &index) in order.iter().enumerate() {
        let length = sequences[index].len();
        if place > start && tokens + length > limit {
            packs.push(&order[start..place]);
            (start, tokens) = (place, 0);
        }
        tokens += length;
    }
    if start < order.len() {
        packs.push(&order[start..]);
    }
    packs
}

impl Embedder for Transformer {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings> {
        self.embed(&self.spec.document_prompt, texts)
    }

    fn embed_queries(&self, texts: &[&str], _statistics: &dyn WordStatistics) -> Result<Embeddings> {
        self.embed(&self.spec.query_prompt, texts)
    }

    fn token_ranges(&self, text: &str) -> Vec<Range<usize>> {
        self.tokens.ranges(text)
    }
}

impl Teacher for Transformer {
    fn vocabulary(&self) -> Vec<String> {
        self.tokens.vocabulary()
    }

    fn embed_tokens(&self, ids: &[u32]) -> Result<Embeddings> {
        let rows = self.engine.vocabulary();
        if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
            return Err(Error::Embedding(format!("token {id} is not among the model's {rows}")));
        }
        let sequences: Vec<Sequence> = ids.iter().map(|&id| Sequence::single(self.tokens.alone(id))).collect();
        let values = self.run(&sequences, Pooling::Mean, false)?;
        Ok(Embeddings { dims: self.spec.dims, values, truncated: 0 })
    }

    fn embed_sentences(&self, texts: &[&str]) -> Result<Embeddings> {
        self.embed_documents(texts)
    }
}

#[cfg(all(test, feature = "candle"))]
mod tests;
