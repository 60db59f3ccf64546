//! Which of these passages answers the query best? A second, closer look at what retrieval found.
//!
//! One trait, [`Reranker`]: a query and passages in, a judgement for each out. [`rerank`] is what a search does with it: the
//! best candidates first, batch by batch, until the depth or the time is spent.
//!
//! Invariants: a judgement does not depend on the other passages of its batch; scores lie in 0..1 and the number that the
//! model gave stands beside them, which still orders where probabilities round to 1; where time runs out, what was not judged keeps its order behind what was, and the
//! caller is told.

#[cfg(feature = "transformers")]
mod cross_encoder;
mod metered;
mod open;
#[cfg(feature = "remote")]
mod remote;
#[cfg(feature = "transformers")]
mod yes_no;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

#[cfg(feature = "transformers")]
pub use self::cross_encoder::CrossEncoder;
pub(crate) use self::metered::counted;
pub use self::metered::warm_up;
pub use self::open::{open, open_with, runs};
#[cfg(feature = "transformers")]
pub use self::yes_no::YesNo;
use crate::{Error, Result};

/// The candidates that are judged unless the query says otherwise.
pub const DEPTH_DEFAULT: usize = 50;
/// The most candidates that may be judged for one query.
pub const DEPTH_MAX: usize = 1_000;
/// Passages between two looks at the clock.
const BATCH_PASSAGES: usize = 16;

/// A model that judges how well passages answer a query. Implement this to bring your own.
pub trait Reranker: Send + Sync {
    /// What this model is.
    fn spec(&self) -> &RerankerSpec;

    /// Judges each passage, in the order given. A judgement must not depend on the other passages.
    ///
    /// # Errors
    /// [`Error::Embedding`] where the model fails.
    fn judge(&self, query: &str, passages: &[&str]) -> Result<Vec<Judgement>>;

    /// The bytes that its weights take in memory, where it knows.
    fn memory_bytes(&self) -> u64 {
        0
    }

    /// The tokens that it has read so far, special ones counted and what was cut off not; `None` where it does not count.
    fn tokens_read(&self) -> Option<u64> {
        None
    }
}

/// What a reranker is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RerankerSpec {
    /// The name that users give: a directory, or the name of an application's own model.
    pub id: String,
    /// What runs it: `candle`, `onnx`, `remote`, or `yours`.
    pub backend: String,
    /// Where it runs: `cpu`, `cuda:1`; empty where it does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// The longest pair in tokens, special tokens counted; of longer ones the passage is cut.
    pub max_tokens: usize,
    /// What sentence-transformers' `predict` applies to this model's output: `sigmoid` (then it returns our `score`) or
    /// `identity` (then our `logit`).
    pub activation: String,
}

impl RerankerSpec {
    /// The spec of an application's own model.
    pub fn new(id: impl Into<String>) -> Self {
        let (backend, device, activation) = ("yours".into(), String::new(), "sigmoid".into());
        Self { id: id.into(), backend, device, max_tokens: 512, activation }
    }
}

/// How well a passage answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// The probability that it does, 0..1: the logistic function of `logit`.
    pub score: f32,
    /// What the model gave: any number; larger is better. Of a model with two classes, the second less the first.
    pub logit: f32,
    /// Whether the passage was cut to the model's limit.
    #[serde(skip)]
    pub truncated: bool,
}

impl Judgement {
    /// From the number that a model gave.
    pub fn of_logit(logit: f32) -> Self {
        Self { score: 1.0 / (1.0 + (-logit).exp()), logit, truncated: false }
    }
}

/// How a search reranks: with which model, how deep, for how long.
#[derive(Clone)]
pub struct Rerank {
    pub(crate) model: Model,
    pub(crate) depth: usize,
    pub(crate) budget: Option<Duration>,
}

/// Which model reranks.
#[derive(Clone)]
pub(crate) enum Model {
    /// By name: a directory or what else [`open`] takes.
    Named(String),
    /// The application's own.
    Given(Arc<dyn Reranker>),
}

impl Rerank {
    /// With a model by name, as [`open`] takes it. It is loaded at the first search and stays in memory.
    pub fn named(model: impl Into<String>) -> Self {
        Self { model: Model::Named(model.into()), depth: DEPTH_DEFAULT, budget: None }
    }

    /// With a loaded model.
    pub fn with(model: Arc<dyn Reranker>) -> Self {
        Self { model: Model::Given(model), depth: DEPTH_DEFAULT, budget: None }
    }

    /// How many of the best candidates are judged: 1 to [`DEPTH_MAX`], by default [`DEPTH_DEFAULT`]; never fewer than
    /// the hits wanted.
    #[must_use]
    pub fn depth(mut self, depth: usize) -> Self {
        self.depth = depth;
        self
    }

    /// Stops judging when this much time is spent; looked at every few passages, of which the first are always judged.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Refuses what no search could do.
    pub(crate) fn validate(&self) -> Result<()> {
        if (1..=DEPTH_MAX).contains(&self.depth) {
            return Ok(());
        }
        Err(Error::invalid(format!("the depth of reranking must be 1 to {DEPTH_MAX}; got {}", self.depth)))
    }
}

impl From<&str> for Rerank {
    fn from(model: &str) -> Self {
        Self::named(model)
    }
}

impl From<String> for Rerank {
    fn from(model: String) -> Self {
        Self::named(model)
    }
}

impl From<Arc<dyn Reranker>> for Rerank {
    fn from(model: Arc<dyn Reranker>) -> Self {
        Self::with(model)
    }
}

