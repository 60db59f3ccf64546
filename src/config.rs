//! How should a collection be made? Its model, chunks and text analyser.
//!
//! The configuration is stored with the collection and compared when it is opened again: only what is set explicitly
//! is compared, so opening by name alone always works.

use std::sync::Arc;

use quiverdb_storage::{Language, Metric};
use serde::{Deserialize, Serialize};

use crate::embed::{Embedder, ModelSpec};

/// What a new collection should be, or what an existing one is expected to be. Everything unset takes its default or
/// what is stored.
///
/// ```
/// use quiverdb::CollectionConfig;
///
/// let config = CollectionConfig::new().chunk_tokens(128).chunk_overlap(16);
/// # let _ = config;
/// ```
#[derive(Clone, Default)]
pub struct CollectionConfig {
    pub(crate) model: Model,
    pub(crate) metric: Option<Metric>,
    pub(crate) chunk_tokens: Option<usize>,
    pub(crate) chunk_overlap: Option<usize>,
    pub(crate) chunker: Option<ChunkerKind>,
    pub(crate) language: Option<Language>,
}

/// How text is split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChunkerKind {
    /// By the document's media type where it is known ([`ChunkerKind::for_media_type`]), else by a look at the text.
    #[default]
    Auto,
    /// At line breaks, sentences and words.
    Plain,
    /// At headings and blocks; every chunk knows the headings above it.
    Markdown,
}

impl ChunkerKind {
    /// What [`ChunkerKind::Auto`] means for a media type; any other kind stays what it is.
    #[must_use]
    pub fn for_media_type(self, media_type: &str) -> Self {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        match self {
            Self::Auto if essence.eq_ignore_ascii_case("text/markdown") => Self::Markdown,
            Self::Auto if essence.is_empty() => Self::Auto,
            Self::Auto => Self::Plain,
            Self::Plain | Self::Markdown => self,
        }
    }
}

/// Where a collection's vectors come from.
#[derive(Clone, Default)]
pub(crate) enum Model {
    /// What the collection was built with; the built-in model for a new one.
    #[default]
    Unset,
    /// A model by name or directory.
    Named(String),
    /// The application's own.
    Given(Arc<dyn Embedder>),
    /// None: every document and query brings a vector of this many dimensions.
    External(usize),
}

impl CollectionConfig {
    /// All defaults: the built-in model, chunks of 256 tokens with 32 overlap, English text analysis.
    pub fn new() -> Self {
        Self::default()
    }

    /// The model by name: `builtin`, or the directory of a sentence-transformers or model2vec model.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Model::Named(model.into());
        self
    }

    /// Your own model.
    #[must_use]
    pub fn embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.model = Model::Given(embedder);
        self
    }

    /// No model: every document brings its own vector of `dims` numbers.
    #[must_use]
    pub fn external(mut self, dims: usize) -> Self {
        self.model = Model::External(dims);
        self
    }

    /// The metric of an external space; with a model, the model's own is used.
    #[must_use]
    pub fn metric(mut self, metric: Metric) -> Self {
        self.metric = Some(metric);
        self
    }

    /// The size of a chunk in tokens of the model, context (title and headings) and special tokens included; 256 by
    /// default, or the model's limit where that is lower.
    #[must_use]
    pub fn chunk_tokens(mut self, tokens: usize) -> Self {
        self.chunk_tokens = Some(tokens);
        self
    }

    /// How many tokens neighbouring chunks share; 32 by default.
    #[must_use]
    pub fn chunk_overlap(mut self, tokens: usize) -> Self {
        self.chunk_overlap = Some(tokens);
        self
    }

    /// How text is split; by default by the document's media type or name.
    #[must_use]
    pub fn chunker(mut self, chunker: ChunkerKind) -> Self {
        self.chunker = Some(chunker);
        self
    }

    /// The language of the text analyser (stemming); English by default.
    #[must_use]
    pub fn language(mut self, language: Language) -> Self {
        self.language = Some(language);
        self
    }
}

/// What is stored with a collection besides its spaces and analyser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredConfig {
    /// The model; absent where vectors are external.
    pub(crate) model: Option<ModelSpec>,
    /// Where the model was loaded from, so that the collection can be opened by name alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model_source: Option<String>,
    pub(crate) chunk_tokens: usize,
    pub(crate) chunk_overlap: usize,
    pub(crate) chunker: ChunkerKind,
}
