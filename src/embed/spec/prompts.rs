//! What is put before a query, and what before a passage?
//!
//! By the model's own file, or, where that says nothing of prompts, by what the authors of a well-known model tell people
//! to write by hand. A file with `"prompts": {"query": "", "document": ""}` means what it says: none.

use std::path::{Component, Path};

use serde_json::Value;

use super::Resolved;
use super::fields::Fields;
use crate::Result;
use crate::embed::files::{Files, Object};

const FILE: &str = "config_sentence_transformers.json";

/// The prompts for queries and for passages.
pub(super) type Prompts = (Resolved<String>, Resolved<String>);

pub(super) fn resolve(files: &Files, settings: &Object, config: &Object) -> Result<Prompts> {
    let empty = Object::new();
    let fields = Fields { files, object: settings, source: FILE };
    let prompts = fields.object("prompts")?.unwrap_or(&empty);
    let default = fields.text("default_prompt_name")?;
    if let Some(name) = default.filter(|&name| !prompts.contains_key(name)) {
        return Err(files.wrong(format!("{FILE}: default_prompt_name is `{name}`, but there is no such prompt")));
    }
    if prompts.is_empty() {
        return Ok(known(files.real(), config).unwrap_or_else(|| {
            let none = Resolved::new(String::new(), "default");
            (none.clone(), none)
        }));
    }
    let find = |names: &[&str]| -> Result<Resolved<String>> {
        let name = names.iter().copied().find(|&name| prompts.contains_key(name)).or(default);
        let Some(name) = name else { return Ok(Resolved::new(String::new(), "default")) };
        let text = if prompts[name].is_null() { Some("") } else { prompts[name].as_str() };
        let text = text.ok_or_else(|| files.wrong(format!("{FILE}: prompt `{name}` is no text")))?;
        Ok(Resolved::new(text.to_owned(), format!("{FILE}, prompt `{name}`")))
    };
    Ok((find(&["query"])?, find(&["document", "passage", "corpus"])?))
}

/// Models of one family, with their prompts for queries and for passages.
type Family = (&'static [&'static str], &'static str, &'static str);

const SEARCHING: &str = "Represent this sentence for searching relevant passages: ";
const WEB_SEARCH: &str =
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ";

/// What these models were trained with, and some versions of their files do not say.
const KNOWN: [Family; 10] = [
    (
        &[
            "e5-small",
            "e5-base",
            "e5-large",
            "e5-small-v2",
            "e5-base-v2",
            "e5-large-v2",
            "multilingual-e5-small",
            "multilingual-e5-base",
            "multilingual-e5-large",
        ],
        "query: ",
        "passage: ",
    ),
    (&["multilingual-e5-large-instruct", "e5-mistral-7b-instruct"], WEB_SEARCH, ""),
    (
        &["bge-small-en", "bge-base-en", "bge-large-en", "bge-small-en-v1.5", "bge-base-en-v1.5", "bge-large-en-v1.5"],
        SEARCHING,
        "",
    ),
    (
        &["nomic-embed-text-v1", "nomic-embed-text-v1.5", "nomic-embed-text-v2-moe"],
        "search_query: ",
        "search_document: ",
    ),
    (&["mxbai-embed-large-v1", "uae-large-v1"], SEARCHING, ""),
    (
        &[
            "snowflake-arctic-embed-xs",
            "snowflake-arctic-embed-s",
            "snowflake-arctic-embed-m",
            "snowflake-arctic-embed-m-long",
            "snowflake-arctic-embed-m-v1.5",
            "snowflake-arctic-embed-l",
        ],
        SEARCHING,
        "",
    ),
    (&["snowflake-arctic-embed-m-v2.0", "snowflake-arctic-embed-l-v2.0"], "query: ", ""),
    (
        &["qwen3-embedding-0.6b", "qwen3-embedding-4b", "qwen3-embedding-8b"],
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:",
        "",
    ),
    (&["gte-qwen2-1.5b-instruct", "gte-qwen2-7b-instruct"], WEB_SEARCH, ""),
    (&["embeddinggemma-300m"], "task: search result | query: ", "title: none | text: "),
];

/// The prompts of a well-known model, by the name of its directory, in the hub's cache or elsewhere, or by the name that
/// its configuration remembers.
fn known(directory: &Path, config: &Object) -> Option<Prompts> {
    let named = |component: Component<'_>| Some(component.as_os_str().to_str()?.to_lowercase());
    let last = directory.components().next_back().and_then(named);
    let cached = directory.components().rev().filter_map(named).find(|name| name.starts_with("models--"));
    let remembered = config.get("_name_or_path").and_then(Value::as_str).map(str::to_lowercase);
    let remembered = remembered.as_deref().and_then(|name| name.trim_end_matches('/').rsplit('/').next());
    let names =
        [(cached.as_deref(), "its directory"), (last.as_deref(), "its directory"), (remembered, "_name_or_path")];
    names.into_iter().find_map(|(name, by)| {
        let name = name?;
        // `organisation--name` in the hub's cache, `organisation_name` in that of early sentence-transformers.
        let is_model = |known: &&str| {
            name.strip_suffix(known).is_some_and(|rest| rest.is_empty() || rest.ends_with("--") || rest.ends_with('_'))
        };
        KNOWN.iter().find_map(|(models, query, document)| {
            let model = models.iter().find(|&model| is_model(model))?;
            let source = format!("known prompt of {model} ({by}); `prompts` in {FILE} would replace it");
            Some((Resolved::new(*query, source.clone()).owned(), Resolved::new(*document, source).owned()))
        })
    })
}

impl Resolved<&str> {
    fn owned(self) -> Resolved<String> {
        Resolved { value: self.value.to_owned(), source: self.source }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn query(directory: &str, config: &Value) -> Option<(String, String)> {
        let (query, _) = known(Path::new(directory), config.as_object().unwrap())?;
        Some((query.value, query.source))
    }

    #[test]
    fn known_models_are_found_by_every_name_they_go_by() {
        let by_directory = [
            "/models/e5-base-v2",
            "/models/intfloat/E5-Base-v2",
            "/cache/models--intfloat--e5-base-v2/snapshots/0123abcd",
            "/cache/intfloat_e5-base-v2",
        ];
        for directory in by_directory {
            let (prompt, source) = query(directory, &json!({})).unwrap();
            assert_eq!(prompt, "query: ", "{directory}");
            assert!(source.contains("known prompt of e5-base-v2 (its directory)"), "{source}");
        }
        let (prompt, source) = query("/models/mine", &json!({"_name_or_path": "BAAI/bge-small-en-v1.5/"})).unwrap();
        assert!(prompt == SEARCHING && source.contains("(_name_or_path)"), "{source}");
    }

    #[test]
    fn models_that_are_not_in_the_table_get_nothing() {
        for directory in ["/models/bge-m3", "/models/my-e5-base-v2", "/models/all-MiniLM-L6-v2", "/"] {
            assert_eq!(query(directory, &json!({"_name_or_path": "nreimers/MiniLM-L6-H384-uncased"})), None);
        }
    }

    #[test]
    fn names_in_the_table_are_lowercase_and_stand_there_once() {
        let names: Vec<&str> = KNOWN.iter().flat_map(|(names, ..)| *names).copied().collect();
        for (at, name) in names.iter().enumerate() {
            assert_eq!(*name, name.to_lowercase());
            assert!(!names[..at].contains(name), "{name}");
        }
    }
}
