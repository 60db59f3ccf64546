//! How does a database come to be on disk, so that a crash at any moment leaves it whole or absent?
//!
//! The folder is made for its owner alone and locked. `data.redb` is made as `data.redb.new`, synced, renamed, and the
//! folder synced: redb by itself leaves a file that never opens when it dies while making it. A leftover `data.redb.new`
//! is removed at the next open, which is safe because the lock is held.
//!
//! Invariants: files that we did not make are never touched; nothing but a leftover is deleted here.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, StorageBackend};

use crate::codec::{Identity, NextNumbers, Number, Sequence};
use crate::error::engine;
use crate::handle::{Handle, Watch};
use crate::lock::Lock;
use crate::tables::{
    CHUNKS, COLLECTION_NAMES, COLLECTIONS, DOCUMENT_IDS, DOCUMENTS, FORMAT_VERSION, META, METADATA, SEGMENTS, SPACES,
    TEXTS, TOMBSTONES, VECTORS,
};
use crate::{Error, Result, rows};

pub(crate) const DATA: &str = "data.redb";
pub(crate) const NEW_DATA: &str = "data.redb.new";
/// redb's cache. Vectors and the tail's text are kept by us; this one serves the passages of hits.
const CACHE_BYTES: usize = 64 << 20;

/// Where the segments of all collections lie, below the database's folder.
pub(crate) const SEGMENTS_FOLDER: &str = "segments";

/// The folder of a segment: numbers alone, because names never become paths.
pub(crate) fn segment_folder(folder: &Path, collection: u32, number: u32) -> PathBuf {
    folder.join(SEGMENTS_FOLDER).join(format!("{collection}-{number}"))
}

/// Opens the database in a folder, whose path is absolute, and makes both where they are not there.
///
/// # Errors
/// [`Error::Locked`] where it is open elsewhere; [`Error::NewerFormat`]; [`Error::Io`]; [`Error::Corrupt`].
pub(crate) fn open(folder: &Path, watch: Arc<Watch>) -> Result<(Handle, Lock)> {
    make_folder(folder)?;
    let lock = Lock::acquire(folder)?;
    let (path, new_path) = (folder.join(DATA), folder.join(NEW_DATA));
    match fs::remove_file(&new_path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&new_path, error)),
        Ok(()) | Err(_) => {}
    }
    let fresh = !fs::exists(&path).map_err(|source| io_error(&path, source))?;
    if fresh {
        make_data(&new_path)?;
        between_steps("data made");
        fs::rename(&new_path, &path).map_err(|source| io_error(&path, source))?;
        between_steps("data renamed");
    }
    if fresh || lock.was_left() {
        // Whoever died between making a name and syncing it left that to us.
        sync_folder(folder)?;
        let _ = folder.parent().map(sync_folder);
        between_steps("data synced");
    }
    let owned = folder.to_owned();
    Ok((Handle::new(Box::new(move |watch| open_data(&owned, &path, watch)), watch)?, lock))
}

/// Opens the file, which is there.
fn open_data(folder: &Path, path: &Path, watch: &Arc<Watch>) -> Result<Database> {
    let io = |source| io_error(path, source);
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
    if file.metadata().map_err(io)?.len() == 0 {
        // redb would make a new database of it.
        return Err(Error::corrupt(path.display().to_string(), "it is empty"));
    }
    if watch.is_again() {
        forget_pages(&file);
    }
    let opening_error = |error| opening_error(folder, path, error);
    let backend = watch.over(FileBackend::new(file).map_err(opening_error)?);
    let database = builder(watch).create_with_backend(backend).map_err(opening_error)?;
    check_format(&database)?;
    Ok(database)
}

/// Makes the system read the file from the disk again. After a sync that failed, Linux keeps in memory, as if they were
/// on disk, the pages that are not (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
fn forget_pages(file: &File) {
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

/// Makes a database on the backend that this makes, or opens the one that is there.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_backend<B: StorageBackend>(
    backend: impl Fn() -> Result<B> + Send + Sync + 'static,
    watch: Arc<Watch>,
) -> Result<Handle> {
    let open = move |watch: &Arc<Watch>| {
        let backend = watch.over(backend()?);
        let fresh = backend.len().map_err(|source| io_error(Path::new(DATA), source))? == 0;
        let database = builder(watch).create_with_backend(backend).map_err(engine)?;
        if fresh {
            fill(&database)?;
        }
        check_format(&database)?;
        Ok(database)
    };
    Handle::new(Box::new(open), watch)
}

/// Makes a database in memory.
///
/// # Errors
/// [`Error::Engine`] where redb fails.
pub(crate) fn open_memory() -> Result<Handle> {
    let only = Mutex::new(Some(redb::backends::InMemoryBackend::new()));
    let gone = || Error::Engine("a database in memory cannot be opened again".into());
    let take = move || only.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(gone);
    open_backend(take, Arc::default())
}

fn builder(watch: &Watch) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(if watch.reads_each_time() { 0 } else { CACHE_BYTES });
    builder
}

