//! The local store: a folder, perhaps on a network mount, that the agents and the coordinator can access.
//!
//! Nothing appears under its final name before it is complete and on disk. Bytes are written to a hidden file in the
//! same folder and synced. The file gets its final name by a hard link, or, if the file system has no links, by a
//! rename that never overwrites. See `hidden` for the names, `upload` for objects in parts, `walk` for listings.

mod files;
mod hidden;
mod probe;
#[cfg(test)]
mod tests;
mod upload;
mod walk;

use std::io;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use backstay_protocol::{AttemptId, Timestamp};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use self::files::{Naming, Place};
use self::hidden::Hidden;
use self::upload::LocalUpload;
use super::{Body, ErrorKind, Key, Listing, ObjectInfo, Store, StoreError, Unfinished, Upload};
use crate::blocking::blocking;

/// How much of an object is read at a time, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// A store in a folder.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: Arc<PathBuf>,
    naming: Naming,
}

impl LocalStore {
    /// Opens the store at `path`, which must be absolute and an existing folder. It is never created: if it is
    /// missing, a mount may be missing.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the path is not absolute or not a folder, [`ErrorKind::NotFound`] if there is
    /// nothing.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = path.into();
        if !root.is_absolute() {
            let cause = "the path of a local store must be absolute";
            return Err(StoreError::new(ErrorKind::Invalid, "open", root.display(), cause));
        }
        if files::is_gone(&root) {
            return Err(files::gone("open", &root));
        }
        let found = root.metadata().map_err(|error| files::io_error("open", &root, &error))?;
        if !found.is_dir() {
            return Err(StoreError::new(ErrorKind::Invalid, "open", root.display(), "not a folder"));
        }
        Ok(Self { root: Arc::new(root), naming: Naming::default() })
    }

    /// The same store, used as if the file system had no hard links. For tests.
    pub fn without_links(self) -> Self {
        Self { naming: Naming::Rename, ..self }
    }

    /// Tests whether the folder supports what the store needs: write, give a free name, refuse a taken one, delete.
    /// The returned notes, for people, say what it does not support although backups are possible.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the folder cannot hold backups at all; another kind if it is full or fails now.
    pub async fn probe(&self) -> Result<Vec<String>, StoreError> {
        let (root, naming) = (self.root.clone(), self.naming);
        blocking(move || probe::probe(&root, naming)).await
    }

    fn place(&self, key: &Key) -> Place {
        Place::of(&self.root, key, self.naming)
    }

    /// The place of a key that will be written.
    fn writable(&self, action: &str, key: &Key) -> Result<Place, StoreError> {
        let place = self.place(key);
        if key.is_hidden() {
            let cause = "names that begin with '.' belong to the store";
            return Err(StoreError::new(ErrorKind::Invalid, action, place.path().display(), cause));
        }
        Ok(place)
    }
}

#[async_trait]
impl Store for LocalStore {
    fn url(&self) -> String {
        format!("file://{}", self.root.display())
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        let root = self.root.clone();
        blocking(move || {
            let written = files::time(&root).map_err(|error| files::io_error("write to", &root, &error));
            files::below(&root, "write to", written, |_| false).map(Some)
        })
        .await
    }

    async fn put_new(&self, key: &Key, body: Bytes) -> Result<(), StoreError> {
        let place = self.writable("create", key)?;
        let root = self.root.clone();
        blocking(move || files::below(&root, "write to", put_new(&root, &place, &body), |()| false)).await
    }

