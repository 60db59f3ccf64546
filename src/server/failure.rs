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

/// Every code with its status, whose turn it is, and what it means; the OpenAPI document lists them.
pub(super) const CODES: &[(&str, u16, FailureType, &str)] = {
    use FailureType::{Conflict, Internal, InvalidRequest, NotFound, Unavailable};
    &[
        ("invalid_request", 400, InvalidRequest, "The request cannot be taken; the message says which value and why"),
        ("invalid_json", 400, InvalidRequest, "The body is no JSON, or not of the shape that the route takes"),
        ("dimension_mismatch", 400, InvalidRequest, "A vector has another length than those of its space"),
        ("model_mismatch", 409, Conflict, "The collection was built with another model"),
        ("model_required", 409, Conflict, "The collection's model is known to the application alone that made it"),
        (
            "model_not_configured",
            400,
            InvalidRequest,
            "The request names a model that the server's operator did not configure",
        ),
        ("feature_missing", 501, InvalidRequest, "This build lacks a feature; the message names it"),
        ("unauthorized", 401, InvalidRequest, "No key, or one that is not known"),
        (
            "forbidden",
            403,
            InvalidRequest,
            "A key that may only read, a foreign Host or Origin, or a path outside of the import root",
        ),
        ("not_found", 404, NotFound, "There is no such route"),
        ("collection_not_found", 404, NotFound, "There is no collection of this name"),
        ("document_not_found", 404, NotFound, "There is no document of this id"),
        ("alias_not_found", 404, NotFound, "There is no alias of this name"),
        ("job_not_found", 404, NotFound, "There is no job of this id"),
        ("method_not_allowed", 405, InvalidRequest, "The route is there, and takes other methods"),
        ("conflict", 409, Conflict, "Something of that name is there already, or is in use"),
        ("precondition_failed", 412, Conflict, "The document has another version than If-Match names"),
        ("body_too_large", 413, InvalidRequest, "The body is longer than the server takes"),
        ("unsupported_media_type", 415, InvalidRequest, "The route takes other content types or encodings"),
        ("busy", 503, Unavailable, "Too much is asked at once; come again after Retry-After seconds"),
        ("stopping", 503, Unavailable, "The server is about to stop"),
        (
            "timeout",
            504,
            Unavailable,
            "The answer took too long; what it had begun was told to stop. A write may still come to its end: read before you repeat it",
        ),
        ("body_timeout", 408, InvalidRequest, "The body came too slowly"),
        ("model_unavailable", 503, Unavailable, "A model's files are missing or damaged, or it failed"),
        ("disk_full", 507, Unavailable, "There is no room on the disk; deleting still works"),
        (
            "storage_unavailable",
            503,
            Unavailable,
            "The disk failed or another process has the database; the message says what to do",
        ),
        ("too_many_jobs", 429, Unavailable, "So many jobs wait already; come again when one has ended"),
        ("cancelled", 409, Conflict, "A job was told to stop; what it committed stays"),
        ("empty", 400, InvalidRequest, "A list of texts is empty"),
        ("too_long", 413, InvalidRequest, "A text, or a list of them, is longer than the model or the server takes"),
        (
            "context_length_exceeded",
            400,
            InvalidRequest,
            "A text has more tokens than the model reads, and the request does not say to cut it",
        ),
        ("model_not_found", 404, NotFound, "The client of another product names a model that is not configured"),
        ("model_cannot", 424, InvalidRequest, "The model cannot do what the route is for"),
        ("internal", 500, Internal, "A fault of the server; the request id finds it in the log"),
    ]
};

impl Failure {
    /// A failure of this code, which [`CODES`] gives its status and type.
    pub(super) fn of(code: &'static str, message: impl Into<String>) -> Self {
        let listed = CODES.iter().find(|(listed, ..)| *listed == code);
        debug_assert!(listed.is_some(), "{code} is not listed");
        let (status, kind) = listed.map_or((500, FailureType::Internal), |(_, status, kind, _)| (*status, *kind));
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retryable = kind == FailureType::Unavailable;
        Self { status, code, kind, message: message.into(), retryable, param: None }
    }

