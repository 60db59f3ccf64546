//! How does a static model come out of an encoder?
//!
//! Each token alone through the teacher gives the first rows, in the leading directions of the teacher's sentence
//! vectors, times a fixed weight a / (a + p) of the token's frequency p (Arora et al. 2017); then the table is trained
//! against the teacher's vectors of many sentences. Measured on nine English retrieval sets, mean nDCG@10: vocabulary
//! ranks for frequencies 0.322, real frequencies 0.370, trained 0.429.

use std::path::PathBuf;

use super::linear::{leading_directions, multiply_transposed, normalize_rows};
use super::table::{Provenance, StaticTable};
use super::teaching::sentence_vectors;
use super::train::{Lessons, Schedule, train};
use super::wordpiece::WordPiece;
use crate::embed::Embeddings;
use crate::{Error, Result};

/// The `a` of the weight a / (a + p).
const FREQUENCY_PIVOT: f32 = 1e-3;
/// Tokens given to the teacher at once.
const TOKENS_BLOCK: usize = 1024;
/// Tokens without a meaning of their own, which no text gets; `[UNK]` stays.
const DROPPED: [&str; 4] = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"];

/// An encoder that a static model learns from.
pub trait Teacher {
    /// The tokens in the order of their ids: a WordPiece vocabulary, with `##`.
    fn vocabulary(&self) -> Vec<String>;

    /// Each token alone, as `[CLS] id [SEP]`: the mean over all positions, not normalised.
    ///
    /// # Errors
    /// Where the model fails.
    fn embed_tokens(&self, ids: &[u32]) -> Result<Embeddings>;

    /// The vectors that the model gives sentences.
    ///
    /// # Errors
    /// Where the model fails.
    fn embed_sentences(&self, texts: &[&str]) -> Result<Embeddings>;
}

/// How to distil. The defaults made the built-in model.
#[derive(Clone, Debug)]
pub struct DistillOptions {
    /// Numbers in a vector; at most the teacher's.
    pub dims: usize,
    /// Sentences used at most: the first ones given.
    pub sentences_max: usize,
    /// Passes over the sentences. More of them fit the sentences better and retrieve worse: rare tokens drift.
    pub epochs: usize,
    /// Sentences of a training step.
    pub batch: usize,
    /// Adam's learning rate.
    pub learning_rate: f32,
    /// Orders the sentences of each pass.
    pub seed: u64,
    /// Keeps the teacher's sentence vectors between runs, and through an interruption.
    pub teacher_cache: Option<PathBuf>,
    /// Written into the model.
    pub provenance: Provenance,
}

impl Default for DistillOptions {
    fn default() -> Self {
        Self {
            dims: 256,
            sentences_max: 150_000,
            epochs: 6,
            batch: 512,
            learning_rate: 2e-3,
            seed: 1,
            teacher_cache: None,
            provenance: Provenance::default(),
        }
    }
}

/// How far a distillation is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum DistillProgress {
    /// The teacher reads tokens.
    Tokens {
        /// Read so far.
        done: usize,
        /// To read in all.
        total: usize,
    },
    /// The teacher reads sentences: the long part.
    Sentences {
        /// Read so far.
        done: usize,
        /// To read in all.
        total: usize,
    },
    /// The table was trained once more over all sentences.
    Training {
        /// Passes done.
        epoch: usize,
        /// Passes in all.
        epochs: usize,
        /// The mean loss of this pass.
        loss: f64,
    },
}

/// Makes a static model from an encoder and sentences like those that it will meet
/// ([`sentences`](super::sentences()) picks them). The same input gives the same model, whatever the number of threads.
/// With MiniLM, 150,000 sentences and two cores, the teacher takes some twenty minutes, the training one.
///
/// # Errors
/// [`Error::InvalidInput`] where the options or the vocabulary do not fit, and what the teacher gives.
pub fn distill(
    teacher: &dyn Teacher,
    sentences: &[String],
    options: &DistillOptions,
    progress: &mut dyn FnMut(DistillProgress),
) -> Result<StaticTable> {
    let all = teacher.vocabulary();
    let ids: Vec<u32> = (0..all.len() as u32).filter(|&id| is_kept(&all[id as usize])).collect();
    let tokens: Vec<String> = ids.iter().map(|&id| all[id as usize].clone()).collect();
    let tokenizer = WordPiece::new(tokens.iter().map(String::as_str)).ok_or_else(|| {
        Error::invalid("the teacher's vocabulary has no `[UNK]`: only BERT's WordPiece vocabularies are supported")
    })?;
    let taken = &sentences[..sentences.len().min(options.sentences_max)];
    let (texts, starts, occurrences) = tokenise(&tokenizer, taken);
    let alone = token_vectors(teacher, &ids, progress)?;
    let (teachings, width) = sentence_vectors(teacher, &texts, options.teacher_cache.as_deref(), progress)?;
    check(options, texts.len(), width, alone.len() / ids.len())?;

    let directions = leading_directions(&teachings, width, options.dims);
    let mut targets = multiply_transposed(&teachings, &directions, width);
    normalize_rows(&mut targets, options.dims);
    let mut rows = multiply_transposed(&centred(alone, width), &directions, width);
    weigh(&mut rows, options.dims, &frequencies(&occurrences, ids.len()));
    let lessons = Lessons { starts, tokens: occurrences, targets, dims: options.dims };
    let DistillOptions { epochs, batch, learning_rate, seed, .. } = *options;
    train(&mut rows, &lessons, &Schedule { epochs, batch, learning_rate, seed }, progress);
    StaticTable::quantise(options.provenance.clone(), tokens, options.dims, &rows)
}

