//! How is a question answered? The recipe of the second flow: embed, retrieve, fuse, rerank, hydrate.
//!
//! Invariants: the filter takes part in retrieval, so `limit` hits come back if so many chunks match; a chunk that
//! only one leg brought gets its exact score in the other before the two are fused; equal scores are ordered by
//! document id and chunk; what a query in the query syntax does not let through is no hit in any mode; all of a query
//! takes place in one vector space.

pub(crate) mod pages;
#[cfg(feature = "server")]
pub(crate) mod sample;
mod second_look;

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use quiverdb_storage::{ChunkNumber, Nearest, RoaringBitmap, Snapshot, TextHits, TextMatches};
use serde_json::Value;

use crate::embed::{NoStatistics, WordStatistics, vocabulary_fit};
use crate::fuse::{self, Fusion};
use crate::parts::Parts;
use crate::query::second_look::SecondLook;
use crate::spaces::Space;
use crate::types::{Hit, Mode, Query, Ranks, Scores, SearchResults, Timings};
use crate::{Error, Result};

/// Chunks that each leg hands to the fusion, at least.
const CANDIDATES_MIN: usize = 100;

/// Answers one query on a snapshot.
pub(crate) fn search(parts: &Parts, snapshot: &Snapshot, query: &Query) -> Result<SearchResults> {
    let start = Instant::now();
    let space = query.space.as_deref().map_or_else(|| Ok(parts.space()), |name| parts.space_named(name))?;
    let mode = validate(space, query)?;
    let syntax = query.text_query()?;
    let words = syntax.as_ref().map_or_else(|| query.text.clone(), |syntax| Some(syntax.plain_words()));
    let (vector, query_cut) = query_vector(space, snapshot, query, words.as_deref(), mode)?;
    let question = Question { query, space, mode, words, vector };
    let embedded = Instant::now();
    let allowed = query.filter.as_ref().map(|filter| snapshot.matching_chunks(filter)).transpose()?;
    let filtered = Instant::now();

    let matches = syntax.map(|syntax| snapshot.text_matches(&syntax, allowed.as_ref())).transpose()?;
    let scope = Scope { allowed, matches };
    let mut depth = query.candidates.unwrap_or_else(|| depth(query, mode)).max(query.limit);
    let mut second_look = SecondLook::of(parts, query, question.words.as_deref())?;
    let (mut retrieving, mut ranking) = (Duration::ZERO, Duration::ZERO);
    let (ranked, degraded, plan) = loop {
        let begun = Instant::now();
        let legs = retrieve(snapshot, &question, &scope, depth)?;
        let retrieved = Instant::now();
        retrieving += retrieved - begun;
        let ranked = rank(snapshot, &question, &legs, second_look.as_mut())?;
        ranking += retrieved.elapsed();
        // Grouping folds chunks into documents: ask deeper until there are enough, or no more.
        if ranked.len() >= query.limit || !legs.may_have_more(depth) || !query.group {
            let mut left_out = degraded(space, &legs, &scope, query_cut);
            left_out.extend(second_look.as_ref().and_then(SecondLook::degraded));
            let left_out = (!left_out.is_empty()).then(|| left_out.join(". "));
            break (ranked, left_out, legs.dense.segments);
        }
        depth *= 4;
    };
    let fused = Instant::now();
    let mut hits: Vec<Hit> = ranked.into_iter().map(Candidate::into_hit).collect();
    pages::number(snapshot, &mut hits)?;

    let between = |from: Instant, to: Instant| millis(to - from);
    let reranking = second_look.map_or(Duration::ZERO, |look| look.spent());
    let end = Instant::now();
    let timings_ms = Timings {
        embed: between(start, embedded),
        filter: between(embedded, filtered),
        retrieve: millis(retrieving),
        fuse: millis(ranking.saturating_sub(reranking)),
        rerank: millis(reranking),
        hydrate: between(fused, end),
        total: between(start, end),
    };
    let plan = query.explain.then_some(plan);
    Ok(SearchResults { hits, mode, degraded, plan, timings_ms })
}