impl fmt::Debug for Rerank {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = match &self.model {
            Model::Named(name) => name.as_str(),
            Model::Given(model) => model.spec().id.as_str(),
        };
        let Self { model: _, depth, budget } = self;
        formatter.debug_struct("Rerank").field("model", &model).field("depth", depth).field("budget", budget).finish()
    }
}

impl PartialEq for Rerank {
    fn eq(&self, other: &Self) -> bool {
        let same_model = match (&self.model, &other.model) {
            (Model::Named(a), Model::Named(b)) => a == b,
            (Model::Given(a), Model::Given(b)) => Arc::ptr_eq(a, b),
            (Model::Named(_), Model::Given(_)) | (Model::Given(_), Model::Named(_)) => false,
        };
        same_model && (self.depth, self.budget) == (other.depth, other.budget)
    }
}

/// Judges `passages`, which stand best first, until all are judged or `budget` is spent. As many judgements come back as
/// there was time for: those of the first passages, in their order.
///
/// # Errors
/// What the model says, and [`Error::Embedding`] where it does not give as many judgements as there are passages, or a score
/// that is no probability, or a logit that is no number.
pub fn rerank(
    model: &dyn Reranker,
    query: &str,
    passages: &[&str],
    budget: Option<Duration>,
) -> Result<Vec<Judgement>> {
    let start = Instant::now();
    let batch = if budget.is_some() { BATCH_PASSAGES } else { passages.len().max(1) };
    let mut judgements = Vec::with_capacity(passages.len());
    for passages in passages.chunks(batch) {
        if !judgements.is_empty() && budget.is_some_and(|budget| start.elapsed() >= budget) {
            break;
        }
        let judged = model.judge(query, passages)?;
        expect(model.spec(), &judged, passages.len())?;
        judgements.extend(judged);
    }
    Ok(judgements)
}

/// Refuses what cannot be ordered.
fn expect(spec: &RerankerSpec, judged: &[Judgement], passages: usize) -> Result<()> {
    let id = &spec.id;
    if judged.len() != passages {
        return Err(Error::Embedding(format!("{id} gave {} judgements of {passages} passages", judged.len())));
    }
    let is_usable = |judgement: &&Judgement| (0.0..=1.0).contains(&judgement.score) && judgement.logit.is_finite();
    match judged.iter().find(|judgement| !is_usable(judgement)) {
        Some(Judgement { score, logit, .. }) => Err(Error::Embedding(format!(
            "{id} gave the score {score} and the logit {logit}; a score lies between 0 and 1, and a logit is a number: its \
             weights are damaged, or overflow"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Judges by length, and takes its time.
    struct ByLength(RerankerSpec, Duration);

    impl Reranker for ByLength {
        fn spec(&self) -> &RerankerSpec {
            &self.0
        }

        fn judge(&self, _query: &str, passages: &[&str]) -> Result<Vec<Judgement>> {
            let end = Instant::now() + self.1;
            while Instant::now() < end {
                std::hint::spin_loop();
            }
            Ok(passages.iter().map(|passage| Judgement::of_logit(passage.len() as f32)).collect())
        }
    }

    #[test]
    fn scores_are_probabilities_and_order_as_logits_do() {
        let scores = [-100.0, -1.0, 0.0, 1.0, 100.0].map(|logit| Judgement::of_logit(logit).score);
        assert_eq!((scores[0], scores[2], scores[4]), (0.0, 0.5, 1.0));
        assert!(scores.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn without_a_budget_all_are_judged_and_with_one_the_first_batch_at_least() {
        let passages = vec!["passage"; 3 * BATCH_PASSAGES];
        let model = ByLength(RerankerSpec::new("length"), Duration::from_millis(2));
        assert_eq!(rerank(&model, "q", &passages, None).unwrap().len(), passages.len());
        let hurried = rerank(&model, "q", &passages, Some(Duration::ZERO)).unwrap();
        assert_eq!(hurried.len(), BATCH_PASSAGES);
        let relaxed = rerank(&model, "q", &passages, Some(Duration::from_secs(3600))).unwrap();
        assert_eq!(relaxed.len(), passages.len());
        assert!(rerank(&model, "q", &[], None).unwrap().is_empty());
    }

    #[test]
    fn judgements_that_cannot_be_ordered_are_refused() {
        let judged = |score, logit| {
            let judgement = Judgement { score, logit, truncated: false };
            expect(&RerankerSpec::new("yours"), &[judgement], 1)
        };
        for (score, logit) in [(0.0, -90.0), (1.0, 30.0), (0.5, 0.0)] {
            judged(score, logit).unwrap();
        }
        for (score, logit) in
            [(-0.1, 0.0), (1.1, 0.0), (f32::NAN, 0.0), (0.5, f32::NAN), (f32::INFINITY, 0.0), (0.0, f32::NEG_INFINITY)]
        {
            let error = judged(score, logit).unwrap_err().to_string();
            assert!(error.contains("yours gave the score"), "{error}");
        }
        assert!(expect(&RerankerSpec::new("yours"), &[], 1).unwrap_err().to_string().contains("0 judgements of 1"));
    }

    #[test]
    fn depths_beyond_the_limits_are_refused() {
        for depth in [0, DEPTH_MAX + 1] {
            let error = Rerank::named("m").depth(depth).validate().unwrap_err().to_string();
            assert!(error.contains(&format!("got {depth}")), "{error}");
        }
        Rerank::named("m").validate().unwrap();
    }
}
