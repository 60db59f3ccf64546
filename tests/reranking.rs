//! What does a reranker change in a search, and what when it fails or runs out of time?

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use quiverdb::models::LoadState;
use quiverdb::rerank::{DEPTH_MAX, Judgement, Rerank, Reranker, RerankerSpec};
use quiverdb::{Collection, Database, Document, Error, Mode, Query};

/// Prefers the passage with the largest number in it, and counts what it is asked.
struct ByNumber {
    spec: RerankerSpec,
    judged: AtomicUsize,
}

impl ByNumber {
    fn shared() -> Arc<Self> {
        Arc::new(Self { spec: RerankerSpec::new("by-number"), judged: AtomicUsize::new(0) })
    }
}

impl Reranker for ByNumber {
    fn spec(&self) -> &RerankerSpec {
        &self.spec
    }

    fn judge(&self, query: &str, passages: &[&str]) -> quiverdb::Result<Vec<Judgement>> {
        assert_eq!(query, "river boats");
        self.judged.fetch_add(passages.len(), Ordering::Relaxed);
        let number = |passage: &&str| {
            let digits: String = passage.chars().filter(char::is_ascii_digit).collect();
            Judgement::of_logit(digits.parse().unwrap_or(-100.0))
        };
        Ok(passages.iter().map(number).collect())
    }
}

/// A reranker that fails.
struct Broken(RerankerSpec);

impl Reranker for Broken {
    fn spec(&self) -> &RerankerSpec {
        &self.0
    }

    fn judge(&self, _query: &str, _passages: &[&str]) -> quiverdb::Result<Vec<Judgement>> {
        Err(Error::Embedding("out of order".into()))
    }
}

/// Forty passages about river boats, the first ones the most.
fn boats() -> Result<Collection> {
    let boats = Database::in_memory()?.collection("boats")?;
    let text = |number: usize| format!("{}number {number}", "river boats ".repeat(40 - number));
    boats.add_many((0..40).map(|number| Document::new(i64::try_from(number).unwrap(), text(number))))?;
    Ok(boats)
}

/// A document of hundreds of chunks about river boats, and one of one.
fn long_and_short() -> Result<Collection> {
    let many = Database::in_memory()?.collection_with("c", quiverdb::CollectionConfig::new().chunk_tokens(8))?;
    let text: String = (0..600).map(|number| format!("The river boats of pier {number}. ")).collect();
    many.add(Document::new("long", text))?;
    many.add(Document::new("short", "A word about river boats 5."))?;
    Ok(many)
}

fn query() -> Query {
    Query::text("river boats").mode(Mode::Text)
}

#[test]
fn hits_stand_in_the_order_of_the_judgement_with_all_scores() -> Result<()> {
    let (boats, model) = (boats()?, ByNumber::shared());
    let results = boats.search(query().limit(3).rerank(model.clone() as Arc<dyn Reranker>))?;
    let ids: Vec<String> = results.hits.iter().map(|hit| hit.document.to_string()).collect();
    assert_eq!(ids, ["39", "38", "37"]);
    for hit in &results.hits {
        assert_eq!(hit.scores.rerank, Some(hit.score));
        assert!(hit.scores.text.is_some() && hit.ranks.text.is_some());
    }
    assert_eq!(model.judged.load(Ordering::Relaxed), 40);
    assert!(results.timings_ms.rerank > 0.0);
    assert_eq!(results.degraded, None);
    Ok(())
}

#[test]
fn only_the_first_candidates_are_judged_and_the_others_follow_them() -> Result<()> {
    let (boats, model) = (boats()?, ByNumber::shared());
    let plain: Vec<_> = boats.search(query().limit(40))?.hits.into_iter().map(|hit| hit.document).collect();
    let rerank = Rerank::with(model.clone()).depth(5);
    let reranked = boats.search(query().limit(4).rerank(rerank))?.hits;
    assert_eq!(model.judged.load(Ordering::Relaxed), 5);
    let mut best: Vec<_> = plain[..5].to_vec();
    best.sort_by_key(|id| std::cmp::Reverse(id.to_string().parse::<u32>().unwrap()));
    assert_eq!(reranked.iter().map(|hit| hit.document.clone()).collect::<Vec<_>>(), best[..4]);
    Ok(())
}

