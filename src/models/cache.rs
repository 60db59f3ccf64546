//! Which models are on this machine, and are their files whole?
//!
//! The layout is that of Python's `huggingface_hub`, shared with it: `models--owner--name/` holds `blobs/` named by their
//! digest (SHA-256 for large files, git's SHA-1 for small ones), `snapshots/COMMIT/` with links to them under the files'
//! own names, and `refs/` from branches to commits. Locks lie in `.locks/`, where Python's tools look for them, too.
//!
//! Invariants: a blob has its name only when its bytes are whole and checked; a snapshot names no file outside of its
//! repository's folder; reading needs no network.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use hf_hub::{Repo, RepoType};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::hub::Digest;
use super::id::{HubId, is_commit};
use crate::{Error, Result};

/// The branch that is meant where none is named.
const MAIN: &str = "main";
/// Folders of a snapshot are looked into to this depth; models have two.
const DEPTH_MAX: usize = 6;

/// The folder in which models are cached.
#[derive(Clone, Debug)]
pub struct Cache {
    layout: hf_hub::Cache,
}

/// A model's files at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The commit.
    pub commit: String,
    /// The directory.
    pub directory: PathBuf,
}

/// A model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedModel {
    /// Its id with the commit.
    pub id: HubId,
    /// Its directory.
    pub directory: PathBuf,
    /// How many files it has.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Whether all the files are there that it takes to open it.
    pub complete: bool,
}

/// What was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Snapshots.
    pub snapshots: usize,
    /// Bytes that are free now.
    pub bytes: u64,
}

/// A file compared with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its name in the snapshot.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// SHA-256 of what is there, in hex.
    pub sha256: String,
    /// What the comparison says.
    pub integrity: Integrity,
}

/// Whether a file is what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// Its digest is the one that its blob is named by.
    Intact,
    /// Its digest is another one.
    Damaged,
    /// It is no link to a blob, so nothing says what its digest should be.
    Unknown,
}

