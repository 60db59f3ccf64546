//! May this `tokenizer.json` be handed to the tokenizers crate, and what if that panics?
//!
//! The crate takes a file at its word: a short one can make it build a text of terabytes or panic. What tokenizers of real
//! models never have is refused before, by name; a panic becomes an error. Growth within a precompiled map of characters
//! is bounded by that map's size alone.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Deserialize;
use serde_json::Value;

/// The largest `tokenizer.json`: Gemma's, with 262,144 tokens, has 33 MB.
pub(super) const BYTES_MAX: u64 = 64 << 20;
/// XLM-RoBERTa's map of characters takes 0.3 MB.
const NORMALIZER_SIZE_MAX: usize = 4 << 20;
const RULES_SIZE_MAX: usize = 64 << 10;
/// Gemma adds 6,414 tokens to its model's.
const ADDED_TOKENS_MAX: usize = 1 << 16;
const ADDED_BYTES_MAX: usize = 4 << 20;
/// BERT's is 100; the time for a word grows with the square.
const WORD_CHARACTERS_MAX: u64 = 1000;
/// Parts of a template: BERT's pair has 5.
const TEMPLATE_PARTS_MAX: usize = 64;
/// How many times longer replacements may make a text: a blank becomes 3 bytes in SentencePiece's.
const GROWTH_MAX: usize = 64;

/// The parts of a `tokenizer.json` that can do harm.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    content: String,
}

#[derive(Deserialize)]
struct Model {
    max_input_chars_per_word: Option<u64>,
    dropout: Option<f64>,
}

/// Refuses what no real tokenizer has.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| format!("cannot be read: {error}"))?;
    let File { added_tokens, normalizer, pre_tokenizer, post_processor, model } = file;
    let added_bytes: usize = added_tokens.iter().map(|token| token.content.len()).sum();
    let word = model.max_input_chars_per_word.unwrap_or(0);
    let limits = [
        ("adds tokens to its model's", added_tokens.len(), ADDED_TOKENS_MAX),
        ("adds tokens of so many bytes", added_bytes, ADDED_BYTES_MAX),
        ("has a normalizer of the size", size(&normalizer), NORMALIZER_SIZE_MAX),
        ("has a pre_tokenizer of the size", size(&pre_tokenizer), RULES_SIZE_MAX),
        ("has a post_processor of the size", size(&post_processor), RULES_SIZE_MAX),
        ("has a template with parts", template_parts(&post_processor), TEMPLATE_PARTS_MAX),
        ("makes a text longer by replacements, times", growth(&normalizer), GROWTH_MAX),
    ];
    if let Some((what, found, most)) = limits.iter().find(|(_, found, most)| found > most) {
        return Err(format!("{what}: {found}, where at most {most} are allowed; it is not used"));
    }
    if word > WORD_CHARACTERS_MAX {
        return Err(format!("has max_input_chars_per_word {word}, where at most {WORD_CHARACTERS_MAX} is allowed"));
    }
    if let Some(token) = undefined(&post_processor) {
        return Err(format!("has a template with the special token `{token}`, which it does not define"));
    }
    match model.dropout {
        Some(dropout) if dropout != 0.0 => {
            Err(format!("has a dropout of {dropout}, which cuts texts at random; set it to null"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Values, and bytes of text.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + size(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The longest template's parts; sequences of processors add up.
fn template_parts(value: &Value) -> usize {
    let own = items(value, "single").len().max(items(value, "pair").len());
    items(value, "processors").iter().fold(own, |sum, inner| sum.saturating_add(template_parts(inner)))
}

/// A special token of a template that is not among those that it defines; the crate would panic.
fn undefined(value: &Value) -> Option<&str> {
    let defined = value.get("special_tokens");
    let pieces = items(value, "single").iter().chain(items(value, "pair"));
    let mut named = pieces.filter_map(|piece| piece.get("SpecialToken")?.get("id")?.as_str());
    let own = named.find(|name| defined.is_none_or(|defined| defined.get(name).is_none()));
    own.or_else(|| items(value, "processors").iter().find_map(undefined))
}

/// How many times longer a text can become by replacing and prepending, at most.
fn growth(value: &Value) -> usize {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().len();
    let pattern = |kind: &str| value["pattern"].get(kind).and_then(Value::as_str).map(str::len);
    let own = match (value.get("type").and_then(Value::as_str), pattern("String")) {
        (Some("Replace"), Some(replaced @ 1..)) => text("content").div_ceil(replaced).max(1),
        // A regular expression may match nothing, between any two characters.
        (Some("Replace"), _) => text("content") + 1,
        (Some("Prepend"), _) => text("prepend").div_ceil(16).max(1),
        _ => 1,
    };
    items(value, "normalizers").iter().fold(own, |product, inner| product.saturating_mul(growth(inner)))
}

/// Runs `work`; a panic in it becomes its message. What `work` leaves behind must not be used after one.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|&text| text.to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        format!("the tokenizers crate panicked: {text}")
    })
}
