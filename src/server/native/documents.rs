//! How do documents get in and out over HTTP?
//!
//! Invariants: an id is kept as it was given, so `7` and `"7"` are two documents, and a path names one of them; a page goes
//! on behind an id, so that writes between two pages shift nothing; a write that expects a version is compared with what
//! is there within its transaction.

mod conditions;
mod intake;
mod replays;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(in crate::server) use self::replays::Replays;
use crate::formats;
use crate::server::app::{Answer, App};
use crate::server::body::{self, Json, Parameters, Segments};
use crate::server::failure::{Failure, FailureBody};
use crate::{Document, DocumentId, Filter, Version};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(page, intake::add))
        .routes(routes!(get_many))
        .routes(routes!(delete_many))
        .routes(routes!(count))
        .routes(routes!(get, put, delete))
}

/// Documents of a page unless told.
const PAGE: usize = 100;

/// An id: a string of 1 to 512 bytes or a whole number of 64 bits, kept as given.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it stands for the library's own in the OpenAPI document")]
enum Id {
    Number(i64),
    Text(String),
}

/// A document. Keys that are not listed go to the metadata.
#[derive(Serialize, utoipa::ToSchema)]
struct DocumentShape {
    /// Where it has none, it is called after its content. `_id` is the same.
    #[schema(value_type = Option<Id>)]
    id: Option<Id>,
    /// The text; chunks are byte ranges of it. Needed unless there is a vector.
    text: Option<String>,
    /// Seen by both search legs together with every chunk.
    title: Option<String>,
    /// What filters read.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// Its own vector in the default space; it is one chunk then.
    vector: Option<Vec<f32>>,
    /// Its vectors in further spaces that have no model.
    #[schema(value_type = Option<Object>)]
    vectors: Option<Value>,
    /// When it expires: RFC 3339, or seconds since 1970.
    #[schema(value_type = Option<Value>)]
    expires_at: Option<Value>,
}

/// One document or several.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it stands for what is read by hand in the OpenAPI document")]
enum Documents {
    Several(Vec<DocumentShape>),
    Named { documents: Vec<DocumentShape> },
    One(Box<DocumentShape>),
}

/// How the id of a path is to be read.
#[derive(Clone, Copy, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum IdType {
    /// As a whole number.
    Integer,
    /// As a string, digits or not.
    String,
}

/// How the id of a path is to be read.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Reading {
    /// Digits in a path are a whole number, and all else a string, unless this says so.
    #[param(inline)]
    id_type: Option<IdType>,
}

impl Reading {
    /// The id that the end of a path means: `7` and `-7` are numbers; `07`, `7.0` and what is beyond 64 bits are strings.
    fn id(&self, text: String) -> Answer<DocumentId> {
        let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
        let id = match (self.id_type, number) {
            (Some(IdType::String), _) | (None, None) => DocumentId::Text(text),
            (Some(IdType::Integer) | None, Some(number)) => DocumentId::Integer(number),
            (Some(IdType::Integer), None) => {
                let shown: String = text.chars().take(64).collect();
                let message = format!("`{}` is no whole number of 64 bits", shown.escape_debug());
                return Err(Failure::invalid(message + ": leave id_type out, or say id_type=string"));
            }
        };
        id.validate().map_err(crate::Error::from)?;
        Ok(id)
    }
}

fn no_document(id: &DocumentId, collection: &str) -> Failure {
    let what = match id {
        DocumentId::Integer(number) => format!("document {number}"),
        DocumentId::Text(text) => format!("document `{}`", text.escape_debug()),
    };
    let other = match id {
        DocumentId::Integer(_) => "; a string of these digits is found with id_type=string",
        DocumentId::Text(_) => "",
    };
    Failure::of("document_not_found", format!("there is no {what} in collection `{collection}`{other}"))
}

/// A version as a header has it.
fn tag(version: Version) -> Answer<HeaderValue> {
    HeaderValue::from_str(&format!("\"{version}\"")).map_err(|error| Failure::internal(error.to_string()))
}

/// A document
///
/// Digits in the path are a whole number unless `id_type=string`; other characters than letters, digits, `.`, `_`, `~` and
/// `-` are percent-encoded, a slash too (`docs%2Fintro.md`). `ETag` is its version.
#[utoipa::path(get, path = "/v1/collections/{collection}/documents/{id}", tag = "documents",
    params(("collection" = String, Path), ("id" = String, Path), Reading,
        ("If-None-Match" = Option<String>, Header, description = "A version that is known; 304 where it is still that")),
    responses((status = 200, body = DocumentShape, headers(("ETag" = String, description = "Its version"))),
        (status = 304, description = "It still has that version"),
        (status = 404, body = FailureBody), (status = "default", body = FailureBody)))]
