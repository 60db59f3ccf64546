//! Which points are nearest? Queries by vector, text and point, their fusion, and groups.
//!
//! Scores are Qdrant's: cosine and dot product as they are, larger first; of Euclidean spaces the distance, smaller first.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;

use quiverdb_storage::{DocumentId, EF_MAX, Metric};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::condition::Filter;
use super::path::Path;
use super::point::{Input, View, as_compared, payload};
use super::settle::no_point;
use super::shape::{DEFAULT, Shape, has_model};
use super::variety::{self, Candidate};
use super::write::validate;
use super::{expect_waiting, read, scope, unsupported};
use crate::embed::NoStatistics;
use crate::server::app::{Answer, App};
use crate::server::failure::Failure;
use crate::types::{LIMIT_MAX, Mode, Query, SpaceStats};

/// Prefetches that one query has at most.
const PREFETCHES_MAX: usize = 64;
/// The points that all queries of a batch ask for together, in times of the limit of one.
const BATCH_HITS: usize = 100;

/// A query, a prefetch, or what groups are made of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    prefetch: Option<Value>,
    query: Option<Value>,
    using: Option<String>,
    filter: Option<Value>,
    params: Option<Parameters>,
    score_threshold: Option<f32>,
    limit: Option<usize>,
    lookup_from: Option<Value>,
    shard_key: Option<Value>,
}

/// How hard to search. How a graph or its codes are used is ours to know.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Parameters {
    hnsw_ef: Option<usize>,
    exact: Option<bool>,
    #[serde(rename = "quantization")]
    _quantization: Option<Value>,
    #[serde(rename = "acorn")]
    _acorn: Option<Value>,
    indexed_only: Option<bool>,
    idf: Option<Value>,
}

/// What is asked for, once it is read.
struct Plan {
    kind: Kind,
    prefetches: Vec<Plan>,
    using: Option<String>,
    filter: Option<Filter>,
    params: Parameters,
    threshold: Option<f32>,
    limit: usize,
}

enum Kind {
    /// By id, without a score.
    All,
    Nearest(Input),
    /// The nearest, and not all alike.
    Varied {
        input: Input,
        diversity: f64,
        candidates: Option<usize>,
    },
    Recommend {
        positive: Vec<Input>,
        negative: Vec<Input>,
    },
    ReciprocalRank {
        k: f64,
        weights: Option<Vec<f64>>,
    },
    /// By the distribution of the scores.
    Distribution,
}

/// A point with its score, and of a text its passage.
#[derive(Clone)]
struct Ranked {
    id: DocumentId,
    score: f64,
    passage: Option<(u32, String)>,
}

struct Engine<'a> {
    app: &'a App,
    shape: Shape,
    cancel: &'a AtomicBool,
}

/// One query with what is shown of its hits.
struct Search {
    plan: Plan,
    view: View,
    offset: usize,
}

/// `POST .../points/query`.
pub(super) fn query(app: &App, name: &str, body: Map<String, Value>, cancel: &AtomicBool) -> Answer<Value> {
    let search = Search::parse(body)?;
    Engine { app, shape: Shape::of(app, name)?, cancel }.answer(&search)
}

