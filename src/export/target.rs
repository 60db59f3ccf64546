//! Where does an export go, and in which format?
//!
//! Invariant: until all is written and synced, it has another name; what fails leaves nothing behind.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::formats::row::{Place, Row};
use crate::types::{Document, Embedded};
use crate::{Error, Result};

/// Bytes that wait to be written.
const BUFFER: usize = 1 << 20;

/// How an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// Parquet, compressed with zstd. Needs the feature `parquet`.
    Parquet,
    /// An Arrow IPC file, which Feather 2 is, too. Needs the feature `parquet`.
    Arrow,
    /// An Arrow IPC stream. Needs the feature `parquet`.
    ArrowStream,
    /// A JSON object a line.
    JsonLines,
    /// The same, compressed with gzip. Needs the feature `parquet`.
    JsonLinesGzip,
    /// The same, compressed with zstd. Needs the feature `parquet`.
    JsonLinesZstd,
    /// CSV with a header: what a column holds is guessed by whoever reads it, and what would not come back from that guess
    /// stands as JSON in the column `metadata`. Needs the feature `parquet`.
    Csv,
    /// The same with tabs for commas. Needs the feature `parquet`.
    Tsv,
}

impl ExportFormat {
    /// What the ends of files' names mean.
    const ENDINGS: [(&str, Self); 12] = [
        (".parquet", Self::Parquet),
        (".arrow", Self::Arrow),
        (".feather", Self::Arrow),
        (".arrows", Self::ArrowStream),
        (".jsonl", Self::JsonLines),
        (".ndjson", Self::JsonLines),
        (".jsonl.gz", Self::JsonLinesGzip),
        (".ndjson.gz", Self::JsonLinesGzip),
        (".jsonl.zst", Self::JsonLinesZstd),
        (".ndjson.zst", Self::JsonLinesZstd),
        (".csv", Self::Csv),
        (".tsv", Self::Tsv),
    ];

    /// The format of a file of this name.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a name that ends in none that is known, naming those that are.
    pub fn of(path: &Path) -> Result<Self> {
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let found = Self::ENDINGS.iter().find(|(ending, _)| name.ends_with(ending));
        found.map(|(_, format)| *format).ok_or_else(|| {
            let known: Vec<&str> = Self::ENDINGS.iter().map(|(ending, _)| *ending).collect();
            Error::invalid(format!(
                "`{}` does not say what to write: let its name end in one of {}",
                path.display(),
                known.join(", ")
            ))
        })
    }

    #[cfg(not(feature = "parquet"))]
    pub(super) fn missing(self) -> Error {
        Error::FeatureMissing { what: format!("writing {self:?}"), feature: "parquet" }
    }
}

/// A file that is to be.
pub(super) struct Target {
    /// Where it will be.
    path: PathBuf,
    /// Where it is until it is whole.
    partial: PathBuf,
    overwrite: bool,
}

impl Target {
    /// Looks whether there can be such a file; makes none yet.
    pub(super) fn create(path: &Path, overwrite: bool) -> Result<Self> {
        // What a link leads to is replaced, and not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let (folder, name) = (folder_of(&path), path.file_name().unwrap_or_default().to_string_lossy());
        if !folder.is_dir() {
            return Err(Error::invalid(format!("there is no folder {}; make it first", folder.display())));
        }
        match fs::metadata(&path) {
            Ok(found) if !found.is_file() => {
                let path = path.display();
                return Err(Error::invalid(format!("{path} is there and is no file; choose another name, or `-`")));
            }
            Ok(_) if !overwrite => return Err(exists(&path)),
            Ok(_) | Err(_) => {}
        }
        let partial = folder.join(format!(".{name}.{}.partial", std::process::id()));
        Ok(Self { path, partial, overwrite })
    }

    /// The file to write to.
    pub(super) fn file(&self) -> Result<BufWriter<File>> {
        // One that is there was left by a process that is no more and had our number, or is another thread's.
        let file = OpenOptions::new().write(true).create_new(true).open(&self.partial);
        Ok(BufWriter::with_capacity(BUFFER, file.map_err(|error| Error::io(&self.partial, error))?))
    }

    /// An error of the writing with the file's name.
    pub(super) fn named(&self, error: Error) -> Error {
        if let Error::Io { source, .. } = error { Error::io(&self.path, source) } else { error }
    }

    /// Syncs the file and gives it its name; returns its size.
    pub(super) fn keep(&self, file: BufWriter<File>) -> Result<u64> {
        let named = |error| Error::io(&self.path, error);
        let file = file.into_inner().map_err(|error| named(error.into_error()))?;
        file.sync_all().map_err(named)?;
        let bytes = file.metadata().map_err(named)?.len();
        drop(file);
        if !self.overwrite && !self.link()? && self.path.exists() {
            return Err(exists(&self.path));
        }
        if self.partial.exists() {
            fs::rename(&self.partial, &self.path).map_err(named)?;
        }
        sync_folder(folder_of(&self.path)).map_err(named)?;
        Ok(bytes)
    }

