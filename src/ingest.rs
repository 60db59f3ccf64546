//! How does a document get in? The recipe of the first flow: chunk, embed, commit.
//!
//! Invariants: a document is searchable as a whole or not at all; what was committed is durable before the report
//! counts it; vectors are made before the write transaction opens, so that it stays short; unchanged documents cost a
//! digest and a look-up, unchanged chunks of changed documents keep their vectors.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quiverdb_storage::{DocumentId, NewChunk, NewDocument, Operation, Snapshot, index_text};
use rayon::prelude::*;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::chunk::{Chunk, chunk};
use crate::config::ChunkerKind;
use crate::embed::Embedder;
use crate::parts::Parts;
use crate::types::{AddReport, Document, Rejected};
use crate::{Error, Result};

/// How documents are added.
#[derive(Default)]
pub struct AddOptions<'a> {
    /// Only says what would happen: nothing is embedded or written. Rejections that need the model are not seen.
    pub dry_run: bool,
    /// Called after each committed batch with the report so far.
    pub progress: Option<&'a (dyn Fn(&AddReport) + Sync)>,
    /// Set it to stop after the batch at hand; what was committed stays.
    pub cancel: Option<&'a AtomicBool>,
}

/// Documents a batch holds at most, whatever their size.
const BATCH_DOCUMENTS_MAX: usize = 4_096;
/// Bytes of text after which a batch is full.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// A batch should take about this long, so that progress is seen and Ctrl-C is heard.
const BATCH_TIME: Duration = Duration::from_millis(700);

/// Adds documents batch by batch. Each batch is one transaction; its size adapts to the model's speed.
pub(crate) fn add(
    parts: &Parts,
    documents: impl IntoIterator<Item = std::result::Result<Document, Rejected>>,
    options: &AddOptions<'_>,
) -> Result<AddReport> {
    let start = Instant::now();
    let mut report = AddReport::default();
    let mut documents = documents.into_iter();
    let mut batch_documents = 64;
    loop {
        if options.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            break;
        }
        let (batch, exhausted) = take_batch(&mut documents, batch_documents, &mut report);
        let batch_start = Instant::now();
        if !batch.is_empty() {
            add_batch(parts, batch, options, &mut report)?;
        }
        report.seconds = start.elapsed().as_secs_f64();
        if let Some(progress) = options.progress {
            progress(&report);
        }
        if exhausted {
            break;
        }
        batch_documents = next_batch_size(batch_documents, batch_start.elapsed());
    }
    report.seconds = start.elapsed().as_secs_f64();
    if !options.dry_run {
        parts.store.seal(parts.info.id)?;
    }
    Ok(report)
}

