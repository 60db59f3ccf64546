//! How do reading, embedding and writing happen at once?
//!
//! Three stages, a thread each, joined by queues of one batch: the caller's thread reads, compares and chunks; a second one
//! embeds; a third one commits, and waits where sealing must catch up. So the model is at work while the next documents
//! are read and the last ones written, and memory holds five batches at most.
//!
//! Invariants: batches are committed in the order in which they were read; a document is compared with what is stored only
//! after every earlier one of its id is; the report counts what was committed, whether or not a later stage fails.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use quiverdb_storage::{Alongside, DocumentId, Operation};

use super::{
    AddOptions, Along, Outcome, Prepared, commit, embed_batch, expired, next_batch_size, read_batch, take_batch,
    wait_for_sealing, write,
};
use crate::Result;
use crate::parts::Parts;
use crate::types::{AddReport, Document, Rejected};

/// Batches that wait between two stages. One is enough for stages that take alike, and more would only be memory.
const QUEUE: usize = 1;

/// A batch on its way. What each stage has to say of it travels with it.
struct Batch<'a, T> {
    content: T,
    /// The collection as it was when the batch was read.
    parts: &'a Arc<Parts>,
    /// How many items of the source it is made of.
    taken: u64,
    /// What became of its documents so far.
    outcome: Outcome,
    /// What the slowest stage took: the pipeline is as fast as that one.
    slowest: Duration,
}

impl<'a, T> Batch<'a, T> {
    /// Goes through a stage, whose time is measured.
    fn pass<U>(self, stage: impl FnOnce(&'a Arc<Parts>, T, &mut Outcome) -> Result<U>) -> Result<Batch<'a, U>> {
        let Self { content, parts, taken, mut outcome, slowest } = self;
        let start = Instant::now();
        let content = stage(parts, content, &mut outcome)?;
        Ok(Batch { content, parts, taken, outcome, slowest: slowest.max(start.elapsed()) })
    }
}

/// What is said of a batch that was committed.
struct Done {
    report: AddReport,
    slowest: Duration,
}

/// Adds the documents; `settled` hears the report after each committed batch, on this thread.
///
/// # Errors
/// The first of any stage. What was committed before it stays, and is in the report.
pub(super) fn run(
    parts: &Arc<Parts>,
    documents: &mut dyn Iterator<Item = std::result::Result<Document, Rejected>>,
    options: &AddOptions<'_>,
    along: Option<&dyn Along>,
    report: &mut AddReport,
    settled: &dyn Fn(&mut AddReport),
) -> Result<()> {
    let (to_model, read) = sync_channel(QUEUE);
    let (to_store, embedded) = sync_channel(QUEUE);
    let (committed, done) = channel();
    let cancel = options.cancel;
    std::thread::scope(|scope| {
        let model = scope.spawn(move || embed_all(read, &to_store, cancel));
        let store = scope.spawn(move || write_all(embedded, &committed, along, cancel));
        let mut reader =
            Reader { parts, cancel, done, report, settled, underway: HashMap::new(), sent: 0, heard: 0, size: 64 };
        let outcome = reader.read_all(documents, to_model);
        reader.settle_all();
        // The store's failure ends the model's work, and that the reader's: the one behind is the cause.
        joined(store).and(joined(model)).and(outcome)
    })
}

fn joined(stage: ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    stage.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn is_set(cancel: Option<&AtomicBool>) -> bool {
    cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed))
}

/// The second stage. Whoever cancels does not want to wait for a model: what it has not read yet is dropped.
fn embed_all<'a>(
    read: Receiver<Batch<'a, Vec<Prepared>>>,
    to_store: &SyncSender<Batch<'a, Vec<Operation>>>,
    cancel: Option<&AtomicBool>,
) -> Result<()> {
    for batch in read {
        if is_set(cancel) {
            break;
        }
        let embedded = batch.pass(|parts, prepared, outcome| {
            let start = Instant::now();
            let operations = embed_batch(parts, prepared, outcome)?;
            outcome.report.embedding_seconds += start.elapsed().as_secs_f64();
            Ok(operations)
        })?;
        if to_store.send(embedded).is_err() {
            break;
        }
    }
    Ok(())
}

