//! Are clients of Qdrant answered?

use quiverdb::server::Settings;
use quiverdb::{CollectionConfig, Database, Document, SpaceConfig};
use serde_json::{Value, json};

use super::{Answer, Serving};

const POINTS: &str = "/qdrant/collections/c/points";

/// A server with a collection `c` of vectors of two numbers.
fn serving(distance: &str) -> Serving {
    let server = Serving::new();
    let body = json!({"vectors": {"size": 2, "distance": distance}});
    assert_eq!(result(server.put("/qdrant/collections/c", &body)), json!(true));
    server
}

#[track_caller]
fn result(answer: Answer) -> Value {
    let body = answer.expect(200);
    assert_eq!(body["status"], "ok", "{body}");
    assert!(body["time"].as_f64().is_some_and(|time| time >= 0.0), "{body}");
    body["result"].clone()
}

#[track_caller]
fn error(answer: Answer, status: u16) -> String {
    let body = answer.expect(status);
    assert!(body["time"].is_number(), "{body}");
    body["status"]["error"].as_str().unwrap().to_owned()
}

fn upsert(server: &Serving, points: Value) {
    let updated = result(server.put(&format!("{POINTS}?wait=true"), &json!({"points": points})));
    assert_eq!(updated["status"], "completed");
}

fn post(server: &Serving, path: &str, body: Value) -> Answer {
    server.post(&format!("{POINTS}{path}"), &body)
}

fn ids(points: &Value) -> Vec<Value> {
    points.as_array().unwrap().iter().map(|point| point["id"].clone()).collect()
}

#[test]
fn points_come_back_with_the_ids_that_they_were_given() {
    let server = serving("Cosine");
    let uuid = "0f8fad5b-d9cb-469f-a165-70867728950e";
    upsert(
        &server,
        json!([
            {"id": 7, "vector": [3.0, 4.0], "payload": {"a": [1, 2.0, null]}},
            {"id": u64::MAX, "vector": [1.0, 0.0]},
            {"id": uuid.to_uppercase(), "vector": [0.0, 1.0]},
        ]),
    );
    let body = json!({"ids": [7, u64::MAX, uuid.replace('-', ""), 8], "with_vector": true});
    let points = result(post(&server, "", body));
    assert_eq!(ids(&points), [json!(7), json!(u64::MAX), json!(uuid)]);
    assert_eq!(points[0]["payload"], json!({"a": [1, 2.0, null]}));
    let near = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-6;
    assert!(near(&points[0]["vector"][0], 0.6) && near(&points[0]["vector"][1], 0.8), "{points}");
    assert_eq!(result(server.get(&format!("{POINTS}/7")))["id"], 7);
    assert!(error(server.get(&format!("{POINTS}/8")), 404).contains("8"));
    let refused = server.put(POINTS, &json!({"points": [{"id": "seven", "vector": [1.0, 0.0]}]}));
    assert!(error(refused, 400).contains("\"seven\" is not a valid point ID"));
}

#[test]
fn vectors_have_names_or_none_or_both() {
    let server = Serving::new();
    let dot = |size: usize| json!({"size": size, "distance": "Dot"});
    for (vectors, vector, shown) in [
        (json!({"": dot(2)}), json!([1.0, 2.0]), dot(2)),
        (json!({"a": dot(2)}), json!({"a": [1.0, 2.0]}), json!({"a": dot(2)})),
        (json!({"": dot(2), "a": dot(1)}), json!({"": [1.0, 2.0], "a": [3.0]}), json!({"": dot(2), "a": dot(1)})),
    ] {
        result(server.put("/qdrant/collections/c", &json!({"vectors": vectors})));
        assert_eq!(result(server.get("/qdrant/collections/c"))["config"]["params"]["vectors"], shown);
        upsert(&server, json!([{"id": 1, "vector": vector}]));
        assert_eq!(result(server.get(&format!("{POINTS}/1")))["vector"], vector);
        result(server.delete("/qdrant/collections/c"));
    }
    let refused = server.put("/qdrant/collections/c", &json!({"vectors": {"default": dot(2)}}));
    assert!(error(refused, 400).contains("default"));
}

