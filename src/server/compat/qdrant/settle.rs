//! How is a point read and written again without losing what others write meanwhile?
//!
//! A write names the versions that were read, and storage compares them within its transaction; where another writer was faster
//! the points are read again. No writer waits for another, however long a model is at work.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use quiverdb_storage::DocumentId;

use super::shape::Shape;
use super::{expect_waiting, ids};
use crate::server::app::{Answer, App};
use crate::server::failure::Failure;
use crate::types::Document;
use crate::{ExpectedVersion, Result};

/// Points that are written in one transaction at most: they are in memory together.
const TOGETHER: usize = 1_024;
/// How often one piece of the points is tried.
const ATTEMPTS: u32 = 24;

/// What is to become of some points, as they were read.
pub(super) enum Edits {
    Put(Vec<(Document, ExpectedVersion)>),
    Delete(Vec<(DocumentId, ExpectedVersion)>),
}

impl Edits {
    fn write(self, shape: &Shape) -> Result<()> {
        match self {
            Self::Put(documents) if documents.is_empty() => Ok(()),
            Self::Put(documents) => shape.collection.add_many_expecting(documents).map(drop),
            Self::Delete(ids) if ids.is_empty() => Ok(()),
            Self::Delete(ids) => shape.collection.delete_many_expecting(ids).map(drop),
        }
    }
}

/// Has `edits` look at items, piece by piece, and writes what it makes of them; again where another writer came between. Pieces
/// become smaller then, so that whoever edits many points is not kept from it by writes to some.
pub(super) fn settle<T>(
    app: &App,
    name: &str,
    items: &[T],
    cancel: &AtomicBool,
    edits: impl Fn(&Shape, &[T]) -> Answer<Edits>,
) -> Answer<()> {
    let (mut left, mut size, mut attempt) = (items, TOGETHER, 0);
    while !left.is_empty() {
        expect_waiting(cancel)?;
        let piece = &left[..size.min(left.len())];
        let shape = Shape::of(app, name)?;
        match edits(&shape, piece)?.write(&shape) {
            Ok(()) => {
                left = &left[piece.len()..];
                (size, attempt) = ((size * 2).min(TOGETHER), 0);
            }
            Err(crate::Error::Storage(quiverdb_storage::Error::Changed { .. })) => {
                attempt += 1;
                if attempt >= ATTEMPTS {
                    return Err(crowded());
                }
                size = piece.len().div_ceil(4);
                std::thread::sleep(pause(attempt));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Longer each time, and not for all alike: two that met would meet again.
fn pause(attempt: u32) -> Duration {
    let most_micros = 500_u64 << attempt.min(7);
    Duration::from_micros(RandomState::new().hash_one(attempt) % most_micros)
}

fn crowded() -> Failure {
    let message = format!(
        "other writers changed the same points {ATTEMPTS} times while these edits were made; points before them may be edited \
         already. Send the request again"
    );
    Failure { message, ..Failure::busy(0) }
}

/// There is no such point.
pub(super) fn no_point(id: &DocumentId) -> Failure {
    Failure::of("document_not_found", format!("Not found: No point with id {} found", ids::shown(id)))
}