/// `POST .../points/query/batch`. All queries are answered from one snapshot.
pub(super) fn batch(app: &App, name: &str, body: Map<String, Value>, cancel: &AtomicBool) -> Answer<Value> {
    let mut body = body;
    let Some(Value::Array(searches)) = body.remove("searches") else {
        return Err(Failure::invalid("`searches` is a list of queries"));
    };
    if let Some(other) = body.keys().next() {
        return Err(Failure::invalid(format!("a batch has `searches`; got `{other}`")));
    }
    let limits = &app.settings.limits;
    if searches.len() > limits.batch {
        return Err(Failure::invalid(format!("{} queries; limits.batch is {}", searches.len(), limits.batch)));
    }
    let one = |search: Value| {
        let Value::Object(body) = search else { return Err(Failure::invalid("a query is an object")) };
        Search::parse(body)
    };
    let searches = searches.into_iter().map(one).collect::<Answer<Vec<_>>>()?;
    let engine = Engine { app, shape: Shape::of(app, name)?, cancel };
    let there = usize::try_from(engine.shape.snapshot.count()).unwrap_or(usize::MAX);
    let wanted = |search: &Search| search.plan.wanted(there).saturating_add(search.offset.min(there));
    let hits = searches.iter().map(wanted).fold(0, usize::saturating_add);
    let hits_max = limits.hits.saturating_mul(BATCH_HITS);
    if hits > hits_max {
        return Err(Failure::invalid(format!(
            "searches: {hits} points are asked for, prefetches among them, and one answer is made of {hits_max} (limits.hits); \
             ask in several batches"
        )));
    }
    Ok(Value::Array(searches.iter().map(|search| engine.answer(search)).collect::<Answer<_>>()?))
}

/// `POST .../points/query/groups`: the best points of each value of a key, the groups in order of their best.
pub(super) fn groups(app: &App, name: &str, body: Map<String, Value>, cancel: &AtomicBool) -> Answer<Value> {
    let mut body = body;
    unsupported(&[("with_lookup", &body.remove("with_lookup"))])?;
    let path = Path::parse(body.remove("group_by").as_ref().and_then(Value::as_str).unwrap_or_default())?;
    let size = body.remove("group_size").filter(|size| !size.is_null()).map_or(Some(3), |size| size.as_u64());
    let size = size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
    let size = size.ok_or_else(|| Failure::invalid("group_size is 1 or more"))?;
    let view = view(&mut body)?;
    body.entry("limit").or_insert(json!(3));
    let plan = Plan::parse(Value::Object(body), &mut 0)?;
    let engine = Engine { app, shape: Shape::of(app, name)?, cancel };
    let asked = engine.bounded(plan.limit.saturating_mul(size))?;
    let mut want = asked.saturating_mul(4).clamp(1, LIMIT_MAX);
    let (groups, ranked) = loop {
        let ranked = engine.run(&plan, want)?;
        let groups = engine.grouped(&path, &ranked, plan.limit, size)?;
        let is_full = groups.len() >= plan.limit && groups.iter().all(|(_, members)| members.len() >= size);
        // Groups that the nearest points do not fill are answered as they are, as Qdrant does.
        if is_full || ranked.len() < want || want == LIMIT_MAX {
            break (groups, ranked);
        }
        want = want.saturating_mul(4).min(LIMIT_MAX);
    };
    let shown = groups.into_iter().map(|(id, members)| {
        let hits = members.into_iter().map(|place| engine.show(&view, &ranked[place])).collect::<Answer<Vec<_>>>()?;
        Ok(json!({"id": id, "hits": hits}))
    });
    Ok(json!({"groups": shown.collect::<Answer<Vec<_>>>()?}))
}

fn view(body: &mut Map<String, Value>) -> Answer<View> {
    let (payload, vector) = (body.remove("with_payload"), body.remove("with_vector"));
    View::parse(payload.as_ref(), false, vector.as_ref())
}

impl Search {
    fn parse(mut body: Map<String, Value>) -> Answer<Self> {
        let offset = body.remove("offset").filter(|offset| !offset.is_null());
        let offset = offset.map_or(Some(0), |offset| offset.as_u64().and_then(|offset| usize::try_from(offset).ok()));
        let offset = offset.ok_or_else(|| Failure::invalid("offset is a whole number"))?;
        let view = view(&mut body)?;
        Ok(Self { plan: Plan::parse(Value::Object(body), &mut 0)?, view, offset })
    }
}

impl Plan {
    /// The points that it and its prefetches ask for, of so many.
    fn wanted(&self, there: usize) -> usize {
        let prefetched = self.prefetches.iter().map(|plan| plan.wanted(there));
        prefetched.fold(self.limit.min(there), usize::saturating_add)
    }

