//! Which reranker does this name mean?
//!
//! As for embedders, a name is a directory, `owner/name[@revision]` of the hub, or a backend and one of these; a graph may
//! be named as well.

use std::sync::Arc;

use super::Reranker;
use crate::embed::Runtime;
use crate::embed::name::{Choice, Name};
#[cfg(feature = "transformers")]
use crate::embed::spec::ModelDirectory;
use crate::{Error, Result, models};

/// Loads a cross-encoder that the user named, from its directory or from the hub (`owner/name[@revision]`, fetched where it
/// is not in the cache): a transformer with a head for classification, or a Qwen3 that answers yes or no. `http://host/v1#model`
/// is one on a server that speaks Cohere's or Jina's dialect, `http://host` one of text-embeddings-inference.
///
/// # Errors
/// [`Error::Model`] where there is no such model or its files do not fit, [`Error::FeatureMissing`] where
/// this build lacks the engine.
pub fn open(model: &str) -> Result<Arc<dyn Reranker>> {
    open_with(model, &Runtime::default())
}

/// As [`open`], on the device and with the libraries that `runtime` names.
///
/// # Errors
/// As [`open`]; [`Error::Model`] also where the device or the library is not there.
pub fn open_with(model: &str, runtime: &Runtime) -> Result<Arc<dyn Reranker>> {
    if matches!(model, "builtin" | "external") {
        let reason = "it is no reranker. Name the directory of a cross-encoder, one of the hub as `owner/name`, or one on a \
                      server as http://host/v1#name; `quiver models list` shows some";
        return Err(Error::model(model, reason));
    }
    if models::is_url(model) {
        return open_remote(model);
    }
    let name = Name::parse(model);
    if name.is_graph() {
        return load(&Choice::of(name)?, runtime);
    }
    let located = models::locate(name.rest(), !runtime.offline)?;
    load(&Choice::of(Name { path: &located.path, ..name })?, runtime)
}

#[cfg(feature = "remote")]
fn open_remote(source: &str) -> Result<Arc<dyn Reranker>> {
    Ok(Arc::new(super::remote::Remote::new(source)?))
}

#[cfg(not(feature = "remote"))]
fn open_remote(source: &str) -> Result<Arc<dyn Reranker>> {
    Err(Error::FeatureMissing { what: format!("the reranker on a server {source}"), feature: "remote" })
}

#[cfg(feature = "transformers")]
fn load(choice: &Choice, runtime: &Runtime) -> Result<Arc<dyn Reranker>> {
    let Some(graph) = &choice.graph else {
        let directory = ModelDirectory::read(&choice.directory)?;
        return match super::YesNo::of(&directory, choice.id(), runtime)? {
            Some(model) => Ok(Arc::new(model)),
            None => Ok(Arc::new(super::CrossEncoder::of_safetensors(&directory, choice.id(), runtime)?)),
        };
    };
    Ok(Arc::new(super::CrossEncoder::of_graph(&choice.directory, graph, choice.id(), runtime)?))
}

#[cfg(not(feature = "transformers"))]
fn load(choice: &Choice, _: &Runtime) -> Result<Arc<dyn Reranker>> {
    let (what, feature) = (format!("the cross-encoder in {}", choice.id()), choice.backend().name());
    Err(Error::FeatureMissing { what, feature })
}

/// Whether an engine of this build judges with this architecture, as far as its name tells.
pub fn runs(architecture: &str) -> bool {
    #[cfg(feature = "candle")]
    let runs = crate::embed::judges(architecture);
    #[cfg(not(feature = "candle"))]
    let runs = {
        let _ = architecture;
        false
    };
    runs
}