async fn get(
    State(app): State<Arc<App>>,
    Segments((collection, id)): Segments<(String, String)>,
    Parameters(reading): Parameters<Reading>,
    headers: HeaderMap,
) -> Answer<Response> {
    let id = reading.id(id)?;
    let (document, version) = app
        .read(move |app| {
            let found = app.collection(&collection)?.get_with_version(id.clone())?;
            found.ok_or_else(|| no_document(&id, &collection))
        })
        .await?;
    let tag = [(header::ETAG, tag(version)?)];
    if conditions::knows(&headers, version) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok((tag, Json(document)).into_response())
}

/// Store a document under this id
///
/// 201 where it was not there, 200 where it was replaced or is just so. `If-Match: "version"` (or `*`) replaces only that
/// version, `If-None-Match: *` only makes new ones; else 412, and nothing happened.
#[utoipa::path(put, path = "/v1/collections/{collection}/documents/{id}", tag = "documents",
    params(("collection" = String, Path), ("id" = String, Path), Reading,
        ("If-Match" = Option<String>, Header, description = "Versions, one of which it must have, or `*`",
            pattern = r#"^(\*|"[0-9a-f]{32}"(, ?"[0-9a-f]{32}")*)$"#),
        ("If-None-Match" = Option<String>, Header, description = "`*`: it must not be there",
            pattern = r"^\*$")),
    request_body = DocumentShape,
    responses((status = 200, body = intake::Added, headers(("ETag" = String, description = "Its version"))),
        (status = 201, body = intake::Added, headers(("ETag" = String, description = "Its version"))),
        (status = 404, body = FailureBody), (status = 412, body = FailureBody),
        (status = "default", body = FailureBody)))]
async fn put(
    State(app): State<Arc<App>>,
    Segments((collection, id)): Segments<(String, String)>,
    Parameters(reading): Parameters<Reading>,
    headers: HeaderMap,
    Json(body::Unambiguous(value)): Json<body::Unambiguous>,
) -> Answer<Response> {
    let (id, expected) = (reading.id(id)?, conditions::expected(&headers)?);
    let (report, version) = app
        .write(move |app, _| {
            let document = intake::document_of(value, app).map_err(Failure::invalid)?;
            let document = named(document, &id)?;
            Ok(app.collection(&collection)?.add_expecting(document, expected)?)
        })
        .await?;
    let status = if report.added == 1 { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [(header::ETAG, tag(version)?)], Json(intake::Added::from(report))).into_response())
}

/// The document under the id of the path, which is also its own where it brings one.
fn named(document: intake::Given, id: &DocumentId) -> Answer<Document> {
    let intake::Given { mut document, has_id } = document;
    if has_id && document.id != *id {
        let shown = |id: &DocumentId| serde_json::to_string(id).unwrap_or_default();
        let (path, own) = (shown(id), shown(&document.id));
        return Err(Failure::invalid(format!(
            "the path names document {path}, the body {own}: leave `id` out, or add id_type to the path"
        )));
    }
    document.id = id.clone();
    Ok(document)
}

/// How many documents were deleted.
#[derive(Serialize, utoipa::ToSchema)]
struct Deleted {
    /// Documents that were there and are gone.
    deleted: u64,
}

/// Delete a document
#[utoipa::path(delete, path = "/v1/collections/{collection}/documents/{id}", tag = "documents",
    params(("collection" = String, Path), ("id" = String, Path), Reading,
        ("If-Match" = Option<String>, Header, description = "Versions, one of which it must have, or `*`",
            pattern = r#"^(\*|"[0-9a-f]{32}"(, ?"[0-9a-f]{32}")*)$"#)),
    responses((status = 200, body = Deleted), (status = 404, body = FailureBody), (status = 412, body = FailureBody),
        (status = "default", body = FailureBody)))]
