//! Documents over HTTP: in by every kind of body, out by id and page by page, versions, and what is refused.

use std::io::{Read, Write};
use std::net::TcpStream;

use quiverdb::server::{Limits, Settings};
use quiverdb::{Database, DocumentId};
use serde_json::{Value, json};

use super::{Answer, Serving};

const DOCUMENTS: &str = "/v1/collections/c/documents";

/// A server with a collection of one external dimension and a number that each document brings.
fn with_vectors() -> Serving {
    let server = Serving::new();
    server.put("/v1/collections/c", &json!({"model": "external", "dims": 2})).expect(201);
    server
}

fn with_texts() -> Serving {
    let server = Serving::new();
    server.put("/v1/collections/c", &json!({})).expect(201);
    server
}

fn send(server: &Serving, kind: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    server.send("POST", DOCUMENTS, &[&[("content-type", kind)], headers].concat(), body)
}

fn count(server: &Serving) -> u64 {
    server.get("/v1/collections/c/count").expect(200)["count"].as_u64().unwrap()
}

#[test]
fn one_document_an_array_and_lines_get_in() {
    let server = with_texts();
    let one = server.post(DOCUMENTS, &json!({"id": "a", "text": "one", "title": "T", "year": 2020})).expect(200);
    assert_eq!((&one["added"], &one["rejected"], &one["rejected_total"]), (&json!(1), &json!([]), &json!(0)));
    assert_eq!(one["chunks_embedded"], 1);
    let several = json!([{"id": "a", "text": "two"}, {"id": 7, "text": "seven"}]);
    let report = server.post(DOCUMENTS, &several).expect(200);
    assert_eq!((&report["added"], &report["replaced"]), (&json!(1), &json!(1)));
    assert_eq!(server.post(DOCUMENTS, &json!({"documents": several})).expect(200)["unchanged"], 2);
    let lines = b"\xef\xbb\xbf{\"id\": 8, \"text\": \"eight\"}\r\n\n{\"_id\": \"nine\", \"text\": \"nine\"}";
    for kind in ["application/x-ndjson", "application/jsonl; charset=utf-8"] {
        send(&server, kind, &[], lines).expect(200);
    }
    let stored = server.database.open_collection("c").unwrap();
    assert_eq!(stored.ids().unwrap(), [7.into(), 8.into(), "a".into(), DocumentId::from("nine")]);
    assert_eq!(server.get(&format!("{DOCUMENTS}/a")).expect(200), json!({"id": "a", "text": "two", "metadata": {}}));
}

#[test]
fn a_collection_that_is_not_there_is_made_only_where_that_is_asked_for() {
    let server = Serving::new();
    let document = json!({"id": 1, "text": "one"});
    let (code, message) = server.post(DOCUMENTS, &document).failure(404);
    assert!(code == "collection_not_found" && message.contains("?create=true"), "{message}");
    assert_eq!(server.post("/v1/collections/c/documents?create=true", &document).expect(200)["added"], 1);
    server.post("/v1/collections/a%2fb/documents?create=true", &document).failure(400);
}

#[test]
fn a_document_without_an_id_is_called_after_its_content() {
    let server = with_texts();
    let report = server.post(DOCUMENTS, &json!({"text": "one"})).expect(200);
    let id = report["ids"][0].as_str().unwrap().to_owned();
    assert_eq!(server.post(DOCUMENTS, &json!([{"text": "one"}])).expect(200)["unchanged"], 1);
    assert_eq!(send(&server, "application/jsonl", &[], b"{ \"text\": \"one\" }").expect(200)["unchanged"], 1);
    let path = format!("{DOCUMENTS}/{}", id.replace('#', "%23"));
    assert_eq!(server.get(&path).expect(200)["id"], json!(id));
}

