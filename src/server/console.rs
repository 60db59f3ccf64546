//! What does a person see in a browser? One page with its script and its style, out of the binary.
//!
//! Invariants: the page loads nothing from elsewhere, and runs nothing that stands in a document (its policy forbids scripts
//! but the one file); it asks the same routes as everybody, with the key that its user gives.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::app::App;

/// What a browser may do on behalf of the page: ask this server, and nothing else.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

/// A file of the console.
struct Asset {
    path: &'static str,
    media_type: &'static str,
    content: &'static str,
}

const ASSETS: [Asset; 4] = [
    Asset { path: "/", media_type: "text/html; charset=utf-8", content: include_str!("console/index.html") },
    Asset {
        path: "/console.js",
        media_type: "text/javascript; charset=utf-8",
        content: include_str!("console/console.js"),
    },
    Asset { path: "/console.css", media_type: "text/css; charset=utf-8", content: include_str!("console/console.css") },
    Asset { path: "/favicon.svg", media_type: "image/svg+xml", content: include_str!("console/favicon.svg") },
];

/// The page and what belongs to it.
pub(super) fn routes() -> Router<Arc<App>> {
    let route = |router: Router<_>, asset: &'static Asset| {
        router.route(asset.path, get(move |headers: HeaderMap| async move { asset.answer(&headers) }))
    };
    ASSETS.iter().fold(Router::new(), route)
}

impl Asset {
    fn answer(&self, headers: &HeaderMap) -> Response {
        let tag = self.tag();
        let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
        let is_known = known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag);
        let head = [
            (header::CONTENT_TYPE, self.media_type),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            // Asked for again each time, so that a newer server never meets an older script.
            (header::CACHE_CONTROL, "no-cache"),
            (header::ETAG, &tag),
        ];
        match is_known {
            true => (StatusCode::NOT_MODIFIED, head).into_response(),
            false => (head, self.content).into_response(),
        }
    }

    /// Differs where the content does.
    fn tag(&self) -> String {
        let mut hasher = DefaultHasher::new();
        hasher.write(self.content.as_bytes());
        format!("\"{:016x}\"", hasher.finish())
    }
}
