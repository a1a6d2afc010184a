//! The S3 store: a bucket, or everything below one prefix of it, at AWS or at any provider that speaks
//! its protocol.
//!
//! `client` connects, `login` looks at what it logs in with, `ways` knows how this provider wants to be asked, `bucket`
//! asks S3 one thing at a time, `look` finds out what stands at a name, `upload` keeps the rules of an upload in
//! parts, `body` reads an object through broken connections, `listing` reads the names in listings, `errors` and `advice` turn what S3 says into what
//! callers decide upon, `probe` proves that a configuration works.

mod advice;
mod body;
mod bucket;
mod client;
mod connect;
mod errors;
mod listing;
mod login;
mod look;
mod notes;
mod patience;
mod probe;
mod settings;
mod text;
mod upload;
mod ways;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use backstay_protocol::{AttemptId, Timestamp};
use bytes::Bytes;
use futures::StreamExt;

use self::bucket::Bucket;
use self::errors::RequestFailure;
use self::upload::S3Upload;
use super::{Body, ErrorKind, Key, Listing, ObjectInfo, Store, StoreError, Unfinished, Upload};

pub use self::patience::Patience;
pub use self::settings::{ObjectSettings, S3Credentials, S3Settings};
pub use self::ways::{Addressing, Checksum, InUse};

/// How often a small object is tried again where S3 says that two writers met.
const CONFLICT_TRIES: u32 = 3;

/// A store in a bucket.
#[derive(Clone)]
pub struct S3Store {
    bucket: Arc<Bucket>,
}

impl S3Store {
    /// Prepares the client; asks S3 nothing yet. `Invalid` where the settings cannot be used.
    pub async fn new(settings: S3Settings) -> Result<Self, StoreError> {
        Self::with_patience(settings, Patience::default()).await
    }

    /// The same with other limits of time and retries.
    pub async fn with_patience(settings: S3Settings, patience: Patience) -> Result<Self, StoreError> {
        Ok(Self { bucket: Arc::new(connect::connect(settings, patience).await?) })
    }

    /// What is asked before a configuration is taken, which is all that a backup does: look up what is not there,
    /// upload two parts, complete create-only, look at it, read a part of it, list it, delete it. The notes say what
    /// this provider cannot, where backups are possible all the same. How it wants to be asked is found out on the
    /// way, and in use from then on.
    pub async fn probe(&self) -> Result<Vec<String>, StoreError> {
        probe::probe(self.bucket.impatient()).await
    }

    /// How this bucket is asked.
    pub fn in_use(&self) -> InUse {
        self.bucket.ways.in_use()
    }

    /// The same, for people.
    pub fn told(&self) -> Vec<String> {
        self.bucket.ways.told()
    }

    /// A first contact for a person who waits: one listing. That nobody is there, that it is no S3, or that the
    /// login is not taken, is told at once. A store that answers, and cannot just now, is left to the patience
    /// of what follows. Whoever may not list may still be allowed to do what is wanted.
    pub async fn greet(&self) -> Result<(), StoreError> {
        let bucket = self.bucket.brief();
        match bucket.try_list().await {
            Ok(()) => Ok(()),
            Err(failure) if failure.kind == ErrorKind::Denied => {
                if let Err(error) = probe::learn_absence(&bucket).await {
                    tracing::debug!(%error, "could not find out how this provider answers for objects that do not \
                        exist");
                }
                Ok(())
            }
            Err(failure) if failure.kind == ErrorKind::Unavailable && !failure.is_unreachable() => Ok(()),
            Err(failure) => Err(failure.at("list objects in", bucket.whole())),
        }
    }

    /// The full name of a key that is to be written.
    fn writable(&self, action: &str, key: &Key) -> Result<String, StoreError> {
        let full = self.bucket.full(key);
        if key.is_hidden() {
            let cause = "names that begin with '.' belong to the store";
            return Err(StoreError::new(ErrorKind::Invalid, action, self.bucket.target(&full), cause));
        }
        Ok(full)
    }

    /// Whether the object is there, with these very bytes or with others.
    async fn compare(&self, key: &Key, full: &str, body: &[u8]) -> Result<Found, StoreError> {
        match body::collect(&self.bucket, full, body.len()).await {
            Ok(found) if found == body => Ok(Found::Same),
            Ok(_) => Ok(Found::Other),
            Err(error) if error.is(ErrorKind::TooLarge) => Ok(Found::Other),
            Err(error) if error.is(ErrorKind::NotFound) => Ok(Found::Nothing),
            // Some say so of what is not there.
            Err(error) if error.is(ErrorKind::Denied) && matches!(self.bucket.head(key, full).await, Ok(None)) => {
                Ok(Found::Nothing)
            }
            Err(error) => Err(error),
        }
    }
}

