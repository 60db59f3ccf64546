//! How does text become vectors with no model to download?
//!
//! A static model (in the manner of model2vec): a vector for every token, summed and brought to unit length. One is
//! inside the binary ([`StaticEmbedder::builtin`]); others come from our own `quiver models distill` or from model2vec
//! and sentence-transformers directories.
//!
//! A passage's vector depends on the passage alone. A query's words are weighted by the square root of their idf in the
//! collection searched, so that stored vectors never depend on what else the collection holds, and queries do. Text
//! without a single known token (emoji, `---`, nothing) gets the vector of `[UNK]`: no vector is ever zero.

mod characters;
mod distill;
mod linear;
mod model2vec;
mod sentences;
mod table;
mod teaching;
mod train;
mod wordpiece;

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

pub use self::distill::{DistillOptions, DistillProgress, Teacher, distill};
pub(super) use self::model2vec::is_static_model;
pub use self::sentences::sentences;
pub use self::table::{Provenance, StaticTable};
use self::wordpiece::{Token, WordPiece};
use super::{Embedder, Embeddings, ModelSpec, WordStatistics};
use crate::{Error, Result};

/// The table in the binary; NOTICE names its teacher.
static BUILTIN: &[u8] = include_bytes!("table.qvst");

/// Tokens of a text that count; the rest is cut. A mean over more says little, and the bound keeps sums exact enough.
const TOKENS_MAX: usize = 8192;
/// Texts that one thread embeds in a row: each takes microseconds.
const TEXTS_PER_TASK: usize = 16;
/// The weight of a static model's cosine in hybrid search: with the built-in model measured best on nine English sets.
const HYBRID_WEIGHT: f32 = 0.3;

/// A query with more than this share of its weight on foreign words is taken to be in another language: these words are
/// then left out, and the rest counts by its share. Measured on questions in eleven languages about English texts
/// (XQuAD): nDCG@10 of hybrid search 0.217 without, 0.274 with it, BM25 alone 0.273; English sets lose 0.002 or nothing.
const FOREIGN_SHARE_MAX: f32 = 0.5;

/// A static model at work.
pub struct StaticEmbedder {
    spec: ModelSpec,
    rows: Rows,
    tokenizer: WordPiece,
    /// What a text without a known token becomes.
    fallback: Vec<f32>,
    tokens_read: AtomicU64,
}

impl StaticEmbedder {
    /// The model inside the binary: English, 256 dimensions. Its vocabulary is indexed on the first call, in a few
    /// milliseconds; later calls share it.
    pub fn builtin() -> Arc<Self> {
        static MODEL: OnceLock<Arc<StaticEmbedder>> = OnceLock::new();
        let load = || {
            let table = StaticTable::from_static(BUILTIN).expect("the table in the binary is sound: a test reads it");
            let mut model = Self::new("builtin", table).expect("the table in the binary has [UNK]: a test reads it");
            model.spec.backend = "builtin".into();
            Arc::new(model)
        };
        MODEL.get_or_init(load).clone()
    }

