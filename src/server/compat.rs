//! Which other products' clients are answered, and in which shape?
//!
//! Invariant: what a client of another product sends is answered as that product would, or refused in that product's shape
//! by the name of what is not supported; nothing is ignored in silence.

use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;

use super::app::App;
use super::failure::Failure;
use super::native;

mod cohere;
mod openai;
mod qdrant;
mod shapes;
mod tei;
mod texts;

/// The routes that our own OpenAPI document describes.
pub(super) fn documented() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().merge(openai::routes()).merge(cohere::routes()).merge(tei::routes())
}

/// The routes that the document of their product describes.
pub(super) fn undocumented() -> Router<Arc<App>> {
    qdrant::routes()
}

/// How a failure looks to the client that asked for this path.
pub(super) fn shape(path: &str) -> fn(&Failure, &str) -> Response {
    if openai::is_route(path) {
        openai::failed
    } else if cohere::is_route(path) {
        cohere::failed
    } else if tei::is_route(path) {
        tei::failed
    } else if qdrant::is_below(path) {
        qdrant::failed
    } else {
        native::failed
    }
}

/// Whether a request may change something. `path` is the template of its route, so that no name of a client's is taken for a
/// word of ours. What only asks is listed; all that is not listed is taken for a change, so that a
/// new route is closed to readers until somebody thought of it.
pub(super) fn writes(method: &Method, path: &str) -> bool {
    const ASKS: &[&str] = &[
        "/search",
        "/search/batch",
        "/context",
        "/embeddings",
        "/rerank",
        "/embed",
        "/tokenize",
        "/documents/get",
        "/v1/check",
    ];
    // The Model Context Protocol has one path for all: which tools a key gets is decided there.
    let asks =
        method == Method::POST && (path == "/mcp" || ASKS.iter().any(|end| path.ends_with(end)) || tei::is_route(path));
    let asks = if qdrant::is_below(path) { qdrant::asks(method, path) } else { asks };
    !(asks || matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS))
}

/// Whether a request takes as long as it takes: its body or its answer is a stream. `path` is the template of its route.
pub(super) fn streams(method: &Method, path: &str) -> bool {
    const UPKEEP: &[&str] = &["/v1/backup", "/v1/compact", "/v1/check"];
    method == Method::POST && (path.ends_with("/documents") || UPKEEP.contains(&path)) || path.ends_with("/events")
}
