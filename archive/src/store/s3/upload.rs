//! One upload in parts to S3. It is create-only, and can be repeated if an answer was lost.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use aws_sdk_s3::types::CompletedPart;
use backstay_protocol::AttemptId;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::bucket::{Begun, Bucket};
use super::errors::RequestFailure;
use super::ways::Checksum;
use crate::store::parts::AcknowledgedParts;
use crate::store::{ErrorKind, Key, StoreError, Upload};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Completed,
    Aborted,
}

/// What exists under the key.
enum Standing {
    Free,
    /// This attempt's own object, of this many bytes.
    Mine(u64),
    /// An object of another attempt, or of an unknown one; its size in bytes.
    Taken(Option<AttemptId>, u64),
}

pub(super) struct S3Upload {
    bucket: Arc<Bucket>,
    key: Key,
    full: String,
    owner: AttemptId,
    begun: Mutex<Begun>,
    parts: AcknowledgedParts<CompletedPart>,
    resent: AtomicU32,
    state: Mutex<State>,
}

impl fmt::Debug for S3Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.bucket.target(&self.full);
        f.debug_struct("S3Upload").field("target", &target).field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl S3Upload {
    pub(super) fn new(bucket: Arc<Bucket>, key: Key, full: String, begun: Begun, owner: AttemptId) -> Self {
        let (parts, resent, state) = (AcknowledgedParts::new(), AtomicU32::new(0), Mutex::new(State::Open));
        Self { bucket, key, full, owner, begun: Mutex::new(begun), parts, resent, state }
    }

    /// The upload to use instead of `was`. If this provider requires a checksum that `was` did not announce when it
    /// was started, another upload is started. `None` if `was` is the right one, and the part failed for another
    /// reason.
    async fn begun_anew(&self, was: &Begun, failure: &RequestFailure) -> Result<Option<Begun>, StoreError> {
        let mut begun = self.begun.lock().await;
        if begun.id != was.id {
            return Ok(Some(begun.clone()));
        }
        let found_out = self.bucket.ways.in_use().checksum == Checksum::Crc32c && was.checksum != Checksum::Crc32c;
        if !found_out || failure.kind != ErrorKind::Invalid || !self.parts.is_empty() {
            return Ok(None);
        }
        tracing::info!(object = self.target(), "restarting the upload: this provider requires CRC32C to be announced");
        *begun = self.bucket.create_upload(&self.full, self.owner).await?;
        if let Err(error) = self.bucket.abort_upload(&self.full, &was.id).await {
            tracing::warn!(%error, "an unfinished upload could not be removed; the next sweep tries again");
        }
        Ok(Some(begun.clone()))
    }

    /// Sends a part to one upload, and counts how often it had to be sent again.
    async fn send(&self, begun: &Begun, number: u32, body: Bytes) -> Result<CompletedPart, RequestFailure> {
        let sent = Arc::new(AtomicU32::new(0));
        // Also counted if the caller stops waiting.
        let _counter = CountResent { sent: sent.clone(), resent: &self.resent };
        self.bucket.upload_part((&self.full, &begun.id), number, body, sent).await
    }

    fn target(&self) -> String {
        self.bucket.target(&self.full)
    }

    fn error(&self, kind: ErrorKind, cause: impl fmt::Display) -> StoreError {
        StoreError::new(kind, "complete", self.target(), cause)
    }

    fn taken(&self) -> StoreError {
        self.error(ErrorKind::AlreadyExists, "the name is taken")
    }

    async fn standing(&self) -> Result<Standing, StoreError> {
        Ok(match self.bucket.head(&self.key, &self.full).await? {
            None => Standing::Free,
            Some(found) if found.owner == Some(self.owner) => Standing::Mine(found.size),
            Some(found) => Standing::Taken(found.owner, found.size),
        })
    }

    /// Looks before, because some providers ignore the condition of the request, and after, because a retry after a
    /// lost answer finds no upload any more, or its own object.
    async fn complete_once(&self, count: u32) -> Result<(), StoreError> {
        let (bytes, parts) = self.parts.whole(count, self.target())?;
        let id = self.begun.lock().await.id.clone();
        match self.standing().await? {
            Standing::Mine(found) => return self.own(bytes, found).await,
            Standing::Taken(..) => return Err(self.taken()),
            Standing::Free => {}
        }
        let Err(failure) = self.bucket.complete((&self.full, &id), parts, false).await else {
            return self.confirm(bytes).await;
        };
        match self.standing().await {
            Ok(Standing::Mine(found)) => self.own(bytes, found).await,
            Ok(Standing::Taken(..)) => Err(self.taken()),
            // Refused, although nothing exists: what existed was removed meanwhile.
            Ok(Standing::Free) if failure.kind == ErrorKind::AlreadyExists => {
                Err(failure.taken_as(ErrorKind::Unavailable).at("complete", self.target()))
            }
            Ok(Standing::Free) | Err(_) => Err(failure.at("complete", self.target())),
        }
    }

    /// After an acknowledgement, checks that the object is this one. If a provider ignores create-only, another
    /// object may have replaced it.
    async fn confirm(&self, bytes: u64) -> Result<(), StoreError> {
        match self.standing().await {
            Ok(Standing::Taken(Some(_), _)) => Err(self.taken()),
            Ok(Standing::Taken(None, found)) if found == bytes => Ok(()),
            Ok(Standing::Mine(found)) => self.own(bytes, found).await,
            // Its owner is unknown, so it is not removed. The length is not taken from HEAD alone.
            Ok(Standing::Taken(None, found)) => match self.bucket.size_of(&self.full).await {
                Ok(Some(size)) if size == bytes => {
                    self.head_is_wrong(bytes, found);
                    Ok(())
                }
                Ok(Some(size)) => Err(self.not_whole(bytes, size, "")),
                Ok(None) => Err(self.not_whole(bytes, found, "; it no longer exists")),
                Err(error) => {
                    tracing::warn!(%error, "could not verify the size of a completed upload");
                    Err(self.not_whole(bytes, found, "; its size could not be verified"))
                }
            },
            Ok(Standing::Free) => Err(self.error(
                ErrorKind::Invalid,
                "S3 acknowledged it, but the object does not \
                exist",
            )),
            Err(error) => {
                tracing::warn!(%error, "could not check a completed upload");
                Ok(())
            }
        }
    }

    /// This attempt's own object: either complete, or removed, because nobody else could tell that it is not a
    /// backup. The length is not taken from HEAD alone, which may be wrong.
    async fn own(&self, bytes: u64, found: u64) -> Result<(), StoreError> {
        if found == bytes {
            return Ok(());
        }
        match self.bucket.size_of(&self.full).await {
            Ok(Some(size)) if size == bytes => {
                self.head_is_wrong(bytes, found);
                return Ok(());
            }
            Ok(Some(_)) => {}
            Ok(None) => return Err(self.not_whole(bytes, found, "; it no longer exists")),
            Err(error) => {
                tracing::warn!(%error, "an object that may be incomplete is left in the store");
                return Err(self.not_whole(
                    bytes,
                    found,
                    "; it is left in the store, because its size could not be \
                    verified",
                ));
            }
        }
        match self.bucket.delete(&self.full).await {
            Ok(()) => Err(self.not_whole(bytes, found, "; it was removed again")),
            Err(failure) => {
                let error = failure.at("delete", self.target());
                tracing::warn!(%error, "an incomplete object is left in the store");
                Err(self.not_whole(bytes, found, "; it is left in the store, because it could not be removed"))
            }
        }
    }

    fn head_is_wrong(&self, bytes: u64, head: u64) {
        tracing::warn!(object = self.target(), bytes, head, "HEAD reports a different size than a read");
    }

    fn not_whole(&self, bytes: u64, found: u64, then: &str) -> StoreError {
        self.error(ErrorKind::Invalid, format_args!("{bytes} bytes were uploaded, but the object has {found}{then}"))
    }
}

