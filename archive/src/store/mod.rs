//! Stores: a flat space of keys with immutable objects.
//!
//! The rules of every store, which the conformance suite checks: an object exists as a whole or not at all; nothing
//! is ever overwritten; a retry sends the same bytes; an abort leaves nothing.
//!
//! ```
//! use backstay_archive::store::local::LocalStore;
//! use backstay_archive::store::{ErrorKind, Key, Store};
//! use bytes::Bytes;
//! use futures::TryStreamExt;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path();
//! let store = LocalStore::open(path)?;
//! let key = Key::new("notes/first.txt").expect("no empty segments");
//! store.put_new(&key, Bytes::from("hello")).await?;
//! assert_eq!(store.get(&key, 1024).await?, "hello");
//!
//! // Nothing is ever overwritten.
//! let error = store.put_new(&key, Bytes::from("other")).await.unwrap_err();
//! assert!(error.is(ErrorKind::AlreadyExists));
//!
//! let listed: Vec<_> = store.list("notes/").try_collect().await?;
//! assert_eq!((&listed[0].key, listed[0].size), (&key, 5));
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use backstay_protocol::{AttemptId, ClusterUuid, SnapshotName, Timestamp};
use bytes::Bytes;
use futures::stream::BoxStream;

pub mod local;
mod parts;
pub mod s3;
pub mod spec;

/// Size of every part but the last, in bytes: some providers refuse parts of different sizes.
pub const PART_BYTES: usize = 8 * 1024 * 1024;

/// The highest number of a part, and so the most parts of an object. This is S3's limit.
pub const PARTS_MAX: u32 = 10_000;

