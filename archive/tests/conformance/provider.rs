//! An S3 provider: s3s-fs, with what it lacks or does differently from AWS, and with the habits of other providers
//! that a store must cope with.

use std::collections::BTreeMap;
use std::sync::Mutex;

use backstay_archive::store::s3::Checksum;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

/// How this provider differs from AWS.
#[derive(Debug, Clone, Copy, Default)]
pub struct Habits {
    /// Answers 501 to ListMultipartUploads.
    pub cannot_list_uploads: bool,
    /// Accepts `If-None-Match`, but overwrites nevertheless.
    pub ignores_create_only: bool,
    /// Answers 501 to `If-None-Match`.
    pub refuses_create_only: bool,
    /// Answers 403 to deletes, as a bucket under object lock does.
    pub refuses_deletes: bool,
    /// Refuses objects without this KMS key, as a bucket's policy may.
    pub wants_kms_key: Option<&'static str>,
    /// Refuses uploads of another storage class than this.
    pub wants_class: Option<&'static str>,
    /// Forgets the metadata of objects that were uploaded in parts.
    pub drops_metadata: bool,
    /// Answers GET of keys that contain this text as AWS answers for archived objects, or for those denied by a
    /// policy.
    pub keeps_to_itself: Option<(&'static str, Why)>,
    /// Returns plain names although URL encoding was requested; the flag is whether it then states an encoding.
    pub does_not_encode: Option<bool>,
    /// States no lengths in answers to HEAD, like some proxies; or to GET either.
    pub says_no_length: bool,
    /// Answers 403 for objects that do not exist.
    pub absent_is_denied: bool,
    /// Answers 403 to listings.
    pub may_not_list: bool,
    /// Refuses bodies without Content-MD5, or without CRC32C.
    pub demands: Option<Checksum>,
    /// Accepts parts with CRC32C only for uploads that announced it, as AWS does.
    pub wants_announcement: bool,
    /// Loses all but a byte of a completed object.
    pub truncates: bool,
    /// Locks new objects, and states so as the bucket's rule, or only with each object.
    pub locks: Option<Says>,
    /// Accepts the bucket only in the host's name.
    pub wants_virtual: bool,
    /// The most uploads on one page of a listing; 0 for S3's own 1,000.
    pub uploads_per_page: usize,
}

/// Why an object is not returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Archived,
    Policy,
}

/// Where a lock is stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    Rule,
    Object,
}

/// A name as in a listing: URL-encoded if that was requested.
fn listed(name: &str, encoding: Option<&EncodingType>) -> String {
    match encoding {
        None => name.to_owned(),
        Some(_) => name
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' | b'*' => {
                    char::from(byte).to_string()
                }
                b' ' => "+".to_owned(),
                byte => format!("%{byte:02X}"),
            })
            .collect(),
    }
}

/// The name in a token.
fn unlisted(token: &str) -> String {
    let digits = |at: usize| u8::from_str_radix(&token[at..at + 2], 16).expect("a token of this server");
    String::from_utf8((0..token.len()).step_by(2).map(digits).collect()).expect("made of text")
}

/// The key and the ID of an upload. s3s-fs binds an upload to the key pair that started it, S3 to the account; so the
/// pair is removed from requests about uploads.
type Upload = (String, String);

/// Whether an upload announced CRC32C when it was started.
type Announced = bool;

pub struct Provider {
    files: FileSystem,
    habits: Habits,
    uploads: Mutex<BTreeMap<Upload, Announced>>,
    /// s3s-fs checks and then writes; AWS does both in one step.
    deciding: tokio::sync::Mutex<()>,
}

impl Provider {
    pub fn new(files: FileSystem, habits: Habits) -> Self {
        Self { files, habits, uploads: Mutex::default(), deciding: tokio::sync::Mutex::default() }
    }

    fn known(&self, key: &str, id: &str) -> S3Result<Announced> {
        let known = self.uploads.lock().expect("unpoisoned").get(&(key.to_owned(), id.to_owned())).copied();
        known.ok_or_else(|| s3_error!(NoSuchUpload, "The specified upload does not exist."))
    }

    /// The condition, as this provider treats it.
    fn condition(&self, given: Option<IfNoneMatch>) -> S3Result<Option<IfNoneMatch>> {
        if given.is_some() && self.habits.refuses_create_only {
            return Err(s3_error!(
                NotImplemented,
                "A header you provided implies functionality that is not implemented"
            ));
        }
        Ok(given.filter(|_| !self.habits.ignores_create_only))
    }

    /// The encoding of names in listings, as this provider chooses it for a request.
    fn encoding(&self, asked: Option<&EncodingType>) -> Option<EncodingType> {
        asked.filter(|_| self.habits.does_not_encode.is_none()).cloned()
    }

