//! How do documents get in and out over HTTP?

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::server::app::App;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
}
