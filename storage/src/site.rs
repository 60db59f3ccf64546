//! Is the database still where it was opened?
//!
//! A folder that is deleted, moved or replaced under a running process leaves that process with files that nobody finds
//! any more: it would go on to acknowledge what is lost when it ends. So each write first looks whether the names in the
//! folder still lead to the files that were opened.
//!
//! Invariant: nothing is changed here. Cost: two questions to the system a write, some microseconds.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use crate::files::io_error;
use crate::{Error, Result};

/// The files of a database, and which ones they were when it was opened.
#[derive(Debug)]
pub(crate) struct Site {
    folder: PathBuf,
    files: Vec<(PathBuf, Identity)>,
}

/// What tells a file from another of the same name.
#[cfg(unix)]
type Identity = (u64, u64);
/// Elsewhere the standard library does not tell, and a file that is open cannot be replaced that easily.
#[cfg(not(unix))]
type Identity = u8;

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {
    0
}

impl Site {
    /// Notes these files of a folder, whose path is absolute, as they are now. The folder's lock is held.
    ///
    /// # Errors
    /// [`Error::Io`] where one is not there.
    pub(crate) fn new(folder: &Path, names: &[&str]) -> Result<Self> {
        let file = |name: &&str| {
            let path = folder.join(name);
            let metadata = std::fs::metadata(&path).map_err(|source| io_error(&path, source))?;
            Ok((path, identity(&metadata)))
        };
        let files = names.iter().map(file).collect::<Result<_>>()?;
        Ok(Self { folder: folder.to_owned(), files })
    }

    /// Whether all is where it was.
    ///
    /// # Errors
    /// [`Error::Gone`] where it is not; [`Error::Io`] where the system does not tell.
    pub(crate) fn confirm(&self) -> Result<()> {
        for (path, expected) in &self.files {
            let gone =
                |what: &str| Error::Gone { path: self.folder.clone(), what: format!("{} {what}", path.display()) };
            match std::fs::metadata(path) {
                Ok(metadata) if identity(&metadata) == *expected => {}
                Ok(_) => return Err(gone("is another file than the one that was opened")),
                Err(error)
                    if [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory].contains(&error.kind()) =>
                {
                    return Err(gone("is not there any more"));
                }
                Err(source) => return Err(io_error(path, source)),
            }
        }
        Ok(())
    }
}
