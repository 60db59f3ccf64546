//! What does a filter cost, and does search still find the nearest of those that match?
//!
//! Through the whole library, on a collection in a temporary folder, or in one that is kept with `--db`. The strategy is what the plan of each answer says.

use std::collections::BTreeMap;

use anyhow::Result;
use quiverdb::{Collection, Database, Filter};
use serde::Serialize;

use super::input::{Input, read};
use super::machine;
use super::truth;
use super::whole::{self, DRAWS, described, draw};
use crate::cli::args::BenchFilter;
use crate::cli::output::{Table, duration, thousands};
use crate::cli::progress;
use crate::cli::session::{Outcome, Session};

/// Ends of `draw` that select 50, 10, 1 and 0.1 %.
const ENDS: [u64; 4] = [500, 100, 10, 1];

#[derive(Serialize)]
struct Report {
    vectors: usize,
    dims: usize,
    metric: &'static str,
    segments: u64,
    queries: usize,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    /// Absent where nothing is filtered.
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    matching: usize,
    #[serde(rename = "recall@10")]
    recall: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// How many searches of segments went which way.
    strategies: BTreeMap<&'static str, usize>,
}

/// `quiver bench filter`.
pub(super) fn run(session: &Session, arguments: &BenchFilter) -> Result<Outcome> {
    let input = read(&arguments.files)?;
    machine::introduce();
    let temporary = if session.path_is_given { None } else { Some(tempfile::tempdir()?) };
    let folder = temporary.as_ref().map_or(session.path.as_path(), |folder| folder.path());
    let database = Database::open(folder)?;
    let collection = whole::stocked(&database, &input)?;
    let ends = [DRAWS].into_iter().chain(ENDS);
    let report = Report {
        vectors: input.base.count(),
        dims: input.base.dims(),
        metric: input.metric.name(),
        segments: collection.stats()?.segments,
        queries: input.queries.count(),
        rows: ends.map(|end| measure(&collection, &input, end)).collect::<Result<_>>()?,
    };
    session
        .output
        .show(&report, &report.rows, || format!("{}\n{}", described(&input, report.segments), table(&report.rows)))?;
    Ok(Outcome::Done)
}

/// Asks all queries twice: once for recall and plan, which warms up, and once against the clock.
fn measure(collection: &Collection, input: &Input, end: u64) -> Result<Row> {
    let text = (end < DRAWS).then(|| format!("draw < {end}"));
    let spinner = progress::spinner(text.as_deref().unwrap_or("no filter"));
    let filter: Option<Filter> = text.as_deref().map(str::parse).transpose().map_err(quiverdb::Error::from)?;
    let truth = truth::nearest(input.metric, &input.base, &input.queries, |row| draw(row) < end);
    let (mut found, mut strategies) = (Vec::new(), BTreeMap::new());
    for vector in input.queries.iter() {
        let results = collection.search(whole::query(vector, filter.as_ref()).explain())?;
        found.push(whole::rows(&results));
        for segment in results.plan.iter().flatten() {
            *strategies.entry(segment.strategy.name()).or_default() += 1;
        }
    }
    let latencies = whole::ask(collection, &input.queries, filter.as_ref(), input.queries.count())?;
    spinner.finish_and_clear();
    Ok(Row {
        filter: text,
        matching: (0..input.base.count()).filter(|row| draw(*row) < end).count(),
        recall: truth::recall(&truth, &found),
        p50_ms: latencies.percentile(50),
        p99_ms: latencies.percentile(99),
        strategies,
    })
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&["filter", ">matching", ">recall@10", ">p50", ">p99", "strategy"]);
    for Row { filter, matching, recall, p50_ms, p99_ms, strategies } in rows {
        let strategies: Vec<String> = strategies.iter().map(|(name, times)| format!("{name} {times}")).collect();
        table.row([
            filter.clone().unwrap_or_else(|| "none".into()),
            thousands(*matching as u64),
            format!("{recall:.4}"),
            duration(*p50_ms),
            duration(*p99_ms),
            if strategies.is_empty() { "unsealed".into() } else { strategies.join(", ") },
        ]);
    }
    table.render()
}
