//! What do clients of text-embeddings-inference ask?
//!
//! It has one model a server: here that is the first of the setting `models`, or the built-in one, and for `/rerank` the
//! first of `rerankers`. A text that is too long is cut unless `truncate` is false, as there with `auto_truncate`. Without a
//! `prompt_name` texts are embedded as passages.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::shapes::{self, Object};
use super::texts::{self, SeveralTexts, Side, Texts};
use crate::embed::{self, Embedder};
use crate::rerank::{Judgement, Reranker};
use crate::server::app::{Answer, App, BUILTIN};
use crate::server::body::Json;
use crate::server::failure::Failure;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(embed))
        .routes(routes!(similarity))
        .routes(routes!(rerank))
        .routes(routes!(tokenize))
        .routes(routes!(info))
        .routes(routes!(health))
        // What is always refused is no part of the document of what can be asked.
        .route("/embed_all", post(embed_all))
        .route("/embed_sparse", post(embed_sparse))
        .route("/predict", post(predict))
}

/// Whether a client of text-embeddings-inference asks for this path.
pub(super) fn is_route(path: &str) -> bool {
    const PATHS: &[&str] = &[
        "/embed",
        "/embed_all",
        "/embed_sparse",
        "/predict",
        "/similarity",
        "/rerank",
        "/tokenize",
        "/info",
        "/health",
    ];
    PATHS.contains(&path)
}

/// Texts to embed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TeiEmbedRequest {
    inputs: Texts,
    /// Whether vectors are scaled to unit length, as a rule; where not, they are as the model makes them.
    #[serde(default)]
    normalize: Option<bool>,
    /// `false` refuses a text that is longer than the model reads; else it is cut.
    #[serde(default)]
    truncate: Option<bool>,
    /// `Right`: the end is cut off.
    #[serde(default)]
    #[expect(dead_code, reason = "its type takes nothing else")]
    truncation_direction: Option<TeiDirection>,
    /// `query`, or `document` as a rule.
    #[serde(default)]
    prompt_name: Option<TeiPrompt>,
    /// Keeps the first numbers of each vector.
    #[serde(default, deserialize_with = "shapes::count")]
    #[schema(minimum = 1, maximum = 4_294_967_295u32)]
    dimensions: Option<usize>,
    /// `float`.
    #[serde(default)]
    #[expect(dead_code, reason = "its type takes nothing else")]
    encoding_format: Option<TeiEncoding>,
}

/// Which end of a text is cut.
#[derive(Deserialize, ToSchema)]
enum TeiDirection {
    Right,
    /// The same.
    #[serde(rename = "right")]
    LowerRight,
}

/// Which side of a search.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum TeiPrompt {
    Query,
    Document,
    Passage,
}

/// How vectors are written.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum TeiEncoding {
    Float,
}

/// A sentence and those that it is compared with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TeiSimilarityRequest {
    #[schema(value_type = TeiSimilarityInputs)]
    inputs: Object<TeiSimilarityInputs>,
    #[serde(default)]
    #[schema(value_type = Option<TeiSimilarityParameters>)]
    parameters: Option<Object<TeiSimilarityParameters>>,
}

/// The sentences.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TeiSimilarityInputs {
    #[schema(min_length = 1)]
    source_sentence: String,
    #[schema(value_type = SeveralTexts)]
    sentences: Vec<String>,
}

/// How they are embedded.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TeiSimilarityParameters {
    /// `false` refuses a text that is longer than the model reads; else it is cut.
    #[serde(default)]
    truncate: Option<bool>,
    /// `Right`: the end is cut off.
    #[serde(default)]
    #[expect(dead_code, reason = "its type takes nothing else")]
    truncation_direction: Option<TeiDirection>,
    /// `query`, or `document` as a rule.
    #[serde(default)]
    prompt_name: Option<TeiPrompt>,
}

/// Texts to rank.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TeiRerankRequest {
    #[schema(min_length = 1)]
    query: String,
    #[schema(min_items = 1)]
    texts: Vec<String>,
    /// Whether scores are the numbers that the model gave, and not probabilities.
    #[serde(default)]
    raw_scores: bool,
    /// Whether the texts are given back.
    #[serde(default)]
    return_text: bool,
    /// `false` refuses a text that is longer than the model reads; else it is cut.
    #[serde(default)]
    truncate: Option<bool>,
    /// `Right`: the end is cut off.
    #[serde(default)]
    #[expect(dead_code, reason = "its type takes nothing else")]
    truncation_direction: Option<TeiDirection>,
}