/// Adds one document, with its own error where it is refused.
pub(crate) fn add_one(parts: &Parts, document: Document) -> Result<AddReport> {
    let start = Instant::now();
    let mut report = AddReport::default();
    let snapshot = parts.store.snapshot(parts.info.id)?;
    if let Some(prepared) = prepare(parts, &snapshot, document, &mut report)? {
        let vectors = embed(parts, std::slice::from_ref(&prepared), &mut report)?;
        let operation = assemble(parts, prepared, vectors.into_iter())?;
        commit(parts, vec![operation], &mut report)?;
    }
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

fn next_batch_size(size: usize, took: Duration) -> usize {
    if took < BATCH_TIME / 2 {
        (size * 2).min(BATCH_DOCUMENTS_MAX)
    } else if took > BATCH_TIME * 2 {
        (size / 2).max(1)
    } else {
        size
    }
}

fn take_batch(
    documents: &mut impl Iterator<Item = std::result::Result<Document, Rejected>>,
    documents_max: usize,
    report: &mut AddReport,
) -> (Vec<Document>, bool) {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < documents_max && bytes < BATCH_BYTES_MAX {
        match documents.next() {
            Some(Ok(document)) => {
                bytes += document.text.len();
                batch.push(document);
            }
            Some(Err(rejected)) => report.rejected.push(rejected),
            None => return (batch, true),
        }
    }
    (batch, false)
}

fn add_batch(parts: &Parts, documents: Vec<Document>, options: &AddOptions<'_>, report: &mut AddReport) -> Result<()> {
    let snapshot = parts.store.snapshot(parts.info.id)?;
    let outcomes: Vec<_> = last_of_each_id(documents)
        .into_par_iter()
        .map(|document| {
            let id = document.id.clone();
            let mut counts = AddReport::default();
            let prepared = prepare(parts, &snapshot, document, &mut counts);
            (id, prepared, counts)
        })
        .collect();
    let mut prepared = Vec::new();
    for (id, outcome, counts) in outcomes {
        report.absorb(counts);
        match outcome {
            Ok(Some(document)) => prepared.push(document),
            Ok(None) => {}
            Err(error) => reject(report, &id, error)?,
        }
    }
    if options.dry_run {
        return forecast(&snapshot, &prepared, report);
    }
    let operations = embed_batch(parts, prepared, report)?;
    commit(parts, operations, report)
}

/// Where a batch names an id twice, the last document counts; the earlier ones would be replaced at once.
fn last_of_each_id(mut documents: Vec<Document>) -> Vec<Document> {
    let mut seen = HashSet::new();
    documents.reverse();
    documents.retain(|document| seen.insert(document.id.clone()));
    documents.reverse();
    documents
}

/// A bad document is listed and the rest goes on; the world's errors and ours end the batch.
fn reject(report: &mut AddReport, id: &DocumentId, error: Error) -> Result<()> {
    if error.blame() != crate::Blame::Caller && !matches!(error, Error::Embedding(_)) {
        return Err(error);
    }
    report.rejected.push(Rejected { source: id.to_string(), reason: error.to_string() });
    Ok(())
}

fn forecast(snapshot: &Snapshot, prepared: &[Prepared], report: &mut AddReport) -> Result<()> {
    for document in prepared {
        report.chunks_embedded += document.to_embed().count() as u64;
        match snapshot.digest(&document.document.id)? {
            Some(_) => report.replaced += 1,
            None => report.added += 1,
        }
    }
    Ok(())
}

/// A document ready for the model: validated, chunked, with the vectors that can be kept.
struct Prepared {
    document: Document,
    metadata: Map<String, Value>,
    digest: [u8; 16],
    chunks: Vec<PreparedChunk>,
}

struct PreparedChunk {
    chunk: Chunk,
    /// What the model reads.
    input: String,
    /// The vector, where it is known already.
    vector: Option<Vec<f32>>,
}

impl Prepared {
    fn to_embed(&self) -> impl Iterator<Item = &str> {
        self.chunks.iter().filter(|chunk| chunk.vector.is_none()).map(|chunk| chunk.input.as_str())
    }
}

/// Validates and chunks; `None` where the document is stored just so.
fn prepare(parts: &Parts, snapshot: &Snapshot, document: Document, report: &mut AddReport) -> Result<Option<Prepared>> {
    document.id.validate()?;
    let Value::Object(metadata) = document.metadata.clone() else {
        return Err(Error::invalid(format!(
            "document `{}`: metadata must be a JSON object; got {}",
            document.id,
            kind_of(&document.metadata)
        )));
    };
    if let Some(vector) = &document.vector {
        parts.validate_vector(vector, &format!("document `{}`", document.id))?;
    }
    let digest = digest(&document, &metadata);
    let stored = snapshot.digest(&document.id)?;
    if stored == Some(digest) {
        report.unchanged += 1;
        return Ok(None);
    }
    let mut chunks = chunks_of(parts, &document)?;
    if stored.is_some() && document.vector.is_none() {
        reuse_vectors(snapshot, &document.id, &mut chunks, report)?;
    }
    Ok(Some(Prepared { document, metadata, digest, chunks }))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The first 16 bytes of the SHA-256 over every part of the document, each with its length.
fn digest(document: &Document, metadata: &Map<String, Value>) -> [u8; 16] {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(document.text.as_bytes());
    part(&[u8::from(document.title.is_some())]);
    part(document.title.as_deref().unwrap_or_default().as_bytes());
    part(Value::Object(metadata.clone()).to_string().as_bytes());
    let vector: Vec<u8> = document.vector.iter().flatten().flat_map(|number| number.to_le_bytes()).collect();
    part(&vector);
    let full = hasher.finalize();
    let mut short = [0; 16];
    short.copy_from_slice(&full[..16]);
    short
}

fn chunks_of(parts: &Parts, document: &Document) -> Result<Vec<PreparedChunk>> {
    if let Some(vector) = &document.vector {
        let chunk = Chunk { start: 0, end: document.text.len(), heading: String::new() };
        return Ok(vec![PreparedChunk { chunk, input: String::new(), vector: Some(vector.clone()) }]);
    }
    let Some(embedder) = parts.embedder()? else {
        return Err(Error::invalid(format!(
            "document `{}` brings no vector, and collection `{}` has no model: give it a `vector` of {} numbers",
            document.id,
            parts.info.name,
            parts.space().dims
        )));
    };
    let splitter = Splitter::new(parts, embedder.as_ref(), document);
    let chunks = splitter.split();
    Ok(chunks
        .into_iter()
        .map(|chunk| {
            let text = &document.text[chunk.start..chunk.end];
            let input = index_text(splitter.title, &chunk.heading, text);
            PreparedChunk { chunk, input, vector: None }
        })
        .collect())
}

/// Splits one document so that every chunk fits the model together with its title and headings.
struct Splitter<'a> {
    embedder: &'a dyn Embedder,
    text: &'a str,
    /// The title as the model sees it: at most half of the budget.
    title: Option<&'a str>,
    kind: ChunkerKind,
    /// Tokens for title, headings and passage together.
    budget: usize,
    overlap: usize,
}

impl<'a> Splitter<'a> {
    fn new(parts: &Parts, embedder: &'a dyn Embedder, document: &'a Document) -> Self {
        let spec = embedder.spec();
        let budget = parts.config.chunk_tokens.min(spec.max_tokens).saturating_sub(spec.special_tokens).max(1);
        let title = document.title.as_deref().filter(|title| !title.trim().is_empty());
        let title = title.map(|title| first_tokens(title, embedder, (budget / 2).max(1)));
        let kind = resolve_kind(parts.config.chunker, document);
        Self { embedder, text: &document.text, title, kind, budget, overlap: parts.config.chunk_overlap }
    }

    fn split(&self) -> Vec<Chunk> {
        if self.text.trim().is_empty() {
            // A title without text is still worth finding.
            let titled = self.title.map(|_| Chunk { start: 0, end: 0, heading: String::new() });
            return titled.into_iter().collect();
        }
        let tokens = self.embedder.token_ranges(self.text);
        let room = self.budget.saturating_sub(self.title.map_or(0, |title| self.count(title))).max(1);
        let chunks = self.split_into(room, &tokens);
        let heading_tokens = chunks.iter().map(|chunk| self.count(&chunk.heading)).max().unwrap_or(0);
        if heading_tokens == 0 {
            return chunks;
        }
        // Headings are known only now; the second pass leaves room for the longest of them, but never less than half.
        self.split_into(room.saturating_sub(heading_tokens).max(room.div_ceil(2)), &tokens)
    }

    fn split_into(&self, tokens_max: usize, tokens: &[Range<usize>]) -> Vec<Chunk> {
        chunk(self.text, self.kind, tokens_max, self.overlap.min(tokens_max / 2), tokens)
    }

    fn count(&self, text: &str) -> usize {
        if text.is_empty() { 0 } else { self.embedder.token_ranges(text).len() }
    }
}

fn first_tokens<'a>(text: &'a str, embedder: &dyn Embedder, tokens_max: usize) -> &'a str {
    match embedder.token_ranges(text).get(tokens_max) {
        Some(beyond) => text[..beyond.start].trim_end(),
        None => text,
    }
}

