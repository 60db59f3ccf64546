//! Do files get in, once, and only what changed again?

use serde_json::json;

use super::{Shell, exists, expect_fields, fields};
use crate::scenes::long_text;

#[test]
fn one_command_adds_a_folder_and_answers() {
    let shell = Shell::new();
    shell.write_docs();
    let run = shell.run(&["search", "--in", "docs", "how do I share data between threads?"]).expect(0);
    assert!(run.stdout.lines().next().unwrap().contains("rust/threads.md"), "{}", run.stdout);
    assert!(run.stdout.contains("mutex"), "{}", run.stdout);
    assert!(!run.stdout.contains('\u{1b}'), "colours without a terminal: {:?}", run.stdout);
    assert!(exists(&shell.path("quiver.db/data.redb")));
}

#[test]
fn a_second_run_embeds_nothing() {
    let shell = Shell::new();
    shell.write_docs();
    let first = shell.json(&["add", "docs", "--json"]);
    assert_eq!(
        fields(&first),
        [
            "added",
            "replaced",
            "unchanged",
            "removed",
            "rejected",
            "chunks_embedded",
            "chunks_reused",
            "texts_truncated",
            "seconds",
            "chunks_cached",
            "expired"
        ]
    );
    assert_eq!((&first["added"], &first["rejected"]), (&json!(3), &json!([])));
    assert!(first["chunks_embedded"].as_u64().unwrap() > 3);
    let second = shell.json(&["add", "docs", "--json"]);
    assert_eq!((&second["unchanged"], &second["chunks_embedded"]), (&json!(3), &json!(0)));
    let search = shell.run(&["search", "--in", "docs", "--json", "dough"]).expect(0);
    assert_eq!(search.json()["hits"][0]["document"], "bread.md");
    assert_eq!(shell.json(&["stats", "--json"])["collections"][0]["documents"], 3);
}

#[test]
fn touching_one_file_embeds_only_its_changed_chunks() {
    let shell = Shell::new();
    shell.write_docs();
    let all = shell.json(&["add", "docs", "--json"])["chunks_embedded"].as_u64().unwrap();
    shell.write("docs/ice.txt", long_text("glaciers", 12) + "One more sentence at the end.");
    let report = shell.json(&["add", "docs", "--json"]);
    assert_eq!((&report["replaced"], &report["unchanged"]), (&json!(1), &json!(2)));
    let embedded = report["chunks_embedded"].as_u64().unwrap();
    let reused = report["chunks_reused"].as_u64().unwrap();
    assert!(embedded <= 2 && reused >= 2 && embedded + reused <= all, "{report}");
    // The same bytes at another time are the same document's text: nothing to embed.
    let ice = std::fs::File::options().append(true).open(shell.path("docs/ice.txt")).unwrap();
    ice.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
    assert_eq!(shell.json(&["add", "docs", "--json"])["chunks_embedded"], 0);
}

#[test]
fn ids_are_paths_relative_to_the_folder_given() {
    let shell = Shell::new();
    shell.write_docs();
    shell.run(&["add", "docs"]).expect(0);
    let documents = shell.json(&["get", "--json", "rust/threads.md", "ice.txt"]);
    assert_eq!((&documents[0]["id"], &documents[1]["id"]), (&json!("rust/threads.md"), &json!("ice.txt")));
    let metadata = &documents[0]["metadata"];
    expect_fields(metadata, &["source", "modified", "media_type"]);
    assert_eq!(
        (&metadata["media_type"], &documents[1]["metadata"]["media_type"]),
        (&json!("text/markdown"), &json!("text/plain"))
    );
    assert_eq!(documents[1]["text"], long_text("glaciers", 12));
    shell.run(&["add", "-c", "one", "docs/bread.md"]).expect(0);
    assert_eq!(shell.json(&["get", "-c", "one", "--json", "bread.md"])[0]["id"], "bread.md");
}

