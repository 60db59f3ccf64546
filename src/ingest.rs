//! How does a document get in? The recipe of the first flow: chunk, embed, commit.
//!
//! Invariants: a document is searchable as a whole or not at all; what was committed is durable before the report
//! counts it; vectors are made before the write transaction opens, so that it stays short; unchanged documents cost a
//! digest and a look-up, unchanged chunks of changed documents keep their vectors.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quiverdb_storage::{
    DocumentId, NewChunk, NewDocument, Operation, Snapshot, StoredDocument, index_text, validate_content,
};
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
        if !options.dry_run {
            parts.store.seal_soon(parts.info.id, SEALED_MEANWHILE);
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
    if !options.dry_run {
        seal(parts);
    }
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// Adds one document, with its own error where it is refused.
pub(crate) fn add_one(parts: &Parts, document: Document) -> Result<AddReport> {
    let start = Instant::now();
    let mut report = AddReport::default();
    let snapshot = parts.store.snapshot(parts.info.id)?;
    let examined = examine(parts, &snapshot, document)?;
    if examined.stored == Some(examined.digest) {
        report.unchanged += 1;
    } else {
        let prepared = prepare(parts, &snapshot, examined)?;
        report.chunks_reused += prepared.reused();
        let vectors = embed(parts, std::slice::from_ref(&prepared), &mut report)?;
        let operation = assemble(parts, prepared, vectors.into_iter())?;
        commit(parts, vec![operation], &mut report)?;
        parts.store.seal_soon(parts.info.id, 0);
    }
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// Segments are derived: where they cannot be built, what was committed stays and search is right without them. So a
/// failure is no failure of the add; the next one tries again.
fn seal(parts: &Parts) {
    let _ = parts.store.seal(parts.info.id);
}

/// Chunks that a long run leaves unsealed before a thread begins to seal them: enough that few segments are merged again,
/// few enough for memory (65,536 vectors of 384 dimensions are 100 MB).
const SEALED_MEANWHILE: u64 = 65_536;

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
    let of_each = |document: Document| (document.id.clone(), examine(parts, &snapshot, document));
    let changed = changed(documents.into_par_iter().map(of_each).collect(), report)?;
    if changed.iter().any(|examined| examined.document.vector.is_none()) {
        // Where the model cannot be had, that is the error, and no fault of these documents.
        parts.embedder()?;
    }
    let of_each = |examined: Examined| (examined.document.id.clone(), prepare(parts, &snapshot, examined));
    let outcomes: Vec<_> = changed.into_par_iter().map(of_each).collect();
    let mut prepared = Vec::with_capacity(outcomes.len());
    for (id, outcome) in outcomes {
        match outcome {
            Ok(document) => prepared.push(document),
            Err(error) => reject(report, &id, error)?,
        }
    }
    report.chunks_reused += prepared.iter().map(Prepared::reused).sum::<u64>();
    if options.dry_run {
        return forecast(&snapshot, &prepared, report);
    }
    let operations = embed_batch(parts, prepared, report)?;
    commit(parts, operations, report)
}

/// Those that differ from what is stored when their turn comes, the documents taken one after the other: of two that
/// are the same the second is unchanged, whether a batch ends between them or not.
fn changed(examined: Vec<(DocumentId, Result<Examined>)>, report: &mut AddReport) -> Result<Vec<Examined>> {
    let mut latest: HashMap<DocumentId, [u8; 16]> = HashMap::new();
    let mut changed = Vec::with_capacity(examined.len());
    for (id, outcome) in examined {
        match outcome {
            Ok(document) => {
                let before = latest.insert(id, document.digest).or(document.stored);
                if before == Some(document.digest) {
                    report.unchanged += 1;
                } else {
                    changed.push(document);
                }
            }
            Err(error) => reject(report, &id, error)?,
        }
    }
    Ok(changed)
}

/// A bad document is listed and the rest goes on; every other error ends the batch.
fn reject(report: &mut AddReport, id: &DocumentId, error: Error) -> Result<()> {
    if !is_of_a_document(&error) {
        return Err(error);
    }
    report.rejected.push(Rejected { source: id.to_string(), reason: error.to_string() });
    Ok(())
}

/// Whether another document might fare better.
fn is_of_a_document(error: &Error) -> bool {
    use quiverdb_storage::Error as S;
    matches!(
        error,
        Error::InvalidInput(_)
            | Error::DimensionMismatch { .. }
            | Error::Embedding(_)
            | Error::Storage(S::InvalidInput(_) | S::DimensionMismatch { .. })
    )
}

fn forecast(snapshot: &Snapshot, prepared: &[Prepared], report: &mut AddReport) -> Result<()> {
    let mut seen = HashSet::new();
    for document in prepared {
        report.chunks_embedded += document.to_embed().count() as u64;
        let id = &document.document.id;
        if !seen.insert(id) || snapshot.digest(id)?.is_some() {
            report.replaced += 1;
        } else {
            report.added += 1;
        }
    }
    Ok(())
}

/// A document that may be stored, and the digest of the one that is.
struct Examined {
    document: Document,
    metadata: Map<String, Value>,
    digest: [u8; 16],
    stored: Option<[u8; 16]>,
}

/// A document ready for the model: chunked, with the vectors that can be kept.
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

    /// The chunks whose vectors were kept.
    fn reused(&self) -> u64 {
        if self.document.vector.is_some() {
            return 0;
        }
        self.chunks.iter().filter(|chunk| chunk.vector.is_some()).count() as u64
    }
}