/// `Auto` looks at the media type, then at the end of the id; what is left to it then looks at the text.
fn resolve_kind(configured: ChunkerKind, document: &Document) -> ChunkerKind {
    let media_type = document.metadata.get("media_type").and_then(Value::as_str);
    let markdown_id = match &document.id {
        DocumentId::Text(id) => id.ends_with(".md") || id.ends_with(".markdown"),
        DocumentId::Integer(_) => false,
    };
    match media_type {
        Some(media_type) => configured.for_media_type(media_type),
        None if markdown_id => configured.for_media_type("text/markdown"),
        None => configured,
    }
}

/// Chunks whose model input is unchanged keep their vectors.
fn reuse_vectors(
    snapshot: &Snapshot,
    id: &DocumentId,
    chunks: &mut [PreparedChunk],
    report: &mut AddReport,
) -> Result<()> {
    let Some(stored) = snapshot.document(id)? else { return Ok(()) };
    let mut known: HashMap<String, Vec<f32>> = HashMap::new();
    for chunk in snapshot.stored_chunks(id)? {
        let input = index_text(stored.title.as_deref(), &chunk.heading, &stored.text[chunk.start..chunk.end]);
        if let Some(vector) = chunk.vectors.into_iter().next() {
            known.insert(input, vector);
        }
    }
    for chunk in chunks {
        chunk.vector = known.get(&chunk.input).cloned();
        report.chunks_reused += u64::from(chunk.vector.is_some());
    }
    Ok(())
}

