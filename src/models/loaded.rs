//! Which models are in memory, and how are they doing?
//!
//! Loading is single-flight: callers of the same model wait for one load, outside of the lock that others need. What is idle
//! for too long, or least recently used while the bytes are over the budget, is dropped, but never what somebody still
//! holds. Models of several kinds share one budget. No thread watches the time: whoever asks for a model does. Knows
//! nothing of embedding or reranking: it keeps what it is given, and the counters ([`Meter`]) that go with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::meter::{Meter, Usage};
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
    /// Where it runs or ran, `cpu` or `cuda:1`, or `remote`; empty before it was loaded.
    pub device: String,
    /// Bytes of its weights in memory, as far as it says: 0 of a model on a server. What a run needs besides is not counted.
    pub bytes: u64,
    /// Whether that is an estimate: of an ONNX graph the bytes of its files, once for each session.
    pub bytes_estimated: bool,
    /// Seconds that the last load took, a warm-up included.
    pub load_s: f64,
    /// Seconds of these that the warm-up took, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_up_s: Option<f64>,
    /// How often it was loaded.
    pub loads: u64,
    /// Why the last load failed where it did, or else the last call that did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What it has done.
    pub usage: Usage,
}

/// The weight of a model in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) bytes: u64,
    /// Whether nobody knows exactly.
    pub(crate) estimated: bool,
}

/// A model that was loaded.
pub(crate) struct Arrival<T: ?Sized> {
    pub(crate) value: Arc<T>,
    /// Where it runs.
    pub(crate) device: String,
    pub(crate) warm_up_s: Option<f64>,
}

/// Models of one kind, by name.
pub(crate) struct Loaded<T: ?Sized> {
    slots: Mutex<BTreeMap<String, Arc<Slot<T>>>>,
    budget: Arc<Budget>,
    /// What one weighs, now: some grow while they work.
    weigh: fn(&T) -> Footprint,
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
    model: Mutex<Option<Arc<T>>>,
    facts: Mutex<Facts>,
    meter: Arc<Meter>,
    weigh: fn(&T) -> Footprint,
}

/// What can be told without waiting for a load.
#[derive(Clone)]
struct Facts {
    state: LoadState,
    device: String,
    footprint: Footprint,
    load_s: f64,
    warm_up_s: Option<f64>,
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
    pub(crate) fn within(budget: &Arc<Budget>, weigh: fn(&T) -> Footprint) -> Self {
        Self { slots: Mutex::default(), budget: Arc::clone(budget), weigh }
    }

    fn slot(&self, name: &str) -> Arc<Slot<T>> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(name) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot::new(self.weigh));
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

    /// The model of this name; `load` brings it, and has it count what it does.
    ///
    /// # Errors
    /// What `load` says. The next call tries again.
    pub(crate) fn get(&self, name: &str, load: impl FnOnce(&Arc<Meter>) -> Result<Arrival<T>>) -> Result<Arc<T>> {
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
        slots.iter().map(|(name, slot)| slot.health(name)).collect()
    }
}

impl<T: ?Sized> Slot<T> {
    fn new(weigh: fn(&T) -> Footprint) -> Self {
        let facts = Facts {
            state: LoadState::Loading,
            device: String::new(),
            footprint: Footprint::default(),
            load_s: 0.0,
            warm_up_s: None,
            loads: 0,
            last_error: None,
            last_used: Instant::now(),
        };
        Self { model: Mutex::new(None), facts: Mutex::new(facts), meter: Arc::default(), weigh }
    }

    /// The model, loaded where it is not there.
    fn get(&self, load: impl FnOnce(&Arc<Meter>) -> Result<Arrival<T>>) -> Result<Arc<T>> {
        let mut model = lock(&self.model);
        if let Some(model) = &*model {
            lock(&self.facts).last_used = Instant::now();
            return Ok(Arc::clone(model));
        }
        lock(&self.facts).state = LoadState::Loading;
        let start = Instant::now();
        let loaded = load(&self.meter);
        let mut facts = lock(&self.facts);
        (facts.load_s, facts.last_used) = (start.elapsed().as_secs_f64(), Instant::now());
        match loaded {
            Ok(Arrival { value, device, warm_up_s }) => {
                (facts.state, facts.last_error) = (LoadState::Ready, None);
                (facts.device, facts.warm_up_s) = (device, warm_up_s);
                facts.footprint = (self.weigh)(&value);
                facts.loads += 1;
                *model = Some(Arc::clone(&value));
                Ok(value)
            }
            Err(error) => {
                (facts.state, facts.last_error) = (LoadState::Failed, Some(error.to_string()));
                Err(error)
            }
        }
    }

    /// What it weighs now; while it loads, what was last known.
    fn footprint(&self) -> Footprint {
        let now = self.model.try_lock().ok().and_then(|model| model.as_deref().map(self.weigh));
        let mut facts = lock(&self.facts);
        facts.footprint = now.unwrap_or(facts.footprint);
        facts.footprint
    }

    fn health(&self, name: &str) -> LoadHealth {
        let Footprint { bytes, estimated } = self.footprint();
        let Facts { state, device, footprint: _, load_s, warm_up_s, loads, last_error, last_used: _ } =
            lock(&self.facts).clone();
        LoadHealth {
            model: name.to_owned(),
            state,
            device,
            bytes,
            bytes_estimated: estimated,
            load_s,
            warm_up_s,
            loads,
            last_error: last_error.or_else(|| self.meter.last_error()),
            usage: self.meter.usage(),
        }
    }
}

impl<T: ?Sized + Send + Sync> Place for Slot<T> {
    fn last_used(&self) -> Instant {
        lock(&self.facts).last_used
    }

