//! What does a person see in a browser?

use std::sync::Arc;

use axum::Router;

use super::app::App;

/// The page and what belongs to it.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
}