#[test]
fn sync_removes_what_is_gone_and_nothing_else() {
    let shell = Shell::new();
    shell.write_docs();
    shell.write("other/kept.txt", "A file of another folder.");
    shell.run(&["add", "docs", "other"]).expect(0);
    shell.feed(&["add", "-"], "{\"id\": \"by-hand\", \"text\": \"from stdin\"}\n").expect(0);
    std::fs::remove_file(shell.path("docs/bread.md")).unwrap();
    let without = shell.json(&["add", "docs", "--json"]);
    assert_eq!((&without["removed"], &without["unchanged"]), (&json!(0), &json!(2)));
    let rehearsal = shell.json(&["add", "docs", "--sync", "--dry-run", "--json"]);
    assert_eq!(rehearsal["removed"], 1);
    let with = shell.json(&["add", "docs", "--sync", "--json"]);
    assert_eq!((&with["removed"], &with["chunks_embedded"]), (&json!(1), &json!(0)));
    shell.run(&["get", "bread.md"]).expect_refusal(2, &["bread.md"]);
    shell.run(&["get", "kept.txt", "by-hand", "ice.txt", "rust/threads.md"]).expect(0);
    assert_eq!(shell.json(&["check", "--json"]), json!({"violations": []}));
}

#[test]
fn a_dry_run_writes_nothing() {
    let shell = Shell::new();
    shell.write_docs();
    let report = shell.json(&["add", "docs", "--dry-run", "--json"]);
    assert_eq!(report["added"], 3);
    assert!(!exists(&shell.path("quiver.db")), "a dry run made a database");
    shell.run(&["add", "docs"]).expect(0);
    let before = shell.run(&["dump"]).expect(0).stdout;
    shell.write("docs/new.txt", "A new file.");
    assert_eq!(shell.json(&["add", "docs", "--dry-run", "--json"])["added"], 1);
    assert_eq!(shell.run(&["dump"]).expect(0).stdout, before);
}

#[test]
fn documents_are_read_from_stdin() {
    let shell = Shell::new();
    let rows = [
        json!({"id": "a", "text": "Bread is baked.", "title": "Bread", "metadata": {"lang": "en"}, "year": 2020}),
        json!({"_id": 7, "text": "Ice melts."}),
    ];
    let input = rows.map(|row| row.to_string()).join("\n\n");
    let report = shell.feed(&["add", "-", "--json"], &input).expect(0).json();
    assert_eq!((&report["added"], &report["rejected"]), (&json!(2), &json!([])));
    let documents = shell.json(&["get", "a", "7", "--json"]);
    assert_eq!(documents[0]["title"], "Bread");
    assert_eq!((&documents[0]["metadata"]["lang"], &documents[0]["metadata"]["year"]), (&json!("en"), &json!(2020)));
    assert_eq!(documents[1]["id"], 7);
}

#[test]
fn bad_rows_are_listed_and_the_rest_is_taken() {
    let shell = Shell::new();
    let input = [
        r#"{"id": "good", "text": "Taken."}"#,
        r#"{"id": "broken", "text": "#,
        r#"{"id": "no text"}"#,
        r#"["no", "object"]"#,
        r#"{"id": "meta", "text": "x", "metadata": [1]}"#,
        r#"{"id": "vector", "text": "x", "vector": [1e40, 0.5]}"#,
        r#"{"id": 1.5, "text": "x"}"#,
        r#"{"id": "last", "text": "Taken, too."}"#,
    ];
    let run = shell.feed(&["add", "-", "--json"], &input.join("\n")).expect(4);
    let report = run.json();
    assert_eq!(report["added"], 2, "{report:#}");
    let rejected = report["rejected"].as_array().unwrap();
    assert_eq!(rejected.len(), 6, "{report:#}");
    for entry in rejected {
        assert_eq!(fields(entry), ["source", "reason"]);
        assert!(entry["reason"].as_str().unwrap().len() > 10, "{entry}");
    }
    shell.run(&["get", "good", "last"]).expect(0);
}

/// A made-up id such as `stdin#1` would be the same for the first row of every batch, and each batch would silently
/// replace the one before.
#[test]
fn rows_without_an_id_do_not_replace_those_of_another_batch() {
    let shell = Shell::new();
    let first = shell.feed(&["add", "-", "--json"], "{\"text\": \"the first batch\"}\n");
    let second = shell.feed(&["add", "-", "--json"], "{\"text\": \"the second batch\"}\n");
    assert_eq!(first.code, second.code);
    assert_eq!(second.json()["replaced"], 0, "the second batch replaced the first");
}

