//! Filters choose documents by their metadata, as part of the search and not after it: `limit` hits come back if so
//! many match.
//!
//! Run it with `cargo run --example filters`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use quiverdb::{Collection, Database, Document, Filter, Query};
use serde_json::json;

fn main() -> anyhow::Result<()> {
    let db = Database::in_memory()?;
    let books = db.collection("books")?;
    let book = |id: &str, text: &str, metadata| Document::new(id, text).metadata(metadata);
    books.add_many([
        book(
            "emma",
            "A clever young woman arranges other people's marriages.",
            json!({"year": 1815, "tags": ["novel"]}),
        ),
        book("walden", "A man lives alone in a cabin by a pond.", json!({"year": 1854, "tags": ["essay"]})),
        book("dracula", "A count brings terror to England.", json!({"year": 1897, "tags": ["novel", "horror"]})),
        book("ulysses", "Two men walk through Dublin.", json!({"year": 1922, "tags": ["novel"], "draft": true})),
    ])?;

    // As a person would write it, ...
    for filter in [
        "year < 1900",
        "tags CONTAINS 'novel' AND NOT draft = true",
        "year >= 1850 AND (tags = 'horror' OR tags IN ('essay', 'play'))",
        "EXISTS draft",
    ] {
        show(&books, filter, filter.parse()?)?;
    }
    // ... or as a program would.
    let filter = json!({"and": [{"year": {"gte": 1850, "lt": 1900}}, {"not": {"tags": "essay"}}]});
    show(&books, &filter.to_string(), Filter::from_json(&filter)?)?;

    let deleted = books.delete_matching(&"draft = true".parse()?)?;
    println!("\n{deleted} draft deleted, {} books left", books.count()?);
    Ok(())
}

fn show(books: &Collection, title: &str, filter: Filter) -> anyhow::Result<()> {
    println!("\n{title}");
    for hit in books.search(Query::text("a story about a man").filter(filter))? {
        println!("  {:.3} {:<8} {}", hit.score, hit.document.to_string(), hit.metadata);
    }
    Ok(())
}
