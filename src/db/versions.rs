//! How does a writer notice that another one was faster?
//!
//! Every content of a document has a version, a digest of it. A write that names the versions it expects is compared with
//! what is there within its own transaction, so none goes unseen, whoever else writes.

use std::fmt;
use std::str::FromStr;

use quiverdb_storage::{Alongside, DocumentId, Expected, ExpectedVersion, Operation};

use super::{Collection, Snapshot};
use crate::ingest;
use crate::types::{AddReport, Document};
use crate::{Error, Result};

/// Which content a document has: a digest of its text, title, metadata, own vectors and time of expiry. As text 32
/// hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version([u8; 16]);

impl From<Version> for ExpectedVersion {
    fn from(version: Version) -> Self {
        Self::OneOf(vec![version.0])
    }
}

impl Version {
    /// Any of these is expected.
    pub fn one_of(versions: impl IntoIterator<Item = Self>) -> ExpectedVersion {
        ExpectedVersion::OneOf(versions.into_iter().map(|version| version.0).collect())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten();
        let refused = || {
            Error::invalid(format!("`{}` is no version of a document: 32 hexadecimal digits are", text.escape_debug()))
        };
        // `from_str_radix` takes a sign.
        let number = number.filter(|_| text.bytes().all(|byte| byte.is_ascii_hexdigit())).ok_or_else(refused)?;
        let mut bytes = [0; 16];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = (number >> (8 * (15 - at))) as u8;
        }
        Ok(Self(bytes))
    }
}

impl Collection {
    /// A document with its version, both of one moment; `None` where it is not there.
    ///
    /// # Errors
    /// As [`Collection::get`].
    pub fn get_with_version(&self, id: impl Into<DocumentId>) -> Result<Option<(Document, Version)>> {
        self.snapshot()?.get_with_version(id)
    }

    /// [`Collection::add`], where the document that is there is as expected; else nothing happens. Returns the new version.
    ///
    /// ```
    /// # fn main() -> quiverdb::Result<()> {
    /// use quiverdb::{Database, Document, ExpectedVersion};
    ///
    /// let notes = Database::in_memory()?.collection("notes")?;
    /// let (_, first) = notes.add_expecting(Document::new(1, "first"), ExpectedVersion::Absent)?;
    /// assert!(notes.add_expecting(Document::new(1, "too late"), ExpectedVersion::Absent).is_err());
    /// let (_, second) = notes.add_expecting(Document::new(1, "second"), first.into())?;
    /// assert!(notes.delete_expecting(1, first.into()).is_err());
    /// assert!(notes.delete_expecting(1, second.into())?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`quiverdb_storage::Error::Changed`] where it is not as expected; else as [`Collection::add`].
    pub fn add_expecting(&self, document: Document, expected: ExpectedVersion) -> Result<(AddReport, Version)> {
        let (report, digest) = ingest::add_expecting(&self.parts, document, expected)?;
        Ok((report, Version(digest)))
    }

    /// [`Collection::delete`], where the document is as expected; else nothing happens. Says whether it was there.
    ///
    /// # Errors
    /// [`quiverdb_storage::Error::Changed`] where it is not as expected; else as [`Collection::delete`].
    pub fn delete_expecting(&self, id: impl Into<DocumentId>, version: ExpectedVersion) -> Result<bool> {
        let id = id.into();
        let along = Alongside::expected([Expected { id: id.clone(), version }]);
        Ok(ingest::write(self.parts.current()?, &[Operation::Delete(id)], &along)?.removed == 1)
    }

