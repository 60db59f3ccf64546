//! How does an answer look? As `quiver search --json` prints it.
//!
//! Invariant: where a question asks for no part in particular, the library's own JSON goes out, byte by byte; the types here
//! describe it for the OpenAPI document, and a test compares the two.

use std::ops::Range;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::question::{ModeForm, Part, Search};
use crate::server::app::Answer;
use crate::server::failure::Failure;
use crate::{Collection, SearchResults};

/// The answer to one search.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Found {
    /// As the library writes it.
    Whole(SearchResults),
    /// With parts left out or added.
    Parts(Value),
}

impl Found {
    /// Leaves out of each hit what was not asked for, and adds what was.
    pub(super) fn of(collection: &Collection, search: &Search, results: SearchResults) -> Answer<Self> {
        let words = search.words().filter(|_| search.highlight == Some(true));
        if search.include.is_none() && search.highlight != Some(true) {
            return Ok(Self::Whole(results));
        }
        let highlights = results.hits.iter().map(|hit| match words {
            None => Ok(Vec::new()),
            Some((words, true)) => collection.syntax_highlights(words, &hit.text),
            Some((words, false)) => Ok(collection.highlights(words, &hit.text)),
        });
        let highlights: Vec<Vec<Range<usize>>> = highlights.collect::<crate::Result<_>>()?;
        let unwritten = |error| Failure::internal(format!("the answer cannot be written: {error}"));
        // Through text, so that numbers look as they do where nothing is left out.
        let text = serde_json::to_string(&results).map_err(unwritten)?;
        let mut value: Value = serde_json::from_str(&text).map_err(unwritten)?;
        let hits = value.get_mut("hits").and_then(Value::as_array_mut).into_iter().flatten();
        for (hit, highlights) in hits.filter_map(Value::as_object_mut).zip(highlights) {
            leave_out(hit, search.include.as_deref());
            if search.highlight == Some(true) {
                let ranges = highlights.into_iter().map(|Range { start, end }| json!([start, end])).collect();
                hit.insert("highlights".to_owned(), Value::Array(ranges));
            }
        }
        Ok(Self::Parts(value))
    }
}

fn leave_out(hit: &mut Map<String, Value>, include: Option<&[Part]>) {
    let Some(include) = include else { return };
    for (part, name) in Part::ALL {
        if !include.contains(&part) {
            hit.shift_remove(name);
        }
    }
}

/// The answer to a search
#[derive(utoipa::ToSchema)]
#[schema(as = SearchResults)]
#[allow(dead_code, reason = "it describes what the library writes")]
pub(super) struct ResultsForm {
    /// Best first; equal scores in order of document id and chunk.
    hits: Vec<HitForm>,
    /// The mode that answered.
    mode: ModeForm,
    /// What was left out, in words, where something was.
    #[schema(required = false, nullable = false)]
    degraded: Option<String>,
    /// How each segment was searched, where the question asked to explain.
    #[schema(required = false, nullable = false)]
    plan: Option<Vec<PlanForm>>,
    /// Milliseconds by stage.
    timings_ms: TimingsForm,
}

/// A passage that answers
#[derive(utoipa::ToSchema)]
#[schema(as = Hit)]
#[allow(dead_code, reason = "it describes what the library writes")]
struct HitForm {
    document: IdForm,
    /// Which chunk of the document, counted from 0.
    chunk: u32,
    /// Where the passage begins, in bytes of the document's text.
    start: usize,
    /// Where it ends.
    end: usize,
    /// The passage.
    #[schema(required = false, nullable = false)]
    text: Option<String>,
    /// The document's title.
    #[schema(required = false, nullable = false)]
    title: Option<String>,
    /// The headings above the passage, outermost first, joined by ` > `.
    #[schema(required = false, nullable = false)]
    heading: Option<String>,
    /// The page on which it begins, from 1, where the document has pages.
    #[schema(required = false, nullable = false)]
    page: Option<usize>,
    /// The document's metadata.
    #[schema(required = false, nullable = false)]
    metadata: Option<Map<String, Value>>,
    /// The score that orders the hits: larger is better.
    score: f32,
    #[schema(required = false, nullable = false)]
    scores: Option<ScoresForm>,
    #[schema(required = false, nullable = false)]
    ranks: Option<RanksForm>,
    /// Where the words are in `text`: pairs of bytes, the second behind the last. Where `highlight` asked for it.
    #[schema(required = false, nullable = false)]
    highlights: Option<Vec<Vec<usize>>>,
}

/// A document's id, as it was given
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = DocumentId)]
#[serde(untagged)]
#[allow(dead_code, reason = "it describes what the library writes")]
pub(super) enum IdForm {
    Text(String),
    Number(i64),
}

/// The score of each stage; absent where the stage did not run
#[derive(utoipa::ToSchema)]
#[schema(as = Scores)]
#[allow(dead_code, reason = "it describes what the library writes")]
struct ScoresForm {
    /// The metric's similarity.
    #[schema(required = false, nullable = false)]
    dense: Option<f32>,
    /// BM25.
    #[schema(required = false, nullable = false)]
    text: Option<f32>,
    /// The fused score, in 0..1.
    #[schema(required = false, nullable = false)]
    fused: Option<f32>,
    /// The reranker's probability that the passage answers.
    #[schema(required = false, nullable = false)]
    rerank: Option<f32>,
}

/// The rank in each leg, from 1; absent where the leg did not bring the passage
#[derive(utoipa::ToSchema)]
#[schema(as = Ranks)]
#[allow(dead_code, reason = "it describes what the library writes")]
struct RanksForm {
    #[schema(required = false, nullable = false)]
    dense: Option<usize>,
    #[schema(required = false, nullable = false)]
    text: Option<usize>,
}

/// How a segment was searched for the nearest vectors
#[derive(utoipa::ToSchema)]
#[schema(as = SegmentSearch)]
#[allow(dead_code, reason = "it describes what the library writes")]
struct PlanForm {
    segment: u64,
    strategy: String,
    /// Codes that were compared.
    compared: u64,
    /// Vectors that were compared in full precision.
    rescored: u64,
}

/// Milliseconds spent in each stage
#[derive(utoipa::ToSchema)]
#[schema(as = Timings)]
#[allow(dead_code, reason = "it describes what the library writes")]
struct TimingsForm {
    embed: f64,
    filter: f64,
    retrieve: f64,
    fuse: f64,
    rerank: f64,
    hydrate: f64,
    total: f64,
}

/// A context and where each of its passages comes from
#[derive(utoipa::ToSchema)]
#[schema(as = Context)]
#[allow(dead_code, reason = "it describes what the library writes")]
pub(super) struct ContextForm {
    /// What to hand to the model.
    text: String,
    /// In order of their numbers.
    citations: Vec<CitationForm>,
    /// The tokens of `text`.
    tokens: usize,
}

/// Where a passage of a context comes from
#[derive(utoipa::ToSchema)]
#[schema(as = Citation)]
#[allow(dead_code, reason = "it describes what the library writes")]
struct CitationForm {
    /// The number that the context cites it by, from 1.
    number: usize,
    document: String,
    /// Its first byte in the document's text.
    start: usize,
    /// The byte behind its last.
    end: usize,
    /// The page on which it begins, where the document has pages.
    #[schema(required = false, nullable = false)]
    page: Option<usize>,
}
