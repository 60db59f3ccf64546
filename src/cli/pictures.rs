//! How do pictures among the documents get the vectors that the collection's model makes of them?
//!
//! Eight documents at a time, so that a model has several pictures to read and memory stays bounded; all keep their
//! order. A picture that is stored already and was not changed is not read again: what is written within the second in
//! which it was stored counts as unchanged, unless it is known to have changed.

use std::path::Path;

use quiverdb::formats::Loaded;
use quiverdb::types::Rejected;
use quiverdb::{Collection, Document, Image, Result};
use serde_json::Value;

/// Documents that are looked at together.
const BATCH: usize = 8;

/// Documents, of which those that are pictures have vectors.
pub(crate) struct Pictures<'a, I> {
    collection: &'a Collection,
    documents: I,
    /// Looks at the files and asks no model.
    dry_run: bool,
    /// Whether all are read, whatever their time says.
    changed: bool,
    ready: std::vec::IntoIter<Loaded>,
}

impl<'a, I: Iterator<Item = Loaded>> Pictures<'a, I> {
    pub(crate) fn new(collection: &'a Collection, documents: I, dry_run: bool) -> Self {
        Self { collection, documents, dry_run, changed: false, ready: Vec::new().into_iter() }
    }

    /// Reads all of them, because they are known to have changed.
    pub(crate) fn changed(self, changed: bool) -> Self {
        Self { changed, ..self }
    }

    fn embed(&self, batch: &mut [Loaded]) {
        let (mut places, mut images) = (Vec::new(), Vec::new());
        for (place, loaded) in batch.iter_mut().enumerate() {
            let Some(outcome) = loaded.as_mut().ok().and_then(|document| self.read(document)) else { continue };
            match outcome {
                Ok(image) => {
                    places.push(place);
                    images.push(image);
                }
                Err(error) => reject(loaded, &error.to_string()),
            }
        }
        if images.is_empty() {
            return;
        }
        match self.vectors(&images) {
            Ok(vectors) => {
                for (place, vector) in places.into_iter().zip(vectors) {
                    if let Ok(document) = &mut batch[place] {
                        document.vector = Some(vector);
                    }
                }
            }
            Err(error) => places.into_iter().for_each(|place| reject(&mut batch[place], &error.to_string())),
        }
    }

    /// The picture of a document that is one and has no vector yet.
    fn read(&self, document: &mut Document) -> Option<Result<Image>> {
        let text = |key: &str| document.metadata.get(key).and_then(Value::as_str);
        if document.vector.is_some() || !text("media_type")?.starts_with("image/") {
            return None;
        }
        let source = text("source")?.to_owned();
        match self.collection.get(document.id.clone()) {
            Ok(Some(stored)) if !self.changed && is_same(&stored, document) => {
                document.vector = stored.vector;
                None
            }
            Ok(_) => Some(Image::open(Path::new(&source))),
            Err(error) => Some(Err(error)),
        }
    }

    fn vectors(&self, images: &[Image]) -> Result<Vec<Vec<f32>>> {
        if !self.dry_run {
            return Ok(self.collection.embed_images(images)?.rows().map(<[f32]>::to_vec).collect());
        }
        let dims = self.collection.model().map_or(1, |model| model.dims);
        Ok(vec![[&[1.0][..], &vec![0.0; dims - 1]].concat(); images.len()])
    }
}

/// Whether the file was not written since it was stored, as far as its time tells.
fn is_same(stored: &Document, document: &Document) -> bool {
    let is_dated = document.metadata.get("modified").is_some();
    is_dated && stored.vector.is_some() && (&stored.text, &stored.metadata) == (&document.text, &document.metadata)
}

fn reject(loaded: &mut Loaded, reason: &str) {
    if let Ok(document) = loaded {
        let source = document.metadata.get("source").and_then(Value::as_str).unwrap_or_default().to_owned();
        *loaded = Err(Rejected { source, reason: reason.to_owned() });
    }
}

impl<I: Iterator<Item = Loaded>> Iterator for Pictures<'_, I> {
    type Item = Loaded;

    fn next(&mut self) -> Option<Loaded> {
        if self.ready.len() == 0 {
            let mut batch: Vec<Loaded> = self.documents.by_ref().take(BATCH).collect();
            self.embed(&mut batch);
            self.ready = batch.into_iter();
        }
        self.ready.next()
    }
}
