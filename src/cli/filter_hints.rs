//! Why can this filter choose nothing? Because no document has the field, or none has a value of that type.
//!
//! Asked when a search came back empty and never before; of the first documents, since those of a collection are mostly
//! alike. What a name means and which values compare is asked of filters themselves.

use anyhow::Result;
use quiverdb::{Collection, Document, Filter};
use serde_json::{Value, json};

/// Documents that are looked at.
const SAMPLE: usize = 256;
/// Conditions that are looked at.
const CONDITIONS_MAX: usize = 16;
/// Fields that are named in place of one that is not there.
const FIELDS_SHOWN_MAX: usize = 12;

/// A condition that only a document with the field can satisfy.
struct Condition {
    field: String,
    operator: String,
    value: Value,
}

/// What is wrong with each condition that none of the first documents could satisfy, whatever its value.
///
/// # Errors
/// Where the database cannot be read.
pub(crate) fn hints(collection: &Collection, filter: &Filter) -> Result<Vec<String>> {
    let documents = collection.scan()?.take(SAMPLE).collect::<quiverdb::Result<Vec<_>>>()?;
    let is_all = documents.len() < SAMPLE;
    let mut conditions = Vec::new();
    collect(&filter.to_json(), &mut conditions);
    let hints = conditions.iter().take(CONDITIONS_MAX).filter_map(|condition| condition.hint(&documents, is_all));
    let mut hints: Vec<String> = hints.collect();
    hints.dedup();
    Ok(hints)
}

fn collect(filter: &Value, found: &mut Vec<Condition>) {
    for (name, value) in filter.as_object().into_iter().flatten() {
        match (name.as_str(), value) {
            ("and" | "or", Value::Array(parts)) => parts.iter().for_each(|part| collect(part, found)),
            // Documents without the field satisfy what is negated.
            ("not", _) => {}
            (_, tests) => {
                let tests = tests.as_object().into_iter().flatten();
                let needs_field = |(operator, value): &(&String, &Value)| match operator.as_str() {
                    "ne" | "nin" => false,
                    "exists" => **value == json!(true),
                    _ => true,
                };
                found.extend(tests.filter(needs_field).map(|(operator, value)| Condition {
                    field: name.clone(),
                    operator: operator.clone(),
                    value: value.clone(),
                }));
            }
        }
    }
}

impl Condition {
    fn hint(&self, documents: &[Document], is_all: bool) -> Option<String> {
        let field = &self.field;
        let having: Vec<&Document> = matching(documents.iter(), field, &json!({"exists": true}))?;
        let Some(first) = having.first() else {
            let whose = if is_all { "no document".to_owned() } else { format!("none of the first {SAMPLE} documents") };
            return Some(format!("--filter: {whose} has the field `{field}`{}", others(documents)));
        };
        if self.operator == "exists" {
            return None;
        }
        let has = |(kind, probe): (&'static str, Value)| {
            let some = !matching(having.iter().copied(), field, &probe)?.is_empty();
            some.then_some(kind)
        };
        let found: Vec<&str> = kinds().into_iter().filter_map(has).collect();
        let values = self.value.as_array().map_or(std::slice::from_ref(&self.value), Vec::as_slice);
        let asked: Vec<&str> = values.iter().map(kind).collect();
        if asked.iter().any(|kind| found.contains(kind)) {
            return None;
        }
        let is_compared = !["prefix", "contains"].contains(&self.operator.as_str());
        let way_out = match (asked.first(), found.as_slice()) {
            (_, []) => format!("; ask for a field of it, as in `{field}.name`"),
            (Some(&STRING), [NUMBER]) if is_compared => "; leave out the quotes".to_owned(),
            (Some(&NUMBER), [STRING]) if is_compared => "; put it in quotes".to_owned(),
            _ => String::new(),
        };
        let found = if found.is_empty() { "an object".to_owned() } else { found.join(" or ") };
        let asked = asked.first()?;
        Some(format!(
            "--filter: `{field}` is {found} in the documents (`{}`, say) and {asked} in the filter{way_out}",
            first.id
        ))
    }
}

const NUMBER: &str = "a number";
const STRING: &str = "a string";
const TRUTH: &str = "true or false";
const NULL: &str = "null";

/// What finds every value of a kind.
fn kinds() -> [(&'static str, Value); 4] {
    [
        (NUMBER, json!({"gte": f64::MIN})),
        (STRING, json!({"gte": ""})),
        (TRUTH, json!({"in": [true, false]})),
        (NULL, json!({"eq": null})),
    ]
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Number(_) => NUMBER,
        Value::Bool(_) => TRUTH,
        Value::Null => NULL,
        Value::String(_) | Value::Array(_) | Value::Object(_) => STRING,
    }
}

/// The documents whose field satisfies this test.
fn matching<'a>(documents: impl Iterator<Item = &'a Document>, field: &str, test: &Value) -> Option<Vec<&'a Document>> {
    let filter = Filter::from_json(&json!({field: test})).ok()?;
    let satisfies = |document: &&Document| {
        let metadata = document.metadata.as_object();
        metadata.is_some_and(|all| filter.matches_document(&document.id, document.title.as_deref(), all))
    };
    Some(documents.filter(satisfies).collect())
}

/// The fields that there are, for a sentence.
fn others(documents: &[Document]) -> String {
    let objects = documents.iter().filter_map(|document| document.metadata.as_object());
    let mut fields: Vec<&str> = objects.flat_map(|object| object.keys().map(String::as_str)).collect();
    fields.sort_unstable();
    fields.dedup();
    let more = fields.len().saturating_sub(FIELDS_SHOWN_MAX);
    fields.truncate(FIELDS_SHOWN_MAX);
    match (fields.is_empty(), more) {
        (true, _) => "; there is none at all".to_owned(),
        (false, 0) => format!("; there are {}", fields.join(", ")),
        (false, more) => format!("; there are {} and {more} more", fields.join(", ")),
    }
}
