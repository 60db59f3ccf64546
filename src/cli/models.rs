//! Which models are there, which fields does it have, and which file says so?

use std::path::Path;

use anyhow::Result;
use quiverdb::embed::ModelSpec;
use quiverdb::embed::builtin::{Provenance, StaticEmbedder};
use quiverdb::models::registry::{self, Entry, Purpose};
use quiverdb::models::{LoadHealth, ModelOptions};
use quiverdb::{Database, Embedder as _, embed};
use serde::Serialize;
use serde_json::{Map, Value};

use super::args::ModelsVerb;
use super::output::{FAINT, duration, harmless, plain, size, styled, thousands};
use super::session::{Mistake, Outcome, Session};
use super::{distill, hub};

/// `quiver models`.
pub(crate) fn run(session: &Session, verb: Option<ModelsVerb>) -> Result<Outcome> {
    match verb.unwrap_or(ModelsVerb::List) {
        ModelsVerb::List => hub::list(session),
        ModelsVerb::Show { model, backend, load } => show(session, &backend.model(&model)?, load),
        ModelsVerb::Pull(arguments) => hub::pull(session, &arguments),
        ModelsVerb::Verify { model } => hub::verify(session, &model),
        ModelsVerb::Remove { model } => hub::remove(session, &model),
        ModelsVerb::Distill(arguments) => distill::run(session, &arguments),
    }
}

/// One fact about a model, and where it comes from.
#[derive(Serialize)]
struct Field {
    field: String,
    value: String,
    source: String,
}

impl Field {
    fn new(field: impl Into<String>, value: impl Into<String>, source: impl Into<String>) -> Self {
        Self { field: field.into(), value: value.into(), source: source.into() }
    }
}

fn show(session: &Session, model: &str, load: bool) -> Result<Outcome> {
    let shown = shown(session, model)?;
    let health = if load { Some(loaded(session, model)?) } else { None };
    print(session, shown, health)
}

/// What the model's files say; of a well-known one that is not on this machine, what is known of it.
fn shown(session: &Session, model: &str) -> Result<Shown> {
    if model == "builtin" {
        return of_static(&StaticEmbedder::builtin(), "in the binary");
    }
    if quiverdb::models::is_url(model) {
        let embedder = session.model(model)?;
        return Shown::of(embedder.spec(), spec_fields(embedder.spec(), "the URL, or the server")?);
    }
    let path = Path::new(model);
    if path.is_file() && path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("onnx")) {
        return of_static(&StaticEmbedder::from_table_file(path)?, "the table");
    }
    if let Some(entry) = absent(model) {
        return known(entry);
    }
    match embed::explain(model, &session.runtime) {
        Ok((spec, told)) => {
            let told = told.into_iter().map(|(field, value, source)| Field { field, value, source });
            Shown::of(&spec, told.collect())
        }
        // A static model lies in other files; if it is none either, what was wrong with the encoder says more.
        Err(no_encoder) => match session.model(model) {
            Ok(embedder) => Shown::of(embedder.spec(), spec_fields(embedder.spec(), "the model's files")?),
            Err(_) => Err(no_encoder.into()),
        },
    }
}

fn of_static(embedder: &StaticEmbedder, place: &str) -> Result<Shown> {
    let mut fields = spec_fields(embedder.spec(), place)?;
    if let Some(Provenance { name, teacher, licence, made_with }) = embedder.provenance() {
        let origin = [("name", name), ("teacher", teacher), ("licence", licence), ("made_with", made_with)];
        fields.extend(origin.map(|(field, value)| Field::new(field, value, place)));
    }
    Shown::of(embedder.spec(), fields)
}

fn spec_fields(spec: &ModelSpec, source: &str) -> Result<Vec<Field>> {
    // By way of text, because a number widened to f64 shows digits that nobody wrote.
    let shown: Map<String, Value> = serde_json::from_str(&serde_json::to_string(spec)?)?;
    Ok(shown.iter().map(|(field, value)| Field::new(field, plain(value), source)).collect())
}

/// A model that was asked for by a well-known name and is not in the cache. It would have to be fetched to be looked at.
fn absent(model: &str) -> Option<&'static Entry> {
    let name = model.split_once('@').map_or(model, |(name, _)| name);
    let entry = registry::find(name).filter(|_| !Path::new(model).exists())?;
    quiverdb::models::locate(model, false).is_err().then_some(entry)
}

fn known(entry: &'static Entry) -> Result<Shown> {
    const SOURCE: &str = "well-known models, by their cards";
    let shown: Map<String, Value> = serde_json::from_str(&serde_json::to_string(entry)?)?;
    let mut fields: Vec<Field> = shown.iter().map(|(field, value)| Field::new(field, plain(value), SOURCE)).collect();
    let pull = format!("no: `quiver models pull {}` fetches it", entry.id);
    fields.push(Field::new("on this machine", pull, "the cache"));
    Ok(Shown { spec: None, known: Some(entry), fields, health: None })
}

/// Loads a model, warms it up, and runs it once more in each shape.
fn loaded(session: &Session, model: &str) -> Result<LoadHealth> {
    let database = Database::in_memory()?.with_runtime(session.runtime.clone());
    let database = database.with_model_options(ModelOptions::new().warm_up(true));
    database.warm_up(model, Purpose::Embed)?;
    let health = database.models().into_iter().next();
    Ok(health.ok_or_else(|| Mistake::new(format!("`{model}` was not loaded")))?)
}

/// A model in JSON.
#[derive(Serialize)]
struct Shown {
    spec: Option<ModelSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    known: Option<&'static Entry>,
    fields: Vec<Field>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<LoadHealth>,
}

impl Shown {
    fn of(spec: &ModelSpec, fields: Vec<Field>) -> Result<Self> {
        Ok(Self { spec: Some(spec.clone()), known: None, fields, health: None })
    }
}

/// What was measured, for people.
fn health_fields(health: &LoadHealth) -> Vec<Field> {
    let source = "measured now";
    let LoadHealth { device, bytes, bytes_estimated, load_s, warm_up_s, usage, .. } = health;
    let estimate = if *bytes_estimated { "an estimate: its files, once for each session" } else { "its weights" };
    let mut fields = vec![
        Field::new("runs on", device, source),
        Field::new("memory", size(*bytes), estimate),
        Field::new("load", duration(load_s * 1e3), source),
    ];
    fields.extend(warm_up_s.map(|seconds| Field::new("of this warm-up", duration(seconds * 1e3), source)));
    fields.push(Field::new("a query", duration(usage.queries.p50_ms), source));
    fields.extend(usage.tokens_per_s.map(|tokens| Field::new("tokens/s", thousands(tokens.round() as u64), source)));
    fields
}

fn print(session: &Session, mut shown: Shown, health: Option<LoadHealth>) -> Result<Outcome> {
    let measured = health.as_ref().map(health_fields).unwrap_or_default();
    shown.health = health;
    session.output.show(&shown, &shown.fields, || {
        let fields = || shown.fields.iter().chain(&measured);
        let widest = fields().map(|field| field.field.chars().count()).max().unwrap_or(0);
        let line = |field: &Field| {
            let source = styled(FAINT, &format!("[{}]", harmless(&field.source)));
            format!("{:<widest$}  {}  {source}\n", field.field, harmless(&field.value))
        };
        fields().map(line).collect()
    })?;
    Ok(Outcome::Done)
}
