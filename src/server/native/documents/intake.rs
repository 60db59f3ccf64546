//! How does a body become documents: one, an array, lines, or the rows of a table?
//!
//! Lines are taken in while they come: a batch of them is embedded and written while the next one is read, so memory holds
//! two batches, and a client that sends slowly keeps no other from writing. A table is written to a temporary file first,
//! because its end says what is in it.
//!
//! Invariants: what is answered with 200 is on disk; whatever cannot be taken is named with its place and does not keep the
//! rest out; where nothing at all could be taken, that is an error; a key that is there twice is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::replays::{Begun, Ticket};
use super::{Documents, name_of_content};
use crate::server::app::{Answer, App};
use crate::server::body::{self, Json, Parameters, Pieces, Segments, Unambiguous};
use crate::server::failure::{Failure, FailureBody};
use crate::types::{AddReport, Rejected};
use crate::{AddOptions, Collection, Document, formats};

/// Bytes of lines that are taken in at once.
const BATCH_BYTES: usize = 4 << 20;
/// Rejections that an answer lists; all are counted.
const LISTED_MAX: usize = 1_000;
/// Rows of a table that are read between two looks at what was rejected.
#[cfg(feature = "parquet")]
const ROWS_AT_ONCE: usize = 65_536;
/// Bytes of a table that are written to its file at once.
#[cfg(feature = "parquet")]
const SPOOLED_AT_ONCE: usize = 1 << 20;
/// The longest key of idempotency.
const KEY_BYTES_MAX: usize = 255;

const LINES: [&str; 5] = [
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
    "application/jsonlines",
];
const TABLES: [&str; 4] = [
    "application/vnd.apache.parquet",
    "application/x-parquet",
    "application/vnd.apache.arrow.file",
    "application/vnd.apache.arrow.stream",
];
const CSV: &str = "text/csv";

/// What became of the documents.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub(super) struct Added {
    /// Documents that were not there before.
    added: u64,
    /// Documents whose content differed from the stored one.
    replaced: u64,
    /// Documents that were there just so.
    unchanged: u64,
    /// Always 0: as on the command line, where `--sync` removes.
    removed: u64,
    /// Documents that were not taken: the first 1,000.
    rejected: Vec<RejectedDocument>,
    /// All that were not taken.
    rejected_total: u64,
    /// Chunks sent to the model.
    chunks_embedded: u64,
    /// Chunks of replaced documents whose vectors were kept.
    chunks_reused: u64,
    /// Chunks whose text a model had embedded before.
    chunks_cached: u64,
    /// Texts that were longer than the model's limit.
    texts_truncated: u64,
    /// Wall-clock seconds.
    seconds: f64,
    /// Documents among those added and replaced that had expired already: nothing finds them.
    expired: u64,
    /// The ids of a JSON body's documents, in their order, where one of them brought none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<super::Id>>)]
    ids: Option<Vec<crate::DocumentId>>,
}

/// A document that was not taken.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
struct RejectedDocument {
    /// Its id, or its place in the body.
    source: String,
    /// Why, and what would help.
    reason: String,
    /// Its place in an array, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
}

impl From<Rejected> for RejectedDocument {
    fn from(Rejected { source, reason }: Rejected) -> Self {
        Self { source, reason, index: None }
    }
}

impl From<AddReport> for Added {
    fn from(report: AddReport) -> Self {
        let AddReport {
            added,
            replaced,
            unchanged,
            removed,
            rejected,
            chunks_embedded,
            chunks_reused,
            texts_truncated,
            seconds,
            embedding_seconds: _,
            chunks_cached,
            expired,
        } = report;
        let rejected_total = rejected.len() as u64;
        let rejected = rejected.into_iter().take(LISTED_MAX).map(RejectedDocument::from).collect();
        Self {
            added,
            replaced,
            unchanged,
            removed,
            rejected,
            rejected_total,
            chunks_embedded,
            chunks_reused,
            chunks_cached,
            texts_truncated,
            seconds,
            expired,
            ids: None,
        }
    }
}

