//! How is a written graph walked?
//!
//! Records of neighbours are asked for all at once before the first is compared, so that the memory answers while the
//! processor computes.
//!
//! Invariants: a walk visits a node at most once, so it ends whatever the file says; a neighbour outside the graph is
//! damage.

use super::bits::Bits;
use super::layout::{DEGREE_MAX, NO_NODE};
use super::pool::Pool;
use super::quantize::Probe;
use super::{Graph, layout};
use crate::Result;
use crate::bytes::Bytes;
use crate::distance::prefetch;

/// How many neighbours ahead of the one that is compared records are asked for.
const AHEAD: usize = 4;

/// What a walk fills, kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Trail {
    pub(super) pool: Pool,
    pub(super) visited: Bits,
    /// Nodes that may answer and were not compared yet.
    pub(super) passing: Bits,
    /// Distances computed.
    pub(super) compared: u64,
}

/// Records that are to be compared next.
pub(super) struct Batch<'a> {
    items: [(u32, &'a [u8]); DEGREE_MAX],
    len: usize,
}

impl<'a> Batch<'a> {
    pub(super) fn new() -> Self {
        Self { items: [(NO_NODE, &[]); DEGREE_MAX], len: 0 }
    }

    #[inline]
    pub(super) fn push(&mut self, node: u32, record: &'a [u8]) {
        self.items[self.len] = (node, record);
        self.len += 1;
    }

    pub(super) fn is_full(&self) -> bool {
        self.len == DEGREE_MAX
    }
}

impl<B: Bytes> Graph<B> {
    /// Goes down the upper levels, always to the nearest; gives the node to enter the base at.
    pub(super) fn descend(&self, probe: &Probe, trail: &mut Trail) -> Result<u32> {
        let Some(&members) = self.header.level_counts.first() else { return Ok(self.header.entry) };
        let member = |place: u32| {
            let node = self.word(self.sections.members, place as usize)?;
            if (node as usize) < self.len() { Ok(node) } else { Err(outside(node)) }
        };
        let mut level_end = self.header.level_counts.iter().sum::<usize>();
        debug_assert!(members <= level_end);
        let mut best = (self.rank(probe, self.record(member(0)?)?), 0);
        for &count in self.header.level_counts.iter().rev() {
            level_end -= count;
            loop {
                let from = best.1;
                let row = self.upper_links(level_end, from)?;
                for place in neighbours(row) {
                    if place as usize >= count {
                        return Err(outside(place));
                    }
                    let rank = self.rank(probe, self.record(member(place)?)?);
                    trail.compared += 1;
                    if rank > best.0 {
                        best = (rank, place);
                    }
                }
                if best.1 == from {
                    break;
                }
            }
        }
        member(best.1)
    }

    fn upper_links(&self, level_start: usize, place: u32) -> Result<&[u8]> {
        let length = self.header.upper_degree * 4;
        let begin = self.sections.upper + (level_start + place as usize) * length;
        self.bytes.get(begin..begin + length)
    }

    /// Fills the pool with the `ef` nodes nearest to the probe that a walk from `entry` meets.
    pub(super) fn walk(&self, probe: &Probe, entry: u32, ef: usize, trail: &mut Trail) -> Result<()> {
        trail.visited.reset(self.len());
        trail.pool.reset(ef);
        trail.visited.insert(entry);
        trail.pool.offer(self.rank(probe, self.record(entry)?), entry);
        let mut batch = Batch::new();
        while let Some(node) = trail.pool.expand() {
            for node in neighbours(self.links(node)?) {
                if node as usize >= self.len() {
                    return Err(outside(node));
                }
                if trail.visited.insert(node) {
                    batch.push(node, self.record(node)?);
                }
            }
            if let Some(next) = trail.pool.upcoming() {
                prefetch(self.links(next)?);
            }
            self.compare(probe, &mut batch, trail);
        }
        Ok(())
    }

    /// Offers what is in the batch to the pool and empties it.
    #[inline]
    pub(super) fn compare(&self, probe: &Probe, batch: &mut Batch<'_>, trail: &mut Trail) {
        let items = &batch.items[..batch.len];
        for (_, record) in items.iter().take(AHEAD) {
            prefetch(record);
        }
        for (index, &(node, record)) in items.iter().enumerate() {
            if let Some((_, ahead)) = items.get(index + AHEAD) {
                prefetch(ahead);
            }
            trail.pool.offer(self.rank(probe, record), node);
        }
        trail.compared += items.len() as u64;
        batch.len = 0;
    }

    /// As [`Graph::walk`] over the nodes that may answer alone, which `trail.passing` holds: where a neighbour may not, its
    /// neighbours stand for it (ACORN-1; Patel et al., 2024). Begins at `seeds`, which may not answer themselves.
    pub(super) fn walk_passing(&self, probe: &Probe, seeds: &[u32], ef: usize, trail: &mut Trail) -> Result<()> {
        trail.visited.reset(self.len());
        trail.pool.reset(ef);
        let mut batch = Batch::new();
        for &seed in seeds {
            if trail.passing.remove(seed) {
                batch.push(seed, self.record(seed)?);
            }
            self.gather(seed, &mut batch, trail)?;
            self.compare(probe, &mut batch, trail);
        }
        while let Some(node) = trail.pool.expand() {
            self.gather(node, &mut batch, trail)?;
            self.compare(probe, &mut batch, trail);
        }
        Ok(())
    }

    /// The passing nodes within two steps of a node, those beside it first, until the batch is as large as a row.
    fn gather<'a>(&'a self, node: u32, batch: &mut Batch<'a>, trail: &mut Trail) -> Result<()> {
        let row = self.links(node)?;
        let mut failing = [NO_NODE; DEGREE_MAX];
        let mut failed = 0;
        for node in neighbours(row) {
            if node as usize >= self.len() {
                return Err(outside(node));
            }
            if trail.passing.remove(node) {
                if !batch.is_full() {
                    batch.push(node, self.record(node)?);
                }
            } else if trail.visited.insert(node) {
                prefetch(self.links(node)?);
                failing[failed] = node;
                failed += 1;
            }
        }
        for &node in &failing[..failed] {
            for node in neighbours(self.links(node)?) {
                if batch.len >= self.header.degree {
                    return Ok(());
                }
                if node as usize >= self.len() {
                    return Err(outside(node));
                }
                if trail.passing.remove(node) {
                    batch.push(node, self.record(node)?);
                }
            }
        }
        Ok(())
    }
}

/// The neighbours that a row of the file tells.
#[inline]
fn neighbours(row: &[u8]) -> impl Iterator<Item = u32> {
    row.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).take_while(|&node| node != NO_NODE)
}

#[cold]
fn outside(node: u32) -> crate::Error {
    layout::corrupt(format!("it names node {node}, which it has not"))
}