/// Refuses what cannot be stored, and looks up what is. Needs no model.
fn examine(parts: &Parts, snapshot: &Snapshot, document: Document) -> Result<Examined> {
    let Value::Object(metadata) = document.metadata.clone() else {
        document.id.validate()?;
        return Err(Error::invalid(format!(
            "document `{}`: metadata must be a JSON object; got {}",
            document.id,
            kind_of(&document.metadata)
        )));
    };
    validate_content(&document.id, document.title.as_deref(), &document.text, &metadata)?;
    if let Some(vector) = &document.vector {
        parts.validate_vector(vector, &format!("document `{}`", document.id))?;
    }
    let digest = digest(document.title.as_deref(), &document.text, &metadata, document.vector.as_deref());
    let stored = snapshot.digest(&document.id)?;
    if stored.is_some_and(|stored| stored != digest) {
        refuse_other_file(snapshot, &document.id, &metadata)?;
    }
    Ok(Examined { document, metadata, digest, stored })
}

/// Refuses a file where another file of the same relative path is stored and still there: the two would replace each
/// other at every run. Rows of data files are replaced by those of another file.
fn refuse_other_file(snapshot: &Snapshot, id: &DocumentId, metadata: &Map<String, Value>) -> Result<()> {
    let relative = id.to_string();
    let file = |metadata: &Map<String, Value>| {
        let source = metadata.get("source").and_then(Value::as_str).map(PathBuf::from);
        source.filter(|source| source.ends_with(&relative))
    };
    let Some(new) = file(metadata) else { return Ok(()) };
    let stored = snapshot.document(id)?.and_then(|stored| file(&stored.metadata));
    match stored.filter(|stored| *stored != new && stored.is_file()) {
        Some(other) => Err(Error::invalid(format!(
            "id `{id}` is also that of {}, which is in this collection; add their common parent, or use another collection",
            other.display()
        ))),
        None => Ok(()),
    }
}

/// Chunks a document, and finds the vectors that can be kept.
fn prepare(parts: &Parts, snapshot: &Snapshot, examined: Examined) -> Result<Prepared> {
    let Examined { document, metadata, digest, stored } = examined;
    if let Some(vector) = &document.vector {
        let chunk = Chunk { start: 0, end: document.text.len(), heading: String::new() };
        let chunks = vec![PreparedChunk { chunk, input: String::new(), vector: Some(vector.clone()) }];
        return Ok(Prepared { document, metadata, digest, chunks });
    }
    let Some(embedder) = parts.embedder()? else {
        return Err(Error::invalid(format!(
            "document `{}` brings no vector, and collection `{}` has no model: give it a `vector` of {} numbers",
            document.id,
            parts.info.name,
            parts.space().dims
        )));
    };
    let splitter = Splitter::new(parts, embedder.as_ref(), &document);
    let mut chunks = chunks_of(&splitter);
    if stored.is_some() {
        reuse_vectors(snapshot, &splitter, &document.id, &mut chunks)?;
    }
    Ok(Prepared { document, metadata, digest, chunks })
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
fn digest(title: Option<&str>, text: &str, metadata: &Map<String, Value>, vector: Option<&[f32]>) -> [u8; 16] {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(text.as_bytes());
    part(&[u8::from(title.is_some())]);
    part(title.unwrap_or_default().as_bytes());
    part(Value::Object(metadata.clone()).to_string().as_bytes());
    let vector: Vec<u8> = vector.into_iter().flatten().flat_map(|number| number.to_le_bytes()).collect();
    part(&vector);
    let full = hasher.finalize();
    let mut short = [0; 16];
    short.copy_from_slice(&full[..16]);
    short
}

/// Whether a stored document was given with this vector; without one, its vectors are the model's. Its digest tells.
fn came_with(stored: &StoredDocument, vector: Option<&[f32]>) -> bool {
    stored.digest == digest(stored.title.as_deref(), &stored.text, &stored.metadata, vector)
}

/// The vector that a stored document was given with; `None` where its vectors are the model's.
pub(crate) fn own_vector(snapshot: &Snapshot, stored: &StoredDocument) -> Result<Option<Vec<f32>>> {
    if came_with(stored, None) {
        return Ok(None);
    }
    let first = snapshot.stored_chunks(&stored.id)?.into_iter().next();
    let vector = first.and_then(|chunk| chunk.vectors.into_iter().next());
    Ok(vector.filter(|vector| came_with(stored, Some(vector))))
}

fn chunks_of(splitter: &Splitter<'_>) -> Vec<PreparedChunk> {
    let prepared = |chunk: Chunk| {
        let input = index_text(splitter.title, &chunk.heading, &splitter.text[chunk.start..chunk.end]);
        PreparedChunk { chunk, input, vector: None }
    };
    splitter.split().into_iter().map(prepared).collect()
}

/// Splits one document so that every chunk fits the model together with its title and headings.
struct Splitter<'a> {
    embedder: &'a dyn Embedder,
    text: &'a str,
    /// The title as the model sees it.
    title: Option<&'a str>,
    kind: ChunkerKind,
    /// Tokens for title, headings and passage together.
    budget: usize,
    overlap: usize,
}

