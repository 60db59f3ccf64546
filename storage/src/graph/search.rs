//! Given a query and what may answer it, which way to the answer is cheapest?
//!
//! Three ways: all codes that may answer are compared (`Exact`) where they are few; the graph is walked over those that may
//! answer (`Selective`) where a good part may not; it is walked as it is (`Plain`) where most may. The best by code are then
//! ranked by full precision.
//!
//! Invariants: a score is that of the exact scan, to the last bit; nothing dead or filtered out is found; `k` are found
//! wherever `k` match, because a walk that ends with fewer is followed by the exact way; so is one that kept hardly anything
//! but equal vectors, because it could not leave them; all that tie with the last of an answer are in it, because which of
//! them is meant is for the documents' ids to say.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use roaring::RoaringBitmap;

use super::pool::Seen;
use super::quantize::Probe;
use super::walk::{Batch, Trail};
use super::{Graph, floats};
use crate::Result;
use crate::best::Best;
use crate::bytes::Bytes;
use crate::types::Strategy;

/// A plain walk costs about as much as comparing this many codes for each node that it keeps (100,000 MiniLM vectors: 1.4 us
/// a node kept, 20 to 40 ns a code compared), and a selective one twice as much.
const EXACT_PER_EF: usize = 48;
/// From this share of matching nodes on the graph is walked as it is.
const PLAIN_SHARE: f64 = 0.15;
/// A plain walk under a filter keeps more nodes: `ef / share^0.6`. With 0.8 recall rises from 0.984 without a filter to 0.991 at
/// a half and 0.993 at a fifth, and costs more than it must.
const PLAIN_POWER: f64 = 0.6;
/// A selective walk keeps fewer, because it sees two steps far; with all of them recall is higher than without a filter.
const SELECTIVE_EF: f64 = 0.7;
/// Nodes near the query at which a selective walk begins.
const SEEDS: usize = 8;
/// Candidates of full precision for each answer, and at least.
const RESCORED_PER_K: usize = 2;
const RESCORED_MIN: usize = 20;

/// Vectors that one task of a scan compares.
const SCANNED_PER_TASK: usize = 1024;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// In the form that the metric compares.
    pub(crate) query: &'a [f32],
    pub(crate) k: usize,
    /// How many nodes a walk keeps; raised to `k`.
    pub(crate) ef: usize,
    /// The chunks that may answer; all where `None`.
    pub(crate) allowed: Option<&'a RoaringBitmap>,
    /// Chunks that may not.
    pub(crate) dead: &'a RoaringBitmap,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// Chunks with their full-precision scores, best first, equal scores by chunk: the best `k` and all that tie with the
    /// last of them.
    pub(crate) hits: Vec<(u32, f32)>,
    /// Distances computed on codes.
    pub(crate) compared: u64,
    /// Distances computed in full precision.
    pub(crate) rescored: u64,
    pub(crate) strategy: Strategy,
}

/// What a search works in; a warm one allocates nothing but the answer.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    probe: Probe,
    trail: Trail,
    nodes: Vec<u32>,
    bytes: Vec<u8>,
    row: Vec<f32>,
}

/// A graph, and what its searches work in.
#[derive(Debug)]
pub(crate) struct Walker<B> {
    pub(crate) graph: Graph<B>,
    scratches: Mutex<Vec<Scratch>>,
}

impl<B: Bytes + Sync> Walker<B> {
    pub(crate) fn new(graph: Graph<B>) -> Self {
        Self { graph, scratches: Mutex::default() }
    }

    /// Searches the graph in a scratch of its own, which the next search takes over.
    ///
    /// # Errors
    /// Those of [`Graph::search`].
    pub(crate) fn search(&self, question: &Question<'_>) -> Result<Found> {
        let pool = || self.scratches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = pool().pop().unwrap_or_default();
        let found = self.graph.search(question, &mut scratch);
        pool().push(scratch);
        found
    }
}

