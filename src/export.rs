//! How does a collection get out? As Parquet, Arrow, CSV or JSON Lines: documents or chunks, from one snapshot.
//!
//! Invariants: a file is there as a whole or not at all, and never in place of another one unasked; what is exported comes
//! back equal by an import, but for documents with neither text nor vector, and blank titles, in CSV; memory does not grow with the collection. Tables are written in two passes, because the first
//! must tell which columns there are.

#[cfg(feature = "parquet")]
mod embed;
mod rows;
mod target;
#[cfg(all(test, feature = "parquet"))]
mod tests;

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

#[cfg(feature = "parquet")]
use quiverdb_storage::StoredDocument;
use quiverdb_storage::{Filter, Snapshot};
use serde::Serialize;

#[cfg(feature = "parquet")]
pub use self::embed::{EmbedTable, EmbedTableReport, TableSource, TableTarget, embed_table};
use self::rows::Exported;
pub use self::target::ExportFormat;
use self::target::{JsonLines, Target};
#[cfg(feature = "parquet")]
use crate::formats::columns::{
    Delimited, DelimitedWriter, Ids, Inference, Layout, Marker, Shape, TableFormat, TableWriter, VectorColumn,
};
use crate::formats::row::Row;
use crate::parts::Parts;
use crate::spaces::Space;
use crate::{Error, Result};

/// What is exported, and how.
#[derive(Default)]
pub struct ExportOptions<'a> {
    /// A row for each chunk, with its place in its document; else one for each document.
    pub chunks: bool,
    /// With the vectors that models made: of a chunk's row as columns, of a document's as those of its chunks, so that an
    /// import needs not embed it again. Vectors that documents brought are part of them, and written in any case.
    pub vectors: bool,
    /// Only the vectors of this space.
    pub space: Option<String>,
    /// Only documents that match.
    pub filter: Option<Filter>,
    /// The format; unset, the file's name tells.
    pub format: Option<ExportFormat>,
    /// Whether a file that is there may be replaced.
    pub overwrite: bool,
    /// Called now and then with the report so far.
    pub progress: Option<&'a (dyn Fn(&ExportReport) + Sync)>,
    /// Set it to stop; then nothing is left.
    pub cancel: Option<&'a AtomicBool>,
}

/// What was exported.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ExportReport {
    /// Documents, or those whose chunks were exported.
    pub documents: u64,
    /// Rows: documents, or chunks.
    pub rows: u64,
    /// The size of the file; 0 of a stream.
    pub bytes: u64,
    /// The columns of a table; none of JSON Lines.
    pub columns: Vec<ExportedColumn>,
    /// Whether it was cancelled, and nothing is left.
    pub cancelled: bool,
    /// How long it took.
    pub seconds: f64,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExportedColumn {
    /// Its name.
    pub name: String,
    /// Its type, as Arrow writes it.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Types that columns of metadata had when they were imported, by name, as Arrow writes them.
pub(crate) type RecordedTypes = std::collections::BTreeMap<String, String>;

/// Batches that wait between the thread that reads and the one that writes.
const WAITING: usize = 2;

/// Writes the file at `path`.
pub(crate) fn to_file(
    parts: &Parts,
    snapshot: &Snapshot,
    path: &Path,
    recorded: &RecordedTypes,
    options: &ExportOptions<'_>,
) -> Result<ExportReport> {
    let format = options.format.map_or_else(|| ExportFormat::of(path), Ok)?;
    refuse_database(path)?;
    let export = Export::new(parts, snapshot, recorded, options)?;
    let target = Target::create(path, options.overwrite)?;
    let (file, mut report) = export.write(target.file()?, format).map_err(|error| target.named(error))?;
    if !report.cancelled {
        report.bytes = target.keep(file)?;
    }
    Ok(report)
}

/// Refuses a place among the files of a database.
fn refuse_database(path: &Path) -> Result<()> {
    // What a link leads to is what would be replaced.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.join("data.redb").is_file() {
        return Ok(());
    }
    let (path, folder) = (path.display(), folder.display());
    Err(Error::invalid(format!("{path} would lie among the files of the database {folder}; export to another folder")))
}

/// Writes to `out`, which is flushed and not synced.
pub(crate) fn to_writer(
    parts: &Parts,
    snapshot: &Snapshot,
    out: impl Write + Send,
    recorded: &RecordedTypes,
    options: &ExportOptions<'_>,
) -> Result<ExportReport> {
    let format = options.format.unwrap_or(ExportFormat::JsonLines);
    let (mut out, report) = Export::new(parts, snapshot, recorded, options)?.write(out, format)?;
    out.flush().map_err(|error| Error::io("the stream", error))?;
    Ok(report)
}

/// What both passes work on.
struct Export<'a> {
    rows: Exported<'a>,
    #[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "only tables have types"))]
    recorded: &'a RecordedTypes,
    options: &'a ExportOptions<'a>,
    start: Instant,
}

