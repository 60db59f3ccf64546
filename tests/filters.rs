//! Do filters choose what their words say, and take part in retrieval?

use quiverdb::{Collection, Document, Filter, Mode, Query};
use serde_json::{Value, json};

use crate::scenes::{ids, notes, search};

fn library() -> Collection {
    let (_db, books) = notes();
    let rows = [
        (
            1,
            json!({"title": "Emma", "year": 1815, "lang": "en", "tags": ["novel", "romance"], "author": {"name": "Austen"}}),
        ),
        (2, json!({"title": "Faust", "year": 1808, "lang": "de", "tags": ["play"], "author": {"name": "Goethe"}})),
        (3, json!({"title": "Dracula", "year": 1897, "lang": "en", "tags": ["novel", "horror"], "draft": true})),
        (4, json!({"title": "Ulysses", "year": 1922.0, "lang": "en", "rating": 4.5, "draft": false})),
        (5, json!({"title": "O'Brien", "year": "1950", "lang": "fr", "parts": [{"n": 1}, {"n": 2}], "draft": null})),
    ];
    let document =
        |(id, metadata): (i64, Value)| Document::new(id, format!("Book number {id} on the shelf.")).metadata(metadata);
    books.add_many(rows.map(document)).unwrap();
    books
}

/// The documents that search returns under this filter, in order of their ids; all three modes must agree.
fn chosen(books: &Collection, filter: &Filter) -> Vec<String> {
    let mut answers = [Mode::Hybrid, Mode::Dense, Mode::Text].map(|mode| {
        let mut found = ids(&search(books, Query::text("book on the shelf").mode(mode).filter(filter.clone())));
        found.sort();
        found
    });
    assert_eq!(answers[0], answers[1], "{filter:?}");
    assert_eq!(answers[0], answers[2], "{filter:?}");
    std::mem::take(&mut answers[0])
}

#[test]
fn the_written_form_says_what_it_means() {
    let books = library();
    let cases: [(&str, &[&str]); 28] = [
        ("lang = 'en'", &["1", "3", "4"]),
        ("lang != 'en'", &["2", "5"]),
        ("lang <> 'en'", &["2", "5"]),
        ("year = 1815", &["1"]),
        ("year = 1922", &["4"]),
        ("year = '1950'", &["5"]),
        ("year < 1900", &["1", "2", "3"]),
        ("year <= 1815", &["1", "2"]),
        ("year > 1815 AND year < 1922", &["3"]),
        ("year >= 1815 AND lang IN ('en', 'fr')", &["1", "3", "4"]),
        ("lang in ('de','fr')", &["2", "5"]),
        ("lang NOT IN ('de', 'fr')", &["1", "3", "4"]),
        ("tags = 'novel'", &["1", "3"]),
        ("tags CONTAINS 'novel'", &["1", "3"]),
        ("title CONTAINS 'a'", &["1", "2", "3"]),
        ("title PREFIX 'U'", &["4"]),
        ("title = 'O''Brien'", &["5"]),
        ("draft = true", &["3"]),
        ("draft = false", &["4"]),
        ("NOT draft = true", &["1", "2", "4", "5"]),
        ("NOT (draft = true OR title PREFIX 'E')", &["2", "4", "5"]),
        ("author.name = 'Goethe'", &["2"]),
        ("EXISTS author.name", &["1", "2"]),
        ("EXISTS rating", &["4"]),
        ("parts.n = 2", &["5"]),
        ("lang = 'en' OR lang = 'de' AND year < 1810", &["1", "2", "3", "4"]),
        ("\"year\" = 1815 or `year` = 1808", &["1", "2"]),
        ("rating > 4", &["4"]),
    ];
    for (text, expected) in cases {
        let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(chosen(&books, &filter), expected, "{text}");
    }
}

