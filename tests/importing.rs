//! Do files of rows get in, whoever wrote them, each row once, and does no damaged one do harm?

mod damaged;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use quiverdb::formats::columns::{ColumnMap, Position, Table, TableOptions};
use quiverdb::{
    Collection, CollectionConfig, Database, Document, DocumentId, Filter, ImportOptions, ImportProgress, ImportReport,
    Query, SpaceConfig,
};
use serde_json::{Value, json};

use crate::scenes::{folder, notes};

/// A file of `fixtures/tables`, made by `fixtures/make_tables.py`.
fn table(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tables").join(name)
}

fn points(dims: usize) -> Collection {
    Database::in_memory().unwrap().collection_with("points", CollectionConfig::new().external(dims)).unwrap()
}

fn mapped(map: &str) -> ImportOptions<'static> {
    ImportOptions { map: ColumnMap::parse(map).unwrap(), ..ImportOptions::default() }
}

fn counts(imported: &ImportReport) -> [u64; 4] {
    let report = &imported.report;
    [report.added, report.replaced, report.unchanged, imported.rejected_rows]
}

/// Row `n` of the fixtures, as far as `columns` are in it.
fn expected(n: u32, columns: &[&str]) -> Value {
    let mut all = json!({
        "year": 2000 + n,
        "rating": f64::from(n) + 0.5,
        "draft": n.is_multiple_of(2),
        "day": format!("2024-01-0{}", 1 + n),
        "moment": format!("2024-02-29T{}:30:15.123456Z", 12 + n),
        "price": (f64::from(n * 100 + 1990)) / 100.0,
        "tags": (0..n).map(|tag| format!("tag{tag}")).collect::<Vec<_>>(),
        "author": {"name": format!("Author {n}"), "born": 1950 + n},
        "language": if n < 3 { "en" } else { "de" },
    });
    let object = all.as_object_mut().unwrap();
    object.retain(|key, _| columns.contains(&key.as_str()) && !(key == "rating" && n == 3));
    all
}

/// Whether a document is row `n`; members of an object may stand in another order.
fn expect_row(file: &str, document: &Document, n: u32, columns: &[&str], with_vector: bool) {
    assert_eq!(document.id, format!("doc-{n}").into(), "{file}");
    assert!(document.text.starts_with(&format!("Passage number {n} tells")), "{file}: {}", document.text);
    assert_eq!(document.metadata, expected(n, columns), "{file}, row {n}");
    let vector = with_vector.then(|| vec![n as f32, 0.5, -1.0, 0.25]);
    assert_eq!(document.vector, vector, "{file}, row {n}");
}

const ALL: [&str; 9] = ["year", "rating", "draft", "day", "moment", "price", "tags", "author", "language"];