impl Cache {
    /// The cache in this folder, which need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { layout: hf_hub::Cache::new(folder.into()) }
    }

    /// The folder of a model.
    fn folder(&self, id: &HubId) -> PathBuf {
        self.layout.path().join(repo(id, MAIN).folder_name())
    }

    /// The snapshot that an id means, by what the cache itself says of branches; `None` where there is none.
    pub fn snapshot(&self, id: &HubId) -> Option<Snapshot> {
        let revision = id.revision().unwrap_or(MAIN);
        let commit = match is_commit(revision) {
            true => revision.to_owned(),
            false => fs::read_to_string(self.folder(id).join("refs").join(revision)).ok()?.trim().to_owned(),
        };
        let directory = self.snapshot_directory(id, &commit);
        (is_commit(&commit) && directory.is_dir()).then_some(Snapshot { commit, directory })
    }

    /// The commits of a model that are in the cache.
    pub fn commits(&self, id: &HubId) -> Vec<String> {
        entries(&self.folder(id).join("snapshots")).into_iter().filter(|name| is_commit(name)).collect()
    }

    /// Where a snapshot lies, or will.
    pub(crate) fn snapshot_directory(&self, id: &HubId, commit: &str) -> PathBuf {
        self.layout.repo(repo(id, MAIN)).pointer_path(commit)
    }

    /// Where a file's bytes lie, or will.
    pub(crate) fn blob(&self, id: &HubId, digest: &Digest) -> PathBuf {
        self.folder(id).join("blobs").join(digest.hex())
    }

    /// Where they lie while they are fetched; the name is the one that Python's tools have for it.
    pub(crate) fn partial(&self, id: &HubId, digest: &Digest) -> PathBuf {
        self.folder(id).join("blobs").join(format!("{}.incomplete", digest.hex()))
    }

    /// Waits until no other process writes this blob, and keeps others off it as long as the file lives. `waiting` is
    /// called where it takes a wait.
    pub(crate) fn lock(&self, id: &HubId, digest: &Digest, waiting: impl FnOnce()) -> Result<File> {
        let folder = self.layout.path().join(".locks").join(repo(id, MAIN).folder_name());
        make_folder(&folder)?;
        let path = folder.join(format!("{}.lock", digest.hex()));
        let failed = |error| Error::io(&path, error);
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                waiting();
                file.lock().map_err(failed)?;
            }
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(file)
    }

    /// Gives a blob its name in a snapshot: a relative link, so that the cache can be moved; a copy where the system
    /// makes no links.
    pub(crate) fn link(&self, id: &HubId, commit: &str, name: &str, digest: &Digest) -> Result<()> {
        let place = self.snapshot_directory(id, commit).join(name);
        let depth = name.split('/').count() + 1;
        let target: PathBuf = (0..depth).map(|_| "..").chain(["blobs", digest.hex()]).collect();
        if fs::read_link(&place).is_ok_and(|there| there == target) {
            return Ok(());
        }
        let folder = place.parent().unwrap_or(&place);
        make_folder(folder)?;
        let temporary = folder.join(format!(".{}.{}.new", digest.hex(), std::process::id()));
        let linked = make_link(&target, &temporary).or_else(|_| {
            remove_if_there(&temporary)?;
            fs::copy(self.blob(id, digest), &temporary).map(|_| ())
        });
        linked.and_then(|()| fs::rename(&temporary, &place)).map_err(|error| Error::io(&place, error))
    }

    /// Notes which files a snapshot will have, until [`Cache::end`]: an interrupted one may look whole without some.
    pub(crate) fn begin(&self, id: &HubId, commit: &str, names: &[&str]) -> Result<()> {
        let place = expected(&self.snapshot_directory(id, commit));
        make_folder(place.parent().unwrap_or(&place))?;
        let temporary = place.with_extension(format!("{}.new", std::process::id()));
        let written = fs::write(&temporary, names.join("\n")).and_then(|()| fs::rename(&temporary, &place));
        written.map_err(|error| Error::io(&place, error))
    }

    /// All files of a snapshot are there.
    pub(crate) fn end(&self, id: &HubId, commit: &str) -> Result<()> {
        let place = expected(&self.snapshot_directory(id, commit));
        remove_if_there(&place).map_err(|error| Error::io(&place, error))?;
        // Goes with the last of them; another process may have one of its own there.
        let _ = place.parent().map(fs::remove_dir);
        Ok(())
    }

    /// Notes which commit a branch or tag means. Done last, so that a name never leads to a half-fetched snapshot.
    pub(crate) fn remember(&self, id: &HubId, commit: &str) -> Result<()> {
        let revision = id.revision().unwrap_or(MAIN);
        if is_commit(revision) {
            return Ok(());
        }
        let place = self.folder(id).join("refs").join(revision);
        let folder = place.parent().unwrap_or(&place);
        make_folder(folder)?;
        let temporary = folder.join(format!(".{}.new", std::process::id()));
        fs::write(&temporary, commit)
            .and_then(|()| fs::rename(&temporary, &place))
            .map_err(|error| Error::io(&place, error))
    }

    /// All models in the cache, by id and commit. Datasets and spaces, which others keep here, are left out.
    pub fn models(&self) -> Vec<CachedModel> {
        let mut models = Vec::new();
        for folder in entries(self.layout.path()) {
            let parts: Vec<&str> = folder.split("--").collect();
            let &["models", owner, name] = parts.as_slice() else { continue };
            let Some(id) = HubId::from_parts(owner, name) else { continue };
            for commit in self.commits(&id) {
                let directory = self.snapshot_directory(&id, &commit);
                let files = files(&directory);
                let bytes = files.iter().filter_map(|(path, _)| Some(fs::metadata(path).ok()?.len())).sum();
                let complete = is_complete(&directory);
                models.push(CachedModel { id: id.at(&commit), directory, files: files.len(), bytes, complete });
            }
        }
        models
    }

    /// Removes a model, or one commit of it where the id names a revision; what other commits share stays.
    ///
    /// # Errors
    /// [`Error::Model`] where it is not in the cache, [`Error::Io`] where it cannot be removed.
    pub fn remove(&self, id: &HubId) -> Result<Removed> {
        let folder = self.folder(id);
        let missing = || Error::model(id.to_string(), "it is not in the cache; `quiver models list` shows what is");
        let before = bytes_below(&folder);
        let mut left = self.commits(id);
        let snapshots = match id.revision() {
            None if folder.is_dir() => left.len(),
            None => return Err(missing()),
            Some(_) => {
                let Snapshot { commit, directory } = self.snapshot(id).ok_or_else(missing)?;
                left.retain(|other| *other != commit);
                remove_folder(&directory)?;
                1
            }
        };
        if id.revision().is_none() || left.is_empty() {
            remove_folder(&folder)?;
            let locks = self.layout.path().join(".locks").join(repo(id, MAIN).folder_name());
            if locks.is_dir() {
                remove_folder(&locks)?;
            }
        } else {
            self.remove_unused_blobs(id)?;
        }
        Ok(Removed { snapshots, bytes: before.saturating_sub(bytes_below(&folder)) })
    }

    /// Removes the blobs that no snapshot leads to, and the names of commits that are gone.
    fn remove_unused_blobs(&self, id: &HubId) -> Result<()> {
        let folder = self.folder(id);
        let snapshots = folder.join("snapshots");
        let used: Vec<String> =
            files(&snapshots).iter().filter_map(|(path, _)| Some(blob_name(path)?.hex().to_owned())).collect();
        for name in entries(&folder.join("blobs")) {
            let path = folder.join("blobs").join(&name);
            if !used.contains(&name) {
                fs::remove_file(&path).map_err(|error| Error::io(&path, error))?;
            }
        }
        for (path, _) in files(&folder.join("refs")) {
            let commit = fs::read_to_string(&path).unwrap_or_default();
            if !snapshots.join(commit.trim()).is_dir() {
                fs::remove_file(&path).map_err(|error| Error::io(&path, error))?;
            }
        }
        Ok(())
    }
}

