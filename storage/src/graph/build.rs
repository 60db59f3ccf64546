//! Given vectors, which nodes shall be neighbours?
//!
//! A hierarchical navigable small world (Malkov and Yashunin, 2018), built the way of ParlayANN (Manohar et al., 2024):
//! nodes come in batches that double up to 2 % of the level; the nodes of a batch search the graph as it stands, all at
//! once, then the edges back are grouped by target and added, all targets at once. Levels are built one after the other
//! from the top, each over a prefix of one random order, so that a level is found through finished ones. Distances are those
//! of the codes.
//!
//! Invariants: the same vectors give the same bytes, whatever the number of threads and the processor; at the base every
//! node is reachable from the entry; vectors are read a few at a time, so that of each only its codes and its neighbours
//! are held in memory (a million of 384 numbers: 530 MB, their vectors would be 1.5 GB more).

use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::connect;
use super::layout::{Header, LEVELS_MAX, NO_NODE};
use super::level::{Finder, Level, Space};
use super::quantize::{Frame, stride};
use crate::Result;
use crate::bytes::Rows;
use crate::distance::{CodeKernel, Metric};

/// Nodes of a level to one of the next.
const FANOUT: usize = 16;
/// A level of fewer nodes gets none above it.
const LEVEL_MIN: usize = 16 * FANOUT;
/// A batch is one part in so many of its level, from the time on when that many nodes are in.
const BATCH_PART: usize = 50;
const BATCH_MIN: usize = 32;
/// Rows that are read at once.
const BLOCK_ROWS: usize = 4096;

/// How a graph is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    /// Neighbours of a node at the base.
    pub(crate) degree: usize,
    /// Neighbours of a node above.
    pub(crate) upper_degree: usize,
    /// Nearest nodes that a new node chooses its neighbours from.
    pub(crate) ef: usize,
}

impl Default for Recipe {
    fn default() -> Self {
        Self { degree: 32, upper_degree: 16, ef: 200 }
    }
}

/// What a graph is built of.
#[derive(Clone, Copy)]
pub(crate) struct Points<'a> {
    pub(crate) metric: Metric,
    pub(crate) dims: usize,
    /// The chunk of each row, ascending.
    pub(crate) chunks: &'a [u32],
    /// As many.
    pub(crate) rows: &'a dyn Rows,
}

/// A graph that is ready to be written.
pub(crate) struct Built<'a> {
    points: Points<'a>,
    frame: Frame,
    /// The node at each place of the random order.
    order: Vec<u32>,
    /// The reverse.
    places: Vec<u32>,
    space: Space,
    /// The base first.
    levels: Vec<Level>,
    recipe: Recipe,
}

/// Builds the graph; `None` where it was cancelled.
///
/// Cost: for 100,000 vectors of 384 dimensions some 22 s on two cores; memory as [`memory_bytes`] says. Vectors are read
/// three times.
///
/// # Errors
/// Those of the rows.
pub(crate) fn build<'a>(points: Points<'a>, recipe: Recipe, cancelled: &AtomicBool) -> Result<Option<Built<'a>>> {
    let Points { metric, dims, chunks, rows } = points;
    let order = shuffled(chunks.len());
    let mut places = vec![0; order.len()];
    for (place, &node) in (0..).zip(&order) {
        places[node as usize] = place;
    }
    let frame = Frame::fit(metric, dims, chunks.len(), rows)?;
    let space = encode(&frame, points, &places)?;
    let Some(levels) = grow_all(&space, recipe, cancelled) else { return Ok(None) };
    Ok(Some(Built { points, frame, order, places, space, levels, recipe }))
}

/// What a build holds in memory for each vector: its codes, its neighbours, and where it stands.
pub(crate) fn memory_bytes(dims: usize) -> usize {
    stride(dims) + 4 * Recipe::default().degree + 16
}

