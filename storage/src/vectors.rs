//! Which chunks are nearest to this vector? The exact scan over what is in memory.
//!
//! Vectors lie row after row in runs, in the form that the metric compares (see [`Metric::prepare`]), with their chunk
//! numbers beside them. Large scans use all cores.
//!
//! Invariants: every live chunk is looked at, or every allowed one; a filter never makes the answer shorter than what
//! matches it. Sealed segments have graphs of their own; this is for the tail, and the oracle.

use rayon::prelude::*;
use roaring::RoaringBitmap;

use crate::best::Best;
use crate::distance::{Kernel, Metric};
use crate::runs::{Run, Runs};

/// Numbers that one task compares: 256 KiB, which fits the second-level cache.
const TASK_NUMBERS: usize = 64 << 10;
/// From so many numbers on (4 MiB, some 300 us on one core) a scan uses all cores.
const PARALLEL_NUMBERS: usize = 1 << 20;
/// A filter that lets fewer rows than one in this many pass is walked instead of the rows.
const SELECTIVE: usize = 4;

/// The vectors of some chunks, in ascending order of chunk.
#[derive(Debug)]
pub(crate) struct VectorRun {
    dims: usize,
    chunks: Vec<u32>,
    rows: Vec<f32>,
}

impl VectorRun {
    pub(crate) fn new(dims: usize) -> Self {
        Self { dims, chunks: Vec::new(), rows: Vec::new() }
    }

    pub(crate) fn reserve(&mut self, rows: usize) {
        self.chunks.reserve_exact(rows);
        self.rows.reserve_exact(rows * self.dims);
    }

    /// Adds the vector of a chunk that comes after all others.
    pub(crate) fn push(&mut self, metric: Metric, chunk: u32, vector: impl Iterator<Item = f32>) {
        debug_assert!(self.chunks.last().is_none_or(|&last| last < chunk), "chunks ascend");
        self.chunks.push(chunk);
        metric.prepare(vector, &mut self.rows);
    }

    /// The chunks to be kept.
    pub(crate) fn retain(&self, keep: impl Fn(u32) -> bool) -> Self {
        let mut kept = Self::new(self.dims);
        for (place, &chunk) in self.chunks.iter().enumerate().filter(|(_, chunk)| keep(**chunk)) {
            kept.chunks.push(chunk);
            kept.rows.extend_from_slice(self.row(place));
        }
        kept
    }

    fn row(&self, place: usize) -> &[f32] {
        &self.rows[place * self.dims..(place + 1) * self.dims]
    }

    /// The vector of a chunk, as compared.
    pub(crate) fn of(&self, chunk: u32) -> Option<&[f32]> {
        self.chunks.binary_search(&chunk).ok().map(|place| self.row(place))
    }
}

impl Run for VectorRun {
    fn len(&self) -> usize {
        self.chunks.len()
    }

    fn range(&self) -> Option<(u32, u32)> {
        Some((*self.chunks.first()?, *self.chunks.last()?))
    }

    fn merge(runs: &[&Self], dead: &RoaringBitmap) -> Self {
        let mut merged = Self::new(runs.first().map_or(0, |run| run.dims));
        merged.reserve(runs.iter().map(|run| run.len()).sum());
        for run in runs {
            let mut place = 0;
            while place < run.chunks.len() {
                // The living are copied in stretches.
                let rest = &run.chunks[place..];
                let alive = rest.iter().position(|&chunk| dead.contains(chunk)).unwrap_or(rest.len());
                merged.chunks.extend_from_slice(&rest[..alive]);
                merged.rows.extend_from_slice(&run.rows[place * run.dims..(place + alive) * run.dims]);
                place += alive + 1;
            }
        }
        merged
    }
}

/// The vectors of one space.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) metric: Metric,
    pub(crate) dims: usize,
    pub(crate) runs: Runs<VectorRun>,
}

/// Consecutive rows of a run.
struct Slice<'a> {
    chunks: &'a [u32],
    rows: &'a [f32],
}

