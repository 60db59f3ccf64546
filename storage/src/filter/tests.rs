//! Filters in both forms: what they mean, what they refuse, and that what is printed is read back.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn refusal(text: &str) -> String {
    text.parse::<Filter>().unwrap_err().to_string()
}

fn refusal_of_json(value: &Value) -> String {
    Filter::from_json(value).unwrap_err().to_string()
}

/// Every type of value, nested and in arrays, with keys that look like operators.
fn varied_metadata() -> Map<String, Value> {
    object(json!({
        "year": 2024, "price": 9.5, "lang": "en", "draft": false, "none": null, "tags": ["a", "b", 3],
        "author": {"name": "Ada", "born": {"year": 1815}}, "reviews": [{"stars": 5}, {"stars": 2}, 7],
        "dotted.key": "x", "and": 1, "eq": "op", "big": 9_007_199_254_740_993_u64, "empty": [], "ünï": "ja"
    }))
}

/// One document, and for each filter in both forms whether it matches.
#[test]
fn both_forms_agree_on_what_matches() {
    let metadata = varied_metadata();
    for (form, text, expected) in [
        (json!({"year": 2024}), "year = 2024", true),
        (json!({"year": {"eq": 2024.0}}), "year == 2024.0", true),
        (json!({"year": {"eq": "2024"}}), "year = '2024'", false),
        (json!({"year": {"ne": 2024}}), "year != 2024", false),
        (json!({"missing": {"ne": 1}}), "missing <> 1", true),
        (json!({"missing": {"eq": null}}), "missing = null", false),
        (json!({"none": null}), "none = NULL", true),
        (json!({"none": {"exists": true}}), "EXISTS none", true),
        (json!({"empty": {"exists": true}}), "exists empty", true),
        (json!({"not": {"missing": {"exists": true}}}), "NOT EXISTS missing", true),
        (json!({"year": {"gt": 2024}}), "year > 2024", false),
        (json!({"year": {"gte": 2024}}), "year >= 2024", true),
        (json!({"year": {"lt": 2024.5}}), "year < 2024.5", true),
        (json!({"year": {"lte": -1}}), "year <= -1", false),
        (json!({"lang": {"gt": "de"}}), "lang > 'de'", true),
        (json!({"lang": {"gt": 1}}), "lang > 1", false),
        (json!({"lang": {"in": ["de", "en"]}}), "lang IN ('de', 'en')", true),
        (json!({"lang": {"in": []}}), "lang in ()", false),
        (json!({"lang": {"nin": ["de"]}}), "lang NOT IN ('de')", true),
        (json!({"missing": {"nin": ["de"]}}), "missing not in ('de')", true),
        (json!({"year": {"in": [1, 2024.0, "x"]}}), "year IN (1, 2024.0, 'x')", true),
        (json!({"draft": false}), "draft = false", true),
        (json!({"tags": "a"}), "tags = 'a'", true),
        (json!({"tags": {"ne": "a"}}), "tags != 'a'", false),
        (json!({"tags": {"contains": "a"}}), "tags CONTAINS 'a'", true),
        (json!({"tags": {"contains": 3.0}}), "tags CONTAINS 3.0", true),
        (json!({"tags": {"gt": 2}}), "tags > 2", true),
        (json!({"tags": {"prefix": "b"}}), "tags PREFIX 'b'", true),
        (json!({"lang": {"contains": "n"}}), "lang CONTAINS 'n'", true),
        (json!({"year": {"contains": 2024}}), "year CONTAINS 2024", false),
        (json!({"lang": {"prefix": "E"}}), "lang PREFIX 'E'", false),
        (json!({"author.name": "Ada"}), "author.name = 'Ada'", true),
        (json!({"author.born.year": {"lt": 1900}}), "author.born.year < 1900", true),
        (json!({"author": "Ada"}), "author = 'Ada'", false),
        (json!({"author": {"exists": true}}), "EXISTS author", true),
        (json!({"reviews.stars": {"gte": 5}}), "reviews.stars >= 5", true),
        (json!({"reviews.stars": 3}), "reviews.stars = 3", false),
        (json!({"reviews": 7}), "reviews = 7", true),
        (json!({"dotted.key": "x"}), "dotted.key = 'x'", true),
        (json!({".and": 1}), "`and` = 1", true),
        (json!({"eq": "op"}), "eq = 'op'", true),
        (json!({"ünï": "ja"}), "ünï = 'ja'", true),
        (json!({"big": {"gt": 9_007_199_254_740_992.0}}), "big > 9007199254740992.0", true),
        (json!({"big": 9_007_199_254_740_992.0}), "big = 9007199254740992.0", false),
        (json!({"and": [{"year": 2024}, {"lang": "de"}]}), "year = 2024 AND lang = 'de'", false),
        (json!({"or": [{"year": 2024}, {"lang": "de"}]}), "year = 2024 OR lang = 'de'", true),
        (
            json!({"or": [{"and": [{"year": 1}, {"lang": "de"}]}, {"draft": false}]}),
            "year=1 and lang='de' or draft=false",
            true,
        ),
        (
            json!({"and": [{"year": 2024}, {"not": {"or": [{"draft": true}, {"lang": {"prefix": "d"}}]}}]}),
            "year = 2024 AND NOT (draft = true OR lang PREFIX 'd')",
            true,
        ),
    ] {
        let from_json = Filter::from_json(&form).unwrap();
        let from_text: Filter = text.parse().unwrap();
        assert_eq!(from_json, from_text, "{form} and {text}");
        assert_eq!(from_json.matches(&metadata), expected, "{text}");
        assert_eq!(from_json.to_string().parse::<Filter>().unwrap(), from_json, "{text}");
    }
}