#[test]
fn files_of_every_writer_hold_the_same_documents() {
    let with = |more: &[&'static str]| -> Vec<&str> { more.to_vec() };
    let files: [(&str, Vec<&str>, bool); 16] = [
        ("arrow.parquet", with(&ALL), true),
        ("gzip.parquet", with(&["year"]), true),
        ("brotli.parquet", with(&["year"]), true),
        ("lz4.parquet", with(&["year"]), true),
        ("snappy.parquet", with(&["year"]), true),
        ("none.parquet", with(&["year"]), true),
        ("file.arrow", with(&ALL), true),
        ("stream.arrows", with(&ALL), true),
        ("pandas.parquet", with(&["year", "rating", "draft", "day", "moment", "price", "language"]), true),
        ("pandas.feather", with(&["year", "rating", "draft", "day", "moment", "language"]), true),
        ("pandas.csv", with(&["year", "rating", "draft", "day", "price", "language"]), false),
        ("pandas.tsv.gz", with(&["year", "draft"]), false),
        ("pandas.jsonl.gz", with(&["year", "draft"]), true),
        ("pandas.jsonl.zst", with(&["year", "draft"]), true),
        ("polars.parquet", with(&ALL), true),
        ("polars.arrow", with(&ALL), true),
    ];
    let more: [(&str, Vec<&str>, bool); 2] =
        [("duckdb.parquet", with(&ALL), true), ("lancedb.parquet", with(&ALL[..8]), true)];
    for (file, columns, with_vector) in files.into_iter().chain(more) {
        let collection = if with_vector { points(4) } else { notes().1 };
        let imported = collection.import(table(file), &ImportOptions::default());
        let imported = imported.unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!((counts(&imported), imported.rows), ([5, 0, 0, 0], 5), "{file}: {:?}", imported.report.rejected);
        for n in 0..5 {
            let mut document = collection.get(format!("doc-{n}")).unwrap().unwrap();
            if file == "duckdb.parquet" {
                document.metadata["language"] = expected(n, &["language"])["language"].clone();
            }
            expect_row(file, &document, n, &columns, with_vector);
        }
        assert!(collection.import(table(file), &ImportOptions::default()).unwrap().already_imported, "{file}");
    }
}

#[test]
fn bad_rows_are_written_down_one_by_one_and_the_rest_goes_in() {
    let folder = folder();
    let rejects = folder.path().join("rejects.jsonl");
    let collection = points(2);
    let options = ImportOptions { rejects: Some(rejects.clone()), ..mapped("id=key,vector=emb") };
    let imported = collection.import(table("vectors.parquet"), &options).unwrap();
    assert_eq!(counts(&imported), [1, 0, 0, 4]);
    assert_eq!(collection.get(1).unwrap().unwrap().vector, Some(vec![1.0, 2.0]));
    let lines = fs::read_to_string(&rejects).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        lines.iter().map(|bad| (bad["row"].clone(), bad["column"].clone(), bad["reason"].clone())).collect();
    assert_eq!(
        told,
        [
            (json!(2), json!("emb"), json!("number 0 of the vector is NaN")),
            (json!(3), json!("emb"), json!("number 0 of the vector is null")),
            (json!(4), json!(null), json!("it has neither text nor vector")),
            (json!(5), json!("score"), json!("inf is no number that JSON has")),
        ]
    );
    assert!(lines[0]["source"].as_str().unwrap().ends_with("vectors.parquet"));
    let strict = ImportOptions { rejects_max: Some(2), again: true, ..mapped("id=key,vector=emb") };
    let error = points(2).import(table("vectors.parquet"), &strict).unwrap_err().to_string();
    assert!(error.contains("more than 2 rows are rejected") && error.contains("--max-rejects"), "{error}");
}

#[test]
fn what_the_collection_refuses_is_among_the_rejects_with_its_row() {
    let folder = folder();
    let (file, rejects) = (folder.path().join("rows.jsonl"), folder.path().join("bad.jsonl"));
    let rows = [
        "{\"id\":\"a\",\"vector\":[1,2]}",
        "{\"id\":\"b\",\"vector\":[1,2,3]}",
        "nonsense",
        "{\"id\":\"c\",\"vector\":[3,4]}",
    ];
    fs::write(&file, rows.join("\n")).unwrap();
    let options = ImportOptions { rejects: Some(rejects.clone()), ..ImportOptions::default() };
    let collection = points(2);
    let imported = collection.import(&file, &options).unwrap();
    assert_eq!((counts(&imported), imported.rows), ([2, 0, 0, 2], 4));
    let text = fs::read_to_string(&rejects).unwrap();
    let rows: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["row"].clone()).collect();
    assert_eq!(rows, [2, 3], "{text}");
    assert!(text.contains("holds vectors of 2 numbers"), "{text}");
}

#[test]
fn a_column_says_when_a_row_expires() {
    let folder = folder();
    let file = folder.path().join("rows.csv");
    fs::write(&file, "id,text,until\na,Gone by now.,2001-01-01T00:00:00Z\nb,Here for long.,2999-01-01T00:00:00Z\nc,For ever.,\nd,Bad.,soon\ne,Seconds gone.,1700000000\nf,Seconds to come.,32503680000\n")
        .unwrap();
    let collection = notes().1;
    let imported = collection.import(&file, &mapped("expires_at=until")).unwrap();
    assert_eq!(counts(&imported), [5, 0, 0, 1]);
    assert!(imported.report.rejected[0].reason.contains("column `until`"), "{:?}", imported.report.rejected);
    let ids: Vec<_> =
        ["a", "b", "c", "e", "f"].into_iter().filter(|id| collection.get(*id).unwrap().is_some()).collect();
    assert_eq!(ids, ["b", "c", "f"]);
    assert!(collection.get("b").unwrap().unwrap().expires_at.is_some());
    // Timestamps of Arrow say it, too; here they all lie in 2024.
    let collection = points(4);
    collection.import(table("arrow.parquet"), &mapped("expires_at=moment")).unwrap();
    assert_eq!(collection.count().unwrap(), 0);
}

