//! How is a question asked, and how are the answers shown?

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use quiverdb::context::{ContextOptions, place};
use quiverdb::eval::EvalQuery;
use quiverdb::rerank::Rerank;
use quiverdb::types::SegmentSearch;
use quiverdb::{Collection, DocumentId, Hit, Mode, Query, SearchResults};
use serde::Serialize;
use serde_json::Value;

use super::args::{Search, Vector};
use super::filter_hints::hints;
use super::intake::{How, describe, take_in};
use super::output::{FAINT, Format, NAME, Output, count, duration, harmless, note, styled};
use super::passage::{Page, line_number, render};
use super::session::{Mistake, Outcome, Session};
use super::sources::{self, Sources};

/// Lines of a passage on a terminal, unless `--full` asks for all.
const PASSAGE_LINES_MAX: usize = 6;
/// Queries of a batch that are answered at a time.
const BATCH_QUERIES: usize = 64;

/// Files that could not be added before a search and are listed; the rest is counted.
const REJECTED_SHOWN_MAX: usize = 3;

/// `quiver search`.
pub(crate) fn run(session: &Session, arguments: &Search) -> Result<Outcome> {
    // Before anything is added, so that a mistake in the question costs nothing.
    let asked = asked(arguments)?;
    let (name, model) = (&arguments.target.collection, arguments.model.as_deref());
    let collection = if arguments.paths.is_empty() {
        session.collection_of(name, model)?
    } else {
        let sources = sources::open(&arguments.paths)?;
        let collection = session.collection_or_new(name, model)?;
        if add_first(&collection, &sources)? == Outcome::Interrupted {
            return Ok(Outcome::Interrupted);
        }
        collection
    };
    match &asked {
        Asked::All(queries) => answer_all(&session.output, &collection, arguments, queries)?,
        Asked::One(query) => answer(&session.output, &collection, arguments, Query::clone(query))?,
    }
    Ok(Outcome::Done)
}

/// What is asked.
enum Asked {
    /// What stands on the command line.
    One(Box<Query>),
    /// The queries of `--queries`.
    All(Vec<EvalQuery>),
}

/// Reads what is asked, and refuses what cannot be answered.
fn asked(arguments: &Search) -> Result<Asked> {
    arguments.ranking.check()?;
    let Some(file) = &arguments.queries else {
        let query = configured(arguments, question(arguments)?);
        query.validate()?;
        return Ok(Asked::One(Box::new(query)));
    };
    let queries = sources::queries(file)?;
    for EvalQuery { id, text } in &queries {
        configured(arguments, Query::text(text)).validate().with_context(|| format!("query `{id}`"))?;
    }
    Ok(Asked::All(queries))
}

/// The words, the vector or the picture, or both.
fn question(arguments: &Search) -> Result<Query> {
    let vector = match (&arguments.vector, &arguments.vector_file) {
        (Some(vector), _) => Some(vector.clone()),
        (None, Some(file)) => Some(sources::vector(file)?),
        (None, None) => None,
    };
    let query = match (vector, &arguments.image) {
        (Some(Vector(vector)), _) => Query::vector(vector),
        (None, Some(file)) => Query::image(sources::image(file)?),
        (None, None) => return Ok(Query::text(words(arguments))),
    };
    if arguments.ranking.mode == Some(Mode::Text) {
        let what = if arguments.image.is_some() { "picture" } else { "vector" };
        let mistake = Mistake::new(format!("a {what} is compared with vectors; --mode text compares none"));
        return Err(mistake.hint(format!("leave out the {what}, or --mode")).into());
    }
    Ok(if arguments.query.is_empty() { query } else { query.with_text(words(arguments)) })
}

fn words(arguments: &Search) -> String {
    arguments.query.join(" ")
}

/// `--in`: adds what changed. Files that cannot be added are told of and do not fail the search, whose answer is whole
/// without them.
fn add_first(collection: &Collection, sources: &Sources) -> Result<Outcome> {
    let intake = take_in(collection, sources, How::default())?;
    intake.list_rejected(REJECTED_SHOWN_MAX);
    intake.warn();
    let report = &intake.report;
    if report.added + report.replaced > 0 {
        note(&describe(report));
    }
    Ok(intake.outcome())
}

