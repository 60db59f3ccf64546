//! How does a model get from the hub into the cache?
//!
//! List, choose, fetch file by file, compare, link, and last of all note the branch's commit. Invariants: bytes are
//! compared with the digest that the hub gives before they get a name that anything reads; what an interruption leaves
//! is taken up again; two processes never write the same file.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use super::cache::{self, Cache, Snapshot, stays_within};
use super::http::Patience;
use super::hub::{Digest, HttpSource, Listing, Opened, RemoteFile, Source, TransferError};
use super::id::HubId;
use super::select::{Wanted, select};
use super::settings::HubSettings;
use crate::{Error, Result};

/// However much comes each time, a file is not asked for more often.
const ROUNDS_MAX: u32 = 1_000;

/// What happens while a model is fetched.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The files are known: how many, and how many bytes of them are to be fetched.
    Chosen {
        /// The model with its commit.
        id: &'a HubId,
        /// The hub.
        from: &'a str,
        /// Files.
        files: usize,
        /// Their bytes, as far as they are known.
        bytes: u64,
    },
    /// A file is looked at next; it is there already, or comes from byte `from` on.
    File {
        /// Its name.
        name: &'a str,
        /// Its bytes.
        bytes: u64,
        /// What an earlier try left, or all of it.
        from: u64,
    },
    /// So many more bytes are here.
    Bytes(u64),
    /// The connection broke, and another try follows.
    Again {
        /// The file.
        name: &'a str,
        /// What happened.
        reason: &'a str,
    },
    /// Another process fetches this file.
    Waiting {
        /// The file.
        name: &'a str,
    },
    /// Nothing more comes: all files are there, or an error says why not.
    Ended,
}

/// A model that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Its id with the commit.
    pub id: HubId,
    /// Its directory.
    pub directory: PathBuf,
    /// The files that were fetched.
    pub fetched: Vec<String>,
    /// The files that were there already, read and compared.
    pub kept: Vec<String>,
    /// The bytes that came over the network.
    pub bytes: u64,
    /// Weights that were left out, because they are in a format that can run code or that nothing here reads.
    pub skipped: Vec<String>,
}

type Observer = Box<dyn Fn(&Event<'_>) + Send + Sync>;

static OBSERVER: OnceLock<Observer> = OnceLock::new();

/// Has `observer` told whenever a model that a user named is fetched, in this whole process. Only the first one counts.
pub fn observe(observer: impl Fn(&Event<'_>) + Send + Sync + 'static) {
    // A second observer is none of the first one's business.
    let _ = OBSERVER.set(Box::new(observer));
}

fn tell(event: &Event<'_>) {
    if let Some(observer) = OBSERVER.get() {
        observer(event);
    }
}

/// The snapshot of a model: from the cache, or fetched where that is allowed.
pub(crate) fn snapshot(model: &str, id: &HubId, fetch: bool) -> Result<Snapshot> {
    let settings = HubSettings::from_env()?;
    let cache = Cache::new(&settings.cache);
    let cached = cache.snapshot(id).filter(|snapshot| cache::is_complete(&snapshot.directory));
    if let Some(snapshot) = cached {
        return Ok(snapshot);
    }
    if fetch && !settings.offline {
        let pulled = pull(&settings, id, &Wanted::default()).map_err(|error| as_named(model, error))?;
        let commit = pulled.id.revision().unwrap_or_default().to_owned();
        return Ok(Snapshot { commit, directory: pulled.directory });
    }
    let whole = |commit: &String| cache::is_complete(&cache.snapshot_directory(id, commit));
    let others = cache.commits(id).into_iter().filter(whole);
    let others: Vec<String> = others.map(|commit| format!("`{}`", id.at(&commit))).collect();
    let instead = if others.is_empty() { String::new() } else { format!("; the cache has {}", others.join(", ")) };
    let reason = match fetch {
        true => format!(
            "it is not in the cache ({}), and HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids to fetch it: unset that, or \
             run `quiver models pull {id}` where there is a network and copy the cache{instead}",
            settings.cache.display()
        ),
        false => format!(
            "it is no longer in the cache ({}), and only a model that you name is fetched: run `quiver models pull \
             {id}`{instead}",
            settings.cache.display()
        ),
    };
    Err(Error::model(model, reason))
}

/// The error under the name that the user gave, where it may have meant a directory.
fn as_named(model: &str, error: Error) -> Error {
    let Error::Model { reason, .. } = error else { return error };
    Error::model(model, format!("there is no such directory here, and on the hub: {reason}"))
}

/// Fetches a model, or what is missing of it. Files that are there are read and compared, and damaged ones are fetched
/// again. Costs the transfer; of an interrupted one only the rest.
///
/// # Errors
/// [`Error::Model`] where the hub cannot be reached or does not give the model, a file is not what the hub says it is, or
/// the settings are offline; [`Error::Io`] where the cache cannot be written.
pub fn pull(settings: &HubSettings, id: &HubId, wanted: &Wanted) -> Result<Pulled> {
    if settings.offline {
        let reason = "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids to ask the hub: unset it to fetch models";
        return Err(Error::model(id.to_string(), reason));
    }
    let source = HttpSource::new(settings)?;
    let errand = Errand {
        source: &source,
        cache: Cache::new(&settings.cache),
        patience: settings.patience.clone(),
        endpoint: settings.endpoint.clone(),
    };
    let pulled = errand.run(id, wanted);
    tell(&Event::Ended);
    pulled
}

/// One model to fetch.
struct Errand<'a> {
    source: &'a dyn Source,
    cache: Cache,
    patience: Patience,
    endpoint: String,
}

/// A file with all that it takes to fetch it.
struct Target<'a> {
    id: &'a HubId,
    commit: &'a str,
    name: &'a str,
    size: u64,
    digest: Digest,
}