    async fn get(&self, key: &Key, limit: usize) -> Result<Bytes, StoreError> {
        let mut whole = BytesMut::new();
        let mut body = self.read(key).await?;
        while let Some(chunk) = body.try_next().await? {
            if whole.len() + chunk.len() > limit {
                let cause = format!("it is larger than {limit} bytes, the most that is allowed here");
                return Err(StoreError::new(ErrorKind::TooLarge, "read", self.place(key).path().display(), cause));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    async fn read(&self, key: &Key) -> Result<Body, StoreError> {
        let place = self.place(key);
        let (root, at) = (self.root.clone(), place.clone());
        let opened = move || {
            let file = files::open(&at.path()).map_err(|error| at.error("read", &error));
            files::below(&root, "read from", file, |_| false)
        };
        let file = blocking(opened).await?;
        let chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(file), READ_BYTES);
        Ok(chunks.map_err(move |error| place.error("read", &error)).boxed())
    }

    async fn read_range(&self, key: &Key, range: Range<u64>) -> Result<Body, StoreError> {
        let place = self.place(key);
        let (root, at, wanted) = (self.root.clone(), place.clone(), range.clone());
        let opened = move || {
            let file = files::open_range(&at.path(), &wanted).map_err(|error| at.error("read a part of", &error));
            files::below(&root, "read from", file, |_| false)
        };
        let file = tokio::fs::File::from_std(blocking(opened).await?).take(range.end - range.start);
        let chunks = ReaderStream::with_capacity(file, READ_BYTES);
        Ok(chunks.map_err(move |error| place.error("read", &error)).boxed())
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        let (root, place) = (self.root.clone(), self.place(key));
        blocking(move || {
            let found = head(&place).map_err(|error| place.error("look up", &error));
            files::below(&root, "read from", found, Option::is_none)
        })
        .await
    }

    fn list(&self, prefix: &str) -> Listing {
        walk::list(self.root.clone(), prefix)
    }

    async fn folders(&self) -> Result<Vec<String>, StoreError> {
        let root = self.root.clone();
        blocking(move || walk::folders(&root)).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let (root, place) = (self.root.clone(), self.writable("delete", key)?);
        blocking(move || {
            let deleted = delete(&place).map_err(|error| place.error("delete", &error));
            files::below(&root, "delete from", deleted, |()| true)
        })
        .await
    }

    async fn begin(&self, key: &Key, owner: AttemptId) -> Result<Box<dyn Upload>, StoreError> {
        let place = self.writable("begin an upload of", key)?;
        let root = self.root.clone();
        blocking(move || {
            let failed = |error: io::Error| place.error("begin an upload of", &error);
            files::below(&root, "write to", place.make_folders(&root).map_err(failed), |()| false)?;
            let upload = LocalUpload::begin(place.clone(), owner).map_err(failed)?;
            Ok(Box::new(upload) as Box<dyn Upload>)
        })
        .await
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>, StoreError> {
        let (root, prefix) = (self.root.clone(), prefix.to_owned());
        blocking(move || walk::unfinished(&root, &prefix)).await
    }

    async fn abort_unfinished(&self, upload: &Unfinished) -> Result<(), StoreError> {
        let place = self.writable("abort an upload of", &upload.key)?;
        // The name comes from a listing, but it selects a file: it must be one of ours, for this key.
        let Some(hidden) = Hidden::parse(&upload.upload).filter(|hidden| hidden.name() == place.name) else {
            let cause = format!("{:?} is not an upload of it", upload.upload);
            let target = place.path();
            return Err(StoreError::new(ErrorKind::Invalid, "abort an upload of", target.display(), cause));
        };
        blocking(move || remove_hidden(&place, &hidden).map_err(|error| place.error("abort an upload of", &error)))
            .await
    }
}

fn put_new(root: &Path, place: &Place, body: &[u8]) -> Result<(), StoreError> {
    let failed = |error: io::Error| place.error("create", &error);
    place.make_folders(root).map_err(failed)?;
    let temporary = place.beside(&Hidden::new(&place.name));
    let result = write_and_link(place, &temporary, body);
    // Removed in every case. What remains after a crash is found by a sweep.
    files::remove(&temporary).map_err(failed)?;
    match result {
        Ok(()) => files::sync_folder(&place.folder).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match holds(place, body) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let cause = "it already exists with different content";
                Err(StoreError::new(ErrorKind::AlreadyExists, "create", place.path().display(), cause))
            }
            Err(error) => Err(failed(error)),
        },
        Err(error) => Err(failed(error)),
    }
}

fn write_and_link(place: &Place, temporary: &Path, body: &[u8]) -> io::Result<()> {
    let mut file = files::create(temporary)?;
    file.write_all(body)?;
    file.sync_all()?;
    place.naming.give(temporary, &place.path()).map(drop)
}

/// Whether the object contains exactly these bytes.
fn holds(place: &Place, body: &[u8]) -> io::Result<bool> {
    match files::stat(&place.path())? {
        Some(found) if found.len() == body.len() as u64 => Ok(std::fs::read(place.path())? == body),
        _ => Ok(false),
    }
}

fn head(place: &Place) -> io::Result<Option<ObjectInfo>> {
    let Some(found) = files::stat(&place.path())? else { return Ok(None) };
    let owner = place.owner_of(found.ino())?;
    let modified = Some(files::modified(&found));
    Ok(Some(ObjectInfo { key: place.key.clone(), size: found.len(), modified, owner }))
}

/// The owner's note is deleted first: a crash in between leaves an object that can be deleted again, not a note that
/// nobody looks for.
fn delete(place: &Place) -> io::Result<()> {
    let Some(inode) = place.inode()? else { return Ok(()) };
    files::remove(&place.beside(&Hidden::owner(&place.name, inode)))?;
    files::remove(&place.path())?;
    files::sync_folder(&place.folder)
}

fn remove_hidden(place: &Place, hidden: &Hidden) -> io::Result<()> {
    let path = place.beside(hidden);
    match hidden {
        Hidden::Partial { .. } => match files::stat(&path)? {
            Some(found) => upload::discard(place, &path, found.ino()),
            None => Ok(()),
        },
        Hidden::Owner { inode, .. } if place.inode()? == Some(*inode) => Ok(()),
        Hidden::Owner { .. } | Hidden::New { .. } => files::remove(&path),
    }
}