    /// Gives the file its name unless another has it by now; `false` where the disk has no links.
    fn link(&self) -> Result<bool> {
        match fs::hard_link(&self.partial, &self.path) {
            Ok(()) => {
                fs::remove_file(&self.partial).map_err(|error| Error::io(&self.partial, error))?;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists(&self.path)),
            Err(_) => Ok(false),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Where it got its name, there is none.
        let _ = fs::remove_file(&self.partial);
    }
}

fn exists(path: &Path) -> Error {
    Error::invalid(format!("{} is there already; choose another name, or allow to overwrite it", path.display()))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    }
}

/// Makes the new name durable, where folders can be synced.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Writes rows as lines.
pub(super) struct JsonLines<W: Write> {
    out: Compressed<W>,
    models: BTreeMap<String, String>,
    line: Vec<u8>,
}

enum Compressed<W: Write> {
    Plain(W),
    #[cfg(feature = "parquet")]
    Gzip(flate2::write::GzEncoder<W>),
    #[cfg(feature = "parquet")]
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> JsonLines<W> {
    /// Begins; the vectors of chunks are of these models.
    pub(super) fn new(out: W, format: ExportFormat, models: BTreeMap<String, String>) -> Result<Self> {
        let out = match format {
            #[cfg(feature = "parquet")]
            ExportFormat::JsonLinesGzip => {
                Compressed::Gzip(flate2::write::GzEncoder::new(out, flate2::Compression::default()))
            }
            #[cfg(feature = "parquet")]
            ExportFormat::JsonLinesZstd => Compressed::Zstd(zstd::Encoder::new(out, 0).map_err(failed)?),
            #[cfg(not(feature = "parquet"))]
            ExportFormat::JsonLinesGzip | ExportFormat::JsonLinesZstd => return Err(format.missing()),
            ExportFormat::JsonLines
            | ExportFormat::Parquet
            | ExportFormat::Arrow
            | ExportFormat::ArrowStream
            | ExportFormat::Csv
            | ExportFormat::Tsv => Compressed::Plain(out),
        };
        Ok(Self { out, models, line: Vec::new() })
    }

    /// Writes a row.
    pub(super) fn row(&mut self, row: Row) -> Result<()> {
        self.line.clear();
        let written = match row.place.clone() {
            Some(place) => serde_json::to_writer(&mut self.line, &Line::of(&row, &place)),
            None => {
                let document = self.document(row);
                serde_json::to_writer(&mut self.line, &document)
            }
        };
        written.map_err(|error| failed(error.into()))?;
        self.line.push(b'\n');
        match &mut self.out {
            Compressed::Plain(out) => out.write_all(&self.line),
            #[cfg(feature = "parquet")]
            Compressed::Gzip(out) => out.write_all(&self.line),
            #[cfg(feature = "parquet")]
            Compressed::Zstd(out) => out.write_all(&self.line),
        }
        .map_err(failed)
    }

    fn document(&self, row: Row) -> Document {
        let Row { id, title, text, metadata, mut vectors, chunks, expires_at, place: _ } = row;
        let vector = vectors.remove(crate::config::DEFAULT_SPACE);
        let embedded = Embedded { models: self.models.clone(), chunks };
        let embedded = Some(Box::new(embedded)).filter(|embedded| !embedded.chunks.is_empty());
        let expires_at = expires_at.and_then(crate::moment::of_millis);
        Document { id, text, title, metadata: Value::Object(metadata), vector, vectors, expires_at, embedded }
    }

    /// Ends the lines.
    pub(super) fn finish(self) -> Result<W> {
        match self.out {
            Compressed::Plain(out) => Ok(out),
            #[cfg(feature = "parquet")]
            Compressed::Gzip(out) => out.finish().map_err(failed),
            #[cfg(feature = "parquet")]
            Compressed::Zstd(out) => out.finish().map_err(failed),
        }
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::io("the lines", error)
}

/// A chunk as a line.
#[derive(Serialize)]
struct Line<'a> {
    id: String,
    document: &'a quiverdb_storage::DocumentId,
    chunk: u32,
    start: usize,
    end: usize,
    heading: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    text: &'a str,
    metadata: &'a serde_json::Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<&'a Vec<f32>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    vectors: BTreeMap<&'a str, &'a Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl<'a> Line<'a> {
    fn of(row: &'a Row, place: &'a Place) -> Self {
        let Row { id, title, text, metadata, vectors, expires_at, .. } = row;
        let &Place { ordinal, start, end, ref heading } = place;
        let is_alone = vectors.len() == 1;
        let is_own = |name: &str| is_alone || name == crate::config::DEFAULT_SPACE;
        Self {
            id: format!("{id}#{ordinal}"),
            document: id,
            chunk: ordinal,
            start,
            end,
            heading,
            title: title.as_deref(),
            text,
            metadata,
            vector: vectors.iter().find(|(name, _)| is_own(name)).map(|(_, vector)| vector),
            vectors: vectors
                .iter()
                .filter(|(name, _)| !is_own(name))
                .map(|(name, vector)| (name.as_str(), vector))
                .collect(),
            expires_at: expires_at.and_then(crate::moment::rfc3339_of_millis),
        }
    }
}
