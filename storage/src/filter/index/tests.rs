//! The index against the evaluator, on documents and filters of all kinds; damaged bytes; the size of the file.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::filter::{CONDITIONS_MAX, DEPTH_MAX};
use crate::{DocumentId, Error};

struct Document {
    id: DocumentId,
    title: Option<String>,
    metadata: Map<String, Value>,
}

/// The chunks of a document: one to three, some numbers between documents unused, two blocks of the bitmap in use.
fn chunks_of(document: usize) -> Range<u32> {
    let first = 65_400 + document as u32 * 4;
    first..first + 1 + (document % 3) as u32
}

fn segment(documents: usize) -> Range<u32> {
    65_000..chunks_of(documents).start
}

fn build(documents: &[Document]) -> Vec<u8> {
    let mut builder = Builder::new();
    for (at, Document { id, title, metadata }) in documents.iter().enumerate() {
        builder.add(chunks_of(at), id, title.as_deref(), metadata);
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).unwrap();
    bytes
}

fn expected(documents: &[Document], filter: &Filter) -> RoaringBitmap {
    let matches =
        |document: &Document| filter.matches_document(&document.id, document.title.as_deref(), &document.metadata);
    let found = documents.iter().enumerate().filter(|(_, document)| matches(document));
    found.flat_map(|(at, _)| chunks_of(at)).collect()
}

fn documents(metadata: impl IntoIterator<Item = Value>) -> Vec<Document> {
    let metadata = metadata.into_iter().enumerate();
    let document = |(at, metadata): (usize, Value)| Document {
        id: DocumentId::Integer(at as i64),
        title: at.is_multiple_of(2).then(|| format!("Title {at}")),
        metadata: metadata.as_object().unwrap().clone(),
    };
    metadata.map(document).collect()
}

/// Asks the index and the evaluator, and returns how many chunks match.
fn agreed(documents: &[Document], bytes: &Vec<u8>, form: Value) -> u64 {
    let filter = Filter::from_json(&form).unwrap();
    let index = Index::open(bytes, "test", segment(documents.len())).unwrap();
    let found = index.evaluate(&filter).unwrap();
    assert_eq!(found, expected(documents, &filter), "{form}");
    found.len()
}

fn any_scalar() -> impl Strategy<Value = Value> {
    let exact = 9_007_199_254_740_992_u64;
    let near: Vec<Value> = (0..5)
        .map(|delta| json!(exact - 2 + delta))
        .chain([
            json!(exact as f64),
            json!((exact + 2) as f64),
            json!(-(exact as i64)),
            json!(-(exact as i64) - 1),
            json!(-(exact as f64)),
            json!(u64::MAX),
            json!(u64::MAX - 1),
            json!(u64::MAX as f64),
            json!(i64::MIN),
            json!(i64::MIN as f64),
            json!(1e300),
            json!(-1e300),
        ])
        .collect();
    let small = [json!(0), json!(-0.0), json!(0.0), json!(1), json!(1.0), json!(1.5), json!(-1), json!(2), json!(-1.5)];
    let texts = ["", "a", "ab", "abc", "b", "bab", "ä", "äö", "日本", "日本語", "a\u{0}", "\u{10ffff}", "A"];
    prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        3 => prop::sample::select(small.to_vec()),
        2 => prop::sample::select(near),
        4 => prop::sample::select(texts.to_vec()).prop_map(Value::from),
        1 => "[ab本]{0,5}".prop_map(Value::from),
    ]
}

/// What the names of fields are made of, and what only looks like it.
fn any_key() -> impl Strategy<Value = String> {
    let keys = ["a", "a", "b", "b", "c", "a.b", "b.c", "a.b.c", "", ".", "a.", "a..b", "and", "$id", "eq", "ü 1"];
    prop::sample::select(keys.to_vec()).prop_map(str::to_owned)
}

fn any_metadata() -> impl Strategy<Value = Map<String, Value>> {
    let value = any_scalar().prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any_key(), inner), 0..4).prop_map(|entries| Value::Object(Map::from_iter(entries))),
        ]
    });
    prop::collection::vec((any_key(), value), 0..5).prop_map(Map::from_iter)
}

