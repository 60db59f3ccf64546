//! What does an export of ours carry beyond what any table has?
//!
//! The schema's metadata have a marker under [`MARKER`]: which columns are vectors of which space, the chunks that models
//! have read with the vectors they made, the digests of those models, and how the collection is configured. With it a
//! document comes back as it was, and nothing is embedded again. A file without the marker is anybody's, and nothing here
//! touches it.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, RecordBatch, StructArray};
use arrow_schema::{DataType, Schema};
use quiverdb_storage::SpaceSettings;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{CollectionConfig, DEFAULT_SPACE, SpaceConfig, StoredConfig, StoredSpace};
use crate::types::{Document, Embedded, EmbeddedChunk};
use crate::{DocumentId, Error, Language, Result};

/// The key of the marker.
pub(crate) const MARKER: &str = "quiverdb";
/// The version of what the marker says. A later one is refused, because it may mean something else.
const MARKER_VERSION: u32 = 1;

/// The columns of an export that are always called so.
pub(super) const ID: &str = "id";
pub(super) const ID_IS_INTEGER: &str = "id_is_integer";
pub(super) const TITLE: &str = "title";
pub(super) const TEXT: &str = "text";
pub(super) const METADATA: &str = "metadata";
pub(super) const VECTOR: &str = "vector";
pub(super) const CHUNKS: &str = "chunks";
pub(super) const START: &str = "start";
pub(super) const END: &str = "end";
pub(super) const HEADING: &str = "heading";
pub(super) const DIGEST: &str = "digest";

/// What an export says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Marker {
    pub(crate) version: u32,
    /// The version of the library that wrote it.
    pub(crate) quiverdb: String,
    /// The collection's name.
    pub(crate) collection: String,
    /// Whether rows are chunks; else they are documents.
    #[serde(default)]
    pub(crate) chunk_rows: bool,
    /// Columns of vectors, and the space of each.
    #[serde(default)]
    pub(crate) vectors: BTreeMap<String, String>,
    /// The same inside of [`CHUNKS`].
    #[serde(default)]
    pub(crate) chunk_vectors: BTreeMap<String, String>,
    /// The digests of the models and chunking of these spaces.
    #[serde(default)]
    pub(crate) models: BTreeMap<String, String>,
    /// How the collection is configured, as it is stored.
    pub(crate) configuration: Value,
    /// Its spaces.
    pub(crate) spaces: Vec<SpaceSettings>,
    /// The language of its text analyser.
    pub(crate) language: Language,
}

impl Marker {
    /// A marker of this version, without columns.
    pub(crate) fn new(collection: &str, configuration: Value, spaces: Vec<SpaceSettings>, language: Language) -> Self {
        Self {
            version: MARKER_VERSION,
            quiverdb: env!("CARGO_PKG_VERSION").to_owned(),
            collection: collection.to_owned(),
            chunk_rows: false,
            vectors: BTreeMap::new(),
            chunk_vectors: BTreeMap::new(),
            models: BTreeMap::new(),
            configuration,
            spaces,
            language,
        }
    }

    /// The marker in a schema; `None` where the file is no export of ours.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where a later version wrote it, or it is damaged.
    fn of(schema: &Schema) -> Result<Option<Self>> {
        let Some(text) = schema.metadata().get(MARKER) else { return Ok(None) };
        let unreadable = |reason: String| {
            Error::invalid(format!(
                "the file says under `{MARKER}` that it is an export of QuiverDB, but not in a way that this version reads \
                 ({reason}); read it with a newer one, or take that key out of its metadata"
            ))
        };
        let marker: Self = serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        match marker.version {
            MARKER_VERSION => Ok(Some(marker)),
            other => Err(unreadable(format!("its version is {other}"))),
        }
    }

    fn config(&self) -> Result<CollectionConfig> {
        let stored: StoredConfig = serde_json::from_value(self.configuration.clone())
            .map_err(|error| Error::invalid(format!("the configuration in the export cannot be read: {error}")))?;
        let mut config = CollectionConfig::new()
            .chunk_tokens(stored.chunk_tokens)
            .chunk_overlap(stored.chunk_overlap)
            .chunker(stored.chunker)
            .language(self.language);
        for settings in &self.spaces {
            let SpaceSettings { name, .. } = settings;
            let of_space =
                stored.space(name).ok_or_else(|| Error::invalid(format!("space `{name}` lacks its model")))?;
            if name == DEFAULT_SPACE {
                config.default = self.space_config(of_space, settings)?;
            } else if !self.chunk_rows {
                config = config.space(name.clone(), self.space_config(of_space, settings)?);
            } else if self.vectors.values().any(|space| space == name) {
                // Each row brings the vector that a model made of it, as if it were its own.
                config = config.space(name.clone(), SpaceConfig::external(settings.dims).metric(settings.metric));
            }
        }
        Ok(config)
    }

    fn space_config(&self, stored: &StoredSpace, settings: &SpaceSettings) -> Result<SpaceConfig> {
        let SpaceSettings { name, dims, metric } = settings;
        match (&stored.model, &stored.model_source) {
            (None, _) => Ok(SpaceConfig::external(*dims).metric(*metric)),
            (Some(spec), Some(source)) => {
                let config = SpaceConfig::model(source);
                Ok(if spec.full_dims.is_some() { config.dimensions(*dims) } else { config })
            }
            (Some(spec), None) => Err(Error::invalid(format!(
                "space `{name}` of the collection `{}`, which this is an export of, has the model {}, which only the \
                 application has that made it: make the collection there, or name another model",
                self.collection, spec.id
            ))),
        }
    }
}

