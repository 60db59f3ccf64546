//! Add a few notes, ask a question, get passages. Nothing is downloaded; the model is inside the library.
//!
//! Run it with `cargo run --example quickstart`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use quiverdb::{Database, Document, Query};
use serde_json::json;

fn main() -> anyhow::Result<()> {
    // `Database::open("notes.db")` keeps it in a folder; this one lives in memory.
    let db = Database::in_memory()?;
    let notes = db.collection("notes")?;

    notes.add(
        Document::new("borrowing", "A value can be borrowed many times for reading, or once for writing.")
            .metadata(json!({"topic": "rust"})),
    )?;
    let report = notes.add_many([
        Document::new("threads", "Share data between threads with a mutex, or send it through a channel."),
        Document::new("bread", "Let the dough rise overnight, then bake it in a hot oven.").title("Sourdough"),
    ])?;
    println!("{} documents added, {} passages embedded", report.added, report.chunks_embedded);

    for question in ["how does borrowing work?", "two threads, one variable", "making a loaf"] {
        println!("\n{question}");
        for hit in notes.search(Query::text(question).limit(2))? {
            println!("  {:.3} {} [{}..{}] {}", hit.score, hit.document, hit.start, hit.end, hit.text);
        }
    }

    // The same id replaces the document and everything that was made of it.
    notes.add(Document::new("bread", "Buy the bread at the corner shop."))?;
    notes.delete("threads")?;
    println!("\nwhat is left:");
    for document in notes.scan()? {
        let document = document?;
        println!("  {}: {}", document.id, document.text);
    }
    Ok(())
}
