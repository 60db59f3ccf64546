//! How fast and how good is the approximate index, alone?
//!
//! No documents, no commits, no files: what other libraries of indexes measure, too (`benches/peers/ann.py`). Queries are
//! asked one at a time by one thread; of several rounds over all of them the fastest counts, as there.

use anyhow::Result;
use quiverdb_storage::ann::AnnIndex;
use serde::Serialize;

use super::arrays::{self, Rows};
use super::input::{Input, read};
use super::machine::{self, resident};
use super::truth::{self, K};
use crate::cli::args::BenchAnn;
use crate::cli::latency::Latencies;
use crate::cli::output::{Table, count, duration, note, thousands};
use crate::cli::progress;
use crate::cli::session::{Mistake, Outcome, Session};

#[derive(Serialize)]
struct Report {
    vectors: usize,
    dims: usize,
    metric: &'static str,
    threads: usize,
    build_s: f64,
    resident_mb: f64,
    points: Vec<Point>,
}

#[derive(Serialize)]
struct Point {
    ef: usize,
    #[serde(rename = "recall@10")]
    recall: f64,
    qps: f64,
    p50_us: f64,
    p99_us: f64,
}

/// `quiver bench ann`.
pub(super) fn run(session: &Session, arguments: &BenchAnn) -> Result<Outcome> {
    if arguments.rounds == 0 || arguments.ef.contains(&0) {
        return Err(Mistake::new("there is nothing to measure").hint("--rounds and --ef take 1 or more").into());
    }
    let input = read(&arguments.files)?;
    let given = arguments.truth.as_deref().map(arrays::row_numbers).transpose()?;
    let given = given.map(|rows| checked(&rows, &input)).transpose()?;
    machine::introduce();
    let threads = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads.unwrap_or(0)).build()?;
    let before = resident();
    let (index, build_s) = build(&threads, &input)?;
    let grown = before.zip(resident()).map(|(before, after)| (after.total_mb - before.total_mb).max(0.0));
    let truth = given.unwrap_or_else(|| exact(&input));
    let measure = |ef: &usize| point(&index, &input.queries, &truth, *ef, arguments.rounds);
    let report = Report {
        vectors: input.base.count(),
        dims: input.base.dims(),
        metric: input.metric.name(),
        threads: threads.current_num_threads(),
        build_s,
        resident_mb: grown.unwrap_or(index.memory_bytes() as f64 / 1e6),
        points: arguments.ef.iter().map(measure).collect::<Result<_>>()?,
    };
    session.output.show(&report, &report.points, || people(&report))?;
    Ok(Outcome::Done)
}

/// The nearest of each query, as a file gives them.
fn checked(rows: &Rows<u32>, input: &Input) -> Result<Vec<Vec<u32>>> {
    let (queries, vectors) = (input.queries.count(), input.base.count());
    if rows.count() != queries {
        let message = format!("the truth has {} rows and there are {queries} queries", rows.count());
        return Err(Mistake::new(message).hint("it needs one row a query").into());
    }
    if let Some(row) = rows.values().iter().find(|row| **row as usize >= vectors) {
        let message = format!("the truth names row {row} and the base has {vectors}");
        return Err(Mistake::new(message).hint("it numbers the rows of the base from 0").into());
    }
    Ok(rows.iter().map(|row| row[..row.len().min(K)].to_vec()).collect())
}

fn build(threads: &rayon::ThreadPool, input: &Input) -> Result<(AnnIndex, f64)> {
    let spinner = progress::spinner("building the index");
    let start = std::time::Instant::now();
    let Input { base, metric, .. } = input;
    let index = threads.install(|| AnnIndex::build(*metric, base.dims(), base.values()));
    spinner.finish_and_clear();
    Ok((index.map_err(quiverdb::Error::from)?, start.elapsed().as_secs_f64()))
}

fn exact(input: &Input) -> Vec<Vec<u32>> {
    let spinner = progress::spinner("looking for the true nearest");
    let start = std::time::Instant::now();
    let truth = truth::nearest(input.metric, &input.base, &input.queries, |_| true);
    spinner.finish_and_clear();
    note(&format!("found the true nearest in {}", duration(start.elapsed().as_secs_f64() * 1e3)));
    truth
}

fn point(index: &AnnIndex, queries: &Rows<f32>, truth: &[Vec<u32>], ef: usize, rounds: usize) -> Result<Point> {
    let (mut fastest, mut found) = (None::<Latencies>, Vec::new());
    for _ in 0..rounds {
        let mut latencies = Latencies::default();
        found.clear();
        for query in queries.iter() {
            let answer = latencies.measure(|| index.search(query, K, ef)).map_err(quiverdb::Error::from)?;
            found.push(answer.hits.into_iter().map(|(row, _)| row).collect());
        }
        if fastest.as_ref().is_none_or(|fastest| latencies.total_ms() < fastest.total_ms()) {
            fastest = Some(latencies);
        }
    }
    let fastest = fastest.unwrap_or_default();
    Ok(Point {
        ef,
        recall: truth::recall(truth, &found),
        qps: fastest.count() as f64 / fastest.total_ms() * 1e3,
        p50_us: fastest.percentile(50) * 1e3,
        p99_us: fastest.percentile(99) * 1e3,
    })
}

fn people(report: &Report) -> String {
    let Report { vectors, dims, metric, threads, build_s, resident_mb, points } = report;
    let mut table = Table::new(&[">ef", ">recall@10", ">queries/s", ">p50", ">p99"]);
    for Point { ef, recall, qps, p50_us, p99_us } in points {
        table.row([
            thousands(*ef as u64),
            format!("{recall:.4}"),
            thousands(qps.round() as u64),
            duration(p50_us / 1e3),
            duration(p99_us / 1e3),
        ]);
    }
    format!(
        "{} vectors of {dims} dimensions, {metric}: built in {} by {}, {resident_mb:.0} MB resident\n{}",
        thousands(*vectors as u64),
        duration(build_s * 1e3),
        count(*threads as u64, "thread"),
        table.render()
    )
}