#[test]
fn a_request_is_written_as_a_whole_or_not_at_all() {
    let server = serving("Dot");
    let points = json!({"points": [{"id": 1, "vector": [1.0, 0.0]}, {"id": 2, "vector": [1.0]}]});
    assert!(error(server.put(POINTS, &points), 400).contains("expected dim: 2, got 1"));
    assert_eq!(result(post(&server, "/count", json!({})))["count"], 0);
    // Of one id the last counts.
    upsert(&server, json!([{"id": 1, "vector": [1.0, 0.0]}, {"id": 1, "vector": [0.0, 1.0]}]));
    let point = result(server.get(&format!("{POINTS}/1")));
    assert_eq!(point["vector"], json!([0.0, 1.0]));
    let columns = json!({"batch": {"ids": [2, 3], "vectors": [[1.0, 1.0], [2.0, 2.0]], "payloads": [null, {"k": 1}]}});
    result(server.put(POINTS, &columns));
    assert_eq!(result(post(&server, "/count", json!({})))["count"], 3);
    let uneven = json!({"batch": {"ids": [2, 3], "vectors": [[1.0, 1.0]]}});
    assert!(error(server.put(POINTS, &uneven), 400).contains("2 ids and 1 vectors"));
}

#[test]
fn euclidean_scores_are_distances_and_a_threshold_is_the_largest() {
    let server = serving("Euclid");
    upsert(
        &server,
        json!([
            {"id": 1, "vector": [0.0, 0.0]}, {"id": 2, "vector": [3.0, 4.0]}, {"id": 3, "vector": [6.0, 8.0]}
        ]),
    );
    let found = result(post(&server, "/query", json!({"query": [0.0, 0.0], "score_threshold": 5.0})));
    assert_eq!(ids(&found["points"]), [json!(1), json!(2)]);
    assert_eq!((&found["points"][0]["score"], &found["points"][1]["score"]), (&json!(0.0), &json!(5.0)));
    let from_point = result(post(&server, "/query", json!({"query": 1, "limit": 1})));
    assert_eq!(ids(&from_point["points"]), [json!(2)]);
}

#[test]
fn what_qdrant_tells_apart_is_told_apart() {
    let server = serving("Dot");
    let payloads = [
        json!({"a": 1}),
        json!({"a": 1.0}),
        json!({"a": true}),
        json!({"a": [0, 5]}),
        json!({"a": [{"b": 1}]}),
        json!({"a": {"b": 1}}),
        json!({"a": null}),
        json!({"a": []}),
        json!({}),
        json!({"a": "Dark-red wine"}),
    ];
    let points: Vec<Value> = payloads
        .iter()
        .enumerate()
        .map(|(id, payload)| json!({"id": id, "vector": [1.0, id], "payload": payload}))
        .collect();
    upsert(&server, json!(points));
    for (filter, expected) in [
        (json!({"must": [{"key": "a", "match": {"value": 1}}]}), vec![0]),
        (json!({"must": [{"key": "a", "match": {"value": true}}]}), vec![2]),
        (json!({"must": [{"key": "a", "range": {"gte": 1, "lte": 1}}]}), vec![0, 1]),
        // Both bounds for one and the same element.
        (json!({"must": [{"key": "a", "range": {"gt": 1, "lt": 4}}]}), vec![]),
        (json!({"must": [{"key": "a.b", "match": {"value": 1}}]}), vec![5]),
        (json!({"must": {"key": "a[].b", "match": {"value": 1}}}), vec![4]),
        (
            json!({"must": [{"nested": {"key": "a", "filter": {"must": [{"key": "b", "match": {"value": 1}}]}}}]}),
            vec![4],
        ),
        (json!({"must": [{"is_null": {"key": "a"}}]}), vec![6]),
        (json!({"must": [{"is_empty": {"key": "a"}}]}), vec![6, 7, 8]),
        (json!({"must": [{"key": "a", "match": {"except": [1]}}]}), vec![1, 2, 3, 4, 5, 9]),
        (json!({"must": [{"key": "a", "match": {"text": "RED dark"}}]}), vec![9]),
        (json!({"must": [{"key": "a", "match": {"phrase": "red dark"}}]}), vec![]),
        (json!({"must": [{"key": "a", "values_count": {"gte": 2}}]}), vec![3]),
        (json!({"must_not": [{"key": "a", "values_count": {"gte": 1}}]}), vec![6, 7, 8]),
        (json!({"should": []}), (0..10).collect()),
        (json!({"must": [{"has_id": [3, 4]}], "must_not": [{"has_id": [4]}]}), vec![3]),
        (
            json!({"min_should": {"min_count": 2, "conditions": [
                {"has_id": [1, 2]}, {"has_id": [2, 3]}, {"key": "a", "match": {"value": true}}]}}),
            vec![2],
        ),
    ] {
        let page = result(post(&server, "/scroll", json!({"filter": filter, "limit": 100})));
        assert_eq!(ids(&page["points"]), expected, "{filter}");
        let found = result(post(&server, "/query", json!({"query": [0.0, -1.0], "filter": filter, "limit": 100})));
        assert_eq!(ids(&found["points"]), expected, "{filter}");
        assert_eq!(result(post(&server, "/count", json!({"filter": filter})))["count"], expected.len(), "{filter}");
    }
}

