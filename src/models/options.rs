//! How are loaded models put to work: warmed up, and with the texts of several callers at once?

use std::time::Duration;

/// How a database puts models to work. Nothing here changes a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelOptions {
    /// Whether a model runs one query and one full batch when it is loaded, so that the first caller does not pay for what
    /// is made at the first run. Models on servers are left alone. By default not.
    pub warm_up: bool,
    /// Within which limits transformer models run the texts of several callers; `None` runs each call by itself and whole.
    pub batches: Option<BatchLimits>,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self { warm_up: false, batches: Some(BatchLimits::default()) }
    }
}

impl ModelOptions {
    /// No warm-up, and the default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether models are warmed up when they are loaded.
    #[must_use]
    pub fn warm_up(mut self, warm_up: bool) -> Self {
        self.warm_up = warm_up;
        self
    }

    /// Within which limits texts of several callers are run; `None` runs each call by itself and whole.
    #[must_use]
    pub fn batches(mut self, batches: impl Into<Option<BatchLimits>>) -> Self {
        self.batches = batches.into();
        self
    }
}

/// How much is run at once, and how long it is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchLimits {
    /// Tokens of one run, taken to be four bytes each and at most the model's limit a text; a text that alone has more is
    /// run alone. A query waits for at most one such run of passages. By default 1,024 for each core.
    pub batch_tokens_max: usize,
    /// Texts of one run; 256 by default.
    pub batch_texts_max: usize,
    /// How long a run of queries waits for the callers that were there at the last one; a caller who is alone never waits.
    /// 2 ms by default.
    pub wait_max: Duration,
    /// Whether queries of several callers are run together. Unset, where the model gains by it
    /// ([`crate::Embedder::gains_by_batches`]): on devices, and not on a CPU, whose cores several callers keep busy anyway.
    /// Not on models that weigh words by the collection unless set, which then weigh all words alike.
    pub queries_together: Option<bool>,
    /// Texts that may wait; further callers wait for room before they queue. 4,096 by default. A single call may be larger.
    pub queue_texts_max: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            batch_tokens_max: 1024 * rayon::current_num_threads(),
            batch_texts_max: 256,
            wait_max: Duration::from_millis(2),
            queries_together: None,
            queue_texts_max: 4096,
        }
    }
}

impl BatchLimits {
    /// The default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Other tokens of one run, at least 1.
    #[must_use]
    pub fn batch_tokens_max(mut self, tokens: usize) -> Self {
        self.batch_tokens_max = tokens.max(1);
        self
    }

    /// Other texts of one run, at least 1.
    #[must_use]
    pub fn batch_texts_max(mut self, texts: usize) -> Self {
        self.batch_texts_max = texts.max(1);
        self
    }

    /// Another wait; zero runs what is there.
    #[must_use]
    pub fn wait_max(mut self, wait: Duration) -> Self {
        self.wait_max = wait;
        self
    }

    /// Whether queries are run together, whatever the model says of it.
    #[must_use]
    pub fn queries_together(mut self, together: bool) -> Self {
        self.queries_together = Some(together);
        self
    }

    /// Other texts that may wait, at least 1.
    #[must_use]
    pub fn queue_texts_max(mut self, texts: usize) -> Self {
        self.queue_texts_max = texts.max(1);
        self
    }
}
