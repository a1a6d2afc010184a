//! A small record of every page that may belong to the tree, kept until the tree can be followed from its root.
//!
//! Pages arrive in the order of their numbers, not of the tree, and free pages still contain old data. So every page
//! whose header could be that of a branch or leaf is read as one, and its faults matter only if something points at
//! it.

use std::collections::{BTreeMap, BTreeSet};

use super::entries::{Entries, Slice};
use super::fault::PageFault;
use super::items::{Found, fits, found};
use super::leaf::{self, Plain, Sum};
use super::value::Revision;
use crate::bolt::{PAGE_HEADER_BYTES, PageHeader, page};
use crate::crc::{Combiner, crc32c};

/// A revision in twelve bytes, which keeps a record small.
#[derive(Debug, Clone, Copy)]
pub struct Packed {
    main: [u32; 2],
    /// The top bit marks a tombstone.
    sub: u32,
}

impl From<Revision> for Packed {
    fn from(revision: Revision) -> Self {
        let top = if revision.tombstone { 1 << 31 } else { 0 };
        Self { main: [(revision.main >> 32) as u32, revision.main as u32], sub: revision.sub | top }
    }
}

impl From<Packed> for Revision {
    fn from(packed: Packed) -> Self {
        let main = (u64::from(packed.main[0]) << 32) | u64::from(packed.main[1]);
        Self { main, sub: packed.sub & !(1 << 31), tombstone: packed.sub >> 31 == 1 }
    }
}

/// What a page contains. Indexes refer to the tables of [`Pages`].
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Bad(Found),
    /// Not read: it would have taken too much memory or time.
    Unread,
    Branch {
        children: u32,
        first_key: u32,
    },
    Revisions {
        first: Packed,
        last: Packed,
        rows: u32,
    },
    Plain {
        keys: u32,
    },
    Buckets {
        keys: u32,
    },
    Empty,
}

/// One page that may belong to the tree.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    pub page: u32,
    pub overflow: u32,
    /// CRC-32C of what the page adds to its bucket.
    crc: u32,
    bytes: u32,
    pub count: u16,
    pub kind: Kind,
}

impl Record {
    pub fn sum(&self) -> Sum {
        Sum { crc: self.crc, bytes: u64::from(self.bytes), entries: u64::from(self.count) }
    }
}

/// An element of a branch.
#[derive(Debug, Clone, Copy)]
pub struct Child {
    pub page: u32,
    /// CRC-32C of the child's first key.
    pub key: u32,
}

/// First and last key of a leaf whose keys are not revisions.
pub type Ends = (Box<[u8]>, Box<[u8]>);

/// The records, and the tables that they refer to.
#[derive(Debug, Default)]
pub struct Pages {
    /// In the order of page numbers.
    records: Vec<Record>,
    pub children: Vec<Child>,
    pub ends: Vec<Ends>,
    /// `None` once they took too much memory, or if they are not wanted.
    pub entries: Option<Entries>,
    /// Copies of the leaves whose content is needed: those that list buckets, and those with entries such as etcd
    /// writes about itself.
    kept: BTreeMap<u32, Box<[u8]>>,
    /// Values that are not valid in the bucket `key`, in leaves of revisions.
    pub value_faults: BTreeMap<u32, Found>,
    /// The leaves that may list the buckets; known once the root was read.
    wanted: Option<BTreeSet<u32>>,
    /// Bytes in `ends` and `kept`.
    boxed: u64,
}

/// Used as the page number of an inline bucket: no database that is read has so many pages.
const INLINE: u64 = u32::MAX as u64;

/// Estimated cost of an allocation besides its content, in bytes.
const BOX_BYTES: u64 = 32;

impl Pages {
    pub fn new() -> Self {
        Self { entries: Some(Entries::default()), ..Self::default() }
    }

    /// Bytes of memory that everything here takes.
    pub fn held(&self) -> u64 {
        self.held_without_entries() + self.entries.as_ref().map_or(0, Entries::held)
    }

