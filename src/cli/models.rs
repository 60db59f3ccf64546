//! Which models are there, which fields does it have, and which file says so?

use std::path::Path;

use anyhow::Result;
use quiverdb::embed::ModelSpec;
use quiverdb::embed::builtin::{Provenance, StaticEmbedder};
use quiverdb::{Embedder as _, embed};
use serde::Serialize;
use serde_json::{Map, Value};

use super::args::ModelsVerb;
use super::output::{FAINT, harmless, plain, styled};
use super::session::{Outcome, Session};
use super::{distill, hub};

/// `quiver models`.
pub(crate) fn run(session: &Session, verb: Option<ModelsVerb>) -> Result<Outcome> {
    match verb.unwrap_or(ModelsVerb::List) {
        ModelsVerb::List => hub::list(session),
        ModelsVerb::Show { model, backend } => show(session, &backend.model(&model)?),
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

fn show(session: &Session, model: &str) -> Result<Outcome> {
    if model == "builtin" {
        return show_static(session, &StaticEmbedder::builtin(), "in the binary");
    }
    if quiverdb::models::is_url(model) {
        let embedder = session.model(model)?;
        return print(session, embedder.spec(), &spec_fields(embedder.spec(), "the URL, or the server")?);
    }
    let path = Path::new(model);
    if path.is_file() && path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("onnx")) {
        return show_static(session, &StaticEmbedder::from_table_file(path)?, "the table");
    }
    match embed::explain(model, &session.runtime) {
        Ok((spec, told)) => {
            let told = told.into_iter().map(|(field, value, source)| Field { field, value, source });
            print(session, &spec, &told.collect::<Vec<_>>())
        }
        // A static model lies in other files; if it is none either, what was wrong with the encoder says more.
        Err(no_encoder) => match session.model(model) {
            Ok(embedder) => print(session, embedder.spec(), &spec_fields(embedder.spec(), "the model's files")?),
            Err(_) => Err(no_encoder.into()),
        },
    }
}

fn show_static(session: &Session, embedder: &StaticEmbedder, place: &str) -> Result<Outcome> {
    let mut fields = spec_fields(embedder.spec(), place)?;
    if let Some(Provenance { name, teacher, licence, made_with }) = embedder.provenance() {
        let origin = [("name", name), ("teacher", teacher), ("licence", licence), ("made_with", made_with)];
        fields.extend(origin.map(|(field, value)| Field::new(field, value, place)));
    }
    print(session, embedder.spec(), &fields)
}

fn spec_fields(spec: &ModelSpec, source: &str) -> Result<Vec<Field>> {
    // By way of text, because a number widened to f64 shows digits that nobody wrote.
    let shown: Map<String, Value> = serde_json::from_str(&serde_json::to_string(spec)?)?;
    Ok(shown.iter().map(|(field, value)| Field::new(field, plain(value), source)).collect())
}

/// A model in JSON.
#[derive(Serialize)]
struct Shown<'a> {
    spec: &'a ModelSpec,
    fields: &'a [Field],
}

fn print(session: &Session, spec: &ModelSpec, fields: &[Field]) -> Result<Outcome> {
    session.output.show(&Shown { spec, fields }, fields, || {
        let widest = fields.iter().map(|field| field.field.chars().count()).max().unwrap_or(0);
        let line = |field: &Field| {
            let source = styled(FAINT, &format!("[{}]", harmless(&field.source)));
            format!("{:<widest$}  {}  {source}\n", field.field, harmless(&field.value))
        };
        fields.iter().map(line).collect()
    })?;
    Ok(Outcome::Done)
}
