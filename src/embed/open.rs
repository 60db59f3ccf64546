//! Which model does this name mean? From a name, a path or a URL to a loaded embedder.
//!
//! Invariant: the network is touched for a model that the user named and that is not in the cache, and for one that
//! answers over HTTP. A collection that is opened again fetches nothing.
//! `onnx:` or `candle:` before a name says what must run it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::builtin::StaticEmbedder;
use super::name::{Choice, Name};
use super::named::Named;
use super::runtime::Runtime;
use super::spec::ModelDirectory;
use super::{Embedder, ModelSpec};
use crate::models::Located;
use crate::{Error, Result, models};

/// Loads a model that the user named: `builtin`; the directory of a sentence-transformers or model2vec model; a table file
/// made by `quiver models distill`; `owner/name[@revision]` of the hub or a short name (`all-MiniLM-L6-v2`), which is
/// fetched where it is not in the cache; or a model on a server, `http://host/v1#name` (see `embed::remote`). A
/// transformer's directory with safetensors runs on candle, one without on ONNX Runtime; `onnx:DIR` runs `onnx/model.onnx`
/// of one that has both, and the path of an `.onnx` file another graph of it.
///
/// # Errors
/// [`Error::Model`] where there is no such model, it cannot be fetched, or its files do not fit; [`Error::FeatureMissing`]
/// where this build lacks the engine, or the feature `hub` or `remote`; [`Error::Embedding`] where its server does not
/// answer.
pub fn open(model: &str) -> Result<Arc<dyn Embedder>> {
    open_with(model, &Runtime::default())
}

/// As [`open`], on the device and with the libraries that `runtime` names.
///
/// # Errors
/// As [`open`]; [`Error::Model`] also where the device or the library is not there.
pub fn open_with(model: &str, runtime: &Runtime) -> Result<Arc<dyn Embedder>> {
    open_from(model, runtime, !runtime.offline)
}

/// Loads the model that a collection remembers, as [`open_with`] does, but fetches nothing.
pub(crate) fn reopen(source: &str, runtime: &Runtime) -> Result<Arc<dyn Embedder>> {
    open_from(source, runtime, false)
}

fn open_from(model: &str, runtime: &Runtime, fetch: bool) -> Result<Arc<dyn Embedder>> {
    if model == "builtin" {
        let builtin: Arc<dyn Embedder> = StaticEmbedder::builtin();
        return Ok(builtin);
    }
    if models::is_url(model) {
        return open_remote(model);
    }
    let name = Name::parse(model);
    if name.is_graph() {
        return open_transformer(&Choice::of(name)?, runtime);
    }
    let located = models::locate(name.rest(), fetch)?;
    let embedder = open_path(Name { path: &located.path, ..name }, runtime)?;
    match located.hub {
        Some(id) => Ok(Arc::new(Named::new(embedder, id.repository(), id.revision()))),
        None => Ok(embedder),
    }
}

fn open_path(name: Name<'_>, runtime: &Runtime) -> Result<Arc<dyn Embedder>> {
    let path = name.path;
    if name.backend.is_some() {
        return open_transformer(&Choice::of(name)?, runtime);
    }
    if path.is_file() {
        return Ok(Arc::new(StaticEmbedder::from_table_file(path)?));
    }
    if super::builtin::is_static_model(path) {
        return Ok(Arc::new(StaticEmbedder::from_directory(path)?));
    }
    open_transformer(&Choice::of(name)?, runtime)
}

#[cfg(feature = "transformers")]
fn open_transformer(choice: &Choice, runtime: &Runtime) -> Result<Arc<dyn Embedder>> {
    Ok(Arc::new(super::transformer::Transformer::load(choice, runtime)?))
}

#[cfg(not(feature = "transformers"))]
fn open_transformer(choice: &Choice, _: &Runtime) -> Result<Arc<dyn Embedder>> {
    let feature = choice.backend().name();
    Err(Error::FeatureMissing { what: format!("the transformer model in {}", choice.id()), feature })
}

/// Fields of a model, each with its value and where that comes from.
pub type Explained = Vec<(String, String, String)>;