impl Errand<'_> {
    fn run(&self, id: &HubId, wanted: &Wanted) -> Result<Pulled> {
        let listing = self.trying("the list of files", || self.source.list(id))?;
        if let Some(file) = listing.files.iter().find(|file| !stays_within(&file.name)) {
            let reason = format!(
                "the hub lists a file {:?}, which would lie outside of the model; nothing was taken",
                file.name
            );
            return Err(Error::model(id.to_string(), reason));
        }
        let selection = select(&id.to_string(), &listing, wanted)?;
        let pinned = id.at(&listing.commit);
        let bytes = selection.files.iter().filter_map(|file| file.size).sum();
        tell(&Event::Chosen { id: &pinned, from: &self.endpoint, files: selection.files.len(), bytes });
        let directory = self.cache.snapshot_directory(id, &listing.commit);
        // What is whole stays so while further files come.
        if !cache::is_complete(&directory) {
            let names: Vec<&str> = selection.files.iter().map(|file| file.name.as_str()).collect();
            self.cache.begin(id, &listing.commit, &names)?;
        }
        let (fetched, kept) = (Vec::new(), Vec::new());
        let mut pulled = Pulled { id: pinned, directory, fetched, kept, bytes: 0, skipped: selection.skipped };
        for file in selection.files {
            let target = self.target(id, &listing, file)?;
            match self.fetch(&target)? {
                0 if target.size > 0 => pulled.kept.push(file.name.clone()),
                bytes => {
                    pulled.fetched.push(file.name.clone());
                    pulled.bytes += bytes;
                }
            }
            self.cache.link(id, &listing.commit, &file.name, &target.digest)?;
        }
        self.cache.end(id, &listing.commit)?;
        self.cache.remember(id, &listing.commit)?;
        Ok(pulled)
    }

    /// Size and digest of a file; without them nothing could be compared, and nothing is taken.
    fn target<'t>(&self, id: &'t HubId, listing: &'t Listing, file: &'t RemoteFile) -> Result<Target<'t>> {
        let (commit, name) = (listing.commit.as_str(), file.name.as_str());
        let asked = match (&file.size, &file.digest) {
            (Some(_), Some(_)) => file.clone(),
            _ => self.trying(name, || self.source.stat(id, commit, name))?,
        };
        let (size, digest) = (file.size.or(asked.size), file.digest.clone().or(asked.digest));
        match (size, digest) {
            (Some(size), Some(digest)) => Ok(Target { id, commit, name, size, digest }),
            _ => Err(Error::model(
                id.to_string(),
                format!(
                    "{} does not say size and digest of `{name}`, so it cannot be trusted and was not taken",
                    self.endpoint
                ),
            )),
        }
    }

    /// Sees to it that a blob is there and whole; returns the bytes that came over the network.
    fn fetch(&self, target: &Target<'_>) -> Result<u64> {
        let Target { id, name, size, digest, .. } = target;
        let _lock = self.cache.lock(id, digest, || tell(&Event::Waiting { name }))?;
        let blob = self.cache.blob(id, digest);
        if blob.is_file() && is_whole(&blob, *size, digest)? {
            tell(&Event::File { name, bytes: *size, from: *size });
            return Ok(0);
        }
        let partial = self.cache.partial(id, digest);
        make_parent(&partial)?;
        let (mut came, resumed) = self.download(target, &partial)?;
        if !is_whole(&partial, *size, digest)? {
            // What an earlier run left may be what is wrong; the whole file gets one more chance.
            cache::remove_if_there(&partial).map_err(|error| Error::io(&partial, error))?;
            if resumed {
                came += self.download(target, &partial)?.0;
            }
            if !resumed || !is_whole(&partial, *size, digest)? {
                cache::remove_if_there(&partial).map_err(|error| Error::io(&partial, error))?;
                return Err(Error::model(
                    id.to_string(),
                    format!(
                        "`{name}` is not the file that the hub lists (its {} is not {}): something on the way changes files; \
                         what came was thrown away",
                        if matches!(digest, Digest::Sha256(_)) { "SHA-256" } else { "git SHA-1" },
                        digest.hex()
                    ),
                ));
            }
        }
        publish(&partial, &blob)?;
        Ok(came)
    }

    /// Fetches until the partial file has its size; returns the bytes that came, and whether any lay there before.
    fn download(&self, target: &Target<'_>, partial: &Path) -> Result<(u64, bool)> {
        let failed = |error| Error::io(partial, error);
        let mut file = File::options().create(true).append(true).open(partial).map_err(failed)?;
        let mut have = file.metadata().map_err(failed)?.len();
        if have > target.size {
            file.set_len(0).map_err(failed)?;
            have = 0;
        }
        let resumed = have > 0;
        tell(&Event::File { name: target.name, bytes: target.size, from: have });
        let (mut came, mut retry, mut rounds) = (0, 0, 0);
        // A server that begins anew each time gets no further by it.
        let mut furthest = have;
        while have < target.size {
            let (reason, asked) = match self.source.open(target.id, target.commit, target.name, have) {
                Err(TransferError::Final(error)) => return Err(error),
                Err(TransferError::MayPass(reason, asked)) => (reason, asked),
                Ok(Opened { from, body }) => {
                    if from != have {
                        file.set_len(from).map_err(failed)?;
                        have = from;
                    }
                    let (count, broken) = copy(body, &mut file, target.size - have).map_err(failed)?;
                    (have, came) = (have + count, came + count);
                    if have > furthest {
                        (furthest, retry) = (have, 0);
                    }
                    (broken.unwrap_or_else(|| "the connection ended early".to_owned()), None)
                }
            };
            if have < target.size {
                rounds += 1;
                let wait = self.patience.wait(retry, asked).filter(|_| rounds < ROUNDS_MAX);
                let wait = wait.ok_or_else(|| interrupted(target, have, &(reason.clone() + &asks(asked))))?;
                tell(&Event::Again { name: target.name, reason: &reason });
                std::thread::sleep(wait);
                retry += 1;
            }
        }
        file.sync_all().map_err(failed)?;
        Ok((came, resumed))
    }

    /// Asks again where that may help.
    fn trying<T>(&self, what: &str, ask: impl Fn() -> std::result::Result<T, TransferError>) -> Result<T> {
        let mut retry = 0;
        loop {
            let (reason, asked) = match ask() {
                Ok(answer) => return Ok(answer),
                Err(TransferError::Final(error)) => return Err(error),
                Err(TransferError::MayPass(reason, asked)) => (reason, asked),
            };
            let Some(wait) = self.patience.wait(retry, asked) else {
                let (tries, asked) = (retry + 1, asks(asked));
                let reason = format!("{what} did not come ({reason}; tried {tries} times{asked}): {WAY_OUT}");
                return Err(Error::model(&self.endpoint, reason));
            };
            tell(&Event::Again { name: what, reason: &reason });
            std::thread::sleep(wait);
            retry += 1;
        }
    }
}

