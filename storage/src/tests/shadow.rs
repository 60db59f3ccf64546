//! Does a collection that is made otherwise take the place of the other one whole, or not at all?

use serde_json::json;

use super::{ROUND_DIMS, batch, in_memory, on_disk, on_disk_in_memory, sound};
use crate::engine::Engine;
use crate::error::engine;
use crate::tables::{
    CHUNKS, DOCUMENT_IDS, DOCUMENTS, EXPIRIES, EXPIRY_ORDER, METADATA, RETIRED, TEXTS, VECTORS, pairs_of,
};
use crate::testing::{Power, Random, put, random_document, settings};
use crate::{
    AliasEdit, Alongside, Changes, CollectionId, CollectionSettings, DocumentId, Error, LedgerEdit, Metric, NewChunk,
    NewDocument, Operation, Result, Snapshot, Store, StoredChunk, rows,
};

/// Other settings than those of `notes`, for documents of the same shape.
fn otherwise(dims: usize) -> CollectionSettings {
    CollectionSettings { application: json!({"made": "otherwise"}), ..settings(dims, Metric::L2) }
}

/// What makes a document in the shadow as it is here.
fn as_it_is(snapshot: &Snapshot, id: &DocumentId) -> Result<Operation> {
    let Some(stored) = snapshot.document(id)? else { return Ok(Operation::Delete(id.clone())) };
    let chunk = |StoredChunk { start, end, heading, vectors, .. }| NewChunk { start, end, heading, vectors };
    let chunks = snapshot.stored_chunks(id)?.into_iter().map(chunk).collect();
    let crate::StoredDocument { id, title, text, metadata, digest, expires_at } = stored;
    Ok(Operation::Put(Box::new(NewDocument { id, title, text, metadata, digest, expires_at, chunks })))
}

fn operations(store: &Store, of: CollectionId, ids: &[DocumentId]) -> Result<Vec<Operation>> {
    let snapshot = store.snapshot(of)?;
    ids.iter().map(|id| as_it_is(&snapshot, id)).collect()
}

/// Fills the shadow, three documents at a time; makes it where it is not there.
fn fill(store: &Store, of: CollectionId, dims: usize) -> Result<CollectionId> {
    let shadow = match store.shadow(of)? {
        Some(shadow) => shadow.info.id,
        None => store.create_shadow(of, &otherwise(dims))?.id,
    };
    let mut after = None;
    loop {
        let ids = store.differences(of, shadow, after.as_ref(), 3)?;
        let Some(last) = ids.last() else { return Ok(shadow) };
        store.write(shadow, operations(store, of, &ids)?)?;
        after = Some(last.clone());
    }
}

fn promote(store: &Store, changes: &Changes, of: CollectionId) -> Result<()> {
    store.promote(changes, |late| operations(store, of, late))?;
    store.purge()
}

/// The dump, whose settings alone tell which of the two it is of.
fn content(store: &Store) -> String {
    store.dump().unwrap().lines().filter(|line| !line.starts_with("collection ")).collect()
}

fn is_made_otherwise(store: &Store) -> bool {
    let info = store.collection("notes").unwrap().unwrap();
    info.settings.application == json!({"made": "otherwise"})
}

/// Rows that a collection of these spaces has left.
fn rows_left(engine: &Engine, collection: CollectionId, spaces: &[crate::SpaceId]) -> usize {
    let transaction = engine.begin_read().unwrap();
    let pairs = |table, owner| {
        let table = rows::open_if_made(&transaction, table).unwrap();
        table.map_or(0, |table| table.range(pairs_of(owner)).unwrap().count())
    };
    let keyed = |table, owner: u32| {
        let table = rows::open_if_made(&transaction, table).unwrap();
        table.map_or(0, |table| table.range((owner, [].as_slice())..(owner + 1, [].as_slice())).unwrap().count())
    };
    let of_tables =
        [DOCUMENTS, TEXTS, METADATA, CHUNKS, EXPIRIES].map(|table| pairs(table, collection.0)).iter().sum::<usize>();
    let of_spaces = spaces.iter().map(|space| pairs(VECTORS, space.0)).sum::<usize>();
    let ids = keyed(DOCUMENT_IDS, collection.0) + keyed(EXPIRY_ORDER, collection.0);
    let retired = rows::open_if_made(&transaction, RETIRED).unwrap();
    let retired = retired.map_or(0, |table| table.get(collection.0).map_err(engine_error).unwrap().iter().count());
    of_tables + of_spaces + ids + retired
}

