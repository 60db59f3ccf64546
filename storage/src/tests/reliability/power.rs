//! The power goes at any moment of writing, sealing and merging.
//!
//! The file is on a simulated disk, the segments in a real folder. At a moment (a change of the disk, or a step of
//! building a segment) an image is made of what a loss of power could leave: of what redb wrote since its last sync, all,
//! nothing or parts; of a segment that is not finished, files that are whole, cut, emptied or missing; of one that was
//! renamed and not synced, either name; of one that was removed, perhaps remains. The image is opened, checked, and
//! compared with what the same writes do to a database without any segment.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{Answers, DIMS, answers, batch, sound, states};
use crate::seal::seal;
use crate::testing::{Budget, Disk, Power, Random, Trial, fast_folder, settings, with_power_cuts};
use crate::{CollectionId, Metric, Store};

const ROUNDS: usize = 8;

/// Makes images and looks at them.
struct Cutter {
    seed: u64,
    random: Random,
    disk: Disk,
    folder: PathBuf,
    notes: CollectionId,
    states: Vec<(String, Answers)>,
    /// Rounds that returned.
    acknowledged: Rc<Cell<usize>>,
    images: Rc<Cell<u64>>,
    /// Names of segments that are on disk with their names.
    safe: BTreeSet<String>,
}

impl Cutter {
    fn cut(&mut self, done: &'static str) {
        if done == "folder synced" {
            self.safe = names(&self.folder).into_iter().filter(|name| !name.ends_with(".new")).collect();
        }
        // Some of them, so that a history of all kinds of moments fits into the time.
        if self.random.below(if done == "disk" { 16 } else { 4 }) > 0 {
            return;
        }
        let power = [Power::Nothing, Power::All, Power::SomeWrites, Power::SomeSectors][self.random.below(4) as usize];
        let image = fast_folder();
        self.leave_segments(image.path());
        let disk = self.disk.after_loss(power, &mut self.random);
        let what = format!("seed {}, image {}, after `{done}`, {power:?}", self.seed, self.images.get());
        let store = Store::on_backend(disk, Some(image.path())).expect(&what);
        let dump = store.dump().expect(&what);
        let round = self.acknowledged.get();
        let found = self.states.iter().skip(round).take(2).find(|(state, _)| *state == dump);
        let (_, expected) = found.unwrap_or_else(|| panic!("{what}: {round} rounds were acknowledged\n{dump}"));
        assert_eq!(store.check().unwrap(), Vec::<String>::new(), "{what}");
        assert!(answers(&store, self.notes) == *expected, "{what}");
        if self.random.below(12) == 0 {
            seal(&store.0, self.notes, 1).expect(&what);
            assert!(answers(&store, self.notes) == *expected, "{what}, sealed");
            assert_eq!(store.check().unwrap(), Vec::<String>::new(), "{what}, sealed");
        }
        self.images.set(self.images.get() + 1);
    }

    /// Copies the segments as a loss of power could leave them.
    fn leave_segments(&mut self, image: &Path) {
        let target = image.join("segments");
        fs::create_dir(&target).unwrap();
        let there = names(&self.folder);
        for name in &there {
            let from = self.folder.join("segments").join(name);
            if self.safe.contains(name) {
                copy(&from, &target.join(name), |_| true);
            } else if name.ends_with(".new") {
                let random = &mut self.random;
                copy(&from, &target.join(name), |file| leave_part(file, random));
            } else {
                let back = if self.random.below(2) == 0 { format!("{name}.new") } else { name.clone() };
                copy(&from, &target.join(back), |_| true);
            }
        }
        for name in self.safe.iter().filter(|name| !there.contains(name)) {
            if self.random.below(4) == 0 {
                fs::create_dir(target.join(name)).unwrap();
                fs::write(target.join(name).join("chunks"), "what was not removed").unwrap();
            }
        }
    }
}

/// Leaves of a file what a loss of power could; returns whether it is there.
fn leave_part(file: &mut Vec<u8>, random: &mut Random) -> bool {
    let cut = random.below(file.len() as u64 + 1) as usize;
    match random.below(4) {
        0 => return false,
        1 => file.truncate(cut),
        2 => file[cut..].fill(0),
        _ => {}
    }
    true
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder.join("segments")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn copy(from: &Path, to: &Path, mut leave: impl FnMut(&mut Vec<u8>) -> bool) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let mut bytes = fs::read(entry.path()).unwrap();
        if leave(&mut bytes) {
            fs::write(to.join(entry.file_name()), bytes).unwrap();
        }
    }
}

/// One history with cuts all the way; returns how many, and whether segments were merged.
fn run(seed: u64, budget: Budget) -> (u64, bool) {
    let folder = fast_folder();
    let disk = Disk::default();
    let store = Store::on_backend(disk.clone(), Some(folder.path())).unwrap();
    let notes = store.create_collection("notes", &settings(DIMS, Metric::Cosine)).unwrap().id;
    let (acknowledged, images) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let mut cutter = Cutter {
        seed,
        random: Random::new(seed),
        disk,
        folder: folder.path().to_owned(),
        notes,
        states: states(seed, ROUNDS),
        acknowledged: Rc::clone(&acknowledged),
        images: Rc::clone(&images),
        safe: BTreeSet::new(),
    };
    let cut = move |done| {
        if budget.is_left() {
            cutter.cut(done);
        }
    };
    let mut merged = false;
    with_power_cuts(cut, || {
        let mut sealed = 0;
        for round in 0..ROUNDS {
            store.write(notes, batch(seed, round)).unwrap();
            acknowledged.set(round + 1);
            sealed += u64::from(seal(&store.0, notes, 8 + seed % 8).unwrap());
        }
        merged = store.snapshot(notes).unwrap().segments() < sealed;
    });
    sound(&store);
    (images.get(), merged)
}

#[test]
fn whenever_the_power_goes_all_that_was_acknowledged_is_there_and_found() {
    let mut trial = Trial::new("losses of power", 89, 3_000);
    while let Some(seed) = trial.next() {
        let (images, merged) = run(seed, trial.budget);
        trial.count("losses of power", images);
        trial.count("histories that merge segments", u64::from(merged));
    }
    assert!(trial.counted("losses of power") > 0);
    assert!(trial.counted("histories that merge segments") > 0);
}
