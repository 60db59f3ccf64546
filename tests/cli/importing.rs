//! Does `quiver import` keep its contract, and survive being killed?

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Shell, exists, fields};
use crate::scenes::Chance;

fn table(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tables").join(name).display().to_string()
}

#[test]
fn a_file_is_imported_once_and_its_report_has_the_shape_of_an_add() {
    let shell = Shell::new();
    let file = table("pandas.csv");
    let report = shell.json(&["import", &file, "--json"]);
    let added = shell.json(&["add", "--json", &table("pandas.csv"), "-c", "other", "--dry-run"]);
    let mut wanted = fields(&added);
    wanted.extend(["rows", "rejected_rows", "resumed_after", "already_imported"]);
    assert_eq!(fields(&report), wanted);
    assert_eq!((&report["added"], &report["rows"], &report["already_imported"]), (&json!(5), &json!(5), &json!(false)));
    let again = shell.run(&["import", &file]).expect(0);
    assert!(again.stderr.contains("imported already (5 rows)") && again.stderr.contains("--again"), "{}", again.stderr);
    assert_eq!(shell.json(&["import", &file, "--json"])["unchanged"], 5);
    let hits = shell.json(&["search", "--json", "-k", "1", "keepers of lighthouse 4"]);
    assert_eq!(hits["hits"][0]["document"], "doc-4");
}

#[test]
fn rows_with_vectors_make_a_collection_for_them_and_say_so() {
    let shell = Shell::new();
    let run = shell.run(&["import", &table("lancedb.parquet")]).expect(0);
    assert!(run.stderr.contains("vectors of 4 numbers") && run.stderr.contains("--model"), "{}", run.stderr);
    let stats = shell.json(&["stats", "--json"]);
    assert_eq!((&stats["collections"][0]["model"], &stats["collections"][0]["dims"]), (&json!("external"), &json!(4)));
    let texts = shell.run(&["import", "-c", "texts", "--map", "vector=", &table("lancedb.parquet")]).expect(0);
    assert!(!texts.stderr.contains("vectors of 4"), "{}", texts.stderr);
    assert_eq!(
        shell.json(&["get", "-c", "texts", "--json", "doc-1"])[0]["metadata"]["vector"],
        json!([1.0, 0.5, -1.0, 0.25])
    );
}

#[test]
fn bad_rows_end_with_code_4_and_are_in_the_file_of_rejects() {
    let shell = Shell::new();
    let arguments = ["import", &table("vectors.parquet"), "--map", "id=key,vector=emb", "--rejects", "bad.jsonl"];
    let run = shell.run(&arguments).expect(4);
    assert!(run.stderr.contains("column `emb`: number 0 of the vector is NaN"), "{}", run.stderr);
    assert!(run.stderr.contains("all of them are in bad.jsonl"), "{}", run.stderr);
    assert_eq!(std::fs::read_to_string(shell.path("bad.jsonl")).unwrap().lines().count(), 4);
    let strict = ["import", &table("vectors.parquet"), "--map", "id=key,vector=emb", "--max-rejects", "1", "--again"];
    shell.run(&strict).expect_refusal(2, &["more than 1 rows are rejected", "--max-rejects"]);
}

#[test]
fn what_cannot_be_imported_makes_no_database() {
    let shell = Shell::new();
    shell.write("a.txt", "No table.");
    shell.write("cut.parquet", &std::fs::read(table("arrow.parquet")).unwrap()[..900]);
    shell.write("folder/x.csv", "id,text\n");
    shell.run(&["import", "missing.parquet"]).expect_refusal(2, &["missing.parquet"]);
    shell.run(&["import", "a.txt"]).expect_refusal(2, &["a.txt", "neither Parquet"]);
    shell.run(&["import", "cut.parquet"]).expect_refusal(2, &["cut.parquet", "cut off"]);
    shell.run(&["import", "folder"]).expect_refusal(2, &["folder", "quiver add folder"]);
    shell.run(&["import", &table("pandas.csv"), "--map", "text=body"]).expect_refusal(2, &["`body`", "`text`, `year`"]);
    shell.run(&["import", &table("pandas.csv"), "--map", "txt=body"]).expect_refusal(2, &["`txt`", "vectors.SPACE"]);
    shell.run(&["import", &table("pandas.csv"), "cut.parquet"]).expect_refusal(2, &["cut.parquet"]);
    assert!(!exists(&shell.path("quiver.db")), "an import that failed made a database");
}