fn engine_error(error: redb::StorageError) -> Error {
    engine(error)
}

#[test]
fn a_shadow_takes_the_place_and_nothing_is_left_of_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), ROUND_DIMS);
    let before = store.collection("notes").unwrap().unwrap();
    for round in 0..4 {
        store.write(notes, batch(round)).unwrap();
    }
    assert!(crate::seal::seal(&store.0, notes, 1).unwrap());
    let position = |at: u8| Alongside::ledger([LedgerEdit::put("import", [at])]);
    store.write_with(notes, vec![], position(4)).unwrap();
    store.change_aliases(&[AliasEdit::Set { alias: "mine".into(), target: "notes".into() }]).unwrap();
    let (old, wanted) = (store.snapshot(notes).unwrap(), content(&store));
    let changes = store.watch(notes).unwrap();
    let shadow = fill(&store, notes, ROUND_DIMS).unwrap();
    sound(&store);
    assert_eq!(content(&store), wanted, "nothing of it is seen");
    assert_eq!((store.collections().unwrap().len(), store.successor(notes)), (1, None));
    assert!(crate::seal::seal(&store.0, shadow, 1).unwrap());
    store.write_with(notes, vec![], position(5)).unwrap();
    promote(&store, &changes, notes).unwrap();
    sound(&store);
    assert!(is_made_otherwise(&store) && content(&store) == wanted);
    assert_eq!(store.collection("notes").unwrap().unwrap().id, shadow);
    assert_eq!(store.collection("mine").unwrap().unwrap().id, shadow, "aliases follow");
    assert_eq!(store.snapshot(shadow).unwrap().segments(), 1, "sealed before it was seen");
    assert_eq!(rows_left(&store.0, notes, &before.spaces), 0);
    assert!(store.shadow(shadow).unwrap().is_none());
    assert_eq!(store.ledger(shadow, b"import").unwrap(), Some(vec![5]), "imports go on");
    // Whoever had the old number learns of the new one; who looks at the past sees it.
    assert!(matches!(store.snapshot(notes), Err(Error::UnknownCollection(_))));
    assert!(matches!(store.write(notes, batch(5)), Err(Error::UnknownCollection(_))));
    assert_eq!((store.successor(notes), store.successor_of_lost(notes)), (Some(shadow), Some(shadow)));
    let query = [1.0, 0.5, -0.25];
    assert_eq!(old.ids().unwrap(), store.snapshot(shadow).unwrap().ids().unwrap());
    assert!(!old.nearest(0, &query, 5, None).unwrap().is_empty());
    drop((old, changes, store));
    let store = Store::open(folder.path()).unwrap();
    sound(&store);
    assert!(is_made_otherwise(&store) && content(&store) == wanted);
    assert_eq!(std::fs::read_dir(folder.path().join("segments")).unwrap().count(), 1);
}

/// However many rows the old one has, the swap touches none of them: whoever writes waits for it.
#[test]
fn the_swap_leaves_all_rows_to_the_purge_those_of_moments_too() {
    let (store, notes) = in_memory(ROUND_DIMS, Metric::Cosine);
    let mut random = Random::new(9);
    let documents = (0..40).map(|id| {
        let mut made = random_document(&mut random, id, ROUND_DIMS);
        made.expires_at = (id % 2 == 0).then_some(u64::MAX - id as u64);
        put(made)
    });
    store.write(notes, documents.collect()).unwrap();
    let spaces = store.collection("notes").unwrap().unwrap().spaces;
    let wanted = content(&store);
    let changes = store.watch(notes).unwrap();
    fill(&store, notes, ROUND_DIMS).unwrap();
    let before = rows_left(&store.0, notes, &spaces);
    store.promote(&changes, |late| operations(&store, notes, late)).unwrap();
    assert_eq!(rows_left(&store.0, notes, &spaces), before + 1, "all, and that it is retired");
    sound(&store);
    store.purge().unwrap();
    assert_eq!((rows_left(&store.0, notes, &spaces), content(&store)), (0, wanted));
    sound(&store);
}

