//! The result of a verification: what was found in the backup's pages is compared with what the etcd on it answers; and
//! if it fails, whether the backup is at fault. Pure.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use backstay_archive::catalog::CatalogError;
use backstay_archive::reader::ReadError;
use backstay_archive::restore::{Contents, Examined, RestoreBackupError, RestoreError};
use backstay_protocol::bus::{Verified, VerifyFailure, clipped};
use backstay_snapshot::inspect::Unknown;
use backstay_snapshot::release::Release;

use super::boot::{BootError, Served};
use crate::stored_backup::FindError;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Errors of the operating system that mean that the machine is at fault.
const OF_MACHINE: [&str; 7] = [
    "address already in use",
    "no space left on device",
    "cannot allocate memory",
    "permission denied",
    "read-only file system",
    "too many open files",
    "input/output error",
];

/// Why a verification failed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Find(#[from] FindError),
    #[error(transparent)]
    Restore(#[from] RestoreBackupError),
    #[error(transparent)]
    Boot(#[from] BootError),
    /// That etcd ended, but not because of what the backup contains.
    #[error("{cause} ({why})")]
    InTheWay { cause: BootError, why: String },
    #[error("{wanted} bytes are needed in {}, {free} are free", .folder.display())]
    Room { wanted: u64, free: u64, folder: PathBuf },
    #[error("cannot use {}: {cause}", .folder.display())]
    Scratch { folder: PathBuf, cause: std::io::Error },
    #[error(
        "HashKV at revision {revision} is {inspected:08x} by inspection, but the etcd that was started on it says \
         {served:08x}"
    )]
    Hash { revision: i64, inspected: u32, served: u32 },
    #[error("it has {inspected} live keys by inspection, but the etcd that was started on it counts {served}")]
    Keys { inspected: u64, served: u64 },
    #[error(
        "of {asked} keys that were read back one by one, the etcd that was started on it returned only {same} \
        unchanged"
    )]
    ReadBack { asked: u32, same: u32 },
}

impl VerifyError {
    /// Whether it says something about the backup: a problem of the machine says nothing.
    pub fn fault(&self) -> VerifyFailure {
        let of_backup = match self {
            Self::Find(error) => find_is_of_backup(error),
            Self::Restore(error) => restore_is_of_backup(error),
            Self::Boot(error) => matches!(error, BootError::Ended { .. }),
            Self::InTheWay { .. } | Self::Room { .. } | Self::Scratch { .. } => false,
            Self::Hash { .. } | Self::Keys { .. } | Self::ReadBack { .. } => true,
        };
        if of_backup { VerifyFailure::Backup } else { VerifyFailure::NotTried }
    }
}

fn find_is_of_backup(error: &FindError) -> bool {
    match error {
        // A manifest that may not be read, as where it is archived, says nothing of the backup.
        FindError::Store(_) | FindError::Catalog(CatalogError::Store(_) | CatalogError::Object(_)) => false,
        FindError::Catalog(
            CatalogError::Manifest { .. }
            | CatalogError::Foreign { .. }
            | CatalogError::Unvouched { .. }
            | CatalogError::SignedHere { .. }
            | CatalogError::Gone { .. },
        )
        | FindError::NoBackup(..)
        | FindError::Other { .. } => true,
    }
}

fn restore_is_of_backup(error: &RestoreBackupError) -> bool {
    match error {
        RestoreBackupError::Read(error) => match error {
            ReadError::Store(error) => error.is(backstay_archive::store::ErrorKind::NotFound),
            ReadError::Open(_) | ReadError::Mismatch { .. } => true,
            ReadError::UnknownSeal(_)
            | ReadError::NoIdentity { .. }
            | ReadError::Write(_)
            | ReadError::Closed
            | ReadError::Internal(_) => false,
        },
        RestoreBackupError::Restore(error) => {
            matches!(error, RestoreError::Page(_) | RestoreError::NoBucket(_) | RestoreError::TooOld { .. })
        }
        RestoreBackupError::Inspect(_) | RestoreBackupError::TooOld { .. } | RestoreBackupError::Contradicts { .. } => {
            true
        }
        RestoreBackupError::Cancelled => false,
    }
}

/// What the inspection of its pages found.
pub fn found(examined: &Examined) -> Verified {
    match &examined.inspection.contents {
        Ok(contents) => {
            Verified { revision: contents.revision, live_keys: contents.live_keys.unwrap_or(0), ..Verified::default() }
        }
        Err(unknown) => Verified { unknown: unknown.to_string(), ..Verified::default() },
    }
}

/// Compares what etcd served with what the inspection found.
///
/// # Errors
/// They differ.
pub fn compare(examined: &Examined, served: &Served, at: i64, verified: &mut Verified) -> Result<(), VerifyError> {
    let (contents, sampled) = (examined.inspection.contents.as_ref().ok(), served.sampled);
    (verified.etcd_version, verified.sampled) = (served.version.clone(), sampled.same);
    verified.auth_set_aside = contents.is_some_and(|contents| contents.about.auth_enabled);
    let counted = contents.and_then(|contents| contents.live_keys);
    if let Some(inspected) = counted.filter(|inspected| *inspected != sampled.keys) {
        return Err(VerifyError::Keys { inspected, served: sampled.keys });
    }
    if sampled.same != sampled.asked {
        return Err(VerifyError::ReadBack { asked: sampled.asked, same: sampled.same });
    }
    verified.live_keys = sampled.keys;
    match &served.hash {
        Ok(hash) if hash.revision == at => match examined.inspection.hash_kv(hash.compact_revision) {
            Ok(inspected) if inspected.is(hash.hash) => (verified.hash_revision, verified.hash) = (at, hash.hash),
            Ok(inspected) => {
                return Err(VerifyError::Hash { revision: at, inspected: inspected.hash, served: hash.hash });
            }
            Err(Unknown::CompactedThere { left, .. }) if left.is(hash.hash) => {
                (verified.hash_revision, verified.hash) = (at, hash.hash);
            }
            Err(unknown) => verified.hash_unknown = unknown.to_string(),
        },
        Ok(hash) => verified.hash_unknown = format!("etcd reports it only for revision {}", hash.revision),
        Err(error) => verified.hash_unknown = clipped(error),
    }
    Ok(())
}

