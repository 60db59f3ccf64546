//! What does a collection look like from afar? Its embeddings in two dimensions.
//!
//! Invariants: the same collection gives the same map; however large it is, a sample of it is drawn; of texts no more is
//! told than a label holds.

mod plane;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use quiverdb_storage::{DocumentId, HydratedChunk};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::query::sample::Sample;
use crate::server::app::{Answer, App, Kind};
use crate::server::body::{Json, Parameters, Segments};
use crate::server::failure::{Failure, FailureBody};

/// Points of a map, unless told and at most.
const POINTS: u32 = 2_000;
const POINTS_MAX: u32 = 5_000;
/// Characters of a passage, and of a value, that a label shows.
const LABEL_CHARACTERS: usize = 160;
/// Names of metadata that are told.
const FIELDS_MAX: usize = 32;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(map))
}

/// What is drawn.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct MapParameters {
    /// Points at most; 2,000 unless given.
    #[param(minimum = 1, maximum = 5000)]
    limit: Option<u32>,
    /// The vector space; `default` unless given.
    space: Option<String>,
    /// A field at the top of the metadata, whose value each point tells.
    field: Option<String>,
}

/// Passages in two dimensions.
#[derive(Serialize, utoipa::ToSchema)]
struct Drawn {
    /// Passages, from the oldest to the newest.
    points: Vec<Point>,
    /// The share of the variance that each of the two directions holds, in 0..1.
    #[schema(min_items = 2, max_items = 2)]
    explained: [f64; 2],
    /// Whether the collection has more passages than are drawn.
    sampled: bool,
    /// Passages of the collection.
    chunks: u64,
    /// Names at the top of the drawn documents' metadata whose values are no lists or objects, by name: 32 at most.
    fields: Vec<String>,
}

/// A passage.
#[derive(Serialize, utoipa::ToSchema)]
struct Point {
    /// The document's id: a string or a number.
    document: Value,
    /// Which chunk of the document, counted from 0.
    chunk: u32,
    /// Along the direction in which the embeddings differ most.
    x: f64,
    /// Along the direction, at a right angle to that, in which they differ most of what is left.
    y: f64,
    /// How the passage begins.
    text: String,
    /// The document's title.
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// What the document's metadata has in the field that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

/// A collection's embeddings in two dimensions
///
/// The two directions are the principal components of up to `limit` passages' embeddings, which are taken evenly from the
/// oldest to the newest. Where the space compares by cosine they are of unit length.
#[utoipa::path(get, path = "/v1/collections/{collection}/map", tag = "collections",
    params(("collection" = String, Path, description = "The collection's name"), MapParameters),
    responses((status = 200, body = Drawn), (status = "default", body = FailureBody)))]
async fn map(
    State(app): State<Arc<App>>,
    Segments(name): Segments<String>,
    Parameters(asked): Parameters<MapParameters>,
) -> Answer<Json<Drawn>> {
    let limit = asked.limit.unwrap_or(POINTS);
    if !(1..=POINTS_MAX).contains(&limit) {
        return Err(Failure::invalid(format!("limit is {limit}; a map has 1 to {POINTS_MAX} points")));
    }
    let drawn = app.call(Kind::Read, move |app, stop| {
        let snapshot = app.collection(&name)?.snapshot()?;
        let keep = |passage| Labelled::of(passage, asked.field.as_deref());
        let sample = snapshot.sample(asked.space.as_deref(), limit as usize, stop, keep)?;
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::stopping());
        }
        Ok(draw(sample))
    });
    Ok(Json(drawn.await?))
}

/// What a point shows, and which fields its document has.
struct Labelled {
    document: DocumentId,
    chunk: u32,
    text: String,
    title: Option<String>,
    value: Option<String>,
    fields: Vec<String>,
}

impl Labelled {
    fn of(passage: HydratedChunk, field: Option<&str>) -> Self {
        let HydratedChunk { document, ordinal: chunk, text, title, metadata, .. } = passage;
        let text = if text.trim().is_empty() { String::new() } else { beginning(text.trim_start()) };
        let value = field.and_then(|field| metadata.get(field)).and_then(shown);
        let title = title.as_deref().map(beginning);
        Self { document, chunk, text, title, value, fields: fields(&metadata) }
    }
}

fn fields(metadata: &Map<String, Value>) -> Vec<String> {
    metadata
        .iter()
        .filter(|(_, value)| shown(value).is_some())
        .map(|(name, _)| name)
        .take(FIELDS_MAX)
        .cloned()
        .collect()
}

/// A value as a label; none of a list or an object.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(beginning(text)),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn beginning(text: &str) -> String {
    text.chars().take(LABEL_CHARACTERS).collect()
}

fn draw(sample: Sample<Labelled>) -> Drawn {
    let Sample { passages, chunks, dims, mut vectors } = sample;
    let plane::Projected { places, explained } = plane::project(&mut vectors, dims);
    let sampled = (passages.len() as u64) < chunks;
    let mut names = BTreeSet::new();
    let points = passages.into_iter().zip(places).map(|(passage, [x, y])| {
        let Labelled { document, chunk, text, title, value, fields } = passage;
        names.extend(fields);
        let document = serde_json::to_value(&document).unwrap_or_default();
        Point { document, chunk, x, y, text, title, value }
    });
    let points = points.collect();
    Drawn { points, explained, sampled, chunks, fields: names.into_iter().take(FIELDS_MAX).collect() }
}
