//! What do clients of Cohere's and Jina's rerankers ask?
//!
//! Both ask `/v1/rerank`, and Cohere's newer ones `/v2/rerank`. Jina gives the documents back unless told not to, so `/v1`
//! does; Cohere's version 2 never does, and so does `/v2`. Scores are probabilities, the best first.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::shapes::{self, Object};
use super::texts;
use crate::embed::words_and_marks;
use crate::rerank::{Judgement, Reranker, RerankerSpec};
use crate::server::app::{Answer, App};
use crate::server::body::Json;
use crate::server::failure::Failure;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(first)).routes(routes!(second))
}

/// Whether a client of Cohere or Jina asks for this path.
pub(super) fn is_route(path: &str) -> bool {
    matches!(path, "/v1/rerank" | "/v2/rerank")
}

/// Documents to rank.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RerankRequest {
    /// The name of a cross-encoder; the first that is configured where there is none.
    #[serde(default)]
    model: Option<String>,
    /// The question.
    #[schema(min_length = 1)]
    query: String,
    /// Texts, or objects with a `text`.
    #[schema(min_items = 1)]
    documents: Vec<RerankDocument>,
    /// How many of the best are wanted; all as a rule.
    #[serde(default, deserialize_with = "shapes::count")]
    #[schema(minimum = 1, maximum = 4_294_967_295u32)]
    top_n: Option<usize>,
    /// Whether the documents are given back; on `/v1` they are as a rule, on `/v2` not.
    #[serde(default)]
    return_documents: Option<bool>,
    /// Where the model's own limit is no longer than this, it has no effect; else it is refused.
    #[serde(default, deserialize_with = "shapes::count")]
    #[schema(maximum = 4_294_967_295u32)]
    max_tokens_per_doc: Option<usize>,
    /// 1, because a document is read up to the model's limit; more is refused.
    #[serde(default, deserialize_with = "shapes::count")]
    #[schema(minimum = 1, maximum = 1)]
    max_chunks_per_doc: Option<usize>,
    /// `["text"]`; other fields are refused.
    #[serde(default)]
    #[schema(value_type = Option<Vec<RankField>>)]
    rank_fields: Option<Vec<String>>,
    /// `false` refuses a document that is longer than the model reads; else it is cut.
    #[serde(default)]
    truncation: Option<bool>,
}

/// What documents are ranked by, in the OpenAPI document.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum RankField {
    #[expect(dead_code, reason = "a schema alone")]
    Text,
}

/// A document.
#[derive(Deserialize, ToSchema)]
#[serde(untagged, expecting = "a document is a text, or an object with a `text`")]
enum RerankDocument {
    /// Its text.
    Text(String),
    /// Its text and what else is given back with it.
    Fields {
        text: String,
        #[serde(flatten)]
        others: Map<String, Value>,
    },
}

/// The documents in their order.
#[derive(Serialize, ToSchema)]
struct RerankAnswer {
    /// Different for every answer.
    id: String,
    /// The model's name.
    model: String,
    /// The best first.
    results: Vec<RerankResult>,
    meta: RerankMeta,
    usage: RerankUsage,
}

/// One document's place.
#[derive(Serialize, ToSchema)]
struct RerankResult {
    /// Its place among those that were sent.
    index: usize,
    /// 0 to 1.
    relevance_score: f32,
    /// As it was sent, with its text under `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    document: Option<Map<String, Value>>,
}

/// What Cohere's clients read besides.
#[derive(Serialize, ToSchema)]
struct RerankMeta {
    api_version: RerankVersion,
    /// What was cut.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Which version of the interface answered.
#[derive(Serialize, ToSchema)]
struct RerankVersion {
    /// `1` or `2`.
    version: &'static str,
}

/// What Jina's clients read besides.
#[derive(Serialize, ToSchema)]
struct RerankUsage {
    /// The words and marks of the documents, and of the query for each; a cross-encoder's vocabulary cuts some of them
    /// further.
    total_tokens: usize,
}

/// A failure, as both name it.
#[derive(Serialize, ToSchema)]
pub(super) struct RerankFailure {
    /// The request's id.
    id: String,
    /// What happened, and what to do next, as Cohere names it.
    message: String,
    /// The same, as Jina names it.
    detail: String,
    /// Stable.
    code: &'static str,
}

/// Ranks documents, as Jina's and Cohere's `POST /v1/rerank` do.
#[utoipa::path(
    post,
    path = "/v1/rerank",
    tag = "Cohere and Jina",
    request_body = RerankRequest,
    responses(
        (status = 200, description = "The documents' places, the best first", body = RerankAnswer),
        (status = 400, description = "What is asked cannot be done; the message names it", body = RerankFailure),
        (status = 404, description = "No such model", body = RerankFailure),
        (status = "4XX", description = "Another request is needed", body = RerankFailure),
        (status = "5XX", description = "Come again, or ask the server's operator", body = RerankFailure),
    )
)]
async fn first(
    State(app): State<Arc<App>>,
    Json(Object(request)): Json<Object<RerankRequest>>,
) -> Answer<Json<RerankAnswer>> {
    answer(&app, request, "1").await
}

