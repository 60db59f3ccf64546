//! How does text become vectors?
//!
//! One trait, [`Embedder`]: documents and queries are separate methods, because models treat them differently, and
//! batches only, because one text at a time wastes most of a machine. What a collection was built with is its
//! [`ModelSpec`]; two specs that differ in anything that changes a vector never share a collection.

pub mod batcher;
pub mod builtin;
#[cfg(feature = "candle")]
mod candle;
mod dimensions;
mod files;
#[cfg(feature = "transformers")]
mod math;
mod metered;
pub(crate) mod name;
mod named;
#[cfg(feature = "onnx")]
mod onnx;
mod open;
#[cfg(feature = "candle")]
mod pixels;
#[cfg(feature = "remote")]
pub mod remote;
mod runtime;
mod safetensors;
pub mod spec;
#[cfg(feature = "transformers")]
pub mod transformer;
mod warm;

use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use self::batcher::Batcher;
#[cfg(feature = "candle")]
pub(crate) use self::candle::judges;
pub(crate) use self::dimensions::as_stored;
#[cfg(feature = "server")]
pub(crate) use self::dimensions::normalise;
pub use self::dimensions::truncate;
pub(crate) use self::metered::at_work;
pub use self::open::{Explained, explain, open, open_with, runs};
pub(crate) use self::open::{durable_source, identity_difference, reopen};
pub use self::runtime::{Backend, Device, Runtime};
pub(crate) use self::warm::full_batch;
pub use self::warm::{WarmUp, warm_up};
use crate::Result;
use crate::images::Image;

/// Text to vectors. Implement this to bring your own model: [`Embedder::spec`] and [`Embedder::embed_documents`]
/// are enough.
///
/// A vector must not depend on the other texts of its batch.
pub trait Embedder: Send + Sync {
    /// What this model is; stored with every collection built with it.
    fn spec(&self) -> &ModelSpec;

    /// Embeds passages, in their order.
    ///
    /// # Errors
    /// [`crate::Error::Embedding`] where the model fails; no document of the batch is then written.
    fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings>;

    /// Embeds search queries, in their order. `statistics` tell how common a word is in the collection searched, for
    /// models that weigh words by it; others ignore them.
    ///
    /// # Errors
    /// As [`Embedder::embed_documents`].
    fn embed_queries(&self, texts: &[&str], statistics: &dyn WordStatistics) -> Result<Embeddings> {
        let _ = statistics;
        self.embed_documents(texts)
    }

    /// Embeds pictures, in their order, into the space of its texts: a text finds a picture, and a picture a text. Models
    /// that read them say so in [`ModelSpec::images`].
    ///
    /// # Errors
    /// [`crate::Error::InvalidInput`] where the model reads no images, as most do not and the default here; else as
    /// [`Embedder::embed_documents`].
    fn embed_images(&self, images: &[Image]) -> Result<Embeddings> {
        let _ = images;
        Err(reads_no_images(self.spec()))
    }

    /// The byte range of every token that the model would read in `text`, without special tokens and without
    /// truncation; ascending. Chunks are measured with it. The default counts words and single punctuation marks.
    fn token_ranges(&self, text: &str) -> Vec<Range<usize>> {
        words_and_marks(text)
    }

    /// The bytes that its weights take in memory, where it knows.
    fn memory_bytes(&self) -> u64 {
        0
    }

    /// The tokens that it has read so far, special ones counted and what was cut off not; `None` where it does not count.
    fn tokens_read(&self) -> Option<u64> {
        None
    }

    /// Whether queries of several callers should be run together ([`Batcher`]): where a query's vector depends on the query
    /// alone, and one run of several is faster than several runs side by side.
    fn gains_by_batches(&self) -> bool {
        false
    }
}

/// The error of a model that reads texts alone.
pub(crate) fn reads_no_images(spec: &ModelSpec) -> crate::Error {
    crate::Error::invalid(format!(
        "model {} reads no images; CLIP does, from safetensors with the feature `candle`: clip-ViT-B-32, clip-ViT-L-14, or \
         a directory that holds one and its preprocessor_config.json",
        spec.id
    ))
}