    /// Adds documents in one transaction, where each that is there is as expected; else nothing happens to any. For a change
    /// of several documents that were read: where it fails, read them again and decide anew. All of them, with their vectors,
    /// are in memory together; of one id only one may be given.
    ///
    /// ```
    /// # fn main() -> quiverdb::Result<()> {
    /// use quiverdb::{Database, Document, ExpectedVersion};
    ///
    /// let notes = Database::in_memory()?.collection("notes")?;
    /// let (_, first) = notes.add_expecting(Document::new(1, "first"), ExpectedVersion::Absent)?;
    /// let both = || vec![(Document::new(1, "1st"), first.into()), (Document::new(2, "2nd"), ExpectedVersion::Absent)];
    /// assert_eq!(notes.add_many_expecting(both())?.added, 1);
    /// assert!(notes.add_many_expecting(both()).is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`quiverdb_storage::Error::Changed`] where one is not as expected; [`Error::InvalidInput`] where an id is given twice;
    /// else as [`Collection::add`].
    pub fn add_many_expecting(&self, documents: Vec<(Document, ExpectedVersion)>) -> Result<AddReport> {
        ingest::add_many_expecting(&self.parts, documents)
    }

    /// [`Collection::delete_many`], where each document is as expected; else nothing happens to any. Returns how many there
    /// were.
    ///
    /// # Errors
    /// [`quiverdb_storage::Error::Changed`] where one is not as expected; else as [`Collection::delete_many`].
    pub fn delete_many_expecting(&self, ids: Vec<(DocumentId, ExpectedVersion)>) -> Result<u64> {
        let operations: Vec<Operation> = ids.iter().map(|(id, _)| Operation::Delete(id.clone())).collect();
        let along = Alongside::expected(ids.into_iter().map(|(id, version)| Expected { id, version }));
        Ok(ingest::write(self.parts.current()?, &operations, &along)?.removed)
    }
}

impl Snapshot {
    /// As [`Collection::get_with_version`].
    ///
    /// # Errors
    /// As [`Collection::get`].
    pub fn get_with_version(&self, id: impl Into<DocumentId>) -> Result<Option<(Document, Version)>> {
        let Some(stored) = self.inner.document(&id.into())? else { return Ok(None) };
        let version = Version(stored.digest);
        Ok(Some((self.restored(stored)?, version)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use quiverdb_storage::{Error as Stored, ExpectedVersion};
    use serde_json::json;

    use crate::{CollectionConfig, Database, Document, Error};

    #[test]
    fn several_documents_are_replaced_together_or_none_is() {
        let points = Database::in_memory().unwrap();
        let points = points.collection_with("points", CollectionConfig::new().external(1)).unwrap();
        let point = |id: i64, note: &str| Document::new(id, "").vector(vec![1.0]).metadata(json!({"note": note}));
        points.add_many([point(1, "a"), point(2, "b")]).unwrap();
        let version = |id: i64| points.get_with_version(id).unwrap().unwrap().1;
        let (one, two) = (version(1), version(2));
        points.add(point(2, "changed")).unwrap();
        let edit = || vec![(point(1, "x"), one.into()), (point(2, "y"), two.into())];
        let refused = points.add_many_expecting(edit());
        assert!(matches!(&refused, Err(Error::Storage(Stored::Changed { id, .. })) if id == "2"), "{refused:?}");
        assert_eq!(points.get(1).unwrap().unwrap().metadata, json!({"note": "a"}));
        let mut anew = edit();
        anew[1].1 = version(2).into();
        anew.push((point(3, "new"), ExpectedVersion::Absent));
        let report = points.add_many_expecting(anew).unwrap();
        assert_eq!((report.added, report.replaced, report.unchanged), (1, 2, 0));
        assert_eq!(points.get(2).unwrap().unwrap().metadata, json!({"note": "y"}));
        let twice = vec![(point(4, "a"), ExpectedVersion::Any), (point(4, "b"), ExpectedVersion::Any)];
        assert!(points.add_many_expecting(twice).unwrap_err().to_string().contains("`4` is given twice"));
        let gone = vec![(1.into(), version(1).into()), (2.into(), two.into())];
        assert!(points.delete_many_expecting(gone).is_err());
        let gone = vec![(1.into(), version(1).into()), (2.into(), version(2).into())];
        assert_eq!((points.delete_many_expecting(gone).unwrap(), points.count().unwrap()), (2, 1));
    }
}
