//! Which models are at hand, and how do further ones get here and away again?

use anyhow::Result;
use quiverdb::embed::builtin::StaticEmbedder;
use quiverdb::models::registry::{ENTRIES, Entry, Purpose};
use quiverdb::{Embedder as _, embed};
use serde::Serialize;
use serde_json::{Value, json};

use super::args::Pull;
use super::output::{Table, thousands};
use super::session::{Outcome, Session};

/// Says what is fetched, from now on: a line on stderr, and a bar where that is a terminal.
pub(crate) fn show_fetching() {
    #[cfg(feature = "hub")]
    fetching::show_fetching();
}

/// `quiver models pull`.
pub(crate) fn pull(session: &Session, arguments: &Pull) -> Result<Outcome> {
    #[cfg(feature = "hub")]
    return fetching::pull(session, arguments);
    #[cfg(not(feature = "hub"))]
    missing(session, "pull", &arguments.model)
}

/// `quiver models verify`.
pub(crate) fn verify(session: &Session, model: &str) -> Result<Outcome> {
    #[cfg(feature = "hub")]
    return fetching::verify(session, model);
    #[cfg(not(feature = "hub"))]
    missing(session, "verify", model)
}

/// `quiver models remove`.
pub(crate) fn remove(session: &Session, model: &str) -> Result<Outcome> {
    #[cfg(feature = "hub")]
    return fetching::remove(session, model);
    #[cfg(not(feature = "hub"))]
    missing(session, "remove", model)
}

#[cfg(not(feature = "hub"))]
fn missing(_: &Session, verb: &str, _: &str) -> Result<Outcome> {
    Err(quiverdb::Error::FeatureMissing { what: format!("`quiver models {verb}`"), feature: "hub" }.into())
}

/// A well-known model, and whether this build runs it.
#[derive(Serialize)]
struct Known {
    #[serde(flatten)]
    entry: &'static Entry,
    runs: bool,
}

/// `quiver models list`.
pub(crate) fn list(session: &Session) -> Result<Outcome> {
    let builtin = StaticEmbedder::builtin();
    let cached = cached()?;
    let known: Vec<Known> = ENTRIES.iter().map(|entry| Known { entry, runs: runs(entry) }).collect();
    let whole = json!({"builtin": builtin.spec(), "cached": cached, "known": known});
    let marked = |kind: &str, value: Value| json!({"kind": kind, "model": value});
    let mut parts = vec![marked("builtin", serde_json::to_value(builtin.spec())?)];
    parts.extend(cached.iter().map(|model| marked("cached", model.clone())));
    for model in &known {
        parts.push(marked("known", serde_json::to_value(model)?));
    }
    session.output.show(&whole, &parts, || {
        let mut text = own_table(&builtin) + "\n";
        if !cached.is_empty() {
            text += &(cached_table(&cached) + "\n");
        }
        text + &known_table(&known)
            + "\n`--model` takes the name of an embedder and `--rerank` that of a reranker (what stands after the slash will \
               do), a directory, or http://host:port/v1#name of a server. `quiver models pull NAME` fetches one; `show NAME` \
               prints what its files say.\n"
    })?;
    Ok(Outcome::Done)
}

/// Whether an engine of this build can run it, as far as the table says.
fn runs(entry: &Entry) -> bool {
    match entry.purpose {
        Purpose::Embed | Purpose::Image => embed::runs(entry.architecture, entry.modules),
        Purpose::Rerank => quiverdb::rerank::runs(entry.architecture),
    }
}

fn own_table(builtin: &StaticEmbedder) -> String {
    let mut table = Table::new(&["in the binary", "backend", ">dims", ">max tokens", "made from"]);
    let spec = builtin.spec();
    let teacher = builtin.provenance().map(|provenance| provenance.teacher.clone()).unwrap_or_default();
    let (dims, tokens) = (thousands(spec.dims as u64), thousands(spec.max_tokens as u64));
    table.row([spec.id.clone(), spec.backend.clone(), dims, tokens, teacher]);
    table.render()
}

