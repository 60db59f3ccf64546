//! Does what was acknowledged survive `kill -9`?
//!
//! A child process writes and says after each write that it returned; the parent kills it at a random moment, opens
//! the database, and compares it with what the same writes do to a map. Write `n` follows from the seed and `n`
//! alone, so the parent knows them all: the database must hold exactly those acknowledged, or one more, which was
//! under way. The next round goes on from there; every tenth starts with an empty folder, so that creation is hit too.
//!
//! `QUIVER_KILL_ROUNDS` sets the number of rounds, `QUIVER_KILL_SEED` the seed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use quiverdb::{AddOptions, AddReport, Collection, Database, Document, Mode, Query};

use crate::scenes::{Chance, child, folder, long_text, role};

const IDS: u64 = 24;
const ROUNDS: u64 = 20;
const ROUNDS_PER_FOLDER: u64 = 10;
/// A child that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the database should hold: id -> the number of the write that last wrote it.
type Shelf = BTreeMap<i64, u64>;

/// One write.
enum Change {
    Put(Vec<i64>),
    Delete(i64),
}

fn write_of(seed: u64, number: u64) -> Change {
    let mut chance = Chance::of(seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let first = chance.below(IDS) as i64;
    match chance.below(10) {
        0..=4 => Change::Put(vec![first]),
        5..=7 => Change::Put((first..first + 2 + chance.below(5) as i64).collect()),
        _ => Change::Delete(first),
    }
}

/// The one word that only this version of this document holds.
fn word_of(id: i64, version: u64) -> String {
    format!("token{version}of{id}")
}

fn document_of(id: i64, version: u64) -> Document {
    let paragraphs = 1 + (version as usize * 7 + id as usize) % 6;
    Document::new(id, long_text(&word_of(id, version), paragraphs))
}

fn write(notes: &Collection, seed: u64, number: u64) {
    match write_of(seed, number) {
        Change::Put(ids) if ids.len() == 1 => drop(notes.add(document_of(ids[0], number)).unwrap()),
        Change::Put(ids) => drop(notes.add_many(ids.into_iter().map(|id| document_of(id, number))).unwrap()),
        Change::Delete(id) => drop(notes.delete(id).unwrap()),
    }
}

fn shelf_after(seed: u64, writes: u64) -> Shelf {
    let mut shelf = Shelf::new();
    for number in 0..writes {
        match write_of(seed, number) {
            Change::Put(ids) => shelf.extend(ids.into_iter().map(|id| (id, number))),
            Change::Delete(id) => drop(shelf.remove(&id)),
        }
    }
    shelf
}

/// The collection as a shelf: the version of each document, which must be whole.
fn shelf_of(notes: &Collection) -> Shelf {
    let version = |document: Document| {
        let id: i64 = document.id.to_string().parse().unwrap();
        let word = document.text.split("token").nth(1).and_then(|rest| rest.split("of").next());
        let version = word.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{id}: {}", document.text));
        assert_eq!(document, document_of(id, version), "document {id} is half there");
        (id, version)
    };
    notes.scan().unwrap().map(|document| version(document.unwrap())).collect()
}

/// Every chunk of every document is found by both legs, and the chunks cover the text.
fn expect_findable(notes: &Collection, shelf: &Shelf) {
    let hits = notes.search(Query::text("paragraph").mode(Mode::Dense).limit(10_000));
    let mut ends: BTreeMap<i64, usize> = BTreeMap::new();
    let mut hits = if shelf.is_empty() { Vec::new() } else { hits.unwrap().hits };
    hits.sort_by(|a, b| (&a.document, a.chunk).cmp(&(&b.document, b.chunk)));
    for hit in hits {
        let id: i64 = hit.document.to_string().parse().unwrap();
        let text = document_of(id, *shelf.get(&id).expect("a hit's document is on the shelf")).text;
        let end = ends.entry(id).or_default();
        assert_eq!(text[hit.start..hit.end], hit.text);
        assert!(text[*end..hit.start.max(*end)].trim().is_empty(), "document {id} has a gap before {}", hit.start);
        *end = hit.end;
    }
    for (id, version) in shelf {
        let text = document_of(*id, *version).text;
        let end = ends.get(id).copied().unwrap_or(0);
        assert!(text[end..].trim().is_empty(), "document {id} is not found beyond byte {end}");
        let words = notes.search(Query::text(word_of(*id, *version)).mode(Mode::Text)).unwrap().hits;
        assert!(!words.is_empty(), "document {id} is not found by its word");
        assert!(words.iter().all(|hit| hit.document == (*id).into()));
    }
}

/// Writes and acknowledges, for ever where it is a child, else a few times.
#[test]
fn a_writer_acknowledges_what_is_written() {
    let Some(role) = role() else {
        let (seed, writes) = (7, 30);
        let db = Database::in_memory().unwrap();
        let notes = db.collection("notes").unwrap();
        (0..writes).for_each(|number| write(&notes, seed, number));
        let shelf = shelf_of(&notes);
        assert_eq!(shelf, shelf_after(seed, writes));
        expect_findable(&notes, &shelf);
        return;
    };
    let (seed, first) = role.split_once(' ').unwrap();
    let (seed, first): (u64, u64) = (seed.parse().unwrap(), first.parse().unwrap());
    let notes = Database::open("kill.db").unwrap().collection("notes").unwrap();
    for number in first.. {
        write(&notes, seed, number);
        acknowledge(number);
    }
}

/// Says that a write returned. The harness leaves its line open, so an acknowledgement brings its own beginning.
pub(crate) fn acknowledge(number: u64) {
    let mut out = std::io::stdout();
    out.write_all(format!("\nack {number}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn acknowledgements(child: &mut Child) -> Receiver<u64> {
    let (sender, receiver) = channel();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            // A line cut by the kill says nothing.
            let number = line.strip_prefix("ack ").and_then(|rest| rest.strip_suffix('\n'));
            if let Some(number) = number {
                let _ = sender.send(number.parse().unwrap());
            }
            line.clear();
        }
    });
    receiver
}

