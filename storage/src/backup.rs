//! How is a database copied while it is written to, and how does the copy become a database again?
//!
//! The rows of one snapshot go into a redb file of their own, in the order of their keys, each with its checksum compared;
//! the segments that it names are copied as they are, because copying is far cheaper than building (20,000 vectors of 384
//! dimensions on two busy cores: the whole backup took 4 s, restoring it 2 s, building their segment 76 s). The cache of
//! embeddings is left out. `BACKUP` is written last and holds the length and a checksum of every file, so that what is cut
//! off or unfinished is known before anything is restored.
//!
//! Invariants: a backup is the database as of one commit; nothing that was there is overwritten, unless that is asked for;
//! a database that is replaced is the old one or the new one after a crash, because `data.redb` takes its name last.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Component, Path};
use std::sync::PoisonError;

use redb::{Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::codec::{self, CollectionRecord, Number, Place, PlaceKey};
use crate::engine::Engine;
use crate::error::engine;
use crate::files::{self, DATA, NEW_DATA, SEGMENTS_FOLDER, io_error, segment_folder, sync_folder};
use crate::lock::Lock;
use crate::tables::{
    ALIASES, Bytes, CHUNKS, COLLECTION_NAMES, COLLECTIONS, DOCUMENT_IDS, DOCUMENTS, EMBEDDING_CACHE,
    EMBEDDING_CACHE_KEYS, EXPIRIES, EXPIRY_ORDER, IMPORT_LEDGER, META, METADATA, Pair, RETIRED, SEGMENTS, SHADOWS,
    SPACES, TEXTS, TOMBSTONES, VECTORS,
};
use crate::{Error, Result, cache, rows};

/// The file that makes a folder a backup.
const LIST: &str = "BACKUP";
/// Its first line.
const HEADER: &str = "quiver backup 1";

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackedUp {
    /// Collections.
    pub collections: u64,
    /// Documents of all of them; those that have expired and are not swept yet, too.
    pub documents: u64,
    /// Sealed segments. One that is missing or damaged is left out, and built again once the copy is opened.
    pub segments: u64,
    /// The bytes of all files.
    pub bytes: u64,
}

/// Copies a database into a folder that is not there yet, or empty.
pub(crate) fn backup(engine: &Engine, target: &Path) -> Result<BackedUp> {
    let target = std::path::absolute(target).map_err(|source| io_error(target, source))?;
    let was_there = target.is_dir();
    if fs::symlink_metadata(&target).is_ok() && !is_empty_folder(&target) {
        return Err(Error::invalid(format!(
            "{} is there already; a backup takes a folder that is empty or does not exist yet",
            target.display()
        )));
    }
    files::make_folder(&target)?;
    let made = write(engine, &target);
    if made.is_err() {
        // What is unfinished is in the way of the next attempt.
        let _ = fs::remove_dir_all(&target);
        if was_there {
            let _ = fs::create_dir(&target);
        }
    }
    made
}

fn is_empty_folder(path: &Path) -> bool {
    path.is_dir() && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn write(engine: &Engine, target: &Path) -> Result<BackedUp> {
    let mut names = Vec::new();
    let transaction = {
        // No segment goes away before it is copied.
        let _turn = engine.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = engine.begin_read()?;
        if let Some(folder) = engine.folder() {
            names = copy_segments(&transaction, folder, target)?;
        }
        transaction
    };
    let segments = names.iter().filter(|name| name.ends_with("/MANIFEST")).count() as u64;
    let data = target.join(DATA);
    let (collections, documents) = copy_data(&transaction, &data)?;
    drop(transaction);
    names.push(DATA.to_owned());
    let bytes = write_list(target, &names)?;
    Ok(BackedUp { collections, documents, segments, bytes })
}

/// Copies the folders of all segments that are there; returns the names of their files.
fn copy_segments(transaction: &ReadTransaction, folder: &Path, target: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let table = rows::open(transaction, SEGMENTS)?;
    for row in table.iter().map_err(engine)? {
        let (collection, number) = row.map_err(engine)?.0.value();
        let from = segment_folder(folder, collection, number);
        let to = segment_folder(target, collection, number);
        match copy_folder(&from, &to) {
            Ok(files) => {
                names.extend(files.into_iter().map(|file| format!("{SEGMENTS_FOLDER}/{collection}-{number}/{file}")))
            }
            // Derived: what cannot be read is built again.
            Err(_) if !from.join("MANIFEST").is_file() => drop(fs::remove_dir_all(&to)),
            Err(error) => return Err(error),
        }
    }
    if !names.is_empty() {
        sync_folder(&target.join(SEGMENTS_FOLDER))?;
    }
    Ok(names)
}

/// Copies the files of a folder and syncs them; returns their names.
fn copy_folder(from: &Path, to: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(from).map_err(|source| io_error(from, source))?;
    files::make_folder(to)?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| io_error(from, source))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if entry.path().is_file() {
            copy_file(&entry.path(), &to.join(&name))?;
            names.push(name);
        }
    }
    sync_folder(to)?;
    Ok(names)
}

