//! What is a client told when something goes wrong?
//!
//! Invariants: a code never changes its meaning, and all of them stand in [`CODES`]; the message names the value and the way
//! out; what is our own fault is told without a path or a text of a document.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Limits;
use crate::Error;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum FailureType {
    /// The client's: another request is needed.
    InvalidRequest,
    /// There is no such thing.
    NotFound,
    /// What is there stands against it.
    Conflict,
    /// Not now: come again.
    Unavailable,
    /// Ours.
    Internal,
}

/// An answer that is no result.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) kind: FailureType,
    pub(super) message: String,
    pub(super) retryable: bool,
    /// The field of the request that it is about, where a product's shape has a place for it.
    pub(super) param: Option<&'static str>,
}

/// Every code with its status and what it means; the OpenAPI document lists them.
pub(super) const CODES: &[(&str, u16, &str)] = &[
    ("invalid_request", 400, "The request cannot be taken; the message says which value and why"),
    ("invalid_json", 400, "The body is no JSON, or not of the shape that the route takes"),
    ("dimension_mismatch", 400, "A vector has another length than those of its space"),
    ("model_mismatch", 409, "The collection was built with another model"),
    ("model_required", 409, "The collection's model is known to the application alone that made it"),
    ("model_not_configured", 400, "The request names a model that the server's operator did not configure"),
    ("feature_missing", 501, "This build lacks a feature; the message names it"),
    ("unauthorized", 401, "No key, or one that is not known"),
    ("forbidden", 403, "A key that may only read, a foreign Host or Origin, or a path outside of the import root"),
    ("not_found", 404, "There is no such route"),
    ("collection_not_found", 404, "There is no collection of this name"),
    ("document_not_found", 404, "There is no document of this id"),
    ("alias_not_found", 404, "There is no alias of this name"),
    ("job_not_found", 404, "There is no job of this id"),
    ("method_not_allowed", 405, "The route is there, and takes other methods"),
    ("conflict", 409, "Something of that name is there already, or is in use"),
    ("precondition_failed", 412, "The document has another version than If-Match names"),
    ("body_too_large", 413, "The body is longer than the server takes"),
    ("unsupported_media_type", 415, "The route takes other content types or encodings"),
    ("busy", 503, "Too much is asked at once; come again after Retry-After seconds"),
    ("stopping", 503, "The server is about to stop"),
    (
        "timeout",
        504,
        "The answer took too long; what it had begun was told to stop. A write may still come to its end: read before you repeat it",
    ),
    ("body_timeout", 408, "The body came too slowly"),
    ("model_unavailable", 503, "A model's files are missing or damaged, or it failed"),
    ("disk_full", 507, "There is no room on the disk; deleting still works"),
    ("storage_unavailable", 503, "The disk failed or another process has the database; the message says what to do"),
    ("too_many_jobs", 429, "So many jobs wait already; come again when one has ended"),
    ("cancelled", 409, "A job was told to stop; what it committed stays"),
    ("empty", 400, "A list of texts is empty"),
    ("too_long", 413, "A text, or a list of them, is longer than the model or the server takes"),
    (
        "context_length_exceeded",
        400,
        "A text has more tokens than the model reads, and the request does not say to cut it",
    ),
    ("model_not_found", 404, "The client of another product names a model that is not configured"),
    ("model_cannot", 424, "The model cannot do what the route is for"),
    ("internal", 500, "A fault of the server; the request id finds it in the log"),
];

impl Failure {
    fn new(status: StatusCode, code: &'static str, kind: FailureType, message: impl Into<String>) -> Self {
        let retryable = kind == FailureType::Unavailable;
        Self { status, code, kind, message: message.into(), retryable, param: None }
    }

    /// The same, about this field of the request.
    pub(super) fn about(self, param: &'static str) -> Self {
        Self { param: Some(param), ..self }
    }

