//! One error of the disk ends a handle of redb, and not the database.

use std::io::ErrorKind;
use std::sync::Arc;

use serde_json::json;

use super::{ROUND_DIMS, batch, on_disk_in_memory, sound};
use crate::handle::Watch;
use crate::seal::seal;
use crate::testing::{Faults, Which, document, fast_folder, put};
use crate::{CollectionId, DocumentId, Error, Operation, Result, Store, Written};

fn texts(store: &Store, notes: CollectionId) -> usize {
    store.snapshot(notes).unwrap().search_text("word0 word1 word2 word3", 100, None).unwrap().hits.len()
}

#[test]
fn a_handle_that_failed_is_opened_again_by_the_next_operation() {
    let (disk, store, notes) = on_disk_in_memory();
    let one = |id: &str| vec![put(document(id, "words. ", json!({}), &[vec![1.0, 1.0, 0.0]]))];
    store.write(notes, one("a")).unwrap();
    let before = store.snapshot(notes).unwrap();
    disk.fail_after(0);
    let error = store.write(notes, one("b")).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
    let poisoned = |result: Result<Written>| matches!(result, Err(Error::Poisoned(_)));
    assert!(poisoned(store.write(notes, one("c"))), "it cannot be opened again while the disk refuses");
    assert!(matches!(store.drop_collection("notes"), Err(Error::Poisoned(_))));
    let during = store.snapshot(notes).unwrap();
    for snapshot in [&before, &during] {
        assert_eq!(snapshot.nearest(0, &[1.0, 0.0, 0.0], 5, None).unwrap().len(), 1, "memory answers");
        assert_eq!(snapshot.search_text("words", 5, None).unwrap().hits.len(), 1);
    }
    disk.heal();
    store.write(notes, one("d")).unwrap();
    assert_eq!(store.snapshot(notes).unwrap().ids().unwrap(), [DocumentId::from("a"), "d".into()]);
    sound(&store);
    assert_eq!(during.nearest(0, &[1.0, 0.0, 0.0], 5, None).unwrap().len(), 1, "what it saw, and no more");
}

/// Two writes, then a third during which the disk fails; what the database holds after two and three.
fn two_states() -> [String; 2] {
    let (_, store, notes) = on_disk_in_memory();
    let mut states = (0..3).map(|round| {
        store.write(notes, batch(round)).unwrap();
        store.dump().unwrap()
    });
    [states.nth(1).unwrap(), states.next().unwrap()]
}

/// Fails during the third write as `fail` says for 0, 1, 2 and so on, until the write goes through. Returns how often it
/// failed and how often it was there nevertheless.
fn fail_everywhere(fail: impl Fn(&Store, u64)) -> (u64, u64) {
    let [two, three] = two_states();
    let mut unconfirmed = 0;
    for stop in 0.. {
        let (_, store, notes) = on_disk_in_memory();
        store.write(notes, batch(0)).unwrap();
        store.write(notes, batch(1)).unwrap();
        let held = store.snapshot(notes).unwrap();
        fail(&store, stop);
        let result = store.write(notes, batch(2));
        let spent = store.0.faults().is_spent();
        store.0.faults().heal();
        let dump = store.dump().unwrap();
        let expected = match &result {
            Ok(_) => &three,
            Err(Error::Unconfirmed(_)) => {
                unconfirmed += 1;
                &three
            }
            Err(Error::DiskFull { .. } | Error::Io { .. }) => &two,
            Err(other) => panic!("request {stop}: {other:?}"),
        };
        assert!(dump == *expected, "request {stop}: {result:?}\n{dump}");
        assert!(texts(&store, notes) > 0);
        assert_eq!(held.nearest(0, &[1.0, 0.0, 0.0], 100, None).unwrap().len() as u64, held.chunks());
        sound(&store);
        store.write(notes, batch(7)).unwrap();
        sound(&store);
        if result.is_ok() && !spent {
            return (stop, unconfirmed);
        }
    }
    unreachable!()
}

#[test]
fn wherever_the_disk_refuses_for_once_the_write_is_kept_as_a_whole_or_not_at_all_and_said_so() {
    for (which, least) in [(Which::Changes, 4), (Which::Syncs, 1)] {
        for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
            let (failed, unconfirmed) = fail_everywhere(|store, stop| store.0.faults().refuse_once(which, stop, kind));
            assert!(failed >= least, "{which:?} {kind:?}: only {failed} failures");
            eprintln!("{which:?}, {kind:?}: {failed} failures, {unconfirmed} of a write that was there");
        }
    }
}

