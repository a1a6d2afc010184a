//! The KV: what is wanted, what is under way, who leads. Entries are JSON, and every change names the revision that it
//! replaces.
//!
//! [`Entries`] hides where they are: in JetStream in a coordinator, in memory in a test of one process.

mod error;
pub mod memory;
pub mod nats;
mod streams;

use std::sync::Arc;

use async_trait::async_trait;
use backstay_protocol::Timestamp;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use error::failed;

pub use error::KvError;

/// The most bytes of an entry.
pub const ENTRY_BYTES_MAX: usize = streams::ENTRY_BYTES_MAX as usize;
/// Bytes of a message that the headers of a change need, including the subject.
const HEADERS: usize = 1024;

/// A value with its revision, for a compare-and-set.
#[derive(Debug, Clone, PartialEq)]
pub struct Revised<T> {
    pub revision: u64,
    pub value: T,
}

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEntry {
    pub revision: u64,
    pub value: Bytes,
    /// When it was stored, by the clock of the server.
    pub taken: Timestamp,
}

/// Entries that change by compare-and-set. Revisions rise with every change of any entry.
#[async_trait]
pub trait Entries: Send + Sync + std::fmt::Debug {
    /// `None` if there is none or it was deleted.
    async fn get(&self, key: &str) -> Result<Option<KvEntry>, KvError>;
    /// Returns its revision; [`KvError::Conflict`] if it exists already.
    async fn create(&self, key: &str, value: Bytes) -> Result<u64, KvError>;
    /// Returns its new revision; [`KvError::Conflict`] if it no longer has `revision`.
    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, KvError>;
    /// Nothing happens if it does not exist.
    async fn delete(&self, key: &str) -> Result<(), KvError>;
    /// Every key that begins with `prefix`, which ends with a dot, in order; perhaps also those that were deleted.
    async fn keys(&self, prefix: &str) -> Result<Vec<String>, KvError>;
}

/// Entries as values that are JSON.
#[derive(Debug, Clone)]
pub struct Kv {
    entries: Arc<dyn Entries>,
}

/// The most bytes that an entry may have as JSON, on a server that accepts messages of `max_payload` bytes.
pub fn entry_room(max_payload: usize) -> usize {
    ENTRY_BYTES_MAX.min(max_payload).saturating_sub(HEADERS)
}

impl Kv {
    pub fn new(entries: Arc<dyn Entries>) -> Self {
        Self { entries }
    }

    /// An entry with its revision; `None` if there is none or it was deleted.
    ///
    /// # Errors
    /// JetStream does not answer, or the entry cannot be parsed.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Revised<T>>, KvError> {
        let Some(entry) = self.entries.get(key).await? else { return Ok(None) };
        Ok(Some(Revised { revision: entry.revision, value: read(key, &entry)? }))
    }

    /// An entry with the time at which the server stored it, by its own clock.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_with_time<T: DeserializeOwned>(&self, key: &str) -> Result<Option<(T, Timestamp)>, KvError> {
        let Some(entry) = self.entries.get(key).await? else { return Ok(None) };
        Ok(Some((read(key, &entry)?, entry.taken)))
    }

    /// Creates an entry and returns its revision.
    ///
    /// # Errors
    /// [`KvError::Conflict`] if it exists already; [`KvError::Failed`] if JetStream does not answer or the KV is full.
    pub async fn create<T: Serialize>(&self, key: &str, value: &T) -> Result<u64, KvError> {
        self.entries.create(key, json(key, value)?).await
    }

    /// Replaces an entry that still has `revision`, and returns the new one.
    ///
    /// # Errors
    /// [`KvError::Conflict`] if it has another revision; [`KvError::Failed`] if JetStream does not answer or the KV is
    /// full.
    pub async fn update<T: Serialize>(&self, key: &str, value: &T, revision: u64) -> Result<u64, KvError> {
        self.entries.update(key, json(key, value)?, revision).await
    }

    /// Deletes an entry. One that does not exist is not an error.
    ///
    /// # Errors
    /// JetStream does not answer.
    pub async fn delete(&self, key: &str) -> Result<(), KvError> {
        self.entries.delete(key).await
    }

    /// Every key that begins with `prefix`, in order; also those whose entry was deleted, which [`Kv::get`] does not find.
    /// `prefix` ends with a dot.
    ///
    /// # Errors
    /// JetStream does not answer.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>, KvError> {
        self.entries.keys(prefix).await
    }
}

fn read<T: DeserializeOwned>(key: &str, entry: &KvEntry) -> Result<T, KvError> {
    serde_json::from_slice(&entry.value).map_err(|e| KvError::Malformed { key: key.into(), cause: e.to_string() })
}

fn json<T: Serialize>(key: &str, value: &T) -> Result<Bytes, KvError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|e| failed("cannot encode", key, e))
}
