//! Which chunks are nearest to this vector, without looking at all of them?
//!
//! A [`Graph`] is read in place from the bytes of one file (drawn in `layout`), which [`build`] makes. It is walked on codes of
//! one byte a number (`quantize`); what is found is ranked by full precision, with the scores of the exact scan.
//!
//! Invariants: this module knows bytes and vectors, nothing of redb, of tantivy or of paths; nothing in a file is trusted to
//! be in range, so that damage is [`Error::Corrupt`](crate::Error::Corrupt) and never a panic; a file does not change once
//! written.

mod bits;
mod build;
mod connect;
mod layout;
mod level;
mod pool;
mod quantize;
mod search;
#[cfg(test)]
mod tests;
mod walk;

use std::ops::Range;

use roaring::RoaringBitmap;

use crate::Result;
use crate::bytes::Bytes;
use crate::distance::{CodeKernel, Kernel, Metric};
use layout::{HEADER_BYTES, Header, Sections, corrupt};
use quantize::{Frame, Probe};

pub(crate) use build::{Points, Recipe, build, memory_bytes, vectors_start};
#[cfg(test)]
use search::Scratch;
pub(crate) use search::{Found, Question, Walker};

/// A graph over the vectors of a segment.
#[derive(Debug)]
pub(crate) struct Graph<B> {
    bytes: B,
    header: Header,
    sections: Sections,
    frame: Frame,
    stride: usize,
    kernel: Kernel,
    codes: CodeKernel,
    first_chunk: u32,
    last_chunk: u32,
}

impl<B: Bytes> Graph<B> {
    /// Reads the head of a graph.
    ///
    /// Cost: the header, the centre and two chunk numbers.
    ///
    /// # Errors
    /// Where the bytes are not those of a graph.
    pub(crate) fn open(bytes: B) -> Result<Self> {
        let head = bytes.get(0..HEADER_BYTES.min(bytes.len()))?;
        let (header, sections) = Header::decode(head, bytes.len())?;
        let mut centre = Vec::new();
        floats(bytes.get(sections.centre..sections.centre + header.dims * 4)?, &mut centre);
        if centre.iter().any(|number| !number.is_finite()) {
            return Err(corrupt("its centre is not finite"));
        }
        let frame = Frame { metric: header.metric, centre, unit: header.unit };
        let (kernel, codes) = (Kernel::best(), CodeKernel::best());
        let stride = quantize::stride(header.dims);
        let mut graph = Self { bytes, header, sections, frame, stride, kernel, codes, first_chunk: 0, last_chunk: 0 };
        if let Some(last) = graph.len().checked_sub(1) {
            (graph.first_chunk, graph.last_chunk) = (graph.chunk(0)?, graph.chunk(last as u32)?);
        }
        Ok(graph)
    }

    /// How many vectors it holds.
    pub(crate) fn len(&self) -> usize {
        self.header.count
    }

    pub(crate) fn dims(&self) -> usize {
        self.header.dims
    }

    pub(crate) fn metric(&self) -> Metric {
        self.header.metric
    }

    /// The bytes that it is read from.
    pub(crate) fn bytes(&self) -> &B {
        &self.bytes
    }

    /// The vector of a chunk in the form that the metric compares; `None` where it has none here.
    pub(crate) fn vector(&self, chunk: u32) -> Result<Option<Vec<f32>>> {
        let Some(node) = self.node(chunk)? else { return Ok(None) };
        let (mut bytes, mut row) = (Vec::new(), Vec::new());
        self.row(node, &mut bytes, &mut row)?;
        Ok(Some(row))
    }

    /// The score of a chunk for a prepared query, that of the exact scan; `None` where it has no vector here.
    pub(crate) fn score(&self, chunk: u32, query: &[f32]) -> Result<Option<f32>> {
        let Some(node) = self.node(chunk)? else { return Ok(None) };
        let (mut bytes, mut row) = (Vec::new(), Vec::new());
        self.score_of(node, query, &mut bytes, &mut row).map(Some)
    }

    fn score_of(&self, node: u32, query: &[f32], bytes: &mut Vec<u8>, row: &mut Vec<f32>) -> Result<f32> {
        self.row(node, bytes, row)?;
        self.score_row(node, query, row)
    }