#[async_trait]
impl Upload for S3Upload {
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError> {
        AcknowledgedParts::<()>::admit(number, body.len(), self.target())?;
        let mut begun = self.begun.lock().await.clone();
        loop {
            match self.send(&begun, number, body.clone()).await {
                Ok(said) => {
                    let current = self.begun.lock().await;
                    if current.id == begun.id {
                        self.parts.acknowledge(number, body.len(), said);
                        return Ok(());
                    }
                    // The upload that has it was abandoned meanwhile.
                    begun = current.clone();
                }
                Err(failure) => match self.begun_anew(&begun, &failure).await? {
                    Some(anew) => begun = anew,
                    None => return Err(failure.at(&format!("upload part {number} of"), self.target())),
                },
            }
        }
    }

    async fn complete(&self, count: u32) -> Result<(), StoreError> {
        let mut state = self.state.lock().await;
        match *state {
            State::Completed => return Ok(()),
            State::Aborted => return Err(self.error(ErrorKind::Invalid, "the upload was aborted")),
            State::Open => {}
        }
        self.complete_once(count).await?;
        *state = State::Completed;
        Ok(())
    }

    async fn abort(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock().await;
        if *state == State::Open {
            let id = self.begun.lock().await.id.clone();
            self.bucket.abort_upload(&self.full, &id).await?;
            *state = State::Aborted;
        }
        Ok(())
    }

    fn retries(&self) -> u32 {
        self.resent.load(Ordering::Relaxed)
    }
}

/// When the request is over, adds the number of tries after the first.
struct CountResent<'a> {
    sent: Arc<AtomicU32>,
    resent: &'a AtomicU32,
}

impl Drop for CountResent<'_> {
    fn drop(&mut self) {
        self.resent.fetch_add(self.sent.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }
}
