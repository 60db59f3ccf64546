//! What went wrong, whose fault it is, and what to do next.
//!
//! Three visible groups: yours (bad input), the world's (I/O, model files), ours (corruption, bugs); [`Error::blame`]
//! tells which. Errors of redb, tantivy and candle stay inside.

use std::path::PathBuf;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Yours.
    /// The input cannot be taken; nothing was written.
    #[error("{0}")]
    InvalidInput(String),
    /// A vector has another length than those of its space.
    #[error(
        "{} holds vectors of {expected} numbers ({model}); got {got}. Give one of {expected}, or change the model with `reembed`",
        called(collection, space.as_deref())
    )]
    DimensionMismatch {
        /// The collection.
        collection: String,
        /// The further space; `None` where it is the default one.
        space: Option<String>,
        /// The model or "external".
        model: String,
        /// The dimensions that it holds.
        expected: usize,
        /// The dimensions given.
        got: usize,
    },
    /// The collection, or a further space of it, was built with another model.
    #[error(
        "{} was built with {stored}; got {given} ({difference}). \
         Open it with that model, or change it to the other one with `reembed`",
        called(collection, space.as_deref())
    )]
    ModelMismatch {
        /// The collection.
        collection: String,
        /// The further space; `None` where it is the default one.
        space: Option<String>,
        /// The model it was built with.
        stored: String,
        /// The model it was opened with.
        given: String,
        /// The first field that differs, with both values.
        difference: String,
    },
    /// The collection needs a model that only the caller can give (its own [`crate::Embedder`]).
    #[error(
        "{} was built with {model}, which only the application has: open it with `collection_with`, \
         or search it with mode `text`",
        called(collection, space.as_deref())
    )]
    ModelRequired {
        /// The collection.
        collection: String,
        /// The further space; `None` where it is the default one.
        space: Option<String>,
        /// The model it was built with.
        model: String,
    },
    /// This build lacks a feature.
    #[error("{what} needs the feature `{feature}`: build with `--features {feature}`")]
    FeatureMissing {
        /// What was asked for.
        what: String,
        /// The Cargo feature that brings it.
        feature: &'static str,
    },

    // The world's.
    /// The file system refused.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A model's files are missing, damaged or of a kind that is not supported.
    #[error("model {model}: {reason}")]
    Model {
        /// The model, as it was named.
        model: String,
        /// What is wrong and what would help.
        reason: String,
    },
    /// The embedder failed; no document of the batch was written.
    #[error("embedding failed: {0}")]
    Embedding(String),
    /// The reranker failed.
    #[error("reranking failed: {0}")]
    Reranking(String),

    // Whose it is, the storage engine tells.
    /// The storage engine's own error.
    #[error(transparent)]
    Storage(quiverdb_storage::Error),
}

/// A space as its users know it: the default one is the collection's own.
pub(crate) fn called(collection: &str, space: Option<&str>) -> String {
    match space {
        None => format!("collection `{collection}`"),
        Some(space) => format!("space `{space}` of collection `{collection}`"),
    }
}

/// Whose fault an error is; the command line turns this into its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The caller's: bad input (exit code 2).
    Caller,
    /// The world's: I/O, a model that is not there, another process (exit code 1).
    World,
    /// Ours: damaged data or a bug (exit code 3).
    Ours,
}

impl Error {
    /// Bad input, with the sentence that says what to do about it.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidInput(message.into())
    }

    /// A model that cannot be used, and why.
    pub(crate) fn model(model: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Model { model: model.into(), reason: reason.into() }
    }

    /// An I/O error at a path.
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// Whose fault this is.
    pub fn blame(&self) -> Blame {
        use quiverdb_storage::Error as S;
        match self {
            Self::InvalidInput(_)
            | Self::DimensionMismatch { .. }
            | Self::ModelMismatch { .. }
            | Self::ModelRequired { .. }
            | Self::FeatureMissing { .. }
            | Self::Storage(
                S::InvalidInput(_)
                | S::DimensionMismatch { .. }
                | S::UnknownCollection(_)
                | S::CollectionExists(_)
                | S::Changed { .. },
            ) => Blame::Caller,
            Self::Io { .. }
            | Self::Model { .. }
            | Self::Embedding(_)
            | Self::Reranking(_)
            | Self::Storage(
                S::Io { .. }
                | S::Locked { .. }
                | S::NewerFormat { .. }
                | S::DiskFull { .. }
                | S::Gone { .. }
                | S::Poisoned(_)
                | S::Unconfirmed(_)
                | S::Stale
                | S::Expired,
            ) => Blame::World,
            Self::Storage(_) => Blame::Ours,
        }
    }
}

impl From<quiverdb_storage::Error> for Error {
    fn from(error: quiverdb_storage::Error) -> Self {
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "storage's errors are non-exhaustive, and all others stay whole"
        )]
        match error {
            quiverdb_storage::Error::InvalidInput(message) => Self::InvalidInput(message),
            quiverdb_storage::Error::Io { path, source } => Self::Io { path, source },
            other => Self::Storage(other),
        }
    }
}
