//! From questions to prompts in an asynchronous program: many questions at once, none of which blocks the runtime. What is
//! asked here one after the other by a loop, a web service asks for each of its requests.
//!
//! Run it with `cargo run --features server --example async_rag`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;

use quiverdb::context::{ContextFormat, ContextOptions};
use quiverdb::nonblocking::AsyncDatabase;
use quiverdb::{Query, formats};

const QUESTIONS: [&str; 3] =
    ["How do threads share data safely?", "When is a value dropped?", "What does the question mark do?"];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let db = AsyncDatabase::in_memory()?;
    let book = db.collection("book").await?;

    // Files are read, cut and embedded on a thread of their own; meanwhile the runtime is free.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/rust-book");
    let mut files = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    let documents = files.into_iter().flat_map(|file| formats::load(&file)).filter_map(Result::ok);
    let report = book.add_many(documents).await?;
    println!("{} files, {} passages\n", report.added, report.chunks_embedded);

    let asked: Vec<_> = QUESTIONS
        .into_iter()
        .map(|question| {
            let book = book.clone();
            tokio::spawn(async move {
                let options = ContextOptions::new(300).format(ContextFormat::Text);
                // Every call of the library can be made so, not only those with a method of their own.
                book.call(move |book| book.context(Query::text(question).limit(4), &options)).await
            })
        })
        .collect();
    for (question, context) in QUESTIONS.into_iter().zip(asked) {
        let context = context.await??;
        let sources: Vec<String> = context.citations.iter().map(|cited| cited.document.to_string()).collect();
        println!("{question}\n  {} tokens from {}", context.tokens, sources.join(", "));
    }
    Ok(())
}
