//! What does a language model get to read of what a collection found?

use quiverdb::context::{ContextFormat, ContextOptions};
use quiverdb::{CollectionConfig, Database, Document, Query};
use serde_json::Value;

/// Paragraphs about one thing each, so that each is a chunk.
fn collection() -> quiverdb::Collection {
    let config = CollectionConfig::new().chunk_tokens(16).chunk_overlap(0);
    let collection = Database::in_memory().unwrap().collection_with("c", config).unwrap();
    let paragraphs =
        ["Lions hunt at night.", "Borrowing lends a value.", "Volcanoes make islands.", "Bread needs yeast."];
    let text =
        paragraphs.map(|start| format!("{start} {}", "It is so in every year of all. ".repeat(2).trim())).join("\n\n");
    collection.add(Document::new("book", text)).unwrap();
    collection
}

fn borrowing() -> Query {
    Query::text("borrowing lends").limit(1)
}

#[test]
fn neighbours_join_a_hit_as_far_as_the_budget_reaches() {
    let collection = collection();
    let text = collection.get("book").unwrap().unwrap().text;
    let alone = collection.context(borrowing(), &ContextOptions::new(1_000)).unwrap();
    let hit = collection.search(borrowing()).unwrap().hits.remove(0);
    assert_eq!((alone.citations[0].start, alone.citations[0].end), (hit.start, hit.end));

    let wide = ContextOptions::new(1_000).neighbours(2);
    let whole = collection.context(borrowing(), &wide).unwrap();
    assert_eq!(whole.citations.len(), 1, "they touch, so they are one: {whole:?}");
    let citation = &whole.citations[0];
    assert!(citation.start < hit.start && citation.end > hit.end);
    assert!(whole.text.contains(&text[citation.start..citation.end]), "{whole:?}");

    let tight = ContextOptions::new(alone.tokens).neighbours(2);
    assert_eq!(
        collection.context(borrowing(), &tight).unwrap().citations,
        alone.citations,
        "the hit itself comes first"
    );
}

#[test]
fn a_callers_count_is_the_budgets_measure() {
    let collection = collection();
    let options = ContextOptions::new(60).count(str::len).neighbours(3);
    let context = collection.context(borrowing(), &options).unwrap();
    assert!(context.tokens <= 60 && context.tokens == context.text.len(), "{context:?}");
    assert!(context.text.contains("Borrowing"), "{context:?}");
}

#[test]
fn vectors_alone_have_a_context_as_well() {
    let collection = Database::in_memory().unwrap().collection_with("c", CollectionConfig::new().external(2)).unwrap();
    collection.add(Document::new(7, "seven of nine").vector(vec![1.0, 0.0])).unwrap();
    let options = ContextOptions::new(100).format(ContextFormat::Json);
    let context = collection.context(Query::vector(vec![1.0, 0.1]), &options).unwrap();
    let json: Value = serde_json::from_str(&context.text).unwrap();
    assert_eq!(json["passages"][0]["text"], "seven of nine");
}
