//! What goes in and what comes out: documents, queries, hits and reports.
//!
//! These names are the same in the library, on the command line and over HTTP; the JSON field names are serde's.

use std::collections::BTreeMap;
use std::time::SystemTime;

pub use quiverdb_storage::{BackedUp, CacheStats, Compacted, EF_MAX, SegmentSearch, Strategy};
use quiverdb_storage::{DocumentId, Effort, Filter, Metric, TextQuery};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::images::Image;
use crate::moment;
use crate::rerank::Rerank;
use crate::{Error, Result};

/// A text with an id, and what is known about it.
///
/// ```
/// use quiverdb::Document;
/// use serde_json::json;
///
/// let note = Document::new("rust-book", "Ownership is Rust's most unique feature.")
///     .title("Understanding Ownership")
///     .metadata(json!({"lang": "en", "year": 2024}));
/// assert_eq!(note.id, "rust-book".into());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The id: a string of 1 to 512 bytes or an integer, kept as given.
    pub id: DocumentId,
    /// The text; chunks are byte ranges of it. May be empty: such a document has no chunks.
    pub text: String,
    /// Seen by both search legs together with every chunk.
    pub title: Option<String>,
    /// A JSON object; filters read it.
    pub metadata: Value,
    /// The document's own vector in the default space. The document is then one chunk, and the model of that space embeds
    /// nothing.
    pub vector: Option<Vec<f32>>,
    /// The document's vectors in further spaces, by the space's name: one for each external space of the collection, and
    /// for no other. Every chunk of the document has this vector.
    pub vectors: BTreeMap<String, Vec<f32>>,
    /// When it expires, to the millisecond; `None` is never. From then on it is found by nothing: no search, filter, scan or
    /// look-up, however it was indexed. Its rows go with later writes, [`crate::Database::compact`], or
    /// [`crate::Collection::sweep`]. A document that has expired when it is added is taken all the same, since clocks differ
    /// and other programs may mean it so; [`AddReport::expired`] counts it.
    pub expires_at: Option<SystemTime>,
    /// What models made of the document elsewhere, as an export carries it. A collection takes the vectors of those chunks
    /// that it would make itself, where its model is the same, and embeds the others; the content is the same either way.
    pub embedded: Option<Box<Embedded>>,
}

/// The chunks of a document with the vectors that models made of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Embedded {
    /// Each space's model and size of chunks, as a digest.
    pub models: BTreeMap<String, String>,
    /// The chunks, in order.
    pub chunks: Vec<EmbeddedChunk>,
}

/// A chunk of a document with the vectors that models made of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EmbeddedChunk {
    /// Where it begins, in bytes of the document's text.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// The headings above it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub heading: String,
    /// A digest of the title, the headings and the passage that the models read.
    pub digest: String,
    /// Its vectors, by space.
    pub vectors: BTreeMap<String, Vec<f32>>,
}

