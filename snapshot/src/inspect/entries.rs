//! The entries of the bucket `key` in a table, and HashKV computed from it.
//!
//! etcd's HashKV is a CRC-32C over the bucket's name and then, in the order of revisions up to `at`, over key and
//! value of each entry. Of the revisions that the asked member has compacted (up to `compact`), an entry counts only
//! if a compaction at `at` would keep it: it is the newest of its user key at or below `at`, and not a tombstone. So
//! for each entry it must be known whether a newer one of the same user key follows. User keys are stored here as
//! hashes with a random key, so nobody can write keys that collide.

use std::hash::{BuildHasher, RandomState};

use super::leaf::{Row, Sum};
use crate::crc::{Combiner, crc32c};

/// Bytes per entry of the table.
pub const ENTRY_BYTES: u64 = 24;

/// The longest entry that fits into the table, in bytes: two bits of the length are used as flags.
const BYTES_MAX: u64 = (1 << 30) - 1;
const TOMBSTONE: u32 = 1 << 31;
/// The entry is the newest of its user key at or below `at`.
const NEWEST: u32 = 1 << 30;

/// An entry of the bucket `key`, in 24 bytes.
#[derive(Debug, Clone, Copy)]
struct EntryRow {
    main: u64,
    /// Keyed hash of the user's key.
    key: u64,
    crc: u32,
    /// Length of revision, key and value in bytes; the flags are in the bits above.
    bytes: u32,
}

impl EntryRow {
    fn bytes(&self) -> u64 {
        u64::from(self.bytes & BYTES_MAX as u32)
    }

    fn tombstone(&self) -> bool {
        self.bytes & TOMBSTONE != 0
    }
}

/// Entries `from..from + count` of the table, which are those of one leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    pub from: u32,
    pub count: u32,
}

/// All entries that were seen, in the order of their pages in the file.
#[derive(Debug, Default)]
pub struct Entries {
    rows: Vec<EntryRow>,
    hasher: RandomState,
}

impl Entries {
    pub fn len(&self) -> u32 {
        // The table is dropped long before it has that many: see `push`.
        self.rows.len() as u32
    }

    /// Bytes that the table takes.
    pub fn held(&self) -> u64 {
        self.rows.len() as u64 * ENTRY_BYTES
    }

    /// Adds a row; `false` if the table cannot hold it.
    pub fn push(&mut self, row: &Row<'_>) -> bool {
        if row.sum.bytes > BYTES_MAX || self.rows.len() >= (u32::MAX >> 1) as usize {
            return false;
        }
        let flag = if row.revision.tombstone { TOMBSTONE } else { 0 };
        self.rows.push(EntryRow {
            main: row.revision.main,
            key: self.hasher.hash_one(row.key),
            crc: row.sum.crc,
            bytes: row.sum.bytes as u32 | flag,
        });
        true
    }

    pub fn truncate(&mut self, len: u32) {
        self.rows.truncate(len as usize);
    }

    /// Bytes of the temporary table that [`judge`](Self::judge) needs for so many live entries.
    pub fn judging(live: u64) -> u64 {
        Newest::slots(live) * 4
    }

    /// Keeps the live entries, in the order of revisions, which is the order of `leaves`.
    pub fn judge(mut self, leaves: Vec<Slice>, at: Option<i64>) -> HashTable {
        let at = at.map_or(u64::MAX, |at| u64::try_from(at).unwrap_or(0));
        let live = leaves.iter().map(|leaf| u64::from(leaf.count)).sum();
        // A restore that raised the revision left a row with an empty key: etcd hashes it, but no client ever sees
        // it.
        let nobody = self.hasher.hash_one::<&[u8]>(&[]);
        let mut newest = Newest::new(live);
        let (mut live_keys, mut seen_keys) = (0, 0);
        for leaf in leaves.iter().rev() {
            for index in (leaf.from..leaf.from + leaf.count).rev() {
                let entry = self.rows[index as usize];
                let slot = newest.slot(&self.rows, entry.key);
                let newer = newest.slots[slot];
                if newer == Newest::FREE {
                    seen_keys += u64::from(!entry.tombstone());
                    live_keys += u64::from(!entry.tombstone() && entry.key != nobody);
                }
                let first_at = newer == Newest::FREE || self.rows[newer as usize].main > at;
                if entry.main <= at && first_at {
                    self.rows[index as usize].bytes |= NEWEST;
                }
                if first_at {
                    newest.slots[slot] = index;
                }
            }
        }
        HashTable { rows: self.rows, leaves, at, live_keys, seen_keys }
    }
}

