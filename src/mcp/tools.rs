//! Which tools does a language model get, and what does each do?
//!
//! Invariants: what a tool takes stands in its schema, limits included, and is checked here again; what is not known is
//! refused; every result is there twice, for programs and in words; an error says what to do instead.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Access, resources};
use crate::types::{AddReport, CollectionStats};
use crate::{
    AddOptions, Collection, CollectionConfig, Database, Document, DocumentId, Filter, Hit, Language, Mode, Query,
    SearchResults,
};

/// What a tool does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Search,
    Get,
    ListCollections,
    Add,
    Delete,
    CreateCollection,
}

/// What a tool says.
pub(super) struct Reply {
    /// To read.
    pub(super) text: String,
    /// To work with.
    pub(super) value: Value,
}

type Answer<T> = Result<T, String>;

impl Verb {
    const ALL: [Self; 6] =
        [Self::Search, Self::Get, Self::ListCollections, Self::Add, Self::Delete, Self::CreateCollection];

    fn name(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Get => "get",
            Self::ListCollections => "list_collections",
            Self::Add => "add",
            Self::Delete => "delete",
            Self::CreateCollection => "create_collection",
        }
    }

    /// The verb of this name.
    pub(super) fn named(name: &str) -> Answer<Self> {
        Self::ALL.into_iter().find(|verb| verb.name() == name).ok_or_else(|| {
            let shown: String = name.chars().take(64).collect();
            format!("there is no tool `{shown}`; there are {}", Self::ALL.map(Self::name).join(", "))
        })
    }

    /// Whether it changes anything.
    pub(super) fn writes(self) -> bool {
        match self {
            Self::Search | Self::Get | Self::ListCollections => false,
            Self::Add | Self::Delete | Self::CreateCollection => true,
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Search => {
                "Finds the passages of a collection that answer a question, by meaning and by words. Each hit names its \
                 document, its bytes in the document's text, and a resource URI: cite them."
            }
            Self::Get => "Returns whole documents by their ids, with title and metadata.",
            Self::ListCollections => "Lists the collections with their number of documents and their model.",
            Self::Add => {
                "Adds documents to a collection, which is made where there is none. A document of an id that is there \
                 already replaces it. When this returns, the documents are stored and can be found."
            }
            Self::Delete => "Deletes documents by their ids. They cannot be brought back.",
            Self::CreateCollection => "Makes a collection, or says that there is one of this name.",
        }
    }

    fn schema(self, access: &Access) -> Value {
        match self {
            Self::Search => search_schema(access),
            Self::Get | Self::Delete => {
                object(&json!({"collection": collection_schema(access), "ids": ids_schema(access)}), &["ids"])
            }
            Self::ListCollections => object(&json!({}), &[]),
            Self::Add => add_schema(access),
            Self::CreateCollection => create_schema(access),
        }
    }

    fn tool(self, access: &Access) -> Tool {
        let hints = ToolAnnotations::new()
            .read_only(!self.writes())
            .destructive(matches!(self, Self::Add | Self::Delete))
            .idempotent(true)
            .open_world(false);
        let schema: JsonObject = self.schema(access).as_object().cloned().unwrap_or_default();
        Tool::new(self.name(), self.description(), Arc::new(schema)).with_annotations(hints)
    }
}

/// The tools that a client sees.
pub(super) fn shown(access: &Access) -> Vec<Tool> {
    let shown = Verb::ALL.into_iter().filter(|verb| !(access.read_only && verb.writes()));
    shown.map(|verb| verb.tool(access)).collect()
}

