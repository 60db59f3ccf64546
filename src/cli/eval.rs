//! How good is search on questions whose answers are known?
//!
//! Every query asks for 100 documents, grouped: the metrics rank documents, not passages. Latencies are those of single
//! calls, one at a time, of the first queries; the rest is answered in parallel, which changes no ranking.

use anyhow::{Context, Result};
use quiverdb::eval::{EvalQuery, Evaluation, Metrics, Qrels};
use quiverdb::{Collection, Mode, Query, SearchResults};
use serde::Serialize;
use serde_json::json;

use super::args::{Eval, FusionName, Ranking};
use super::latency::Latencies;
use super::output::{Table, duration, note, thousands};
use super::progress;
use super::session::{Mistake, Outcome, Session};
use super::sources;

/// Documents asked for: recall@100 needs them.
const DEPTH: usize = 100;
/// Queries asked one at a time, for the latencies.
const TIMED_QUERIES: usize = 500;
/// Queries answered at a time after those.
const BATCH_QUERIES: usize = 64;

/// `quiver eval`.
pub(crate) fn run(session: &Session, arguments: &Eval) -> Result<Outcome> {
    arguments.ranking.check()?;
    let qrels = sources::qrels(&arguments.qrels)?;
    let all = sources::queries(&arguments.queries)?;
    let (judged, unjudged): (Vec<_>, Vec<_>) = all.into_iter().partition(|query| qrels.of(&query.id).is_some());
    if judged.is_empty() {
        let message = format!("no query of {} is judged in {}", arguments.queries.display(), arguments.qrels.display());
        return Err(Mistake::new(message).hint("their query ids must be the same").into());
    }
    if !unjudged.is_empty() {
        note(&format!("{} queries have no judgement and are left out", thousands(unjudged.len() as u64)));
    }
    let collection = session.collection(&arguments.target.collection)?;
    let mut rows = Vec::new();
    for configuration in configurations(arguments) {
        rows.push(evaluate(&collection, &configuration, &judged, &qrels)?);
    }
    session.output.show(&json!({"configurations": rows}), &rows, || table(&rows))?;
    Ok(Outcome::Done)
}

/// One way to search.
struct Configuration {
    mode: Mode,
    ranking: Ranking,
    /// How the fusion is called; `None` where nothing is fused.
    fusion_name: Option<&'static str>,
}

fn configurations(arguments: &Eval) -> Vec<Configuration> {
    let Eval { ranking, compare, .. } = arguments;
    if !compare {
        return vec![configuration(ranking, ranking.mode.unwrap_or_default())];
    }
    let by_rank = Ranking { fusion: Some(FusionName::Rank), ..ranking.clone() };
    vec![
        configuration(ranking, Mode::Dense),
        configuration(ranking, Mode::Text),
        configuration(ranking, Mode::Hybrid),
        configuration(&by_rank, Mode::Hybrid),
    ]
}

fn configuration(ranking: &Ranking, mode: Mode) -> Configuration {
    let fusion_name = match (mode, ranking.fusion) {
        (Mode::Dense | Mode::Text, _) => None,
        (Mode::Hybrid, Some(FusionName::Rank)) => Some("rank"),
        (Mode::Hybrid, Some(FusionName::Score) | None) => Some("score"),
    };
    Configuration { mode, ranking: Ranking { mode: Some(mode), ..ranking.clone() }, fusion_name }
}

/// A row of the result: the contract's fields, and how hybrid search fused.
#[derive(Serialize)]
struct Row {
    mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    fusion: Option<&'static str>,
    model: String,
    queries: usize,
    #[serde(flatten)]
    mean: Metrics,
    p50_ms: f64,
    p95_ms: f64,
}

fn evaluate(collection: &Collection, how: &Configuration, queries: &[EvalQuery], qrels: &Qrels) -> Result<Row> {
    let mut latencies = Latencies::default();
    let bar = progress::steps(queries.len() as u64, how.mode.name());
    let ask = |named: &EvalQuery| how.ranking.apply(Query::text(named.text.clone()).limit(DEPTH).group(true));
    let (timed, rest) = queries.split_at(queries.len().min(TIMED_QUERIES));
    // The first search loads the model and reads the collection; that is no latency of searching.
    collection.search(ask(&queries[0]))?;
    let mut ranked = Vec::with_capacity(queries.len());
    for named in timed {
        let results = latencies.measure(|| collection.search(ask(named)));
        ranked.push(documents(results.with_context(|| format!("query `{}`", named.id))?));
        bar.inc(1);
    }
    for batch in rest.chunks(BATCH_QUERIES) {
        let results = collection.search_many(batch.iter().map(ask).collect())?;
        ranked.extend(results.into_iter().map(documents));
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    let rankings = queries.iter().map(|named| named.id.as_str()).zip(ranked.iter().map(Vec::as_slice));
    let model = match &how.ranking.space {
        Some(space) => collection.model_of(space)?,
        None => collection.model(),
    };
    let Evaluation { queries, mean } = Evaluation::of(qrels, rankings);
    Ok(Row {
        mode: how.mode,
        fusion: how.fusion_name,
        model: model.map_or("external", |spec| spec.id.as_str()).to_owned(),
        queries,
        mean,
        p50_ms: latencies.percentile(50),
        p95_ms: latencies.percentile(95),
    })
}

fn documents(results: SearchResults) -> Vec<String> {
    results.into_iter().map(|hit| hit.document.to_string()).collect()
}

fn table(rows: &[Row]) -> String {
    let columns = ["mode", "model", ">queries", ">nDCG@10", ">recall@10", ">recall@100", ">MRR@10", ">p50", ">p95"];
    let mut table = Table::new(&columns);
    for row in rows {
        let mode = match row.fusion {
            Some(fusion) => format!("{} by {fusion}", row.mode.name()),
            None => row.mode.name().to_owned(),
        };
        let number = |value: f64| format!("{value:.4}");
        table.row([
            mode,
            row.model.clone(),
            thousands(row.queries as u64),
            number(row.mean.ndcg_at_10),
            number(row.mean.recall_at_10),
            number(row.mean.recall_at_100),
            number(row.mean.mrr_at_10),
            duration(row.p50_ms),
            duration(row.p95_ms),
        ]);
    }
    table.render()
}
