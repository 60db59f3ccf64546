//! How long does one search take in a collection of 10,000 passages, by mode?
//!
//! Run it with `cargo bench --bench search`. The bar is a median under 5 ms in hybrid mode. Search is exact here, so
//! there is no recall to print beside the latency.

#![allow(clippy::print_stdout, reason = "a benchmark prints its result")]

mod text;

use std::time::Instant;

use quiverdb::{Collection, Database, Document, Mode, Query};
use text::{PASSAGE_WORDS, Sampler, cores};

const PASSAGES: i64 = 10_000;
const QUERIES: usize = 500;
const QUERY_WORDS: usize = 6;

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let notes = Database::open(folder.path())?.collection("notes")?;
    let mut sampler = Sampler::new(1);
    let report = notes.add_many((0..PASSAGES).map(|id| Document::new(id, sampler.passage())))?;
    let stats = notes.stats()?;
    println!(
        "{} documents of {PASSAGE_WORDS} words in {} chunks and {} segments, added in {:.1} s, {} cores",
        stats.documents,
        stats.chunks,
        stats.segments,
        report.seconds,
        cores()
    );
    let queries: Vec<String> = (0..QUERIES).map(|_| sampler.words(QUERY_WORDS)).collect();
    println!("{:<8}{:>10}{:>10}{:>10}", "mode", "p50 ms", "p95 ms", "max ms");
    for mode in [Mode::Hybrid, Mode::Dense, Mode::Text] {
        let mut took = ask_all(&notes, &queries, mode)?;
        took.sort_by(f64::total_cmp);
        let at = |percent: usize| took[(took.len() - 1) * percent / 100];
        println!("{:<8}{:>10.2}{:>10.2}{:>10.2}", mode.name(), at(50), at(95), at(100));
    }
    Ok(())
}

/// Milliseconds of each query, one after the other; ten of them warm up.
fn ask_all(notes: &Collection, queries: &[String], mode: Mode) -> anyhow::Result<Vec<f64>> {
    let ask = |text: &String| notes.search(Query::text(text.clone()).mode(mode).limit(10));
    for text in &queries[..10] {
        ask(text)?;
    }
    let mut took = Vec::with_capacity(queries.len());
    for text in queries {
        let start = Instant::now();
        ask(text)?;
        took.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took)
}
