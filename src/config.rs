//! How should a collection be made? Its spaces and their models, its chunks and text analyser.
//!
//! The configuration is stored with the collection and compared when it is opened again: only what is set explicitly
//! is compared, so opening by name alone always works.

use std::collections::BTreeMap;
use std::sync::Arc;

use quiverdb_storage::{Language, Metric};
use serde::{Deserialize, Serialize};

use crate::embed::{Embedder, ModelSpec};
use crate::{Error, Result};

/// The name of the space that every collection has.
pub(crate) const DEFAULT_SPACE: &str = "default";

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
    /// The space that every collection has.
    pub(crate) default: SpaceConfig,
    /// Further ones, by name.
    pub(crate) spaces: Vec<(String, SpaceConfig)>,
    pub(crate) chunk_tokens: Option<usize>,
    pub(crate) chunk_overlap: Option<usize>,
    pub(crate) chunker: Option<ChunkerKind>,
    pub(crate) language: Option<Language>,
}

/// How text is split. In JSON and on the command line `auto`, `plain`, `markdown`, or `code:` and a language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum ChunkerKind {
    /// By the document's media type where it is known ([`ChunkerKind::for_media_type`]), else by a look at the text.
    #[default]
    Auto,
    /// At line breaks, sentences and words.
    Plain,
    /// At headings and blocks; every chunk knows the headings above it.
    Markdown,
    /// At the items, statements and blocks of a program. Needs the feature `code`; without it as [`ChunkerKind::Plain`].
    Code(CodeLanguage),
}

/// A programming language whose grammar is known (with the feature `code`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of languages say it all")]
pub enum CodeLanguage {
    Bash,
    C,
    CSharp,
    Cpp,
    Go,
    Java,
    JavaScript,
    Php,
    Python,
    Ruby,
    Rust,
    TypeScript,
}

impl CodeLanguage {
    /// Every language.
    pub const ALL: [Self; 12] = [
        Self::Bash,
        Self::C,
        Self::CSharp,
        Self::Cpp,
        Self::Go,
        Self::Java,
        Self::JavaScript,
        Self::Php,
        Self::Python,
        Self::Ruby,
        Self::Rust,
        Self::TypeScript,
    ];

    /// Its name in JSON and on the command line, and the `language` in the metadata of its files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::C => "c",
            Self::CSharp => "csharp",
            Self::Cpp => "cpp",
            Self::Go => "go",
            Self::Java => "java",
            Self::JavaScript => "javascript",
            Self::Php => "php",
            Self::Python => "python",
            Self::Ruby => "ruby",
            Self::Rust => "rust",
            Self::TypeScript => "typescript",
        }
    }

    /// The language of a media type such as `text/x-rust`.
    pub fn of_media_type(essence: &str) -> Option<Self> {
        let essence = essence.to_ascii_lowercase();
        let name = match essence.strip_prefix("text/x-").or_else(|| essence.strip_prefix("text/"))? {
            "c++" => "cpp",
            "shellscript" => "bash",
            name => name,
        };
        Self::ALL.into_iter().find(|language| language.name() == name)
    }
}

impl From<ChunkerKind> for String {
    fn from(kind: ChunkerKind) -> Self {
        match kind {
            ChunkerKind::Auto => "auto".to_owned(),
            ChunkerKind::Plain => "plain".to_owned(),
            ChunkerKind::Markdown => "markdown".to_owned(),
            ChunkerKind::Code(language) => format!("code:{}", language.name()),
        }
    }
}

impl TryFrom<String> for ChunkerKind {
    type Error = String;

    fn try_from(name: String) -> std::result::Result<Self, String> {
        let plain = [Self::Auto, Self::Plain, Self::Markdown];
        let kinds = || plain.into_iter().chain(CodeLanguage::ALL.map(Self::Code));
        kinds().find(|kind| String::from(*kind) == name).ok_or_else(|| {
            let all: Vec<String> = kinds().map(|kind| format!("`{}`", String::from(kind))).collect();
            format!("unknown variant `{name}`, expected one of {}", all.join(", "))
        })
    }
}

