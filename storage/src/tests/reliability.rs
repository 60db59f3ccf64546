//! What if everything goes wrong, for as long as you like?
//!
//! Each test goes on for `QUIVER_CRASH_SECONDS`, or for a second or two, from the seed `QUIVER_CRASH_SEED` on, or from one
//! of its own, and says at its end in a line beginning `reliability:` how it went. `cargo quiver-torture` runs them all.

mod churn;
mod histories;
mod kills;
mod lies;
mod names;
mod power;
#[cfg(unix)]
mod races;
mod segment_damage;
mod stale;
mod stress;

use std::fs;
use std::path::Path;

use super::{in_memory, sound};
use crate::testing::{Random, put, random_document};
use crate::{CollectionId, DocumentId, Metric, Operation, Result, Store};

/// The dimensions of what [`batch`] makes.
const DIMS: usize = 3;

/// Adds, replaces and deletes.
fn batch(seed: u64, round: usize) -> Vec<Operation> {
    let mut random = Random::new(seed ^ (round as u64) << 32);
    let first = round as i64 * 5;
    let ids = (first - 4).max(0)..first + 2 + random.below(12) as i64;
    let mut batch: Vec<Operation> = ids.map(|id| put(random_document(&mut random, id, DIMS))).collect();
    batch.push(Operation::Delete((first - 5).into()));
    batch.push(Operation::Delete((first + 1).into()));
    batch
}

/// What is found: whose chunk, which, and the bits of its score.
type Answers = Vec<(DocumentId, u32, u32)>;

fn try_answers(store: &Store, notes: CollectionId) -> Result<Answers> {
    let snapshot = store.snapshot(notes)?;
    let mut hits = snapshot.nearest(0, &[1.0, 0.5, -0.25], 20, None)?;
    hits.extend(snapshot.search_text("word0 word3 word7", 20, None)?.hits);
    let told = |(chunk, score): (_, f32)| {
        let chunk = snapshot.hydrate(chunk)?;
        Ok((chunk.document, chunk.ordinal, score.to_bits()))
    };
    hits.into_iter().map(told).collect()
}

fn answers(store: &Store, notes: CollectionId) -> Answers {
    try_answers(store, notes).unwrap()
}

/// What the database holds and answers.
type State = (String, Answers);

fn state(store: &Store, notes: CollectionId) -> State {
    (store.dump().unwrap(), answers(store, notes))
}

/// What it holds and answers before the first round and after each, without any segment.
fn states(seed: u64, rounds: usize) -> Vec<State> {
    let (store, notes) = in_memory(DIMS, Metric::Cosine);
    let after = |round| {
        store.write(notes, batch(seed, round)).unwrap();
        state(&store, notes)
    };
    [state(&store, notes)].into_iter().chain((0..rounds).map(after)).collect()
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() { copy(&path, &target) } else { fs::copy(path, target).map(|_| ()).unwrap() }
    }
}

/// Runs one test of this binary in a process of its own, which finds this role in [`role`].
fn child(test: &str, role: &str, folder: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args([&format!("tests::reliability::{test}"), "--exact", "--nocapture", "--test-threads=1"]);
    command.env("QUIVER_CRASH_ROLE", role).current_dir(folder);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    command
}

/// What a process that [`child`] makes was asked to be.
fn role() -> Option<String> {
    std::env::var("QUIVER_CRASH_ROLE").ok()
}

/// Says something to the parent. The harness leaves its line open, so it brings its own beginning.
fn say(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout();
    out.write_all(format!("\nchild: {line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The next line that a child says; `None` at its end.
fn hear(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Option<String> {
    lines.find_map(|line| line.ok()?.strip_prefix("child: ").map(str::to_owned))
}