/// How common words are in a collection.
pub trait WordStatistics {
    /// The number of chunks in the collection.
    fn chunks(&self) -> u64;
    /// The number of chunks that hold this word, as the collection's text analyser reads it (lowercased, stemmed);
    /// `None` where the analyser does not index it (punctuation, say).
    fn chunks_with(&self, word: &str) -> Option<u64>;
}

/// No collection at hand: every word counts alike.
pub struct NoStatistics;

impl WordStatistics for NoStatistics {
    fn chunks(&self) -> u64 {
        0
    }

    fn chunks_with(&self, _word: &str) -> Option<u64> {
        None
    }
}

/// Vectors of a batch, row-major `[texts, dims]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// Dimensions of each vector.
    pub dims: usize,
    /// `texts * dims` numbers.
    pub values: Vec<f32>,
    /// How many texts were longer than the model's limit and were cut.
    pub truncated: usize,
}

impl Embeddings {
    /// The vectors, one slice of `dims` numbers each.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dims.max(1))
    }

    /// The model must have returned one vector of its dimensions for each text.
    pub(crate) fn expect(&self, texts: usize, spec: &ModelSpec) -> Result<()> {
        if self.dims == spec.dims && self.values.len() == texts * spec.dims {
            return Ok(());
        }
        Err(crate::Error::Embedding(format!(
            "{} returned {} numbers of {} dimensions for {texts} texts; its spec says {} dimensions",
            spec.id,
            self.values.len(),
            self.dims,
            spec.dims
        )))
    }
}

/// What a model is: everything that changes a vector, and how to use it well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// The name that users give: `builtin`, a directory, `owner/name` of the hub, a URL with the name of a model there, or
    /// the name of an application's own model.
    pub id: String,
    /// What runs it: `builtin`, `static`, `candle`, `onnx`, `remote`, or `yours`.
    pub backend: String,
    /// The kind of most of its weights, where they lie in files of several kinds: `f32`, `f16`, `int8`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub precision: String,
    /// Where it ran when this was written. Not part of the identity.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// The model's revision, where it has one: the commit of a model of the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Whether it reads images, too ([`Embedder::embed_images`]); texts it always reads. Not part of the identity.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub images: bool,
    /// Dimensions of its vectors.
    pub dims: usize,
    /// Dimensions before they were cut off ([`truncate`]); none where all are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_dims: Option<usize>,
    /// The longest text in tokens, special tokens counted.
    pub max_tokens: usize,
    /// How many of these the special tokens take.
    #[serde(default)]
    pub special_tokens: usize,
    /// `cosine`, `dot` or `l2`.
    pub metric: quiverdb_storage::Metric,
    /// How token vectors become one: `mean`, `cls`, `cls+max`, ...
    #[serde(default)]
    pub pooling: String,
    /// What is computed after pooling, where that is more than scaling to unit length.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub modules: String,
    /// Whether vectors have unit length.
    #[serde(default)]
    pub normalized: bool,
    /// Put before every query.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub query_prompt: String,
    /// Put before every passage.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub document_prompt: String,
    /// SHA-256 of the weights, in hex; empty where the model has none to digest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub weights_digest: String,
    /// SHA-256 of the tokenizer, in hex; of a model that reads images with the settings by which they are prepared.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tokenizer_digest: String,
    /// The weight of this model's cosine against the text leg's normalised BM25 score in hybrid search: the better
    /// the model, the more. Not part of the identity.
    #[serde(default = "default_hybrid_weight", serialize_with = "as_written")]
    pub hybrid_weight: f32,
}

/// 0.3 and not 0.30000001192092896, which is what `f32` becomes as `f64`.
fn as_written<S: serde::Serializer>(number: &f32, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_f64(number.to_string().parse().unwrap_or_else(|_| f64::from(*number)))
}

fn default_hybrid_weight() -> f32 {
    1.0
}

