//! What do several threads get out of one model, when their queries are run together and when each runs by itself?
//!
//! Every thread asks one query after the other, by vectors alone, until the time is up. Both ways take turns in rounds on
//! the same passages in memory, so that whatever else the machine does meets both.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::Result;
use quiverdb::models::{BatchLimits, ModelOptions};
use quiverdb::{Collection, CollectionConfig, Database, Document, Mode, Query};
use serde::Serialize;
use serde_json::json;

use crate::cli::args::BenchThreads;
use crate::cli::latency::Latencies;
use crate::cli::output::{Table, duration, thousands};
use crate::cli::progress;
use crate::cli::sample::Sampler;
use crate::cli::session::{Mistake, Outcome, Session};

/// Words of a made-up passage.
const PASSAGE_WORDS: usize = 100;
/// Queries that threads choose from.
const QUERIES: usize = 1000;
/// Turns of each way.
const ROUNDS: u32 = 3;

#[derive(Serialize)]
struct Row {
    together: bool,
    threads: u16,
    queries: usize,
    queries_per_s: f64,
    p50_ms: f64,
    p95_ms: f64,
    /// Queries in a run of the model, on average.
    queries_a_run: f64,
    model: String,
}

/// One way to put the model to work, and what came of it.
struct Way {
    batches: Option<BatchLimits>,
    database: Database,
    collection: Collection,
    latencies: Latencies,
    seconds: f64,
    /// Runs of the model before any query.
    runs_before: u64,
}

pub(super) fn run(session: &Session, arguments: &BenchThreads) -> Result<Outcome> {
    if arguments.documents == 0 {
        return Err(Mistake::new("there is nothing to search").hint("give it at least one document").into());
    }
    let mut sampler = Sampler::new(7);
    let passages: Vec<String> = (0..arguments.documents).map(|_| sampler.passage(PASSAGE_WORDS)).collect();
    let words = usize::from(arguments.words);
    let queries: Vec<String> = (0..QUERIES)
        .map(|_| {
            let passage = &passages[sampler.below(passages.len())];
            sampler.query(passage, words)
        })
        .collect();
    let wait = Duration::try_from_secs_f64(arguments.wait_ms / 1e3);
    let wait = wait.map_err(|_| Mistake::new(format!("{} is no time in milliseconds", arguments.wait_ms)))?;
    let together = BatchLimits::default().wait_max(wait).queries_together(true);
    let mut ways = Vec::new();
    for batches in [None, Some(together)] {
        ways.push(Way::made(session, arguments, batches, &passages)?);
    }
    let bar = progress::steps(u64::from(ROUNDS) * 2, "asking");
    for _ in 0..ROUNDS {
        for way in &mut ways {
            way.ask(arguments, &queries)?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let rows: Vec<Row> = ways.iter().map(|way| way.row(arguments)).collect();
    session.output.show(&json!({"rows": rows}), &rows, || table(&rows))?;
    Ok(Outcome::Done)
}

impl Way {
    fn made(
        session: &Session,
        arguments: &BenchThreads,
        batches: Option<BatchLimits>,
        passages: &[String],
    ) -> Result<Self> {
        let options = ModelOptions::new().warm_up(true).batches(batches);
        let database = Database::in_memory()?.with_runtime(session.runtime.clone()).with_model_options(options);
        let model = arguments.backend.model(&arguments.model)?;
        let collection = database.collection_with("bench", CollectionConfig::new().model(model))?;
        let documents = passages.iter().enumerate();
        collection.add_many(documents.map(|(number, text)| Document::new(number as i64, text.clone())))?;
        let runs_before = runs(&database);
        Ok(Self { batches, database, collection, latencies: Latencies::default(), seconds: 0.0, runs_before })
    }

    /// Has all threads ask for their share of the time.
    fn ask(&mut self, arguments: &BenchThreads, queries: &[String]) -> Result<()> {
        let time = Duration::from_secs_f64(arguments.seconds.max(0.0) / f64::from(ROUNDS));
        let start = Barrier::new(usize::from(arguments.threads) + 1);
        let collection = &self.collection;
        let ask = |thread: usize| -> Result<Latencies> {
            let mut latencies = Latencies::default();
            start.wait();
            let begun = Instant::now();
            for query in queries.iter().cycle().skip(thread * 37) {
                latencies.measure(|| collection.search(Query::text(query).mode(Mode::Dense)))?;
                if begun.elapsed() >= time {
                    break;
                }
            }
            Ok(latencies)
        };
        let (results, seconds) = std::thread::scope(|scope| {
            let ask = &ask;
            let threads: Vec<_> =
                (0..usize::from(arguments.threads)).map(|thread| scope.spawn(move || ask(thread))).collect();
            start.wait();
            let begun = Instant::now();
            let results: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            (results, begun.elapsed().as_secs_f64())
        });
        for result in results {
            let latencies = result.map_err(|_| Mistake::new("a thread that asked ended in panic"))??;
            self.latencies.extend(latencies);
        }
        self.seconds += seconds;
        Ok(())
    }

    fn row(&self, arguments: &BenchThreads) -> Row {
        let queries = self.latencies.count();
        let runs = runs(&self.database).saturating_sub(self.runs_before);
        Row {
            together: self.batches.is_some(),
            threads: arguments.threads,
            queries,
            queries_per_s: queries as f64 / self.seconds.max(1e-9),
            p50_ms: self.latencies.percentile(50),
            p95_ms: self.latencies.percentile(95),
            queries_a_run: queries as f64 / runs.max(1) as f64,
            model: self.collection.model().map_or_else(String::new, |spec| spec.id.clone()),
        }
    }
}

/// Runs of the only model of a database.
fn runs(database: &Database) -> u64 {
    database.models().iter().map(|model| model.usage.runs).sum()
}

fn table(rows: &[Row]) -> String {
    let columns = ["model", "run", ">threads", ">queries", ">queries/s", ">queries a run", ">p50", ">p95"];
    let mut table = Table::new(&columns);
    for row in rows {
        table.row([
            row.model.clone(),
            if row.together { "together" } else { "each by itself" }.to_owned(),
            thousands(u64::from(row.threads)),
            thousands(row.queries as u64),
            thousands(row.queries_per_s.round() as u64),
            format!("{:.1}", row.queries_a_run),
            duration(row.p50_ms),
            duration(row.p95_ms),
        ]);
    }
    table.render()
}
