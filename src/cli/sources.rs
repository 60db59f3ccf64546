//! Which documents and queries stand in these files?
//!
//! Joins the paths of the command line and [`quiverdb::formats`]; `-` is stdin. Paths are made absolute first, so that
//! a document's `source` tells two folders of the same name apart.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result};
use quiverdb::eval::{EvalQuery, Qrels, Queries};
use quiverdb::formats::{self, Loaded, Loader};
use quiverdb::types::Rejected;
use quiverdb::{Document, DocumentId, Image};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::args::Vector;
use super::session::Mistake;

/// The files and folders to read.
pub(crate) struct Sources {
    roots: Vec<PathBuf>,
    stdin: bool,
    /// The files that documents were read from so far.
    visited: RefCell<HashSet<PathBuf>>,
}

/// Looks whether all paths are there; reads nothing yet.
pub(crate) fn open(paths: &[PathBuf]) -> Result<Sources> {
    let mut sources = Sources { roots: Vec::new(), stdin: false, visited: RefCell::default() };
    for path in paths {
        if is_stdin(path) {
            sources.stdin = true;
            continue;
        }
        let root = path.canonicalize().map_err(|error| unreadable(path, error))?;
        // Whoever opens a pipe waits, and hears no Ctrl-C.
        let kind = root.metadata().map_err(|error| unreadable(path, error))?;
        if !kind.is_file() && !kind.is_dir() {
            let mistake = Mistake::new(format!("{} is neither a file nor a folder", path.display()));
            return Err(mistake.hint("`-` reads JSONL from stdin").into());
        }
        sources.roots.push(root);
    }
    Ok(sources)
}

impl Sources {
    /// The files and folders, absolute.
    pub(crate) fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Whether nothing but files and folders is to be read.
    pub(crate) fn are_files(&self) -> bool {
        !self.stdin
    }

    /// The files that were read.
    pub(crate) fn visited(&self) -> HashSet<PathBuf> {
        self.visited.borrow().clone()
    }

    /// Files that are there and were not read: new ones, and those that were renamed to where the walk had been already.
    /// From now on they count as read. With `images`, pictures are documents, too.
    pub(crate) fn late(&self, images: bool) -> Vec<Loaded> {
        let mut late = Vec::new();
        for root in &self.roots {
            let is_new = |file: &PathBuf| !self.visited.borrow().contains(file);
            let new: Vec<PathBuf> = formats::files(root).filter_map(Result::ok).filter(is_new).collect();
            self.visited.borrow_mut().extend(new.iter().cloned());
            late.extend(loader(formats::load_some(root_of(root), new), images));
        }
        late
    }

    /// All documents: those of stdin first, then path by path in the order of their names. Of two of one id from two
    /// files the second is rejected. With `images`, pictures are documents, too.
    pub(crate) fn documents(&self, images: bool) -> impl Iterator<Item = Loaded> {
        let stdin = self.stdin.then(|| formats::load_jsonl(io::stdin().lock(), "stdin").ids_from_content());
        let stdin = stdin.into_iter().flatten().map(|loaded| (PathBuf::from("stdin"), loaded));
        let files = self.roots.iter().flat_map(move |root| {
            let mut loader = loader(formats::load(root), images);
            std::iter::from_fn(move || {
                let loaded = loader.next()?;
                let file = loader.file().to_owned();
                if !self.visited.borrow().contains(&file) {
                    self.visited.borrow_mut().insert(file.clone());
                }
                Some((file, loaded))
            })
        });
        let one_file = self.roots.len() + usize::from(self.stdin) == 1 && self.roots.iter().all(|root| root.is_file());
        let mut origins = (!one_file).then(Origins::default);
        stdin.chain(files).map(move |(file, loaded)| match &mut origins {
            Some(origins) => loaded.and_then(|document| origins.claim(&file, document)),
            None => loaded,
        })
    }
}

/// A loader that takes pictures where `images` says so.
pub(crate) fn loader(loader: Loader, images: bool) -> Loader {
    if images { loader.with_images() } else { loader }
}

