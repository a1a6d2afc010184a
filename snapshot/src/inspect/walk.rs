//! The final check: follows the records from the root, and reaches each page exactly once.

use super::about::About;
use super::entries::{self, Slice};
use super::fault::{BucketFault, Fault, InspectError};
use super::items::{Found, Items};
use super::leaf::{Sum, bucket_header};
use super::pages::{Kind, Pages, Record};
use super::value::Revision;
use crate::bolt::{BUCKET_HEADER_BYTES, Meta, PAGE_HEADER_BYTES, PageHeader};
use crate::crc::{Combiner, crc32c};

/// How many bytes of a bucket's name an error shows.
const NAME_SHOWN: usize = 64;

/// Limit for the levels of a tree. Real databases have four or five.
const DEPTH_MAX: usize = 64;

/// Buckets without which this is not an etcd database.
const NEEDED: [&str; 2] = ["key", "meta"];

/// The buckets that etcd 3.4 to 3.6 create when they start. Other releases may have more or fewer. But if one is
/// missing and there is another whose name differs in one byte, then that name was damaged.
const KNOWN: [&str; 10] =
    ["key", "meta", "lease", "alarm", "auth", "authRoles", "authUsers", "cluster", "members", "members_removed"];

/// Why the walk ended early.
pub enum Halt {
    Error(InspectError),
    /// Something that is needed was not kept; says what.
    Unknown(String),
}

impl From<InspectError> for Halt {
    fn from(error: InspectError) -> Self {
        Self::Error(error)
    }
}

/// What the walk found.
#[derive(Debug, Default)]
pub struct Walked {
    /// Number of pages reached, meta pages and free list included.
    pub pages: u64,
    /// The sum as `snapshot status` computes it.
    pub sum: Sum,
    /// The last key of the bucket `key`.
    pub last: Option<Revision>,
    pub about: About,
    /// The leaves of the bucket `key`, in order.
    pub leaves: Vec<Slice>,
}

/// Bytes of memory that a walk needs in addition to what is kept.
pub fn needs(meta: &Meta, leaves: usize) -> u64 {
    meta.end / 8 + (leaves * size_of::<Slice>()) as u64
}

/// Walks the whole tree. `free` is the free list, if the file has one.
pub fn walk(meta: &Meta, pages: &mut Pages, free: Option<&FreeList>, combiner: &Combiner) -> Result<Walked, Halt> {
    let mut reached = ReachedPages::new(meta);
    reached.take(0, 2, 0)?;
    if let Some(list) = free {
        reached.take(meta.freelist, u64::from(list.overflow) + 1, 0)?;
    }
    let mut buckets = Vec::new();
    Tree { pages, reached: &mut reached, combiner }.buckets(meta.root.root, &mut buckets)?;
    // If the list of buckets is incomplete, some would be missed.
    reached.all_read()?;
    let mut walked = Walked::default();
    for bucket in &buckets {
        walked.sum.add(combiner, entries::name(&bucket.name));
        Bucket { name: &bucket.name, at: bucket.at, walked: &mut walked, last: None }.read(
            &bucket.value,
            pages,
            &mut reached,
            combiner,
        )?;
    }
    for known in KNOWN {
        if is_lost(known, &buckets) {
            let fault = Fault::Bucket { bucket: known.to_owned(), fault: BucketFault::Missing };
            return Err(reached.error(meta.root.root, 0, fault).into());
        }
    }
    for page in free.map(|list| list.pages.as_slice()).unwrap_or_default() {
        if reached.is(*page) {
            return Err(reached.error(*page, 0, Fault::FreeInUse).into());
        }
    }
    reached.all_read()?;
    walked.pages = reached.pages;
    Ok(walked)
}

/// Whether a bucket that etcd created is missing because its name was damaged.
fn is_lost(known: &str, buckets: &[Listed]) -> bool {
    let differs_in = |name: &[u8]| name.iter().zip(known.as_bytes()).filter(|(a, b)| a != b).count();
    let near = |name: &[u8], most| name.len() == known.len() && differs_in(name) <= most;
    let lacks = !buckets.iter().any(|bucket| near(&bucket.name, 0));
    lacks && (NEEDED.contains(&known) || buckets.iter().any(|bucket| near(&bucket.name, 1)))
}

/// The pages listed in the free list.
#[derive(Debug, Default)]
pub struct FreeList {
    pub overflow: u32,
    pub pages: Vec<u64>,
}

/// Which pages were reached.
struct ReachedPages {
    bits: Vec<u64>,
    end: u64,
    page_bytes: u64,
    pages: u64,
    /// The first page that was reached but not read.
    unread: Option<u64>,
}

impl ReachedPages {
    fn new(meta: &Meta) -> Self {
        // Only pages that arrived are inspected, so `end` is not more than their number.
        let words = meta.end.div_ceil(64) as usize;
        Self { bits: vec![0; words], end: meta.end, page_bytes: u64::from(meta.page_bytes), pages: 0, unread: None }
    }

