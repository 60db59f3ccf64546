//! Does a search over HTTP answer as the library does, and refuse what nobody can answer?

use std::time::{Duration, Instant};

use quiverdb::context::{ContextFormat, ContextOptions};
use quiverdb::server::Settings;
use quiverdb::types::Fusion;
use quiverdb::{Collection, CollectionConfig, Database, Document, Filter, Mode, Query, SpaceConfig};
use serde_json::{Value, json};

use super::Serving;

const SEARCH: &str = "/v1/collections/notes/search";

/// A server with a few notes, which also have a colour.
fn serving() -> (Serving, Collection) {
    let database = Database::in_memory().unwrap();
    let config = CollectionConfig::new().space("colour", SpaceConfig::external(3));
    let notes = database.collection_with("notes", config).unwrap();
    let texts = [
        ("rust", "Ownership is how Rust keeps memory safe without a garbage collector.", 2015),
        ("borrow", "A value can be borrowed many times for reading, or once for writing.", 2016),
        ("pears", "Pears ripen from the inside; press gently near the stem.", 2020),
        ("apples", "Apples keep for months in a cool cellar, away from pears.", 2021),
    ];
    for (at, (id, text, year)) in texts.into_iter().enumerate() {
        let mut colour = vec![0.1; 3];
        colour[at % 3] = 1.0;
        let document = Document::new(id, text).title(format!("About {id}"));
        notes.add(document.metadata(json!({"year": year})).vector_in("colour", colour)).unwrap();
    }
    (Serving::with(database, Settings::default()), notes)
}

/// As it is printed, without the time that it took.
fn printed(results: &impl serde::Serialize) -> Value {
    without_times(serde_json::from_str(&serde_json::to_string(results).unwrap()).unwrap())
}

fn without_times(mut results: Value) -> Value {
    let stages = results["timings_ms"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(stages, ["embed", "filter", "retrieve", "fuse", "rerank", "hydrate", "total"]);
    results.as_object_mut().unwrap().remove("timings_ms");
    results
}

#[test]
fn a_search_answers_what_the_library_answers() {
    let (server, notes) = serving();
    let filter = |text: &str| text.parse::<Filter>().unwrap();
    let pairs = [
        (json!({"query": "how is memory kept safe?"}), Query::text("how is memory kept safe?")),
        (json!({"query": "pears", "limit": 2, "mode": "text"}), Query::text("pears").limit(2).mode(Mode::Text)),
        (
            json!({"query": "fruit", "filter": {"year": {"gte": 2020}}, "explain": true}),
            Query::text("fruit").filter(filter("year >= 2020")).explain(),
        ),
        (
            json!({"query": "fruit", "filter": "year >= 2020 AND NOT id = 'pears'"}),
            Query::text("fruit").filter(filter("year >= 2020 AND NOT id = 'pears'")),
        ),
        (
            json!({"vector": [0.0, 1.0, 0.0], "space": "colour", "exact": true, "group": true}),
            Query::vector(vec![0.0, 1.0, 0.0]).space("colour").exact().group(true),
        ),
        (
            json!({"query": "+pears -cellar", "syntax": true, "mmr": 0.5, "candidates": 7, "ef": 50}),
            Query::text("+pears -cellar").syntax().mmr(0.5).candidates(7).ef(50),
        ),
        (
            json!({"query": "pears", "fusion": {"reciprocal_rank": {}}, "min_score": 0.1, "effort": 0.5}),
            Query::text("pears").fusion(Fusion::ReciprocalRank { k: 60.0 }).min_score(0.1).effort(0.5),
        ),
        (
            json!({"query": "pears", "fusion": {"score": {"weight": 0.7}}, "vector": null}),
            Query::text("pears").fusion(Fusion::Score { weight: Some(0.7) }),
        ),
    ];
    for (body, query) in pairs {
        let library = notes.search(query).unwrap();
        assert!(!library.hits.is_empty(), "{body} finds something");
        assert_eq!(without_times(server.post(SEARCH, &body).expect(200)), printed(&library), "{body}");
    }
}

#[test]
fn parts_of_a_hit_are_left_out_and_words_are_shown() {
    let (server, _) = serving();
    let body = json!({"query": "pears", "mode": "text", "include": ["text", "scores"], "highlight": true});
    let hit = server.post(SEARCH, &body).expect(200)["hits"][0].clone();
    let names: Vec<&str> = hit.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["document", "chunk", "start", "end", "text", "score", "scores", "highlights"]);
    let text = hit["text"].as_str().unwrap();
    let shown: Vec<&str> = hit["highlights"].as_array().unwrap().iter().map(|range| words(text, range)).collect();
    assert!(!shown.is_empty() && shown.iter().all(|word| word.eq_ignore_ascii_case("pears")), "{shown:?}");
    let bare = server.post(SEARCH, &json!({"query": "pears", "include": []})).expect(200);
    assert_eq!(bare["hits"][0].as_object().unwrap().len(), 5, "{bare}");
}

