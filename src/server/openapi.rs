//! What can be asked, in OpenAPI 3.1, generated from the code.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use super::app::App;
use super::body::Json;

/// What stands above the routes.
#[derive(OpenApi)]
#[openapi(info(title = "QuiverDB", description = "The embedded vector database that embeds for you"))]
struct About;

/// Takes the routes apart into a router and a document, and has the router show the document.
pub(super) fn documented(routes: OpenApiRouter<Arc<App>>) -> Router<Arc<App>> {
    let (router, document) = OpenApiRouter::with_openapi(About::openapi()).merge(routes).split_for_parts();
    let document = Arc::new(document);
    router.route("/openapi.json", get(move || async move { Json(document.as_ref().clone()) }))
}
