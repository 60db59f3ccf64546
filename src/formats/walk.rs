//! Which files are in this folder?
//!
//! In order of names, lazily. Hidden files, what `.gitignore` (in a repository), `.ignore` and `.quiverignore` files
//! exclude, and databases of ours are passed over; links to folders are not followed, so there are no loops. The user's global
//! ignore file is not asked: the same folder gives the same documents on every machine.

use std::path::{Path, PathBuf};

use super::rejected;
use crate::types::Rejected;

/// The files of a folder.
pub(super) type Walk = Box<dyn Iterator<Item = Result<PathBuf, Rejected>> + Send>;

/// The file that makes a folder a database of ours.
#[cfg(feature = "cli")]
const DATABASE_FILE: &str = "data.redb";

/// What is not to be found here, in the syntax of `.gitignore`.
#[cfg(feature = "cli")]
const IGNORE_FILE: &str = ".quiverignore";

/// Walks a folder.
#[cfg(feature = "cli")]
pub(super) fn walk(folder: &Path) -> Walk {
    let root = folder.to_owned();
    let entries = ignore::WalkBuilder::new(folder)
        .follow_links(false)
        .git_global(false)
        .add_custom_ignore_filename(IGNORE_FILE)
        .sort_by_file_name(Ord::cmp)
        .filter_entry(|entry| !entry.path().join(DATABASE_FILE).is_file())
        .build();
    Box::new(entries.filter_map(move |entry| match entry {
        Ok(entry) => file(&entry),
        Err(error) => Some(Err(unreadable(&root, &error))),
    }))
}

/// Without the feature that brings the walker, a folder is one rejection.
#[cfg(not(feature = "cli"))]
pub(super) fn walk(folder: &Path) -> Walk {
    let reason = "reading folders needs the feature `cli`: build with `--features cli`, or give its files one by one";
    Box::new(std::iter::once(Err(rejected(folder.to_string_lossy(), reason))))
}

/// The file of an entry; folders are none.
#[cfg(feature = "cli")]
fn file(entry: &ignore::DirEntry) -> Option<Result<PathBuf, Rejected>> {
    let path = entry.path();
    let kind = entry.file_type()?;
    let reject = |reason: &str| Some(Err(rejected(path.to_string_lossy(), reason)));
    if kind.is_file() {
        return Some(Ok(path.to_owned()));
    }
    if kind.is_dir() {
        return None;
    }
    if !kind.is_symlink() {
        return reject("neither a file nor a folder");
    }
    match path.metadata() {
        Ok(target) if target.is_file() => Some(Ok(path.to_owned())),
        Ok(target) if target.is_dir() => reject("links to folders are not followed; give that folder itself"),
        Ok(_) => reject("a link to neither a file nor a folder"),
        Err(_) => reject("a link to nothing"),
    }
}

#[cfg(feature = "cli")]
fn unreadable(root: &Path, error: &ignore::Error) -> Rejected {
    let mut source = root.to_string_lossy().into_owned();
    let mut inner = error;
    loop {
        if let ignore::Error::WithPath { path, err } = inner {
            source = path.to_string_lossy().into_owned();
            inner = err;
        } else if let ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } = inner {
            inner = err;
        } else {
            return rejected(source, format!("cannot be read: {inner}"));
        }
    }
}
