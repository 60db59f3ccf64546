//! Which models are in memory, and how are they doing?
//!
//! Loading is single-flight: callers of the same model wait for one load, outside of the lock that others need. What is idle
//! for too long, or least recently used while the bytes are over the budget, is dropped, but never what somebody still
//! holds. Models of several kinds share one budget. No thread watches the time: whoever asks for a model does. Knows nothing of embedding or reranking: it keeps what it is given.

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
    /// How long a model that nobody uses is kept, as seen whenever one is used or asked about; for ever where `None`.
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
    /// Bytes of its weights, as far as it says: as their files have them, of which half precision takes twice as much in
    /// memory.
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
    budget: Arc<Budget>,
}

/// What models of all kinds may take together.
#[derive(Default)]
pub(crate) struct Budget {
    limits: Mutex<MemoryLimits>,
    slots: Mutex<Vec<Arc<dyn Place>>>,
}

/// A model's place, whatever its kind.
trait Place: Send + Sync {
    fn last_used(&self) -> Instant;
    fn bytes(&self) -> u64;
    /// Drops the model unless it is loading or somebody holds it; returns the bytes that this frees.
    fn drop_unused(&self) -> u64;
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

/// A panic while a lock was held leaves plain values behind, which stay usable.
fn lock<V: ?Sized>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Budget {
    /// Sets what may stay in memory, and drops what may not.
    pub(crate) fn limit(&self, limits: MemoryLimits) {
        *lock(&self.limits) = limits;
        self.drop_idle(None);
    }

    /// Drops what is idle for too long, and the least recently used above the bytes, except `spared`.
    fn drop_idle(&self, spared: Option<&Arc<dyn Place>>) {
        let MemoryLimits { bytes_max, keep_alive } = *lock(&self.limits);
        if bytes_max.is_none() && keep_alive.is_none() {
            return;
        }
        let slots = lock(&self.slots);
        let mut by_use: Vec<(Instant, &Arc<dyn Place>)> = slots
            .iter()
            .filter(|slot| spared.is_none_or(|spared| !Arc::ptr_eq(slot, spared)))
            .map(|slot| (slot.last_used(), slot))
            .collect();
        by_use.sort_by_key(|(used, _)| *used);
        let mut bytes: u64 = slots.iter().map(|slot| slot.bytes()).sum();
        for (used, slot) in by_use {
            let stale = keep_alive.is_some_and(|limit| used.elapsed() >= limit);
            if stale || bytes_max.is_some_and(|limit| bytes > limit) {
                bytes = bytes.saturating_sub(slot.drop_unused());
            }
        }
    }
}

impl<T: ?Sized + Send + Sync + 'static> Loaded<T> {
    /// No models yet; those to come count for this budget.
    pub(crate) fn within(budget: &Arc<Budget>) -> Self {
        Self { slots: Mutex::default(), budget: Arc::clone(budget) }
    }

