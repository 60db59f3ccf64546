//! Where does the log go, and what does it say of a panic?
//!
//! Invariants: one line a request at `info`, with its method, route, status and time; no text of a document, of a query or
//! of an answer at `info` or above, so a panic is told by its place and not by its message, which may quote a text.

use std::io::stderr;
use std::panic::{PanicHookInfo, set_hook};

use tracing_subscriber::EnvFilter;

use super::{LogFormat, Settings};
use crate::{Error, Result};

/// Logs on stderr what the settings say, for the whole process, and the place of every panic. A program that has a
/// `tracing` subscriber of its own does not need this.
///
/// # Errors
/// [`Error::InvalidInput`] for a filter that cannot be read, or where something logs already.
pub fn log(settings: &Settings) -> Result<()> {
    let filter = EnvFilter::try_new(&settings.log_filter)
        .map_err(|error| Error::invalid(format!("the log filter `{}` cannot be read: {error}", settings.log_filter)))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    let started = match settings.log {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    };
    started.map_err(|error| Error::invalid(format!("the log cannot be had: {error}")))?;
    set_hook(Box::new(tell));
    Ok(())
}

/// One line for a panic, in the span of its request.
fn tell(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map_or_else(String::new, ToString::to_string);
    tracing::error!(place, "a panic");
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    tracing::debug!(text, "the panic's message");
}