impl Added {
    fn taken(&self) -> u64 {
        self.added + self.replaced + self.unchanged
    }

    /// Counts what a later batch of the same body counts.
    fn take_up(&mut self, other: Self) {
        self.added += other.added;
        self.replaced += other.replaced;
        self.unchanged += other.unchanged;
        self.removed += other.removed;
        let room = LISTED_MAX - self.rejected.len().min(LISTED_MAX);
        self.rejected.extend(other.rejected.into_iter().take(room));
        self.rejected_total += other.rejected_total;
        self.chunks_embedded += other.chunks_embedded;
        self.chunks_reused += other.chunks_reused;
        self.chunks_cached += other.chunks_cached;
        self.texts_truncated += other.texts_truncated;
        self.seconds += other.seconds;
        self.expired += other.expired;
    }

    /// Says of a failure how much is in nevertheless.
    fn after(&self, mut failure: Failure) -> Failure {
        if self.taken() > 0 {
            let taken = self.taken();
            failure.message += &format!(" ({taken} documents before are in; sent again they are unchanged)");
        }
        failure
    }

    /// An error where all was rejected: nobody should have to look into a success for that.
    fn concluded(self) -> Answer<Self> {
        match self.rejected.first() {
            Some(RejectedDocument { source, reason, .. }) if self.taken() == 0 => {
                let (all, source) = (self.rejected_total, source.escape_debug());
                let whose = if all == 1 { "the only document was" } else { "all documents were" };
                Err(Failure::invalid(format!("{whose} rejected ({all}); the first, {source}: {reason}")))
            }
            Some(_) | None => Ok(self),
        }
    }
}

/// How documents are taken in.
#[derive(Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Intake {
    /// Makes the collection, with the built-in model, where it is not there.
    create: bool,
    /// Of tables: which column is what, such as `id=doc_id,text=body`.
    map: Option<String>,
}

/// Add documents, or replace those of the same id
///
/// By the content type: `application/json` is one document, an array of them, or `{"documents": [...]}`;
/// `application/x-ndjson` (`application/jsonl`) one a line, as a stream; `application/vnd.apache.parquet`, Arrow
/// (`application/vnd.apache.arrow.file`, `.stream`) and `text/csv` one a row. `Content-Encoding` may be `gzip` or `zstd`.
///
/// What is answered for is durable and searchable. 200 where some documents were taken, with those that were not under
/// `rejected`; 400 where none was. Documents without an id are called after their content. With an `Idempotency-Key` the same
/// request is answered the same for 24 hours, as long as the server runs; with another body the key is refused.
#[utoipa::path(post, path = "/v1/collections/{collection}/documents", tag = "documents",
    params(("collection" = String, Path), Intake,
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible characters, new for each request",
            min_length = 1, max_length = 255)),
    request_body(content((Documents = "application/json"), (String = "application/x-ndjson"),
        (String = "text/csv"), (Vec<u8> = "application/vnd.apache.parquet"))),
    responses((status = 200, body = Added), (status = 404, body = FailureBody),
        (status = 409, body = FailureBody, description = "The key of idempotency was used with another body, or is in use"),
        (status = 413, body = FailureBody), (status = 415, body = FailureBody), (status = 507, body = FailureBody),
        (status = "default", body = FailureBody)))]
