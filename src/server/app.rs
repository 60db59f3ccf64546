//! What does every request work with, and on which thread does it work?
//!
//! Invariants: the core is called on threads for blocking work only; at most so many calls run at once, so many wait, and
//! the next one is told to come again; where the client goes away or the time is over, the call is told to stop; a call
//! that panics is answered, and nothing else is harmed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::Semaphore;

use axum::http::StatusCode;

use super::failure::Failure;
use super::{Settings, Stop};
use crate::embed::Embedder;
use crate::rerank::Reranker;
use crate::{Collection, Database, Result};

/// The model that every server has.
pub(super) const BUILTIN: &str = "builtin";

/// A request's outcome.
pub(super) type Answer<T> = std::result::Result<T, Failure>;

/// What the handlers share.
pub(super) struct App {
    pub(super) database: Database,
    pub(super) settings: Settings,
    pub(super) stop: Stop,
    pub(super) started: Instant,
    reads: Lane,
    writes: Lane,
}

/// Calls of one kind: so many at once, so many that wait.
struct Lane {
    at_once: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// Which calls wait for which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Searches, look-ups, and texts to embed for a query.
    Read,
    /// What changes the database, and all that takes long.
    Write,
}

impl Lane {
    fn new(at_once: usize, waiting_max: usize) -> Self {
        Self { at_once: Arc::new(Semaphore::new(at_once)), waiting: AtomicUsize::new(0), waiting_max }
    }
}

/// Counts one who waits, for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells the call to stop when the request is dropped: its client went away, or its time is over.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl App {
    pub(super) fn new(database: Database, settings: Settings, stop: Stop) -> Result<Self> {
        let limits = &settings.limits;
        let reads = Lane::new(limits.reads_at_once(), limits.queue);
        let writes = Lane::new(limits.writes_at_once, limits.queue);
        Ok(Self { database, stop, started: Instant::now(), reads, writes, settings })
    }

    /// Runs a call of the core. It is given what tells it to stop.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        kind: Kind,
        call: impl FnOnce(&App, &AtomicBool) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let lane = match kind {
            Kind::Read => &self.reads,
            Kind::Write => &self.writes,
        };
        let permit = {
            let waiting = Waiting(&lane.waiting);
            if lane.waiting.fetch_add(1, Ordering::Relaxed) >= lane.waiting_max {
                return Err(Failure::busy(lane.waiting_max));
            }
            let permit = lane.at_once.clone().acquire_owned().await;
            drop(waiting);
            permit.map_err(|_| Failure::stopping())?
        };
        let cancel = Arc::new(AtomicBool::new(false));
        let abandon = Abandon(cancel.clone());
        let app = self.clone();
        let span = tracing::Span::current();
        let done = tokio::task::spawn_blocking(move || {
            // The permit is held while the work goes on, whether somebody waits for it or not.
            let _permit = permit;
            span.in_scope(|| call(&app, &cancel))
        });
        let answer = done.await.unwrap_or_else(|error| Err(Failure::panicked(error)));
        drop(abandon);
        answer
    }

    /// [`App::call`] of a kind that reads.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        call: impl FnOnce(&App) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        self.call(Kind::Read, |app, _| call(app)).await
    }

    /// [`App::call`] of a kind that writes.
    pub(super) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        call: impl FnOnce(&App, &AtomicBool) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        self.call(Kind::Write, call).await
    }

    /// The model of this name, which the operator must have configured: a request may name the built-in one, those of
    /// `models`, and those that collections have.
    pub(super) fn embedder(&self, name: &str) -> Answer<Arc<dyn Embedder>> {
        let configured = name == BUILTIN || self.settings.models.iter().any(|model| model == name);
        if configured || self.database.collections()?.iter().any(|collection| collection.has_model(name)) {
            return Ok(self.database.embedder(name)?);
        }
        Err(not_configured(name, "--model", &self.settings.models))
    }

    /// The cross-encoder of this name, which must be one of `rerankers`.
    pub(super) fn reranker(&self, name: &str) -> Answer<Arc<dyn Reranker>> {
        if self.settings.rerankers.iter().any(|model| model == name) {
            return Ok(self.database.reranker(name)?);
        }
        Err(not_configured(name, "--reranker", &self.settings.rerankers))
    }

    /// A collection that must exist.
    pub(super) fn collection(&self, name: &str) -> Answer<Collection> {
        Ok(self.database.open_collection(name)?)
    }
}

fn not_configured(name: &str, flag: &str, configured: &[String]) -> Failure {
    let there = if configured.is_empty() { "none".to_owned() } else { configured.join(", ") };
    let message = format!(
        "the model `{name}` is not configured (configured: {there}); its operator allows it with {flag} {name}"
    );
    Failure::refused(StatusCode::BAD_REQUEST, "model_not_configured", message)
}
