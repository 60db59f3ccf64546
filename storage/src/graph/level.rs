//! While a graph is built: what is near this node, and which of that shall be its neighbours?
//!
//! Nodes are places in the random order of the build.
//!
//! Invariant: what is found depends on the space and the finished part of the level alone.

use super::bits::Bits;
use super::layout::NO_NODE;
use super::pool::Pool;
use super::quantize::{Probe, stride};
use crate::distance::{CodeKernel, prefetch};

/// How many nodes ahead of the one that is compared records are asked for.
const AHEAD: usize = 4;

/// How much nearer to a candidate one that was taken must be, squared (Vamana's alpha; Subramanya et al., 2019). On MiniLM
/// sentences recall@10 at `ef` 64 is 0.9785 at 1, 0.9840 at 1.1 and 0.9712 at 1.25, on SIFT 0.905, 0.946 and 0.961.
const SLACK: f32 = 1.1;

/// The records of all nodes.
#[derive(Debug)]
pub(super) struct Space {
    dims: usize,
    stride: usize,
    kernel: CodeKernel,
    lift: bool,
    records: Vec<u8>,
}

impl Space {
    /// Room for the records of so many nodes.
    pub(super) fn new(dims: usize, kernel: CodeKernel, lift: bool, count: usize) -> Self {
        let stride = stride(dims);
        Self { dims, stride, kernel, lift, records: vec![0; count * stride] }
    }

    /// How many nodes it has.
    pub(super) fn len(&self) -> usize {
        self.records.len() / self.stride
    }

    pub(super) fn record_mut(&mut self, node: u32) -> &mut [u8] {
        &mut self.records[node as usize * self.stride..][..self.stride]
    }

    #[inline]
    pub(super) fn record(&self, node: u32) -> &[u8] {
        &self.records[node as usize * self.stride..][..self.stride]
    }

    #[inline]
    fn distance(&self, probe: &Probe, node: u32) -> f32 {
        probe.distance(self.kernel, self.lift, self.record(node))
    }
}

/// The neighbours of the nodes of one level.
#[derive(Debug)]
pub(super) struct Level {
    degree: usize,
    rows: Vec<u32>,
}

impl Level {
    pub(super) fn new(count: usize, degree: usize) -> Self {
        Self { degree, rows: vec![NO_NODE; count * degree] }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len() / self.degree
    }

    /// All rows, each of `degree` places.
    pub(super) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The row of a node, filled up with [`NO_NODE`].
    pub(super) fn row(&self, node: u32) -> &[u32] {
        &self.rows[node as usize * self.degree..][..self.degree]
    }

    pub(super) fn row_mut(&mut self, node: u32) -> &mut [u32] {
        &mut self.rows[node as usize * self.degree..][..self.degree]
    }

    pub(super) fn neighbours(&self, node: u32) -> impl Iterator<Item = u32> {
        self.row(node).iter().copied().take_while(|&node| node != NO_NODE)
    }

    pub(super) fn set(&mut self, node: u32, neighbours: &[u32]) {
        let row = self.row_mut(node);
        row.fill(NO_NODE);
        row[..neighbours.len()].copy_from_slice(neighbours);
    }
}