pub(super) async fn add(
    State(app): State<Arc<App>>,
    Segments(collection): Segments<String>,
    Parameters(intake): Parameters<Intake>,
    request: Request,
) -> Answer<Json<Value>> {
    let kind = Kind::of(&body::content_type(&request))?;
    let key = key(request.headers())?;
    let (name, create) = (collection, intake.create);
    let collection = if create {
        app.write(move |app, _| Ok(app.database.collection(&name)?)).await?
    } else {
        app.read(move |app| app.collection(&name).map_err(with_a_way_out)).await?
    };
    // Of the collection itself: tomorrow its name may be that of another one.
    let begun = key.map(|key| app.replays.begin(format!("{}\n{key}", collection.number())));
    let mut pieces = kind.pieces(request, &app);
    if begun.is_some() || matches!(kind, Kind::Table | Kind::Csv) {
        pieces = pieces.digested(&intake.said(kind));
    }
    let ticket = match begun {
        None => None,
        Some(Begun::New(ticket)) => Some(ticket),
        Some(Begun::Underway) => return Err(in_use()),
        Some(Begun::Answered { digest, answer }) => return repeated(pieces, digest, answer).await,
    };
    let answer = match kind {
        Kind::Json => json(&app, collection, pieces, ticket).await?,
        Kind::Lines => lines(&app, &collection, pieces, ticket).await?,
        Kind::Table | Kind::Csv => table(&app, collection, pieces, kind, intake.map, ticket).await?,
    };
    Ok(Json(answer))
}

/// The answer to a request, which is kept for its key where it has one.
fn answer(added: &Added, ticket: Option<Arc<Ticket>>, digest: Option<[u8; 32]>) -> Answer<Value> {
    let answer = serde_json::to_value(added).map_err(|error| Failure::internal(error.to_string()))?;
    if let Some((ticket, digest)) = ticket.zip(digest) {
        ticket.answered(digest, answer.clone());
    }
    Ok(answer)
}

/// Whether all was taken in, and not only what came before the client went away.
fn is_whole(cancel: &AtomicBool) -> bool {
    !cancel.load(Ordering::Relaxed)
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    Lines,
    Table,
    Csv,
}

impl Kind {
    fn of(content_type: &str) -> Answer<Self> {
        if content_type == "application/json" || content_type.ends_with("+json") {
            return Ok(Self::Json);
        }
        if LINES.contains(&content_type) {
            return Ok(Self::Lines);
        }
        if TABLES.contains(&content_type) || content_type == CSV {
            let kind = if content_type == CSV { Self::Csv } else { Self::Table };
            return if cfg!(feature = "parquet") { Ok(kind) } else { Err(lacks_tables()) };
        }
        let message = format!(
            "the content type is `{}`; send `application/json`, `{}`, `{}`, `{}` or `{}`",
            content_type.escape_debug(),
            LINES[0],
            TABLES[0],
            TABLES[2],
            CSV
        );
        Err(Failure::of("unsupported_media_type", message))
    }

    fn pieces(self, request: Request, app: &App) -> Pieces {
        match self {
            Self::Json => Pieces::of_body(request.into_body(), app),
            Self::Lines | Self::Table | Self::Csv => Pieces::of_stream(request.into_body(), app),
        }
    }
}

fn lacks_tables() -> Failure {
    crate::Error::FeatureMissing { what: "reading tables".into(), feature: "parquet" }.into()
}

impl Intake {
    /// What else of a request is to be the same where its key is.
    fn said(&self, kind: Kind) -> String {
        format!("{kind:?} {} {:?}", self.create, self.map)
    }
}

fn with_a_way_out(mut failure: Failure) -> Failure {
    if failure.code == "collection_not_found" {
        failure.message += ". PUT /v1/collections/{name} makes it, or add ?create=true";
    }
    failure
}

/// The key of idempotency.
fn key(headers: &HeaderMap) -> Answer<Option<&str>> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
    let refused = || Failure::invalid(format!("Idempotency-Key has 1 to {KEY_BYTES_MAX} visible characters"));
    Ok(Some(key.ok_or_else(refused)?))
}

fn in_use() -> Failure {
    let mut failure = Failure::of("conflict", "a request with this Idempotency-Key is being answered; come again");
    failure.retryable = true;
    failure
}

