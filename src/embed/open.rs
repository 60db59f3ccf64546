//! Which model does this name mean? From a name or a path to a loaded embedder.
//!
//! Nothing here touches the network: a name is `builtin`, or a path on this machine.

use std::path::Path;
use std::sync::Arc;

use super::builtin::StaticEmbedder;
use super::{Embedder, ModelSpec};
use crate::{Error, Result};

/// Loads a model: `builtin`, the directory of a sentence-transformers or model2vec model, or a table file made by
/// `quiver models distill`.
///
/// # Errors
/// [`Error::Model`] where there is no such model or its files do not fit, [`Error::FeatureMissing`] where this build
/// lacks the engine.
pub fn open(model: &str) -> Result<Arc<dyn Embedder>> {
    if model == "builtin" {
        let builtin: Arc<dyn Embedder> = StaticEmbedder::builtin();
        return Ok(builtin);
    }
    let path = Path::new(model);
    if path.is_file() {
        return Ok(Arc::new(StaticEmbedder::from_table_file(path)?));
    }
    if !path.is_dir() {
        return Err(Error::model(
            model,
            "there is no such directory. Name `builtin`, or the directory of a sentence-transformers or model2vec model",
        ));
    }
    if super::builtin::is_static_model(path) {
        return Ok(Arc::new(StaticEmbedder::from_directory(path)?));
    }
    open_transformer(path)
}

#[cfg(feature = "transformers")]
fn open_transformer(directory: &Path) -> Result<Arc<dyn Embedder>> {
    Ok(Arc::new(super::transformer::Transformer::open(directory)?))
}

#[cfg(not(feature = "transformers"))]
fn open_transformer(directory: &Path) -> Result<Arc<dyn Embedder>> {
    Err(Error::FeatureMissing { what: format!("the transformer model in {}", directory.display()), feature: "candle" })
}

/// The name under which a collection remembers its model: paths are made absolute, so that the collection opens from
/// any working directory.
pub(crate) fn durable_source(model: &str) -> Result<String> {
    if model == "builtin" {
        return Ok(model.to_owned());
    }
    let absolute = std::fs::canonicalize(model).map_err(|error| Error::io(model, error))?;
    absolute.into_os_string().into_string().map_err(|path| {
        Error::model(model, format!("its path is not valid UTF-8 ({}); move it", path.to_string_lossy()))
    })
}

/// The first thing that differs between the model that a collection was built with and this one, with both values;
/// `None` where they make the same vectors.
pub(crate) fn identity_difference(stored: Option<&ModelSpec>, given: &ModelSpec) -> Option<String> {
    let Some(stored) = stored else { return Some("the collection holds external vectors".into()) };
    let digests_known = !stored.weights_digest.is_empty() && !given.weights_digest.is_empty();
    let pairs = [
        ("dimensions", dimensions(stored), dimensions(given)),
        ("metric", stored.metric.name().to_owned(), given.metric.name().to_owned()),
        ("weights digest", stored.weights_digest.clone(), given.weights_digest.clone()),
        ("tokenizer digest", stored.tokenizer_digest.clone(), given.tokenizer_digest.clone()),
        ("pooling", stored.pooling.clone(), given.pooling.clone()),
        ("modules", stored.modules.clone(), given.modules.clone()),
        ("normalisation", stored.normalized.to_string(), given.normalized.to_string()),
        ("query prompt", stored.query_prompt.clone(), given.query_prompt.clone()),
        ("document prompt", stored.document_prompt.clone(), given.document_prompt.clone()),
        ("token limit", stored.max_tokens.to_string(), given.max_tokens.to_string()),
    ];
    let named = [
        ("name", stored.id.clone(), given.id.clone()),
        ("revision", stored.revision.clone().unwrap_or_default(), given.revision.clone().unwrap_or_default()),
    ];
    // A model with digests is known by them, wherever it lies; one without is known by its name.
    let names = named.into_iter().filter(|_| !digests_known);
    pairs.into_iter().chain(names).find(|(_, stored, given)| stored != given).map(|(field, stored, given)| {
        let short = |value: &str| value.chars().take(40).collect::<String>();
        format!("{field}: stored `{}`, given `{}`", short(&stored), short(&given))
    })
}

/// With those of the whole model, where some were cut off.
fn dimensions(spec: &ModelSpec) -> String {
    match spec.full_dims {
        Some(full) => format!("{} of {full}", spec.dims),
        None => spec.dims.to_string(),
    }
}