impl Column {
    /// The best `wanted` live chunks for a prepared query, among those allowed, with all that tie with the last.
    ///
    /// Cost: one pass over all vectors at the speed of memory (10,000 of 256 dimensions: some 0.5 ms on two cores), or
    /// over the allowed ones where they are few.
    pub(crate) fn nearest(
        &self,
        prepared: &[f32],
        wanted: usize,
        dead: &RoaringBitmap,
        allowed: Option<&RoaringBitmap>,
    ) -> Best {
        let scan = Scan { column: self, query: prepared, wanted, dead, allowed, kernel: Kernel::best() };
        let rows: usize = self.runs.iter().map(Run::len).sum();
        match allowed {
            Some(allowed) if allowed.len() as usize * SELECTIVE < rows => scan.allowed_rows(allowed),
            Some(_) | None => scan.all_rows(),
        }
    }

    /// The score of a chunk for a query in the form that the metric compares; `None` where it has no vector in memory.
    pub(crate) fn similarity(&self, prepared: &[f32], chunk: u32) -> Option<f32> {
        let mut out = [0.0];
        let row = self.runs.covering(chunk)?.of(chunk)?;
        self.metric.scores(Kernel::best(), prepared, row, &mut out);
        Some(out[0])
    }

    /// A query in the form that the metric compares.
    pub(crate) fn prepare(&self, query: &[f32]) -> Vec<f32> {
        let mut prepared = Vec::with_capacity(self.dims);
        self.metric.prepare(query.iter().copied(), &mut prepared);
        prepared
    }
}

struct Scan<'a> {
    column: &'a Column,
    query: &'a [f32],
    wanted: usize,
    dead: &'a RoaringBitmap,
    allowed: Option<&'a RoaringBitmap>,
    kernel: Kernel,
}

impl Scan<'_> {
    fn all_rows(&self) -> Best {
        let dims = self.column.dims;
        let rows = (TASK_NUMBERS / dims).max(1);
        let slices = self.column.runs.iter().flat_map(|run| {
            let parts = run.chunks.chunks(rows).zip(run.rows.chunks(rows * dims));
            parts.map(|(chunks, rows)| Slice { chunks, rows })
        });
        self.gather(slices.collect(), |best, slice, scores| {
            scores.resize(slice.chunks.len(), 0.0);
            self.column.metric.scores(self.kernel, self.query, slice.rows, scores);
            for (&chunk, &score) in slice.chunks.iter().zip(scores.iter()) {
                // The bitmaps are asked last, because few rows come so far.
                if score >= best.floor() && self.may_answer(chunk) {
                    best.offer(chunk, score);
                }
            }
        })
    }

    fn may_answer(&self, chunk: u32) -> bool {
        !self.dead.contains(chunk) && self.allowed.is_none_or(|allowed| allowed.contains(chunk))
    }

    fn allowed_rows(&self, allowed: &RoaringBitmap) -> Best {
        let dims = self.column.dims;
        let mut slices = Vec::new();
        for run in self.column.runs.iter() {
            let Some((first, last)) = run.range() else { continue };
            let mut place = 0;
            for chunk in allowed.range(first..=last) {
                place += run.chunks[place..].partition_point(|&other| other < chunk);
                if run.chunks.get(place) == Some(&chunk) {
                    slices.push(Slice { chunks: &run.chunks[place..=place], rows: &run.rows[place * dims..][..dims] });
                }
            }
        }
        self.gather(slices, |best, slice, scores| {
            scores.resize(1, 0.0);
            self.column.metric.scores(self.kernel, self.query, slice.rows, scores);
            if scores[0] >= best.floor() && !self.dead.contains(slice.chunks[0]) {
                best.offer(slice.chunks[0], scores[0]);
            }
        })
    }

    /// Runs over the slices, on all cores where there is enough to do.
    fn gather(&self, slices: Vec<Slice<'_>>, step: impl Fn(&mut Best, &Slice<'_>, &mut Vec<f32>) + Sync) -> Best {
        let numbers: usize = slices.iter().map(|slice| slice.rows.len()).sum();
        let start = || (Best::new(self.wanted), Vec::new());
        let walk = |(mut best, mut scores), slice: &Slice<'_>| {
            step(&mut best, slice, &mut scores);
            (best, scores)
        };
        if numbers < PARALLEL_NUMBERS {
            return slices.iter().fold(start(), walk).0;
        }
        let parts = slices.par_iter().with_min_len((TASK_NUMBERS * slices.len() / numbers).max(1));
        let bests = parts.fold(start, walk).map(|(best, _)| best);
        bests.reduce(|| Best::new(self.wanted), Best::join)
    }
}