#[test]
fn what_is_not_supported_is_refused_by_its_name_in_qdrants_shape() {
    let server = serving("Dot");
    upsert(&server, json!([{"id": 1, "vector": [1.0, 0.0]}]));
    for (path, body, name) in [
        ("/count", json!({"filter": {"must": [{"key": "a", "geo_radius": {}}]}}), "geo_radius"),
        ("/count", json!({"filter": {"muss": []}}), "muss"),
        ("/scroll", json!({"order_by": "a"}), "order_by"),
        ("/scroll", json!({"shard_key": "a"}), "shard_key"),
        ("/scroll", json!({"limits": 3}), "limits"),
        ("/query", json!({"query": {"sample": "random"}}), "sample"),
        ("/query", json!({"query": {"nearest": [1.0, 0.0], "mmr": {"x": 1}}}), "mmr"),
        ("/query", json!({"query": {"indices": [1], "values": [1.0]}}), "indices"),
        ("/query", json!({"query": [[1.0, 0.0]]}), "multivectors"),
        ("/query", json!({"query": {"fusion": "rrf"}}), "prefetch"),
        ("/query", json!({"query": {"text": "x", "model": "nobody"}}), "nobody"),
        ("/query", json!({"query": [1.0, 0.0], "limit": 0}), "limit"),
        ("/query/groups", json!({"query": [1.0, 0.0], "group_by": "a", "with_lookup": "c"}), "with_lookup"),
        ("/vectors/delete", json!({"points": [1], "vector": [""]}), "vectors"),
        ("/batch", json!({"operations": [{"fly": {}}]}), "fly"),
    ] {
        let message = error(post(&server, path, body.clone()), 400);
        assert!(message.contains(name), "{body}: {message}");
    }
    assert!(error(server.get("/qdrant/nothing"), 404).contains("there is no /qdrant/nothing"));
    assert_eq!(server.get("/qdrant").expect(200)["version"], server.get("/qdrant/").expect(200)["version"]);
    assert!(error(server.get("/qdrant/collections/none"), 404).contains("`none` doesn't exist"));
    let manhattan = json!({"vectors": {"size": 2, "distance": "Manhattan"}});
    assert!(error(server.put("/qdrant/collections/d", &manhattan), 400).contains("Manhattan"));
    assert!(
        error(server.send("POST", &format!("{POINTS}/count"), &[("content-type", "application/json")], b"{"), 400)
            .len()
            > 5
    );
    assert_eq!(result(post(&server, "/count", json!({})))["count"], 1);
}

#[test]
fn a_reader_may_ask_and_not_change() {
    let settings = Settings { read_only: true, ..Settings::default() };
    let database = Database::in_memory().unwrap();
    let notes = database.collection_with("c", CollectionConfig::new().external(2)).unwrap();
    notes.add(Document::new(1, "").vector(vec![1.0, 0.0])).unwrap();
    let server = Serving::with(database, settings);
    for (path, body) in [
        ("", json!({"ids": [1]})),
        ("/scroll", json!({})),
        ("/count", json!({})),
        ("/query", json!({"query": [1.0, 0.0]})),
        ("/query/batch", json!({"searches": [{"query": [1.0, 0.0]}]})),
        ("/query/groups", json!({"query": [1.0, 0.0], "group_by": "a"})),
    ] {
        result(post(&server, path, body));
    }
    result(server.post("/qdrant/collections/c/facet", &json!({"key": "a"})));
    for path in ["/delete", "/payload", "/payload/delete", "/payload/clear", "/batch"] {
        error(post(&server, path, json!({"points": [1]})), 403);
    }
    error(server.put(POINTS, &json!({"points": []})), 403);
    error(server.delete("/qdrant/collections/c"), 403);
}

