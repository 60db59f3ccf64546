//! What do clients of OpenAI's embeddings ask?
//!
//! Invariant: a name is a model's own or it is refused; no model is taken for OpenAI's. Vectors are those of passages unless
//! `input_type` says `query`, because OpenAI's interface knows no sides and most of what is embedded are passages.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::shapes::{self, Object};
use super::texts::{self, Side, Texts};
use crate::embed::{self, Embedder};
use crate::models::LoadHealth;
use crate::server::app::{Answer, App, BUILTIN};
use crate::server::body::Json;
use crate::server::failure::{Failure, FailureType};

/// The routes. Names of the hub have a slash, which older clients send as it is.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(embeddings))
        .routes(routes!(models))
        .routes(routes!(model))
        .route("/v1/models/{owner}/{name}", get(model_of_owner))
}

/// Whether a client of OpenAI asks for this path.
pub(super) fn is_route(path: &str) -> bool {
    matches!(path, "/v1/embeddings" | "/v1/models") || path.starts_with("/v1/models/")
}

/// Texts to embed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EmbeddingsRequest {
    /// The name of a model, as `GET /v1/models` lists them.
    model: String,
    /// A text, or an array of texts. Tokens are refused: they are numbers of another vocabulary.
    input: Texts,
    /// `float` as a rule.
    #[serde(default)]
    encoding_format: Option<EncodingFormat>,
    /// Keeps the first numbers of each vector, as models trained for it (Matryoshka) allow.
    #[serde(default, deserialize_with = "shapes::count")]
    #[schema(minimum = 1, maximum = 4_294_967_295u32)]
    dimensions: Option<usize>,
    /// Has no effect, as here nobody counts by users.
    #[serde(default)]
    #[expect(dead_code, reason = "taken because clients send it")]
    user: Option<String>,
    /// Which side of a search the texts are of; `document` as a rule. Cohere's and NVIDIA's names are taken, too.
    #[serde(default)]
    input_type: Option<InputType>,
    /// `NONE` refuses a text that is longer than the model reads, as a rule; `END` cuts it there. As NVIDIA names it.
    #[serde(default)]
    truncate: Option<Truncate>,
}

/// How vectors are written.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum EncodingFormat {
    /// An array of numbers.
    Float,
    /// The numbers as 32-bit floats, little-endian, in base64.
    Base64,
}

/// Which side of a search.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum InputType {
    /// A question.
    Query,
    /// A question.
    SearchQuery,
    /// What is searched.
    Document,
    /// What is searched.
    Passage,
    /// What is searched.
    SearchDocument,
}

/// What becomes of a text that is too long.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Truncate {
    /// It is refused.
    None,
    /// Its end is cut off.
    End,
}

/// Vectors, in the order of the texts.
#[derive(Serialize, ToSchema)]
struct EmbeddingsAnswer {
    /// `list`.
    object: &'static str,
    data: Vec<EmbeddingItem>,
    /// The model's name.
    model: String,
    usage: EmbeddingsUsage,
}

/// One text's vector.
#[derive(Serialize, ToSchema)]
struct EmbeddingItem {
    /// `embedding`.
    object: &'static str,
    /// The place of its text.
    index: usize,
    embedding: EmbeddingValue,
}

/// A vector as `encoding_format` has it.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum EmbeddingValue {
    Float(Vec<f32>),
    Base64(String),
}

/// What was read.
#[derive(Serialize, ToSchema)]
struct EmbeddingsUsage {
    /// The texts' tokens in the model's own vocabulary, special ones counted and what was cut off not.
    prompt_tokens: usize,
    /// The same.
    total_tokens: usize,
}

/// The models that requests may name.
#[derive(Serialize, ToSchema)]
struct ModelList {
    /// `list`.
    object: &'static str,
    data: Vec<ModelItem>,
}

/// A model.
#[derive(Serialize, ToSchema)]
struct ModelItem {
    /// Its name.
    id: String,
    /// `model`.
    object: &'static str,
    /// When it was made; 0, as that is not known.
    created: u64,
    /// `quiverdb` for the built-in one; before the slash of a name of the hub; else `local`.
    owned_by: String,
    quiverdb: ModelExtras,
}

/// What OpenAI's shape has no place for.
#[derive(Serialize, ToSchema)]
struct ModelExtras {
    /// `embedding` or `reranker`.
    kind: &'static str,
    /// The collections that are built with it.
    collections: Vec<String>,
    /// Whether it is in memory, what it takes there, and what it has done; absent before it was asked for anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    health: Option<LoadHealth>,
}

