//! One request at a time: what is asked of S3, and how keys become its names.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, ServerSideEncryption, StorageClass,
};
use aws_smithy_runtime_api::box_error::BoxError;
use backstay_protocol::{AttemptId, Timestamp};
use bytes::Bytes;
use futures::StreamExt;
use url::Url;

use super::client;
use super::errors::Failure;
use super::patience::Patience;
use super::settings::ObjectSettings;
use crate::store::{ErrorKind, Key, Listing, ObjectInfo, StoreError, Unfinished};

/// The user metadata that says which attempt uploaded an object.
const OWNER: &str = "backstay-attempt";

/// How often an abort is repeated while parts that were on their way still arrive.
const ABORT_TRIES: u32 = 3;

/// A bucket, or what is below a prefix in it. Names in full are the bucket's own; keys are the store's.
#[derive(Clone)]
pub(super) struct Bucket {
    pub(super) client: Client,
    pub(super) name: String,
    /// Empty, or ending with `/`.
    pub(super) prefix: String,
    /// Whether each part carries a CRC32 of its own: AWS wants it where objects are locked, and other
    /// providers may not know it.
    pub(super) checksums: bool,
    pub(super) endpoint: Option<Url>,
    pub(super) patience: Patience,
    pub(super) objects: ObjectSettings,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.endpoint.as_ref().map_or("AWS", Url::as_str);
        f.debug_struct("S3Store").field("url", &self.url()).field("endpoint", &endpoint).finish_non_exhaustive()
    }
}

impl Bucket {
    /// The same bucket for a person who waits.
    pub(super) fn impatient(&self) -> Self {
        let patience = self.patience.impatient();
        Self { client: client::with_patience(&self.client, &patience), patience, ..self.clone() }
    }

    /// What lies in a folder of it, which may be a hidden one.
    pub(super) fn below(&self, folder: &str) -> Self {
        Self { prefix: format!("{}{folder}/", self.prefix), ..self.clone() }
    }

    pub(super) fn url(&self) -> String {
        format!("s3://{}/{}", self.name, self.prefix).trim_end_matches('/').to_owned()
    }

