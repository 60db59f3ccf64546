//! Was this request answered before?
//!
//! A client that did not hear the answer asks again with the same key (`Idempotency-Key`) and is told what it was told, or
//! would have been, without a second run. Kept in memory: 24 hours, 10,000 keys and 64 MiB at most, and no longer than the
//! server runs. After that a repetition runs again, which is safe, too: documents that are there just so are unchanged.
//!
//! Invariants: only what succeeded is kept; of two requests of one key at a time the second is told to wait; a key with
//! another body is refused.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long an answer is kept.
const KEPT: Duration = Duration::from_hours(24);
/// How many are.
const KEYS_MAX: usize = 10_000;
/// What they take together.
const BYTES_MAX: usize = 64 << 20;

/// What requests of these keys were answered.
#[derive(Clone, Default)]
pub(in crate::server) struct Replays(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    entries: HashMap<String, Entry>,
    /// The keys that were answered, the oldest first.
    answered: VecDeque<(Instant, String)>,
    bytes: usize,
}

enum Entry {
    Underway,
    Answered { digest: [u8; 32], answer: Value, bytes: usize },
}

/// What is to be done with a request.
pub(super) enum Begun {
    /// Run it, and hand in the answer.
    New(Arc<Ticket>),
    /// It runs already.
    Underway,
    /// It was answered so, if its body has this digest.
    Answered { digest: [u8; 32], answer: Value },
}

/// The right to run the request of a key, shared by the calls that write for it: the client may be gone before they end.
/// Where the last of them drops it without an answer, the key is free again.
pub(super) struct Ticket {
    replays: Replays,
    key: String,
    answered: AtomicBool,
}

impl Replays {
    /// What is known of a key.
    pub(super) fn begin(&self, key: String) -> Begun {
        self.begin_at(key, Instant::now())
    }

    fn begin_at(&self, key: String, now: Instant) -> Begun {
        let mut state = self.state();
        state.forget(|at| now.saturating_duration_since(at) >= KEPT);
        match state.entries.get(&key) {
            Some(Entry::Underway) => Begun::Underway,
            Some(Entry::Answered { digest, answer, .. }) => Begun::Answered { digest: *digest, answer: answer.clone() },
            None => {
                state.entries.insert(key.clone(), Entry::Underway);
                Begun::New(Arc::new(Ticket { replays: self.clone(), key, answered: AtomicBool::new(false) }))
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Drops the oldest answers, as long as one is old or there are too many.
    fn forget(&mut self, is_old: impl Fn(Instant) -> bool) {
        while let Some((at, _)) = self.answered.front() {
            if !is_old(*at) && self.answered.len() <= KEYS_MAX && self.bytes <= BYTES_MAX {
                break;
            }
            let Some((_, key)) = self.answered.pop_front() else { break };
            if let Some(Entry::Answered { bytes, .. }) = self.entries.remove(&key) {
                self.bytes -= bytes;
            }
        }
    }
}

impl Ticket {
    /// Keeps the answer.
    pub(super) fn answered(&self, digest: [u8; 32], answer: Value) {
        self.answered_at(digest, answer, Instant::now());
    }

    fn answered_at(&self, digest: [u8; 32], answer: Value, now: Instant) {
        if self.answered.swap(true, Ordering::AcqRel) {
            return;
        }
        let key = self.key.clone();
        let bytes = key.len() + answer.to_string().len();
        let mut state = self.replays.state();
        state.bytes += bytes;
        state.entries.insert(key.clone(), Entry::Answered { digest, answer, bytes });
        state.answered.push_back((now, key));
        state.forget(|_| false);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !*self.answered.get_mut() {
            self.replays.state().entries.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn ticket(replays: &Replays, key: &str, now: Instant) -> Arc<Ticket> {
        match replays.begin_at(key.into(), now) {
            Begun::New(ticket) => ticket,
            Begun::Underway | Begun::Answered { .. } => panic!("{key} is known"),
        }
    }

    #[test]
    fn an_answer_is_kept_for_a_day_and_a_failure_is_not() {
        let (replays, start) = (Replays::default(), Instant::now());
        drop(ticket(&replays, "a", start));
        let running = ticket(&replays, "a", start);
        assert!(matches!(replays.begin_at("a".into(), start), Begun::Underway));
        running.answered_at([7; 32], json!({"added": 1}), start);
        let almost = start + KEPT - Duration::from_secs(1);
        match replays.begin_at("a".into(), almost) {
            Begun::Answered { digest, answer } => assert_eq!((digest, answer), ([7; 32], json!({"added": 1}))),
            Begun::New(_) | Begun::Underway => panic!("it was answered"),
        }
        drop(ticket(&replays, "a", start + KEPT));
        assert_eq!(replays.state().bytes, 0);
    }

    #[test]
    fn a_key_is_taken_as_long_as_anything_works_for_it() {
        let (replays, now) = (Replays::default(), Instant::now());
        let request = ticket(&replays, "a", now);
        let write = request.clone();
        drop(request);
        assert!(matches!(replays.begin_at("a".into(), now), Begun::Underway));
        drop(write);
        let request = ticket(&replays, "a", now);
        let write = request.clone();
        write.answered_at([1; 32], json!(1), now);
        request.answered_at([2; 32], json!(2), now);
        drop((request, write));
        match replays.begin_at("a".into(), now) {
            Begun::Answered { digest, answer } => assert_eq!((digest, answer), ([1; 32], json!(1))),
            Begun::New(_) | Begun::Underway => panic!("it was answered"),
        }
    }

    #[test]
    fn the_oldest_answers_give_way() {
        let (replays, now) = (Replays::default(), Instant::now());
        for at in 0..=KEYS_MAX {
            ticket(&replays, &at.to_string(), now).answered_at([0; 32], Value::Null, now);
        }
        let state = replays.state();
        assert_eq!((state.entries.len(), state.entries.contains_key("0")), (KEYS_MAX, false));
    }
}