#[test]
fn several_keys_and_several_operators_must_all_hold() {
    let metadata = object(json!({"year": 2024, "lang": "en"}));
    let matches = |form: Value| Filter::from_json(&form).unwrap().matches(&metadata);
    assert!(matches(json!({"year": {"gte": 2020, "lt": 2025}, "lang": "en"})));
    assert!(!matches(json!({"year": {"gte": 2020, "lt": 2024}})));
    assert!(!matches(json!({"year": 2024, "lang": "de"})));
    assert!(matches(json!({})));
    assert!(matches(json!({"and": []})));
    assert!(!matches(json!({"or": []})));
    assert!(matches(json!({"missing": {"exists": false}})));
}

#[test]
fn id_and_title_are_those_of_the_document() {
    let metadata = object(json!({"$id": "shadow"}));
    let matches = |text: &str, id: DocumentId, title: Option<&str>| {
        text.parse::<Filter>().unwrap().matches_document(&id, title, &metadata)
    };
    assert!(matches("$id = 7", DocumentId::Integer(7), None));
    assert!(!matches("$id = '7'", DocumentId::Integer(7), None));
    assert!(matches("$id IN ('b', 'a')", "a".into(), None));
    assert!(matches("$id PREFIX 'src/'", "src/lib.rs".into(), None));
    assert!(matches("$id CONTAINS 'lib'", "src/lib.rs".into(), None));
    assert!(matches("$title CONTAINS 'war'", "a".into(), Some("Peace and war")));
    assert!(matches("NOT EXISTS $title", "a".into(), None));
    assert!(matches(".$id = 'shadow'", "a".into(), None));
    assert!(!"$id = 7".parse::<Filter>().unwrap().matches(&metadata));
}

#[test]
fn quotes_are_doubled_within_text() {
    let metadata = object(json!({"who": "it's \"me\"", "odd name": 1, "a`b": 2}));
    for text in
        ["who = 'it''s \"me\"'", "who = \"it's \"\"me\"\"\"", "`odd name` = 1", "\"odd name\" = 1", "`a``b` = 2"]
    {
        assert!(text.parse::<Filter>().unwrap().matches(&metadata), "{text}");
    }
}