impl ModelSpec {
    /// A spec for an application's own model: cosine over vectors of `dims` numbers, at most 256 tokens a text.
    pub fn new(id: impl Into<String>, dims: usize) -> Self {
        Self {
            id: id.into(),
            backend: "yours".into(),
            precision: String::new(),
            device: String::new(),
            revision: None,
            images: false,
            dims,
            full_dims: None,
            max_tokens: 256,
            special_tokens: 0,
            metric: quiverdb_storage::Metric::Cosine,
            pooling: String::new(),
            modules: String::new(),
            normalized: false,
            query_prompt: String::new(),
            document_prompt: String::new(),
            weights_digest: String::new(),
            tokenizer_digest: String::new(),
            hybrid_weight: default_hybrid_weight(),
        }
    }
}

/// Tokens a word up to which a model is taken to know the language: English questions have 1.0 to 1.7 in an English
/// vocabulary, those of specialists among them.
const FERTILITY_KNOWN: f32 = 1.7;
/// Tokens a word from which on it is taken not to: German questions have 2.2 in an English vocabulary, Finnish ones 3.
const FERTILITY_FOREIGN: f32 = 2.4;
/// What the vector of a foreign text is still worth.
const FIT_MIN: f32 = 0.2;

/// How well a model's vocabulary fits a text, 0.2 to 1, by its tokens a word: a model cuts words that it hardly saw into
/// many pieces. Rust et al., "How Good is Your Tokenizer?" (ACL 2021), find this fertility to go with how well a model
/// does in a language.
pub(crate) fn vocabulary_fit(embedder: &dyn Embedder, text: &str) -> f32 {
    let is_worded = |range: &Range<usize>| text[range.clone()].contains(char::is_alphanumeric);
    let tokens = embedder.token_ranges(text).iter().filter(|range| is_worded(range)).count();
    let fertility = tokens as f32 / words(text).max(1) as f32;
    let foreign = (fertility - FERTILITY_KNOWN) / (FERTILITY_FOREIGN - FERTILITY_KNOWN);
    (1.0 - foreign.clamp(0.0, 1.0) * (1.0 - FIT_MIN)).max(FIT_MIN)
}

/// The number of words, where every ideograph or syllable beyond the alphabets counts as one.
fn words(text: &str) -> usize {
    let kind = |character: char| character.is_alphanumeric().then_some(character < ALPHABETS_END);
    let before = std::iter::once(None).chain(text.chars().map(kind));
    before
        .zip(text.chars().map(kind))
        .filter(|(before, now)| now.is_some() && (before != now || *now == Some(false)))
        .count()
}

/// The byte ranges of words and of single other visible characters. Words are cut after [`WORD_BYTES_MAX`] bytes, and
/// every ideograph or syllable beyond Latin, Greek and Cyrillic counts alone, as most models' vocabularies have it.
pub(crate) fn words_and_marks(text: &str) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut growing = false;
    for (start, character) in text.char_indices() {
        let end = start + character.len_utf8();
        let in_word = character.is_alphanumeric() && character < ALPHABETS_END;
        match ranges.last_mut() {
            Some(last) if growing && in_word && end - last.start <= WORD_BYTES_MAX => last.end = end,
            _ if character.is_whitespace() => {}
            _ => ranges.push(start..end),
        }
        growing = in_word;
    }
    ranges
}

/// Longer words are several tokens in any vocabulary.
const WORD_BYTES_MAX: usize = 16;
/// The first character after the Latin, Greek, Cyrillic, Armenian, Hebrew and Arabic blocks.
const ALPHABETS_END: char = '\u{0780}';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_in_any_script() {
        assert_eq!(words("How do I share data?"), 5);
        assert_eq!(words("Überschwemmungsgebietsverordnung, 12.5"), 3);
        assert_eq!(words("東京の a"), 4);
        assert_eq!(words(" ?! "), 0);
    }

    #[test]
    fn a_vocabulary_fits_its_own_language_and_others_less() {
        let fit = |text: &str| vocabulary_fit(builtin::StaticEmbedder::builtin().as_ref(), text);
        assert_eq!(fit("How do I share data safely between threads?"), 1.0);
        assert_eq!(fit("?!"), 1.0);
        let german = fit("Welche Vorschriften gelten für Überschwemmungsgebiete?");
        assert!((FIT_MIN..0.8).contains(&german), "{german}");
        assert_eq!(fit("Äänioikeuskelpoisuusvaatimukset"), FIT_MIN);
    }
}