/// Copies a file that is not there yet, and syncs it.
fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let mut source = files::open_file(from).map_err(|error| io_error(from, error))?;
    let mut target = create(to)?;
    std::io::copy(&mut source, &mut target).and_then(|_| target.sync_all()).map_err(|error| io_error(to, error))
}

fn create(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|source| io_error(path, source))
}

/// Copies all rows into a file of their own; returns how many collections and documents they are.
fn copy_data(transaction: &ReadTransaction, path: &Path) -> Result<(u64, u64)> {
    expect_known(transaction)?;
    let file = create(path)?;
    let again = file.try_clone().map_err(|source| io_error(path, source))?;
    let mut database = Database::builder().create_file(file).map_err(engine)?;
    let mut copy = Copy { from: transaction, to: &database };
    for table in [META, COLLECTION_NAMES, ALIASES] {
        copy.table::<&'static str>(table)?;
    }
    for table in [COLLECTIONS, SPACES, TOMBSTONES, SHADOWS, RETIRED] {
        copy.table::<u32>(table)?;
    }
    for table in [DOCUMENTS, TEXTS, METADATA, CHUNKS, VECTORS, SEGMENTS, EXPIRIES] {
        copy.table::<Pair>(table)?;
    }
    for table in [DOCUMENT_IDS, IMPORT_LEDGER, EXPIRY_ORDER] {
        copy.table::<(u32, &'static [u8])>(table)?;
    }
    // It was written in the order of keys, but redb makes files longer by leaps.
    database.compact().map_err(engine)?;
    let counts = counts(&database.begin_read().map_err(engine)?)?;
    drop(database);
    again.sync_all().map_err(|source| io_error(path, source))?;
    Ok(counts)
}

/// Refuses tables that this would leave out: a backup that lacks something is found out too late.
fn expect_known(transaction: &ReadTransaction) -> Result<()> {
    let pairs = [DOCUMENTS, TEXTS, METADATA, CHUNKS, VECTORS, SEGMENTS, EXPIRIES].map(|table| table.name().to_owned());
    let numbered = [COLLECTIONS, SPACES, TOMBSTONES, SHADOWS, RETIRED].map(|table| table.name().to_owned());
    let named = [META, COLLECTION_NAMES, ALIASES].map(|table| table.name().to_owned());
    let bytes = [DOCUMENT_IDS, IMPORT_LEDGER, EXPIRY_ORDER].map(|table| table.name().to_owned());
    let left_out = [EMBEDDING_CACHE.name().to_owned(), EMBEDDING_CACHE_KEYS.name().to_owned()];
    let known: Vec<String> = [&pairs[..], &numbered, &named, &bytes, &left_out].concat();
    for table in transaction.list_tables().map_err(engine)? {
        if !known.iter().any(|name| name == table.name()) {
            let name = table.name();
            return Err(Error::Engine(format!(
                "table {name} is no part of backups yet; back up with a newer quiverdb"
            )));
        }
    }
    Ok(())
}

/// A copy under way.
struct Copy<'a> {
    from: &'a ReadTransaction,
    to: &'a Database,
}

