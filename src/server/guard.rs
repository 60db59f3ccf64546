//! Who may ask what?
//!
//! Invariants: every request gets an id, which is in its answer and in the log; who is not allowed is told so before a byte
//! of the body is read; keys are compared in constant time; a request whose `Host` is not ours, or that a web page of
//! another origin sends, is refused, because a browser would do it for anybody (DNS rebinding); a handler that panics is
//! answered with 500.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use subtle::{Choice, ConstantTimeEq};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::decompression::RequestDecompressionLayer;
use tracing::Instrument;

use super::app::{Answer, App};
use super::compat;
use super::failure::{Failure, FailureType};

/// The header of a request's id, in both directions.
pub(super) const REQUEST_ID: &str = "x-request-id";

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Everything.
    Write,
    /// What changes nothing.
    Read,
}

/// Puts the guards around all routes, the outermost last.
pub(super) fn around(routes: Router<Arc<App>>, app: &Arc<App>) -> Router<Arc<App>> {
    routes
        .layer(RequestDecompressionLayer::new())
        .layer(from_fn_with_state(app.clone(), within_time))
        .layer(from_fn_with_state(app.clone(), admit))
        .layer(cors(app))
        .layer(from_fn_with_state(app.clone(), observe))
}

/// Only the origins that the operator named; none as a rule.
fn cors(app: &App) -> CorsLayer {
    let origins = app.settings.cors_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let headers =
        [header::AUTHORIZATION, header::CONTENT_TYPE, header::IF_MATCH, header::HeaderName::from_static("api-key")];
    CorsLayer::new().allow_origin(AllowOrigin::list(origins)).allow_methods(methods).allow_headers(headers)
}

/// Gives each request its id and its line in the log, and each failure the shape that its client expects.
async fn observe(State(_): State<Arc<App>>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let path = request.uri().path().to_owned();
    let span = tracing::info_span!("request", id = %id, method = %request.method(), path = %path);
    let shape = compat::shape(&path);
    let response = std::panic::AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let response = response.unwrap_or_else(|_| {
        span.in_scope(|| tracing::error!("a handler panicked"));
        Failure::internal("the request met a fault of the server; please report it with the request id").into_response()
    });
    let mut response = match response.extensions().get::<Failure>().cloned() {
        Some(failure) => {
            span.in_scope(|| tracing::info!(code = failure.code, "refused"));
            let mut shaped = shape(&failure, &id);
            let retry = response.headers().get(header::RETRY_AFTER).cloned();
            retry.into_iter().for_each(|after| drop(shaped.headers_mut().insert(header::RETRY_AFTER, after)));
            shaped
        }
        None => response,
    };
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The id that a client gave, if it is short and plain, or a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let plain = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    given.filter(plain).map_or_else(|| uuid::Uuid::new_v4().simple().to_string(), str::to_owned)
}

/// Lets in who may.
async fn admit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match admitted(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(failure) => {
            let mut response = failure.into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

fn admitted(app: &App, request: &Request) -> Answer<()> {
    expect_host(app, request)?;
    expect_origin(app, request)?;
    if is_open(request.uri().path()) {
        return Ok(());
    }
    let role = role(app, request.headers())?;
    let writes = compat::writes(request.method(), request.uri().path());
    if writes && app.settings.read_only {
        return Err(forbidden("this server only reads"));
    }
    if writes && role == Role::Read {
        return Err(forbidden("this key may only read"));
    }
    Ok(())
}

/// What needs no key: whether the server is alive, which says nothing of what it holds, and the console's page, which asks
/// for the key itself.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/livez" | "/readyz" | "/health" | "/" | "/console.js" | "/console.css")
}

fn forbidden(message: impl Into<String>) -> Failure {
    Failure::refused(StatusCode::FORBIDDEN, "forbidden", message)
}

/// The name in `Host` must be one of ours: a page that had its own name point here would otherwise be let in.
fn expect_host(app: &App, request: &Request) -> Answer<()> {
    let given = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let given = given.or_else(|| request.uri().host()).unwrap_or_default();
    let name = without_port(given);
    let loopback = name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    // A web page cannot have a bare address as its name, so rebinding needs a name.
    let address = name.parse::<IpAddr>().is_ok();
    let named = app.settings.hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
    if loopback || address || named {
        return Ok(());
    }
    Err(forbidden(format!("the Host `{name}` is not one of this server's: add it with --host {name}")))
}

/// `name:port` and `[address]:port` without their port.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// A web page of another origin may ask only where it was allowed.
fn expect_origin(app: &App, request: &Request) -> Answer<()> {
    let Some(origin) = request.headers().get(header::ORIGIN).and_then(|origin| origin.to_str().ok()) else {
        return Ok(());
    };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let own = origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host));
    if own || app.settings.cors_origins.iter().any(|allowed| allowed == origin) {
        return Ok(());
    }
    Err(forbidden(format!("pages of {origin} may not ask: allow them with --cors-origin {origin}")))
}

/// What the key of a request allows.
fn role(app: &App, headers: &HeaderMap) -> Answer<Role> {
    let settings = &app.settings;
    if !settings.needs_key() {
        return Ok(Role::Write);
    }
    let given = key(headers).unwrap_or_default();
    if is_one_of(given, &settings.api_keys) {
        Ok(Role::Write)
    } else if is_one_of(given, &settings.read_only_keys) {
        Ok(Role::Read)
    } else {
        let message = if given.is_empty() {
            "no key: send it as `Authorization: Bearer KEY` or `api-key: KEY`"
        } else {
            "this key is not known"
        };
        Err(Failure::refused(StatusCode::UNAUTHORIZED, "unauthorized", message))
    }
}

/// The key as either header has it.
fn key(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let value = value.as_bytes();
        let (scheme, key) = value.split_at_checked(7)?;
        return scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii());
    }
    headers.get("api-key").map(HeaderValue::as_bytes)
}

/// Compares with every key, in a time that tells nothing but their lengths.
fn is_one_of(given: &[u8], keys: &[String]) -> bool {
    let equal = keys.iter().fold(Choice::from(0), |found, key| found | given.ct_eq(key.as_bytes()));
    equal.into()
}

/// Ends what takes too long; dropping it tells its work to stop.
async fn within_time(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if compat::streams(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    let seconds = app.settings.limits.request_seconds;
    match tokio::time::timeout(Duration::from_secs(seconds), next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failure::timeout(seconds).into_response(),
    }
}

/// No such route.
pub(super) async fn no_route(request: Request) -> Failure {
    Failure::not_found("not_found", format!("there is no {}; /docs shows all routes", request.uri().path()))
}

/// A route, and not this method of it.
pub(super) async fn no_method(request: Request) -> Failure {
    let message = format!("{} does not take {}; /docs shows what it takes", request.uri().path(), request.method());
    let mut failure = Failure::refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    failure.kind = FailureType::InvalidRequest;
    failure
}
