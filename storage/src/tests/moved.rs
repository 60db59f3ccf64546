//! A write is acknowledged only where the files are that were opened.

use std::fs;
use std::path::Path;

use super::{on_disk, sound};
use crate::testing::{Random, put, random_document, settings};
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
