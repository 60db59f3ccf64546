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
