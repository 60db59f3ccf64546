//! What has the server done, in numbers that Prometheus reads?
//!
//! Invariants: counting costs a request no lock that another one holds for long, and a scrape reads the database once; labels
//! are route templates, methods, statuses, and names of models and collections, never what a client made up; times are in
//! seconds, and no text of a document is anywhere.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::Database;
use crate::models::{LoadHealth, LoadState};
use crate::types::{CollectionStats, Timings};

/// Of more collections or models than this, the first are told.
const NAMES_MAX: usize = 1_000;
/// The label of a path that is no route.
pub(super) const NO_ROUTE: &str = "none";

/// The numbers of a server.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Asked, Counter>,
    request_seconds: Family<Route, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    connections: Gauge,
    stage_seconds: Family<Stage, Histogram, fn() -> Histogram>,
    waiting: Family<Lane, Gauge>,
    running: Family<Lane, Gauge>,
    refused: Family<Lane, Counter>,
    wait_seconds: Family<Lane, Histogram, fn() -> Histogram>,
    call_seconds: Family<Lane, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stage {
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lane {
    lane: &'static str,
}

/// Counts one for as long as it lives.
pub(super) struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// From a search of a ready vector to the longest answer.
fn seconds() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0])
}

impl Metrics {
    /// Those of this database's server.
    pub(super) fn new(database: &Database) -> Self {
        let timed = || Family::new_with_constructor(seconds as fn() -> Histogram);
        let mut this = Self {
            registry: Registry::with_prefix("quiver"),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            stage_seconds: Family::new_with_constructor(seconds),
            waiting: Family::default(),
            running: Family::default(),
            refused: Family::default(),
            wait_seconds: timed(),
            call_seconds: timed(),
        };
        let Self { registry, requests, request_seconds, in_flight, connections, stage_seconds, .. } = &mut this;
        registry.register("http_requests", "Requests, by method, route and status", requests.clone());
        registry.register("http_request_seconds", "Until the head of the answer", request_seconds.clone());
        registry.register("http_requests_in_flight", "Requests without an answer yet", in_flight.clone());
        registry.register("http_connections", "Open connections", connections.clone());
        registry.register("search_stage_seconds", "Stages of searches", stage_seconds.clone());
        let Self { registry, waiting, running, refused, wait_seconds, call_seconds, .. } = &mut this;
        registry.register("calls_waiting", "Calls of the database that wait for their turn", waiting.clone());
        registry.register("calls_running", "Calls of the database at work", running.clone());
        registry.register("calls_refused", "Calls that were told to come again", refused.clone());
        registry.register("call_wait_seconds", "How long calls waited for their turn", wait_seconds.clone());
        registry.register("call_seconds", "How long calls worked", call_seconds.clone());
        registry.register_collector(Box::new(Holdings(database.clone())));
        this
    }

    /// A connection came; it goes when this is dropped.
    pub(super) fn connected(&self) -> Counted {
        Counted::new(&self.connections)
    }

    /// A request came; it is answered, or given up, when this is dropped.
    pub(super) fn asked(&self) -> Counted {
        Counted::new(&self.in_flight)
    }

    /// A request was answered. `route` is a template, or [`NO_ROUTE`].
    pub(super) fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let method = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
            .into_iter()
            .find(|known| *known == method)
            .unwrap_or("other");
        self.requests.get_or_create(&Asked { method, route: route.to_owned(), status }).inc();
        self.request_seconds.get_or_create(&Route { route: route.to_owned() }).observe(took.as_secs_f64());
    }

    /// A search was done, which is also told at `debug`.
    pub(super) fn searched(&self, timings_ms: &Timings) {
        let Timings { embed, filter, retrieve, fuse, rerank, hydrate, total } = *timings_ms;
        let stages = [
            ("embed", embed),
            ("filter", filter),
            ("retrieve", retrieve),
            ("fuse", fuse),
            ("rerank", rerank),
            ("hydrate", hydrate),
            ("total", total),
        ];
        for (stage, milliseconds) in stages {
            self.stage_seconds.get_or_create(&Stage { stage }).observe(milliseconds / 1_000.0);
        }
        tracing::debug!(embed, filter, retrieve, fuse, rerank, hydrate, total, "searched, in milliseconds");
    }

    /// A call waits for its turn, until this is dropped.
    pub(super) fn waits(&self, lane: &'static str) -> Counted {
        Counted::new(&self.waiting.get_or_create(&Lane { lane }))
    }

    /// A call has its turn, which ends when this is dropped.
    pub(super) fn runs(&self, lane: &'static str, waited: Duration) -> Counted {
        self.wait_seconds.get_or_create(&Lane { lane }).observe(waited.as_secs_f64());
        Counted::new(&self.running.get_or_create(&Lane { lane }))
    }

    /// A call is done.
    pub(super) fn ran(&self, lane: &'static str, took: Duration) {
        self.call_seconds.get_or_create(&Lane { lane }).observe(took.as_secs_f64());
    }

    /// A call was told to come again.
    pub(super) fn refused(&self, lane: &'static str) {
        self.refused.get_or_create(&Lane { lane }).inc();
    }

    /// All of it, in OpenMetrics. Reads the database.
    pub(super) fn print(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// What the database holds, read when somebody asks.
struct Holdings(Database);

impl fmt::Debug for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Holdings")
    }
}

