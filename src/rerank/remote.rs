//! How does a reranker on a server judge? By the scores that it returns.

use super::{Judgement, Reranker, RerankerSpec};
use crate::Result;
use crate::models::remote_rerank::RemoteReranker;

/// A reranker on a server as one of ours: `http://host/v1#model` for Cohere's and Jina's dialect, `http://host` for
/// text-embeddings-inference. What it truncates it does not tell.
pub(super) struct Remote {
    spec: RerankerSpec,
    server: RemoteReranker,
}

impl Remote {
    /// Reads the URL; asks the server nothing yet.
    pub(super) fn new(source: &str) -> Result<Self> {
        let spec = RerankerSpec { backend: "remote".into(), ..RerankerSpec::new(source) };
        Ok(Self { spec, server: RemoteReranker::new(source)? })
    }
}

impl Reranker for Remote {
    fn spec(&self) -> &RerankerSpec {
        &self.spec
    }

    fn judge(&self, query: &str, passages: &[&str]) -> Result<Vec<Judgement>> {
        let scores = self.server.rerank(query, passages)?;
        // One answer has one scale: where any score is no probability, none is.
        let are_probabilities = scores.iter().all(|score| (0.0..=1.0).contains(score));
        let judgement = if are_probabilities { of_probability } else { Judgement::of_logit };
        Ok(scores.into_iter().map(judgement).collect())
    }
}

/// Servers give probabilities, or what their model gave where they were asked for it.
fn of_probability(score: f32) -> Judgement {
    // A probability of 0 or 1 has no finite logit.
    let inside = score.clamp(1e-7, 1.0 - 1e-7);
    Judgement { score, logit: (inside / (1.0 - inside)).ln(), truncated: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_stay_what_they_are_and_have_finite_logits() {
        assert_eq!(of_probability(0.5), Judgement { score: 0.5, logit: 0.0, truncated: false });
        let (certain, likely) = (of_probability(1.0), of_probability(0.99));
        assert!(certain.logit > likely.logit && certain.logit.is_finite());
    }
}
