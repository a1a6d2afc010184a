//! One backup's manifest, and other small objects that may be there.

use backstay_protocol::{ClusterUuid, SnapshotName};
use backstay_trust::{BadSignature, MANIFESTS, Signers, Voucher};
use bytes::Bytes;

use super::error::CatalogError;
use crate::manifest::{MANIFEST_MAX, Manifest, ManifestError};
use crate::store::{ErrorKind, Key, Store, StoreError};

/// No signature is larger than this many bytes.
pub(crate) const SIGNATURE_MAX: usize = 4096;

/// A manifest, its bytes as they are stored, and who vouches for them.
#[derive(Debug, Clone, PartialEq)]
pub struct Vouched {
    /// What the bytes say.
    pub manifest: Manifest,
    /// What a signature is over.
    pub json: Bytes,
    /// What the signature beside it is worth; `None` where nobody is trusted, so it was not looked at.
    pub voucher: Option<Voucher>,
}

impl Vouched {
    /// Whether somebody who is trusted vouches for it.
    pub fn is_signed(&self) -> bool {
        matches!(self.voucher, Some(Voucher::Signed(_)))
    }
}

/// The manifest of a backup; `None` where there is none.
///
/// # Errors
/// The store does not hand it out, or it is no manifest.
pub async fn manifest(
    store: &dyn Store,
    cluster: ClusterUuid,
    name: SnapshotName,
) -> Result<Option<Manifest>, CatalogError> {
    Ok(stored(store, cluster, name).await?.map(|(manifest, _)| manifest))
}

/// The manifest of a backup, and its bytes.
async fn stored(
    store: &dyn Store,
    cluster: ClusterUuid,
    name: SnapshotName,
) -> Result<Option<(Manifest, Bytes)>, CatalogError> {
    let key = Key::manifest(cluster, name);
    match get_if_there(store, &key, MANIFEST_MAX).await {
        Ok(Some(json)) => match Manifest::from_json(&json) {
            Ok(manifest) => Ok(Some((manifest, json))),
            Err(cause) => Err(CatalogError::Manifest { key, cause }),
        },
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
    Ok(own(store, cluster, snapshot).await?.map(|(manifest, _)| manifest))
}

async fn own(
    store: &dyn Store,
    cluster: ClusterUuid,
    snapshot: SnapshotName,
) -> Result<Option<(Manifest, Bytes)>, CatalogError> {
    let found = stored(store, cluster, snapshot).await?;
    match found.as_ref().map(|(found, _)| (found.cluster_uuid, found.snapshot)) {
        Some(place) if place != (cluster, snapshot) => Err(CatalogError::Foreign { cluster, snapshot }),
        _ => Ok(found),
    }
}

/// The same as [`own_manifest`], with who vouches for it.
///
/// # Errors
/// As [`own_manifest`]. A signature that the store keeps back is a bad one, and no error.
pub async fn vouched_manifest(
    store: &dyn Store,
    cluster: ClusterUuid,
    snapshot: SnapshotName,
    signers: &Signers,
) -> Result<Option<Vouched>, CatalogError> {
    let Some((manifest, json)) = own(store, cluster, snapshot).await? else { return Ok(None) };
    let voucher = match signers.is_empty() {
        true => None,
        false => Some(voucher(store, cluster, snapshot, &json, signers).await?),
    };
    Ok(Some(Vouched { manifest, json, voucher }))
}

/// The same, of a backup that was listed.
///
/// # Errors
/// [`CatalogError::Gone`] as well: there is none any more.
pub async fn listed_backup(
    store: &dyn Store,
    cluster: ClusterUuid,
    snapshot: SnapshotName,
    signers: &Signers,
) -> Result<Vouched, CatalogError> {
    let found = vouched_manifest(store, cluster, snapshot, signers).await?;
    found.ok_or(CatalogError::Gone { cluster, snapshot })
}

async fn voucher(
    store: &dyn Store,
    cluster: ClusterUuid,
    snapshot: SnapshotName,
    json: &Bytes,
    signers: &Signers,
) -> Result<Voucher, StoreError> {
    match get_if_there(store, &Key::signature(cluster, snapshot), SIGNATURE_MAX).await {
        Ok(signature) => {
            let signature = signature.as_deref().map(String::from_utf8_lossy);
            Ok(signers.check(MANIFESTS, json, signature.as_deref()))
        }
        Err(error) if error.is_one_object_s() => Ok(Voucher::Bad(BadSignature::Format(error.to_string()))),
        Err(error) => Err(error),
    }
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
