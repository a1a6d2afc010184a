//! What can be wrong with a database, and where.

use crate::bolt::MetaError;

/// The data is not an etcd database, or it is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("page {page} at offset {offset}: {fault}")]
pub struct InspectError {
    /// Number of the page where the fault was noticed.
    pub page: u64,
    /// Offset in the database where the fault was noticed, in bytes: of the page, or of the element that is wrong.
    pub offset: u64,
    /// The fault itself.
    pub fault: Fault,
}

/// A fault of the database. Page numbers are offsets in the file divided by the page size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The database has `got` bytes, but its meta page states `want`.
    #[error("the database ends after {got} bytes, but its meta page says {want}")]
    Truncated {
        /// Bytes that arrived.
        got: u64,
        /// Bytes of the pages in use; if not even the meta pages are complete, the bytes of those.
        want: u64,
    },
    /// The metadata of a meta page is not valid.
    #[error("there is no valid meta page: {0}")]
    Meta(#[from] MetaError),
    /// The header of a meta page is not one that bbolt writes; the fields are what was read.
    #[error(
        "this is not a meta page: its header says page {id}, flags {flags:#06x}, {count} elements, {overflow} more \
        pages"
    )]
    MetaHeader {
        /// The page number in the header; should be 0 or 1.
        id: u64,
        /// The flags in the header; should be [`META`](crate::bolt::page::META).
        flags: u16,
        /// The number of elements; should be 0.
        count: u16,
        /// The number of further pages; should be 0.
        overflow: u32,
    },
    /// The page size is not a power of two in the accepted range; this is what was read, in bytes.
    #[error("the page size of {0} bytes is not one that bbolt uses")]
    PageSize(u32),
    /// Both meta pages are valid but contradict each other, or themselves; the text says how.
    #[error("the meta pages contradict each other: {0}")]
    Metas(&'static str),
    /// Page `parent` points at a page beyond the first `end` pages, which are all that are in use.
    #[error("page {parent} points at it, but it is beyond the {end} pages in use")]
    Beyond {
        /// The page that points at it.
        parent: u64,
        /// The number of pages in use.
        end: u64,
    },
    /// Page `parent` points at a page that is not the first page of a branch or leaf.
    #[error("page {parent} points at it, but no branch or leaf page begins there")]
    NoHead {
        /// The page that points at it.
        parent: u64,
    },
    /// Page `parent` points at a page that was already reached another way.
    #[error("page {parent} points at it, but it belongs to another page already")]
    Twice {
        /// The page that points at it the second time.
        parent: u64,
    },
    /// Page `parent` gives a first key for this page that differs from the one that the page has.
    #[error("page {parent} gives a different first key for it")]
    FirstKey {
        /// The page that points at it.
        parent: u64,
    },
    /// A page is in the free list and was reached from the root.
    #[error("the free list contains it, although it is in use")]
    FreeInUse,
    /// The meta page names a free list, but there is no valid one.
    #[error("the meta page names it as the free list, but it contains no intact one")]
    FreeList,
    /// The keys of a bucket are out of order between two leaves.
    #[error("its first key is not greater than the last key of the leaf before it")]
    Order,
    /// The tree has more levels than this limit.
    #[error("the tree is deeper than {0} pages")]
    Deep(usize),
    /// A page below a branch has no elements.
    #[error("there is an empty page inside a tree")]
    Empty,
    /// A page that must list buckets contains something else.
    #[error("it should list buckets, but does not")]
    NoBuckets,
    /// The fault lies within one page.
    #[error("{0}")]
    Page(#[from] PageFault),
    /// The pages are valid, but the bucket named `bucket` (shortened to 64 bytes) is not what etcd writes.
    #[error("bucket {bucket:?}: {fault}")]
    Bucket {
        /// Its name, shortened to 64 bytes.
        bucket: String,
        /// What is wrong with it.
        fault: BucketFault,
    },
}

/// A fault within one page, whatever points at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageFault {
    /// `count` is too large for the page.
    #[error("its elements extend past its end")]
    Elements,
    /// A key does not start where the previous content ends. bbolt leaves no gaps.
    #[error("an element's key does not directly follow what is before it")]
    Position,
    /// A key or value is longer than the rest of the page.
    #[error("an element's key or value extends past the end of the page")]
    Content,
    /// `overflow` differs from the number of pages that the content needs.
    #[error("its number of pages does not match its content")]
    Overflow,
    /// The page and its overflow reach beyond the pages in use.
    #[error("it extends past the pages in use")]
    PastEnd,
    /// The flags of a leaf element are neither 0 nor those of a bucket.
    #[error("an element has a flag that bbolt does not know")]
    Flag,
    /// A leaf contains both buckets and plain entries.
    #[error("it mixes buckets and plain entries")]
    Mixed,
    /// A key is empty, or longer than [`KEY_BYTES_MAX`](crate::bolt::KEY_BYTES_MAX).
    #[error("a key is empty or longer than bbolt allows")]
    KeySize,
    /// A key is not greater than the one before it.
    #[error("its keys are not in order")]
    Order,
    /// The value of a bucket's element is not a header that etcd can have written.
    #[error("the header of a bucket is truncated, or has a sequence number, which etcd never sets")]
    BucketHeader,
    /// A leaf of the bucket `key` has a value that is not valid for its revision.
    #[error("a value is not a valid etcd entry: {0}")]
    Value(ValueFault),
}

/// Why a value in the bucket `key` is not the `mvccpb.KeyValue` of its revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueFault {
    /// It cannot be read as protobuf, or a field has the wrong type.
    #[error("its protobuf is truncated or malformed")]
    Malformed,
    /// `mod_revision` differs from the revision in the key.
    #[error("its revision differs from that of its key")]
    Revision,
    /// `create_revision` or `version` is 0, or the key was created after this change.
    #[error("its revisions and its version contradict each other")]
    Version,
    /// The key says that it is a deletion, but the value has other fields than the user's key.
    #[error("it is a tombstone with more than a key")]
    Tombstone,
}

/// A fault of a bucket as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketFault {
    /// A bucket that etcd always creates is not there.
    #[error("etcd always creates it, but it is missing")]
    Missing,
    /// A bucket contains a bucket.
    #[error("there is a bucket inside it, which etcd never creates")]
    Nested,
    /// The page of an inline bucket is not a valid leaf.
    #[error("its page inside the list of buckets is not intact")]
    Inline,
    /// The bucket `key` contains a key that is not a revision.
    #[error("a key is not a revision")]
    NoRevision,
    /// The named value of a small bucket cannot be read.
    #[error("the value of {0} is not what etcd writes there")]
    Value(&'static str),
}
