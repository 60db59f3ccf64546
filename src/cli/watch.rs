//! How does a collection keep step with folders that change?
//!
//! Notices of the system only say when to look; what changed is found by comparing the time and size of every file with
//! those of the last look. So lost notices, renamed folders and changed ignore files are nothing special, and one look a
//! minute finds what no notice told (network drives tell none). Between changes the database is closed, so that others can
//! search it.
//!
//! A folder that is deleted and made again, or moved away and back, is another one for the system, which gives no notice
//! of it: each is watched anew when it is there again.
//!
//! Invariants: the first look is older than the first pass, so nothing falls between; what is new goes in before what is
//! gone leaves; a folder that is itself not there takes no document with it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::Result;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use quiverdb::formats;
use quiverdb::{AddReport, Collection, DocumentId};
use serde::Serialize;

use super::add::REJECTED_SHOWN_MAX;
use super::intake::{How, Intake, add, describe, reads_images, source, take_in, unread};
use super::output::{Format, Output, count, harmless, note};
use super::progress;
use super::session::{Mistake, Outcome, Session};
use super::sources::{Sources, loader, root_of};

/// How often Ctrl-C is looked for.
const TICK: Duration = Duration::from_millis(100);
/// A burst of changes is over after so long without one, or after [`BURST_MAX`].
const QUIET: Duration = Duration::from_millis(100);
const BURST_MAX: Duration = Duration::from_secs(2);
/// A look without a notice.
const LOOK: Duration = Duration::from_secs(60);
/// A look where the system gives no notices.
const LOOK_WITHOUT_NOTICES: Duration = Duration::from_secs(1);
/// How often it is asked whether a folder is still the one that is watched.
const LOOK_AT_ROOTS: Duration = Duration::from_secs(1);
/// How long another process may hold the database before that is an error.
const LOCKED_MAX: Duration = Duration::from_secs(60);
/// Names in a line about a change.
const NAMES_MAX: usize = 3;

const HOW: How = How { sync: true, dry_run: false, goes_on: true, changed: false };

/// Adds the sources and follows their changes until Ctrl-C.
pub(crate) fn run(session: &Session, sources: &Sources, open: &dyn Fn() -> Result<Collection>) -> Result<Outcome> {
    if !sources.are_files() {
        return Err(Mistake::new("--watch follows files and folders; stdin is none").hint("leave out `-`").into());
    }
    progress::stop_on_ctrl_c();
    let roots: &[Root] = &sources.roots().iter().map(|path| Root::of(path)).collect::<Vec<_>>();
    let mut notices = Notices::of(roots, session.path.canonicalize().unwrap_or_else(|_| session.path.clone()));
    let mut tree = Tree::look(roots);
    let collection = open()?;
    let intake = take_in(&collection, sources, HOW)?;
    let mut ledger = Ledger::of(&collection, roots)?;
    drop(collection);
    tell_first(&session.output, &intake)?;
    ledger.rejected = unread(&intake.report.rejected).into_iter().collect();
    note(&format!("watching {}; Ctrl-C ends it", count(roots.len() as u64, "path")));
    while notices.wait() {
        let mut now = Tree::look(roots);
        let changes = tree.changes(&now, &ledger.rejected);
        now.remember(tree);
        tree = now;
        if !changes.is_empty() {
            let report = ledger.apply(&patiently(open)?, &changes)?;
            tell(&session.output, roots, &changes, report)?;
        }
    }
    Ok(Outcome::Done)
}

/// Opens the collection as soon as nobody else has it open.
fn patiently(open: &dyn Fn() -> Result<Collection>) -> Result<Collection> {
    let begun = Instant::now();
    loop {
        match open() {
            Err(error) if is_locked(&error) && begun.elapsed() < LOCKED_MAX && !progress::is_stopped() => {
                std::thread::sleep(TICK);
            }
            opened => return opened,
        }
    }
}

fn is_locked(error: &anyhow::Error) -> bool {
    let locked =
        |error: &quiverdb::Error| matches!(error, quiverdb::Error::Storage(quiverdb_storage::Error::Locked { .. }));
    error.chain().any(|cause| cause.downcast_ref().is_some_and(locked))
}

/// A file or folder that is followed.
struct Root {
    path: PathBuf,
    is_file: bool,
    /// What ids are relative to.
    folder: PathBuf,
    /// The drive that it is on; of a folder that is a mount point another one is there when its own is taken away.
    device: Option<u64>,
}

impl Root {
    fn of(path: &Path) -> Self {
        let (path, folder) = (path.to_owned(), root_of(path).to_owned());
        Self { is_file: path.is_file(), device: device_of(&path), path, folder }
    }