#[test]
fn what_is_rejected_is_named_with_its_place_and_the_rest_gets_in() {
    let server = with_vectors();
    let documents = json!([
        {"id": 0, "vector": [1.0, 0.0]},
        {"id": 1, "vector": [1.0]},
        {"id": 2, "vector": [1.0, 1e40]},
        {"id": 3, "vector": [0.0, 0.0]},
        {"id": 4, "vector": [1.0, null]},
        {"id": 5, "text": "no vector"},
        {"id": 6, "vector": "no"},
        7,
        {"id": {}, "vector": [1.0, 0.0]},
        {"id": "x".repeat(513), "vector": [1.0, 0.0]},
        {"id": "", "vector": [1.0, 0.0]}
    ]);
    let report = server.post(DOCUMENTS, &documents).expect(200);
    assert_eq!((&report["added"], &report["rejected_total"]), (&json!(1), &json!(10)));
    let rejected = report["rejected"].as_array().unwrap();
    let places: Vec<u64> = rejected.iter().map(|rejected| rejected["index"].as_u64().unwrap()).collect();
    assert_eq!(places, (1..=10).collect::<Vec<_>>(), "{report}");
    let reason = |at: usize| rejected[at]["reason"].as_str().unwrap();
    assert!(reason(1).contains("at place 1") && reason(3).contains("vector[1]"), "{report}");
    assert!(reason(2).contains("all zeros") && reason(0).contains("got 1"), "{report}");
}

#[test]
fn a_single_document_is_refused_with_its_own_error() {
    let server = with_vectors();
    let refused = |document: &Value| server.post(DOCUMENTS, document).failure(400);
    assert_eq!(refused(&json!({"id": 1, "vector": [1.0]})).0, "dimension_mismatch");
    assert!(refused(&json!({"id": 1, "vector": [1.0, 1e39]})).1.contains("at place 1"));
    assert!(refused(&json!([{"id": 1, "vector": [0.0, 0.0]}])).1.contains("all zeros"));
    assert!(refused(&json!({"ids": [1]})).1.contains("`text` nor `vector`"));
    let raw = |body: &str| send(&server, "application/json", &[], body.as_bytes()).failure(400).1;
    assert!(raw("{\"id\": 1, \"vector\": [1.0, NaN]}").contains("vector"));
    assert!(raw("{\"id\": 1, \"vector\": [1e999, 1]}").contains("out of range"));
    assert!(raw("{\"id\": 1, \"id\": 2, \"vector\": [1, 1]}").contains("`id` is there twice"));
    assert!(raw("{\"id\": 1, \"vector\": [1, 1], \"a\": {\"b\": 1, \"b\": 1}}").contains("`b` is there twice"));
    assert!(raw("").contains("EOF"));
    assert_eq!(count(&server), 0);
}

#[test]
fn lines_that_are_no_documents_are_named_by_their_number() {
    let server = with_texts();
    let lines =
        b"{\"id\":1,\"text\":\"a\"}\nnot json\n{\"id\":2,\"id\":2,\"text\":\"\"}\n\xff\n{\"id\":5,\"text\":\"e\"}";
    let report = send(&server, "application/x-ndjson", &[], lines).expect(200);
    assert_eq!(report["added"], 2);
    let sources: Vec<&str> =
        report["rejected"].as_array().unwrap().iter().map(|rejected| rejected["source"].as_str().unwrap()).collect();
    assert_eq!(sources, ["line 2", "line 3", "line 4"]);
    let (_, message) = send(&server, "application/x-ndjson", &[], b"no\nno\n").failure(400);
    assert!(message.contains("(2)") && message.contains("line 1"), "{message}");
}

#[test]
fn more_lines_than_a_batch_are_taken_in_whole() {
    let server = with_vectors();
    let padding = "x".repeat(2_000);
    let mut lines = Vec::new();
    for id in 0..5_000 {
        writeln!(lines, "{{\"id\": {id}, \"vector\": [1, {id}], \"padding\": \"{padding}\"}}").unwrap();
    }
    lines.extend_from_slice(b"no\n");
    let report = send(&server, "application/x-ndjson", &[], &lines).expect(200);
    assert_eq!((&report["added"], &report["rejected"][0]["source"]), (&json!(5_000), &json!("line 5001")));
    assert_eq!(count(&server), 5_000);
}

