//! Sends single requests to S3, and translates keys to S3's names.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RequestChecksumCalculation, RuntimeComponents};
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, EncodingType, ServerSideEncryption, StorageClass,
};
use aws_smithy_runtime_api::box_error::BoxError;
use backstay_protocol::{AttemptId, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::StreamExt;
use md5::{Digest, Md5};
use url::Url;

use super::client::Clients;
use super::errors::RequestFailure;
use super::listing;
use super::patience::Patience;
use super::settings::ObjectSettings;
use super::ways::{Checksum, Ways};
use crate::store::{ErrorKind, Key, Listing, ObjectInfo, StoreError, Unfinished};

/// How many times a body is sent again that did not arrive unchanged.
const GARBLED_MAX: u32 = 2;
/// The user metadata with the attempt that uploaded an object.
pub(super) const OWNER: &str = "backstay-attempt";

/// How many times an abort is repeated while parts that were in flight still arrive.
const ABORT_TRIES: u32 = 3;

/// A bucket, or what is below a prefix in it. "Full" names are the bucket's own; keys are relative to the prefix.
#[derive(Clone)]
pub(super) struct Bucket {
    pub(super) clients: Clients,
    pub(super) ways: Arc<Ways>,
    pub(super) name: String,
    /// Empty, or ending with `/`.
    pub(super) prefix: String,
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
    /// The same bucket for someone who waits.
    pub(super) fn impatient(&self) -> Self {
        let patience = self.patience.impatient();
        Self { clients: self.clients.with_patience(&patience), patience, ..self.clone() }
    }

    /// The same bucket for first contact.
    pub(super) fn brief(&self) -> Self {
        let patience = self.patience.brief();
        Self { clients: self.clients.with_patience(&patience), patience, ..self.clone() }
    }

    /// The client for the way of addressing that is in use.
    pub(super) fn client(&self) -> &Client {
        self.clients.get(self.ways.in_use().addressing)
    }

    /// The content of a folder in it, which may be a hidden one.
    pub(super) fn below(&self, folder: &str) -> Self {
        Self { prefix: format!("{}{folder}/", self.prefix), ..self.clone() }
    }

    pub(super) fn url(&self) -> String {
        format!("s3://{}/{}", self.name, self.prefix).trim_end_matches('/').to_owned()
    }

    pub(super) fn full(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The bucket, as named in errors.
    pub(super) fn whole(&self) -> String {
        format!("bucket {:?}", self.name)
    }

    /// Why its objects could not be listed. Unless S3 itself says why, the endpoint is named: it may be the wrong one.
    pub(super) fn unlisted(&self, failure: RequestFailure) -> StoreError {
        let endpoint = self.endpoint.as_ref().map(|url| url.as_str().trim_end_matches('/'));
        let endpoint = endpoint.filter(|_| !failure.is_said_by_s3());
        let error = failure.at("list objects in", self.whole());
        match endpoint {
            Some(endpoint) if !error.cause.contains(endpoint) => {
                StoreError { cause: format!("{} (endpoint {endpoint})", error.cause), ..error }
            }
            _ => error,
        }
    }

    /// An object, as named in errors.
    pub(super) fn target(&self, full: &str) -> String {
        format!("s3://{}/{full}", self.name)
    }

    /// The key of a full name; `None` for folder markers and other names that are not keys.
    fn key(&self, full: &str) -> Option<Key> {
        full.strip_prefix(&self.prefix).and_then(Key::new).filter(|key| !key.is_hidden())
    }

    /// The key of a name in a listing. Some servers claim to encode names and do not: then our names are recognised
    /// by their beginning.
    fn listed_key(&self, name: &str, encoding: Option<&EncodingType>) -> Option<Key> {
        let decoded = listing::decode(name, encoding);
        decoded.and_then(|name| self.key(&name)).or_else(|| self.key(name))
    }

    /// Creates a small object unless its name is taken. If a provider refuses the condition, the request is sent
    /// without it; the caller has checked.
    pub(super) async fn put_new(&self, full: &str, body: Bytes) -> Result<(), RequestFailure> {
        match self.put(full, body.clone(), true).await {
            Err(failure) if failure.is_not_implemented() => self.put(full, body, false).await,
            result => result,
        }
    }

    pub(super) async fn put(&self, full: &str, body: Bytes, create_only: bool) -> Result<(), RequestFailure> {
        self.with_checksum(|checksum| self.put_with(checksum, full, body.clone(), create_only)).await
    }

    async fn put_with(
        &self,
        checksum: Checksum,
        full: &str,
        body: Bytes,
        create_only: bool,
    ) -> Result<(), RequestFailure> {
        let limits = self.sending(checksum, body.len());
        let request = self.client().put_object().bucket(&self.name).key(full);
        let request = request.set_if_none_match(create_only.then(|| "*".to_owned()));
        let request = request.set_content_md5(content_md5(checksum, &body)).body(ByteStream::from(body));
        let request = request.set_checksum_algorithm(algorithm(checksum));
        let request = request.set_server_side_encryption(self.encryption()).set_ssekms_key_id(self.kms_key());
        request.customize().config_override(limits).send().await.map(drop).map_err(|error| RequestFailure::of(&error))
    }

    /// The limits of a request with a body. The SDK adds a checksum only if it is told to.
    fn sending(&self, checksum: Checksum, bytes: usize) -> aws_sdk_s3::config::Builder {
        let limits = aws_sdk_s3::config::Builder::new().timeout_config(self.patience.sending(bytes));
        match checksum {
            Checksum::Crc32c => limits.request_checksum_calculation(RequestChecksumCalculation::WhenSupported),
            _ => limits,
        }
    }

    /// Sends a body with the checksum in use. If the provider requires one and none was set, the next kind is tried,
    /// and used from then on. A body that did not arrive unchanged is sent again.
    async fn with_checksum<T, F>(&self, send: impl Fn(Checksum) -> F) -> Result<T, RequestFailure>
    where
        F: Future<Output = Result<T, RequestFailure>>,
    {
        let mut garbled = 0;
        loop {
            let checksum = self.ways.in_use().checksum;
            match send(checksum).await {
                Err(failure) if failure.is_garbled() && garbled < GARBLED_MAX => {
                    garbled += 1;
                    tracing::warn!(bucket = self.url(), "a request body was corrupted on the way; sending it again");
                }
                Err(failure) if failure.demands_checksum() && self.ways.check_otherwise(checksum) => {
                    tracing::info!(bucket = self.url(), "this provider requires a checksum; trying another kind");
                }
                result => return result,
            }
        }
    }

    pub(super) async fn delete(&self, full: &str) -> Result<(), RequestFailure> {
        let answer = self.client().delete_object().bucket(&self.name).key(full).send().await;
        match answer.map_err(|error| RequestFailure::of(&error)) {
            Err(failure) if failure.is_code("NoSuchKey") => Ok(()),
            result => result.map(drop),
        }
    }

    /// Whether listing is possible at all. If the provider does not accept the bucket's name in the path, and no
    /// addressing was set, the other way is tried, and used from then on if it works.
    pub(super) async fn try_list(&self) -> Result<(), RequestFailure> {
        let Err(failure) = self.list_one(self.client()).await else { return Ok(()) };
        let is_host = self.endpoint.as_ref().is_some_and(|url| matches!(url.host(), Some(url::Host::Domain(_))));
        if failure.may_be_addressing()
            && is_host
            && let Some(other) = self.ways.other_addressing()
            && self.list_one(self.clients.get(other)).await.is_ok()
        {
            tracing::info!(bucket = self.url(), addressing = %other, "this provider needs another way of addressing \
                the bucket");
            self.ways.address_by(other);
            return Ok(());
        }
        Err(failure)
    }

    /// One page of at most one object.
    async fn list_one(&self, client: &Client) -> Result<(), RequestFailure> {
        let request = client.list_objects_v2().bucket(&self.name).prefix(&self.prefix).max_keys(1);
        let answer = request.encoding_type(EncodingType::Url).send().await;
        answer.map(drop).map_err(|error| RequestFailure::of(&error))
    }

    /// The time of an answer, whatever the answer is: S3 refuses requests if the clocks differ too much.
    pub(super) async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        let seen = SeenDate::default();
        let request = self.client().list_objects_v2().bucket(&self.name).prefix(&self.prefix).max_keys(1);
        let answer = request.encoding_type(EncodingType::Url).customize().interceptor(seen.clone()).send().await;
        let date = *seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Err(error) if date.is_none() => Err(self.unlisted(RequestFailure::of(&error))),
            _ => Ok(date),
        }
    }

    pub(super) async fn folders(&self) -> Result<Vec<String>, StoreError> {
        let request = self.client().list_objects_v2().bucket(&self.name).prefix(&self.prefix).delimiter("/");
        let mut pages = request.encoding_type(EncodingType::Url).into_paginator().send();
        let mut folders = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.unlisted(RequestFailure::of(&error)))?;
            let names = page.common_prefixes().iter().filter_map(|found| found.prefix());
            let encoding = page.encoding_type();
            // Some servers encode the delimiter, others do not.
            let names = names.map(|name| name.strip_suffix('/').or_else(|| name.strip_suffix("%2F")).unwrap_or(name));
            let keys = names.filter_map(|name| self.listed_key(name, encoding));
            folders.extend(keys.map(|key| key.as_str().to_owned()));
        }
        folders.sort();
        Ok(folders)
    }

    /// Starts an upload. If the answer is lost and the request repeated, the first upload remains until a sweep.
    pub(super) async fn create_upload(&self, full: &str, owner: AttemptId) -> Result<Begun, StoreError> {
        let error = |failure: RequestFailure| failure.at("begin an upload of", self.target(full));
        let request = self.client().create_multipart_upload().bucket(&self.name).key(full);
        let request = request.metadata(OWNER, owner.to_string()).content_type("application/octet-stream");
        let request = request.set_server_side_encryption(self.encryption()).set_ssekms_key_id(self.kms_key());
        let request = request.set_storage_class(given(&self.objects.storage_class).map(StorageClass::from));
        let checksum = self.ways.in_use().checksum;
        let answer = request.set_checksum_algorithm(algorithm(checksum)).send().await;
        let answer = answer.map_err(|failure| error(RequestFailure::of(&failure)))?;
        let id = answer.upload_id.filter(|id| !id.is_empty()).ok_or_else(|| {
            StoreError::new(
                ErrorKind::Invalid,
                "begin an upload of",
                self.target(full),
                "S3 did not return an upload \
                ID",
            )
        })?;
        Ok(Begun { id, checksum })
    }

    /// Sends one part; the same bytes again if a try fails. Counts the tries in `sent`.
    pub(super) async fn upload_part(
        &self,
        at: (&str, &str),
        number: u32,
        body: Bytes,
        sent: Arc<AtomicU32>,
    ) -> Result<CompletedPart, RequestFailure> {
        self.with_checksum(|checksum| self.upload_part_with(checksum, at, number, body.clone(), sent.clone())).await
    }

    async fn upload_part_with(
        &self,
        checksum: Checksum,
        (full, upload): (&str, &str),
        number: u32,
        body: Bytes,
        sent: Arc<AtomicU32>,
    ) -> Result<CompletedPart, RequestFailure> {
        let limits = self.sending(checksum, body.len());
        let request = self.client().upload_part().bucket(&self.name).key(full).upload_id(upload);
        let request = request.set_content_md5(content_md5(checksum, &body));
        // A part's number is at most 10,000.
        let request = request.part_number(number as i32).set_checksum_algorithm(algorithm(checksum));
        let request = request.body(ByteStream::from(body)).customize();
        let answer = request.config_override(limits).interceptor(CountAttempts(sent)).send().await;
        let answer = answer.map_err(|error| RequestFailure::of(&error))?;
        Ok(CompletedPart::builder()
            .part_number(number as i32)
            .set_e_tag(answer.e_tag)
            .set_checksum_crc32_c(answer.checksum_crc32_c)
            .build())
    }

    /// Completes an upload unless its name is taken. If a provider refuses the condition and `insist` is false, the
    /// request is sent without it; the caller has checked.
    pub(super) async fn complete(
        &self,
        (full, upload): (&str, &str),
        parts: Vec<CompletedPart>,
        insist: bool,
    ) -> Result<(), RequestFailure> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client().complete_multipart_upload().bucket(&self.name).key(full).upload_id(upload);
        let request = request.multipart_upload(parts);
        let limits = || aws_sdk_s3::config::Builder::new().timeout_config(self.patience.joining());
        let answer = request.clone().if_none_match("*").customize().config_override(limits()).send().await;
        match answer.map_err(|error| RequestFailure::of(&error)) {
            Err(failure) if failure.is_not_implemented() && !insist => {
                let answer = request.customize().config_override(limits()).send().await;
                answer.map(drop).map_err(|error| RequestFailure::of(&error))
            }
            result => result.map(drop),
        }
    }

    /// Removes an upload and its parts. A part that was in flight may arrive after an abort, so it is repeated until
    /// S3 knows of no part.
    pub(super) async fn abort_upload(&self, full: &str, upload: &str) -> Result<(), StoreError> {
        for _ in 0..ABORT_TRIES {
            let request = self.client().abort_multipart_upload().bucket(&self.name).key(full).upload_id(upload);
            match request.send().await.map_err(|error| RequestFailure::of(&error)) {
                Ok(_) => {}
                Err(failure) if failure.is_code("NoSuchUpload") => return Ok(()),
                Err(failure) if failure.kind == ErrorKind::NotFound => return Ok(()),
                Err(failure) => return Err(failure.at("abort the upload of", self.target(full))),
            }
            let request = self.client().list_parts().bucket(&self.name).key(full).upload_id(upload).max_parts(1);
            // Whatever the answer is, apart from parts, the abort itself was acknowledged.
            if request.send().await.map_or(true, |left| left.parts().is_empty()) {
                return Ok(());
            }
        }
        let cause = "parts still existed after it was aborted several times";
        Err(StoreError::new(ErrorKind::Unavailable, "abort the upload of", self.target(full), cause))
    }

    /// Lists every unfinished upload to keys that begin with `prefix`, all pages.
    pub(super) async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>, RequestFailure> {
        let mut found = Vec::new();
        let mut after: (Option<String>, Option<String>) = (None, None);
        loop {
            let request = self.client().list_multipart_uploads().bucket(&self.name);
            let request = request.prefix(format!("{}{prefix}", self.prefix));
            let request = request.set_key_marker(after.0.clone()).set_upload_id_marker(after.1.clone());
            let page =
                request.encoding_type(EncodingType::Url).send().await.map_err(|error| RequestFailure::of(&error))?;
            found.extend(page.uploads().iter().filter_map(|upload| {
                Some(Unfinished {
                    key: self.listed_key(upload.key()?, page.encoding_type())?,
                    upload: upload.upload_id()?.to_owned(),
                    begun: upload.initiated().map(timestamp),
                })
            }));
            let marker = page.next_key_marker().and_then(|marker| listing::decode(marker, page.encoding_type()));
            let next = (marker.map(Cow::into_owned), page.next_upload_id_marker);
            // A page that names itself as the next would never end.
            if page.is_truncated != Some(true) || next == after || next.0.is_none() {
                return Ok(found);
            }
            after = next;
        }
    }

    /// Whether the bucket has a rule that locks new objects. If the credentials may not ask, deleting will show.
    pub(super) async fn locks_by_default(&self) -> bool {
        let answer = self.client().get_object_lock_configuration().bucket(&self.name).send().await;
        let rule = answer.ok().and_then(|found| found.object_lock_configuration?.rule);
        rule.is_some_and(|rule| rule.default_retention().is_some())
    }

    fn encryption(&self) -> Option<ServerSideEncryption> {
        given(&self.objects.server_side_encryption).map(ServerSideEncryption::from)
    }

    fn kms_key(&self) -> Option<String> {
        given(&self.objects.kms_key_id).map(str::to_owned)
    }
}