async fn delete(
    State(app): State<Arc<App>>,
    Segments((collection, id)): Segments<(String, String)>,
    Parameters(reading): Parameters<Reading>,
    headers: HeaderMap,
) -> Answer<Json<Deleted>> {
    let (id, expected) = (reading.id(id)?, conditions::expected(&headers)?);
    app.write(move |app, _| {
        let was_there = app.collection(&collection)?.delete_expecting(id.clone(), expected)?;
        if was_there { Ok(Json(Deleted { deleted: 1 })) } else { Err(no_document(&id, &collection)) }
    })
    .await
}

/// Which documents are meant.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Ids {
    /// Strings and whole numbers, as they were given.
    #[schema(value_type = Vec<Id>)]
    ids: Vec<DocumentId>,
}

/// Documents, as they were given.
#[derive(Serialize, utoipa::ToSchema)]
struct Found {
    /// In the order that was asked for.
    #[schema(value_type = Vec<DocumentShape>)]
    documents: Vec<Document>,
    /// Ids that no document has.
    #[schema(value_type = Vec<Id>)]
    missing: Vec<DocumentId>,
}

/// Several documents by their ids
///
/// All of one moment. Ids that no document has are listed.
#[utoipa::path(post, path = "/v1/collections/{collection}/documents/get", tag = "documents",
    params(("collection" = String, Path)), request_body = Ids,
    responses((status = 200, body = Found), (status = 404, body = FailureBody),
        (status = "default", body = FailureBody)))]
async fn get_many(
    State(app): State<Arc<App>>,
    Segments(collection): Segments<String>,
    Json(Ids { ids }): Json<Ids>,
) -> Answer<Json<Found>> {
    app.read(move |app| {
        let (mut documents, mut missing) = (Vec::new(), Vec::new());
        let snapshot = app.collection(&collection)?.snapshot()?;
        let (ids, mut bytes) = (counted(ids, app)?, 0);
        for id in ids {
            let Some(document) = snapshot.get(id.clone())? else {
                missing.push(id);
                continue;
            };
            bytes += document.text.len();
            if bytes > app.settings.limits.body_bytes {
                let got = documents.len();
                let message = format!("these documents are longer than an answer may be; ask for {got} at a time");
                return Err(Failure::invalid(message));
            }
            documents.push(document);
        }
        Ok(Json(Found { documents, missing }))
    })
    .await
}

/// Ids that can be, and not too many.
fn counted(ids: Vec<DocumentId>, app: &App) -> Answer<Vec<DocumentId>> {
    let ids_max = app.settings.limits.batch;
    if ids.len() > ids_max {
        let message = format!("{} ids are more than {ids_max}: ask in parts, or raise limits.batch", ids.len());
        return Err(Failure::invalid(message));
    }
    for (at, id) in ids.iter().enumerate() {
        id.validate().map_err(|error| Failure::invalid(format!("ids[{at}]: {error}")))?;
    }
    Ok(ids)
}

/// Which documents are to go: `ids` or `filter`.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Doomed {
    /// Strings and whole numbers, as they were given. Those that no document has are passed over.
    #[schema(value_type = Option<Vec<Id>>)]
    ids: Option<Vec<DocumentId>>,
    /// All documents that match: JSON, or an expression as a string.
    #[schema(value_type = Option<Value>)]
    filter: Option<Value>,
}

/// Delete documents by their ids or by a filter
///
/// In one transaction: all of them, or none.
#[utoipa::path(post, path = "/v1/collections/{collection}/documents/delete", tag = "documents",
    params(("collection" = String, Path)), request_body = Doomed,
    responses((status = 200, body = Deleted), (status = 404, body = FailureBody),
        (status = "default", body = FailureBody)))]
async fn delete_many(
    State(app): State<Arc<App>>,
    Segments(collection): Segments<String>,
    Json(Doomed { ids, filter }): Json<Doomed>,
) -> Answer<Json<Deleted>> {
    app.write(move |app, _| {
        let collection = app.collection(&collection)?;
        let deleted = match (ids, filter) {
            (Some(ids), None) => match counted(ids, app)? {
                ids if ids.is_empty() => 0,
                ids => collection.delete_many(&ids)?,
            },
            (None, Some(filter)) => collection.delete_matching(&narrow(&filter)?)?,
            (Some(_), Some(_)) | (None, None) => {
                return Err(Failure::invalid("give either `ids` or a `filter`"));
            }
        };
        Ok(Json(Deleted { deleted }))
    })
    .await
}

