//! How do callers on many threads share a model?
//!
//! Whoever finds nobody at work runs the model, for itself and for those who wait with it, until its own texts are done;
//! then the next one does. So there is no thread of its own, a caller who is alone neither waits nor changes threads, and
//! nothing is left running when the last handle goes. Passages go so always: a long call is cut into pieces, between which
//! others get their turn. Queries do where the model gains by it; elsewhere each is run at once by its own thread. On a CPU
//! they gain nothing: eight threads on all-MiniLM-L6-v2 cost 2.4 ms of processor time a query each by itself and 2.8 ms
//! together (2.6 and 2.9 ms on ONNX Runtime), because the weights of small models stay in the cache, and on a busy machine
//! those who wait for each other got a third to a half of the answers.
//!
//! Invariants: of what waits here, one run at a time; queries go before passages, and a long call of passages is cut into pieces, so that a
//! query waits for at most one of them; after `QUERY_RUNS_MAX` runs of queries in a row, passages that wait get one; a
//! caller gets the vectors and the error of its own texts, and those of a run that panics an error each. A thread of a rayon
//! pool never waits here, and runs its call at once: the run that it would wait for may need that very thread.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Embedder, Embeddings, ModelSpec, NoStatistics, WordStatistics};
use crate::images::Image;
use crate::models::{BatchLimits, Kind, Meter};
use crate::{Error, Result};

/// Runs of queries in a row while passages wait.
const QUERY_RUNS_MAX: u32 = 8;
/// English text has about four bytes a token in the vocabularies of encoders.
const TOKEN_BYTES: usize = 4;

/// An embedder that runs texts of several callers together, and long calls in pieces. Give every thread the same one.
///
/// A vector is that of the model alone, bit for bit where the model keeps to [`Embedder`]'s contract that a vector does not
/// depend on its batch (our engine for safetensors does; ONNX Runtime adds up in another order for another shape, to about
/// 1e-6). Queries are run together where [`BatchLimits::queries_together`] or else the model says so, without statistics of
/// the collection.
///
/// ```
/// use std::sync::Arc;
/// use quiverdb::embed::{Batcher, Embedder, open};
/// use quiverdb::models::BatchLimits;
///
/// # fn main() -> quiverdb::Result<()> {
/// let model: Arc<dyn Embedder> = Arc::new(Batcher::new(open("builtin")?, BatchLimits::default()));
/// std::thread::scope(|threads| {
///     for text in ["the river", "a boat"] {
///         threads.spawn(|| model.embed_documents(&[text]));
///     }
/// });
/// # Ok(())
/// # }
/// ```
pub struct Batcher {
    inner: Arc<dyn Embedder>,
    limits: BatchLimits,
    meter: Arc<Meter>,
    queue: Mutex<Queue>,
    /// Rung when somebody comes, for the one who gathers a run.
    came: Condvar,
    /// Rung when there is room.
    room: Condvar,
}

/// Who waits.
#[derive(Default)]
struct Queue {
    queries: VecDeque<Arc<Call>>,
    documents: VecDeque<Arc<Call>>,
    /// Texts of all that waits.
    texts: usize,
    /// Whether somebody runs the model.
    led: bool,
    closed: bool,
    /// Runs of queries since passages began to wait.
    query_runs: u32,
    /// When the last run of queries ended, and how many callers were there then, those of the run counted.
    last: Option<(Instant, usize)>,
}

/// What a caller asked for.
struct Call {
    kind: Kind,
    texts: Vec<String>,
    /// Rung when it is done, or when it should lead.
    bell: Condvar,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    /// Texts that were taken into a run.
    taken: usize,
    /// Texts whose vectors are there.
    done: usize,
    values: Vec<f32>,
    truncated: usize,
    error: Option<Error>,
}

