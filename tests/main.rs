//! Does the whole hold? One binary, one module per behaviour; unit tests stand beside the code they test.
//!
//! No test needs the network, a GPU, or a model beyond the one built in. Seeds are printed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test, a panic is the report and the harness keeps stdout"
)]

#[cfg(feature = "cli")]
mod cli;
mod concurrency;
mod damage;
mod filters;
mod kill;
mod library;
mod lock;
mod offline;
mod refusals;
mod reranking;
mod scenes;
mod search_quality;
mod spaces;
mod syntax;
mod tidy;
