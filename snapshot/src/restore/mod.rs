//! Turns the stream of a database into a data directory that etcd starts from as a new cluster, without etcd's tools.
//!
//! The pages are written as they arrive. One copy-on-write commit behind them (`commit`) turns the database into that
//! of the new cluster: its members, its index, its raised revision. Then the write-ahead log (`wal`) and raft's
//! snapshot (`snap`) are written. So a restore takes about as long as fetching the data, needs the disk space of the
//! database once, and a constant amount of memory. Everything is prepared in a hidden directory (`stage`) and becomes
//! visible in one step, synced to disk.
//!
//! The caller must verify that the bytes are those of the backup, and intact, before it calls [`Restorer::finish`]. A
//! [`Restorer`] that is dropped leaves nothing behind.
//!
//! ```
//! use backstay_snapshot::restore::{NewMember, Options, Restorer};
//!
//! # let database = include_bytes!("../../tests/golden/restore/3.4.23.db");
//! # let directory = tempfile::tempdir()?;
//! # let data_dir = directory.path().join("etcd");
//! let peer_urls = vec!["http://10.0.0.1:2380".to_owned()];
//! let members = vec![NewMember { name: "node-1".to_owned(), peer_urls }];
//! let mut restorer = Restorer::create(&data_dir, Options::new("node-1", members))?.at_least(8);
//! for piece in database.chunks(64 * 1024) {
//!     restorer.write(piece)?;
//! }
//! // Until now nothing is visible.
//! assert!(!data_dir.exists());
//!
//! let restored = restorer.finish()?;
//! assert_eq!((restored.revision_before, restored.revision_after), (8, 1_000_000_008));
//! assert!(data_dir.join("member/snap/db").is_file());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

mod commit;
mod dense;
mod error;
mod membership;
mod options;
mod pages;
mod snap;
mod stage;
mod wal;
mod wire;

pub use error::RestoreError;
pub use membership::NewMember;
pub use options::{DEFAULT_BUMP, Options};
pub use pages::PageError;

use commit::{Changes, Outcome};
use membership::Membership;
use pages::Pages;
use stage::{Stage, sync_folder};

/// The result of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The data directory.
    pub folder: PathBuf,
    /// The revision of the backup.
    pub revision_before: i64,
    /// The revision that etcd starts with.
    pub revision_after: i64,
    /// Size of the restored database file in bytes.
    pub database_bytes: u64,
    /// etcd's ID of the new cluster.
    pub cluster_id: u64,
    /// etcd's ID of the member that the directory is for.
    pub member_id: u64,
    /// Number of alarms in the database; they belong to members of the old cluster.
    pub alarms: usize,
    /// Whether authentication is enabled, as it was in the backup.
    pub auth_enabled: bool,
    /// The version that the database is marked with (`storageVersion`); `None` before etcd 3.6.
    pub storage_version: Option<String>,
}

/// A restore in progress. Its functions block on the disk: do not call them on an async thread.
#[derive(Debug)]
pub struct Restorer {
    stage: Stage,
    options: Options,
    membership: Membership,
    database: File,
    path: PathBuf,
    bytes: u64,
    at_least: i64,
}

/// What a restore would create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Whether the data directory already exists; it is empty then.
    pub is_there: bool,
    /// etcd's ID of the new cluster.
    pub cluster_id: u64,
    /// etcd's ID of the member that the directory is for.
    pub member_id: u64,
}

/// Says what [`Restorer::create`] would create, or refuses what it would refuse. Changes nothing.
///
/// # Errors
/// [`RestoreError`] if the directory contains files, another restore into it is running, or the options do not
/// describe a cluster.
pub fn check(folder: &Path, options: &Options) -> Result<Plan, RestoreError> {
    let membership = Membership::new(&options.name, &options.members, &options.token)?;
    let is_there = stage::check(folder)?;
    Ok(Plan { is_there, cluster_id: membership.cluster_id, member_id: membership.own })
}

