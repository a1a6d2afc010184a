//! The one commit that turns a database into the new cluster's. Like bbolt's own commits, it changes no page that is
//! in use. Pages that differ are written again behind all others, up to a new root, and then the meta pages name that
//! root. No free list is written: etcd finds the free pages when it opens the file.
//!
//! Both meta pages name the new root. If only one did, damage to it would silently bring the old members back.

use super::error::RestoreError;
use super::membership::{Membership, TERM};
use super::options::Options;
use super::pages::{Bucket, LeafEntry, Page, PageError, Pages, Source};
use crate::bolt::{
    self, BUCKET_HEADER_BYTES, BranchElement, BucketHeader, ELEMENT_BYTES, LEAF_IS_BUCKET, LeafElement, META_BYTES,
    Meta, NO_FREELIST, PAGE_HEADER_BYTES, PageHeader, array_at,
};

/// Limit for a bucket that is rewritten as a whole, in bytes. The largest of them are the members and the root.
const SMALL_MAX: usize = 16 * 1024 * 1024;

/// Length of an encoded revision in bytes: main, `_`, sub.
const REVISION_BYTES: usize = 17;

/// What the new cluster is to be.
pub(super) struct Changes<'a> {
    pub(super) membership: &'a Membership,
    pub(super) options: &'a Options,
}

/// What to write, in order.
#[derive(Debug)]
pub(super) struct Commit {
    /// Offset in the file, and the bytes to write there.
    pub(super) writes: Vec<(u64, Vec<u8>)>,
    /// Length of the file afterwards, in bytes.
    pub(super) bytes: u64,
    pub(super) outcome: Outcome,
}

/// What the commit found and changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) revision_before: i64,
    pub(super) revision_after: i64,
    pub(super) alarms: usize,
    pub(super) auth_enabled: bool,
    pub(super) storage_version: Option<String>,
}

/// Computes the commit.
///
/// # Errors
/// The pages that it needs are damaged, or are not those of an etcd database.
pub(super) fn make<S: Source + ?Sized>(pages: &Pages<'_, S>, changes: &Changes<'_>) -> Result<Commit, RestoreError> {
    let root = collect(pages, &Bucket::Tree(pages.meta.root.root))?;
    let mut draft = Draft { pages, root, tail: Tail::new(&pages.meta) };
    let outcome = draft.apply(changes)?;
    let Draft { root, mut tail, .. } = draft;
    let new_root = tail.leaf(&root)?;
    let meta = Meta {
        root: BucketHeader { root: new_root, sequence: pages.meta.root.sequence },
        freelist: NO_FREELIST,
        end: tail.next,
        // Only a file that etcd did not write can be at the end of the numbers.
        txid: pages.meta.txid.max(1).saturating_add(1),
        ..pages.meta
    };
    let size = pages.page_bytes();
    let bytes = meta.end * size;
    let mut writes = vec![(pages.meta.end * size, tail.bytes)];
    for meta in [meta, Meta { txid: meta.txid - 1, ..meta }] {
        let page = meta.txid % 2;
        writes.push((page * size, meta_page(page, &meta)));
    }
    Ok(Commit { writes, bytes, outcome })
}

/// The database with its changes so far.
struct Draft<'a, S: Source + ?Sized> {
    pages: &'a Pages<'a, S>,
    /// The bucket that contains all buckets.
    root: Vec<LeafEntry>,
    tail: Tail,
}

