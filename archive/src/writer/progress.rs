//! How far an attempt is.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Counters of one attempt, which can be read from any thread. They only grow.
#[derive(Debug, Default)]
pub struct Progress {
    pub(super) read: AtomicU64,
    pub(super) stored: AtomicU64,
    pub(super) total: AtomicU64,
    pub(super) retried: AtomicU32,
}

impl Progress {
    /// Bytes of the database read so far.
    pub fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    /// Sealed bytes that are stored.
    pub fn stored(&self) -> u64 {
        self.stored.load(Relaxed)
    }

    /// Size of the database in bytes; 0 while it is unknown.
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// Sets the size of the database in bytes. For the source, which knows it first.
    pub fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Relaxed);
    }

    /// How many times a part had to be sent again so far.
    pub fn retried(&self) -> u32 {
        self.retried.load(Relaxed)
    }
}
