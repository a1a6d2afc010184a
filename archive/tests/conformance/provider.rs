//! An S3 provider: s3s-fs, and around it what it lacks or does otherwise than AWS, and the habits of
//! other providers that a store must live with.

use std::collections::BTreeMap;
use std::sync::Mutex;

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

/// How this provider differs from AWS.
#[derive(Debug, Clone, Copy, Default)]
pub struct Habits {
    /// Answers 501 to ListMultipartUploads.
    pub cannot_list_uploads: bool,
    /// Takes `If-None-Match` and overwrites all the same.
    pub ignores_create_only: bool,
    /// Answers 501 to `If-None-Match`.
    pub refuses_create_only: bool,
    /// Answers 403 to deletes, as a bucket under object lock does.
    pub refuses_deletes: bool,
    /// Refuses what is not put there under this KMS key, as a bucket's policy may.
    pub wants_kms_key: Option<&'static str>,
    /// Refuses uploads of another storage class than this.
    pub wants_class: Option<&'static str>,
    /// Forgets the metadata of objects that were uploaded in parts.
    pub drops_metadata: bool,
    /// The most uploads on one page of a listing; 0 for S3's own 1,000.
    pub uploads_per_page: usize,
}

/// The key and the id of an upload. s3s-fs binds it to the key pair that began it, S3 to the account: so the pair is
/// taken out of requests that are about uploads.
type Upload = (String, String);

pub struct Provider {
    files: FileSystem,
    habits: Habits,
    uploads: Mutex<BTreeMap<Upload, ()>>,
    /// s3s-fs looks and then writes; AWS decides at once.
    deciding: tokio::sync::Mutex<()>,
}

impl Provider {
    pub fn new(files: FileSystem, habits: Habits) -> Self {
        Self { files, habits, uploads: Mutex::default(), deciding: tokio::sync::Mutex::default() }
    }

    fn known(&self, key: &str, id: &str) -> S3Result<()> {
        if self.uploads.lock().expect("unpoisoned").contains_key(&(key.to_owned(), id.to_owned())) {
            return Ok(());
        }
        Err(s3_error!(NoSuchUpload, "The specified upload does not exist."))
    }

    /// The condition, as this provider takes it.
    fn condition(&self, given: Option<IfNoneMatch>) -> S3Result<Option<IfNoneMatch>> {
        if given.is_some() && self.habits.refuses_create_only {
            return Err(s3_error!(
                NotImplemented,
                "A header you provided implies functionality that is not implemented"
            ));
        }
        Ok(given.filter(|_| !self.habits.ignores_create_only))
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

#[async_trait::async_trait]
impl S3 for Provider {
    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let mut found = self.files.head_object(req).await?;
        if self.habits.drops_metadata {
            found.output.metadata = None;
        }
        Ok(found)
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.files.get_object(req).await
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.files.list_objects_v2(req).await
    }

    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        req.input.if_none_match = self.condition(req.input.if_none_match.take())?;
        self.policy(req.input.server_side_encryption.as_ref(), req.input.ssekms_key_id.as_deref())?;
        let _deciding = self.deciding.lock().await;
        self.files.put_object(req).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
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
        self.policy(req.input.server_side_encryption.as_ref(), req.input.ssekms_key_id.as_deref())?;
        if let Some(wanted) = self.habits.wants_class
            && req.input.storage_class.as_ref().map(StorageClass::as_str) != Some(wanted)
        {
            return Err(s3_error!(InvalidStorageClass, "The storage class you specified is not valid."));
        }
        let begun = self.files.create_multipart_upload(req).await?;
        let id = begun.output.upload_id.clone().expect("s3s-fs gives one");
        self.uploads.lock().expect("unpoisoned").insert((key, id), ());
        Ok(begun)
    }

    async fn upload_part(&self, mut req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        req.credentials = None;
        self.known(&req.input.key, &req.input.upload_id)?;
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
        let completed = self.files.complete_multipart_upload(req).await?;
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
        let uploads = page.into_iter().map(|(key, id)| MultipartUpload {
            key: Some(key),
            upload_id: Some(id),
            initiated: Some(std::time::UNIX_EPOCH.into()),
            ..MultipartUpload::default()
        });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            uploads: Some(uploads.collect()),
            is_truncated: Some(last.is_some()),
            next_key_marker: last.as_ref().map(|(key, _)| key.clone()),
            next_upload_id_marker: last.map(|(_, id)| id),
            ..ListMultipartUploadsOutput::default()
        }))
    }
}