/// One text's place.
#[derive(Serialize, ToSchema)]
struct TeiRank {
    /// Its place among those that were sent.
    index: usize,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// Texts to cut into tokens.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TeiTokenizeRequest {
    inputs: Texts,
    /// `false` as a rule; `true` is refused of models that have special tokens, because these are not part of the text.
    #[serde(default)]
    add_special_tokens: Option<bool>,
}

/// A token. Its number in the vocabulary is not told: engines tell where tokens lie, and no numbers.
#[derive(Serialize, ToSchema)]
struct TeiToken {
    text: String,
    special: bool,
    /// Its first character.
    start: usize,
    /// The first character behind it.
    stop: usize,
}

/// What the server runs.
#[derive(Serialize, ToSchema)]
struct TeiInfo {
    model_id: String,
    /// Its revision.
    model_sha: Option<String>,
    /// The kind of its weights.
    model_dtype: String,
    model_type: TeiModelType,
    max_concurrent_requests: usize,
    /// In tokens.
    max_input_length: usize,
    max_client_batch_size: usize,
    auto_truncate: bool,
    /// The first cross-encoder, which answers `/rerank`.
    reranker_id: Option<String>,
    version: &'static str,
}

/// What the model is for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum TeiModelType {
    Embedding { pooling: String },
}

/// A failure in text-embeddings-inference's shape.
#[derive(Serialize, ToSchema)]
pub(super) struct TeiFailure {
    /// What happened, and what to do next.
    error: String,
    error_type: TeiFailureType,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
enum TeiFailureType {
    Unhealthy,
    Backend,
    Overloaded,
    Validation,
    Empty,
}

/// Embeds texts.
#[utoipa::path(
    post,
    path = "/embed",
    tag = "text-embeddings-inference",
    request_body = TeiEmbedRequest,
    responses(
        (status = 200, description = "A vector for each text", body = Vec<Vec<f32>>),
        (status = 413, description = "A text, or the list of them, is too long", body = TeiFailure),
        (status = 422, description = "A value cannot be taken", body = TeiFailure),
        (status = 424, description = "The model cannot do it", body = TeiFailure),
        (status = 429, description = "Too much is asked at once", body = TeiFailure),
        (status = "4XX", description = "Another request is needed", body = TeiFailure),
        (status = "5XX", description = "Come again, or ask the server's operator", body = TeiFailure),
    )
)]
async fn embed(
    State(app): State<Arc<App>>,
    Json(Object(request)): Json<Object<TeiEmbedRequest>>,
) -> Answer<Json<Vec<Vec<f32>>>> {
    let texts = expect_texts(&app, "inputs", request.inputs)?;
    let answer = app.call(texts::lane(texts.len()), move |app, cancel| {
        let mut embedder = model(app)?;
        if let Some(dimensions) = request.dimensions {
            embedder = embed::truncate(embedder, dimensions)?;
        }
        expect_short(embedder.as_ref(), &texts, request.truncate)?;
        let mut rows = texts::embed(embedder.as_ref(), side(request.prompt_name), &texts, cancel)?.rows;
        if request.normalize != Some(false) {
            rows.iter_mut().for_each(|row| embed::normalise(row));
        }
        Ok(rows)
    });
    Ok(Json(answer.await?))
}

/// Vectors of single tokens: refused, because the engines give one for a text.
async fn embed_all() -> Failure {
    texts::cannot("vectors of single tokens are not to be had here: /embed gives one for each text")
}

/// Sparse vectors: refused, because no engine gives them.
async fn embed_sparse() -> Failure {
    texts::cannot(
        "sparse vectors are not to be had here: /embed gives dense ones, and a collection's search weighs words by itself",
    )
}

/// Classes of texts: refused, because no model here classifies.
async fn predict() -> Failure {
    texts::cannot("no model here classifies texts: /rerank judges how well a text answers a query")
}

