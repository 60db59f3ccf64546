//! What keeps a database in shape: its cache, lifetimes, aliases, backups.

use serde_json::json;

use super::{Shell, expect_fields};

#[test]
fn the_cache_of_embeddings_is_bounded_shown_and_emptied() {
    let shell = Shell::new();
    shell.write_docs();
    shell.run(&["add", "docs", "--embedding-cache", "64MiB"]).expect(0);
    let stats = shell.json(&["stats", "--json"]);
    expect_fields(&stats["embedding_cache"], &["entries", "bytes", "bytes_max", "hits", "misses"]);
    assert_eq!(stats["embedding_cache"]["entries"], 0, "the built-in model needs none");
    let off = shell.command(&["stats", "--json"]).env("QUIVER_EMBEDDING_CACHE", "0").output().unwrap();
    assert_eq!(super::Run::of(off, &["stats"]).json()["embedding_cache"]["bytes_max"], 0);
    shell.run(&["stats", "--embedding-cache", "lots"]).expect_refusal(2, &["lots", "256MiB"]);
    assert_eq!(shell.json(&["compact", "--drop-cache", "--json"])["moved"], json!(0));
}

#[test]
fn an_alias_stands_for_its_collection_in_every_verb() {
    let shell = Shell::new();
    shell.write_docs();
    shell.run(&["add", "docs", "-c", "notes-1"]).expect(0);
    shell.run(&["collections", "create", "notes-2"]).expect(0);
    assert_eq!(
        shell.json(&["collections", "alias", "live", "notes-1", "--json"]),
        json!({"alias": "live", "of": "notes-1"})
    );
    assert_eq!(shell.json(&["search", "-c", "live", "dough", "--json"])["hits"][0]["document"], "bread.md");
    assert_eq!(shell.json(&["get", "-c", "live", "bread.md", "--json"])[0]["id"], "bread.md");
    assert_eq!(shell.json(&["stats", "--json"])["collections"][0]["aliases"], json!(["live"]));
    let listed = shell.run(&["collections"]).expect(0).stdout;
    assert!(listed.contains("alias live"), "{listed}");
    shell.run(&["collections", "drop", "notes-1"]).expect_refusal(2, &["`notes-1`", "alias `live`"]);
    shell.run(&["collections", "drop", "live"]).expect_refusal(2, &["is an alias"]);
    shell.run(&["collections", "create", "live"]).expect_refusal(2, &["`live`"]);
    shell.run(&["collections", "alias", "live", "nowhere"]).expect_refusal(2, &["nowhere"]);
    shell.run(&["collections", "alias", "live", "notes-2"]).expect(0);
    assert_eq!(shell.json(&["search", "-c", "live", "dough", "--json"])["hits"], json!([]));
    shell.run(&["collections", "rename", "notes-2", "notes-3"]).expect(0);
    assert_eq!(shell.json(&["collections", "show", "live", "--json"])["name"], "notes-3");
    shell.run(&["collections", "unalias", "live"]).expect(0);
    shell.run(&["collections", "unalias", "live"]).expect_refusal(2, &["no alias `live`"]);
    shell.run(&["search", "-c", "live", "dough"]).expect_refusal(2, &["live"]);
}

#[test]
fn a_backup_is_restored_and_nothing_is_overwritten() {
    let shell = Shell::new();
    shell.run(&["backup", "copy"]).expect_refusal(2, &["no database"]);
    shell.write_docs();
    shell.run(&["add", "docs"]).expect(0);
    let made = shell.json(&["backup", "copy", "--json"]);
    assert_eq!((&made["collections"], &made["documents"]), (&json!(1), &json!(3)));
    shell.run(&["backup", "copy"]).expect_refusal(2, &["copy", "already"]);
    shell.run(&["stats", "--db", "copy"]).expect_refusal(2, &["is a backup", "restore"]);
    shell.run(&["restore", "copy", "--replace", "--db", "copy"]).expect_refusal(2, &["the backup itself"]);
    let dump = shell.run(&["dump"]).expect(0).stdout;
    shell.run(&["delete", "bread.md"]).expect(0);
    shell.run(&["restore", "copy"]).expect_refusal(2, &["already", "--replace"]);
    assert_eq!(shell.json(&["restore", "copy", "--replace", "--json"]), json!({"collections": 1, "documents": 3}));
    assert_eq!(shell.run(&["dump"]).expect(0).stdout, dump);
    shell.run(&["restore", "copy", "--db", "other.db"]).expect(0);
    assert_eq!(shell.run(&["dump", "--db", "other.db"]).expect(0).stdout, dump);
    let data = std::fs::read(shell.path("copy/data.redb")).unwrap();
    shell.write("copy/data.redb", &data[..data.len() / 2]);
    shell.run(&["restore", "copy", "--db", "third.db"]).expect_refusal(2, &["data.redb", "were written"]);
    assert!(!super::exists(&shell.path("third.db")));
}

#[test]
fn documents_that_expired_are_not_found() {
    let shell = Shell::new();
    let lines = r#"{"id":"gone","text":"Pears were cheap.","expires_at":"2001-01-01T00:00:00Z"}
{"id":"here","text":"Pears are cheap.","expires_at":4102444800}
"#;
    let report = shell.feed(&["add", "-", "--json"], lines).expect(0).json();
    assert_eq!((&report["added"], &report["expired"]), (&json!(2), &json!(1)));
    let told = shell.feed(&["add", "-"], lines).expect(0).stdout;
    assert!(told.contains("1 added, 1 unchanged, 1 of these expired already"), "{told}");
    let found = shell.json(&["search", "pears", "--json"]);
    assert_eq!(found["hits"].as_array().unwrap().len(), 1);
    assert_eq!(shell.json(&["get", "here", "--json"])[0]["expires_at"], "2100-01-01T00:00:00Z");
    assert_eq!(shell.json(&["stats", "--json"])["collections"][0]["documents"], 1);
}
