//! Which documents are meant by these ids, and what becomes of them?
//!
//! An id on the command line is a string; where no document has it and it reads as a whole number, the integer is
//! tried.

use anyhow::Result;
use quiverdb::{Collection, Document, DocumentId};
use serde_json::json;

use super::args::{Delete, Get};
use super::output::{FAINT, NAME, count, harmless, note, plain, styled};
use super::session::{Mistake, Outcome, Session};

/// `quiver get`.
pub(crate) fn get(session: &Session, arguments: &Get) -> Result<Outcome> {
    let collection = session.collection(&arguments.target.collection)?;
    let mut documents = Vec::new();
    let mut missing = Vec::new();
    for id in &arguments.ids {
        match find(&collection, id)? {
            Some(document) => documents.push(document),
            None => missing.push(format!("`{id}`")),
        }
    }
    session.output.show(&documents, &documents, || documents.iter().map(describe).collect::<Vec<_>>().join("\n"))?;
    if missing.is_empty() {
        return Ok(Outcome::Done);
    }
    let message = format!("no document {} in collection `{}`", missing.join(", "), collection.name());
    Err(Mistake::new(message).hint("`quiver search` shows the ids of what it finds").into())
}

fn find(collection: &Collection, id: &str) -> Result<Option<Document>> {
    for id in readings(id) {
        if let Some(document) = collection.get(id)? {
            return Ok(Some(document));
        }
    }
    Ok(None)
}

/// The ids that a word on the command line may mean.
fn readings(id: &str) -> impl Iterator<Item = DocumentId> {
    let integer = id.parse::<i64>().ok().map(DocumentId::Integer);
    [Some(DocumentId::from(id)), integer].into_iter().flatten()
}

fn describe(document: &Document) -> String {
    let mut text = styled(NAME, &harmless(&document.id.to_string())) + "\n";
    if let Some(title) = &document.title {
        text += &format!("{} {}\n", styled(FAINT, "title:"), harmless(title));
    }
    // As the JSON of a document says it.
    if let Some(time) = serde_json::to_value(document).ok().and_then(|document| document.get("expires_at").cloned()) {
        text += &format!("{} {}\n", styled(FAINT, "expires_at:"), harmless(&plain(&time)));
    }
    for (key, value) in document.metadata.as_object().into_iter().flatten() {
        text += &format!("{} {}\n", styled(FAINT, &format!("{}:", harmless(key))), harmless(&plain(value)));
    }
    text.push('\n');
    text += &harmless(&document.text);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// `quiver delete`.
pub(crate) fn delete(session: &Session, arguments: &Delete) -> Result<Outcome> {
    let collection = session.collection(&arguments.target.collection)?;
    let deleted = match &arguments.filter {
        Some(filter) => collection.delete_matching(filter)?,
        None => delete_ids(&collection, &arguments.ids)?,
    };
    let report = json!({"deleted": deleted});
    session
        .output
        .show(&report, std::slice::from_ref(&report), || format!("deleted {}", count(deleted, "document")))?;
    Ok(Outcome::Done)
}

/// Deletes what there is, in one transaction, and names what there was not.
fn delete_ids(collection: &Collection, words: &[String]) -> Result<u64> {
    let mut ids = Vec::new();
    for word in words {
        match find(collection, word)? {
            Some(document) if !ids.contains(&document.id) => ids.push(document.id),
            Some(_) => {}
            None => note(&format!("no document `{word}`; nothing to delete there")),
        }
    }
    Ok(if ids.is_empty() { 0 } else { collection.delete_many(&ids)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_is_found_by_its_digits_unless_a_string_has_them() -> Result<()> {
        let collection = quiverdb::Database::in_memory()?.collection("c")?;
        collection.add(Document::new(7, "seven"))?;
        assert_eq!(find(&collection, "7")?.map(|document| document.id), Some(DocumentId::Integer(7)));
        collection.add(Document::new("7", "the string"))?;
        assert_eq!(find(&collection, "7")?.map(|document| document.id), Some("7".into()));
        assert_eq!(find(&collection, "8")?, None);
        Ok(())
    }
}