#[test]
fn canonical_form_sorts_and_joins_listed_values() {
    let filter: Filter = "x IN (3, 'b', 1, 1.0, true, 'a', null)".parse().unwrap();
    assert_eq!(filter.to_string(), r#"{"x":{"in":[null,true,1,3,"a","b"]}}"#);
}

#[test]
fn refusals_say_where_and_what_is_right() {
    for (text, part) in [
        ("", "at character 1: expected a field name"),
        ("year >", "at character 7: expected a value"),
        ("year = en", "text in single quotes, found `en`"),
        ("year 2020", "at character 6: expected an operator"),
        ("year LIKE 'x'", "expected an operator"),
        ("ä = 1 AND", "at character 10"),
        ("(a = 1", "expected `)`, found the end"),
        ("a = 1)", "expected AND, OR or the end, found `)`"),
        ("a = 'x", "no ' at its end"),
        ("a IN (1, 2", "expected `,`, found the end"),
        ("a IN (1,)", "expected a value"),
        ("a > true", "`>` compares with a number"),
        ("a PREFIX 3", "PREFIX takes text"),
        ("day = 2024-01-02", "`2024-01-02` is no number"),
        ("and = 1", "in backquotes where it is a keyword"),
        ("$year = 1", "`$year` is no field"),
        ("a..b = 1", "empty part"),
        ("a ; b", "`;` means nothing here"),
        ("{\"a\": ", "is no JSON"),
        ("a = 1e999", "is no number"),
    ] {
        let message = refusal(text);
        assert!(message.contains(part), "{text}: {message}");
    }
    for (form, part) in [
        (json!([]), "the filter is an array"),
        (json!({"and": {"a": 1}}), "it takes an array"),
        (json!({"and": [{"a": 1}, 3]}), "`and`[1] in the filter is a number"),
        (json!({"not": 3}), "`not` in the filter is a number"),
        (json!({"year": {}}), "has no operator"),
        (json!({"year": {"above": 1}}), "the operator `above`"),
        (json!({"author": {"name": "Ada"}}), "`author.name`"),
        (json!({"year": {"gt": null}}), "takes a number or a string; got null"),
        (json!({"tags": ["a"]}), "`in` takes several"),
        (json!({"a": {"in": 3}}), "takes an array of values; got a number"),
        (json!({"a": {"exists": 1}}), "takes true or false"),
        (json!({"": 1}), "empty part"),
    ] {
        let message = refusal_of_json(&form);
        assert!(message.contains(part), "{form}: {message}");
    }
}

#[test]
fn deep_input_is_refused_without_a_deep_stack() {
    let n = 100_000;
    for text in [
        "(".repeat(n),
        "NOT ".repeat(n),
        "NOT (".repeat(n) + "a = 1",
        "{\"not\":".repeat(n),
        "{\"and\":[".repeat(n) + &"]}".repeat(n),
    ] {
        let message = refusal(&text);
        assert!(message.contains("nested more than 32") || message.contains("recursion limit"), "{message}");
        assert!(message.len() < 500, "{message}");
    }
    let deep = |levels| (0..levels).fold(json!({"a": 1}), |inner, _| json!({"not": inner}));
    assert!(Filter::from_json(&deep(DEPTH_MAX)).is_ok());
    assert!(refusal_of_json(&deep(DEPTH_MAX + 1)).contains("nested more than 32"));
    assert!(refusal_of_json(&deep(100)).contains("nested more than 32"));
    let alternating = "a = 1 AND (b = 1 OR (".repeat(12) + "c = 1" + &"))".repeat(12);
    assert!(alternating.parse::<Filter>().is_ok());
}

#[test]
fn wide_input_is_refused() {
    let many = |n: usize| vec!["a = 1"; n].join(" OR ");
    assert!(many(CONDITIONS_MAX - 1).parse::<Filter>().is_ok());
    assert!(refusal(&many(CONDITIONS_MAX)).contains("more than 1024 conditions"));
    let list: Vec<usize> = (0..VALUES_MAX).collect();
    assert!(Filter::from_json(&json!({"a": {"in": list}})).is_ok());
    assert!(refusal_of_json(&json!({"or": [{"a": {"in": list}}, {"b": {"nin": [1]}}]})).contains("more than 65536"));
    let keys: Map<String, Value> = (0..CONDITIONS_MAX).map(|key| (format!("k{key}"), json!(1))).collect();
    assert!(refusal_of_json(&Value::Object(keys)).contains("more than 1024 conditions"));
    assert!(refusal(&format!("{} = 1", vec!["a"; 33].join("."))).contains("more than 32 names"));
}

fn any_scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Eighths, because serde_json reads other fractions with an error of one unit in the last place.
        (-1000..1000_i32).prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        ".{0,6}".prop_map(Value::from),
        (0..3_i64).prop_map(Value::from),
    ]
}