fn any_document() -> impl Strategy<Value = Document> {
    let id = prop_oneof![
        (-3..3_i64).prop_map(DocumentId::Integer),
        prop::sample::select(vec!["a", "ab", "b", "1"]).prop_map(DocumentId::from)
    ];
    (id, prop::option::of("[ab]{0,3}"), any_metadata()).prop_map(|(id, title, metadata)| Document {
        id,
        title,
        metadata,
    })
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} {}", self.id, self.title, Value::Object(self.metadata.clone()))
    }
}

fn any_field() -> impl Strategy<Value = String> {
    let names = [
        "a", "a", "b", "c", "a.b", "a.b", "a.c", "b.c", "a.b.c", "a.a.a", "b.a.b.c", "c.a.b", ".and", ".$id", "$id",
        "$title", "eq", "ü 1", "a.ü 1", "a.and", "missing",
    ];
    prop::sample::select(names.to_vec()).prop_map(str::to_owned)
}

fn any_condition() -> impl Strategy<Value = Value> {
    let bound = any_scalar().prop_filter("ordered", |value| value.is_number() || value.is_string()).boxed();
    let test = prop_oneof![
        any_scalar().prop_map(|value| json!({"eq": value})),
        any_scalar().prop_map(|value| json!({"ne": value})),
        any_scalar().prop_map(|value| json!({"contains": value})),
        "[ab本ä]{0,2}".prop_map(|value| json!({"contains": value})),
        prop::collection::vec(any_scalar(), 0..8).prop_map(|values| json!({"in": values})),
        prop::collection::vec(any_scalar(), 0..4).prop_map(|values| json!({"nin": values})),
        bound.clone().prop_map(|value| json!({"gt": value})),
        bound.clone().prop_map(|value| json!({"gte": value})),
        bound.clone().prop_map(|value| json!({"lt": value})),
        bound.clone().prop_map(|value| json!({"lte": value})),
        (bound.clone(), bound).prop_map(|(low, high)| json!({"gte": low, "lt": high})),
        any::<bool>().prop_map(|value| json!({"exists": value})),
        "[ab本ä]{0,2}".prop_map(|value| json!({"prefix": value})),
    ];
    (any_field(), test).prop_map(|(field, test)| json!({field: test}))
}

fn any_filter() -> impl Strategy<Value = Value> {
    any_condition().prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|parts| json!({"and": parts})),
            prop::collection::vec(inner.clone(), 0..4).prop_map(|parts| json!({"or": parts})),
            inner.prop_map(|part| json!({"not": part})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// 1000 segments and 25,000 filters.
    #[test]
    fn the_index_answers_as_the_evaluator_does(
        documents in prop::collection::vec(any_document(), 0..40),
        filters in prop::collection::vec(any_filter(), 25),
    ) {
        let bytes = build(&documents);
        let index = Index::open(&bytes, "test", segment(documents.len())).unwrap();
        for form in filters {
            let filter = Filter::from_json(&form).unwrap();
            prop_assert_eq!(index.evaluate(&filter).unwrap(), expected(&documents, &filter), "{}", form);
        }
    }

    /// Wrong answers cannot be told from right ones here; that is what the checksums below are for.
    #[test]
    fn damaged_bytes_are_refused_or_read_within_bounds(
        documents in prop::collection::vec(any_document(), 1..20),
        filters in prop::collection::vec(any_filter(), 8),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        kept in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = build(&documents);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(kept) = kept {
            bytes.truncate(kept.index(bytes.len()));
        }
        for form in filters {
            asks_within_bounds(&bytes, documents.len(), &Filter::from_json(&form).unwrap());
        }
    }
}