#[test]
fn what_is_written_meanwhile_is_told_and_what_fails_is_told_again() {
    let (store, notes) = in_memory(ROUND_DIMS, Metric::Cosine);
    let mut random = Random::new(5);
    let mut one = |id: i64| put(random_document(&mut random, id, ROUND_DIMS));
    store.write(notes, (0..5).map(&mut one).collect()).unwrap();
    let changes = store.watch(notes).unwrap();
    assert!(matches!(store.watch(notes), Err(Error::InvalidInput(_))), "one at a time");
    let shadow = fill(&store, notes, ROUND_DIMS).unwrap();
    assert!(store.create_shadow(notes, &otherwise(ROUND_DIMS)).is_err() && changes.is_empty());
    store.write(notes, vec![one(2), one(9), Operation::Delete(4.into())]).unwrap();
    store.write(notes, vec![one(9), Operation::Delete(77.into())]).unwrap();
    assert_eq!(changes.take(2), [2.into(), 4.into()]);
    store.write(shadow, operations(&store, notes, &[2.into(), 4.into()]).unwrap()).unwrap();
    let refused = store.promote(&changes, |late| match late {
        [nine, _] if *nine == 9.into() => Err(Error::invalid("not now")),
        other => panic!("{other:?}"),
    });
    assert_eq!(refused.unwrap_err().to_string(), "not now");
    assert!(!is_made_otherwise(&store) && changes.len() == 2);
    let wanted = content(&store);
    promote(&store, &changes, notes).unwrap();
    assert!(is_made_otherwise(&store) && content(&store) == wanted);
    sound(&store);
}

#[test]
fn a_shadow_goes_with_the_collection_and_by_itself() {
    let (store, notes) = in_memory(ROUND_DIMS, Metric::Cosine);
    store.write(notes, batch(0)).unwrap();
    let wanted = store.dump().unwrap();
    let changes = store.watch(notes).unwrap();
    let shadow = fill(&store, notes, ROUND_DIMS).unwrap();
    let spaces = store.shadow(notes).unwrap().unwrap().info.spaces;
    assert!(store.drop_shadow(notes).unwrap() && !store.drop_shadow(notes).unwrap());
    assert!(matches!(promote(&store, &changes, notes), Err(Error::InvalidInput(_))));
    assert_eq!((store.dump().unwrap(), rows_left(&store.0, shadow, &spaces)), (wanted, 0));
    sound(&store);
    let shadow = fill(&store, notes, ROUND_DIMS).unwrap();
    store.rename_collection("notes", "papers").unwrap();
    sound(&store);
    store.drop_collection("papers").unwrap();
    assert_eq!((store.dump().unwrap().as_str(), rows_left(&store.0, shadow, &spaces)), ("", 0));
    sound(&store);
}

/// Makes it otherwise, with a write in the middle that follows.
fn remake(store: &Store, notes: CollectionId) -> Result<()> {
    let changes = store.watch(notes)?;
    fill(store, notes, ROUND_DIMS)?;
    store.write(notes, batch(7))?;
    promote(store, &changes, notes)
}

#[test]
fn a_loss_of_power_leaves_one_of_the_two_whole_and_it_can_go_on() {
    let seed = 101;
    let begin = || {
        let (disk, store, notes) = on_disk_in_memory();
        for round in 0..2 {
            store.write(notes, batch(round)).unwrap();
        }
        (disk, store, notes)
    };
    let (counting, store, notes) = begin();
    let (first, start) = (content(&store), counting.operations());
    remake(&store, notes).unwrap();
    let (last, end) = (content(&store), counting.operations());
    let mut random = Random::new(seed);
    for stop in 0..=end - start {
        let (disk, store, notes) = begin();
        disk.fail_after(stop);
        let done = remake(&store, notes).is_ok();
        // All four would take half a minute; each comes again three operations on.
        let by_turns = [Power::All, Power::SomeWrites, Power::SomeSectors][stop as usize % 3];
        for power in [Power::Nothing, by_turns] {
            let what = format!("seed {seed}, power gone at operation {stop}, {power:?}");
            let store = Store::on_backend(disk.after_loss(power, &mut random), None).expect(&what);
            assert_eq!(store.check().unwrap(), Vec::<String>::new(), "{what}");
            let found = content(&store);
            assert!(found == first || found == last, "{what}: {found}");
            assert!(found == last || !done && !is_made_otherwise(&store), "{what}");
            // Whatever was done, it goes on from there.
            let of = store.collection("notes").unwrap().unwrap().id;
            if !is_made_otherwise(&store) {
                remake(&store, of).expect(&what);
            }
            store.purge().expect(&what);
            assert!(is_made_otherwise(&store) && content(&store) == last, "{what}");
            assert_eq!(rows_left(&store.0, notes, &[]), 0, "{what}");
            assert_eq!(store.check().unwrap(), Vec::<String>::new(), "{what}");
        }
    }
}
