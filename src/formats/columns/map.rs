//! Which column of a table is the id, the text, a vector?

use std::collections::{BTreeMap, BTreeSet};

use arrow_schema::{DataType, Field, Schema};

use crate::{Error, Result};

/// Which column holds what. Columns that are not named are found by their usual names: `id` or `_id`, `text`, `title`,
/// `vector`, `vectors.NAME` for a further space, `metadata` (an object, or the JSON text of one) and `expires_at` (a
/// timestamp, a text in RFC 3339, or seconds since 1970). Every other column is metadata under its own name and with its
/// type.
///
/// ```
/// use quiverdb::formats::columns::ColumnMap;
///
/// let map = ColumnMap::parse("id=doc_id,text=body,vectors.image=clip")?;
/// assert!(ColumnMap::parse("txet=body").is_err());
/// # let _ = map;
/// # Ok::<(), quiverdb::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnMap {
    named: BTreeMap<Role, String>,
    spaces: BTreeMap<String, String>,
}

/// What a column can be besides metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Role {
    Id,
    Text,
    Title,
    Vector,
    Metadata,
    ExpiresAt,
}

impl Role {
    pub(super) const ALL: [Self; 6] =
        [Self::Id, Self::Text, Self::Title, Self::Vector, Self::Metadata, Self::ExpiresAt];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Text => "text",
            Self::Title => "title",
            Self::Vector => "vector",
            Self::Metadata => "metadata",
            Self::ExpiresAt => "expires_at",
        }
    }

    /// The names that it is found by.
    fn usual(self) -> &'static [&'static str] {
        match self {
            Self::Id => &["id", "_id"],
            Self::Text => &["text"],
            Self::Title => &["title"],
            Self::Vector => &["vector"],
            Self::Metadata => &["metadata"],
            Self::ExpiresAt => &["expires_at"],
        }
    }

    fn accepts(self, kind: &DataType) -> bool {
        match self {
            Self::Id => is_text(kind) || is_whole(kind),
            Self::Text | Self::Title => is_text(kind),
            Self::Vector => is_vector(kind),
            Self::Metadata => is_text(kind) || matches!(kind, DataType::Struct(_) | DataType::Map(..) | DataType::Null),
            Self::ExpiresAt => is_text(kind) || kind.is_numeric() || matches!(kind, DataType::Timestamp(..)),
        }
    }

    fn must_be(self) -> &'static str {
        match self {
            Self::Id => "an id is text or a whole number",
            Self::Text => "a text is a string",
            Self::Title => "a title is a string",
            Self::Vector => "a vector is a list of floats (f16, f32 or f64)",
            Self::Metadata => "metadata are a struct, a map, or the JSON text of an object",
            Self::ExpiresAt => "a document expires at a timestamp, a text in RFC 3339, or seconds since 1970",
        }
    }
}

/// Prefixes of the columns of further spaces.
const SPACES: [&str; 2] = ["vectors.", "vector."];

/// The further space that a column is called after.
pub(super) fn space_in(column: &str) -> Option<&str> {
    SPACES.iter().find_map(|prefix| column.strip_prefix(prefix)).filter(|name| !name.is_empty())
}

