//! How is a question asked over HTTP?
//!
//! Invariants: what is asked is checked whole before anything is read or embedded; the answer is the library's, by its names;
//! a batch is answered as a whole, from one snapshot, or refused with the place of what cannot be answered.

mod question;
mod results;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::question::{Ask, Search, Written};
use self::results::{ContextForm, Found, ResultsForm};
use crate::context::{Context, ContextFormat, ContextOptions};
use crate::server::app::{Answer, App, Kind};
use crate::server::body::Json;
use crate::server::failure::{Failure, FailureBody};
use crate::server::path::Path;
use crate::{Collection, Query, SearchResults};

/// The most tokens of a context.
const BUDGET_TOKENS_MAX: usize = 1_000_000;
/// The most passages that a context may be made of, neighbours among them: it is counted anew with each.
const PASSAGES_MAX: usize = 500;
/// The hits of all queries of a batch together, in times of the limit of one.
const BATCH_HITS: usize = 100;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(search)).routes(routes!(search_batch)).routes(routes!(context))
}

/// Search
///
/// Answers with the passages that answer best: by words, by a vector, or both, within a filter.
#[utoipa::path(post, path = "/v1/collections/{collection}/search", tag = "search",
    params(("collection" = String, Path, description = "A collection or an alias")),
    request_body = Search,
    responses((status = 200, body = ResultsForm), (status = "default", body = FailureBody)))]
async fn search(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(body): Json<Search>,
) -> Answer<Json<Found>> {
    let found = app
        .call(Kind::Read, move |app, cancel| {
            let collection = app.collection(&name)?;
            // A model may have been loaded for it meanwhile.
            let query = asked(app, &body)?;
            expect_wanted(cancel)?;
            let results = collection.search(query)?;
            app.metrics.searched(&results.timings_ms);
            expect_wanted(cancel)?;
            Found::of(&collection, &body, results)
        })
        .await?;
    Ok(Json(found))
}

fn asked(app: &App, search: &Search) -> Answer<Query> {
    let query = search.question(app)?;
    Ok(if search.explain == Some(true) { query.explain() } else { query })
}

/// Searches that are answered together
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"queries": [{"query": "how does borrowing work?"}, {"query": "pears", "mode": "text"}]}))]
struct Batch {
    /// One or more, up to the server's limit of a batch.
    queries: Vec<Search>,
}

/// The answers to a batch
#[derive(Serialize, utoipa::ToSchema)]
struct BatchResults {
    /// One for each query, in their order.
    #[schema(value_type = Vec<ResultsForm>)]
    results: Vec<Found>,
}

/// Search for many things at once
///
/// All queries are answered from one snapshot of the collection, in their order. One that cannot be answered refuses the
/// batch; the message names its place.
#[utoipa::path(post, path = "/v1/collections/{collection}/search/batch", tag = "search",
    params(("collection" = String, Path, description = "A collection or an alias")),
    request_body = Batch,
    responses((status = 200, body = BatchResults), (status = "default", body = FailureBody)))]
async fn search_batch(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(Batch { queries }): Json<Batch>,
) -> Answer<Json<BatchResults>> {
    let results = app
        .call(Kind::Read, move |app, cancel| {
            let collection = app.collection(&name)?;
            expect_room(app, &queries)?;
            let asked = queries.iter().enumerate().map(|(at, query)| asked(app, query).map_err(|error| of(at, error)));
            let results = answer_all(&collection, asked.collect::<Answer<_>>()?, cancel)?;
            results.iter().for_each(|results| app.metrics.searched(&results.timings_ms));
            let found = |(query, results)| expect_wanted(cancel).and_then(|()| Found::of(&collection, query, results));
            queries.iter().zip(results).map(found).collect()
        })
        .await?;
    Ok(Json(BatchResults { results }))
}

/// Refuses a batch of more than one answer can hold.
fn expect_room(app: &App, queries: &[Search]) -> Answer<()> {
    let limits = &app.settings.limits;
    if queries.len() > limits.batch {
        return Err(Failure::invalid(format!(
            "queries: {} of them, and this server takes {} at once (limits.batch)",
            queries.len(),
            limits.batch
        )));
    }
    let hits = queries.iter().fold(0_usize, |sum, query| sum.saturating_add(query.hits()));
    let hits_max = limits.hits.saturating_mul(BATCH_HITS);
    if hits > hits_max {
        return Err(Failure::invalid(format!(
            "queries: {hits} hits are asked for, and one answer holds {hits_max} (limits.hits); ask in several batches"
        )));
    }
    Ok(())
}

/// [`Collection::search_many`], which ends early where nobody waits, and says which query cannot be answered.
fn answer_all(collection: &Collection, queries: Vec<Query>, cancel: &AtomicBool) -> Answer<Vec<SearchResults>> {
    let snapshot = collection.snapshot()?;
    let one = |(at, query): (usize, Query)| {
        expect_wanted(cancel)?;
        snapshot.search(query).map_err(|error| of(at, error.into()))
    };
    queries.into_par_iter().enumerate().map(one).collect()
}

/// Goes on only where somebody waits for it.
fn expect_wanted(cancel: &AtomicBool) -> Answer<()> {
    if cancel.load(Ordering::Relaxed) { Err(Failure::stopping()) } else { Ok(()) }
}

/// A failure of the query at this place.
fn of(at: usize, failure: Failure) -> Failure {
    Failure { message: format!("queries[{at}]: {}", failure.message), ..failure }
}

/// Search, and make a context of the passages
///
/// Puts the best passages into a context for a language model: best first, none twice, those that overlap or touch joined,
/// each cited by its document and bytes, within a budget of tokens.
#[utoipa::path(post, path = "/v1/collections/{collection}/context", tag = "search",
    params(("collection" = String, Path, description = "A collection or an alias")),
    request_body = Ask,
    responses((status = 200, body = ContextForm), (status = "default", body = FailureBody)))]
async fn context(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(body): Json<Ask>,
) -> Answer<Json<Context>> {
    let context = app
        .call(Kind::Read, move |app, cancel| {
            let snapshot = app.collection(&name)?.snapshot()?;
            let options = options(&body)?;
            let (context, timings_ms) = snapshot.context_until(&body.question(app)?, &options, cancel)?;
            expect_wanted(cancel)?;
            app.metrics.searched(&timings_ms);
            Ok(context)
        })
        .await?;
    Ok(Json(context))
}

fn options(body: &Ask) -> Answer<ContextOptions> {
    let Ask { budget_tokens, format, neighbours, .. } = body;
    if !(1..=BUDGET_TOKENS_MAX).contains(budget_tokens) {
        let message = format!("budget_tokens: {budget_tokens}, and a context has 1 to {BUDGET_TOKENS_MAX} tokens");
        return Err(Failure::invalid(message));
    }
    let neighbours = neighbours.unwrap_or(0);
    let passages = body.hits().saturating_mul(neighbours as usize * 2 + 1);
    if passages > PASSAGES_MAX {
        return Err(Failure::invalid(format!(
            "limit: {} hits with {neighbours} neighbours on either side are {passages} passages, and a context is made of \
             at most {PASSAGES_MAX}; ask for fewer of either",
            body.hits()
        )));
    }
    let format = match format {
        None | Some(Written::Text) => ContextFormat::Text,
        Some(Written::Xml) => ContextFormat::Xml,
        Some(Written::Json) => ContextFormat::Json,
    };
    Ok(ContextOptions::new(*budget_tokens).format(format).neighbours(neighbours))
}
