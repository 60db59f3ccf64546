//! How does a file of a million rows get in exactly once?
//!
//! With each batch of documents the import's position is committed in the same transaction, in the collection's ledger. So
//! an import that was killed goes on behind the last row that is in, one that is finished is told as such, and a file
//! that has changed is read again, of which only what differs is embedded.
//!
//! Invariants: the position is never ahead of the documents nor behind them; rows are counted once, however often the
//! import was begun; a row that is no document is written down and the next one is read.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quiverdb_storage::{Alongside, LedgerEdit};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::formats::columns::{BadRow, ColumnMap, Position, Table, TableOptions};
use crate::ingest::{AddOptions, Along, Refused, add_along, write};
use crate::moment::changed_at;
use crate::parts::Parts;
use crate::types::{AddReport, Document, Rejected};
use crate::{DocumentId, Error, Result};

/// How a file is imported.
#[derive(Default)]
pub struct ImportOptions<'a> {
    /// Which column is what.
    pub map: ColumnMap,
    /// The first line of a CSV file is a row like the others; its columns are called `column1`, `column2` and so on.
    pub no_header: bool,
    /// Reads the file from its beginning even where it, or a part of it, is imported already.
    pub again: bool,
    /// A file of JSON Lines for the rows that are no documents: `{"source", "row", "column", "value", "reason"}`. An import
    /// that goes on adds to it, and to what others wrote there meanwhile; another begins it anew, or adds to it where
    /// `append` is set.
    pub rejects: Option<PathBuf>,
    /// The rejects of this file are added to those of others.
    pub append: bool,
    /// Stops with an error once more rows than this are rejected.
    pub rejects_max: Option<u64>,
    /// Called after each batch.
    pub progress: Option<&'a (dyn Fn(&ImportProgress) + Sync)>,
    /// Set it to stop after the batch at hand; what was committed stays, and the same import goes on from there.
    pub cancel: Option<&'a AtomicBool>,
}

impl ImportOptions<'_> {
    /// Looks whether rejected rows can be written where they are to be: for whoever makes a collection for the import, and
    /// would rather make none. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be made or written to; [`Error::InvalidInput`] where it holds something else than
    /// rejected rows.
    pub fn check_rejects(&self) -> Result<()> {
        let Some(path) = &self.rejects else { return Ok(()) };
        let cannot = |error| Error::io(path, error);
        if !path.exists() {
            OpenOptions::new().create_new(true).write(true).open(path).map_err(cannot)?;
            return std::fs::remove_file(path).map_err(cannot);
        }
        OpenOptions::new().write(true).open(path).map_err(cannot)?;
        refuse_other_content(path)
    }

    /// Looks whether rows of two of these files would have the same ids, because the files have the same name and rows without an
    /// id. Of files of one name the first thousand rows are read, of CSV all; of others nothing. Imported one by one, such files
    /// are refused as well, but the rows of the first one are in by then.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where it is so, naming both; as [`Table::next_row`].
    pub fn check_names<P: AsRef<Path>>(&self, files: &[P]) -> Result<()> {
        let mut by_name: BTreeMap<_, Vec<&Path>> = BTreeMap::new();
        for file in files {
            by_name.entry(file.as_ref().file_name().unwrap_or_default()).or_default().push(file.as_ref());
        }
        for (name, files) in by_name.into_iter().filter(|(_, files)| files.len() > 1) {
            let name = name.to_string_lossy();
            let mut before: Option<&Path> = None;
            for file in files {
                let table = TableOptions { map: self.map.clone(), no_header: self.no_header, spaces: Vec::new() };
                // One that cannot be opened is told of by its import, which knows the collection's spaces, too.
                let Ok(mut table) = Table::open(file, &name, table) else { continue };
                if !table.names_rows()? {
                    continue;
                }
                if let Some(before) = before.replace(file) {
                    return Err(same_names(&name, before, file));
                }
            }
        }
        Ok(())
    }
}

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImportProgress {
    /// Rows that were read, those of earlier runs included.
    pub rows: u64,
    /// Rows that this run began behind.
    pub rows_before: u64,
    /// All rows of the file, where it is known.
    pub rows_total: Option<u64>,
    /// Rows that were rejected.
    pub rejected: u64,
    /// Seconds of this run.
    pub seconds: f64,
}

