//! The routes of `/v1`: the library's verbs with the library's names.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;

use super::app::App;
use super::body::Json;
use super::failure::{Failure, FailureBody};

mod collections;
mod documents;
mod jobs;
mod map;
mod search;
mod upkeep;

pub(super) use self::documents::Replays;
pub(super) use self::jobs::Jobs;

/// The native routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .merge(collections::routes())
        .merge(documents::routes())
        .merge(search::routes())
        .merge(jobs::routes())
        .merge(upkeep::routes())
        .merge(map::routes())
}

/// A failure in the native shape.
pub(super) fn failed(failure: &Failure, request_id: &str) -> Response {
    let mut response = Json(FailureBody::new(failure, request_id)).into_response();
    *response.status_mut() = failure.status;
    response
}
