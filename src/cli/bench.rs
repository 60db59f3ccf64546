//! How fast is this machine at embedding and at searching?
//!
//! `embed` and `search` run in memory on texts that are given or made up from a seed, so that anybody can repeat it. A
//! rate is taken over all texts; a latency is the median of single calls, one at a time, after a warm-up. What runs on
//! files of vectors has a module each below.

mod ann;
mod arrays;
mod filter;
mod ingest;
mod input;
mod machine;
mod open;
mod passages;
mod threads;
mod truth;
mod whole;

use std::time::Instant;

use anyhow::Result;
use quiverdb::{Collection, CollectionConfig, Database, Document, Embedder, Mode, Query};
use serde::Serialize;
use serde_json::json;

use super::args::{BenchEmbed, BenchSearch, BenchVerb};
use super::latency::Latencies;
use super::output::{Table, count, duration, note, thousands};
use super::progress;
use super::sample::Sampler;
use super::session::{Mistake, Outcome, Session};
use super::sources;

/// Words of a made-up passage.
const PASSAGE_WORDS: usize = 100;
/// Words of a query taken from a passage.
const QUERY_WORDS: usize = 6;
/// Texts embedded at a time.
const BATCH_TEXTS: usize = 1024;
/// Made-up texts of a length for `bench embed`.
const MADE_UP_TEXTS: usize = 2048;
/// Texts after which it has seen enough.
const EMBEDDED_MAX: usize = 20_000;
/// Single calls whose median is the latency.
const SINGLE_CALLS: usize = 100;

/// `quiver bench`.
pub(crate) fn run(session: &Session, verb: &BenchVerb) -> Result<Outcome> {
    match verb {
        BenchVerb::Embed(arguments) => bench_embed(session, arguments),
        BenchVerb::Search(arguments) => bench_search(session, arguments),
        BenchVerb::Ann(arguments) => ann::run(session, arguments),
        BenchVerb::Filter(arguments) => filter::run(session, arguments),
        BenchVerb::Open(arguments) => open::run(session, arguments),
        BenchVerb::OpenOnce(arguments) => open::once(session, arguments),
        BenchVerb::Ingest(arguments) => ingest::run(session, arguments),
        BenchVerb::Threads(arguments) => threads::run(session, arguments),
    }
}

#[derive(Serialize)]
struct EmbedRow {
    backend: String,
    precision: String,
    tokens_mean: f64,
    texts_per_s: f64,
    tokens_per_s: f64,
    p50_ms_single: f64,
    model: String,
    texts: usize,
}

fn bench_embed(session: &Session, arguments: &BenchEmbed) -> Result<Outcome> {
    let embedder = session.model(&arguments.backend.model(&arguments.model)?)?;
    let mut rows = Vec::new();
    if let Some(file) = &arguments.texts {
        let texts = sources::texts(file)?;
        if texts.is_empty() {
            let mistake = Mistake::new("there are no texts to measure with").hint("each line needs a \"text\"");
            return Err(mistake.into());
        }
        rows.push(measure_embedding(embedder.as_ref(), &texts, texts.len(), arguments.seconds)?);
    } else {
        for tokens in readable(embedder.spec().max_tokens, &arguments.tokens) {
            let texts = made_up(embedder.as_ref(), tokens);
            rows.push(measure_embedding(embedder.as_ref(), &texts, EMBEDDED_MAX, arguments.seconds)?);
        }
    }
    session.output.show(&json!({"rows": rows}), &rows, || embed_table(&rows))?;
    Ok(Outcome::Done)
}

fn embed_table(rows: &[EmbedRow]) -> String {
    let columns = ["model", "backend", "precision", ">texts", ">tokens a text", ">texts/s", ">tokens/s", ">p50 single"];
    let mut table = Table::new(&columns);
    for row in rows {
        table.row([
            row.model.clone(),
            row.backend.clone(),
            row.precision.to_owned(),
            thousands(row.texts as u64),
            format!("{:.1}", row.tokens_mean),
            thousands(row.texts_per_s.round() as u64),
            thousands(row.tokens_per_s.round() as u64),
            duration(row.p50_ms_single),
        ]);
    }
    table.render()
}

/// The lengths that a model can read which reads `most` tokens; longer ones are cut to that.
fn readable(most: usize, lengths: &[usize]) -> Vec<usize> {
    if lengths.iter().any(|&length| length > most) {
        note(&format!("the model reads at most {most} tokens of a text: longer passages are made that long"));
    }
    let mut lengths: Vec<usize> = lengths.iter().map(|&length| length.min(most)).collect();
    lengths.dedup();
    lengths
}

/// Passages of so many tokens, special ones counted.
fn made_up(embedder: &dyn Embedder, tokens: usize) -> Vec<String> {
    let mut sampler = Sampler::new(7);
    let own = tokens.saturating_sub(embedder.spec().special_tokens).max(1);
    let made = |_| {
        // A word is a token or more.
        let mut passage = sampler.passage(own);
        let ranges = embedder.token_ranges(&passage);
        passage.truncate(ranges.get(own - 1).map_or(passage.len(), |last| last.end));
        passage
    };
    (0..MADE_UP_TEXTS).map(made).collect()
}