fn cached_table(cached: &[Value]) -> String {
    let mut table = Table::new(&["in the cache", "commit", ">files", ">size", ""]);
    for model in cached {
        let text = |key: &str| model[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| model[key].as_u64().unwrap_or_default();
        let part = if model["complete"] == true { "" } else { "incomplete" };
        let commit: String = text("revision").chars().take(12).collect();
        let size = super::output::size(number("bytes"));
        table.row([text("id"), commit, thousands(number("files")), size, part.into()]);
    }
    table.render()
}

fn known_table(known: &[Known]) -> String {
    let columns =
        ["well known", "architecture", ">dims", ">max tokens", ">parameters", "licence", "runs in this build", "note"];
    let mut table = Table::new(&columns);
    for Known { entry, runs } in known {
        let dims = if entry.dims == 0 { "scores".to_owned() } else { thousands(entry.dims as u64) };
        let answer = match (entry.purpose, runs) {
            (Purpose::Rerank, true) => "yes: --rerank",
            (_, true) => "yes",
            (_, false) => "no",
        };
        let parameters = format!("{} M", entry.parameters_millions);
        let (architecture, licence) = (entry.architecture.to_owned(), entry.licence.to_owned());
        let tokens = thousands(entry.max_tokens as u64);
        table.row([entry.id.into(), architecture, dims, tokens, parameters, licence, answer.into(), entry.note.into()]);
    }
    table.render()
}

#[cfg(feature = "hub")]
fn cached() -> Result<Vec<Value>> {
    fetching::cached()
}

#[cfg(not(feature = "hub"))]
fn cached() -> Result<Vec<Value>> {
    Ok(Vec::new())
}

#[cfg(feature = "hub")]
mod fetching {
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};

    use anyhow::Result;
    use indicatif::ProgressBar;
    use quiverdb::Error;
    use quiverdb::models::{self, Cache, Checked, Event, HubId, HubSettings, Integrity, Wanted};
    use serde_json::{Value, json};

    use super::super::args::Pull;
    use super::super::output::{Table, count, harmless, note, size, thousands};
    use super::super::progress;
    use super::super::session::{Mistake, Outcome, Session};

    /// The bar of the model that is fetched; there is one at a time.
    static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

    pub(super) fn show_fetching() {
        models::observe(|event| {
            let mut bar = BAR.lock().unwrap_or_else(PoisonError::into_inner);
            show(&mut bar, event);
        });
    }

    fn show(bar: &mut Option<ProgressBar>, event: &Event<'_>) {
        match event {
            Event::Chosen { id, from, files, bytes } => {
                note(&format!("fetching {id} from {from}: {}, {}", count(*files as u64, "file"), size(*bytes)));
                *bar = Some(progress::bytes(*bytes));
            }
            Event::File { name, from, .. } => {
                if let Some(bar) = bar {
                    bar.set_message(harmless(name).into_owned());
                    bar.inc(*from);
                }
            }
            Event::Bytes(bytes) => {
                if let Some(bar) = bar {
                    bar.inc(*bytes);
                }
            }
            Event::Again { name, reason } => {
                note(&format!("{}: {}; trying again", harmless(name), harmless(reason)));
            }
            Event::Waiting { name } => note(&format!("{}: another process fetches it; waiting", harmless(name))),
            Event::Ended => {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }

    /// The id that a name means.
    fn id_of(model: &str) -> Result<HubId> {
        models::named(model).ok_or_else(|| {
            let message = format!("`{model}` is no model of the hub");
            Mistake::new(message)
                .hint("write owner/name or owner/name@revision; `quiver models list` shows some")
                .into()
        })
    }

    pub(super) fn pull(session: &Session, arguments: &Pull) -> Result<Outcome> {
        let id = id_of(&arguments.model)?;
        let wanted = Wanted { onnx: arguments.onnx, files: arguments.files.clone() };
        let pulled = models::pull(&HubSettings::from_env()?, &id, &wanted)?;
        if !pulled.skipped.is_empty() {
            note(&format!("left out, being of no format that is read here: {}", harmless(&pulled.skipped.join(", "))));
        }
        let value = json!({
            "id": pulled.id.repository(),
            "revision": pulled.id.revision(),
            "directory": pulled.directory,
            "fetched": pulled.fetched,
            "kept": pulled.kept,
            "bytes": pulled.bytes,
            "skipped": pulled.skipped,
        });
        session.output.show(&value, std::slice::from_ref(&value), || {
            let (fetched, kept) = (pulled.fetched.len() as u64, pulled.kept.len() as u64);
            let files = format!("{} fetched ({}), {kept} kept", count(fetched, "file"), size(pulled.bytes));
            format!("{}\n{files}, all compared\n{}\n", pulled.id, pulled.directory.display())
        })?;
        Ok(Outcome::Done)
    }

    pub(super) fn verify(session: &Session, model: &str) -> Result<Outcome> {
        let directory = directory_of(model)?;
        let checked = Cache::check(&directory)?;
        let rows: Vec<Value> = checked.iter().map(as_json).collect();
        session.output.show(&json!({"directory": directory, "files": rows}), &rows, || table(&checked))?;
        let of = |integrity: Integrity| checked.iter().filter(move |file| file.integrity == integrity);
        let damaged: Vec<&str> = of(Integrity::Damaged).map(|file| file.name.as_str()).collect();
        if !damaged.is_empty() {
            let reason = format!("damaged: {}; `quiver models pull` fetches these again", damaged.join(", "));
            return Err(Error::Model { model: model.to_owned(), reason }.into());
        }
        let unknown = of(Integrity::Unknown).count() as u64;
        if unknown > 0 {
            note(&format!("nothing says what the digest of {} should be", count(unknown, "file")));
        }
        Ok(Outcome::Done)
    }

    /// A directory, or a model's in the cache; fetches nothing.
    fn directory_of(model: &str) -> Result<PathBuf> {
        if Path::new(model).is_dir() {
            return Ok(model.into());
        }
        let id = id_of(model)?;
        let snapshot = Cache::new(HubSettings::from_env()?.cache).snapshot(&id);
        let missing = || Error::Model {
            model: model.to_owned(),
            reason: "it is not in the cache; `quiver models list` shows what is".into(),
        };
        Ok(snapshot.ok_or_else(missing)?.directory)
    }

    fn as_json(file: &Checked) -> Value {
        json!({"name": file.name, "bytes": file.bytes, "sha256": file.sha256, "integrity": word(file.integrity)})
    }

    fn word(integrity: Integrity) -> &'static str {
        match integrity {
            Integrity::Intact => "intact",
            Integrity::Damaged => "damaged",
            Integrity::Unknown => "unknown",
        }
    }

    fn table(checked: &[Checked]) -> String {
        let mut table = Table::new(&["file", ">bytes", "integrity", "SHA-256"]);
        for file in checked {
            table.row([file.name.clone(), thousands(file.bytes), word(file.integrity).into(), file.sha256.clone()]);
        }
        table.render()
    }

    pub(super) fn remove(session: &Session, model: &str) -> Result<Outcome> {
        let id = id_of(model)?;
        let removed = Cache::new(HubSettings::from_env()?.cache).remove(&id)?;
        let value = json!({"removed": id.to_string(), "snapshots": removed.snapshots, "bytes": removed.bytes});
        session.output.show(&value, std::slice::from_ref(&value), || {
            let snapshots = count(removed.snapshots as u64, "snapshot");
            format!("removed {id}: {snapshots}, {} free\n", size(removed.bytes))
        })?;
        Ok(Outcome::Done)
    }

    pub(super) fn cached() -> Result<Vec<Value>> {
        let models = Cache::new(HubSettings::from_env()?.cache).models();
        let row = |model: models::CachedModel| {
            json!({
                "id": model.id.repository(),
                "revision": model.id.revision(),
                "directory": model.directory,
                "files": model.files,
                "bytes": model.bytes,
                "complete": model.complete,
            })
        };
        Ok(models.into_iter().map(row).collect())
    }
}