#[test]
fn rows_of_one_id_are_each_refused() {
    let folder = folder();
    let (file, rejects) = (folder.path().join("rows.jsonl"), folder.path().join("rejects.jsonl"));
    fs::write(&file, "{\"id\": 1, \"vector\": [1, 2, 3]}\n".repeat(2)).unwrap();
    let options = ImportOptions { rejects: Some(rejects.clone()), ..ImportOptions::default() };
    let imported = points(2).import(&file, &options).unwrap();
    assert_eq!((counts(&imported), imported.rejected_rows), ([0, 0, 0, 2], 2));
    assert_eq!(fs::read_to_string(&rejects).unwrap().lines().count(), 2);
}

/// So many rows of CSV; a thousand of them make several batches.
fn csv(path: &Path, rows: u32) {
    let row = |n: u32| format!("{n},\"Row {n} says, in \"\"quotes\"\", that it is the one of {n}.\",{}\n", n % 7);
    fs::write(path, "id,text,group\n".to_owned() + &(0..rows).map(row).collect::<String>()).unwrap();
}

#[test]
fn a_stopped_import_goes_on_behind_what_is_in_and_counts_every_row_once() {
    let folder = folder();
    let file = folder.path().join("rows.csv");
    csv(&file, 3_000);
    let collection = notes().1;
    let (stop, seen) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let show = |progress: &ImportProgress| {
        seen.lock().unwrap().push(*progress);
        stop.store(true, Ordering::Relaxed);
    };
    let options = ImportOptions { progress: Some(&show), cancel: Some(&stop), ..ImportOptions::default() };
    let first = collection.import(&file, &options).unwrap();
    let before = first.rows;
    assert!((1..3_000).contains(&before), "{before}");
    assert_eq!(collection.count().unwrap(), before);
    assert_eq!(seen.lock().unwrap()[0].rows_total, Some(3_000));
    let second = collection.import(&file, &ImportOptions::default()).unwrap();
    assert_eq!((second.rows, second.resumed_after, counts(&second)), (3_000, before, [3_000, 0, 0, 0]));
    assert_eq!(second.report.chunks_embedded, 3_000);
    assert_eq!(collection.get(2_999).unwrap().unwrap().metadata, json!({"group": 3}));
    let third = collection.import(&file, &ImportOptions::default()).unwrap();
    assert!(third.already_imported);
    let again = ImportOptions { again: true, ..ImportOptions::default() };
    let again = collection.import(&file, &again).unwrap();
    assert_eq!((again.report.chunks_embedded, counts(&again)), (0, [0, 0, 3_000, 0]));
}

#[test]
fn a_changed_file_is_read_again_and_only_what_differs_is_embedded() {
    let folder = folder();
    let file = folder.path().join("rows.csv");
    csv(&file, 100);
    let collection = notes().1;
    collection.import(&file, &ImportOptions::default()).unwrap();
    let text = fs::read_to_string(&file).unwrap().replace("the one of 42", "another one");
    fs::write(&file, text + "100,A new row.,5\n").unwrap();
    let changed = collection.import(&file, &ImportOptions::default()).unwrap();
    assert_eq!((counts(&changed), changed.report.chunks_embedded), ([1, 1, 99, 0], 2));
    // Read in another way it is another file, too.
    let other = collection.import(&file, &mapped("title=group")).unwrap();
    assert_eq!(other.rows, 101);
}

#[test]
fn every_row_is_the_same_from_wherever_one_goes_on() {
    for file in [
        "arrow.parquet",
        "file.arrow",
        "stream.arrows",
        "polars.parquet",
        "pandas.csv",
        "pandas.jsonl.gz",
        "pandas.tsv.gz",
    ] {
        let open = || Table::open(&table(file), "rows", TableOptions::default()).unwrap();
        let all: Vec<_> = open().map(Result::unwrap).collect();
        assert_eq!(all.len(), 5, "{file}");
        let mut from = Position::default();
        for begin in 0..5 {
            let mut rest = open();
            rest.skip_to(from).unwrap();
            let rest: Vec<_> = rest.map(|row| row.unwrap().document.unwrap()).collect();
            let wanted: Vec<_> = all[begin..].iter().map(|row| row.document.clone().unwrap()).collect();
            assert_eq!(rest, wanted, "{file} from row {begin}");
            from = all[begin].next;
        }
    }
}