#[test]
fn jsonl_files_become_a_document_a_row() {
    let shell = Shell::new();
    shell.write("rows/data.jsonl", "{\"id\": \"x\", \"text\": \"one\"}\n{\"id\": \"y\", \"text\": \"two\"}\n");
    shell.write("rows/note.txt", "three");
    assert_eq!(shell.json(&["add", "rows", "--json"])["added"], 3);
    shell.run(&["get", "x", "y", "note.txt"]).expect(0);
}

#[test]
fn files_that_cannot_be_read_are_listed() {
    let shell = Shell::new();
    shell.write("docs/picture.txt", [0x89, b'P', b'N', b'G', 0, 0, 0, 13, 0, 1, 2, 3].repeat(50));
    shell.write("docs/good.txt", "This one is fine.");
    let run = shell.run(&["add", "docs", "--json"]).expect(4);
    let report = run.json();
    assert_eq!(report["added"], 1, "{report:#}");
    assert!(report["rejected"][0]["source"].as_str().unwrap().contains("picture.txt"), "{report:#}");
    let run = shell.run(&["add", "docs"]).expect(4);
    assert!(run.stderr.contains("picture.txt"), "{}", run.stderr);
    let searched = shell.run(&["search", "--in", "docs", "fine"]);
    assert!(
        searched.stdout.contains("good.txt"),
        "a bad file must not keep search from answering: {}",
        searched.stderr
    );
}

#[test]
fn damaged_utf8_is_read_with_replacements_and_told() {
    let shell = Shell::new();
    shell.write("docs/cut.txt", b"The caf\xc3\xa9 serves cr\xc3\xaape and tea, and this is cut \xc3");
    let run = shell.run(&["add", "docs"]).expect(0);
    let document = shell.json(&["get", "cut.txt", "--json"])[0].clone();
    assert!(document["text"].as_str().unwrap().ends_with("cut \u{fffd}"), "{document}");
    assert_eq!(document["metadata"]["lossy"], true, "the document does not say that it was read with loss");
    assert!(run.stderr.contains("replacement characters"), "nobody said that bytes were replaced: {}", run.stderr);
}

#[test]
fn old_encodings_are_read_and_named() {
    let shell = Shell::new();
    shell.write("docs/latin1.txt", b"The caf\xe9 serves cr\xeape and tea, and the rest of this text is plain.");
    let run = shell.run(&["add", "docs"]).expect(0);
    let document = shell.json(&["get", "latin1.txt", "--json"])[0].clone();
    assert!(document["text"].as_str().unwrap().starts_with("The café serves crêpe"), "{document}");
    assert_eq!(document["metadata"]["encoding"], "windows-1252");
    assert!(!run.stderr.contains("replacement"), "{}", run.stderr);
}

#[test]
fn a_path_that_is_not_there_is_refused_before_anything_is_made() {
    let shell = Shell::new();
    shell.run(&["add", "nowhere"]).expect_refusal(2, &["nowhere"]);
    shell.run(&["search", "--in", "nowhere", "text"]).expect_refusal(2, &["nowhere"]);
    assert!(!exists(&shell.path("quiver.db")), "a database was made for nothing");
}

#[test]
fn hidden_files_and_databases_are_not_documents() {
    let shell = Shell::new();
    shell.write_docs();
    shell.write("docs/.secret.txt", "hidden");
    shell.write("docs/.git/config.txt", "hidden");
    shell.run(&["--db", "docs/quiver.db", "add", "docs"]).expect(0);
    let report = shell.json(&["--db", "docs/quiver.db", "add", "docs", "--json"]);
    assert_eq!((&report["unchanged"], &report["added"]), (&json!(3), &json!(0)), "{report:#}");
}