#[test]
fn bodies_beyond_the_limits_are_refused_as_sent_and_unpacked() {
    let limits = Limits { body_bytes: 20_000, stream_bytes: 40_000, text_bytes: 10_000, ..Limits::default() };
    let server = Serving::with(Database::in_memory().unwrap(), Settings { limits, ..Settings::default() });
    server.put("/v1/collections/c", &json!({"model": "external", "dims": 1})).expect(201);
    let document = |bytes: usize| json!({"id": 1, "vector": [1], "text": "x".repeat(bytes)});
    let (_, message) = server.post(DOCUMENTS, &document(10_001)).failure(400);
    assert!(message.contains("limits.text_bytes"), "{message}");
    server.post(DOCUMENTS, &document(10_000)).expect(200);
    assert_eq!(server.post(DOCUMENTS, &document(30_000)).failure(413).0, "body_too_large");
    let line = document(9_000).to_string() + "\n";
    send(&server, "application/jsonl", &[], line.repeat(3).as_bytes()).expect(200);
    let (code, message) = send(&server, "application/jsonl", &[], line.repeat(5).as_bytes()).failure(413);
    assert!(code == "body_too_large" && message.contains("stream_bytes"), "{message}");
}

#[cfg(feature = "parquet")]
#[test]
fn packed_bodies_are_unpacked_within_the_same_limits() {
    let limits = Limits { body_bytes: 20_000, stream_bytes: 40_000, ..Limits::default() };
    let server = Serving::with(Database::in_memory().unwrap(), Settings { limits, ..Settings::default() });
    server.put("/v1/collections/c", &json!({"model": "external", "dims": 1})).expect(201);
    let document = |bytes: usize| json!({"id": 1, "vector": [1], "text": "x".repeat(bytes)}).to_string();
    let gzip = |text: &str| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    };
    let zstd = |text: &str| zstd::encode_all(text.as_bytes(), 3).unwrap();
    for (encoding, small, large) in [
        ("gzip", gzip(&document(5_000)), gzip(&document(10_000_000))),
        ("zstd", zstd(&document(5_000)), zstd(&document(10_000_000))),
    ] {
        for kind in ["application/json", "application/x-ndjson"] {
            send(&server, kind, &[("content-encoding", encoding)], &small).expect(200);
            let refused = send(&server, kind, &[("content-encoding", encoding)], &large);
            assert_eq!(refused.failure(413).0, "body_too_large", "{encoding} {kind}");
        }
        let damaged = &small[..small.len() / 2];
        send(&server, "application/json", &[("content-encoding", encoding)], damaged).failure(400);
    }
    for encoding in ["br", "gzip, gzip", "nonsense"] {
        let refused = send(&server, "application/json", &[("content-encoding", encoding)], b"{}");
        assert_eq!(refused.failure(415).0, "unsupported_media_type", "{encoding}");
    }
}

