//! Of which type can a column be that holds this member of every document's metadata?
//!
//! Every document is shown once; nothing of them is kept but the types. A member becomes a column where all its values are
//! of one kind: numbers that are all whole or all not, booleans, strings, lists and objects of such. What is mixed, too deep,
//! too wide, or named so that other tools would stumble stays in the JSON column.
//!
//! Invariant: types are a proposal. Whoever writes compares each cell with its value, so a wrong guess costs a column its
//! comfort and never a value.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields};
use serde_json::{Map, Number, Value};

use super::build;

/// The most columns of metadata; the members that come after them stay JSON.
const COLUMNS_MAX: usize = 1_000;
/// The most fields of a nested object: more are no record but a dictionary.
const FIELDS_MAX: usize = 128;
/// The deepest nesting that becomes columns.
const DEPTH_MAX: usize = 8;
/// The most pairs of neighbours that are remembered to find the order of columns.
const PAIRS_MAX: usize = 100_000;

/// The kinds of values seen so far.
#[derive(Debug)]
enum Kind {
    /// Null, or a list without elements.
    Unknown,
    Bool,
    Whole {
        negative: bool,
        large: bool,
    },
    Float,
    Text,
    List(Box<Kind>),
    Object(Members),
    Mixed,
}

impl Kind {
    fn of(value: &Value, depth: usize) -> Self {
        match value {
            Value::Null => Self::Unknown,
            Value::Bool(_) => Self::Bool,
            Value::Number(number) => Self::of_number(number),
            Value::String(_) => Self::Text,
            Value::Array(_) | Value::Object(_) if depth == 0 => Self::Mixed,
            Value::Array(values) => {
                let mut element = Self::Unknown;
                values.iter().for_each(|value| element.see(value, depth - 1));
                Self::List(Box::new(element))
            }
            Value::Object(members) => {
                let mut seen = Members::default();
                seen.see(members, depth - 1, FIELDS_MAX);
                Self::Object(seen)
            }
        }
    }

    fn of_number(number: &Number) -> Self {
        match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Self::Whole { negative: whole < 0, large: false },
            (None, Some(_)) => Self::Whole { negative: false, large: true },
            (None, None) => Self::Float,
        }
    }

    /// Takes one more value into account.
    fn see(&mut self, value: &Value, depth: usize) {
        match (&mut *self, value) {
            (Self::Mixed, _) | (_, Value::Null) => {}
            (Self::List(element), Value::Array(values)) if depth > 0 => {
                values.iter().for_each(|value| element.see(value, depth - 1));
            }
            (Self::Object(seen), Value::Object(members)) if depth > 0 => seen.see(members, depth - 1, FIELDS_MAX),
            (kind, value) => *kind = std::mem::replace(kind, Self::Mixed).with(Self::of(value, depth)),
        }
    }

    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, kind) | (kind, Self::Unknown) => kind,
            (Self::Bool, Self::Bool) => Self::Bool,
            (Self::Float, Self::Float) => Self::Float,
            (Self::Text, Self::Text) => Self::Text,
            (Self::Whole { negative, large }, Self::Whole { negative: also, large: too }) => {
                Self::Whole { negative: negative || also, large: large || too }
            }
            (_, _) => Self::Mixed,
        }
    }

    /// The type of a column; `None` where there is none that holds all of it.
    fn data_type(&self) -> Option<DataType> {
        match self {
            Self::Unknown | Self::Mixed | Self::Whole { negative: true, large: true } => None,
            Self::Bool => Some(DataType::Boolean),
            Self::Whole { large: true, .. } => Some(DataType::UInt64),
            Self::Whole { .. } => Some(DataType::Int64),
            Self::Float => Some(DataType::Float64),
            Self::Text => Some(DataType::Utf8),
            Self::List(element) => Some(DataType::new_list(element.data_type()?, true)),
            Self::Object(members) => {
                let field = |(name, kind): (&str, &Self)| Some(Field::new(name, kind.data_type()?, true));
                let fields: Option<Vec<Field>> = members.ordered().map(field).collect();
                let fields = fields.filter(|fields| !fields.is_empty() && members.is_record())?;
                Some(DataType::Struct(Fields::from(fields)))
            }
        }
    }
}

/// The members of objects, by name, in the order in which the objects have them.
#[derive(Debug, Default)]
struct Members {
    kinds: Vec<(String, Kind)>,
    places: HashMap<String, usize>,
    /// Names as tools see them that do not tell capital letters.
    folded: HashSet<String>,
    /// Which member follows which.
    pairs: BTreeSet<(usize, usize)>,
    /// Whether some member has no place here.
    incomplete: bool,
}

