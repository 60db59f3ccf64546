//! What is a model called that was opened from a place with another name?
//!
//! A model of the hub is opened as a directory of the cache; people know it by its id, and collections by its commit.

use std::ops::Range;
use std::sync::Arc;

use super::{Embedder, Embeddings, ModelSpec, WordStatistics};
use crate::Result;
use crate::images::Image;

/// A model under another name.
pub(super) struct Named {
    inner: Arc<dyn Embedder>,
    spec: ModelSpec,
}

impl Named {
    pub(super) fn new(inner: Arc<dyn Embedder>, id: &str, revision: Option<&str>) -> Self {
        let spec = ModelSpec { id: id.to_owned(), revision: revision.map(str::to_owned), ..inner.spec().clone() };
        Self { inner, spec }
    }
}

impl Embedder for Named {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings> {
        self.inner.embed_documents(texts)
    }

    fn embed_queries(&self, texts: &[&str], statistics: &dyn WordStatistics) -> Result<Embeddings> {
        self.inner.embed_queries(texts, statistics)
    }

    fn embed_images(&self, images: &[Image]) -> Result<Embeddings> {
        self.inner.embed_images(images)
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