/// The newest entry of each user key so far: a hash table of indexes, with open addressing.
struct Newest {
    slots: Vec<u32>,
}

impl Newest {
    const FREE: u32 = u32::MAX;

    /// Number of slots: a power of two, at most three quarters of which are used.
    fn slots(entries: u64) -> u64 {
        (entries + entries / 3 + 1).next_power_of_two()
    }

    fn new(entries: u64) -> Self {
        Self { slots: vec![Self::FREE; Self::slots(entries) as usize] }
    }

    /// The slot for the hash of a key: the one that it has, or the free one that it gets.
    fn slot(&self, rows: &[EntryRow], key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = key as usize & mask;
        while self.slots[slot] != Self::FREE && rows[self.slots[slot] as usize].key != key {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

/// What is needed to compute HashKV for any compact revision.
#[derive(Debug)]
pub struct HashTable {
    rows: Vec<EntryRow>,
    leaves: Vec<Slice>,
    at: u64,
    /// User keys whose newest entry is not a tombstone. The empty key is not counted, since no user's key is empty.
    pub live_keys: u64,
    /// The same, and the empty key of a raised revision is counted.
    pub seen_keys: u64,
}

/// HashKV of a database: a CRC-32C over the bucket `key` up to a revision (etcd's `mvcc/hash.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKv {
    /// The hash that etcd reports in `HashKVResponse.hash`.
    pub hash: u32,
    /// The hash that some releases report instead: they skip a tombstone at the compact revision itself (etcd 3.4.33,
    /// 3.5.15 and later). It differs only if no key is left; `None` if it does not.
    pub newer: Option<u32>,
}

impl HashKv {
    /// Whether a member that reports `hash` has the same entries.
    pub fn is(&self, hash: u32) -> bool {
        hash == self.hash || Some(hash) == self.newer
    }
}

impl HashTable {
    fn entries(&self) -> impl Iterator<Item = &EntryRow> {
        let leaf = |leaf: &Slice| &self.rows[leaf.from as usize..(leaf.from + leaf.count) as usize];
        self.leaves.iter().flat_map(leaf).filter(|entry| entry.main <= self.at)
    }

    /// HashKV at the revision given at the start, as a member with compact revision `compact` reports it (-1: never
    /// compacted).
    pub fn hash(&self, compact: i64, combiner: &Combiner) -> HashKv {
        let kept = |entry: &EntryRow| entry.bytes & (NEWEST | TOMBSTONE) == NEWEST;
        // If a compaction would keep nothing, etcd skips nothing.
        let any = self.entries().any(kept);
        let compacted = |entry: &EntryRow| i64::try_from(entry.main).is_ok_and(|main| main <= compact);
        let odd = |entry: &EntryRow| entry.tombstone() && i64::try_from(entry.main).is_ok_and(|main| main == compact);
        let over = |skip: &dyn Fn(&EntryRow) -> bool| {
            let sum = |crc, entry: &EntryRow| combiner.append(crc, entry.crc, entry.bytes());
            self.entries().filter(|entry| !skip(entry)).fold(crc32c(b"key"), sum)
        };
        if any {
            return HashKv { hash: over(&|entry| compacted(entry) && !kept(entry)), newer: None };
        }
        let newer = self.entries().any(odd).then(|| over(&odd));
        HashKv { hash: over(&|_| false), newer }
    }
}

const _: () = assert!(size_of::<EntryRow>() as u64 == ENTRY_BYTES);

/// The sum of the bucket's name alone, with which `snapshot status` begins each bucket.
pub fn name(bucket: &[u8]) -> Sum {
    Sum::of(bucket)
}
