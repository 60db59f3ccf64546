//! How do language models' programs use the database? The Model Context Protocol: tools to search and to write, and
//! documents as resources.
//!
//! Invariants: nothing is done but by the library's own verbs; what goes wrong in a tool, a panic included, is an answer
//! that the model can read, and never the end of the connection; where writing is not allowed, the tools that write are
//! neither shown nor run; no model is loaded but those that the operator configured; stdout belongs to the protocol. Over
//! HTTP there are no sessions: each request is answered for itself, so that nobody can leave one behind.

mod handler;
mod resources;
mod stdio;
mod tools;

use std::sync::atomic::AtomicBool;

#[cfg(feature = "server")]
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
#[cfg(feature = "server")]
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use self::handler::Handler;
pub use self::stdio::serve_stdio;
use crate::Database;

/// What a client may do, and how much of it at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Nothing may be changed: the tools that write are not there.
    pub read_only: bool,
    /// The collections that may be used; all of them where this is empty.
    pub collections: Vec<String>,
    /// The models that a new collection may name, besides `builtin` and those that collections have.
    pub models: Vec<String>,
    /// Bytes of a document's text, and of a query.
    pub text_bytes: usize,
    /// Documents of one `add`, and ids of one `get` or `delete`.
    pub batch: usize,
    /// Hits of a search.
    pub hits: usize,
    /// Bytes of an answer of several documents; one alone is given whole.
    pub answer_bytes: usize,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            read_only: false,
            collections: Vec::new(),
            models: Vec::new(),
            text_bytes: 16 << 20,
            batch: 1_000,
            hits: 100,
            answer_bytes: 16 << 20,
        }
    }
}

impl Access {
    /// Whether this collection may be used.
    fn allows(&self, collection: &str) -> bool {
        self.collections.is_empty() || self.collections.iter().any(|allowed| allowed == collection)
    }

    /// The collection that is meant where none is named.
    fn collection_default(&self) -> &str {
        match self.collections.first() {
            Some(first) if !self.allows("default") => first,
            _ => "default",
        }
    }
}

/// Where the calls of the core run: on threads for blocking work, so many at once as the host allows.
pub(crate) trait Host: Send + Sync + 'static {
    /// Runs a call, and gives it what tells it to stop: set when the returned future is dropped.
    ///
    /// # Errors
    /// In words, where it was not let run or panicked.
    fn call<T: Send + 'static>(
        &self,
        writes: bool,
        work: impl FnOnce(&Database, &AtomicBool) -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, String>> + Send;
}

/// What answers over HTTP. Who may ask, under which name and with how long a request is for the host to decide before.
#[cfg(feature = "server")]
pub(crate) fn over_http<H: Host>(
    host: std::sync::Arc<H>,
    access: Access,
    body_bytes: usize,
) -> StreamableHttpService<Handler<H>, NeverSessionManager> {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(body_bytes)
        .disable_allowed_hosts()
        .disable_allowed_origins();
    let handler = Handler::new(host, access);
    StreamableHttpService::new(move || Ok(handler.clone()), NeverSessionManager::default().into(), config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collection_meant_by_default_is_one_that_may_be_used() {
        let access = |names: &[&str]| Access {
            collections: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Access::default()
        };
        assert_eq!(access(&[]).collection_default(), "default");
        assert_eq!(access(&["notes", "mail"]).collection_default(), "notes");
        assert_eq!(access(&["notes", "default"]).collection_default(), "default");
    }
}
