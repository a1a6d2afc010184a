//! One upload into a folder: a hidden partial file that becomes the object by a hard link, or by a rename if there
//! are no links.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::{Arc, RwLock, RwLockWriteGuard};

use async_trait::async_trait;
use backstay_protocol::AttemptId;
use bytes::Bytes;

use super::files::{self, Place};
use super::hidden::Hidden;
use crate::blocking::blocking;
use crate::store::parts::AcknowledgedParts;
use crate::store::{ErrorKind, PART_BYTES, StoreError, Upload};

/// How an upload ended, if it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Completed,
    Aborted,
}

const UNPOISONED: &str = "no holder of this lock panics";

#[derive(Debug)]
pub(super) struct LocalUpload {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    place: Place,
    partial: PathBuf,
    file: File,
    /// The inode of `file`, which will be the object's.
    inode: u64,
    owner: AttemptId,
    parts: AcknowledgedParts<()>,
    /// Locked for writing during a completion or an abort, and for reading while a part is written, all inside
    /// blocking threads. So a caller that stops waiting still meets the end of what it started, and no part is
    /// written into a complete object.
    state: RwLock<State>,
}

impl LocalUpload {
    /// Creates the partial file; the folder must exist.
    pub(super) fn begin(place: Place, owner: AttemptId) -> io::Result<Self> {
        let partial = place.beside(&Hidden::partial(&place.name, owner));
        let file = files::create(&partial)?;
        let inode = file.metadata()?.ino();
        let state = RwLock::new(State::Open);
        let inner = Inner { place, partial, file, inode, owner, parts: AcknowledgedParts::new(), state };
        Ok(Self { inner: Arc::new(inner) })
    }
}

#[async_trait]
impl Upload for LocalUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError> {
        AcknowledgedParts::<()>::admit(number, body.len(), self.inner.place.path().display())?;
        let inner = self.inner.clone();
        blocking(move || {
            let offset = u64::from(number - 1) * PART_BYTES as u64;
            let action = format!("write part {number} of");
            let state = inner.state.read().expect(UNPOISONED);
            if *state != State::Open {
                return Err(inner.refuse(ErrorKind::Invalid, &action, "the upload has already ended"));
            }
            inner.file.write_all_at(&body, offset).map_err(|error| inner.place.error(&action, &error))?;
            inner.parts.acknowledge(number, body.len(), ());
            Ok(())
        })
        .await
    }

    async fn complete(&self, count: u32) -> Result<(), StoreError> {
        let inner = self.inner.clone();
        blocking(move || inner.complete(count)).await
    }

    async fn abort(&self) -> Result<(), StoreError> {
        let inner = self.inner.clone();
        blocking(move || inner.abort()).await
    }

    fn retries(&self) -> u32 {
        0
    }
}

impl Inner {
    fn complete(&self, count: u32) -> Result<(), StoreError> {
        let mut state = self.end();
        match *state {
            State::Completed => return Ok(()),
            State::Aborted => return Err(self.refuse(ErrorKind::Invalid, "complete", "the upload was aborted")),
            State::Open => {}
        }
        let (bytes, _) = self.parts.whole(count, self.place.path().display())?;
        let failed = |error: io::Error| self.place.error("complete", &error);
        // A part that was sent again and is shorter may have left a tail.
        self.file.set_len(bytes).map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        self.link()?;
        files::sync_folder(&self.place.folder).map_err(failed)?;
        *state = State::Completed;
        // The object exists and is on disk. If the partial name remains, a sweep finds it.
        if let Err(error) = files::remove(&self.partial) {
            tracing::warn!(path = %self.partial.display(), %error, "could not remove the hidden name of a completed \
                upload; a later sweep removes it");
        }
        Ok(())
    }

    /// Gives the partial file the object's name unless it is taken; records its owner first.
    fn link(&self) -> Result<(), StoreError> {
        let failed = |error: io::Error| self.place.error("complete", &error);
        let owner = self.place.beside(&Hidden::owner(&self.place.name, self.inode));
        files::write_whole(&owner, format!("{}\n", self.owner).as_bytes()).map_err(failed)?;
        files::sync_folder(&self.place.folder).map_err(failed)?;
        let Err(error) = self.place.naming.give(&self.partial, &self.place.path()) else { return Ok(()) };
        // Some network file systems answer a link that succeeded with an error, so look.
        let there = self.place.inode().map_err(failed)?;
        if there == Some(self.inode) {
            return Ok(());
        }
        files::remove(&owner).map_err(failed)?;
        match there {
            Some(inode) if self.place.owner_of(inode).map_err(failed)? == Some(self.owner) => Ok(()),
            Some(_) => Err(self.refuse(ErrorKind::AlreadyExists, "complete", "the name is taken")),
            None if error.kind() == io::ErrorKind::AlreadyExists => Err(self.refuse(
                ErrorKind::AlreadyExists,
                "complete",
                "the name is taken by something that is not a \
                    file",
            )),
            None => Err(failed(error)),
        }
    }

    fn abort(&self) -> Result<(), StoreError> {
        let mut state = self.end();
        if *state == State::Open {
            discard(&self.place, &self.partial, self.inode).map_err(|error| self.place.error("abort", &error))?;
            *state = State::Aborted;
        }
        Ok(())
    }

    fn refuse(&self, kind: ErrorKind, action: &str, cause: &str) -> StoreError {
        StoreError::new(kind, action, self.place.path().display(), cause)
    }

    fn end(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect(UNPOISONED)
    }
}

/// Removes a partial file and the note of its owner, unless the object is this very file. The partial file is removed
/// last, so that a sweep still finds whatever a crash in between leaves.
pub(super) fn discard(place: &Place, partial: &std::path::Path, inode: u64) -> io::Result<()> {
    if place.inode()? != Some(inode) {
        files::remove(&place.beside(&Hidden::owner(&place.name, inode)))?;
    }
    files::remove(partial)?;
    match files::sync_folder(&place.folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
