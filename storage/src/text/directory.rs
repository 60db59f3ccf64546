//! How does tantivy read the files of a segment's folder, believing nothing that was not verified?
//!
//! Every read goes through [`CheckedFile::get`]; what it returns points into the memory map and keeps it alive, so
//! nothing is copied.
//!
//! Invariants: nothing is written, locked or watched; damage comes back as an I/O error that says where it is.

use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stable_deref_trait::StableDeref;
use tantivy::directory::error::{DeleteError, OpenReadError, OpenWriteError};
use tantivy::directory::{Directory, FileHandle, OwnedBytes, WatchCallback, WatchHandle, WritePtr};
use tantivy::{HasLen, Result};

use crate::segment::{CheckedFile, SegmentFolder};

/// A finished folder, as tantivy sees it.
#[derive(Clone, Debug)]
pub(super) struct FolderDirectory(pub(super) SegmentFolder);

/// A file of it.
#[derive(Debug)]
struct FolderFile(Arc<CheckedFile>);

/// A part of a file that was verified.
struct Verified {
    file: Arc<CheckedFile>,
    range: Range<usize>,
}

impl Deref for Verified {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.file.verified(self.range.clone())
    }
}

// SAFETY: The bytes lie in the memory map of `file`, which is neither moved nor unmapped before the last `Arc` of it goes,
// and `range` never changes; so all calls of `deref` return the same address, also after a `Verified` has moved.
#[allow(unsafe_code, reason = "tantivy asks for this promise before it reads without copying")]
unsafe impl StableDeref for Verified {}

impl HasLen for FolderFile {
    fn len(&self) -> usize {
        self.0.len()
    }
}

impl FileHandle for FolderFile {
    fn read_bytes(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        self.0.get(range.clone()).map_err(invalid)?;
        Ok(OwnedBytes::new(Verified { file: Arc::clone(&self.0), range }))
    }
}

impl FolderDirectory {
    fn file(&self, path: &Path) -> std::result::Result<Arc<CheckedFile>, OpenReadError> {
        let missing = || OpenReadError::FileDoesNotExist(path.to_owned());
        let name = path.to_str().filter(|name| self.0.has(name)).ok_or_else(missing)?;
        self.0.file(name).map_err(|error| OpenReadError::wrap_io_error(invalid(error), path.to_owned()))
    }
}

impl Directory for FolderDirectory {
    fn get_file_handle(&self, path: &Path) -> std::result::Result<Arc<dyn FileHandle>, OpenReadError> {
        Ok(Arc::new(FolderFile(self.file(path)?)))
    }

    fn exists(&self, path: &Path) -> std::result::Result<bool, OpenReadError> {
        Ok(path.to_str().is_some_and(|name| self.0.has(name)))
    }

    fn atomic_read(&self, path: &Path) -> std::result::Result<Vec<u8>, OpenReadError> {
        let file = self.file(path)?;
        let bytes = file.get(0..file.len());
        let bytes = bytes.map_err(|error| OpenReadError::wrap_io_error(invalid(error), path.to_owned()))?;
        Ok(bytes.to_vec())
    }

    fn delete(&self, path: &Path) -> std::result::Result<(), DeleteError> {
        Err(DeleteError::IoError { io_error: Arc::new(read_only()), filepath: path.to_owned() })
    }

    fn open_write(&self, path: &Path) -> std::result::Result<WritePtr, OpenWriteError> {
        Err(OpenWriteError::wrap_io_error(read_only(), PathBuf::from(path)))
    }

    fn atomic_write(&self, _path: &Path, _data: &[u8]) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn watch(&self, _callback: WatchCallback) -> Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}

fn invalid(error: crate::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the folder of a sealed segment never changes")
}
