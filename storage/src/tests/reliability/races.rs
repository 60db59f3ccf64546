//! What if several processes open one database at once, or its holder hangs?
//!
//! Three children wait for a word, and open. One of them gets the database, writes and closes or is killed; the others are
//! told at once who has it.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

use super::super::sound;
use super::{child, hear, role, say};
use crate::testing::{Random, Trial, fast_folder, put, random_document, settings};
use crate::{Error, Metric, Store};

const RACERS: usize = 3;
const DIMS: usize = 2;
/// To be refused must not take longer. One of a few tries has to be that fast: on a busy machine any process may wait.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Opens whenever it is told to, and says how that went: `won`, or `lost` with the microseconds and the message.
fn race() {
    let mut words = std::io::stdin().lines();
    say("ready");
    while let Some(Ok(_)) = words.next() {
        let start = Instant::now();
        match Store::open(Path::new("race.db")) {
            Ok(store) => {
                say("won");
                let Some(Ok(id)) = words.next() else { return };
                let notes = store.collection("notes").unwrap().unwrap().id;
                let id: i64 = id.parse().unwrap();
                store.write(notes, vec![put(random_document(&mut Random::new(id as u64), id, DIMS))]).unwrap();
                say("wrote");
                words.next();
                drop(store);
                say("closed");
            }
            Err(error @ Error::Locked { .. }) => say(&format!("lost {} {error}", start.elapsed().as_micros())),
            Err(other) => panic!("{other:?}"),
        }
    }
}

struct Racer {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Racer {
    fn new(folder: &Path) -> Self {
        let mut child = child("races::one_of_many_openers_wins", "race", folder).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut racer = Self { child, input, lines: BufReader::new(output).lines() };
        assert_eq!(racer.hear(), "ready");
        racer
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.input, "{word}").unwrap();
    }

    fn hear(&mut self) -> String {
        hear(&mut self.lines).expect("the child lives")
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All open at once. Returns who won; the others were refused.
fn start(racers: &mut [Racer], what: &str) -> usize {
    racers.iter_mut().for_each(|racer| racer.tell("go"));
    let told: Vec<String> = racers.iter_mut().map(Racer::hear).collect();
    let winners: Vec<usize> = (0..racers.len()).filter(|racer| told[*racer] == "won").collect();
    assert!(winners.len() == 1, "{what}: {told:?}");
    winners[0]
}

/// Who opens while the holder is there is refused at once and learns who it is.
fn expect_refusal(racer: &mut Racer, holder: u32, what: &str) {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        racer.tell("go");
        let told = racer.hear();
        let (micros, message) = told.strip_prefix("lost ").and_then(|rest| rest.split_once(' ')).expect(what);
        assert!(message.contains(&format!("process {holder};")), "{what}: {message}");
        best = best.min(Duration::from_micros(micros.parse().unwrap()));
        if best < AT_ONCE {
            return;
        }
    }
    panic!("{what}: refused only after {best:?}");
}

fn signal(child: &Child, signal: &str) {
    let done = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(done.success());
}

/// One race; returns how the winner ended.
fn run(seed: u64, racers: &mut [Racer], folder: &Path) -> &'static str {
    let what = format!("seed {seed}");
    let mut random = Random::new(seed);
    let winner = start(racers, &what);
    let holder = racers[winner].child.id();
    racers[winner].tell(&seed.to_string());
    assert_eq!(racers[winner].hear(), "wrote", "{what}");
    let end = random.below(8);
    if end == 0 {
        signal(&racers[winner].child, "-STOP");
    }
    expect_refusal(&mut racers[(winner + 1) % RACERS], holder, &what);
    if end > 1 {
        racers[winner].tell("close");
        assert_eq!(racers[winner].hear(), "closed", "{what}");
        return "closed";
    }
    // The kill also ends one that was stopped.
    racers[winner] = Racer::new(folder);
    if end == 0 { "stopped and killed" } else { "killed" }
}

#[test]
fn one_of_many_openers_wins() {
    if role().is_some() {
        return race();
    }
    let mut trial = Trial::new("races of processes to open", 131, 1_000);
    let folder = fast_folder();
    let database = folder.path().join("race.db");
    drop(Store::open(&database).unwrap().create_collection("notes", &settings(DIMS, Metric::Dot)).unwrap());
    let mut racers: Vec<Racer> = (0..RACERS).map(|_| Racer::new(folder.path())).collect();
    let mut written = 0;
    while let Some(seed) = trial.next() {
        let end = run(seed, &mut racers, folder.path());
        trial.count(end, 1);
        written += 1;
    }
    drop(racers);
    let store = Store::open(&database).unwrap();
    let notes = store.collection("notes").unwrap().unwrap().id;
    assert_eq!(store.snapshot(notes).unwrap().documents(), written);
    sound(&store);
}
