//! How does a sentence-transformers directory become vectors?
//!
//! Tokenise, sort by length, pack without padding, run the engine pack by pack (one core each), pool, run the modules
//! after it, cut to the dimensions that are kept. Texts keep their order. What the numbers between ids and states are
//! computed with is an `engine::Engine`.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use self::engine::{Engine, Output, PACK_TOKENS_MAX, Sequence, ranges, tokens_of};
use self::head::Head;
use self::pooling::pool;
use self::tokens::{Encoded, Tokens};
use super::builtin::Teacher;
use super::name::{Choice, Name};
#[cfg(feature = "candle")]
use super::runtime::Device;
use super::runtime::Runtime;
use super::spec::{ModelDirectory, Pooling};
use super::{Embedder, Embeddings, ModelSpec, WordStatistics, reads_no_images};
use crate::images::Image;
use crate::{Error, Result};

pub(crate) mod engine;
mod guard;
mod head;
mod pooling;
pub(crate) mod tokens;

/// A sentence-transformers model.
pub struct Transformer {
    directory: ModelDirectory,
    spec: ModelSpec,
    tokens: Tokens,
    engine: Box<dyn Engine>,
    head: Head,
    /// What stands before a query.
    query: Prompt,
    /// What stands before a passage.
    document: Prompt,
    weights_bytes: u64,
    tokens_read: AtomicU64,
}

/// What is put before a text.
struct Prompt {
    text: String,
    /// How many of its tokens are left out when states are pooled.
    skip: usize,
}

/// How states become vectors.
struct Reading<'a> {
    pooling: &'a [Pooling],
    skip: usize,
    /// Whether vectors get the length that the model gives them.
    unit: bool,
}

impl Transformer {
    /// Opens a local sentence-transformers directory: reads all of the weights (0.2 s for 90 MB). Runs safetensors on
    /// candle; where there are none, or `directory` is an `.onnx` file of one, the graph on ONNX Runtime.
    ///
    /// # Errors
    /// [`Error::Model`] where a file is missing or damaged, does not fit the others, or asks for what is not supported;
    /// [`Error::Io`] where one cannot be read; [`Error::FeatureMissing`] where this build lacks the engine.
    pub fn open(directory: &Path) -> Result<Self> {
        Self::load(&Choice::of(Name { backend: None, path: directory })?, &Runtime::default())
    }

    /// Opens the model that was chosen.
    pub(crate) fn load(choice: &Choice, runtime: &Runtime) -> Result<Self> {
        let (directory, engine) = load(choice, runtime)?;
        directory.expect_embeddings()?;
        expect_width(&directory, engine.as_ref())?;
        let tokens = Tokens::load(&directory, engine.vocabulary())?;
        let head = Head::load(&directory)?;
        let query = Prompt::new(&directory, &tokens, &directory.query_prompt.value)?;
        let document = Prompt::new(&directory, &tokens, &directory.document_prompt.value)?;
        let mut spec = directory.spec()?;
        spec.id = choice.id();
        spec.backend = engine.name().into();
        spec.precision = engine.precision().into();
        spec.device = engine.device().into();
        spec.special_tokens = tokens.special();
        spec.images = engine.image_tokens().is_some();
        let (weights_bytes, tokens_read) = (directory.weights_in_f32(), AtomicU64::new(0));
        Ok(Self { directory, spec, tokens, engine, head, query, document, weights_bytes, tokens_read })
    }

    /// What was read from which file.
    pub fn directory(&self) -> &ModelDirectory {
        &self.directory
    }

    fn embed(&self, prompt: &Prompt, texts: &[&str]) -> Result<Embeddings> {
        let encoded = texts.par_iter().map(|text| self.encode(prompt, text)).collect::<Result<Vec<Encoded>>>()?;
        let truncated = encoded.iter().filter(|encoded| encoded.truncated).count();
        let sequences: Vec<Sequence> = encoded.into_iter().map(|encoded| Sequence::single(encoded.ids)).collect();
        let reading = Reading { pooling: &self.directory.pooling.value, skip: prompt.skip, unit: true };
        let values = self.run(&sequences, &reading)?;
        self.tokens_read.fetch_add(tokens_of(&sequences), Ordering::Relaxed);
        self.finite(Embeddings { dims: self.spec.dims, values, truncated })
    }

    fn finite(&self, embeddings: Embeddings) -> Result<Embeddings> {
        if embeddings.values.iter().all(|value| value.is_finite()) {
            return Ok(embeddings);
        }
        let reason =
            format!("{} made a vector that is not of numbers: its weights are damaged, or overflow", self.spec.id);
        Err(Error::Embedding(reason))
    }

    fn encode(&self, prompt: &Prompt, text: &str) -> Result<Encoded> {
        let prompt = prompt.text.as_str();
        if prompt.is_empty() { self.tokens.encode(text) } else { self.tokens.encode(&format!("{prompt}{text}")) }
    }