impl Members {
    fn see(&mut self, members: &Map<String, Value>, depth: usize, members_max: usize) {
        let mut before = None;
        for (name, value) in members {
            let Some(place) = self.place(name, members_max) else {
                self.incomplete = true;
                continue;
            };
            // A null cell is a member that is not there.
            self.incomplete |= value.is_null();
            self.kinds[place].1.see(value, depth);
            if let Some(before) = before.replace(place) {
                self.note(before, place);
            }
        }
    }

    fn note(&mut self, before: usize, after: usize) {
        if self.pairs.len() < PAIRS_MAX {
            self.pairs.insert((before, after));
        } else {
            self.incomplete = true;
        }
    }

    fn place(&mut self, name: &str, members_max: usize) -> Option<usize> {
        if let Some(&place) = self.places.get(name) {
            return Some(place);
        }
        if self.kinds.len() == members_max || !is_plain(name) || !self.folded.insert(name.to_lowercase()) {
            return None;
        }
        self.places.insert(name.to_owned(), self.kinds.len());
        self.kinds.push((name.to_owned(), Kind::Unknown));
        Some(self.kinds.len() - 1)
    }

    /// Whether every member has a place, and always the same one.
    fn is_record(&self) -> bool {
        !self.incomplete && self.order().1
    }

    /// The order of the members that fits those of the objects, where there is one (Kahn, 1962); else as they came.
    fn order(&self) -> (Vec<usize>, bool) {
        let mut before = vec![0_usize; self.kinds.len()];
        self.pairs.iter().for_each(|&(_, after)| before[after] += 1);
        let mut free: BTreeSet<usize> = (0..before.len()).filter(|&place| before[place] == 0).collect();
        let mut order = Vec::with_capacity(before.len());
        while let Some(place) = free.pop_first() {
            order.push(place);
            for &(_, after) in self.pairs.range((place, 0)..=(place, usize::MAX)) {
                before[after] -= 1;
                if before[after] == 0 {
                    free.insert(after);
                }
            }
        }
        match order.len() == before.len() {
            true => (order, true),
            false => ((0..before.len()).collect(), false),
        }
    }

    fn ordered(&self) -> impl Iterator<Item = (&str, &Kind)> {
        self.order().0.into_iter().map(|place| (self.kinds[place].0.as_str(), &self.kinds[place].1))
    }
}

/// Whether other tools take a column of this name: dots mean nesting to some, and control characters little to any.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && !name.contains(|letter: char| letter == '.' || letter.is_control())
}

/// Looks at the metadata of all documents.
#[derive(Debug, Default)]
pub(crate) struct Inference {
    members: Members,
    /// Types that columns had when they were imported, as long as every value comes back from them.
    recorded: BTreeMap<String, DataType>,
}

/// The type for a column that had this one; `None` where other tools would not read it as what it is.
fn kept(data_type: &DataType) -> Option<DataType> {
    #[allow(clippy::wildcard_enum_match_arm, reason = "these are the types that all tools know")]
    match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Date32
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(..)
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => Some(data_type.clone()),
        DataType::Float16 => Some(DataType::Float32),
        DataType::Utf8View => Some(DataType::Utf8),
        DataType::Date64 => Some(DataType::Date32),
        DataType::Dictionary(_, values) => kept(values),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => Some(DataType::new_list(kept(item.data_type())?, true)),
        DataType::Struct(fields) => {
            let field = |field: &Arc<Field>| Some(Field::new(field.name(), kept(field.data_type())?, true));
            let fields: Option<Vec<Field>> = fields.iter().map(field).collect();
            fields.filter(|fields| !fields.is_empty()).map(|fields| DataType::Struct(Fields::from(fields)))
        }
        _ => None,
    }
}

/// What metadata become.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Inferred {
    /// The columns.
    pub(crate) columns: Vec<Arc<Field>>,
    /// Whether a column of JSON is needed beside them.
    pub(crate) json: bool,
}

impl Inference {
    /// For metadata beside columns of these names, some of which once had these types, as Arrow writes them.
    pub(crate) fn beside(
        reserved: impl IntoIterator<Item = impl AsRef<str>>,
        recorded: &BTreeMap<String, String>,
    ) -> Self {
        let folded = reserved.into_iter().map(|name| name.as_ref().to_lowercase()).collect();
        let readable = |(name, text): (&String, &String)| Some((name.clone(), kept(&text.parse().ok()?)?));
        let recorded = recorded.iter().filter_map(readable).collect();
        Self { members: Members { folded, ..Members::default() }, recorded }
    }