/// What the files of a transformer model say, without loading it: its specification, and every resolved field with its
/// value and where that comes from, for people.
///
/// # Errors
/// [`Error::Model`] where `model` is no transformer's directory or graph, or its files do not fit.
pub fn explain(model: &str, runtime: &Runtime) -> Result<(ModelSpec, Explained)> {
    let name = Name::parse(model);
    let located = if name.is_graph() {
        Located { path: name.path.to_owned(), hub: None }
    } else {
        models::locate(name.rest(), true)?
    };
    let choice = Choice::of(Name { path: &located.path, ..name })?;
    let (directory, of_graph) = match &choice.graph {
        Some(graph) => describe_graph(&choice.directory, graph)?,
        None => {
            let directory = ModelDirectory::read(&choice.directory)?;
            directory.check_weights()?;
            (directory, Vec::new())
        }
    };
    directory.expect_embeddings()?;
    let mut spec = directory.spec()?;
    spec.id = choice.id();
    if let Some(id) = &located.hub {
        (spec.id, spec.revision) = (id.repository().to_owned(), id.revision().map(str::to_owned));
    }
    spec.backend = choice.backend().name().into();
    spec.device = runtime.device.to_string();
    let precision = of_graph.iter().find(|(field, ..)| field == "precision").map(|(_, value, _)| value.clone());
    spec.precision = precision.unwrap_or_else(|| "f32".into());
    let asked = if runtime.device == Runtime::default().device { "default" } else { "asked for" };
    let mut lines = vec![
        ("backend".to_owned(), spec.backend.clone(), choice.reason.to_owned()),
        ("device".to_owned(), spec.device.clone(), asked.to_owned()),
    ];
    if let Some(revision) = &spec.revision {
        lines.push(("revision".to_owned(), revision.clone(), located.path.display().to_string()));
    }
    lines.extend(of_graph);
    lines.extend(directory.explain());
    let digests = [("weights_digest", &spec.weights_digest), ("tokenizer_digest", &spec.tokenizer_digest)];
    let digest = |(field, digest): (&str, &String)| (field.into(), digest.clone(), "SHA-256 of the files above".into());
    lines.extend(digests.map(digest));
    Ok((spec, lines))
}

/// What [`super::onnx::describe`] tells.
type Described = (ModelDirectory, Explained);

#[cfg(feature = "onnx")]
fn describe_graph(directory: &Path, graph: &Path) -> Result<Described> {
    super::onnx::describe(directory, graph)
}

#[cfg(not(feature = "onnx"))]
fn describe_graph(_: &Path, graph: &Path) -> Result<Described> {
    Err(Error::FeatureMissing { what: format!("the ONNX graph {}", graph.display()), feature: "onnx" })
}

#[cfg(feature = "remote")]
fn open_remote(source: &str) -> Result<Arc<dyn Embedder>> {
    Ok(Arc::new(super::remote::RemoteEmbedder::open(source)?))
}

#[cfg(not(feature = "remote"))]
fn open_remote(source: &str) -> Result<Arc<dyn Embedder>> {
    Err(Error::FeatureMissing { what: format!("the model on a server {source}"), feature: "remote" })
}

/// Whether an engine of this build runs an architecture with such modules after pooling, as far as their names tell.
pub fn runs(architecture: &str, modules: &[&str]) -> bool {
    #[cfg(feature = "candle")]
    let engine = super::candle::runs(architecture);
    #[cfg(not(feature = "candle"))]
    let engine = false;
    (engine || architecture == "static") && modules.iter().all(|module| MODULES.contains(module))
}

/// The modules after pooling that the spec reads.
const MODULES: [&str; 4] = ["Dense", "Dropout", "LayerNorm", "Normalize"];

/// The name under which a collection remembers its model: paths are made absolute, so that the collection opens from
/// any working directory, and models of the hub have their commit.
pub(crate) fn durable_source(model: &str) -> Result<String> {
    if model == "builtin" || models::is_url(model) {
        return Ok(model.to_owned());
    }
    let name = Name::parse(model);
    let of_backend = |place: String| match name.backend {
        Some(backend) => format!("{}:{place}", backend.name()),
        None => place,
    };
    if !name.is_graph()
        && let Some(id) = models::locate(name.rest(), false)?.hub
    {
        return Ok(of_backend(id.to_string()));
    }
    let absolute = absolute(&name).map_err(|error| Error::io(name.path, error))?;
    let absolute = absolute.into_os_string().into_string().map_err(|path| {
        Error::model(model, format!("its path is not valid UTF-8 ({}); move it", path.to_string_lossy()))
    })?;
    Ok(of_backend(absolute))
}

