//! Where do models come from, and which of them are in memory?
//!
//! A name becomes a directory: a path is one already, `owner/name` is a snapshot in the cache that Python's tools share,
//! and a short name is looked up in the [`registry`]. What is not in the cache is fetched by `pull`, and only where
//! the user named the model; nothing here loads or runs one.

#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "remote")]
pub(crate) mod endpoint;
#[cfg(feature = "http")]
pub(crate) mod http;
#[cfg(feature = "hub")]
mod hub;
mod id;
mod loaded;
mod meter;
mod options;
#[cfg(feature = "hub")]
mod pull;
pub mod registry;
#[cfg(feature = "remote")]
pub mod remote_rerank;
#[cfg(feature = "hub")]
mod select;
#[cfg(feature = "hub")]
mod settings;

use std::path::{Path, PathBuf};

#[cfg(feature = "hub")]
pub use self::cache::{Cache, CachedModel, Checked, Integrity, Removed, Snapshot};
#[cfg(feature = "http")]
pub use self::http::Patience;
#[cfg(feature = "hub")]
pub use self::hub::{Digest, HttpSource, Listing, Opened, RemoteFile, Source, TransferError};
pub use self::id::HubId;
pub(crate) use self::loaded::{Arrival, Budget, Footprint, Loaded};
pub use self::loaded::{LoadHealth, LoadState, MemoryLimits};
pub use self::meter::{CALLS_KEPT, Latency, Usage};
pub(crate) use self::meter::{Kind, Meter};
pub use self::options::{BatchLimits, ModelOptions};
#[cfg(feature = "hub")]
pub use self::pull::{Event, Pulled, observe, pull};
#[cfg(feature = "hub")]
pub use self::select::Wanted;
#[cfg(feature = "hub")]
pub use self::settings::HubSettings;
use crate::{Error, Result};

/// Whether a model's name is the URL of a server.
pub fn is_url(model: &str) -> bool {
    model.starts_with("http://") || model.starts_with("https://")
}

/// Where a model lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Its directory, or its file.
    pub path: PathBuf,
    /// Its place on the hub, with the commit, where it comes from there.
    pub hub: Option<HubId>,
}

/// Finds the directory or file that a name means: a path, `owner/name[@revision]`, or a short name of the registry. A
/// path that exists comes first. With `fetch`, a model that is not in the cache is fetched from the hub; give it only
/// where the user named the model.
///
/// # Errors
/// [`Error::Model`] where there is no such model, or it cannot be fetched; [`Error::FeatureMissing`] for a model of the
/// hub in a build without the feature `hub`.
pub fn locate(model: &str, fetch: bool) -> Result<Located> {
    let path = Path::new(model);
    if path.exists() {
        return Ok(Located { path: path.to_owned(), hub: None });
    }
    match named(model) {
        Some(id) => locate_on_hub(model, &id, fetch),
        None => Err(Error::model(
            model,
            "there is no such directory. Name `builtin`, the directory of a sentence-transformers or model2vec model, \
             a model of the hub as `owner/name`, or one that `quiver models list` shows",
        )),
    }
}

/// The place on the hub that a name means; `None` where it can be none. Looks at nothing but the name.
pub fn named(model: &str) -> Option<HubId> {
    if let Ok(id) = model.parse() {
        return Some(id);
    }
    let (name, revision) = model.split_once('@').map_or((model, None), |(name, revision)| (name, Some(revision)));
    let id = registry::find(name)?.id;
    revision.map_or_else(|| id.to_owned(), |revision| format!("{id}@{revision}")).parse().ok()
}

#[cfg(feature = "hub")]
fn locate_on_hub(model: &str, id: &HubId, fetch: bool) -> Result<Located> {
    let snapshot = pull::snapshot(model, id, fetch)?;
    Ok(Located { path: snapshot.directory, hub: Some(id.at(&snapshot.commit)) })
}

#[cfg(not(feature = "hub"))]
fn locate_on_hub(model: &str, _: &HubId, _: bool) -> Result<Located> {
    let what = format!("there is no directory `{model}` here; taking a model of that name from the hub");
    Err(Error::FeatureMissing { what, feature: "hub" })
}
