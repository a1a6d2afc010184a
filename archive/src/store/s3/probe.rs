//! Proves that a configuration works before it is taken, with a small object that is removed again.

use std::sync::Arc;

use aws_sdk_s3::types::CompletedPart;
use backstay_protocol::{AttemptId, Timestamp};
use bytes::Bytes;
use futures::TryStreamExt;
use tracing::debug;
use uuid::Uuid;

use super::bucket::{self, Bucket};
use super::errors::Failure;
use crate::store::{ErrorKind, Key, StoreError, Unfinished};

pub(super) const CANNOT_LIST_UPLOADS: &str = "this provider cannot list unfinished uploads: what an attempt that died \
     has uploaded stays until a lifecycle rule of the bucket removes it";

const IGNORES_CREATE_ONLY: &str = "this provider ignores If-None-Match: Backstay looks for an object before it \
     completes one instead, which leaves a short moment in which two could meet";

const REFUSES_DELETE: &str = "this bucket refuses deletes (object lock?): backups can be made, and the probe's own \
     small object stays";

const DROPS_OWNER: &str = "this provider drops the metadata of objects that are uploaded in parts: where the answer \
     to a completed upload is lost, Backstay cannot tell that it succeeded";

/// Where probes put their small objects.
const FOLDER: &str = ".backstay-probe";

/// What a probe left this many seconds ago, it will not remove any more: it was killed.
const ABANDONED: i64 = 3_600;

/// Runs the probe; the notes are for people. Whatever happens, what it began is removed where the
/// bucket allows it.
pub(super) async fn probe(bucket: Bucket) -> Result<Vec<String>, StoreError> {
    bucket.try_list().await?;
    let folder = Arc::new(bucket.below(FOLDER));
    let full = format!("{}{}", folder.prefix, Uuid::new_v4().simple());
    let mut probe = Probe { bucket, folder, full, uploads: Vec::new(), created: false, notes: Vec::new() };
    let result = probe.run().await;
    let cleaned = probe.clean().await;
    result.and(cleaned).map(|()| probe.notes)
}

struct Probe {
    bucket: Bucket,
    folder: Arc<Bucket>,
    full: String,
    /// Begun and not known to have been completed.
    uploads: Vec<String>,
    /// Whether there may be an object.
    created: bool,
    notes: Vec<String>,
}

impl Probe {
    async fn run(&mut self) -> Result<(), StoreError> {
        let owner = AttemptId(Uuid::new_v4());
        let (upload, part) = self.upload(owner, b"first").await?;
        let conditional = self.complete_first(&upload, part).await?;
        self.uploads.clear();
        let made = self.check_owner(owner).await?;
        if !(conditional && self.refuses_second_upload().await? && self.refuses_second_put().await?) {
            self.note(IGNORES_CREATE_ONLY);
        }
        let uploads = self.check_listing_of_uploads().await?;
        if let Some(now) = made
            && let Err(error) = self.sweep(uploads, now).await
        {
            debug!(%error, "what a probe that was killed left is still there");
        }
        Ok(())
    }

    /// Whether this provider takes the condition at all: some refuse the header, and work without.
    async fn complete_first(&mut self, upload: &str, part: CompletedPart) -> Result<bool, StoreError> {
        let result = self.bucket.complete((&self.full, upload), vec![part.clone()], true).await;
        let (result, conditional) = match result {
            Err(failure) if failure.is_not_implemented() => {
                (self.bucket.complete((&self.full, upload), vec![part], false).await, false)
            }
            result => (result, true),
        };
        result.map(|()| conditional).map_err(|failure| failure.at("complete", self.bucket.target(&self.full)))
    }

    /// A small upload with its only part, ready to be completed.
    async fn upload(&mut self, owner: AttemptId, body: &'static [u8]) -> Result<(String, CompletedPart), StoreError> {
        let upload = self.bucket.create_upload(&self.full, owner).await?;
        self.uploads.push(upload.clone());
        self.created = true;
        let body = Bytes::from_static(body);
        let part = self.bucket.upload_part((&self.full, &upload), 1, body, Arc::default()).await;
        let part = part.map_err(|failure| failure.at("upload part 1 of", self.bucket.target(&self.full)))?;
        Ok((upload, part))
    }

    /// When the object was made, by S3's clock.
    async fn check_owner(&mut self, owner: AttemptId) -> Result<Option<Timestamp>, StoreError> {
        let key = Key::new(&self.full).expect("the probe's name has no empty segment");
        match self.bucket.head(&key, &self.full).await? {
            Some(found) => {
                if found.owner != Some(owner) {
                    self.note(DROPS_OWNER);
                }
                Ok(found.modified)
            }
            None => {
                let cause = "S3 acknowledged it, but nothing is there";
                Err(StoreError::new(ErrorKind::Invalid, "complete", self.bucket.target(&self.full), cause))
            }
        }
    }

    async fn refuses_second_upload(&mut self) -> Result<bool, StoreError> {
        let (upload, part) = self.upload(AttemptId(Uuid::new_v4()), b"second").await?;
        let second = self.bucket.complete((&self.full, &upload), vec![part], true).await;
        self.is_refused(second)
    }

    async fn refuses_second_put(&mut self) -> Result<bool, StoreError> {
        let second = self.bucket.put(&self.full, Bytes::from_static(b"second"), true).await;
        self.is_refused(second)
    }

    fn is_refused(&self, second: Result<(), Failure>) -> Result<bool, StoreError> {
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
                self.note(CANNOT_LIST_UPLOADS);
                Ok(Vec::new())
            }
            Err(failure) => Err(failure.at("list unfinished uploads in", self.bucket.whole())),
        }
    }

    /// Removes what probes that were killed have left.
    async fn sweep(&self, uploads: Vec<Unfinished>, now: Timestamp) -> Result<(), StoreError> {
        let abandoned = |at: Option<Timestamp>| at.is_some_and(|at| at.seconds + ABANDONED < now.seconds);
        for left in uploads.iter().filter(|left| abandoned(left.begun)) {
            self.bucket.abort_upload(&self.folder.full(&left.key), &left.upload).await?;
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
        if self.created {
            match self.bucket.delete(&self.full).await {
                Ok(()) => {}
                Err(failure) if matches!(failure.kind, ErrorKind::Denied | ErrorKind::Invalid) => {
                    self.note(REFUSES_DELETE)
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
