//! How does a document get in? The recipe of the first flow: chunk, embed, commit.
//!
//! Invariants: a document is searchable as a whole or not at all; what was committed is durable before the report
//! counts it; vectors are made before the write transaction opens, so that it stays short; unchanged documents cost a
//! digest and a look-up, unchanged chunks of changed documents keep their vectors. Every chunk has a vector in every
//! space: its model's, or the one that the document brings for all of its chunks.

mod embedded;
mod expecting;
mod pipeline;
mod renewal;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quiverdb_storage::{
    Alongside, DocumentId, Expected, ExpectedVersion, LedgerEdit, NewChunk, NewDocument, Operation, Snapshot,
    StoredDocument, index_text, validate_content,
};
use rayon::prelude::*;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub(crate) use self::embedded::{chunk_digest, models_of};
pub(crate) use self::expecting::add_many_expecting;
use crate::cache::{self, Embedded};
use crate::chunk::{Chunk, chunk};
use crate::config::{ChunkerKind, DEFAULT_SPACE};
use crate::embed::Embedder;
use crate::moment;
use crate::parts::Parts;
use crate::spaces::Space;
use crate::types::{AddReport, Document, Rejected};
use crate::{Error, Result};

pub(crate) use renewal::{Renewal, write};

/// How documents are added.
#[derive(Default)]
pub struct AddOptions<'a> {
    /// Only says what would happen: nothing is embedded or written. Rejections that need the model are not seen.
    pub dry_run: bool,
    /// Called after each committed batch with the report so far.
    pub progress: Option<&'a (dyn Fn(&AddReport) + Sync)>,
    /// Set it to stop: batches that the model has read are committed, later ones are not, and what was committed stays.
    pub cancel: Option<&'a AtomicBool>,
}

/// What is committed together with the batches of a source.
pub(crate) trait Along: Sync {
    /// What belongs to the batch that ends with the `taken`-th item of the source, rejected ones counted. `refused` are the
    /// documents of this batch that the collection does not take; nobody else tells of them, nor of what the source rejected.
    /// `report` counts all batches up to it as it will be once this one is in, without rejections. A batch that `changes` no document is written only where this gives something. Asked batch by batch, in
    /// their order, before each is committed, on a thread of its own.
    fn edits(&self, taken: u64, refused: Vec<Refused>, report: &AddReport, changes: bool) -> Result<Vec<LedgerEdit>>;
}

/// A document that a collection does not take.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// Which document of its batch it was: an id may come twice.
    #[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "imports tell the row"))]
    pub(crate) place: usize,
    pub(crate) rejected: Rejected,
}

/// What becomes of a batch.
#[derive(Default)]
struct Outcome {
    /// What the source rejected stands in it, what the collection refuses beside it.
    report: AddReport,
    refused: Vec<Refused>,
}

impl Outcome {
    /// With all that was not taken.
    fn into_report(self) -> AddReport {
        let Self { mut report, refused } = self;
        report.rejected.extend(refused.into_iter().map(|refused| refused.rejected));
        report
    }
}

/// Documents a batch holds at most, whatever their size.
const BATCH_DOCUMENTS_MAX: usize = 4_096;
/// Bytes of text after which a batch is full.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Numbers of vectors that documents bring after which a batch is full: 16 MiB of them.
const BATCH_NUMBERS_MAX: usize = 4 << 20;
/// A batch should take about this long, so that progress is seen and Ctrl-C is heard.
const BATCH_TIME: Duration = Duration::from_millis(700);

/// Adds documents batch by batch. Each batch is one transaction; its size adapts to the model's speed.
pub(crate) fn add(
    parts: &Arc<Parts>,
    documents: impl IntoIterator<Item = std::result::Result<Document, Rejected>>,
    options: &AddOptions<'_>,
) -> Result<AddReport> {
    add_along(parts, documents, options, None)
}

