//! From a backup in the store to a data folder that etcd starts from, beside the live one: fetched, opened, checked.

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use backstay_archive::reader::{self, ReadError};
use backstay_archive::seal::{self, Identity};
use backstay_archive::{Manifest, Store, StoreError, catalog};
use backstay_protocol::bus::{MemberSeat, RestorePlan};
use backstay_protocol::hex::to_hex;
use backstay_protocol::{ClusterUuid, SnapshotName};
use backstay_snapshot::restore::{NewMember, Options, RestoreError, Restorer};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::PollSender;

use super::folders::{FolderError, Folders};
use crate::storage::StoreSpec;

/// Pieces between the opening side and the writing thread.
const PIECES: usize = 8;
const PIECE_BYTES: usize = 256 * 1024;

/// Why there is nothing prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("{0}")]
    Plan(String),
    #[error("{0}")]
    Room(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Catalog(#[from] catalog::CatalogError),
    #[error("the store has no backup {0} of cluster {1}")]
    NoBackup(SnapshotName, ClusterUuid),
    #[error("the backup in the store is not the one that was asked for: sha256 {got}, expected {expected}")]
    Other { got: String, expected: String },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("cannot read back {}: {cause}", .path.display())]
    Back { path: PathBuf, cause: io::Error },
    #[error("cannot make {}: {cause}", .path.display())]
    Make { path: PathBuf, cause: io::Error },
    #[error("internal error: {0}")]
    Internal(String),
}

/// What is to be prepared, checked at the edge.
pub struct Order {
    pub cluster: ClusterUuid,
    pub snapshot: SnapshotName,
    pub store: StoreSpec,
    /// Of the cluster that the backup is of; `None` where it is not encrypted.
    pub identity: Option<Identity>,
    pub sha256: String,
    pub options: Options,
    pub aside_suffix: String,
    pub bytes: u64,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order").field("cluster", &self.cluster).field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

impl Order {
    /// Reads a plan; what is sealed in it is opened with the agent's own identity.
    ///
    /// # Errors
    /// In words.
    pub fn parse(plan: RestorePlan, own: &Identity, s3_ca: Option<PathBuf>) -> Result<Self, String> {
        let text = |e: backstay_protocol::NameError| e.to_string();
        let suffix_fits = plan.aside_suffix.starts_with('.') && !plan.aside_suffix.contains('/');
        if !suffix_fits {
            return Err(format!("the ending {:?} of the old folder's name cannot be used", plan.aside_suffix));
        }
        let mut options = Options::new(&plan.member_name, plan.members.iter().map(member).collect());
        options.token = plan.token;
        options.bump = (plan.bump > 0).then_some(plan.bump);
        options.mark_compacted = plan.bump > 0;
        Ok(Self {
            cluster: plan.cluster_uuid.parse().map_err(text)?,
            snapshot: plan.snapshot.parse().map_err(text)?,
            store: crate::attempt::job::store(plan.store.and_then(|s| s.kind), own, s3_ca)?,
            identity: identity(&plan.sealed_identity, own)?,
            sha256: to_hex(&plan.snapshot_sha256),
            options,
            aside_suffix: plan.aside_suffix,
            bytes: plan.snapshot_bytes,
        })
    }
}

fn member(seat: &MemberSeat) -> NewMember {
    NewMember { name: seat.name.clone(), peer_urls: seat.peer_urls.clone() }
}

fn identity(sealed: &[u8], own: &Identity) -> Result<Option<Identity>, String> {
    if sealed.is_empty() {
        return Ok(None);
    }
    let opened = seal::open_bytes(own, sealed).map_err(|e| format!("the cluster's key is not sealed to this agent: {e}"))?;
    let text = std::str::from_utf8(&opened).map_err(|_| "the cluster's key is not text".to_owned())?;
    seal::parse_identity(text).map(Some).map_err(|e| e.to_string())
}

/// How far it is; shared with whoever tells.
#[derive(Debug, Default)]
pub struct Progress {
    pub done: AtomicU64,
    pub total: AtomicU64,
}

/// What was prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// sha256 of the database file as it was read back from the disk, in hexadecimal.
    pub digest: String,
    pub cluster_id: u64,
}