/// In milliseconds, to the microsecond: what is below is noise, and long to read.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A query, once it is known what to look for.
struct Question<'a> {
    query: &'a Query,
    /// Where its vector lies.
    space: &'a Space,
    mode: Mode,
    /// What the model reads.
    words: Option<String>,
    vector: Option<Vec<f32>>,
}

/// Which chunks may be hits.
struct Scope {
    /// Those that the filter lets through; all where `None`.
    allowed: Option<RoaringBitmap>,
    /// Of these, those that satisfy a query in the query syntax.
    matches: Option<TextMatches>,
}

impl Scope {
    fn chunks(&self) -> Option<&RoaringBitmap> {
        self.matches.as_ref().map(TextMatches::chunks).or(self.allowed.as_ref())
    }
}

/// Chunks that each leg is asked for, as long as the query does not say: more than are wanted where some are dropped or
/// change places.
fn depth(query: &Query, mode: Mode) -> usize {
    let reranked = query.rerank.as_ref().map_or(0, |rerank| rerank.depth);
    match mode {
        Mode::Hybrid => CANDIDATES_MIN.max(query.limit * 4).max(reranked),
        Mode::Dense | Mode::Text if query.group || query.mmr.is_some() => {
            CANDIDATES_MIN.max(query.limit * 4).max(reranked)
        }
        Mode::Dense | Mode::Text => query.limit.max(reranked),
    }
}

/// Refuses what cannot be answered and says which mode answers.
fn validate(space: &Space, query: &Query) -> Result<Mode> {
    query.validate()?;
    if let Some(vector) = &query.vector {
        space.validate_vector(vector, "the query")?;
    }
    if query.image.is_some() && !space.has_model() {
        let called = space.called();
        return Err(Error::invalid(format!(
            "{called} has no model that could read the query's image; ask with a vector"
        )));
    }
    let can_embed = query.vector.is_some() || space.has_model();
    // Who names a space wants it compared.
    let mode = query.mode.unwrap_or(match (&query.text, can_embed || query.space.is_some()) {
        (Some(_), true) => Mode::Hybrid,
        (Some(_), false) => Mode::Text,
        (None, _) => Mode::Dense,
    });
    let needs_text = mode != Mode::Dense && query.text.is_none();
    if needs_text {
        return Err(Error::invalid(format!(
            "mode `{}` needs words to search for; the query has a vector or an image only",
            mode.name()
        )));
    }
    if mode != Mode::Text && !can_embed {
        return Err(Error::invalid(format!(
            "mode `{}` needs a query vector of {} numbers: {} has no model to make one",
            mode.name(),
            space.settings.dims,
            space.called()
        )));
    }
    Ok(mode)
}

/// The query's vector, and whether the model read only a part of its words.
fn query_vector(
    space: &Space,
    snapshot: &Snapshot,
    query: &Query,
    words: Option<&str>,
    mode: Mode,
) -> Result<(Option<Vec<f32>>, bool)> {
    if mode == Mode::Text {
        return Ok((None, false));
    }
    if query.vector.is_some() {
        return Ok((query.vector.clone(), false));
    }
    let Some(embedder) = space.embedder()? else { return Ok((None, false)) };
    let embeddings = match (&query.image, words) {
        (Some(image), _) => embedder.embed_images(std::slice::from_ref(image))?,
        (None, Some(text)) => embedder.embed_queries(&[text], &SnapshotStatistics(snapshot))?,
        (None, None) => return Ok((None, false)),
    };
    embeddings.expect(1, embedder.spec())?;
    space
        .validate_vector(&embeddings.values, "the query's embedding")
        .map_err(|error| Error::Embedding(error.to_string()))?;
    Ok((Some(embeddings.values), embeddings.truncated > 0))
}