    /// One vector for each sequence, in their order.
    fn run(&self, sequences: &[Sequence], reading: &Reading<'_>) -> Result<Vec<f32>> {
        run_packed(sequences, self.engine.pack_tokens(), |pack| {
            let rows = self.engine.run(pack)?;
            Ok(match self.engine.output() {
                Output::Tokens => {
                    let width = self.engine.width() * reading.pooling.len();
                    self.head.apply(self.pool(pack, &rows, reading), width, reading.unit)
                }
                Output::Sequences => self.head.finish(rows),
                Output::Pooled => self.head.apply(rows, self.engine.width(), reading.unit),
            })
        })
    }

    fn pool(&self, pack: &[&Sequence], states: &[f32], reading: &Reading<'_>) -> Vec<f32> {
        let width = self.engine.width();
        let mut pooled = Vec::with_capacity(pack.len() * width * reading.pooling.len());
        for rows in ranges(pack) {
            for &pooling in reading.pooling {
                pool(&states[rows.start * width..rows.end * width], width, reading.skip, pooling, &mut pooled);
            }
        }
        pooled
    }
}

impl Prompt {
    fn new(directory: &ModelDirectory, tokens: &Tokens, text: &str) -> Result<Self> {
        let text = text.to_owned();
        if directory.include_prompt.value || text.is_empty() {
            return Ok(Self { text, skip: 0 });
        }
        let skip = tokens.prompt_length(&text)?;
        if skip >= directory.max_tokens.value {
            let (limit, source) = (directory.max_tokens.value, &directory.include_prompt.source);
            let reason = format!(
                "the prompt {text:?} takes {skip} of at most {limit} tokens, and {source} leaves it out: nothing remains"
            );
            return Err(Error::model(directory.name(), reason));
        }
        Ok(Self { text, skip })
    }
}

/// The engine's rows must be what the directory's files promise.
fn expect_width(directory: &ModelDirectory, engine: &dyn Engine) -> Result<()> {
    let (wanted, what) = match engine.output() {
        Output::Tokens => (directory.width.value, "states"),
        Output::Sequences => (directory.full_dims, "vectors"),
        Output::Pooled => (directory.width.value, "pooled vectors"),
    };
    let found = engine.width();
    if found == wanted {
        return Ok(());
    }
    let reason = format!("its {what} have {found} numbers; its configuration says {wanted}");
    Err(Error::model(directory.name(), reason))
}

/// Reads the directory and loads the engine that runs it.
fn load(choice: &Choice, runtime: &Runtime) -> Result<(ModelDirectory, Box<dyn Engine>)> {
    match &choice.graph {
        Some(graph) => load_graph(&choice.directory, graph, runtime),
        None => load_safetensors(&choice.directory, runtime),
    }
}

#[cfg(feature = "candle")]
fn load_safetensors(directory: &Path, runtime: &Runtime) -> Result<(ModelDirectory, Box<dyn Engine>)> {
    let directory = ModelDirectory::read(directory)?;
    directory.check_weights()?;
    let on_cpu = runtime.device == Device::Cpu;
    let engine =
        if on_cpu { super::candle::load(&directory)? } else { super::candle::load_on(&directory, runtime.device)? };
    Ok((directory, engine))
}

#[cfg(not(feature = "candle"))]
fn load_safetensors(directory: &Path, _: &Runtime) -> Result<(ModelDirectory, Box<dyn Engine>)> {
    // What is wrong with the directory says more than what this build lacks.
    let directory = ModelDirectory::read(directory)?;
    Err(Error::FeatureMissing { what: format!("the transformer model in {}", directory.name()), feature: "candle" })
}

#[cfg(feature = "onnx")]
fn load_graph(directory: &Path, graph: &Path, runtime: &Runtime) -> Result<(ModelDirectory, Box<dyn Engine>)> {
    super::onnx::load(directory, graph, runtime)
}

#[cfg(not(feature = "onnx"))]
fn load_graph(_: &Path, graph: &Path, _: &Runtime) -> Result<(ModelDirectory, Box<dyn Engine>)> {
    Err(Error::FeatureMissing { what: format!("the ONNX graph {}", graph.display()), feature: "onnx" })
}

/// Loads the engine that judges with a directory's safetensors, on the CPU: an encoder with a head for classification.
#[cfg(feature = "candle")]
pub(crate) fn judge_by_safetensors(directory: &ModelDirectory, runtime: &Runtime) -> Result<Box<dyn Engine>> {
    directory.check_weights()?;
    expect_cpu(directory, runtime)?;
    super::candle::load_classifier(directory)
}

#[cfg(not(feature = "candle"))]
pub(crate) fn judge_by_safetensors(directory: &ModelDirectory, _: &Runtime) -> Result<Box<dyn Engine>> {
    Err(Error::FeatureMissing { what: format!("the cross-encoder in {}", directory.name()), feature: "candle" })
}

