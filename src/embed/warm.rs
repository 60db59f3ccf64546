//! What does the first caller of a model pay for, and how is it paid before?
//!
//! At real shapes: a single query, and as many full passages as one run takes. ONNX Runtime makes a session for each core
//! when it is first needed and devices compile for shapes; on candle it fills caches and little more.

use std::time::Instant;

use serde::Serialize;

use super::{Embedder, NoStatistics};
use crate::Result;
use crate::models::BatchLimits;

/// Tokens of a full passage: those of a chunk by default.
const PASSAGE_TOKENS: usize = 256;
const QUERY: &str = "how long does the river take to reach the sea";

/// How long a model took for its first runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WarmUp {
    /// Milliseconds for one full batch of passages.
    pub batch_ms: f64,
    /// Passages of that batch.
    pub batch_texts: usize,
    /// Milliseconds for one query after it.
    pub query_ms: f64,
}

/// Runs a full batch of passages and a single query, and throws the vectors away. Costs as much as these: with an encoder
/// of the size of all-MiniLM-L6-v2 some tenths of a second on two cores.
///
/// ```
/// # fn main() -> quiverdb::Result<()> {
/// let model = quiverdb::embed::open("builtin")?;
/// let warm = quiverdb::embed::warm_up(model.as_ref())?;
/// assert!(warm.batch_texts > 1);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// What the model says: one that cannot run is not ready.
pub fn warm_up(embedder: &dyn Embedder) -> Result<WarmUp> {
    let passages = full_batch(embedder.spec().max_tokens);
    let passages: Vec<&str> = passages.iter().map(String::as_str).collect();
    let begun = Instant::now();
    embedder.embed_documents(&passages)?.expect(passages.len(), embedder.spec())?;
    let batch_ms = begun.elapsed().as_secs_f64() * 1e3;
    let begun = Instant::now();
    embedder.embed_queries(&[QUERY], &NoStatistics)?.expect(1, embedder.spec())?;
    Ok(WarmUp { batch_ms, batch_texts: passages.len(), query_ms: begun.elapsed().as_secs_f64() * 1e3 })
}

/// Passages that fill one run: each has at least as many tokens as a chunk, or as the model reads.
pub(crate) fn full_batch(max_tokens: usize) -> Vec<String> {
    let tokens = PASSAGE_TOKENS.min(max_tokens).max(1);
    let count = (BatchLimits::default().batch_tokens_max / tokens).clamp(2, BatchLimits::default().batch_texts_max);
    // Every word is a token or more.
    let words = ["river", "boat", "water", "stone", "morning", "house", "field", "road"];
    let passage = |first: usize| words.iter().cycle().skip(first).take(tokens).copied().collect::<Vec<_>>().join(" ");
    (0..count).map(|number| passage(number % words.len())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;

    use super::*;
    use crate::Error;
    use crate::embed::{Embeddings, ModelSpec, WordStatistics};

    /// Notes the shapes that it is asked for; fails where it has no dimensions.
    struct Shapes(ModelSpec, Mutex<Vec<(&'static str, usize, usize)>>);

    impl Shapes {
        fn note(&self, kind: &'static str, texts: &[&str]) -> Result<Embeddings> {
            let shortest = texts.iter().map(|text| text.split(' ').count()).min().unwrap_or(0);
            self.1.lock().unwrap().push((kind, texts.len(), shortest));
            if self.0.dims == 0 {
                return Err(Error::Embedding("out of order".into()));
            }
            Ok(Embeddings { dims: 1, values: vec![1.0; texts.len()], truncated: 0 })
        }
    }

    impl Embedder for Shapes {
        fn spec(&self) -> &ModelSpec {
            &self.0
        }

        fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings> {
            self.note("documents", texts)
        }

        fn embed_queries(&self, texts: &[&str], _: &dyn WordStatistics) -> Result<Embeddings> {
            self.note("queries", texts)
        }
    }

    #[test]
    fn a_full_batch_and_a_single_query_are_run() {
        for (max_tokens, tokens) in [(128, 128), (8192, PASSAGE_TOKENS)] {
            let spec = ModelSpec { max_tokens, ..ModelSpec::new("shapes", 1) };
            let model = Shapes(spec, Mutex::default());
            let warm = warm_up(&model).unwrap();
            let texts = (BatchLimits::default().batch_tokens_max / tokens).min(256);
            assert_eq!(*model.1.lock().unwrap(), [("documents", texts, tokens), ("queries", 1, 10)]);
            assert_eq!(warm.batch_texts, texts);
        }
    }

    #[test]
    fn a_model_that_cannot_run_is_not_warm() {
        let model = Shapes(ModelSpec::new("shapes", 0), Mutex::default());
        assert!(warm_up(&model).unwrap_err().to_string().contains("out of order"));
    }
}
