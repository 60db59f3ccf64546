//! How do files get into a collection while a person watches?
//!
//! Joins [`sources`](super::sources) and the collection: progress on the way, Ctrl-C between batches, and afterwards,
//! where asked, the removal of what is gone.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use quiverdb::formats::{self, Loaded};
use quiverdb::types::Rejected;
use quiverdb::{AddOptions, AddReport, Collection, Document, DocumentId};
use serde_json::Value;

use super::output::{count, duration, harmless, note, thousands};
use super::pictures::Pictures;
use super::progress;
use super::session::Outcome;
use super::sources::Sources;

/// What became of the files, and whether Ctrl-C cut it short.
pub(crate) struct Intake {
    pub(crate) report: AddReport,
    pub(crate) interrupted: bool,
    /// Documents that were not valid UTF-8 and were read with replacement characters.
    lossy: u64,
}

impl Intake {
    pub(crate) fn outcome(&self) -> Outcome {
        match (self.interrupted, self.report.rejected.is_empty()) {
            (true, _) => Outcome::Interrupted,
            (false, false) => Outcome::Partly,
            (false, true) => Outcome::Done,
        }
    }

    /// Lists on stderr what was rejected: at most so many, and how many more.
    pub(crate) fn list_rejected(&self, rejected_max: usize) {
        let rejected = &self.report.rejected;
        for entry in rejected.iter().take(rejected_max) {
            note(&format!("skipped {}: {}", harmless(&entry.source), harmless(&entry.reason)));
        }
        if rejected.len() > rejected_max {
            let more = thousands((rejected.len() - rejected_max) as u64);
            note(&format!("... and {more} more; `quiver add --json` lists all"));
        }
    }

    /// Says on stderr what else is not as expected.
    pub(crate) fn warn(&self) {
        if self.lossy > 0 {
            let documents = count(self.lossy, "document");
            note(&format!(
                "{documents} with bytes that are no text (no UTF-8, say), read with replacement characters; filter: lossy = true"
            ));
        }
        if self.interrupted {
            note("stopped; what was added stays, and the same command goes on from there");
        }
    }
}

/// How documents are taken in.
#[derive(Clone, Copy, Default)]
pub(crate) struct How {
    /// Whether documents that came from the sources and are gone are removed.
    pub(crate) sync: bool,
    /// Whether nothing is written.
    pub(crate) dry_run: bool,
    /// Whether more follows, so that Ctrl-C is still listened to afterwards.
    pub(crate) goes_on: bool,
    /// Whether the files are known to have changed, so that the time which stands in their documents is not asked: it
    /// counts whole seconds.
    pub(crate) changed: bool,
}

/// Adds the documents of these sources. With `sync`, documents that came from them and are gone are
/// removed. With `dry_run`, nothing is written.
pub(crate) fn take_in(collection: &Collection, sources: &Sources, how: How) -> Result<Intake> {
    let images = reads_images(collection);
    let mut taken = add(collection, sources.documents(images), how)?;
    if how.sync && !taken.interrupted {
        // A file that was renamed meanwhile may be where the walk had been: it must be in before its old name goes.
        let late = sources.late(images);
        if !late.is_empty() {
            taken.merge(add(collection, late.into_iter(), how)?);
        }
    }
    if !how.goes_on {
        taken.interrupted |= progress::stop_listening();
    }
    let Taken { mut report, seen, lossy, interrupted } = taken;
    if how.sync && !interrupted {
        let gone = gone(collection, sources.roots(), &sources.visited(), &seen, &report)?;
        report.removed = gone.len() as u64;
        if !how.dry_run && !gone.is_empty() {
            report.removed = collection.delete_many(&gone)?;
        }
    }
    Ok(Intake { report, interrupted, lossy })
}

/// What one run took.
pub(crate) struct Taken {
    pub(crate) report: AddReport,
    /// The ids of all documents that were read.
    pub(crate) seen: HashSet<DocumentId>,
    lossy: u64,
    interrupted: bool,
}