/// The folder that the ids of a root's files are relative to.
pub(crate) fn root_of(root: &Path) -> &Path {
    if root.is_dir() { root } else { root.parent().unwrap_or(Path::new("")) }
}

/// Which file each id of this run came from.
#[derive(Default)]
struct Origins {
    files: HashMap<DocumentId, Rc<Path>>,
    /// The last one, shared by its rows.
    last: Option<Rc<Path>>,
}

impl Origins {
    /// Takes a document, unless another file has brought its id: it would replace that one's in silence. Rows of one
    /// file may do so.
    fn claim(&mut self, file: &Path, document: Document) -> Loaded {
        let last = self.last.take().filter(|last| **last == *file).unwrap_or_else(|| file.into());
        self.last = Some(Rc::clone(&last));
        let first = self.files.entry(document.id.clone()).or_insert(last);
        if **first == *file {
            return Ok(document);
        }
        let is_file = file.ends_with(document.id.to_string());
        let way_out = if is_file {
            "add their common parent, or use another collection"
        } else {
            "give them ids of their own, or add the two one after the other to have the later one replace it"
        };
        let reason = format!("id `{}` is also that of {}; {way_out}", document.id, first.display());
        Err(Rejected { source: file.display().to_string(), reason })
    }
}

/// The queries of a JSONL file of `{"_id", "text"}`; `-` is stdin.
pub(crate) fn queries(file: &Path) -> Result<Vec<EvalQuery>> {
    let queries = if is_stdin(file) { Queries::parse(&stdin()?, "stdin") } else { Queries::read(present(file)?) };
    Ok(queries?.queries)
}

/// The judgements of a file; `-` is stdin.
pub(crate) fn qrels(file: &Path) -> Result<Qrels> {
    Ok(if is_stdin(file) { Qrels::parse(&stdin()?, "stdin") } else { Qrels::read(present(file)?) }?)
}

/// The vector that a file holds; `-` is stdin.
pub(crate) fn vector(file: &Path) -> Result<Vector> {
    let text = io::read_to_string(reader(file)?).with_context(|| file.display().to_string())?;
    Ok(text.parse().map_err(|reason: String| Mistake::new(format!("{}: {reason}", file.display())))?)
}

fn stdin() -> Result<String> {
    io::read_to_string(io::stdin()).context("stdin")
}

fn present(file: &Path) -> Result<&Path> {
    file.metadata().map_err(|error| unreadable(file, error))?;
    Ok(file)
}

/// The texts of a JSONL file; `-` is stdin.
pub(crate) fn texts(file: &Path) -> Result<Vec<String>> {
    let text = |row: Value| row.get("text").and_then(Value::as_str).map(str::to_owned);
    Ok(rows(file)?.into_iter().filter_map(text).collect())
}

/// The objects of a JSONL file, blank lines left out.
pub(crate) fn rows<T: DeserializeOwned>(file: &Path) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    for (number, line) in reader(file)?.lines().enumerate() {
        let line = line.with_context(|| file.display().to_string())?;
        if line.trim().is_empty() {
            continue;
        }
        let row = serde_json::from_str(&line)
            .map_err(|error| Mistake::new(format!("{}, line {}: {error}", file.display(), number + 1)))?;
        rows.push(row);
    }
    Ok(rows)
}

/// A file's bytes; `-` is stdin.
pub(crate) fn reader(file: &Path) -> Result<Box<dyn BufRead>> {
    if is_stdin(file) {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let opened = std::fs::File::open(file).map_err(|error| unreadable(file, error))?;
    Ok(Box::new(BufReader::new(opened)))
}

/// The picture in a file.
pub(crate) fn image(file: &Path) -> Result<Image> {
    Ok(Image::open(present(file)?)?)
}

pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A path that is not there was mistyped; anything else is the system's.
pub(crate) fn unreadable(path: &Path, error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::NotFound {
        return Mistake::new(format!("there is no file or folder {}", path.display())).into();
    }
    anyhow::Error::from(error).context(path.display().to_string())
}