#[test]
fn what_there_was_no_time_for_follows_in_its_order_and_is_told() -> Result<()> {
    let (boats, model) = (boats()?, ByNumber::shared());
    let plain: Vec<_> = boats.search(query().limit(40))?.hits.into_iter().map(|hit| hit.document).collect();
    let rerank = Rerank::with(model.clone()).depth(40).budget(Duration::ZERO);
    let results = boats.search(query().limit(40).rerank(rerank))?;
    let judged = model.judged.load(Ordering::Relaxed);
    assert!((1..40).contains(&judged), "{judged}");
    let degraded = results.degraded.as_deref().unwrap_or_default();
    assert!(degraded.contains(&format!("judged the first {judged} of 40 candidates")), "{degraded}");
    assert_eq!(results.hits.len(), 40);
    assert!(results.hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
    let late: Vec<_> = results.hits[judged..].iter().map(|hit| hit.document.clone()).collect();
    assert_eq!(late, plain[judged..]);
    assert!(results.hits[judged..].iter().all(|hit| hit.scores.rerank.is_none()));
    // No probability is made up for them; what the first stage found stands where it was found.
    for hit in &results.hits[judged..] {
        assert!(hit.score == 0.0 && hit.scores.text.is_some_and(|text| text > 0.0), "{:?}", hit.scores);
    }
    Ok(())
}

#[test]
fn a_floor_lets_nothing_through_that_was_not_judged() -> Result<()> {
    let boats = boats()?;
    let rerank = Rerank::with(ByNumber::shared()).depth(40).budget(Duration::ZERO);
    let hits = boats.search(query().limit(40).min_score(0.0).rerank(rerank))?.hits;
    assert!(!hits.is_empty() && hits.len() < 40, "{}", hits.len());
    assert!(hits.iter().all(|hit| hit.scores.rerank.is_some()));
    Ok(())
}

#[test]
fn a_chunk_is_judged_once_even_where_grouping_asks_deeper() -> Result<()> {
    let many = long_and_short()?;
    let model = ByNumber::shared();
    let rerank = Rerank::with(model.clone()).depth(1000);
    let hits = many.search(query().limit(2).group(true).rerank(rerank))?.hits;
    assert_eq!(hits.len(), 2);
    assert!(model.judged.load(Ordering::Relaxed) as u64 <= many.stats()?.chunks);
    Ok(())
}

/// Finds every passage hopeless, after some thought about the first ones.
struct Hopeless(RerankerSpec, AtomicUsize);

impl Reranker for Hopeless {
    fn spec(&self) -> &RerankerSpec {
        &self.0
    }

    fn judge(&self, _query: &str, passages: &[&str]) -> quiverdb::Result<Vec<Judgement>> {
        let thought = if self.1.fetch_add(1, Ordering::Relaxed) == 0 { 200 } else { 0 };
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(thought) {
            std::hint::spin_loop();
        }
        Ok(vec![Judgement::of_logit(-200.0); passages.len()])
    }
}

#[test]
fn what_was_judged_hopeless_stands_before_what_was_not_judged() -> Result<()> {
    let boats = boats()?;
    let plain: Vec<_> = boats.search(query().limit(40))?.hits.into_iter().map(|hit| hit.document).collect();
    let rerank = Rerank::with(Arc::new(Hopeless(RerankerSpec::new("hopeless"), AtomicUsize::new(1))));
    let rerank = rerank.depth(40).budget(Duration::ZERO);
    let hits = boats.search(query().limit(40).rerank(rerank))?.hits;
    let judged = hits.iter().take_while(|hit| hit.scores.rerank.is_some()).count();
    assert!((1..40).contains(&judged), "{judged}");
    assert!(hits[judged..].iter().all(|hit| hit.scores.rerank.is_none()));
    let ids =
        |range: std::ops::Range<usize>| hits[range].iter().map(|hit| hit.document.clone()).collect::<HashSet<_>>();
    assert_eq!(ids(0..judged), plain[..judged].iter().cloned().collect());
    Ok(())
}

#[test]
fn no_time_is_negative_where_grouping_asks_twice() -> Result<()> {
    let many = long_and_short()?;
    let model = Arc::new(Hopeless(RerankerSpec::new("hopeless"), AtomicUsize::new(0)));
    // Three documents are wanted and two are there, so it looks deeper than the first hundred chunks.
    let results = many.search(query().limit(3).group(true).rerank(Rerank::with(model).depth(100)))?;
    assert!(results.hits.len() == 2 && many.stats()?.chunks > 100);
    let times = results.timings_ms;
    assert!(times.fuse >= 0.0 && times.retrieve > 0.0 && times.rerank >= 200.0, "{times:?}");
    let parts = times.embed + times.filter + times.retrieve + times.fuse + times.rerank + times.hydrate;
    assert!(parts <= times.total + 0.01, "{times:?}");
    Ok(())
}

#[test]
fn a_floor_counts_for_the_judgement() -> Result<()> {
    let (boats, model) = (boats()?, ByNumber::shared());
    let floor = Judgement::of_logit(2.5).score;
    let hits = boats.search(query().limit(40).min_score(floor).rerank(model as Arc<dyn Reranker>))?.hits;
    assert!(hits.iter().all(|hit| hit.score >= floor));
    assert_eq!(hits.len(), 37);
    Ok(())
}

#[test]
fn what_cannot_be_reranked_is_refused_and_a_failing_model_is_an_error() -> Result<()> {
    let boats = boats()?;
    let broken: Arc<dyn Reranker> = Arc::new(Broken(RerankerSpec::new("broken")));
    let error = boats.search(query().rerank(broken)).unwrap_err();
    assert!(matches!(error, Error::Embedding(_)), "{error:?}");
    let deep = Rerank::named("none").depth(DEPTH_MAX + 1);
    let error = boats.search(query().rerank(deep)).unwrap_err();
    assert!(error.to_string().contains("depth of reranking"), "{error}");
    let error = boats.search(query().rerank("no/such/folder")).unwrap_err();
    assert!(error.to_string().contains("no/such/folder"), "{error}");
    assert_eq!(boats.search(query())?.hits.len(), 10);
    Ok(())
}

#[test]
fn models_tell_whether_they_are_loaded_and_why_not() -> Result<()> {
    let db = Database::in_memory()?;
    let notes = db.collection("notes")?;
    notes.add(Document::new("a", "A river."))?;
    notes.search(Query::text("river").rerank("no/such/folder")).unwrap_err();
    let health = db.models();
    let states: Vec<_> = health.iter().map(|model| (model.model.as_str(), model.state.clone())).collect();
    assert_eq!(states, [("builtin", LoadState::Ready), ("no/such/folder", LoadState::Failed)]);
    assert!(health[1].last_error.as_deref().is_some_and(|error| error.contains("no such directory")));
    Ok(())
}
