//! Is it alive, is it ready, what is it, and what has it done?

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Value, json};

use super::app::{Answer, App};
use super::body::Json;
use super::failure::Failure;

/// As the specification of OpenMetrics names it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What operators ask.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/healthz", get(alive))
        .route("/livez", get(alive))
        .route("/readyz", get(ready))
        .route("/version", get(version))
        .route("/metrics", get(metrics))
}

/// It answers, so it is alive.
async fn alive() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// The database can be read, so it is ready.
async fn ready(State(app): State<Arc<App>>) -> Answer<Json<Value>> {
    app.look(|app| Ok(app.database.has_collection("default")?)).await?;
    Ok(Json(json!({"status": "ready"})))
}

async fn version() -> Json<Value> {
    Json(json!({"name": "quiverdb", "version": env!("CARGO_PKG_VERSION")}))
}

/// What it has done and what it holds.
async fn metrics(State(app): State<Arc<App>>) -> Answer<impl IntoResponse> {
    let text =
        app.look(|app| app.metrics.print().map_err(|_| Failure::internal("the metrics cannot be written"))).await?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text))
}
