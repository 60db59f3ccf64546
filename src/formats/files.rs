//! Which documents are in these files?
//!
//! One file is open at a time. A file that cannot be read is rejected and the next one is tried.

use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

#[cfg(feature = "parquet")]
use super::columns::{Table, TableOptions};
use super::encoding::{decode, is_binary, is_wide};
use super::jsonl::{Jsonl, document, load_jsonl, looks_like_document, without_line};
use super::kinds::{Kind, kind, language, sniffed};
use super::walk::{Walk, walk};
use super::{Extract, FILE_BYTES_MAX, Loaded, Reading, rejected};
use crate::markdown::first_heading;
use crate::moment::rfc3339;
use crate::types::{Document, Rejected};

const BINARY: &str = "binary file; convert it to text, or name it in a file `.ignore` beside it";
const UNKNOWN: &str = "neither text in UTF-8 nor of a known kind; convert it to UTF-8, rename it to .txt to have what is no \
                       UTF-8 replaced, or name it in a file `.ignore` beside it";
/// How often a file that changes while it is read is read.
const READS_MAX: usize = 3;

const IMAGE: &str = "a picture; a collection whose model reads images takes it, as one with the model clip-ViT-B-32 does; \
                     else name it in a file `.ignore` beside it";

/// Documents of a file or folder, one by one. Made by [`super::load`].
pub struct Loader {
    /// Ids are relative to this folder.
    root: PathBuf,
    files: Walk,
    /// The one that was opened last.
    file: PathBuf,
    rows: Option<Rows>,
    files_read: u64,
    lossy: u64,
    /// Whether pictures are documents.
    images: bool,
}

/// A file that holds several documents, and the path that their `source` names.
struct Rows {
    source: String,
    documents: Documents,
}

enum Documents {
    Lines(Jsonl<Box<dyn BufRead + Send>>),
    Values(std::vec::IntoIter<Loaded>),
    /// A file of rows; nothing after it turned out to be damaged.
    #[cfg(feature = "parquet")]
    Table(Option<Box<Table>>),
}

/// The next document of a file of rows.
#[cfg(feature = "parquet")]
fn next_of(rows: &mut Option<Box<Table>>, source: &str) -> Option<Loaded> {
    match rows.as_mut()?.next_row() {
        Ok(row) => Some(row?.document.map_err(|bad| bad.rejected())),
        Err(error) => {
            *rows = None;
            Some(Err(rejected(source, error.to_string())))
        }
    }
}

/// What one file holds.
enum Content {
    One(Document),
    Many(Rows),
}

impl Loader {
    pub(super) fn new(path: &Path) -> Self {
        let (root, files) = below(path);
        Self { root, files, file: PathBuf::new(), rows: None, files_read: 0, lossy: 0, images: false }
    }

    /// Takes PNG, JPEG, WebP and GIF files, too: each becomes a document without a vector, which is the caller's to make
    /// ([`crate::Collection::embed_images`]), with the file's name as its text and its `media_type`. Nothing of them is read.
    #[must_use]
    pub fn with_images(mut self) -> Self {
        self.images = true;
        self
    }

    /// These files of a folder.
    pub(super) fn of(root: &Path, files: Vec<PathBuf>) -> Self {
        let files: Walk = Box::new(files.into_iter().map(Ok));
        Self { root: root.to_owned(), files, file: PathBuf::new(), rows: None, files_read: 0, lossy: 0, images: false }
    }

    /// The file that the last document came from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// How many files were opened so far.
    pub fn files_read(&self) -> u64 {
        self.files_read
    }

    /// How many documents so far had bytes replaced because they were not valid Unicode; their metadata say
    /// `"lossy": true`.
    pub fn lossy(&self) -> u64 {
        self.lossy
    }

    /// The next document of the file that holds several, while there is one.
    fn next_row(&mut self) -> Option<Loaded> {
        let Rows { source, documents } = self.rows.as_mut()?;
        let row = match documents {
            Documents::Lines(lines) => {
                let before = lines.lossy();
                let row = lines.next();
                self.lossy += lines.lossy() - before;
                row
            }
            Documents::Values(values) => values.next(),
            #[cfg(feature = "parquet")]
            Documents::Table(rows) => next_of(rows, source),
        };
        let Some(row) = row else {
            self.rows = None;
            return None;
        };
        Some(row.map(|document| with_source(document, source)))
    }