/// Ranks documents, as Cohere's `POST /v2/rerank` does.
#[utoipa::path(
    post,
    path = "/v2/rerank",
    tag = "Cohere and Jina",
    request_body = RerankRequest,
    responses(
        (status = 200, description = "The documents' places, the best first", body = RerankAnswer),
        (status = 400, description = "What is asked cannot be done; the message names it", body = RerankFailure),
        (status = 404, description = "No such model", body = RerankFailure),
        (status = "4XX", description = "Another request is needed", body = RerankFailure),
        (status = "5XX", description = "Come again, or ask the server's operator", body = RerankFailure),
    )
)]
async fn second(
    State(app): State<Arc<App>>,
    Json(Object(request)): Json<Object<RerankRequest>>,
) -> Answer<Json<RerankAnswer>> {
    answer(&app, request, "2").await
}

async fn answer(app: &Arc<App>, request: RerankRequest, version: &'static str) -> Answer<Json<RerankAnswer>> {
    let texts = expect_possible(app, &request)?;
    let answer = app.call(texts::lane(texts.len()), move |app, cancel| {
        let reranker = texts::reranker(app, request.model.as_deref())?;
        ranked(reranker.as_ref(), request, &texts, version, cancel)
    });
    Ok(Json(answer.await?))
}

/// The answer of this model.
fn ranked(
    reranker: &dyn Reranker,
    request: RerankRequest,
    texts: &[String],
    version: &'static str,
    cancel: &AtomicBool,
) -> Answer<RerankAnswer> {
    let spec = reranker.spec();
    expect_limit(request.max_tokens_per_doc, spec)?;
    let judged = texts::judge(reranker, &request.query, texts, cancel)?;
    let warnings = expect_whole(&judged, request.truncation, spec)?;
    let total_tokens = counted(&request.query, texts);
    let mut documents: Vec<_> = match request.return_documents.unwrap_or(version == "1") {
        true => request.documents.into_iter().map(|document| Some(document.given_back())).collect(),
        false => Vec::new(),
    };
    let best = judged.into_iter().take(request.top_n.unwrap_or(usize::MAX));
    let results = best.map(|(index, Judgement { score, .. })| RerankResult {
        index,
        relevance_score: score,
        document: documents.get_mut(index).and_then(Option::take),
    });
    Ok(RerankAnswer {
        id: uuid::Uuid::new_v4().to_string(),
        model: request.model.unwrap_or_else(|| spec.id.clone()),
        results: results.collect(),
        meta: RerankMeta { api_version: RerankVersion { version }, warnings },
        usage: RerankUsage { total_tokens },
    })
}

/// Refuses by name what cannot be done, and gives the texts of what can.
fn expect_possible(app: &App, request: &RerankRequest) -> Answer<Vec<String>> {
    let texts: Vec<String> = request.documents.iter().map(|document| document.text().to_owned()).collect();
    let fields = request.rank_fields.as_deref().unwrap_or_default();
    let refused = match request {
        RerankRequest { query, .. } if query.is_empty() => Some("`query` is empty: send a question".to_owned()),
        RerankRequest { query, .. } if query.len() > app.settings.limits.text_bytes => {
            Some(format!("`query` has {} bytes, and limits.text_bytes is less: send a shorter one", query.len()))
        }
        RerankRequest { top_n: Some(0), .. } => Some("`top_n` is 0: send 1 or more, or leave it out".to_owned()),
        RerankRequest { max_chunks_per_doc: Some(chunks), .. } if *chunks != 1 => Some(format!(
            "`max_chunks_per_doc` is {chunks}: a document is read once, up to the model's limit. Send 1 or leave it out, \
             and send long documents in parts"
        )),
        _ if texts.is_empty() => Some("`documents` is empty: send at least one".to_owned()),
        _ => fields.iter().find(|field| *field != "text").map(|field| {
            format!("`rank_fields` names `{field}`: documents are ranked by their `text`; put there what shall count")
        }),
    };
    match refused.or_else(|| texts::beyond_limits(app, "documents", &texts)) {
        Some(message) => Err(Failure::invalid(message)),
        None => Ok(texts),
    }
}

