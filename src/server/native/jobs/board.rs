//! Which jobs are there, and how far is each?

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Notify, Semaphore, watch};

use crate::server::app::{Answer, App};
use crate::server::failure::{Failure, FailureType};

/// Jobs that wait or work.
const OPEN_MAX: usize = 16;
/// Jobs that have ended and can still be asked for.
const ENDED_MAX: usize = 64;

/// All jobs of a server, the oldest first. They live as long as it does.
pub(in crate::server) struct Jobs {
    all: Mutex<VecDeque<Arc<Job>>>,
    turn: Arc<Semaphore>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { all: Mutex::default(), turn: Arc::new(Semaphore::new(1)) }
    }
}

/// What a job does: given what tells it to stop and where to say how far it is, it returns what came of it.
pub(super) type Work = Box<dyn FnOnce(&Job) -> Answer<Outcome> + Send>;

/// What came of a job that did not fail.
#[derive(Clone)]
pub(super) struct Outcome {
    /// Null where it did not begin.
    pub(super) report: Value,
    /// Whether it came to its end; else it was stopped before.
    pub(super) whole: bool,
}

/// A job that can begin.
pub(super) struct Prepared {
    pub(super) kind: JobKind,
    pub(super) collection: String,
    pub(super) work: Work,
}

/// Something that takes long.
pub(super) struct Job {
    id: String,
    kind: JobKind,
    collection: String,
    created: Instant,
    cancel: AtomicBool,
    told: Notify,
    state: watch::Sender<State>,
}

/// What a job does
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum JobKind {
    #[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "imports come with the feature"))]
    /// Takes in a file.
    Import,
    /// Makes a collection anew.
    Reembed,
}

/// How a job stands.
#[derive(Clone, Default)]
pub(super) struct State {
    began: Option<Instant>,
    progress: Option<Progress>,
    stop_reason: Option<&'static str>,
    pub(super) ended: Option<Ended>,
}

/// How a job ended.
#[derive(Clone)]
pub(super) struct Ended {
    seconds: f64,
    outcome: std::result::Result<Outcome, Failure>,
}

/// How far a job is
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub(super) struct Progress {
    /// Rows or documents that are done.
    pub(super) done: u64,
    /// All of them, where that is known.
    pub(super) total: Option<u64>,
    /// What is counted.
    pub(super) unit: Unit,
    /// Rows that were rejected.
    pub(super) rejected: u64,
}

/// What a job counts
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    #[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "imports come with the feature"))]
    Rows,
    Documents,
}

/// A job in JSON
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Job)]
pub(super) struct JobBody {
    id: String,
    kind: JobKind,
    collection: String,
    state: Phase,
    /// Null until something is done.
    progress: Option<Progress>,
    /// What came of it, as the command line's `--json` prints it; null unless it is `done`, or `cancelled` and had begun.
    #[schema(value_type = Option<serde_json::Map<String, Value>>)]
    report: Option<Value>,
    /// Why it failed or was stopped.
    error: Option<JobError>,
    /// Seconds since it was asked for.
    age_seconds: f64,
    /// Seconds that it worked.
    seconds: f64,
}

/// Where a job is
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// It waits for another one.
    Queued,
    Running,
    /// It was told to stop, and ends the batch at hand.
    Stopping,
    Done,
    Failed,
    /// It was stopped; what was committed stays.
    Cancelled,
}

/// Why a job failed
#[derive(Serialize, utoipa::ToSchema)]
struct JobError {
    /// Stable; see the list of codes. `cancelled` where it was told to stop.
    code: String,
    message: String,
    r#type: FailureType,
    retryable: bool,
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Job>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All, the latest first.
    pub(super) fn all(&self) -> Vec<Arc<Job>> {
        self.lock().iter().rev().cloned().collect()
    }

    /// The job of this id.
    pub(super) fn find(&self, id: &str) -> Answer<Arc<Job>> {
        let found = self.lock().iter().find(|job| job.id == id).cloned();
        found.ok_or_else(|| {
            let message = format!("there is no job `{id}`; /v1/jobs lists those of this run of the server");
            Failure::of("job_not_found", message)
        })
    }

    /// Forgets one that has ended.
    pub(super) fn forget(&self, id: &str) {
        self.lock().retain(|job| job.id != id || !job.has_ended());
    }

    /// Lists a job and has it wait for its turn.
    pub(super) fn begin(&self, app: &Arc<App>, prepared: Prepared) -> Answer<Arc<Job>> {
        let Prepared { kind, collection, work } = prepared;
        let job = Arc::new(Job::new(kind, collection));
        let mut all = self.lock();
        if all.iter().filter(|job| !job.has_ended()).count() >= OPEN_MAX {
            let message = format!("{OPEN_MAX} jobs wait or work already; come again when one has ended (/v1/jobs)");
            return Err(Failure::of("too_many_jobs", message));
        }
        let excess = (all.len() + 1).saturating_sub(OPEN_MAX + ENDED_MAX);
        for _ in 0..excess {
            let oldest = all.iter().position(|job| job.has_ended());
            oldest.map(|at| all.remove(at));
        }
        all.push_back(Arc::clone(&job));
        drop(all);
        tokio::spawn(run(Arc::clone(app), Arc::clone(&self.turn), Arc::clone(&job), work));
        Ok(job)
    }
}

/// Tells a job to stop when what waits for it is dropped, as it is when the server ends.
struct Attended(Arc<Job>);

impl Drop for Attended {
    fn drop(&mut self) {
        self.0.stop("the server stopped");
    }
}

