//! Collections over HTTP: made, shown, renamed and dropped; aliases, backups, and what keeps a database.

use quiverdb::server::Settings;
use quiverdb::{Database, Document};
use serde_json::{Value, json};

use super::Serving;

#[test]
fn a_collection_is_made_once_and_confirmed_after() {
    let server = Serving::new();
    let settings = json!({"model": "external", "dims": 3, "metric": "dot", "chunk_tokens": 64, "chunk_overlap": 8,
        "chunker": "plain", "language": "german", "spaces": {"colour": {"model": "external", "dims": 2}}});
    let made = server.put("/v1/collections/things", &settings).expect(201);
    assert_eq!((&made["model"], &made["dims"], &made["documents"]), (&json!("external"), &json!(3), &json!(0)));
    assert_eq!(made["spaces"][1], json!({"name": "colour", "model": "external", "dims": 2, "metric": "cosine"}));
    assert_eq!((&made["configuration"]["chunk_tokens"], &made["analyzer"]["language"]), (&json!(64), &json!("german")));
    assert_eq!(server.put("/v1/collections/things", &settings).expect(200), made);
    assert_eq!(server.ask("PUT", "/v1/collections/things", &[], &Value::Null).expect(200), made);
    assert_eq!(server.get("/v1/collections/things").expect(200), made);
    assert_eq!(server.get("/v1/collections").expect(200)["collections"][0]["name"], "things");
}

#[test]
fn another_setting_is_a_conflict_that_names_it() {
    let server = Serving::new();
    let path = "/v1/collections/things";
    server.put(path, &json!({"model": "external", "dims": 3, "chunk_tokens": 64})).expect(201);
    for (settings, named) in [
        (json!({"chunk_tokens": 65}), "65"),
        (json!({"model": "external", "dims": 4}), "4"),
        (json!({"model": "builtin"}), "builtin"),
        (json!({"metric": "l2"}), "l2"),
        (json!({"language": "french"}), "French"),
        (json!({"spaces": {"more": {"model": "external", "dims": 2}}}), "more"),
    ] {
        let (_, message) = server.put(path, &settings).failure(409);
        assert!(message.contains(named), "{settings}: {message}");
    }
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let server = Serving::new();
    for (settings, named) in [
        (json!({"modell": "builtin"}), "modell"),
        (json!({"dims": 0}), "0"),
        (json!({"model": "external"}), "dims"),
        (json!({"model": "external", "dims": 100_000}), "100000"),
        (json!({"metric": "taxi"}), "taxi"),
        (json!({"chunker": "code:cobol"}), "cobol"),
        (json!({"chunk_tokens": 2}), "chunk_tokens"),
        (json!({"spaces": {"default": {"model": "external", "dims": 1}}}), "default"),
        (json!({"model": "https://evil.example/v1#m"}), "not configured"),
        (json!({"model": "/etc"}), "not configured"),
        (json!([]), "invalid"),
    ] {
        let (_, message) = server.put("/v1/collections/new", &settings).failure(400);
        assert!(message.contains(named), "{settings}: {message}");
    }
    server.get("/v1/collections/new").failure(404);
}

#[test]
fn no_name_is_a_path() {
    let server = Serving::new();
    let long = "a".repeat(300);
    for name in
        ["..", "%2e%2e%2f", "%2e%2e%2fetc", "a%2fb", "%00", "a%00b", "%ff", "a%20b", "%F0%9F%90%99", "...", &long]
    {
        let path = format!("/v1/collections/{name}");
        for (method, body) in
            [("PUT", json!({})), ("GET", Value::Null), ("DELETE", Value::Null), ("PATCH", json!({"name": "b"}))]
        {
            let answer = server.ask(method, &path, &[], &body);
            assert!([400, 404, 405].contains(&answer.status), "{method} {path}: {answer:?}");
        }
        let answer = server.post(&format!("{path}/documents"), &json!({"id": 1, "text": "a"}));
        assert!([400, 404, 405].contains(&answer.status), "{path}: {answer:?}");
    }
    assert_eq!(server.get("/v1/collections").expect(200), json!({"collections": []}));
}

#[test]
fn a_collection_is_renamed_and_dropped() {
    let server = Serving::new();
    for name in ["a", "b"] {
        server.put(&format!("/v1/collections/{name}"), &json!({})).expect(201);
    }
    server.put("/v1/aliases/now", &json!({"collection": "a"})).expect(200);
    let rename = |to: &str| server.ask("PATCH", "/v1/collections/a", &[], &json!({"name": to}));
    assert_eq!((rename("b").failure(409).0, rename("now").failure(409).0), ("conflict".into(), "conflict".into()));
    rename("../b").failure(400);
    let renamed = rename("c").expect(200);
    assert_eq!((&renamed["name"], &renamed["aliases"]), (&json!("c"), &json!(["now"])));
    assert_eq!(rename("d").failure(404).0, "collection_not_found");
    let (_, message) = server.delete("/v1/collections/c").failure(409);
    assert!(message.contains("now"), "{message}");
    server.delete("/v1/collections/now").failure(409);
    server.delete("/v1/aliases/now").expect(200);
    assert_eq!(server.delete("/v1/collections/c").expect(200), json!({"dropped": "c"}));
    assert_eq!(server.delete("/v1/collections/c").failure(404).0, "collection_not_found");
}

