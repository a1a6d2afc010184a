//! Rewrites a database without its free pages: bucket by bucket, each tree from its leaves up, every page full. The
//! pages are written in sequence; one page per level of the tree is in memory.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

use super::commit::{branch_page, collect, leaf_page, meta_page};
use super::pages::{Bucket, LeafEntry, PageError, Pages, Source};
use crate::bolt::{BUCKET_HEADER_BYTES, BucketHeader, ELEMENT_BYTES, Meta, NO_FREELIST, PAGE_HEADER_BYTES, array_at};

/// How many bytes of pages are collected before they are written.
const WRITE_BYTES: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Page(#[from] PageError),
    #[error("{0}")]
    Write(#[from] io::Error),
}

/// Writes everything that is reachable in `pages` to `file`, and returns the file's length in bytes.
pub(super) fn rewrite<S: Source + ?Sized>(pages: &Pages<'_, S>, file: &File) -> Result<u64, Error> {
    let size = pages.meta.page_bytes as usize;
    let mut writer = Writer { out: BufWriter::with_capacity(WRITE_BYTES, file), size, next: 2 };
    writer.out.write_all(&vec![0; 2 * size])?;
    let mut root = collect(pages, &Bucket::Tree(pages.meta.root.root))?;
    for entry in &mut root {
        let Bucket::Tree(from) = Bucket::of(entry)? else { continue };
        let mut tree = Tree::default();
        pages.walk(&Bucket::Tree(from), &mut |entry| {
            if entry.flags != 0 {
                return Err(PageError::Page {
                    page: from,
                    what: "a bucket is inside another bucket, which etcd never \
                    does",
                }
                .into());
            }
            tree.push(&mut writer, entry)
        })?;
        let moved = tree.finish(&mut writer)?;
        let sequence = array_at::<BUCKET_HEADER_BYTES>(&entry.value, 0).map(BucketHeader::parse);
        let header = BucketHeader { root: moved, sequence: sequence.unwrap_or_default().sequence };
        entry.value = header.to_bytes().to_vec();
    }
    let root = writer.put(|id| leaf_page(id, size, &root))?;
    let meta = Meta {
        root: BucketHeader { root, sequence: pages.meta.root.sequence },
        freelist: NO_FREELIST,
        end: writer.next,
        ..pages.meta
    };
    writer.finish(&meta)
}

struct Writer<'a> {
    out: BufWriter<&'a File>,
    /// Page size in bytes.
    size: usize,
    /// Number of the next page.
    next: u64,
}

impl Writer<'_> {
    fn put(&mut self, make: impl FnOnce(u64) -> Result<Vec<u8>, PageError>) -> Result<u64, Error> {
        let id = self.next;
        let page = make(id)?;
        self.out.write_all(&page)?;
        self.next += (page.len() / self.size) as u64;
        Ok(id)
    }

    fn finish(mut self, meta: &Meta) -> Result<u64, Error> {
        self.out.flush()?;
        let file = *self.out.get_ref();
        for meta in [*meta, Meta { txid: meta.txid - 1, ..*meta }] {
            let page = meta.txid % 2;
            file.write_all_at(&meta_page(page, &meta), page * self.size as u64)?;
        }
        Ok(self.next * self.size as u64)
    }
}

/// A tree that grows at its right edge: for each level, the page under construction.
#[derive(Default)]
struct Tree {
    leaf: Vec<LeafEntry>,
    leaf_bytes: usize,
    /// From the lowest level up.
    branches: Vec<Branch>,
}

#[derive(Default)]
struct Branch {
    children: Vec<(Vec<u8>, u64)>,
    bytes: usize,
}

impl Tree {
    fn push(&mut self, writer: &mut Writer<'_>, entry: LeafEntry) -> Result<(), Error> {
        let bytes = ELEMENT_BYTES + entry.key.len() + entry.value.len();
        if !self.leaf.is_empty() && PAGE_HEADER_BYTES + self.leaf_bytes + bytes > writer.size {
            self.end_leaf(writer)?;
        }
        self.leaf_bytes += bytes;
        self.leaf.push(entry);
        Ok(())
    }

    fn end_leaf(&mut self, writer: &mut Writer<'_>) -> Result<(), Error> {
        let entries = std::mem::take(&mut self.leaf);
        self.leaf_bytes = 0;
        let first = entries.first().map(|entry| entry.key.clone()).unwrap_or_default();
        let size = writer.size;
        let id = writer.put(|id| leaf_page(id, size, &entries))?;
        self.add(writer, 0, first, id)
    }

    fn add(&mut self, writer: &mut Writer<'_>, level: usize, key: Vec<u8>, child: u64) -> Result<(), Error> {
        if level == self.branches.len() {
            self.branches.push(Branch::default());
        }
        let bytes = ELEMENT_BYTES + key.len();
        let branch = &self.branches[level];
        if !branch.children.is_empty() && PAGE_HEADER_BYTES + branch.bytes + bytes > writer.size {
            self.end_branch(writer, level)?;
        }
        let branch = &mut self.branches[level];
        branch.bytes += bytes;
        branch.children.push((key, child));
        Ok(())
    }

    fn end_branch(&mut self, writer: &mut Writer<'_>, level: usize) -> Result<(), Error> {
        let branch = std::mem::take(&mut self.branches[level]);
        let (first, id) = branch.write(writer)?;
        self.add(writer, level + 1, first, id)
    }

    /// Finishes every level and returns the number of the root page.
    fn finish(mut self, writer: &mut Writer<'_>) -> Result<u64, Error> {
        if self.branches.is_empty() {
            let entries = self.leaf;
            let size = writer.size;
            return writer.put(|id| leaf_page(id, size, &entries));
        }
        self.end_leaf(writer)?;
        let mut level = 0;
        while level + 1 < self.branches.len() {
            self.end_branch(writer, level)?;
            level += 1;
        }
        let top = self.branches.pop().expect("there is a level");
        Ok(top.write(writer)?.1)
    }
}

impl Branch {
    fn write(self, writer: &mut Writer<'_>) -> Result<(Vec<u8>, u64), Error> {
        let children: Vec<(&[u8], u64)> = self.children.iter().map(|(key, child)| (&key[..], *child)).collect();
        let size = writer.size;
        let id = writer.put(|id| branch_page(id, size, &children))?;
        let first = self.children.into_iter().next().map(|(key, _)| key).unwrap_or_default();
        Ok((first, id))
    }
}
