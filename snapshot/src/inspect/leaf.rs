//! What one leaf or branch page holds, judged by itself: nothing is known yet of what points at it.

use super::fault::PageFault;
use super::items::{Children, Found, Item, Items, found};
use super::value::{KeyValue, Revision};
use crate::bolt::{BUCKET_HEADER_BYTES, BucketHeader, LEAF_IS_BUCKET, array_at};
use crate::crc::{Combiner, crc32c};

/// The CRC-32C of keys and values in their order, and how many bytes and entries they are.
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

/// An entry of the bucket `key`, if it turns out to be one.
pub struct Row<'a> {
    pub revision: Revision,
    /// The user's key.
    pub key: &'a [u8],
    /// Of the revision's key and value.
    pub sum: Sum,
}

/// A leaf whose keys all are revisions.
#[derive(Debug, Clone, Copy)]
pub struct Revisions {
    pub first: Revision,
    pub last: Revision,
    pub sum: Sum,
    /// The first value that is none of the bucket `key`: it matters if the page belongs there.
    pub value_fault: Option<Found>,
    pub end: usize,
}

/// Reads the leaf as one of revisions, and hands on its rows. `None`: it is no such leaf, and what was handed on does not
/// count.
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
    /// Its first and last key; `None` where it is empty.
    pub keys: Option<(&'a [u8], &'a [u8])>,
    /// Of all keys and values; of names and headers where these are buckets.
    pub sum: Sum,
    /// Its entries are buckets.
    pub buckets: bool,
    pub end: usize,
}

/// Reads a leaf of plain entries or of buckets, and hands on each.
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

/// The header of a bucket, as etcd can have made it: without a sequence number, and with nothing behind it unless
/// its page is inline.
pub fn bucket_header(value: &[u8]) -> Option<BucketHeader> {
    let header = BucketHeader::parse(array_at(value, 0)?);
    let fits = header.root == 0 || value.len() == BUCKET_HEADER_BYTES;
    (header.sequence == 0 && fits).then_some(header)
}

/// Reads a branch and hands on each child: its page and its key. Returns where the content ends.
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