impl<'a> Splitter<'a> {
    fn new(parts: &Parts, embedder: &'a dyn Embedder, document: &'a Document) -> Self {
        let spec = embedder.spec();
        let prompt = count(embedder, &spec.document_prompt);
        let readable = spec.max_tokens.saturating_sub(prompt);
        let budget = parts.config.chunk_tokens.min(readable).saturating_sub(spec.special_tokens).max(1);
        let title = title_within(document.title.as_deref(), embedder, budget);
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
        let room = self.budget.saturating_sub(self.title.map_or(0, |title| count(self.embedder, title))).max(1);
        let chunks = self.split_into(room, &tokens);
        let heading_tokens = chunks.iter().map(|chunk| count(self.embedder, &chunk.heading)).max().unwrap_or(0);
        if heading_tokens == 0 {
            return chunks;
        }
        // Headings are known only now; the second pass leaves room for the longest of them, but never less than half.
        self.split_into(room.saturating_sub(heading_tokens).max(room.div_ceil(2)), &tokens)
    }

    fn split_into(&self, tokens_max: usize, tokens: &[Range<usize>]) -> Vec<Chunk> {
        chunk(self.text, self.kind, tokens_max, self.overlap.min(tokens_max / 2), tokens)
    }
}

fn count(embedder: &dyn Embedder, text: &str) -> usize {
    if text.is_empty() { 0 } else { embedder.token_ranges(text).len() }
}

/// The title as the model sees it: none that is blank, and at most half of the budget.
fn title_within<'a>(title: Option<&'a str>, embedder: &dyn Embedder, budget: usize) -> Option<&'a str> {
    let title = title.filter(|title| !title.trim().is_empty())?;
    Some(match embedder.token_ranges(title).get((budget / 2).max(1)) {
        Some(beyond) => title[..beyond.start].trim_end(),
        None => title,
    })
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

/// Chunks whose model input is unchanged keep their vectors, unless those are not the model's.
fn reuse_vectors(
    snapshot: &Snapshot,
    splitter: &Splitter<'_>,
    id: &DocumentId,
    chunks: &mut [PreparedChunk],
) -> Result<()> {
    let Some(stored) = snapshot.document(id)?.filter(|stored| came_with(stored, None)) else { return Ok(()) };
    let title = title_within(stored.title.as_deref(), splitter.embedder, splitter.budget);
    let mut known: HashMap<String, Vec<f32>> = HashMap::new();
    for chunk in snapshot.stored_chunks(id)? {
        let input = index_text(title, &chunk.heading, &stored.text[chunk.start..chunk.end]);
        if let Some(vector) = chunk.vectors.into_iter().next() {
            known.insert(input, vector);
        }
    }
    for chunk in chunks {
        chunk.vector = known.get(&chunk.input).cloned();
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
        Err(error) if !is_of_a_document(&error) => Err(error),
        Err(error) => match prepared.as_slice() {
            [] => Err(error),
            [document] => reject(report, &document.document.id, error).map(|()| Vec::new()),
            [..] => {
                let mut operations = Vec::with_capacity(prepared.len());
                for document in prepared {
                    operations.extend(embed_batch(parts, vec![document], report)?);
                }
                Ok(operations)
            }
        },
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
    let documents = operations.len() as u64;
    let written = parts.store.write(parts.info.id, operations)?;
    // Of several of one id storage writes the last alone; taken one after the other, each replaces the one before it.
    report.added += written.added;
    report.replaced += documents - written.added;
    Ok(())
}
