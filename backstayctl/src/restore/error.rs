//! Why a store could not be listed or restored from.

use std::path::PathBuf;

use backstay_archive::catalog::CatalogError;
use backstay_archive::latest::{Ambiguous, Refused};
use backstay_archive::merge::MergeError;
use backstay_archive::restore::{RestoreBackupError, RestoreError};
use backstay_archive::seal::SealError;
use backstay_archive::store::StoreError;
use backstay_archive::trust::Doubt;
use backstay_protocol::{ClusterName, ClusterUuid, NameError, SnapshotName};

/// How to use a backup that is refused for want of a signature.
fn anyway(refused: &Refused) -> String {
    let name = refused.snapshot;
    match (&refused.why, &refused.good) {
        (Doubt::Unreadable(_), _) => String::new(),
        (_, None) => ". Pass --allow-unsigned to use it anyway".into(),
        (_, Some(_)) => format!("\nTo use {name} anyway, pass --snapshot {name} --allow-unsigned"),
    }
}

/// Why a store could not be listed or restored from.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFailure {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("{store} contains no backups: check the bucket and the prefix")]
    Empty { store: String },
    #[error(
        "{store} contains backups of several clusters: choose one with --cluster NAME or --cluster-uuid UUID: {clusters}"
    )]
    SeveralClusters { store: String, clusters: String },
    #[error("{store} contains no backup of cluster {cluster}: run `{list}` to see what it contains")]
    NoBackup { store: String, cluster: ClusterUuid, list: String },
    #[error("{store} contains no backup {snapshot} of cluster {cluster}: {hint}")]
    NoSnapshot { store: String, cluster: ClusterUuid, snapshot: SnapshotName, hint: String },
    #[error("{error}: {hint}")]
    NotAName { error: NameError, hint: String },
    #[error(
        "{store} contains no backup of cluster {cluster} taken at or before {time}: run `{list}` to see what it \
         contains"
    )]
    NoneBefore { store: String, cluster: ClusterUuid, time: String, list: String },
    #[error("{store} contains no backup of a cluster named {cluster}: {hint}")]
    UnknownCluster { store: String, cluster: ClusterName, hint: String },
    #[error(transparent)]
    Ambiguous(Box<Ambiguous>),
    #[error(
        "the backup is encrypted for {recipients}: pass the recovery key or the cluster's own key with --identity FILE"
    )]
    NoIdentity { recipients: String },
    #[error("failed to read the identity file {path}: {cause}")]
    ReadIdentity { path: PathBuf, cause: std::io::Error },
    #[error("{0}")]
    Signers(String),
    #[error("{refused}{}", anyway(refused))]
    Refused { refused: Box<Refused> },
    #[error(
        "{snapshot} is not encrypted, but a key was given ({path}): somebody else may have made it. Pass \
        --allow-unencrypted to use it anyway"
    )]
    NotEncrypted { snapshot: SnapshotName, path: PathBuf },
    #[error("the identity file {path} cannot be used: {cause}")]
    Identity { path: PathBuf, cause: SealError },
    #[error(
        "the identity in {path} ({public}) is not one of the backup's recipients ({recipients}), and the cluster's key \
         {key} does not help: {cause}"
    )]
    WrongIdentity { path: PathBuf, public: String, recipients: String, key: String, cause: String },
    #[error("failed to restore {snapshot} into {folder}: {cause}; nothing was written there")]
    Restore { snapshot: SnapshotName, folder: PathBuf, cause: Box<RestoreBackupError> },
    #[error("{snapshot} was restored into {folder}, but could not be synced to disk: {cause}")]
    NotSynced { snapshot: SnapshotName, folder: PathBuf, cause: Box<RestoreError> },
    #[error("{store} contains no backup of a cluster named {cluster}: run `{list}` to see what it contains")]
    NoBackupOfName { store: String, cluster: ClusterName, list: String },
    #[error("failed to merge: {0}")]
    Merge(MergeError),
    #[error("interrupted: what was copied so far is kept; run the same command again to continue")]
    MergeInterrupted,
    #[error("failed to install the signal handlers: {0}")]
    Signals(std::io::Error),
    #[error("{store} has the manifest of {snapshot}, but not the backup itself: choose another backup")]
    NoObject { store: String, snapshot: SnapshotName },
    #[error("{snapshot} has {is} bytes in {store}, but its manifest says {said}: choose another backup")]
    OtherSize { store: String, snapshot: SnapshotName, is: u64, said: u64 },
    #[error("cannot restore into {folder}: {cause}")]
    Folder { folder: PathBuf, cause: RestoreError },
    #[error("cannot write into {folder}: {cause}")]
    NotWritable { folder: PathBuf, cause: std::io::Error },
    #[error("the database needs {needed}, but {folder} has only {free} free")]
    NoRoom { folder: PathBuf, needed: String, free: String },
    #[error("interrupted: nothing was restored")]
    Interrupted,
}