/// A filter that asks for something: all documents of a collection are not deleted by a filter that was forgotten.
fn narrow(filter: &Value) -> Answer<Filter> {
    let is_empty = match filter {
        Value::Object(conditions) => conditions.is_empty(),
        Value::String(text) => text.trim().is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => false,
    };
    if is_empty {
        let message = "an empty filter means every document: DELETE the collection, or give ids";
        return Err(Failure::invalid(message));
    }
    read_filter(filter)
}

/// A filter in JSON, or as an expression in a string.
fn read_filter(filter: &Value) -> Answer<Filter> {
    let read = match filter {
        Value::String(text) => text.parse(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Filter::from_json(filter)
        }
    };
    Ok(read.map_err(crate::Error::from)?)
}

/// A page of documents.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Paging {
    /// Documents of the page; 100, and at most the server's `limits.hits`. Fewer come where their texts are long.
    #[param(minimum = 1)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only documents that match: an expression such as `year >= 2020 AND lang = 'en'`, or JSON.
    filter: Option<String>,
}

/// A page of documents.
#[derive(Serialize, utoipa::ToSchema)]
struct Page {
    /// In order of id: whole numbers, then strings.
    #[schema(value_type = Vec<DocumentShape>)]
    documents: Vec<Document>,
    /// What to ask the next page with; null after the last.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// All documents, page by page, in order of id
///
/// The cursor stays good whatever is written meanwhile: a document that is there all the while is on exactly one page.
#[utoipa::path(get, path = "/v1/collections/{collection}/documents", tag = "documents",
    params(("collection" = String, Path), Paging),
    responses((status = 200, body = Page), (status = 404, body = FailureBody),
        (status = "default", body = FailureBody)))]
async fn page(
    State(app): State<Arc<App>>,
    Segments(collection): Segments<String>,
    Parameters(Paging { limit, cursor, filter }): Parameters<Paging>,
) -> Answer<Json<Page>> {
    let limits = &app.settings.limits;
    let (limit, limit_max, bytes_max) = (limit.unwrap_or(PAGE.min(limits.hits)), limits.hits, limits.body_bytes);
    if limit == 0 || limit > limit_max {
        return Err(Failure::invalid(format!("limit must lie between 1 and {limit_max}; got {limit}")));
    }
    let after = cursor.as_deref().map(read_cursor).transpose()?;
    app.read(move |app| {
        let filter = filter.map(|text| read_filter(&Value::String(text))).transpose()?;
        let snapshot = app.collection(&collection)?.snapshot()?;
        let (documents, more) = snapshot.page(after.as_ref(), limit, bytes_max, filter.as_ref())?;
        let next_cursor = documents.last().filter(|_| more).map(|last| cursor_behind(&last.id)).transpose()?;
        Ok(Json(Page { documents, next_cursor }))
    })
    .await
}

/// The id itself, so that a cursor knows its place though the document may be gone.
fn cursor_behind(id: &DocumentId) -> Answer<String> {
    let json = serde_json::to_vec(id).map_err(|error| Failure::internal(error.to_string()))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

fn read_cursor(cursor: &str) -> Answer<DocumentId> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let id = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    id.ok_or_else(|| Failure::invalid("this cursor is none of ours: leave it out to begin anew"))
}

/// Which documents are counted.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Counting {
    /// Only documents that match: an expression, or JSON.
    filter: Option<String>,
}

/// How many documents there are.
#[derive(Serialize, utoipa::ToSchema)]
struct Counted {
    /// Live documents.
    count: u64,
}

/// How many documents there are, or match
#[utoipa::path(get, path = "/v1/collections/{collection}/count", tag = "documents",
    params(("collection" = String, Path), Counting),
    responses((status = 200, body = Counted), (status = 404, body = FailureBody),
        (status = "default", body = FailureBody)))]
async fn count(
    State(app): State<Arc<App>>,
    Segments(collection): Segments<String>,
    Parameters(Counting { filter }): Parameters<Counting>,
) -> Answer<Json<Counted>> {
    app.read(move |app| {
        let filter = filter.map(|text| read_filter(&Value::String(text))).transpose()?;
        let snapshot = app.collection(&collection)?.snapshot()?;
        let count = match filter {
            Some(filter) => snapshot.count_matching(&filter)?,
            None => snapshot.count(),
        };
        Ok(Json(Counted { count }))
    })
    .await
}

/// What a document without an id is called: after its content, so that it is the same one whenever it is sent.
fn name_of_content(content: &str) -> String {
    format!("document#{}", formats::short_digest(content))
}