/// What became of a file: all of it, the part that earlier runs imported included.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ImportReport {
    /// What became of its rows. Of those that were rejected the first 1,000 of this run are listed.
    #[serde(flatten)]
    pub report: AddReport,
    /// Rows that were read; of a file of lines, lines.
    pub rows: u64,
    /// Rows that were rejected.
    pub rejected_rows: u64,
    /// Rows that earlier runs had imported.
    pub resumed_after: u64,
    /// The file was imported already, and nothing was read.
    pub already_imported: bool,
    /// What is odd about the file and no error, such as a column `embedding` that nothing maps to the vector.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Rejected rows that a report lists; all are in the file of rejects.
const LISTED_MAX: usize = 1_000;
/// How often the position is written while nothing changes.
const IDLE: Duration = Duration::from_secs(2);
/// Bytes at either end of a file that tell it from another one.
const ENDS_BYTES: u64 = 64 << 10;
/// The key of the types of metadata columns.
const COLUMNS_KEY: &[u8] = b"columns";
const VERSION: u32 = 1;

/// The position of an import, as the ledger keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    identity: Identity,
    position: Position,
    done: bool,
    counts: Counts,
    /// The file of rejects, so that a run that goes on drops what was written after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rejects: Option<RejectsFile>,
}

/// A file of rejects, as a record names it. Earlier versions wrote down its length, too.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum RejectsFile {
    Path(PathBuf),
    WithLength(PathBuf, #[allow(dead_code, reason = "read and not used")] u64),
}

impl RejectsFile {
    fn path(&self) -> &Path {
        match self {
            Self::Path(path) | Self::WithLength(path, _) => path,
        }
    }
}

/// What a file is, and how it is read. Two are the same where all of it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    path: String,
    bytes: u64,
    /// Compared and never ordered.
    changed_at: u64,
    /// SHA-256 of its first and last 64 KiB: a Parquet file's footer, with the sizes of all its parts, is among them.
    ends: String,
    map: String,
    no_header: bool,
}

/// Counts of all runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Counts {
    added: u64,
    replaced: u64,
    unchanged: u64,
    rejected: u64,
    chunks_embedded: u64,
    chunks_reused: u64,
    #[serde(default)]
    chunks_cached: u64,
    texts_truncated: u64,
    seconds: f64,
    #[serde(default)]
    expired: u64,
}

impl Counts {
    /// With those of a run added.
    fn with(&self, run: &AddReport, rejected: u64) -> Self {
        Self {
            added: self.added + run.added,
            replaced: self.replaced + run.replaced,
            unchanged: self.unchanged + run.unchanged,
            rejected,
            chunks_embedded: self.chunks_embedded + run.chunks_embedded,
            chunks_reused: self.chunks_reused + run.chunks_reused,
            chunks_cached: self.chunks_cached + run.chunks_cached,
            texts_truncated: self.texts_truncated + run.texts_truncated,
            seconds: self.seconds + run.seconds,
            expired: self.expired + run.expired,
        }
    }

    fn documents(&self) -> u64 {
        self.added + self.replaced + self.unchanged
    }

    fn report(&self, rejected: Vec<Rejected>) -> AddReport {
        AddReport {
            added: self.added,
            replaced: self.replaced,
            unchanged: self.unchanged,
            expired: self.expired,
            removed: 0,
            rejected,
            chunks_embedded: self.chunks_embedded,
            chunks_reused: self.chunks_reused,
            chunks_cached: self.chunks_cached,
            texts_truncated: self.texts_truncated,
            seconds: self.seconds,
            ..AddReport::default()
        }
    }
}