/// Reads every file of a model's directory and compares its digest with the one that its blob is named by.
///
/// # Errors
/// [`Error::Model`] where there are no files, [`Error::Io`] where one cannot be read.
pub(crate) fn check(directory: &Path) -> Result<Vec<Checked>> {
    let mut checked = Vec::new();
    for (path, name) in files(directory) {
        let bytes = fs::metadata(&path).map_err(|error| Error::io(&path, error))?.len();
        let known = blob_name(&path);
        let sha256 = Digest::Sha256(String::new()).of(&path)?;
        let integrity = match &known {
            None => Integrity::Unknown,
            Some(Digest::Sha256(hex)) if *hex == sha256 => Integrity::Intact,
            Some(digest @ Digest::GitSha1(hex)) if digest.of(&path)? == *hex => Integrity::Intact,
            Some(_) => Integrity::Damaged,
        };
        checked.push(Checked { name, bytes, sha256, integrity });
    }
    if checked.is_empty() {
        return Err(Error::model(directory.display().to_string(), "the directory holds no files"));
    }
    Ok(checked)
}

impl Cache {
    /// [`Checked`] for every file of a model in the cache, or of any directory.
    ///
    /// # Errors
    /// [`Error::Model`] where there are no files, [`Error::Io`] where one cannot be read.
    pub fn check(directory: &Path) -> Result<Vec<Checked>> {
        check(directory)
    }
}

impl Digest {
    /// This kind of digest of a file, in hex. Reads it all (about 1 GB/s).
    pub(crate) fn of(&self, path: &Path) -> Result<String> {
        let failed = |error| Error::io(path, error);
        let mut file = File::open(path).map_err(failed)?;
        match self {
            Self::Sha256(_) => digest(&mut file, Sha256::new()).map_err(failed),
            Self::GitSha1(_) => {
                let bytes = file.metadata().map_err(failed)?.len();
                // git names an object by its kind, its size and its bytes.
                digest(&mut file, Sha1::new().chain_update(format!("blob {bytes}\0"))).map_err(failed)
            }
        }
    }
}

fn digest<D: sha2::Digest>(file: &mut File, mut hasher: D) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Whether a directory holds what it takes to open a model: a configuration, and weights with all their parts.
pub(crate) fn is_complete(directory: &Path) -> bool {
    let files = files(directory);
    let named = |wanted: &str| files.iter().any(|(path, name)| name == wanted && path.is_file());
    let weights = files.iter().filter(|(path, name)| {
        let weighs = name.ends_with(".safetensors") || name.ends_with(".onnx");
        weighs && path.is_file() && !is_later_module(name)
    });
    let indexes = files.iter().filter(|(_, name)| name.ends_with(".safetensors.index.json"));
    let has_configuration = ["config.json", "modules.json"].into_iter().any(named);
    let has_expected = fs::read_to_string(expected(directory)).map_or(true, |names| names.lines().all(named));
    has_configuration && has_expected && weights.count() > 0 && indexes.into_iter().all(|(path, _)| has_parts(path))
}

/// Whether a file belongs to a module behind the encoder, as `2_Dense/model.safetensors` does: its weights alone make no
/// model.
fn is_later_module(name: &str) -> bool {
    let folder = name.split_once('/').map_or("", |(folder, _)| folder);
    folder.split_once('_').is_some_and(|(number, _)| number.parse::<u32>().is_ok_and(|number| number > 0))
}

/// Where it is noted which files a snapshot will have, while it is fetched; beside `snapshots`, where others do not look.
fn expected(snapshot: &Path) -> PathBuf {
    let folder = snapshot.parent().and_then(Path::parent).unwrap_or(snapshot);
    folder.join(".pulling").join(snapshot.file_name().unwrap_or_default())
}

