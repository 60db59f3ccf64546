//! How are documents added, and what is said about it?

use anyhow::Result;
use quiverdb::{Collection, CollectionConfig, Database};

use super::args::Add;
use super::intake::{How, describe, take_in};
use super::operate::sealing_note;
use super::output::{Format, note};
use super::session::{Mistake, Outcome, Session};
use super::{sources, watch};

/// Rejected documents that are listed for people; the rest is counted.
pub(crate) const REJECTED_SHOWN_MAX: usize = 20;

/// `quiver add`.
pub(crate) fn run(session: &Session, arguments: &Add) -> Result<Outcome> {
    // Before the database, so that a mistyped path does not make one.
    let sources = sources::open(&arguments.paths)?;
    if arguments.watch {
        return watch::run(session, &sources, &|| target(session, arguments));
    }
    let collection = if arguments.dry_run { rehearsal(session, arguments)? } else { target(session, arguments)? };
    let how = How { sync: arguments.sync, dry_run: arguments.dry_run, ..How::default() };
    let intake = take_in(&collection, &sources, how)?;
    let report = &intake.report;
    if session.output.format == Format::People {
        intake.list_rejected(REJECTED_SHOWN_MAX);
    }
    intake.warn();
    sealing_note(&collection.stats()?).into_iter().for_each(|sentence| note(&sentence));
    session.output.show(report, std::slice::from_ref(report), || {
        let mood = if arguments.dry_run { "would be: " } else { "" };
        format!("{mood}{}", describe(report))
    })?;
    Ok(intake.outcome())
}

fn target(session: &Session, arguments: &Add) -> Result<Collection> {
    session.collection_or_new(&arguments.target.collection, model(arguments)?.as_deref())
}

/// The model that the user named.
fn model(arguments: &Add) -> Result<Option<String>> {
    match (&arguments.model, &arguments.backend) {
        (Some(model), backend) => Ok(Some(backend.model(model)?)),
        (None, backend) if backend.is_given() => {
            Err(Mistake::new("--backend says what runs --model, and there is none")
                .hint("name a directory with --model")
                .into())
        }
        (None, _) => Ok(None),
    }
}

/// A dry run creates nothing: where there is no collection yet, one in memory stands in for it.
fn rehearsal(session: &Session, arguments: &Add) -> Result<Collection> {
    let name = &arguments.target.collection;
    if session.has_collection(name)? {
        return target(session, arguments);
    }
    let config = match model(arguments)? {
        Some(model) => CollectionConfig::new().model(model),
        None => CollectionConfig::new(),
    };
    Ok(Database::in_memory()?.with_runtime(session.runtime.clone()).collection_with(name, config)?)
}