impl Document {
    /// A document of this id and text.
    pub fn new(id: impl Into<DocumentId>, text: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            text: text.into(),
            title: None,
            metadata: Value::Object(Map::new()),
            vector: None,
            vectors: BTreeMap::new(),
            expires_at: None,
            embedded: None,
        }
    }

    /// Has it expire at this time of day.
    ///
    /// ```
    /// # fn main() -> quiverdb::Result<()> {
    /// use std::time::{Duration, SystemTime};
    /// use quiverdb::{Database, Document, Query};
    ///
    /// let notes = Database::in_memory()?.collection("notes")?;
    /// let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    /// notes.add(Document::new("offer", "Pears are cheap until tomorrow.").expires_at(tomorrow))?;
    /// notes.add(Document::new("old", "Pears were cheap.").expires_at(SystemTime::now()))?;
    /// assert_eq!((notes.count()?, notes.search(Query::text("pears"))?.hits.len()), (1, 1));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.expires_at = Some(time);
        self
    }

    /// Sets the title.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Sets the metadata, a JSON object. Anything else is refused when the document is added.
    #[must_use]
    pub fn metadata(mut self, metadata: Value) -> Self {
        self.metadata = metadata;
        self
    }

    /// Brings the document's own vector in the default space.
    #[must_use]
    pub fn vector(mut self, vector: Vec<f32>) -> Self {
        self.vector = Some(vector);
        self
    }

    /// Brings the document's vector in a further space without a model ([`crate::CollectionConfig::space`]). It stands for
    /// the document as a whole: each of its chunks has it, so that they are equally near in this space;
    /// [`Query::group`] returns each document once.
    ///
    /// ```
    /// # fn main() -> quiverdb::Result<()> {
    /// use quiverdb::{CollectionConfig, Database, Document, Query, SpaceConfig};
    ///
    /// let config = CollectionConfig::new().space("colour", SpaceConfig::external(3));
    /// let things = Database::in_memory()?.collection_with("things", config)?;
    /// things.add(Document::new("rose", "A flower with thorns.").vector_in("colour", vec![0.9, 0.1, 0.2]))?;
    /// things.add(Document::new("fir", "A tree with needles.").vector_in("colour", vec![0.1, 0.6, 0.2]))?;
    /// let green = things.search(Query::vector(vec![0.0, 1.0, 0.0]).space("colour"))?;
    /// let words = things.search(Query::text("something with thorns"))?;
    /// assert_eq!((&green.hits[0].document, &words.hits[0].document), (&"fir".into(), &"rose".into()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn vector_in(mut self, space: impl Into<String>, vector: Vec<f32>) -> Self {
        self.vectors.insert(space.into(), vector);
        self
    }
}

/// As on the command line: `{"id", "title"?, "text", "metadata", "vector"?, "vectors"?, "expires_at"?, "embedded"?}`.
impl Serialize for Document {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        if let Some(title) = &self.title {
            map.serialize_entry("title", title)?;
        }
        map.serialize_entry("text", &self.text)?;
        map.serialize_entry("metadata", &self.metadata)?;
        if let Some(vector) = &self.vector {
            map.serialize_entry("vector", vector)?;
        }
        if !self.vectors.is_empty() {
            map.serialize_entry("vectors", &self.vectors)?;
        }
        if let Some(time) = self.expires_at {
            let millis = moment::millis(time);
            // Beyond the year 9999 there are no words for it.
            match moment::rfc3339_of_millis(millis) {
                Some(text) => map.serialize_entry("expires_at", &text)?,
                None => map.serialize_entry("expires_at", &(millis / 1_000))?,
            }
        }
        if let Some(embedded) = &self.embedded {
            map.serialize_entry("embedded", embedded)?;
        }
        map.end()
    }
}

/// Which legs of the search answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Vectors and text, fused. The default, because it is measured better than either.
    #[default]
    Hybrid,
    /// Vectors alone.
    Dense,
    /// Text (BM25) alone.
    Text,
}

impl Mode {
    /// The name used in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hybrid => "hybrid",
            Self::Dense => "dense",
            Self::Text => "text",
        }
    }
}

/// How the dense and the text leg are fused.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fusion {
    /// `(w * similarity + BM25 / its attainable maximum) / (w + 1)`; measured better than either leg alone.
    Score {
        /// The dense leg's weight `w`; by default the one in the model's spec.
        weight: Option<f32>,
    },
    /// Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009): the sum of `1 / (k + rank)` over the legs,
    /// divided by its attainable maximum.
    ReciprocalRank {
        /// Damps the difference between first ranks; 60 in the paper.
        k: f32,
    },
}

/// The `k` of the paper.
pub const RECIPROCAL_RANK_K: f32 = 60.0;

impl Default for Fusion {
    fn default() -> Self {
        Self::Score { weight: None }
    }
}

impl Fusion {
    /// Refuses parameters that would not order hits.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a weight or `k` that is negative or not finite.
    pub fn validate(&self) -> Result<()> {
        let (name, value) = match self {
            Self::Score { weight: None } => return Ok(()),
            Self::Score { weight: Some(weight) } => ("fusion weight", *weight),
            Self::ReciprocalRank { k } => ("reciprocal rank's k", *k),
        };
        if value.is_finite() && value >= 0.0 {
            return Ok(());
        }
        Err(Error::invalid(format!("the {name} must be 0 or more; got {value}")))
    }
}