/// Prepares the folder from the beginning; what an earlier try left is removed first.
pub async fn prepare(order: &Order, folders: &Folders, progress: &Progress) -> Result<Prepared, PrepareError> {
    let store = order.store.clone().open().await?;
    let manifest = catalog::manifest(&*store, order.cluster, order.snapshot).await?;
    let manifest = manifest.ok_or(PrepareError::NoBackup(order.snapshot, order.cluster))?;
    if manifest.snapshot_sha256 != order.sha256 {
        return Err(PrepareError::Other { got: manifest.snapshot_sha256, expected: order.sha256.clone() });
    }
    progress.total.store(manifest.snapshot_bytes, Relaxed);
    progress.done.store(0, Relaxed);
    let (room, bytes) = (folders.clone(), manifest.snapshot_bytes);
    blocking(move || make_room(&room, bytes)).await?;
    let cluster_id = fetch(order, &manifest, &folders.made, &*store, progress).await?;
    let folders = folders.clone();
    let digest = blocking(move || {
        folders.adopt()?;
        read_back(&folders.fresh_database())
    });
    Ok(Prepared { digest: digest.await?, cluster_id })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PrepareError> + Send + 'static,
) -> Result<T, PrepareError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(PrepareError::Internal(format!("a thread failed: {error}"))))
}

fn make_room(folders: &Folders, bytes: u64) -> Result<(), PrepareError> {
    folders.discard()?;
    folders.check(bytes).map_err(PrepareError::Room)?;
    let made = DirBuilder::new().mode(0o700).create(&folders.root);
    made.map_err(|cause| PrepareError::Make { path: folders.root.clone(), cause })
}

/// Streams the backup into a new data folder. It becomes visible only when all of it was right. The answer is
/// etcd's id of the cluster that it is.
async fn fetch(
    order: &Order,
    manifest: &Manifest,
    made: &Path,
    store: &dyn Store,
    progress: &Progress,
) -> Result<u64, PrepareError> {
    let (pieces, incoming) = mpsc::channel(PIECES);
    let (right, verdict) = oneshot::channel();
    let (options, folder, bytes) = (order.options.clone(), made.to_owned(), manifest.snapshot_bytes);
    let mut thread = JoinSet::new();
    thread.spawn_blocking(move || write(&folder, options, bytes, incoming, verdict));
    let out = Pieces { sender: PollSender::new(pieces), progress };
    let read = reader::open(store, manifest, order.identity.as_ref(), out).await;
    // Where the writing side gave up, the reader only saw its channel closed: the cause is over there.
    let written = async |mut thread: JoinSet<_>| {
        let joined = thread.join_next().await.expect("one thread was started");
        joined.unwrap_or_else(|error| Err(PrepareError::Internal(format!("the writing thread failed: {error}"))))
    };
    match read {
        Ok(()) => {
            // A thread that has ended already says why itself.
            let _ = right.send(());
            written(thread).await?.ok_or_else(|| PrepareError::Internal("the folder was not finished".into()))
        }
        Err(error) => {
            drop(right);
            written(thread).await?;
            Err(error.into())
        }
    }
}

/// The writing side: the database without its trailer. `None` where the reading side did not find all right.
fn write(
    folder: &Path,
    options: Options,
    bytes: u64,
    mut incoming: mpsc::Receiver<Bytes>,
    verdict: oneshot::Receiver<()>,
) -> Result<Option<u64>, PrepareError> {
    let mut restorer = Restorer::create(folder, options)?;
    let mut left = bytes;
    while let Some(piece) = incoming.blocking_recv() {
        let take = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        restorer.write(&piece[..take])?;
        left -= take as u64;
    }
    match verdict.blocking_recv() {
        Ok(()) => Ok(Some(restorer.finish()?.cluster_id)),
        Err(_) => Ok(None),
    }
}

/// Hands what is written to it on, and counts.
struct Pieces<'a> {
    sender: PollSender<Bytes>,
    progress: &'a Progress,
}

impl AsyncWrite for Pieces<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let closed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        std::task::ready!(self.sender.poll_reserve(cx)).map_err(closed)?;
        let take = bytes.len().min(PIECE_BYTES);
        self.sender.send_item(Bytes::copy_from_slice(&bytes[..take])).map_err(closed)?;
        self.progress.done.fetch_add(take as u64, Relaxed);
        Poll::Ready(Ok(take))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender.close();
        Poll::Ready(Ok(()))
    }
}

/// What is on the disk now, not what was meant to be written.
fn read_back(path: &Path) -> Result<String, PrepareError> {
    let failed = |cause| PrepareError::Back { path: path.to_owned(), cause };
    let mut file = File::open(path).map_err(failed)?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(to_hex(&digest.finalize())),
            read => digest.update(&buffer[..read]),
        }
    }
}
