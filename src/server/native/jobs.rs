//! What takes long, how far is it, and how is it stopped?
//!
//! Invariants: one job works at a time, and so many wait; of those that ended the last are kept; what a job committed stays,
//! however it ends, and asking for the same again goes on from there; a job that panics has failed, and no other with it; when
//! the server stops, jobs are told to stop, and say so.

mod board;
mod files;
mod work;

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::watch::Receiver;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(in crate::server) use self::board::Jobs;
use self::board::{Job, JobBody, State as JobState};
use self::work::{Import, Reembed};
use crate::server::app::{Answer, App};
use crate::server::body::Json;
use crate::server::failure::FailureBody;
use crate::server::path::Path;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(import))
        .routes(routes!(reembed))
        .routes(routes!(list))
        .routes(routes!(show, stop))
        .routes(routes!(events))
}

/// A job that was begun, or is about to end
#[derive(Serialize, utoipa::ToSchema)]
struct One {
    job: JobBody,
}

/// All jobs
#[derive(Serialize, utoipa::ToSchema)]
struct All {
    /// The latest first.
    jobs: Vec<JobBody>,
}

type Accepted = (StatusCode, Json<One>);

fn accepted(job: &Job) -> Accepted {
    (StatusCode::ACCEPTED, Json(One { job: job.body() }))
}

/// Import a file of the server
///
/// Begins to import a Parquet, Arrow, CSV or JSON Lines file that lies below the server's import root. An import that was
/// stopped goes on behind the last row that is in.
#[utoipa::path(post, path = "/v1/collections/{collection}/import", tag = "jobs",
    params(("collection" = String, Path, description = "A collection or an alias")),
    request_body = Import,
    responses((status = 202, body = One), (status = "default", body = FailureBody)))]
async fn import(State(app): State<Arc<App>>, Path(name): Path<String>, Json(body): Json<Import>) -> Answer<Accepted> {
    let prepared = app.write(move |app, _| work::prepare_import(app, &name, body)).await?;
    app.jobs.begin(&app, prepared).map(|job| accepted(&job))
}

/// Make a collection anew
///
/// Begins to give a collection another model, other dimensions or other chunks, while the old one answers. One that was
/// stopped goes on where it was.
#[utoipa::path(post, path = "/v1/collections/{collection}/reembed", tag = "jobs",
    params(("collection" = String, Path, description = "A collection or an alias")),
    request_body = Reembed,
    responses((status = 202, body = One), (status = "default", body = FailureBody)))]
async fn reembed(State(app): State<Arc<App>>, Path(name): Path<String>, Json(body): Json<Reembed>) -> Answer<Accepted> {
    let prepared = app.write(move |app, _| work::prepare_reembed(app, &name, body)).await?;
    app.jobs.begin(&app, prepared).map(|job| accepted(&job))
}

/// All jobs, the latest first
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs",
    responses((status = 200, body = All), (status = "default", body = FailureBody)))]
async fn list(State(app): State<Arc<App>>) -> Json<All> {
    Json(All { jobs: app.jobs.all().iter().map(|job| job.body()).collect() })
}

/// A job, how far it is, and what came of it
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = One), (status = "default", body = FailureBody)))]
async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<Json<One>> {
    Ok(Json(One { job: app.jobs.find(&id)?.body() }))
}

/// Stop a job, or forget one that has ended
///
/// A job that waits or works is told to stop (202); what it committed stays. One that has ended is forgotten (200).
#[utoipa::path(delete, path = "/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = One), (status = 202, body = One), (status = "default", body = FailureBody)))]
async fn stop(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<Accepted> {
    let job = app.jobs.find(&id)?;
    if job.has_ended() {
        app.jobs.forget(&id);
        return Ok((StatusCode::OK, Json(One { job: job.body() })));
    }
    job.stop("it was told to stop");
    Ok(accepted(&job))
}

/// Follow a job
///
/// Server-sent events: `progress` as it goes, `end` when it has ended, each with the job in JSON. Then the stream ends.
#[utoipa::path(get, path = "/v1/jobs/{id}/events", tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = "default", body = FailureBody)))]
async fn events(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let job = app.jobs.find(&id)?;
    Ok(Sse::new(followed(job)).keep_alive(KeepAlive::default()))
}

/// How it is now, and whenever that changes, until it has ended.
fn followed(job: Arc<Job>) -> impl Stream<Item = Result<Event, Infallible>> {
    let seen = Some(job.watch());
    unfold((job, seen, true), |(job, seen, first)| async move {
        let mut seen: Receiver<JobState> = seen?;
        if !first {
            // The job holds the sender, so this ends by a change.
            let _ = seen.changed().await;
        }
        let state = seen.borrow_and_update().clone();
        let has_ended = state.ended.is_some();
        let name = if has_ended { "end" } else { "progress" };
        let data = serde_json::to_string(&job.body_in(state)).unwrap_or_default();
        let next = (!has_ended).then_some(seen);
        Some((Ok(Event::default().event(name).data(data)), (job, next, false)))
    })
}