/// Media types whose readers write Markdown.
const MARKDOWN: [&str; 10] = [
    "text/markdown",
    "text/html",
    "application/xhtml+xml",
    "application/epub+zip",
    "application/vnd.oasis.opendocument.text",
    "application/vnd.oasis.opendocument.spreadsheet",
    "application/vnd.oasis.opendocument.presentation",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
];

impl ChunkerKind {
    /// What [`ChunkerKind::Auto`] means for a media type; any other kind stays what it is. Markdown is what our readers make
    /// of web pages and office files; source code is cut by its grammar where that is known.
    #[must_use]
    pub fn for_media_type(self, media_type: &str) -> Self {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        match self {
            Self::Auto if MARKDOWN.iter().any(|markdown| essence.eq_ignore_ascii_case(markdown)) => Self::Markdown,
            Self::Auto if essence.is_empty() => Self::Auto,
            Self::Auto => CodeLanguage::of_media_type(essence).map_or(Self::Plain, Self::Code),
            Self::Plain | Self::Markdown | Self::Code(_) => self,
        }
    }
}

/// Where the vectors of a space come from.
#[derive(Clone, Default)]
pub(crate) enum Model {
    /// What the space was built with; the built-in model for a new one.
    #[default]
    Unset,
    /// A model by name or directory.
    Named(String),
    /// The application's own.
    Given(Arc<dyn Embedder>),
    /// None: every document and query brings a vector of this many dimensions.
    External(usize),
}

/// A further space of a collection: where its vectors come from, and how they are compared.
///
/// With a model, every chunk has the vector that this model makes of it, beside that of the collection's own. Without
/// one, every document must bring a vector ([`crate::Document::vector_in`]), which all of its chunks then have.
///
/// ```
/// use quiverdb::{CollectionConfig, Metric, SpaceConfig};
///
/// let images = SpaceConfig::external(512).metric(Metric::Dot);
/// let config = CollectionConfig::new().space("image", images);
/// # let _ = config;
/// ```
#[derive(Clone, Default)]
pub struct SpaceConfig {
    pub(crate) model: Model,
    pub(crate) dimensions: Option<usize>,
    pub(crate) metric: Option<Metric>,
}

impl SpaceConfig {
    /// Vectors of a model by name, as [`CollectionConfig::model`].
    pub fn model(model: impl Into<String>) -> Self {
        Self { model: Model::Named(model.into()), ..Self::default() }
    }

    /// Vectors of your own model. Give it again whenever you open the collection and need it.
    pub fn embedder(embedder: Arc<dyn Embedder>) -> Self {
        Self { model: Model::Given(embedder), ..Self::default() }
    }

    /// Vectors of `dims` numbers that every document brings, and every query that searches this space.
    pub fn external(dims: usize) -> Self {
        Self { model: Model::External(dims), ..Self::default() }
    }

    /// Keeps only the first `dims` numbers of the model's vectors, as [`CollectionConfig::dimensions`].
    #[must_use]
    pub fn dimensions(mut self, dims: usize) -> Self {
        self.dimensions = Some(dims);
        self
    }

    /// The metric of an external space, cosine by default; with a model, the model's own is used.
    #[must_use]
    pub fn metric(mut self, metric: Metric) -> Self {
        self.metric = Some(metric);
        self
    }
}

impl CollectionConfig {
    /// All defaults: the built-in model, chunks of 256 tokens with 32 overlap, English text analysis.
    pub fn new() -> Self {
        Self::default()
    }

