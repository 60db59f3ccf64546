//! Does a query in the query syntax let through what it says, in every mode?

use quiverdb::{Collection, Document, Error, Filter, Mode, Query};

use crate::scenes::{ids, notes, search};

fn library() -> Collection {
    let (_db, notes) = notes();
    let texts = [
        ("races", "A mutex prevents data races between threads."),
        ("horses", "Data about a race of horses."),
        ("pool", "A threadpool runs tasks; tokio is one of many runtimes."),
        ("bread", "Let the dough rise overnight, then bake it."),
    ];
    notes.add_many(texts.map(|(id, text)| Document::new(id, text))).unwrap();
    notes
}

/// The documents that a query finds, by id; all three modes must agree.
fn found(notes: &Collection, text: &str) -> Vec<String> {
    let mut answers = [Mode::Hybrid, Mode::Dense, Mode::Text].map(|mode| {
        let mut found = ids(&search(notes, Query::text(text).syntax().mode(mode)));
        found.sort();
        found
    });
    assert_eq!(answers[0], answers[1], "{text}");
    assert_eq!(answers[0], answers[2], "{text}");
    std::mem::take(&mut answers[0])
}

#[test]
fn what_the_query_does_not_let_through_is_no_hit_in_any_mode() {
    let notes = library();
    let cases: [(&str, &[&str]); 9] = [
        ("data", &["horses", "races"]),
        ("\"data race\"", &["races"]),
        ("data -\"data race\"", &["horses"]),
        ("thread*", &["pool", "races"]),
        ("mutx~", &["races"]),
        ("+thread* -tokio", &["races"]),
        ("dough OR (race AND NOT mutex)", &["bread", "horses"]),
        ("data race -horses -threads", &[]),
        ("glaciers", &[]),
    ];
    for (query, expected) in cases {
        assert_eq!(found(&notes, query), expected, "{query}");
    }
}

#[test]
fn filters_and_grouping_take_part() {
    let notes = library();
    let filter: Filter = "$id = 'races'".parse().unwrap();
    let hits = search(&notes, Query::text("data").syntax().filter(filter).group(true));
    assert_eq!(ids(&hits), ["races"]);
}

#[test]
fn the_dense_leg_reads_the_words_without_signs_and_without_what_is_excluded() {
    let notes = library();
    let scores = |query: Query| search(&notes, query.mode(Mode::Dense))[0].scores.dense;
    let plain = scores(Query::text("threads data race"));
    assert_eq!(scores(Query::text("+threads \"data race\" -(glacier OR horses)").syntax()), plain);
}

#[test]
fn plain_words_score_alike_with_and_without_the_syntax() {
    let notes = library();
    let plain = search(&notes, Query::text("data races").mode(Mode::Text));
    assert_eq!(search(&notes, Query::text("data races").mode(Mode::Text).syntax()), plain);
}

#[test]
fn mistakes_are_refused_before_anything_is_searched() {
    let notes = library();
    for (query, words) in [
        (Query::text("data \"race").syntax(), "character 6"),
        (Query::text("-data").syntax(), "all is excluded"),
        (Query::vector(vec![0.5; 256]).syntax(), "needs words"),
    ] {
        let Err(Error::InvalidInput(message)) = notes.search(query) else { panic!("{words}: not refused") };
        assert!(message.contains(words), "{message}");
    }
    assert!(notes.syntax_highlights("(", "text").is_err());
}

#[test]
fn a_prefix_of_too_many_words_is_told_of() {
    let (_db, notes) = notes();
    let words: Vec<String> = (0..70).map(|n| format!("zz{n}")).collect();
    notes.add(Document::new("many", words.join(" "))).unwrap();
    let degraded = |query: &str| notes.search(Query::text(query).syntax().mode(Mode::Text)).unwrap().degraded;
    assert!(degraded("zz*").unwrap().contains("`zz`"));
    assert_eq!(degraded("zz1*"), None);
}

#[test]
fn highlights_follow_the_words_that_are_asked_for() {
    let notes = library();
    let text = "A mutex prevents data races between threads; threadpools run tokio.";
    let marked = notes.syntax_highlights("mutx~ thread* -tokio", text).unwrap();
    let marked: Vec<&str> = marked.into_iter().map(|range| &text[range]).collect();
    assert_eq!(marked, ["mutex", "threads", "threadpools"]);
}