fn is_kept(token: &str) -> bool {
    let is_unused = token.starts_with("[unused") && token.ends_with(']');
    !is_unused && !DROPPED.contains(&token)
}

fn check(options: &DistillOptions, sentences: usize, width: usize, token_width: usize) -> Result<()> {
    let DistillOptions { dims, batch, .. } = *options;
    if dims == 0 || dims > width {
        return Err(Error::invalid(format!(
            "the teacher's vectors have {width} dimensions; {dims} cannot be made of them"
        )));
    }
    if token_width != width {
        return Err(Error::invalid(format!(
            "the teacher's token vectors have {token_width} dimensions, its sentence vectors {width}: a teacher whose \
             last layer changes the dimensions cannot be distilled"
        )));
    }
    if sentences < 2 || batch < 2 {
        return Err(Error::invalid(format!("{sentences} sentences in batches of {batch}: both must be at least 2")));
    }
    Ok(())
}

/// The sentences with a known token, where their tokens begin, and all these tokens.
fn tokenise<'a>(tokenizer: &WordPiece, sentences: &'a [String]) -> (Vec<&'a str>, Vec<u32>, Vec<u32>) {
    let (mut texts, mut starts, mut tokens) = (Vec::new(), vec![0], Vec::new());
    for sentence in sentences {
        let before = tokens.len();
        tokenizer.for_each(sentence, &mut |token| {
            if token.id != tokenizer.unknown() {
                tokens.push(token.id);
            }
        });
        if tokens.len() > before {
            texts.push(sentence.as_str());
            starts.push(tokens.len() as u32);
        }
    }
    (texts, starts, tokens)
}

fn token_vectors(teacher: &dyn Teacher, ids: &[u32], progress: &mut dyn FnMut(DistillProgress)) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    for (block, ids_of_block) in ids.chunks(TOKENS_BLOCK).enumerate() {
        progress(DistillProgress::Tokens { done: block * TOKENS_BLOCK, total: ids.len() });
        let answer = teacher.embed_tokens(ids_of_block)?;
        if answer.dims == 0 || answer.values.len() != ids_of_block.len() * answer.dims {
            let (rows, wanted) = (answer.values.len() / answer.dims.max(1), ids_of_block.len());
            return Err(Error::Embedding(format!("the teacher gave {rows} vectors for {wanted} tokens")));
        }
        values.extend_from_slice(&answer.values);
    }
    progress(DistillProgress::Tokens { done: ids.len(), total: ids.len() });
    Ok(values)
}

/// Without what all tokens have in common, which tells none from another.
fn centred(mut vectors: Vec<f32>, width: usize) -> Vec<f32> {
    let mut mean = vec![0.0_f64; width];
    for vector in vectors.chunks_exact(width) {
        mean.iter_mut().zip(vector).for_each(|(mean, value)| *mean += f64::from(*value));
    }
    let count = (vectors.len() / width) as f64;
    for vector in vectors.chunks_exact_mut(width) {
        vector.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= (mean / count) as f32);
    }
    vectors
}

/// The share of each token among all occurrences.
fn frequencies(occurrences: &[u32], tokens: usize) -> Vec<f32> {
    let mut counts = vec![0_u32; tokens];
    occurrences.iter().for_each(|&token| counts[token as usize] += 1);
    counts.into_iter().map(|count| count as f32 / occurrences.len().max(1) as f32).collect()
}