impl Collector for Holdings {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        match self.0.collections() {
            Ok(collections) => page.collections(&collections)?,
            Err(error) => tracing::warn!(%error, "the collections cannot be counted"),
        }
        if let Ok(cache) = self.0.embedding_cache() {
            let count = |value: u64| [((), value as f64)];
            page.counter("embedding_cache_hits", "Texts whose vector was kept", count(cache.hits))?;
            page.counter("embedding_cache_misses", "Texts whose vector was not kept", count(cache.misses))?;
        }
        page.models(&self.0.models())?;
        page.process()
    }
}

/// Where numbers that are read are written.
struct Page<'a>(DescriptorEncoder<'a>);

/// The labels of a number that is read: none, or one or two.
trait Labels {
    fn labels(&self) -> Vec<(&'static str, String)>;
}

impl Labels for () {
    fn labels(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

impl<const N: usize> Labels for [(&'static str, &str); N] {
    fn labels(&self) -> Vec<(&'static str, String)> {
        self.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    }
}

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (impl Labels, f64)>) -> fmt::Result {
        self.write(name, help, values, ConstGauge::new)
    }

    fn counter(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (impl Labels, f64)>) -> fmt::Result {
        self.write(name, help, values, ConstCounter::new)
    }

    fn write<M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (impl Labels, f64)>,
        metric: impl Fn(f64) -> M,
    ) -> fmt::Result {
        let mut values = values.into_iter().take(NAMES_MAX).peekable();
        if values.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, metric(0.0).metric_type())?;
        for (labels, value) in values {
            let labels = labels.labels();
            if labels.is_empty() {
                return metric(value).encode(family);
            }
            metric(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn collections(&mut self, collections: &[CollectionStats]) -> fmt::Result {
        type Number = fn(&CollectionStats) -> u64;
        let numbers: [(&str, &str, Number); 3] = [
            ("collection_documents", "Live documents", |stats| stats.documents),
            ("collection_chunks", "Live chunks", |stats| stats.chunks),
            ("collection_segments", "Sealed segments", |stats| stats.segments),
        ];
        for (name, help, number) in numbers {
            self.gauge(
                name,
                help,
                collections.iter().map(|stats| ([("collection", stats.name.as_str())], number(stats) as f64)),
            )?;
        }
        let failed = |stats: &CollectionStats| f64::from(u8::from(stats.sealing_error.is_some()));
        let failing = collections.iter().map(|stats| ([("collection", stats.name.as_str())], failed(stats)));
        self.gauge("collection_sealing_failed", "1 where the last segment could not be built", failing)?;
        // Collections share one file.
        let bytes = collections.first().map_or(0, |stats| stats.bytes_on_disk);
        self.gauge("database_bytes", "Bytes of the database on disk; 0 without a collection", [((), bytes as f64)])
    }

    fn models(&mut self, models: &[LoadHealth]) -> fmt::Result {
        let states = models.iter().flat_map(|model| {
            let now = state(&model.state);
            ["loading", "ready", "failed", "dropped"].into_iter().map(move |state| {
                ([("model", model.model.as_str()), ("state", state)], f64::from(u8::from(state == now)))
            })
        });
        self.gauge("model_state", "1 of the state that a model is in", states)?;
        fn of(
            models: &[LoadHealth],
            number: impl Fn(&LoadHealth) -> Option<f64>,
        ) -> impl Iterator<Item = ([(&'static str, &str); 1], f64)> {
            models.iter().filter_map(move |model| Some(([("model", model.model.as_str())], number(model)?)))
        }
        self.gauge("model_bytes", "Bytes of its weights in memory", of(models, |model| Some(model.bytes as f64)))?;
        self.gauge(
            "model_tokens_per_second",
            "Tokens for each second with a call under way",
            of(models, |model| model.usage.tokens_per_s),
        )?;
        type Number = fn(&LoadHealth) -> Option<f64>;
        // Texts for each run are the fill of batches.
        let counters: [(&str, &str, Number); 6] = [
            ("model_calls", "Calls", |model| Some(model.usage.requests as f64)),
            ("model_failures", "Calls that failed", |model| Some(model.usage.failures as f64)),
            ("model_texts", "Texts, pictures and passages of all calls", |model| Some(model.usage.texts as f64)),
            ("model_runs", "Runs of the model; texts for each are the fill of its batches", |model| {
                Some(model.usage.runs as f64)
            }),
            ("model_tokens", "Tokens that it read", |model| Some(model.usage.tokens? as f64)),
            ("model_busy_seconds", "Seconds with a call under way", |model| Some(model.usage.busy_s)),
        ];
        for (name, help, number) in counters {
            self.counter(name, help, of(models, number))?;
        }
        Ok(())
    }

    /// What the system says of the process, where it says so in a file.
    fn process(&mut self) -> fmt::Result {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kilobytes = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        let resident = kilobytes.map(|kilobytes| ((), (kilobytes << 10) as f64));
        self.gauge("process_resident_bytes", "Bytes of the process in memory", resident)?;
        let files = std::fs::read_dir("/proc/self/fd").ok().map(|files| ((), files.count() as f64));
        self.gauge("process_open_files", "Open files and sockets of the process", files)
    }
}

fn state(state: &LoadState) -> &'static str {
    match state {
        LoadState::Loading => "loading",
        LoadState::Ready => "ready",
        LoadState::Failed => "failed",
        LoadState::Dropped => "dropped",
    }
}
