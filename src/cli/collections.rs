//! Which collections are there, and how is one made?

use anyhow::Result;
use quiverdb::CollectionConfig;
use serde_json::{Value, json};

use super::args::{CollectionsVerb, CreateCollection, NamedSpace};
use super::operate::table;
use super::output::{FAINT, styled};
use super::session::{Mistake, Outcome, Session};

/// `quiver collections`.
pub(crate) fn run(session: &Session, verb: Option<CollectionsVerb>) -> Result<Outcome> {
    match verb.unwrap_or(CollectionsVerb::List) {
        CollectionsVerb::List => list(session),
        CollectionsVerb::Create(arguments) => create(session, &arguments),
        CollectionsVerb::Show { name } => show(session, &name),
        CollectionsVerb::Drop { name } => {
            session.existing()?.drop_collection(&name)?;
            said(session, &json!({"dropped": name}), format!("dropped `{name}`"))
        }
        CollectionsVerb::Rename { from, to } => {
            session.existing()?.rename_collection(&from, &to)?;
            said(session, &json!({"renamed": from, "to": to}), format!("renamed `{from}` to `{to}`"))
        }
        CollectionsVerb::Alias { alias, target } => {
            session.existing()?.alias(&alias, &target)?;
            said(session, &json!({"alias": alias, "of": target}), format!("`{alias}` is `{target}` from now on"))
        }
        CollectionsVerb::Unalias { alias } => {
            session.existing()?.remove_alias(&alias)?;
            said(session, &json!({"removed": alias}), format!("`{alias}` is no alias any more"))
        }
    }
}

fn said(session: &Session, value: &Value, people: String) -> Result<Outcome> {
    session.output.show(value, std::slice::from_ref(value), || people)?;
    Ok(Outcome::Done)
}

fn list(session: &Session) -> Result<Outcome> {
    let collections = session.existing()?.collections()?;
    session.output.show(&collections, &collections, || table(&collections))?;
    Ok(Outcome::Done)
}

fn create(session: &Session, arguments: &CreateCollection) -> Result<Outcome> {
    let config = config(arguments)?;
    let database = session.existing_or_new(&arguments.name, &config)?;
    if database.has_collection(&arguments.name)? {
        let message = format!("collection `{}` exists already", arguments.name);
        let hint = format!("`quiver collections show {}` prints its settings, `drop` makes room", arguments.name);
        return Err(Mistake::new(message).hint(hint).into());
    }
    let described = database.collection_with(&arguments.name, config)?.describe();
    said(session, &described, format!("created `{}`\n{}", arguments.name, outline(&described)))
}

fn config(arguments: &CreateCollection) -> Result<CollectionConfig> {
    let CreateCollection {
        name: _,
        model,
        backend,
        dims,
        metric,
        spaces,
        chunk_tokens,
        chunk_overlap,
        chunker,
        language,
    } = arguments;
    let model = backend.model(model)?;
    let mut config = match (model.as_str(), dims) {
        ("external", Some(dims)) => CollectionConfig::new().external(*dims),
        ("external", None) => {
            let message = "external vectors have no model to say their dimensions";
            return Err(Mistake::new(message).hint("add `--dims N`").into());
        }
        (model, Some(dims)) => CollectionConfig::new().model(model).dimensions(*dims),
        (model, None) => CollectionConfig::new().model(model),
    };
    config = match metric {
        Some(metric) => config.metric(*metric),
        None => config,
    };
    config =
        spaces.iter().cloned().fold(config, |config, NamedSpace { name, config: space }| config.space(name, space));
    config = match chunk_tokens {
        Some(tokens) => config.chunk_tokens(*tokens),
        None => config,
    };
    config = match chunk_overlap {
        Some(tokens) => config.chunk_overlap(*tokens),
        None => config,
    };
    config = match chunker {
        Some(chunker) => config.chunker(*chunker),
        None => config,
    };
    Ok(match language {
        Some(language) => config.language(*language),
        None => config,
    })
}

fn show(session: &Session, name: &str) -> Result<Outcome> {
    let described = session.collection(name)?.describe();
    said(session, &described, outline(&described))
}

/// A JSON value as indented lines of `key: value`.
fn outline(value: &Value) -> String {
    let mut lines = String::new();
    write_outline(value, 0, &mut lines);
    lines
}

fn write_outline(value: &Value, depth: usize, lines: &mut String) {
    let entries: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return,
    };
    for (key, value) in entries {
        let label = styled(FAINT, &format!("{key}:"));
        let indent = "  ".repeat(depth);
        match value {
            Value::Object(_) | Value::Array(_) => {
                *lines += &format!("{indent}{label}\n");
                write_outline(value, depth + 1, lines);
            }
            Value::String(text) => *lines += &format!("{indent}{label} {text}\n"),
            Value::Null | Value::Bool(_) | Value::Number(_) => *lines += &format!("{indent}{label} {value}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_shows_every_leaf() {
        let shown = outline(&json!({"name": "notes", "spaces": [{"dims": 256}], "none": null}));
        let plain = anstream::adapter::strip_str(&shown).to_string();
        assert_eq!(plain, "name: notes\nspaces:\n  0:\n    dims: 256\nnone: null\n");
    }
}