#[test]
fn a_collection_of_texts_is_searched_by_text_and_shows_its_passages() {
    let database = Database::in_memory().unwrap();
    let config = CollectionConfig::new().chunk_tokens(16).chunk_overlap(0).space("colour", SpaceConfig::external(2));
    let notes = database.collection_with("notes", config).unwrap();
    let text =
        "Apples and pears grow in the orchard behind the old house.\n\nA ship crosses the wide ocean in nine days.";
    let document = Document::new("travel/1.md", text).title("Days").metadata(json!({"year": 2020}));
    notes.add(document.vector_in("colour", vec![1.0, 0.0])).unwrap();
    let server = Serving::with(database, Settings::default());
    let ask = |query: Value| {
        let body = json!({"query": query, "with_payload": true, "with_vector": ["", "colour"]});
        result(server.post("/qdrant/collections/notes/points/query", &body))["points"].clone()
    };
    let found = ask(json!({"text": "sailing over the sea", "model": "builtin"}));
    assert_eq!(ids(&found), ["travel/1.md"]);
    let payload = &found[0]["payload"];
    assert_eq!((&payload["year"], &payload["$title"]), (&json!(2020), &json!("Days")));
    let passage = payload["$text"].as_str().unwrap();
    assert!(passage.contains("ocean") && !passage.contains("orchard"), "{passage}");
    assert_eq!(found[0]["vector"][""].as_array().map(Vec::len), Some(256));
    assert_eq!(found[0]["vector"]["colour"], json!([1.0, 0.0]));
    let whole = result(server.post("/qdrant/collections/notes/points", &json!({"ids": ["travel/1.md"]})));
    assert_eq!(whole[0]["payload"]["$text"], text);
    let edit = json!({"payload": {"year": 2021}, "points": ["travel/1.md"]});
    result(server.post("/qdrant/collections/notes/points/payload", &edit));
    let document = notes.get("travel/1.md").unwrap().unwrap();
    assert_eq!((document.metadata, document.text.as_str()), (json!({"year": 2021}), text));
}

#[test]
fn a_text_given_as_a_point_is_embedded_and_found_by_its_words_too() {
    let server = Serving::new();
    let body = json!({"vectors": {"size": 256, "distance": "Cosine"}});
    result(server.put("/qdrant/collections/c", &body));
    let text = |text: &str| json!({"text": text, "model": "builtin"});
    upsert(
        &server,
        json!([
            {"id": 1, "vector": text("Apples and pears grow in the orchard."), "payload": {"$text": "mine"}},
            {"id": 2, "vector": text("A ship crosses the ocean.")},
        ]),
    );
    let found =
        result(post(&server, "/query", json!({"query": text("fruit trees"), "limit": 1, "with_payload": true})));
    assert_eq!((&found["points"][0]["id"], &found["points"][0]["payload"]), (&json!(1), &json!({"$text": "mine"})));
    let collection = server.database.open_collection("c").unwrap();
    let words = collection.search(quiverdb::Query::text("ocean").mode(quiverdb::Mode::Text)).unwrap();
    assert_eq!((words.hits.len(), &words.hits[0].document), (1, &2.into()));
}

#[test]
fn more_points_than_an_answer_holds_are_refused_and_pages_go_on() {
    let mut settings = Settings::default();
    settings.limits.hits = 3;
    let database = Database::in_memory().unwrap();
    let server = Serving::with(database, settings);
    result(server.put("/qdrant/collections/c", &json!({"vectors": {"size": 2, "distance": "Dot"}})));
    let points: Vec<Value> = (1..=4).map(|id| json!({"id": id, "vector": [1.0, id]})).collect();
    upsert(&server, json!(points));
    assert!(error(post(&server, "/scroll", json!({"limit": 9999})), 400).contains("limits.hits"));
    assert!(error(post(&server, "/query", json!({"query": [1.0, 1.0], "limit": 9999})), 400).contains("limits.hits"));
    let page = result(post(&server, "/scroll", json!({"limit": 3})));
    assert_eq!((ids(&page["points"]).len(), &page["next_page_offset"]), (3, &json!(4)));
    let page = result(post(&server, "/scroll", json!({"limit": 3, "offset": 4})));
    assert_eq!((ids(&page["points"]), &page["next_page_offset"]), (vec![json!(4)], &Value::Null));
    result(post(&server, "/delete", json!({"points": [1]})));
    assert_eq!(ids(&result(post(&server, "/scroll", json!({"limit": 9999})))["points"]).len(), 3);
    assert_eq!(ids(&result(post(&server, "/query", json!({"query": [0.0, 1.0], "limit": 9999})))["points"])[0], 4);
}