impl<'a> Export<'a> {
    fn new(
        parts: &'a Parts,
        snapshot: &'a Snapshot,
        recorded: &'a RecordedTypes,
        options: &'a ExportOptions<'a>,
    ) -> Result<Self> {
        let spaces: Vec<&Space> = match &options.space {
            Some(name) => vec![parts.space_named(name)?],
            None => parts.spaces().iter().collect(),
        };
        let ids = options.filter.as_ref().map(|filter| snapshot.matching_documents(filter)).transpose()?;
        let (chunks, vectors) = (options.chunks, options.vectors);
        let rows = Exported { parts, snapshot, spaces, ids, chunks, vectors, own: true };
        Ok(Self { rows, recorded, options, start: Instant::now() })
    }

    fn write<W: Write + Send>(
        #[allow(unused_mut, reason = "tables are written in two passes")] mut self,
        out: W,
        format: ExportFormat,
    ) -> Result<(W, ExportReport)> {
        match format {
            #[cfg(feature = "parquet")]
            ExportFormat::Parquet => self.table(out, TableFormat::Parquet),
            #[cfg(feature = "parquet")]
            ExportFormat::Arrow => self.table(out, TableFormat::Arrow),
            #[cfg(feature = "parquet")]
            ExportFormat::ArrowStream => self.table(out, TableFormat::ArrowStream),
            ExportFormat::JsonLines | ExportFormat::JsonLinesGzip | ExportFormat::JsonLinesZstd => {
                let models = self.rows.models();
                self.lines(JsonLines::new(out, format, models)?)
            }
            #[cfg(feature = "parquet")]
            ExportFormat::Csv => self.delimited(out, b','),
            #[cfg(feature = "parquet")]
            ExportFormat::Tsv => self.delimited(out, b'\t'),
            #[cfg(not(feature = "parquet"))]
            other => Err(other.missing()),
        }
    }

    fn lines<W: Write + Send>(&self, mut lines: JsonLines<W>) -> Result<(W, ExportReport)> {
        let report = self.second_pass(|rows| rows.into_iter().try_for_each(|row| lines.row(row)))?;
        Ok((lines.finish()?, report))
    }

    #[cfg(feature = "parquet")]
    fn table<W: Write + Send>(&mut self, out: W, format: TableFormat) -> Result<(W, ExportReport)> {
        let Some(layout) = self.first_pass()? else {
            return Ok((out, ExportReport { cancelled: true, ..ExportReport::default() }));
        };
        let mut writer = TableWriter::new(out, format, layout)?;
        let columns = writer.columns().into_iter().map(|(name, kind)| ExportedColumn { name, kind }).collect();
        let mut report = self.second_pass(|rows| writer.write(&rows))?;
        report.columns = columns;
        Ok((writer.finish()?, report))
    }

    /// CSV has the vectors that rows have, as JSON, and no place for those of a document's passages.
    #[cfg(feature = "parquet")]
    fn delimited<W: Write + Send>(&mut self, out: W, delimiter: u8) -> Result<(W, ExportReport)> {
        let (vectors, chunk_vectors) = self.vector_columns();
        if !chunk_vectors.is_empty() {
            return Err(Error::invalid(
                "CSV has no place for the vectors of a document's passages: leave out --vectors, write a row for each passage \
                 (--chunks), or export to .parquet or .jsonl",
            ));
        }
        let mut inference = Delimited::beside(Layout::reserved(&vectors));
        let looked = self.look(&mut |page| {
            page.iter().for_each(|document| inference.see(&document.id, &document.metadata));
        })?;
        let Some(Looked { titled, expiring, vectors, .. }) = looked else {
            return Ok((out, ExportReport { cancelled: true, ..ExportReport::default() }));
        };
        let spaces = vectors.into_iter().map(|column| column.space).collect();
        let layout = inference.finish(Shape { chunk_rows: self.rows.chunks, titled, expiring, spaces });
        let columns = layout.columns().into_iter().map(|(name, kind)| ExportedColumn { name, kind }).collect();
        let mut writer = DelimitedWriter::new(out, delimiter, layout)?;
        let mut report = self.second_pass(|rows| rows.iter().try_for_each(|row| writer.row(row)))?;
        report.columns = columns;
        Ok((writer.finish()?, report))
    }

    /// Tells which columns a table has; `None` where that was cancelled.
    #[cfg(feature = "parquet")]
    fn first_pass(&mut self) -> Result<Option<Layout>> {
        let reserved = Layout::reserved(&self.vector_columns().0);
        let mut inference = Inference::beside(reserved, self.recorded);
        let looked = self.look(&mut |page| inference.see(page.iter().map(|document| &document.metadata)))?;
        let Some(Looked { ids, titled, expiring, vectors, chunk_vectors }) = looked else { return Ok(None) };
        let mut marker = self.marker();
        marker.vectors = by_name(&vectors);
        marker.chunk_vectors = by_name(&chunk_vectors);
        Ok(Some(Layout { ids, titled, expiring, metadata: inference.finish(), vectors, chunk_vectors, marker }))
    }