#[test]
fn the_json_form_says_what_it_means() {
    let books = library();
    let cases: [(Value, &[&str]); 16] = [
        (json!({"lang": "en"}), &["1", "3", "4"]),
        (json!({"lang": {"eq": "en"}, "year": {"lt": 1900}}), &["1", "3"]),
        (json!({"year": {"gte": 1815, "lt": 1922}}), &["1", "3"]),
        (json!({"and": [{"lang": "en"}, {"year": {"gt": 1815}}]}), &["3", "4"]),
        (json!({"or": [{"lang": "de"}, {"rating": {"exists": true}}]}), &["2", "4"]),
        (json!({"not": {"lang": "en"}}), &["2", "5"]),
        (json!({"lang": {"ne": "en"}}), &["2", "5"]),
        (json!({"rating": {"ne": 4.5}}), &["1", "2", "3", "5"]),
        (json!({"lang": {"in": ["de", "fr", "it"]}}), &["2", "5"]),
        (json!({"lang": {"nin": ["de", "fr"]}}), &["1", "3", "4"]),
        (json!({"tags": {"contains": "horror"}}), &["3"]),
        (json!({"title": {"prefix": "D"}}), &["3"]),
        (json!({"author": {"exists": false}}), &["3", "4", "5"]),
        (json!({"author.name": "Austen"}), &["1"]),
        (json!({"year": {"eq": 1922}}), &["4"]),
        (json!({"$id": {"in": [1, 5]}}), &["1", "5"]),
    ];
    for (value, expected) in cases {
        let filter = Filter::from_json(&value).unwrap_or_else(|error| panic!("{value}: {error}"));
        assert_eq!(chosen(&books, &filter), expected, "{value}");
        let written: Filter = value.to_string().parse().unwrap();
        assert_eq!(written, filter, "a written filter that starts with a brace is JSON");
    }
}

#[test]
fn a_filter_is_part_of_retrieval() {
    let (_db, notes) = notes();
    // The rare ones are the worst answers, so filtering after retrieval would lose them.
    let document = |id: i64| {
        let rare = id % 100 == 0;
        let text = if rare { "Something about gardening." } else { "Sailing ships cross the sea under full sail." };
        Document::new(id, text).metadata(json!({"rare": rare}))
    };
    notes.add_many((1..=2_000).map(document)).unwrap();
    let filter: Filter = "rare = true".parse().unwrap();
    for mode in [Mode::Hybrid, Mode::Dense] {
        let hits = search(&notes, Query::text("sailing ships at sea").mode(mode).limit(20).filter(filter.clone()));
        assert_eq!(hits.len(), 20, "in mode {}", mode.name());
        assert!(hits.iter().all(|hit| hit.metadata["rare"] == true));
    }
}

#[test]
fn scores_do_not_depend_on_the_filter() {
    let books = library();
    let all = search(&books, Query::text("book number 3"));
    let filtered = search(&books, Query::text("book number 3").filter("lang = 'en'".parse().unwrap()));
    assert_eq!(filtered.len(), 3);
    for hit in filtered {
        let same = all.iter().find(|other| other.document == hit.document).unwrap();
        assert_eq!((hit.score, hit.scores), (same.score, same.scores));
    }
}

#[test]
fn deleting_by_filter_deletes_just_these() {
    let books = library();
    assert_eq!(books.delete_matching(&"lang = 'en' AND year < 1900".parse().unwrap()).unwrap(), 2);
    let left: Vec<String> = books.ids().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(left, ["2", "4", "5"]);
}

#[test]
fn broken_filters_are_refused_and_say_where() {
    let broken = [
        "",
        "lang",
        "lang =",
        "= 'en'",
        "lang = 'en",
        "lang = 'en' AND",
        "(lang = 'en'",
        "lang = 'en')",
        "lang IN 'en'",
        "lang LIKE 'e%'",
        "NOT",
        "lang = en",
        "year > ",
        "AND lang = 'en'",
        "lang = 'en' lang = 'de'",
        "{",
        "{\"and\": 1}",
        "{\"lang\": {\"near\": 1}}",
        "{\"not\": []}",
        "[]",
    ];
    for text in broken {
        let error = text.parse::<Filter>().err().unwrap_or_else(|| panic!("`{text}` is no filter"));
        assert!(error.to_string().len() > 15, "`{text}`: {error}");
    }
}

#[test]
fn deep_and_wide_filters_are_refused_without_recursion() {
    let deep = format!("{}a = 1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(deep.parse::<Filter>().is_err());
    let negated = format!("{} a = 1", "NOT ".repeat(100_000));
    assert!(negated.parse::<Filter>().is_err());
    let wide = vec!["a = 1"; 5_000].join(" OR ");
    assert!(wide.parse::<Filter>().is_err());
    let mut nested = json!({"a": 1});
    for _ in 0..60 {
        nested = json!({"not": nested});
    }
    assert!(Filter::from_json(&nested).is_err());
}
