//! What if the disk lies about what is safe, or the file was copied while it was written?
//!
//! redb promises nothing then. What we promise: what comes out is an error, or `check` finds it, or it is the whole of
//! some commit, an older one perhaps. Never a wrong answer that nothing tells of.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Answers, DIMS, State, batch, states, try_answers};
use crate::guard::damage_as_error;
use crate::testing::{Budget, Disk, Power, Random, Trial, quietly, settings, with_power_cuts};
use crate::{CollectionId, Error, Metric, Result, Store};

const ROUNDS: usize = 8;

/// What an image comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// It does not open, and says why.
    Refused,
    /// It opens, what is read says that it is damaged, and so does the check.
    Told,
    /// It opens, what was read is of no commit and did not say so; the check finds it.
    FoundByCheckAlone,
    /// It is some commit.
    Whole,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Told => "told as damaged",
            Self::FoundByCheckAlone => "found by `check` alone",
            Self::Whole => "whole",
        }
    }
}

/// All that is read of it.
fn read(store: &Store, notes: CollectionId) -> Result<(String, Answers)> {
    Ok((store.dump()?, try_answers(store, notes)?))
}

fn judge(image: Disk, notes: CollectionId, known: &[State], what: &str) -> Verdict {
    let store = match quietly(|| damage_as_error("data.redb", || Store::on_backend(image, None))) {
        Ok(store) => store,
        Err(Error::Corrupt { .. } | Error::Engine(_) | Error::Io { .. }) => return Verdict::Refused,
        Err(other) => panic!("{what}: {other:?}"),
    };
    let found = quietly(|| read(&store, notes));
    let whole = found.as_ref().is_ok_and(|found| known.contains(found));
    let silent = quietly(|| store.check()).is_ok_and(|violations| violations.is_empty());
    let empty = quietly(|| store.collections()).is_ok_and(|all| all.is_empty());
    quietly(|| drop(store));
    match (whole, silent, found) {
        (true, _, _) => Verdict::Whole,
        (false, false, Err(_)) => Verdict::Told,
        (false, false, Ok(_)) => Verdict::FoundByCheckAlone,
        // A file older than its first collection is an older commit, too.
        (false, true, _) if empty => Verdict::Whole,
        (false, true, found) => panic!("{what}: wrong, and nothing tells of it: {found:?}"),
    }
}

/// A history on a disk that lies, with losses of power all the way.
fn run(seed: u64, budget: Budget) -> Vec<Verdict> {
    let known = states(seed, ROUNDS);
    let disk = Disk::default();
    let quick = seed.is_multiple_of(2);
    let store = Store::on_backend_tuned(disk.clone(), None, if quick { 0 } else { u64::MAX }).unwrap();
    let notes = store.create_collection("notes", &settings(DIMS, Metric::Cosine)).unwrap().id;
    disk.lie(1 + (seed / 2 % 3) as usize);
    let verdicts = Rc::new(RefCell::new(Vec::new()));
    let (mut random, found) = (Random::new(seed), Rc::clone(&verdicts));
    let cut = move |_| {
        if random.below(6) > 0 || !budget.is_left() {
            return;
        }
        let power = [Power::Nothing, Power::SomeWrites, Power::SomeSectors][random.below(3) as usize];
        let image = disk.after_loss(power, &mut random);
        let number = found.borrow().len();
        let what = format!("seed {seed}, image {number}, {power:?}, quick repair: {quick}");
        found.borrow_mut().push(judge(image, notes, &known, &what));
    };
    with_power_cuts(cut, || {
        for round in 0..ROUNDS {
            store.write(notes, batch(seed, round)).unwrap();
        }
    });
    verdicts.take()
}

#[test]
fn a_disk_that_lies_about_syncs_never_makes_a_wrong_answer_that_nothing_tells_of() {
    let mut trial = Trial::new("a disk that lies about syncs", 101, 1_500);
    while let Some(seed) = trial.next() {
        for verdict in run(seed, trial.budget) {
            trial.count(verdict.name(), 1);
        }
    }
    assert!(trial.counted(Verdict::Refused.name()) > 0, "the disk did no harm: this tests nothing");
}

/// redb's own closing met damaged pages, and its panic came through the drop of the store.
#[test]
fn a_file_that_is_damaged_can_be_closed() {
    assert!(run(138, Budget::ample()).contains(&Verdict::Told));
}

/// The file as a copy finds it that reads on while commits go by: each part is of another moment than the one before.
fn copied_while_written(seed: u64) -> (Disk, CollectionId, Vec<State>) {
    const PART: usize = 4096;
    let mut random = Random::new(seed);
    let disk = Disk::default();
    let store = Store::on_backend(disk.clone(), None).unwrap();
    let notes = store.create_collection("notes", &settings(DIMS, Metric::Cosine)).unwrap().id;
    let mut moments = vec![disk.bytes()];
    for round in 0..ROUNDS {
        store.write(notes, batch(seed, round)).unwrap();
        moments.push(disk.bytes());
    }
    let mut copy = Vec::new();
    let mut moment = random.below(4) as usize;
    // Mostly it goes on from commit to commit slowly; some copies jump back, as one that reads in parts does.
    let pace = 1 + random.below(40);
    while let Some(part) = moments[moment].get(copy.len()..) {
        if part.is_empty() {
            break;
        }
        copy.extend_from_slice(&part[..part.len().min(PART)]);
        if random.below(pace) == 0 {
            moment = (moment + 1).min(ROUNDS);
        }
    }
    (Disk::holding(copy), notes, states(seed, ROUNDS))
}

#[test]
fn a_copy_made_while_the_file_was_written_never_makes_a_wrong_answer_that_nothing_tells_of() {
    let mut trial = Trial::new("copies of a file being written", 103, 1_000);
    while let Some(seed) = trial.next() {
        let (image, notes, known) = copied_while_written(seed);
        trial.count(judge(image, notes, &known, &format!("seed {seed}")).name(), 1);
    }
}
