//! Why a manifest could not be read.

use backstay_protocol::{ClusterUuid, SnapshotName};

use crate::manifest::ManifestError;
use crate::store::{Key, StoreError};
use crate::trust::Doubt;

/// Why a manifest could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The whole store fails: no answer, or the credentials are not accepted.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Only this object cannot be read: it is archived, a policy denies it, or it is damaged.
    #[error("{0}")]
    Object(StoreError),
    /// The object is not a manifest that this version can read.
    #[error("failed to read {key}: {cause}")]
    Manifest {
        /// The object.
        key: Key,
        /// What is wrong with it.
        cause: ManifestError,
    },
    /// The manifest was copied here from another place: it names another cluster or snapshot.
    #[error("the manifest of {snapshot} of cluster {cluster} describes another backup and cannot be used")]
    Foreign {
        /// The cluster in whose folder it is.
        cluster: ClusterUuid,
        /// The backup beside which it is.
        snapshot: SnapshotName,
    },
    /// No trusted signer signed the manifest.
    #[error("the backup {snapshot} of cluster {cluster} is not used: {why}")]
    Unvouched {
        /// The cluster.
        cluster: ClusterUuid,
        /// The backup.
        snapshot: SnapshotName,
        /// What is wrong with its signature.
        why: Doubt,
    },
    /// The backup is signed for the cluster that it is of; a copy for another would not be.
    #[error(
        "{snapshot} of cluster {cluster} is signed, and the signature is for that UUID only: a copy would be unsigned. Keep \
        the folder, or copy it with --allow-unsigned"
    )]
    SignedHere {
        /// The cluster.
        cluster: ClusterUuid,
        /// The backup.
        snapshot: SnapshotName,
    },
    /// The manifest was listed and has been removed since.
    #[error(
        "the manifest of {snapshot} of cluster {cluster} no longer exists: it was removed after the store was \
        listed"
    )]
    Gone {
        /// The cluster.
        cluster: ClusterUuid,
        /// The backup.
        snapshot: SnapshotName,
    },
}
