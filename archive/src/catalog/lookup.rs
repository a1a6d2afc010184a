//! One backup's manifest, and other small objects that may be there.

use backstay_protocol::{ClusterUuid, SnapshotName};
use bytes::Bytes;

use super::error::CatalogError;
use crate::manifest::{MANIFEST_MAX, Manifest, ManifestError};
use crate::store::{ErrorKind, Key, Store, StoreError};

/// The manifest of a backup; `None` where there is none.
pub async fn manifest(
    store: &dyn Store,
    cluster: ClusterUuid,
    name: SnapshotName,
) -> Result<Option<Manifest>, CatalogError> {
    let key = Key::manifest(cluster, name);
    match get_if_there(store, &key, MANIFEST_MAX).await {
        Ok(Some(json)) => Manifest::from_json(&json).map(Some).map_err(|cause| CatalogError::Manifest { key, cause }),
        Ok(None) => Ok(None),
        // That backup's trouble, not the store's: others are listed all the same.
        Err(error) if error.is(ErrorKind::TooLarge) => {
            Err(CatalogError::Manifest { key, cause: ManifestError::TooLarge })
        }
        Err(error) if error.is_one_object_s() => Err(CatalogError::Object(error)),
        Err(error) => Err(error.into()),
    }
}

/// The same, of what is said to be a backup of this cluster with this name: a manifest that was copied here from another
/// place is no answer.
///
/// # Errors
/// [`CatalogError::Foreign`]: it is of another place.
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

/// The same, of a backup that was listed.
///
/// # Errors
/// [`CatalogError::Gone`] as well: there is none any more.
pub async fn listed_manifest(
    store: &dyn Store,
    cluster: ClusterUuid,
    snapshot: SnapshotName,
) -> Result<Manifest, CatalogError> {
    own_manifest(store, cluster, snapshot).await?.ok_or(CatalogError::Gone { cluster, snapshot })
}

/// A small object, or `None` where there is none: some providers say "forbidden" of what is not there.
pub async fn get_if_there(store: &dyn Store, key: &Key, limit: usize) -> Result<Option<Bytes>, StoreError> {
    match store.get(key, limit).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is(ErrorKind::NotFound) => Ok(None),
        Err(error) if error.is(ErrorKind::Denied) && matches!(store.head(key).await, Ok(None)) => Ok(None),
        Err(error) => Err(error),
    }
}