    /// The same, about this field of the request.
    pub(super) fn about(self, param: &'static str) -> Self {
        Self { param: Some(param), ..self }
    }

    /// A request that cannot be taken.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::of("invalid_request", message)
    }

    /// Too many wait already.
    pub(super) fn busy(waiting_max: usize) -> Self {
        let message = format!("{waiting_max} requests wait already; come again in a second");
        Self::of("busy", message)
    }

    /// The server stops.
    pub(super) fn stopping() -> Self {
        Self::of("stopping", "the server is about to stop")
    }

    /// The time for an answer is over.
    pub(super) fn timeout(seconds: u64) -> Self {
        let message = format!(
            "no answer within {seconds} s; the work was told to stop, but a write may still come to its end: read before \
             you repeat it. Ask for less, or raise limits.request_seconds"
        );
        Self::of("timeout", message)
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
        Self::of("internal", message)
    }

    fn of_storage(error: &quiverdb_storage::Error) -> Self {
        use quiverdb_storage::Error as S;
        let message = error.to_string();
        #[allow(clippy::wildcard_enum_match_arm, reason = "storage's errors are non-exhaustive; all others are ours")]
        match error {
            S::InvalidInput(_) => Self::invalid(message),
            S::DimensionMismatch { .. } => Self::of("dimension_mismatch", message),
            S::UnknownCollection(_) => Self::of("collection_not_found", message),
            S::CollectionExists(_) => Self::of("conflict", message),
            S::Changed { .. } => Self::of("precondition_failed", message),
            S::DiskFull { .. } => Self::of("disk_full", message),
            S::Gone { .. } | S::Stale | S::Expired => Self::of("conflict", message),
            S::Io { .. } | S::Locked { .. } | S::NewerFormat { .. } | S::Poisoned(_) | S::Unconfirmed(_) => {
                Self::of("storage_unavailable", message)
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
            Error::DimensionMismatch { .. } => Self::of("dimension_mismatch", message),
            Error::ModelMismatch { .. } => Self::of("model_mismatch", message),
            Error::ModelRequired { .. } => Self::of("model_required", message),
            Error::FeatureMissing { .. } => Self::of("feature_missing", message),
            Error::Io { .. } => Self::of("storage_unavailable", message),
            Error::Model { .. } | Error::Embedding(_) | Error::Reranking(_) => Self::of("model_unavailable", message),
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

    use std::path::Path;

    use super::*;

    #[test]
    fn every_code_is_listed_once_and_its_type_is_that_of_its_status() {
        for (at, (code, status, kind, meaning)) in CODES.iter().enumerate() {
            assert!(CODES[..at].iter().all(|(other, ..)| other != code), "{code}");
            let expected = match status {
                404 => FailureType::NotFound,
                409 | 412 => FailureType::Conflict,
                429 | 503 | 504 | 507 => FailureType::Unavailable,
                500 => FailureType::Internal,
                _ => FailureType::InvalidRequest,
            };
            assert_eq!(*kind, expected, "{code}");
            let failure = Failure::of(code, *meaning);
            assert_eq!((failure.status.as_u16(), failure.kind), (*status, *kind), "{code}");
            assert_eq!(failure.retryable, expected == FailureType::Unavailable, "{code}");
        }
    }

    /// The codes that the sources below this folder name.
    fn named(folder: &Path, codes: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                named(&path, codes);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let calls = ["Failure::of", "Self::of"].into_iter().flat_map(|call| text.split(call).skip(1));
                let first = calls.filter_map(|rest| rest.strip_prefix('(')?.trim_start().strip_prefix('"'));
                codes.extend(first.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
        }
    }

    #[test]
    fn every_code_that_the_server_names_is_listed() {
        let mut codes = Vec::new();
        named(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server"), &mut codes);
        assert!(codes.len() > 40, "{codes:?}");
        for code in codes {
            assert!(CODES.iter().any(|(listed, ..)| *listed == code), "{code}");
        }
    }
}