    pub(super) fn full(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The bucket as errors name it.
    pub(super) fn whole(&self) -> String {
        format!("bucket {:?}", self.name)
    }

    /// An object as errors name it.
    pub(super) fn target(&self, full: &str) -> String {
        format!("s3://{}/{full}", self.name)
    }

    /// The key of a full name; `None` for folder markers and whatever else is no key of ours.
    fn key(&self, full: &str) -> Option<Key> {
        full.strip_prefix(&self.prefix).and_then(Key::new).filter(|key| !key.is_hidden())
    }

    pub(super) async fn head(&self, key: &Key, full: &str) -> Result<Option<ObjectInfo>, StoreError> {
        let answer = self.client.head_object().bucket(&self.name).key(full).send().await;
        match answer.map_err(|error| Failure::of(&error)) {
            Ok(found) => Ok(Some(ObjectInfo {
                key: key.clone(),
                size: size(found.content_length()),
                modified: found.last_modified().map(timestamp),
                owner: found.metadata().and_then(|all| all.get(OWNER)).and_then(|id| AttemptId::from_str(id).ok()),
            })),
            Err(failure) if failure.kind == ErrorKind::NotFound => Ok(None),
            Err(failure) => Err(failure.at("look up", self.target(full))),
        }
    }

    /// Creates a small object unless its name is taken. A provider that refuses the condition gets the
    /// request without it: the caller has looked.
    pub(super) async fn put_new(&self, full: &str, body: Bytes) -> Result<(), Failure> {
        match self.put(full, body.clone(), true).await {
            Err(failure) if failure.is_not_implemented() => self.put(full, body, false).await,
            result => result,
        }
    }

    pub(super) async fn put(&self, full: &str, body: Bytes, create_only: bool) -> Result<(), Failure> {
        let limits = aws_sdk_s3::config::Builder::new().timeout_config(self.patience.sending(body.len()));
        let request = self.client.put_object().bucket(&self.name).key(full).body(ByteStream::from(body));
        let request = request.set_if_none_match(create_only.then(|| "*".to_owned()));
        let request = request.set_checksum_algorithm(self.checksum());
        let request = request.set_server_side_encryption(self.encryption()).set_ssekms_key_id(self.kms_key());
        request.customize().config_override(limits).send().await.map(drop).map_err(|error| Failure::of(&error))
    }

    pub(super) async fn delete(&self, full: &str) -> Result<(), Failure> {
        let answer = self.client.delete_object().bucket(&self.name).key(full).send().await;
        match answer.map_err(|error| Failure::of(&error)) {
            Err(failure) if failure.is_code("NoSuchKey") => Ok(()),
            result => result.map(drop),
        }
    }

    /// One page of at most one object: whether listing is possible at all.
    pub(super) async fn try_list(&self) -> Result<(), StoreError> {
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(&self.prefix).max_keys(1);
        let answer = request.send().await;
        answer.map(drop).map_err(|error| Failure::of(&error).at("list objects in", self.whole()))
    }

    /// The time of an answer, whatever the answer is: S3 refuses requests from a clock that is far off.
    pub(super) async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        let seen = SeenDate::default();
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(&self.prefix).max_keys(1);
        let answer = request.customize().interceptor(seen.clone()).send().await;
        let date = *seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Err(error) if date.is_none() => Err(Failure::of(&error).at("list objects in", self.whole())),
            _ => Ok(date),
        }
    }

    pub(super) async fn folders(&self) -> Result<Vec<String>, StoreError> {
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(&self.prefix).delimiter("/");
        let mut pages = request.into_paginator().send();
        let mut folders = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| Failure::of(&error).at("list objects in", self.whole()))?;
            let names = page.common_prefixes().iter().filter_map(|found| found.prefix());
            let keys = names.filter_map(|name| self.key(name.strip_suffix('/')?));
            folders.extend(keys.map(|key| key.as_str().to_owned()));
        }
        folders.sort();
        Ok(folders)
    }

    /// The id of a new upload. Where the answer was lost and the request repeated, the first one stays
    /// until a sweep.
    pub(super) async fn create_upload(&self, full: &str, owner: AttemptId) -> Result<String, StoreError> {
        let error = |failure: Failure| failure.at("begin an upload of", self.target(full));
        let request = self.client.create_multipart_upload().bucket(&self.name).key(full);
        let request = request.metadata(OWNER, owner.to_string()).content_type("application/octet-stream");
        let request = request.set_server_side_encryption(self.encryption()).set_ssekms_key_id(self.kms_key());
        let request = request.set_storage_class(given(&self.objects.storage_class).map(StorageClass::from));
        let answer = request.set_checksum_algorithm(self.checksum()).send().await;
        let answer = answer.map_err(|failure| error(Failure::of(&failure)))?;
        answer.upload_id.filter(|id| !id.is_empty()).ok_or_else(|| {
            StoreError::new(ErrorKind::Invalid, "begin an upload of", self.target(full), "S3 gave it no id")
        })
    }

    /// Sends one part; the same bytes again where the first attempt failed. Counts attempts in `sent`.
    pub(super) async fn upload_part(
        &self,
        (full, upload): (&str, &str),
        number: u32,
        body: Bytes,
        sent: Arc<AtomicU32>,
    ) -> Result<CompletedPart, Failure> {
        let limits = aws_sdk_s3::config::Builder::new().timeout_config(self.patience.sending(body.len()));
        let request = self.client.upload_part().bucket(&self.name).key(full).upload_id(upload);
        // A part's number is at most 10,000.
        let request = request.part_number(number as i32).set_checksum_algorithm(self.checksum());
        let request = request.body(ByteStream::from(body)).customize();
        let answer = request.config_override(limits).interceptor(CountAttempts(sent)).send().await;
        let answer = answer.map_err(|error| Failure::of(&error))?;
        Ok(CompletedPart::builder()
            .part_number(number as i32)
            .set_e_tag(answer.e_tag)
            .set_checksum_crc32(answer.checksum_crc32)
            .build())
    }

    /// Completes an upload unless its name is taken. A provider that refuses the condition gets the
    /// request without it where `insist` is false: the caller has looked.
    pub(super) async fn complete(
        &self,
        (full, upload): (&str, &str),
        parts: Vec<CompletedPart>,
        insist: bool,
    ) -> Result<(), Failure> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client.complete_multipart_upload().bucket(&self.name).key(full).upload_id(upload);
        let request = request.multipart_upload(parts);
        let limits = || aws_sdk_s3::config::Builder::new().timeout_config(self.patience.joining());
        let answer = request.clone().if_none_match("*").customize().config_override(limits()).send().await;
        match answer.map_err(|error| Failure::of(&error)) {
            Err(failure) if failure.is_not_implemented() && !insist => {
                let answer = request.customize().config_override(limits()).send().await;
                answer.map(drop).map_err(|error| Failure::of(&error))
            }
            result => result.map(drop),
        }
    }

    /// Removes an upload and its parts. A part that was on its way may arrive after an abort, so it is
    /// repeated until S3 knows of no part.
    pub(super) async fn abort_upload(&self, full: &str, upload: &str) -> Result<(), StoreError> {
        for _ in 0..ABORT_TRIES {
            let request = self.client.abort_multipart_upload().bucket(&self.name).key(full).upload_id(upload);
            match request.send().await.map_err(|error| Failure::of(&error)) {
                Ok(_) => {}
                Err(failure) if failure.is_code("NoSuchUpload") => return Ok(()),
                Err(failure) if failure.kind == ErrorKind::NotFound => return Ok(()),
                Err(failure) => return Err(failure.at("abort the upload of", self.target(full))),
            }
            let request = self.client.list_parts().bucket(&self.name).key(full).upload_id(upload).max_parts(1);
            // Whatever this answers besides parts, the abort itself was acknowledged.
            if request.send().await.map_or(true, |left| left.parts().is_empty()) {
                return Ok(());
            }
        }
        let cause = "parts were still there after it was aborted several times";
        Err(StoreError::new(ErrorKind::Unavailable, "abort the upload of", self.target(full), cause))
    }

    /// Every unfinished upload at keys that begin with `prefix`, all pages.
    pub(super) async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>, Failure> {
        let mut found = Vec::new();
        let mut after: (Option<String>, Option<String>) = (None, None);
        loop {
            let request = self.client.list_multipart_uploads().bucket(&self.name);
            let request = request.prefix(format!("{}{prefix}", self.prefix));
            let request = request.set_key_marker(after.0.clone()).set_upload_id_marker(after.1.clone());
            let page = request.send().await.map_err(|error| Failure::of(&error))?;
            found.extend(page.uploads().iter().filter_map(|upload| {
                Some(Unfinished {
                    key: self.key(upload.key()?)?,
                    upload: upload.upload_id()?.to_owned(),
                    begun: upload.initiated().map(timestamp),
                })
            }));
            let next = (page.next_key_marker, page.next_upload_id_marker);
            // A page that leads to itself would never end.
            if page.is_truncated != Some(true) || next == after || next.0.is_none() {
                return Ok(found);
            }
            after = next;
        }
    }

    fn encryption(&self) -> Option<ServerSideEncryption> {
        given(&self.objects.server_side_encryption).map(ServerSideEncryption::from)
    }

    fn kms_key(&self) -> Option<String> {
        given(&self.objects.kms_key_id).map(str::to_owned)
    }

    fn checksum(&self) -> Option<ChecksumAlgorithm> {
        self.checksums.then_some(ChecksumAlgorithm::Crc32)
    }
}

