//! Reads a database from a file, page by page, as far as the commit and the rewriting need it.
//!
//! Everything is checked before it is followed: a page has the right number and is within the database, an element
//! points into its page, and a walk visits no more levels or pages than a tree can have. So a file that is not a
//! database ends in an error.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::bolt::{
    self, BUCKET_HEADER_BYTES, BranchElement, BucketHeader, ELEMENT_BYTES, LeafElement, META_BYTES, Meta, MetaError,
    PAGE_BYTES_MAX, PAGE_BYTES_MIN, PAGE_HEADER_BYTES, PageHeader, array_at,
};

/// Limit for a page and its overflow, in bytes: far above the largest request that etcd accepts.
const PAGE_MAX: u64 = 64 * 1024 * 1024;

/// Limit for the levels of a tree.
const DEPTH_MAX: usize = 32;

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The operating system's error.
    #[error("failed to read it back: {0}")]
    Read(#[from] io::Error),
    /// The file is shorter than its meta page states.
    #[error("it ended early, after {got} of {want} bytes")]
    EndedEarly {
        /// The length of the file in bytes.
        got: u64,
        /// The bytes that are needed.
        want: u64,
    },
    /// The metadata of a meta page is not valid.
    #[error("meta page {page}: {cause}")]
    Meta {
        /// 0 or 1.
        page: u64,
        /// What is wrong with it.
        cause: MetaError,
    },
    /// The page size is not a power of two in the accepted range.
    #[error("meta page {page}: bbolt does not use pages of {bytes} bytes")]
    PageSize {
        /// 0 or 1.
        page: u64,
        /// The page size that was read, in bytes.
        bytes: u32,
    },
    /// A page is not what its place in the tree requires.
    #[error("page {page}: {what}")]
    Page {
        /// The number of the page; 0 for the page of an inline bucket, or if it is unknown.
        page: u64,
        /// What is wrong, as the rest of a sentence.
        what: &'static str,
    },
    /// An element of a page is wrong.
    #[error("page {page}, element {element}: {what}")]
    Element {
        /// The number of the page.
        page: u64,
        /// The index of the element, from 0.
        element: usize,
        /// What is wrong, as the rest of a sentence.
        what: &'static str,
    },
}

/// Bytes that can be read at any offset.
pub(super) trait Source {
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()>;
}

impl Source for File {
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(into, at)
    }
}

impl Source for [u8] {
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..)?.get(..into.len()));
        into.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// An element of a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeafEntry {
    /// [`bolt::LEAF_IS_BUCKET`] or 0.
    pub(super) flags: u32,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// A page with all its overflow, or the page of an inline bucket.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) header: PageHeader,
    bytes: Vec<u8>,
}

/// A database in a file.
pub(super) struct Pages<'a, S: Source + ?Sized> {
    source: &'a S,
    pub(super) meta: Meta,
}

impl<'a, S: Source + ?Sized> Pages<'a, S> {
    /// # Errors
    /// The meta pages are damaged, or `bytes`, the length of the file, is less than they state.
    pub(super) fn open(source: &'a S, bytes: u64) -> Result<Self, PageError> {
        let first = read_meta(source, 0, 0, bytes)?;
        let size = first.page_bytes;
        let second = read_meta(source, 1, u64::from(size), bytes)?;
        let meta = if second.txid > first.txid { second } else { first };
        if second.page_bytes != size {
            return Err(PageError::Page { page: 1, what: "the meta pages disagree about the page size" });
        }
        let want = meta.end.saturating_mul(size.into());
        if bytes < want {
            return Err(PageError::EndedEarly { got: bytes, want });
        }
        Ok(Self { source, meta })
    }

    pub(super) fn page_bytes(&self) -> u64 {
        self.meta.page_bytes.into()
    }

    /// Reads a branch or leaf page.
    pub(super) fn page(&self, page: u64) -> Result<Page, PageError> {
        let refuse = |what| Err(PageError::Page { page, what });
        if page < 2 || page >= self.meta.end {
            return refuse("it is referenced, but lies outside the database");
        }
        let at = page * self.page_bytes();
        let mut header = [0; PAGE_HEADER_BYTES];
        self.source.read_at(at, &mut header)?;
        let header = PageHeader::parse(&header);
        if header.id != page {
            return refuse("its header has a different page number");
        }
        if header.flags != bolt::page::LEAF && header.flags != bolt::page::BRANCH {
            return refuse("it is neither a leaf nor a branch");
        }
        let pages = u64::from(header.overflow) + 1;
        if pages > self.meta.end - page || pages * self.page_bytes() > PAGE_MAX {
            return refuse("its header has an impossible size");
        }
        let mut bytes = vec![0; (pages * self.page_bytes()) as usize];
        self.source.read_at(at, &mut bytes)?;
        Ok(Page { header, bytes })
    }

    /// The pages from a bucket's root along its right edge; the last is a leaf.
    pub(super) fn right_edge(&self, bucket: &Bucket) -> Result<Vec<Page>, PageError> {
        let mut edge = vec![self.root_page(bucket)?];
        loop {
            let last = edge.last().expect("it begins with the root");
            let id = last.header.id;
            if last.is_leaf() {
                return Ok(edge);
            }
            let Some(right) = last.count().checked_sub(1) else {
                return Err(PageError::Page { page: id, what: "it is a branch without children" });
            };
            let child = last.branch(right)?.child;
            if edge.len() == DEPTH_MAX {
                return Err(PageError::Page { page: id, what: "the tree is deeper than is possible" });
            }
            edge.push(self.page(child)?);
        }
    }

