//! What do clients of Qdrant ask over REST?

use std::sync::Arc;

use axum::Router;

use crate::server::app::App;

/// The routes, all below `/qdrant`.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
}
