//! Stores: a flat space of keys that hold immutable objects.
//!
//! The rules that every store keeps, and that the conformance suite checks: an object is there whole or
//! not at all; nothing is ever overwritten; a retry sends the same bytes; an abort leaves nothing.

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

/// Every part but the last has exactly this many bytes: some providers refuse unequal parts.
pub const PART_BYTES: usize = 8 * 1024 * 1024;

/// The highest number of a part, and so the most parts of one object: S3's own bound.
pub const PARTS_MAX: u32 = 10_000;

/// The name of an object below the store's root: segments divided by `/`, none empty, `.` or `..`.
///
/// Segments that begin with `.` are kept for what the stores themselves need: they are not listed, and
/// writing to such a key is `Invalid`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The sealed object of a backup.
    pub fn snapshot(cluster: ClusterUuid, name: SnapshotName) -> Self {
        Self(format!("{cluster}/{name}"))
    }

    /// The manifest beside it.
    pub fn manifest(cluster: ClusterUuid, name: SnapshotName) -> Self {
        let snapshot = name.to_string();
        let stem = snapshot.trim_end_matches(".snapshot");
        Self(format!("{cluster}/{stem}.manifest.json"))
    }

    /// The detached signature over the manifest's bytes.
    pub fn signature(cluster: ClusterUuid, name: SnapshotName) -> Self {
        Self(format!("{}.sig", Self::manifest(cluster, name)))
    }

    /// What an attempt is about to complete: the manifest to be, written before the object becomes visible.
    pub fn intent(cluster: ClusterUuid, name: SnapshotName, attempt: AttemptId) -> Self {
        let snapshot = name.to_string();
        let stem = snapshot.trim_end_matches(".snapshot");
        Self(format!("{cluster}/intents/{stem}.{attempt}.json"))
    }

    /// The signature of that manifest to be, where whoever makes the backup signs it.
    pub fn intent_signature(cluster: ClusterUuid, name: SnapshotName, attempt: AttemptId) -> Self {
        Self(format!("{}.sig", Self::intent(cluster, name, attempt)))
    }

    /// The cluster's identity, sealed to the coordinator and to the operator.
    pub fn cluster_key(cluster: ClusterUuid) -> Self {
        Self(format!("{cluster}/key.age"))
    }

    /// Any other key; `None` where `text` has an empty, `.` or `..` segment.
    pub fn new(text: &str) -> Option<Self> {
        let good = |s: &str| !s.is_empty() && s != "." && s != ".." && !s.contains(['\\', '\0']);
        text.split('/').all(good).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the store keeps this name for itself.
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
    pub key: Key,
    pub size: u64,
    /// When it was last written, by the store's clock.
    pub modified: Option<Timestamp>,
    /// The attempt that completed it; known from `head` of an object that was uploaded in parts.
    pub owner: Option<AttemptId>,
}

/// An upload that was begun and neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    pub key: Key,
    /// The store's own name for the upload.
    pub upload: String,
    pub begun: Option<Timestamp>,
}

/// What kind of failure a store met: what a caller may decide upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    NotFound,
    /// Create-only met an object that is there already.
    AlreadyExists,
    /// The credentials do not allow it, or nobody is: a policy, an archived object.
    Denied,
    /// The credentials themselves are not taken: unknown, over, wrongly signed.
    Login,
    /// The store did not answer, or not in time, or asked to come back later; retries are used up.
    Unavailable,
    /// The request, the configuration or the stored object is not what it should be.
    Invalid,
    /// The object has more bytes than whoever asked for it takes.
    TooLarge,
}

/// A failure of a store: what was tried on what, and the store's own reason.
#[derive(Debug, Clone, thiserror::Error)]
#[error("failed to {action} {target}: {cause}")]
pub struct StoreError {
    pub kind: ErrorKind,
    /// What was tried, as it stands after "failed to": `list objects in`, `upload part 3 of`, …
    pub action: String,
    /// On what: `bucket "B"`, `s3://B/key`, a path.
    pub target: String,
    /// The store's own reason in one line; never holds a secret.
    pub cause: String,
}

