//! Does what goes out come back equal, to the byte?

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::formats::columns::{Table, TableOptions};
use crate::formats::load_jsonl;
use crate::{Collection, CollectionConfig, Database, Document, DocumentId, SpaceConfig};

/// All formats in which documents come back.
const FILES: [&str; 5] = ["x.parquet", "x.arrow", "x.arrows", "x.jsonl", "x.jsonl.zst"];

fn with_vectors() -> ExportOptions<'static> {
    ExportOptions { vectors: true, ..ExportOptions::default() }
}

fn table(path: &Path) -> Table {
    Table::open(path, "test", TableOptions::default()).unwrap()
}

/// All documents of a file, as an import reads them.
fn documents(path: &Path) -> Vec<Document> {
    table(path).map(|row| row.unwrap().document.unwrap()).collect()
}

fn read(path: &Path) -> Vec<Document> {
    let name = path.file_name().unwrap().to_string_lossy();
    if !name.contains("jsonl") {
        return documents(path);
    }
    let bytes = std::fs::read(path).unwrap();
    let bytes = if name.ends_with(".zst") { zstd::decode_all(bytes.as_slice()).unwrap() } else { bytes };
    load_jsonl(bytes.as_slice(), "test").map(|document| document.unwrap()).collect()
}

/// The documents with their metadata as text, so that the order of members counts.
fn print(documents: impl IntoIterator<Item = Document>) -> Vec<String> {
    let print = |mut document: Document| {
        document.embedded = None;
        format!("{document:?} {}", document.metadata)
    };
    documents.into_iter().map(print).collect()
}

fn all(collection: &Collection) -> Vec<Document> {
    collection.scan().unwrap().map(Result::unwrap).collect()
}

/// Every chunk with its vectors in all spaces.
fn chunks(collection: &Collection) -> Vec<String> {
    let snapshot = collection.parts().store.snapshot(collection.parts().info.id).unwrap();
    let chunks = |id: &DocumentId| format!("{id:?} {:?}", snapshot.stored_chunks(id).unwrap());
    snapshot.ids().unwrap().iter().map(chunks).collect()
}

/// Exports in every format, reads that again, and compares; returns nothing because nothing may differ.
fn expect_round_trip(collection: &Collection, given: &CollectionConfig) {
    let folder = tempfile::tempdir().unwrap();
    let before = print(all(collection));
    for name in FILES {
        let path = folder.path().join(name);
        let report = collection.export(&path, &with_vectors()).unwrap();
        assert_eq!(report.rows, before.len() as u64);
        let read = read(&path);
        assert_eq!(print(read.clone()), before, "{name}");
        let is_table = !name.contains("jsonl");
        let config = if is_table { table(&path).config().unwrap().unwrap() } else { given.clone() };
        let again = Database::in_memory().unwrap().collection_with("again", config).unwrap();
        let report = again.add_many(read).unwrap();
        assert_eq!((report.rejected, report.chunks_embedded), (Vec::new(), 0), "{name}");
        assert_eq!(print(all(&again)), before, "{name}");
        assert_eq!(chunks(&again), chunks(collection), "{name}");
    }
}

fn any_number() -> impl Strategy<Value = Value> {
    let corners =
        [json!(i64::MIN), json!(i64::MAX), json!(u64::MAX), json!(1e308), json!(-0.0), json!(5e-324), json!(0.1)];
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("JSON has it", |number| serde_json::Number::from_f64(number).map(Value::Number)),
        proptest::sample::select(corners.to_vec()),
    ]
}

