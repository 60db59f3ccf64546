//! Which collections are there?

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::server::app::{Answer, App};
use crate::server::body::Json;
use crate::server::failure::FailureBody;

/// The routes of collections.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// All collections.
#[derive(Serialize, utoipa::ToSchema)]
struct Listed {
    /// In numbers, by name.
    collections: Vec<Value>,
}

/// All collections in numbers, by name
#[utoipa::path(get, path = "/v1/collections", tag = "collections",
    responses((status = 200, body = Listed), (status = "default", body = FailureBody)))]
async fn list(State(app): State<Arc<App>>) -> Answer<Json<Listed>> {
    let collections = app
        .read(|app| {
            let collections = app.database.collections()?;
            Ok(collections.iter().filter_map(|stats| serde_json::to_value(stats).ok()).collect())
        })
        .await?;
    Ok(Json(Listed { collections }))
}
