//! How do files of rows get into a collection, and what is said about it?

#[cfg(feature = "parquet")]
pub(crate) use self::rows::run;

/// Without the readers there is only to say what would bring them.
#[cfg(not(feature = "parquet"))]
pub(crate) fn run(
    _session: &super::session::Session,
    _arguments: &super::args::Import,
) -> anyhow::Result<super::session::Outcome> {
    let what = "reading Parquet, Arrow and CSV".to_owned();
    Err(quiverdb::Error::FeatureMissing { what, feature: "parquet" }.into())
}

#[cfg(feature = "parquet")]
mod rows {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use anyhow::Result;
    use indicatif::ProgressBar;
    use quiverdb::formats::columns::{ColumnMap, Table, TableOptions, Vectors};
    use quiverdb::{Collection, CollectionConfig, Database, ImportOptions, ImportProgress, ImportReport, SpaceConfig};

    use crate::cli::args::Import;
    use crate::cli::intake::describe;
    use crate::cli::operate::sealing_note;
    use crate::cli::output::{Format, count, duration, harmless, note, thousands};
    use crate::cli::progress;
    use crate::cli::session::{Mistake, Outcome, Session};
    use crate::cli::sources::unreadable;

    /// Rejected rows that are listed for people; the rest is counted.
    const REJECTED_SHOWN_MAX: usize = 20;

    /// `quiver import`.
    pub(crate) fn run(session: &Session, arguments: &Import) -> Result<Outcome> {
        // Before the database, so that a mistyped path or map does not make one.
        let files = files(&arguments.files)?;
        let map = ColumnMap::parse(&arguments.map.join(","))?;
        let options = ImportOptions {
            map,
            no_header: arguments.no_header,
            again: arguments.again,
            rejects: arguments.rejects.clone(),
            rejects_max: arguments.max_rejects,
            ..ImportOptions::default()
        };
        options.check_rejects()?;
        options.check_names(&files)?;
        let mut told = BTreeSet::new();
        let (collection, made_in) = target(session, arguments, &files, &options.map, &mut told)?;
        let imported = import_all(&collection, &files, &options, &mut told);
        let (all, interrupted) = imported.map_err(|error| match made_in {
            Some(database) => undo(error, &collection, &database),
            None => error,
        })?;
        finish(session, arguments, &collection, &all, interrupted)
    }

    /// What brought nothing in leaves nothing behind. The import's failure is what is told, with that of the clean-up below it.
    fn undo(error: anyhow::Error, collection: &Collection, database: &Database) -> anyhow::Error {
        let undone = match collection.count() {
            Ok(0) => database.drop_collection(collection.name()).map(drop),
            Ok(_) => Ok(()),
            Err(failed) => Err(failed),
        };
        if let Err(failed) = undone {
            note(&format!("collection `{}` is new, and stays for now: {failed}", collection.name()));
        }
        error
    }

    /// Imports file after file; returns the sum of the reports, and whether Ctrl-C cut it short.
    fn import_all(
        collection: &Collection,
        files: &[PathBuf],
        options: &ImportOptions<'_>,
        told: &mut BTreeSet<String>,
    ) -> Result<(ImportReport, bool)> {
        let cancel = progress::stop_on_ctrl_c();
        let mut all: Option<ImportReport> = None;
        let mut interrupted = false;
        for (index, file) in files.iter().enumerate() {
            let bar = progress::spinner("reading");
            let show = |progress: &ImportProgress| say(&bar, progress);
            let options = ImportOptions {
                map: options.map.clone(),
                rejects: options.rejects.clone(),
                append: index > 0,
                progress: Some(&show),
                cancel: Some(cancel),
                ..*options
            };
            let imported = collection.import(file, &options);
            bar.finish_and_clear();
            let imported = imported?;
            tell(&imported, file);
            imported.notes.iter().for_each(|sentence| tell_once(sentence, told));
            all = Some(all.map_or(imported.clone(), |before| sum(before, imported)));
            if cancel.load(std::sync::atomic::Ordering::Relaxed) {
                interrupted = true;
                break;
            }
        }
        progress::stop_listening();
        Ok((all.unwrap_or_default(), interrupted))
    }

    fn finish(
        session: &Session,
        arguments: &Import,
        collection: &Collection,
        all: &ImportReport,
        interrupted: bool,
    ) -> Result<Outcome> {
        if session.output.format == Format::People {
            list_rejected(all, arguments);
        }
        if interrupted {
            note("stopped; what was imported stays, and the same command goes on from there");
        }
        sealing_note(&collection.stats()?).into_iter().for_each(|sentence| note(&sentence));
        session.output.show(all, std::slice::from_ref(all), || {
            let rejected = match all.rejected_rows - all.report.rejected.len() as u64 {
                0 => String::new(),
                more => format!(" ({} more rejected)", thousands(more)),
            };
            format!("{}{rejected}", describe(&all.report))
        })?;
        Ok(match (interrupted, all.rejected_rows) {
            (true, _) => Outcome::Interrupted,
            (false, 0) => Outcome::Done,
            (false, _) => Outcome::Partly,
        })
    }

    fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for path in paths {
            let file = path.canonicalize().map_err(|error| unreadable(path, error))?;
            if file.is_dir() {
                let message = format!("{} is a folder; import takes files of rows", path.display());
                return Err(Mistake::new(message).hint(format!("quiver add {}", path.display())).into());
            }
            if !files.contains(&file) {
                files.push(file);
            }
        }
        Ok(files)
    }

    /// The collection, or one that is made for the first file, and then the database that it was made in.
    fn target(
        session: &Session,
        arguments: &Import,
        files: &[PathBuf],
        map: &ColumnMap,
        told: &mut BTreeSet<String>,
    ) -> Result<(Collection, Option<Database>)> {
        let name = &arguments.target.collection;
        let model = match (&arguments.model, &arguments.backend) {
            (Some(model), backend) => Some(backend.model(model)?),
            (None, backend) if backend.is_given() => {
                let mistake = Mistake::new("--backend says what runs --model, and there is none");
                return Err(mistake.hint("name a directory with --model").into());
            }
            (None, _) => None,
        };
        if session.has_collection(name)? {
            return Ok((session.collection_or_new(name, model.as_deref())?, None));
        }
        let mut config = CollectionConfig::new();
        // All files, so that one that is none is known before anything is made.
        for (index, file) in files.iter().enumerate() {
            let options = TableOptions { map: map.clone(), no_header: arguments.no_header, spaces: Vec::new() };
            let mut table = Table::open(file, "rows", options)?;
            let exported = if index == 0 && model.is_none() { table.config()? } else { None };
            let vectors = table.vectors()?;
            // Before a million rows are embedded.
            table.note().iter().for_each(|sentence| tell_once(sentence, told));
            if let Some(exported) = exported {
                note(&format!("collection `{name}` is made as the one was that this is an export of"));
                config = exported;
            } else if index == 0 {
                config = configured(config, model.as_deref(), &vectors, name);
            }
        }
        let database = session.existing_or_new(name, &config)?;
        Ok((database.collection_with(name, config)?, Some(database)))
    }

    /// Vectors that rows bring need a space of their own.
    fn configured(
        mut config: CollectionConfig,
        model: Option<&str>,
        vectors: &Vectors,
        name: &str,
    ) -> CollectionConfig {
        match (model, vectors.dims) {
            (Some(model), _) => config = config.model(model),
            (None, Some(dims)) => {
                note(&format!(
                    "the rows bring vectors of {dims} numbers: collection `{name}` is made for them, without a model \
                     (--model M has texts embedded)"
                ));
                config = config.external(dims);
            }
            (None, None) => {}
        }
        for (space, dims) in &vectors.spaces {
            config = config.space(space, SpaceConfig::external(*dims));
        }
        config
    }

    /// How far it is: rows, rate, and the time left where the number of rows is known.
    fn say(bar: &ProgressBar, progress: &ImportProgress) {
        let rate = (progress.rows - progress.rows_before) as f64 / progress.seconds.max(1e-3);
        let mut message = match progress.rows_total {
            Some(total) => format!("{} of {}", thousands(progress.rows), count(total, "row")),
            None => count(progress.rows, "row"),
        };
        message += &format!(", {} a second", thousands(rate as u64));
        if let Some(left) = progress.rows_total.map(|total| total.saturating_sub(progress.rows)).filter(|_| rate > 0.0)
        {
            message += &format!(", {} left", duration(left as f64 / rate * 1e3));
        }
        if progress.rejected > 0 {
            message += &format!(", {} rejected", thousands(progress.rejected));
        }
        bar.set_message(message);
    }

    fn tell(imported: &ImportReport, file: &Path) {
        let file = file.display().to_string();
        let file = harmless(&file);
        if imported.already_imported {
            let rows = count(imported.rows, "row");
            note(&format!("{file} is imported already ({rows}) and has not changed; --again reads it nevertheless"));
        } else if imported.resumed_after > 0 {
            note(&format!("{file} went on behind row {}, where it had stopped", thousands(imported.resumed_after)));
        }
    }

    /// What holds for many files is said once.
    fn tell_once(sentence: &str, told: &mut BTreeSet<String>) {
        if told.insert(sentence.to_owned()) {
            note(sentence);
        }
    }

    fn list_rejected(all: &ImportReport, arguments: &Import) {
        for entry in all.report.rejected.iter().take(REJECTED_SHOWN_MAX) {
            note(&format!("rejected {}: {}", harmless(&entry.source), harmless(&entry.reason)));
        }
        let shown = all.report.rejected.len().min(REJECTED_SHOWN_MAX) as u64;
        match (all.rejected_rows - shown, &arguments.rejects) {
            (0, None) => {}
            (0, Some(_)) if shown == 0 => {}
            (0, Some(file)) => note(&format!("all of them are in {}", file.display())),
            (more, Some(file)) => note(&format!("... and {} more; all are in {}", thousands(more), file.display())),
            (more, None) => note(&format!("... and {} more; --again --rejects FILE lists all", thousands(more))),
        }
    }

    /// The reports of two files as one.
    fn sum(mut all: ImportReport, next: ImportReport) -> ImportReport {
        let (report, more) = (&mut all.report, next.report);
        report.added += more.added;
        report.replaced += more.replaced;
        report.unchanged += more.unchanged;
        report.rejected.extend(more.rejected);
        report.chunks_embedded += more.chunks_embedded;
        report.chunks_reused += more.chunks_reused;
        report.chunks_cached += more.chunks_cached;
        report.texts_truncated += more.texts_truncated;
        report.seconds += more.seconds;
        report.expired += more.expired;
        all.rows += next.rows;
        all.rejected_rows += next.rejected_rows;
        all.resumed_after += next.resumed_after;
        all.already_imported &= next.already_imported;
        all.notes.extend(next.notes.into_iter().filter(|sentence| !all.notes.contains(sentence)).collect::<Vec<_>>());
        all
    }
}