/// A search: a text, a vector, or both, and how to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub(crate) text: Option<String>,
    pub(crate) syntax: bool,
    pub(crate) vector: Option<Vec<f32>>,
    pub(crate) image: Option<Image>,
    pub(crate) space: Option<String>,
    pub(crate) limit: usize,
    pub(crate) mode: Option<Mode>,
    pub(crate) filter: Option<Filter>,
    pub(crate) min_score: Option<f32>,
    pub(crate) group: bool,
    pub(crate) mmr: Option<f32>,
    pub(crate) fusion: Option<Fusion>,
    pub(crate) candidates: Option<usize>,
    pub(crate) effort: Option<f64>,
    pub(crate) ef: Option<usize>,
    pub(crate) exact: bool,
    pub(crate) explain: bool,
    pub(crate) rerank: Option<Rerank>,
}

/// The most hits that one query may ask for.
pub const LIMIT_MAX: usize = 10_000;

impl Query {
    fn empty() -> Self {
        Self {
            text: None,
            syntax: false,
            vector: None,
            image: None,
            space: None,
            limit: 10,
            mode: None,
            filter: None,
            min_score: None,
            group: false,
            mmr: None,
            fusion: None,
            candidates: None,
            effort: None,
            ef: None,
            exact: false,
            explain: false,
            rerank: None,
        }
    }

