//! `quiver export`, and `quiver embed` with tables: what comes out, what is refused, what is left behind.

use serde_json::json;

#[cfg(feature = "parquet")]
use super::exists;
use super::{Shell, fields};

const TWO: &str = r#"{"id": 7, "text": "Bread rises overnight.", "metadata": {"year": 2020, "tags": ["food"]}}
{"id": "b", "title": "Threads", "text": "A mutex guards shared data.", "lang": "en"}
"#;

fn two() -> Shell {
    let shell = Shell::new();
    shell.feed(&["add", "-"], TWO).expect(0);
    shell
}

#[test]
fn what_is_exported_is_added_again_without_embedding() {
    let shell = two();
    let report = shell.json(&["export", "out.jsonl", "--vectors", "--json"]);
    assert_eq!(fields(&report), ["documents", "rows", "bytes", "columns", "cancelled", "seconds"]);
    assert_eq!((&report["documents"], &report["rows"]), (&json!(2), &json!(2)));
    let lines = std::fs::read_to_string(shell.path("out.jsonl")).unwrap();
    let again = shell.feed(&["add", "-", "-c", "again", "--json"], &lines).expect(0).json();
    assert_eq!(
        (&again["added"], &again["chunks_embedded"], &again["chunks_reused"]),
        (&json!(2), &json!(0), &json!(2))
    );
    let get = |collection: &str| shell.json(&["get", "7", "b", "-c", collection, "--json"]);
    assert_eq!(get("again"), get("default"));
    let plain = shell.run(&["export", "-", "--filter", "lang = 'en'"]).expect(0);
    assert_eq!(plain.lines(), [get("default")[1].clone()]);
    assert!(plain.stderr.contains("1 document"), "{}", plain.stderr);
}

#[test]
fn chunks_come_with_their_places() {
    let shell = two();
    let lines = shell.run(&["export", "-", "--chunks", "--vectors"]).expect(0).lines();
    let names = ["id", "document", "chunk", "start", "end", "heading", "text", "metadata", "vector"];
    assert_eq!(fields(&lines[0]), names);
    assert_eq!((&lines[0]["id"], &lines[0]["document"], &lines[0]["end"]), (&json!("7#0"), &json!(7), &json!(22)));
    let lines = shell.run(&["export", "-", "--chunks"]).expect(0).lines();
    assert_eq!(lines[0].get("vector"), None);
    let soon = json!({"id": "soon", "text": "Pears are cheap.", "expires_at": "2999-01-01T00:00:00Z"}).to_string();
    shell.feed(&["add", "-"], &soon).expect(0);
    let lines = shell.run(&["export", "-", "--chunks"]).expect(0).lines();
    let line = lines.iter().find(|line| line["document"] == "soon").unwrap();
    assert_eq!(line["expires_at"], "2999-01-01T00:00:00Z");
}