impl<B: Bytes + Sync> Graph<B> {
    /// The best `k` of what may answer, nearly always.
    ///
    /// # Errors
    /// Where the bytes cannot be read or are not those of a sound graph.
    pub(crate) fn search(&self, question: &Question<'_>, scratch: &mut Scratch) -> Result<Found> {
        let wanted = question.k.min(self.len());
        if wanted == 0 {
            return Ok(Found::default());
        }
        let ef = question.ef.max(wanted);
        let matching = self.matching(question);
        let share = matching as f64 / self.len() as f64;
        let (strategy, ef, cost) = if share >= PLAIN_SHARE {
            (Strategy::Plain, ef as f64 * share.powf(-PLAIN_POWER), 1)
        } else {
            (Strategy::Selective, ef as f64 * SELECTIVE_EF, 2)
        };
        if matching <= question.ef.max(wanted).saturating_mul(EXACT_PER_EF * cost) {
            return self.exact(question, scratch);
        }
        let ef = (ef as usize).max(wanted);
        self.frame.query(question.query, &mut scratch.probe);
        scratch.trail.compared = 0;
        match strategy {
            Strategy::Plain => self.plain(question, ef, scratch)?,
            Strategy::Selective | Strategy::Exact => self.selective(question, ef, scratch)?,
        }
        let saturated = scratch.trail.pool.is_saturated();
        let (found, tie) = self.ranked(question, strategy, scratch)?;
        let short = found.hits.len() < wanted.min(matching);
        if saturated || short || tie.is_some() { self.exact(question, scratch) } else { Ok(found) }
    }

    /// The best `k` of what may answer: all their codes are compared, and once more where copies of one vector are more than
    /// are looked at in full precision.
    ///
    /// # Errors
    /// Those of [`Graph::search`].
    pub(crate) fn exact(&self, question: &Question<'_>, scratch: &mut Scratch) -> Result<Found> {
        self.frame.query(question.query, &mut scratch.probe);
        let Scratch { probe, trail, .. } = scratch;
        trail.compared = 0;
        trail.pool.reset(rescored(question.k.min(self.len())));
        let mut batch = Batch::new();
        self.each_matching(question.allowed, question.dead, |node| {
            batch.push(node, self.record(node)?);
            if batch.is_full() {
                self.compare(probe, &mut batch, trail);
            }
            Ok(())
        })?;
        self.compare(probe, &mut batch, trail);
        choose(trail.pool.seen(), usize::MAX, &mut scratch.nodes, |_| Ok(true))?;
        let (found, tie) = self.ranked(question, Strategy::Exact, scratch)?;
        let Some(tie) = tie else { return Ok(found) };
        let Scratch { probe, trail, nodes, .. } = scratch;
        choose(trail.pool.seen(), usize::MAX, nodes, |seen| Ok(seen.score > tie))?;
        self.each_matching(question.allowed, question.dead, |node| {
            trail.compared += 1;
            if self.rank(probe, self.record(node)?) == tie {
                nodes.push(node);
            }
            Ok(())
        })?;
        Ok(self.ranked(question, Strategy::Exact, scratch)?.0)
    }

    /// The best `k` of what may answer and all that tie with the last of them, exactly: every vector is compared in full
    /// precision, on all cores.
    ///
    /// # Errors
    /// Those of [`Graph::search`].
    pub(crate) fn scan(&self, question: &Question<'_>) -> Result<Found> {
        let mut nodes = Vec::new();
        self.each_matching(question.allowed, question.dead, |node| {
            nodes.push(node);
            Ok(())
        })?;
        let best = || Best::new(question.k.min(self.len()));
        let part = |nodes: &[u32]| {
            let (mut best, mut row) = (best(), Vec::new());
            for &node in nodes {
                row.clear();
                floats(self.row_bytes(node)?, &mut row);
                let score = self.score_row(node, question.query, &row)?;
                if score >= best.floor() {
                    best.offer(self.chunk(node)?, score);
                }
            }
            Ok(best)
        };
        let parts = nodes.par_chunks(SCANNED_PER_TASK).map(part);
        let hits = parts.try_reduce(best, |one, other| Ok(one.join(other)))?.into_found();
        Ok(Found { hits, compared: 0, rescored: nodes.len() as u64, strategy: Strategy::Exact })
    }

    /// How many nodes may answer, at most.
    fn matching(&self, question: &Question<'_>) -> usize {
        if self.first_chunk > self.last_chunk {
            return self.len();
        }
        let chunks = self.first_chunk..=self.last_chunk;
        let matching = match question.allowed {
            Some(allowed) => allowed.range_cardinality(chunks),
            None => (self.len() as u64).saturating_sub(question.dead.range_cardinality(chunks)),
        };
        (matching as usize).min(self.len())
    }

