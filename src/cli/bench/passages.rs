//! How much longer does it take to add passages than to embed them?
//!
//! The same texts, first through the model alone, then into an empty collection in a temporary folder, until they are
//! durable and sealed. What the model is not busy for in the second is what reading, chunking and writing cost; the two
//! runs are one after the other, so a busy machine shows in their ratio.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use quiverdb::types::Rejected;
use quiverdb::{AddOptions, AddReport, CollectionConfig, Database, Document, Embedder, formats};
use serde::Serialize;

use super::whole::{COLLECTION, accepted};
use super::{BATCH_TEXTS, machine};
use crate::cli::output::{Table, duration, size, thousands};
use crate::cli::progress;
use crate::cli::session::{Mistake, Outcome, Session};
use crate::cli::sources;

#[derive(Serialize)]
struct Report {
    model: String,
    documents: u64,
    chunks: u64,
    segments: u64,
    bytes_on_disk: u64,
    documents_per_s: f64,
    /// Until all was durable and sealed.
    seconds: f64,
    /// Of these, with the model at work.
    embedding_s: f64,
    /// The share of the time in which it was not.
    outside_model: f64,
    /// The same texts through the model alone.
    bare_s: f64,
    /// `seconds` over `bare_s`.
    over_bare: f64,
}

/// `quiver bench ingest --texts FILE [--model M]`.
pub(super) fn run(session: &Session, file: &Path, model: &str) -> Result<Outcome> {
    let texts = sources::texts(file)?;
    if texts.is_empty() {
        return Err(Mistake::new("there are no texts to add").hint("each line needs a \"text\"").into());
    }
    machine::introduce();
    let bare_s = embed_alone(session.model(model)?.as_ref(), &texts)?;
    let folder = tempfile::tempdir()?;
    let database = Database::open(folder.path())?.with_runtime(session.runtime.clone());
    let collection = database.collection_with(COLLECTION, CollectionConfig::new().model(model))?;
    let bar = progress::steps(texts.len() as u64, "adding");
    let progress = |report: &AddReport| bar.set_position(report.added + report.replaced + report.unchanged);
    let options = AddOptions { progress: Some(&progress), ..AddOptions::default() };
    let added = collection.add_with(lines(file)?, &options)?;
    bar.finish_and_clear();
    accepted(&added)?;
    let stats = collection.stats()?;
    let report = Report {
        model: stats.model,
        documents: stats.documents,
        chunks: stats.chunks,
        segments: stats.segments,
        bytes_on_disk: stats.bytes_on_disk,
        documents_per_s: stats.documents as f64 / added.seconds,
        seconds: added.seconds,
        embedding_s: added.embedding_seconds,
        outside_model: 1.0 - added.embedding_seconds / added.seconds,
        bare_s,
        over_bare: added.seconds / bare_s,
    };
    session.output.show(&report, std::slice::from_ref(&report), || people(&report))?;
    Ok(Outcome::Done)
}

/// Reads the file as `quiver add` does, so that reading counts.
fn lines(file: &Path) -> Result<impl Iterator<Item = std::result::Result<Document, Rejected>>> {
    Ok(formats::load_jsonl(sources::reader(file)?, file.display().to_string()))
}

fn embed_alone(embedder: &dyn Embedder, texts: &[String]) -> Result<f64> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    embedder.embed_documents(&texts[..texts.len().min(8)])?;
    let bar = progress::steps(texts.len() as u64, "embedding");
    let start = Instant::now();
    for batch in texts.chunks(BATCH_TEXTS) {
        embedder.embed_documents(batch)?;
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(start.elapsed().as_secs_f64())
}

fn people(report: &Report) -> String {
    let columns = [
        "model",
        ">documents",
        ">chunks",
        ">documents/s",
        ">until sealed",
        ">model at work",
        ">outside it",
        ">model alone",
        ">over alone",
        ">on disk",
    ];
    let mut table = Table::new(&columns);
    table.row([
        report.model.clone(),
        thousands(report.documents),
        thousands(report.chunks),
        thousands(report.documents_per_s.round() as u64),
        duration(report.seconds * 1e3),
        duration(report.embedding_s * 1e3),
        format!("{:.1} %", report.outside_model * 100.0),
        duration(report.bare_s * 1e3),
        format!("{:.2}", report.over_bare),
        size(report.bytes_on_disk),
    ]);
    table.render()
}
