//! From a backup in a store to a data folder that etcd starts from: fetched ahead, opened, proven against the
//! manifest and written by threads of their own, all at once; the folder becomes visible only when all is proven.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backstay_snapshot::restore::Restorer;
pub use backstay_snapshot::restore::{DEFAULT_BUMP, NewMember, Options, RestoreError, Restored};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::manifest::Manifest;
use crate::reader::{self, ReadError};
use crate::seal::Identity;
use crate::store::Store;

/// Pieces that wait to be written.
const PIECES: usize = 8;

/// Why a backup could not be restored; nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum RestoreBackupError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error("cancelled")]
    Cancelled,
}

/// How far a restore is; read it from anywhere.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of the database that are written, out of the manifest's `snapshot_bytes`.
    pub written: AtomicU64,
}

/// Restores a backup into `folder`, which must be empty or not there. Memory does not depend on the database.
/// Cancelled, it has removed what it made when it returns; what is proven already it finishes.
pub async fn restore(
    store: &dyn Store,
    manifest: &Manifest,
    identity: Option<&Identity>,
    folder: &Path,
    options: Options,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Restored, RestoreBackupError> {
    let folder = folder.to_owned();
    let restorer = blocking(move || Restorer::create(&folder, options)).await??;
    let (out, pieces) = mpsc::channel(PIECES);
    let (bytes, counted) = (manifest.snapshot_bytes, Arc::clone(progress));
    let mut writing = JoinSet::new();
    writing.spawn_blocking(move || write(restorer, pieces, bytes, &counted));
    let proven = cancel.run_until_cancelled(reader::run(store, manifest, identity, vec![out])).await;
    let written = writing.join_next().await.expect("one thread was started").map_err(failed)?;
    // A disk that is full ends the reading too: its own reason comes first.
    let restorer = written?;
    proven.ok_or(RestoreBackupError::Cancelled)??;
    Ok(blocking(move || restorer.finish()).await??)
}

/// Writes the first `left` bytes: the database, without its trailer.
fn write(
    mut restorer: Restorer,
    mut pieces: mpsc::Receiver<Bytes>,
    mut left: u64,
    progress: &Progress,
) -> Result<Restorer, RestoreError> {
    while let Some(piece) = pieces.blocking_recv() {
        let database = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
        restorer.write(&piece[..database])?;
        left -= database as u64;
        progress.written.fetch_add(database as u64, Ordering::Relaxed);
    }
    Ok(restorer)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ReadError> {
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

fn failed(error: tokio::task::JoinError) -> ReadError {
    ReadError::Internal(format!("a thread of the restore failed: {error}"))
}
