//! Does each measurement run on small files of vectors, and print its shape?

use serde_json::{Value, json};

use super::{Shell, exists, expect_fields, fields};

const DIMS: usize = 8;

/// As an `.fvecs` file: rows with numbers between -1 and 1, by SplitMix64.
fn fvecs(rows: usize, mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rows {
        bytes.extend((DIMS as u32).to_le_bytes());
        for _ in 0..DIMS {
            seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut bits = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            let number = ((bits ^ (bits >> 31)) >> 40) as f32 / (1_u32 << 23) as f32 - 1.0;
            bytes.extend(number.to_le_bytes());
        }
    }
    bytes
}

/// A shell with as many vectors in `base.fvecs` and 20 in `queries.fvecs`.
fn shell_with_vectors(rows: usize) -> Shell {
    let shell = Shell::new();
    shell.write("base.fvecs", fvecs(rows, 7));
    shell.write("queries.fvecs", fvecs(20, 8));
    shell
}

fn bench(shell: &Shell, what: &[&str]) -> Value {
    let files = ["--base", "base.fvecs", "--queries", "queries.fvecs"];
    shell.json(&[&["bench", "--json"], what, &files].concat())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn bench_ann_prints_the_contract_s_shape() {
    let shell = shell_with_vectors(500);
    let report = bench(&shell, &["ann", "--ef", "8,400", "--threads", "1", "--metric", "l2"]);
    expect_fields(&report, &["vectors", "dims", "build_s", "resident_mb", "points"]);
    assert_eq!((&report["vectors"], &report["dims"], &report["metric"]), (&json!(500), &json!(DIMS), &json!("l2")));
    let points = report["points"].as_array().unwrap();
    assert_eq!(fields(&points[0]), ["ef", "recall@10", "qps", "p50_us", "p99_us"]);
    assert_eq!((&points[0]["ef"], &points[1]["ef"]), (&json!(8), &json!(400)));
    assert!(number(&points[1]["recall@10"]) > 0.99 && number(&points[1]["qps"]) > 0.0, "{report}");
}

#[test]
fn bench_ann_believes_the_truth_that_it_is_given() {
    let shell = shell_with_vectors(500);
    let truth = |row: u32| -> Vec<u8> { [1_u32, row].iter().flat_map(|number| number.to_le_bytes()).collect() };
    shell.write("truth.ivecs", truth(0).repeat(20));
    let report = bench(&shell, &["ann", "--ef", "64", "--truth", "truth.ivecs"]);
    assert!(number(&report["points"][0]["recall@10"]) < 0.5, "row 0 is the nearest of few: {report}");
    let files = ["bench", "ann", "--base", "base.fvecs", "--queries", "queries.fvecs", "--truth", "truth.ivecs"];
    shell.write("truth.ivecs", truth(0).repeat(19));
    shell.run(&files).expect_refusal(2, &["19 rows", "20 queries"]);
    shell.write("truth.ivecs", truth(500).repeat(20));
    shell.run(&files).expect_refusal(2, &["row 500", "500"]);
}

#[test]
fn bench_filter_finds_the_nearest_of_those_that_match() {
    let shell = shell_with_vectors(8_400);
    let report = bench(&shell, &["filter"]);
    assert_eq!((&report["vectors"], &report["segments"]), (&json!(8_400), &json!(1)));
    let rows = report["rows"].as_array().unwrap();
    let filters: Vec<Option<&str>> = rows.iter().map(|row| row.get("filter").and_then(Value::as_str)).collect();
    assert_eq!(filters, [None, Some("draw < 500"), Some("draw < 100"), Some("draw < 10"), Some("draw < 1")]);
    for (row, share) in rows.iter().zip([1.0, 0.5, 0.1, 0.01, 0.001]) {
        expect_fields(row, &["matching", "recall@10", "p50_ms", "p99_ms", "strategies"]);
        assert!((number(&row["matching"]) - share * 8_400.0).abs() < 4.0, "{row}");
        assert!(number(&row["recall@10"]) > 0.9, "{row}");
    }
    assert_eq!(rows[4]["strategies"], json!({"exact": 20}));
    assert!(!exists(&shell.path("quiver.db")), "it has a folder of its own");
}

#[test]
fn bench_open_measures_a_fresh_process() {
    let shell = shell_with_vectors(300);
    let report = bench(&shell, &["open"]);
    expect_fields(&report, &["segments", "bytes_on_disk", "open_ms", "first_answer_ms", "p50_ms", "p99_ms"]);
    assert_eq!((&report["vectors"], &report["searches"]), (&json!(300), &json!(1_000)));
    assert_eq!(report["recall@10"], json!(1.0), "all are compared");
    assert!(number(&report["first_answer_ms"]) >= number(&report["open_ms"]), "{report}");
    assert!(number(&report["resident_mb"]) >= number(&report["mapped_mb"]), "{report}");
    assert!(!exists(&shell.path("quiver.db")), "it has a folder of its own");
}

#[test]
fn bench_open_keeps_the_collection_in_a_database_that_is_named() {
    let shell = shell_with_vectors(300);
    let first = bench(&shell, &["open", "--db", "kept.db"]);
    let again = bench(&shell, &["open", "--db", "kept.db"]);
    // redb may give back a page or two when it is closed; a second copy would be twice as large.
    assert!(number(&again["bytes_on_disk"]) <= number(&first["bytes_on_disk"]), "{first} {again}");
    shell.write("base.fvecs", fvecs(301, 7));
    let files = ["bench", "open", "--base", "base.fvecs", "--queries", "queries.fvecs", "--db", "kept.db"];
    shell.run(&files).expect_refusal(2, &["300 documents", "301"]);
}

#[test]
fn bench_ingest_searches_meanwhile() {
    let shell = shell_with_vectors(300);
    shell.write("texts.jsonl", "{\"text\": \"Let the dough rise.\"}\n{\"text\": \"Bake it.\"}\n");
    for texts in [&[][..], &["--texts", "texts.jsonl"]] {
        let report = shell.json(&[&["bench", "--json", "ingest", "--base", "base.fvecs"], texts].concat());
        expect_fields(&report, &["rows_per_s", "committed_s", "sealed_s", "add_p50_ms", "add_p99_ms", "bytes_on_disk"]);
        assert_eq!((&report["vectors"], &report["recall@10"]), (&json!(270), &json!(1.0)));
        let rows = report["rows"].as_array().unwrap();
        assert_eq!((&rows[0]["meanwhile"], &rows[1]["meanwhile"]), (&json!("nothing"), &json!("ingest")));
        assert!(rows.iter().all(|row| number(&row["searches"]) >= 1.0), "{report}");
    }
    assert!(!exists(&shell.path("quiver.db")), "it has a folder of its own");
}

#[test]
fn benches_print_tables_for_people() {
    let shell = shell_with_vectors(100);
    let files = ["--base", "base.fvecs", "--queries", "queries.fvecs"];
    for (what, words) in [("ann", "recall@10"), ("filter", "strategy"), ("open", "first answer")] {
        let run = shell.run(&[&["bench", what], &files[..]].concat()).expect(0);
        assert!(run.stdout.contains(words), "{}", run.stdout);
        assert!(run.stderr.contains("core"), "the machine is not named: {}", run.stderr);
    }
    let run = shell.run(&["bench", "ingest", "--base", "base.fvecs"]).expect(0);
    assert!(run.stdout.contains("searching beside"), "{}", run.stdout);
}

#[test]
fn vectors_that_do_not_go_together_are_refused() {
    let shell = shell_with_vectors(100);
    let run = |base: &str, queries: &str| shell.run(&["bench", "ann", "--base", base, "--queries", queries]);
    shell.write("short.fvecs", [1_u32.to_le_bytes(), 1_f32.to_le_bytes()].concat());
    run("base.fvecs", "short.fvecs").expect_refusal(2, &["8 dimensions", "have 1"]);
    shell.write("zero.fvecs", [1_u32.to_le_bytes(), 0_f32.to_le_bytes()].concat());
    run("zero.fvecs", "zero.fvecs").expect_refusal(2, &["row 0 of the base", "all zeros"]);
    run("nowhere.npy", "queries.fvecs").expect_refusal(2, &["nowhere.npy"]);
    shell.write("base.txt", "1 2 3");
    run("base.txt", "queries.fvecs").expect_refusal(2, &["base.txt", ".npy, .fvecs"]);
}

#[test]
fn bench_threads_compares_runs_together_with_runs_alone() {
    let line = ["bench", "threads", "--threads", "2", "--seconds", "0.3", "--documents", "20", "--json"];
    let report = Shell::new().json(&line);
    let rows = report["rows"].as_array().unwrap();
    let together: Vec<&Value> = rows.iter().map(|row| &row["together"]).collect();
    assert_eq!(together, [&json!(false), &json!(true)]);
    for row in rows {
        let names = ["together", "threads", "queries", "queries_per_s", "p50_ms", "p95_ms", "queries_a_run", "model"];
        assert_eq!(fields(row), names);
        assert!(number(&row["queries"]) >= 2.0 && number(&row["p95_ms"]) > 0.0, "{row}");
    }
    assert_eq!(rows[0]["queries_a_run"], json!(1.0));
    Shell::new().run(&["bench", "threads", "--threads", "0"]).expect_refusal(2, &["0"]);
    Shell::new().run(&["bench", "threads", "--wait-ms", "-1"]).expect_refusal(2, &["-1"]);
}
