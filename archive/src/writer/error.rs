//! Why no new backup was made.

use backstay_protocol::SnapshotName;
use tokio_util::sync::CancellationToken;

use super::examine::Rejected;
use super::source::SourceError;
use crate::manifest::Manifest;
use crate::store::StoreError;

/// Why no new backup was made.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The source failed; the text says why.
    #[error("{0}")]
    Source(#[from] SourceError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The name belongs to another slot's backup, or to something that is not a backup.
    #[error("the name {0} is taken")]
    NameTaken(SnapshotName),
    /// This slot's backup already exists and is verified: another attempt made it. This is its manifest.
    #[error("this backup was already made by attempt {}", .0.attempt)]
    SlotDone(Box<Manifest>),
    /// The snapshot's digest is not the one that the source states: it was damaged between the member and this
    /// machine.
    #[error("the snapshot's sha256 is {got}, but etcd says {expected}")]
    Digest {
        /// The SHA-256 that the source states, in hexadecimal.
        expected: String,
        /// The SHA-256 of what arrived, in hexadecimal.
        got: String,
    },
    /// The snapshot's length is not the one that the source states.
    #[error("the snapshot has {got} bytes, but etcd says {expected}")]
    Total {
        /// The length that the source states, in bytes.
        expected: u64,
        /// The bytes that arrived.
        got: u64,
    },
    /// The encrypted form did not decrypt to what was encrypted: this machine's memory or a stage of the pipeline is
    /// broken.
    #[error("the encrypted snapshot does not decrypt to the original: {0}")]
    Reopened(String),
    /// The bytes arrived unchanged, but the database in them is not worth keeping.
    #[error("{0}")]
    Rejected(#[from] Rejected),
    /// The manifest would be larger than [`MANIFEST_MAX`](crate::manifest::MANIFEST_MAX).
    #[error("the manifest of the backup cannot be written: {0}")]
    Manifest(String),
    /// The caller cancelled the attempt.
    #[error("cancelled")]
    Cancelled,
    /// A thread panicked.
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
