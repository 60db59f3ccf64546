//! Does the Model Context Protocol keep what it promises, over stdin and stdout and over HTTP?

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use quiverdb::{Database, Document};
use serde_json::{Value, json};

use crate::scenes::folder;

/// A `quiver mcp` that was greeted.
struct Talk {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    next: u64,
}

impl Talk {
    fn begin(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_quiver"))
            .arg("mcp")
            .args(arguments)
            .current_dir(folder)
            .env_remove("QUIVER_DB")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut talk = Self { child, stdin, stdout, next: 0 };
        let greeted = talk.ask("initialize", &greeting());
        assert_eq!(greeted["result"]["serverInfo"]["name"], "quiverdb", "{greeted}");
        talk.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string());
        talk
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Asks, and returns the answer of this id; others would be a fault.
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
        let answer = self.line();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.stdout.read_line(&mut line).unwrap() > 0, "stdout ended");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("stdout is the protocol's ({error}): {line}"))
    }

    /// The structured content of a call that must go well.
    #[track_caller]
    fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        expect_done(&self.ask("tools/call", &json!({"name": tool, "arguments": arguments})))
    }

    /// The message of a call that must fail, as the model reads it.
    #[track_caller]
    fn refusal(&mut self, tool: &str, arguments: &Value) -> String {
        expect_refused(&self.ask("tools/call", &json!({"name": tool, "arguments": arguments})))
    }

    /// Ends stdin; the process must end well, and what it still says is returned.
    fn end(mut self) -> Vec<Value> {
        drop(self.stdin.take());
        let rest = self.stdout.by_ref().lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0));
        rest
    }
}

fn greeting() -> Value {
    json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}})
}

