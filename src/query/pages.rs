//! On which page does this passage begin?
//!
//! Form feeds part the pages of a text, and its metadata say how many there are. Only where both agree a page is named:
//! `pages` may be the length of a printed book, too.

use std::collections::HashMap;

use quiverdb_storage::{DocumentId, Snapshot};
use serde_json::Value;

use crate::Result;
use crate::types::Hit;

/// Numbers the hits of documents with pages. Costs a read of each such document's text.
pub(super) fn number(snapshot: &Snapshot, hits: &mut [Hit]) -> Result<()> {
    let mut pages = Pages::of(snapshot);
    for hit in hits.iter_mut().filter(|hit| hit.metadata.get("pages").is_some_and(Value::is_u64)) {
        hit.page = pages.page(&hit.document, hit.start)?;
    }
    Ok(())
}

/// The pages of documents, each of which is read once.
pub(crate) struct Pages<'a> {
    snapshot: &'a Snapshot,
    texts: HashMap<DocumentId, Option<(String, u64)>>,
}

impl<'a> Pages<'a> {
    pub(crate) fn of(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, texts: HashMap::new() }
    }

    /// The page of a byte of a document, from 1; `None` where the document has no pages.
    pub(crate) fn page(&mut self, document: &DocumentId, start: usize) -> Result<Option<usize>> {
        if !self.texts.contains_key(document) {
            let stored = self.snapshot.document(document)?;
            let text = stored.and_then(|stored| {
                let pages = stored.metadata.get("pages").and_then(Value::as_u64)?;
                Some((stored.text, pages))
            });
            self.texts.insert(document.clone(), text);
        }
        Ok(self.texts[document].as_ref().and_then(|(text, pages)| page(text, *pages, start)))
    }
}

fn page(text: &str, pages: u64, start: usize) -> Option<usize> {
    let breaks = |text: &str| text.bytes().filter(|byte| *byte == b'\x0c').count();
    let agrees = breaks(text) as u64 + 1 == pages;
    agrees.then(|| text.get(..start).map(|before| 1 + breaks(before)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_named_where_the_text_has_as_many_as_the_metadata_say() {
        let text = "one\n\n\u{c}two\n\n\u{c}three";
        assert_eq!([page(text, 3, 0), page(text, 3, 6), page(text, 3, text.len())], [Some(1), Some(2), Some(3)]);
        assert_eq!([page(text, 300, 0), page("a book", 300, 0), page("a sheet", 1, 0)], [None, None, Some(1)]);
    }
}