    fn parse(value: Value, count: &mut usize) -> Answer<Self> {
        *count += 1;
        if *count > PREFETCHES_MAX {
            return Err(Failure::invalid(format!("a query has {PREFETCHES_MAX} prefetches at most")));
        }
        let ask: Ask =
            serde_json::from_value(value).map_err(|error| Failure::invalid(format!("the query: {error}")))?;
        let Ask { prefetch, query, using, filter, params, score_threshold, limit, lookup_from, shard_key } = ask;
        unsupported(&[("lookup_from", &lookup_from), ("shard_key", &shard_key)])?;
        let params = params.unwrap_or_default();
        unsupported(&[("params.idf", &params.idf)])?;
        if params.indexed_only == Some(true) {
            return Err(Failure::invalid("`params.indexed_only` is not supported here: every point is found"));
        }
        let prefetches = match prefetch.filter(|prefetch| !prefetch.is_null()) {
            None => Vec::new(),
            Some(Value::Array(several)) => {
                several.into_iter().map(|one| Self::parse(one, count)).collect::<Answer<_>>()?
            }
            Some(one) => vec![Self::parse(one, count)?],
        };
        let kind = Kind::parse(query.filter(|query| !query.is_null()))?;
        let limit = limit.unwrap_or(10);
        if limit == 0 {
            return Err(Failure::invalid("limit must be 1 or more"));
        }
        let filter = read::filter(filter.as_ref())?;
        Ok(Self { kind, prefetches, using, filter, params, threshold: score_threshold, limit })
    }
}

impl Kind {
    fn parse(query: Option<Value>) -> Answer<Self> {
        let Some(query) = query else { return Ok(Self::All) };
        let Some(object) = query.as_object() else { return Ok(Self::Nearest(Input::parse(&query)?)) };
        let given: Vec<&str> =
            object.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.as_str()).collect();
        match given.as_slice() {
            ["nearest"] => Ok(Self::Nearest(Input::parse(&query["nearest"])?)),
            ["mmr", "nearest"] | ["nearest", "mmr"] => Self::varied(&query["nearest"], &query["mmr"]),
            ["recommend"] => Self::recommend(&query["recommend"]),
            ["fusion"] if query["fusion"] == "rrf" => Ok(Self::ReciprocalRank { k: 2.0, weights: None }),
            ["fusion"] if query["fusion"] == "dbsf" => Ok(Self::Distribution),
            ["rrf"] => Self::reciprocal_rank(&query["rrf"]),
            keys if keys.contains(&"text") => Ok(Self::Nearest(Input::parse(&query)?)),
            keys => Err(Failure::invalid(format!(
                "a query with `{}` is not supported here; there are a vector, a point id, {{text, model}}, nearest, recommend \
                 and fusion",
                keys.join("`, `")
            ))),
        }
    }

    fn varied(nearest: &Value, mmr: &Value) -> Answer<Self> {
        let object = mmr.as_object().ok_or_else(|| Failure::invalid("mmr is an object"))?;
        if let Some(other) = object.keys().find(|key| !["diversity", "candidates_limit"].contains(&key.as_str())) {
            return Err(Failure::invalid(format!("mmr has diversity and candidates_limit; got `{other}`")));
        }
        let diversity = if mmr["diversity"].is_null() { Some(0.5) } else { mmr["diversity"].as_f64() };
        let diversity = diversity.filter(|diversity| (0.0..=1.0).contains(diversity));
        let diversity = diversity.ok_or_else(|| Failure::invalid("mmr: diversity lies between 0 and 1"))?;
        let candidates = mmr["candidates_limit"].as_u64().and_then(|limit| usize::try_from(limit).ok());
        if candidates.is_none_or(|limit| limit == 0) && !mmr["candidates_limit"].is_null() {
            return Err(Failure::invalid("mmr: candidates_limit is 1 or more"));
        }
        Ok(Self::Varied { input: Input::parse(nearest)?, diversity, candidates })
    }

    fn recommend(value: &Value) -> Answer<Self> {
        let object = value.as_object().cloned().unwrap_or_default();
        if let Some(other) = object.keys().find(|key| !["positive", "negative", "strategy"].contains(&key.as_str())) {
            return Err(Failure::invalid(format!("recommend has positive, negative and strategy; got `{other}`")));
        }
        if !value["strategy"].is_null() && value["strategy"] != "average_vector" {
            let message = format!("the strategy {} is not supported here; there is average_vector", value["strategy"]);
            return Err(Failure::invalid(message));
        }
        let all = |value: &Value| match value.as_array() {
            Some(values) => values.iter().map(Input::parse).collect(),
            None => Ok(Vec::new()),
        };
        let (positive, negative) = (all(&value["positive"])?, all(&value["negative"])?);
        if positive.is_empty() {
            return Err(Failure::invalid("recommend needs at least one positive example"));
        }
        Ok(Self::Recommend { positive, negative })
    }

    fn reciprocal_rank(value: &Value) -> Answer<Self> {
        let object = value.as_object().ok_or_else(|| Failure::invalid("rrf is an object"))?;
        if let Some(other) = object.keys().find(|key| !["k", "weights"].contains(&key.as_str())) {
            return Err(Failure::invalid(format!("rrf has k and weights; got `{other}`")));
        }
        let k = if value["k"].is_null() { Some(2.0) } else { value["k"].as_f64().filter(|k| *k >= 1.0) };
        let k = k.ok_or_else(|| Failure::invalid("rrf: k is 1 or more"))?;
        let refused = || Failure::invalid("rrf: weights are numbers of 0 or more");
        let weight = |weight: &Value| weight.as_f64().filter(|weight| *weight >= 0.0).ok_or_else(refused);
        let weights = value["weights"].as_array().map(|weights| weights.iter().map(weight).collect::<Answer<_>>());
        Ok(Self::ReciprocalRank { k, weights: weights.transpose()? })
    }
}