    fn root_page(&self, bucket: &Bucket) -> Result<Page, PageError> {
        match bucket {
            Bucket::Inline(page) => Page::inline(page),
            Bucket::Tree(root) => self.page(*root),
        }
    }

    /// Passes each entry of a bucket to `take`, in order. Only one leaf at a time is in memory.
    pub(super) fn walk<E: From<PageError>>(
        &self,
        bucket: &Bucket,
        take: &mut dyn FnMut(LeafEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut seen = 0;
        let mut path = vec![(self.root_page(bucket)?, 0)];
        while let Some((page, next)) = path.last_mut() {
            if page.is_leaf() {
                for element in 0..page.count() {
                    take(page.leaf(element)?)?;
                }
                path.pop();
                continue;
            }
            if *next == page.count() {
                path.pop();
                continue;
            }
            let (id, child) = (page.header.id, page.branch(*next)?.child);
            *next += 1;
            seen += 1;
            if seen > self.meta.end || path.len() == DEPTH_MAX {
                return Err(PageError::Page { page: id, what: "the tree is larger than is possible" }.into());
            }
            path.push((self.page(child)?, 0));
        }
        Ok(())
    }
}

fn read_meta<S: Source + ?Sized>(source: &S, page: u64, at: u64, bytes: u64) -> Result<Meta, PageError> {
    let want = at + (PAGE_HEADER_BYTES + META_BYTES) as u64;
    if bytes < want {
        return Err(PageError::EndedEarly { got: bytes, want });
    }
    let mut meta = [0; META_BYTES];
    source.read_at(at + PAGE_HEADER_BYTES as u64, &mut meta)?;
    let meta = Meta::parse(&meta).map_err(|cause| PageError::Meta { page, cause })?;
    let size = meta.page_bytes;
    if !(PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&size) || !size.is_power_of_two() {
        return Err(PageError::PageSize { page, bytes: size });
    }
    Ok(meta)
}

impl Page {
    fn inline(bytes: &[u8]) -> Result<Self, PageError> {
        let header = array_at(bytes, 0).map(PageHeader::parse);
        let header = header.filter(|h| h.flags == bolt::page::LEAF && h.id == 0 && h.overflow == 0);
        let header = header.ok_or(PageError::Page { page: 0, what: "an inline bucket is not a leaf" })?;
        Ok(Self { header, bytes: bytes.to_vec() })
    }

    pub(super) fn is_leaf(&self) -> bool {
        self.header.flags == bolt::page::LEAF
    }

    pub(super) fn count(&self) -> usize {
        self.header.count.into()
    }

    pub(super) fn leaf(&self, element: usize) -> Result<LeafEntry, PageError> {
        let leaf = LeafElement::parse(self.element(element)?);
        let key = self.slice(element, leaf.position, 0, leaf.key_bytes)?;
        let value = self.slice(element, leaf.position, leaf.key_bytes, leaf.value_bytes)?;
        Ok(LeafEntry { flags: leaf.flags, key: key.to_vec(), value: value.to_vec() })
    }

    /// All elements of a leaf.
    pub(super) fn entries(&self) -> Result<Vec<LeafEntry>, PageError> {
        (0..self.count()).map(|element| self.leaf(element)).collect()
    }

    pub(super) fn branch(&self, element: usize) -> Result<Child, PageError> {
        let branch = BranchElement::parse(self.element(element)?);
        let key = self.slice(element, branch.position, 0, branch.key_bytes)?;
        Ok(Child { key: key.to_vec(), child: branch.child })
    }

    /// All elements of a branch.
    pub(super) fn children(&self) -> Result<Vec<Child>, PageError> {
        (0..self.count()).map(|element| self.branch(element)).collect()
    }

    fn element(&self, element: usize) -> Result<&[u8; ELEMENT_BYTES], PageError> {
        let at = PAGE_HEADER_BYTES + element * ELEMENT_BYTES;
        array_at(&self.bytes, at).ok_or_else(|| self.outside(element))
    }

    /// `bytes` bytes, `skip` bytes behind `position`, which counts from the element itself.
    fn slice(&self, element: usize, position: u32, skip: u32, bytes: u32) -> Result<&[u8], PageError> {
        let own = (PAGE_HEADER_BYTES + element * ELEMENT_BYTES) as u64;
        let from = own + u64::from(position) + u64::from(skip);
        let range = usize::try_from(from).ok().zip(usize::try_from(from + u64::from(bytes)).ok());
        range.and_then(|(from, to)| self.bytes.get(from..to)).ok_or_else(|| self.outside(element))
    }

    fn outside(&self, element: usize) -> PageError {
        PageError::Element { page: self.header.id, element, what: "it points outside its page" }
    }
}

/// An element of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) key: Vec<u8>,
    pub(super) child: u64,
}

/// Where the entries of a bucket are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bucket {
    /// In the value of the bucket's own element: the page that follows the bucket's header.
    Inline(Vec<u8>),
    /// In a tree of pages whose root has this number.
    Tree(u64),
}

impl Bucket {
    /// Reads an entry of the root, which contains only buckets.
    pub(super) fn of(entry: &LeafEntry) -> Result<Self, PageError> {
        let header = array_at(&entry.value, 0).filter(|_| entry.flags == bolt::LEAF_IS_BUCKET);
        let header =
            header.ok_or(PageError::Page { page: 0, what: "the root contains something that is not a bucket" })?;
        let header = BucketHeader::parse(header);
        Ok(match header.root {
            0 => Self::Inline(entry.value[BUCKET_HEADER_BYTES..].to_vec()),
            root => Self::Tree(root),
        })
    }
}
