//! Why nothing was restored.

use std::io;
use std::path::{Path, PathBuf};

use super::pages::PageError;

/// Why nothing was restored, but with [`RestoreError::NotSynced`].
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{0} is not empty: restore into a new directory, or move this one aside first (mv)")]
    NotEmpty(PathBuf),
    #[error("another restore into {0} is running")]
    UnderWay(PathBuf),
    #[error("failed to {action} {path}: {cause}")]
    File { action: &'static str, path: PathBuf, cause: io::Error },
    #[error("the member {name:?} is not one of the new cluster's members: {members}")]
    NotAMember { name: String, members: String },
    #[error("the member {name:?} is invalid: {reason}, got {what:?}")]
    Member { name: String, what: String, reason: &'static str },
    #[error("the members {first:?} and {second:?} of the new cluster both have the same name or peer URL")]
    Twins { first: String, second: String },
    #[error("the database is damaged: {0}")]
    Page(#[from] PageError),
    #[error("this is not an etcd database: it has no bucket {0:?}")]
    NoBucket(&'static str),
    #[error("the revision {revision} cannot be raised by {bump}: it would exceed the largest revision")]
    Bump { revision: i64, bump: u64 },
    #[error("the database ends at revision {is}, but must contain revision {wanted}")]
    TooOld { is: i64, wanted: i64 },
    /// All is there and whole, and etcd may start from it; whether it outlives a loss of power is not known.
    #[error("restored into {folder}, but could not be synced to disk: {cause}")]
    NotSynced { folder: PathBuf, cause: Box<RestoreError> },
}

impl RestoreError {
    pub(super) fn file(action: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::File { action, path: path.to_owned(), cause }
    }
}