/// [`add`], and commits with each batch what belongs to it.
pub(crate) fn add_along(
    parts: &Arc<Parts>,
    documents: impl IntoIterator<Item = std::result::Result<Document, Rejected>>,
    options: &AddOptions<'_>,
    along: Option<&dyn Along>,
) -> Result<AddReport> {
    let start = Instant::now();
    let mut report = AddReport::default();
    let settled = |report: &mut AddReport| {
        report.seconds = start.elapsed().as_secs_f64();
        if let Some(progress) = options.progress {
            progress(report);
        }
    };
    let documents = &mut documents.into_iter();
    if options.dry_run {
        forecast_all(parts, documents, options, &mut report, &settled)?;
    } else {
        pipeline::run(parts, documents, options, along, &mut report, &settled)?;
        seal(parts.current()?);
    }
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// Adds one document, with its own error where it is refused.
pub(crate) fn add_one(parts: &Arc<Parts>, document: Document) -> Result<AddReport> {
    Ok(add_expecting(parts, document, ExpectedVersion::Any)?.0)
}

/// [`add_one`], where the document that is there is as expected; also returns the digest that it has now.
pub(crate) fn add_expecting(
    parts: &Arc<Parts>,
    document: Document,
    version: ExpectedVersion,
) -> Result<(AddReport, [u8; 16])> {
    let start = Instant::now();
    let mut report = AddReport::default();
    let (parts, snapshot) = parts.pinned()?;
    let examined = examine(parts, &snapshot, document)?;
    let expected = Expected { id: examined.document.id.clone(), version };
    // Before a model is at work for nothing, and once more in the transaction.
    expected.compare(examined.stored)?;
    let digest = examined.digest;
    if examined.stored == Some(examined.digest) {
        report.unchanged += 1;
    } else {
        let prepared = prepare(parts, &snapshot, examined)?;
        report.chunks_reused += prepared.reused();
        let vectors = embed(parts, std::slice::from_ref(&prepared), &mut report)?;
        let operation = assemble(parts, prepared, vectors)?;
        commit(parts, vec![operation], &Alongside::expected([expected]), &mut report)?;
        parts.store.seal_soon(parts.info.id, 0);
    }
    report.seconds = start.elapsed().as_secs_f64();
    Ok((report, digest))
}

/// Segments are derived: where they cannot be built, what was committed stays and search is right without them. So a
/// failure is no failure of the add, as long as memory suffices; the next one tries again.
fn seal(parts: &Parts) {
    let _ = parts.store.seal(parts.info.id);
}

/// Chunks that a long run leaves unsealed before a thread begins to seal them: enough that few segments are merged again,
/// few enough for memory (65,536 vectors of 384 dimensions are 100 MB).
const SEALED_MEANWHILE: u64 = 65_536;

/// Bytes of vectors that wait in memory to be sealed: a thread that adds faster than another seals waits. Larger segments
/// are merged again less often (a million vectors of 384 dimensions: each is built 1.6 times). Beyond 12,288 numbers a
/// chunk it is more, because the smallest segment is of 8,192 chunks.
const UNSEALED_BYTES_MAX: usize = 384 << 20;

/// The chunks of a collection that may wait in memory.
#[derive(Debug, PartialEq, Eq)]
struct Unsealed {
    /// So many, and a thread begins to seal them.
    begin: u64,
    /// More, and whoever adds waits.
    most: u64,
}

impl Unsealed {
    /// Of chunks with so many numbers in all of their spaces.
    fn of(dims: usize) -> Self {
        let most = (UNSEALED_BYTES_MAX / size_of::<f32>() / dims.max(1)) as u64;
        Self { begin: SEALED_MEANWHILE.min(most), most }
    }
}

/// How often a thread that waits looks.
const WAIT: Duration = Duration::from_millis(20);

/// Has what was committed sealed meanwhile, and waits while too much of it is in memory.
pub(crate) fn wait_for_sealing(parts: &Parts, cancel: Option<&AtomicBool>) -> Result<()> {
    let Unsealed { begin, most } = Unsealed::of(parts.info.settings.spaces.iter().map(|space| space.dims).sum());
    parts.store.seal_soon(parts.info.id, begin);
    let_sealing_catch_up(parts, cancel, most)
}

/// Waits while more than so many chunks are in memory. Where nobody is at work on them, because the last attempts failed,
/// it seals them itself: to go on would fill the memory, so here a failure is one of the add, and what was committed
/// stays.
fn let_sealing_catch_up(parts: &Parts, cancel: Option<&AtomicBool>, chunks_max: u64) -> Result<()> {
    let cancelled = || cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed));
    // Where another collection took its place there is nothing left to seal.
    let or_gone = |result: quiverdb_storage::Result<u64>| match result {
        Err(quiverdb_storage::Error::UnknownCollection(_)) => Ok(0),
        other => other,
    };
    while or_gone(parts.store.sealing_backlog(parts.info.id))? > chunks_max && !cancelled() {
        if parts.store.is_sealing() {
            std::thread::sleep(WAIT);
        } else if or_gone(parts.store.seal(parts.info.id).map(u64::from))? == 0 {
            // In memory there are no segments, and none is of so few.
            break;
        }
    }
    Ok(())
}

