//! What does every request work with, and on which thread does it work?
//!
//! Invariants: the core is called on threads for blocking work only; at most so many calls run at once, so many wait, and
//! the next one is told to come again; where the client goes away or the time is over, the call is told to stop; a call
//! that panics is answered, and nothing else is harmed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::Semaphore;

use super::failure::Failure;
use super::metrics::Metrics;
use super::native::{Jobs, Replays};
use super::{Settings, Stop};
use crate::embed::Embedder;
use crate::rerank::Reranker;
use crate::{Collection, Database, Result};

/// The model that every server has.
pub(super) const BUILTIN: &str = "builtin";

/// Looks at the server itself at once; there are threads for them beyond those of calls.
const LOOKS_AT_ONCE: usize = 2;

/// A request's outcome.
pub(super) type Answer<T> = std::result::Result<T, Failure>;

/// What the handlers share.
pub(super) struct App {
    pub(super) database: Database,
    pub(super) settings: Settings,
    pub(super) stop: Stop,
    pub(super) metrics: Metrics,
    /// Requests that may be answered at once.
    pub(super) requests: Semaphore,
    /// Looks at the server itself, which wait for no call of the database.
    looks: Arc<Semaphore>,
    pub(super) jobs: Jobs,
    /// What requests with a key of idempotency were answered.
    pub(super) replays: Replays,
    reads: Lane,
    writes: Lane,
}

/// Calls of one kind: so many at once, so many that wait.
struct Lane {
    name: &'static str,
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
    fn new(name: &'static str, at_once: usize, waiting_max: usize) -> Self {
        Self { name, at_once: Arc::new(Semaphore::new(at_once)), waiting: AtomicUsize::new(0), waiting_max }
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
        let reads = Lane::new("read", limits.reads_at_once(), limits.queue);
        let writes = Lane::new("write", limits.writes_at_once, limits.queue);
        let metrics = Metrics::new(&database);
        let (requests, looks) = (Semaphore::new(limits.requests), Arc::new(Semaphore::new(LOOKS_AT_ONCE)));
        let (jobs, replays) = (Jobs::default(), Replays::default());
        Ok(Self { database, stop, metrics, requests, looks, jobs, replays, reads, writes, settings })
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
        let came = Instant::now();
        let permit = {
            let _waits = self.metrics.waits(lane.name);
            let before = lane.waiting.fetch_add(1, Ordering::Relaxed);
            let _waiting = Waiting(&lane.waiting);
            if before >= lane.waiting_max {
                self.metrics.refused(lane.name);
                return Err(Failure::busy(lane.waiting_max));
            }
            lane.at_once.clone().acquire_owned().await.map_err(|_| Failure::stopping())?
        };
        let waited = came.elapsed();
        let (runs, name) = (self.metrics.runs(lane.name, waited), lane.name);
        let cancel = Arc::new(AtomicBool::new(false));
        let _abandon = Abandon(cancel.clone());
        let app = self.clone();
        let waited_ms = waited.as_secs_f64() * 1_000.0;
        let span = tracing::debug_span!("call", lane = name, waited_ms);
        let done = tokio::task::spawn_blocking(move || {
            // Held while the work goes on, whether somebody waits for it or not.
            let _held = (permit, runs);
            let _entered = span.entered();
            if cancel.load(Ordering::Relaxed) {
                // Nobody hears this: the client went away while the call waited for its thread.
                return Err(Failure::stopping());
            }
            let began = Instant::now();
            let answer = call(&app, &cancel);
            app.metrics.ran(name, began.elapsed());
            tracing::debug!(ms = began.elapsed().as_secs_f64() * 1_000.0, "done");
            answer
        });
        done.await.unwrap_or_else(|error| Err(Failure::panicked(error)))
    }

    /// Runs a short look at the server itself, however many calls wait.
    pub(super) async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&App) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let permit = self.looks.clone().acquire_owned().await.map_err(|_| Failure::stopping())?;
        let app = self.clone();
        let span = tracing::Span::current();
        let done = tokio::task::spawn_blocking(move || {
            // As above: a look goes on where its client went away.
            let _held = permit;
            span.in_scope(|| look(&app))
        });
        done.await.unwrap_or_else(|error| Err(Failure::panicked(error)))
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
    Failure::of("model_not_configured", message)
}

/// What handlers share, of a new database in memory.
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test shall fail where this does")]
pub(super) fn trial_app() -> Arc<App> {
    Arc::new(App::new(Database::in_memory().unwrap(), Settings::default(), Stop::new()).unwrap())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc::channel;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_call_whose_client_went_away_before_it_had_a_thread_is_not_begun() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let app = trial_app();
            let ((release, released), (says, said)) = (channel(), channel());
            let mut first = Box::pin(app.read(move |_| Ok(released.recv().is_ok())));
            assert!((&mut first).now_or_never().is_none());
            let second = app.write(move |_, _| Ok(says.send("begun").is_ok()));
            assert!(second.now_or_never().is_none());
            release.send(()).unwrap();
            assert!(first.await.unwrap());
            // There is one thread, so this comes after the second.
            app.read(|_| Ok(())).await.unwrap();
            assert!(said.recv().is_err(), "it was begun");
        });
    }

    #[test]
    fn a_look_has_its_place_until_it_ends() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let app = trial_app();
            let releases: Vec<_> = (0..LOOKS_AT_ONCE)
                .map(|_| {
                    let (release, released) = channel::<()>();
                    assert!(app.look(move |_| Ok(released.recv().is_ok())).now_or_never().is_none());
                    release
                })
                .collect();
            assert_eq!(app.looks.available_permits(), 0);
            drop(releases);
            app.look(|_| Ok(())).await.unwrap();
        });
    }
}
