//! How fast do ready vectors get in, and what does a search meanwhile feel of it?
//!
//! Three measurements in a temporary folder: all rows into an empty collection, until they are committed (durable, and
//! searchable by comparing all) and until they are sealed (searchable by graph); single documents after that; and a second
//! collection, half of it sealed, that is searched while the other half gets in.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, anyhow};
use quiverdb::{AddOptions, AddReport, Collection, Database, Metric};
use serde::Serialize;

use super::arrays::{self, Rows};
use super::input::check;
use super::truth;
use super::whole::{self, COLLECTION, accepted, create, document};
use super::{machine, passages};
use crate::cli::args::BenchIngest;
use crate::cli::latency::Latencies;
use crate::cli::output::{Table, count, duration, size, thousands};
use crate::cli::progress;
use crate::cli::session::{Mistake, Outcome, Session};
use crate::cli::sources;

/// Rows at the end of the base that are kept for single adds, and to ask with, at most.
const KEPT_MAX: usize = 200;

#[derive(Serialize)]
struct Report {
    vectors: usize,
    dims: usize,
    metric: &'static str,
    segments: u64,
    bytes_on_disk: u64,
    /// Of the rows, until sealed.
    rows_per_s: f64,
    committed_s: f64,
    sealed_s: f64,
    add_p50_ms: f64,
    add_p99_ms: f64,
    #[serde(rename = "recall@10")]
    recall: f64,
    rows: [Searching; 2],
}

/// Searches, beside nothing or beside an ingest.
#[derive(Serialize)]
struct Searching {
    meanwhile: &'static str,
    vectors: String,
    searches: usize,
    p50_ms: f64,
    p99_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows_per_s: Option<f64>,
}

/// What gets in.
struct Load {
    base: Rows<f32>,
    texts: Vec<String>,
    metric: Metric,
    /// The first of the rows that are kept.
    end: usize,
}

impl Load {
    fn kept(&self) -> impl Iterator<Item = usize> {
        self.end..self.base.count()
    }
}

/// `quiver bench ingest`.
pub(super) fn run(session: &Session, arguments: &BenchIngest) -> Result<Outcome> {
    let Some(base) = &arguments.base else {
        // Clap wants one of the two.
        let texts = arguments.texts.as_deref().unwrap_or(Path::new("-"));
        return passages::run(session, texts, &arguments.backend.model(&arguments.model)?);
    };
    let load = load(arguments, base)?;
    machine::introduce();
    let folder = tempfile::tempdir()?;
    let database = Database::open(folder.path())?;
    let collection = create(&database, COLLECTION, load.base.dims(), load.metric)?;
    let Taken { committed_s, sealed_s } = add(&collection, &load, 0..load.end, "adding all")?;
    let stats = collection.stats()?;
    let queries = load.base.part(load.end);
    let truth = truth::nearest(load.metric, &load.base, &queries, |row| row < load.end);
    let recall = truth::recall(&truth, &whole::found(&collection, &queries)?);
    let singles = add_singly(&collection, &load)?;
    database.drop_collection(COLLECTION)?;
    let report = Report {
        vectors: load.end,
        dims: load.base.dims(),
        metric: load.metric.name(),
        segments: stats.segments,
        bytes_on_disk: stats.bytes_on_disk,
        rows_per_s: load.end as f64 / sealed_s,
        committed_s,
        sealed_s,
        add_p50_ms: singles.percentile(50),
        add_p99_ms: singles.percentile(99),
        recall,
        rows: while_ingesting(&database, &load, &queries)?,
    };
    session.output.show(&report, std::slice::from_ref(&report), || people(&report))?;
    Ok(Outcome::Done)
}

fn load(arguments: &BenchIngest, base: &Path) -> Result<Load> {
    let base = arrays::vectors(base)?;
    check(&base, "base", arguments.metric)?;
    if base.count() < 10 {
        let message = format!("the base has {}; 10 are needed", count(base.count() as u64, "vector"));
        return Err(Mistake::new(message).into());
    }
    let texts = match &arguments.texts {
        Some(file) => sources::texts(file)?,
        None => whole::made_up_texts(base.count()),
    };
    let end = base.count() - KEPT_MAX.min(base.count() / 10);
    Ok(Load { base, texts, metric: arguments.metric, end })
}

