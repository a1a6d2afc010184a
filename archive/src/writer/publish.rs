//! The last steps of a backup (intent, completion, manifest), and what remains after a failure.
//!
//! Until completion is requested, a failure undoes everything. From then on the object may exist, and then it is a
//! verified backup, so the only way is forward.

use std::time::Duration;

use backstay_protocol::AttemptId;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::error::{WriteError, or_cancelled};
use super::pipeline::Staged;
use super::plan::Plan;
use crate::catalog::{self, Settled};
use crate::manifest::{MANIFEST_MAX, Manifest};
use crate::store::{ErrorKind, Key, Store, StoreError, Upload};

/// Time limit for cleaning up. The sweep removes what remains.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time limit for each step after the attempt was cancelled. At most four steps follow each other, and a stop has ten
/// seconds in all.
const GRACE: Duration = Duration::from_secs(2);

const ABORT_TRIES: u32 = 4;
const ABORT_PAUSE: Duration = Duration::from_millis(100);

/// Starts the upload. If it is cancelled meanwhile, it still has a short time to finish, so that the upload can be
/// aborted.
pub async fn begin(store: &dyn Store, plan: &Plan, cancel: &CancellationToken) -> Result<Box<dyn Upload>, WriteError> {
    let key = Key::snapshot(plan.cluster_uuid, plan.snapshot);
    let begun = bounded(cancel, None, store.begin(&key, plan.attempt)).await;
    match begun {
        Some(Ok(upload)) if cancel.is_cancelled() => {
            bounded(cancel, Some(PATIENCE), abort(&*upload)).await;
            Err(WriteError::Cancelled)
        }
        Some(begun) => Ok(begun?),
        None => Err(WriteError::Cancelled),
    }
}

/// The last steps of one attempt.
pub struct Publication<'a> {
    pub store: &'a dyn Store,
    pub plan: &'a Plan,
    pub upload: &'a dyn Upload,
    pub cancel: &'a CancellationToken,
}

impl Publication<'_> {
    /// Turns a staged object into a backup.
    pub async fn publish(&self, staged: Staged) -> Result<Manifest, WriteError> {
        let json = Bytes::from(staged.manifest.to_json());
        if json.len() > MANIFEST_MAX {
            let text = format!("its manifest would have {} bytes, more than the maximum of {MANIFEST_MAX}", json.len());
            return Err(self.abandon(WriteError::Manifest(text), false).await);
        }
        let intent = async { Ok(self.store.put_new(&self.intent_key(), json.clone()).await?) };
        if let Err(error) = or_cancelled(self.cancel, intent).await {
            return Err(self.abandon(error, true).await);
        }
        match bounded(self.cancel, None, self.upload.complete(staged.parts)).await {
            Some(Ok(())) => self.appear(staged.manifest, json).await,
            Some(Err(error)) if error.is(ErrorKind::AlreadyExists) => self.taken(error).await,
            Some(Err(error)) => self.unclear(staged.manifest, json, error.into()).await,
            None => self.unclear(staged.manifest, json, WriteError::Cancelled).await,
        }
    }

    /// Undoes everything. Only before completion was requested.
    pub async fn abandon(&self, error: WriteError, with_intent: bool) -> WriteError {
        let tidy = async {
            abort(self.upload).await;
            if with_intent {
                self.delete_intent().await;
            }
        };
        if bounded(self.cancel, Some(PATIENCE), tidy).await.is_none() {
            tracing::warn!(attempt = %self.plan.attempt, "gave up cleaning up after a failed attempt");
        }
        error
    }

    /// The object exists. Its manifest makes it a backup.
    async fn appear(&self, manifest: Manifest, json: Bytes) -> Result<Manifest, WriteError> {
        let key = Key::manifest(self.plan.cluster_uuid, self.plan.snapshot);
        let put = bounded(self.cancel, None, self.store.put_new(&key, json)).await;
        let error = match put {
            Some(Ok(())) => {
                bounded(self.cancel, Some(PATIENCE), self.delete_intent()).await;
                return Ok(manifest);
            }
            Some(Err(error)) => error.into(),
            None => WriteError::Cancelled,
        };
        // The answer may have been lost, or another process may have turned our intent into the manifest.
        match bounded(self.cancel, Some(PATIENCE), self.settle()).await {
            Some(Ok(Settled::Done(found))) if found.attempt == self.plan.attempt => {
                bounded(self.cancel, Some(PATIENCE), self.delete_intent()).await;
                Ok(*found)
            }
            _ => Err(error),
        }
    }

    /// Completion failed or did not answer: the object may exist.
    async fn unclear(&self, manifest: Manifest, json: Bytes, error: WriteError) -> Result<Manifest, WriteError> {
        let key = Key::snapshot(self.plan.cluster_uuid, self.plan.snapshot);
        let look = landed(self.store, self.upload, &key, self.plan.attempt, manifest.sealed_bytes);
        match bounded(self.cancel, Some(PATIENCE), look).await.unwrap_or(Landed::Unknown) {
            Landed::Own => self.appear(manifest, json).await,
            Landed::Nobodys | Landed::Not => {
                bounded(self.cancel, Some(PATIENCE), self.delete_intent()).await;
                Err(error)
            }
            // The intent is kept, so that whoever settles the name can use it or sweep it.
            Landed::Unknown => Err(error),
        }
    }

    /// Another object has the name.
    async fn taken(&self, error: StoreError) -> Result<Manifest, WriteError> {
        let settle = async {
            abort(self.upload).await;
            let settled = self.settle().await;
            self.delete_intent().await;
            settled
        };
        match bounded(self.cancel, Some(PATIENCE), settle).await {
            Some(Ok(Settled::Done(found))) if found.attempt == self.plan.attempt => Ok(*found),
            Some(Ok(Settled::Done(found))) if found.slot == self.plan.slot => Err(WriteError::SlotDone(found)),
            Some(Ok(Settled::Done(_) | Settled::Orphan(_) | Settled::Unreadable(_))) => {
                Err(WriteError::NameTaken(self.plan.snapshot))
            }
            Some(Err(error)) => Err(error.into()),
            // Removed again, or unknown within the time: the error of the completion stands.
            Some(Ok(Settled::Free)) | None => Err(error.into()),
        }
    }

    async fn settle(&self) -> Result<Settled, StoreError> {
        catalog::settle(self.store, self.plan.cluster_uuid, self.plan.snapshot).await
    }

    fn intent_key(&self) -> Key {
        Key::intent(self.plan.cluster_uuid, self.plan.snapshot, self.plan.attempt)
    }

    async fn delete_intent(&self) {
        for pause in pauses() {
            match self.store.delete(&self.intent_key()).await {
                Ok(()) => return,
                Err(error) if error.is(ErrorKind::Unavailable) => tokio::time::sleep(pause).await,
                Err(error) => return tracing::warn!(%error, "an intent stays until the next sweep"),
            }
        }
        tracing::warn!(key = %self.intent_key(), "an intent stays until the next sweep");
    }
}

