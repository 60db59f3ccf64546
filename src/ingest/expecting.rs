//! How do several documents get in together, each in place of the version that somebody read?
//!
//! Invariants: all of them in one transaction or none; versions are compared before a model is at work, so that it is not for
//! nothing, and once more in the transaction, so that no other writer's work is lost.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use quiverdb_storage::{Alongside, Expected, ExpectedVersion};

use super::{assemble, commit, embed, examine, prepare, shares};
use crate::parts::Parts;
use crate::types::{AddReport, Document};
use crate::{Error, Result};

/// Documents whose chunks a model is given together.
const EMBEDDED_TOGETHER: usize = 64;

/// Adds documents where those that are there are as expected. Of one id only one may be given.
pub(crate) fn add_many_expecting(parts: &Arc<Parts>, documents: Vec<(Document, ExpectedVersion)>) -> Result<AddReport> {
    let start = Instant::now();
    let mut report = AddReport::default();
    let (parts, snapshot) = parts.pinned()?;
    let (mut all_expected, mut prepared, mut ids) = (Vec::new(), Vec::new(), HashSet::new());
    for (document, version) in documents {
        let id = document.id.clone();
        if !ids.insert(id.clone()) {
            return Err(Error::invalid(format!("document `{id}` is given twice; give the last one alone")));
        }
        let examined = examine(parts, &snapshot, document)?;
        let expected = Expected { id, version };
        expected.compare(examined.stored)?;
        all_expected.push(expected);
        if examined.stored == Some(examined.digest) {
            report.unchanged += 1;
        } else {
            prepared.push(prepare(parts, &snapshot, examined)?);
        }
    }
    drop(snapshot);
    let mut operations = Vec::with_capacity(prepared.len());
    let mut prepared = prepared.into_iter();
    loop {
        let some: Vec<_> = prepared.by_ref().take(EMBEDDED_TOGETHER).collect();
        if some.is_empty() {
            break;
        }
        report.chunks_reused += some.iter().map(super::Prepared::reused).sum::<u64>();
        let made = embed(parts, &some, &mut report)?;
        let made = shares(&some, made);
        for (document, made) in some.into_iter().zip(made) {
            operations.push(assemble(parts, document, made)?);
        }
    }
    commit(parts, operations, &Alongside::expected(all_expected), &mut report)?;
    parts.store.seal_soon(parts.info.id, 0);
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}