    /// Looks at every document, page by page; `None` where that was cancelled.
    #[cfg(feature = "parquet")]
    fn look(&mut self, see: &mut dyn FnMut(&[StoredDocument])) -> Result<Option<Looked>> {
        let (mut vectors, chunk_vectors) = self.vector_columns();
        let (mut ids, mut titled, mut expiring) = (Ids::default(), false, false);
        // A document may bring its vector where the others have the model's; there is a column for it where one does.
        let is_rare = |column: &VectorColumn| !self.rows.chunks && self.is_made(column);
        let mut is_sought = vectors.iter().any(is_rare);
        for page in self.rows.pages() {
            if self.is_cancelled() {
                return Ok(None);
            }
            let page = page?;
            for document in &page {
                ids.see(&document.id);
                titled |= document.title.is_some();
                expiring |= document.expires_at.is_some();
                is_sought = is_sought && self.rows.own_vectors(document)?.vector.is_none();
            }
            see(&page);
        }
        if is_sought {
            vectors.retain(|column| !is_rare(column));
        }
        self.rows.own = !vectors.is_empty();
        Ok(Some(Looked { ids, titled, expiring, vectors, chunk_vectors }))
    }

    #[cfg(feature = "parquet")]
    fn marker(&self) -> Marker {
        let info = &self.rows.parts.info;
        let settings = &info.settings;
        let (configuration, spaces) = (settings.application.clone(), settings.spaces.clone());
        let mut marker = Marker::new(&info.name, configuration, spaces, settings.analyzer.language);
        marker.chunk_rows = self.rows.chunks;
        marker.models = self.rows.models();
        marker
    }

    /// Columns of vectors, and those inside of the column of chunks.
    #[cfg(feature = "parquet")]
    fn vector_columns(&self) -> (Vec<VectorColumn>, Vec<VectorColumn>) {
        let Exported { chunks, vectors, ref spaces, .. } = self.rows;
        let is_alone = chunks && spaces.len() == 1;
        let column =
            |space: &&Space| VectorColumn::of(space.name(), space.settings.dims, space.is_default() || is_alone);
        let distinct = |columns: Vec<VectorColumn>| rows::distinct(columns);
        match (chunks, vectors) {
            (true, true) => (distinct(spaces.iter().map(column).collect()), Vec::new()),
            (true, false) => (Vec::new(), Vec::new()),
            (false, _) => {
                let own = spaces.iter().filter(|space| !space.has_model() || space.is_default());
                let made = spaces.iter().filter(|space| vectors && space.has_model());
                (distinct(own.map(column).collect()), distinct(made.map(column).collect()))
            }
        }
    }

    #[cfg(feature = "parquet")]
    fn is_made(&self, column: &VectorColumn) -> bool {
        self.rows.spaces.iter().any(|space| space.name() == column.space && space.has_model())
    }

    fn is_cancelled(&self) -> bool {
        self.options.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed))
    }

    /// Hands all rows to `write`, batch by batch, in order of the documents' ids. One thread reads, this one writes.
    fn second_pass(&self, mut write: impl FnMut(Vec<Row>) -> Result<()>) -> Result<ExportReport> {
        let mut report = ExportReport::default();
        let (sender, receiver) = sync_channel(WAITING);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for batch in self.rows.batches() {
                    let failed = batch.is_err();
                    // Whoever writes may have failed, and is gone then.
                    if sender.send(batch).is_err() || failed || self.is_cancelled() {
                        break;
                    }
                }
            });
            self.drain(receiver, &mut report, &mut write)
        })?;
        report.cancelled = self.is_cancelled();
        report.seconds = self.start.elapsed().as_secs_f64();
        Ok(report)
    }

    fn drain(
        &self,
        receiver: Receiver<Result<(u64, Vec<Row>)>>,
        report: &mut ExportReport,
        write: &mut impl FnMut(Vec<Row>) -> Result<()>,
    ) -> Result<()> {
        for batch in receiver {
            let (documents, rows) = batch?;
            if self.is_cancelled() {
                break;
            }
            report.documents += documents;
            report.rows += rows.len() as u64;
            if !rows.is_empty() {
                write(rows)?;
            }
            report.seconds = self.start.elapsed().as_secs_f64();
            if let Some(progress) = self.options.progress {
                progress(report);
            }
        }
        Ok(())
    }
}

/// What the first pass found.
#[cfg(feature = "parquet")]
struct Looked {
    ids: Ids,
    titled: bool,
    expiring: bool,
    vectors: Vec<VectorColumn>,
    chunk_vectors: Vec<VectorColumn>,
}

#[cfg(feature = "parquet")]
fn by_name(columns: &[VectorColumn]) -> std::collections::BTreeMap<String, String> {
    columns.iter().map(|column| (column.name.clone(), column.space.clone())).collect()
}

/// An error of what is being written; whoever knows its name puts it in.
#[cfg(feature = "parquet")]
fn failed_at(what: &str, error: std::io::Error) -> Error {
    Error::io(what, error)
}
