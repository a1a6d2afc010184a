//! Why a store could not be listed or restored from.

use std::path::PathBuf;

use backstay_archive::catalog::CatalogError;
use backstay_archive::latest::Ambiguous;
use backstay_archive::merge::MergeError;
use backstay_archive::restore::{RestoreBackupError, RestoreError};
use backstay_archive::seal::SealError;
use backstay_archive::store::StoreError;
use backstay_protocol::{ClusterName, ClusterUuid, SnapshotName};

/// Why a store could not be listed or restored from.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFailure {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("{store} holds no cluster's backups: check the bucket and its prefix")]
    Empty { store: String },
    #[error("{store} holds the backups of several clusters: name one with --cluster-uuid: {clusters}")]
    SeveralClusters { store: String, clusters: String },
    #[error("{store} holds no backup of cluster {cluster}: `backstayctl list --store {store}` shows what is there")]
    NoBackup { store: String, cluster: ClusterUuid },
    #[error(
        "{store} holds no backup {snapshot} of cluster {cluster}: `backstayctl list --store {store}` shows what is there"
    )]
    NoSnapshot { store: String, cluster: ClusterUuid, snapshot: SnapshotName },
    #[error(transparent)]
    Ambiguous(Box<Ambiguous>),
    #[error(
        "the backup is encrypted to {recipients}: give the recovery key, or the cluster's own, with --identity FILE"
    )]
    NoIdentity { recipients: String },
    #[error("failed to read the identity {path}: {cause}")]
    ReadIdentity { path: PathBuf, cause: std::io::Error },
    #[error("failed to use the identity {path}: {cause}")]
    Identity { path: PathBuf, cause: SealError },
    #[error("the identity {path} opens neither the backup, which is encrypted to {recipients}, nor {key}: {cause}")]
    WrongIdentity { path: PathBuf, recipients: String, key: String, cause: String },
    #[error("failed to restore {snapshot} into {folder}: {cause}; nothing was left there")]
    Restore { snapshot: SnapshotName, folder: PathBuf, cause: Box<RestoreBackupError> },
    #[error("{snapshot} was restored into {folder}, but is not known to be on the disk: {cause}")]
    NotSynced { snapshot: SnapshotName, folder: PathBuf, cause: Box<RestoreError> },
    #[error("{store} holds no backup of a cluster {cluster}: `backstayctl list --store {store}` shows what is there")]
    NoBackupOfName { store: String, cluster: ClusterName },
    #[error("failed to merge: {0}")]
    Merge(MergeError),
    #[error("interrupted: what was copied stays; the same command goes on")]
    MergeInterrupted,
    #[error("standard input is no terminal, so nobody can be asked: say --yes")]
    MergeUnasked,
    #[error("not confirmed; nothing was changed")]
    MergeUnconfirmed,
    #[error("failed to listen to signals: {0}")]
    Signals(std::io::Error),
    #[error("{store} has the manifest of {snapshot}, but not the backup itself: choose another")]
    NoObject { store: String, snapshot: SnapshotName },
    #[error("{snapshot} has {is} bytes in {store}, its manifest says {said}: choose another backup")]
    OtherSize { store: String, snapshot: SnapshotName, is: u64, said: u64 },
    #[error("cannot restore into {folder}: {cause}")]
    Folder { folder: PathBuf, cause: RestoreError },
    #[error("cannot write into {folder}: {cause}")]
    NotWritable { folder: PathBuf, cause: std::io::Error },
    #[error("the database needs {needed}, and {folder} has {free} free")]
    NoRoom { folder: PathBuf, needed: String, free: String },
    #[error("interrupted: nothing was restored")]
    Interrupted,
}
