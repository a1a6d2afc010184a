//! One backup from a source to a store, visible only once it is proven.
//!
//! The bytes flow one way: the source is pulled into blocks; one thread compresses, encrypts and cuts them
//! into parts; the uploader sends the parts while a second thread opens them again and hashes what comes
//! out. The last part is held until that digest is the one that the source vouches for: so equality
//! proves every stage in between. Then the intent, the object and the manifest appear, in this order.
//!
//! - `pipeline`: the two threads and the channels between them;
//! - `buffers`: the memory that all of it may use;
//! - `upload`: parts on their way to the store;
//! - `examine`: whoever looks into the database on the way;
//! - `publish`: intent, completion, manifest, and what is left when something fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use backstay_protocol::{AttemptId, Clock, ClusterName, ClusterUuid, MachineId, SlotId, SnapshotName};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::catalog::{self, Settled};
use crate::manifest::{Manifest, Origin, Replaced, Trigger};
use crate::seal::Recipient;
use crate::store::{Store, StoreError};

mod buffers;
mod examine;
mod pipeline;
pub(crate) mod publish;
mod upload;

pub use examine::{Examination, Judgement, Observer, Rejected};

#[cfg(test)]
mod tests;

/// What a backup is to be called and whom it is for.
#[derive(Debug, Clone)]
pub struct Plan {
    pub cluster: ClusterName,
    pub cluster_uuid: ClusterUuid,
    pub machine: Option<MachineId>,
    pub attempt: AttemptId,
    pub slot: SlotId,
    pub snapshot: SnapshotName,
    pub trigger: Trigger,
    /// Who can open it; empty: compressed only.
    pub recipients: Vec<Recipient>,
    pub agent_version: String,
    /// Where this is the first backup of another etcd: what it takes the place of.
    pub replaces: Option<Replaced>,
}

/// A database as it arrives. Pulled by the writer.
#[async_trait]
pub trait Source: Send {
    /// The next bytes of the database, without any trailer; `None` at its end. Dropped in mid-wait when
    /// the attempt ends early.
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError>;

    /// After `None`: what the source says the whole must be, and where it came from.
    async fn proof(&mut self) -> Result<Proof, SourceError>;

    /// Asked once, before the first bytes: a look into the database on its way, where one is wanted.
    fn examination(&mut self) -> Option<Examination> {
        None
    }
}

/// What a source vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// sha256 of the database: etcd's trailer.
    pub sha256: [u8; 32],
    /// Bytes of the database, without the trailer.
    pub bytes: u64,
    pub origin: Origin,
}

/// Why a source could not go on, in words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// Shared counters of one attempt; they only grow.
#[derive(Debug, Default)]
pub struct Progress {
    read: AtomicU64,
    stored: AtomicU64,
    total: AtomicU64,
    retried: AtomicU32,
}

impl Progress {
    /// Bytes of the database read so far.
    pub fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    /// Sealed bytes that the store has.
    pub fn stored(&self) -> u64 {
        self.stored.load(Relaxed)
    }

    /// Bytes of the database in all; 0 as long as that is unknown.
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// For the source, which learns it first.
    pub fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Relaxed);
    }

    /// How many times a part had to be sent again.
    pub fn retried(&self) -> u32 {
        self.retried.load(Relaxed)
    }
}

/// How hard an attempt may press.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Averaged over parts; `None`: as fast as it goes.
    pub upload_bytes_per_second: Option<u64>,
    /// 1 to 8; each costs the memory of a part.
    pub parts_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { upload_bytes_per_second: None, parts_in_flight: 3 }
    }
}

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
    #[error("the backup of this slot is there already, by attempt {}", .0.attempt)]
    SlotDone(Box<Manifest>),
    #[error("the snapshot's sha256 is {got}, the source says {expected}")]
    Digest { expected: String, got: String },
    #[error("the snapshot has {got} bytes, the source says {expected}")]
    Total { expected: u64, got: u64 },
    /// The sealed form did not open to what went in: memory or a stage of the pipeline is broken.
    #[error("the sealed snapshot did not open to what went in: {0}")]
    Reopened(String),
    /// Its bytes are right, and what they say is not.
    #[error("{0}")]
    Rejected(#[from] Rejected),
    #[error("the backup cannot be described: {0}")]
    Manifest(String),
    #[error("cancelled")]
    Cancelled,
    #[error("internal error: {0}")]
    Internal(String),
}

/// Makes one backup and returns its manifest.
///
/// Nothing is visible before it is proven. Whatever goes wrong before the object is complete, the upload is
/// aborted and the intent removed before this returns. Once the object is complete it is a backup, and
/// is never taken back, since another attempt may already have vouched for it: should the manifest fail
/// then, its intent stays and the next [`catalog::settle`] of the name makes the backup visible.
///
/// Dropping the future instead of cancelling it leaves an unfinished upload, for [`catalog::sweep_slot`].
pub async fn write(
    store: Arc<dyn Store>,
    plan: &Plan,
    source: &mut dyn Source,
    progress: &Progress,
    limits: &Limits,
    now: &dyn Clock,
    cancel: &CancellationToken,
) -> Result<Manifest, WriteError> {
    write_tapped(store, plan, source, progress, limits, now, cancel, pipeline::NoTap).await
}

#[allow(clippy::too_many_arguments)] // the public function's, and the tap
async fn write_tapped<T: pipeline::Tap>(
    store: Arc<dyn Store>,
    plan: &Plan,
    source: &mut dyn Source,
    progress: &Progress,
    limits: &Limits,
    now: &dyn Clock,
    cancel: &CancellationToken,
    tap: T,
) -> Result<Manifest, WriteError> {
    or_cancelled(cancel, free_name(&*store, plan)).await?;
    let created_at = now.now();
    let upload = publish::begin(&*store, plan, cancel).await?;
    let job = pipeline::Job { plan, upload: &*upload, progress, limits, created_at };
    let staged = or_cancelled(cancel, pipeline::run(&job, source, tap)).await;
    progress.retried.fetch_max(upload.retries(), Relaxed);
    let publication = publish::Publication { store: &*store, plan, upload: &*upload, cancel };
    match staged {
        Ok(staged) => publication.publish(staged).await,
        Err(error) => Err(publication.abandon(error, false).await),
    }
}

/// Refuses a name that is not free.
async fn free_name(store: &dyn Store, plan: &Plan) -> Result<(), WriteError> {
    match catalog::settle(store, plan.cluster_uuid, plan.snapshot).await? {
        Settled::Free => Ok(()),
        Settled::Done(manifest) if manifest.slot == plan.slot => Err(WriteError::SlotDone(manifest)),
        Settled::Done(_) | Settled::Orphan(_) | Settled::Unreadable(_) => Err(WriteError::NameTaken(plan.snapshot)),
    }
}

/// Runs `work` unless, or until, the attempt is cancelled.
async fn or_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, WriteError>>,
) -> Result<T, WriteError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(WriteError::Cancelled),
        result = work => result,
    }
}
