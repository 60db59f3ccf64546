//! How does a loaded model come to count what it does?
//!
//! The layers of a model at work, from the caller inwards: what counts, what runs several callers together, the model.

use std::ops::Range;
use std::sync::Arc;

use super::batcher::Batcher;
use super::{Backend, Embedder, Embeddings, ModelSpec, WordStatistics};
use crate::Result;
use crate::images::Image;
use crate::models::{Kind, Meter, ModelOptions};

/// An embedder whose calls are counted.
struct Metered {
    inner: Arc<dyn Embedder>,
    meter: Arc<Meter>,
    /// Whether a call is a run; else the batcher counts those.
    runs: bool,
}

/// `embedder` put to work: counted by `meter`, and where it is a transformer, whose runs take time, shared by callers.
pub(crate) fn at_work(embedder: Arc<dyn Embedder>, options: &ModelOptions, meter: &Arc<Meter>) -> Arc<dyn Embedder> {
    meter.begin_copy(embedder.tokens_read());
    let is_transformer = Backend::ALL.iter().any(|backend| backend.name() == embedder.spec().backend);
    let batches = options.batches.filter(|_| is_transformer);
    let inner = match batches {
        Some(limits) => Arc::new(Batcher::counted(embedder, limits, Arc::clone(meter))),
        None => embedder,
    };
    Arc::new(Metered { inner, meter: Arc::clone(meter), runs: batches.is_none() })
}

impl Metered {
    fn call(&self, kind: Kind, texts: usize, work: impl FnOnce() -> Result<Embeddings>) -> Result<Embeddings> {
        if self.runs {
            self.meter.ran();
        }
        let result = self.meter.call(kind, texts, work);
        self.meter.read(self.inner.tokens_read());
        result
    }
}

impl Embedder for Metered {
    fn spec(&self) -> &ModelSpec {
        self.inner.spec()
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings> {
        self.call(Kind::Documents, texts.len(), || self.inner.embed_documents(texts))
    }

    fn embed_queries(&self, texts: &[&str], statistics: &dyn WordStatistics) -> Result<Embeddings> {
        self.call(Kind::Queries, texts.len(), || self.inner.embed_queries(texts, statistics))
    }

    fn embed_images(&self, images: &[Image]) -> Result<Embeddings> {
        self.call(Kind::Documents, images.len(), || self.inner.embed_images(images))
    }

    fn token_ranges(&self, text: &str) -> Vec<Range<usize>> {
        self.inner.token_ranges(text)
    }

    fn memory_bytes(&self) -> u64 {
        self.inner.memory_bytes()
    }

    fn tokens_read(&self) -> Option<u64> {
        self.inner.tokens_read()
    }

    fn gains_by_batches(&self) -> bool {
        self.inner.gains_by_batches()
    }
}
