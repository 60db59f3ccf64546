//! What does a body ask, in the library's words?
//!
//! Invariants: every name is the library's; what is not known is refused by its name; all that costs memory is held to the
//! limits before a byte is taken for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::rerank::{DEPTH_DEFAULT, Rerank};
use crate::server::app::{Answer, App};
use crate::server::failure::Failure;
use crate::types::{Fusion, LIMIT_MAX, RECIPROCAL_RANK_K};
use crate::{Filter, Mode, Query};

/// Defines a body that asks a question: what every question has, and what this one has besides.
macro_rules! question {
    ($(#[$about:meta])* $name:ident { $($(#[$said:meta])* $field:ident: $kind:ty,)* }) => {
        #[derive(Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        $(#[$about])*
        pub(super) struct $name {
            /// The words to search for. This, `vector`, or both.
            #[schema(min_length = 1)]
            query: Option<String>,
            /// A vector of the space's dimensions, in place of the one that its model makes of the words.
            vector: Option<Vec<f32>>,
            /// The vector space to search; the default one where absent.
            space: Option<String>,
            /// Hits wanted; 10 where absent.
            #[schema(minimum = 1, maximum = 10000)]
            limit: Option<usize>,
            /// Which legs answer; both where there are words.
            mode: Option<ModeForm>,
            /// Which documents may answer: an object such as `{"year": {"gte": 2020}}`, or a text such as
            /// `year >= 2020 AND lang IN ('en', 'de')`.
            #[schema(value_type = Option<FilterForm>)]
            filter: Option<Value>,
            /// Has a second model judge the best candidates again.
            rerank: Option<RerankForm>,
            /// Drops hits whose final score is lower.
            min_score: Option<f32>,
            /// At most one hit a document: its best passage.
            group: Option<bool>,
            /// Trades relevance (1) for variety (0) by maximal marginal relevance.
            #[schema(minimum = 0, maximum = 1)]
            mmr: Option<f32>,
            /// How the two legs are fused.
            fusion: Option<FusionForm>,
            /// Chunks that each leg hands to the fusion.
            #[schema(minimum = 1, maximum = 10000)]
            candidates: Option<usize>,
            /// How hard the search for the nearest vectors tries.
            #[schema(minimum = 0, maximum = 1)]
            effort: Option<f64>,
            /// As `effort`, by the candidates that a walk through a graph keeps.
            #[schema(minimum = 1)]
            ef: Option<usize>,
            /// Compares every vector in full precision.
            exact: Option<bool>,
            /// Reads the words in the query syntax: `"a phrase"`, `prefix*`, `fuzzy~`, `+must`, `-not`, `AND`, `OR`, `NOT`,
            /// parentheses.
            syntax: Option<bool>,
            $($(#[$said])* pub(super) $field: $kind,)*
        }

        impl $name {
            /// What it asks of a collection.
            ///
            /// # Errors
            /// A failure that names the value which is out of range, not known, or beyond the limits.
            pub(super) fn question(&self, app: &App) -> Answer<Query> {
                let Self { query, vector, space, limit, mode, filter, rerank, min_score, group, mmr, fusion, .. } = self;
                let Self { candidates, effort, ef, exact, syntax, .. } = self;
                let mut asked = asked(app, query.as_deref(), vector.as_deref())?;
                asked = asked.limit(within(app, limit.unwrap_or(LIMIT_DEFAULT))?).group(*group == Some(true));
                asked = set(asked, space.clone(), Query::space);
                asked = set(asked, mode.map(Mode::from), Query::mode);
                asked = set(asked, filter.as_ref().map(read_filter).transpose()?, Query::filter);
                asked = set(asked, *min_score, Query::min_score);
                asked = set(asked, *mmr, Query::mmr);
                asked = set(asked, fusion.map(Fusion::from), Query::fusion);
                asked = set(asked, candidates.map(in_reach).transpose()?, Query::candidates);
                asked = set(asked, *effort, Query::effort);
                asked = set(asked, *ef, Query::ef);
                asked = if *exact == Some(true) { asked.exact() } else { asked };
                asked = if *syntax == Some(true) { asked.syntax() } else { asked };
                asked.validate()?;
                let rerank = rerank.as_ref().map(|rerank| rerank.read(app)).transpose()?;
                let asked = set(asked, rerank, Query::rerank);
                asked.validate()?;
                Ok(asked)
            }

            /// The most hits that may come of it.
            pub(super) fn hits(&self) -> usize {
                self.limit.unwrap_or(LIMIT_DEFAULT)
            }
        }
    };
}

question! {
    /// A search
    #[schema(example = json!({"query": "how does borrowing work?", "limit": 5, "filter": {"lang": "en"}}))]
    Search {
        /// Says in `plan` how each segment was searched.
        explain: Option<bool>,
        /// Has each hit say in `highlights` which bytes of its text the words matched.
        highlight: Option<bool>,
        /// Which of these each hit has; all where absent.
        include: Option<Vec<Part>>,
    }
}

question! {
    /// A question whose answer is to fit into a prompt
    #[schema(example = json!({"query": "how does borrowing work?", "budget_tokens": 1000, "format": "xml"}))]
    Ask {
        /// The tokens that the context may take, as the collection's model counts them.
        #[schema(minimum = 1, maximum = 1000000)]
        budget_tokens: usize,
        /// How it is written; text where absent.
        format: Option<Written>,
        /// Passages before and after each hit that are read as well, where the budget has room.
        #[schema(minimum = 0, maximum = 100)]
        neighbours: Option<u32>,
    }
}

/// Hits where a question does not say.
const LIMIT_DEFAULT: usize = 10;

impl Search {
    /// The words as they were sent, and whether they are in the query syntax.
    pub(super) fn words(&self) -> Option<(&str, bool)> {
        Some((self.query.as_deref()?, self.syntax == Some(true)))
    }
}

fn set<T>(query: Query, value: Option<T>, with: impl FnOnce(Query, T) -> Query) -> Query {
    match value {
        Some(value) => with(query, value),
        None => query,
    }
}

fn asked(app: &App, text: Option<&str>, vector: Option<&[f32]>) -> Answer<Query> {
    let bytes_max = app.settings.limits.text_bytes;
    if let Some(text) = text.filter(|text| text.len() > bytes_max) {
        let message = format!("query: {} bytes, and this server takes {bytes_max} (limits.text_bytes)", text.len());
        return Err(Failure::invalid(message));
    }
    match (text, vector) {
        (Some(text), Some(vector)) => Ok(Query::vector(vector.to_vec()).with_text(text)),
        (Some(text), None) => Ok(Query::text(text)),
        (None, Some(vector)) => Ok(Query::vector(vector.to_vec())),
        (None, None) => Err(Failure::invalid("nothing is asked: give `query` (words), `vector`, or both")),
    }
}

/// A limit that this server gives.
fn within(app: &App, limit: usize) -> Answer<usize> {
    let hits_max = app.settings.limits.hits;
    if limit > hits_max {
        return Err(Failure::invalid(format!(
            "limit: {limit}, and this server gives at most {hits_max} hits (limits.hits); read all documents at \
             .../documents"
        )));
    }
    Ok(limit)
}

fn in_reach(candidates: usize) -> Answer<usize> {
    if (1..=LIMIT_MAX).contains(&candidates) {
        return Ok(candidates);
    }
    Err(Failure::invalid(format!("candidates: {candidates}, and each leg hands 1 to {LIMIT_MAX} chunks on")))
}

/// An object, or a text in the string form.
fn read_filter(given: &Value) -> Answer<Filter> {
    let filter = match given {
        Value::String(text) => text.parse(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Filter::from_json(given)
        }
    };
    filter.map_err(|error| Failure::invalid(format!("filter: {error}")))
}

/// A filter, as it is written
#[derive(utoipa::ToSchema)]
#[schema(as = Filter)]
#[allow(dead_code, reason = "it describes what `filter` takes")]
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum FilterForm {
    /// By field: a value that it must have, or an object of operators. `and`, `or` and `not` combine.
    Object(Map<String, Value>),
    /// The same in words: `year >= 2020 AND NOT lang = 'en'`.
    Text(String),
}

/// Which legs of the search answer
#[derive(Clone, Copy, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Mode)]
pub(super) enum ModeForm {
    /// Vectors and text, fused.
    Hybrid,
    /// Vectors alone.
    Dense,
    /// Text (BM25) alone.
    Text,
}

impl From<ModeForm> for Mode {
    fn from(mode: ModeForm) -> Self {
        match mode {
            ModeForm::Hybrid => Self::Hybrid,
            ModeForm::Dense => Self::Dense,
            ModeForm::Text => Self::Text,
        }
    }
}

/// How the two legs are fused
#[derive(Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = Fusion)]
pub(super) enum FusionForm {
    /// By score.
    Score {
        /// The dense leg's weight; the one in the model's spec where absent.
        #[schema(minimum = 0)]
        weight: Option<f32>,
    },
    /// Reciprocal rank fusion.
    ReciprocalRank {
        /// Damps the difference between first ranks; 60 where absent.
        #[schema(minimum = 0)]
        k: Option<f32>,
    },
}

impl From<FusionForm> for Fusion {
    fn from(form: FusionForm) -> Self {
        match form {
            FusionForm::Score { weight } => Self::Score { weight },
            FusionForm::ReciprocalRank { k } => Self::ReciprocalRank { k: k.unwrap_or(RECIPROCAL_RANK_K) },
        }
    }
}

/// With which model candidates are judged again, and how many
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Rerank)]
pub(super) struct RerankForm {
    /// One of the rerankers that the server's operator configured.
    model: String,
    /// How many of the best candidates are judged; 50 where absent.
    #[schema(minimum = 1, maximum = 1000)]
    depth: Option<usize>,
    /// Stops judging after so many milliseconds.
    budget_ms: Option<u32>,
}

impl RerankForm {
    fn read(&self, app: &App) -> Answer<Rerank> {
        let Self { model, depth, budget_ms } = self;
        let rerank = Rerank::named(model.as_str()).depth(depth.unwrap_or(DEPTH_DEFAULT));
        // Before a model is loaded for it.
        rerank.validate()?;
        let rerank = Rerank::with(app.reranker(model)?).depth(depth.unwrap_or(DEPTH_DEFAULT));
        Ok(match budget_ms {
            Some(ms) => rerank.budget(Duration::from_millis(u64::from(*ms))),
            None => rerank,
        })
    }
}

/// A part of a hit that may be left out
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Part {
    Text,
    Title,
    Heading,
    Metadata,
    Scores,
    Ranks,
}

impl Part {
    /// All of them, by the hit's own names.
    pub(super) const ALL: [(Self, &str); 6] = [
        (Self::Text, "text"),
        (Self::Title, "title"),
        (Self::Heading, "heading"),
        (Self::Metadata, "metadata"),
        (Self::Scores, "scores"),
        (Self::Ranks, "ranks"),
    ];
}

/// How a context is written
#[derive(Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Written {
    /// `[1] Title > Heading (document)` and the passage.
    Text,
    /// `<context><passage number="1" document="...">...</passage></context>`.
    Xml,
    /// `{"passages": [{"number": 1, "document": ..., "text": ...}]}`.
    Json,
}
