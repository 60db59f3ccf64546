//! A flipped bit is an error that names its place, never another answer.

use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableHandle};

use crate::tables::{
    Bytes, CHUNKS, COLLECTION_NAMES, COLLECTIONS, DOCUMENT_IDS, DOCUMENTS, META, METADATA, Pair, SEGMENTS, SPACES,
    TEXTS, TOMBSTONES, VECTORS,
};
use crate::testing::{Random, put, random_document, settings};
use crate::{ChunkNumber, DocumentId, Error, Metric, Operation, Store};

/// A file with all kinds of rows.
fn sample(folder: &std::path::Path) {
    let store = Store::open(folder).unwrap();
    let notes = store.create_collection("notes", &settings(8, Metric::Cosine)).unwrap().id;
    let mut random = Random::new(71);
    store.write(notes, (0..30).map(|n| put(random_document(&mut random, n, 8))).collect()).unwrap();
    store.write(notes, (0..5).map(|n| Operation::Delete(n.into())).collect()).unwrap();
    assert!(crate::seal::seal(&store.0, notes, 1).unwrap());
    store.write(notes, (30..40).map(|n| put(random_document(&mut random, n, 8))).collect()).unwrap();
}

/// Everything that can be asked; what fails must fail with `Corrupt`.
fn ask(store: &Store) -> (String, Vec<String>) {
    let mut answers = String::new();
    let mut errors = Vec::new();
    let mut take = |result: crate::Result<String>| match result {
        Ok(answer) => answers += &answer,
        Err(error @ Error::Corrupt { .. }) => errors.push(error.to_string()),
        Err(other) => panic!("{other:?}"),
    };
    take(store.dump());
    take(store.collections().map(|all| format!("{all:?}")));
    let notes = match store.collection("notes") {
        Ok(Some(notes)) => notes.id,
        Ok(None) => return (answers, errors),
        Err(error) => return (answers, vec![error.to_string()]),
    };
    match store.snapshot(notes) {
        Err(error) => take(Err(error)),
        Ok(snapshot) => {
            take(snapshot.nearest(0, &[1.0; 8], 50, None).map(|hits| format!("{hits:?}")));
            take(snapshot.search_text("word1 word2", 50, None).map(|found| format!("{:?}", found.hits)));
            take(snapshot.matching_documents(&"year > 2010".parse().unwrap()).map(|ids| format!("{ids:?}")));
            for chunk in 5..40 {
                take(snapshot.hydrate(ChunkNumber(chunk)).map(|chunk| format!("{chunk:?}")));
            }
            for id in 5..40 {
                take(snapshot.digest(&DocumentId::from(id)).map(|digest| format!("{digest:?}")));
            }
        }
    }
    (answers, errors)
}

/// Flips one bit of the value of one row.
fn flip<K: redb::Key + 'static>(
    database: &redb::Database,
    definition: TableDefinition<'static, K, Bytes>,
    random: &mut Random,
) -> bool {
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(definition).unwrap();
        let rows = redb::ReadableTableMetadata::len(&table).unwrap();
        if rows == 0 {
            return false;
        }
        let chosen = random.below(rows) as usize;
        let (key, mut bytes) = {
            let (key, value) = table.iter().unwrap().nth(chosen).unwrap().unwrap();
            (K::as_bytes(&key.value()).as_ref().to_vec(), value.value().to_vec())
        };
        let bit = random.below(bytes.len() as u64 * 8) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
        table.insert(K::from_bytes(&key), bytes.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    true
}

#[test]
fn every_flipped_bit_is_found_by_the_check_and_never_changes_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let (truth, errors) = ask(&Store::open(folder.path()).unwrap());
    assert!(errors.is_empty());
    let original = std::fs::read(folder.path().join("data.redb")).unwrap();
    let seed = 73;
    let mut random = Random::new(seed);
    for round in 0..150 {
        std::fs::write(folder.path().join("data.redb"), &original).unwrap();
        let table = {
            let database = redb::Database::open(folder.path().join("data.redb")).unwrap();
            damage(&database, round, &mut random)
        };
        let store = match Store::open(folder.path()) {
            Ok(store) => store,
            Err(Error::Corrupt { place, .. }) => {
                assert!(place.contains(table), "round {round}, seed {seed}: {place} for {table}");
                continue;
            }
            Err(other) => panic!("round {round}, seed {seed}: {other:?}"),
        };
        let violations = store.check().unwrap().join("\n");
        assert!(violations.contains(&format!("table {table}")), "round {round}, seed {seed}, {table}: {violations}");
        let (answers, errors) = ask(&store);
        let whole = answers == truth;
        assert!(whole || !errors.is_empty(), "round {round}, seed {seed}: a wrong answer from {table}");
    }
}