/// Whether all files are there that an index of weights names.
fn has_parts(index: &Path) -> bool {
    let read = || -> Option<Vec<String>> {
        let value: serde_json::Value = serde_json::from_slice(&fs::read(index).ok()?).ok()?;
        Some(value["weight_map"].as_object()?.values().filter_map(|part| Some(part.as_str()?.to_owned())).collect())
    };
    let folder = index.parent().unwrap_or(index);
    read().is_some_and(|parts| parts.iter().all(|part| folder.join(part).is_file()))
}

fn repo(id: &HubId, revision: &str) -> Repo {
    Repo::with_revision(id.repository().to_owned(), RepoType::Model, revision.to_owned())
}

/// The digest that a link's blob is named by.
fn blob_name(path: &Path) -> Option<Digest> {
    let target = fs::read_link(path).ok()?;
    let in_blobs = target.parent().and_then(Path::file_name).is_some_and(|folder| folder == "blobs");
    if in_blobs { Digest::parse(target.file_name()?.to_str()?) } else { None }
}

/// The names in a folder, in order; none where it cannot be read.
fn entries(folder: &Path) -> Vec<String> {
    let read = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = read.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The files below a folder with their names relative to it, in order. Links to folders are not followed.
fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    collect_files(folder, "", 0, &mut found);
    found
}

fn collect_files(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<(PathBuf, String)>) {
    for name in entries(folder) {
        let path = folder.join(&name);
        let relative = format!("{prefix}{name}");
        let Ok(kind) = fs::symlink_metadata(&path) else { continue };
        if kind.is_dir() && depth < DEPTH_MAX {
            collect_files(&path, &format!("{relative}/"), depth + 1, found);
        } else if !kind.is_dir() {
            found.push((path, relative));
        }
    }
}

/// The bytes of all files below, where links count nothing.
fn bytes_below(folder: &Path) -> u64 {
    let metadata = |(path, _): &(PathBuf, String)| fs::symlink_metadata(path).ok();
    files(folder).iter().filter_map(metadata).filter(fs::Metadata::is_file).map(|metadata| metadata.len()).sum()
}

fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))
}

fn remove_folder(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).map_err(|error| Error::io(folder, error))
}

pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(unix)]
fn make_link(target: &Path, place: &Path) -> io::Result<()> {
    remove_if_there(place)?;
    std::os::unix::fs::symlink(target, place)
}

#[cfg(not(unix))]
fn make_link(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether a name of the hub stays within the folder that it is put into, on any system.
pub(crate) fn stays_within(name: &str) -> bool {
    let plain = |part: &str| {
        let steers = |character: char| character.is_control() || matches!(character, '\\' | ':');
        !part.is_empty() && part != "." && part != ".." && !part.contains(steers) && !part.ends_with(['.', ' '])
    };
    let normal = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    normal && name.len() < 512 && name.split('/').count() <= DEPTH_MAX && name.split('/').all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_of_a_snapshot_are_told() {
        for name in ["config.json", "1_Pooling/config.json", "onnx/model.onnx_data", "a b/c-d_e.json"] {
            assert!(stays_within(name), "{name}");
        }
        let bad = [
            "../x",
            "a/../../x",
            "/etc/passwd",
            "a//b",
            "",
            ".",
            "a/.",
            "..\\x",
            "C:x",
            "a\\b",
            "x\0",
            "a/",
            "x.",
            "a\n",
        ];
        for name in bad {
            assert!(!stays_within(name), "{name:?}");
        }
    }

    #[test]
    fn weights_of_a_later_module_alone_make_no_model() {
        for (name, later) in [
            ("2_Dense/model.safetensors", true),
            ("0_Transformer/model.safetensors", false),
            ("model.safetensors", false),
            ("onnx/model.onnx", false),
        ] {
            assert_eq!(is_later_module(name), later, "{name}");
        }
    }

    #[test]
    fn git_s_digest_is_git_s() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|error| Error::io("a temporary folder", error))?;
        let path = folder.path().join("hello");
        fs::write(&path, "hello world\n").map_err(|error| Error::io(&path, error))?;
        // `echo 'hello world' | git hash-object --stdin`, and `sha256sum` of the same.
        assert_eq!(Digest::GitSha1(String::new()).of(&path)?, "3b18e512dba79e4c8300dd08aeb37f8e728b8dad");
        let sha256 = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447";
        assert_eq!(Digest::Sha256(String::new()).of(&path)?, sha256);
        Ok(())
    }
}
