//! Who may ask what?
//!
//! Invariants: every request gets an id, which is in its answer and in the log; who is not allowed is told so before a byte
//! of the body is read; keys are compared in constant time; a request whose `Host` is not ours, or that a web page of
//! another origin sends, is refused, because a browser would do it for anybody (DNS rebinding); what a request may do is told
//! by its route and never by words in its path, which may be names that a client chose; a handler that panics is answered
//! with 500.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::Instrument;

use super::app::{Answer, App};
use super::compat;
use super::connections::Crowded;
use super::encoding::decompress;
use super::failure::Failure;
use super::metrics::NO_ROUTE;
use super::pace::Paced;

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
    let mut routes = routes
        .layer(from_fn(decompress))
        .layer(from_fn_with_state(app.clone(), within_time))
        .layer(from_fn_with_state(app.clone(), admit));
    if !app.settings.cors_origins.is_empty() {
        routes = routes.layer(cors(app));
    }
    routes.layer(from_fn_with_state(app.clone(), expect_ours)).layer(from_fn_with_state(app.clone(), observe))
}

/// Only the origins that the operator named.
fn cors(app: &App) -> CorsLayer {
    let origins = app.settings.cors_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let named = |name| header::HeaderName::from_static(name);
    let headers = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::IF_MATCH,
        named("api-key"),
        named("idempotency-key"),
        named(REQUEST_ID),
    ];
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods(methods)
        .allow_headers(headers)
        .expose_headers([header::ETAG, header::RETRY_AFTER, named(REQUEST_ID)])
}

/// The template of a request's route, `/v1/collections/{name}`; empty where there is none.
fn route(request: &Request) -> &str {
    request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str)
}