    /// Asks with words. They are embedded for the dense leg and analysed for the text leg.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::empty() }
    }

    /// Asks with a vector of the space's dimensions: the dense leg alone, unless [`Query::with_text`] adds words.
    pub fn vector(vector: Vec<f32>) -> Self {
        Self { vector: Some(vector), ..Self::empty() }
    }

    /// Asks with a picture: what is near to the vector that the space's model makes of it. The model must read images
    /// ([`crate::embed::ModelSpec::images`]), as CLIP does; pictures and texts are found alike.
    ///
    /// ```no_run
    /// # fn main() -> quiverdb::Result<()> {
    /// use quiverdb::{CollectionConfig, Database, Document, Image, Query};
    ///
    /// let db = Database::open("album.db")?;
    /// let album = db.collection_with("album", CollectionConfig::new().model("clip-ViT-B-32"))?;
    /// let (beach, forest) = (Image::open("beach.jpg".as_ref())?, Image::open("forest.png".as_ref())?);
    /// let vector = album.embed_images(&[beach])?.values;
    /// album.add(Document::new("beach", "beach.jpg").vector(vector))?;
    /// let alike = album.search(Query::image(forest))?;
    /// let by_words = album.search(Query::text("waves and sand"))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn image(image: Image) -> Self {
        Self { image: Some(image), ..Self::empty() }
    }

    /// Adds words for the text leg to a query by vector or by image.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// The vector space that the dense leg searches; the default one unless told. A text is embedded by the model of that
    /// space; where it has none, the query needs a vector of that space, or mode `text`.
    #[must_use]
    pub fn space(mut self, name: impl Into<String>) -> Self {
        self.space = Some(name.into());
        self
    }

    /// Reads the text in the query syntax of [`TextQuery`]: `"data race"` for a phrase, `thread*` for a prefix, `mutx~`
    /// for a fuzzy word, `+must`, `-not`, `AND`, `OR`, `NOT` and parentheses. In every mode only chunks that satisfy it are
    /// hits; the dense leg embeds its words without signs and without what it excludes.
    ///
    /// ```
    /// # fn main() -> quiverdb::Result<()> {
    /// use quiverdb::{Database, Document, Query};
    ///
    /// let notes = Database::in_memory()?.collection("notes")?;
    /// notes.add(Document::new("a", "A mutex prevents data races."))?;
    /// notes.add(Document::new("b", "Data about a race of horses."))?;
    /// let hits = notes.search(Query::text("+\"data race\" mutx~ -horse*").syntax())?.hits;
    /// assert_eq!((hits.len(), &hits[0].document), (1, &"a".into()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn syntax(mut self) -> Self {
        self.syntax = true;
        self
    }

    /// The number of hits wanted, 1 to [`LIMIT_MAX`]; 10 by default. Fewer come back only when fewer exist.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Which legs answer: by default both where the query has words, else the dense one.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Only chunks of documents that match. The filter is part of retrieval: `limit` hits come back if so many match.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Drops hits whose final score is lower.
    #[must_use]
    pub fn min_score(mut self, score: f32) -> Self {
        self.min_score = Some(score);
        self
    }

    /// At most one hit a document: its best chunk.
    #[must_use]
    pub fn group(mut self, group: bool) -> Self {
        self.group = group;
        self
    }

    /// Trades relevance for variety by maximal marginal relevance: 1 is relevance alone, 0 variety alone.
    #[must_use]
    pub fn mmr(mut self, lambda: f32) -> Self {
        self.mmr = Some(lambda);
        self
    }

    /// How the two legs are fused; by default by score, with the weight that the model's spec names.
    #[must_use]
    pub fn fusion(mut self, fusion: Fusion) -> Self {
        self.fusion = Some(fusion);
        self
    }

    /// How many chunks each leg hands to the fusion: by default 100 or four times the limit, whichever is more.
    #[must_use]
    pub fn candidates(mut self, candidates: usize) -> Self {
        self.candidates = Some(candidates);
        self
    }

    /// How hard the search for the nearest vectors tries, from 0 to 1, a third by default: each sixth more keeps twice as
    /// many candidates and takes nearly twice as long. What is not sealed yet is always compared in full.
    #[must_use]
    pub fn effort(mut self, effort: f64) -> Self {
        self.effort = Some(effort);
        self
    }

    /// As [`Query::effort`], by the candidates that a walk through a graph keeps, `ef` in the literature: 1 to [`EF_MAX`],
    /// 64 by default, and half more than the chunks that the leg hands to the fusion where that is more.
    #[must_use]
    pub fn ef(mut self, ef: usize) -> Self {
        self.ef = Some(ef);
        self
    }

    /// Compares every vector in full precision: the true nearest, at the cost of reading all.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Has a second model judge the best candidates again, which then stand in the order of its judgement: the name of a
    /// cross-encoder, a loaded [`crate::rerank::Reranker`], or a [`Rerank`] that says how deep and for how long. Needs words.
    ///
    /// Costs the model's time for each candidate: an encoder of the size of all-MiniLM-L6-v2 reads 106 passages of 112
    /// tokens a second on two cores.
    #[must_use]
    pub fn rerank(mut self, rerank: impl Into<Rerank>) -> Self {
        self.rerank = Some(rerank.into());
        self
    }

    /// Tells in the results how each segment was searched.
    #[must_use]
    pub fn explain(mut self) -> Self {
        self.explain = true;
        self
    }

    pub(crate) fn search_effort(&self) -> Effort {
        match (self.exact, self.ef, self.effort) {
            (true, _, _) => Effort::Exact,
            (false, Some(ef), _) => Effort::Ef(ef),
            (false, None, Some(effort)) => Effort::of(effort),
            (false, None, None) => Effort::Usual,
        }
    }

    /// Refuses what no collection could answer. A search asks this first; ask it yourself before other work that a bad
    /// query would waste.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a limit, score or weight out of range, for an empty text, and for one that is not of
    /// the query syntax where it is to be read in it.
    pub fn validate(&self) -> Result<()> {
        if self.limit == 0 || self.limit > LIMIT_MAX {
            return Err(Error::invalid(format!("limit must be 1 to {LIMIT_MAX}; got {}", self.limit)));
        }
        if self.min_score.is_some_and(f32::is_nan) {
            return Err(Error::invalid("min_score is not a number"));
        }
        if let Some(lambda) = self.mmr.filter(|lambda| !(0.0..=1.0).contains(lambda)) {
            return Err(Error::invalid(format!("mmr must lie between 0 (variety) and 1 (relevance); got {lambda}")));
        }
        if let Some(fusion) = &self.fusion {
            fusion.validate()?;
        }
        if let Some(ef) = self.ef.filter(|ef| !(1..=EF_MAX).contains(ef)) {
            return Err(Error::invalid(format!(
                "ef must be 1 to {EF_MAX}; got {ef}. To compare all, ask for exact search"
            )));
        }
        if let Some(effort) = self.effort.filter(|effort| !(0.0..=1.0).contains(effort)) {
            return Err(Error::invalid(format!("effort must lie between 0 and 1; got {effort}")));
        }
        if let Some(rerank) = &self.rerank {
            rerank.validate()?;
            if self.text.is_none() {
                return Err(Error::invalid("reranking needs the words of the query; it has a vector or an image only"));
            }
        }
        if self.text.as_deref().is_some_and(|text| text.trim().is_empty()) {
            return Err(Error::invalid("the query is empty; ask with at least one word"));
        }
        self.text_query().map(drop)
    }

    /// The text as the query syntax reads it; `None` where it is plain words.
    pub(crate) fn text_query(&self) -> Result<Option<TextQuery>> {
        match (&self.text, self.syntax) {
            (_, false) => Ok(None),
            (Some(text), true) => Ok(Some(TextQuery::parse(text)?)),
            (None, true) => {
                Err(Error::invalid("the query syntax needs words to read; the query has a vector or an image only"))
            }
        }
    }
}

