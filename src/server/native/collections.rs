//! Which collections are there, how is one made, and what is it called?
//!
//! Invariants: a name never becomes a path; making what is there already, as it is, changes nothing and succeeds; a model
//! is one that the server's operator allows, and none is fetched because a request named it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use quiverdb_storage::validate_collection_name;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config::ChunkerKind;
use crate::server::app::{Answer, App};
use crate::server::body::{self, Json, Segments};
use crate::server::failure::{Failure, FailureBody};
use crate::types::{CollectionStats, ReembedStatus, SpaceStats};
use crate::{Collection, CollectionConfig, Error, Language, Metric, SpaceConfig};

/// The routes of collections.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(create, show, rename, drop_collection))
}

/// All collections.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Listed {
    /// In numbers, by name.
    pub(super) collections: Vec<CollectionNumbers>,
}

/// A collection in numbers.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct CollectionNumbers {
    /// Its name.
    name: String,
    /// Live documents.
    documents: u64,
    /// Live chunks.
    chunks: u64,
    /// Sealed segments.
    segments: u64,
    /// Bytes that the whole database takes on disk; 0 in memory.
    bytes_on_disk: u64,
    /// The id of its model, or `external`.
    model: String,
    /// Dimensions of its vectors, in its default space.
    dims: usize,
    /// All its spaces.
    spaces: Vec<SpaceNumbers>,
    /// Other names that lead to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    aliases: Vec<String>,
    /// Why its last segment could not be built; searches are right without it, and slower.
    #[serde(skip_serializing_if = "Option::is_none")]
    sealing_error: Option<String>,
    /// What is being made of it, and how far that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    reembedding: Option<Reembedding>,
}

/// A vector space of a collection.
#[derive(Serialize, utoipa::ToSchema)]
struct SpaceNumbers {
    /// Its name; every collection has one called `default`.
    name: String,
    /// The id of its model, or `external`.
    model: String,
    /// Dimensions of its vectors.
    dims: usize,
    /// How vectors are compared.
    #[schema(value_type = MetricName)]
    metric: Metric,
}

/// A collection that is being made anew.
#[derive(Serialize, utoipa::ToSchema)]
struct Reembedding {
    /// The spaces that it will have.
    spaces: Vec<SpaceNumbers>,
    /// The size of its chunks.
    chunk_tokens: usize,
    /// Documents that are done.
    documents: u64,
    /// Documents of the collection that answers.
    documents_total: u64,
}

/// How vectors are compared.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it stands for the library's own in the OpenAPI document")]
pub(super) enum MetricName {
    Cosine,
    Dot,
    L2,
}

impl From<SpaceStats> for SpaceNumbers {
    fn from(SpaceStats { name, model, dims, metric }: SpaceStats) -> Self {
        Self { name, model, dims, metric }
    }
}

impl From<ReembedStatus> for Reembedding {
    fn from(ReembedStatus { spaces, chunk_tokens, documents, documents_total }: ReembedStatus) -> Self {
        let spaces = spaces.into_iter().map(SpaceNumbers::from).collect();
        Self { spaces, chunk_tokens, documents, documents_total }
    }
}

impl From<CollectionStats> for CollectionNumbers {
    fn from(stats: CollectionStats) -> Self {
        let CollectionStats {
            name,
            documents,
            chunks,
            segments,
            bytes_on_disk,
            model,
            dims,
            spaces,
            aliases,
            sealing_error,
            reembedding,
        } = stats;
        Self {
            name,
            documents,
            chunks,
            segments,
            bytes_on_disk,
            model,
            dims,
            spaces: spaces.into_iter().map(SpaceNumbers::from).collect(),
            aliases,
            sealing_error,
            reembedding: reembedding.map(Reembedding::from),
        }
    }
}

/// A collection in numbers, and as it is stored.
#[derive(Serialize, utoipa::ToSchema)]
struct Described {
    #[serde(flatten)]
    numbers: CollectionNumbers,
    /// The text analyser.
    #[schema(value_type = Object)]
    analyzer: Value,
    /// Models, sizes of chunks and how text is split, as `quiver collections show` prints them.
    #[schema(value_type = Object)]
    configuration: Value,
}

impl Described {
    fn of(collection: &Collection) -> Answer<Self> {
        let mut described = collection.describe();
        let mut take = |key: &str| described.get_mut(key).map(Value::take).unwrap_or_default();
        let (analyzer, configuration) = (take("analyzer"), take("configuration"));
        Ok(Self { numbers: collection.stats()?.into(), analyzer, configuration })
    }
}

