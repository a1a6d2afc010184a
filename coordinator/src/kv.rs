//! JetStream as the coordinator uses it: one KV bucket for intentions and status, one stream of reports.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::kv::{CreateErrorKind, Store, UpdateErrorKind};
use async_nats::jetstream::{self, Context};
use backstay_protocol::Timestamp;
use bytes::Bytes;
use futures::TryStreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::JetStreamSettings;

mod streams;

/// The bucket's name.
pub const BUCKET: &str = "backstay";
/// The stream of reports.
pub const REPORTS: &str = "BACKSTAY_REPORTS";

const ENTRY_BYTES_MAX: i32 = 512 * 1024;
/// What the headers of a change take of a message, the subject's name included.
const HEADERS: usize = 1024;
/// How long JetStream may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What went wrong between the coordinator and JetStream.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    #[error("{key} was changed by somebody else")]
    Conflict { key: String },
    #[error("{action} {key}: {cause}")]
    Failed { action: &'static str, key: String, cause: String },
    #[error("{key} in the KV cannot be read: {cause}")]
    Malformed { key: String, cause: String },
    #[error("cannot open the stream {stream}: {cause}")]
    Stream { stream: String, cause: String },
}

fn failed(action: &'static str, key: &str, cause: impl std::fmt::Display) -> KvError {
    let mut cause = cause.to_string();
    if cause.contains("maximum bytes exceeded") {
        cause.push_str(": the KV is full; set [jetstream] kv_max_bytes higher");
    }
    KvError::Failed { action, key: key.into(), cause }
}

/// A value with the revision that a compare-and-set names.
#[derive(Debug, Clone, PartialEq)]
pub struct Revised<T> {
    pub revision: u64,
    pub value: T,
}

/// The bucket.
#[derive(Debug, Clone)]
pub struct Kv {
    store: Store,
}

/// JetStream with our time-outs.
pub fn context(client: &Client) -> Context {
    let mut context = jetstream::new(client.clone());
    context.set_timeout(ANSWER_TIMEOUT);
    context
}

/// Opens the bucket and the stream of reports, making what is not there.
pub async fn open(context: &Context, settings: &JetStreamSettings) -> Result<Kv, KvError> {
    streams::open(context, streams::bucket(settings)).await?;
    streams::open(context, streams::reports(settings)).await?;
    let store = context.get_key_value(BUCKET).await.map_err(|e| failed("cannot open the bucket", BUCKET, e))?;
    Ok(Kv { store })
}

/// What an entry may have, as JSON, on a server that lets messages of `max_payload` bytes through.
pub fn entry_room(max_payload: usize) -> usize {
    (ENTRY_BYTES_MAX as usize).min(max_payload).saturating_sub(HEADERS)
}

impl Kv {
    /// An entry with its revision; `None` where there is none or it was deleted.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Revised<T>>, KvError> {
        use async_nats::jetstream::kv::Operation;
        let entry = self.store.entry(key).await.map_err(|e| failed("cannot read", key, e))?;
        let Some(entry) = entry.filter(|e| e.operation == Operation::Put) else {
            return Ok(None);
        };
        let value = serde_json::from_slice(&entry.value)
            .map_err(|e| KvError::Malformed { key: key.into(), cause: e.to_string() })?;
        Ok(Some(Revised { revision: entry.revision, value }))
    }

    /// An entry with the time at which the server took it, by its own clock.
    pub async fn get_with_time<T: DeserializeOwned>(&self, key: &str) -> Result<Option<(T, Timestamp)>, KvError> {
        use async_nats::jetstream::kv::Operation;
        let entry = self.store.entry(key).await.map_err(|e| failed("cannot read", key, e))?;
        let Some(entry) = entry.filter(|e| e.operation == Operation::Put) else { return Ok(None) };
        let value = serde_json::from_slice(&entry.value)
            .map_err(|e| KvError::Malformed { key: key.into(), cause: e.to_string() })?;
        let taken = entry.created;
        Ok(Some((value, Timestamp { seconds: taken.unix_timestamp(), nanos: taken.nanosecond() as i32 })))
    }

    /// Creates an entry; `Conflict` where it is there.
    pub async fn create<T: Serialize>(&self, key: &str, value: &T) -> Result<u64, KvError> {
        self.store.create(key, json(key, value)?).await.map_err(|e| match e.kind() {
            CreateErrorKind::AlreadyExists => KvError::Conflict { key: key.into() },
            _ => failed("cannot create", key, e),
        })
    }

    /// Replaces an entry that still has `revision`; `Conflict` where it has not.
    pub async fn update<T: Serialize>(&self, key: &str, value: &T, revision: u64) -> Result<u64, KvError> {
        self.store.update(key, json(key, value)?, revision).await.map_err(|e| match e.kind() {
            UpdateErrorKind::WrongLastRevision => KvError::Conflict { key: key.into() },
            _ => failed("cannot update", key, e),
        })
    }

    pub async fn delete(&self, key: &str) -> Result<(), KvError> {
        self.store.purge(key).await.map_err(|e| failed("cannot delete", key, e))
    }

    /// Every key that begins with `prefix`, which ends with a dot, in order; also those whose entry was deleted,
    /// which [`Kv::get`] does not find.
    ///
    /// The stream itself is asked. The client's own listing reads the entries through a consumer: one entry that
    /// changes meanwhile, as the lease does, and it gives others twice or not at all, or waits for ever.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>, KvError> {
        let error = |e| failed("cannot list keys of", BUCKET, e);
        let own = &self.store.prefix;
        let subjects = self.store.stream.info_with_subjects(format!("{own}{prefix}>")).await.map_err(error)?;
        let subjects: Vec<(String, usize)> = subjects.try_collect().await.map_err(error)?;
        let key = |(subject, _): &(String, usize)| subject.strip_prefix(own.as_str()).map(str::to_owned);
        let mut keys: Vec<String> = subjects.iter().filter_map(key).collect();
        keys.sort_unstable();
        Ok(keys)
    }
}

fn json<T: Serialize>(key: &str, value: &T) -> Result<Bytes, KvError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|e| failed("cannot encode", key, e))
}