fn configured(arguments: &Search, query: Query) -> Query {
    let mut query = arguments.ranking.apply(query.limit(arguments.limit));
    if let Some(filter) = &arguments.filter {
        query = query.filter(filter.clone());
    }
    if let Some(score) = arguments.min_score {
        query = query.min_score(score);
    }
    if let Some(lambda) = arguments.mmr {
        query = query.mmr(lambda);
    }
    if let Some(rerank) = rerank(arguments) {
        query = query.rerank(rerank);
    }
    if arguments.explain {
        query = query.explain();
    }
    if arguments.syntax {
        query = query.syntax();
    }
    query.group(arguments.group)
}

/// How the candidates are judged again, where asked.
fn rerank(arguments: &Search) -> Option<Rerank> {
    let mut rerank = Rerank::named(arguments.rerank.clone()?);
    if let Some(depth) = arguments.rerank_depth {
        rerank = rerank.depth(depth);
    }
    if let Some(ms) = arguments.rerank_ms {
        rerank = rerank.budget(Duration::from_millis(ms));
    }
    Some(rerank)
}

fn answer(output: &Output, collection: &Collection, arguments: &Search, query: Query) -> Result<()> {
    if let Some(budget) = arguments.context {
        return answer_with_context(output, collection, arguments, query, budget);
    }
    let results = collection.search(query)?;
    match output.format {
        Format::People => answer_people(output, collection, arguments, &words(arguments), &results)?,
        Format::Json => output.value(&results)?,
        Format::Jsonl => output.values(&results.hits)?,
    }
    if results.hits.is_empty() { doubt_filter(collection, arguments) } else { Ok(()) }
}

/// Says on stderr which conditions of the filter nothing can satisfy.
fn doubt_filter(collection: &Collection, arguments: &Search) -> Result<()> {
    if let Some(filter) = &arguments.filter
        && collection.count()? > 0
    {
        hints(collection, filter)?.iter().for_each(|hint| note(&harmless(hint)));
    }
    Ok(())
}

fn answer_with_context(
    output: &Output,
    collection: &Collection,
    arguments: &Search,
    query: Query,
    budget: usize,
) -> Result<()> {
    let format = arguments.context_format.unwrap_or_default();
    let options = ContextOptions::new(budget).format(format).neighbours(arguments.neighbours.unwrap_or(0));
    let context = collection.context(query, &options)?;
    if context.citations.is_empty() {
        doubt_filter(collection, arguments)?;
    }
    match output.format {
        Format::People => {
            note(&format!(
                "{} of {}",
                count(context.citations.len() as u64, "passage"),
                count(context.tokens as u64, "token")
            ));
            output.text(&format!("{}\n", harmless(&context.text)))
        }
        Format::Json => output.value(&context),
        Format::Jsonl => output.values(&context.citations),
    }
}

fn answer_people(
    output: &Output,
    collection: &Collection,
    arguments: &Search,
    text: &str,
    results: &SearchResults,
) -> Result<()> {
    let shortened = output.is_terminal() && !arguments.full;
    let page = Page { width: output.width(), indent: 4, lines_max: shortened.then_some(PASSAGE_LINES_MAX) };
    let mut places = Places { collection, texts: HashMap::new() };
    let mut shown = String::new();
    for (index, hit) in results.into_iter().enumerate() {
        if index > 0 {
            shown.push('\n');
        }
        shown += &headline(index + 1, &places.of(hit)?, hit, &page);
        if arguments.explain {
            shown += &format!("    {}\n", styled(FAINT, &explain(hit)));
        }
        let highlights = match arguments.syntax {
            true => collection.syntax_highlights(text, &hit.text)?,
            false => collection.highlights(text, &hit.text),
        };
        shown += &render(&hit.text, &highlights, &page);
    }
    output.text(&shown)?;
    summarise(collection, arguments, results)
}