fn words<'a>(text: &'a str, range: &Value) -> &'a str {
    &text[range[0].as_u64().unwrap() as usize..range[1].as_u64().unwrap() as usize]
}

#[test]
fn what_cannot_be_asked_is_refused_by_its_name() {
    let (server, _) = serving();
    let cases = [
        (json!({}), "nothing is asked"),
        (json!({"query": "x", "limt": 3}), "limt"),
        (json!({"query": "x", "mode": "fuzzy"}), "mode"),
        (json!({"query": " "}), "empty"),
        (json!({"query": 3}), "query"),
        (json!({"vector": ["x"]}), "vector[0]"),
        (json!({"query": "x", "limit": 0}), "limit"),
        (json!({"query": "x", "limit": -1}), "limit"),
        (json!({"query": "x", "mmr": 2}), "mmr"),
        (json!({"query": "x", "filter": "year >"}), "filter"),
        (json!({"query": "x", "filter": 3}), "filter"),
        (json!({"query": "x", "space": "sound"}), "sound"),
        (json!({"query": "x", "syntax": true, "filter": {"a": {"nope": 1}}}), "nope"),
        (json!({"query": "\"open", "syntax": true}), "\""),
        (json!({"query": "x", "rerank": {"model": "nobody/knows-it"}}), "--reranker"),
        (json!({"query": "x", "rerank": {"model": "m", "deph": 3}}), "deph"),
        (json!({"query": "x", "include": ["vectors"]}), "vectors"),
        (json!({"query": "x", "fusion": {"score": {"weight": -1}}}), "weight"),
    ];
    for (body, named) in cases {
        let (code, message) = server.post(SEARCH, &body).failure(400);
        assert!(message.contains(named), "{body}: {code}: {message}");
    }
    assert_eq!(server.post(SEARCH, &json!({"vector": [1.0]})).failure(400).0, "dimension_mismatch");
    let absent = server.post("/v1/collections/none/search", &json!({"query": "x"}));
    assert_eq!(absent.failure(404).0, "collection_not_found");
    let (code, message) = server.get("/v1/jobs/%ff").failure(400);
    assert!(code == "invalid_request" && message.contains("path"), "{message}");
}

