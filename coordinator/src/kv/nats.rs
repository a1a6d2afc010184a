//! Entries in a JetStream bucket, and the stream of reports.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::kv::{CreateErrorKind, Operation, Store, UpdateErrorKind};
use async_nats::jetstream::{self, Context};
use async_trait::async_trait;
use backstay_protocol::Timestamp;
use bytes::Bytes;
use futures::TryStreamExt;

use super::error::{KvError, failed};
use super::streams;
use super::{Entries, Kv, KvEntry};
use crate::config::JetStreamSettings;

pub use super::streams::{BUCKET, REPORTS};

/// How long JetStream may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The bucket.
#[derive(Debug)]
struct Bucket(Store);

/// JetStream with the time-outs that the coordinator needs.
pub fn context(client: &Client) -> Context {
    let mut context = jetstream::new(client.clone());
    context.set_timeout(ANSWER_TIMEOUT);
    context
}

/// Opens the bucket and the stream of reports, and creates what is missing.
///
/// # Errors
/// JetStream does not answer, refuses, or has a stream of that name with settings that cannot be used.
pub async fn open(context: &Context, settings: &JetStreamSettings) -> Result<Kv, KvError> {
    entries(context, settings).await.map(Kv::new)
}

/// The same, without the layer that converts values.
///
/// # Errors
/// As [`open`].
pub async fn entries(context: &Context, settings: &JetStreamSettings) -> Result<Arc<dyn Entries>, KvError> {
    streams::open(context, streams::bucket(settings)).await?;
    streams::open(context, streams::reports(settings)).await?;
    let store = context.get_key_value(BUCKET).await.map_err(|e| failed("cannot open the bucket", BUCKET, e))?;
    Ok(Arc::new(Bucket(store)))
}

#[async_trait]
impl Entries for Bucket {
    async fn get(&self, key: &str) -> Result<Option<KvEntry>, KvError> {
        let entry = self.0.entry(key).await.map_err(|e| failed("cannot read", key, e))?;
        let Some(entry) = entry.filter(|e| e.operation == Operation::Put) else { return Ok(None) };
        let taken = Timestamp { seconds: entry.created.unix_timestamp(), nanos: entry.created.nanosecond() as i32 };
        Ok(Some(KvEntry { revision: entry.revision, value: entry.value, taken }))
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, KvError> {
        self.0.create(key, value).await.map_err(|e| match e.kind() {
            CreateErrorKind::AlreadyExists => KvError::Conflict { key: key.into() },
            _ => failed("cannot create", key, e),
        })
    }

    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, KvError> {
        self.0.update(key, value, revision).await.map_err(|e| match e.kind() {
            UpdateErrorKind::WrongLastRevision => KvError::Conflict { key: key.into() },
            _ => failed("cannot update", key, e),
        })
    }

    async fn delete(&self, key: &str) -> Result<(), KvError> {
        self.0.purge(key).await.map_err(|e| failed("cannot delete", key, e))
    }

    /// Asks the stream itself. The client's own listing reads the entries through a consumer: if one entry changes
    /// meanwhile, as the lease does, it returns others twice or not at all, or waits forever.
    async fn keys(&self, prefix: &str) -> Result<Vec<String>, KvError> {
        let error = |e| failed("cannot list keys of", BUCKET, e);
        let own = &self.0.prefix;
        let subjects = self.0.stream.info_with_subjects(format!("{own}{prefix}>")).await.map_err(error)?;
        let subjects: Vec<(String, usize)> = subjects.try_collect().await.map_err(error)?;
        let key = |(subject, _): &(String, usize)| subject.strip_prefix(own.as_str()).map(str::to_owned);
        let mut keys: Vec<String> = subjects.iter().filter_map(key).collect();
        keys.sort_unstable();
        Ok(keys)
    }
}
