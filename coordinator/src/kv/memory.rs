//! Entries in memory that behave as in JetStream, for a coordinator in one process with its test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use backstay_protocol::Clock;
use bytes::Bytes;

use super::{Entries, KvEntry, KvError};

/// Entries within one process.
#[derive(Debug)]
pub struct MemoryEntries {
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    entries: BTreeMap<String, KvEntry>,
}

impl MemoryEntries {
    /// Without any entry; `clock` says when each is stored.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, kept: Mutex::default() }
    }

    /// Stores `value` if the entry has the expected revision; `None` means that it must not exist.
    fn put(&self, key: &str, value: Bytes, expected: Option<u64>) -> Result<u64, KvError> {
        let taken = self.clock.now();
        let mut kept = self.lock();
        if kept.entries.get(key).map(|entry| entry.revision) != expected {
            return Err(KvError::Conflict { key: key.into() });
        }
        kept.last += 1;
        let revision = kept.last;
        kept.entries.insert(key.into(), KvEntry { revision, value, taken });
        Ok(revision)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        // Nothing that can panic runs while the lock is held, so what it guards is whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Entries for MemoryEntries {
    async fn get(&self, key: &str) -> Result<Option<KvEntry>, KvError> {
        Ok(self.lock().entries.get(key).cloned())
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, KvError> {
        self.put(key, value, None)
    }

    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, KvError> {
        self.put(key, value, Some(revision))
    }

    async fn delete(&self, key: &str) -> Result<(), KvError> {
        let mut kept = self.lock();
        kept.last += u64::from(kept.entries.remove(key).is_some());
        Ok(())
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, KvError> {
        Ok(self.lock().entries.keys().filter(|key| key.starts_with(prefix)).cloned().collect())
    }
}
