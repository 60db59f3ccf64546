//! Do jobs say how far they are, end when they are told to, and keep what they committed?

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;

use quiverdb::server::Settings;
use quiverdb::{Database, Document, Query};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Serving;

const IMPORT: &str = "/v1/collections/notes/import";
const REEMBED: &str = "/v1/collections/notes/reembed";

/// A server that may import from a folder, and has an empty collection.
fn serving() -> (Serving, TempDir) {
    let folder = TempDir::new().unwrap();
    let settings = Settings { import_root: Some(folder.path().to_owned()), ..Settings::default() };
    let database = Database::in_memory().unwrap();
    database.collection("notes").unwrap();
    (Serving::with(database, settings), folder)
}

fn write_rows(file: &Path, rows: usize) {
    let mut text = String::from("doc_id,body,year\n");
    for row in 0..rows {
        writeln!(text, "r{row},Row number {row} of a long table about pears and apples.,{}", 1900 + row % 120).unwrap();
    }
    std::fs::write(file, text).unwrap();
}

/// The job that an answer tells of.
fn id(accepted: &Value) -> String {
    accepted["job"]["id"].as_str().unwrap().to_owned()
}

/// The events of a job, by name, until the stream ends.
fn events(server: &Serving, id: &str, mut each: impl FnMut(&str, &Value)) -> Value {
    let url = server.url(&format!("/v1/jobs/{id}/events"));
    let mut response = server.agent.get(url).call().unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (mut name, mut last) = (String::new(), Value::Null);
    for line in BufReader::new(response.body_mut().as_reader()).lines() {
        let line = line.unwrap();
        if let Some(event) = line.strip_prefix("event: ") {
            name = event.to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            last = serde_json::from_str(data).unwrap();
            each(&name, &last);
        }
    }
    assert_eq!(name, "end", "the stream ends with the job: {last}");
    last
}

#[test]
fn a_file_is_imported_with_progress_and_only_once() {
    let (server, folder) = serving();
    std::fs::create_dir(folder.path().join("tables")).unwrap();
    write_rows(&folder.path().join("tables/rows.csv"), 300);
    let body = json!({"path": "tables/rows.csv", "map": {"id": "doc_id", "text": "body"}});
    let accepted = server.post(IMPORT, &body).expect(202);
    let last = events(&server, &id(&accepted), |name, job| {
        assert!(name == "end" || job["report"].is_null(), "{name}: {job}");
    });
    assert_eq!((&last["state"], &last["report"]["added"]), (&json!("done"), &json!(300)), "{last}");
    assert_eq!(last["progress"]["done"], 300);
    assert_eq!(server.database.open_collection("notes").unwrap().count().unwrap(), 300);
    let again = server.post(IMPORT, &body).expect(202);
    let last = events(&server, &id(&again), |_, _| {});
    assert_eq!(last["report"]["already_imported"], true, "{last}");
    let all = server.get("/v1/jobs").expect(200);
    assert_eq!((&all["jobs"][0]["id"], &all["jobs"][1]["id"]), (&again["job"]["id"], &accepted["job"]["id"]));
    // One that has ended is forgotten, once.
    let path = format!("/v1/jobs/{}", id(&again));
    assert_eq!(server.get(&path).expect(200)["job"]["state"], "done");
    server.delete(&path).expect(200);
    assert_eq!(server.get(&path).failure(404).0, "job_not_found");
    assert_eq!(server.delete(&path).failure(404).0, "job_not_found");
}

#[test]
fn a_job_that_is_told_to_stop_keeps_what_it_committed_and_goes_on_later() {
    let (server, folder) = serving();
    write_rows(&folder.path().join("rows.csv"), 30_000);
    let body = json!({"path": "rows.csv", "map": {"id": "doc_id", "text": "body"}});
    let first = id(&server.post(IMPORT, &body).expect(202));
    // The second waits for the first, and never begins.
    let second = id(&server.post(IMPORT, &body).expect(202));
    assert_eq!(server.delete(&format!("/v1/jobs/{second}")).expect(202)["job"]["report"], Value::Null);
    let last = events(&server, &second, |_, _| {});
    assert_eq!((&last["state"], &last["seconds"]), (&json!("cancelled"), &json!(0.0)), "{last}");

    let mut told = false;
    let last = events(&server, &first, |name, job| {
        if !told && name == "progress" && job["progress"]["done"].as_u64().unwrap_or(0) > 0 {
            server.delete(&format!("/v1/jobs/{first}")).expect(202);
            told = true;
        }
    });
    assert!(told, "{last}");
    assert_eq!((&last["state"], &last["error"]["code"]), (&json!("cancelled"), &json!("cancelled")), "{last}");
    let notes = server.database.open_collection("notes").unwrap();
    let committed = notes.count().unwrap();
    assert!(committed > 0 && committed < 30_000, "{committed}");
    assert_eq!(last["report"]["added"], committed);
}

#[test]
fn so_many_jobs_wait_and_no_more() {
    let (server, folder) = serving();
    write_rows(&folder.path().join("rows.csv"), 30_000);
    let body = json!({"path": "rows.csv", "map": {"id": "doc_id", "text": "body"}, "again": true});
    let begun: Vec<String> = (0..16).map(|_| id(&server.post(IMPORT, &body).expect(202))).collect();
    assert_eq!(server.post(IMPORT, &body).failure(429).0, "too_many_jobs");
    // The first works and the others wait, so these end at once.
    for waiting in begun.iter().rev() {
        server.delete(&format!("/v1/jobs/{waiting}")).expect(202);
        assert_eq!(events(&server, waiting, |_, _| {})["state"], "cancelled");
    }
    server.post(IMPORT, &body).expect(202);
}

