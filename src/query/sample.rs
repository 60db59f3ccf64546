//! Which passages stand for the whole collection? Some of them with their vectors, evenly from the oldest to the newest.
//!
//! Invariant: the same passages each time until something is written.

use std::sync::atomic::{AtomicBool, Ordering};

use quiverdb_storage::{HydratedChunk, Metric, Snapshot};

use crate::Result;
use crate::parts::Parts;

/// The floats of all vectors of a sample: 32 MiB.
const FLOATS_MAX: usize = 8 << 20;

/// Some passages of a collection, as many as it has in all, and the vectors of those, one after the other.
pub(crate) struct Sample<T> {
    pub(crate) passages: Vec<T>,
    pub(crate) chunks: u64,
    pub(crate) dims: usize,
    /// Of unit length where the space compares directions.
    pub(crate) vectors: Vec<f32>,
}

/// Up to `chunks_max` passages, of each of which that is kept which `keep` makes of it, with their vectors in a space: the
/// default one unless named. Fewer where the vectors would take more than 32 MiB, and where it is told to stop.
///
/// Cost: a read of each passage and of its vector.
pub(crate) fn take<T>(
    parts: &Parts,
    snapshot: &Snapshot,
    space: Option<&str>,
    chunks_max: usize,
    stop: &AtomicBool,
    keep: impl Fn(HydratedChunk) -> T,
) -> Result<Sample<T>> {
    let space = space.map_or_else(|| Ok(parts.space()), |name| parts.space_named(name))?;
    let dims = space.settings.dims;
    let is_angular = space.settings.metric == Metric::Cosine;
    let numbers = snapshot.sample(chunks_max.min(FLOATS_MAX / dims.max(1)))?;
    let mut vectors = Vec::with_capacity(numbers.len() * dims);
    let passages = numbers.into_iter().take_while(|_| !stop.load(Ordering::Relaxed)).map(|number| {
        let mut vector = snapshot.vector(space.index, number)?;
        if is_angular {
            to_unit_length(&mut vector);
        }
        vectors.append(&mut vector);
        Ok(keep(snapshot.hydrate(number)?))
    });
    let passages = passages.collect::<Result<_>>()?;
    Ok(Sample { passages, chunks: snapshot.chunks(), dims, vectors })
}

fn to_unit_length(vector: &mut [f32]) {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
}