impl<S: Source + ?Sized> Draft<'_, S> {
    fn apply(&mut self, changes: &Changes<'_>) -> Result<Outcome, RestoreError> {
        let (membership, options) = (changes.membership, changes.options);
        let mut meta = self.small("meta")?.ok_or(RestoreError::NoBucket("meta"))?;
        let revision_before = self.latest(&meta)?;
        let revision_after = match options.bump {
            None | Some(0) => revision_before,
            Some(bump) => self.jump(revision_before, bump)?,
        };
        if options.mark_compacted && revision_after != revision_before {
            put(&mut meta, "scheduledCompactRev", revision_key(revision_after).to_vec());
        }
        put(&mut meta, "consistent_index", membership.index().to_be_bytes().to_vec());
        put(&mut meta, "term", TERM.to_be_bytes().to_vec());
        put(&mut meta, "confState", voters(membership).into_bytes());
        self.store("meta", &meta)?;

        let mut members = Vec::new();
        for member in &membership.members {
            put(&mut members, &format!("{:x}", member.id), member.to_json().into_bytes());
        }
        self.store("members", &members)?;
        self.store("members_removed", &[])?;
        if options.remove_alarms {
            self.store("alarm", &[])?;
        }
        if options.remove_auth {
            ["auth", "authUsers", "authRoles"].into_iter().try_for_each(|name| self.store(name, &[]))?;
        }
        let alarms = self.small("alarm")?.unwrap_or_default().len();
        let auth = self.small("auth")?.unwrap_or_default();
        let auth_enabled = auth.iter().any(|entry| entry.key == b"authEnabled" && entry.value == [1]);
        let mark = meta.iter().find(|entry| entry.key == b"storageVersion");
        let storage_version = mark.map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
        Ok(Outcome { revision_before, revision_after, alarms, auth_enabled, storage_version })
    }

    fn bucket(&self, name: &str) -> Result<Option<Bucket>, PageError> {
        let entry = self.root.iter().find(|entry| entry.key == name.as_bytes());
        entry.map(Bucket::of).transpose()
    }

    /// All entries of a bucket, which is small. What this commit wrote is not read again.
    fn small(&self, name: &str) -> Result<Option<Vec<LeafEntry>>, PageError> {
        self.bucket(name)?.map(|bucket| collect(self.pages, &bucket)).transpose()
    }

    /// The revision from which etcd would continue. A compaction may have removed the last keys.
    fn latest(&self, meta: &[LeafEntry]) -> Result<i64, RestoreError> {
        let bucket = self.bucket("key")?.ok_or(RestoreError::NoBucket("key"))?;
        let edge = self.pages.right_edge(&bucket)?;
        let leaf = edge.last().expect("it ends in a leaf");
        let last = match leaf.count().checked_sub(1) {
            Some(last) => main_revision(&leaf.leaf(last)?.key)
                .ok_or(PageError::Page { page: leaf.header.id, what: "the last key is not a revision" })?,
            // etcd counts from 1.
            None => 1,
        };
        let compacted = ["finishedCompactRev", "scheduledCompactRev"];
        let compacted = compacted.iter().filter_map(|name| meta.iter().find(|entry| entry.key == name.as_bytes()));
        Ok(compacted.filter_map(|entry| main_revision(&entry.value)).fold(last, i64::max))
    }

    /// Adds an empty entry at the raised revision, as `etcdutl snapshot restore --bump-revision` does.
    fn jump(&mut self, revision: i64, bump: u64) -> Result<i64, RestoreError> {
        let beyond = RestoreError::Bump { revision, bump };
        // Leaves room for later writes: half of the range.
        let to = revision.checked_add_unsigned(bump).filter(|to| *to <= i64::MAX / 2).ok_or(beyond)?;
        let bucket = self.bucket("key")?.ok_or(RestoreError::NoBucket("key"))?;
        let mut edge = self.pages.right_edge(&bucket)?;
        let leaf = edge.pop().expect("it ends in a leaf");
        let mut entries = leaf.entries()?;
        entries.push(LeafEntry { flags: 0, key: revision_key(to).to_vec(), value: Vec::new() });
        let mut child = self.tail.leaf(&entries)?;
        while let Some(parent) = edge.pop() {
            child = self.tail.branch_with_last(&parent, child)?;
        }
        self.point("key", child);
        Ok(to)
    }

    /// Writes a bucket again: as one leaf, or inline if it is empty.
    fn store(&mut self, name: &str, entries: &[LeafEntry]) -> Result<(), RestoreError> {
        if entries.is_empty() {
            let empty = PageHeader { flags: bolt::page::LEAF, ..PageHeader::default() };
            let value = [BucketHeader::default().to_bytes(), empty.to_bytes()].concat();
            put(&mut self.root, name, value);
            self.mark_bucket(name);
        } else {
            let root = self.tail.leaf(entries)?;
            self.point(name, root);
        }
        Ok(())
    }

    /// Makes `root` the bucket's root page. Its sequence, which etcd does not use, is kept.
    fn point(&mut self, name: &str, root: u64) {
        let old = self.root.iter().find(|entry| entry.key == name.as_bytes());
        let old = old.and_then(|entry| array_at::<BUCKET_HEADER_BYTES>(&entry.value, 0)).map(BucketHeader::parse);
        let header = BucketHeader { root, sequence: old.unwrap_or_default().sequence };
        put(&mut self.root, name, header.to_bytes().to_vec());
        self.mark_bucket(name);
    }

    fn mark_bucket(&mut self, name: &str) {
        if let Some(entry) = self.root.iter_mut().find(|entry| entry.key == name.as_bytes()) {
            entry.flags = LEAF_IS_BUCKET;
        }
    }
}

/// The pages behind all existing ones.
struct Tail {
    page_bytes: usize,
    /// Number of the next page.
    next: u64,
    bytes: Vec<u8>,
}

impl Tail {
    fn new(meta: &Meta) -> Self {
        Self { page_bytes: meta.page_bytes as usize, next: meta.end, bytes: Vec::new() }
    }

    fn leaf(&mut self, entries: &[LeafEntry]) -> Result<u64, PageError> {
        let page = leaf_page(self.next, self.page_bytes, entries)?;
        Ok(self.push(page))
    }

    /// The branch as it was, with another last child.
    fn branch_with_last(&mut self, branch: &Page, child: u64) -> Result<u64, PageError> {
        let mut children = branch.children()?;
        if let Some(last) = children.last_mut() {
            last.child = child;
        }
        let children: Vec<(&[u8], u64)> = children.iter().map(|c| (&c.key[..], c.child)).collect();
        let page = branch_page(self.next, self.page_bytes, &children)?;
        Ok(self.push(page))
    }

    fn push(&mut self, page: Vec<u8>) -> u64 {
        let id = self.next;
        self.next += (page.len() / self.page_bytes) as u64;
        self.bytes.extend_from_slice(&page);
        id
    }
}