/// Texts of one run: calls, and which of their texts.
type Batch = Vec<(Arc<Call>, Range<usize>)>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Batcher {
    /// Puts `inner` to work for many threads.
    pub fn new(inner: Arc<dyn Embedder>, limits: BatchLimits) -> Self {
        Self::counted(inner, limits, Arc::default())
    }

    /// The same, with its runs counted.
    pub(crate) fn counted(inner: Arc<dyn Embedder>, limits: BatchLimits, meter: Arc<Meter>) -> Self {
        let (came, room) = (Condvar::new(), Condvar::new());
        Self { inner, limits, meter, queue: Mutex::default(), came, room }
    }

    /// The texts that wait now. A server that would rather refuse than let people wait looks here first.
    pub fn waiting(&self) -> usize {
        lock(&self.queue).texts
    }

    /// Runs of the model so far.
    pub fn runs(&self) -> u64 {
        self.meter.usage().runs
    }

    /// Ends it: the run at work is finished, whoever waits and whoever comes gets an error. Needed only to end early: what
    /// is dropped has nothing under way.
    pub fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        let waiting: Vec<Arc<Call>> = queue.take_all();
        for call in waiting {
            call.fail(closed());
            call.bell.notify_one();
        }
        drop(queue);
        self.room.notify_all();
        self.came.notify_all();
    }

    /// Runs the call with others', or by itself where it cannot wait.
    fn embed(&self, kind: Kind, texts: &[&str]) -> Result<Embeddings> {
        if texts.is_empty() || rayon::current_thread_index().is_some() {
            if lock(&self.queue).closed {
                return Err(closed());
            }
            self.meter.ran();
            return run(self.inner.as_ref(), kind, texts, &NoStatistics);
        }
        let call = Arc::new(Call::new(kind, texts));
        let mut queue = self.enqueue(&call)?;
        while !call.is_done() {
            if queue.led {
                queue = call.bell.wait(queue).unwrap_or_else(PoisonError::into_inner);
            } else {
                queue.led = true;
                drop(queue);
                let leading = Leading(self);
                self.lead(&call);
                drop(leading);
                queue = lock(&self.queue);
            }
        }
        drop(queue);
        call.outcome(self.spec().dims)
    }

    /// Waits for room, and joins those who wait.
    fn enqueue(&self, call: &Arc<Call>) -> Result<MutexGuard<'_, Queue>> {
        let mut queue = lock(&self.queue);
        while !queue.closed && queue.texts > 0 && queue.texts + call.texts.len() > self.limits.queue_texts_max {
            queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.closed {
            return Err(closed());
        }
        queue.texts += call.texts.len();
        match call.kind {
            Kind::Queries => queue.queries.push_back(Arc::clone(call)),
            Kind::Documents => queue.documents.push_back(Arc::clone(call)),
        }
        self.came.notify_all();
        Ok(queue)
    }

    /// Runs batches until `own` is done.
    fn lead(&self, own: &Call) {
        while !own.is_done() {
            let mut queue = self.gather();
            let batch = queue.next(&self.limits, self.spec().max_tokens);
            drop(queue);
            self.room.notify_all();
            if batch.is_empty() {
                return;
            }
            self.run_batch(&batch);
            let is_query = batch.iter().any(|(call, _)| call.kind == Kind::Queries);
            let mut queue = lock(&self.queue);
            if is_query {
                queue.last = Some((Instant::now(), batch.len() + queue.queries.len()));
            }
            for (call, _) in &batch {
                if call.is_done() {
                    queue.forget(call);
                    call.bell.notify_one();
                }
            }
        }
    }

    /// Waits for those who were there at the last run of queries and will come again, if anybody else was.
    fn gather(&self) -> MutexGuard<'_, Queue> {
        let mut queue = lock(&self.queue);
        let end = Instant::now() + self.limits.wait_max;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let full = queue.queries.len() >= queue.expected(self.limits.wait_max)
                || queue.texts >= self.limits.batch_texts_max;
            if queue.queries.is_empty() || full || queue.closed || left.is_zero() {
                return queue;
            }
            queue = self.came.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Runs the model, and gives every call its part.
    fn run_batch(&self, batch: &Batch) {
        let texts: Vec<&str> =
            batch.iter().flat_map(|(call, range)| &call.texts[range.clone()]).map(String::as_str).collect();
        let Some((first, _)) = batch.first() else { return };
        match self.run_caught(first.kind, &texts) {
            // Who was cut is not told, only how many were; and one bad text must not fail the others.
            Ran::Made(made) if batch.len() > 1 && made.truncated > 0 && made.truncated < texts.len() => {
                self.run_apart(batch);
            }
            Ran::Made(made) => share(batch, &made, texts.len()),
            Ran::Failed(_) if batch.len() > 1 => self.run_apart(batch),
            Ran::Failed(error) => first.fail(error),
            Ran::Panicked(reason) => batch.iter().for_each(|(call, _)| call.fail(panicked(&reason))),
        }
    }

    /// Each call by itself.
    fn run_apart(&self, batch: &Batch) {
        for (call, range) in batch {
            let texts: Vec<&str> = call.texts[range.clone()].iter().map(String::as_str).collect();
            match self.run_caught(call.kind, &texts) {
                Ran::Made(made) => call.add(&made.values, made.truncated, texts.len()),
                Ran::Failed(error) => call.fail(error),
                Ran::Panicked(reason) => call.fail(panicked(&reason)),
            }
        }
    }

    fn run_caught(&self, kind: Kind, texts: &[&str]) -> Ran {
        self.meter.ran();
        let work = || {
            let made = run(self.inner.as_ref(), kind, texts, &NoStatistics)?;
            made.expect(texts.len(), self.inner.spec())?;
            Ok(made)
        };
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(made)) => Ran::Made(made),
            Ok(Err(error)) => Ran::Failed(error),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|&text| text.to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                Ran::Panicked(text.unwrap_or_else(|| "no reason given".into()))
            }
        }
    }
}

