//! Removes what dead attempts left: unfinished uploads and intents.

use backstay_protocol::{AttemptId, ClusterUuid, SnapshotName, Timestamp};
use futures::TryStreamExt;

use super::error::CatalogError;
use super::listing::{FileName, folder};
use super::settle::{Settled, settle_counted};
use super::skipped::Skipped;
use crate::store::{Key, Store, StoreError, Unfinished};

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Unfinished uploads that were removed.
    pub uploads: usize,
    /// Intents that were removed.
    pub intents: usize,
    /// Objects without a manifest that got one from their intent.
    pub promoted: usize,
    /// Uploads and intents that could not be removed or checked; each is logged as a warning.
    pub skipped: usize,
}

/// Removes what dead attempts left for one name: unfinished uploads, and intents that do not belong to its object.
/// Creates manifests as [`settle`](super::settle()) does. Attempts that are still running for this name fail because
/// of it.
///
/// # Errors
/// [`StoreError`] if the store fails, or what is left cannot be listed.
pub async fn sweep_slot(store: &dyn Store, cluster: ClusterUuid, name: SnapshotName) -> Result<Swept, StoreError> {
    // Intents are listed before uploads are aborted. So an intent that was found can no longer be followed by its
    // completion, and one that is written later is not touched.
    let intents = intents(store, cluster).await?;
    let intents: Vec<_> = intents.into_iter().filter(|intent| intent.snapshot == name).collect();
    let key = Key::snapshot(cluster, name);
    let mut uploads = store.unfinished(key.as_str()).await?;
    uploads.retain(|upload| upload.key == key);
    sweep_these(store, cluster, uploads, intents).await
}

/// The same for everything of the cluster that was started before `older_than`. Whatever the store knows no time for
/// is kept.
///
/// # Errors
/// [`StoreError`] if the store fails, or what is left cannot be listed.
pub async fn sweep(store: &dyn Store, cluster: ClusterUuid, older_than: Timestamp) -> Result<Swept, StoreError> {
    let old = |time: Option<Timestamp>| time.is_some_and(|time| time < older_than);
    let mut intents = intents(store, cluster).await?;
    intents.retain(|intent| old(intent.modified));
    let mut uploads = store.unfinished(&folder(cluster)).await?;
    uploads.retain(|upload| old(upload.begun));
    sweep_these(store, cluster, uploads, intents).await
}

async fn sweep_these(
    store: &dyn Store,
    cluster: ClusterUuid,
    uploads: Vec<Unfinished>,
    intents: Vec<Intent>,
) -> Result<Swept, StoreError> {
    let (mut swept, mut skipped) = (Swept::default(), Skipped::default());
    for upload in &uploads {
        match store.abort_unfinished(upload).await {
            Ok(()) => swept.uploads += 1,
            Err(error) if error.is_one_object_s() => skipped.note(CatalogError::Object(error)),
            Err(error) => return Err(error),
        }
    }
    for intent in intents {
        match sweep_intent(store, cluster, &intent).await {
            Ok((removed, promoted)) => {
                swept.promoted += usize::from(promoted);
                swept.intents += usize::from(removed);
            }
            Err(error) if error.is_one_object_s() => skipped.note(CatalogError::Object(error)),
            Err(error) => return Err(error),
        }
    }
    swept.skipped = skipped.count();
    skipped.end();
    Ok(swept)
}

/// Whether the intent was removed, and whether it became a manifest.
async fn sweep_intent(store: &dyn Store, cluster: ClusterUuid, intent: &Intent) -> Result<(bool, bool), StoreError> {
    let (settled, promoted) = settle_counted(store, cluster, intent.snapshot).await?;
    // An object without a manifest keeps its owner's intent, even one that cannot be read: nothing else describes the
    // object.
    let keep = match &settled {
        Settled::Orphan(object) => object.owner == Some(intent.attempt),
        Settled::Unreadable(_) => true,
        Settled::Free | Settled::Done(_) => false,
    };
    if !keep {
        store.delete(&Key::intent(cluster, intent.snapshot, intent.attempt)).await?;
    }
    Ok((!keep, promoted))
}

/// An intent, as its key describes it.
struct Intent {
    snapshot: SnapshotName,
    attempt: AttemptId,
    modified: Option<Timestamp>,
}

async fn intents(store: &dyn Store, cluster: ClusterUuid) -> Result<Vec<Intent>, StoreError> {
    let prefix = folder(cluster);
    let mut objects = store.list(&format!("{prefix}intents/"));
    let mut intents = Vec::new();
    while let Some(object) = objects.try_next().await? {
        match FileName::parse(&prefix, &object.key) {
            Some(FileName::Intent(snapshot, attempt)) => {
                intents.push(Intent { snapshot, attempt, modified: object.modified });
            }
            _ => tracing::debug!(key = %object.key, "skipped an object whose name is not that of an intent"),
        }
    }
    Ok(intents)
}
