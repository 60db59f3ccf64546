//! What does the database hold, and is it sound?

use std::path::Path;

use anyhow::Result;
use quiverdb::Database;
use quiverdb::types::{BackedUp, CacheStats, CollectionStats, Compacted, ReembedStatus, SpaceStats};
use serde_json::json;

use super::output::{Table, count, note, size, thousands};
use super::session::{Mistake, Outcome, Session};

/// `quiver stats`.
pub(crate) fn stats(session: &Session) -> Result<Outcome> {
    let database = session.existing()?;
    let (collections, cache) = (database.collections()?, database.embedding_cache()?);
    let whole = json!({"collections": collections, "embedding_cache": cache});
    session.output.show(&whole, &collections, || format!("{}{}", table(&collections), cache_line(&cache)))?;
    Ok(Outcome::Done)
}

/// What to say of the cache of embeddings; nothing where there is none.
fn cache_line(cache: &CacheStats) -> String {
    let CacheStats { entries, bytes, bytes_max, hits, misses } = *cache;
    if entries == 0 {
        return String::new();
    }
    let asked = count(hits + misses, "text");
    let (entries, hits) = (count(entries, "vector"), thousands(hits));
    format!("cache of embeddings: {entries}, {} of {}; {hits} of {asked} found\n", size(bytes), size(bytes_max))
}

/// What to say of a segment that could not be built; `None` where all is well.
pub(crate) fn sealing_note(collection: &CollectionStats) -> Option<String> {
    let CollectionStats { name, sealing_error, .. } = collection;
    let error = sealing_error.as_ref()?;
    Some(format!(
        "a segment of `{name}` could not be built or opened: {error}. All is found without it, only slower; the next add \
         tries again"
    ))
}

/// The collections as a table.
pub(crate) fn table(collections: &[CollectionStats]) -> String {
    if collections.is_empty() {
        return "no collections yet: `quiver add PATH` makes one".into();
    }
    let mut table = Table::new(&["collection", ">documents", ">passages", ">segments", "model", ">dims"]);
    for collection in collections {
        table.row([
            collection.name.clone(),
            thousands(collection.documents),
            thousands(collection.chunks),
            thousands(collection.segments),
            collection.model.clone(),
            thousands(collection.dims as u64),
        ]);
        for alias in &collection.aliases {
            let empty = String::new;
            table.row([format!("  alias {alias}"), empty(), empty(), empty(), empty(), empty()]);
        }
        let further = collection.spaces.iter().filter(|space| space.name != "default");
        for SpaceStats { name, model, dims, .. } in further {
            let (name, empty) = (format!("  space {name}"), String::new);
            table.row([name, empty(), empty(), empty(), model.clone(), thousands(*dims as u64)]);
        }
        if let Some(status) = &collection.reembedding {
            table.row(on_its_way(status));
        }
    }
    let bytes = collections.iter().map(|collection| collection.bytes_on_disk).max().unwrap_or(0);
    format!("{}{} on disk\n", table.render(), size(bytes))
}

/// What is being made of a collection.
fn on_its_way(status: &ReembedStatus) -> [String; 6] {
    let ReembedStatus { spaces, chunk_tokens: _, documents, documents_total: _ } = status;
    let empty = String::new;
    let space = spaces.iter().find(|space| space.name == "default");
    let (model, dims) = space.map_or((empty(), 0), |space| (space.model.clone(), space.dims as u64));
    ["  re-embedding to".into(), thousands(*documents), empty(), empty(), model, thousands(dims)]
}

/// `quiver check`.
pub(crate) fn check(session: &Session, repair: bool) -> Result<Outcome> {
    let database = session.existing()?;
    let mut violations = database.check()?;
    if repair && !violations.is_empty() {
        database.repair()?;
        let before = std::mem::replace(&mut violations, database.check()?).len();
        let mended = before.saturating_sub(violations.len()) as u64;
        note(&format!("{} mended", count(mended, "violation")));
    }
    session.output.show(&json!({"violations": violations}), &violations, || match violations.as_slice() {
        [] => "sound: every record and invariant holds".into(),
        violations => format!("{}\n{}", violations.join("\n"), count(violations.len() as u64, "violation")),
    })?;
    Ok(if violations.is_empty() { Outcome::Done } else { Outcome::Damaged })
}

/// `quiver compact`.
pub(crate) fn compact(session: &Session, drop_cache: bool) -> Result<Outcome> {
    let database = session.existing()?;
    if drop_cache {
        database.drop_embedding_cache()?;
    }
    let Compacted { moved, bytes_before, bytes_after, shrunk } = database.compact()?;
    let value = json!({"moved": moved, "bytes_before": bytes_before, "bytes_after": bytes_after, "shrunk": shrunk});
    session.output.show(&value, &[&value], || {
        format!("{} on disk, {} before; {} moved", size(bytes_after), size(bytes_before), count(moved, "document"))
    })?;
    Ok(Outcome::Done)
}

/// `quiver backup`.
pub(crate) fn backup(session: &Session, folder: &Path) -> Result<Outcome> {
    let BackedUp { collections, documents, segments, bytes } = session.existing()?.backup_to(folder)?;
    let value = json!({"collections": collections, "documents": documents, "segments": segments, "bytes": bytes});
    session.output.show(&value, &[&value], || {
        let (collections, documents) = (count(collections, "collection"), count(documents, "document"));
        format!("{collections} with {documents} in {}, {}", folder.display(), size(bytes))
    })?;
    Ok(Outcome::Done)
}

/// `quiver restore`.
pub(crate) fn restore(session: &Session, folder: &Path, replace: bool) -> Result<Outcome> {
    let path = &session.path;
    if !replace && session.is_there() {
        let message = format!("there is a database at {} already", path.display());
        return Err(Mistake::new(message).hint("`--db DIR` names another folder, `--replace` replaces it").into());
    }
    if replace {
        Database::restore_over(folder, path)?;
    } else {
        Database::restore(folder, path)?;
    }
    let collections = session.existing()?.collections()?;
    let documents = collections.iter().map(|collection| collection.documents).sum();
    let value = json!({"collections": collections.len(), "documents": documents});
    session.output.show(&value, &[&value], || format!("{} in {}", count(documents, "document"), path.display()))?;
    Ok(Outcome::Done)
}

/// `quiver dump`.
pub(crate) fn dump(session: &Session) -> Result<Outcome> {
    let dump = session.existing()?.dump()?;
    match session.output.format {
        super::output::Format::People => session.output.bytes(dump.as_bytes())?,
        super::output::Format::Json => session.output.value(&json!({"dump": dump}))?,
        super::output::Format::Jsonl => session.output.values(&dump.lines().collect::<Vec<_>>())?,
    }
    Ok(Outcome::Done)
}