/// What helps where the network does not.
const WAY_OUT: &str = "check the network, HTTPS_PROXY and HF_ENDPOINT, or name a directory";

/// That a server asks for a pause, for the end of a sentence.
fn asks(pause: Option<Duration>) -> String {
    let long = pause.filter(|pause| !pause.is_zero());
    long.map_or_else(String::new, |pause| format!("; it asks to wait for {} s: try again then", pause.as_secs()))
}

fn interrupted(target: &Target<'_>, have: u64, reason: &str) -> Error {
    let Target { id, name, size, .. } = target;
    let reason = format!(
        "`{name}` broke off ({reason}); {have} of {size} bytes are kept, and the same command goes on from there"
    );
    Error::model(id.to_string(), reason)
}

/// Copies at most `most` bytes into a file; returns how many, and what broke the connection. An error is the file's.
fn copy(mut body: Box<dyn Read + Send>, file: &mut File, most: u64) -> std::io::Result<(u64, Option<String>)> {
    let mut buffer = vec![0; 1 << 16];
    let mut copied = 0;
    while copied < most {
        let room = usize::try_from(most - copied).unwrap_or(usize::MAX).min(buffer.len());
        let count = match body.read(&mut buffer[..room]) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => return Ok((copied, Some(error.to_string()))),
        };
        file.write_all(&buffer[..count])?;
        copied += count as u64;
        tell(&Event::Bytes(count as u64));
    }
    Ok((copied, None))
}

fn is_whole(path: &Path, size: u64, digest: &Digest) -> Result<bool> {
    let bytes = fs::metadata(path).map_err(|error| Error::io(path, error))?.len();
    Ok(bytes == size && digest.of(path)? == digest.hex())
}

fn make_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))
}

/// Gives checked bytes their name, for good.
fn publish(partial: &Path, blob: &Path) -> Result<()> {
    fs::rename(partial, blob).map_err(|error| Error::io(blob, error))?;
    let folder = blob.parent().unwrap_or(blob);
    // Folders cannot be synced everywhere; there, the rename is as durable as the system makes it.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}