#[track_caller]
fn expect_done(answer: &Value) -> Value {
    let result = &answer["result"];
    assert_eq!(result["isError"], false, "{answer}");
    assert!(result["content"][0]["text"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    result["structuredContent"].clone()
}

#[track_caller]
fn expect_refused(answer: &Value) -> String {
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    answer["result"]["content"][0]["text"].as_str().unwrap().to_owned()
}

fn names(tools: &Value) -> Vec<&str> {
    tools["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[test]
fn a_model_adds_searches_reads_and_deletes() {
    let folder = folder();
    let mut talk = Talk::begin(folder.path(), &[]);
    let documents = json!([
        {"id": "crab", "title": "Ferris", "text": "A crab likes memory safety.", "metadata": {"year": 2015}},
        {"id": 7, "text": "Bread rises overnight."},
    ]);
    assert_eq!(talk.call("add", &json!({"documents": documents}))["added"], 2);
    let found = talk.call("search", &json!({"query": "who likes safe memory?", "limit": 1}));
    assert_eq!(found["hits"][0]["document"], "crab", "{found}");
    assert_eq!(found["hits"][0]["uri"], "quiverdb://default/crab");
    for filter in [json!("year < 2000"), json!({"year": {"lt": 2000}})] {
        let none = talk.call("search", &json!({"query": "crab", "filter": filter, "mode": "text"}));
        assert_eq!(none["hits"], json!([]));
    }
    let whole = talk.call("get", &json!({"ids": ["crab", "7"]}));
    assert_eq!(whole["documents"][0]["metadata"], json!({"year": 2015}));
    assert_eq!(whole["missing"], json!(["7"]), "7 and \"7\" are two");
    let read = talk.ask("resources/read", &json!({"uri": "quiverdb://default/7"}));
    assert_eq!(read["result"]["contents"][0]["text"], "Bread rises overnight.", "{read}");
    assert_eq!(talk.call("delete", &json!({"ids": [7]}))["deleted"], 1);
    let gone = talk.ask("resources/read", &json!({"uri": "quiverdb://default/7"}));
    assert!(gone["error"]["message"].as_str().unwrap().contains("no document 7"), "{gone}");
    assert_eq!(talk.call("create_collection", &json!({"name": "mail"}))["created"], true);
    let all = talk.call("list_collections", &json!({}));
    assert_eq!((&all["collections"][0]["documents"], &all["collections"][1]["name"]), (&json!(1), &json!("mail")));
    assert!(talk.end().is_empty());
}

#[test]
fn tools_say_what_they_take_and_whether_they_write() {
    let folder = folder();
    let mut talk = Talk::begin(folder.path(), &[]);
    let tools = talk.ask("tools/list", &json!({}));
    assert_eq!(names(&tools), ["search", "get", "list_collections", "add", "delete", "create_collection"]);
    for tool in tools["result"]["tools"].as_array().unwrap() {
        let writes = ["add", "delete", "create_collection"].contains(&tool["name"].as_str().unwrap());
        assert_eq!(tool["annotations"]["readOnlyHint"], !writes, "{tool}");
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{tool}");
        for (name, property) in tool["inputSchema"]["properties"].as_object().unwrap() {
            assert!(property["description"].is_string(), "{name} of {tool}");
        }
    }
    assert_eq!(tools["result"]["tools"][0]["inputSchema"]["properties"]["limit"]["maximum"], 100);
    assert_eq!(tools["result"]["tools"][4]["annotations"]["destructiveHint"], true);
}

#[test]
fn what_is_wrong_is_told_and_the_connection_lives() {
    let folder = folder();
    let mut talk = Talk::begin(folder.path(), &[]);
    for line in ["", "not json", "{\"jsonrpc\":", "\u{0}\u{1}", "[[[[", "\"text\""] {
        talk.say(line);
    }
    // JSON that is no message is answered once, without an id; what is no JSON is passed over.
    let answer = talk.line();
    assert!(answer["error"].is_object() && answer["id"].is_null(), "{answer}");
    let unknown = talk.ask("tools/call", &json!({"name": "drop_everything", "arguments": {}}));
    assert!(unknown["error"]["message"].as_str().unwrap().contains("search, get"), "{unknown}");
    let cases = [
        ("search", json!({}), "query"),
        ("search", json!({"query": "x", "top_k": 3}), "top_k"),
        ("search", json!({"query": "x"}), "there is no collection `default`"),
        ("search", json!({"query": "x", "collection": "../etc"}), "../etc"),
        ("search", json!({"query": "x", "limit": 101}), "101"),
        ("search", json!({"query": "x", "filter": "year >="}), "character 8"),
        ("get", json!({"ids": []}), "ids"),
        ("add", json!({"documents": [{"id": 1.5, "text": "x"}]}), "add"),
        ("add", json!({"documents": [{"id": "", "text": "x"}]}), "empty"),
        ("add", json!({"collection": "a b", "documents": [{"id": 1, "text": "x"}]}), "a b"),
        ("create_collection", json!({"name": "c", "model": "/etc/passwd"}), "/etc/passwd"),
        ("create_collection", json!({"name": "c", "model": "http://127.0.0.1:1/v1#m"}), "--model"),
    ];
    for (tool, arguments, word) in cases {
        let message = talk.refusal(tool, &arguments);
        assert!(message.contains(word), "{tool} {arguments}: {message}");
    }
    let huge = "pear ".repeat((16 << 20) / 5 + 1);
    let message = talk.refusal("add", &json!({"documents": [{"id": 1, "text": huge}]}));
    assert!(message.contains("16777216"), "{message}");
    let message = talk.refusal("search", &json!({"query": huge}));
    assert!(message.contains("16777216"), "{message}");
    assert_eq!(talk.call("add", &json!({"documents": [{"id": 1, "text": "still here"}]}))["added"], 1);
    assert!(talk.end().is_empty());
}

#[test]
fn a_reader_cannot_write_and_makes_no_database() {
    let folder = folder();
    let refused = Command::new(env!("CARGO_BIN_EXE_quiver"))
        .args(["mcp", "--read-only"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(2), 0));
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing is made");

    let database = Database::open(folder.path().join("quiver.db")).unwrap();
    database.collection("notes").unwrap().add(Document::new(1, "Pears are ripe.")).unwrap();
    database.collection("secret").unwrap().add(Document::new(1, "Pears are poison.")).unwrap();
    drop(database);
    let mut talk = Talk::begin(folder.path(), &["--read-only", "--collection", "notes"]);
    assert_eq!(names(&talk.ask("tools/list", &json!({}))), ["search", "get", "list_collections"]);
    for tool in ["add", "delete", "create_collection"] {
        let arguments = json!({"documents": [{"id": 2, "text": "x"}], "ids": [1], "name": "x"});
        assert!(talk.refusal(tool, &arguments).contains("only reads"));
    }
    let found = talk.call("search", &json!({"query": "pears"}));
    assert_eq!((&found["collection"], &found["hits"][0]["text"]), (&json!("notes"), &json!("Pears are ripe.")));
    assert!(talk.refusal("search", &json!({"query": "pears", "collection": "secret"})).contains("not open"));
    assert_eq!(talk.call("list_collections", &json!({}))["collections"].as_array().unwrap().len(), 1);
    let read = talk.ask("resources/read", &json!({"uri": "quiverdb://secret/1"}));
    assert!(read["error"]["message"].as_str().unwrap().contains("not open"), "{read}");
    let listed = talk.ask("resources/list", &json!({}));
    assert_eq!(listed["result"]["resources"].as_array().unwrap().len(), 1, "{listed}");
}

#[test]
fn resources_come_in_pages_that_miss_none() {
    let folder = folder();
    let database = Database::open(folder.path().join("quiver.db")).unwrap();
    for (name, documents) in [("a", 150), ("b", 0), ("c", 51)] {
        let numbered = (0..documents).map(|id: i64| Document::new(id, format!("number {id}")));
        database.collection(name).unwrap().add_many(numbered).unwrap();
    }
    drop(database);
    let mut talk = Talk::begin(folder.path(), &[]);
    let (mut seen, mut cursor, mut pages) = (Vec::new(), Value::Null, 0);
    while pages == 0 || !cursor.is_null() {
        let params = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
        let page = talk.ask("resources/list", &params);
        let uris = page["result"]["resources"].as_array().unwrap().iter();
        seen.extend(uris.map(|resource| resource["uri"].as_str().unwrap().to_owned()));
        cursor = page["result"]["nextCursor"].clone();
        pages += 1;
        assert!(pages <= 3, "three pages hold all");
    }
    let expected = |name, documents| (0..documents).map(move |id: i64| format!("quiverdb://{name}/{id}"));
    assert_eq!((seen, pages), (expected("a", 150).chain(expected("c", 51)).collect(), 3));
    let wrong = talk.ask("resources/list", &json!({"cursor": "zebra"}));
    assert!(wrong["error"]["message"].as_str().unwrap().contains("cursor"), "{wrong}");
    let templates = talk.ask("resources/templates/list", &json!({}));
    assert_eq!(templates["result"]["resourceTemplates"][0]["uriTemplate"], "quiverdb://{collection}/{id}");
}

#[test]
fn what_was_asked_before_stdin_ended_is_done_and_answered() {
    let folder = folder();
    let mut talk = Talk::begin(folder.path(), &[]);
    for id in 0..20 {
        let text = format!("Pear number {id} is ripe. ").repeat(200);
        let params = json!({"name": "add", "arguments": {"documents": [{"id": id, "text": text}]}});
        talk.say(&json!({"jsonrpc": "2.0", "id": 100 + id, "method": "tools/call", "params": params}).to_string());
    }
    let answers = talk.end();
    assert_eq!(answers.len(), 20);
    answers.iter().for_each(|answer| drop(expect_done(answer)));
    let database = Database::open(folder.path().join("quiver.db")).unwrap();
    assert_eq!(database.open_collection("default").unwrap().count().unwrap(), 20);
}

#[test]
fn what_is_cancelled_stops_and_keeps_nobody_waiting() {
    let folder = folder();
    let mut talk = Talk::begin(folder.path(), &[]);
    let text = "Pears are ripe, and apples are not. ".repeat(100);
    let documents: Vec<Value> = (0..1_000).map(|id| json!({"id": id, "text": format!("{id} {text}")})).collect();
    let params = json!({"name": "add", "arguments": {"documents": documents}});
    talk.say(&json!({"jsonrpc": "2.0", "id": 50, "method": "tools/call", "params": params}).to_string());
    let cancelled = json!({"requestId": 50, "reason": "enough"});
    talk.say(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled}).to_string());
    talk.say(&json!({"jsonrpc": "2.0", "id": 51, "method": "ping"}).to_string());
    let ids: Vec<Value> = talk.end().iter().map(|answer| answer["id"].clone()).collect();
    assert_eq!(ids, [51]);
    let database = Database::open(folder.path().join("quiver.db")).unwrap();
    let added = database.collection("default").unwrap().count().unwrap();
    assert!(added < 1_000, "all {added} documents were embedded");
}

#[cfg(feature = "server")]
mod over_http {
    use quiverdb::server::Settings;

    use super::*;
    use crate::server::{Answer, Serving};

    const ACCEPT: (&str, &str) = ("accept", "application/json, text/event-stream");

    fn ask(serving: &Serving, headers: &[(&str, &str)], method: &str, params: &Value) -> Answer {
        let headers = [&[ACCEPT], headers].concat();
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        serving.ask("POST", "/mcp", &headers, &body)
    }

    fn call(serving: &Serving, headers: &[(&str, &str)], tool: &str, arguments: &Value) -> Value {
        ask(serving, headers, "tools/call", &json!({"name": tool, "arguments": arguments})).expect(200)
    }

    #[test]
    fn each_request_is_answered_for_itself() {
        let serving = Serving::new();
        let greeted = ask(&serving, &[], "initialize", &greeting()).expect(200);
        assert_eq!(greeted["result"]["serverInfo"]["name"], "quiverdb");
        let document = json!({"documents": [{"id": 1, "text": "Pears are ripe."}]});
        assert_eq!(expect_done(&call(&serving, &[], "add", &document))["added"], 1);
        assert_eq!(serving.database.open_collection("default").unwrap().count().unwrap(), 1);
        let found = expect_done(&call(&serving, &[], "search", &json!({"query": "ripe pears"})));
        assert_eq!(found["hits"][0]["uri"], "quiverdb://default/1");
        let read = ask(&serving, &[], "resources/read", &json!({"uri": "quiverdb://default/1"})).expect(200);
        assert_eq!(read["result"]["contents"][0]["text"], "Pears are ripe.");
        assert_eq!(serving.get("/mcp").status, 405);
        assert_eq!(serving.send("POST", "/mcp", &[ACCEPT, ("content-type", "application/json")], b"{").status, 415);
    }

    #[test]
    fn a_key_that_reads_gets_the_tools_that_read() {
        let (writer, reader) = ("writer-0123456789", "reader-0123456789");
        let settings =
            Settings { api_keys: vec![writer.into()], read_only_keys: vec![reader.into()], ..Settings::default() };
        let serving = Serving::with(Database::in_memory().unwrap(), settings);
        let (writes, reads) = ([("api-key", writer)], [("api-key", reader)]);
        ask(&serving, &[], "tools/list", &json!({})).failure(401);
        ask(&serving, &[("api-key", "something else")], "tools/list", &json!({})).failure(401);
        let document = json!({"documents": [{"id": 1, "text": "Pears are ripe."}]});
        assert!(expect_refused(&call(&serving, &reads, "add", &document)).contains("only reads"));
        expect_done(&call(&serving, &writes, "add", &document));
        expect_done(&call(&serving, &reads, "search", &json!({"query": "pears"})));
        assert_eq!(names(&ask(&serving, &reads, "tools/list", &json!({})).expect(200)).len(), 3);
        assert_eq!(names(&ask(&serving, &writes, "tools/list", &json!({})).expect(200)).len(), 6);
    }

    #[test]
    fn a_server_that_only_reads_does_so_for_every_key() {
        let settings = Settings { read_only: true, ..Settings::default() };
        let serving = Serving::with(Database::in_memory().unwrap(), settings);
        assert!(
            expect_refused(&call(&serving, &[], "create_collection", &json!({"name": "x"}))).contains("only reads")
        );
        assert!(!serving.database.has_collection("x").unwrap());
    }

    #[test]
    fn pages_of_others_and_foreign_names_are_kept_out() {
        let serving = Serving::new();
        ask(&serving, &[("origin", "https://evil.example")], "tools/list", &json!({})).failure(403);
        ask(&serving, &[("host", "evil.example")], "tools/list", &json!({})).failure(403);
    }

    #[test]
    fn limits_of_the_server_are_limits_of_its_tools() {
        let mut settings = Settings::default();
        settings.limits.text_bytes = 10;
        settings.limits.body_bytes = 1_000;
        let serving = Serving::with(Database::in_memory().unwrap(), settings);
        let long = json!({"documents": [{"id": 1, "text": "eleven byte"}]});
        assert!(expect_refused(&call(&serving, &[], "add", &long)).contains("limit is 10"));
        let longer = json!({"name": "search", "arguments": {"query": "x".repeat(2_000)}});
        assert_eq!(ask(&serving, &[], "tools/call", &longer).status, 413);
    }

    #[test]
    fn an_answer_of_several_documents_has_a_bound_and_one_alone_is_given_whole() {
        let mut settings = Settings::default();
        settings.limits.body_bytes = 1_000;
        let serving = Serving::with(Database::in_memory().unwrap(), settings);
        let texts =
            [(1, "pear ".repeat(120)), (2, "plum ".repeat(120)), (3, "Figs. ".repeat(400)), (4, "Short.".into())];
        let documents = texts.map(|(id, text)| Document::new(id, text).title(format!("Number {id}")));
        serving.database.collection("default").unwrap().add_many(documents).unwrap();
        let get = |ids: &[i64]| call(&serving, &[], "get", &json!({"ids": ids}));
        let message = expect_refused(&get(&[4, 1, 2]));
        assert!(message.contains("1000 bytes") && message.contains("ask for 2 at a time"), "{message}");
        for ids in [&[4, 1][..], &[3]] {
            let there = expect_done(&get(ids));
            assert_eq!(there["documents"].as_array().unwrap().len(), ids.len(), "{there}");
        }
        // A list names them all; it reads no text.
        let listed = ask(&serving, &[], "resources/list", &json!({})).expect(200);
        let resources = listed["result"]["resources"].as_array().unwrap();
        let told: Vec<_> = resources.iter().map(|one| (one["title"].as_str().unwrap(), one["size"].as_u64())).collect();
        let expected = [("Number 1", 600), ("Number 2", 600), ("Number 3", 2_400), ("Number 4", 6)];
        assert_eq!(told, expected.map(|(title, size)| (title, Some(size))));
        assert_eq!(resources[0]["mimeType"], "text/plain");
    }
}