#[test]
fn an_import_that_brought_nothing_in_leaves_no_collection() {
    let shell = Shell::new();
    shell.feed(&["add", "-"], "{\"id\": 1, \"text\": \"One.\"}\n").expect(0);
    shell.write("mine.txt", "mine");
    shell.write("bad.csv", "id,text\n1,\n2,\n");
    let good = table("pandas.csv");
    shell.run(&["import", "-c", "new", &good, "--rejects", "none/bad.jsonl"]).expect_refusal(1, &["none/bad.jsonl"]);
    shell.run(&["import", "-c", "new", &good, "--rejects", "mine.txt"]).expect_refusal(2, &["something else"]);
    let nothing = shell.run(&["import", "-c", "new", "bad.csv", "--max-rejects", "0"]).expect(2);
    assert!(nothing.stderr.contains("--max-rejects"), "{}", nothing.stderr);
    assert!(!nothing.stderr.contains("rows before are in"), "{}", nothing.stderr);
    let names = || {
        let collections = shell.json(&["collections", "--json"]);
        let collections = collections.as_array().unwrap().clone();
        collections.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["default"]);
    assert!(!exists(&shell.path("none")));
    // What is in stays, and so does a collection that was there.
    shell.run(&["import", "-c", "new", &good, "bad.csv", "--max-rejects", "0"]).expect_refusal(2, &["--max-rejects"]);
    assert_eq!(names(), ["default", "new"]);
}

#[test]
fn two_files_of_one_name_without_ids_are_refused_before_anything_is_written() {
    let shell = Shell::new();
    shell.write("a/x.csv", "text,key\nOne.,1\n");
    shell.write("b/x.csv", "text,key\nTwo.,2\n");
    let refused = ["a/x.csv", "b/x.csv", "--map id=COLUMN"];
    shell.run(&["import", "a/x.csv", "b/x.csv"]).expect_refusal(2, &refused);
    assert!(!exists(&shell.path("quiver.db")));
    let report = shell.json(&["import", "a/x.csv", "b/x.csv", "--map", "id=key", "--json"]);
    assert_eq!((&report["added"], &report["replaced"]), (&json!(2), &json!(0)));
}

#[test]
fn a_column_that_sounds_like_the_vector_is_told_of_once() {
    let shell = Shell::new();
    shell.write("a.jsonl", "{\"id\": 1, \"text\": \"One.\", \"embedding\": [0.5, 1]}\n");
    shell.write("b.csv", "id,text,embedding\n2,Two.,\"[0.5, 1]\"\n");
    let told = |arguments: &[&str]| {
        let run = shell.run(arguments).expect(0);
        (run.stderr.matches("--map vector=embedding").count(), run.json()["notes"].clone())
    };
    // Into a collection that is made for it, and into one that is there.
    for _ in 0..2 {
        let (times, notes) = told(&["import", "a.jsonl", "b.csv", "--again", "--json"]);
        assert_eq!((times, notes.as_array().map(Vec::len)), (1, Some(1)), "{notes}");
    }
    assert_eq!(shell.json(&["get", "--json", "1"])[0]["metadata"]["embedding"], json!([0.5, 1]));
    let opted_out = told(&["import", "a.jsonl", "--again", "--map", "vector=", "--json"]);
    assert_eq!(opted_out, (0, Value::Null));
    let mapped = told(&["import", "a.jsonl", "-c", "mapped", "--map", "vector=embedding", "--json"]);
    assert_eq!(mapped, (0, Value::Null));
}

