//! Is a second writer turned away at once, and told who holds the database?

use std::path::Path;
use std::time::{Duration, Instant};

use quiverdb::{Blame, CollectionConfig, Database, Document, Error};

use crate::scenes::{child, folder, role};

const AT_ONCE: Duration = Duration::from_secs(1);

/// Opens what is open already and checks the refusal.
fn expect_refusal(path: &Path, holder: u32) {
    let start = Instant::now();
    let error = Database::open(path).err().expect("a second opening must be refused");
    assert!(start.elapsed() < AT_ONCE, "refused only after {:?}", start.elapsed());
    assert!(matches!(error, Error::Storage(quiverdb_storage::Error::Locked { .. })), "{error:?}");
    assert_eq!(error.blame(), Blame::World);
    let message = error.to_string();
    assert!(message.contains(&holder.to_string()), "the message does not name process {holder}: {message}");
}

#[test]
fn a_second_handle_of_the_same_process_is_refused() {
    let folder = folder();
    let path = folder.path().join("a.db");
    let db = Database::open(&path).unwrap();
    let notes = db.collection("notes").unwrap();
    for _ in 0..20 {
        expect_refusal(&path, std::process::id());
    }
    notes.add(Document::new("a", "The first handle is not harmed.")).unwrap();
    drop(db);
    // The collection's handle keeps the database open.
    expect_refusal(&path, std::process::id());
    drop(notes);
    assert_eq!(Database::open(&path).unwrap().collection("notes").unwrap().count().unwrap(), 1);
}

#[cfg(unix)]
#[test]
fn another_name_for_the_same_folder_is_refused_as_well() {
    let folder = folder();
    let path = folder.path().join("a.db");
    let _db = Database::open(&path).unwrap();
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    expect_refusal(&link, std::process::id());
    expect_refusal(
        &folder.path().join("./../").join(folder.path().file_name().unwrap()).join("a.db"),
        std::process::id(),
    );
}

#[test]
fn a_database_stays_the_same_one_when_the_process_changes_its_working_folder() {
    const NAME: &str = "lock::a_database_stays_the_same_one_when_the_process_changes_its_working_folder";
    if role().is_some() {
        let db = Database::open("a.db").unwrap();
        let points = db.collection_with("points", CollectionConfig::new().external(2)).unwrap();
        std::env::set_current_dir("elsewhere").unwrap();
        let point = |id: i64| Document::new(id, "").vector(vec![1.0, id as f32]);
        points.add_many((0..8_192).map(point)).unwrap();
        let stats = points.stats().unwrap();
        assert!(stats.segments == 1 && stats.bytes_on_disk > 0, "{stats:?}");
        return;
    }
    let folder = folder();
    let (here, elsewhere) = (folder.path().join("a.db"), folder.path().join("elsewhere").join("a.db"));
    // Where the first segment of the other database would be, another one has its own.
    let theirs = elsewhere.join("segments").join("1-0");
    std::fs::create_dir_all(&theirs).unwrap();
    std::fs::write(theirs.join("MANIFEST"), "a stranger's").unwrap();
    let output = child(NAME, "child", folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_to_string(theirs.join("MANIFEST")).unwrap(), "a stranger's");
    assert!(here.join("segments").join("1-0").join("MANIFEST").is_file());
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 1);
}

#[test]
fn a_second_process_is_refused() {
    if let Some(holder) = role() {
        expect_refusal(Path::new("a.db"), holder.parse().unwrap());
        return;
    }
    let folder = folder();
    let db = Database::open(folder.path().join("a.db")).unwrap();
    let holder = std::process::id().to_string();
    let second = || child("lock::a_second_process_is_refused", &holder, folder.path()).output().unwrap();
    let output = second();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let notes = db.collection("notes").unwrap();
    notes.add(Document::new("a", "The holder writes on.")).unwrap();
    drop((db, notes));
    assert!(!second().status.success(), "a database that nobody holds must open");
}

#[cfg(feature = "cli")]
#[test]
fn the_command_is_refused_and_names_the_holder() {
    let folder = folder();
    let path = folder.path().join("a.db");
    let db = Database::open(&path).unwrap();
    db.collection("default").unwrap().add(Document::new("a", "text")).unwrap();
    for verb in [&["search", "text"][..], &["stats"], &["get", "a"], &["delete", "a"], &["check"]] {
        let start = Instant::now();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_quiver"));
        let output = command.arg("--db").arg(&path).args(verb).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(start.elapsed() < AT_ONCE, "{verb:?}: refused only after {:?}", start.elapsed());
        assert_eq!(output.status.code(), Some(1), "{verb:?}: {errors}");
        assert!(errors.contains(&std::process::id().to_string()), "{verb:?}: {errors}");
        assert!(output.stdout.is_empty(), "{verb:?} printed {}", String::from_utf8_lossy(&output.stdout));
    }
    assert_eq!(db.collection("default").unwrap().count().unwrap(), 1);
}