#[test]
fn a_map_that_fits_nothing_names_the_columns() {
    let refusal = |file: &str, map: &str| notes().1.import(table(file), &mapped(map)).unwrap_err().to_string();
    let text = refusal("pandas.parquet", "text=body");
    assert!(text.contains("no column `body`") && text.contains("`text`, `year`"), "{text}");
    let text = refusal("pandas.csv", "text=body");
    assert!(text.contains("no column `body`") && text.contains("`text`, `year`"), "{text}");
    let text = refusal("pandas.jsonl.gz", "text=body");
    assert!(text.contains("no row has a key `body`") && text.contains("`text`"), "{text}");
    let text = refusal("pandas.parquet", "vector=year");
    assert!(text.contains("`year` is Int64") && text.contains("list of floats"), "{text}");
    let text = refusal("vectors.parquet", "id=key");
    assert!(text.contains("no column is the text or the vector"), "{text}");
    assert!(ColumnMap::parse("text").is_err());
    assert!(ColumnMap::parse("text=a,text=b").unwrap_err().to_string().contains("twice"));
    assert!(ColumnMap::parse("size=a").unwrap_err().to_string().contains("vectors.SPACE"));
}

#[test]
fn a_mapped_key_of_a_line_leaves_one_of_its_role_as_metadata() {
    let folder = folder();
    let file = folder.path().join("rows.ndjson");
    fs::write(&file, "{\"key\": 7, \"text\": \"short\", \"body\": \"The whole text.\", \"metadata\": {\"a\": 1}}\n")
        .unwrap();
    let collection = notes().1;
    collection.import(&file, &mapped("id=key,text=body")).unwrap();
    let document = collection.get(7).unwrap().unwrap();
    assert_eq!((document.text.as_str(), &document.metadata), ("The whole text.", &json!({"a": 1, "text": "short"})));
}

#[test]
fn vectors_of_further_spaces_come_from_columns_of_their_name() {
    let config = CollectionConfig::new().space("image", SpaceConfig::external(4));
    let collection = Database::in_memory().unwrap().collection_with("things", config).unwrap();
    collection.import(table("gzip.parquet"), &mapped("vectors.image=vector,vector=")).unwrap();
    let document = collection.get("doc-2").unwrap().unwrap();
    assert_eq!((document.vector, &document.vectors["image"]), (None, &vec![2.0, 0.5, -1.0, 0.25]));
    let hits = collection.search(Query::vector(vec![4.0, 0.5, -1.0, 0.25]).space("image").limit(1)).unwrap();
    assert_eq!(hits.hits[0].document, "doc-4".into());
}

#[test]
fn csv_is_read_as_it_was_meant() {
    let folder = folder();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let quoted = write(
        "a.csv",
        "\u{feff}id;text;zip;empty\r\n1;\"two\r\nlines; and \"\"quotes\"\"\";007;\r\n2;short;12;\r\n3;uneven;1\r\n",
    );
    let collection = notes().1;
    let imported = collection.import(&quoted, &ImportOptions::default()).unwrap();
    assert_eq!(counts(&imported), [2, 0, 0, 1]);
    let document = collection.get(1).unwrap().unwrap();
    assert_eq!((document.text.as_str(), &document.metadata), ("two\r\nlines; and \"quotes\"", &json!({"zip": "007"})));
    assert!(imported.report.rejected[0].reason.contains("row 3: it has 3 fields"), "{:?}", imported.report.rejected);
    let bare = write("b.csv", "first,1.5\nsecond,2\n");
    let options = ImportOptions { no_header: true, ..mapped("text=column1") };
    collection.import(&bare, &options).unwrap();
    let document = collection.get("b.csv#2").unwrap().unwrap();
    assert_eq!((document.text.as_str(), &document.metadata), ("second", &json!({"column2": 2.0})));
    let vectors = write("c.csv", "id,vector\na,\"[1, 2]\"\nb,\"[1, x]\"\n");
    let imported = points(2).import(&vectors, &ImportOptions::default()).unwrap();
    assert_eq!(counts(&imported), [1, 0, 0, 1]);
}

