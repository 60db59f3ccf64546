//! How does a reranker on a server score passages?
//!
//! Three dialects say the same: Cohere's and Jina's (`/v1/rerank`: `documents` in, `relevance_score` out), and that of
//! text-embeddings-inference (`/rerank`: `texts` in, `score` out). A score belongs to a query and one passage alone, so
//! passages are sent in as many requests as the server likes.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::endpoint::Endpoint;
use super::http::{Client, Patience};
use crate::{Error, Result};

/// Passages of one request, as text-embeddings-inference has it by default.
const TEI_BATCH_MAX: usize = 32;
/// Passages of one request elsewhere; Cohere takes 1,000.
const BATCH_MAX: usize = 256;
const OPTIONS: &str = "`dialect` (cohere or tei) and `batch`";

/// What the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Cohere,
    Tei,
}

/// A reranker on a server.
pub struct RemoteReranker {
    endpoint: Endpoint,
    dialect: Dialect,
    batch: usize,
    client: Client,
}

/// Patience with a server that computes: a minute a request, three further tries.
pub(crate) fn patience() -> Patience {
    Patience {
        connect: Duration::from_secs(10),
        silence: Duration::from_secs(60),
        request: Some(Duration::from_secs(120)),
        retries: 3,
        pause: Duration::from_millis(500),
    }
}

#[derive(Deserialize)]
struct Scored {
    index: usize,
    #[serde(alias = "relevance_score")]
    score: f32,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Reply {
    Tei(Vec<Scored>),
    Cohere { results: Vec<Scored> },
}

impl RemoteReranker {
    /// The reranker that `http://host/v1#model` names: Cohere's dialect, or that of text-embeddings-inference where no
    /// model is named or `?dialect=tei` says so. `?batch=N` sets the passages of a request. Asks the server nothing yet.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a URL or an option that cannot be read.
    pub fn new(source: &str) -> Result<Self> {
        Self::with_patience(source, patience())
    }

    /// [`RemoteReranker::new`] with another patience.
    ///
    /// # Errors
    /// As [`RemoteReranker::new`].
    pub fn with_patience(source: &str, patience: Patience) -> Result<Self> {
        let mut endpoint = Endpoint::parse(source)?;
        let dialect = match endpoint.take("dialect").as_deref() {
            Some("tei") => Dialect::Tei,
            Some("cohere") => Dialect::Cohere,
            None if endpoint.model.is_none() => Dialect::Tei,
            None => Dialect::Cohere,
            Some(other) => {
                let message = format!("{}: there is no dialect `{other}`; it is `cohere` or `tei`", endpoint.name());
                return Err(Error::invalid(message));
            }
        };
        let usual = if dialect == Dialect::Tei { TEI_BATCH_MAX } else { BATCH_MAX };
        let batch = endpoint.take_number("batch")?.unwrap_or(usual);
        endpoint.expect_no_more(OPTIONS)?;
        Ok(Self { endpoint, dialect, batch, client: Client::new(patience)? })
    }

    /// Its name: URL and model.
    pub fn name(&self) -> String {
        self.endpoint.name()
    }

    /// The score of every passage, in their order: larger is better, and 0 to 1 with all servers known.
    ///
    /// # Errors
    /// [`Error::Reranking`] where the server does not answer, refuses, or does not score every passage.
    pub fn rerank(&self, query: &str, passages: &[&str]) -> Result<Vec<f32>> {
        let mut scores = Vec::with_capacity(passages.len());
        for batch in passages.chunks(self.batch) {
            scores.extend(self.ask(query, batch)?);
        }
        Ok(scores)
    }

    fn ask(&self, query: &str, passages: &[&str]) -> Result<Vec<f32>> {
        let body = match self.dialect {
            Dialect::Cohere => json!({
                "model": self.endpoint.model,
                "query": query,
                "documents": passages,
                "top_n": passages.len(),
                "return_documents": false,
            }),
            Dialect::Tei => json!({"query": query, "texts": passages, "raw_scores": false, "truncate": true}),
        };
        let url = format!("{}/rerank", self.endpoint.base);
        let answer = self
            .client
            .post(&url, self.endpoint.key().as_deref(), &body)
            .map_err(|refused| self.failed(&format!("{}{}", refused.reason, self.endpoint.key_hint(refused.status))))?;
        let scored = match serde_json::from_slice(&answer) {
            Ok(Reply::Tei(scored) | Reply::Cohere { results: scored }) => scored,
            Err(_) => return Err(self.failed("its answer is not that of a reranker: is the URL right, up to `/v1`?")),
        };
        let mut scores = vec![f32::NAN; passages.len()];
        for Scored { index, score } in scored {
            match scores.get_mut(index) {
                Some(place) if place.is_nan() && score.is_finite() => *place = score,
                _ => return Err(self.failed(&format!("it scored passage {index} of {} with {score}", passages.len()))),
            }
        }
        match scores.iter().filter(|score| score.is_nan()).count() {
            0 => Ok(scores),
            missing => Err(self.failed(&format!("it left out {missing} of {} passages", passages.len()))),
        }
    }

    fn failed(&self, reason: &str) -> Error {
        Error::Reranking(format!("{}: {reason}", self.endpoint.name()))
    }
}