/// The path from the root. A graph's file may be a link to where a cache keeps it, away from the files that belong to it,
/// so only its folder is resolved.
fn absolute(name: &Name<'_>) -> std::io::Result<PathBuf> {
    match (name.is_graph(), name.path.parent(), name.path.file_name()) {
        (true, Some(folder), Some(file)) => {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            Ok(std::fs::canonicalize(folder)?.join(file))
        }
        _ => std::fs::canonicalize(name.path),
    }
}

/// The first thing that differs between the model that a collection was built with and this one, with both values;
/// `None` where they make the same vectors.
pub(crate) fn identity_difference(stored: Option<&ModelSpec>, given: &ModelSpec) -> Option<String> {
    let Some(stored) = stored else { return Some("the collection holds external vectors".into()) };
    // The same weights in other files have other digests, and vectors that differ in the last digits: not the same model.
    let of_backends = match (stored.backend.as_str(), given.backend.as_str()) {
        (stored, given) if stored == given => String::new(),
        (stored, given) => format!("; stored runs on {stored}, given on {given}"),
    };
    let digests_known = !stored.weights_digest.is_empty() && !given.weights_digest.is_empty();
    let pairs = makes(stored).into_iter().zip(makes(given));
    // A model with digests is known by them, wherever it lies; one without is known by its name.
    let names = names(stored).into_iter().zip(names(given)).filter(|_| !digests_known);
    pairs.chain(names).find(|(stored, given)| stored != given).map(|((field, stored), (_, given))| {
        let short = |value: &str| value.chars().take(40).collect::<String>();
        format!("{field}: stored `{}`, given `{}`{of_backends}", short(&stored), short(&given))
    })
}

/// What changes the vectors that a model makes.
fn makes(spec: &ModelSpec) -> [(&'static str, String); 10] {
    [
        ("dimensions", dimensions(spec)),
        ("metric", spec.metric.name().to_owned()),
        ("weights digest", spec.weights_digest.clone()),
        ("tokenizer digest", spec.tokenizer_digest.clone()),
        ("pooling", spec.pooling.clone()),
        ("modules", spec.modules.clone()),
        ("normalisation", spec.normalized.to_string()),
        ("query prompt", spec.query_prompt.clone()),
        ("document prompt", spec.document_prompt.clone()),
        ("token limit", spec.max_tokens.to_string()),
    ]
}

fn names(spec: &ModelSpec) -> [(&'static str, String); 2] {
    [("name", spec.id.clone()), ("revision", spec.revision.clone().unwrap_or_default())]
}

impl ModelSpec {
    /// What two models have in common that make the same vectors: what a digest is made of.
    pub(crate) fn identity(&self) -> Vec<String> {
        let is_known = !self.weights_digest.is_empty();
        let names = names(self).into_iter().filter(|_| !is_known);
        makes(self).into_iter().chain(names).map(|(_, value)| value).collect()
    }
}

/// With those of the whole model, where some were cut off.
fn dimensions(spec: &ModelSpec) -> String {
    match spec.full_dims {
        Some(full) => format!("{} of {full}", spec.dims),
        None => spec.dims.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_graph_is_remembered_by_its_folder_and_its_own_name() {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-onnx");
        let real = fixture.canonicalize().unwrap();
        let indirect = fixture.join("onnx/../onnx/model_int8.onnx");
        let source = durable_source(&format!("onnx:{}", indirect.display())).unwrap();
        assert_eq!(source, format!("onnx:{}", real.join("onnx").join("model_int8.onnx").display()));
        assert_eq!(durable_source(&fixture.to_string_lossy()).unwrap(), real.display().to_string());
        assert!(durable_source("onnx:no/such/folder").is_err());
    }

    #[cfg(not(feature = "onnx"))]
    #[test]
    fn a_directory_of_graphs_names_the_feature_that_runs_it() {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-onnx");
        for name in [fixture.display().to_string(), format!("onnx:{}", fixture.display())] {
            let error = open(&name).err().unwrap();
            assert!(matches!(error, Error::FeatureMissing { feature: "onnx", .. }), "{error}");
            assert!(matches!(explain(&name, &Runtime::default()), Err(Error::FeatureMissing { .. })));
        }
    }
}
