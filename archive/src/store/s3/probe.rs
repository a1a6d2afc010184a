//! Tests a configuration before it is accepted: does everything that a backup does, with an object that is removed
//! again.

use std::sync::Arc;

use aws_sdk_s3::types::CompletedPart;
use backstay_protocol::{AttemptId, Timestamp};
use bytes::Bytes;
use futures::TryStreamExt;
use tracing::debug;
use uuid::Uuid;

use super::bucket::{self, Bucket};
use super::errors::RequestFailure;
use super::ways::Checksum;
use super::{body, notes};
use crate::store::{ErrorKind, Key, PART_BYTES, StoreError, Unfinished};

/// The folder for the objects of probes.
const FOLDER: &str = ".backstay-probe";

/// After this many seconds, a probe that left something will not remove it any more, because it was killed.
const ABANDONED: i64 = 3_600;

/// The second part. Two parts as small as possible are a full one and this one.
const LAST: &[u8] = b"!";
const FILLER: u8 = b'.';

/// Runs the probe; the notes are for people. Whatever happens, what it created is removed, if the bucket allows it.
pub(super) async fn probe(bucket: Bucket) -> Result<Vec<String>, StoreError> {
    bucket.try_list().await.map_err(|failure| bucket.unlisted(failure))?;
    let folder = Arc::new(bucket.below(FOLDER));
    let full = format!("{}{}", folder.prefix, Uuid::new_v4().simple());
    let locks = bucket.locks_by_default().await;
    let mut probe = Probe { bucket, folder, full, locks, uploads: Vec::new(), created: false, notes: Vec::new() };
    let result = probe.run().await;
    let cleaned = probe.clean().await;
    result.and(cleaned).map(|()| probe.notes)
}

/// Finds out whether this provider answers "forbidden" for objects that do not exist.
pub(super) async fn learn_absence(bucket: &Bucket) -> Result<bool, StoreError> {
    let full = format!("{}{FOLDER}/{}", bucket.prefix, Uuid::new_v4().simple());
    let key = Key::new(&full).expect("the probe's name has no empty segment");
    let denied = match bucket.ask_head(&key, &full).await? {
        Ok(_) => false,
        Err(failure) if failure.kind == ErrorKind::Denied => true,
        Err(failure) => return Err(failure.at("look up", bucket.target(&full))),
    };
    bucket.ways.absent_is_denied(denied);
    Ok(denied)
}

struct Probe {
    bucket: Bucket,
    folder: Arc<Bucket>,
    full: String,
    /// Whether new objects may not be deleted for a while, by the bucket's own rule.
    locks: bool,
    /// Started, and not known to be completed.
    uploads: Vec<String>,
    /// Whether there may be an object.
    created: bool,
    notes: Vec<String>,
}

impl Probe {
    async fn run(&mut self) -> Result<(), StoreError> {
        if learn_absence(&self.bucket).await? {
            self.note(notes::ABSENT_IS_DENIED);
        }
        let owner = AttemptId(Uuid::new_v4());
        let (upload, parts) = self.upload_two_parts(owner).await?;
        let conditional = self.complete_first(&upload, parts).await?;
        self.uploads.clear();
        let made = self.check_head(owner).await?;
        self.check_part().await?;
        self.check_listing().await?;
        if !(conditional && self.refuses_second_upload().await? && self.refuses_second_put().await?) {
            self.note(notes::IGNORES_CREATE_ONLY);
        }
        let uploads = self.check_listing_of_uploads().await?;
        if let Some(now) = made
            && let Err(error) = self.sweep(uploads, now).await
        {
            debug!(%error, "could not remove leftovers of an interrupted test");
        }
        Ok(())
    }

    /// Whether this provider supports the condition: some refuse the header, and work without it.
    async fn complete_first(&mut self, upload: &str, parts: Vec<CompletedPart>) -> Result<bool, StoreError> {
        let result = self.bucket.complete((&self.full, upload), parts.clone(), true).await;
        let (result, conditional) = match result {
            Err(failure) if failure.is_not_implemented() => {
                (self.bucket.complete((&self.full, upload), parts, false).await, false)
            }
            result => (result, true),
        };
        result.map(|()| conditional).map_err(|failure| failure.at("complete", self.bucket.target(&self.full)))
    }

    /// A full part and a byte. If the checksum that this provider requires is found only by sending a part, the
    /// upload is started again, because the checksum must be announced.
    async fn upload_two_parts(&mut self, owner: AttemptId) -> Result<(String, Vec<CompletedPart>), StoreError> {
        let bodies = [Bytes::from(vec![FILLER; PART_BYTES]), Bytes::from_static(LAST)];
        let announced = |probe: &Self| probe.bucket.ways.in_use().checksum == Checksum::Crc32c;
        let before = announced(self);
        let sent = self.upload(owner, &bodies).await;
        if before || !announced(self) { sent } else { self.upload(owner, &bodies).await }
    }

    /// An upload with its parts, ready to be completed.
    async fn upload(&mut self, owner: AttemptId, bodies: &[Bytes]) -> Result<(String, Vec<CompletedPart>), StoreError> {
        let upload = self.bucket.create_upload(&self.full, owner).await?.id;
        self.uploads.push(upload.clone());
        self.created = true;
        let mut parts = Vec::new();
        for (number, body) in (1..).zip(bodies) {
            let part = self.bucket.upload_part((&self.full, &upload), number, body.clone(), Arc::default()).await;
            let failed = |failure: RequestFailure| {
                failure.at(&format!("upload part {number} of"), self.bucket.target(&self.full))
            };
            parts.push(part.map_err(failed)?);
        }
        Ok((upload, parts))
    }