    fn bytes(&self) -> u64 {
        self.footprint().bytes
    }

    fn drop_unused(&self) -> u64 {
        let Ok(mut model) = self.model.try_lock() else { return 0 };
        if model.as_ref().is_none_or(|model| Arc::strong_count(model) > 1) {
            return 0;
        }
        let freed = model.take().map_or(0, |model| (self.weigh)(&model).bytes);
        let mut facts = lock(&self.facts);
        (facts.state, facts.footprint) = (LoadState::Dropped, Footprint::default());
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

    fn arrived<T: ?Sized>(value: Arc<T>) -> Result<Arrival<T>> {
        Ok(Arrival { value, device: "cpu".into(), warm_up_s: None })
    }

    fn text(name: &str) -> Result<Arrival<str>> {
        arrived(name.into())
    }

    fn a_hundred<T: ?Sized>(_: &T) -> Footprint {
        Footprint { bytes: 100, estimated: false }
    }

    fn loaded() -> Loaded<str> {
        Loaded::within(&Arc::default(), a_hundred)
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
                    let load = |_: &_| {
                        loads.fetch_add(1, Ordering::Relaxed);
                        // While this one loads, another is loaded and used.
                        barrier.wait();
                        text("slow")
                    };
                    assert_eq!(&*models.get("slow", load).unwrap(), "slow");
                });
            }
            assert_eq!(&*models.get("other", |_| text("other")).unwrap(), "other");
            barrier.wait();
        });
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn failed_load_is_remembered_and_tried_again() {
        let models = loaded();
        let error = models.get("m", |_| Err(Error::invalid("no such model"))).unwrap_err();
        assert_eq!(error.to_string(), "no such model");
        let health = models.health().remove(0);
        assert_eq!((health.state, health.last_error.as_deref()), (LoadState::Failed, Some("no such model")));
        assert_eq!(&*models.get("m", |_| text("m")).unwrap(), "m");
        let health = models.health().remove(0);
        assert_eq!((health.state, health.loads, health.last_error), (LoadState::Ready, 1, None));
    }

    #[test]
    fn least_recently_used_goes_first_and_what_is_held_never() {
        let models = loaded();
        models.budget.limit(MemoryLimits { bytes_max: Some(250), keep_alive: None });
        let held = models.get("a", |_| text("a")).unwrap();
        for name in ["b", "c", "b", "d"] {
            models.get(name, |_| text(name)).unwrap();
        }
        let dropped = |states: Vec<(String, LoadState)>| -> Vec<String> {
            states.into_iter().filter(|(_, state)| *state == LoadState::Dropped).map(|(name, _)| name).collect()
        };
        // a and d make 200 bytes; b was used after c, but even so 300 were too many.
        assert_eq!(dropped(states(&models)), ["b", "c"]);
        drop(held);
        models.get("b", |_| text("b")).unwrap();
        assert_eq!(dropped(states(&models)), ["a", "c"]);
    }

    #[test]
    fn idle_models_are_dropped_after_their_time_and_come_back() {
        let models = loaded();
        models.get("m", |_| text("m")).unwrap();
        models.budget.limit(MemoryLimits { bytes_max: None, keep_alive: Some(Duration::ZERO) });
        assert_eq!(states(&models), [("m".to_owned(), LoadState::Dropped)]);
        assert_eq!(&*models.get("m", |_| text("again")).unwrap(), "again");
    }
    #[test]
    fn kinds_share_one_budget_and_the_time_is_looked_at_at_each_use() {
        let budget = Arc::new(Budget::default());
        let (texts, lists) = (Loaded::<str>::within(&budget, a_hundred), Loaded::<[u8]>::within(&budget, a_hundred));
        let list = |_: &_| arrived(Arc::from(&[1][..]));
        budget.limit(MemoryLimits { bytes_max: Some(150), keep_alive: None });
        texts.get("a", |_| text("a")).unwrap();
        lists.get("a", list).unwrap();
        assert_eq!(states(&texts), [("a".to_owned(), LoadState::Dropped)]);
        let held = texts.get("b", |_| text("b")).unwrap();
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
        models.get("short", |_| text("m")).unwrap();
        models.rename("short", "long");
        let again = models.get("long", |_| Err(Error::invalid("it is there"))).unwrap();
        assert_eq!((&*again, models.health().len()), ("m", 1));
        models.get("short", |_| text("n")).unwrap();
        models.rename("short", "long");
        assert_eq!(models.health().len(), 2, "another one of that name is there");
    }

    #[test]
    fn weight_is_asked_anew_and_use_outlives_the_model() {
        let models: Loaded<AtomicUsize> = Loaded::within(&Arc::default(), |bytes| Footprint {
            bytes: bytes.load(Ordering::Relaxed) as u64,
            estimated: true,
        });
        let load = |meter: &Arc<Meter>| {
            meter.call(crate::models::Kind::Queries, 3, || Ok(()))?;
            Ok(Arrival { value: Arc::new(AtomicUsize::new(7)), device: "cuda:1".into(), warm_up_s: Some(0.5) })
        };
        let growing = models.get("m", load).unwrap();
        growing.store(70, Ordering::Relaxed);
        drop(growing);
        let health = models.health().remove(0);
        assert_eq!((health.bytes, health.bytes_estimated, health.device.as_str()), (70, true, "cuda:1"));
        assert_eq!((health.warm_up_s, health.usage.texts), (Some(0.5), 3));
        models.budget.limit(MemoryLimits { bytes_max: Some(0), keep_alive: None });
        models.get("m", load).unwrap();
        let health = models.health().remove(0);
        assert_eq!((health.state, health.bytes, health.loads, health.usage.texts), (LoadState::Dropped, 0, 2, 6));
    }
}