    /// Fails if a page that was reached was not read.
    fn all_read(&self) -> Result<(), Halt> {
        match self.unread {
            Some(page) => Err(Halt::Unknown(format!(
                "page {page} is too large to be inspected: with its related data it needs more than half of the memory \
                 that inspection may use, or more than is left of it"
            ))),
            None => Ok(()),
        }
    }

    fn is(&self, page: u64) -> bool {
        page < self.end && self.bits[(page / 64) as usize] >> (page % 64) & 1 == 1
    }

    fn take(&mut self, page: u64, count: u64, parent: u64) -> Result<(), InspectError> {
        if page.checked_add(count).is_none_or(|end| end > self.end) {
            return Err(self.error(page, 0, Fault::Beyond { parent, end: self.end }));
        }
        for page in page..page + count {
            if self.is(page) {
                return Err(self.error(page, 0, Fault::Twice { parent }));
            }
            self.bits[(page / 64) as usize] |= 1 << (page % 64);
        }
        self.pages += count;
        Ok(())
    }

    fn error(&self, page: u64, at: u32, fault: Fault) -> InspectError {
        InspectError { page, offset: page.saturating_mul(self.page_bytes).saturating_add(u64::from(at)), fault }
    }
}

/// A tree of pages on the way to its leaves.
struct Tree<'a> {
    pages: &'a Pages,
    reached: &'a mut ReachedPages,
    combiner: &'a Combiner,
}

/// A bucket in the list of buckets.
struct Listed {
    name: Box<[u8]>,
    /// Its header, and the page if it is inline.
    value: Box<[u8]>,
    /// Where it is listed: page and offset within the page.
    at: (u32, u32),
}

impl Tree<'_> {
    /// Follows `page`, and passes on its leaves in order.
    fn follow(
        &mut self,
        page: u64,
        from: Pointer,
        depth: usize,
        leaf: &mut dyn FnMut(&Self, &Record) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        let Pointer { parent, key } = from;
        if depth == DEPTH_MAX {
            return Err(self.reached.error(page, 0, Fault::Deep(DEPTH_MAX)).into());
        }
        if page >= self.reached.end {
            return Err(self.reached.error(page, 0, Fault::Beyond { parent, end: self.reached.end }).into());
        }
        let pages = self.pages;
        let Some(record) = pages.get(page) else {
            return Err(self.reached.error(page, 0, Fault::NoHead { parent }).into());
        };
        self.reached.take(page, u64::from(record.overflow) + 1, parent)?;
        let own = match record.kind {
            Kind::Bad(Found { at, fault }) => return Err(self.reached.error(page, at, fault.into()).into()),
            // Faults elsewhere are still to be found.
            Kind::Unread => {
                self.reached.unread.get_or_insert(page);
                return Ok(());
            }
            Kind::Empty => return Err(self.reached.error(page, 0, Fault::Empty).into()),
            Kind::Branch { first_key, .. } => first_key,
            Kind::Revisions { first, .. } => {
                let (bytes, length) = Revision::from(first).to_bytes();
                crc32c(&bytes[..length])
            }
            Kind::Plain { keys } | Kind::Buckets { keys } => crc32c(&pages.ends[keys as usize].0),
        };
        if key.is_some_and(|key| key != own) {
            return Err(self.reached.error(page, 0, Fault::FirstKey { parent }).into());
        }
        let Kind::Branch { children, .. } = record.kind else { return leaf(self, record) };
        for child in pages.children_of(children, record.count) {
            self.follow(u64::from(child.page), Pointer { parent: page, key: Some(child.key) }, depth + 1, leaf)?;
        }
        Ok(())
    }

    /// Collects the buckets below the root.
    fn buckets(&mut self, root: u64, out: &mut Vec<Listed>) -> Result<(), Halt> {
        let mut last: Option<Box<[u8]>> = None;
        self.follow(root, Pointer { parent: 0, key: None }, 0, &mut |tree, record| {
            let page = u64::from(record.page);
            let Kind::Buckets { keys } = record.kind else {
                return Err(tree.reached.error(page, 0, Fault::NoBuckets).into());
            };
            let (first, end) = &tree.pages.ends[keys as usize];
            if last.as_ref().is_some_and(|last| last >= first) {
                return Err(tree.reached.error(page, 0, Fault::Order).into());
            }
            last = Some(end.clone());
            let Some(bytes) = tree.pages.kept(record.page) else {
                return Err(Halt::Unknown(format!("page {page} lists buckets, but was not kept in memory")));
            };
            for item in Items::new(bytes, record.count).flatten() {
                out.push(Listed { name: item.key.into(), value: item.value.into(), at: (record.page, item.at) });
            }
            Ok(())
        })
    }
}

/// What points at a page, and the first key that it states for that page.
#[derive(Clone, Copy)]
struct Pointer {
    parent: u64,
    key: Option<u32>,
}

/// A bucket on the way through its leaves.
struct Bucket<'a> {
    name: &'a [u8],
    at: (u32, u32),
    walked: &'a mut Walked,
    /// The last key so far.
    last: Option<Last>,
}

