//! A write is acknowledged only where the files are that were opened.

use std::fs;
use std::path::Path;

use super::{on_disk, sound};
use crate::testing::{Random, put, random_document, settings, with_power_cuts};
use crate::{CollectionId, Error, Metric, Store};

const DIMS: usize = 4;

fn write(store: &Store, notes: CollectionId, id: i64) -> crate::Result<()> {
    store.write(notes, vec![put(random_document(&mut Random::new(id as u64), id, DIMS))]).map(drop)
}

fn refuses(store: &Store, notes: CollectionId, why: &str) {
    let refused = [
        write(store, notes, 7),
        store.drop_collection("notes"),
        store.rename_collection("notes", "others"),
        store.create_collection("more", &settings(DIMS, Metric::Dot)).map(drop),
        store.compact().map(drop),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(Error::Gone { .. })), "{why}: {refused:?}");
    }
    assert_eq!(store.snapshot(notes).unwrap().ids().unwrap().len(), 1, "{why}: reads go on");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in ["data.redb", "LOCK"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[test]
fn the_reserve_of_another_database_in_its_place_is_not_touched() {
    let temporary = tempfile::tempdir().unwrap();
    let (here, there) = (temporary.path().join("a.db"), temporary.path().join("b.db"));
    let (store, notes) = on_disk(&here, DIMS);
    write(&store, notes, 1).unwrap();
    fs::rename(&here, &there).unwrap();
    copy(&there, &here);
    let reserve = here.join("RESERVE");
    fs::write(&reserve, "a stranger's").unwrap();
    store.0.space.pretend(Some(0));
    let refused = [
        store.write(notes, vec![crate::Operation::Delete(1.into())]).map(drop),
        write(&store, notes, 2),
        store.drop_collection("notes"),
        store.compact().map(drop),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(Error::Gone { .. })), "{refused:?}");
        assert_eq!(fs::read_to_string(&reserve).unwrap(), "a stranger's");
    }
}

#[test]
fn what_a_build_made_is_not_removed_where_another_database_is_now() {
    let temporary = tempfile::tempdir().unwrap();
    let (here, there) = (temporary.path().join("a.db"), temporary.path().join("b.db"));
    let (store, notes) = on_disk(&here, DIMS);
    write(&store, notes, 1).unwrap();
    let theirs = here.join("segments").join(format!("{}-0", notes.0));
    let (from, to, segment) = (here.clone(), there.clone(), theirs.clone());
    let replace = move |done| {
        if done == "files written" {
            fs::rename(&from, &to).unwrap();
            copy(&to, &from);
            fs::create_dir_all(&segment).unwrap();
            fs::write(segment.join("MANIFEST"), "a stranger's").unwrap();
        }
    };
    let built = with_power_cuts(replace, || crate::seal::seal(&store.0, notes, 1));
    assert!(built.is_err(), "{built:?}");
    assert_eq!(fs::read_to_string(theirs.join("MANIFEST")).unwrap(), "a stranger's");
}

#[test]
fn nothing_is_written_into_files_that_were_moved_replaced_or_deleted() {
    let temporary = tempfile::tempdir().unwrap();
    let (here, there) = (temporary.path().join("a.db"), temporary.path().join("b.db"));
    let (store, notes) = on_disk(&here, DIMS);
    write(&store, notes, 1).unwrap();
    fs::rename(&here, &there).unwrap();
    refuses(&store, notes, "moved");
    copy(&there, &here);
    refuses(&store, notes, "a copy in its place");
    fs::remove_dir_all(&here).unwrap();
    fs::rename(&there, &here).unwrap();
    for name in ["data.redb", "LOCK"] {
        fs::rename(here.join(name), &there).unwrap();
        refuses(&store, notes, name);
        fs::copy(&there, here.join(name)).unwrap();
        refuses(&store, notes, name);
        fs::rename(&there, here.join(name)).unwrap();
    }
    write(&store, notes, 2).unwrap();
    assert_eq!(store.snapshot(notes).unwrap().documents(), 2, "all is back in its place");
    sound(&store);
    fs::rename(&here, &there).unwrap();
    drop(store);
    let store = Store::open(&there).unwrap();
    write(&store, notes, 3).unwrap();
    sound(&store);
    fs::remove_dir_all(&there).unwrap();
    let error = write(&store, notes, 4).unwrap_err();
    assert!(matches!(&error, Error::Gone { .. }) && error.to_string().contains("b.db"), "{error:?}");
}
