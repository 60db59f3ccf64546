//! Which texts does a client of another product send, and how do they become vectors or judgements?
//!
//! Invariants: no text is cut unless the request lets it be; whoever goes away stops the work after a few texts; a model is
//! one that the operator configured, by its own name, and never one that is like it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::embed::{Embedder, NoStatistics};
use crate::rerank::{Judgement, Reranker};
use crate::server::app::{Answer, App, BUILTIN, Kind};
use crate::server::failure::Failure;

/// Texts between two looks at whether somebody still waits for them.
const BATCH_TEXTS: usize = 256;
/// Passages between two such looks; each is a run of a transformer.
const BATCH_PASSAGES: usize = 16;
/// As many texts as a query has at most; more are work for the other lane.
const FEW: usize = 16;

/// One text, several, or what is none.
#[derive(Debug, PartialEq)]
pub(super) enum Texts {
    /// One.
    One(String),
    /// An array of texts.
    Several(Vec<String>),
    /// Numbers: the tokens of somebody's vocabulary.
    Tokens,
}

/// Which side of a search the texts are of: models put other words before queries than before passages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Document,
    Query,
}

/// What was made of texts.
pub(super) struct Embedded {
    pub(super) rows: Vec<Vec<f32>>,
    /// The texts' tokens, as far as the model read them, special ones counted.
    pub(super) tokens: usize,
}