fn object(properties: &Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn collection_schema(access: &Access) -> Value {
    let mut schema = json!({
        "type": "string", "minLength": 1, "maxLength": 255, "default": access.collection_default(),
        "description": "The collection's name; `list_collections` shows which there are."
    });
    if !access.collections.is_empty() {
        schema["enum"] = json!(access.collections);
    }
    schema
}

fn id_schema() -> Value {
    json!({"type": ["string", "integer"], "minLength": 1, "maxLength": 512,
        "description": "A document's id; 7 and \"7\" are two."})
}

fn ids_schema(access: &Access) -> Value {
    json!({"type": "array", "items": id_schema(), "minItems": 1, "maxItems": access.batch,
        "description": "The documents' ids."})
}

fn search_schema(access: &Access) -> Value {
    object(
        &json!({
            "query": {"type": "string", "minLength": 1, "maxLength": access.text_bytes,
                "description": "What to look for: a question, or words."},
            "collection": collection_schema(access),
            "limit": {"type": "integer", "minimum": 1, "maximum": access.hits, "default": 10.min(access.hits),
                "description": "How many passages to return at most."},
            "mode": {"type": "string", "enum": ["hybrid", "dense", "text"], "default": "hybrid",
                "description": "hybrid: by meaning and by words; dense: by meaning alone; text: by words alone."},
            "filter": {"type": ["string", "object"],
                "description": "Only documents whose metadata match, such as \"year >= 2020 AND lang IN ('en', 'de')\", \
                                or the same in JSON: {\"and\": [{\"year\": {\"gte\": 2020}}]}. $id and $title are the \
                                document's own."},
            "min_score": {"type": "number", "description": "Leave out passages of a lower score."},
            "group": {"type": "boolean", "default": false, "description": "At most one passage a document."}
        }),
        &["query"],
    )
}

fn add_schema(access: &Access) -> Value {
    let document = object(
        &json!({
            "id": id_schema(),
            "text": {"type": "string", "maxLength": access.text_bytes,
                "description": format!("The text, of {} bytes at most; long texts are cut into passages.", access.text_bytes)},
            "title": {"type": "string", "description": "The title; it is searched with every passage."},
            "metadata": {"type": "object", "description": "What filters read: names with values of any JSON type."}
        }),
        &["id", "text"],
    );
    let documents = json!({"type": "array", "items": document, "minItems": 1, "maxItems": access.batch,
        "description": "The documents."});
    object(&json!({"collection": collection_schema(access), "documents": documents}), &["documents"])
}

fn create_schema(access: &Access) -> Value {
    let models = std::iter::once("builtin").chain(access.models.iter().map(String::as_str)).collect::<Vec<_>>();
    let mut name = collection_schema(access);
    name["description"] = json!("The new collection's name: letters, digits, `.`, `_` and `-`.");
    name.as_object_mut().map(|name| name.shift_remove("default"));
    object(
        &json!({
            "name": name,
            "model": {"type": "string", "default": "builtin",
                "description": format!("The embedding model, one of: {}; or one that another collection has.", models.join(", "))},
            "language": {"type": "string", "default": "english",
                "description": "The language of the texts, for searching by words; `none` does not stem."}
        }),
        &["name"],
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchArguments {
    query: String,
    collection: Option<String>,
    limit: Option<usize>,
    mode: Option<Mode>,
    filter: Option<Value>,
    min_score: Option<f32>,
    #[serde(default)]
    group: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdsArguments {
    collection: Option<String>,
    ids: Vec<DocumentId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoArguments {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddArguments {
    collection: Option<String>,
    documents: Vec<NewDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDocument {
    id: DocumentId,
    text: String,
    title: Option<String>,
    metadata: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateArguments {
    name: String,
    model: Option<String>,
    language: Option<Language>,
}

/// Does what a tool is called for.
pub(super) fn run(
    verb: Verb,
    arguments: JsonObject,
    database: &Database,
    access: &Access,
    cancel: &AtomicBool,
) -> Answer<Reply> {
    if access.read_only && verb.writes() {
        return Err(format!("`{}` would write, and this server only reads for you", verb.name()));
    }
    let desk = Desk { database, access };
    match verb {
        Verb::Search => desk.search(read(verb, arguments)?),
        Verb::Get => desk.get(read(verb, arguments)?, cancel),
        Verb::ListCollections => read::<NoArguments>(verb, arguments).and_then(|NoArguments {}| desk.list()),
        Verb::Add => desk.add(read(verb, arguments)?, cancel),
        Verb::Delete => desk.delete(read(verb, arguments)?),
        Verb::CreateCollection => desk.create(read(verb, arguments)?),
    }
}

fn read<T: DeserializeOwned>(verb: Verb, arguments: JsonObject) -> Answer<T> {
    serde_json::from_value(Value::Object(arguments))
        .map_err(|error| format!("`{}` does not take these arguments: {error}; see its schema", verb.name()))
}

/// An error in its own words.
pub(super) fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A collection that must exist and may be used.
pub(super) fn collection(database: &Database, access: &Access, name: &str) -> Answer<Collection> {
    let open = || collections(database, access).map(|all| all.into_iter().any(|stats| stats.name == name));
    // One that is open by an alias is open by its own name.
    if !access.allows(name) && !open()? {
        expect_allowed(access, name)?;
    }
    if database.has_collection(name).map_err(told)? {
        return database.open_collection(name).map_err(told);
    }
    let there: Vec<String> = collections(database, access)?.into_iter().map(|stats| stats.name).collect();
    let there = if there.is_empty() { "none yet".to_owned() } else { there.join(", ") };
    Err(format!("there is no collection `{}`; there are: {there}", name.chars().take(64).collect::<String>()))
}

/// The collections that may be used.
pub(super) fn collections(database: &Database, access: &Access) -> Answer<Vec<CollectionStats>> {
    let mut all = database.collections().map_err(told)?;
    all.retain(|stats| access.allows(&stats.name) || stats.aliases.iter().any(|alias| access.allows(alias)));
    Ok(all)
}

fn expect_allowed(access: &Access, name: &str) -> Answer<()> {
    if access.allows(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    Err(format!("the collection `{shown}` is not open to you; these are: {}", access.collections.join(", ")))
}

fn expect_text(access: &Access, what: &str, text: &str) -> Answer<()> {
    if text.len() <= access.text_bytes {
        return Ok(());
    }
    Err(format!("{what} has {} bytes; the limit is {}: give it in parts", text.len(), access.text_bytes))
}

fn expect_number(access: &Access, what: &str, number: usize) -> Answer<()> {
    match number {
        0 => Err(format!("`{what}` is empty; give at least one")),
        number if number > access.batch => {
            Err(format!("`{what}` has {number}; the limit is {}: call again for the others", access.batch))
        }
        _ => Ok(()),
    }
}

/// What the tools work with.
struct Desk<'a> {
    database: &'a Database,
    access: &'a Access,
}

impl Desk<'_> {
    fn name<'a>(&'a self, given: Option<&'a str>) -> &'a str {
        given.unwrap_or_else(|| self.access.collection_default())
    }

    fn search(&self, arguments: SearchArguments) -> Answer<Reply> {
        let SearchArguments { query, collection: name, limit, mode, filter, min_score, group } = arguments;
        expect_text(self.access, "`query`", &query)?;
        let limit = limit.unwrap_or(10.min(self.access.hits));
        if limit > self.access.hits {
            return Err(format!("`limit` is {limit}; the most is {}", self.access.hits));
        }
        let mut asked = Query::text(query).limit(limit).group(group);
        if let Some(filter) = filter {
            asked = asked.filter(read_filter(&filter)?);
        }
        asked = mode.into_iter().fold(asked, Query::mode);
        asked = min_score.into_iter().fold(asked, Query::min_score);
        let found = collection(self.database, self.access, self.name(name.as_deref()))?;
        let results = found.search(asked).map_err(told)?;
        Ok(search_reply(found.name(), results))
    }

    fn get(&self, arguments: IdsArguments, cancel: &AtomicBool) -> Answer<Reply> {
        let IdsArguments { collection: name, ids } = arguments;
        expect_number(self.access, "ids", ids.len())?;
        let found = collection(self.database, self.access, self.name(name.as_deref()))?;
        let (mut documents, mut missing, mut text) = (Vec::new(), Vec::new(), String::new());
        let snapshot = found.snapshot().map_err(told)?;
        for id in ids {
            if cancel.load(Ordering::Relaxed) {
                return Err("cancelled".to_owned());
            }
            match snapshot.get(id.clone()).map_err(told)? {
                Some(document) => {
                    write_document(&mut text, &document);
                    if text.len() > self.access.answer_bytes && !documents.is_empty() {
                        let (got, bytes_max) = (documents.len(), self.access.answer_bytes);
                        return Err(format!(
                            "these documents are longer than the {bytes_max} bytes of an answer; ask for {got} at a time"
                        ));
                    }
                    let mut value = serde_json::to_value(&document).map_err(told)?;
                    value["uri"] = json!(resources::uri(found.name(), &document.id));
                    documents.push(value);
                }
                None => {
                    let _ = writeln!(text, "There is no document {}.\n", json!(id));
                    missing.push(id);
                }
            }
        }
        let value = json!({"collection": found.name(), "documents": documents, "missing": missing});
        Ok(Reply { text: text.trim_end().to_owned(), value })
    }

    fn list(&self) -> Answer<Reply> {
        let all = collections(self.database, self.access)?;
        let mut text = String::new();
        for stats in &all {
            let _ = writeln!(text, "{}: {} documents, {}", stats.name, stats.documents, stats.model);
        }
        let short = |stats: CollectionStats| {
            let CollectionStats { name, documents, chunks, model, dims, aliases, .. } = stats;
            json!({"name": name, "documents": documents, "chunks": chunks, "model": model, "dims": dims, "aliases": aliases})
        };
        let text = if text.is_empty() { "There is no collection yet.".to_owned() } else { text.trim_end().to_owned() };
        Ok(Reply { text, value: json!({"collections": all.into_iter().map(short).collect::<Vec<_>>()}) })
    }

    fn add(&self, arguments: AddArguments, cancel: &AtomicBool) -> Answer<Reply> {
        let AddArguments { collection: name, documents } = arguments;
        expect_number(self.access, "documents", documents.len())?;
        for document in &documents {
            expect_text(self.access, &format!("the text of document {}", json!(document.id)), &document.text)?;
        }
        let name = self.name(name.as_deref());
        expect_allowed(self.access, name)?;
        let made = self.database.collection(name).map_err(told)?;
        let documents = documents.into_iter().map(|document| {
            let NewDocument { id, text, title, metadata } = document;
            Ok(Document { title, ..Document::new(id, text).metadata(Value::Object(metadata.unwrap_or_default())) })
        });
        let options = AddOptions { cancel: Some(cancel), ..AddOptions::default() };
        add_reply(made.name(), &made.add_with(documents, &options).map_err(told)?)
    }

    fn delete(&self, arguments: IdsArguments) -> Answer<Reply> {
        let IdsArguments { collection: name, ids } = arguments;
        expect_number(self.access, "ids", ids.len())?;
        let found = collection(self.database, self.access, self.name(name.as_deref()))?;
        let deleted = found.delete_many(&ids).map_err(told)?;
        let text = format!("{deleted} of {} documents were there and are deleted from `{}`.", ids.len(), found.name());
        Ok(Reply { text, value: json!({"collection": found.name(), "deleted": deleted}) })
    }

    fn create(&self, arguments: CreateArguments) -> Answer<Reply> {
        let CreateArguments { name, model, language } = arguments;
        expect_allowed(self.access, &name)?;
        let mut config = CollectionConfig::new();
        if let Some(model) = model {
            self.expect_model(&model)?;
            config = config.model(model);
        }
        config = language.into_iter().fold(config, CollectionConfig::language);
        let existed = self.database.has_collection(&name).map_err(told)?;
        let made = self.database.collection_with(&name, config).map_err(told)?;
        let stats = made.stats().map_err(told)?;
        let verb = if existed { "was there already" } else { "is made" };
        let text = format!("The collection `{}` {verb}; its model is {}.", stats.name, stats.model);
        let value = json!({"collection": stats.name, "created": !existed, "model": stats.model, "dims": stats.dims});
        Ok(Reply { text, value })
    }

    /// A model that the operator configured, or that a collection has anyhow.
    fn expect_model(&self, model: &str) -> Answer<()> {
        let configured = model == "builtin" || self.access.models.iter().any(|allowed| allowed == model);
        if configured || self.database.collections().map_err(told)?.iter().any(|stats| stats.has_model(model)) {
            return Ok(());
        }
        let there: Vec<&str> =
            std::iter::once("builtin").chain(self.access.models.iter().map(String::as_str)).collect();
        Err(format!(
            "the model `{}` is not configured; these are: {}. Its operator allows it with --model",
            model.chars().take(128).collect::<String>(),
            there.join(", ")
        ))
    }
}

fn read_filter(filter: &Value) -> Answer<Filter> {
    match filter.as_str() {
        Some(text) => text.parse().map_err(told),
        None => Filter::from_json(filter).map_err(told),
    }
}

fn search_reply(collection: &str, results: SearchResults) -> Reply {
    let mut text = String::new();
    for (at, hit) in results.hits.iter().enumerate() {
        write_hit(&mut text, at + 1, hit);
    }
    if results.hits.is_empty() {
        text.push_str("Nothing was found.");
    }
    results.degraded.iter().for_each(|what| text.push_str(&format!("\n({what})")));
    let with_uri = |hit: &Hit| {
        let mut value = json!(hit);
        value["uri"] = json!(resources::uri(collection, &hit.document));
        value
    };
    let hits: Vec<Value> = results.hits.iter().map(with_uri).collect();
    let value = json!({"collection": collection, "mode": results.mode, "hits": hits, "degraded": results.degraded});
    Reply { text: text.trim_end().to_owned(), value }
}

/// A passage under its source, numbered, to be cited by its number.
fn write_hit(text: &mut String, number: usize, hit: &Hit) {
    let _ = write!(text, "[{number}] {}", hit.document);
    hit.title.iter().for_each(|title| text.push_str(&format!(", \"{title}\"")));
    if !hit.heading.is_empty() {
        let _ = write!(text, ", under {}", hit.heading);
    }
    hit.page.iter().for_each(|page| text.push_str(&format!(", page {page}")));
    let _ = writeln!(text, ", bytes {}..{} (score {:.3})\n{}\n", hit.start, hit.end, hit.score, hit.text.trim());
}

fn write_document(text: &mut String, document: &Document) {
    let _ = writeln!(text, "Document {}", json!(document.id));
    document.title.iter().for_each(|title| text.push_str(&format!("Title: {title}\n")));
    if document.metadata.as_object().is_some_and(|metadata| !metadata.is_empty()) {
        let _ = writeln!(text, "Metadata: {}", document.metadata);
    }
    let _ = writeln!(text, "\n{}\n", document.text);
}

/// Where nothing was taken, that is an error.
fn add_reply(collection: &str, report: &AddReport) -> Answer<Reply> {
    let taken = report.added + report.replaced + report.unchanged;
    let mut text = format!(
        "{} added, {} replaced, {} unchanged in `{collection}`.",
        report.added, report.replaced, report.unchanged
    );
    for rejected in &report.rejected {
        let _ = write!(text, "\nNot taken: {}: {}", rejected.source, rejected.reason);
    }
    if taken == 0 && !report.rejected.is_empty() {
        return Err(text);
    }
    let mut value = json!(report);
    value["collection"] = json!(collection);
    Ok(Reply { text, value })
}