#[test]
fn a_column_called_after_a_space_that_is_not_there_is_told_of() {
    let shell = Shell::new();
    shell.write("a.csv", "id,text,vectors.image\n1,One.,\"[0.5, 1]\"\n");
    let notes = |arguments: &[&str]| {
        let run = shell.run(arguments).expect(0);
        (run.stderr.contains("--map vectors.image=vectors.image"), run.json()["notes"].clone())
    };
    let (told, told_in_json) = notes(&["import", "a.csv", "--json"]);
    assert!(told && told_in_json.as_array().is_some_and(|notes| notes.len() == 1), "{told_in_json}");
    let mapped = ["import", "a.csv", "-c", "mapped", "--map", "vectors.image=vectors.image", "--json"];
    assert_eq!(notes(&mapped), (false, Value::Null));
    // Now it is there.
    assert_eq!(notes(&["import", "a.csv", "-c", "mapped", "--again", "--json"]), (false, Value::Null));
}

#[test]
fn files_of_rows_in_a_folder_are_added_and_searched() {
    let shell = Shell::new();
    shell.write_docs();
    shell.write(
        "docs/rows.csv",
        "id,text,year\nferris,A crab that likes memory safety.,2015\n,A row without an id.,2016\n",
    );
    std::fs::copy(table("pandas.tsv.gz"), shell.path("docs/rows.tsv.gz")).unwrap();
    let report = shell.json(&["add", "docs", "--json"]);
    assert_eq!((&report["added"], &report["rejected"]), (&json!(10), &json!([])), "{report}");
    let row = &shell.json(&["get", "--json", "rows.csv#2"])[0];
    assert_eq!((&row["metadata"]["year"], &row["text"]), (&json!(2016), &json!("A row without an id.")));
    assert!(row["metadata"]["source"].as_str().unwrap().ends_with("docs/rows.csv"), "{row}");
    let hits = shell.json(&["search", "--in", "docs", "--json", "-k", "1", "crab"]);
    assert_eq!(hits["hits"][0]["document"], "ferris");
}

/// Kills the import at random moments; each goes on where the last one was, and in the end every row is there once.
#[test]
fn an_import_that_is_killed_again_and_again_ends_with_exactly_its_rows() {
    const ROWS: usize = 6_000;
    const KILLS: u32 = 6;
    let mut chance = Chance::new("QUIVER_IMPORT_SEED");
    let shell = Shell::new();
    let row = |n: usize| match n % 500 {
        499 => format!("{n},\n"),
        _ => format!("{n},Row {n} speaks of subject {} at length.\n", n * 7919 % 1_000),
    };
    shell.write("rows.csv", "id,text\n".to_owned() + &(0..ROWS).map(row).collect::<String>());
    let arguments = ["import", "rows.csv", "--rejects", "bad.jsonl", "--json"];
    let mut killed = 0;
    for _ in 0..KILLS {
        let mut child = shell.command(&arguments).spawn().unwrap();
        let until = Instant::now() + Duration::from_millis(30 + chance.below(900));
        while Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        killed += u32::from(child.kill().is_ok() && child.wait().unwrap().code().is_none());
    }
    println!("killed {killed} times");
    let run = shell.run(&arguments);
    assert!([0, 4].contains(&run.code), "{}", run.stderr);
    let report = run.json();
    let last = if report["already_imported"] == json!(true) {
        assert_eq!(report["rows"], ROWS);
        None
    } else {
        assert_eq!(
            (report["rows"].as_u64(), report["rejected_rows"].as_u64()),
            (Some(ROWS as u64), Some(12)),
            "{report}"
        );
        assert_eq!(report["added"].as_u64().unwrap(), ROWS as u64 - 12, "{report}");
        Some(report["chunks_embedded"].as_u64().unwrap())
    };
    assert!(last.is_none_or(|chunks| chunks == ROWS as u64 - 12), "{last:?}");
    let documents = &shell.json(&["stats", "--json"])["collections"][0]["documents"];
    assert_eq!(*documents, json!(ROWS - 12));
    let bad = std::fs::read_to_string(shell.path("bad.jsonl")).unwrap();
    let rows: Vec<u64> =
        bad.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["row"].as_u64().unwrap()).collect();
    assert_eq!(rows, (1..=12).map(|n| n * 500).collect::<Vec<_>>(), "a reject is missing or there twice");
    assert_eq!(shell.json(&["check", "--json"]), json!({"violations": []}));
}
