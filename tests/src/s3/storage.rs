//! The S3 service behind the wire: s3s-fs for bytes and listings, and what it lacks or answers otherwise than
//! AWS done here: the book of open uploads, create-only without a race, error codes, pages of at most 1,000.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use anyhow::{Context, Result};
use async_trait::async_trait;
use futures::TryStreamExt;
use s3s::dto::*;
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::sync::Mutex;

use super::hashing::Hashing;
use super::join::Join;
use super::names;
use super::record::Recorder;
use super::uploads::{OpenUpload, Uploads};

/// The most that a listing gives at once, as AWS.
pub(super) const PAGE: i32 = 1000;
/// PutObject is for small objects; all of one is held in memory while its key is checked.
const PUT_MAX: usize = 64 * 1024 * 1024;
/// Every part but the last has at least this many bytes.
const PART_MIN: u64 = 5 * 1024 * 1024;

/// How this provider differs from AWS, as a test wants it.
#[derive(Debug)]
pub(super) struct Quirks {
    /// Takes no notice of `If-None-Match`, as garage.
    pub ignores_if_none_match: AtomicBool,
    /// Says NoSuchUpload when a completed upload is completed again.
    pub forgets_completed: AtomicBool,
    pub page: AtomicI32,
}

impl Default for Quirks {
    fn default() -> Self {
        let no = || AtomicBool::new(false);
        Self { ignores_if_none_match: no(), forgets_completed: no(), page: AtomicI32::new(PAGE) }
    }
}

/// Set on a request whose UploadPart is to be read, recorded and then refused with this status.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefuseAfterReading(pub u16);

/// One provider's storage: buckets are folders below `root`.
#[derive(Debug)]
pub(super) struct Storage {
    fs: FileSystem,
    root: PathBuf,
    uploads: Uploads,
    quirks: Arc<Quirks>,
    recorder: Arc<Recorder>,
    /// Held while a key is looked at and then written, so that of two creators one loses.
    commit: Mutex<()>,
}

/// The error for a refusal with `status`, as AWS words it.
pub(super) fn refusal(status: u16) -> s3s::S3Error {
    match status {
        403 => s3_error!(AccessDenied, "Access Denied"),
        503 => s3_error!(SlowDown, "Please reduce your request rate."),
        _ => s3_error!(InternalError, "We encountered an internal error. Please try again."),
    }
}

impl Storage {
    /// Below `folder`: `data/BUCKET/…` for the objects, `uploads/` for the book of open uploads.
    pub fn open(folder: &Path, quirks: Arc<Quirks>, recorder: Arc<Recorder>) -> Result<Self> {
        let root = folder.join("data");
        std::fs::create_dir_all(&root).with_context(|| format!("failed to make {}", root.display()))?;
        let fs = FileSystem::new(&root).map_err(|e| anyhow::anyhow!("failed to open {}: {e:?}", root.display()))?;
        let uploads = Uploads::open(folder.join("uploads"))?;
        Ok(Self { fs, root, uploads, quirks, recorder, commit: Mutex::new(()) })
    }

    fn object(&self, bucket: &str, key: &str) -> PathBuf {
        self.root.join(bucket).join(key)
    }

    fn part(&self, upload: &str, number: i32) -> PathBuf {
        self.root.join(format!(".upload_id-{upload}.part-{number}"))
    }

    fn must_have_bucket(&self, bucket: &str) -> S3Result {
        if self.root.join(bucket).is_dir() {
            Ok(())
        } else {
            Err(s3_error!(NoSuchBucket, "The specified bucket does not exist"))
        }
    }

    fn must_have_object(&self, bucket: &str, key: &str) -> S3Result {
        self.must_have_bucket(bucket)?;
        let there = self.object(bucket, key).is_file();
        if there { Ok(()) } else { Err(s3_error!(NoSuchKey, "The specified key does not exist.")) }
    }

    fn must_have_upload(&self, bucket: &str, key: &str, upload: &str) -> S3Result {
        if self.uploads.is_open(bucket, key, upload) {
            return Ok(());
        }
        Err(s3_error!(NoSuchUpload, "The specified multipart upload does not exist."))
    }

