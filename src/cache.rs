//! Was this text embedded before?
//!
//! The same passage is embedded once, whatever documents and collections it is in and however often it is imported: vectors
//! are kept in the database, under all that makes a model what it is and the text. They are written with the documents, by
//! storage; there is no write for the cache alone.
//!
//! Invariants: a vector from the cache is, to the bit, one that this model made of this text; a model that cannot be told
//! from another (an application's own, without a digest) is asked every time, and so is one that computes faster than the
//! cache reads (the built-in kind).

use std::collections::HashMap;

use quiverdb_storage::{CacheKey, Store};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::Result;
use crate::embed::{Embedder, ModelSpec};

/// What a text was embedded as.
const PASSAGE: u8 = 0;

/// The vectors of some texts, in their order.
pub(crate) struct Embedded {
    pub(crate) rows: Vec<Vec<f32>>,
    /// Which of them no model made just now.
    pub(crate) cached: Vec<bool>,
    /// How many texts the model cut to its limit.
    pub(crate) truncated: u64,
}

/// Embeds passages, those that the database has no vector of. Each text goes to the model once, however often it occurs.
///
/// # Errors
/// Those of the model.
pub(crate) fn embed(store: &Store, embedder: &dyn Embedder, texts: &[&str]) -> Result<Embedded> {
    let Some(model) = identity(embedder.spec()) else {
        let (rows, truncated) = ask(embedder, texts)?;
        return Ok(Embedded { cached: vec![false; rows.len()], rows, truncated });
    };
    let keys: Vec<CacheKey> = texts.par_iter().map(|text| key(model, text)).collect();
    let mut known: HashMap<CacheKey, Vec<f32>> = HashMap::with_capacity(keys.len());
    let found = store.cached_vectors(&keys);
    known.extend(keys.iter().zip(found).filter_map(|(key, vector)| Some((*key, vector?))));
    let mut asked: HashMap<CacheKey, usize> = HashMap::new();
    let mut cached = Vec::with_capacity(texts.len());
    let mut fresh = Vec::new();
    for (place, key) in keys.iter().enumerate() {
        let is_new = !known.contains_key(key) && asked.insert(*key, place).is_none();
        if is_new {
            fresh.push(place);
        }
        cached.push(!is_new);
    }
    let (made, truncated) = if fresh.is_empty() {
        (Vec::new(), 0)
    } else {
        ask(embedder, &fresh.iter().map(|&place| texts[place]).collect::<Vec<_>>())?
    };
    let made = || fresh.iter().map(|&place| keys[place]).zip(made.iter().cloned());
    // Which of them were cut is not known, and a later report would not say it.
    if truncated == 0 {
        store.cache_vectors(made().filter(|(_, vector)| is_sound(vector)));
    }
    known.extend(made());
    Ok(Embedded { rows: keys.iter().map(|key| known[key].clone()).collect(), cached, truncated })
}

fn ask(embedder: &dyn Embedder, texts: &[&str]) -> Result<(Vec<Vec<f32>>, u64)> {
    let embeddings = embedder.embed_documents(texts)?;
    embeddings.expect(texts.len(), embedder.spec())?;
    Ok((embeddings.rows().map(<[f32]>::to_vec).collect(), embeddings.truncated as u64))
}

/// What a model once failed to do is not kept for good.
fn is_sound(vector: &[f32]) -> bool {
    vector.iter().all(|number| number.is_finite()) && vector.iter().any(|number| *number != 0.0)
}

fn key(model: [u8; 32], text: &str) -> CacheKey {
    let digest = Sha256::digest(text.as_bytes()).into();
    CacheKey { model, task: PASSAGE, text: digest, text_bytes: text.len() as u64 }
}

/// 256 bits over all that changes a vector; `None` for a model that the cache is not for.
fn identity(spec: &ModelSpec) -> Option<[u8; 32]> {
    let ModelSpec {
        id,
        backend,
        precision,
        device: _,
        revision,
        dims,
        full_dims,
        max_tokens,
        special_tokens,
        metric: _,
        pooling,
        modules,
        normalized,
        query_prompt: _,
        document_prompt,
        weights_digest,
        tokenizer_digest,
        hybrid_weight: _,
        images: _,
    } = spec;
    // Tables of vectors are read faster than the cache: 45,000 passages a second on one core.
    let is_table = matches!(backend.as_str(), "static" | "builtin");
    // A server is taken at its word: its URL and the name of the model there are the id.
    let is_known = !weights_digest.is_empty() || backend == "remote";
    if is_table || !is_known {
        return None;
    }
    let name = if weights_digest.is_empty() { id.as_str() } else { "" };
    let revision = revision.as_deref().filter(|_| weights_digest.is_empty()).unwrap_or_default();
    let numbers = format!("{dims} {full_dims:?} {max_tokens} {special_tokens} {normalized}");
    let mut hasher = Sha256::new();
    for part in [
        name,
        revision,
        backend,
        precision,
        pooling,
        modules,
        document_prompt,
        weights_digest,
        tokenizer_digest,
        numbers.as_str(),
    ] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    Some(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_make_other_vectors_have_other_identities() {
        let base = ModelSpec { weights_digest: "ab".into(), ..ModelSpec::new("m", 4) };
        let of = |change: fn(&mut ModelSpec)| {
            let mut spec = base.clone();
            change(&mut spec);
            identity(&spec)
        };
        let same: [fn(&mut ModelSpec); 5] = [
            |_| {},
            |spec| spec.id = "elsewhere".into(),
            |spec| spec.device = "cuda".into(),
            |spec| spec.hybrid_weight = 2.0,
            |spec| spec.query_prompt = "query: ".into(),
        ];
        for (place, change) in same.into_iter().enumerate() {
            assert!(of(change).is_some() && of(change) == identity(&base), "{place}");
        }
        let other: [fn(&mut ModelSpec); 10] = [
            |spec| spec.weights_digest = "abc".into(),
            |spec| spec.tokenizer_digest = "ab".into(),
            |spec| spec.backend = "onnx".into(),
            |spec| spec.precision = "f16".into(),
            |spec| spec.pooling = "cls".into(),
            |spec| spec.modules = "dense".into(),
            |spec| spec.document_prompt = "passage: ".into(),
            |spec| spec.dims = 2,
            |spec| spec.full_dims = Some(8),
            |spec| spec.max_tokens = 512,
        ];
        for (place, change) in other.into_iter().enumerate() {
            assert!(of(change).is_some_and(|other| Some(other) != identity(&base)), "{place}");
        }
        assert_eq!(of(|spec| spec.weights_digest = String::new()), None, "an application's own, without a digest");
        assert_eq!(of(|spec| spec.backend = "static".into()), None);
        let served = |id: &str| identity(&ModelSpec { backend: "remote".into(), ..ModelSpec::new(id, 4) });
        assert!(served("a").is_some() && served("a") != served("b"));
    }
}