#[cfg(feature = "parquet")]
#[test]
fn tables_get_in_and_damaged_ones_are_refused() {
    let server = with_vectors();
    server.post(DOCUMENTS, &json!([{"id": 1, "vector": [1, 2], "year": 1}, {"id": "b", "vector": [3, 4]}])).expect(200);
    let folder = tempfile::tempdir().unwrap();
    let stored = server.database.open_collection("c").unwrap();
    for (name, kind) in
        [("a.parquet", "application/vnd.apache.parquet"), ("a.arrow", "application/vnd.apache.arrow.file")]
    {
        let path = folder.path().join(name);
        let options = quiverdb::ExportOptions { vectors: true, ..quiverdb::ExportOptions::default() };
        stored.export(&path, &options).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(send(&server, kind, &[], &bytes).expect(200)["unchanged"], 2, "{kind}");
        server.post("/v1/collections/c/documents/delete", &json!({"ids": [1, "b"]})).expect(200);
        assert_eq!(send(&server, kind, &[], &bytes).expect(200)["added"], 2, "{kind}");
        let (_, message) = send(&server, kind, &[], &bytes[..bytes.len() / 2]).failure(400);
        assert!(message.contains("the table") && !message.contains("tmp"), "{message}");
    }
    server.put("/v1/collections/csv", &json!({})).expect(201);
    let csv = "/v1/collections/csv/documents";
    let rows = b"doc_id,body,year\nferris,A crab that likes memory safety.,2015\n";
    let header = [("content-type", "text/csv")];
    let report = server.send("POST", &format!("{csv}?map=id=doc_id,text=body"), &header, rows).expect(200);
    assert_eq!(report["added"], 1);
    assert_eq!(server.get(&format!("{csv}/ferris")).expect(200)["metadata"], json!({"year": 2015}));
    let unnamed = b"text\nfirst\nsecond\n";
    for (outcome, _) in [("added", 0), ("unchanged", 1)] {
        assert_eq!(server.send("POST", csv, &header, unnamed).expect(200)[outcome], 2);
    }
    let (_, message) = server.send("POST", &format!("{csv}?map=id=none"), &header, rows).failure(400);
    assert!(message.contains("none"), "{message}");
}

#[test]
fn other_content_types_are_refused() {
    let server = with_texts();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
        let (code, message) = send(&server, kind, &[], b"{\"id\":1,\"text\":\"a\"}").failure(415);
        assert!(code == "unsupported_media_type" && message.contains("application/x-ndjson"), "{message}");
    }
    assert_eq!(count(&server), 0);
}

#[test]
fn digits_in_a_path_are_a_number_unless_told_otherwise() {
    let server = with_texts();
    let documents = json!([{"id": 7, "text": "number"}, {"id": "7", "text": "string"}, {"id": "07", "text": "zero"},
        {"id": -7, "text": "minus"}, {"id": "a/b c", "text": "slash"}, {"id": "delete", "text": "word"}]);
    server.post(DOCUMENTS, &documents).expect(200);
    let text = |path: &str| server.get(&format!("{DOCUMENTS}/{path}")).expect(200)["text"].clone();
    assert_eq!((text("7"), text("7?id_type=string"), text("07")), (json!("number"), json!("string"), json!("zero")));
    assert_eq!(
        (text("-7"), text("a%2Fb%20c"), text("7?id_type=integer")),
        (json!("minus"), json!("slash"), json!("number"))
    );
    let (_, message) = server.get(&format!("{DOCUMENTS}/8")).failure(404);
    assert!(message.contains("id_type=string"), "{message}");
    assert_eq!(server.get(&format!("{DOCUMENTS}/x")).failure(404).0, "document_not_found");
    server.get(&format!("{DOCUMENTS}/x?id_type=integer")).failure(400);
    server.get(&format!("{DOCUMENTS}/x?id_type=uuid")).failure(400);
    server.get(&format!("{DOCUMENTS}/{}", "x".repeat(513))).failure(400);
    server.get(&format!("{DOCUMENTS}/%ff")).failure(400);
    let found = server.post(&format!("{DOCUMENTS}/get"), &json!({"ids": ["delete", 7, 9]})).expect(200);
    assert_eq!((&found["documents"][0]["id"], &found["missing"]), (&json!("delete"), &json!([9])));
    assert_eq!(server.delete(&format!("{DOCUMENTS}/7")).expect(200), json!({"deleted": 1}));
    assert_eq!(text("7?id_type=string"), "string");
    assert_eq!(server.delete(&format!("{DOCUMENTS}/7")).failure(404).0, "document_not_found");
}

/// The status and the version of an answer.
fn version_of(server: &Serving, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let tag = answer.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap_or_default();
    (answer[9..12].parse().unwrap(), tag.to_owned())
}

