//! Bring your own model: implement two methods of `Embedder`. The collection remembers what it was built with, and
//! refuses any other model by name.
//!
//! Run it with `cargo run --example own_embedder`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use quiverdb::embed::{Embeddings, ModelSpec};
use quiverdb::{CollectionConfig, Database, Document, Embedder, Mode, Query};

const DIMS: usize = 256;

/// Counts the letter pairs of a text, so that misspelt words still look alike. Yours calls a neural network.
struct LetterPairs {
    spec: ModelSpec,
}

impl Embedder for LetterPairs {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn embed_documents(&self, texts: &[&str]) -> quiverdb::Result<Embeddings> {
        let mut values = vec![0.0; texts.len() * DIMS];
        for (vector, text) in values.chunks_exact_mut(DIMS).zip(texts) {
            // Never a zero vector: it has no direction, and would be refused.
            vector[0] = 0.01;
            for pair in text.to_lowercase().as_bytes().windows(2) {
                vector[(usize::from(pair[0]) * 31 + usize::from(pair[1])) % DIMS] += 1.0;
            }
        }
        Ok(Embeddings { dims: DIMS, values, truncated: 0 })
    }
}

fn main() -> anyhow::Result<()> {
    let pairs = Arc::new(LetterPairs { spec: ModelSpec::new("letter-pairs", DIMS) });
    let db = Database::in_memory()?;
    let rivers = db.collection_with("rivers", CollectionConfig::new().embedder(pairs))?;
    rivers.add_many(["Mississippi", "Danube", "Brahmaputra", "Yangtze"].map(|name| Document::new(name, name)))?;

    for misspelt in ["Misisipi", "Bramaputra", "Jangtse"] {
        let found = rivers.search(Query::text(misspelt).mode(Mode::Dense).limit(1))?;
        println!("{misspelt:<12} {} ({:.3})", found.hits[0].document, found.hits[0].score);
    }

    // Another model would make vectors that mean something else.
    if let Err(refusal) = db.collection_with("rivers", CollectionConfig::new().model("builtin")) {
        println!("\n{refusal}");
    }
    Ok(())
}