fn any_name() -> impl Strategy<Value = String> {
    let odd = [
        "id",
        "_id",
        "ID",
        "text",
        "Text",
        "title",
        "vector",
        "vectors",
        "vector_image",
        "metadata",
        "chunks",
        "embedded",
        "a",
        "b",
        "c",
        "A",
        "a.b",
        "a b",
        "",
        "\u{0}",
        "\n",
        "é",
        "E\u{301}",
        "日本",
        "\"",
        "`",
        "id_is_integer",
        "start",
        "document",
        "expires_at",
        "list",
        "item",
        "element",
    ];
    prop_oneof![proptest::sample::select(odd.to_vec()).prop_map(str::to_owned), ".{0,4}"]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any_number(),
        ".{0,8}".prop_map(Value::String),
        Just(json!("2026-11-21T17:00:00Z")),
    ];
    leaf.prop_recursive(6, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::vec((any_name(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Documents of one shape: in each a member has a value of the same kind, most of the time.
fn any_rows() -> impl Strategy<Value = Vec<Value>> {
    let kinds = proptest::collection::vec((any_name(), 0_u8..9), 0..5);
    let seeds = proptest::collection::vec((any_value(), proptest::collection::vec(any::<u32>(), 5)), 0..7);
    (kinds, seeds).prop_map(|(kinds, seeds)| {
        let of_kind = |kind: u8, seed: u32| match kind {
            0 => json!(seed),
            1 => json!(f64::from(seed) / 3.0),
            2 => json!(seed.is_multiple_of(2)),
            3 => json!(format!("text {seed}")),
            4 => json!((0..seed % 4).collect::<Vec<_>>()),
            5 => json!({"n": seed, "s": {"deep": [seed.is_multiple_of(3)]}}),
            6 => json!([{"x": seed}, {"x": 1, "y": "y"}]),
            7 => json!(u64::MAX - u64::from(seed)),
            _ => json!(-i64::from(seed)),
        };
        let row = |(odd, seeds): (Value, Vec<u32>)| {
            let mut row = Map::new();
            for ((name, kind), seed) in kinds.iter().zip(seeds) {
                match seed % 13 {
                    0 => {}
                    1 => drop(row.insert(name.clone(), odd.clone())),
                    _ => drop(row.insert(name.clone(), of_kind(*kind, seed))),
                }
            }
            Value::Object(row)
        };
        seeds.into_iter().map(row).collect()
    })
}

fn any_metadata() -> impl Strategy<Value = Vec<Value>> {
    let object = proptest::collection::vec((any_name(), any_value()), 0..5)
        .prop_map(|members| Value::Object(members.into_iter().collect()));
    prop_oneof![any_rows(), proptest::collection::vec(object, 0..5)]
}

fn any_id() -> impl Strategy<Value = DocumentId> {
    prop_oneof![any::<i64>().prop_map(DocumentId::Integer), "[0-9]{1,2}|.{1,9}".prop_map(DocumentId::Text)]
}

/// Adds a document; one is refused only where it has vectors of further spaces and nothing that could have them.
fn expect_taken(collection: &Collection, document: Document) {
    let is_blank = document.text.trim().is_empty() && document.title.as_deref().unwrap_or_default().trim().is_empty();
    let (id, may_be_refused) =
        (document.id.clone(), is_blank && !document.vectors.is_empty() && document.vector.is_none());
    match collection.add(document) {
        Ok(report) => assert_eq!(report.added + report.replaced + report.unchanged, 1, "{id}"),
        Err(error) => {
            assert!(may_be_refused && error.to_string().contains("no chunk that could have its vectors"), "{error}")
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_documents_come_back_equal_and_nothing_is_embedded(
        config in 0_usize..3,
        rows in any_metadata(),
        ids in proptest::collection::vec(any_id(), 8),
        texts in proptest::collection::vec(".{0,80}", 8),
        titles in proptest::collection::vec(proptest::option::of("[a-z ].{0,8}"), 8),
        vectors in proptest::collection::vec(proptest::option::weighted(0.2, proptest::array::uniform4(-1e3_f32..1e3)), 8),
    ) {
        let spaces = CollectionConfig::new().space("im.age", SpaceConfig::external(4)).space("im_age", SpaceConfig::external(4));
        let config = vec![CollectionConfig::new(), CollectionConfig::new().external(4), spaces].swap_remove(config);
        let collection = Database::in_memory().unwrap().collection_with("c", config.clone()).unwrap();
        let is_external = collection.model().is_none();
        let further: Vec<String> = collection.parts().further_spaces().map(|space| space.name().to_owned()).collect();
        let zipped = rows.iter().zip(&ids).zip(&texts).zip(&titles).zip(&vectors);
        for ((((metadata, id), text), title), vector) in zipped {
            let mut document = Document::new(id.clone(), text.clone()).metadata(metadata.clone());
            document.title = title.clone();
            let own = vector.unwrap_or([1.0, -2.5, 3.25e-7, 0.1]);
            if is_external {
                document.vector = Some(own.to_vec());
            } else if vector.is_some() {
                document.vector = Some(own.iter().cycle().take(256).copied().collect());
            }
            for space in &further {
                document = document.vector_in(space.clone(), own.to_vec());
            }
            expect_taken(&collection, document);
        }
        expect_round_trip(&collection, &config);
    }
}

/// Exports as CSV, reads that again, and compares what CSV can say: all but documents without text and vector, and blank
/// titles.
fn expect_csv_round_trip(collection: &Collection, spaces: &[String]) {
    let folder = tempfile::tempdir().unwrap();
    let mut given = all(collection);
    let is_said =
        |document: &Document| !document.text.is_empty() || document.vector.is_some() || !document.vectors.is_empty();
    given.retain(is_said);
    given
        .iter_mut()
        .for_each(|document| document.title = document.title.take().filter(|title| !title.trim().is_empty()));
    for name in ["x.csv", "x.tsv"] {
        let path = folder.path().join(name);
        collection.export(&path, &ExportOptions::default()).unwrap();
        let options = TableOptions { spaces: spaces.to_vec(), ..TableOptions::default() };
        let rows = Table::open(&path, "test", options).unwrap();
        let read: Vec<Document> = rows.filter_map(|row| row.unwrap().document.ok()).collect();
        // The order of members is not compared.
        assert_eq!(read, given, "{}", std::fs::read_to_string(&path).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_documents_come_back_equal_from_csv(
        is_external in any::<bool>(),
        rows in any_metadata(),
        ids in proptest::collection::vec(any_id(), 8),
        texts in proptest::collection::vec("(?s).{0,20}|[0-9]{1,3}|[\",;\r\n\t]{1,4}", 8),
        titles in proptest::collection::vec(proptest::option::of("[a-z ].{0,8}"), 8),
    ) {
        let spaces = CollectionConfig::new().external(4).space("image", SpaceConfig::external(2));
        let config = if is_external { spaces } else { CollectionConfig::new() };
        let collection = Database::in_memory().unwrap().collection_with("c", config).unwrap();
        for (((metadata, id), text), title) in rows.iter().zip(&ids).zip(&texts).zip(&titles) {
            let mut document = Document::new(id.clone(), text.clone()).metadata(metadata.clone());
            document.title = title.clone();
            if is_external {
                document.vector = Some(vec![1.0, -2.5, 3.25e-7, 0.1]);
                document = document.vector_in("image", vec![0.3, 1e15]);
            }
            expect_taken(&collection, document);
        }
        let further: Vec<String> = collection.parts().further_spaces().map(|space| space.name().to_owned()).collect();
        expect_csv_round_trip(&collection, &further);
    }
}

#[test]
fn csv_has_columns_of_what_reads_back_and_json_of_the_rest() {
    let (collection, folder) = (Database::in_memory().unwrap().collection("c").unwrap(), tempfile::tempdir().unwrap());
    let documents = [
        Document::new("7", "Seven, as text.")
            .metadata(json!({"year": 2020, "zip": "12345", "price": 0.1 + 0.2, "ok": true})),
        Document::new(7, "Seven \"itself\"\nin two lines.")
            .metadata(json!({"year": 2021, "note": "007", "tags": ["x"]})),
        Document::new(8, "Odd.").metadata(json!({"year": "soon", "note": ""})).title("Eight"),
    ];
    assert_eq!(collection.add_many(documents).unwrap().rejected, []);
    let path = folder.path().join("x.csv");
    let report = collection.export(&path, &ExportOptions::default()).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let expected = [
        "id,id_is_integer,title,text,year,note,price,ok,metadata",
        "7,true,,\"Seven \"\"itself\"\"",
        "in two lines.\",2021,007,,,\"{\"\"tags\"\":[\"\"x\"\"]}\"",
        "8,true,Eight,Odd.,,,,,\"{\"\"year\"\":\"\"soon\"\",\"\"note\"\":\"\"\"\"}\"",
        "7,false,,\"Seven, as text.\",2020,,0.30000000000000004,true,\"{\"\"zip\"\":\"\"12345\"\"}\"",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    assert_eq!((report.rows, report.columns.len()), (3, 9));
    expect_csv_round_trip(&collection, &[]);
    let refused = collection.export(folder.path().join("y.csv"), &with_vectors()).unwrap_err().to_string();
    assert!(refused.contains("--chunks") && refused.contains(".parquet"), "{refused}");
    let passages = ExportOptions { chunks: true, ..with_vectors() };
    let path = folder.path().join("z.tsv");
    collection.export(&path, &passages).unwrap();
    let mut read = table(&path);
    assert_eq!(read.vectors().unwrap().dims, Some(256));
}

#[test]
fn passages_in_csv_name_their_documents_by_the_ids_that_these_have() {
    let folder = tempfile::tempdir().unwrap();
    let text = |id: &str| DocumentId::Text(id.to_owned());
    for ids in [vec![text("007"), text("8")], vec![7.into(), 8.into()], vec![7.into(), text("7"), text("a")]] {
        let collection = Database::in_memory().unwrap().collection("c").unwrap();
        let documents = ids.iter().map(|id| Document::new(id.clone(), "Bread rises overnight."));
        assert_eq!(collection.add_many(documents).unwrap().rejected, []);
        let path = folder.path().join(format!("{}.csv", ids.len() * 10 + usize::from(ids[0] == 7.into())));
        let passages = ExportOptions { chunks: true, ..ExportOptions::default() };
        collection.export(&path, &passages).unwrap();
        let read = Table::open(&path, "test", TableOptions::default()).unwrap();
        let mut named: Vec<_> =
            read.map(|row| row.unwrap().document.unwrap().metadata["document"].to_string()).collect();
        let mut expected: Vec<_> = ids.iter().map(|id| value(id).to_string()).collect();
        named.sort();
        expected.sort();
        assert_eq!(named, expected);
    }
}

fn value(id: &DocumentId) -> Value {
    match id {
        DocumentId::Integer(number) => json!(number),
        DocumentId::Text(text) => json!(text),
    }
}

fn library() -> Collection {
    let collection = Database::in_memory().unwrap().collection("library").unwrap();
    let long = "# One\n\nThreads share data.\n\n## Two\n\n".to_owned() + &"A mutex guards what it holds. ".repeat(200);
    let documents = [
        Document::new("a.md", long)
            .title("A")
            .metadata(json!({"year": 2020, "tags": ["x", "y"], "author": {"name": "Ann"}})),
        Document::new("b", "Bread rises overnight.").metadata(json!({"year": 2021, "tags": [], "price": 1.5})),
        Document::new("empty", "").expires_at(crate::moment::of_millis(9_999_999_999_001).unwrap()),
    ];
    assert_eq!(collection.add_many(documents).unwrap().rejected, []);
    collection
}

#[test]
fn a_library_comes_back_equal() {
    expect_round_trip(&library(), &CollectionConfig::new());
}

#[test]
fn an_edited_text_is_embedded_again_and_another_model_takes_nothing() {
    let (collection, folder) = (library(), tempfile::tempdir().unwrap());
    let path = folder.path().join("x.parquet");
    collection.export(&path, &with_vectors()).unwrap();
    let mut edited = read(&path);
    let at = edited.iter_mut().find(|document| document.id == "b".into()).unwrap();
    at.text = at.text.replace("Bread", "Trees");
    let again = Database::in_memory().unwrap().collection("again").unwrap();
    assert_eq!(again.add_many(edited).unwrap().chunks_embedded, 1);
    let other = CollectionConfig::new().dimensions(64);
    let other = Database::in_memory().unwrap().collection_with("other", other).unwrap();
    let report = other.add_many(read(&path)).unwrap();
    assert_eq!((report.chunks_reused, report.chunks_embedded), (0, collection.stats().unwrap().chunks));
}

#[test]
fn the_models_of_further_spaces_are_not_asked_again_either() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        || CollectionConfig::new().chunk_tokens(64).space("second", SpaceConfig::model("builtin").dimensions(32));
    let collection = Database::in_memory().unwrap().collection_with("c", config()).unwrap();
    collection.add(Document::new("a", "One sentence. ".repeat(90))).unwrap();
    expect_round_trip(&collection, &config());
    let path = folder.path().join("x.parquet");
    collection.export(&path, &ExportOptions { space: Some("second".into()), ..with_vectors() }).unwrap();
    let carried = read(&path).remove(0).embedded.unwrap();
    assert!(carried.chunks.len() > 1);
    assert!(carried.chunks.iter().all(|chunk| chunk.vectors.keys().eq(["second"])), "{:?}", carried.models);
}

#[test]
fn metadata_are_columns_of_their_types() {
    let (collection, folder) = (library(), tempfile::tempdir().unwrap());
    let path = folder.path().join("x.parquet");
    let report = collection.export(&path, &ExportOptions::default()).unwrap();
    let columns: Vec<String> = report.columns.iter().map(|column| format!("{} {}", column.name, column.kind)).collect();
    let expected = [
        "id Utf8",
        "title Utf8",
        "text Utf8",
        "expires_at Timestamp(ms, \"UTC\")",
        "year Int64",
        "tags List(Utf8)",
        "author Struct(\"name\": Utf8)",
        "price Float64",
    ];
    assert_eq!(columns, expected);
    assert_eq!((report.documents, report.rows), (3, 3));
    assert_eq!(report.bytes, std::fs::metadata(&path).unwrap().len());
}

#[test]
fn chunks_have_their_places_and_vectors() {
    let (collection, folder) = (library(), tempfile::tempdir().unwrap());
    let filter = "year = 2020".parse().unwrap();
    let options = ExportOptions { chunks: true, filter: Some(filter), ..with_vectors() };
    let report = collection.export(folder.path().join("x.arrow"), &options).unwrap();
    assert_eq!(report.documents, 1);
    assert!(report.rows > 1);
    let mut lines = Vec::new();
    collection.snapshot().unwrap().export_to(&mut lines, &options).unwrap();
    let lines: Vec<Value> =
        lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert_eq!(lines.len() as u64, report.rows);
    let whole = collection.get("a.md").unwrap().unwrap().text;
    let stored = collection.parts().store.snapshot(collection.parts().info.id).unwrap();
    let stored = stored.stored_chunks(&"a.md".into()).unwrap();
    for (document, (line, chunk)) in documents(&folder.path().join("x.arrow")).into_iter().zip(lines.iter().zip(stored))
    {
        assert_eq!(document.text, whole[chunk.start..chunk.end]);
        assert_eq!(document.vector.as_ref(), Some(&chunk.vectors[0]));
        assert_eq!(document.metadata["document"], "a.md");
        assert_eq!(document.metadata["start"], json!(chunk.start));
        assert_eq!(document.id, line["id"].as_str().unwrap().into());
        assert_eq!(line["text"], document.text);
        assert_eq!(line["vector"].as_array().unwrap().len(), 256);
    }
}

#[test]
fn an_empty_collection_is_a_table_without_rows() {
    let folder = tempfile::tempdir().unwrap();
    let collection = Database::in_memory().unwrap().collection("nothing").unwrap();
    for name in FILES {
        let path = folder.path().join(name);
        let report = collection.export(&path, &with_vectors()).unwrap();
        assert_eq!((report.documents, report.rows), (0, 0));
        assert_eq!(read(&path), []);
    }
}

#[test]
fn nothing_is_overwritten_unasked_and_nothing_is_left_of_what_fails() {
    let (collection, folder) = (library(), tempfile::tempdir().unwrap());
    let path = folder.path().join("x.jsonl");
    std::fs::write(&path, "mine").unwrap();
    let refused = |path: &Path, options: &ExportOptions<'_>| collection.export(path, options).unwrap_err().to_string();
    let plain = ExportOptions::default;
    assert!(refused(&path, &plain()).contains("is there already"));
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    collection.export(&path, &ExportOptions { overwrite: true, ..plain() }).unwrap();
    assert_eq!(read(&path).len(), 3);
    assert!(refused(&folder.path().join("x.xlsx"), &plain()).contains(".parquet"));
    assert!(refused(&folder.path().join("none/x.jsonl"), &plain()).contains("there is no folder"));
    assert!(
        refused(folder.path(), &ExportOptions { format: Some(ExportFormat::Arrow), ..plain() }).contains("no file")
    );
    let unknown = ExportOptions { space: Some("image".into()), ..plain() };
    assert!(refused(&folder.path().join("y.jsonl"), &unknown).contains("no space `image`"));
    let cancelled = AtomicBool::new(true);
    for name in ["y.jsonl", "y.parquet"] {
        let options = ExportOptions { cancel: Some(&cancelled), ..plain() };
        assert!(collection.export(folder.path().join(name), &options).unwrap().cancelled);
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["x.jsonl"]);
}

/// A disk that is full after so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.0 {
            0 => Err(std::io::ErrorKind::StorageFull.into()),
            room => {
                let taken = bytes.len().min(room);
                self.0 -= taken;
                Ok(taken)
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_of_the_world_wherever_it_happens() {
    let snapshot = library().snapshot().unwrap();
    for format in [ExportFormat::Parquet, ExportFormat::Arrow, ExportFormat::JsonLines, ExportFormat::JsonLinesZstd] {
        for room in [0, 1, 100, 1_000] {
            let options = ExportOptions { format: Some(format), ..with_vectors() };
            let error = snapshot.export_to(Full(room), &options).unwrap_err();
            assert_eq!(error.blame(), crate::Blame::World, "{format:?} {room}: {error}");
        }
    }
}

#[test]
fn a_model_of_the_applications_own_is_asked_for_by_name() {
    struct Own(crate::embed::ModelSpec);
    impl crate::Embedder for Own {
        fn spec(&self) -> &crate::embed::ModelSpec {
            &self.0
        }
        fn embed_documents(&self, texts: &[&str]) -> Result<crate::embed::Embeddings> {
            let values = texts.iter().flat_map(|text| [1.0, text.len() as f32]).collect();
            Ok(crate::embed::Embeddings { dims: 2, values, truncated: 0 })
        }
    }
    let config = || CollectionConfig::new().embedder(Arc::new(Own(crate::embed::ModelSpec::new("own", 2))));
    let collection = Database::in_memory().unwrap().collection_with("c", config()).unwrap();
    collection.add(Document::new(1, "one")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    collection.export(&path, &with_vectors()).unwrap();
    let again = Database::in_memory().unwrap().collection_with("c", config()).unwrap();
    assert_eq!(again.add_many(read(&path)).unwrap().chunks_embedded, 0);
}

fn table_of(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tables").join(name)
}

#[test]
fn files_of_every_writer_come_back_with_their_types() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["arrow.parquet", "pandas.parquet", "polars.parquet", "duckdb.parquet", "lancedb.parquet", "file.arrow"]
    {
        let (map, of_file) = (crate::ImportOptions::default(), table_of(name));
        let types = Table::open(&of_file, "test", TableOptions::default()).unwrap().types();
        let dims = table(&of_file).vectors().unwrap().dims;
        let config = || dims.map_or(CollectionConfig::new(), |dims| CollectionConfig::new().external(dims));
        let db = Database::in_memory().unwrap();
        let first = db.collection_with("first", config()).unwrap();
        assert_eq!(first.import(&of_file, &map).unwrap().rejected_rows, 0, "{name}");
        for out in ["x.parquet", "x.arrow"] {
            let path = folder.path().join(out);
            first.export(&path, &ExportOptions { overwrite: true, ..with_vectors() }).unwrap();
            let again = Database::in_memory().unwrap().collection_with("again", config()).unwrap();
            let report = again.import(&path, &map).unwrap();
            assert_eq!((report.rejected_rows, report.report.chunks_embedded), (0, 0), "{name}");
            assert_eq!(print(all(&again)), print(all(&first)), "{name}");
            assert_eq!(chunks(&again), chunks(&first), "{name}");
            let exported = table(&path).types();
            let lists = |kind: &String| kind.replace(", field: 'element'", "").replace("LargeList", "List");
            for (column, kind) in &exported {
                assert_eq!(lists(kind), lists(&types[column]), "{name} {column}");
            }
            assert_eq!(exported.keys().collect::<Vec<_>>(), types.keys().collect::<Vec<_>>(), "{name}");
        }
    }
}