/// Answers what was answered before, if the body is the same.
async fn repeated(mut pieces: Pieces, digest: [u8; 32], answer: Value) -> Answer<Json<Value>> {
    while pieces.next().await?.is_some() {}
    if pieces.digest() == Some(digest) {
        return Ok(Json(answer));
    }
    let message = "this Idempotency-Key was used with another body; give each request a key of its own";
    Err(Failure::of("conflict", message))
}

/// A document, and whether it brought an id.
pub(super) struct Given {
    pub(super) document: Document,
    pub(super) has_id: bool,
}

/// The document in a JSON value. Where it brings no id, it is called after its content.
///
/// # Errors
/// What is wrong with it.
pub(super) fn document_of(value: Value, app: &App) -> std::result::Result<Given, String> {
    let has_id = ["id", "_id"].iter().any(|key| value.get(key).is_some_and(|id| !id.is_null()));
    let name = if has_id { String::new() } else { name_of_content(&value.to_string()) };
    let document = formats::document(value, || name)?;
    let (bytes, bytes_max) = (document.text.len(), app.settings.limits.text_bytes);
    if bytes > bytes_max {
        return Err(format!(
            "`text` has {bytes} bytes; the limit is {bytes_max}: split it, or raise limits.text_bytes"
        ));
    }
    Ok(Given { document, has_id })
}

/// One document, or an array of them.
async fn json(
    app: &Arc<App>,
    collection: Collection,
    mut pieces: Pieces,
    ticket: Option<Arc<Ticket>>,
) -> Answer<Value> {
    let bytes = pieces.rest().await?;
    let digest = pieces.digest();
    app.write(move |app, cancel| {
        let Unambiguous(value) = body::parse(&bytes)?;
        drop(bytes);
        match several(value) {
            Ok(values) => {
                let added = add_several(app, &collection, values, cancel)?;
                answer(&added, ticket.filter(|_| is_whole(cancel)), digest)
            }
            Err(value) => {
                let Given { document, has_id } = document_of(value, app).map_err(Failure::invalid)?;
                let id = document.id.clone();
                let mut added = Added::from(collection.add(document)?);
                added.ids = (!has_id).then(|| vec![id]);
                answer(&added, ticket, digest)
            }
        }
    })
    .await
}

/// The documents of an array, or of `{"documents": [...]}`; else the value, which is one.
fn several(mut value: Value) -> std::result::Result<Vec<Value>, Value> {
    let wrapped = value.as_object_mut().filter(|object| object.len() == 1);
    if let Some(Value::Array(values)) = wrapped.and_then(|object| object.get_mut("documents")) {
        return Ok(std::mem::take(values));
    }
    if let Value::Array(values) = value { Ok(values) } else { Err(value) }
}

