//! Which reranker does this name mean?

use std::path::Path;
use std::sync::Arc;

use super::Reranker;
use crate::{Error, Result};

/// Loads a cross-encoder from its directory: a transformer with a head for classification.
///
/// # Errors
/// [`Error::Model`] where there is no such model or its files do not fit, [`Error::FeatureMissing`] where this build lacks
/// the engine.
pub fn open(model: &str) -> Result<Arc<dyn Reranker>> {
    let path = Path::new(model);
    if !path.is_dir() {
        let reason = "there is no such directory. Name the directory of a cross-encoder: config.json, tokenizer.json and \
                      model.safetensors";
        return Err(Error::model(model, reason));
    }
    open_cross_encoder(path)
}

#[cfg(feature = "transformers")]
fn open_cross_encoder(directory: &Path) -> Result<Arc<dyn Reranker>> {
    Ok(Arc::new(super::CrossEncoder::open(directory)?))
}

#[cfg(not(feature = "transformers"))]
fn open_cross_encoder(directory: &Path) -> Result<Arc<dyn Reranker>> {
    Err(Error::FeatureMissing { what: format!("the cross-encoder in {}", directory.display()), feature: "candle" })
}