/// Imports a file into a collection.
pub(crate) fn import(parts: &Arc<Parts>, path: &Path, options: &ImportOptions<'_>) -> Result<ImportReport> {
    let parts = parts.current()?;
    let identity = Identity::of(path, options)?;
    let key = identity.key();
    let before = match parts.ledger(&key)? {
        Some(bytes) if !options.again => serde_json::from_slice(&bytes).ok(),
        _ => None,
    };
    let before = before.filter(|record: &Record| record.version == VERSION && record.identity == identity);
    if let Some(record) = before.as_ref().filter(|record| record.done) {
        return Ok(ImportReport {
            report: AddReport { unchanged: record.counts.documents(), ..AddReport::default() },
            rows: record.position.rows,
            already_imported: true,
            ..ImportReport::default()
        });
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut table = Table::open(path, &name, table_options(parts, options))?;
    let (position, counts) = before.as_ref().map(|record| (record.position, record.counts.clone())).unwrap_or_default();
    table.skip_to(position)?;
    let rejects = Rejects::open(options, before.as_ref(), &identity, path)?;
    let types = table.types();
    let run = Run {
        claim: Claim::of(parts, &name, &identity)?,
        key,
        identity,
        counts,
        begin: position,
        rows_total: table.rows(),
        options,
        start: Instant::now(),
        state: Mutex::new(State::new(position, rejects, before.map_or(0, |record| record.counts.rejected))),
    };
    run.take_in(parts, table, types)
}

/// The types that imported metadata columns had, by name, as Arrow prints them. A name that came with two is left out.
///
/// # Errors
/// [`Error::Storage`] where the ledger cannot be read.
pub(crate) fn recorded_types(parts: &Arc<Parts>) -> Result<BTreeMap<String, String>> {
    let types = Columns::read(parts)?.types;
    Ok(types.into_iter().filter_map(|(name, kind)| Some((name, kind?))).collect())
}

/// The types of the collection's metadata columns. Null for a name that came with two.
#[derive(Default, Serialize, Deserialize)]
struct Columns {
    version: u32,
    types: BTreeMap<String, Option<String>>,
}

impl Columns {
    fn read(parts: &Arc<Parts>) -> Result<Self> {
        let bytes = parts.ledger(COLUMNS_KEY)?;
        let columns: Option<Self> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(columns.filter(|columns| columns.version == VERSION).unwrap_or_default())
    }

    /// With those of one more file; `None` where nothing is new.
    fn with(mut self, types: BTreeMap<String, String>) -> Option<Self> {
        let mut changed = false;
        for (name, kind) in types {
            let merged = match self.types.get(&name) {
                Some(known) if known.as_ref() != Some(&kind) => None,
                Some(_) | None => Some(kind),
            };
            changed |= self.types.get(&name) != Some(&merged);
            self.types.insert(name, merged);
        }
        self.version = VERSION;
        changed.then_some(self)
    }
}

fn table_options(parts: &Parts, options: &ImportOptions<'_>) -> TableOptions {
    let external = parts.further_spaces().filter(|space| !space.has_model());
    TableOptions {
        map: options.map.clone(),
        no_header: options.no_header,
        spaces: external.map(|space| space.name().to_owned()).collect(),
    }
}

impl Identity {
    fn of(path: &Path, options: &ImportOptions<'_>) -> Result<Self> {
        let cannot = |error| Error::io(path, error);
        let full = path.canonicalize().map_err(cannot)?;
        // Before it is opened: that of a pipe waits for somebody who writes.
        let kind = full.metadata().map_err(cannot)?;
        if !kind.is_file() && !kind.is_dir() {
            let path = path.display();
            return Err(Error::invalid(format!(
                "{path} is no file: an import reads it twice, and goes on in its middle. Write it to a file first"
            )));
        }
        let mut file = File::open(&full).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if metadata.is_dir() {
            let path = path.display();
            return Err(Error::invalid(format!("{path} is a folder; name its files, or add it with `quiver add`")));
        }
        let bytes = metadata.len();
        let mut ends = Vec::new();
        Read::by_ref(&mut file).take(ENDS_BYTES).read_to_end(&mut ends).map_err(cannot)?;
        file.seek(SeekFrom::Start(bytes.saturating_sub(ENDS_BYTES))).map_err(cannot)?;
        file.take(ENDS_BYTES).read_to_end(&mut ends).map_err(cannot)?;
        Ok(Self {
            path: full.to_string_lossy().into_owned(),
            bytes,
            changed_at: changed_at(&metadata),
            ends: hex(&Sha256::digest(&ends)),
            map: options.map.canonical(),
            no_header: options.no_header,
        })
    }

    /// One record a file, whatever it holds.
    fn key(&self) -> Vec<u8> {
        let digest = hex(&Sha256::digest(self.path.as_bytes()));
        format!("import/{}", &digest[..32]).into_bytes()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Which file's rows are called after it in a collection: those of another file of that name would replace them.
struct Claim {
    name: String,
    key: Vec<u8>,
    /// Of another file that is still there, as are its rows.
    other: Option<Claimed>,
}

/// A claim as the ledger keeps it: the file, and a row that is called after it.
#[derive(Serialize, Deserialize)]
struct Claimed {
    version: u32,
    path: String,
    row: u64,
}

impl Claim {
    fn of(parts: &Arc<Parts>, name: &str, identity: &Identity) -> Result<Self> {
        let digest = hex(&Sha256::digest(name.as_bytes()));
        let key = format!("rows/{}", &digest[..32]).into_bytes();
        let claimed: Option<Claimed> = parts.ledger(&key)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let claimed = claimed.filter(|claimed| claimed.version == VERSION && claimed.path != identity.path);
        // A file that was moved is the same file, and rows that were deleted are in nobody's way.
        let claimed = claimed.filter(|claimed| Path::new(&claimed.path).is_file());
        let other = match claimed {
            Some(claimed) if has_rows_of(parts, name)? => Some(claimed),
            Some(_) | None => None,
        };
        Ok(Self { name: name.to_owned(), key, other })
    }

    fn refusal(&self, identity: &Identity) -> Option<Error> {
        let other = self.other.as_ref()?;
        Some(same_names(&self.name, Path::new(&other.path), Path::new(&identity.path)))
    }

    fn edit(&self, identity: &Identity, named: Option<u64>) -> Result<Option<LedgerEdit>> {
        let Some(row) = named else { return Ok(None) };
        let claimed = Claimed { version: VERSION, path: identity.path.clone(), row };
        Ok(Some(LedgerEdit::put(self.key.clone(), json(&claimed)?)))
    }
}

/// Whether some row is in that is called after a file of this name; the one that was there when the file was claimed may have
/// been deleted since.
fn has_rows_of(parts: &Arc<Parts>, name: &str) -> Result<bool> {
    let (_, snapshot) = parts.pinned()?;
    let prefix = format!("{name}#");
    let mut after = DocumentId::Text(prefix.clone());
    loop {
        let Some(next) = snapshot.scan(Some(&after), 1)?.pop() else { return Ok(false) };
        match &next.id {
            DocumentId::Text(id) if id.starts_with(&prefix) => {
                if id[prefix.len()..].bytes().all(|byte| byte.is_ascii_digit()) {
                    return Ok(true);
                }
            }
            DocumentId::Text(_) | DocumentId::Integer(_) => return Ok(false),
        }
        after = next.id;
    }
}

/// That rows of two files would have the same ids.
fn same_names(name: &str, one: &Path, other: &Path) -> Error {
    let (one, other) = (one.display(), other.display());
    Error::invalid(format!(
        "{one} and {other} have the same name, and rows without an id are called after it (`{name}#7`): those of one file \
         would replace those of the other. Say which column is the id (--map id=COLUMN), rename a file, or import it into \
         another collection"
    ))
}

/// One run of an import.
struct Run<'a> {
    claim: Claim,
    key: Vec<u8>,
    identity: Identity,
    /// Of earlier runs.
    counts: Counts,
    begin: Position,
    rows_total: Option<u64>,
    options: &'a ImportOptions<'a>,
    start: Instant,
    state: Mutex<State>,
}

struct State {
    /// Rows that were read and are not committed yet.
    in_flight: VecDeque<InFlight>,
    /// How many of this run were committed.
    committed: u64,
    /// The last of them.
    position: Position,
    rejects: Rejects,
    rejected: u64,
    listed: Vec<Rejected>,
    /// Documents of this run that are in.
    documents: u64,
    written: Option<Instant>,
    /// Why reading ended before the end.
    failed: Option<Error>,
    /// Whether it ended at the end.
    exhausted: bool,
    /// The first row of this run that is called after the file and was taken.
    named: Option<u64>,
}

struct InFlight {
    next: Position,
    /// Called after the file.
    is_named: bool,
    /// The document's id, or why there is none.
    row: std::result::Result<String, BadRow>,
}

impl State {
    fn new(position: Position, rejects: Rejects, rejected: u64) -> Self {
        Self {
            in_flight: VecDeque::new(),
            committed: 0,
            position,
            rejects,
            rejected,
            listed: Vec::new(),
            documents: 0,
            written: None,
            failed: None,
            exhausted: false,
            named: None,
        }
    }
}

impl Run<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in(self, parts: &Arc<Parts>, mut table: Table, types: BTreeMap<String, String>) -> Result<ImportReport> {
        let show = |report: &AddReport| {
            let Some(progress) = self.options.progress else { return };
            let state = self.state();
            progress(&ImportProgress {
                rows: state.position.rows,
                rows_before: self.begin.rows,
                rows_total: self.rows_total,
                rejected: state.rejected,
                seconds: report.seconds,
            });
        };
        let options = AddOptions { dry_run: false, progress: Some(&show), cancel: self.options.cancel };
        let documents = std::iter::from_fn(|| self.next(&mut table));
        let added = add_along(parts, documents, &options, Some(&self));
        let cancelled = self.options.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed));
        let failed = self.state().failed.take();
        let report = added.map_err(|error| self.after(error))?;
        if let Some(error) = failed {
            return Err(self.after(error));
        }
        let done = self.state().exhausted && self.state().in_flight.is_empty();
        if done {
            self.finish(parts, &report, types)?;
        } else if !cancelled {
            return Err(self.after(Error::invalid("reading ended before the end of the file")));
        }
        let mut state = self.state();
        let listed = std::mem::take(&mut state.listed);
        Ok(ImportReport {
            report: self.counts.with(&report, state.rejected_until_now()).report(listed),
            rows: state.position.rows,
            rejected_rows: state.rejected_until_now(),
            resumed_after: self.begin.rows,
            already_imported: false,
            notes: table.note().into_iter().collect(),
        })
    }

    /// The next document or rejection of the file. After an error of the file nothing comes any more.
    fn next(&self, table: &mut Table) -> Option<std::result::Result<Document, Rejected>> {
        if self.state().failed.is_some() {
            return None;
        }
        let row = match table.next_row() {
            Ok(Some(row)) => row,
            Ok(None) => {
                self.state().exhausted = true;
                return None;
            }
            Err(error) => {
                self.state().failed = Some(error);
                return None;
            }
        };
        let mut state = self.state();
        if row.is_named_by_row
            && let Some(error) = self.claim.refusal(&self.identity)
        {
            state.failed = Some(error);
            return None;
        }
        let (loaded, in_flight) = match row.document {
            Ok(document) => {
                let id = document.id.to_string();
                (Ok(document), Ok(id))
            }
            Err(bad) => {
                state.rejected += 1;
                if let Some(most) = self.options.rejects_max.filter(|most| state.rejected > *most) {
                    state.failed = Some(too_many(most, &bad.rejected()));
                }
                (Err(bad.rejected()), Err(bad))
            }
        };
        state.in_flight.push_back(InFlight { next: row.next, is_named: row.is_named_by_row, row: in_flight });
        Some(loaded)
    }

    /// The last record: all is in.
    fn finish(&self, parts: &Arc<Parts>, report: &AddReport, types: BTreeMap<String, String>) -> Result<()> {
        self.state().rejects.flush()?;
        let mut edits = self.position(&self.state(), report, true)?;
        if let Some(columns) = Columns::read(parts)?.with(types) {
            edits.push(LedgerEdit::put(COLUMNS_KEY, json(&columns)?));
        }
        write(parts, &[], &Alongside::ledger(edits))?;
        Ok(())
    }

    fn position(&self, state: &State, report: &AddReport, done: bool) -> Result<Vec<LedgerEdit>> {
        let run = AddReport { seconds: self.start.elapsed().as_secs_f64(), rejected: Vec::new(), ..report.clone() };
        let record = Record {
            version: VERSION,
            identity: self.identity.clone(),
            position: state.position,
            done,
            counts: self.counts.with(&run, state.rejected_until_now()),
            rejects: state.rejects.file(),
        };
        let mut edits = vec![LedgerEdit::put(self.key.clone(), json(&record)?)];
        edits.extend(self.claim.edit(&self.identity, state.named)?);
        Ok(edits)
    }

    /// An error with what is in nevertheless.
    fn after(&self, error: Error) -> Error {
        let Error::InvalidInput(message) = error else { return error };
        let state = self.state();
        let (rows, documents) = (state.position.rows, self.counts.documents() + state.documents);
        if documents == 0 {
            return Error::InvalidInput(message);
        }
        Error::invalid(format!(
            "{message}. The rows before are in ({rows}); the same import goes on behind them while the file stays as it is"
        ))
    }
}