#[test]
fn what_cannot_be_exported_is_refused_and_leaves_nothing() {
    let shell = two();
    shell.write("taken.jsonl", "mine");
    let refused = |arguments: &[&str], words: &[&str]| shell.run(arguments).expect_refusal(2, words);
    refused(&["export", "taken.jsonl"], &["taken.jsonl is there already", "--overwrite"]);
    refused(&["export", "out.xlsx"], &["out.xlsx", ".parquet", ".jsonl"]);
    refused(&["export", "none/out.jsonl"], &["no folder", "none"]);
    refused(&["export", "docs.jsonl", "-c", "other"], &["no collection `other`", "`default`"]);
    refused(&["export", "docs.jsonl", "--space", "image"], &["no space `image`", "`default`"]);
    refused(&["export", "docs.jsonl", "--filter", "lang ="], &["filter"]);
    shell.run(&["export", "taken.jsonl", "--overwrite"]).expect(0);
    assert_eq!(std::fs::read_to_string(shell.path("taken.jsonl")).unwrap().lines().count(), 2);
    let left: Vec<_> = std::fs::read_dir(shell.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[cfg(not(feature = "parquet"))]
#[test]
fn tables_need_their_feature() {
    let shell = two();
    shell.run(&["export", "out.parquet"]).expect_refusal(2, &["feature `parquet`"]);
    shell.run(&["embed", "--in", "in.parquet", "--out", "out.parquet"]).expect_refusal(2, &["feature `parquet`"]);
}

#[cfg(feature = "parquet")]
#[test]
fn a_table_says_its_columns() {
    let shell = two();
    let report = shell.json(&["export", "out.parquet", "--vectors", "--json"]);
    let names: Vec<_> = report["columns"].as_array().unwrap().iter().map(|column| column["name"].clone()).collect();
    assert_eq!(names, ["id", "id_is_integer", "title", "text", "year", "tags", "lang", "chunks"]);
    assert_eq!(report["columns"][4]["type"], "Int64");
    let bytes = std::fs::read(shell.path("out.parquet")).unwrap();
    assert!(bytes.starts_with(b"PAR1") && report["bytes"] == json!(bytes.len()));
}

#[cfg(feature = "parquet")]
#[test]
fn a_table_is_imported_again_into_a_collection_made_as_the_first_was() {
    let shell = Shell::new();
    shell.json(&["collections", "create", "first", "--chunk-tokens", "64", "--dims", "32", "--json"]);
    shell.feed(&["add", "-", "-c", "first"], TWO).expect(0);
    shell.run(&["export", "out.parquet", "-c", "first", "--vectors"]).expect(0);
    let run = shell.run(&["import", "out.parquet", "-c", "second", "--json"]).expect(0);
    assert!(run.stderr.contains("as the one was"), "{}", run.stderr);
    let report = run.json();
    assert_eq!(
        (&report["added"], &report["chunks_embedded"], &report["chunks_reused"]),
        (&json!(2), &json!(0), &json!(2))
    );
    let of = |collection: &str| shell.run(&["export", "-", "-c", collection, "--vectors"]).expect(0).stdout;
    assert_eq!(of("first"), of("second"));
    let configuration = |name: &str| shell.json(&["collections", "show", name, "--json"])["configuration"].clone();
    assert_eq!(configuration("first"), configuration("second"));
}

#[cfg(feature = "parquet")]
#[test]
fn csv_is_exported_by_its_name_and_imported_again() {
    let shell = two();
    let report = shell.json(&["export", "out.csv", "--json"]);
    let names: Vec<_> = report["columns"].as_array().unwrap().iter().map(|column| column["name"].clone()).collect();
    assert_eq!(names, ["id", "title", "text", "year", "lang", "metadata"]);
    shell.run(&["import", "out.csv", "-c", "again"]).expect(0);
    let get = |collection: &str| shell.json(&["get", "7", "b", "-c", collection, "--json"]);
    assert_eq!(get("again"), get("default"));
    let stream = shell.run(&["export", "-", "--format", "tsv"]).expect(0).stdout;
    assert!(stream.starts_with("id\ttitle\ttext\t"), "{stream}");
    shell.run(&["export", "x.csv", "--vectors"]).expect_refusal(2, &["--chunks", ".jsonl"]);
    assert!(!exists(&shell.path("x.csv")));
}

#[cfg(feature = "parquet")]
#[test]
fn a_table_is_embedded_row_by_row() {
    let shell = two();
    shell.run(&["export", "in.parquet"]).expect(0);
    let report = shell.json(&["embed", "--in", "in.parquet", "--out", "out.parquet", "--json"]);
    assert_eq!(report, json!({"rows": 2, "embedded": 2, "without": 0, "failed": 0, "truncated": 0}));
    // Its output is a table, too; there is a column of that name now.
    shell
        .run(&["embed", "--in", "out.parquet", "--out", "more.parquet"])
        .expect_refusal(2, &["`embedding`", "--column"]);
    shell.run(&["embed", "--in", "out.parquet", "--out", "more.parquet", "--column", "again"]).expect(0);
    shell
        .run(&["embed", "--in", "in.parquet", "--out", "x.parquet", "--map", "text=body"])
        .expect_refusal(2, &["no column `body`", "`title`, `text`"]);
    shell
        .run(&["embed", "--in", "in.parquet", "--out", "x.parquet", "--map", "text=year"])
        .expect_refusal(2, &["`year`", "strings"]);
    shell.run(&["embed", "--in", "in.parquet", "--out", "x.csv"]).expect_refusal(2, &["x.csv", ".parquet"]);
    shell.run(&["embed", "--in", "in.parquet", "--out", "out.parquet"]).expect_refusal(2, &["there already"]);
    shell.write("bad.parquet", b"PAR1 and nothing more PAR1");
    shell.run(&["embed", "--in", "bad.parquet", "--out", "x.parquet"]).expect_refusal(2, &["bad.parquet"]);
    shell.run(&["embed", "--in", "gone.parquet", "--out", "x.parquet"]).expect_refusal(1, &["gone.parquet"]);
    assert!(!exists(&shell.path("x.parquet")));
}

#[cfg(feature = "parquet")]
#[test]
fn lines_become_an_array() {
    let shell = Shell::new();
    let run = shell.feed(&["embed", "--out", "x.npy", "--json"], "bread\n\nice\n").expect(4);
    assert_eq!((&run.json()["rows"], &run.json()["without"]), (&json!(3), &json!(1)));
    let bytes = std::fs::read(shell.path("x.npy")).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
    assert_eq!(bytes.len(), 128 + 3 * 256 * 4);
    assert!(String::from_utf8_lossy(&bytes[..128]).contains("'shape': (3, 256)"));
    let number = |at: usize| f32::from_le_bytes(bytes[128 + 4 * at..][..4].try_into().unwrap());
    let line = shell.feed(&["embed"], "bread\n").expect(0).lines().remove(0);
    assert_eq!(Some(f64::from(number(3))), line["embedding"][3].as_f64().map(|one| f64::from(one as f32)));
    assert!(number(256).is_nan() && number(512).is_finite());
}

#[test]
fn nothing_is_exported_over_a_database() {
    let shell = two();
    let into = ["export", "quiver.db/data.redb", "--format", "jsonl", "--overwrite"];
    shell.run(&into).expect_refusal(2, &["among the files of the database"]);
    assert_eq!(shell.json(&["check", "--json"])["violations"], json!([]));
}
