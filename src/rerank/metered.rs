//! How does a loaded reranker come to count what it does, and how is it warmed up?

use std::sync::Arc;

use super::{Judgement, Reranker, RerankerSpec};
use crate::Result;
use crate::embed::full_batch;
use crate::models::{Kind, Meter};

/// A reranker whose calls are counted.
struct Metered {
    inner: Arc<dyn Reranker>,
    meter: Arc<Meter>,
}

/// `reranker`, counted by `meter`.
pub(crate) fn counted(reranker: Arc<dyn Reranker>, meter: &Arc<Meter>) -> Arc<dyn Reranker> {
    meter.begin_copy(reranker.tokens_read());
    Arc::new(Metered { inner: reranker, meter: Arc::clone(meter) })
}

impl Reranker for Metered {
    fn spec(&self) -> &RerankerSpec {
        self.inner.spec()
    }

    fn judge(&self, query: &str, passages: &[&str]) -> Result<Vec<Judgement>> {
        self.meter.ran();
        let judged = self.meter.call(Kind::Queries, passages.len(), || self.inner.judge(query, passages));
        self.meter.read(self.inner.tokens_read());
        judged
    }

    fn memory_bytes(&self) -> u64 {
        self.inner.memory_bytes()
    }

    fn tokens_read(&self) -> Option<u64> {
        self.inner.tokens_read()
    }
}

/// Has a full batch of passages judged, and then a single one, and throws the judgements away.
///
/// # Errors
/// What the model says.
pub fn warm_up(reranker: &dyn Reranker) -> Result<()> {
    let passages = full_batch(reranker.spec().max_tokens);
    let passages: Vec<&str> = passages.iter().map(String::as_str).collect();
    let query = "where does the river end";
    super::rerank(reranker, query, &passages, None)?;
    super::rerank(reranker, query, &passages[..1], None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;

    use super::*;

    struct Shapes(RerankerSpec, Mutex<Vec<usize>>);

    impl Reranker for Shapes {
        fn spec(&self) -> &RerankerSpec {
            &self.0
        }

        fn judge(&self, _: &str, passages: &[&str]) -> Result<Vec<Judgement>> {
            self.1.lock().unwrap().push(passages.len());
            Ok(vec![Judgement::of_logit(0.0); passages.len()])
        }

        fn tokens_read(&self) -> Option<u64> {
            Some(self.1.lock().unwrap().iter().sum::<usize>() as u64 * 10)
        }
    }

    #[test]
    fn a_full_batch_and_a_single_pair_are_judged_and_only_what_follows_counts() {
        let model = Arc::new(Shapes(RerankerSpec::new("shapes"), Mutex::default()));
        warm_up(model.as_ref()).unwrap();
        assert_eq!(*model.1.lock().unwrap(), [full_batch(512).len(), 1]);
        let meter = Arc::default();
        let counted = counted(model, &meter);
        counted.judge("q", &["a", "b"]).unwrap();
        let usage = meter.usage();
        assert_eq!((usage.requests, usage.texts, usage.runs, usage.tokens), (1, 2, 1, Some(20)));
    }
}