fn add_several(app: &App, collection: &Collection, values: Vec<Value>, cancel: &AtomicBool) -> Answer<Added> {
    let (mut documents, mut places, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
    let mut all_have_ids = true;
    for (index, value) in values.into_iter().enumerate() {
        match document_of(value, app) {
            Ok(Given { document, has_id }) => {
                all_have_ids &= has_id;
                places.push((index, document.id.clone()));
                documents.push(document);
            }
            Err(reason) => {
                rejected.push(RejectedDocument { source: format!("documents[{index}]"), reason, index: Some(index) });
            }
        }
    }
    let options = AddOptions { cancel: Some(cancel), ..AddOptions::default() };
    let mut added = Added::from(collection.add_with(documents.into_iter().map(Ok), &options)?);
    for rejected in &mut added.rejected {
        let place = places.iter().find(|(_, id)| id.to_string() == rejected.source);
        rejected.index = place.map(|(index, _)| *index);
    }
    added.rejected_total += rejected.len() as u64;
    added.rejected.append(&mut rejected);
    added.rejected.sort_by_key(|rejected| rejected.index);
    added.rejected.truncate(LISTED_MAX);
    added.ids = (!all_have_ids).then(|| places.into_iter().map(|(_, id)| id).collect());
    added.concluded()
}

/// A document a line, taken in while they come.
async fn lines(
    app: &Arc<App>,
    collection: &Collection,
    mut pieces: Pieces,
    ticket: Option<Arc<Ticket>>,
) -> Answer<Value> {
    let mut lines = Lines::new(&mut pieces, app.settings.limits.body_bytes);
    let mut added = Added::default();
    let mut batch = lines.batch().await?;
    while let Some(Batch { bytes, line }) = batch {
        let take_in = {
            let (collection, held) = (collection.clone(), ticket.clone());
            app.write(move |app, cancel| {
                let _held = held;
                take_in(app, &collection, &bytes, line, cancel)
            })
        };
        let (mut take_in, mut next) = (std::pin::pin!(take_in), std::pin::pin!(lines.batch()));
        // Where the batch fails, nobody waits for the rest; where the rest fails, the batch is still taken in.
        let following = tokio::select! {
            biased;
            taken = &mut take_in => {
                added.take_up(taken.map_err(|failure| added.after(failure))?);
                next.await
            }
            following = &mut next => {
                added.take_up(take_in.await.map_err(|failure| added.after(failure))?);
                following
            }
        };
        batch = following.map_err(|failure| added.after(failure))?;
    }
    answer(&added.concluded()?, ticket, pieces.digest())
}

/// Whole lines.
struct Batch {
    bytes: Vec<u8>,
    /// The number of the first.
    line: usize,
}

/// Cuts a body into batches of whole lines.
struct Lines<'a> {
    pieces: &'a mut Pieces,
    line_bytes_max: usize,
    /// What came behind the last batch.
    rest: Vec<u8>,
    /// Where its whole lines end.
    whole: usize,
    /// The number of its first line.
    line: usize,
}

impl<'a> Lines<'a> {
    fn new(pieces: &'a mut Pieces, line_bytes_max: usize) -> Self {
        Self { pieces, line_bytes_max, rest: Vec::new(), whole: 0, line: 1 }
    }

    /// The next whole lines; `None` after the last.
    async fn batch(&mut self) -> Answer<Option<Batch>> {
        loop {
            if self.rest.len() >= BATCH_BYTES && self.whole > 0 {
                let behind = self.rest.split_off(self.whole);
                return Ok(Some(self.cut(behind)));
            }
            if self.rest.len() > self.line_bytes_max.max(BATCH_BYTES) {
                return Err(body::too_large(self.line_bytes_max as u64));
            }
            let piece: Option<Bytes> = self.pieces.next().await?;
            match piece {
                Some(piece) => self.append(&piece),
                None if self.rest.is_empty() => return Ok(None),
                None => return Ok(Some(self.cut(Vec::new()))),
            }
        }
    }

    /// Looks for ends of lines in the piece alone: a line may come in a thousand of them.
    fn append(&mut self, piece: &[u8]) {
        if let Some(end) = piece.iter().rposition(|byte| *byte == b'\n') {
            self.whole = self.rest.len() + end + 1;
        }
        self.rest.extend_from_slice(piece);
    }

    /// Hands out what is there; `behind` has no end of a line.
    fn cut(&mut self, behind: Vec<u8>) -> Batch {
        let bytes = std::mem::replace(&mut self.rest, behind);
        self.whole = 0;
        let line = self.line;
        self.line += bytes.iter().filter(|byte| **byte == b'\n').count();
        Batch { bytes, line }
    }
}

/// Adds the documents of whole lines, of which the first has this number.
fn take_in(app: &App, collection: &Collection, bytes: &[u8], first: usize, cancel: &AtomicBool) -> Answer<Added> {
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).zip(first..);
    let lines = lines.map(|(line, number)| {
        let marked = number == 1 && line.starts_with("\u{feff}".as_bytes());
        (if marked { &line[3..] } else { line }, number)
    });
    let documents = lines.filter(|(line, _)| !line.is_empty()).map(|(line, number)| {
        document_of_line(app, line)
            .map_err(|reason| Rejected { source: format!("line {number}"), reason: format!("line {number}: {reason}") })
    });
    let options = AddOptions { cancel: Some(cancel), ..AddOptions::default() };
    Ok(collection.add_with(documents, &options)?.into())
}