    /// A file that was deleted is gone; a folder may be on a drive that is not plugged in.
    fn may_be_gone(&self) -> bool {
        self.is_file && self.folder.is_dir()
    }

    /// Whether what is there is on another drive than at first.
    fn is_elsewhere(&self) -> bool {
        self.device.is_some_and(|first| device_of(&self.path).is_some_and(|now| now != first))
    }
}

#[cfg(unix)]
fn device_of(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    path.metadata().ok().map(|metadata| metadata.dev())
}

#[cfg(not(unix))]
fn device_of(_: &Path) -> Option<u64> {
    None
}

/// What each file was like.
#[derive(Default)]
struct Tree {
    files: BTreeMap<PathBuf, (PathBuf, Stamp)>,
    /// Folders and files that could not be looked at, and roots that are not there.
    unread: Vec<PathBuf>,
}

/// When a file was written last, how long it is, and which one it is. What is written at the same length within the tick of
/// the system's clock in which it was looked at (some milliseconds at most) shows with the next change only.
struct Stamp(Metadata);

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        let (one, two) = (&self.0, &other.0);
        one.len() == two.len() && one.modified().ok() == two.modified().ok() && identity(one) == identity(two)
    }
}

/// The number of a file, and when anything about it changed.
#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, i64, i64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) {}

impl Tree {
    fn look(roots: &[Root]) -> Self {
        let mut tree = Self::default();
        for root in roots {
            if root.path.try_exists().unwrap_or(false) {
                let before = tree.files.len();
                tree.add(root);
                // An empty mount point; whoever mounts another drive there has files on it.
                if tree.files.len() == before && root.is_elsewhere() {
                    tree.unread.push(root.path.clone());
                }
            } else if !root.may_be_gone() {
                tree.unread.push(root.path.clone());
            }
        }
        tree
    }

    fn add(&mut self, root: &Root) {
        for file in formats::files(&root.path) {
            match file {
                Ok(file) => {
                    if let Ok(metadata) = file.metadata() {
                        self.files.insert(file, (root.folder.clone(), Stamp(metadata)));
                    }
                }
                Err(rejected) => self.unread.push(rejected.source.into()),
            }
        }
    }

    fn is_unread(&self, file: &Path) -> bool {
        self.unread.iter().any(|path| file.starts_with(path))
    }

    /// What could not be looked at is as it was: when it can be again, what it lacks is gone.
    fn remember(&mut self, before: Self) {
        for (file, stamped) in before.files {
            if !self.files.contains_key(&file) && self.is_unread(&file) {
                self.files.insert(file, stamped);
            }
        }
    }

    /// What is different now. What was rejected is tried again when something left, which may have been in its way.
    fn changes(&self, now: &Self, rejected: &HashSet<PathBuf>) -> Changes {
        let is_gone = |file: &&PathBuf| !now.files.contains_key(*file) && !now.is_unread(file);
        let gone: BTreeSet<PathBuf> = self.files.keys().filter(is_gone).cloned().collect();
        let mut changed: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
        for (file, (root, stamp)) in &now.files {
            let is_same = self.files.get(file).is_some_and(|(_, before)| before == stamp);
            if !is_same || (!gone.is_empty() && rejected.contains(file)) {
                changed.entry(root.clone()).or_default().push(file.clone());
            }
        }
        Changes { changed, gone }
    }
}

/// What is different since the last look.
struct Changes {
    /// Files to read, by the folder that their ids are relative to.
    changed: BTreeMap<PathBuf, Vec<PathBuf>>,
    gone: BTreeSet<PathBuf>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.gone.is_empty()
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.changed.values().flatten().chain(&self.gone)
    }
}

/// Which documents each file brought.
struct Ledger {
    ids: HashMap<PathBuf, HashSet<DocumentId>>,
    rejected: HashSet<PathBuf>,
}

impl Ledger {
    fn of(collection: &Collection, roots: &[Root]) -> Result<Self> {
        let mut ids: HashMap<PathBuf, HashSet<DocumentId>> = HashMap::new();
        for document in collection.scan()? {
            let document = document?;
            if let Some(source) =
                source(&document).filter(|source| roots.iter().any(|root| source.starts_with(&root.path)))
            {
                ids.entry(source.to_owned()).or_default().insert(document.id);
            }
        }
        Ok(Self { ids, rejected: HashSet::new() })
    }