    /// Fails where the request is create-only and the key is taken.
    fn must_be_free(&self, condition: Option<&ETagCondition>, bucket: &str, key: &str) -> S3Result {
        let wants_new = condition.is_some_and(ETagCondition::is_any);
        if wants_new && !self.quirks.ignores_if_none_match.load(Ordering::SeqCst) && self.object(bucket, key).is_file()
        {
            return Err(s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold"));
        }
        Ok(())
    }

    /// The parts to complete must be there, in order, with the ETags that were given out, and large enough.
    fn check_parts(&self, upload: &str, parts: &[CompletedPart]) -> S3Result {
        if parts.is_empty() {
            return Err(s3_error!(MalformedXML, "You must specify at least one part"));
        }
        for (index, part) in parts.iter().enumerate() {
            let number = part.part_number.unwrap_or_default();
            if index > 0 && parts[index - 1].part_number.unwrap_or_default() >= number {
                return Err(s3_error!(InvalidPartOrder, "The list of parts was not in ascending order."));
            }
            let file = std::fs::metadata(self.part(upload, number));
            let known = self.uploads.e_tag(upload, number);
            let same = |known: &str| part.e_tag.as_ref().is_some_and(|e| e.value() == known);
            let (Ok(file), true) = (file, known.as_deref().is_none_or(same)) else {
                return Err(s3_error!(InvalidPart, "Part {number} could not be found, or its entity tag is another"));
            };
            if file.len() < PART_MIN && index + 1 < parts.len() {
                return Err(s3_error!(EntityTooSmall, "Part {number} is smaller than the minimum allowed size"));
            }
        }
        Ok(())
    }

    async fn complete_by_reading(&self, req: S3Request<CompleteMultipartUploadInput>) -> S3Result<String> {
        let answer = self.fs.complete_multipart_upload(req).await?;
        let e_tag = match answer.output.future {
            Some(future) => future.await?.e_tag,
            None => answer.output.e_tag,
        };
        Ok(e_tag.map(|e| e.value().to_owned()).unwrap_or_default())
    }

    fn page(&self, wanted: Option<i32>) -> i32 {
        wanted.unwrap_or(PAGE).min(self.quirks.page.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl S3 for Storage {
    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.fs.head_bucket(req).await
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.fs.get_bucket_location(req).await
    }

    async fn list_buckets(&self, req: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        self.fs.list_buckets(req).await
    }

    async fn list_objects(&self, mut req: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        req.input.max_keys = Some(self.page(req.input.max_keys));
        self.fs.list_objects(req).await
    }

    async fn list_objects_v2(
        &self,
        mut req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        req.input.max_keys = Some(self.page(req.input.max_keys));
        // Another request may rename a file while s3s-fs walks the folders.
        let _guard = self.commit.lock().await;
        let encoding = req.input.encoding_type.clone();
        req.input.continuation_token = req.input.continuation_token.as_deref().map(names::of_token);
        let mut page = self.fs.list_objects_v2(req).await?;
        names::encode(&mut page.output, encoding.as_ref());
        Ok(page)
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.must_have_object(&req.input.bucket, &req.input.key)?;
        self.fs.get_object(req).await
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.must_have_object(&req.input.bucket, &req.input.key)?;
        self.fs.head_object(req).await
    }

    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.must_have_bucket(&req.input.bucket)?;
        let condition = req.input.if_none_match.take();
        // Read first: nobody waits at the commit for a client that is slow.
        let body = req.input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?;
        let body = collect(body).await?;
        let _guard = self.commit.lock().await;
        self.must_be_free(condition.as_ref(), &req.input.bucket, &req.input.key)?;
        req.input.body = Some(StreamingBlob::from(Body::from(bytes::Bytes::from(body))));
        self.fs.put_object(req).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.must_have_bucket(&req.input.bucket)?;
        let _guard = self.commit.lock().await;
        if self.object(&req.input.bucket, &req.input.key).is_dir() {
            return Ok(S3Response::new(DeleteObjectOutput::default()));
        }
        self.fs.delete_object(req).await
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.must_have_bucket(&req.input.bucket)?;
        let _guard = self.commit.lock().await;
        self.fs.delete_objects(req).await
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        self.must_have_bucket(&bucket)?;
        let answer = self.fs.create_multipart_upload(req).await?;
        let upload = answer.output.upload_id.as_deref().ok_or_else(|| s3_error!(InternalError, "no upload id"))?;
        self.uploads.add(&bucket, &key, upload).map_err(s3s::S3Error::internal_error)?;
        Ok(answer)
    }

    async fn upload_part(&self, mut req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = &mut req.input;
        let (bucket, key, upload) = (input.bucket.clone(), input.key.clone(), input.upload_id.clone());
        let number = input.part_number;
        let mut body = input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?;
        if self.recorder.keeps_parts() {
            body = StreamingBlob::new(Hashing::new(body, self.recorder.clone(), &upload, &key, number));
        }
        if let Some(RefuseAfterReading(status)) = req.extensions.get() {
            body.try_for_each(|_| std::future::ready(Ok(()))).await.map_err(|_| s3_error!(IncompleteBody))?;
            return Err(refusal(*status));
        }
        self.must_have_upload(&bucket, &key, &upload)?;
        req.input.body = Some(body);
        let answer = self.fs.upload_part(req).await?;
        let e_tag = answer.output.e_tag.as_ref().map(|e| e.value().to_owned()).unwrap_or_default();
        self.uploads.add_part(&upload, number, e_tag);
        if !self.uploads.is_open(&bucket, &key, &upload) {
            // Aborted or completed meanwhile: nobody would ever remove this part.
            let _ = tokio::fs::remove_file(self.part(&upload, number)).await;
            return Err(s3_error!(NoSuchUpload, "The specified multipart upload does not exist."));
        }
        Ok(answer)
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let upload = req.input.upload_id.clone();
        self.must_have_upload(&req.input.bucket, &req.input.key, &upload)?;
        let mut answer = self.fs.list_parts(req).await?;
        let parts = answer.output.parts.get_or_insert_default();
        parts.sort_by_key(|part| part.part_number);
        for part in parts {
            part.e_tag = self.uploads.e_tag(&upload, part.part_number.unwrap_or_default()).map(ETag::Strong);
        }
        Ok(answer)
    }

    async fn complete_multipart_upload(
        &self,
        mut req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = &mut req.input;
        let (bucket, key, upload) = (input.bucket.clone(), input.key.clone(), input.upload_id.clone());
        let condition = input.if_none_match.take();
        let _guard = self.commit.lock().await;
        if let Some(e_tag) = self.uploads.completed(&bucket, &key, &upload)
            && !self.quirks.forgets_completed.load(Ordering::SeqCst)
        {
            self.must_be_free(condition.as_ref(), &bucket, &key)?;
            return Ok(S3Response::new(completed(bucket, key, e_tag)));
        }
        self.must_have_upload(&bucket, &key, &upload)?;
        self.must_be_free(condition.as_ref(), &bucket, &key)?;
        let parts = input.multipart_upload.as_ref().and_then(|u| u.parts.as_deref()).unwrap_or_default();
        self.check_parts(&upload, parts)?;
        let numbers: Vec<i32> = parts.iter().filter_map(|part| part.part_number).collect();
        let e_tag = match numbers.iter().map(|&number| self.uploads.e_tag(&upload, number)).collect() {
            Some(e_tags) => {
                let parts = numbers.iter().map(|&number| self.part(&upload, number)).collect();
                let (root, bucket, key, upload) = (&*self.root, &*bucket, &*key, &*upload);
                Join { root, bucket, key, upload, parts, e_tags }.run().map_err(s3s::S3Error::internal_error)?
            }
            // An earlier server took some of the parts.
            None => self.complete_by_reading(req).await?,
        };
        self.uploads.complete(&bucket, &key, &upload, &e_tag);
        Ok(S3Response::new(completed(bucket, key, e_tag)))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let (bucket, key, upload) = (req.input.bucket.clone(), req.input.key.clone(), req.input.upload_id.clone());
        let _guard = self.commit.lock().await;
        self.must_have_upload(&bucket, &key, &upload)?;
        // Closed before its parts go, so that a part that arrives now is refused.
        self.uploads.remove(&upload);
        self.fs.abort_multipart_upload(req).await
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = req.input;
        self.must_have_bucket(&input.bucket)?;
        let max = self.page(input.max_uploads);
        let prefix = input.prefix.clone().unwrap_or_default();
        let marker = (input.key_marker.clone().unwrap_or_default(), input.upload_id_marker.clone());
        let open: BTreeMap<(String, String), std::time::SystemTime> = self.uploads.list(&input.bucket);
        let behind = |(key, id): &(String, String)| match &marker.1 {
            Some(last) => (key, id) > (&marker.0, last),
            None => *key > marker.0,
        };
        let mut found = open.into_iter().filter(|(at, _)| at.0.starts_with(&prefix) && behind(at));
        let mut uploads = Vec::new();
        for ((key, id), begun) in found.by_ref().take(usize::try_from(max).unwrap_or_default()) {
            let initiated = Some(Timestamp::from(begun));
            let key = Some(names::listed(&key, input.encoding_type.as_ref()));
            uploads.push(MultipartUpload { key, upload_id: Some(id), initiated, ..Default::default() });
        }
        let more = found.next().is_some();
        let last = uploads.last().filter(|_| more);
        Ok(S3Response::new(ListMultipartUploadsOutput {
            next_key_marker: last.and_then(|u| u.key.clone()),
            next_upload_id_marker: last.and_then(|u| u.upload_id.clone()),
            encoding_type: input.encoding_type,
            bucket: Some(input.bucket),
            is_truncated: Some(more),
            key_marker: input.key_marker,
            upload_id_marker: input.upload_id_marker,
            max_uploads: Some(max),
            prefix: input.prefix,
            uploads: Some(uploads),
            ..Default::default()
        }))
    }
}

fn completed(bucket: String, key: String, e_tag: String) -> CompleteMultipartUploadOutput {
    let e_tag = Some(ETag::Strong(e_tag));
    CompleteMultipartUploadOutput { bucket: Some(bucket), key: Some(key), e_tag, ..Default::default() }
}

/// The objects of a bucket, read from the disk.
pub(super) fn objects_on_disk(folder: &Path, bucket: &str) -> Result<BTreeMap<String, u64>> {
    let root = folder.join("data").join(bucket);
    let (mut objects, mut folders) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if let Ok(metadata) = entry.metadata() {
                let key = entry.path().strip_prefix(&root)?.to_string_lossy().into_owned();
                objects.insert(key, metadata.len());
            }
        }
    }
    Ok(objects)
}

/// The open uploads of a bucket, read from the disk.
pub(super) fn unfinished_on_disk(folder: &Path, bucket: &str) -> Result<Vec<OpenUpload>> {
    let open = Uploads::open(folder.join("uploads"))?.list(bucket);
    Ok(open.into_keys().map(|(key, upload_id)| OpenUpload { key, upload_id }).collect())
}

/// Files of parts that belong to no open upload.
pub(super) fn stray_parts(folder: &Path, bucket: &str) -> Result<Vec<PathBuf>> {
    let open = unfinished_on_disk(folder, bucket)?;
    let root = folder.join("data");
    let mut stray = Vec::new();
    for entry in std::fs::read_dir(&root).with_context(|| format!("failed to read {}", root.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(part) = name.strip_prefix(".upload_id-") else { continue };
        if !open.iter().any(|upload| part.starts_with(&upload.upload_id)) {
            stray.push(entry.path());
        }
    }
    Ok(stray)
}

async fn collect(mut body: StreamingBlob) -> S3Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = body.try_next().await.map_err(|_| s3_error!(IncompleteBody))? {
        if all.len() + chunk.len() > PUT_MAX {
            return Err(s3_error!(EntityTooLarge, "the stand's server takes at most {PUT_MAX} bytes at once"));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}