    /// This provider's error for an object that does not exist.
    fn absent(&self, error: s3s::S3Error) -> s3s::S3Error {
        if self.habits.absent_is_denied { s3_error!(AccessDenied, "Access Denied") } else { error }
    }

    fn checksum(&self, md5: bool, crc32c: bool) -> S3Result<()> {
        match self.habits.demands {
            Some(Checksum::Md5) if !md5 => {
                Err(s3_error!(InvalidRequest, "Missing required header for this request: Content-MD5"))
            }
            Some(Checksum::Crc32c) if !crc32c => Err(s3_error!(
                InvalidRequest,
                "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
            )),
            _ => Ok(()),
        }
    }

    /// Leaves one byte of an object, and everything known about it.
    async fn truncate(&self, bucket: String, key: String) -> S3Result<()> {
        let head = HeadObjectInput { bucket: bucket.clone(), key: key.clone(), ..HeadObjectInput::default() };
        let metadata = self.files.head_object(request(head)).await?.output.metadata;
        let body = Some(StreamingBlob::from(s3s::Body::from(bytes::Bytes::from_static(b"x"))));
        let put = PutObjectInput { bucket, key, metadata, body, ..PutObjectInput::default() };
        self.files.put_object(request(put)).await.map(drop)
    }

    fn policy(&self, encryption: Option<&ServerSideEncryption>, kms_key: Option<&str>) -> S3Result<()> {
        let Some(wanted) = self.habits.wants_kms_key else { return Ok(()) };
        if encryption.map(ServerSideEncryption::as_str) == Some("aws:kms") && kms_key == Some(wanted) {
            return Ok(());
        }
        Err(s3_error!(AccessDenied, "User is not authorized: explicit deny in a resource-based policy"))
    }

    fn forget(&self, key: &str, id: &str) {
        self.uploads.lock().expect("unpoisoned").remove(&(key.to_owned(), id.to_owned()));
    }
}

/// A request that the provider handles itself.
fn request<T>(input: T) -> S3Request<T> {
    S3Request {
        input,
        method: hyper::Method::GET,
        uri: hyper::Uri::from_static("/"),
        headers: hyper::HeaderMap::new(),
        extensions: hyper::http::Extensions::new(),
        credentials: None,
        region: None,
        service: None,
        trailing_headers: None,
    }
}

