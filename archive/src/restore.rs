//! From a backup in a store to a data folder that etcd starts from: fetched ahead, opened, proven against the
//! manifest, inspected and written by threads of their own, all at once; the folder becomes visible only when all is
//! good.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use backstay_snapshot::inspect::{Contents, Options as Look, Unknown};
use backstay_snapshot::inspect::{InspectError, Inspection, Inspector};
use backstay_snapshot::restore::Restorer;
pub use backstay_snapshot::restore::{DEFAULT_BUMP, NewMember, Options, Plan, RestoreError, Restored, check};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::manifest::{self, Manifest};
use crate::reader::{self, ReadError};
use crate::seal::Identity;
use crate::store::Store;

/// Pieces that wait to be written.
const PIECES: usize = 8;

/// Why a backup could not be restored; nothing of it is left behind but with [`RestoreError::NotSynced`].
#[derive(Debug, thiserror::Error)]
pub enum RestoreBackupError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error("the database is damaged: {0}")]
    Inspect(#[from] InspectError),
    #[error("the database ends at revision {is}, but its manifest says {wanted} or later")]
    TooOld { is: i64, wanted: i64 },
    #[error("the database has {found}, but its manifest says {said}")]
    Contradicts { found: String, said: String },
    #[error("cancelled")]
    Cancelled,
}

/// How far a restore is; read it from anywhere.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of the database that are written, out of the manifest's `snapshot_bytes`.
    pub written: AtomicU64,
}

/// A backup that was restored, and what it was seen to hold.
#[derive(Debug)]
pub struct Outcome {
    pub restored: Restored,
    /// Unknown where that would have taken more memory than inspection may use; no fault was found as far as it went.
    pub contents: Result<Contents, Unknown>,
}

