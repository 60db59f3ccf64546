//! What is a model called on the hub?
//!
//! Invariant: no part of an id can lead out of a folder that it names, and none needs escaping in a URL but the slashes
//! of a revision.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// The longest owner, name or revision.
const PART_MAX: usize = 96;

/// A model's place on the hub: `owner/name`, or `owner/name@revision`, where the revision is a branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HubId {
    repository: String,
    revision: Option<String>,
}

impl HubId {
    /// `owner/name`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The branch, tag or commit asked for; `None` for the main branch.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The same model at a commit.
    #[cfg(feature = "hub")]
    #[must_use]
    pub(crate) fn at(&self, commit: &str) -> Self {
        Self { repository: self.repository.clone(), revision: Some(commit.to_owned()) }
    }

    /// An id from the parts that a cache's folder is named by.
    #[cfg(feature = "hub")]
    pub(crate) fn from_parts(owner: &str, name: &str) -> Option<Self> {
        format!("{owner}/{name}").parse().ok()
    }
}

impl FromStr for HubId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (repository, revision) =
            text.split_once('@').map_or((text, None), |(id, revision)| (id, Some(revision.to_owned())));
        let named = repository.split_once('/').is_some_and(|(owner, name)| is_name(owner) && is_name(name));
        let is_id = named && revision.as_deref().is_none_or(is_revision);
        if is_id {
            return Ok(Self { repository: repository.to_owned(), revision });
        }
        Err(Error::invalid(format!(
            "`{text}` is not the id of a model on the hub: these look like `owner/name` or `owner/name@revision`"
        )))
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.revision {
            Some(revision) => write!(f, "{}@{revision}", self.repository),
            None => f.write_str(&self.repository),
        }
    }
}

/// As the hub has it: letters, digits, `.`, `_`, `-`, none of the marks at an end, no two of them together but `__`.
fn is_name(name: &str) -> bool {
    let marks = |character: char| matches!(character, '.' | '-');
    (1..=PART_MAX).contains(&name.len())
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_' || marks(character))
        && !name.starts_with(marks)
        && !name.ends_with(marks)
        && !name.contains("--")
        && !name.contains("..")
}

/// A branch, a tag or a commit. Branches may hold slashes.
fn is_revision(revision: &str) -> bool {
    let safe = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    let part =
        |part: &str| !part.is_empty() && part.chars().all(safe) && !part.starts_with('.') && !part.contains("..");
    (1..=PART_MAX).contains(&revision.len()) && revision.split('/').all(part)
}

/// Whether this is a whole commit hash, which names one state for ever.
#[cfg(feature = "hub")]
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_written_alike() -> Result<()> {
        for text in ["BAAI/bge-small-en-v1.5", "a/b@main", "a/b_c@refs/pr/1", "A__b/c.d@0123abc"] {
            assert_eq!(text.parse::<HubId>()?.to_string(), text);
        }
        let id: HubId = "a/b@v1".parse()?;
        assert_eq!((id.repository(), id.revision()), ("a/b", Some("v1")));
        Ok(())
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_id() {
        let not = [
            "name", "a/b/c", "../b", "a/..", "a/b@../x", "a/b@", "a/b@/x", "a/b@x//y", "/b", "a/", "a b/c", "a/b?x",
            "a\\b/c", "a/b--c", "./a", "a/b@x/.y", "a/b@x#y", "C:/b", "-a/b", "a/b.",
        ];
        for text in not {
            assert!(text.parse::<HubId>().is_err(), "{text}");
        }
    }
}
