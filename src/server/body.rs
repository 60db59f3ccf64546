//! How is a request's body read?
//!
//! Invariants: no body is read before its sender is known to be allowed; none takes more memory than the limit, and none
//! longer than its pieces may take; what is not of the expected shape is refused with the path of the value.

use std::error::Error;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Query as RawQuery, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::app::{Answer, App};
use super::failure::Failure;
use super::pace::Slow;

/// A body in JSON, in and out.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Answer<Self> {
        expect_json(&request)?;
        let bytes = whole(request.into_body(), app).await?;
        Ok(Self(parse(&bytes)?))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
            Err(error) => Failure::internal(format!("the answer cannot be written: {error}")).into_response(),
        }
    }
}

/// The query part of the address; what is not known is refused where the type says so.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        match RawQuery::try_from_uri(&parts.uri) {
            Ok(RawQuery(value)) => Ok(Self(value)),
            Err(error) => Err(Failure::invalid(format!("the query of the address: {}", error.body_text()))),
        }
    }
}

/// The essence of a request's content type, in lower case; empty where it has none.
pub(super) fn content_type(request: &Request) -> String {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Refuses what is not said to be JSON: a web page may send plain text to anybody, and JSON only to who allows it.
fn expect_json(request: &Request) -> Answer<()> {
    let given = content_type(request);
    if given == "application/json" || given.ends_with("+json") {
        return Ok(());
    }
    let message = format!("the content type is `{given}`; send `application/json`");
    Err(Failure::refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

/// The whole body, within the limit of bytes.
pub(super) async fn whole(body: Body, app: &App) -> Answer<Vec<u8>> {
    let limits = &app.settings.limits;
    let mut bytes = Vec::new();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| broken(&error))?;
        if bytes.len() + piece.len() > limits.body_bytes {
            return Err(too_large(limits.body_bytes as u64));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// A body that did not come to its end: too slow, cut off, or not compressed as it says.
pub(super) fn broken(error: &(dyn Error + 'static)) -> Failure {
    match Slow::behind(error) {
        Some(message) => Failure::refused(StatusCode::REQUEST_TIMEOUT, "body_timeout", message),
        None => Failure::invalid(format!("the body cannot be read: {error}")),
    }
}

/// A body beyond the limit.
pub(super) fn too_large(bytes_max: u64) -> Failure {
    let message = format!(
        "the body is longer than {bytes_max} bytes: send it in several requests, as NDJSON, or raise limits.body_bytes"
    );
    Failure::refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

/// Reads JSON; the message of an error names the path of the value.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    let refuse = |message: String| Failure::refused(StatusCode::BAD_REQUEST, "invalid_json", message);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let at = if path == "." { String::new() } else { format!("{path}: ") };
        refuse(format!("the body is not what this route takes: {at}{}", error.inner()))
    })?;
    deserializer.end().map_err(|error| refuse(format!("the body goes on behind its JSON value: {error}")))?;
    Ok(value)
}
