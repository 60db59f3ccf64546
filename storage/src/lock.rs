//! Who has this database open?
//!
//! The file `LOCK` in the database's folder is locked for as long as a [`Lock`] lives, and holds the process number of
//! its owner as text. The system drops the lock when the process ends, however it ends, so a leftover file locks nobody
//! out. A second opener fails at once, in the same process too; nothing ever waits here.
//!
//! Whoever closes the database as it should be empties the file. So the next owner learns whether the last one did.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::{Error, Result};

/// Its name in the database's folder.
pub(crate) const NAME: &str = "LOCK";

/// Holds the folder's lock until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    was_left: bool,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file alone would leave it locked as long as a process lives that was forked meanwhile and has a copy
        // of the descriptor: for the moment between fork and exec, wherever the application runs a command.
        let _ = self.file.unlock();
    }
}

impl Lock {
    /// Locks a folder.
    ///
    /// # Errors
    /// [`Error::Locked`] naming the holder; [`Error::Io`] where the file cannot be made.
    pub(crate) fn acquire(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let io = |source| Error::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        refuse_link(&path)?;
        let mut file = options.open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked { path: folder.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let own = std::process::id();
        let was_left = file.metadata().map_err(io)?.len() > 0;
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{own}"));
        // Synced, or a loss of power would look like a database that was closed. A full disk must not keep it closed.
        match written.and_then(|()| file.sync_data()) {
            Err(error) if error.kind() != std::io::ErrorKind::StorageFull => Err(io(error)),
            Ok(()) | Err(_) => Ok(Self { file, was_left }),
        }
    }

    /// Whether the last owner died, or the disk failed under it.
    pub(crate) fn was_left(&self) -> bool {
        self.was_left
    }

    /// Notes that the database is closed as it should be. Where that fails, the next owner has some needless work.
    pub(crate) fn clear(&self) {
        let _ = self.file.set_len(0);
    }
}

/// Refuses a `LOCK` that is no file of ours: through a link we would write into a stranger's file.
fn refuse_link(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => {
            let what = "it is no plain file; remove it, and see who put it there";
            Err(Error::Io { path: path.to_owned(), source: std::io::Error::other(what) })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Names the process whose number stands in the file. It may not have written it yet, and Windows does not let us read.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(32).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(number)) if number == std::process::id() => format!("this process ({number})"),
        (Ok(_), Ok(number)) => format!("process {number}"),
        (Ok(_) | Err(_), _) => "another process".into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_fails_at_once_and_names_the_holder() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(folder.path()).unwrap();
        let error = Lock::acquire(folder.path()).unwrap_err();
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(lock);
        Lock::acquire(folder.path()).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_place_of_the_lock_is_refused_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        std::fs::write(&precious, "data").unwrap();
        std::os::unix::fs::symlink(&precious, folder.path().join(NAME)).unwrap();
        assert!(Lock::acquire(folder.path()).unwrap_err().to_string().contains("plain file"));
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "data");
    }

    #[test]
    fn a_lock_file_left_by_the_dead_locks_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAME), "4000000000 and some rubbish after it").unwrap();
        Lock::acquire(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert_eq!(text.trim(), std::process::id().to_string());
    }

    #[test]
    fn a_copy_of_the_descriptor_in_a_forked_process_does_not_keep_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(folder.path()).unwrap();
        let forked = lock.file.try_clone().unwrap();
        drop(lock);
        Lock::acquire(folder.path()).unwrap();
        drop(forked);
    }

    #[test]
    fn the_next_owner_learns_how_the_last_one_ended() {
        let folder = tempfile::tempdir().unwrap();
        let acquire = || Lock::acquire(folder.path()).unwrap();
        assert!(!acquire().was_left(), "nobody was there before");
        let lock = acquire();
        assert!(lock.was_left());
        lock.clear();
        drop(lock);
        assert!(!acquire().was_left());
    }
}