fn any_field() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a"),
        Just("a.b"),
        Just("eq"),
        Just(".and"),
        Just("$id"),
        Just("$title"),
        Just(".$id"),
        Just("ü 1")
    ]
    .prop_map(str::to_owned)
}

fn any_condition() -> impl Strategy<Value = Value> {
    let bound = any_scalar().prop_filter("ordered", |value| value.is_number() || value.is_string()).boxed();
    let test = prop_oneof![
        any_scalar().prop_map(|value| json!({"eq": value})),
        any_scalar().prop_map(|value| json!({"ne": value})),
        any_scalar().prop_map(|value| json!({"contains": value})),
        prop::collection::vec(any_scalar(), 0..4).prop_map(|values| json!({"in": values})),
        prop::collection::vec(any_scalar(), 0..4).prop_map(|values| json!({"nin": values})),
        bound.clone().prop_map(|value| json!({"gt": value})),
        bound.clone().prop_map(|value| json!({"lte": value})),
        (bound.clone(), bound).prop_map(|(low, high)| json!({"gte": low, "lt": high})),
        any::<bool>().prop_map(|value| json!({"exists": value})),
        ".{0,3}".prop_map(|value| json!({"prefix": value})),
    ];
    (any_field(), test).prop_map(|(field, test)| json!({field: test}))
}

fn any_filter() -> impl Strategy<Value = Value> {
    any_condition().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|parts| json!({"and": parts})),
            prop::collection::vec(inner.clone(), 0..4).prop_map(|parts| json!({"or": parts})),
            inner.prop_map(|part| json!({"not": part})),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(form in any_filter()) {
        let filter = Filter::from_json(&form).unwrap();
        let printed = filter.to_string();
        let again: Filter = printed.parse().unwrap();
        prop_assert_eq!(&again, &filter);
        prop_assert_eq!(again.to_string(), printed);
    }

    #[test]
    fn negations_are_opposites(value in any_scalar(), found in any_scalar()) {
        let metadata = object(json!({"a": found}));
        let matches = |form: Value| Filter::from_json(&form).unwrap().matches(&metadata);
        prop_assert_ne!(matches(json!({"a": {"eq": value}})), matches(json!({"a": {"ne": value}})));
        prop_assert_eq!(matches(json!({"a": {"in": [value]}})), matches(json!({"a": {"eq": value}})));
        prop_assert_ne!(matches(json!({"a": {"in": [value]}})), matches(json!({"a": {"nin": [value]}})));
        prop_assert_eq!(matches(json!({"a": found})), true);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
        let _ = text.parse::<Filter>().map_err(|error| error.to_string());
    }

    #[test]
    fn any_tokens_are_read_or_refused(
        tokens in prop::collection::vec(
            prop::sample::select(vec!["a", "AND", "OR", "NOT", "(", ")", "=", "IN", "1", "'x'", ",", "EXISTS", "<", "null", "`b`"]),
            0..24,
        )
    ) {
        if let Ok(filter) = tokens.join(" ").parse::<Filter>() {
            prop_assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter);
        }
    }
}