/// Seconds until all rows were in.
struct Taken {
    committed_s: f64,
    sealed_s: f64,
}

fn add(collection: &Collection, load: &Load, rows: std::ops::Range<usize>, what: &str) -> Result<Taken> {
    let bar = progress::steps(rows.len() as u64, what);
    // What the report says in the end counts the sealing, too; after a batch it does not.
    let committed_s = Mutex::new(0.0);
    let progress = |report: &AddReport| {
        bar.set_position(report.added);
        *committed_s.lock().unwrap_or_else(PoisonError::into_inner) = report.seconds;
    };
    let options = AddOptions { progress: Some(&progress), ..AddOptions::default() };
    let documents = rows.map(|row| Ok(document(&load.base, &load.texts, row)));
    let start = Instant::now();
    let report = collection.add_with(documents, &options)?;
    let sealed_s = start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    accepted(&report)?;
    Ok(Taken { committed_s: committed_s.into_inner().unwrap_or_else(PoisonError::into_inner), sealed_s })
}

fn add_singly(collection: &Collection, load: &Load) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    for row in load.kept() {
        let document = document(&load.base, &load.texts, row);
        latencies.measure(|| collection.add(document))?;
    }
    Ok(latencies)
}

/// Searches half of the rows while nothing else happens, then while the other half gets in.
fn while_ingesting(database: &Database, load: &Load, queries: &Rows<f32>) -> Result<[Searching; 2]> {
    let half = load.end / 2;
    let collection = create(database, COLLECTION, load.base.dims(), load.metric)?;
    add(&collection, load, 0..half, "adding half")?;
    whole::ask(&collection, queries, None, queries.count())?;
    let quiet = whole::ask(&collection, queries, None, 1_000)?;
    let done = AtomicBool::new(false);
    let (busy, taken) = std::thread::scope(|scope| {
        let ingest = scope.spawn(|| {
            let taken = add(&collection, load, half..load.end, "adding the rest");
            done.store(true, Ordering::Relaxed);
            taken
        });
        let busy = ask_until(&collection, queries, &done);
        (busy, ingest.join())
    });
    let taken = taken.map_err(|_| anyhow!("the thread that adds has panicked"))??;
    let rate = (load.end - half) as f64 / taken.sealed_s;
    let (half, end) = (thousands(half as u64), thousands(load.end as u64));
    let row = |meanwhile, vectors, latencies: &Latencies, rows_per_s| Searching {
        meanwhile,
        vectors,
        searches: latencies.count(),
        p50_ms: latencies.percentile(50),
        p99_ms: latencies.percentile(99),
        rows_per_s,
    };
    Ok([row("nothing", half.clone(), &quiet, None), row("ingest", format!("{half} to {end}"), &busy?, Some(rate))])
}

/// Asks one query after the other, at least once, until all is in.
fn ask_until(collection: &Collection, queries: &Rows<f32>, done: &AtomicBool) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    for vector in queries.iter().cycle() {
        let query = whole::query(vector, None);
        latencies.measure(|| collection.search(query))?;
        if done.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(latencies)
}

fn people(report: &Report) -> String {
    let mut ingest =
        Table::new(&[">rows/s", ">committed", ">sealed", ">single add p50", ">p99", ">recall@10", ">on disk"]);
    ingest.row([
        thousands(report.rows_per_s.round() as u64),
        duration(report.committed_s * 1e3),
        duration(report.sealed_s * 1e3),
        duration(report.add_p50_ms),
        duration(report.add_p99_ms),
        format!("{:.4}", report.recall),
        size(report.bytes_on_disk),
    ]);
    let mut search = Table::new(&["searching beside", ">vectors", ">searches", ">p50", ">p99", ">rows/s"]);
    for Searching { meanwhile, vectors, searches, p50_ms, p99_ms, rows_per_s } in &report.rows {
        search.row([
            (*meanwhile).to_owned(),
            vectors.clone(),
            thousands(*searches as u64),
            duration(*p50_ms),
            duration(*p99_ms),
            rows_per_s.map_or_else(String::new, |rate| thousands(rate.round() as u64)),
        ]);
    }
    let what = format!("{} of {} dimensions", count(report.vectors as u64, "vector"), report.dims);
    format!("{what}, {}\n{}\n{}", report.metric, ingest.render(), search.render())
}