fn damage(database: &redb::Database, round: usize, random: &mut Random) -> &'static str {
    let pairs: [TableDefinition<'static, Pair, Bytes>; 6] = [DOCUMENTS, TEXTS, METADATA, CHUNKS, VECTORS, SEGMENTS];
    let numbered: [TableDefinition<'static, u32, Bytes>; 3] = [COLLECTIONS, SPACES, TOMBSTONES];
    let names =
        ["documents", "texts", "metadata", "chunks", "vectors", "segments", "collections", "spaces", "tombstones"];
    let choice = round % 12;
    let flipped = match choice {
        0..6 => flip(database, pairs[choice], random),
        6..9 => flip(database, numbered[choice - 6], random),
        9 => flip(database, META, random),
        10 => flip(database, COLLECTION_NAMES, random),
        _ => flip(database, DOCUMENT_IDS, random),
    };
    assert!(flipped, "choice {choice} has no rows");
    match choice {
        0..9 => names[choice],
        9 => META.name(),
        10 => "collection_names",
        _ => "document_ids",
    }
}

#[test]
fn a_missing_row_is_found() {
    let definitions = [DOCUMENTS, TEXTS, METADATA, CHUNKS, VECTORS];
    for definition in definitions {
        let folder = tempfile::tempdir().unwrap();
        sample(folder.path());
        {
            let database = redb::Database::open(folder.path().join("data.redb")).unwrap();
            let transaction = database.begin_write().unwrap();
            {
                let mut table = transaction.open_table(definition).unwrap();
                table.pop_last().unwrap();
            }
            transaction.commit().unwrap();
            assert!(database.begin_read().is_ok());
        }
        let store = Store::open(folder.path()).unwrap();
        assert!(!store.check().unwrap().is_empty(), "{}", definition.name());
        let (_, errors) = ask(&store);
        assert!(!errors.is_empty(), "{}", definition.name());
    }
}

#[test]
fn what_is_whole_can_be_read_beside_what_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    {
        let database = redb::Database::open(folder.path().join("data.redb")).unwrap();
        flip(&database, VECTORS, &mut Random::new(1));
    }
    let store = Store::open(folder.path()).unwrap();
    let notes = store.collection("notes").unwrap().unwrap().id;
    let snapshot = store.snapshot(notes).unwrap();
    assert_eq!(snapshot.scan(None, 100).unwrap().len(), 35);
    assert_eq!(snapshot.matching_documents(&"year >= 2000".parse().unwrap()).unwrap().len(), 35);
    let error = snapshot.nearest(0, &[1.0; 8], 5, None).unwrap_err();
    assert!(error.to_string().contains("table vectors, key (1, "), "{error}");
    let other = store.create_collection("other", &settings(8, Metric::Cosine)).unwrap().id;
    store.write(other, vec![put(random_document(&mut Random::new(2), 1, 8))]).unwrap();
    assert_eq!(store.snapshot(other).unwrap().nearest(0, &[1.0; 8], 5, None).unwrap().len(), 1);
}

#[test]
fn a_damaged_segment_record_costs_no_answer_and_goes_when_sealed_again() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let (truth, _) = ask(&Store::open(folder.path()).unwrap());
    {
        let database = redb::Database::open(folder.path().join("data.redb")).unwrap();
        flip(&database, SEGMENTS, &mut Random::new(79));
    }
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(ask(&store), (truth.clone(), vec![]));
    assert_eq!(store.check().unwrap().len(), 1);
    let notes = store.collection("notes").unwrap().unwrap().id;
    assert!(crate::seal::seal(&store.0, notes, 1).unwrap());
    assert_eq!(ask(&store), (truth, vec![]));
    super::sound(&store);
}