/// How like a sentence others are: the cosines of their vectors.
#[utoipa::path(
    post,
    path = "/similarity",
    tag = "text-embeddings-inference",
    request_body = TeiSimilarityRequest,
    responses(
        (status = 200, description = "A cosine for each sentence", body = Vec<f32>),
        (status = 413, description = "A text, or the list of them, is too long", body = TeiFailure),
        (status = 422, description = "A value cannot be taken", body = TeiFailure),
        (status = 424, description = "The model cannot do it", body = TeiFailure),
        (status = 429, description = "Too much is asked at once", body = TeiFailure),
        (status = "4XX", description = "Another request is needed", body = TeiFailure),
        (status = "5XX", description = "Come again, or ask the server's operator", body = TeiFailure),
    )
)]
async fn similarity(
    State(app): State<Arc<App>>,
    Json(Object(request)): Json<Object<TeiSimilarityRequest>>,
) -> Answer<Json<Vec<f32>>> {
    let Object(TeiSimilarityInputs { source_sentence, sentences }) = request.inputs;
    let parameters = request.parameters.map(|Object(parameters)| parameters).unwrap_or_default();
    let sentences = expect_texts(&app, "sentences", Texts::Several(sentences))?;
    let source = expect_texts(&app, "source_sentence", Texts::One(source_sentence))?;
    let answer = app.call(texts::lane(sentences.len()), move |app, cancel| {
        let embedder = model(app)?;
        let texts = [source, sentences].concat();
        expect_short(embedder.as_ref(), &texts, parameters.truncate)?;
        let mut rows = texts::embed(embedder.as_ref(), side(parameters.prompt_name), &texts, cancel)?.rows;
        rows.iter_mut().for_each(|row| embed::normalise(row));
        let cosine = |row: &Vec<f32>| row.iter().zip(&rows[0]).map(|(a, b)| a * b).sum();
        Ok(rows[1..].iter().map(cosine).collect())
    });
    Ok(Json(answer.await?))
}

/// Ranks texts with the first cross-encoder that is configured.
#[utoipa::path(
    post,
    path = "/rerank",
    tag = "text-embeddings-inference",
    request_body = TeiRerankRequest,
    responses(
        (status = 200, description = "The texts' places, the best first", body = Vec<TeiRank>),
        (status = 413, description = "A text, or the list of them, is too long", body = TeiFailure),
        (status = 422, description = "A value cannot be taken", body = TeiFailure),
        (status = 404, description = "No cross-encoder is configured", body = TeiFailure),
        (status = 429, description = "Too much is asked at once", body = TeiFailure),
        (status = "4XX", description = "Another request is needed", body = TeiFailure),
        (status = "5XX", description = "Come again, or ask the server's operator", body = TeiFailure),
    )
)]
async fn rerank(
    State(app): State<Arc<App>>,
    Json(Object(request)): Json<Object<TeiRerankRequest>>,
) -> Answer<Json<Vec<TeiRank>>> {
    expect_texts(&app, "query", Texts::One(request.query.clone()))?;
    if request.texts.is_empty() {
        return Err(empty("texts"));
    }
    if let Some(message) = texts::beyond_limits(&app, "texts", &request.texts) {
        return Err(too_long(message));
    }
    let answer = app.call(texts::lane(request.texts.len()), move |app, cancel| {
        ranked(texts::reranker(app, None)?.as_ref(), &request, cancel)
    });
    Ok(Json(answer.await?))
}

/// The answer of this model.
fn ranked(reranker: &dyn Reranker, request: &TeiRerankRequest, cancel: &AtomicBool) -> Answer<Vec<TeiRank>> {
    let TeiRerankRequest { query, texts, raw_scores, return_text, truncate, .. } = request;
    let judged = texts::judge(reranker, query, texts, cancel)?;
    if let (Some(false), Some((index, _))) = (truncate, judged.iter().find(|(_, judgement)| judgement.truncated)) {
        let tokens = reranker.spec().max_tokens;
        return Err(too_long(format!(
            "text {index} of `texts` and the query have more than the model's {tokens} tokens, and `truncate` is false"
        )));
    }
    let rank = |(index, judgement): (usize, Judgement)| TeiRank {
        index,
        score: if *raw_scores { judgement.logit } else { judgement.score },
        text: return_text.then(|| texts[index].clone()),
    };
    Ok(judged.into_iter().map(rank).collect())
}

