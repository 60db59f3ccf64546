//! Which documents are in these files?
//!
//! One file is open at a time. A file that cannot be read is rejected and the next one is tried.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value, json};

use super::decode::{Decoded, decode, is_binary, is_utf16};
use super::jsonl::{Jsonl, document, load_jsonl, looks_like_document, without_line};
use super::kinds::{Kind, kind};
use super::walk::{Walk, walk};
use super::{Loaded, rejected};
use crate::markdown::first_heading;
use crate::moment::rfc3339;
use crate::types::{Document, Rejected};

const BINARY: &str = "binary file; convert it to text, or name it in a file `.ignore` beside it";
const UNKNOWN: &str = "neither text in UTF-8 nor of a known kind; convert it to UTF-8, rename it to .txt to have what is no \
                       UTF-8 replaced, or name it in a file `.ignore` beside it";

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
}

/// A file that holds several documents, and the path that their `source` names.
struct Rows {
    source: String,
    documents: Documents,
}

enum Documents {
    Lines(Jsonl<Box<dyn BufRead + Send>>),
    Values(std::vec::IntoIter<Loaded>),
}

/// What one file holds.
enum Content {
    One(Document),
    Many(Rows),
}

impl Loader {
    pub(super) fn new(path: &Path) -> Self {
        let (root, files): (PathBuf, Walk) = if path.is_dir() {
            (path.to_owned(), walk(path))
        } else {
            let root = path.parent().unwrap_or(Path::new("")).to_owned();
            (root, Box::new(std::iter::once(Ok(path.to_owned()))))
        };
        Self { root, files, file: PathBuf::new(), rows: None, files_read: 0, lossy: 0 }
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
        let kind = kind(path);
        if let Kind::Unsupported(way_out) = kind {
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            return Err(reject(format!(".{extension} files are not supported by this version; {way_out}")));
        }
        let cannot = |error: std::io::Error| reject(format!("cannot be read: {error}"));
        let file = File::open(path).map_err(cannot)?;
        let modified = file.metadata().and_then(|metadata| metadata.modified()).ok().and_then(rfc3339);
        self.files_read += 1;
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let head = reader.fill_buf().map_err(cannot)?;
        if is_binary(head) {
            return Err(reject(BINARY.to_owned()));
        }
        if kind == Kind::JsonLines && !is_utf16(head) {
            let documents = Documents::Lines(load_jsonl(Box::new(reader), id));
            return Ok(Content::Many(Rows { source, documents }));
        }
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(cannot)?;
        let text = decode(bytes);
        if kind == Kind::Unknown && text.lossy {
            return Err(reject(UNKNOWN.to_owned()));
        }
        content(FileText { id, source, modified, kind, text })
    }
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

/// A file that was read as a whole.
struct FileText {
    id: String,
    source: String,
    modified: Option<String>,
    kind: Kind,
    text: Decoded,
}

/// The document or documents of a file's text.
fn content(file: FileText) -> Result<Content, Rejected> {
    Ok(match file.kind {
        Kind::JsonLines => {
            let reader: Box<dyn BufRead + Send> = Box::new(Cursor::new(file.text.text.into_bytes()));
            Content::Many(Rows { source: file.source, documents: Documents::Lines(load_jsonl(reader, file.id)) })
        }
        Kind::Json => match json_documents(&file)? {
            Some(documents) => {
                Content::Many(Rows { source: file.source, documents: Documents::Values(documents.into_iter()) })
            }
            None => Content::One(text_document(file, "application/json")),
        },
        Kind::Text(media_type) => Content::One(text_document(file, media_type)),
        Kind::Unknown | Kind::Unsupported(_) => Content::One(text_document(file, "text/plain")),
    })
}

fn text_document(file: FileText, media_type: &str) -> Document {
    let FileText { id, source, modified, kind: _, text: Decoded { text, lossy } } = file;
    let mut metadata = Map::new();
    metadata.insert("source".to_owned(), Value::String(source));
    if let Some(modified) = modified {
        metadata.insert("modified".to_owned(), Value::String(modified));
    }
    metadata.insert("media_type".to_owned(), json!(media_type));
    if lossy {
        metadata.insert("lossy".to_owned(), Value::Bool(true));
    }
    let title = if media_type == "text/markdown" { first_heading(&text) } else { None };
    Document { title, ..Document::new(id, text).metadata(Value::Object(metadata)) }
}

/// The documents of a JSON file that holds one or an array of them; `None` where it is any other JSON, or text of
/// another kind.
fn json_documents(file: &FileText) -> Result<Option<Vec<Loaded>>, Rejected> {
    let text = &file.text.text;
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) if was_to_be_json(text) => {
            let (line, what) = (error.line(), without_line(&error));
            let reason =
                format!("not valid JSON at line {line} ({what}); mend it, or rename it to .txt to add it as text");
            return Err(rejected(file.source.clone(), reason));
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
