//! What do clients of Qdrant ask over REST?
//!
//! A subset below `/qdrant`, so that `QdrantClient(url=.., prefix="qdrant")` works as it is: collections and aliases, points and
//! their payloads, scrolling, counting, facets, queries and groups, with filters that mean exactly what they mean there. What is
//! not supported (sparse vectors, multivectors, geo filters, shards, snapshots) is refused by its name, in Qdrant's shape.
//! Writes are durable when they are answered, so `wait` changes nothing; nor do `ordering`, `consistency` and `timeout`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::{FromRequestParts, Path as RawPath, State};
use axum::http::request::Parts;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use quiverdb_storage::AliasEdit;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use self::shape::Shape;
use self::write::Change;
use crate::server::app::{Answer, App, Kind};
use crate::server::body::Json;
use crate::server::failure::Failure;

mod condition;
mod ids;
mod moments;
mod path;
mod point;
mod query;
mod read;
mod scope;
mod settle;
mod shape;
#[cfg(test)]
mod trials;
mod variety;
mod write;

/// Where all of it is.
const BASE: &str = "/qdrant";
/// The version of Qdrant whose API this is a part of, so that its clients know what they talk to.
const VERSION: &str = "1.19.0";

/// Whether a path is one of Qdrant's.
pub(super) fn is_below(path: &str) -> bool {
    path.strip_prefix(BASE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a request to one of these paths only asks.
pub(super) fn asks(method: &Method, path: &str) -> bool {
    const ASKS: [&str; 7] = ["/points", "/scroll", "/count", "/query", "/query/batch", "/query/groups", "/facet"];
    method == Method::POST && ASKS.iter().any(|end| path.ends_with(end))
}

/// A failure in Qdrant's shape.
pub(super) fn failed(failure: &Failure, _request_id: &str) -> Response {
    let body = json!({"status": {"error": failure.message}, "time": 0.0});
    (failure.status, Json(body)).into_response()
}

/// The routes, all below `/qdrant`.
pub(super) fn routes() -> Router<Arc<App>> {
    let collections = Router::new()
        .route("/", get(version))
        .route("/collections", get(collections))
        .route("/collections/aliases", post(change_aliases))
        .route("/aliases", get(aliases))
        .route("/collections/{c}", get(information).put(create).patch(tune).delete(remove))
        .route("/collections/{c}/exists", get(exists))
        .route("/collections/{c}/aliases", get(aliases_of))
        .route("/collections/{c}/index", put(index))
        .route("/collections/{c}/index/{field}", delete(forget_index))
        .route("/collections/{c}/snapshots", get(snapshots));
    let points = Router::new()
        .route("/", put(upsert).post(retrieve))
        .route("/{id}", get(point))
        .route("/scroll", post(scroll))
        .route("/count", post(count))
        .route("/delete", post(delete_points))
        .route("/payload", post(set_payload).put(overwrite_payload))
        .route("/payload/delete", post(delete_payload))
        .route("/payload/clear", post(clear_payload))
        .route("/vectors", put(update_vectors))
        .route("/vectors/delete", post(delete_vectors))
        .route("/batch", post(batch))
        .route("/query", post(query))
        .route("/query/batch", post(query_batch))
        .route("/query/groups", post(query_groups));
    let all = collections
        .nest("/collections/{c}/points", points)
        .route("/collections/{c}/facet", post(facet))
        .fallback(no_route);
    Router::new().route("/qdrant/", get(version)).nest(BASE, all)
}

/// The path is without [`BASE`] here.
async fn no_route(uri: Uri) -> Failure {
    let message = format!("there is no {BASE}{}: this part of Qdrant's API is not supported", uri.path());
    Failure::of("not_found", message)
}

/// Refuses what is given and not supported, by its name.
fn unsupported(given: &[(&str, &Option<Value>)]) -> Answer<()> {
    let given = given.iter().find(|(_, value)| value.as_ref().is_some_and(|value| !value.is_null()));
    match given {
        None => Ok(()),
        Some((name, _)) => Err(Failure::invalid(format!("`{name}` is not supported here; leave it out"))),
    }
}

/// Parts of the path.
struct Named<T>(T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let path = RawPath::<T>::from_request_parts(parts, state).await;
        path.map(|RawPath(value)| Self(value)).map_err(|error| Failure::invalid(format!("the path: {error}")))
    }
}

type Shared = State<Arc<App>>;
type Name = Named<std::collections::HashMap<String, String>>;

impl Name {
    fn collection(&self) -> String {
        self.part("c")
    }

    fn part(&self, name: &str) -> String {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

/// A result in Qdrant's envelope.
fn done(begun: Instant, result: Value) -> Json<Value> {
    Json(json!({"result": result, "status": "ok", "time": begun.elapsed().as_secs_f64()}))
}

async fn ask(app: Arc<App>, call: impl FnOnce(&App) -> Answer<Value> + Send + 'static) -> Answer<Json<Value>> {
    let begun = Instant::now();
    Ok(done(begun, app.read(call).await?))
}

/// [`ask`] of what may take long: it is told when nobody waits any more.
async fn look(
    app: Arc<App>,
    call: impl FnOnce(&App, &AtomicBool) -> Answer<Value> + Send + 'static,
) -> Answer<Json<Value>> {
    let begun = Instant::now();
    Ok(done(begun, app.call(Kind::Read, call).await?))
}

/// Ends what nobody waits for any more.
fn expect_waiting(cancel: &AtomicBool) -> Answer<()> {
    if cancel.load(Ordering::Relaxed) { Err(Failure::stopping()) } else { Ok(()) }
}

async fn change(app: Arc<App>, call: impl FnOnce(&App) -> Answer<Value> + Send + 'static) -> Answer<Json<Value>> {
    let begun = Instant::now();
    Ok(done(begun, app.write(|app, _| call(app)).await?))
}

async fn make(app: Arc<App>, name: String, changes: Vec<Change>, is_batch: bool) -> Answer<Json<Value>> {
    let begun = Instant::now();
    let updated = json!({"operation_id": 0, "status": "completed"});
    let count = changes.len();
    app.write(move |app, cancel| changes.into_iter().try_for_each(|change| write::make(app, &name, change, cancel)))
        .await?;
    Ok(done(begun, if is_batch { Value::Array(vec![updated; count]) } else { updated }))
}

async fn version() -> Json<Value> {
    let title = format!("quiverdb {} - a subset of Qdrant's REST API", env!("CARGO_PKG_VERSION"));
    Json(json!({"title": title, "version": VERSION}))
}

async fn collections(State(app): Shared) -> Answer<Json<Value>> {
    ask(app, |app| {
        let names: Vec<Value> =
            app.database.collections()?.into_iter().map(|stats| json!({"name": stats.name})).collect();
        Ok(json!({"collections": names}))
    })
    .await
}

async fn information(State(app): Shared, name: Name) -> Answer<Json<Value>> {
    ask(app, move |app| shape::information(&Shape::of(app, &name.collection())?)).await
}

async fn exists(State(app): Shared, name: Name) -> Answer<Json<Value>> {
    ask(app, move |app| Ok(json!({"exists": app.database.has_collection(&name.collection())?}))).await
}

/// What a collection can be told. What only tunes Qdrant's indexes is taken and changes nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    vectors: Option<Value>,
    sparse_vectors: Option<Value>,
    sharding_method: Option<Value>,
    strict_mode_config: Option<Value>,
    metadata: Option<Value>,
    init_from: Option<Value>,
    shard_number: Option<u32>,
    replication_factor: Option<u32>,
    write_consistency_factor: Option<u32>,
    #[serde(rename = "hnsw_config")]
    _hnsw: Option<Value>,
    #[serde(rename = "wal_config")]
    _wal: Option<Value>,
    #[serde(rename = "optimizers_config")]
    _optimizers: Option<Value>,
    #[serde(rename = "quantization_config")]
    _quantization: Option<Value>,
    #[serde(rename = "on_disk_payload")]
    _on_disk: Option<Value>,
}

impl Create {
    fn validate(&self) -> Answer<()> {
        let empty = |value: &Option<Value>| value.clone().filter(|value| *value != json!({}));
        unsupported(&[
            ("sparse_vectors", &empty(&self.sparse_vectors)),
            ("sharding_method", &self.sharding_method.clone().filter(|method| method != "auto")),
            ("strict_mode_config", &empty(&self.strict_mode_config)),
            ("metadata", &empty(&self.metadata)),
            ("init_from", &self.init_from),
        ])?;
        let factors = [
            ("shard_number", self.shard_number),
            ("replication_factor", self.replication_factor),
            ("write_consistency_factor", self.write_consistency_factor),
        ];
        match factors.iter().find(|(_, factor)| factor.is_some_and(|factor| factor > 1)) {
            None => Ok(()),
            Some((name, _)) => {
                Err(Failure::invalid(format!("`{name}` above 1 is not supported here: there is one server")))
            }
        }
    }
}

async fn create(State(app): Shared, name: Name, Json(body): Json<Create>) -> Answer<Json<Value>> {
    change(app, move |app| {
        let name = name.collection();
        body.validate()?;
        if app.database.has_collection(&name)? {
            let message = format!("Wrong input: Collection `{name}` already exists!");
            return Err(Failure::of("conflict", message));
        }
        app.database.collection_with(&name, shape::configuration(&body.vectors.unwrap_or_default())?)?;
        Ok(json!(true))
    })
    .await
}

/// Tuning is taken, and changes nothing.
async fn tune(State(app): Shared, name: Name, Json(body): Json<Map<String, Value>>) -> Answer<Json<Value>> {
    const TUNING: [&str; 3] = ["optimizers_config", "hnsw_config", "quantization_config"];
    change(app, move |app| {
        Shape::of(app, &name.collection())?;
        let given = body.iter().filter(|(_, value)| !value.is_null());
        let other = given.map(|(key, _)| key).find(|key| !TUNING.contains(&key.as_str()));
        match other {
            None => Ok(json!(true)),
            Some(other) => {
                Err(Failure::invalid(format!("`{other}` of a collection cannot be changed here; leave it out")))
            }
        }
    })
    .await
}

async fn remove(State(app): Shared, name: Name) -> Answer<Json<Value>> {
    change(app, move |app| {
        let name = name.collection();
        let is_there = app.database.has_collection(&name)?;
        if is_there {
            app.database.drop_collection(&name)?;
        }
        Ok(json!(is_there))
    })
    .await
}

fn described(aliases: Vec<(String, String)>, of: Option<&str>) -> Value {
    let wanted = aliases.into_iter().filter(|(_, target)| of.is_none_or(|of| of == target));
    let shown: Vec<Value> =
        wanted.map(|(alias, target)| json!({"alias_name": alias, "collection_name": target})).collect();
    json!({"aliases": shown})
}

async fn aliases(State(app): Shared) -> Answer<Json<Value>> {
    ask(app, |app| Ok(described(app.database.aliases()?, None))).await
}

async fn aliases_of(State(app): Shared, name: Name) -> Answer<Json<Value>> {
    ask(app, move |app| {
        let shape = Shape::of(app, &name.collection())?;
        Ok(described(app.database.aliases()?, Some(shape.collection.name())))
    })
    .await
}

/// `POST /collections/aliases`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AliasChanges {
    actions: Vec<AliasAction>,
}

#[derive(Deserialize)]
enum AliasAction {
    #[serde(rename = "create_alias")]
    Create { collection_name: String, alias_name: String },
    #[serde(rename = "delete_alias")]
    Delete { alias_name: String },
    #[serde(rename = "rename_alias")]
    Rename { old_alias_name: String, new_alias_name: String },
}

async fn change_aliases(State(app): Shared, Json(body): Json<AliasChanges>) -> Answer<Json<Value>> {
    change(app, move |app| {
        let mut known: std::collections::BTreeMap<String, String> = app.database.aliases()?.into_iter().collect();
        let mut edits = Vec::new();
        for action in body.actions {
            match action {
                AliasAction::Create { collection_name, alias_name } => {
                    if !app.database.has_collection(&collection_name)? {
                        return Err(shape::missing(&collection_name));
                    }
                    known.insert(alias_name.clone(), collection_name.clone());
                    edits.push(AliasEdit::set(alias_name, collection_name));
                }
                // One that is not there is deleted already, to Qdrant.
                AliasAction::Delete { alias_name } => {
                    edits.extend(known.remove(&alias_name).map(|_| AliasEdit::remove(alias_name)));
                }
                AliasAction::Rename { old_alias_name, new_alias_name } => {
                    let missing = || shape::missing(&old_alias_name);
                    let target = known.remove(&old_alias_name).ok_or_else(missing)?;
                    known.insert(new_alias_name.clone(), target.clone());
                    edits.extend([AliasEdit::remove(old_alias_name), AliasEdit::set(new_alias_name, target)]);
                }
            }
        }
        app.database.change_aliases(&edits)?;
        Ok(json!(true))
    })
    .await
}

/// Metadata are indexed always.
async fn index(State(app): Shared, name: Name, Json(body): Json<Map<String, Value>>) -> Answer<Json<Value>> {
    change(app, move |app| {
        Shape::of(app, &name.collection())?;
        let field = body.get("field_name").and_then(Value::as_str);
        path::Path::parse(field.ok_or_else(|| Failure::invalid("`field_name` names the field"))?)?;
        Ok(json!({"operation_id": 0, "status": "completed"}))
    })
    .await
}

async fn forget_index(State(app): Shared, name: Name) -> Answer<Json<Value>> {
    change(app, move |app| {
        Shape::of(app, &name.collection())?;
        path::Path::parse(&name.part("field"))?;
        Ok(json!({"operation_id": 0, "status": "completed"}))
    })
    .await
}

/// There are none: what is backed up natively is a whole database.
async fn snapshots(State(app): Shared, name: Name) -> Answer<Json<Value>> {
    ask(app, move |app| Shape::of(app, &name.collection()).map(|_| json!([]))).await
}

async fn upsert(State(app): Shared, name: Name, Json(body): Json<write::Upsert>) -> Answer<Json<Value>> {
    make(app, name.collection(), vec![Change::Upsert(body)], false).await
}

async fn delete_points(State(app): Shared, name: Name, Json(body): Json<write::Selector>) -> Answer<Json<Value>> {
    make(app, name.collection(), vec![Change::Delete(body)], false).await
}

async fn set_payload(State(app): Shared, name: Name, Json(body): Json<write::SetPayload>) -> Answer<Json<Value>> {
    make(app, name.collection(), vec![Change::SetPayload(body)], false).await
}

async fn overwrite_payload(State(app): Shared, name: Name, Json(body): Json<write::SetPayload>) -> Answer<Json<Value>> {
    make(app, name.collection(), vec![Change::OverwritePayload(body)], false).await
}

async fn delete_payload(State(app): Shared, name: Name, Json(body): Json<write::DeletePayload>) -> Answer<Json<Value>> {
    make(app, name.collection(), vec![Change::DeletePayload(body)], false).await
}

async fn clear_payload(State(app): Shared, name: Name, Json(body): Json<write::Selector>) -> Answer<Json<Value>> {
    make(app, name.collection(), vec![Change::ClearPayload(body)], false).await
}

async fn update_vectors(State(app): Shared, name: Name, Json(body): Json<write::UpdateVectors>) -> Answer<Json<Value>> {
    make(app, name.collection(), vec![Change::UpdateVectors(body)], false).await
}

async fn delete_vectors() -> Failure {
    Failure::invalid("deleting vectors is not supported here: every point has a vector in each space; delete the point")
}

async fn batch(State(app): Shared, name: Name, Json(body): Json<write::Batch>) -> Answer<Json<Value>> {
    make(app, name.collection(), body.changes()?, true).await
}

async fn retrieve(State(app): Shared, name: Name, Json(body): Json<read::Retrieve>) -> Answer<Json<Value>> {
    look(app, move |app, cancel| read::retrieve(app, &name.collection(), &body, cancel)).await
}

async fn point(State(app): Shared, name: Name) -> Answer<Json<Value>> {
    ask(app, move |app| read::one(app, &name.collection(), &name.part("id"))).await
}

async fn scroll(State(app): Shared, name: Name, Json(body): Json<read::Scroll>) -> Answer<Json<Value>> {
    look(app, move |app, cancel| read::scroll(app, &name.collection(), &body, cancel)).await
}

async fn count(State(app): Shared, name: Name, Json(body): Json<read::Count>) -> Answer<Json<Value>> {
    look(app, move |app, cancel| read::count(app, &name.collection(), &body, cancel)).await
}

async fn facet(State(app): Shared, name: Name, Json(body): Json<read::Facet>) -> Answer<Json<Value>> {
    look(app, move |app, cancel| read::facet(app, &name.collection(), &body, cancel)).await
}

async fn query(State(app): Shared, name: Name, Json(body): Json<Map<String, Value>>) -> Answer<Json<Value>> {
    look(app, move |app, cancel| query::query(app, &name.collection(), body, cancel)).await
}

async fn query_batch(State(app): Shared, name: Name, Json(body): Json<Map<String, Value>>) -> Answer<Json<Value>> {
    look(app, move |app, cancel| query::batch(app, &name.collection(), body, cancel)).await
}

async fn query_groups(State(app): Shared, name: Name, Json(body): Json<Map<String, Value>>) -> Answer<Json<Value>> {
    look(app, move |app, cancel| query::groups(app, &name.collection(), body, cancel)).await
}