    /// Bytes of memory that the records and their tables take, without the entries.
    pub fn held_without_entries(&self) -> u64 {
        let records = self.records.len() * size_of::<Record>() + self.children.len() * size_of::<Child>();
        let faults = self.value_faults.len() * 4 * size_of::<Found>();
        (records + faults) as u64 + self.boxed
    }

    /// Number of records: branches and leaves that arrived.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn get(&self, page: u64) -> Option<&Record> {
        let page = u32::try_from(page).ok()?;
        let index = self.records.binary_search_by_key(&page, |record| record.page).ok()?;
        self.records.get(index)
    }

    /// The content of a leaf, if it was kept.
    pub fn kept(&self, page: u32) -> Option<&[u8]> {
        self.kept.get(&page).map(Box::as_ref)
    }

    /// Reads the page at the beginning of `run`. `header` is its header, and its number is the right one.
    pub fn look(&mut self, run: &[u8], header: PageHeader, page_bytes: usize, root: u64, combiner: &Combiner) {
        let page = header.id as u32;
        let looked = if header.flags == page::BRANCH {
            self.branch(run, header)
        } else {
            self.leaf(run, header, root, combiner)
        };
        let (kind, sum) = match looked {
            Ok((end, ..)) if !fits(end, page_bytes, run.len() / page_bytes) => {
                (Kind::Bad(found(12, PageFault::Overflow)), Sum::default())
            }
            Ok((_, kind, sum)) => (kind, sum),
            Err(found) => (Kind::Bad(found), Sum::default()),
        };
        self.push(header, kind, sum);
        if header.id == root {
            self.found_root(page, kind, header.count);
        }
    }

    /// Records a page that extends beyond the pages in use.
    pub fn past_end(&mut self, header: PageHeader) {
        self.push(header, Kind::Bad(found(12, PageFault::PastEnd)), Sum::default());
    }

    /// Records a page that is not read.
    pub fn unread(&mut self, header: PageHeader) {
        self.push(header, Kind::Unread, Sum::default());
    }

    fn push(&mut self, header: PageHeader, kind: Kind, sum: Sum) {
        let (page, overflow, count) = (header.id as u32, header.overflow, header.count);
        self.records.push(Record { page, overflow, crc: sum.crc, bytes: sum.bytes as u32, count, kind });
    }

    fn branch(&mut self, run: &[u8], header: PageHeader) -> Result<(usize, Kind, Sum), Found> {
        let from = self.children.len();
        let children = &mut self.children;
        let end = leaf::branch(run, header.count, &mut |page, key| {
            // A number that does not fit is beyond every page in use, which is reported when it is followed.
            children.push(Child { page: u32::try_from(page).unwrap_or(u32::MAX), key: crc32c(key) });
        });
        let end = end.inspect_err(|_| self.children.truncate(from))?;
        let Some(first) = self.children.get(from) else { return Ok((end, Kind::Empty, Sum::default())) };
        Ok((end, Kind::Branch { children: from as u32, first_key: first.key }, Sum::default()))
    }

    fn leaf(
        &mut self,
        run: &[u8],
        header: PageHeader,
        root: u64,
        combiner: &Combiner,
    ) -> Result<(usize, Kind, Sum), Found> {
        let from = self.entries.as_ref().map_or(0, Entries::len);
        let entries = &mut self.entries;
        let looked = leaf::revisions(run, header.count, combiner, &mut |row| {
            if entries.as_mut().is_some_and(|entries| !entries.push(&row)) {
                *entries = None;
            }
        });
        if let Some(leaf) = looked {
            if let Some(fault) = leaf.value_fault {
                self.value_faults.insert(header.id as u32, fault);
            }
            let kind = Kind::Revisions { first: leaf.first.into(), last: leaf.last.into(), rows: from };
            return Ok((leaf.end, kind, leaf.sum));
        }
        if let Some(entries) = entries {
            entries.truncate(from);
        }
        self.other(run, header, root, combiner)
    }

    fn other(
        &mut self,
        run: &[u8],
        header: PageHeader,
        root: u64,
        combiner: &Combiner,
    ) -> Result<(usize, Kind, Sum), Found> {
        let mut about_etcd = false;
        let leaf = leaf::plain(run, header.count, combiner, &mut |item| {
            about_etcd |= super::about::is_about(item.key, item.value);
        })?;
        let Plain { keys, sum, buckets, end } = leaf;
        let Some((first, last)) = keys else { return Ok((end, Kind::Empty, sum)) };
        let page = header.id as u32;
        let inline = header.id == INLINE;
        let wanted = || self.wanted.as_ref().is_none_or(|wanted| wanted.contains(&page));
        if !inline && if buckets { header.id == root || wanted() } else { about_etcd } {
            self.keep(page, &run[..end]);
        }
        let keys = self.ends.len() as u32;
        self.boxed += (first.len() + last.len()) as u64 + 2 * BOX_BYTES;
        self.ends.push((first.into(), last.into()));
        Ok((end, if buckets { Kind::Buckets { keys } } else { Kind::Plain { keys } }, sum))
    }

    fn keep(&mut self, page: u32, bytes: &[u8]) {
        self.boxed += bytes.len() as u64 + BOX_BYTES;
        self.kept.insert(page, bytes.into());
    }

    /// Now that the root says where the buckets are listed, drops what was kept of other pages.
    fn found_root(&mut self, root: u32, kind: Kind, count: u16) {
        let wanted: BTreeSet<u32> = match kind {
            Kind::Branch { children, .. } => {
                let children = self.children.iter().skip(children as usize).take(usize::from(count));
                children.map(|child| child.page).collect()
            }
            _ => BTreeSet::from([root]),
        };
        let records = &self.records;
        let buckets = |page: &u32| {
            let record = records.binary_search_by_key(page, |record| record.page).ok().and_then(|i| records.get(i));
            record.is_some_and(|record| matches!(record.kind, Kind::Buckets { .. }))
        };
        let mut freed = 0;
        self.kept.retain(|page, bytes| {
            let keep = wanted.contains(page) || !buckets(page);
            freed += if keep { 0 } else { bytes.len() as u64 + BOX_BYTES };
            keep
        });
        self.boxed -= freed;
        self.wanted = Some(wanted);
    }

    /// The elements of a branch.
    pub fn children_of(&self, children: u32, count: u16) -> &[Child] {
        let from = children as usize;
        self.children.get(from..from + usize::from(count)).unwrap_or_default()
    }

    /// Reads the leaf of an inline bucket, which has no page of its own: `page` starts with its header. `None` if it
    /// is not a valid leaf, or is not exactly as long as its content.
    pub fn inline(&mut self, page: &[u8], combiner: &Combiner) -> Option<Inline> {
        let header = PageHeader::parse(page.first_chunk::<PAGE_HEADER_BYTES>()?);
        let bare = PageHeader { id: 0, flags: page::LEAF, count: header.count, overflow: 0 };
        if header != bare {
            return None;
        }
        let (end, kind, sum) = self.leaf(page, PageHeader { id: INLINE, ..header }, 0, combiner).ok()?;
        let value_fault = self.value_faults.remove(&(INLINE as u32));
        (end == page.len()).then_some(Inline { kind, sum, count: header.count, value_fault })
    }
}

/// The content of an inline bucket.
pub struct Inline {
    pub kind: Kind,
    pub sum: Sum,
    pub count: u16,
    pub value_fault: Option<Found>,
}

impl Kind {
    /// The slice of the table of entries, if this is a leaf of revisions.
    pub fn slice(&self, count: u16) -> Option<Slice> {
        match self {
            Self::Revisions { rows, .. } => Some(Slice { from: *rows, count: u32::from(count) }),
            _ => None,
        }
    }
}

const _: () = assert!(size_of::<Record>() <= 52);