/// What of the query was left out, a sentence each.
fn degraded(space: &Space, legs: &Legs, scope: &Scope, query_cut: bool) -> Vec<String> {
    let mut left_out = Vec::new();
    if let (true, Some(spec)) = (query_cut, space.spec()) {
        left_out.push(format!("the vector search read the first {} tokens of the query alone", spec.max_tokens));
    }
    if let Some(text) = &legs.text {
        if text.bytes_dropped > 0 {
            left_out.push(format!("the text search left out the last {} bytes of the query", text.bytes_dropped));
        }
        if text.terms_dropped > 0 {
            left_out.push(format!("the text search left out {} words of the query", text.terms_dropped));
        }
    }
    let shorter = (!left_out.is_empty()).then(|| format!("{}; ask with a shorter one", left_out.join("; ")));
    let capped = scope.matches.as_ref().map_or(&[][..], TextMatches::words_capped);
    let longer = (!capped.is_empty())
        .then(|| format!("64 of the words that `{}` stands for were looked up; write more of it", capped.join("`, `")));
    shorter.into_iter().chain(longer).collect()
}

/// How common words are in the collection, as the snapshot sees it.
struct SnapshotStatistics<'a>(&'a Snapshot);

impl WordStatistics for SnapshotStatistics<'_> {
    fn chunks(&self) -> u64 {
        self.0.chunks()
    }

    fn chunks_with(&self, word: &str) -> Option<u64> {
        // A damaged posting list makes a word count as unknown here; the text leg then reports the damage.
        self.0.document_frequency(word).unwrap_or_else(|_| NoStatistics.chunks_with(word))
    }
}

/// The ranked lists of both legs.
struct Legs {
    dense: Nearest,
    text: Option<TextHits>,
}

impl Legs {
    fn text_hits(&self) -> &[(ChunkNumber, f32)] {
        self.text.as_ref().map_or(&[], |text| &text.hits)
    }

    /// Whether a leg was cut at `depth`, so that a deeper search may bring more.
    fn may_have_more(&self, depth: usize) -> bool {
        self.dense.hits.len() >= depth || self.text_hits().len() >= depth
    }
}

fn retrieve(snapshot: &Snapshot, question: &Question<'_>, scope: &Scope, depth: usize) -> Result<Legs> {
    let Question { query, space, mode, vector, .. } = question;
    let dense = match vector {
        Some(vector) => snapshot.nearest_with(space.index, vector, depth, scope.chunks(), query.search_effort())?,
        None => Nearest::default(),
    };
    let text = match (&query.text, &scope.matches) {
        _ if *mode == Mode::Dense => None,
        (_, Some(matches)) => Some(snapshot.best_matches(matches, depth)?),
        (Some(text), None) => Some(snapshot.search_text(text, depth, scope.chunks())?),
        (None, None) => None,
    };
    Ok(Legs { dense, text })
}

/// A chunk on its way to becoming a hit.
struct Candidate {
    chunk: ChunkNumber,
    score: f32,
    /// What the reranker gave, or, where there is one and it did not judge, the score of the first stage. Orders where scores
    /// do not differ: probabilities too near to 1, and what was not judged.
    logit: f32,
    scores: Scores,
    ranks: Ranks,
    passage: Option<quiverdb_storage::HydratedChunk>,
}

/// Fuses the legs and keeps the hits that the query asks for, hydrated.
fn rank(
    snapshot: &Snapshot,
    question: &Question<'_>,
    legs: &Legs,
    second_look: Option<&mut SecondLook<'_>>,
) -> Result<Vec<Candidate>> {
    let Question { query, space, mode, .. } = question;
    let mut candidates = join_legs(snapshot, question, legs)?;
    score(question, legs, &mut candidates)?;
    let reranked = second_look.is_some();
    if let Some(second_look) = second_look {
        second_look.judge(snapshot, &mut candidates)?;
    }
    if let Some(floor) = query.min_score {
        // A floor for judgements lets nothing through that has none.
        candidates.retain(|candidate| candidate.score >= floor && (!reranked || candidate.scores.rerank.is_some()));
    }
    candidates.sort_by(|a, b| a.before(b).then(a.chunk.cmp(&b.chunk)));
    let mut ordered = hydrate_in_order(snapshot, candidates, query)?;
    if let Some(lambda) = query.mmr {
        // A reranker's scores are probabilities already.
        let of_one = |candidate: &Candidate| match reranked {
            true => candidate.score,
            false => relevance(space, *mode, legs, candidate.score),
        };
        let relevance = ordered.iter().map(of_one).collect();
        ordered = diversify(space, snapshot, ordered, relevance, lambda, query.limit)?;
    }
    ordered.truncate(query.limit);
    Ok(ordered)
}