#[test]
fn a_write_that_expects_a_version_fails_where_another_was_faster() {
    let server = with_texts();
    let path = format!("{DOCUMENTS}/a");
    let put = |headers: &[(&str, &str)], text: &str| {
        version_of(&server, "PUT", &path, headers, &json!({"text": text}).to_string())
    };
    assert_eq!(put(&[("if-match", "*")], "none").0, 412);
    let (status, first) = put(&[("if-none-match", "*")], "one");
    assert_eq!((status, first.len()), (201, 34));
    assert_eq!(put(&[("if-none-match", "*")], "two").0, 412);
    assert_eq!(version_of(&server, "GET", &path, &[], ""), (200, first.clone()));
    assert_eq!(version_of(&server, "GET", &path, &[("if-none-match", &first)], "").0, 304);
    let (status, second) = put(&[("if-match", &first)], "two");
    assert!(status == 200 && second != first);
    assert_eq!(put(&[("if-match", &first)], "three").0, 412);
    assert_eq!(put(&[("if-match", &format!("{first}, {second}"))], "two"), (200, second.clone()));
    let answer = server.ask("DELETE", &path, &[("if-match", first.as_str())], &Value::Null);
    assert_eq!(answer.failure(412).0, "precondition_failed");
    assert_eq!(server.get(&path).expect(200)["text"], "two");
    server.ask("DELETE", &path, &[("if-match", second.as_str())], &Value::Null).expect(200);
    let gone = server.ask("DELETE", &path, &[("if-match", second.as_str())], &Value::Null);
    gone.failure(412);
}

#[test]
fn of_many_who_replace_one_version_one_succeeds() {
    let server = with_texts();
    let path = format!("{DOCUMENTS}/a");
    let first = version_of(&server, "PUT", &path, &[], r#"{"text": "first"}"#).1;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|at| {
                let body = json!({"text": format!("of {at}")});
                let (server, path, first) = (&server, &path, &first);
                scope.spawn(move || server.ask("PUT", path, &[("if-match", first.as_str())], &body).status)
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 412].contains(status)), "{statuses:?}");
}

#[test]
fn the_id_of_a_path_is_the_documents() {
    let server = with_texts();
    let put = |path: &str, body: &Value| server.put(&format!("{DOCUMENTS}/{path}"), body);
    put("7", &json!({"id": 7, "text": "a"})).expect(201);
    let (_, message) = put("7", &json!({"id": "7", "text": "a"})).failure(400);
    assert!(message.contains("id_type"), "{message}");
    put("7?id_type=string", &json!({"id": "7", "text": "a"})).expect(201);
    assert_eq!(put("7", &json!({"text": "a"})).expect(200)["unchanged"], 1);
    put("8", &json!([{"text": "a"}])).failure(400);
}

#[test]
fn pages_go_on_behind_an_id_whatever_is_written_meanwhile() {
    let server = with_texts();
    let documents: Vec<Value> = (0..10)
        .map(|id| json!({"id": id, "text": "t", "even": id % 2 == 0}))
        .chain([json!({"id": "a", "text": "t"})])
        .collect();
    server.post(DOCUMENTS, &json!(documents)).expect(200);
    let ids = |page: &Value| -> Vec<Value> {
        page["documents"].as_array().unwrap().iter().map(|document| document["id"].clone()).collect()
    };
    let first = server.get(&format!("{DOCUMENTS}?limit=4")).expect(200);
    assert_eq!(ids(&first), [0, 1, 2, 3].map(Value::from));
    server.post(&format!("{DOCUMENTS}/delete"), &json!({"ids": [0, 3]})).expect(200);
    server.post(DOCUMENTS, &json!({"id": -1, "text": "t"})).expect(200);
    let next = |page: &Value| {
        server.get(&format!("{DOCUMENTS}?limit=4&cursor={}", page["next_cursor"].as_str().unwrap())).expect(200)
    };
    let second = next(&first);
    assert_eq!(ids(&second), [4, 5, 6, 7].map(Value::from));
    let third = next(&second);
    assert_eq!((ids(&third), &third["next_cursor"]), (vec![json!(8), json!(9), json!("a")], &Value::Null));
    let even = server.get(&format!("{DOCUMENTS}?filter=even%20%3D%20true&limit=2&cursor=Mg")).expect(200);
    assert_eq!((ids(&even), even["next_cursor"].is_string()), (vec![json!(4), json!(6)], true));
    let counted = server.get("/v1/collections/c/count?filter=%7B%22even%22%3Atrue%7D").expect(200);
    assert_eq!((counted["count"].clone(), count(&server)), (json!(4), 10));
    for query in
        ["limit=0", "limit=1001", "limit=x", "cursor=none", "cursor=%00", "filter=%28", "page=2", "limit=1&limit=2"]
    {
        server.get(&format!("{DOCUMENTS}?{query}")).failure(400);
    }
}

