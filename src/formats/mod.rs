//! How do files become documents?
//!
//! A text file becomes one document, a JSON Lines file one a line. Documents come out one by one, at most one file is
//! in memory (of a JSON Lines file, one line), and what cannot be taken comes out as [`Rejected`] with its reason
//! while the rest goes on.
//!
//! Invariants: nothing is skipped in silence but what ignore files, hidden names and databases of ours exclude from a
//! folder; text that was not valid Unicode is marked (`"lossy": true` in the metadata) and counted.

mod decode;
mod files;
mod jsonl;
mod kinds;
mod walk;

use std::path::Path;

pub use self::files::Loader;
pub use self::jsonl::{Jsonl, load_jsonl};
use crate::types::{Document, Rejected};

/// What a source of documents yields.
pub type Loaded = std::result::Result<Document, Rejected>;

/// Reads a file, or every file below a folder in order of names.
///
/// A document's id is the file's path relative to the folder given, with forward slashes; of a file given itself, its
/// name. Its metadata hold `source` (the path as given), `modified` (UTC) and `media_type`; a Markdown file's title is
/// its first heading. In a folder, hidden files and what `.gitignore` and `.ignore` files exclude is passed over, and
/// links to folders are not followed.
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

/// A rejection of `source`.
fn rejected(source: impl Into<String>, reason: impl Into<String>) -> Rejected {
    Rejected { source: source.into(), reason: reason.into() }
}