/// Settings of a collection, as of `quiver collections create`. What is left out takes its default, or is as it is.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// `builtin`, one that the server's operator configured, or `external` where every document brings its vector.
    model: Option<String>,
    /// Dimensions; needed with `external`. Fewer than the model's keep the first ones (Matryoshka).
    #[schema(minimum = 1, maximum = 65536)]
    dims: Option<usize>,
    /// How vectors are compared; the model's unless told, cosine where they are external.
    #[schema(value_type = Option<MetricName>)]
    metric: Option<Metric>,
    /// Tokens of a chunk; 256, or the model's limit.
    #[schema(minimum = 8)]
    chunk_tokens: Option<usize>,
    /// Tokens that neighbouring chunks share; 32.
    chunk_overlap: Option<usize>,
    /// How text is split: `auto`, `plain`, `markdown`, or `code:` and a language.
    #[schema(value_type = Option<String>)]
    chunker: Option<ChunkerKind>,
    /// The language whose words are stemmed: `english`, `german`, ..., or `none`.
    #[schema(value_type = Option<String>)]
    language: Option<Language>,
    /// Further vector spaces beside the default one, by name; up to 15.
    #[serde(default)]
    spaces: BTreeMap<String, WantedSpace>,
}

/// A further vector space.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedSpace {
    /// As the collection's own.
    model: String,
    /// As the collection's own.
    #[schema(minimum = 1, maximum = 65536)]
    dims: Option<usize>,
    /// As the collection's own.
    #[schema(value_type = Option<MetricName>)]
    metric: Option<Metric>,
}

/// The word for vectors that documents bring.
const EXTERNAL: &str = "external";

impl Wanted {
    /// What the library is asked for. Every model that is named must be allowed.
    fn config(self, app: &App) -> Answer<CollectionConfig> {
        let Self { model, dims, metric, chunk_tokens, chunk_overlap, chunker, language, spaces } = self;
        let mut config = CollectionConfig::new();
        config = match (model.as_deref(), dims) {
            (Some(EXTERNAL), dims) => config.external(external_dims(dims)?),
            (Some(model), _) => config.model(allowed(app, model)?),
            (None, _) => config,
        };
        config = match dims.filter(|_| model.as_deref() != Some(EXTERNAL)) {
            Some(dims) => config.dimensions(dims),
            None => config,
        };
        for (name, space) in spaces {
            config = config.space(name, space.config(app)?);
        }
        config = given(config, metric, CollectionConfig::metric);
        config = given(config, chunk_tokens, CollectionConfig::chunk_tokens);
        config = given(config, chunk_overlap, CollectionConfig::chunk_overlap);
        config = given(config, chunker, CollectionConfig::chunker);
        Ok(given(config, language, CollectionConfig::language))
    }
}

fn given<C, T>(config: C, value: Option<T>, set: impl FnOnce(C, T) -> C) -> C {
    match value {
        Some(value) => set(config, value),
        None => config,
    }
}

impl WantedSpace {
    fn config(self, app: &App) -> Answer<SpaceConfig> {
        let Self { model, dims, metric } = self;
        let config = match model.as_str() {
            EXTERNAL => SpaceConfig::external(external_dims(dims)?),
            model => given(SpaceConfig::model(allowed(app, model)?), dims, SpaceConfig::dimensions),
        };
        Ok(given(config, metric, SpaceConfig::metric))
    }
}

fn external_dims(dims: Option<usize>) -> Answer<usize> {
    dims.ok_or_else(|| Failure::invalid("external vectors have no model to say their dimensions: add `dims`"))
}

fn allowed<'a>(app: &App, model: &'a str) -> Answer<&'a str> {
    app.embedder(model)?;
    Ok(model)
}

/// All collections in numbers, by name
#[utoipa::path(get, path = "/v1/collections", tag = "collections",
    responses((status = 200, body = Listed), (status = "default", body = FailureBody)))]
async fn list(State(app): State<Arc<App>>) -> Answer<Json<Listed>> {
    app.read(|app| Ok(Json(listed(app)?))).await
}

/// All collections.
pub(super) fn listed(app: &App) -> Answer<Listed> {
    let collections = app.database.collections()?.into_iter().map(CollectionNumbers::from).collect();
    Ok(Listed { collections })
}

/// Make a collection, or confirm that it is as asked for
///
/// Idempotent: 201 where it was made, 200 where it is there with these settings. Only settings that are given are compared; a
/// body is needed only for them. 409 names the first that differs.
#[utoipa::path(put, path = "/v1/collections/{collection}", tag = "collections",
    params(("collection" = String, Path, description = "1 to 255 letters, digits, `.`, `_` and `-`",
        min_length = 1, max_length = 255, pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$")),
    request_body = Option<Wanted>,
    responses((status = 200, body = Described, description = "It is there, as asked for"),
        (status = 201, body = Described, description = "It was made"),
        (status = 409, body = FailureBody, description = "It is there with another setting"),
        (status = "default", body = FailureBody)))]
