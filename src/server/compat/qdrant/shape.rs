//! How is a collection of ours one of Qdrant's, and back?
//!
//! A collection with one vector a point has it in its default space. One whose vectors have names has them in further spaces;
//! its default space then holds [`FILLER`] for every point, because ours has none without. Collections that were made
//! otherwise are shown alike; what a text of theirs is cut into answers as one point, the document.

use std::sync::atomic::AtomicBool;

use quiverdb_storage::Metric;
use serde_json::{Map, Value, json};

use super::scope::LookedAt;
use crate::server::app::{Answer, App};
use crate::server::failure::Failure;
use crate::types::SpaceStats;
use crate::{Collection, CollectionConfig, Snapshot, SpaceConfig};

/// What every point has in the default space of a collection whose vectors have names.
pub(super) const FILLER: [f32; 1] = [1.0];
/// The space that every collection has.
pub(super) const DEFAULT: &str = "default";
/// What a space without a model says its model is.
const EXTERNAL: &str = "external";

/// A collection as Qdrant's clients see it.
pub(super) struct Shape {
    pub(super) collection: Collection,
    pub(super) snapshot: Snapshot,
    pub(super) spaces: Vec<SpaceStats>,
    /// The names of its vectors; empty for the one that needs none.
    pub(super) vectors: Vec<String>,
}

impl Shape {
    /// A collection that must exist, as it is now.
    pub(super) fn of(app: &App, name: &str) -> Answer<Self> {
        if !app.database.has_collection(name)? {
            return Err(missing(name));
        }
        let collection = app.collection(name)?;
        let snapshot = collection.snapshot()?;
        let spaces = snapshot.spaces();
        let has_names = is_filler(&spaces);
        let shown = spaces.iter().filter(|space| !(has_names && space.name == DEFAULT));
        let vectors =
            shown.map(|space| if space.name == DEFAULT { String::new() } else { space.name.clone() }).collect();
        Ok(Self { collection, snapshot, spaces, vectors })
    }

    /// What is looked at until nobody waits for it.
    pub(super) fn looked_at<'a>(&'a self, cancel: &'a AtomicBool) -> LookedAt<'a> {
        LookedAt { snapshot: &self.snapshot, vectors: &self.vectors, cancel }
    }

    /// Whether its vectors have names.
    pub(super) fn has_names(&self) -> bool {
        is_filler(&self.spaces)
    }

    /// Whether vectors are told by name: there are others than the one that needs none.
    pub(super) fn is_named(&self) -> bool {
        self.vectors.iter().any(|name| !name.is_empty())
    }

    /// Whether its documents are texts that its own model reads.
    pub(super) fn has_texts(&self) -> bool {
        self.spaces.iter().any(|space| space.name == DEFAULT && has_model(space))
    }

    /// The space of a vector, with its place.
    pub(super) fn space(&self, using: Option<&str>) -> Answer<(usize, &SpaceStats)> {
        let name = using.unwrap_or_default();
        let wanted = if name.is_empty() { DEFAULT } else { name };
        let found = self.spaces.iter().enumerate().find(|(_, space)| space.name == wanted);
        found.filter(|(_, space)| !(space.name == DEFAULT && self.has_names())).ok_or_else(|| {
            let there: Vec<String> = self.vectors.iter().map(|name| format!("`{name}`")).collect();
            Failure::invalid(format!(
                "Wrong input: Not existing vector name error: `{name}`; the collection has {}",
                there.join(", ")
            ))
        })
    }
}

/// There is no such collection.
pub(super) fn missing(name: &str) -> Failure {
    Failure::of("collection_not_found", format!("Not found: Collection `{name}` doesn't exist!"))
}

/// Whether a model makes the vectors of a space.
pub(super) fn has_model(space: &SpaceStats) -> bool {
    space.model != EXTERNAL
}

fn is_filler(spaces: &[SpaceStats]) -> bool {
    let filler = |space: &SpaceStats| space.name == DEFAULT && !has_model(space) && space.dims == FILLER.len();
    spaces.len() > 1 && spaces.iter().any(filler)
}

