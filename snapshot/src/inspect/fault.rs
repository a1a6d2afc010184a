//! What can be wrong with a database, and where.

use crate::bolt::MetaError;

/// A database that is not one, or is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("page {page} at offset {offset}: {fault}")]
pub struct InspectError {
    /// The page where it was noticed.
    pub page: u64,
    /// The byte of the database where it was noticed: the page's first, or the very element's.
    pub offset: u64,
    pub fault: Fault,
}

/// What is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the database ends after {got} bytes, its meta page says {want}")]
    Truncated { got: u64, want: u64 },
    #[error("no meta page: {0}")]
    Meta(#[from] MetaError),
    #[error("no meta page: its header says page {id}, flags {flags:#06x}, {count} elements, {overflow} pages more")]
    MetaHeader { id: u64, flags: u16, count: u16, overflow: u32 },
    #[error("a page size of {0} bytes, which is no power of two that bbolt uses")]
    PageSize(u32),
    #[error("the meta pages contradict each other: {0}")]
    Metas(&'static str),
    #[error("page {parent} points at it, but it is beyond the {end} pages in use")]
    Beyond { parent: u64, end: u64 },
    #[error("page {parent} points at it, but no branch or leaf page begins there")]
    NoHead { parent: u64 },
    #[error("page {parent} points at it, but it belongs to another page already")]
    Twice { parent: u64 },
    #[error("page {parent} gives it another first key than it has")]
    FirstKey { parent: u64 },
    #[error("the free list names it, though it is in use")]
    FreeInUse,
    #[error("the meta page names it as the free list, but it holds none that is whole")]
    FreeList,
    #[error("its first key is not above the last key of the leaf before it")]
    Order,
    #[error("the tree is deeper than {0} pages")]
    Deep(usize),
    #[error("an empty page inside a tree")]
    Empty,
    #[error("it should list buckets and does not")]
    NoBuckets,
    #[error("{0}")]
    Page(#[from] PageFault),
    #[error("bucket {bucket:?}: {fault}")]
    Bucket { bucket: String, fault: BucketFault },
}

/// What is wrong inside one page, whatever points at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageFault {
    #[error("its elements reach past its end")]
    Elements,
    #[error("an element's key does not stand directly behind what is before it")]
    Position,
    #[error("an element's key or value reaches past the page's end")]
    Content,
    #[error("it claims another number of pages than its content takes")]
    Overflow,
    #[error("it reaches past the pages in use")]
    PastEnd,
    #[error("an element with a flag that bbolt does not know")]
    Flag,
    #[error("buckets and plain entries beside each other")]
    Mixed,
    #[error("a key that is empty or longer than bbolt allows")]
    KeySize,
    #[error("its keys are not in order")]
    Order,
    #[error("a bucket's header that is cut off, or has a sequence number, which etcd never sets")]
    BucketHeader,
    #[error("a value that is no entry of etcd's: {0}")]
    Value(ValueFault),
}

/// Why the value of a revision is no `mvccpb.KeyValue` of that revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueFault {
    #[error("its protobuf is cut off or malformed")]
    Malformed,
    #[error("it says another revision than its key")]
    Revision,
    #[error("its revisions and its version contradict each other")]
    Version,
    #[error("a tombstone that holds more than a key")]
    Tombstone,
}

/// What is wrong with a bucket as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketFault {
    #[error("etcd made it, and it is not there")]
    Missing,
    #[error("a bucket inside it, which etcd never makes")]
    Nested,
    #[error("its page inside the list of buckets is not whole")]
    Inline,
    #[error("a key that is no revision")]
    NoRevision,
    #[error("the value of {0} is not what etcd writes there")]
    Value(&'static str),
}