    /// A table that [`distill`] made, from its file.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read, [`Error::Model`] where it is no sound table.
    pub fn from_table_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|source| Error::io(path, source))?;
        Self::new(&name, StaticTable::from_bytes(bytes, &name)?)
    }

    /// A model2vec directory, or a sentence-transformers directory with a `StaticEmbedding` module.
    ///
    /// # Errors
    /// [`Error::Model`] where it is neither, damaged, or has a tokenizer other than BERT's WordPiece.
    pub fn from_directory(path: impl AsRef<Path>) -> Result<Self> {
        model2vec::load(path.as_ref())
    }

    /// A table at work under a name of its own.
    ///
    /// # Errors
    /// [`Error::Model`] where the table lacks `[UNK]`.
    pub fn new(id: &str, table: StaticTable) -> Result<Self> {
        let tokens = table.tokens();
        let tokenizer = WordPiece::new(tokens.iter().map(String::as_str))
            .ok_or_else(|| Error::model(id, "its vocabulary has no `[UNK]`: only BERT's WordPiece is supported"))?;
        let spec = ModelSpec {
            weights_digest: table.digest(),
            tokenizer_digest: table.vocabulary_digest(),
            ..static_spec(id, table.dims())
        };
        Ok(Self::assemble(spec, Rows::Rounded(table), tokenizer))
    }

    fn assemble(spec: ModelSpec, rows: Rows, tokenizer: WordPiece) -> Self {
        let fallback = fallback(&rows, spec.dims, tokenizer.unknown());
        Self { spec, rows, tokenizer, fallback, tokens_read: AtomicU64::new(0) }
    }

    /// Where the model comes from, if it was made by [`distill`].
    pub fn provenance(&self) -> Option<&Provenance> {
        match &self.rows {
            Rows::Rounded(table) => Some(table.provenance()),
            Rows::Exact { .. } => None,
        }
    }

    /// Fills in one vector; `weights` of the known tokens, 1 where there are none. Tells whether the text was cut.
    fn embed_one(&self, text: &str, weights: &[f32], vector: &mut [f32]) -> bool {
        let mut count = 0;
        self.tokenizer.for_each(text, &mut |Token { id, .. }| {
            if id == self.tokenizer.unknown() {
                return;
            }
            if count < self.spec.max_tokens {
                self.rows.add(id, weights.get(count).copied().unwrap_or(1.0), vector);
            }
            count += 1;
        });
        let read = count.min(self.spec.max_tokens);
        self.tokens_read.fetch_add(read as u64, Ordering::Relaxed);
        self.finish(vector, read);
        count > self.spec.max_tokens
    }

    /// Turns a sum into the mean, or into unit length.
    fn finish(&self, vector: &mut [f32], count: usize) {
        let length = norm(vector);
        if !(length > f32::MIN_POSITIVE && length.is_finite()) {
            vector.copy_from_slice(&self.fallback);
            return;
        }
        let divisor = if self.spec.normalized { length } else { count as f32 };
        vector.iter_mut().for_each(|value| *value /= divisor);
    }

    /// The tokens of a query as the collection sees them.
    fn query_tokens(&self, text: &str, statistics: &dyn WordStatistics) -> QueryTokens {
        let chunks = statistics.chunks();
        let mut tokens = QueryTokens::default();
        let mut last: Option<(Range<usize>, QueryToken)> = None;
        self.tokenizer.for_each(text, &mut |token| {
            let read = match &last {
                Some((word, read)) if *word == token.word => *read,
                _ => {
                    let with = statistics.chunks_with(&text[token.word.clone()]);
                    let foreign = with == Some(0) && token.range != token.word;
                    QueryToken { weight: idf(chunks, with).sqrt(), foreign }
                }
            };
            last = Some((token.word, read));
            if token.id != self.tokenizer.unknown() {
                tokens.0.push(read);
            }
        });
        tokens
    }
}

/// The known tokens of a query.
#[derive(Default)]
struct QueryTokens(Vec<QueryToken>);

#[derive(Clone, Copy)]
struct QueryToken {
    /// The square root of its word's idf.
    weight: f32,
    /// Whether it is a piece of a word that neither the vocabulary nor the collection has.
    foreign: bool,
}

impl QueryTokens {
    /// The share of the weight that lies on foreign words.
    fn foreign_share(&self) -> f32 {
        let sum = |foreign: bool| -> f32 {
            self.0.iter().filter(|token| token.foreign || !foreign).map(|token| token.weight).sum()
        };
        let all = sum(false);
        if all > 0.0 { sum(true) / all } else { 0.0 }
    }

    /// The weight of every token.
    fn weights(&self) -> Vec<f32> {
        let share = self.foreign_share();
        let muted = share > FOREIGN_SHARE_MAX && share < 1.0;
        self.0.iter().map(|token| if muted && token.foreign { 0.0 } else { token.weight }).collect()
    }
}

impl Embedder for StaticEmbedder {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// In parallel; the same bits whatever the batch and the threads.
    fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings> {
        let dims = self.spec.dims;
        let mut values = vec![0.0; texts.len() * dims];
        let vectors = values.par_chunks_mut(dims).zip(texts).with_min_len(TEXTS_PER_TASK);
        let truncated = vectors.map(|(vector, text)| usize::from(self.embed_one(text, &[], vector))).sum();
        Ok(Embeddings { dims, values, truncated })
    }

    fn embed_queries(&self, texts: &[&str], statistics: &dyn WordStatistics) -> Result<Embeddings> {
        if statistics.chunks() == 0 {
            return self.embed_documents(texts);
        }
        // Statistics need not be shared between threads, and queries are few and short: one after the other.
        let dims = self.spec.dims;
        let mut embeddings = Embeddings { dims, values: vec![0.0; texts.len() * dims], truncated: 0 };
        for (text, vector) in texts.iter().zip(embeddings.values.chunks_exact_mut(dims)) {
            let weights = self.query_tokens(text, statistics).weights();
            embeddings.truncated += usize::from(self.embed_one(text, &weights, vector));
        }
        Ok(embeddings)
    }

