//! From a backup in the store to a data folder on which etcd can start, beside the live one: download, decrypt, check.

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use backstay_archive::blocking::blocking;
use backstay_archive::restore::{self, NewMember, Options, RestoreBackupError};
use backstay_archive::seal::Identity;
use backstay_protocol::bus::{ListedMember, RestorePlan};
use backstay_protocol::hex::to_hex;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::folders::{FolderError, Folders};
use crate::stored_backup::{FindError, Named, StoredBackup};

/// How many bytes are read back at a time.
const READ_BYTES: usize = 256 * 1024;

/// Why nothing was prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("{0}")]
    Room(String),
    #[error(transparent)]
    Find(#[from] FindError),
    #[error(transparent)]
    Restore(#[from] RestoreBackupError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("cannot read back {}: {cause}", .path.display())]
    Back { path: PathBuf, cause: io::Error },
    #[error("cannot create {}: {cause}", .path.display())]
    Make { path: PathBuf, cause: io::Error },
    #[error("{0}")]
    Version(String),
    #[error("cancelled")]
    Cancelled,
}

/// What to prepare; its fields have been checked.
#[derive(Debug)]
pub struct Order {
    pub backup: StoredBackup,
    pub options: Options,
    pub aside_suffix: String,
    pub bytes: u64,
}

impl Order {
    /// Reads a plan; its secrets are decrypted with the agent's own identity.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn parse(plan: RestorePlan, own: &Identity, s3_ca: Option<PathBuf>) -> Result<Self, String> {
        let suffix_fits = plan.aside_suffix.starts_with('.') && !plan.aside_suffix.contains('/');
        if !suffix_fits {
            return Err(format!("the suffix {:?} for the old data directory is invalid", plan.aside_suffix));
        }
        let named = Named {
            cluster_uuid: &plan.cluster_uuid,
            snapshot: &plan.snapshot,
            store: plan.store,
            sealed_identity: &plan.sealed_identity,
            snapshot_sha256: &plan.snapshot_sha256,
        };
        let mut options = Options::new(&plan.member_name, plan.members.iter().map(member).collect());
        options.token = plan.token;
        options.bump = (plan.bump > 0).then_some(plan.bump);
        options.mark_compacted = plan.bump > 0;
        Ok(Self {
            backup: StoredBackup::parse(named, own, s3_ca)?,
            options,
            aside_suffix: plan.aside_suffix,
            bytes: plan.snapshot_bytes,
        })
    }
}

fn member(listed: &ListedMember) -> NewMember {
    NewMember { name: listed.name.clone(), peer_urls: listed.peer_urls.clone() }
}

/// How far it is; shared with the code that reports it.
#[derive(Debug, Default)]
pub struct Progress {
    archive: Arc<restore::Progress>,
    total: AtomicU64,
}

impl Progress {
    /// Bytes of the database that are written, and all of them.
    pub fn bytes(&self) -> (u64, u64) {
        (self.archive.written.load(Relaxed), self.total.load(Relaxed))
    }
}

/// What was prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// sha256 of the database file as it was read back, in hexadecimal.
    pub digest: String,
    pub cluster_id: u64,
    /// The version of the etcd that the backup was taken from, and the version that its database is marked with; empty:
    /// not known.
    pub taken_from: String,
    pub marked: String,
}

/// Prepares the folder from the beginning; what an earlier attempt left is removed first. If it is cancelled, nothing
/// is written any more when it returns.
///
/// # Errors
/// The backup is not in the store or is damaged, there is not enough room, the folder cannot be used, or the etcd here
/// cannot run on the database.
pub async fn prepare(
    order: &Order,
    folders: &Folders,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Prepared, PrepareError> {
    let found = cancel.run_until_cancelled(order.backup.find()).await;
    let (store, manifest) = found.ok_or(PrepareError::Cancelled)??;
    progress.total.store(manifest.snapshot_bytes, Relaxed);
    progress.archive.written.store(0, Relaxed);
    let (room, bytes) = (folders.clone(), manifest.snapshot_bytes);
    blocking(move || make_room(&room, bytes)).await?;
    let (identity, options) = (order.backup.identity.as_ref(), order.options.clone());
    let restored = restore::restore(&*store, &manifest, identity, &folders.made, options, &progress.archive, cancel);
    let outcome = restored.await.map_err(|error| match error {
        RestoreBackupError::Cancelled => PrepareError::Cancelled,
        error => error.into(),
    })?;
    let folders = folders.clone();
    let digest = blocking(move || {
        folders.adopt()?;
        read_back(&folders.fresh_database())
    });
    Ok(Prepared {
        digest: digest.await?,
        cluster_id: outcome.restored.cluster_id,
        taken_from: manifest.origin.etcd_version,
        marked: outcome.restored.storage_version.unwrap_or_default(),
    })
}

fn make_room(folders: &Folders, bytes: u64) -> Result<(), PrepareError> {
    folders.discard()?;
    folders.check(bytes).map_err(PrepareError::Room)?;
    let made = DirBuilder::new().mode(0o700).create(&folders.root);
    made.map_err(|cause| PrepareError::Make { path: folders.root.clone(), cause })
}

/// The digest of the complete file as it is read back, not of what was meant to be written; the kernel may answer from
/// its cache.
fn read_back(path: &Path) -> Result<String, PrepareError> {
    let failed = |cause| PrepareError::Back { path: path.to_owned(), cause };
    let mut file = File::open(path).map_err(failed)?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; READ_BYTES]);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(to_hex(&digest.finalize())),
            read => digest.update(&buffer[..read]),
        }
    }
}
