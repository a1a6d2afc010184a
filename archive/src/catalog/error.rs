//! Why a manifest could not be read.

use backstay_protocol::{ClusterUuid, SnapshotName};

use crate::manifest::ManifestError;
use crate::store::{Key, StoreError};
use crate::trust::Doubt;

/// Why a manifest could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("{0}")]
    Store(#[from] StoreError),
    /// This object's own trouble: archived, refused by a policy, damaged.
    #[error("{0}")]
    Object(StoreError),
    #[error("failed to read {key}: {cause}")]
    Manifest { key: Key, cause: ManifestError },
    #[error("the manifest of {snapshot} of cluster {cluster} describes another backup and cannot be used")]
    Foreign { cluster: ClusterUuid, snapshot: SnapshotName },
    #[error("the backup {snapshot} of cluster {cluster} is not used: {why}")]
    Unvouched { cluster: ClusterUuid, snapshot: SnapshotName, why: Doubt },
    #[error(
        "the manifest of {snapshot} of cluster {cluster} no longer exists: it was removed after the store was \
        listed"
    )]
    Gone { cluster: ClusterUuid, snapshot: SnapshotName },
}