/// What a batch should hold after one of this size took so long.
pub(crate) fn next_batch_size(size: usize, took: Duration) -> usize {
    if took < BATCH_TIME / 2 {
        (size * 2).min(BATCH_DOCUMENTS_MAX)
    } else if took > BATCH_TIME * 2 {
        (size / 2).max(1)
    } else {
        size
    }
}

/// The next documents, and whether they are the last.
fn take_batch(
    documents: &mut dyn Iterator<Item = std::result::Result<Document, Rejected>>,
    documents_max: usize,
    report: &mut AddReport,
) -> (Vec<Document>, bool) {
    let mut batch = Vec::new();
    let (mut bytes, mut numbers) = (0, 0);
    // A batch of rejections alone ends, too: whoever cancels is heard then, and what is committed along notes the place.
    let is_full =
        |batch: &Vec<Document>, rejected: usize| batch.len() >= documents_max || rejected >= BATCH_DOCUMENTS_MAX;
    while !is_full(&batch, report.rejected.len()) && bytes < BATCH_BYTES_MAX && numbers < BATCH_NUMBERS_MAX {
        match documents.next() {
            Some(Ok(document)) => {
                bytes += document.text.len();
                numbers += document.vector.iter().chain(document.vectors.values()).map(Vec::len).sum::<usize>();
                batch.push(document);
            }
            Some(Err(rejected)) => report.rejected.push(rejected),
            None => return (batch, true),
        }
    }
    (batch, false)
}

/// The documents that differ from what is stored, chunked and with the vectors that can be kept, and the parts that they
/// are ready for. The rest is counted.
fn read_batch<'a>(
    parts: &'a Arc<Parts>,
    documents: Vec<Document>,
    outcome: &mut Outcome,
) -> Result<(&'a Arc<Parts>, Vec<Prepared>)> {
    if documents.is_empty() {
        return Ok((parts, Vec::new()));
    }
    let (parts, snapshot) = parts.pinned()?;
    let of_each = |document: Document| (document.id.clone(), examine(parts, &snapshot, document));
    let changed = changed(documents.into_par_iter().map(of_each).collect(), outcome)?;
    drop(snapshot);
    // Where a model cannot be had, that is the error, and no fault of these documents.
    for space in parts.spaces() {
        let is_read = |examined: &Examined| !space.is_default() || examined.document.vector.is_none();
        if changed.iter().any(is_read) {
            space.embedder()?;
        }
    }
    // That may have taken minutes, in which another writer may have ended a snapshot.
    let (parts, snapshot) = parts.pinned()?;
    let of_each =
        |examined: Examined| (examined.document.id.clone(), examined.place, prepare(parts, &snapshot, examined));
    let outcomes: Vec<_> = changed.into_par_iter().map(of_each).collect();
    let mut prepared = Vec::with_capacity(outcomes.len());
    for (id, place, made) in outcomes {
        match made {
            Ok(document) => prepared.push(document),
            Err(error) => reject(outcome, &id, place, error)?,
        }
    }
    outcome.report.chunks_reused += prepared.iter().map(Prepared::reused).sum::<u64>();
    Ok((parts, prepared))
}

/// Those that differ from what is stored when their turn comes, the documents taken one after the other: of two that
/// are the same the second is unchanged, whether a batch ends between them or not.
fn changed(examined: Vec<(DocumentId, Result<Examined>)>, outcome: &mut Outcome) -> Result<Vec<Examined>> {
    let mut latest: HashMap<DocumentId, [u8; 16]> = HashMap::new();
    let mut changed = Vec::with_capacity(examined.len());
    for (place, (id, compared)) in examined.into_iter().enumerate() {
        match compared {
            Ok(document) => {
                let before = latest.insert(id, document.digest).or(document.stored);
                if before == Some(document.digest) {
                    outcome.report.unchanged += 1;
                } else {
                    changed.push(Examined { place, ..document });
                }
            }
            Err(error) => reject(outcome, &id, place, error)?,
        }
    }
    Ok(changed)
}

