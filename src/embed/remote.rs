//! How does a server's model embed?
//!
//! Anything that speaks OpenAI's `/v1/embeddings`: OpenAI, Ollama, vLLM, text-embeddings-inference, llama.cpp. A source
//! looks like `http://host:port/v1#model-name?option=value`; the key comes from the environment and is never stored.
//!
//! Invariants: a batch is whole or an error, vectors stand in the order of their texts whatever order the server chose,
//! and all have the dimensions that the model had when it was opened. What a server changes behind a name cannot be seen
//! from here: the identity of such a model is its URL, its name and its dimensions.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::{Embedder, Embeddings, ModelSpec, WordStatistics};
use crate::models::endpoint::Endpoint;
use crate::models::http::{Client, Patience, Refused};
use crate::models::remote_rerank::patience;
use crate::{Error, Result};

/// Texts of one request: what text-embeddings-inference takes by default.
const BATCH_TEXTS_MAX: usize = 32;
/// Bytes of one request's texts, unless one alone has more.
const BATCH_BYTES_MAX: usize = 128 << 10;
/// Requests at a time.
const CONNECTIONS: usize = 4;
/// The longest text, where the source does not say; chunks are then at most that long.
const MAX_TOKENS: usize = 512;
/// As for a transformer on this machine.
const HYBRID_WEIGHT: f32 = 1.25;
const OPTIONS: &str =
    "`query` and `document` (prompts), `dims`, `tokens`, `batch`, `connections`, `encoding` (float or base64)";

/// A model that answers over HTTP.
pub struct RemoteEmbedder {
    endpoint: Endpoint,
    spec: ModelSpec,
    /// Sent as `dimensions`, where the source asks for so many.
    dims_asked: Option<usize>,
    encoding: &'static str,
    batch: usize,
    connections: usize,
    client: Client,
}

#[derive(Deserialize)]
struct Reply {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: Option<usize>,
    embedding: Numbers,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Numbers {
    Floats(Vec<f32>),
    Base64(String),
}

impl RemoteEmbedder {
    /// The model that a source names. Embeds one word to learn its dimensions, unless the source says them.
    ///
    /// Options: `query` and `document` are put before queries and passages; `dims` asks the server for so many dimensions;
    /// `tokens` is the longest text (512); `batch` texts go into a request (32), `connections` requests at a time (4);
    /// `encoding` is `float` or `base64`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a source that cannot be read; [`Error::Embedding`] where the server does not answer,
    /// or not with vectors.
    pub fn open(source: &str) -> Result<Self> {
        Self::open_with_patience(source, patience())
    }

    /// [`RemoteEmbedder::open`] with another patience.
    ///
    /// # Errors
    /// As [`RemoteEmbedder::open`].
    pub fn open_with_patience(source: &str, patience: Patience) -> Result<Self> {
        let mut endpoint = Endpoint::parse(source)?;
        if endpoint.model.is_none() {
            let message =
                format!("`{source}` names no model of that server: add it, as in `{}#its-name`", endpoint.base);
            return Err(Error::invalid(message));
        }
        let dims_asked = endpoint.take_number("dims")?;
        let encoding = match endpoint.take("encoding").as_deref() {
            None | Some("float") => "float",
            Some("base64") => "base64",
            Some(other) => {
                let message = format!("{}: there is no encoding `{other}`; it is `float` or `base64`", endpoint.name());
                return Err(Error::invalid(message));
            }
        };
        let mut spec = ModelSpec::new(endpoint.name(), dims_asked.unwrap_or(0));
        spec.backend = "remote".into();
        spec.max_tokens = endpoint.take_number("tokens")?.unwrap_or(MAX_TOKENS);
        spec.query_prompt = endpoint.take("query").unwrap_or_default();
        spec.document_prompt = endpoint.take("document").unwrap_or_default();
        spec.hybrid_weight = HYBRID_WEIGHT;
        let batch = endpoint.take_number("batch")?.unwrap_or(BATCH_TEXTS_MAX);
        let connections = endpoint.take_number("connections")?.unwrap_or(CONNECTIONS);
        endpoint.expect_no_more(OPTIONS)?;
        let client = Client::new(patience)?;
        let mut embedder = Self { endpoint, spec, dims_asked, encoding, batch, connections, client };
        if dims_asked.is_none() {
            let probe = embedder.ask(&["dimensions".to_owned()]).map_err(|refused| embedder.failed(&refused))?;
            embedder.spec.dims = probe[0].len();
        }
        Ok(embedder)
    }

    fn embed(&self, prompt: &str, texts: &[&str]) -> Result<Embeddings> {
        let texts: Vec<String> = texts.iter().map(|text| format!("{prompt}{text}")).collect();
        let batches = batches(&texts, self.batch);
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<Option<Vec<f32>>>> = Mutex::new(vec![None; batches.len()]);
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let work = || loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = batches.get(at) else { return };
            match self.embed_batch(&texts[batch.clone()]) {
                Ok(values) => done.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(values),
                Err(error) => {
                    next.store(batches.len(), Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        match self.connections.min(batches.len()) {
            0 | 1 => work(),
            threads => std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work)))),
        }
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        let values = done.into_iter().flatten().flatten().collect();
        Ok(Embeddings { dims: self.spec.dims, values, truncated: 0 })
    }