/// Cuts texts into the model's tokens.
#[utoipa::path(
    post,
    path = "/tokenize",
    tag = "text-embeddings-inference",
    request_body = TeiTokenizeRequest,
    responses(
        (status = 200, description = "The tokens of each text, without special ones", body = Vec<Vec<TeiToken>>),
        (status = 413, description = "A text, or the list of them, is too long", body = TeiFailure),
        (status = 422, description = "A value cannot be taken", body = TeiFailure),
        (status = 424, description = "The model cannot do it", body = TeiFailure),
        (status = 429, description = "Too much is asked at once", body = TeiFailure),
        (status = "4XX", description = "Another request is needed", body = TeiFailure),
        (status = "5XX", description = "Come again, or ask the server's operator", body = TeiFailure),
    )
)]
async fn tokenize(
    State(app): State<Arc<App>>,
    Json(Object(request)): Json<Object<TeiTokenizeRequest>>,
) -> Answer<Json<Vec<Vec<TeiToken>>>> {
    let texts = expect_texts(&app, "inputs", request.inputs)?;
    let answer = app.call(texts::lane(texts.len()), move |app, cancel| {
        let embedder = model(app)?;
        let special = embedder.spec().special_tokens;
        if request.add_special_tokens == Some(true) && special > 0 {
            return Err(Failure::invalid(format!(
                "{} adds {special} special tokens to a text, and where is not told: leave out `add_special_tokens`",
                embedder.spec().id
            )));
        }
        let (mut answer, mut count) = (Vec::new(), 0);
        for text in &texts {
            texts::expect_waiting(cancel)?;
            answer.push(tokens(embedder.as_ref(), text));
            count += answer.last().map_or(0, Vec::len);
            expect_few(count)?;
        }
        Ok(answer)
    });
    Ok(Json(answer.await?))
}

/// A token takes some sixty bytes of the answer, however short it is.
const TOKENS_MAX: usize = 262_144;

fn expect_few(tokens: usize) -> Answer<()> {
    if tokens <= TOKENS_MAX {
        return Ok(());
    }
    let message = format!("the texts have more than {TOKENS_MAX} tokens: send them in several requests");
    Err(too_long(message))
}

/// The tokens with their characters; tokens ascend, so that the text is walked once.
fn tokens(embedder: &dyn Embedder, text: &str) -> Vec<TeiToken> {
    let (mut bytes, mut characters) = (0, 0);
    let token = |range: std::ops::Range<usize>| {
        characters += text[bytes..range.start].chars().count();
        bytes = range.start;
        let text = &text[range];
        TeiToken { text: text.to_owned(), special: false, start: characters, stop: characters + text.chars().count() }
    };
    embedder.token_ranges(text).into_iter().map(token).collect()
}

/// What the server runs.
#[utoipa::path(
    get,
    path = "/info",
    tag = "text-embeddings-inference",
    responses(
        (status = 200, description = "The model and the limits", body = TeiInfo),
        (status = "4XX", description = "Another request is needed", body = TeiFailure),
        (status = "5XX", description = "Come again, or ask the server's operator", body = TeiFailure),
    )
)]
async fn info(State(app): State<Arc<App>>) -> Answer<Json<TeiInfo>> {
    let info = app.read(|app| {
        let embedder = model(app)?;
        let (spec, limits) = (embedder.spec(), &app.settings.limits);
        Ok(TeiInfo {
            model_id: spec.id.clone(),
            model_sha: spec.revision.clone(),
            model_dtype: spec.precision.clone(),
            model_type: TeiModelType::Embedding { pooling: spec.pooling.clone() },
            max_concurrent_requests: limits.requests,
            max_input_length: spec.max_tokens,
            max_client_batch_size: limits.batch,
            auto_truncate: true,
            reranker_id: app.settings.rerankers.first().cloned(),
            version: env!("CARGO_PKG_VERSION"),
        })
    });
    Ok(Json(info.await?))
}

/// Whether the server answers.
#[utoipa::path(
    get,
    path = "/health",
    tag = "text-embeddings-inference",
    responses((status = 200, description = "It does"))
)]
async fn health() -> StatusCode {
    StatusCode::OK
}

/// The one model that embeds.
fn model(app: &App) -> Answer<Arc<dyn Embedder>> {
    texts::embedder(app, app.settings.models.first().map_or(BUILTIN, String::as_str))
}

fn side(prompt: Option<TeiPrompt>) -> Side {
    match prompt {
        Some(TeiPrompt::Query) => Side::Query,
        Some(TeiPrompt::Document | TeiPrompt::Passage) | None => Side::Document,
    }
}