#[test]
fn only_files_below_the_root_are_imported_and_no_links() {
    let (server, folder) = serving();
    let other = TempDir::new().unwrap();
    write_rows(&other.path().join("rows.csv"), 3);
    let secret = other.path().join("rows.csv");
    let ask = |path: &str| server.post(IMPORT, &json!({"path": path, "map": {"id": "doc_id", "text": "body"}}));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(other.path(), folder.path().join("planted")).unwrap();
        std::os::unix::fs::symlink(&secret, folder.path().join("link.csv")).unwrap();
        for path in ["planted/rows.csv", "link.csv"] {
            assert_eq!(ask(path).failure(403).0, "forbidden", "{path}");
        }
    }
    for path in ["../rows.csv", "/etc/passwd", secret.to_str().unwrap(), "a/../../x"] {
        assert_eq!(ask(path).failure(403).0, "forbidden", "{path}");
    }
    for path in ["none.csv", "", "."] {
        ask(path).failure(400);
    }
    let (code, message) = Serving::with(server.database.clone(), Settings::default())
        .post(IMPORT, &json!({"path": "rows.csv"}))
        .failure(403);
    assert!(code == "forbidden" && message.contains("--import-root"), "{message}");
    assert_eq!(server.get("/v1/jobs").expect(200), json!({"jobs": []}), "nothing was begun");
}

#[test]
fn what_cannot_begin_is_refused_and_what_cannot_end_says_why() {
    let (server, folder) = serving();
    std::fs::write(folder.path().join("bad.parquet"), b"PAR1 and no more").unwrap();
    std::fs::write(folder.path().join("rows.csv"), "a,b\n1,2\n").unwrap();
    let refused = [
        (IMPORT, json!({}), "path"),
        (IMPORT, json!({"path": "rows.csv", "rejects": "/tmp/x"}), "rejects"),
        (IMPORT, json!({"path": "rows.csv", "map": {"txet": "body"}}), "txet"),
        (REEMBED, json!({"modl": "builtin"}), "modl"),
        (REEMBED, json!({"model": "nobody/knows-it"}), "--model"),
        (REEMBED, json!({"chunker": "code:cobol"}), "code:cobol"),
        (REEMBED, json!({"dims": 0}), "dims"),
        (REEMBED, json!({"chunk_tokens": 7}), "chunk_tokens"),
    ];
    for (path, body, named) in refused {
        let message = server.post(path, &body).failure(400).1;
        assert!(message.contains(named), "{body}: {message}");
    }
    server.post("/v1/collections/none/reembed", &json!({"rechunk": true})).failure(404);
    let failing = [
        (IMPORT, json!({"path": "bad.parquet"})),
        (IMPORT, json!({"path": "rows.csv", "map": {"text": "absent"}})),
        (REEMBED, json!({})),
        (REEMBED, json!({"chunk_tokens": 100_000_000})),
    ];
    for (path, body) in failing {
        let accepted = server.post(path, &body).expect(202);
        let last = events(&server, &id(&accepted), |_, _| {});
        assert_eq!((&last["state"], &last["error"]["code"]), (&json!("failed"), &json!("invalid_request")), "{last}");
    }
}

#[test]
fn a_collection_is_made_anew_while_it_answers() {
    let (server, _folder) = serving();
    let notes = server.database.open_collection("notes").unwrap();
    let documents = (0..40).map(|n| Document::new(n, format!("Note {n} about pears. ").repeat(20)));
    notes.add_many(documents).unwrap();
    let planned = server.post(REEMBED, &json!({"chunk_tokens": 32, "chunk_overlap": 4, "dry_run": true})).expect(202);
    let last = events(&server, &id(&planned), |_, _| {});
    assert_eq!(last["report"]["outcome"], "planned", "{last}");
    let accepted = server.post(REEMBED, &json!({"chunk_tokens": 32, "chunk_overlap": 4})).expect(202);
    let last = events(&server, &id(&accepted), |_, _| {});
    assert_eq!((&last["state"], &last["report"]["outcome"]), (&json!("done"), &json!("done")), "{last}");
    assert_eq!((&last["progress"]["done"], &last["progress"]["total"]), (&json!(40), &json!(40)));
    let chunks = last["report"]["chunks"].as_u64().unwrap();
    assert_eq!(server.database.open_collection("notes").unwrap().stats().unwrap().chunks, chunks);
    assert_eq!(notes.search(Query::text("pears").limit(3)).unwrap().hits.len(), 3);
}

#[test]
fn jobs_are_stopped_with_the_server_and_say_so() {
    let (server, folder) = serving();
    write_rows(&folder.path().join("rows.csv"), 30_000);
    let body = json!({"path": "rows.csv", "map": {"id": "doc_id", "text": "body"}});
    let first = id(&server.post(IMPORT, &body).expect(202));
    let mut told = false;
    let last = events(&server, &first, |_, job| {
        if !told && job["progress"]["done"].as_u64().unwrap_or(0) > 0 {
            server.stop.tell();
            told = true;
        }
    });
    assert!(told, "{last}");
    let message = last["error"]["message"].as_str().unwrap_or_default();
    assert!(last["state"] == "cancelled" && message.starts_with("the server stopped"), "{last}");
    let database = server.database.clone();
    drop(server);
    let committed = database.open_collection("notes").unwrap().count().unwrap();
    assert!(committed > 0 && committed < 30_000, "{committed}");
}
