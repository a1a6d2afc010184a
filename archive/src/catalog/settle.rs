//! What a backup's name is used for. Turns the intent of an attempt that died before its manifest into that manifest.

use backstay_protocol::{AttemptId, ClusterUuid, SnapshotName};

use super::error::CatalogError;
use super::lookup::{get_if_there, manifest};
use crate::manifest::{MANIFEST_MAX, Manifest};
use crate::store::{ErrorKind, Key, ObjectInfo, Store, StoreError};

/// What a backup's name is used for.
#[derive(Debug)]
pub enum Settled {
    /// Nothing: the name is free.
    Free,
    /// A backup, with this manifest.
    Done(Box<Manifest>),
    /// Something that is not a backup: an object with neither a readable manifest nor its owner's intent, or a
    /// manifest without an object. Nothing is ever overwritten, so the name cannot be used.
    Orphan(ObjectInfo),
    /// An object whose manifest exists but cannot be read, because it is archived or a policy denies it. The name
    /// cannot be used; whether this is a backup is unknown.
    Unreadable(StoreError),
}

/// Finds out what a name is used for. If there is an object without a manifest, because its attempt died in between,
/// the owner's intent becomes the manifest.
///
/// # Errors
/// [`StoreError`] if the store fails. An object that cannot be read is not an error, but [`Settled::Unreadable`].
pub async fn settle(store: &dyn Store, cluster: ClusterUuid, name: SnapshotName) -> Result<Settled, StoreError> {
    Ok(settle_counted(store, cluster, name).await?.0)
}

/// The same, and whether a manifest was created.
pub(super) async fn settle_counted(
    store: &dyn Store,
    cluster: ClusterUuid,
    name: SnapshotName,
) -> Result<(Settled, bool), StoreError> {
    let object = store.head(&Key::snapshot(cluster, name)).await?;
    let Some(object) = object else { return without_object(store, cluster, name).await };
    if let Some(settled) = by_manifest(store, cluster, name, &object).await? {
        return Ok((settled, false));
    }
    if let Some(owner) = object.owner
        && let Some(manifest) = promote(store, cluster, name, owner, object.size).await?
    {
        return Ok((Settled::Done(Box::new(manifest)), true));
    }
    // Another process may have created the manifest meanwhile, and then removed the intent.
    let settled = by_manifest(store, cluster, name, &object).await?;
    Ok((settled.unwrap_or(Settled::Orphan(object)), false))
}

/// What the object's manifest says about it; `None` if it has none.
async fn by_manifest(
    store: &dyn Store,
    cluster: ClusterUuid,
    name: SnapshotName,
    object: &ObjectInfo,
) -> Result<Option<Settled>, StoreError> {
    Ok(match manifest(store, cluster, name).await {
        Ok(found) => found.map(|manifest| described(manifest, object.clone())),
        Err(CatalogError::Store(error)) => return Err(error),
        Err(CatalogError::Object(error)) => {
            tracing::warn!(%error, "a name is held by an object whose manifest cannot be read");
            Some(Settled::Unreadable(error))
        }
        Err(error) => {
            tracing::warn!(%error, "a name is held by an object whose manifest cannot be read");
            Some(Settled::Orphan(object.clone()))
        }
    })
}

/// A manifest counts only for the object that it was written for. In a store that does not honour create-only, the
/// manifest of another attempt may be beside it.
fn described(manifest: Manifest, object: ObjectInfo) -> Settled {
    let owned = object.owner.is_none_or(|owner| owner == manifest.attempt);
    if owned && object.size == manifest.sealed_bytes {
        return Settled::Done(Box::new(manifest));
    }
    tracing::warn!(key = %object.key, "an object does not match its manifest");
    Settled::Orphan(object)
}

async fn without_object(
    store: &dyn Store,
    cluster: ClusterUuid,
    name: SnapshotName,
) -> Result<(Settled, bool), StoreError> {
    let manifest = store.head(&Key::manifest(cluster, name)).await?;
    Ok((manifest.map_or(Settled::Free, Settled::Orphan), false))
}

/// Creates the manifest from the owner's intent; `None` if there is no intent that describes the object.
async fn promote(
    store: &dyn Store,
    cluster: ClusterUuid,
    name: SnapshotName,
    owner: AttemptId,
    size: u64,
) -> Result<Option<Manifest>, StoreError> {
    let key = Key::intent(cluster, name, owner);
    let json = match get_if_there(store, &key, MANIFEST_MAX).await {
        Ok(Some(json)) => json,
        Ok(None) => return Ok(None),
        Err(error) if error.is_one_object_s() => {
            tracing::warn!(%error, "an intent cannot be read");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let intent = match Manifest::from_json(&json) {
        Ok(intent) => intent,
        Err(error) => {
            tracing::warn!(%key, %error, "an intent cannot be read");
            return Ok(None);
        }
    };
    if (intent.cluster_uuid, intent.snapshot, intent.attempt, intent.sealed_bytes) != (cluster, name, owner, size) {
        tracing::warn!(%key, "an intent does not match its object");
        return Ok(None);
    }
    match store.put_new(&Key::manifest(cluster, name), json).await {
        Ok(()) => {}
        // Another manifest exists: the caller looks again.
        Err(error) if error.is(ErrorKind::AlreadyExists) => return Ok(None),
        Err(error) => return Err(error),
    }
    tracing::info!(%cluster, snapshot = %name, "created the manifest from the intent of an attempt that died after its \
        upload was complete");
    if let Err(error) = store.delete(&key).await {
        tracing::warn!(%error, "an intent could not be removed; the next sweep tries again");
    }
    Ok(Some(intent))
}
