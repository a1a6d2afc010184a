//! Reads the manifest of one backup, and other small objects that may exist.

use backstay_protocol::{ClusterUuid, SnapshotName};
use bytes::Bytes;

use super::error::CatalogError;
use crate::manifest::{MANIFEST_MAX, Manifest, ManifestError};
use crate::store::{ErrorKind, Key, Store, StoreError};

/// Reads the manifest of a backup; `None` if there is none.
///
/// # Errors
/// [`CatalogError::Store`] if the store fails; [`CatalogError::Object`] or [`CatalogError::Manifest`] if only this
/// manifest cannot be read.
pub async fn manifest(
    store: &dyn Store,
    cluster: ClusterUuid,
    name: SnapshotName,
) -> Result<Option<Manifest>, CatalogError> {
    let key = Key::manifest(cluster, name);
    match get_if_there(store, &key, MANIFEST_MAX).await {
        Ok(Some(json)) => Manifest::from_json(&json).map(Some).map_err(|cause| CatalogError::Manifest { key, cause }),
        Ok(None) => Ok(None),
        // Only this backup is affected, so others can still be listed.
        Err(error) if error.is(ErrorKind::TooLarge) => {
            Err(CatalogError::Manifest { key, cause: ManifestError::TooLarge })
        }
        Err(error) if error.is_one_object_s() => Err(CatalogError::Object(error)),
        Err(error) => Err(error.into()),
    }
}

/// Reads the manifest of a backup, and checks that it belongs to this cluster and name. A manifest that was copied
/// here from another place is refused.
///
/// # Errors
/// [`CatalogError::Foreign`] for such a manifest; otherwise as [`manifest`].
pub async fn own_manifest(
    store: &dyn Store,
    cluster: ClusterUuid,
    snapshot: SnapshotName,
) -> Result<Option<Manifest>, CatalogError> {
    let found = manifest(store, cluster, snapshot).await?;
    match found.as_ref().map(|found| (found.cluster_uuid, found.snapshot)) {
        Some(place) if place != (cluster, snapshot) => Err(CatalogError::Foreign { cluster, snapshot }),
        _ => Ok(found),
    }
}

/// Reads the manifest of a backup that was listed, so that there must be one.
///
/// # Errors
/// [`CatalogError::Gone`] if there is none any more; otherwise as [`own_manifest`].
pub async fn listed_manifest(
    store: &dyn Store,
    cluster: ClusterUuid,
    snapshot: SnapshotName,
) -> Result<Manifest, CatalogError> {
    own_manifest(store, cluster, snapshot).await?.ok_or(CatalogError::Gone { cluster, snapshot })
}

/// Reads a small object of at most `limit` bytes; `None` if there is none, including on providers that answer
/// "forbidden" in that case.
///
/// # Errors
/// [`StoreError`] if the object cannot be read; [`ErrorKind::TooLarge`] if it is larger than `limit`.
pub async fn get_if_there(store: &dyn Store, key: &Key, limit: usize) -> Result<Option<Bytes>, StoreError> {
    match store.get(key, limit).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is(ErrorKind::NotFound) => Ok(None),
        Err(error) if error.is(ErrorKind::Denied) && matches!(store.head(key).await, Ok(None)) => Ok(None),
        Err(error) => Err(error),
    }
}