/// The number, the place and the score; below, the headings that lead to the passage.
fn headline(number: usize, place: &str, hit: &Hit, page: &Page) -> String {
    let number = styled(FAINT, &format!("{number:>2}."));
    let score = styled(FAINT, &format!("{:.3}", hit.score));
    let headline = format!("{number} {}  {score}\n", styled(NAME, &harmless(place)));
    match path(hit) {
        Some(path) => headline + &headings(&path, page),
        None => headline,
    }
}

fn headings(path: &str, page: &Page) -> String {
    let room = page.width.saturating_sub(page.indent).max(10);
    let excess = (path.chars().count() + 3).saturating_sub(room);
    let shown: String = if excess <= 3 {
        path.to_owned()
    } else if path.contains(" > ") {
        // The innermost headings say most, so a path that is too long loses its beginning.
        "...".chars().chain(path.chars().skip(excess)).collect()
    } else {
        path.chars().take(room - 3).chain("...".chars()).collect()
    };
    format!("{:indent$}{}\n", "", styled(FAINT, &harmless(&shown)), indent = page.indent)
}

/// Title and headings, without saying the same thing twice.
fn path(hit: &Hit) -> Option<String> {
    let path = place(hit.title.as_deref(), &hit.heading);
    (!path.is_empty()).then(|| path.replace('\n', " "))
}

/// Where hits stand, as `id:line`; the texts of documents are read once.
struct Places<'a> {
    collection: &'a Collection,
    texts: HashMap<DocumentId, String>,
}

impl Places<'_> {
    fn of(&mut self, hit: &Hit) -> Result<String> {
        if let Some(page) = hit.page {
            return Ok(format!("{}, page {page}", hit.document));
        }
        if !is_a_file(hit) || !has_its_lines(hit) {
            return Ok(hit.document.to_string());
        }
        if !self.texts.contains_key(&hit.document) {
            let text = self.collection.get(hit.document.clone())?.map(|document| document.text);
            self.texts.insert(hit.document.clone(), text.unwrap_or_default());
        }
        Ok(format!("{}:{}", hit.document, line_number(&self.texts[&hit.document], hit.start)))
    }
}

/// Whether the document is a whole file, so that its lines are the file's; a row of a file is not.
fn is_a_file(hit: &Hit) -> bool {
    let source = hit.metadata.get("source").and_then(Value::as_str);
    source.is_some_and(|source| Path::new(source).ends_with(hit.document.to_string()))
}

/// Whether the lines of the document are those of its file; text that was made of a file has lines of its own.
fn has_its_lines(hit: &Hit) -> bool {
    let media_type = hit.metadata.get("media_type").and_then(Value::as_str).unwrap_or_default();
    let is_made = ["text/html", "application/pdf", "application/epub+zip"].contains(&media_type);
    !is_made && !media_type.starts_with("application/vnd.")
}