/// All levels, the base first; `None` where it was cancelled.
fn grow_all(space: &Space, recipe: Recipe, cancelled: &AtomicBool) -> Option<Vec<Level>> {
    let mut upper: Vec<Level> = Vec::new();
    for (level, &count) in level_counts(space.len()).iter().enumerate().rev() {
        let degree = if level == 0 { recipe.degree } else { recipe.upper_degree };
        upper.insert(0, grow(space, &upper, count, Recipe { degree, ..recipe }, cancelled)?);
    }
    let mut levels = upper;
    connect::connect(space, &mut levels, recipe.ef, cancelled)?;
    Some(levels)
}

/// Nodes of the base and of each level above it.
fn level_counts(count: usize) -> Vec<usize> {
    let mut counts = vec![count];
    while counts.len() <= LEVELS_MAX && counts[counts.len() - 1] >= LEVEL_MIN {
        counts.push(counts[counts.len() - 1] / FANOUT);
    }
    counts
}

/// All nodes in an order that looks random and is always the same.
fn shuffled(count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    order.par_sort_unstable_by_key(|&node| (mixed(node), node));
    order
}

/// The finishing of SplitMix64 (Steele, Lea and Flood, 2014).
fn mixed(node: u32) -> u64 {
    let mut mixed = u64::from(node).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Makes the records, each at the place of its node. Rows are read in their order and not in that of the records, because
/// they may come from a disk.
fn encode(frame: &Frame, points: Points<'_>, places: &[u32]) -> Result<Space> {
    let dims = points.dims;
    let kernel = CodeKernel::best();
    let mut space = Space::new(dims, kernel, points.metric == Metric::Dot, places.len());
    let (mut rows, mut records) = (Vec::new(), Vec::new());
    for first in (0..places.len()).step_by(BLOCK_ROWS) {
        let block = first..places.len().min(first + BLOCK_ROWS);
        points.rows.read(block.clone(), &mut rows)?;
        records.resize(block.len() * stride(dims), 0);
        let each = records.par_chunks_mut(stride(dims)).zip(rows.par_chunks(dims)).with_min_len(64);
        each.for_each(|(record, row)| frame.encode(kernel, row, record));
        for (&place, record) in places[block].iter().zip(records.chunks_exact(stride(dims))) {
            space.record_mut(place).copy_from_slice(record);
        }
    }
    Ok(space)
}

/// Builds the level of the first `count` nodes under the levels `upper`, the lowest first.
fn grow(space: &Space, upper: &[Level], count: usize, recipe: Recipe, cancelled: &AtomicBool) -> Option<Level> {
    let mut level = Level::new(count, recipe.degree);
    let batch_max = (count / BATCH_PART).max(BATCH_MIN);
    let mut done = 1;
    while done < count {
        let end = count.min(done + done.min(batch_max));
        let chosen = choose(space, upper, &level, done..end, recipe, cancelled);
        for (node, neighbours) in (done..end).zip(&chosen) {
            level.set(node as u32, neighbours);
        }
        let back = edges_back(done, &chosen);
        let targets: Vec<&[(u32, u32)]> = back.chunk_by(|one, other| one.0 == other.0).collect();
        let start = || Finder::new(space);
        let merged = targets.par_iter().with_min_len(8).map_init(start, |finder, edges| {
            let sources = edges.iter().map(|&(_, source)| source);
            finder.merged(&level, edges[0].0, sources)
        });
        let merged: Vec<Vec<u32>> = merged.collect();
        for (edges, neighbours) in targets.iter().zip(&merged) {
            level.set(edges[0].0, neighbours);
        }
        if cancelled.load(Ordering::Relaxed) {
            return None;
        }
        done = end;
    }
    Some(level)
}

/// The neighbours that each node of a batch wants.
fn choose(
    space: &Space,
    upper: &[Level],
    level: &Level,
    batch: Range<usize>,
    recipe: Recipe,
    cancelled: &AtomicBool,
) -> Vec<Vec<u32>> {
    // Nodes of the levels above may serve as entries once they are all in.
    let through = if upper.first().is_some_and(|above| above.len() <= batch.start) { upper } else { &[] };
    let nodes = batch.into_par_iter().with_min_len(4);
    let chosen = nodes.map_init(
        || Finder::new(space),
        |finder, node| {
            if cancelled.load(Ordering::Relaxed) {
                return Vec::new();
            }
            finder.find(through, level, node as u32, recipe.ef);
            finder.chosen(level)
        },
    );
    chosen.collect()
}

/// The edges from what was chosen to what chose it, as (target, source) in order.
fn edges_back(first: usize, chosen: &[Vec<u32>]) -> Vec<(u32, u32)> {
    let sources = (first as u32..).zip(chosen);
    let mut edges: Vec<(u32, u32)> =
        sources.flat_map(|(source, targets)| targets.iter().map(move |&target| (target, source))).collect();
    edges.par_sort_unstable();
    edges
}

impl Built<'_> {
    /// Writes the file up to the vectors: see `layout`.
    pub(crate) fn write_front(&self, out: &mut impl Write) -> io::Result<()> {
        let header = self.header();
        let sections = header.sections().ok_or_else(too_long)?;
        let mut out = Padded { out, written: 0 };
        out.put(&header.encode(sections))?;
        out.floats(sections.centre, &self.frame.centre)?;
        out.pad(sections.records)?;
        for &place in &self.places {
            out.put(self.space.record(place))?;
        }
        out.pad(sections.links)?;
        for &place in &self.places {
            let places = self.levels[0].row(place).iter();
            let nodes = places.map(|&place| self.order.get(place as usize).copied().unwrap_or(NO_NODE));
            out.words(nodes)?;
        }
        out.pad(sections.members)?;
        out.words(self.order[..header.level_counts.first().copied().unwrap_or(0)].iter().copied())?;
        out.pad(sections.upper)?;
        for level in &self.levels[1..] {
            out.words(level.rows().iter().copied())?;
        }
        out.pad(sections.chunks)?;
        out.words(self.points.chunks.iter().copied())?;
        out.pad(sections.vectors)
    }

    fn header(&self) -> Header {
        let Points { metric, dims, chunks, rows: _ } = self.points;
        let entry = self.order.first().copied().unwrap_or(NO_NODE);
        Header { entry, unit: self.frame.unit, ..header(metric, dims, chunks.len(), self.recipe) }
    }
}

