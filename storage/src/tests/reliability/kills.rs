//! What if the process is killed while it opens, writes, seals, merges or compacts, and killed again while it recovers?
//!
//! A child works on files and says after each step that it returned. At a moment of its work that it was told (a request to
//! the file, or a step of building a segment) it stops and says so, and the parent sends `SIGKILL`. Further children are
//! killed while they open what that left. Then the parent opens it: it must hold what was acknowledged, or the step under
//! way as well, and answer as a database in memory does. The next child goes on from there.

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::rc::Rc;

use super::{DIMS, State, batch, child, hear, role, say, sound, state, states};
use crate::seal::{merge, seal};
use crate::testing::{Random, Trial, fast_folder, settings, with_power_cuts};
use crate::{Alongside, CollectionId, LedgerEdit, Metric, Store};

const BATCHES: usize = 8;
/// At most so many children die before the parent looks.
const DEEP: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Write,
    Seal,
    Merge,
    Compact,
}

use Phase::{Compact, Merge, Open, Seal, Write};

impl Phase {
    const ALL: [Self; 5] = [Open, Write, Seal, Merge, Compact];

    /// How many moments it has or more, so that most of the chosen ones come.
    fn moments(self) -> u64 {
        match self {
            Open => 8,
            Write => 60,
            Seal | Merge => 30,
            Compact => 90,
        }
    }

    fn killed(self) -> &'static str {
        match self {
            Open => "kills while opening",
            Write => "while writing",
            Seal => "while sealing",
            Merge => "while merging",
            Compact => "while compacting",
        }
    }
}

/// The steps of a history; writes among them are numbered.
const STEPS: [Phase; 14] =
    [Write, Write, Seal, Write, Seal, Write, Merge, Write, Compact, Write, Seal, Write, Compact, Write];

fn batches_before(step: usize) -> usize {
    STEPS[..step].iter().filter(|phase| **phase == Write).count()
}

fn take(store: &Store, notes: CollectionId, seed: u64, step: usize) {
    match STEPS[step] {
        Open => {}
        Write => {
            let batches = batches_before(step);
            let position = LedgerEdit::put("batches", (batches as u64 + 1).to_le_bytes());
            store.write_with(notes, batch(seed, batches), Alongside::ledger([position])).unwrap();
        }
        Seal => drop(seal(&store.0, notes, 1).unwrap()),
        Merge => merge(&store.0, notes).unwrap(),
        Compact => drop(store.compact().unwrap()),
    }
}

fn notes_of(store: &Store) -> CollectionId {
    let found = store.collection("notes").unwrap();
    found.unwrap_or_else(|| store.create_collection("notes", &settings(DIMS, Metric::Cosine)).unwrap()).id
}

/// Works from a step on until it is killed or done.
fn work(folder: &Path, seed: u64, from: usize, stop: Option<(Phase, u64)>) {
    let phase = Rc::new(Cell::new(Open));
    let (now, mut passed) = (Rc::clone(&phase), 0);
    let cut = move |_| {
        let Some((phase, moment)) = stop.filter(|stop| stop.0 == now.get()) else { return };
        if passed == moment {
            say(&format!("stopped {phase:?}"));
            loop {
                std::thread::park();
            }
        }
        passed += 1;
    };
    with_power_cuts(cut, || {
        let store = Store::open(folder).unwrap();
        phase.set(Write);
        let notes = notes_of(&store);
        for (step, kind) in STEPS.into_iter().enumerate().skip(from) {
            phase.set(kind);
            take(&store, notes, seed, step);
            if role().is_some() {
                say(&format!("did {step}"));
            }
        }
    });
}

#[test]
fn a_history_on_disk_ends_as_one_in_memory() {
    if let Some(role) = role() {
        let numbers: Vec<u64> = role.split(' ').map(|number| number.parse().unwrap()).collect();
        let stop = (Phase::ALL[numbers[2] as usize], numbers[3]);
        return work(Path::new("."), numbers[0], numbers[1] as usize, Some(stop));
    }
    let (seed, folder) = (3, fast_folder());
    work(folder.path(), seed, 0, None);
    let store = Store::open(folder.path()).unwrap();
    assert!(state(&store, notes_of(&store)) == states(seed, BATCHES)[BATCHES]);
    assert_eq!(batches_before(STEPS.len()), BATCHES);
}

/// Lets a child work until it stops at a moment, and kills it. Returns the phase it was killed in, if it came to that, and
/// the steps that were acknowledged since.
fn kill(folder: &Path, seed: u64, from: usize, phase: Phase, moment: u64) -> (Option<Phase>, usize) {
    let index = Phase::ALL.iter().position(|other| *other == phase).unwrap();
    let role = format!("{seed} {from} {index} {moment}");
    let mut child = child("kills::a_history_on_disk_ends_as_one_in_memory", &role, folder).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut done, mut killed) = (from, None);
    while let Some(line) = hear(&mut lines) {
        match line.split_once(' ') {
            Some(("did", step)) => done = step.parse::<usize>().unwrap() + 1,
            _ => {
                killed = Some(phase);
                child.kill().unwrap();
            }
        }
    }
    let ended = child.wait().unwrap();
    assert!(killed.is_some() || ended.success(), "seed {seed}, {role}: the child failed");
    (killed, done)
}

/// Opens what is left after so many steps were acknowledged and looks at all of it; returns how many steps there were.
fn look(folder: &Path, done: usize, states: &[State], what: &str) -> usize {
    let store = Store::open(folder).expect(what);
    let notes = notes_of(&store);
    let found = state(&store, notes);
    let after = |step: usize| states[batches_before(step)] == found;
    assert!(after(done) || (done < STEPS.len() && after(done + 1)), "{what}: {done} steps acknowledged, {}", found.0);
    assert_eq!(store.check().unwrap(), Vec::<String>::new(), "{what}");
    sound(&store);
    let position =
        store.ledger(notes, b"batches").unwrap().map_or(0, |told| u64::from_le_bytes(told.try_into().unwrap()));
    let batches = batches_before(done + usize::from(!after(done)));
    assert_eq!(position, batches as u64, "{what}: the ledger is of the commit of the documents");
    done + usize::from(!after(done))
}

/// One history, killed again and again until it ends.
fn run(seed: u64, trial: &mut Trial) {
    let (folder, states) = (fast_folder(), states(seed, BATCHES));
    let (mut random, mut done) = (Random::new(seed), 0);
    let mut what = format!("seed {seed}");
    while done < STEPS.len() {
        for deep in 0..1 + random.below(DEEP as u64) {
            // What died first is recovered by the next one, which dies of that.
            let wanted = if deep == 0 { Phase::ALL[random.below(5) as usize] } else { Open };
            let moment = random.below(wanted.moments());
            what += &format!("; from {done}: {wanted:?} {moment}");
            let (killed, after) = kill(folder.path(), seed, done, wanted, moment);
            done = after;
            let Some(phase) = killed else { break };
            trial.count(phase.killed(), 1);
            if deep > 0 {
                trial.count("kills while recovering from a kill", 1);
            }
            if deep == DEEP as u64 - 1 {
                trial.count("chains of three kills", 1);
            }
        }
        done = look(folder.path(), done, &states, &what);
    }
}

#[test]
fn wherever_it_is_killed_and_killed_again_all_that_was_acknowledged_is_there_and_found() {
    let mut trial = Trial::new("kills at chosen moments", 127, 2_000);
    while let Some(seed) = trial.next() {
        run(seed, &mut trial);
    }
}