/// The texts, where there are some, none is empty, and they are not too many.
fn expect_texts(app: &App, name: &str, inputs: Texts) -> Answer<Vec<String>> {
    let Some(texts) = inputs.texts() else {
        return Err(Failure::invalid(format!("`{name}` has tokens: send a text, or an array of texts")));
    };
    if texts.is_empty() {
        return Err(empty(name));
    }
    if let Some(place) = texts::first_empty(&texts) {
        return Err(Failure::invalid(format!("text {place} of `{name}` is empty: leave it out")));
    }
    match texts::beyond_limits(app, name, &texts) {
        Some(message) => Err(too_long(message)),
        None => Ok(texts),
    }
}

fn empty(name: &str) -> Failure {
    Failure::of("empty", format!("`{name}` is empty: send at least one text"))
}

fn too_long(message: String) -> Failure {
    Failure::of("too_long", message)
}

fn expect_short(embedder: &dyn Embedder, texts: &[String], truncate: Option<bool>) -> Answer<()> {
    let long = if truncate == Some(false) { texts::first_too_long(embedder, texts) } else { None };
    let Some((place, tokens)) = long else { return Ok(()) };
    let most = embedder.spec().max_tokens;
    Err(too_long(format!("text {place} has {tokens} tokens, the model reads {most}, and `truncate` is false")))
}

/// A failure in text-embeddings-inference's shape, with its statuses.
pub(super) fn failed(failure: &Failure, _request_id: &str) -> Response {
    let (status, error_type) = told(failure);
    let mut response = Json(TeiFailure { error: failure.message.clone(), error_type }).into_response();
    *response.status_mut() = status;
    response
}

fn told(failure: &Failure) -> (StatusCode, TeiFailureType) {
    let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
    match failure.code {
        "invalid_request" | "invalid_json" | "dimension_mismatch" => (unprocessable, TeiFailureType::Validation),
        "empty" => (failure.status, TeiFailureType::Empty),
        "model_not_found" => (failure.status, TeiFailureType::Backend),
        "model_cannot" | "model_unavailable" | "feature_missing" => {
            (StatusCode::FAILED_DEPENDENCY, TeiFailureType::Backend)
        }
        "busy" => (StatusCode::TOO_MANY_REQUESTS, TeiFailureType::Overloaded),
        _ if failure.status.is_server_error() => (failure.status, TeiFailureType::Unhealthy),
        _ => (failure.status, TeiFailureType::Validation),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::rerank::RerankerSpec;
    use crate::server::body::parse;

    /// Prefers the longer, and cuts what has more than ten bytes.
    struct ByLength(RerankerSpec);

    impl Reranker for ByLength {
        fn spec(&self) -> &RerankerSpec {
            &self.0
        }

        fn judge(&self, _query: &str, passages: &[&str]) -> crate::Result<Vec<Judgement>> {
            let judgement = |passage: &&str| Judgement {
                truncated: passage.len() > 10,
                ..Judgement::of_logit(passage.len() as f32)
            };
            Ok(passages.iter().map(judgement).collect())
        }
    }

    fn ask(body: &str) -> Answer<String> {
        let request = parse(body.as_bytes())?;
        let ranks = ranked(&ByLength(RerankerSpec::new("length")), &request, &AtomicBool::new(false))?;
        Ok(serde_json::to_string(&ranks).unwrap())
    }

    #[test]
    fn texts_are_ranked_with_the_scores_that_are_asked_for() {
        let raw = r#"{"query": "q", "texts": ["aa", "aaaa"], "raw_scores": true, "return_text": true}"#;
        let expected = r#"[{"index":1,"score":4.0,"text":"aaaa"},{"index":0,"score":2.0,"text":"aa"}]"#;
        assert_eq!(ask(raw).unwrap(), expected);
        let score = Judgement::of_logit(1.0).score;
        assert_eq!(ask(r#"{"query": "q", "texts": ["a"]}"#).unwrap(), format!(r#"[{{"index":0,"score":{score}}}]"#));
    }

    #[test]
    fn a_text_that_was_cut_is_refused_where_it_must_not_be() {
        let ask = |truncate: &str| {
            ask(&format!(r#"{{"query": "q", "texts": ["a", "more than ten bytes"], "truncate": {truncate}}}"#))
        };
        let failure = ask("false").unwrap_err();
        assert_eq!((failure.code, failure.message.contains("text 1 of `texts`")), ("too_long", true));
        ask("true").unwrap();
        ask("null").unwrap();
    }
}
