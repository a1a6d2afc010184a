//! The S3 store: a bucket, or everything below a prefix in it, at AWS or any compatible provider.
//!
//! `client` connects; `login` checks the credentials; `ways` knows how this provider wants to be asked; `bucket`
//! sends single requests; `look` finds out what exists under a name; `upload` keeps the rules of an upload in parts;
//! `body` reads an object across broken connections; `listing` decodes the names in listings; `errors` and `advice`
//! turn S3's answers into kinds and texts of errors; `probe` tests a configuration.

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

/// How many times a small object is tried again if S3 reports two simultaneous writers.
const CONFLICT_TRIES: u32 = 3;

/// A store in a bucket.
#[derive(Clone)]
pub struct S3Store {
    bucket: Arc<Bucket>,
}

impl S3Store {
    /// Prepares the client. S3 is not contacted yet.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the settings cannot be used.
    pub async fn new(settings: S3Settings) -> Result<Self, StoreError> {
        Self::with_patience(settings, Patience::default()).await
    }

    /// The same with other time limits and retries.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the settings cannot be used.
    pub async fn with_patience(settings: S3Settings, patience: Patience) -> Result<Self, StoreError> {
        Ok(Self { bucket: Arc::new(connect::connect(settings, patience).await?) })
    }

    /// Tests everything that a backup does, before a configuration is accepted: looks up what does not exist, uploads
    /// two parts, completes create-only, looks the object up, reads a part of it, lists it and deletes it. The
    /// returned notes, for people, say what this provider does not support although backups are possible. It also
    /// finds out how the provider wants to be asked, and uses that from then on.
    ///
    /// # Errors
    /// [`StoreError`] of the first step that fails.
    pub async fn probe(&self) -> Result<Vec<String>, StoreError> {
        probe::probe(self.bucket.impatient()).await
    }

    /// How requests to this bucket are made.
    pub fn in_use(&self) -> InUse {
        self.bucket.ways.in_use()
    }

    /// The same as text for people.
    pub fn told(&self) -> Vec<String> {
        self.bucket.ways.told()
    }

    /// First contact, for someone who waits: one listing, with few and short tries. A store that answers, but is
    /// unavailable right now, is not an error; later requests have more patience. Nor is a denied listing, because
    /// what is wanted may still be allowed.
    ///
    /// # Errors
    /// [`StoreError`] if nobody answers, this is not S3, or the credentials are not accepted.
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
            Err(failure) => Err(bucket.unlisted(failure)),
        }
    }

    /// The bucket's full name of a key that will be written.
    fn writable(&self, action: &str, key: &Key) -> Result<String, StoreError> {
        let full = self.bucket.full(key);
        if key.is_hidden() {
            let cause = "names that begin with '.' belong to the store";
            return Err(StoreError::new(ErrorKind::Invalid, action, self.bucket.target(&full), cause));
        }
        Ok(full)
    }

    /// Whether the object exists, with exactly these bytes or with others.
    async fn compare(&self, key: &Key, full: &str, body: &[u8]) -> Result<Found, StoreError> {
        match body::collect(&self.bucket, full, body.len()).await {
            Ok(found) if found == body => Ok(Found::Same),
            Ok(_) => Ok(Found::Other),
            Err(error) if error.is(ErrorKind::TooLarge) => Ok(Found::Other),
            Err(error) if error.is(ErrorKind::NotFound) => Ok(Found::Nothing),
            // Some providers answer so if there is nothing.
            Err(error) if error.is(ErrorKind::Denied) && matches!(self.bucket.head(key, full).await, Ok(None)) => {
                Ok(Found::Nothing)
            }
            Err(error) => Err(error),
        }
    }
}

/// What exists under a key, compared with what was to be created.
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
            // Compared before, because some providers ignore the condition of the request, and after, because a retry
            // after a lost answer finds its own object.
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
        // The name was taken each time, and free again each time it was looked up.
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