impl Engine<'_> {
    fn answer(&self, search: &Search) -> Answer<Value> {
        let Search { plan, view, offset } = search;
        let want = self.bounded(plan.limit.saturating_add(*offset))?;
        let ranked = self.run(plan, want)?;
        let shown = ranked.into_iter().skip(*offset).take(plan.limit).map(|ranked| self.show(view, &ranked));
        Ok(json!({"points": shown.collect::<Answer<Vec<_>>>()?}))
    }

    /// So many hits as are wanted, or all where there are fewer.
    fn bounded(&self, want: usize) -> Answer<usize> {
        let most = self.app.settings.limits.hits.min(LIMIT_MAX);
        match want <= most || self.shape.snapshot.count() <= most as u64 {
            true => Ok(want.min(most)),
            false => Err(read::too_many(want, most)),
        }
    }

    /// The best points of a query, so many at most.
    fn run(&self, plan: &Plan, want: usize) -> Answer<Vec<Ranked>> {
        expect_waiting(self.cancel)?;
        let fetched = plan.prefetches.iter().map(|plan| self.run(plan, self.bounded(plan.limit)?));
        let fetched = fetched.collect::<Answer<Vec<_>>>()?;
        let mut ranked = match &plan.kind {
            Kind::All if fetched.is_empty() => self.all(plan, want)?,
            Kind::All => {
                return Err(Failure::invalid("a query with a prefetch needs a `query` that orders what it brought"));
            }
            Kind::Nearest(input) => self.nearest(plan, &[input], &[], fetched, want)?,
            Kind::Varied { input, diversity, candidates } => {
                let candidates = self.bounded(candidates.unwrap_or(plan.limit))?;
                let ranked = self.nearest(plan, &[input], &[], fetched, candidates)?;
                self.varied(plan, ranked, *diversity, want)?
            }
            Kind::Recommend { positive, negative } => {
                self.nearest(plan, &all_of(positive), &all_of(negative), fetched, want)?
            }
            Kind::ReciprocalRank { .. } | Kind::Distribution if plan.prefetches.is_empty() => {
                return Err(Failure::invalid("a fusion needs a prefetch"));
            }
            Kind::ReciprocalRank { k, weights } => reciprocal_rank(fetched, *k, weights.as_deref())?,
            Kind::Distribution => {
                self.expect_similarities(plan)?;
                distribution(fetched)
            }
        };
        if let Kind::ReciprocalRank { .. } | Kind::Distribution = plan.kind {
            ranked = self.filtered(plan, ranked)?;
            ranked.retain(|one| plan.threshold.is_none_or(|floor| one.score >= f64::from(floor)));
        }
        ranked.truncate(want);
        Ok(ranked)
    }

    /// Of the nearest so many that are not all alike.
    fn varied(&self, plan: &Plan, ranked: Vec<Ranked>, diversity: f64, want: usize) -> Answer<Vec<Ranked>> {
        let (place, space) = self.shape.space(plan.using.as_deref())?;
        let candidate = |one: &Ranked| {
            expect_waiting(self.cancel)?;
            let chunk = one.passage.as_ref().map_or(0, |(chunk, _)| *chunk);
            let vectors = self.shape.snapshot.chunk_vectors(&one.id, chunk)?.ok_or_else(|| no_point(&one.id))?;
            let relevance = if space.metric == Metric::L2 { -one.score.powi(2) } else { one.score };
            Ok(Candidate { relevance, vector: as_compared(space.metric, &vectors[place]) })
        };
        let candidates = ranked.iter().map(candidate).collect::<Answer<Vec<_>>>()?;
        let chosen = variety::chosen(space.metric, &candidates, diversity, want);
        Ok(chosen.into_iter().map(|place| ranked[place].clone()).collect())
    }

    fn filtered(&self, plan: &Plan, ranked: Vec<Ranked>) -> Answer<Vec<Ranked>> {
        let Some(filter) = &plan.filter else { return Ok(ranked) };
        let mut kept = Vec::new();
        for one in ranked {
            expect_waiting(self.cancel)?;
            let Some(stored) = self.shape.snapshot.stored(&one.id)? else { continue };
            let vectors = &self.shape.vectors;
            if filter.holds(&super::condition::Subject { id: Some(&one.id), payload: &stored.metadata, vectors }) {
                kept.push(one);
            }
        }
        Ok(kept)
    }

    /// Distances fall where similarities rise, so their distributions cannot be added.
    fn expect_similarities(&self, plan: &Plan) -> Answer<()> {
        for plan in &plan.prefetches {
            let (_, space) = self.shape.space(plan.using.as_deref())?;
            if space.metric == Metric::L2 {
                return Err(Failure::invalid("the fusion dbsf of Euclidean distances is not supported here; use rrf"));
            }
        }
        Ok(())
    }

    fn all(&self, plan: &Plan, want: usize) -> Answer<Vec<Ranked>> {
        let (documents, _) = read::page(&self.shape, plan.filter.as_ref(), None, want, self.cancel)?;
        Ok(documents.into_iter().map(|stored| Ranked { id: stored.id, score: 0.0, passage: None }).collect())
    }

    fn nearest(
        &self,
        plan: &Plan,
        positive: &[&Input],
        negative: &[&Input],
        fetched: Vec<Vec<Ranked>>,
        want: usize,
    ) -> Answer<Vec<Ranked>> {
        let (place, space) = self.shape.space(plan.using.as_deref())?;
        let base = self.base(space, place, positive, negative)?;
        let point = |input: &&Input| match input {
            Input::Point(id) => Some(id.clone()),
            Input::Vector(_) | Input::Text { .. } => None,
        };
        let without: Vec<DocumentId> = positive.iter().chain(negative).filter_map(point).collect();
        let within = (!plan.prefetches.is_empty()).then(|| {
            let ids: HashSet<DocumentId> = fetched.into_iter().flatten().map(|one| one.id).collect();
            ids.into_iter().collect()
        });
        let filters = scope::filters(&self.shape.looked_at(self.cancel), plan.filter.as_ref(), within, &without)?;
        let mut ranked = Vec::new();
        for filter in filters {
            expect_waiting(self.cancel)?;
            let mut query = base.clone().limit(want).mode(Mode::Dense).group(self.shape.has_texts());
            if let Some(filter) = filter {
                query = query.filter(filter);
            }
            if space.name != DEFAULT {
                query = query.space(&space.name);
            }
            if plan.params.exact == Some(true) {
                query = query.exact();
            } else if let Some(ef) = plan.params.hnsw_ef {
                query = query.ef(ef.clamp(1, EF_MAX));
            }
            let hits = self.shape.snapshot.search(query)?.hits;
            ranked.extend(hits.into_iter().map(|hit| {
                let score = if space.metric == Metric::L2 { -f64::from(hit.score) } else { f64::from(hit.score) };
                Ranked { id: hit.document, score, passage: Some((hit.chunk, hit.text)) }
            }));
        }
        let smaller_first = space.metric == Metric::L2;
        ranked.sort_by(|a, b| {
            let order = if smaller_first { a.score.total_cmp(&b.score) } else { b.score.total_cmp(&a.score) };
            order.then_with(|| a.id.cmp(&b.id))
        });
        let passes = |score: f64, bound: f64| if smaller_first { score <= bound } else { score >= bound };
        ranked.retain(|one| plan.threshold.is_none_or(|bound| passes(one.score, f64::from(bound))));
        Ok(ranked)
    }

    /// The query of one example, or of the average of several: what is liked, and away from what is not.
    fn base(&self, space: &SpaceStats, place: usize, positive: &[&Input], negative: &[&Input]) -> Answer<Query> {
        // The space's own model weighs words by how common they are here.
        if let ([Input::Text { text, model }], []) = (positive, negative)
            && has_model(space)
            && space.model == *model
        {
            return Ok(Query::text(text));
        }
        if let ([Input::Vector(vector)], []) = (positive, negative) {
            validate(&self.shape, if space.name == DEFAULT { "" } else { &space.name }, vector)?;
            return Ok(Query::vector(vector.clone()));
        }
        let liked = self.average(space, place, positive)?;
        if negative.is_empty() {
            return Ok(Query::vector(liked));
        }
        let disliked = self.average(space, place, negative)?;
        Ok(Query::vector(liked.iter().zip(&disliked).map(|(liked, disliked)| liked + liked - disliked).collect()))
    }

    fn average(&self, space: &SpaceStats, place: usize, inputs: &[&Input]) -> Answer<Vec<f32>> {
        let mut sum = vec![0.0_f64; space.dims];
        for input in inputs {
            let vector = self.resolved(space, place, input)?;
            sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += f64::from(value));
        }
        Ok(sum.into_iter().map(|sum| (sum / inputs.len() as f64) as f32).collect())
    }

    fn resolved(&self, space: &SpaceStats, place: usize, input: &Input) -> Answer<Vec<f32>> {
        let vector = match input {
            Input::Vector(vector) => vector.clone(),
            Input::Text { text, model } => {
                self.app.embedder(model)?.embed_queries(&[text.as_str()], &NoStatistics)?.values
            }
            Input::Point(id) => {
                let vectors = self.shape.snapshot.chunk_vectors(id, 0)?.ok_or_else(|| no_point(id))?;
                vectors.into_iter().nth(place).unwrap_or_default()
            }
        };
        validate(&self.shape, if space.name == DEFAULT { "" } else { &space.name }, &vector)?;
        Ok(as_compared(space.metric, &vector))
    }

    /// The values of a key with the places of their points, in order of the best.
    fn grouped(&self, path: &Path, ranked: &[Ranked], limit: usize, size: usize) -> Answer<Vec<(Value, Vec<usize>)>> {
        let mut groups: Vec<(Value, Vec<usize>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (rank, one) in ranked.iter().enumerate() {
            expect_waiting(self.cancel)?;
            let Some(stored) = self.shape.snapshot.stored(&one.id)? else { continue };
            let payload = payload(&self.shape, stored, None);
            let values = path.flat(&payload);
            let names = values.into_iter().filter(|value| value.is_string() || value.is_i64() || value.is_u64());
            let mut seen = HashSet::new();
            for value in names.filter(|value| seen.insert(value.to_string())) {
                let place = *places.entry(value.to_string()).or_insert(groups.len());
                if place == groups.len() {
                    groups.push((value.clone(), Vec::new()));
                }
                if groups[place].1.len() < size {
                    groups[place].1.push(rank);
                }
            }
        }
        groups.truncate(limit);
        Ok(groups)
    }

    fn show(&self, view: &View, ranked: &Ranked) -> Answer<Value> {
        expect_waiting(self.cancel)?;
        let stored = self.shape.snapshot.stored(&ranked.id)?.ok_or_else(|| no_point(&ranked.id))?;
        let passage = ranked.passage.as_ref().map(|(chunk, text)| (*chunk, text.as_str()));
        let mut point = view.show(&self.shape, stored, passage)?;
        point["version"] = json!(0);
        point["score"] = json!(ranked.score);
        Ok(point)
    }
}

