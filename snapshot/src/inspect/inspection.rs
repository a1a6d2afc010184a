//! How to look at a database, and what is known of it at the end.

use super::about::About;
use super::entries::{HashKv, HashTable};
use crate::crc::Combiner;

/// The memory that an inspection takes at most where nothing else is said: enough for the pages of 8 GiB.
pub const MEMORY_DEFAULT: u64 = 128 * 1024 * 1024;

/// How to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Bytes of memory at most.
    pub memory: u64,
    /// The revision for which HashKV will be wanted.
    pub hash_at: Option<i64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory: MEMORY_DEFAULT, hash_at: None }
    }
}

/// Something that would take more memory than is allowed, or that was not asked for: why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    #[error("it would need more than the {0} bytes of memory that inspection may use")]
    Memory(u64),
    #[error("{0}")]
    Unread(String),
    #[error("no revision was given for it")]
    NotAsked,
    #[error("the database ends at revision {is}, before {at}")]
    Future { at: i64, is: i64 },
    #[error("the database is compacted up to {file}, but the other member only up to {member}: asking again may help")]
    CompactedFurther { file: i64, member: i64 },
    /// `left` is HashKV of what is left.
    #[error(
        "the database is itself compacted up to {at}, and etcd's hash covers earlier data that is no longer in the \
         database"
    )]
    CompactedThere { at: i64, member: i64, left: HashKv },
    #[error("the database was meanwhile compacted up to {file}, beyond revision {at} of the requested HashKV")]
    CompactedBeyond { at: i64, file: i64 },
}

/// What a database is, as far as it is known.
#[derive(Debug)]
pub struct Inspection {
    /// Bytes of a page.
    pub page_bytes: u32,
    /// Bytes of the database, as its meta page says.
    pub bytes: u64,
    /// What its pages hold: checked from the root to every leaf. Unknown where that was not possible; no fault was found
    /// as far as it was.
    pub contents: Result<Contents, Unknown>,
    /// Bytes of memory that it took at the most.
    pub memory: u64,
    pub(super) hash_at: Option<i64>,
    pub(super) table: Result<HashTable, Unknown>,
    pub(super) combiner: Combiner,
}

/// What the pages of a whole database hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Bytes of the pages that are reached from the root, and of the meta pages and free list.
    pub bytes_in_use: u64,
    /// Keys of all buckets together: `totalKey` of `etcdutl snapshot status` up to 3.5.
    pub entries: u64,
    /// `hash` of `etcdutl snapshot status`.
    pub status_hash: u32,
    /// `revision` of `etcdutl snapshot status`: that of the last key; 0 where there is none.
    pub last_revision: i64,
    /// Where the key space stands: the last key's revision, or the compaction's where that is higher.
    pub revision: i64,
    pub about: About,
    /// User keys that are not deleted: as many as etcd counts that is started on it.
    pub live_keys: Option<u64>,
    /// Keys whose newest entry is no tombstone: `totalKey` of `etcdutl snapshot status` from 3.6 on, which takes the entry of
    /// a jump for one.
    pub seen_keys: Option<u64>,
}

impl Inspection {
    /// HashKV at the revision that was given at the start, as a member with the same data says it whose compact
    /// revision, in that very answer, is `compact` (-1: never compacted).
    ///
    /// # Errors
    /// It cannot be said, and why.
    pub fn hash_kv(&self, compact: i64) -> Result<HashKv, Unknown> {
        let at = self.hash_at.ok_or(Unknown::NotAsked)?;
        let contents = self.contents.as_ref().map_err(Clone::clone)?;
        let table = self.table.as_ref().map_err(Clone::clone)?;
        if at > contents.revision {
            return Err(Unknown::Future { at, is: contents.revision });
        }
        match contents.about.compacted() {
            // A compaction at the very revision takes nothing of what is kept there: what is left says the same where there
            // was nothing else to take.
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