/// How a run ended.
enum Ran {
    Made(Embeddings),
    Failed(Error),
    Panicked(String),
}

fn run(model: &dyn Embedder, kind: Kind, texts: &[&str], statistics: &dyn WordStatistics) -> Result<Embeddings> {
    match kind {
        Kind::Queries => model.embed_queries(texts, statistics),
        Kind::Documents => model.embed_documents(texts),
    }
}

fn panicked(reason: &str) -> Error {
    Error::Embedding(format!("the model panicked: {reason}"))
}

fn closed() -> Error {
    Error::Embedding("the batcher was closed: no more texts are embedded with it".into())
}

/// Gives every call the vectors of its texts. Either no text of the run was cut or all were, or the run has one call.
fn share(batch: &Batch, made: &Embeddings, texts: usize) {
    let all_cut = made.truncated == texts;
    let mut from = 0;
    for (call, range) in batch {
        let to = from + range.len() * made.dims;
        let truncated = match batch.len() {
            1 => made.truncated,
            _ if all_cut => range.len(),
            _ => 0,
        };
        call.add(&made.values[from..to], truncated, range.len());
        from = to;
    }
}

/// The right to run the model; given on when it goes, also by panic.
struct Leading<'a>(&'a Batcher);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        queue.led = false;
        if let Some(next) = queue.queries.front().or(queue.documents.front()) {
            next.bell.notify_one();
        }
    }
}

impl Queue {
    /// Those who are likely to want a query embedded together with who waits now.
    fn expected(&self, wait_max: Duration) -> usize {
        self.last.filter(|(ended, _)| ended.elapsed() <= wait_max).map_or(1, |(_, callers)| callers)
    }

    /// The texts of the next run, in the order of their callers.
    fn next(&mut self, limits: &BatchLimits, tokens_max: usize) -> Batch {
        let passages_wait = !self.documents.is_empty();
        let is_turn_of_passages = self.queries.is_empty() || (passages_wait && self.query_runs >= QUERY_RUNS_MAX);
        self.query_runs = if is_turn_of_passages || !passages_wait { 0 } else { self.query_runs + 1 };
        let line = if is_turn_of_passages { &mut self.documents } else { &mut self.queries };
        let mut batch = Batch::new();
        let (mut tokens, mut texts) = (0, 0);
        while let Some(call) = line.front() {
            let range = call.take(limits, tokens_max, &mut tokens, &mut texts);
            let is_whole = range.end == call.texts.len();
            if !range.is_empty() {
                batch.push((Arc::clone(call), range));
            }
            if !is_whole {
                break;
            }
            line.pop_front();
        }
        self.texts -= texts;
        batch
    }