/// A bad document is listed and the rest goes on; every other error ends the batch.
fn reject(outcome: &mut Outcome, id: &DocumentId, place: usize, error: Error) -> Result<()> {
    if !is_of_a_document(&error) {
        return Err(error);
    }
    let rejected = Rejected { source: id.to_string(), reason: error.to_string() };
    outcome.refused.push(Refused { place, rejected });
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

/// Says what adding these documents would do.
fn forecast_all(
    parts: &Arc<Parts>,
    documents: &mut dyn Iterator<Item = std::result::Result<Document, Rejected>>,
    options: &AddOptions<'_>,
    report: &mut AddReport,
    settled: &dyn Fn(&mut AddReport),
) -> Result<()> {
    let cancelled = || options.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed));
    let mut exhausted = false;
    while !exhausted && !cancelled() {
        let (batch, mut outcome);
        outcome = Outcome::default();
        (batch, exhausted) = take_batch(documents, BATCH_DOCUMENTS_MAX, &mut outcome.report);
        let (_, prepared) = read_batch(parts, batch, &mut outcome)?;
        forecast(parts, &prepared, &mut outcome.report)?;
        report.take_up(outcome.into_report());
        settled(report);
    }
    Ok(())
}

fn forecast(parts: &Arc<Parts>, prepared: &[Prepared], report: &mut AddReport) -> Result<()> {
    let (parts, snapshot) = parts.pinned()?;
    let (mut seen, now) = (HashSet::new(), parts.store.now());
    for document in prepared {
        report.expired += u64::from(has_expired(document.document.expires_at.map(moment::millis), now));
        report.chunks_embedded += document.embedded();
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
    /// Which one of its batch.
    place: usize,
    metadata: Map<String, Value>,
    digest: [u8; 16],
    stored: Option<[u8; 16]>,
}

/// A document ready for the model: chunked, with the vectors that can be kept.
struct Prepared {
    document: Document,
    place: usize,
    metadata: Map<String, Value>,
    digest: [u8; 16],
    chunks: Vec<PreparedChunk>,
    /// Whether it brings all its vectors itself.
    is_external: bool,
}

struct PreparedChunk {
    chunk: Chunk,
    /// What the models read.
    input: String,
    /// One a space, where it is known already.
    vectors: Vec<Option<Vec<f32>>>,
}

impl PreparedChunk {
    fn is_known(&self) -> bool {
        self.vectors.iter().all(Option::is_some)
    }
}

impl Prepared {
    /// What the model of this space is to read.
    fn to_embed(&self, space: usize) -> impl Iterator<Item = &str> {
        self.chunks.iter().filter(move |chunk| chunk.vectors[space].is_none()).map(|chunk| chunk.input.as_str())
    }

    /// The chunks that some model is to read.
    fn embedded(&self) -> u64 {
        self.chunks.iter().filter(|chunk| !chunk.is_known()).count() as u64
    }

    /// The chunks whose vectors were kept.
    fn reused(&self) -> u64 {
        if self.is_external { 0 } else { self.chunks.iter().filter(|chunk| chunk.is_known()).count() as u64 }
    }
}

/// Refuses what cannot be stored, and looks up what is. Needs no model.
fn examine(parts: &Parts, snapshot: &Snapshot, mut document: Document) -> Result<Examined> {
    let Value::Object(metadata) = document.metadata.clone() else {
        document.id.validate()?;
        return Err(Error::invalid(format!(
            "document `{}`: metadata must be a JSON object; got {}",
            document.id,
            kind_of(&document.metadata)
        )));
    };
    validate_content(&document.id, document.title.as_deref(), &document.text, &metadata)?;
    examine_vectors(parts, &mut document)?;
    let Document { id, title, text, vector, vectors, .. } = &document;
    let expires_at = document.expires_at.map(moment::millis);
    let digest = digest(title.as_deref(), text, &metadata, vector.as_deref(), vectors, expires_at);
    let stored = snapshot.digest(id)?;
    if stored.is_some_and(|stored| stored != digest) {
        refuse_other_file(snapshot, id, &metadata)?;
    }
    Ok(Examined { document, place: 0, metadata, digest, stored })
}

/// A document brings a vector for each further space that is external, for no other, and one for the default space if it
/// likes.
fn examine_vectors(parts: &Parts, document: &mut Document) -> Result<()> {
    let owner = format!("document `{}`", document.id);
    if let Some(vector) = document.vectors.remove(DEFAULT_SPACE)
        && document.vector.replace(vector).is_some()
    {
        return Err(Error::invalid(format!(
            "{owner} brings two vectors for the space `{DEFAULT_SPACE}`: `vector` is the same as that of `vectors`; \
             keep one of them"
        )));
    }
    if let Some(vector) = &document.vector {
        parts.space().validate_vector(vector, &owner)?;
    }
    for (name, vector) in &document.vectors {
        let space = parts.space_named(name).map_err(|error| Error::invalid(format!("{owner}: {error}")))?;
        if space.has_model() {
            let (called, model) = (space.called(), space.model_name());
            return Err(Error::invalid(format!(
                "{owner} brings a vector for {called}, whose vectors {model} makes; leave it out"
            )));
        }
        space.validate_vector(vector, &owner)?;
    }
    let lacks = |space: &&Space| !space.has_model() && !document.vectors.contains_key(space.name());
    match parts.further_spaces().find(lacks) {
        Some(space) => Err(Error::invalid(format!(
            "{owner} brings no vector for {}, which has no model: give it one of {} numbers under that name in `vectors`",
            space.called(),
            space.settings.dims
        ))),
        None => Ok(()),
    }
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
    let Examined { document, place, metadata, digest, stored } = examined;
    let embedder = reader_of(parts, &document)?;
    let splitter = embedder.as_deref().map(|embedder| Splitter::new(parts, embedder, &document));
    let mut chunks = split(parts, splitter.as_ref(), &document)?;
    let is_external = brings_all(parts, &document);
    embedded::take(parts, &document, &mut chunks);
    if stored.is_some() && !is_external {
        reuse_vectors(parts, snapshot, splitter.as_ref(), &document.id, &mut chunks)?;
    }
    Ok(Prepared { document, place, metadata, digest, chunks, is_external })
}

/// The model that reads a document for the default space; `None` where it brings its vector there.
fn reader_of(parts: &Parts, document: &Document) -> Result<Option<Arc<dyn Embedder>>> {
    match &document.vector {
        Some(_) => Ok(None),
        None => parts.space().embedder()?.ok_or_else(|| no_vector(parts, document)).map(Some),
    }
}

/// Whether no model reads it.
fn brings_all(parts: &Parts, document: &Document) -> bool {
    parts.spaces().iter().all(|space| given(space, document).is_some())
}

/// The chunks of a document, with the vectors that it brings.
fn split(parts: &Parts, splitter: Option<&Splitter<'_>>, document: &Document) -> Result<Vec<PreparedChunk>> {
    let mut chunks = match splitter {
        Some(splitter) => chunks_of(splitter),
        None => vec![whole(parts, document)?],
    };
    if chunks.is_empty() && !document.vectors.is_empty() {
        return Err(Error::invalid(format!(
            "document `{}` has neither text nor title, so it has no chunk that could have its vectors; give it some",
            document.id
        )));
    }
    for chunk in &mut chunks {
        chunk.vectors = parts.spaces().iter().map(|space| given(space, document).cloned()).collect();
    }
    Ok(chunks)
}

fn no_vector(parts: &Parts, document: &Document) -> Error {
    Error::invalid(format!(
        "document `{}` brings no vector, and collection `{}` has no model: give it a `vector` of {} numbers",
        document.id,
        parts.info.name,
        parts.space().settings.dims
    ))
}

/// The vector that a document brings for this space.
fn given<'a>(space: &Space, document: &'a Document) -> Option<&'a Vec<f32>> {
    if space.is_default() { document.vector.as_ref() } else { document.vectors.get(space.name()) }
}

