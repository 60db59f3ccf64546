//! Is it alive, is it ready, what is it, and what has it done?

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};

use super::app::{Answer, App};
use super::body::Json;

/// What operators ask.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/healthz", get(alive))
        .route("/livez", get(alive))
        .route("/readyz", get(ready))
        .route("/version", get(version))
}

/// It answers, so it is alive.
async fn alive() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// The database can be read, so it is ready.
async fn ready(State(app): State<Arc<App>>) -> Answer<Json<Value>> {
    app.read(|app| Ok(app.database.has_collection("default")?)).await?;
    Ok(Json(json!({"status": "ready"})))
}

async fn version() -> Json<Value> {
    Json(json!({"name": "quiverdb", "version": env!("CARGO_PKG_VERSION")}))
}
