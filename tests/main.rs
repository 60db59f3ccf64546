//! Does the whole hold? One binary, one module per behaviour; unit tests stand beside the code they test.
//!
//! No test needs the network, a GPU, or a model beyond the one built in. Seeds are printed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test, a panic is the report and the harness keeps stdout"
)]

mod at_work;
mod caching;
#[cfg(feature = "cli")]
mod cli;
mod concurrency;
mod contexts;
mod damage;
mod expiry;
mod filters;
#[cfg(feature = "hub")]
mod hub;
mod images;
#[cfg(feature = "parquet")]
mod importing;
mod kill;
mod library;
mod lock;
#[cfg(all(feature = "cli", feature = "mcp"))]
mod mcp;
mod offline;
mod reembed;
mod refusals;
#[cfg(feature = "remote")]
mod remote;
mod reranking;
mod scenes;
mod search_quality;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "http")]
mod serving;
mod spaces;
mod syntax;
mod tidy;
