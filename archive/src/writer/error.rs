//! Why there is no new backup.

use backstay_protocol::SnapshotName;
use tokio_util::sync::CancellationToken;

use super::examine::Rejected;
use super::source::SourceError;
use crate::manifest::Manifest;
use crate::store::StoreError;

/// Why there is no new backup.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("{0}")]
    Source(#[from] SourceError),
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Another slot's backup, or something that is none, has the name.
    #[error("the name {0} is taken")]
    NameTaken(SnapshotName),
    /// This slot's backup is there and proven: some other attempt made it.
    #[error("this backup was already made by attempt {}", .0.attempt)]
    SlotDone(Box<Manifest>),
    #[error("the snapshot's sha256 is {got}, but etcd says {expected}")]
    Digest { expected: String, got: String },
    #[error("the snapshot has {got} bytes, but etcd says {expected}")]
    Total { expected: u64, got: u64 },
    /// The sealed form did not open to what went in: memory or a stage of the pipeline is broken.
    #[error("the encrypted snapshot does not decrypt to the original: {0}")]
    Reopened(String),
    /// Its bytes are right, and what they say is not.
    #[error("{0}")]
    Rejected(#[from] Rejected),
    #[error("the manifest of the backup cannot be written: {0}")]
    Manifest(String),
    #[error("cancelled")]
    Cancelled,
    #[error("internal error: {0}")]
    Internal(String),
}

/// Runs `work` unless, or until, the attempt is cancelled.
pub(super) async fn or_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, WriteError>>,
) -> Result<T, WriteError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(WriteError::Cancelled),
        result = work => result,
    }
}