impl ColumnMap {
    /// Reads `id=doc_id,text=body`: roles `id`, `text`, `title`, `vector`, `vectors.NAME`, `metadata` and `expires_at`, each with the
    /// name of a column; `title=` takes no column for it, so that a column `title` is metadata.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for another role, a role twice, or a part without `=`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut map = Self::default();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let Some((role, column)) = part.split_once('=') else {
                let known = known();
                return Err(Error::invalid(format!(
                    "`{part}` is no mapping; write ROLE=COLUMN, with a role of {known}"
                )));
            };
            map = map.with(role.trim(), column.trim())?;
        }
        Ok(map)
    }

    /// The same map with a column for one more role.
    ///
    /// # Errors
    /// As [`ColumnMap::parse`].
    pub fn with(mut self, role: &str, column: &str) -> Result<Self> {
        let before = match (space_in(role), Role::ALL.into_iter().find(|known| known.name() == role)) {
            (Some(space), _) => self.spaces.insert(space.to_owned(), column.to_owned()),
            (None, Some(role)) => self.named.insert(role, column.to_owned()),
            (None, None) => {
                return Err(Error::invalid(format!(
                    "`{role}` is nothing that a column can be mapped to; {} are, and every other column is metadata under \
                     its own name",
                    known()
                )));
            }
        };
        match before {
            Some(before) => Err(Error::invalid(format!("`{role}` is mapped twice, to `{before}` and to `{column}`"))),
            None => Ok(self),
        }
    }

    /// As [`ColumnMap::parse`] reads it: the same for equal maps.
    pub(crate) fn canonical(&self) -> String {
        let named = self.named.iter().map(|(role, column)| format!("{}={column}", role.name()));
        let spaces = self.spaces.iter().map(|(space, column)| format!("vectors.{space}={column}"));
        named.chain(spaces).collect::<Vec<_>>().join(",")
    }

    /// The key that was named for a role; empty where none is to be taken.
    pub(super) fn named(&self, role: Role) -> Option<&str> {
        self.named.get(&role).map(String::as_str)
    }

    /// All that were named: role, key. Of further spaces as `vectors.NAME`.
    pub(super) fn all_named(&self) -> impl Iterator<Item = (String, &str)> {
        let named = self.named.iter().map(|(role, column)| (role.name().to_owned(), column.as_str()));
        let spaces = self.spaces.iter().map(|(space, column)| (format!("vectors.{space}"), column.as_str()));
        named.chain(spaces).filter(|(_, column)| !column.is_empty())
    }

    /// Finds the columns of a schema. Vectors of further spaces are those that are mapped and those of these `spaces` that
    /// are called `vectors.NAME`. With `loose`, types are not looked at: columns of CSV have them by chance.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where a mapped column is missing or of a type that cannot be what it is mapped to, and where
    /// there is neither text nor vector; the message lists the columns.
    pub(super) fn resolve(&self, schema: &Schema, spaces: &[String], loose: bool) -> Result<Columns> {
        let mut names = BTreeSet::new();
        if let Some(twice) = schema.fields().iter().find(|field| !names.insert(field.name())) {
            let name = twice.name();
            return Err(Error::invalid(format!("two columns are called `{name}`; rename one of them")));
        }
        let mut columns = Columns::default();
        for role in Role::ALL {
            *columns.slot(role) = self.column(schema, role, loose)?;
        }
        for (space, name) in &self.spaces {
            let index = find(schema, name, &format!("vector of space `{space}`"))?;
            check(schema.field(index), Role::Vector, loose)?;
            columns.vectors.push((index, space.clone()));
        }
        for (index, field) in schema.fields().iter().enumerate() {
            let Some(space) = space_in(field.name()).filter(|space| !self.spaces.contains_key(*space)) else {
                continue;
            };
            if spaces.iter().any(|known| known == space) && (loose || is_vector(field.data_type())) {
                columns.vectors.push((index, space.to_owned()));
            }
        }
        if columns.text.is_none() && columns.vector.is_none() && columns.vectors.is_empty() {
            let name = likely_text(schema).unwrap_or("COLUMN");
            let message = format!(
                "no column is the text or the vector; import it with a map, as in `quiver import FILE --map text={name}` (and \
                 id=COLUMN, where one names the rows). The columns are {}",
                listed(schema)
            );
            return Err(Error::invalid(message));
        }
        let taken = |index: &usize| columns.taken(*index);
        let rest: Vec<usize> = (0..schema.fields().len()).filter(|index| !taken(index)).collect();
        columns.rest = rest.into_iter().map(|index| (index, schema.field(index).name().clone())).collect();
        Ok(columns)
    }

    fn column(&self, schema: &Schema, role: Role, loose: bool) -> Result<Option<usize>> {
        match self.named(role) {
            Some("") => Ok(None),
            Some(name) => {
                let index = find(schema, name, role.name())?;
                check(schema.field(index), role, loose)?;
                Ok(Some(index))
            }
            None => {
                let found = role.usual().iter().find_map(|name| schema.index_of(name).ok());
                let Some(index) = found else { return Ok(None) };
                match role {
                    // Ids made of row numbers in place of a column that is called `id` would surprise.
                    Role::Id => check(schema.field(index), role, loose).map(|()| Some(index)),
                    // A column that happens to have such a name may be anything.
                    Role::Text | Role::Title | Role::Vector | Role::Metadata | Role::ExpiresAt => {
                        Ok(Some(index).filter(|_| loose || role.accepts(schema.field(index).data_type())))
                    }
                }
            }
        }
    }
}