/// Restores a backup into `folder`, which must be empty or not there. Memory depends on the database only by what
/// inspection takes: 60 bytes per page, up to its cap. Cancelled, it has removed what it made when it returns; what is
/// proven already it finishes.
pub async fn restore(
    store: &dyn Store,
    manifest: &Manifest,
    identity: Option<&Identity>,
    folder: &Path,
    options: Options,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Outcome, RestoreBackupError> {
    let into = Some((folder, options));
    let examined = examine(store, manifest, identity, into, Look::default(), progress, cancel).await?;
    let restored = examined.restored.expect("it was asked for");
    Ok(Outcome { restored, contents: examined.inspection.contents })
}

/// A backup that was looked at from end to end.
#[derive(Debug)]
pub struct Examined {
    /// Where it was to be restored.
    pub restored: Option<Restored>,
    pub inspection: Inspection,
}

/// Fetches, opens, proves and inspects a backup; restores it too where `into` names a folder, which appears only when
/// all is good. `hash_at` of `look` may ask for HashKV.
pub async fn examine(
    store: &dyn Store,
    manifest: &Manifest,
    identity: Option<&Identity>,
    into: Option<(&Path, Options)>,
    look: Look,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Examined, RestoreBackupError> {
    let bytes = manifest.snapshot_bytes;
    let (inspect_out, to_inspect) = mpsc::channel(PIECES);
    let (mut writing, mut inspecting) = (JoinSet::new(), JoinSet::new());
    let (mut outs, counted) = (vec![inspect_out], Arc::clone(progress));
    let count = into.is_none().then(|| Arc::clone(progress));
    inspecting.spawn_blocking(move || inspect(Database { pieces: to_inspect, left: bytes }, look, count.as_deref()));
    if let Some((folder, options)) = into {
        let folder = folder.to_owned();
        // Also where inspection finds no room to say where the database ends.
        let restorer = blocking(move || Restorer::create(&folder, options)).await?.at_least(manifest.origin.revision);
        let (write_out, to_write) = mpsc::channel(PIECES);
        writing.spawn_blocking(move || write(restorer, Database { pieces: to_write, left: bytes }, &counted));
        outs.push(write_out);
    }
    let proven = cancel.run_until_cancelled(reader::run(store, manifest, identity, outs)).await;
    let written = writing.join_next().await.transpose().map_err(failed)?;
    let inspected = inspecting.join_next().await.expect("one thread was started").map_err(failed)?;
    // A disk that is full, or pages that are none, end the reading too: their own reasons come first.
    let restorer = written.transpose()?;
    let inspection = settled(proven, inspected)?;
    if let Ok(contents) = &inspection.contents
        && contents.revision < manifest.origin.revision
    {
        let (is, wanted) = (contents.revision, manifest.origin.revision);
        return Err(RestoreBackupError::TooOld { is, wanted });
    }
    agree(manifest, &inspection)?;
    let restored = match restorer {
        Some(restorer) => Some(blocking(move || restorer.finish()).await?),
        None => None,
    };
    Ok(Examined { restored, inspection })
}

/// What was inspected, where it was proven too; `proven` is `None` where it was cancelled.
fn settled<T>(
    proven: Option<Result<(), ReadError>>,
    inspected: Result<T, InspectError>,
) -> Result<T, RestoreBackupError> {
    match proven {
        None => Err(RestoreBackupError::Cancelled),
        Some(Ok(())) => Ok(inspected?),
        // Whoever closed knows why. Where none of them does, it was the proof that broke off: nothing is proven.
        Some(Err(closed @ ReadError::Closed)) => inspected.map_err(Into::into).and(Err(closed.into())),
        Some(Err(error)) => Err(error.into()),
    }
}

/// What was seen before the backup became visible must be seen again.
fn agree(manifest: &Manifest, inspection: &Inspection) -> Result<(), RestoreBackupError> {
    let said = manifest.inspection.as_ref().and_then(|said| said.contents.as_ref());
    let (Some(said), Some(found)) = (said, manifest::Contents::of(inspection, &manifest.origin.etcd_version)) else {
        return Ok(());
    };
    let key = |c: &manifest::Contents| (c.revision, c.entries, c.status_hash.clone());
    if key(said) == key(&found) {
        return Ok(());
    }
    let text = |c: &manifest::Contents| format!("revision {}, {} keys, hash {}", c.revision, c.entries, c.status_hash);
    Err(RestoreBackupError::Contradicts { found: text(&found), said: text(said) })
}

/// The database out of a snapshot file, without its trailer.
struct Database {
    pieces: mpsc::Receiver<Bytes>,
    /// Bytes to come.
    left: u64,
}

impl Database {
    fn next(&mut self) -> Option<Bytes> {
        let mut piece = self.pieces.blocking_recv()?;
        piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= piece.len() as u64;
        Some(piece)
    }
}

fn write(mut restorer: Restorer, mut database: Database, progress: &Progress) -> Result<Restorer, RestoreError> {
    while let Some(piece) = database.next() {
        restorer.write(&piece)?;
        progress.written.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
    Ok(restorer)
}

/// `count` where nobody else counts what is done.
fn inspect(mut database: Database, look: Look, count: Option<&Progress>) -> Result<Inspection, InspectError> {
    let mut inspector = Inspector::new(look);
    while let Some(piece) = database.next() {
        inspector.update(&piece)?;
        if let Some(progress) = count {
            progress.written.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    }
    inspector.finish()
}

fn failed(error: tokio::task::JoinError) -> ReadError {
    ReadError::Internal(format!("a thread of the restore failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damaged() -> InspectError {
        Inspector::new(Look::default()).finish().expect_err("nothing is no database")
    }

    #[test]
    fn only_what_was_proven_and_inspected_is_good() {
        assert!(matches!(settled(Some(Ok(())), Ok(1)), Ok(1)));
        assert!(matches!(settled(Some(Ok(())), Err::<u8, _>(damaged())), Err(RestoreBackupError::Inspect(_))));
        assert!(matches!(settled(None, Ok(1)), Err(RestoreBackupError::Cancelled)));
        let unread = settled(Some(Err(ReadError::Open(String::new()))), Err::<u8, _>(damaged()));
        assert!(matches!(unread, Err(RestoreBackupError::Read(ReadError::Open(_)))), "{unread:?}");
    }

    #[test]
    fn a_proof_that_broke_off_is_none() {
        let closed = || Some(Err(ReadError::Closed));
        assert!(matches!(settled(closed(), Err::<u8, _>(damaged())), Err(RestoreBackupError::Inspect(_))));
        let unproven = settled(closed(), Ok(1));
        assert!(matches!(unproven, Err(RestoreBackupError::Read(ReadError::Closed))), "{unproven:?}");
    }
}
