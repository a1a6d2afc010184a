//! One look at a database as it streams by: whether its pages hang together, what it holds, and which HashKV a
//! member with the same data must say. Nothing is staged; no IO; any bytes are an answer, never a panic.
//!
//! - `cut`: pieces of the stream become runs of pages;
//! - `items`, `leaf`, `value`: one page by itself, and the values of the bucket `key`;
//! - `pages`: a small record of each page that could be one of the tree;
//! - `walk`: at the end, from the root along the records;
//! - `entries`: the table for HashKV; `about`: what etcd keeps about itself.
//!
//! Memory: about 60 bytes per page of the tree and 24 per entry of the bucket `key`, under a cap. Past it nothing fails: what
//! could not be kept is not known, and the inspection says so.

use std::fmt;

use crate::crc::Combiner;

mod about;
mod cut;
mod entries;
mod fault;
mod items;
mod leaf;
mod pages;
mod stage;
mod value;
mod walk;

pub use about::{About, Member};
pub use entries::HashKv;
pub use fault::{BucketFault, Fault, InspectError, PageFault, ValueFault};
pub use value::{KeyValue, Revision};

use cut::Cutter;
use entries::HashTable;
use stage::Stage;

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
    #[error("it would take more than the {0} bytes of memory that inspection may use")]
    Memory(u64),
    #[error("{0}")]
    Unread(String),
    #[error("no revision was given to say it for")]
    NotAsked,
    #[error("the database ends at revision {is}, before {at}")]
    Future { at: i64, is: i64 },
    #[error("the database is compacted up to {file}, the other member only up to {member}: asking again may help")]
    CompactedFurther { file: i64, member: i64 },
    /// `left` is HashKV of what is left.
    #[error(
        "the database is compacted up to {at} itself, and etcd answers for what there was before that: it is gone from the database"
    )]
    CompactedThere { at: i64, member: i64, left: HashKv },
    #[error("the database was compacted up to {file} meanwhile, beyond {at}, for which HashKV was asked")]
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
    hash_at: Option<i64>,
    table: Result<HashTable, Unknown>,
    combiner: Combiner,
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

/// A look at a database in progress. [`update`](Self::update) with its bytes in order, then [`finish`](Self::finish).
pub struct Inspector {
    cutter: Cutter,
    stage: Stage,
    bytes: u64,
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Inspector {
    pub fn new(options: Options) -> Self {
        Self { cutter: Cutter::default(), stage: Stage::new(options), bytes: 0 }
    }

    /// Takes the next bytes of the database, cut anywhere (multiples of the page size cost the least). Not the trailer.
    ///
    /// # Errors
    /// The meta pages are none. What is wrong with the others shows at the end.
    pub fn update(&mut self, piece: &[u8]) -> Result<(), InspectError> {
        self.bytes += piece.len() as u64;
        self.cutter.feed(piece, &mut self.stage);
        self.stage.check()
    }

    /// Judges the whole.
    ///
    /// # Errors
    /// It is no whole database of etcd's: the first fault on the way from the root.
    pub fn finish(self) -> Result<Inspection, InspectError> {
        drop(self.cutter);
        self.stage.finish(self.bytes)
    }
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
