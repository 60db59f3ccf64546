//! How is a whole collection made and asked, documents, metadata, text and all?
//!
//! The rows of a file become documents `0`, `1`, ... with the vector of the row, some words, and in the metadata a number
//! `draw` below 1,000 that is spread evenly over the rows; `draw < 100` selects 10 % of them.

use std::time::Instant;

use anyhow::Result;
use quiverdb::types::SearchResults;
use quiverdb::{AddReport, Collection, CollectionConfig, Database, Document, DocumentId, Filter, Metric, Query};
use serde_json::json;

use super::arrays::Rows;
use super::input::Input;
use super::machine;
use super::truth::K;
use crate::cli::latency::Latencies;
use crate::cli::output::{count, duration, note};
use crate::cli::progress;
use crate::cli::sample::Sampler;
use crate::cli::session::Mistake;

/// The collection's name.
pub(super) const COLLECTION: &str = "bench";
/// The end of the range of `draw`.
pub(super) const DRAWS: u64 = 1_000;

/// Words of a made-up text: those of a sentence.
const WORDS: usize = 20;

/// What the metadata of a row say. Multiplication by the golden ratio spreads rows that stand side by side (Knuth, TAOCP
/// 6.4); other programs can compute it, too.
pub(super) fn draw(row: usize) -> u64 {
    let hash = (row as u32).wrapping_mul(2_654_435_761);
    (u64::from(hash) * DRAWS) >> 32
}

/// A collection without a model for vectors such as these.
pub(super) fn create(database: &Database, name: &str, dims: usize, metric: Metric) -> Result<Collection> {
    Ok(database.collection_with(name, CollectionConfig::new().external(dims).metric(metric))?)
}

/// A text for each row, made up from a seed.
pub(super) fn made_up_texts(rows: usize) -> Vec<String> {
    let mut sampler = Sampler::new(7);
    (0..rows).map(|_| sampler.passage(WORDS)).collect()
}

/// The row as a document; texts are used again where there are fewer than rows.
pub(super) fn document(base: &Rows<f32>, texts: &[String], row: usize) -> Document {
    let text = texts.get(row % texts.len().max(1)).cloned().unwrap_or_default();
    Document::new(row as i64, text).vector(base.row(row).to_vec()).metadata(json!({"draw": draw(row)}))
}

/// A collection of all rows; one that is there already is used as it is.
pub(super) fn stocked(database: &Database, input: &Input) -> Result<Collection> {
    let collection = create(database, COLLECTION, input.base.dims(), input.metric)?;
    let documents = collection.count()?;
    if documents == 0 {
        fill(&collection, &input.base)?;
    } else if documents != input.base.count() as u64 {
        let there = count(documents, "document");
        let message = format!("collection `{COLLECTION}` holds {there}, and the base has {}", input.base.count());
        return Err(Mistake::new(message).hint("drop it, or name another folder with --db").into());
    }
    Ok(collection)
}

/// Adds all rows. When this returns, they are sealed if they are enough for a segment (8,192).
pub(super) fn fill(collection: &Collection, base: &Rows<f32>) -> Result<()> {
    let texts = made_up_texts(base.count());
    let spinner = progress::spinner("adding the documents");
    let start = Instant::now();
    let before = machine::resident();
    let report = collection.add_many((0..base.count()).map(|row| document(base, &texts, row)))?;
    spinner.finish_and_clear();
    accepted(&report)?;
    let documents = count(report.added, "document");
    let grown = before.zip(machine::peak_mb()).map(|(before, peak)| peak - before.total_mb);
    let grown = grown.map_or_else(String::new, |grown| format!(", memory grew by up to {grown:.0} MB"));
    note(&format!("added and sealed {documents} in {}{grown}", duration(start.elapsed().as_secs_f64() * 1e3)));
    Ok(())
}

/// All must be in, or what is measured is not what was asked for.
pub(super) fn accepted(report: &AddReport) -> Result<()> {
    match report.rejected.first() {
        Some(first) => Err(Mistake::new(format!("document {} was refused: {}", first.source, first.reason)).into()),
        None => Ok(()),
    }
}

/// A query for the nearest rows, hydrated.
pub(super) fn query(vector: &[f32], filter: Option<&Filter>) -> Query {
    let query = Query::vector(vector.to_vec()).limit(K);
    match filter {
        Some(filter) => query.filter(filter.clone()),
        None => query,
    }
}

/// Asks `queries` in turn, one at a time, until `calls` are made.
pub(super) fn ask(
    collection: &Collection,
    queries: &Rows<f32>,
    filter: Option<&Filter>,
    calls: usize,
) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    for number in 0..calls {
        let query = query(queries.row(number % queries.count()), filter);
        latencies.measure(|| collection.search(query))?;
    }
    Ok(latencies)
}

/// The rows that each query finds.
pub(super) fn found(collection: &Collection, queries: &Rows<f32>) -> Result<Vec<Vec<u32>>> {
    queries.iter().map(|vector| Ok(rows(&collection.search(query(vector, None))?))).collect()
}

/// The rows of an answer.
pub(super) fn rows(results: &SearchResults) -> Vec<u32> {
    let row = |id: &DocumentId| match id {
        DocumentId::Integer(number) => u32::try_from(*number).ok(),
        DocumentId::Text(_) => None,
    };
    results.hits.iter().filter_map(|hit| row(&hit.document)).collect()
}

/// One line that says what was searched.
pub(super) fn described(input: &Input, segments: u64) -> String {
    let (vectors, dims, metric) = (input.base.count() as u64, input.base.dims(), input.metric.name());
    let sealed = if segments == 0 { "too few to seal, all compared".into() } else { count(segments, "segment") };
    format!("{} of {dims} dimensions, {metric}, {sealed}", count(vectors, "vector"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_select_their_share_of_any_run_of_rows() {
        for start in [0, 12_345, 900_000] {
            let share = |below| (start..start + 100_000).filter(|row| draw(*row) < below).count();
            for below in [1, 10, 100, 500, 1_000] {
                assert!(share(below).abs_diff(below as usize * 100) <= 3, "{below}: {}", share(below));
            }
        }
    }
}
