//! Where does a test take place? Databases, models and chance for the other modules.

use std::path::Path;
use std::process::Command;

use quiverdb::embed::{Embeddings, ModelSpec, WordStatistics};
use quiverdb::{Collection, Database, Document, Embedder, Hit, Query, Result};

/// An in-memory database with one collection of the built-in model.
pub(crate) fn notes() -> (Database, Collection) {
    let db = Database::in_memory().unwrap();
    let notes = db.collection("notes").unwrap();
    (db, notes)
}

/// A folder that is removed when the test ends.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Runs one test of this binary in a process of its own. `role` is what the child finds in [`role`].
pub(crate) fn child(test: &str, role: &str, working_directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env("QUIVER_TEST_ROLE", role).current_dir(working_directory);
    command
}

/// What a process started by [`child`] was asked to be; `None` in the test run itself.
pub(crate) fn role() -> Option<String> {
    std::env::var("QUIVER_TEST_ROLE").ok()
}

/// The ids of hits, as text.
pub(crate) fn ids(hits: &[Hit]) -> Vec<String> {
    hits.iter().map(|hit| hit.document.to_string()).collect()
}

/// Searches and checks what holds of every answer: best first, finite scores, exact byte ranges, documents as stored.
pub(crate) fn search(collection: &Collection, query: Query) -> Vec<Hit> {
    let hits = collection.search(query).unwrap().hits;
    for pair in hits.windows(2) {
        assert!(pair[0].score >= pair[1].score, "hits are not in order: {} before {}", pair[0].score, pair[1].score);
    }
    for hit in &hits {
        assert!(hit.score.is_finite(), "{} has score {}", hit.document, hit.score);
        let document = collection.get(hit.document.clone()).unwrap().expect("a hit's document is there");
        assert_eq!(document.text[hit.start..hit.end], hit.text, "{} chunk {}", hit.document, hit.chunk);
        assert_eq!(document.metadata, hit.metadata);
        assert_eq!(document.title, hit.title);
    }
    hits
}

/// A model that sees one letter: passages by their first, queries by their last. What it makes of other letters is a
/// vector that points elsewhere.
pub(crate) struct Letters(ModelSpec);

impl Letters {
    pub(crate) fn new() -> Self {
        Self(ModelSpec::new("letters", 27))
    }

    fn embed(texts: &[&str], letter: impl Fn(&str) -> Option<char>) -> Result<Embeddings> {
        let mut values = vec![0.0; texts.len() * 27];
        for (row, text) in texts.iter().enumerate() {
            let letter = letter(text).filter(char::is_ascii_lowercase);
            values[row * 27 + letter.map_or(26, |letter| letter as usize - 'a' as usize)] = 1.0;
        }
        Ok(Embeddings { dims: 27, values, truncated: 0 })
    }
}

impl Embedder for Letters {
    fn spec(&self) -> &ModelSpec {
        &self.0
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings> {
        Self::embed(texts, |text| text.chars().next())
    }

    fn embed_queries(&self, texts: &[&str], _: &dyn WordStatistics) -> Result<Embeddings> {
        Self::embed(texts, |text| text.chars().next_back())
    }
}

/// A text of many paragraphs, each sentence with the words given, so that it makes several chunks, all with them.
pub(crate) fn long_text(words: &str, paragraphs: usize) -> String {
    let again = format!("This sentence says again, and not for the first time, {words}. ").repeat(10);
    (0..paragraphs).map(|n| format!("Paragraph {n} of this text is about {words}. {again}\n\n")).collect()
}

/// Numbers by chance, the same for the same seed (SplitMix64; Steele, Lea and Flood, 2014).
pub(crate) struct Chance(u64);

impl Chance {
    /// A new one, with its seed printed. `variable` names the environment variable that sets the seed.
    pub(crate) fn new(variable: &str) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let chosen = std::env::var(variable).ok().map(|seed| seed.parse().unwrap());
        let seed = chosen.unwrap_or(now.as_nanos() as u64);
        println!("seed: {variable}={seed}");
        Self(seed)
    }

    /// The one of this seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Three notes on Rust, one on bread.
pub(crate) fn four_notes() -> Vec<Document> {
    use serde_json::json;
    vec![
        Document::new("borrowing", "A value can be borrowed many times for reading, or once for writing.")
            .title("Borrowing")
            .metadata(json!({"topic": "rust", "year": 2021})),
        Document::new("threads", "Share data between threads with a mutex, or send it through a channel.")
            .metadata(json!({"topic": "rust", "year": 2023})),
        Document::new("errors", "The question mark operator returns early when a function fails.")
            .metadata(json!({"topic": "rust", "year": 2022})),
        Document::new("bread", "Let the dough rise overnight, then bake it in a hot oven until the crust is brown.")
            .metadata(json!({"topic": "kitchen", "year": 2022})),
    ]
}