/// A document that brings its vector in the default space is one chunk; models of further spaces read all of it.
fn whole(parts: &Parts, document: &Document) -> Result<PreparedChunk> {
    let chunk = Chunk { start: 0, end: document.text.len(), heading: String::new() };
    let reader = parts.further_spaces().find(|space| space.has_model());
    let input = match reader {
        Some(_) => whole_input(document.title.as_deref(), &document.text),
        None => String::new(),
    };
    match reader.filter(|_| input.trim().is_empty()) {
        Some(reader) => Err(Error::invalid(format!(
            "document `{}` has neither text nor title, and so nothing to read for the model of {}; give it some",
            document.id,
            reader.called()
        ))),
        None => Ok(PreparedChunk { chunk, input, vectors: Vec::new() }),
    }
}

fn whole_input(title: Option<&str>, text: &str) -> String {
    index_text(title.filter(|title| !title.trim().is_empty()), "", text)
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

/// The first 16 bytes of the SHA-256 over every part of the document, each with its length: its text, its title, its
/// metadata, and the vectors that it brings. What models make of it is no part of it.
fn digest(
    title: Option<&str>,
    text: &str,
    metadata: &Map<String, Value>,
    vector: Option<&[f32]>,
    vectors: &BTreeMap<String, Vec<f32>>,
    expires_at: Option<u64>,
) -> [u8; 16] {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    let bytes = |vector: &[f32]| vector.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    part(text.as_bytes());
    part(&[u8::from(title.is_some())]);
    part(title.unwrap_or_default().as_bytes());
    part(Value::Object(metadata.clone()).to_string().as_bytes());
    part(&bytes(vector.unwrap_or_default()));
    for (name, vector) in vectors {
        part(name.as_bytes());
        part(&bytes(vector));
    }
    // As the last part of an odd number of parts it is no vector's; documents without it have the digest that they had.
    expires_at.into_iter().for_each(|millis| part(&millis.to_le_bytes()));
    let full = hasher.finalize();
    let mut short = [0; 16];
    short.copy_from_slice(&full[..16]);
    short
}

/// The vectors that a stored document was given with.
pub(crate) struct OwnVectors {
    /// In the default space; `None` where its vectors there are the model's.
    pub(crate) vector: Option<Vec<f32>>,
    /// In further spaces.
    pub(crate) vectors: BTreeMap<String, Vec<f32>>,
}

impl OwnVectors {
    /// Whether these are what a document was stored with. Its digest tells.
    fn are_of(&self, stored: &StoredDocument) -> bool {
        let StoredDocument { title, text, metadata, digest, expires_at, .. } = stored;
        let (vector, vectors) = (self.vector.as_deref(), &self.vectors);
        *digest == self::digest(title.as_deref(), text, metadata, vector, vectors, *expires_at)
    }
}

/// The vectors that a stored document was given with. Reads its first chunk where there may be some.
pub(crate) fn own_vectors(parts: &Parts, snapshot: &Snapshot, stored: &StoredDocument) -> Result<OwnVectors> {
    own_vectors_among(parts, stored, || Ok(snapshot.first_chunk(&stored.id)?.map(|chunk| chunk.vectors)))
}

/// The same, where the vectors of its first chunk come from elsewhere.
fn own_vectors_among(
    parts: &Parts,
    stored: &StoredDocument,
    first_chunk: impl FnOnce() -> Result<Option<Vec<Vec<f32>>>>,
) -> Result<OwnVectors> {
    let externals: Vec<&Space> = parts.further_spaces().filter(|space| !space.has_model()).collect();
    let mut own = OwnVectors { vector: None, vectors: BTreeMap::new() };
    if externals.is_empty() && own.are_of(stored) {
        return Ok(own);
    }
    let Some(mut vectors) = first_chunk()? else { return Ok(own) };
    own.vectors = externals
        .into_iter()
        .map(|space| (space.name().to_owned(), std::mem::take(&mut vectors[space.index])))
        .collect();
    if !own.are_of(stored) {
        own.vector = Some(vectors.swap_remove(parts.space().index));
        if !own.are_of(stored) {
            own.vector = None;
        }
    }
    Ok(own)
}

fn chunks_of(splitter: &Splitter<'_>) -> Vec<PreparedChunk> {
    let prepared = |chunk: Chunk| {
        let input = index_text(splitter.title, &chunk.heading, &splitter.text[chunk.start..chunk.end]);
        PreparedChunk { chunk, input, vectors: Vec::new() }
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
    parts: &Parts,
    snapshot: &Snapshot,
    splitter: Option<&Splitter<'_>>,
    id: &DocumentId,
    chunks: &mut [PreparedChunk],
) -> Result<()> {
    let Some(stored) = snapshot.document(id)? else { return Ok(()) };
    let own = own_vectors(parts, snapshot, &stored)?;
    // A document with a vector of its own was read whole, if at all; another in chunks, with its title cut to their size.
    let title = match (splitter, &own.vector) {
        _ if !own.are_of(&stored) => return Ok(()),
        (_, Some(_)) => stored.title.as_deref().filter(|title| !title.trim().is_empty()),
        (Some(splitter), None) => title_within(stored.title.as_deref(), splitter.embedder, splitter.budget),
        (None, None) => return Ok(()),
    };
    let is_made = |space: &Space| space.has_model() && !(space.is_default() && own.vector.is_some());
    let mut known: HashMap<String, Vec<Vec<f32>>> = HashMap::new();
    for chunk in snapshot.stored_chunks(id)? {
        known.insert(index_text(title, &chunk.heading, &stored.text[chunk.start..chunk.end]), chunk.vectors);
    }
    for chunk in chunks {
        let Some(vectors) = known.get(&chunk.input) else { continue };
        for space in parts.spaces().iter().filter(|space| is_made(space)) {
            chunk.vectors[space.index].get_or_insert_with(|| vectors[space.index].clone());
        }
    }
    Ok(())
}

/// Embeds a batch at once; where that fails, document by document, so that one bad text does not take the others
/// with it.
fn embed_batch(parts: &Parts, prepared: Vec<Prepared>, outcome: &mut Outcome) -> Result<Vec<Operation>> {
    match embed(parts, &prepared, &mut outcome.report) {
        Ok(made) => {
            let shares = shares(&prepared, made);
            let mut operations = Vec::with_capacity(prepared.len());
            for (document, own) in prepared.into_iter().zip(shares) {
                let (id, place) = (document.document.id.clone(), document.place);
                match assemble(parts, document, own) {
                    Ok(operation) => operations.push(operation),
                    Err(error) => reject(outcome, &id, place, error)?,
                }
            }
            Ok(operations)
        }
        Err(error) if !is_of_a_document(&error) => Err(error),
        Err(error) => match prepared.as_slice() {
            [] => Err(error),
            [document] => reject(outcome, &document.document.id, document.place, error).map(|()| Vec::new()),
            [..] => {
                let mut operations = Vec::with_capacity(prepared.len());
                let before = outcome.refused.len();
                for document in prepared {
                    operations.extend(embed_batch(parts, vec![document], outcome)?);
                    if operations.is_empty() && all_alike(&outcome.refused[before..]) {
                        return Err(error);
                    }
                }
                Ok(operations)
            }
        },
    }
}

/// Documents that fail one after the other, for the same reason, until it is the model's fault and not theirs: a server that
/// went away would be asked for every single one.
const ALIKE: usize = 8;

fn all_alike(refused: &[Refused]) -> bool {
    refused.len() >= ALIKE && refused.iter().all(|one| one.rejected.reason == refused[0].rejected.reason)
}

/// The vectors that models make, in order of the chunks that lack one: a list a space.
type Made = Vec<Vec<Vec<f32>>>;

/// What was made for all of these, one by one.
fn shares(prepared: &[Prepared], made: Made) -> Vec<Made> {
    let mut rows: Vec<_> = made.into_iter().map(Vec::into_iter).collect();
    let share = |document: &Prepared| {
        let of_space = |(space, rows): (usize, &mut std::vec::IntoIter<_>)| {
            rows.by_ref().take(document.to_embed(space).count()).collect()
        };
        rows.iter_mut().enumerate().map(of_space).collect()
    };
    prepared.iter().map(share).collect()
}

/// The vectors of all chunks that lack one.
fn embed(parts: &Parts, prepared: &[Prepared], report: &mut AddReport) -> Result<Made> {
    let of_each = |space| embed_in(parts, space, prepared);
    let embedded = parts.spaces().iter().map(of_each).collect::<Result<Vec<_>>>()?;
    let cached = cached(prepared, &embedded);
    report.chunks_cached += cached;
    report.chunks_embedded += prepared.iter().map(Prepared::embedded).sum::<u64>() - cached;
    report.texts_truncated += embedded.iter().map(|space| space.truncated).sum::<u64>();
    Ok(embedded.into_iter().map(|space| space.rows).collect())
}

/// The chunks that no model was asked for, because the vectors that they lacked are cached.
fn cached(prepared: &[Prepared], embedded: &[Embedded]) -> u64 {
    let mut flags: Vec<_> = embedded.iter().map(|space| space.cached.iter()).collect();
    let chunks = prepared.iter().flat_map(|document| &document.chunks).filter(|chunk| !chunk.is_known());
    let is_cached = |chunk: &&PreparedChunk| {
        let lacking = chunk.vectors.iter().zip(&mut flags).filter(|(vector, _)| vector.is_none());
        lacking.fold(true, |all, (_, flags)| flags.next() == Some(&true) && all)
    };
    chunks.filter(is_cached).count() as u64
}

fn embed_in(parts: &Parts, space: &Space, prepared: &[Prepared]) -> Result<Embedded> {
    let texts: Vec<&str> = prepared.iter().flat_map(|document| document.to_embed(space.index)).collect();
    let embedder = if texts.is_empty() { None } else { space.embedder()? };
    match embedder {
        Some(embedder) => cache::embed(&parts.store, &*embedder, &texts),
        None => Ok(Embedded { rows: Vec::new(), cached: Vec::new(), truncated: 0 }),
    }
}

fn assemble(parts: &Parts, prepared: Prepared, made: Made) -> Result<Operation> {
    let Prepared { document, place: _, metadata, digest, chunks, is_external: _ } = prepared;
    let mut made: Vec<_> = made.into_iter().map(Vec::into_iter).collect();
    let mut new_chunks = Vec::with_capacity(chunks.len());
    for PreparedChunk { chunk, input: _, vectors: known } in chunks {
        let place = format!("document `{}`, bytes {}..{}", document.id, chunk.start, chunk.end);
        let mut vectors = Vec::with_capacity(known.len());
        for ((space, known), made) in parts.spaces().iter().zip(known).zip(&mut made) {
            let vector = known.or_else(|| made.next()).unwrap_or_default();
            space.validate_vector(&vector, &place).map_err(|error| Error::Embedding(error.to_string()))?;
            vectors.push(vector);
        }
        new_chunks.push(NewChunk { start: chunk.start, end: chunk.end, heading: chunk.heading, vectors });
    }
    let Document { id, text, title, expires_at, .. } = document;
    let (expires_at, chunks) = (expires_at.map(moment::millis), new_chunks);
    Ok(Operation::Put(Box::new(NewDocument { id, title, text, metadata, digest, expires_at, chunks })))
}

fn commit(parts: &Arc<Parts>, operations: Vec<Operation>, along: &Alongside, report: &mut AddReport) -> Result<()> {
    if operations.is_empty() {
        return Ok(());
    }
    let documents = operations.len() as u64;
    let written = write(parts, &operations, along)?;
    report.expired += expired(parts, &operations);
    // Of several of one id storage writes the last alone; taken one after the other, each replaces the one before it.
    report.added += written.added;
    report.replaced += documents - written.added;
    Ok(())
}

/// Whether nothing will find a document, at this moment by the database's clock.
fn has_expired(expires_at: Option<u64>, now: u64) -> bool {
    expires_at.is_some_and(|millis| millis <= now)
}

/// How many of the documents that are written have expired already.
fn expired(parts: &Parts, operations: &[Operation]) -> u64 {
    let now = parts.store.now();
    let is_expired = |operation: &&Operation| match operation {
        Operation::Put(document) => has_expired(document.expires_at, now),
        Operation::Delete(_) => false,
    };
    operations.iter().filter(is_expired).count() as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{CollectionConfig, Database};

    #[test]
    fn sealing_begins_before_memory_is_used_up_however_wide_vectors_are() {
        assert_eq!(Unsealed::of(384), Unsealed { begin: 65_536, most: 262_144 });
        assert_eq!(Unsealed::of(4_096), Unsealed { begin: 24_576, most: 24_576 });
        assert_eq!(Unsealed::of(0).begin, SEALED_MEANWHILE);
    }

    #[test]
    fn whoever_adds_more_than_memory_takes_is_told_why_it_cannot_be_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::open(folder.path()).unwrap();
        let points = db.collection_with("points", CollectionConfig::new().external(2)).unwrap();
        let in_the_way = folder.path().join("segments");
        std::fs::write(&in_the_way, "a file").unwrap();
        let point = |id: i64| Document::new(id, "").vector(vec![1.0, id as f32]);
        points.add_many((0..8_192).map(point)).unwrap();
        let parts = points.parts();
        let_sealing_catch_up(parts, None, 8_192).unwrap();
        let error = let_sealing_catch_up(parts, None, 8_191).unwrap_err().to_string();
        assert!(error.contains("segments"), "{error}");
        assert_eq!(points.count().unwrap(), 8_192);
        std::fs::remove_file(&in_the_way).unwrap();
        let_sealing_catch_up(parts, None, 8_191).unwrap();
        assert_eq!(parts.store.sealing_backlog(parts.info.id).unwrap(), 0);
    }

    #[test]
    fn what_can_never_be_sealed_is_not_waited_for() {
        let db = Database::in_memory().unwrap();
        let points = db.collection_with("points", CollectionConfig::new().external(1)).unwrap();
        points.add(Document::new(1, "").vector(vec![1.0])).unwrap();
        let_sealing_catch_up(points.parts(), None, 0).unwrap();
    }
}