impl Restorer {
    /// Prepares the data directory `folder`, which must be empty or not exist. Its parents are created.
    ///
    /// # Errors
    /// [`RestoreError`] if the directory contains files, another restore into it is running, it cannot be created, or
    /// the options do not describe a cluster.
    pub fn create(folder: &Path, options: Options) -> Result<Self, RestoreError> {
        let membership = Membership::new(&options.name, &options.members, &options.token)?;
        let stage = Stage::create(folder)?;
        stage.make_folder("snap")?;
        stage.make_folder("wal")?;
        let path = stage.member().join("snap/db");
        let database = stage::create_file(&path)?;
        Ok(Self { stage, options, membership, database, path, bytes: 0, at_least: 0 })
    }

    /// Makes [`finish`](Self::finish) refuse a database that ends before this revision. Costs nothing, because the
    /// revision is read anyway.
    #[must_use]
    pub fn at_least(self, revision: i64) -> Self {
        Self { at_least: revision, ..self }
    }

    /// Takes the next bytes of the database, in pieces of any size; the trailer is not part of it.
    ///
    /// # Errors
    /// [`RestoreError::File`] if they cannot be written, such as on a full disk.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.database.write_all(bytes).map_err(|cause| RestoreError::file("write", &self.path, cause))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Turns the database into the new cluster's and makes the directory visible. When this returns, everything is
    /// synced to disk.
    ///
    /// # Errors
    /// [`RestoreError`] if the bytes are not a database of etcd, if it ends too early, or if the disk fails. Nothing
    /// is left behind, except after [`RestoreError::NotSynced`].
    pub fn finish(mut self) -> Result<Restored, RestoreError> {
        let outcome = self.commit()?;
        let (is, wanted) = (outcome.revision_before, self.at_least);
        if is < wanted {
            return Err(RestoreError::TooOld { is, wanted });
        }
        if self.options.defragment {
            self.rewrite()?;
        }
        let failed = |cause| RestoreError::file("sync", &self.path, cause);
        self.database.sync_all().map_err(failed)?;
        self.write_small_files()?;
        let folder = self.stage.publish()?;
        Ok(Restored {
            folder,
            revision_before: outcome.revision_before,
            revision_after: outcome.revision_after,
            database_bytes: self.bytes,
            cluster_id: self.membership.cluster_id,
            member_id: self.membership.own,
            alarms: outcome.alarms,
            auth_enabled: outcome.auth_enabled,
            storage_version: outcome.storage_version,
        })
    }

    fn commit(&mut self) -> Result<Outcome, RestoreError> {
        let pages = Pages::open(&self.database, self.bytes)?;
        let commit = commit::make(&pages, &Changes { membership: &self.membership, options: &self.options })?;
        let failed = |cause| RestoreError::file("write", &self.path, cause);
        for (at, bytes) in &commit.writes {
            self.database.write_all_at(bytes, *at).map_err(failed)?;
        }
        self.bytes = commit.bytes;
        self.database.set_len(self.bytes).map_err(failed)?;
        Ok(commit.outcome)
    }

    /// Rewrites the committed database without free pages, and replaces it.
    fn rewrite(&mut self) -> Result<(), RestoreError> {
        let path = self.path.with_extension("dense");
        let file = stage::create_file(&path)?;
        let failed = |cause| RestoreError::file("write", &path, cause);
        let pages = Pages::open(&self.database, self.bytes)?;
        self.bytes = dense::rewrite(&pages, &file).map_err(|error| match error {
            dense::Error::Page(error) => error.into(),
            dense::Error::Write(cause) => failed(cause),
        })?;
        std::fs::rename(&path, &self.path).map_err(failed)?;
        self.database = file;
        Ok(())
    }

    fn write_small_files(&self) -> Result<(), RestoreError> {
        let member = self.stage.member();
        let (wal, snap) = (member.join("wal"), member.join("snap"));
        let log = wal::encode(&self.membership);
        // The zeros after the records are a hole: etcd allocates them when it opens its log.
        stage::write_file(&wal.join(wal::FILE), &log, wal::SEGMENT_BYTES)?;
        stage::write_file(&snap.join(snap::file(&self.membership)), &snap::encode(&self.membership), 0)?;
        [&wal, &snap, &member].into_iter().try_for_each(|folder| sync_folder(folder))
    }
}

#[cfg(test)]
mod later_tests;
#[cfg(test)]
mod tests;