fn document_of_line(app: &App, line: &[u8]) -> std::result::Result<Document, String> {
    let Unambiguous(value) = body::parse(line).map_err(|failure| failure.message)?;
    Ok(document_of(value, app)?.document)
}

/// Without the feature, such a body is refused before it is read.
#[cfg(not(feature = "parquet"))]
async fn table(
    _: &Arc<App>,
    _: Collection,
    _: Pieces,
    _: Kind,
    _: Option<String>,
    _: Option<Arc<Ticket>>,
) -> Answer<Value> {
    Err(lacks_tables())
}

/// A document a row.
#[cfg(feature = "parquet")]
async fn table(
    app: &Arc<App>,
    collection: Collection,
    mut pieces: Pieces,
    kind: Kind,
    map: Option<String>,
    ticket: Option<Arc<Ticket>>,
) -> Answer<Value> {
    use crate::formats::columns::ColumnMap;
    let map = map.as_deref().map(ColumnMap::parse).transpose()?.unwrap_or_default();
    // What is no Parquet and no Arrow by its first bytes is read as its name says.
    let file = spooled(&mut pieces, if kind == Kind::Csv { ".csv" } else { ".parquet" }).await?;
    // Rows without an id are called after the content of the file and their number: sent again they are the same.
    let digest = pieces.digest();
    let name: String = digest.unwrap_or_default()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    app.write(move |_, cancel| {
        let added = rows(&collection, file.path(), &format!("table-{name}"), map, cancel)?.concluded()?;
        answer(&added, ticket.filter(|_| is_whole(cancel)), digest)
    })
    .await
}

/// The body in a file that goes when it is no longer needed.
#[cfg(feature = "parquet")]
async fn spooled(pieces: &mut Pieces, extension: &str) -> Answer<tempfile::NamedTempFile> {
    use std::io::Write;
    let mut file = tempfile::Builder::new().suffix(extension).tempfile().map_err(no_room)?;
    let mut waiting = Vec::new();
    loop {
        let piece = pieces.next().await?;
        waiting.extend_from_slice(piece.as_deref().unwrap_or_default());
        if waiting.len() >= SPOOLED_AT_ONCE || piece.is_none() {
            tokio::task::block_in_place(|| file.write_all(&waiting)).map_err(no_room)?;
            waiting.clear();
        }
        if piece.is_none() {
            return Ok(file);
        }
    }
}

/// The temporary file cannot be written; its path is nobody's business.
#[cfg(feature = "parquet")]
#[expect(clippy::needless_pass_by_value, reason = "it is what errors are mapped with")]
fn no_room(error: std::io::Error) -> Failure {
    let message = format!("the temporary file for this table cannot be written: {error}");
    if error.kind() == std::io::ErrorKind::StorageFull {
        return Failure::of("disk_full", message);
    }
    Failure::of("storage_unavailable", message)
}