#[test]
fn documents_are_deleted_by_ids_or_by_a_filter() {
    let server = with_texts();
    let documents: Vec<Value> = (0..6).map(|id| json!({"id": id, "text": "t", "n": id})).collect();
    server.post(DOCUMENTS, &json!(documents)).expect(200);
    let delete = |body: Value| server.post(&format!("{DOCUMENTS}/delete"), &body);
    assert_eq!(delete(json!({"ids": [0, 0, "0", 99]})).expect(200), json!({"deleted": 1}));
    assert_eq!(delete(json!({"filter": {"n": {"gte": 4}}})).expect(200), json!({"deleted": 2}));
    assert_eq!(delete(json!({"filter": "n = 1"})).expect(200), json!({"deleted": 1}));
    for refused in [
        json!({}),
        json!({"filter": {}}),
        json!({"filter": ""}),
        json!({"filter": {"n": {"near": 1}}}),
        json!({"ids": [1], "filter": {"n": 1}}),
        json!({"ids": [1.5]}),
        json!({"ids": [""]}),
        json!({"ids": 1}),
        json!({"id": 1}),
        json!({"ids": vec![1; 5_000]}),
    ] {
        delete(refused).failure(400);
    }
    assert_eq!(count(&server), 2);
}

#[test]
fn a_request_that_is_sent_again_is_answered_the_same() {
    let server = with_texts();
    let key = [("idempotency-key", "a-1")];
    let post = |body: &Value, key: &[(&str, &str)]| server.ask("POST", DOCUMENTS, key, body);
    let document = json!({"id": 1, "text": "one"});
    let first = post(&document, &key).expect(200);
    assert_eq!((post(&document, &key).expect(200), &first["added"]), (first.clone(), &json!(1)));
    server.delete(&format!("{DOCUMENTS}/1")).expect(200);
    assert_eq!(post(&document, &key).expect(200), first);
    assert_eq!(count(&server), 0);
    assert_eq!(post(&json!({"id": 1, "text": "another"}), &key).failure(409).0, "conflict");
    post(&json!({"id": 2}), &[("idempotency-key", "b")]).failure(400);
    assert_eq!(post(&json!({"id": 2, "text": "now"}), &[("idempotency-key", "b")]).expect(200)["added"], 1);
    post(&document, &[("idempotency-key", &"k".repeat(256))]).failure(400);
    let lines = |body: &[u8]| send(&server, "application/x-ndjson", &[("idempotency-key", "lines")], body);
    assert_eq!(lines(b"{\"id\":3,\"text\":\"three\"}\n").expect(200)["added"], 1);
    assert_eq!(lines(b"{\"id\":3,\"text\":\"three\"}\n").expect(200)["added"], 1);
    lines(b"{\"id\":3,\"text\":\"four\"}\n").failure(409);
}