#[test]
fn writers_of_one_point_lose_nothing_to_each_other() {
    const ROUNDS: usize = 60;
    let server = serving("Dot");
    upsert(&server, json!([{"id": 1, "vector": [1.0, 0.0]}]));
    let patch = |key: &str| {
        for round in 0..ROUNDS {
            let payload = json!({format!("{key}{round}"): round});
            // Who is overtaken again and again, as on a busy machine, is told to come again.
            let edit = || post(&server, "/payload", json!({"payload": payload, "points": [1]}));
            result((0..100).map(|_| edit()).find(|answer| answer.status != 503).unwrap());
        }
    };
    let natively = || {
        let collection = server.database.open_collection("c").unwrap();
        for round in 0..ROUNDS {
            loop {
                let (mut document, version) = collection.get_with_version(1).unwrap().unwrap();
                document.metadata[format!("n{round}")] = json!(round);
                match collection.add_expecting(document, version.into()) {
                    Ok(_) => break,
                    Err(quiverdb::Error::Storage(quiverdb_storage::Error::Changed { .. })) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| patch("a"));
        scope.spawn(|| patch("b"));
        scope.spawn(natively);
    });
    let payload = result(server.get(&format!("{POINTS}/1")))["payload"].clone();
    let expected: serde_json::Map<String, Value> =
        ["a", "b", "n"].iter().flat_map(|key| (0..ROUNDS).map(move |n| (format!("{key}{n}"), json!(n)))).collect();
    assert_eq!(payload, Value::Object(expected));
}

#[test]
fn what_is_deleted_natively_while_it_is_edited_stays_deleted() {
    let server = serving("Dot");
    let collection = server.database.open_collection("c").unwrap();
    for round in 0..60 {
        upsert(&server, json!([{"id": 1, "vector": [1.0, 0.0]}]));
        let other = json!({"points": [{"id": 1, "vector": [0.0, 1.0]}]});
        std::thread::scope(|scope| {
            let edit = scope.spawn(|| post(&server, "/payload", json!({"payload": {"a": round}, "points": [1]})));
            let vector = scope.spawn(|| server.put(&format!("{POINTS}/vectors"), &other));
            collection.delete(1).unwrap();
            for answer in [edit.join().unwrap(), vector.join().unwrap()] {
                assert!([200, 404].contains(&answer.status), "{}", answer.body);
            }
        });
        assert_eq!(collection.count().unwrap(), 0, "round {round}");
    }
}

#[test]
fn an_upsert_may_be_for_points_that_are_there_or_for_those_that_are_not() {
    let server = serving("Dot");
    let point = |id: u64, note: &str| json!({"id": id, "vector": [1.0, 0.0], "payload": {"note": note}});
    upsert(&server, json!([point(1, "old")]));
    let put = |body: Value| result(server.put(POINTS, &body));
    let notes = || {
        let page = result(post(&server, "/scroll", json!({})));
        let points = page["points"].as_array().unwrap().clone();
        points.iter().map(|point| point["payload"]["note"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    put(json!({"points": [point(1, "x"), point(2, "new")], "update_mode": "insert_only"}));
    assert_eq!(notes(), ["old", "new"]);
    put(json!({"points": [point(1, "changed"), point(3, "x")], "update_mode": "update_only"}));
    assert_eq!(notes(), ["changed", "new"]);
    let is_new = json!({"must": [{"key": "note", "match": {"value": "new"}}]});
    put(json!({"points": [point(1, "x"), point(2, "let through"), point(3, "third")], "update_filter": is_new}));
    assert_eq!(notes(), ["changed", "let through", "third"]);
    result(post(&server, "/delete", json!({"filter": {"must": [{"key": "note", "match": {"value": "third"}}]}})));
    assert_eq!(notes(), ["changed", "let through"]);
}

#[test]
fn groups_that_are_not_full_are_answered() {
    let server = serving("Dot");
    let points: Vec<Value> =
        (0..40).map(|id| json!({"id": id, "vector": [1.0, id], "payload": {"own": id, "odd": id % 2}})).collect();
    upsert(&server, json!(points));
    let groups = |body: Value| result(post(&server, "/query/groups", body))["groups"].clone();
    // Each point is its own group, and three a group are wanted.
    let own = groups(json!({"query": [0.0, 1.0], "group_by": "own", "limit": 5, "group_size": 3}));
    assert_eq!(ids(&own), [json!(39), json!(38), json!(37), json!(36), json!(35)]);
    assert!(own.as_array().unwrap().iter().all(|group| group["hits"].as_array().unwrap().len() == 1), "{own}");
    let odd = groups(json!({"query": [0.0, 1.0], "group_by": "odd", "limit": 9, "group_size": 2}));
    assert_eq!((ids(&odd), ids(&odd[0]["hits"])), (vec![json!(1), json!(0)], vec![json!(39), json!(37)]));
}

#[test]
fn groups_beyond_the_points_that_are_looked_at_are_answered_too() {
    let database = Database::in_memory().unwrap();
    let collection = database.collection_with("c", CollectionConfig::new().external(1)).unwrap();
    let point = |id: i64| Document::new(id, "").vector(vec![(id % 100) as f32 + 1.0]).metadata(json!({"own": id}));
    collection.add_many((0..10_050).map(point)).unwrap();
    let server = Serving::with(database, Settings::default());
    let body = json!({"query": [1.0], "group_by": "own", "limit": 2, "group_size": 2});
    assert_eq!(result(post(&server, "/query/groups", body))["groups"].as_array().unwrap().len(), 2);
    let body = json!({"query": [1.0], "group_by": "own", "limit": 100, "group_size": 1_000_000});
    assert!(error(post(&server, "/query/groups", body), 400).contains("limits.hits"));
}

#[test]
fn groups_of_documents_of_several_passages_are_answered() {
    let database = Database::in_memory().unwrap();
    let config = CollectionConfig::new().chunk_tokens(16).chunk_overlap(0);
    let collection = database.collection_with("c", config).unwrap();
    let text = |id: i64| {
        let passages = (0..12).map(|n| format!("Apple number {n} of tree {id} is red and sweet and falls in autumn."));
        passages.collect::<Vec<_>>().join("\n\n")
    };
    let own = |id: i64| Document::new(id, text(id)).metadata(json!({"own": id}));
    collection.add_many((0..6).map(own)).unwrap();
    let server = Serving::with(database, Settings::default());
    let query = json!({"text": "apples", "model": "builtin"});
    let body = json!({"query": query, "group_by": "own", "limit": 6, "group_size": 2});
    let groups = result(post(&server, "/query/groups", body))["groups"].clone();
    let mut keys: Vec<i64> = ids(&groups).iter().map(|id| id.as_i64().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(keys, [0, 1, 2, 3, 4, 5]);
    assert!(groups.as_array().unwrap().iter().all(|group| group["hits"].as_array().unwrap().len() == 1), "{groups}");
}

#[test]
fn a_batch_holds_what_one_answer_holds() {
    let mut settings = Settings::default();
    settings.limits.hits = 3;
    let database = Database::in_memory().unwrap();
    let collection = database.collection_with("c", CollectionConfig::new().external(2)).unwrap();
    collection.add_many((1..=4).map(|id| Document::new(id, "").vector(vec![1.0, id as f32]))).unwrap();
    let server = Serving::with(database, settings);
    let batch = |count: usize, search: Value| post(&server, "/query/batch", json!({"searches": vec![search; count]}));
    let search = json!({"query": [0.0, 1.0], "limit": 3});
    let found = result(batch(100, search.clone()));
    assert_eq!(found.as_array().unwrap().len(), 100);
    assert!(found.as_array().unwrap().iter().all(|one| ids(&one["points"]) == [json!(4), json!(3), json!(2)]));
    assert!(error(batch(101, search.clone()), 400).contains("303 points"));
    let fused = json!({"prefetch": [search.clone(), search], "query": {"fusion": "rrf"}, "limit": 1});
    assert!(error(batch(43, fused), 400).contains("301 points"));
}