impl Copy<'_> {
    /// Copies a table in a transaction of its own; those that were never made become empty ones.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a record is damaged, or the copy has not as many.
    fn table<K>(&mut self, definition: TableDefinition<'static, K, Bytes>) -> Result<()>
    where
        K: Key + 'static,
        for<'k> PlaceKey<'k>: From<K::SelfType<'k>>,
    {
        let transaction = self.to.begin_write().map_err(engine)?;
        let mut expected = 0;
        {
            let mut target = transaction.open_table(definition).map_err(engine)?;
            if let Some(source) = rows::open_if_made(self.from, definition)? {
                for row in source.iter().map_err(engine)? {
                    let (key, value) = row.map_err(engine)?;
                    let place = Place::new(definition.name(), key.value());
                    codec::expect_whole(place, value.value())?;
                    if !place.is_named(cache::TOTALS) {
                        target.insert(key.value(), value.value()).map_err(engine)?;
                        expected += 1;
                    }
                }
            }
        }
        transaction.commit().map_err(engine)?;
        self.verify(definition, expected)
    }

    /// Reads the copy of a table.
    fn verify<K>(&self, definition: TableDefinition<'static, K, Bytes>, expected: u64) -> Result<()>
    where
        K: Key + 'static,
        for<'k> PlaceKey<'k>: From<K::SelfType<'k>>,
    {
        let transaction = self.to.begin_read().map_err(engine)?;
        let mut found = 0;
        for row in rows::open(&transaction, definition)?.iter().map_err(engine)? {
            let (key, value) = row.map_err(engine)?;
            codec::expect_whole(Place::new(definition.name(), key.value()), value.value())?;
            found += 1;
        }
        if found == expected {
            return Ok(());
        }
        let what = format!("the copy has {found} rows of {expected}");
        Err(Error::corrupt(format!("table {} of the backup", definition.name()), what))
    }
}

fn counts(transaction: &ReadTransaction) -> Result<(u64, u64)> {
    // What no name leads to yet is part of the copy, and nothing to tell of.
    let mut shadows = HashSet::new();
    if let Some(table) = rows::open_if_made(transaction, SHADOWS)? {
        for row in table.iter().map_err(engine)? {
            let (key, value) = row.map_err(engine)?;
            let Number(shadow) = codec::decode(Place::new(SHADOWS.name(), key.value()), value.value())?;
            shadows.insert(shadow);
        }
    }
    let (mut collections, mut documents) = (0, 0);
    for row in rows::open(transaction, COLLECTIONS)?.iter().map_err(engine)? {
        let (key, value) = row.map_err(engine)?;
        let record: CollectionRecord = codec::decode(Place::new(COLLECTIONS.name(), key.value()), value.value())?;
        if shadows.contains(&key.value()) {
            continue;
        }
        collections += 1;
        documents += record.documents;
    }
    Ok((collections, documents))
}

/// Writes down how long each file is and what its bytes come to, as they are on disk; returns the bytes of all.
fn write_list(target: &Path, names: &[String]) -> Result<u64> {
    let (mut text, mut all) = (format!("{HEADER}\n"), 0);
    for name in names {
        let (bytes, digest) = digest(&target.join(name))?;
        text += &format!("{digest:032x} {bytes} {name}\n");
        all += bytes;
    }
    text += &format!("{:032x}\n", xxh3_128(text.as_bytes()));
    let path = target.join(LIST);
    let mut file = create(&path)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|source| io_error(&path, source))?;
    sync_folder(target)?;
    target.parent().map_or(Ok(()), sync_folder)?;
    Ok(all)
}

/// Length and XXH3 (128 bits) of a file.
fn digest(path: &Path) -> Result<(u64, u128)> {
    let io = |source| io_error(path, source);
    let mut file = files::open_file(path).map_err(io)?;
    let (mut hash, mut bytes, mut buffer) = (Xxh3::new(), 0, vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => return Ok((bytes, hash.digest128())),
            read => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
}

/// Makes a database of a backup. Where there is one and `replace` says so, it is replaced.
pub(crate) fn restore(backup: &Path, target: &Path, replace: bool) -> Result<()> {
    let names = verified(backup)?;
    let target = std::path::absolute(target).map_err(|source| io_error(target, source))?;
    if target.canonicalize().is_ok_and(|target| backup.canonicalize().is_ok_and(|backup| backup == target)) {
        let target = target.display();
        return Err(Error::invalid(format!("{target} is the backup itself; restore it into another folder")));
    }
    refuse_existing(&target, replace)?;
    files::make_folder(&target)?;
    let lock = Lock::acquire(&target)?;
    refuse_existing(&target, replace)?;
    let new_data = target.join(NEW_DATA);
    match fs::remove_file(&new_data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io_error(&new_data, error)),
        Ok(()) | Err(_) => {}
    }
    restore_segments(backup, &target, &names)?;
    copy_file(&backup.join(DATA), &new_data)?;
    files::between_steps("backup copied");
    let data = target.join(DATA);
    fs::rename(&new_data, &data).map_err(|source| io_error(&data, source))?;
    sync_folder(&target)?;
    target.parent().map_or(Ok(()), sync_folder)?;
    lock.clear();
    Ok(())
}