    /// Takes changed files in, and then out what they and files that are gone do not bring any more.
    fn apply(&mut self, collection: &Collection, changes: &Changes) -> Result<AddReport> {
        let mut brought: HashMap<PathBuf, HashSet<DocumentId>> = HashMap::new();
        let images = reads_images(collection);
        let read = |(root, files): (&PathBuf, &Vec<PathBuf>)| loader(formats::load_some(root, files.clone()), images);
        let documents = changes.changed.iter().flat_map(read);
        let documents = documents.inspect(|loaded| {
            if let Ok(document) = loaded
                && let Some(source) = source(document)
            {
                brought.entry(source.to_owned()).or_default().insert(document.id.clone());
            }
        });
        let mut report = add(collection, documents, How { changed: true, ..HOW })?.report;
        let unread: HashSet<PathBuf> = unread(&report.rejected).into_iter().collect();
        let mut gone = Vec::new();
        for file in changes.files().filter(|file| !unread.contains(*file)) {
            self.rejected.remove(file);
            let now = brought.remove(file).unwrap_or_default();
            for id in self.ids.remove(file).unwrap_or_default().difference(&now) {
                // Another file may have brought that id since.
                let stored = collection.get(id.clone())?;
                if stored.is_some_and(|document| source(&document) == Some(file)) {
                    gone.push(id.clone());
                }
            }
            if !now.is_empty() {
                self.ids.insert(file.clone(), now);
            }
        }
        self.rejected.extend(unread);
        report.removed = if gone.is_empty() { 0 } else { collection.delete_many(&gone)? };
        Ok(report)
    }
}

/// What a change did, for programs: the report of `add`, and the files.
#[derive(Serialize)]
struct Pass<'a> {
    #[serde(flatten)]
    report: &'a AddReport,
    files: Vec<&'a Path>,
}

fn tell_first(output: &Output, intake: &Intake) -> Result<()> {
    if output.format == Format::People {
        intake.list_rejected(REJECTED_SHOWN_MAX);
        intake.warn();
        return output.text(&describe(&intake.report));
    }
    output.value(&Pass { report: &intake.report, files: Vec::new() })
}

fn tell(output: &Output, roots: &[Root], changes: &Changes, report: AddReport) -> Result<()> {
    if output.format != Format::People {
        return output.value(&Pass { report: &report, files: changes.files().map(PathBuf::as_path).collect() });
    }
    let did_something = report.added + report.replaced + report.removed > 0;
    for rejected in report.rejected.iter().take(REJECTED_SHOWN_MAX) {
        note(&format!("skipped {}: {}", harmless(&rejected.source), harmless(&rejected.reason)));
    }
    if !did_something {
        return Ok(());
    }
    let short = |file: &PathBuf| {
        let inside = roots.iter().find_map(|root| file.strip_prefix(&root.folder).ok());
        harmless(&inside.unwrap_or(file).to_string_lossy()).into_owned()
    };
    let all = changes.files().count();
    let mut names = changes.files().take(NAMES_MAX).map(short).collect::<Vec<_>>().join(", ");
    if all > NAMES_MAX {
        names.push_str(&format!(" and {} more", all - NAMES_MAX));
    }
    output.text(&format!("{names}: {}", describe(&report)))
}

/// Notices that something changed.
struct Notices {
    receive: Receiver<notify::Result<notify::Event>>,
    /// Keeps the channel open where nobody gives notice.
    _send: Sender<notify::Result<notify::Event>>,
    watcher: Option<RecommendedWatcher>,
    watched: Vec<Watched>,
    /// The database, whose own changes are none.
    database: PathBuf,
    look: Duration,
}

/// A folder of which notices are asked.
struct Watched {
    folder: PathBuf,
    mode: RecursiveMode,
    /// Which folder is watched; `None` while there is none.
    birth: Option<Birth>,
    /// Whether a notice told that it was deleted or moved.
    is_lost: bool,
}

/// Which folder of its path it is. Its number alone does not tell: file systems give that of a deleted one to the next.
struct Birth(Metadata);

impl PartialEq for Birth {
    fn eq(&self, other: &Self) -> bool {
        let (one, two) = (&self.0, &other.0);
        number(one) == number(two) && one.created().ok() == two.created().ok()
    }
}

impl Birth {
    fn of(folder: &Path) -> Option<Self> {
        folder.metadata().ok().filter(Metadata::is_dir).map(Self)
    }
}