/// A failure in OpenAI's shape.
#[derive(Serialize, ToSchema)]
pub(super) struct OpenAiFailure {
    error: OpenAiFailureDetails,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
struct OpenAiFailureDetails {
    /// What happened, and what to do next.
    message: String,
    /// `invalid_request_error` or `server_error`.
    r#type: &'static str,
    /// The field of the request that it is about.
    param: Option<&'static str>,
    /// Stable.
    code: &'static str,
}

/// Embeds texts, as OpenAI's `POST /v1/embeddings` does.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    tag = "OpenAI",
    request_body = EmbeddingsRequest,
    responses(
        (status = 200, description = "The vectors", body = EmbeddingsAnswer),
        (status = 400, description = "Tokens, no or too many texts, one that is too long, or dimensions that the model does \
         not have", body = OpenAiFailure),
        (status = 404, description = "No such model", body = OpenAiFailure),
        (status = "4XX", description = "Another request is needed", body = OpenAiFailure),
        (status = "5XX", description = "Come again, or ask the server's operator", body = OpenAiFailure),
    )
)]
async fn embeddings(
    State(app): State<Arc<App>>,
    Json(Object(request)): Json<Object<EmbeddingsRequest>>,
) -> Answer<Json<EmbeddingsAnswer>> {
    let EmbeddingsRequest { model, input, encoding_format, dimensions, input_type, truncate, .. } = request;
    let texts = expect_texts(&app, input)?;
    let answer = app.call(texts::lane(texts.len()), move |app, cancel| {
        let embedder = of_dimensions(texts::embedder(app, &model)?, dimensions)?;
        if truncate != Some(Truncate::End) {
            expect_short(embedder.as_ref(), &texts)?;
        }
        let embedded = texts::embed(embedder.as_ref(), side(input_type), &texts, cancel)?;
        let usage = EmbeddingsUsage { prompt_tokens: embedded.tokens, total_tokens: embedded.tokens };
        let rows = embedded.rows.into_iter().enumerate();
        let data = rows.map(|(index, row)| EmbeddingItem {
            object: "embedding",
            index,
            embedding: written(row, encoding_format),
        });
        Ok(EmbeddingsAnswer { object: "list", data: data.collect(), model, usage })
    });
    Ok(Json(answer.await?))
}

/// The texts, where there are some and not too many.
fn expect_texts(app: &App, input: Texts) -> Answer<Vec<String>> {
    let refuse = |message: String| Failure::invalid(message).about("input");
    let Some(texts) = input.texts() else {
        return Err(refuse(
            "`input` has tokens, which are numbers of OpenAI's vocabulary and mean nothing to this model: send texts. \
             LangChain's OpenAIEmbeddings does so with check_embedding_ctx_length=False"
                .into(),
        ));
    };
    if texts.is_empty() {
        return Err(refuse("`input` is an empty array: send a text, or an array of texts".into()));
    }
    if let Some(place) = texts::first_empty(&texts) {
        return Err(refuse(format!("text {place} of `input` is empty: leave it out")));
    }
    match texts::beyond_limits(app, "input", &texts) {
        Some(message) => Err(refuse(message)),
        None => Ok(texts),
    }
}

fn of_dimensions(embedder: Arc<dyn Embedder>, dimensions: Option<usize>) -> Answer<Arc<dyn Embedder>> {
    let Some(dimensions) = dimensions else { return Ok(embedder) };
    embed::truncate(embedder, dimensions).map_err(|error| Failure::from(error).about("dimensions"))
}

fn expect_short(embedder: &dyn Embedder, texts: &[String]) -> Answer<()> {
    let Some((place, tokens)) = texts::first_too_long(embedder, texts) else { return Ok(()) };
    let spec = embedder.spec();
    let message = format!(
        "text {place} of `input` has {tokens} tokens and the model {} reads {}: send shorter texts, or `truncate`: \"END\" \
         to have them cut",
        spec.id, spec.max_tokens
    );
    Err(Failure::of("context_length_exceeded", message).about("input"))
}

fn side(input_type: Option<InputType>) -> Side {
    match input_type {
        Some(InputType::Query | InputType::SearchQuery) => Side::Query,
        Some(InputType::Document | InputType::Passage | InputType::SearchDocument) | None => Side::Document,
    }
}