async fn create(State(app): State<Arc<App>>, Segments(name): Segments<String>, request: Request) -> Answer<Response> {
    let wanted: Wanted = wanted(request, &app).await?;
    let (described, status) = app
        .write(move |app, _| {
            validate_collection_name(&name).map_err(Error::from)?;
            let was_there = app.database.has_collection(&name)?;
            let config = wanted.config(app)?;
            let made = app.database.collection_with(&name, config);
            let collection = made.map_err(|error| if was_there { differs(error) } else { error.into() })?;
            let status = if was_there { StatusCode::OK } else { StatusCode::CREATED };
            Ok((Described::of(&collection)?, status))
        })
        .await?;
    Ok((status, Json(described)).into_response())
}

/// The body of a request for a collection; none is one without settings.
async fn wanted(request: Request<Body>, app: &App) -> Answer<Wanted> {
    let kind = body::content_type(&request);
    let bytes = body::whole(request.into_body(), app).await?;
    if bytes.is_empty() {
        return Ok(Wanted::default());
    }
    body::expect_json(&kind)?;
    body::aside(bytes.len(), || body::parse(&bytes))
}

/// What differs from what is there is no mistake in itself.
fn differs(error: Error) -> Failure {
    let message = error.to_string();
    match error {
        Error::InvalidInput(_) | Error::DimensionMismatch { .. } => Failure::of("conflict", message),
        Error::ModelMismatch { .. }
        | Error::ModelRequired { .. }
        | Error::FeatureMissing { .. }
        | Error::Io { .. }
        | Error::Model { .. }
        | Error::Embedding(_)
        | Error::Reranking(_)
        | Error::Storage(_) => error.into(),
    }
}

/// A collection: its numbers and its settings
#[utoipa::path(get, path = "/v1/collections/{collection}", tag = "collections",
    params(("collection" = String, Path, description = "Its name, or an alias")),
    responses((status = 200, body = Described), (status = 404, body = FailureBody),
        (status = "default", body = FailureBody)))]
async fn show(State(app): State<Arc<App>>, Segments(name): Segments<String>) -> Answer<Json<Described>> {
    app.read(move |app| Ok(Json(Described::of(&app.collection(&name)?)?))).await
}

/// What of a collection is to be another.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Renaming {
    /// Its new name. Aliases follow.
    #[schema(min_length = 1, max_length = 255, pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$")]
    name: String,
}

/// Give a collection another name
///
/// Its documents, settings and aliases stay. Models and chunks are changed by a re-embedding, aliases at `/v1/aliases`.
#[utoipa::path(patch, path = "/v1/collections/{collection}", tag = "collections",
    params(("collection" = String, Path, description = "Its name")),
    request_body = Renaming,
    responses((status = 200, body = Described), (status = 404, body = FailureBody),
        (status = 409, body = FailureBody, description = "Another one has that name"),
        (status = "default", body = FailureBody)))]
async fn rename(
    State(app): State<Arc<App>>,
    Segments(from): Segments<String>,
    Json(Renaming { name: to }): Json<Renaming>,
) -> Answer<Json<Described>> {
    app.write(move |app, _| {
        validate_collection_name(&to).map_err(Error::from)?;
        app.collection(&from)?;
        // The name can be one, so what is refused is so because of what is there.
        app.database.rename_collection(&from, &to).map_err(differs)?;
        Ok(Json(Described::of(&app.collection(&to)?)?))
    })
    .await
}

/// The collection that is gone.
#[derive(Serialize, utoipa::ToSchema)]
struct Dropped {
    /// Its name.
    dropped: String,
}

/// Drop a collection with all it holds
#[utoipa::path(delete, path = "/v1/collections/{collection}", tag = "collections",
    params(("collection" = String, Path, description = "Its name; an alias is refused")),
    responses((status = 200, body = Dropped), (status = 404, body = FailureBody),
        (status = 409, body = FailureBody, description = "An alias leads to it, or this is one"),
        (status = "default", body = FailureBody)))]
async fn drop_collection(State(app): State<Arc<App>>, Segments(name): Segments<String>) -> Answer<Json<Dropped>> {
    app.write(move |app, _| {
        app.database.drop_collection(&name).map_err(differs)?;
        Ok(Json(Dropped { dropped: name }))
    })
    .await
}