    /// A request that cannot be taken.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", FailureType::InvalidRequest, message)
    }

    /// [`Failure::invalid`] with a code of its own.
    pub(super) fn refused(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(status, code, FailureType::InvalidRequest, message)
    }

    /// There is no such thing.
    pub(super) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, FailureType::NotFound, message)
    }

    /// What is there stands against it.
    pub(super) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, FailureType::Conflict, message)
    }

    /// The document has another version than the request expects.
    fn conflict_of_version(message: String) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", FailureType::Conflict, message)
    }

    /// Too many wait already.
    pub(super) fn busy(waiting_max: usize) -> Self {
        let message = format!("{waiting_max} requests wait already; come again in a second");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", FailureType::Unavailable, message)
    }

    /// The server stops.
    pub(super) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", FailureType::Unavailable, "the server is about to stop")
    }

    /// The time for an answer is over.
    pub(super) fn timeout(seconds: u64) -> Self {
        let message = format!(
            "no answer within {seconds} s; the work was told to stop, but a write may still come to its end: read before \
             you repeat it. Ask for less, or raise limits.request_seconds"
        );
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", FailureType::Unavailable, message)
    }

    /// A call of the core panicked or was not let run.
    pub(super) fn panicked(error: tokio::task::JoinError) -> Self {
        if error.is_cancelled() {
            return Self::stopping();
        }
        tracing::error!("a request panicked");
        Self::fault()
    }

    /// A panic, or something else that must not happen.
    pub(super) fn fault() -> Self {
        Self::internal("the request met a fault of the server; please report it with the request id")
    }

    /// All connections or all places for requests are taken.
    pub(super) fn crowded(limits: &Limits) -> Self {
        let Limits { requests, connections, .. } = limits;
        let message = format!(
            "{requests} requests or {connections} connections are under way already; come again in a second, or raise \
             limits.requests or limits.connections"
        );
        Self { message, ..Self::busy(0) }
    }

    /// Ours.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", FailureType::Internal, message)
    }

    fn unavailable(code: &'static str, message: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, FailureType::Unavailable, message)
    }

    fn of_storage(error: &quiverdb_storage::Error) -> Self {
        use quiverdb_storage::Error as S;
        let message = error.to_string();
        #[allow(clippy::wildcard_enum_match_arm, reason = "storage's errors are non-exhaustive; all others are ours")]
        match error {
            S::InvalidInput(_) => Self::invalid(message),
            S::DimensionMismatch { .. } => Self::refused(StatusCode::BAD_REQUEST, "dimension_mismatch", message),
            S::UnknownCollection(_) => Self::not_found("collection_not_found", message),
            S::CollectionExists(_) => Self::conflict("conflict", message),
            S::Changed { .. } => Self::conflict_of_version(message),
            S::DiskFull { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", FailureType::Unavailable, message)
            }
            S::Gone { .. } | S::Stale | S::Expired => Self::conflict("conflict", message),
            S::Io { .. } | S::Locked { .. } | S::NewerFormat { .. } | S::Poisoned(_) | S::Unconfirmed(_) => {
                Self::unavailable("storage_unavailable", message)
            }
            _ => {
                tracing::error!(error = %message, "the storage engine failed");
                Self::internal(message)
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match &error {
            Error::InvalidInput(_) => Self::invalid(message),
            Error::DimensionMismatch { .. } => Self::refused(StatusCode::BAD_REQUEST, "dimension_mismatch", message),
            Error::ModelMismatch { .. } => Self::conflict("model_mismatch", message),
            Error::ModelRequired { .. } => Self::conflict("model_required", message),
            Error::FeatureMissing { .. } => Self::refused(StatusCode::NOT_IMPLEMENTED, "feature_missing", message),
            Error::Io { .. } => Self::unavailable("storage_unavailable", message),
            Error::Model { .. } | Error::Embedding(_) | Error::Reranking(_) => {
                Self::unavailable("model_unavailable", message)
            }
            Error::Storage(storage) => Self::of_storage(storage),
        }
    }
}

/// Without a body: which shape it has depends on whose client asks, and [`super::guard`] knows that.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if self.code == "busy" || self.code == "stopping" {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// The native shape of a failure.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct FailureBody {
    error: FailureDetails,
}

/// What went wrong.
#[derive(Serialize, utoipa::ToSchema)]
struct FailureDetails {
    /// Stable; see the list of codes.
    code: String,
    /// What happened, and what to do next.
    message: String,
    /// Whose turn it is.
    r#type: FailureType,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// Finds the request in the server's log.
    request_id: String,
}

impl FailureBody {
    pub(super) fn new(failure: &Failure, request_id: &str) -> Self {
        let Failure { code, kind, message, retryable, .. } = failure.clone();
        Self {
            error: FailureDetails {
                code: code.to_owned(),
                message,
                r#type: kind,
                retryable,
                request_id: request_id.to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_code_that_an_error_gets_is_listed_with_its_status() {
        let failures = [
            Failure::invalid("x"),
            Failure::busy(1),
            Failure::stopping(),
            Failure::timeout(1),
            Failure::internal("x"),
            Failure::from(Error::Embedding("x".into())),
            Failure::from(Error::Storage(quiverdb_storage::Error::UnknownCollection("x".into()))),
            Failure::from(Error::FeatureMissing { what: "x".into(), feature: "y" }),
        ];
        for failure in failures {
            let listed = CODES.iter().find(|(code, ..)| *code == failure.code).unwrap();
            assert_eq!(listed.1, failure.status.as_u16(), "{}", failure.code);
        }
    }
}
