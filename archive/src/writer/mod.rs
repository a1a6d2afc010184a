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
//! - `plan`, `source`, `progress`, `error`: what goes in, and what is told;
//! - `publish`: intent, completion, manifest, and what is left when something fails.

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