#[test]
fn a_row_that_is_appended_changes_the_id_of_no_other() {
    let folder = folder();
    let file = folder.path().join("rows.csv");
    let rows = "id,text\n1,One.\n-20,Less.\n007,Zeros.\n+8,A plus.\n1.5,A half.\n";
    fs::write(&file, rows).unwrap();
    let collection = notes().1;
    collection.import(&file, &ImportOptions::default()).unwrap();
    fs::write(&file, rows.to_owned() + "last,A word.\n").unwrap();
    let grown = collection.import(&file, &ImportOptions::default()).unwrap();
    assert_eq!(counts(&grown), [1, 0, 5, 0], "{:?}", grown.report.rejected);
    let is_there = |id: DocumentId| collection.get(id).unwrap().is_some();
    assert!([1.into(), (-20).into(), "007".into(), "+8".into(), "1.5".into(), "last".into()].into_iter().all(is_there));
    assert_eq!(collection.count().unwrap(), 6);
    // `add` makes the same documents of it.
    let added = quiverdb::formats::load(&file).map(|document| document.unwrap().id).collect::<Vec<_>>();
    assert_eq!(
        added,
        [1.into(), (-20).into(), "007".into(), "+8".into(), "1.5".into(), "last".into()] as [DocumentId; 6]
    );
}

#[test]
fn a_quote_that_nothing_closes_swallows_no_rows_but_refuses_the_file() {
    let folder = folder();
    let file = folder.path().join("rows.csv");
    let refusal = |text: String| {
        fs::write(&file, text).unwrap();
        let collection = notes().1;
        let refused = collection.import(&file, &ImportOptions::default()).unwrap_err().to_string();
        assert_eq!(collection.count().unwrap(), 0);
        // `add` says the same of it.
        let added: Vec<_> = quiverdb::formats::load(&file).collect();
        assert!(matches!(added.as_slice(), [Err(rejected)] if refused.contains(&rejected.reason)), "{added:?}");
        refused
    };
    let rows = |from: u32| (from..from + 2_000).map(|n| format!("{n},Row {n}.\n")).collect::<String>();
    let told = refusal(format!("id,text\n{}9001,\"Open.\n{}", rows(0), rows(2_000)));
    assert!(told.contains("line 2002") && told.contains("nothing closes it"), "{told}");
    // The next quote closes it, two thousand rows below.
    let told = refusal(format!("id,text\n{}9001,\"Open.\n{}9002,\"Closed.\"\n", rows(0), rows(2_000)));
    assert!(told.contains("line 2002") && told.contains("line 4003"), "{told}");
    let told = refusal(format!("id,\"text\n{}", rows(0)));
    assert!(told.contains("line 1"), "{told}");
    let told = refusal(format!("id,text\n1,\"Long.\n{}", "word ".repeat(7 << 20)));
    assert!(told.contains("line 2") && told.contains("32 MiB"), "{told}");
}

#[test]
fn of_two_rows_of_one_id_the_one_that_is_refused_is_named() {
    let folder = folder();
    let (file, rejects) = (folder.path().join("rows.jsonl"), folder.path().join("bad.jsonl"));
    let rows = [
        "{\"id\":\"a\",\"vector\":[1,2]}",
        "nonsense",
        "{\"id\":\"a\",\"vector\":[1,2,3]}",
        "{\"id\":\"1\",\"vector\":[1,2]}",
        "{\"id\":1,\"vector\":[1]}",
        "{\"id\":\"a\",\"vector\":[3,4]}",
    ];
    fs::write(&file, rows.join("\n")).unwrap();
    let collection = points(2);
    let options = ImportOptions { rejects: Some(rejects.clone()), ..ImportOptions::default() };
    let imported = collection.import(&file, &options).unwrap();
    assert_eq!(counts(&imported), [2, 1, 0, 3]);
    let text = fs::read_to_string(&rejects).unwrap();
    let bad: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows: Vec<_> = bad.iter().map(|bad| bad["row"].as_u64().unwrap()).collect();
    assert_eq!(rows, [2, 3, 5], "{text}");
    assert!(bad[1]["reason"].as_str().unwrap().contains('3') && bad[2]["reason"].as_str().unwrap().contains('1'));
}