fn weigh(rows: &mut [f32], dims: usize, frequencies: &[f32]) {
    for (row, frequency) in rows.chunks_exact_mut(dims).zip(frequencies) {
        row.iter_mut().for_each(|value| *value *= FREQUENCY_PIVOT / (FREQUENCY_PIVOT + frequency));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::embed::Embedder;
    use crate::embed::builtin::StaticEmbedder;
    use crate::embed::builtin::sentences::mix;
    use crate::embed::builtin::wordpiece::UNKNOWN;

    /// Means of fixed random token vectors: a static model itself, so a student can learn it.
    struct Random;

    const WIDTH: usize = 12;
    const WORDS: [&str; 12] =
        ["[PAD]", "[UNK]", "[CLS]", "[unused0]", "red", "green", "blue", "tall", "small", "house", "tree", "##s"];

    fn vector(id: u32) -> Vec<f32> {
        (0..WIDTH as u64).map(|n| (mix(u64::from(id) * 100 + n) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    impl Teacher for Random {
        fn vocabulary(&self) -> Vec<String> {
            WORDS.map(str::to_owned).to_vec()
        }

        fn embed_tokens(&self, ids: &[u32]) -> Result<Embeddings> {
            let values = ids.iter().flat_map(|&id| vector(id)).collect();
            Ok(Embeddings { dims: WIDTH, values, truncated: 0 })
        }

        fn embed_sentences(&self, texts: &[&str]) -> Result<Embeddings> {
            let tokenizer = WordPiece::new(WORDS.into_iter()).unwrap();
            let mut values = Vec::new();
            for text in texts {
                let mut sum = vec![0.0; WIDTH];
                tokenizer.for_each(text, &mut |token| {
                    sum.iter_mut().zip(vector(token.id)).for_each(|(sum, value)| *sum += value);
                });
                values.append(&mut sum);
            }
            Ok(Embeddings { dims: WIDTH, values, truncated: 0 })
        }
    }

    fn corpus() -> Vec<String> {
        let word = |n: u64| WORDS[4 + (mix(n) % 7) as usize];
        (0..300).map(|n| format!("{} {} {}s", word(3 * n), word(3 * n + 1), word(3 * n + 2))).collect()
    }

    fn options() -> DistillOptions {
        DistillOptions { dims: WIDTH, epochs: 40, batch: 50, learning_rate: 1e-2, ..DistillOptions::default() }
    }

    #[test]
    fn a_student_learns_the_teachers_similarities() {
        let model =
            StaticEmbedder::new("student", distill(&Random, &corpus(), &options(), &mut |_| ()).unwrap()).unwrap();
        let texts = ["red house", "green house", "small trees"];
        let cosine = |e: &Embeddings, a: usize, b: usize| {
            let row = |n: usize| &e.values[n * e.dims..(n + 1) * e.dims];
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            dot(row(a), row(b)) / (dot(row(a), row(a)) * dot(row(b), row(b))).sqrt()
        };
        let (student, teacher) = (model.embed_documents(&texts).unwrap(), Random.embed_sentences(&texts).unwrap());
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let (got, wanted) = (cosine(&student, a, b), cosine(&teacher, a, b));
            assert!((got - wanted).abs() < 0.1, "{} and {}: {got}, the teacher says {wanted}", texts[a], texts[b]);
        }
    }

    #[test]
    fn an_interrupted_run_goes_on_with_the_vectors_it_kept_and_makes_the_same_model() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("vectors");
        let options = DistillOptions { teacher_cache: Some(cache.clone()), epochs: 2, ..options() };
        let whole = distill(&Random, &corpus(), &options, &mut |_| ()).unwrap();
        let length = std::fs::metadata(&cache).unwrap().len();
        std::fs::OpenOptions::new().write(true).open(&cache).unwrap().set_len(length - 100).unwrap();
        assert_eq!(distill(&Random, &corpus(), &options, &mut |_| ()).unwrap(), whole);
        assert_eq!(std::fs::metadata(&cache).unwrap().len(), length);
    }

    #[test]
    fn tokens_that_no_text_gets_are_left_out() {
        let table = distill(&Random, &corpus(), &DistillOptions { epochs: 1, ..options() }, &mut |_| ()).unwrap();
        assert_eq!(table.tokens()[0], UNKNOWN);
        assert_eq!(table.tokens().len(), WORDS.len() - 3);
    }

    #[test]
    fn more_dimensions_than_the_teacher_has_are_refused() {
        let options = DistillOptions { dims: WIDTH + 1, ..options() };
        let error = distill(&Random, &corpus(), &options, &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains("12") && error.contains("13"), "{error}");
    }
}