/// redb says nothing of the file when it refuses one, so we do.
fn opening_error(folder: &Path, path: &Path, error: redb::DatabaseError) -> Error {
    let error = redb::Error::from(error);
    let text = error.to_string();
    #[allow(clippy::wildcard_enum_match_arm, reason = "redb's errors are non-exhaustive")]
    match error {
        redb::Error::DatabaseAlreadyOpen => {
            Error::Locked { path: folder.to_owned(), holder: "another process (through redb itself)".into() }
        }
        redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
            Error::corrupt(path.display().to_string(), source.to_string())
        }
        redb::Error::Io(source) => io_error(path, source),
        redb::Error::Corrupted(what) => Error::corrupt(path.display().to_string(), what),
        _ => Error::Engine(format!("{}: {text}", path.display())),
    }
}

/// Makes a folder for its owner alone, with those above it; all names are then on disk.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let missing: Vec<&Path> = folder.ancestors().take_while(|above| !above.is_dir()).collect();
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|source| io_error(folder, source))?;
    missing.into_iter().filter_map(Path::parent).try_for_each(sync_folder)
}

fn make_data(path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(|source| io_error(path, source))?;
    let again = file.try_clone().map_err(|source| io_error(path, source))?;
    let database = builder(&Watch::default()).create_file(file).map_err(engine)?;
    fill(&database)?;
    drop(database);
    again.sync_all().map_err(|source| io_error(path, source))
}

/// Makes all tables and what `meta` holds, in one transaction.
fn fill(database: &Database) -> Result<()> {
    let transaction = database.begin_write().map_err(engine)?;
    {
        let mut meta = transaction.open_table(META).map_err(engine)?;
        rows::put_named(&mut meta, META, "format", &Number(FORMAT_VERSION))?;
        rows::put_named(&mut meta, META, "identity", &new_identity())?;
        rows::put_named(&mut meta, META, "sequence", &Sequence(0))?;
        rows::put_named(&mut meta, META, "next", &NextNumbers { collection: 1, space: 1 })?;
        for table in [COLLECTIONS, SPACES, TOMBSTONES] {
            transaction.open_table(table).map_err(engine)?;
        }
        for table in [DOCUMENTS, TEXTS, METADATA, CHUNKS, VECTORS, SEGMENTS] {
            transaction.open_table(table).map_err(engine)?;
        }
        transaction.open_table(COLLECTION_NAMES).map_err(engine)?;
        transaction.open_table(DOCUMENT_IDS).map_err(engine)?;
    }
    transaction.commit().map_err(engine)
}

/// 16 bytes that no other database has: the standard library draws its hash keys from the system.
fn new_identity() -> Identity {
    let mut bytes = [0; 16];
    for half in bytes.chunks_mut(8) {
        half.copy_from_slice(&RandomState::new().hash_one(std::time::SystemTime::now()).to_le_bytes());
    }
    Identity(bytes)
}

fn check_format(database: &Database) -> Result<()> {
    let transaction = database.begin_read().map_err(engine)?;
    let meta = transaction.open_table(META).map_err(|error| {
        if matches!(error, redb::TableError::TableDoesNotExist(_)) {
            return Error::corrupt(DATA, "it is a redb file, but not a database of quiverdb");
        }
        engine(error)
    })?;
    let format: Option<Number> = rows::get_named(&meta, META, "format")?;
    match format {
        Some(Number(found)) if found > FORMAT_VERSION => Err(Error::NewerFormat { found, supported: FORMAT_VERSION }),
        Some(_) => Ok(()),
        None => Err(Error::corrupt(DATA, "its format version is missing")),
    }
}

/// The bytes that a folder takes on disk, with all that is in it and can be read: a merged segment may go while we count,
/// and what strangers put there is theirs. Files may be sparse, so blocks are counted where the system tells them.
pub(crate) fn bytes_on_disk(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        let entries = match fs::read_dir(&inner) {
            Ok(entries) => entries,
            Err(_) if inner != folder => continue,
            Err(source) => return Err(io_error(&inner, source)),
        };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => bytes += size_on_disk(&metadata),
                Err(_) => {}
            }
        }
    }
    Ok(bytes)
}

#[cfg(unix)]
fn size_on_disk(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn size_on_disk(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}

/// A moment between two steps on disk. Tests let the power go there.
#[inline]
pub(crate) fn between_steps(done: &'static str) {
    #[cfg(test)]
    crate::testing::power_may_go(done);
    #[cfg(not(test))]
    let _ = done;
}

/// Opens a file to be read. Tests let it fail.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    #[cfg(test)]
    crate::testing::may_open(path)?;
    File::open(path)
}

/// Makes the names in a folder durable. Windows has no such call, and needs none.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if cfg!(unix) {
        File::open(folder).and_then(|file| file.sync_all()).map_err(|source| io_error(folder, source))?;
    }
    #[cfg(test)]
    crate::testing::folder_was_synced(folder);
    Ok(())
}

pub(crate) fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io { path: PathBuf::from(path), source }
}