/// Each leg's score and rank, and what came of them.
fn explain(hit: &Hit) -> String {
    let leg = |name: &str, score: Option<f32>, rank: Option<usize>| {
        let rank = rank.map_or(String::new(), |rank| format!(" (#{rank})"));
        score.map(|score| format!("{name} {score:.2}{rank}"))
    };
    let parts = [
        leg("dense", hit.scores.dense, hit.ranks.dense),
        leg("text", hit.scores.text, hit.ranks.text),
        leg("fused", hit.scores.fused, None),
        leg("rerank", hit.scores.rerank, None),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}

/// The last line, on stderr: how many hits, how fast, out of how much.
fn summarise(collection: &Collection, arguments: &Search, results: &SearchResults) -> Result<()> {
    let stats = collection.stats()?;
    let timings = &results.timings_ms;
    if results.hits.is_empty() {
        let fill = format!("no hits: the collection is empty; `quiver add -c {} PATH` fills it", collection.name());
        note(if stats.chunks == 0 {
            &fill
        } else if arguments.filter.is_some() {
            "no hits: no document matches --filter; `quiver get ID` shows the fields of one, and their types"
        } else if arguments.min_score.is_some() {
            "no hits: try it without --min-score"
        } else if arguments.syntax {
            "no hits: no passage satisfies the query; require less, or try it without --syntax"
        } else {
            "no hits: try other words, or --mode hybrid"
        });
    }
    let hits = count(results.hits.len() as u64, "hit");
    let passages = count(stats.chunks, "passage");
    let space = stats.spaces.iter().find(|space| Some(&space.name) == arguments.ranking.space.as_ref());
    let model = space.map_or(&stats.model, |space| &space.model);
    let summary = format!("{hits} in {} ({}, {model}, {passages})", duration(timings.total), results.mode.name());
    note(&styled(FAINT, &summary));
    if arguments.explain {
        let stages = [
            ("embed", timings.embed),
            ("filter", timings.filter),
            ("retrieve", timings.retrieve),
            ("fuse", timings.fuse),
            ("rerank", timings.rerank),
            ("hydrate", timings.hydrate),
        ];
        let stages = stages.map(|(stage, ms)| format!("{stage} {}", duration(ms)));
        note(&styled(FAINT, &stages.join("  ")));
        for SegmentSearch { segment, strategy, compared, rescored } in results.plan.iter().flatten() {
            let (way, compared) = (strategy.name(), count(*compared, "code"));
            note(&styled(
                FAINT,
                &format!("segment {segment}: {way}, {compared} and {} compared", count(*rescored, "vector")),
            ));
        }
    }
    if let Some(degraded) = &results.degraded {
        note(degraded);
    }
    Ok(())
}

/// A batch's answer to one query.
#[derive(Serialize)]
struct Answer {
    _id: String,
    #[serde(flatten)]
    results: SearchResults,
}

/// `--queries`: one line each, in their order; with `--json` an array.
fn answer_all(output: &Output, collection: &Collection, arguments: &Search, queries: &[EvalQuery]) -> Result<()> {
    let mut all = Vec::new();
    for batch in queries.chunks(BATCH_QUERIES) {
        let asked = batch.iter().map(|named| configured(arguments, Query::text(&named.text))).collect();
        let results = collection.search_many(asked)?;
        let answers = batch.iter().zip(results).map(|(named, results)| Answer { _id: named.id.clone(), results });
        match output.format {
            Format::Json => all.extend(answers),
            Format::People | Format::Jsonl => output.values(&answers.collect::<Vec<_>>())?,
        }
    }
    if output.format == Format::Json { output.value(&all) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quiverdb::types::{Ranks, Scores};
    use serde_json::json;

    fn hit() -> Hit {
        Hit {
            document: "a.md".into(),
            chunk: 0,
            start: 0,
            end: 4,
            text: "text".into(),
            title: Some("Title".into()),
            heading: "Title > Section".into(),
            page: None,
            metadata: json!({"source": "/notes/a.md"}),
            score: 0.521,
            scores: Scores { dense: Some(0.61), text: Some(8.3), fused: Some(0.521), rerank: None },
            ranks: Ranks { dense: Some(2), text: None },
        }
    }

    #[test]
    fn an_explanation_names_each_leg_with_score_and_rank() {
        assert_eq!(explain(&hit()), "dense 0.61 (#2)  text 8.30  fused 0.52");
    }

    #[test]
    fn a_title_that_is_also_the_first_heading_is_said_once() {
        assert_eq!(path(&hit()).as_deref(), Some("Title > Section"));
        assert_eq!(path(&Hit { heading: "Other".into(), ..hit() }).as_deref(), Some("Title > Other"));
        assert_eq!(path(&Hit { heading: String::new(), title: None, ..hit() }), None);
    }

    #[test]
    fn lines_are_told_of_files_and_not_of_their_rows() {
        assert!(is_a_file(&hit()));
        assert!(!is_a_file(&Hit { document: "a.md#3".into(), ..hit() }));
        assert!(!is_a_file(&Hit { metadata: json!({}), ..hit() }));
    }

    #[test]
    fn a_path_that_is_too_long_loses_its_beginning_and_a_title_its_end() {
        let page = Page { width: 24, indent: 4, lines_max: None };
        let shown = |path| anstream::adapter::strip_str(&headings(path, &page)).to_string();
        assert_eq!(shown("A first heading > A second heading"), "    ... A second heading\n");
        assert_eq!(shown("A title that is too long"), "    A title that is t...\n");
        assert_eq!(shown("Twenty letters, just"), "    Twenty letters, just\n");
    }
}