#[test]
fn wherever_the_disk_refuses_for_good_nothing_is_lost_when_it_is_well_again() {
    let [two, three] = two_states();
    for stop in 0.. {
        let (disk, store, notes) = on_disk_in_memory();
        store.write(notes, batch(0)).unwrap();
        store.write(notes, batch(1)).unwrap();
        disk.fail_after(stop);
        let result = store.write(notes, batch(2));
        assert!(store.snapshot(notes).is_ok_and(|snapshot| {
            snapshot.nearest(0, &[1.0, 0.0, 0.0], 100, None).unwrap().len() as u64 == snapshot.chunks()
        }));
        disk.heal();
        let dump = store.dump().unwrap();
        assert!(dump == three || (result.is_err() && dump == two), "operation {stop}");
        sound(&store);
        store.write(notes, batch(7)).unwrap();
        drop(store);
        sound(&Store::on_backend(disk, None).unwrap());
        if result.is_ok() {
            assert!(stop > 3, "a commit writes more than {stop} times");
            return;
        }
    }
}

#[test]
fn a_read_that_fails_costs_the_next_one_nothing() {
    let folder = fast_folder();
    let notes = {
        let (store, notes) = super::on_disk(folder.path(), ROUND_DIMS);
        for round in 0..4 {
            store.write(notes, batch(round)).unwrap();
        }
        notes
    };
    let truth = Store::open(folder.path()).unwrap().dump().unwrap();
    let mut failures = 0;
    for stop in 0.. {
        let watch = Arc::new(Watch::with_faults(Arc::new(Faults::uncached())));
        let store = Store::open_tuned(folder.path(), u64::MAX, watch).unwrap();
        store.0.faults().refuse_once(Which::Reads, stop, ErrorKind::Other);
        let first = store.dump();
        if store.0.faults().is_spent() {
            failures += u64::from(first.is_err());
        } else {
            assert!(failures > 2, "{failures} of {stop}");
            return;
        }
        assert_eq!(store.dump().unwrap(), truth, "read {stop}: {first:?}");
        assert_eq!(store.snapshot(notes).unwrap().ids().unwrap().len(), 9);
        sound(&store);
        store.write(notes, vec![Operation::Delete(99.into())]).unwrap();
    }
}

#[test]
fn sealing_that_meets_a_failing_disk_leaves_all_as_it_was_and_succeeds_later() {
    for stop in 0.. {
        let folder = fast_folder();
        let (store, notes) = super::on_disk(folder.path(), ROUND_DIMS);
        for round in 0..4 {
            store.write(notes, batch(round)).unwrap();
        }
        let (dump, hits) = (store.dump().unwrap(), texts(&store, notes));
        let held = store.snapshot(notes).unwrap();
        store.0.faults().refuse_once(Which::Changes, stop, ErrorKind::StorageFull);
        let sealed = seal(&store.0, notes, 1);
        let spent = store.0.faults().is_spent();
        store.0.faults().heal();
        assert_eq!((store.dump().unwrap(), texts(&store, notes)), (dump.clone(), hits), "request {stop}: {sealed:?}");
        sound(&store);
        assert_eq!(
            held.nearest(0, &[1.0, 0.0, 0.0], 100, None).unwrap().len(),
            9,
            "a snapshot does not keep it closed"
        );
        drop(held);
        if sealed.is_err() {
            seal(&store.0, notes, 1).unwrap();
            assert_eq!(store.snapshot(notes).unwrap().segments(), 1);
            assert_eq!((store.dump().unwrap(), texts(&store, notes)), (dump, hits));
        }
        sound(&store);
        drop(store);
        sound(&Store::open(folder.path()).unwrap());
        if !spent {
            assert!(stop > 3);
            return;
        }
    }
}

#[test]
fn readers_and_writers_of_many_threads_survive_a_failing_disk() {
    let (_, store, notes) = on_disk_in_memory();
    store.write(notes, batch(0)).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (store, done) = (&store, &done);
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(move || {
                    let mut read = 0;
                    while !done.load(std::sync::atomic::Ordering::SeqCst) {
                        if let Ok(snapshot) = store.snapshot(notes) {
                            let hits = snapshot.nearest(0, &[1.0, 0.0, 0.0], 1000, None).unwrap();
                            assert_eq!(hits.len() as u64, snapshot.chunks());
                            read += 1;
                        }
                    }
                    read
                })
            })
            .collect();
        let mut failures = 0;
        for round in 0..120 {
            if round % 3 == 0 {
                store.0.faults().refuse_once(Which::Changes, round as u64 % 11, ErrorKind::Other);
            }
            failures += u64::from(store.write(notes, batch(round)).is_err());
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(failures > 20, "{failures}");
        assert!(readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>() > 0);
    });
    store.0.faults().heal();
    sound(&store);
}