    fn token_ranges(&self, text: &str) -> Vec<Range<usize>> {
        let mut ranges = Vec::with_capacity(text.len() / 4);
        self.tokenizer.for_each(text, &mut |token| ranges.push(token.range));
        ranges
    }

    fn memory_bytes(&self) -> u64 {
        self.rows.bytes() as u64
    }

    fn tokens_read(&self) -> Option<u64> {
        Some(self.tokens_read.load(Ordering::Relaxed))
    }
}

/// BM25's idf of a word, ln(1 + (N - df + 0.5) / (df + 0.5)); that of a word in every chunk where the collection does
/// not index the word.
fn idf(chunks: u64, with: Option<u64>) -> f32 {
    let with = with.unwrap_or(chunks).min(chunks);
    ((chunks - with) as f32 + 0.5).mul_add(1.0 / (with as f32 + 0.5), 1.0).ln()
}

/// The vectors of tokens.
enum Rows {
    /// Our own tables: a byte a number.
    Rounded(StaticTable),
    /// Models of others, with all their digits; row-major `[tokens, dims]`.
    Exact { dims: usize, values: Vec<f32> },
}

impl Rows {
    /// What they take in memory.
    fn bytes(&self) -> usize {
        match self {
            // With a scale a row.
            Self::Rounded(table) => table.tokens().len() * (table.dims() + size_of::<f32>()),
            Self::Exact { values, .. } => size_of_val(values.as_slice()),
        }
    }

    /// Adds `weight` times a token's row to `sum`.
    fn add(&self, id: u32, weight: f32, sum: &mut [f32]) {
        match self {
            Self::Rounded(table) => table.add_row(id, weight, sum),
            Self::Exact { dims, values } => {
                linear::add_scaled(sum, &values[id as usize * dims..(id as usize + 1) * dims], weight);
            }
        }
    }
}

/// What all static models have in common.
fn static_spec(id: &str, dims: usize) -> ModelSpec {
    ModelSpec {
        backend: "static".into(),
        max_tokens: TOKENS_MAX,
        pooling: "mean".into(),
        normalized: true,
        hybrid_weight: HYBRID_WEIGHT,
        ..ModelSpec::new(id, dims)
    }
}

/// The direction of `[UNK]`'s row; the first axis where that row is zero.
fn fallback(rows: &Rows, dims: usize, unknown: u32) -> Vec<f32> {
    let mut vector = vec![0.0; dims];
    rows.add(unknown, 1.0, &mut vector);
    let length = norm(&vector);
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    } else {
        vector[0] = 1.0;
    }
    vector
}