/// A passage that answers, and why it stands where it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hit {
    /// The document's id.
    pub document: DocumentId,
    /// Which chunk of the document, counted from 0.
    pub chunk: u32,
    /// Where the passage begins, in bytes of the document's text.
    pub start: usize,
    /// Where it ends: `document.text[start..end] == text`.
    pub end: usize,
    /// The passage.
    pub text: String,
    /// The document's title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The headings above the passage, outermost first, joined by ` > `.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub heading: String,
    /// The page (of slides, the slide) on which the passage begins, from 1, where the document's text has pages: as many
    /// form feeds as the number `pages` in its metadata says, less one. Texts of PDF files and slides have them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<usize>,
    /// The document's metadata.
    pub metadata: Value,
    /// The score that orders the hits: larger is better. Of a hit that a reranker was asked about and did not judge 0, in the
    /// order of the first stage.
    pub score: f32,
    /// The score of each stage.
    pub scores: Scores,
    /// The rank in each leg, from 1; absent where the leg did not bring this chunk among its candidates.
    pub ranks: Ranks,
}

/// The score of each stage; absent where the stage did not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Scores {
    /// The metric's similarity (cosine in -1..1; dot product; negated Euclidean distance).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dense: Option<f32>,
    /// BM25, 0 where no query term occurs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<f32>,
    /// The fused score, in 0..1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fused: Option<f32>,
    /// The reranker's probability that the passage answers, in 0..1; none where it did not judge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerank: Option<f32>,
}

/// The rank of a hit in each leg, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ranks {
    /// In the dense leg.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dense: Option<usize>,
    /// In the text leg.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<usize>,
}

/// What a search returns: hits, best first, and how they came about. Iterate over it for the hits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SearchResults {
    /// Best first; equal scores in order of document id and chunk.
    pub hits: Vec<Hit>,
    /// The mode that answered.
    pub mode: Mode,
    /// What was left out, in words, where something was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// How each segment was searched for the nearest vectors, where the query asked to explain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Vec<SegmentSearch>>,
    /// Milliseconds by stage.
    pub timings_ms: Timings,
}

/// Milliseconds spent in each stage of a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Timings {
    /// Query to vector.
    pub embed: f64,
    /// Filter to bitmap.
    pub filter: f64,
    /// Both legs.
    pub retrieve: f64,
    /// Ranked lists to one list.
    pub fuse: f64,
    /// The reranker's judgement, passages read for it included.
    pub rerank: f64,
    /// Chunk numbers to passages.
    pub hydrate: f64,
    /// From start to end.
    pub total: f64,
}

impl IntoIterator for SearchResults {
    type Item = Hit;
    type IntoIter = std::vec::IntoIter<Hit>;

    fn into_iter(self) -> Self::IntoIter {
        self.hits.into_iter()
    }
}

impl<'a> IntoIterator for &'a SearchResults {
    type Item = &'a Hit;
    type IntoIter = std::slice::Iter<'a, Hit>;