impl Taken {
    fn merge(&mut self, other: Self) {
        self.report.take_up(other.report);
        self.seen.extend(other.seen);
        self.lossy += other.lossy;
        self.interrupted |= other.interrupted;
    }
}

/// Whether the collection's model makes vectors of pictures.
pub(crate) fn reads_images(collection: &Collection) -> bool {
    collection.model().is_some_and(|model| model.images)
}

/// Adds documents, with progress on the way. Pictures get their vectors where the collection's model reads some.
pub(crate) fn add(collection: &Collection, documents: impl Iterator<Item = Loaded>, how: How) -> Result<Taken> {
    let cancel = progress::stop_on_ctrl_c();
    let spinner = progress::spinner("reading");
    let written = AtomicU64::new(0);
    let show = |report: &AddReport| {
        spinner.set_message(so_far(report));
        written.store(report.added + report.replaced, Ordering::Relaxed);
    };
    let dry_run = how.dry_run;
    let options = AddOptions { dry_run, progress: Some(&show), cancel: Some(cancel) };
    let (mut seen, mut lossy) = (HashSet::new(), 0);
    let documents: Box<dyn Iterator<Item = Loaded>> = match reads_images(collection) {
        true => Box::new(Pictures::new(collection, documents, how.dry_run).changed(how.changed)),
        false => Box::new(documents),
    };
    let documents = documents.inspect(|document| {
        let Ok(document) = document else { return };
        lossy += u64::from(document.metadata.get("lossy") == Some(&Value::Bool(true)));
        if how.sync {
            seen.insert(document.id.clone());
        }
    });
    let added = collection.add_with(documents, &options);
    spinner.finish_and_clear();
    let report = added.inspect_err(|_| {
        let written = written.load(Ordering::Relaxed);
        if written > 0 && !how.dry_run {
            note(&format!(
                "{} went in before the error; the same command goes on from there",
                count(written, "document")
            ));
        }
    })?;
    Ok(Taken { report, seen, lossy, interrupted: cancel.load(Ordering::Relaxed) })
}

fn so_far(report: &AddReport) -> String {
    let documents = report.added + report.replaced + report.unchanged;
    format!("{}, {} embedded", count(documents, "document"), count(report.chunks_embedded, "passage"))
}

/// Documents that came from one of the roots and were not seen there this time. What could not be read this time is
/// not gone: not a rejected file, not what lies in a rejected folder, not the rows of a file with a rejected row, nothing
/// below a folder that is itself not there, and no file that is there all the same.
fn gone(
    collection: &Collection,
    roots: &[PathBuf],
    visited: &HashSet<PathBuf>,
    seen: &HashSet<DocumentId>,
    report: &AddReport,
) -> Result<Vec<DocumentId>> {
    let unread = unread(&report.rejected);
    let present: HashSet<PathBuf> = roots.iter().flat_map(|root| formats::files(root)).filter_map(Result::ok).collect();
    let mut gone = Vec::new();
    for document in collection.scan()? {
        let document = document?;
        let Some(source) = source(&document) else { continue };
        let ours = roots.iter().any(|root| source.starts_with(root));
        let unread = || unread.iter().any(|path| source.starts_with(path) || source.ends_with(path));
        let came = || present.contains(source) && !visited.contains(source);
        if ours && !seen.contains(&document.id) && !unread() && !came() {
            gone.push(document.id);
        }
    }
    Ok(gone)
}

/// The files and folders that rejections speak of.
pub(crate) fn unread(rejected: &[Rejected]) -> Vec<PathBuf> {
    // Whether a number is a row's or part of the file's name cannot be told, so both are spared.
    let readings = |entry: &'_ Rejected| [entry.source.clone(), without_row(&entry.source).to_owned()];
    rejected.iter().flat_map(readings).map(PathBuf::from).collect()
}