/// A leaf page with all its overflow. A leaf that is larger than a page is valid.
pub(super) fn leaf_page(id: u64, page_bytes: usize, entries: &[LeafEntry]) -> Result<Vec<u8>, PageError> {
    let mut at = PAGE_HEADER_BYTES + entries.len() * ELEMENT_BYTES;
    let mut elements = Vec::with_capacity(entries.len() * ELEMENT_BYTES);
    for (index, entry) in entries.iter().enumerate() {
        let leaf = LeafElement {
            flags: entry.flags,
            position: (at - PAGE_HEADER_BYTES - index * ELEMENT_BYTES) as u32,
            key_bytes: entry.key.len() as u32,
            value_bytes: entry.value.len() as u32,
        };
        elements.extend_from_slice(&leaf.to_bytes());
        at += entry.key.len() + entry.value.len();
    }
    let data = entries.iter().flat_map(|entry| [&entry.key[..], &entry.value[..]]);
    page(id, bolt::page::LEAF, page_bytes, entries.len(), elements, data)
}

/// A branch page of first keys and child pages.
pub(super) fn branch_page(id: u64, page_bytes: usize, children: &[(&[u8], u64)]) -> Result<Vec<u8>, PageError> {
    let mut at = PAGE_HEADER_BYTES + children.len() * ELEMENT_BYTES;
    let mut elements = Vec::with_capacity(children.len() * ELEMENT_BYTES);
    for (index, (key, child)) in children.iter().enumerate() {
        let position = (at - PAGE_HEADER_BYTES - index * ELEMENT_BYTES) as u32;
        let branch = BranchElement { position, key_bytes: key.len() as u32, child: *child };
        elements.extend_from_slice(&branch.to_bytes());
        at += key.len();
    }
    page(id, bolt::page::BRANCH, page_bytes, children.len(), elements, children.iter().map(|(key, _)| *key))
}

fn page<'a>(
    id: u64,
    flags: u16,
    page_bytes: usize,
    count: usize,
    elements: Vec<u8>,
    data: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, PageError> {
    let too_many = PageError::Page { page: id, what: "more elements than a page can have" };
    let count = u16::try_from(count).map_err(|_| too_many)?;
    let mut page = vec![0; PAGE_HEADER_BYTES];
    page.extend(elements);
    data.for_each(|bytes| page.extend_from_slice(bytes));
    page.resize(page.len().next_multiple_of(page_bytes), 0);
    let overflow = (page.len() / page_bytes - 1) as u32;
    page[..PAGE_HEADER_BYTES].copy_from_slice(&PageHeader { id, flags, count, overflow }.to_bytes());
    Ok(page)
}

/// Header and metadata of page 0 or 1.
pub(super) fn meta_page(id: u64, meta: &Meta) -> Vec<u8> {
    let header = PageHeader { id, flags: bolt::page::META, ..PageHeader::default() };
    let mut page = Vec::with_capacity(PAGE_HEADER_BYTES + META_BYTES);
    page.extend_from_slice(&header.to_bytes());
    page.extend_from_slice(&meta.to_bytes());
    page
}

/// All entries of a bucket, which must be small.
pub(super) fn collect<S: Source + ?Sized>(pages: &Pages<'_, S>, bucket: &Bucket) -> Result<Vec<LeafEntry>, PageError> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    pages.walk(bucket, &mut |entry: LeafEntry| {
        bytes += entry.key.len() + entry.value.len() + ELEMENT_BYTES;
        if bytes > SMALL_MAX {
            let page = if let Bucket::Tree(root) = bucket { *root } else { 0 };
            return Err(PageError::Page { page, what: "a bucket that is always small in etcd is large" });
        }
        entries.push(entry);
        Ok(())
    })?;
    Ok(entries)
}

/// Inserts or replaces a value, in the order of keys.
fn put(entries: &mut Vec<LeafEntry>, key: &str, value: Vec<u8>) {
    match entries.binary_search_by(|entry| entry.key.as_slice().cmp(key.as_bytes())) {
        Ok(at) => entries[at].value = value,
        Err(at) => entries.insert(at, LeafEntry { flags: 0, key: key.as_bytes().to_vec(), value }),
    }
}

/// The main part of an encoded revision, which is a key of the bucket `key` or the mark of a compaction.
fn main_revision(bytes: &[u8]) -> Option<i64> {
    if bytes.len() < REVISION_BYTES {
        return None;
    }
    let main = i64::from_be_bytes(*bytes.first_chunk()?);
    (main >= 0).then_some(main)
}

fn revision_key(main: i64) -> [u8; REVISION_BYTES] {
    let mut key = [0; REVISION_BYTES];
    key[..8].copy_from_slice(&main.to_be_bytes());
    key[8] = b'_';
    key
}

/// `raftpb.ConfState` in JSON, as etcd 3.5 keeps it in the database.
fn voters(membership: &Membership) -> String {
    let ids: Vec<String> = membership.ids().map(|id| id.to_string()).collect();
    format!("{{\"voters\":[{}],\"auto_leave\":false}}", ids.join(","))
}
