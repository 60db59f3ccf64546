//! Which document does a URI mean, and which documents are there?
//!
//! Invariants: `quiverdb://collection/id` leads to the one document that it was made of and to no other, whatever bytes its
//! id has and whoever normalised the URI meanwhile; lists come in pages that read no more than they show.
//!
//! An id stands there as it is, percent-encoded; a string that could be taken for a number (`"7"`), for a step up (`..`) or
//! for a quoted string stands in quotes, as in JSON.

use quiverdb_storage::DocumentHead;
use rmcp::model::{ListResourcesResult, MetaObject, ReadResourceResult, Resource, ResourceContents, ResourceTemplate};
use serde_json::{Value, json};

use super::Access;
use super::tools::{collection, collections, told};
use crate::{Database, DocumentId};

/// Documents of a page.
const PAGE: usize = 100;
/// What every URI begins with.
const SCHEME: &str = "quiverdb://";

/// The URI of a document.
pub(super) fn uri(collection: &str, id: &DocumentId) -> String {
    let id = match id {
        DocumentId::Integer(number) => number.to_string(),
        DocumentId::Text(text) if is_plain(text) => text.clone(),
        DocumentId::Text(text) => json!(text).to_string(),
    };
    format!("{SCHEME}{}/{}", encoded(collection), encoded(&id))
}

/// Whether a string stands for itself.
fn is_plain(text: &str) -> bool {
    !(text.starts_with('"') || text == "." || text == ".." || text.parse::<i64>().is_ok())
}

/// The collection and the id that a URI names.
fn parsed(uri: &str) -> Result<(String, DocumentId), String> {
    let wrong = || {
        let shown: String = uri.chars().take(128).collect();
        format!("`{shown}` is not the URI of a document: {SCHEME}COLLECTION/ID, percent-encoded")
    };
    let (name, id) = uri.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
    let (name, id) = (decoded(name).ok_or_else(wrong)?, decoded(id).ok_or_else(wrong)?);
    let id = match id.parse::<i64>() {
        Ok(number) => DocumentId::Integer(number),
        Err(_) if id.starts_with('"') => DocumentId::Text(serde_json::from_str(&id).map_err(|_| wrong())?),
        Err(_) => DocumentId::Text(id),
    };
    Ok((name, id))
}

/// All bytes but letters, digits, `-`, `_`, `.` and `~` as `%XX` (RFC 3986, 2.3).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// What was encoded; `None` where it is no UTF-8, or a `%` is not followed by two digits.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => u8::try_from(digit(rest.next()?)? * 16 + digit(rest.next()?)?).ok()?,
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(16)
}

/// How the URIs of documents look.
pub(super) fn template() -> ResourceTemplate {
    ResourceTemplate::new(format!("{SCHEME}{{collection}}/{{id}}"), "document")
        .with_title("A document")
        .with_description("The text of a document, with its title and metadata under `_meta`.")
        .with_mime_type("text/plain")
}

/// A page of all documents: those behind the one that the cursor names.
pub(super) fn page(database: &Database, access: &Access, cursor: Option<&str>) -> Result<ListResourcesResult, String> {
    let start = cursor
        .map(parsed)
        .transpose()
        .map_err(|_| "the cursor is not one that resources/list gave; ask without one for the first page".to_owned())?;
    let mut listed = Vec::new();
    let mut names: Vec<String> = collections(database, access)?.into_iter().map(|stats| stats.name).collect();
    names.sort();
    for name in names {
        let last = match &start {
            Some((at, _)) if name < *at => continue,
            Some((at, id)) if name == *at => Some(id),
            _ => None,
        };
        // One that was dropped meanwhile has none.
        let Ok(found) = database.open_collection(&name) else { continue };
        let wanted = PAGE + 1 - listed.len();
        let heads = found.snapshot().and_then(|snapshot| snapshot.heads_after(last, wanted)).map_err(told)?;
        listed.extend(heads.iter().map(|head| resource(&name, head)));
        if listed.len() > PAGE {
            listed.truncate(PAGE);
            let mut page = ListResourcesResult::with_all_items(listed);
            page.next_cursor = page.resources.last().map(|last| last.uri.clone());
            return Ok(page);
        }
    }
    Ok(ListResourcesResult::with_all_items(listed))
}

fn resource(collection: &str, head: &DocumentHead) -> Resource {
    let DocumentHead { id, title, text_bytes, metadata } = head;
    let resource = Resource::new(uri(collection, id), id.to_string())
        .with_description(format!("A document of the collection `{collection}`"))
        .with_mime_type(media_type(metadata.get("media_type")))
        .with_size(*text_bytes);
    match title {
        Some(title) => resource.with_title(title),
        None => resource,
    }
}

/// What our readers wrote there: Markdown stays Markdown, and what they made text of is text.
fn media_type(given: Option<&Value>) -> &str {
    match given.and_then(Value::as_str) {
        Some(media_type) if media_type.starts_with("text/") && media_type != "text/html" => media_type,
        _ => "text/plain",
    }
}

/// A document's text, and what is known about it.
pub(super) fn read(database: &Database, access: &Access, uri: &str) -> Result<ReadResourceResult, String> {
    let (name, id) = parsed(uri)?;
    let found = collection(database, access, &name)?;
    let none = || format!("there is no document {} in `{name}`", json!(id));
    let document = found.get(id.clone()).map_err(told)?.ok_or_else(none)?;
    let about = json!({"id": document.id, "title": document.title, "collection": name, "metadata": document.metadata});
    let meta = MetaObject::from(about.as_object().cloned().unwrap_or_default());
    let contents = ResourceContents::text(document.text.clone(), uri)
        .with_mime_type(media_type(document.metadata.get("media_type")))
        .with_meta(meta);
    Ok(ReadResourceResult::new(vec![contents]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_comes_back_from_its_uri() {
        let texts = ["a", "a/b c", "ü%", "7", "-7", "\"7\"", ".", "..", "%41", "x?y#z", "\u{0}", "+7", " 7", "~"];
        let ids = texts.into_iter().map(DocumentId::from).chain([7, -7, i64::MIN].map(DocumentId::from));
        for id in ids {
            let uri = uri("notes.v-1", &id);
            assert!(uri.bytes().all(|byte| byte.is_ascii_graphic()), "{uri}");
            assert_eq!(parsed(&uri), Ok(("notes.v-1".to_owned(), id)), "{uri}");
        }
        assert_eq!(uri("notes", &7.into()), "quiverdb://notes/7");
        assert_eq!(uri("notes", &"7".into()), "quiverdb://notes/%227%22");
    }

    #[test]
    fn what_is_no_uri_of_ours_is_refused_with_its_shape() {
        for wrong in
            ["", "notes/7", "quiverdb://notes", "quiverdb://notes/%4", "quiverdb://notes/%zz", "quiverdb://n/%ff"]
        {
            assert!(parsed(wrong).is_err_and(|message| message.contains("COLLECTION/ID")), "{wrong}");
        }
    }
}