#[cfg(unix)]
fn number(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn number(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

impl Notices {
    fn of(roots: &[Root], database: PathBuf) -> Self {
        let (send, receive) = mpsc::channel();
        let mut watched = folders(roots);
        let watcher = watcher(&mut watched, send.clone());
        let look = if watcher.is_ok() { LOOK } else { LOOK_WITHOUT_NOTICES };
        let watcher = watcher.inspect_err(no_notices).ok();
        Self { receive, _send: send, watcher, watched, database, look }
    }

    /// Waits for a burst of changes to end, for the time of a look, or for a folder to be there again; `false` after Ctrl-C.
    fn wait(&mut self) -> bool {
        let begun = Instant::now();
        let (mut first, mut asked): (Option<Instant>, _) = (None, begun);
        loop {
            if progress::is_stopped() {
                return false;
            }
            match self.receive.recv_timeout(if first.is_some() { QUIET } else { TICK }) {
                Ok(event) if self.tells(&event) => {
                    first.get_or_insert_with(Instant::now);
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) if first.is_some() || begun.elapsed() > self.look => {
                    self.watch_again();
                    return true;
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if asked.elapsed() > LOOK_AT_ROOTS {
                asked = Instant::now();
                if self.watch_again() {
                    first.get_or_insert(asked);
                }
            }
            if first.is_some_and(|first| first.elapsed() > BURST_MAX) {
                return true;
            }
        }
    }

    /// Whether a notice is about a change. That notices were lost, is one.
    fn tells(&mut self, event: &notify::Result<notify::Event>) -> bool {
        let Ok(event) = event else { return true };
        if matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))) {
            self.watched.iter_mut().for_each(|watched| watched.is_lost |= event.paths.contains(&watched.folder));
        }
        let is_read = matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
        let is_ours = !event.paths.is_empty() && event.paths.iter().all(|path| path.starts_with(&self.database));
        !is_read && !is_ours
    }

    /// Watches folders that are others than before, and tells of them and of those that are gone; returns whether there is
    /// one to look at.
    fn watch_again(&mut self) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let mut again = false;
        for watched in &mut self.watched {
            let birth = Birth::of(&watched.folder);
            if birth == watched.birth && !watched.is_lost {
                continue;
            }
            // It may have gone with its folder.
            let _ = watcher.unwatch(&watched.folder);
            watched.is_lost = false;
            let shown = watched.folder.to_string_lossy();
            if birth.is_none() {
                note(&format!(
                    "{} is gone; its documents stay, and it is watched when it is there again",
                    harmless(&shown)
                ));
            } else {
                match watcher.watch(&watched.folder, watched.mode) {
                    Ok(()) => note(&format!("{} is there again, and watched", harmless(&shown))),
                    // It went between; the next round tells.
                    Err(_) if Birth::of(&watched.folder).is_none() => continue,
                    Err(error) => {
                        no_notices(&error);
                        self.look = LOOK_WITHOUT_NOTICES;
                    }
                }
                again = true;
            }
            watched.birth = birth;
        }
        again
    }
}

fn no_notices(error: &notify::Error) {
    note(&format!("the system gives no notices of changes here ({error}); looking every second instead"));
}

/// The folders of the roots, each once.
fn folders(roots: &[Root]) -> Vec<Watched> {
    let mut watched: Vec<Watched> = Vec::new();
    for root in roots {
        // Of a file its folder: the file itself is another one after each save of many editors.
        let mode = if root.is_file { RecursiveMode::NonRecursive } else { RecursiveMode::Recursive };
        match watched.iter_mut().find(|watched| watched.folder == root.folder) {
            Some(same) if mode == RecursiveMode::Recursive => same.mode = mode,
            Some(_) => {}
            None => watched.push(Watched { folder: root.folder.clone(), mode, birth: None, is_lost: false }),
        }
    }
    watched
}

fn watcher(watched: &mut [Watched], send: Sender<notify::Result<notify::Event>>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(send)?;
    for watched in watched {
        watched.birth = Birth::of(&watched.folder);
        watcher.watch(&watched.folder, watched.mode)?;
    }
    Ok(watcher)
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_empty_folder_of_another_drive_takes_nothing_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        std::fs::write(path.join("a.md"), "A.").unwrap();
        let mut roots = [Root::of(&path)];
        let first = Tree::look(&roots);
        std::fs::remove_file(path.join("a.md")).unwrap();
        // As if what is seen now were the mount point below a drive that was taken away.
        let here = roots[0].device.replace(u64::MAX);
        let mut now = Tree::look(&roots);
        assert!(first.changes(&now, &HashSet::new()).is_empty());
        now.remember(first);
        assert_eq!(now.files.len(), 1);
        std::fs::write(path.join("b.md"), "B.").unwrap();
        let other = Tree::look(&roots);
        assert_eq!(now.changes(&other, &HashSet::new()).gone.len(), 1, "another drive with files is what there is now");
        std::fs::remove_file(path.join("b.md")).unwrap();
        roots[0].device = here;
        assert_eq!(now.changes(&Tree::look(&roots), &HashSet::new()).gone.len(), 1, "its own drive is believed");
    }
}