    /// Takes the metadata of some documents into account.
    pub(crate) fn see<'a>(&mut self, metadata: impl Iterator<Item = &'a Map<String, Value>> + Clone) {
        metadata.clone().for_each(|metadata| self.members.see(metadata, DEPTH_MAX, COLUMNS_MAX));
        self.recorded.retain(|name, data_type| {
            let values: Vec<_> =
                metadata.clone().filter_map(|row| row.get(name)).filter(|row| !row.is_null()).collect();
            let values: Vec<_> = values.into_iter().map(Some).collect();
            build::column(&values, data_type).is_ok_and(|(_, lost)| lost.is_empty())
        });
    }

    /// What all that was seen becomes.
    pub(crate) fn finish(self) -> Inferred {
        let Self { members, mut recorded } = self;
        let (order, agrees) = members.order();
        let mut inferred = Inferred { columns: Vec::new(), json: members.incomplete || !agrees };
        for place in order {
            let (name, kind) = &members.kinds[place];
            match recorded.remove(name).or_else(|| kind.data_type()) {
                Some(data_type) => inferred.columns.push(Arc::new(Field::new(name, data_type, true))),
                None => inferred.json = true,
            }
        }
        inferred
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn inferred(rows: &[Value]) -> Inferred {
        let mut inference = Inference::beside(["id", "text"], &BTreeMap::new());
        inference.see(rows.iter().map(|row| row.as_object().unwrap()));
        inference.finish()
    }

    fn types(rows: &[Value]) -> Vec<(String, String)> {
        let shown = |field: &Arc<Field>| (field.name().clone(), field.data_type().to_string());
        inferred(rows).columns.iter().map(shown).collect()
    }

    #[track_caller]
    fn expect(rows: &[Value], columns: &[(&str, &str)], json: bool) {
        let expected: Vec<_> = columns.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect();
        assert_eq!(types(rows), expected);
        assert_eq!(inferred(rows).json, json);
    }

    #[test]
    fn values_of_one_kind_become_a_column() {
        let rows = [json!({"n": 1, "f": 0.5, "b": true, "s": "x", "l": [1, 2]}), json!({"n": -7, "l": []})];
        expect(
            &rows,
            &[("n", "Int64"), ("f", "Float64"), ("b", "Boolean"), ("s", "Utf8"), ("l", "List(Int64)")],
            false,
        );
        expect(&[json!({"n": u64::MAX}), json!({"n": 1})], &[("n", "UInt64")], false);
    }

    #[test]
    fn what_is_mixed_stays_json() {
        for (one, other) in
            [(json!(1), json!(1.0)), (json!(1), json!("1")), (json!(-1), json!(u64::MAX)), (json!([1]), json!(["1"]))]
        {
            expect(&[json!({"m": one, "k": 1}), json!({"m": other, "k": 2})], &[("k", "Int64")], true);
        }
        expect(&[json!({"empty": {}, "none": null, "no": []})], &[], true);
    }

    #[test]
    fn names_that_others_stumble_over_stay_json() {
        expect(&[json!({"ID": 1, "a.b": 1, "": 1, "x\ny": 1, "é": 1})], &[("é", "Int64")], true);
        expect(&[json!({"Lang": "en", "lang": "de"})], &[("Lang", "Utf8")], true);
    }

    #[test]
    fn columns_stand_in_the_order_of_the_documents() {
        let rows = [json!({"a": 1, "c": 1}), json!({"a": 1, "b": 1, "c": 1}), json!({"z": 1, "a": 1})];
        expect(&rows, &[("z", "Int64"), ("a", "Int64"), ("b", "Int64"), ("c", "Int64")], false);
        expect(&[json!({"a": 1, "b": 1}), json!({"b": 1, "a": 1})], &[("a", "Int64"), ("b", "Int64")], true);
    }

    #[test]
    fn a_column_keeps_the_type_that_it_came_with_while_its_values_fit() {
        let recorded = [("day", "Date32"), ("price", "Decimal128(10, 2)"), ("n", "Int32"), ("map", "Null"), ("x", "?")];
        let recorded = recorded.map(|(name, kind)| (name.to_owned(), kind.to_owned())).into();
        let mut inference = Inference::beside(["id"], &recorded);
        let rows = [json!({"day": "2026-11-21", "price": 1.5, "n": 1}), json!({"price": 2, "n": 1_i64 << 40, "x": 1})];
        rows.iter().for_each(|row| inference.see(std::iter::once(row.as_object().unwrap())));
        let Inferred { columns, json } = inference.finish();
        let types: Vec<_> =
            columns.iter().map(|field| (field.name().as_str(), field.data_type().to_string())).collect();
        let expected = [("day", "Date32"), ("price", "Decimal128(10, 2)"), ("n", "Int64"), ("x", "Int64")];
        assert_eq!((types, json), (expected.map(|(name, kind)| (name, kind.to_owned())).to_vec(), false));
    }

    #[test]
    fn a_dictionary_is_no_record() {
        let wide: Map<String, Value> = (0..=FIELDS_MAX).map(|n| (n.to_string(), json!(n))).collect();
        expect(&[json!({"d": wide, "k": {"x": 1}})], &[("k", "Struct(\"x\": Int64)")], true);
    }
}
