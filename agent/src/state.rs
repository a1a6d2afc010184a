//! The agent's state folder: what must survive a crash, and how it is written.
//!
//! - `identity`: see [`crate::identity`];
//! - `epoch`: the newest epoch of the coordinator's lease that a command carried;
//! - `attempt`: the attempt under way, from the moment it is accepted to the moment it is reported;
//! - `ended`: the final reports of the last attempts, so that a start that is repeated is answered by them;
//! - `outbox/`: see [`crate::outbox`];
//! - `lock`: held while an agent uses the folder.
//!
//! Every file appears whole or not at all, and is on the disk before the call returns.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use backstay_protocol::bus::Report;
use bytes::Bytes;
use prost::Message;
use tracing::warn;

/// How many final reports are remembered. Only one attempt runs at a time, so the last one would nearly be enough.
const ENDED_MAX: usize = 16;

/// Why a file in the state folder could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {cause}")]
pub struct StateError {
    pub action: &'static str,
    pub path: String,
    pub cause: String,
}

pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.display().to_string();
    move |cause| StateError { action, path, cause: cause.to_string() }
}

/// The folder, and the lock on it.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    lock: File,
}

impl Drop for StateDir {
    /// Unlocks explicitly. Closing the file is not enough, since a child process that is being started has a copy of it
    /// until it executes.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            warn!(%error, "cannot release the lock on the state directory");
        }
    }
}

impl StateDir {
    /// Creates the folder (mode 0700) if it is missing, and locks it.
    ///
    /// # Errors
    /// It cannot be created or used, or another agent uses it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StateError> {
        let path = path.into();
        make_folder(&path)?;
        let at = path.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&at);
        let lock = lock.map_err(failed("open", &at))?;
        lock.try_lock().map_err(|error| StateError {
            action: "lock",
            path: at.display().to_string(),
            cause: match error {
                fs::TryLockError::WouldBlock => "another agent is using this state directory".into(),
                fs::TryLockError::Error(cause) => cause.to_string(),
            },
        })?;
        Ok(Self { path, lock })
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The newest epoch seen; 0 if none was.
    pub fn epoch(&self) -> u64 {
        let path = self.file("epoch");
        let text = read_optional(&path).unwrap_or_else(|error| {
            warn!(%error, "the saved epoch cannot be read; the next command sets it");
            None
        });
        text.and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse().ok()).unwrap_or(0)
    }

    /// Records the newest epoch that was seen, on disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_epoch(&self, epoch: u64) -> Result<(), StateError> {
        write_atomic(&self.file("epoch"), format!("{epoch}\n").as_bytes())
    }

    /// The attempt that was under way when the last process died, as a report without a state.
    pub fn interrupted(&self) -> Option<Report> {
        let path = self.file("attempt");
        match read_optional(&path) {
            Ok(bytes) => Report::decode(bytes?.as_slice())
                .inspect_err(
                    |error| warn!(%error, path = %path.display(), "cannot determine which attempt was running"),
                )
                .ok(),
            Err(error) => {
                warn!(%error, "cannot determine whether an attempt was running");
                None
            }
        }
    }

    /// Records that an attempt is under way: a report without a state.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(&self, attempt: &Report) -> Result<(), StateError> {
        write_atomic(&self.file("attempt"), &attempt.encode_to_vec())
    }

    /// Records that no attempt is under way.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn end(&self) -> Result<(), StateError> {
        remove(&self.file("attempt"))
    }

    /// The final reports of the last attempts, oldest first.
    pub fn ended(&self) -> Vec<Report> {
        let path = self.file("ended");
        let records: Option<Vec<Bytes>> = match read_optional(&path) {
            Ok(bytes) => bytes.and_then(|b| rmp_serde::from_slice(&b).ok()),
            Err(error) => {
                warn!(%error, "the reports of earlier attempts cannot be read");
                None
            }
        };
        records.unwrap_or_default().into_iter().filter_map(|r| Report::decode(r).ok()).collect()
    }

    /// Records the newest 16 of `reports`, which are ordered from old to new.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_ended(&self, reports: &[Report]) -> Result<(), StateError> {
        let newest = &reports[reports.len().saturating_sub(ENDED_MAX)..];
        let records: Vec<Bytes> = newest.iter().map(|r| r.encode_to_vec().into()).collect();
        let path = self.file("ended");
        let bytes = rmp_serde::to_vec_named(&records).map_err(|cause| StateError {
            action: "write",
            path: path.display().to_string(),
            cause: cause.to_string(),
        })?;
        write_atomic(&path, &bytes)
    }
}

/// Creates a folder that only its owner may enter, and its parents, unless it exists.
pub(crate) fn make_folder(path: &Path) -> Result<(), StateError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create the directory", path))
}

/// The bytes of a file; `None` if there is none.
pub(crate) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Writes a file (mode 0600) so that after a crash it is either the old one or the new one.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let partial = path.with_added_extension("partial");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        sync_folder_of(path)
    };
    write().map_err(failed("write", path))
}

/// Removes a file, and returns when that is on disk. A missing file is not an error.
pub(crate) fn remove(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder_of(path).map_err(failed("remove", path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("is there").permissions().mode() & 0o777
    }

    #[test]
    fn only_the_owner_may_read_and_only_one_agent_may_use_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/state");
        let state = StateDir::open(&path).expect("fresh");
        state.set_epoch(7).expect("writable");
        assert_eq!((mode(&path), mode(&state.file("epoch")), state.epoch()), (0o700, 0o600, 7));
        let error = StateDir::open(&path).expect_err("in use").to_string();
        assert!(error.contains("another agent"), "{error}");
        drop(state);
        assert_eq!(StateDir::open(&path).expect("free again").epoch(), 7);
    }

    #[test]
    fn damaged_files_are_as_good_as_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(folder.path()).expect("fresh");
        for name in ["epoch", "attempt", "ended"] {
            fs::write(state.file(name), [0xFF, 0xC1, 0]).expect("writable");
        }
        assert_eq!((state.epoch(), state.interrupted(), state.ended()), (0, None, vec![]));
    }

    #[test]
    fn an_attempt_is_there_until_it_ends_and_the_last_reports_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(folder.path()).expect("fresh");
        let report = |n: usize| Report { attempt: n.to_string(), ..Report::default() };
        assert_eq!(state.interrupted(), None);
        state.begin(&report(1)).expect("writable");
        assert_eq!(state.interrupted(), Some(report(1)));
        state.end().expect("writable");
        state.end().expect("twice is fine");
        assert_eq!(state.interrupted(), None);
        state.set_ended(&(0..40).map(report).collect::<Vec<_>>()).expect("writable");
        assert_eq!(state.ended(), (24..40).map(report).collect::<Vec<_>>());
    }
}