/// Adds the rows of a file.
#[cfg(feature = "parquet")]
fn rows(
    collection: &Collection,
    path: &std::path::Path,
    name: &str,
    map: crate::formats::columns::ColumnMap,
    cancel: &AtomicBool,
) -> Answer<Added> {
    use crate::formats::columns::{BadRow, Table, TableOptions};
    let external = collection.stats()?.spaces.into_iter().filter(|space| space.model == "external");
    let spaces = external.map(|space| space.name).filter(|name| name != "default").collect();
    let table = Table::open(path, name, TableOptions { map, no_header: false, spaces });
    let mut table = table.map_err(|error| without_path(error, path))?;
    let (mut failed, mut exhausted, mut added) = (None, false, Added::default());
    let options = AddOptions { cancel: Some(cancel), ..AddOptions::default() };
    while !exhausted && failed.is_none() && is_whole(cancel) {
        let documents = (0..ROWS_AT_ONCE).map_while(|_| match table.next_row() {
            Ok(Some(row)) => Some(row.document.map_err(|bad: BadRow| bad.rejected())),
            Ok(None) => {
                exhausted = true;
                None
            }
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        let report = collection.add_with(documents, &options).map_err(|error| added.after(error.into()))?;
        added.take_up(report.into());
    }
    match failed {
        Some(error) => Err(added.after(without_path(error, path))),
        None => Ok(added),
    }
}

/// The message of an error without the place of our temporary file.
#[cfg(feature = "parquet")]
fn without_path(error: crate::Error, path: &std::path::Path) -> Failure {
    let mut failure = Failure::from(error);
    failure.message = failure.message.replace(&path.display().to_string(), "the table");
    failure
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::convert::Infallible;

    use axum::body::Body;
    use futures_util::{FutureExt, stream};

    use super::*;
    use crate::server::app::trial_app;

    fn in_pieces(text: &[u8], piece: usize, app: &App) -> Pieces {
        let pieces: Vec<_> =
            text.chunks(piece).map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect();
        Pieces::of_stream(Body::from_stream(stream::iter(pieces)), app)
    }

    #[tokio::test]
    async fn lines_longer_and_shorter_than_a_batch_are_cut_at_their_ends() {
        let app = trial_app();
        let mut text = Vec::new();
        for bytes in [10, BATCH_BYTES + 70_000, 0, 5, BATCH_BYTES - 7, 3, BATCH_BYTES / 2, BATCH_BYTES / 2, 9] {
            text.extend(std::iter::repeat_n(b'x', bytes));
            text.push(b'\n');
        }
        text.extend_from_slice(b"the last");
        for piece in [1_000, 32 << 10, 3 << 20, 64 << 20] {
            let mut pieces = in_pieces(&text, piece, &app);
            let mut lines = Lines::new(&mut pieces, 8 << 20);
            let (mut joined, mut first) = (Vec::new(), 1);
            while let Some(batch) = lines.batch().await.unwrap() {
                assert_eq!(batch.line, first, "{piece}");
                first += batch.bytes.iter().filter(|byte| **byte == b'\n').count();
                joined.extend_from_slice(&batch.bytes);
                assert!(joined.len() == text.len() || joined.ends_with(b"\n"), "{piece}");
            }
            assert!(joined == text, "{piece}");
        }
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_refused_at_the_limit() {
        let app = trial_app();
        let mut pieces = in_pieces(&vec![b'x'; 10 << 20], 32 << 10, &app);
        let failure = Lines::new(&mut pieces, 8 << 20).batch().await.err().unwrap();
        assert_eq!(failure.code, "body_too_large");
    }

    #[cfg(feature = "parquet")]
    #[test]
    fn no_room_for_a_table_is_nothing_that_the_client_did_wrong() {
        use crate::server::failure::FailureType;
        for (kind, status) in [(std::io::ErrorKind::StorageFull, 507), (std::io::ErrorKind::PermissionDenied, 503)] {
            let failure = no_room(kind.into());
            assert_eq!((failure.status.as_u16(), failure.kind), (status, FailureType::Unavailable));
            assert!(failure.retryable);
        }
    }

    #[test]
    fn a_body_that_is_all_there_lets_others_have_their_turn() {
        let app = trial_app();
        let read = |bytes: usize| in_pieces(&vec![b'x'; bytes], 32 << 10, &app).rest().now_or_never();
        assert_eq!(read(1 << 19).unwrap().unwrap().len(), 1 << 19);
        assert!(read(3 << 20).is_none(), "nobody else had a turn for 3 MiB");
    }
}