fn asks_within_bounds(bytes: &Vec<u8>, documents: usize, filter: &Filter) {
    let segment = segment(documents);
    let found = Index::open(bytes, "the place", segment.clone()).and_then(|index| index.evaluate(filter));
    match found {
        Ok(found) => assert!(found.iter().all(|chunk| segment.contains(&chunk))),
        Err(Error::Corrupt { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

fn varied() -> Vec<Document> {
    documents((0..30).map(|at| {
        json!({
            "year": 2000 + at % 7, "price": f64::from(at) * 1.25, "lang": (["en", "de", "fr"][at as usize % 3]),
            "tags": [format!("t{at}"), "all", at], "author": {"name": format!("Ada {at}"), "born": null},
            "reviews": [{"stars": at % 5}, {"stars": 2, "by": {"name": "Bob"}}], "dotted.key": at % 2 == 0,
        })
    }))
}

const VARIED_FILTERS: [&str; 10] = [
    "year = 2003",
    "price > 3 AND price <= 20",
    "lang IN ('de', 'fr', 'it')",
    "tags CONTAINS 't1'",
    "author.name CONTAINS 'a 2'",
    "author.name PREFIX 'Ada 1'",
    "reviews.stars >= 4 OR NOT reviews.by.name = 'Bob'",
    "dotted.key = true",
    "EXISTS author.born",
    "$title CONTAINS 'le 1' AND $id < 20",
];

#[test]
fn every_damaged_byte_is_refused_or_read_within_bounds() {
    let documents = varied();
    let bytes = build(&documents);
    let filters = VARIED_FILTERS.map(|filter| filter.parse::<Filter>().unwrap());
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        for value in [0, 1, 0x7f, 0xff, bytes[at] ^ 1, bytes[at].wrapping_add(3)] {
            damaged[at] = value;
            filters.iter().for_each(|filter| asks_within_bounds(&damaged, documents.len(), filter));
        }
    }
}

#[test]
fn every_shortened_or_lengthened_file_is_refused() {
    let mut bytes = build(&varied());
    for length in 0..bytes.len() {
        assert!(Index::open(&bytes[..length], "test", segment(30)).is_err(), "{length} bytes");
    }
    bytes.push(0);
    let error = Index::open(&bytes, "filters of segment 1-2", segment(30)).err().unwrap();
    assert!(error.to_string().contains("filters of segment 1-2"), "{error}");
}

#[test]
fn chunks_outside_the_segment_are_refused() {
    let bytes = build(&varied());
    let all: Filter = "year > 0".parse().unwrap();
    for range in [65_000..chunks_of(29).end - 1, 65_401..70_000, 0..0] {
        assert!(Index::open(&bytes, "test", range).unwrap().evaluate(&all).is_err());
    }
    assert_eq!(Index::open(&bytes, "test", 65_400..chunks_of(29).end).unwrap().evaluate(&all).unwrap().len(), 60);
}

#[test]
fn paths_end_where_the_language_ends_them() {
    let nested = |levels: usize, key: &str, last: Value| (0..levels).fold(last, |inner, _| json!({key: inner}));
    let documents = documents([
        nested(31, "a", json!({"a": 1})),
        nested(32, "a", json!({"a": 1})),
        nested(90, "a", json!(1)),
        nested(30, "a", json!({"a.a": 1})),
        nested(31, "a", json!({"a.a": 1})),
        json!({"a.b": {"c": 1}, "b": [[{"c": 1}], {"c": [[1], 2]}]}),
    ]);
    let bytes = build(&documents);
    let path = |names: usize| vec!["a"; names].join(".");
    assert_eq!(agreed(&documents, &bytes, json!({path(32): 1})), 2);
    assert_eq!(agreed(&documents, &bytes, json!({path(32): {"exists": true}})), 7);
    assert_eq!(agreed(&documents, &bytes, json!({path(31): {"exists": true}})), 8);
    assert_eq!(agreed(&documents, &bytes, json!({"a.b.c": {"exists": true}})), 0);
    assert_eq!(agreed(&documents, &bytes, json!({"a.b": {"exists": true}})), 3);
    assert_eq!(agreed(&documents, &bytes, json!({"b.c": 1})), 0);
    assert_eq!(agreed(&documents, &bytes, json!({"b.c": 2})), 3);
}

#[test]
fn documents_without_chunks_and_empty_segments_have_no_matches() {
    let mut builder = Builder::new();
    builder.add(5..5, &"a".into(), None, &Map::new());
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).unwrap();
    let index = Index::open(bytes, "test", 5..5).unwrap();
    assert_eq!(index.documents(), 0);
    for form in [json!({}), json!({"a": 1}), json!({"not": {"a": {"exists": true}}}), json!({"$id": "a"})] {
        assert!(index.evaluate(&Filter::from_json(&form).unwrap()).unwrap().is_empty());
    }
}

#[test]
fn the_largest_filters_are_answered() {
    let documents = varied();
    let bytes = build(&documents);
    let deep = (0..DEPTH_MAX).fold(json!({"year": 2003}), |inner, _| json!({"not": inner}));
    agreed(&documents, &bytes, deep);
    let wide: Vec<Value> = (1..CONDITIONS_MAX).map(|at| json!({"price": at})).collect();
    assert!(agreed(&documents, &bytes, json!({"or": wide})) > 0);
    let list: Vec<Value> = (0..60_000).map(|at| json!(at)).collect();
    agreed(&documents, &bytes, json!({"tags": {"in": list}}));
}

/// Bytes of the index for each byte of JSON, ids and titles counted.
fn size_ratio(documents: &[Document]) -> f64 {
    let json = |document: &Document| {
        let id = document.id.to_string().len() + document.title.as_ref().map_or(0, String::len);
        serde_json::to_vec(&document.metadata).unwrap().len() + id
    };
    build(documents).len() as f64 / documents.iter().map(json).sum::<usize>() as f64
}

#[test]
fn the_file_is_a_small_multiple_of_the_json() {
    let long = "x".repeat(100_000);
    let wide: Map<String, Value> = (0..2000).map(|key| (format!("{key}"), json!(1))).collect();
    let chain = (0..90).fold(json!(1), |inner, _| json!({"k": [inner, 2]}));
    for (what, documents, most) in [
        ("keys of their own", documents((0..3000).map(|at| json!({format!("key {at}"): at}))), 3.5),
        ("one value each", documents((0..3000).map(|at| json!({"k": at}))), 3.5),
        ("the same long text", documents((0..100).map(|_| json!({"text": long}))), 0.02),
        ("a long key above many", documents((0..5).map(|_| json!({long.as_str(): wide}))), 1.0),
        ("many small elements", documents((0..300).map(|_| json!({"k": (0..100).collect::<Vec<_>>()}))), 0.5),
        ("deep", documents((0..100).map(|_| chain.clone())), 1.0),
        ("varied", varied(), 1.5),
    ] {
        let ratio = size_ratio(&documents);
        assert!(ratio < most, "{what}: {ratio:.2} bytes for each of JSON");
    }
}

/// A collection as people have them: year, language, tags, price and author.
fn library(documents: usize) -> Vec<Document> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    let document = |at| {
        let langs = ["en", "en", "en", "de", "fr", "es", "ja"];
        let metadata = json!({
            "year": 1970 + random(55), "lang": (langs[random(7) as usize]), "price": random(100_000) as f64 / 100.0,
            "tags": [format!("tag{}", random(40)), format!("tag{}", random(1000))],
            "author": {"name": format!("author {}", random(20_000))},
        });
        Document {
            id: DocumentId::Text(format!("docs/{at}.md")),
            title: Some(format!("Document {at} on {}", random(1000))),
            metadata: metadata.as_object().unwrap().clone(),
        }
    };
    (0..documents).map(document).collect()
}

/// Prints the figures that the module's documentation has; `--nocapture` shows them.
#[test]
fn a_library_is_searched_as_the_evaluator_does() {
    let documents = library(20_000);
    let json: usize = documents.iter().map(|one| serde_json::to_vec(&one.metadata).unwrap().len()).sum();
    let start = Instant::now();
    let bytes = build(&documents);
    eprintln!("{} documents built in {:?}: {} bytes, JSON {json}", documents.len(), start.elapsed(), bytes.len());
    let index = Index::open(&bytes, "test", segment(documents.len())).unwrap();
    for filter in [
        "$id = 'docs/777.md'",
        "year = 2000",
        "lang = 'en'",
        "lang != 'en'",
        "tags = 'tag7'",
        "lang IN ('de', 'fr', 'xx')",
        "author.name IN ('author 1', 'author 2', 'author 3', 'author 4')",
        "price >= 500",
        "price >= 900",
        "price >= 990",
        "price >= 999",
        "year >= 1998",
        "price >= 500 AND price < 510",
        "author.name PREFIX 'author 12'",
        "author.name CONTAINS '777'",
        "$title CONTAINS 'on 77'",
        "EXISTS tags",
        "year >= 2000 AND lang = 'de'",
        "year >= 2000 OR lang = 'de'",
        "NOT (year >= 2000 AND lang = 'de') AND price < 100",
    ] {
        let parsed: Filter = filter.parse().unwrap();
        let found = index.evaluate(&parsed).unwrap();
        assert_eq!(found, expected(&documents, &parsed), "{filter}");
        let best = (0..20).map(|_| timed(&index, &parsed)).min().unwrap();
        eprintln!("{:>8.1} us, {:>6} chunks: {filter}", best.as_secs_f64() * 1e6, found.len());
    }
}

fn timed<B: Bytes>(index: &Index<B>, filter: &Filter) -> Duration {
    let start = Instant::now();
    index.evaluate(filter).unwrap();
    start.elapsed()
}