    fn plain(&self, question: &Question<'_>, ef: usize, scratch: &mut Scratch) -> Result<()> {
        let Scratch { probe, trail, nodes, .. } = scratch;
        let entry = self.descend(probe, trail)?;
        self.walk(probe, entry, ef, trail)?;
        let unfiltered = question.allowed.is_none() && question.dead.is_empty();
        let may = |seen: &Seen| Ok(unfiltered || self.may_answer(question, seen.node)?);
        choose(trail.pool.seen(), rescored(question.k), nodes, may)
    }

    fn may_answer(&self, question: &Question<'_>, node: u32) -> Result<bool> {
        let chunk = self.chunk(node)?;
        Ok(question.allowed.is_none_or(|allowed| allowed.contains(chunk)) && !question.dead.contains(chunk))
    }

    fn selective(&self, question: &Question<'_>, ef: usize, scratch: &mut Scratch) -> Result<()> {
        let Scratch { probe, trail, nodes, .. } = scratch;
        trail.passing.reset(self.len());
        self.each_matching(question.allowed, question.dead, |node| {
            trail.passing.insert(node);
            Ok(())
        })?;
        let entry = self.descend(probe, trail)?;
        self.walk(probe, entry, SEEDS, trail)?;
        nodes.clear();
        nodes.extend(trail.pool.seen().iter().map(|seen| seen.node));
        self.walk_passing(probe, nodes, ef, trail)?;
        choose(trail.pool.seen(), rescored(question.k), nodes, |_| Ok(true))
    }

    /// The chunks of nodes with their scores in full precision, in their order; on all cores where copies of one vector make
    /// them many.
    fn scored(&self, query: &[f32], nodes: &[u32], bytes: &mut Vec<u8>, row: &mut Vec<f32>) -> Result<Vec<(u32, f32)>> {
        if nodes.len() <= SCANNED_PER_TASK {
            return nodes
                .iter()
                .map(|&node| Ok((self.chunk(node)?, self.score_of(node, query, bytes, row)?)))
                .collect();
        }
        let buffers = || (Vec::new(), Vec::new());
        let scored = nodes
            .par_iter()
            .with_min_len(SCANNED_PER_TASK / 4)
            .map_init(buffers, |(bytes, row), &node| Ok((self.chunk(node)?, self.score_of(node, query, bytes, row)?)));
        scored.collect()
    }

    /// Ranks the candidates in `scratch.nodes`, best by code first, by full precision. Where the last of them is in the answer
    /// and the pool had no room for others of its code, which may score the same, that code's rank is returned, too.
    fn ranked(
        &self,
        question: &Question<'_>,
        strategy: Strategy,
        scratch: &mut Scratch,
    ) -> Result<(Found, Option<f32>)> {
        let Scratch { trail, nodes, bytes, row, .. } = scratch;
        let mut hits = self.scored(question.query, nodes, bytes, row)?;
        let last = hits.last().map(|hit| hit.1);
        hits.sort_unstable_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        if let Some(&(_, cut)) = question.k.checked_sub(1).and_then(|last| hits.get(last)) {
            hits.truncate(hits.partition_point(|hit| hit.1 >= cut));
        }
        let is_in = last.zip(hits.last()).is_some_and(|(last, cut)| last >= cut.1);
        let of_tie = |tie| {
            let seen = trail.pool.seen().iter().rev().take_while(|seen| seen.score == tie);
            is_in && seen.map(|seen| seen.node).any(|node| nodes.last() == Some(&node))
        };
        let tie = trail.pool.tie_at_end().filter(|&tie| of_tie(tie));
        Ok((Found { hits, compared: trail.compared, rescored: nodes.len() as u64, strategy }, tie))
    }
}

/// Puts those that may answer into `nodes`, best by code first: so many, and all that tie with the last of them.
fn choose(seen: &[Seen], limit: usize, nodes: &mut Vec<u32>, may: impl Fn(&Seen) -> Result<bool>) -> Result<()> {
    nodes.clear();
    let mut last = None;
    for seen in seen {
        if nodes.len() >= limit && last != Some(seen.score) {
            break;
        }
        if may(seen)? {
            nodes.push(seen.node);
            last = Some(seen.score);
        }
    }
    Ok(())
}

fn rescored(k: usize) -> usize {
    k.saturating_mul(RESCORED_PER_K).max(RESCORED_MIN)
}
