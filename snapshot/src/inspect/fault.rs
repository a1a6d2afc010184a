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
    #[error("the database ends after {got} bytes, but its meta page says {want}")]
    Truncated { got: u64, want: u64 },
    #[error("there is no valid meta page: {0}")]
    Meta(#[from] MetaError),
    #[error(
        "this is not a meta page: its header says page {id}, flags {flags:#06x}, {count} elements, {overflow} more \
        pages"
    )]
    MetaHeader { id: u64, flags: u16, count: u16, overflow: u32 },
    #[error("the page size of {0} bytes is not one that bbolt uses")]
    PageSize(u32),
    #[error("the meta pages contradict each other: {0}")]
    Metas(&'static str),
    #[error("page {parent} points at it, but it is beyond the {end} pages in use")]
    Beyond { parent: u64, end: u64 },
    #[error("page {parent} points at it, but no branch or leaf page begins there")]
    NoHead { parent: u64 },
    #[error("page {parent} points at it, but it belongs to another page already")]
    Twice { parent: u64 },
    #[error("page {parent} gives a different first key for it")]
    FirstKey { parent: u64 },
    #[error("the free list contains it, although it is in use")]
    FreeInUse,
    #[error("the meta page names it as the free list, but it contains no intact one")]
    FreeList,
    #[error("its first key is not greater than the last key of the leaf before it")]
    Order,
    #[error("the tree is deeper than {0} pages")]
    Deep(usize),
    #[error("there is an empty page inside a tree")]
    Empty,
    #[error("it should list buckets, but does not")]
    NoBuckets,
    #[error("{0}")]
    Page(#[from] PageFault),
    #[error("bucket {bucket:?}: {fault}")]
    Bucket { bucket: String, fault: BucketFault },
}

/// What is wrong inside one page, whatever points at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageFault {
    #[error("its elements extend past its end")]
    Elements,
    #[error("an element's key does not directly follow what is before it")]
    Position,
    #[error("an element's key or value extends past the end of the page")]
    Content,
    #[error("its number of pages does not match its content")]
    Overflow,
    #[error("it extends past the pages in use")]
    PastEnd,
    #[error("an element has a flag that bbolt does not know")]
    Flag,
    #[error("it mixes buckets and plain entries")]
    Mixed,
    #[error("a key is empty or longer than bbolt allows")]
    KeySize,
    #[error("its keys are not in order")]
    Order,
    #[error("the header of a bucket is truncated, or has a sequence number, which etcd never sets")]
    BucketHeader,
    #[error("a value is not a valid etcd entry: {0}")]
    Value(ValueFault),
}

/// Why the value of a revision is no `mvccpb.KeyValue` of that revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueFault {
    #[error("its protobuf is truncated or malformed")]
    Malformed,
    #[error("its revision differs from that of its key")]
    Revision,
    #[error("its revisions and its version contradict each other")]
    Version,
    #[error("it is a tombstone with more than a key")]
    Tombstone,
}

/// What is wrong with a bucket as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketFault {
    #[error("etcd always creates it, but it is missing")]
    Missing,
    #[error("there is a bucket inside it, which etcd never creates")]
    Nested,
    #[error("its page inside the list of buckets is not intact")]
    Inline,
    #[error("a key is not a revision")]
    NoRevision,
    #[error("the value of {0} is not what etcd writes there")]
    Value(&'static str),
}