enum Last {
    Revision(Revision),
    Bytes(Box<[u8]>),
}

impl Last {
    fn below(&self, first: &Self) -> bool {
        match (self, first) {
            (Self::Revision(last), Self::Revision(first)) => last < first,
            _ => self.bytes() < first.bytes(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Revision(revision) => {
                let (bytes, length) = revision.to_bytes();
                bytes[..length].to_vec()
            }
            Self::Bytes(bytes) => bytes.to_vec(),
        }
    }
}

impl Bucket<'_> {
    fn read(
        &mut self,
        value: &[u8],
        pages: &mut Pages,
        reached: &mut ReachedPages,
        combiner: &Combiner,
    ) -> Result<(), Halt> {
        let Some(header) = bucket_header(value) else {
            return Err(self.fault(reached, BucketFault::Inline).into());
        };
        if header.root == 0 {
            return self.inline(&value[BUCKET_HEADER_BYTES..], pages, reached, combiner);
        }
        let from = Pointer { parent: u64::from(self.at.0), key: None };
        Tree { pages, reached, combiner }.follow(header.root, from, 0, &mut |tree, record| {
            if let Some(found) = tree.pages.value_faults.get(&record.page).filter(|_| self.name == b"key") {
                return Err(tree.reached.error(u64::from(record.page), found.at, found.fault.into()).into());
            }
            let leaf = Leaf { page: record.page, at: 0, kind: record.kind, count: record.count, sum: record.sum() };
            self.leaf(leaf, tree.pages, tree.pages.kept(record.page), tree.reached, tree.combiner)
        })
    }

    fn inline(
        &mut self,
        page: &[u8],
        pages: &mut Pages,
        reached: &ReachedPages,
        combiner: &Combiner,
    ) -> Result<(), Halt> {
        let Some(inline) = pages.inline(page, combiner) else {
            return Err(self.fault(reached, BucketFault::Inline).into());
        };
        if let Some(found) = inline.value_fault.filter(|_| self.name == b"key") {
            return Err(reached.error(u64::from(self.at.0), self.at.1, found.fault.into()).into());
        }
        let leaf = Leaf { page: self.at.0, at: self.at.1, kind: inline.kind, count: inline.count, sum: inline.sum };
        self.leaf(leaf, pages, Some(page), reached, combiner)
    }

    fn leaf(
        &mut self,
        leaf: Leaf,
        pages: &Pages,
        bytes: Option<&[u8]>,
        reached: &ReachedPages,
        combiner: &Combiner,
    ) -> Result<(), Halt> {
        let (first, last) = match leaf.kind {
            Kind::Revisions { first, last, .. } => (Last::Revision(first.into()), Last::Revision(last.into())),
            Kind::Plain { keys } => {
                let (first, last) = &pages.ends[keys as usize];
                (Last::Bytes(first.clone()), Last::Bytes(last.clone()))
            }
            Kind::Buckets { .. } => return Err(self.fault(reached, BucketFault::Nested).into()),
            // Only an inline bucket can be empty here: empty pages ended the walk.
            _ => return Ok(()),
        };
        if self.last.as_ref().is_some_and(|before| !before.below(&first)) {
            return Err(reached.error(u64::from(leaf.page), leaf.at, Fault::Order).into());
        }
        self.walked.sum.add(combiner, leaf.sum);
        if self.name == b"key" {
            let (Last::Revision(revision), Some(slice)) = (&last, leaf.kind.slice(leaf.count)) else {
                return Err(self.fault_at(reached, leaf.page, leaf.at, BucketFault::NoRevision).into());
            };
            self.walked.last = Some(*revision);
            self.walked.leaves.push(slice);
        } else if let Some(bytes) = bytes {
            self.about(bytes, leaf.page, reached)?;
        }
        self.last = Some(last);
        Ok(())
    }

    /// Reads what etcd stores about itself from the content of a leaf.
    fn about(&mut self, page: &[u8], number: u32, reached: &ReachedPages) -> Result<(), Halt> {
        let Some(header) = page.first_chunk::<PAGE_HEADER_BYTES>().map(PageHeader::parse) else { return Ok(()) };
        for item in Items::new(page, header.count).flatten() {
            if let Err(fault) = self.walked.about.entry(self.name, item.key, item.value) {
                return Err(self.fault_at(reached, number, 0, fault).into());
            }
        }
        Ok(())
    }

    fn fault(&self, reached: &ReachedPages, fault: BucketFault) -> InspectError {
        self.fault_at(reached, self.at.0, self.at.1, fault)
    }

    fn fault_at(&self, reached: &ReachedPages, page: u32, at: u32, fault: BucketFault) -> InspectError {
        // A damaged length can make the name long.
        let bucket = String::from_utf8_lossy(&self.name[..self.name.len().min(NAME_SHOWN)]).into_owned();
        reached.error(u64::from(page), at, Fault::Bucket { bucket, fault })
    }
}

/// A leaf of a bucket, in a page of its own or inline.
struct Leaf {
    page: u32,
    at: u32,
    kind: Kind,
    count: u16,
    sum: Sum,
}
