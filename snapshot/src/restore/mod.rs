//! From the stream of a database to a data folder that etcd starts from as a new cluster, without etcd's tools.
//!
//! The pages are written as they come. One copy-on-write commit behind them (`commit`) makes the database the new
//! cluster's: its members, its index, and the jump of the revision. Then come the log (`wal`) and raft's snapshot
//! (`snap`). So a restore costs what fetching costs, its disk is that of the database, once, and its memory does
//! not depend on it. All is prepared in a hidden folder (`stage`) and becomes visible at once, synced to the disk.
//!
//! Whether the bytes are those of the backup, and good, is for the caller to know before [`Restorer::finish`]: a
//! [`Restorer`] that is dropped leaves nothing behind.

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

/// What a restore made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The data folder.
    pub folder: PathBuf,
    /// The revision of the backup.
    pub revision_before: i64,
    /// The revision that etcd starts with.
    pub revision_after: i64,
    /// Bytes of the database file as restored.
    pub database_bytes: u64,
    /// etcd's id of the new cluster.
    pub cluster_id: u64,
    /// etcd's id of the member that the folder is for.
    pub member_id: u64,
    /// Alarms that the database holds on to, of members of the old cluster.
    pub alarms: usize,
    /// Whether requests need a user, as they did before.
    pub auth_enabled: bool,
    /// The version that the database is marked with; `None`: none, as before etcd 3.6.
    pub storage_version: Option<String>,
}

/// A restore under way. Blocks while it writes: keep it off async threads.
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

/// What a restore would make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Whether the data folder is there already, empty.
    pub is_there: bool,
    /// etcd's id of the new cluster.
    pub cluster_id: u64,
    /// etcd's id of the member that the folder is for.
    pub member_id: u64,
}

/// What [`Restorer::create`] would begin with, or refuse. Touches nothing.
///
/// # Errors
/// The folder holds something, another restore into it is under way, or the options do not describe a cluster.
pub fn check(folder: &Path, options: &Options) -> Result<Plan, RestoreError> {
    let membership = Membership::new(&options.name, &options.members, &options.token)?;
    let is_there = stage::check(folder)?;
    Ok(Plan { is_there, cluster_id: membership.cluster_id, member_id: membership.own })
}

impl Restorer {
    /// Prepares `folder`, which must be empty or not there.
    ///
    /// # Errors
    /// The folder holds something, cannot be made, or the options do not describe a cluster.
    pub fn create(folder: &Path, options: Options) -> Result<Self, RestoreError> {
        let membership = Membership::new(&options.name, &options.members, &options.token)?;
        let stage = Stage::create(folder)?;
        stage.make_folder("snap")?;
        stage.make_folder("wal")?;
        let path = stage.member().join("snap/db");
        let database = stage::create_file(&path)?;
        Ok(Self { stage, options, membership, database, path, bytes: 0, at_least: 0 })
    }

    /// Refuses a database that ends before this revision. Costs nothing: the commit reads where it ends anyway.
    #[must_use]
    pub fn at_least(self, revision: i64) -> Self {
        Self { at_least: revision, ..self }
    }

    /// Takes the next bytes of the database (without its trailer), in any sizes.
    ///
    /// # Errors
    /// The disk refuses them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.database.write_all(bytes).map_err(|cause| RestoreError::file("write", &self.path, cause))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Makes the database the new cluster's and the folder visible. All is on the disk then.
    ///
    /// # Errors
    /// The bytes are no database of etcd's or end too early, or the disk refuses; nothing is left behind but with
    /// [`RestoreError::NotSynced`].
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

    /// Writes what the commit left, densely, and puts it in the database's place.
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
