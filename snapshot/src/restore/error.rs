//! Why a restore failed.

use std::io;
use std::path::{Path, PathBuf};

use super::pages::PageError;

/// Why a restore failed. Nothing was restored and nothing is left behind, except after [`RestoreError::NotSynced`].
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// This data directory contains files.
    #[error("{0} is not empty: restore into a new directory, or move this one aside first (mv)")]
    NotEmpty(PathBuf),
    /// Another process, or another [`Restorer`](super::Restorer), prepares this directory.
    #[error("another restore into {0} is running")]
    UnderWay(PathBuf),
    /// The file system refused an operation.
    #[error("failed to {action} {path}: {cause}")]
    File {
        /// What was attempted, as a verb: `write`, `sync`, …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        cause: io::Error,
    },
    /// [`Options::name`](super::Options::name) is not among the members.
    #[error("the member {name:?} is not one of the new cluster's members: {members}")]
    NotAMember {
        /// The name that was given.
        name: String,
        /// The members' names, separated by commas.
        members: String,
    },
    /// A member's name or peer URL is missing, or is not one that etcd accepts.
    #[error("the member {name:?} is invalid: {reason}, got {what:?}")]
    Member {
        /// The member's name.
        name: String,
        /// The URL; empty if it is missing.
        what: String,
        /// The rule that it breaks, as part of a sentence.
        reason: &'static str,
    },
    /// Two members have the same name, peer URL or ID.
    #[error("the members {first:?} and {second:?} of the new cluster both have the same name or peer URL")]
    Twins {
        /// The name of one.
        first: String,
        /// The name of the other.
        second: String,
    },
    /// A page that the restore needs is damaged.
    #[error("the database is damaged: {0}")]
    Page(#[from] PageError),
    /// A bucket that every etcd has is missing; this is its name.
    #[error("this is not an etcd database: it has no bucket {0:?}")]
    NoBucket(&'static str),
    /// The raised revision would be more than half of the largest `i64`, which leaves no room for later writes.
    #[error("the revision {revision} cannot be raised by {bump}: it would exceed the largest revision")]
    Bump {
        /// The revision of the backup.
        revision: i64,
        /// What was to be added ([`Options::bump`](super::Options::bump)).
        bump: u64,
    },
    /// The database ends before the revision given to [`Restorer::at_least`](super::Restorer::at_least).
    #[error("the database ends at revision {is}, but must contain revision {wanted}")]
    TooOld {
        /// The revision of the database.
        is: i64,
        /// The revision that was demanded.
        wanted: i64,
    },
    /// The directory is complete and etcd may start from it, but it is unknown whether it survives a loss of power.
    #[error("restored into {folder}, but could not be synced to disk: {cause}")]
    NotSynced {
        /// The data directory.
        folder: PathBuf,
        /// The failed sync.
        cause: Box<RestoreError>,
    },
}

impl RestoreError {
    pub(super) fn file(action: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::File { action, path: path.to_owned(), cause }
    }
}
