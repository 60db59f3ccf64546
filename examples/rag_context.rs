//! From a question to a prompt: search a folder, put the best passages into a context with numbered sources, and hand
//! it to any language model. The same few lines are the retrieval half of a RAG pipeline.
//!
//! Run it with `cargo run --example rag_context -- "your question"`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;

use quiverdb::context::{ContextFormat, Passage, context};
use quiverdb::{AddOptions, Database, Hit, Query, embed, formats};

/// Tokens that the prompt may spend on sources.
const BUDGET_TOKENS: usize = 600;

fn main() -> anyhow::Result<()> {
    let question = std::env::args().nth(1).unwrap_or_else(|| "How do threads share data safely?".into());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/rust-book");

    let db = Database::in_memory()?;
    let book = db.collection("book")?;
    let mut files = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    let report = book.add_with(files.iter().flat_map(|file| formats::load(file)), &AddOptions::default())?;
    println!("{} files, {} passages\n", report.added, report.chunks_embedded);

    let hits = book.search(Query::text(&question).limit(8))?.hits;
    let passages: Vec<Passage> = hits.into_iter().map(passage_of).collect();
    // Count as your language model does; the built-in tokenizer is close enough for English.
    let model = embed::open("builtin")?;
    let count = |text: &str| model.token_ranges(text).len();
    let context = context(&passages, BUDGET_TOKENS, &count, ContextFormat::Text);

    println!("Answer from the numbered sources and cite them, as in [1].\n\n{}\n\nQuestion: {question}", context.text);
    println!("\n({} tokens of context)", context.tokens);
    for citation in &context.citations {
        println!("[{}] {}, bytes {}..{}", citation.number, citation.document, citation.start, citation.end);
    }
    Ok(())
}

fn passage_of(hit: Hit) -> Passage {
    Passage {
        document: hit.document.to_string(),
        title: hit.title,
        heading: hit.heading,
        start: hit.start,
        end: hit.end,
        page: hit.page,
        text: hit.text,
    }
}
