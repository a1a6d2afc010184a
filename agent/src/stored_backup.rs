//! The stored backup that a command of the coordinator means: its fields are checked, then it is looked up in its store.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use backstay_archive::seal::{self, Identity};
use backstay_archive::store::spec::StoreSpec;
use backstay_archive::{Manifest, Store, StoreError, catalog};
use backstay_protocol::bus::Store as NamedStore;
use backstay_protocol::hex::to_hex;
use backstay_protocol::{ClusterUuid, NameError, SnapshotName};

use crate::attempt::job;

/// Why it is not available.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Catalog(#[from] catalog::CatalogError),
    #[error("the store has no backup {0} of cluster {1}")]
    NoBackup(SnapshotName, ClusterUuid),
    #[error("the backup in the store is not the requested one: sha256 {got}, expected {expected}")]
    Other { got: String, expected: String },
}

/// A backup as a command names it; its secrets are encrypted to this agent.
pub struct Named<'a> {
    pub cluster_uuid: &'a str,
    pub snapshot: &'a str,
    pub store: Option<NamedStore>,
    pub sealed_identity: &'a [u8],
    pub snapshot_sha256: &'a [u8],
}

/// A backup to read.
pub struct StoredBackup {
    cluster: ClusterUuid,
    pub snapshot: SnapshotName,
    store: StoreSpec,
    /// Of the cluster that the backup is of; `None` if it is not encrypted.
    pub identity: Option<Identity>,
    sha256: String,
}

impl fmt::Debug for StoredBackup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredBackup")
            .field("cluster", &self.cluster)
            .field("snapshot", &self.snapshot)
            .finish_non_exhaustive()
    }
}

impl StoredBackup {
    /// Decrypts the secrets with the agent's `own` identity.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn parse(named: Named<'_>, own: &Identity, s3_ca: Option<PathBuf>) -> Result<Self, String> {
        let text = |e: NameError| e.to_string();
        Ok(Self {
            cluster: named.cluster_uuid.parse().map_err(text)?,
            snapshot: named.snapshot.parse().map_err(text)?,
            store: job::store(named.store.and_then(|s| s.kind), own, s3_ca)?,
            identity: identity(named.sealed_identity, own)?,
            sha256: to_hex(named.snapshot_sha256),
        })
    }

    /// The store, open, and the backup's manifest.
    ///
    /// # Errors
    /// The store does not answer, or does not have this backup.
    pub async fn find(&self) -> Result<(Arc<dyn Store>, Manifest), FindError> {
        let store = self.store.clone().open().await?;
        let manifest = catalog::own_manifest(&*store, self.cluster, self.snapshot).await?;
        let manifest = manifest.ok_or(FindError::NoBackup(self.snapshot, self.cluster))?;
        match manifest.snapshot_sha256 == self.sha256 {
            true => Ok((store, manifest)),
            false => Err(FindError::Other { got: manifest.snapshot_sha256, expected: self.sha256.clone() }),
        }
    }
}

/// The identity of a cluster, which was encrypted to this agent; `None` if there is none.
fn identity(sealed: &[u8], own: &Identity) -> Result<Option<Identity>, String> {
    if sealed.is_empty() {
        return Ok(None);
    }
    let opened =
        seal::open_bytes(own, sealed).map_err(|e| format!("the cluster's key is not encrypted for this agent: {e}"))?;
    let text = std::str::from_utf8(&opened).map_err(|_| "the cluster's key is not UTF-8 text".to_owned())?;
    seal::parse_identity(text).map(Some).map_err(|e| e.to_string())
}
