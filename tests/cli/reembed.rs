//! Does `quiver reembed` say what it does, go on where it was stopped, and name the way out elsewhere?

use std::sync::atomic::AtomicBool;

use quiverdb::{Database, ReembedOptions};

use super::Shell;

fn shell_with_docs() -> Shell {
    let shell = Shell::new();
    shell.write_docs();
    shell.run(&["add", "docs"]).expect(0);
    shell
}

#[test]
fn the_model_and_the_chunks_of_a_collection_change() {
    let shell = shell_with_docs();
    let found = |space: &str| {
        let query = ["search", "--json", "-k", "1", "--space", space, "how", "do", "I", "bake", "bread"];
        shell.json(&query)["hits"][0]["document"].clone()
    };
    let planned = shell.json(&["reembed", "--dims", "64", "--dry-run", "--json"]);
    assert_eq!(
        (&planned["outcome"], &planned["dims"], &planned["documents_total"]),
        (&"planned".into(), &64.into(), &3.into())
    );
    assert_eq!(shell.json(&["stats", "--json"])["collections"][0]["dims"], 256);
    let done = shell.json(&["reembed", "--dims", "64", "--keep-old", "--json"]);
    assert_eq!(
        (&done["outcome"], &done["documents"], &done["kept_as"]),
        (&"done".into(), &3.into(), &"previous".into())
    );
    assert_eq!(done["chunks_embedded"], planned["chunks"]);
    assert_eq!((found("default"), found("previous")), ("bread.md".into(), "bread.md".into()));
    let again = shell.run(&["reembed", "--dims", "64"]).expect(0).stdout;
    assert!(again.contains("nothing to do"), "{again}");
    let chunks = shell.json(&["stats", "--json"])["collections"][0]["chunks"].as_u64().unwrap();
    let split = shell.json(&["reembed", "--rechunk", "--chunk-tokens", "48", "--json"]);
    assert!(split["chunks"].as_u64().unwrap() > chunks && split["chunk_tokens"] == 48, "{split}");
    let again = shell.run(&["reembed", "--rechunk"]).expect(0).stdout;
    assert!(again.contains("nothing to do (--force does it)"), "{again}");
    assert_eq!(shell.json(&["reembed", "--rechunk", "--force", "--json"])["outcome"], "done");
    assert_eq!(found("default"), "bread.md");
    assert_eq!(shell.run(&["check"]).expect(0).stderr, "");
}

#[test]
fn what_is_unfinished_is_shown_and_goes_on_or_is_dropped() {
    let shell = shell_with_docs();
    let stop = || {
        let db = Database::open(shell.path("quiver.db")).unwrap();
        let options = ReembedOptions::new().dimensions(32);
        db.open_collection("default").unwrap().reembed(&options.cancel(&AtomicBool::new(true))).unwrap();
    };
    stop();
    let status = &shell.json(&["stats", "--json"])["collections"][0]["reembedding"];
    assert_eq!((&status["spaces"][0]["dims"], &status["documents_total"]), (&32.into(), &3.into()));
    assert!(shell.run(&["stats"]).expect(0).stdout.contains("re-embedding to"));
    assert!(shell.run(&["collections", "show", "default"]).expect(0).stdout.contains("reembedding"));
    shell.run(&["reembed", "--dims", "16"]).expect_refusal(2, &["32 dimensions", "--abort"]);
    assert_eq!(shell.json(&["reembed", "--abort", "--json"])["aborted"], true);
    assert_eq!(shell.json(&["reembed", "--abort", "--json"])["aborted"], false);
    shell.run(&["reembed"]).expect_refusal(2, &["nothing unfinished"]);
    stop();
    let done = shell.run(&["reembed"]).expect(0).stdout;
    assert!(done.contains("now has model") && done.contains("32 dimensions"), "{done}");
    let stats = &shell.json(&["stats", "--json"])["collections"][0];
    assert!(stats["dims"] == 32 && stats["reembedding"].is_null(), "{stats}");
}

#[test]
fn mistakes_name_what_helps() {
    let shell = shell_with_docs();
    shell.run(&["reembed", "--model", "no/such/model"]).expect_refusal(1, &["no/such/model"]);
    shell.run(&["reembed", "--backend", "onnx"]).expect_refusal(2, &["--model"]);
    shell.run(&["reembed", "--space", "image", "--dims", "8"]).expect_refusal(2, &["`image`", "`default`"]);
    shell.run(&["reembed", "--chunk-tokens", "64", "--chunk-overlap", "60"]).expect_refusal(2, &["half"]);
    shell.run(&["reembed", "-c", "other", "--dims", "8"]).expect_refusal(2, &["`other`", "default"]);
    shell.run(&["collections", "create", "points", "--model", "external", "--dims", "3"]).expect(0);
    shell.run(&["reembed", "-c", "points", "--dims", "2"]).expect_refusal(2, &["name the model"]);
    shell.run(&["add", "docs", "-c", "points", "--model", "builtin"]).expect_refusal(2, &["reembed"]);
}
