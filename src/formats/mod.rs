//! How do files become documents?
//!
//! A text file becomes one document, a JSON Lines file one a line. Documents come out one by one, at most one file is
//! in memory (of a JSON Lines file, one line), and what cannot be taken comes out as [`Rejected`] with its reason
//! while the rest goes on.
//!
//! Invariants: nothing is skipped in silence but what ignore files, hidden names and databases of ours exclude from a
//! folder; text that was not valid Unicode is marked (`"lossy": true` in the metadata) and counted.

#[cfg(feature = "parquet")]
pub mod columns;
mod encoding;
mod files;
#[cfg(feature = "documents")]
mod html;
mod jsonl;
mod kinds;
#[cfg(feature = "documents")]
mod office;
#[cfg(feature = "pdf")]
mod pdf;
pub(crate) mod row;
mod walk;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

pub use self::files::Loader;
pub use self::jsonl::{Jsonl, load_jsonl};
#[cfg(feature = "server")]
pub(crate) use self::jsonl::{document, short_digest};
use crate::types::{Document, Rejected};

/// The largest file that is read as a whole; JSON Lines are read line by line and may be of any size.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

/// What parts the pages of a text: a blank line and a form feed.
#[cfg(feature = "pdf")]
const PAGE_BREAK: &str = "\n\n\u{c}";

/// What a source of documents yields.
pub type Loaded = std::result::Result<Document, Rejected>;

/// Reads a file, or every file below a folder in order of names.
///
/// A document's id is the file's path relative to the folder given, with forward slashes; of a file given itself, its
/// name. Its metadata hold `source` (the path as given), `modified` (UTC) and `media_type`; a Markdown file's title is
/// its first heading. In a folder, hidden files and what `.gitignore` (in a repository), `.ignore` and `.quiverignore`
/// files exclude is passed over, and links to folders are not followed.
///
/// What is not plain text becomes some, as [`read`] says. A file that changes while it is read is read again; one that does
/// not come to rest is rejected, and so is one of more than [`FILE_BYTES_MAX`] bytes.
///
/// Pictures are rejected, unless [`Loader::with_images`] asks for them.
///
/// Folders need the feature `cli`; without it they are rejected with that reason.
///
/// ```
/// let folder = std::env::temp_dir().join(format!("quiverdb-formats-{}", std::process::id()));
/// std::fs::create_dir_all(&folder)?;
/// std::fs::write(folder.join("note.md"), "# A note\n\nThat is worth finding.\n")?;
/// for document in quiverdb::formats::load(&folder.join("note.md")) {
///     let document = document.map_err(|rejected| rejected.reason)?;
///     assert_eq!(document.id, "note.md".into());
///     assert_eq!(document.title.as_deref(), Some("A note"));
/// }
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(path: &Path) -> Loader {
    Loader::new(path)
}

/// The files below a folder (or the file itself) that [`load`] would read, in its order; no file is opened.
///
/// Together with the time and size of each, this tells what changed since a former look.
///
/// ```
/// let notes = std::path::Path::new("notes.md");
/// let mut paths = quiverdb::formats::files(notes);
/// assert!(paths.next().is_some_and(|path| path.is_ok_and(|path| path == notes)));
/// assert!(paths.next().is_none());
/// ```
pub fn files(path: &Path) -> impl Iterator<Item = std::result::Result<PathBuf, Rejected>> + Send {
    files::below(path).1
}

/// Reads some files of a folder, as [`load`] reads all of them: their ids are relative to the folder. What ignore files say
/// is not asked again.
pub fn load_some(folder: &Path, files: Vec<PathBuf>) -> Loader {
    Loader::of(folder, files)
}

/// The document in the bytes of a file with this name: its id and its `source` are the name, its text is what the file's
/// kind shows a reader. The kind is that of the name's extension; where that says nothing, that of the bytes.
///
/// | kind | text | metadata beside `media_type` |
/// |---|---|---|
/// | text, code | as it is; decoded where it is not UTF-8 | `encoding`, `lossy`; `language` of code |
/// | HTML, XHTML (feature `documents`) | Markdown of what is read: no navigation, headers, footers, asides, forms, scripts | `lang`, `description`, `author` |
/// | .docx, .odt (`documents`) | Markdown: headings, lists, tables, notes | `author`, `lang`, `description` |
/// | .pptx, .odp (`documents`) | a slide a page, with its notes | the same, `pages` |
/// | .xlsx, .ods (`documents`) | a heading a sheet, a row of a table each | the same |
/// | .epub (`documents`) | its chapters, as of HTML | the same |
/// | .pdf (feature `pdf`) | the text of its pages | `pages`, `pages_without_text`, `author` |
///
/// Pages are parted by form feeds; [`crate::Hit::page`] counts them. JSON that holds documents is read by [`load`] and
/// [`load_jsonl`] only.
///
/// Cost: linear in the bytes. At most 256 MiB are inflated from an archive, and a PDF may take a minute.
///
/// # Errors
/// [`Rejected`] with the name and the reason: a binary or damaged file, an encrypted one, one without text, one whose kind
/// needs a feature that this build lacks. No input makes it panic.
///
/// ```
/// let document = quiverdb::formats::read("notes/plan.md", b"# The plan\n\nNone yet.\n").map_err(|no| no.reason)?;
/// assert_eq!((document.id, document.title.as_deref()), ("notes/plan.md".into(), Some("The plan")));
/// assert!(quiverdb::formats::read("a.exe", b"MZ\0\0").is_err());
/// # Ok::<(), String>(())
/// ```
pub fn read(name: &str, bytes: &[u8]) -> Loaded {
    files::read(name, bytes)
}

/// What a reader of one kind of file makes of its bytes.
pub(crate) struct Extract {
    text: String,
    title: Option<String>,
    metadata: Map<String, Value>,
    /// Whether some of it could not be read and was replaced.
    lossy: bool,
}

/// Reads one kind of file; an error says why it cannot, and what helps.
type Reading = fn(&[u8]) -> std::result::Result<Extract, String>;

/// How many pages a text has that form feeds part.
#[cfg(feature = "documents")]
fn pages_of(text: &str) -> usize {
    1 + text.matches('\u{c}').count()
}

/// A rejection of `source`.
fn rejected(source: impl Into<String>, reason: impl Into<String>) -> Rejected {
    Rejected { source: source.into(), reason: reason.into() }
}

#[cfg(all(test, feature = "documents"))]
mod hostile_tests;