/// The columns of a table by what they hold.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) id: Option<usize>,
    pub(super) text: Option<usize>,
    pub(super) title: Option<usize>,
    pub(super) vector: Option<usize>,
    pub(super) metadata: Option<usize>,
    pub(super) expires_at: Option<usize>,
    /// Further spaces.
    pub(super) vectors: Vec<(usize, String)>,
    /// All others, by name.
    pub(super) rest: Vec<(usize, String)>,
}

impl Columns {
    fn slot(&mut self, role: Role) -> &mut Option<usize> {
        match role {
            Role::Id => &mut self.id,
            Role::Text => &mut self.text,
            Role::Title => &mut self.title,
            Role::Vector => &mut self.vector,
            Role::Metadata => &mut self.metadata,
            Role::ExpiresAt => &mut self.expires_at,
        }
    }

    fn taken(&self, index: usize) -> bool {
        let named = [self.id, self.text, self.title, self.vector, self.metadata, self.expires_at];
        named.contains(&Some(index)) || self.vectors.iter().any(|(taken, _)| *taken == index)
    }
}

fn known() -> String {
    Role::ALL.map(Role::name).join(", ") + " and vectors.SPACE"
}

fn find(schema: &Schema, name: &str, role: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| {
        Error::invalid(format!("there is no column `{name}` to be the {role}; the columns are {}", listed(schema)))
    })
}

fn check(field: &Field, role: Role, loose: bool) -> Result<()> {
    let json_text = role == Role::Vector && is_text(field.data_type());
    if loose || json_text || role.accepts(field.data_type()) {
        return Ok(());
    }
    let (name, kind, role) = (field.name(), field.data_type(), role);
    Err(Error::invalid(format!(
        "column `{name}` is {kind}, and {}: map another column with `{1}=COLUMN`, or none with `{1}=`",
        role.must_be(),
        role.name()
    )))
}

/// The names of columns, with their types where there are few.
fn listed(schema: &Schema) -> String {
    const MOST: usize = 40;
    let names = schema.fields().iter().take(MOST).map(|field| format!("`{}`", field.name()));
    let mut listed = names.collect::<Vec<_>>().join(", ");
    if schema.fields().len() > MOST {
        listed += &format!(" and {} more", schema.fields().len() - MOST);
    }
    listed
}

pub(super) fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        // Hive, Impala and Spark wrote text so. What is none is refused row by row.
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        DataType::Dictionary(_, value) => is_text(value),
        DataType::RunEndEncoded(_, value) => is_text(value.data_type()),
        _ => false,
    }
}

fn is_whole(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, value) => is_whole(value),
        other => other.is_integer(),
    }
}

/// Whether it is a list of floats.
pub(super) fn is_vector(kind: &DataType) -> bool {
    let is_float = |item: &Field| matches!(item.data_type(), DataType::Float16 | DataType::Float32 | DataType::Float64);
    match kind {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => is_float(item),
        _ => false,
    }
}

/// A column whose name sounds like a text's, where there is one.
fn likely_text(schema: &Schema) -> Option<&str> {
    const NAMES: [&str; 9] =
        ["body", "content", "contents", "passage", "document", "chunk", "abstract", "description", "review"];
    let mut names = schema.fields().iter().map(|field| field.name().as_str());
    names.find(|name| NAMES.contains(&name.to_ascii_lowercase().as_str()))
}