/// The name of an object below the store's root: segments separated by `/`, none of them empty, `.` or `..`.
///
/// Segments that begin with `.` are reserved for the stores themselves: they are not listed, and writing to such a
/// key is [`ErrorKind::Invalid`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The sealed object of a backup: `<cluster>/<name>`.
    pub fn snapshot(cluster: ClusterUuid, name: SnapshotName) -> Self {
        Self(format!("{cluster}/{name}"))
    }

    /// The manifest of a backup, beside its object: `….manifest.json`.
    pub fn manifest(cluster: ClusterUuid, name: SnapshotName) -> Self {
        let snapshot = name.to_string();
        let stem = snapshot.trim_end_matches(".snapshot");
        Self(format!("{cluster}/{stem}.manifest.json"))
    }

    /// The intent of an attempt: its future manifest, written before the object becomes visible.
    pub fn intent(cluster: ClusterUuid, name: SnapshotName, attempt: AttemptId) -> Self {
        let snapshot = name.to_string();
        let stem = snapshot.trim_end_matches(".snapshot");
        Self(format!("{cluster}/intents/{stem}.{attempt}.json"))
    }

    /// The cluster's age identity, encrypted for the coordinator and the operator.
    pub fn cluster_key(cluster: ClusterUuid) -> Self {
        Self(format!("{cluster}/key.age"))
    }

    /// Any other key; `None` if `text` has an empty, `.` or `..` segment, a backslash or a NUL.
    pub fn new(text: &str) -> Option<Self> {
        let good = |s: &str| !s.is_empty() && s != "." && s != ".." && !s.contains(['\\', '\0']);
        text.split('/').all(good).then(|| Self(text.to_owned()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the store reserves this name for itself.
    pub(crate) fn is_hidden(&self) -> bool {
        self.0.split('/').any(|segment| segment.starts_with('.'))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An object, as listed or looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key.
    pub key: Key,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written, by the store's clock; `None` if the store does not say.
    pub modified: Option<Timestamp>,
    /// The attempt that uploaded it. Known only from [`Store::head`], and only for objects that were uploaded in
    /// parts.
    pub owner: Option<AttemptId>,
}

/// An upload that was started, and neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The key that its object would get.
    pub key: Key,
    /// The store's own name for the upload.
    pub upload: String,
    /// When it was started, by the store's clock; `None` if the store does not say.
    pub begun: Option<Timestamp>,
}

/// The kind of a store's failure, on which callers decide what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The object, the bucket or the folder does not exist.
    NotFound,
    /// The object must not exist, but does.
    AlreadyExists,
    /// It is not allowed: the credentials lack a permission, a policy denies it, or the object is archived.
    Denied,
    /// The credentials are not accepted: they are unknown or expired, the signature is wrong, or the clocks differ too
    /// much.
    Login,
    /// The store did not answer, not in time, or asked to come back later, also after all retries.
    Unavailable,
    /// The request, the configuration or the stored object is wrong.
    Invalid,
    /// The object is larger than the caller allows.
    TooLarge,
}

/// A failure of a store: what was tried, on what, and the store's own reason.
#[derive(Debug, Clone, thiserror::Error)]
#[error("failed to {action} {target}: {cause}")]
pub struct StoreError {
    /// The kind of failure.
    pub kind: ErrorKind,
    /// What was tried, as it follows "failed to": `list objects in`, `upload part 3 of`, …
    pub action: String,
    /// What it was tried on: `bucket "B"`, `s3://B/key`, or a path.
    pub target: String,
    /// The store's own reason in one line. Never contains a secret.
    pub cause: String,
}

impl StoreError {
    pub(crate) fn new(kind: ErrorKind, action: &str, target: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self { kind, action: action.to_owned(), target: target.to_string(), cause: cause.to_string() }
    }

    /// Whether it is a failure of this kind.
    pub fn is(&self, kind: ErrorKind) -> bool {
        self.kind == kind
    }

    /// Whether the failure may concern this one object only, while others are fine: it is archived, denied by a
    /// policy, gone meanwhile, or not what it should be. Otherwise the whole store fails: no answer, or no login.
    pub fn is_one_object_s(&self) -> bool {
        match self.kind {
            ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::TooLarge => true,
            ErrorKind::AlreadyExists | ErrorKind::Login | ErrorKind::Unavailable => false,
        }
    }
}

/// Objects in the order of their keys.
pub type Listing = BoxStream<'static, Result<ObjectInfo, StoreError>>;
/// The bytes of an object, in pieces of any size.
pub type Body = BoxStream<'static, Result<Bytes, StoreError>>;

/// A place for objects. What goes wrong is a [`StoreError`]; its [`kind`](StoreError::kind) is given where callers
/// can rely on it.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// The store's address, for people: `s3://bucket` or `file:///path`.
    fn url(&self) -> String;

    /// The time by the store's own clock; `None` if it does not say.
    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    /// Creates a small object. If the key exists, the error is [`ErrorKind::AlreadyExists`], unless the object
    /// contains exactly these bytes: then an earlier try succeeded and its answer was lost.
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<(), StoreError>;

    /// Reads a small object as a whole. If it has more than `limit` bytes, the error is [`ErrorKind::TooLarge`]; if
    /// there is none, [`ErrorKind::NotFound`].
    async fn get(&self, key: &Key, limit: usize) -> Result<Bytes, StoreError>;

    /// Reads an object as a stream. If there is none, the error is [`ErrorKind::NotFound`].
    async fn read(&self, key: &Key) -> Result<Body, StoreError>;

    /// Reads the bytes of an object in `range`, which must exist. An empty range is [`ErrorKind::Invalid`].
    async fn read_range(&self, key: &Key, range: Range<u64>) -> Result<Body, StoreError>;

    /// Looks up an object; `None` if there is none.
    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError>;

    /// Lists every object directly or indirectly below `prefix` (a folder such as `a/b/`, or empty for all), in the
    /// order of keys. Unfinished uploads are not objects.
    fn list(&self, prefix: &str) -> Listing;

    /// Lists the folders directly below the root, without their trailing `/`.
    async fn folders(&self) -> Result<Vec<String>, StoreError>;

    /// Deletes an object. It is not an error if there is none.
    async fn delete(&self, key: &Key) -> Result<(), StoreError>;

    /// Starts an upload in parts to `key`. `owner` is recorded, and tells later which attempt completed the object.
    async fn begin(&self, key: &Key, owner: AttemptId) -> Result<Box<dyn Upload>, StoreError>;

    /// Lists the uploads that were neither completed nor aborted, to keys that begin with `prefix` (any text). Some
    /// providers cannot list them: then there are none here, and the store's `probe` says so.
    async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>, StoreError>;

    /// Removes such an upload with all its parts. It is not an error if there is none. Never touches an object.
    async fn abort_unfinished(&self, upload: &Unfinished) -> Result<(), StoreError>;
}

/// One upload in parts. Parts may be sent at the same time and in any order.
#[async_trait]
pub trait Upload: Send + Sync + fmt::Debug {
    /// Sends part `number` (1 to [`PARTS_MAX`]), of 1 to [`PART_BYTES`] bytes. Retries inside send the same bytes. A
    /// part that the caller sends again replaces the earlier one.
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError>;

    /// Creates the object from parts `1..=count`. If the key exists, the error is [`ErrorKind::AlreadyExists`], and
    /// the upload remains and must be aborted. The store is not asked if a part is missing, if there are more, or if
    /// one that is not the last does not have exactly [`PART_BYTES`] bytes. Can be repeated: if an answer was lost
    /// and this attempt's object exists, that is success.
    async fn complete(&self, count: u32) -> Result<(), StoreError>;

    /// Removes every part. Does nothing after a completed or aborted upload.
    async fn abort(&self) -> Result<(), StoreError>;

    /// How many times a part had to be sent again so far.
    fn retries(&self) -> u32;
}