    fn open(&mut self, path: &Path) -> Result<Content, Rejected> {
        path.clone_into(&mut self.file);
        let source = path.to_string_lossy().into_owned();
        let reject = |reason: String| rejected(source.clone(), reason);
        let id = relative_id(&self.root, path).map_err(reject)?;
        #[cfg(feature = "parquet")]
        if Table::reads(path) {
            let table = Table::open(path, &id, TableOptions::default()).map_err(|error| reject(error.to_string()))?;
            self.files_read += 1;
            return Ok(Content::Many(Rows { source, documents: Documents::Table(Some(Box::new(table))) }));
        }
        let kind = kind(path);
        if let Kind::Image(media_type) = kind
            && self.images
        {
            let document = picture(id, source.clone(), path, media_type).map_err(reject)?;
            self.files_read += 1;
            return Ok(Content::One(document));
        }
        refuse(kind, path).map_err(reject)?;
        self.files_read += 1;
        let file = SourceFile { id, source: source.clone(), modified: None, kind };
        if let Some(rows) = lines(path, &file).map_err(reject)? {
            return Ok(Content::Many(rows));
        }
        let (bytes, metadata) = at_rest(path).map_err(reject)?;
        let modified = metadata.modified().ok().and_then(rfc3339);
        content(SourceFile { modified, ..file }, bytes).map_err(reject)
    }
}

/// The folder that ids are relative to, and the files to read.
pub(super) fn below(path: &Path) -> (PathBuf, Walk) {
    if path.is_dir() {
        return (path.to_owned(), walk(path));
    }
    let root = path.parent().unwrap_or(Path::new("")).to_owned();
    (root, Box::new(std::iter::once(Ok(path.to_owned()))))
}

/// The document in the bytes of a file of this name.
pub(super) fn read(name: &str, bytes: &[u8]) -> Loaded {
    let path = Path::new(name);
    let kind = kind(path);
    let file = SourceFile { id: name.to_owned(), source: name.to_owned(), modified: None, kind };
    let read = || {
        refuse(kind, path)?;
        match kind {
            Kind::JsonLines => Err("JSON Lines hold several documents; read them with `load_jsonl`".to_owned()),
            Kind::Json => text_document(file, "application/json", bytes.to_vec()),
            Kind::Text(_)
            | Kind::Unknown
            | Kind::Parsed(..)
            | Kind::Missing(_)
            | Kind::Image(_)
            | Kind::Unsupported(_) => one(file, bytes.to_vec()),
        }
    };
    read().map_err(|reason| rejected(name, reason))
}

/// Refuses what no reader is here for.
fn refuse(kind: Kind, path: &Path) -> Result<(), String> {
    let extension = || path.extension().unwrap_or_default().to_string_lossy().into_owned();
    match kind {
        Kind::Unsupported(way_out) => {
            Err(format!(".{} files are not supported by this version; {way_out}", extension()))
        }
        Kind::Missing(feature) => Err(missing(feature)),
        Kind::Image(_) => Err(IMAGE.to_owned()),
        Kind::Text(_) | Kind::Unknown | Kind::JsonLines | Kind::Json | Kind::Parsed(..) => Ok(()),
    }
}

fn missing(feature: &str) -> String {
    format!("reading such files needs the feature `{feature}`: build with `--features {feature}` (`full` has it)")
}

/// The documents of a file that is read line by line; `None` where it is to be read as a whole.
fn lines(path: &Path, file: &SourceFile) -> Result<Option<Rows>, String> {
    if !matches!(file.kind, Kind::JsonLines) {
        return Ok(None);
    }
    let opened = File::open(path).map_err(cannot)?;
    let mut reader = BufReader::with_capacity(64 * 1024, opened);
    let head = reader.fill_buf().map_err(cannot)?;
    if is_binary(head) {
        return Err(BINARY.to_owned());
    }
    if is_wide(head) {
        return Ok(None);
    }
    let documents = Documents::Lines(load_jsonl(Box::new(reader), file.id.clone()));
    Ok(Some(Rows { source: file.source.clone(), documents }))
}

fn cannot(error: std::io::Error) -> String {
    format!("cannot be read: {error}")
}