/// The union of the legs' chunks, each with its exact score in both.
fn join_legs(snapshot: &Snapshot, question: &Question<'_>, legs: &Legs) -> Result<Vec<Candidate>> {
    let mut ranks: HashMap<ChunkNumber, (Ranks, Option<f32>)> = HashMap::new();
    for (index, (chunk, score)) in legs.dense.hits.iter().enumerate() {
        let entry = ranks.entry(*chunk).or_default();
        entry.0.dense = Some(index + 1);
        entry.1 = Some(*score);
    }
    for (index, (chunk, _)) in legs.text_hits().iter().enumerate() {
        ranks.entry(*chunk).or_default().0.text = Some(index + 1);
    }
    if let Some(vector) = &question.vector {
        let missing: Vec<ChunkNumber> =
            ranks.iter().filter(|(_, (_, dense))| dense.is_none()).map(|(chunk, _)| *chunk).collect();
        let scores = snapshot.similarities(question.space.index, vector, &missing)?;
        for (chunk, score) in missing.into_iter().zip(scores) {
            ranks.entry(chunk).or_default().1 = Some(score);
        }
    }
    Ok(ranks
        .into_iter()
        .map(|(chunk, (ranks, dense))| {
            let text = legs.text.as_ref().map(|text| text.score(chunk));
            let scores = Scores { dense, text, ..Scores::default() };
            Candidate { chunk, score: 0.0, logit: 0.0, scores, ranks, passage: None }
        })
        .collect())
}

/// Sets each candidate's final score: its fused score in hybrid mode, else that of its leg.
fn score(question: &Question<'_>, legs: &Legs, candidates: &mut [Candidate]) -> Result<()> {
    let Question { query, space, mode, .. } = question;
    let maximum = legs.text.as_ref().map_or(0.0, |text| text.maximum);
    let fusion = query.fusion.unwrap_or_default();
    let weight = if *mode == Mode::Hybrid { dense_weight(question)? } else { 0.0 };
    for candidate in candidates {
        let Scores { dense, text, .. } = candidate.scores;
        candidate.score = match mode {
            Mode::Dense => dense.unwrap_or(0.0),
            Mode::Text => text.unwrap_or(0.0),
            Mode::Hybrid => {
                let fused = match fusion {
                    Fusion::Score { weight: chosen } => {
                        let similarity = space.settings.metric.unit_similarity(dense.unwrap_or(0.0));
                        fuse::relative_score(similarity, text.unwrap_or(0.0), maximum, chosen.unwrap_or(weight))
                    }
                    Fusion::ReciprocalRank { k } => {
                        fuse::reciprocal_rank(candidate.ranks.dense, candidate.ranks.text, k)
                    }
                };
                candidate.scores.fused = Some(fused);
                fused
            }
        };
    }
    Ok(())
}

/// The weight of the dense leg: the model's, less where the model's vocabulary does not fit the query.
fn dense_weight(question: &Question<'_>) -> Result<f32> {
    let by_words = question.query.vector.is_none() && question.query.image.is_none();
    let fit = match &question.words {
        Some(text) if by_words => {
            question.space.embedder()?.map_or(1.0, |embedder| vocabulary_fit(embedder.as_ref(), text))
        }
        Some(_) | None => 1.0,
    };
    Ok(question.space.hybrid_weight() * fit)
}