    fn into_iter(self) -> Self::IntoIter {
        self.hits.iter()
    }
}

/// What became of the documents given.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AddReport {
    /// Documents that were not there before.
    pub added: u64,
    /// Documents whose content differed from the stored one.
    pub replaced: u64,
    /// Documents that were there just so; they cost nothing.
    pub unchanged: u64,
    /// Documents removed because their source is gone (`--sync`).
    pub removed: u64,
    /// Documents and files not taken, each with its reason.
    pub rejected: Vec<Rejected>,
    /// Chunks sent to the model; where several spaces have one, chunks that went to any of them.
    pub chunks_embedded: u64,
    /// Chunks of replaced documents whose text was unchanged; their vectors were kept.
    pub chunks_reused: u64,
    /// Texts that were longer than the model's limit; counted for each model that read them.
    pub texts_truncated: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Of these, the seconds in which a model was at work. Reading, chunking and writing go on beside it, so the rest is
    /// what they cost.
    #[serde(skip)]
    pub embedding_seconds: f64,
    /// Chunks that were in no replaced document, and whose text some model of this identity had embedded before, in whatever
    /// document and collection: their vectors came from the database's cache.
    pub chunks_cached: u64,
    /// Documents among those added and replaced that had expired already ([`Document::expires_at`]): nothing finds them.
    pub expired: u64,
}

impl AddReport {
    /// Counts what another report of the same run counts.
    pub fn take_up(&mut self, other: Self) {
        let Self {
            added,
            replaced,
            unchanged,
            removed,
            mut rejected,
            chunks_embedded,
            chunks_reused,
            texts_truncated,
            seconds,
            embedding_seconds,
            chunks_cached,
            expired,
        } = other;
        self.added += added;
        self.replaced += replaced;
        self.unchanged += unchanged;
        self.removed += removed;
        self.rejected.append(&mut rejected);
        self.chunks_embedded += chunks_embedded;
        self.chunks_reused += chunks_reused;
        self.texts_truncated += texts_truncated;
        self.seconds += seconds;
        self.embedding_seconds += embedding_seconds;
        self.chunks_cached += chunks_cached;
        self.expired += expired;
    }
}

/// A document or file that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// The document's id or the file's path.
    pub source: String,
    /// Why, and what would help.
    pub reason: String,
}

/// A collection in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CollectionStats {
    /// Its name.
    pub name: String,
    /// Live documents.
    pub documents: u64,
    /// Live chunks.
    pub chunks: u64,
    /// Sealed segments.
    pub segments: u64,
    /// Bytes that the whole database takes on disk (collections share one file); 0 in memory.
    pub bytes_on_disk: u64,
    /// The id of its model, or `external`: that of its default space.
    pub model: String,
    /// Dimensions of its vectors, in its default space.
    pub dims: usize,
    /// All its spaces.
    pub spaces: Vec<SpaceStats>,
    /// Other names that lead to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Why its last segment could not be built or opened by this process; `None` where all is well. Searches are right
    /// without it, and slower; it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealing_error: Option<String>,
    /// What is being made of it by [`crate::Collection::reembed`], and how far that is; `None` where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reembedding: Option<ReembedStatus>,
}

impl CollectionStats {
    /// Whether one of its spaces has this model.
    pub fn has_model(&self, model: &str) -> bool {
        self.spaces.iter().any(|space| space.model == model)
    }
}

/// A collection that is being made anew, with another model or other chunks, while the old one answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReembedStatus {
    /// The spaces that it will have.
    pub spaces: Vec<SpaceStats>,
    /// The size of its chunks.
    pub chunk_tokens: usize,
    /// Documents that are done.
    pub documents: u64,
    /// Documents of the collection that answers.
    pub documents_total: u64,
}

/// A vector space of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpaceStats {
    /// Its name; every collection has one named `default`.
    pub name: String,
    /// The id of its model, or `external`.
    pub model: String,
    /// Dimensions of its vectors.
    pub dims: usize,
    /// How vectors are compared.
    pub metric: Metric,
}