/// The configuration that `PUT /collections/{c}` asks for.
pub(super) fn configuration(vectors: &Value) -> Answer<CollectionConfig> {
    let config = CollectionConfig::new();
    let object = vectors.as_object().filter(|object| !object.is_empty());
    let object = object.ok_or_else(|| {
        Failure::invalid(
            "a collection needs `vectors`: {\"size\": .., \"distance\": ..}, or such an object for each name",
        )
    })?;
    if object.contains_key("size") || object.contains_key("distance") {
        let (size, metric) = parameters(vectors)?;
        return Ok(config.external(size).metric(metric));
    }
    let mut config = match object.get("") {
        None => config.external(FILLER.len()).metric(Metric::Dot),
        Some(vector) => {
            let (size, metric) = parameters(vector)?;
            if size == FILLER.len() && object.len() > 1 {
                return Err(Failure::invalid("a vector without a name beside others needs 2 numbers or more here"));
            }
            config.external(size).metric(metric)
        }
    };
    for (name, vector) in object.iter().filter(|(name, _)| !name.is_empty()) {
        if name == DEFAULT {
            return Err(Failure::invalid("a vector cannot be called `default` here; give it another name"));
        }
        let (size, metric) = parameters(vector)?;
        config = config.space(name, SpaceConfig::external(size).metric(metric));
    }
    Ok(config)
}

/// Size and distance of a vector. How it is indexed is ours to know; what would change what is stored is refused.
fn parameters(vector: &Value) -> Answer<(usize, Metric)> {
    const TUNING: [&str; 4] = ["hnsw_config", "quantization_config", "on_disk", "memory"];
    let object = vector.as_object().ok_or_else(|| Failure::invalid("a vector is {\"size\": .., \"distance\": ..}"))?;
    for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
        let is_known = ["size", "distance"].contains(&key.as_str()) || TUNING.contains(&key.as_str());
        let is_usual = key == "datatype" && value == "float32";
        if !(is_known || is_usual) {
            let message = format!("`{key}` of a vector is not supported here ({value}); vectors are dense and float32");
            return Err(Failure::invalid(message));
        }
    }
    let size = vector["size"].as_u64().and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
    let size = size.ok_or_else(|| Failure::invalid(format!("`size` must be 1 or more; got {}", vector["size"])))?;
    let metric = match vector["distance"].as_str() {
        Some("Cosine") => Metric::Cosine,
        Some("Dot") => Metric::Dot,
        Some("Euclid") => Metric::L2,
        _ => {
            let message =
                format!("the distance {} is not supported here; there are Cosine, Dot and Euclid", vector["distance"]);
            return Err(Failure::invalid(message));
        }
    };
    Ok((size, metric))
}

/// What `GET /collections/{c}` tells. Of the indexes it tells what clients insist on: there is nothing to tune.
pub(super) fn information(shape: &Shape) -> Answer<Value> {
    let stats = shape.collection.stats()?;
    let of_space = |name: &String| {
        let (_, space) = shape.space(Some(name)).ok()?;
        let distance = match space.metric {
            Metric::Cosine => "Cosine",
            Metric::Dot => "Dot",
            Metric::L2 => "Euclid",
        };
        Some((name.clone(), json!({"size": space.dims, "distance": distance})))
    };
    let vectors: Map<String, Value> = shape.vectors.iter().filter_map(of_space).collect();
    let vectors = match vectors.get("").filter(|_| vectors.len() == 1) {
        Some(only) => only.clone(),
        None => Value::Object(vectors),
    };
    Ok(json!({
        "status": "green",
        "optimizer_status": "ok",
        "points_count": stats.documents,
        "indexed_vectors_count": stats.chunks,
        "segments_count": stats.segments,
        "config": {
            "params": {
                "vectors": vectors,
                "shard_number": 1,
                "replication_factor": 1,
                "write_consistency_factor": 1,
                "on_disk_payload": true,
            },
            // The graph's: 16 neighbours. It has no list of candidates to build with, and segments below 8,192 vectors have none.
            "hnsw_config": {"m": 16, "ef_construct": 0, "full_scan_threshold": 0},
            "optimizer_config": {"default_segment_number": 0, "flush_interval_sec": 0},
        },
        "payload_schema": {},
    }))
}
