//! Reads one leaf or branch page by itself, before it is known what points at it.

use super::fault::PageFault;
use super::items::{Children, Found, Item, Items, found};
use super::value::{KeyValue, Revision};
use crate::bolt::{BUCKET_HEADER_BYTES, BucketHeader, LEAF_IS_BUCKET, array_at};
use crate::crc::{Combiner, crc32c};

/// CRC-32C of keys and values in order, and the number of bytes and entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    pub crc: u32,
    pub bytes: u64,
    pub entries: u64,
}

impl Sum {
    pub fn add(&mut self, combiner: &Combiner, other: Self) {
        self.crc = combiner.append(self.crc, other.crc, other.bytes);
        self.bytes += other.bytes;
        self.entries += other.entries;
    }

    pub fn of(bytes: &[u8]) -> Self {
        Self { crc: crc32c(bytes), bytes: bytes.len() as u64, entries: 0 }
    }

    fn entry(both: &[u8]) -> Self {
        Self { entries: 1, ..Self::of(both) }
    }
}

/// An entry of the bucket `key`, if the page turns out to belong to it.
pub struct Row<'a> {
    pub revision: Revision,
    /// The user's key.
    pub key: &'a [u8],
    /// Of the encoded revision and its value.
    pub sum: Sum,
}

/// A leaf whose keys are all revisions.
#[derive(Debug, Clone, Copy)]
pub struct Revisions {
    pub first: Revision,
    pub last: Revision,
    pub sum: Sum,
    /// The first value that is not valid in the bucket `key`. It matters only if the page belongs to that bucket.
    pub value_fault: Option<Found>,
    pub end: usize,
}

/// Reads the leaf as one of revisions, and passes its rows to `row`. `None` if it is not such a leaf; rows that were
/// already passed do not count then.
pub fn revisions(page: &[u8], count: u16, combiner: &Combiner, row: &mut dyn FnMut(Row<'_>)) -> Option<Revisions> {
    let mut items = Items::new(page, count);
    let mut leaf: Option<Revisions> = None;
    for item in items.by_ref() {
        let item = item.ok()?;
        let revision = Revision::parse(item.key).filter(|_| item.flags == 0)?;
        let (key, fault) = match KeyValue::of(revision, item.value) {
            Ok(value) => (value.key, None),
            Err(fault) => (&[][..], Some(Found { at: item.at, fault: PageFault::Value(fault) })),
        };
        let sum = Sum::entry(item.both);
        row(Row { revision, key, sum });
        leaf = Some(match leaf {
            None => Revisions { first: revision, last: revision, sum, value_fault: fault, end: 0 },
            Some(before) if before.last >= revision => return None,
            Some(mut leaf) => {
                leaf.sum.add(combiner, sum);
                leaf.last = revision;
                leaf.value_fault = leaf.value_fault.or(fault);
                leaf
            }
        });
    }
    leaf.map(|leaf| Revisions { end: items.end(), ..leaf })
}

/// Any other leaf.
#[derive(Debug, Clone, Copy)]
pub struct Plain<'a> {
    /// Its first and last key; `None` if it is empty.
    pub keys: Option<(&'a [u8], &'a [u8])>,
    /// Of all keys and values; if they are buckets, of their names and headers.
    pub sum: Sum,
    /// Whether its entries are buckets.
    pub buckets: bool,
    pub end: usize,
}

/// Reads a leaf of plain entries or of buckets, and passes each to `entry`.
pub fn plain<'a>(
    page: &'a [u8],
    count: u16,
    combiner: &Combiner,
    entry: &mut dyn FnMut(&Item<'a>),
) -> Result<Plain<'a>, Found> {
    let mut items = Items::new(page, count);
    let mut leaf = Plain { keys: None, sum: Sum::default(), buckets: false, end: 0 };
    for item in items.by_ref() {
        let item = item?;
        let at = item.at as usize;
        let bucket = match item.flags {
            0 => false,
            LEAF_IS_BUCKET => true,
            _ => return Err(found(at, PageFault::Flag)),
        };
        let first = match leaf.keys {
            None => item.key,
            Some(_) if bucket != leaf.buckets => return Err(found(at, PageFault::Mixed)),
            Some((_, last)) if last >= item.key => return Err(found(at, PageFault::Order)),
            Some((first, _)) => first,
        };
        if bucket && bucket_header(item.value).is_none() {
            return Err(found(at, PageFault::BucketHeader));
        }
        leaf.buckets = bucket;
        leaf.keys = Some((first, item.key));
        leaf.sum.add(combiner, Sum::entry(item.both));
        entry(&item);
    }
    Ok(Plain { end: items.end(), ..leaf })
}

/// Reads the header of a bucket. `None` if etcd cannot have written it: it has a sequence number, or something
/// follows it although the bucket is not inline.
pub fn bucket_header(value: &[u8]) -> Option<BucketHeader> {
    let header = BucketHeader::parse(array_at(value, 0)?);
    let fits = header.root == 0 || value.len() == BUCKET_HEADER_BYTES;
    (header.sequence == 0 && fits).then_some(header)
}

/// Reads a branch, and passes each child's page and key to `child`. Returns where the content ends.
pub fn branch(page: &[u8], count: u16, child: &mut dyn FnMut(u64, &[u8])) -> Result<usize, Found> {
    let mut children = Children::new(page, count);
    let mut last: Option<&[u8]> = None;
    for next in children.by_ref() {
        let next = next?;
        if last.is_some_and(|last| last >= next.key) {
            return Err(found(next.at as usize, PageFault::Order));
        }
        last = Some(next.key);
        child(next.page, next.key);
    }
    Ok(children.end())
}
