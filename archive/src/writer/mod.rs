//! Makes one backup from a source in a store. It becomes visible only once it is verified.
//!
//! The bytes flow in one direction. The source is read into blocks; one thread compresses and encrypts them and cuts
//! the result into parts. The uploader sends the parts, while a second thread decrypts them again and hashes what
//! comes out. The last part is held back until that digest equals the one that the source states. So equality proves
//! every stage in between. Then the intent, the object and the manifest appear, in this order.
//!
//! - `pipeline`: the two threads and the channels between them;
//! - `buffers`: the memory that all of this may use;
//! - `upload`: sends parts to the store;
//! - `examine`: inspects the database on the way;
//! - `plan`, `source`, `progress`, `error`: inputs and results;
//! - `publish`: intent, completion and manifest, and what remains after a failure.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use backstay_protocol::Clock;
use tokio_util::sync::CancellationToken;

use crate::catalog::{self, Settled};
use crate::manifest::Manifest;
use crate::store::Store;

mod buffers;
mod error;
mod examine;
mod pipeline;
mod plan;
mod progress;
pub(crate) mod publish;
mod source;
mod upload;

pub use error::WriteError;
pub use examine::{Examination, Observer, Rejected, VerdictFuture};
pub use plan::{Limits, Plan, Signing};
pub use progress::Progress;
pub use source::{Proof, Source, SourceError};

use error::or_cancelled;

#[cfg(test)]
mod tests;

/// Makes one backup and returns its manifest.
///
/// Nothing is visible before it is verified. If anything fails before the object is complete, the upload is aborted
/// and the intent removed before this returns. Once the object is complete, it is a backup and is never removed,
/// because another attempt may already have relied on it. If the manifest fails then, the intent is kept, and the
/// next [`catalog::settle`] of the name makes the backup visible.
///
/// If the future is dropped instead of cancelled through `cancel`, an unfinished upload remains for
/// [`catalog::sweep_slot`].
///
/// ```
/// # use std::sync::Arc;
/// use async_trait::async_trait;
/// use backstay_archive::catalog;
/// use backstay_archive::manifest::{Origin, Trigger};
/// use backstay_archive::seal::Identity;
/// use backstay_archive::store::local::LocalStore;
/// use backstay_archive::writer::{Limits, Plan, Progress, Proof, Source, SourceError, write};
/// use backstay_protocol::{AttemptId, Clock, ClusterUuid, SlotId, SnapshotName, Timestamp};
/// use bytes::Bytes;
/// # use sha2::{Digest, Sha256};
/// # use tokio_util::sync::CancellationToken;
/// # use uuid::Uuid;
///
/// /// A database that is already in memory.
/// struct Database(Option<Bytes>, Proof);
///
/// #[async_trait]
/// impl Source for Database {
///     async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
///         Ok(self.0.take())
///     }
///
///     async fn proof(&mut self) -> Result<Proof, SourceError> {
///         Ok(self.1.clone())
///     }
/// }
///
/// # #[derive(Debug)]
/// # struct Stopped;
/// # impl Clock for Stopped {
/// #     fn now(&self) -> Timestamp {
/// #         Timestamp { seconds: 1_701_184_523, nanos: 0 }
/// #     }
/// # }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let (path, clock, database) = (directory.path(), Stopped, vec![7; 4096]);
/// # let (attempt, slot) = (AttemptId(Uuid::from_u128(2)), SlotId(Uuid::from_u128(3)));
/// let store = Arc::new(LocalStore::open(path)?);
/// let cluster_uuid = ClusterUuid(Uuid::new_v4());
/// let plan = Plan {
///     cluster: "prod".parse()?,
///     cluster_uuid,
///     snapshot: SnapshotName::from_unix_seconds(clock.now().seconds)?,
///     recipients: vec![Identity::generate().to_public()],
///     trigger: Trigger::Once,
///     // …
/// #   machine: None, attempt, slot, agent_version: "0.1.0".to_owned(), replaces: None,
/// #   signing: None,
/// };
/// let (sha256, bytes) = (Sha256::digest(&database).into(), database.len() as u64);
/// let mut source = Database(Some(database.into()), Proof { sha256, bytes, origin: Origin::default() });
/// let (progress, limits, cancel) = (Progress::default(), Limits::default(), CancellationToken::new());
///
/// let manifest = write(store.clone(), &plan, &mut source, &progress, &limits, &clock, &cancel).await?;
/// assert_eq!(manifest.snapshot_bytes, 4096);
/// assert_eq!(catalog::list(&*store, cluster_uuid).await?.len(), 1);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`WriteError`] by its cause. Apart from a failed manifest, no backup was made.
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
