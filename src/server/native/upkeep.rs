//! How is the database kept: aliases, backups, compaction, numbers?
//!
//! Invariant: a backup goes into a new folder of a plain name below the one that the operator named, and nowhere else.

use std::sync::Arc;

use axum::extract::State;
use quiverdb_storage::validate_collection_name;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::collections::{CollectionNumbers, listed};
use crate::server::app::{Answer, App};
use crate::server::body::{Json, Segments};
use crate::server::failure::{Failure, FailureBody};
use crate::types::{BackedUp, CacheStats, Compacted};
use crate::{AliasEdit, Error};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(aliases, change_aliases))
        .routes(routes!(set_alias, remove_alias))
        .routes(routes!(backup))
        .routes(routes!(compact))
        .routes(routes!(check))
        .routes(routes!(stats))
}

/// All aliases.
#[derive(Serialize, utoipa::ToSchema)]
struct Aliases {
    /// By name.
    aliases: Vec<Alias>,
}

/// Another name of a collection.
#[derive(Serialize, utoipa::ToSchema)]
struct Alias {
    /// The other name.
    alias: String,
    /// The collection.
    collection: String,
}

impl Aliases {
    fn of(app: &App) -> Answer<Self> {
        let aliases = app.database.aliases()?;
        Ok(Self { aliases: aliases.into_iter().map(|(alias, collection)| Alias { alias, collection }).collect() })
    }
}

/// All aliases, by name
#[utoipa::path(get, path = "/v1/aliases", tag = "upkeep",
    responses((status = 200, body = Aliases), (status = "default", body = FailureBody)))]
async fn aliases(State(app): State<Arc<App>>) -> Answer<Json<Aliases>> {
    app.read(|app| Ok(Json(Aliases::of(app)?))).await
}

/// Changes of aliases.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct AliasChanges {
    /// In their order; all of them happen at once, or none.
    changes: Vec<AliasChange>,
}

/// A change of an alias.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct AliasChange {
    /// The alias.
    alias: String,
    /// The collection that it leads to from now on; null removes it.
    collection: Option<String>,
}

/// Set, switch and remove aliases, all at once or none
#[utoipa::path(post, path = "/v1/aliases", tag = "upkeep", request_body = AliasChanges,
    responses((status = 200, body = Aliases), (status = 404, body = FailureBody),
        (status = "default", body = FailureBody)))]
async fn change_aliases(
    State(app): State<Arc<App>>,
    Json(AliasChanges { changes }): Json<AliasChanges>,
) -> Answer<Json<Aliases>> {
    let edit = |AliasChange { alias, collection }: AliasChange| match collection {
        Some(collection) => AliasEdit::set(alias, collection),
        None => AliasEdit::remove(alias),
    };
    let edits: Vec<AliasEdit> = changes.into_iter().map(edit).collect();
    app.write(move |app, _| {
        app.database.change_aliases(&edits)?;
        Ok(Json(Aliases::of(app)?))
    })
    .await
}

/// Where an alias is to lead.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Target {
    /// The collection, or an alias of it.
    collection: String,
}

/// Have another name lead to a collection, or switch it to this one at once
#[utoipa::path(put, path = "/v1/aliases/{alias}", tag = "upkeep",
    params(("alias" = String, Path, min_length = 1, max_length = 255, pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$")),
    request_body = Target,
    responses((status = 200, body = Alias), (status = 404, body = FailureBody),
        (status = 409, body = FailureBody, description = "A collection has that name"),
        (status = "default", body = FailureBody)))]
async fn set_alias(
    State(app): State<Arc<App>>,
    Segments(alias): Segments<String>,
    Json(Target { collection }): Json<Target>,
) -> Answer<Json<Alias>> {
    app.write(move |app, _| {
        validate_collection_name(&alias).map_err(Error::from)?;
        let collection = app.collection(&collection)?.name().to_owned();
        app.database.alias(&alias, &collection).map_err(in_the_way)?;
        Ok(Json(Alias { alias, collection }))
    })
    .await
}

/// The names can be, so what is refused is so because of what is there.
fn in_the_way(error: Error) -> Failure {
    if let Error::InvalidInput(message) = error { Failure::of("conflict", message) } else { error.into() }
}

/// The alias that is gone.
#[derive(Serialize, utoipa::ToSchema)]
struct Removed {
    /// Its name.
    removed: String,
}

/// Remove an alias; its collection stays
#[utoipa::path(delete, path = "/v1/aliases/{alias}", tag = "upkeep", params(("alias" = String, Path)),
    responses((status = 200, body = Removed), (status = 404, body = FailureBody),
        (status = "default", body = FailureBody)))]
async fn remove_alias(State(app): State<Arc<App>>, Segments(alias): Segments<String>) -> Answer<Json<Removed>> {
    app.write(move |app, _| {
        app.database.remove_alias(&alias).map_err(|error| match error.to_string() {
            message if matches!(error, Error::InvalidInput(_)) => Failure::of("alias_not_found", message),
            _ => error.into(),
        })?;
        Ok(Json(Removed { removed: alias }))
    })
    .await
}

