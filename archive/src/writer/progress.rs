//! How far an attempt is.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Shared counters of one attempt; they only grow.
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

    /// Sealed bytes that the store has.
    pub fn stored(&self) -> u64 {
        self.stored.load(Relaxed)
    }

    /// Bytes of the database in all; 0 as long as that is unknown.
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// For the source, which learns it first.
    pub fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Relaxed);
    }

    /// How many times a part had to be sent again.
    pub fn retried(&self) -> u32 {
        self.retried.load(Relaxed)
    }
}