#[cfg(feature = "parquet")]
#[test]
fn a_body_whose_zstd_window_would_take_too_much_memory_is_refused_with_a_way_out() {
    let server = with_vectors();
    let packed = |window: u32| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window).unwrap();
        encoder.write_all(br#"{"id": 1, "vector": [1, 2]}"#).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = [("content-encoding", "zstd")];
    send(&server, "application/json", &zstd, &packed(23)).expect(200);
    let (_, message) = send(&server, "application/json", &zstd, &packed(24)).failure(400);
    assert!(message.contains("8 MiB") && message.contains("--long"), "{message}");
}

#[test]
fn a_key_counts_for_the_collection_itself_whatever_its_name() {
    let server = with_texts();
    let key = [("idempotency-key", "a")];
    let post = |name: &str| {
        let document = json!({"id": 1, "text": "one"});
        server.ask("POST", &format!("/v1/collections/{name}/documents"), &key, &document).expect(200)["added"].clone()
    };
    server.put("/v1/aliases/current", &json!({"collection": "c"})).expect(200);
    assert_eq!((post("current"), post("c")), (json!(1), json!(1)));
    assert_eq!(count(&server), 1);
    server.put("/v1/collections/d", &json!({})).expect(201);
    server.put("/v1/aliases/current", &json!({"collection": "d"})).expect(200);
    assert_eq!(post("current"), 1);
    assert_eq!(server.get("/v1/collections/d/count").expect(200)["count"], 1);
    server.delete("/v1/collections/c").expect(200);
    server.put("/v1/collections/c", &json!({})).expect(201);
    assert_eq!((post("c"), count(&server)), (json!(1), 1));
}

#[test]
fn a_client_that_goes_away_in_the_middle_of_a_line_leaves_no_half_of_it() {
    let server = with_texts();
    let mut stream = TcpStream::connect(server.address).unwrap();
    write!(
        stream,
        "POST {DOCUMENTS} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ncontent-length: 1000\r\n\r\n\
         {{\"id\": 1, \"text\": \"one\"}}\n{{\"id\": 2, \"text\": \"two\"}}"
    )
    .unwrap();
    drop(stream);
    // Answered after it, on another connection; and the server still takes lines.
    send(&server, "application/x-ndjson", &[], b"{\"id\": 3, \"text\": \"three\"}").expect(200);
    assert_eq!(server.database.open_collection("c").unwrap().ids().unwrap(), [DocumentId::from(3)]);
}

#[test]
fn strange_bodies_are_refused_or_stored_and_never_a_fault() {
    let server = with_texts();
    let deep = "[".repeat(100_000);
    let deep_document = format!("{{\"id\": 1, \"text\": \"t\", \"x\": {}{}}}", "[".repeat(120), "]".repeat(120));
    let cases: Vec<Vec<u8>> = [
        &deep,
        &deep_document,
        "[1,2",
        "{\"a\":\"\u{0}\"}",
        "\"\\ud800\"",
        "{\"id\":1,\"text\":\"\\ud800\"}",
        "{\"id\":1,\"text\":\"\\u0000\"}",
        "-0",
        "1e9999",
        "{\"id\":123123123123123123123123123123,\"text\":\"t\"}",
        "{\"id\":1e0,\"text\":\"t\"}",
        "nul",
        "{\"text\":\"\u{202e}\u{feff}\u{1f4a9}\",\"id\":\"%00/../..\"}",
        "[[],[{}],null]",
        "{} {}",
    ]
    .iter()
    .map(|case| case.as_bytes().to_vec())
    .chain([vec![0xff, 0xfe, b'['], vec![b'"', 0xc3, b'"']])
    .collect();
    for case in cases {
        for kind in ["application/json", "application/x-ndjson"] {
            let answer = send(&server, kind, &[], &case);
            let shown = String::from_utf8_lossy(&case[..case.len().min(80)]).into_owned();
            assert!(answer.status == 200 || (400..500).contains(&answer.status), "{shown}: {answer:?}");
        }
    }
    assert_eq!(server.ask("POST", "/v1/check", &[], &Value::Null).expect(200), json!({"violations": []}));
}