/// A limit that the model does not reach anyway is refused: only the model's own vocabulary could count it.
fn expect_limit(tokens_max: Option<usize>, spec: &RerankerSpec) -> Answer<()> {
    match tokens_max {
        Some(tokens) if tokens < spec.max_tokens => Err(Failure::invalid(format!(
            "`max_tokens_per_doc` is {tokens}, and {} reads {} tokens of a query and its document: leave it out, and send \
             shorter documents",
            spec.id, spec.max_tokens
        ))),
        Some(_) | None => Ok(()),
    }
}

/// What is to be said of documents that were cut.
fn expect_whole(judged: &[(usize, Judgement)], truncation: Option<bool>, spec: &RerankerSpec) -> Answer<Vec<String>> {
    let cut = judged.iter().filter(|(_, judgement)| judgement.truncated).count();
    let message =
        || format!("{cut} of {} documents were longer than the {} tokens of the model", judged.len(), spec.max_tokens);
    match (cut, truncation) {
        (0, _) => Ok(Vec::new()),
        (_, Some(false)) => Err(Failure::invalid(format!("{}, and `truncation` is false", message()))),
        (_, Some(true) | None) => Ok(vec![format!("{}, and were cut", message())]),
    }
}

fn counted(query: &str, texts: &[String]) -> usize {
    let of_documents: usize = texts.iter().map(|text| words_and_marks(text).len()).sum();
    of_documents + texts.len() * words_and_marks(query).len()
}

impl RerankDocument {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Fields { text, .. } => text,
        }
    }

    fn given_back(self) -> Map<String, Value> {
        let (text, mut fields) = match self {
            Self::Text(text) => (text, Map::new()),
            Self::Fields { text, others } => (text, others),
        };
        fields.insert("text".to_owned(), Value::String(text));
        fields
    }
}

/// A failure in the shape that both kinds of clients read.
pub(super) fn failed(failure: &Failure, request_id: &str) -> Response {
    let Failure { message, code, status, .. } = failure.clone();
    let body = RerankFailure { id: request_id.to_owned(), detail: message.clone(), message, code };
    let mut response = Json(body).into_response();
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
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

    fn ask(version: &'static str, body: &Value) -> Answer<Value> {
        let request: RerankRequest = parse(body.to_string().as_bytes())?;
        let texts: Vec<String> = request.documents.iter().map(|document| document.text().to_owned()).collect();
        let model = ByLength(RerankerSpec::new("length"));
        let answer = ranked(&model, request, &texts, version, &AtomicBool::new(false))?;
        Ok(serde_json::to_value(answer).unwrap())
    }

    fn indexes(answer: &Value) -> Vec<u64> {
        answer["results"].as_array().unwrap().iter().map(|result| result["index"].as_u64().unwrap()).collect()
    }

    #[test]
    fn the_best_stand_first_and_documents_are_given_back_as_each_version_does() {
        let body = json!({"query": "q", "documents": ["aa", {"text": "aaaa", "page": 3}, "a", "bb"], "top_n": 3});
        let (first, second) = (ask("1", &body).unwrap(), ask("2", &body).unwrap());
        // Of equals the first stays first.
        assert_eq!((indexes(&first), indexes(&second)), (vec![1, 0, 3], vec![1, 0, 3]));
        assert_eq!(first["results"][0]["document"], json!({"page": 3, "text": "aaaa"}));
        assert_eq!(first["results"][1]["document"], json!({"text": "aa"}));
        assert!(second["results"][0].get("document").is_none());
        assert_eq!(first["results"][1]["relevance_score"].as_f64().unwrap() as f32, Judgement::of_logit(2.0).score);
        assert_eq!((&first["model"], &first["usage"]["total_tokens"]), (&json!("length"), &json!(8)));

        let mut silent = body;
        silent["return_documents"] = json!(false);
        assert!(ask("1", &silent).unwrap()["results"][0].get("document").is_none());
    }

    #[test]
    fn documents_that_were_cut_are_told_or_refused() {
        let mut body = json!({"query": "q", "documents": ["short", "more than ten bytes"]});
        let told = ask("2", &body).unwrap()["meta"]["warnings"][0].as_str().unwrap().to_owned();
        assert!(told.contains("1 of 2 documents"), "{told}");
        body["truncation"] = json!(false);
        assert!(ask("1", &body).unwrap_err().message.contains("`truncation` is false"));
        body["documents"] = json!(["short"]);
        assert!(ask("1", &body).unwrap()["meta"].get("warnings").is_none());
    }

    #[test]
    fn a_limit_of_tokens_below_the_models_is_refused() {
        let body = |tokens: usize| json!({"query": "q", "documents": ["a"], "max_tokens_per_doc": tokens});
        ask("2", &body(512)).unwrap();
        let message = ask("2", &body(511)).unwrap_err().message;
        assert!(message.contains("511") && message.contains("512"), "{message}");
    }
}
