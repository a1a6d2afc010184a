//! An intent and its signature, which stand and go together.

use backstay_protocol::{AttemptId, ClusterUuid, SnapshotName};

use super::lookup::{SIGNATURE_MAX, get_if_there};
use super::signature::put_signature;
use crate::store::{Key, Store, StoreError};

/// Removes an intent, and its signature last: without its intent nobody takes that for anything.
pub(super) async fn delete_intent(
    store: &dyn Store,
    cluster: ClusterUuid,
    snapshot: SnapshotName,
    attempt: AttemptId,
) -> Result<(), StoreError> {
    store.delete(&Key::intent(cluster, snapshot, attempt)).await?;
    store.delete(&Key::intent_signature(cluster, snapshot, attempt)).await
}

/// Puts the signature of an intent at the place of the manifest's, where it has one.
pub(super) async fn promote_signature(
    store: &dyn Store,
    cluster: ClusterUuid,
    snapshot: SnapshotName,
    attempt: AttemptId,
) -> Result<(), StoreError> {
    let key = Key::intent_signature(cluster, snapshot, attempt);
    match get_if_there(store, &key, SIGNATURE_MAX).await {
        Ok(Some(signature)) => put_signature(store, cluster, snapshot, signature).await,
        Ok(None) => Ok(()),
        // The backup is good all the same; nobody vouches for it.
        Err(error) if error.is_one_object_s() => {
            tracing::warn!(%error, "the signature of an intent cannot be read: its backup becomes an unsigned one");
            Ok(())
        }
        Err(error) => Err(error),
    }
}