    /// The model by name: `builtin`, the directory of a sentence-transformers or model2vec model, `owner/name` of the hub
    /// (fetched where it is not in the cache, with the feature `hub`), or `http://host/v1#name` on a server (with the
    /// feature `remote`).
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.default.model = Model::Named(model.into());
        self
    }

    /// Your own model.
    #[must_use]
    pub fn embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.default.model = Model::Given(embedder);
        self
    }

    /// No model: every document brings its own vector of `dims` numbers.
    #[must_use]
    pub fn external(mut self, dims: usize) -> Self {
        self.default.model = Model::External(dims);
        self
    }

    /// Keeps only the first `dims` numbers of the model's vectors, scaled to unit length again where the metric is the
    /// cosine. For models trained for it (Matryoshka): others lose much.
    #[must_use]
    pub fn dimensions(mut self, dims: usize) -> Self {
        self.default.dimensions = Some(dims);
        self
    }

    /// The metric of an external space; with a model, the model's own is used.
    #[must_use]
    pub fn metric(mut self, metric: Metric) -> Self {
        self.default.metric = Some(metric);
        self
    }

    /// A further vector space beside the default one, under this name (letters, digits, `.`, `_` and `-`). Every chunk has
    /// a vector in each space; [`crate::Query::space`] says which one a search compares. Up to 15; which ones there are is
    /// chosen when a collection is made.
    ///
    /// Cost: each space takes its vectors' room and an index of its own; one with a model embeds every chunk once more.
    #[must_use]
    pub fn space(mut self, name: impl Into<String>, space: SpaceConfig) -> Self {
        self.spaces.push((name.into(), space));
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

/// What is stored with a collection besides its spaces' dimensions and metrics and its analyser: JSON, as drawn in the
/// storage crate's `FORMAT.md`.
///
/// Spaces are told apart by name, not by place, and what belongs to one stands in one object: so one can be added, take
/// the name of another, or go, without a word about the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredConfig {
    /// The default space. Its fields stand at the top, where they were before there were others.
    #[serde(flatten)]
    pub(crate) default: StoredSpace,
    pub(crate) chunk_tokens: usize,
    pub(crate) chunk_overlap: usize,
    pub(crate) chunker: ChunkerKind,
    /// The further spaces; absent where there is none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) spaces: BTreeMap<String, StoredSpace>,
}

impl StoredConfig {
    /// What is stored of a space.
    pub(crate) fn space(&self, name: &str) -> Option<&StoredSpace> {
        if name == DEFAULT_SPACE { Some(&self.default) } else { self.spaces.get(name) }
    }

    /// Says something else of a space.
    pub(crate) fn set_space(&mut self, name: &str, stored: StoredSpace) {
        if name == DEFAULT_SPACE {
            self.default = stored;
        } else {
            self.spaces.insert(name.to_owned(), stored);
        }
    }
}

/// What is stored of a space besides its dimensions and metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredSpace {
    /// The model; null where vectors are external.
    pub(crate) model: Option<ModelSpec>,
    /// Where the model was loaded from, so that the collection can be opened by name alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model_source: Option<String>,
}

/// Refuses chunks that no model reads, and such as would be made of overlap.
pub(crate) fn validate_chunking(tokens: usize, overlap: usize, limit: usize) -> Result<()> {
    if tokens < 8 || tokens > limit {
        let most = if limit == usize::MAX { "any".to_owned() } else { limit.to_string() };
        return Err(Error::invalid(format!(
            "chunk_tokens must lie between 8 and the model's limit ({most}); got {tokens}"
        )));
    }
    if overlap > tokens / 2 {
        return Err(Error::invalid(format!(
            "chunk_overlap must be at most half of chunk_tokens ({}); got {overlap}",
            tokens / 2
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it was written before a collection could have several spaces, to the letter.
    #[test]
    fn a_configuration_of_one_space_reads_and_writes_as_ever() {
        for old in [
            r#"{"model":null,"chunk_tokens":256,"chunk_overlap":32,"chunker":"auto"}"#,
            concat!(
                r#"{"model":{"id":"builtin","backend":"builtin","dims":256,"max_tokens":512,"special_tokens":0,"#,
                r#""metric":"cosine","pooling":"mean","normalized":true,"hybrid_weight":0.3},"#,
                r#""model_source":"builtin","chunk_tokens":256,"chunk_overlap":32,"chunker":"markdown"}"#
            ),
        ] {
            let config: StoredConfig = serde_json::from_str(old).expect("it was written so");
            assert!(config.spaces.is_empty());
            assert_eq!(serde_json::to_string(&config).expect("it can be written"), old);
        }
    }
}