fn written(row: Vec<f32>, format: Option<EncodingFormat>) -> EmbeddingValue {
    match format {
        Some(EncodingFormat::Base64) => {
            let bytes: Vec<u8> = row.iter().flat_map(|number| number.to_le_bytes()).collect();
            EmbeddingValue::Base64(STANDARD.encode(bytes))
        }
        Some(EncodingFormat::Float) | None => EmbeddingValue::Float(row),
    }
}

/// Lists the models that requests may name.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "OpenAI",
    responses(
        (status = 200, description = "The models", body = ModelList),
        (status = "4XX", description = "Another request is needed", body = OpenAiFailure),
        (status = "5XX", description = "Come again, or ask the server's operator", body = OpenAiFailure),
    )
)]
async fn models(State(app): State<Arc<App>>) -> Answer<Json<ModelList>> {
    let data = app.read(listed).await?;
    Ok(Json(ModelList { object: "list", data }))
}

/// Shows a model.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    tag = "OpenAI",
    params(("id" = String, Path, description = "The model's name")),
    responses(
        (status = 200, description = "The model", body = ModelItem),
        (status = 404, description = "No such model", body = OpenAiFailure),
        (status = "4XX", description = "Another request is needed", body = OpenAiFailure),
        (status = "5XX", description = "Come again, or ask the server's operator", body = OpenAiFailure),
    )
)]
async fn model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<Json<ModelItem>> {
    one(&app, id).await
}

async fn model_of_owner(
    State(app): State<Arc<App>>,
    Path((owner, name)): Path<(String, String)>,
) -> Answer<Json<ModelItem>> {
    one(&app, format!("{owner}/{name}")).await
}

async fn one(app: &Arc<App>, id: String) -> Answer<Json<ModelItem>> {
    let model = app.read(move |app| {
        let mut listed = listed(app)?;
        match listed.iter().position(|model| model.id == id) {
            Some(place) => Ok(listed.swap_remove(place)),
            None => {
                let names: Vec<String> = listed.into_iter().map(|model| model.id).collect();
                Err(texts::no_model(&id, &names, "models"))
            }
        }
    });
    Ok(Json(model.await?))
}

/// Those that embed, then those that rerank.
fn listed(app: &App) -> Answer<Vec<ModelItem>> {
    let (loaded, collections) = (app.database.models(), app.database.collections()?);
    let item = |id: &str, kind: &'static str| {
        let built = collections.iter().filter(|stats| kind == "embedding" && stats.has_model(id));
        let extras = ModelExtras {
            kind,
            collections: built.map(|stats| stats.name.clone()).collect(),
            health: loaded.iter().find(|health| health.model == id).cloned(),
        };
        ModelItem { id: id.to_owned(), object: "model", created: 0, owned_by: owner(id), quiverdb: extras }
    };
    let embedders = texts::embedders(app)?;
    let embedders = embedders.iter().map(|id| item(id, "embedding"));
    Ok(embedders.chain(app.settings.rerankers.iter().map(|id| item(id, "reranker"))).collect())
}

fn owner(id: &str) -> String {
    match id.split_once('/') {
        _ if id == BUILTIN => "quiverdb".to_owned(),
        Some((owner, name)) if !owner.is_empty() && !owner.contains([':', '.', '\\']) && !name.contains('/') => {
            owner.to_owned()
        }
        Some(_) | None => "local".to_owned(),
    }
}

/// A failure in OpenAI's shape; the request's id is in the header where its clients look for it.
pub(super) fn failed(failure: &Failure, _request_id: &str) -> Response {
    let (r#type, code) = match failure.kind {
        _ if failure.code == "unauthorized" => ("invalid_request_error", "invalid_api_key"),
        FailureType::InvalidRequest | FailureType::NotFound | FailureType::Conflict => {
            ("invalid_request_error", failure.code)
        }
        FailureType::Unavailable | FailureType::Internal => ("server_error", failure.code),
    };
    let details = OpenAiFailureDetails { message: failure.message.clone(), r#type, param: failure.param, code };
    let mut response = Json(OpenAiFailure { error: details }).into_response();
    *response.status_mut() = failure.status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_the_hub_are_owned_by_their_owner_and_paths_by_nobody() {
        assert_eq!(owner("builtin"), "quiverdb");
        assert_eq!(owner("BAAI/bge-small-en-v1.5"), "BAAI");
        for local in ["/models/mine", "models/of/mine", "./mine", "http://127.0.0.1:1/v1#m", "all-MiniLM-L6-v2"] {
            assert_eq!(owner(local), "local", "{local}");
        }
    }
}
