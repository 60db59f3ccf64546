//! Does each verb do what its line in the contract says?

use std::io::Read;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Shell, exists, expect_fields, fields};

fn shell_with_docs() -> Shell {
    let shell = Shell::new();
    shell.write_docs();
    shell.run(&["add", "docs"]).expect(0);
    shell
}

#[test]
fn search_prints_the_contract_s_shape() {
    let shell = shell_with_docs();
    let answer = shell.json(&["search", "--json", "-k", "2", "bake", "the", "dough"]);
    expect_fields(&answer, &["hits", "mode", "timings_ms"]);
    assert_eq!(answer["mode"], "hybrid");
    let hits = answer["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 2);
    let hit = &hits[0];
    expect_fields(hit, &["document", "chunk", "start", "end", "text", "metadata", "score", "scores", "ranks"]);
    assert_eq!(hit["document"], "bread.md");
    expect_fields(&hit["scores"], &["dense", "text", "fused"]);
    assert_eq!(hit["ranks"], json!({"dense": 1, "text": 1}));
    let text = std::fs::read_to_string(shell.path("docs/bread.md")).unwrap();
    let range = hit["start"].as_u64().unwrap() as usize..hit["end"].as_u64().unwrap() as usize;
    assert_eq!(hit["text"], text[range]);
    for (stage, time) in answer["timings_ms"].as_object().unwrap() {
        let digits = time.to_string();
        let places = digits.split_once('.').map_or(0, |(_, places)| places.len());
        assert!(places <= 3, "{stage}: {digits}");
    }
}

#[test]
fn search_takes_modes_filters_and_floors() {
    let shell = shell_with_docs();
    for mode in ["hybrid", "dense", "text"] {
        let answer = shell.json(&["search", "--json", "--mode", mode, "dough"]);
        assert_eq!((&answer["mode"], &answer["hits"][0]["document"]), (&json!(mode), &json!("bread.md")));
    }
    let filter = "media_type = 'text/plain'";
    let answer = shell.json(&["search", "--json", "--filter", filter, "dough"]);
    assert!(answer["hits"].as_array().unwrap().iter().all(|hit| hit["document"] == "ice.txt"), "{answer}");
    let nothing = shell.json(&["search", "--json", "--filter", "nosuch = 1", "dough"]);
    assert_eq!(nothing["hits"], json!([]));
    let hint = |filter: &str| {
        let run = shell.run(&["search", "--json", "--filter", filter, "dough"]).expect(0);
        assert_eq!(run.json()["hits"], json!([]), "{filter}");
        run.stderr
    };
    let missing = hint("nosuch = 1 AND media_type = 'text/plain'");
    assert!(
        missing.contains("no document has the field `nosuch`; there are media_type, modified, source"),
        "{missing}"
    );
    assert_eq!(missing.lines().count(), 1, "nothing of the other condition: {missing}");
    let wrong = hint("media_type > 5");
    assert!(
        wrong.contains("`media_type` is a string in the documents") && wrong.contains("put it in quotes"),
        "{wrong}"
    );
    let wrong = hint("media_type IN (5, true)");
    assert!(
        wrong.contains("and a number in the filter") || wrong.contains("and true or false in the filter"),
        "{wrong}"
    );
    assert_eq!(hint("media_type = 'nothing' AND source PREFIX 'x'"), "", "these could have matched");
    assert_eq!(hint("NOT media_type PREFIX 'text' AND NOT nosuch = 1"), "");
    let row = r#"{"id": "x", "text": "dough", "year": 2020, "author": {"name": "Ada"}}"#;
    shell.feed(&["add", "-c", "rows", "-"], row).expect(0);
    let hint = |filter: &str| shell.run(&["search", "-c", "rows", "--filter", filter, "dough"]).expect(0).stderr;
    let wrong = hint("year >= '2020'");
    assert!(wrong.contains("`year` is a number in the documents (`x`, say) and a string in the filter"), "{wrong}");
    assert!(wrong.contains("; leave out the quotes"), "{wrong}");
    assert!(hint("author = 'Ada'").contains("`author` is an object in the documents"));
    assert!(!hint("year >= 2020").contains("--filter"));
    let none = shell.json(&["search", "--json", "--min-score", "2", "dough"]);
    assert_eq!(none["hits"], json!([]));
    let grouped = shell.json(&["search", "--json", "--group", "glaciers"]);
    assert_eq!(grouped["hits"].as_array().unwrap().len(), 3);
    let lines = shell.run(&["search", "--jsonl", "-k", "2", "glaciers"]).expect(0).lines();
    assert_eq!(lines.len(), 2);
    expect_fields(&lines[0], &["document", "score"]);
}

#[test]
fn search_reads_the_query_syntax_where_asked() {
    let shell = shell_with_docs();
    let found = |arguments: &[&str]| -> Vec<String> {
        let answer = shell.json(&[&["search", "--json", "--syntax"], arguments].concat());
        let hits = answer["hits"].as_array().unwrap().iter();
        hits.map(|hit| hit["document"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(found(&["+\"dough rise\" -glaciers"]), ["bread.md"]);
    assert_eq!(found(&["thread* OR mutx~"]), ["rust/threads.md"]);
    assert_eq!(found(&["--mode", "dense", "data AND dough"]), Vec::<String>::new());
    let run = shell.run(&["search", "--syntax", "data AND dough"]).expect(0);
    assert!(run.stderr.contains("require less"), "{}", run.stderr);
    shell.run(&["search", "--syntax", "(dough"]).expect_refusal(2, &["character 7", "put `)`"]);
    let mut command = shell.command(&["search", "--syntax", "thread* -dough"]);
    let shown = command.env("CLICOLOR_FORCE", "1").output().unwrap().stdout;
    let shown = String::from_utf8(shown).unwrap();
    let highlighted = shown.lines().find(|line| line.contains("between")).unwrap();
    assert!(highlighted.contains("\u{1b}") && !highlighted.contains("between threads with"), "{highlighted}");
}

#[test]
fn search_explains_itself_to_people() {
    let shell = shell_with_docs();
    let run = shell.run(&["search", "--explain", "dough"]).expect(0);
    for word in ["bread.md", "dense", "text", "fused"] {
        assert!(run.stdout.contains(word), "no `{word}` in {}", run.stdout);
    }
}

#[test]
fn a_batch_of_queries_gives_a_line_each_in_order() {
    let shell = shell_with_docs();
    shell.write("queries.jsonl", "{\"_id\": \"q1\", \"text\": \"dough\"}\n{\"_id\": \"q2\", \"text\": \"mutex\"}\n");
    let lines = shell.run(&["search", "--queries", "queries.jsonl", "--jsonl"]).expect(0).lines();
    assert_eq!((&lines[0]["_id"], &lines[1]["_id"]), (&json!("q1"), &json!("q2")));
    assert_eq!(lines[0]["hits"][0]["document"], "bread.md");
    assert_eq!(lines[1]["hits"][0]["document"], "rust/threads.md");
}

#[test]
fn get_prints_whole_documents() {
    let shell = shell_with_docs();
    let documents = shell.json(&["get", "--json", "bread.md"]);
    let document = &documents.as_array().unwrap()[0];
    expect_fields(document, &["id", "text", "metadata"]);
    assert_eq!(document["text"], std::fs::read_to_string(shell.path("docs/bread.md")).unwrap());
    assert!(shell.run(&["get", "bread.md"]).expect(0).stdout.contains("dough rise"));
    assert_eq!(shell.run(&["get", "nobody"]).code, 2);
}

#[test]
fn delete_takes_ids_or_a_filter() {
    let shell = shell_with_docs();
    shell.run(&["delete", "bread.md"]).expect(0);
    shell.run(&["get", "bread.md"]).expect_refusal(2, &["bread.md"]);
    shell.run(&["delete", "--filter", "media_type = 'text/plain'"]).expect(0);
    assert_eq!(shell.json(&["stats", "--json"])["collections"][0]["documents"], 1);
    shell.run(&["delete"]).expect_refusal(2, &["ID"]);
    assert_eq!(shell.json(&["check", "--json"]), json!({"violations": []}));
}

#[test]
fn collections_are_listed_created_shown_renamed_and_dropped() {
    let shell = Shell::new();
    shell
        .run(&[
            "collections",
            "create",
            "small",
            "--chunk-tokens",
            "64",
            "--chunk-overlap",
            "8",
            "--language",
            "german",
        ])
        .expect(0);
    shell.run(&["collections", "create", "points", "--model", "external", "--dims", "3", "--metric", "dot"]).expect(0);
    let names = |shell: &Shell| {
        let list = shell.json(&["collections", "--json"]);
        list.as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&shell), ["points", "small"]);
    let shown = shell.json(&["collections", "show", "small", "--json"]).to_string();
    for part in ["small", "64", "german", "builtin", "dims"] {
        assert!(shown.contains(part), "no `{part}` in {shown}");
    }
    shell.run(&["collections", "create", "small"]).expect_refusal(2, &["small", "exists"]);
    shell.run(&["collections", "create", "../x"]).expect_refusal(2, &["collection name"]);
    shell.run(&["collections", "rename", "small", "little"]).expect(0);
    shell.run(&["collections", "drop", "points"]).expect(0);
    assert_eq!(names(&shell), ["little"]);
    shell.run(&["collections", "drop", "points"]).expect_refusal(2, &["points"]);
}

#[test]
fn vectors_of_your_own_come_as_jsonl() {
    let shell = Shell::new();
    shell.run(&["collections", "create", "points", "--model", "external", "--dims", "2"]).expect(0);
    let rows = "{\"id\": \"a\", \"text\": \"east\", \"vector\": [1, 0]}\n{\"id\": \"b\", \"text\": \"north\", \"vector\": [0, 1]}\n";
    shell.feed(&["add", "-c", "points", "-"], rows).expect(0);
    let bad = [
        "{\"id\": \"c\", \"text\": \"x\", \"vector\": [1, 2, 3]}",
        "{\"id\": \"d\", \"text\": \"x\", \"vector\": [0, 0]}",
        "{\"id\": \"e\", \"text\": \"x\", \"vector\": [1e39, 1]}",
        "{\"id\": \"f\", \"text\": \"x\", \"vector\": [\"1\", 1]}",
        "{\"id\": \"g\", \"text\": \"x\"}",
    ];
    let report = shell.feed(&["add", "-c", "points", "-", "--json"], &bad.join("\n")).expect(4).json();
    assert_eq!(report["rejected"].as_array().unwrap().len(), bad.len(), "{report:#}");
    assert_eq!(shell.json(&["get", "-c", "points", "a", "--json"])[0]["vector"], json!([1.0, 0.0]));
    let answer = shell.json(&["search", "-c", "points", "--json", "north"]);
    assert_eq!((&answer["hits"][0]["document"], &answer["mode"]), (&json!("b"), &json!("text")));
}

/// A shell with a collection of two further spaces and two documents.
fn shell_with_spaces() -> Shell {
    let shell = Shell::new();
    let spaces = ["--space", "again=builtin", "--space", "colour=external:3:dot"];
    shell.run(&[&["collections", "create", "things"], &spaces[..]].concat()).expect(0);
    let rows = concat!(
        r#"{"id": "rose", "text": "A flower with thorns.", "vectors": {"colour": [0.9, 0, 0.1]}}"#,
        "\n",
        r#"{"id": "fir", "text": "A tree with needles.", "vectors": {"colour": [0, 0.8, 0.2], "again": null}}"#,
    );
    shell.feed(&["add", "-c", "things", "-"], rows).expect(0);
    shell
}

#[test]
fn several_spaces_are_made_filled_and_searched() {
    let shell = shell_with_spaces();
    let answer = |more: &[&str]| {
        let answer = shell.json(&[&["search", "-c", "things", "--json"], more].concat());
        (answer["hits"][0]["document"].as_str().unwrap().to_owned(), answer["mode"].as_str().unwrap().to_owned())
    };
    let expected = |id: &str, mode: &str| (id.to_owned(), mode.to_owned());
    assert_eq!(answer(&["--space", "colour", "--vector", "[0, 1, 0]"]), expected("fir", "dense"));
    assert_eq!(answer(&["--space", "colour", "--vector", "[-1,0,-1]", "thorns"]), expected("rose", "hybrid"));
    assert_eq!(answer(&["--space", "again", "something with thorns"]), expected("rose", "hybrid"));
    shell.write("green.json", "[0,\n 1, 0]");
    assert_eq!(answer(&["--space", "colour", "--vector-file", "green.json"]), expected("fir", "dense"));
    // What `embed` prints can be asked as it is.
    let embedding = shell.feed(&["embed", "--query"], "needles of a tree\n").expect(0).stdout;
    let read = shell.feed(&["search", "-c", "things", "--json", "--vector-file", "-"], &embedding).expect(0).json();
    assert_eq!((&read["hits"][0]["document"], &read["mode"]), (&json!("fir"), &json!("dense")));
    let people = shell.run(&["search", "-c", "things", "--space", "colour", "--vector", "[0, 1, 0]"]).expect(0);
    assert!(
        people.stdout.contains("needles") && people.stderr.contains("external"),
        "{}{}",
        people.stdout,
        people.stderr
    );
}

#[test]
fn every_verb_shows_all_spaces() {
    let shell = shell_with_spaces();
    assert_eq!(shell.json(&["get", "-c", "things", "rose", "--json"])[0]["vectors"]["colour"][0], json!(0.9));
    let shown = shell.json(&["collections", "show", "things", "--json"]);
    let names: Vec<_> =
        shown["spaces"].as_array().unwrap().iter().map(|space| space["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "again", "colour"]);
    assert_eq!(shown["spaces"][2], json!({"name": "colour", "model": "external", "dims": 3, "metric": "dot"}));
    let spaces = &shell.json(&["stats", "--json"])["collections"][0]["spaces"];
    assert_eq!(*spaces, shown["spaces"]);
    let table = shell.run(&["stats"]).expect(0).stdout;
    assert!(table.contains("space colour") && table.contains("space again"), "{table}");
    let dump = shell.run(&["dump"]).expect(0).stdout;
    assert!(dump.contains("vector colour: [0.9, 0.0, 0.1] of 3"), "{dump}");
    assert_eq!(shell.json(&["check", "--json"]), json!({"violations": []}));
    // What comes out goes in again as it is.
    let documents = shell.run(&["get", "-c", "things", "rose", "fir", "--jsonl"]).expect(0).stdout;
    let report = shell.feed(&["add", "-c", "things", "-", "--json"], &documents).expect(0).json();
    assert_eq!(report["unchanged"], 2, "{report}");
}

#[test]
fn mistakes_with_spaces_are_named() {
    let shell = shell_with_spaces();
    let search = |more: &[&str], words: &[&str]| {
        shell.run(&[&["search", "-c", "things"], more].concat()).expect_refusal(2, words);
    };
    search(&["--space", "smell", "sweet"], &["`smell`", "`default`, `again`, `colour`"]);
    search(&["--space", "colour", "red"], &["`colour`", "3 numbers"]);
    search(&["--space", "colour", "--vector", "[1, 2]"], &["space `colour`", "got 2"]);
    search(&["--vector", "[1, 2]"], &["collection `things`", "got 2"]);
    search(&["--space", "colour", "--vector", "red"], &["--vector", "JSON"]);
    search(&["--space", "colour", "--vector-file", "no.json"], &["no.json"]);
    search(&["--space", "again", "--mode", "text", "red"], &["--space", "--mode text"]);
    search(&["--vector", "[1]", "--mode", "text", "red"], &["vector", "--mode text"]);
    let bad = [
        (r#"{"id": 1, "text": "x"}"#, "`colour`"),
        (r#"{"id": 2, "text": "x", "vectors": {"colour": [1, 2]}}"#, "space `colour`"),
        (r#"{"id": 3, "text": "x", "vectors": {"colour": [1, 2, 3], "again": [1]}}"#, "`again`"),
        (r#"{"id": 4, "text": "x", "vectors": {"colour": [1, 2, "3"]}}"#, "`vectors.colour[2]`"),
        (r#"{"id": 5, "text": "x", "vectors": [[1, 2, 3]]}"#, "`vectors` is an array"),
        (r#"{"id": 6, "vectors": {"colour": [1, 2, 3]}}"#, "neither text nor title"),
    ];
    let rows: Vec<&str> = bad.iter().map(|(row, _)| *row).collect();
    let report = shell.feed(&["add", "-c", "things", "-", "--json"], &rows.join("\n")).expect(4).json();
    let rejected = report["rejected"].as_array().unwrap();
    assert_eq!(rejected.len(), bad.len(), "{report:#}");
    for (_, words) in bad {
        assert!(rejected.iter().any(|entry| entry["reason"].as_str().unwrap().contains(words)), "{words}: {report:#}");
    }
    for (space, words) in [("x", "NAME=M"), ("x=external", "external:DIMS"), ("a b=builtin", "`a b`")] {
        shell.run(&["collections", "create", "new", "--space", space]).expect_refusal(2, &[words]);
    }
    assert!(shell.run(&["collections", "show", "new"]).code == 2);
}

#[test]
fn stats_check_and_dump_read_the_whole_database() {
    let shell = shell_with_docs();
    let stats = shell.json(&["stats", "--json"]);
    let collection = &stats["collections"][0];
    expect_fields(collection, &["name", "documents", "chunks", "segments", "bytes_on_disk", "model"]);
    assert_eq!((&collection["name"], &collection["documents"]), (&json!("default"), &json!(3)));
    assert!(collection["bytes_on_disk"].as_u64().unwrap() > 1000);
    assert_eq!(shell.json(&["check", "--json"]), json!({"violations": []}));
    let dump = shell.run(&["dump"]).expect(0).stdout;
    for word in ["default", "bread.md", "rust/threads.md"] {
        assert!(dump.contains(word), "no `{word}` in the dump");
    }
    assert_eq!(shell.run(&["dump"]).expect(0).stdout, dump);
}

#[test]
fn a_damaged_database_ends_with_code_three() {
    let shell = shell_with_docs();
    let file = shell.path("quiver.db/data.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0);
    std::fs::write(&file, &bytes).unwrap();
    let run = shell.run(&["check"]);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

#[test]
fn embed_prints_a_vector_a_line_in_order() {
    let shell = Shell::new();
    let lines = shell.feed(&["embed"], "bread\nice\nbread\n").expect(0).lines();
    assert_eq!(lines.len(), 3);
    assert_eq!(fields(&lines[0]), ["embedding"]);
    assert_eq!(lines[0], lines[2]);
    assert_ne!(lines[0], lines[1]);
    let vector = lines[0]["embedding"].as_array().unwrap();
    let norm: f64 = vector.iter().map(|number| number.as_f64().unwrap().powi(2)).sum();
    assert!((norm - 1.0).abs() < 1e-3, "the built-in model's vectors have unit length; got {norm}");
    for form in ["--json", "--jsonl"] {
        assert_eq!(shell.feed(&["embed", form], "bread\nice\nbread\n").expect(0).lines(), lines, "{form}");
    }
    let help = shell.run(&["embed", "--help"]).expect(0).stdout;
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("a line, in the order of the lines, with and without --json or --jsonl"), "{help}");
    shell.feed(&["embed", "--query"], "bread\n").expect(0);
    assert!(!exists(&shell.path("quiver.db")), "embedding needs no database");
}

#[test]
fn dims_keep_the_first_numbers_of_the_model() {
    let shell = shell_with_docs();
    shell.run(&["collections", "create", "short", "--dims", "64"]).expect(0);
    shell.run(&["add", "docs", "-c", "short"]).expect(0);
    let answer = shell.json(&["search", "--json", "--mode", "dense", "-c", "short", "dough"]);
    assert_eq!(answer["hits"][0]["document"], "bread.md");
    let shown = shell.json(&["collections", "show", "short", "--json"]);
    let model = &shown["configuration"]["model"];
    assert_eq!((&model["dims"], &model["full_dims"]), (&json!(64), &json!(256)));
    shell.run(&["collections", "create", "long", "--dims", "257"]).expect_refusal(2, &["256", "257"]);
    let vector = |arguments: &[&str]| {
        let lines = shell.feed(&[&["embed"], arguments].concat(), "bread\n").expect(0).lines();
        lines[0]["embedding"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect::<Vec<_>>()
    };
    let (long, short) = (vector(&[]), vector(&["--dims", "64"]));
    let length = long[..64].iter().map(|number| number * number).sum::<f64>().sqrt();
    assert_eq!(short.len(), 64);
    assert!(short.iter().zip(&long).all(|(cut, whole)| (cut - whole / length).abs() < 1e-6));
    shell.feed(&["embed", "--dims", "0"], "bread\n").expect_refusal(2, &["Ask for 1 to 256"]);
}

#[test]
fn bench_embed_measures_each_length() {
    let shell = Shell::new();
    let report = shell.json(&["bench", "embed", "--json", "--tokens", "16,48", "--seconds", "0.2"]);
    let rows = report["rows"].as_array().unwrap();
    for (row, tokens) in rows.iter().zip([16.0, 48.0]) {
        expect_fields(row, &["backend", "precision", "tokens_mean", "texts_per_s", "tokens_per_s", "p50_ms_single"]);
        let mean = row["tokens_mean"].as_f64().unwrap();
        assert!((mean - tokens).abs() < 1.0, "passages of about {tokens} tokens, not {mean}");
        assert!(row["texts_per_s"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(rows.len(), 2);
    shell.run(&["bench", "embed", "--tokens", "3"]).expect_refusal(2, &["from 8 to 8192"]);
}

#[test]
fn models_show_prints_the_whole_specification() {
    let shell = Shell::new();
    let shown = shell.json(&["models", "show", "builtin", "--json"]);
    expect_fields(
        &shown["spec"],
        &["id", "backend", "dims", "max_tokens", "metric", "weights_digest", "tokenizer_digest"],
    );
    let people = shell.run(&["models", "show", "builtin"]).expect(0).stdout;
    assert!(people.contains("dims") && people.contains("MiniLM"), "{people}");
    shell.run(&["models", "show", "no/such/model"]).expect_refusal(1, &["no/such/model"]);
}

#[test]
fn models_show_tells_how_a_loaded_model_is_doing() {
    let shell = Shell::new();
    let shown = shell.json(&["models", "show", "builtin", "--load", "--json"]);
    expect_fields(&shown["health"], &["model", "state", "device", "bytes", "load_s", "warm_up_s", "usage"]);
    assert_eq!((&shown["health"]["state"], &shown["health"]["loads"]), (&json!("ready"), &json!(1)));
    assert!(shown["health"]["usage"]["tokens_per_s"].as_f64().unwrap() > 0.0, "{shown}");
    let people = shell.run(&["models", "show", "builtin", "--load"]).expect(0).stdout;
    assert!(people.contains("memory") && people.contains("of this warm-up"), "{people}");
    assert!(shell.json(&["models", "show", "builtin", "--json"]).get("health").is_none());
}

#[test]
fn models_show_knows_well_known_models_that_are_not_here() {
    let shell = Shell::new();
    for name in ["ms-marco-minilm-l6-v2", "cross-encoder/ms-marco-MiniLM-L6-v2@main"] {
        let mut command = shell.command(&["models", "show", name, "--json"]);
        command.env("HF_HUB_CACHE", shell.path("cache"));
        let shown: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        assert_eq!(shown["known"]["id"], "cross-encoder/ms-marco-MiniLM-L6-v2");
        let last = shown["fields"].as_array().unwrap().last().unwrap();
        assert!(last["value"].as_str().unwrap().contains("quiver models pull cross-encoder/"), "{last}");
    }
    assert!(!shell.path("cache").exists(), "nothing is fetched to be shown");
}

/// A build that cannot ask anybody says what would bring it, and does not take the name for a directory.
#[cfg(not(feature = "hub"))]
#[test]
fn a_model_of_the_hub_names_the_feature_that_it_needs() {
    let shell = Shell::new();
    shell.write_docs();
    for line in [&["models", "pull", "owner/name"][..], &["models", "verify", "a/b"], &["models", "remove", "a/b"]] {
        shell.run(line).expect_refusal(2, &["feature `hub`"]);
    }
    for model in ["owner/name", "all-MiniLM-L6-v2"] {
        shell.run(&["add", "docs", "--model", model]).expect_refusal(2, &["feature `hub`", model]);
    }
    assert!(!exists(&shell.path("quiver.db")));
}

#[cfg(not(feature = "remote"))]
#[test]
fn a_model_on_a_server_names_the_feature_that_it_needs() {
    let model = "http://127.0.0.1:9/v1#name";
    Shell::new().run(&["embed", "--model", model]).expect_refusal(2, &["feature `remote`", model]);
}

#[test]
fn models_list_shows_the_built_in_one_and_well_known_ones() {
    let listed = Shell::new().json(&["models", "list", "--json"]);
    assert_eq!(listed["builtin"]["id"], "builtin");
    let known = listed["known"].as_array().unwrap();
    let of = |id: &str| known.iter().find(|model| model["id"] == id).unwrap_or_else(|| panic!("no {id}"));
    assert_eq!(of("sentence-transformers/all-MiniLM-L6-v2")["dims"], 384);
    assert_eq!(of("minishlab/potion-base-8M")["runs"], true);
    assert_eq!(of("sentence-transformers/clip-ViT-B-32")["runs"], cfg!(feature = "candle"));
}

#[test]
fn models_show_tells_the_source_of_every_field_of_a_directory() {
    let shell = Shell::new();
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let model = fixtures.join("tiny-bert").display().to_string();
    let shown = shell.json(&["models", "show", &model, "--json"]);
    let fields = shown["fields"].as_array().unwrap();
    let field = |name: &str| {
        let found = fields.iter().find(|field| field["field"] == name).unwrap_or_else(|| panic!("no {name}: {shown}"));
        (found["value"].as_str().unwrap().to_owned(), found["source"].as_str().unwrap().to_owned())
    };
    let told = |name: &str, value: &str, source: &str| assert_eq!(field(name), (value.into(), source.into()));
    told("architecture", "bert", "config.json");
    told("width", "40", "config.json");
    told("pooling", "mean", "1_Pooling/config.json");
    told("include_prompt", "true", "default");
    told("module", "Normalize", "modules.json");
    told("max_tokens", "24", "sentence_bert_config.json");
    told("query_prompt", "none", "default");
    for digest in ["weights_digest", "tokenizer_digest"] {
        let (value, source) = field(digest);
        assert!(value.len() == 64 && source.contains("SHA-256"), "{digest} {value} {source}");
        assert_eq!(shown["spec"][digest], value);
    }
    let people = shell.run(&["models", "show", &model]).expect(0).stdout;
    assert!(people.contains("[1_Pooling/config.json]"), "{people}");
}

#[test]
fn eval_measures_and_compares() {
    let shell = shell_with_docs();
    shell.write("queries.jsonl", "{\"_id\": \"1\", \"text\": \"dough\"}\n{\"_id\": \"2\", \"text\": \"share data\"}\n");
    shell.write("qrels.tsv", "query-id\tcorpus-id\tscore\n1\tbread.md\t2\n2\trust/threads.md\t1\n");
    let one = ["eval", "--queries", "queries.jsonl", "--qrels", "qrels.tsv", "--json"];
    let rows = shell.json(&one)["configurations"].clone();
    let expected = ["mode", "model", "queries", "ndcg@10", "recall@10", "recall@100", "mrr@10", "p50_ms", "p95_ms"];
    expect_fields(&rows[0], &expected);
    assert_eq!((&rows[0]["mode"], &rows[0]["queries"]), (&json!("hybrid"), &json!(2)));
    assert_eq!(
        (&rows[0]["ndcg@10"], &rows[0]["mrr@10"], &rows[0]["recall@10"]),
        (&json!(1.0), &json!(1.0), &json!(1.0))
    );
    let compared = shell.json(&[&one[..], &["--compare"]].concat())["configurations"].clone();
    let modes: Vec<_> = compared.as_array().unwrap().iter().map(|row| row["mode"].as_str().unwrap()).collect();
    for mode in ["dense", "text", "hybrid"] {
        assert!(modes.contains(&mode), "{modes:?}");
    }
    // TREC's four columns, without a header.
    shell.write("qrels.txt", "1 0 bread.md 1\n2 0 rust/threads.md 1\n");
    let trec = shell.json(&["eval", "--queries", "queries.jsonl", "--qrels", "qrels.txt", "--json"]);
    assert_eq!(trec["configurations"][0]["ndcg@10"], 1.0);
}

#[test]
fn mistakes_of_the_caller_end_with_code_two() {
    let shell = shell_with_docs();
    let mistakes: [&[&str]; 13] = [
        &["frobnicate"],
        &["search"],
        &["search", ""],
        &["search", "-k", "0", "dough"],
        &["search", "-k", "1000000000", "dough"],
        &["search", "-k", "-1", "dough"],
        &["search", "--mode", "psychic", "dough"],
        &["search", "--filter", "year >", "dough"],
        &["search", "--mmr", "2", "dough"],
        &["search", "-c", "nobody", "dough"],
        &["search", "-c", "../up", "dough"],
        &["search", "--json", "--jsonl", "dough"],
        &["collections", "create", "x", "--chunk-tokens", "1"],
    ];
    for arguments in mistakes {
        shell.run(arguments).expect_refusal(2, &["error"]);
    }
    assert_eq!(shell.json(&["stats", "--json"])["collections"].as_array().unwrap().len(), 1);
}

#[test]
fn a_database_that_is_not_there_is_an_error_and_is_not_made() {
    let shell = Shell::new();
    let verbs: [&[&str]; 8] = [
        &["search", "text"],
        &["get", "a"],
        &["delete", "a"],
        &["collections"],
        &["stats"],
        &["check"],
        &["dump"],
        &["collections", "drop", "a"],
    ];
    for verb in verbs {
        shell.run(&[verb, &["--db", "nowhere.db"]].concat()).expect_refusal(2, &["nowhere.db"]);
    }
    assert!(!exists(&shell.path("nowhere.db")) && !exists(&shell.path("quiver.db")));
}

#[test]
fn the_database_is_named_by_flag_or_environment() {
    let shell = Shell::new();
    shell.write_docs();
    shell.run(&["--db", "a.db", "add", "docs"]).expect(0);
    let output = shell.command(&["stats", "--json"]).env("QUIVER_DB", "a.db").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(!exists(&shell.path("quiver.db")));
}

#[test]
fn a_closed_pipe_is_quiet() {
    let shell = shell_with_docs();
    // Enough output that the pipe cannot hold it.
    shell.write("big/big.txt", "A line of a large file that is printed whole.\n".repeat(20_000));
    shell.run(&["add", "big"]).expect(0);
    let mut child = shell.command(&["get", "big.txt"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn help_and_version_are_results() {
    let shell = Shell::new();
    let help = shell.run(&["--help"]).expect(0);
    for verb in ["search", "add", "get", "delete", "collections", "stats", "check", "dump", "embed", "models", "eval"] {
        assert!(help.stdout.contains(verb), "no `{verb}` in the help");
    }
    assert!(shell.run(&["help", "add"]).expect(0).stdout.contains("HTML"), "which files are read");
    assert!(help.stdout.contains("QUIVER_DB"), "{}", help.stdout);
    for verb in ["add", "search", "reembed", "embed"] {
        let help = shell.run(&[verb, "--help"]).expect(0).stdout;
        let (own, global) = help.split_once("Global options:").unwrap_or_else(|| panic!("{help}"));
        let (global, _) = global.trim_start().split_once("\n\n").unwrap_or((global, ""));
        assert!(own.contains("--model") && !global.contains("--model"), "{help}");
        assert!(!own.contains("--db") && global.contains("--db") && global.contains("--onnx-runtime"), "{help}");
    }
    assert!(shell.run(&["--version"]).expect(0).stdout.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn control_characters_do_not_reach_people() {
    let shell = Shell::new();
    let row = json!({"id": "evil\u{1b}[2J", "text": "Ice \u{1b}]0;title\u{7} melts."}).to_string();
    shell.feed(&["add", "-"], &row).expect(0);
    for arguments in [&["search", "ice"][..], &["get", "evil\u{1b}[2J"]] {
        let run = shell.run(arguments).expect(0);
        assert!(!run.stdout.contains('\u{1b}'), "{:?}", run.stdout);
    }
}

#[test]
fn a_context_is_what_a_language_model_reads() {
    let shell = shell_with_docs();
    let context = ["search", "share data between threads", "-k", "1", "--context", "200"];
    let text = shell.run(&context).expect(0);
    assert!(text.stdout.starts_with("[1] Threads (rust/threads.md)\n"), "{}", text.stdout);
    assert!(text.stderr.contains("1 passage"), "{}", text.stderr);
    let xml = shell.run(&[&context[..], &["--context-format", "xml", "--neighbours", "1"]].concat()).expect(0);
    assert!(xml.stdout.contains("document=\"rust/threads.md\""), "{}", xml.stdout);
    let json = shell.json(&[&["--json"], &context[..]].concat());
    assert_eq!(fields(&json), ["text", "citations", "tokens"]);
    assert_eq!(json["citations"][0]["document"], "rust/threads.md");
    shell.run(&["search", "threads", "--neighbours", "1"]).expect_refusal(2, &["--context"]);
    shell.run(&[&context[..], &["--context-format", "yaml"]].concat()).expect_refusal(2, &["text, xml, json"]);
}

#[cfg(feature = "candle")]
#[test]
fn rerank_prints_a_json_line_for_each_line_that_is_not_blank() {
    let model = format!("{}/tests/fixtures/architectures/bert", env!("CARGO_MANIFEST_DIR"));
    for format in [&[][..], &["--json"], &["--jsonl"]] {
        let line = [&["rerank", "--model", model.as_str(), "the cold river"], format].concat();
        let run = Shell::new().feed(&line, "the river boat\n\n  \nfresh bread\n").expect(0);
        let judged: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut indexes: Vec<u64> = judged.iter().map(|one| one["index"].as_u64().unwrap()).collect();
        assert!(judged[0]["score"].as_f64() >= judged[1]["score"].as_f64(), "{}", run.stdout);
        indexes.sort_unstable();
        assert_eq!((indexes, fields(&judged[0])), (vec![0, 3], vec!["index", "score", "logit"]));
        assert!(run.stderr.contains("2 blank lines left out"), "{}", run.stderr);
    }
}