impl State {
    /// Rejections up to the position, without those of rows that are in flight.
    fn rejected_until_now(&self) -> u64 {
        self.rejected - self.in_flight.iter().filter(|row| row.row.is_err()).count() as u64
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::invalid(error.to_string()))
}

fn too_many(most: u64, last: &Rejected) -> Error {
    Error::invalid(format!(
        "more than {most} rows are rejected, the last one {}: {}. Mend the file, map its columns otherwise, or allow more \
         (--max-rejects)",
        last.source, last.reason
    ))
}

impl Along for Run<'_> {
    fn edits(&self, taken: u64, refused: Vec<Refused>, report: &AddReport, changes: bool) -> Result<Vec<LedgerEdit>> {
        let mut state = self.state();
        let reasons = refused.into_iter().map(|refused| (refused.place, refused.rejected.reason));
        let mut reasons: HashMap<usize, String> = reasons.collect();
        let mut place = 0;
        while state.committed < taken {
            let Some(InFlight { next, is_named, row }) = state.in_flight.pop_front() else { break };
            state.committed += 1;
            state.position = next;
            let bad = match row {
                Err(bad) => Some(bad),
                Ok(id) => {
                    place += 1;
                    let refused = reasons.remove(&(place - 1)).map(|reason| {
                        state.rejected += 1;
                        let (source, row) = (self.identity.path.clone(), next.rows);
                        BadRow { source, row, column: None, value: Some(id.into()), reason }
                    });
                    if is_named && refused.is_none() {
                        state.named.get_or_insert(next.rows);
                    }
                    refused
                }
            };
            if let Some(mut bad) = bad {
                // However the file was named: its rows are found again by it.
                bad.source.clone_from(&self.identity.path);
                state.rejects.write(&bad)?;
                if state.listed.len() < LISTED_MAX {
                    state.listed.push(bad.rejected());
                }
            }
        }
        if let Some(most) = self.options.rejects_max.filter(|most| state.rejected > *most && state.failed.is_none()) {
            let none = Rejected { source: self.identity.path.clone(), reason: "see the rejects".to_owned() };
            state.failed = Some(too_many(most, state.listed.last().unwrap_or(&none)));
        }
        state.documents = report.added + report.replaced + report.unchanged;
        let is_idle = state.written.is_some_and(|written| written.elapsed() < IDLE);
        if !changes && is_idle {
            return Ok(Vec::new());
        }
        state.rejects.flush()?;
        state.written = Some(Instant::now());
        self.position(&state, report, false)
    }
}