    fn score_row(&self, node: u32, query: &[f32], row: &[f32]) -> Result<f32> {
        let mut score = [0.0];
        self.header.metric.scores(self.kernel, query, row, &mut score);
        if score[0].is_finite() {
            Ok(score[0])
        } else {
            Err(corrupt(format!("the vector of node {node} is not finite")))
        }
    }

    fn row(&self, node: u32, bytes: &mut Vec<u8>, row: &mut Vec<f32>) -> Result<()> {
        let place = self.row_place(node);
        bytes.resize(place.len(), 0);
        self.bytes.read_at(place, bytes)?;
        row.clear();
        floats(bytes, row);
        Ok(())
    }

    fn row_bytes(&self, node: u32) -> Result<&[u8]> {
        self.bytes.get(self.row_place(node))
    }

    fn row_place(&self, node: u32) -> Range<usize> {
        let length = self.header.dims * 4;
        let begin = self.sections.vectors + node as usize * length;
        begin..begin + length
    }

    #[inline]
    fn record(&self, node: u32) -> Result<&[u8]> {
        let begin = self.sections.records + node as usize * self.stride;
        self.bytes.get(begin..begin + self.stride)
    }

    #[inline]
    fn rank(&self, probe: &Probe, record: &[u8]) -> f32 {
        probe.rank(self.codes, self.frame.norm_weight(), record)
    }

    /// The neighbours of a node at the base, as bytes.
    #[inline]
    fn links(&self, node: u32) -> Result<&[u8]> {
        let length = self.header.degree * 4;
        let begin = self.sections.links + node as usize * length;
        self.bytes.get(begin..begin + length)
    }

    #[inline]
    pub(crate) fn chunk(&self, node: u32) -> Result<u32> {
        self.word(self.sections.chunks, node as usize)
    }

    fn word(&self, section: usize, index: usize) -> Result<u32> {
        let begin = section + index * 4;
        let bytes = self.bytes.get(begin..begin + 4)?;
        Ok(bytes.first_chunk().map_or(0, |&bytes| u32::from_le_bytes(bytes)))
    }

    /// The node of a chunk.
    fn node(&self, chunk: u32) -> Result<Option<u32>> {
        let node = self.node_from(0, chunk)?;
        let there = (node as usize) < self.len() && self.chunk(node)? == chunk;
        Ok(there.then_some(node))
    }

    /// The first node from `start` on whose chunk is not below `chunk`; a few steps where it is near.
    fn node_from(&self, start: u32, chunk: u32) -> Result<u32> {
        let (mut low, mut high, mut step) = (start, self.len() as u32, 1);
        while low + step <= high && self.chunk(low + step - 1)? < chunk {
            low += step;
            step = (step * 2).min(high - low).max(1);
        }
        high = high.min(low.saturating_add(step));
        while low < high {
            let middle = low.midpoint(high);
            if self.chunk(middle)? < chunk { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// Calls for each node that may answer, in ascending order.
    fn each_matching(
        &self,
        allowed: Option<&RoaringBitmap>,
        dead: &RoaringBitmap,
        mut step: impl FnMut(u32) -> Result<()>,
    ) -> Result<()> {
        let none_dead = dead.is_empty();
        let Some(allowed) = allowed else {
            for node in 0..self.len() as u32 {
                if none_dead || !dead.contains(self.chunk(node)?) {
                    step(node)?;
                }
            }
            return Ok(());
        };
        if self.len() == 0 || self.first_chunk > self.last_chunk {
            return Ok(());
        }
        let unbroken = (self.last_chunk - self.first_chunk) as usize + 1 == self.len();
        let mut place = 0;
        for chunk in allowed.range(self.first_chunk..=self.last_chunk) {
            if !none_dead && dead.contains(chunk) {
                continue;
            }
            if unbroken {
                step(chunk - self.first_chunk)?;
                continue;
            }
            place = self.node_from(place, chunk)?;
            if (place as usize) < self.len() && self.chunk(place)? == chunk {
                step(place)?;
            }
        }
        Ok(())
    }
}

fn floats(bytes: &[u8], out: &mut Vec<f32>) {
    out.extend(bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)));
}