/// Reads a directory and loads the graph of it that judges.
#[cfg(feature = "onnx")]
pub(crate) fn judge_by_graph(
    directory: &Path,
    graph: &Path,
    runtime: &Runtime,
) -> Result<(ModelDirectory, Box<dyn Engine>)> {
    let (directory, _) = super::onnx::describe(directory, graph)?;
    let engine = super::onnx::load_classifier(&directory, graph, runtime)?;
    Ok((directory, engine))
}

#[cfg(not(feature = "onnx"))]
pub(crate) fn judge_by_graph(_: &Path, graph: &Path, _: &Runtime) -> Result<(ModelDirectory, Box<dyn Engine>)> {
    Err(Error::FeatureMissing { what: format!("the ONNX graph {}", graph.display()), feature: "onnx" })
}

/// Reads a directory of safetensors and loads a language model that judges by the logits of two of its tokens.
///
/// # Errors
/// As [`judge_by_safetensors`], and for another device than the CPU.
#[cfg(feature = "candle")]
pub(crate) fn load_yes_no(directory: &ModelDirectory, runtime: &Runtime, yes: u32, no: u32) -> Result<Box<dyn Engine>> {
    directory.check_weights()?;
    expect_cpu(directory, runtime)?;
    super::candle::load_yes_no(directory, yes, no)
}

#[cfg(not(feature = "candle"))]
pub(crate) fn load_yes_no(directory: &ModelDirectory, _: &Runtime, _: u32, _: u32) -> Result<Box<dyn Engine>> {
    Err(Error::FeatureMissing { what: format!("the reranker in {}", directory.name()), feature: "candle" })
}

/// Rerankers on candle run on the CPU alone.
#[cfg(feature = "candle")]
fn expect_cpu(directory: &ModelDirectory, runtime: &Runtime) -> Result<()> {
    if runtime.device == Device::Cpu {
        return Ok(());
    }
    let reason = format!(
        "rerankers on candle run on the CPU alone, not on `{}`; an ONNX graph may (`onnx:DIR`)",
        runtime.device
    );
    Err(Error::model(directory.name(), reason))
}

/// Runs `run` over packs of at most `tokens_max` tokens, each on a core of its own, and puts the rows that it makes of each
/// sequence (as many numbers for every one) in the order of `sequences`.
pub(crate) fn run_packed(
    sequences: &[Sequence],
    tokens_max: usize,
    run: impl Fn(&[&Sequence]) -> Result<Vec<f32>> + Sync,
) -> Result<Vec<f32>> {
    let order = by_length(sequences);
    let packs = packs(&order, sequences, tokens_max);
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

/// Cuts `order` into packs of at most `tokens_max` tokens, and of fewer where that keeps every core busy.
fn packs<'a>(order: &'a [usize], sequences: &[Sequence], tokens_max: usize) -> Vec<&'a [usize]> {
    let total: usize = sequences.iter().map(Sequence::len).sum();
    let limit = total.div_ceil(rayon::current_num_threads()).min(tokens_max);
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
        self.embed(&self.document, texts)
    }

    fn embed_queries(&self, texts: &[&str], _statistics: &dyn WordStatistics) -> Result<Embeddings> {
        self.embed(&self.query, texts)
    }

    fn embed_images(&self, images: &[Image]) -> Result<Embeddings> {
        let Some(tokens) = self.engine.image_tokens() else { return Err(reads_no_images(&self.spec)) };
        let each_core = images.len().div_ceil(rayon::current_num_threads());
        let pack = (PACK_TOKENS_MAX / tokens).min(each_core).max(1);
        let run = |pack: &[Image]| {
            let rows = self.engine.run_images(pack)?;
            Ok(self.head.apply(rows, self.engine.width(), true))
        };
        let rows = images.par_chunks(pack).map(run).collect::<Result<Vec<Vec<f32>>>>()?;
        self.finite(Embeddings { dims: self.spec.dims, values: rows.concat(), truncated: 0 })
    }

    fn token_ranges(&self, text: &str) -> Vec<Range<usize>> {
        self.tokens.ranges(text)
    }

    fn memory_bytes(&self) -> u64 {
        self.engine.memory_bytes().unwrap_or(self.weights_bytes)
    }

    fn tokens_read(&self) -> Option<u64> {
        Some(self.tokens_read.load(Ordering::Relaxed))
    }

    fn gains_by_batches(&self) -> bool {
        self.engine.gains_by_batches()
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
        // The mean, special tokens included; of several poolings all, so that it is as long as a text's vector.
        let pooling = &self.directory.pooling.value;
        let pooling = if pooling.len() == 1 { &[Pooling::Mean] } else { pooling.as_slice() };
        let values = self.run(&sequences, &Reading { pooling, skip: 0, unit: false })?;
        Ok(Embeddings { dims: self.spec.dims, values, truncated: 0 })
    }

    fn embed_sentences(&self, texts: &[&str]) -> Result<Embeddings> {
        self.embed_documents(texts)
    }
}

#[cfg(all(test, feature = "candle"))]
mod tests;