/// Where a backup is to go.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct BackupName {
    /// The new folder below the server's `backup_root`: 1 to 255 letters, digits, `.`, `_` and `-`.
    #[schema(min_length = 1, max_length = 255, pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$")]
    name: String,
}

/// A backup that was written and read again.
#[derive(Serialize, utoipa::ToSchema)]
struct Backup {
    /// The folder below `backup_root`.
    name: String,
    /// Collections in it.
    collections: u64,
    /// Documents in it.
    documents: u64,
    /// Segments in it.
    segments: u64,
    /// Bytes of it.
    bytes: u64,
}

/// Copy the database as it is now into a new folder
///
/// While reads and writes go on. What this answers for is on disk and was read again; `quiver restore` makes a database of it.
#[utoipa::path(post, path = "/v1/backup", tag = "upkeep", request_body = BackupName,
    responses((status = 200, body = Backup),
        (status = 403, body = FailureBody, description = "The server has no backup_root"),
        (status = 409, body = FailureBody, description = "Something of that name is there"),
        (status = "default", body = FailureBody)))]
async fn backup(State(app): State<Arc<App>>, Json(BackupName { name }): Json<BackupName>) -> Answer<Json<Backup>> {
    let Some(root) = app.settings.backup_root.clone() else {
        let message = "this server keeps no backups: its operator allows them with --backup-root DIR";
        return Err(Failure::of("forbidden", message));
    };
    // The rule for names of collections: no separator, and not only dots.
    if validate_collection_name(&name).is_err() {
        let shown: String = name.chars().take(64).collect();
        let message = format!(
            "`{}` cannot be the name of a backup: use 1 to 255 letters, digits, `.`, `_` or `-`",
            shown.escape_debug()
        );
        return Err(Failure::invalid(message));
    }
    app.write(move |app, _| {
        let folder = root.join(&name);
        if folder.symlink_metadata().is_ok() {
            let message = format!("there is a backup `{name}` already; choose another name");
            return Err(Failure::of("conflict", message));
        }
        let BackedUp { collections, documents, segments, bytes } = app.database.backup_to(&folder)?;
        Ok(Json(Backup { name, collections, documents, segments, bytes }))
    })
    .await
}

/// What compaction gave back.
#[derive(Serialize, utoipa::ToSchema)]
struct CompactedNumbers {
    /// Documents that were moved.
    moved: u64,
    /// Bytes on disk before.
    bytes_before: u64,
    /// Bytes on disk after.
    bytes_after: u64,
    /// Whether the file was cut.
    shrunk: bool,
}

/// Give back what deleted and replaced documents take on disk
#[utoipa::path(post, path = "/v1/compact", tag = "upkeep",
    responses((status = 200, body = CompactedNumbers), (status = "default", body = FailureBody)))]
async fn compact(State(app): State<Arc<App>>) -> Answer<Json<CompactedNumbers>> {
    app.write(|app, _| {
        let Compacted { moved, bytes_before, bytes_after, shrunk } = app.database.compact()?;
        Ok(Json(CompactedNumbers { moved, bytes_before, bytes_after, shrunk }))
    })
    .await
}

/// What is wrong with the database.
#[derive(Serialize, utoipa::ToSchema)]
struct Checked {
    /// A sentence each; none where all is well.
    violations: Vec<String>,
}

/// Check every record and invariant
///
/// Reads the whole database and changes nothing; `quiver check --repair` mends what can be built again.
#[utoipa::path(post, path = "/v1/check", tag = "upkeep",
    responses((status = 200, body = Checked), (status = "default", body = FailureBody)))]
async fn check(State(app): State<Arc<App>>) -> Answer<Json<Checked>> {
    // It takes long, so it waits in that lane.
    app.write(|app, cancel| Ok(Json(Checked { violations: app.database.check_until(cancel)? }))).await
}

/// The database in numbers.
#[derive(Serialize, utoipa::ToSchema)]
struct Stats {
    /// By name.
    collections: Vec<CollectionNumbers>,
    /// What is kept of texts that models read before.
    embedding_cache: CacheNumbers,
}

/// The cache of embeddings.
#[derive(Serialize, utoipa::ToSchema)]
struct CacheNumbers {
    /// Vectors in it.
    entries: u64,
    /// What they take.
    bytes: u64,
    /// What they may take.
    bytes_max: u64,
    /// Texts that were found since the database was opened.
    hits: u64,
    /// Texts that were not.
    misses: u64,
}

impl From<CacheStats> for CacheNumbers {
    fn from(CacheStats { entries, bytes, bytes_max, hits, misses }: CacheStats) -> Self {
        Self { entries, bytes, bytes_max, hits, misses }
    }
}

/// The database in numbers, as `quiver stats --json`
#[utoipa::path(get, path = "/v1/stats", tag = "upkeep",
    responses((status = 200, body = Stats), (status = "default", body = FailureBody)))]
async fn stats(State(app): State<Arc<App>>) -> Answer<Json<Stats>> {
    app.read(|app| {
        let (collections, embedding_cache) = (listed(app)?.collections, app.database.embedding_cache()?.into());
        Ok(Json(Stats { collections, embedding_cache }))
    })
    .await
}
