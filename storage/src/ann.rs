//! How fast and how good is the approximate index? It alone, for measurements.
//!
//! An [`AnnIndex`] owns the bytes of a graph in memory. Collections keep theirs in files; this is the same code without
//! documents, commits or files, for benchmarks against other libraries.
//!
//! 100,000 sentences in MiniLM (384 dimensions, cosine, 1,000 queries) on two busy cores of a Xeon with AVX-512 VNNI, time
//! of the processor, one query thread (`benches/peers/ann.py` for the others):
//!
//! ```text
//!                       build s   ef   recall@10     QPS
//! this                       22   64      0.9840   10900
//! hnswlib f32                39   77      0.9816    5900
//! faiss HNSW f32             49   77      0.9837    4600
//! faiss HNSW SQ8            120   77      0.9766    2300
//! ```
//!
//! Invariant: nothing in the engine uses this module.

use std::sync::atomic::AtomicBool;

use roaring::RoaringBitmap;

use crate::bytes::InMemory;
use crate::distance::Metric;
use crate::graph::{self, Found, Graph, Points, Question, Recipe, Walker};
use crate::types::DIMS_MAX;
use crate::{Error, Result};

pub use crate::types::Strategy;
/// An approximate index in memory.
#[derive(Debug)]
pub struct AnnIndex {
    walker: Walker<Vec<u8>>,
}

/// The answer to a search.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AnnAnswer {
    /// Row numbers with their scores, best first.
    pub hits: Vec<(u32, f32)>,
    /// How it was found.
    pub strategy: Strategy,
    /// Vectors compared by their codes.
    pub compared: u64,
    /// Vectors compared in full precision.
    pub rescored: u64,
}

impl AnnIndex {
    /// Builds an index over vectors of `dims` numbers that lie row after row in `vectors`; rows are numbered from 0.
    ///
    /// Cost: 100,000 vectors of 384 dimensions take some 22 s on two cores; all cores are used.
    ///
    /// # Errors
    /// Where `vectors` is no whole number of rows, or a vector cannot be ranked under the metric.
    ///
    /// ```
    /// use quiverdb_storage::{Metric, ann::AnnIndex};
    ///
    /// let index = AnnIndex::build(Metric::L2, 2, &[0.0, 0.0, 3.0, 4.0])?;
    /// assert_eq!(index.search(&[3.0, 3.0], 1, 64)?.hits, [(1, -1.0)]);
    /// # Ok::<(), quiverdb_storage::Error>(())
    /// ```
    pub fn build(metric: Metric, dims: usize, vectors: &[f32]) -> Result<Self> {
        if !(1..=DIMS_MAX).contains(&dims) || !vectors.len().is_multiple_of(dims) {
            let got = vectors.len();
            return Err(Error::invalid(format!("{got} numbers are no rows of {dims}; use 1 to {DIMS_MAX} a row")));
        }
        let mut rows = Vec::with_capacity(vectors.len());
        for (index, vector) in vectors.chunks_exact(dims).enumerate() {
            prepare(metric, vector, &format!("row {index}"), &mut rows)?;
        }
        let chunks: Vec<u32> = (0..(vectors.len() / dims) as u32).collect();
        let source = InMemory { dims, rows: &rows };
        let points = Points { metric, dims, chunks: &chunks, rows: &source };
        let built = graph::build(points, Recipe::default(), &AtomicBool::new(false))?;
        let built = built.ok_or_else(|| Error::Engine("a build that nobody cancelled was cancelled".into()))?;
        let mut bytes = Vec::new();
        built.write_front(&mut bytes).map_err(|error| Error::Engine(error.to_string()))?;
        drop(built);
        bytes.reserve_exact(rows.len() * size_of::<f32>());
        rows.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        drop(rows);
        Ok(Self { walker: Walker::new(Graph::open(bytes)?) })
    }

    /// The best `k` rows for a query, nearly always; a larger `ef` finds more of them and takes longer.
    ///
    /// # Errors
    /// Where the query has another length than the rows or cannot be ranked.
    pub fn search(&self, query: &[f32], k: usize, ef: usize) -> Result<AnnAnswer> {
        self.answer(query, k, ef, None)
    }

    /// The best `k` of the rows in `allowed`.
    ///
    /// # Errors
    /// Those of [`AnnIndex::search`].
    pub fn search_filtered(&self, query: &[f32], k: usize, ef: usize, allowed: &RoaringBitmap) -> Result<AnnAnswer> {
        self.answer(query, k, ef, Some(allowed))
    }

    /// The score of a row for a query, as an exact scan gives it; `None` where there is no such row.
    ///
    /// # Errors
    /// Those of [`AnnIndex::search`].
    pub fn score(&self, row: u32, query: &[f32]) -> Result<Option<f32>> {
        self.walker.graph.score(row, &self.prepared(query)?)
    }

    /// A row as the metric compares it: of length 1 for the cosine. `None` where there is no such row.
    ///
    /// # Errors
    /// None but damage of the memory.
    pub fn vector(&self, row: u32) -> Result<Option<Vec<f32>>> {
        self.walker.graph.vector(row)
    }

    /// What the index takes in memory, the full-precision vectors included.
    pub fn memory_bytes(&self) -> usize {
        self.bytes().len()
    }

    /// The bytes of the file that this index would be.
    pub fn bytes(&self) -> &[u8] {
        self.walker.graph.bytes()
    }

    fn answer(&self, query: &[f32], k: usize, ef: usize, allowed: Option<&RoaringBitmap>) -> Result<AnnAnswer> {
        let prepared = self.prepared(query)?;
        let question = Question { query: &prepared, k, ef, allowed, dead: &RoaringBitmap::new() };
        let Found { mut hits, compared, rescored, strategy } = self.walker.search(&question)?;
        hits.truncate(k);
        Ok(AnnAnswer { hits, strategy, compared, rescored })
    }

    fn prepared(&self, query: &[f32]) -> Result<Vec<f32>> {
        let (dims, got) = (self.walker.graph.dims(), query.len());
        if got != dims {
            return Err(Error::invalid(format!("this index holds vectors of {dims} dimensions; the query has {got}")));
        }
        let mut prepared = Vec::with_capacity(dims);
        prepare(self.walker.graph.metric(), query, "the query", &mut prepared)?;
        Ok(prepared)
    }
}

fn prepare(metric: Metric, vector: &[f32], whose: &str, out: &mut Vec<f32>) -> Result<()> {
    metric.validate(vector).map_err(|why| Error::invalid(format!("{whose}: the vector {why}")))?;
    metric.prepare(vector.iter().copied(), out);
    Ok(())
}
