//! What can be asked, in OpenAPI 3.1, generated from the code, and a page that shows it.
//!
//! Invariants: every operation says how it fails; the list of codes is that of [`CODES`]; the page asks nobody but this
//! server, and writes nothing of the document as markup.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, PathItem, Ref, RefOr, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;

use super::app::App;
use super::failure::{CODES, FailureBody};

/// What stands above the routes.
#[derive(OpenApi)]
#[openapi(
    info(title = "QuiverDB", license(name = "MIT OR Apache-2.0")),
    servers((url = "/", description = "This server")),
    tags(
        (name = "collections", description = "What documents are kept in: their model, their chunks, their numbers."),
        (name = "documents", description = "Texts with an id, a title and metadata; chunked and embedded here."),
        (name = "search", description = "By words, by a vector, or both, within a filter; with scores explained."),
        (name = "jobs", description = "What takes long: imports and new models, with progress, and a way to stop them."),
        (name = "upkeep", description = "Numbers, backups, and room on the disk."),
        (name = "map", description = "A collection's embeddings in two dimensions."),
        (name = "Cohere and Jina", description = "Embeddings and judgements for clients of other products."),
        (name = "OpenAI", description = "Embeddings and judgements for clients of other products."),
        (name = "text-embeddings-inference", description = "Embeddings and judgements for clients of other products."),
    ),
    components(schemas(FailureBody))
)]
struct About;

/// The page that shows the document.
const PAGE: &str = include_str!("openapi/docs.html");

/// Takes the routes apart into a router and a document, and has the router show both the document and the page. The document
/// says that a key is needed where one is.
pub(super) fn documented(routes: OpenApiRouter<Arc<App>>, needs_key: bool) -> Router<Arc<App>> {
    let (router, mut document) = OpenApiRouter::with_openapi(About::openapi()).merge(routes).split_for_parts();
    complete(&mut document);
    if needs_key {
        let either = ["bearer", "api-key"].map(|name| SecurityRequirement::new(name, Vec::<String>::new()));
        document.security = Some(either.to_vec());
    }
    // Written once: a client that asks for it ten thousand times is no reason to work.
    let document = Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
    let json = [(header::CONTENT_TYPE, "application/json")];
    router.route("/openapi.json", get(move || async move { (json, document.clone()) })).route("/docs", get(page))
}

/// Says what the routes do not say themselves.
fn complete(document: &mut utoipa::openapi::OpenApi) {
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    document.info.description = Some(description());
    let components = document.components.get_or_insert_default();
    let bearer =
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("One of the server's keys")).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let header = ApiKeyValue::with_description("api-key", "One of the server's keys");
    components.add_security_scheme("api-key", SecurityScheme::ApiKey(ApiKey::Header(header)));
    document.paths.paths.values_mut().flat_map(operations).for_each(expect_failures);
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// Every operation may fail, and fails in one shape unless it says another.
fn expect_failures(operation: &mut Operation) {
    operation.responses.responses.entry("default".to_owned()).or_insert_with(|| {
        let schema = Ref::from_schema_name("FailureBody");
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new().description("A failure").content("application/json", content).build();
        RefOr::T(response)
    });
}

fn description() -> String {
    let mut text = String::from(
        "The embedded vector database that embeds for you: text in, cited passages out.\n\nFailures are `{\"error\": \
         {\"code\", \"message\", \"type\", \"retryable\", \"request_id\"}}`. A code never changes its meaning:\n\n| code | \
         status | meaning |\n|---|---|---|\n",
    );
    for (code, status, _, meaning) in CODES {
        text += &format!("| `{code}` | {status} | {meaning} |\n");
    }
    text
}

/// The reference page. It loads nothing from elsewhere.
async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                  img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, PAGE)
}
