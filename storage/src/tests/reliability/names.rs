//! What if the power takes names of files that were not synced, while the database is made and first written to?
//!
//! A name is safe once its folder was synced while it was there. Of the others, each is there or not after a loss. What
//! was renamed and is not safe is there under its old name, its new one, or none.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{DIMS, State, batch, copy, sound, state, states};
use crate::testing::{Random, Trial, fast_folder, folder_was_synced, folders_synced, settings, with_power_cuts};
use crate::{Metric, Store};

const ROUNDS: usize = 3;

/// Makes images of what is left below a folder, and looks at them.
struct Loser {
    seed: u64,
    random: Random,
    root: PathBuf,
    database: PathBuf,
    safe: BTreeSet<PathBuf>,
    states: Vec<State>,
    acknowledged: Rc<Cell<Option<usize>>>,
    images: Rc<RefCell<Vec<bool>>>,
}

impl Loser {
    fn cut(&mut self, done: &'static str) {
        for (folder, entries) in folders_synced() {
            self.safe.retain(|path| path.parent() != Some(&folder) || entries.contains(path));
            self.safe.extend(entries);
        }
        if done == "disk" && self.random.below(6) > 0 {
            return;
        }
        let image = fast_folder();
        let what = format!("seed {}, image {}, after `{done}`", self.seed, self.images.borrow().len());
        self.leave(&self.root.clone(), image.path());
        let database = image.path().join(self.database.strip_prefix(&self.root).unwrap());
        let there = database.join("data.redb").exists();
        let store = Store::open(&database).expect(&what);
        match (self.acknowledged.get(), store.collection("notes").unwrap()) {
            (None, None) => {}
            (acknowledged, Some(notes)) => {
                let round = acknowledged.unwrap_or(0);
                let found = state(&store, notes.id);
                assert!(self.states.iter().skip(round).take(2).any(|state| *state == found), "{what}: {}", found.0);
            }
            (Some(round), None) => panic!("{what}: {round} rounds were acknowledged, and the database is gone"),
        }
        sound(&store);
        drop(folders_synced());
        self.images.borrow_mut().push(there);
    }

    fn leave(&mut self, from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap();
            let safe = self.safe.contains(&path);
            if !safe && self.random.below(2) == 0 {
                if name == "data.redb" && self.random.below(2) == 0 {
                    fs::copy(&path, to.join("data.redb.new")).unwrap();
                }
                continue;
            }
            let target = to.join(name);
            if path.is_dir() {
                fs::create_dir(&target).unwrap();
                self.leave(&path, &target);
            } else {
                let mut bytes = fs::read(&path).unwrap();
                if name == "data.redb.new" {
                    // Nobody says that it was synced as yet.
                    bytes.truncate(self.random.below(bytes.len() as u64 + 1) as usize);
                }
                fs::write(target, bytes).unwrap();
            }
        }
    }
}

/// Makes a database in new folders and writes to it, with losses all the way; or goes on where another one died.
fn run(seed: u64) -> Vec<bool> {
    let folder = fast_folder();
    let database = folder.path().join("new").join("below").join("notes.db");
    let acknowledged = Rc::new(Cell::new(None));
    let images = Rc::new(RefCell::new(Vec::new()));
    drop(folders_synced());
    let mut loser = Loser {
        seed,
        random: Random::new(seed),
        root: folder.path().to_owned(),
        database: database.clone(),
        safe: BTreeSet::new(),
        states: states(seed, ROUNDS),
        acknowledged: Rc::clone(&acknowledged),
        images: Rc::clone(&images),
    };
    if seed % 3 == 2 {
        leave_by_a_process_that_died(folder.path(), &database);
    }
    with_power_cuts(
        move |done| loser.cut(done),
        || {
            let store = Store::open(&database).unwrap();
            let notes = store.create_collection("notes", &settings(DIMS, Metric::Cosine)).unwrap().id;
            acknowledged.set(Some(0));
            for round in 0..ROUNDS {
                store.write(notes, batch(seed, round)).unwrap();
                acknowledged.set(Some(round + 1));
            }
        },
    );
    images.take()
}

/// It had made the file and given it its name, and was killed before it synced anything but the folders above.
fn leave_by_a_process_that_died(root: &Path, database: &Path) {
    let other = fast_folder();
    drop(Store::open(other.path()).unwrap());
    drop(folders_synced());
    fs::create_dir_all(database.parent().unwrap()).unwrap();
    folder_was_synced(root);
    folder_was_synced(&root.join("new"));
    copy(other.path(), database);
    fs::write(database.join("LOCK"), "1\n").unwrap();
}

#[test]
fn no_name_that_is_needed_is_lost() {
    let mut trial = Trial::new("losses of names", 107, 1_000);
    while let Some(seed) = trial.next() {
        for there in run(seed) {
            trial.count(if there { "with the file" } else { "without it" }, 1);
        }
    }
    assert!(trial.counted("with the file") > 0 && trial.counted("without it") > 0);
}

#[test]
fn every_folder_that_was_made_is_on_disk_under_its_name() {
    let folder = fast_folder();
    let database = folder.path().join("a").join("b").join("c");
    drop(folders_synced());
    drop(Store::open(&database).unwrap());
    let safe: BTreeSet<PathBuf> = folders_synced().into_iter().flat_map(|(_, entries)| entries).collect();
    for made in ["a", "a/b", "a/b/c", "a/b/c/data.redb"] {
        assert!(safe.contains(&folder.path().join(made)), "{made}");
    }
}
