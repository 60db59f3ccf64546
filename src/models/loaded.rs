//! Which models are in memory, and how are they doing?
//!
//! Loading is single-flight: callers of the same model wait for one load, outside of the lock that others need. What is idle
//! for too long, or least recently used while the bytes are over the budget, is dropped, but never what somebody still
//! holds. Knows nothing of embedding or reranking: it keeps what it is given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Result;

/// What may stay in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Bytes of all models together; of those that nobody uses the least recently used are dropped above it. No limit
    /// where `None`.
    pub bytes_max: Option<u64>,
    /// How long a model that nobody uses is kept; for ever where `None`.
    pub keep_alive: Option<Duration>,
}

/// Whether a model is in memory.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadState {
    /// It is.
    Ready,
    /// It is being loaded now.
    Loading,
    /// The last attempt failed; the next use tries again.
    Failed,
    /// It was dropped; the next use loads it again.
    Dropped,
}

/// One model, for people who watch.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LoadHealth {
    /// The name that it is loaded by.
    pub model: String,
    /// Whether it is in memory.
    pub state: LoadState,
    /// Bytes of its weights in memory, as far as it says.
    pub bytes: u64,
    /// Seconds that the last load took.
    pub load_s: f64,
    /// How often it was loaded.
    pub loads: u64,
    /// Why the last load failed, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Models of one kind, by name.
pub(crate) struct Loaded<T: ?Sized> {
    slots: Mutex<BTreeMap<String, Arc<Slot<T>>>>,
    limits: Mutex<MemoryLimits>,
}

struct Slot<T: ?Sized> {
    /// Held while it loads.
    model: Mutex<Option<Model<T>>>,
    facts: Mutex<Facts>,
}

struct Model<T: ?Sized> {
    value: Arc<T>,
    bytes: u64,
}

/// What can be told without waiting for a load.
#[derive(Clone)]
struct Facts {
    state: LoadState,
    bytes: u64,
    load_s: f64,
    loads: u64,
    last_error: Option<String>,
    last_used: Instant,
}

impl<T: ?Sized> Default for Loaded<T> {
    fn default() -> Self {
        Self { slots: Mutex::default(), limits: Mutex::default() }
    }
}

/// A panic while a lock was held leaves plain values behind, which stay usable.
fn lock<V: ?Sized>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: ?Sized> Loaded<T> {
    /// Sets what may stay in memory, and drops what may not.
    pub(crate) fn limit(&self, limits: MemoryLimits) {
        *lock(&self.limits) = limits;
        self.drop_idle(None);
    }

    /// The model of this name; `load` brings it and the bytes that it takes.
    ///
    /// # Errors
    /// What `load` says. The next call tries again.
    pub(crate) fn get(&self, name: &str, load: impl FnOnce() -> Result<(Arc<T>, u64)>) -> Result<Arc<T>> {
        let slot = Arc::clone(lock(&self.slots).entry(name.to_owned()).or_insert_with(|| Arc::new(Slot::new())));
        let mut model = lock(&slot.model);
        if let Some(model) = &*model {
            lock(&slot.facts).last_used = Instant::now();
            return Ok(Arc::clone(&model.value));
        }
        lock(&slot.facts).state = LoadState::Loading;
        let start = Instant::now();
        let loaded = load();
        let mut facts = lock(&slot.facts);
        (facts.load_s, facts.last_used) = (start.elapsed().as_secs_f64(), Instant::now());
        let value = match loaded {
            Ok((value, bytes)) => {
                (facts.state, facts.bytes, facts.last_error) = (LoadState::Ready, bytes, None);
                facts.loads += 1;
                *model = Some(Model { value: Arc::clone(&value), bytes });
                value
            }
            Err(error) => {
                (facts.state, facts.last_error) = (LoadState::Failed, Some(error.to_string()));
                return Err(error);
            }
        };
        drop((facts, model));
        self.drop_idle(Some(name));
        Ok(value)
    }

    /// Every model that was ever asked for.
    pub(crate) fn health(&self) -> Vec<LoadHealth> {
        self.drop_idle(None);
        let slots = lock(&self.slots);
        let health = |(name, slot): (&String, &Arc<Slot<T>>)| {
            let Facts { state, bytes, load_s, loads, last_error, last_used: _ } = lock(&slot.facts).clone();
            LoadHealth { model: name.clone(), state, bytes, load_s, loads, last_error }
        };
        slots.iter().map(health).collect()
    }

    /// Drops what is idle for too long, and the least recently used above the budget, except `spared`.
    fn drop_idle(&self, spared: Option<&str>) {
        let MemoryLimits { bytes_max, keep_alive } = *lock(&self.limits);
        let slots = lock(&self.slots);
        let mut by_use: Vec<(Instant, &Arc<Slot<T>>)> = slots
            .iter()
            .filter(|(name, _)| spared != Some(name.as_str()))
            .map(|(_, slot)| (lock(&slot.facts).last_used, slot))
            .collect();
        by_use.sort_by_key(|(used, _)| *used);
        let mut bytes: u64 = slots.values().map(|slot| lock(&slot.facts).bytes).sum();
        for (used, slot) in by_use {
            let stale = keep_alive.is_some_and(|limit| used.elapsed() >= limit);
            if stale || bytes_max.is_some_and(|limit| bytes > limit) {
                bytes -= slot.drop_unused();
            }
        }
    }
}