/// A text that is not empty.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Every object below the prefix, page by page; holds one page at a time.
pub(super) fn list(bucket: &Arc<Bucket>, prefix: &str) -> Listing {
    let request = bucket.client.list_objects_v2().bucket(&bucket.name).prefix(format!("{}{prefix}", bucket.prefix));
    let state = (bucket.clone(), request.into_paginator().send(), VecDeque::new());
    futures::stream::try_unfold(state, |(bucket, mut pages, mut page)| async move {
        loop {
            if let Some(found) = page.pop_front() {
                return Ok(Some((found, (bucket, pages, page))));
            }
            let Some(next) = pages.next().await else { return Ok(None) };
            let next = next.map_err(|error| Failure::of(&error).at("list objects in", bucket.whole()))?;
            page.extend(next.contents().iter().filter_map(|object| {
                let key = bucket.key(object.key()?)?;
                let modified = object.last_modified().map(timestamp);
                Some(ObjectInfo { key, size: size(object.size()), modified, owner: None })
            }));
        }
    })
    .boxed()
}

/// Reads the header `Date` of answers.
#[derive(Debug, Clone, Default)]
struct SeenDate(Arc<Mutex<Option<Timestamp>>>);

impl Intercept for SeenDate {
    fn name(&self) -> &'static str {
        "SeenDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        if let Some(date) = date {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(timestamp(&date));
        }
        Ok(())
    }
}

/// Counts how often a request is sent.
#[derive(Debug)]
struct CountAttempts(Arc<AtomicU32>);

impl Intercept for CountAttempts {
    fn name(&self) -> &'static str {
        "CountAttempts"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn timestamp(time: &DateTime) -> Timestamp {
    Timestamp { seconds: time.secs(), nanos: time.subsec_nanos() as i32 }
}

fn size(length: Option<i64>) -> u64 {
    length.and_then(|length| u64::try_from(length).ok()).unwrap_or(0)
}
