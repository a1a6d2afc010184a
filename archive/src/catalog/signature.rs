//! Putting the signature beside a manifest.

use backstay_protocol::{ClusterUuid, SnapshotName};
use bytes::Bytes;

use crate::store::{ErrorKind, Key, Store, StoreError};

/// Puts the signature of a manifest. It comes before the manifest, so no backup is visible unsigned for a moment.
///
/// What stands at its place already vouches for nothing yet: somebody planted it, or an attempt left it that died. It is
/// replaced.
///
/// # Errors
/// The store does not take it.
pub async fn put_signature(
    store: &dyn Store,
    cluster: ClusterUuid,
    snapshot: SnapshotName,
    signature: Bytes,
) -> Result<(), StoreError> {
    let key = Key::signature(cluster, snapshot);
    match store.put_new(&key, signature.clone()).await {
        Err(error) if error.is(ErrorKind::AlreadyExists) => {
            store.delete(&key).await?;
            store.put_new(&key, signature).await
        }
        put => put,
    }
}