#[test]
fn aliases_are_switched_together_or_not_at_all() {
    let server = Serving::new();
    for name in ["v1", "v2"] {
        server.put(&format!("/v1/collections/{name}"), &json!({})).expect(201);
    }
    assert_eq!(server.get("/v1/aliases").expect(200), json!({"aliases": []}));
    let set = server.put("/v1/aliases/now", &json!({"collection": "v1"})).expect(200);
    assert_eq!(set, json!({"alias": "now", "collection": "v1"}));
    let switch = json!({"changes": [{"alias": "now", "collection": "v2"}, {"alias": "before", "collection": "v1"}]});
    let both = json!({"aliases": [{"alias": "before", "collection": "v1"}, {"alias": "now", "collection": "v2"}]});
    assert_eq!(server.post("/v1/aliases", &switch).expect(200), both);
    let half = json!({"changes": [{"alias": "now", "collection": null}, {"alias": "x", "collection": "none"}]});
    server.post("/v1/aliases", &half).failure(404);
    assert_eq!(server.get("/v1/aliases").expect(200), both);
    server.put("/v1/aliases/v1", &json!({"collection": "v2"})).failure(409);
    server.put("/v1/aliases/%2e%2e", &json!({"collection": "v2"})).failure(400);
    assert_eq!(server.delete("/v1/aliases/none").failure(404).0, "alias_not_found");
    assert_eq!(server.get("/v1/collections/now").expect(200)["name"], "v2");
}

#[test]
fn a_backup_goes_below_the_folder_that_the_operator_named() {
    let folder = tempfile::tempdir().unwrap();
    let closed = Serving::new();
    assert_eq!(closed.post("/v1/backup", &json!({"name": "a"})).failure(403).0, "forbidden");
    let root = folder.path().join("backups");
    std::fs::create_dir(&root).unwrap();
    let database = Database::in_memory().unwrap();
    database.collection("notes").unwrap().add(Document::new(1, "Keep this.")).unwrap();
    let server = Serving::with(database, Settings { backup_root: Some(root.clone()), ..Settings::default() });
    for name in ["", "..", "../x", "/tmp/x", "a/b", "a\\b", "a\0b", &"a".repeat(300)] {
        server.post("/v1/backup", &json!({"name": name})).failure(400);
    }
    let made = server.post("/v1/backup", &json!({"name": "monday"})).expect(200);
    assert_eq!((&made["name"], &made["documents"]), (&json!("monday"), &json!(1)));
    assert_eq!(server.post("/v1/backup", &json!({"name": "monday"})).failure(409).0, "conflict");
    let restored = folder.path().join("restored");
    Database::restore(root.join("monday"), &restored).unwrap();
    assert_eq!(Database::open(&restored).unwrap().open_collection("notes").unwrap().count().unwrap(), 1);
}

#[test]
fn a_database_is_checked_compacted_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::with(Database::open(folder.path()).unwrap(), Settings::default());
    server.put("/v1/collections/notes", &json!({})).expect(201);
    server.post("/v1/collections/notes/documents", &json!({"id": 1, "text": "one"})).expect(200);
    assert_eq!(server.ask("POST", "/v1/check", &[], &Value::Null).expect(200), json!({"violations": []}));
    assert_eq!(server.ask("POST", "/v1/compact", &[], &Value::Null).expect(200)["moved"], 0);
    let stats = server.get("/v1/stats").expect(200);
    assert_eq!((&stats["collections"][0]["documents"], &stats["embedding_cache"]["entries"]), (&json!(1), &json!(0)));
    let library = serde_json::to_value(server.database.collections().unwrap()).unwrap();
    assert_eq!(stats["collections"], library);
}

#[test]
fn a_key_that_may_only_read_may_check_and_get_and_nothing_more() {
    let (key, reader) = ("a key of more than 16 bytes", "a key that may only read");
    let settings = Settings { api_keys: vec![key.into()], read_only_keys: vec![reader.into()], ..Settings::default() };
    let server = Serving::with(Database::in_memory().unwrap(), settings);
    let ask = |key: &str, method: &str, path: &str, body: &Value| server.ask(method, path, &[("api-key", key)], body);
    ask(key, "PUT", "/v1/collections/c", &json!({})).expect(201);
    ask(reader, "POST", "/v1/check", &Value::Null).expect(200);
    ask(reader, "POST", "/v1/collections/c/documents/get", &json!({"ids": []})).expect(200);
    for (method, path) in [
        ("PUT", "/v1/collections/d"),
        ("PATCH", "/v1/collections/c"),
        ("DELETE", "/v1/collections/c"),
        ("POST", "/v1/collections/c/documents"),
        ("PUT", "/v1/collections/c/documents/get"),
        ("POST", "/v1/collections/c/documents/delete"),
        ("DELETE", "/v1/collections/c/documents/1"),
        ("PUT", "/v1/aliases/a"),
        ("POST", "/v1/aliases"),
        ("DELETE", "/v1/aliases/a"),
        ("POST", "/v1/backup"),
        ("POST", "/v1/compact"),
    ] {
        assert_eq!(ask(reader, method, path, &json!({})).failure(403).0, "forbidden", "{method} {path}");
    }
}