/// What remains of a completion that failed or did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landed {
    /// The object that was to be created.
    Own,
    /// An object of that length, but the store does not say who uploaded it.
    Nobodys,
    Not,
    /// The store does not say.
    Unknown,
}

/// Ends an upload whose completion failed or did not answer, and finds out what became of it.
pub async fn landed(store: &dyn Store, upload: &dyn Upload, key: &Key, owner: AttemptId, bytes: u64) -> Landed {
    // After an abort no completion can succeed any more, so what exists then is final.
    if !abort(upload).await {
        return Landed::Unknown;
    }
    match store.head(key).await {
        Ok(Some(object)) if object.size == bytes && object.owner == Some(owner) => Landed::Own,
        Ok(Some(object)) if object.size == bytes && object.owner.is_none() => Landed::Nobodys,
        Ok(_) => Landed::Not,
        Err(_) => Landed::Unknown,
    }
}

/// Aborts the upload, with retries; `false` if it may still exist.
pub async fn abort(upload: &dyn Upload) -> bool {
    for pause in pauses() {
        match upload.abort().await {
            Ok(()) => return true,
            Err(error) if error.is(ErrorKind::Unavailable) => tokio::time::sleep(pause).await,
            Err(error) => {
                tracing::warn!(%error, "an unfinished upload stays until the next sweep");
                return false;
            }
        }
    }
    tracing::warn!(?upload, "an unfinished upload stays until the next sweep");
    false
}

/// Growing pauses between tries, as many as there are tries.
fn pauses() -> impl Iterator<Item = Duration> {
    (0..ABORT_TRIES).map(|n| ABORT_PAUSE * 3_u32.pow(n))
}

/// Runs `work` to its end, but no longer than `patience`, nor than [`GRACE`] after a cancellation.
async fn bounded<T>(
    cancel: &CancellationToken,
    patience: Option<Duration>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let out_of_grace = async {
        cancel.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    let out_of_patience = async {
        match patience {
            Some(patience) => tokio::time::sleep(patience).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = out_of_grace => None,
        () = out_of_patience => None,
    }
}