    fn slot(&self, name: &str) -> Arc<Slot<T>> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(name) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot::new());
        slots.insert(name.to_owned(), Arc::clone(&slot));
        let place: Arc<dyn Place> = slot.clone();
        lock(&self.budget.slots).push(place);
        slot
    }

    /// From now on the model called `from` is found by another name, unless one of that name is there.
    pub(crate) fn rename(&self, from: &str, to: &str) {
        let mut slots = lock(&self.slots);
        if !slots.contains_key(to)
            && let Some(slot) = slots.remove(from)
        {
            slots.insert(to.to_owned(), slot);
        }
    }

    /// The model of this name; `load` brings it and the bytes that it takes.
    ///
    /// # Errors
    /// What `load` says. The next call tries again.
    pub(crate) fn get(&self, name: &str, load: impl FnOnce() -> Result<(Arc<T>, u64)>) -> Result<Arc<T>> {
        let slot = self.slot(name);
        let value = slot.get(load)?;
        let place: Arc<dyn Place> = slot;
        self.budget.drop_idle(Some(&place));
        Ok(value)
    }

    /// Every model that was ever asked for.
    pub(crate) fn health(&self) -> Vec<LoadHealth> {
        self.budget.drop_idle(None);
        let slots = lock(&self.slots);
        let health = |(name, slot): (&String, &Arc<Slot<T>>)| {
            let Facts { state, bytes, load_s, loads, last_error, last_used: _ } = lock(&slot.facts).clone();
            LoadHealth { model: name.clone(), state, bytes, load_s, loads, last_error }
        };
        slots.iter().map(health).collect()
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

    /// The model, loaded where it is not there.
    fn get(&self, load: impl FnOnce() -> Result<(Arc<T>, u64)>) -> Result<Arc<T>> {
        let mut model = lock(&self.model);
        if let Some(model) = &*model {
            lock(&self.facts).last_used = Instant::now();
            return Ok(Arc::clone(&model.value));
        }
        lock(&self.facts).state = LoadState::Loading;
        let start = Instant::now();
        let loaded = load();
        let mut facts = lock(&self.facts);
        (facts.load_s, facts.last_used) = (start.elapsed().as_secs_f64(), Instant::now());
        match loaded {
            Ok((value, bytes)) => {
                (facts.state, facts.bytes, facts.last_error) = (LoadState::Ready, bytes, None);
                facts.loads += 1;
                *model = Some(Model { value: Arc::clone(&value), bytes });
                Ok(value)
            }
            Err(error) => {
                (facts.state, facts.last_error) = (LoadState::Failed, Some(error.to_string()));
                Err(error)
            }
        }
    }
}

impl<T: ?Sized + Send + Sync> Place for Slot<T> {
    fn last_used(&self) -> Instant {
        lock(&self.facts).last_used
    }

    fn bytes(&self) -> u64 {
        lock(&self.facts).bytes
    }

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

    fn loaded() -> Loaded<str> {
        Loaded::within(&Arc::default())
    }

    fn states(models: &Loaded<str>) -> Vec<(String, LoadState)> {
        models.health().into_iter().map(|health| (health.model, health.state)).collect()
    }

    #[test]
    fn callers_of_one_model_wait_for_one_load_and_others_do_not() {
        let (models, loads, barrier) = (loaded(), AtomicUsize::new(0), Barrier::new(2));
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
        let models = loaded();
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
        let models = loaded();
        models.budget.limit(MemoryLimits { bytes_max: Some(250), keep_alive: None });
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
        let models = loaded();
        models.get("m", || text("m")).unwrap();
        models.budget.limit(MemoryLimits { bytes_max: None, keep_alive: Some(Duration::ZERO) });
        assert_eq!(states(&models), [("m".to_owned(), LoadState::Dropped)]);
        assert_eq!(&*models.get("m", || text("again")).unwrap(), "again");
    }
    #[test]
    fn kinds_share_one_budget_and_the_time_is_looked_at_at_each_use() {
        let budget = Arc::new(Budget::default());
        let (texts, lists) = (Loaded::<str>::within(&budget), Loaded::<[u8]>::within(&budget));
        let list = || Ok((Arc::from(&[1][..]), 100));
        budget.limit(MemoryLimits { bytes_max: Some(150), keep_alive: None });
        texts.get("a", || text("a")).unwrap();
        lists.get("a", list).unwrap();
        assert_eq!(states(&texts), [("a".to_owned(), LoadState::Dropped)]);
        let held = texts.get("b", || text("b")).unwrap();
        assert_eq!(lists.health()[0].state, LoadState::Dropped);
        budget.limit(MemoryLimits { bytes_max: None, keep_alive: Some(Duration::ZERO) });
        drop(held);
        for _ in 0..2 {
            drop(lists.get("a", list).unwrap());
            let state = lock(&lists.slot("a").facts).state.clone();
            assert_eq!((state, lock(&texts.slot("b").facts).state.clone()), (LoadState::Ready, LoadState::Dropped));
        }
    }

    #[test]
    fn a_model_is_found_by_its_new_name_and_loaded_once() {
        let models = loaded();
        models.get("short", || text("m")).unwrap();
        models.rename("short", "long");
        let again = models.get("long", || Err(Error::invalid("it is there"))).unwrap();
        assert_eq!((&*again, models.health().len()), ("m", 1));
        models.get("short", || text("n")).unwrap();
        models.rename("short", "long");
        assert_eq!(models.health().len(), 2, "another one of that name is there");
    }
}