/// Runs a child until it has acknowledged so much and a pause has passed, and kills it. Returns the last number that
/// it acknowledged.
pub(crate) fn run_and_kill(test: &str, role: &str, folder: &Path, acks: u64, pause: Duration) -> Option<u64> {
    let mut child = child(test, role, folder).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let acknowledged = acknowledgements(&mut child);
    let mut last = None;
    let mut deadline = Instant::now() + PATIENCE;
    for waited in 0.. {
        if waited == acks {
            deadline = Instant::now() + pause;
        }
        match acknowledged.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(number) => last = Some(number),
            Err(RecvTimeoutError::Timeout) if waited < acks => panic!("the child is silent after {last:?}"),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    child.kill().unwrap();
    let last = acknowledged.iter().last().or(last);
    let output = child.wait_with_output().unwrap();
    let failed = output.status.code().is_some_and(|code| code != 0);
    assert!(!failed, "the child failed after {last:?}: {}", String::from_utf8_lossy(&output.stderr));
    last
}

/// Half of the moments lie early, while the database is made or opened; the others somewhere in the writes.
fn moment(chance: &mut Chance) -> (u64, Duration) {
    match chance.below(4) {
        0 => (0, Duration::from_millis(chance.below(60))),
        1 => (0, Duration::from_millis(chance.below(400))),
        _ => (1 + chance.below(25), Duration::from_micros(chance.below(30_000))),
    }
}

fn rounds() -> u64 {
    std::env::var("QUIVER_KILL_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap())
}

#[test]
fn acknowledged_writes_survive_kill_nine() {
    let rounds = rounds();
    let mut chance = Chance::new("QUIVER_KILL_SEED");
    let seed = chance.next();
    let (mut place, mut done, mut total, mut slowest) = (folder(), 0, 0, Duration::ZERO);
    for round in 0..rounds {
        if round % ROUNDS_PER_FOLDER == 0 {
            (place, total, done) = (folder(), total + done, 0);
        }
        let (acks, pause) = moment(&mut chance);
        let writer = "kill::a_writer_acknowledges_what_is_written";
        let last = run_and_kill(writer, &format!("{seed} {done}"), place.path(), acks, pause);
        let acknowledged = last.map_or(done, |last| last + 1);
        let start = Instant::now();
        let db = Database::open(place.path().join("kill.db")).unwrap_or_else(|error| panic!("round {round}: {error}"));
        slowest = slowest.max(start.elapsed());
        assert_eq!(db.check().unwrap(), Vec::<String>::new(), "round {round}");
        let notes = db.collection("notes").unwrap();
        let shelf = shelf_of(&notes);
        let possible = [acknowledged, acknowledged + 1].map(|writes| (writes, shelf_after(seed, writes)));
        let Some((writes, _)) = possible.iter().find(|(_, expected)| *expected == shelf) else {
            panic!("round {round}: {acknowledged} writes acknowledged; expected {possible:?}, found {shelf:?}");
        };
        expect_findable(&notes, &shelf);
        done = *writes;
    }
    total += done;
    println!("{rounds} kills, {total} writes, none lost; slowest reopening {:.1} ms", slowest.as_secs_f64() * 1e3);
}

/// Enough that a text segment is sealed at the end of the batch.
const NOTES: i64 = 9_000;

fn note(id: i64) -> Document {
    Document::new(id, format!("Note {id} is about subject{id} and says nothing else."))
}

/// Adds many documents and says after each batch how many there are.
#[test]
fn a_batch_acknowledges_what_is_committed() {
    let db = match role() {
        Some(_) => Database::open("kill.db").unwrap(),
        None => Database::in_memory().unwrap(),
    };
    let notes = db.collection("notes").unwrap();
    let told = |report: &AddReport| acknowledge(report.added + report.unchanged);
    let options = AddOptions { progress: Some(&told), ..AddOptions::default() };
    let count = if role().is_some() { NOTES } else { 300 };
    let report = notes.add_with((0..count).map(|id| Ok(note(id))), &options).unwrap();
    assert_eq!((report.added + report.unchanged) as i64, count);
    assert_eq!(notes.count().unwrap() as i64, count);
}

#[test]
fn a_kill_while_sealing_loses_nothing() {
    let rounds = rounds().div_ceil(5);
    let mut chance = Chance::new("QUIVER_KILL_SEED");
    let (mut place, mut sealed) = (folder(), 0);
    for round in 0..rounds {
        let last = if round % 2 == 0 {
            // Fill it somewhere, mostly to the end, where sealing begins.
            place = folder();
            run_and_kill(
                "kill::a_batch_acknowledges_what_is_committed",
                "batch",
                place.path(),
                1 + chance.below(40),
                Duration::from_micros(chance.below(60_000)),
            )
        } else {
            // Nothing is left to add, so sealing comes soon.
            run_and_kill(
                "kill::a_batch_acknowledges_what_is_committed",
                "batch",
                place.path(),
                0,
                Duration::from_millis(chance.below(600)),
            )
        };
        let db = Database::open(place.path().join("kill.db")).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(db.check().unwrap(), Vec::<String>::new(), "round {round}");
        let notes = db.collection("notes").unwrap();
        let stats = notes.stats().unwrap();
        assert!(
            stats.documents >= last.unwrap_or(0),
            "round {round}: {last:?} acknowledged, {} there",
            stats.documents
        );
        sealed += stats.segments;
        for (id, document) in (0..).zip(notes.scan().unwrap()) {
            assert_eq!(document.unwrap(), note(id), "round {round}");
        }
        for _ in 0..20 {
            let id = chance.below(stats.documents.max(1)) as i64;
            let found = notes.search(Query::text(format!("subject{id}")).mode(Mode::Text)).unwrap().hits;
            let ids: Vec<String> = found.iter().map(|hit| hit.document.to_string()).collect();
            assert_eq!(ids, if stats.documents == 0 { vec![] } else { vec![id.to_string()] }, "round {round}");
        }
    }
    println!("{rounds} kills around sealing, {sealed} segments seen, nothing lost");
}