/// How the collection was configured that a file of this schema is an export of; `None` where it is none.
///
/// # Errors
/// [`Error::InvalidInput`] where a later version wrote it, or its model has no name by which it could be loaded.
pub fn config_in(schema: &Schema) -> Result<Option<CollectionConfig>> {
    Marker::of(schema)?.map(|marker| marker.config()).transpose()
}

/// What the columns of an export add to a document.
pub(super) struct Carried {
    marker: Marker,
    id_is_integer: Option<usize>,
    title: Option<usize>,
    chunks: Option<usize>,
    /// Columns of vectors of further spaces, with the names of those.
    vectors: Vec<(usize, String)>,
}

impl Carried {
    /// Finds the columns; `None` where the file is no export of ours.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where a later version wrote it.
    pub(super) fn of(schema: &Schema) -> Result<Option<Self>> {
        let Some(marker) = Marker::of(schema)? else { return Ok(None) };
        let typed = |name: &str, fits: fn(&DataType) -> bool| {
            schema.index_of(name).ok().filter(|&index| fits(schema.field(index).data_type()))
        };
        let mut vectors = Vec::new();
        for (column, space) in marker.vectors.iter().filter(|(_, space)| *space != DEFAULT_SPACE) {
            vectors.extend(typed(column, super::map::is_vector).map(|index| (index, space.clone())));
        }
        Ok(Some(Self {
            id_is_integer: typed(ID_IS_INTEGER, |kind| *kind == DataType::Boolean),
            title: typed(TITLE, DataType::is_string),
            chunks: typed(CHUNKS, |kind| matches!(kind, DataType::List(item) if item.data_type().is_nested())),
            vectors,
            marker,
        }))
    }

    /// Whether a column belongs to it and is no metadata.
    pub(super) fn takes(&self, index: usize) -> bool {
        [self.id_is_integer, self.chunks].contains(&Some(index))
            || self.vectors.iter().any(|(taken, _)| *taken == index)
    }

    /// Adds to a document what else its row carries.
    pub(super) fn complete(
        &self,
        batch: &RecordBatch,
        row: usize,
        document: &mut Document,
    ) -> std::result::Result<(), String> {
        if let (Some(marks), DocumentId::Text(text)) = (self.id_is_integer, &document.id)
            && batch.column(marks).as_boolean().value(row)
        {
            let refuse = |_| format!("`{ID_IS_INTEGER}` says that the id is a whole number, and it is `{text}`");
            document.id = DocumentId::Integer(text.parse().map_err(refuse)?);
        }
        if let Some(title) = self.title {
            // One that is blank is no title to others, but it is what was given.
            document.title = text_in(batch.column(title).as_ref(), row).map(str::to_owned);
        }
        for (index, space) in &self.vectors {
            if let Some(vector) = super::rows::vector(batch.column(*index), row)? {
                document.vectors.insert(space.clone(), vector);
            }
        }
        if let Some(index) = self.chunks.filter(|&index| !batch.column(index).is_null(row)) {
            let chunks = batch.column(index).as_list::<i32>().value(row);
            // What is not as we write it is no reason to refuse the document: it can be embedded.
            let chunks = chunks.as_struct_opt().and_then(|chunks| self.chunks_in(chunks));
            let models = self.marker.models.clone();
            document.embedded = chunks.map(|chunks| Box::new(Embedded { models, chunks }));
        }
        Ok(())
    }

    fn chunks_in(&self, chunks: &StructArray) -> Option<Vec<EmbeddedChunk>> {
        let whole = |name: &str| chunks.column_by_name(name)?.as_primitive_opt::<Int64Type>();
        let (starts, ends) = (whole(START)?, whole(END)?);
        let (headings, digests) = (chunks.column_by_name(HEADING)?, chunks.column_by_name(DIGEST)?);
        let mut read = Vec::with_capacity(chunks.len());
        for at in 0..chunks.len() {
            let (start, end) = (usize::try_from(starts.value(at)).ok()?, usize::try_from(ends.value(at)).ok()?);
            let heading = text_in(headings.as_ref(), at).unwrap_or_default().to_owned();
            let digest = text_in(digests.as_ref(), at).unwrap_or_default().to_owned();
            let mut vectors = BTreeMap::new();
            for (column, space) in &self.marker.chunk_vectors {
                let column = chunks.column_by_name(column)?.as_fixed_size_list_opt()?;
                let numbers = column.value(at);
                vectors.insert(space.clone(), numbers.as_primitive_opt::<Float32Type>()?.values().to_vec());
            }
            read.push(EmbeddedChunk { start, end, heading, digest, vectors });
        }
        Some(read)
    }
}

/// The text at a row, of any column of strings.
fn text_in(column: &dyn Array, row: usize) -> Option<&str> {
    if column.is_null(row) {
        return None;
    }
    #[allow(clippy::wildcard_enum_match_arm, reason = "the types of text are these")]
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Some(column.as_string::<i64>().value(row)),
        DataType::Utf8View => Some(column.as_string_view().value(row)),
        _ => None,
    }
}