/// What stands at a key, compared with what was to be put there.
enum Found {
    Nothing,
    Same,
    Other,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bucket.fmt(f)
    }
}

#[async_trait]
impl Store for S3Store {
    fn url(&self) -> String {
        self.bucket.url()
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.bucket.impatient().time().await
    }

    async fn put_new(&self, key: &Key, body: Bytes) -> Result<(), StoreError> {
        let full = self.writable("create", key)?;
        let error = |failure: RequestFailure| failure.at("create", self.bucket.target(&full));
        let mut last = None;
        for _ in 0..=CONFLICT_TRIES {
            // Looked at before, because some providers ignore the condition of the request, and after,
            // because a retry after a lost answer meets its own object.
            match self.compare(key, &full, &body).await? {
                Found::Same => return Ok(()),
                Found::Other => {
                    let cause = "it already exists with different content";
                    let target = self.bucket.target(&full);
                    return Err(StoreError::new(ErrorKind::AlreadyExists, "create", target, cause));
                }
                Found::Nothing => {}
            }
            match self.bucket.put_new(&full, body.clone()).await {
                Ok(()) => return Ok(()),
                Err(failure) if failure.kind == ErrorKind::AlreadyExists || failure.is_conflict() => {
                    last = Some(failure)
                }
                Err(failure) if failure.kind == ErrorKind::Unavailable => {
                    let there = matches!(self.compare(key, &full, &body).await, Ok(Found::Same));
                    return if there { Ok(()) } else { Err(error(failure)) };
                }
                Err(failure) => return Err(error(failure)),
            }
        }
        // The name was taken each time, and each time it was free again when looked at.
        let last = last.expect("the loop ends early unless a try failed");
        Err(error(last.taken_as(ErrorKind::Unavailable)))
    }

    async fn get(&self, key: &Key, limit: usize) -> Result<Bytes, StoreError> {
        body::collect(&self.bucket, &self.bucket.full(key), limit).await
    }

    async fn read(&self, key: &Key) -> Result<Body, StoreError> {
        body::open(self.bucket.clone(), self.bucket.full(key), None).await
    }

    async fn read_range(&self, key: &Key, range: Range<u64>) -> Result<Body, StoreError> {
        body::open(self.bucket.clone(), self.bucket.full(key), Some(range)).await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        self.bucket.head(key, &self.bucket.full(key)).await
    }

    fn list(&self, prefix: &str) -> Listing {
        if prefix.starts_with('/') || prefix.split('/').rev().skip(1).any(|s| matches!(s, "" | "." | "..")) {
            let cause = format!("{prefix:?} is not the beginning of a key");
            let error = StoreError::new(ErrorKind::Invalid, "list objects in", self.bucket.whole(), cause);
            return futures::stream::once(async { Err(error) }).boxed();
        }
        bucket::list(&self.bucket, prefix)
    }

    async fn folders(&self) -> Result<Vec<String>, StoreError> {
        self.bucket.folders().await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let full = self.writable("delete", key)?;
        self.bucket.delete(&full).await.map_err(|failure| failure.at("delete", self.bucket.target(&full)))
    }

    async fn begin(&self, key: &Key, owner: AttemptId) -> Result<Box<dyn Upload>, StoreError> {
        let full = self.writable("begin an upload of", key)?;
        let begun = self.bucket.create_upload(&full, owner).await?;
        Ok(Box::new(S3Upload::new(self.bucket.clone(), key.clone(), full, begun, owner)))
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>, StoreError> {
        match self.bucket.unfinished(prefix).await {
            Err(failure) if failure.is_not_implemented() => {
                tracing::warn!(bucket = %self.bucket.url(), "{}", notes::CANNOT_LIST_UPLOADS);
                Ok(Vec::new())
            }
            result => result.map_err(|failure| failure.at("list unfinished uploads in", self.bucket.whole())),
        }
    }

    async fn abort_unfinished(&self, upload: &Unfinished) -> Result<(), StoreError> {
        let full = self.writable("abort an upload of", &upload.key)?;
        self.bucket.abort_upload(&full, &upload.upload).await
    }
}
