//! How long is it from a closed database to its first answer, and what does it hold in memory then?
//!
//! The collection is made once; then this program starts itself again, several times, because only a fresh process has
//! nothing in memory yet. The system's file cache is warm: it has just been written. Of the processes the one with the
//! median time to the first answer is reported, whole.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use quiverdb::{Database, Metric};
use serde::{Deserialize, Serialize};

use super::arrays;
use super::input::{Input, read};
use super::machine::{self, Resident, resident};
use super::truth;
use super::whole::{self, COLLECTION, described};
use crate::cli::args::{BenchOpen, BenchOpenOnce};
use crate::cli::output::{Table, duration, size};
use crate::cli::session::{Outcome, Session};

/// Fresh processes.
const PROCESSES: usize = 5;
/// Searches of each.
const SEARCHES: usize = 1_000;

#[derive(Serialize)]
struct Report {
    vectors: usize,
    dims: usize,
    metric: &'static str,
    segments: u64,
    bytes_on_disk: u64,
    processes: usize,
    #[serde(rename = "recall@10")]
    recall: f64,
    #[serde(flatten)]
    opening: Opening,
}

/// What a fresh process saw.
#[derive(Serialize, Deserialize)]
struct Opening {
    /// Opening the database.
    open_ms: f64,
    /// From the start of opening to the first answer.
    first_answer_ms: f64,
    searches: usize,
    p50_ms: f64,
    p99_ms: f64,
    /// After the searches, the program and the queries included; 0 where the system does not tell.
    resident_mb: f64,
    /// Of these, pages of files.
    mapped_mb: f64,
}

#[derive(Serialize, Deserialize)]
struct Answers {
    opening: Opening,
    /// The rows that each query found.
    found: Vec<Vec<u32>>,
}

/// `quiver bench open`.
pub(super) fn run(session: &Session, arguments: &BenchOpen) -> Result<Outcome> {
    let input = read(&arguments.files)?;
    machine::introduce();
    let temporary = if session.path_is_given { None } else { Some(tempfile::tempdir()?) };
    let folder = temporary.as_ref().map_or(session.path.as_path(), |folder| folder.path());
    let (segments, bytes_on_disk) = prepare(folder, &input)?;
    let mut answers =
        (0..PROCESSES).map(|_| in_fresh_process(folder, &arguments.files.queries)).collect::<Result<Vec<_>>>()?;
    answers.sort_by(|a, b| a.opening.first_answer_ms.total_cmp(&b.opening.first_answer_ms));
    let Answers { opening, found } = answers.swap_remove(PROCESSES / 2);
    let truth = truth::nearest(input.metric, &input.base, &input.queries, |_| true);
    let report = Report {
        vectors: input.base.count(),
        dims: input.base.dims(),
        metric: input.metric.name(),
        segments,
        bytes_on_disk,
        processes: PROCESSES,
        recall: truth::recall(&truth, &found),
        opening,
    };
    session.output.show(&report, std::slice::from_ref(&report), || people(&report, &input))?;
    Ok(Outcome::Done)
}

/// Makes the collection where it is not there yet; returns its segments and the bytes of the database.
fn prepare(folder: &Path, input: &Input) -> Result<(u64, u64)> {
    let database = Database::open(folder)?;
    let stats = whole::stocked(&database, input)?.stats()?;
    Ok((stats.segments, stats.bytes_on_disk))
}

fn in_fresh_process(folder: &Path, queries: &Path) -> Result<Answers> {
    let program = std::env::current_exe().context("this program's own file")?;
    let mut command = Command::new(program);
    command.arg("--json").arg("--db").arg(folder).args(["bench", "open-once", "--queries"]).arg(queries);
    let output =
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("starting this program again")?;
    if !output.status.success() {
        bail!("the fresh process ended with {}", output.status);
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// `quiver bench open-once`: the part that a fresh process does.
pub(super) fn once(session: &Session, arguments: &BenchOpenOnce) -> Result<Outcome> {
    let queries = arrays::vectors(&arguments.queries)?;
    super::input::check(&queries, "queries", Metric::Dot)?;
    let start = Instant::now();
    let database = Database::open(&session.path)?;
    let open_ms = start.elapsed().as_secs_f64() * 1e3;
    let collection = database.open_collection(COLLECTION)?;
    collection.search(whole::query(queries.row(0), None))?;
    let first_answer_ms = start.elapsed().as_secs_f64() * 1e3;
    let latencies = whole::ask(&collection, &queries, None, SEARCHES)?;
    let Resident { total_mb, mapped_mb } = resident().unwrap_or_default();
    let opening = Opening {
        open_ms,
        first_answer_ms,
        searches: latencies.count(),
        p50_ms: latencies.percentile(50),
        p99_ms: latencies.percentile(99),
        resident_mb: total_mb,
        mapped_mb,
    };
    session.output.value(&Answers { opening, found: whole::found(&collection, &queries)? })?;
    Ok(Outcome::Done)
}

fn people(report: &Report, input: &Input) -> String {
    let Opening { open_ms, first_answer_ms, p50_ms, p99_ms, resident_mb, mapped_mb, .. } = &report.opening;
    let mut table =
        Table::new(&[">open", ">first answer", ">recall@10", ">p50", ">p99", ">resident", ">of it files", ">on disk"]);
    let megabytes = |megabytes: f64| size((megabytes * 1e6) as u64);
    table.row([
        duration(*open_ms),
        duration(*first_answer_ms),
        format!("{:.4}", report.recall),
        duration(*p50_ms),
        duration(*p99_ms),
        megabytes(*resident_mb),
        megabytes(*mapped_mb),
        size(report.bytes_on_disk),
    ]);
    format!("{}, median of {PROCESSES} fresh processes\n{}", described(input, report.segments), table.render())
}