/// The third stage.
fn write_all(
    embedded: Receiver<Batch<'_, Vec<Operation>>>,
    committed: &Sender<Done>,
    along: Option<&dyn Along>,
    cancel: Option<&AtomicBool>,
) -> Result<()> {
    let mut up_to_here = UpToHere::default();
    for batch in embedded {
        let taken = batch.taken;
        let Batch { parts, outcome, slowest, .. } = batch.pass(|parts, operations, outcome| match along {
            Some(along) => up_to_here.commit(parts, operations, taken, along, outcome),
            None => commit(parts, operations, &Alongside::default(), &mut outcome.report),
        })?;
        // Nobody listens where the reader has failed; what is committed is so nevertheless.
        let _ = committed.send(Done { report: outcome.into_report(), slowest });
        wait_for_sealing(parts.current()?, cancel)?;
    }
    Ok(())
}

/// What became of all batches so far, for what is committed along.
#[derive(Default)]
struct UpToHere {
    taken: u64,
    report: AddReport,
}

impl UpToHere {
    fn commit(
        &mut self,
        parts: &Arc<Parts>,
        operations: Vec<Operation>,
        taken: u64,
        along: &dyn Along,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let (refused, report) = (std::mem::take(&mut outcome.refused), &mut outcome.report);
        report.rejected.clear();
        let (_, snapshot) = parts.pinned()?;
        let mut seen = HashSet::new();
        for operation in &operations {
            let Operation::Put(document) = operation else { continue };
            if seen.insert(&document.id) && snapshot.digest(&document.id)?.is_none() {
                report.added += 1;
            } else {
                report.replaced += 1;
            }
        }
        drop((snapshot, seen));
        report.expired += expired(parts, &operations);
        self.taken += taken;
        self.report.take_up(report.clone());
        let edits = along.edits(self.taken, refused, &self.report, !operations.is_empty())?;
        if !operations.is_empty() || !edits.is_empty() {
            write(parts, &operations, &Alongside::ledger(edits))?;
        }
        Ok(())
    }
}

/// The first stage.
struct Reader<'a> {
    parts: &'a Arc<Parts>,
    cancel: Option<&'a AtomicBool>,
    done: Receiver<Done>,
    report: &'a mut AddReport,
    settled: &'a dyn Fn(&mut AddReport),
    /// The documents on their way, each with the number of the last batch that it is in.
    underway: HashMap<DocumentId, u64>,
    /// Batches that went to the model, and those of them that were committed.
    sent: u64,
    heard: u64,
    /// Documents of the next batch.
    size: usize,
}

impl<'a> Reader<'a> {
    fn read_all(
        &mut self,
        documents: &mut dyn Iterator<Item = std::result::Result<Document, Rejected>>,
        to_model: SyncSender<Batch<'a, Vec<Prepared>>>,
    ) -> Result<()> {
        let mut exhausted = false;
        while !exhausted && !is_set(self.cancel) {
            let batch;
            (batch, exhausted) = self.next_batch(documents)?;
            if to_model.send(batch).is_err() {
                break;
            }
            self.sent += 1;
            while let Ok(done) = self.done.try_recv() {
                self.settle(done);
            }
            self.underway.retain(|_, batch| *batch >= self.heard);
        }
        Ok(())
    }

    /// The next batch, and whether it is the last.
    fn next_batch(
        &mut self,
        documents: &mut dyn Iterator<Item = std::result::Result<Document, Rejected>>,
    ) -> Result<(Batch<'a, Vec<Prepared>>, bool)> {
        let mut outcome = Outcome::default();
        let start = Instant::now();
        let (batch, exhausted) = take_batch(documents, self.size, &mut outcome.report);
        let items = (batch.len() + outcome.report.rejected.len()) as u64;
        let taking = start.elapsed();
        if batch.iter().any(|document| self.underway.contains_key(&document.id)) {
            while self.heard < self.sent && self.settle_one() {}
        }
        let start = Instant::now();
        self.underway.extend(batch.iter().map(|document| (document.id.clone(), self.sent)));
        let (parts, content) = read_batch(self.parts, batch, &mut outcome)?;
        Ok((Batch { content, parts, taken: items, outcome, slowest: taking + start.elapsed() }, exhausted))
    }

    /// Waits for the next batch to be committed; `false` where none will be.
    fn settle_one(&mut self) -> bool {
        let Ok(done) = self.done.recv() else { return false };
        self.settle(done);
        true
    }

    fn settle_all(&mut self) {
        while self.settle_one() {}
    }

    fn settle(&mut self, done: Done) {
        self.heard += 1;
        self.report.take_up(done.report);
        self.size = next_batch_size(self.size, done.slowest);
        (self.settled)(self.report);
    }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
