//! Are the answers good? A small check on thirty passages; `quiver eval` measures on real sets.
//!
//! Questions mostly avoid the words of their passages, so that neither leg gets them for free. The fixture is our own
//! writing.

use quiverdb::{Collection, Document, Mode, Query};
use serde_json::Value;

use crate::scenes::{ids, notes, search};

const PASSAGES: &str = include_str!("fixtures/passages.jsonl");
const QUESTIONS: &str = include_str!("fixtures/questions.tsv");

fn encyclopedia() -> Collection {
    let (_db, collection) = notes();
    let document = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        Document::new(row["id"].as_str().unwrap(), row["text"].as_str().unwrap())
    };
    let report = collection.add_many(PASSAGES.lines().map(document)).unwrap();
    assert_eq!((report.added, report.chunks_embedded), (30, 30));
    collection
}

/// The questions whose passage is not among the first `k` hits.
fn missed(collection: &Collection, mode: Mode, k: usize) -> Vec<String> {
    let wrong = |line: &&str| {
        let (question, expected) = line.split_once('\t').unwrap();
        !ids(&search(collection, Query::text(question).mode(mode).limit(k))).contains(&expected.to_owned())
    };
    QUESTIONS.lines().filter(wrong).map(str::to_owned).collect()
}

#[test]
fn hybrid_search_finds_the_passage_that_answers() {
    let encyclopedia = encyclopedia();
    let missed = missed(&encyclopedia, Mode::Hybrid, 3);
    assert_eq!(QUESTIONS.lines().count(), 20);
    assert!(missed.len() <= 2, "not among the first three: {missed:#?}");
}

#[test]
fn hybrid_search_is_no_worse_than_its_better_leg() {
    let encyclopedia = encyclopedia();
    let [hybrid, dense, text] =
        [Mode::Hybrid, Mode::Dense, Mode::Text].map(|mode| missed(&encyclopedia, mode, 1).len() as i64);
    println!("missed at the first place: hybrid {hybrid}, dense {dense}, text {text}");
    assert!(hybrid <= dense.min(text) + 1, "missed at the first place: hybrid {hybrid}, dense {dense}, text {text}");
}

#[test]
fn nonsense_does_not_look_like_an_answer() {
    let encyclopedia = encyclopedia();
    for nonsense in ["zxqv blorptang wuggle", "asdf jkl qwerty uiop", "flarn grumbit snozz vlimp", "xyzzy plugh"] {
        for hit in search(&encyclopedia, Query::text(nonsense).limit(3)) {
            assert!(hit.score < 0.5, "{nonsense:?} finds {} with {}", hit.document, hit.score);
        }
    }
}

#[test]
fn a_good_answer_scores_higher_than_nonsense() {
    let encyclopedia = encyclopedia();
    let best = |query: &str| search(&encyclopedia, Query::text(query).limit(1)).first().map_or(0.0, |hit| hit.score);
    let nonsense = best("zxqv blorptang wuggle");
    for question in ["why is the sea higher twice a day?", "how do bees tell each other where flowers are?"] {
        assert!(best(question) > nonsense, "{question}: {} against {nonsense}", best(question));
    }
}