/// Gives each request its id and its line in the log, and each failure the shape that its client expects.
async fn observe(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let (came, _counted) = (Instant::now(), app.metrics.asked());
    let id = request_id(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let template = Some(route(&request)).filter(|route| !route.is_empty()).unwrap_or(NO_ROUTE).to_owned();
    let span = tracing::info_span!("request", id = %id, method = %method, path = %path);
    let body = std::mem::take(request.body_mut());
    *request.body_mut() = Body::new(Paced::new(body, &app.settings.limits));
    let response = std::panic::AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let response = response.unwrap_or_else(|_| Failure::fault().into_response());
    let failure = response.extensions().get::<Failure>().cloned().or_else(|| unworded(&response));
    let mut response = match &failure {
        Some(failure) => shaped(failure, &response, compat::shape(&path), &id),
        None => response,
    };
    let (status, took) = (response.status().as_u16(), came.elapsed());
    app.metrics.answered(method.as_str(), &template, status, took);
    let (code, ms) = (failure.map(|failure| failure.code), took.as_secs_f64() * 1_000.0);
    span.in_scope(|| tracing::info!(route = template, status, code, ms, "answered"));
    let headers = response.headers_mut();
    // Nothing here is to be guessed at, or to be embedded by pages of others.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// A failure in the shape of its client, with the headers that belong to it.
fn shaped(failure: &Failure, bare: &Response, shape: fn(&Failure, &str) -> Response, id: &str) -> Response {
    let mut shaped = shape(failure, id);
    let kept = [header::RETRY_AFTER, header::WWW_AUTHENTICATE, header::ALLOW, header::ACCEPT_ENCODING];
    let of_origins = [header::ACCESS_CONTROL_ALLOW_ORIGIN, header::ACCESS_CONTROL_EXPOSE_HEADERS, header::VARY];
    let kept = kept.into_iter().chain(of_origins);
    for name in kept {
        if let Some(value) = bare.headers().get(&name) {
            shaped.headers_mut().insert(name, value.clone());
        }
    }
    shaped
}

/// What a layer or the framework refused by itself, which knows no words of ours.
fn unworded(response: &Response) -> Option<Failure> {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !(status.is_client_error() || status.is_server_error())
        || kind.is_some_and(|kind| !kind.starts_with(b"text/plain"))
    {
        return None;
    }
    if status.is_server_error() {
        return Some(Failure::fault());
    }
    let message = "the request cannot be taken: its path or its query is not as the route expects (UTF-8, numbers)";
    // The status is what protocols go by, such as that of MCP.
    Some(Failure { status, ..Failure::invalid(message) })
}

/// The id that a client gave, if it is short and plain, or a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let plain = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    given.filter(plain).map_or_else(|| uuid::Uuid::new_v4().simple().to_string(), str::to_owned)
}

/// Refuses what was not meant for this server, before anything else is answered, CORS among it.
async fn expect_ours(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match expect_host(&app, &request).and_then(|()| expect_origin(&app, &request)) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

/// Lets in who may, as long as there is room.
async fn admit(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    if is_open(request.uri().path()) {
        return next.run(request).await;
    }
    match admitted(&app, &request) {
        Ok(role) => {
            request.extensions_mut().insert(role);
        }
        Err(failure) => {
            let mut response = failure.into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            return response;
        }
    }
    let crowded = request.extensions().get::<Crowded>().is_some();
    match app.requests.try_acquire() {
        Ok(_permit) if !crowded => next.run(request).await,
        _ => Failure::crowded(&app.settings.limits).into_response(),
    }
}

/// What who asks may do, if anything.
fn admitted(app: &App, request: &Request) -> Answer<Role> {
    let role = role(app, request.headers())?;
    let template = route(request);
    // Without a route there is nothing to change, and it is told so.
    let writes = !template.is_empty() && compat::writes(request.method(), template);
    if writes && app.settings.read_only {
        return Err(forbidden("this server only reads"));
    }
    if writes && role == Role::Read {
        return Err(forbidden("this key may only read"));
    }
    Ok(role)
}

/// What needs no key: whether the server is alive, which says nothing of what it holds, and the pages, which ask for the key
/// themselves.
fn is_open(path: &str) -> bool {
    const OPEN: &[&str] =
        &["/healthz", "/livez", "/readyz", "/health", "/", "/console.js", "/console.css", "/favicon.svg", "/docs"];
    OPEN.contains(&path)
}

fn forbidden(message: impl Into<String>) -> Failure {
    Failure::of("forbidden", message)
}

/// The name in `Host` must be one of ours: a page that had its own name point here would otherwise be let in. So must be
/// that of an address given in full, which stands above it.
fn expect_host(app: &App, request: &Request) -> Answer<()> {
    let mut given = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (given.next(), given.next()) else {
        return Err(Failure::invalid("a request has one Host header, no fewer and no more"));
    };
    let host = host.to_str().map_err(|_| forbidden("the Host is no name"))?;
    let full = request.uri().authority().map(|authority| authority.as_str());
    for host in std::iter::once(host).chain(full) {
        let name = without_port(host).unwrap_or(host);
        if !is_ours(app, name) || without_port(host).is_none() {
            return Err(forbidden(format!("the Host `{name}` is not one of this server's: add it with --host {name}")));
        }
    }
    Ok(())
}

fn is_ours(app: &App, name: &str) -> bool {
    // A web page cannot have a bare address as its name, so rebinding needs a name.
    let address = name.parse::<IpAddr>().is_ok();
    let named = app.settings.hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
    address || named || name.eq_ignore_ascii_case("localhost")
}

/// `name:port` and `[address]:port` without their port, where it is one.
fn without_port(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (address, if port.is_empty() { "0" } else { port.strip_prefix(':')? })
        }
        None => host.rsplit_once(':').unwrap_or((host, "0")),
    };
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
}

/// A web page of another origin may ask only where it was allowed.
fn expect_origin(app: &App, request: &Request) -> Answer<()> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    for origin in request.headers().get_all(header::ORIGIN) {
        let origin = origin.to_str().map_err(|_| forbidden("the Origin is none"))?;
        let own = origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host));
        if !own && !app.settings.cors_origins.iter().any(|allowed| allowed == origin) {
            return Err(forbidden(format!("pages of {origin} may not ask: allow them with --cors-origin {origin}")));
        }
    }
    Ok(())
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
        Err(Failure::of("unauthorized", message))
    }
}

/// The key as either header has it. What stands before the server may want an `Authorization` of another kind.
fn key(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    });
    bearer.or_else(|| headers.get("api-key").map(HeaderValue::as_bytes))
}

/// Compares with every key, by digests, so that the time tells neither what is equal nor how long a key is.
fn is_one_of(given: &[u8], keys: &[String]) -> bool {
    let digest = Sha256::digest(given);
    let equal = |key: &String| digest.as_slice().ct_eq(Sha256::digest(key).as_slice());
    keys.iter().fold(Choice::from(0), |found, key| found | equal(key)).into()
}

/// Ends what takes too long; dropping it tells its work to stop.
async fn within_time(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if compat::streams(request.method(), route(&request)) {
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
    Failure::of("not_found", format!("there is no {}; /docs shows all routes", request.uri().path()))
}

/// A route, and not this method of it.
pub(super) async fn no_method(request: Request) -> Failure {
    let message = format!("{} does not take {}; /docs shows what it takes", request.uri().path(), request.method());
    Failure::of("method_not_allowed", message)
}
