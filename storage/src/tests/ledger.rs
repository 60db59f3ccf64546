//! Records of imports, written with what they brought.

use serde_json::json;

use super::{batch, in_memory, on_disk, on_disk_in_memory, sound};
use crate::testing::{Power, Random, document, put, settings};
use crate::{Alongside, CollectionId, Error, LEDGER_KEY_BYTES_MAX, LedgerEdit, Metric, Operation, Store, Written};

fn edit(key: &str, value: &str) -> LedgerEdit {
    LedgerEdit::put(key, value)
}

fn told(store: &Store, notes: CollectionId, key: &str) -> Option<String> {
    store.ledger(notes, key.as_bytes()).unwrap().map(|record| String::from_utf8(record).unwrap())
}

fn keys(store: &Store, notes: CollectionId, prefix: &str) -> Vec<String> {
    let entries = store.ledger_entries(notes, prefix.as_bytes()).unwrap();
    entries.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
}

#[test]
fn records_are_kept_by_collection_and_key_and_go_with_their_collection() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notes) = on_disk(folder.path(), 1);
    let other = store.create_collection("other", &settings(1, Metric::Dot)).unwrap().id;
    assert_eq!((told(&store, notes, "a/1"), keys(&store, notes, "")), (None, vec![]));
    let edits = [edit("a/1", "one"), edit("a/2", ""), edit("b", "three"), LedgerEdit::put([0xFF, 0xFF], [0])];
    store.write_with(notes, vec![], Alongside::ledger(edits)).unwrap();
    store.write_with(other, vec![], Alongside::ledger([edit("a/1", "of another")])).unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!((told(&store, notes, "a/1"), told(&store, notes, "a/2")), (Some("one".into()), Some(String::new())));
    assert_eq!(
        (keys(&store, notes, "a/"), keys(&store, notes, "b"), keys(&store, notes, "c")),
        (vec!["a/1".into(), "a/2".into()], vec!["b".into()], vec![])
    );
    assert_eq!(store.ledger_entries(notes, &[]).unwrap().len(), 4);
    store.write_with(notes, vec![], Alongside::ledger([LedgerEdit::remove("a/1"), edit("a/2", "two")])).unwrap();
    assert_eq!((told(&store, notes, "a/1"), told(&store, notes, "a/2")), (None, Some("two".into())));
    sound(&store);
    store.drop_collection("notes").unwrap();
    assert!(matches!(store.ledger(notes, b"b"), Err(Error::UnknownCollection(_))));
    let late = store.write_with(notes, vec![], Alongside::ledger([edit("a", "b")]));
    assert!(matches!(late, Err(Error::UnknownCollection(_))), "{late:?}");
    assert_eq!(told(&store, other, "a/1"), Some("of another".into()));
    sound(&store);
}

#[test]
fn a_refused_batch_leaves_no_record_and_a_batch_of_nothing_does() {
    let (store, notes) = in_memory(2, Metric::Dot);
    let wrong = put(document("a", "One. ", json!({}), &[vec![1.0]]));
    assert!(store.write_with(notes, vec![wrong], Alongside::ledger([edit("k", "1")])).is_err());
    assert_eq!(told(&store, notes, "k"), None);
    let before = store.snapshot(notes).unwrap();
    let nothing = store.write_with(notes, vec![Operation::Delete("a".into())], Alongside::ledger([edit("k", "1")]));
    assert_eq!((nothing.unwrap(), told(&store, notes, "k")), (Written::default(), Some("1".into())));
    assert_eq!(before.documents(), store.snapshot(notes).unwrap().documents());
    let right = put(document("a", "One. ", json!({}), &[vec![1.0, 2.0]]));
    let written = store.write_with(notes, vec![right], Alongside::ledger([edit("k", "2")])).unwrap();
    assert_eq!((written.added, told(&store, notes, "k")), (1, Some("2".into())));
    for key in [String::new(), "k".repeat(LEDGER_KEY_BYTES_MAX + 1)] {
        let refused = store.write_with(notes, vec![], Alongside::ledger([edit(&key, "1")]));
        assert!(matches!(&refused, Err(Error::InvalidInput(text)) if text.contains("1024")), "{refused:?}");
    }
    sound(&store);
}

/// Wherever the power goes, the position is that of the documents.
#[test]
fn position_and_documents_are_there_together_after_a_power_cut() {
    let (rounds, seed) = (4, 29);
    let written = |store: &Store, notes: CollectionId, round: i64| {
        let position = Alongside::ledger([edit("rounds", &(round + 1).to_string())]);
        store.write_with(notes, batch(round), position)
    };
    let (_, store, notes) = on_disk_in_memory();
    let states: Vec<String> = (0..rounds)
        .map(|round| {
            written(&store, notes, round).unwrap();
            store.dump().unwrap()
        })
        .collect();
    let mut random = Random::new(seed);
    for stop in 0.. {
        let (disk, store, notes) = on_disk_in_memory();
        disk.fail_after(stop);
        let acknowledged = (0..rounds).take_while(|&round| written(&store, notes, round).is_ok()).count();
        for power in [Power::Nothing, Power::All, Power::SomeSectors] {
            let what = format!("seed {seed}, power gone at operation {stop}, {power:?}");
            let store = Store::on_backend(disk.after_loss(power, &mut random), None).expect(&what);
            let position: usize = told(&store, notes, "rounds").map_or(0, |told| told.parse().unwrap());
            assert!((acknowledged..=acknowledged + 1).contains(&position), "{what}: {acknowledged} of {position}");
            if position > 0 {
                assert!(store.dump().unwrap() == states[position - 1], "{what}: the documents of another position");
            }
            sound(&store);
        }
        if acknowledged == rounds as usize {
            break;
        }
    }
}
