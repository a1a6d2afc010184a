//! How to inspect a database, and what is known about it at the end.

use super::about::About;
use super::entries::{HashKv, HashTable};
use crate::crc::Combiner;

/// Default limit for the memory of an inspection, in bytes: enough for the pages of 8 GiB.
pub const MEMORY_DEFAULT: u64 = 128 * 1024 * 1024;

/// How to inspect a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Limit for the memory in bytes. Above it, first HashKV becomes unknown, then the contents.
    pub memory: u64,
    /// The revision for which HashKV will be asked; `None` if it will not be.
    pub hash_at: Option<i64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory: MEMORY_DEFAULT, hash_at: None }
    }
}

/// Why something is unknown: it would take more memory than allowed, it was not asked for, or this database cannot
/// say. Never a sign of damage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// It would need more memory than [`Options::memory`], which is this many bytes.
    #[error("it would need more than the {0} bytes of memory that inspection may use")]
    Memory(u64),
    /// A page that is needed was not read, since it would have taken too much memory or time; the text says which.
    #[error("{0}")]
    Unread(String),
    /// [`Options::hash_at`] was `None`.
    #[error("no revision was given for it")]
    NotAsked,
    /// HashKV was asked at `at`, but the database ends at the earlier revision `is`.
    #[error("the database ends at revision {is}, before {at}")]
    Future {
        /// The revision that was asked for.
        at: i64,
        /// The current revision of the database.
        is: i64,
    },
    /// The database is compacted up to `file`, and the other member's answer is for the earlier compact revision
    /// `member`. An answer that the member gives after its own compaction can be compared.
    #[error("the database is compacted up to {file}, but the other member only up to {member}: asking again may help")]
    CompactedFurther {
        /// The compact revision of the database.
        file: i64,
        /// The compact revision in the member's answer.
        member: i64,
    },
    /// The database is compacted at the very revision `at` that was asked for. etcd answers with a hash that it
    /// computed before it compacted, over data that is gone (3.5.10 and later). `left` is HashKV of what is left: if
    /// it equals the answer, nothing had been removed. `member` is the compact revision in the answer.
    #[error(
        "the database is itself compacted up to {at}, and etcd's hash covers earlier data that is no longer in the \
         database"
    )]
    CompactedThere {
        /// The revision that was asked for.
        at: i64,
        /// The compact revision in the member's answer; -1 if never compacted.
        member: i64,
        /// HashKV of what is left. If it equals the answer, nothing had been removed.
        left: HashKv,
    },
    /// The database is compacted up to `file`, beyond the revision `at` that was asked for.
    #[error("the database was meanwhile compacted up to {file}, beyond revision {at} of the requested HashKV")]
    CompactedBeyond {
        /// The revision that was asked for.
        at: i64,
        /// The compact revision of the database.
        file: i64,
    },
}

/// What is known about a database without a fault.
#[derive(Debug)]
pub struct Inspection {
    /// Page size in bytes.
    pub page_bytes: u32,
    /// Size of the database in bytes, as its meta page states it. Bytes after it are ignored.
    pub bytes: u64,
    /// What the pages contain, checked from the root to every leaf. If unknown, no fault was found in the part that
    /// was checked.
    pub contents: Result<Contents, Unknown>,
    /// The most memory that the inspection used, in bytes.
    pub memory: u64,
    pub(super) hash_at: Option<i64>,
    pub(super) table: Result<HashTable, Unknown>,
    pub(super) combiner: Combiner,
}

/// What the pages of an intact database contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Bytes of the pages that are reached from the root, the meta pages and the free list.
    pub bytes_in_use: u64,
    /// Number of keys in all buckets: `totalKey` of `etcdutl snapshot status` up to 3.5.
    pub entries: u64,
    /// `hash` of `etcdutl snapshot status`: a CRC-32C over the keys and values of all buckets.
    pub status_hash: u32,
    /// `revision` of `etcdutl snapshot status`: the revision of the last key; 0 if there is none.
    pub last_revision: i64,
    /// The current revision of the key space: that of the last key, or of the last compaction if that is higher. At
    /// least 1, where etcd starts to count.
    pub revision: i64,
    /// What etcd stores about the cluster.
    pub about: About,
    /// Number of user keys that are not deleted, as an etcd started on this database counts them. `None` if the table
    /// for HashKV took too much memory.
    pub live_keys: Option<u64>,
    /// Number of keys whose newest entry is not a tombstone: `totalKey` of `etcdutl snapshot status` from 3.6 on. It
    /// counts the empty entry that a restore with a raised revision leaves behind. `None` as for `live_keys`.
    pub seen_keys: Option<u64>,
}

impl Inspection {
    /// HashKV at [`Options::hash_at`], as a member with the same data reports it (`hashByRev` in etcd's mvcc
    /// storage). `compact` is the compact revision in that member's answer; -1 if it was never compacted.
    ///
    /// # Errors
    /// [`Unknown`] if the value cannot be computed for this pair of revisions.
    pub fn hash_kv(&self, compact: i64) -> Result<HashKv, Unknown> {
        let at = self.hash_at.ok_or(Unknown::NotAsked)?;
        let contents = self.contents.as_ref().map_err(Clone::clone)?;
        let table = self.table.as_ref().map_err(Clone::clone)?;
        if at > contents.revision {
            return Err(Unknown::Future { at, is: contents.revision });
        }
        match contents.about.compacted() {
            // A compaction at this very revision removes nothing that is visible there. So what is left gives the
            // same hash if there was nothing else to remove.
            Some(file) if file > compact && file == at => {
                let left = table.hash(compact, &self.combiner);
                Err(Unknown::CompactedThere { at, member: compact, left })
            }
            Some(file) if file > at => Err(Unknown::CompactedBeyond { at, file }),
            Some(file) if file > compact => Err(Unknown::CompactedFurther { file, member: compact }),
            _ => Ok(table.hash(compact, &self.combiner)),
        }
    }
}