impl StoreError {
    pub(crate) fn new(kind: ErrorKind, action: &str, target: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self { kind, action: action.to_owned(), target: target.to_string(), cause: cause.to_string() }
    }

    pub fn is(&self, kind: ErrorKind) -> bool {
        self.kind == kind
    }

    /// Whether it may be the trouble of this one object, while others are fine: archived, refused by a policy, gone
    /// meanwhile, not what it should be. Else it is the whole store's: no answer, or no login.
    pub fn is_one_object_s(&self) -> bool {
        match self.kind {
            ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::TooLarge => true,
            ErrorKind::AlreadyExists | ErrorKind::Login | ErrorKind::Unavailable => false,
        }
    }
}

/// Objects listed in the order of their keys.
pub type Listing = BoxStream<'static, Result<ObjectInfo, StoreError>>;
/// An object's bytes.
pub type Body = BoxStream<'static, Result<Bytes, StoreError>>;

#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Where this is, for people: `s3://bucket` or `file:///path`.
    fn url(&self) -> String;

    /// What time it is by the store's own clock; `None` where it does not say.
    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    /// Creates a small object. A key that is taken is `AlreadyExists`, unless it holds these very
    /// bytes: then an earlier try succeeded and its answer was lost.
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<(), StoreError>;

    /// Reads a small object whole; one of more than `limit` bytes is `Invalid`.
    async fn get(&self, key: &Key, limit: usize) -> Result<Bytes, StoreError>;

    /// Reads an object as a stream.
    async fn read(&self, key: &Key) -> Result<Body, StoreError>;

    /// Reads the bytes in `range` of an object, which must have them. An empty range is `Invalid`.
    async fn read_range(&self, key: &Key, range: Range<u64>) -> Result<Body, StoreError>;

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError>;

    /// Every object directly or indirectly below `prefix` (a folder, `a/b/`, or empty for all), all
    /// pages, in the order of keys. Unfinished uploads are not objects.
    fn list(&self, prefix: &str) -> Listing;

    /// The folders directly below the root, without their trailing `/`.
    async fn folders(&self) -> Result<Vec<String>, StoreError>;

    /// Removes an object; one that is not there is fine.
    async fn delete(&self, key: &Key) -> Result<(), StoreError>;

    /// Begins an upload in parts that `owner` may later complete at `key`.
    async fn begin(&self, key: &Key, owner: AttemptId) -> Result<Box<dyn Upload>, StoreError>;

    /// Uploads at keys that begin with `prefix` (any text) that were begun and neither completed nor
    /// aborted. Some providers cannot list them: then there are none here, and `probe` of that store
    /// says so.
    async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>, StoreError>;

    /// Removes such an upload with all its parts; one that is not there is fine. Never touches an object.
    async fn abort_unfinished(&self, upload: &Unfinished) -> Result<(), StoreError>;
}

/// One upload in parts. Parts may be sent concurrently and in any order.
#[async_trait]
pub trait Upload: Send + Sync + fmt::Debug {
    /// Sends part `number` (1 to [`PARTS_MAX`]) of 1 to [`PART_BYTES`] bytes. Retries inside send the
    /// same bytes; a part that is sent again by the caller replaces the earlier one.
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError>;

    /// Makes parts `1..=count` the object, unless the key is taken: then `AlreadyExists`, and the upload
    /// stays to be aborted. Fails without asking the store where a part is missing, one is left over,
    /// or one that is not the last has not exactly [`PART_BYTES`]. Idempotent: where an answer was lost
    /// and this attempt's object is there, that is success.
    async fn complete(&self, count: u32) -> Result<(), StoreError>;

    /// Removes every part. Fine after a completed or aborted upload, where it does nothing.
    async fn abort(&self) -> Result<(), StoreError>;

    /// How many times a part had to be sent again.
    fn retries(&self) -> u32;
}