/// The bytes of a file as they were at one moment: it is read again where it changed meanwhile.
fn at_rest(path: &Path) -> Result<(Vec<u8>, Metadata), String> {
    for _ in 0..READS_MAX {
        let file = File::open(path).map_err(cannot)?;
        let before = file.metadata().map_err(cannot)?;
        if before.len() > FILE_BYTES_MAX {
            return Err(too_large(before.len()));
        }
        let mut bytes = Vec::new();
        (&file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(too_large(bytes.len() as u64));
        }
        let after = file.metadata().map_err(cannot)?;
        let is_same = before.len() == after.len() && before.modified().ok() == after.modified().ok();
        if is_same || !before.is_file() {
            return Ok((bytes, after));
        }
    }
    Err("it changed each time while it was read; add it again when it is at rest".to_owned())
}

fn too_large(bytes: u64) -> String {
    let most = FILE_BYTES_MAX >> 20;
    format!(
        "it has {bytes} bytes; {most} MiB are read at most. Split it, or make it JSON Lines, which may have any size"
    )
}

impl Iterator for Loader {
    type Item = Loaded;

    fn next(&mut self) -> Option<Loaded> {
        loop {
            if let Some(row) = self.next_row() {
                return Some(row);
            }
            let content = self.files.next()?.and_then(|path| self.open(&path));
            match content {
                Ok(Content::Many(rows)) => self.rows = Some(rows),
                Ok(Content::One(document)) => {
                    self.lossy += u64::from(document.metadata.get("lossy").is_some());
                    return Some(Ok(document));
                }
                Err(rejected) => return Some(Err(rejected)),
            }
        }
    }
}

/// What is known of a file beside its bytes.
struct SourceFile {
    id: String,
    source: String,
    modified: Option<String>,
    kind: Kind,
}

/// The document or documents in a file's bytes.
fn content(file: SourceFile, bytes: Vec<u8>) -> Result<Content, String> {
    match file.kind {
        Kind::JsonLines => {
            let text = decode(bytes).text;
            let reader: Box<dyn BufRead + Send> = Box::new(Cursor::new(text.into_bytes()));
            Ok(Content::Many(Rows { source: file.source, documents: Documents::Lines(load_jsonl(reader, file.id)) }))
        }
        Kind::Json => {
            if is_binary(&bytes) {
                return Err(BINARY.to_owned());
            }
            match json_documents(&file, &bytes)? {
                Some(documents) => {
                    let documents = Documents::Values(documents.into_iter());
                    Ok(Content::Many(Rows { source: file.source, documents }))
                }
                None => text_document(file, "application/json", bytes).map(Content::One),
            }
        }
        Kind::Text(_) | Kind::Unknown | Kind::Parsed(..) | Kind::Missing(_) | Kind::Image(_) | Kind::Unsupported(_) => {
            one(file, bytes).map(Content::One)
        }
    }
}

/// The document of a file that holds one.
fn one(file: SourceFile, bytes: Vec<u8>) -> Result<Document, String> {
    let is_named = Path::new(&file.id).extension().is_some();
    let is_sniffed = matches!(file.kind, Kind::Unknown) || (matches!(file.kind, Kind::Text(_)) && !is_named);
    let kind = if is_sniffed { sniffed(&bytes).unwrap_or(file.kind) } else { file.kind };
    match kind {
        Kind::Parsed(media_type, reading) => Ok(titled(file, media_type, fenced(reading, &bytes)?)),
        Kind::Missing(feature) => Err(missing(feature)),
        Kind::Text(media_type) => text_document(file, media_type, bytes),
        Kind::Unknown if !is_binary(&bytes) && std::str::from_utf8(&bytes).is_err() && !is_wide(&bytes) => {
            Err(UNKNOWN.to_owned())
        }
        Kind::Unknown | Kind::Unsupported(_) | Kind::Image(_) | Kind::Json | Kind::JsonLines => {
            text_document(file, "text/plain", bytes)
        }
    }
}

/// Reads with a reader that other people's code is part of.
fn fenced(reading: Reading, bytes: &[u8]) -> Result<Extract, String> {
    catch_unwind(AssertUnwindSafe(|| reading(bytes))).unwrap_or_else(|_| {
        Err("it is damaged in a way that its reader does not survive; save or copy it again".to_owned())
    })
}