/// Embeds a batch at once; where that fails, document by document, so that one bad text does not take the others
/// with it.
fn embed_batch(parts: &Parts, prepared: Vec<Prepared>, report: &mut AddReport) -> Result<Vec<Operation>> {
    match embed(parts, &prepared, report) {
        Ok(vectors) => {
            let mut vectors = vectors.into_iter();
            let mut operations = Vec::with_capacity(prepared.len());
            for document in prepared {
                let count = document.to_embed().count();
                let id = document.document.id.clone();
                match assemble(parts, document, vectors.by_ref().take(count).collect::<Vec<_>>().into_iter()) {
                    Ok(operation) => operations.push(operation),
                    Err(error) => reject(report, &id, error)?,
                }
            }
            Ok(operations)
        }
        Err(error) if prepared.len() <= 1 || !matches!(error, Error::Embedding(_)) => match prepared.first() {
            Some(document) => reject(report, &document.document.id, error).map(|()| Vec::new()),
            None => Err(error),
        },
        Err(_) => {
            let mut operations = Vec::new();
            for document in prepared {
                operations.extend(embed_batch(parts, vec![document], report)?);
            }
            Ok(operations)
        }
    }
}

/// The vectors of all chunks that lack one, in order.
fn embed(parts: &Parts, prepared: &[Prepared], report: &mut AddReport) -> Result<Vec<Vec<f32>>> {
    let texts: Vec<&str> = prepared.iter().flat_map(Prepared::to_embed).collect();
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let Some(embedder) = parts.embedder()? else { return Ok(Vec::new()) };
    let embeddings = embedder.embed_documents(&texts)?;
    embeddings.expect(texts.len(), embedder.spec())?;
    report.chunks_embedded += texts.len() as u64;
    report.texts_truncated += embeddings.truncated as u64;
    Ok(embeddings.rows().map(<[f32]>::to_vec).collect())
}

fn assemble(parts: &Parts, prepared: Prepared, mut vectors: impl Iterator<Item = Vec<f32>>) -> Result<Operation> {
    let Prepared { document, metadata, digest, chunks } = prepared;
    let mut new_chunks = Vec::with_capacity(chunks.len());
    for PreparedChunk { chunk, input: _, vector } in chunks {
        let vector = match vector {
            Some(vector) => vector,
            None => vectors.next().unwrap_or_default(),
        };
        let place = || format!("document `{}`, bytes {}..{}", document.id, chunk.start, chunk.end);
        parts.validate_vector(&vector, &place()).map_err(|error| Error::Embedding(error.to_string()))?;
        new_chunks.push(NewChunk { start: chunk.start, end: chunk.end, heading: chunk.heading, vectors: vec![vector] });
    }
    let Document { id, text, title, .. } = document;
    Ok(Operation::Put(Box::new(NewDocument { id, title, text, metadata, digest, chunks: new_chunks })))
}

fn commit(parts: &Parts, operations: Vec<Operation>, report: &mut AddReport) -> Result<()> {
    if operations.is_empty() {
        return Ok(());
    }
    let written = parts.store.write(parts.info.id, operations)?;
    report.added += written.added;
    report.replaced += written.replaced;
    Ok(())
}