#[async_trait::async_trait]
impl S3 for Provider {
    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let mut found = self.files.head_object(req).await.map_err(|error| self.absent(error))?;
        if self.habits.says_no_length {
            found.output.content_length = None;
        }
        if self.habits.locks == Some(Says::Object) {
            found.output.object_lock_mode = Some(ObjectLockMode::from_static(ObjectLockMode::GOVERNANCE));
        }
        if self.habits.drops_metadata {
            found.output.metadata = None;
        }
        Ok(found)
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        if let Some((part, why)) = self.habits.keeps_to_itself
            && req.input.key.contains(part)
        {
            return Err(match why {
                Why::Archived => {
                    s3_error!(InvalidObjectState, "The operation is not valid for the object's storage class")
                }
                Why::Policy => s3_error!(AccessDenied, "Access Denied"),
            });
        }
        let mut found = self.files.get_object(req).await.map_err(|error| self.absent(error))?;
        if self.habits.says_no_length {
            found.output.content_length = None;
        }
        Ok(found)
    }

    async fn get_object_lock_configuration(
        &self,
        _: S3Request<GetObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
        if self.habits.locks != Some(Says::Rule) {
            return Err(s3_error!(NotImplemented, "A header or query you provided is not implemented"));
        }
        let retention = DefaultRetention {
            days: Some(30),
            mode: Some(ObjectLockRetentionMode::from_static(ObjectLockRetentionMode::COMPLIANCE)),
            years: None,
        };
        let rule = ObjectLockRule { default_retention: Some(retention) };
        let configuration = ObjectLockConfiguration { rule: Some(rule), ..ObjectLockConfiguration::default() };
        Ok(S3Response::new(GetObjectLockConfigurationOutput { object_lock_configuration: Some(configuration) }))
    }

    async fn list_objects_v2(
        &self,
        mut req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        if self.habits.may_not_list {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        }
        let encoding = self.encoding(req.input.encoding_type.as_ref());
        // A token contains no name as plain text.
        req.input.continuation_token = req.input.continuation_token.map(|token| unlisted(&token));
        let mut page = self.files.list_objects_v2(req).await?;
        let next = page.output.next_continuation_token.take();
        page.output.next_continuation_token = next.map(|token| token.bytes().map(|b| format!("{b:02x}")).collect());
        page.output.continuation_token = None;
        for object in page.output.contents.iter_mut().flatten() {
            object.key = object.key.as_deref().map(|key| listed(key, encoding.as_ref()));
        }
        for folder in page.output.common_prefixes.iter_mut().flatten() {
            folder.prefix = folder.prefix.as_deref().map(|prefix| listed(prefix, encoding.as_ref()));
        }
        if self.habits.does_not_encode != Some(true) {
            page.output.encoding_type = encoding;
        }
        Ok(page)
    }

    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        req.input.if_none_match = self.condition(req.input.if_none_match.take())?;
        self.policy(req.input.server_side_encryption.as_ref(), req.input.ssekms_key_id.as_deref())?;
        self.checksum(req.input.content_md5.is_some(), req.input.checksum_crc32c.is_some())?;
        let _deciding = self.deciding.lock().await;
        self.files.put_object(req).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        if self.habits.locks.is_some() {
            panic!("a delete was tried on a bucket that locks");
        }
        if self.habits.refuses_deletes {
            return Err(s3_error!(AccessDenied, "Access Denied because object protected by object lock."));
        }
        self.files.delete_object(req).await
    }

    async fn create_multipart_upload(
        &self,
        mut req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let key = req.input.key.clone();
        req.credentials = None;
        let announced = req.input.checksum_algorithm.is_some();
        self.policy(req.input.server_side_encryption.as_ref(), req.input.ssekms_key_id.as_deref())?;
        if let Some(wanted) = self.habits.wants_class
            && req.input.storage_class.as_ref().map(StorageClass::as_str) != Some(wanted)
        {
            return Err(s3_error!(InvalidStorageClass, "The storage class you specified is not valid."));
        }
        let mut begun = self.files.create_multipart_upload(req).await?;
        // The answer is XML, which cannot represent every key.
        begun.output.key = None;
        let id = begun.output.upload_id.clone().expect("s3s-fs gives one");
        self.uploads.lock().expect("unpoisoned").insert((key, id), announced);
        Ok(begun)
    }

    async fn upload_part(&self, mut req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        req.credentials = None;
        let announced = self.known(&req.input.key, &req.input.upload_id)?;
        if self.habits.wants_announcement && !announced && req.input.checksum_crc32c.is_some() {
            return Err(s3_error!(
                InvalidRequest,
                "Checksum Type mismatch occurred, expected checksum Type: null, actual checksum Type: crc32c"
            ));
        }
        self.checksum(req.input.content_md5.is_some(), req.input.checksum_crc32c.is_some())?;
        self.files.upload_part(req).await
    }

    async fn complete_multipart_upload(
        &self,
        mut req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        req.input.if_none_match = self.condition(req.input.if_none_match.take())?;
        req.credentials = None;
        let _deciding = self.deciding.lock().await;
        let (key, id) = (req.input.key.clone(), req.input.upload_id.clone());
        self.known(&key, &id)?;
        let bucket = req.input.bucket.clone();
        let completed = self.files.complete_multipart_upload(req).await?;
        if self.habits.truncates {
            self.truncate(bucket, key.clone()).await?;
        }
        self.forget(&key, &id);
        Ok(completed)
    }

    async fn abort_multipart_upload(
        &self,
        mut req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        req.credentials = None;
        let (key, id) = (req.input.key.clone(), req.input.upload_id.clone());
        self.known(&key, &id)?;
        let aborted = self.files.abort_multipart_upload(req).await?;
        self.forget(&key, &id);
        Ok(aborted)
    }

    async fn list_parts(&self, mut req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        req.credentials = None;
        self.known(&req.input.key, &req.input.upload_id)?;
        self.files.list_parts(req).await
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        if self.habits.cannot_list_uploads {
            return Err(s3_error!(NotImplemented, "ListMultipartUploads is not implemented yet"));
        }
        let input = req.input;
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = (input.key_marker.unwrap_or_default(), input.upload_id_marker.unwrap_or_default());
        let limit = if self.habits.uploads_per_page == 0 { 1000 } else { self.habits.uploads_per_page };
        let all = self.uploads.lock().expect("unpoisoned").clone();
        let mut left = all.into_keys().filter(|upload| upload.0.starts_with(&prefix) && *upload > after).peekable();
        let page: Vec<Upload> = left.by_ref().take(limit).collect();
        let last = page.last().cloned().filter(|_| left.peek().is_some());
        let encoding = self.encoding(input.encoding_type.as_ref());
        let uploads = page.into_iter().map(|(key, id)| MultipartUpload {
            key: Some(listed(&key, encoding.as_ref())),
            upload_id: Some(id),
            initiated: Some(std::time::UNIX_EPOCH.into()),
            ..MultipartUpload::default()
        });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            uploads: Some(uploads.collect()),
            is_truncated: Some(last.is_some()),
            next_key_marker: last.as_ref().map(|(key, _)| listed(key, encoding.as_ref())),
            next_upload_id_marker: last.map(|(_, id)| id),
            encoding_type: encoding.clone(),
            ..ListMultipartUploadsOutput::default()
        }))
    }
}
