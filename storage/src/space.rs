//! Is there room on the disk, and what if there is none?
//!
//! A write that would leave less than [`FREE_BYTES_MIN`] is refused before it begins: a transaction that runs into a full
//! disk costs the handle, and a disk that is quite full cannot be emptied by deleting, because a delete writes pages
//! before it frees any. For the case that others fill the disk there is the file `RESERVE`: the first delete or compaction
//! that meets a full disk removes it and has its room. It is made again when there is room for both.
//!
//! Invariants: what only removes is never refused; the reserve is never needed to read; its content means nothing.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(test)]
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use crate::{Error, Result};

/// What a delete is given.
pub(crate) const RESERVE_BYTES: u64 = 4 << 20;
/// What a write leaves free.
pub(crate) const FREE_BYTES_MIN: u64 = 8 << 20;
/// Its name in the database's folder.
pub(crate) const RESERVE: &str = "RESERVE";

/// The room that a database has.
#[derive(Debug)]
pub(crate) struct Space {
    /// `None` where the database lives in memory.
    folder: Option<PathBuf>,
    /// Whether the reserve is there.
    reserved: AtomicBool,
    #[cfg(test)]
    pretended: Mutex<Option<u64>>,
}

impl Space {
    /// The room in a database's folder.
    pub(crate) fn new(folder: Option<&Path>) -> Self {
        let whole = |folder: &Path| fs::metadata(folder.join(RESERVE)).is_ok_and(|file| file.len() == RESERVE_BYTES);
        Self {
            folder: folder.map(Path::to_owned),
            reserved: AtomicBool::new(folder.is_none_or(whole)),
            #[cfg(test)]
            pretended: Mutex::default(),
        }
    }

    /// The bytes that are free for us; `None` where the system does not tell.
    fn free(&self) -> Option<u64> {
        #[cfg(test)]
        if let Some(free) = *self.pretended.lock().unwrap_or_else(PoisonError::into_inner) {
            return Some(free);
        }
        fs4::available_space(self.folder.as_ref()?).ok()
    }

    #[cfg(test)]
    pub(crate) fn pretend(&self, free: Option<u64>) {
        *self.pretended.lock().unwrap_or_else(PoisonError::into_inner) = free;
    }

    /// Asks for room for a write of so many bytes.
    ///
    /// # Errors
    /// [`Error::DiskFull`] where it would leave too little.
    pub(crate) fn ask(&self, bytes: u64) -> Result<()> {
        self.renew();
        let needed = bytes.saturating_add(FREE_BYTES_MIN);
        match (self.free(), &self.folder) {
            (Some(free), Some(path)) if free < needed => Err(Error::DiskFull { path: path.clone(), needed, free }),
            _ => Ok(()),
        }
    }

    /// Before something is removed: gives the reserve up where there is less than it left.
    pub(crate) fn ask_to_remove(&self) {
        if self.free().is_some_and(|free| free < RESERVE_BYTES) {
            self.give_up();
        }
    }

    /// Removes the reserve; returns whether it was there.
    pub(crate) fn give_up(&self) -> bool {
        let Some(folder) = &self.folder else { return false };
        self.reserved.swap(false, Ordering::Relaxed) && fs::remove_file(folder.join(RESERVE)).is_ok()
    }

    /// Makes the reserve again where it is gone and there is room. What fails here is tried again at the next write.
    pub(crate) fn renew(&self) {
        let Some(folder) = self.folder.as_ref().filter(|_| !self.reserved.load(Ordering::Relaxed)) else { return };
        if self.free().is_some_and(|free| free >= RESERVE_BYTES + FREE_BYTES_MIN) {
            let path = folder.join(RESERVE);
            match write_reserve(&path) {
                Ok(()) => self.reserved.store(true, Ordering::Relaxed),
                Err(_) => drop(fs::remove_file(&path)),
            }
        }
    }

    /// Says in our words that the disk is full; passes other errors on.
    pub(crate) fn name(&self, error: Error) -> Error {
        #[allow(clippy::wildcard_enum_match_arm, reason = "all other errors stay what they are")]
        match error {
            Error::Io { path, source } if is_full(&source) => {
                let path = self.folder.clone().unwrap_or(path);
                Error::DiskFull { path, needed: FREE_BYTES_MIN, free: self.free().unwrap_or(0) }
            }
            other => other,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&error.kind())
}

/// Bytes that no file system packs into fewer.
fn write_reserve(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let mut bytes = vec![0; 1 << 20];
    for (place, word) in bytes.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&xxh3_64(&place.to_le_bytes()).to_le_bytes());
    }
    (0..RESERVE_BYTES >> 20).try_for_each(|_| file.write_all(&bytes))
}