/// An upload that was started.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    /// The store's own name for it.
    pub(super) id: String,
    /// The checksum in use when it was started: parts with CRC32C must be announced.
    pub(super) checksum: Checksum,
}

/// The text, unless it is empty.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// The algorithm that the SDK is to compute.
fn algorithm(checksum: Checksum) -> Option<ChecksumAlgorithm> {
    (checksum == Checksum::Crc32c).then_some(ChecksumAlgorithm::Crc32C)
}

fn content_md5(checksum: Checksum, body: &[u8]) -> Option<String> {
    (checksum == Checksum::Md5).then(|| BASE64.encode(Md5::digest(body)))
}

/// Lists every object below the prefix; one page at a time is in memory.
pub(super) fn list(bucket: &Arc<Bucket>, prefix: &str) -> Listing {
    let request = bucket.client().list_objects_v2().bucket(&bucket.name).prefix(format!("{}{prefix}", bucket.prefix));
    let request = request.encoding_type(EncodingType::Url);
    let state = (bucket.clone(), request.into_paginator().send(), VecDeque::new());
    futures::stream::try_unfold(state, |(bucket, mut pages, mut page)| async move {
        loop {
            if let Some(found) = page.pop_front() {
                return Ok(Some((found, (bucket, pages, page))));
            }
            let Some(next) = pages.next().await else { return Ok(None) };
            let next = next.map_err(|error| bucket.unlisted(RequestFailure::of(&error)))?;
            for object in next.contents() {
                let Some(key) = object.key().and_then(|name| bucket.listed_key(name, next.encoding_type())) else {
                    continue;
                };
                let modified = object.last_modified().map(timestamp);
                let size = match length(object.size()) {
                    Some(size) => size,
                    None => match bucket.size_of(&bucket.full(&key)).await? {
                        Some(size) => size,
                        None => continue,
                    },
                };
                page.push_back(ObjectInfo { key, size, modified, owner: None });
            }
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

pub(super) fn timestamp(time: &DateTime) -> Timestamp {
    Timestamp { seconds: time.secs(), nanos: time.subsec_nanos() as i32 }
}

/// A length, if it was stated and is not negative.
pub(super) fn length(said: Option<i64>) -> Option<u64> {
    said.and_then(|length| u64::try_from(length).ok())
}
