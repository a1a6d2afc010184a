//! Reads the manifest of one backup, and other small objects that may exist.

use backstay_protocol::{ClusterUuid, SnapshotName};
use backstay_trust::{BadSignature, MANIFESTS, Signers, Voucher};
use bytes::Bytes;

use super::error::CatalogError;
use crate::manifest::{MANIFEST_MAX, Manifest, ManifestError};
use crate::store::{ErrorKind, Key, Store, StoreError};

/// No signature is larger than this many bytes.
pub(crate) const SIGNATURE_MAX: usize = 4096;

/// A manifest, its bytes as they are stored, and what its signature is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Vouched {
    /// The parsed manifest.
    pub manifest: Manifest,
    /// The stored bytes, which a signature covers.
    pub json: Bytes,
    /// What the signature is worth; `None` if no signer is trusted, so it was not read.
    pub voucher: Option<Voucher>,
}

impl Vouched {
    /// Whether a trusted signer signed it.
    pub fn is_signed(&self) -> bool {
        matches!(self.voucher, Some(Voucher::Signed(_)))
    }
}

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

/// The same as [`own_manifest`], with what its signature is worth. Without `signers` the signature is not read.
///
/// # Errors
/// As [`own_manifest`]. A signature that cannot be read is not an error but a bad signature.
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

/// The same for a backup that was listed, so that there must be a manifest.
///
/// # Errors
/// [`CatalogError::Gone`] if there is none any more; otherwise as [`vouched_manifest`].
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