fn norm(vector: &[f32]) -> f32 {
    vector.iter().map(|value| value * value).sum::<f32>().sqrt()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::embed::NoStatistics;

    /// A collection of a thousand chunks, in which nearly all hold "the" and "data", and few anything else.
    struct Common;

    impl WordStatistics for Common {
        fn chunks(&self) -> u64 {
            1000
        }

        fn chunks_with(&self, word: &str) -> Option<u64> {
            word.chars().all(char::is_alphanumeric).then(|| if ["the", "data"].contains(&word) { 990 } else { 3 })
        }
    }

    /// A collection that holds short words only.
    struct Known;

    impl WordStatistics for Known {
        fn chunks(&self) -> u64 {
            1000
        }

        fn chunks_with(&self, word: &str) -> Option<u64> {
            Some(if word.len() < 10 { 5 } else { 0 })
        }
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        linear::dot(a, b) / (norm(a) * norm(b))
    }

    #[test]
    fn the_table_in_the_binary_is_sound_and_below_eight_million_bytes() {
        let table = StaticTable::from_bytes(BUILTIN.to_vec(), "builtin").unwrap();
        assert_eq!(table, StaticTable::from_static(BUILTIN).unwrap());
        assert!(BUILTIN.len() < 8_000_000, "{} bytes", BUILTIN.len());
        assert_eq!(StaticEmbedder::builtin().spec().dims, 256);
        assert!(table.provenance().licence.contains("Apache"), "{:?}", table.provenance());
    }

    #[test]
    fn texts_of_like_meaning_are_nearer_than_others() {
        let texts = [
            "How do I share data between threads?",
            "Mutexes guard shared state of processes running concurrently.",
            "Bake the bread for forty minutes.",
        ];
        let vectors = StaticEmbedder::builtin().embed_documents(&texts).unwrap();
        let rows: Vec<&[f32]> = vectors.rows().collect();
        let (near, far) = (cosine(rows[0], rows[1]), cosine(rows[0], rows[2]));
        assert!(near > far + 0.1, "{near} against {far}");
    }

    #[test]
    fn every_text_has_a_vector_of_unit_length() {
        let texts = ["", " \n", "🦀🦀", "---", "\u{0}\u{1}", "日本語", "a", "[UNK]", &"x".repeat(5000), "word"];
        for (text, row) in texts.iter().zip(StaticEmbedder::builtin().embed_documents(&texts).unwrap().rows()) {
            assert!((norm(row) - 1.0).abs() < 1e-5, "{text:?} has length {}", norm(row));
        }
    }

    #[test]
    fn a_vector_does_not_depend_on_its_batch() {
        let model = StaticEmbedder::builtin();
        let texts: Vec<String> = (0..100).map(|n| format!("text {n} {}", "of many words ".repeat(n))).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let together = model.embed_documents(&texts).unwrap();
        for (text, row) in texts.iter().zip(together.rows()) {
            assert_eq!(model.embed_documents(&[text]).unwrap().values, row);
        }
    }

    #[test]
    fn common_words_of_a_collection_count_less_in_queries() {
        let model = StaticEmbedder::builtin();
        let words = model.embed_documents(&["the data", "zeppelin"]).unwrap();
        let words: Vec<&[f32]> = words.rows().collect();
        let plain = model.embed_queries(&["the data, zeppelin"], &NoStatistics).unwrap().values;
        let weighed = model.embed_queries(&["the data, zeppelin"], &Common).unwrap().values;
        assert_eq!(plain, model.embed_documents(&["the data, zeppelin"]).unwrap().values);
        assert!(cosine(&weighed, words[1]) > cosine(&plain, words[1]) && cosine(&weighed, words[1]) > 0.95);
        assert!(cosine(&weighed, words[0]) < cosine(&plain, words[0]));
    }

    #[test]
    fn foreign_words_are_left_out_where_most_of_a_query_is_foreign() {
        let model = StaticEmbedder::builtin();
        let vector = |text: &str| model.embed_queries(&[text], &Known).unwrap().values;
        assert_eq!(vector("Wassergeschwindigkeit Überschwemmungsgebiet London"), vector("London"));
        // A foreign word among others counts as it did.
        assert_ne!(
            vector("the water of all the rivers in the south, Wassergeschwindigkeit"),
            vector("the water of all the rivers in the south")
        );
        // Where nothing else is there, it is all there is.
        assert_ne!(vector("Überschwemmungsgebiet"), vector("Wassergeschwindigkeit"));
    }

    #[test]
    fn queries_without_an_indexed_word_have_a_vector() {
        for query in ["?!", "", "the", "🦀"] {
            let vector = StaticEmbedder::builtin().embed_queries(&[query], &Common).unwrap().values;
            assert!((norm(&vector) - 1.0).abs() < 1e-5, "{query:?}");
        }
    }

    #[test]
    fn idf_falls_with_the_chunks_that_hold_the_word_and_stays_above_zero() {
        assert!((idf(10, Some(1)) - (1.0_f32 + 9.5 / 1.5).ln()).abs() < 1e-6);
        assert!(idf(10, Some(0)) > idf(10, Some(1)) && idf(10, Some(10)) > 0.0);
        assert_eq!(idf(10, None), idf(10, Some(10)));
        assert_eq!(idf(10, Some(99)), idf(10, Some(10)), "statistics that were outrun by a delete");
    }

    #[test]
    fn longer_texts_than_the_limit_are_cut_and_counted() {
        let model = StaticEmbedder::builtin();
        let (fits, long) = ("word ".repeat(TOKENS_MAX), "word ".repeat(TOKENS_MAX) + "zeppelin");
        let vectors = model.embed_documents(&[&fits, &long]).unwrap();
        assert_eq!(vectors.truncated, 1);
        assert_eq!(vectors.values[..256], vectors.values[256..]);
    }

    #[test]
    fn a_table_is_the_same_model_from_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), BUILTIN).unwrap();
        let (model, builtin) = (StaticEmbedder::from_table_file(file.path()).unwrap(), StaticEmbedder::builtin());
        assert_eq!(model.spec().weights_digest, builtin.spec().weights_digest);
        let texts = ["A sentence of seven words, or six."];
        assert_eq!(model.embed_documents(&texts).unwrap(), builtin.embed_documents(&texts).unwrap());
    }
}