    /// A call that failed with a part of its texts still waiting waits no more.
    fn forget(&mut self, call: &Arc<Call>) {
        let line = match call.kind {
            Kind::Queries => &mut self.queries,
            Kind::Documents => &mut self.documents,
        };
        if let Some(place) = line.iter().position(|waiting| Arc::ptr_eq(waiting, call)) {
            line.remove(place);
            self.texts -= call.texts.len() - lock(&call.progress).taken;
        }
    }

    fn take_all(&mut self) -> Vec<Arc<Call>> {
        self.texts = 0;
        self.queries.drain(..).chain(self.documents.drain(..)).collect()
    }
}

impl Call {
    fn new(kind: Kind, texts: &[&str]) -> Self {
        let texts = texts.iter().map(|&text| text.to_owned()).collect();
        Self { kind, texts, bell: Condvar::new(), progress: Mutex::default() }
    }

    /// Takes as many of its texts as fit beside `tokens` and `texts`, which it adds to; at least one where there are none.
    fn take(&self, limits: &BatchLimits, tokens_max: usize, tokens: &mut usize, texts: &mut usize) -> Range<usize> {
        let mut progress = lock(&self.progress);
        let start = progress.taken;
        for text in &self.texts[start..] {
            let cost = text.len().div_ceil(TOKEN_BYTES).clamp(1, tokens_max.max(1));
            let fits = *tokens + cost <= limits.batch_tokens_max && *texts < limits.batch_texts_max;
            if *texts > 0 && !fits {
                break;
            }
            (*tokens, *texts) = (*tokens + cost, *texts + 1);
            progress.taken += 1;
        }
        start..progress.taken
    }

    fn add(&self, values: &[f32], truncated: usize, texts: usize) {
        let mut progress = lock(&self.progress);
        progress.values.extend_from_slice(values);
        progress.truncated += truncated;
        progress.done += texts;
    }

    fn fail(&self, error: Error) {
        lock(&self.progress).error.get_or_insert(error);
    }

    fn is_done(&self) -> bool {
        let progress = lock(&self.progress);
        progress.error.is_some() || progress.done == self.texts.len()
    }

    fn outcome(&self, dims: usize) -> Result<Embeddings> {
        let mut progress = lock(&self.progress);
        match progress.error.take() {
            Some(error) => Err(error),
            None => {
                let values = std::mem::take(&mut progress.values);
                Ok(Embeddings { dims, values, truncated: progress.truncated })
            }
        }
    }
}

impl Embedder for Batcher {
    fn spec(&self) -> &ModelSpec {
        self.inner.spec()
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings> {
        self.embed(Kind::Documents, texts)
    }

    fn embed_queries(&self, texts: &[&str], statistics: &dyn WordStatistics) -> Result<Embeddings> {
        if self.limits.queries_together.unwrap_or_else(|| self.inner.gains_by_batches()) {
            return self.embed(Kind::Queries, texts);
        }
        self.meter.ran();
        run(self.inner.as_ref(), Kind::Queries, texts, statistics)
    }

    /// At once, by the caller's own thread: each picture is as much work as a long text.
    fn embed_images(&self, images: &[Image]) -> Result<Embeddings> {
        if lock(&self.queue).closed {
            return Err(closed());
        }
        self.meter.ran();
        self.inner.embed_images(images)
    }

    fn token_ranges(&self, text: &str) -> Vec<Range<usize>> {
        self.inner.token_ranges(text)
    }

    fn memory_bytes(&self) -> u64 {
        self.inner.memory_bytes()
    }

    fn tokens_read(&self) -> Option<u64> {
        self.inner.tokens_read()
    }

    fn gains_by_batches(&self) -> bool {
        self.inner.gains_by_batches()
    }
}

#[cfg(test)]
mod tests;