fn refuse_existing(target: &Path, replace: bool) -> Result<()> {
    if replace || !target.join(DATA).exists() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "there is a database in {}; restore into another folder, or say that it is to be replaced",
        target.display()
    )))
}

/// Copies the segments. Those of a database that is being replaced are derived, too: until `data.redb` is the new one, their
/// digests do not fit and they are built again.
/// A backup that was opened as a database, and so changed, is none any more.
pub(crate) fn refuse_to_open(folder: &Path) -> Result<()> {
    if !folder.join(LIST).is_file() {
        return Ok(());
    }
    let folder = folder.display();
    Err(Error::invalid(format!(
        "{folder} is a backup, and opening it would change it; restore it into another folder first"
    )))
}

fn restore_segments(backup: &Path, target: &Path, names: &[String]) -> Result<()> {
    let folders: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix("/MANIFEST")).collect();
    for folder in &folders {
        let (to, new) = (target.join(folder), target.join(format!("{folder}.new")));
        for old in [&new, &to] {
            match fs::remove_dir_all(old) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io_error(old, error)),
                Ok(()) | Err(_) => {}
            }
        }
        copy_folder(&backup.join(folder), &new)?;
        fs::rename(&new, &to).map_err(|source| io_error(&to, source))?;
    }
    if folders.is_empty() { Ok(()) } else { sync_folder(&target.join(SEGMENTS_FOLDER)) }
}

/// The names of a backup's files, all of which are as they were written.
///
/// # Errors
/// [`Error::InvalidInput`] saying which is not, or that this is no backup.
fn verified(backup: &Path) -> Result<Vec<String>> {
    let refused = |what: String| {
        let place = backup.display();
        Error::invalid(format!("{place} cannot be restored: {what}. Use another backup; nothing was changed"))
    };
    let list = backup.join(LIST);
    let text = match fs::read_to_string(&list) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(refused(format!("it has no file `{LIST}`, so it is no backup, or one that was not finished")));
        }
        Err(source) => return Err(io_error(&list, source)),
    };
    let files = parse_list(&text).ok_or_else(|| refused(format!("its file `{LIST}` is cut off or damaged")))?;
    let mut names = Vec::with_capacity(files.len());
    for (expected_digest, expected, name) in files {
        let path = backup.join(&name);
        let found = match digest(&path) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(refused(format!("`{name}` is missing")));
            }
            other => other?,
        };
        match found {
            (bytes, _) if bytes != expected => {
                return Err(refused(format!("`{name}` has {bytes} bytes; {expected} were written")));
            }
            (_, digest) if digest != expected_digest => {
                return Err(refused(format!("`{name}` is damaged: its bytes are not those that were written")));
            }
            _ => names.push(name),
        }
    }
    Ok(names)
}

/// Digest, length and name of each file; `None` where this is no list that was written as a whole.
fn parse_list(text: &str) -> Option<Vec<(u128, u64, String)>> {
    let body = text.strip_suffix('\n')?;
    let at = body.rfind('\n')? + 1;
    if u128::from_str_radix(&body[at..], 16).ok()? != xxh3_128(&text.as_bytes()[..at]) {
        return None;
    }
    let mut lines = body[..at].lines();
    if lines.next()? != HEADER {
        return None;
    }
    let file = |line: &str| {
        let (digest, rest) = line.split_once(' ')?;
        let (bytes, name) = rest.split_once(' ')?;
        let is_plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        let is_ours = name == DATA || name.starts_with("segments/");
        (is_plain && is_ours).then_some(())?;
        Some((u128::from_str_radix(digest, 16).ok()?, bytes.parse().ok()?, name.to_owned()))
    };
    let files: Vec<_> = lines.map(file).collect::<Option<_>>()?;
    files.iter().any(|(_, _, name)| name == DATA).then_some(files)
}