/// The header of a graph, but for what its vectors decide.
fn header(metric: Metric, dims: usize, count: usize, recipe: Recipe) -> Header {
    let Recipe { degree, upper_degree, ef: _ } = recipe;
    let level_counts = level_counts(count).split_off(1);
    Header { metric, dims, count, degree, upper_degree, entry: NO_NODE, unit: 1.0, level_counts }
}

/// Where the vectors begin in the file of a graph over so many.
///
/// # Errors
/// Where the file would be longer than addresses.
pub(crate) fn vectors_start(metric: Metric, dims: usize, count: usize, recipe: Recipe) -> io::Result<usize> {
    Ok(header(metric, dims, count, recipe).sections().ok_or_else(too_long)?.vectors)
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "a vector graph longer than addresses")
}

/// Writes, and knows where it stands.
struct Padded<'a, W> {
    out: &'a mut W,
    written: usize,
}

impl<W: Write> Padded<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        self.out.write_all(bytes)
    }

    fn pad(&mut self, to: usize) -> io::Result<()> {
        self.put(&vec![0; to - self.written])
    }

    fn words(&mut self, words: impl Iterator<Item = u32>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for word in words {
            bytes.extend(word.to_le_bytes());
        }
        self.put(&bytes)
    }

    fn floats(&mut self, at: usize, numbers: &[f32]) -> io::Result<()> {
        self.pad(at)?;
        let mut bytes = Vec::new();
        for numbers in numbers.chunks(4096) {
            bytes.clear();
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            self.put(&bytes)?;
        }
        Ok(())
    }
}