/// Embeds `texts`, over and over, until it has embedded `most` or the time is up.
fn measure_embedding(embedder: &dyn Embedder, texts: &[String], most: usize, seconds: f64) -> Result<EmbedRow> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let spinner = progress::spinner("embedding");
    embedder.embed_documents(&texts[..texts.len().min(8)])?;
    let start = Instant::now();
    let mut done = 0;
    // A slow model gets small batches, or it would overrun its time by far.
    let mut batch = 8;
    while done < most && start.elapsed().as_secs_f64() < seconds {
        let batch_start = Instant::now();
        let first = done % texts.len();
        let end = (first + batch.min(most - done)).min(texts.len());
        embedder.embed_documents(&texts[first..end])?;
        done += end - first;
        if batch_start.elapsed().as_secs_f64() < seconds / 20.0 {
            batch = (batch * 2).min(BATCH_TEXTS);
        }
        spinner.set_message(format!("{} embedded", count(done as u64, "text")));
    }
    let elapsed = start.elapsed().as_secs_f64();
    let single = single_calls(embedder, &texts, seconds / 4.0)?;
    spinner.finish_and_clear();
    let spec = embedder.spec();
    let tokens: usize = texts.iter().cycle().take(done).map(|text| tokens(embedder, text)).sum();
    Ok(EmbedRow {
        backend: spec.backend.clone(),
        precision: if spec.precision.is_empty() { "int8".into() } else { spec.precision.clone() },
        tokens_mean: tokens as f64 / done.max(1) as f64,
        texts_per_s: done as f64 / elapsed,
        tokens_per_s: tokens as f64 / elapsed,
        p50_ms_single: single.percentile(50),
        model: spec.id.clone(),
        texts: done,
    })
}

/// The tokens that the model reads of a text.
fn tokens(embedder: &dyn Embedder, text: &str) -> usize {
    let spec = embedder.spec();
    (embedder.token_ranges(text).len() + spec.special_tokens).min(spec.max_tokens)
}

fn single_calls(embedder: &dyn Embedder, texts: &[&str], seconds: f64) -> Result<Latencies> {
    let start = Instant::now();
    let mut latencies = Latencies::default();
    for text in texts.iter().cycle().take(SINGLE_CALLS) {
        latencies.measure(|| embedder.embed_documents(&[text]))?;
        if start.elapsed().as_secs_f64() > seconds {
            break;
        }
    }
    Ok(latencies)
}

#[derive(Serialize)]
struct SearchRow {
    mode: Mode,
    model: String,
    documents: u64,
    chunks: u64,
    queries: usize,
    p50_ms: f64,
    p95_ms: f64,
}

fn bench_search(session: &Session, arguments: &BenchSearch) -> Result<Outcome> {
    let mut sampler = Sampler::new(arguments.seed);
    let documents = match &arguments.texts {
        Some(file) => sources::texts(file)?.into_iter().take(arguments.documents).collect(),
        None => (0..arguments.documents).map(|_| sampler.passage(PASSAGE_WORDS)).collect::<Vec<_>>(),
    };
    if documents.is_empty() || arguments.queries == 0 {
        return Err(Mistake::new("there is nothing to measure")
            .hint("give it at least one document and one query")
            .into());
    }
    let queries: Vec<String> = (0..arguments.queries)
        .map(|_| {
            let text = &documents[sampler.below(documents.len())];
            sampler.query(text, QUERY_WORDS)
        })
        .collect();
    let collection = fill(session, &arguments.backend.model(&arguments.model)?, documents)?;
    let rows = [Mode::Hybrid, Mode::Dense, Mode::Text]
        .into_iter()
        .map(|mode| measure_search(&collection, mode, &queries))
        .collect::<Result<Vec<_>>>()?;
    session.output.show(&json!({"rows": rows}), &rows, || search_table(&rows))?;
    Ok(Outcome::Done)
}

fn fill(session: &Session, model: &str, texts: Vec<String>) -> Result<Collection> {
    let database = Database::in_memory()?.with_runtime(session.runtime.clone());
    let collection = database.collection_with("bench", CollectionConfig::new().model(model))?;
    let spinner = progress::spinner("adding the documents");
    let documents = texts.into_iter().enumerate();
    let report = collection.add_many(documents.map(|(number, text)| Document::new(number as i64, text)))?;
    spinner.finish_and_clear();
    let documents = count(report.added, "document");
    note(&format!(
        "added {documents}, {}, in {}",
        count(report.chunks_embedded, "passage"),
        duration(report.seconds * 1e3)
    ));
    Ok(collection)
}

fn measure_search(collection: &Collection, mode: Mode, queries: &[String]) -> Result<SearchRow> {
    let bar = progress::steps(queries.len() as u64, mode.name());
    let ask = |text: &String| collection.search(Query::text(text).mode(mode));
    for text in queries.iter().take(5) {
        ask(text)?;
    }
    let mut latencies = Latencies::default();
    for text in queries {
        latencies.measure(|| ask(text))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (p50_ms, p95_ms) = (latencies.percentile(50), latencies.percentile(95));
    let stats = collection.stats()?;
    let (model, documents, chunks) = (stats.model, stats.documents, stats.chunks);
    Ok(SearchRow { mode, model, documents, chunks, queries: latencies.count(), p50_ms, p95_ms })
}

fn search_table(rows: &[SearchRow]) -> String {
    let mut table = Table::new(&["mode", "model", ">documents", ">passages", ">queries", ">p50", ">p95"]);
    for row in rows {
        table.row([
            row.mode.name().to_owned(),
            row.model.clone(),
            thousands(row.documents),
            thousands(row.chunks),
            thousands(row.queries as u64),
            duration(row.p50_ms),
            duration(row.p95_ms),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_beyond_the_model_s_limit_are_measured_once() {
        assert_eq!(readable(512, &[32, 110, 256]), [32, 110, 256]);
        assert_eq!(readable(128, &[32, 110, 256, 400]), [32, 110, 128]);
    }
}