/// Reads the passages in order of score until there are enough, grouped where asked; within equal scores the order
/// is that of document id and chunk.
fn hydrate_in_order(snapshot: &Snapshot, candidates: Vec<Candidate>, query: &Query) -> Result<Vec<Candidate>> {
    // Variety is chosen from more than is returned.
    let wanted = if query.mmr.is_some() { query.limit.saturating_mul(4).max(50) } else { query.limit };
    let mut seen = HashSet::new();
    let mut ordered: Vec<Candidate> = Vec::new();
    let mut rest = candidates.into_iter().peekable();
    while ordered.len() < wanted {
        let Some(first) = rest.next() else { break };
        let mut equals = vec![first];
        while let Some(next) = rest.next_if(|next| equals[0].before(next) == Ordering::Equal) {
            equals.push(next);
        }
        for candidate in &mut equals {
            candidate.hydrate(snapshot)?;
        }
        equals.sort_by(|a, b| place_of(a).cmp(&place_of(b)));
        equals.retain(|candidate| !query.group || place_of(candidate).is_none_or(|(id, _)| seen.insert(id.clone())));
        ordered.extend(equals);
    }
    Ok(ordered)
}

fn place_of(candidate: &Candidate) -> Option<(&quiverdb_storage::DocumentId, u32)> {
    candidate.passage.as_ref().map(|passage| (&passage.document, passage.ordinal))
}

/// A score on the scale of similarities, 0..1: what is traded against variety must be measured alike.
fn relevance(space: &Space, mode: Mode, legs: &Legs, score: f32) -> f32 {
    match (mode, &legs.text) {
        (Mode::Dense, _) => space.settings.metric.unit_similarity(score),
        (Mode::Text, Some(text)) if text.maximum > 0.0 => score / text.maximum,
        (Mode::Text | Mode::Hybrid, _) => score,
    }
}

/// Picks by maximal marginal relevance over the stored vectors of the candidates.
fn diversify(
    space: &Space,
    snapshot: &Snapshot,
    candidates: Vec<Candidate>,
    relevance: Vec<f32>,
    lambda: f32,
    limit: usize,
) -> Result<Vec<Candidate>> {
    let metric = space.settings.metric;
    let similarities = |pick: usize, others: &[usize]| -> Result<Vec<f32>> {
        let vector = snapshot.vector(space.index, candidates[pick].chunk)?;
        let others: Vec<ChunkNumber> = others.iter().map(|other| candidates[*other].chunk).collect();
        let scores = snapshot.similarities(space.index, &vector, &others)?;
        Ok(scores.into_iter().map(|score| metric.unit_similarity(score)).collect())
    };
    let picked = fuse::mmr(&relevance, similarities, lambda, limit)?;
    let mut slots: Vec<Option<Candidate>> = candidates.into_iter().map(Some).collect();
    Ok(picked.into_iter().filter_map(|index| slots[index].take()).collect())
}

impl Candidate {
    /// The order of scores, best first; of equal ones what was judged stands before what was not.
    fn before(&self, other: &Self) -> Ordering {
        let was_judged = |candidate: &Self| candidate.scores.rerank.is_some();
        let by_judgement = was_judged(other).cmp(&was_judged(self));
        other.score.total_cmp(&self.score).then(by_judgement).then(other.logit.total_cmp(&self.logit))
    }

    /// Reads its passage, once.
    fn hydrate(&mut self, snapshot: &Snapshot) -> Result<()> {
        if self.passage.is_none() {
            self.passage = Some(snapshot.hydrate(self.chunk)?);
        }
        Ok(())
    }

    fn into_hit(self) -> Hit {
        let Self { chunk: _, score, logit: _, scores, ranks, passage } = self;
        let passage = passage.expect("candidates are hydrated before they become hits");
        Hit {
            document: passage.document,
            chunk: passage.ordinal,
            start: passage.start,
            end: passage.end,
            text: passage.text,
            title: passage.title,
            heading: passage.heading,
            page: None,
            metadata: Value::Object(passage.metadata),
            score,
            scores,
            ranks,
        }
    }
}
