//! Restores a backup in a store to a data directory that etcd starts from. It is fetched, decrypted, verified against
//! its manifest, inspected and written at the same time, by threads of their own. The directory becomes visible only
//! if everything is good.

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

/// How many pieces wait to be written.
const PIECES: usize = 8;

/// Why a backup could not be restored. Nothing is left behind, except after [`RestoreError::NotSynced`].
#[derive(Debug, thiserror::Error)]
pub enum RestoreBackupError {
    /// The backup cannot be read, or is not what its manifest describes.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The data directory cannot be written, or the database cannot be turned into the new cluster's.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The database is damaged, although its digest is right: it was damaged when it was backed up.
    #[error("the database is damaged: {0}")]
    Inspect(#[from] InspectError),
    /// The database ends before the revision in its manifest.
    #[error("the database ends at revision {is}, but its manifest says {wanted} or later")]
    TooOld {
        /// The current revision of the database.
        is: i64,
        /// The origin's revision in the manifest.
        wanted: i64,
    },
    /// The database has other contents than the inspection during the backup found.
    #[error("the database has {found}, but its manifest says {said}")]
    Contradicts {
        /// Revision, number of keys and hash of the database.
        found: String,
        /// The same in the manifest.
        said: String,
    },
    /// The caller cancelled it.
    #[error("cancelled")]
    Cancelled,
}

/// How far a restore is. Can be read from any thread.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of the database that were written (or inspected, if nothing is restored), out of
    /// [`Manifest::snapshot_bytes`](crate::manifest::Manifest::snapshot_bytes).
    pub written: AtomicU64,
}

/// A restored backup.
#[derive(Debug)]
pub struct Outcome {
    /// The data directory and its new cluster.
    pub restored: Restored,
    /// What the database contains; unknown if that would have taken too much memory. No fault was found in the part
    /// that was checked.
    pub contents: Result<Contents, Unknown>,
}

/// Restores a backup to the data directory `folder`, which must be empty or not exist.
///
/// Only the inspection's memory grows with the database: 60 bytes per page, up to its limit. If `cancel` is cancelled,
/// everything that was created is removed before this returns. Once everything is verified, the restore is completed
/// even so.
///
/// ```
#[doc = include_str!("example.txt")]
/// use backstay_archive::restore::{self, NewMember, Options};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let store_directory = tempfile::tempdir()?;
/// # let store = LocalStore::open(store_directory.path())?;
/// # let identity = Identity::generate();
/// # let data_dir = directory.path().join("etcd");
/// let manifest = backup(&store, &identity).await?;
/// let peer_urls = vec!["https://10.0.0.1:2380".to_owned()];
/// let options = Options::new("node-1", vec![NewMember { name: "node-1".to_owned(), peer_urls }]);
///
/// let (progress, cancel) = (Arc::new(restore::Progress::default()), CancellationToken::new());
/// let outcome =
///     restore::restore(&store, &manifest, Some(&identity), &data_dir, options, &progress, &cancel).await?;
/// assert_eq!(outcome.restored.revision_before, 8);
/// assert!(data_dir.join("member/snap/db").is_file());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`RestoreBackupError`] by its cause. Nothing is left behind, except after [`RestoreError::NotSynced`].
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

/// A backup that was read and inspected from end to end.
#[derive(Debug)]
pub struct Examined {
    /// The restored data directory, if one was requested.
    pub restored: Option<Restored>,
    /// What the inspection found.
    pub inspection: Inspection,
}

/// Reads, verifies and inspects a backup. Restores it, too, if `into` names a data directory, which becomes visible
/// only if everything is good. `hash_at` of `look` may ask for HashKV. `identity` may be `None` if the backup is not
/// encrypted.
///
/// # Errors
/// [`RestoreBackupError`] as for [`restore`].
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
        // The revision is checked here, too, because the inspection may lack the memory to find it.
        let restorer = blocking(move || Restorer::create(&folder, options)).await?.at_least(manifest.origin.revision);
        let (write_out, to_write) = mpsc::channel(PIECES);
        writing.spawn_blocking(move || write(restorer, Database { pieces: to_write, left: bytes }, &counted));
        outs.push(write_out);
    }
    let proven = cancel.run_until_cancelled(reader::run(store, manifest, identity, outs)).await;
    let written = writing.join_next().await.transpose().map_err(failed)?;
    let inspected = inspecting.join_next().await.expect("one thread was started").map_err(failed)?;
    // A full disk or damaged pages end the reading, too: their own reasons come first.
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

/// The inspection, if the data was also verified. `proven` is `None` if it was cancelled.
fn settled<T>(
    proven: Option<Result<(), ReadError>>,
    inspected: Result<T, InspectError>,
) -> Result<T, RestoreBackupError> {
    match proven {
        None => Err(RestoreBackupError::Cancelled),
        Some(Ok(())) => Ok(inspected?),
        // Whoever closed its channel knows why. If none of them does, the verification itself broke off, and nothing
        // is proven.
        Some(Err(closed @ ReadError::Closed)) => inspected.map_err(Into::into).and(Err(closed.into())),
        Some(Err(error)) => Err(error.into()),
    }
}

/// What the inspection found before the backup became visible must be found again.
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

/// The database in a snapshot file, without its trailer.
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

/// `count` is set if nothing else counts the progress.
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
