//! What went wrong in storage, whose fault it is, and what to do next.
//!
//! Three groups: yours (bad input), the world's (I/O, another process), ours (corruption, bugs). Errors of redb and
//! tantivy stay inside: their text is kept, their types are not.

use std::path::PathBuf;

/// A result of the storage engine.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the storage engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Yours.
    /// The input cannot be taken; nothing was written.
    #[error("{0}")]
    InvalidInput(String),
    /// A vector has another length than its space.
    #[error("{owner}: space `{space}` holds {expected}-dimensional vectors; got {got}")]
    DimensionMismatch {
        /// Whose vector it is: the document and chunk, or the query.
        owner: String,
        /// The space's name.
        space: String,
        /// Its dimensions.
        expected: usize,
        /// Those of the vector given.
        got: usize,
    },
    /// No such collection.
    #[error("there is no collection `{0}` in this database; `collections` lists those there are")]
    UnknownCollection(String),
    /// A collection of this name exists.
    #[error("collection `{0}` exists already; open it, or drop it first")]
    CollectionExists(String),
    /// A document is not in the version that the write expected; nothing was written.
    #[error("document `{id}` {what}, other than the write expects; nothing was written. Read it again and decide anew")]
    Changed {
        /// The document.
        id: String,
        /// How it is.
        what: &'static str,
    },

    // The world's.
    /// The file system refused.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has the database open.
    #[error("database {path} is in use by {holder}; close that process first", path = .path.display())]
    Locked {
        /// The database's folder.
        path: PathBuf,
        /// The process that holds it, as far as known.
        holder: String,
    },
    /// The database file was written by a newer version.
    #[error(
        "the database has format version {found}; this build reads up to {supported}. Open it with a newer quiverdb"
    )]
    NewerFormat {
        /// The version found.
        found: u32,
        /// The newest version that this build reads.
        supported: u32,
    },
    /// There is too little room on the disk; nothing was written. Reads go on, deletes work.
    #[error(
        "the disk of {path} is full: {needed} bytes are needed, {free} are free. Free some, or delete documents; \
         writing resumes by itself",
        path = .path.display()
    )]
    DiskFull {
        /// The database's folder.
        path: PathBuf,
        /// The bytes that must be free, those included that are always left.
        needed: u64,
        /// Those that are.
        free: u64,
    },
    /// The folder was deleted, moved or replaced while the database was open. The write did not happen; reads go on.
    #[error(
        "database {path} is not where it was opened: {what}. This write did not happen; earlier ones are where the folder is now. Put the folder back, or close the \
         database and open it where it is now",
        path = .path.display()
    )]
    Gone {
        /// The database's folder.
        path: PathBuf,
        /// Which file, and what became of it.
        what: String,
    },
    /// The disk failed and the database could not be opened again yet. Each operation tries; meanwhile what is in memory
    /// can be read.
    #[error("the disk failed, and the database cannot be opened again: {0}. The next operation tries once more")]
    Poisoned(String),
    /// The disk failed at the end of a write that is there nevertheless.
    #[error(
        "the disk failed while it was to confirm a write ({0}). All of the write is there and will be seen; \
         repeat it if you must be certain"
    )]
    Unconfirmed(String),
    /// The disk failed after this snapshot was taken, and what is asked of it is not in memory.
    #[error("the disk failed after this snapshot was taken, and it cannot be read any more. Take a new one")]
    Stale,

    /// The snapshot is older than snapshots may become, and was ended by a write.
    #[error(
        "this snapshot is older than snapshots of this database may become, and was ended. Take a new one, or set a \
         longer age with `set_snapshot_age_max`"
    )]
    Expired,

    // Ours.
    /// Bytes on disk are not what was written.
    #[error(
        "damaged data in {place}: {what}. `quiver check` lists what is damaged as far as the file can be opened; what can be read is intact, and a copy of the folder is the way back"
    )]
    Corrupt {
        /// The table and key, or the file.
        place: String,
        /// What does not fit.
        what: String,
    },
    /// The engine below failed in a way that has no name here.
    #[error("storage engine: {0}")]
    Engine(String),
}

impl Error {
    /// Bad input, with the sentence that says what to do about it.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidInput(message.into())
    }

    /// Damaged bytes at a place.
    pub fn corrupt(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Corrupt { place: place.into(), what: what.into() }
    }
}

/// An error of redb, in our words.
pub(crate) fn engine(error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    let text = error.to_string();
    #[allow(clippy::wildcard_enum_match_arm, reason = "redb's errors are non-exhaustive, and most have no better name")]
    match error {
        redb::Error::Io(source) => Error::Io { path: PathBuf::from("data.redb"), source },
        redb::Error::Corrupted(what) => Error::corrupt("data.redb", what),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => Error::Stale,
        _ => Error::Engine(text),
    }
}
