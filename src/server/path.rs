//! Which thing does the address name?

use axum::extract::{FromRequestParts, Path as RawPath};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::app::Answer;
use super::failure::Failure;

/// What the segments of a route's path say. Those that are no text are refused in our shape.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        match RawPath::from_request_parts(parts, state).await {
            Ok(RawPath(value)) => Ok(Self(value)),
            Err(error) => Err(Failure::invalid(format!("the path of the address: {}", error.body_text()))),
        }
    }
}