    /// The vectors of one batch, one after the other. A batch that is too large for the server goes in halves.
    fn embed_batch(&self, texts: &[String]) -> Result<Vec<f32>> {
        match self.ask(texts) {
            Ok(vectors) => {
                let dims = self.spec.dims;
                if let Some(other) = vectors.iter().find(|vector| vector.len() != dims) {
                    let reason = format!(
                        "it returned vectors of {} dimensions, and has {dims}: another model under the same name? Name \
                         one that keeps to them",
                        other.len()
                    );
                    return Err(self.wrong(&reason));
                }
                Ok(vectors.into_iter().flatten().collect())
            }
            Err(refused) if matches!(refused.status, Some(413 | 422)) && texts.len() > 1 => {
                let (first, second) = texts.split_at(texts.len() / 2);
                let mut values = self.embed_batch(first)?;
                values.extend(self.embed_batch(second)?);
                Ok(values)
            }
            Err(refused) => Err(self.failed(&refused)),
        }
    }

    /// Asks for the vectors of these texts, in their order.
    fn ask(&self, texts: &[String]) -> std::result::Result<Vec<Vec<f32>>, Refused> {
        let mut body = json!({"model": self.endpoint.model, "input": texts, "encoding_format": self.encoding});
        if let Some(dims) = self.dims_asked {
            body["dimensions"] = dims.into();
        }
        let url = format!("{}/embeddings", self.endpoint.base);
        let answer = self.client.post(&url, self.endpoint.key().as_deref(), &body)?;
        let told = |reason: String| Refused { status: None, reason };
        let reply: Reply = serde_json::from_slice(&answer)
            .map_err(|_| told("its answer holds no embeddings: is the URL right, up to `/v1`?".into()))?;
        ordered(reply.data, texts.len()).map_err(told)
    }

    fn failed(&self, refused: &Refused) -> Error {
        self.wrong(&format!("{}{}", refused.reason, self.endpoint.key_hint(refused.status)))
    }

    fn wrong(&self, reason: &str) -> Error {
        Error::Embedding(format!("{}: {reason}", self.spec.id))
    }
}

impl Embedder for RemoteEmbedder {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings> {
        self.embed(&self.spec.document_prompt, texts)
    }

    fn embed_queries(&self, texts: &[&str], _statistics: &dyn WordStatistics) -> Result<Embeddings> {
        self.embed(&self.spec.query_prompt, texts)
    }
}

/// Cuts texts into batches by count and bytes.
fn batches(texts: &[String], texts_max: usize) -> Vec<Range<usize>> {
    let (mut batches, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, text) in texts.iter().enumerate() {
        if at > start && (at - start == texts_max || bytes + text.len() > BATCH_BYTES_MAX) {
            batches.push(start..at);
            (start, bytes) = (at, 0);
        }
        bytes += text.len();
    }
    if start < texts.len() {
        batches.push(start..texts.len());
    }
    batches
}

/// The vectors by their index, one for each text; servers that give no index at all keep the order.
fn ordered(items: Vec<Item>, texts: usize) -> std::result::Result<Vec<Vec<f32>>, String> {
    if items.len() != texts {
        return Err(format!("it returned {} vectors for {texts} texts", items.len()));
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; texts];
    for (place, item) in items.into_iter().enumerate() {
        let index = item.index.unwrap_or(place);
        let vector = numbers(item.embedding)?;
        match vectors.get_mut(index) {
            Some(free @ None) => *free = Some(vector),
            _ => return Err(format!("it returned two vectors for text {index}, or one that was not sent")),
        }
    }
    Ok(vectors.into_iter().flatten().collect())
}

fn numbers(numbers: Numbers) -> std::result::Result<Vec<f32>, String> {
    let vector = match numbers {
        Numbers::Floats(vector) => vector,
        Numbers::Base64(text) => {
            let bytes = BASE64_STANDARD.decode(text).map_err(|error| format!("a vector is not base64: {error}"))?;
            if !bytes.len().is_multiple_of(4) {
                return Err(format!("a vector has {} bytes, which are no whole numbers", bytes.len()));
            }
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()
        }
    };
    let whole = !vector.is_empty() && vector.iter().all(|number| number.is_finite());
    if whole { Ok(vector) } else { Err("a vector is empty, or holds a number that is not finite".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_cut_by_count_and_by_bytes() {
        let texts = |count: usize, bytes: usize| vec!["x".repeat(bytes); count];
        assert_eq!(batches(&texts(5, 1), 2), [0..2, 2..4, 4..5]);
        assert_eq!(batches(&texts(3, BATCH_BYTES_MAX / 2), 32), [0..2, 2..3]);
        assert_eq!(batches(&texts(2, BATCH_BYTES_MAX * 2), 32), [0..1, 1..2]);
        assert!(batches(&[], 32).is_empty());
    }
}