#[test]
fn files_of_the_same_name_in_two_folders_do_not_replace_each_other() {
    let shell = Shell::new();
    shell.write("a/README.md", "# Bread\n\nHow to bake it.\n");
    shell.write("b/README.md", "# Ice\n\nHow to melt it.\n");
    shell.write("b/rows.jsonl", "{\"id\": 1, \"text\": \"first\"}\n{\"id\": 1, \"text\": \"later\"}\n");
    shell.write("c/more.jsonl", "{\"id\": 1, \"text\": \"elsewhere\"}\n");
    let report = shell.run(&["add", "a", "b", "c", "a/README.md", "--json"]).expect(4).json();
    assert_eq!((&report["added"], &report["replaced"]), (&json!(2), &json!(1)), "{report:#}");
    let rejected = report["rejected"].as_array().unwrap();
    assert_eq!(rejected.len(), 2, "{report:#}");
    for (entry, (file, words)) in rejected.iter().zip([
        ("b/README.md", ["id `README.md` is also that of", "a/README.md; add their common parent"]),
        ("c/more.jsonl", ["id `1` is also that of", "b/rows.jsonl; give them ids of their own"]),
    ]) {
        assert!(entry["source"].as_str().unwrap().ends_with(file), "{entry}");
        assert!(words.iter().all(|word| entry["reason"].as_str().unwrap().contains(word)), "{entry}");
    }
    assert!(shell.run(&["get", "README.md"]).expect(0).stdout.contains("Bread"));
    assert_eq!(shell.json(&["get", "1", "--json"])[0]["text"], "later");
    std::fs::remove_file(shell.path("c/more.jsonl")).unwrap();
    assert_eq!(shell.json(&["add", ".", "-c", "all", "--json"])["added"], 3, "the way out");
    // Nor in another run, as long as the first is there.
    let report = shell.run(&["add", "b/README.md", "--json"]).expect(4).json();
    assert!(report["rejected"][0]["reason"].as_str().unwrap().contains("a/README.md, which is in this"), "{report:#}");
    std::fs::remove_file(shell.path("a/README.md")).unwrap();
    assert_eq!(shell.run(&["add", "b/README.md", "--json"]).expect(0).json()["replaced"], 1);
}

#[test]
fn sync_spares_the_rows_that_could_not_be_read() {
    let shell = Shell::new();
    let rows = |second: &str| format!("[{{\"id\": \"a\", \"text\": \"one\"}}, {{\"id\": \"b\", {second}");
    shell.write("docs/rows.json", rows("\"text\": \"two\"}]"));
    shell.run(&["add", "docs"]).expect(0);
    for (damage, what) in
        [("\"text\": 2}]", "a bad row"), ("\"text\": \"tw", "a file that is being written"), ("", "half a file")]
    {
        shell.write("docs/rows.json", rows(damage));
        let report = shell.run(&["add", "docs", "--sync", "--json"]).expect(4).json();
        assert_eq!((&report["removed"], &report["added"]), (&json!(0), &json!(0)), "{what}: {report:#}");
        shell.run(&["get", "a", "b"]).expect(0);
    }
    shell.write("docs/rows.json", "[{\"id\": \"a\", \"text\": \"one\"}]");
    assert_eq!(shell.json(&["add", "docs", "--sync", "--json"])["removed"], 1);
}

/// Looked at before anything is made or added.
#[test]
fn a_mistake_in_the_flags_leaves_everything_as_it_was() {
    let shell = Shell::new();
    shell.write_docs();
    shell.write("queries.jsonl", "{\"_id\": \"1\", \"text\": \" \"}\n");
    let search = ["search", "--in", "docs", "dough"];
    let mistakes: [&[&str]; 5] = [
        &["-k", "0"],
        &["--mmr", "2"],
        &["--weight", "-1"],
        &["--fusion", "rank", "--weight", "2"],
        &["--mode", "text", "--fusion", "score"],
    ];
    for mistake in mistakes {
        shell.run(&[&search, mistake].concat()).expect_refusal(2, &["error"]);
    }
    for (file, code, words) in
        [("queries.jsonl", 2, ["query `1`", "empty"]), ("nowhere.jsonl", 2, ["no file", "nowhere"])]
    {
        shell.run(&["search", "--in", "docs", "--queries", file]).expect_refusal(code, &words);
    }
    shell.run(&["add", "docs", "--model", "no/such/model"]).expect_refusal(1, &["no/such/model"]);
    shell.run(&["collections", "create", "x", "--model", "no/such/model"]).expect_refusal(1, &["no/such/model"]);
    shell.run(&["collections", "create", "x", "--chunk-tokens", "1"]).expect_refusal(2, &["chunk_tokens"]);
    shell.run(&["add", "docs", "-c", "../x"]).expect_refusal(2, &["collection name"]);
    assert!(!exists(&shell.path("quiver.db")), "a database was made for nothing");
}