fn all_of(inputs: &[Input]) -> Vec<&Input> {
    inputs.iter().collect()
}

/// Reciprocal ranks as Qdrant counts them: `1 / (rank / weight + k - 1)`, ranks from 1.
fn reciprocal_rank(fetched: Vec<Vec<Ranked>>, k: f64, weights: Option<&[f64]>) -> Answer<Vec<Ranked>> {
    if let Some(weights) = weights.filter(|weights| weights.len() != fetched.len()) {
        return Err(Failure::invalid(format!("rrf has {} weights for {} prefetches", weights.len(), fetched.len())));
    }
    let lists = fetched.into_iter().enumerate().map(|(list, mut ranked)| {
        let weight = weights.map_or(1.0, |weights| weights[list]);
        for (place, one) in ranked.iter_mut().enumerate() {
            one.score = if weight > 0.0 { 1.0 / ((place as f64 + 1.0) / weight + k - 1.0) } else { 0.0 };
        }
        ranked
    });
    Ok(added(lists.collect()))
}

/// Each list's scores within three standard deviations around their mean become 0 to 1.
fn distribution(fetched: Vec<Vec<Ranked>>) -> Vec<Ranked> {
    let normalized = |mut ranked: Vec<Ranked>| {
        let count = ranked.len() as f64;
        let mean = ranked.iter().map(|one| one.score).sum::<f64>() / count;
        let variance = ranked.iter().map(|one| (one.score - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let deviation = variance.sqrt();
        for one in &mut ranked {
            one.score = if deviation > 0.0 { (one.score - mean + 3.0 * deviation) / (6.0 * deviation) } else { 0.5 };
        }
        ranked
    };
    added(fetched.into_iter().map(normalized).collect())
}

/// The points of several lists with the sums of their scores, largest first, equal ones as they came.
fn added(lists: Vec<Vec<Ranked>>) -> Vec<Ranked> {
    let mut places: HashMap<DocumentId, usize> = HashMap::new();
    let mut all: Vec<Ranked> = Vec::new();
    for one in lists.into_iter().flatten() {
        match places.get(&one.id) {
            Some(place) => all[*place].score += one.score,
            None => {
                places.insert(one.id.clone(), all.len());
                all.push(one);
            }
        }
    }
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    all
}