impl Texts {
    /// The texts; `None` where tokens were sent.
    pub(super) fn texts(self) -> Option<Vec<String>> {
        match self {
            Self::One(text) => Some(vec![text]),
            Self::Several(texts) => Some(texts),
            Self::Tokens => None,
        }
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text or an array of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts::One(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Texts, E> {
        Ok(Texts::One(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        let mut tokens = false;
        while let Some(item) = items.next_element()? {
            match item {
                Item::Text(text) => texts.push(text),
                Item::Tokens => tokens = true,
            }
        }
        Ok(if tokens { Texts::Tokens } else { Texts::Several(texts) })
    }
}

/// An item of the array.
enum Item {
    Text(String),
    Tokens,
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<Item, E> {
        Ok(Item::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Item, E> {
        Ok(Item::Text(text))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Item, E> {
        Ok(Item::Tokens)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Item, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Item::Tokens)
    }
}

/// At least one text, none of them empty, in the OpenAPI document.
pub(super) struct SeveralTexts;

fn text_schema() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).min_length(Some(1))
}

impl PartialSchema for SeveralTexts {
    fn schema() -> RefOr<Schema> {
        ArrayBuilder::new().items(text_schema()).min_items(Some(1)).into()
    }
}

impl ToSchema for SeveralTexts {}

impl PartialSchema for Texts {
    fn schema() -> RefOr<Schema> {
        let several = SeveralTexts::schema();
        OneOfBuilder::new().item(text_schema()).item(several).description(Some("A text, or an array of texts")).into()
    }
}

impl ToSchema for Texts {}

/// Why these texts are more or longer than the server takes; `None` where they are not.
pub(super) fn beyond_limits(app: &App, name: &str, texts: &[String]) -> Option<String> {
    let limits = &app.settings.limits;
    if texts.len() > limits.batch {
        return Some(format!(
            "`{name}` has {} texts, and limits.batch is {}: send them in several requests",
            texts.len(),
            limits.batch
        ));
    }
    let (place, long) = texts.iter().enumerate().find(|(_, text)| text.len() > limits.text_bytes)?;
    let (bytes, most) = (long.len(), limits.text_bytes);
    Some(format!("text {place} of `{name}` has {bytes} bytes, and limits.text_bytes is {most}: send it in parts"))
}

/// The place of the first text that is empty.
pub(super) fn first_empty(texts: &[String]) -> Option<usize> {
    texts.iter().position(String::is_empty)
}

/// Where so many texts are worked on: few are a question, which somebody waits for.
pub(super) fn lane(texts: usize) -> Kind {
    if texts <= FEW { Kind::Read } else { Kind::Write }
}

/// The names that requests may have for models that embed: each once, the first that of text-embeddings-inference.
pub(super) fn embedders(app: &App) -> Answer<Vec<String>> {
    let of_collections = app.database.collections()?.into_iter();
    let of_collections = of_collections.flat_map(|stats| stats.spaces).map(|space| space.model);
    let mut names: Vec<String> = Vec::new();
    for name in app.settings.models.iter().cloned().chain([BUILTIN.to_owned()]).chain(of_collections) {
        if name != "external" && !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The model that embeds, by its own name.
pub(super) fn embedder(app: &App, name: &str) -> Answer<Arc<dyn Embedder>> {
    app.embedder(name).map_err(|failure| match failure.code {
        "model_not_configured" => match embedders(app) {
            Ok(names) => no_model(name, &names, "models"),
            Err(failure) => failure,
        },
        _ => failure,
    })
}

/// The cross-encoder of this name, or the first.
pub(super) fn reranker(app: &App, name: Option<&str>) -> Answer<Arc<dyn Reranker>> {
    let names = &app.settings.rerankers;
    let name = match (name, names.first()) {
        (Some(name), _) => name,
        (None, Some(first)) => first,
        (None, None) => {
            let message = "no cross-encoder is configured: the server's operator names one in the setting `rerankers`";
            return Err(Failure::of("model_not_found", message).about("model"));
        }
    };
    app.reranker(name).map_err(|failure| match failure.code {
        "model_not_configured" => no_model(name, names, "rerankers"),
        _ => failure,
    })
}

/// What the model cannot do.
pub(super) fn cannot(message: impl Into<String>) -> Failure {
    Failure::of("model_cannot", message)
}

/// No such model, and which there are.
pub(super) fn no_model(name: &str, names: &[String], setting: &str) -> Failure {
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let message = format!(
        "the model `{name}` does not exist here, and none is taken in its place. Configured: {there}; the server's \
         operator adds one in the setting `{setting}`"
    );
    Failure::of("model_not_found", message).about("model")
}

/// The first text that has more tokens than the model reads, with their number.
pub(super) fn first_too_long(model: &dyn Embedder, texts: &[String]) -> Option<(usize, usize)> {
    let most = model.spec().max_tokens;
    // A token has a byte at least.
    let candidates = texts.iter().enumerate().filter(|(_, text)| text.len() + model.spec().special_tokens > most);
    candidates.map(|(place, text)| (place, tokens(model, text))).find(|(_, tokens)| *tokens > most)
}

/// A text's tokens, special ones counted.
pub(super) fn tokens(model: &dyn Embedder, text: &str) -> usize {
    model.token_ranges(text).len() + model.spec().special_tokens
}

/// Embeds texts, unless nobody waits any more.
pub(super) fn embed(model: &dyn Embedder, side: Side, texts: &[String], cancel: &AtomicBool) -> Answer<Embedded> {
    let spec = model.spec();
    let mut embedded = Embedded { rows: Vec::with_capacity(texts.len()), tokens: 0 };
    for part in texts.chunks(BATCH_TEXTS) {
        expect_waiting(cancel)?;
        let part: Vec<&str> = part.iter().map(String::as_str).collect();
        let made = match side {
            Side::Document => model.embed_documents(&part)?,
            Side::Query => model.embed_queries(&part, &NoStatistics)?,
        };
        made.expect(part.len(), spec)?;
        embedded.rows.extend(made.rows().map(<[f32]>::to_vec));
        embedded.tokens += part.iter().map(|text| tokens(model, text).min(spec.max_tokens)).sum::<usize>();
    }
    Ok(embedded)
}

/// Judges passages, unless nobody waits any more; the best first, each with its place. Of equals the first stays first.
pub(super) fn judge(
    model: &dyn Reranker,
    query: &str,
    passages: &[String],
    cancel: &AtomicBool,
) -> Answer<Vec<(usize, Judgement)>> {
    let mut judged = Vec::with_capacity(passages.len());
    for part in passages.chunks(BATCH_PASSAGES) {
        expect_waiting(cancel)?;
        let part: Vec<&str> = part.iter().map(String::as_str).collect();
        judged.extend(crate::rerank::rerank(model, query, &part, None)?);
    }
    let mut judged: Vec<_> = judged.into_iter().enumerate().collect();
    judged.sort_by(|(_, a), (_, b)| b.logit.total_cmp(&a.logit));
    Ok(judged)
}

/// Nobody reads the answer to a request that was given up.
pub(super) fn expect_waiting(cancel: &AtomicBool) -> Answer<()> {
    if cancel.load(Ordering::Relaxed) { Err(Failure::stopping()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn texts_are_told_from_tokens_and_from_neither() {
        let read = |json: &str| serde_json::from_str::<Texts>(json);
        assert_eq!(read(r#""a""#).unwrap(), Texts::One("a".into()));
        assert_eq!(read(r#"["a", "b"]"#).unwrap(), Texts::Several(vec!["a".into(), "b".into()]));
        assert_eq!(read("[]").unwrap(), Texts::Several(Vec::new()));
        for tokens in ["[1, 2]", "[[1, 2], [3]]", r#"["a", 1]"#] {
            assert_eq!(read(tokens).unwrap(), Texts::Tokens, "{tokens}");
        }
        for neither in ["1", "null", "{}", "[null]", "[{}]", "[1.5]"] {
            assert!(read(neither).unwrap_err().to_string().contains("expected a text"), "{neither}");
        }
    }
}