/// `rows.jsonl:7` without its line, `rows.json#7` without its place in the array.
fn without_row(source: &str) -> &str {
    match source.rsplit_once([':', '#']) {
        Some((path, row)) if !row.is_empty() && row.bytes().all(|byte| byte.is_ascii_digit()) => path,
        Some(_) | None => source,
    }
}

/// The file that a document says it came from.
pub(crate) fn source(document: &Document) -> Option<&Path> {
    document.metadata.get("source").and_then(Value::as_str).map(Path::new)
}

/// The report as a sentence.
pub(crate) fn describe(report: &AddReport) -> String {
    let AddReport {
        added,
        replaced,
        unchanged,
        removed,
        rejected,
        chunks_embedded,
        chunks_reused,
        texts_truncated,
        seconds,
        embedding_seconds: _,
        chunks_cached,
        expired,
    } = report;
    let mut parts = Vec::new();
    let outcomes = [(*added, "added"), (*replaced, "replaced"), (*unchanged, "unchanged"), (*removed, "removed")];
    for (number, what) in outcomes {
        if number > 0 {
            parts.push(format!("{} {what}", thousands(number)));
        }
    }
    if *expired > 0 {
        parts.push(format!("{} of these expired already, so nothing finds them", thousands(*expired)));
    }
    if !rejected.is_empty() {
        parts.push(format!("{} rejected", thousands(rejected.len() as u64)));
    }
    let documents = if parts.is_empty() { "nothing to add".into() } else { format!("documents: {}", parts.join(", ")) };
    let mut passages = format!("{} embedded", count(*chunks_embedded, "passage"));
    if *chunks_reused > 0 {
        passages += &format!(", {} reused", thousands(*chunks_reused));
    }
    if *chunks_cached > 0 {
        passages += &format!(", {} from the cache", thousands(*chunks_cached));
    }
    if *texts_truncated > 0 {
        passages += &format!(", {} cut to the model's limit", thousands(*texts_truncated));
    }
    format!("{documents}; {passages}; {}", duration(seconds * 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quiverdb::Database;
    use serde_json::json;

    fn from(id: &str, source: &str) -> Document {
        Document::new(id, "text").metadata(json!({"source": source}))
    }

    #[test]
    fn only_what_came_from_a_root_and_was_not_seen_is_gone() -> Result<()> {
        let collection = Database::in_memory()?.collection("c")?;
        collection.add_many([
            from("kept.md", "/a/kept.md"),
            from("gone.md", "/a/gone.md"),
            from("other.md", "/ab/other.md"),
            from("unreadable.md", "/a/unreadable.md"),
            from("rows.jsonl#1", "/a/rows.jsonl"),
            from("array", "/a/array.json"),
            from("log:7", "/a/log:7"),
            from("deep.md", "/a/closed/deep.md"),
            Document::new("by hand", "text"),
        ])?;
        let rejected = ["/a/unreadable.md", "rows.jsonl:2", "/a/array.json#3", "/a/log:7", "/a/closed"];
        let rejected = rejected.map(|source| Rejected { source: source.into(), reason: String::new() }).to_vec();
        let report = AddReport { rejected, ..AddReport::default() };
        let seen = HashSet::from(["kept.md".into()]);
        let found = gone(&collection, &["/a".into()], &HashSet::new(), &seen, &report)?;
        assert_eq!(found, ["gone.md".into()]);
        Ok(())
    }

    #[test]
    fn a_report_reads_as_a_sentence() {
        let mut report = AddReport { added: 1_112, chunks_embedded: 1, seconds: 1.24, ..AddReport::default() };
        assert_eq!(describe(&report), "documents: 1,112 added; 1 passage embedded; 1.2 s");
        report = AddReport { unchanged: 3, ..AddReport::default() };
        assert_eq!(describe(&report), "documents: 3 unchanged; 0 passages embedded; 0 µs");
    }
}