/// What it means that the etcd ended. `etcd` is the version that its program reports; `None` if it reports none.
pub fn ended(cause: BootError, examined: &Examined, etcd: Option<&str>) -> VerifyError {
    let database = examined.inspection.contents.as_ref().ok().and_then(written_by);
    match in_the_way(&cause, database.as_deref(), etcd) {
        Some(why) => VerifyError::InTheWay { cause, why },
        None => cause.into(),
    }
}

/// Another reason than the backup why it may have ended; `None` if none is known.
fn in_the_way(cause: &BootError, database: Option<&str>, etcd: Option<&str>) -> Option<String> {
    let BootError::Ended { status, log, .. } = cause else { return None };
    let Some(etcd) = etcd else {
        return Some("it does not print a version as etcd does: check [verify] etcd in agent.toml".into());
    };
    // An older one may not start on it at all.
    if let Some(database) = database.filter(|database| Release::parse(etcd) < Release::parse(database)) {
        return Some(format!(
            "the database is from etcd {database}, but [verify] etcd is {etcd}: set it to a newer one"
        ));
    }
    if matches!(status.signal(), Some(SIGKILL | SIGTERM)) {
        return Some("it was killed: does the agent's unit have too little memory?".into());
    }
    let log = log.to_ascii_lowercase();
    let found = OF_MACHINE.into_iter().find(|words| log.contains(words));
    found.map(|words| format!("{words}: this is a problem of the machine, not of the backup"))
}

/// The release with which the database is marked.
fn written_by(contents: &Contents) -> Option<String> {
    let about = &contents.about;
    about.cluster_version.iter().chain(&about.storage_version).max_by_key(|version| Release::parse(version)).cloned()
}

#[cfg(test)]
mod tests {
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn a_fault_is_the_backups_or_that_of_what_was_in_the_way() {
        let ended =
            || BootError::Ended { status: ExitStatus::from_raw(256), tail: "panic".into(), log: "panic".into() };
        let read = |error| VerifyError::Restore(RestoreBackupError::Read(error));
        let mismatch = || ReadError::Mismatch { what: "the database", expected: "a".into(), got: "b".into() };
        for error in [
            VerifyError::Keys { inspected: 1, served: 2 },
            VerifyError::ReadBack { asked: 2, same: 1 },
            VerifyError::Boot(ended()),
            VerifyError::Restore(RestoreBackupError::TooOld { is: 1, wanted: 2 }),
            read(mismatch()),
            read(ReadError::Open("age".into())),
        ] {
            assert_eq!(error.fault(), VerifyFailure::Backup, "{error}");
        }
        let folder = || PathBuf::from("/scratch");
        for error in [
            VerifyError::Boot(BootError::NoProgram),
            VerifyError::InTheWay { cause: ended(), why: "no space".into() },
            VerifyError::Room { wanted: 2, free: 1, folder: folder() },
            VerifyError::Scratch { folder: folder(), cause: std::io::ErrorKind::PermissionDenied.into() },
            VerifyError::Restore(RestoreBackupError::Cancelled),
            read(ReadError::NoIdentity { recipients: "age1".into() }),
        ] {
            assert_eq!(error.fault(), VerifyFailure::NotTried, "{error}");
        }
    }

    #[test]
    fn an_etcd_that_ends_for_the_machines_sake_says_nothing_of_the_backup() {
        let why = |raw, log: &str, database, etcd| {
            let cause = BootError::Ended { status: ExitStatus::from_raw(raw), tail: String::new(), log: log.into() };
            in_the_way(&cause, database, etcd).unwrap_or_default()
        };
        let (newest, older) = (Some("3.7.0"), Some("3.6.14"));
        assert_eq!(why(512, "panic: page 7 already freed", older, newest), "");
        assert_eq!(why(512, "panic: page 7 already freed", None, older), "");
        for (raw, log, database, etcd, part) in [
            (256, "", older, None, "does not print a version"),
            (256, "version 3.7.0 is not supported", newest, older, "is from etcd 3.7.0, but [verify] etcd is 3.6.14"),
            (9, "", older, newest, "too little memory"),
            (256, "listen tcp 127.0.0.1:1: bind: address already in use", older, newest, "address already in use"),
            (256, "write: no space left on device", older, newest, "no space left"),
            (256, "open /scratch/member: Permission denied", older, newest, "permission denied"),
            (256, "open db: read-only file system", older, newest, "read-only"),
            (256, "accept4: too many open files\n\ngoroutine 1", older, newest, "too many open files"),
            (512, "panic: read db: input/output error", older, newest, "input/output error"),
        ] {
            let said = why(raw, log, database, etcd);
            assert!(said.contains(part), "{said}");
        }
    }
}