/// The document of a picture: its name, and nothing of what is in it.
fn picture(id: String, source: String, path: &Path, media_type: &'static str) -> Result<Document, String> {
    let metadata = File::open(path).and_then(|file| file.metadata()).map_err(cannot)?;
    let modified = metadata.modified().ok().and_then(rfc3339);
    let text = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = SourceFile { id, source, modified, kind: Kind::Image(media_type) };
    Ok(titled(file, media_type, Extract { text, title: None, metadata: Map::new(), lossy: false }))
}

fn text_document(file: SourceFile, media_type: &str, bytes: Vec<u8>) -> Result<Document, String> {
    if is_binary(&bytes) {
        return Err(BINARY.to_owned());
    }
    let decoded = decode(bytes);
    let title = if media_type == "text/markdown" { first_heading(&decoded.text) } else { None };
    let mut metadata = Map::new();
    let said = [("language", language(media_type)), ("encoding", decoded.encoding)];
    for (key, value) in said {
        if let Some(value) = value {
            metadata.insert(key.to_owned(), value.into());
        }
    }
    Ok(titled(file, media_type, Extract { text: decoded.text, title, metadata, lossy: decoded.lossy }))
}

/// The document of what was made of a file.
fn titled(file: SourceFile, media_type: &str, extract: Extract) -> Document {
    let Extract { text, title, metadata: said, lossy } = extract;
    let mut metadata = Map::new();
    metadata.insert("source".to_owned(), Value::String(file.source));
    if let Some(modified) = file.modified {
        metadata.insert("modified".to_owned(), Value::String(modified));
    }
    metadata.insert("media_type".to_owned(), media_type.into());
    metadata.extend(said);
    if lossy {
        metadata.insert("lossy".to_owned(), Value::Bool(true));
    }
    Document { title, ..Document::new(file.id, text).metadata(Value::Object(metadata)) }
}

/// The documents of a JSON file that holds one or an array of them; `None` where it is any other JSON, or text of
/// another kind.
fn json_documents(file: &SourceFile, bytes: &[u8]) -> Result<Option<Vec<Loaded>>, String> {
    let text = decode(bytes.to_vec()).text;
    let value: Value = match serde_json::from_str(&text) {
        Ok(value) => value,
        Err(error) if was_to_be_json(&text) => {
            let (line, what) = (error.line(), without_line(&error));
            return Err(format!(
                "not valid JSON at line {line} ({what}); mend it, or rename it to .txt to add it as text"
            ));
        }
        Err(_) => return Ok(None),
    };
    let first = value.get(0).unwrap_or(&value);
    if !looks_like_document(first) {
        return Ok(None);
    }
    let values = if let Value::Array(values) = value { values } else { vec![value] };
    let load = |(at, value): (usize, Value)| {
        let number = at + 1;
        document(value, || format!("{}#{number}", file.id))
            .map_err(|reason| rejected(format!("{}#{number}", file.source), format!("document {number}: {reason}")))
    };
    Ok(Some(values.into_iter().enumerate().map(load).collect()))
}

/// Whether a text that is no JSON may be the beginning of some, as in a file that is being written. Taken for a text, it
/// would stand for the documents that were in the file before.
fn was_to_be_json(text: &str) -> bool {
    matches!(text.trim_start().bytes().next(), None | Some(b'{' | b'['))
}

/// Rows say where they come from, unless they say something else themselves.
fn with_source(mut document: Document, source: &str) -> Document {
    if let Value::Object(metadata) = &mut document.metadata {
        metadata.entry("source").or_insert_with(|| Value::String(source.to_owned()));
    }
    document
}

/// The path below the root with forward slashes.
fn relative_id(root: &Path, path: &Path) -> Result<String, String> {
    let relative = path.strip_prefix(root).unwrap_or(path);
    let mut id = String::new();
    for component in relative.components() {
        let Component::Normal(name) = component else { continue };
        let name = name.to_str().ok_or("its name is not valid Unicode, so it cannot be an id; rename it")?;
        if !id.is_empty() {
            id.push('/');
        }
        id.push_str(name);
    }
    if id.is_empty() { Err("it has no name to be its id".to_owned()) } else { Ok(id) }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