impl<T: ?Sized> Slot<T> {
    fn new() -> Self {
        let facts = Facts {
            state: LoadState::Loading,
            bytes: 0,
            load_s: 0.0,
            loads: 0,
            last_error: None,
            last_used: Instant::now(),
        };
        Self { model: Mutex::new(None), facts: Mutex::new(facts) }
    }

    /// Drops the model unless it is loading or somebody holds it; returns the bytes that this frees.
    fn drop_unused(&self) -> u64 {
        let Ok(mut model) = self.model.try_lock() else { return 0 };
        if model.as_ref().is_none_or(|model| Arc::strong_count(&model.value) > 1) {
            return 0;
        }
        let freed = model.take().map_or(0, |model| model.bytes);
        let mut facts = lock(&self.facts);
        (facts.state, facts.bytes) = (LoadState::Dropped, 0);
        freed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::Error;

    fn text(name: &str) -> Result<(Arc<str>, u64)> {
        Ok((name.into(), 100))
    }

    fn states(models: &Loaded<str>) -> Vec<(String, LoadState)> {
        models.health().into_iter().map(|health| (health.model, health.state)).collect()
    }

    #[test]
    fn callers_of_one_model_wait_for_one_load_and_others_do_not() {
        let (models, loads, barrier) = (Loaded::<str>::default(), AtomicUsize::new(0), Barrier::new(2));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let load = || {
                        loads.fetch_add(1, Ordering::Relaxed);
                        // While this one loads, another is loaded and used.
                        barrier.wait();
                        text("slow")
                    };
                    assert_eq!(&*models.get("slow", load).unwrap(), "slow");
                });
            }
            assert_eq!(&*models.get("other", || text("other")).unwrap(), "other");
            barrier.wait();
        });
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn failed_load_is_remembered_and_tried_again() {
        let models = Loaded::<str>::default();
        let error = models.get("m", || Err(Error::invalid("no such model"))).unwrap_err();
        assert_eq!(error.to_string(), "no such model");
        let health = models.health().remove(0);
        assert_eq!((health.state, health.last_error.as_deref()), (LoadState::Failed, Some("no such model")));
        assert_eq!(&*models.get("m", || text("m")).unwrap(), "m");
        let health = models.health().remove(0);
        assert_eq!((health.state, health.loads, health.last_error), (LoadState::Ready, 1, None));
    }

    #[test]
    fn least_recently_used_goes_first_and_what_is_held_never() {
        let models = Loaded::<str>::default();
        models.limit(MemoryLimits { bytes_max: Some(250), keep_alive: None });
        let held = models.get("a", || text("a")).unwrap();
        for name in ["b", "c", "b", "d"] {
            models.get(name, || text(name)).unwrap();
        }
        let dropped = |states: Vec<(String, LoadState)>| -> Vec<String> {
            states.into_iter().filter(|(_, state)| *state == LoadState::Dropped).map(|(name, _)| name).collect()
        };
        // a and d make 200 bytes; b was used after c, but even so 300 were too many.
        assert_eq!(dropped(states(&models)), ["b", "c"]);
        drop(held);
        models.get("b", || text("b")).unwrap();
        assert_eq!(dropped(states(&models)), ["a", "c"]);
    }

    #[test]
    fn idle_models_are_dropped_after_their_time_and_come_back() {
        let models = Loaded::<str>::default();
        models.get("m", || text("m")).unwrap();
        models.limit(MemoryLimits { bytes_max: None, keep_alive: Some(Duration::ZERO) });
        assert_eq!(states(&models), [("m".to_owned(), LoadState::Dropped)]);
        assert_eq!(&*models.get("m", || text("again")).unwrap(), "again");
    }
}