#[test]
fn what_asks_for_too_much_is_refused_before_anything_is_done_for_it() {
    let (server, _) = serving();
    let begun = Instant::now();
    let many = Value::Array(vec![json!({"year": 1}); 100_000]);
    let cases = [
        json!({"query": "x", "limit": 1_000_000_000}),
        json!({"query": "x", "limit": 1_001}),
        json!({"query": "x", "ef": 1_000_000_000}),
        json!({"query": "x", "candidates": 1_000_000_000_u64}),
        json!({"query": "x", "rerank": {"model": "m", "depth": 1_000_000_000}}),
        json!({"vector": vec![0.5; 1_000_000]}),
        json!({"query": "x", "filter": {"or": many}}),
        json!({"query": "x", "limit": 1e30}),
    ];
    for body in cases {
        server.post(SEARCH, &body).failure(400);
    }
    let deep = format!("{{\"query\":\"x\",\"filter\":{}1{}}}", "{\"not\":".repeat(100_000), "}".repeat(100_000));
    let in_words = json!({"query": "x", "filter": format!("{}a = 1{}", "(".repeat(100_000), ")".repeat(100_000))});
    let json = [("content-type", "application/json")];
    for bytes in [deep.into_bytes(), serde_json::to_vec(&in_words).unwrap()] {
        server.send("POST", SEARCH, &json, &bytes).failure(400);
    }
    let long = json!({"query": "x".repeat((16 << 20) + 1)});
    assert!(server.post(SEARCH, &long).failure(400).1.contains("limits.text_bytes"));
    let batch = json!({"queries": vec![json!({"query": "x"}); 4_097]});
    assert!(server.post(&format!("{SEARCH}/batch"), &batch).failure(400).1.contains("limits.batch"));
    let hits = json!({"queries": vec![json!({"query": "x", "limit": 1_000}); 101]});
    assert!(server.post(&format!("{SEARCH}/batch"), &hits).failure(400).1.contains("limits.hits"));
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn a_batch_is_answered_in_order_or_refused_with_the_place() {
    let (server, notes) = serving();
    let path = format!("{SEARCH}/batch");
    let body = json!({"queries": [{"query": "pears"}, {"query": "memory", "limit": 1, "include": ["title"]}]});
    let results = server.post(&path, &body).expect(200)["results"].clone();
    assert_eq!(without_times(results[0].clone()), printed(&notes.search(Query::text("pears")).unwrap()));
    assert_eq!(results[1]["hits"][0]["document"], "rust");
    assert_eq!(results[1]["hits"][0].get("text"), None);
    assert_eq!(server.post(&path, &json!({"queries": []})).expect(200), json!({"results": []}));
    for bad in [json!({"query": "x", "limit": 0}), json!({"vector": [1.0]}), json!({"query": "x", "nope": 1})] {
        let message = server.post(&path, &json!({"queries": [{"query": "x"}, bad]})).failure(400).1;
        assert!(message.contains("queries[1]"), "{message}");
    }
}

#[test]
fn a_context_is_what_the_library_makes_in_each_form() {
    let (server, notes) = serving();
    let path = "/v1/collections/notes/context";
    for format in ContextFormat::ALL {
        let body = json!({"query": "pears", "limit": 3, "budget_tokens": 60, "format": format.name(), "neighbours": 1});
        let options = ContextOptions::new(60).format(format).neighbours(1);
        let library = notes.context(Query::text("pears").limit(3), &options).unwrap();
        assert!(!library.citations.is_empty());
        assert_eq!(server.post(path, &body).expect(200), serde_json::to_value(&library).unwrap());
    }
    let cases = [
        (json!({"query": "x"}), "budget_tokens"),
        (json!({"query": "x", "budget_tokens": 0}), "budget_tokens"),
        (json!({"query": "x", "budget_tokens": 1_000_000_000_u64}), "budget_tokens"),
        (json!({"query": "x", "budget_tokens": 9, "neighbours": 1_000}), "neighbours"),
        (json!({"query": "x", "budget_tokens": 9, "limit": 501}), "passages"),
        (json!({"query": "x", "budget_tokens": 9, "format": "html"}), "format"),
        (json!({"query": "x", "budget_tokens": 9, "highlight": true}), "highlight"),
    ];
    for (body, named) in cases {
        let message = server.post(path, &body).failure(400).1;
        assert!(message.contains(named), "{body}: {message}");
    }
}

#[test]
fn a_key_that_only_reads_may_search() {
    let (reader, writer) = ("a key that may only read", "a key of more than 16 bytes");
    let settings =
        Settings { api_keys: vec![writer.into()], read_only_keys: vec![reader.into()], ..Settings::default() };
    let database = Database::in_memory().unwrap();
    database.collection("notes").unwrap().add(Document::new("a", "Pears.")).unwrap();
    let server = Serving::with(database, settings);
    let ask = |path: &str, body: &Value| server.ask("POST", path, &[("api-key", reader)], body);
    ask(SEARCH, &json!({"query": "pears"})).expect(200);
    ask(&format!("{SEARCH}/batch"), &json!({"queries": [{"query": "pears"}]})).expect(200);
    ask("/v1/collections/notes/context", &json!({"query": "pears", "budget_tokens": 9})).expect(200);
    ask("/v1/collections/notes/reembed", &json!({"rechunk": true})).failure(403);
    ask("/v1/collections/notes/import", &json!({"path": "a.csv"})).failure(403);
    server.post(SEARCH, &json!({"query": "pears"})).failure(401);
    let document = server.ask("GET", "/openapi.json", &[("api-key", reader)], &Value::Null).expect(200);
    assert_eq!(document["security"], json!([{"bearer": []}, {"api-key": []}]));
}

/// Each operation of the document, with its path as it can be asked.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let verbs = ["get", "put", "post", "patch", "delete"];
    paths
        .iter()
        .flat_map(|(path, item)| {
            let of_path = item.as_object().unwrap().iter().filter(|(verb, _)| verbs.contains(&verb.as_str()));
            of_path.map(|(verb, operation)| (verb.to_uppercase(), path.clone(), operation.clone()))
        })
        .collect()
}

