//! **The embedded vector database that embeds for you:** text in, cited passages out. One process, no server, no API
//! key, and no download before the first answer.
//!
//! ```
//! use quiverdb::{Database, Document, Query};
//! use serde_json::json;
//!
//! # fn main() -> quiverdb::Result<()> {
//! let db = Database::in_memory()?; // or Database::open("notes.db")
//! let notes = db.collection("notes")?; // built-in model unless configured
//! let text = "A value can be borrowed many times for reading, or once for writing.";
//! notes.add(Document::new("rust-book", text).metadata(json!({"lang": "en"})))?;
//! for hit in notes.search(Query::text("how does borrowing work?").limit(5))? {
//!     println!("{:.3} {} [{}..{}] {}", hit.score, hit.document, hit.start, hit.end, hit.text);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Two flows
//!
//! ```text
//! ingest:  load -> chunk -> embed -> commit ............ seal
//! query :  embed -> retrieve (dense + text, filtered) -> fuse -> rerank -> hydrate
//! ```
//!
//! # The map: a question per module
//!
//! | module | question |
//! |---|---|
//! | [`types`] | What goes in and what comes out? |
//! | [`images`] | What is a picture, and how is it read from a file? |
//! | [`config`] | How should a collection be made? |
//! | `cache` | Was this text embedded before? |
//! | [`chunk`] | Where does one passage end and the next begin? |
//! | [`models`] | Where do models come from, and which of them are in memory? |
//! | [`embed`] | How does text become vectors? |
//! | [`rerank`] | Which of these passages answers best? |
//! | [`formats`] | How do files become documents? |
//! | [`fuse`] | How do two ranked lists become one? |
//! | `markdown` | Where are the headings of a Markdown text? |
//! | `moment` | Which moment is this? |
//! | `spaces` | Where do the vectors of a space come from? |
//! | `parts` | What is a collection made of? |
//! | `ingest` | How does a document get in? |
//! | `import` | How does a file of a million rows get in exactly once? |
//! | `query` | How is a question answered? |
//! | [`export`] | How does a collection get out again? |
//! | [`reembed`] | How does a collection change its model or its chunks while it is in use? |
//! | [`context`] | How do hits become a cited context for a language model? |
//! | [`eval`] | How good is the answer, measured? |
//! | [`db`] | The front door: [`Database`], [`Collection`] |
//! | `mcp` | How do language models' programs use the database? |
//! | `nonblocking` | How is the library called from tokio? |
//! | `server` | Who listens, what do they answer, and how does it stop? |
//! | [`quiverdb_storage`] | How does it get to disk and back? |
//!
//! # Glossary
//!
//! A *document* has an id, a text and metadata. A *chunk* is a byte range of a document's text. A *space* is a vector
//! space with dimensions and a metric; a collection has a default one, and further ones by name. A *collection* is a
//! named set of documents with its spaces, each with one model or none. A *hit* is a chunk
//! that answers a query. *Score*: larger is better. *Segment*: a sealed, derived index over a range of chunks;
//! *tail*: the chunks newer than the last segment, searched exactly.

mod cache;
pub mod chunk;
pub mod config;
pub mod context;
pub mod db;
pub mod embed;
mod error;
pub mod eval;
pub mod export;
pub mod formats;
pub mod fuse;
pub mod images;
#[cfg(feature = "parquet")]
mod import;
mod ingest;
mod markdown;
#[cfg(feature = "mcp")]
pub mod mcp;
pub mod models;
mod moment;
#[cfg(feature = "server")]
pub mod nonblocking;
mod parts;
mod query;
pub mod reembed;
pub mod rerank;
#[cfg(feature = "server")]
pub mod server;
mod spaces;
pub mod types;

pub use config::{CollectionConfig, SpaceConfig};
pub use db::{Collection, Database, Snapshot, Version};
pub use embed::Embedder;
pub use error::{Blame, Error, Result};
pub use export::{ExportOptions, ExportReport};
pub use images::Image;
#[cfg(feature = "parquet")]
pub use import::{ImportOptions, ImportProgress, ImportReport};
pub use ingest::AddOptions;
pub use quiverdb_storage::{AliasEdit, DocumentId, ExpectedVersion, Filter, Language, Metric};
pub use reembed::{ReembedOptions, ReembedReport};
pub use rerank::Reranker;
pub use types::{AddReport, Document, Hit, Mode, Query, SearchResults};

/// The README's code, compiled and run as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
