//! A plain S3 client, and what tests ask any endpoint.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::{Builder, tls};

use super::options::S3Options;
use super::uploads::OpenUpload;

pub(super) fn client(endpoint: &str, options: &S3Options) -> Client {
    let http = Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)).build_https();
    let credentials =
        Credentials::new(&options.access_key_id, &options.secret_access_key, None, None, "the stand's options");
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .endpoint_url(endpoint)
        .force_path_style(true)
        .region(Region::new(options.region.clone()))
        .credentials_provider(credentials)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build();
    Client::from_conf(config)
}

pub(super) async fn objects(client: &Client, bucket: &str) -> Result<BTreeMap<String, u64>> {
    let mut objects = BTreeMap::new();
    let mut pages = client.list_objects_v2().bucket(bucket).into_paginator().send();
    while let Some(page) = pages.next().await {
        for object in page.with_context(|| format!("failed to list the objects of {bucket}"))?.contents() {
            let size = u64::try_from(object.size().unwrap_or_default())?;
            objects.insert(object.key().unwrap_or_default().to_owned(), size);
        }
    }
    Ok(objects)
}

pub(super) async fn unfinished(client: &Client, bucket: &str) -> Result<Vec<OpenUpload>> {
    let mut open = Vec::new();
    let (mut key, mut id) = (None, None);
    loop {
        let list = client.list_multipart_uploads().bucket(bucket).set_key_marker(key).set_upload_id_marker(id);
        let page = list.send().await.with_context(|| format!("failed to list the uploads of {bucket}"))?;
        open.extend(page.uploads().iter().map(|upload| OpenUpload {
            key: upload.key().unwrap_or_default().to_owned(),
            upload_id: upload.upload_id().unwrap_or_default().to_owned(),
        }));
        if !page.is_truncated().unwrap_or_default() {
            return Ok(open);
        }
        (key, id) = (page.next_key_marker, page.next_upload_id_marker);
    }
}
