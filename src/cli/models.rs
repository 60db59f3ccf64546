//! Which models are there, which fields does it have, and which file says so?

use std::path::Path;

use anyhow::Result;
use quiverdb::embed::ModelSpec;
use quiverdb::embed::builtin::{Provenance, StaticEmbedder};
use quiverdb::{Embedder as _, embed};
use serde::Serialize;
use serde_json::{Map, Value};

use super::args::ModelsVerb;
use super::distill;
use super::output::{FAINT, Table, harmless, plain, styled, thousands};
use super::session::{Outcome, Session};

/// `quiver models`.
pub(crate) fn run(session: &Session, verb: Option<ModelsVerb>) -> Result<Outcome> {
    match verb.unwrap_or(ModelsVerb::List) {
        ModelsVerb::List => list(session),
        ModelsVerb::Show { model, backend } => show(session, &backend.model(&model)?),
        ModelsVerb::Distill(arguments) => distill::run(session, &arguments),
    }
}

fn list(session: &Session) -> Result<Outcome> {
    let builtin = StaticEmbedder::builtin();
    let specs = [builtin.spec()];
    session.output.show(&specs, &specs, || {
        let mut table = Table::new(&["model", "backend", ">dims", ">max tokens", "made from"]);
        let spec = builtin.spec();
        let teacher = builtin.provenance().map(|provenance| provenance.teacher.clone()).unwrap_or_default();
        let (dims, tokens) = (thousands(spec.dims as u64), thousands(spec.max_tokens as u64));
        table.row([spec.id.clone(), spec.backend.clone(), dims, tokens, teacher]);
        table.render() + "Any directory of a sentence-transformers or model2vec model is one, too: `--model DIR`\n"
    })?;
    Ok(Outcome::Done)
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
    let path = Path::new(model);
    if model == "builtin" {
        return show_static(session, &StaticEmbedder::builtin(), "in the binary");
    }
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