/// A job from its place in the queue to its end.
async fn run(app: Arc<App>, turn: Arc<Semaphore>, job: Arc<Job>, work: Work) {
    let attended = Attended(Arc::clone(&job));
    let permit = tokio::select! {
        biased;
        () = app.stop.heard() => { job.stop("the server stopped"); None }
        () = job.told.notified() => None,
        permit = turn.acquire_owned() => permit.ok(),
    };
    if permit.is_none() {
        job.end(Ok(Outcome { report: Value::Null, whole: false }));
        return;
    }
    let worker = Arc::clone(&job);
    let span = tracing::info_span!("job", id = %job.id, kind = ?job.kind, collection = %job.collection);
    let mut working = tokio::task::spawn_blocking(move || span.in_scope(|| worker.work(work)));
    tokio::select! {
        _ = &mut working => {}
        () = app.stop.heard() => {
            job.stop("the server stopped");
            let _ = working.await;
        }
    }
    drop((permit, attended));
}

impl Job {
    fn new(kind: JobKind, collection: String) -> Self {
        Self {
            id: uuid::Uuid::new_v4().simple().to_string(),
            kind,
            collection,
            created: Instant::now(),
            cancel: AtomicBool::new(false),
            told: Notify::new(),
            state: watch::Sender::new(State::default()),
        }
    }

    /// Does it, and keeps what came of it.
    fn work(&self, work: Work) {
        self.state.send_modify(|state| state.began = Some(Instant::now()));
        tracing::info!("job begins");
        let outcome = catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|_| {
            tracing::error!("a job panicked");
            Err(Failure::internal("the job met a fault of the server; please report it with the job's id"))
        });
        self.end(outcome);
    }

    fn end(&self, outcome: Answer<Outcome>) {
        self.state.send_modify(|state| {
            let seconds = state.began.map_or(0.0, |began| began.elapsed().as_secs_f64());
            state.ended = Some(Ended { seconds, outcome });
        });
        tracing::info!(state = ?self.body().state, "job ended");
    }

    /// Tells it to stop. The first reason stays.
    pub(super) fn stop(&self, reason: &'static str) {
        if self.has_ended() {
            return;
        }
        self.state.send_modify(|state| state.stop_reason = state.stop_reason.or(Some(reason)));
        self.cancel.store(true, Ordering::Relaxed);
        self.told.notify_one();
    }

    /// What tells it to stop.
    pub(super) fn cancel(&self) -> &AtomicBool {
        &self.cancel
    }

    /// Says how far it is.
    pub(super) fn show(&self, progress: Progress) {
        self.state.send_if_modified(|state| {
            let changed = state.progress.as_ref() != Some(&progress);
            state.progress = Some(progress);
            changed
        });
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state.borrow().ended.is_some()
    }

    /// How it stands, now and from now on.
    pub(super) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// It in JSON, as it stands now.
    pub(super) fn body(&self) -> JobBody {
        let state = self.state.borrow().clone();
        self.body_in(state)
    }

    /// It in JSON, as it stood in this state.
    pub(super) fn body_in(&self, State { began, progress, stop_reason, ended }: State) -> JobBody {
        let running = began.map_or(0.0, |began| began.elapsed().as_secs_f64());
        let seconds = ended.as_ref().map_or(running, |ended| ended.seconds);
        let (state, report, failure) = match (ended.map(|ended| ended.outcome), stop_reason) {
            (Some(Err(failure)), _) => (Phase::Failed, None, Some(failure)),
            (Some(Ok(Outcome { report, whole: false })), reason) => {
                (Phase::Cancelled, Some(report), Some(stopped(reason.unwrap_or("it stopped"))))
            }
            (Some(Ok(Outcome { report, whole: true })), _) => (Phase::Done, Some(report), None),
            (None, Some(_)) => (Phase::Stopping, None, None),
            (None, None) if began.is_some() => (Phase::Running, None, None),
            (None, None) => (Phase::Queued, None, None),
        };
        JobBody {
            id: self.id.clone(),
            kind: self.kind,
            collection: self.collection.clone(),
            state,
            progress,
            report: report.filter(|report| !report.is_null()),
            error: failure.map(JobError::from),
            age_seconds: self.created.elapsed().as_secs_f64(),
            seconds,
        }
    }
}

/// Why a job did not come to its end.
fn stopped(reason: &str) -> Failure {
    let message = format!("{reason}; what was committed stays, and asking for the same again goes on from there");
    let mut failure = Failure::of("cancelled", message);
    (failure.status, failure.retryable) = (StatusCode::CONFLICT, true);
    failure
}

impl From<Failure> for JobError {
    fn from(failure: Failure) -> Self {
        let Failure { code, kind, message, retryable, .. } = failure;
        Self { code: code.to_owned(), message, r#type: kind, retryable }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_job_that_panics_has_failed() {
        let job = Job::new(JobKind::Import, "notes".to_owned());
        job.work(Box::new(|_| panic!("on purpose")));
        let body = serde_json::to_value(job.body()).unwrap();
        assert_eq!((&body["state"], &body["error"]["code"]), (&"failed".into(), &"internal".into()));
    }

    #[test]
    fn a_job_that_was_stopped_keeps_its_report_and_says_why() {
        let job = Job::new(JobKind::Reembed, "notes".to_owned());
        job.stop("the server stopped");
        job.stop("another reason");
        assert!(job.cancel().load(Ordering::Relaxed));
        job.work(Box::new(|_| Ok(Outcome { report: serde_json::json!({"documents": 3}), whole: false })));
        let body = serde_json::to_value(job.body()).unwrap();
        assert_eq!((&body["state"], &body["report"]["documents"]), (&"cancelled".into(), &3.into()));
        assert!(body["error"]["message"].as_str().unwrap().starts_with("the server stopped"), "{body}");
    }
}