/// Refuses to write rejected rows over something else, such as the file that is imported: one that is there must be empty, or
/// begin with a rejected row.
fn refuse_other_content(path: &Path) -> Result<()> {
    let mut beginning = Vec::new();
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    file.take(ENDS_BYTES).read_to_end(&mut beginning).map_err(|error| Error::io(path, error))?;
    let is_reject = |line: &[u8]| {
        let row: Option<serde_json::Value> = serde_json::from_slice(line).ok();
        row.is_some_and(|row| ["source", "row", "reason"].iter().all(|key| row.get(key).is_some()))
    };
    let line = beginning.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if beginning.is_empty()
        || is_reject(line)
        || beginning.len() as u64 == ENDS_BYTES && line.starts_with(b"{\"source\":")
    {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{} holds something else than rejected rows, and would be lost; name another file for them",
        path.display()
    )))
}

/// Takes out of a file of rejected rows those of these sources behind row `rows`, and a last line that was cut off. What
/// another import wrote into it meanwhile stays, before and behind. A file that has none of them is left as it is.
fn keep_others(path: &Path, sources: &[String], rows: u64) -> std::io::Result<()> {
    #[derive(Deserialize)]
    struct Written {
        source: String,
        row: u64,
    }
    let is_kept = |line: &[u8]| {
        let written: Option<Written> = serde_json::from_slice(line).ok();
        line.ends_with(b"\n") && written.is_none_or(|written| written.row <= rows || !sources.contains(&written.source))
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.{}.partial", std::process::id()));
    let copied = copy_lines(path, &partial, is_kept);
    // The file that is open elsewhere, or linked to, stays that file where nothing is to be done.
    let settled = match copied {
        Ok(true) => std::fs::rename(&partial, path),
        Ok(false) => return std::fs::remove_file(&partial),
        Err(error) => Err(error),
    };
    settled.inspect_err(|_| drop(std::fs::remove_file(&partial)))
}

/// Copies the lines that are kept; whether there was another.
fn copy_lines(from: &Path, to: &Path, is_kept: impl Fn(&[u8]) -> bool) -> std::io::Result<bool> {
    let (mut lines, mut line, mut dropped) = (BufReader::new(File::open(from)?), Vec::new(), false);
    let mut kept = BufWriter::new(File::create(to)?);
    while lines.read_until(b'\n', &mut line)? > 0 {
        match is_kept(&line) {
            true => kept.write_all(&line)?,
            false => dropped = true,
        }
        line.clear();
    }
    kept.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(dropped)
}

/// The file of rejected rows.
struct Rejects {
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Rejects {
    /// Opens it; where the import goes on, without its own rows behind the position, which come again.
    fn open(options: &ImportOptions<'_>, before: Option<&Record>, identity: &Identity, source: &Path) -> Result<Self> {
        let Some(path) = &options.rejects else { return Ok(Self { path: PathBuf::new(), file: None }) };
        let cannot = |error| Error::io(path, error);
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(path).map_err(cannot)?;
        let full = path.canonicalize().map_err(cannot)?;
        refuse_other_content(path)?;
        // Earlier versions wrote it as it was named.
        let sources = [identity.path.clone(), source.to_string_lossy().into_owned()];
        match before {
            Some(record) if record.rejects.as_ref().is_some_and(|before| before.path() == full) => {
                drop(file);
                keep_others(&full, &sources, record.position.rows).map_err(cannot)?;
            }
            // All of its rows come again.
            _ if options.append => {
                drop(file);
                keep_others(&full, &sources, 0).map_err(cannot)?;
            }
            _ => file.set_len(0).map_err(cannot)?,
        }
        let file = OpenOptions::new().append(true).open(&full).map_err(cannot)?;
        Ok(Self { path: full, file: Some(BufWriter::new(file)) })
    }

    fn write(&mut self, bad: &BadRow) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut line = json(bad)?;
        line.push(b'\n');
        file.write_all(&line).map_err(|error| Error::io(&self.path, error))
    }

    fn flush(&mut self) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.flush().map_err(|error| Error::io(&self.path, error))
    }

    fn file(&self) -> Option<RejectsFile> {
        self.file.as_ref().map(|_| RejectsFile::Path(self.path.clone()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn records_of_earlier_versions_name_their_file_of_rejects() {
        for written in ["[\"/data/bad.jsonl\",123]", "\"/data/bad.jsonl\""] {
            let read: RejectsFile = serde_json::from_str(written).unwrap();
            assert_eq!(read.path(), Path::new("/data/bad.jsonl"));
        }
        assert_eq!(serde_json::to_string(&RejectsFile::Path("/a".into())).unwrap(), "\"/a\"");
    }
}