#[test]
fn the_document_names_what_is_there() {
    let server = Serving::new();
    let document = server.get("/openapi.json").expect(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(document["info"]["description"].as_str().unwrap().contains("| `dimension_mismatch` | 400 |"));
    assert!(document["components"]["securitySchemes"]["bearer"].is_object());
    let operations = operations(&document);
    for (verb, path, operation) in &operations {
        let asked = path.replace("{collection}", "none").replace("{id}", "none");
        let answer = server.send(verb, &asked, &[], b"");
        assert!(!is_no_route(&answer), "{verb} {path}: {answer:?}");
        expect_described(&document, operation, &answer, &format!("{verb} {path}"));
        assert!(operation["tags"][0].is_string() && operation["summary"].is_string(), "{verb} {path}");
    }
    let tags: Vec<&Value> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    assert!(operations.iter().all(|(.., operation)| tags.contains(&&operation["tags"][0])));
    let refs = serde_json::to_string(&document).unwrap();
    for named in refs.split("\"#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document["components"]["schemas"][named].is_object(), "`{named}` is named and not described");
    }
}

/// Whether a path, or a method of it, is not there, whichever product's client asked.
fn is_no_route(answer: &super::Answer) -> bool {
    // Failures of text-embeddings-inference and of Cohere have no code, so that words must tell.
    let said = answer.body.to_string();
    answer.status == 405 || said.contains("/docs shows all routes")
}

/// A failure has a status that the document has, and the fields that it says.
fn expect_described(document: &Value, operation: &Value, answer: &super::Answer, what: &str) {
    if answer.status < 400 {
        return;
    }
    let responses = &operation["responses"];
    let names = [answer.status.to_string(), format!("{}XX", answer.status / 100), "default".to_owned()];
    let described = names.iter().find_map(|name| responses.get(name)).unwrap();
    let name = described["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
    let schema = document.pointer(name.trim_start_matches('#')).unwrap();
    let there = answer.body.as_object().unwrap_or_else(|| panic!("{what}: {answer:?}"));
    let fields = schema["properties"].as_object().unwrap();
    assert!(there.keys().all(|field| fields.contains_key(field)), "{what}: {name} is not {answer:?}");
    for field in schema["required"].as_array().unwrap() {
        assert!(there.contains_key(field.as_str().unwrap()), "{what}: {name} is not {answer:?}");
    }
}

#[test]
fn a_route_that_is_not_there_is_known_as_such_in_every_shape() {
    let server = Serving::new();
    for path in ["/v1/none", "/v1/collections/a/b/c", "/none"] {
        let answer = server.get(path);
        assert!(is_no_route(&answer), "{path}: {answer:?}");
    }
    // Text-embeddings-inference, Cohere, OpenAI.
    for path in ["/embed", "/v2/rerank", "/v1/embeddings"] {
        let answer = server.delete(path);
        assert!(is_no_route(&answer), "{path}: {answer:?}");
    }
}

/// Routes are read from the sources, so that one without a description is found.
#[test]
fn every_native_route_is_described() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/native");
    let mut open = vec![root];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            assert!(!source.contains(".route("), "{}: use `.routes(routes!(..))`", path.display());
        }
    }
    let document = Serving::new().get("/openapi.json").expect(200);
    for path in ["search", "search/batch", "context", "import", "reembed"] {
        assert!(document["paths"][format!("/v1/collections/{{collection}}/{path}")]["post"].is_object(), "{path}");
    }
    for path in ["/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/events"] {
        assert!(document["paths"][path]["get"].is_object(), "{path}");
    }
}

#[test]
fn the_reference_page_asks_nobody_else() {
    let page = Serving::new().get("/docs").expect(200);
    let page = page.as_str().unwrap();
    assert!(page.contains("fetch(\"/openapi.json\""));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("innerHTML"));
}