#[test]
fn an_import_that_goes_on_keeps_what_another_one_rejected() {
    let folder = folder();
    let (first, second) = (folder.path().join("first.csv"), folder.path().join("second.csv"));
    let rejects = folder.path().join("bad.jsonl");
    let row = |n: u32| if n.is_multiple_of(3) { format!("{n},\n") } else { format!("{n},Row {n} is here.\n") };
    let rows = |count: u32| "id,text\n".to_owned() + &(1..=count).map(row).collect::<String>();
    fs::write(&first, rows(3_000)).unwrap();
    fs::write(&second, rows(9)).unwrap();
    let collection = notes().1;
    let stop = AtomicBool::new(false);
    let show = |_: &ImportProgress| stop.store(true, Ordering::Relaxed);
    let to_rejects = || ImportOptions { rejects: Some(rejects.clone()), ..ImportOptions::default() };
    let begun = collection
        .import(&first, &ImportOptions { progress: Some(&show), cancel: Some(&stop), ..to_rejects() })
        .unwrap();
    assert!((1..3_000).contains(&begun.rows), "{}", begun.rows);
    collection.import(&second, &ImportOptions { append: true, ..to_rejects() }).unwrap();
    // What a killed run wrote behind its last position, to the middle of a line, comes again.
    let text = fs::read_to_string(&rejects).unwrap();
    let ahead = text.lines().next().unwrap().replace("\"row\":3,", "\"row\":2997,");
    fs::write(&rejects, format!("{text}{ahead}\n{}", &ahead[..ahead.len() / 2])).unwrap();
    collection.import(&first, &to_rejects()).unwrap();
    let text = fs::read_to_string(&rejects).unwrap();
    let of = |file: &str| {
        let bad = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let bad = bad.filter(|bad| bad["source"].as_str().unwrap().ends_with(file));
        bad.map(|bad| bad["row"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(of("first.csv"), (1..=1_000).map(|n| n * 3).collect::<Vec<_>>());
    assert_eq!(of("second.csv"), [3, 6, 9]);
}

#[test]
fn what_is_appended_again_takes_the_place_of_what_it_was() {
    let folder = folder();
    let (first, second) = (folder.path().join("first.csv"), folder.path().join("second.csv"));
    let rejects = folder.path().join("bad.jsonl");
    fs::write(&first, "id,text\na,\n").unwrap();
    fs::write(&second, "id,text\nb,\nc,\n").unwrap();
    // Another spelling of the same path.
    let second = folder.path().join(".").join("second.csv");
    let collection = notes().1;
    let append =
        |again| ImportOptions { rejects: Some(rejects.clone()), append: true, again, ..ImportOptions::default() };
    let rows = || {
        let text = fs::read_to_string(&rejects).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let row = |bad: Value| {
            let source = bad["source"].as_str().unwrap();
            assert_eq!(Path::new(source), Path::new(source).canonicalize().unwrap());
            (source.rsplit('/').next().unwrap().to_owned(), bad["row"].as_u64().unwrap())
        };
        lines.map(row).collect::<Vec<_>>()
    };
    let expected = [("first.csv".to_owned(), 1), ("second.csv".to_owned(), 1), ("second.csv".to_owned(), 2)];
    for again in [false, true] {
        collection.import(&first, &append(again)).unwrap();
        collection.import(&second, &append(again)).unwrap();
        assert_eq!(rows(), expected);
    }
    // Mended in part: what is no reject any more is none in the file.
    fs::write(&second, "id,text\nb,Mended.\nc,\n").unwrap();
    collection.import(&second, &append(false)).unwrap();
    assert_eq!(rows(), [expected[0].clone(), expected[2].clone()]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing partial is left");
}

#[test]
fn rows_without_ids_of_two_files_of_one_name_never_replace_each_other() {
    let folder = folder();
    let path = |place: &str| folder.path().join(place).join("x.csv");
    for (place, rows) in [("a", "text\nOne.\nTwo.\n"), ("b", "text\nThree.\n"), ("c", "id,text\n7,Seven.\n,None.\n")] {
        fs::create_dir(folder.path().join(place)).unwrap();
        fs::write(path(place), rows).unwrap();
    }
    let collection = notes().1;
    collection.import(path("a"), &ImportOptions::default()).unwrap();
    for place in ["b", "c"] {
        let refused = collection.import(path(place), &ImportOptions::default()).unwrap_err().to_string();
        let words = ["a/x.csv", &format!("{place}/x.csv"), "--map id=COLUMN"];
        assert!(words.iter().all(|word| refused.contains(*word)), "{refused}");
    }
    assert_eq!(collection.get("x.csv#1").unwrap().unwrap().text, "One.");
    let files = [path("b"), path("c")];
    assert!(ImportOptions::default().check_names(&files).is_err());
    let map = ImportOptions { no_header: true, ..mapped("id=column1,text=column1") };
    map.check_names(&[path("a"), path("b")]).unwrap();
    ImportOptions::default().check_names(&[path("a"), folder.path().join("y.csv")]).unwrap();
    // The same file again is no other one, nor is one that was moved.
    fs::write(path("a"), "text\nOne.\nTwo.\nMore.\n").unwrap();
    collection.import(path("a"), &ImportOptions::default()).unwrap();
    fs::rename(path("a"), path("b")).unwrap();
    let moved = collection.import(path("b"), &ImportOptions::default()).unwrap();
    assert_eq!(counts(&moved), [0, 0, 3, 0]);
}

/// What holds the name is a row that is in: neither one that was rejected nor one that was deleted since.
#[test]
fn a_file_s_name_is_held_by_whichever_of_its_rows_are_in() {
    let folder = folder();
    let path = |place: &str| folder.path().join(place).join("x.jsonl");
    let row = |vector: &str| format!("{{\"vector\":{vector}}}\n");
    let rows = [("a", row("[1,2,3]") + &row("[1,2]") + &row("[2,1]")), ("b", row("[3,4]") + &row("[4,3]"))];
    for (place, rows) in rows {
        fs::create_dir(folder.path().join(place)).unwrap();
        fs::write(path(place), rows).unwrap();
    }
    let collection = points(2);
    let first = collection.import(path("a"), &ImportOptions::default()).unwrap();
    assert_eq!(counts(&first), [2, 0, 0, 1]);
    let refused = || collection.import(path("b"), &ImportOptions::default()).unwrap_err().to_string();
    assert!(refused().contains("have the same name"));
    collection.delete("x.jsonl#2").unwrap();
    assert!(refused().contains("have the same name"));
    collection.delete("x.jsonl#3").unwrap();
    collection.add(Document::new("x.jsonl#notes", "").vector(vec![0.5, 0.5])).unwrap();
    assert_eq!(counts(&collection.import(path("b"), &ImportOptions::default()).unwrap()), [2, 0, 0, 0]);
}

#[test]
fn filters_see_the_types_of_columns() {
    let collection = points(4);
    collection.import_parquet(table("arrow.parquet")).unwrap();
    let count = |filter: &str| {
        let query = Query::vector(vec![1.0; 4]).filter(filter.parse::<Filter>().unwrap());
        collection.search(query).unwrap().hits.len()
    };
    assert_eq!(count("year >= 2002 AND draft = true"), 2);
    assert_eq!(count("price > 21 AND price < 22"), 1);
    assert_eq!(count("moment >= '2024-02-29T14' AND day <= '2024-01-04'"), 2);
    assert_eq!(count("author.born = 1953 AND tags CONTAINS 'tag1'"), 1);
    assert_eq!(count("EXISTS rating"), 4);
}

#[test]
fn rejected_rows_are_written_over_nothing_else() {
    let folder = folder();
    let file = folder.path().join("rows.jsonl");
    let rows = "{\"id\": 1, \"vector\": [1, 2]}\n";
    fs::write(&file, rows).unwrap();
    let options = ImportOptions { rejects: Some(file.clone()), ..ImportOptions::default() };
    let collection = points(2);
    let refused = collection.import(&file, &options).unwrap_err().to_string();
    assert!(refused.contains("something else than rejected rows"), "{refused}");
    assert_eq!((fs::read_to_string(&file).unwrap().as_str(), collection.count().unwrap()), (rows, 0));
}
