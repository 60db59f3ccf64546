//! Is a large database whole that was not closed as it should be?
//!
//! redb verifies all pages of a small one when it opens it after a crash. A large one is committed so that it opens at
//! once, and then nothing was verified. redb's own `check_integrity` needs the database for itself, for seconds a
//! gigabyte. So a thread in the background reads all there is through a transaction, as `check` does, and compares our
//! own checksums, which cover every record and every block of every segment.
//!
//! Invariants: it begins once an opening; it does not keep the database open, and ends soon after that is closed.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, Weak};

use crate::check::{Findings, distrust, inspect};
use crate::engine::Engine;
use crate::guard::damage_as_error;
use crate::handle::Reading;
use crate::{Result, Scrub};

/// Begins to read all of it.
pub(crate) fn start(engine: &Arc<Engine>) {
    note(engine, Scrub::Running);
    let started = engine.begin_read().map(|reading| {
        let (folder, engine) = (engine.folder().map(std::path::Path::to_owned), Arc::downgrade(engine));
        let work = move || {
            let found =
                damage_as_error("the database", || inspect(&reading, folder.as_deref(), &AtomicBool::new(false)));
            finish(&engine, reading, found);
        };
        std::thread::Builder::new().name("quiver-scrub".into()).spawn(work)
    });
    match started {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => note(engine, Scrub::Failed(error.to_string())),
        Err(error) => note(engine, Scrub::Failed(error.to_string())),
    }
}

/// Tells of what was found, unless the database was closed meanwhile.
fn finish(engine: &Weak<Engine>, reading: Reading, found: Result<Findings>) {
    drop(reading);
    let Some(engine) = engine.upgrade() else { return };
    let outcome = found.and_then(|found| distrust(&engine, &found.damaged_segments).map(|()| found.violations));
    note(&engine, outcome.map_or_else(|error| Scrub::Failed(error.to_string()), Scrub::Done));
}

fn note(engine: &Engine, scrub: Scrub) {
    *engine.scrub.lock().unwrap_or_else(PoisonError::into_inner) = scrub;
}