    fn wrong(&self, action: &str, cause: impl std::fmt::Display) -> StoreError {
        StoreError::new(ErrorKind::Invalid, action, self.bucket.target(&self.full), cause)
    }

    /// When the object was created, by S3's clock.
    async fn check_head(&mut self, owner: AttemptId) -> Result<Option<Timestamp>, StoreError> {
        let key = Key::new(&self.full).expect("the probe's name has no empty segment");
        let answer = self.bucket.ask_head(&key, &self.full).await?;
        let answer = answer.map_err(|failure| failure.at("look up", self.bucket.target(&self.full)))?;
        let Some(found) = answer else {
            return Err(self.wrong("complete", "S3 acknowledged it, but the object does not exist"));
        };
        let bytes = (PART_BYTES + LAST.len()) as u64;
        if found.info.size != bytes {
            let cause = format!("{bytes} bytes were uploaded, but the object has {}", found.info.size);
            return Err(self.wrong("complete", cause));
        }
        if !found.with_length {
            self.note(notes::HEAD_WITHOUT_LENGTH);
        }
        if found.info.owner != Some(owner) {
            self.note(notes::DROPS_OWNER);
        }
        self.locks |= found.locked;
        Ok(found.info.modified)
    }

    /// Reads where the parts meet.
    async fn check_part(&self) -> Result<(), StoreError> {
        let range = (PART_BYTES - 1) as u64..(PART_BYTES + LAST.len()) as u64;
        let part = body::open(Arc::new(self.bucket.clone()), self.full.clone(), Some(range)).await?;
        let read = part.try_collect::<Vec<_>>().await?.concat();
        if read != [&[FILLER], LAST].concat() {
            return Err(self.wrong("read a part of", "it differs from what was uploaded"));
        }
        Ok(())
    }

    async fn check_listing(&mut self) -> Result<(), StoreError> {
        let mut objects = bucket::list(&self.folder, "");
        while let Some(found) = objects.try_next().await? {
            if self.folder.full(&found.key) == self.full {
                return Ok(());
            }
        }
        self.note(notes::NOT_LISTED);
        Ok(())
    }

    async fn refuses_second_upload(&mut self) -> Result<bool, StoreError> {
        let (upload, parts) = self.upload(AttemptId(Uuid::new_v4()), &[Bytes::from_static(b"second")]).await?;
        let second = self.bucket.complete((&self.full, &upload), parts, true).await;
        self.is_refused(second)
    }

    async fn refuses_second_put(&mut self) -> Result<bool, StoreError> {
        let second = self.bucket.put(&self.full, Bytes::from_static(b"second"), true).await;
        self.is_refused(second)
    }

    fn is_refused(&self, second: Result<(), RequestFailure>) -> Result<bool, StoreError> {
        match second {
            Ok(()) => Ok(false),
            Err(failure) if failure.kind == ErrorKind::AlreadyExists => Ok(true),
            Err(failure) if failure.is_not_implemented() => Ok(false),
            Err(failure) => Err(failure.at("create a second time", self.bucket.target(&self.full))),
        }
    }

    async fn check_listing_of_uploads(&mut self) -> Result<Vec<Unfinished>, StoreError> {
        match self.folder.unfinished("").await {
            Ok(found) => Ok(found),
            Err(failure) if failure.is_not_implemented() => {
                self.note(notes::CANNOT_LIST_UPLOADS);
                Ok(Vec::new())
            }
            Err(failure) => Err(failure.at("list unfinished uploads in", self.bucket.whole())),
        }
    }

    /// Removes what killed probes left.
    async fn sweep(&self, uploads: Vec<Unfinished>, now: Timestamp) -> Result<(), StoreError> {
        let abandoned = |at: Option<Timestamp>| at.is_some_and(|at| at.seconds + ABANDONED < now.seconds);
        for left in uploads.iter().filter(|left| abandoned(left.begun)) {
            self.bucket.abort_upload(&self.folder.full(&left.key), &left.upload).await?;
        }
        if self.locks {
            return Ok(());
        }
        let mut objects = bucket::list(&self.folder, "");
        while let Some(left) = objects.try_next().await? {
            if abandoned(left.modified) {
                let full = self.folder.full(&left.key);
                self.bucket.delete(&full).await.map_err(|failure| failure.at("delete", self.bucket.target(&full)))?;
            }
        }
        Ok(())
    }

    async fn clean(&mut self) -> Result<(), StoreError> {
        let mut result = Ok(());
        for upload in &self.uploads {
            result = result.and(self.bucket.abort_upload(&self.full, upload).await);
        }
        if self.created && self.locks {
            self.note(notes::LOCKS_BY_DEFAULT);
        } else if self.created {
            match self.bucket.delete(&self.full).await {
                Ok(()) => {}
                Err(failure) if matches!(failure.kind, ErrorKind::Denied | ErrorKind::Invalid) => {
                    self.note(notes::REFUSES_DELETE)
                }
                Err(failure) => result = result.and(Err(failure.at("delete", self.bucket.target(&self.full)))),
            }
        }
        result
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}
