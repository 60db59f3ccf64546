//! How do language models' programs ask over HTTP? The Model Context Protocol at `/mcp`, behind the same guards.
//!
//! Invariants: whose key may only read gets the tools that read, and no others; calls take their turn with those of all
//! other routes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::body::Body;
use axum::extract::Request;
use axum::routing::any;
use axum::{Extension, Router};

use super::app::{App, Kind};
use super::guard::Role;
use crate::Database;
use crate::mcp::{Access, Host, over_http};

/// Where it is; [`super::compat::writes`] leaves to it what a key may do there.
pub(super) const PATH: &str = "/mcp";

/// The route.
pub(super) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    let limits = &app.settings.limits;
    let access = Access {
        read_only: app.settings.read_only,
        collections: Vec::new(),
        models: app.settings.models.clone(),
        text_bytes: limits.text_bytes,
        batch: limits.batch.min(Access::default().batch),
        hits: limits.hits.min(Access::default().hits),
        answer_bytes: limits.body_bytes.min(Access::default().answer_bytes),
    };
    let host = Arc::new(Behind(app.clone()));
    let reading = over_http(host.clone(), Access { read_only: true, ..access.clone() }, limits.body_bytes);
    let writing = over_http(host, access, limits.body_bytes);
    let answer = move |Extension(role): Extension<Role>, request: Request| async move {
        let service = match role {
            Role::Write => writing,
            Role::Read => reading,
        };
        service.handle(request).await.map(Body::new)
    };
    Router::new().route(PATH, any(answer))
}

/// The calls of one protocol among those of all others.
struct Behind(Arc<App>);

impl Host for Behind {
    async fn call<T: Send + 'static>(
        &self,
        writes: bool,
        work: impl FnOnce(&Database, &AtomicBool) -> T + Send + 'static,
    ) -> Result<T, String> {
        let kind = if writes { Kind::Write } else { Kind::Read };
        let call = self.0.call(kind, |app, cancel| Ok(work(&app.database, cancel)));
        call.await.map_err(|failure| failure.message)
    }
}
