//! How does a writer notice that another one was faster?
//!
//! Every content of a document has a version, a digest of it. A write that names the versions it expects is compared with
//! what is there within its own transaction, so none goes unseen, whoever else writes.

use std::fmt;
use std::str::FromStr;

use quiverdb_storage::{Alongside, DocumentId, Expected, ExpectedVersion, Operation};

use super::Collection;
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
        let (id, snapshot) = (id.into(), self.snapshot()?);
        let digest = snapshot.inner.digest(&id)?;
        Ok(snapshot.get(id)?.zip(digest.map(Version)))
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
}
