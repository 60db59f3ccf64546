//! How does a sentence-transformers directory become vectors on this CPU?
//!
//! Tokenise, sort by length, pack without padding, run the encoder pack by pack (one core each), pool, normalise. Texts
//! keep their order, and a vector does not depend on its neighbours, to the bit. candle reads the weights; the products are
//! in `matrix`.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use self::bert::{Bert, Scratch, ranges};
use self::pooling::{normalise, pool};
use self::tokens::{Encoded, Tokens};
use super::builtin::Teacher;
use super::spec::{ModelDirectory, Pooling};
use super::{Embedder, Embeddings, ModelSpec, WordStatistics};
use crate::{Error, Result};

mod attention;
mod bert;
mod matrix;
mod ops;
mod pooling;
mod tokens;
mod weights;

/// The tokens that go through the encoder together, at most, unless one text alone has more: enough to use a weight often
/// while it is in the cache, few enough for the states to stay there as well.
const PACK_TOKENS_MAX: usize = 512;

/// The architectures that run here, as `config.json` calls them.
const ARCHITECTURES: [&str; 1] = ["bert"];

/// A sentence-transformers model on the CPU, in f32.
pub struct CandleEmbedder {
    directory: ModelDirectory,
    spec: ModelSpec,
    tokens: Tokens,
    bert: Bert,
}

impl CandleEmbedder {
    /// Opens a local sentence-transformers directory: reads all of the weights (0.2 s for 90 MB), runs nothing.
    ///
    /// # Errors
    /// [`Error::Model`] where a file is missing or damaged, does not fit the others, or asks for what is not supported;
    /// [`Error::Io`] where one cannot be read.
    pub fn open(directory: &Path) -> Result<Self> {
        let directory = ModelDirectory::read(directory)?;
        let architecture = &directory.architecture;
        if !ARCHITECTURES.contains(&architecture.value.as_str()) {
            let (found, source, known) = (&architecture.value, &architecture.source, ARCHITECTURES.join(", "));
            let reason = format!("architecture `{found}` ({source}) is not supported yet; supported: {known}");
            return Err(Error::model(directory.name(), reason));
        }
        let bert = Bert::load(&directory)?;
        let tokens = Tokens::load(&directory, bert.config.vocab_size)?;
        let mut spec = directory.spec()?;
        spec.backend = "candle".into();
        spec.special_tokens = tokens.special();
        Ok(Self { directory, spec, tokens, bert })
    }

    /// What was read from which file.
    pub fn directory(&self) -> &ModelDirectory {
        &self.directory
    }

    fn embed(&self, prompt: &str, texts: &[&str]) -> Result<Embeddings> {
        let encoded = texts.par_iter().map(|text| self.encode(prompt, text)).collect::<Result<Vec<Encoded>>>()?;
        let truncated = encoded.iter().filter(|encoded| encoded.truncated).count();
        let sequences: Vec<&[u32]> = encoded.iter().map(|encoded| encoded.ids.as_slice()).collect();
        let values = self.run(&sequences, self.directory.pooling.value, self.directory.normalize.value);
        Ok(Embeddings { dims: self.spec.dims, values, truncated })
    }

    fn encode(&self, prompt: &str, text: &str) -> Result<Encoded> {
        if prompt.is_empty() { self.tokens.encode(text) } else { self.tokens.encode(&format!("{prompt}{text}")) }
    }

    /// One vector for each sequence, in their order.
    fn run(&self, sequences: &[&[u32]], pooling: Pooling, unit: bool) -> Vec<f32> {
        let dims = self.bert.config.hidden_size;
        let order = by_length(sequences);
        let run_pack = |scratch: &mut Scratch, pack: &[usize]| {
            let sequences: Vec<&[u32]> = pack.iter().map(|&index| sequences[index]).collect();
            let states = self.bert.forward(&sequences, scratch);
            let mut vectors = Vec::with_capacity(pack.len() * dims);
            for rows in ranges(&sequences) {
                let start = vectors.len();
                pool(&states[rows.start * dims..rows.end * dims], dims, pooling, &mut vectors);
                if unit {
                    normalise(&mut vectors[start..]);
                }
            }
            vectors
        };
        let packs = packs(&order, sequences);
        let vectors: Vec<Vec<f32>> = packs
            .par_iter()
            .with_max_len(1)
            .map_init(Scratch::default, |scratch, pack| run_pack(scratch, pack))
            .collect();
        let mut values = vec![0.0; sequences.len() * dims];
        for (&index, vector) in order.iter().zip(vectors.iter().flat_map(|vectors| vectors.chunks_exact(dims))) {
            values[index * dims..][..dims].copy_from_slice(vector);
        }
        values
    }
}

/// The sequences' indices, longest first: the last packs are then the cheapest, and all cores finish together.
fn by_length(sequences: &[&[u32]]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(sequences[index].len()));
    order
}

/// Cuts `order` into packs of at most [`PACK_TOKENS_MAX`] tokens, and of fewer where that keeps every core busy.
fn packs<'a>(order: &'a [usize], sequences: &[&[u32]]) -> Vec<&'a [usize]> {
    let total: usize = sequences.iter().map(|sequence| sequence.len()).sum();
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

impl Embedder for CandleEmbedder {
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

impl Teacher for CandleEmbedder {
    fn vocabulary(&self) -> Vec<String> {
        self.tokens.vocabulary()
    }

    fn embed_tokens(&self, ids: &[u32]) -> Result<Embeddings> {
        let rows = self.bert.config.vocab_size;
        if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
            return Err(Error::Embedding(format!("token {id} is not among the model's {rows}")));
        }
        let sequences: Vec<Vec<u32>> = ids.iter().map(|&id| self.tokens.alone(id)).collect();
        let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let values = self.run(&sequences, Pooling::Mean, false);
        Ok(Embeddings { dims: self.spec.dims, values, truncated: 0 })
    }

    fn embed_sentences(&self, texts: &[&str]) -> Result<Embeddings> {
        self.embed_documents(texts)
    }
}

#[cfg(test)]
mod tests;
