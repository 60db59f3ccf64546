//! What does a reranker make of the best candidates?
//!
//! Invariants: the first candidates are judged, as deep as the query asks; what was judged stands before what was not, which
//! keeps its order and has no probability: its score is 0, and only its scores of the first stage tell of it; a chunk is
//! judged once for a query; what there was no time for is told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quiverdb_storage::{ChunkNumber, Snapshot, index_text};

use super::Candidate;
use crate::parts::Parts;
use crate::rerank::{Judgement, Rerank, Reranker, rerank};
use crate::types::Query;
use crate::{Error, Result};

/// A reranker at work on one query.
pub(super) struct SecondLook<'a> {
    model: Arc<dyn Reranker>,
    rerank: &'a Rerank,
    words: &'a str,
    /// Never fewer are judged than hits are wanted.
    depth: usize,
    judged: HashMap<ChunkNumber, Judgement>,
    /// Candidates that there was no time for.
    late: usize,
    spent: Duration,
}

impl<'a> SecondLook<'a> {
    /// Loads the model where the query asks for one.
    pub(super) fn of(parts: &Parts, query: &'a Query, words: Option<&'a str>) -> Result<Option<Self>> {
        let Some(rerank) = &query.rerank else { return Ok(None) };
        let words = words.filter(|words| !words.trim().is_empty());
        let words = words.ok_or_else(|| Error::invalid("reranking needs words to compare passages with"))?;
        let model = parts.models.reranker(rerank)?;
        let depth = rerank.depth.max(query.limit);
        Ok(Some(Self { model, rerank, words, depth, judged: HashMap::new(), late: 0, spent: Duration::ZERO }))
    }

    /// The time that reading passages and judging them took.
    pub(super) fn spent(&self) -> Duration {
        self.spent
    }

    /// What was not judged or not read in full, in words.
    pub(super) fn degraded(&self) -> Option<String> {
        let cut = self.judged.values().filter(|judgement| judgement.truncated).count();
        let mut sentences = Vec::new();
        if self.late > 0 {
            let of = self.judged.len() + self.late;
            let judged = self.judged.len();
            sentences.push(format!("the reranker judged the first {judged} of {of} candidates in its time"));
        }
        if cut > 0 {
            let limit = self.model.spec().max_tokens;
            sentences.push(format!("the reranker read the first {limit} tokens of {cut} pairs of query and passage"));
        }
        (!sentences.is_empty()).then(|| sentences.join("; "))
    }

    /// Judges the best of `candidates`, whose scores are those of the first stage, and gives all of them new scores.
    pub(super) fn judge(&mut self, snapshot: &Snapshot, candidates: &mut [Candidate]) -> Result<()> {
        let start = Instant::now();
        candidates.sort_by(|a, b| a.before(b).then(a.chunk.cmp(&b.chunk)));
        let depth = self.depth.min(candidates.len());
        let (first, rest) = candidates.split_at_mut(depth);
        let mut waiting: Vec<&mut Candidate> =
            first.iter_mut().filter(|candidate| !self.judged.contains_key(&candidate.chunk)).collect();
        waiting.iter_mut().try_for_each(|candidate| candidate.hydrate(snapshot))?;
        let texts: Vec<String> = waiting.iter().map(|candidate| text_of(candidate)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let left = self.rerank.budget.map(|budget| budget.saturating_sub(self.spent));
        let judgements = rerank(self.model.as_ref(), self.words, &texts, left)?;
        self.late = texts.len() - judgements.len();
        let chunks = waiting.iter().map(|candidate| candidate.chunk);
        self.judged.extend(chunks.zip(judgements));
        self.score(first.iter_mut().chain(rest));
        self.spent += start.elapsed();
        Ok(())
    }

    /// Gives each judged candidate its score. The others' scores are of another kind: they order these among themselves.
    fn score<'c>(&self, candidates: impl Iterator<Item = &'c mut Candidate>) {
        for candidate in candidates {
            if let Some(judgement) = self.judged.get(&candidate.chunk) {
                (candidate.score, candidate.logit) = (judgement.score, judgement.logit);
                candidate.scores.rerank = Some(judgement.score);
            } else {
                (candidate.score, candidate.logit) = (0.0, candidate.score);
            }
        }
    }
}

/// What the reranker reads: the passage below its title and headings, as both legs saw it.
fn text_of(candidate: &Candidate) -> String {
    candidate
        .passage
        .as_ref()
        .map_or_else(String::new, |passage| index_text(passage.title.as_deref(), &passage.heading, &passage.text))
}