/// What one thread needs to find and choose neighbours.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    space: &'a Space,
    probe: Probe,
    other: Probe,
    pool: Pool,
    visited: Bits,
    fresh: Vec<u32>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(space: &'a Space) -> Self {
        let (probe, other) = (Probe::default(), Probe::default());
        Self { space, probe, other, pool: Pool::default(), visited: Bits::default(), fresh: Vec::new() }
    }

    /// Fills the pool with the nodes of a level nearest to `node`, entering through the levels above, the lowest first.
    pub(super) fn find(&mut self, upper: &[Level], level: &Level, node: u32, ef: usize) {
        self.probe.load(self.space.dims, self.space.record(node));
        let entry = upper.iter().rev().fold(0, |entry, level| self.descend(level, entry));
        self.walk(level, entry, ef);
    }

    /// What [`Finder::find`] found, the nearest first.
    pub(super) fn found(&self) -> impl Iterator<Item = u32> {
        self.pool.seen().iter().map(|seen| seen.node)
    }

    fn descend(&mut self, level: &Level, entry: u32) -> u32 {
        let mut best = (self.space.distance(&self.probe, entry), entry);
        loop {
            let from = best.1;
            for node in level.neighbours(from) {
                let distance = self.space.distance(&self.probe, node);
                if distance < best.0 {
                    best = (distance, node);
                }
            }
            if best.1 == from {
                return from;
            }
        }
    }

    fn walk(&mut self, level: &Level, entry: u32, ef: usize) {
        self.visited.reset(level.len());
        self.pool.reset(ef);
        self.visited.insert(entry);
        self.pool.offer(-self.space.distance(&self.probe, entry), entry);
        while let Some(node) = self.pool.expand() {
            self.fresh.clear();
            self.fresh.extend(level.neighbours(node).filter(|&node| self.visited.insert(node)));
            for &node in self.fresh.iter().take(AHEAD) {
                prefetch(self.space.record(node));
            }
            for (index, &node) in self.fresh.iter().enumerate() {
                if let Some(&ahead) = self.fresh.get(index + AHEAD) {
                    prefetch(self.space.record(ahead));
                }
                self.pool.offer(-self.space.distance(&self.probe, node), node);
            }
        }
    }

    /// Chooses neighbours from what [`Finder::find`] found.
    pub(super) fn chosen(&mut self, level: &Level) -> Vec<u32> {
        let mut candidates: Vec<(f32, u32)> = self.pool.seen().iter().map(|seen| (-seen.score, seen.node)).collect();
        if candidates.last().is_some_and(|last| last.0 <= 0.0) {
            self.look_past(level, &mut candidates);
        }
        self.diverse(&candidates, level.degree)
    }

    /// So many equal vectors that nothing else was seen: what is beside them comes on top, for a way out.
    fn look_past(&mut self, level: &Level, candidates: &mut Vec<(f32, u32)>) {
        for index in 0..candidates.len() {
            let beside = level.neighbours(candidates[index].1).filter(|&node| self.visited.insert(node));
            let space = self.space;
            candidates.extend(beside.map(|node| (space.distance(&self.probe, node), node)));
        }
        candidates.sort_unstable_by(nearer);
    }

    /// The neighbours of a node after more nodes came near it.
    pub(super) fn merged(&mut self, level: &Level, node: u32, more: impl Iterator<Item = u32>) -> Vec<u32> {
        let mut all: Vec<u32> = level.neighbours(node).collect();
        let known = all.len();
        all.extend(more);
        // Both may have chosen each other.
        let (old, new) = all.split_at(known);
        let new: Vec<u32> = new.iter().copied().filter(|node| !old.contains(node)).collect();
        all.truncate(known);
        all.extend(new);
        if all.len() <= level.degree {
            return all;
        }
        self.probe.load(self.space.dims, self.space.record(node));
        let with_distance = |node| (self.space.distance(&self.probe, node), node);
        let mut candidates: Vec<(f32, u32)> = all.into_iter().map(with_distance).collect();
        candidates.sort_unstable_by(nearer);
        self.diverse(&candidates, level.degree)
    }

    /// The heuristic of the HNSW paper: a candidate, the nearest first, is taken unless one that was taken is much nearer to it.
    /// Of equal vectors a quarter of the degree is taken, so that many of them do not close themselves off.
    fn diverse(&mut self, candidates: &[(f32, u32)], degree: usize) -> Vec<u32> {
        let mut chosen = Vec::with_capacity(degree);
        let mut equal = 0;
        for &(distance, node) in candidates {
            if chosen.len() == degree {
                break;
            }
            if distance <= 0.0 {
                equal += 1;
                if equal > degree.div_ceil(4) {
                    continue;
                }
            }
            self.other.load(self.space.dims, self.space.record(node));
            if chosen.iter().all(|&taken| self.space.distance(&self.other, taken) * SLACK >= distance) {
                chosen.push(node);
            }
        }
        chosen
    }
}

fn nearer(one: &(f32, u32), other: &(f32, u32)) -> std::cmp::Ordering {
    one.0.total_cmp(&other.0).then(one.1.cmp(&other.1))
}
